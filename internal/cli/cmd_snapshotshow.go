package cli

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"rightful"
	"rightful/internal/snapshot"
	"rightful/internal/term"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newSnapshotShow(a *app) *cobra.Command {
	recursive := false
	return a.command(verb{
		use:   "show SNAP [PATH]",
		short: "what a snapshot holds",
		does: `Print the accounts of a snapshot and what could not be read; or what it recorded of one path, and with
--recursive of all beneath it.`,
		never: "It never looks at the path itself: what it prints is what was.",
		examples: `
			rightful snapshot show latest
			rightful snapshot show latest /home/alice/public_html -r`,
		exits: map[int]string{exitFindings: "the snapshot does not hold the path"},
		args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return fmt.Errorf("%d arguments where a snapshot and perhaps a path are needed", len(args))
			}
			return nil
		},
		flags: func(fs *pflag.FlagSet) {
			fs.BoolVarP(&recursive, "recursive", "r", false, "all beneath the path too")
		},
		run: func(ctx context.Context, args []string) error { return a.snapshotShow(ctx, args, recursive) },
	})
}

func newSnapshotDiff(a *app) *cobra.Command {
	return a.command(verb{
		use:   "diff SNAP [SNAP|live]",
		short: "what changed between two snapshots, or since one",
		does: `Compare two snapshots, or one with the accounts as they are (live, which is meant where no second one is named): who
or what owns an entry, its mode, ACLs and capabilities; what moved, went and came. Sizes, times and contents are not
compared. For a person the differences are grouped; --verbose and --json name every entry.`,
		never: "It never changes anything.",
		examples: `
			rightful snapshot diff latest
			rightful snapshot diff 20261122-0931 20261123 --json`,
		exits: map[int]string{exitFindings: "there are differences"},
		args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return fmt.Errorf("%d arguments where one or two snapshots are needed", len(args))
			}
			return nil
		},
		run: func(ctx context.Context, args []string) error { return a.snapshotDiff(ctx, args) },
	})
}

func newSnapshotExport(a *app) *cobra.Command {
	format := ""
	return a.command(verb{
		use:   "export SNAP [ACCOUNT…]",
		short: "print a snapshot in a form that others read",
		does: `Print everything that a snapshot recorded, for other tools: as mtree (NetBSD's), as getfacl -R -p -n would have, or as
JSON lines. mtree knows no ACLs, and neither it nor getfacl knows capabilities.`,
		never: "It never changes anything.",
		examples: `
			rightful snapshot export latest alice --format getfacl > alice.facl`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&format, "format", "json", "print a `FORMAT`: json, mtree or getfacl")
		},
		args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("no snapshot given")
			}
			return nil
		},
		run: func(ctx context.Context, args []string) error {
			return a.snapshotExport(ctx, args[0], args[1:], format)
		},
	})
}

// entryJSON is one recorded entry as --json prints it.
type entryJSON struct {
	Account string        `json:"account"`
	Path    string        `json:"path"`
	PathB64 []byte        `json:"path_b64,omitempty"`
	Kind    rightful.Kind `json:"type"`
	rightful.Meta
	Unknown []string  `json:"unknown"`
	Size    int64     `json:"size"`
	Links   uint32    `json:"links"`
	Inode   uint64    `json:"inode"`
	Changed time.Time `json:"changed,omitzero"`
	SHA256  string    `json:"sha256,omitempty"`
}

func recordedJSON(account, base string, e *snapshot.Entry) entryJSON {
	p := e.Path(base)
	j := entryJSON{
		Account: account, Path: p, PathB64: rightful.RawPath(p), Kind: e.Kind, Meta: e.Meta, Unknown: fieldNames(e.Unknown),
		Size: e.Size, Links: e.Links, Inode: e.ID.Ino,
	}
	if e.Ctime != 0 {
		j.Changed = time.Unix(0, e.Ctime).UTC()
	}
	if e.Content != nil {
		j.SHA256 = hex.EncodeToString(e.Content.SHA256[:])
	}
	return j
}

var fieldWords = []struct {
	f    snapshot.Fields
	name string
}{{snapshot.FieldUID, "owner"}, {snapshot.FieldGID, "group"}, {snapshot.FieldMode, "mode"}, {snapshot.FieldACL, "acl"}, {snapshot.FieldCaps, "caps"}}

