package cli

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"rightful"
	"rightful/internal/check"
	"rightful/internal/panel"
	"rightful/internal/term"
	"rightful/internal/tree"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// checkFlags are the flags that check and fix share.
type checkFlags struct {
	exact  bool
	accept []string
	truth  string // "" is best
	at     string
}

func (f *checkFlags) add(fs *pflag.FlagSet) {
	fs.BoolVar(&f.exact, "exact", false, "ask for the panel's own mode of everything, not only for what is needed")
	fs.StringArrayVar(&f.accept, "accept", nil, "take a named `RISK` that a finding names, such as root-owned:alice (repeatable)")
	fs.StringVar(&f.truth, "truth", truthBest, "repair to what `TRUTH` says: policy, snapshot, or best (a snapshot where it satisfies the rule)")
	fs.StringVar(&f.at, "at", "", "believe only snapshots before this `TIME` (or so long ago, as 2h)")
}

func newCheck(a *app) *cobra.Command {
	var f checkFlags
	failOn, format := "", ""
	return a.command(verb{
		use:   "check [ACCOUNT…]",
		short: "what is wrong and whom it harms",
		does: `Walk every account, compare owners, groups, modes and ACLs with the panel's rules, and predict what the web
server and PHP answer for every site, visited or not. Each finding names the deciding rule, what a repair would make of
the entry, and the sites it harms.

Effects: down (a site is unreachable), broken (some of its files are), exposed (somebody can read or write what they must
not), wrong (nothing is harmed today), untidy (with --exact only).

Where a panel's backups are made by the account's own user, what that user cannot read is silently missing from the next
one: such accounts are named too. That is a warning and no finding: it is counted as wrong by --fail-on, and not without.`,
		never: `It never changes anything, and never makes a request: states are predicted from the tree.`,
		examples: `
			# everything
			rightful check
			# one account, one JSON object a line
			rightful check alice --json
			# who must be told
			rightful check --format csv > harmed.csv
			# for cron: exit 1 only if a site is down
			rightful check --quiet --fail-on down`,
		exits: map[int]string{
			exitOK:       "nothing is wrong (or nothing as bad as --fail-on says)",
			exitFindings: "there are findings, or a panel file was broken",
			exitCannot:   "cannot run: not root, no accounts, a broken rule file",
		},
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&format, "format", "table", "print a `FORMAT`: table, json (as --json), csv (one line for each site that is not well) or nagios")
			fs.StringVar(&failOn, "fail-on", "", "exit 1 only for findings with this `EFFECT` or a worse one")
			f.add(fs)
		},
		complete: a.completeAccounts,
		run:      func(ctx context.Context, args []string) error { return a.check(ctx, args, f, format, failOn) },
	})
}

// checking is what check, fix and undo need of the server, opened.
type checking struct {
	s    *tree.Server
	ps   *panel.Server
	opts check.Options
	// excluded are the accounts that the configuration leaves out.
	excluded []*panel.Account
}

func (c *checking) close() { c.s.Close() }

// openChecking reads the panel and the rules. The caller closes it.
func (a *app) openChecking(args []string, f checkFlags) (*checking, error) {
	s, err := a.openServer()
	if err != nil {
		return nil, err
	}
	c := &checking{s: s}
	if err := a.fillChecking(c, args, f); err != nil {
		s.Close()
		return nil, err
	}
	return c, nil
}

func (a *app) fillChecking(c *checking, args []string, f checkFlags) (err error) {
	a.yield()
	if c.ps, err = a.readPanel(c.s); err != nil {
		return err
	}
	if _, err = a.pick(c.ps, args); err != nil {
		return err
	}
	for _, i := range c.ps.Issues {
		if brokenFiles([]panel.Issue{i}) {
			a.warn("%s", i)
		} else {
			a.detail("%s", i)
		}
	}
	if err = a.exclude(c, args); err != nil {
		return err
	}
	c.opts = check.Options{Server: c.s, World: c.ps, Accounts: a.included(c.ps, args), Exact: f.exact, Exclude: a.cfg.ExcludePath, Jobs: a.cfg.Jobs, Wait: a.calm, Quota: a.env.Quota}
	if c.opts.Overrides, err = overrides(c.s); err != nil {
		return fail(exitCannot, err)
	}
	if c.opts.Accept, err = a.risks(c.ps, f.accept); err != nil {
		return err
	}
	c.opts.Truth, err = a.truth(c.s, f)
	return err
}

// exclude makes sure that what the configuration leaves out is what was meant, and finds the accounts among it.
func (a *app) exclude(c *checking, named []string) error {
	for _, p := range a.cfg.ExcludePath {
		if _, err := path.Match(p, ""); err != nil || !path.IsAbs(p) {
			return fail(exitUsage, fmt.Errorf("exclude path %q: not an absolute pattern", p), "--exclude-path '/home/*/PATTERN'")
		}
	}
	for _, n := range a.cfg.ExcludeAccount {
		acct, ok := c.ps.Account(n)
		switch {
		case !ok:
			a.warn("exclude account %q: there is no such account", n)
		case len(named) == 0:
			c.excluded = append(c.excluded, acct)
			a.detail("%s: %s", term.Quote(acct.Home), excludedNote)
		}
	}
	return nil
}

