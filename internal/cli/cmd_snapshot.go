package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"rightful"
	"rightful/internal/check"
	"rightful/internal/panel"
	"rightful/internal/snapshot"
	"rightful/internal/term"
	"rightful/internal/tree"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newSnapshot(a *app) *cobra.Command {
	return a.family(verb{
		use:   "snapshot VERB",
		short: "record owners, modes and ACLs; compare; restore them",
		does: `A snapshot is the owner, group, mode, ACLs and capabilities of every entry of the accounts at one time. It is what
fix prefers to a rule's own idea, and what restore goes back to. It takes some bytes for each entry, and nothing for an
account that did not change.

A snapshot is named by its ID, the beginning of one, or latest.`,
		never: "It never holds contents: what is deleted or overwritten cannot come back from it.",
		examples: `
			# now, of everything
			rightful snapshot take
			# what changed since
			rightful snapshot diff latest
			# back to it, alice only
			rightful snapshot restore latest alice --dry-run`,
	}, newSnapshotTake(a), newSnapshotList(a), newSnapshotShow(a), newSnapshotDiff(a), newSnapshotRestore(a), newSnapshotExport(a),
		newSnapshotImport(a), newSnapshotVerify(a), newSnapshotPrune(a))
}

func newSnapshotTake(a *app) *cobra.Command {
	tag := ""
	return a.command(verb{
		use:   "take [ACCOUNT…]",
		short: "record the accounts as they are",
		does: `Walk every account once and record what it is. Of entries with a privilege (set-id bits, capabilities, an owner of
the system's) the content is hashed too, so that restore can tell whether it is still the same.`,
		never: "It never changes an account, and never opens a file but those that it hashes.",
		examples: `
			rightful snapshot take
			rightful snapshot take alice --tag before-migration`,
		exits: map[int]string{exitFindings: "taken, but some directory could not be recorded"},
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&tag, "tag", "", "mark it with a `WORD`, which list shows and prune can keep")
		},
		complete: a.completeAccounts,
		run:      func(ctx context.Context, args []string) error { return a.snapshotTake(ctx, args, tag) },
	})
}

func newSnapshotList(a *app) *cobra.Command {
	return a.command(verb{
		use:   "list",
		short: "which snapshots there are",
		does:  "List all snapshots, newest first.",
		never: "It never changes anything.",
		examples: `
			rightful snapshot list`,
		exits: map[int]string{exitFindings: "some snapshot could not be read"},
		args:  noArgs,
		run:   func(context.Context, []string) error { return a.snapshotList() },
	})
}

func newSnapshotVerify(a *app) *cobra.Command {
	return a.command(verb{
		use:   "verify [SNAP]",
		short: "read snapshots from end to end",
		does:  "Read one snapshot, or all, from end to end, and make sure that every byte is as it was written.",
		never: "It never changes anything.",
		examples: `
			rightful snapshot verify
			rightful snapshot verify latest`,
		exits: map[int]string{exitFindings: "something is damaged"},
		args:  atMostOne,
		run:   func(ctx context.Context, args []string) error { return a.snapshotVerify(ctx, args) },
	})
}

// openStore opens the server and its snapshots. The caller closes the server.
func (a *app) openStore() (*tree.Server, *snapshot.Store, error) {
	s, err := a.openForRoot()
	if err != nil {
		return nil, nil, err
	}
	st, err := snapshot.Open(a.cfg.State, s)
	if err != nil {
		s.Close()
		return nil, nil, fail(exitCannot, err, "--state DIR")
	}
	return s, st, nil
}

// findSnapshot gives the snapshot that was named.
func (a *app) findSnapshot(st *snapshot.Store, name string, at time.Time) (*snapshot.Snapshot, error) {
	sn, err := st.Find(name, at)
	if err == nil {
		return sn, nil
	}
	if _, ok := errors.AsType[*snapshot.AmbiguousError](err); ok || errors.Is(err, snapshot.ErrNone) {
		return nil, fail(exitUsage, err, a.again("snapshot", "list"))
	}
	return nil, fail(exitCannot, err, a.again("snapshot", "verify"))
}

// snapshotJSON is one snapshot as --json prints it.
type snapshotJSON struct {
	Snapshot   string    `json:"snapshot"`
	Created    time.Time `json:"created"`
	Ended      time.Time `json:"ended"`
	By         string    `json:"by"`
	Command    string    `json:"command"`
	Tag        string    `json:"tag,omitempty"`
	Source     string    `json:"source,omitempty"`
	Confidence string    `json:"confidence,omitempty"`
	Reasons    []string  `json:"reasons,omitempty"`
	Accounts   int       `json:"accounts"`
	Entries    int       `json:"entries"`
	Bytes      int64     `json:"bytes"`
	Unread     int       `json:"unread"`
}

