package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rightful"
	"rightful/internal/check"
	"rightful/internal/panel"
	"rightful/internal/repair"
	"rightful/internal/term"
	"rightful/internal/tree"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

type fixFlags struct {
	checkFlags
	dryRun     bool
	wait       bool
	canary     string
	maxChanges int
}

func newFix(a *app) *cobra.Command {
	var f fixFlags
	return a.command(verb{
		use:   "fix [ACCOUNT…]",
		short: "plan, canary, verify, the rest",
		does: `Repair owners, groups, modes and ACLs: check, write a plan to disk, change one canary account whose site should
be cured, ask the web server whether it is, then go on in growing stages. An account that gets worse is taken back by
itself; if the canary does, or more than a few, the run stops. Where requests prove nothing, sites are judged by
prediction, and the report says so.

Only what must be there is added and what must not be there is removed; a file that is right is not touched. Everything
is recorded before it is done: rightful undo takes it back exactly.`,
		never: `It never changes what it cannot prove to belong to the account, never opens a secret, never follows a link or
crosses a mount below a home, and never carries out a plan that is predicted to make a site worse.`,
		examples: `
			# show what would be done, and save it as a plan
			rightful fix --dry-run
			# repair everything, alice first, without a question
			rightful fix --canary alice --yes
			# one account, taking a named risk
			rightful fix alice --accept=root-owned:alice`,
		exits: map[int]string{
			exitOK:        "everything is right now",
			exitFindings:  "something was skipped, failed or left for a decision; with --dry-run: there are findings",
			exitCannot:    "cannot run, refused or not confirmed; nothing was changed",
			exitTakenBack: "verification failed: what got worse was taken back",
		},
		flags: func(fs *pflag.FlagSet) {
			f.addRun(fs)
			f.add(fs)
		},
		complete: a.completeAccounts,
		run:      func(ctx context.Context, args []string) error { return a.fix(ctx, args, f) },
	})
}

// addRun adds the flags of a verb that makes a plan and carries it out.
func (f *fixFlags) addRun(fs *pflag.FlagSet) {
	fs.BoolVar(&f.dryRun, "dry-run", false, "save the plan and show it; change nothing")
	addWait(fs, &f.wait)
	fs.StringVar(&f.canary, "canary", "", "change this `ACCOUNT` first")
	fs.IntVar(&f.maxChanges, "max-changes", 0, "refuse a plan of more than `N` changes (0: any)")
}

func addWait(fs *pflag.FlagSet, wait *bool) {
	fs.BoolVar(wait, "wait", false, "wait until nobody else is changing the accounts, instead of refusing")
}

// writing is what the verbs that change something need: the server, and the state directory, locked for this process.
type writing struct {
	*checking
	st     *repair.State
	named  []string // the accounts that the operator named
	unlock func()
}

func (w *writing) close() {
	w.unlock()
	w.checking.close()
}

