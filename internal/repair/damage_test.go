package repair

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/tree/treetest"
)

// flip changes one bit of a file.
func flip(t *testing.T, path string, at int64, bit uint) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << bit
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// Whatever bit of an outcome a disk flips: it is said, and every result that a whole record proves is known.
func TestNoFlippedBitIsSilent(t *testing.T) {
	b := boxIn(t, treetest.OpenDir(t), smallTree)
	run := b.apply(b.smallPlan(), b.options())
	good := b.outcome(t)
	whole, err := b.state.readOutcome(run.ID, nil)
	if err != nil || len(whole.damage) > 0 {
		t.Fatal(whole, err)
	}
	unread := 0
	for at := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[at] ^= 1 << bit
			o, err := parseOutcome(fileOf{Reader: bytes.NewReader(bad)}, nil)
			if err != nil {
				unread++
				continue
			}
			if len(o.damage) != 1 || o.damage[0].At > int64(at) || o.damage[0].At+o.damage[0].Bytes <= int64(at) {
				t.Fatalf("bit %d of byte %d: %v", bit, at, o.damage)
			}
			if o.results < whole.results-1 {
				t.Fatalf("bit %d of byte %d: %d results of %d", bit, at, o.results, whole.results)
			}
			for seq, st := range o.status {
				if st != whole.status[seq] && st != stBegun {
					t.Fatalf("bit %d of byte %d: change %d was %s and became %s", bit, at, seq, statusNames[whole.status[seq]], statusNames[st])
				}
			}
		}
	}
	if unread > 0 {
		t.Errorf("%d of %d were not read at all", unread, 8*len(good))
	}
}

// Whatever byte is damaged of the outcome of a run that was killed at some step, or came to its end: undo is exact.
func TestUndoIsExactWhateverByteOfTheOutcomeIsDamaged(t *testing.T) {
	dir := treetest.Mounted(t, "tmpfs", "")
	for _, killed := range []int{4, 11, 1000} {
		for at := int64(0); ; at += 13 {
			b := boxIn(t, dir, smallTree)
			before := b.describe()
			if b.crash("apply", b.smallPlan(), killed, "") != (killed < 1000) {
				t.Fatal("not killed where it should be")
			}
			runs, err := b.state.Runs()
			if err != nil {
				t.Fatal(err)
			}
			if at >= int64(len(b.outcome(t))) {
				break
			}
			flip(t, b.state.runPath(runs[0].ID), at, uint(at%8))
			b.undo(runs[0].ID)
			b.exact(fmt.Sprintf("killed at step %d, byte %d damaged: undo", killed, at), before)
			if t.Failed() {
				return
			}
		}
	}
}

// A damaged outcome is resumed to what was planned, though the resuming is killed; then it is still undone exactly.
func TestADamagedRunIsResumed(t *testing.T) {
	dir := treetest.Mounted(t, "tmpfs", "")
	b := boxIn(t, dir, smallTree)
	before := b.describe()
	b.apply(b.smallPlan(), b.options())
	after := b.describe()
	for at := int64(0); ; at += 41 {
		for kill := range 6 {
			b := boxIn(t, dir, smallTree)
			if !b.crash("apply", b.smallPlan(), 9, "") {
				t.Fatal("not killed")
			}
			if at >= int64(len(b.outcome(t))) {
				return
			}
			id := b.cutShort().ID
			flip(t, b.state.runPath(id), at, uint(at%8))
			if kill > 0 {
				b.crash("resume", id, kill, "")
			}
			what := fmt.Sprintf("byte %d damaged, killed at step %d of resume", at, kill)
			if kill%2 == 0 {
				b.resume(id)
				b.exact(what+": resume", after)
			}
			b.undo(id)
			b.exact(what+": undo", before)
			if t.Failed() {
				return
			}
		}
	}
}

// What is damaged is told with its place, and what is in doubt with its reason; a torn end is no damage.
func TestDamageIsToldFromATornEnd(t *testing.T) {
	b := boxIn(t, treetest.OpenDir(t), smallTree)
	run := b.apply(b.smallPlan(), b.options())
	path := b.state.runPath(run.ID)
	good := b.outcome(t)
	announced := int64(b.announced(t))
	flip(t, path, announced+frameHead+2, 0) // the first result
	got, items, err := b.state.Run(run.ID)
	if err != nil || len(got.Damage) != 1 || got.State != rightful.RunDone || got.InDoubt != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	want := rightful.Damage{At: announced, Bytes: got.Damage[0].Bytes, Before: 0, After: 7}
	if got.Damage[0] != want {
		t.Errorf("damage %+v, want %+v", got.Damage[0], want)
	}
	if len(items) != 1 || !strings.Contains(items[0].Reason, "the outcome is damaged") {
		t.Errorf("items: %+v", items)
	}
	for name, end := range map[string][]byte{
		"a part of a record": good[:len(good)-3], "zeros": append(bytes.Clone(good), make([]byte, 4096)...), "a length": append(bytes.Clone(good), 9, 0, 0, 0),
	} {
		if err := os.WriteFile(path, end, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, _, err := b.state.Run(run.ID); err != nil || len(got.Damage) > 0 || got.InDoubt > 0 {
			t.Errorf("%s at the end: %+v, %v", name, got, err)
		}
	}
}
