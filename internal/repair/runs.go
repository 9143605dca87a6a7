package repair

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"rightful"
)

// Runs lists all runs, newest first. A file that cannot be read is left out, with an error that names it beside the
// others.
func (s *State) Runs() ([]rightful.Run, error) {
	ids, err := s.dir.IDs(runsDir, outcomeExt)
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	var runs []rightful.Run
	var errs []error
	busy := s.busy()
	pending, err := s.PendingGuards()
	if err != nil {
		errs = append(errs, err)
	}
	guarded := map[string]bool{}
	for i := range pending {
		guarded[pending[i].Run] = true
		runs = append(runs, pending[i].run(busy))
	}
	for _, id := range ids {
		if guarded[id] {
			continue
		}
		o, err := s.readOutcome(id, nil)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		runs = append(runs, o.run(busy))
	}
	slices.SortFunc(runs, func(a, b rightful.Run) int {
		if c := b.Started.Compare(a.Started); c != 0 {
			return c
		}
		return strings.Compare(b.ID, a.ID)
	})
	markUndone(runs)
	return runs, errors.Join(errs...)
}

// run tells what the outcome says.
func (o *outcome) run(busy bool) rightful.Run {
	r := rightful.Run{
		ID: o.Run, Plan: o.Plan, Verb: o.Verb, Undoes: o.Undoes, Started: o.Started, By: o.By, Command: o.Command,
		Planned: o.Changes, Stages: o.stages, Damage: o.damage,
	}
	if r.Stages == nil {
		r.Stages = []rightful.Stage{}
	}
	o.count(&r)
	switch {
	case o.end != nil:
		r.State, r.Reason, r.Ended = o.end.State, o.end.Reason, o.end.Time
	case busy:
		r.State = rightful.RunRunning
	default:
		r.State, r.Reason = rightful.RunInterrupted, "it ended without a word: a kill or a crash"
	}
	return r
}

// markUndone works out which runs are undone: a run is, if some undo of it came to its end and is not itself undone.
// The list is newest first, so every undo of an undo is judged before what it bears upon.
func markUndone(runs []rightful.Run) {
	undone := map[string]bool{}
	for i := range runs {
		r := &runs[i]
		r.Undone = undone[r.ID]
		if r.Verb == VerbUndo && r.State == rightful.RunDone && !r.Undone {
			undone[r.Undoes] = true
		}
	}
}

// An Item is one change of a run that did not go as planned.
type Item struct {
	Account string `json:"account"`
	Path    string `json:"path"`
	PathB64 []byte `json:"path_b64,omitempty"`
	Result  string `json:"result"` // skipped, failed, changed, in doubt
	Reason  string `json:"reason"`
}

// Run tells about one run, with every exchange, and every entry that was skipped, failed, or went otherwise than planned.
func (s *State) Run(id string) (*rightful.Run, []Item, error) {
	if g, err := s.PendingGuard(id); err != nil {
		return nil, nil, err
	} else if g != nil {
		run := g.run(s.busy())
		return &run, nil, nil
	}
	why := map[int]result{}
	o, err := s.readOutcome(id, func(seq int, ph phase, r result) { why[seq] = r })
	if err != nil {
		return nil, nil, err
	}
	run := o.run(s.busy())
	if all, err := s.Runs(); err == nil {
		for _, r := range all {
			if r.ID == id {
				run.Undone = r.Undone
			}
		}
	}
	p, err := s.planOf(o)
	if err != nil {
		return &run, nil, err
	}
	defer p.Close()
	var items []Item
	for _, k := range p.Skips {
		items = append(items, Item{Account: k.Account, Path: k.Path, PathB64: k.PathB64, Result: "skipped", Reason: k.Reason})
	}
	for i := range p.Accounts {
		err := p.Each(i, func(seq int, c *rightful.Change) error {
			if c.Exchange != nil {
				run.Exchanges = append(run.Exchanges, rightful.Exchanged{
					Path: c.Path(), PathB64: rightful.RawPath(c.Path()), With: c.Exchange.With, WithB64: rightful.RawPath(c.Exchange.With),
					Result: statusNames[o.status[seq]],
				})
			}
			r, ok := why[seq]
			switch {
			case o.status[seq] != stBegun:
			case len(o.damage) > 0:
				r, ok = result{status: stBegun, reason: "no record tells whether it was made: the outcome is damaged"}, true
			default:
				r, ok = result{status: stBegun, reason: "the run was cut off while this was announced"}, true
			}
			if ok {
				items = append(items, Item{
					Account: p.Accounts[i].Account, Path: c.Path(), PathB64: rightful.RawPath(c.Path()),
					Result: statusNames[r.status], Reason: r.reason,
				})
			}
			return nil
		})
		if err != nil {
			return &run, items, err
		}
	}
	return &run, items, nil
}

var statusNames = map[status]string{
	stNone: "not made", stBegun: "in doubt", stApplied: "changed", stAlready: "already right", stSkipped: "skipped",
	stFailed: "failed", stTakenBack: "taken back",
}
