package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rightful/internal/config"
	"rightful/internal/term"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// everyCommand visits the tree of commands.
func everyCommand(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, sub := range c.Commands() {
		everyCommand(sub, visit)
	}
}

func TestEveryHelpTextHasItsSections(t *testing.T) {
	root := Commands()
	root.InitDefaultHelpCmd()
	var want []string
	n := 0
	everyCommand(root, func(c *cobra.Command) {
		n++
		var b bytes.Buffer
		c.SetOut(&b)
		if err := c.Help(); err != nil {
			t.Fatal(err)
		}
		help := b.String()
		for _, section := range []string{"\n\nIt never ", "\n\nExit status:\n    0  ", "\n\nUsage:\n  rightful", "\n\nExamples:\n  ", "\n\nGlobal flags:\n"} {
			if !strings.Contains(help, section) {
				t.Errorf("help of %q lacks %q", c.CommandPath(), section)
			}
		}
		for _, l := range strings.Split(help, "\n") {
			if w := term.Width(l); w > helpWidth || strings.ContainsAny(l, "\t\x1b") {
				t.Errorf("help of %q has a line of %d columns or with a tab: %q", c.CommandPath(), w, l)
			}
		}
		if s := c.Short; s == "" || strings.HasSuffix(s, ".") || s != strings.TrimSpace(s) || strings.ToLower(s[:1]) != s[:1] {
			t.Errorf("short text of %q is %q: one line in lower case without a full stop", c.CommandPath(), s)
		}
		for _, l := range strings.Split(strings.TrimSpace(c.Example), "\n") {
			if l = strings.TrimSpace(l); !strings.HasPrefix(l, "# ") && !strings.Contains(l, "rightful ") {
				t.Errorf("example of %q is neither comment nor command: %q", c.CommandPath(), l)
			}
		}
		if c.HasParent() {
			want = append(want, c.Name())
		}
	})
	if n < 4 || len(want) != n-1 {
		t.Errorf("walked %d commands only", n)
	}
}

func TestExamplesParse(t *testing.T) {
	everyCommand(Commands(), func(c *cobra.Command) {
		for _, l := range strings.Split(c.Example, "\n") {
			l = strings.TrimSpace(l)
			words := strings.Fields(l)
			if len(words) < 2 || words[0] != "rightful" || strings.ContainsAny(l, "|>'\"$") {
				continue
			}
			root := Commands()
			root.InitDefaultHelpCmd()
			found, rest, err := root.Find(words[1:])
			if err != nil || found == root {
				t.Errorf("example %q of %q names no verb: %v", l, c.CommandPath(), err)
				continue
			}
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("example %q of %q: %v", l, c.CommandPath(), err)
			} else if err := found.ValidateArgs(found.Flags().Args()); err != nil {
				t.Errorf("example %q of %q: %v", l, c.CommandPath(), err)
			}
		}
	})
}

func TestJSONLinesHaveTheirKindFirstAndNoNullArray(t *testing.T) {
	type inner struct {
		Names []string `json:"names"`
		Raw   []byte   `json:"raw,omitempty"`
	}
	type outer struct {
		inner
		Path  string           `json:"path"`
		List  []inner          `json:"list"`
		Ptr   *inner           `json:"ptr"`
		Any   any              `json:"any"`
		Map   map[string][]int `json:"map"`
		Array [1][]int         `json:"array"`
		deep  []int
	}
	var b bytes.Buffer
	o := newOutput(&b)
	o.emit("thing", outer{Path: "<a&b>\u2028\xff\n", List: []inner{{}}, Ptr: &inner{}, Any: []int(nil), Map: map[string][]int{"k": nil}, deep: nil})
	o.emit("none", nil)
	o.emit("map", map[string]int{"n": 1})
	o.flush()
	want := `{"kind":"thing","names":[],"path":"<a&b>\u2028\ufffd\n","list":[{"names":[]}],"ptr":{"names":[]},"any":[],"map":{"k":[]},"array":[[]]}` + "\n" +
		`{"kind":"none"}` + "\n" + `{"kind":"map","n":1}` + "\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if o.err != nil {
		t.Error(o.err)
	}
	o.emit("list", []int{1})
	o.emit("bad", map[string]any{"f": func() {}})
	if o.err == nil || !strings.Contains(o.err.Error(), `"list"`) {
		t.Errorf("the first error is %v", o.err)
	}
}

