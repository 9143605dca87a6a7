package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"rightful"
	"rightful/internal/check"
	"rightful/internal/panel"
	"rightful/internal/term"
	"rightful/internal/web"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newPredict(a *app) *cobra.Command {
	all := false
	return a.command(verb{
		use:   "predict [SITE|ACCOUNT…]",
		short: "the predicted answer for every URL under a document root",
		does: `Walk every document root and say for each file, directory and link what the web server would answer to a
stranger: the status, the message that its error log would carry, the entry to blame and what is missing there. The text
shows what is not served, grouped by what keeps it from visitors; --json prints every URL.

What cannot be known (a rewrite rule, a script, a module) is said to be unknown, with the reason.`,
		never: "It never makes a request, never opens what it judges but .htaccess files and the first line of CGI scripts, and never changes anything.",
		examples: `
			# what is kept from visitors anywhere
			rightful predict
			# every URL of one site, one JSON object a line
			rightful predict shop.example --json
			# every URL of an account
			rightful predict alice --all`,
		exits: map[int]string{
			exitOK:       "nothing is kept from visitors by owner, group, mode or links",
			exitFindings: "something is",
			exitUsage:    "wrong usage, or an unknown account or site",
		},
		flags: func(fs *pflag.FlagSet) {
			fs.BoolVar(&all, "all", false, "print every URL, and not only what is not served")
		},
		complete: a.completeAccounts,
		run:      func(ctx context.Context, args []string) error { return a.predict(ctx, args, all) },
	})
}

// predicted sums up.
type predicted struct {
	URLs       int     `json:"urls"`
	Served     int     `json:"served"`
	Kept       int     `json:"kept"`    // from visitors, by a fault
	Private    int     `json:"private"` // refused, and not meant for visitors
	Configured int     `json:"configured"`
	Unknown    int     `json:"unknown"`
	Seconds    float64 `json:"seconds"`
}

func (p *predicted) add(u *check.URL) {
	p.URLs++
	switch v := &u.Verdict; {
	case v.Cause.Fault() && u.Public:
		p.Kept++
	case v.Cause.Fault():
		p.Private++
	case !v.Certain:
		p.Unknown++
	case v.Served():
		p.Served++
	default:
		p.Configured++
	}
}

func (a *app) predict(ctx context.Context, args []string, all bool) error {
	s, err := a.openServer()
	if err != nil {
		return err
	}
	defer s.Close()
	ps, err := a.readPanel(s)
	if err != nil {
		return err
	}
	accounts, sites, err := a.sitesNamed(ps, args)
	if err != nil {
		return err
	}
	rules, err := overrides(s)
	if err != nil {
		return fail(exitCannot, err)
	}
	start := time.Now()
	var sum predicted
	groups := newURLGroups()
	p := a.begin("predicting", "URLs", 0)
	o := check.PredictOptions{Server: s, World: ps, Overrides: rules, Accounts: a.included(ps, accounts), Sites: sites, Wanted: all || a.cfg.JSON, Jobs: a.cfg.Jobs, Wait: a.calm}
	err = check.Predict(ctx, o, func(b *check.Prediction) error {
		sum.URLs, sum.Served = sum.URLs+b.Served, sum.Served+b.Served
		for i := range b.URLs {
			u := &b.URLs[i]
			sum.add(u)
			switch {
			case a.cfg.JSON:
				a.out.emit("url", newURLJSON(u))
			case all:
				a.out.printf("%s\n", urlLine(u))
			default:
				groups.add(u)
			}
		}
		for _, n := range b.Notes {
			if a.cfg.JSON {
				a.out.emit("note", n)
			} else {
				a.note("%s: %s", term.Quote(n.Path), term.Line(n.Note))
			}
		}
		p.Add(int64(len(b.URLs) + b.Served))
		return a.out.err
	})
	p.End()
	if err != nil {
		return a.runError(ctx, err)
	}
	sum.Seconds = time.Since(start).Seconds()
	if a.cfg.JSON {
		a.out.emit("summary", sum)
	} else {
		if !all {
			groups.print(a)
		}
		a.out.printf("%d URLs in %.2f s: %d served, %d kept from visitors, %d private, %d otherwise as configured, %d unknown\n",
			sum.URLs, sum.Seconds, sum.Served, sum.Kept, sum.Private, sum.Configured, sum.Unknown)
	}
	if sum.Kept > 0 {
		return exitWith(exitFindings)
	}
	return nil
}

// sitesNamed turns arguments into accounts and, where a site and not a whole account is named, names of sites.
func (a *app) sitesNamed(ps *panel.Server, args []string) (accounts, sites []string, err error) {
	whole := []string{}
	for _, arg := range args {
		if acct, ok := ps.Account(arg); ok {
			accounts, whole = append(accounts, arg), append(whole, acct.Name)
			continue
		}
		found := false
		for i := range ps.Accounts {
			acct := &ps.Accounts[i]
			for _, s := range acct.Sites {
				if s.Name == arg || slices.Contains(s.Domains, strings.ToLower(arg)) {
					accounts, sites, found = append(accounts, acct.Name), append(sites, s.Name), true
				}
			}
		}
		if !found {
			return nil, nil, a.unknownAccount(ps, arg)
		}
	}
	if len(sites) > 0 {
		for _, n := range whole {
			acct, _ := ps.Account(n)
			for _, s := range acct.Sites {
				sites = append(sites, s.Name)
			}
		}
	}
	return accounts, sites, nil
}

