package repair

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"rightful"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
)

const envCrash = "RIGHTFUL_TEST_CRASH"

// A crash is what a child process does before it kills itself.
type crash struct {
	Root, State, ID string
	What            string // apply a plan, resume a run, undo a run
	After           int    // system calls that changed something
	Verify          string // alice's site gets "worse" or is "cured"; empty for no verification
}

func TestMain(m *testing.M) {
	if treetest.Child() {
		return
	}
	var c crash
	if spec := os.Getenv(envCrash); spec == "" {
		os.Exit(m.Run())
	} else if err := json.Unmarshal([]byte(spec), &c); err != nil {
		panic(err)
	}
	if err := c.run(); err != nil {
		panic(err)
	}
}

// child is a testing.TB for a process that is not under test.
type child struct{ testing.TB }

func (child) Helper()                   {}
func (child) Cleanup(func())            {}
func (child) Fatal(a ...any)            { panic(fmt.Sprint(a...)) }
func (child) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
func (child) Errorf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
func (c crash) options(b *box) (o Options) {
	o = b.options()
	o.Jobs = 1
	n := 0
	o.stepped = func() {
		if n++; n == c.After {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // it does not come back
		}
	}
	switch c.Verify {
	case "worse":
		o.Verify = &fakeVerifier{worse: []string{"alice"}}
	case "cured":
		o.Verify = &fakeVerifier{cured: []string{"alice"}}
	}
	return o
}

func (c crash) run() error {
	b := openBox(child{}, c.Root, c.State)
	o := c.options(b)
	ctx := context.Background()
	if c.What == "resume" {
		_, err := b.state.Resume(ctx, c.ID, o)
		return err
	}
	id := c.ID
	if c.What == "undo" {
		var err error
		if id, err = b.state.PlanUndo(ctx, id, o, PlanHeader{}); err != nil {
			return err
		}
		o.Verify = nil
	}
	p, err := b.state.OpenPlan(id)
	if err == nil {
		_, err = b.state.Apply(ctx, p, o)
	}
	return err
}

// crash runs a child until it has killed itself, and reports whether it did before it was done.
func (b *box) crash(what, id string, after int, verify string) (killed bool) {
	b.t.Helper()
	spec, _ := json.Marshal(crash{b.root, b.state.dir.Path, id, what, after, verify})
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envCrash+"="+string(spec))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	if err != nil {
		b.t.Fatalf("%s: %v\n%s", what, err, out)
	}
	return false
}

const smallTree = `
d 0711 1001:1001 alice
d 2775 1001:33 alice/dir default=user::rwx,user:33:r-x,group::r-x,mask::r-x,other::---
f 4755 0:0 alice/suid = privileged
f 0755 0:0 alice/capable caps = capable
f 0660 1001:1001 alice/acl acl=user::rw-,user:1005:rw-,group::r--,mask::rw-,other::---
f 0644 1001:1001 "alice/odd\n\xff"
l 0777 1001:1001 alice/link -> dir
f 0644 1001:1001 alice/gains
`

// boxIn is newBox in a directory.
func boxIn(t testing.TB, dir, spec string) *box {
	t.Helper()
	root, err := os.MkdirTemp(dir, "box")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	if err := errors.Join(os.Chmod(root, 0o755), os.Mkdir(filepath.Join(root, "home"), 0o711)); err != nil {
		t.Fatal(err)
	}
	treetest.Build(t, filepath.Join(root, "home"), spec)
	return openBox(t, root, filepath.Join(root, "state"))
}

// A todo is one change of alice's: what an entry is to become.
type todo struct {
	rel   string
	after rightful.Meta
}

