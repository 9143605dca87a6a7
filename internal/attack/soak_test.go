package attack_test

import (
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"rightful/internal/repair"
)

// One process that checks, repairs and takes back many times keeps no descriptor, no goroutine, no thread and no memory
// of it. With SOAKTIME it does so for long.
func TestSoakOfRunsLeaksNothing(t *testing.T) {
	h := newHost(t, work(200))
	before := h.victims()
	cycle := func() {
		var err error
		if h.state, err = repair.OpenState(h.dir, h.s); err != nil {
			t.Fatal(err)
		}
		_, plan := h.check()
		run := h.apply(plan)
		if run.Changed < 200 || h.undo(run.ID).Changed != run.Changed {
			t.Fatalf("run: %+v", run)
		}
		if err := os.RemoveAll(h.dir); err != nil {
			t.Fatal(err)
		}
	}
	cycles := 60
	if os.Getenv("SOAKTIME") != "" {
		cycles = 3000
	}
	for range 20 {
		cycle()
	}
	was := usage(t)
	for range cycles {
		cycle()
	}
	is := usage(t)
	t.Logf("%d cycles: %+v, then %+v", cycles, was, is)
	if is.descriptors > was.descriptors || is.goroutines > was.goroutines || is.threads > was.threads+4 || is.resident > was.resident+8<<10 {
		t.Errorf("something is kept: %+v became %+v", was, is)
	}
	h.unharmed(before)
}

// used is what a process holds.
type used struct {
	descriptors, goroutines, threads int
	resident                         int64 // KiB
}

func usage(t *testing.T) (u used) {
	t.Helper()
	debug.FreeOSMemory()
	files, err1 := os.ReadDir("/proc/self/fd")
	tasks, err2 := os.ReadDir("/proc/self/task")
	statm, err3 := os.ReadFile("/proc/self/statm") // proc(5): the second field is resident pages
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return used{len(files), runtime.NumGoroutine(), len(tasks), pages * int64(os.Getpagesize()) >> 10}
}
