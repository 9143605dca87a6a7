package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rightful/internal/tree/treetest"

	"golang.org/x/sys/unix"
)

// plainServer builds a server whose three accounts have lost the web server's group on their document roots, and another
// page to open.
func plainServer(t *testing.T) (dir string) {
	t.Helper()
	dir = treetest.OpenDir(t)
	buildPlain(t, dir)
	return dir
}

func buildPlain(t *testing.T, dir string) {
	t.Helper()
	passwd, group, conf, homes := `root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:/bin/false\n`, `root:x:0:\nwww-data:x:33:\n`, `User www-data\nGroup www-data\n`, ""
	for i, name := range []string{"alice", "bob", "carol"} {
		passwd += fmt.Sprintf(`%s:x:%d:%[2]d::/home/%[1]s:/bin/sh\n`, name, 20001+i)
		group += fmt.Sprintf(`%s:x:%d:\n`, name, 20001+i)
		conf += fmt.Sprintf(`<VirtualHost *:80>\nServerName %s.example\nDocumentRoot /home/%[1]s/public_html\n</VirtualHost>\n`, name)
		homes += fmt.Sprintf(`
			d 0711 %d:%[1]d home/%s
			d 0750 %[1]d:%[1]d home/%[2]s/public_html
			f 0644 %[1]d:%[1]d home/%[2]s/public_html/index.html
			f 0600 %[1]d:%[1]d home/%[2]s/public_html/page.html`, 20001+i, name)
	}
	treetest.Build(t, dir, fmt.Sprintf(`
		d 0755 0:0 etc
		d 0755 0:0 etc/apache2
		d 0755 0:0 var
		d 0755 0:0 home
		f 0644 0:0 etc/passwd = "%s"
		f 0644 0:0 etc/group = "%s"
		f 0644 0:0 etc/nsswitch.conf = "passwd: files\n"
		f 0644 0:0 etc/apache2/apache2.conf = "%s"
		%s`, passwd, group, conf, homes))
}

// A gated process is the program with a FIFO in the place of /proc/loadavg: whenever it asks for the load, it waits until
// the test answers.
type gated struct {
	*exec.Cmd
	t    *testing.T
	fifo string
	gate *os.File // open while the process waits for an answer
	done chan error
	end  <-chan time.Time
	said *text
}

// text collects what a process writes.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.Write(p)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String()
}

// gate starts the program on a server, with --max-load 4 and one job.
func gate(t *testing.T, change func(*exec.Cmd), args ...string) *gated {
	t.Helper()
	treetest.NeedRoot(t)
	fifo := filepath.Join(t.TempDir(), "loadavg")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	const mount = `mount --bind "$0" /proc/loadavg`
	if out, err := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", mount, fifo).CombinedOutput(); err != nil {
		t.Skipf("needs mount namespaces: %v %s", err, out)
	}
	p := program(append(args, "--max-load", "4", "--jobs", "1", "--state", filepath.Join(t.TempDir(), "state"))...)
	g := &gated{t: t, fifo: fifo, done: make(chan error, 1), end: time.After(time.Minute), said: &text{}}
	g.Cmd = exec.Command("unshare", append([]string{"--mount", "--propagation", "private", "sh", "-c", mount + ` && exec "$@"`, fifo}, p.Args...)...)
	g.Env = p.Env
	g.Stderr = g.said
	if change != nil {
		change(g.Cmd)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { g.done <- g.Wait() }()
	t.Cleanup(func() { g.Process.Kill() })
	return g
}

// await polls until ok, for at most what is left of a minute.
func (g *gated) await(what string, ok func() bool) {
	g.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-g.end:
			g.t.Fatalf("after a minute still not so: %s; it said %q", what, g.said)
		}
	}
}

