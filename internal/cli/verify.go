package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/check"
	"rightful/internal/panel"
	"rightful/internal/repair"
	"rightful/internal/web"
)

// verifier judges a stage by real requests to the local web server. A site that cannot be asked (no live server, no
// answer, or an error before we came) is judged by prediction instead and listed as unverified.
type verifier struct {
	opts  check.Options
	plan  *repair.Plan
	live  bool
	sites map[string]*siteBase // by account and site
	order []string
}

// siteBase is how one site answered before anything was changed.
type siteBase struct {
	Account  string           `json:"account"`
	Site     string           `json:"site"`
	Before   rightful.Verdict `json:"before"`
	After    rightful.Verdict `json:"after"`
	Requests []web.Request    `json:"requests"`
	Answers  []baseAnswer     `json:"answers"`
	control  bool             // outside the plan: it tells an outage from our own doing
}

type baseAnswer struct {
	Status int       `json:"status"`
	Class  web.Class `json:"class"`
}

// controls is how many sites outside a stage are asked too when one in it got worse.
const controls = 3

// retries is how often a worse answer is asked again before it is believed.
const retries = 2

func newVerifier(opts check.Options, plan *repair.Plan, live bool) *verifier {
	opts.Plan = false
	return &verifier{opts: opts, plan: plan, live: live, sites: map[string]*siteBase{}}
}

func (v *verifier) key(account, site string) string { return account + "\x00" + site }

// Baseline implements repair.Verifier.
func (v *verifier) Baseline(ctx context.Context, accounts []string) (json.RawMessage, error) {
	in := map[string]bool{}
	for _, a := range v.plan.Accounts {
		in[a.Account] = true
		acct, ok := v.opts.World.Account(a.Account)
		for i, before := range a.Before {
			b := &siteBase{Account: a.Account, Site: before.Site, Before: before, After: a.After[i]}
			if ok {
				b.Requests = v.requests(acct, before)
			}
			v.add(b)
		}
	}
	for i := range v.opts.World.Accounts {
		acct := &v.opts.World.Accounts[i]
		if in[acct.Name] || len(v.order) > 0 && v.countControls() >= controls {
			continue
		}
		for _, s := range acct.Sites[:min(1, len(acct.Sites))] {
			verdict := rightful.Verdict{Account: acct.Name, Site: s.Name}
			v.add(&siteBase{Account: acct.Name, Site: s.Name, Before: verdict, After: verdict, Requests: v.requests(acct, verdict), control: true})
		}
	}
	if err := v.ask(ctx, v.order); err != nil {
		return nil, err
	}
	all := make([]*siteBase, 0, len(v.order))
	for _, k := range v.order {
		all = append(all, v.sites[k])
	}
	return json.Marshal(all)
}

func (v *verifier) countControls() (n int) {
	for _, b := range v.sites {
		if b.control {
			n++
		}
	}
	return n
}

func (v *verifier) add(b *siteBase) {
	k := v.key(b.Account, b.Site)
	if v.sites[k] == nil {
		v.order = append(v.order, k)
	}
	v.sites[k] = b
}

// Restore implements repair.Verifier.
func (v *verifier) Restore(raw json.RawMessage) error {
	var all []*siteBase
	if err := json.Unmarshal(raw, &all); err != nil {
		return fmt.Errorf("read baseline: %w", err)
	}
	in := map[string]bool{}
	for _, a := range v.plan.Accounts {
		in[a.Account] = true
	}
	for _, b := range all {
		b.control = !in[b.Account]
		v.add(b)
	}
	return nil
}

// requests are what a site is asked: its front page, and up to three pages that are refused and should not be, at the
// first address of each scheme where it listens.
func (v *verifier) requests(acct *panel.Account, before rightful.Verdict) []web.Request {
	i := slices.IndexFunc(acct.Sites, func(s rightful.Site) bool { return s.Name == before.Site })
	if !v.live || i < 0 || len(acct.Sites[i].Domains) == 0 {
		return nil
	}
	var reqs []web.Request
	seen := map[string]bool{}
	for _, l := range acct.Sites[i].Listen {
		scheme, _, _ := strings.Cut(l, "://")
		if seen[scheme] {
			continue
		}
		seen[scheme] = true
		for _, p := range append([]string{"/"}, before.Samples...) {
			reqs = append(reqs, web.Request{Host: acct.Sites[i].Domains[0], Listen: l, Path: p})
		}
	}
	return reqs
}

