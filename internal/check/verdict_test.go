package check

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/tree/treetest"
)

// The state of a site follows from the first thing that decides its front page, and the finding that is to blame has the
// effect and names the site. Every case is one line on top of alice's healthy home.
func TestTheStateOfASiteFollowsFromWhatDecidesItsFrontPage(t *testing.T) {
	treetest.NeedRoot(t)
	const fpm = ""
	dso := `AddType application/x-httpd-php .php\n`
	const cgi = `ScriptAlias /cgi-bin/ /home/alice/public_html/cgi-bin/\n`
	for _, tt := range []struct {
		name, spec string
		host       string // of the virtual host's configuration
		want       string // STATE STATUS BLOCKED CULPRIT, the culprit below the home
		finding    string // EFFECT PROBLEM PATH of the finding to blame, "" for none at all
	}{
		{"healthy", "", fpm, "ok 200 0 ", ""},
		{"home shut", "d 0700 20001:20001 home/alice", fpm, "down 403 3 .", "down too-closed ."},
		{"home open to the web server's group", "d 0710 20001:33 home/alice", fpm, "ok 200 0 ", ""},
		{"document root without the web server's group", "d 0750 20001:20001 home/alice/public_html", fpm, "down 403 3 public_html", "down wrong-group public_html"},
		{"an ACL lets the web server in", "d 0750 20001:20001 home/alice/public_html acl=user::rwx,user:33:--x,group::r-x,mask::r-x,other::---", fpm, "ok 200 0 ", ""},
		{"the ACL's mask keeps it out", "d 0700 20001:20001 home/alice/public_html acl=user::rwx,user:33:--x,group::r-x,mask::---,other::---", fpm, "down 403 3 public_html", "down wrong-group public_html"},
		{"an ACL entry for the web server's user bars it, whatever others may", "d 0755 20001:20001 home/alice/public_html acl=user::rwx,user:33:---,group::r-x,mask::r-x,other::r-x", fpm, "down 403 3 public_html", "down closed-to-server public_html"},
		{"page shut", "f 0600 20001:20001 home/alice/public_html/page.html", fpm, "broken 200 1 public_html/page.html", "broken too-closed public_html/page.html"},
		{"directory shut", "d 0700 20001:20001 home/alice/public_html/sub", fpm, "broken 200 1 public_html/sub/deep.html", "broken too-closed public_html/sub"},
		{"index shut", "f 0600 20001:20001 home/alice/public_html/index.html", fpm, "down 403 1 public_html/index.html", "down too-closed public_html/index.html"},
		{"the first index that exists decides, readable or not", "f 0600 20001:20001 home/alice/public_html/index.html\nf 0644 20001:20001 home/alice/public_html/index.php", fpm, "down 403 1 public_html/index.html", "down too-closed public_html/index.html"},
		{".htaccess shut bars all beneath", "f 0600 20001:20001 home/alice/public_html/.htaccess", fpm, "down 403 3 public_html/.htaccess", "down too-closed public_html/.htaccess"},
		{".htaccess shut further down bars only that", "f 0600 20001:20001 home/alice/public_html/sub/.htaccess", fpm, "broken 200 1 public_html/sub/deep.html", "broken too-closed public_html/sub/.htaccess"},
		{".htaccess that leads nowhere is as good as none", "l 0777 20001:20001 home/alice/public_html/.htaccess -> nowhere", fpm, "ok 200 0 ", ""},
		{"a secret that nobody serves", "f 0600 20001:20001 home/alice/public_html/.env\nf 0600 20001:20001 home/alice/public_html/wp-config.php", fpm, "ok 200 0 ", ""},
		{"PHP reads as the account", "f 0600 20001:20001 home/alice/public_html/b.php", fpm, "ok 200 0 ", ""},
		{"mod_php reads as the web server", "f 0600 20001:20001 home/alice/public_html/b.php", dso, "broken 200 1 public_html/b.php", "broken too-closed public_html/b.php"},
		{"PHP cannot read root's script", "f 0600 0:0 home/alice/public_html/b.php", fpm, "broken 200 1 public_html/b.php", "broken root-owned-unproven public_html/b.php"},
		{"CGI as the web server lacks exec", "d 0755 20001:20001 home/alice/public_html/cgi-bin\nf 0644 20001:20001 home/alice/public_html/cgi-bin/run", cgi, "broken 200 1 public_html/cgi-bin/run", "broken too-closed public_html/cgi-bin/run"},
		{"suEXEC refuses what others may write", "d 0755 20001:20001 home/alice/public_html/cgi-bin\nf 0777 20001:20001 home/alice/public_html/cgi-bin/run", cgi + `SuexecUserGroup alice alice\n`, "broken 200 1 public_html/cgi-bin/run", "broken too-open public_html/cgi-bin/run"},
		{"locked", "d 0000 20001:33 home/alice/public_html", fpm, "down 403 3 public_html", "down locked-by-admin public_html"},
		{"a link of somebody else's is followed as the server would", "l 0777 20001:20001 home/alice/public_html/index.htm -> page.html", fpm, "ok 200 0 ", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := world(t, healthy+"\n"+tt.spec, "alice")
			if tt.host != fpm {
				o = worldOf(t, `LoadModule php_module x\nLoadModule suexec_module x\n`, tt.host, healthy+"\n"+tt.spec, "alice")
			}
			r := reports(t, o)[0]
			below := func(p string) string {
				if p == "/home/alice" {
					return "."
				}
				return strings.TrimPrefix(p, "/home/alice/")
			}
			v := r.Now[0]
			if got := strings.Join([]string{string(v.State), strconv.Itoa(v.Status), strconv.Itoa(v.Blocked), below(v.Culprit)}, " "); got != tt.want {
				t.Errorf("the site is %q (%s), want %q", got, v.Why, tt.want)
			}
			var found []string
			for _, f := range r.Findings {
				found = append(found, strings.Join([]string{string(f.Effect), string(f.Problem), below(f.Path)}, " "))
				harms := f.Effect == rightful.EffectDown || f.Effect == rightful.EffectBroken
				if harms != slices.Equal(f.Sites, []string{"alice.example"}) {
					t.Errorf("%s names the sites %q", found[len(found)-1], f.Sites)
				}
			}
			if tt.finding == "" && len(found) > 0 || tt.finding != "" && !slices.Contains(found, tt.finding) {
				t.Errorf("findings %q, want %q", found, tt.finding)
			}
		})
	}
}
