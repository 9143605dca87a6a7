package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"rightful"
	"rightful/internal/check"
	"rightful/internal/repair"
	"rightful/internal/snapshot"
	"rightful/internal/term"
	"rightful/internal/wrapper"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// When what a command changed is taken back, for --undo-on.
const (
	undoNever   = "never"
	undoWorse   = "worse"
	undoChanged = "changed"
)

// exitGuard is guard's own failure, as env(1) and nohup(1) have it; the command's own codes lie below.
const exitGuard = 125

type guardFlags struct {
	accounts        []string
	undoOn          string
	install, remove bool
}

func newGuard(a *app) *cobra.Command {
	var f guardFlags
	c := a.command(verb{
		use:   "guard -- COMMAND…",
		short: "run any command; show what it changed; offer to take it back",
		does: `Record owner, group, mode, ACLs and capabilities of everything in the accounts, run the command, and compare: what
it changed, in how many accounts, and which sites are worse than before, by prediction and by requests. What it changed
becomes a run, which rightful undo takes back exactly, like any other; also if the command, this program or the machine
dies half-way.

If a site got worse, a terminal is asked, and without one it is taken back at once; --undo-on says otherwise. The command
keeps the terminal, its signals and its exit code. The report goes to standard error; with --json it follows on standard
output what the command printed.

--install puts a wrapper in front of a program, such as a panel's script that is run by hand or by cron, so that it never
runs unguarded again; --remove takes it away.`,
		never: `It never takes back contents, or what the command deleted or created: it counts what came and went. It never runs the
command where it could not record what was before.`,
		examples: `
			rightful guard -- /scripts/chownpublichtmls
			# two accounts are enough; take back whatever it changes
			rightful guard --accounts alice,bob --undo-on=changed -- chown -R alice: /home/alice
			rightful guard --install /scripts/chownpublichtmls`,
		exits: map[int]string{
			exitOK:        "any code of the command's own is passed on",
			exitTakenBack: "what the command changed was taken back",
			exitGuard:     "guard itself could not do it; 126 and 127: the command could not be run, or was not found",
		},
		flags: func(fs *pflag.FlagSet) {
			fs.StringSliceVar(&f.accounts, "accounts", nil, "watch only these `ACCOUNTS`, which are all that the command may touch")
			fs.StringVar(&f.undoOn, "undo-on", undoWorse, "`WHEN` to take it back: never, worse (a site is worse), changed (anything is)")
			fs.BoolVar(&f.install, "install", false, "put a wrapper in front of a program that guards it from now on")
			fs.BoolVar(&f.remove, "remove", false, "take the wrapper away again")
		},
		args: between(1, 0, "a command"),
		run:  func(ctx context.Context, args []string) error { return a.guard(ctx, args, f) },
	})
	c.Flags().SetInterspersed(false)
	return c
}

// watch is one guarded command.
type watch struct {
	*writing
	undoOn string
	g      *repair.Guard
	sites  *verifier
}

