package repair

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
)

// A box is a server root with accounts, and a state directory, for one test.
type box struct {
	t     testing.TB
	root  string
	s     *tree.Server
	state *State
}

const aliceTree = `
d 0711 1001:1001 alice
d 0750 1001:33 alice/public_html
f 0644 1001:1001 alice/public_html/index.html = hello
f 4755 0:0 alice/public_html/suid = privileged
f 0755 0:0 alice/public_html/capable caps = capable
f 0640 1001:1001 alice/public_html/acl acl=user::rw-,user:1005:rw-,group::r--,mask::rw-,other::---
d 2775 1001:33 alice/public_html/setgid default=user::rwx,user:33:r-x,group::r-x,mask::r-x,other::---
f 0600 1001:1001 "alice/public_html/new\nline \x1b[31m \xff" = odd
f 0600 1001:1001 alice/public_html/-rf
l 0777 1001:1001 alice/www -> public_html
f 0644 1001:1001 alice/linked = two
h 0644 1001:1001 alice/public_html/linked -> alice/linked
p 0600 1001:1001 alice/fifo
d 0711 1002:1002 bob
f 0644 1002:1002 bob/index.html = bob
`

func newBox(t testing.TB, spec string) *box {
	treetest.NeedRoot(t)
	root := t.TempDir()
	os.Chmod(root, 0o755)
	os.Mkdir(filepath.Join(root, "home"), 0o711)
	os.Chmod(filepath.Join(root, "home"), 0o711)
	treetest.Build(t, filepath.Join(root, "home"), spec)
	return openBox(t, root, filepath.Join(t.TempDir(), "state"))
}

