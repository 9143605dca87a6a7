package rescue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"rightful"
	"rightful/internal/tree"

	"golang.org/x/sys/unix"
)

// quarantinePrefix is what the names of quarantines begin with; the rest is the rescue's name.
const quarantinePrefix = ".rightful-rescue-"

// homeDir is the name of the rebuilt home in a quarantine.
const homeDir = "home"

// QuarantinePath is where a rescue of a home builds.
func QuarantinePath(home, id string) string {
	return path.Join(path.Dir(path.Clean(home)), quarantinePrefix+id)
}

// A Quarantine is the directory that a home is rebuilt in, open.
type Quarantine struct {
	s        *tree.Server
	path     string
	uid, gid uint32
	f        *os.File
}

var (
	errNotRoots = errors.New("somebody but root can write the directory that the home is in")
	errMount    = errors.New("the home is a mount point of its own, and no directory can take its place")
)

// MakeQuarantine makes the quarantine of a rescue, or opens it where it is there already.
func MakeQuarantine(s *tree.Server, r *Record) (*Quarantine, error) {
	fail := func(err error) (*Quarantine, error) {
		return nil, fmt.Errorf("make quarantine %q: %w", r.Quarantine, err)
	}
	parent, err := s.OpenBase(path.Dir(r.Quarantine))
	if err != nil {
		return fail(err)
	}
	defer parent.Close()
	if st := parent.Stat(); st.UID != 0 || st.Mode&0o022 != 0 {
		return fail(errNotRoots)
	}
	if st, err := s.Lstat(r.Home); err == nil && st.MountRoot() {
		return fail(errMount)
	}
	q := &Quarantine{s: s, path: r.Quarantine, uid: r.UID, gid: r.GID}
	dir, err := parent.File()
	if err != nil {
		return fail(err)
	}
	defer dir.Close()
	err = unix.Mkdirat(int(dir.Fd()), path.Base(r.Quarantine), 0o700)
	if err != nil && err != unix.EEXIST {
		return fail(err)
	}
	if err := dir.Sync(); err != nil {
		return fail(err)
	}
	if q.f, err = openDir(int(dir.Fd()), path.Base(r.Quarantine)); err != nil {
		return fail(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(q.f.Fd()), &st); err != nil || st.Uid != 0 || st.Mode&0o777 != 0o700 {
		q.Close()
		return fail(errors.New("it is not root's alone"))
	}
	return q, nil
}

// Close lets go of the quarantine.
func (q *Quarantine) Close() { q.f.Close() }

// HomePath is where the rebuilt home is.
func (q *Quarantine) HomePath() string { return path.Join(q.path, homeDir) }

// Base opens the rebuilt home.
func (q *Quarantine) Base() (*tree.Base, error) { return q.s.OpenBase(q.HomePath()) }

// dir opens a directory of the quarantine that the account owns, and makes it where it is not there.
func (q *Quarantine) dir(name string) (*os.File, error) {
	fd := int(q.f.Fd())
	if err := unix.Mkdirat(fd, name, 0o700); err != nil && err != unix.EEXIST {
		return nil, fmt.Errorf("make directory %q in the quarantine: %w", name, err)
	}
	d, err := openDir(fd, name)
	if err == nil {
		err = unix.Fchown(int(d.Fd()), int(q.uid), int(q.gid))
	}
	if err != nil {
		return nil, fmt.Errorf("open directory %q in the quarantine: %w", name, err)
	}
	return d, nil
}

// Unpack unpacks source n (from 1) out of f, an archive or a pipe. What an earlier attempt left of it is removed first.
func (q *Quarantine) Unpack(ctx context.Context, n int, f *os.File, job Job, seen func(Counts)) (Counts, error) {
	job.Do = DoUnpack
	return q.fresh(ctx, n, f, job, seen)
}

// Copy is Unpack for what is left of the home: the account reads it with no more rights than it has.
func (q *Quarantine) Copy(ctx context.Context, n int, ruin *os.File, job Job, seen func(Counts)) (Counts, error) {
	job.Do = DoCopy
	return q.fresh(ctx, n, ruin, job, seen)
}

func (q *Quarantine) fresh(ctx context.Context, n int, f *os.File, job Job, seen func(Counts)) (Counts, error) {
	name := strconv.Itoa(n)
	if err := q.remove(ctx, name); err != nil {
		return Counts{}, err
	}
	d, err := q.dir(name)
	if err != nil {
		return Counts{}, err
	}
	defer d.Close()
	return q.work(ctx, job, seen, d, f)
}

// Drop removes one entry of source n that is not whole.
func (q *Quarantine) Drop(ctx context.Context, n int, rel string) error {
	in := q.f
	parts := strings.Split(strconv.Itoa(n)+"/"+rel, "/")
	for _, d := range parts[:len(parts)-1] {
		f, err := openDir(int(in.Fd()), d)
		if err != nil {
			return nil // a link or nothing: then it is not there
		}
		defer f.Close()
		in = f
	}
	return removeAt(ctx, int(in.Fd()), parts[len(parts)-1], 0)
}

// Merge moves what source n has, and the rebuilt home has not, into the home; the rest of it is removed.
func (q *Quarantine) Merge(ctx context.Context, n int) (Counts, error) {
	home, err := q.dir(homeDir)
	if err != nil {
		return Counts{}, err
	}
	defer home.Close()
	name := strconv.Itoa(n)
	from, err := openDir(int(q.f.Fd()), name)
	if errors.Is(err, unix.ENOENT) {
		return Counts{}, nil // merged and removed before
	}
	if err != nil {
		return Counts{}, fmt.Errorf("open directory %q in the quarantine: %w", name, err)
	}
	defer from.Close()
	c, err := q.work(ctx, Job{Do: DoMerge}, nil, home, from)
	if err != nil {
		return c, err
	}
	return c, q.remove(ctx, name)
}

// Furnish makes the directories and links that are missing in the rebuilt home.
func (q *Quarantine) Furnish(ctx context.Context, want []Furniture) (Counts, error) {
	home, err := q.dir(homeDir)
	if err != nil {
		return Counts{}, err
	}
	defer home.Close()
	return q.work(ctx, Job{Do: DoFurnish, Furniture: want, MaxEntries: int64(len(want)) * maxDepth}, nil, home)
}

// Sync returns when all that was built is on disk.
func (q *Quarantine) Sync() error {
	if err := unix.Syncfs(int(q.f.Fd())); err != nil {
		return fmt.Errorf("sync quarantine %q: %w", q.path, err)
	}
	return nil
}

// Room tells how many bytes and inodes the file system of the quarantine has free.
func (q *Quarantine) Room() (bytes, inodes int64, err error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(q.f.Fd()), &st); err != nil {
		return 0, 0, fmt.Errorf("stat file system of %q: %w", q.path, err)
	}
	inodes = int64(st.Ffree)
	if st.Files == 0 {
		inodes = 1 << 62 // file systems without a table of inodes
	}
	return int64(st.Bavail) * st.Bsize, inodes, nil
}

