package tree

import (
	"fmt"
	"os"
	"time"

	"rightful"

	"golang.org/x/sys/unix"
)

// An Evidence is a file or directory that is read for what it tells of other entries: a backup, a copy.
type Evidence struct {
	// File is open for reading. For a directory it serves to reach it.
	File *os.File
	Stat Stat
	// Modified is when its contents were last changed.
	Modified time.Time
	// Forgeable says how somebody other than root could have written or replaced it; empty where nobody could.
	Forgeable string
}

// OpenEvidence opens a regular file or a directory at a path, links followed, and finds out who could have written it:
// whoever owns or may write it, a directory on the way, or a link on the way. A directory is out of reach of all but root
// where one on the way lets nobody else pass, or where it is mounted read-only; a file's owner may have written it before
// it was put there.
func (s *Server) OpenEvidence(name string) (*Evidence, error) {
	e := &Evidence{}
	var parent Stat
	closed := false // somebody but root cannot come this far
	seen := ""
	fd, err := s.resolve(name, resolveAny, false, func(_ int, c *Component) error {
		// In a sticky directory an entry is safe from all but its owner and the directory's.
		if !closed && parent.Mode&0o022 != 0 && parent.Mode&rightful.ModeSticky == 0 {
			seen = fmt.Sprintf("others may write the directory of %q", c.Path)
		}
		if !closed && c.Stat.UID != 0 {
			seen = fmt.Sprintf("%q belongs to the uid %d", c.Path, c.Stat.UID)
		}
		if c.Stat.Kind == rightful.KindDir {
			parent = c.Stat
			closed = closed || c.Stat.UID == 0 && c.Stat.Mode&0o011 == 0
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if e.Stat, err = statFD(fd); err != nil {
		return nil, &Error{Op: "stat", Path: name, Err: err}
	}
	flags := unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY
	var fs unix.Statfs_t
	readOnly := unix.Fstatfs(fd, &fs) == nil && fs.Flags&unix.ST_RDONLY != 0
	switch e.Stat.Kind {
	case rightful.KindDir:
		flags |= unix.O_DIRECTORY
		if readOnly {
			seen = ""
		}
	case rightful.KindFile:
		if seen == "" && e.Stat.UID != 0 {
			seen = fmt.Sprintf("%q belongs to the uid %d", name, e.Stat.UID)
		}
	default:
		return nil, &Error{Op: "read", Path: name, Cause: CauseKind}
	}
	if seen == "" && !closed && !readOnly && e.Stat.Mode&0o022 != 0 {
		seen = fmt.Sprintf("others may write %q", name)
	}
	e.Forgeable = seen
	f, err := s.reopen(fd, flags)
	if err != nil {
		return nil, &Error{Op: "read", Path: name, Err: err}
	}
	e.File = os.NewFile(uintptr(f), name)
	if fi, err := e.File.Stat(); err == nil {
		e.Modified = fi.ModTime()
	}
	return e, nil
}

// OpenTree makes a base of a directory that is evidence.
func (e *Evidence) OpenTree() (*Base, func(), error) {
	s, err := OpenServer(procPath(int(e.File.Fd())))
	if err != nil {
		return nil, nil, err
	}
	b, err := s.OpenBase("/")
	if err != nil {
		s.Close()
		return nil, nil, err
	}
	return b, func() { b.Close(); s.Close() }, nil
}
