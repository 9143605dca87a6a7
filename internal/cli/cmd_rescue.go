package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"rightful"
	"rightful/internal/panel"
	"rightful/internal/rescue"
	"rightful/internal/term"
	"rightful/internal/tree"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

type rescueFlags struct {
	from, maps                      []string
	owner, report                   string
	preferBackup, keep, wait        bool
	dryRun, resume, finish, discard bool
}

func newRescue(a *app) *cobra.Command {
	var f rescueFlags
	return a.command(verb{
		use:   "rescue ACCOUNT",
		short: "rebuild the home of an account from whatever is left",
		does: `Rebuild the home of an account that the panel still knows, and whose home is missing, empty or a ruin. What can be
had comes from the sources that --from names, the best first; from the vault; from what is left in the home, which wins
unless --prefer-backup says otherwise; and from the newest snapshot, which tells owners and modes. What no source has, the
panel's standard folders and links, is made anew.

A source is a directory; a tar (also in gzip, xz, zstd or bzip2) or zip archive, a panel's own backup among them; vault or
vault:ID; restic:REPOSITORY, which may end in #SNAPSHOT; or borg:REPOSITORY::ARCHIVE. The last two run those programs, with
the environment that they need. What a source is, and where in it the home or a document root lies, is found out and said
before anything is done. Where that is not certain you are asked, or say it by --map; of several
sources that is for those in which the place is.

The home is rebuilt in a quarantine beside its place, by a process with the account's rights alone, gets owners and modes by
the rules and the snapshot, and then changes places with the old one in one step. Sites are asked before and after; if one is
worse, the old home comes back. The old home is kept until --finish; rightful undo puts it back.`,
		never: `It never writes over what is still there, never touches anything outside the home, and never follows a link that a
backup or the account made.`,
		examples: `
			# what would be rebuilt, and from what
			rightful rescue alice --from /backup/cpmove-alice.tar.gz --dry-run
			rightful rescue alice --from /backup/cpmove-alice.tar.gz --from /backup/last-month/alice.tar.gz
			# only the site is left, in an archive from somebody's desktop
			rightful rescue alice --from site.zip --map www=public_html
			# nothing is left: standard folders, and a list of the mailboxes that there were
			rightful rescue alice
			# what to tell the customer
			rightful rescue alice --report html >alice.html
			# all is well: remove the old home
			rightful rescue alice --finish`,
		exits: map[int]string{
			exitOK:        "the account is back, and nothing is known to be missing",
			exitFindings:  "the account is back, and the report names what is not; of --dry-run: it can be rebuilt",
			exitUsage:     "wrong usage, an unknown account, or a source that is not there",
			exitCannot:    "cannot run, not certain enough, no room, or not confirmed; the account was not changed",
			exitTakenBack: "verification failed: the old home is back, and the rebuilt one is kept in the quarantine",
		},
		args: exactlyOne("an account"),
		flags: func(fs *pflag.FlagSet) {
			fs.StringArrayVar(&f.from, "from", nil, "rebuild from this `SOURCE` (repeatable, the best first)")
			fs.StringArrayVar(&f.maps, "map", nil, "what lies at `SRC=DST`: a path in the source and one below the home, . for all; repeatable")
			fs.StringVar(&f.owner, "owner", "", "what the account was called where the backup was made: a `USER`")
			fs.BoolVar(&f.preferBackup, "prefer-backup", false, "take a file from the sources even where the home still has one")
			fs.BoolVar(&f.keep, "keep", false, "keep the rebuilt home even if a site answers worse than before")
			fs.BoolVar(&f.dryRun, "dry-run", false, "say what would be rebuilt from what; write nothing")
			fs.BoolVar(&f.resume, "resume", false, "go on with a rescue that was cut short or taken back")
			fs.BoolVar(&f.finish, "finish", false, "remove the old home for good")
			fs.BoolVar(&f.discard, "discard", false, "give a rescue up and remove what was rebuilt")
			fs.StringVar(&f.report, "report", "", "print the report of the last rescue as `FORMAT`: text or html")
			addWait(fs, &f.wait)
		},
		complete: a.completeAccounts,
		run:      func(ctx context.Context, args []string) error { return a.rescue(ctx, args[0], f) },
	})
}

