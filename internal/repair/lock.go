package repair

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"rightful/internal/state"
	"rightful/internal/tree"

	"golang.org/x/sys/unix"
)

// Two locks are held while anything is changed: one on the state directory, so that nobody else writes to its files, and
// one on the server, so that two state directories are not two repairs at once. The kernel lets go of both when the
// process ends, however it ends. Looking takes neither.
//
// A server is known by device and inode of the directory that is its "/", whatever path led there. Its lock is a file
// below /run, where only root can write: in /run/lock, on Debian, everybody could make the file first and hold the lock
// for ever, as everybody could who may open the directory itself.
const lockDir = "/run/rightful"

// locks are the files that a process locks before it changes anything.
type locks struct {
	state, server string
	mine          bool // this process holds them
}

func locksOf(d *state.Dir, s *tree.Server) (locks, error) {
	st, err := s.Stat("/")
	if err != nil {
		return locks{}, err
	}
	return locks{state: d.Join("lock"), server: filepath.Join(lockDir, fmt.Sprintf("%x-%x.lock", st.Dev, st.Ino))}, nil
}

// A LockedError says that another process holds the lock of the server or of the state directory.
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

// Lock takes the locks of the server and of the state directory, or says who holds one of them.
func (s *State) Lock(command, by string) (unlock func(), err error) {
	note, err := json.Marshal(LockedError{PID: os.Getpid(), Command: command, By: by, Since: time.Now().UTC()})
	if err != nil {
		return nil, err
	}
	if err := s.dir.Create(); err != nil {
		return nil, err
	}
	if err := state.MakeDir(lockDir); err != nil {
		return nil, fmt.Errorf("create lock directory %q: %w", lockDir, state.Cause(err))
	}
	if err := state.Inspect("lock directory", lockDir); err != nil {
		return nil, err
	}
	server, err := s.hold(s.locks.server, note)
	if err != nil {
		return nil, err
	}
	leave := func() {
		s.dir.Remove(s.locks.server) // while it is held; hold knows a file that was taken away
		server.Close()
	}
	own, err := s.hold(s.locks.state, note)
	if err != nil {
		leave()
		return nil, err
	}
	if err := s.sweep(); err != nil {
		own.Close()
		leave()
		return nil, err
	}
	s.locks.mine = true
	return func() {
		s.locks.mine = false
		own.Close()
		leave()
	}, nil
}

// hold locks a file and writes into it who does.
func (s *State) hold(path string, note []byte) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock %q: %w", path, state.Cause(err))
	}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, wholeFile()); err != nil {
		defer f.Close()
		if err != unix.EAGAIN {
			return nil, fmt.Errorf("lock %q: %w", path, err)
		}
		held := &LockedError{Command: "unknown", By: "unknown"}
		if b, err := io.ReadAll(io.LimitReader(f, 4096)); err == nil {
			json.Unmarshal(b, held) // a half-written note leaves "unknown"
		}
		return nil, held
	}
	// Who held it may have let go and taken the file away after it was opened here: then this one locks nobody out.
	mine, err := f.Stat()
	if err == nil {
		var there os.FileInfo
		if there, err = s.dir.Stat(path); os.IsNotExist(err) || err == nil && !os.SameFile(mine, there) {
			f.Close()
			return s.hold(path, note)
		}
	}
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
	return f, nil
}

// wholeFile describes a lock on all of a file that belongs to the open file and not to the process (Linux 3.15). Unlike
// flock(2), it can be looked at without being taken, so that nobody is refused because somebody looked.
func wholeFile() *unix.Flock_t { return &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart} }

// busy reports whether another process holds the lock of the state directory: then one of its runs is under way.
func (s *State) busy() bool {
	if s.locks.mine {
		return false
	}
	f, err := os.OpenFile(s.locks.state, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	l := wholeFile()
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, l) == nil && l.Type != unix.F_UNLCK
}