// write makes a plan of exactly these changes. An entry may have several.
func (b *box) write(todos ...todo) string {
	b.t.Helper()
	base, err := b.s.OpenBase("/home/alice")
	if err != nil {
		b.t.Fatal(err)
	}
	defer base.Close()
	w, err := b.state.NewPlan(PlanHeader{Verb: "fix"})
	if err != nil {
		b.t.Fatal(err)
	}
	pa := PlanAccount{Account: "alice", Home: "/home/alice", Bases: []string{"/home/alice"}}
	if err := w.Account(pa); err != nil {
		b.t.Fatal(err)
	}
	last := map[string]rightful.Meta{}
	cur := base.Cursor()
	defer cur.Close()
	for _, d := range todos {
		n, err := cur.Open(d.rel)
		if err != nil {
			b.t.Fatal(err)
		}
		before, err := n.Refresh()
		if err != nil {
			b.t.Fatal(err)
		}
		if m, ok := last[d.rel]; ok {
			before = m
		}
		last[d.rel] = d.after
		c := &rightful.Change{Base: "/home/alice", Rel: d.rel, Kind: n.Stat.Kind, ID: n.ID(), Links: n.Stat.Nlink, Before: before, After: d.after}
		if n.Stat.Kind == rightful.KindFile && before.UID == 0 {
			ct, _, err := n.Content(context.Background(), false)
			if err != nil {
				b.t.Fatal(err)
			}
			c.Content = &ct
		}
		n.Close()
		if err := w.Change(c); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		b.t.Fatal(err)
	}
	return w.ID()
}

// smallPlan has every kind of change; the directory is closed before what is beneath it, and opened to others after.
func (b *box) smallPlan() string {
	meta := func(uid, gid uint32, mode rightful.Mode) rightful.Meta {
		return rightful.Meta{UID: uid, GID: gid, Mode: mode}
	}
	gains := meta(1001, 33, 0o660)
	gains.ACL, _ = rightful.ParseACL("user::rw-,user:33:rw-,group::r--,mask::rw-,other::---")
	return b.write(
		todo{"dir", meta(1001, 33, 0o2700)},
		todo{"suid", meta(1003, 1003, 0o755)},
		todo{"capable", meta(1003, 1003, 0o640)},
		todo{"acl", meta(1003, 1003, 0o640)},
		todo{"odd\n\xff", meta(1003, 33, 0o604)},
		todo{"link", meta(1003, 1003, 0o777)},
		todo{"gains", gains},
		todo{"dir", meta(1003, 1003, 0o755)},
	)
}

// exact compares the tree with what it was, down to the last line.
func (b *box) exact(what string, want []string) {
	b.t.Helper()
	if diff := cmp.Diff(want, b.describe()); diff != "" {
		b.t.Errorf("%s is not exact (-want +now):\n%s", what, diff)
	}
}

// cutShort gives the newest run, which must have been cut short.
func (b *box) cutShort() rightful.Run {
	b.t.Helper()
	runs, err := b.state.Runs()
	if err != nil || len(runs) == 0 || runs[0].State != rightful.RunInterrupted || runs[0].InDoubt+runs[0].Changed == 0 {
		b.t.Fatalf("runs: %+v, %v", runs, err)
	}
	return runs[0]
}

// calm makes sure that a run left nothing alone and nothing failed.
func (b *box) calm(what string, run *rightful.Run) {
	b.t.Helper()
	_, items, err := b.state.Run(run.ID)
	if err != nil || run.State != rightful.RunDone || run.Skipped+run.Failed > 0 || len(items) > 0 {
		b.t.Errorf("%s: %+v, %+v, %v", what, run, items, err)
	}
}

func (b *box) resume(id string) *rightful.Run {
	b.t.Helper()
	run, err := b.state.Resume(context.Background(), id, b.options())
	if err != nil {
		b.t.Fatal(err)
	}
	return run
}

func onEach(t *testing.T, kinds []string, fn func(t *testing.T, dir string)) {
	for _, fs := range kinds {
		t.Run(fs, func(t *testing.T) { fn(t, treetest.Mounted(t, fs, "")) })
	}
}

// A run with several changes of one entry is undone to the state before the first, and redone.
func TestUndoOfSeveralChangesOfOneEntryIsExact(t *testing.T) {
	b := boxIn(t, treetest.OpenDir(t), smallTree)
	before := b.describe()
	run := b.apply(b.smallPlan(), b.options())
	b.calm("run", run)
	after := b.describe()
	u := b.undo(run.ID)
	b.calm("undo", u)
	b.exact("undo", before)
	b.calm("redo", b.undo(u.ID))
	b.exact("redo", after)
}

