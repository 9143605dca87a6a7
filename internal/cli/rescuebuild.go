package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"rightful"
	"rightful/internal/archive"
	"rightful/internal/check"
	"rightful/internal/policy"
	"rightful/internal/repair"
	"rightful/internal/rescue"
	"rightful/internal/snapshot"
	"rightful/internal/term"
	"rightful/internal/tree"
)

// verbRescue is the verb of a plan that brings a rebuilt home in.
const verbRescue = "rescue"

// openRepair opens the plans and runs, without the lock.
func (x *rescuing) openRepair() (*repair.State, error) {
	st, err := repair.OpenState(x.a.cfg.State, x.c.s)
	if err != nil {
		return nil, fail(exitCannot, fmt.Errorf("%w; nothing was changed", err), "--state DIR")
	}
	return st, nil
}

// lockServer keeps everybody else from changing accounts.
func (x *rescuing) lockServer() (unlock func(), err error) {
	st, err := x.openRepair()
	if err != nil {
		return nil, err
	}
	return x.a.lock(st)
}

// rebuild fills the quarantine: each source that is not there yet, merged in the order of trust, and what is standard.
func (x *rescuing) rebuild(ctx context.Context) error {
	q, err := rescue.MakeQuarantine(x.c.s, x.r)
	if err != nil {
		return err
	}
	defer q.Close()
	if err := x.room(q); err != nil {
		return err
	}
	for i := range x.r.Sources {
		s := &x.r.Sources[i]
		if !s.Unpacked {
			if err := x.unpack(ctx, q, i+1, s); err != nil {
				return err
			}
			s.Unpacked = true
			if err := x.st.Save(x.r); err != nil {
				return err
			}
		}
		if !s.Merged {
			c, err := q.Merge(ctx, i+1)
			if err != nil {
				return err
			}
			s.Counts.Add(rescue.Counts{Kept: c.Kept, KeptBytes: c.KeptBytes, Rejects: c.Rejects, Rejected: c.Rejected})
			s.Merged = true
			if err := x.st.Save(x.r); err != nil {
				return err
			}
		}
	}
	made, err := x.furnish(ctx, q)
	if err != nil {
		return err
	}
	if err := q.Sync(); err != nil {
		return err
	}
	x.r.Furnished = append(x.r.Furnished, made...)
	x.r.Step = rescue.StepRebuilt
	return x.st.Save(x.r)
}

// muchRoom is more than there is anywhere: what sources claim to hold is not summed up beyond it.
const muchRoom = 1 << 60

// perEntry is what an entry takes on the disk besides its content, about.
const perEntry = 4 << 10

// room makes sure that what is not unpacked yet fits on the disk, and into the account's quota.
func (x *rescuing) room(q *rescue.Quarantine) error {
	var bytes, inodes int64
	for _, s := range x.r.Sources {
		if !s.Unpacked {
			bytes, inodes = min(bytes+min(s.Bytes, muchRoom)+s.Entries*perEntry, muchRoom), inodes+s.Entries
		}
	}
	freeBytes, freeInodes, err := q.Room()
	if err != nil {
		return err
	}
	if bytes > freeBytes {
		return fmt.Errorf("rebuild %q: it takes %s, and %s are free on its file system; the account was not changed", x.home, rightful.SizeText(bytes), rightful.SizeText(freeBytes))
	}
	if inodes > freeInodes {
		return fmt.Errorf("rebuild %q: it takes %d inodes, and %d are free on its file system; the account was not changed", x.home, inodes, freeInodes)
	}
	b, err := x.c.s.OpenBase(path.Dir(x.home))
	if err != nil {
		return err
	}
	defer b.Close()
	ask := b.Quota
	if quota := x.a.env.Quota; quota != nil {
		ask = func(uid uint32) (tree.Quota, bool, error) { return quota(path.Dir(x.home), uid) }
	}
	u, ok, err := ask(x.r.UID)
	if err != nil || !ok {
		return err
	}
	if u.HardBytes > 0 && u.Bytes+uint64(bytes) > u.HardBytes || u.HardInodes > 0 && u.Inodes+uint64(inodes) > u.HardInodes {
		return fail(exitCannot, fmt.Errorf("rebuild %q: with the old home still there it takes %s more than the %s that account %q has, and its quota is %s; the account was not changed",
			x.home, rightful.SizeText(bytes), rightful.SizeText(int64(u.Bytes)), x.acct.Name, rightful.SizeText(int64(u.HardBytes))),
			"setquota -u "+term.Shell(x.acct.Name)+" 0 0 0 0 "+term.Shell(path.Dir(x.home)))
	}
	return nil
}

