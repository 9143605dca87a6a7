package panel

import (
	"strings"
	"testing"

	"rightful"
)

func plainFiles() files {
	return files{
		"etc/passwd": "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33::/var/www:/usr/sbin/nologin\n" +
			"alice:x:2001:2001::/home/alice:/bin/sh\nbob:x:2002:2002::/home/bob/:/bin/sh\nbobby:x:2003:2003::/home/bobby:\n" +
			"carol:x:2004:2004::/opt/carol:\ndave:x:2005:2005::/opt/dave:\nalice-ftp:x:2001:2001::/home/alice/public_html/upload:\n" +
			"daemonish:x:2006:2006::/var/lib/daemonish:\nnobody:x:65534:65534::/home/nobody:\nlow:x:999:999::/home/low:\n",
		"etc/group":                            "www-data:x:33:\nalice:x:2001:www-data\nbob:x:2002:\nbobby:x:2003:\ncarol:x:2004:\nwebs:x:3000:bob\n",
		"etc/apache2/envvars":                  "export APACHE_RUN_USER=www-data\nexport APACHE_RUN_GROUP=www-data\n",
		"etc/apache2/apache2.conf":             "User ${APACHE_RUN_USER}\nGroup ${APACHE_RUN_GROUP}\nListen 80\nListen 443\nIncludeOptional mods-enabled/*\nIncludeOptional sites-enabled/*.conf\n",
		"etc/apache2/mods-enabled/suexec.load": "LoadModule suexec_module x\nLoadModule fcgid_module x\n",
		"etc/apache2/sites-enabled/000.conf":   "<VirtualHost *:80>\nDocumentRoot /var/www/html\n</VirtualHost>\n",
		"etc/apache2/sites-enabled/alice.conf": "<VirtualHost *:80>\nServerName alice.example\nServerAlias www.alice.example\nDocumentRoot /home/alice/public_html\nSuexecUserGroup alice alice\n" +
			"ScriptAlias /cgi-bin/ /home/alice/cgi-bin/\n<FilesMatch \\.php$>\nSetHandler \"proxy:unix:/run/php/alice.sock|fcgi://localhost\"\n</FilesMatch>\n</VirtualHost>\n" +
			"<VirtualHost *:443>\nServerName alice.example\nSSLEngine on\nDocumentRoot /home/alice/public_html\n</VirtualHost>\n",
		"etc/apache2/sites-enabled/bob.conf":   "<VirtualHost *:80>\nServerName bob.example\nDocumentRoot \"/home/bob/my site\"\nSuexecUserGroup bob webs\n</VirtualHost>\n",
		"etc/apache2/sites-enabled/bobby.conf": "<VirtualHost *:80>\nServerName bobby.example\nDocumentRoot /home/bobby/www\n</VirtualHost>\n",
		"etc/apache2/sites-enabled/carol.conf": "<VirtualHost *:80>\nServerName carol.example\nDocumentRoot /srv/sites/carol\nSuexecUserGroup carol carol\n</VirtualHost>\n",
		"etc/php/8.2/fpm/pool.d/alice.conf":    "[alice]\nuser = alice\ngroup = www-data\nlisten = /run/php/alice.sock\n",
	}
}

