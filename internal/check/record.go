package check

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"rightful/internal/panel"
	"rightful/internal/snapshot"
	"rightful/internal/tree"
)

// Record adds every account of the options to a snapshot: its home, and its document roots outside it, as they are judged.
// What previous, if not nil, recorded of an account saves reading contents again. A directory that cannot be recorded is
// handed to missed; so is an account of which nothing can be, which the snapshot then does not hold. The error is the
// context's, or of writing.
func Record(ctx context.Context, o Options, to *snapshot.Taking, previous *snapshot.Snapshot, from *snapshot.Store, missed func(a *panel.Account, err error)) error {
	c, err := newChecker(o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	width := tree.NewWidth(ctx, o.Jobs)
	next := make(chan *panel.Account)
	var told sync.Mutex
	var wg sync.WaitGroup
	for range width.Max() {
		wg.Go(func() {
			for a := range next {
				if width.Enter(ctx) != nil {
					continue
				}
				err := c.Wait(ctx)
				if err == nil {
					err = c.record(ctx, a, to, previous, from, func(err error) {
						told.Lock()
						defer told.Unlock()
						missed(a, err)
					})
				}
				if err != nil {
					cancel(err)
				}
				width.Leave()
			}
		})
	}
	for _, a := range c.accounts {
		if ctx.Err() == nil {
			next <- a
		}
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

// record records one account.
func (c *checker) record(ctx context.Context, a *panel.Account, to *snapshot.Taking, previous *snapshot.Snapshot, from *snapshot.Store, missed func(error)) error {
	j := c.newJob(ctx, a)
	w, err := to.Account(snapshot.Account{Account: a.Name, UID: a.UID, GID: a.GID, Home: a.Home})
	if err != nil {
		return err
	}
	o := snapshot.TakeOptions{SystemUID: c.World.Users.UIDMin, Walked: c.Walked}
	if previous != nil {
		if r, err := from.Account(previous, a.Name); err == nil { // else everything is read anew
			defer r.Close()
			o.Previous = r
		}
	}
	some := false
	for i, base := range j.binding().Bases {
		b, err := j.openBase(base, i == 0)
		if err != nil {
			if i == 0 || !tree.IsNotExist(err) {
				missed(fmt.Errorf("record account %q: %w", a.Name, err))
			}
			continue
		}
		err = w.Take(ctx, b, o)
		b.Close()
		if err != nil && ctx.Err() == nil && w.Err() == nil { // the home went away while it was read
			w.Unread("", err.Error())
			missed(fmt.Errorf("record account %q: %w", a.Name, err))
			continue
		}
		if err != nil {
			w.Discard()
			if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				return err
			}
			return fmt.Errorf("record account %q: %w", a.Name, err)
		}
		some = true
	}
	if !some {
		w.Discard()
		return nil
	}
	return w.Close()
}
