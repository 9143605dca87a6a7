package repair

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"rightful/internal/state"
	"rightful/internal/tree/treetest"
)

// Only one process works on a server at a time, whatever state directory it was given, and who it is can be told. Whoever
// looks whether somebody does keeps nobody out.
func TestTheLockSaysWhoHoldsIt(t *testing.T) {
	b := newBox(t, "")
	other := openBox(t, b.root, filepath.Join(t.TempDir(), "other"))
	unlock, err := b.state.Lock("rightful fix", "root")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*State{b.state, other.state} {
		var held *LockedError
		if _, err := s.Lock("rightful undo", "root"); !errors.As(err, &held) || held.PID != os.Getpid() || held.Command != "rightful fix" {
			t.Errorf("second lock: %v", err)
		}
	}
	if same := openBox(t, b.root, b.state.dir.Path); !same.state.busy() || other.state.busy() {
		t.Error("who works with which state directory is not known")
	}
	// Another server is another matter, and one state directory serves one server at a time.
	free := newBox(t, "")
	freed, err := free.state.Lock("rightful fix", "root")
	if err != nil {
		t.Fatal(err)
	}
	freed()
	var held *LockedError
	if _, err := openBox(t, free.root, b.state.dir.Path).state.Lock("rightful undo", "root"); !errors.As(err, &held) {
		t.Errorf("another server with the same state directory: %v", err)
	}
	unlock()
	for _, s := range []*State{other.state, b.state} {
		unlock, err := s.Lock("rightful undo", "root")
		if err != nil {
			t.Fatal(err)
		}
		unlock()
		if _, err := os.Lstat(s.locks.server); !os.IsNotExist(err) {
			t.Errorf("the lock was left behind: %v", err)
		}
	}
}

// A link in the place of the server's lock is not followed.
func TestALockIsNoLink(t *testing.T) {
	b := newBox(t, "")
	if err := os.MkdirAll(lockDir, 0o700); err != nil {
		t.Fatal(err)
	}
	victim := filepath.Join(treetest.OpenDir(t), "victim")
	if err := os.Symlink(victim, b.state.locks.server); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(b.state.locks.server)
	if _, err := b.state.Lock("rightful fix", "root"); err == nil {
		t.Error("it was")
	}
	if _, err := os.Lstat(victim); !os.IsNotExist(err) {
		t.Errorf("what it names: %v", err)
	}
}

// What a crash left of a file that never got its name is removed by whoever locks next, and by nobody who looks.
func TestLeftoversAreRemovedUnderTheLock(t *testing.T) {
	b := newBox(t, "")
	if err := b.state.dir.Create(); err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{plansDir, runsDir} {
		f, err := state.Temp(b.state.dir.Join(in))
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		if runs, err := b.state.Runs(); len(runs) > 0 || err != nil {
			t.Errorf("runs: %v, %v", runs, err)
		}
		unlock, err := b.state.Lock("test", "test")
		if err != nil {
			t.Fatal(err)
		}
		unlock()
		if _, err := os.Lstat(f.Name()); !os.IsNotExist(err) {
			t.Errorf("%s: %v", f.Name(), err)
		}
	}
}