func toJSON(sn *snapshot.Snapshot) snapshotJSON {
	j := snapshotJSON{
		Snapshot: sn.ID, Created: sn.Created, Ended: sn.Ended, By: sn.By, Command: sn.Command, Tag: sn.Tag, Source: sn.Source,
		Confidence: sn.Confidence, Reasons: sn.Reasons, Accounts: len(sn.Accounts),
	}
	for i := range sn.Accounts {
		j.Entries += sn.Accounts[i].Entries
		j.Bytes += sn.Accounts[i].Bytes
		j.Unread += sn.Accounts[i].Unread
	}
	return j
}

// record takes a snapshot, up to its commit. The numbers of directories that could not be recorded, and of homes that are
// not there, are given too.
func (a *app) record(ctx context.Context, c *checking, st *snapshot.Store, tag string) (k *snapshot.Taking, missed, absent int, err error) {
	var previous *snapshot.Snapshot
	if last, err := st.Newest(time.Time{}, 1); err == nil && len(last) > 0 {
		previous = last[0]
	}
	k, err = st.Create(snapshot.Header{By: a.by(), Command: a.commandLine(), Tag: tag})
	if err != nil {
		return nil, 0, 0, fail(exitCannot, err, "--state DIR")
	}
	p := a.begin("recording", "entries", 0)
	defer p.End()
	c.opts.Walked = func(n int) { p.Add(int64(n)) }
	err = check.Record(ctx, c.opts, k, previous, st, func(acct *panel.Account, err error) {
		if tree.IsNotExist(err) {
			absent++
		} else {
			missed++
		}
		a.warn("%v", err)
	})
	if err != nil {
		k.Discard()
		return nil, 0, 0, a.runError(ctx, err)
	}
	return k, missed, absent, nil
}

func (a *app) snapshotTake(ctx context.Context, args []string, tag string) error {
	if err := a.needRoot(); err != nil {
		return err
	}
	c, err := a.openChecking(args, checkFlags{truth: truthPolicy})
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.someLeft(); err != nil {
		return err
	}
	st, err := snapshot.Open(a.cfg.State, c.s)
	if err != nil {
		return fail(exitCannot, err, "--state DIR")
	}
	for _, b := range c.busy(c.opts.Accounts) {
		a.warn("process %d is changing %s right now: %s", b.PID, term.Quote(b.Path), term.Line(b.Command))
	}
	start := time.Now()
	k, missed, absent, err := a.record(ctx, c, st, tag)
	if err != nil {
		return err
	}
	sn, err := k.Commit()
	if err != nil {
		return fail(exitCannot, err, "--state DIR")
	}
	j, took := toJSON(sn), time.Since(start).Seconds()
	if a.cfg.JSON {
		a.out.emit("snapshot", j)
		a.out.emit("summary", struct {
			Snapshot string  `json:"snapshot"`
			Accounts int     `json:"accounts"`
			Entries  int     `json:"entries"`
			Bytes    int64   `json:"bytes"`
			NewBytes int64   `json:"new_bytes"`
			Missed   int     `json:"missed"`
			Seconds  float64 `json:"seconds"`
		}{sn.ID, j.Accounts, j.Entries, j.Bytes, k.Fresh(), missed + absent, took})
	} else {
		a.out.printf("snapshot %s: %s, %s, %s (%s of it new) in %.2f s\n", sn.ID, accounts(j.Accounts), entries(j.Entries),
			rightful.SizeText(j.Bytes), rightful.SizeText(k.Fresh()), took)
	}
	if j.Unread > 0 {
		a.warn("%s could not be read, or is another file system: %s says what", entries(j.Unread), a.again("snapshot", "show", sn.ID))
	}
	if missed+absent > 0 || brokenFiles(c.ps.Issues) {
		return exitWith(exitFindings)
	}
	return nil
}

func (a *app) snapshotList() error {
	s, st, err := a.openStore()
	if err != nil {
		return err
	}
	defer s.Close()
	all, err := st.List()
	table := term.Table{Head: []string{"snapshot", "taken", ">accounts", ">entries", ">size", "tag", "from", "by"}}
	for _, sn := range all {
		j := toJSON(sn)
		if a.cfg.JSON {
			a.out.emit("snapshot", j)
			continue
		}
		from := sn.Source
		if sn.Confidence != "" {
			from += " (" + sn.Confidence + ")"
		}
		table.Row(sn.ID, sn.Created.Local().Format("2006-01-02 15:04"), fmt.Sprint(j.Accounts), fmt.Sprint(j.Entries),
			rightful.SizeText(j.Bytes), orDash(sn.Tag), orDash(from), sn.By)
	}
	switch {
	case a.cfg.JSON:
		a.out.emit("summary", struct {
			Snapshots int `json:"snapshots"`
		}{len(all)})
	case len(all) == 0:
		a.note("no snapshots yet: %s", a.again("snapshot", "take"))
	default:
		a.out.printf("%s", table.String())
	}
	if err != nil {
		return fail(exitFindings, err)
	}
	return nil
}

