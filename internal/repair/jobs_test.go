package repair

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"rightful"
)

// As many accounts are changed at once as was asked for: no fewer, and never one more.
func TestSoManyAccountsAreChangedAtOnce(t *testing.T) {
	var spec strings.Builder
	var names []string
	for i := range 7 {
		names = append(names, fmt.Sprintf("user%d", i))
		fmt.Fprintf(&spec, "d 0755 %d:%[1]d %s\n", 20001+i, names[i])
	}
	for _, jobs := range []int{1, 3} {
		b := newBox(t, spec.String())
		id := b.plan(allToCarol, names...)
		synctest.Test(t, func(t *testing.T) {
			o := b.options()
			o.Jobs = jobs
			begun, mayEnd := make(chan int, 7), make(chan int)
			o.Wait = func(context.Context) error { begun <- 1; return nil }
			o.Changed = func(int) { <-mayEnd } // each account has one entry
			done := make(chan *rightful.Run, 1)
			go func() { done <- b.apply(id, o) }()
			for ended := range 7 {
				synctest.Wait() // until all that can go on waits for us
				if n, want := len(begun), min(ended+jobs, 7); n != want {
					t.Errorf("%d jobs: %d accounts are begun when %d are done, want %d", jobs, n, ended, want)
				}
				mayEnd <- 1
			}
			if run := <-done; run.Changed != 7 {
				t.Errorf("%+v", run)
			}
		})
	}
}
