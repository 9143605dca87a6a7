package panel

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rightful"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden holds what `accounts --json` says of a server against a file, issues included.
func golden(t *testing.T, name string, s *Server) {
	t.Helper()
	var out strings.Builder
	for _, a := range s.Accounts {
		line, err := json.Marshal(struct {
			rightful.Account
			Known string `json:"known"`
		}{a.Account, a.Known})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s\n", line)
	}
	for _, i := range s.Issues {
		line, err := json.Marshal(i)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s\n", line)
	}
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want(t, name, strings.Split(out.String(), "\n"), strings.Split(string(text), "\n"))
}

// people are the users of every panel's fixture: bob is a prefix of bobby, carol has no panel account.
func people(home string, more ...string) files {
	passwd := "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33::/var/www:/usr/sbin/nologin\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n"
	group := "root:x:0:\nmail:x:8:\nwww-data:x:33:\nnogroup:x:65534:\n"
	for i, n := range []string{"alice", "bob", "bobby", "carol"} {
		passwd += fmt.Sprintf("%s:x:%d:%d::%s:/bin/bash\n", n, 2001+i, 2001+i, strings.ReplaceAll(home, "U", n))
		group += fmt.Sprintf("%s:x:%d:\n", n, 2001+i)
	}
	return files{
		"etc/passwd": passwd + strings.Join(more, ""), "etc/group": group, "etc/nsswitch.conf": "passwd: files\n",
		"etc/apache2/apache2.conf": "User www-data\nGroup www-data\nListen 80\nListen 443\nIncludeOptional sites-enabled/*.conf\n",
	}
}

// join makes one server of several sets of files, later ones first.
func join(sets ...files) files {
	all := files{}
	for _, fs := range sets {
		for k, v := range fs {
			all[k] = v
		}
	}
	return all
}

func directAdminFiles() files {
	const users = "usr/local/directadmin/data/users/"
	return join(people("/home/U"), files{
		"etc/virtual/domainowners":                                  "\ufeffa.example: alice\r\naa.example: bob\r\nbobby.example: bobby\r\nshared.example: alice\r\nold.example: gone",
		"etc/virtual/a.example/passwd":                              "info:$6$x\r\nsales:$6$y",
		"usr/local/directadmin/conf/directadmin.conf":               "port=2222\nsecure_access_group=sites\n",
		"usr/local/directadmin/custombuild/options.conf":            "php1_mode=php-fpm\n",
		users + "alice/user.conf":                                   "\ufeffusername=alice\r\ndomain=a.example\r\nsuspended=no\r\nusername=bob",
		users + "alice/domains.list":                                "a.example\r\nxn--bcher-kva.example\r\nshared.example",
		users + "alice/domains/a.example.conf":                      "domain=a.example\nactive=yes\nphp1_select=1\n",
		users + "alice/domains/a.example.pointers":                  "old-a.example=alias\nmoved.example=pointer\n",
		users + "alice/domains/a.example.subdomains":                "blog\nshop\n",
		users + "alice/domains/xn--bcher-kva.example.conf":          "domain=xn--bcher-kva.example\n",
		users + "alice/domains/shared.example.conf":                 "domain=shared.example\n",
		users + "bob/user.conf":                                     "username=bob\ndomain=aa.example\nsuspended=yes\n",
		users + "bob/domains.list":                                  "aa.example\nshared.example\n",
		users + "bob/domains/aa.example.conf":                       "domain=aa.example\n",
		users + "bobby/user.conf":                                   "username=bobby\ndomain=bobby.example\n",
		users + "bobby/domains.list":                                "bobby.example\n",
		users + "bobby/domains/bobby.example.conf":                  "domain=bobby.example\n",
		users + "gone/user.conf":                                    "username=gone\ndomain=old.example\n",
		users + "half/":                                             "",
		"home/alice/domains/a.example/private_html":                 "-> ./public_html",
		"home/alice/domains/a.example/public_html/":                 "",
		"home/bobby/domains/bobby.example/private_html/":            "",
		"etc/apache2/sites-enabled/da.conf":                         "Include /usr/local/directadmin/data/users/*/httpd.conf\n",
		users + "alice/httpd.conf":                                  daHost("a.example", "/home/alice/domains/a.example/public_html", "alice", 80) + daHost("a.example", "/home/alice/domains/a.example/private_html", "alice", 443) + daHost("shop.a.example", "/home/alice/my shop", "alice", 80),
		users + "bobby/httpd.conf":                                  daHost("bobby.example", "/home/bobby/domains/bobby.example/public_html", "bobby", 80) + daHost("bobby.example", "/home/bobby/domains/bobby.example/private_html", "bobby", 443),
		"usr/local/directadmin/data/users/alice/php/php-fpm82.conf": "[alice]\nuser = alice\ngroup = alice\nlisten = /usr/local/php82/sockets/alice.sock\n",
		"etc/group": people("")["etc/group"] + "sites:x:900:www-data\n",
	})
}

