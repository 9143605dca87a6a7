package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"rightful/internal/tree/treetest"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary stand for the program.
func TestMain(m *testing.M) {
	if treetest.Child() {
		return
	}
	if os.Getenv("RIGHTFUL_TEST_MAIN") != "" || os.Getenv("RIGHTFUL_WORKER") != "" { // the latter by the program itself
		main()
	}
	os.Exit(m.Run())
}

func program(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "RIGHTFUL_TEST_MAIN=1")
	return cmd
}

func TestTheExitCodeIsThatOfTheCommandLine(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
	}{{[]string{"version"}, 0}, {[]string{"frobnicate"}, 2}, {[]string{"accounts", "--root", filepath.Join(t.TempDir(), "x")}, 3}} {
		cmd := program(c.args...)
		err := cmd.Run()
		var e *exec.ExitError
		if code := cmd.ProcessState.ExitCode(); code != c.code || err != nil && !errors.As(err, &e) {
			t.Errorf("%v: exit %d, %v; want %d", c.args, code, err, c.code)
		}
	}
}

// The configuration is a FIFO whose writer writes nothing, as a hung file system would. The first signal only asks to
// stop, and nobody listens; the second must kill even then.
func TestTheSecondSignalKillsWhateverHangs(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := program("accounts", "--config", fifo)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	deadline := time.After(20 * time.Second)
	// A writer can open the FIFO without waiting once the program waits to read: then it is where it should be.
	w := openWhenRead(t, fifo, deadline)
	defer w.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	sent := 0
	for {
		select {
		case <-done:
			ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if sent < 2 || !ws.Signaled() || ws.Signal() != unix.SIGTERM {
				t.Errorf("ended after %d signals with %v: %s", sent, cmd.ProcessState, errs.String())
			}
			return
		case <-tick.C:
			if err := cmd.Process.Signal(unix.SIGTERM); err == nil {
				sent++
			}
		case <-deadline:
			cmd.Process.Kill()
			t.Fatalf("%d signals did not end it", sent)
		}
	}
}

func openWhenRead(t *testing.T, fifo string, deadline <-chan time.Time) *os.File {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			fd, err := unix.Open(fifo, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err == nil {
				return os.NewFile(uintptr(fd), fifo)
			}
			if err != unix.ENXIO {
				t.Fatal(err)
			}
		case <-deadline:
			t.Fatal("the program never read its configuration")
		}
	}
}
