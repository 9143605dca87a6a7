package attack_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/repair"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// items gives what did not go as planned in a run, by path.
func (h *host) items(run *rightful.Run) map[string]string {
	h.t.Helper()
	_, items, err := h.state.Run(run.ID)
	if err != nil {
		h.t.Fatal(err)
	}
	out := map[string]string{}
	for _, i := range items {
		out[i.Path] = i.Reason
	}
	return out
}

// effective gives what getfacl calls the effective rights of a named user or of a class.
func effective(t *testing.T, path, who string) string {
	t.Helper()
	out, err := exec.Command("getfacl", "-n", "-e", "-p", path).Output()
	if err != nil {
		t.Skipf("needs getfacl: %v", err)
	}
	m := regexp.MustCompile(`(?m)^` + who + `:(...)(?:\s+#effective:(...))?$`).FindStringSubmatch(string(out))
	switch {
	case m == nil:
		return "---"
	case m[2] != "":
		return m[2]
	}
	return m[1]
}

// A repair that opens a file to the web server opens it to nobody else whom an ACL names, though the mode's group bits are
// the mask of all: neither where the mask holds somebody back, nor while the tenant sets ACLs and modes as fast as she can.
func TestAnACLGivesNobodyMoreByARepair(t *testing.T) {
	treetest.Without(t, "fchmodat2", "name_to_handle_at", "unshare")
	const p = "home/alice/public_html/"
	h := newHost(t, work(8)+`
		f 0600 1001:1001 home/alice/public_html/masked.html acl=user::rw-,user:1005:rwx,group::r--,mask::---,other::---
		f 0604 1001:1001 home/alice/public_html/shut.html acl=user::rw-,user:1005:rw-,group::---,group:1005:rw-,mask::---,other::r--
		f 0666 1001:1001 home/alice/public_html/open.html acl=user::rw-,user:1005:r--,group::rw-,mask::rw-,other::rw-
		d 0700 1001:1001 home/alice/public_html/dir acl=user::rwx,user:1005:rwx,group::r-x,mask::---,other::--- default=user::rwx,user:1005:rwx,group::rwx,mask::rwx,other::rwx
		f 0600 1001:1001 home/alice/public_html/dir/x.html
	`)
	before := map[string]string{}
	names := []string{"masked.html", "shut.html", "open.html", "dir", "dir/x.html"}
	for _, n := range names {
		for _, who := range []string{"user:1005", "group:1005"} {
			before[n+who] = effective(t, h.path(p+n), who)
		}
	}
	home := treetest.Listing(t, h.path("home/alice"))
	_, plan := h.check()
	run := h.apply(plan)
	for _, n := range names {
		for _, who := range []string{"user:1005", "group:1005"} {
			was, is := before[n+who], effective(t, h.path(p+n), who)
			for i := range is {
				if is[i] != '-' && was[i] == '-' {
					t.Errorf("%s: %s had %s and has %s", n, who, was, is)
				}
			}
		}
	}
	if got := effective(t, h.path(p+"open.html"), "other:"); strings.Contains(got, "w") {
		t.Errorf("others may still write: %s", got)
	}
	h.undo(run.ID)
	if diff := cmp.Diff(strings.Split(home, "\n"), strings.Split(treetest.Listing(t, h.path("home/alice")), "\n")); diff != "" {
		t.Errorf("undo is not exact:\n%s", diff)
	}

	victims := h.victims()
	stop := treetest.Attack(t, alice, h.path(p), "acl user::rw-,user:1005:rwx,group::rwx,mask::rwx,other::rwx d/f0.html", "chmod 0600 d/f0.html",
		"acl user::rw-,group::rw-,other::rw- d/f0.html", "acl user::rw-,user:1005:rw-,group::r--,mask::---,other::--- d/f1.html", "chmod 0666 d/f1.html")
	for range 15 {
		if _, plan := h.check(); plan != "" {
			h.undo(h.apply(plan).ID)
		}
		h.unharmed(victims)
	}
	if n := slices.Max(stop()); n < 15 {
		t.Errorf("the attacker came to only %d rounds", n)
	}
	_, plan = h.check()
	h.apply(plan)
	for _, n := range []string{"d/f0.html", "d/f1.html"} {
		if got := effective(t, h.path(p+n), "other:"); strings.Contains(got, "w") {
			t.Errorf("%s: others may write: %s", n, got)
		}
	}
}

