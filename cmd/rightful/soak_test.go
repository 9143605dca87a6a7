package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// The soak kills and attacks for as long as SOAKTIME says, at most until soakKills; without it some kills must do, with a
// seed that is always the same.
const (
	soakKills  = 10_000
	shortKills = 24 // on each file system
)

// mess is what there is to repair beside the accounts of plainServer, of every kind of change.
const mess = `
d 0755 0:0 victims
f 0666 20002:20002 victims/shared.html
f 0644 0:0 victims/readable.html
d 0777 20001:20001 home/alice/public_html/open
f 0666 20001:20001 home/alice/public_html/open/own.html
f 4755 0:0 home/alice/public_html/suid.html = tool
f 0755 0:0 home/alice/public_html/capable.html caps = tool
f 0666 20001:20001 home/alice/public_html/acl.html acl=user::rw-,user:1005:rw-,group::rw-,mask::rw-,other::rw-
f 0600 20001:20001 "home/alice/public_html/odd\n\xff.html"
l 0777 0:0 home/alice/public_html/link.html -> index.html
d 2777 20002:20002 home/bob/public_html/setgid default=user::rwx,user:33:r-x,group::r-x,mask::r-x,other::---
f 0666 33:33 home/bob/public_html/setgid/upload.html
`

// playground is where alice attacks: it is made anew for each attack, and nothing in it is compared.
const playground = `
d 0755 20001:20001 home/alice/play
d 0777 20001:20001 home/alice/play/d
f 0666 20001:20001 home/alice/play/d/f0.html
f 0666 20001:20001 home/alice/play/d/f1.html
`

var attackSteps = []string{
	"symlink VICTIMS l", "exchange d l", "exchange d l", "link VICTIMS/shared.html h.html", "exchange d/f0.html h.html", "exchange d/f0.html h.html",
	"chmod 0666 d/f1.html", "chmod 0600 d/f1.html", "unlink d/f1.html", "write d/f1.html", "rename d x", "rename x d", "unlink h.html", "unlink l",
}

// A soak is one server that is repaired, killed and taken back over and over.
type soak struct {
	t             *testing.T
	rng           *rand.Rand
	dir           string
	before, after string                   // listings of what is compared
	took          map[string]time.Duration // how long each verb takes
	kills         map[string]int           // by verb
	rounds        int
	attacks       int
	ended         map[string]int // verbs that came to their end, and how the tree then was
	maxRSS        int64          // KiB, of any process
}

func (s *soak) state() string { return filepath.Join(s.dir, "state") }
func (s *soak) srv() string   { return filepath.Join(s.dir, "srv") }

func (s *soak) listing() string {
	return treetest.Listing(s.t, s.srv(), "home/alice/public_html", "home/bob", "home/carol", "etc")
}

func (s *soak) victims() string { return treetest.Listing(s.t, s.srv(), "victims") }

func (s *soak) killed() (n int) {
	for _, k := range s.kills {
		n += k
	}
	return n
}

func newSoak(t *testing.T, dir string, seed uint64) *soak {
	s := &soak{t: t, dir: dir, rng: rand.New(rand.NewPCG(seed, 0)), took: map[string]time.Duration{}, kills: map[string]int{}, ended: map[string]int{}}
	if err := os.Mkdir(s.srv(), 0o755); err != nil {
		t.Fatal(err)
	}
	buildPlain(t, s.srv())
	treetest.Build(t, s.srv(), mess)
	s.before = s.listing()
	for i, verb := range []string{"fix", "undo", "undo"} { // the second undo has nothing left to do
		if killed, code, out := s.run(false, verb); killed || code > 1 && i < 2 {
			t.Fatalf("undisturbed %s: exit %d: %s", verb, code, out)
		}
		if i == 0 {
			s.after = s.listing()
		}
	}
	if s.after == s.before {
		t.Fatal("nothing to repair")
	}
	if diff := cmp.Diff(lines(s.before), lines(s.listing())); diff != "" {
		t.Fatalf("undisturbed undo is not exact:\n%s", diff)
	}
	return s
}

func lines(s string) []string { return strings.Split(s, "\n") }

// run runs a verb, and where it may, kills it at some point: after a while, or after the run's record was written to for
// some time.
func (s *soak) run(kill bool, verb string) (killed bool, code int, out string) {
	cmd := program(verb, "--root", s.srv(), "--state", s.state(), "--yes", "--jobs", strconv.Itoa(1+s.rng.IntN(3)), "--json")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	after := time.Duration(s.rng.Int64N(1 + int64(s.took[verb])*5/4))
	var records *os.File
	if kill && s.rng.IntN(3) > 0 {
		after = time.Duration(s.rng.Int64N(int64(3 * time.Millisecond)))
		records = s.watchRecords()
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	if kill {
		if records != nil {
			written := make(chan error, 1)
			go func() {
				_, err := records.Read(make([]byte, 4096))
				written <- err
			}()
			select {
			case <-written:
			case err := <-done:
				done <- err
			}
			records.Close()
		}
		select {
		case <-time.After(after):
			cmd.Process.Kill() // one that has ended is no kill
		case err := <-done:
			done <- err
		}
	}
	err := <-done
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	if use, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		s.maxRSS = max(s.maxRSS, use.Maxrss)
	}
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		s.kills[verb]++
		return true, -1, said.String()
	}
	if !kill {
		s.took[verb] = time.Since(start)
	}
	return false, cmd.ProcessState.ExitCode(), said.String()
}

