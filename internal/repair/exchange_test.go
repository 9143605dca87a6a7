package repair

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// The tree of these tests: a ruin at the home, and in a directory of root's the one that is to come in.
const (
	home     = "/home/alice"
	rebuilt  = "/home/.aside/home"
	swapTree = `
d 0711 1001:1001 alice
d 0755 1001:1001 alice/ruin
f 0644 1001:1001 alice/index.html = old
d 0700 0:0 .aside
`
	rebuiltTree = `
d 0700 0:0 .aside/home
d 0700 1001:1001 .aside/home/public_html
f 0600 1001:1001 .aside/home/public_html/index.html = new
f 0600 1001:1001 .aside/home/public_html/acl acl=user::rw-,user:1005:rw-,group::r--,mask::rw-,other::---
d 0700 1001:1001 .aside/home/logs
f 0600 1001:1001 .aside/home/logs/log
`
)

// standing identifies what stands at a path; nothing where there is nothing.
func (b *box) standing(p string) rightful.EntryID {
	b.t.Helper()
	base, err := b.s.OpenBase(path.Dir(p))
	if tree.IsNotExist(err) {
		return rightful.EntryID{}
	}
	if err != nil {
		b.t.Fatal(err)
	}
	defer base.Close()
	cur := base.Cursor()
	defer cur.Close()
	n, err := cur.Open(path.Base(p))
	if tree.IsNotExist(err) {
		return rightful.EntryID{}
	}
	if err != nil {
		b.t.Fatal(err)
	}
	defer n.Close()
	return n.ID()
}

// swapPlan gives everything in the rebuilt home to be as fn says, a base of its own for its logs, and then exchanges it
// with the home.
func (b *box) swapPlan(fn changer) string { return b.swapPlanOf(fn, home, rebuilt) }

func (b *box) swapPlanOf(fn changer, at, with string) string {
	b.t.Helper()
	w, err := b.state.NewPlan(PlanHeader{Verb: "rescue"})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := w.Account(PlanAccount{Account: "alice", Home: home, Bases: []string{rebuilt}}); err != nil {
		b.t.Fatal(err)
	}
	if fn != nil {
		base, err := b.s.OpenBase(rebuilt)
		if err != nil {
			b.t.Fatal(err)
		}
		in := &planner{b: b, w: w, fn: func(rel string, k rightful.Kind, m rightful.Meta) *rightful.Meta {
			if strings.HasPrefix(rel, "logs") {
				return nil
			}
			return fn(rel, k, m)
		}, base: base, seen: map[uint64]bool{}}
		if err := base.Walk(context.Background(), in, true); err != nil {
			b.t.Fatal(err)
		}
		base.Close()
		if base, err = b.s.OpenBase(rebuilt + "/logs"); err == nil {
			err = base.Walk(context.Background(), &planner{b: b, w: w, fn: fn, base: base, seen: in.seen}, true)
			base.Close()
		}
		if err != nil && !tree.IsNotExist(err) {
			b.t.Fatal(err)
		}
	}
	c := &rightful.Change{
		Base: path.Dir(at), Rel: path.Base(at), Kind: rightful.KindDir, Effect: rightful.EffectDown, ID: b.standing(at),
		Exchange: &rightful.Exchange{With: with, ID: b.standing(with)},
	}
	if err := w.Change(c); err != nil {
		b.t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		b.t.Fatal(err)
	}
	return w.ID()
}

// opened lets the web server in.
func opened(_ string, k rightful.Kind, m rightful.Meta) *rightful.Meta {
	w := rightful.Meta{UID: m.UID, GID: 33, Mode: 0o640}
	if k == rightful.KindDir {
		w.Mode = 0o750
	}
	return &w
}

// cases are the two kinds of an exchange: a ruin stands at the home, or nothing.
var cases = map[string]string{"a ruin": swapTree + rebuiltTree, "nothing": "d 0700 0:0 .aside\n" + rebuiltTree}

// swapped gives a tree's lines as they are when the two changed places and nothing else happened.
func swapped(lines []string) (out []string) {
	for _, l := range lines {
		switch {
		case strings.HasPrefix(l, `"alice`):
			l = `".aside/home` + l[len(`"alice`):]
		case strings.HasPrefix(l, `".aside/home`):
			l = `"alice` + l[len(`".aside/home`):]
		}
		out = append(out, l)
	}
	slices.Sort(out)
	return out
}

