package cli

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"rightful"
	"rightful/internal/check"
	"rightful/internal/term"
	"rightful/internal/tree"
	"rightful/internal/web"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newLogs(a *app) *cobra.Command {
	var f logsFlags
	return a.command(verb{
		use:   "logs [FILE…]",
		short: "permission failures in web-server logs, by account and site",
		does: `Read the logs of the web server, PHP-FPM and suEXEC, those that were put aside and gzipped ones too, and say who
lacked a permission where, how often, and whether that is still so. Refusals that only look alike (a Require, a missing index,
ModSecurity) are told apart and counted separately.

Last come the sites that are broken and of which no log tells, because nobody visited them: their state is predicted from
the tree, as check does it.

The logs are those that the configuration names; FILE reads others instead, and - standard input. Lines are taken to be of
the server's time zone where they name none.`,
		never: `It never changes anything, makes no request, follows no link where anybody but root may write, opens nothing but
regular files, and reads neither pipes to other programs nor the system's journal: it says which logs those are.`,
		examples: `
			# everything that is there
			rightful logs
			# since the accident, and from now on
			rightful logs --since '2026-11-22 07:00' --follow
			# a log that was copied from elsewhere
			zcat error.log.7.gz | rightful logs -`,
		exits: map[int]string{
			exitOK:       "no failure is still so, and no site is broken",
			exitFindings: "something that is in a log is still broken, a site is broken, or a log could not be read",
			exitUsage:    "wrong usage",
		},
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&f.since, "since", "", "only lines from this `TIME` on: 90m, 36h, 7d, 2026-11-22 or '2026-11-22 07:00'")
			fs.BoolVarP(&f.follow, "follow", "f", false, "go on with what is added, until interrupted")
		},
		run: func(ctx context.Context, args []string) error { return a.logs(ctx, args, f) },
	})
}

type logsFlags struct {
	since  string
	follow bool
}

// followTick is how often a log that is followed is looked at.
const followTick = 500 * time.Millisecond

// logReading is one run of the verb.
type logReading struct {
	a      *app
	c      *checking
	logs   *check.Logs
	parser *web.LogParser
	newer  time.Time
	tails  []*web.LogTail // of the logs that are followed
	sum    logsSummary
	bad    bool // a log could not be read
}

type logsSummary struct {
	Files      int      `json:"files"`
	Unread     int      `json:"unread"`
	Bytes      int64    `json:"bytes"`
	Lines      int64    `json:"lines"`
	Failures   int      `json:"failures"`
	LookAlikes int      `json:"lookalikes"`
	Unplaced   int      `json:"unplaced"`
	Folded     int      `json:"folded"`
	StillSo    int      `json:"broken"`
	Cured      int      `json:"cured"`
	Unknown    int      `json:"unknown"`
	Sites      int      `json:"sites"`
	Broken     int      `json:"sites_broken"`
	Unlogged   []string `json:"unlogged"`
	Seconds    float64  `json:"seconds"`
}

func (a *app) logs(ctx context.Context, args []string, f logsFlags) error {
	c, err := a.openChecking(nil, checkFlags{truth: truthPolicy})
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.someLeft(); err != nil {
		return err
	}
	start := time.Now()
	r := &logReading{a: a, c: c, logs: check.NewLogs(c.s, c.ps), parser: &web.LogParser{Location: zone(c.s)}}
	if f.since != "" {
		if r.newer, err = parseSince(f.since, start, r.parser.Location); err != nil {
			return fail(exitUsage, err, a.cmd+" --help")
		}
		r.logs.Since = r.newer.Unix()
	}
	known := web.FindLogs(c.s, c.ps.Apache, c.ps.Nginx)
	r.parser.Formats = known.Formats
	for _, p := range known.Problems {
		a.warn("%s:%d: %s", term.Quote(p.File), p.Line, p.Msg)
	}
	if len(args) > 0 {
		var here *tree.Server
		if here, err = tree.OpenServer("/"); err != nil {
			return fail(exitCannot, err)
		}
		defer here.Close()
		err = r.given(ctx, here, args, known, f.follow)
	} else {
		err = r.configured(ctx, known, f.follow)
	}
	if err == nil && len(r.tails) > 0 {
		err = r.follow(ctx)
	}
	for _, t := range r.tails {
		t.Close()
		r.count(&t.LogScanner)
	}
	if f.follow && ctx.Err() != nil {
		// An interrupt is how it ends; the next one kills.
		err, ctx = nil, context.WithoutCancel(ctx)
	}
	if _, ok := errors.AsType[*failure](err); ok {
		return err
	}
	if err != nil {
		return a.runError(ctx, err)
	}
	return r.finish(ctx, start)
}

