package tree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"rightful"

	"golang.org/x/sys/unix"
)

// A Base is an open directory below which entries are walked and opened: an account's home, or a document root outside
// it. Nothing below it is ever reached through a link or across a mount.
type Base struct {
	s    *Server
	fd   int // O_RDONLY: open_by_handle_at refuses O_PATH
	path string
	stat Stat
	fs   rightful.FSID
	// local: the file system is on this machine, so that a call on it cannot hang for long.
	local bool
	// stamps: it gives an inode a new time of change with every change of an attribute.
	stamps bool
	names  int // how much of one directory a walk reads, see maxNames
}

// OpenBase opens a base directory. Every directory above it must be root's and writable by nobody else, and links
// there must be root's: whoever controls a step could lead root elsewhere.
func (s *Server) OpenBase(path string) (*Base, error) {
	p, err := s.resolve(path, resolveTrusted, false, nil)
	if err != nil {
		return nil, err
	}
	defer unix.Close(p)
	st, err := statFD(p)
	if err != nil {
		return nil, &Error{Op: "stat", Path: path, Err: err}
	}
	if st.Kind != rightful.KindDir {
		return nil, &Error{Op: "open", Path: path, Cause: CauseKind}
	}
	fd, err := s.reopen(p, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, &Error{Op: "open", Path: path, Err: err}
	}
	b := &Base{s: s, fd: fd, path: path, stat: st, names: maxNames}
	if b.stat.Mount == 0 {
		b.stat.Mount = mountID(fd)
	}
	if err := b.identify(); err != nil {
		unix.Close(fd)
		return nil, &Error{Op: "identify file system of", Path: path, Err: err}
	}
	return b, nil
}

// Close lets go of the base. Nodes opened below it stay usable.
func (b *Base) Close() { unix.Close(b.fd) }

// File opens the base once more, for whoever reads it by other means.
func (b *Base) File() (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(b.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, &Error{Op: "open", Path: b.path, Err: err}
	}
	return os.NewFile(uintptr(fd), b.path), nil
}

// Path is the path by which the base was opened.
func (b *Base) Path() string { return b.path }

// Stat is that of the base itself when it was opened.
func (b *Base) Stat() Stat { return b.stat }

// FS identifies the file system of the base.
func (b *Base) FS() rightful.FSID { return b.fs }

// identify finds out about the file system. It asks for the UUID (FS_IOC_GETFSUUID, Linux 6.9), else takes the id of
// statfs(2), which ext4 and btrfs derive from the UUID.
func (b *Base) identify() error {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(b.fd, &st) }); err != nil {
		return err
	}
	switch uint32(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC:
		b.local, b.stamps = true, true
	case unix.TMPFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, 0x2fc12fc1: // the last is ZFS
		b.local = true
	}
	const getFSUUID = 0x80111500 // _IOR(0x15, 0, struct fsuuid2)
	var u struct {
		n    uint8
		uuid [16]byte
	}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(b.fd), getFSUUID, uintptr(unsafe.Pointer(&u))); e == 0 && u.n == 16 {
		h := hex.EncodeToString(u.uuid[:])
		b.fs = rightful.FSID(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:])
		return nil
	}
	b.fs = rightful.FSID("fsid:" + strconv.FormatUint(uint64(uint32(st.Fsid.Val[0]))<<32|uint64(uint32(st.Fsid.Val[1])), 16))
	return nil
}

// MountID names the mount that a descriptor is on; 0 where nothing tells it.
func MountID(fd int) uint64 {
	if st, err := statFD(fd); err == nil && st.Mount != 0 {
		return st.Mount
	}
	return mountID(fd)
}

// mountID reads the mount id of a descriptor from /proc, for kernels before 5.8 whose statx does not tell it.
func mountID(fd int) uint64 {
	b, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(v), 10, 64)
			return n
		}
	}
	return 0
}

// crosses reports whether an entry below the base lies on another mount.
func (b *Base) crosses(fd int, st *Stat) bool {
	if st.Mount == 0 {
		st.Mount = mountID(fd)
	}
	return st.Mount != b.stat.Mount || st.Dev != b.stat.Dev && !b.manyDevs()
}

// manyDevs reports file systems that give several device numbers within one mount.
func (b *Base) manyDevs() bool {
	var st unix.Statfs_t
	if unix.Fstatfs(b.fd, &st) != nil {
		return false
	}
	return uint32(st.Type) == unix.BTRFS_SUPER_MAGIC || uint32(st.Type) == unix.OVERLAYFS_SUPER_MAGIC
}

// A Node is one entry below a base, pinned by an O_PATH descriptor: whatever is renamed or planted afterwards, it
// stays that inode.
type Node struct {
	s    *Server
	fd   int
	fs   rightful.FSID
	path string
	// Stat is what the entry looked like when it was pinned or last refreshed.
	Stat Stat
}