func (a *app) guard(ctx context.Context, args []string, f guardFlags) error {
	if f.install || f.remove {
		return a.wrap(args, f)
	}
	if f.undoOn != undoNever && f.undoOn != undoWorse && f.undoOn != undoChanged {
		return fail(exitGuard, fmt.Errorf("read --undo-on %q: it must be never, worse or changed; the command was not run", f.undoOn), a.cmd+" --help")
	}
	for i := range f.accounts {
		f.accounts[i] = strings.TrimSpace(f.accounts[i])
	}
	program, err := exec.LookPath(args[0])
	if err != nil {
		code := 127
		if errors.Is(err, os.ErrPermission) {
			code = 126
		}
		return fail(code, fmt.Errorf("find command %q: %w", args[0], errors.Unwrap(err)))
	}
	signals := make(chan os.Signal, 8)
	if outer, err := a.outerWatch(f); err != nil {
		return ownFailure(err)
	} else if outer != nil {
		a.note("guard: this command is part of what run %s watches", outer.Run)
		defer catch(signals)()
		code, _, err := a.runGuarded(program, args, outer.Run, signals)
		if err != nil {
			return ownFailure(err)
		}
		return exitWith(code)
	}
	w, err := a.beginWatch(ctx, f)
	if err != nil {
		return ownFailure(err)
	}
	defer w.close()
	// From here on signals are the command's: its end is what is waited for, however it comes.
	defer catch(signals)()
	if ctx.Err() != nil { // the last one that came for us
		return errors.Join(ctx.Err(), w.st.EndGuard(w.g.Run))
	}
	code, reason, err := a.runGuarded(program, args, w.g.Run, signals)
	if err != nil {
		return ownFailure(errors.Join(err, w.st.EndGuard(w.g.Run)))
	}
	ctx = context.WithoutCancel(ctx)
	d, err := a.compareWatch(ctx, w, reason)
	if err != nil {
		return fail(exitGuard, fmt.Errorf("%s, but what it changed is not known yet: %w", reason, err), a.again("undo", w.g.Run))
	}
	return a.decide(ctx, w, d, code, signals)
}

// guardedVar tells a command by which run it is watched, for the wrappers of programs that it runs in turn.
const guardedVar = "RIGHTFUL_GUARDED"

// outerWatch gives the watch that this one would be a part of: a guarded command runs a guarded command. It is nil where
// there is none, or where that one does not watch all that this one would.
func (a *app) outerWatch(f guardFlags) (*repair.Guard, error) {
	id := a.env.Getenv(guardedVar)
	if id == "" || a.needRoot() != nil {
		return nil, nil
	}
	s, err := a.openServer()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	st, err := repair.OpenState(a.cfg.State, s)
	if err != nil {
		return nil, fail(exitCannot, err, "--state DIR")
	}
	g, err := st.PendingGuard(id)
	if err != nil || g == nil || g.All {
		return g, err
	}
	for _, n := range f.accounts {
		if !slices.Contains(g.Accounts, n) {
			return nil, nil
		}
	}
	if len(f.accounts) == 0 {
		return nil, nil
	}
	return g, nil
}

// catch has signals delivered until the returned function is called. One that whoever started us ignores stays ignored,
// for the command too, as nohup(1) wants it. A reader of ours that went away must not end us with the command's doing
// not yet looked at.
func catch(signals chan os.Signal) (stop func()) {
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	gone := make(chan os.Signal, 1)
	signal.Notify(gone, unix.SIGPIPE)
	return func() {
		signal.Stop(signals)
		signal.Stop(gone)
	}
}

// ownFailure gives guard's own exit code to an error, so that it cannot be taken for the command's.
func ownFailure(err error) error {
	var f *failure
	if !errors.As(err, &f) {
		return fail(exitGuard, err)
	}
	if f.code >= exitGuard {
		return err
	}
	return &failure{exitGuard, f.err, f.hints}
}

