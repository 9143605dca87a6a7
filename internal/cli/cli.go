// Package cli is the command line: one file per verb, and what all verbs share.
//
// It knows flags, help, exit codes and how an answer is printed, as text or as JSON lines. It promises that standard
// output holds the answer and nothing else, that an error is one line that says operation, quoted thing and cause, that
// hints are ready to paste, that foreign names cannot write to a terminal, and that nothing is asked where nobody can
// answer. It refuses to judge or to change anything itself: it joins the packages that do.
//
// A verb is a constructor (*app) → *cobra.Command built from a [verb], and one line in [verbs].
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"rightful/internal/config"
	"rightful/internal/panel"
	"rightful/internal/rescue"
	"rightful/internal/term"
	"rightful/internal/tree"

	"github.com/spf13/cobra"
)

// An Env is the process as the command line sees it.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Args are the arguments without the program's name.
	Args   []string
	Getenv func(string) string
	// EUID is the effective user of the process.
	EUID int
	// The TTY fields say which streams are terminals.
	StdinTTY, StdoutTTY, StderrTTY bool
	// Width is the terminal's number of columns; nil or 0 where that is not known.
	Width func() int
	// Poke asks for a line of progress (SIGUSR1).
	Poke <-chan os.Signal
	// Load gives the load average of the last minute; nil reads it of this machine.
	Load func() (float64, error)
	// Quota is check.Options.Quota; nil asks the kernel.
	Quota func(dir string, uid uint32) (tree.Quota, bool, error)
}

// verbs are the constructors of all verbs, in the order of help.
var verbs = []func(*app) *cobra.Command{
	newAccounts,
	newCheck,
	newExplain,
	newPredict,
	newLogs,
	newProbe,
	newFix,
	newPlan,
	newResume,
	newUndo,
	newRuns,
	newVault,
	newRescue,
	newDemo,
	newPolicy,
	newSnapshot,
	newGuard,
	newVersion,
	newCompletion,
}

// An app is one run of the program.
type app struct {
	env  Env
	cfg  config.Config
	out  *output
	term *term.Terminal
	// cmd is the command that was called, for hints: "rightful check".
	cmd string
	// where are the flags that said which server and state directory, for hints (see again).
	where []string
	// load fills cfg; completion calls it, as no verb runs then.
	load func(bare bool) error
	// line has room for one of those who wait for the load to fall.
	line chan struct{}
	// users are those of the server that was read, to show ids as names; nil before.
	users *panel.Users
	// started is set once a verb runs: errors before that are wrong usage.
	started bool
}

// Main runs the program and gives its exit code.
//
// One call of it is no verb: a rescue runs this program again as its worker.
func Main(ctx context.Context, env Env) int {
	if slices.Equal(env.Args, []string{rescue.WorkerVerb}) {
		if rescue.Work(ctx, env.Stdin, env.Stdout) != nil {
			return exitCannot
		}
		return exitOK
	}
	return run(ctx, env, nil)
}

// run is Main with more verbs.
func run(ctx context.Context, env Env, more []func(*app) *cobra.Command) int {
	t := term.Open(term.Options{
		In: env.Stdin, Out: env.Stdout, Err: env.Stderr, Width: env.Width, Poke: env.Poke,
		Ask:  env.StdinTTY && env.StderrTTY,
		Live: env.StderrTTY && env.Getenv("TERM") != "dumb",
	})
	defer t.Close()
	a := &app{env: env, cfg: config.Default(), out: newOutput(t), term: t, line: make(chan struct{}, 1)}
	root := a.root(slices.Concat(verbs, more))
	root.SetArgs(env.Args)
	cmd, err := root.ExecuteContextC(ctx)
	a.cmd = cmd.CommandPath()
	a.out.flush()
	if a.out.err != nil {
		lost := fmt.Errorf("write answer: %w", a.out.err)
		if f, ok := errors.AsType[*failure](err); ok && f.err == nil {
			f.err = lost
		} else if err == nil {
			err = lost
		}
	}
	return a.report(ctx, err)
}

// Commands is the tree of commands, for man pages and tests. It must not be run.
func Commands() *cobra.Command {
	return (&app{env: Env{Getenv: func(string) string { return "" }}, out: newOutput(io.Discard)}).root(verbs)
}

func (a *app) root(verbs []func(*app) *cobra.Command) *cobra.Command {
	var flags config.Config
	var configFile string
	root := a.family(verb{
		use:   "rightful VERB",
		short: "put every file on a shared web-hosting server back in its rightful hands",
		does: `Rightful puts every file on a shared web-hosting server back in its rightful hands. It finds what is
broken and who is affected, repairs it in verified steps, and can take back anything it did.`,
		never: `It never changes anything that it was not asked to, never follows a customer's link to change something,
never publishes a secret, and never sends anything off the server.`,
		examples: `
			# who lives here
			rightful accounts
			# what a verb does
			rightful help accounts`,
		exits: exitTexts,
	})
	a.load = func(bare bool) error { return a.configure(root, &flags, configFile, bare) }
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		a.cmd = cmd.CommandPath()
		_, bare := cmd.Annotations[bareMark]
		if err := a.load(bare); err != nil {
			if cmd.Name() == "guard" { // whose codes below are the command's
				return ownFailure(err)
			}
			return err
		}
		a.started = true
		return nil
	}
	pf := root.PersistentFlags()
	pf.SortFlags = false
	def := config.Default()
	for _, s := range config.Settings {
		switch p := s.Field(&flags).(type) {
		case *string:
			pf.StringVar(p, s.Flag, *s.Field(&def).(*string), s.Usage)
		case *bool:
			pf.BoolVar(p, s.Flag, false, s.Usage)
		case *int:
			pf.IntVar(p, s.Flag, 0, s.Usage)
		case *[]string:
			pf.StringArrayVar(p, s.Flag, nil, s.Usage)
		}
	}
	a.completeFlags(root)
	pf.StringVar(&configFile, "config", "", "configuration `FILE` instead of "+config.Path)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if cmd == root && err.Error() == "unknown flag: --version" {
			return fail(exitUsage, err, "rightful version")
		}
		return fail(exitUsage, err, cmd.CommandPath()+" --help")
	})
	root.SetOut(a.out.w)
	root.SetErr(io.Discard)
	var order []*cobra.Command
	for _, v := range verbs {
		order = append(order, v(a))
	}
	help := newHelp(a)
	root.AddCommand(order...)
	root.SetHelpCommand(help)
	order = append(order, help)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { printHelp(cmd, order) })
	return root
}
