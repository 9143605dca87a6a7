package cli_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"rightful/internal/cli"
	"rightful/internal/tree/treetest"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if treetest.Child() {
		return
	}
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
//	server DIR KIND      build the healthy server testdata/tree/KIND
//	mktree DIR FILE      build a tree, or change one (see buildTree)
//	lstree DIR           print a tree in the same form, without content, sorted
//	exits N COMMAND…     run a command and hold its exit code to be exactly N
//	jsonq QUERY [VALUE]  hold one value of the last standard output, or print it (see jsonq)
//	capture NAME REGEXP  set a variable to the first group that matches in the last output
//	cutoff FILE KIND     cut an outcome off before its first record of a kind, as a crash could
//	damage FILE KIND     flip a bit in the first record of a kind of an outcome, as a bad disk could
//	newerplan FROM TO    copy a plan as a newer version of the program would have written it
//	exchange DIR HOME WITH  write a plan in which a home changes places with another directory
//	tamed                print the last standard output without times and run IDs, to compare with a golden file
//
// Conditions: [root] runs as root.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server": server, "mktree": mktree, "lstree": lstree, "exits": exits, "jsonq": jsonq, "capture": capture, "tamed": tamed,
			"cutoff": cutoff, "damage": damage, "newerplan": newerplan, "exchange": exchange,
		},
		Condition: func(c string) (bool, error) {
			if c == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", c)
		},
		Setup: func(e *testscript.Env) error {
			e.Setenv("RIGHTFUL_STATE", filepath.Join(e.WorkDir, ".state"))
			data, err := filepath.Abs("testdata")
			e.Setenv("TESTDATA", data)
			return err
		},
		RequireUniqueNames: true, UpdateScripts: os.Getenv("UPDATE") != "",
	})
}

func mktree(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mktree DIR FILE")
	}
	if err := buildTree(ts.MkAbs(args[0]), ts.ReadFile(args[1]), ts.ReadFile); err != nil {
		ts.Fatalf("%s: %v", args[1], err)
	}
}

func server(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: server DIR KIND")
	}
	ts.Check(buildServer(ts.MkAbs(args[0]), args[1], filepath.Join(ts.Getenv("TESTDATA"), "tree")))
}

// capture sets a variable to the first group of a regular expression in the last standard output or error.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture NAME REGEXP")
	}
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	for _, from := range []string{"stdout", "stderr"} {
		if m := re.FindStringSubmatch(ts.ReadFile(from)); len(m) > 1 {
			ts.Setenv(args[0], m[1])
			return
		}
	}
	ts.Fatalf("nothing matches %q", args[1])
}

// tamed prints the last standard output with what differs from one time to the next made the same (see tame).
func tamed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: tamed")
	}
	fmt.Fprint(ts.Stdout(), tame(ts.ReadFile("stdout")))
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

// cutoff, damage and newerplan know of our files only what the comment of package repair draws.
func cutoff(ts *testscript.TestScript, neg bool, args []string) {
	_, off := record(ts, neg, args)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), int64(off)))
}

func damage(ts *testscript.TestScript, neg bool, args []string) {
	b, off := record(ts, neg, args)
	b[off+8] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

// record finds the first record of a kind in an outcome.
func record(ts *testscript.TestScript, neg bool, args []string) (b []byte, off int) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: FILE KIND")
	}
	b = []byte(ts.ReadFile(args[0]))
	for off := 8; off+9 <= len(b); off += 8 + int(binary.LittleEndian.Uint32(b[off:])) {
		if b[off+8] == args[1][0] {
			return b, off
		}
	}
	ts.Fatalf("no record %s in %s", args[1], args[0])
	return nil, 0
}

func newerplan(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: newerplan FROM TO")
	}
	b := []byte(ts.ReadFile(args[0]))
	n := binary.LittleEndian.Uint32(b[8:])
	body := bytes.Replace(b[16:16+n], []byte(`"version":1`), []byte(`"version":99`), 1)
	head := binary.LittleEndian.AppendUint32(bytes.Clone(b[:8]), uint32(len(body)))
	sum := crc32.Checksum(append(binary.LittleEndian.AppendUint64(nil, 8), body...), crc32.MakeTable(crc32.Castagnoli))
	out := slices.Concat(binary.LittleEndian.AppendUint32(head, sum), body, b[16+n:])
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), out, 0o600))
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