func openBox(t testing.TB, root, state string) *box {
	s, err := tree.OpenServer(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	st, err := OpenState(state, s)
	if err != nil {
		t.Fatal(err)
	}
	return &box{t, root, s, st}
}

func (b *box) describe() []string { return treetest.Describe(b.t, filepath.Join(b.root, "home")) }

// changer decides what becomes of an entry; nil leaves it alone.
type changer func(rel string, k rightful.Kind, m rightful.Meta) *rightful.Meta

// plan walks the accounts and writes a plan.
func (b *box) plan(fn changer, accounts ...string) string {
	b.t.Helper()
	w, err := b.state.NewPlan(PlanHeader{Verb: "fix", By: "test"})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, a := range accounts {
		base, err := b.s.OpenBase("/home/" + a)
		if err != nil {
			b.t.Fatal(err)
		}
		pa := PlanAccount{Account: a, Home: "/home/" + a, Bases: []string{"/home/" + a}}
		pa.Before = []rightful.Verdict{{Account: a, Site: a + ".example", State: rightful.SiteDown}}
		pa.After = []rightful.Verdict{{Account: a, Site: a + ".example", State: rightful.SiteOK}}
		if err := w.Account(pa); err != nil {
			b.t.Fatal(err)
		}
		p := &planner{b: b, w: w, fn: fn, base: base, seen: map[uint64]bool{}}
		if err := base.Walk(context.Background(), p, true); err != nil {
			b.t.Fatal(err)
		}
		base.Close()
	}
	if err := w.Commit(); err != nil {
		b.t.Fatal(err)
	}
	return w.ID()
}

type planner struct {
	b    *box
	w    *PlanWriter
	fn   changer
	base *tree.Base
	seen map[uint64]bool
}

func (p *planner) Entry(_ *tree.Dir, e *tree.Entry) (bool, error) {
	m, err := e.Meta()
	if err != nil {
		return false, err
	}
	if p.seen[e.Ino] {
		return true, nil
	}
	want := p.fn(e.Rel(), e.Kind, m)
	if want == nil {
		return true, nil
	}
	p.seen[e.Ino] = true
	c := &rightful.Change{Base: p.base.Path(), Rel: e.Rel(), Kind: e.Kind, ID: e.ID(), Links: e.Nlink, Before: m, After: *want, Problem: "test", Effect: rightful.EffectWrong, Rule: "test.toml:rule"}
	if e.Kind == rightful.KindFile && (m.Mode&0o6000 != 0 || len(m.Caps) > 0 || m.UID < 1000) {
		n, err := e.Pin()
		if err != nil {
			return false, err
		}
		ct, _, err := n.Content(context.Background(), false)
		n.Close()
		if err != nil {
			return false, err
		}
		c.Content = &ct
	}
	return true, p.w.Change(c)
}
func (p *planner) Enter(*tree.Dir) error { return nil }
func (p *planner) Leave(*tree.Dir) error { return nil }
func (p *planner) Fail(rel string, err error) {
	p.b.t.Errorf("walk %q: %v", rel, err)
}

// allToCarol gives everything to another user with another mode, taking privileges, ACLs and all.
func allToCarol(_ string, k rightful.Kind, m rightful.Meta) *rightful.Meta {
	w := rightful.Meta{UID: 1003, GID: 1003, Mode: 0o640}
	switch k {
	case rightful.KindDir:
		w.Mode = 0o750
	case rightful.KindSymlink:
		w.Mode = m.Mode
	}
	return &w
}

func (b *box) options() Options { return Options{Server: b.s, By: "test", Command: "test"} }

func (b *box) apply(id string, o Options) *rightful.Run {
	b.t.Helper()
	p, err := b.state.OpenPlan(id)
	if err != nil {
		b.t.Fatal(err)
	}
	defer p.Close()
	run, err := b.state.Apply(context.Background(), p, o)
	if err != nil {
		b.t.Fatal(err)
	}
	return run
}

func (b *box) undo(id string) *rightful.Run {
	b.t.Helper()
	plan, err := b.state.PlanUndo(context.Background(), id, b.options(), PlanHeader{By: "test"})
	if err != nil {
		b.t.Fatal(err)
	}
	return b.apply(plan, b.options())
}

// Undo puts back owner, group, mode, ACLs and capabilities of every entry exactly; undo of the undo redoes.
func TestUndoIsExactAndRedoToo(t *testing.T) {
	b := newBox(t, aliceTree)
	before := b.describe()
	run := b.apply(b.plan(allToCarol, "alice", "bob"), b.options())
	if run.State != rightful.RunDone || run.Skipped+run.Failed > 0 || run.Changed == 0 {
		t.Fatalf("run: %+v", run)
	}
	after := b.describe()
	if cmp.Equal(before, after) {
		t.Fatal("the run changed nothing")
	}
	u := b.undo(run.ID)
	if diff := cmp.Diff(before, b.describe()); diff != "" {
		t.Errorf("undo is not exact (-before +now):\n%s", diff)
	}
	if u.Changed != run.Changed || u.Undoes != run.ID {
		t.Errorf("undo: %+v", u)
	}
	b.undo(u.ID)
	if diff := cmp.Diff(after, b.describe()); diff != "" {
		t.Errorf("redo is not exact (-after +now):\n%s", diff)
	}
}

// Applying a plan twice changes nothing the second time, and the second run owns nothing.
func TestApplyingAPlanTwiceChangesNothing(t *testing.T) {
	b := newBox(t, aliceTree)
	id := b.plan(allToCarol, "alice")
	first := b.apply(id, b.options())
	after := b.describe()
	second := b.apply(id, b.options())
	if second.Changed != 0 || second.Skipped != 0 {
		t.Errorf("second run: %+v", second)
	}
	if diff := cmp.Diff(after, b.describe()); diff != "" {
		t.Error(diff)
	}
	b.undo(second.ID)
	if diff := cmp.Diff(after, b.describe()); diff != "" {
		t.Errorf("undoing the run that did nothing did something:\n%s", diff)
	}
	_ = first
}

// What somebody changed since the plan, or since the run, is left as it is and reported.
func TestWhatOthersChangedIsLeftAlone(t *testing.T) {
	b := newBox(t, aliceTree)
	home := filepath.Join(b.root, "home")
	index := filepath.Join(home, "alice/public_html/index.html")
	linked := filepath.Join(home, "bob/index.html")
	id := b.plan(allToCarol, "alice", "bob")
	os.Chmod(index, 0o600)
	os.Remove(filepath.Join(home, "alice/fifo"))
	run := b.apply(id, b.options())
	if run.Skipped != 2 {
		t.Errorf("skipped %d, want 2", run.Skipped)
	}
	_, items, err := b.state.Run(run.ID)
	if err != nil {
		t.Fatal(err)
	}
	why := map[string]string{}
	for _, i := range items {
		why[i.Path] = i.Reason
	}
	if why["/home/alice/public_html/index.html"] != reasonChanged || why["/home/alice/fifo"] != reasonGone {
		t.Errorf("reasons: %v", why)
	}
	os.Chmod(linked, 0o604)
	b.undo(run.ID)
	if fi, _ := os.Stat(linked); fi.Mode().Perm() != 0o604 {
		t.Errorf("undo overwrote what was changed since: %v", fi.Mode())
	}
	if fi, _ := os.Stat(index); fi.Mode().Perm() != 0o600 {
		t.Errorf("undo touched what the run had skipped: %v", fi.Mode())
	}
}

// An entry that was moved within the account is found by undo all the same.
func TestUndoFindsWhatWasMoved(t *testing.T) {
	b := newBox(t, aliceTree)
	home := filepath.Join(b.root, "home/alice")
	run := b.apply(b.plan(allToCarol, "alice"), b.options())
	if err := os.Rename(filepath.Join(home, "public_html"), filepath.Join(home, "old")); err != nil {
		t.Fatal(err)
	}
	u := b.undo(run.ID)
	if u.Skipped != 0 || u.Changed != run.Changed {
		t.Errorf("undo: %+v", u)
	}
	if err := os.Rename(filepath.Join(home, "old"), filepath.Join(home, "public_html")); err != nil {
		t.Fatal(err)
	}
	want := newBox(t, aliceTree).describe()
	if diff := cmp.Diff(want, b.describe()); diff != "" {
		t.Error(diff)
	}
}

// A privilege comes back only with the content that had it and while nobody can be writing (law 5).
func TestUndoGivesAPrivilegeOnlyToUnchangedContent(t *testing.T) {
	for _, c := range []struct {
		name   string
		tamper func(path string) func()
		want   os.FileMode
	}{
		{"untouched", func(string) func() { return func() {} }, os.ModeSetuid | 0o755},
		{"edited", func(p string) func() { os.WriteFile(p, []byte("evil"), 0); return func() {} }, 0o755},
		{"held open for writing", func(p string) func() {
			f, err := os.OpenFile(p, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			return func() { f.Close() }
		}, 0o755},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t, aliceTree)
			p := filepath.Join(b.root, "home/alice/public_html/suid")
			run := b.apply(b.plan(allToCarol, "alice"), b.options())
			defer c.tamper(p)()
			u := b.undo(run.ID)
			fi, err := os.Stat(p)
			if err != nil {
				t.Fatal(err)
			}
			if fi.Mode() != c.want {
				t.Errorf("mode %v, want %v", fi.Mode(), c.want)
			}
			_, items, err := b.state.Run(u.ID)
			if err != nil {
				t.Fatal(err)
			}
			said := slices.ContainsFunc(items, func(i Item) bool { return i.Reason == reasonWithheld })
			if said != (c.want&os.ModeSetuid == 0) {
				t.Errorf("the run says %v", items)
			}
		})
	}
}

