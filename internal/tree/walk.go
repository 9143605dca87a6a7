package tree

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"runtime"
	"slices"
	"unsafe"

	"rightful"

	"golang.org/x/sys/unix"
)

// A Visitor is told what a walk meets. A directory's entries come first, sorted by name; then its subdirectories are
// entered in the same order. Errors it returns end the walk.
type Visitor interface {
	// Entry is called for the base (with d nil) and for every entry in d. For a directory, descend says whether to
	// enter it. e is reused: keep nothing of it.
	Entry(d *Dir, e *Entry) (descend bool, err error)
	// Enter is called when a directory has been opened and listed, before its entries.
	Enter(d *Dir) error
	// Leave is called when everything below a directory has been visited.
	Leave(d *Dir) error
	// Fail reports what could not be read or was refused; the walk goes on without it. rel is relative to the base.
	Fail(rel string, err error)
}

// A Knower is a Visitor that may know the ACLs and capabilities of an entry, which then are not read. It is asked only on
// file systems that give an inode a new time of change whenever an attribute of it changes.
type Knower interface {
	// Known gives a state that has the ACLs and capabilities of the entry; false where they are not known. It is called
	// before Entry, with an e that has no Meta yet.
	Known(e *Entry) (rightful.Meta, bool)
}

// An EntryFunc is a visitor that only looks at entries: it enters what it is told to, and passes over what cannot be read.
type EntryFunc func(d *Dir, e *Entry) (descend bool, err error)

// Entry implements [Visitor].
func (f EntryFunc) Entry(d *Dir, e *Entry) (bool, error) { return f(d, e) }

// Enter implements [Visitor].
func (EntryFunc) Enter(*Dir) error { return nil }

// Leave implements [Visitor].
func (EntryFunc) Leave(*Dir) error { return nil }

// Fail implements [Visitor].
func (EntryFunc) Fail(string, error) {}

// An Entry is one inode met in a walk.
type Entry struct {
	Stat
	Name []byte // empty for the base
	w    *walker
	dir  *Dir
	path string // made when somebody asks
	acl  []byte
	def  []byte
	caps []byte
	// known has what acl, def and caps would say, where isKnown.
	known   rightful.Meta
	isKnown bool
}

// Path is the absolute path.
func (e *Entry) Path() string {
	if e.dir == nil {
		return e.w.b.path
	}
	if e.path == "" {
		p := append(e.w.path[:0], e.w.b.path...)
		for _, part := range [...][]byte{e.dir.rel, e.Name} {
			if len(part) > 0 && p[len(p)-1] != '/' {
				p = append(p, '/')
			}
			p = append(p, part...)
		}
		e.w.path, e.path = p, string(p)
	}
	return e.path
}

// Rel is the path relative to the base. It shares its memory with Path.
func (e *Entry) Rel() string {
	if e.dir == nil {
		return ""
	}
	n := len(e.Name)
	if len(e.dir.rel) > 0 {
		n += len(e.dir.rel) + 1
	}
	p := e.Path()
	return p[len(p)-n:]
}

// Meta gives everything that Rightful may change of the entry. It allocates only where there is an ACL or a capability.
// An attribute that cannot be decoded is an error.
func (e *Entry) Meta() (rightful.Meta, error) {
	m := e.Stat.Meta()
	if k := &e.known; e.isKnown {
		m.ACL, m.Default, m.Caps = slices.Clone(k.ACL), slices.Clone(k.Default), slices.Clone(k.Caps)
		return m, nil
	}
	if e.acl == nil && e.def == nil && e.caps == nil {
		return m, nil
	}
	m.Caps = slices.Clone(e.caps)
	return m, setACLs(&m, e.acl, e.def)
}

