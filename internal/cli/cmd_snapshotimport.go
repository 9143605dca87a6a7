package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rightful"
	"rightful/internal/archive"
	"rightful/internal/panel"
	"rightful/internal/snapshot"
	"rightful/internal/term"
	"rightful/internal/tree"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// importFlags are what the operator says of a source.
type importFlags struct {
	account, format, owner, at, tag string
	maps                            []string
	dryRun                          bool
}

func newSnapshotImport(a *app) *cobra.Command {
	var f importFlags
	return a.command(verb{
		use:   "import FILE|DIR",
		short: "make a snapshot of what a backup says",
		does: `Read what a backup says of an account's owners, groups, modes and ACLs, and keep it as a snapshot, for restore and
for fix. A FILE is a tar of any kind (a cPanel package too), an mtree specification, the output of getfacl -R, restic ls
--json or borg list --json-lines, as it is or in gzip, xz, zstd or bzip2, or a zip. A DIR is a copy, or a mounted snapshot of a file
system. Which it is, and where in it the home or the document root lies, is found out and printed.

Printed before anything is kept, too: what it is evidence of, and why no more. An import says at most that an entry
belonged to the account. It never gives a set-id bit, a capability or anything of somebody else's, and from what not only
root could have written it takes no owners. Time is that of the backup: restore --at finds it in its place.

FILE and DIR are paths of the machine that this runs on, with --root too.`,
		never: "It never extracts anything, follows a link or changes an account.",
		examples: `
			# what is in last night's backup, and how far it can be believed
			rightful snapshot import /backup/cpmove-alice.tar.gz --account alice --dry-run
			# a document root that was copied by itself
			rightful snapshot import /backup/www --account alice --map .=public_html
			# a listing of an older backup
			rightful snapshot import ls.json --account alice --at '2026-11-20 02:00'`,
		exits: map[int]string{
			exitFindings: "kept, but some of it was rejected, or it ends early",
			exitUsage:    "wrong usage, an unknown account, or a backup that is not there",
			exitCannot:   "it is of no known format or of another account, or evidence of nothing; nothing was kept",
		},
		args: exactlyOne("a backup"),
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&f.account, "account", "", "the `ACCOUNT` that it is about")
			fs.StringVar(&f.format, "format", "", "read it as `FORMAT`: tar, zip, mtree, getfacl, restic or borg")
			fs.StringArrayVar(&f.maps, "map", nil, "what lies at `SRC=DST`: a path in the backup and one below the home, . for all; repeatable")
			fs.StringVar(&f.owner, "owner", "", "who the account was in the backup: a `USER`, or a uid")
			fs.StringVar(&f.at, "at", "", "the `TIME` that it shows, where the backup's own is not right")
			fs.StringVar(&f.tag, "tag", "", "mark it with a `WORD`, which list shows and prune can keep")
			fs.BoolVar(&f.dryRun, "dry-run", false, "only say what would be kept")
		},
		run: func(ctx context.Context, args []string) error { return a.snapshotImport(ctx, args[0], f) },
	})
}

// An importing is a backup that is being read for an account.
type importing struct {
	a    *app
	f    importFlags
	file string
	ps   *panel.Server
	acct *panel.Account
	st   *snapshot.Store
	ev   *tree.Evidence
	at   time.Time
	// home and look reach the live tree; nil where there is no home.
	home *tree.Base
	look *tree.Cursor
}

