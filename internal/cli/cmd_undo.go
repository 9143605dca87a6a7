package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rightful"
	"rightful/internal/check"
	"rightful/internal/repair"
	"rightful/internal/term"

	"github.com/spf13/cobra"
)

func newUndo(a *app) *cobra.Command {
	return a.command(verb{
		use:   "undo [RUN]",
		short: "take a run back",
		does: `Put back exactly what a run changed: owner, group, mode, ACLs and capabilities. Without a name it takes the newest
run that is not yet undone and is not itself an undo; to redo, undo the undo by its name. It works after a crash too.

An entry is touched only if the run changed it and it still looks as the run left it. Set-id bits and capabilities are
given back only to a file whose content is still the same. What is left alone is reported with the reason; once nothing
stands in its way, undo of the same run by its name puts that back too. Sites that stop working are reported, and are no
reason to stop.`,
		never: "It never touches what somebody else changed since, and never what the run did not change.",
		examples: `
			# the newest run
			rightful undo
			# a certain run, without a question
			rightful undo 20261122-093100-4be1 --yes`,
		exits: map[int]string{
			exitOK:       "everything is as it was before the run",
			exitFindings: "some entries were left alone: they changed since",
			exitCannot:   "cannot run or not confirmed; nothing was changed",
		},
		args: atMostOne,
		run:  a.undo,
	})
}

func (a *app) undo(ctx context.Context, args []string) error {
	w, err := a.openWriting(nil, checkFlags{truth: truthPolicy})
	if err != nil {
		return err
	}
	defer w.close()
	gone, err := a.finishedRescues(w.s)
	if err != nil {
		a.warn("%v", err)
	}
	id := ""
	if len(args) > 0 {
		id = args[0]
	} else if id, err = w.st.Newest(gone); err != nil {
		return a.noRun("undo", err)
	}
	if gone[id] {
		return fail(exitCannot, fmt.Errorf("undo run %q: the old home that it set aside was removed by rescue --finish; nothing was changed", id), a.again("runs"))
	}
	if g, err := w.st.PendingGuard(id); err != nil {
		return fail(exitCannot, err)
	} else if g != nil {
		a.note("run %s was cut short: finding out what the command changed", id)
		a.note("whatever changed in %s since %s counts as the command's doing, whoever did it", accounts(len(g.Accounts)), g.Started.Local().Format(time.DateTime))
		for _, b := range w.busy(g.Accounts) {
			a.warn("process %d is changing %s right now, and may be that command: %s", b.PID, term.Quote(b.Path), term.Line(b.Command))
		}
		if _, err := a.settleGuard(ctx, w, g, "how the command ended is not known: the watch was cut short", nil); err != nil {
			return err
		}
	}
	run, _, err := w.st.Run(id)
	if err != nil {
		return a.noRun("undo", err)
	}
	a.warnDamage(run)
	o, end := a.runOptions(w.s, w.ps.Users)
	defer end()
	planID, err := w.st.PlanUndo(ctx, id, o, repair.PlanHeader{By: a.by(), Command: a.commandLine()})
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w; nothing was changed", err)
	}
	if err != nil {
		return a.runError(ctx, err)
	}
	p, err := w.st.OpenPlan(planID)
	if err != nil {
		return a.planError(err)
	}
	defer p.Close()
	if run.Undone && p.Changes == 0 { // nor did it leave anything that can be put back by now
		return fail(exitCannot, fmt.Errorf("undo run %q: %w; nothing was changed", id, repair.ErrUndone), a.again("runs"))
	}
	if !a.cfg.JSON {
		a.note("undo of run %s (%s, %s): %s to put back, %d left alone", id, run.Verb, run.Started.Local().Format("2006-01-02 15:04:05"), entries(p.Changes), len(p.Skips))
	}
	if err := a.noteExcluded(p); err != nil {
		return fail(exitCannot, fmt.Errorf("%w; nothing was changed", err))
	}
	if err := a.confirm(ctx, fmt.Sprintf("Put %s back?", entries(p.Changes))); err != nil {
		return err
	}
	done, err := w.st.Apply(ctx, p, o)
	end()
	if done != nil {
		done.Skipped += len(p.Skips)
	}
	code, err := a.ended(ctx, w.s.Live(), done, err)
	if err != nil {
		return err
	}
	if err := a.tellSites(ctx, w.checking, p); err != nil {
		return err
	}
	return exitWith(code)
}

// tellSites says which sites of the accounts that were put back are not well now.
func (a *app) tellSites(ctx context.Context, c *checking, p *repair.Plan) error {
	opts := c.opts
	opts.Accounts = nil
	for i := range p.Accounts {
		if name := p.Accounts[i].Account; c.has(name) {
			opts.Accounts = append(opts.Accounts, name)
		}
	}
	if len(opts.Accounts) == 0 || a.cfg.JSON {
		return nil
	}
	down := 0
	err := check.Run(ctx, opts, func(r *check.Report) error {
		for _, v := range r.Now {
			if v.State == rightful.SiteDown || v.State == rightful.SiteBroken {
				if down++; down <= maxShown {
					a.note("site %s is %s now: %s: %s", term.Quote(v.Site), v.State, term.Quote(v.Culprit), v.Why)
				}
			}
		}
		return nil
	})
	if down > maxShown {
		a.note("… and %d more sites: %s", down-maxShown, a.again("check"))
	}
	return err
}

func (c *checking) has(account string) bool {
	_, ok := c.ps.Account(account)
	return ok
}

// noRun is the error for a run that cannot be found.
func (a *app) noRun(what string, err error) error {
	if errors.Is(err, repair.ErrNoRun) {
		return fail(exitUsage, err, a.again("runs"))
	}
	return fail(exitCannot, fmt.Errorf("%s: %w; nothing was changed", what, err), a.again("runs"))
}
