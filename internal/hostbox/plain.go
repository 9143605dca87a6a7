package hostbox

import (
	"fmt"
	"strings"
)

// modules are the Apache modules of every box, in an order in which they load.
func modules() []string {
	return strings.Fields(`mpm_event authn_core authn_file authz_core authz_host authz_user access_compat auth_basic
		alias autoindex dir env expires filter headers mime negotiation reqtimeout rewrite setenvif
		cgid suexec proxy proxy_fcgi ssl`)
}

func loadModule(name string) string {
	return "LoadModule " + name + "_module /usr/lib/apache2/modules/mod_" + name + ".so\n"
}

// mpm keeps Apache small: a box serves nobody but its test.
const mpm = `StartServers 1
ServerLimit 2
ThreadsPerChild 25
MinSpareThreads 1
MaxSpareThreads 50
MaxRequestWorkers 50
`

// writePlain writes the web configuration as Debian lays it out.
func (w *world) writePlain(m *image) {
	const etc = "/etc/apache2"
	m.system(etc+"/envvars", 0o644, `unset HOME
export APACHE_RUN_USER=www-data
export APACHE_RUN_GROUP=www-data
export APACHE_PID_FILE=/run/apache2/apache2.pid
export APACHE_RUN_DIR=/run/apache2
export APACHE_LOCK_DIR=/run/lock/apache2
export APACHE_LOG_DIR=/var/log/apache2
export LANG=C
`)
	m.root("/run/lock/apache2")
	m.system(etc+"/apache2.conf", 0o644, `# Main configuration, as Debian has it.
DefaultRuntimeDir ${APACHE_RUN_DIR}
PidFile ${APACHE_PID_FILE}
Timeout 60
KeepAlive On
ServerName box
User ${APACHE_RUN_USER}
Group ${APACHE_RUN_GROUP}
HostnameLookups Off
ErrorLog ${APACHE_LOG_DIR}/error.log
LogLevel warn
ScriptSock ${APACHE_RUN_DIR}/cgisock
IncludeOptional mods-enabled/*.load
IncludeOptional mods-enabled/*.conf
Include ports.conf

<Directory />
	Options FollowSymLinks
	AllowOverride None
	Require all denied
</Directory>
<Directory /home/>
	Options FollowSymLinks
	AllowOverride All
	Require all granted
</Directory>
<Directory /home2/>
	Options FollowSymLinks
	AllowOverride All
	Require all granted
</Directory>
<Directory /srv/>
	Options FollowSymLinks
	AllowOverride All
	Require all granted
</Directory>
<Directory /var/www/>
	Options FollowSymLinks
	AllowOverride None
	Require all granted
</Directory>

AccessFileName .htaccess
<FilesMatch "^\.ht">
	Require all denied
</FilesMatch>
LogFormat "%v:%p %h %l %u %t \"%r\" %>s %O" vhost_combined
IncludeOptional conf-enabled/*.conf
IncludeOptional sites-enabled/*.conf
`)
	m.system(etc+"/ports.conf", 0o644, "Listen 80\n<IfModule ssl_module>\n\tListen 443\n</IfModule>\n")
	m.system(etc+"/mods-available/mpm_event.conf", 0o644, mpm)
	m.system(etc+"/mods-available/mime.conf", 0o644, "TypesConfig /etc/mime.types\n")
	m.system(etc+"/mods-available/dir.conf", 0o644, "DirectoryIndex index.html index.php\n")
	m.root(etc + "/mods-enabled")
	m.root(etc + "/conf-enabled")
	for _, name := range append(modules(), "fcgid") {
		m.system(etc+"/mods-available/"+name+".load", 0o644, loadModule(name))
		m.link(etc+"/mods-enabled/"+name+".load", "../mods-available/"+name+".load")
	}
	m.system(etc+"/mods-available/fcgid.conf", 0o644, "FcgidIPCDir ${APACHE_RUN_DIR}/fcgid\nFcgidProcessTableFile ${APACHE_RUN_DIR}/fcgid_shm\n")
	for _, name := range []string{"mpm_event", "mime", "dir", "fcgid"} {
		m.link(etc+"/mods-enabled/"+name+".conf", "../mods-available/"+name+".conf")
	}
	m.system(etc+"/suexec/www-data", 0o644, "/home\npublic_html/cgi-bin\n")
	m.system(etc+"/sites-available/000-default.conf", 0o644, `<VirtualHost *:80>
	DocumentRoot /var/www/html
	ErrorLog ${APACHE_LOG_DIR}/error.log
</VirtualHost>
`)
	m.root(etc + "/sites-enabled")
	m.link(etc+"/sites-enabled/000-default.conf", "../sites-available/000-default.conf")
	for _, a := range w.accounts {
		for _, s := range a.sites {
			text := w.plainHost(a, s)
			switch {
			case s.moved:
				text = strings.Replace(text, "\tErrorLog", "\tRedirect permanent / https://"+s.host+"/\n\tErrorLog", 1) + secure(text, "\t")
			case s.tls:
				text += secure(text, "\t")
			}
			m.system(etc+"/sites-available/"+s.host+".conf", 0o644, text)
			m.link(etc+"/sites-enabled/"+s.host+".conf", "../sites-available/"+s.host+".conf")
		}
	}
}

