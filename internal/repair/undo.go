package repair

import (
	"context"
	"fmt"

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
	for i := range p.Accounts {
		u := undoer{p: p, i: i, prior: prior, w: w, ap: newApplier(o.Server, o.SystemUID, nil)}
		err := u.account(ctx)
		u.ap.close()
		if err != nil {
			w.Discard()
			return "", err
		}
	}
	return w.ID(), w.Commit()
}

// An undoer plans the way back for one account.
type undoer struct {
	p     *Plan
	i     int
	prior *outcome
	w     *PlanWriter
	ap    *applier
	open  bool                         // the account was started in the new plan
	moved map[string]map[uint64]string // base → inode → path, from one walk
}

func (u *undoer) account(ctx context.Context) error {
	return u.p.EachBack(u.i, func(seq int, c *rightful.Change) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !u.prior.touched(seq) {
			return nil
		}
		return u.change(ctx, seq, c)
	})
}

func (u *undoer) change(ctx context.Context, seq int, c *rightful.Change) error {
	left := func(reason string) error {
		return u.w.Skip(Skip{Account: u.p.Accounts[u.i].Account, Path: c.Path(), Reason: reason})
	}
	back := *c
	back.Problem, back.Rule = "", ""
	n, res := u.find(ctx, &back)
	if n == nil {
		return left(res.reason)
	}
	defer n.Close()
	live, err := n.Refresh()
	if err != nil {
		return left(err.Error())
	}
	observed, deviates := u.prior.observed[seq]
	switch {
	case n.Stat.Kind != c.Kind:
		return left(reasonReplaced)
	case same(live, c.Before, c.Kind):
		return nil
	case deviates && same(live, observed, c.Kind):
	case !knownState(live, c.Before, c.After, c.Kind):
		return left(reasonChanged)
	}
	if c.Kind != rightful.KindDir && n.Stat.Nlink != c.Links {
		return left(reasonLinks)
	}
	if !u.open {
		u.open = true
		a := u.p.Accounts[u.i]
		a.Before, a.After = nil, nil
		if err := u.w.Account(a); err != nil {
			return err
		}
	}
	back.Before, back.After = live, c.Before
	return u.w.Change(&back)
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
		if err := b.base.Walk(ctx, &inodeFinder{want: want, at: at}, false); err != nil {
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

// inodeFinder notes where wanted inodes are met.
type inodeFinder struct {
	want map[uint64]bool
	at   map[uint64]string
}

func (f *inodeFinder) Entry(_ *tree.Dir, e *tree.Entry) (bool, error) {
	if f.want[e.Ino] {
		f.at[e.Ino] = e.Rel()
	}
	return true, nil
}
func (f *inodeFinder) Enter(*tree.Dir) error { return nil }
func (f *inodeFinder) Leave(*tree.Dir) error { return nil }
func (f *inodeFinder) Fail(string, error)    {}

// Newest finds the run that undo takes without a name: the newest that did something, is not yet undone, and is not
// itself an undo.
func (s *State) Newest() (string, error) {
	runs, err := s.Runs()
	if err != nil {
		return "", err
	}
	for _, r := range runs {
		if r.Verb != VerbUndo && !r.Undone && r.State != rightful.RunRunning && r.State != rightful.RunTakenBack && r.Changed+r.Failed+r.InDoubt > 0 {
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
