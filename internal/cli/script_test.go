package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"rightful/internal/cli"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"rightful": func() { os.Exit(program()) },
		// asnobody ARGS runs rightful without root's rights.
		"asnobody": func() {
			if err := errors.Join(unix.Setgroups(nil), unix.Setresgid(65534, 65534, 65534), unix.Setresuid(65534, 65534, 65534)); err != nil {
				fmt.Fprintln(os.Stderr, "drop privileges:", err)
				os.Exit(99)
			}
			os.Exit(program())
		},
	})
}

// program is what cmd/rightful does, without a terminal.
func program() int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	return cli.Main(ctx, cli.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Args: os.Args[1:], Getenv: os.Getenv, EUID: os.Geteuid(),
	})
}

// TestScripts drives the real command. Beside testscript's own commands there are:
//
//	mktree DIR FILE      build a tree from lines "MODE OWNER:GROUP PATH [CONTENT | -> TARGET]" (see mktree)
//	lstree DIR           print a tree in the same form, without content, sorted
//	exits N COMMAND…     run a command and hold its exit code to be exactly N
//	jsonq QUERY [VALUE]  hold one value of the last standard output, or print it (see jsonq)
//
// Conditions: [root] runs as root.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"mktree": mktree, "lstree": lstree, "exits": exits, "jsonq": jsonq,
		},
		Condition: func(c string) (bool, error) {
			if c == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", c)
		},
		Setup: func(e *testscript.Env) error {
			e.Setenv("RIGHTFUL_STATE", filepath.Join(e.WorkDir, ".state"))
			return nil
		},
		RequireUniqueNames: true,
	})
}

// mktree builds a tree below DIR. A path that ends in / is a directory; directories on the way are made as 0755 root.
// Owner and group are numbers or names of DIR/etc/passwd and DIR/etc/group, which must stand first. Content runs to the
// end of the line, with Go's escapes (\n); "<NAME" takes a file of the script. A line that begins with # says nothing.
func mktree(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mktree DIR FILE")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	for n, line := range strings.Split(ts.ReadFile(args[1]), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		if err := mkentry(ts, dir, line); err != nil {
			ts.Fatalf("%s:%d: %v", args[1], n+1, err)
		}
	}
}

func mkentry(ts *testscript.TestScript, dir, line string) error {
	f := strings.SplitN(line, " ", 4)
	if len(f) < 3 {
		return fmt.Errorf("%q is not MODE OWNER:GROUP PATH", line)
	}
	mode, err := strconv.ParseUint(f[0], 8, 32)
	if err != nil {
		return err
	}
	owner, group, _ := strings.Cut(f[1], ":")
	uid, err := id(filepath.Join(dir, "etc/passwd"), owner)
	if err != nil {
		return err
	}
	gid, err := id(filepath.Join(dir, "etc/group"), group)
	if err != nil {
		return err
	}
	rel, err := strconv.Unquote(`"` + f[2] + `"`)
	if err != nil {
		return err
	}
	name := filepath.Join(dir, rel)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	rest := ""
	if len(f) == 4 {
		rest = f[3]
	}
	target, link := strings.CutPrefix(rest, "-> ")
	switch {
	case link:
		err = os.Symlink(target, name)
	case strings.HasSuffix(rel, "/"):
		err = os.MkdirAll(name, 0o755)
	default:
		var content string
		if from, ok := strings.CutPrefix(rest, "<"); ok {
			content = ts.ReadFile(from)
		} else if content, err = strconv.Unquote(`"` + strings.ReplaceAll(rest, `"`, `\"`) + `"`); err != nil {
			return err
		}
		err = os.WriteFile(name, []byte(content), 0o600)
	}
	if err == nil && os.Geteuid() == 0 {
		err = os.Lchown(name, uid, gid)
	}
	if err == nil && !link {
		err = unix.Chmod(name, uint32(mode)) // os.Chmod has its own idea of setuid
	}
	return err
}

// id looks a name up in the third field of a passwd or group file.
func id(file, name string) (int, error) {
	if n, err := strconv.Atoi(name); err == nil {
		return n, nil
	}
	text, err := os.ReadFile(file)
	if name == "root" {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for l := range strings.Lines(string(text)) {
		if f := strings.Split(strings.TrimSpace(l), ":"); f[0] == name && len(f) > 2 {
			return strconv.Atoi(f[2])
		}
	}
	return 0, fmt.Errorf("no %q in %s", name, file)
}

// lstree prints "MODE UID:GID PATH [-> TARGET]" for every entry below DIR, to compare with a golden file.
func lstree(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: lstree DIR")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		tail := ""
		switch d.Type() {
		case fs.ModeDir:
			tail = "/"
		case fs.ModeSymlink:
			target, _ := os.Readlink(name)
			tail = " -> " + target
		}
		q := strconv.Quote(rel)
		fmt.Fprintf(ts.Stdout(), "%04o %d:%d %s%s\n", st.Mode&0o7777, st.Uid, st.Gid, q[1:len(q)-1], tail)
		return nil
	}))
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var e *exec.ExitError
		if !errors.As(err, &e) {
			ts.Fatalf("%v", err)
		}
		got = e.ExitCode()
	}
	if got != want {
		ts.Fatalf("%q exited with %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// jsonq looks into JSON lines. A query is KIND[N].FIELD.FIELD[N]… ; N counts from 0 and may be left out at KIND. A query
// that begins with len: gives the number of lines of that kind, or the length of an array. Every line must be an object
// whose first field is its kind, and the last line the summary.
func jsonq(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: jsonq QUERY [VALUE]")
	}
	kinds := map[string][]any{}
	last := ""
	for l := range strings.Lines(ts.ReadFile("stdout")) {
		var head struct{ Kind string }
		var v any
		d := json.NewDecoder(strings.NewReader(l))
		d.UseNumber()
		if err := errors.Join(d.Decode(&v), json.Unmarshal([]byte(l), &head)); err != nil {
			ts.Fatalf("%v in %s", err, l)
		}
		if !strings.HasPrefix(l, `{"kind":"`+head.Kind+`"`) {
			ts.Fatalf("kind is not first: %s", l)
		}
		last = head.Kind
		kinds[last] = append(kinds[last], v)
	}
	if last != "summary" {
		ts.Fatalf("the last line is of kind %q, not summary", last)
	}
	query, count := strings.CutPrefix(args[0], "len:")
	kind, rest, _ := strings.Cut(query, ".")
	if !strings.Contains(kind, "[") && (!count || rest != "") {
		kind += "[0]"
	}
	var at any = map[string]any{}
	for k, v := range kinds {
		at.(map[string]any)[k] = v
	}
	for _, step := range strings.FieldsFunc(kind+"."+rest, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		switch x := at.(type) {
		case map[string]any:
			at = x[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(x) {
				ts.Fatalf("%s: no element %q of %d", args[0], step, len(x))
			}
			at = x[i]
		default:
			ts.Fatalf("%s: nothing at %q", args[0], step)
		}
	}
	if count {
		list, _ := at.([]any)
		at = len(list)
	}
	got, ok := at.(string)
	if !ok {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		ts.Check(e.Encode(at))
		got = strings.TrimSpace(b.String())
	}
	switch {
	case len(args) == 1:
		fmt.Fprintln(ts.Stdout(), got)
	case (got == args[1]) == neg:
		ts.Fatalf("%s is %s, want %s", args[0], got, args[1])
	}
}
