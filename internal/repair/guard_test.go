package repair

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"rightful"
	"rightful/internal/tree/treetest"
)

// watch gives a box in which a plan was carried out as if a command had done it, and the watch of that command.
func watch(t *testing.T, dir string) (b *box, g *Guard, plan string, before []string) {
	t.Helper()
	b = boxIn(t, dir, smallTree)
	before = b.describe()
	plan = b.smallPlan()
	g, err := b.state.BeginGuard(Guard{Snapshot: "20260101-000000-0000", Accounts: []string{"alice"}, By: "root", Command: "rightful guard -- x"})
	if err != nil {
		t.Fatal(err)
	}
	b.apply(plan, b.options())
	return b, g, plan, before
}

// runNamed is how the list of runs shows a run.
func (b *box) runNamed(id string) rightful.Run {
	b.t.Helper()
	runs, err := b.state.Runs()
	if err != nil {
		b.t.Fatal(err)
	}
	var found []rightful.Run
	for _, r := range runs {
		if r.ID == id {
			found = append(found, r)
		}
	}
	if len(found) != 1 {
		b.t.Fatalf("run %s is listed %d times", id, len(found))
	}
	return found[0]
}

func TestWhatAWatchedCommandDidIsUndoneWhereverItsRecordWasCut(t *testing.T) {
	dir := treetest.Mounted(t, "tmpfs", "")
	for cut := int64(1); !t.Failed(); cut++ {
		b, g, plan, before := watch(t, dir)
		record, err := os.ReadFile(b.state.guardPath(g.Run))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.state.RecordGuard(g, plan, "the command ended with 0"); err != nil {
			t.Fatal(err)
		}
		whole, err := os.Stat(b.state.runPath(g.Run))
		if err != nil {
			t.Fatal(err)
		}
		// Counted from the end: the times in it make one record longer than another.
		n := whole.Size() - cut
		if n < 0 {
			break
		}
		// As a kill leaves it: the outcome cut short, the record of the watch still there.
		if err := errors.Join(os.Truncate(b.state.runPath(g.Run), n), os.WriteFile(b.state.guardPath(g.Run), record, 0o600)); err != nil {
			t.Fatal(err)
		}
		what := fmt.Sprintf("a record of %d bytes", n)
		if r := b.runNamed(g.Run); r.State != rightful.RunInterrupted || r.Verb != VerbGuard {
			t.Errorf("%s is listed as %+v", what, r)
		}
		if newest, err := b.state.Newest(nil); err != nil || newest == "" {
			t.Errorf("%s: undo finds %q, %v", what, newest, err)
		}
		again, err := b.state.PendingGuard(g.Run)
		if err != nil || again == nil {
			t.Fatalf("%s: pending %+v, %v", what, again, err)
		}
		run, err := b.state.RecordGuard(again, plan, "cut short")
		if err != nil {
			t.Fatal(err)
		}
		if r := b.runNamed(g.Run); r.State != rightful.RunDone || r.Changed != run.Changed || run.Changed == 0 {
			t.Errorf("%s is listed as %+v after it was recorded again", what, r)
		}
		b.calm(what, b.undo(g.Run))
		b.exact(what, before)
	}
}

func TestAWatchThatNeverBeganLeavesNothing(t *testing.T) {
	b := newBox(t, aliceTree)
	g, err := b.state.BeginGuard(Guard{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.state.EndGuard(g.Run); err != nil {
		t.Fatal(err)
	}
	if runs, err := b.state.Runs(); err != nil || len(runs) > 0 {
		t.Errorf("left %+v, %v", runs, err)
	}
	if _, err := b.state.Newest(nil); !errors.Is(err, ErrNothing) {
		t.Errorf("undo finds something: %v", err)
	}
}

func TestADamagedRecordOfAWatchIsToldAndHidesNoOtherRun(t *testing.T) {
	b, g, plan, _ := watch(t, treetest.Mounted(t, "tmpfs", ""))
	if err := os.WriteFile(b.state.guardPath(g.Run), []byte(`{"version":1,"run":"another"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	runs, err := b.state.Runs()
	if err == nil || len(runs) != 1 || runs[0].Plan != plan {
		t.Errorf("listed %+v, %v", runs, err)
	}
	if _, err := b.state.PendingGuard(g.Run); err == nil {
		t.Error("a damaged record was read")
	}
	if err := os.WriteFile(b.state.guardPath(g.Run), []byte(`{"version":99,"run":"`+g.Run+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.state.PendingGuard(g.Run); !errors.Is(err, ErrNewerPlan) {
		t.Errorf("one of a newer version: %v", err)
	}
}
