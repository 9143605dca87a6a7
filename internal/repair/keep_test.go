package repair

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rightful"
	"rightful/internal/state"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// A run of a plan from a file elsewhere can be told about and taken back when that file is gone.
func TestPlanFromAFileCanBeUndone(t *testing.T) {
	b := newBox(t, aliceTree)
	before := b.describe()
	id := b.plan(allToCarol, "alice")
	file := filepath.Join(t.TempDir(), "carried.plan")
	if err := os.Rename(b.state.planPath(id), file); err != nil {
		t.Fatal(err)
	}
	run := b.apply(file, b.options())
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.state.Run(run.ID); err != nil {
		t.Error(err)
	}
	b.undo(run.ID)
	if diff := cmp.Diff(before, b.describe()); diff != "" {
		t.Errorf("undo is not exact (-before +now):\n%s", diff)
	}
}

// What is applied is what is kept: a file that is rewritten after it was read, or whose name another plan has, is refused.
func TestPlanFromAFileIsAppliedAsKept(t *testing.T) {
	b := newBox(t, aliceTree)
	before := b.describe()
	id, other := b.plan(allToCarol, "alice"), b.plan(allToCarol, "bob")
	text, err := os.ReadFile(b.state.planPath(other))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "carried.plan")
	refused := func(why string) {
		t.Helper()
		p, err := b.state.OpenPlan(file)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if why == "altered" {
			if err := os.WriteFile(file, text[:len(text)-1], 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if run, err := b.state.Apply(context.Background(), p, b.options()); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: run %+v, error %v", why, run, err)
		}
	}
	if err := os.Rename(b.state.planPath(id), file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.state.planPath(id), text, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("another plan")
	if err := os.Remove(b.state.planPath(id)); err != nil {
		t.Fatal(err)
	}
	refused("altered")
	if _, err := os.Stat(b.state.planPath(id)); !os.IsNotExist(err) {
		t.Errorf("a damaged copy was kept: %v", err)
	}
	if diff := cmp.Diff(before, b.describe()); diff != "" {
		t.Errorf("something was changed (-before +now):\n%s", diff)
	}
}

// A plan file that is a FIFO, or that somebody else could write, is refused at once.
func TestPlanFileOfOthersIsRefused(t *testing.T) {
	b := newBox(t, aliceTree)
	path := b.state.planPath(b.plan(allToCarol, "alice"))
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		make func() error
		why  string
	}{
		{fifo, func() error { return nil }, "not a plan file"},
		{path, func() error { return os.Chmod(path, 0o660) }, "mode 0660; it must be yours"},
		{path, func() error { return os.Chown(path, 1001, 1001) }, "owned by uid 1001"},
	} {
		if err := c.make(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.state.OpenPlan(c.path); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%v, want %q", err, c.why)
		}
	}
}

type bigVerifier struct{ fakeVerifier }

func (*bigVerifier) Baseline(context.Context, []string) (json.RawMessage, error) {
	return json.Marshal(strings.Repeat("x", 20<<20))
}

// A server with ten thousand sites, of all of which verification remembers something, can be repaired.
func TestBaselineOfManySites(t *testing.T) {
	b := newBox(t, aliceTree)
	o := b.options()
	o.Verify = &bigVerifier{fakeVerifier{cured: []string{"alice"}}}
	if run := b.apply(b.plan(allToCarol, "alice"), o); run.State != rightful.RunDone {
		t.Errorf("run: %+v", run)
	}
	if runs, err := b.state.Runs(); err != nil || runs[0].State != rightful.RunDone {
		t.Errorf("read back: %+v, %v", runs, err)
	}
}

// A name that a plan or run already has is not given again.
func TestNamesAreNotGivenTwice(t *testing.T) {
	dir := t.TempDir()
	asked := 0
	id := state.NewID(time.Unix(0, 0), func(id string) string {
		if asked++; asked <= 3 {
			return dir // taken
		}
		return filepath.Join(dir, id)
	})
	if asked != 4 || !state.ValidID(id) {
		t.Errorf("%q after %d names", id, asked)
	}
}

// An earlier run is not undone where a later one changed the same entry: that is said, and after an undo of the later one
// the earlier is undone exactly.
func TestAnEarlierRunIsUndoneAfterTheLater(t *testing.T) {
	b := boxIn(t, treetest.OpenDir(t), smallTree)
	before := b.describe()
	meta := func(uid uint32, mode rightful.Mode) rightful.Meta {
		return rightful.Meta{UID: uid, GID: uid, Mode: mode}
	}
	first := b.apply(b.write(todo{"odd\n\xff", meta(1003, 0o640)}, todo{"gains", meta(1003, 0o600)}), b.options())
	middle := b.describe()
	second := b.apply(b.write(todo{"odd\n\xff", meta(1004, 0o604)}), b.options())
	after := b.describe()
	for _, l := range [][]string{middle, after} {
		if cmp.Equal(before, l) {
			t.Fatal("nothing was changed")
		}
	}
	u := b.undo(first.ID)
	_, items, err := b.state.Run(u.ID)
	if err != nil || u.Changed != 1 || len(items) != 1 || items[0].Reason != reasonChanged {
		t.Errorf("undo of the first: %+v, %+v, %v", u, items, err)
	}
	b.calm("undo of the second", b.undo(second.ID))
	b.undo(first.ID)
	b.exact("undo of both", before)
}
