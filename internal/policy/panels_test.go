package policy

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"rightful"
)

// A panelCase is what a panel makes of an account, by its documents or its source, and what its own tools do wrong.
type panelCase struct {
	panel    string
	home     string
	web      rightful.Identity
	groups   map[string]uint32 // groups of the panel
	facts    []string
	docroots []string
	nested   []Nested
	// healthy are entries that a healthy account has. remade are those that the panel's own tools set when they are run
	// again; they must be right for us as well.
	healthy, remade []string
	// accidents are "HAVE -> WANT": what the panel's tool or a clumsy hand makes, and the repair of it.
	accidents [][2]string
}

func (c *panelCase) bind(t *testing.T, facts ...string) *Bound {
	b := bindingOf(append(slices.Clone(c.facts), facts...)...)
	b.Home, b.Bases, b.DocRoots, b.CGIDirs, b.Web, b.Nested = c.home, []string{c.home}, nil, nil, c.web, c.nested
	if b.Home == "" {
		b.Home, b.Bases = "/home/alice", []string{"/home/alice"}
	}
	for _, d := range c.docroots {
		b.DocRoots = append(b.DocRoots, b.Home+"/"+d)
	}
	look := func(n string) (uint32, bool) {
		if id, ok := c.groups[n]; ok {
			return id, true
		}
		return lookup(n)
	}
	b.GroupID, b.UserID = look, look
	return mustBind(t, mustLoad(t, c.panel), b)
}

// entry reads an entry as parseEntry does, with the panel's own names and home.
func (c *panelCase) entry(t *testing.T, s string) (path string, kind rightful.Kind, m rightful.Meta) {
	for name, id := range c.groups {
		for _, sep := range []string{":" + name + " ", " " + name + ":"} {
			s = strings.Replace(s, sep, strings.Replace(sep, name, "#", 1), 1)
			s = strings.Replace(s, "#", strconv.Itoa(int(id)), 1)
		}
	}
	path, kind, m = parseEntry(t, s)
	if c.home != "" {
		if rest, ok := strings.CutPrefix(path, "/home/alice"); ok {
			path = c.home + rest
		}
	}
	return path, kind, m
}

func (c *panelCase) run(t *testing.T, facts ...string) {
	b := c.bind(t, facts...)
	for _, e := range append(slices.Clone(c.healthy), c.remade...) {
		path, kind, m := c.entry(t, e)
		r := ruleFor(b, path, kind)
		if r == nil {
			t.Errorf("%s: no rule", e)
			continue
		}
		if j := r.Judge(m, kind, false); !j.OK {
			t.Errorf("%s: %s wants %s (%+v)", e, r, metaString(j.Want), j)
		}
	}
	for _, a := range c.accidents {
		path, kind, m := c.entry(t, a[0])
		r := ruleFor(b, path, kind)
		if r == nil {
			t.Errorf("%s: no rule", a[0])
			continue
		}
		j := r.Judge(m, kind, false)
		_, _, want := c.entry(t, a[0][:2]+a[1]+" .")
		if j.OK || !j.Want.Equal(want) {
			t.Errorf("%s: %s makes it %s, not %s", a[0], r, metaString(j.Want), a[1])
		}
		// What a repair made is right, or the next run would change it again.
		if again := r.Judge(j.Want, kind, false); !again.OK {
			t.Errorf("%s: the repair %s is not right itself: %+v", a[0], metaString(j.Want), again)
		}
	}
}