// reasons gives why items of a run were left alone, by path.
func (b *box) reasons(run *rightful.Run) map[string]string {
	b.t.Helper()
	_, items, err := b.state.Run(run.ID)
	if err != nil {
		b.t.Fatal(err)
	}
	why := map[string]string{}
	for _, i := range items {
		why[i.Path] = i.Reason
	}
	return why
}

// A rebuilt home comes in with all that the plan made of it, goes out as it then is when the run is undone, and comes in
// again when that is undone. Applied twice, the plan changes nothing the second time.
func TestAnExchangeIsMadeUndoneAndRedone(t *testing.T) {
	treetest.Without(t, "fchmodat2", "name_to_handle_at", "openat2")
	onEach(t, treetest.FileSystems, func(t *testing.T, dir string) {
		for name, spec := range cases {
			t.Run(name, func(t *testing.T) {
				b := boxIn(t, dir, spec)
				id := b.swapPlan(opened)
				run := b.apply(id, b.options())
				b.calm("run", run)
				in := b.describe()
				if run.Changed != 7 || !strings.Contains(strings.Join(in, "\n"), `"alice/public_html/index.html" 100640 1001:33`) {
					t.Fatalf("%+v\n%s", run, strings.Join(in, "\n"))
				}
				again := b.apply(id, b.options())
				if again.Changed+again.Skipped+again.Failed > 0 {
					t.Errorf("applied twice: %+v, %v", again, b.reasons(again))
				}
				b.undo(again.ID)
				b.exact("undo of the run that did nothing", in)
				u := b.undo(run.ID)
				b.calm("undo", u)
				b.exact("undo", swapped(in))
				redo := b.undo(u.ID)
				b.calm("redo", redo)
				b.exact("redo", in)
				b.calm("undo of the redo", b.undo(redo.ID))
				b.exact("undo of the redo", swapped(in))
			})
		}
	})
}

// Where verification finds the account worse, the run takes back the exchange and all that it changed before it.
func TestAWorseExchangeIsTakenBackWhole(t *testing.T) {
	for name, spec := range cases {
		t.Run(name, func(t *testing.T) {
			b := boxIn(t, treetest.OpenDir(t), spec)
			before := b.describe()
			o := b.options()
			o.Verify = &fakeVerifier{worse: []string{"alice"}}
			run := b.apply(b.swapPlan(opened), o)
			if run.State != rightful.RunTakenBack {
				t.Errorf("%+v", run)
			}
			b.exact("take-back", before)
		})
	}
}

// If the exchange cannot be taken back, the tree that is in its place keeps what the plan made of it.
func TestATreeThatStaysKeepsItsRights(t *testing.T) {
	b := boxIn(t, treetest.Mounted(t, "ext4", ""), swapTree+rebuiltTree)
	p := filepath.Join(b.root, home)
	o := b.options()
	o.Verify = &meddler{fakeVerifier{worse: []string{"alice"}}, func() {
		if out, err := exec.Command("chattr", "+i", p).CombinedOutput(); err != nil {
			t.Skipf("no chattr here: %v %s", err, out)
		}
		t.Cleanup(func() { exec.Command("chattr", "-i", p).Run() })
	}}
	before := b.describe()
	run := b.apply(b.swapPlan(opened), o)
	if run.State != rightful.RunStopped || run.Changed != 7 {
		t.Errorf("%+v", run)
	}
	why := b.reasons(run)
	if why[home] != reasonImmutable || why[rebuilt+"/public_html/index.html"] != reasonStays || why[rebuilt+"/logs/log"] != reasonStays {
		t.Errorf("reasons: %v", why)
	}
	exec.Command("chattr", "-i", p).Run()
	if !strings.Contains(strings.Join(b.describe(), "\n"), `"alice/public_html/index.html" 100640 1001:33`) {
		t.Errorf("the home that is in its place lost its rights:\n%s", strings.Join(b.describe(), "\n"))
	}
	done, err := b.state.Resume(context.Background(), run.ID, b.options())
	if err == nil {
		t.Errorf("a stopped run was resumed: %+v", done)
	}
	b.calm("undo", b.undo(run.ID))
	if got := b.describe(); len(got) != len(before) || b.standing(home).None() {
		t.Errorf("after undo:\n%s", strings.Join(got, "\n"))
	}
}

