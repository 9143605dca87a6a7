package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// A ruined server is one whose account alice has lost most of her home, and has a backup of it.
type ruined struct {
	*testing.T
	srv, state, backup string
	before, after      []string // how her home is, and how it is when it is rebuilt
}

const backup = `
d 0711 20001:20001 home/alice
d 0750 20001:20001 home/alice/public_html
d 0700 20001:20001 home/alice/public_html/sub
f 0644 20001:20001 home/alice/public_html/sub/page.html = page
f 0600 20001:20001 home/alice/public_html/config.php = secret
l 0777 20001:20001 home/alice/www -> public_html
`

// ruin makes the server anew.
func (r *ruined) ruin(dir string) {
	r.Helper()
	r.srv, r.state = filepath.Join(dir, "srv"), filepath.Join(dir, "state")
	for _, d := range []string{r.srv, r.state} {
		if err := os.RemoveAll(d); err != nil {
			r.Fatal(err)
		}
	}
	if err := os.Mkdir(r.srv, 0o755); err != nil {
		r.Fatal(err)
	}
	buildPlain(r.T, r.srv)
}

func newRuined(t *testing.T, dir string) *ruined {
	t.Helper()
	treetest.NeedRoot(t)
	r := &ruined{T: t, backup: filepath.Join(t.TempDir(), "alice.tar")}
	from := t.TempDir()
	treetest.Build(t, from, "d 0755 0:0 home\n"+backup)
	if err := os.Link(from+"/home/alice/public_html/sub/page.html", from+"/home/alice/public_html/copy.html"); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-C", from+"/home/alice", "-cf", r.backup, ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v %s", err, out)
	}
	r.ruin(dir)
	r.before = r.home()
	return r
}

// home describes alice's home, and what lies beside it.
func (r *ruined) home() []string {
	r.Helper()
	return treetest.Describe(r, filepath.Join(r.srv, "home/alice"))
}

// beside names the quarantines.
func (r *ruined) beside() []string {
	names, _ := filepath.Glob(filepath.Join(r.srv, "home/.*"))
	return names
}

func (r *ruined) cmd(words ...string) *exec.Cmd {
	return program(append(words, "--root", r.srv, "--state", r.state, "--yes")...)
}

func (r *ruined) rescue() *exec.Cmd {
	return r.cmd("rescue", "alice", "--from", r.backup, "--map", ".=.")
}

// must runs a verb that has to end with one of the codes.
func (r *ruined) must(what string, cmd *exec.Cmd, codes ...int) (code int, said string) {
	r.Helper()
	out, _ := cmd.CombinedOutput()
	code = cmd.ProcessState.ExitCode()
	if !slices.Contains(codes, code) {
		r.Fatalf("%s: %v: %v: %s", what, cmd.Args[1:], cmd.ProcessState, out)
	}
	return code, string(out)
}

func (r *ruined) is(what string, want []string) {
	r.Helper()
	if diff := cmp.Diff(want, r.home()); diff != "" {
		r.Fatalf("%s (-want +now):\n%s", what, diff)
	}
}

// kill runs a verb and kills whoever makes its n-th changing call: the program, or where it is so the worker only. It is false
// where there are fewer.
func (r *ruined) kill(cmd *exec.Cmd, n int, worker bool) (met bool) {
	r.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	seen := 0
	treetest.Watch(r, cmd, func(c treetest.Call) unix.Errno {
		if strings.HasPrefix(c.Path, "pipe:") || worker != (owner(c.PID) != cmd.Process.Pid) {
			return 0
		}
		if seen++; seen == n {
			met = true
			unix.Kill(c.PID, unix.SIGKILL)
		}
		return 0
	})
	return met
}

// owner is the process that a thread belongs to.
func owner(thread int) (pid int) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", thread))
	for line := range strings.Lines(string(b)) {
		fmt.Sscanf(line, "Tgid: %d", &pid)
	}
	return pid
}