// ask fills in how sites answer now.
func (v *verifier) ask(ctx context.Context, keys []string) error {
	var reqs []web.Request
	for _, k := range keys {
		reqs = append(reqs, v.sites[k].Requests...)
	}
	answers := web.Probe(ctx, reqs, web.ProbeOptions{})
	for _, k := range keys {
		b := v.sites[k]
		b.Answers = make([]baseAnswer, len(b.Requests))
		for i := range b.Requests {
			b.Answers[i] = baseAnswer{answers[0].Status, answers[0].Class}
			answers = answers[1:]
		}
	}
	return ctx.Err()
}

// Judge implements repair.Verifier.
func (v *verifier) Judge(ctx context.Context, accounts []string) ([]repair.Judgement, error) {
	var js []repair.Judgement
	var predict []string
	for _, a := range accounts {
		j := repair.Judgement{Account: a}
		for _, k := range v.order {
			b := v.sites[k]
			if b.Account != a {
				continue
			}
			if !b.proves() {
				j.Unverified = append(j.Unverified, b.Site)
				predict = append(predict, a)
				continue
			}
			cured, worse, err := v.compare(ctx, b)
			if err != nil {
				return nil, err
			}
			if cured {
				j.Cured = append(j.Cured, b.Site)
			}
			if worse != "" {
				j.Worse = append(j.Worse, b.Site)
				j.Reason = worse
			}
		}
		js = append(js, j)
	}
	for i := range js {
		if len(js[i].Worse) == 0 {
			continue
		}
		if why, err := v.outage(ctx); err != nil {
			return nil, err
		} else if why != "" {
			js[i].Unverified = append(js[i].Unverified, js[i].Worse...)
			js[i].Worse, js[i].Reason = nil, why
		}
	}
	return js, v.predict(ctx, slices.Compact(predict), js)
}

// proves reports whether the answers before tell anything about access.
func (b *siteBase) proves() bool {
	return slices.ContainsFunc(b.Answers, func(a baseAnswer) bool { return a.Class >= web.ClassRefused })
}

// compare asks a site again. It is cured if something is better and nothing worse; worse is why it got worse, after
// retries.
func (v *verifier) compare(ctx context.Context, b *siteBase) (cured bool, worse string, err error) {
	for range 1 + retries {
		cured, worse = false, ""
		for i, now := range web.Probe(ctx, b.Requests, web.ProbeOptions{}) {
			was := b.Answers[i]
			switch {
			case was.Class < web.ClassRefused:
			case now.Class < was.Class:
				worse = fmt.Sprintf("%s%s answered %d, now %s", b.Requests[i].Host, b.Requests[i].Path, was.Status, answerText(now))
			case now.Class > was.Class:
				cured = true
			}
		}
		if err := ctx.Err(); err != nil {
			return false, "", err
		}
		if worse == "" {
			break
		}
		cured = false
	}
	return cured, worse, nil
}

func answerText(a web.Answer) string {
	if a.Status == 0 {
		return "nothing"
	}
	return fmt.Sprint(a.Status)
}

// outage asks the control sites: if one of them fails too, it is not our doing.
func (v *verifier) outage(ctx context.Context) (string, error) {
	for _, k := range v.order {
		b := v.sites[k]
		if !b.control || !b.proves() {
			continue
		}
		_, worse, err := v.compare(ctx, b)
		if err != nil {
			return "", err
		}
		if worse != "" {
			return "a site that nothing was changed for fails too: " + worse, nil
		}
	}
	return "", nil
}

// predict judges what requests could not prove, by looking at the trees again.
func (v *verifier) predict(ctx context.Context, accounts []string, js []repair.Judgement) error {
	if len(accounts) == 0 {
		return nil
	}
	opts := v.opts
	opts.Accounts = accounts
	return check.Run(ctx, opts, func(r *check.Report) error {
		i := slices.IndexFunc(js, func(j repair.Judgement) bool { return j.Account == r.Account.Name })
		for _, now := range r.Now {
			b := v.sites[v.key(r.Account.Name, now.Site)]
			if i < 0 || b == nil || !slices.Contains(js[i].Unverified, now.Site) {
				continue
			}
			was, is := b.Before.State.Rank(), now.State.Rank()
			switch {
			case is < was || is == was && now.Blocked < b.Before.Blocked:
				js[i].Cured = append(js[i].Cured, now.Site)
			case is > was || now.Blocked > b.Before.Blocked:
				js[i].Worse = append(js[i].Worse, now.Site)
				js[i].Reason = "predicted: " + now.Why
			}
		}
		return nil
	})
}