// Killed after any change of any entry, a run is taken back exactly, or finished exactly and then taken back.
func TestARunKilledAtAnyStepIsUndoneOrResumed(t *testing.T) {
	onEach(t, []string{"tmpfs", "ext4"}, func(t *testing.T, dir string) {
		b := boxIn(t, dir, smallTree)
		before := b.describe()
		b.apply(b.smallPlan(), b.options())
		after := b.describe()
		for n, killed := 1, true; killed; n++ {
			for _, how := range []string{"undo", "resume"} {
				b := boxIn(t, dir, smallTree)
				if killed = b.crash("apply", b.smallPlan(), n, ""); !killed {
					break
				}
				run := b.cutShort()
				what := fmt.Sprintf("%s after a kill at step %d", how, n)
				if how == "resume" {
					done := b.resume(run.ID)
					b.calm(what, done)
					if done.Changed != 8 {
						b.t.Errorf("%s: %d changed", what, done.Changed)
					}
					b.exact(what, after)
					what += ", then undo"
				}
				b.calm(what, b.undo(run.ID))
				b.exact(what, before)
			}
		}
	})
}

// Killed again while it is undone, or while it is resumed, a run is still taken back exactly.
func TestARunKilledTwiceIsUndone(t *testing.T) {
	dir := treetest.Mounted(t, "tmpfs", "")
	before := boxIn(t, dir, smallTree).describe()
	for _, second := range []string{"undo", "resume"} {
		for n := 1; ; n += 3 {
			first, again := true, true
			for m := 1; again; m++ {
				b := boxIn(t, dir, smallTree)
				if first = b.crash("apply", b.smallPlan(), n, ""); !first && second == "resume" {
					break
				}
				runs, err := b.state.Runs()
				if err != nil {
					t.Fatal(err)
				}
				if again = b.crash(second, runs[0].ID, m, ""); !again {
					break
				}
				what := fmt.Sprintf("undo after kills at step %d and step %d of %s", n, m, second)
				b.calm(what, b.undo(runs[0].ID))
				b.exact(what, before)
			}
			if !first || t.Failed() {
				break
			}
		}
	}
}

// Killed while an account is taken back, a run is finished by resume, which takes it back, and by undo.
func TestATakeBackKilledAtAnyStepIsFinished(t *testing.T) {
	onEach(t, []string{"tmpfs", "ext4"}, func(t *testing.T, dir string) {
		before := boxIn(t, dir, smallTree).describe()
		for n, killed := 1, true; killed && !t.Failed(); n++ {
			for _, how := range []string{"undo", "resume", "resume without verification"} {
				b := boxIn(t, dir, smallTree)
				if killed = b.crash("apply", b.smallPlan(), n, "worse"); !killed {
					break
				}
				id := b.cutShort().ID
				what := fmt.Sprintf("%s after a kill at step %d", how, n)
				if how == "undo" {
					b.calm(what, b.undo(id))
					b.exact(what, before)
					continue
				}
				o := b.options()
				if how == "resume" {
					o.Verify = &fakeVerifier{worse: []string{"alice"}}
				}
				prior, err := b.state.readOutcome(id, nil)
				if err != nil {
					t.Fatal(err)
				}
				run, err := b.state.Resume(context.Background(), id, o)
				if err != nil {
					t.Fatal(err)
				}
				// Without verification only a take-back that was decided before is finished.
				if len(prior.taken) > 0 && run.State != rightful.RunTakenBack {
					t.Errorf("%s: %+v", what, run)
				}
				if how == "resume" && run.State != rightful.RunTakenBack {
					t.Errorf("%s: %+v", what, run)
				}
				if run.State == rightful.RunTakenBack {
					b.exact(what, before)
				} else {
					b.calm(what, b.undo(id))
					b.exact(what, before)
				}
			}
		}
	})
}

// Wherever a power cut truncates the outcome, what is left of it is enough: undo gives the state before, exactly.
func TestAnOutcomeCutAnywhereIsEnoughToUndo(t *testing.T) {
	dir := treetest.Mounted(t, "tmpfs", "")
	b := boxIn(t, dir, smallTree)
	b.apply(b.smallPlan(), b.options())
	// The records of two runs are not of one length: a time may have a digit more.
	for n, rest := 0, len(b.outcome(t))-b.announced(t); n <= rest; n++ {
		b := boxIn(t, dir, smallTree)
		before := b.describe()
		run := b.apply(b.smallPlan(), b.options())
		path := b.state.runPath(run.ID)
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, min(int64(b.announced(t)+n), st.Size())); err != nil {
			t.Fatal(err)
		}
		when := fmt.Sprintf("undo of an outcome of %d bytes behind its announcement", n)
		b.calm(when, b.undo(run.ID))
		b.exact(when, before)
		if t.Failed() {
			return
		}
	}
}

