package repair

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"rightful/internal/state"
)

// A PlanFile is a plan as it lies in the state directory, without its changes.
type PlanFile struct {
	PlanHeader
	Bytes int64
	Runs  int // that were made of it
}

// Plans lists the plans, newest first. One that cannot be read is left out, with an error that names it beside the others.
func (s *State) Plans() ([]PlanFile, error) {
	ids, err := s.dir.IDs(plansDir, planExt)
	if err != nil {
		return nil, fmt.Errorf("list plans: %w", err)
	}
	runs, err := s.Runs()
	made := map[string]int{}
	for _, r := range runs {
		made[r.Plan]++
	}
	plans, bad := state.ReadAll(ids, func(id string) (p PlanFile, err error) {
		p.Runs = made[id]
		if p.PlanHeader, p.Bytes, err = readPlanHeader(s.planPath(id)); err != nil {
			err = fmt.Errorf("read plan %q: %w", id, state.Cause(err))
		}
		return p, err
	})
	slices.SortFunc(plans, func(a, b PlanFile) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(b.ID, a.ID)
	})
	return plans, errors.Join(err, bad)
}

func readPlanHeader(path string) (h PlanHeader, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return h, 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return h, 0, err
	}
	kind, body, err := newRecordReader(f, int64(len(planMagic)), st.Size()).next()
	if err != nil || kind != recHeader || json.Unmarshal(body, &h) != nil || !state.ValidID(h.ID) {
		return h, 0, ErrDamagedPlan
	}
	return h, st.Size(), nil
}

// Prunable lists the plans that may be thrown away: no run was made of them, they were made before a time, and at least
// keep newer ones of their kind stay. A plan that was applied stays for ever: undo, redo, resume and the account of the run
// need it. Where some record cannot be read, nobody knows which plan is its own, and none may go.
func (s *State) Prunable(keep int, before time.Time) ([]PlanFile, error) {
	plans, err := s.Plans()
	if err != nil {
		return nil, err
	}
	plans = slices.DeleteFunc(plans, func(p PlanFile) bool { return p.Runs > 0 })
	plans = plans[min(keep, len(plans)):]
	return slices.DeleteFunc(plans, func(p PlanFile) bool { return !p.Created.Before(before) }), nil
}

// Remove throws plans away that Prunable gave. The lock must be held since before that.
func (s *State) Remove(plans []PlanFile) error {
	for _, p := range plans {
		if err := s.dir.Remove(s.planPath(p.ID)); err != nil {
			return fmt.Errorf("remove plan %q: %w", p.ID, err)
		}
	}
	return state.SyncDir(s.dir.Join(plansDir))
}
