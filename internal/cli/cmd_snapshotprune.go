package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"rightful"
	"rightful/internal/repair"
	"rightful/internal/snapshot"
	"rightful/internal/term"
	"rightful/internal/tree"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newSnapshotPrune(a *app) *cobra.Command {
	var p snapshot.Retention
	dryRun := false
	return a.command(verb{
		use:   "prune",
		short: "remove old snapshots",
		does: `Keep the snapshots that the flags name, and remove the others with what only they recorded. The newest of each hour,
day, week, month or year counts; only such as have one are counted. What several flags keep is kept once.`,
		never: "It never removes anything if no flag says what is kept.",
		examples: `
			rightful snapshot prune --keep-hourly 24 --keep-daily 7 --keep-weekly 4 --dry-run`,
		exits: map[int]string{exitFindings: "some snapshot could not be read, and stays with all that is recorded"},
		args:  noArgs,
		flags: func(fs *pflag.FlagSet) {
			for _, k := range []struct {
				n    *int
				name string
				what string
			}{
				{&p.Last, "last", "the newest `N`"},
				{&p.Hourly, "hourly", "the newest of each of `N` hours"},
				{&p.Daily, "daily", "the newest of each of `N` days"},
				{&p.Weekly, "weekly", "the newest of each of `N` weeks"},
				{&p.Monthly, "monthly", "the newest of each of `N` months"},
				{&p.Yearly, "yearly", "the newest of each of `N` years"},
			} {
				fs.IntVar(k.n, "keep-"+k.name, 0, "keep "+k.what)
			}
			fs.StringArrayVar(&p.Tags, "keep-tag", nil, "keep all with this `WORD` (repeatable)")
			fs.BoolVar(&dryRun, "dry-run", false, "say what would be removed; remove nothing")
		},
		run: func(ctx context.Context, _ []string) error { return a.snapshotPrune(ctx, p, dryRun) },
	})
}

// prunedJSON is one snapshot as prune prints it.
type prunedJSON struct {
	Snapshot string    `json:"snapshot"`
	Created  time.Time `json:"created"`
	Tag      string    `json:"tag,omitempty"`
	Keep     []string  `json:"keep"` // why; empty: it is removed
}

func (a *app) snapshotPrune(ctx context.Context, p snapshot.Retention, dryRun bool) error {
	nothing := true
	for _, n := range []int{p.Last, p.Hourly, p.Daily, p.Weekly, p.Monthly, p.Yearly} {
		if n < 0 {
			return fail(exitUsage, fmt.Errorf("read number of snapshots %d: less than nothing", n), a.cmd+" --help")
		}
		nothing = nothing && n == 0
	}
	if nothing && len(p.Tags) == 0 {
		return fail(exitUsage, errors.New("prune snapshots: nothing says what is kept"), a.again("snapshot", "prune", "--keep-daily", "7"))
	}
	s, st, err := a.openStore()
	if err != nil {
		return err
	}
	defer s.Close()
	all, unread := st.List()
	keep := p.Keep(all, time.Local)
	needed, err := a.neededByGuards(s)
	if err != nil {
		return err
	}
	var remove []string
	table := term.Table{Head: []string{"snapshot", "taken", "tag", "keep"}}
	for i, sn := range all {
		if needed[sn.ID] {
			keep[i] = append(keep[i], repair.VerbGuard)
		}
		why := strings.Join(keep[i], ", ")
		if len(keep[i]) == 0 {
			remove = append(remove, sn.ID)
			why = "-"
		}
		if a.cfg.JSON {
			a.out.emit("pruned", prunedJSON{sn.ID, sn.Created, sn.Tag, keep[i]})
		}
		table.Row(sn.ID, sn.Created.Local().Format("2006-01-02 15:04"), orDash(sn.Tag), why)
	}
	if !a.cfg.JSON && table.Len() > 0 {
		a.out.printf("%s\n", table.String())
	}
	freed := int64(0)
	if !dryRun && len(remove) > 0 {
		if err := a.confirm(ctx, fmt.Sprintf("Remove %s of %d?", counted(len(remove), "snapshot", "snapshots"), len(all))); err != nil {
			return err
		}
		if freed, err = st.Remove(remove); err != nil {
			return fail(exitCannot, err)
		}
	}
	if a.cfg.JSON {
		a.out.emit("summary", struct {
			Kept    int   `json:"kept"`
			Removed int   `json:"removed"`
			Freed   int64 `json:"freed"`
		}{len(all) - len(remove), len(remove), freed})
	} else if dryRun {
		a.out.printf("%d kept, %d would be removed\n", len(all)-len(remove), len(remove))
	} else {
		a.out.printf("%d kept, %d removed, %s freed\n", len(all)-len(remove), len(remove), rightful.SizeText(freed))
	}
	if unread != nil {
		return fail(exitFindings, unread)
	}
	return nil
}

// neededByGuards gives the snapshots by which it is yet to be found out what a guarded command did.
func (a *app) neededByGuards(s *tree.Server) (map[string]bool, error) {
	st, err := repair.OpenState(a.cfg.State, s)
	if err != nil {
		return nil, fail(exitCannot, err, "--state DIR")
	}
	pending, err := st.PendingGuards()
	if err != nil {
		return nil, fail(exitCannot, fmt.Errorf("%w; nothing was removed", err))
	}
	needed := map[string]bool{}
	for _, g := range pending {
		needed[g.Snapshot] = true
	}
	return needed, nil
}
