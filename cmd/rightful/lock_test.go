package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// While one process changes a server, no other does, whatever state directory it was given and by whatever name it calls
// the server; it is told who does. Looking is allowed, and so is changing another server. The lock ends with its holder,
// however that ends.
func TestTwoRepairsNeverRunOnOneServer(t *testing.T) {
	srv, state := plainServer(t), filepath.Join(t.TempDir(), "state")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(srv, link); err != nil {
		t.Fatal(err)
	}
	g := gate(t, nil, "fix", "--root", srv, "--yes")
	g.holdWhenChanged(srv)
	holder := fmt.Sprintf("locked by process %d (rightful fix --root ", g.Process.Pid)
	for _, c := range []struct {
		code int
		args string
	}{
		{3, "fix --yes --root " + srv},
		{3, "fix --yes --root " + link},
		{3, "undo --yes --root " + srv},
		{3, "resume --yes --root " + srv},
		{3, "plan apply 20261122-093100-4be1 --yes --root " + srv},
		{1, "check --root " + srv},
		{0, "runs --root " + srv},
		{0, "accounts --root " + srv},
		{0, "fix --yes --root " + plainServer(t)},
	} {
		cmd := program(append(strings.Fields(c.args), "--state", state)...)
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != c.code {
			t.Errorf("%s: exit %d, want %d: %s", c.args, code, c.code, out)
		}
		said := strings.Contains(string(out), holder) && strings.Contains(string(out), "nothing was changed\nhint: ")
		if said != (c.code == 3) {
			t.Errorf("%s says %q", c.args, out)
		}
	}
	if err := g.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-g.done
	if out, err := program("fix", "--yes", "--root", srv, "--state", state).CombinedOutput(); err != nil {
		t.Errorf("after the holder was killed: %v %s", err, out)
	}
}
