package repair

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"rightful"

	"github.com/google/go-cmp/cmp"
)

// The way back is planned for several accounts at once, and is the plan backwards in each, however many.
func TestTheWayBackIsTheSameAtAnyNumberOfJobs(t *testing.T) {
	var spec strings.Builder
	var names []string
	for a := range 6 {
		name := fmt.Sprintf("alice%d", a)
		names = append(names, name)
		fmt.Fprintf(&spec, "d 0711 100%[1]d:100%[1]d %[2]s\n", a, name)
		for f := range map[bool]int{true: 1100, false: 3}[a == 1] { // one of them takes several blocks to read
			fmt.Fprintf(&spec, "f 0666 100%[1]d:100%[1]d %[2]s/f%04[3]d\n", a, name, f)
		}
	}
	b := newBox(t, spec.String())
	id := b.plan(func(rel string, k rightful.Kind, m rightful.Meta) *rightful.Meta {
		if k != rightful.KindFile {
			return nil
		}
		m.Mode = 0o644
		return &m
	}, names...)
	p, err := b.state.OpenPlan(id)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	want := paths(t, p)
	run, err := b.state.Apply(context.Background(), p, Options{Server: b.s})
	if err != nil || run.Changed != len(want) {
		t.Fatalf("changed %d of %d: %v", run.Changed, len(want), err)
	}
	for i := range p.Accounts {
		var there, back []string
		note := func(to *[]string) func(int, *rightful.Change) error {
			return func(seq int, c *rightful.Change) error {
				*to = append(*to, fmt.Sprint(seq, c.Path()))
				return nil
			}
		}
		if err := errors.Join(p.Each(i, note(&there)), p.EachBack(i, note(&back))); err != nil {
			t.Fatal(err)
		}
		if slices.Reverse(back); !slices.Equal(there, back) {
			t.Errorf("account %d: there and back are not the same changes", i)
		}
	}
	// Accounts keep their order; within each the order is turned around.
	slices.SortStableFunc(want, func(a, b string) int { return strings.Compare(account(a), account(b)) })
	for i := 0; i < len(want); {
		j := i
		for j < len(want) && account(want[j]) == account(want[i]) {
			j++
		}
		slices.Reverse(want[i:j])
		i = j
	}
	for _, jobs := range []int{1, 2, 5, 64} {
		back, err := b.state.PlanUndo(context.Background(), run.ID, Options{Server: b.s, Jobs: jobs}, PlanHeader{})
		if err != nil {
			t.Fatal(err)
		}
		u, err := b.state.OpenPlan(back)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, paths(t, u)); diff != "" {
			t.Errorf("with %d jobs the way back differs (-want +got):\n%s", jobs, diff)
		}
		u.Close()
	}
}

func account(path string) string { return strings.Split(path, "/")[2] }

func paths(t testing.TB, p *Plan) (all []string) {
	for i := range p.Accounts {
		if err := p.Each(i, func(_ int, c *rightful.Change) error {
			all = append(all, c.Path())
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// Work that fails, or whose result cannot be used, stops the rest, and nothing goes on behind its back.
func TestInOrderStopsAtTheFirstError(t *testing.T) {
	broken := errors.New("broken")
	for _, at := range []int{0, 7, 99} {
		for _, jobs := range []int{1, 3, 200} {
			for _, using := range []bool{false, true} {
				var running atomic.Int32
				var used []int
				err := inOrder(100, jobs, func(i int) (int, error) {
					running.Add(1)
					defer running.Add(-1)
					for range 500 {
						runtime.Gosched()
					}
					if i == at && !using {
						return 0, broken
					}
					return i, nil
				}, func(i int) error {
					if i == at {
						return broken
					}
					used = append(used, i)
					return nil
				})
				if !errors.Is(err, broken) || len(used) != at || !slices.IsSorted(used) || running.Load() != 0 {
					t.Errorf("at %d of 100 with %d jobs: %v, used %v, %d still running", at, jobs, err, used, running.Load())
				}
			}
		}
	}
	if err := inOrder(0, 4, func(int) (int, error) { return 0, broken }, func(int) error { return broken }); err != nil {
		t.Errorf("nothing to do: %v", err)
	}
}