func daHost(name, root, user string, port int) string {
	php := ""
	if user == "alice" {
		php = "<FilesMatch \"\\.php$\">\nSetHandler \"proxy:unix:/usr/local/php82/sockets/alice.sock|fcgi://localhost\"\n</FilesMatch>\n"
	}
	return fmt.Sprintf("<VirtualHost *:%d>\nServerName www.%s\nServerAlias www.%[2]s %[2]s\nDocumentRoot \"%s\"\nSuexecUserGroup %s %[4]s\n%s</VirtualHost>\n", port, name, root, user, php)
}

func TestDirectAdminAccountsAreThoseWithTheirFilesAndAUser(t *testing.T) {
	s := read(t, server(t, directAdminFiles()))
	want(t, "panels", s.Panels, []string{"directadmin"})
	want(t, "facts", s.Facts["access-group"], true)
	gid, _ := s.GroupID("access")
	want(t, "access is the group that the panel names", gid, uint32(900))
	golden(t, "directadmin", s)
}

// FuzzLists feeds one text to every reader of lists and settings.
func FuzzLists(f *testing.F) {
	f.Add("a=b\r\n\ufeffa: b\n\n= \n#x\na b c")
	f.Fuzz(func(t *testing.T, text string) {
		for _, w := range words(text) {
			if w == "" || strings.ContainsAny(w, " \t\r\n") {
				t.Errorf("word %q", w)
			}
		}
		for k := range keyed(text, ":") {
			if k == "" || strings.Contains(k, ":") {
				t.Errorf("key %q", k)
			}
		}
		keyValues(text)
	})
}

func TestTwoPanelsThatContradictEachOtherAboutAnAccountAreNotBelieved(t *testing.T) {
	fs := join(directAdminFiles(), files{
		"etc/trueuserdomains":     "aa.example: bob\nbobby.example: bobby\n",
		"etc/userdatadomains":     "aa.example: bob==root==main==aa.example==/home/bob/public_html==192.0.2.10:80======0==\n",
		"var/cpanel/users/bob":    "USER=bob\nDNS=aa.example\n",
		"var/cpanel/users/bobby":  "USER=bobby\nDNS=bobby.example\n",
		"etc/cpanel/ea4/php.conf": "---\ndefault: ea-php82\nea-php82: suphp\n",
	})
	s := read(t, server(t, fs))
	want(t, "panels", s.Panels, []string{"cpanel", "directadmin"})
	want(t, "accounts", names(s), []string{"alice"})
	var got []string
	for _, i := range s.Issues {
		if i.Problem == TwoPanels {
			got = append(got, fmt.Sprintf("%s %s %v", i.File, i.Account, i.Fatal))
		}
	}
	want(t, "contradictions", got, []string{
		"/usr/local/directadmin/data/users/bob/user.conf bob true", "/usr/local/directadmin/data/users/bobby/user.conf bobby true",
	})
}