// ID identifies the entry. It costs about as much as a stat; it is exact only as long as nobody renames: what enters a
// plan is pinned and compared again.
func (e *Entry) ID() rightful.EntryID {
	id := rightful.EntryID{FS: e.w.b.fs, Ino: e.Ino, Birth: e.Birth}
	fd, name, flags := e.w.b.fd, "", unix.AT_EMPTY_PATH
	if e.dir != nil {
		fd, name, flags = e.dir.fd, string(e.Name), 0
	}
	h, _, err := unix.NameToHandleAt(fd, name, flags)
	if err != nil {
		h, _, err = unix.NameToHandleAt(fd, name, flags|handleFID)
	}
	if err == nil {
		id.Handle = append(binary.LittleEndian.AppendUint32(nil, uint32(h.Type())), h.Bytes()...)
	}
	return id
}

// Pin opens the entry, making sure that it still is the one that was met.
func (e *Entry) Pin() (*Node, error) {
	path := e.Path()
	var fd int
	var err error
	if e.dir == nil {
		fd, err = unix.FcntlInt(uintptr(e.w.b.fd), unix.F_DUPFD_CLOEXEC, 0)
	} else {
		fd, err = openPath(e.dir.fd, string(e.Name))
	}
	if err != nil {
		return nil, &Error{Op: "open", Path: path, Err: err}
	}
	st, err := statFD(fd)
	if err == nil && (st.Ino != e.Ino || st.Dev != e.Dev || st.Birth != e.Birth || st.Kind != e.Kind || e.w.b.crosses(fd, &st)) {
		err = &Error{Op: "open", Path: path, Cause: CauseChanged}
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &Node{s: e.w.b.s, fd: fd, fs: e.w.b.fs, path: path, Stat: st}, nil
}

// Target reads where a link points, without following it.
func (e *Entry) Target() (string, error) {
	n, err := e.Pin()
	if err != nil {
		return "", err
	}
	defer n.Close()
	t, err := readlinkFD(n.fd)
	if err != nil {
		return "", &Error{Op: "read link", Path: n.path, Err: err}
	}
	return t, nil
}

// A Dir is a directory that the walk is in.
type Dir struct {
	Depth int // 0 for the base
	Stat  Stat
	w     *walker
	fd    int // -1 while closed to bound the number of descriptors
	rel   []byte
	names []nameRef
	arena []byte
	subs  []subdir
}

// Rel is the path relative to the base, "" for the base.
func (d *Dir) Rel() string { return string(d.rel) }

// Has reports whether the directory listed an entry of that name.
func (d *Dir) Has(name string) bool {
	_, ok := slices.BinarySearchFunc(d.names, name, func(r nameRef, n string) int {
		return bytes.Compare(r.bytes(d.arena), []byte(n))
	})
	return ok
}

// HasPrefix reports whether the directory listed an entry whose name begins so.
func (d *Dir) HasPrefix(prefix string) bool {
	i, _ := slices.BinarySearchFunc(d.names, prefix, func(r nameRef, n string) int {
		return bytes.Compare(r.bytes(d.arena), []byte(n))
	})
	return i < len(d.names) && bytes.HasPrefix(d.names[i].bytes(d.arena), []byte(prefix))
}

// Names gives the names of all entries that the directory listed, sorted by bytes.
func (d *Dir) Names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, n := range d.names {
			if !yield(string(n.bytes(d.arena))) {
				return
			}
		}
	}
}

// Peek reads the metadata of one entry ahead of its turn. It pins it, so it costs more than meeting it.
func (d *Dir) Peek(name string) (rightful.Meta, Stat, error) {
	fd, err := openPath(d.fd, name)
	if err != nil {
		return rightful.Meta{}, Stat{}, &Error{Op: "open", Path: rightful.JoinPath(d.Rel(), name), Err: err}
	}
	n := Node{s: d.w.b.s, fd: fd, fs: d.w.b.fs, path: rightful.JoinPath(d.Rel(), name)}
	defer n.Close()
	m, err := n.Refresh()
	return m, n.Stat, err
}

