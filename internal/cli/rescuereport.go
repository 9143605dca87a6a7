package cli

import (
	"context"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"rightful"
	"rightful/internal/rescue"
	"rightful/internal/term"
	"rightful/internal/tree"
	"rightful/internal/web"
)

// maxTold bounds the names of missing files in a report.
const maxTold = 1000

// tell finds out what is back and what is not, keeps it, and prints it.
func (x *rescuing) tell(ctx context.Context) error {
	if x.r.Report == nil {
		r, err := x.report(ctx)
		if err != nil {
			return err
		}
		x.r.Report = r
		if err := x.st.Save(x.r); err != nil {
			return err
		}
	}
	a := x.a
	if a.cfg.JSON {
		x.emit()
		return nil
	}
	a.out.printf("\n")
	if err := x.r.Report.Text(outWriter{a}, term.Line); err != nil {
		return err
	}
	a.out.flush()
	back, done := "to put the old home back", "when all is well, to remove the old home"
	if x.r.Report.Aside == "" {
		back, done = "to take the rebuilt home out again", "when all is well"
	}
	a.note("%s: %s", back, a.again("undo", x.r.Run))
	a.note("what to tell the customer: %s", a.again("rescue", x.acct.Name, "--report", "html"))
	a.note("%s: %s", done, a.again("rescue", x.acct.Name, "--finish"))
	if on, err := x.c.s.ReadFile("/sys/fs/selinux/enforce", 16); err == nil && strings.TrimSpace(string(on)) == "1" {
		a.note("SELinux is enforcing, and labels are not part of any plan: restorecon -RF %s", term.Shell(x.home))
	}
	return nil
}

// emit prints the record as it is now.
func (x *rescuing) emit() {
	x.a.out.emit("rescue", x.r)
	sum := struct {
		Files int64 `json:"files"`
		Whole bool  `json:"whole"`
	}{}
	if r := x.r.Report; r != nil {
		sum.Files, sum.Whole = r.Files, r.Whole()
	}
	x.a.out.emit("summary", sum)
}

// outWriter is the answer as an io.Writer; what is written must be clean.
type outWriter struct{ a *app }

// Write implements io.Writer.
func (w outWriter) Write(b []byte) (int, error) {
	w.a.out.write(b)
	return len(b), nil
}

func (x *rescuing) report(ctx context.Context) (*rescue.Report, error) {
	home, err := x.c.s.OpenBase(x.home)
	if err != nil {
		return nil, err
	}
	defer home.Close()
	r := &rescue.Report{
		Account: x.acct.Name, Home: x.acct.Home, Made: time.Now().UTC(), Sources: []rescue.Origin{}, Furniture: x.r.Furnished,
		Sites: []rescue.SiteState{}, Rejected: []rescue.Rejected{}, Run: x.r.Run,
	}
	total := &census{letters: newLetters()}
	if err := home.Walk(ctx, tree.EntryFunc(total.entry), false); err != nil {
		return nil, x.a.runError(ctx, err)
	}
	r.Files, r.Dirs, r.Links, r.Bytes = total.files, total.dirs, total.links, total.bytes
	var sum rescue.Counts
	for i := range x.r.Sources {
		s := &x.r.Sources[i]
		r.Sources = append(r.Sources, rescue.Origin{
			Source: s.Spec, What: s.What, Taken: s.Taken, Cut: s.Counts.Cut,
			Files: s.Counts.Files - s.Counts.Kept, Bytes: max(0, s.Counts.Bytes-s.Counts.KeptBytes), // whose names were hard links has them once
		})
		sum.Add(s.Counts)
	}
	r.Rejects, r.Rejected = sum.Rejects, append(r.Rejected, sum.Rejected...)
	if _, err := x.c.s.Lstat(x.r.HomePath()); err == nil {
		r.Aside = x.r.HomePath()
		if r.Late, err = x.late(ctx, home, r.Aside); err != nil {
			return nil, err
		}
	}
	if err := x.sites(ctx, home, r); err != nil {
		return nil, err
	}
	r.Mailboxes = x.mailboxes(home, total.mail)
	if r.Missing, err = x.missing(ctx, home, total.letters, r.Mailboxes); err != nil {
		return nil, err
	}
	return r, nil
}

// census counts entries by their kind.
type census struct {
	files, dirs, links, bytes int64
	mail                      []string // directories that may be mailboxes
	letters                   letters
}

// maxMailDirs bounds census.mail.
const maxMailDirs = 10_000

func (c *census) entry(d *tree.Dir, e *tree.Entry) (bool, error) {
	switch {
	case d == nil:
	case e.Kind == rightful.KindFile:
		c.files++
		c.bytes += e.Size
		if rel := d.Rel(); strings.HasPrefix(rel, "mail/") {
			c.letters.add(e.Rel())
		}
	case e.Kind == rightful.KindDir:
		c.dirs++
		if rel := d.Rel(); strings.HasPrefix(rel, "mail/") && strings.Count(rel, "/") == 1 && len(c.mail) < maxMailDirs {
			c.mail = append(c.mail, e.Rel())
		}
	case e.Kind == rightful.KindSymlink:
		c.links++
	}
	return true, nil
}