func TestDirectAdminAgreesWithItsOwnSetPermissions(t *testing.T) {
	c := panelCase{
		panel: "directadmin", web: rightful.Identity{UID: 48, GIDs: []uint32{48, 900}},
		groups:   map[string]uint32{"apache": 48, "access": 900},
		docroots: []string{"domains/a.example/public_html", "domains/a.example/public_html/blog", "domains/b.example/public_html"},
		healthy: []string{
			"d alice:alice 0711 .", "f alice:mail 0640 .shadow", "d alice:alice 0711 domains", "d alice:alice 0711 domains/a.example",
			"d alice:alice 0755 domains/default", "l root:root 0777 public_html", "l alice:alice 0777 domains/a.example/private_html",
			"d alice:alice 0755 domains/a.example/logs", "f root:root 0644 domains/a.example/logs/Oct-2026.tar.gz",
			"d alice:alice 0755 domains/a.example/.htpasswd", "f alice:alice 0644 domains/a.example/.htpasswd/public_html/.htpasswd",
			"d alice:alice 0700 backups", "f alice:alice 0600 backups/backup-1.tar.zst", "d alice:alice 0711 user_backups", "f alice:alice 0755 user_backups/user.bob.tar.gz",
			"d alice:mail 0770 imap", "d alice:mail 0770 imap/a.example/info/Maildir/cur", "f alice:mail 0660 imap/a.example/info/Maildir/cur/1",
			"d alice:mail 0770 Maildir", "f alice:mail 0660 Maildir/cur/1", "d alice:mail 0770 .trash", "d alice:mail 0771 .spamassassin",
			"f alice:mail 0660 .spamassassin/user_prefs", "d alice:alice 0755 domains/a.example/public_html/img",
			"f alice:alice 0755 domains/a.example/public_html/x.cgi", "f alice:alice 0600 domains/a.example/public_html/config.php",
			"f alice:alice 0640 imap/a.example/info/dovecot.index.log", "f alice:mail 0444 imap/a.example/info/Maildir/dovecot-uidvalidity.5f",
		},
		accidents: [][2]string{
			{"d root:root 0711 .", "alice:alice 0711"},
			{"d alice:alice 0770 imap/a.example", "alice:mail 0770"},
			{"f alice:mail 0644 .shadow", "alice:mail 0640"},
			{"d alice:alice 0755 backups", "alice:alice 0700"},
			{"d alice:alice 0700 domains", "alice:alice 0711"},
			{"f alice:alice 0644 imap/a.example/info/Maildir/cur/1", "alice:alice 0640"},
		},
	}
	open := c
	open.healthy = append(slices.Clone(c.healthy), "d alice:alice 0755 domains/a.example/public_html", "d alice:alice 0755 domains/a.example/public_html/blog")
	// set_permissions.sh domaindirs, on a script: the exec bit is gone, and that is what breaks.
	open.accidents = append(slices.Clone(c.accidents), [2]string{"f alice:alice 0644 domains/a.example/public_html/x.cgi", "alice:alice 0744"},
		[2]string{"d alice:alice 0750 domains/a.example/public_html", "alice:apache 0750"})
	t.Run("open", func(t *testing.T) { open.run(t, "suexec") })
	shut := c
	shut.healthy = append(slices.Clone(c.healthy), "d alice:access 0750 domains/a.example/public_html", "d alice:access 0750 .", "d alice:alice 0755 domains/b.example/public_html")
	// A script that knows no access group: chown -R alice:alice.
	shut.accidents = append(slices.Clone(c.accidents), [2]string{"d alice:alice 0750 domains/a.example/public_html", "alice:access 0750"})
	t.Run("secure_access_group", func(t *testing.T) { shut.run(t, "suexec", "access-group") })
}