// Remove removes the quarantine with all that is in it: the old home, after the switch.
func (q *Quarantine) Remove(ctx context.Context) error {
	if err := empty(ctx, q.f, 0); err != nil {
		return fmt.Errorf("remove quarantine %q: %w", q.path, err)
	}
	parent, err := q.s.OpenBase(path.Dir(q.path))
	if err != nil {
		return err
	}
	defer parent.Close()
	dir, err := parent.File()
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Unlinkat(int(dir.Fd()), path.Base(q.path), unix.AT_REMOVEDIR); err != nil {
		return fmt.Errorf("remove quarantine %q: %w", q.path, err)
	}
	return dir.Sync()
}

func (q *Quarantine) remove(ctx context.Context, name string) error {
	if err := removeAt(ctx, int(q.f.Fd()), name, 0); err != nil {
		return fmt.Errorf("remove %q from quarantine %q: %w", name, q.path, err)
	}
	return nil
}

// openDir opens a directory in another one, no link followed.
func openDir(dir int, name string) (*os.File, error) {
	for {
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

// maxRemoveDepth is how deep a tree is removed: deeper than any that was unpacked.
const maxRemoveDepth = 20_000

// removeAt removes one name and what is beneath it. A mount is not entered, so that what is mounted there is not emptied.
func removeAt(ctx context.Context, dir int, name string, depth int) error {
	err := unix.Unlinkat(dir, name, 0)
	switch err {
	case nil, unix.ENOENT:
		return nil
	case unix.EISDIR, unix.EPERM: // EPERM is POSIX's answer for a directory
	default:
		return err
	}
	d, derr := openDir(dir, name)
	if derr != nil {
		return err
	}
	defer d.Close()
	var st unix.Statx_t
	if err := unix.Statx(int(d.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_TYPE, &st); err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return unix.EBUSY
	}
	if err := empty(ctx, d, depth+1); err != nil {
		return err
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

// empty removes what is in a directory.
func empty(ctx context.Context, d *os.File, depth int) error {
	if depth > maxRemoveDepth {
		return unix.ELOOP
	}
	for {
		names, err := d.Readdirnames(1000)
		for _, n := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := removeAt(ctx, int(d.Fd()), n, depth); err != nil {
				return err
			}
		}
		if len(names) == 0 {
			if err == io.EOF {
				return nil
			}
			return err
		}
		// A listing may pass over names while others are removed, so that it begins anew.
		if _, err := d.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
}

// Graft gives the server as it will be when the rebuilt home stands in its place.
func (q *Quarantine) Graft(home string) (*tree.Server, error) {
	b, err := q.Base()
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return q.s.Graft(home, b)
}

// Switch is the change that brings the rebuilt home in, and sets what stands there aside.
func (q *Quarantine) Switch(home string) (*rightful.Change, error) {
	b, err := q.Base()
	if err != nil {
		return nil, err
	}
	defer b.Close()
	c := &rightful.Change{
		Base: path.Dir(home), Rel: path.Base(home), Kind: rightful.KindDir, Effect: rightful.EffectDown,
		Exchange: &rightful.Exchange{With: q.HomePath()},
	}
	if c.ID, err = Standing(q.s, home); err == nil {
		c.Exchange.ID, err = idOf(b, "")
	}
	return c, err
}

// Standing identifies the directory that stands at the place of a home; nothing where there is none.
func Standing(s *tree.Server, home string) (rightful.EntryID, error) {
	parent, err := s.OpenBase(path.Dir(home))
	if err != nil {
		return rightful.EntryID{}, err
	}
	defer parent.Close()
	return idOf(parent, path.Base(home))
}

func idOf(b *tree.Base, rel string) (rightful.EntryID, error) {
	cur := b.Cursor()
	defer cur.Close()
	n, err := cur.Open(rel)
	if tree.IsNotExist(err) {
		return rightful.EntryID{}, nil
	}
	if err != nil {
		return rightful.EntryID{}, err
	}
	defer n.Close()
	if n.Stat.Kind != rightful.KindDir {
		return rightful.EntryID{}, &tree.Error{Op: "open", Path: n.Path(), Cause: tree.CauseKind}
	}
	return n.ID(), nil
}
