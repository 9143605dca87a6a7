package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"rightful"
	"rightful/internal/repair"
	"rightful/internal/term"
	"rightful/internal/tree"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newPlanList(a *app) *cobra.Command {
	return a.command(verb{
		use:   "list",
		short: "the saved plans, newest first",
		does: `List the saved plans, newest first: what made each, when, by whom, how large it is, and how many runs were made
of it.`,
		never: "It never changes anything.",
		examples: `
			rightful plan list`,
		exits: map[int]string{exitFindings: "a plan or a record could not be read"},
		args:  noArgs,
		run:   func(context.Context, []string) error { return a.planList() },
	})
}

func newPlanPrune(a *app) *cobra.Command {
	keep, olderThan := 0, ""
	return a.command(verb{
		use:   "prune",
		short: "throw away old plans that were never applied",
		does: `Throw away plans that no run was made of: all but the newest --keep, all that are older than --older-than, or
with both those that are neither among the newest nor younger.`,
		never: `It never throws away a plan that was applied: undo, redo, resume and the account of the run need it.`,
		examples: `
			rightful plan prune --older-than 30d
			rightful plan prune --keep 5 --yes`,
		args: noArgs,
		flags: func(fs *pflag.FlagSet) {
			fs.IntVar(&keep, "keep", 0, "keep the newest `N`")
			fs.StringVar(&olderThan, "older-than", "", "keep what is younger than an `AGE`: 30d, 12h")
		},
		run: func(ctx context.Context, _ []string) error { return a.planPrune(ctx, keep, olderThan) },
	})
}

// planFileJSON is one saved plan as --json prints it.
type planFileJSON struct {
	Plan    string    `json:"plan"`
	Verb    string    `json:"verb"`
	Created time.Time `json:"created"`
	By      string    `json:"by"`
	Command string    `json:"command"`
	Bytes   int64     `json:"bytes"`
	Runs    int       `json:"runs"`
}

// openState opens the state directory for a verb that needs nothing else of the server. The caller closes the server.
func (a *app) openState() (*tree.Server, *repair.State, error) {
	if err := a.needRoot(); err != nil {
		return nil, nil, err
	}
	s, err := a.openServer()
	if err != nil {
		return nil, nil, err
	}
	st, err := repair.OpenState(a.cfg.State, s)
	if err != nil {
		s.Close()
		return nil, nil, fail(exitCannot, err, "--state DIR")
	}
	return s, st, nil
}

func (a *app) planList() error {
	s, st, err := a.openState()
	if err != nil {
		return err
	}
	defer s.Close()
	plans, err := st.Plans()
	a.printPlans(plans)
	switch {
	case a.cfg.JSON:
		a.out.emit("summary", struct {
			Plans int `json:"plans"`
		}{len(plans)})
	case len(plans) == 0:
		a.note("no plans yet")
	}
	if err != nil {
		return fail(exitFindings, err)
	}
	return nil
}

func (a *app) printPlans(plans []repair.PlanFile) {
	table := term.Table{Head: []string{"plan", "verb", ">size", ">runs", "by", "command"}}
	for _, p := range plans {
		if a.cfg.JSON {
			a.out.emit("plan", planFileJSON{p.ID, p.Verb, p.Created, p.By, p.Command, p.Bytes, p.Runs})
		}
		table.Row(p.ID, p.Verb, rightful.SizeText(p.Bytes), strconv.Itoa(p.Runs), p.By, p.Command)
	}
	if !a.cfg.JSON && len(plans) > 0 {
		a.out.printf("%s", table.String())
	}
}

func (a *app) planPrune(ctx context.Context, keep int, olderThan string) error {
	if keep <= 0 && olderThan == "" {
		return fail(exitUsage, errors.New("prune plans: neither --keep nor --older-than given"), "rightful plan prune --older-than 30d")
	}
	before := time.Now()
	if olderThan != "" {
		age, err := parseAge(olderThan)
		if err != nil {
			return fail(exitUsage, fmt.Errorf("read --older-than %q: not an age", olderThan), "--older-than 30d")
		}
		before = before.Add(-age)
	}
	s, st, err := a.openState()
	if err != nil {
		return err
	}
	defer s.Close()
	unlock, err := a.lock(st)
	if err != nil {
		return err
	}
	defer unlock()
	plans, err := st.Prunable(keep, before)
	if err != nil {
		return fail(exitCannot, fmt.Errorf("%w; nothing was thrown away", err), a.again("plan", "list"))
	}
	if len(plans) > 0 {
		if err := a.confirm(ctx, fmt.Sprintf("Throw away %s that no run was made of?", counted(len(plans), "plan", "plans"))); err != nil {
			return err
		}
		if err := st.Remove(plans); err != nil {
			return fail(exitFindings, err)
		}
	}
	a.printPlans(plans)
	if a.cfg.JSON {
		a.out.emit("summary", struct {
			Plans int `json:"plans"`
		}{len(plans)})
	} else {
		a.out.printf("%s thrown away\n", counted(len(plans), "plan", "plans"))
	}
	return nil
}

// parseAge reads a number of days, "30d", or a duration of Go, "12h".
func parseAge(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	d, err := time.ParseDuration(s)
	if d < 0 {
		err = strconv.ErrRange
	}
	return d, err
}
