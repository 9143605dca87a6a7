package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"rightful"
	"rightful/internal/check"
	"rightful/internal/term"
	"rightful/internal/web"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newProbe(a *app) *cobra.Command {
	f := probeFlags{rate: 50, timeout: 5 * time.Second}
	return a.command(verb{
		use:   "probe [SITE|ACCOUNT…]",
		short: "real requests to the local web server",
		does: `Ask the local web server for the front page of every site at every address where it listens, and for a few static
files and one script of each, by Host header and TLS server name, and hold the answers against what is predicted. Where the
two disagree, something decides that neither owners and modes nor the configuration show: SELinux, a module, a cache.`,
		never: `It never changes anything, never sends a request to another machine, looks up no name, and never makes more than four
requests at once. Scripts are run by their own server, as for any visitor.`,
		examples: `
			# every site
			rightful probe
			# one account, every URL below its document roots
			rightful probe alice --all
			# gently
			rightful probe --rate 5 --timeout 20s`,
		exits: map[int]string{
			exitOK:       "every front page is served, and every answer is as predicted",
			exitFindings: "a front page is not served, or an answer is not as predicted",
			exitUsage:    "wrong usage, or an unknown site or account",
			exitCannot:   "cannot run: not root, no accounts, or --root: nothing runs there that could be asked",
		},
		flags: func(fs *pflag.FlagSet) {
			fs.BoolVar(&f.all, "all", false, "ask for every URL below the document roots")
			fs.IntVar(&f.rate, "rate", f.rate, "at most `N` requests a second")
			fs.DurationVar(&f.timeout, "timeout", f.timeout, "how long to wait for an answer, as `DURATION`")
		},
		complete: a.completeAccounts,
		run:      func(ctx context.Context, args []string) error { return a.probe(ctx, args, f) },
	})
}

type probeFlags struct {
	all     bool
	rate    int
	timeout time.Duration
}

// probing is one run of the verb.
type probing struct {
	a     *app
	c     *checking
	flags probeFlags
	sites map[string]*asking // by account and site
	pace  *time.Ticker
	asked []question // not yet sent
	rows  map[string]*probeRow
	order []string
	sum   probeSummary
}

// asking is one site, and what is still to be asked of it where not everything is.
type asking struct {
	account        string
	site           *rightful.Site
	host           string
	front          bool // was asked for
	pages, scripts int
}

// How many pages a site is asked for where not for all: enough to meet the web server itself and PHP.
const (
	somePages   = 3
	someScripts = 1
)

// question is one request, and what is predicted of it.
type question struct {
	check.URL
	front bool
	web.Request
}

type probeSummary struct {
	Accounts int     `json:"accounts"`
	Sites    int     `json:"sites"`
	Requests int     `json:"requests"`
	Served   int     `json:"served"`
	Refused  int     `json:"refused"`
	Errors   int     `json:"errors"`
	None     int     `json:"none"`
	Disagree int     `json:"disagree"`
	Seconds  float64 `json:"seconds"`
	unserved bool    // some front page
}

type probeJSON struct {
	Account    string `json:"account"`
	Site       string `json:"site"`
	URL        string `json:"url"`
	Listen     string `json:"listen"`
	Status     int    `json:"status"`
	Millis     int64  `json:"ms"`
	Class      string `json:"class"`
	Predicted  int    `json:"predicted"`
	Certain    bool   `json:"certain"`
	Agrees     bool   `json:"agrees"`
	Redirected string `json:"redirected,omitempty"`
	Error      string `json:"error,omitempty"`
}

// probeRow is what a person is shown of a site.
type probeRow struct {
	site, account      string
	front              string
	millis             int64
	served, asked, odd int
}

// probeBatch is how many requests are gathered before they are sent.
const probeBatch = 64

