package treetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"rightful"
	"rightful/internal/tree"

	"golang.org/x/sys/unix"
)

// The environment by which a test binary knows that it was started as something else.
const (
	envAttack  = "RIGHTFUL_TEST_ATTACK"
	envWithout = "RIGHTFUL_TEST_WITHOUT"
)

// Child makes a test binary fit to be started again by Attack, Watch and Without. TestMain calls it first, and where it says
// true there is nothing left to do.
func Child() bool {
	if os.Getenv(envGuest) == "init" {
		initGuest()
		return true
	}
	if calls := os.Getenv(envWithout); calls != "" {
		if err := deny(strings.Split(calls, ",")); err != nil {
			panic("deny system calls: " + err.Error())
		}
	}
	if os.Getenv(envWatch) != "" {
		if err := beWatched(); err != nil {
			panic("be watched: " + err.Error())
		}
	}
	spec := os.Getenv(envAttack)
	if spec == "" {
		return false
	}
	var a assault
	if err := json.Unmarshal([]byte(spec), &a); err != nil {
		panic(err)
	}
	a.run()
	return true
}

// An assault is what an attacker does, over and over.
type assault struct {
	Dir   string
	Steps []string
}

// Attack starts an unprivileged process that repeats steps in dir as fast as it can. It returns when the first round is
// done; stop ends the attack and gives how often each step succeeded. The steps, on names relative to dir:
//
//	rename A B · exchange A B · symlink TARGET A · link A B · unlink A · rmdir A · mkdir A · write A · chmod MODE A
//	mkmany A N (N more directories below A) · acl ACL A · hold A (open for writing, until the end) · map A (the same as a
//	shared mapping without a descriptor)
func Attack(t testing.TB, uid int, dir string, steps ...string) (stop func() []int) {
	t.Helper()
	NeedRoot(t)
	spec, err := json.Marshal(assault{dir, steps})
	if err != nil {
		t.Fatal(err)
	}
	theirStop, ourStop, err1 := os.Pipe()
	ourSay, theirSay, err2 := os.Pipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	// The path of the test binary may be closed to others; the binary itself is not.
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(os.Environ(), envAttack+"="+string(spec), envWithout+"=")
	cmd.ExtraFiles = []*os.File{theirStop, theirSay}
	var complaint strings.Builder
	cmd.Stderr = &complaint
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start attacker: %v", err)
	}
	theirStop.Close()
	theirSay.Close()
	var counts []int
	stopped := false
	stop = func() []int {
		if stopped {
			return counts
		}
		stopped = true
		ourStop.Close()
		rest, _ := io.ReadAll(ourSay)
		ourSay.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("attacker: %v\n%s", err, complaint.String())
		}
		if err := json.Unmarshal(rest, &counts); err != nil {
			t.Errorf("attacker's count %q: %v", rest, err)
			counts = make([]int, len(steps))
		}
		return counts
	}
	t.Cleanup(func() { stop() })
	if _, err := io.ReadFull(ourSay, make([]byte, 1)); err != nil {
		stop()
		t.Fatalf("attacker did not begin: %s", complaint.String())
	}
	return stop
}

func (a *assault) run() {
	orders, say := os.NewFile(3, "orders"), os.NewFile(4, "say")
	if err := os.Chdir(a.Dir); err != nil {
		panic(err)
	}
	var over atomic.Bool
	go func() {
		io.ReadAll(orders) // ends when the other end is closed
		over.Store(true)
	}()
	done := make([]int, len(a.Steps))
	for round := 0; !over.Load(); round++ {
		for i, s := range a.Steps {
			if step(round, strings.Fields(s)) == nil {
				done[i]++
			}
		}
		if round == 0 {
			say.Write([]byte{'.'})
		}
	}
	b, _ := json.Marshal(done)
	say.Write(b)
	say.Close()
}

func step(round int, w []string) error {
	switch w[0] {
	case "rename":
		return unix.Rename(w[1], w[2])
	case "exchange":
		return unix.Renameat2(unix.AT_FDCWD, w[1], unix.AT_FDCWD, w[2], unix.RENAME_EXCHANGE)
	case "symlink":
		return unix.Symlink(w[1], w[2])
	case "link":
		return unix.Linkat(unix.AT_FDCWD, w[1], unix.AT_FDCWD, w[2], 0)
	case "unlink":
		return unix.Unlink(w[1])
	case "rmdir":
		return unix.Rmdir(w[1])
	case "mkdir":
		return unix.Mkdir(w[1], 0o755)
	case "write":
		return os.WriteFile(w[1], []byte("x"), 0o644)
	case "chmod":
		mode, err := strconv.ParseUint(w[1], 8, 32)
		if err != nil {
			return err
		}
		return unix.Chmod(w[2], uint32(mode))
	case "acl":
		a, err := rightful.ParseACL(w[1])
		if err != nil {
			return err
		}
		return unix.Setxattr(w[2], tree.XattrACL, tree.EncodeACL(a), 0)
	case "hold", "map":
		fd, err := unix.Open(w[1], unix.O_RDWR|unix.O_NOFOLLOW, 0)
		if err != nil || w[0] == "hold" {
			return err // it stays open
		}
		_, err = unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		return errors.Join(err, unix.Close(fd))
	case "mkmany":
		n, err := strconv.Atoi(w[2])
		for i := 0; i < n && err == nil; i++ {
			err = unix.Mkdir(fmt.Sprintf("%s/%d-%d-%d", w[1], os.Getpid(), round, i), 0o755)
		}
		return err
	}
	panic("unknown step " + w[0])
}

// OpenDir makes a temporary directory that others may enter, unlike that of testing.
func OpenDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rightful-test-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return dir
}
