package replay

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/hostbox"

	"golang.org/x/sys/unix"
)

// deny closes a site by its configuration, which no repair of files can cure.
func (s *server) deny(docroot string) {
	s.t.Helper()
	s.sh(`printf '<Directory "%s">\nRequire all denied\n</Directory>\n' "$1" >>"$(readlink -f /etc/apache2/apache2.conf)"`, docroot)
	s.reload()
}

func (s *server) reload() {
	s.t.Helper()
	if err := s.ReloadWeb(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// workersFirst has mod_fcgid, from the next start on, answer soon for a wrapper that ends at once, and always by 500.
func (s *server) workersFirst() {
	s.t.Helper()
	if err := s.WorkersFirst(s.t.Context()); err != nil {
		s.t.Log("mod_fcgid may take long, or answer 503 for 500: ", err)
	}
}

// takenBack demands that fix gave everything back, said so, and left nothing to undo.
func (s *server) takenBack(fix *answer, broken string) rightful.Run {
	s.t.Helper()
	run := fix.exit(s.t, 4).run(s.t, rightful.RunTakenBack)
	if run.Changed != 0 || run.Reason == "" {
		s.t.Errorf("%d changed, reason %q; want 0 and a reason", run.Changed, run.Reason)
	}
	s.same("after the run was taken back", broken)
	s.rightful("undo", "--yes").exit(s.t, 3).says(s.t, "nothing was changed")
	return run
}

// Verification: what is not really cured does not pass for cured, what gets worse is taken back, and what a request
// cannot prove is said to be unproved.
func TestVerificationBelievesTheServerOnly(t *testing.T) {
	panels(t, func(t *testing.T, s *server) {
		s.keep()
		for _, test := range []struct {
			name string
			do   func(*server)
		}{
			{"a canary that something else keeps closed is taken back", closedCanary},
			{"an account that something else keeps closed is named", closedOther},
			{"a stopped server proves nothing", stoppedServer},
			{"PHP that is down makes a site worse", phpDown},
			{"an account that gets worse is taken back by itself", worseAlone},
			{"a plan that is predicted to make a site worse is refused", worsePredicted},
			{"what changed between plan and apply is skipped", changedBetween},
			{"a server that goes down midway takes nothing back", downMidway},
		} {
			t.Run(test.name, func(t *testing.T) {
				s := s.with(t)
				conf := s.sh(`cat "$(readlink -f /etc/apache2/apache2.conf)"`)
				defer func() {
					s.sh(`printf %s "$1" >"$(readlink -f /etc/apache2/apache2.conf)"`, conf)
					s.putBack()
					s.reload()
				}()
				test.do(s)
			})
		}
	})
}

func closedCanary(s *server) {
	s.deny("/home/bob/public_html")
	s.breakIt("strip-group", "bob")
	s.breakIt("strip-group", "carol")
	broken := s.listing()
	run := s.takenBack(s.rightful("fix", "--canary", "bob", "--yes", "--settle", "1"), broken)
	if len(run.Stages) != 1 || !slices.Equal(run.Stages[0].TakenBack, []string{"bob"}) || !strings.Contains(run.Reason, "not cured") {
		s.t.Errorf("stages %+v, reason %q; want bob taken back, as not cured", run.Stages, run.Reason)
	}
	if bad := s.bad(); bad["carol.example"] != 403 {
		s.t.Errorf("the run went on after its canary failed: %v", bad)
	}
}

func closedOther(s *server) {
	s.deny("/home/carol/public_html")
	s.breakIt("strip-group", "bob")
	s.breakIt("strip-group", "carol")
	run := s.rightful("fix", "--canary", "bob", "--yes", "--settle", "1").exit(s.t, 1).run(s.t, rightful.RunDone)
	last := run.Stages[len(run.Stages)-1]
	if !slices.Equal(last.Uncured, []string{"carol.example"}) || len(last.Worse)+len(last.TakenBack)+len(last.Cured) > 0 {
		s.t.Errorf("last stage %+v; want carol.example not cured and nothing else", last)
	}
	if bad := s.bad(); len(bad) != 1 || bad["carol.example"] != 403 {
		s.t.Errorf("after the run: %v, want carol.example alone", bad)
	}
}

func stoppedServer(s *server) {
	s.breakIt("strip-group", "bob")
	s.rightful("check").exit(s.t, 1)
	if err := s.StopWeb(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	st := s.rightful("fix", "--yes").exit(s.t, 0).run(s.t, rightful.RunDone).Stages[0]
	want := []string{"album.bob.example", "bob.example"}
	if slices.Sort(st.Unverified); !slices.Equal(st.Unverified, want) {
		s.t.Errorf("unverified %q, want %q", st.Unverified, want)
	}
	s.reload()
	s.healthy("after a repair that was verified by prediction, with the server back,")
}

func phpDown(s *server) {
	s.breakIt("strip-group", "alice")
	s.sh(`pid=$(cat /run/php/fpm.pid); kill "$pid"; tail --pid="$pid" --sleep-interval=0.02 --follow /dev/null`)
	broken := s.listing()
	run := s.takenBack(s.rightful("fix", "--yes"), broken)
	if !strings.Contains(run.Reason, "answered 403, now 503") {
		s.t.Errorf("reason %q", run.Reason)
	}
}

// picky is a page that works only while its uploads are open to everybody: no prediction can know that.
const picky = `<?php if (!(fileperms(__DIR__ . '/wp/wp-content/uploads') & 2)) http_response_code(500);`

func worseAlone(s *server) {
	s.sh(`printf %s "$1" >/home/carol/public_html/index.php; chmod 0777 /home/carol/public_html/wp/wp-content/uploads`, picky)
	s.breakIt("strip-group", "bob")
	if bad := s.bad(); bad["carol.example"] != 0 {
		s.t.Fatalf("before the repair: %v", bad)
	}
	before := s.listing()
	fix := s.rightful("fix", "--canary", "bob", "--yes").exit(s.t, 4)
	run := fix.run(s.t, rightful.RunDone)
	last := run.Stages[len(run.Stages)-1]
	if !slices.Equal(last.Worse, []string{"carol.example"}) || !slices.Equal(last.TakenBack, []string{"carol"}) {
		s.t.Errorf("last stage %+v; want carol alone worse and taken back", last)
	}
	s.healthy("with carol taken back and bob repaired")
	for _, d := range hostbox.Differ(before, s.listing(), 100) {
		if strings.Contains(d, "carol") {
			s.t.Errorf("carol's tree is not as before: %s", d)
		}
	}
}

func worsePredicted(s *server) {
	s.sh(`mkdir -p /etc/rightful/policy.d && printf %s "$1" >/etc/rightful/policy.d/closed.toml`, `version = 1
panel = "`+s.Panel+`"
[[rule]]
name = "closed-roots"
title = "A rule that shuts the web server out."
path = "{docroot}"
accept = [{ owner = "user", group = "user", mode = "0750", need = "0700", deny = "0007" }]
`)
	before := s.listing()
	fix := s.rightful("fix", "--yes", "alice").exit(s.t, 3)
	fix.says(s.t, "would get worse", "nothing was changed")
	s.same("after a refused plan", before)
	s.healthy("after a refused plan")
	if runs := s.rightful("runs").exit(s.t, 0).runs; len(runs) != 0 {
		s.t.Errorf("a refused plan left runs %+v", runs)
	}
}

func changedBetween(s *server) {
	s.breakIt("strip-group", "bob")
	plan := s.rightful("fix", "--dry-run").exit(s.t, 1)
	id := ""
	for w := range strings.SplitSeq(plan.stdout, `"plan":"`) {
		id, _, _ = strings.Cut(w, `"`)
	}
	s.sh(`chmod 0700 "/home/bob/public_html/my site"`)
	run := s.rightful("plan", "apply", id, "--yes").exit(s.t, 1).run(s.t, rightful.RunDone)
	if run.Skipped != 1 || run.Failed != 0 {
		s.t.Errorf("%d skipped, %d failed; want the one directory that changed skipped", run.Skipped, run.Failed)
	}
	if got := s.sh(`stat -c '%U:%G %a' "/home/bob/public_html/my site"`); got != "bob:bob 700\n" {
		s.t.Errorf("the changed directory is now %q", got)
	}
	if bad := s.bad(); len(bad) != 1 || bad["album.bob.example"] != 403 {
		s.t.Errorf("after the run: %v, want album.bob.example alone", bad)
	}
}

// downMidway stops the web server when the first change has been seen, while the run itself is held still.
func downMidway(s *server) {
	s.sh(`cd /home/alice/public_html; mkdir many; for i in $(seq 3000); do echo x >many/$i.html; done; chown -R alice:alice many; chmod 0600 many/*`)
	s.breakIt("chown-public-htmls")
	cmd := s.background("--json", "fix", "--canary", "alice", "--yes")
	eventually(s.t, "the first change", func() bool {
		fi, err := os.Lstat(s.PathInHost("/home/alice/public_html/many/1.html"))
		return err == nil && fi.Mode().Perm() != 0o600
	})
	cmd.signal(unix.SIGSTOP)
	if err := s.StopWeb(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	cmd.signal(unix.SIGCONT)
	fix := cmd.wait()
	fix.read(s.t)
	run := fix.exit(s.t, 0).run(s.t, rightful.RunDone)
	for _, st := range run.Stages {
		if len(st.TakenBack)+len(st.Worse) > 0 || len(st.Unverified) == 0 {
			s.t.Errorf("stage %+v; want all unverified, and nothing taken back", st)
		}
	}
	s.reload()
	s.healthy("with the server back")
}

// A job is a rightful that runs in the box while the test goes on.
type job struct {
	*exec.Cmd
	s         *server
	out, said bytes.Buffer
}

// background starts rightful in the box.
func (s *server) background(args ...string) *job {
	s.t.Helper()
	j := &job{Cmd: s.Command(s.t.Context(), "rightful", args...), s: s}
	j.Stdout, j.Stderr = &j.out, &j.said
	if err := j.Start(); err != nil {
		s.t.Fatal(err)
	}
	return j
}

func (j *job) signal(sig unix.Signal) {
	j.s.t.Helper()
	if err := hostbox.Signal(j.Cmd, sig); err != nil {
		j.s.t.Fatalf("send %v: %v", sig, err)
	}
	if sig == unix.SIGCONT {
		j.Process.Signal(sig) // nsenter stops when its child does
	}
}

// wait gives what it said when it has ended. The code is -1 where a signal ended it.
func (j *job) wait() *answer {
	j.Wait()
	return &answer{code: j.ProcessState.ExitCode(), stdout: j.out.String(), stderr: j.said.String()}
}