func fieldNames(f snapshot.Fields) []string {
	names := []string{}
	for _, w := range fieldWords {
		if f&w.f != 0 {
			names = append(names, w.name)
		}
	}
	return names
}

func (a *app) snapshotShow(ctx context.Context, args []string, recursive bool) error {
	s, st, err := a.openStore()
	if err != nil {
		return err
	}
	defer s.Close()
	sn, err := a.findSnapshot(st, args[0], time.Time{})
	if err != nil {
		return err
	}
	if len(args) == 1 {
		return a.showAccounts(st, sn)
	}
	p := path.Clean(args[1])
	shown := 0
	for i := range sn.Accounts {
		acct := &sn.Accounts[i]
		base := slices.IndexFunc(acct.Bases, func(b string) bool { return p == b || strings.HasPrefix(p, b+"/") })
		if base < 0 {
			continue
		}
		n, err := a.showPath(ctx, st, sn, acct, acct.Bases[base], p, recursive)
		if shown += n; err != nil {
			return err
		}
	}
	if a.cfg.JSON {
		a.out.emit("summary", struct {
			Entries int `json:"entries"`
		}{shown})
	}
	if shown == 0 {
		return fail(exitFindings, fmt.Errorf("show %q: snapshot %s does not hold it", p, sn.ID), a.again("snapshot", "show", sn.ID))
	}
	return nil
}

func (a *app) showPath(ctx context.Context, st *snapshot.Store, sn *snapshot.Snapshot, acct *snapshot.Account, base, p string, recursive bool) (int, error) {
	r, err := st.Account(sn, acct.Account)
	if err != nil {
		return 0, fail(exitCannot, err)
	}
	defer r.Close()
	rel := strings.TrimPrefix(strings.TrimPrefix(p, base), "/")
	e, err := r.Lookup(base, rel)
	if err != nil {
		return 0, fail(exitCannot, err)
	}
	n := 0
	if e != nil {
		n++
		a.showEntry(acct.Account, base, e)
	}
	if !recursive {
		return n, nil
	}
	for e, err := range r.All() {
		if err != nil {
			return n, fail(exitCannot, err)
		}
		if err := cmp.Or(ctx.Err(), a.out.err); err != nil {
			return n, err
		}
		if e.Rel == rel || rel != "" && !strings.HasPrefix(e.Rel, rel+"/") || r.BaseOf(e) != base {
			continue
		}
		n++
		a.showEntry(acct.Account, base, e)
	}
	return n, nil
}

func (a *app) showEntry(account, base string, e *snapshot.Entry) {
	if a.cfg.JSON {
		a.out.emit("entry", recordedJSON(account, base, e))
		return
	}
	line := fmt.Sprintf("%-7s %s %s  %s", e.Kind, a.names().owner(e.Meta.UID, e.Meta.GID), e.Meta.Mode, term.Quote(e.Path(base)))
	if len(e.Meta.ACL) > 0 {
		line += "  acl " + e.Meta.ACL.String()
	}
	if len(e.Meta.Default) > 0 {
		line += "  default acl " + e.Meta.Default.String()
	}
	if len(e.Meta.Caps) > 0 {
		line += "  capabilities " + hex.EncodeToString(e.Meta.Caps)
	}
	if e.Unknown != 0 {
		line += "  (not known: " + strings.Join(fieldNames(e.Unknown), ", ") + ")"
	}
	a.out.printf("%s\n", line)
}

// recordedAccount is an account of a snapshot as --json prints it.
type recordedAccount struct {
	Snapshot string   `json:"snapshot"`
	Account  string   `json:"account"`
	UID      uint32   `json:"uid"`
	GID      uint32   `json:"gid"`
	Bases    []string `json:"bases"`
	Entries  int      `json:"entries"`
	Bytes    int64    `json:"bytes"`
	Unread   int      `json:"unread"`
}