// check finds flags that contradict each other.
func (f *rescueFlags) check() error {
	var verbs []string
	for _, v := range []struct {
		set  bool
		name string
	}{{f.resume, "--resume"}, {f.finish, "--finish"}, {f.discard, "--discard"}, {f.report != "", "--report"}} {
		if v.set {
			verbs = append(verbs, v.name)
		}
	}
	switch {
	case len(verbs) > 1:
		return fail(exitUsage, fmt.Errorf("%s and %s do not go together", verbs[0], verbs[1]))
	case len(verbs) == 1 && (len(f.from)+len(f.maps) > 0 || f.owner != "" || f.preferBackup || f.dryRun):
		return fail(exitUsage, fmt.Errorf("%s is about a rescue that was begun: its sources are known", verbs[0]))
	case f.report != "" && f.report != "text" && f.report != "html":
		return fail(exitUsage, fmt.Errorf("read --report %q: it must be text or html", f.report))
	}
	return nil
}

// A rescuing is one rescue on the way.
type rescuing struct {
	a    *app
	f    rescueFlags
	c    *checking
	acct *panel.Account
	home string // links resolved
	st   *rescue.Store
	r    *rescue.Record
	// mapped: --map was of use for a source.
	mapped bool
	// looked is when it was found out what is left of the home.
	looked time.Time
	// truth is what our own records know of the account as it was.
	truth *lastKnown
}

func (a *app) rescue(ctx context.Context, name string, f rescueFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	if err := a.needRoot(); err != nil {
		return err
	}
	c, err := a.openChecking([]string{name}, checkFlags{})
	if err != nil {
		return err
	}
	defer c.close()
	acct, _ := c.ps.Account(name)
	x := &rescuing{a: a, f: f, c: c, acct: acct}
	if x.home, err = realHome(c.s, acct.Home); err != nil {
		return fail(exitCannot, err)
	}
	if x.st, err = rescue.OpenStore(a.cfg.State, c.s); err != nil {
		return fail(exitCannot, err, "--state DIR")
	}
	open, err := x.st.OfAccount(name)
	if err != nil {
		a.warn("%v", err)
	}
	switch {
	case f.report != "":
		return x.printReport()
	case f.finish || f.discard || f.resume:
		if open == nil {
			return fail(exitUsage, fmt.Errorf("find rescue of account %q: none is under way", name), a.again("rescue", name))
		}
		x.r = open
		unlock, err := x.lock()
		if err != nil {
			return err
		}
		defer unlock()
		if x.r, err = x.st.Get(open.ID); err != nil { // as it is now that nobody else is at it
			return fail(exitCannot, err)
		}
		if !x.r.Open() {
			return fail(exitCannot, fmt.Errorf("open rescue %q: it has come to its end meanwhile; nothing was changed", open.ID))
		}
		switch {
		case f.finish:
			return x.finish(ctx)
		case f.discard:
			return x.discard(ctx)
		}
		return x.resume(ctx)
	case open != nil && open.Removing():
		return x.halfRemoved(open)
	case open != nil:
		x.r = open
		return x.unfinished()
	}
	return x.begin(ctx)
}

// unfinished refuses to begin where an earlier rescue is not at its end, and says how it could be brought there.
func (x *rescuing) unfinished() error {
	a, r := x.a, x.r
	in, err := x.inPlace()
	switch {
	case err != nil:
		return err
	case in:
		return fail(exitCannot, fmt.Errorf("begin: rescue %s brought a rebuilt home of account %q in, and is not finished; nothing was changed", r.ID, r.Account),
			a.again("rescue", r.Account, "--finish"), a.again("undo", r.Run))
	case r.Step == rescue.StepSwitched:
		return fail(exitCannot, fmt.Errorf("begin: rescue %s of account %q was undone, and what it rebuilt is kept; nothing was changed", r.ID, r.Account),
			a.again("rescue", r.Account, "--resume"), a.again("rescue", r.Account, "--discard"))
	}
	return fail(exitCannot, fmt.Errorf("begin: rescue %s of account %q is not at its end; nothing was changed", r.ID, r.Account),
		a.again("rescue", r.Account, "--resume"), a.again("rescue", r.Account, "--discard"))
}

// finishedRescues names the runs of which the old home is no more.
func (a *app) finishedRescues(s *tree.Server) (map[string]bool, error) {
	st, err := rescue.OpenStore(a.cfg.State, s)
	if err != nil {
		return nil, err
	}
	all, err := st.List()
	runs := map[string]bool{}
	for _, r := range all {
		runs[r.Run] = runs[r.Run] || r.Step == rescue.StepFinished
	}
	return runs, err
}

