package repair

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

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

// State is the directory in which plans and outcomes are kept. Only root can look into it: it holds the names of every
// customer's files.
type State struct {
	dir    string
	root   string
	server string
	mine   bool // this process holds the lock
}

// OpenState opens the state directory of the server that s stands for. One that does not exist is as good as empty; it
// is made when something is to be written.
func OpenState(dir string, s *tree.Server) (*State, error) {
	st := &State{dir: dir, root: s.Dir(), server: serverID(s)}
	if err := st.inspect(); err != nil {
		return nil, err
	}
	return st, nil
}

func (s *State) dirs() []string {
	return []string{s.dir, filepath.Join(s.dir, plansDir), filepath.Join(s.dir, runsDir)}
}

// create makes the state directory where it does not exist.
func (s *State) create() error {
	for _, d := range s.dirs() {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("create state directory %q: %w", d, cause(err))
		}
	}
	return s.inspect()
}

// inspect refuses a state directory that anybody else could write.
func (s *State) inspect() error {
	for _, d := range s.dirs() {
		var st unix.Stat_t
		if err := unix.Lstat(d, &st); err == unix.ENOENT {
			return nil
		} else if err != nil {
			return fmt.Errorf("stat state directory %q: %w", d, err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return fmt.Errorf("open state directory %q: %w", d, unix.ENOTDIR)
		}
		if int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
			return fmt.Errorf("open state directory %q: owned by uid %d with mode %04o; it must be yours and writable by you alone", d, st.Uid, st.Mode&0o7777)
		}
	}
	return nil
}

// serverID names the machine, so that a plan carried elsewhere is refused.
func serverID(s *tree.Server) string {
	if b, err := s.ReadFile("/etc/machine-id", 256); err == nil && len(strings.TrimSpace(string(b))) > 0 {
		return strings.TrimSpace(string(b))
	}
	if b, err := s.ReadFile("/etc/hostname", 256); err == nil && len(strings.TrimSpace(string(b))) > 0 {
		return strings.TrimSpace(string(b))
	}
	return "unnamed"
}

func (s *State) planPath(id string) string { return filepath.Join(s.dir, plansDir, id+".plan") }
func (s *State) runPath(id string) string  { return filepath.Join(s.dir, runsDir, id+".outcome") }

// newID makes a name that sorts by time, can be typed, and has no file yet: two bytes alone would now and then repeat.
func newID(t time.Time, path func(id string) string) string {
	for {
		var b [2]byte
		rand.Read(b[:])
		id := t.Format("20060102-150405-") + hex.EncodeToString(b[:])
		if _, err := os.Lstat(path(id)); err != nil {
			return id
		}
	}
}

// validID keeps anything but our own names from becoming part of a path.
func validID(s string) bool {
	if len(s) != len("20060102-150405-abcd") {
		return false
	}
	for _, c := range s {
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Lock takes the server's lock, or says who holds it. The kernel lets go of it when the process ends, however it ends.
func (s *State) Lock(command, by string) (unlock func(), err error) {
	if err := s.create(); err != nil {
		return nil, err
	}
	path := filepath.Join(s.dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock %q: %w", path, cause(err))
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
		return nil, fmt.Errorf("write lock %q: %w", path, cause(err))
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
	f, err := os.OpenFile(filepath.Join(s.dir, lockFile), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == unix.EWOULDBLOCK
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// cause takes the path off an error of package os, for messages that name it already.
func cause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