func TestHestiaIsRightAsAddedAndAsRebuilt(t *testing.T) {
	c := panelCase{
		web: rightful.Identity{UID: 33, GIDs: []uint32{33}},
		groups: map[string]uint32{
			"www-data": 33, "bind": 115, "Debian-exim": 116, "dovecot": 117,
		},
		docroots: []string{"web/a.example/public_html", "web/b.example/public_html/app/public"},
		healthy: []string{
			"d alice:alice 0711 .", "d alice:alice 0755 .", "d alice:alice 0755 user::rwx,user:20001:r-x,group::r-x,group:1002:---,mask::r-x,other::r-x .",
			"d root:root 0755 conf", "d root:root 0751 conf/web", "d root:root 0751 conf/web/a.example", "f root:alice 0640 conf/web/a.example/apache2.conf",
			"d root:bind 0771 conf/dns", "d bind:bind 0771 conf/dns", "d root:root 0755 conf/mail", "d Debian-exim:mail 0771 conf/mail/a.example",
			"f Debian-exim:mail 0660 conf/mail/a.example/aliases", "f dovecot:mail 0660 conf/mail/a.example/passwd", "l root:root 0777 conf/web/a.example/nginx.ssl.conf",
			"d root:alice 0751 web", "d alice:alice 0551 web/a.example", "d alice:www-data 0755 web/a.example/public_html",
			"d alice:alice 0751 web/a.example/private", "d alice:alice 0751 web/a.example/document_errors", "d alice:alice 0551 web/a.example/stats",
			"d alice:alice 0551 web/a.example/logs", "l root:root 0777 web/a.example/logs/a.example.log", "d alice:alice 0700 tmp",
			"d alice:alice 0751 mail", "d root:root 0751 mail", "d alice:mail 0770 mail/a.example", "d alice:mail 0700 mail/a.example/info",
			"d alice:mail 0700 mail/a.example/info/cur", "f alice:mail 0600 mail/a.example/info/cur/1", "f alice:mail 0444 mail/a.example/info/dovecot-uidvalidity.5f", "d alice:alice 0755 web/a.example/public_html/img",
			"f alice:alice 0644 web/a.example/public_html/a.css", "f alice:alice 0600 web/a.example/public_html/wp-config.php",
			"d alice:www-data 0755 web/b.example/public_html", "d alice:alice 0755 web/b.example/public_html/app",
		},
		// v-rebuild-user, v-rebuild-web-domains, v-rebuild-mail-domains.
		remade: []string{
			"d root:root 0751 conf/mail", "d alice:alice 0751 web/a.example", "d alice:www-data 0751 web/a.example/public_html", "d alice:alice 0771 tmp",
			"d alice:alice 0751 web/a.example/stats", "d alice:alice 0751 web/a.example/logs", "d root:alice 0751 web", "d alice:mail 0770 mail/a.example",
		},
		accidents: [][2]string{
			// chown -R alice:alice /home/alice: what only root may write is the customer's.
			{"d alice:alice 0751 web", "root:alice 0751"},
			{"d alice:alice 0751 conf/web", "root:alice 0751"},
			{"f alice:alice 0640 conf/web/a.example/apache2.conf", "root:alice 0640"},
			{"d alice:alice 0770 mail/a.example", "alice:mail 0770"},
			{"d alice:alice 0700 mail/a.example/info", "alice:mail 0700"},
			// A document root that lost its group, and is closed to others.
			{"d alice:alice 0750 web/a.example/public_html", "alice:www-data 0750"},
			// The skeleton's chmod: directories got 0644.
			{"d alice:alice 0644 web/a.example", "alice:alice 0555"},
		},
	}
	for _, panel := range []string{"hestia", "vesta", "myvesta"} {
		c := c
		c.panel = panel
		t.Run(panel, func(t *testing.T) { c.run(t) })
		t.Run(panel+" jailed", func(t *testing.T) {
			c := c
			c.healthy = append(slices.Clone(c.healthy), "d root:root 0751 .", "d root:root 0755 .")
			c.run(t, "sftp-jail")
		})
		t.Run(panel+" home given to root", func(t *testing.T) {
			c := c
			c.accidents = [][2]string{{"d root:root 0755 .", "alice:alice 0755"}}
			c.run(t)
		})
		t.Run(panel+" DOMAINDIR_WRITABLE", func(t *testing.T) {
			c := c
			c.healthy = []string{"d alice:alice 0751 web/a.example"}
			c.remade = c.healthy
			c.accidents = [][2]string{{"d alice:alice 0551 web/a.example", "alice:alice 0751"}}
			c.run(t, "domaindir-writable")
		})
	}
	// v-fix-website-permissions on a website whose scripts were 0644, and one whose index.php root made.
	c.panel = "myvesta"
	c.healthy = []string{"d alice:alice 0755 web/a.example/public_html/x", "f alice:alice 0600 web/a.example/public_html/x/index.php", "f alice:alice 0644 web/a.example/public_html/x/a.css"}
	c.accidents = [][2]string{
		{"f root:root 0644 web/a.example/public_html/index.php", "alice:alice 0644"},
		{"f alice:alice 0644 web/a.example/public_html/x.cgi", "alice:alice 0744"}, // the fixer took the exec bit
	}
	t.Run("v-fix-website-permissions", func(t *testing.T) { c.run(t, "suexec") })
}

