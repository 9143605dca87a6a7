package snapshot

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"rightful/internal/state"
	"rightful/internal/tree/treetest"
)

const envCrash = "RIGHTFUL_TEST_SNAPSHOT_CRASH"

// A crash is a child that takes a snapshot in Dir and kills itself at a step.
type crash struct {
	Dir   string
	After int
	Prune []string // instead of taking: remove these
}

func TestMain(m *testing.M) {
	if treetest.Child() {
		return
	}
	spec := os.Getenv(envCrash)
	if spec == "" {
		os.Exit(m.Run())
	}
	var c crash
	err := json.Unmarshal([]byte(spec), &c)
	if err == nil {
		err = c.run()
	}
	if err != nil {
		panic(err)
	}
}

func (c crash) run() error {
	n := 0
	s, err := newStore(&state.Dir{Path: c.Dir, Root: "/", Server: "test"})
	if err != nil {
		return err
	}
	s.stepped = func() {
		if n++; n == c.After {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // it does not come back
		}
	}
	if len(c.Prune) > 0 {
		_, err := s.Remove(c.Prune)
		return err
	}
	k, err := s.Create(Header{By: "crash"})
	if err != nil {
		return err
	}
	for i, name := range []string{"alice", "bob"} {
		w, err := k.Account(Account{Account: name})
		if err == nil {
			err = w.Base("/home/"+name, fs)
		}
		for _, e := range someEntries(rand.New(rand.NewPCG(uint64(20+i), 1)), 3000) {
			err = errors.Join(err, w.Add(&e))
		}
		if err = errors.Join(err, w.Close()); err != nil {
			return err
		}
	}
	_, err = k.Commit()
	return err
}

// killed runs the child and reports whether it killed itself before it was done.
func (c crash) killed(t *testing.T) bool {
	t.Helper()
	spec, _ := json.Marshal(c)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envCrash+"="+string(spec))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

// sound makes sure that every snapshot in the list is whole and that the next one can be taken, and gives how many there were.
func sound(t *testing.T, s *Store, step int) int {
	t.Helper()
	all, err := s.List()
	if err != nil {
		t.Fatalf("after step %d: %v", step, err)
	}
	for _, sn := range all {
		for _, a := range sn.Accounts {
			r, err := s.Account(sn, a.Account)
			if err == nil {
				err = r.Verify()
				r.Close()
			}
			if err != nil {
				t.Fatalf("after step %d, snapshot %s: %v", step, sn.ID, err)
			}
		}
	}
	return len(all)
}

func TestASnapshotThatACrashCutShortIsNeverListed(t *testing.T) {
	steps := 0
	for ; ; steps++ {
		s := scratch(t)
		first := record(t, s, someEntries(rand.New(rand.NewPCG(30, 1)), 100))
		if !(crash{Dir: s.dir.Path, After: steps + 1}).killed(t) {
			if n := sound(t, s, steps); n != 2 {
				t.Errorf("%d snapshots when nothing was cut short", n)
			}
			break
		}
		if n := sound(t, s, steps); n != 1 && steps < 8 {
			t.Errorf("after step %d: %d snapshots", steps, n)
		}
		// The next one sweeps up what was left.
		record(t, s, someEntries(rand.New(rand.NewPCG(30, 1)), 100))
		for _, dir := range []string{snapshotsDir, accountsDir} {
			names, err := s.dir.List(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range names {
				if strings.HasPrefix(n.Name(), state.TempPrefix) {
					t.Errorf("after step %d: %s/%s is left", steps, dir, n.Name())
				}
			}
		}
		if _, err := s.Get(first.ID); err != nil {
			t.Errorf("after step %d: %v", steps, err)
		}
	}
	if steps < 9 {
		t.Errorf("only %d steps", steps)
	}
}

func TestRemovingThatACrashCutsShortLeavesTheOthersWhole(t *testing.T) {
	for step := 1; ; step++ {
		s := scratch(t)
		old := record(t, s, someEntries(rand.New(rand.NewPCG(31, 1)), 500))
		shared := record(t, s, someEntries(rand.New(rand.NewPCG(32, 1)), 500))
		kept := record(t, s, someEntries(rand.New(rand.NewPCG(32, 1)), 500))
		if shared.Accounts[0].File != kept.Accounts[0].File {
			t.Fatal("the same was recorded twice")
		}
		killed := crash{Dir: s.dir.Path, After: step, Prune: []string{old.ID, shared.ID}}.killed(t)
		sound(t, s, step)
		if _, err := s.Get(kept.ID); err != nil {
			t.Errorf("after step %d: %v", step, err)
		}
		if !killed {
			if names, err := s.dir.List(accountsDir); err != nil || len(names) != 1 {
				t.Errorf("%d account files are left, %v", len(names), err)
			}
			return
		}
	}
}

// What one process writes is not swept away by another.
func TestSweepingWaitsForWriters(t *testing.T) {
	s := scratch(t)
	k, err := s.Create(Header{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := k.Account(Account{Account: "alice"})
	if err == nil {
		err = errors.Join(w.Base("/home/alice", fs), w.Add(&Entry{}), w.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(nil); err != nil {
		t.Fatal(err)
	}
	sn, err := k.Commit()
	if err != nil {
		t.Fatal(err)
	}
	if err := open(t, s, sn).Verify(); err != nil {
		t.Error(err)
	}
}
