package replay

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"rightful"
	"rightful/internal/hostbox"

	"golang.org/x/sys/unix"
)

// culprits gives the processes that a check names.
func (a *answer) culprits(t *testing.T) []string {
	t.Helper()
	var all []string
	for line := range strings.Lines(a.stdout) {
		var p struct {
			Kind, Command, Path string
			PID                 int
		}
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			t.Fatal(err)
		}
		if p.Kind == "process" {
			if p.PID < 2 {
				t.Errorf("process %+v", p)
			}
			all = append(all, p.Command+" > "+p.Path)
		}
	}
	return all
}

// within runs a command in the box until the test calls end, or is over.
func (s *server) within(cmd *exec.Cmd) (end func()) {
	s.t.Helper()
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := false
	end = func() {
		if !ended {
			ended = true
			hostbox.Signal(cmd, unix.SIGKILL) // it may have ended by itself
			cmd.Wait()
		}
	}
	s.t.Cleanup(end)
	return end
}

// fixperms is the script that did it, still at it as long as /run/go exists.
const fixperms = `printf '#!/bin/bash\nwhile [ -e /run/go ]; do chown -R "$1:$1" "/home/$1/public_html"; done\n' >/root/fixperms
	chmod 755 /root/fixperms; touch /run/go`

// Who is still changing homes is named by check; a repair does not begin beside it, unless it works on other accounts, and
// with --wait it begins as soon as that has ended.
func TestWhoIsStillChangingAHomeIsNamedAndNotRepairedBeside(t *testing.T) {
	t.Parallel()
	s := start(t, "cpanel", 3)
	s.sh(fixperms)
	end := s.within(s.Command(t.Context(), "/root/fixperms", "alice"))
	eventually(t, "the script has done its harm", func() bool { return len(s.bad()) > 0 })
	broken := s.listing()

	check := s.rightful("check").exit(t, 1)
	if got := strings.Join(check.culprits(t), "\n"); !strings.Contains(got, "/bin/bash /root/fixperms alice > /home/alice") {
		t.Errorf("check names %q", got)
	}
	text := s.text(s.Command(t.Context(), "rightful", "check"))
	text.says(t, "warning: process ", " is changing /home/alice right now: /bin/bash /root/fixperms alice")
	refused := s.text(s.Command(t.Context(), "rightful", "fix", "--yes")).exit(t, 3)
	refused.says(t, "error: begin: process ", " is changing /home/alice", "; nothing was changed", "hint: rightful fix --yes --wait")
	s.same("after the refusal", broken)
	if others := s.rightful("check", "bob").exit(t, 0).culprits(t); len(others) > 0 {
		t.Errorf("check of another account names %q", others)
	}
	s.rightful("fix", "bob", "--yes").exit(t, 0)

	// A plan that is ready waits as well.
	plan := s.rightful("fix", "--dry-run").exit(t, 1)
	id := ""
	for line := range strings.Lines(plan.stdout) {
		var p struct{ Kind, Plan string }
		if json.Unmarshal([]byte(line), &p) == nil && p.Kind == "plan" {
			id = p.Plan
		}
	}
	s.text(s.Command(t.Context(), "rightful", "plan", "apply", id, "--yes")).exit(t, 3).says(t, "nothing was changed")
	s.same("after the second refusal", broken)

	waiting := s.Command(t.Context(), "rightful", "fix", "--yes", "--wait", "--json")
	said, err := waiting.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	waiting.Stdout = &out
	if err := waiting.Start(); err != nil {
		t.Fatal(err)
	}
	awaitLine(t, said, "waiting for process ")
	s.same("while it waits", broken)
	s.sh("rm /run/go")
	err = waiting.Wait()
	end()
	fix := &answer{code: waiting.ProcessState.ExitCode(), stdout: out.String()}
	fix.read(t)
	if fix.exit(t, 0).run(t, rightful.RunDone); err != nil {
		t.Error(err)
	}
	s.healthy("after waiting")
}

// awaitLine reads lines until one begins with a word, and passes the rest by.
func awaitLine(t *testing.T, r io.Reader, word string) {
	t.Helper()
	found := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), word) {
				found <- true
			}
		}
		close(found)
	}()
	select {
	case ok := <-found:
		if !ok {
			t.Fatalf("it ended without saying %q", word)
		}
	case <-time.After(time.Minute):
		t.Fatalf("after a minute it has not said %q", word)
	}
}

// A script that no list knows is found by what it runs.
func TestAnUnknownScriptIsFoundByWhatItRuns(t *testing.T) {
	t.Parallel()
	s := start(t, "cpanel", 2)
	s.sh("touch /run/go")
	s.within(s.Command(t.Context(), "sh", "-c", "while [ -e /run/go ]; do chown -R bob:bob /home/bob; done"))
	eventually(t, "check names chown", func() bool {
		for _, c := range s.rightful("check").culprits(t) {
			if c == "chown -R bob:bob /home/bob > /home/bob" {
				return true
			}
		}
		return false
	})
	s.sh("rm /run/go")
}

// A customer's own commands are no reason to wait, and neither is the script that calls for the repair itself.
func TestNeitherCustomersNorItsOwnCallersKeepARepairWaiting(t *testing.T) {
	t.Parallel()
	s := start(t, "cpanel", 2)
	s.keep()
	s.sh("touch /run/go")
	s.within(s.CommandAs(t.Context(), "alice", "bash", "-c", "exec -a fixperms bash -s alice <<<'while [ -e /run/go ]; do chmod -R u+r /home/alice/public_html; done'"))
	s.within(s.CommandAs(t.Context(), "alice", "sh", "-c", "while [ -e /run/go ]; do chmod -R u+r /home/alice; done"))
	if named := s.rightful("check").exit(t, 0).culprits(t); len(named) > 0 {
		t.Errorf("check names %q", named)
	}
	for name, script := range map[string]string{
		"a shell's text":          `sh -c 'chown -R alice:alice /home/alice/public_html; rightful --json fix --yes'`,
		"a script that fixes":     `printf '#!/bin/bash\nchown -R "$1:$1" "/home/$1/public_html"\nrightful --json fix --yes\n' >/root/fixperms; chmod 755 /root/fixperms; /root/fixperms alice`,
		"a find that executes it": `chown -R alice:alice /home/alice/public_html; find /home/alice -maxdepth 0 -exec sh -c 'rightful --json fix --yes' ';'`,
	} {
		t.Run(name, func(t *testing.T) {
			s := s.with(t)
			defer s.putBack()
			s.say(s.Command(t.Context(), "bash", "-c", script)).exit(t, 0).run(t, rightful.RunDone)
			s.healthy("after the repair")
		})
	}
	s.sh("rm /run/go")
}