func TestPlainAccountsOwnTheDocumentRootsInTheirHomes(t *testing.T) {
	s := read(t, server(t, plainFiles()))
	want(t, "panels", s.Panels, []string{"plain"})
	want(t, "accounts", names(s), []string{"alice", "bob", "bobby", "carol"})
	want(t, "issues", problems(s), []string{})
	want(t, "facts", s.Facts, map[string]bool{"suexec": true})
	want(t, "web", s.Web, rightful.Identity{UID: 33, GIDs: []uint32{33, 2001}})
	alice := account(t, s, "alice")
	want(t, "alice's sites", sites(alice), []string{"alice.example /home/alice/public_html [alice.example www.alice.example] fpm:2001"})
	want(t, "listen", alice.Sites[0].Listen, []string{"http://:80", "https://:443"})
	want(t, "cgi", alice.Sites[0].CGI, []string{"/home/alice/cgi-bin"})
	// The pool's group replaces alice's own, which she then does not hold.
	want(t, "PHP", alice.Sites[0].PHP.Identity, rightful.Identity{UID: 2001, GIDs: []uint32{33}})
	want(t, "suEXEC", alice.Sites[0].CGIAs, rightful.Identity{UID: 2001, GIDs: []uint32{2001}})
	want(t, "bob's sites", sites(account(t, s, "bob")), []string{"bob.example /home/bob/my site [bob.example] none:33"})
	want(t, "bob's suEXEC", account(t, s, "bob").Sites[0].CGIAs, rightful.Identity{UID: 2002, GIDs: []uint32{3000}})
	want(t, "carol's directories", account(t, s, "carol").DirsNamed, []string{"/opt/carol", "/srv/sites/carol"})
	want(t, "known", account(t, s, "carol").Known, "/etc/passwd, DocumentRoot in /etc/apache2/sites-enabled/carol.conf:1")
}

func TestPlainContradictionsAreNobodys(t *testing.T) {
	fs := plainFiles()
	fs["etc/apache2/sites-enabled/z.conf"] = "<VirtualHost *:80>\nServerName z.example\nDocumentRoot /home/alice/z\nSuexecUserGroup bob bob\n</VirtualHost>\n" +
		"<VirtualHost *:80>\nServerName carol2.example\nDocumentRoot /srv/sites/carol\nSuexecUserGroup bob bob\n</VirtualHost>\n" +
		"<VirtualHost *:80>\nServerName ghost.example\nDocumentRoot /srv/sites/ghost\nSuexecUserGroup ghost ghost\n</VirtualHost>\n"
	s := read(t, server(t, fs))
	want(t, "issues", problems(s), []string{
		"shared-docroot carol /etc/apache2/sites-enabled/carol.conf:1",
		"docroot-inside bob /etc/apache2/sites-enabled/z.conf:1",
		"shared-docroot bob /etc/apache2/sites-enabled/z.conf:6",
		"no-user  /etc/apache2/sites-enabled/z.conf:11",
	})
	// Her home is in no usual place, so without a site carol is nobody of concern.
	want(t, "accounts", names(s), []string{"alice", "bob", "bobby"})
	want(t, "bob's sites", len(account(t, s, "bob").Sites), 1)
}

func TestTheWorkersIdentityFollowsTheirModules(t *testing.T) {
	for _, c := range []struct {
		name, load, directive, handler string
		web, php                       rightful.Identity
	}{
		{"mod_php", "LoadModule php_module x", "", "dso", rightful.Identity{UID: 33, GIDs: []uint32{33, 2001}}, rightful.Identity{UID: 33, GIDs: []uint32{33, 2001}}},
		{"itk", "LoadModule php_module x\nLoadModule mpm_itk_module x", "AssignUserID bob webs", "itk", rightful.Identity{UID: 2002, GIDs: []uint32{3000}}, rightful.Identity{UID: 2002, GIDs: []uint32{3000}}},
		{"ruid2", "LoadModule php7_module x\nLoadModule ruid2_module x", "RMode config\nRUidGid bob webs", "ruid2", rightful.Identity{UID: 2002, GIDs: []uint32{3000, 33, 2001}}, rightful.Identity{UID: 2002, GIDs: []uint32{3000, 33, 2001}}},
		{"no such pool", "", "SetHandler proxy:unix:/none|fcgi://x", "unknown", rightful.Identity{UID: 33, GIDs: []uint32{33, 2001}}, rightful.Identity{UID: 33, GIDs: []uint32{33, 2001}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := plainFiles()
			fs["etc/apache2/mods-enabled/x.load"] = c.load + "\n<FilesMatch \\.php$>\nSetHandler application/x-httpd-php\n</FilesMatch>\n"
			handler := c.directive
			if strings.HasPrefix(handler, "SetHandler") {
				handler = "<Files *.php>\n" + handler + "\n</Files>"
			}
			fs["etc/apache2/sites-enabled/bob.conf"] = "<VirtualHost *:80>\nServerName bob.example\nDocumentRoot /home/bob/www\n" + handler + "\n</VirtualHost>\n"
			site := account(t, read(t, server(t, fs)), "bob").Sites[0]
			want(t, "handler", site.PHP.Handler, c.handler)
			want(t, "web", site.Web, c.web)
			want(t, "PHP", site.PHP.Identity, c.php)
		})
	}
}

