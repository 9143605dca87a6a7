package rescue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"rightful"
	"rightful/internal/archive"

	"golang.org/x/sys/unix"
)

// A writer makes entries below one directory, as the account. It keeps the directories on the way open for the next entry,
// so that an archive in the order of a walk costs few calls for each file. A link is never followed: each directory is
// opened by its one name in the one above.
type writer struct {
	root int
	job  *Job
	seen func(*Counts)
	c    Counts
	dirs []openedDir
	buf  []byte
}

// An openedDir is a directory that entries are being made in. Making one changes its time, which is put right when it is
// left, where there is one to be put right.
type openedDir struct {
	name  string
	fd    int
	mtime unix.Timespec
	timed bool
}

// modeOnTheWay is that of a directory that only stands on the way to something: the sticky bit, which no directory of a source
// keeps, tells it from one that somebody closed on purpose. It is gone before the home is brought in.
const modeOnTheWay = unix.S_ISVTX | 0o700

func newWriter(root int, job *Job, seen func(*Counts)) *writer {
	return &writer{root: root, job: job, seen: seen, buf: make([]byte, 256<<10)}
}

func (w *writer) close() { w.cut(0) }

// at is the directory that stands open at a depth; 0 is the first.
func (w *writer) at(depth int) int {
	if depth == 0 {
		return w.root
	}
	return w.dirs[depth-1].fd
}

// cut leaves the directories from a depth on.
func (w *writer) cut(n int) {
	for i := len(w.dirs) - 1; i >= n; i-- {
		d := &w.dirs[i]
		unix.Close(d.fd)
		if d.timed { // a time is no reason to fail
			unix.UtimesNanoAt(w.at(i), d.name, []unix.Timespec{d.mtime, d.mtime}, unix.AT_SYMLINK_NOFOLLOW)
		}
	}
	w.dirs = w.dirs[:n]
}

// maxDepth bounds the directories that are open at once.
const maxDepth = 400

// errInTheWay says that something that is no directory stands where one should be.
var errInTheWay = errors.New("a file or a link of the backup's is in its way")

// enter opens a directory, with those above it; they are made where they are not there, closed to all but the account.
func (w *writer) enter(dirs []string) (int, error) {
	keep := 0
	for keep < len(dirs) && keep < len(w.dirs) && w.dirs[keep].name == dirs[keep] {
		keep++
	}
	w.cut(keep)
	if len(dirs) > maxDepth {
		return 0, fmt.Errorf("it lies more than %d directories deep", maxDepth)
	}
	for _, name := range dirs[keep:] {
		d, err := w.down(w.at(len(w.dirs)), name)
		if err != nil {
			return 0, err
		}
		w.dirs = append(w.dirs, d)
	}
	return w.at(len(dirs)), nil
}

// down opens one directory, and makes it where it is not there.
func (w *writer) down(in int, name string) (openedDir, error) {
	d := openedDir{name: name}
	var err error
	d.fd, err = openDirFD(in, name)
	made := false
	if err == unix.ENOENT {
		if err := w.room(); err != nil {
			return d, err
		}
		if err = unix.Mkdirat(in, name, modeOnTheWay); err == nil {
			w.c.Dirs++
			made = true
			d.fd, err = openDirFD(in, name)
		}
	}
	switch {
	case err == unix.ENOTDIR || err == unix.ELOOP:
		return d, errInTheWay
	case err != nil:
		return d, fatal(err)
	case made:
		return d, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		unix.Close(d.fd)
		return d, err
	}
	d.mtime, d.timed = st.Mtim, true
	return d, nil
}

// A stop ends the work; any other error rejects one entry.
type stop struct{ error }

func (s stop) Unwrap() error { return s.error }

// fatal makes a stop of what would meet every other entry too.
func fatal(err error) error {
	for _, e := range []unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EROFS, unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		if errors.Is(err, e) {
			return stop{err}
		}
	}
	return err
}

var errMore = errors.New("the source holds more than it did when it was looked at")

// room makes sure that no more entries are made than there is room for.
func (w *writer) room() error {
	if w.c.Entries() >= w.job.MaxEntries {
		return stop{errMore}
	}
	return nil
}

