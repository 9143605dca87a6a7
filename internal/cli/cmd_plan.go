package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"rightful"
	"rightful/internal/repair"
	"rightful/internal/term"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newPlan(a *app) *cobra.Command {
	return a.family(verb{
		use:   "plan VERB",
		short: "look at saved plans; apply exactly that; throw old ones away",
		does: `A plan is the file that a run carries out: every entry with its owner, group, mode and ACL before and after.
fix --dry-run saves one and prints its ID.`,
		never: "It never changes a plan.",
		examples: `
			# every change in a plan
			rightful plan show 20261122-093100-4be1 --verbose
			# carry it out
			rightful plan apply 20261122-093100-4be1`,
	}, newPlanShow(a), newPlanApply(a), newPlanList(a), newPlanPrune(a))
}

func newPlanShow(a *app) *cobra.Command {
	return a.command(verb{
		use:   "show ID|FILE",
		short: "what a plan would change",
		does: `Print what a plan would change: by account and problem, with how many entries and three examples of each; with
--verbose or --json every single change.`,
		never: "It never changes anything.",
		examples: `
			rightful plan show 20261122-093100-4be1`,
		exits: map[int]string{exitCannot: "the plan is damaged, of a newer version, or for another server"},
		args:  exactlyOne("a plan"),
		run:   func(_ context.Context, args []string) error { return a.planShow(args[0]) },
	})
}

func newPlanApply(a *app) *cobra.Command {
	canary, wait := "", false
	return a.command(verb{
		use:   "apply ID|FILE",
		short: "carry out a saved plan",
		does: `Carry out exactly the saved plan, in stages and verified like fix. An entry that no longer looks as it did when
the plan was made is skipped and reported.`,
		never: "It never looks for other faults than those in the plan.",
		examples: `
			rightful plan apply 20261122-093100-4be1 --yes`,
		exits: map[int]string{exitFindings: "", exitTakenBack: ""},
		args:  exactlyOne("a plan"),
		flags: func(fs *pflag.FlagSet) {
			addWait(fs, &wait)
			fs.StringVar(&canary, "canary", "", "change this `ACCOUNT` first")
		},
		run: func(ctx context.Context, args []string) error { return a.planApply(ctx, args[0], canary, wait) },
	})
}

func exactlyOne(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%d arguments where %s is needed", len(args), what)
		}
		return nil
	}
}

// between takes no fewer and no more arguments, the first of which is what; no most means any number.
func between(least, most int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < least {
			return fmt.Errorf("%d arguments where %s is needed", len(args), what)
		}
		if most > 0 && len(args) > most {
			return fmt.Errorf("unexpected argument %q", args[most])
		}
		return nil
	}
}

func (a *app) planShow(id string) error {
	s, err := a.openForRoot()
	if err != nil {
		return err
	}
	defer s.Close()
	st, err := repair.OpenState(a.cfg.State, s)
	if err != nil {
		return fail(exitCannot, err, "--state DIR")
	}
	p, err := st.OpenPlan(id)
	if err != nil {
		return a.planError(err)
	}
	defer p.Close()
	return a.showPlan(p, false)
}

// changeJSON is one change as --json prints it.
type changeJSON struct {
	Account string           `json:"account"`
	Path    string           `json:"path"`
	PathB64 []byte           `json:"path_b64,omitempty"`
	Kind    rightful.Kind    `json:"type"`
	Problem rightful.Problem `json:"problem,omitempty"`
	Effect  rightful.Effect  `json:"effect,omitempty"`
	Rule    string           `json:"rule,omitempty"`
	Before  *rightful.Meta   `json:"before,omitempty"`
	After   *rightful.Meta   `json:"after,omitempty"`
	// Exchange is set instead of these where two directories change places.
	Exchange *exchangeJSON `json:"exchange,omitempty"`
}

type exchangeJSON struct {
	With    string `json:"with"`
	WithB64 []byte `json:"with_b64,omitempty"`
}

func asChangeJSON(account string, c *rightful.Change) changeJSON {
	j := changeJSON{
		Account: account, Path: c.Path(), PathB64: rightful.RawPath(c.Path()), Kind: c.Kind, Problem: c.Problem, Effect: c.Effect, Rule: c.Rule,
	}
	if x := c.Exchange; x != nil {
		j.Exchange = &exchangeJSON{x.With, rightful.RawPath(x.With)}
	} else {
		j.Before, j.After = &c.Before, &c.After
	}
	return j
}

