package repair

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"rightful/internal/state"
	"rightful/internal/tree"

	"golang.org/x/sys/unix"
)

// The errors that callers act on.
var (
	ErrNoPlan      = errors.New("no such plan")
	ErrNotAPlan    = errors.New("not a plan file")
	ErrDamagedPlan = errors.New("the plan is truncated or altered; nothing of it is applied")
	ErrNewerPlan   = errors.New("the plan is of a newer version of Rightful")
	ErrForeignPlan = errors.New("the plan is for another server")
	ErrNoRun       = errors.New("no such run")
	ErrNothing     = errors.New("no run left to undo")
	ErrNotCutShort = errors.New("the run was not cut short")
	ErrUndone      = errors.New("the run is already undone")
	ErrNoBaseline  = errors.New("how its sites answered before is lost, so that nothing can be verified: it can be undone only")
)

// A LockedError says that another process holds the server's lock.
type LockedError struct {
	PID     int       `json:"pid"`
	Command string    `json:"command"`
	By      string    `json:"by"`
	Since   time.Time `json:"since"`
}

// Error names the holder.
func (e *LockedError) Error() string {
	return fmt.Sprintf("locked by process %d (%s, started by %s at %s)", e.PID, e.Command, e.By, e.Since.Local().Format("15:04:05"))
}

const (
	plansDir = "plans"
	runsDir  = "runs"
	lockFile = "lock"
)

// State is where plans and outcomes are kept. Only root can look into it: it holds the names of every customer's files.
type State struct {
	dir  *state.Dir
	mine bool // this process holds the lock
}

// OpenState opens the state directory of the server that s stands for. One that does not exist is as good as empty; it
// is made when something is to be written.
func OpenState(dir string, s *tree.Server) (*State, error) {
	d, err := state.Open(dir, s, plansDir, runsDir)
	if err != nil {
		return nil, err
	}
	return &State{dir: d}, nil
}

func (s *State) planPath(id string) string { return s.dir.Join(plansDir, id+".plan") }
func (s *State) runPath(id string) string  { return s.dir.Join(runsDir, id+".outcome") }

// Lock takes the server's lock, or says who holds it. The kernel lets go of it when the process ends, however it ends.
func (s *State) Lock(command, by string) (unlock func(), err error) {
	if err := s.dir.Create(); err != nil {
		return nil, err
	}
	path := s.dir.Join(lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock %q: %w", path, state.Cause(err))
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if err != unix.EWOULDBLOCK {
			return nil, fmt.Errorf("lock %q: %w", path, err)
		}
		held := &LockedError{Command: "unknown", By: "unknown"}
		if b, err := io.ReadAll(io.LimitReader(f, 4096)); err == nil {
			json.Unmarshal(b, held) // a half-written note leaves "unknown"
		}
		return nil, held
	}
	note, err := json.Marshal(LockedError{PID: os.Getpid(), Command: command, By: by, Since: time.Now().UTC()})
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(note, 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write lock %q: %w", path, state.Cause(err))
	}
	s.mine = true
	return func() {
		s.mine = false
		f.Close()
	}, nil
}

// busy reports whether another process holds the lock.
func (s *State) busy() bool {
	if s.mine {
		return false
	}
	f, err := os.OpenFile(s.dir.Join(lockFile), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == unix.EWOULDBLOCK
}