// unpack makes everything that lies in the job's places.
func (w *writer) unpack(src *archive.Opened) error {
	for {
		e, err := src.Next()
		var bad *archive.Rejected
		switch {
		case errors.As(err, &bad):
			w.reject(bad.Name, bad.Why)
			continue
		case err == io.EOF:
			w.cut(0)
			return nil
		case errors.Is(err, archive.ErrBomb):
			return err
		case err != nil:
			w.c.Cut = err.Error()
			w.cut(0)
			return nil
		}
		rel, ok := w.job.Places.Rel(e.Name)
		if !ok || rel == "" {
			continue
		}
		if err := w.entry(&e, rel, src); err != nil {
			if s, ok := errors.AsType[stop](err); ok {
				return fmt.Errorf("write %q: %w", rel, s.error)
			}
			w.reject(rel, err.Error())
		}
		w.seen(&w.c)
	}
}

func (w *writer) reject(path, why string) { w.c.reject(path, why) }

// entry makes one entry.
func (w *writer) entry(e *archive.Entry, rel string, src *archive.Opened) error {
	parts := strings.Split(rel, "/")
	if e.Kind == rightful.KindDir {
		return w.directory(e, parts)
	}
	dir, err := w.enter(parts[:len(parts)-1])
	if err != nil {
		return err
	}
	if err := w.room(); err != nil {
		return err
	}
	name := parts[len(parts)-1]
	switch {
	case e.Kind == rightful.KindFile && e.HardLink:
		err = w.hardLink(e, dir, name)
		if content := src.Content(); err != nil && content != nil {
			err = w.file(e, dir, name, content)
		}
	case e.Kind == rightful.KindFile:
		err = w.file(e, dir, name, src.Content())
	case e.Kind == rightful.KindSymlink:
		if err = w.place(dir, name, func() error { return unix.Symlinkat(e.Target, dir, name) }); err == nil {
			w.c.Links++
			w.touch(e, dir, name)
		}
	default:
		err = fmt.Errorf("a %s; no backup makes one right", e.Kind)
	}
	return err
}

// directory makes a directory, or gives one that is there the mode that the source says.
func (w *writer) directory(e *archive.Entry, parts []string) error {
	fd, err := w.enter(parts)
	if err != nil {
		return err
	}
	if e.Known.Has(archive.KnownMode) {
		// What its owner could not enter could not be worked on; what others could write is closed to them.
		if err := unix.Fchmod(fd, uint32(e.Mode&(rightful.ModePerm|rightful.ModeSetgid)&^0o022|0o700)); err != nil {
			return fatal(err)
		}
	} else if err := unix.Fchmod(fd, 0o755); err != nil {
		return fatal(err)
	}
	if e.Known.Has(archive.KnownTime) {
		d := &w.dirs[len(w.dirs)-1]
		d.mtime, d.timed = timespec(e.Time), true
	}
	return nil
}

func timespec(t time.Time) unix.Timespec { return unix.NsecToTimespec(t.UnixNano()) }

func (w *writer) touch(e *archive.Entry, dir int, name string) {
	if e.Known.Has(archive.KnownTime) {
		t := timespec(e.Time)
		unix.UtimesNanoAt(dir, name, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW) // a time is no reason to fail
	}
}

var errDirToo = errors.New("the backup has a directory of that name too")

// place makes an entry under a name; what the same source put there before gives way, unless it is a directory.
func (w *writer) place(dir int, name string, make1 func() error) error {
	err := make1()
	if err == unix.EEXIST {
		switch err := unix.Unlinkat(dir, name, 0); err {
		case nil:
		case unix.EISDIR, unix.EPERM:
			return errDirToo
		default:
			return fatal(err)
		}
		err = make1()
	}
	if err != nil {
		return fatal(err)
	}
	return nil
}

// file makes a regular file. One whose content is not whole is not left behind, and takes the place of no other.
func (w *writer) file(e *archive.Entry, dir int, name string, content io.Reader) error {
	switch {
	case content == nil:
		return errors.New("the source does not hold its content")
	case e.Size > w.job.MaxFile:
		return fmt.Errorf("a file of %s; there is room for %s", rightful.SizeText(e.Size), rightful.SizeText(w.job.MaxFile))
	}
	mode := rightful.Mode(0o644)
	if e.Known.Has(archive.KnownMode) {
		mode = e.Mode & rightful.ModePerm &^ 0o022
	}
	fd, in, as, err := w.create(dir, name, uint32(mode))
	if err != nil {
		return err
	}
	n, err := w.pour(fd, content, e.Size)
	if cerr := unix.Close(fd); err == nil && cerr != nil {
		err = fatal(cerr)
	}
	if err == nil && as != name {
		err = renameOver(in, as, dir, name)
	}
	if err != nil {
		unix.Unlinkat(in, as, 0)
		return unreadable(err)
	}
	w.c.Files++
	w.c.Bytes += n
	w.touch(e, dir, name)
	return nil
}

