package check

import (
	"context"
	"runtime"
	"sync"
)

// maxHeld is how many findings and changes accounts under way or waiting to be emitted may hold, at some 600 bytes each and
// as much again for the garbage collector, before those pause whose turn is far off.
const maxHeld = 16 << 10

// holdEvery is after how many more an account tells what it holds.
const holdEvery = 256

// A room bounds the memory of accounts that are checked at once, where much is wrong with them. Those whose turn to be
// emitted comes next, one for each processor, never pause, so that it always goes on.
type room struct {
	mu    sync.Mutex
	held  int
	turn  int           // the account that is emitted next
	moved chan struct{} // closed when turn moves on
}

func newRoom() *room { return &room{moved: make(chan struct{})} }

// hold tells that an account holds n more, and returns when it may go on.
func (r *room) hold(ctx context.Context, account, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held += n
	for r.held > maxHeld && account >= r.turn+runtime.NumCPU() && ctx.Err() == nil {
		moved := r.moved
		r.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
		}
		r.mu.Lock()
	}
}

// leave tells that the account whose turn it was is emitted, and how much of it was held.
func (r *room) leave(held int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held -= held
	r.turn++
	close(r.moved)
	r.moved = make(chan struct{})
}
