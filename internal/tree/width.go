package tree

import (
	"context"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// A Width is how many walks go on at once. Where nobody says, it begins with as many as there are processors, since more
// only get in one another's way as long as everything is cached, and doubles as long as they wait for a disk, so that it
// always has something to do.
//
// The system calls of a walk bypass the scheduler, so a walk that waits keeps one of the scheduler's processors: there
// are always at least as many of those as walks.
type Width struct {
	tokens chan struct{}
	now    int
}

// maxWalks bounds the walks at once: a disk is given no more to do, and memory stays bounded.
func maxWalks() int { return min(max(8, 2*runtime.NumCPU()), 32) }

// NewWidth makes a Width for up to n walks; with fixed set there are n from the start, else it is found out how many are
// worth it, up to some more than there are processors, and n is not looked at. It stops looking when the context ends.
func NewWidth(ctx context.Context, fixed int) *Width {
	w := &Width{}
	if fixed > 0 {
		w.tokens = make(chan struct{}, fixed)
		w.grow(fixed)
		return w
	}
	w.tokens = make(chan struct{}, maxWalks())
	w.grow(min(runtime.NumCPU(), cap(w.tokens)))
	if w.now < cap(w.tokens) {
		go w.watch(ctx)
	}
	return w
}

// Max is the most walks that there may be at once.
func (w *Width) Max() int { return cap(w.tokens) }

// Enter returns when one more walk may begin; each needs a Leave. The error is the context's.
func (w *Width) Enter(ctx context.Context) error {
	select {
	case <-w.tokens:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Leave tells that a walk has ended.
func (w *Width) Leave() { w.tokens <- struct{}{} }

func (w *Width) grow(to int) {
	if to > runtime.GOMAXPROCS(0) {
		runtime.GOMAXPROCS(to)
	}
	for ; w.now < to; w.now++ {
		w.tokens <- struct{}{}
	}
}

// look is how often a Width looks whether walks wait: seldom enough to cost nothing, often enough to matter in a walk of
// a second.
const look = 10 * time.Millisecond

// watch doubles the walks as long as this process has things read from a disk (getrusage(2): a read that the cache
// answers does not count), or where it lies elsewhere, as on a network, as long as it leaves half of the processors idle.
func (w *Width) watch(ctx context.Context) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	last, since := usage(), time.Now()
	for w.now < cap(w.tokens) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now, at := usage(), time.Now()
		idle := now.cpu-last.cpu < at.Sub(since)*time.Duration(min(w.now, runtime.NumCPU()))/2
		if now.reads > last.reads || idle {
			w.grow(min(2*w.now, cap(w.tokens)))
		}
		last, since = now, at
	}
}

type used struct {
	cpu   time.Duration
	reads int64
}

func usage() used {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) != nil {
		return used{}
	}
	return used{cpu: time.Duration(r.Utime.Nano() + r.Stime.Nano()), reads: r.Inblock}
}
