package panel

import (
	"fmt"
	"strings"
	"testing"

	"rightful"
)

// nginxFiles is a server of plain accounts with nginx and PHP-FPM.
func nginxFiles() files {
	fs := plainFiles()
	for name := range fs {
		if strings.HasPrefix(name, "etc/apache2/") {
			delete(fs, name)
		}
	}
	fs["etc/nginx/nginx.conf"] = "user www-data;\nevents {\n}\nhttp {\nindex index.php;\nupstream carol {\nserver unix:/run/php/carol.sock;\n}\ninclude sites-enabled/*;\n}\n"
	fs["etc/nginx/sites-enabled/000"] = "server {\nlisten 80 default_server;\nserver_name _;\nroot /var/www/html;\n}\n"
	fs["etc/nginx/sites-enabled/alice"] = "server {\nlisten 80;\nserver_name alice.example www.alice.example;\nreturn 301 https://$host$request_uri;\n}\n" +
		"server {\nlisten 443 ssl;\nserver_name alice.example www.alice.example;\nroot /home/alice/public_html;\nlocation / {\ntry_files $uri $uri/ /index.php?$args;\n}\n" +
		"location ~ \\.php$ {\ntry_files $uri =404;\nfastcgi_pass unix:/run/php/alice.sock;\n}\n}\n"
	fs["etc/nginx/sites-enabled/bob"] = "server {\nlisten 192.0.2.1:80;\nserver_name .bob.example ~^b;\nlocation / {\nroot \"/home/bob/my site\";\n}\n}\n"
	fs["etc/nginx/sites-enabled/carol"] = "server {\nserver_name carol.example;\nroot /srv/sites/carol;\nlocation ~ \\.php$ {\nfastcgi_pass carol;\n}\n}\n"
	fs["etc/php/8.2/fpm/pool.d/carol.conf"] = "[carol]\nuser = carol\nlisten = /var/run/php/carol.sock\n"
	return fs
}

func TestPlainAccountsOfNginxOwnTheirDocumentRootsLikeApaches(t *testing.T) {
	s := read(t, server(t, nginxFiles()))
	want(t, "accounts", names(s), []string{"alice", "bob", "bobby", "carol"})
	want(t, "issues", problems(s), []string{})
	want(t, "web", s.Web, rightful.Identity{UID: 33, GIDs: []uint32{33, 2001}})
	want(t, "web config", s.WebConfig, []string{"/etc/nginx/nginx.conf"})
	alice := account(t, s, "alice")
	want(t, "alice's sites", sites(alice), []string{"alice.example /home/alice/public_html [alice.example www.alice.example] fpm:2001"})
	want(t, "server", alice.Sites[0].Server, "nginx")
	want(t, "site's web", alice.Sites[0].Web, rightful.Identity{UID: 33, GIDs: []uint32{33, 2001}})
	want(t, "listen", alice.Sites[0].Listen, []string{"https://:443"})
	want(t, "known", alice.Known, "/etc/passwd, root in /etc/nginx/sites-enabled/alice:6")
	want(t, "bob's sites", sites(account(t, s, "bob")), []string{"bob.example /home/bob/my site [bob.example *.bob.example] none:33"})
	want(t, "bob's listen", account(t, s, "bob").Sites[0].Listen, []string{"http://192.0.2.1:80"})
	// Nothing but the user of her pool says that the document root is hers.
	want(t, "carol's sites", sites(account(t, s, "carol")), []string{"carol.example /srv/sites/carol [carol.example] fpm:2004"})
}

func TestAnNginxMainFileMayBeNamedAnyhow(t *testing.T) {
	fs := nginxFiles()
	fs["srv/conf/web.conf"] = strings.Replace(fs["etc/nginx/nginx.conf"], "include sites", "include /etc/nginx/sites", 1)
	delete(fs, "etc/nginx/nginx.conf")
	s, err := Read(server(t, fs), Options{WebConfig: []string{"/srv/conf/web.conf"}})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "issues", problems(s), []string{})
	want(t, "alice's sites", len(account(t, s, "alice").Sites), 1)
}

func TestWhatNginxIsNotUnderstoodToSayIsReportedWithItsLine(t *testing.T) {
	fs := nginxFiles()
	fs["etc/nginx/sites-enabled/z"] = "server {\nserver_name z.example;\nroot /home/$user/www;\n}\nserver {\nroot /home/bobby/www;\nlocation ~ \\.php$ {\nfastcgi_pass unix:/none;\n}\n}\nserver {\n"
	fs["etc/nginx/sites-enabled/dangling"] = "-> /none"
	fs["etc/nginx/nginx.conf"] = strings.Replace(fs["etc/nginx/nginx.conf"], "www-data", "ghost", 1)
	want(t, "issues", problems(read(t, server(t, fs))), []string{
		"no-web-user  /etc/nginx/nginx.conf:0", "no-web-user  /etc/nginx/nginx.conf:0",
		"unreadable  /etc/nginx/nginx.conf:9", "syntax  /etc/nginx/sites-enabled/z:3", "no-pool  /etc/nginx/sites-enabled/z:8", "syntax  /etc/nginx/sites-enabled/z:11",
	})
}

// Where nginx hands everything on, the site is Apache's, reached through nginx. Where it serves files of the same
// document root itself, whoever runs nginx is the web identity, because nearly every file is opened by that one.
func TestASiteBehindNginxIsApachesUnlessNginxOpensItsFiles(t *testing.T) {
	nginx := func(user, static string) files {
		return files{
			"etc/nginx/nginx.conf": "user " + user + ";\nhttp {\nserver {\nlisten 8080;\nserver_name alice.example cdn.alice.example;\nroot /home/alice/public_html;\n" +
				"location / {\nproxy_pass http://127.0.0.1:80;\n}\n" + static + "}\n}\n",
			"etc/passwd": plainFiles()["etc/passwd"] + "nginx:x:101:101::/nonexistent:/bin/false\n",
			"etc/group":  plainFiles()["etc/group"] + "nginx:x:101:\n",
		}
	}
	const static = "location ~* \\.(css|jpg)$ {\nexpires 1d;\n}\n"
	for _, c := range []struct {
		name, user, static string
		uid                uint32
		issues             []string
	}{
		{"proxy only", "nginx", "", 33, []string{}},
		{"static files too", "nginx", static, 101, []string{"two-servers  /etc/nginx/nginx.conf:3"}},
		{"static files by the same user", "www-data", static, 33, []string{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := read(t, server(t, plainFiles(), nginx(c.user, c.static)))
			alice := account(t, s, "alice").Sites
			want(t, "sites", len(alice), 1)
			want(t, "server and web", fmt.Sprint(alice[0].Server, " ", alice[0].Web.UID), fmt.Sprint("apache ", c.uid))
			want(t, "listen", alice[0].Listen, []string{"http://:80", "https://:443", "http://:8080"})
			want(t, "domains", alice[0].Domains, []string{"alice.example", "www.alice.example", "cdn.alice.example"})
			want(t, "issues", problems(s), c.issues)
		})
	}
}

func TestTwoServersThatWantOneAddressAreReported(t *testing.T) {
	fs := files{"etc/nginx/nginx.conf": "user www-data;\nhttp {\nserver {\nlisten 80;\nroot /var/www/html;\n}\n}\n"}
	want(t, "issues", problems(read(t, server(t, plainFiles(), fs))), []string{"two-servers  /etc/apache2/apache2.conf:0"})
}
