package repair

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
)

// many gives a rebuilt home with n files.
func many(n int) string {
	var s strings.Builder
	s.WriteString("d 0700 0:0 .aside/home\nd 0700 1001:1001 .aside/home/public_html\n")
	for i := range n {
		acl, caps := "", ""
		switch i % 20 {
		case 3:
			acl = " acl=user::rw-,user:1005:rw-,group::r--,mask::rw-,other::---"
		case 7:
			caps = " caps"
		}
		fmt.Fprintf(&s, "f 0600 1001:1001 .aside/home/public_html/f%03d%s%s\n", i, acl, caps)
	}
	return s.String()
}

// Killed at any step of a plan of some hundred changes and an exchange, a run is finished exactly, and taken back exactly.
func TestAnExchangeKilledAtAnyStepIsUndoneOrResumed(t *testing.T) {
	for name, spec := range map[string]string{"a ruin": swapTree + many(120), "nothing": "d 0700 0:0 .aside\n" + many(30)} {
		t.Run(name, func(t *testing.T) {
			dir := treetest.Mounted(t, "tmpfs", "")
			b := boxIn(t, dir, spec)
			type list struct{ own, others string } // what other tools see is slow to ask
			look := func(b *box, others bool) (l list) {
				if l.own = strings.Join(b.describe(), "\n"); others {
					l.others = treetest.Listing(t, filepath.Join(b.root, "home"))
				}
				return l
			}
			same := func(what string, want list, b *box, others bool) {
				t.Helper()
				if !others {
					want.others = ""
				}
				if diff := cmp.Diff(want, look(b, others), cmp.AllowUnexported(list{})); diff != "" {
					t.Errorf("%s is not exact (-want +now):\n%s", what, diff)
				}
			}
			before := look(b, true)
			whole := b.apply(b.swapPlan(opened), b.options())
			b.calm("run", whole)
			after := look(b, true)
			b.undo(whole.ID)
			out := look(b, true)
			made := 0
			for n, killed := 1, true; killed && !t.Failed(); n++ {
				for _, how := range []string{"undo", "resume"} {
					b := boxIn(t, dir, spec)
					if killed = b.crash("apply", b.swapPlan(opened), n, ""); !killed {
						break
					}
					run := b.cutShort()
					what := fmt.Sprintf("%s after a kill at step %d", how, n)
					want, others := before, n%20 == 0 || b.in()
					if b.in() {
						want = out // it was in: it goes out as it is
						made++
					}
					if how == "resume" {
						done := b.resume(run.ID)
						b.calm(what, done)
						if done.Changed != whole.Changed {
							t.Errorf("%s: %d changed, want %d", what, done.Changed, whole.Changed)
						}
						same(what, after, b, others)
						what += ", then undo"
						want = out
					}
					b.calm(what, b.undo(run.ID))
					same(what, want, b, others)
					os.RemoveAll(b.root)
				}
			}
			if made != 2 {
				t.Errorf("%d of the kills were after the exchange, want 2", made)
			}
		})
	}
}

// Killed at any step of a take-back, a run is taken back exactly: by resume, and by undo.
func TestATakeBackOfAnExchangeKilledAtAnyStepIsFinished(t *testing.T) {
	for name, spec := range cases {
		t.Run(name, func(t *testing.T) {
			dir := treetest.Mounted(t, "tmpfs", "")
			b := boxIn(t, dir, spec)
			before := b.describe()
			b.apply(b.swapPlan(opened), b.options())
			out := swapped(b.describe())
			for n, killed := 1, true; killed && !t.Failed(); n++ {
				for _, how := range []string{"undo", "resume"} {
					b := boxIn(t, dir, spec)
					if killed = b.crash("apply", b.swapPlan(opened), n, "worse"); !killed {
						break
					}
					id := b.cutShort().ID
					what := fmt.Sprintf("%s after a kill at step %d", how, n)
					prior, err := b.state.readOutcome(id, nil)
					if err != nil {
						t.Fatal(err)
					}
					want := before
					if how == "resume" {
						o := b.options()
						o.Verify = &fakeVerifier{worse: []string{"alice"}}
						run, err := b.state.Resume(context.Background(), id, o)
						if err != nil || run.State != rightful.RunTakenBack {
							t.Errorf("%s: %+v, %v", what, run, err)
						}
					} else {
						if b.in() && len(prior.reverting) == 0 {
							want = out
						}
						b.calm(what, b.undo(id))
					}
					b.exact(what, want)
				}
			}
		})
	}
}

// in reports whether the rebuilt home stands in its place.
func (b *box) in() bool { return !b.standing(home + "/public_html").None() }

// A run that is cut off when the exchange is announced and not yet made is finished, and taken back whole.
func TestAnExchangeThatWasOnlyAnnouncedIsUndoneOrResumed(t *testing.T) {
	for name, spec := range cases {
		for _, how := range []string{"undo", "resume"} {
			t.Run(how+" "+name, func(t *testing.T) {
				b := boxIn(t, treetest.OpenDir(t), spec)
				before := b.describe()
				p, err := b.state.OpenPlan(b.swapPlan(opened))
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				ctx, cancel := context.WithCancel(context.Background())
				o := b.options()
				o.Exclude = func(_, p string) string { // asked right before the exchange is begun
					if p == home {
						cancel()
					}
					return ""
				}
				run, err := b.state.Apply(ctx, p, o)
				if !errors.Is(err, context.Canceled) || run.InDoubt > 0 {
					t.Fatal(run, err)
				}
				prior, err := b.state.readOutcome(run.ID, nil)
				if err != nil {
					t.Fatal(err)
				}
				w, err := b.state.appendOutcome(run.ID, prior.until)
				if err != nil {
					t.Fatal(err)
				}
				err = errors.Join(w.begin(applying, []int{p.Changes - 1}), w.close())
				if err != nil {
					t.Fatal(err)
				}
				if how == "undo" {
					b.calm("undo", b.undo(run.ID))
					b.exact("undo", before)
					return
				}
				b.calm("resume", b.resume(run.ID))
				in := b.describe()
				if !b.in() {
					t.Error("the home is not in")
				}
				b.calm("undo", b.undo(run.ID))
				b.exact("undo", swapped(in))
			})
		}
	}
}