// beginWatch puts on disk what everything is before the command, and finds out how the sites answer.
func (a *app) beginWatch(ctx context.Context, f guardFlags) (*watch, error) {
	writing, err := a.openWriting(f.accounts, checkFlags{truth: truthPolicy})
	if err != nil {
		return nil, err
	}
	w := &watch{writing: writing, undoOn: f.undoOn}
	if err = w.someLeft(); err == nil {
		a.tellPending(w.writing)
		a.tellUnwatched(w)
		err = a.askAll(ctx, w)
	}
	if err == nil {
		err = a.recordBefore(ctx, w, len(f.accounts) == 0)
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// tellUnwatched says where the configuration keeps us from looking.
func (a *app) tellUnwatched(w *watch) {
	if n := len(w.excluded); n > 0 {
		a.note("guard: %s excluded, and not watched", counted(n, "account is", "accounts are"))
	}
	if len(w.opts.Exclude) > 0 {
		a.note("guard: excluded, and not watched: %s", quoteAll(w.opts.Exclude))
	}
}

// askAll asks every site that is watched for its front page.
func (a *app) askAll(ctx context.Context, w *watch) error {
	for _, b := range w.busy(w.opts.Accounts) {
		a.warn("process %d is changing %s right now, and what it does will look like the command's doing: %s", b.PID, term.Quote(b.Path), term.Line(b.Command))
	}
	w.sites = a.newVerifier(w.opts, nil)
	for i := range w.ps.Accounts {
		acct := &w.ps.Accounts[i]
		if len(w.opts.Accounts) > 0 && !slices.Contains(w.opts.Accounts, acct.Name) {
			continue
		}
		for _, s := range acct.Sites {
			if reqs := w.sites.requests(acct, rightful.Verdict{Site: s.Name}); len(reqs) > 0 {
				w.sites.add(&siteBase{Account: acct.Name, Site: s.Name, Requests: reqs})
			}
		}
	}
	return w.sites.ask(ctx, w.sites.order)
}

// recordBefore takes the snapshot that the command's doing is found out by, and notes that it is about to run.
func (a *app) recordBefore(ctx context.Context, w *watch, all bool) error {
	st, err := snapshot.Open(a.cfg.State, w.s)
	if err != nil {
		return fail(exitGuard, err, "--state DIR")
	}
	taking, missed, _, err := a.record(ctx, w.checking, st, repair.VerbGuard) // a home that is not there, nobody can harm
	if err != nil {
		return err
	}
	if missed > 0 {
		taking.Discard()
		return fail(exitGuard, errors.New("record what was before: not everything could be; the command was not run"), "--accounts ACCOUNTS", "--exclude-account ACCOUNT")
	}
	sn, err := taking.Commit()
	if err != nil {
		return fail(exitGuard, fmt.Errorf("%w; the command was not run", err), "--state DIR")
	}
	g := repair.Guard{Snapshot: sn.ID, All: all, By: a.by(), Command: a.commandLine()}
	unread := 0
	for i := range sn.Accounts {
		g.Accounts = append(g.Accounts, sn.Accounts[i].Account)
		unread += sn.Accounts[i].Unread
	}
	if unread > 0 {
		a.warn("%s could not be read, or is another file system, and is not watched: %s", entries(unread), a.again("snapshot", "show", sn.ID))
	}
	if w.g, err = w.st.BeginGuard(g); err != nil {
		return fail(exitGuard, fmt.Errorf("%w; the command was not run", err), "--state DIR")
	}
	return nil
}

// runGuarded runs the command with our own streams, as part of a run, and passes signals on. The error says that it was not
// started.
func (a *app) runGuarded(program string, args []string, run string, signals <-chan os.Signal) (code int, reason string, err error) {
	a.out.flush()
	cmd := &exec.Cmd{Path: program, Args: args, Stdin: a.env.Stdin, Stdout: a.env.Stdout, Stderr: a.env.Stderr}
	cmd.Env = append(cmd.Environ(), guardedVar+"="+run)
	if err := cmd.Start(); err != nil {
		return 0, "", fail(126, fmt.Errorf("run command %q: %w", args[0], errors.Unwrap(err)))
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			// What is typed at a terminal goes to the command too, which would get it twice.
			typed := s == unix.SIGINT || s == unix.SIGQUIT
			if !typed || !a.env.StdinTTY {
				cmd.Process.Signal(s) // one that has ended needs none
			}
		case err := <-ended:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				a.warn("wait for command %q: %v", args[0], err)
			}
			if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
				return 128 + int(ws.Signal()), "the command was ended by " + unix.SignalName(ws.Signal()), nil
			}
			code = cmd.ProcessState.ExitCode()
			return code, fmt.Sprintf("the command ended with %d", code), nil
		}
	}
}

// did is what a guarded command did.
type did struct {
	run       *rightful.Run
	gone, new int
	left      int // recorded entries whose change cannot be taken back
	worse     []worseSite
	better    []string
}

// worseSite is a site that is worse than before a command.
type worseSite struct {
	Account string `json:"account"`
	Site    string `json:"site"`
	By      string `json:"by"`
	Why     string `json:"why"`
	Culprit string `json:"culprit,omitempty"`
}