func (a *app) snapshotImport(ctx context.Context, file string, f importFlags) error {
	start := time.Now()
	if f.account == "" {
		return fail(exitUsage, errors.New("no account given"), a.again("snapshot", "import", file, "--account", "ACCOUNT"))
	}
	at, err := a.parseTime(f.at)
	if err != nil {
		return err
	}
	s, st, err := a.openStore()
	if err != nil {
		return err
	}
	defer s.Close()
	im := &importing{a: a, f: f, st: st, at: at}
	if im.ps, err = a.readPanel(s); err != nil {
		return err
	}
	accts, err := a.pick(im.ps, []string{f.account})
	if err != nil {
		return err
	}
	im.acct = accts[0]
	if im.file, err = filepath.Abs(file); err != nil {
		return fail(exitUsage, err)
	}
	if err := im.open(); err != nil {
		return err
	}
	defer im.ev.File.Close()
	if im.home, err = s.OpenBase(im.acct.Home); err == nil {
		defer im.home.Close()
		im.look = im.home.Cursor()
		defer im.look.Close()
	} else {
		a.warn("%v: what is in the backup cannot be compared with it", err)
	}
	tmp, err := st.Scratch()
	if err != nil {
		return fail(exitCannot, err, "--state DIR")
	}
	defer tmp.Close()
	survey, err := im.read(ctx, tmp)
	if err != nil {
		return err
	}
	truth, found, err := im.judge(survey)
	if err != nil {
		return err
	}
	return im.keep(ctx, survey, truth, found, start)
}

// open opens the backup on the machine where the operator is.
func (im *importing) open() error {
	here, err := tree.OpenServer("/")
	if err != nil {
		return fail(exitCannot, err)
	}
	defer here.Close()
	im.ev, err = here.OpenEvidence(im.file)
	if tree.IsNotExist(err) {
		return fail(exitUsage, err)
	}
	if err != nil {
		return fail(exitCannot, err)
	}
	return nil
}

// read reads the backup to its end.
func (im *importing) read(ctx context.Context, tmp archive.File) (*archive.Survey, error) {
	what := fmt.Sprintf("import %q", im.file)
	var o *archive.Opened
	var err error
	if im.ev.Stat.Kind == rightful.KindDir {
		if im.f.format != "" {
			return nil, fail(exitUsage, fmt.Errorf("read %q as %s: it is a directory", im.file, im.f.format), im.a.again("snapshot", "import", im.file, "--account", im.acct.Name))
		}
		b, done, err := im.ev.OpenTree()
		if err != nil {
			return nil, fail(exitCannot, err)
		}
		defer done()
		o = archive.OpenDir(ctx, b)
	} else {
		var format archive.Format
		if im.f.format != "" {
			if format, err = archive.ParseFormat(im.f.format); err != nil {
				return nil, fail(exitUsage, err, "--format tar", im.a.cmd+" --help")
			}
		}
		o, err = archive.Open(ctx, im.ev.File, format)
		if err != nil {
			return nil, fail(exitCannot, fmt.Errorf("%s: %w", what, err), "--format FORMAT")
		}
	}
	defer o.Close()
	p := im.a.begin("reading", "entries", 0)
	defer p.End()
	survey, err := archive.Read(counting{o, p}.opened(), tmp)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fail(exitCannot, fmt.Errorf("%s: %w", what, err))
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if im.at.IsZero() {
		if im.at = o.Taken; im.at.IsZero() {
			im.at = im.ev.Modified
		}
		if now := time.Now(); im.at.After(now) { // a file may have any time
			im.at = now
		}
	}
	return survey, nil
}

// counting shows the progress of a source.
type counting struct {
	*archive.Opened
	p *term.Progress
}

// Next implements archive.Source.
func (c counting) Next() (archive.Entry, error) {
	c.p.Add(1)
	return c.Opened.Next()
}

func (c counting) opened() *archive.Opened {
	o := *c.Opened
	o.Source = c
	return &o
}