// urlLine is one URL in text.
func urlLine(u *check.URL) string {
	v := &u.Verdict
	return fmt.Sprintf("%s %s %s%s", statusText(v), term.Quote(u.Site), u.URL, becauseText(v))
}

func statusText(v *web.Verdict) string {
	switch {
	case v.Certain:
		return fmt.Sprint(v.Status)
	case v.Status != 0:
		return fmt.Sprintf("%d?", v.Status)
	}
	return "???"
}

// becauseText says what decides, in parentheses; nothing where the file is simply served.
func becauseText(v *web.Verdict) string {
	var parts []string
	if v.Code != "" {
		parts = append(parts, v.Code)
	}
	if v.Culprit != "" {
		parts = append(parts, term.Quote(v.Culprit))
	}
	if v.Why != "" {
		parts = append(parts, term.Line(v.Why))
	}
	if v.File != "" {
		parts = append(parts, fmt.Sprintf("%s:%d", term.Quote(v.File), v.Line))
	}
	if len(parts) == 0 {
		return ""
	}
	return "  (" + strings.Join(parts, ": ") + ")"
}

// urlGroups gathers URLs of a site that one thing decides. Of each group one URL is kept.
type urlGroups struct {
	index map[urlGroup]int
	list  []urlGroupSum
}

type urlGroup struct {
	account, site, status, code, culprit, why string
}

type urlGroupSum struct {
	urlGroup
	first string
	n     int
	fault bool
}

// maxURLGroups bounds what is kept to be printed: what comes after is only counted.
const maxURLGroups = 100_000

func newURLGroups() *urlGroups { return &urlGroups{index: map[urlGroup]int{}} }

func (g *urlGroups) add(u *check.URL) {
	v := &u.Verdict
	if v.Served() && v.Certain && !v.Cause.Fault() || v.Cause.Fault() && !u.Public {
		return
	}
	k := urlGroup{u.Account, u.Site, statusText(v), v.Code, v.Culprit, v.Why}
	if !v.Cause.Fault() {
		k.culprit = ""
	}
	i, ok := g.index[k]
	if !ok {
		if len(g.list) == maxURLGroups {
			return
		}
		i = len(g.list)
		g.index[k] = i
		g.list = append(g.list, urlGroupSum{urlGroup: k, first: u.URL, fault: v.Cause.Fault()})
	}
	g.list[i].n++
}

// print shows what is kept from visitors first, then the rest.
func (g *urlGroups) print(a *app) {
	for _, fault := range []bool{true, false} {
		t := term.Table{Head: []string{"site", "status", "urls", "first", "code", "culprit", "why"}}
		rows := 0
		for i := range g.list {
			r := &g.list[i]
			if r.fault != fault {
				continue
			}
			rows++
			t.Row(r.site, r.status, fmt.Sprint(r.n), r.first, orDash(r.code), orDash(r.culprit), r.why)
		}
		if rows > 0 {
			a.out.printf("%s\n", t.String())
		}
	}
}

type urlJSON struct {
	Account    string        `json:"account"`
	Site       string        `json:"site"`
	URL        string        `json:"url"`
	Path       string        `json:"path"`
	PathB64    []byte        `json:"path_b64,omitempty"`
	Kind       rightful.Kind `json:"type"`
	Public     bool          `json:"public,omitempty"`
	Status     int           `json:"status"`
	Statuses   []int         `json:"statuses,omitempty"`
	Certain    bool          `json:"certain"`
	App        bool          `json:"app,omitempty"`
	Cause      web.Cause     `json:"cause"`
	Code       string        `json:"code,omitempty"`
	Culprit    string        `json:"culprit,omitempty"`
	CulpritB64 []byte        `json:"culprit_b64,omitempty"`
	Identity   *uint32       `json:"identity,omitempty"`
	Need       string        `json:"need,omitempty"`
	Why        string        `json:"why,omitempty"`
	File       string        `json:"file,omitempty"`
	Line       int           `json:"line,omitempty"`
}

func newURLJSON(u *check.URL) urlJSON {
	v := &u.Verdict
	j := urlJSON{
		Account: u.Account, Site: u.Site, URL: u.URL, Path: u.Path, PathB64: rightful.RawPath(u.Path), Kind: u.Kind, Public: u.Public,
		Status: v.Status, Statuses: v.Statuses, Certain: v.Certain, App: v.App, Cause: v.Cause, Code: v.Code,
		Culprit: v.Culprit, CulpritB64: rightful.RawPath(v.Culprit), Need: needText(v.Need), Why: v.Why, File: v.File, Line: v.Line,
	}
	if v.Identity != nil {
		j.Identity = &v.Identity.UID
	}
	return j
}

// needText names missing rights: "r", "rx".
func needText(need uint8) string { return strings.ReplaceAll(rightful.PermString(need), "-", "") }
