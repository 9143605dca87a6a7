package cli

import (
	"errors"
	"fmt"
	"strings"

	"rightful"
	"rightful/internal/check"
	"rightful/internal/term"
)

// explainURL is explain of a request.
func (a *app) explainURL(name, as string) error {
	u, err := check.ParseURL(name)
	if err != nil {
		return fail(exitUsage, fmt.Errorf("explain %q: %w", name, err))
	}
	c, err := a.openChecking(nil, checkFlags{})
	if err != nil {
		return err
	}
	defer c.close()
	more, err := a.explainAs(c, as)
	if err != nil {
		return err
	}
	x, err := check.ExplainURL(c.opts, u, more)
	switch {
	case errors.Is(err, check.ErrNobody):
		return fail(exitUsage, fmt.Errorf("explain %q: %w", name, err), a.again("accounts"))
	case err != nil:
		return fail(exitCannot, err)
	}
	if a.cfg.JSON {
		a.explainURLJSON(x)
	} else {
		a.explainURLText(x)
	}
	if x.Verdict.Cause.Fault() {
		return exitWith(exitFindings)
	}
	return nil
}

func (a *app) explainURLText(x *check.URLExplanation) {
	h := &x.Chosen
	a.out.printf("%s\n", term.Line(x.URL))
	a.out.printf("virtual host: %s of %s, %s:%d: %s\n", term.Quote(orDash(h.Name)), h.Server, term.Quote(h.File), h.Line, term.Line(h.Why))
	if h.Site == nil {
		a.out.printf("its document root belongs to no account\n")
		if v := &x.Verdict; v.Status != 0 || v.Why != "" {
			a.out.printf("answer: %s%s\n", statusText(v), becauseText(v))
		}
		return
	}
	a.out.printf("site: %s of account %s\n", term.Quote(h.Site.Name), term.Quote(h.Account.Name))
	where := ""
	if x.File != "" {
		where = fmt.Sprintf(", %s:%d", term.Quote(x.File), x.Line)
	}
	a.out.printf("path: %s, by %s%s\n\n", term.Quote(x.Way.Path), term.Line(x.How), where)
	a.explainWay(x.Way)
	v := &x.Verdict
	a.out.printf("\nanswer: %s%s\n", statusText(v), becauseText(v))
	if v.Served() && v.App {
		a.out.printf("  a program is run: what it says is its own affair\n")
	}
	if x.Blame != nil && x.Blame.Finding != nil {
		f := x.Blame.Finding
		a.out.printf("%s: %s  [%s]\n", f.Problem, check.Catalogue[f.Problem], f.Rule)
		if f.Note != "" {
			a.out.printf("  %s\n", term.Line(f.Note))
		}
	}
	for _, n := range x.Notes {
		a.out.printf("note: %s\n", term.Line(n))
	}
	if len(x.Cure) > 0 {
		a.out.printf("cure: %s\n", cureText(x.Cure))
		if f := x.Blame.Finding; f != nil && f.Want != nil && f.Accept == "" {
			a.note("hint: %s", a.again("fix", f.Account))
		}
	}
}

// cureText is commands on one line, ready to paste.
func cureText(cure [][]string) string {
	var lines []string
	for _, c := range cure {
		lines = append(lines, term.Command(c...))
	}
	return strings.Join(lines, " && ")
}

type hostJSON struct {
	Server  string `json:"server"`
	Host    string `json:"host,omitempty"`
	File    string `json:"file"`
	Line    int    `json:"line"`
	Why     string `json:"why"`
	Account string `json:"account,omitempty"`
	Site    string `json:"site,omitempty"`
}

func (a *app) explainURLJSON(x *check.URLExplanation) {
	h := hostJSON{Server: x.Chosen.Server, Host: x.Chosen.Name, File: x.Chosen.File, Line: x.Chosen.Line, Why: x.Chosen.Why}
	sum := struct {
		URL     string     `json:"url"`
		Path    string     `json:"path,omitempty"`
		PathB64 []byte     `json:"path_b64,omitempty"`
		Account string     `json:"account,omitempty"`
		Site    string     `json:"site,omitempty"`
		By      string     `json:"by,omitempty"`
		Cure    [][]string `json:"cure"`
	}{URL: x.URL, By: x.How, Cure: x.Cure}
	if x.Chosen.Site != nil {
		h.Account, h.Site = x.Chosen.Account.Name, x.Chosen.Site.Name
		sum.Account, sum.Site = h.Account, h.Site
		sum.Path, sum.PathB64 = x.Way.Path, rightful.RawPath(x.Way.Path)
	}
	a.out.emit("host", h)
	switch {
	case x.Chosen.Site == nil && (x.Verdict.Status != 0 || x.Verdict.Why != ""):
		a.out.emit("url", newURLJSON(&check.URL{URL: x.URL, Verdict: x.Verdict}))
	case x.Chosen.Site != nil:
		a.explainWayJSON(x.Way)
		kind := rightful.KindUnknown
		if n := len(x.Way.Components); n > 0 && x.Way.Err == nil {
			kind = x.Way.Components[n-1].Stat.Kind
		}
		a.out.emit("url", newURLJSON(&check.URL{Account: h.Account, Site: h.Site, URL: x.URL, Path: x.Way.Path, Kind: kind, Verdict: x.Verdict}))
		if x.Blame != nil && x.Blame.Finding != nil {
			a.out.emit("finding", x.Blame.Finding)
		}
	}
	a.out.emit("summary", sum)
}