// Head reads the first n bytes of a regular file in the directory, never through a link.
func (d *Dir) Head(name string, n int64) ([]byte, error) {
	fd, err := openPath(d.fd, name)
	if err != nil {
		return nil, &Error{Op: "open", Path: rightful.JoinPath(d.Rel(), name), Err: err}
	}
	defer unix.Close(fd)
	st, err := statFD(fd)
	if err == nil && d.w.b.crosses(fd, &st) {
		err = &Error{Op: "read", Path: rightful.JoinPath(d.Rel(), name), Cause: CauseMount}
	}
	if err != nil {
		return nil, err
	}
	return d.w.b.s.head(fd, name, n)
}

// nameRef is a name in an arena. key is its first eight bytes, which nearly always tell what comes first.
type nameRef struct {
	key uint64
	off uint32
	len uint16
}

func keyOf(name []byte) uint64 {
	if len(name) >= 8 {
		return binary.BigEndian.Uint64(name)
	}
	var b [8]byte // no name holds a NUL, so that a shorter one comes first
	copy(b[:], name)
	return binary.BigEndian.Uint64(b[:])
}

// subdir is a subdirectory to enter, and the inode that it was when it was met.
type subdir struct {
	nameRef
	ino uint64
}

func (r nameRef) bytes(arena []byte) []byte { return arena[r.off : r.off+uint32(r.len)] }

// openDirs bounds the directories that one walk keeps open, however deep the tree is.
const openDirs = 48

// maxRel bounds the path of a directory that is entered, in bytes below the base. It is eight times PATH_MAX, which no
// program that hands whole paths to the kernel can reach; without a bound, a tenant's chain of directories would cost
// memory in the square of its length.
const maxRel = 32 << 10

type walker struct {
	b     *Base
	v     Visitor
	ctx   context.Context
	dents []byte
	dirs  []*Dir // by depth; reused
	rel   []byte // the path of the deepest directory, which those above it are the beginning of
	path  []byte // of an entry, while it is put together
	entry Entry
	stx   unix.Statx_t
	empty [1]byte // a name that is none
	attrs bool    // read ACLs and capabilities
	knows Knower  // who may know them; nil for nobody
	raw   bool    // bypass the scheduler: see walker.call
	here  bool    // this thread has its own working directory, so that attributes can be read by name
	xbuf  []byte
	many  bool // several device numbers within one mount
}

// ComparePaths orders paths as a walk enters directories, by components and not by bytes: "/a/b" comes before "/a-b", so
// that nothing else stands between a directory and what is in it.
func ComparePaths[T string | []byte](a, b T) int {
	for i := range min(len(a), len(b)) {
		switch {
		case a[i] == b[i]:
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		default:
			return int(a[i]) - int(b[i])
		}
	}
	return len(a) - len(b)
}

// Walk visits everything below the base, the base included, depth first and in an order that depends on names alone.
// With attrs set, ACLs and capabilities are read too. It runs the visitor from one goroutine of its own.
// The error is the visitor's or the context's; everything else goes to Visitor.Fail.
func (b *Base) Walk(ctx context.Context, v Visitor, attrs bool) error {
	done := make(chan error, 1)
	go func() {
		w := &walker{b: b, v: v, ctx: ctx, attrs: attrs, raw: b.local, dents: make([]byte, 64<<10), many: b.manyDevs()}
		if attrs {
			w.xbuf = make([]byte, 4<<10)
		}
		if k, ok := v.(Knower); ok && b.stamps {
			w.knows = k
		}
		if attrs && !b.s.xattrat {
			// Reading an attribute by its name alone costs a third of going through /proc, but before Linux 6.13 the
			// name is relative to the working directory. So this thread gets one of its own and is thrown away
			// afterwards: the goroutine ends without unlocking.
			runtime.LockOSThread()
			w.here = unix.Unshare(unix.CLONE_FS) == nil
		}
		done <- w.run()
	}()
	return <-done
}