func (b *box) outcome(t *testing.T) []byte {
	names, err := filepath.Glob(filepath.Join(b.state.dir.Path, runsDir, "*.outcome"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	data, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// announced is where the announcement of the first batch ends in the outcome: nothing is changed before it is there.
func (b *box) announced(t *testing.T) int {
	data := b.outcome(t)
	r := newRecordReader(strings.NewReader(string(data)), int64(len(outcomeMagic)), int64(len(data)))
	for {
		kind, _, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		if kind == recBegin {
			return int(r.off)
		}
	}
}

// What somebody changed after a run to a state that only lies on the way is left alone: the run was done with it.
func TestUndoKnowsAFinishedChangeFromOneCutShort(t *testing.T) {
	b := boxIn(t, treetest.OpenDir(t), smallTree)
	id := b.write(todo{"odd\n\xff", rightful.Meta{UID: 1003, GID: 33, Mode: 0o604}})
	run := b.apply(id, b.options())
	p := filepath.Join(b.root, "home/alice/odd\n\xff")
	if err := os.Chown(p, 1001, 1001); err != nil { // the mode is still that of the run: so it was after its first step
		t.Fatal(err)
	}
	now := b.describe()
	before := rightful.Meta{UID: 1001, GID: 1001, Mode: 0o644}
	if !knownState(rightful.Meta{UID: 1001, GID: 1001, Mode: 0o604}, before, rightful.Meta{UID: 1003, GID: 33, Mode: 0o604}, rightful.KindFile) {
		t.Fatal("that is no step of the run")
	}
	b.undo(run.ID)
	b.exact("undo", now)
}

// A run that was verified stage by stage is resumed at the stage where it was cut short, verified or not.
func TestAResumedRunMakesTheStagesThatAreLeft(t *testing.T) {
	dir := treetest.OpenDir(t)
	done := boxIn(t, dir, aliceTree)
	done.apply(done.plan(allToCarol, "alice", "bob"), done.options())
	after := done.describe()
	last := 0
	for n, killed := 1, true; killed; n++ {
		b := boxIn(t, dir, aliceTree)
		if killed = b.crash("apply", b.plan(allToCarol, "alice", "bob"), n, "cured"); !killed {
			break
		}
		last = len(b.cutShort().Stages)
		run := b.resume(b.cutShort().ID)
		if run.State != rightful.RunDone || len(run.Stages) != 2 {
			t.Errorf("resume after a kill at step %d: %+v", n, run)
		}
		b.exact(fmt.Sprintf("resume after a kill at step %d", n), after)
	}
	if last != 1 {
		t.Errorf("the last kill was after %d stages, want 1", last)
	}
}

// An undo that withheld a privilege, its content having changed, and was killed at any step, is finished by another.
func TestAnUndoThatWithholdsAPrivilegeOutlivesAKill(t *testing.T) {
	dir := treetest.Mounted(t, "tmpfs", "")
	for n, killed := 1, true; killed; n++ {
		for _, how := range []string{"undo", "resume"} {
			b := boxIn(t, dir, smallTree)
			suid := filepath.Join(b.root, "home/alice/suid")
			run := b.apply(b.write(todo{"suid", rightful.Meta{UID: 1003, GID: 1003, Mode: 0o711}}), b.options())
			if err := os.WriteFile(suid, []byte("evil"), 0); err != nil {
				t.Fatal(err)
			}
			if killed = b.crash("undo", run.ID, n, ""); !killed {
				break
			}
			var last *rightful.Run
			if how == "undo" {
				last = b.undo(run.ID)
			} else {
				last = b.resume(b.cutShort().ID)
			}
			_, items, err := b.state.Run(last.ID)
			if err != nil || slices.ContainsFunc(items, func(i Item) bool { return i.Reason != reasonWithheld }) {
				t.Errorf("%s after a kill at step %d: %+v, %v", how, n, items, err)
			}
			var st syscall.Stat_t
			if err := syscall.Stat(suid, &st); err != nil || st.Uid != 0 || st.Mode != syscall.S_IFREG|0o755 {
				t.Errorf("%s after a kill at step %d: uid %d, mode %o, %v", how, n, st.Uid, st.Mode, err)
			}
		}
	}
}
