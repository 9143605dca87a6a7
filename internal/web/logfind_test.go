package web

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Every log that a configuration names is found once, with the hosts that write it; one that everybody writes is nobody's;
// pipes, the system's log and names that depend on the request are said and not read.
func TestLogsAreFoundThroughTheConfiguration(t *testing.T) {
	s := root(t, map[string]string{
		"etc/apache2/apache2.conf": `ServerName box
ErrorLog /var/log/apache2/error.log
LogFormat "%v:%p %h %l %u %t \"%r\" %>s %O" vhost_combined
LogFormat "%{Host}i %>s %t" short
ErrorLogFormat "%{c}t %v %M"
<VirtualHost *:80>
ServerName alice.example
ErrorLog logs/alice.log
CustomLog /var/log/apache2/access.log vhost_combined
CustomLog "|/usr/bin/logger -t x" short
</VirtualHost>
<VirtualHost *:443>
ServerName alice.example
ErrorLog logs/alice.log
CustomLog /var/log/apache2/access.log "%h %D"
</VirtualHost>
<VirtualHost *:80>
ServerName bob.example
ErrorLog syslog:local1
CustomLog /var/log/apache2/access.log vhost_combined
TransferLog /var/log/apache2/bob.log
</VirtualHost>
<VirtualHost *:80>
ServerName carol.example
ErrorLog /var/log/apache2/error.log
</VirtualHost>
`,
		"etc/nginx/nginx.conf": `error_log /var/log/nginx/error.log warn;
http {
log_format json escape=json '{"s":$status,'
  '"h":"$host"}';
access_log /var/log/nginx/access.log json;
server { server_name dave.example www.dave.example; access_log /var/log/nginx/dave.log; error_log /var/log/nginx/dave-error.log;
  location /x { access_log off; error_log syslog:server=unix:/dev/log; } }
server { server_name erin.example; access_log /var/log/nginx/$host.log; error_log logs/erin.log; }
}
`,
		"etc/php/8.2/fpm/php-fpm.conf":      "[global]\nerror_log = /var/log/php8.2-fpm.log\n",
		"etc/php/8.2/fpm/pool.d/alice.conf": "[alice]\nphp_admin_value[error_log] = /home/alice/logs/php.log\n;php_admin_value[error_log] = /no\n",
		"etc/suphp/suphp.conf":              "[global]\nlogfile=/var/log/suphp/suphp.log\n",
		"var/log/apache2/suexec.log":        "",
	})
	apache, err := ReadApache(s, "/etc/apache2/apache2.conf")
	if err != nil {
		t.Fatal(err)
	}
	nginx, err := ReadNginx(s, "/etc/nginx/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	g := FindLogs(s, []*ApacheConfig{apache}, []*NginxConfig{nginx})
	want := []LogFile{
		{Path: "/var/log/apache2/error.log"},
		{Path: "/etc/apache2/logs/alice.log", Names: []string{"alice.example"}},
		{Path: "/var/log/apache2/access.log", Names: []string{"alice.example", "bob.example"}},
		{Path: "|/usr/bin/logger -t x", Names: []string{"alice.example"}, Unread: "it is a pipe to another program"},
		{Path: "syslog:local1", Names: []string{"bob.example"}, Unread: "it goes to the system's own log"},
		{Path: "/var/log/apache2/bob.log", Names: []string{"bob.example"}},
		{Path: "/var/log/nginx/error.log"},
		{Path: "/var/log/nginx/access.log"},
		{Path: "/var/log/nginx/dave.log", Names: []string{"dave.example"}},
		{Path: "/var/log/nginx/dave-error.log", Names: []string{"dave.example"}},
		{Path: "syslog:server=unix:/dev/log", Names: []string{"dave.example"}, Unread: "it goes to the system's own log or to memory"},
		{Path: "/var/log/nginx/$host.log", Names: []string{"erin.example"}, Unread: "it is named after the request"},
		{Path: "logs/erin.log", Names: []string{"erin.example"}, Unread: "it is relative to where nginx was installed"},
		{Path: "/var/log/php8.2-fpm.log"},
		{Path: "/home/alice/logs/php.log"},
		{Path: "/var/log/suphp/suphp.log"},
		{Path: "/var/log/apache2/suexec.log"},
	}
	if diff := cmp.Diff(want, g.Files); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// "%h %D" tells no status, and is of no use.
	if len(g.Formats) != 3 || len(g.Problems) > 0 {
		t.Errorf("%d forms of lines; problems %v", len(g.Formats), g.Problems)
	}
}
