package policy

import (
	"slices"
	"strings"
	"testing"

	"rightful"
)

// The table of what cPanel makes, for each state of the server. Entries are "KIND OWNER:GROUP MODE [ACL] PATH".
const aclX = "user::rwx,group::r-x,group:12:--x,group:47:--x,group:50:--x,group:99:--x,group:201:--x,group:65535:--x,mask::r-x,other::---"

var cpanelCommon = []string{
	"d alice:alice 0700 .cpanel", "d alice:alice 0700 .cpanel/caches", "d alice:alice 0700 .cpanel/datastore",
	"f alice:alice 0600 .cpanel/datastore/quota", "f root:root 0644 .cpanel/x", "f alice:alice 0600 .lastlogin",
	"f alice:alice 0640 .contactemail", "f alice:mail 0640 .contactemail",
	"d alice:alice 0755 public_html/cgi-bin", "d alice:alice 0755 tmp", "f alice:alice 0600 tmp/sess_1",
	"f root:alice 0640 tmp/awstats/x", "d alice:alice 0750 public_ftp", "d alice:alice 0700 public_ftp/incoming",
	"d alice:mail 0750 etc", "d alice:mail 0750 etc/a.example",
	"f alice:mail 0640 etc/a.example/passwd", "f alice:mail 0640 etc/a.example/shadow", "f alice:mail 0640 etc/a.example/quota",
	"f alice:mail 0640 etc/a.example/passwd,v", "f alice:mail 0640 etc/a.example/shadow,v", "f alice:mail 0600 etc/a.example/shadow",
	"f alice:alice 0644 etc/ftpquota", "d alice:alice 0700 etc/webdav", "f alice:alice 0600 etc/webdav/passwd",
	"d alice:mail 0700 etc/a.example/@pwcache", "f alice:mail 0640 etc/a.example/@pwcache/bob",
	"d alice:alice 0751 mail", "d alice:alice 0751 mail/a.example/bob/cur", "d alice:alice 0770 mail/old",
	"f alice:alice 0640 mail/a.example/bob/cur/1:2,S", "f alice:alice 0660 mail/cur/1", "f alice:alice 0600 mail/cur/2",
	"f alice:alice 0644 mail/dovecot-uidlist", "f alice:alice 0644 mail/dovecot-uidvalidity.5f", "f alice:alice 0600 mail/dovecot-uidvalidity",
	"f alice:alice 0444 mail/a.example/bob/dovecot-uidvalidity.5f",
	"f alice:alice 0644 mail/a.example/bob/maildirsize", "f alice:alice 0644 mail/dovecot.index.log",
	"l alice:alice 0777 www", "l root:root 0777 access-logs", "l alice:alice 0777 mail/.bob@a_example", "d alice:alice 0700 logs",
	"f root:root 0644 logs/a.gz", "f alice:alice 0600 logs/b.gz",
	"d alice:alice 0755 ssl", "d alice:alice 0755 ssl/certs", "d alice:alice 0700 ssl/private", "d alice:alice 0700 ssl/keys",
	"f alice:alice 0640 ssl/keys/a.key", "f alice:alice 0640 ssl/private/a.key", "f alice:alice 0644 ssl/certs/a.crt",
	"f alice:alice 0600 ssl/ssl.db", "d alice:alice 0700 .ssh", "f alice:alice 0600 .ssh/authorized_keys", "f alice:alice 0600 .ssh/id_rsa",
	"f alice:alice 0644 .ssh/id_rsa.pub", "f alice:alice 0644 .ssh/known_hosts", "d alice:alice 0700 .trash",
	"d alice:alice 0775 .cagefs", "d alice:alice 0700 .cagefs/tmp", "d alice:alice 0777 .cagefs/var/cache", "d root:root 0755 .cagefs/x",
	"f alice:alice 0644 .bashrc", "f alice:alice 0600 .bash_history", "f alice:alice 0600 .my.cnf", "f alice:alice 0755 bin/backup",
	"d alice:alice 0555 go/pkg/mod/x", "f alice:alice 0444 go/pkg/mod/x/y.go", "f alice:alice 0000 odd", "d alice:alice 02775 shared",
	// Contents of document roots.
	"d alice:alice 0755 public_html/img", "d alice:nobody 0750 public_html/img", "d alice:alice 02755 public_html/team",
	"d alice:nobody 02750 public_html/downloads", "d alice:alice 0775 public_html/up", "d alice:alice 0711 public_html/x",
	"d alice:alice 0555 public_html/vendor/x", "d alice:nobody 0770 public_html/up",
	"d alice:alice 0770 user::rwx,user:99:rwx,group::r-x,mask::rwx,other::--- public_html/acl",
	"f alice:alice 0644 public_html/a.css", "f alice:alice 0664 public_html/a.css", "f alice:nobody 0640 public_html/a.pdf",
	"f alice:alice 0640 user::rw-,user:99:r--,group::r--,mask::r--,other::--- public_html/b.css",
	"f alice:alice 0755 public_html/a.js", "f alice:nobody 0644 public_html/index.html", "f alice:alice 0444 public_html/a.png",
	"f alice:alice 0644 public_html/index.php", "f alice:alice 0600 public_html/index.php", "f alice:alice 0400 public_html/x.php",
	"f alice:alice 0640 public_html/config.php", "f alice:alice 0755 public_html/deploy.sh", "f alice:alice 0600 public_html/backup.sql",
	"f alice:alice 0644 public_html/.htaccess", "f alice:nobody 0640 public_html/.htaccess",
	"f alice:alice 0600 public_html/.env", "f alice:alice 0644 public_html/.env",
	"f alice:alice 0644 public_html/wp-config.php", "f alice:alice 0600 public_html/wp-config.php",
	"f alice:alice 0640 public_html/wp-config.php", "f alice:alice 0400 public_html/wp-config.php",
	"f alice:alice 0644 public_html/error_log", "f alice:alice 0600 public_html/secret.json", "l alice:alice 0777 public_html/latest.jpg",
	"d alice:alice 0700 public_html/.git", "d alice:alice 0755 public_html/.git/objects/0a", "f alice:alice 0444 public_html/.git/objects/0a/1",
	"f alice:alice 0755 public_html/.git/hooks/x", "f alice:alice 0600 public_html/.git/x.js",
	"f alice:alice 0755 public_html/cgi-bin/a.cgi", "f alice:alice 0700 public_html/cgi-bin/a.pl", "f alice:nobody 0755 public_html/cgi-bin/run",
	"f alice:alice 0644 public_html/cgi-bin/Lib.pm", "f alice:alice 0600 public_html/cgi-bin/data.txt", "f alice:alice 0644 public_html/cgi-bin/.htaccess",
	"f alice:alice 0644 public_html/cgi-bin/error_log", "f alice:alice 0644 public_html/cgi-bin/img/a.gif",
	"f alice:nobody 0644 .htpasswds/passwd", "f alice:alice 0644 .htpasswds/public_html/passwd",
}