func vestaFiles(dir, conf string) files {
	users := dir + "/data/users/"
	return join(people("/home/U"), files{
		dir + "/conf/" + conf:     "WEB_SYSTEM='apache2'\nWEB_BACKEND='php-fpm'\nDOMAINDIR_WRITABLE='yes'\n",
		"etc/ssh/sshd_config":     "Match User root\nMatch User sftp_dummy99,bob\n\tChrootDirectory /home/%u\n",
		users + "alice/user.conf": "\ufeffNAME='Alice'\r\nSUSPENDED='no'\r\nSUSPENDED='yes'\r\nPACKAGE='default'",
		users + "alice/web.conf": "DOMAIN='a.example' IP='192.0.2.10' IP6='' CUSTOM_DOCROOT='' ALIAS='www.a.example,old-a.example' TPL='default' SSL='no' BACKEND='PHP-8_2' SUSPENDED='no'\r\n" +
			"DOMAIN='xn--bcher-kva.example' CUSTOM_DOCROOT='/home/alice/web/a.example/public_html/my shop/' ALIAS='' SUSPENDED='no'\r\n" +
			"DOMAIN='a.example' CUSTOM_DOCROOT='/home/alice/x' ALIAS=''\n" +
			"IP='192.0.2.10'\n" +
			"DOMAIN='both.example' CUSTOM_DOCROOT='/home/bob/web/aa.example/public_html' ALIAS=''",
		users + "alice/mail.conf":           "DOMAIN='a.example' ANTIVIRUS='yes'\n",
		users + "alice/mail/a.example.conf": "ACCOUNT='info' ALIAS='' MD5='{x}'\nACCOUNT='sales' ALIAS=''",
		users + "bob/user.conf":             "NAME='Bob'\nSUSPENDED='yes'\n",
		users + "bob/web.conf":              "DOMAIN='aa.example' CUSTOM_DOCROOT='' ALIAS='' SUSPENDED='yes'\n",
		users + "bobby/user.conf":           "NAME='Bobby'\nSUSPENDED='no'\n",
		users + "gone/user.conf":            "NAME='Gone'\n",
		users + "half/":                     "",
		"etc/apache2/sites-enabled/a.conf":  "<VirtualHost *:80>\nServerName a.example\nServerAlias www.a.example old-a.example\nDocumentRoot /home/alice/web/a.example/public_html\n<FilesMatch \\.php$>\nSetHandler \"proxy:unix:/run/php/a.sock|fcgi://localhost\"\n</FilesMatch>\n</VirtualHost>\n<VirtualHost *:443>\nSSLEngine on\nServerName a.example\nDocumentRoot /home/alice/web/a.example/public_shtml\n</VirtualHost>\n",
		"etc/php/8.2/fpm/pool.d/a.conf":     "[a.example]\nuser = alice\ngroup = alice\nlisten = /run/php/a.sock\n",
	})
}

func TestHestiaVestaAndMyVestaAreReadAlike(t *testing.T) {
	for _, c := range []struct{ panel, dir, conf string }{
		{"hestia", "usr/local/hestia", "hestia.conf"}, {"vesta", "usr/local/vesta", "vesta.conf"}, {"myvesta", "usr/local/vesta", "vesta.conf"},
	} {
		t.Run(c.panel, func(t *testing.T) {
			fs := vestaFiles(c.dir, c.conf)
			if c.panel == "myvesta" {
				fs["usr/local/vesta/bin/v-fix-website-permissions"] = ""
			}
			s := read(t, server(t, fs))
			want(t, "panels", s.Panels, []string{c.panel})
			want(t, "facts", s.Facts, map[string]bool{"domaindir-writable": true})
			want(t, "bob's facts", account(t, s, "bob").Facts, map[string]bool{"sftp-jail": true})
			want(t, "bobby's facts", account(t, s, "bobby").Facts, map[string]bool(nil))
			golden(t, c.panel, s)
		})
	}
}

func FuzzQuoted(f *testing.F) {
	f.Add("\ufeffA='b' C='' D='x y'\r\nE='='")
	f.Fuzz(func(t *testing.T, text string) {
		for k, v := range quoted(text) {
			if k == "" || strings.ContainsAny(k, " \n") || strings.Contains(v, "'") {
				t.Errorf("%q=%q", k, v)
			}
		}
	})
}

func virtualminFiles() files {
	const vs = "etc/webmin/virtual-server/domains/"
	people := people("/home/U",
		"info.alice:x:2101:2001::/home/alice/homes/info:/bin/false\n", "bob.alice:x:2102:2001::/home/alice/homes/bob:/bin/false\n",
		"sub@alice:x:2104:2001::/home/alice/domains/sub.a.example/homes/sub:/bin/false\n", "stray:x:2105:2001::/home/alice2/homes/stray:/bin/false\n",
		"ftp.alice:x:2001:2001::/home/alice/public_html:/bin/false\n", "site.alice:x:2106:2001::/home/alice/public_html/up:/bin/false\n",
	)
	return join(people, files{
		"etc/postfix/virtual": "# x\n@a.example alice\ninfo@a.example info.alice\nbob@a.example bob.alice\nSub@sub.a.example sub-alice\nalias@a.example info.alice, bob.alice\n",
		vs + "101":            "\ufeffdom=a.example\r\nuser=alice\r\nuid=2001\r\ngroup=alice\r\nhome=/home/alice\r\npublic_html_path=/home/alice/public_html\r\nunix=1\r\nweb=1\r\nphp_mode=fpm\r\ndom=aa.example\r\nparent=\r\nalias=",
		vs + "102":            "dom=sub.a.example\nuser=alice\nparent=101\nhome=/home/alice/domains/sub.a.example\npublic_html_path=/home/alice/domains/sub.a.example/my html\nweb=1\nunix=0\nphp_mode=fcgid\n",
		vs + "103":            "dom=xn--bcher-kva.example\nalias=101\nuser=alice\nweb=1\n",
		vs + "104":            "dom=blog.a.example\nsubdom=101\nparent=101\nuser=alice\nhome=/home/alice\npublic_html_path=/home/alice/public_html/blog\nweb=1\n",
		vs + "105":            "dom=aa.example\nuser=bob\nhome=/home/bob\nunix=1\nweb=1\ndisabled=unix,web\n",
		vs + "106":            "dom=bobby.example\nuser=bobby\nhome=/home/bobby\nunix=1\nweb=0\n",
		vs + "107":            "dom=gone.example\nuser=gone\nhome=/home/gone\nunix=1\nweb=1\n",
		vs + "108":            "dom=lost.example\nuser=alice\nparent=999\nhome=/home/alice/domains/lost\nweb=1\n",
		vs + "109":            "dom=lostalias.example\nalias=998\n",
		vs + "110":            "user=alice\n",
		vs + "111":            "dom=moved.example\nuser=carol\nhome=/home/elsewhere\nunix=1\nweb=1\n",
		vs + "112":            "dom=a.example\nuser=bobby\nparent=106\nhome=/home/bobby/domains/a\nweb=1\n",
		vs + "101.rpmsave":    "dom=x\nuser=alice\nunix=1\n",
	})
}