// How a site is known to be worse.
const (
	byPrediction = "prediction"
	byRequest    = "request"
	byBoth       = "prediction and request"
)

// compareWatch finds out what the command did, and makes a run of it.
func (a *app) compareWatch(ctx context.Context, w *watch, reason string) (*did, error) {
	d := &did{}
	for _, b := range w.busy(w.g.Accounts) {
		a.warn("process %d is still changing %s, and what it does from now on is not seen: %s", b.PID, term.Quote(b.Path), term.Line(b.Command))
	}
	var err error
	d.run, err = a.settleGuard(ctx, w.writing, w.g, reason, func(r *check.Report) {
		d.gone, d.new = d.gone+r.Gone, d.new+r.New
		for i := range r.Findings {
			if f := &r.Findings[i]; f.Source != "" && (f.Want == nil || f.Accept != "" || f.Note != "") {
				d.left++
			}
		}
		for i, now := range r.Now {
			was := r.Planned[i]
			switch {
			case now.State.Rank() > was.State.Rank() || now.State == was.State && now.Blocked > was.Blocked:
				d.worse = append(d.worse, worseSite{now.Account, now.Site, byPrediction, now.Why, now.Culprit})
			case now.State.Rank() < was.State.Rank():
				d.better = append(d.better, now.Site)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	var bs []*siteBase
	for _, k := range w.sites.order {
		bs = append(bs, w.sites.sites[k])
	}
	looks, err := w.sites.compare(ctx, bs, 0)
	if err != nil {
		return nil, err
	}
	for i, l := range looks {
		if l.got != lower {
			continue
		}
		k := slices.IndexFunc(d.worse, func(s worseSite) bool { return s.Account == bs[i].Account && s.Site == bs[i].Site })
		if k >= 0 {
			d.worse[k].By = byBoth
		} else {
			d.worse = append(d.worse, worseSite{bs[i].Account, bs[i].Site, byRequest, l.why, ""})
		}
	}
	return d, nil
}

// settleGuard compares accounts with what they were before a watched command, and makes a run of the difference. tell, if
// set, is called for each account, with what it is (Now) and was (Planned).
func (a *app) settleGuard(ctx context.Context, w *writing, g *repair.Guard, reason string, tell func(*check.Report)) (*rightful.Run, error) {
	st, err := snapshot.Open(a.cfg.State, w.s)
	if err != nil {
		return nil, fail(exitCannot, err, "--state DIR")
	}
	sn, err := a.findSnapshot(st, g.Snapshot, g.Started)
	if err != nil {
		return nil, err
	}
	opts := w.opts
	opts.Accounts, opts.Plan = nil, true
	opts.Truth = &check.Truth{Store: st, Snapshots: []*snapshot.Snapshot{sn}, Restore: true, Was: true}
	for _, n := range g.Accounts {
		if acct, ok := w.ps.Account(n); ok {
			opts.Accounts = append(opts.Accounts, n)
			// What the command closed was not closed by a person on purpose, and what fitted into a quota before does
			// again. Only of an account that a watch cut short may have been suspended after, nothing is touched.
			opts.Accept = append(opts.Accept, check.Accept{Risk: check.RiskQuota, Name: n})
			if !acct.Suspended || tell != nil {
				opts.Accept = append(opts.Accept, check.Accept{Risk: check.RiskLocked, Name: n})
			}
		} else {
			a.warn("account %s is no more: what the command did to it is not known", term.Quote(n))
		}
	}
	plan, err := w.st.NewPlan(repair.PlanHeader{Verb: repair.VerbGuard, By: g.By, Command: g.Command})
	if err != nil {
		return nil, fail(exitCannot, err, a.again("undo", g.Run))
	}
	p := a.begin("comparing", "entries", 0)
	defer p.End()
	opts.Walked = func(n int) { p.Add(int64(n)) }
	if len(opts.Accounts) > 0 {
		err = check.Run(ctx, opts, func(r *check.Report) error {
			if tell != nil {
				tell(r)
			}
			r.Changes = repair.Watched(r.Changes)
			r.Now, r.Planned = r.Planned, r.Now
			return writeAccount(plan, r)
		})
	}
	if err != nil {
		plan.Discard()
		return nil, a.runError(ctx, err)
	}
	if err := plan.Commit(); err != nil {
		return nil, fail(exitCannot, err, a.again("undo", g.Run))
	}
	run, err := w.st.RecordGuard(g, plan.ID(), reason)
	if err != nil {
		return nil, fail(exitCannot, err, a.again("undo", g.Run))
	}
	return run, nil
}

// decide tells what the command did, and takes it back where that is wanted.
func (a *app) decide(ctx context.Context, w *watch, d *did, code int, signals <-chan os.Signal) error {
	a.tellWatch(d)
	back := d.run.Changed > 0 && (w.undoOn == undoChanged || w.undoOn == undoWorse && len(d.worse) > 0)
	if back && w.undoOn == undoWorse && a.env.StdinTTY && a.env.StderrTTY {
		back = a.askBack(ctx, d, signals)
	}
	if !back {
		if d.run.Changed > 0 && !a.cfg.JSON {
			a.note("kept; to take it back: %s", a.again("undo", d.run.ID))
		}
		a.watchJSON(d, nil)
		return exitWith(code)
	}
	o, end := a.runOptions(w.s, w.ps.Users)
	defer end()
	id, err := w.st.PlanUndo(ctx, d.run.ID, o, repair.PlanHeader{By: a.by(), Command: a.commandLine()})
	if err != nil {
		return ownFailure(a.runError(ctx, err))
	}
	p, err := w.st.OpenPlan(id)
	if err != nil {
		return ownFailure(a.planError(err))
	}
	defer p.Close()
	undo, err := w.st.Apply(ctx, p, o)
	end()
	if undo == nil {
		return ownFailure(fmt.Errorf("take back: %w", err))
	}
	undo.Skipped += len(p.Skips)
	if !a.cfg.JSON {
		a.note("taken back: %d changed, %d skipped, %d failed (run %s)", undo.Changed, undo.Skipped, undo.Failed, undo.ID)
	}
	a.watchJSON(d, undo)
	if err != nil || undo.Skipped+undo.Failed+undo.Otherwise > 0 {
		return fail(exitGuard, errors.Join(errors.New("take back: not all of it could be"), err), a.again("runs", undo.ID))
	}
	return exitWith(exitTakenBack)
}

// errSignal says that a signal ended a question.
var errSignal = errors.New("interrupted")

// askBack asks whether what the command changed is to be taken back. Where the terminal is lost it is, as where there never
// was one.
func (a *app) askBack(ctx context.Context, d *did, signals <-chan os.Signal) bool {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		for {
			select {
			case s := <-signals:
				if s == unix.SIGHUP {
					cancel(unix.EIO)
				}
				cancel(errSignal)
			case <-ctx.Done():
				return
			}
		}
	}()
	err := a.confirm(ctx, fmt.Sprintf("Take back what the command changed (%s)?", entries(d.run.Changed)))
	return err == nil || errors.Is(err, unix.EIO)
}

// tellWatch says on standard error what the command did: standard output is the command's.
func (a *app) tellWatch(d *did) {
	if a.cfg.JSON {
		return
	}
	a.note("guard: %s; %s changed in %s (run %s)", d.run.Reason, entries(d.run.Changed), accounts(watched(d.run)), d.run.ID)
	if d.gone+d.new > 0 {
		a.note("guard: %s gone and %d new, which is not taken back", entries(d.gone), d.new)
	}
	if d.left > 0 {
		a.note("guard: %s more changed that would not be taken back: replaced by others, linked from elsewhere, or immutable", entries(d.left))
	}
	for i, s := range d.worse {
		if i == maxShown {
			a.note("guard: … and %d more", len(d.worse)-maxShown)
			break
		}
		where := ""
		if s.Culprit != "" {
			where = term.Quote(s.Culprit) + ": "
		}
		a.note("guard: site %s is worse, by %s: %s%s", term.Quote(s.Site), s.By, where, term.Line(s.Why))
	}
	if n := len(d.better); n > 0 {
		a.note("guard: %s better by prediction: %s", counted(n, "site is", "sites are"), quoteAll(d.better[:min(n, maxShown)]))
	}
}

// watched counts the accounts that a command changed something in.
func watched(r *rightful.Run) (n int) {
	for _, s := range r.Stages {
		n += len(s.Accounts)
	}
	return n
}

func (a *app) watchJSON(d *did, undo *rightful.Run) {
	if !a.cfg.JSON {
		return
	}
	for _, s := range d.worse {
		a.out.emit("worse", s)
	}
	a.out.emit("run", d.run)
	if undo != nil {
		a.out.emit("run", undo)
	}
	a.out.emit("summary", struct {
		Run       string `json:"run"`
		Changed   int    `json:"changed"`
		Accounts  int    `json:"accounts"`
		Gone      int    `json:"gone"`
		New       int    `json:"new"`
		Left      int    `json:"left"`
		Worse     int    `json:"worse"`
		TakenBack bool   `json:"taken_back"`
	}{d.run.ID, d.run.Changed, watched(d.run), d.gone, d.new, d.left, len(d.worse), undo != nil})
}

// wrap puts a wrapper before a program, or takes it away.
func (a *app) wrap(args []string, f guardFlags) error {
	if f.install && f.remove || len(args) != 1 {
		return fail(exitUsage, errors.New("install a wrapper: it takes --install or --remove, and one program"), a.cmd+" --help")
	}
	if err := a.needRoot(); err != nil {
		return err
	}
	s, err := a.openServer()
	if err != nil {
		return err
	}
	defer s.Close()
	path := args[0]
	if !strings.Contains(path, "/") && s.Live() {
		if path, err = exec.LookPath(path); err != nil {
			return fail(exitUsage, fmt.Errorf("find command %q: %w", args[0], errors.Unwrap(err)))
		}
	}
	if f.remove {
		if err := wrapper.Remove(s, path); err != nil {
			return fail(exitCannot, fmt.Errorf("%w; nothing was changed", err))
		}
		a.out.printf("%s runs unguarded again\n", term.Quote(path))
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return fail(exitCannot, fmt.Errorf("find this program: %w", err))
	}
	own := []string{self, "guard", "--undo-on=" + f.undoOn}
	if len(f.accounts) > 0 {
		own = append(own, "--accounts="+strings.Join(f.accounts, ","))
	}
	where, err := a.whereAlways()
	if err != nil {
		return fail(exitCannot, err)
	}
	if err := wrapper.Install(s, path, term.Command(append(own, where...)...)); err != nil {
		hints := []string{}
		if left, ok := errors.AsType[*wrapper.LeftError](err); ok {
			hints = append(hints, term.Command("rm", left.Path))
		}
		return fail(exitCannot, fmt.Errorf("%w; nothing was changed", err), hints...)
	}
	a.out.printf("%s is guarded from now on; to take that back: %s\n", term.Quote(path), a.again("guard", "--remove", path))
	return nil
}

// whereAlways gives the flags that say which server and state directory this is, from wherever and with whatever
// environment they are used: a wrapper is run by cron.
func (a *app) whereAlways() ([]string, error) {
	var out []string
	for _, name := range []string{"root", "state", "config"} {
		v := a.env.Getenv("RIGHTFUL_" + strings.ToUpper(name))
		if i := slices.Index(a.where, "--"+name); i >= 0 {
			v = a.where[i+1]
		}
		if v == "" {
			continue
		}
		v, err := filepath.Abs(v)
		if err != nil {
			return nil, fmt.Errorf("resolve --%s: %w", name, err)
		}
		out = append(out, "--"+name, v)
	}
	for _, v := range a.cfg.WebConfig {
		out = append(out, "--web-config", v)
	}
	return out, nil
}
