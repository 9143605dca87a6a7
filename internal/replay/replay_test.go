package replay

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rightful"
	_ "rightful/internal/cli" // lest go test answer from its cache when the program has changed
	"rightful/internal/hostbox"

	gocmp "github.com/google/go-cmp/cmp"
)

// binary is where TestMain puts the program under test, for this process and its boxes.
const binaryEnv = "REPLAY_RIGHTFUL"

// TestMain builds the program once.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "replay")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	exe := filepath.Join(dir, "rightful")
	build := exec.Command("go", "build", "-o", exe, "rightful/cmd/rightful")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build rightful: %v\n%s", err, out)
		return 1
	}
	os.Setenv(binaryEnv, exe)
	return m.Run()
}

// A server is a box with rightful in it, and what the tests ask of it.
type server struct {
	*hostbox.Box
	t *testing.T
}

// start starts a server, which lives as long as the test.
func start(t *testing.T, panel string, accounts int) *server {
	t.Helper()
	return &server{hostbox.StartFor(t, hostbox.Spec{Panel: panel, Accounts: accounts, Binary: os.Getenv(binaryEnv)}), t}
}

// panels runs a test on both shapes of server at once.
func panels(t *testing.T, f func(*testing.T, *server)) {
	t.Parallel()
	for _, panel := range []string{"cpanel", "plain"} {
		t.Run(panel, func(t *testing.T) {
			t.Parallel()
			f(t, start(t, panel, 0))
		})
	}
}

// for lets a subtest speak through its own t.
func (s *server) with(t *testing.T) *server { return &server{s.Box, t} }

// sh runs a script in the box as root, and ends the test if it fails.
func (s *server) sh(script string, args ...string) string {
	s.t.Helper()
	out, err := s.Run(s.t.Context(), script, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *server) listing() string {
	s.t.Helper()
	l, err := s.Listing(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

// same demands that no owner, mode, ACL or capability differs from an earlier listing.
func (s *server) same(when, want string) {
	s.t.Helper()
	if diff := hostbox.Differ(want, s.listing(), 12); len(diff) > 0 {
		s.t.Errorf("%s the trees are not as they were:\n%s", when, strings.Join(diff, "\n"))
	}
}

// keep saves all trees for putBack. It is called on a healthy server, once.
func (s *server) keep() {
	s.t.Helper()
	s.sh("mkdir -p /var/tmp/keep && tar --create --acls --xattrs --file=/var/tmp/keep/homes.tar /home /home2 /srv 2>/dev/null")
}

// putBack makes the trees what they were, whatever was done to them, and forgets all runs.
func (s *server) putBack() {
	s.t.Helper()
	s.sh(`chattr -R -i -a /home /home2 /srv 2>/dev/null || :
		find /home /home2 /srv -mindepth 1 -delete
		setfacl -b /home /home2 /srv
		tar --extract --acls --xattrs --preserve-permissions --same-owner --numeric-owner --file=/var/tmp/keep/homes.tar --directory=/
		rm -rf /var/lib/rightful /etc/rightful`)
}

// bad gives the sites that do not answer 200, with what they answer.
func (s *server) bad() map[string]int {
	all := s.StatusAll(s.t.Context())
	maps.DeleteFunc(all, func(_ string, code int) bool { return code == 200 })
	return all
}

// healthy demands that every site answers 200.
func (s *server) healthy(when string) {
	s.t.Helper()
	if bad := s.bad(); len(bad) > 0 {
		s.t.Errorf("%s not every site answers 200: %v", when, bad)
	}
}

func (s *server) breakIt(name string, args ...string) {
	s.t.Helper()
	if err := s.Break(s.t.Context(), name, args...); err != nil {
		s.t.Fatal(err)
	}
}

// statuses asks a host for many paths, each with a real request.
func (s *server) statuses(host string, paths []string) map[string]int {
	codes := make([]int, len(paths))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i, p := range paths {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			codes[i], _, _ = s.Get(s.t.Context(), host, p)
		})
	}
	wg.Wait()
	all := map[string]int{}
	for i, p := range paths {
		all[p] = codes[i]
	}
	return all
}

// An answer is what one invocation of rightful said.
type answer struct {
	code     int
	stdout   string
	stderr   string
	findings []rightful.Finding
	sites    map[string]rightful.Verdict
	runs     []rightful.Run
	summary  map[string]any
}

// rightful runs the program in the box with --json and reads its lines.
func (s *server) rightful(args ...string) *answer {
	s.t.Helper()
	return s.say(s.Command(s.t.Context(), "rightful", append([]string{"--json"}, args...)...))
}

// outside prepares rightful to run on the machine, not in the box.
func (s *server) outside(args ...string) *exec.Cmd {
	return exec.CommandContext(s.t.Context(), os.Getenv(binaryEnv), args...)
}

// say runs a command that prints JSON lines, of which the last is the summary.
func (s *server) say(cmd *exec.Cmd) *answer {
	s.t.Helper()
	a := s.text(cmd)
	a.read(s.t)
	return a
}

// text runs a command that prints what people read.
func (s *server) text(cmd *exec.Cmd) *answer {
	s.t.Helper()
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("run %q: %v", cmd.Args, err)
	}
	return &answer{code: cmd.ProcessState.ExitCode(), stdout: out.String(), stderr: said.String()}
}

