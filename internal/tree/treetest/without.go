package treetest

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// callNumbers gives the system calls that can be denied.
var callNumbers = map[string]uint32{
	"fchmodat2":         452,
	"listxattrat":       465,
	"name_to_handle_at": unix.SYS_NAME_TO_HANDLE_AT,
	"open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT,
	"unshare":           unix.SYS_UNSHARE,
	"quotactl_fd":       443,
	"openat2":           437,
	"renameat2":         unix.SYS_RENAMEAT2,
}

// Denied reports whether the test runs without that system call.
func Denied(call string) bool {
	return slices.Contains(strings.Split(os.Getenv(envWithout), ","), call)
}

// Without runs the calling test a second time, in a process for which the kernel answers ENOSYS to some system calls, as
// an older one would. The test itself goes on after it, with them. It needs Child in TestMain.
func Without(t *testing.T, calls ...string) {
	t.Helper()
	if os.Getenv(envWithout) != "" {
		return
	}
	NeedRoot(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var name []string
	for _, part := range strings.Split(t.Name(), "/") {
		name = append(name, "^"+regexp.QuoteMeta(part)+"$")
	}
	cmd := exec.Command(exe, "-test.run", strings.Join(name, "/"), "-test.v")
	cmd.Env = append(os.Environ(), envWithout+"="+strings.Join(calls, ","))
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("without %v: %v\n%s", calls, err, out)
	}
}

// deny installs a filter for the whole process under which the calls answer ENOSYS.
func deny(calls []string) error {
	const retAllow, retErrno = 0x7fff0000, 0x00050000
	// struct seccomp_data: the number of the call comes first. The test binary makes calls of one architecture only.
	prog := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}}
	for _, c := range calls {
		prog = append(prog,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: callNumbers[c]},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: retErrno | uint32(unix.ENOSYS)})
	}
	prog = append(prog, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: retAllow})
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	const setModeFilter, tsync = 1, 1
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, setModeFilter, tsync, uintptr(unsafe.Pointer(&fprog))); e != 0 {
		return e
	}
	return nil
}
