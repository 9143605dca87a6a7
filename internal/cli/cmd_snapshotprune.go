package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rightful"
	"rightful/internal/repair"
	"rightful/internal/state"
	"rightful/internal/term"
	"rightful/internal/tree"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newSnapshotPrune(a *app) *cobra.Command {
	var k keepFlags
	var tags []string
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
			k.add(fs)
			fs.StringArrayVar(&tags, "keep-tag", nil, "keep all with this `WORD` (repeatable)")
		},
		run: func(ctx context.Context, _ []string) error { return a.snapshotPrune(ctx, k, tags) },
	})
}

// keepFlags say what a series is pruned to.
type keepFlags struct {
	state.Retention
	dryRun bool
}

func (k *keepFlags) add(fs *pflag.FlagSet) {
	for _, x := range []struct {
		n    *int
		name string
		what string
	}{
		{&k.Last, "last", "the newest `N`"},
		{&k.Hourly, "hourly", "the newest of each of `N` hours"},
		{&k.Daily, "daily", "the newest of each of `N` days"},
		{&k.Weekly, "weekly", "the newest of each of `N` weeks"},
		{&k.Monthly, "monthly", "the newest of each of `N` months"},
		{&k.Yearly, "yearly", "the newest of each of `N` years"},
	} {
		fs.IntVar(x.n, "keep-"+x.name, 0, "keep "+x.what)
	}
	fs.BoolVar(&k.dryRun, "dry-run", false, "say what would be removed; remove nothing")
}

// check refuses flags that keep nothing; otherwise: something else says what is kept.
func (k *keepFlags) check(a *app, otherwise bool) error {
	for _, n := range []int{k.Last, k.Hourly, k.Daily, k.Weekly, k.Monthly, k.Yearly} {
		if n < 0 {
			return fail(exitUsage, fmt.Errorf("read number to keep %d: less than nothing", n), a.cmd+" --help")
		}
	}
	if k.Retention == (state.Retention{}) && !otherwise {
		return fail(exitUsage, errors.New("prune: nothing says what is kept"), a.cmd+" --keep-daily 7")
	}
	return nil
}

// prunedJSON is one snapshot as prune prints it.
type prunedJSON struct {
	Snapshot string    `json:"snapshot"`
	Created  time.Time `json:"created"`
	Tag      string    `json:"tag,omitempty"`
	Keep     []string  `json:"keep"` // why; empty: it is removed
}

func (a *app) snapshotPrune(ctx context.Context, k keepFlags, tags []string) error {
	if err := k.check(a, len(tags) > 0); err != nil {
		return err
	}
	s, st, err := a.openStore()
	if err != nil {
		return err
	}
	defer s.Close()
	all, unread := st.List()
	times := make([]time.Time, len(all))
	for i, sn := range all {
		times[i] = sn.Created
	}
	keep := k.Keep(times, time.Local)
	needed, err := a.neededByGuards(s)
	if err != nil {
		return err
	}
	var remove []string
	table := term.Table{Head: []string{"snapshot", "taken", "tag", "keep"}}
	for i, sn := range all {
		if sn.Tag != "" && slices.Contains(tags, sn.Tag) {
			keep[i] = append(keep[i], "tag")
		}
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
	return a.prune(ctx, k, pruning{"snapshot", "snapshots", len(all), remove, st.Remove, unread})
}

// pruning is what is to be removed of a series, and how.
type pruning struct {
	one, many string
	of        int
	remove    []string
	by        func(ids []string) (freed int64, err error)
	unread    error // what could not be looked at, and stays
}

// prune removes what is not kept, if that is wanted, and tells what was done.
func (a *app) prune(ctx context.Context, k keepFlags, p pruning) (err error) {
	freed, kept := int64(0), p.of-len(p.remove)
	if !k.dryRun && len(p.remove) > 0 {
		if err := a.confirm(ctx, fmt.Sprintf("Remove %s of %d?", counted(len(p.remove), p.one, p.many), p.of)); err != nil {
			return err
		}
		if freed, err = p.by(p.remove); err != nil {
			return fail(exitCannot, err)
		}
	}
	switch {
	case a.cfg.JSON:
		a.out.emit("summary", struct {
			Kept    int   `json:"kept"`
			Removed int   `json:"removed"`
			Freed   int64 `json:"freed"`
		}{kept, len(p.remove), freed})
	case k.dryRun:
		a.out.printf("%d kept, %d would be removed\n", kept, len(p.remove))
	default:
		a.out.printf("%d kept, %d removed, %s freed\n", kept, len(p.remove), rightful.SizeText(freed))
	}
	if p.unread != nil {
		return fail(exitFindings, p.unread)
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
