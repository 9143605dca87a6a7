package hostbox

import (
	"fmt"
	"path"
	"strings"
)

// cpanelPHP is where cPanel's PHP 8.2 keeps its configuration. The version is part of the shape: the program that reads
// it is the one that the machine has.
const cpanelPHP = "/opt/cpanel/ea-php82/root/etc"

// writeCPanel writes what other programs may read of a cPanel server: accounts, domains, web configuration. Formats,
// owners and modes are cPanel's.
func (w *world) writeCPanel(m *image, phpv string) {
	var dataDomains, userDomains, trueDomains, domainUsers, owners strings.Builder
	userDomains.WriteString("*: nobody\n")
	m.system("/var/cpanel/cpanel.config", 0o644, "acls=0\nskipfileprotect=0\n")
	m.system("/var/cpanel/fileprotect", 0o644, "")
	m.system("/usr/local/cpanel/version", 0o644, "11.120.0.1\n")
	m.system("/etc/cpanel/ea4/php.conf", 0o644, "---\ndefault: ea-php82\nea-php82: cgi\n")
	for _, d := range []struct {
		name string
		mode int64
	}{
		{"/var/cpanel/users", 0o711},
		{"/var/cpanel/userdata", 0o711},
	} {
		m.as(0, 0)
		m.dir(d.name, d.mode)
	}
	for _, a := range w.accounts {
		main := a.sites[0]
		lines := w.userdataLines(a)
		dataDomains.WriteString(lines)
		fmt.Fprintf(&trueDomains, "%s: %s\n", main.host, a.name)
		fmt.Fprintf(&domainUsers, "%s: %s\n", a.name, main.host)
		fmt.Fprintf(&owners, "%s: root\n", a.name)
		for _, d := range a.names() {
			fmt.Fprintf(&userDomains, "%s: %s\n", d, a.name)
		}
		m.as(0, a.uid)
		m.file("/var/cpanel/users/"+a.name, 0o640, a.userFile())
		dir := "/var/cpanel/userdata/" + a.name
		m.dir(dir, 0o750)
		m.as(0, 0)
		m.file(dir+"/main", 0o644, a.userdataMain())
		m.file(dir+"/cache", 0o644, lines)
		for _, s := range a.sites {
			m.file(dir+"/"+s.host, 0o644, w.userdata(a, s))
			m.file(dir+"/"+s.host+".php-fpm.yaml", 0o644, "---\n_is_present: 1\n")
			if s.tls {
				m.file(dir+"/"+s.host+"_SSL", 0o644, strings.Replace(w.userdata(a, s), "port: 80\n", "port: 443\n", 1))
			}
		}
	}
	// Not accounts: cPanel's own file, and what a terminated customer left behind.
	m.as(0, 0)
	m.file("/var/cpanel/users/system", 0o644, "USER=system\n")
	m.file("/var/cpanel/users/mallory", 0o640, "USER=mallory\nDNS=mallory.example\nOWNER=root\n")
	for name, text := range map[string]string{
		"userdatadomains": dataDomains.String(), "userdomains": userDomains.String(),
		"trueuserdomains": trueDomains.String(), "domainusers": domainUsers.String(), "trueuserowners": owners.String(),
	} {
		m.as(0, 8)
		m.file("/etc/"+name, 0o640, text)
	}
	w.writeCPanelApache(m)
	if w.mail {
		w.writeMailServer(m)
		w.writeMailSpool(m)
	}
	m.system(cpanelPHP+"/php.ini", 0o644, "expose_php = Off\n")
	m.system(cpanelPHP+"/php-fpm.conf", 0o644, fpmMain(cpanelPHP+"/php-fpm.d"))
	for _, a := range w.accounts {
		m.system(cpanelPHP+"/php-fpm.d/"+a.name+".conf", 0o644, w.pool(a))
	}
	m.as(0, 0)
	m.link("/usr/sbin/httpd", "apache2")
}

// names are all domains of the account that cPanel lists.
func (a *account) names() []string {
	var all []string
	for _, s := range a.sites {
		all = append(all, s.host)
		if s.addon != "" {
			all = append(all, s.addon)
		}
		all = append(all, s.parked...)
	}
	return all
}

// userdataLines are the account's lines of /etc/userdatadomains: ten fields joined by "==", of which some are empty.
func (w *world) userdataLines(a *account) string {
	var t strings.Builder
	ip := strings.TrimSuffix(w.listen(), ":80")
	line := func(domain, kind, parent, docroot string) {
		fmt.Fprintf(&t, "%s: %s==root==%s==%s==%s==%s:80==%s:443====0==ea-php82\n",
			domain, a.name, kind, parent, docroot, ip, ip)
	}
	main := a.sites[0].host
	for _, s := range a.sites {
		switch s.kind {
		case "main":
			line(s.host, "main", main, s.docroot)
		case "sub":
			line(s.host, "sub", main, s.docroot)
		case "addon":
			line(s.addon, "addon", s.host, s.docroot)
			line(s.host, "sub", main, s.docroot)
		}
		for _, p := range s.parked {
			line(p, "parked", main, s.docroot)
		}
	}
	return t.String()
}

