package tree

import (
	"rightful"

	"golang.org/x/sys/unix"
)

// A Stat is what statx(2) tells of an entry.
type Stat struct {
	Kind  rightful.Kind
	Mode  rightful.Mode
	UID   uint32
	GID   uint32
	Nlink uint32
	Size  int64  // bytes
	Taken int64  // bytes of disk that it takes, as quotas count them
	Ino   uint64 //
	Dev   uint64 // as unix.Mkdev makes it
	Mount uint64 // mount id; 0 where the kernel (before 5.8) does not tell it
	Birth int64  // ns since 1970, 0 where unknown
	Ctime int64  // ns since 1970
	Mtime int64  // ns since 1970
	Attrs uint64 // STATX_ATTR_ bits that are set
}

// Immutable reports chattr +i or +a, either of which makes every change of metadata fail with EPERM.
func (s *Stat) Immutable() bool {
	return s.Attrs&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0
}

// MountRoot reports that something is mounted here.
func (s *Stat) MountRoot() bool { return s.Attrs&unix.STATX_ATTR_MOUNT_ROOT != 0 }

// RootsAlone reports whether a directory is root's and nobody else can write it: then nobody else can put another entry under
// a name in it. With an ACL the group's bits are its mask, which bounds what the ACL gives.
func (s *Stat) RootsAlone() bool { return s.UID == 0 && s.Mode&0o022 == 0 }

// Meta gives the part that Rightful may change, as far as stat tells it: without ACLs and capabilities.
func (s *Stat) Meta() rightful.Meta {
	return rightful.Meta{UID: s.UID, GID: s.GID, Mode: s.Mode}
}

const statxMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME | unix.STATX_MNT_ID

func (s *Stat) from(x *unix.Statx_t) {
	s.Kind = KindOf(uint32(x.Mode))
	s.Mode = rightful.Mode(x.Mode) & rightful.ModeAll
	s.UID, s.GID, s.Nlink = x.Uid, x.Gid, x.Nlink
	s.Size, s.Ino, s.Taken = int64(x.Size), x.Ino, int64(x.Blocks)*512
	s.Dev = unix.Mkdev(x.Dev_major, x.Dev_minor)
	s.Mount, s.Birth = 0, 0
	if x.Mask&unix.STATX_MNT_ID != 0 {
		s.Mount = x.Mnt_id
	}
	if x.Mask&unix.STATX_BTIME != 0 {
		s.Birth = x.Btime.Sec*1e9 + int64(x.Btime.Nsec)
	}
	s.Ctime = x.Ctime.Sec*1e9 + int64(x.Ctime.Nsec)
	s.Mtime = x.Mtime.Sec*1e9 + int64(x.Mtime.Nsec)
	s.Attrs = x.Attributes & x.Attributes_mask
}

// KindOf gives the kind that the bits of S_IFMT in a mode stand for.
func KindOf(mode uint32) rightful.Kind {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return rightful.KindFile
	case unix.S_IFDIR:
		return rightful.KindDir
	case unix.S_IFLNK:
		return rightful.KindSymlink
	case unix.S_IFIFO:
		return rightful.KindFIFO
	case unix.S_IFSOCK:
		return rightful.KindSocket
	case unix.S_IFBLK:
		return rightful.KindBlock
	case unix.S_IFCHR:
		return rightful.KindChar
	}
	return rightful.KindUnknown
}

// statFD stats what a descriptor, O_PATH ones included, is open on.
func statFD(fd int) (s Stat, err error) {
	var x unix.Statx_t
	err = retry(func() error {
		return unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_SYNC_AS_STAT, statxMask, &x)
	})
	if err == nil {
		s.from(&x)
	}
	return s, err
}

// retry repeats a system call that a signal interrupted.
func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
