package rescue

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"rightful/internal/tree/treetest"

	"golang.org/x/sys/unix"
)

// A held worker has unpacked its first file and waits for the rest of the archive.
type held struct {
	l    *lab
	pid  int
	rest []byte
	w    *os.File
	done chan error
	c    Counts
}

// firstSize is more than a reader of a pipe looks at first.
const firstSize = 20 << 10

// hold starts a worker with a job, which reads from a pipe.
func (l *lab) hold() *held {
	l.t.Helper()
	if err := os.RemoveAll(l.at("1")); err != nil {
		l.t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		l.t.Fatal(err)
	}
	content := tarball(l.t, file("first", strings.Repeat("x", firstSize)), file("second", "second"))
	begin := 512 + firstSize
	h := &held{l: l, rest: content[begin:], w: w, done: make(chan error, 1)}
	go func() {
		defer r.Close()
		job := roomy
		job.Format = "tar"
		var err error
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		h.c, err = l.q.Unpack(ctx, 1, r, job, nil)
		h.done <- err
	}()
	if _, err := w.Write(content[:begin]); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { w.Close() })
	return h
}

// until waits for something to become true.
func until(t testing.TB, what string, true func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !true() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited too long until %s", what)
		}
	}
}

func children() (pids []int) {
	names, _ := filepath.Glob("/proc/self/task/*/children")
	for _, name := range names {
		b, _ := os.ReadFile(name)
		for _, f := range strings.Fields(string(b)) {
			pid, _ := strconv.Atoi(f)
			pids = append(pids, pid)
		}
	}
	return pids
}

// confined waits until the worker has unpacked its first file, and finds it.
func (h *held) confined() {
	h.l.t.Helper()
	until(h.l.t, "the first file is unpacked", func() bool {
		st, err := os.Stat(h.l.at("1/first"))
		return err == nil && st.Size() == firstSize
	})
	for _, pid := range children() {
		if root, err := os.Readlink(fmt.Sprintf("/proc/%d/root", pid)); err == nil && root == h.l.at("1") {
			h.pid = pid
		}
	}
	if h.pid == 0 {
		h.l.t.Fatal("no child has the quarantine as its root directory")
	}
}

func (h *held) status(pid int) map[string]string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil
	}
	out := map[string]string{}
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(line, ":")
		out[k] = strings.TrimSpace(v)
	}
	return out
}

// finish gives the worker the rest.
func (h *held) finish() error {
	h.w.Write(h.rest)
	h.w.Close()
	return <-h.done
}

