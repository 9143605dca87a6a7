package check

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net/url"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"rightful"
	"rightful/internal/panel"
	"rightful/internal/policy"
	"rightful/internal/tree"
	"rightful/internal/web"
)

// A URL is one file, directory or link below a document root, and what the web server would answer for it.
type URL struct {
	Account string
	Site    string
	// URL is the request path, percent-encoded, that reaches the entry; a directory's ends with a slash.
	URL  string
	Path string
	Kind rightful.Kind
	// Public: the rules mean it for visitors. What is refused and is not public is private, and no fault.
	Public  bool
	Verdict web.Verdict
}

// A Prediction is some of what was predicted, or a note.
type Prediction struct {
	URLs  []URL
	Notes []Note
	// Served counts those that are served and were left out of URLs.
	Served int
}

// PredictOptions say what to predict.
type PredictOptions struct {
	Server *tree.Server
	World  *panel.Server
	// Overrides are the operator's own rule files, or nil.
	Overrides fs.FS
	// Accounts are names, all where empty; Sites are the names of the sites wanted, all where empty.
	Accounts []string
	Sites    []string
	// Wanted: what is served is wanted too, and not only counted.
	Wanted bool
	Jobs   int
	Wait   func(context.Context) error
}

// batch is how many URLs go to emit at once.
const batch = 512

// Predict predicts the answer for everything below the document roots, each entry once: the innermost document root is
// the one that serves it. emit is called from one goroutine, in the order of accounts, of document roots as they lie, and
// of names. What it is given is not used again.
func Predict(ctx context.Context, o PredictOptions, emit func(*Prediction) error) error {
	c, err := newChecker(Options{Server: o.Server, World: o.World, Overrides: o.Overrides, Accounts: o.Accounts, Wait: o.Wait})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// As many walks as there are processors: more would wait for their turn to be emitted, not for a disk.
	jobs := tree.NewWidth(ctx, cmp.Or(o.Jobs, runtime.NumCPU())).Max()
	// Each account has a short queue of its own, so that a later one waits for its turn and memory stays bounded.
	queues := make([]chan *Prediction, len(c.accounts))
	for i := range queues {
		queues[i] = make(chan *Prediction, 4)
	}
	ahead := make(chan struct{}, jobs)
	next := make(chan int)
	errs := make([]error, len(c.accounts))
	var wg sync.WaitGroup
	for range jobs {
		wg.Go(func() {
			for i := range next {
				if errs[i] = c.Wait(ctx); errs[i] == nil {
					p := predictor{job: c.newJob(ctx, c.accounts[i]), o: &o, out: queues[i], now: &Prediction{}}
					errs[i] = p.run()
				}
				close(queues[i])
			}
		})
	}
	wg.Go(func() { inTurn(ctx, len(queues), ahead, next) })
	failed := drain(ctx, queues, errs, ahead, emit)
	cancel()
	wg.Wait()
	return failed
}