// unpack brings one source into the quarantine.
func (x *rescuing) unpack(ctx context.Context, q *rescue.Quarantine, n int, s *rescue.Source) error {
	free, _, err := q.Room()
	if err != nil {
		return err
	}
	// A source may have grown a little since it was looked at, and directories on the way have no entry of their own.
	job := rescue.Job{
		Format: s.Format, Places: s.Places, MaxFile: free, MaxBytes: min(s.Bytes, muchRoom) + min(s.Bytes, muchRoom)/8 + 64<<20, MaxEntries: 2*s.Entries + 100_000,
	}
	p := x.a.begin(fmt.Sprintf("source %d of %d", n, len(x.r.Sources)), "bytes", s.Bytes)
	defer p.End()
	var last int64
	seen := func(c rescue.Counts) {
		p.Add(c.Bytes - last)
		last = c.Bytes
	}
	if s.Spec == specHome {
		x.r.Since = time.Now().UTC()
		s.Counts, err = x.copyRuin(ctx, q, n, job, seen)
		return err
	}
	src, err := x.open(ctx, s.Spec)
	if err != nil {
		return err
	}
	defer src.close()
	switch {
	case src.dir != nil && src.asUser:
		s.Counts, err = q.Copy(ctx, n, src.f, job, seen)
		return err
	case src.dir != nil:
		return x.unpackDir(ctx, q, n, s, src, job, seen)
	}
	s.Counts, err = q.Unpack(ctx, n, src.f, job, seen)
	if err != nil {
		if perr := src.failed(); perr != nil {
			err = perr
		}
		return fmt.Errorf("unpack %q: %w", s.Spec, err)
	}
	if err := src.end(); err != nil && s.Counts.Cut == "" {
		s.Counts.Cut = err.Error()
	}
	return nil
}

// copyRuin takes over what is left of the home, as far as the account can read it.
func (x *rescuing) copyRuin(ctx context.Context, q *rescue.Quarantine, n int, job rescue.Job, seen func(rescue.Counts)) (rescue.Counts, error) {
	b, err := x.c.s.OpenBase(x.home)
	if tree.IsNotExist(err) {
		return rescue.Counts{}, nil
	}
	if err != nil {
		return rescue.Counts{}, err
	}
	defer b.Close()
	f, err := b.File()
	if err != nil {
		return rescue.Counts{}, err
	}
	defer f.Close()
	job.Home = true
	return q.Copy(ctx, n, f, job, seen)
}

// unpackDir reads a directory that only root could have written, for the account that cannot read it.
func (x *rescuing) unpackDir(ctx context.Context, q *rescue.Quarantine, n int, s *rescue.Source, src *rescueSource, job rescue.Job, seen func(rescue.Counts)) error {
	o := archive.OpenDir(ctx, src.dir)
	defer o.Close()
	type broken struct {
		name string
		cut  bool
		err  error
	}
	var bad []broken
	pipe, err := piped(func(w io.Writer) error {
		return tarOf(o, w, func(name string, cut bool, err error) { bad = append(bad, broken{name, cut, err}) })
	})
	if err != nil {
		return err
	}
	defer pipe.close()
	job.Format = string(archive.Tar)
	if s.Counts, err = q.Unpack(ctx, n, pipe.f, job, seen); err != nil {
		return fmt.Errorf("unpack %q: %w", s.Spec, err)
	}
	if err := pipe.end(); err != nil {
		return fmt.Errorf("read %q: %w", s.Spec, err)
	}
	for _, b := range bad {
		rel, ok := s.Places.Rel(b.name)
		if !ok {
			continue
		}
		if b.cut {
			if err := q.Drop(ctx, n, rel); err != nil {
				return err
			}
		}
		s.Counts.Add(rescue.Counts{Rejects: 1, Rejected: []rescue.Rejected{{Path: rel, PathB64: rightful.RawPath(rel), Reason: b.err.Error()}}})
	}
	return nil
}

