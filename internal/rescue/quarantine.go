package rescue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"

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
	if st := parent.Stat(); !st.RootsAlone() {
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
	c, err := q.work(ctx, job, seen, d, f)
	if err != nil {
		return c, err
	}
	return c, q.Sync() // the record will say that it is there
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
	if err == nil {
		err = q.Sync() // before the only other copy is removed
	}
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

// openDir opens a directory in another one, no link followed.
func openDir(dir int, name string) (*os.File, error) {
	fd, err := openDirFD(dir, name)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// openDirFD is openDir for whoever counts calls.
func openDirFD(dir int, name string) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
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