func (a *app) showAccounts(st *snapshot.Store, sn *snapshot.Snapshot) error {
	j := toJSON(sn)
	table := term.Table{Head: []string{"account", ">entries", ">size", ">unread", "directories"}}
	for i := range sn.Accounts {
		x := &sn.Accounts[i]
		if a.cfg.JSON {
			a.out.emit("recorded", recordedAccount{sn.ID, x.Account, x.UID, x.GID, x.Bases, x.Entries, x.Bytes, x.Unread})
			continue
		}
		table.Row(x.Account, fmt.Sprint(x.Entries), rightful.SizeText(x.Bytes), fmt.Sprint(x.Unread), quoteAll(x.Bases))
	}
	if a.cfg.JSON {
		a.out.emit("snapshot", j)
		a.out.emit("summary", struct {
			Accounts int `json:"accounts"`
		}{len(sn.Accounts)})
		return nil
	}
	a.out.printf("snapshot %s, taken %s by %s: %s\n", sn.ID, sn.Created.Local().Format("2006-01-02 15:04:05"), term.Line(sn.By), term.Line(sn.Command))
	if sn.Source != "" {
		a.out.printf("imported from %s; evidence of %s\n", term.Line(sn.Source), term.Line(orDash(sn.Confidence)))
	}
	for _, why := range sn.Reasons {
		a.out.printf("  %s\n", term.Line(why))
	}
	a.out.printf("\n%s", table.String())
	for i := range sn.Accounts {
		x := &sn.Accounts[i]
		if x.Unread == 0 {
			continue
		}
		r, err := st.Account(sn, x.Account)
		if err != nil {
			return fail(exitCannot, err)
		}
		for k, u := range r.Unread() {
			if k == maxShown && !a.cfg.Verbose {
				a.out.printf("  … and %d more\n", x.Unread-k)
				break
			}
			a.out.printf("  not read: %s\n", term.Line(u.Reason))
		}
		r.Close()
	}
	return nil
}

// differenceJSON is one difference as --json prints it.
type differenceJSON struct {
	Account string          `json:"account"`
	Change  snapshot.Change `json:"change"`
	Path    string          `json:"path"`
	PathB64 []byte          `json:"path_b64,omitempty"`
	Kind    rightful.Kind   `json:"type"`
	// To is where it is now, if it moved.
	To       string         `json:"to,omitempty"`
	ToB64    []byte         `json:"to_b64,omitempty"`
	Fields   []string       `json:"fields"`
	Replaced bool           `json:"replaced,omitempty"`
	Before   *rightful.Meta `json:"before,omitempty"`
	After    *rightful.Meta `json:"after,omitempty"`
}

// diffSum counts differences.
type diffSum struct {
	Accounts int `json:"accounts"`
	Changed  int `json:"changed"`
	Kind     int `json:"kinds"`
	Moved    int `json:"moved"`
	Gone     int `json:"gone"`
	New      int `json:"new"`
}

func (s *diffSum) add(c snapshot.Change) {
	switch c {
	case snapshot.ChangeMeta:
		s.Changed++
	case snapshot.ChangeKind:
		s.Kind++
	case snapshot.ChangeMoved:
		s.Moved++
	case snapshot.ChangeGone:
		s.Gone++
	case snapshot.ChangeNew:
		s.New++
	}
}

func (s *diffSum) none() bool { return *s == diffSum{Accounts: s.Accounts} }

func (a *app) snapshotDiff(ctx context.Context, args []string) error {
	c, err := a.openChecking(nil, checkFlags{truth: truthPolicy})
	if err != nil {
		return err
	}
	defer c.close()
	st, err := snapshot.Open(a.cfg.State, c.s)
	if err != nil {
		return fail(exitCannot, err, "--state DIR")
	}
	before, err := a.findSnapshot(st, args[0], time.Time{})
	if err != nil {
		return err
	}
	var after *snapshot.Snapshot
	if len(args) == 2 && args[1] != "live" {
		if after, err = a.findSnapshot(st, args[1], time.Time{}); err != nil {
			return err
		}
	} else {
		if c.opts.Accounts = recordedOf(before, c); len(c.opts.Accounts) == 0 {
			return fail(exitCannot, fmt.Errorf("compare snapshot %q: none of its accounts is on this server any more", before.ID))
		}
		k, _, _, err := a.record(ctx, c, st, "")
		if err != nil {
			return err
		}
		defer k.Discard()
		after = k.Snapshot()
	}
	sum, err := a.compare(ctx, st, before, after)
	if err != nil {
		return err
	}
	if a.cfg.JSON {
		a.out.emit("summary", sum)
	} else if sum.none() {
		a.out.printf("no difference in %s\n", accounts(sum.Accounts))
	} else {
		a.out.printf("%s: %d changed, %d of another kind, %d moved, %d gone, %d new\n", accounts(sum.Accounts), sum.Changed, sum.Kind, sum.Moved, sum.Gone, sum.New)
		if len(args) < 2 || args[1] == "live" {
			a.note("hint: %s", a.again("snapshot", "restore", before.ID, "--dry-run"))
		}
	}
	if !sum.none() {
		return exitWith(exitFindings)
	}
	return nil
}

