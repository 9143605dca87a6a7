package replay

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// psa is the database of a Plesk server with the accounts of the box, in the tables that are read.
func (s *server) psa() string {
	sql := []string{
		"CREATE DATABASE psa", "USE psa",
		"CREATE TABLE domains (id INT PRIMARY KEY, name VARCHAR(255), status BIGINT, webspace_id INT)",
		"CREATE TABLE hosting (dom_id INT PRIMARY KEY, sys_user_id INT, www_root VARCHAR(255))",
		"CREATE TABLE sys_users (id INT PRIMARY KEY, login VARCHAR(32), home VARCHAR(255))",
		"CREATE TABLE domain_aliases (id INT PRIMARY KEY, dom_id INT, name VARCHAR(255), status BIGINT)",
		"CREATE TABLE mail (id INT PRIMARY KEY, dom_id INT, mail_name VARCHAR(245))",
	}
	for i, a := range s.Accounts() {
		sql = append(sql, fmt.Sprintf("INSERT INTO sys_users VALUES (%d, '%s', '%s')", i+1, a.Name, a.Home))
		for j, site := range a.Sites {
			id := 10*(i+1) + j
			sql = append(sql, fmt.Sprintf("INSERT INTO domains VALUES (%d, '%s', 0, %d)", id, site.Name, min(j, 1)*10*(i+1)),
				fmt.Sprintf("INSERT INTO hosting VALUES (%d, %d, '%s')", id, i+1, site.DocRoot))
		}
		sql = append(sql, fmt.Sprintf("INSERT INTO mail VALUES (%d, %[1]d0, 'info')", i+1))
	}
	sql = append(sql, "CREATE USER 'admin'@'localhost' IDENTIFIED BY '$AES-128-CBC$example'", "GRANT SELECT ON psa.* TO 'admin'@'localhost'", "FLUSH PRIVILEGES")
	return strings.Join(sql, ";\n") + ";\n"
}

// Plesk's accounts are read from its database on the live server, over its socket, with the password that Plesk stores. When
// the database goes down the same accounts and sites are still found, and check says that it did without.
func TestPlesksAccountsAreThoseOfItsDatabaseWhetherItIsUpOrDown(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/usr/sbin/mariadbd"); err != nil {
		t.Skip("needs mariadb-server-core (scripts/install-deps)")
	}
	s := start(t, "plesk", 4)
	s.sh(`mkdir -p /run/mysqld /var/tmp/db
		printf %s "$1" >/root/psa.sql
		db="/usr/sbin/mariadbd --no-defaults --datadir=/var/tmp/db --user=root --innodb-buffer-pool-size=8M --innodb-log-file-size=4M"
		{ printf '%s;\n' 'CREATE DATABASE mysql' 'USE mysql' 'SET @auth_root_socket=NULL'
		  cat /usr/share/mysql/mysql_system_tables.sql /usr/share/mysql/mysql_system_tables_data.sql; } | $db --bootstrap
		setsid $db --socket=/run/mysqld/mysqld.sock --pid-file=/run/mysqld/pid --skip-networking --init-file=/root/psa.sql </dev/null >/dev/null 2>&1 &`, s.psa())
	eventually(t, "MariaDB has its socket", func() bool {
		_, err := s.Run(t.Context(), "test -S /run/mysqld/mysqld.sock")
		return err == nil
	})
	up := s.rightful("accounts").exit(t, 0)
	if n := strings.Count(up.stdout, `"known":"database psa, home from passwd"`); n != 4 || !strings.Contains(up.stdout, `"mailboxes":["info@alice.example"]`) {
		t.Errorf("%d accounts are known from the database, want 4:\n%s", n, head(up.stdout, 8))
	}
	check := s.rightful("check").exit(t, 0)
	if len(check.findings) > 0 || len(check.sites) != len(s.Sites()) {
		t.Errorf("with the database check finds %q, and %d of %d sites", check.paths(), len(check.sites), len(s.Sites()))
	}
	s.sh(`kill -9 "$(cat /run/mysqld/pid)"`)
	down := s.rightful("check").exit(t, 1)
	if len(down.findings) > 0 || len(down.sites) != len(s.Sites()) {
		t.Errorf("without the database check finds %q, and %d of %d sites", down.paths(), len(down.sites), len(s.Sites()))
	}
	down.says(t, "psa")
}