// userFile is /var/cpanel/users/USER.
func (a *account) userFile() string {
	var t strings.Builder
	fmt.Fprintf(&t, "DNS=%s\n", a.sites[0].host)
	for n, d := range a.names()[1:] {
		fmt.Fprintf(&t, "DNS%d=%s\n", n+1, d)
	}
	fmt.Fprintf(&t, "HOMEDIRLINKS=\nHOMEDIRPATHS=%s\nMAILBOX_FORMAT=maildir\nOWNER=root\nPLAN=default\nUSER=%s\n", a.home, a.name)
	return t.String()
}

// userdataMain is /var/cpanel/userdata/USER/main.
func (a *account) userdataMain() string {
	var addons, parked, subs strings.Builder
	for _, s := range a.sites {
		if s.addon != "" {
			fmt.Fprintf(&addons, "  %s: %s\n", s.addon, s.host)
		}
		if s.kind != "main" {
			fmt.Fprintf(&subs, "  - %s\n", s.host)
		}
		for _, p := range s.parked {
			fmt.Fprintf(&parked, "  - %s\n", p)
		}
	}
	section := func(name, empty, body string) string {
		if body == "" {
			return name + ": " + empty + "\n"
		}
		return name + ":\n" + body
	}
	return "---\n" + section("addon_domains", "{}", addons.String()) + "main_domain: " + a.sites[0].host + "\n" +
		section("parked_domains", "[]", parked.String()) + section("sub_domains", "[]", subs.String())
}

// userdata is /var/cpanel/userdata/USER/DOMAIN.
func (w *world) userdata(a *account, s *site) string {
	cgi, alias := 0, ""
	if a.cgi {
		cgi = 1
		alias = "scriptalias:\n  -\n    path: " + s.docroot + "/cgi-bin\n    url: /cgi-bin/\n"
	}
	return fmt.Sprintf(`---
documentroot: %[1]s
group: %[2]s
hascgi: %[7]d
homedir: %[3]s
ip: %[4]s
owner: root
phpopenbasedirprotect: 1
phpversion: ea-php82
port: 80
%[8]sserveradmin: webmaster@%[5]s
serveralias: %[6]s
servername: %[5]s
usecanonicalname: 'Off'
user: %[2]s
`, s.docroot, a.name, a.home, strings.TrimSuffix(w.listen(), ":80"), s.host, strings.Join(s.domains()[1:], " "),
		cgi, alias)
}

func (w *world) writeCPanelApache(m *image) {
	const etc = "/etc/apache2"
	var t strings.Builder
	t.WriteString(`# Generated by a box in cPanel's shape.
ServerRoot "/etc/apache2"
DefaultRuntimeDir /run/apache2
PidFile /run/apache2/apache2.pid
ServerName box
ServerAdmin root@box
User nobody
Group nobody
Timeout 60
ErrorLog /etc/apache2/logs/error_log
LogLevel warn
ScriptSock /run/apache2/cgisock
Include "/etc/apache2/conf.modules.d/*.conf"
TypesConfig /etc/mime.types
DirectoryIndex index.php index.html
DocumentRoot "/var/www/html"
Listen 0.0.0.0:80
Listen 0.0.0.0:443
LogFormat "%h %l %u %t \"%r\" %>s %b" common

<Directory "/">
    AllowOverride All
    Options ExecCGI FollowSymLinks IncludesNOEXEC Indexes SymLinksIfOwnerMatch
    Require all granted
</Directory>
<Directory "/var/www/html">
    Options Indexes FollowSymLinks
    AllowOverride None
    Require all granted
</Directory>
<Files ~ "^error_log$">
    Require all denied
</Files>
<FilesMatch "^\.ht">
    Require all denied
</FilesMatch>

`)
	for _, a := range w.accounts {
		for _, s := range a.sites {
			text := w.cpanelHost(a, s)
			t.WriteString(text)
			if s.tls {
				t.WriteString(secure(text, "    "))
			}
		}
	}
	m.system(etc+"/conf/httpd.conf", 0o644, t.String())
	var load strings.Builder
	for _, name := range modules() {
		load.WriteString(loadModule(name))
	}
	m.system(etc+"/conf.modules.d/000_modules.conf", 0o644, load.String()+mpm)
	// The program looks for Debian's name of its main file unless told otherwise.
	m.link(etc+"/apache2.conf", "conf/httpd.conf")
	// cPanel's own suEXEC takes "/"; Debian's does not, which is why CGI stays with the accounts in /home.
	m.system(etc+"/suexec/nobody", 0o644, "/home\npublic_html/cgi-bin\n")
	m.link(etc+"/logs", "/var/log/apache2")
	logs := "/var/log/apache2/domlogs"
	m.as(0, 0)
	m.dir(logs, 0o711)
	for _, a := range w.accounts {
		m.as(0, a.uid)
		m.dir(logs+"/"+a.name, 0o750)
		for _, s := range a.sites {
			m.file(logs+"/"+s.host, 0o640, "")
			m.hard(logs+"/"+a.name+"/"+s.host, logs+"/"+s.host)
		}
	}
}