// openWriting is openChecking for root, with the lock. The caller closes it.
func (a *app) openWriting(args []string, f checkFlags) (*writing, error) {
	if err := a.needRoot(); err != nil {
		return nil, err
	}
	c, err := a.openChecking(args, f)
	if err != nil {
		return nil, err
	}
	w := &writing{checking: c, named: args}
	if w.st, err = repair.OpenState(a.cfg.State, c.s); err != nil {
		err = fail(exitCannot, fmt.Errorf("%w; nothing was changed", err), "--state DIR")
	} else {
		w.unlock, err = a.lock(w.st)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return w, nil
}

// lock locks the server and the state directory for this process.
func (a *app) lock(st *repair.State) (unlock func(), err error) {
	unlock, err = st.Lock(a.commandLine(), a.by())
	if err == nil {
		return unlock, nil
	}
	hint := "--state DIR"
	var held *repair.LockedError
	if errors.As(err, &held) {
		err, hint = fmt.Errorf("begin: %w", err), a.again("runs")
	}
	return nil, fail(exitCannot, fmt.Errorf("%w; nothing was changed", err), hint)
}

// tellPending warns of guarded commands that nobody has looked at yet: what is changed from now on will look like theirs.
func (a *app) tellPending(w *writing) {
	pending, err := w.st.PendingGuards()
	if err != nil {
		a.warn("%v", err)
	}
	for _, g := range pending {
		a.warn("run %s was cut short, and what its command changed was not yet looked at; what is changed now will look like its doing: %s", g.Run, a.again("undo", g.Run))
	}
}

// commandLine is what was typed, for the record.
func (a *app) commandLine() string {
	return term.Command(slices.Concat([]string{"rightful"}, a.env.Args)...)
}

// by is who typed it, as far as sudo tells.
func (a *app) by() string {
	if u := a.env.Getenv("SUDO_USER"); u != "" {
		return u + " (sudo)"
	}
	return "root"
}

func (a *app) fix(ctx context.Context, args []string, f fixFlags) error {
	w, err := a.openWriting(args, f.checkFlags)
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.someLeft(); err != nil {
		return err
	}
	return a.repair(ctx, w, f, "fix")
}

// repair makes a plan of what is to be changed, and carries it out.
func (a *app) repair(ctx context.Context, w *writing, f fixFlags, verb string) error {
	if f.maxChanges < 0 {
		return fail(exitUsage, fmt.Errorf("read --max-changes %d: not a number of changes", f.maxChanges), a.cmd+" --help")
	}
	if f.canary != "" {
		if _, err := a.pick(w.ps, []string{f.canary}); err != nil {
			return err
		}
	}
	if !f.dryRun {
		a.tellPending(w)
		if err := a.alone(ctx, w.checking, w.opts.Accounts, f.wait); err != nil {
			return err
		}
	}
	t, id, left, err := a.planRepair(ctx, w, verb)
	if err != nil {
		return err
	}
	if id == "" {
		return a.nothingToDo(w.checking, t, left)
	}
	plan, err := w.st.OpenPlan(id)
	if err != nil {
		return a.planError(err)
	}
	defer plan.Close()
	if f.maxChanges > 0 && plan.Changes > f.maxChanges {
		return fail(exitCannot, fmt.Errorf("apply plan %s: it has %s, more than --max-changes=%d; nothing was changed", id, counted(plan.Changes, "change", "changes"), f.maxChanges),
			a.again("plan", "show", id))
	}
	if f.dryRun {
		return a.showPlan(plan, true)
	}
	if !a.cfg.JSON {
		a.note("plan %s: %s", id, planLine(plan))
		a.noteQuota(plan)
	}
	if err := a.confirm(ctx, changeQuestion(plan)); err != nil {
		return err
	}
	code, err := a.applyPlan(ctx, w, plan, f.canary, f.wait)
	if err != nil {
		return err
	}
	if left > 0 {
		a.note("%s left for a decision: %s", counted(left, "finding is", "findings are"), a.again("check"))
		code = max(code, exitFindings)
	}
	if brokenFiles(w.ps.Issues) {
		code = max(code, exitFindings)
	}
	return exitWith(code)
}

// planRepair checks and writes the plan. The ID is empty where there is nothing to change; left counts the findings that
// no change is planned for. A rule that most of the server disagrees with is not applied: only the whole walk shows it, so
// the plan is then made again without it.
func (a *app) planRepair(ctx context.Context, c *writing, verb string) (t *tally, id string, left int, err error) {
	d := &draft{h: repair.PlanHeader{Verb: verb, By: a.by(), Command: a.commandLine(), Named: c.named}}
	for _, x := range c.opts.Accept {
		d.h.Accept = append(d.h.Accept, x.String())
	}
	c.opts.Plan = true
	if err := a.draw(ctx, c, d); err != nil {
		return nil, "", 0, err
	}
	if bad := d.census.Distrusted(c.opts.Accept); len(bad) > 0 {
		d.w.Discard()
		c.opts.Distrust = map[string]bool{}
		for _, b := range bad {
			c.opts.Distrust[b.Rule] = true
			a.warn("rule %s: %s (to apply it all the same: --accept=%s)", b.Rule, b.Note, b.Accept)
		}
		if err := a.draw(ctx, c, d); err != nil {
			return nil, "", 0, err
		}
	}
	switch {
	case len(d.worse) > 0:
		d.w.Discard()
		v := d.worse[0]
		why, hint := v.Why, a.again("check", v.Account)
		if v.Culprit != "" {
			why, hint = v.Culprit+": "+v.Why, a.again("explain", v.Culprit)
		}
		return nil, "", 0, fail(exitCannot, fmt.Errorf("plan: site %q would get worse (%s); nothing was changed", v.Site, why), hint)
	case d.w.Changes() == 0:
		d.w.Discard()
		return d.t, "", d.left, nil
	}
	if err := d.w.Commit(); err != nil {
		return nil, "", 0, fail(exitCannot, fmt.Errorf("%w; nothing was changed", err), "--state DIR")
	}
	return d.t, d.w.ID(), d.left, nil
}

// draft is a plan on the way.
type draft struct {
	h      repair.PlanHeader
	w      *repair.PlanWriter
	t      *tally
	worse  []rightful.Verdict
	left   int
	census check.Census
	recent recent
}

// draw walks all accounts and writes the plan, up to its commit.
func (a *app) draw(ctx context.Context, c *writing, d *draft) (err error) {
	d.t, d.worse, d.left, d.census, d.recent = newTally(), nil, 0, check.Census{}, recent{}
	if d.w, err = c.st.NewPlan(d.h); err != nil {
		return fail(exitCannot, fmt.Errorf("%w; nothing was changed", err), "--state DIR")
	}
	p := a.begin("checking", "entries", 0)
	defer p.End()
	c.opts.Walked = func(n int) { p.Add(int64(n)) }
	err = check.Run(ctx, c.opts, func(r *check.Report) error {
		a.lost(r)
		if c.opts.Truth != nil && c.opts.Truth.Restore {
			a.restored(r)
		} else {
			d.recent.add(r)
		}
		d.t.add(r)
		d.census.Add(r)
		d.worse = append(d.worse, r.Worse()...)
		for i := range r.Findings {
			if f := &r.Findings[i]; f.Want == nil || f.Accept != "" || f.Note != "" {
				d.left++
			}
		}
		return writeAccount(d.w, r)
	})
	if err != nil {
		d.w.Discard()
		return a.runError(ctx, err)
	}
	if id, since := d.recent.late(c.opts.Truth); id != "" {
		a.warn("snapshot %s was taken after the first of these entries changed (%s): it may show the damage; to go by older ones: --at '%s'",
			id, since.Format(time.DateTime), since.Format(time.DateTime))
	}
	return nil
}

// recent tells whether a snapshot that changes come from may be younger than the damage.
type recent struct {
	sources map[string]bool
	first   int64 // ns since 1970
}

func (x *recent) add(r *check.Report) {
	if r.First != 0 && (x.first == 0 || r.First < x.first) {
		x.first = r.First
	}
	for i := range r.Findings {
		if s := r.Findings[i].Source; s != "" && !x.sources[s] {
			if x.sources == nil {
				x.sources = map[string]bool{}
			}
			x.sources[s] = true
		}
	}
}

// late gives the newest snapshot that came after the first change, and when that was.
func (x *recent) late(t *check.Truth) (id string, since time.Time) {
	since = time.Unix(0, x.first)
	if t == nil || x.first == 0 {
		return "", since
	}
	for _, sn := range t.Snapshots {
		if x.sources[sn.ID] && sn.Ended.After(since) {
			return sn.ID, since
		}
	}
	return "", since
}

// writeAccount adds one report to a plan.
func writeAccount(w *repair.PlanWriter, r *check.Report) error {
	if len(r.Changes) == 0 {
		return nil
	}
	err := w.Account(repair.PlanAccount{
		Account: r.Account.Name, UID: r.Account.UID, Home: r.Account.Home, Bases: r.Bases, Before: r.Now, After: r.Planned, Quota: r.Quota,
	})
	for i := range r.Changes {
		if err == nil {
			err = w.Change(&r.Changes[i])
		}
	}
	return err
}

func (a *app) nothingToDo(c *checking, t *tally, left int) error {
	if a.cfg.JSON {
		a.out.emit("summary", runSummary{})
	} else {
		a.out.printf("nothing to change in %s (%s)\n", accounts(t.Accounts), entries(t.Entries))
	}
	if left > 0 {
		a.note("%s left for a decision: %s", counted(left, "finding is", "findings are"), a.again("check"))
	}
	if left > 0 || brokenFiles(c.ps.Issues) {
		return exitWith(exitFindings)
	}
	return nil
}

func (a *app) planError(err error) error {
	if errors.Is(err, repair.ErrNoPlan) {
		return fail(exitUsage, err, a.again("runs"))
	}
	return fail(exitCannot, fmt.Errorf("%w; nothing was changed", err))
}

// runOptions are the circumstances of a run; end must be called after it.
func (a *app) runOptions(c *tree.Server, users *panel.Users) (o repair.Options, end func()) {
	p := a.begin("changing", "entries", 0)
	o = repair.Options{
		Server: c, By: a.by(), Command: a.commandLine(), Jobs: a.cfg.Jobs, Wait: a.calm,
		Progress: func(g repair.Progress) {
			p.Total(int64(g.Total))
			p.Note(fmt.Sprintf("stage %d of %d, %s", g.Stage, g.Stages, g.Doing))
		},
		Changed: func(n int) { p.Add(int64(n)) },
	}
	if users != nil {
		o.SystemUID = users.UIDMin
	}
	return o, p.End
}

// applyPlan carries a plan out with verification, and tells how it went. It looks for others first, however short ago that
// was done: the plan may have waited for an answer, and a script that does one account after the other is not to be seen
// at every moment.
func (a *app) applyPlan(ctx context.Context, c *writing, plan *repair.Plan, canary string, wait bool) (int, error) {
	var names []string
	for i := range plan.Accounts {
		names = append(names, plan.Accounts[i].Account)
	}
	if err := a.alone(ctx, c.checking, names, wait); err != nil {
		return 0, err
	}
	o, end := a.runOptions(c.s, c.ps.Users)
	o.Canary = canary
	o.Exclude = a.excluding(plan)
	o.Verify = a.newVerifier(c.opts, plan)
	run, err := c.st.Apply(ctx, plan, o)
	end()
	return a.ended(ctx, c.s.Live(), run, err)
}

type runSummary struct {
	Changed int `json:"changed"`
	Skipped int `json:"skipped"`
	Failed  int `json:"failed"`
}

// ended reports a run and gives its exit code.
func (a *app) ended(ctx context.Context, live bool, run *rightful.Run, err error) (int, error) {
	if run == nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return 0, err
		}
		return 0, fail(exitCannot, fmt.Errorf("%w; nothing was changed", err))
	}
	code, err := a.reported(run, live, err)
	if a.cfg.JSON {
		a.out.emit("summary", runSummary{run.Changed, run.Skipped, run.Failed})
	}
	return code, err
}

