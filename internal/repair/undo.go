package repair

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"rightful"
	"rightful/internal/tree"
)

// VerbUndo is the verb of a plan that takes a run back.
const VerbUndo = "undo"

// PlanUndo makes the plan that takes a run back, from what the entries look like now. An entry is in it only if the
// outcome, or the batch in flight at a crash, allows that the run changed it, and it now looks as the run left it or as
// one of the steps on the way. Everything else is noted in the plan as left alone, with the reason. The plan is in the
// opposite order: what was opened last is closed first.
//
// An entry is looked for at its path, then by its handle, then by one walk of the account.
func (s *State) PlanUndo(ctx context.Context, id string, o Options, h PlanHeader) (planID string, err error) {
	prior, err := s.readOutcome(id, nil)
	if err != nil {
		return "", err
	}
	p, err := s.planOf(prior)
	if err != nil {
		return "", err
	}
	defer p.Close()
	h.Verb, h.Undoes = VerbUndo, id
	w, err := s.NewPlan(h)
	if err != nil {
		return "", err
	}
	cut, settled, err := s.undosOf(id)
	if err != nil {
		w.Discard()
		return "", err
	}
	err = inOrder(len(p.Accounts), jobs(o), func(i int) (*undoer, error) {
		u := &undoer{
			p: p, i: i, prior: prior, cut: cut, settled: settled, ap: newApplier(o.Server, o.SystemUID, nil),
			repeats: map[uint64]bool{}, planned: map[string]rightful.Meta{}, foreign: map[string]bool{},
		}
		defer u.ap.close()
		return u, u.account(ctx)
	}, func(u *undoer) error { return u.write(w) })
	if err != nil {
		w.Discard()
		return "", err
	}
	return w.ID(), w.Commit()
}

// inOrder makes n things, a few at once, and hands them on one at a time in their order. It returns the first error when
// nothing is under way any more.
func inOrder[T any](n, jobs int, make1 func(i int) (T, error), use func(T) error) error {
	type made struct {
		t   T
		err error
	}
	ahead := make([]chan made, min(n, jobs)) // thing i comes through channel i modulo their number
	var stop atomic.Bool
	for k := range ahead {
		ahead[k] = make(chan made)
		go func() {
			defer close(ahead[k])
			for i := k; i < n && !stop.Load(); i += len(ahead) {
				t, err := make1(i)
				ahead[k] <- made{t, err}
			}
		}()
	}
	var first error
	for i := range n {
		m := <-ahead[i%len(ahead)]
		if first = m.err; first == nil {
			first = use(m.t)
		}
		if first != nil {
			break
		}
	}
	stop.Store(true)
	for _, c := range ahead {
		for range c {
		}
	}
	return first
}

// undosOf tells, by entry, what earlier undos of a run did: cut is what those that did not come to their end began, or did
// otherwise than planned; settled are the entries that one put back and that are not to be put back again. What such a one
// left alone is not settled: it may be free by now.
func (s *State) undosOf(id string) (cut map[string][]way, settled map[string]bool, err error) {
	cut, settled = map[string][]way{}, map[string]bool{}
	runs, err := s.Runs()
	for _, r := range runs {
		done := r.State == rightful.RunDone
		if r.Undoes != id || r.Verb != VerbUndo || done && r.Undone {
			continue
		}
		o, err := s.readOutcome(r.ID, nil)
		if err != nil {
			return nil, nil, err
		}
		p, err := s.planOf(o)
		if err != nil {
			return nil, nil, err
		}
		left := map[string]bool{}
		for i := range p.Accounts {
			err = errors.Join(err, p.Each(i, func(seq int, c *rightful.Change) error {
				obs, deviates := o.observed[seq]
				switch k := settledKey(c); {
				case done && o.status[seq] == stApplied:
					settled[k] = true
				case done:
					left[k] = true
				case o.status[seq] == stBegun:
					cut[k] = append(cut[k], way{c.Before, c.After})
				case deviates && o.touched(seq):
					cut[k] = append(cut[k], way{obs, obs})
				}
				return nil
			}))
		}
		p.Close()
		if err != nil {
			return nil, nil, err
		}
		for k := range left {
			delete(settled, k)
		}
	}
	if len(runs) > 0 {
		return cut, settled, nil // others that cannot be read say nothing about this one
	}
	return cut, settled, err
}

// An undoer plans the way back for one account.
type undoer struct {
	p     *Plan
	i     int
	prior *outcome
	ap    *applier
	cut   map[string][]way
	// settled are entries that an earlier undo put back.
	settled map[string]bool
	out     []any                        // what goes into the new plan, in order: a Skip or a Change
	moved   map[string]map[uint64]string // base → inode → path, from one walk

	// Some entries have several changes; the later ones come first here.
	repeats map[uint64]bool          // their inodes
	planned map[string]rightful.Meta // what the plan so far makes of them
	foreign map[string]bool          // somebody changed them after the last of the changes
	came    arrivals                 // trees that the run changed before it brought them in
	waiting []waiting                // not as a later change would have left them, but perhaps as an earlier one did
}

type waiting struct {
	key  string
	skip Skip
}