// A meddler does something before it judges.
type meddler struct {
	fakeVerifier
	do func()
}

func (m *meddler) Judge(ctx context.Context, accounts []string) ([]Judgement, error) {
	m.do()
	return m.fakeVerifier.Judge(ctx, accounts)
}

// An exchange is made only of the two directories that the plan names: where another entry, a mount or nothing stands at
// either place, or somebody but root can reach it, nothing is moved, and the reason is said.
func TestAnExchangeIsOfTheTwoThatWereMeant(t *testing.T) {
	away := func(_ *testing.T, root, p string) error { return os.Rename(root+p, root+p+".away") }
	twin := func(_ *testing.T, root, p string) error {
		return errors.Join(away(nil, root, p), os.Mkdir(root+p, 0o711))
	}
	for name, c := range map[string]struct {
		at    []string
		spoil func(t *testing.T, root, p string) error
		why   string
	}{
		"another directory": {[]string{home, rebuilt}, twin, reasonReplaced},
		"nothing":           {[]string{home, rebuilt}, away, reasonReplaced},
		"a link to it": {[]string{home, rebuilt}, func(_ *testing.T, root, p string) error {
			return errors.Join(away(nil, root, p), os.Symlink(path.Base(p)+".away", root+p))
		}, reasonReplaced},
		"a file": {[]string{home, rebuilt}, func(_ *testing.T, root, p string) error {
			return errors.Join(away(nil, root, p), os.WriteFile(root+p, nil, 0o600))
		}, reasonReplaced},
		"a mount": {[]string{home, rebuilt}, func(t *testing.T, root, p string) error {
			treetest.Bind(t, root+p, root+p)
			return nil
		}, reasonMount},
		"a parent that others may write":  {[]string{"/home", "/home/.aside"}, func(_ *testing.T, root, p string) error { return os.Chmod(root+p, 0o1777) }, ""},
		"a parent that a group may write": {[]string{"/home", "/home/.aside"}, func(_ *testing.T, root, p string) error { return os.Chmod(root+p, 0o770) }, ""},
		"a parent that is not root's":     {[]string{"/home", "/home/.aside"}, func(_ *testing.T, root, p string) error { return os.Chown(root+p, 1001, 0) }, ""},
		"a parent that is a user's link": {[]string{"/home/.aside"}, func(_ *testing.T, root, p string) error {
			return errors.Join(away(nil, root, p), os.Symlink(".aside.away", root+p), os.Lchown(root+p, 1001, 1001))
		}, ""},
		"a parent that is gone": {[]string{"/home/.aside"}, away, ""},
	} {
		for _, at := range c.at {
			t.Run(name+" at "+at, func(t *testing.T) {
				b := boxIn(t, treetest.OpenDir(t), swapTree+rebuiltTree)
				id := b.swapPlan(nil)
				if err := c.spoil(t, b.root, at); err != nil {
					t.Fatal(err)
				}
				before := b.describe()
				run := b.apply(id, b.options())
				why := b.reasons(run)[home]
				if run.Changed+run.Failed > 0 || run.Skipped != 1 || why == "" || c.why != "" && why != c.why {
					t.Errorf("%+v, %q", run, why)
				}
				b.exact("the tree", before)
				u := b.undo(run.ID)
				b.exact("the tree after undo", before)
				if u.Changed > 0 {
					t.Errorf("undo: %+v", u)
				}
			})
		}
	}
}