// read takes the JSON lines apart.
func (a *answer) read(t *testing.T) {
	t.Helper()
	a.sites = map[string]rightful.Verdict{}
	last := ""
	for line := range strings.Lines(a.stdout) {
		var head struct{ Kind string }
		err := json.Unmarshal([]byte(line), &head)
		into := func(v any) {
			err = cmp.Or(err, json.Unmarshal([]byte(line), v))
		}
		switch last = head.Kind; last {
		case "finding":
			a.findings = append(a.findings, rightful.Finding{})
			into(&a.findings[len(a.findings)-1])
		case "site":
			var v rightful.Verdict
			into(&v)
			a.sites[v.Site] = v
		case "run":
			a.runs = append(a.runs, rightful.Run{})
			into(&a.runs[len(a.runs)-1])
		case "summary":
			into(&a.summary)
		}
		if err != nil {
			t.Fatalf("JSON line %q: %v", line, err)
		}
	}
	if a.stdout != "" && last != "summary" {
		t.Errorf("the last JSON line is of kind %q, want summary", last)
	}
}

// exit demands an exit code.
func (a *answer) exit(t *testing.T, want int) *answer {
	t.Helper()
	if a.code != want {
		t.Errorf("exit code %d, want %d\n%s%s", a.code, want, head(a.stdout, 30), head(a.stderr, 20))
	}
	return a
}

// says demands words on standard error.
func (a *answer) says(t *testing.T, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(a.stderr, w) {
			t.Errorf("standard error lacks %q:\n%s", w, head(a.stderr, 20))
		}
	}
}

// run gives the one run that was reported.
func (a *answer) run(t *testing.T, state rightful.RunState) rightful.Run {
	t.Helper()
	if len(a.runs) != 1 {
		t.Fatalf("%d runs reported, want 1\n%s%s", len(a.runs), head(a.stdout, 10), head(a.stderr, 20))
	}
	if a.runs[0].State != state {
		t.Errorf("run is %q (%s), want %q", a.runs[0].State, a.runs[0].Reason, state)
	}
	return a.runs[0]
}

// at gives the finding about a path.
func (a *answer) at(t *testing.T, path string) rightful.Finding {
	t.Helper()
	i := slices.IndexFunc(a.findings, func(f rightful.Finding) bool { return f.Path == path })
	if i < 0 {
		t.Errorf("no finding about %q; there are %q", path, a.paths())
		return rightful.Finding{}
	}
	return a.findings[i]
}

func (a *answer) paths() []string {
	var all []string
	for _, f := range a.findings[:min(len(a.findings), 20)] {
		all = append(all, f.Path)
	}
	return all
}

// is demands what a finding says.
func is(t *testing.T, f rightful.Finding, problem string, effect rightful.Effect, sites ...string) {
	t.Helper()
	if string(f.Problem) != problem || f.Effect != effect {
		t.Errorf("%s: %s, %s; want %s, %s", f.Path, f.Problem, f.Effect, problem, effect)
	}
	got := slices.Sorted(slices.Values(f.Sites))
	slices.Sort(sites)
	if diff := gocmp.Diff(sites, got); diff != "" && len(sites)+len(got) > 0 {
		t.Errorf("%s: sites (-want +got):\n%s", f.Path, diff)
	}
}

// head gives the first n lines of a text.
func head(text string, n int) string {
	lines := strings.SplitAfterN(text, "\n", n+1)
	if len(lines) > n {
		lines[n] = "…\n"
	}
	return strings.Join(lines, "")
}

// eventually polls until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(100 * time.Microsecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after 20 s still not so: %s", what)
		}
	}
}