func TestVirtualminGivesMailboxesBackToTheirOwnUsers(t *testing.T) {
	c := panelCase{
		panel: "virtualmin", web: rightful.Identity{UID: 33, GIDs: []uint32{33, alice}},
		groups:   map[string]uint32{"www-data": 33, "info": 20101, "bobx": 20102, "bobby": 20103, "subinfo": 20104},
		docroots: []string{"public_html", "domains/sub.a.example/public_html"},
		nested: []Nested{
			{"/home/alice/homes/info", 20101, alice},
			{"/home/alice/homes/bob", 20102, alice},
			{"/home/alice/homes/bobby", 20103, alice},
			{"/home/alice/domains/sub.a.example/homes/info", 20104, alice},
		},
		healthy: []string{
			"d alice:alice 0750 .", "d alice:alice 0750 public_html", "d alice:alice 0750 cgi-bin", "d alice:alice 0750 logs", "f root:root 0644 logs/access_log",
			"l root:root 0777 logs/error_log", "d alice:alice 0755 homes", "d info:alice 0700 homes/info", "d info:alice 0755 homes/info/Maildir/cur",
			"f info:alice 0600 homes/info/Maildir/cur/1", "d bobby:alice 0755 homes/bobby", "d subinfo:alice 0700 domains/sub.a.example/homes/info",
			"d alice:alice 0755 domains", "d alice:alice 0750 domains/sub.a.example", "d alice:alice 0750 domains/sub.a.example/public_html",
			"f alice:alice 0700 ssl.key", "f alice:alice 0700 ssl.cert", "d alice:alice 0700 .virtualmin-backup", "d alice:alice 0750 tmp",
			"d alice:alice 0755 fcgi-bin", "d alice:alice 0755 etc", "f alice:alice 0640 public_html/a.css",
		},
		// fix-domain-permissions on the standard directories, and on a server where the modes are 0711 and 0755.
		remade: []string{"d alice:alice 0711 .", "d alice:alice 0755 public_html", "d alice:alice 0750 public_html"},
		accidents: [][2]string{
			// chown -R alice:alice /home/alice, and fix-domain-permissions without --subservers: mailboxes are alice's.
			{"d alice:alice 0700 homes/info", "info:alice 0700"},
			{"f alice:alice 0600 homes/info/Maildir/cur/1", "info:alice 0600"},
			{"d alice:alice 0700 domains/sub.a.example/homes/info", "subinfo:alice 0700"},
			// It skips homes/bobby because homes/bob is a mailbox: root keeps what it made there.
			{"f root:root 0644 homes/bobby/Maildir/cur/1", "bobby:alice 0644"},
			{"f bobx:alice 0600 homes/bobby/Maildir/cur/1", "bobby:alice 0600"},
			{"d alice:alice 0700 .", "alice:alice 0710"},
			{"d root:root 0750 public_html", "alice:alice 0750"},
		},
	}
	t.Run("the web server in the group", func(t *testing.T) { c.run(t, "suexec", "web-in-group") })
	c.web = rightful.Identity{UID: 33, GIDs: []uint32{33}}
	c.healthy, c.remade = nil, c.remade[:2]
	c.accidents = [][2]string{
		{"d alice:alice 0750 .", "alice:alice 0751"}, {"d alice:alice 0700 .", "alice:alice 0711"}, {"d alice:alice 0750 public_html", "alice:www-data 0750"},
	}
	t.Run("the web server not in the group", func(t *testing.T) { c.run(t, "suexec") })
}