func TestVirtualminServersAreAccountsSitesOrNames(t *testing.T) {
	s := read(t, server(t, virtualminFiles()))
	want(t, "panels", s.Panels, []string{"virtualmin"})
	want(t, "homes of mailboxes", account(t, s, "alice").Nested, []Nested{
		{"/home/alice/homes/info", 2101, 2001}, {"/home/alice/homes/bob", 2102, 2001}, {"/home/alice/domains/sub.a.example/homes/sub", 2104, 2001},
	})
	golden(t, "virtualmin", s)
}

// lsFiles is a server with OpenLiteSpeed and no other web server.
func lsFiles() files {
	people := people("/home/U.example", "lsadm:x:990:990::/:/sbin/nologin\n")
	delete(people, "etc/apache2/apache2.conf")
	return join(people, files{
		"usr/local/lsws/conf/httpd_config.conf": "\ufeffserverName x\r\nuser                      nobody\r\ngroup                     nogroup\r\nlistener Default{\r\n  address                 *:80\r\n  secure                  0\r\n" +
			"  map                     alice.example alice.example, www.alice.example\r\n  map bob.example bob.example\r\n  map Example *\r\n}\r\nlistener SSL {\n  address *:443\n  secure 1\n  map alice.example alice.example\n}\n" +
			"virtualHost Example {\n  vhRoot Example/\n  configFile $SERVER_ROOT/conf/vhosts/Example/vhconf.conf\n}\n" +
			"virtualHost alice.example {\n  vhRoot                  /home/$VH_NAME\n  configFile              $SERVER_ROOT/conf/vhosts/$VH_NAME/vhost.conf\n}\n" +
			"virtualHost shop.alice.example {\n  vhRoot /home/alice.example\n  configFile $SERVER_ROOT/conf/vhosts/$VH_NAME/vhost.conf\n}\n" +
			"virtualHost bob.example {\n  vhRoot /home/$VH_NAME\n  configFile $SERVER_ROOT/conf/vhosts/$VH_NAME/vhost.conf\n}\n" +
			"virtualHost lost.example {\n  vhRoot /home/$VH_NAME\n  configFile $SERVER_ROOT/conf/vhosts/$VH_NAME/vhost.conf\n}\n" +
			"virtualHost gone.example {\n  vhRoot /home/$VH_NAME\n  configFile $SERVER_ROOT/conf/vhosts/$VH_NAME/vhost.conf",
		"usr/local/lsws/conf/vhosts/Example/vhconf.conf": "docRoot $VH_ROOT/html/\n",
		"usr/local/lsws/conf/vhosts/alice.example/vhost.conf": "docRoot                   $VH_ROOT/public_html\nvhDomain $VH_NAME\nvhAliases www.$VH_NAME, old-alice.example\n" +
			"errorlog $VH_ROOT/logs/a.log {\n  useServer 0\n}\nextprocessor alice {\n  type lsapi\n  extUser alice\n  extGroup alice\n}\nrewrite {\n  rules <<<END_rules\n}\nRewriteRule { x\n  END_rules\n  autoLoadHtaccess 1\n}\n",
		"usr/local/lsws/conf/vhosts/shop.alice.example/vhost.conf": "docRoot \"/home/alice.example/my shop\"\nvhDomain shop.alice.example\nextprocessor x {\nextUser alice\nextGroup alice\n}\n",
		"usr/local/lsws/conf/vhosts/bob.example/vhost.conf":        "docRoot $VH_ROOT/public_html\nvhDomain bob.example\nextprocessor bob {\nextUser bob\nextGroup nosuch\n}\n",
		"usr/local/lsws/conf/vhosts/gone.example/vhost.conf":       "docRoot $VH_ROOT/public_html\nvhDomain gone.example\nextprocessor gone {\nextUser gone\nextGroup gone\n}\n}\n",
		"usr/local/CyberCP/CyberCP/settings.py":                    "SECRET_KEY = 'x'\nDATABASES = {\n    'default': {\n        'ENGINE': 'django.db.backends.mysql',\n        'NAME': 'cyberpanel',\n        'USER': 'cyberpanel',\n        'PASSWORD': 'p\\'w',\n        'HOST': 'localhost',\n    },\n    'rootdb': {\n        'USER': 'root',\n        'PASSWORD': 'r',\n    },\n}\n",
	})
}

