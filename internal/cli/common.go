package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"rightful/internal/config"
	"rightful/internal/term"
	"rightful/internal/tree"

	"github.com/spf13/cobra"
)

// maxConfig is the most bytes of a configuration file that are read.
const maxConfig = 1 << 20

// configure fills a.cfg: defaults, then the file (not for bare verbs), then the environment, then the flags that were
// given.
func (a *app) configure(root *cobra.Command, flags *config.Config, file string, bare bool) error {
	given := func(to *config.Config) error {
		if err := to.ReadEnv(a.env.Getenv); err != nil {
			return fail(exitUsage, err)
		}
		for _, s := range config.Settings {
			if root.PersistentFlags().Changed(s.Flag) {
				s.Copy(to, flags)
			}
		}
		return nil
	}
	// The file lies on the server that is looked after, so which one that is must be known first.
	cfg := config.Default()
	if err := given(&cfg); err != nil {
		return err
	}
	if bare {
		a.cfg = cfg
		return nil
	}
	if file == "" {
		file = a.env.Getenv("RIGHTFUL_CONFIG")
	}
	text, name, err := readConfigFile(cfg.Root, file)
	if err != nil {
		return fail(exitUsage, err)
	}
	a.cfg = config.Default()
	if err := a.cfg.ReadFile(name, text); err != nil {
		return fail(exitUsage, err)
	}
	if err := given(&a.cfg); err != nil {
		return err
	}
	if a.cfg.Quiet {
		a.term.Hush()
	}
	return nil
}

func readConfigFile(root, file string) (text []byte, name string, err error) {
	if file != "" {
		text, err = os.ReadFile(file)
		return text, file, err
	}
	s, err := tree.OpenServer(root)
	if err != nil {
		return nil, "", err
	}
	defer s.Close()
	text, err = s.ReadFile(config.Path, maxConfig)
	if errors.Is(err, fs.ErrNotExist) || tree.IsNotExist(err) {
		err = nil
	}
	return text, config.Path, err
}

// needRoot refuses to go on for anybody but root.
func (a *app) needRoot() error {
	if a.env.EUID == 0 {
		return nil
	}
	return fail(exitCannot, fmt.Errorf("run %q: not root", a.cmd), "sudo "+term.Command(slices.Concat([]string{"rightful"}, a.env.Args)...))
}

// openServer opens the server that is looked after. The caller closes it. The running machine is for root only: what
// others can read of it is not the whole, and half an answer is a wrong one.
func (a *app) openServer() (*tree.Server, error) {
	s, err := tree.OpenServer(a.cfg.Root)
	if err != nil {
		return nil, fail(exitCannot, err, "--root DIR")
	}
	if s.Live() {
		if err := a.needRoot(); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// warn says on standard error what may make the answer incomplete.
func (a *app) warn(format string, args ...any) {
	if !a.cfg.Quiet {
		a.term.Say("warning: " + fmt.Sprintf(format, args...))
	}
}

// note says on standard error what is being done or what could be done next.
func (a *app) note(format string, args ...any) {
	if !a.cfg.Quiet {
		a.term.Say(fmt.Sprintf(format, args...))
	}
}

// detail is a note for --verbose.
func (a *app) detail(format string, args ...any) {
	if a.cfg.Verbose {
		a.note(format, args...)
	}
}

// begin starts a status line; see [term.Terminal.Begin]. The caller ends it.
func (a *app) begin(what, unit string, total int64) *term.Progress {
	return a.term.Begin(what, unit, total)
}

// paint colours text that says by itself what the colour says. Names in it must have been quoted.
func (a *app) paint(c term.Color, s string) string {
	if !a.env.StdoutTTY || a.cfg.NoColor || a.env.Getenv("NO_COLOR") != "" || a.env.Getenv("TERM") == "dumb" {
		return s
	}
	return c.Paint(s)
}

// confirm returns nil if the operator says yes, or gave --yes. Otherwise nothing may be changed.
func (a *app) confirm(ctx context.Context, question string) error {
	if a.cfg.Yes {
		return nil
	}
	a.out.flush()
	ok, err := a.term.Ask(ctx, question)
	switch {
	case errors.Is(err, term.ErrNoTerminal):
		return fail(exitCannot, fmt.Errorf("ask %q: %w; nothing was changed", question, err), "--yes")
	case err != nil:
		return err
	case !ok:
		return fail(exitCannot, errors.New("not confirmed; nothing was changed"))
	}
	return nil
}

// near gives up to three of names that word may have been meant to be: within two edits, or a third of the word's
// length if that is less; nearest first.
func near(word string, names []string) []string {
	type hit struct {
		name string
		d    int
	}
	var hits []hit
	limit := min(2, max(1, len(word)/3))
	for _, n := range names {
		if d := distance(word, n); d <= limit || len(word) > 2 && strings.HasPrefix(n, word) {
			hits = append(hits, hit{n, d})
		}
	}
	slices.SortStableFunc(hits, func(x, y hit) int {
		if x.d != y.d {
			return x.d - y.d
		}
		return strings.Compare(x.name, y.name)
	})
	var out []string
	for _, h := range hits[:min(3, len(hits))] {
		out = append(out, h.name)
	}
	return out
}

// distance is the number of single-byte insertions, deletions, replacements and swaps of neighbours between a and b
// (optimal string alignment).
func distance(a, b string) int {
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}

// unknown is the error for a word that names none of what there is: exit 2, with the nearest names as hints.
func unknown(what, word string, names []string, command ...string) error {
	var hints []string
	for _, n := range near(word, names) {
		hints = append(hints, term.Command(append(slices.Clone(command), n)...))
	}
	return fail(exitUsage, fmt.Errorf("unknown %s %q", what, word), hints...)
}

func unknownVerb(root *cobra.Command, word string) error {
	var names []string
	for _, c := range root.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	err := unknown("verb", word, names, root.Name())
	if f, ok := errors.AsType[*failure](err); ok && len(f.hints) == 0 {
		f.hints = []string{root.Name() + " --help"}
	}
	return err
}
