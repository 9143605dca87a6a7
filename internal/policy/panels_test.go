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
			"f alice:alice 0640 imap/a.example/info/dovecot.index.log",
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