// asks waits until the process asks for the load; it is false when it ended instead.
func (g *gated) asks() bool {
	g.t.Helper()
	ended := false
	g.await("it asks for the load, or ends", func() bool {
		select {
		case err := <-g.done:
			g.done <- err
			ended = true
			return true
		default:
		}
		fd, err := unix.Open(g.fifo, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == nil {
			g.gate = os.NewFile(uintptr(fd), g.fifo)
		}
		return err == nil
	})
	if !ended { // a reader on its way in lets a writer in already
		g.await("it reads the load", g.reads)
	}
	return !ended
}

// reads reports whether the process has the FIFO open.
func (g *gated) reads() bool {
	fds := fmt.Sprintf("/proc/%d/fd", g.Process.Pid)
	names, err := os.ReadDir(fds)
	if err != nil && !os.IsNotExist(err) && !errors.Is(err, unix.ESRCH) { // it ended
		g.t.Fatal(err)
	}
	for _, n := range names {
		if to, _ := os.Readlink(filepath.Join(fds, n.Name())); to == "/proc/loadavg" {
			return true
		}
	}
	return false
}

// answer gives the process a load, and returns when it has taken it.
func (g *gated) answer(load string) {
	g.t.Helper()
	_, err := io.WriteString(g.gate, load+" 0.00 0.00 1/100 1000\n")
	g.gate.Close()
	if err != nil {
		g.t.Fatal(err)
	}
	g.await("it has read the load", func() bool { return !g.reads() })
}

// finish answers whatever is still asked, and demands an exit code.
func (g *gated) finish(want int) {
	g.t.Helper()
	for g.asks() {
		g.answer("0.10")
	}
	<-g.done
	if code := g.ProcessState.ExitCode(); code != want {
		g.t.Errorf("exit %d, want %d; it said %q", code, want, g.said)
	}
}

// yields tells for every thread of the process whether it has the lowest priority of processor and disk.
func (g *gated) yields() (low, normal int) {
	g.t.Helper()
	inherited, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		g.t.Fatal(err)
	}
	own := strconv.Itoa(20 - inherited) // the system call gives 20 less the niceness
	dir := fmt.Sprintf("/proc/%d/task", g.Process.Pid)
	tasks, err := os.ReadDir(dir)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		stat, serr := os.ReadFile(filepath.Join(dir, task.Name(), "stat"))
		prio, _, e := unix.Syscall(unix.SYS_IOPRIO_GET, 1, uintptr(tid), 0) // IOPRIO_WHO_PROCESS
		if os.IsNotExist(serr) || e == unix.ESRCH {
			continue // it ended meanwhile
		}
		if err != nil || serr != nil || e != 0 {
			g.t.Fatal(err, serr, e)
		}
		// proc(5): nice is field 19; the second, in parentheses, may hold blanks.
		nice := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[19-3]
		if idle := prio>>13 == 3; nice == "19" && idle {
			low++
		} else if nice == own && !idle {
			normal++
		} else {
			g.t.Errorf("thread %d has nice %s and I/O priority %#x", tid, nice, prio)
		}
	}
	return low, normal
}

// In the background, asked for or under a systemd timer, every thread yields processor and disk to everybody else; else
// none does.
func TestInTheBackgroundEveryThreadYields(t *testing.T) {
	srv := plainServer(t)
	for name, c := range map[string]struct {
		arg, env string
		yields   bool
	}{
		"asked for":      {"--background", "", true},
		"by variable":    {"--quiet=false", "RIGHTFUL_BACKGROUND=true", true},
		"under systemd":  {"--quiet=false", "INVOCATION_ID=0123456789abcdef0123456789abcdef", true},
		"nobody asks":    {"--quiet=false", "", false},
		"not even empty": {"--quiet=false", "INVOCATION_ID=", false},
	} {
		t.Run(name, func(t *testing.T) {
			g := gate(t, func(cmd *exec.Cmd) {
				cmd.Env = append(cmd.Env, "INVOCATION_ID=")
				if c.env != "" {
					cmd.Env = append(cmd.Env, c.env)
				}
			}, "check", "--root", srv, c.arg)
			looked := 0
			for g.asks() {
				low, normal := g.yields()
				if looked++; c.yields && normal > 0 || !c.yields && low > 0 || low+normal < 2 {
					t.Errorf("%d threads yield, %d do not", low, normal)
				}
				g.answer("0.10")
			}
			if looked != 3 {
				t.Errorf("looked %d times, want one for each account", looked)
			}
			g.finish(1)
		})
	}
}

// No account is begun while the load is too high: that is said once, and the load is asked for again.
func TestARunWaitsForTheLoadToFall(t *testing.T) {
	srv := plainServer(t)
	var out text
	g := gate(t, func(cmd *exec.Cmd) { cmd.Stdout = &out }, "check", "--root", srv, "--format", "nagios")
	for _, load := range []string{"4.00", "4.01", "9.99"} { // the first account may begin, the second may not
		if !g.asks() {
			t.Fatalf("it ended: %s", g.said)
		}
		g.answer(load)
	}
	if !g.asks() || out.String() != "" {
		t.Errorf("it did not wait: %q", out.String())
	}
	if got := g.said.String(); got != "the load is 4.01: waiting until it is 4 or less\n" {
		t.Errorf("it said %q", got)
	}
	g.answer("3.99")
	g.finish(2)
	if !strings.Contains(out.String(), "3 of 3 sites down") {
		t.Errorf("check says %q", out.String())
	}
}