// A worker has the account's uid and groups, no capability, no way to get one, its own root directory and no descriptor
// but what it needs: not what the program was started with, by a shell or a daemon that left it open.
func TestAWorkerHasNoRightButItsAccounts(t *testing.T) {
	l := newLab(t)
	for _, at := range []int{4, 40} { // one that a worker with one directory would take for its second, and one beyond
		fd, err := unix.Open(filepath.Join(l.dir, "home/secret"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if at == 40 {
			if err := unix.Dup3(fd, at, 0); err != nil {
				t.Fatal(err)
			}
			defer unix.Close(at)
		}
	}
	h := l.hold()
	h.confined()
	uid := strconv.Itoa(aliceUID)
	s := h.status(h.pid)
	for field, want := range map[string]string{
		"Uid": strings.Repeat(uid+"\t", 3) + uid, "Gid": strings.Repeat(uid+"\t", 3) + uid, "Groups": uid, "NoNewPrivs": "1",
		"CapPrm": strings.Repeat("0", 16), "CapEff": strings.Repeat("0", 16), "CapAmb": strings.Repeat("0", 16),
	} {
		if s[field] != want {
			t.Errorf("%s: %q, want %q", field, s[field], want)
		}
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", h.pid))
	if err != nil || len(tasks) < 2 {
		t.Errorf("threads: %v, %v", tasks, err)
	}
	for _, name := range tasks {
		b, err := os.ReadFile(name)
		if text := string(b); err == nil && (!strings.Contains(text, "NoNewPrivs:\t1") || !strings.Contains(text, "Uid:\t"+uid)) {
			t.Errorf("%s: a thread has kept rights:\n%s", name, text)
		}
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", h.pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		n, _ := strconv.Atoi(fd.Name())
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", h.pid, n))
		// The runtime has descriptors of its own: an epoll, an eventfd, and the control group's limits.
		if n > secondFile && !strings.HasPrefix(to, "anon_inode:") && !strings.HasPrefix(to, "/sys/fs/cgroup/") || strings.Contains(to, "secret") {
			t.Errorf("descriptor %d is %q", n, to)
		}
	}
	if err := h.finish(); err != nil || h.c.Files != 2 {
		t.Errorf("%+v, %v", h.c, err)
	}
}

// The account's other processes have the worker's uid, and cannot look into it, nor at what it has open.
func TestTheAccountCannotReachTheQuarantineThroughTheWorker(t *testing.T) {
	l := newLab(t)
	h := l.hold()
	h.confined()
	pid := strconv.Itoa(h.pid)
	for _, path := range []string{
		"/proc/" + pid + "/root/first", "/proc/" + pid + "/cwd/first", "/proc/" + pid + "/fd/3/first", "/proc/" + pid + "/fd/4", "/proc/" + pid + "/environ",
		"/proc/" + pid + "/mem", l.at("1/first"),
	} {
		if out, ok := runAs(t, aliceUID, "dd", "if="+path, "count=1", "of=/dev/null", "status=none"); ok {
			t.Errorf("%s can be read: %s", path, out)
		}
	}
	if err := h.finish(); err != nil {
		t.Error(err)
	}
}

// A worker that the account has stopped goes on; one that it has killed ends the work with an error, and the same source can
// be unpacked again.
func TestTheAccountCannotHoldUpTheWorker(t *testing.T) {
	l := newLab(t)
	h := l.hold()
	h.confined()
	if out, ok := runAs(t, aliceUID, "kill", "-STOP", strconv.Itoa(h.pid)); !ok {
		t.Fatal(out)
	}
	if err := h.finish(); err != nil || h.c.Files != 2 {
		t.Errorf("%+v, %v", h.c, err)
	}
	h = l.hold()
	h.confined()
	if out, ok := runAs(t, aliceUID, "kill", "-KILL", strconv.Itoa(h.pid)); !ok {
		t.Fatal(out)
	}
	if err := h.finish(); err == nil {
		t.Error("the worker was killed, and nobody said so")
	}
	if c := l.unpack(1, tarball(t, file("a", "a")), roomy); c.Files != 1 || len(l.find("1", "%P")) != 1 {
		t.Errorf("%+v, %v", c, l.find("1", "%P"))
	}
}

// With the directory of a home that is open from before, and the uid of the worker, a process of the account's that links,
// renames and replaces all the while reaches nothing but what is its own.
func TestAnAccountThatRacesItsCopyHarmsNobody(t *testing.T) {
	l := labAt(t, treetest.Mounted(t, "tmpfs", ""))
	treetest.Build(t, l.dir, `
d 0755 20001:20001 home/alice/d
d 0755 20001:20001 home/alice/d/e
f 0644 20001:20001 home/alice/d/e/f = own
f 0644 20001:20001 home/alice/d/g = own
`)
	stop := treetest.Attack(t, aliceUID, filepath.Join(l.dir, "home/alice/d"),
		"symlink "+l.dir+"/home s", "exchange e s", "exchange e s", "symlink ../../secret t", "exchange g t", "exchange g t", "unlink s", "unlink t",
		"rename e x", "rename x e", "link ../../victim v", "unlink v", "chmod 000 g", "chmod 644 g")
	ruin, err := os.Open(filepath.Join(l.dir, "home/alice"))
	if err != nil {
		t.Fatal(err)
	}
	defer ruin.Close()
	job := roomy
	job.Home = true
	for range 50 {
		if _, err := l.q.Copy(context.Background(), 1, ruin, job, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := l.q.Merge(context.Background(), 1); err != nil {
			t.Fatal(err)
		}
		for _, entry := range l.find("home", "%p %y") {
			path, kind, _ := strings.Cut(entry, " ")
			if b, err := os.ReadFile(path); kind == "f" && (err != nil || strings.Contains(string(b), "secret") || strings.Contains(string(b), "victim")) {
				t.Fatalf("%s: %q, %v", path, b, err)
			}
		}
		if err := l.q.remove(context.Background(), homeDir); err != nil {
			t.Fatal(err)
		}
	}
	for i, n := range stop() {
		if n == 0 && i != 10 && i != 11 { // protected_hardlinks
			t.Errorf("step %d of the attack was never made", i)
		}
	}
	for name, want := range map[string]string{"victim": "victim", "secret": "secret", "bob/file": "bob"} {
		if b, err := os.ReadFile(filepath.Join(l.dir, "home", name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}