func (w *walker) run() error {
	// Opened anew: a duplicate would share its place in the list of names with other walks.
	fd, err := openDir(w.b.fd, ".")
	if err != nil {
		return &Error{Op: "open", Path: w.b.path, Err: err}
	}
	st, err := statFD(fd)
	if err != nil {
		unix.Close(fd)
		return &Error{Op: "stat", Path: w.b.path, Err: err}
	}
	e := &w.entry
	*e = Entry{Stat: st, w: w}
	if w.attrs {
		// The base has no name here: read its attributes through /proc.
		if e.acl, e.def, e.caps, err = w.b.s.attrsFD(fd, e.Kind == rightful.KindDir); err != nil {
			w.v.Fail("", &Error{Op: "read attributes of", Path: w.b.path, Err: err})
		}
	}
	descend, err := w.v.Entry(nil, e)
	if err != nil || !descend {
		unix.Close(fd)
		return err
	}
	return w.dir(0, fd, nil, st)
}

// dir visits one open directory and closes it.
func (w *walker) dir(depth, fd int, rel []byte, st Stat) error {
	if depth == len(w.dirs) {
		w.dirs = append(w.dirs, &Dir{})
	}
	d := w.dirs[depth]
	d.Depth, d.Stat, d.w, d.fd = depth, st, w, fd
	d.rel = rel
	d.names, d.arena, d.subs = d.names[:0], d.arena[:0], d.subs[:0]
	defer func() {
		if d.fd >= 0 {
			w.close(d.fd)
			d.fd = -1
		}
		if cap(d.arena) > 1<<20 { // do not keep what one odd directory needed
			d.arena, d.names, d.subs = nil, nil, nil
		}
	}()
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if err := w.list(d); err != nil {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		fail := &Error{Op: "list", Path: rightful.JoinPath(w.b.path, d.Rel()), Err: err}
		if err == errTooMany {
			fail.Cause, fail.Err = CauseTooMany, nil
		}
		w.v.Fail(d.Rel(), fail)
	}
	if err := w.v.Enter(d); err != nil {
		return err
	}
	if w.here && unix.Fchdir(d.fd) != nil {
		w.here = false
	}
	for _, r := range d.names {
		name := r.bytes(d.arena)
		e := &w.entry
		e.w, e.dir, e.Name = w, d, name
		e.path, e.acl, e.def, e.caps, e.isKnown = "", nil, nil, nil, false
		if errno := w.statx(d.fd, rawName(d.arena[r.off:]), unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT); errno != 0 {
			w.v.Fail(e.Rel(), &Error{Op: "stat", Path: e.Path(), Err: errno})
			continue
		}
		e.Stat.from(&w.stx)
		if e.Mount != 0 && e.Mount != w.b.stat.Mount || e.MountRoot() || e.Dev != w.b.stat.Dev && !w.many {
			w.v.Fail(e.Rel(), &Error{Op: "enter", Path: e.Path(), Cause: CauseMount})
			continue
		}
		if w.attrs && w.knows != nil {
			e.known, e.isKnown = w.knows.Known(e)
		}
		if w.attrs && !e.isKnown && e.Kind != rightful.KindSymlink {
			if err := e.readAttrs(); err != nil {
				w.v.Fail(e.Rel(), &Error{Op: "read attributes of", Path: e.Path(), Err: err})
				continue
			}
		}
		descend, err := w.v.Entry(d, e)
		if err != nil {
			return err
		}
		if descend && e.Kind == rightful.KindDir {
			d.subs = append(d.subs, subdir{r, e.Ino})
		}
	}
	for i, r := range d.subs {
		if err := w.sub(d, r); err != nil {
			return err
		}
		if d.fd < 0 {
			if i+1 < len(d.subs) {
				w.v.Fail(d.Rel(), &Error{Op: "return to", Path: rightful.JoinPath(w.b.path, d.Rel()), Cause: CauseChanged})
			}
			break
		}
	}
	if depth > 0 && d.fd >= 0 {
		w.reopenParent(w.dirs[depth-1], d.fd)
	}
	return w.v.Leave(d)
}