// fakeVerifier says that some accounts got worse.
type fakeVerifier struct{ worse, cured []string }

func (f *fakeVerifier) Baseline(context.Context, []string) (json.RawMessage, error) {
	return json.RawMessage(`{"ok":true}`), nil
}
func (f *fakeVerifier) Restore(json.RawMessage) error { return nil }
func (f *fakeVerifier) Judge(_ context.Context, accounts []string) (js []Judgement, err error) {
	for _, a := range accounts {
		j := Judgement{Account: a}
		if slices.Contains(f.worse, a) {
			j.Worse, j.Reason = []string{a + ".example"}, "403 instead of 200"
		}
		if slices.Contains(f.cured, a) {
			j.Cured = []string{a + ".example"}
		}
		js = append(js, j)
	}
	return js, nil
}

// A canary that gets worse, or is not cured, is taken back exactly, and nobody else is touched.
func TestABadCanaryIsTakenBackAndTheRunStops(t *testing.T) {
	for name, v := range map[string]*fakeVerifier{"worse": {worse: []string{"alice"}, cured: []string{"alice"}}, "not cured": {}} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, aliceTree)
			before := b.describe()
			o := b.options()
			o.Verify = v
			run := b.apply(b.plan(allToCarol, "alice", "bob"), o)
			if run.State != rightful.RunTakenBack || run.Changed != 0 || len(run.Stages) != 1 || run.Reason == "" {
				t.Errorf("run: %+v", run)
			}
			if diff := cmp.Diff(before, b.describe()); diff != "" {
				t.Error(diff)
			}
			if _, err := b.state.Newest(nil); !errors.Is(err, ErrNothing) {
				t.Errorf("there is something to undo: %v", err)
			}
		})
	}
}