type result struct {
	Code        int
	Stdout, Err string
}

// call runs the program with an extra verb.
func call(t *testing.T, env Env, v *verb, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	if env.Stdout == nil {
		env.Stdout = &out
	}
	env.Stderr, env.Args = &errs, args
	if env.Getenv == nil {
		env.Getenv = func(string) string { return "" }
	}
	var extra []func(*app) *cobra.Command
	if v != nil {
		extra = append(extra, func(a *app) *cobra.Command { return a.command(*v) })
	}
	code := run(t.Context(), env, extra)
	return result{code, out.String(), errs.String()}
}

func TestErrorsBecomeExitCodesAndLines(t *testing.T) {
	cause := errors.New("no space left on device")
	for _, c := range []struct {
		err  error
		want result
	}{
		{nil, result{0, "", ""}},
		{exitWith(exitOK), result{0, "", ""}},
		{exitWith(exitFindings), result{1, "", ""}},
		{cause, result{3, "", "error: no space left on device\n"}},
		{
			fail(exitTakenBack, fmt.Errorf("verify %q: %w", "alice", cause), "rightful runs", "rightful undo"),
			result{4, "", "error: verify \"alice\": no space left on device\nhint: rightful runs\nhint: rightful undo\n"},
		},
		{
			fmt.Errorf("fix: %w", fail(exitUsage, cause, "x")),
			result{2, "", "error: fix: no space left on device\nhint: x\n"},
		},
		{fmt.Errorf("open \x1b[2J: %w", cause), result{3, "", "error: open \\x1b[2J: no space left on device\n"}},
		{context.Canceled, result{3, "", "error: context canceled\n"}},
	} {
		v := &verb{use: "try", run: func(context.Context, []string) error { return c.err }}
		if diff := cmp.Diff(c.want, call(t, Env{}, v, "try", "--root", t.TempDir())); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.err, diff)
		}
	}
}

func TestAnInterruptedVerbExits130(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	v := verb{use: "try", bare: true, run: func(ctx context.Context, _ []string) error {
		cancel()
		return fmt.Errorf("walk %q: %w", "/home/alice", ctx.Err())
	}}
	var errs bytes.Buffer
	env := Env{Stdout: io.Discard, Stderr: &errs, Args: []string{"try"}, Getenv: func(string) string { return "" }}
	code := run(ctx, env, []func(*app) *cobra.Command{func(a *app) *cobra.Command { return a.command(v) }})
	if code != exitInterrupted || errs.String() != "error: interrupted\n" {
		t.Errorf("exit %d, %q", code, errs.String())
	}
}

