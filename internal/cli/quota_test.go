package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"rightful"
	"rightful/internal/cli"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
)

// rootsPages are alice's and bob's pages as somebody unpacked them: root owns them, and everybody may read them. Of alice's
// four entries one is a directory, and one has two names.
type rootsPages struct {
	t      *testing.T
	srv    string
	env    cli.Env
	stderr bytes.Buffer
	adds   int64 // bytes that a repair gives to alice, as stat counts them
}

func newRootsPages(t *testing.T, dir string) *rootsPages {
	t.Helper()
	p := &rootsPages{t: t, srv: filepath.Join(dir, "srv")}
	if err := buildServer(p.srv, "plain", "testdata/tree"); err != nil {
		t.Fatal(err)
	}
	p.sh(`cd "$0"/home && ln alice/public_html/img/a.png alice/public_html/img/again.png &&
		chown 0:0 alice/public_html/*.html alice/public_html/img alice/public_html/img/a.png bob/public_html/index.html && sync`)
	for _, n := range strings.Fields(p.sh(`cd "$0"/home/alice/public_html && stat -c '%b' *.html img img/a.png`)) {
		blocks, err := strconv.ParseInt(n, 10, 64)
		if err != nil || blocks == 0 {
			t.Fatalf("a page takes %q blocks: %v", n, err)
		}
		p.adds += blocks * 512
	}
	state := filepath.Join(t.TempDir(), "state")
	p.env = cli.Env{Getenv: func(k string) string {
		if k == "RIGHTFUL_STATE" {
			return state
		}
		return ""
	}}
	return p
}