// recordedOf lists the accounts of a snapshot that are still on the server.
func recordedOf(sn *snapshot.Snapshot, c *checking) []string {
	var names []string
	for i := range sn.Accounts {
		if _, ok := c.ps.Account(sn.Accounts[i].Account); ok {
			names = append(names, sn.Accounts[i].Account)
		}
	}
	return names
}

// compare prints what is different between two snapshots, account by account.
func (a *app) compare(ctx context.Context, st *snapshot.Store, before, after *snapshot.Snapshot) (sum diffSum, err error) {
	for i := range after.Accounts {
		if _, ok := before.Account(after.Accounts[i].Account); !ok {
			a.note("account %s is new: nothing to compare it with", term.Quote(after.Accounts[i].Account))
		}
	}
	for i := range before.Accounts {
		x := &before.Accounts[i]
		y, ok := after.Account(x.Account)
		if !ok {
			a.note("account %s is not in the second: nothing to compare it with", term.Quote(x.Account))
			continue
		}
		sum.Accounts++
		if x.File == y.File {
			continue
		}
		if err := a.compareAccount(ctx, st, before, after, x.Account, &sum); err != nil {
			if ctx.Err() != nil {
				return sum, ctx.Err()
			}
			return sum, fail(exitCannot, err)
		}
	}
	return sum, nil
}

func (a *app) compareAccount(ctx context.Context, st *snapshot.Store, before, after *snapshot.Snapshot, name string, sum *diffSum) error {
	ra, err := st.Account(before, name)
	if err != nil {
		return err
	}
	defer ra.Close()
	rb, err := st.Account(after, name)
	if err != nil {
		return err
	}
	defer rb.Close()
	var groups diffGroups
	err = snapshot.Diff(ra, rb, func(d *snapshot.Difference) error {
		sum.add(d.Change)
		if a.cfg.JSON {
			a.out.emit("difference", toDifference(name, d))
		} else {
			groups.add(a, d)
		}
		return cmp.Or(ctx.Err(), a.out.err)
	})
	if err == nil && len(groups.list) > 0 {
		a.out.printf("account %s\n", term.Quote(name))
		groups.print(a)
	}
	return err
}

func toDifference(account string, d *snapshot.Difference) differenceJSON {
	j := differenceJSON{Account: account, Change: d.Change, Fields: fieldNames(d.Fields), Replaced: d.Replaced}
	e := d.Before
	if e == nil {
		e = d.After
	}
	p := e.Path(d.Base)
	j.Path, j.PathB64, j.Kind = p, rightful.RawPath(p), e.Kind
	if d.Before != nil {
		j.Before = &d.Before.Meta
	}
	if d.After != nil {
		j.After = &d.After.Meta
	}
	if d.Change == snapshot.ChangeMoved {
		j.To = d.After.Path(d.Base)
		j.ToB64 = rightful.RawPath(j.To)
	}
	return j
}

// diffGroups are the differences of one account for a person: those that are of the same sort together.
type diffGroups struct {
	list  []*diffGroup
	at    map[string]*diffGroup
	other int // of more sorts than are told apart
}

type diffGroup struct {
	title string
	n     int
	show  []string
}

// maxGroups bounds the sorts of differences that are told apart.
const maxGroups = 200