// A full takes no byte, like a full disk.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestAnAnswerThatCannotBeWrittenIsAnError(t *testing.T) {
	got := call(t, Env{Stdout: full{}}, nil, "version")
	if diff := cmp.Diff(result{3, "", "error: write answer: no space left on device\n"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAVerbAsksOnATerminalOnly(t *testing.T) {
	v := &verb{use: "try", bare: true}
	var a *app
	v.run = func(ctx context.Context, _ []string) error { return a.confirm(ctx, "change 3 entries?") }
	for _, c := range []struct {
		args []string
		in   string
		tty  bool
		want result
	}{
		{nil, "y\n", false, result{3, "", "error: ask \"change 3 entries?\": no terminal to ask on; nothing was changed\nhint: --yes\n"}},
		{nil, "y\n", true, result{0, "", "change 3 entries? [y/N] "}},
		{nil, "\n", true, result{3, "", "change 3 entries? [y/N] error: not confirmed; nothing was changed\n"}},
		{[]string{"--yes"}, "", false, result{0, "", ""}},
	} {
		env := Env{Stdin: strings.NewReader(c.in), StdinTTY: c.tty, StderrTTY: c.tty, Args: append([]string{"try"}, c.args...)}
		var errs bytes.Buffer
		env.Stdout, env.Stderr, env.Getenv = io.Discard, &errs, func(string) string { return "" }
		code := run(t.Context(), env, []func(*app) *cobra.Command{func(x *app) *cobra.Command {
			a = x
			return x.command(*v)
		}})
		if diff := cmp.Diff(c.want, result{code, "", errs.String()}); diff != "" {
			t.Errorf("%v %q (-want +got):\n%s", c.args, c.in, diff)
		}
	}
}

func TestFlagsBeatVariablesBeatTheFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "etc/rightful/config.toml")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("web_config = [\"/file\"]\nstate = \"/file\"\njson = true\nquiet = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{"RIGHTFUL_ROOT": dir, "RIGHTFUL_STATE": "/var", "RIGHTFUL_JSON": "false", "RIGHTFUL_VERBOSE": "1"}
	var got config.Config
	var a *app
	v := verb{use: "try", run: func(context.Context, []string) error {
		got = a.cfg
		return nil
	}}
	env := Env{
		Stdout: io.Discard, Stderr: io.Discard, Getenv: func(k string) string { return vars[k] },
		Args: []string{"try", "--web-config", "/a", "--web-config=/b", "--verbose=false"},
	}
	run(t.Context(), env, []func(*app) *cobra.Command{func(x *app) *cobra.Command {
		a = x
		return x.command(v)
	}})
	want := config.Default()
	want.Root, want.WebConfig, want.State, want.Quiet = dir, []string{"/a", "/b"}, "/var", true
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestQuietSaysOnlyWhatIsWrongAndVerboseSaysMore(t *testing.T) {
	for flag, want := range map[string]string{
		"--quiet":       "error: bad \\n end\n",
		"--json":        "warning: bob\\nerror: forged\nnote\nerror: bad \\n end\n",
		"--verbose":     "warning: bob\\nerror: forged\nnote\ndetail 7\nerror: bad \\n end\n",
		"--quiet=false": "warning: bob\\nerror: forged\nnote\nerror: bad \\n end\n",
	} {
		var errs bytes.Buffer
		env := Env{Stdout: io.Discard, Stderr: &errs, Args: []string{"try", flag}, Getenv: func(string) string { return "" }}
		run(t.Context(), env, []func(*app) *cobra.Command{func(a *app) *cobra.Command {
			return a.command(verb{use: "try", bare: true, run: func(context.Context, []string) error {
				p := a.begin("try", "entries", 3)
				defer p.End()
				a.warn("%s", "bob\nerror: forged")
				a.note("note")
				a.detail("detail %d", 7)
				p.Add(3)
				return errors.New("bad \n end")
			}})
		}})
		if diff := cmp.Diff(want, errs.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", flag, diff)
		}
	}
}

func TestNearNamesAreSuggestedNearestFirst(t *testing.T) {
	names := []string{"alice", "bob", "bobby", "carol", "carl", "dave", "a"}
	for word, want := range map[string][]string{
		"bbo": {"bob"}, "bobb": {"bob", "bobby"}, "carlo": {"carl", "carol"}, "alcie": {"alice"}, "zzz": nil,
		"dav": {"dave"}, "": {"a"}, "x": {"a"},
	} {
		if diff := cmp.Diff(want, near(word, names)); diff != "" {
			t.Errorf("near(%q) (-want +got):\n%s", word, diff)
		}
	}
	for _, c := range []struct {
		a, b string
		d    int
	}{{"", "", 0}, {"ab", "ba", 1}, {"kitten", "sitting", 3}, {"abc", "", 3}, {"ca", "abc", 3}} {
		if got := distance(c.a, c.b); got != c.d {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.d)
		}
	}
}

func TestColourOnlyWhereATerminalWantsIt(t *testing.T) {
	for _, c := range []struct {
		tty     bool
		noColor bool
		env     string
		want    string
	}{
		{true, false, "", "\x1b[31mdown\x1b[0m"},
		{false, false, "", "down"},
		{true, true, "", "down"},
		{true, false, "1", "down"},
	} {
		a := &app{env: Env{StdoutTTY: c.tty, Getenv: func(k string) string {
			if k == "NO_COLOR" {
				return c.env
			}
			return ""
		}}}
		a.cfg.NoColor = c.noColor
		if got := a.paint(term.Red, "down"); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