var cyberSQL = []string{
	"CREATE DATABASE cyberpanel", "USE cyberpanel",
	"CREATE TABLE websiteFunctions_websites (id INT, domain VARCHAR(255), externalApp VARCHAR(255), state INT)",
	"CREATE TABLE websiteFunctions_childdomains (domain VARCHAR(255), path VARCHAR(255), master_id INT)",
	"CREATE TABLE e_users (email VARCHAR(255))",
	"INSERT INTO websiteFunctions_websites VALUES (1, 'alice.example', 'alice', 1), (2, 'bob.example', 'bob', 1), (3, 'bobby.example', 'bobby', 0), (4, 'gone.example', 'gone', 1)",
	"INSERT INTO websiteFunctions_childdomains VALUES ('shop.alice.example', '/home/alice.example/my shop', 1), ('new.alice.example', '/home/alice.example/new', 1), ('odd.example', '/x', 9)",
	"INSERT INTO e_users VALUES ('info@alice.example'), ('me@bobby.example')",
	"CREATE USER 'cyberpanel'@'localhost' IDENTIFIED BY 'p''w'", "GRANT SELECT ON cyberpanel.* TO 'cyberpanel'@'localhost'", "FLUSH PRIVILEGES",
}

func TestCyberPanelIsReadFromItsWebServerAndItsDatabase(t *testing.T) {
	s := read(t, server(t, lsFiles()))
	want(t, "panels", s.Panels, []string{"cyberpanel"})
	want(t, "web", s.WebKnown, "user and group in /usr/local/lsws/conf/httpd_config.conf")
	golden(t, "cyberpanel-down", s)
	socket := startMySQL(t, cyberSQL...)
	s, err := Read(server(t, lsFiles()), Options{socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "cyberpanel", s)
}

func TestPlainOpenLiteSpeedIsReadLikeAnyServer(t *testing.T) {
	fs := lsFiles()
	delete(fs, "usr/local/CyberCP/CyberCP/settings.py")
	s := read(t, server(t, fs))
	want(t, "panels", s.Panels, []string{"plain"})
	golden(t, "litespeed", s)
}

func TestCloudPanelsUsersAreThoseWithSites(t *testing.T) {
	fs := nginxFiles()
	for i, n := range []string{"alice", "bob"} {
		fs["home/"+n+"/htdocs/"] = ""
		fs["etc/nginx/sites-enabled/"+n] = fmt.Sprintf("server {\nlisten 80;\nserver_name %s.example www.%[1]s.example;\nroot /home/%[1]s/htdocs/%[1]s.example%s;\nlocation ~ \\.php$ {\nfastcgi_pass unix:/run/php/alice.sock;\n}\n}\n", n, []string{"", "/public"}[i])
	}
	fs["home/clp/htdocs/app/"] = ""
	fs["home/bobby/x/"] = ""
	fs["etc/passwd"] += "clp:x:2050:2050::/home/clp:/bin/bash\n"
	s := read(t, server(t, fs))
	want(t, "panels", s.Panels, []string{"cloudpanel"})
	golden(t, "cloudpanel", s)
}

func FuzzLiteSpeed(f *testing.F) {
	f.Add("user nobody\nvirtualHost a {\n}\nmap a b\n x <<<E\n}\nE\n}{")
	f.Fuzz(func(t *testing.T, text string) {
		top, _ := parseLiteSpeed(text)
		if top == nil {
			t.Fatal("nothing")
		}
		cyberCredentials(text)
	})
}
