package tree

import (
	"context"
	"runtime"
	"testing"
)

func TestAWidthBeginsWithAsManyWalksAsThereAreProcessors(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel() // so that nobody looks whether more are worth it
	if got, want := len(NewWidth(over, 0).tokens), min(runtime.NumCPU(), maxWalks()); got != want {
		t.Errorf("%d walks at the start, want %d", got, want)
	}
	if got := len(NewWidth(t.Context(), 3).tokens); got != 3 {
		t.Errorf("%d walks where 3 were asked for", got)
	}
}

func TestAWidthGrowsWhileWalksWait(t *testing.T) {
	w := NewWidth(t.Context(), 0)
	for i := range w.Max() { // none of them leaves, and none has the processor do anything
		if err := w.Enter(t.Context()); err != nil {
			t.Fatalf("walk %d: %v", i, err)
		}
	}
	for range w.Max() {
		w.Leave()
	}
}

func TestAWalkThatMayNotBeginEndsWithItsContext(t *testing.T) {
	w := NewWidth(t.Context(), 1)
	if err := w.Enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Enter(ctx); err != context.Canceled {
		t.Errorf("a second walk of one: %v", err)
	}
}
