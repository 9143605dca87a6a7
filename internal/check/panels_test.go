package check

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"rightful/internal/panel"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
)

// A hosted is a server of one panel, whole: its files, and the home of its account as the panel makes it.
type hosted struct {
	panel, files, homes string
	// accident are lines that take the place of those of the same paths; findings is what check must say then, as "path problem want".
	accident string
	findings []string
}

// open builds it and reads who lives there.
func (h *hosted) open(t *testing.T) Options {
	t.Helper()
	dir := t.TempDir()
	base := "d 0755 0:0 etc\nd 0755 0:0 home\nd 0755 0:0 var\nd 0755 0:0 usr\nd 0755 0:0 usr/local\nd 0755 0:0 var/www\n" +
		`f 0644 0:0 etc/nsswitch.conf = "passwd: files\n"` + "\n"
	treetest.Build(t, dir, base+h.files+h.homes)
	s, err := tree.OpenServer(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	w, err := panel.Read(s, panel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(w.Panels, []string{h.panel}) || len(w.Accounts) == 0 {
		t.Fatalf("panels %q, accounts %v; issues %v", w.Panels, w.Accounts, w.Issues)
	}
	return Options{Server: s, World: w}
}

func dirs(names ...string) (spec string) {
	for _, n := range names {
		spec += "d 0755 0:0 " + n + "\n"
	}
	return spec
}

func text(name, body string) string {
	return fmt.Sprintf("f 0644 0:0 %s = %q\n", name, body)
}

func ids(passwd, group string) string {
	return text("etc/passwd", "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\nnobody:x:65534:65534::/:/bin/false\n"+passwd) +
		text("etc/group", "root:x:0:\nmail:x:8:\nwww-data:x:33:\nnogroup:x:65534:\n"+group)
}

const apacheMain = "User www-data\nGroup www-data\nListen 80\nIncludeOptional sites/*.conf\n"

func apacheHost(name, root string) string {
	return fmt.Sprintf("<VirtualHost *:80>\nServerName %s\nDocumentRoot %s\n</VirtualHost>\n", name, root)
}

func hostedPanels() []hosted {
	vesta := func(panel, dir, more string) hosted {
		return hosted{
			panel: panel,
			files: ids("alice:x:20001:20001::/home/alice:/bin/sh\n", "alice:x:20001:\n") +
				dirs("usr/local/"+dir, "usr/local/"+dir+"/data", "usr/local/"+dir+"/data/users", "usr/local/"+dir+"/data/users/alice", "usr/local/"+dir+"/bin", "etc/apache2") + more +
				text("usr/local/"+dir+"/data/users/alice/user.conf", "NAME='alice'\nSUSPENDED='no'\n") +
				text("usr/local/"+dir+"/data/users/alice/web.conf", "DOMAIN='a.example' CUSTOM_DOCROOT='' ALIAS='' SUSPENDED='no'\n") +
				text("etc/apache2/apache2.conf", apacheMain+apacheHost("a.example", "/home/alice/web/a.example/public_html")),
			homes: `
	d 0711 20001:20001 home/alice
	d 0755 0:0 home/alice/conf
	d 0751 0:0 home/alice/conf/web
	f 0640 0:20001 home/alice/conf/web/a.conf
	d 0751 0:20001 home/alice/web
	d 0551 20001:20001 home/alice/web/a.example
	d 0551 20001:20001 home/alice/web/a.example/logs
	d 0751 20001:33 home/alice/web/a.example/public_html
	f 0644 20001:20001 home/alice/web/a.example/public_html/index.html
	f 0600 20001:20001 home/alice/web/a.example/public_html/config.php
	d 0700 20001:20001 home/alice/tmp
	d 0751 20001:20001 home/alice/mail
	d 0770 20001:8 home/alice/mail/a.example
	d 0700 20001:8 home/alice/mail/a.example/info
`,
			// Somebody gave all of it to alice, and closed what the web server passes through.
			accident: `
	d 0751 20001:20001 home/alice/web
	f 0640 20001:20001 home/alice/conf/web/a.conf
	d 0500 20001:20001 home/alice/web/a.example
	d 0770 20001:20001 home/alice/mail/a.example
`,
			findings: []string{
				"conf/web/a.conf wrong-owner 0:20001 0640", "mail/a.example wrong-group 20001:8 0770", "web wrong-owner 0:20001 0751", "web/a.example too-closed 20001:20001 0511",
			},
		}
	}
	lsHost := "docRoot $VH_ROOT/public_html\nvhDomain $VH_NAME\nextprocessor alice {\nextUser alice\nextGroup alice\n}\n"
	return []hosted{
		vesta("hestia", "hestia", ""),
		vesta("vesta", "vesta", ""),
		vesta("myvesta", "vesta", text("usr/local/vesta/bin/v-fix-website-permissions", "")),
		{
			panel: "ispconfig",
			files: ids("web7:x:20007:20003::/var/www/clients/client3/web7:/bin/false\n", "client3:x:20003:www-data\n") +
				dirs("usr/local/ispconfig", "usr/local/ispconfig/server", "usr/local/ispconfig/server/lib", "var/www/clients", "var/www/clients/client3", "etc/apache2") +
				text("usr/local/ispconfig/server/lib/config.inc.php", "<?php\n$conf['db_user'] = 'ispconfig';\n") +
				text("etc/apache2/apache2.conf", apacheMain+apacheHost("a.example", "/var/www/clients/client3/web7/web")),
			homes: `
	d 0755 0:0 var/www/clients/client3/web7
	d 0711 20007:20003 var/www/clients/client3/web7/web
	f 0644 20007:20003 var/www/clients/client3/web7/web/index.html
	d 0755 20007:20003 var/www/clients/client3/web7/web/protected
	f 0751 20007:20003 var/www/clients/client3/web7/web/protected/.htaccess
	d 0710 20007:20003 var/www/clients/client3/web7/private
	d 0770 20007:20003 var/www/clients/client3/web7/tmp
	d 0755 0:0 var/www/clients/client3/web7/ssl
	f 0400 0:0 var/www/clients/client3/web7/ssl/a.example.key
	d 0755 0:20003 var/www/clients/client3/web7/log
`,
			accident: `
	d 0755 20007:20003 var/www/clients/client3/web7
	d 0700 20007:20003 var/www/clients/client3/web7/web
	f 0400 20007:20003 var/www/clients/client3/web7/ssl/a.example.key
`,
			findings: []string{". wrong-owner 0:20003 0755", "ssl/a.example.key wrong-owner 0:20003 0400", "web too-closed 20007:20003 0711"},
		},
		{
			panel: "cyberpanel",
			files: ids("alice:x:20001:20001::/home/a.example:/bin/sh\n", "alice:x:20001:\n") +
				dirs("usr/local/CyberCP", "usr/local/lsws", "usr/local/lsws/conf", "usr/local/lsws/conf/vhosts", "usr/local/lsws/conf/vhosts/a.example") +
				text("usr/local/lsws/conf/httpd_config.conf", "user nobody\ngroup nogroup\nvirtualHost a.example {\nvhRoot /home/$VH_NAME\nconfigFile $SERVER_ROOT/conf/vhosts/$VH_NAME/vhost.conf\n}\n") +
				text("usr/local/lsws/conf/vhosts/a.example/vhost.conf", lsHost),
			homes: `
	d 0711 20001:20001 home/a.example
	d 0750 20001:65534 home/a.example/public_html
	f 0644 20001:20001 home/a.example/public_html/index.html
	d 0755 20001:20001 home/a.example/public_html/img
	d 0750 0:65534 home/a.example/logs
	d 0755 20001:20001 home/a.example/backup
	f 0600 20001:20001 home/a.example/backup/b.tar.gz
`,
			// A restore from another server: the web server's group is not there.
			accident: "d 0750 20001:20001 home/a.example/public_html\nd 0755 0:0 home/a.example/public_html/img\n",
			findings: []string{"public_html wrong-group 20001:65534 0750", "public_html/img wrong-owner 20001:20001 0755"},
		},
		{
			panel: "cloudpanel",
			files: ids("alice:x:20001:20001::/home/alice:/bin/sh\n", "alice:x:20001:www-data\n") +
				dirs("home/clp", "home/clp/htdocs", "home/clp/htdocs/app", "etc/nginx") +
				text("etc/nginx/nginx.conf", "user www-data;\nhttp {\nserver {\nlisten 80;\nserver_name a.example;\nroot /home/alice/htdocs/a.example;\nindex index.html;\n}\n}\n"),
			homes: `
	d 0770 20001:20001 home/alice
	d 0770 20001:20001 home/alice/htdocs
	d 0770 20001:20001 home/alice/htdocs/a.example
	f 0660 20001:20001 home/alice/htdocs/a.example/index.html
	d 0770 20001:20001 home/alice/logs
`,
			accident: "d 0770 0:0 home/alice/htdocs/a.example\nd 0700 20001:20001 home/alice/htdocs\n",
			findings: []string{"htdocs too-closed 20001:20001 0710", "htdocs/a.example wrong-owner 20001:20001 0770"},
		},
	}
}

// A healthy account as its panel makes it has no finding; after an accident check says exactly what is wrong and what it
// should be. The servers of DirectAdmin, Virtualmin and Plesk, and one more of HestiaCP, are real ones: internal/replay.
func TestAccountsOfEveryPanelAreHealthyAsThePanelMakesThem(t *testing.T) {
	treetest.NeedRoot(t)
	for _, h := range hostedPanels() {
		t.Run(h.panel, func(t *testing.T) {
			healthy := reports(t, h.open(t))[0]
			for _, f := range healthy.Findings {
				t.Errorf("healthy, but %s %s: want %v (%s)", f.Path, f.Problem, f.Want, f.Rule)
			}
			for _, v := range healthy.Now {
				// Of LiteSpeed nothing is certain.
				if v.State != "ok" && (h.panel != "cyberpanel" || v.State != "unknown" || v.Status != 200) {
					t.Errorf("healthy, but site %s is %s: %s %s", v.Site, v.State, v.Why, v.Culprit)
				}
			}
			h.replace()
			r := reports(t, h.open(t))[0]
			home := r.Account.Home
			var got []string
			for _, f := range r.Findings {
				rel := strings.TrimPrefix(strings.TrimPrefix(f.Path, home), "/")
				if rel == "" {
					rel = "."
				}
				want := "left alone"
				if f.Want != nil {
					want = fmt.Sprintf("%d:%d %s", f.Want.UID, f.Want.GID, f.Want.Mode)
				}
				got = append(got, fmt.Sprintf("%s %s %s", rel, f.Problem, want))
			}
			slices.Sort(got)
			if diff := cmp.Diff(h.findings, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// replace puts the accident's lines in the places of the same paths.
func (h *hosted) replace() {
	lines := strings.Split(h.homes, "\n")
	for bad := range strings.SplitSeq(h.accident, "\n") {
		f := strings.Fields(bad)
		for i, l := range lines {
			if g := strings.Fields(l); len(f) > 3 && len(g) > 3 && f[3] == g[3] {
				lines[i] = bad
			}
		}
	}
	h.homes = strings.Join(lines, "\n")
}
