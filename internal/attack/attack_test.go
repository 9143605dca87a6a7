package attack_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/check"
	"rightful/internal/panel"
	"rightful/internal/repair"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if treetest.Child() {
		return
	}
	os.Exit(m.Run())
}

const alice, bob, web = 1001, 1002, 33

// The server: alice attacks; bob, root and the web server own things that are none of her business.
const serverTree = `
d 0755 0:0 etc
f 0644 0:0 etc/passwd = "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\nalice:x:1001:1001::/home/alice:/bin/sh\nbob:x:1002:1002::/home/bob:/bin/sh\n"
f 0644 0:0 etc/group = "root:x:0:\nwww-data:x:33:\nalice:x:1001:\nbob:x:1002:\n"
f 0600 0:0 etc/shadow = secret
d 0755 0:0 etc/apache2
f 0644 0:0 etc/apache2/apache2.conf = "User www-data\nGroup www-data\nListen 80\n<VirtualHost *:80>\nServerName alice.example\nDocumentRoot /home/alice/public_html\n</VirtualHost>\n"
d 0755 0:0 victims
f 0666 33:33 victims/upload.html = upload
f 0644 0:0 victims/readable.html = readable
f 4755 1002:1002 victims/suid.html = suid
f 0666 1002:1002 victims/shared.html = shared
f 0600 0:0 victims/secret.html = secret
f 0666 0:0 victims/f0.html acl=user::rw-,user:1005:rw-,group::rw-,mask::rw-,other::rw-
f 0755 0:0 victims/f1.html caps
d 0777 0:0 victims/sub
f 0666 0:0 victims/sub/f0.html
d 0711 0:0 home
d 0711 1001:1001 home/alice
d 0750 1001:33 home/alice/public_html
d 0711 1002:1002 home/bob
f 0644 1002:1002 home/bob/index.html
`

// A host is a server root for one test.
type host struct {
	t     *testing.T
	root  string
	s     *tree.Server
	world *panel.Server
	dir   string // of the state
	state *repair.State
	truth *check.Truth // what the next check goes by, nil for the rules
}

func newHost(t *testing.T, more string) *host {
	t.Helper()
	return newHostIn(t, treetest.OpenDir(t), more)
}

// newHostIn is newHost in a directory that is there.
func newHostIn(t *testing.T, root, more string) *host {
	t.Helper()
	h := &host{t: t, root: root}
	treetest.Build(t, h.root, serverTree+more)
	var err error
	if h.s, err = tree.OpenServer(h.root); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.s.Close)
	if h.world, err = panel.Read(h.s, panel.Options{}); err != nil {
		t.Fatal(err)
	}
	if _, ok := h.world.Account("alice"); !ok {
		t.Fatalf("no alice: %+v", h.world.Issues)
	}
	h.dir = filepath.Join(t.TempDir(), "state")
	if h.state, err = repair.OpenState(h.dir, h.s); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.root, name) }

