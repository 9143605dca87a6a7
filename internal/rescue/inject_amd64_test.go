package rescue

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inject lets a thread of a worker make a system call as if its program had been taken over: openat where there is a name, or
// any other with up to two numbers. It gives what the kernel answers.
func inject(t *testing.T, tid int, nr uint64, name string, args ...uint64) unix.Errno {
	t.Helper()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	next := func() {
		t.Helper()
		must("go on", syscall.PtraceSyscall(tid, 0))
		_, err := unix.Wait4(tid, nil, unix.WALL, nil)
		must("wait", err)
	}
	next() // until it is about to make a call of its own
	var regs syscall.PtraceRegs
	must("get registers", syscall.PtraceGetRegs(tid, &regs))
	at := uintptr(regs.Rsp - 4096) // beneath its stack pointer, where nothing is kept
	if name != "" {
		_, err := syscall.PtracePokeData(tid, at, append([]byte(name), 0))
		must("poke", err)
		args = []uint64{args[0], uint64(at), args[1]}
	}
	args = append(args, 0, 0, 0)
	regs.Orig_rax, regs.Rdi, regs.Rsi, regs.Rdx, regs.R10 = nr, args[0], args[1], args[2], 0o600
	must("set registers", syscall.PtraceSetRegs(tid, &regs))
	next()
	must("get registers", syscall.PtraceGetRegs(tid, &regs))
	if r := int64(regs.Rax); r < 0 {
		return unix.Errno(-r)
	}
	return 0
}

// Whatever its code does, a worker that copies a home, and so has a directory open that leads out of its root directory,
// opens nothing but what is in its two directories, writes to nothing but the first, and is never root again.
func TestAWorkerThatIsTakenOverOpensNothingElse(t *testing.T) {
	if _, _, e := unix.Syscall(444, 0, 0, 1); e != 0 { // landlock_create_ruleset: which version?
		t.Skipf("needs landlock: %v", e)
	}
	l := newLab(t)
	home := filepath.Join(l.dir, "home/alice")
	// It reads long enough, and writes nothing.
	for i := range 20 {
		name := fmt.Sprintf("%s/big%d", home, i)
		if err := os.WriteFile(name, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, 1<<30); err != nil {
			t.Fatal(err)
		}
	}
	ruin, err := os.Open(home)
	if err != nil {
		t.Fatal(err)
	}
	defer ruin.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		job := roomy
		job.Home, job.MaxBytes = true, 1<<40
		_, err := l.q.Copy(ctx, 1, ruin, job, nil)
		done <- err
	}()
	until(t, "the first file is begun", func() bool {
		_, err := os.Stat(l.at("1/big0"))
		return err == nil
	})
	runtime.LockOSThread() // which the kernel takes for the tracer
	defer runtime.UnlockOSThread()
	tid := 0
	for _, pid := range children() {
		if root, err := os.Readlink(fmt.Sprintf("/proc/%d/root", pid)); err != nil || root != l.at("1") {
			continue
		}
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			t.Fatal(err)
		}
		tid, _ = strconv.Atoi(tasks[len(tasks)-1].Name()) // the first is waited for by who started it
		if tid == pid {
			t.Fatal("it has one thread only")
		}
	}
	if err := syscall.PtraceAttach(tid); err != nil {
		t.Fatalf("attach to %d: %v", tid, err)
	}
	if _, err := unix.Wait4(tid, nil, unix.WALL, nil); err != nil {
		t.Fatal(err)
	}
	const read, create = unix.O_RDONLY, unix.O_WRONLY | unix.O_CREAT
	for _, c := range []struct {
		what string
		want unix.Errno
		nr   uint64
		name string
		args []uint64
	}{
		{"read what is left of the home", 0, unix.SYS_OPENAT, "old", []uint64{secondFile, read}},
		{"write to the quarantine", 0, unix.SYS_OPENAT, "new", []uint64{firstFile, create}},
		{"write to the home", unix.EACCES, unix.SYS_OPENAT, "new", []uint64{secondFile, create}},
		{"read beside the home", unix.EACCES, unix.SYS_OPENAT, "../victim", []uint64{secondFile, read}},
		{"read another home", unix.EACCES, unix.SYS_OPENAT, "../bob/file", []uint64{secondFile, read}},
		{"read the root directory", unix.EACCES, unix.SYS_OPENAT, "../../../../../../../../etc/passwd", []uint64{secondFile, read}},
		{"read by a path", unix.ENOENT, unix.SYS_OPENAT, "/etc/passwd", []uint64{firstFile, read}},
		{"read above", unix.ENOENT, unix.SYS_OPENAT, "../../victim", []uint64{firstFile, read}},
		{"become root", unix.EPERM, unix.SYS_SETUID, "", []uint64{0}},
		{"become bob", unix.EPERM, unix.SYS_SETUID, "", []uint64{bobUID}},
	} {
		if got := inject(t, tid, c.nr, c.name, c.args...); got != c.want {
			t.Errorf("%s: %v; want %v", c.what, got, c.want)
		}
	}
	if b, err := os.ReadFile("/etc/passwd"); err != nil || len(b) == 0 {
		t.Errorf("there is nothing to be kept from: %v", err)
	}
	if err := syscall.PtraceDetach(tid); err != nil {
		t.Error(err)
	}
	cancel()
	<-done
}
