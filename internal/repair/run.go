package repair

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rightful"
	"rightful/internal/state"
	"rightful/internal/tree"
)

// A Verifier tells whether sites got better or worse. It is handed in, so that this package knows nothing of servers.
type Verifier interface {
	// Baseline remembers how all sites of these accounts answer before anything is changed, and gives it in a form
	// that Restore takes after a crash.
	Baseline(ctx context.Context, accounts []string) (json.RawMessage, error)
	Restore(json.RawMessage) error
	// Judge compares with the baseline, one Judgement for each account.
	Judge(ctx context.Context, accounts []string) ([]Judgement, error)
}

// A Judgement is how the sites of one account compare with before.
type Judgement struct {
	Account string
	// Sites. Uncured were predicted to be cured and are as before; Unverified are those of which requests prove nothing,
	// which are judged otherwise, so that they are among the others too.
	Cured, Uncured, Worse, Unverified []string
	Reason                            string // why it is worse
}

// Progress says how far a run has come.
type Progress struct {
	Stage, Stages int
	Total         int    // changes
	Doing         string // "changing", "verifying", "taking back"
}

// Options are the circumstances of a run.
type Options struct {
	Server *tree.Server
	// Verify judges each stage; nil means that entries are only read back.
	Verify Verifier
	// Canary is the account to change first; empty means the first whose site is predicted to be cured.
	Canary string
	// Jobs is how many accounts are changed at once; 0 means some more than there are processors.
	Jobs int
	// Exclude, if set, says of an entry why it is left alone, or "" where it is not. An entry that a crash left in doubt is
	// finished all the same.
	Exclude func(account, path string) string
	// Wait, if set, is called before each account and returns when it may begin.
	Wait func(context.Context) error
	// SystemUID is the lowest uid of people; those below are the system's. 0 means 1000.
	SystemUID uint32
	By        string
	Command   string
	Progress  func(Progress) // called when a stage begins, verifies or takes back; nil for nobody
	Changed   func(n int)    // called as changes are made; nil for nobody
	stepped   func()         // see applier
}

// A runner carries one run.
type runner struct {
	Options
	state  *State
	plan   *Plan
	out    *outcomeWriter
	header outcomeHeader
	prior  *outcome          // what an earlier attempt did, when resuming
	back   map[string]string // accounts whose take-back was cut short, and why they are taken back
	stages [][]int           // accounts, as indexes into the plan

	mu      sync.Mutex
	left    map[int]bool // accounts of which the configuration excludes something
	status  []status     // by change
	touched map[int]rightful.Meta
	run     rightful.Run
}

// Apply carries out a plan. The run it returns says how it ended even where err is set; err is set where it could not
// go on (a failed sync, a full disk) or was interrupted. The lock must be held.
func (s *State) Apply(ctx context.Context, p *Plan, o Options) (*rightful.Run, error) {
	kept, err := s.keep(p)
	if err != nil {
		return nil, err
	}
	if kept != p {
		defer kept.Close()
		p = kept
	}
	now := time.Now().UTC()
	h := outcomeHeader{
		Version: formatVersion, Run: state.NewID(now, s.runPath), Plan: p.ID, SHA256: p.SHA256, Verb: p.Verb, Undoes: p.Undoes,
		Changes: p.Changes, Started: now, By: o.By, Command: o.Command, Verified: o.Verify != nil,
	}
	r := newRunner(s, p, o, h)
	if err := r.chooseCanary(); err != nil {
		return nil, err
	}
	r.header.Canary = r.Canary
	if r.out, err = s.createOutcome(r.header); err != nil {
		return nil, err
	}
	defer r.out.close()
	if o.Verify != nil {
		base, err := o.Verify.Baseline(ctx, r.accounts())
		if err != nil {
			return r.finish(ctx, err)
		}
		if err := r.out.note(recBaseline, outcomeBaseline{Verifier: base}); err != nil {
			return r.finish(ctx, err)
		}
	}
	return r.finish(ctx, r.all(ctx))
}