// check judges alice's account, and writes a plan where there is something to change.
func (h *host) check(accept ...check.Accept) (r *check.Report, plan string) {
	h.t.Helper()
	ctx := context.Background()
	o := check.Options{Server: h.s, World: h.world, Accounts: []string{"alice"}, Plan: true, Accept: accept, Truth: h.truth}
	if err := check.Run(ctx, o, func(got *check.Report) error { r = got; return nil }); err != nil {
		h.t.Fatal(err)
	}
	if len(r.Changes) == 0 {
		return r, ""
	}
	w, err := h.state.NewPlan(repair.PlanHeader{Verb: "fix"})
	if err == nil {
		err = w.Account(repair.PlanAccount{Account: "alice", UID: alice, Home: "/home/alice", Bases: r.Bases})
	}
	for i := range r.Changes {
		if err == nil {
			err = w.Change(&r.Changes[i])
		}
	}
	if err == nil {
		err = w.Commit()
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return r, w.ID()
}

func (h *host) apply(plan string) *rightful.Run {
	h.t.Helper()
	p, err := h.state.OpenPlan(plan)
	if err != nil {
		h.t.Fatal(err)
	}
	defer p.Close()
	run, err := h.state.Apply(context.Background(), p, repair.Options{Server: h.s})
	if err != nil {
		h.t.Fatal(err)
	}
	return run
}

func (h *host) undo(run string) *rightful.Run {
	h.t.Helper()
	plan, err := h.state.PlanUndo(context.Background(), run, repair.Options{Server: h.s}, repair.PlanHeader{})
	if err != nil {
		h.t.Fatal(err)
	}
	return h.apply(plan)
}

// victims describes everything that alice has no right to see changed.
func (h *host) victims() []string {
	var out []string
	for _, d := range []string{"etc", "victims", "home/bob"} {
		out = append(out, treetest.Describe(h.t, h.path(d))...)
	}
	return out
}

func (h *host) unharmed(before []string) {
	h.t.Helper()
	if diff := cmp.Diff(before, h.victims()); diff != "" {
		h.t.Fatalf("somebody was harmed (-before +now):\n%s", diff)
	}
}

// work is a directory of files that the rules want changed.
func work(files int) string {
	b := strings.Builder{}
	b.WriteString("d 0777 1001:1001 home/alice/public_html/d\nd 0755 1001:1001 home/alice/public_html/e\n")
	for i := range files {
		fmt.Fprintf(&b, "f 0666 1001:1001 home/alice/public_html/d/f%d.html\n", i)
	}
	return b.String()
}

// A race is what alice does over and over while root works on her account.
type race struct {
	name  string
	link  [2]string // made by root beforehand: a hard link of another's file
	steps []string
}

func races() []race {
	const p = "public_html/"
	return []race{
		{"a directory for a link out (A1)", [2]string{}, []string{"symlink /victims " + p + "l", "exchange " + p + "d " + p + "l"}},
		{"a directory for a link out by two steps (A1)", [2]string{}, []string{"rename " + p + "d " + p + "x", "symlink VICTIMS " + p + "d", "unlink " + p + "d", "rename " + p + "x " + p + "d"}},
		{"a file for a link out (A3, A4)", [2]string{}, []string{"symlink VICTIMS/f0.html " + p + "l", "exchange " + p + "d/f0.html " + p + "l"}},
		{"a file for root's own by hard link (A3, A4)", [2]string{"f0.html", p + "h.html"}, []string{"exchange " + p + "d/f0.html " + p + "h.html"}},
		{"one link of the web server's file for two (A2)", [2]string{"upload.html", p + "d/h.html"}, []string{"rename " + p + "d/h.html " + p + "e/h.html", "rename " + p + "e/h.html " + p + "d/h.html"}},
		{"one link of root's readable file for two (A2)", [2]string{"readable.html", p + "d/h.html"}, []string{"rename " + p + "d/h.html " + p + "e/h.html", "rename " + p + "e/h.html " + p + "d/h.html"}},
		{"one link in a directory that is renamed (A2)", [2]string{"upload.html", p + "d/h.html"}, []string{"rename " + p + "d " + p + "z", "rename " + p + "z " + p + "d"}},
		{"a file for its successor (A8)", [2]string{}, []string{"unlink " + p + "d/f1.html", "write " + p + "d/f1.html", "chmod 0666 " + p + "d/f1.html"}},
		{"a file's mode (A25)", [2]string{}, []string{"chmod 0666 " + p + "d/f1.html", "chmod 0600 " + p + "d/f1.html", "chmod 4755 " + p + "d/f1.html"}},
		{"a hard link added and taken away (A2)", [2]string{"shared.html", p + "h"}, []string{"link " + p + "h " + p + "d/h.html", "unlink " + p + "d/h.html", "exchange " + p + "h " + p + "d/f2.html"}},
	}
}

// race begins one, and gives what must stay as it is.
func (h *host) race(c race) (before []string, stop func() []int) {
	h.t.Helper()
	for i := range c.steps {
		c.steps[i] = strings.ReplaceAll(c.steps[i], "VICTIMS", h.path("victims"))
	}
	if c.link[0] != "" {
		if err := os.Link(h.path("victims/"+c.link[0]), h.path("home/alice/"+c.link[1])); err != nil {
			h.t.Fatal(err)
		}
	}
	before = h.victims()
	return before, treetest.Attack(h.t, alice, h.path("home/alice"), c.steps...)
}

// Whatever alice swaps, links, renames and recreates while her account is checked, repaired and undone: nothing that is
// not hers is changed. The kernel's newer system calls make no difference.
func TestNobodyElseIsHarmedWhileATenantRaces(t *testing.T) {
	treetest.Without(t, "fchmodat2", "name_to_handle_at", "unshare")
	for _, c := range races() {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, work(60))
			before, stop := h.race(c)
			changed := 0
			for range 15 {
				if _, plan := h.check(); plan != "" {
					run := h.apply(plan)
					h.unharmed(before)
					changed += run.Changed
					h.undo(run.ID)
				}
				h.unharmed(before)
			}
			if n := slices.Max(stop()); n < 15 {
				t.Errorf("the attacker came to only %d rounds", n)
			}
			if changed == 0 {
				t.Error("nothing was ever repaired")
			}
			h.unharmed(before)
		})
	}
}

