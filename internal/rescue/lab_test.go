package rescue

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"rightful/internal/archive"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"
)

// TestMain lets the test binary stand for the program that is run again as a worker.
func TestMain(m *testing.M) {
	switch {
	case treetest.Child():
	case slices.Equal(os.Args[1:], []string{WorkerVerb}):
		if Work(context.Background(), os.Stdin, os.Stdout) != nil {
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

const (
	aliceUID = 20001
	bobUID   = 20002
)

// A lab is a server with one home, and a rescue of it.
type lab struct {
	t   testing.TB
	dir string // stands for /
	s   *tree.Server
	r   *Record
	q   *Quarantine
}

// around is what nothing may happen to.
const around = `
d 0755 0:0 home
d 0711 20001:20001 home/alice
f 0600 20001:20001 home/alice/old = old
f 0644 0:0 home/victim = victim
f 0600 0:0 home/secret = secret
d 0755 20002:20002 home/bob
f 0644 20002:20002 home/bob/file = bob
`

func newLab(t testing.TB) *lab {
	t.Helper()
	return labAt(t, treetest.OpenDir(t))
}

func labAt(t testing.TB, dir string) *lab {
	t.Helper()
	treetest.NeedRoot(t)
	treetest.Build(t, dir, around)
	l := &lab{t: t, dir: dir}
	var err error
	if l.s, err = tree.OpenServer(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.s.Close)
	l.r = &Record{ID: "20260101-000000-test", UID: aliceUID, GID: aliceUID, Home: "/home/alice"}
	l.r.Quarantine = QuarantinePath(l.r.Home, l.r.ID)
	if l.q, err = MakeQuarantine(l.s, l.r); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.q.Close)
	return l
}

// at is where something of the quarantine is in truth.
func (l *lab) at(rel string) string { return filepath.Join(l.dir, l.r.Quarantine, rel) }

var roomy = Job{Places: archive.Places{{}}, MaxFile: 1 << 30, MaxBytes: 1 << 30, MaxEntries: 1 << 20}

func (l *lab) file(content []byte) *os.File {
	l.t.Helper()
	name := filepath.Join(l.t.TempDir(), "archive")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		l.t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { f.Close() })
	return f
}

func (l *lab) unpack(n int, content []byte, job Job) Counts {
	l.t.Helper()
	c, err := l.q.Unpack(context.Background(), n, l.file(content), job, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

// find lists what is below a directory, by the eyes of another program: path, kind, mode, owner, where a link points.
func (l *lab) find(rel, format string) []string {
	l.t.Helper()
	out, err := exec.Command("find", l.at(rel), "-mindepth", "1", "-printf", format+`\0`).Output()
	if err != nil {
		l.t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	slices.Sort(lines)
	return lines
}

// same makes sure that nothing around the quarantine changed while fn ran.
func (l *lab) same(fn func()) {
	l.t.Helper()
	l.sameOf([]string{"home/alice", "home/victim", "home/secret", "home/bob"}, fn)
}

// sameOf is same for some of it.
func (l *lab) sameOf(names []string, fn func()) {
	l.t.Helper()
	list := func() string { return treetest.Listing(l.t, l.dir, names...) }
	before := list()
	fn()
	if after := list(); after != before {
		l.t.Errorf("something around the quarantine changed:\n%s\nit was:\n%s", after, before)
	}
}

// wantReject makes sure that an entry was rejected for a reason.
func (l *lab) wantReject(c Counts, path, reason string) {
	l.t.Helper()
	for _, r := range c.Rejected {
		got := r.Path
		if r.PathB64 != nil {
			got = string(r.PathB64)
		}
		if got == path && strings.Contains(r.Reason, reason) {
			return
		}
	}
	l.t.Errorf("%.100q was not rejected because of %q", path, reason)
	for _, r := range c.Rejected {
		l.t.Logf("rejected: %.100q: %s", r.Path, r.Reason)
	}
}

var longAgo = time.Unix(1_000_000_000, 0)

// tarball writes a tar archive.
func tarball(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		body := h.Gname // which no test has another use for
		h.Gname = ""
		if h.Typeflag == 0 || h.Typeflag == tar.TypeReg {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(body))
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if h.ModTime.IsZero() {
			h.ModTime = longAgo
		}
		h.Format = tar.FormatPAX
		err := w.WriteHeader(&h)
		if err == nil && h.Typeflag == tar.TypeReg {
			_, err = w.Write([]byte(body))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(name, body string) tar.Header { return tar.Header{Name: name, Gname: body} }

func dir(name string, mode int64) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}
}

func link(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
}

func hard(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}
}

// runAs runs a program as somebody, and reports whether it succeeded.
func runAs(t *testing.T, uid uint32, name string, args ...string) (out string, ok bool) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(b), err == nil
}