func (g *diffGroups) add(a *app, d *snapshot.Difference) {
	title, line := string(d.Change), ""
	switch d.Change {
	case snapshot.ChangeMeta:
		title = a.names().diff(d.Before.Meta, d.After.Meta)
		line = term.Quote(d.Before.Path(d.Base))
		if d.Replaced {
			line += "  (another file stands there)"
		}
	case snapshot.ChangeKind:
		title = fmt.Sprintf("%s → %s", d.Before.Kind, d.After.Kind)
		line = term.Quote(d.Before.Path(d.Base))
	case snapshot.ChangeMoved:
		line = term.Quote(d.Before.Path(d.Base)) + " → " + term.Quote(d.After.Path(d.Base))
		if t := a.names().diff(d.Before.Meta, d.After.Meta); t != "" {
			title += ", " + t
		}
	case snapshot.ChangeGone:
		line = term.Quote(d.Before.Path(d.Base))
	case snapshot.ChangeNew:
		line = term.Quote(d.After.Path(d.Base))
	}
	if g.at == nil {
		g.at = map[string]*diffGroup{}
	}
	x := g.at[title]
	if x == nil {
		if len(g.list) == maxGroups {
			g.other++
			return
		}
		x = &diffGroup{title: title}
		g.at[title] = x
		g.list = append(g.list, x)
	}
	if x.n++; x.n <= 3 || a.cfg.Verbose {
		x.show = append(x.show, line)
	}
}

func (g *diffGroups) print(a *app) {
	slices.SortStableFunc(g.list, func(x, y *diffGroup) int { return y.n - x.n })
	for _, x := range g.list {
		a.out.printf("  %s: %s\n", x.title, entries(x.n))
		for _, l := range x.show {
			a.out.printf("    %s\n", l)
		}
		if n := x.n - len(x.show); n > 0 {
			a.out.printf("    … and %d more\n", n)
		}
	}
	if g.other > 0 {
		a.out.printf("  and %s of other sorts: --json names all\n", entries(g.other))
	}
}

func (a *app) snapshotExport(ctx context.Context, name string, only []string, format string) error {
	if a.cfg.JSON {
		format = "json"
	}
	var write func(account, base string, e *snapshot.Entry) error
	n := 0
	switch format {
	case "json":
		write = func(account, base string, e *snapshot.Entry) error {
			a.out.emit("entry", recordedJSON(account, base, e))
			return a.out.err
		}
	case "mtree", "getfacl":
		form := snapshot.Getfacl
		if format == "mtree" {
			form = snapshot.Mtree()
		}
		write = func(_, base string, e *snapshot.Entry) error {
			a.out.printf("%s", form(base, e))
			return a.out.err
		}
	default:
		return fail(exitUsage, fmt.Errorf("unknown format %q: it must be json, mtree or getfacl", format), a.cmd+" --help")
	}
	if format == "getfacl" && a.env.StdoutTTY {
		return fail(exitUsage, errors.New("export as getfacl: names in it may hold anything, and this is a terminal"), term.Command(append([]string{"rightful"}, a.env.Args...)...)+" > FILE")
	}
	s, st, err := a.openStore()
	if err != nil {
		return err
	}
	defer s.Close()
	sn, err := a.findSnapshot(st, name, time.Time{})
	if err != nil {
		return err
	}
	for _, acct := range only {
		if _, ok := sn.Account(acct); !ok {
			return fail(exitUsage, fmt.Errorf("export account %q: %w", acct, snapshot.ErrNotTaken), a.again("snapshot", "show", sn.ID))
		}
	}
	for i := range sn.Accounts {
		acct := sn.Accounts[i].Account
		if len(only) > 0 && !slices.Contains(only, acct) {
			continue
		}
		r, err := st.Account(sn, acct)
		if err != nil {
			return fail(exitCannot, err)
		}
		for e, err := range r.All() {
			if err == nil {
				err = cmp.Or(ctx.Err(), write(acct, r.BaseOf(e), e))
			}
			if err != nil {
				r.Close()
				return a.runError(ctx, err)
			}
			n++
		}
		r.Close()
	}
	if format == "json" {
		a.out.emit("summary", struct {
			Entries int `json:"entries"`
		}{n})
	}
	return nil
}
