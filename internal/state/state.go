// Package state is the directory in which Rightful keeps files of its own: plans, outcomes, snapshots.
//
// It knows how such a directory must look, how a file in it is named and made durable, and how fields are packed into
// it. It promises that nobody but the owner of the process could have written what it opens, that a file appears under
// its name only when all of it is on disk, and that a name is given once. It refuses a directory that somebody else may
// write: the files hold the names of every customer's files, and what is done as root follows from them.
//
// It does not know what the files mean: internal/repair and internal/snapshot draw their formats.
package state

import (
	"crypto/rand"
	"encoding/hex"
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

// A Dir is a state directory and the server that its files are about.
type Dir struct {
	// Path is the directory. Root is the directory that stands for the server's "/", and Server its machine id: what was
	// made for another server is refused.
	Path, Root, Server string
	subs               []string
}

// Open looks at the state directory of the server that s stands for. One that does not exist is as good as empty; it is
// made, with these directories in it, when something is to be written.
func Open(path string, s *tree.Server, subs ...string) (*Dir, error) {
	d := &Dir{Path: path, Root: s.Dir(), Server: serverID(s), subs: subs}
	if err := d.inspect(); err != nil {
		return nil, err
	}
	return d, nil
}

// Join gives the path of something in the directory.
func (d *Dir) Join(names ...string) string {
	return filepath.Join(append([]string{d.Path}, names...)...)
}

func (d *Dir) all() []string {
	dirs := []string{d.Path}
	for _, s := range d.subs {
		dirs = append(dirs, d.Join(s))
	}
	return dirs
}

// Create makes the directory and those in it where they do not exist.
func (d *Dir) Create() error {
	for _, dir := range d.all() {
		if err := makeAll(dir); err != nil {
			return fmt.Errorf("create state directory %q: %w", dir, Cause(err))
		}
	}
	return d.inspect()
}

// makeAll makes a directory with those above it.
func makeAll(dir string) error {
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		return err
	}
	if err := makeAll(filepath.Dir(dir)); err != nil {
		return err
	}
	return MakeDir(dir)
}

// MakeDir makes a directory for its owner alone where there is none, so that a power cut does not take it away.
func MakeDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if os.IsExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err = SyncDir(filepath.Dir(dir)); err != nil {
		os.Remove(dir)
	}
	return err
}

// inspect refuses a state directory that anybody else could write.
func (d *Dir) inspect() error {
	for _, dir := range d.all() {
		if err := Inspect("state directory", dir); errors.Is(err, unix.ENOENT) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// Inspect refuses a directory that anybody else could write, or that is none. what is it in errors.
func Inspect(what, dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("stat %s %q: %w", what, dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("open %s %q: %w", what, dir, unix.ENOTDIR)
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("open %s %q: owned by uid %d with mode %04o; it must be yours and writable by you alone", what, dir, st.Uid, st.Mode&0o7777)
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

// NewID makes a name that sorts by time, can be typed, and has no file yet: two bytes alone would now and then repeat.
// path gives the file of a name.
func NewID(t time.Time, path func(id string) string) string {
	for {
		var b [2]byte
		rand.Read(b[:])
		id := t.Format("20060102-150405-") + hex.EncodeToString(b[:])
		if _, err := os.Lstat(path(id)); err != nil {
			return id
		}
	}
}

// ValidID keeps anything but our own names from becoming part of a path.
func ValidID(s string) bool {
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

// Temp makes a new file in dir, to be given its name by Keep. What a crash leaves of it begins with [TempPrefix].
func Temp(dir string) (*os.File, error) { return os.CreateTemp(dir, TempPrefix+"*") }

// Scratch makes a file without a name in one of the directories: it is gone when it is closed, however that comes about.
func (d *Dir) Scratch(sub string) (*os.File, error) {
	f, err := Temp(d.Join(sub))
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, Cause(err)
	}
	return f, nil
}

// TempPrefix is what the names of unfinished files begin with.
const TempPrefix = ".new-"

// Keep makes a file that [Temp] made durable and then gives it its name; when it returns, the name is durable too. The
// file stays open. After an error a name that was new is gone again.
func Keep(f *os.File, path string) error {
	_, was := os.Lstat(path)
	err := f.Sync()
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	if err = SyncDir(filepath.Dir(path)); err != nil && os.IsNotExist(was) {
		os.Remove(path)
	}
	return err
}

// Read reads a file of at most limit bytes in the directory; no link is followed.
func (d *Dir) Read(name string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(d.Join(name), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("larger than %d bytes", limit)
	}
	return b, err
}

// Write makes a file durable under its name, in the place of one that may be there.
func (d *Dir) Write(name string, b []byte) error {
	path := d.Join(name)
	f, err := Temp(filepath.Dir(path))
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = Keep(f, path)
	}
	if err != nil {
		Drop(f)
		return err
	}
	return f.Close()
}

// Flock takes a lock of flock(2) on a file in the directory, which closing the file gives back. With LOCK_NB it does not
// wait: the error is then EWOULDBLOCK.
func (d *Dir) Flock(name string, how int) (*os.File, error) {
	f, err := os.OpenFile(d.Join(name), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, Cause(err)
	}
	for {
		if err = unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Drop throws away a file that [Temp] made and [Keep] gave no name.
func Drop(f *os.File) {
	f.Close()
	os.Remove(f.Name())
}

// List gives what lies in one of the directories, by name. There is nothing in one that does not exist.
func (d *Dir) List(sub string) ([]os.DirEntry, error) {
	names, err := os.ReadDir(d.Join(sub))
	if os.IsNotExist(err) {
		return nil, nil
	}
	return names, Cause(err)
}

// IDs gives the names by [NewID] of the files in one of the directories that end with ext, oldest first.
func (d *Dir) IDs(sub, ext string) ([]string, error) {
	names, err := d.List(sub)
	var ids []string
	for _, n := range names {
		if id, ok := strings.CutSuffix(n.Name(), ext); ok && ValidID(id) {
			ids = append(ids, id)
		}
	}
	return ids, err
}

// Stat looks at a file, without following a link.
func (d *Dir) Stat(path string) (os.FileInfo, error) { return os.Lstat(path) }

// Remove removes a file. One that is not there is no error.
func (d *Dir) Remove(path string) error {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return Cause(err)
	}
	return nil
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Cause takes the paths off an error of package os, for messages that name them already.
func Cause(err error) error {
	var pe *os.PathError
	var le *os.LinkError
	switch {
	case errors.As(err, &pe):
		return pe.Err
	case errors.As(err, &le):
		return le.Err
	}
	return err
}