// judge finds the account's part of the backup, and what it is evidence of.
func (im *importing) judge(survey *archive.Survey) (*archive.Truth, archive.Candidate, error) {
	a, acct := im.a, im.acct
	what := fmt.Sprintf("import %q", im.file)
	var found archive.Candidate
	var err error
	if found.Places, err = mapped(im.f.maps, acct.Home); err != nil {
		return nil, found, err
	}
	if len(im.f.maps) > 0 {
		found.Why = "as you said"
	} else {
		found, err = survey.Layout(subject(acct, im.f.owner, im.file, im.exists))
		if other, ok := errors.AsType[*archive.OtherAccountError](err); ok {
			return nil, found, fail(exitCannot, fmt.Errorf("%s: %w; nothing was kept", what, err), a.again("snapshot", "import", im.file, "--account", acct.Name, "--owner", other.Account))
		}
		if err != nil {
			return nil, found, fail(exitCannot, fmt.Errorf("%s: %w", what, err), "--map SRC=DST", a.again("snapshot", "import", "--help"))
		}
	}
	t := &archive.Target{
		Account: acct.Name, UID: acct.UID, GID: acct.GID, Owner: im.f.owner, Groups: im.groups(), Names: userNames{im.ps.Users},
		Others: map[uint32]string{}, Forgeable: im.ev.Forgeable != "", KindOf: im.kindOf,
	}
	for i := range im.ps.Accounts {
		if o := &im.ps.Accounts[i]; o.UID != acct.UID {
			t.Others[o.UID] = o.Name
		}
	}
	truth, err := survey.Truth(found.Places, t)
	if err != nil {
		return nil, found, fail(exitCannot, fmt.Errorf("%s: %w", what, err))
	}
	if im.ev.Forgeable != "" {
		truth.Reasons = append(truth.Reasons, im.ev.Forgeable)
	}
	return truth, found, nil
}

// subject is an account as a source of that name is asked about it.
func subject(acct *panel.Account, owner, source string, exists func(rel string) bool) archive.Subject {
	sub := archive.Subject{
		Account: acct.Name, Owner: owner, Home: acct.Home, Domains: map[string]string{}, File: filepath.Base(source), Exists: exists,
	}
	for i := range acct.Sites {
		s := &acct.Sites[i]
		rel, ok := strings.CutPrefix(s.DocRoot, acct.Home+"/")
		if !ok {
			continue
		}
		if !slices.Contains(sub.DocRoots, rel) {
			sub.DocRoots = append(sub.DocRoots, rel)
		}
		for _, d := range s.Domains {
			sub.Domains[d] = rel
		}
	}
	return sub
}

// domainsOf lists the domains of all sites of an account.
func domainsOf(acct *panel.Account) (domains []string) {
	for i := range acct.Sites {
		domains = append(domains, acct.Sites[i].Domains...)
	}
	return domains
}

// mapped reads the values of --map.
func mapped(maps []string, home string) (places archive.Places, err error) {
	for _, m := range maps {
		src, dst, ok := strings.Cut(m, "=")
		dst = strings.TrimPrefix(dst, home+"/")
		if !ok || filepath.IsAbs(dst) || slices.Contains(strings.Split(dst, "/"), "..") {
			return nil, fail(exitUsage, fmt.Errorf("read --map %q: not SRC=DST with DST below %q", m, home), "--map homedir=.", "--map .=public_html")
		}
		places = append(places, archive.Place{Src: mapPath(src), Dst: mapPath(dst)})
	}
	return places, nil
}

// mapPath brings a side of --map into the form that names have.
func mapPath(s string) string {
	if s = strings.Trim(filepath.Clean(s), "/"); s == "." {
		return ""
	}
	return s
}

// userNames are the server's names as package archive asks for them.
type userNames struct{ *panel.Users }

// UserID implements archive.Names.
func (n userNames) UserID(name string) (uint32, bool) {
	u, ok := n.ByName(name)
	return u.UID, ok
}

// groups are those that an entry of the account may have: its own, those of whoever serves its sites, and mail.
func (im *importing) groups() []uint32 {
	gids := append([]uint32{im.acct.GID}, im.ps.Users.Groups(im.acct.Name)...)
	gids = append(gids, im.ps.Web.GIDs...)
	for i := range im.acct.Sites {
		s := &im.acct.Sites[i]
		gids = slices.Concat(gids, s.Web.GIDs, s.PHP.GIDs, s.CGIAs.GIDs)
	}
	if mail, ok := im.ps.Users.GroupID("mail"); ok {
		gids = append(gids, mail)
	}
	return gids
}

