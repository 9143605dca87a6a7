package hostbox

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func panels(t *testing.T, f func(t *testing.T, b *Box)) {
	for _, panel := range []string{"cpanel", "plain", "nginx"} {
		t.Run(panel, func(t *testing.T) { f(t, StartFor(t, Spec{Panel: panel, Log: testLog{t}})) })
	}
}

// testLog passes what the box says on to the test's log.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Logf("%s", p)
	return len(p), nil
}

// eventually polls until ok holds; the kernel does what it does after a close in its own time.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after a minute still not so: %s", what)
		}
	}
}

func TestEverySiteAnswersOverHTTP(t *testing.T) {
	panels(t, func(t *testing.T, b *Box) {
		ctx := t.Context()
		secure := 0
		for _, a := range b.Accounts() {
			for _, s := range a.Sites {
				for _, host := range s.Domains {
					if !slices.ContainsFunc(s.Listen, func(l string) bool { return strings.HasPrefix(l, "https:") }) {
						continue
					}
					secure++
					if code, _, err := b.GetTLS(ctx, host, "/"); err != nil || code != http.StatusOK {
						t.Errorf("GET https://%s/: %d, %v, want 200", host, code, err)
					}
				}
				for _, host := range s.Domains {
					if code, _, err := b.Visit(ctx, host, "/"); err != nil || code != http.StatusOK {
						t.Errorf("GET http://%s/: %d, %v, want 200", host, code, err)
					}
				}
				for _, p := range []string{
					"/css/print%20style.css", "/img/%C3%A9t%C3%A9.jpg", "/it's%20%22quoted%22.txt", "/%E5%90%8D%E5%89%8D.html",
					"/latest.jpg", "/downloads/catalogue.pdf", "/team/notes.txt", "/members/", "/wp/no/such/page",
				} {
					if code, _, err := b.Visit(ctx, s.Name, p); err != nil || code != http.StatusOK {
						t.Errorf("GET http://%s%s: %d, %v, want 200", s.Name, p, code, err)
					}
				}
				for _, p := range []string{"/.env", "/backup.sql", "/.htaccess"} {
					if code, _, err := b.Visit(ctx, s.Name, p); err != nil || code != http.StatusForbidden {
						t.Errorf("GET http://%s%s: %d, %v, want 403", s.Name, p, code, err)
					}
				}
			}
		}
		if secure == 0 {
			t.Error("no site answers over TLS")
		}
	})
}

func TestPHPAndCGIRunAsTheAccount(t *testing.T) {
	panels(t, func(t *testing.T, b *Box) {
		ctx := t.Context()
		for _, a := range b.Accounts() {
			s := a.Sites[0]
			want := fmt.Sprintf("%s served as uid %d\n", s.Name, a.UID)
			if code, body, err := b.Visit(ctx, s.Name, "/info.php"); err != nil || code != 200 || body != want {
				t.Errorf("GET http://%s/info.php: %d %q, %v, want %q", s.Name, code, body, err, want)
			}
			if !slices.Contains(s.CGI, s.DocRoot+"/cgi-bin") {
				continue
			}
			want = fmt.Sprintf("cgi as uid %d\n", a.UID)
			if code, body, err := b.Get(ctx, s.Name, "/cgi-bin/hello.cgi"); err != nil || code != 200 || body != want {
				t.Errorf("GET http://%s/cgi-bin/hello.cgi: %d %q, %v, want %q", s.Name, code, body, err, want)
			}
		}
	})
}

func TestEveryHomeIsOfTheSizeAndKindThatTestsCountOn(t *testing.T) {
	panels(t, func(t *testing.T, b *Box) {
		out, err := b.Run(t.Context(), `
			for u in alice bob leo; do find "/home/$u" | wc -l; done
			stat -c '%U:%G %a' /home /home/alice /home/alice/public_html
			find /home /home2 -type f -perm /111 | grep -c .
			getfacl -R -s -P -p /home 2>/dev/null | grep -c '^# file'
			stat -f -c %T /home /home2 /srv
			cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z ' || :`)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(out, "\n")
		for i, u := range []string{"alice", "bob", "leo"} {
			if n, _ := strconv.Atoi(lines[i]); n < 60 || n > 400 {
				t.Errorf("%s has %d entries, want 60 to 400", u, n)
			}
		}
		group := b.world.webGroup
		want := []string{"root:root 711", "alice:alice 711", "alice:" + group + " 750"}
		if diff := cmp.Diff(want, lines[3:6]); diff != "" {
			t.Errorf("owners and modes (-want +got):\n%s", diff)
		}
		for i, what := range map[int]string{6: "executable files", 7: "entries with an ACL"} {
			if n, _ := strconv.Atoi(lines[i]); n < 4 {
				t.Errorf("%d %s, want some", n, what)
			}
		}
		if got := strings.Join(lines[8:11], " "); got != "ext2/ext3 ext2/ext3 ext2/ext3" && got != "tmpfs tmpfs tmpfs" {
			t.Errorf("homes are on %q", got)
		}
		if lines[11] != "0" {
			t.Errorf("%s processes that nobody has reaped", lines[11])
		}
	})
}