func (u *undoer) account(ctx context.Context) error {
	met := map[uint64]bool{}
	err := u.p.Each(u.i, func(seq int, c *rightful.Change) error {
		if c.Exchange != nil {
			u.arrive(seq, c)
			return nil
		}
		if u.prior.touched(seq) {
			if met[c.ID.Ino] {
				u.repeats[c.ID.Ino] = true
			}
			met[c.ID.Ino] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = u.p.EachBack(u.i, func(seq int, c *rightful.Change) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !u.prior.touched(seq) || len(u.settled) > 0 && u.settled[settledKey(c)] {
			return nil
		}
		if in, _, ok := u.came.of(seq, c); ok {
			if in.stays {
				u.out = append(u.out, Skip{Account: u.p.Accounts[u.i].Account, Path: c.Path(), Reason: reasonStays})
			}
			return nil
		}
		return u.change(ctx, seq, c)
	})
	for _, x := range u.waiting {
		if _, ok := u.planned[x.key]; !ok {
			u.out = append(u.out, x.skip)
		}
	}
	return err
}

// write adds the way back of the account to a plan.
func (u *undoer) write(w *PlanWriter) (err error) {
	open := false
	for _, x := range u.out {
		switch x := x.(type) {
		case Skip:
			err = w.Skip(x)
		case *rightful.Change:
			if !open {
				open = true
				a := u.p.Accounts[u.i]
				a.Before, a.After = nil, nil
				err = w.Account(a)
			}
			if err == nil {
				err = w.Change(x)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ours reports whether live is a state in which the run, or an attempt to take it back, left the entry.
func (u *undoer) ours(seq int, c *rightful.Change, live rightful.Meta) bool {
	is := func(w way) bool { return knownState(live, w.from, w.to, c.Kind) }
	left := c.After
	if obs, deviates := u.prior.observed[seq]; deviates {
		left = obs
	}
	return same(live, left, c.Kind) ||
		u.prior.status[seq] == stBegun && is(way{c.Before, c.After}) ||
		u.prior.reverting[seq] && is(way{left, c.Before}) ||
		slices.ContainsFunc(u.cut[key(c.ID)], is)
}

func (u *undoer) change(ctx context.Context, seq int, c *rightful.Change) error {
	skip := func(reason string) Skip {
		return Skip{Account: u.p.Accounts[u.i].Account, Path: c.Path(), Reason: reason}
	}
	left := func(reason string) error {
		u.out = append(u.out, skip(reason))
		return nil
	}
	if c.Exchange != nil {
		return u.exchange(c, left)
	}
	back := *c
	back.Problem, back.Rule = "", ""
	n, res := u.find(ctx, &back)
	if n == nil {
		return left(res.reason)
	}
	defer n.Close()
	live, err := n.Meta()
	if err != nil {
		return left(err.Error())
	}
	k, repeats := "", u.repeats[c.ID.Ino]
	if repeats {
		k = key(c.ID)
		if m, ok := u.planned[k]; ok {
			live = m
		}
	}
	switch {
	case n.Stat.Kind != c.Kind:
		return left(reasonReplaced)
	case same(live, c.Before, c.Kind):
		if repeats {
			u.planned[k] = live
		}
		return nil
	case u.foreign[k]:
		return nil // said already
	case u.ours(seq, c, live):
	case repeats && (u.prior.status[seq] == stBegun || u.prior.reverting[seq] || len(u.cut[k]) > 0):
		u.waiting = append(u.waiting, waiting{k, skip(reasonChanged)})
		return nil
	default:
		u.foreign[k] = repeats
		return left(reasonChanged)
	}
	if c.Kind != rightful.KindDir && n.Stat.Nlink != c.Links {
		return left(reasonLinks)
	}
	if repeats {
		u.planned[k] = c.Before
	}
	back.Before, back.After = live, c.Before
	u.out = append(u.out, &back)
	return nil
}

// find pins the entry wherever it is now, and puts its present path into c.
func (u *undoer) find(ctx context.Context, c *rightful.Change) (*tree.Node, result) {
	n, res := u.ap.pin(&target{Change: c, byHandle: true})
	if n != nil || c.ID.Weak() {
		return n, res
	}
	b := u.ap.base(c.Base)
	if b.err != nil {
		return nil, res
	}
	if u.moved == nil {
		u.moved = map[string]map[uint64]string{}
	}
	at, ok := u.moved[c.Base]
	if !ok {
		at = map[uint64]string{}
		u.moved[c.Base] = at
		want := map[uint64]bool{}
		err := u.p.Each(u.i, func(seq int, c *rightful.Change) error {
			want[c.ID.Ino] = want[c.ID.Ino] || u.prior.touched(seq)
			return nil
		})
		if err != nil {
			return nil, result{reason: err.Error()}
		}
		err = b.base.Walk(ctx, tree.EntryFunc(func(_ *tree.Dir, e *tree.Entry) (bool, error) {
			if want[e.Ino] {
				at[e.Ino] = e.Rel()
			}
			return true, nil
		}), false)
		if err != nil {
			return nil, result{reason: err.Error()}
		}
	}
	rel, ok := at[c.ID.Ino]
	if !ok {
		return nil, res
	}
	moved := *c
	moved.Rel = rel
	if n, _ := u.ap.pin(&target{Change: &moved}); n != nil {
		c.Rel = rel
		return n, result{}
	}
	return nil, res
}

// Newest finds the run that undo takes without a name: the newest that did something, is not yet undone, and is not
// itself an undo. Those in gone are passed over: nothing of them can be put back any more.
func (s *State) Newest(gone map[string]bool) (string, error) {
	runs, err := s.Runs()
	if err != nil {
		return "", err
	}
	for _, r := range runs {
		if r.Verb == VerbGuard && r.State == rightful.RunInterrupted {
			return r.ID, nil
		}
		if r.Verb != VerbUndo && !r.Undone && !gone[r.ID] && r.State != rightful.RunRunning && r.State != rightful.RunTakenBack && r.Changed+r.Failed+r.InDoubt > 0 {
			return r.ID, nil
		}
	}
	return "", ErrNothing
}

func (s *State) undone(id string) (bool, error) {
	runs, err := s.Runs()
	if err != nil {
		return false, err
	}
	for _, r := range runs {
		if r.ID == id {
			return r.Undone, nil
		}
	}
	return false, fmt.Errorf("open run %q: %w", id, ErrNoRun)
}