// reported is ended without the summary, for a verb that has more to say.
func (a *app) reported(run *rightful.Run, live bool, err error) (int, error) {
	if a.cfg.JSON {
		a.out.emit("run", run)
	} else {
		a.printRun(run, live)
	}
	undo, resume := a.again("undo", run.ID), a.again("resume", run.ID)
	switch run.State {
	case rightful.RunInterrupted:
		a.out.flush()
		return 0, fail(exitInterrupted, errors.New("interrupted"), resume, undo)
	case rightful.RunFailed:
		if run.Changed+run.Failed+run.InDoubt == 0 {
			return 0, fail(exitCannot, fmt.Errorf("run %s: %w; nothing was changed", run.ID, err), resume)
		}
		return 0, fail(exitFindings, fmt.Errorf("run %s: %w", run.ID, err), resume, undo)
	case rightful.RunStopped:
		a.note("earlier stages stay; to take them back too: %s", undo)
		return exitTakenBack, nil
	case rightful.RunTakenBack:
		return exitTakenBack, nil
	}
	if slices.ContainsFunc(run.Stages, func(s rightful.Stage) bool { return len(s.TakenBack) > 0 }) {
		return exitTakenBack, nil
	}
	if run.Otherwise > 0 {
		a.note("%s not as planned", counted(run.Otherwise, "changed entry is", "changed entries are"))
	}
	if run.Skipped+run.Failed+run.Otherwise > 0 {
		a.note("what did not go as planned, and why: %s", a.again("runs", run.ID))
		return exitFindings, nil
	}
	if slices.ContainsFunc(run.Stages, func(s rightful.Stage) bool { return len(s.Uncured) > 0 }) {
		a.note("some sites answer as before: something else than owners and modes is wrong there")
		return exitFindings, nil
	}
	return exitOK, nil
}