func TestAServerWithoutApacheHasAccountsWithoutSites(t *testing.T) {
	s := read(t, server(t, files{"etc/passwd": passwdBase, "etc/group": groupBase}))
	want(t, "accounts", names(s), []string{"alice", "bob", "bobby", "ftpish"})
	want(t, "issues", problems(s), []string{"no-web-user  /etc/apache2:0"})
	if s.Web.UID != Nobody || s.WebKnown != "" {
		t.Errorf("web identity out of nothing: %+v %q", s.Web, s.WebKnown)
	}
}

func TestTheWrapperOfModFcgidIsACGIProgram(t *testing.T) {
	for _, c := range []struct {
		wrapper string
		cgi     []string
		program string
	}{
		{"/home/bob/fcgi-bin/php.fcgi .php", []string{"/home/bob/fcgi-bin"}, "/home/bob/fcgi-bin/php.fcgi"},
		{"\"/home/bob/fcgi-bin/php.fcgi -d a=b\"", []string{"/home/bob/fcgi-bin"}, "/home/bob/fcgi-bin/php.fcgi"},
		{"/home/bob/fcgi-bin/py.fcgi .py", nil, ""},
		{"/home/bob/bin/php.fcgi .php", nil, "/home/bob/bin/php.fcgi"}, // other programs may lie there too
		{"/usr/lib/cgi-bin/php .php", nil, "/usr/lib/cgi-bin/php"},
	} {
		fs := plainFiles()
		fs["etc/apache2/sites-enabled/bob.conf"] = "<VirtualHost *:80>\nServerName bob.example\nDocumentRoot /home/bob/www\nSuexecUserGroup bob bob\n" +
			"AddHandler fcgid-script .php\nFcgidWrapper " + c.wrapper + "\n</VirtualHost>\n"
		site := account(t, read(t, server(t, fs)), "bob").Sites[0]
		want(t, c.wrapper, site.CGI, c.cgi)
		want(t, "PHP of "+c.wrapper, site.PHP, rightful.PHP{Handler: "fcgid", Wrapper: c.program, Identity: rightful.Identity{UID: 2002, GIDs: []uint32{2002, 3000}}})
	}
}

func TestUserDirMakesSitesOfUsersDirectories(t *testing.T) {
	fs := plainFiles()
	fs["etc/apache2/mods-enabled/userdir.load"] = "LoadModule userdir_module x\n"
	for _, d := range []string{"home/alice/public_html/", "home/bob/public_html/", "home/bobby/public_html/", "opt/dave/public_html/", "srv/pages/carol/"} {
		fs[d] = ""
	}
	for _, c := range []struct {
		conf string
		want []string // users with a site of this kind
	}{
		{"UserDir public_html\nUserDir disabled root bob\n", []string{"bobby", "dave"}}, // alice's is her virtual host's
		{"UserDir disabled\nUserDir enabled bob\nUserDir public_html\n", []string{"bob"}},
		{"UserDir /srv/pages\n", []string{"carol"}},
		{"UserDir /home/*/public_html http://elsewhere.example/~*\n", []string{"bob", "bobby"}},
		{"UserDir http://elsewhere.example/\n", nil},
		{"UserDir ../x\n", nil},
		{"", nil},
	} {
		fs["etc/apache2/sites-enabled/zz.conf"] = c.conf
		s := read(t, server(t, fs))
		var got []string
		for _, a := range s.Accounts {
			for _, site := range a.Sites {
				if site.Name == "~"+a.Name {
					got = append(got, a.Name)
					want(t, "names", site.Domains, []string{})
					want(t, "CGI as", site.CGIAs.UID, a.UID)
				}
			}
		}
		want(t, c.conf, got, c.want)
	}
}
