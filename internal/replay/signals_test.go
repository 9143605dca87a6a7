package replay

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"rightful"

	"golang.org/x/sys/unix"
)

// crowded is a server large enough for a run to be met in its midst, with every home given to root.
func crowded(t *testing.T, panel string) *server {
	s := start(t, panel, 40)
	s.keep()
	return s
}

// rootTakesAll gives every home to root, as a careless restore does: far more changes than one batch. It leaves findings
// for a decision, but no site down.
func (s *server) rootTakesAll() (broken string) {
	s.t.Helper()
	s.sh(`chown -hR root:root /home/*`)
	return s.listing()
}

// midway starts a fix and holds it still when the canary has been changed and verified, and others are being changed.
func (s *server) midway(args ...string) *job {
	s.t.Helper()
	// No panel names where frank's own link leads, so that root's directory there is given back by decision only.
	j := s.background(append([]string{"fix", "--canary", "alice", "--yes", "--accept=root-owned:frank"}, args...)...)
	homes, err := filepath.Glob(s.PathInHost("/home/user*"))
	if err != nil || len(homes) == 0 {
		s.t.Fatalf("no homes: %v", err)
	}
	eventually(s.t, "a change after the canary", func() bool {
		return slices.ContainsFunc(homes, func(home string) bool {
			fi, err := os.Lstat(home + "/public_html/css/style.css")
			return err == nil && fi.Sys().(*syscall.Stat_t).Uid != 0
		})
	})
	j.signal(unix.SIGSTOP)
	// nsenter stops itself when it learns that its child has stopped. Were it told to go on before that, it would stop for
	// good afterwards.
	eventually(s.t, "nsenter stops with its child", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", j.Process.Pid))
		i := bytes.LastIndexByte(b, ')') // the state follows the name, which may hold anything
		return err == nil && i >= 0 && len(b) > i+2 && b[i+2] == 'T'
	})
	return j
}

// cutShort gives the one run, which must be known as interrupted.
func (s *server) cutShort(state rightful.RunState) rightful.Run {
	s.t.Helper()
	run := s.rightful("runs").exit(s.t, 0).run(s.t, state)
	if run.Changed == 0 || run.Changed+run.InDoubt >= run.Planned {
		s.t.Errorf("%d of %d changed, %d in doubt: not cut short in its midst", run.Changed, run.Planned, run.InDoubt)
	}
	return run
}

// A run that any signal cuts short loses nothing: it is listed as interrupted, resume finishes it, undo takes it back.
func TestARunThatIsCutShortIsResumedOrUndone(t *testing.T) {
	t.Parallel()
	resume, undo := true, false
	for panel, cuts := range map[string]map[unix.Signal]bool{
		"cpanel": {unix.SIGINT: resume, unix.SIGKILL: undo},
		"plain":  {unix.SIGTERM: undo, unix.SIGKILL: resume, unix.SIGHUP: undo},
	} {
		t.Run(panel, func(t *testing.T) {
			t.Parallel()
			s := crowded(t, panel)
			for sig, finish := range cuts {
				t.Run(unix.SignalName(sig), func(t *testing.T) {
					s := s.with(t)
					defer s.putBack()
					broken := s.rootTakesAll()
					j := s.midway("--accept=root-owned:alice")
					j.signal(sig)
					j.signal(unix.SIGCONT)
					cut := j.wait()
					run := s.cutShort(rightful.RunInterrupted)
					if sig == unix.SIGINT || sig == unix.SIGTERM {
						cut.exit(t, 130).says(t, "error: interrupted", "hint: rightful resume "+run.ID, "hint: rightful undo "+run.ID)
						if run.InDoubt != 0 {
							t.Errorf("%d changes in doubt after an orderly end", run.InDoubt)
						}
					}
					if finish {
						s.rightful("resume", "--yes").exit(t, 0).run(t, rightful.RunDone)
						s.healthy("after resume")
						s.rightful("undo", "--yes").exit(t, 0).run(t, rightful.RunDone)
					} else {
						s.rightful("undo", "--yes").exit(t, 0).run(t, rightful.RunDone)
						s.rightful("resume", "--yes").exit(t, 3)
					}
					s.same("after undo", broken)
				})
			}
		})
	}
}

