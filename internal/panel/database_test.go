package panel

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startMySQL starts a real MariaDB with its data and its socket in a directory of its own, which the network does not
// reach, runs the statements as its root, and ends it with the test.
func startMySQL(t *testing.T, statements ...string) (socket string) {
	t.Helper()
	if _, err := os.Stat("/usr/sbin/mariadbd"); err != nil {
		t.Skip("needs mariadb-server-core (scripts/install-deps)")
	}
	dir, err := os.MkdirTemp("", "mysql") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	data := filepath.Join(dir, "data")
	common := []string{"--no-defaults", "--datadir=" + data, "--user=root", "--innodb-buffer-pool-size=8M", "--innodb-log-file-size=4M", "--innodb-flush-log-at-trx-commit=0"}
	// What mariadb-install-db does, without the programs that it needs of other packages.
	tables := "CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\n"
	for _, name := range []string{"mysql_system_tables.sql", "mysql_system_tables_data.sql"} {
		text, err := os.ReadFile("/usr/share/mysql/" + name)
		if err != nil {
			t.Fatal(err)
		}
		tables += string(text)
	}
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	boot := exec.Command("/usr/sbin/mariadbd", append(common, "--bootstrap")...)
	boot.Stdin = strings.NewReader(tables)
	if out, err := boot.CombinedOutput(); err != nil {
		t.Fatalf("mariadbd --bootstrap: %v\n%s", err, out)
	}
	file := filepath.Join(dir, "init.sql")
	if err := os.WriteFile(file, []byte(strings.Join(statements, ";\n")+";\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "s")
	var said bytes.Buffer
	cmd := exec.Command("/usr/sbin/mariadbd", append(common, "--socket="+socket, "--pid-file="+filepath.Join(dir, "pid"), "--skip-networking", "--init-file="+file)...)
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.Dial("unix", socket); err == nil {
			c.Close()
			return socket
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("mariadbd ended: %v\n%s", err, said.String())
		case <-tick.C:
		}
	}
}

var pleskSQL = []string{
	"CREATE DATABASE psa CHARACTER SET utf8mb4", "USE psa",
	"CREATE TABLE domains (id INT PRIMARY KEY, name VARCHAR(255), status BIGINT, webspace_id INT)",
	"CREATE TABLE hosting (dom_id INT PRIMARY KEY, sys_user_id INT, www_root VARCHAR(255))",
	"CREATE TABLE sys_users (id INT PRIMARY KEY, login VARCHAR(32), home VARCHAR(255))",
	"CREATE TABLE domain_aliases (id INT PRIMARY KEY, dom_id INT, name VARCHAR(255), status BIGINT)",
	"CREATE TABLE mail (id INT PRIMARY KEY, dom_id INT, mail_name VARCHAR(245))",
	"INSERT INTO sys_users VALUES (1, 'alice', '/var/www/vhosts/alice.example'), (2, 'bob', '/var/www/vhosts/bob.example'), (3, 'bobby', '/var/www/vhosts/bobby.example'), (4, 'gone', '/var/www/vhosts/gone.example')",
	"INSERT INTO domains VALUES (1, 'Alice.example', 0, 0), (2, 'xn--bcher-kva.example', 0, 1), (3, 'sub.alice.example', 16, 1), (4, 'bob.example', 2, 0), (5, 'bobby.example', 0, 0), (6, 'gone.example', 0, 0), (7, 'nohosting.example', 0, 0), (8, 'odd/../name', 0, 1), (9, 'both.example', 0, 1)",
	"INSERT INTO hosting VALUES (1, 1, '/var/www/vhosts/alice.example/httpdocs'), (2, 1, '/var/www/vhosts/alice.example/my shop'), (3, 1, '/var/www/vhosts/alice.example/sub.alice.example'), (4, 2, '/var/www/vhosts/bob.example/httpdocs'), (5, 3, NULL), (6, 4, '/var/www/vhosts/gone.example/httpdocs'), (8, 1, '/x'), (9, 1, '/var/www/vhosts/bob.example/httpdocs')",
	"INSERT INTO domain_aliases VALUES (1, 1, 'old-alice.example', 0)",
	"INSERT INTO mail VALUES (1, 1, 'info'), (2, 4, 'bob')",
	"CREATE USER 'admin'@'localhost' IDENTIFIED BY 's3cret $AES'", "GRANT ALL ON psa.* TO 'admin'@'localhost'",
}

func pleskFiles() files {
	people := people("/var/www/vhosts/U.example",
		"anna:x:2010:900::/var/www/vhosts/alice.example/web_users/anna:/bin/false\n", "alice-ftp:x:2001:900::/var/www/vhosts/alice.example/httpdocs:/bin/false\n",
	)
	for _, n := range []string{"2001:2001", "2002:2002", "2003:2003"} {
		uid, _, _ := strings.Cut(n, ":")
		people["etc/passwd"] = strings.Replace(people["etc/passwd"], n, uid+":900", 1)
	}
	people["etc/group"] += "psacln:x:900:\npsaserv:x:901:www-data\n"
	return join(people, files{
		"etc/psa/psa.conf":    "# x\nHTTPD_VHOSTS_D\t/var/www/vhosts\n",
		"etc/psa/.psa.shadow": "s3cret $AES\n",
		"etc/apache2/sites-enabled/plesk.conf": "<VirtualHost *:80>\nServerName alice.example\nServerAlias www.alice.example\nDocumentRoot /var/www/vhosts/alice.example/httpdocs\nAddHandler fcgid-script .php\nSuexecUserGroup alice psacln\n</VirtualHost>\n" +
			"<VirtualHost *:80>\nServerName shop.example\nDocumentRoot \"/var/www/vhosts/alice.example/my shop\"\n</VirtualHost>\n" +
			"<VirtualHost *:80>\nServerName default\nDocumentRoot /var/www/vhosts/default/htdocs\n</VirtualHost>\n",
	})
}

var ispSQL = []string{
	"CREATE DATABASE dbispconfig CHARACTER SET utf8mb4", "USE dbispconfig",
	"CREATE TABLE server (server_id INT, web_server INT, config TEXT)",
	"CREATE TABLE web_domain (domain_id INT PRIMARY KEY, parent_domain_id INT, domain VARCHAR(255), type VARCHAR(32), document_root VARCHAR(255), web_folder VARCHAR(100), system_user VARCHAR(255), system_group VARCHAR(255), php VARCHAR(32), active VARCHAR(1))",
	"CREATE TABLE mail_user (email VARCHAR(255))",
	"INSERT INTO server VALUES (1, 1, '[global]\\nsecurity_level=20\\n[web]\\nsecurity_level=10\\nx=y\\n')",
	"INSERT INTO web_domain VALUES (1, 0, 'A.example', 'vhost', '/var/www/clients/client3/web7', '', 'web7', 'client3', 'php-fpm', 'y')," +
		" (2, 1, 'blog.a.example', 'vhostsubdomain', '/var/www/clients/client3/web7', 'blog', 'web7', 'client3', 'fast-cgi', 'y')," +
		" (3, 1, 'old.example', 'alias', NULL, NULL, NULL, NULL, 'no', 'y'), (4, 1, 'off.example', 'alias', NULL, NULL, NULL, NULL, 'no', 'n')," +
		" (5, 0, 'xn--bcher-kva.example', 'vhost', '/var/www/clients/client3/web70', NULL, 'web70', 'client3', 'no', 'n')," +
		" (6, 0, 'gone.example', 'vhost', '/var/www/clients/client9/web9', '', 'web9', 'client9', 'no', 'y')," +
		" (7, 0, 'moved.example', 'vhost', '/var/www/clients/client4/web8', '', 'web8', 'client9', 'mod', 'y')," +
		" (8, 0, 'rel.example', 'vhost', 'var/www', '', 'web8', 'client4', 'mod', 'y')",
	"INSERT INTO mail_user VALUES ('Info@a.example'), ('x@elsewhere.example')",
	"CREATE USER 'ispconfig'@'localhost' IDENTIFIED BY 'it''s'", "GRANT ALL ON dbispconfig.* TO 'ispconfig'@'localhost'",
}

func ispFiles() files {
	people := people("/home/U",
		"web7:x:5007:5003::/var/www/clients/client3/web7:/bin/false\n", "web70:x:5070:5003::/var/www/clients/client3/web70:/bin/false\n",
		"web8:x:5008:5004::/var/www/clients/client4/web8:/bin/false\n", "webmaster:x:5009:5003::/var/www/clients/client3/webmaster:/bin/false\n",
	)
	people["etc/group"] += "client3:x:5003:www-data\nclient4:x:5004:www-data\n"
	return join(people, files{
		"usr/local/ispconfig/server/lib/config.inc.php": "\ufeff<?php\r\n$conf['db_host'] = 'localhost';\r\n// $conf['db_password'] = 'old';\r\n$conf['db_user'] = 'ispconfig';\r\n$conf['db_password'] = 'it\\'s';\r\n$conf['db_password'] = 'later';\r\n$conf['db_database'] = \"dbispconfig\";",
		"var/www/clients/client3/web7/web/":             "",
		"var/www/a.example":                             "-> clients/client3/web7",
		"etc/apache2/sites-enabled/a.conf":              "<VirtualHost *:80>\nServerName a.example\nServerAlias www.a.example\nDocumentRoot /var/www/a.example/web\n</VirtualHost>\n",
	})
}

func TestPanelsWithADatabaseAreReadFromItAndWithoutItFromPasswdAndVirtualHosts(t *testing.T) {
	t.Run("plesk without", func(t *testing.T) { golden(t, "plesk-down", read(t, server(t, pleskFiles()))) })
	t.Run("ispconfig without", func(t *testing.T) { golden(t, "ispconfig-down", read(t, server(t, ispFiles()))) })
	socket := startMySQL(t, append(append(pleskSQL, ispSQL...), "FLUSH PRIVILEGES")...)
	with := func(fs files) *Server {
		s, err := Read(server(t, fs), Options{socket: socket})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := with(pleskFiles())
	want(t, "homes of web users", account(t, s, "alice").Nested, []Nested{{"/var/www/vhosts/alice.example/web_users/anna", 2010, 900}})
	golden(t, "plesk", s)
	s = with(ispFiles())
	want(t, "level", s.Facts["security-level-10"], true)
	golden(t, "ispconfig", s)

	t.Run("a wrong password is no reason to stop", func(t *testing.T) {
		fs := pleskFiles()
		fs["etc/psa/.psa.shadow"] = "other"
		s := with(fs)
		want(t, "accounts", names(s), []string{"alice", "bob", "bobby"})
		if len(s.Issues) == 0 || s.Issues[0].Problem != NoDatabase || !strings.Contains(s.Issues[0].Msg, "Access denied") {
			t.Errorf("issues %q", s.Issues)
		}
	})
	t.Run("nothing can be written", func(t *testing.T) {
		db, err := (&reader{socket: socket}).openDatabase("x", credentials{user: "admin", password: "s3cret $AES", name: "psa"})
		if err != nil {
			t.Fatal(err)
		}
		defer db.end()
		if _, err := db.query("DELETE FROM mail"); err == nil || !strings.Contains(err.Error(), "READ ONLY") {
			t.Errorf("a write went through: %v", err)
		}
	})
}

func TestADatabaseElsewhereIsNotAsked(t *testing.T) {
	r := &reader{s: server(t, files{"etc/passwd": ""})}
	for _, c := range []credentials{{user: "x", host: "192.0.2.1"}, {}} {
		if _, err := r.openDatabase("x", c); err == nil || !strings.Contains(err.Error(), "--root") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func FuzzAssignments(f *testing.F) {
	f.Add("$conf['a'] = 'b\\'c';\n'k': \"v\",\n")
	f.Fuzz(func(t *testing.T, text string) {
		assignments(text)
		ispSettings(text)
		iniValue(text, "web", "security_level")
	})
}