// What is immutable or append-only is reported and left; the run goes on and is undone, whether it was so when the plan was
// made, became so before the run, or before the undo.
func TestWhatIsImmutableIsReportedAndLeft(t *testing.T) {
	for _, flag := range []string{"i", "a"} {
		t.Run("chattr +"+flag, func(t *testing.T) {
			h := newHostIn(t, treetest.Mounted(t, "ext4", ""), work(4))
			chattr := func(how, name string) {
				t.Helper()
				if out, err := exec.Command("chattr", how+flag, h.path("home/alice/public_html/d/"+name)).CombinedOutput(); err != nil {
					t.Skipf("needs chattr: %v %s", err, out)
				}
			}
			mode := func(name string) os.FileMode {
				fi, err := os.Stat(h.path("home/alice/public_html/d/" + name))
				if err != nil {
					t.Fatal(err)
				}
				return fi.Mode()
			}
			home := treetest.Listing(t, h.path("home/alice"))
			chattr("+", "f0.html")
			r, plan := h.check()
			i := slices.IndexFunc(r.Findings, func(f rightful.Finding) bool { return strings.HasSuffix(f.Path, "/f0.html") })
			if i < 0 || !strings.Contains(r.Findings[i].Note, "immutable") {
				t.Fatalf("findings: %+v", r.Findings)
			}
			chattr("+", "f1.html")
			run := h.apply(plan)
			why := h.items(run)
			if run.State != rightful.RunDone || run.Skipped != 1 || run.Failed > 0 || !strings.Contains(why["/home/alice/public_html/d/f1.html"], "immutable") {
				t.Errorf("run: %+v, %v", run, why)
			}
			if mode("f0.html") != 0o666 || mode("f1.html") != 0o666 || mode("f2.html") == 0o666 {
				t.Errorf("modes: %v %v %v", mode("f0.html"), mode("f1.html"), mode("f2.html"))
			}
			chattr("+", "f2.html")
			u := h.undo(run.ID)
			if why := h.items(u); u.Skipped != 1 || !strings.Contains(why["/home/alice/public_html/d/f2.html"], "immutable") {
				t.Errorf("undo: %+v, %v", u, why)
			}
			for _, n := range []string{"f0.html", "f1.html", "f2.html"} {
				chattr("-", n)
			}
			// Once it is free, what was left is undone too, by the same run again.
			h.undo(run.ID)
			if diff := cmp.Diff(strings.Split(home, "\n"), strings.Split(treetest.Listing(t, h.path("home/alice")), "\n")); diff != "" {
				t.Errorf("undo is not exact:\n%s", diff)
			}
		})
	}
}

// A tenant who makes directories and renames them as fast as she can keeps neither a check nor a repair from its end, and
// harms nobody.
func TestAStormOfRenamesEndsNoLaterThanTheWalk(t *testing.T) {
	treetest.Without(t, "fchmodat2", "name_to_handle_at", "unshare")
	h := newHostIn(t, treetest.Mounted(t, "tmpfs", ""), work(10)+"d 0755 1001:1001 home/alice/public_html/z\n")
	victims := h.victims()
	stop := treetest.Attack(t, alice, h.path("home/alice/public_html"), "mkmany d 2", "mkmany z 2", "rename d z/d", "rename e d", "rename z a", "rename a z",
		"rename d e", "rename z/d d")
	for range 3 {
		r, plan := h.check()
		if r.Entries == 0 {
			t.Errorf("nothing was met: %+v", r)
		}
		if plan != "" {
			h.undo(h.apply(plan).ID)
		}
		h.unharmed(victims)
	}
	done := stop()
	if done[0] == 0 || slices.Max(done[2:]) == 0 {
		t.Errorf("the attacker came to nothing: %v", done)
	}
	if entries, err := os.ReadDir(h.path("home/alice/public_html/z")); err != nil || len(entries) < 20 {
		t.Errorf("%d made: %v", len(entries), err)
	}
}