// recover goes on with what was killed. In the end the home is the one that a rescue makes that nobody disturbed.
func (r *ruined) recover(what string) {
	r.Helper()
	if now := r.home(); !slices.Equal(now, r.before) && !slices.Equal(now, r.after) {
		r.Fatalf("%s: the home is neither the old one nor the new one:\n%s", what, strings.Join(now, "\n"))
	}
	if code, said := r.must(what, r.cmd("rescue", "alice", "--resume"), 0, 1, 2); code == 2 {
		if !strings.Contains(said, "none is under way") {
			r.Fatalf("%s: %s", what, said)
		}
		r.is(what+": before anything was recorded", r.before)
		r.must(what, r.rescue(), 0, 1)
	}
	r.is(what+", resume", r.after)
	r.must(what, r.cmd("rescue", "alice", "--finish"), 0)
	r.is(what+", finish", r.after)
	if left := r.beside(); len(left) > 0 {
		r.Fatalf("%s: left beside the home: %v", what, left)
	}
}

// giveUp discards what was killed; where the new home stands in its place already, it is undone first.
func (r *ruined) giveUp(what string) {
	r.Helper()
	code, said := r.must(what, r.cmd("rescue", "alice", "--discard"), 0, 2, 3)
	switch {
	case code == 2 && !strings.Contains(said, "none is under way"):
		r.Fatalf("%s: %s", what, said)
	case code == 3:
		if !strings.Contains(said, "stands in its place") {
			r.Fatalf("%s: %s", what, said)
		}
		r.must(what, r.cmd("undo"), 0, 1)
		r.must(what, r.cmd("rescue", "alice", "--discard"), 0)
	}
	r.is(what+", discard", r.before)
	if left := r.beside(); len(left) > 0 {
		r.Fatalf("%s: left beside the home: %v", what, left)
	}
}

// Killed at any call that changes something, the program or its worker, a rescue has left the old home or put the new one in
// its place whole, and is gone on with to exactly the home that one makes which nobody killed, or given up without a trace.
func TestARescueKilledAtAnyStepIsResumedOrGivenUp(t *testing.T) {
	dir := treetest.Mounted(t, "tmpfs", "")
	r := newRuined(t, dir)
	r.must("undisturbed", r.rescue(), 0, 1)
	r.after = r.home()
	if slices.Equal(r.after, r.before) {
		t.Fatal("nothing was rebuilt")
	}
	for _, worker := range []bool{false, true} {
		kills := 0
		for n := 1; ; n++ {
			what := fmt.Sprintf("killed at call %d (worker: %v)", n, worker)
			r.ruin(dir)
			if !r.kill(r.rescue(), n, worker) {
				break
			}
			kills++
			r.recover(what)
			r.ruin(dir)
			r.kill(r.rescue(), n, worker)
			r.giveUp(what)
		}
		t.Logf("worker: %v: %d kills", worker, kills)
	}
}

// Killed while it removes the old home or the rebuilt one, a rescue goes on removing: nothing that is half removed is ever
// brought in, by resume or by undo.
func TestARemovalKilledAtAnyStepBringsNothingHalfIn(t *testing.T) {
	dir := treetest.Mounted(t, "tmpfs", "")
	r := newRuined(t, dir)
	r.must("undisturbed", r.rescue(), 0, 1)
	r.after = r.home()
	kills := 0
	for n := 1; ; n++ {
		what := fmt.Sprintf("--finish killed at call %d", n)
		r.ruin(dir)
		r.must(what, r.rescue(), 0, 1)
		if !r.kill(r.cmd("rescue", "alice", "--finish"), n, false) {
			break
		}
		kills++
		r.must(what, r.cmd("undo"), 0, 1, 3)
		if now := r.home(); !slices.Equal(now, r.after) && !slices.Equal(now, r.before) {
			r.Fatalf("%s, undo: the home is neither:\n%s", what, strings.Join(now, "\n"))
		}
		code, said := r.must(what, r.cmd("rescue", "alice", "--finish"), 0, 2, 3)
		if code == 3 && slices.Equal(r.home(), r.before) { // the undo came first
			r.must(what+said, r.cmd("rescue", "alice", "--discard"), 0)
			r.is(what, r.before)
		} else {
			r.is(what+said, r.after)
		}
		if left := r.beside(); len(left) > 0 {
			r.Fatalf("%s: left beside the home: %v", what, left)
		}
	}
	for n := 1; ; n++ {
		what := fmt.Sprintf("--discard killed at call %d", n)
		r.ruin(dir)
		r.must(what, r.rescue(), 0, 1)
		r.must(what, r.cmd("undo"), 0)
		if !r.kill(r.cmd("rescue", "alice", "--discard"), n, false) {
			break
		}
		kills++
		if code, _ := r.must(what, r.cmd("rescue", "alice", "--resume"), 0, 1, 2, 3); code <= 1 {
			r.is(what+", resume", r.after)
			continue
		}
		r.is(what+", resume", r.before)
		r.must(what, r.cmd("rescue", "alice", "--discard"), 0, 2)
		r.is(what+", discard", r.before)
		if left := r.beside(); len(left) > 0 {
			r.Fatalf("%s: left beside the home: %v", what, left)
		}
	}
	t.Logf("%d kills", kills)
}

