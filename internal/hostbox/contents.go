package hostbox

import (
	"fmt"
	"path"
	"strings"
)

// writeHome writes one account's home and its sites: what customers really have, in the modes they really have it in.
// i is the account's number and varies them.
func (w *world) writeHome(m *image, a *account, i int) {
	own := func() { m.as(a.uid, a.gid) }
	home := int64(0o711)
	if w.shaped() {
		home = w.form.homeMode
		m.root(path.Dir(a.home))
		m.as(a.uid, w.gidOf(w.form.homeGroup, a))
	} else {
		own()
	}
	m.dir(a.home, home)
	own()
	m.file(a.home+"/.bashrc", 0o644, "# "+a.name+"\n")
	m.file(a.home+"/.bash_history", 0o600, "ls\n")
	m.file(a.home+"/.my.cnf", 0o600, "[client]\npassword=example\n")
	m.dir(a.home+"/.ssh", 0o700)
	m.file(a.home+"/.ssh/authorized_keys", 0o600, "ssh-ed25519 AAAAexample "+a.name+"@example\n")
	m.file(a.home+"/.ssh/id_ed25519", 0o600, "example, not a key\n")
	m.file(a.home+"/.ssh/id_ed25519.pub", 0o644, "ssh-ed25519 AAAAexample "+a.name+"@example\n")
	if w.panel != "plesk" { // there it is the chroot's
		m.dir(a.home+"/bin", 0o755)
		m.file(a.home+"/bin/backup", 0o755, "#!/bin/sh\nexit 0\n")
	}
	m.dir(a.home+"/private", 0o700)
	m.file(a.home+"/private/accounts 2024.ods", 0o600, "example\n")
	switch {
	case w.panel == "cpanel":
		w.writeCPanelHome(m, a)
	case w.shaped():
		w.writeShapeHome(m, a)
	default:
		writeMaildir(m, a.home+"/Maildir", 0o700)
		m.dir(a.home+"/logs", 0o750)
		m.dir(a.home+"/tmp", 0o755)
	}
	if a.fcgid {
		m.dir(a.fcgiBin(), 0o755)
		m.file(a.fcgiBin()+"/php-wrapper", 0o755, "#!/bin/sh\nexport PHP_FCGI_MAX_REQUESTS=1000\nexec php-cgi\n")
	}
	for _, s := range a.sites {
		own()
		w.writeBetween(m, a, s)
		w.asRoot(m, a)
		root := s.docroot
		if s.linkTo != "" {
			own()
			m.link(root, s.linkTo)
			m.dir(a.home+"/releases", 0o755)
			root = a.home + "/" + s.linkTo
			w.asRoot(m, a)
		}
		m.dir(root, 0o750)
		own()
		w.writeSite(m, a, s, root)
		if w.mail && s == a.sites[0] {
			a.writeStaff(m)
		}
	}
}

// asRoot sets the owner of a document root.
func (w *world) asRoot(m *image, a *account) {
	group := "web"
	if w.shaped() {
		group = w.form.rootGroup
	}
	m.as(a.uid, w.gidOf(group, a))
}

// writeBetween writes the directories between a home, or /srv, and a document root.
func (w *world) writeBetween(m *image, a *account, s *site) {
	if !strings.HasPrefix(s.docroot, a.home+"/") {
		m.root("/srv/www")
		return
	}
	rest := strings.TrimPrefix(s.docroot, a.home+"/")
	for at, c := range rest {
		dir := a.home + "/" + rest[:at]
		if c != '/' || m.made[dir] {
			continue
		}
		// FileProtect gives the web server's group to every directory between a home and a document root.
		m.as(a.uid, int(w.web.GIDs[0]))
		mode := int64(0o750)
		if w.shaped() {
			m.as(a.uid, w.gidOf(w.form.wayGroup, a))
			mode = w.form.wayMode
		}
		m.dir(dir, mode)
		m.as(a.uid, a.gid)
	}
}