func (im *importing) exists(rel string) bool { return im.kindOf(rel) != rightful.KindUnknown }

func (im *importing) kindOf(rel string) rightful.Kind {
	if im.look == nil {
		return rightful.KindUnknown
	}
	n, err := im.look.Open(rel)
	if err != nil {
		return rightful.KindUnknown
	}
	defer n.Close()
	return n.Stat.Kind
}

// keep says what the backup is evidence of, and makes a snapshot of it.
func (im *importing) keep(ctx context.Context, survey *archive.Survey, truth *archive.Truth, found archive.Candidate, start time.Time) error {
	a := im.a
	if !a.cfg.JSON {
		im.describe(survey, truth, found)
	}
	if truth.Confidence == archive.Nothing {
		return fail(exitCannot, fmt.Errorf("import %q: %w; nothing was kept", im.file, archive.ErrNothing))
	}
	id := ""
	add := func(*snapshot.Entry) error { return ctx.Err() }
	if im.f.dryRun {
		if err := truth.Each(add); err != nil {
			return a.runError(ctx, err)
		}
	} else {
		sn, err := im.store(ctx, survey, truth)
		if err != nil {
			return err
		}
		id = sn.ID
	}
	im.report(survey, truth, found, id, time.Since(start))
	if survey.Rejects > 0 || survey.Cut != nil {
		return exitWith(exitFindings)
	}
	return nil
}

// store writes the snapshot.
func (im *importing) store(ctx context.Context, survey *archive.Survey, truth *archive.Truth) (*snapshot.Snapshot, error) {
	a, acct := im.a, im.acct
	k, err := im.st.Create(snapshot.Header{
		By: a.by(), Command: a.commandLine(), Tag: im.f.tag, Source: string(survey.Format) + ":" + im.file,
		Created: im.at.UTC(), Ended: im.at.UTC(), Confidence: string(truth.Confidence), Reasons: truth.Reasons,
	})
	if err != nil {
		return nil, fail(exitCannot, err, "--state DIR")
	}
	w, err := k.Account(snapshot.Account{Account: acct.Name, UID: acct.UID, GID: acct.GID, Home: acct.Home})
	if err == nil {
		if err = w.Base(acct.Home, ""); err == nil {
			err = truth.Each(func(e *snapshot.Entry) error {
				if err := ctx.Err(); err != nil {
					return err
				}
				return w.Add(e)
			})
		}
		if err == nil {
			err = w.Close()
		} else {
			w.Discard()
		}
	}
	if err != nil {
		k.Discard()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fail(exitCannot, err, "--state DIR")
	}
	sn, err := k.Commit()
	if err != nil {
		return nil, fail(exitCannot, err, "--state DIR")
	}
	return sn, nil
}

// describe says what the backup is, and how far it can be believed.
func (im *importing) describe(survey *archive.Survey, truth *archive.Truth, found archive.Candidate) {
	kind := string(survey.Format)
	if survey.Compression != "" {
		kind += " in " + survey.Compression
	}
	a := im.a
	a.out.printf("%s: %s, %s", term.Quote(im.file), kind, entries(survey.Entries))
	a.out.printf(", of %s", im.at.Local().Format("2006-01-02 15:04"))
	if !survey.Newest.IsZero() {
		a.out.printf(" (the newest in it is of %s)", survey.Newest.Local().Format("2006-01-02 15:04"))
	}
	a.out.printf("\n")
	for _, p := range found.Places {
		if p.Out {
			a.out.printf("  %s of it is not the account's\n", term.Quote(orDot(p.Src)))
			continue
		}
		a.out.printf("  %s of it is %s: %s\n", term.Quote(orDot(p.Src)), term.Quote(rightful.JoinPath(im.acct.Home, p.Dst)), term.Line(found.Why))
	}
	a.out.printf("  evidence of %s:\n", a.paint(term.Bold, string(truth.Confidence)))
	for _, why := range truth.Reasons {
		a.out.printf("    %s\n", term.Line(why))
	}
}

func orDot(s string) string {
	if s == "" {
		return "."
	}
	return s
}