// furnish makes the standard folders and links that no source had.
func (x *rescuing) furnish(ctx context.Context, q *rescue.Quarantine) ([]string, error) {
	p, err := policy.Load(x.acct.Panel, x.c.opts.Overrides)
	if err != nil {
		return nil, err
	}
	docroots := subject(x.acct, "", "", nil).DocRoots
	// A snapshot tells which of them this account had; the document roots are needed whatever it says.
	had := x.truth.exists(x.home)
	var want []rescue.Furniture
	for _, e := range p.Skeleton(x.acct.Name, domainsOf(x.acct), docroots) {
		if had != nil && !had(e.Rel) && !slices.ContainsFunc(docroots, func(d string) bool { return d == e.Rel || strings.HasPrefix(d, e.Rel+"/") }) {
			continue
		}
		want = append(want, rescue.Furniture{Rel: []byte(e.Rel), Target: []byte(e.Target)})
	}
	c, err := q.Furnish(ctx, want)
	if err != nil {
		return nil, err
	}
	for _, r := range c.Rejected {
		x.a.warn("make %s: %s", term.Quote(r.Path), term.Line(r.Reason))
	}
	made := make([]string, len(c.Made))
	for i, rel := range c.Made {
		made[i] = string(rel)
	}
	return made, nil
}

// bringIn makes owners and modes of the rebuilt home right, and lets it change places with the old one.
func (x *rescuing) bringIn(ctx context.Context) (code int, err error) {
	a := x.a
	st, err := x.openRepair()
	if err != nil {
		return 0, err
	}
	unlock, err := a.lock(st)
	if err != nil {
		return 0, err
	}
	defer unlock()
	w := &writing{checking: x.c, st: st, named: []string{x.acct.Name}, unlock: unlock}
	a.tellPending(w)
	if run := x.cutRun(st); run != nil {
		return x.resumeRun(ctx, w, run)
	}
	q, err := rescue.MakeQuarantine(x.c.s, x.r)
	if err != nil {
		return 0, err
	}
	defer q.Close()
	id, err := x.plan(ctx, w, q)
	if err != nil {
		return 0, err
	}
	plan, err := st.OpenPlan(id)
	if err != nil {
		return 0, a.planError(err)
	}
	defer plan.Close()
	x.r.Plan = id
	if err := x.st.Save(x.r); err != nil {
		return 0, err
	}
	if err := a.alone(ctx, x.c, []string{x.acct.Name}, x.f.wait); err != nil {
		return 0, err
	}
	o, end := a.runOptions(x.c.s, x.c.ps.Users)
	if !x.f.keep {
		o.Verify = a.newVerifier(x.c.opts, plan)
	}
	run, err := st.Apply(ctx, plan, o)
	end()
	return x.ran(run, err)
}

// cutRun is the run that an earlier attempt was in the middle of.
func (x *rescuing) cutRun(st *repair.State) *rightful.Run {
	if x.r.Plan == "" {
		return nil
	}
	runs, err := st.Runs()
	if err != nil {
		x.a.warn("%v", err)
	}
	for i := range runs {
		if r := &runs[i]; r.Plan == x.r.Plan && !r.Undone && (r.State == rightful.RunInterrupted || r.State == rightful.RunFailed || r.State == rightful.RunDone) {
			return r
		}
	}
	return nil
}

// resumeRun finishes the run of an earlier attempt.
func (x *rescuing) resumeRun(ctx context.Context, w *writing, run *rightful.Run) (int, error) {
	if run.State == rightful.RunDone {
		return x.ran(run, nil)
	}
	plan, err := w.st.OpenPlan(run.Plan)
	if err != nil {
		return 0, x.a.planError(err)
	}
	defer plan.Close()
	o, end := x.a.runOptions(x.c.s, x.c.ps.Users)
	o.Verify = x.a.newVerifier(x.c.opts, plan)
	run, err = w.st.Resume(ctx, run.ID, o)
	end()
	return x.ran(run, err)
}

// ran takes down how the run ended.
func (x *rescuing) ran(run *rightful.Run, err error) (int, error) {
	if run == nil {
		return 0, err
	}
	code, err := x.a.reported(run, x.c.s.Live(), err)
	if err != nil {
		return 0, err
	}
	in, err := x.inPlace()
	if err != nil {
		return 0, err
	}
	if in {
		x.r.Step, x.r.Run = rescue.StepSwitched, run.ID
	} else {
		x.r.Plan, code = "", max(code, exitFindings)
	}
	return code, x.st.Save(x.r)
}