func (w *world) cpanelHost(a *account, s *site) string {
	cgi := ""
	if a.cgi {
		cgi = "    <IfModule alias_module>\n        ScriptAlias /cgi-bin/ \"" + s.docroot + "/cgi-bin/\"\n    </IfModule>\n"
	}
	return fmt.Sprintf(`<VirtualHost %[1]s>
    ServerName %[2]s
    ServerAlias %[3]s
    DocumentRoot "%[4]s"
    ServerAdmin webmaster@%[2]s
    UseCanonicalName Off
    ## User %[5]s # Needed for Cpanel::ApacheConf
    <IfModule suexec_module>
        <IfModule !mod_ruid2.c>
            SuexecUserGroup %[5]s %[5]s
        </IfModule>
    </IfModule>
%[7]s    <IfModule proxy_fcgi_module>
        <FilesMatch \.(phtml|php[0-9]*)$>
            SetHandler proxy:unix:%[6]s|fcgi://%[2]s
        </FilesMatch>
    </IfModule>
    CustomLog /etc/apache2/logs/domlogs/%[2]s common
</VirtualHost>

`, w.listen(), s.host, strings.Join(s.domains()[1:], " "), s.docroot, a.name, a.socket(), cgi)
}

// writeCPanelHome writes what cPanel itself puts into a home.
func (w *world) writeCPanelHome(m *image, a *account) {
	const mail = 8
	h := a.home
	domain := a.sites[0].host
	own := func() { m.as(a.uid, a.gid) }
	own()
	for _, d := range []struct {
		name string
		mode int64
	}{
		{".cpanel", 0o700},
		{".cpanel/caches", 0o700},
		{".cpanel/datastore", 0o700},
		{".trash", 0o700},
		{"logs", 0o700},
		{"tmp", 0o755},
		{"public_ftp", 0o750},
		{"public_ftp/incoming", 0o700},
		{"ssl", 0o755},
		{"ssl/certs", 0o755},
		{"ssl/keys", 0o700},
		{"ssl/private", 0o700},
	} {
		m.dir(path.Join(h, d.name), d.mode)
	}
	m.file(h+"/.cpanel/datastore/quota", 0o600, "example\n")
	m.file(h+"/.lastlogin", 0o600, "192.0.2.99 # 2024-03-01 12:00:00 +0000\n")
	m.file(h+"/.contactemail", 0o640, a.name+"@contact.example\n")
	m.file(h+"/ssl/certs/"+strings.ReplaceAll(domain, ".", "_")+".crt", 0o644, "example\n")
	m.file(h+"/ssl/keys/example.key", 0o640, "example\n")
	m.file(h+"/ssl/ssl.db", 0o600, "example\n")
	m.link(h+"/www", "public_html")
	m.as(0, 0)
	m.link(h+"/access-logs", "/etc/apache2/logs/domlogs/"+a.name)
	m.as(a.uid, int(w.web.GIDs[0]))
	m.dir(h+"/.htpasswds", 0o750)
	m.file(h+"/.htpasswds/passwd", 0o644, "visitor:$apr1$example\n")
	m.as(a.uid, mail)
	m.dir(h+"/etc", 0o750)
	own()
	m.dir(h+"/mail", 0o751)
	for _, d := range []string{"cur", "new", "tmp"} {
		m.dir(h+"/mail/"+d, 0o751)
	}
	if w.mail {
		w.writeMailHome(m, a)
		return
	}
	m.as(a.uid, mail)
	m.dir(h+"/etc/"+domain, 0o750)
	id := fmt.Sprintf("%d:%d", a.uid, a.uid)
	m.file(h+"/etc/"+domain+"/passwd", 0o640, "info:x:"+id+"::"+h+"/mail/"+domain+"/info:"+h+"\n")
	m.file(h+"/etc/"+domain+"/shadow", 0o640, "info:$6$example:19700::::::\n")
	m.file(h+"/etc/"+domain+"/quota", 0o640, "info:262144000\n")
	own()
	m.dir(h+"/mail/"+domain, 0o751)
	writeMaildir(m, h+"/mail/"+domain+"/info", 0o751)
}