// create makes a new file under a name, or where that is taken, under another one at the top until it is whole.
func (w *writer) create(dir int, name string, mode uint32) (fd, in int, as string, err error) {
	in, as = dir, name
	for n := 0; ; n++ {
		fd, err = unix.Openat(in, as, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		switch err {
		case unix.EINTR:
		case unix.EEXIST:
			in, as = w.root, ".rightful-part-"+strconv.Itoa(n)
		default:
			return fd, in, as, fatal(err)
		}
	}
}

func renameOver(in int, as string, dir int, name string) error {
	switch err := unix.Renameat(in, as, dir, name); err {
	case nil:
		return nil
	case unix.EISDIR:
		return errDirToo
	default:
		return fatal(err)
	}
}

// unreadable says of what the account itself may not read that it is so.
func unreadable(err error) error {
	switch {
	case isStop(err):
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return errors.New("the account itself may not read it")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("its content ends early: the source is cut there, or it was changed meanwhile")
	}
	return err
}

// A hole is looked for in pieces of this size, and in files of some pieces only.
const holeSize = 4 << 10

// pour writes a content of a known size. What is nothing but zeros is left out of the file, so that a sparse file stays one.
func (w *writer) pour(fd int, content io.Reader, size int64) (n int64, err error) {
	var at int64 // in the file
	for {
		k, rerr := content.Read(w.buf)
		if at += int64(k); at > size {
			return n, errors.New("its content is longer than the source says")
		}
		b := w.buf[:k]
		if size >= 16*holeSize && k >= holeSize && zero(b) {
			if _, err := unix.Seek(fd, int64(k), io.SeekCurrent); err != nil {
				return n, fatal(err)
			}
			b = nil
		}
		if n += int64(len(b)); w.c.Bytes+n > w.job.MaxBytes {
			return n, stop{errMore}
		}
		for len(b) > 0 {
			m, err := unix.Write(fd, b)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return n, fatal(err)
			}
			b = b[m:]
		}
		switch {
		case rerr == io.EOF && n < at: // a hole may be at its end
			return n, fatal(ftruncate(fd, at))
		case rerr == io.EOF:
			return n, nil
		case rerr != nil:
			return n, rerr
		}
		if n>>23 != (n-int64(k))>>23 { // every 8 MiB of a large file
			c := w.c
			c.Bytes += n
			w.seen(&c)
		}
	}
}

func ftruncate(fd int, size int64) error {
	for {
		if err := unix.Ftruncate(fd, size); err != unix.EINTR {
			return err
		}
	}
}

// zero reports whether there is nothing but zeros.
func zero(b []byte) bool { return b[0] == 0 && bytes.Equal(b[:len(b)-1], b[1:]) }

// hardLink makes another name for a file that came before.
func (w *writer) hardLink(e *archive.Entry, dir int, name string) error {
	to, ok := w.job.Places.Rel(e.Target)
	if !ok || to == "" || !e.Known.Has(archive.KnownTarget) {
		return errors.New("another name of a file that is not brought back")
	}
	in, base := w.root, to
	if i := strings.LastIndexByte(to, '/'); i >= 0 {
		base = to[i+1:]
		for d := range strings.SplitSeq(to[:i], "/") {
			f, err := openDir(in, d)
			if err != nil {
				return errors.New("another name of a file that is not there")
			}
			defer f.Close()
			in = int(f.Fd())
		}
	}
	var st unix.Stat_t
	if err := unix.Fstatat(in, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errors.New("another name of a file that is not there")
	}
	// An archive that was told to hold a file twice has its second entry as another name of itself.
	var there unix.Stat_t
	if unix.Fstatat(dir, name, &there, unix.AT_SYMLINK_NOFOLLOW) == nil && there.Ino == st.Ino && there.Dev == st.Dev {
		return nil
	}
	if err := w.place(dir, name, func() error { return unix.Linkat(in, base, dir, name, 0) }); err != nil {
		return err
	}
	w.c.Files++
	return nil
}