// realHome is where a home stands, links on the way resolved; the home itself need not be there.
func realHome(s *tree.Server, home string) (string, error) {
	for _, at := range []string{home, path.Dir(home)} {
		chain, err := s.Trace(at)
		if err == nil {
			real := chain[len(chain)-1].Path
			if at != home {
				real = rightful.JoinPath(real, path.Base(home))
			}
			return real, nil
		}
		if !tree.IsNotExist(err) || at != home {
			return "", err
		}
		// A link that leads nowhere stands in the way of whatever is built.
		if st, err := s.Lstat(home); err == nil && st.Kind == rightful.KindSymlink {
			return "", fmt.Errorf("find home %q: it is a link that leads nowhere", home)
		}
	}
	return "", fmt.Errorf("find home %q: %w", home, os.ErrNotExist)
}

// lock makes sure that nobody else works on the same rescue.
func (x *rescuing) lock() (unlock func(), err error) {
	unlock, err = x.st.Lock(x.r.ID)
	if err != nil {
		return nil, fail(exitCannot, fmt.Errorf("%w; nothing was changed", err), x.a.again("runs"))
	}
	return unlock, nil
}

// begin finds out what there is, says it, asks, and does it.
func (x *rescuing) begin(ctx context.Context) error {
	a := x.a
	x.truth = x.lastKnown()
	defer x.truth.close()
	sources, err := x.sources(ctx)
	if err != nil {
		return err
	}
	x.r = &rescue.Record{
		Account: x.acct.Name, UID: x.acct.UID, GID: x.acct.GID, Home: x.home, By: a.by(), Command: a.commandLine(), Sources: sources,
		Since: x.looked,
	}
	if x.truth.snapshot != nil {
		x.r.Snapshot = x.truth.snapshot.ID
	}
	if x.f.dryRun {
		if a.cfg.JSON {
			a.out.emit("summary", struct {
				Sources int `json:"sources"`
			}{len(sources)})
		} else {
			args := slices.DeleteFunc(slices.Clone(a.env.Args), func(arg string) bool { return arg == "--dry-run" })
			a.out.printf("nothing was written; to do it: %s\n", term.Command(append([]string{"rightful"}, args...)...))
		}
		return exitWith(exitFindings)
	}
	from := "from " + counted(len(sources), "source", "sources")
	if len(sources) == 0 {
		from = "with standard folders and links only"
	}
	if err := a.confirm(ctx, fmt.Sprintf("Rebuild %s %s?", x.home, from)); err != nil {
		return err
	}
	if err := x.st.New(x.r); err != nil {
		return fail(exitCannot, fmt.Errorf("%w; nothing was changed", err), "--state DIR")
	}
	unlock, err := x.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return x.work(ctx)
}

// removal is the flag by which a removal goes on.
func removal(r *rescue.Record) string {
	if r.Step == rescue.StepFinishing {
		return "--finish"
	}
	return "--discard"
}

// halfRemoved refuses everything but to go on removing.
func (x *rescuing) halfRemoved(r *rescue.Record) error {
	how := removal(r)
	return fail(exitCannot, fmt.Errorf("go on with rescue %s: %s was begun; nothing was changed", r.ID, how), x.a.again("rescue", x.acct.Name, how))
}

// resume goes on with a rescue that was cut short.
func (x *rescuing) resume(ctx context.Context) error {
	if x.r.Removing() {
		return x.halfRemoved(x.r)
	}
	if x.r.Home != x.home || x.r.UID != x.acct.UID {
		return fail(exitCannot, fmt.Errorf("resume rescue %s: account %q was another then, with uid %d and home %q; nothing was changed", x.r.ID, x.acct.Name, x.r.UID, x.r.Home),
			x.a.again("rescue", x.acct.Name, "--discard"))
	}
	x.truth = x.lastKnown()
	defer x.truth.close()
	if x.r.Step == rescue.StepSwitched {
		in, err := x.inPlace()
		if err != nil {
			return err
		}
		if !in { // it was undone
			x.r.Step, x.r.Plan, x.r.Run, x.r.Report = rescue.StepRebuilt, "", "", nil
		}
	}
	return x.work(ctx)
}

// work does what is not done yet.
func (x *rescuing) work(ctx context.Context) error {
	if x.r.Step == rescue.StepRebuilding {
		if err := x.rebuild(ctx); err != nil {
			return x.cutShort(ctx, err)
		}
	}
	code := exitOK
	if x.r.Step == rescue.StepRebuilt {
		var err error
		if code, err = x.bringIn(ctx); err != nil {
			return x.cutShort(ctx, err)
		}
		if x.r.Step == rescue.StepRebuilt { // taken back
			if x.a.cfg.JSON {
				x.emit()
			}
			x.a.note("the rebuilt home is kept at %s: %s, or %s", term.Quote(x.r.Quarantine), x.a.again("rescue", x.acct.Name, "--resume", "--keep"),
				x.a.again("rescue", x.acct.Name, "--discard"))
			return exitWith(code)
		}
	}
	if err := x.tell(ctx); err != nil {
		return x.cutShort(ctx, err)
	}
	if !x.r.Report.Whole() {
		code = max(code, exitFindings)
	}
	return exitWith(code)
}

