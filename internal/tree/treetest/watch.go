package treetest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const envWatch = "RIGHTFUL_TEST_WATCH"

// watched are the system calls by which files are written, made durable, renamed and changed.
var watched = map[string]uint32{
	"write": unix.SYS_WRITE, "fsync": unix.SYS_FSYNC, "fdatasync": unix.SYS_FDATASYNC, "ftruncate": unix.SYS_FTRUNCATE,
	"renameat": unix.SYS_RENAMEAT, "mkdirat": unix.SYS_MKDIRAT, "fchownat": unix.SYS_FCHOWNAT, "fchmodat": unix.SYS_FCHMODAT,
	"fchmodat2": callNumbers["fchmodat2"], "setxattr": unix.SYS_SETXATTR, "renameat2": unix.SYS_RENAMEAT2, "unlinkat": unix.SYS_UNLINKAT,
	"linkat": unix.SYS_LINKAT, "symlinkat": unix.SYS_SYMLINKAT, "fchown": unix.SYS_FCHOWN, "fchmod": unix.SYS_FCHMOD, "syncfs": unix.SYS_SYNCFS,
}

// A Call is a system call of a watched process, or of one that it has started.
type Call struct {
	Name string
	PID  int    // of the thread that makes it
	Path string // of the file that the call is on, where it is given by a descriptor
	Err  unix.Errno
}

// Changes reports whether the call changes an owner, a mode or an attribute.
func (c Call) Changes() bool {
	return c.Name == "fchownat" || c.Name == "fchmodat" || c.Name == "fchmodat2" || c.Name == "setxattr"
}

// Below reports whether the call is on a file below dir, or on dir itself.
func (c Call) Below(dir string) bool {
	rel, err := filepath.Rel(dir, c.Path)
	return err == nil && filepath.IsLocal(rel)
}

// Watch runs a test binary, which must have Child in its TestMain, and asks before each of its watched system calls what
// the call shall answer: 0 lets the kernel do it (seccomp_unotify(2), Linux 5.8). It gives all of them in their order.
func Watch(t testing.TB, cmd *exec.Cmd, answer func(Call) unix.Errno) []Call {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Env = append(cmd.Environ(), envWatch+"=3")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	listener, err := receiveFile(pair[0])
	unix.Close(pair[0])
	if err != nil {
		cmd.Wait()
		t.Skipf("needs seccomp user notification: %v", err)
	}
	var calls []Call
	var done sync.WaitGroup
	done.Go(func() {
		defer unix.Close(listener)
		for {
			c, ok := nextCall(listener, answer)
			if !ok {
				return
			}
			calls = append(calls, c)
		}
	})
	err = cmd.Wait()
	done.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return calls
}

// notification and response are struct seccomp_notif and seccomp_notif_resp.
type notification struct {
	id   uint64
	pid  uint32
	_    uint32
	nr   int32
	_    uint32
	_    uint64
	args [6]uint64
}

type response struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

// nextCall waits for a call and answers it; it is false when the process has ended.
func nextCall(listener int, answer func(Call) unix.Errno) (c Call, ok bool) {
	const receive, send, goOn = 0xc0502100, 0xc0182101, 1
	for {
		p := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, -1); err == unix.EINTR {
			continue
		} else if err != nil || p[0].Revents&unix.POLLIN == 0 {
			return c, false
		}
		var n notification
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), receive, uintptr(unsafe.Pointer(&n))); e != 0 {
			continue // it was killed meanwhile
		}
		c.PID = int(n.pid)
		for name, nr := range watched {
			if int32(nr) == n.nr {
				c.Name = name
			}
		}
		switch c.Name {
		case "write", "fsync", "fdatasync", "ftruncate":
			c.Path, _ = os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", n.pid, int32(n.args[0])))
		}
		c.Err = answer(c)
		r := response{id: n.id, err: -int32(c.Err)}
		if c.Err == 0 {
			r.flags = goOn
		}
		unix.Syscall(unix.SYS_IOCTL, uintptr(listener), send, uintptr(unsafe.Pointer(&r)))
		return c, true
	}
}

// beWatched hands the decision on this process's system calls to whoever started it.
func beWatched() error {
	os.Unsetenv(envWatch)
	const retNotify, retAllow = 0x7fc00000, 0x7fff0000
	prog := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}}
	for _, nr := range watched {
		prog = append(prog,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: nr},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: retNotify})
	}
	prog = append(prog, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: retAllow})
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	const setModeFilter, tsync, newListener, tsyncESRCH = 1, 1, 8, 16
	fd, _, e := unix.Syscall(unix.SYS_SECCOMP, setModeFilter, tsync|newListener|tsyncESRCH, uintptr(unsafe.Pointer(&fprog)))
	if e != 0 {
		return e
	}
	defer unix.Close(int(fd))
	return unix.Sendmsg(3, []byte{0}, unix.UnixRights(int(fd)), nil, 0)
}

func receiveFile(socket int) (int, error) {
	b, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	n, m, _, _, err := unix.Recvmsg(socket, b, oob, unix.MSG_CMSG_CLOEXEC)
	if err == nil && n == 0 {
		err = errors.New("the process ended")
	}
	if err != nil {
		return -1, err
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:m])
	if err != nil || len(msgs) != 1 {
		return -1, fmt.Errorf("%d messages, %w", len(msgs), err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		return -1, err
	}
	return fds[0], nil
}