// merge moves everything of one directory into another, where that has nothing of the name. Two directories are merged; of
// the mode of one that only stood on the way to something, the other's is taken.
func (w *writer) merge(ctx context.Context, to, from int, rel string) error {
	names, err := list(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		path := rightful.JoinPath(rel, name)
		if rel == "" {
			path = name
		}
		err := unix.Renameat2(from, name, to, name, unix.RENAME_NOREPLACE)
		if err == unix.EEXIST {
			err = w.both(ctx, to, from, name, path)
		}
		if err != nil {
			return fmt.Errorf("merge %q: %w", path, err)
		}
	}
	return nil
}

// list gives the names in a directory, and keeps nothing open.
func list(dir int) ([]string, error) {
	d, err := openDir(dir, ".")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// both deals with a name that both directories have.
func (w *writer) both(ctx context.Context, to, from int, name, path string) error {
	a, errA := openDir(to, name)
	if errA == nil {
		defer a.Close()
	}
	b, errB := openDir(from, name)
	if errB == nil {
		defer b.Close()
	}
	if errA != nil || errB != nil {
		if err := w.keep(ctx, from, name); err != nil {
			return err
		}
		if (errA == nil) != (errB == nil) {
			w.reject(path, "a better source has something of another kind there")
		}
		return nil
	}
	var sa, sb unix.Stat_t
	if unix.Fstat(int(a.Fd()), &sa) == nil && unix.Fstat(int(b.Fd()), &sb) == nil && sa.Mode&0o7777 == modeOnTheWay {
		if err := unix.Fchmod(int(a.Fd()), sb.Mode&0o7777); err != nil {
			return err
		}
	}
	return w.merge(ctx, int(a.Fd()), int(b.Fd()), path)
}

// keep counts the files of a lesser source that do not come into the home, at a name and beneath it.
func (w *writer) keep(ctx context.Context, dir int, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		w.c.Kept++
		if st.Nlink == 1 { // of several names only the first was counted with its content
			w.c.KeptBytes += st.Size
		}
	case unix.S_IFDIR:
		d, err := openDir(dir, name)
		if err != nil {
			return err
		}
		defer d.Close()
		names, err := d.Readdirnames(-1)
		if err != nil {
			return err
		}
		for _, n := range names {
			if err := w.keep(ctx, int(d.Fd()), n); err != nil {
				return err
			}
		}
	}
	return nil
}

// furnish makes what is missing, and ends the distinction of what only stood on the way.
func (w *writer) furnish(ctx context.Context, want []Furniture) error {
	for _, f := range want {
		parts := strings.Split(string(f.Rel), "/")
		dir, err := w.enter(parts[:len(parts)-1])
		name := parts[len(parts)-1]
		if err == nil {
			if len(f.Target) > 0 {
				err = unix.Symlinkat(string(f.Target), dir, name)
			} else {
				err = unix.Mkdirat(dir, name, 0o755)
			}
		}
		switch {
		case err == nil:
			w.c.Made = append(w.c.Made, f.Rel)
		case err == unix.EEXIST:
			if err := open(dir, name); err != nil {
				return fmt.Errorf("make %q: %w", f.Rel, err)
			}
		case isStop(fatal(err)):
			return fmt.Errorf("make %q: %w", f.Rel, err)
		default:
			w.reject(string(f.Rel), err.Error())
		}
	}
	w.cut(0)
	return unmark(ctx, w.root)
}

// open makes a standard folder that only stands on the way as open as one that was missing: a document root of which a source
// knows one file is still to be served.
func open(dir int, name string) error {
	d, err := openDir(dir, name)
	if err != nil {
		return nil // a source has something else there
	}
	defer d.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &st); err != nil || st.Mode&0o7777 != modeOnTheWay {
		return err
	}
	return unix.Fchmod(int(d.Fd()), 0o755)
}

// unmark takes the mark off the directories beneath one that only stood on the way.
func unmark(ctx context.Context, dir int) error {
	d, err := openDir(dir, ".")
	if err != nil {
		return err
	}
	entries, err := d.ReadDir(-1)
	d.Close()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !e.IsDir() {
			continue
		}
		fd, err := openDirFD(dir, e.Name())
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err = unix.Fstat(fd, &st); err == nil && st.Mode&0o7777 == modeOnTheWay {
			err = unix.Fchmod(fd, 0o700)
		}
		if err == nil {
			err = unmark(ctx, fd)
		}
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

func isStop(err error) bool {
	_, ok := errors.AsType[stop](err)
	return ok
}
