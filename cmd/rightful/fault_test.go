package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// A patient is a server, on which the program's calls are let fail.
type patient struct {
	*testing.T
	srv, state    string
	before, after []string // how its homes are, and how they should be
}

func (p *patient) tree() []string { return treetest.Describe(p, filepath.Join(p.srv, "home")) }

func (p *patient) args(words ...string) []string {
	return append(words, "--root", p.srv, "--state", p.state, "--jobs", "1", "--yes")
}

// must runs a verb that has to end with one of the codes.
func (p *patient) must(what, verb string, codes ...int) {
	p.Helper()
	cmd := program(p.args(verb)...)
	out, _ := cmd.CombinedOutput()
	if !slices.Contains(codes, cmd.ProcessState.ExitCode()) {
		p.Fatalf("%s: %s: %v: %s", what, verb, cmd.ProcessState, out)
	}
}

func (p *patient) is(what string, want []string) {
	p.Helper()
	if diff := cmp.Diff(want, p.tree()); diff != "" {
		p.Fatalf("%s (-want +now):\n%s", what, diff)
	}
}

// A fault lets the n-th call of a kind that the program makes on its own files fail.
type fault struct {
	call string
	err  unix.Errno
	n    int
}

// hurt runs a verb with a fault. It is false where there was no such call.
func (p *patient) hurt(f fault, verb string) (code int, said string, calls []treetest.Call, met bool) {
	p.Helper()
	cmd := program(p.args(verb)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	n := 0
	calls = treetest.Watch(p, cmd, func(c treetest.Call) unix.Errno {
		// Of a call by name the path is not known; the program makes and renames nothing but its own.
		if c.Name != f.call || c.Path != "" && !c.Below(p.state) {
			return 0
		}
		if n++; n != f.n {
			return 0
		}
		return f.err
	})
	return cmd.ProcessState.ExitCode(), out.String(), calls, n >= f.n
}

// Every write, sync, rename and truncation of the program's own files is let fail, one after the other, in fix, undo and
// resume, as a full or a bad disk would. Each time it is a clear error, nothing is changed after it, no sync is tried
// again, the exit code says whether anything was changed, and undo or resume brings the tree to exactly the state before
// or the state planned.
func TestWhateverFailsOnTheDiskNothingIsLost(t *testing.T) {
	treetest.NeedRoot(t)
	p := &patient{T: t, srv: plainServer(t), state: t.TempDir()}
	p.before = p.tree()
	p.must("undisturbed", "fix", 0)
	p.after = p.tree()
	p.must("undisturbed", "undo", 0)
	p.is("undisturbed undo", p.before)
	for _, verb := range []string{"fix", "undo", "resume"} {
		t.Run(verb, func(t *testing.T) {
			p.T = t
			met := map[string]int{}
			for _, f := range []fault{
				{call: "write", err: unix.ENOSPC},
				{call: "write", err: unix.EIO},
				{call: "fdatasync", err: unix.EIO},
				{call: "fsync", err: unix.EIO},
				{call: "fsync", err: unix.ENOSPC},
				{call: "renameat", err: unix.EIO},
				{call: "renameat", err: unix.ENOSPC},
				{call: "mkdirat", err: unix.ENOSPC},
				{call: "ftruncate", err: unix.EIO},
			} {
				for f.n = 1; p.survives(verb, f); f.n++ {
					met[f.call]++
				}
			}
			t.Logf("calls that were let fail: %v", met)
		})
	}
}

// survives lets one call of a verb fail, and looks whether the tree recovers. It is false where there is no such call.
func (p *patient) survives(verb string, f fault) bool {
	p.Helper()
	p.state = filepath.Join(p.TempDir(), "state")
	what := fmt.Sprintf("%s, %s %d: %v", verb, f.call, f.n, f.err)
	switch verb {
	case "undo":
		p.must(what, "fix", 0)
	case "resume":
		if _, _, _, ok := p.hurt(fault{"fdatasync", unix.EIO, 3}, "fix"); !ok {
			p.Fatal("no third announcement to fail")
		}
	}
	old := p.tree()
	code, said, calls, ok := p.hurt(f, verb)
	if ok {
		judgeFault(p.T, what, f, code, said, calls, !cmp.Equal(old, p.tree()))
		p.noHalfPlan(what)
	}
	if ok && f.n%2 == 0 && p.cutShort() {
		p.must(what, "resume", 0)
		if verb != "undo" {
			p.is(what+": resume", p.after)
		}
	}
	p.must(what, "undo", 0, 3) // 3: there is nothing to undo
	p.is(what+": undo", p.before)
	return ok
}

// judgeFault holds what the program did and said against what it promises.
func judgeFault(t *testing.T, what string, f fault, code int, said string, calls []treetest.Call, changed bool) {
	t.Helper()
	if code != 3 && code != 1 || code == 3 && changed {
		t.Errorf("%s: exit %d, changed: %v; it said %q", what, code, changed, said)
	}
	if !strings.Contains(said, "error: ") || !strings.Contains(said, f.err.Error()) || code == 3 && !strings.Contains(said, "nothing was changed") {
		t.Errorf("%s: it said %q", what, said)
	}
	if code == 1 && (!strings.Contains(said, "hint: rightful resume ") || !strings.Contains(said, "hint: rightful undo ")) {
		t.Errorf("%s: no way on: %q", what, said)
	}
	i := slices.IndexFunc(calls, func(c treetest.Call) bool { return c.Err != 0 })
	for _, c := range calls[i+1:] {
		again := (c.Name == "fsync" || c.Name == "fdatasync") && c.Path == calls[i].Path
		if c.Changes() || again {
			t.Errorf("%s: after it: %s of %q", what, c.Name, c.Path)
		}
	}
}

// noHalfPlan makes sure that every plan is whole, and that nothing else lies beside them.
func (p *patient) noHalfPlan(what string) {
	p.Helper()
	plans := filepath.Join(p.state, "plans")
	names, err := os.ReadDir(plans)
	if err != nil && !os.IsNotExist(err) {
		p.Fatal(err)
	}
	for _, n := range names {
		if out, err := program(p.args("plan", "show", filepath.Join(plans, n.Name()))...).CombinedOutput(); err != nil {
			p.Errorf("%s: %v %s", what, err, out)
		}
	}
}

// cutShort reports whether the newest run can be resumed.
func (p *patient) cutShort() bool {
	p.Helper()
	out, err := program(p.args("runs", "--json")...).Output()
	if err != nil {
		p.Fatalf("runs: %v %s", err, out)
	}
	var run struct{ Kind, State string }
	line, _, _ := bytes.Cut(out, []byte("\n"))
	if err := json.Unmarshal(line, &run); err != nil {
		p.Fatal(err)
	}
	return run.Kind == "run" && (run.State == "failed" || run.State == "interrupted")
}
