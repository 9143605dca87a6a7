package cli

import (
	"context"
	"fmt"

	"rightful"
	"rightful/internal/repair"
	"rightful/internal/term"

	"github.com/spf13/cobra"
)

func newRuns(a *app) *cobra.Command {
	return a.command(verb{
		use:   "runs [RUN]",
		short: "what was done, by whom, how it ended",
		does: `List all runs, newest first; or tell about one: its stages, and every entry that was skipped, failed or went
otherwise than planned, with the reason.`,
		never: "It never changes anything.",
		examples: `
			rightful runs
			rightful runs 20261122-093100-4be1 --json`,
		exits: map[int]string{exitFindings: "a record could not be read"},
		args:  atMostOne,
		run:   a.runs,
	})
}

func (a *app) runs(_ context.Context, args []string) error {
	s, st, err := a.openState()
	if err != nil {
		return err
	}
	defer s.Close()
	if len(args) == 1 {
		return a.oneRun(st, args[0], s.Live())
	}
	runs, err := st.Runs()
	table := term.Table{Head: []string{"run", "verb", "state", ">changed", ">skipped", ">failed", "by", "command"}}
	for _, r := range runs {
		if a.cfg.JSON {
			a.out.emit("run", r)
			continue
		}
		state := string(r.State)
		if r.Undone {
			state += ", undone"
		}
		if len(r.Damage) > 0 {
			state += ", damaged"
		}
		verb := r.Verb
		if r.Undoes != "" {
			verb += " of " + r.Undoes
		}
		table.Row(r.ID, verb, state, fmt.Sprint(r.Changed), fmt.Sprint(r.Skipped), fmt.Sprint(r.Failed), r.By, r.Command)
	}
	switch {
	case a.cfg.JSON:
		a.out.emit("summary", struct {
			Runs int `json:"runs"`
		}{len(runs)})
	case len(runs) == 0:
		a.note("no runs yet")
	default:
		a.out.printf("%s", table.String())
	}
	if err != nil {
		return fail(exitFindings, err)
	}
	return nil
}

func (a *app) oneRun(st *repair.State, id string, live bool) error {
	run, items, err := st.Run(id)
	if run == nil {
		return a.noRun("show run", err)
	}
	if a.cfg.JSON {
		for _, i := range items {
			a.out.emit("item", i)
		}
		a.out.emit("run", run)
		a.out.emit("summary", runSummary{run.Changed, run.Skipped, run.Failed})
	} else {
		a.out.printf("%s by %s, %s\n", term.Line(run.Command), term.Line(run.By), run.Started.Local().Format("2006-01-02 15:04:05"))
		if run.Plan != "" {
			a.printRun(run, live)
		} else {
			a.out.printf("run %s %s: %s\n", run.ID, run.State, run.Reason)
		}
		for _, x := range run.Exchanges {
			a.out.printf("%s and %s: change of places %s\n", term.Quote(x.Path), term.Quote(x.With), exchangeResults[x.Result])
		}
		for _, d := range run.Damage {
			a.out.printf("%s\n", d)
		}
		switch {
		case run.InDoubt == 0:
		case len(run.Damage) > 0:
			a.out.printf("%s in doubt: no record tells what became of it\n", counted(run.InDoubt, "change is", "changes are"))
		default:
			a.out.printf("%s in doubt: announced when the run was cut off\n", counted(run.InDoubt, "change is", "changes are"))
		}
		for _, i := range items {
			a.out.printf("  %-10s %s: %s\n", i.Result, term.Quote(i.Path), term.Line(i.Reason))
		}
		if run.Undone {
			a.out.printf("undone\n")
		} else if run.State == rightful.RunInterrupted || run.State == rightful.RunFailed {
			verb := "resume"
			if run.Verb == repair.VerbGuard {
				verb = "undo"
			}
			a.note("hint: %s", a.again(verb, id))
		}
	}
	if err != nil {
		return fail(exitFindings, err)
	}
	return nil
}

// exchangeResults says what became of an exchange.
var exchangeResults = map[string]string{
	"not made": "not made", "in doubt": "in doubt", "changed": "made", "already right": "made before", "skipped": "skipped", "failed": "failed",
	"taken back": "taken back",
}

// warnDamage says before a run is taken back or finished that its record is not whole.
func (a *app) warnDamage(run *rightful.Run) {
	for _, d := range run.Damage {
		a.warn("run %s: %s", run.ID, d)
	}
	if len(run.Damage) > 0 && run.InDoubt > 0 {
		a.warn("run %s: every change of which no record tells is looked at as if it were made: %d", run.ID, run.InDoubt)
	}
}