// Close lets go of the entry.
func (n *Node) Close() { unix.Close(n.fd) }

// FD is the O_PATH descriptor, for tree/edit.
func (n *Node) FD() int { return n.fd }

// Path is the path by which the entry was found. It must not be used to reach it again.
func (n *Node) Path() string { return n.path }

// Refresh stats the entry again and reads everything that Rightful may change.
func (n *Node) Refresh() (rightful.Meta, error) {
	st, err := statFD(n.fd)
	if err != nil {
		return rightful.Meta{}, &Error{Op: "stat", Path: n.path, Err: err}
	}
	n.Stat = st
	return n.Meta()
}

// Meta is Refresh for an entry that was pinned just now: Stat is taken as it is.
func (n *Node) Meta() (rightful.Meta, error) {
	m, err := n.s.metaFD(n.fd, &n.Stat)
	if err != nil {
		return m, &Error{Op: "read attributes of", Path: n.path, Err: err}
	}
	return m, nil
}

// handleFID asks for a handle that identifies but cannot be opened (AT_HANDLE_FID, Linux 6.6), which is what overlayfs
// has.
const handleFID = 0x200

// ID identifies the entry as strongly as its file system allows.
func (n *Node) ID() rightful.EntryID {
	id := rightful.EntryID{FS: n.fs, Ino: n.Stat.Ino, Birth: n.Stat.Birth}
	h, _, err := unix.NameToHandleAt(n.fd, "", unix.AT_EMPTY_PATH)
	if err != nil {
		h, _, err = unix.NameToHandleAt(n.fd, "", unix.AT_EMPTY_PATH|handleFID)
	}
	if err == nil {
		id.Handle = append(binary.LittleEndian.AppendUint32(nil, uint32(h.Type())), h.Bytes()...)
	}
	return id
}

// Read reads a regular file of at most limit bytes; a larger one is CauseTooLarge, anything but a file CauseKind.
func (n *Node) Read(limit int64) ([]byte, error) { return n.s.read(n.fd, n.Stat.Kind, n.path, limit) }

// Open opens a regular file for reading; anything else is CauseKind.
func (n *Node) Open() (*os.File, error) { return n.s.file(n.fd, n.Stat.Kind, n.path) }

// maxContent bounds what is hashed of a file: far more than any program, and seconds to read. A tenant could otherwise
// keep root reading a sparse file, or one that grows as fast as it is read, for ever.
const maxContent = 1 << 30

// Content measures and hashes a regular file; more than 1 GiB is CauseTooLarge. With alone set, it first makes sure, by a
// read lease, that nobody has it open for writing, and that holds until the returned release is called.
func (n *Node) Content(ctx context.Context, alone bool) (c rightful.Content, release func(), err error) {
	release = func() {}
	fail := func(op string, err error) (rightful.Content, func(), error) {
		return c, func() {}, &Error{Op: op, Path: n.path, Err: err}
	}
	if n.Stat.Kind != rightful.KindFile {
		return c, release, &Error{Op: "read", Path: n.path, Cause: CauseKind}
	}
	if n.Stat.Size > maxContent {
		return c, release, &Error{Op: "read", Path: n.path, Cause: CauseTooLarge}
	}
	fd, err := n.s.reopen(n.fd, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return fail("open", err)
	}
	if alone {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK); err != nil {
			unix.Close(fd)
			return fail("lease", err)
		}
	}
	h := sha256.New()
	buf := make([]byte, min(max(n.Stat.Size+1, 512), 64<<10)) // most files take one read, and one that says so
	for {
		if err := ctx.Err(); err != nil {
			unix.Close(fd)
			return fail("read", err)
		}
		var k int
		err := retry(func() (err error) {
			k, err = unix.Read(fd, buf)
			return err
		})
		if err != nil {
			unix.Close(fd)
			return fail("read", err)
		}
		h.Write(buf[:k])
		c.Size += int64(k)
		if k == 0 {
			break
		}
		if c.Size > maxContent {
			unix.Close(fd)
			return c, release, &Error{Op: "read", Path: n.path, Cause: CauseTooLarge}
		}
	}
	h.Sum(c.SHA256[:0])
	if !alone {
		unix.Close(fd)
		return c, release, nil
	}
	// A writer who waits is let in after /proc/sys/fs/lease-break-time, whether or not we are done.
	if held, err := unix.FcntlInt(uintptr(fd), unix.F_GETLEASE, 0); err != nil || held != unix.F_RDLCK {
		unix.Close(fd)
		return fail("lease", unix.EAGAIN)
	}
	return c, func() { unix.Close(fd) }, nil
}