// cutShort adds to an error how to go on.
func (x *rescuing) cutShort(ctx context.Context, err error) error {
	hints := []string{x.a.again("rescue", x.acct.Name, "--resume"), x.a.again("rescue", x.acct.Name, "--discard")}
	if x.r.Removing() {
		hints = []string{x.a.again("rescue", x.acct.Name, removal(x.r))}
	}
	if ctx.Err() != nil {
		return fail(exitInterrupted, errors.New("interrupted"), hints...)
	}
	if f, ok := errors.AsType[*failure](err); ok {
		f.hints = append(f.hints, hints...)
		return err
	}
	return fail(exitCannot, err, hints...)
}

// finish removes the old home.
func (x *rescuing) finish(ctx context.Context) error {
	a := x.a
	if x.r.Step == rescue.StepDiscarding {
		return x.halfRemoved(x.r)
	}
	if in, err := x.inPlace(); err != nil {
		return err
	} else if !in {
		return fail(exitCannot, fmt.Errorf("finish rescue %s: the rebuilt home does not stand in its place; nothing was changed", x.r.ID),
			a.again("rescue", x.acct.Name, "--resume"), a.again("rescue", x.acct.Name, "--discard"))
	}
	with := ""
	if r := x.r.Report; r != nil && r.Late != nil {
		with = ", with " + counted(r.Late.Files, "file that is there only", "files that are there only")
	}
	return x.remove(ctx, rescue.StepFinishing, rescue.StepFinished, fmt.Sprintf("Remove the old home of %s, kept at %s%s, for good?", x.acct.Name, x.r.Quarantine, with), "the old home is removed; the run can not be undone any more")
}

// discard removes what was rebuilt.
func (x *rescuing) discard(ctx context.Context) error {
	if in, err := x.inPlace(); err != nil {
		return err
	} else if in {
		return fail(exitCannot, fmt.Errorf("discard rescue %s: the rebuilt home stands in its place; nothing was changed", x.r.ID),
			x.a.again("undo", x.r.Run), x.a.again("rescue", x.acct.Name, "--finish"))
	}
	return x.remove(ctx, rescue.StepDiscarding, rescue.StepDiscarded, fmt.Sprintf("Remove what was rebuilt for %s at %s?", x.acct.Name, x.r.Quarantine), "what was rebuilt is removed; the account was not changed")
}

func (x *rescuing) remove(ctx context.Context, during, step rescue.Step, question, done string) error {
	a := x.a
	if err := a.confirm(ctx, question); err != nil {
		return err
	}
	unlock, err := x.lockServer()
	if err != nil {
		return err
	}
	defer unlock()
	q, err := rescue.MakeQuarantine(x.c.s, x.r)
	if err != nil {
		return fail(exitCannot, err)
	}
	defer q.Close()
	// From here on there is nothing to be gone on with.
	x.r.Step = during
	if err := x.st.Save(x.r); err != nil {
		return fail(exitCannot, fmt.Errorf("%w; nothing was changed", err), "--state DIR")
	}
	if err := q.Remove(ctx); err != nil {
		return x.cutShort(ctx, err)
	}
	x.r.Step = step
	if err := x.st.Save(x.r); err != nil {
		return fail(exitCannot, err, "--state DIR")
	}
	if a.cfg.JSON {
		x.emit()
	} else {
		a.out.printf("rescue %s: %s\n", x.r.ID, done)
	}
	return nil
}

// printReport prints what is told of the last rescue.
func (x *rescuing) printReport() error {
	all, err := x.st.List()
	if err != nil {
		x.a.warn("%v", err)
	}
	for _, r := range all {
		if r.Account != x.acct.Name || r.Report == nil {
			continue
		}
		var b strings.Builder
		if x.f.report == "html" {
			err = r.Report.HTML(&b)
		} else {
			err = r.Report.Text(&b, term.Line)
		}
		if err != nil {
			return fail(exitCannot, err)
		}
		x.a.out.write([]byte(b.String()))
		return nil
	}
	return fail(exitUsage, fmt.Errorf("find report of account %q: it was not rescued", x.acct.Name), x.a.again("rescue", x.acct.Name))
}
