// Package wrapper puts a shell script in the place of a program of the administrator's, which from then on runs it guarded,
// and takes it away again.
//
// It promises that the program can be run at every moment, guarded or not, and that only what root alone can write is
// touched: whoever could change the program, or a directory on the way to it, could have root run anything.
//
// It refuses customers' files, and whatever is not a program.
package wrapper

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"rightful"
	"rightful/internal/state"
	"rightful/internal/tree"
)

const (
	mark   = "# rightful guard: this file stands before the program beside it; remove it by: rightful guard --remove"
	suffix = ".unguarded" // of the program itself, which lies beside the script
)

// The errors that callers act on.
var (
	ErrWrapped   = errors.New("it is guarded already")
	ErrUnwrapped = errors.New("it is not guarded")
)

// A LeftError says that a program lies where one is moved aside to, though none stands before it: an upgrade has put a new
// program in the place of the script.
type LeftError struct{ Path string }

// Error names it.
func (e *LeftError) Error() string {
	return fmt.Sprintf("%q is there already, as an upgrade leaves it that replaces the wrapper", e.Path)
}

// Install moves a program aside and puts a script in its place that runs it by guard, a command line of this program's up
// to the dashes.
func Install(s *tree.Server, path, guard string) error {
	at, err := program(s, path)
	if err != nil {
		return fmt.Errorf("guard program %q: %w", path, err)
	}
	aside := at.own + suffix
	switch b, err := os.ReadFile(at.own); {
	case err != nil:
		return fmt.Errorf("guard program %q: %w", path, state.Cause(err))
	case isWrapper(b):
		return fmt.Errorf("guard program %q: %w", path, ErrWrapped)
	}
	if _, err := os.Lstat(aside); err == nil {
		return fmt.Errorf("guard program %q: %w", path, &LeftError{aside})
	}
	inside := at.path + suffix // as the server sees it
	text := fmt.Sprintf("#!/bin/sh\n%s %s\nexec %s -- '%s' \"$@\"\n", mark, at.path, guard, strings.ReplaceAll(inside, "'", `'\''`))
	f, err := state.Temp(filepath.Dir(at.own))
	if err != nil {
		return fmt.Errorf("guard program %q: %w", path, state.Cause(err))
	}
	// The program keeps a name at every moment: first a second one, then the wrapper takes the first.
	if _, err = f.WriteString(text); err == nil {
		err = f.Chmod(os.FileMode(at.mode))
	}
	if err == nil {
		err = os.Link(at.own, aside)
	}
	if err == nil {
		if err = state.Keep(f, at.own); err != nil {
			os.Remove(aside)
		}
	}
	if err != nil {
		state.Drop(f)
		return fmt.Errorf("guard program %q: %w", path, state.Cause(err))
	}
	return f.Close()
}

// Remove puts a program back in the place of its script.
func Remove(s *tree.Server, path string) error {
	at, err := program(s, path)
	if err != nil {
		return fmt.Errorf("release program %q: %w", path, err)
	}
	b, err := os.ReadFile(at.own)
	if err == nil && !isWrapper(b) {
		err = ErrUnwrapped
	}
	if err == nil {
		err = os.Rename(at.own+suffix, at.own)
	}
	if err == nil {
		err = state.SyncDir(filepath.Dir(at.own))
	}
	if err != nil {
		return fmt.Errorf("release program %q: %w", path, state.Cause(err))
	}
	return nil
}

func isWrapper(b []byte) bool { return bytes.HasPrefix(b, []byte("#!/bin/sh\n"+mark)) }

// A place is where a program lies: in our own file system, and as the server sees it, links followed.
type place struct {
	own, path string
	mode      rightful.Mode // the permissions
}

// program finds a program of the administrator's.
func program(s *tree.Server, path string) (place, error) {
	if !filepath.IsAbs(path) {
		return place{}, errors.New("not an absolute path")
	}
	chain, err := s.Trace(path)
	if err != nil {
		return place{}, err
	}
	for _, c := range chain {
		if c.Stat.UID != 0 || c.Stat.Kind != rightful.KindSymlink && c.Meta.Mode&0o022 != 0 {
			return place{}, fmt.Errorf("%q is not root's alone", c.Path)
		}
		if strings.ContainsFunc(c.Path, unicode.IsControl) {
			return place{}, fmt.Errorf("%q has a control character in its name, which would end a line of the script", c.Path)
		}
	}
	last := chain[len(chain)-1]
	switch {
	case last.Stat.Kind != rightful.KindFile || last.Stat.Mode&0o100 == 0:
		return place{}, errors.New("it is no program")
	case last.Stat.Mode&(rightful.ModeSetuid|rightful.ModeSetgid) != 0:
		return place{}, errors.New("it has set-id bits, which a script cannot have: those who run it are not root")
	}
	return place{filepath.Join(s.Dir(), last.Path), last.Path, last.Stat.Mode & rightful.ModePerm}, nil
}