// watchRecords gives a file from which something can be read once a record of a run is written to.
func (s *soak) watchRecords() *os.File {
	runs := filepath.Join(s.state(), "runs")
	if err := os.MkdirAll(runs, 0o700); err != nil {
		s.t.Fatal(err)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := unix.InotifyAddWatch(fd, runs, unix.IN_MODIFY); err != nil {
		s.t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "inotify")
}

// A record is what the program knows of a run.
type record struct{ Kind, Run, Verb, State string }

func (s *soak) newest() (r record) {
	cmd := program("runs", "--root", s.srv(), "--state", s.state(), "--json")
	out, err := cmd.Output()
	if err != nil {
		s.fail("runs: %v %s", err, out)
	}
	line, _, _ := bytes.Cut(out, []byte("\n"))
	if err := json.Unmarshal(line, &r); err != nil {
		s.fail("runs: %v %s", err, out)
	}
	return r
}

// fail ends the soak, and keeps what is needed to look into it.
func (s *soak) fail(format string, a ...any) {
	s.t.Helper()
	kept, err := os.MkdirTemp("", "rightful-soak-")
	if err == nil {
		var out []byte
		if out, err = exec.Command("cp", "-a", s.dir+"/.", kept).CombinedOutput(); err != nil {
			err = fmt.Errorf("%w %s", err, out)
		}
	}
	s.t.Logf("round %d; tree and state directory are kept in %s (%v)", s.rounds, kept, err)
	s.t.Fatalf(format, a...)
}

// round repairs until the repair is through, killed again and again, and takes it back, killed again and again.
func (s *soak) round() {
	s.rounds++
	if err := os.RemoveAll(s.state()); err != nil {
		s.t.Fatal(err)
	}
	victims := s.victims()
	if s.rng.IntN(3) == 0 {
		s.attacks++
		play := filepath.Join(s.srv(), "home/alice/play")
		treetest.Build(s.t, s.srv(), playground)
		steps := make([]string, len(attackSteps))
		for i, step := range attackSteps {
			steps[i] = strings.ReplaceAll(step, "VICTIMS", filepath.Join(s.srv(), "victims"))
		}
		stop := treetest.Attack(s.t, 20001, play, steps...)
		defer func() {
			stop()
			if err := os.RemoveAll(play); err != nil {
				s.t.Fatal(err)
			}
			if diff := cmp.Diff(lines(victims), lines(s.victims())); diff != "" {
				s.fail("somebody else was harmed:\n%s", diff)
			}
		}()
	}
	verb := "fix"
	for tries := 0; verb != ""; tries++ {
		killed, code, out := s.run(tries < 6, verb)
		r := s.newest()
		switch {
		case killed && r.Kind != "run":
			s.is("killed before the run began", s.before)
		case killed && (r.State == "interrupted" || r.State == "failed"):
			verb = []string{"undo", "resume"}[s.rng.IntN(2)]
			continue
		case code == 3 && verb == "undo" && strings.Contains(out, "no run left to undo"):
			s.is("nothing to undo", s.before)
			return
		case !killed && code > 1:
			s.fail("%s: exit %d: %s", verb, code, out)
		case r.State != "done":
			s.fail("%s ended, but the run is %s: %s", verb, r.State, out)
		case r.Verb == "undo":
			s.is(verb+" of an undo", s.before)
			verb = ""
		default:
			s.is(verb+" of a fix", s.after)
			verb = "undo"
		}
	}
}

// is compares the tree by the eyes of other tools.
func (s *soak) is(what, want string) {
	s.t.Helper()
	s.ended[what]++
	if diff := cmp.Diff(lines(want), lines(s.listing())); diff != "" {
		s.fail("%s: the tree is not exact (-want +now):\n%s", what, diff)
	}
}

// soakTime is how long to soak; 0 means not at all, but for the short form.
func soakTime(t *testing.T) time.Duration {
	text := os.Getenv("SOAKTIME")
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("read SOAKTIME: %v", err)
	}
	return d
}

// Killed at any point of fix, undo and resume, and again while that is recovered, with a tenant who renames, links and
// chmods all the while in a third of the rounds: the tree comes to exactly what was planned, and back to exactly what it
// was, as stat, getfacl and getcap see it. On tmpfs and on ext4.
func TestSoakOfKillsRecoversExactly(t *testing.T) {
	treetest.NeedRoot(t)
	seed := uint64(1)
	long := soakTime(t)
	if long > 0 {
		seed = uint64(time.Now().UnixNano())
	}
	if text := os.Getenv("SOAKSEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("read SOAKSEED: %v", err)
		}
	}
	for _, kind := range []string{"tmpfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			t.Logf("SOAKSEED=%d", seed)
			start := time.Now()
			s := newSoak(t, treetest.Mounted(t, kind, ""), seed)
			want, next := shortKills, start
			if long > 0 {
				want = soakKills / 2
			}
			first := int64(0)
			for s.killed() < want && (long == 0 || time.Since(start) < long/2) {
				s.round()
				if s.rounds == 10 {
					first = s.maxRSS
				}
				if long > 0 && time.Since(next) > 10*time.Second {
					next = time.Now()
					t.Logf("%s: %d rounds, %d kills %v in %v", kind, s.rounds, s.killed(), s.kills, time.Since(start).Round(time.Second))
				}
			}
			t.Logf("%s: %d rounds (%d under attack), %d kills %v in %v; compared %v; at most %d KiB resident (%d in the first ten rounds)",
				kind, s.rounds, s.attacks, s.killed(), s.kills, time.Since(start).Round(time.Millisecond), s.ended, s.maxRSS, first)
		})
	}
}