func (a *app) probe(ctx context.Context, args []string, f probeFlags) error {
	switch {
	case a.cfg.Root != "/" && a.cfg.Root != "":
		return fail(exitCannot, fmt.Errorf("probe %q: nothing runs there that could be asked", a.cfg.Root), term.Command("rightful", "check", "--root", a.cfg.Root))
	case f.rate < 1 || f.rate > 1_000_000:
		return fail(exitUsage, fmt.Errorf("read --rate %d: not a number of requests a second", f.rate), a.cmd+" --help")
	case f.timeout <= 0:
		return fail(exitUsage, fmt.Errorf("read --timeout %s: no time at all", f.timeout), a.cmd+" --help")
	}
	c, err := a.openChecking(nil, checkFlags{truth: truthPolicy})
	if err != nil {
		return err
	}
	defer c.close()
	p := &probing{a: a, c: c, flags: f, rows: map[string]*probeRow{}, pace: time.NewTicker(time.Second / time.Duration(f.rate))}
	defer p.pace.Stop()
	if err := p.choose(args); err != nil {
		return err
	}
	if err := c.someLeft(); err != nil {
		return err
	}
	start := time.Now()
	line := a.begin("probing", "URLs", 0)
	o := check.PredictOptions{Server: c.s, World: c.ps, Overrides: c.opts.Overrides, Accounts: c.opts.Accounts, Wanted: true, Jobs: a.cfg.Jobs, Wait: a.calm}
	err = check.Predict(ctx, o, func(b *check.Prediction) error {
		line.Add(int64(len(b.URLs)))
		for i := range b.URLs {
			if err := p.predicted(ctx, &b.URLs[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = p.fronts(ctx)
	}
	if err == nil {
		err = p.send(ctx)
	}
	line.End()
	if err != nil {
		return a.runError(ctx, err)
	}
	p.sum.Seconds = time.Since(start).Seconds()
	p.end()
	if p.sum.unserved || p.sum.Disagree > 0 {
		return exitWith(exitFindings)
	}
	return nil
}

// choose finds the accounts and sites that are named, all where none is.
func (p *probing) choose(args []string) error {
	ps := p.c.ps
	accounts, names, err := p.a.sitesNamed(ps, args)
	if err != nil {
		return err
	}
	if len(args) > 0 {
		slices.Sort(accounts)
		p.c.opts.Accounts = slices.Compact(accounts)
	}
	p.sites = map[string]*asking{}
	for i := range ps.Accounts {
		acct := &ps.Accounts[i]
		if acct.Suspended || len(p.c.opts.Accounts) > 0 && !slices.Contains(p.c.opts.Accounts, acct.Name) {
			continue // the panel answers in the place of the suspended
		}
		for k := range acct.Sites {
			s := &acct.Sites[k]
			name := plainName(s)
			if name >= 0 && len(s.Listen) > 0 && (len(names) == 0 || slices.Contains(names, s.Name)) {
				p.sites[siteKey(acct.Name, s.Name)] = &asking{account: acct.Name, site: s, host: s.Domains[name], pages: somePages, scripts: someScripts}
			}
		}
	}
	p.sum.Sites, p.sum.Accounts = len(p.sites), len(p.c.opts.Accounts)
	if len(args) == 0 {
		p.sum.Accounts = len(ps.Accounts)
	}
	return nil
}

func siteKey(account, site string) string { return account + "\x00" + site }

// plainName finds the first of a site's domains that is a name and no pattern; -1 where none is.
func plainName(s *rightful.Site) int {
	return slices.IndexFunc(s.Domains, func(d string) bool { return !strings.ContainsAny(d, "*?") })
}

// predicted asks for a URL if it is one of those wanted: the front page at every address, and of the rest some, or all.
func (p *probing) predicted(ctx context.Context, u *check.URL) error {
	s := p.sites[siteKey(u.Account, u.Site)]
	switch {
	case s == nil:
		return nil
	case u.URL == "/":
		return p.front(ctx, s, *u)
	case p.flags.all:
	case u.Kind != rightful.KindFile || !u.Public:
		return nil
	case u.Verdict.App && s.scripts > 0:
		s.scripts--
	case !u.Verdict.App && s.pages > 0:
		s.pages--
	default:
		return nil
	}
	return p.ask(ctx, question{URL: *u, Request: web.Request{Host: s.host, Listen: s.site.Listen[0], Path: u.URL}})
}

func (p *probing) front(ctx context.Context, s *asking, u check.URL) error {
	s.front = true
	for _, l := range s.site.Listen {
		if err := p.ask(ctx, question{u, true, web.Request{Host: s.host, Listen: l, Path: "/"}}); err != nil {
			return err
		}
	}
	return nil
}

// fronts asks for the front pages of which nothing is predicted.
func (p *probing) fronts(ctx context.Context) error {
	for _, k := range slices.Sorted(maps.Keys(p.sites)) {
		if s := p.sites[k]; !s.front {
			u := check.URL{Account: s.account, Site: s.site.Name, URL: "/", Path: s.site.DocRoot, Kind: rightful.KindDir}
			if err := p.front(ctx, s, u); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *probing) ask(ctx context.Context, q question) error {
	if p.asked = append(p.asked, q); len(p.asked) < probeBatch {
		return nil
	}
	return p.send(ctx)
}

// send makes the requests that were gathered, and says what came of them.
func (p *probing) send(ctx context.Context) error {
	reqs := make([]web.Request, len(p.asked))
	for i := range p.asked {
		reqs[i] = p.asked[i].Request
	}
	answers := web.Probe(ctx, reqs, web.ProbeOptions{Timeout: p.flags.timeout, Pace: func(ctx context.Context) error {
		select {
		case <-p.pace.C:
		case <-ctx.Done():
		}
		return ctx.Err()
	}})
	if err := ctx.Err(); err != nil {
		return err
	}
	for i := range p.asked {
		p.answered(&p.asked[i], answers[i])
	}
	p.asked = p.asked[:0]
	return p.a.out.err
}

func (p *probing) answered(q *question, w web.Answer) {
	v := &q.Verdict
	odd := check.Disagrees(v, w)
	p.sum.Requests++
	switch w.Class {
	case web.ClassServed:
		p.sum.Served++
	case web.ClassRefused:
		p.sum.Refused++
	case web.ClassError:
		p.sum.Errors++
	default:
		p.sum.None++
	}
	if odd {
		p.sum.Disagree++
	}
	p.sum.unserved = p.sum.unserved || q.front && w.Class != web.ClassServed
	if p.a.cfg.JSON {
		p.a.out.emit("probe", probeJSON{
			q.Account, q.Site, q.Request.URL(), q.Listen, w.Status, w.Millis, w.Class.String(), v.Status, v.Certain, !odd, w.Redirected, w.Err,
		})
	}
	p.row(q, w, odd)
	if odd {
		p.finding(q, w)
	}
}

func (p *probing) row(q *question, w web.Answer, odd bool) {
	key := siteKey(q.Account, q.Site)
	r := p.rows[key]
	if r == nil {
		r = &probeRow{site: q.Site, account: q.Account}
		p.rows[key] = r
		p.order = append(p.order, key)
	}
	r.asked++
	if w.Class == web.ClassServed {
		r.served++
	}
	if odd {
		r.odd++
	}
	if q.front {
		text := strconv.Itoa(w.Status)
		if w.Status == 0 {
			text = w.Err
		}
		if !slices.Contains(strings.Split(r.front, ", "), text) {
			r.front = strings.TrimPrefix(r.front+", "+text, ", ")
		}
		r.millis = max(r.millis, w.Millis)
	}
}

// finding reports an answer that is not the one that was predicted.
func (p *probing) finding(q *question, w web.Answer) {
	at := cmp.Or(q.Verdict.Culprit, q.URL.Path)
	f := rightful.Finding{
		Account: q.Account, Path: at, PathB64: rightful.RawPath(at), Kind: q.Kind, Problem: check.VerdictDisagrees,
		Effect: rightful.EffectWrong, Sites: []string{q.Site},
		Note: fmt.Sprintf("%s: predicted %d, seen %s: SELinux or another security module, a module of the server, or a cache", q.Request.URL(), q.Verdict.Status, answerText(w)),
	}
	if cs, err := p.c.s.Trace(at); err == nil && len(cs) > 0 {
		f.Kind, f.Have = cs[len(cs)-1].Stat.Kind, cs[len(cs)-1].Meta
	}
	switch {
	case w.Class == web.ClassServed:
	case q.front:
		f.Effect = rightful.EffectDown
	default:
		f.Effect = rightful.EffectBroken
	}
	if p.a.cfg.JSON {
		p.a.out.emit("finding", f)
		return
	}
	for _, l := range p.a.findingLines(&f) {
		p.a.out.printf("%s\n", l)
	}
}

func (p *probing) end() {
	if p.a.cfg.JSON {
		p.a.out.emit("summary", &p.sum)
		return
	}
	if p.sum.Disagree > 0 {
		p.a.out.printf("\n")
	}
	t := term.Table{Head: []string{"site", "account", "front page", ">ms", ">served", ">asked", "prediction"}}
	for _, k := range p.order {
		r := p.rows[k]
		agrees := "agrees"
		if r.odd > 0 {
			agrees = fmt.Sprintf("disagrees: %d", r.odd)
		}
		t.Row(r.site, r.account, r.front, strconv.FormatInt(r.millis, 10), strconv.Itoa(r.served), strconv.Itoa(r.asked), agrees)
	}
	s := &p.sum
	p.a.out.printf("%s\n%s of %s in %.2f s: %d served, %d refused, %d errors, %d without an answer; %s not as predicted\n", t.String(),
		counted(s.Requests, "request", "requests"), counted(s.Sites, "site", "sites"), s.Seconds, s.Served, s.Refused, s.Errors, s.None, counted(s.Disagree, "answer", "answers"))
}