// sites checks the account once more as it stands now, and tries whether its programs can write.
func (x *rescuing) sites(ctx context.Context, home *tree.Base, r *rescue.Report) error {
	now, err := x.look(ctx, x.c.opts)
	if err != nil {
		return err
	}
	r.Left = len(now.Findings)
	before := map[string]rightful.SiteState{}
	st, err := x.openRepair()
	if err != nil {
		return err
	}
	if plan, err := st.OpenPlan(x.r.Plan); err == nil {
		for _, v := range plan.Accounts[0].Before {
			before[v.Site] = v.State
		}
		plan.Close()
	}
	cur := home.Cursor()
	defer cur.Close()
	asker := x.a.newVerifier(x.c.opts, nil)
	for _, v := range now.Now {
		s := rescue.SiteState{Site: v.Site, Before: before[v.Site], After: v.State, Why: v.Why}
		i := slices.IndexFunc(x.acct.Sites, func(o rightful.Site) bool { return o.Name == v.Site })
		if i >= 0 {
			x.tryWrite(ctx, cur, &x.acct.Sites[i], &s)
			v.Samples = nil // the front page alone
			for _, a := range web.Probe(ctx, asker.requests(x.acct, v), web.ProbeOptions{}) {
				s.Answers = max(s.Answers, a.Status) // the worst of its addresses
			}
		}
		r.Sites = append(r.Sites, s)
	}
	return nil
}

// maxStandard is more than a document root has of standard folders.
const maxStandard = 100

// tryWrite finds out whether there is anything in a document root, and whether PHP's user can make a file in it.
func (x *rescuing) tryWrite(ctx context.Context, cur *tree.Cursor, site *rightful.Site, s *rescue.SiteState) {
	rel, ok := below(site.DocRoot, x.acct.Home, x.home)
	if !ok {
		return
	}
	n, err := cur.Open(rel)
	if err != nil {
		s.Empty = true
		return
	}
	f := os.NewFile(uintptr(n.FD()), n.Path()) // and closes it
	defer f.Close()
	names, err := x.c.s.ListForeign(site.DocRoot, maxStandard)
	names = slices.DeleteFunc(names, func(n string) bool { return n[0] == '.' || slices.Contains(x.r.Furnished, path.Join(rel, n)) })
	s.Empty = err == nil && len(names) == 0
	if site.PHP.Handler == "none" || site.PHP.Handler == "" {
		return
	}
	if err := rescue.TryWrite(ctx, f, site.PHP.UID, site.PHP.GIDs); err != nil {
		s.WritesWhy = err.Error()
	} else {
		s.Writes = true
	}
}

// late finds what came into the old home, or changed there, after it was taken over.
func (x *rescuing) late(ctx context.Context, home *tree.Base, aside string) (*rescue.Late, error) {
	if x.r.Since.IsZero() {
		return nil, nil
	}
	old, err := x.c.s.OpenBase(aside)
	if err != nil {
		return nil, err
	}
	defer old.Close()
	v := &lateFiles{since: x.r.Since.Add(-tick).UnixNano(), now: home.Cursor()}
	defer v.now.Close()
	if err := old.Walk(ctx, tree.EntryFunc(v.entry), false); err != nil {
		return nil, x.a.runError(ctx, err)
	}
	if v.found.Files == 0 {
		return nil, nil
	}
	return &v.found, nil
}

// tick is how far the times of inodes may be behind the clock: one of the kernel's ticks, at the slowest.
const tick = 10 * time.Millisecond

// lateFiles finds what has changed since a time, and is not the same in the home that stands now.
type lateFiles struct {
	since int64
	now   *tree.Cursor
	found rescue.Late
}

func (v *lateFiles) entry(d *tree.Dir, e *tree.Entry) (bool, error) {
	if d == nil || e.Kind == rightful.KindDir || e.Ctime < v.since {
		return true, nil
	}
	if n, err := v.now.Open(e.Rel()); err == nil {
		defer n.Close()
		if n.Stat.Kind == e.Kind && n.Stat.Size == e.Size && n.Stat.Mtime == e.Mtime {
			return true, nil
		}
	}
	v.found.Files++
	if len(v.found.Samples) < maxTold {
		v.found.Samples = append(v.found.Samples, rescue.NewNamed(e.Rel()))
	}
	return true, nil
}

// missing holds the rebuilt home against the snapshot. A message that was read since, and is called otherwise, is not missing.
func (x *rescuing) missing(ctx context.Context, home *tree.Base, have letters, boxes []rescue.Mailbox) (*rescue.Missing, error) {
	sn, rec := x.truth.snapshot, x.truth.records
	if rec == nil {
		return nil, nil
	}
	m := &rescue.Missing{Snapshot: sn.ID, Taken: sn.Created, Samples: []rescue.Named{}, NewerSamples: []rescue.Named{}}
	var newest int64 // when the newest backup was made
	for _, s := range x.r.Sources {
		if s.Spec != specHome {
			newest = max(newest, s.Taken.UnixNano(), s.Modified.UnixNano())
		}
	}
	cur := home.Cursor()
	defer cur.Close()
	for e, err := range rec.All() {
		if err != nil {
			x.a.warn("%v", err)
			break
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if e.Kind != rightful.KindFile || rec.BaseOf(e) != x.home {
			continue
		}
		n, err := cur.Open(e.Rel)
		if err == nil {
			n.Close()
			continue
		}
		if have.has(e.Rel) {
			continue
		}
		m.Files++
		if i := slices.IndexFunc(boxes, func(b rescue.Mailbox) bool { return b.Holds(e.Rel) }); i >= 0 && isLetter(e.Rel) {
			boxes[i].Missing++
		}
		told := &m.Samples
		if e.Ctime > newest {
			m.Newer++
			told = &m.NewerSamples
		}
		if len(*told) < maxTold {
			*told = append(*told, rescue.NewNamed(e.Rel))
		}
	}
	return m, nil
}