// shape is the name of the kind of server.
func (w *world) shape() string {
	if w.nginx && !w.shaped() {
		return "nginx"
	}
	return w.panel
}

// writePools writes PHP-FPM's configuration as Debian lays it out.
func (w *world) writePools(m *image, phpv string) {
	fpm := "/etc/php/" + phpv + "/fpm"
	m.system(fpm+"/php.ini", 0o644, "expose_php = Off\n")
	m.system(fpm+"/php-fpm.conf", 0o644, fpmMain(fpm+"/pool.d"))
	for _, a := range w.accounts {
		if a.fcgid {
			continue
		}
		m.system(fpm+"/pool.d/"+a.name+".conf", 0o644, w.pool(a))
	}
}

func (w *world) plainHost(a *account, s *site) string {
	t := "<VirtualHost"
	for _, l := range w.listens(s) {
		if l[0] == ':' {
			l = "*" + l
		}
		t += " " + l
	}
	t += ">\n\tServerName " + s.host + "\n"
	t += "\tServerAlias " + strings.Join(s.domains()[1:], " ") + "\n"
	t += fmt.Sprintf("\tDocumentRoot %q\n", s.docroot)
	handler := "\"proxy:unix:" + a.socket() + "|fcgi://localhost\""
	if a.fcgid {
		handler = "fcgid-script\n\t\tOptions +ExecCGI"
		t += "\tFcgidWrapper " + a.fcgiBin() + "/php-wrapper .php\n"
	}
	t += "\t<FilesMatch \"\\.php$\">\n\t\tSetHandler " + handler + "\n\t</FilesMatch>\n"
	if w.suexec(a) {
		t += fmt.Sprintf("\tSuexecUserGroup %s #%d\n", a.name, a.gid)
	}
	if a.cgi {
		t += fmt.Sprintf("\tScriptAlias /cgi-bin/ %q\n", s.docroot+"/cgi-bin/")
	}
	t += "\tErrorLog ${APACHE_LOG_DIR}/" + s.host + "-error.log\n"
	t += "\tCustomLog ${APACHE_LOG_DIR}/" + s.host + "-access.log vhost_combined\n</VirtualHost>\n"
	return t
}

// fpmMain is PHP-FPM's main file: one master for all pools.
func fpmMain(pools string) string {
	return "[global]\npid = /run/php/fpm.pid\nerror_log = /var/log/php-fpm.log\ndaemonize = yes\ninclude = " + pools + "/*.conf\n"
}

// pool is one account's pool: it runs as the account, and the web server's group may speak to it.
func (w *world) pool(a *account) string {
	return fmt.Sprintf(`[%[1]s]
user = %[1]s
group = %[4]d
listen = %[3]s
listen.owner = %[1]s
listen.group = %[2]s
listen.mode = 0660
pm = ondemand
pm.max_children = 2
pm.process_idle_timeout = 10s
chdir = /
`, a.name, w.webGroup, a.socket(), a.gid)
}

// startWeb is the script that starts both servers. PHP-FPM is ready when it ends, Apache soon after. first stands before
// the command of a plain Apache.
func (w *world) startWeb(phpv, first string) string {
	if w.panel == "cpanel" {
		return `mkdir -p /run/php /run/apache2
php-fpm` + phpv + ` --php-ini ` + cpanelPHP + `/php.ini --fpm-config ` + cpanelPHP + `/php-fpm.conf >/dev/null
httpd -k start`
	}
	fpm := `mkdir -p /run/php /run/apache2
php-fpm` + phpv + ` --php-ini /etc/php/` + phpv + `/fpm/php.ini --fpm-config /etc/php/` + phpv + `/fpm/php-fpm.conf >/dev/null
`
	if w.nginx {
		return fpm + "nginx"
	}
	return fpm + `set +u
. /etc/apache2/envvars
` + first + `apache2 -k start`
}