// What somebody exchanged after the run, or the removal of what was kept, is not undone, and that is said.
func TestUndoOfAnExchangeKnowsTheTwo(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(root string) error
		why   string
	}{
		"the old home is removed": {func(root string) error { return os.RemoveAll(root + rebuilt) }, "is not kept at"},
		"another home stands there": {func(root string) error {
			return errors.Join(os.Rename(root+home, root+"/home/other"), os.Mkdir(root+home, 0o711))
		}, reasonReplaced},
		"another stands where the old one was": {func(root string) error {
			return errors.Join(os.Rename(root+rebuilt, root+"/home/other"), os.Mkdir(root+rebuilt, 0o711))
		}, reasonReplaced},
		"both are gone": {func(root string) error { return errors.Join(os.RemoveAll(root+rebuilt), os.RemoveAll(root+home)) }, reasonReplaced},
	} {
		t.Run(name, func(t *testing.T) {
			b := boxIn(t, treetest.OpenDir(t), swapTree+rebuiltTree)
			run := b.apply(b.swapPlan(opened), b.options())
			b.calm("run", run)
			if err := c.spoil(b.root); err != nil {
				t.Fatal(err)
			}
			before := b.describe()
			u := b.undo(run.ID)
			if why := b.reasons(u)[home]; u.Changed > 0 || !strings.Contains(why, c.why) {
				t.Errorf("%+v, %q", u, why)
			}
			b.exact("undo", before)
		})
	}
	b := boxIn(t, treetest.OpenDir(t), swapTree+rebuiltTree)
	run := b.apply(b.swapPlan(nil), b.options())
	if err := unix.Renameat2(unix.AT_FDCWD, b.root+home, unix.AT_FDCWD, b.root+rebuilt, unix.RENAME_EXCHANGE); err != nil {
		t.Fatal(err)
	}
	before := b.describe()
	b.calm("undo of what somebody put back", b.undo(run.ID))
	b.exact("undo", before)
}

// What a run made of a tree that another run brought in stays, and that is said: undone it would be unmade in the home that
// is in its place.
func TestWhatAnotherRunBroughtInKeepsItsRights(t *testing.T) {
	b := boxIn(t, treetest.OpenDir(t), swapTree+rebuiltTree)
	id := b.swapPlan(opened)
	o := b.options()
	o.Exclude = func(_, p string) string {
		if p == home {
			return "excluded"
		}
		return ""
	}
	first := b.apply(id, o)
	second := b.apply(id, b.options())
	if first.Changed != 6 || second.Changed != 1 {
		t.Fatalf("%+v, %+v", first, second)
	}
	in := b.describe()
	u := b.undo(first.ID)
	if why := b.reasons(u); u.Changed > 0 || why[rebuilt+"/public_html/index.html"] != reasonStays || why[rebuilt+"/logs/log"] != reasonStays {
		t.Errorf("%+v, %v", u, why)
	}
	b.exact("undo of the first", in)
	b.calm("undo of the second", b.undo(second.ID))
	b.exact("undo of the second", swapped(in))
	b.calm("undo of the first then", b.undo(first.ID))
	if !strings.Contains(strings.Join(b.describe(), "\n"), `".aside/home/public_html/index.html" 100600 1001:1001`) {
		t.Error(b.describe())
	}
}

// What was put back by an undo is not put back again, whoever exchanged the two by hand since.
func TestAnUndoneExchangeIsNotUndoneTwice(t *testing.T) {
	b := boxIn(t, treetest.OpenDir(t), swapTree+rebuiltTree)
	run := b.apply(b.swapPlan(opened), b.options())
	in := b.describe()
	b.undo(run.ID)
	out := b.describe()
	b.undo(run.ID)
	b.exact("a second undo", out)
	if err := unix.Renameat2(unix.AT_FDCWD, b.root+home, unix.AT_FDCWD, b.root+rebuilt, unix.RENAME_EXCHANGE); err != nil {
		t.Fatal(err)
	}
	b.undo(run.ID)
	b.exact("an undo after an exchange by hand", in)
}

