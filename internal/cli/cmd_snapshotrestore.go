package cli

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"rightful/internal/check"
	"rightful/internal/snapshot"
	"rightful/internal/term"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

type restoreFlags struct {
	fixFlags
	below string
	only  []string
}

func newSnapshotRestore(a *app) *cobra.Command {
	var f restoreFlags
	return a.command(verb{
		use:   "restore SNAP [ACCOUNT…]",
		short: "go back to what a snapshot recorded",
		does: `Give entries back the owner, group, mode, ACLs and capabilities that a snapshot recorded, by a plan that is carried
out, verified and taken back like that of fix. An entry is known by its inode, wherever in the account it is now. One
that only stands where another stood is restored too, but gets no privilege. Entries that came or went since are counted
and left alone. With --at instead of a snapshot, the newest one before that time is taken.

--only takes owner (owner and group), mode, acl and caps.`,
		never: `It never creates, moves or deletes anything, never touches contents, and never carries out a plan that is predicted
to make a site worse. A privilege is given back only where the content is still the same.`,
		examples: `
			rightful snapshot restore latest --dry-run
			rightful snapshot restore 20261122-0931 alice --only owner
			# everything in one directory, as it was before the accident
			rightful snapshot restore --at '2026-11-22 09:30' --path /home/alice/public_html`,
		exits: map[int]string{
			exitOK:        "everything recorded is as it was",
			exitFindings:  "something was skipped, failed or left for a decision; with --dry-run: there are differences",
			exitUsage:     "wrong usage, or an unknown account or snapshot",
			exitCannot:    "cannot run, refused or not confirmed; nothing was changed",
			exitTakenBack: "verification failed: what got worse was taken back",
		},
		args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 && f.at == "" {
				return errors.New("neither a snapshot nor --at given")
			}
			return nil
		},
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&f.at, "at", "", "take the newest snapshot before this `TIME` (or so long ago, as 2h)")
			fs.StringVar(&f.below, "path", "", "restore only this `PATH` and what is beneath it")
			fs.StringSliceVar(&f.only, "only", nil, "restore only these `FIELDS`: owner, mode, acl, caps")
			f.addRun(fs)
			fs.StringArrayVar(&f.accept, "accept", nil, "take a named `RISK` that a finding names, such as root-owned:alice (repeatable)")
		},
		run: func(ctx context.Context, args []string) error { return a.snapshotRestore(ctx, args, f) },
	})
}

// onlyFields reads --only.
func onlyFields(words []string) (snapshot.Fields, error) {
	only := snapshot.Fields(0)
	for _, w := range words {
		switch strings.TrimSpace(w) {
		case "owner":
			only |= snapshot.FieldUID | snapshot.FieldGID
		case "mode":
			only |= snapshot.FieldMode
		case "acl":
			only |= snapshot.FieldACL
		case "caps":
			only |= snapshot.FieldCaps
		default:
			return 0, fail(exitUsage, fmt.Errorf("read --only %q: it must be owner, mode, acl or caps", w))
		}
	}
	return only, nil
}

func (a *app) snapshotRestore(ctx context.Context, args []string, f restoreFlags) error {
	only, err := onlyFields(f.only)
	if err != nil {
		return err
	}
	if f.below != "" && !path.IsAbs(f.below) {
		return fail(exitUsage, fmt.Errorf("read --path %q: not an absolute path", f.below))
	}
	at, err := a.parseTime(f.at)
	if err != nil {
		return err
	}
	name, names := "latest", args
	if f.at == "" {
		name, names = args[0], args[1:]
	}
	f.truth = truthPolicy // the snapshot takes its place
	w, err := a.openWriting(names, f.checkFlags)
	if err != nil {
		return err
	}
	defer w.close()
	st, err := snapshot.Open(a.cfg.State, w.s)
	if err != nil {
		return fail(exitCannot, err, "--state DIR")
	}
	sn, err := a.findSnapshot(st, name, at)
	if err != nil {
		return err
	}
	for _, n := range names {
		if _, ok := sn.Account(n); !ok {
			return fail(exitUsage, fmt.Errorf("restore account %q from snapshot %q: %w", n, sn.ID, snapshot.ErrNotTaken), a.again("snapshot", "show", sn.ID))
		}
	}
	if err := w.someLeft(); err != nil {
		return err
	}
	var left []string
	all := w.opts.Accounts
	if len(all) == 0 {
		for i := range w.ps.Accounts {
			all = append(all, w.ps.Accounts[i].Name)
		}
	}
	w.opts.Accounts = nil
	for _, n := range all {
		if _, ok := sn.Account(n); ok {
			w.opts.Accounts = append(w.opts.Accounts, n)
		} else {
			left = append(left, n)
		}
	}
	if len(left) > 0 {
		a.note("not in snapshot %s: %s", sn.ID, quoteAll(left))
	}
	if len(w.opts.Accounts) == 0 {
		return fail(exitCannot, fmt.Errorf("restore snapshot %q: none of its accounts is on this server any more", sn.ID))
	}
	w.opts.Truth = &check.Truth{Store: st, Snapshots: []*snapshot.Snapshot{sn}, Restore: true, Only: only, Below: cleaned(f.below)}
	a.note("snapshot %s, taken %s", sn.ID, sn.Created.Local().Format("2006-01-02 15:04:05"))
	return a.repair(ctx, w, f.fixFlags, "restore")
}

func cleaned(p string) string {
	if p == "" {
		return ""
	}
	return path.Clean(p)
}

// restored tells what a restore of one account leaves alone, and why.
func (a *app) restored(r *check.Report) {
	if a.cfg.JSON {
		for i := range r.Findings {
			a.out.emit("finding", r.Findings[i])
		}
		for i := range r.Notes {
			a.out.emit("note", r.Notes[i])
		}
		a.out.emit("compared", struct {
			Account string `json:"account"`
			Entries int    `json:"entries"`
			Changes int    `json:"changes"`
			Gone    int    `json:"gone"`
			New     int    `json:"new"`
		}{r.Account.Name, r.Entries, len(r.Changes), r.Gone, r.New})
		return
	}
	shown := 0
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Want != nil && f.Accept == "" && f.Note == "" {
			continue
		}
		if shown++; shown > maxShown && !a.cfg.Verbose {
			continue
		}
		for _, l := range a.findingLines(f) {
			a.out.printf("%s\n", l)
		}
	}
	if n := shown - maxShown; n > 0 && !a.cfg.Verbose {
		a.out.printf("        … and %d more in account %s\n", n, term.Quote(r.Account.Name))
	}
	for _, n := range r.Notes {
		a.detail("%s: %s", term.Quote(n.Path), n.Note)
	}
	if r.Gone+r.New > 0 {
		a.note("account %s: %s gone and %d new since then, left as they are", term.Quote(r.Account.Name), entries(r.Gone), r.New)
	}
}