// Resume finishes a run that was cut short. The lock must be held.
func (s *State) Resume(ctx context.Context, id string, o Options) (*rightful.Run, error) {
	if g, err := s.PendingGuard(id); err != nil {
		return nil, err
	} else if g != nil {
		return nil, fmt.Errorf("resume run %q: %w", id, ErrGuarded)
	}
	prior, err := s.readOutcome(id, nil)
	if err != nil {
		return nil, err
	}
	if prior.end != nil && prior.end.State != rightful.RunInterrupted && prior.end.State != rightful.RunFailed {
		return nil, fmt.Errorf("resume run %q: it ended %s: %w", id, prior.end.State, ErrNotCutShort)
	}
	if undone, err := s.undone(id); err != nil {
		return nil, err
	} else if undone {
		return nil, fmt.Errorf("resume run %q: %w", id, ErrUndone)
	}
	if len(prior.damage) > 0 && prior.Verified && prior.baseline == nil {
		return nil, fmt.Errorf("resume run %q: %s: %w", id, prior.damage[0], ErrNoBaseline)
	}
	p, err := s.planOf(prior)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	o.Canary = prior.Canary
	if !prior.Verified {
		o.Verify = nil // there is no state from before the first change to compare with
	}
	r := newRunner(s, p, o, prior.outcomeHeader)
	r.prior, r.back = prior, prior.halfTakenBack()
	copy(r.status, prior.status)
	for seq, m := range prior.observed {
		r.touched[seq] = m
	}
	if len(prior.damage) == 0 {
		r.run.Stages = slices.Clone(prior.stages)
	} // else every stage is made again: what is known to be made is passed over
	if r.out, err = s.appendOutcome(id, prior.until); err != nil {
		return nil, err
	}
	defer r.out.close()
	if err := r.out.note(recResume, struct {
		Time time.Time `json:"time"`
		By   string    `json:"by"`
	}{time.Now().UTC(), o.By}); err != nil {
		return nil, err
	}
	if o.Verify != nil && prior.baseline != nil {
		if err := o.Verify.Restore(prior.baseline); err != nil {
			return r.finish(ctx, err)
		}
	} else if o.Verify != nil {
		// Cut short before the baseline was on disk: then nothing was changed either.
		base, err := o.Verify.Baseline(ctx, r.accounts())
		if err == nil {
			err = r.out.note(recBaseline, outcomeBaseline{Verifier: base})
		}
		if err != nil {
			return r.finish(ctx, err)
		}
	}
	return r.finish(ctx, r.all(ctx))
}

// planOf opens the plan of a run and makes sure that it is the one that was applied.
func (s *State) planOf(o *outcome) (*Plan, error) {
	p, err := s.OpenPlan(o.Plan)
	if err != nil {
		return nil, err
	}
	if p.SHA256 != o.SHA256 || p.Changes != o.Changes {
		p.Close()
		return nil, fmt.Errorf("read plan %q: %w", o.Plan, ErrDamagedPlan)
	}
	return p, nil
}