// A Cursor opens entries below a base, one name at a time, and keeps the directories on the way open for the next
// entry: entries that come in walk order cost about one open each. It is not safe for concurrent use.
type Cursor struct {
	b    *Base
	dirs []cursorDir
}

type cursorDir struct {
	name string
	fd   int // -1 where it was closed again to bound the number of descriptors
}

// cursorDepth bounds the directories that a cursor keeps open.
const cursorDepth = 64

// Cursor returns a new cursor at the base.
func (b *Base) Cursor() *Cursor { return &Cursor{b: b} }

// Close lets go of the directories.
func (c *Cursor) Close() { c.cut(0) }

func (c *Cursor) cut(n int) {
	for _, d := range c.dirs[n:] {
		if d.fd >= 0 {
			unix.Close(d.fd)
		}
	}
	c.dirs = c.dirs[:n]
}

// at is the directory that the cursor stands in.
func (c *Cursor) at() int {
	if len(c.dirs) == 0 {
		return c.b.fd
	}
	return c.dirs[len(c.dirs)-1].fd
}

// Open pins the entry at a path relative to the base; "" is the base itself. It follows no link and crosses no mount.
func (c *Cursor) Open(rel string) (*Node, error) {
	full := rightful.JoinPath(c.b.path, rel)
	if rel == "" {
		fd, err := unix.FcntlInt(uintptr(c.b.fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, &Error{Op: "open", Path: full, Err: err}
		}
		return c.pin(fd, full)
	}
	parts := strings.Split(rel, "/")
	dirs, name := parts[:len(parts)-1], parts[len(parts)-1]
	keep := 0
	for keep < len(dirs) && keep < len(c.dirs) && c.dirs[keep].name == dirs[keep] {
		keep++
	}
	for keep > 0 && c.dirs[keep-1].fd < 0 {
		keep--
	}
	c.cut(keep)
	for _, d := range dirs[keep:] {
		fd, err := openPath(c.at(), d)
		if err != nil {
			return nil, &Error{Op: "open", Path: full, Err: err}
		}
		st, err := statFD(fd)
		switch {
		case err != nil:
		case st.Kind == rightful.KindSymlink:
			err = &Error{Op: "open", Path: full, Cause: CauseLink}
		case st.Kind != rightful.KindDir:
			err = &Error{Op: "open", Path: full, Err: unix.ENOTDIR}
		case c.b.crosses(fd, &st):
			err = &Error{Op: "open", Path: full, Cause: CauseMount}
		}
		if err != nil {
			unix.Close(fd)
			return nil, err
		}
		if n := len(c.dirs); n >= cursorDepth && c.dirs[n-1].fd >= 0 {
			unix.Close(c.dirs[n-1].fd)
			c.dirs[n-1].fd = -1
		}
		c.dirs = append(c.dirs, cursorDir{d, fd})
	}
	fd, err := openPath(c.at(), name)
	if err != nil {
		return nil, &Error{Op: "open", Path: full, Err: err}
	}
	return c.pin(fd, full)
}

func (c *Cursor) pin(fd int, full string) (*Node, error) {
	st, err := statFD(fd)
	if err == nil && c.b.crosses(fd, &st) {
		unix.Close(fd)
		return nil, &Error{Op: "open", Path: full, Cause: CauseMount}
	}
	if err != nil {
		unix.Close(fd)
		return nil, &Error{Op: "stat", Path: full, Err: err}
	}
	return &Node{s: c.b.s, fd: fd, fs: c.b.fs, path: full, Stat: st}, nil
}

// OpenID pins an entry by its file handle, wherever on the base's file system it is now. Its path is then only what
// the kernel last knew.
func (b *Base) OpenID(id rightful.EntryID, path string) (*Node, error) {
	if id.FS != b.fs || len(id.Handle) < 4 {
		return nil, &Error{Op: "open by handle", Path: path, Err: unix.ESTALE}
	}
	h := unix.NewFileHandle(int32(binary.LittleEndian.Uint32(id.Handle)), id.Handle[4:])
	fd, err := unix.OpenByHandleAt(b.fd, h, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		return nil, &Error{Op: "open by handle", Path: path, Err: err}
	}
	st, err := statFD(fd)
	if err != nil {
		unix.Close(fd)
		return nil, &Error{Op: "stat", Path: path, Err: err}
	}
	n := &Node{s: b.s, fd: fd, fs: b.fs, path: path, Stat: st}
	if !n.ID().Same(id) {
		n.Close()
		return nil, &Error{Op: "open by handle", Path: path, Cause: CauseChanged}
	}
	return n, nil
}

// rawName is a name with the NUL that the kernel wants, for calls without allocation.
func rawName(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

func cstring(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}