func (w *world) writeSite(m *image, a *account, s *site, root string) {
	web := w.web
	hello := `<?php
printf("%s served as uid %d\n", $_SERVER['SERVER_NAME'], function_exists('posix_geteuid') ? posix_geteuid() : getmyuid());
`
	if s.variant%4 == 3 {
		m.file(root+"/index.html", 0o644, "<!doctype html>\n<link rel=stylesheet href=css/style.css>\n<h1>"+s.host+"</h1>\n")
	} else {
		m.file(root+"/index.php", 0o644, `<?php
if (is_file(__DIR__ . '/.maintenance')) {
	http_response_code(503);
	header('Retry-After: 600');
	exit("back soon\n");
}
`+strings.TrimPrefix(hello, "<?php\n"))
	}
	m.file(root+"/.htaccess", 0o644, `DirectoryIndex index.php index.html
<FilesMatch "^\.env|\.sql$">
	Require all denied
</FilesMatch>
`)
	m.file(root+"/info.php", 0o600, hello)
	m.file(root+"/robots.txt", 0o644, "User-agent: *\n")
	m.file(root+"/favicon.ico", 0o644, "icon\n")
	m.file(root+"/.env", 0o600, "DB_PASSWORD=example\n")
	m.file(root+"/backup.sql", 0o600, "-- example\n")
	m.file(root+"/config.php", 0o640, "<?php $password = 'example';\n")
	m.file(root+`/it's "quoted".txt`, 0o644, "text\n")
	m.file(root+"/名前.html", 0o644, "<p>"+s.host+"</p>\n")
	m.dir(root+"/css", 0o755)
	m.file(root+"/css/style.css", 0o644, "body { margin: 2em }\n")
	m.file(root+"/css/print style.css", 0o644, "body { margin: 0 }\n")
	m.dir(root+"/js", 0o755)
	m.file(root+"/js/app.js", 0o644, "console.log('"+s.host+"')\n")
	m.dir(root+"/img", 0o755)
	for _, n := range []string{"a b.png", "été.jpg", "logo.svg", "photo 1.jpg", "photo 2.jpg"} {
		m.file(root+"/img/"+n, 0o644, "image\n")
	}
	if a.oldCGI() {
		m.dir(root+"/cgi-bin", 0o755)
		m.file(root+"/cgi-bin/hello.cgi", 0o755,
			"#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\necho \"cgi as uid $(id -u)\"\n")
	}
	m.dir(root+"/members", 0o755)
	m.file(root+"/members/index.php", 0o640, hello)
	m.file(root+"/members/list.php", 0o600, "<?php return ['example'];\n")
	m.as(a.uid, int(web.GIDs[0]))
	m.dir(root+"/downloads", 0o2750)
	m.file(root+"/downloads/catalogue.pdf", 0o640, "%PDF example\n")
	m.as(a.uid, a.gid)
	m.dir(root+"/team", 0o2755)
	m.file(root+"/team/notes.txt", 0o644, "notes\n")
	m.file(root+"/team/deploy.sh", 0o755, "#!/bin/sh\nexit 0\n")
	m.link(root+"/latest.jpg", "img/photo 2.jpg")
	if s.variant%4 == 0 {
		acl := fmt.Sprintf("user::rwx,user:%d:rwx,group::r-x,mask::rwx,other::---", web.UID)
		m.dirACL(root+"/shared", 0o770, acl, acl)
		m.file(root+"/shared/list.txt", 0o644, "list\n")
	}
	writeWordPress(m, root+"/wp", s.variant)
}

// writeWordPress writes the shape of a WordPress: its names, modes and its .htaccess, none of its code.
func writeWordPress(m *image, root string, variant int) {
	php := "<?php // example\n"
	m.dir(root, 0o755)
	m.file(root+"/index.php", 0o644, "<?php echo 'wordpress on ', $_SERVER['SERVER_NAME'], \"\\n\";\n")
	secret := []int64{0o600, 0o640, 0o644, 0o400}[variant%4]
	m.file(root+"/wp-config.php", secret, "<?php define('DB_PASSWORD', 'example');\n")
	m.file(root+"/.htaccess", 0o644, `# BEGIN WordPress
<IfModule mod_rewrite.c>
RewriteEngine On
RewriteBase /wp/
RewriteRule ^index\.php$ - [L]
RewriteCond %{REQUEST_FILENAME} !-f
RewriteCond %{REQUEST_FILENAME} !-d
RewriteRule . /wp/index.php [L]
</IfModule>
# END WordPress
`)
	for _, n := range []string{"wp-login.php", "wp-load.php", "wp-cron.php", "wp-settings.php", "xmlrpc.php"} {
		m.file(root+"/"+n, 0o644, php)
	}
	m.file(root+"/readme.html", 0o644, "<p>readme</p>\n")
	for _, d := range []string{"wp-admin", "wp-admin/css", "wp-admin/js", "wp-includes", "wp-includes/js"} {
		m.dir(root+"/"+d, 0o755)
		m.file(root+"/"+d+"/index.php", 0o644, php)
	}
	for _, n := range []string{"css/admin.css", "js/common.js", "admin.php", "upload.php"} {
		m.file(root+"/wp-admin/"+n, 0o644, "/* example */\n")
	}
	for _, n := range []string{"js/jquery.js", "version.php", "functions.php", "plugin.php"} {
		m.file(root+"/wp-includes/"+n, 0o644, "/* example */\n")
	}
	content := root + "/wp-content"
	for _, d := range []string{"", "/plugins", "/plugins/forms", "/themes", "/themes/plain", "/uploads", "/uploads/2024", "/uploads/2024/01", "/uploads/2024/02"} {
		m.dir(content+d, 0o755)
	}
	m.file(content+"/plugins/forms/forms.php", 0o644, php)
	m.file(content+"/plugins/forms/forms.css", 0o644, "form { display: block }\n")
	m.file(content+"/themes/plain/style.css", 0o644, "body { color: black }\n")
	m.file(content+"/themes/plain/functions.php", 0o644, php)
	m.file(content+"/uploads/.htaccess", 0o644, "Options -Indexes\n")
	for n := range 4 + variant%6 {
		m.file(fmt.Sprintf("%s/uploads/2024/%02d/image-%d.jpg", content, 1+n%2, n), 0o644, "image\n")
	}
}

// writeMaildir writes a Maildir with some messages.
func writeMaildir(m *image, root string, dirMode int64) {
	for _, d := range []string{"", "/cur", "/new", "/tmp", "/.Sent", "/.Sent/cur", "/.Sent/new", "/.Sent/tmp"} {
		m.dir(root+d, dirMode)
	}
	for n := range 4 {
		m.file(fmt.Sprintf("%s/cur/17092944%02d.M1P%d.box,S=64:2,S", root, n, n), 0o640, "Subject: example\n\nexample\n")
	}
	m.file(root+"/new/1709294500.M1P9.box", 0o640, "Subject: new\n\nexample\n")
	m.file(root+"/dovecot-uidlist", 0o640, "3 V1709294400 N5\n")
	m.file(root+"/maildirsize", 0o600, "262144000S\n320 5\n")
	m.file(root+"/subscriptions", 0o640, "Sent\n")
}
