package check

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
)

// However much is held, those whose turn comes next go on; another goes on as soon as it is one of them, or when the run ends.
func TestAnAccountFarFromItsTurnPausesWhileMuchIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r := newRoom()
		far := runtime.NumCPU()
		r.hold(ctx, far, maxHeld) // not too much
		for i := range far {
			r.hold(ctx, i, maxHeld) // nobody else could make room
		}
		on := make([]bool, 2)
		for i := range on {
			go func() {
				r.hold(ctx, far+i, 1)
				on[i] = true
			}()
		}
		synctest.Wait()
		if on[0] || on[1] {
			t.Fatal("an account went on though too much is held and it is not its turn")
		}
		r.leave(0)
		synctest.Wait()
		if !on[0] || on[1] {
			t.Fatalf("after one was emitted: %v", on)
		}
		cancel()
		synctest.Wait()
		if !on[1] {
			t.Fatal("an account waits though the run has ended")
		}
	})
}