func TestTheSameBoxComesAtEveryStart(t *testing.T) {
	one, two := StartFor(t, Spec{}), StartFor(t, Spec{})
	a, err := one.Listing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := two.Listing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := Differ(a, b, 10); len(diff) > 0 || len(a) < 1000 {
		t.Errorf("two new boxes differ (of %d bytes):\n%s", len(a), strings.Join(diff, "\n"))
	}
}

func TestTwoBoxesAtOnceDoNotMeet(t *testing.T) {
	boxes := make([]*Box, 2)
	var wg sync.WaitGroup
	for i, panel := range []string{"cpanel", "plain"} {
		wg.Go(func() { boxes[i], _ = Start(context.Background(), Spec{Panel: panel, Accounts: 3}) })
	}
	wg.Wait()
	for _, b := range boxes {
		if b == nil {
			if missing := Requirements(); len(missing) > 0 {
				t.Skipf("needs %s", strings.Join(missing, ", "))
			}
			t.Fatal("a box did not start beside another")
		}
		defer b.Close()
	}
	if err := StripGroup(t.Context(), boxes[0], "alice"); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{http.StatusForbidden, http.StatusOK} {
		if code, _, err := boxes[i].Get(t.Context(), "alice.example", "/"); code != want || err != nil {
			t.Errorf("box %d answers %d, %v, want %d", i, code, err, want)
		}
	}
}

