package cli

import (
	"context"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"rightful"
	"rightful/internal/rescue"
	"rightful/internal/term"
	"rightful/internal/tree"
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
		a.out.emit("rescue", x.r)
		a.out.emit("summary", struct {
			Files int64 `json:"files"`
			Whole bool  `json:"whole"`
		}{x.r.Report.Files, x.r.Report.Whole()})
		return nil
	}
	a.out.printf("\n")
	if err := x.r.Report.Text(outWriter{a}, term.Line); err != nil {
		return err
	}
	a.out.flush()
	a.note("to put the old home back: %s", a.again("undo", x.r.Run))
	a.note("what to tell the customer: %s", a.again("rescue", x.acct.Name, "--report", "html"))
	if x.r.Report.Aside != "" {
		a.note("when all is well, to remove the old home: %s", a.again("rescue", x.acct.Name, "--finish"))
	}
	return nil
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
	total := &census{}
	if err := home.Walk(ctx, total, false); err != nil {
		return nil, x.a.runError(ctx, err)
	}
	r.Files, r.Dirs, r.Links, r.Bytes = total.files, total.dirs, total.links, total.bytes
	var sum rescue.Counts
	for i := range x.r.Sources {
		s := &x.r.Sources[i]
		r.Sources = append(r.Sources, rescue.Origin{
			Source: s.Spec, What: s.What, Taken: s.Taken, Files: s.Counts.Files - s.Counts.Kept, Bytes: s.Counts.Bytes, Cut: s.Counts.Cut,
		})
		sum.Add(s.Counts)
	}
	r.Rejects, r.Rejected = sum.Rejects, append(r.Rejected, sum.Rejected...)
	if _, err := x.c.s.Lstat(path.Join(x.r.Quarantine, "home")); err == nil {
		r.Aside = path.Join(x.r.Quarantine, "home")
	}
	if err := x.sites(ctx, home, r); err != nil {
		return nil, err
	}
	r.Mailboxes = x.mailboxes(home)
	if r.Missing, err = x.missing(ctx, home); err != nil {
		return nil, err
	}
	return r, nil
}

// census counts entries by their kind.
type census struct {
	files, dirs, links, bytes int64
	measure
}

// Entry implements tree.Visitor.
func (c *census) Entry(d *tree.Dir, e *tree.Entry) (bool, error) {
	switch {
	case d == nil:
	case e.Kind == rightful.KindFile:
		c.files++
		c.bytes += e.Size
	case e.Kind == rightful.KindDir:
		c.dirs++
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
	for _, v := range now.Now {
		s := rescue.SiteState{Site: v.Site, Before: before[v.Site], After: v.State, Why: v.Why}
		i := slices.IndexFunc(x.acct.Sites, func(o rightful.Site) bool { return o.Name == v.Site })
		if i >= 0 {
			x.tryWrite(ctx, cur, &x.acct.Sites[i], &s)
		}
		r.Sites = append(r.Sites, s)
	}
	return nil
}

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
	names, err := x.c.s.ListForeign(site.DocRoot, 1)
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

// logTail is how much of each mail log is looked at, from its end.
const logTail = 64 << 20

// mailLogs are where Exim and Dovecot log on servers with panels.
var mailLogs = []string{
	"/var/log/exim_mainlog", "/var/log/exim_mainlog.1", "/var/log/exim4/mainlog", "/var/log/exim4/mainlog.1", "/var/log/exim/mainlog",
	"/var/log/maillog", "/var/log/maillog.1", "/var/log/mail.log", "/var/log/mail.log.1", "/var/log/dovecot.log",
}

// mailboxes names those that there were, from every trace.
func (x *rescuing) mailboxes(home *tree.Base) []rescue.Mailbox {
	var domains []string
	for i := range x.acct.Sites {
		domains = append(domains, x.acct.Sites[i].Domains...)
	}
	m := rescue.NewMailboxes(domains)
	for _, address := range x.acct.Mailboxes {
		m.Known(address)
	}
	if len(x.acct.Mailboxes) == 0 && x.acct.Panel == "cpanel" {
		m.Home(home)
		if rec := x.truth.records; rec != nil {
			for e, err := range rec.All() {
				if err == nil && e.Kind == rightful.KindDir && strings.HasPrefix(e.Rel, "mail/") && rec.BaseOf(e) == x.home {
					m.Path(e.Rel, "snapshot")
				}
			}
		}
		for _, d := range domains {
			if text, err := x.c.s.ReadFile("/etc/valiases/"+d, 1<<20); err == nil && !strings.Contains(d, "/") {
				m.Aliases(d, text)
			}
		}
		for _, name := range mailLogs {
			if text := x.tail(name); text != nil {
				m.Log(text)
			}
		}
	}
	return m.List(home)
}

// tail reads the end of a log.
func (x *rescuing) tail(name string) []byte {
	f, st, err := x.c.s.OpenForeign(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	if st.Size > logTail {
		if _, err := f.Seek(st.Size-logTail, io.SeekStart); err != nil {
			return nil
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, logTail))
	if err != nil {
		return nil
	}
	return b
}

// missing holds the rebuilt home against the snapshot.
func (x *rescuing) missing(ctx context.Context, home *tree.Base) (*rescue.Missing, error) {
	sn, rec := x.truth.snapshot, x.truth.records
	if rec == nil {
		return nil, nil
	}
	m := &rescue.Missing{Snapshot: sn.ID, Taken: sn.Created, Samples: []string{}}
	var newest int64 // when the newest backup was made
	for _, s := range x.r.Sources {
		if s.Spec != specHome {
			newest = max(newest, s.Taken.UnixNano())
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
		m.Files++
		if e.Ctime > newest {
			m.Newer++
		}
		if len(m.Samples) < maxTold {
			m.Samples = append(m.Samples, e.Rel)
		}
	}
	return m, nil
}
