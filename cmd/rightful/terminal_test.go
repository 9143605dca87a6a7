package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rightful/internal/tree/treetest"

	"golang.org/x/sys/unix"
)

// onTerminal starts the program as the leader of a session on a terminal of its own.
func onTerminal(t *testing.T, args ...string) (*exec.Cmd, *os.File) {
	t.Helper()
	treetest.NeedRoot(t)
	master, slave := openPTY(t)
	defer slave.Close()
	cmd := program(args...)
	cmd.Env = append(cmd.Env, "TERM=dumb")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	return cmd, master
}

// readUntil reads from a terminal until what was read ends in text, and gives all of it.
func readUntil(t *testing.T, master *os.File, text string) string {
	t.Helper()
	var said strings.Builder
	b := make([]byte, 1)
	for !strings.HasSuffix(said.String(), text) {
		if _, err := master.Read(b); err != nil {
			t.Fatalf("it never said %q, but %q: %v", text, said.String(), err)
		}
		said.Write(b)
	}
	return said.String()
}

func ended(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

// A guarded command made a site worse. Who answers keeps it or takes it back, who types Ctrl-C keeps it; where the
// connection is lost while it is asked, nobody can say that it is to stay.
func TestWhatAGuardedCommandDidIsTakenBackWhereTheTerminalIsLost(t *testing.T) {
	for name, c := range map[string]struct {
		answer string // "": the terminal is closed
		code   int
		back   bool
	}{
		"yes": {"y\n", 4, true}, "no": {"n\n", 7, false}, "Ctrl-C": {"\x03", 7, false}, "lost": {"", 4, true},
	} {
		t.Run(name, func(t *testing.T) {
			srv := plainServer(t)
			docroot := filepath.Join(srv, "home/alice/public_html")
			if err := os.Chown(docroot, 20001, 33); err != nil {
				t.Fatal(err)
			}
			cmd, master := onTerminal(t, "guard", "--root", srv, "--state", filepath.Join(t.TempDir(), "state"), "--", "sh", "-c", `chmod 700 "$0"; exit 7`, docroot)
			readUntil(t, master, "[y/N] ")
			if c.answer == "" {
				master.Close()
			} else if _, err := master.WriteString(c.answer); err != nil {
				t.Fatal(err)
			}
			if got := ended(t, cmd); got != c.code {
				t.Errorf("it ended with %d, want %d", got, c.code)
			}
			st, err := os.Stat(docroot)
			if err != nil {
				t.Fatal(err)
			}
			if back := st.Mode().Perm() == 0o750; back != c.back {
				t.Errorf("taken back: %v, want %v", back, c.back)
			}
		})
	}
}

// What a customer wrote into a file cannot write to the terminal of who looks at it in the vault.
func TestWhatIsInTheVaultCannotWriteToATerminal(t *testing.T) {
	srv := plainServer(t)
	treetest.Build(t, srv, `
		f 0600 20001:20001 home/alice/.netrc = "machine \x1b]0;owned\x07"
		f 0600 20001:20001 home/alice/.my.cnf = "password=x\n"`)
	where := []string{"--root", srv, "--state", filepath.Join(t.TempDir(), "state")}
	if out, err := program(append([]string{"vault", "take"}, where...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	extract := func(path string) (*exec.Cmd, *os.File) {
		return onTerminal(t, append([]string{"vault", "extract", "alice", path}, where...)...)
	}
	cmd, master := extract("/home/alice/.netrc")
	if said := readUntil(t, master, "| cat -v\r\n"); strings.Contains(said, "\x1b") {
		t.Errorf("it said %q", said)
	}
	if got := ended(t, cmd); got != 2 {
		t.Errorf("it ended with %d, want 2", got)
	}
	cmd, master = extract("/home/alice/.my.cnf")
	readUntil(t, master, "password=x\r\n")
	if got := ended(t, cmd); got != 0 {
		t.Errorf("it ended with %d, want 0", got)
	}
}