func (p *rootsPages) sh(script string) string {
	p.t.Helper()
	out, err := exec.Command("sh", "-euc", script, p.srv).CombinedOutput()
	if err != nil {
		p.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// run runs the program in this process and demands an exit code.
func (p *rootsPages) run(want int, args ...string) string {
	p.t.Helper()
	var out bytes.Buffer
	p.stderr.Reset()
	env := p.env
	env.Stdout, env.Stderr, env.Args = &out, &p.stderr, append(args, "--root", p.srv)
	if code := cli.Main(p.t.Context(), env); code != want {
		p.t.Errorf("%q: exit %d, want %d\n%s%s", args, code, want, out.String(), p.stderr.String())
	}
	return out.String()
}

// owners demands who owns the pages, alice's first.
func (p *rootsPages) owners(when string, alice, bob int) {
	p.t.Helper()
	got := p.sh(`cd "$0"/home && stat -c %u alice/public_html/*.html alice/public_html/img/a.png bob/public_html/index.html`)
	if want := fmt.Sprintf("%[1]d\n%[1]d\n%[1]d\n%[2]d\n", alice, bob); got != want {
		p.t.Errorf("%s the pages belong to %q, want %q", when, got, want)
	}
}

// overQuota gives the finding about a home, and the plan's own line.
func (p *rootsPages) lines(out string) (over []rightful.Finding, quota []rightful.QuotaChange) {
	p.t.Helper()
	for line := range strings.Lines(out) {
		var x struct {
			Kind  string
			Quota []rightful.QuotaChange
		}
		var f rightful.Finding
		if err := json.Unmarshal([]byte(line), &x); err != nil {
			p.t.Fatalf("%v in %s", err, line)
		}
		if x.Kind == "plan" {
			quota = x.Quota
		}
		if x.Kind == "finding" && json.Unmarshal([]byte(line), &f) == nil && f.Problem == "over-quota" {
			over = append(over, f)
		}
	}
	return over, quota
}

// hold is the promise: alice has hard-limited space for all but the last byte of what a repair would give her.
func (p *rootsPages) hold(has int64) {
	t := p.t
	over, _ := p.lines(p.run(1, "check", "--json"))
	note := fmt.Sprintf("for alice the repair would make %s of %s, and the hard limit is ", rightful.SizeText(has+p.adds), rightful.SizeText(has))
	if len(over) != 1 || over[0].Path != "/home/alice" || over[0].Accept != "quota:alice" || !strings.Contains(over[0].Note, note) || over[0].Have.UID != 20001 {
		t.Errorf("check says %+v; want over-quota of /home/alice with %q", over, note)
	}
	if text := p.run(1, "check"); strings.Count(text, "--accept=quota:alice") != 1 || !strings.Contains(text, "to take that risk: rightful fix alice --accept=quota:alice --root "+p.srv) {
		t.Errorf("check does not say once how to take the risk:\n%s", text)
	}
	_, quota := p.lines(p.run(1, "fix", "--dry-run", "--json"))
	for _, q := range quota {
		if q.UID == 20001 {
			t.Errorf("the plan gives alice something: %+v", quota)
		}
	}
	p.run(1, "fix", "--yes")
	p.owners("after fix", 0, 20002)

	_, quota = p.lines(p.run(1, "fix", "--dry-run", "--json", "--accept=quota:alice"))
	want := []rightful.QuotaChange{{UID: 0, Bytes: -p.adds, Inodes: -4}, {UID: 20001, Bytes: p.adds, Inodes: 4}}
	if diff := cmp.Diff(want, quota); diff != "" {
		t.Errorf("what the plan moves (-want +got):\n%s", diff)
	}
	p.run(0, "fix", "--yes", "--accept=quota:alice")
	p.owners("after fix with the risk taken", 20001, 20002)
	if line := fmt.Sprintf("quota: alice +%s in 4 files; root −%[1]s in 4 files\n", rightful.SizeText(p.adds)); !strings.Contains(p.stderr.String(), line) {
		t.Errorf("fix does not say %q:\n%s", line, p.stderr.String())
	}
}

// An account that a repair would put above its hard limit is left out, with the figures, until that risk is taken; the
// others are repaired. The quota is one that the test gives.
func TestAnAccountThatWouldEndAboveItsQuotaIsLeftOut(t *testing.T) {
	treetest.NeedRoot(t)
	p := newRootsPages(t, treetest.OpenDir(t))
	const has = 100 << 20
	for name, q := range map[string]tree.Quota{
		"space":  {Bytes: has, HardBytes: uint64(has + p.adds - 1)},
		"inodes": {Bytes: has, Inodes: 10, HardInodes: 13},
	} {
		t.Run(name, func(t *testing.T) {
			p := newRootsPages(t, treetest.OpenDir(t))
			p.env.Quota = func(dir string, uid uint32) (tree.Quota, bool, error) {
				return q, uid == 20001 && dir == "/home/alice", nil
			}
			if name == "space" {
				p.hold(has)
				return
			}
			over, _ := p.lines(p.run(1, "check", "--json"))
			if len(over) != 1 || !strings.Contains(over[0].Note, "for alice the repair would make 14 files of 10 files, and the hard limit is 13 files") {
				t.Errorf("check says %+v", over)
			}
		})
	}
}

// A limit that is kept to the last byte, a soft one, none, and one that is not known keep nobody from being repaired.
func TestAQuotaThatIsKeptIsNoReasonToWait(t *testing.T) {
	treetest.NeedRoot(t)
	adds := uint64(newRootsPages(t, treetest.OpenDir(t)).adds)
	for name, c := range map[string]struct {
		q    tree.Quota
		err  error
		says string
	}{
		"kept":    {q: tree.Quota{Bytes: 5 << 10, HardBytes: 5<<10 + adds, Inodes: 1, HardInodes: 5}, says: "quota: alice +"},
		"soft":    {q: tree.Quota{Bytes: 5 << 10, SoftBytes: 5<<10 + adds - 1, HardBytes: 5<<10 + adds}, says: " in 4 files (above the soft limit); bob +"},
		"none":    {says: "quota: alice +"},
		"unknown": {err: os.ErrPermission, says: "quota: alice +"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newRootsPages(t, treetest.OpenDir(t))
			p.env.Quota = func(_ string, uid uint32) (tree.Quota, bool, error) {
				return c.q, uid == 20001 && name != "none", c.err
			}
			notes := p.run(1, "check", "--json")
			if want := map[string]string{"soft": "and the soft limit is ", "unknown": "it is not known whether the repair fits into the quota: permission denied"}[name]; !strings.Contains(notes, want) {
				t.Errorf("check does not say %q:\n%s", want, notes)
			}
			if text := p.run(1, "fix", "--dry-run"); !strings.Contains(text, c.says) {
				t.Errorf("the dry run does not say %q:\n%s", c.says, text)
			}
			p.run(0, "fix", "--yes")
			p.owners("after fix", 20001, 20002)
		})
	}
}

// The same on a file system that keeps quotas, which also confirms what the plan foretold.
func TestARealQuotaKeepsAnAccountOutOfThePlan(t *testing.T) {
	dir, ok := treetest.Quotas(t)
	if !ok {
		return
	}
	p := newRootsPages(t, dir)
	used := func() int64 {
		s, err := tree.OpenServer(p.srv)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		b, err := s.OpenBase("/home/alice")
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		q, ok, err := b.Quota(20001)
		if !ok || err != nil {
			t.Fatalf("read quota: %v, %v", ok, err)
		}
		return int64(q.Bytes)
	}
	has := used()
	treetest.SetQuota(t, dir, 20001, 0, uint64(has+p.adds)/1024-1, 0, 0)
	p.hold(has)
	if got := used(); got != has+p.adds {
		t.Errorf("alice takes %d bytes after the repair; %d before, and the plan said %d more", got, has, p.adds)
	}
}

// --jobs says how many accounts are looked at once. Two of them have a quota to be asked for, which is where they wait.
func TestJobsAreAsManyAsWereAskedFor(t *testing.T) {
	for jobs := 1; jobs <= 2; jobs++ {
		p := newRootsPages(t, treetest.OpenDir(t))
		synctest.Test(t, func(t *testing.T) {
			p.t = t // whose context belongs to the bubble
			asked, answered := make(chan string, 2), make(chan bool)
			p.env.Quota = func(dir string, _ uint32) (tree.Quota, bool, error) {
				asked <- dir
				<-answered
				return tree.Quota{}, false, nil
			}
			done := make(chan bool)
			go func() {
				p.run(1, "check", "--jobs", strconv.Itoa(jobs))
				close(done)
			}()
			for ended := range 2 {
				synctest.Wait()
				if n, want := len(asked), min(ended+jobs, 2); n != want {
					t.Errorf("--jobs %d: %d accounts are looked at when %d are done, want %d", jobs, n, ended, want)
				}
				answered <- true
			}
			<-done
		})
	}
}