func TestPleskKeepsTheGroupOfADocumentRootApartFromThatOfItsContents(t *testing.T) {
	c := panelCase{
		panel: "plesk", home: "/var/www/vhosts/a.example", web: rightful.Identity{UID: 33, GIDs: []uint32{33, 1004}},
		groups:   map[string]uint32{"www-data": 33, "psaserv": 1004, "anna": 20301},
		docroots: []string{"httpdocs", "b.example", "sub.a.example", "app/public"},
		nested:   []Nested{{"/var/www/vhosts/a.example/web_users/anna", 20301, alice}},
		healthy: []string{
			"d alice:psaserv 0755 .", "d alice:psaserv 0710 .", "d alice:psaserv 0750 httpdocs", "d alice:psaserv 0750 b.example", "d alice:psaserv 0750 sub.a.example",
			"d alice:alice 0755 app", "d alice:alice 0755 httpdocs/cgi-bin", "d alice:psaserv 0755 httpdocs/cgi-bin", "d alice:alice 0755 error_docs",
			"f alice:alice 0644 error_docs/not_found.html", "d alice:psaserv 0750 anon_ftp", "d alice:root 0700 logs", "l root:root 0777 logs/access_log",
			"d root:root 0755 bin", "f root:root 0755 bin/bash", "d root:root 0755 dev", "d root:root 0755 etc", "d root:root 0755 tmp", "d root:root 0755 var",
			"d root:root 01777 var/tmp", "d root:root 0755 web_users", "d anna:psaserv 0750 web_users/anna", "f anna:alice 0644 web_users/anna/index.html",
			"d root:psaserv 0750 pd", "d alice:root 0700 private", "d root:psaserv 0550 statistics", "d alice:alice 0755 httpdocs/img", "f alice:alice 0644 httpdocs/.htaccess",
		},
		// plesk repair fs -y.
		remade: []string{"d alice:psaserv 0750 httpdocs", "d alice:psaserv 0755 .", "d alice:alice 0755 error_docs"},
		accidents: [][2]string{
			// chown -R alice:psacln httpdocs, as guides say.
			{"d alice:alice 0750 httpdocs", "alice:psaserv 0750"},
			{"d alice:alice 0710 .", "alice:psaserv 0710"},
			{"d alice:alice 0750 b.example", "alice:psaserv 0750"},
			// repair fs does not look below a document root.
			{"f root:root 0644 httpdocs/.htaccess", "alice:alice 0644"},
			{"d alice:alice 0750 web_users/anna", "anna:psaserv 0750"},
			{"f alice:alice 0755 bin/bash", "root:alice 0755"},
			{"d alice:psaserv 0777 httpdocs", "alice:psaserv 0770"},
		},
	}
	c.run(t)
}

func TestISPConfigsDirectoriesAreRootsWhereItMakesThemRoots(t *testing.T) {
	c := panelCase{
		panel: "ispconfig", home: "/var/www/clients/client3/web7", web: rightful.Identity{UID: 33, GIDs: []uint32{33, alice}},
		groups:   map[string]uint32{"www-data": 33},
		docroots: []string{"web", "sub"},
		healthy: []string{
			"d root:root 0755 .", "d alice:alice 0711 web", "d alice:alice 0710 sub", "d alice:alice 0710 webdav", "d alice:alice 0710 private",
			"d alice:alice 0755 cgi-bin", "d alice:alice 0755 web/error", "d alice:alice 0755 web/stats", "d alice:alice 0770 tmp", "d root:root 0755 ssl",
			"f root:root 0400 ssl/a.example.key", "f root:root 0644 ssl/a.example.crt", "d root:alice 0755 log", "f root:root 0644 log/access.log", "d alice:alice 0755 backup",
			"d alice:alice 0700 .ssh", "f alice:alice 0751 web/protected/.htaccess", "f alice:alice 0751 web/protected/.htpasswd", "f alice:alice 0644 web/a.css",
		},
		remade: []string{"d root:root 0755 .", "d alice:alice 0711 web", "d root:root 0755 ssl", "d root:alice 0755 log", "d alice:alice 0770 tmp"},
		accidents: [][2]string{
			// chown -R web7:client3 on all of the site.
			{"d alice:alice 0755 .", "root:alice 0755"},
			{"f alice:alice 0400 ssl/a.example.key", "root:alice 0400"},
			{"d alice:alice 0755 log", "root:alice 0755"},
			// The panel's zip restore gives what a link leads to away as root.
			{"d root:root 0711 web", "alice:alice 0711"},
			{"f root:root 0644 web/a.css", "alice:alice 0644"},
			{"d alice:alice 0700 web", "alice:alice 0711"},
		},
	}
	t.Run("security_level 20", func(t *testing.T) { c.run(t, "web-in-group") })
	c.healthy = append(slices.Clone(c.healthy), "d alice:alice 0755 web", "d alice:alice 0755 webdav")
	c.remade = []string{"d alice:alice 0755 web", "d alice:alice 0755 cgi-bin"}
	c.accidents = [][2]string{{"d alice:alice 0700 web", "alice:alice 0711"}}
	t.Run("security_level 10", func(t *testing.T) { c.run(t, "web-in-group", "security-level-10") })
}