// drain hands on what the accounts have found, one account after the other.
func drain(ctx context.Context, queues []chan *Prediction, errs []error, ahead chan struct{}, emit func(*Prediction) error) error {
	for i := range queues {
		for open := true; open; {
			select {
			case p, ok := <-queues[i]:
				if open = ok; !ok {
					<-ahead
					if errs[i] != nil {
						return errs[i]
					}
				} else if err := emit(p); err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// predictor walks one account.
type predictor struct {
	*job
	o     *PredictOptions
	out   chan<- *Prediction
	now   *Prediction
	stack []where
	subs  [][]met // by depth: directories to enter
}

// where is a directory that the walk is in.
type where struct {
	state policy.State
	scope web.Scope
	site  *site // nil outside document roots
	url   string
}

// met is a directory between being met and being entered.
type met struct {
	id    inode
	meta  rightful.Meta
	state policy.State
}

func (p *predictor) run() error {
	p.stack = []where{{}}
	b := p.binding()
	var err error
	if p.bound, err = p.c.policies[p.a.Panel].Bind(b); err != nil {
		return err
	}
	for i, base := range b.Bases {
		if !slices.ContainsFunc(p.sites, func(s *site) bool { return p.wants(s) && s.docroot != "" && beneath(s.docroot, base) }) {
			continue
		}
		p.base = base
		open, err := p.openBase(base, i == 0)
		if err != nil {
			p.note(base, err.Error())
			continue
		}
		p.stack, p.subs = p.stack[:1], p.subs[:0]
		err = open.Walk(p.ctx, p, true)
		open.Close()
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	for _, s := range p.sites {
		switch {
		case !p.wants(s):
		case p.host(s) == nil:
			p.note(s.DocRoot, "it is not known how "+s.Name+" is served")
		default:
			for _, n := range s.served.Notes() {
				p.note(s.DocRoot, s.Name+": "+n)
			}
		}
	}
	p.now.Notes = p.r.Notes
	for _, f := range p.r.Findings { // of the document roots that cannot be judged
		note := Catalogue[f.Problem]
		if f.Note != "" {
			note += ": " + f.Note
		}
		p.now.Notes = append(p.now.Notes, Note{Account: f.Account, Path: f.Path, PathB64: f.PathB64, Note: note})
	}
	return p.flush()
}

func (p *predictor) wants(s *site) bool {
	return len(p.o.Sites) == 0 || slices.Contains(p.o.Sites, s.Name)
}

func (p *predictor) flush() error {
	select {
	case p.out <- p.now:
		p.now = &Prediction{}
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

// Entry implements tree.Visitor.
func (p *predictor) Entry(d *tree.Dir, e *tree.Entry) (bool, error) {
	m, err := e.Meta()
	if err != nil {
		p.Fail(e.Rel(), err)
		return false, nil
	}
	if d == nil {
		state, _ := p.bound.Base(p.base)
		p.subs = append(p.subs[:0], []met{{inode{e.Dev, e.Ino}, m, state}})
		return true, nil
	}
	at := &p.stack[d.Depth+1]
	state, rule := at.state.ChildBytes(e.Name, e.Kind)
	if e.Kind == rightful.KindDir {
		if at.site == nil && !p.leads(e.Path()) {
			return false, nil
		}
		for len(p.subs) <= d.Depth+1 {
			p.subs = append(p.subs, nil)
		}
		p.subs[d.Depth+1] = append(p.subs[d.Depth+1], met{inode{e.Dev, e.Ino}, m, state})
		return true, nil
	}
	if at.site == nil || !p.wants(at.site) || at.scope == nil {
		return false, nil
	}
	in, _ := p.looks(d)
	v := at.scope.File(e.Name, web.Node{Kind: e.Kind, Meta: m}, in)
	if v.Served() && v.Certain && !p.o.Wanted && v.Cause == web.CauseNone {
		p.now.Served++
		return false, nil
	}
	public := false
	if rule != nil {
		_, _, public = at.site.meant(e.Name, rule)
	}
	return false, p.add(at.site, URL{URL: at.url + string(e.Name), Path: e.Path(), Kind: e.Kind, Public: public, Verdict: v})
}

// leads reports whether a document root lies at or below a directory.
func (p *predictor) leads(dir string) bool {
	return slices.ContainsFunc(p.sites, func(s *site) bool { return s.docroot != "" && beneath(s.docroot, dir) })
}

// add hands on a verdict; the path of the URL is not encoded yet.
func (p *predictor) add(s *site, u URL) error {
	u.Account, u.Site, u.URL = p.a.Name, s.Name, (&url.URL{Path: u.URL}).EscapedPath()
	if p.a.Suspended {
		u.Verdict = web.Verdict{Cause: web.CauseUnknown, Why: suspended}
	}
	p.now.URLs = append(p.now.URLs, u)
	if len(p.now.URLs) >= batch {
		return p.flush()
	}
	return nil
}

// Enter implements tree.Visitor.
func (p *predictor) Enter(d *tree.Dir) error {
	i := slices.IndexFunc(p.subs[d.Depth], func(m met) bool { return m.id == inode{d.Stat.Dev, d.Stat.Ino} })
	if i < 0 {
		return &tree.Error{Op: "enter", Path: rightful.JoinPath(p.base, d.Rel()), Cause: tree.CauseChanged}
	}
	dir := p.subs[d.Depth][i]
	p.subs[d.Depth] = p.subs[d.Depth][i+1:] // they are entered in the order in which they were met
	if len(p.subs) > d.Depth+1 {
		p.subs[d.Depth+1] = p.subs[d.Depth+1][:0]
	}
	up, here := p.stack[d.Depth], where{}
	at := rightful.JoinPath(p.base, d.Rel())
	in, _ := p.looks(d)
	for _, s := range p.sites {
		if s.docroot == at {
			here = where{site: s, url: "/"}
			if host := p.host(s); host != nil {
				here.scope = host.Root(in)
			}
		}
	}
	if here.site == nil && up.site != nil {
		name := path.Base(at)
		here = where{site: up.site, url: up.url + name + "/"}
		if up.scope != nil {
			here.scope = up.scope.Dir(name, dir.meta, in)
		}
	}
	here.state = dir.state
	p.stack = append(p.stack[:d.Depth+1], here)
	if here.scope == nil || !p.wants(here.site) {
		return nil
	}
	v := here.scope.Index(in)
	if v.Served() && v.Certain && !p.o.Wanted {
		p.now.Served++
		return nil
	}
	return p.add(here.site, URL{URL: here.url, Path: at, Kind: rightful.KindDir, Public: true, Verdict: v})
}

// Leave implements tree.Visitor.
func (p *predictor) Leave(d *tree.Dir) error {
	p.stack = p.stack[:d.Depth+1]
	return nil
}

// Fail implements tree.Visitor.
func (p *predictor) Fail(rel string, err error) {
	if !tree.IsNotExist(err) {
		p.note(rightful.JoinPath(p.base, rel), strings.TrimSpace(err.Error()))
	}
}
