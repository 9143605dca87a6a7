package cli

import (
	"context"
	"errors"
	"fmt"

	"rightful"
	"rightful/internal/repair"

	"github.com/spf13/cobra"
)

func newResume(a *app) *cobra.Command {
	return a.command(verb{
		use:   "resume [RUN]",
		short: "finish a run that was cut short",
		does: `Finish a run that a signal, a crash or a full disk cut short: the changes that were not made are made, the stage
that was under way is verified, and the rest follows. Without a name it takes the newest such run.`,
		never: "It never does anything that was not in the run's plan.",
		examples: `
			rightful resume
			rightful resume 20261122-093100-4be1 --yes`,
		exits: map[int]string{exitFindings: "", exitTakenBack: ""},
		args:  atMostOne,
		run:   a.resume,
	})
}

// errNothingCutShort says that there is nothing to resume.
var errNothingCutShort = errors.New("no run was cut short")

func (a *app) resume(ctx context.Context, args []string) error {
	w, err := a.openWriting(nil, checkFlags{truth: truthPolicy})
	if err != nil {
		return err
	}
	defer w.close()
	id := ""
	if len(args) > 0 {
		id = args[0]
	} else if id, err = a.newestCutShort(w.st); err != nil {
		return err
	}
	run, _, err := w.st.Run(id)
	if err != nil {
		return a.noRun("resume", err)
	}
	if run.Verb == repair.VerbGuard {
		return fail(exitCannot, fmt.Errorf("resume run %q: %w; nothing was changed", id, repair.ErrGuarded), a.again("undo", id))
	}
	a.warnDamage(run)
	p, err := w.st.OpenPlan(run.Plan)
	if err != nil {
		return a.planError(err)
	}
	defer p.Close()
	if err := a.confirm(ctx, fmt.Sprintf("Finish run %s (%d of %d entries changed so far)?", id, run.Changed, run.Planned)); err != nil {
		return err
	}
	o, end := a.runOptions(w.s, w.ps.Users)
	if run.Verb != repair.VerbUndo {
		o.Verify = a.newVerifier(w.opts, p)
		o.Exclude = a.excluding(p)
	}
	done, err := w.st.Resume(ctx, id, o)
	end()
	if done == nil {
		return a.noRun("resume", err)
	}
	code, err := a.ended(ctx, w.s.Live(), done, err)
	if err != nil {
		return err
	}
	return exitWith(code)
}

func (a *app) newestCutShort(st *repair.State) (string, error) {
	runs, err := st.Runs()
	for _, r := range runs {
		if (r.State == rightful.RunInterrupted || r.State == rightful.RunFailed) && !r.Undone && r.Verb != repair.VerbGuard {
			return r.ID, nil
		}
	}
	if err == nil {
		err = errNothingCutShort
	}
	return "", fail(exitCannot, fmt.Errorf("resume: %w", err), a.again("runs"))
}