// An account that gets worse in a later stage is taken back by itself; verified accounts stay.
func TestAWorseAccountIsTakenBackByItself(t *testing.T) {
	b := newBox(t, aliceTree)
	o := b.options()
	o.Verify = &fakeVerifier{worse: []string{"bob"}, cured: []string{"alice"}}
	bob := treetest.Describe(t, filepath.Join(b.root, "home/bob"))
	run := b.apply(b.plan(allToCarol, "alice", "bob"), o)
	if diff := cmp.Diff(bob, treetest.Describe(t, filepath.Join(b.root, "home/bob"))); diff != "" {
		t.Errorf("bob was not taken back:\n%s", diff)
	}
	if run.Changed == 0 || len(run.Stages) != 2 || !cmp.Equal(run.Stages[1].TakenBack, []string{"bob"}) {
		t.Errorf("run: %+v", run)
	}
}

// Plans that are cut off, altered, newer, or made for another server are refused whole.
func TestDamagedPlansAreRefused(t *testing.T) {
	b := newBox(t, aliceTree)
	before := b.describe()
	id := b.plan(allToCarol, "alice")
	path := b.state.planPath(id)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if n%7 != 0 && n < len(good)-20 {
			continue
		}
		os.WriteFile(path, good[:n], 0o600)
		if p, err := b.state.OpenPlan(id); err == nil {
			p.Close()
			t.Fatalf("a plan cut at byte %d of %d was accepted", n, len(good))
		}
		bad := slices.Clone(good)
		bad[n] ^= 0x20
		os.WriteFile(path, bad, 0o600)
		if p, err := b.state.OpenPlan(id); err == nil {
			p.Close()
			t.Fatalf("a plan with byte %d of %d altered was accepted", n, len(good))
		}
	}
	header := strings.Index(string(good), `{"version":1`)
	newer := slices.Clone(good)
	newer[header+len(`{"version":`)] = '2'
	n := uint32(newer[8]) | uint32(newer[9])<<8 | uint32(newer[10])<<16
	c := sum(8, newer[16:16+n])
	copy(newer[12:], []byte{byte(c), byte(c >> 8), byte(c >> 16), byte(c >> 24)})
	os.WriteFile(path, newer, 0o600)
	if _, err := b.state.OpenPlan(id); !errors.Is(err, ErrNewerPlan) {
		t.Errorf("newer plan: %v", err)
	}
	os.WriteFile(path, good, 0o600)
	os.MkdirAll(filepath.Join(b.root, "etc"), 0o755)
	os.WriteFile(filepath.Join(b.root, "etc/machine-id"), []byte("0123\n"), 0o644)
	if _, err := openBox(t, b.root, b.state.dir.Path).state.OpenPlan(id); !errors.Is(err, ErrForeignPlan) {
		t.Errorf("plan of another server: %v", err)
	}
	if diff := cmp.Diff(before, b.describe()); diff != "" {
		t.Error(diff)
	}
}

// An interrupted run is finished by resume, or taken back by undo, and nothing is touched twice.
func TestInterruptedRunsResumeAndUndo(t *testing.T) {
	for cut := range 12 {
		for _, how := range []string{"resume", "undo"} {
			t.Run(fmt.Sprint(how, " after ", cut), func(t *testing.T) {
				b := newBox(t, aliceTree)
				before := b.describe()
				id := b.plan(allToCarol, "alice", "bob")
				p, err := b.state.OpenPlan(id)
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				ctx, cancel := context.WithCancel(context.Background())
				o := b.options()
				o.Jobs = 1
				n := 0
				o.stepped = func() {
					if n++; n == cut {
						cancel()
					}
				}
				if cut == 0 {
					cancel()
				}
				run, err := b.state.Apply(ctx, p, o)
				if !errors.Is(err, context.Canceled) || run.State != rightful.RunInterrupted {
					t.Fatalf("run: %+v, %v", run, err)
				}
				if how == "undo" {
					b.undo(run.ID)
					if diff := cmp.Diff(before, b.describe()); diff != "" {
						t.Error(diff)
					}
					return
				}
				run, err = b.state.Resume(context.Background(), run.ID, b.options())
				if err != nil || run.State != rightful.RunDone || run.Changed != p.Changes {
					t.Fatalf("resume: %+v, %v", run, err)
				}
				b.undo(run.ID)
				if diff := cmp.Diff(before, b.describe()); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}
