package tree

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"unsafe"

	"rightful"

	"golang.org/x/sys/unix"
)

// The extended attributes that hold what Rightful may change.
const (
	XattrACL     = "system.posix_acl_access"
	XattrDefault = "system.posix_acl_default"
	XattrCaps    = "security.capability"
)

// aclVersion is the only version of the attribute (linux/posix_acl_xattr.h).
const aclVersion = 2

// noID stands in the attribute where an entry has no id.
const noID = 0xffffffff

// maxXattr bounds what is read of one attribute: 64 KiB is the kernel's own limit.
const maxXattr = 64 << 10

// DecodeACL reads the kernel's attribute form: a version, then tag, permission and id of each entry, little endian.
// The result is sorted and checked.
func DecodeACL(b []byte) (rightful.ACL, error) {
	if len(b) < 4 || (len(b)-4)%8 != 0 {
		return nil, fmt.Errorf("ACL attribute of %d bytes", len(b))
	}
	if v := binary.LittleEndian.Uint32(b); v != aclVersion {
		return nil, fmt.Errorf("ACL attribute of version %d", v)
	}
	a := make(rightful.ACL, 0, (len(b)-4)/8)
	for b = b[4:]; len(b) > 0; b = b[8:] {
		e := rightful.ACLEntry{
			Tag:  rightful.ACLTag(binary.LittleEndian.Uint16(b)),
			Perm: uint8(binary.LittleEndian.Uint16(b[2:])),
			ID:   binary.LittleEndian.Uint32(b[4:]),
		}
		if binary.LittleEndian.Uint16(b[2:]) > 7 {
			return nil, fmt.Errorf("ACL permission %#o", binary.LittleEndian.Uint16(b[2:]))
		}
		if e.Tag != rightful.ACLUser && e.Tag != rightful.ACLGroup {
			e.ID = 0
		}
		a = append(a, e)
	}
	a.Sort()
	return a, a.Check()
}

// EncodeACL is the inverse of DecodeACL.
func EncodeACL(a rightful.ACL) []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+8*len(a)), aclVersion)
	for _, e := range a {
		id := e.ID
		if e.Tag != rightful.ACLUser && e.Tag != rightful.ACLGroup {
			id = noID
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(e.Tag))
		b = binary.LittleEndian.AppendUint16(b, uint16(e.Perm))
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	return b
}

// procPath names what fd is open on by way of /proc: the only way to attributes of an O_PATH descriptor before
// Linux 6.13, and one that follows no link, since the descriptor is on the entry itself.
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// ProcPath names a pinned entry by way of /proc, for tree/edit: it leads to the pinned inode and nowhere else.
func ProcPath(n *Node) string { return procPath(n.fd) }

// getxattr reads one attribute; nil where there is none or the file system keeps none.
func getxattr(path, name string) ([]byte, error) {
	var small [256]byte
	for buf := small[:]; ; {
		n, err := unix.Getxattr(path, name, buf)
		switch err {
		case nil:
			return append([]byte(nil), buf[:n]...), nil
		case unix.ENODATA, unix.EOPNOTSUPP:
			return nil, nil
		case unix.ERANGE:
			if len(buf) >= maxXattr {
				return nil, err
			}
			buf = make([]byte, maxXattr)
		case unix.EINTR:
		default:
			return nil, err
		}
	}
}

// Xattr reads one attribute of a pinned entry that is no link; nil where it has none.
func (n *Node) Xattr(name string) ([]byte, error) {
	b, err := getxattr(procPath(n.fd), name)
	if err != nil {
		return nil, &Error{Op: "read attribute of", Path: n.path, Err: err}
	}
	return b, nil
}

// metaFD reads everything that Rightful may change of what fd, O_PATH ones included, is open on.
func (s *Server) metaFD(fd int, st *Stat) (rightful.Meta, error) {
	m := st.Meta()
	if st.Kind == rightful.KindSymlink {
		return m, nil // a link has no ACL, and no capability that any kernel honours
	}
	acl, def, caps, err := s.attrsFD(fd, st.Kind == rightful.KindDir)
	if err != nil {
		return m, err
	}
	m.Caps = caps
	return m, setACLs(&m, acl, def)
}

// attrsFD reads the attributes of what fd is open on. Nearly always there are none, which one call finds out.
func (s *Server) attrsFD(fd int, dir bool) (acl, def, caps []byte, err error) {
	var small [512]byte
	for buf := small[:]; ; {
		n, err := s.listFD(fd, buf)
		switch err {
		case nil:
		case unix.EOPNOTSUPP:
			return nil, nil, nil, nil
		case unix.ERANGE:
			if len(buf) >= maxXattr {
				return nil, nil, nil, err
			}
			buf = make([]byte, maxXattr)
			continue
		case unix.EINTR:
			continue
		default:
			return nil, nil, nil, err
		}
		if !listed(buf[:n]) {
			return nil, nil, nil, nil
		}
		break
	}
	p := procPath(fd)
	if acl, err = getxattr(p, XattrACL); err != nil {
		return nil, nil, nil, err
	}
	if dir {
		if def, err = getxattr(p, XattrDefault); err != nil {
			return nil, nil, nil, err
		}
	}
	caps, err = getxattr(p, XattrCaps)
	return acl, def, caps, err
}

// listFD lists the names of attributes of what fd is open on. From the directory of our descriptors it is one step;
// from "/" it is four.
func (s *Server) listFD(fd int, buf []byte) (int, error) {
	if !s.xattrat {
		return unix.Listxattr(procPath(fd), buf)
	}
	var name [24]byte
	strconv.AppendInt(name[:0], int64(fd), 10)
	n, e := listxattrat(s.proc, rawName(name[:]), 0, buf)
	if e != 0 {
		return 0, e
	}
	return n, nil
}

// sysListxattrat is listxattrat(2), Linux 6.13. The number is the same everywhere.
const sysListxattrat = 465

func listxattrat(dir int, name unsafe.Pointer, flags uintptr, buf []byte) (int, unix.Errno) {
	n, _, e := unix.Syscall6(sysListxattrat, uintptr(dir), uintptr(name), flags, uintptr(rawName(buf)), uintptr(len(buf)), 0)
	return int(n), e
}

func haveListxattrat(dir int) bool {
	_, e := listxattrat(dir, rawName([]byte{'.', 0}), 0, make([]byte, maxXattr))
	return e != unix.ENOSYS && e != unix.EPERM // a filter of system calls may say EPERM for one it does not know
}

// listed reports whether there is an attribute among the names that Rightful may change.
func listed(names []byte) bool {
	for len(names) > 0 {
		name := cstring(names)
		switch string(name) {
		case XattrACL, XattrDefault, XattrCaps:
			return true
		}
		names = names[min(len(name)+1, len(names)):]
	}
	return false
}

// setACLs decodes raw attributes into m, dropping an access ACL that says no more than the mode.
func setACLs(m *rightful.Meta, acl, def []byte) (err error) {
	if len(acl) > 0 {
		if m.ACL, err = DecodeACL(acl); err != nil {
			return err
		}
		if m.ACL.Minimal() {
			m.ACL = nil
		}
	}
	if len(def) > 0 {
		if m.Default, err = DecodeACL(def); err != nil {
			return err
		}
	}
	return nil
}