func TestHealthyCPanelAccountHasNoFindings(t *testing.T) {
	docroots := []string{"public_html", "public_html/blog", "sites/shop.example", "sites", ".htpasswds", ".htpasswds/public_html"}
	for _, tt := range []struct {
		facts         string
		home, docroot string
		more          []string
	}{
		{"fileprotect suexec", "alice:alice 0711", "alice:nobody 0750", []string{"d alice:alice 0755 sites"}},
		{"fileprotect suexec suphp", "alice:alice 0711", "alice:nobody 0750", nil},
		{"fileprotect itk", "alice:alice 0711", "alice:alice 0750", []string{"f alice:alice 0600 public_html/a.css"}},
		{"fileprotect ruid2", "alice:alice 0711", "alice:alice 0750", []string{"d alice:alice 0700 public_html/x"}},
		{"suexec", "alice:alice 0711", "alice:alice 0755", nil},
		{"acls fileprotect suexec", "alice:alice 0750 " + aclX, "alice:alice 0750 " + aclX, nil},
		{"fileprotect suexec dso", "alice:alice 0711", "alice:nobody 0750", []string{
			"f nobody:nobody 0644 public_html/up/a.jpg", "f nobody:nobody 0600 public_html/up/a.jpg", "f nobody:nobody 0600 tmp/sess_1",
			"d nobody:nobody 0755 public_html/up/2026", "d nobody:nobody 0700 public_html/cache", "f nobody:nobody 0600 public_html/config.php",
		}},
	} {
		t.Run(tt.facts, func(t *testing.T) {
			facts := strings.Fields(tt.facts)
			b := mustBind(t, mustLoad(t, "cpanel"), bindingOf(facts...))
			list := append([]string{"d " + tt.home + " ."}, tt.more...)
			for _, d := range docroots {
				list = append(list, "d "+tt.docroot+" "+d)
			}
			for _, e := range cpanelCommon {
				// These are made where they are right: not below suPHP, and not where mod_php must read them.
				suphp := slices.Contains(facts, "suphp") && (strings.Contains(e, " 0775 public_html") || strings.Contains(e, " 0770 "))
				dso := slices.Contains(facts, "dso") && strings.HasSuffix(e, ".php") && !strings.Contains(e, "wp-config") && !strings.Contains(e, " 0644 ")
				if !suphp && !dso {
					list = append(list, e)
				}
			}
			expectHealthy(t, b, list)
		})
	}
}

