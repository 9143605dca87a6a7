package repair

import (
	"errors"
	"fmt"
	"strings"

	"rightful/internal/state"
	"rightful/internal/tree"
)

// The errors that callers act on.
var (
	ErrNoPlan      = errors.New("no such plan")
	ErrNotAPlan    = errors.New("not a plan file")
	ErrDamagedPlan = errors.New("the plan is truncated or altered; nothing of it is applied")
	ErrNewerPlan   = errors.New("the plan is of a newer version of Rightful")
	ErrForeignPlan = errors.New("the plan is for another server")
	ErrUndoPlan    = errors.New("it is of an undo, which is planned from the live entries and not taken from a file")
	ErrNoRun       = errors.New("no such run")
	ErrNothing     = errors.New("no run left to undo")
	ErrNotCutShort = errors.New("the run was not cut short")
	ErrUndone      = errors.New("the run is already undone")
	ErrNoBaseline  = errors.New("how its sites answered before is lost, so that nothing can be verified: it can be undone only")
)

const (
	plansDir = "plans"
	runsDir  = "runs"

	planExt    = ".plan"
	outcomeExt = ".outcome"
)

// State is where plans and outcomes are kept. Only root can look into it: it holds the names of every customer's files.
type State struct {
	dir   *state.Dir
	locks locks
}

// OpenState opens the state directory of the server that s stands for. One that does not exist is as good as empty; it
// is made when something is to be written.
func OpenState(dir string, s *tree.Server) (*State, error) {
	d, err := state.Open(dir, s, plansDir, runsDir)
	if err != nil {
		return nil, err
	}
	l, err := locksOf(d, s)
	if err != nil {
		return nil, err
	}
	return &State{dir: d, locks: l}, nil
}

func (s *State) planPath(id string) string { return s.dir.Join(plansDir, id+planExt) }
func (s *State) runPath(id string) string  { return s.dir.Join(runsDir, id+outcomeExt) }

// sweep removes what a crash left of files that never got their names. Only who holds the lock makes any.
func (s *State) sweep() error {
	for _, in := range []string{plansDir, runsDir} {
		names, err := s.dir.List(in)
		for _, n := range names {
			if strings.HasPrefix(n.Name(), state.TempPrefix) {
				err = errors.Join(err, s.dir.Remove(s.dir.Join(in, n.Name())))
			}
		}
		if err != nil {
			return fmt.Errorf("clean state directory %q: %w", s.dir.Path, err)
		}
	}
	return nil
}