// exchangeLine says what an exchange does.
func exchangeLine(c *rightful.Change) string {
	here, there := term.Quote(c.Path()), term.Quote(c.Exchange.With)
	switch {
	case c.ID.None():
		return there + " is moved to " + here + ", where nothing stands"
	case c.Exchange.ID.None():
		return here + " is moved to " + there + ", where nothing stands"
	}
	return here + " changes places with " + there
}

type planJSON struct {
	Plan     string   `json:"plan"`
	Verb     string   `json:"verb"`
	Accounts []string `json:"accounts"`
	Changes  int      `json:"changes"`
	Accept   []string `json:"accept"`
	// Quota is what the plan moves between users' quotas.
	Quota []rightful.QuotaChange `json:"quota"`
}

// showPlan prints a plan. After a dry run the exit code says that there is something to do.
func (a *app) showPlan(p *repair.Plan, dryRun bool) error {
	type group struct {
		problem rightful.Problem
		effect  rightful.Effect
		n       int
		show    []string
	}
	out := planJSON{Plan: p.ID, Verb: p.Verb, Changes: p.Changes, Accept: p.Accept, Quota: quotaChanges(p)}
	for i := range p.Accounts {
		acct := p.Accounts[i].Account
		out.Accounts = append(out.Accounts, acct)
		groups := map[rightful.Problem]*group{}
		var exchanges []string
		err := p.Each(i, func(_ int, c *rightful.Change) error {
			if a.cfg.JSON {
				a.out.emit("change", asChangeJSON(acct, c))
				return a.out.err
			}
			if c.Exchange != nil {
				exchanges = append(exchanges, exchangeLine(c))
				return nil
			}
			g := groups[c.Problem]
			if g == nil {
				g = &group{problem: c.Problem, effect: c.Effect}
				groups[c.Problem] = g
			}
			if c.Effect.Rank() < g.effect.Rank() {
				g.effect = c.Effect
			}
			if g.n++; g.n <= 3 || a.cfg.Verbose {
				g.show = append(g.show, term.Quote(c.Path())+"  "+a.names().diff(c.Before, c.After))
			}
			return nil
		})
		if err != nil {
			return fail(exitCannot, err)
		}
		if a.cfg.JSON {
			continue
		}
		a.out.printf("account %s\n", term.Quote(acct))
		var sorted []*group
		for _, g := range groups {
			sorted = append(sorted, g)
		}
		slices.SortFunc(sorted, func(x, y *group) int {
			return cmp.Or(x.effect.Rank()-y.effect.Rank(), cmp.Compare(x.problem, y.problem))
		})
		for _, g := range sorted {
			a.out.printf("  %s %s: %s\n", g.effect, g.problem, entries(g.n))
			for _, l := range g.show {
				a.out.printf("    %s\n", l)
			}
			if n := g.n - len(g.show); n > 0 {
				a.out.printf("    … and %d more\n", n)
			}
		}
		for _, l := range exchanges {
			a.out.printf("  %s\n", l)
		}
	}
	if a.cfg.JSON {
		a.out.emit("plan", out)
		a.out.emit("summary", struct {
			Changes int `json:"changes"`
		}{p.Changes})
	} else {
		a.out.printf("plan %s: %s\n", p.ID, planLine(p))
		if l := a.quotaLine(p); l != "" {
			a.out.printf("%s\n", l)
		}
		a.note("hint: %s", a.again("plan", "apply", p.ID))
	}
	if dryRun {
		return exitWith(exitFindings)
	}
	return nil
}

func (a *app) planApply(ctx context.Context, id, canary string, wait bool) error {
	w, err := a.openWriting(nil, checkFlags{truth: truthPolicy})
	if err != nil {
		return err
	}
	defer w.close()
	p, err := w.st.OpenPlan(id)
	if err != nil {
		return a.planError(err)
	}
	defer p.Close()
	if !a.cfg.JSON {
		a.noteQuota(p)
	}
	if err := a.confirm(ctx, changeQuestion(p)); err != nil {
		return err
	}
	code, err := a.applyPlan(ctx, w, p, canary, wait)
	if err != nil {
		return err
	}
	return exitWith(code)
}