// printRun tells about a run, stage by stage.
func (a *app) printRun(run *rightful.Run, live bool) {
	how := "verified by prediction only: there is no live server to ask"
	switch {
	case run.Verb == repair.VerbUndo:
		how = "each entry read back"
	case len(run.Stages) == 0:
		how = "no stage came to be verified"
	case live:
		how = "verified by requests to the web server"
	}
	for i := range run.Stages {
		s := &run.Stages[i]
		who := accounts(len(s.Accounts))
		if len(s.Accounts) == 1 {
			who = "account " + term.Quote(s.Accounts[0])
		}
		if i == 0 && len(run.Stages) > 1 {
			who = "canary " + who
		}
		line := fmt.Sprintf("stage %d: %s: %d changed", s.Stage, who, s.Changed)
		for k, x := range []struct {
			n    int
			what string
		}{{s.Skipped, "skipped"}, {s.Failed, "failed"}, {len(s.Cured), "cured"}, {len(s.Uncured), "not cured"}, {len(s.Worse), "worse"}, {len(s.Unverified), "unverified"}} {
			switch {
			case x.n > 0 && k < 2:
				line += fmt.Sprintf(", %d %s", x.n, x.what)
			case x.n > 0:
				line += fmt.Sprintf(", %s %s", counted(x.n, "site", "sites"), x.what)
			}
		}
		a.out.printf("%s\n", line)
		if len(s.Uncured) > 0 {
			a.out.printf("  not cured: %s\n", quoteAll(s.Uncured))
		}
		for _, w := range s.Worse {
			a.out.printf("  worse: %s\n", term.Quote(w))
		}
		if len(s.TakenBack) > 0 {
			a.out.printf("  taken back: %s\n", quoteAll(s.TakenBack))
		}
	}
	state := string(run.State)
	if run.Reason != "" && run.Reason != state {
		state += ": " + term.Line(run.Reason)
	}
	a.out.printf("run %s %s: %d changed, %d skipped, %d failed (%s)\n", run.ID, state, run.Changed, run.Skipped, run.Failed, how)
}

func quoteAll(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = term.Quote(n)
	}
	return strings.Join(q, " ")
}

func changeQuestion(p *repair.Plan) string {
	return fmt.Sprintf("Change %s in %s?", entries(p.Changes), accounts(len(p.Accounts)))
}

// planLine sums a plan up.
func planLine(p *repair.Plan) string {
	cured := 0
	for i := range p.Accounts {
		acct := &p.Accounts[i]
		for j := range acct.Before {
			if acct.After[j].State.Rank() < acct.Before[j].State.Rank() {
				cured++
			}
		}
	}
	return fmt.Sprintf("%s in %s; %s predicted to be cured", counted(p.Changes, "change", "changes"), accounts(len(p.Accounts)), counted(cured, "site", "sites"))
}