// What the kernel refuses is a failure with its reason, and nothing is moved: two file systems, a kernel or a file system
// without the call, a directory within the other. What is immutable is left alone.
func TestWhatCannotBeExchangedIsLeftAsItIs(t *testing.T) {
	refused := func(t *testing.T, b *box, id, want string) {
		t.Helper()
		before := b.describe()
		run := b.apply(id, b.options())
		if why := b.reasons(run)[home]; run.Changed > 0 || run.Skipped+run.Failed != 1 || !strings.Contains(why, want) {
			t.Errorf("%+v, %q", run, why)
		}
		b.exact("the tree", before)
		if u := b.undo(run.ID); u.Changed > 0 {
			t.Errorf("undo: %+v", u)
		}
		b.exact("the tree after undo", before)
	}
	t.Run("two file systems", func(t *testing.T) {
		b := boxIn(t, treetest.OpenDir(t), swapTree)
		treetest.Bind(t, treetest.Mounted(t, "tmpfs", "mode=700"), b.root+"/home/.aside")
		treetest.Build(t, b.root+"/home", rebuiltTree)
		refused(t, b, b.swapPlan(nil), "different file systems")
	})
	t.Run("one in the other", func(t *testing.T) {
		b := boxIn(t, treetest.OpenDir(t), "d 0711 0:0 alice\nd 0755 1001:1001 alice/within\n")
		refused(t, b, b.swapPlanOf(nil, home, home+"/within"), "one lies within the other")
	})
	t.Run("immutable", func(t *testing.T) {
		for _, at := range []string{home, rebuilt} {
			b := boxIn(t, treetest.Mounted(t, "ext4", ""), swapTree+rebuiltTree)
			id := b.swapPlan(nil)
			if out, err := exec.Command("chattr", "+i", b.root+at).CombinedOutput(); err != nil {
				t.Skipf("no chattr here: %v %s", err, out)
			}
			t.Cleanup(func() { exec.Command("chattr", "-i", b.root+at).Run() })
			refused(t, b, id, reasonImmutable)
			if err := exec.Command("chattr", "-i", b.root+at).Run(); err != nil {
				t.Fatal(err)
			}
			b.calm("once it is free", b.apply(id, b.options()))
		}
	})
	t.Run("nothing at both", func(t *testing.T) {
		b := boxIn(t, treetest.OpenDir(t), "d 0700 0:0 .aside\n")
		refused(t, b, b.swapPlan(nil), reasonGone)
	})
	t.Run("a file that the plan names", func(t *testing.T) {
		b := boxIn(t, treetest.OpenDir(t), "f 0644 0:0 alice\nd 0700 0:0 .aside\nf 0600 0:0 .aside/home\n")
		refused(t, b, b.swapPlan(nil), reasonReplaced)
	})
	t.Run("no place", func(t *testing.T) {
		for _, with := range []string{"home/.aside/home", "/home/.aside/.", "/home/.aside/..", "/home/.aside/", "/", ""} {
			b := boxIn(t, treetest.OpenDir(t), swapTree+rebuiltTree)
			c := &rightful.Change{Base: "/home", Rel: "alice", Kind: rightful.KindDir, ID: b.standing(home), Exchange: &rightful.Exchange{With: with, ID: b.standing(rebuilt)}}
			ap := newApplier(b.s, 1000, nil)
			if res := ap.exchange(&target{Change: c}); res.status != stSkipped || res.reason == "" {
				t.Errorf("%q: %+v", with, res)
			}
			ap.close()
		}
	})
}

// On a kernel without the call the run fails with a reason, and nothing is moved.
func TestAKernelThatCannotExchangeMovesNothing(t *testing.T) {
	treetest.Without(t, "renameat2")
	if !treetest.Denied("renameat2") {
		return
	}
	for name, spec := range cases {
		b := boxIn(t, treetest.OpenDir(t), spec)
		before := b.describe()
		run := b.apply(b.swapPlan(opened), b.options())
		if run.Failed != 1 || run.Changed != 6 || !strings.Contains(b.reasons(run)[home], "cannot exchange") {
			t.Errorf("%s: %+v %v", name, run, b.reasons(run))
		}
		b.calm("undo", b.undo(run.ID))
		b.exact("undo", before)
	}
}

// What is excluded at either place is left as it is, at first and when the run is resumed.
func TestAnExcludedExchangeIsLeftAlone(t *testing.T) {
	for _, at := range []string{home, rebuilt} {
		b := boxIn(t, treetest.OpenDir(t), swapTree+rebuiltTree)
		before := b.describe()
		o := b.options()
		o.Exclude = func(_, p string) string {
			if p == at {
				return "excluded"
			}
			return ""
		}
		run := b.apply(b.swapPlan(nil), o)
		if run.Skipped != 1 || b.reasons(run)[home] != "excluded" {
			t.Errorf("%+v, %v", run, b.reasons(run))
		}
		b.exact("an excluded exchange", before)
	}
}