func expectHealthy(t *testing.T, b *Bound, list []string) {
	t.Helper()
	for _, e := range list {
		path, kind, m := parseEntry(t, e)
		r := ruleFor(b, path, kind)
		if r == nil {
			t.Errorf("%s: no rule", e)
			continue
		}
		if j := r.Judge(m, kind, false); !j.OK {
			t.Errorf("%s: %s wants %s (%+v)", e, r, metaString(j.Want), j)
		}
	}
}

func TestHealthyPlainAccountHasNoFindings(t *testing.T) {
	p := mustLoad(t, "plain")
	bd := bindingOf("suexec")
	list := []string{
		"d alice:alice 0711 .", "d alice:alice 0751 .", "d alice:alice 0755 .", "d alice:nobody 0750 .", "d alice:nobody 0710 .",
		"d alice:alice 0750 user::rwx,user:99:--x,group::r-x,mask::r-x,other::--- .",
		"d alice:alice 0710 user::rwx,group::---,group:99:--x,mask::--x,other::--- .",
		"d alice:nobody 0750 public_html", "d alice:alice 0755 public_html", "d alice:nobody 02750 public_html", "d alice:nobody 0770 public_html",
		"d alice:alice 0755 sites", "d alice:alice 0750 logs", "d alice:alice 0755 tmp", "d alice:alice 0700 private",
		"f alice:alice 0600 private/accounts 2024.ods", "d alice:alice 0700 Maildir", "d alice:alice 0700 Maildir/cur",
		"f alice:alice 0600 Maildir/cur/1:2,S", "f alice:alice 0444 Maildir/dovecot-uidvalidity.5f", "d alice:alice 0700 .ssh", "f alice:alice 0600 .ssh/authorized_keys",
		"f alice:alice 0644 .ssh/id_ed25519.pub", "f alice:alice 0600 .my.cnf", "f alice:alice 0644 .bashrc",
		"d alice:alice 0755 public_html/cgi-bin", "f alice:alice 0755 public_html/cgi-bin/hello.cgi", "f alice:alice 0644 public_html/a.css",
		"f alice:alice 0600 public_html/info.php", "f alice:alice 0600 public_html/.env", "f alice:nobody 0640 public_html/downloads/a.pdf",
		"d alice:nobody 02750 public_html/downloads", "f alice:alice 0644 public_html/.htaccess", "l alice:alice 0777 public_html/latest.jpg",
		"f alice:alice 0400 public_html/wp-config.php",
	}
	expectHealthy(t, mustBind(t, p, bd), list)

	t.Run("no site in the home", func(t *testing.T) {
		bd := bindingOf()
		bd.DocRoots = []string{"/srv/www/shop"}
		b := mustBind(t, p, bd)
		expectHealthy(t, b, []string{"d alice:alice 0700 .", "d alice:alice 0750 .", "d alice:nobody 0750 /srv/www/shop"})
	})
	t.Run("web server in the user's group", func(t *testing.T) {
		bd := bindingOf()
		bd.Web.GIDs = append(bd.Web.GIDs, alice)
		b := mustBind(t, p, bd)
		expectHealthy(t, b, []string{
			"d alice:alice 0750 .", "d alice:alice 0750 public_html", "d alice:alice 0750 public_html/img", "f alice:alice 0640 public_html/a.css",
		})
	})
}