// configured reads the logs that are known, and what was put aside of them.
func (r *logReading) configured(ctx context.Context, known *web.Logs, follow bool) error {
	p := r.a.begin("reading logs", "bytes", 0)
	defer p.End()
	listed := map[string][]string{}
	for _, f := range known.Files {
		if f.Unread != "" {
			r.unread(f.Path, errors.New(f.Unread), false)
			continue
		}
		dir, base := path.Split(f.Path)
		if _, ok := listed[dir]; !ok {
			listed[dir], _ = r.c.s.ListForeign(dir, maxNames)
		}
		var old []string
		for _, n := range listed[dir] {
			if web.Rotated(base, n) {
				old = append(old, n)
			}
		}
		for _, n := range slices.Backward(old) {
			if err := r.once(ctx, r.c.s, dir+n, f.Names, p.Add); err != nil {
				return err
			}
		}
		if follow {
			r.tails = append(r.tails, r.tail(r.c.s, f.Path, f.Names, p.Add))
			if err := r.grown(ctx, r.tails[len(r.tails)-1]); err != nil {
				return err
			}
		} else if err := r.once(ctx, r.c.s, f.Path, f.Names, p.Add); err != nil {
			return err
		}
	}
	return nil
}

// maxNames is how many names of a directory of logs are looked at.
const maxNames = 100_000