// Who opened a file for writing while it was his, or mapped it, and waits for root to take it back with its privilege,
// waits in vain: it comes back without, and it is said.
func TestWhoHoldsAFileOpenNeverGetsItsPrivilege(t *testing.T) {
	for _, how := range []string{"hold", "map"} {
		t.Run(how, func(t *testing.T) {
			h := newHost(t, "f 4755 0:0 home/alice/public_html/tool.html = tool\n")
			tool := h.path("home/alice/public_html/tool.html")
			_, plan := h.check()
			run := h.apply(plan)
			stop := treetest.Attack(t, alice, h.path("home/alice"), how+" public_html/tool.html")
			u := h.undo(run.ID)
			if why := h.items(u)["/home/alice/public_html/tool.html"]; !strings.Contains(why, "were not given back") {
				t.Errorf("it says %q", why)
			}
			var st unix.Stat_t
			if err := unix.Stat(tool, &st); err != nil || st.Uid != 0 || st.Mode&0o7777 != 0o755 {
				t.Errorf("uid %d, mode %o, %v", st.Uid, st.Mode, err)
			}
			if stop()[0] == 0 {
				t.Error("the attacker never got it")
			}
		})
	}
}

// A plan file is data: one that somebody else could have written is not opened, and one whose entries name what lies outside
// the account, by path or by handle, changes nothing there.
func TestAPlanFromElsewhereReachesNothingOutside(t *testing.T) {
	h := newHost(t, work(2))
	_, plan := h.check()
	file := func(name string) string { return filepath.Join(treetest.OpenDir(t), name) }
	theirs, open, fifo := file("theirs"), file("open"), file("fifo")
	text, err := os.ReadFile(h.planFile(plan))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{theirs, open} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := file("link")
	for _, err := range []error{os.Chown(theirs, alice, alice), os.Chmod(open, 0o622), unix.Mkfifo(fifo, 0o600), os.Symlink(theirs, link)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{theirs, open, fifo, link} {
		if p, err := h.state.OpenPlan(name); err == nil {
			p.Close()
			t.Errorf("%s was opened", filepath.Base(name))
		}
	}

	before := h.victims()
	shadow, was := h.pin("/etc", "shadow")
	for _, verb := range []string{"fix", repair.VerbUndo} {
		for _, rel := range []string{"../../etc/shadow", "public_html/../../../etc/shadow", "/etc/shadow", "public_html/./d/../../../../etc/shadow", "..", "public_html/d/f0.html", "public_html/shadow\x00"} {
			w, err := h.state.NewPlan(repair.PlanHeader{Verb: verb})
			if err == nil {
				err = w.Account(repair.PlanAccount{Account: "alice", UID: alice, Home: "/home/alice", Bases: []string{"/home/alice"}})
			}
			for range 2 { // twice the same is no other thing
				if err == nil {
					err = w.Change(&rightful.Change{
						Base: "/home/alice", Rel: rel, Kind: rightful.KindFile, ID: shadow, Links: 1, Before: was,
						After: rightful.Meta{UID: alice, GID: alice, Mode: 0o4777},
					})
				}
			}
			name := file("plan")
			if err == nil {
				err = w.Commit()
			}
			if err == nil {
				err = os.Rename(h.planFile(w.ID()), name) // so that it comes from elsewhere
			}
			if err != nil {
				t.Fatal(err)
			}
			p, err := h.state.OpenPlan(name)
			if err != nil {
				t.Fatal(err)
			}
			run, err := h.state.Apply(t.Context(), p, repair.Options{Server: h.s})
			p.Close()
			if verb == repair.VerbUndo != errors.Is(err, repair.ErrUndoPlan) || run != nil && run.Changed > 0 {
				t.Errorf("%s %q: %+v, %v", verb, rel, run, err)
			}
			h.unharmed(before)
		}
	}
}

// pin gives who an entry is and what it looks like.
func (h *host) pin(base, rel string) (rightful.EntryID, rightful.Meta) {
	h.t.Helper()
	b, err := h.s.OpenBase(base)
	if err != nil {
		h.t.Fatal(err)
	}
	defer b.Close()
	cur := b.Cursor()
	defer cur.Close()
	n, err := cur.Open(rel)
	if err != nil {
		h.t.Fatal(err)
	}
	defer n.Close()
	m, err := n.Refresh()
	if err != nil {
		h.t.Fatal(err)
	}
	return n.ID(), m
}

// planFile is where a plan is kept.
func (h *host) planFile(id string) string { return filepath.Join(h.dir, "plans", id+".plan") }