// A repair waits before it changes the first account, not only while it looks.
func TestARepairWaitsForTheLoadToFall(t *testing.T) {
	srv := plainServer(t)
	g := gate(t, nil, "fix", "--root", srv, "--yes")
	for _, load := range []string{"0", "0", "0", "9.99"} {
		if !g.asks() {
			t.Fatalf("it ended: %s", g.said)
		}
		g.answer(load)
	}
	if !g.asks() || g.changed(srv) {
		t.Error("it did not wait")
	}
	if got := g.said.String(); !strings.HasPrefix(got, "plan ") || !strings.HasSuffix(got, "the load is 9.99: waiting until it is 4 or less\n") {
		t.Errorf("it said %q", got)
	}
	g.answer("0")
	g.finish(0)
	if !g.changed(srv) {
		t.Error("nothing was changed")
	}
}

// SIGUSR1 prints a line of progress, during check and during fix, where there is no terminal; nothing else of it is shown
// there.
func TestSIGUSR1PrintsProgressWithoutATerminal(t *testing.T) {
	srv := plainServer(t)
	poked := func(g *gated, pattern string) {
		t.Helper()
		if err := g.Process.Signal(unix.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		re := regexp.MustCompile(pattern)
		g.await("it said "+pattern, func() bool { return re.MatchString(g.said.String()) })
	}
	g := gate(t, nil, "check", "--root", srv)
	if !g.asks() {
		t.Fatal("it ended")
	}
	poked(g, `(?m)^checking: 0 entries$`)
	g.answer("0")
	g.asks()
	poked(g, `(?m)^checking: [1-9]\d* entries(, \S+/s)?$`)
	g.answer("0")
	g.finish(1)

	g = gate(t, nil, "fix", "--root", srv, "--yes")
	g.holdWhenChanged(srv)
	poked(g, `(?m)^changing: [1-9] of 6 entries(, \S+/s, \S+ left)?, .*stage 1 of`)
	g.answer("0")
	g.finish(0)
	if strings.ContainsAny(g.said.String(), "\r\x1b") {
		t.Errorf("what is for a terminal went to a pipe: %q", g.said)
	}
}

// holdWhenChanged answers until the first account has been changed, and leaves the process waiting.
func (g *gated) holdWhenChanged(srv string) {
	g.t.Helper()
	for g.asks() {
		if g.changed(srv) {
			return
		}
		g.answer("0")
	}
	g.t.Fatalf("it ended: %s", g.said)
}

// changed reports whether an account has got its group back.
func (g *gated) changed(srv string) bool {
	g.t.Helper()
	for _, name := range []string{"alice", "bob", "carol"} {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(srv, "home", name, "public_html"), &st); err != nil {
			g.t.Fatal(err)
		}
		if st.Gid == 33 {
			return true
		}
	}
	return false
}

// On a terminal a status line says how much of how much, how fast, and how long it will take, and is gone at the end.
func TestOnATerminalAStatusLineHasRateAndRemainingTime(t *testing.T) {
	srv := plainServer(t)
	master, slave := openPTY(t)
	g := gate(t, func(cmd *exec.Cmd) {
		cmd.Stderr = slave
		cmd.Env = append(cmd.Env, "TERM=xterm")
	}, "fix", "--root", srv, "--yes")
	slave.Close()
	go io.Copy(g.said, master)
	g.holdWhenChanged(srv)
	re := regexp.MustCompile(`\rchanging: [1-9] of 6 entries, [\d.]+/s, \d+s left, `)
	g.await("the status line is complete", func() bool { return re.MatchString(g.said.String()) })
	g.answer("0")
	g.finish(0)
	g.await("the line is gone", func() bool {
		said := g.said.String()
		return strings.LastIndex(said, "\r\x1b[K") > strings.LastIndex(said, "changing: ")
	})
}

// openPTY makes a pseudo-terminal of 120 columns.
func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 120})
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}
