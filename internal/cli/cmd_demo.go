package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"rightful/internal/hostbox"
	"rightful/internal/term"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newDemo(a *app) *cobra.Command {
	o := hostbox.DemoOptions{}
	return a.command(verb{
		use:   "demo",
		short: "a throw-away hosting server that replays the bad day",
		does: `Start a real hosting server inside namespaces of its own (Apache, PHP-FPM, suEXEC, twelve accounts) and replay the
bad day: every site answers, an ownership script runs, sites answer 403, rightful finds every one of them, repairs them
behind a canary, takes the repair back, and repairs again. Each command is printed before its own output, so this is
also the tour. With --shell it opens a shell in that server instead.

It needs Apache, PHP-FPM, suEXEC and the ACL tools on the machine; make demo installs them.`,
		never: "It never touches this machine's accounts, ports or web server, and it leaves nothing behind.",
		examples: `
			rightful demo
			rightful demo --panel plain
			rightful demo --shell`,
		exits: map[int]string{
			exitOK:       "every step held",
			exitFindings: "a step did not hold",
			exitCannot:   "cannot run: something is missing on this machine",
		},
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&o.Panel, "panel", "cpanel", "what the server looks like: cpanel, plain or nginx")
			fs.IntVar(&o.Accounts, "accounts", 12, "how many accounts live on it (`N`)")
			fs.BoolVar(&o.Shell, "shell", false, "open a shell in the server, with rightful on the PATH")
		},
		args: noArgs,
		bare: true,
		run:  func(ctx context.Context, _ []string) error { return a.demo(ctx, o) },
	})
}

func (a *app) demo(ctx context.Context, o hostbox.DemoOptions) error {
	if err := a.needRoot(); err != nil {
		return err
	}
	if missing := hostbox.Requirements(); len(missing) > 0 {
		return fail(exitCannot, fmt.Errorf("start demo: missing on this machine: %s", term.Line(fmt.Sprint(missing))), "make demo")
	}
	var err error
	if o.Binary, err = os.Executable(); err != nil {
		return fail(exitCannot, err)
	}
	o.Stdout, o.Stderr = a.term, a.env.Stderr // unbuffered: what commands say on either keeps its order
	if err := hostbox.Demo(ctx, o); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, hostbox.ErrSpec) {
			return fail(exitUsage, err, a.cmd+" --help")
		}
		return fail(exitFindings, err)
	}
	return nil
}