// lastAnnounced is where the announcement of the last batch ends in the outcome.
func (b *box) lastAnnounced(t *testing.T) (at int) {
	data := b.outcome(t)
	r := newRecordReader(bytes.NewReader(data), int64(len(outcomeMagic)), int64(len(data)))
	for {
		kind, _, err := r.next()
		if err == io.EOF {
			return at
		}
		if err != nil {
			t.Fatal(err)
		}
		if kind == recBegin {
			at = int(r.off)
		}
	}
}

// Whatever a disk damages of the outcome of a run with an exchange, or a power cut leaves off its end: it is finished
// exactly, and then undone exactly.
func TestADamagedExchangeIsUndoneOrResumed(t *testing.T) {
	dir := treetest.Mounted(t, "tmpfs", "")
	b := boxIn(t, dir, swapTree+rebuiltTree)
	b.apply(b.swapPlan(opened), b.options())
	in := b.describe()
	announced, size := b.lastAnnounced(t), len(b.outcome(t))
	for _, how := range []string{"a flipped bit", "a cut"} {
		for at := range size {
			if at < announced && (how == "a cut" || at%11 > 0) {
				continue // a power cut leaves off only what comes after the last announcement
			}
			b := boxIn(t, dir, swapTree+rebuiltTree)
			run := b.apply(b.swapPlan(opened), b.options())
			path, end := b.state.runPath(run.ID), len(b.outcome(t))
			if how == "a cut" {
				if err := os.Truncate(path, int64(min(b.lastAnnounced(t)+at-announced, end))); err != nil { // the times take more or fewer digits
					t.Fatal(err)
				}
			} else {
				flip(t, path, int64(min(at, end-1)), uint(at%8))
			}
			what := fmt.Sprintf("%s at byte %d of %d: ", how, at, size)
			if at%2 == 0 {
				if done, err := b.state.Resume(context.Background(), run.ID, b.options()); err == nil {
					b.calm(what+"resume", done)
				} else if !errors.Is(err, ErrNotCutShort) {
					t.Errorf("%s%v", what, err)
				}
				b.exact(what+"resume", in)
			}
			b.calm(what+"undo", b.undo(run.ID))
			b.exact(what+"undo", swapped(in))
			if t.Failed() {
				return
			}
			os.RemoveAll(b.root)
		}
	}
}

// Before the exchange is announced the results of all changes before it are on record, and its own before a change that
// follows: what stands at a path is not the same before and after.
func TestAnExchangeIsAnnouncedByItself(t *testing.T) {
	b := boxIn(t, treetest.OpenDir(t), swapTree+rebuiltTree)
	o := b.options()
	o.Verify = &fakeVerifier{worse: []string{"alice"}}
	b.apply(b.swapPlan(opened), o)
	data := b.outcome(t)
	r := newRecordReader(bytes.NewReader(data), int64(len(outcomeMagic)), int64(len(data)))
	var order string
	for {
		kind, _, err := r.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if kind == recBegin || kind == recResult {
			order += string(rune(kind))
		}
	}
	if want := "BRRRRRR" + "BR" + "BR" + "BRRRRRR"; order != want {
		t.Errorf("records %s, want %s", order, want)
	}
}

// A full disk stops a run with an exchange at any of its writes; then it is undone, or finished.
func TestAFullDiskStopsAnExchangeAndLosesNothing(t *testing.T) {
	spec := swapTree + many(700)
	dir := treetest.Mounted(t, "tmpfs", "")
	failed := map[bool]int{}
	for free := int64(0); free <= 28<<10; free += 4 << 10 {
		for _, how := range []string{"undo", "resume"} {
			small := treetest.Mounted(t, "tmpfs", "size=1m")
			made := boxIn(t, dir, spec)
			b := openBox(t, made.root, filepath.Join(small, "state"))
			before := b.describe()
			p, err := b.state.OpenPlan(b.swapPlan(opened))
			if err != nil {
				t.Fatal(err)
			}
			unfill := fill(t, small, free)
			run, err := b.state.Apply(context.Background(), p, b.options())
			p.Close()
			unfill()
			in := b.in()
			if err == nil {
				if !in {
					t.Errorf("%d bytes free: not in", free)
				}
				continue
			}
			failed[in]++
			if run == nil {
				b.exact("without a run", before)
				continue
			}
			if how == "resume" {
				done := b.resume(run.ID)
				b.calm("resume", done)
				if !b.in() {
					t.Errorf("%d bytes free: resumed, and not in", free)
				}
				in = true
			}
			want := before
			if in {
				want = swapped(b.describe())
			}
			b.calm("undo", b.undo(run.ID))
			b.exact(fmt.Sprintf("%d bytes free: undo", free), want)
			if t.Failed() {
				return
			}
		}
	}
	if failed[false] < 4 {
		t.Errorf("the disk was full before the exchange %d times, and after it %d times", failed[false], failed[true])
	}
}