// someLeft refuses to go on where every account is excluded: no account at all would mean each of them.
func (c *checking) someLeft() error {
	if len(c.excluded) > 0 && len(c.opts.Accounts) == 0 {
		return fail(exitCannot, errors.New("check accounts: every one is excluded"), "--exclude-account ACCOUNT")
	}
	return nil
}

// included gives the accounts to check: those named, else all that the configuration does not exclude.
func (a *app) included(ps *panel.Server, names []string) []string {
	if len(names) > 0 || len(a.cfg.ExcludeAccount) == 0 {
		return names
	}
	for i := range ps.Accounts {
		if n := ps.Accounts[i].Name; !slices.Contains(a.cfg.ExcludeAccount, n) {
			names = append(names, n)
		}
	}
	return names
}

// tally sums up reports as they come.
type tally struct {
	Accounts int `json:"accounts"`
	Entries  int `json:"entries"`
	Findings int `json:"findings"`
	Sites    int `json:"sites"`
	Down     int `json:"down"`
	Broken   int `json:"broken"`
	Exposed  int `json:"exposed"`
	// Gaps counts the accounts whose next backup would be incomplete.
	Gaps    int     `json:"incomplete_backups"`
	Seconds float64 `json:"seconds"`
	effects map[rightful.Effect]int
	worst   int
	bad     bool // the exit code says so
}

func newTally() *tally {
	return &tally{effects: map[rightful.Effect]int{}, worst: rightful.Effect("").Rank()}
}

func (t *tally) add(r *check.Report) {
	t.Accounts++
	t.Entries += r.Entries
	t.Findings += len(r.Findings)
	for i := range r.Findings {
		e := r.Findings[i].Effect
		t.effects[e]++
		t.worst = min(t.worst, e.Rank())
		if e == rightful.EffectExposed {
			t.Exposed++
		}
	}
	if r.Gap != nil {
		t.Gaps++
	}
	for _, v := range r.Now {
		t.Sites++
		switch v.State {
		case rightful.SiteDown:
			t.Down++
		case rightful.SiteBroken:
			t.Broken++
		}
	}
}

func (a *app) check(ctx context.Context, args []string, f checkFlags, format, failOn string) error {
	if failOn != "" && !slices.Contains(rightful.Effects, rightful.Effect(failOn)) {
		return fail(exitUsage, fmt.Errorf("unknown effect %q: it must be one of %v", failOn, rightful.Effects), a.cmd+" --help")
	}
	a.cfg.JSON = a.cfg.JSON || format == "json"
	shown, err := a.reporter(format)
	if err != nil {
		return err
	}
	c, err := a.openChecking(args, f)
	if err != nil {
		return shown.cannot(err)
	}
	defer c.close()
	if err := c.someLeft(); err != nil {
		return shown.cannot(err)
	}
	if a.cfg.JSON {
		for _, x := range c.excluded {
			a.out.emit("note", check.Note{Account: x.Name, Path: x.Home, PathB64: rightful.RawPath(x.Home), Note: excludedNote})
		}
	}
	for _, b := range c.busy(c.opts.Accounts) {
		a.warn("process %d is changing %s right now: %s", b.PID, term.Quote(b.Path), b.Command)
		if a.cfg.JSON {
			a.out.emit("process", b)
		}
	}
	start := time.Now()
	t := newTally()
	p := a.begin("checking", "entries", 0)
	c.opts.Walked = func(n int) { p.Add(int64(n)) }
	var census check.Census
	err = check.Run(ctx, c.opts, func(r *check.Report) error {
		t.add(r)
		a.lost(r)
		shown.add(r)
		census.Add(r)
		return a.out.err
	})
	p.End()
	if err != nil {
		return shown.cannot(a.runError(ctx, err))
	}
	for _, f := range census.Distrusted(c.opts.Accept) {
		t.Findings++
		t.effects[f.Effect]++
		shown.distrusted(&f)
	}
	t.Seconds = time.Since(start).Seconds()
	t.bad = t.Findings > 0 || t.Down+t.Broken > 0
	if failOn != "" {
		worst := t.worst
		if t.Gaps > 0 {
			worst = min(worst, rightful.EffectWrong.Rank())
		}
		t.bad = worst <= rightful.Effect(failOn).Rank()
	}
	t.bad = t.bad || brokenFiles(c.ps.Issues)
	return exitWith(shown.end(t))
}

// lost warns of what could not be read of snapshots.
func (a *app) lost(r *check.Report) {
	for _, err := range r.Lost {
		a.warn("%v", err)
	}
}

// runError gives the exit code of an error from below: an interrupt keeps its own.
func (a *app) runError(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return err
	}
	return fail(exitCannot, err)
}