// shownRejected is how many rejected entries a person is shown.
const shownRejected = 10

type rejectedJSON struct {
	At      string `json:"at"`
	Path    string `json:"path"`
	PathB64 []byte `json:"path_b64,omitempty"`
	Reason  string `json:"reason"`
}

type placeJSON struct {
	From    string `json:"from"`
	FromB64 []byte `json:"from_b64,omitempty"`
	To      string `json:"to"`
	ToB64   []byte `json:"to_b64,omitempty"`
}

// report says what became of the entries.
func (im *importing) report(survey *archive.Survey, truth *archive.Truth, found archive.Candidate, id string, took time.Duration) {
	a, c := im.a, truth.Counts
	if !a.cfg.JSON {
		a.out.printf("  %s recorded%s\n", entries(c.Records), leftOut(c))
		for i, r := range survey.Rejected {
			if i == shownRejected {
				a.warn("%d more were rejected: --json names them", survey.Rejects-i)
				break
			}
			a.warn("%s", term.Line(r.Error()))
		}
		if id == "" {
			a.out.printf("dry run: nothing was kept\n")
			return
		}
		a.out.printf("snapshot %s\n", id)
		a.note("hint: %s", a.again("snapshot", "diff", id))
		a.note("hint: %s", a.again("snapshot", "restore", id, im.acct.Name, "--dry-run"))
		return
	}
	for _, r := range survey.Rejected {
		a.out.emit("rejected", rejectedJSON{r.At, strings.ToValidUTF8(r.Name, "\uFFFD"), rightful.RawPath(r.Name), r.Why})
	}
	places := []placeJSON{}
	for _, p := range found.Places {
		if p.Out {
			continue
		}
		to := rightful.JoinPath(im.acct.Home, p.Dst)
		places = append(places, placeJSON{orDot(p.Src), rightful.RawPath(p.Src), to, rightful.RawPath(to)})
	}
	cut := ""
	if survey.Cut != nil {
		cut = survey.Cut.Error()
	}
	a.out.emit("summary", struct {
		Snapshot    string         `json:"snapshot,omitempty"` // empty for --dry-run
		Account     string         `json:"account"`
		Source      string         `json:"source"`
		SourceB64   []byte         `json:"source_b64,omitempty"`
		Format      archive.Format `json:"format"`
		Compression string         `json:"compression,omitempty"`
		Time        time.Time      `json:"time"`
		Newest      time.Time      `json:"newest,omitzero"`
		Places      []placeJSON    `json:"places"`
		Layout      string         `json:"layout"`
		Confidence  string         `json:"confidence"`
		Reasons     []string       `json:"reasons"`
		Cut         string         `json:"cut,omitempty"`
		Entries     int            `json:"entries"`
		Rejected    int            `json:"rejected"`
		archive.Counts
		Seconds float64 `json:"seconds"`
	}{
		id, im.acct.Name, im.file, rightful.RawPath(im.file), survey.Format, survey.Compression, im.at, survey.Newest, places,
		found.Why, string(truth.Confidence), truth.Reasons, cut, survey.Entries, survey.Rejects, c, took.Seconds(),
	})
}

// leftOut says in words what is not in the snapshot, or not all of it.
func leftOut(c archive.Counts) string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{
		{c.Outside, "elsewhere in it"},
		{c.Foreign, "somebody else's there: left out"},
		{c.NoKind, "not told from a directory, and not there any more: left out"},
		{c.Twice, "there again, later: the last one counts"},
		{c.SetID, "with set-id bits: modes not believed"},
		{c.Caps, "with capabilities: not believed"},
		{c.NoGroup, "in groups that neither the account nor whoever serves it has: groups left as they are"},
		{c.NoACL, "with an ACL that means nothing here: ACLs left as they are"},
		{c.MaybeACL, "with group bits that may be an ACL's mask: these left as they are"},
	} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("\n    %d %s", p.n, p.what))
		}
	}
	return strings.Join(parts, "")
}