func (a *app) snapshotVerify(ctx context.Context, args []string) error {
	s, st, err := a.openStore()
	if err != nil {
		return err
	}
	defer s.Close()
	var all []*snapshot.Snapshot
	var unread error
	if len(args) == 1 {
		sn, err := a.findSnapshot(st, args[0], time.Time{})
		if err != nil {
			return err
		}
		all = append(all, sn)
	} else {
		all, unread = st.List()
	}
	sum := struct {
		Snapshots int `json:"snapshots"`
		Accounts  int `json:"accounts"`
		Damaged   int `json:"damaged"`
	}{Snapshots: len(all)}
	known := map[string]error{} // by what is recorded: what snapshots share is read once
	for _, sn := range all {
		for i := range sn.Accounts {
			acct := &sn.Accounts[i]
			if err := ctx.Err(); err != nil {
				return err
			}
			sum.Accounts++
			err, ok := known[acct.File]
			if !ok {
				err = verifyAccount(st, sn, acct.Account)
				known[acct.File] = err
			}
			if err == nil {
				continue
			}
			sum.Damaged++
			a.warn("%v", err)
			if a.cfg.JSON {
				a.out.emit("damage", struct {
					Snapshot string `json:"snapshot"`
					Account  string `json:"account"`
					Reason   string `json:"reason"`
				}{sn.ID, acct.Account, err.Error()})
			}
		}
	}
	if a.cfg.JSON {
		a.out.emit("summary", sum)
	} else {
		a.out.printf("%s, %s: %d damaged\n", counted(sum.Snapshots, "snapshot", "snapshots"), counted(sum.Accounts, "account record", "account records"), sum.Damaged)
	}
	switch {
	case unread != nil:
		return fail(exitFindings, unread)
	case sum.Damaged > 0:
		return exitWith(exitFindings)
	}
	return nil
}

func verifyAccount(st *snapshot.Store, sn *snapshot.Snapshot, name string) error {
	r, err := st.Account(sn, name)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := r.Verify(); err != nil {
		return fmt.Errorf("verify account %q of snapshot %q: %w", name, sn.ID, err)
	}
	return nil
}

// The truths that fix can go by.
const (
	truthPolicy   = "policy"
	truthSnapshot = "snapshot"
	truthBest     = "best"
)

// recentSnapshots is how many snapshots are asked what an entry was.
const recentSnapshots = 24

// truth finds the snapshots that say what entries were.
func (a *app) truth(s *tree.Server, f checkFlags) (*check.Truth, error) {
	at, err := a.parseTime(f.at)
	if err != nil {
		return nil, err
	}
	switch f.truth {
	case "", truthBest:
		if a.env.EUID != 0 {
			return nil, nil // snapshots are root's
		}
	case truthPolicy:
		return nil, nil
	case truthSnapshot:
	default:
		return nil, fail(exitUsage, fmt.Errorf("unknown truth %q: it must be %s, %s or %s", f.truth, truthPolicy, truthSnapshot, truthBest), a.cmd+" --help")
	}
	st, err := snapshot.Open(a.cfg.State, s)
	if err != nil {
		return nil, fail(exitCannot, err, "--state DIR")
	}
	list, err := st.Newest(at, recentSnapshots)
	if err != nil {
		a.warn("%v", err)
	}
	if len(list) == 0 {
		if f.truth == truthSnapshot || f.at != "" {
			return nil, fail(exitUsage, errors.New("find snapshot: there is none"), a.again("snapshot", "list"))
		}
		return nil, nil
	}
	return &check.Truth{Store: st, Snapshots: list, Strict: f.truth == truthSnapshot}, nil
}

// parseTime reads a time as people give it: a date, with a time of day or not, in local time; or how long ago it was.
func (a *app) parseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n int
		if _, err := fmt.Sscanf(days, "%d", &n); err == nil && n >= 0 {
			return time.Now().AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return time.Now().Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fail(exitUsage, fmt.Errorf("read time %q: neither a time nor how long ago", s), "--at '2026-11-22 09:30'", "--at 2h")
}