// reopenParent opens a directory again that was closed to bound the number of descriptors. Its child knows the way; if
// that no longer leads to the same directory, it stays closed.
func (w *walker) reopenParent(parent *Dir, child int) {
	if parent.fd >= 0 {
		return
	}
	fd, err := openDir(child, "..")
	if err != nil {
		return
	}
	st, err := statFD(fd)
	if err != nil || st.Ino != parent.Stat.Ino || st.Dev != parent.Stat.Dev || st.Birth != parent.Stat.Birth || w.b.crosses(fd, &st) {
		unix.Close(fd)
		return
	}
	parent.fd = fd
}

// sub opens and visits one subdirectory of d.
func (w *walker) sub(d *Dir, r subdir) error {
	name := r.bytes(d.arena)
	w.rel = append(w.rel[:0], d.rel...) // the same bytes, where nothing grew
	if len(d.rel) > 0 {
		w.rel = append(w.rel, '/')
	}
	w.rel = append(w.rel, name...)
	rel := w.rel
	fail := func(cause Cause, err error) {
		w.v.Fail(string(rel), &Error{Op: "enter", Path: rightful.JoinPath(w.b.path, string(rel)), Cause: cause, Err: err})
	}
	if len(rel) > maxRel {
		fail(CauseTooDeep, nil)
		return nil
	}
	fd, errno := w.open(d.fd, rawName(name)) // the arena keeps the NUL behind it
	if errno != 0 {
		fail("", errno)
		return nil
	}
	if errno := w.statx(fd, unsafe.Pointer(&w.empty), unix.AT_EMPTY_PATH); errno != 0 {
		unix.Close(fd)
		fail("", errno)
		return nil
	}
	var st Stat
	st.from(&w.stx)
	if st.Ino != r.ino {
		unix.Close(fd)
		fail(CauseChanged, nil)
		return nil
	}
	if w.b.crosses(fd, &st) {
		unix.Close(fd)
		fail(CauseMount, nil)
		return nil
	}
	// Beyond the window, let go of the ancestor that is furthest above, and find it again from below.
	far := d.Depth + 1 - openDirs
	if far >= 0 && w.dirs[far].fd >= 0 {
		unix.Close(w.dirs[far].fd)
		w.dirs[far].fd = -1
	}
	return w.dir(d.Depth+1, fd, rel, st)
}

// openDir opens a subdirectory for listing. O_NOATIME spares the disk a write for every directory read.
func openDir(dir int, name string) (int, error) {
	flags := unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Openat(dir, name, flags|unix.O_NOATIME, 0)
		if err == unix.EPERM {
			fd, err = unix.Openat(dir, name, flags, 0)
		}
		return err
	})
	return fd, err
}

// open is openDir without allocating.
func (w *walker) open(dir int, name unsafe.Pointer) (int, unix.Errno) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	fd, e := w.call(unix.SYS_OPENAT, uintptr(dir), uintptr(name), flags|unix.O_NOATIME, 0, 0)
	if e == unix.EPERM {
		fd, e = w.call(unix.SYS_OPENAT, uintptr(dir), uintptr(name), flags, 0, 0)
	}
	return int(fd), e
}

func (w *walker) close(fd int) { w.call(unix.SYS_CLOSE, uintptr(fd), 0, 0, 0, 0) }

// maxNames bounds what is read of one directory, in bytes of names: some ten million entries. On some file systems one
// that is filled while it is read does not end by itself (tmpfs before Linux 6.11, btrfs before 6.5).
const maxNames = 256 << 20

var errTooMany = errors.New("too many names")