// Where there is no room half-way, the account is untouched, and with room made the rescue goes on.
func TestARescueOnAFullDiskIsResumedWhenThereIsRoom(t *testing.T) {
	dir := treetest.Mounted(t, "tmpfs", "size=64m,nr_inodes=200")
	r := newRuined(t, t.TempDir())
	big := t.TempDir()
	for i := range 300 {
		if err := os.WriteFile(fmt.Sprintf("%s/%d", big, i), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("tar", "-C", big, "-cf", r.backup, ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v %s", err, out)
	}
	homes := filepath.Join(r.srv, "home")
	if out, err := exec.Command("cp", "-a", homes+"/.", dir).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v %s", err, out)
	}
	treetest.Bind(t, dir, homes)
	if _, said := r.must("announced", r.rescue(), 3); !strings.Contains(said, "inodes") || !strings.Contains(said, "the account was not changed") {
		t.Errorf("%s", said)
	}
	r.is("announced", r.before)
	r.must("announced", r.cmd("rescue", "alice", "--discard"), 0)
	// Room enough when it is looked at, and none when it is written.
	if out, err := exec.Command("mount", "-o", "remount,nr_inodes=5000", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	cmd := r.rescue()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	full := false
	treetest.Watch(t, cmd, func(c treetest.Call) unix.Errno {
		if c.Name == "mkdirat" && owner(c.PID) == cmd.Process.Pid && len(r.beside()) > 0 && !full {
			full = true
			if out, err := exec.Command("mount", "-o", "remount,nr_inodes=200", dir).CombinedOutput(); err != nil {
				t.Errorf("%v %s", err, out)
			}
		}
		return 0
	})
	if code := cmd.ProcessState.ExitCode(); code != 3 || !strings.Contains(out.String(), "no space left") || !strings.Contains(out.String(), "--resume") {
		t.Errorf("exit %d: %s", code, out.String())
	}
	r.is("full", r.before)
	if out, err := exec.Command("mount", "-o", "remount,nr_inodes=5000", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	r.must("room", r.cmd("rescue", "alice", "--resume"), 0, 1)
	if now := r.home(); len(now) < 300 {
		t.Errorf("%d entries", len(now))
	}
}

// A home that a link of root's leads to is rebuilt where it stands, and the link stays; one that is a mount of its own, or whose
// parent is not root's, is left alone with a reason.
func TestARescueKnowsWhereAHomeStands(t *testing.T) {
	r := newRuined(t, t.TempDir())
	dir := filepath.Dir(r.srv)
	r.must("undisturbed", r.rescue(), 0, 1)
	r.after = r.home()
	home := filepath.Join(r.srv, "home/alice")

	r.ruin(dir)
	real := filepath.Join(r.srv, "home2/alice")
	for _, err := range []error{os.Mkdir(filepath.Dir(real), 0o755), os.Rename(home, real), os.Symlink("/home2/alice", home)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r.must("a link", r.rescue(), 0, 1)
	if diff := cmp.Diff(r.after, treetest.Describe(t, real)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if to, err := os.Readlink(home); err != nil || to != "/home2/alice" {
		t.Errorf("the link: %q, %v", to, err)
	}

	r.ruin(dir)
	if err := os.Chown(filepath.Dir(home), 20001, 0); err != nil {
		t.Fatal(err)
	}
	if _, said := r.must("a parent of alice's", r.rescue(), 3); !strings.Contains(said, "somebody") {
		t.Errorf("%s", said)
	}
	r.is("a parent of alice's", r.before)

	r.ruin(dir)
	treetest.Bind(t, home, home)
	if _, said := r.must("a mount", r.rescue(), 3); !strings.Contains(said, "mount point") {
		t.Errorf("%s", said)
	}
	r.is("a mount", r.before)
}
