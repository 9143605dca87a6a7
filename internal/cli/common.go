package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"rightful/internal/config"
	"rightful/internal/panel"
	"rightful/internal/term"
	"rightful/internal/tree"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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
	a.where = a.where[:0]
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) {
		switch f.Name {
		case "root", "state", "config":
			if !f.Changed {
				return
			}
			a.where = append(a.where, "--"+f.Name, f.Value.String())
		case "web-config":
			for _, v := range flags.WebConfig {
				a.where = append(a.where, "--"+f.Name, v)
			}
		}
	})
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
		return err
	}
	a.cfg = config.Default()
	if err := a.cfg.ReadFile(name, text); err != nil {
		return fail(exitUsage, err)
	}
	if err := given(&a.cfg); err != nil {
		return err
	}
	for _, s := range config.Settings {
		if n, ok := s.Field(&a.cfg).(*int); ok && *n < 0 {
			return fail(exitUsage, fmt.Errorf("read --%s %d: less than nothing", s.Flag, *n), a.cmd+" --help")
		}
	}
	if a.cfg.Quiet {
		a.term.Hush()
	}
	return nil
}

func readConfigFile(root, file string) (text []byte, name string, err error) {
	if file != "" {
		if text, err = os.ReadFile(file); err != nil {
			err = fail(exitUsage, fmt.Errorf("open configuration %q: %w", file, errors.Unwrap(err)), "--config FILE")
		}
		return text, file, err
	}
	s, err := tree.OpenServer(root)
	if err != nil {
		return nil, "", fail(exitCannot, err, "--root DIR")
	}
	defer s.Close()
	text, err = s.ReadFile(config.Path, maxConfig)
	if errors.Is(err, fs.ErrNotExist) || tree.IsNotExist(err) {
		err = nil
	}
	if err != nil {
		err = fail(exitCannot, err, "--config FILE")
	}
	return text, config.Path, err
}

// again is another command about the same server and state directory, ready to paste.
func (a *app) again(words ...string) string {
	return term.Command(slices.Concat([]string{"rightful"}, words, a.where)...)
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

// openForRoot opens the server for a verb that looks at our own records, which are root's, and reads its users to show their
// names. The caller closes it.
func (a *app) openForRoot() (*tree.Server, error) {
	if err := a.needRoot(); err != nil {
		return nil, err
	}
	s, err := a.openServer()
	if err != nil {
		return nil, err
	}
	if users, _, err := panel.ReadUsers(s); err == nil {
		a.users = users
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
		a.out.flush()
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