// A plan with an exchange from a file elsewhere is kept and applied, and its run undone when the file is gone.
func TestAnExchangeFromAFileIsKept(t *testing.T) {
	b := boxIn(t, treetest.OpenDir(t), swapTree+rebuiltTree)
	id := b.swapPlan(opened)
	file := filepath.Join(t.TempDir(), "carried.plan")
	if err := os.Rename(b.state.planPath(id), file); err != nil {
		t.Fatal(err)
	}
	run := b.apply(file, b.options())
	b.calm("run", run)
	in := b.describe()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	b.calm("undo", b.undo(run.ID))
	b.exact("undo", swapped(in))
}

// A change that follows an exchange is made of the tree that stands at its path then.
func TestAChangeAfterAnExchangeIsOfWhatCameIn(t *testing.T) {
	b := boxIn(t, treetest.OpenDir(t), swapTree+rebuiltTree)
	before := b.describe()
	w, err := b.state.NewPlan(PlanHeader{Verb: "fix"})
	if err != nil {
		t.Fatal(err)
	}
	change := func(at, rel string, id rightful.EntryID, from, to rightful.Mode) *rightful.Change {
		return &rightful.Change{
			Base: at, Rel: rel, Kind: rightful.KindDir, ID: id,
			Before: rightful.Meta{UID: 1001, GID: 1001, Mode: from}, After: rightful.Meta{UID: 1001, GID: 1001, Mode: to},
		}
	}
	ruin, logs := b.standing(home+"/ruin"), b.standing(rebuilt+"/logs")
	swap := &rightful.Change{Base: "/home", Rel: "alice", Kind: rightful.KindDir, ID: b.standing(home), Exchange: &rightful.Exchange{With: rebuilt, ID: b.standing(rebuilt)}}
	err = errors.Join(w.Account(PlanAccount{Account: "alice"}), w.Change(change(home, "ruin", ruin, 0o755, 0o750)), w.Change(swap),
		w.Change(change(home, "logs", logs, 0o700, 0o711)), w.Change(change(rebuilt, "ruin", ruin, 0o750, 0o700)), w.Commit())
	if err != nil {
		t.Fatal(err)
	}
	run := b.apply(w.ID(), b.options())
	b.calm("run", run)
	got := strings.Join(b.describe(), "\n")
	if !strings.Contains(got, `"alice/logs" 40711`) || !strings.Contains(got, `".aside/home/ruin" 40700`) {
		t.Error(got)
	}
	b.calm("undo", b.undo(run.ID))
	b.exact("undo", before)
}

// A plan of the format from before there were exchanges is read as it was, byte for byte, and one with an exchange of what
// is no directory is refused.
func TestAnOldPlanIsReadAsBefore(t *testing.T) {
	old := []byte("\x00\x01\x02\x02\x02\x02\x03rel\x02hh\x07\x10\x01\xe9\x07\xe9\x07\xa4\x03\x00\x00\x00\xe9\x07\x21\xa0\x03\x00\x00\x00\x00")
	c, err := decodeChange(old, []string{"/home/alice", "fs", ""})
	if err != nil {
		t.Fatal(err)
	}
	want := &rightful.Change{
		Base: "/home/alice", Rel: "rel", Kind: rightful.Kind(2), ID: rightful.EntryID{FS: "fs", Handle: []byte("hh"), Ino: 7, Birth: 8}, Links: 1,
		Before: rightful.Meta{UID: 1001, GID: 1001, Mode: 0o644}, After: rightful.Meta{UID: 1001, GID: 33, Mode: 0o640},
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("(-want +read):\n%s", diff)
	}
	file := bytes.Clone(old)
	file[5] = byte(rightful.KindFile)
	file = append(file[:len(file)-1], "\x02\x02/x\x00\x00\x00\x00"...)
	if _, err := decodeChange(file, []string{"/home/alice", "fs", ""}); err == nil {
		t.Error("a file that changes places with a directory was read")
	}
	file[5] = byte(rightful.KindDir)
	if c, err := decodeChange(file, []string{"/home/alice", "fs", ""}); err != nil || c.Exchange == nil || c.Exchange.With != "/x" {
		t.Errorf("%+v, %v", c, err)
	}
}
