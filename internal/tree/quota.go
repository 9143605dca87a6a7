package tree

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Quota is what one user takes of a file system, and may take. A limit of 0 is none.
type Quota struct {
	Bytes, SoftBytes, HardBytes    uint64
	Inodes, SoftInodes, HardInodes uint64
}

// dqblk is struct if_dqblk of linux/quota.h. Limits of space are in KiB, what is taken is in bytes.
type dqblk struct {
	hardKiB, softKiB, space     uint64
	hardIno, softIno, inodes    uint64
	blockGraceEnds, inoGraceEnd uint64
	valid                       uint32
}

// Quota asks for the quota of a user on the base's file system. It is false where the file system counts nothing for
// users, or nothing for this one.
func (b *Base) Quota(uid uint32) (q Quota, ok bool, err error) {
	const (
		sysQuotactlFD = 443           // Linux 5.14, the same number everywhere
		getUserQuota  = 0x800007 << 8 // QCMD(Q_GETQUOTA, USRQUOTA)
	)
	var d dqblk
	_, _, e := unix.Syscall6(sysQuotactlFD, uintptr(b.fd), getUserQuota, uintptr(uid), uintptr(unsafe.Pointer(&d)), 0, 0)
	if e == unix.ENOSYS {
		// Older kernels find the file system by its device. udev keeps a name for each.
		dev, perr := unix.BytePtrFromString(fmt.Sprintf("/dev/block/%d:%d", unix.Major(b.stat.Dev), unix.Minor(b.stat.Dev)))
		if perr != nil {
			return q, false, perr
		}
		_, _, e = unix.Syscall6(unix.SYS_QUOTACTL, getUserQuota, uintptr(unsafe.Pointer(dev)), uintptr(uid), uintptr(unsafe.Pointer(&d)), 0, 0)
		runtime.KeepAlive(dev)
	}
	switch e {
	case 0:
	case unix.ESRCH, unix.ENOENT, unix.ENOSYS, unix.EOPNOTSUPP, unix.ENOTBLK, unix.ENODEV:
		return q, false, nil
	default:
		return q, false, &Error{Op: "read quota of", Path: b.path, Err: e}
	}
	return Quota{
		Bytes: d.space, SoftBytes: d.softKiB << 10, HardBytes: d.hardKiB << 10,
		Inodes: d.inodes, SoftInodes: d.softIno, HardInodes: d.hardIno,
	}, true, nil
}