// remains names what is left of a box on the machine: processes in its namespace, loop devices on its images, mounts.
func remains(token, pidns string) (left []string) {
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range loops {
		if b, _ := os.ReadFile(f); strings.Contains(string(b), token) {
			left = append(left, f)
		}
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	for _, f := range procs {
		if ns, _ := os.Readlink(f); ns == pidns && pidns != "" {
			left = append(left, f)
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	if strings.Contains(string(mounts), "hostbox") || strings.Contains(string(mounts), token) {
		left = append(left, "/proc/self/mountinfo")
	}
	return left
}

// machine is what a box must not change: the machine's users, homes, web configuration and temporary files.
func machine(t *testing.T) string {
	t.Helper()
	var s strings.Builder
	for _, f := range []string{
		"/etc/passwd", "/etc/group", "/etc/shadow", "/etc/hosts", "/etc/apache2/apache2.conf", "/etc/dovecot/dovecot.conf",
	} {
		b, _ := os.ReadFile(f)
		fmt.Fprintf(&s, "%s %q\n", f, b)
	}
	for _, d := range []string{
		"/home", "/home2", "/srv", "/etc/apache2", "/etc/apache2/suexec", "/run/php", "/var/www", "/var/cpanel",
		"/etc/dovecot", "/etc/exim4", "/run/dovecot", "/run/exim4", "/var/lib/dovecot", "/var/spool/exim4", "/var/spool/exim4/input",
		"/var/spool/cron", "/etc/valiases", "/etc/proftpd",
	} {
		entries, _ := os.ReadDir(d)
		for _, e := range entries {
			fmt.Fprintf(&s, "%s/%s\n", d, e.Name())
		}
	}
	st, err := os.Stat("/usr/lib/apache2/suexec-custom")
	fmt.Fprintln(&s, st.Mode(), st.Sys().(*syscall.Stat_t).Gid, err)
	names, _ := filepath.Glob(filepath.Join(os.TempDir(), "*hostbox*"))
	fmt.Fprintln(&s, names)
	return s.String()
}

func TestCloseLeavesNothing(t *testing.T) {
	for name, spec := range map[string]Spec{"web": {Accounts: 2}, "web and mail": {Accounts: 2, Mail: true}} {
		t.Run(name, func(t *testing.T) { closeLeavesNothing(t, spec) })
	}
}

func closeLeavesNothing(t *testing.T, spec Spec) {
	if missing := spec.requirements(); len(missing) > 0 {
		t.Skipf("needs %s", strings.Join(missing, ", "))
	}
	before := machine(t)
	b, err := Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	pidns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", b.pid))
	if err != nil {
		t.Fatal(err)
	}
	sleeper := b.Command(t.Context(), "sleep", "1000")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	if len(remains(b.token, pidns)) == 0 {
		t.Error("the test sees nothing of a living box")
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	sleeper.Wait()
	if err := b.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	eventually(t, "the box is gone", func() bool { return len(remains(b.token, pidns)) == 0 })
	if diff := cmp.Diff(before, machine(t)); diff != "" {
		t.Errorf("the machine changed (-before +after):\n%s", diff)
	}
}

// TestMain lets the test binary be the program that is killed with a box in its hands.
func TestMain(m *testing.M) {
	if os.Getenv("HOSTBOX_HOLD") == "" {
		os.Exit(m.Run())
	}
	b, err := Start(context.Background(), Spec{Accounts: 2})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", b.pid))
	fmt.Println(b.token, ns, err)
	select {}
}

func TestABoxDiesWithItsKilledParent(t *testing.T) {
	if missing := Requirements(); len(missing) > 0 {
		t.Skipf("needs %s", strings.Join(missing, ", "))
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "HOSTBOX_HOLD=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var token, ns, e string
	_, scanErr := fmt.Fscanln(bufio.NewReader(out), &token, &ns, &e)
	cmd.Process.Kill()
	cmd.Wait()
	if scanErr != nil || e != "<nil>" {
		t.Fatalf("the child said %q %q %q, %v", token, ns, e, scanErr)
	}
	eventually(t, "the box of the killed process is gone", func() bool { return len(remains(token, ns)) == 0 })
}

func TestCommandsRunInTheBoxAsWhomTheySay(t *testing.T) {
	b := StartFor(t, Spec{Panel: "plain", Accounts: 2})
	ctx := t.Context()
	for _, test := range []struct{ user, want string }{
		{"", "0 0 0 root box"},
		{"bob", "20002 20002 20002 bob box"},
		{"www-data", "33 33 33 www-data box"},
	} {
		const script = "echo $(id -u) $(id -g) $(id -G) $USER $(hostname)"
		cmd := b.Command(ctx, "sh", "-c", script)
		if test.user != "" {
			cmd = b.CommandAs(ctx, test.user, "sh", "-c", script)
		}
		out, err := cmd.Output()
		if got := strings.TrimSpace(string(out)); err != nil || got != test.want {
			t.Errorf("as %q: %q, %v, want %q", test.user, got, err, test.want)
		}
	}
	if err := b.CommandAs(ctx, "bob", "cat", "/home/alice/.env").Run(); err == nil {
		t.Error("bob reads what is alice's alone")
	}
	if text, err := os.ReadFile(b.PathInHost("/home/alice/.bashrc")); err != nil || string(text) != "# alice\n" {
		t.Errorf("from outside: %q, %v", text, err)
	}
}

func TestACancelledCommandEndsInTheBox(t *testing.T) {
	b := StartFor(t, Spec{Panel: "plain", Accounts: 1})
	ctx, cancel := context.WithCancel(t.Context())
	cmd := b.Command(ctx, "sh", "-c", "echo started; exec sleep 1000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	cancel()
	cmd.Wait()
	eventually(t, "no sleep is left in the box", func() bool {
		_, err := b.Run(t.Context(), "! grep -qx sleep /proc/[0-9]*/comm")
		return err == nil
	})
}

func TestTheWebServerStopsAndStarts(t *testing.T) {
	panels(t, func(t *testing.T, b *Box) {
		ctx := t.Context()
		if err := b.StopWeb(ctx); err != nil {
			t.Fatal(err)
		}
		if code, _, err := b.Get(ctx, "alice.example", "/"); err == nil {
			t.Errorf("a stopped server answers %d", code)
		}
		if err := b.StopWeb(ctx); err != nil {
			t.Errorf("second StopWeb: %v", err)
		}
		for range 3 {
			if err := b.ReloadWeb(ctx); err != nil {
				t.Fatal(err)
			}
			if code, _, err := b.Get(ctx, "alice.example", "/"); err != nil || code != http.StatusOK {
				t.Errorf("a started server answers %d, %v", code, err)
			}
		}
	})
}

func TestTheWebServerItselfListsEverySite(t *testing.T) {
	panels(t, func(t *testing.T, b *Box) {
		list := "set +u; [ ! -f /etc/apache2/envvars ] || . /etc/apache2/envvars; apache2 -t -D DUMP_VHOSTS"
		if b.Panel == "nginx" {
			list = "nginx -T"
		}
		out, err := b.Run(t.Context(), list)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range b.Sites() {
			if !slices.Contains(strings.Fields(out), s.Host) {
				t.Errorf("the web server does not know %q", s.Host)
			}
		}
	})
}

func TestABoxRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, spec := range []Spec{{Panel: "webmin"}, {Panel: "plain", Mail: true}, {Accounts: -1}, {Accounts: maxAccounts + 1}} {
		if b, err := Start(t.Context(), spec); err == nil {
			b.Close()
			t.Errorf("%+v: started", spec)
		}
	}
	if len(Requirements()) > 0 {
		return
	}
	b, err := Start(t.Context(), Spec{Binary: "/no/such/binary"})
	if err == nil {
		b.Close()
		t.Error("started without its binary")
	} else if !strings.Contains(err.Error(), "/no/such/binary") {
		t.Errorf("the error does not name the binary: %v", err)
	}
}