func newRunner(s *State, p *Plan, o Options, h outcomeHeader) *runner {
	o.Jobs = jobs(o)
	if o.SystemUID == 0 {
		o.SystemUID = 1000
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.Wait == nil {
		o.Wait = func(context.Context) error { return nil }
	}
	if o.Exclude == nil {
		o.Exclude = func(string, string) string { return "" }
	}
	if o.Changed == nil {
		o.Changed = func(int) {}
	}
	return &runner{
		Options: o, state: s, plan: p, header: h,
		status: make([]status, p.Changes), touched: map[int]rightful.Meta{}, left: map[int]bool{},
		run: rightful.Run{
			ID: h.Run, Plan: h.Plan, Verb: h.Verb, Undoes: h.Undoes, Started: h.Started, By: h.By, Command: h.Command,
			Planned: h.Changes, Stages: []rightful.Stage{},
		},
	}
}

func jobs(o Options) int {
	if o.Jobs > 0 {
		return o.Jobs
	}
	return min(max(8, 2*runtime.NumCPU()), 32) // while one waits for its batch to be synced, others work
}

func (r *runner) accounts() []string {
	names := make([]string, len(r.plan.Accounts))
	for i := range r.plan.Accounts {
		names[i] = r.plan.Accounts[i].Account
	}
	return names
}

// chooseCanary makes the first stage: an account with a site that the plan should cure, because only that can prove
// anything. Where no account has one, the first account will do.
func (r *runner) chooseCanary() error {
	if r.Canary == "" {
		for i := range r.plan.Accounts {
			if a := &r.plan.Accounts[i]; a.Cures() && r.Exclude(a.Account, a.Home) == "" {
				r.Canary = r.plan.Accounts[i].Account
				break
			}
		}
		return nil
	}
	for i := range r.plan.Accounts {
		if a := &r.plan.Accounts[i]; a.Account == r.Canary {
			if r.Verify != nil && !a.Cures() && r.cures() {
				return fmt.Errorf("choose canary %q: %w", r.Canary, ErrPoorCanary)
			}
			return nil
		}
	}
	return fmt.Errorf("choose canary %q: %w", r.Canary, ErrNoCanary)
}

// The errors about a canary.
var (
	ErrNoCanary   = errors.New("the plan changes nothing in that account")
	ErrPoorCanary = errors.New("none of its sites is predicted to be cured, so it would prove nothing")
)

func (r *runner) cures() bool {
	return slices.ContainsFunc(r.plan.Accounts, func(a PlanAccount) bool { return a.Cures() })
}

// cut divides the accounts into stages that grow: the canary, 1 %, 10 %, all. Undo has one stage.
func (r *runner) cut() [][]int {
	n := len(r.plan.Accounts)
	order := make([]int, 0, n)
	for i := range r.plan.Accounts {
		if r.plan.Accounts[i].Account == r.Canary {
			order = slices.Insert(order, 0, i)
		} else {
			order = append(order, i)
		}
	}
	if !r.header.Verified {
		return [][]int{order}
	}
	var stages [][]int
	from := 0
	for _, to := range []int{1, (n + 99) / 100, (n + 9) / 10, n} {
		if to > from {
			stages = append(stages, order[from:to])
			from = to
		}
	}
	return stages
}

var errStopped = errors.New("stopped by verification")

// all carries out the stages that are not yet behind us.
func (r *runner) all(ctx context.Context) error {
	r.stages = r.cut()
	for i := len(r.run.Stages); i < len(r.stages); i++ {
		if err := r.stage(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) progress(stage int, doing string) {
	r.Progress(Progress{Stage: stage + 1, Stages: len(r.stages), Total: r.plan.Changes, Doing: doing})
}

// stage changes the accounts of one stage, verifies them, and takes back what got worse.
func (r *runner) stage(ctx context.Context, i int) error {
	st := rightful.Stage{Stage: i + 1, Accounts: []string{}, Cured: []string{}, Uncured: []string{}, Worse: []string{}, Unverified: []string{}, TakenBack: []string{}}
	for _, a := range r.stages[i] {
		st.Accounts = append(st.Accounts, r.plan.Accounts[a].Account)
	}
	// Without the header no other record means anything, so it is not left to one place of the disk.
	err := r.out.note(recHeader, r.header)
	if err == nil {
		err = r.out.note(recStage, st)
	}
	if err != nil {
		return err
	}
	r.progress(i, "changing")
	if err := r.parallel(ctx, r.stages[i], func(a int) error { return r.account(ctx, a) }); err != nil {
		return err
	}
	var js []Judgement
	if r.Verify != nil {
		r.progress(i, "verifying")
		if js, err = r.Verify.Judge(ctx, st.Accounts); err != nil {
			return err
		}
	}
	stop, err := r.judge(ctx, i, &st, js)
	if err != nil {
		return err
	}
	for _, a := range r.stages[i] {
		sp := r.plan.spans[a]
		for seq := sp.first; seq < sp.first+sp.n; seq++ {
			switch r.status[seq] {
			case stApplied:
				st.Changed++
			case stSkipped:
				st.Skipped++
			case stFailed:
				st.Failed++
			}
		}
	}
	if err := r.out.note(recVerdict, st); err != nil {
		return err
	}
	r.run.Stages = append(r.run.Stages, st)
	if err := r.out.sync(); err != nil {
		return err
	}
	return stop
}

// judge acts on what verification found: a worse account is taken back; the run stops if the canary got worse, was not
// cured, or too many accounts got worse.
func (r *runner) judge(ctx context.Context, i int, st *rightful.Stage, js []Judgement) (stop, err error) {
	var back []int
	var reason string
	for _, name := range st.Accounts { // a take-back that was cut short is finished whatever verification says now
		if r.back[name] != "" && !slices.ContainsFunc(js, func(j Judgement) bool { return j.Account == name }) {
			js = append(js, Judgement{Account: name})
		}
	}
	for _, j := range js {
		st.Cured = append(st.Cured, j.Cured...)
		st.Uncured = append(st.Uncured, j.Uncured...)
		st.Worse = append(st.Worse, j.Worse...)
		st.Unverified = append(st.Unverified, j.Unverified...)
		a := slices.IndexFunc(r.plan.Accounts, func(p PlanAccount) bool { return p.Account == j.Account })
		if a < 0 {
			continue
		}
		why := r.back[j.Account]
		switch {
		case why != "":
		case len(j.Worse) > 0:
			why = fmt.Sprintf("account %s got worse: %s", j.Account, j.Reason)
		case i == 0 && j.Account == r.Canary && r.plan.Accounts[a].Cures() && len(j.Cured) == 0 && !r.left[a]:
			why = fmt.Sprintf("the canary %s was not cured: %s", j.Account, orElse(j.Reason, "its sites answer as before"))
		}
		if why != "" {
			back = append(back, a)
			reason = why
			if err := r.out.note(recTakeBack, outcomeTakeBack{Account: j.Account, Reason: why}); err != nil {
				return nil, err
			}
			st.TakenBack = append(st.TakenBack, j.Account)
		}
	}
	if len(back) == 0 {
		return nil, nil
	}
	r.progress(i, "taking back")
	if err := r.parallel(ctx, back, func(a int) error { return r.takeBack(ctx, a) }); err != nil {
		return nil, err
	}
	if i == 0 || len(back) > max(1, len(st.Accounts)*2/100) {
		r.run.Reason = reason
		return errStopped, nil
	}
	return nil, nil
}

func orElse(s, d string) string {
	if s == "" {
		return d
	}
	return s
}

// parallel runs fn for some accounts at once and returns the first error, after all have come to rest.
func (r *runner) parallel(ctx context.Context, accounts []int, fn func(int) error) error {
	next := make(chan int)
	errs := make(chan error, r.Jobs)
	var failed atomic.Bool
	for range r.Jobs {
		go func() {
			var first error
			for a := range next {
				if first != nil || failed.Load() {
					continue
				}
				if first = fn(a); first != nil {
					failed.Store(true)
				}
			}
			errs <- first
		}()
	}
	for _, a := range accounts {
		next <- a
	}
	close(next)
	var first error
	for range r.Jobs {
		if err := <-errs; err != nil && (first == nil || errors.Is(first, context.Canceled)) {
			first = err
		}
	}
	if first == nil {
		first = ctx.Err()
	}
	return first
}

// batchSize is how many changes are announced at once. A sync of some milliseconds is then nothing beside the changes,
// and a crash leaves at most so many entries in doubt for each worker.
const batchSize = 512

// account makes the changes of one account, in order.
func (r *runner) account(ctx context.Context, a int) error {
	if err := r.Wait(ctx); err != nil {
		return err
	}
	ap := newApplier(r.Server, r.SystemUID, r.stepped)
	defer ap.close()
	if r.back[r.plan.Accounts[a].Account] != "" {
		return nil
	}
	b := batch{r: r, ap: ap, ctx: ctx, ph: applying}
	begun, err := r.repeated(a, func(seq int) bool { return r.prior.status[seq] == stBegun })
	if err != nil {
		return err
	}
	came, err := r.arrived(a, ap)
	if err != nil {
		return err
	}
	err = r.plan.Each(a, func(seq int, c *rightful.Change) error {
		t := target{Change: c, from: c.Before, to: c.After, content: c.Content, byHandle: r.plan.Verb == VerbUndo}
		excluded := r.Exclude(r.plan.Accounts[a].Account, c.Path())
		if excluded == "" && c.Exchange != nil {
			excluded = r.Exclude(r.plan.Accounts[a].Account, c.Exchange.With)
		}
		if excluded != "" {
			r.mu.Lock()
			r.left[a] = true
			r.mu.Unlock()
		}
		if in, rest, ok := came.of(seq, c); ok {
			moved := *c
			moved.Base = in.at + rest
			t.Change = &moved
		}
		if r.prior != nil {
			switch r.prior.status[seq] {
			case stNone:
			case stBegun:
				t.resuming = true
				for _, o := range begun[key(c.ID)] {
					if o.seq > seq {
						t.later = append(t.later, way{o.c.Before, o.c.After})
					}
				}
			case stAlready:
				ap.others[key(c.ID)] = true
				fallthrough
			default:
				r.Changed(1)
				return nil
			}
		}
		if excluded != "" && !t.resuming {
			return b.settle(seq, result{status: stSkipped, reason: excluded})
		}
		return b.add(seq, t)
	})
	if err != nil {
		return err
	}
	return b.flush()
}

// A numbered change.
type numbered struct {
	seq int
	c   *rightful.Change
}

// repeated finds the changes of one account that an earlier attempt may have been in the middle of, by entry: where an
// entry has several, it may be in a state of the second while the first is not known to be made.
func (r *runner) repeated(a int, begun func(seq int) bool) (map[string][]numbered, error) {
	if r.prior == nil {
		return nil, nil
	}
	m := map[string][]numbered{}
	err := r.plan.Each(a, func(seq int, c *rightful.Change) error {
		if begun(seq) && c.Exchange == nil {
			m[key(c.ID)] = append(m[key(c.ID)], numbered{seq, c})
		}
		return nil
	})
	return m, err
}

// arrived finds the trees that the plan brings in and that are in already: what it changes of them is looked for where they
// are now. So nothing is left to do when a plan is applied twice, and what a damaged record leaves in doubt is settled.
func (r *runner) arrived(a int, ap *applier) (in arrivals, err error) {
	if !r.plan.spans[a].exchanges {
		return nil, nil
	}
	err = r.plan.Each(a, func(seq int, c *rightful.Change) error {
		if c.Exchange == nil {
			return nil
		}
		p, err := ap.places(c)
		if err != nil {
			return nil // the exchange itself says why
		}
		defer p.close()
		if p.stand() == asAfter {
			in = append(in, arrival{seq: seq, from: c.Exchange.With, at: c.Path()})
		}
		return nil
	})
	return in, err
}

// takeBack undoes what the run did to one account, last change first.
func (r *runner) takeBack(ctx context.Context, a int) error {
	ap := newApplier(r.Server, r.SystemUID, r.stepped)
	defer ap.close()
	b := batch{r: r, ap: ap, ctx: context.WithoutCancel(ctx), ph: reverting}
	begun, err := r.repeated(a, func(seq int) bool { return r.prior.reverting[seq] })
	if err != nil {
		return err
	}
	var stay arrivals // they were not taken out again
	err = r.plan.EachBack(a, func(seq int, c *rightful.Change) error {
		r.mu.Lock()
		st := r.status[seq]
		obs, deviates := r.touched[seq]
		r.mu.Unlock()
		from := c.After
		switch {
		case st != stApplied && (st != stFailed || !deviates):
			return nil
		case deviates:
			from = obs
		}
		t := target{Change: c, from: from, to: c.Before, content: c.Content, byHandle: true, resuming: true, back: true}
		for _, o := range begun[key(c.ID)] {
			if o.seq < seq {
				t.later = append(t.later, way{o.c.After, o.c.Before})
			}
		}
		if _, _, ok := stay.of(seq, c); ok {
			return b.settle(seq, result{status: stSkipped, reason: reasonStays})
		}
		if err := b.add(seq, t); err != nil || c.Exchange == nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.status[seq] != stTakenBack {
			stay = append(stay, arrival{seq: seq, from: c.Exchange.With, at: c.Path()})
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.flush()
}

// A batch is announced and synced as a whole before the first of its changes is made.
type batch struct {
	r    *runner
	ap   *applier
	ctx  context.Context
	ph   phase
	seqs []int
	ts   []target
}

func (b *batch) add(seq int, t target) error {
	// What lies at a path is not the same before and after an exchange, so that every result before one is known when it
	// begins, and its own when it goes on.
	if t.Exchange != nil {
		if err := b.flush(); err != nil {
			return err
		}
	}
	b.seqs, b.ts = append(b.seqs, seq), append(b.ts, t)
	if len(b.seqs) < batchSize && t.Exchange == nil {
		return nil
	}
	return b.flush()
}

func (b *batch) flush() error {
	if len(b.seqs) == 0 {
		return nil
	}
	if err := b.ctx.Err(); err != nil {
		return err
	}
	r := b.r
	if err := r.out.begin(b.ph, b.seqs); err != nil {
		return err
	}
	for i := range b.ts {
		if err := b.ctx.Err(); err != nil {
			return b.leave(i, err)
		}
		res := b.ap.change(b.ctx, &b.ts[i])
		if b.ph == reverting && (res.status == stApplied || res.status == stAlready) {
			res.status = stTakenBack
		}
		if err := b.settle(b.seqs[i], res); err != nil {
			return err
		}
	}
	b.seqs, b.ts = b.seqs[:0], b.ts[:0]
	return nil
}

// settle takes down what became of one change.
func (b *batch) settle(seq int, res result) error {
	r := b.r
	r.mu.Lock()
	if b.ph == applying || res.status == stTakenBack {
		r.status[seq] = res.status
		delete(r.touched, seq)
		if res.observed != nil {
			r.touched[seq] = *res.observed
		}
	}
	r.mu.Unlock()
	if err := r.out.result(b.ph, seq, res); err != nil {
		return err
	}
	if b.ph == applying {
		r.Changed(1)
	}
	return nil
}

// leave notes that the changes from i on, though announced, were not made.
func (b *batch) leave(i int, cause error) error {
	if b.ph == applying {
		for _, seq := range b.seqs[i:] {
			if err := b.r.out.result(b.ph, seq, result{status: stNone}); err != nil {
				return err
			}
		}
	}
	return cause
}

// finish closes the outcome and tells how the run ended.
func (r *runner) finish(ctx context.Context, err error) (*rightful.Run, error) {
	run := &r.run
	run.State = rightful.RunDone
	for seq, st := range r.status {
		switch st {
		case stApplied:
			run.Changed++
			if _, ok := r.touched[seq]; ok {
				run.Otherwise++
			}
		case stBegun: // by the attempt before this one
			run.InDoubt++
		case stSkipped:
			run.Skipped++
		case stFailed:
			run.Failed++
		}
	}
	switch {
	case err == nil:
	case errors.Is(err, errStopped):
		run.State = rightful.RunStopped
		if run.Changed == 0 {
			run.State = rightful.RunTakenBack
		}
		err = nil
	case ctx.Err() != nil:
		run.State, run.Reason = rightful.RunInterrupted, "interrupted"
		err = ctx.Err()
	default:
		run.State, run.Reason = rightful.RunFailed, err.Error()
	}
	run.Ended = time.Now().UTC()
	werr := r.out.note(recEnd, outcomeEnd{State: run.State, Reason: run.Reason, Time: run.Ended})
	if werr == nil {
		werr = r.out.sync()
	}
	if err == nil && werr != nil {
		run.State, run.Reason = rightful.RunFailed, werr.Error()
		err = werr
	}
	return run, err
}