// list reads the names of a directory, sorted by bytes: once, so that what is renamed meanwhile is not met for ever.
func (w *walker) list(d *Dir) error {
	for {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		n, e := w.call(unix.SYS_GETDENTS64, uintptr(d.fd), uintptr(rawName(w.dents)), uintptr(len(w.dents)), 0, 0)
		tooMany := len(d.arena) > w.b.names
		if e != 0 || n == 0 || tooMany {
			slices.SortFunc(d.names, func(a, b nameRef) int {
				if a.key != b.key {
					return cmp.Compare(a.key, b.key)
				}
				return bytes.Compare(a.bytes(d.arena), b.bytes(d.arena))
			})
			switch {
			case e != 0:
				return e
			case tooMany && n > 0:
				return errTooMany
			}
			return nil
		}
		for buf := w.dents[:n]; len(buf) > 0; {
			// struct linux_dirent64: ino u64, off s64, reclen u16, type u8, name.
			reclen := binary.NativeEndian.Uint16(buf[16:])
			name := cstring(buf[19:reclen])
			buf = buf[reclen:]
			if string(name) == "." || string(name) == ".." {
				continue
			}
			d.names = append(d.names, nameRef{keyOf(name), uint32(len(d.arena)), uint16(len(name))})
			d.arena = append(append(d.arena, name...), 0)
		}
	}
}

// call makes a system call. On local file systems it bypasses the scheduler, which halves the cost of one that several
// threads make all the time; elsewhere it must not, since a call that hangs would take a processor with it.
//
//go:uintptrescapes
func (w *walker) call(trap, a1, a2, a3, a4, a5 uintptr) (r uintptr, e unix.Errno) {
	for {
		if w.raw {
			r, _, e = unix.RawSyscall6(trap, a1, a2, a3, a4, a5, 0)
		} else {
			r, _, e = unix.Syscall6(trap, a1, a2, a3, a4, a5, 0)
		}
		if e != unix.EINTR || trap == unix.SYS_CLOSE {
			return r, e
		}
	}
}

// statx stats one name without allocating.
func (w *walker) statx(dir int, name unsafe.Pointer, flags uintptr) unix.Errno {
	_, e := w.call(unix.SYS_STATX, uintptr(dir), uintptr(name), flags, statxMask, uintptr(unsafe.Pointer(&w.stx)))
	return e
}

// readAttrs reads ACLs and capabilities of the entry. One call that lists the names of all attributes finds out that
// there is none, which is nearly always so.
func (e *Entry) readAttrs() error {
	w := e.w
	if w.here || w.b.s.xattrat {
		name := unsafe.Pointer(unsafe.SliceData(e.Name)) // the arena keeps the NUL behind it
		var n uintptr
		var errno unix.Errno
		for {
			size := uintptr(len(w.xbuf))
			if w.b.s.xattrat {
				n, errno = w.call(sysListxattrat, uintptr(e.dir.fd), uintptr(name), unix.AT_SYMLINK_NOFOLLOW, uintptr(rawName(w.xbuf)), size)
			} else {
				n, errno = w.call(unix.SYS_LLISTXATTR, uintptr(name), uintptr(rawName(w.xbuf)), size, 0, 0)
			}
			if errno != unix.ERANGE || len(w.xbuf) >= maxXattr {
				break
			}
			w.xbuf = make([]byte, maxXattr)
		}
		switch {
		case errno == unix.EOPNOTSUPP:
			return nil
		case errno != 0:
			return errno
		case !listed(w.xbuf[:n]):
			return nil
		}
	}
	fd, err := openPath(e.dir.fd, string(e.Name))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	e.acl, e.def, e.caps, err = w.b.s.attrsFD(fd, e.Kind == rightful.KindDir)
	return err
}

// PeekTarget stats what an entry of the directory leads to, links followed as a web server would follow them. It is
// for verdicts only: nothing may be changed on the strength of it.
func (d *Dir) PeekTarget(name string) (rightful.Meta, rightful.Kind, error) {
	cs, err := d.w.b.s.Trace(rightful.JoinPath(rightful.JoinPath(d.w.b.path, d.Rel()), name))
	if err != nil {
		return rightful.Meta{}, 0, err
	}
	last := cs[len(cs)-1]
	return last.Meta, last.Stat.Kind, nil
}