// inPlace reports whether the rebuilt home stands in its place: what the live tree says, whatever was recorded.
func (x *rescuing) inPlace() (in bool, err error) {
	if x.r.Plan == "" {
		return false, nil
	}
	st, err := x.openRepair()
	if err != nil {
		return false, err
	}
	plan, err := st.OpenPlan(x.r.Plan)
	if err != nil {
		return false, x.a.planError(err)
	}
	defer plan.Close()
	now, err := rescue.Standing(x.c.s, x.home)
	if err != nil {
		return false, err
	}
	err = plan.Each(0, func(_ int, c *rightful.Change) error {
		in = in || c.Exchange != nil && c.Exchange.ID.Same(now)
		return nil
	})
	return in, err
}

// plan checks the rebuilt home as it will stand in its place, and writes the plan: what must change below the quarantine,
// and the exchange.
func (x *rescuing) plan(ctx context.Context, w *writing, q *rescue.Quarantine) (id string, err error) {
	a := x.a
	now, err := x.look(ctx, x.c.opts)
	if err != nil {
		return "", err
	}
	g, err := q.Graft(x.home)
	if err != nil {
		return "", err
	}
	defer g.Close()
	c := &checking{s: g}
	if err := a.fillChecking(c, []string{x.acct.Name}, checkFlags{truth: truthPolicy}); err != nil {
		return "", err
	}
	c.opts.Plan = true
	if sn := x.truth.snapshot; sn != nil {
		c.opts.Truth = &check.Truth{Store: x.truth.store, Snapshots: []*snapshot.Snapshot{sn}, Rebuilt: true}
	}
	then, err := x.look(ctx, c.opts)
	if err != nil {
		return "", err
	}
	before, after := pair(now.Now, then.Planned)
	if !x.f.keep {
		for i := range after {
			if after[i].State.Rank() > before[i].State.Rank() {
				return "", fail(exitCannot, fmt.Errorf("plan: site %q would get worse (%s); the account was not changed", after[i].Site, after[i].Why),
					a.again("rescue", x.acct.Name, "--resume", "--keep"))
			}
		}
	}
	p, err := w.st.NewPlan(repair.PlanHeader{Verb: verbRescue, By: a.by(), Command: a.commandLine(), Named: w.named})
	if err != nil {
		return "", err
	}
	err = p.Account(repair.PlanAccount{
		Account: x.acct.Name, UID: x.acct.UID, Home: x.acct.Home, Bases: []string{q.HomePath()}, Before: before, After: after,
	})
	for i := range then.Changes {
		ch := &then.Changes[i]
		if rel, ok := below(ch.Base, x.home, x.acct.Home); ok && err == nil {
			ch.Base = rightful.JoinPath(q.HomePath(), rel)
			err = p.Change(ch)
		}
	}
	if err == nil {
		var sw *rightful.Change
		if sw, err = q.Switch(x.home); err == nil {
			err = p.Change(sw)
		}
	}
	if err != nil {
		p.Discard()
		return "", err
	}
	return p.ID(), p.Commit()
}

// below gives where a base lies below one of the names of a home.
func below(base string, homes ...string) (rel string, ok bool) {
	for _, h := range homes {
		if base == h {
			return "", true
		}
		if rel, ok := strings.CutPrefix(base, h+"/"); ok {
			return rel, true
		}
	}
	return "", false
}

// look checks the account.
func (x *rescuing) look(ctx context.Context, o check.Options) (*check.Report, error) {
	o.Accounts = []string{x.acct.Name}
	p := x.a.begin("checking", "entries", 0)
	defer p.End()
	o.Walked = func(n int) { p.Add(int64(n)) }
	var out *check.Report
	err := check.Run(ctx, o, func(r *check.Report) error { out = r; return nil })
	if err == nil && out == nil {
		err = errors.New("check: no report")
	}
	if err != nil {
		return nil, x.a.runError(ctx, err)
	}
	return out, nil
}

// pair matches the verdicts of two checks by site. A site that only the second knows was down before.
func pair(before, after []rightful.Verdict) (b, a []rightful.Verdict) {
	for _, v := range after {
		i := slices.IndexFunc(before, func(o rightful.Verdict) bool { return o.Site == v.Site })
		was := rightful.Verdict{Account: v.Account, Site: v.Site, State: rightful.SiteDown}
		if i >= 0 {
			was = before[i]
		}
		b, a = append(b, was), append(a, v)
	}
	return b, a
}