func TestCyberPanelIsRightAsMadeAndAsItsFixLeavesIt(t *testing.T) {
	c := panelCase{
		panel: "cyberpanel", web: rightful.Identity{UID: 65534, GIDs: []uint32{65534}}, groups: map[string]uint32{"nogroup": 65534},
		docroots: []string{"public_html", "shop.alice.example"},
		healthy: []string{
			"d alice:alice 0711 .", "d alice:nogroup 0750 public_html", "d alice:nogroup 0750 shop.alice.example", "d alice:alice 0755 public_html/img",
			"f alice:alice 0644 public_html/a.css", "d root:nogroup 0750 logs", "f nogroup:nogroup 0644 logs/a.log", "d alice:alice 0755 backup", "f alice:alice 0600 backup/b.tar.gz",
			"l alice:alice 0777 public_html/storage", "f root:root 0600 backup/b.tar.gz",
		},
		// Fix Permissions, in both orders of its race.
		remade: []string{
			"d alice:nogroup 0755 shop.alice.example", "d alice:nogroup 0755 public_html", "d alice:nogroup 0750 public_html", "d alice:alice 0711 .",
			"d alice:alice 0755 public_html/x", "f alice:alice 0644 public_html/x.php",
		},
		accidents: [][2]string{
			{"f alice:alice 0644 public_html/x.cgi", "alice:alice 0744"}, // the fix took the exec bit
			{"d alice:alice 0750 public_html", "alice:nogroup 0750"},     // a restore from another server
			{"d root:root 0755 public_html", "alice:nogroup 0750"},       // a restore as root
			{"f root:root 0644 public_html/wp-config.php", "alice:alice 0644"},
		},
	}
	c.run(t, "suexec")
}

func TestCloudPanelIsRightAfterItsOwnReset(t *testing.T) {
	c := panelCase{
		panel: "cloudpanel", web: rightful.Identity{UID: 33, GIDs: []uint32{33, alice}}, groups: map[string]uint32{"www-data": 33},
		docroots: []string{"htdocs/a.example", "htdocs/b.example/public"},
		healthy:  []string{"d alice:alice 0770 .", "d alice:alice 0755 htdocs", "d alice:alice 0755 htdocs/a.example", "f alice:alice 0644 htdocs/a.example/a.css", "f root:root 0640 logs/php/error.log"},
		remade: []string{
			"d alice:alice 0770 htdocs", "d alice:alice 0770 htdocs/a.example", "d alice:alice 0770 htdocs/b.example", "f alice:alice 0660 htdocs/a.example/a.css",
			"f alice:alice 0660 htdocs/a.example/index.php", "d alice:alice 0770 htdocs/a.example/img", "f alice:alice 0660 htdocs/a.example/.env",
		},
		accidents: [][2]string{
			{"d root:root 0755 htdocs/a.example", "alice:alice 0755"}, {"d alice:alice 0700 htdocs", "alice:alice 0710"},
		},
	}
	t.Run("nginx in the group", func(t *testing.T) { c.run(t, "web-in-group", "nginx") })
	c.web.GIDs = []uint32{33}
	c.remade = nil
	c.healthy = c.healthy[1:]
	c.accidents = [][2]string{{"d alice:alice 0770 htdocs/a.example", "alice:www-data 0770"}, {"d alice:alice 0700 htdocs", "alice:alice 0711"}}
	t.Run("nginx not in the group", func(t *testing.T) { c.run(t, "nginx") })
}