func TestAccidentsAreRepairedByTheSmallestChange(t *testing.T) {
	for _, tt := range []struct{ facts, have, want, respects string }{
		// chown -R alice:alice over a document root: only the group of the root itself harms.
		{"", "d alice:alice 0750 public_html", "alice:nobody 0750", "group"},
		{"", "d alice:alice 0755 public_html", "alice:nobody 0750", "group open"},
		{"", "d alice:alice 0750 sites", "alice:nobody 0750", "group"},
		{"", "d alice:alice 02750 public_html/blog", "alice:nobody 2750", "group"},
		{"", "f alice:alice 0644 public_html/a.css", "", ""},
		// chmod -R 777.
		{"", "d alice:alice 0777 .", "alice:alice 0711", "open"},
		{"", "d alice:nobody 0777 public_html", "alice:nobody 0750", "open"},
		{"", "d alice:alice 0777 public_html/img", "alice:alice 0775", "open"},
		{"suphp", "d alice:alice 0777 public_html/img", "alice:alice 0755", "open"},
		{"", "f alice:alice 0777 public_html/a.css", "alice:alice 0775", "open"},
		{"", "f alice:alice 0777 public_html/.env", "alice:alice 0775", "open"},
		{"", "f alice:alice 0777 public_html/cgi-bin/a.cgi", "alice:alice 0755", "open"},
		{"", "f alice:mail 0777 etc/a.example/shadow", "alice:mail 0640", "open"},
		{"", "d alice:alice 0777 .ssh", "alice:alice 0700", "open"},
		{"", "f alice:alice 0777 .ssh/id_rsa", "alice:alice 0700", "open"},
		{"", "f alice:alice 0777 mail/cur/1", "alice:alice 0770", "open"},
		{"", "d alice:alice 0777 mail/cur", "alice:alice 0751", "open"},
		// chown -R root:root.
		{"", "d root:root 0711 .", "alice:alice 0711", "owner group"},
		{"", "d root:root 0750 public_html", "alice:nobody 0750", "owner group"},
		{"", "f root:root 0644 public_html/a.css", "alice:alice 0644", "owner group"},
		{"", "f root:root 0600 public_html/.env", "alice:alice 0600", "owner group"},
		{"", "f root:root 0755 public_html/cgi-bin/a.cgi", "alice:alice 0755", "owner group"},
		{"", "f root:root 0640 etc/a.example/shadow", "alice:mail 0640", "owner group"},
		{"", "f root:root 0640 mail/cur/1", "alice:alice 0640", "owner group"},
		{"", "l root:root 0777 public_html/latest.jpg", "alice:root 0777", "owner"},
		{"", "f root:root 0444 public_html/.git/objects/0a/1", "alice:alice 0444", "owner group"},
		{"", "f root:root 04755 public_html/tool", "alice:alice 0755", "owner group"},
		// chown to the web server, or PHP once inside it.
		{"", "f nobody:nobody 0644 public_html/up/a.jpg", "alice:nobody 0644", "owner"},
		{"dso", "f nobody:nobody 0644 public_html/up/a.jpg", "", ""},
		{"", "f alice:nobody 0640 mail/cur/1", "alice:alice 0640", "group"},
		{"", "d alice:alice 0750 etc", "alice:mail 0750", "group"},
		// chmod -R 0600 or 0644: search is lost.
		{"", "d alice:alice 0600 .", "alice:alice 0711", "closed"},
		{"", "d alice:nobody 0600 public_html", "alice:nobody 0710", "closed"},
		{"", "d alice:nobody 0644 public_html", "alice:nobody 0750", "open closed"},
		{"", "d alice:alice 0600 public_html/img", "alice:alice 0711", "closed"},
		{"", "d alice:alice 0644 public_html/img", "alice:alice 0755", "closed"},
		{"", "f alice:alice 0600 public_html/a.css", "alice:alice 0644", "closed"},
		{"", "f alice:alice 0600 public_html/.htaccess", "alice:alice 0644", "closed"},
		{"", "f alice:alice 0600 public_html/index.php", "", ""},
		{"dso", "f alice:alice 0600 public_html/index.php", "alice:alice 0644", "closed"},
		{"dso", "f alice:alice 0600 public_html/wp-config.php", "", ""},
		{"", "f alice:alice 0600 public_html/backup.sql", "", ""},
		{"", "f alice:mail 0600 etc/a.example/passwd", "alice:mail 0640", "closed"},
		{"", "f alice:mail 0600 etc/a.example/shadow", "", ""},
		{"", "d alice:alice 0600 mail/cur", "alice:alice 0751", "closed"},
		// Exec bits lost, or too much for suEXEC.
		{"", "f alice:alice 0644 public_html/cgi-bin/a.cgi", "alice:alice 0744", "closed"},
		{"", "f alice:alice 0644 public_html/x/a.cgi", "alice:alice 0744", "closed"},
		{"", "f alice:alice 0775 public_html/cgi-bin/a.cgi", "alice:alice 0755", "open"},
		{"", "f alice:alice 04755 public_html/cgi-bin/a.cgi", "alice:alice 0755", "open"},
		{"", "d alice:alice 0775 public_html/cgi-bin", "alice:alice 0755", "open"},
		{"", "f alice:alice 0644 public_html/cgi-bin/Lib.pm", "", ""},
		// Homes closed; ACLs lost where they are all that lets the server in.
		{"", "d alice:alice 0700 .", "alice:alice 0711", "closed"},
		{"acls", "d alice:alice 0750 .", "alice:alice 0750 " + aclX, "acl"},
		{"acls", "d alice:alice 0700 .", "alice:alice 0710 " + strings.NewReplacer("group::r-x", "group::---", "mask::r-x", "mask::--x").Replace(aclX), "acl"},
		// Secrets that others may read because the home lets them pass.
		{"", "f alice:alice 0644 .my.cnf", "alice:alice 0640", "open"},
		{"", "f alice:alice 0644 .ssh/id_rsa", "alice:alice 0600", "open"},
		{"", "f bob:bob 0644 public_html/index.php", "alice:alice 0644", "owner group"},
	} {
		b := mustBind(t, mustLoad(t, "cpanel"), bindingOf(append(strings.Fields(tt.facts), "fileprotect", "suexec")...))
		path, kind, have := parseEntry(t, tt.have)
		r := ruleFor(b, path, kind)
		if r == nil {
			t.Errorf("%s: no rule", tt.have)
			continue
		}
		j := r.Judge(have, kind, false)
		want := tt.want
		if want == "" {
			want = metaString(have)
		}
		if got := metaString(j.Want); got != want || j.OK != (tt.want == "") || respects(j) != tt.respects || j.Stuck != "" {
			t.Errorf("%s [%s]: %s wants %s because of %q (OK %v, stuck %q), not %s because of %q",
				tt.have, tt.facts, r, got, respects(j), j.OK, j.Stuck, want, tt.respects)
		}
		if again := r.Judge(j.Want, kind, false); !again.OK {
			t.Errorf("%s: the repair %s is not right: %+v", tt.have, metaString(j.Want), again)
		}
	}
}

func respects(j Judgement) string {
	var s []string
	for _, x := range []struct {
		is   bool
		name string
	}{{j.Owner, "owner"}, {j.Group, "group"}, {j.TooOpen, "open"}, {j.TooClosed, "closed"}, {j.ACL, "acl"}} {
		if x.is {
			s = append(s, x.name)
		}
	}
	return strings.Join(s, " ")
}

func TestEveryEmbeddedRuleSaysWhy(t *testing.T) {
	for _, panel := range Panels() {
		for _, r := range mustLoad(t, panel).Rules() {
			if r.Title == "" || r.Line == 0 || !slices.Contains(Panels(), strings.TrimSuffix(r.File, ".toml")) || len(r.Paths) == 0 || len(r.Kinds) == 0 || len(r.Alternatives) == 0 {
				t.Errorf("%+v", r)
			}
			if strings.HasPrefix(r.Name, "content") && slices.Contains(r.Kinds, rightful.KindSymlink) != (r.Name == "content-links") {
				t.Errorf("%s is about %v", r.Name, r.Kinds)
			}
		}
	}
}