// given reads the logs that were named on the command line. They are the operator's own paths, whatever --root says.
func (r *logReading) given(ctx context.Context, here *tree.Server, args []string, known *web.Logs, follow bool) error {
	p := r.a.begin("reading logs", "bytes", 0)
	defer p.End()
	for _, arg := range args {
		if arg == "-" {
			s := r.scanner(nil, p.Add)
			err := s.From(ctx, r.a.env.Stdin)
			s.Flush()
			r.count(s)
			if err != nil {
				return err
			}
			r.sum.Files++
			continue
		}
		name, err := filepath.Abs(arg)
		if err != nil {
			return err
		}
		var names []string
		if i := slices.IndexFunc(known.Files, func(f web.LogFile) bool { return f.Path == name && r.c.s.Live() }); i >= 0 {
			names = known.Files[i].Names
		}
		if _, err := here.Lstat(name); err != nil {
			return fail(exitUsage, err)
		}
		if follow {
			t := r.tail(here, name, names, p.Add)
			r.tails = append(r.tails, t)
			err = r.grown(ctx, t)
		} else {
			err = r.once(ctx, here, name, names, p.Add)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *logReading) scanner(names []string, read func(int64)) *web.LogScanner {
	return &web.LogScanner{Parser: r.parser, Read: read, Found: func(l *web.LogLine) { r.logs.Add(l, names) }}
}

func (r *logReading) tail(s *tree.Server, name string, names []string, read func(int64)) *web.LogTail {
	return &web.LogTail{LogScanner: *r.scanner(names, read), Server: s, Path: name, Newer: r.newer}
}

// once reads one log to its end. What cannot be read is said, and the others are read all the same.
func (r *logReading) once(ctx context.Context, s *tree.Server, name string, names []string, read func(int64)) error {
	t := r.tail(s, name, names, read)
	err := t.Once(ctx)
	r.count(&t.LogScanner)
	return r.outcome(ctx, name, err)
}

// grown reads what there is of a log that is followed.
func (r *logReading) grown(ctx context.Context, t *web.LogTail) error {
	err := t.More(ctx)
	if err == nil && !t.Open() {
		return nil // it may yet come
	}
	return r.outcome(ctx, t.Path, err)
}

func (r *logReading) outcome(ctx context.Context, name string, err error) error {
	switch {
	case err == nil:
		r.sum.Files++
	case ctx.Err() != nil:
		return ctx.Err()
	case tree.IsNotExist(err):
		r.a.detail("%s: there is no such log", term.Quote(name))
	default:
		r.unread(name, err, true)
	}
	return nil
}

func (r *logReading) unread(name string, why error, bad bool) {
	r.sum.Unread++
	r.bad = r.bad || bad
	r.a.warn("log %s is not read: %s", term.Quote(name), term.Line(why.Error()))
	if r.a.cfg.JSON {
		r.a.out.emit("unread", struct {
			Path    string `json:"path"`
			PathB64 []byte `json:"path_b64,omitempty"`
			Why     string `json:"why"`
		}{name, rightful.RawPath(name), why.Error()})
	}
}

func (r *logReading) count(s *web.LogScanner) {
	r.sum.Bytes += s.Bytes
	r.sum.Lines += s.Lines
}

// follow reads what is added, and says what changes.
func (r *logReading) follow(ctx context.Context) error {
	tick := time.NewTicker(followTick)
	defer tick.Stop()
	broken := map[string]bool{}
	for {
		for _, f := range r.logs.Changed() {
			r.changed(&f)
		}
		r.a.out.flush()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		for _, t := range r.tails {
			if err := t.More(ctx); err != nil && ctx.Err() == nil && !broken[t.Path] {
				broken[t.Path] = true
				r.unread(t.Path, err, true)
			}
		}
	}
}

func (r *logReading) changed(f *check.Failure) {
	if r.a.cfg.JSON {
		r.a.out.emit("failure", f)
		return
	}
	r.a.out.printf("%s  %s  %s  %s  %s  %s\n", r.clock(f.Last), f.Now, orDash(term.Quote(f.Site)), f.Code, counted(f.Count, "line", "lines"), orDash(term.Quote(f.Culprit)))
}

// clock shows a time as the server's own clock does.
func (r *logReading) clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.In(r.parser.Location).Format(time.DateTime)
}

// finish says how everything stands.
func (r *logReading) finish(ctx context.Context, start time.Time) error {
	a := r.a
	failures, likes := r.logs.Failures(), r.logs.LookAlikes()
	verdicts, err := r.predicted(ctx)
	if err != nil {
		return err
	}
	unlogged := r.logs.Unlogged(verdicts, failures)
	r.tally(failures, verdicts, unlogged)
	r.sum.Seconds = time.Since(start).Seconds()
	if a.cfg.JSON {
		for i := range failures {
			a.out.emit("failure", &failures[i])
		}
		for i := range likes {
			a.out.emit("lookalike", &likes[i])
		}
		for i := range unlogged {
			a.out.emit("unlogged", &unlogged[i])
		}
		a.out.emit("summary", &r.sum)
	} else {
		r.text(failures, likes, unlogged)
	}
	if r.sum.StillSo > 0 || r.sum.Broken > 0 || r.bad || brokenFiles(r.c.ps.Issues) {
		return exitWith(exitFindings)
	}
	return nil
}

// predicted gives the present state of every site.
func (r *logReading) predicted(ctx context.Context) (verdicts []rightful.Verdict, err error) {
	p := r.a.begin("checking", "entries", 0)
	defer p.End()
	opts := r.c.opts
	opts.Walked = func(n int) { p.Add(int64(n)) }
	err = check.Run(ctx, opts, func(rep *check.Report) error {
		verdicts = append(verdicts, rep.Now...)
		return nil
	})
	if err != nil {
		return nil, r.a.runError(ctx, err)
	}
	return verdicts, nil
}

func (r *logReading) tally(failures []check.Failure, verdicts []rightful.Verdict, unlogged []check.Unlogged) {
	s := &r.sum
	s.Failures, s.LookAlikes, s.Unplaced, s.Folded = r.logs.Failed, r.logs.LookedAlike, r.logs.Unplaced, r.logs.Folded
	for _, f := range failures {
		switch f.Now {
		case check.StillBroken:
			s.StillSo++
		case check.CuredSince:
			s.Cured++
		default:
			s.Unknown++
		}
	}
	s.Sites = len(verdicts)
	for _, v := range verdicts {
		if v.State == rightful.SiteDown || v.State == rightful.SiteBroken {
			s.Broken++
		}
	}
	for _, u := range unlogged {
		s.Unlogged = append(s.Unlogged, u.Site)
	}
}

// maxRows is how many failures and look-alikes are listed for a person; --verbose lists all.
const maxRows = 100

func (r *logReading) text(failures []check.Failure, likes []check.LookAlike, unlogged []check.Unlogged) {
	a := r.a
	show := func(t *term.Table, n, all int) {
		if all == 0 {
			return
		}
		a.out.printf("%s", t.String())
		if n < all {
			a.out.printf("… and %d more (--verbose)\n", all-n)
		}
		a.out.printf("\n")
	}
	rows := func(n int) int {
		if a.cfg.Verbose {
			return n
		}
		return min(n, maxRows)
	}
	t := term.Table{Head: []string{"now", "site", "account", "code", ">lines", "first", "last", "culprit", "why"}}
	for _, f := range failures[:rows(len(failures))] {
		t.Row(f.Now, orDash(f.Site), orDash(f.Account), f.Code, strconv.Itoa(f.Count), r.clock(f.First), r.clock(f.Last), orDash(f.Culprit), orDash(f.Why))
	}
	show(&t, t.Len(), len(failures))
	t = term.Table{Head: []string{"no permission", "site", "account", ">lines", "last", "what it is"}}
	for _, l := range likes[:rows(len(likes))] {
		t.Row(l.Code, orDash(l.Site), orDash(l.Account), strconv.Itoa(l.Count), r.clock(l.Last), l.Why)
	}
	show(&t, t.Len(), len(likes))
	s := &r.sum
	a.out.printf("%s, %s in %.2f s: of %s %d still broken, %d cured since, %d not known; look-alikes: %s\n",
		counted(s.Files, "log", "logs"), counted(int(s.Lines), "line", "lines"), s.Seconds,
		counted(len(failures), "failure", "failures"), s.StillSo, s.Cured, s.Unknown, counted(s.LookAlikes, "line", "lines"))
	if s.Folded > 0 {
		a.out.printf("%s of more paths than are kept are counted by site only\n", counted(s.Folded, "line", "lines"))
	}
	if len(unlogged) == 0 {
		a.out.printf("%d of %s broken, and the logs tell of each\n", s.Broken, counted(s.Sites, "site is", "sites are"))
		return
	}
	a.out.printf("\n%s broken, and no error log tells of it:\n", counted(len(unlogged), "site is", "sites are"))
	t = term.Table{Head: []string{"site", "account", "state", ">status", ">refused", "culprit", "why"}} // refused: visits, in access logs
	for _, u := range unlogged {
		t.Row(u.Site, u.Account, string(u.State), strconv.Itoa(u.Status), strconv.Itoa(u.Refused), orDash(u.Culprit), u.Why)
	}
	a.out.printf("%s", t.String())
	a.note("hint: %s", a.again("fix", "--dry-run"))
}

// zone is the server's time zone; UTC where its files do not tell it.
func zone(s *tree.Server) *time.Location {
	if b, err := s.ReadFile("/etc/localtime", 1<<20); err == nil {
		if l, err := time.LoadLocationFromTZData("server", b); err == nil {
			return l
		}
	}
	return time.UTC
}

// parseSince reads a time, or how long ago it was.
func parseSince(text string, now time.Time, loc *time.Location) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, loc); err == nil {
			return t, nil
		}
	}
	unit := text
	days := 0
	if n, rest, ok := strings.Cut(text, "d"); ok {
		if k, err := strconv.Atoi(n); err == nil && k >= 0 && k < 100_000 {
			days, unit = k, rest
		}
	}
	var d time.Duration
	var err error
	if unit != "" || days == 0 {
		d, err = time.ParseDuration(unit)
	}
	if err != nil || d < 0 {
		return time.Time{}, fmt.Errorf("read time %q: neither a time as '2026-11-22 07:00' nor how long ago it was, as 36h or 7d", text)
	}
	return now.Add(-d).AddDate(0, 0, -days), nil
}