// found gives the problem of a path, "" where there is none.
func found(r *check.Report, path string) rightful.Problem {
	for _, f := range r.Findings {
		if f.Path == path {
			return f.Problem
		}
	}
	return ""
}

// What lies in alice's tree without being provably hers is a finding and stays as it is: hard links of others' files,
// whatever the kernel's protected_hardlinks lets her link, files moved in, orphaned links, devices.
func TestWhatIsNotProvablyTheirsIsLeftAlone(t *testing.T) {
	h := newHost(t, `
		f 0644 1002:1002 home/alice/public_html/moved.html = bob's
		f 0600 0:0 home/alice/public_html/orphan.html = shadow
		d 0777 1002:1002 home/alice/public_html/moveddir
		f 0644 1002:1002 home/alice/public_html/moveddir/x.html
		p 0666 0:0 home/alice/public_html/fifo
		s 0666 1001:1001 home/alice/public_html/sock
		f 0666 1001:1001 home/alice/public_html/own.html
	`)
	p := h.path("home/alice/public_html/")
	for _, v := range []string{"upload", "readable", "suid", "shared", "secret"} {
		if err := os.Link(h.path("victims/"+v+".html"), p+"/"+v+".html"); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mknod(p+"/dev", unix.S_IFBLK|0o666, int(unix.Mkdev(7, 200))); err != nil {
		t.Skipf("needs to make devices: %v", err)
	}
	before := treetest.Describe(t, h.root)
	r, plan := h.check()
	for name, want := range map[string]rightful.Problem{
		"upload.html": check.ForeignLink, "readable.html": check.ForeignLink, "suid.html": check.ForeignLink,
		"shared.html": check.ForeignLink, "secret.html": check.ForeignLink, "moved.html": check.ForeignOwner,
		"orphan.html": check.RootOwnedUnproven, "moveddir": check.ForeignOwner, "moveddir/x.html": check.ForeignOwner, "dev": check.Device,
	} {
		if got := found(r, "/home/alice/public_html/"+name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if plan == "" {
		t.Fatal("nothing to repair")
	}
	h.apply(plan)
	after := treetest.Describe(t, h.root)
	for i, l := range before {
		hers := strings.Contains(l, "own.html") || strings.Contains(l, "fifo") || strings.Contains(l, "sock")
		if l != after[i] && !hers {
			t.Errorf("%s became %s", l, after[i])
		}
	}
}

// A link that alice herself makes, of a file that the kernel lets her link, is met as one link of two.
func TestALinkMadeByTheTenantIsForeign(t *testing.T) {
	h := newHost(t, "d 0777 0:0 drop\nf 0666 1002:1002 drop/shared.html\nf 0644 0:0 drop/readable.html\nf 0666 33:33 drop/upload.html\n")
	stop := treetest.Attack(t, alice, h.root, "link drop/shared.html home/alice/public_html/s.html",
		"link drop/readable.html home/alice/public_html/r.html", "link drop/upload.html home/alice/public_html/u.html")
	made := stop()
	t.Logf("links made: %v", made)
	if made[0] == 0 || made[2] == 0 {
		t.Errorf("a 0666 file could not be linked: %v", made)
	}
	before := treetest.Describe(t, h.path("drop"))
	r, plan := h.check()
	for i, n := range []string{"s", "r", "u"} {
		if got := found(r, "/home/alice/public_html/"+n+".html"); made[i] > 0 && got != check.ForeignLink {
			t.Errorf("%s: %q", n, got)
		}
	}
	if plan != "" {
		h.apply(plan)
	}
	if diff := cmp.Diff(before, treetest.Describe(t, h.path("drop"))); diff != "" {
		t.Error(diff)
	}
}

// Two links that are both alice's are repaired.
func TestLinksWithinAnAccountAreRepaired(t *testing.T) {
	h := newHost(t, work(1)+"f 0666 1001:1001 home/alice/public_html/d/h.html\nh 0 0:0 home/alice/public_html/e/h.html -> home/alice/public_html/d/h.html\n")
	_, plan := h.check()
	h.apply(plan)
	fi, err := os.Stat(h.path("home/alice/public_html/e/h.html"))
	if err != nil || fi.Mode() != 0o664 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
}

// A privilege does not survive a gift, and comes back with an undo only where nobody touched the file or could.
func TestAPrivilegeIsNeverGiven(t *testing.T) {
	h := newHost(t, `
		f 4755 4444:4444 home/alice/public_html/stale.html = x
		f 2755 4444:4444 home/alice/public_html/group.html = x
		f 0755 4444:4444 home/alice/public_html/capable.html caps = x
		f 4755 0:0 home/alice/public_html/root.html = tool
		f 4755 0:0 home/alice/public_html/edited.html = tool
		f 0644 0:0 home/alice/public_html/replaced.html = tool
	`)
	before := treetest.Describe(t, h.path("home/alice"))
	_, plan := h.check(check.Accept{Risk: check.RiskForeignOwner, Name: "4444"})
	run := h.apply(plan)
	given := map[string]bool{}
	for _, l := range treetest.Describe(t, h.path("home/alice")) {
		if strings.Contains(l, "html\" ") && strings.Contains(l, " 1001:1001") {
			given[strings.Fields(l)[0]] = true
			if !strings.Contains(l, " 1007") && !strings.Contains(l, " 1006") || strings.Contains(l, "capability") {
				t.Errorf("a privilege was given away: %s", l)
			}
		}
	}
	if len(given) != 6 {
		t.Errorf("given: %v", given)
	}
	edited, replaced := h.path("home/alice/public_html/edited.html"), h.path("home/alice/public_html/replaced.html")
	if err := os.WriteFile(edited, []byte("evil"), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(replaced); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(h.path("etc/shadow"), replaced); err != nil {
		t.Fatal(err)
	}
	victims := h.victims()
	h.undo(run.ID)
	h.unharmed(victims)
	after := treetest.Describe(t, h.path("home/alice"))
	for i, l := range before {
		switch {
		case strings.Contains(l, "edited"):
			if want := strings.Replace(l, "104755", "100755", 1); after[i] != want {
				t.Errorf("edited: %s, want %s", after[i], want)
			}
		case strings.Contains(l, "replaced"):
			if !strings.Contains(after[i], " 120777 0:0") {
				t.Errorf("replaced: %s", after[i])
			}
		case after[i] != l:
			t.Errorf("undo: %s, want %s", after[i], l)
		}
	}
}

// A home that somebody else could have put there is not worked in.
func TestAHomeThatIsNotSafeIsNotEntered(t *testing.T) {
	for name, spoil := range map[string]func(h *host) error{
		"a link of the tenant's": func(h *host) error {
			home := h.path("home/alice")
			if err := os.Rename(home, h.path("home/moved")); err != nil {
				return err
			}
			if err := os.Symlink("bob", home); err != nil {
				return err
			}
			return os.Lchown(home, alice, alice)
		},
		"a parent that anybody may write": func(h *host) error { return os.Chmod(h.path("home"), 0o777) },
		"a parent that is the tenant's":   func(h *host) error { return os.Chown(h.path("home"), alice, alice) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, work(3)+"f 0666 1002:1002 home/bob/wrong.html\n")
			if err := spoil(h); err != nil {
				t.Fatal(err)
			}
			before := treetest.Describe(t, h.path("home"))
			r, plan := h.check()
			if plan != "" {
				h.apply(plan)
			}
			if diff := cmp.Diff(before, treetest.Describe(t, h.path("home"))); diff != "" {
				t.Error(diff)
			}
			if !slices.ContainsFunc(r.Findings, func(f rightful.Finding) bool { return f.Problem == check.HomeUnsafe }) {
				t.Errorf("findings: %+v", r.Findings)
			}
		})
	}
}

// A home that becomes a link between plan and run, an account of root's, a home that is the whole server: all refused.
func TestMistakesAboveTheAccountAreRefused(t *testing.T) {
	h := newHost(t, work(3))
	_, plan := h.check()
	if err := os.Rename(h.path("home/alice"), h.path("home/was")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("bob", h.path("home/alice")); err != nil {
		t.Fatal(err)
	}
	os.Lchown(h.path("home/alice"), alice, alice)
	before := treetest.Describe(t, h.path("home"))
	if run := h.apply(plan); run.Changed > 0 {
		t.Errorf("run: %+v", run)
	}
	if diff := cmp.Diff(before, treetest.Describe(t, h.path("home"))); diff != "" {
		t.Error(diff)
	}
	for _, line := range []string{"carol:x:1003:1003::/:/bin/sh", "carol:x:1003:1003::/home:/bin/sh", "carol:x:0:0::/home/carol:/bin/sh", "carol:x:1003:1003::/home/bob:/bin/sh", "carol:x:1003:1003::/home/bob/in:/bin/sh"} {
		passwd := h.path("etc/passwd")
		old, err := os.ReadFile(passwd)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(passwd, append(slices.Clone(old), line+"\n"...), 0o644); err != nil {
			t.Fatal(err)
		}
		w, err := panel.Read(h.s, panel.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := w.Account("carol"); ok {
			t.Errorf("%s makes an account", line)
		}
		os.WriteFile(passwd, old, 0o644)
	}
}

// Names of any bytes and paths longer than any program could use are checked, repaired and undone exactly.
func TestOddNamesAndDeepPathsAreRepairedAndUndone(t *testing.T) {
	h := newHost(t, `
		f 0666 1001:1001 "home/alice/public_html/new\nline\x1b[31m.html"
		f 0666 1001:1001 "home/alice/public_html/\xff\xfe.html"
		f 0666 1001:1001 "home/alice/public_html/-rf .html"
		f 0666 1001:1001 "home/alice/public_html/ -> x.html"
	`)
	fd, err := unix.Open(h.path("home/alice/public_html"), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("d", 200)
	for range 60 {
		if err := unix.Mkdirat(fd, name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		unix.Close(fd)
		if err != nil {
			t.Fatal(err)
		}
		if fd = next; unix.Fchown(fd, alice, alice) != nil {
			t.Fatal("chown")
		}
	}
	defer unix.Close(fd)
	if err := unix.Mknodat(fd, "f.html", unix.S_IFREG|0o600, 0); err != nil {
		t.Fatal(err)
	}
	mode := func() (m uint32) {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, "f.html", &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
		return st.Mode & 0o7777
	}
	if err := unix.Fchownat(fd, "f.html", alice, alice, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fchmodat(fd, "f.html", 0o646, 0); err != nil {
		t.Fatal(err)
	}
	_, plan := h.check()
	run := h.apply(plan)
	if run.Changed != 5 || run.Skipped+run.Failed > 0 || mode() != 0o644 {
		t.Errorf("run: %+v, mode %o", run, mode())
	}
	if u := h.undo(run.ID); u.Changed != 5 || mode() != 0o646 {
		t.Errorf("undo: %+v, mode %o", u, mode())
	}
}