// While a fix runs, another is refused and told who holds the lock, and nothing is confused by it.
func TestASecondFixIsRefusedAndNamesTheHolder(t *testing.T) {
	t.Parallel()
	s := crowded(t, "plain")
	s.rootTakesAll()
	j := s.midway()
	s.rightful("fix", "--yes").exit(t, 3).says(t, "locked by process", "rightful fix --canary alice --yes", "nothing was changed")
	s.rightful("undo", "--yes").exit(t, 3).says(t, "locked by process")
	s.cutShort(rightful.RunRunning)
	s.rightful("check").exit(t, 1)
	j.signal(unix.SIGCONT)
	j.wait().exit(t, 1)
	s.healthy("after the first fix")
}

// A terminal that goes away takes no record with it: the run goes on, or is cut short as by any signal.
func TestAReaderThatGoesAwayLosesNothing(t *testing.T) {
	t.Parallel()
	s := crowded(t, "cpanel")
	for _, streams := range []string{"stdout", "stderr", "both"} {
		t.Run(streams, func(t *testing.T) {
			s := s.with(t)
			defer s.putBack()
			broken := s.rootTakesAll()
			gone, end, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			gone.Close()
			cmd := s.Command(t.Context(), "rightful", "fix", "--yes")
			if streams != "stderr" {
				cmd.Stdout = end
			}
			if streams != "stdout" {
				cmd.Stderr = end
			}
			cmd.Run()
			end.Close()
			runs := s.rightful("runs").exit(t, 0).runs
			if len(runs) == 0 { // it died with its first word, before anything
				s.same("after a fix that nobody could hear", broken)
				return
			}
			if runs[0].State != rightful.RunDone && runs[0].State != rightful.RunInterrupted {
				t.Errorf("run is %q: %s", runs[0].State, runs[0].Reason)
			}
			if runs[0].State == rightful.RunDone {
				s.healthy("after the run")
			}
			s.rightful("undo", "--yes").exit(t, 0)
			s.same("after undo", broken)
		})
	}
}

// From outside, with --root, the same server is looked after without a single request: by prediction, which says so,
// and with paths as the server itself sees them.
func TestAnotherRootIsLookedAfterByPrediction(t *testing.T) {
	panels(t, func(t *testing.T, s *server) {
		state := t.TempDir()
		outside := func(args ...string) *answer {
			t.Helper()
			return s.say(s.outside(append([]string{"--json", "--root", s.PathInHost("/"), "--state", state}, args...)...))
		}
		if c := outside("check").exit(t, 0); len(c.findings) > 0 {
			t.Errorf("a healthy server has findings %q", c.paths())
		}
		before := s.listing()
		s.breakIt("chown-public-htmls")
		broken, log := s.listing(), s.requests()
		check := outside("check").exit(t, 1)
		fix := outside("fix", "--yes").exit(t, 0)
		for _, st := range fix.run(t, rightful.RunDone).Stages {
			if len(st.Unverified) != len(st.Cured) || len(st.Cured) == 0 {
				t.Errorf("stage %+v; want all cured, and all unverified", st)
			}
		}
		runs := s.text(s.outside("--root", s.PathInHost("/"), "--state", state, "runs", fix.runs[0].ID))
		if !strings.Contains(runs.stdout, "by prediction") || strings.Contains(runs.stdout, "by requests") {
			t.Errorf("runs does not say how it was verified:\n%s", runs.stdout)
		}
		if got := s.requests(); got != log {
			t.Errorf("requests were made:\n%s", strings.TrimPrefix(got, log))
		}
		for _, f := range check.findings {
			if !strings.HasPrefix(f.Path, "/home") && !strings.HasPrefix(f.Path, "/srv") {
				t.Errorf("path %q is not as the server sees it", f.Path)
			}
		}
		if strings.Contains(check.stdout+fix.stdout, s.PathInHost("/")+"/") {
			t.Error("a path in the answers holds the server's own root")
		}
		s.same("after break and fix from outside", before)
		s.healthy("after a fix from outside")
		outside("undo", "--yes").exit(t, 0)
		s.same("after undo from outside", broken)
	})
}

// requests gives the access logs.
func (s *server) requests() string {
	s.t.Helper()
	return s.sh(`find -L /var/log/apache2 -type f -name '*access*' -exec cat {} + ; find /var/log/apache2/domlogs -type f -exec cat {} + 2>/dev/null || :`)
}
