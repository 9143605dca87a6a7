package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"rightful"
	"rightful/internal/check"
	"rightful/internal/panel"
	"rightful/internal/repair"
	"rightful/internal/web"
)

// verifier judges a stage by real requests to the local web server. A site that cannot be asked (no live server, no
// answer, or an error before we came) is judged by prediction instead and listed as unverified.
type verifier struct {
	opts check.Options
	plan *repair.Plan
	live bool
	// settle is for how long a site that is to be cured may go on answering as before.
	settle time.Duration
	sites  map[string]*siteBase // by account and site
	order  []string
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

// controls is how many sites outside a stage are asked too when one in it got worse. As many outside the plan are kept.
const controls = 3

// settleTick is how often a site is asked again that answers as before.
const settleTick = 500 * time.Millisecond

// retries is how often a worse answer is asked again before it is believed.
const retries = 2

func (a *app) newVerifier(opts check.Options, plan *repair.Plan) *verifier {
	opts.Plan, opts.Truth = false, nil // how sites answer depends on no record
	return &verifier{opts: opts, plan: plan, live: opts.Server.Live(), settle: time.Duration(a.cfg.Settle) * time.Second, sites: map[string]*siteBase{}}
}

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
	k := siteKey(b.Account, b.Site)
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

// requests are what a site is asked, by the first of its names that is one, at every address where it listens: its front
// page, and up to three pages that are refused and should not be.
func (v *verifier) requests(acct *panel.Account, before rightful.Verdict) (reqs []web.Request) {
	i := slices.IndexFunc(acct.Sites, func(s rightful.Site) bool { return s.Name == before.Site })
	if !v.live || i < 0 {
		return nil
	}
	site := &acct.Sites[i]
	name := plainName(site)
	if name < 0 {
		return nil
	}
	for _, l := range site.Listen {
		for _, p := range append([]string{"/"}, before.Samples...) {
			reqs = append(reqs, web.Request{Host: site.Domains[name], Listen: l, Path: p})
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
	js := make([]repair.Judgement, len(accounts))
	index := make(map[string]*repair.Judgement, len(accounts))
	for i, a := range accounts {
		js[i].Account = a
		index[a] = &js[i]
	}
	var bs []*siteBase
	for _, k := range v.order {
		if b := v.sites[k]; index[b.Account] != nil {
			bs = append(bs, b)
		}
	}
	looks, err := v.compare(ctx, bs, v.settle)
	if err != nil {
		return nil, err
	}
	worse := false
	for i, b := range bs {
		j := index[b.Account]
		switch looks[i].got {
		case better:
			j.Cured = append(j.Cured, b.Site)
		case asBefore:
			if b.toBeCured() {
				j.Uncured = append(j.Uncured, b.Site)
			}
		case lower:
			j.Worse, j.Reason, worse = append(j.Worse, b.Site), looks[i].why, true
		case unproved:
			j.Unverified = append(j.Unverified, b.Site)
		}
	}
	if worse {
		why, err := v.outage(ctx, accounts)
		if err != nil {
			return nil, err
		}
		for i := range js {
			if j := &js[i]; why != "" && len(j.Worse) > 0 {
				j.Unverified, j.Worse, j.Reason = append(j.Unverified, j.Worse...), nil, why
			}
		}
	}
	return js, v.predict(ctx, js)
}

// comparison is how a site answers, held against how it did.
type comparison uint8

const (
	unproved comparison = iota // requests can't show what was to become of it
	asBefore
	better
	lower
)

// A look is what came of asking a site again.
type look struct {
	got comparison
	why string // it is lower
}

// compare asks sites again, all of them together. What is lower is asked twice more before it is believed. What is to be
// cured and answers as before is asked again and again until it is better, for as long as settle: caches of what could
// not be reached (PHP's realpath cache, nginx's open_file_cache) outlive the repair by some seconds.
func (v *verifier) compare(ctx context.Context, bs []*siteBase, settle time.Duration) ([]look, error) {
	looks := make([]look, len(bs))
	again := func(wanted func(i int) bool) error {
		var reqs []web.Request
		for i, b := range bs {
			if wanted(i) {
				reqs = append(reqs, b.Requests...)
			}
		}
		answers := web.Probe(ctx, reqs, web.ProbeOptions{})
		for i, b := range bs {
			if wanted(i) {
				looks[i] = b.look(answers[:len(b.Requests)])
				answers = answers[len(b.Requests):]
			}
		}
		return ctx.Err()
	}
	ask := func(wanted func(i int) bool) error {
		err := again(wanted)
		for n := 0; err == nil && n < retries; n++ {
			err = again(func(i int) bool { return looks[i].got == lower })
		}
		return err
	}
	if err := ask(func(int) bool { return true }); err != nil || settle <= 0 {
		return looks, err
	}
	patience, tick := time.NewTimer(settle), time.NewTicker(settleTick)
	defer patience.Stop()
	defer tick.Stop()
	uncured := func(i int) bool { return looks[i].got == asBefore && bs[i].toBeCured() }
	for pending(len(bs), uncured) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-patience.C:
			return looks, nil
		case <-tick.C:
		}
		if err := ask(uncured); err != nil {
			return nil, err
		}
	}
	return looks, nil
}

func pending(n int, of func(i int) bool) bool {
	for i := range n {
		if of(i) {
			return true
		}
	}
	return false
}

// look holds the answers of a site against those before. It is better if some answer is and none is lower. An error, or
// no answer, before proves nothing, unless the page is served now; neither does an error that announces its end where
// the page was refused: then an application is in maintenance, and only answers at all because it can be reached again.
func (b *siteBase) look(answers []web.Answer) (l look) {
	for i, now := range answers {
		was := b.Answers[i]
		switch {
		case now.Later && was.Class == web.ClassRefused:
		case was.Class >= web.ClassRefused && now.Class < was.Class:
			l.got = lower
			l.why = fmt.Sprintf("%s%s answered %d, now %s", b.Requests[i].Host, b.Requests[i].Path, was.Status, answerText(now))
		case l.got == lower:
		case now.Class > was.Class && now.Class == web.ClassServed:
			l.got = better
		case l.got == unproved && (was.Class == web.ClassRefused || was.Class == web.ClassServed && !b.toBeCured()):
			l.got = asBefore
		}
	}
	return l
}

// toBeCured reports whether the plan is predicted to make the site better. Then a page that was served all along shows
// nothing of it.
func (b *siteBase) toBeCured() bool { return b.After.State.Rank() < b.Before.State.Rank() }

func answerText(a web.Answer) string {
	if a.Status == 0 {
		return "nothing"
	}
	return fmt.Sprint(a.Status)
}

// outage asks a few sites outside the stage: if every one of them answers worse too, it is not our doing.
func (v *verifier) outage(ctx context.Context, stage []string) (why string, err error) {
	asked := 0
	for _, k := range v.order {
		b := v.sites[k]
		if asked == controls || slices.Contains(stage, b.Account) || !b.proves() {
			continue
		}
		asked++
		looks, err := v.compare(ctx, []*siteBase{b}, 0)
		if err != nil || looks[0].got != lower {
			return "", err
		}
		why = "sites that were not touched answer worse too: " + looks[0].why
	}
	return why, nil
}

// proves reports whether the answers before tell anything about access.
func (b *siteBase) proves() bool {
	return slices.ContainsFunc(b.Answers, func(a baseAnswer) bool { return a.Class >= web.ClassRefused })
}

// predict judges what requests could not prove, by looking at the trees again.
func (v *verifier) predict(ctx context.Context, js []repair.Judgement) error {
	opts := v.opts
	opts.Accounts = nil
	for i := range js {
		if _, known := v.opts.World.Account(js[i].Account); known && len(js[i].Unverified) > 0 {
			opts.Accounts = append(opts.Accounts, js[i].Account)
		}
	}
	if len(opts.Accounts) == 0 {
		return nil
	}
	return check.Run(ctx, opts, func(r *check.Report) error {
		i := slices.IndexFunc(js, func(j repair.Judgement) bool { return j.Account == r.Account.Name })
		for _, now := range r.Now {
			b := v.sites[siteKey(r.Account.Name, now.Site)]
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
			case b.toBeCured():
				js[i].Uncured = append(js[i].Uncured, now.Site)
			}
		}
		return nil
	})
}
