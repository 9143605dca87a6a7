// Package check joins what is (tree), what should be (policy) and what the web server makes of it (web) into findings, the
// predicted state of every site, and the changes that a repair would make. It changes nothing.
//
// It knows the laws about giving: who may be given what from whom (law 3), hard links (4), privileges (5), what must not
// be touched at all (6), secrets and locks (8, 9); policy knows only what a path should be.
//
// It promises that the same tree gives the same findings and changes in the same order at any number of jobs; that a site
// is judged whether or not anybody visited it; that what could not be read is reported; and that each change comes in the
// order in which it must be made: a directory that lets somebody new in comes after everything beneath it, one that shuts
// somebody out comes before.
//
// It refuses to guess: an entry whose rightful owner cannot be proved is a finding without a change, with the --accept
// that would take the risk.
package check

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"rightful"
	"rightful/internal/panel"
	"rightful/internal/policy"
	"rightful/internal/snapshot"
	"rightful/internal/tree"
)

// Accept is a named risk that the operator takes: RISK:NAME, as --accept gives it.
type Accept struct{ Risk, Name string }

// The risks.
const (
	RiskRootOwned    = "root-owned"    // root's private files in this account are the account's
	RiskForeignOwner = "foreign-owner" // this user's files are the account's they lie in
	RiskLocked       = "locked"        // this account was not locked on purpose
	RiskRule         = "rule"          // this rule is right although most of the server disagrees with it
	RiskQuota        = "quota"         // this account may end above its quota
)

// ParseAccept reads RISK:NAME.
func ParseAccept(s string) (Accept, error) {
	risk, name, ok := strings.Cut(s, ":")
	switch {
	case !ok || name == "":
		return Accept{}, fmt.Errorf("risk %q is not RISK:NAME", s)
	case risk != RiskRootOwned && risk != RiskForeignOwner && risk != RiskLocked && risk != RiskRule && risk != RiskQuota:
		return Accept{}, fmt.Errorf("unknown risk %q: it must be %s, %s, %s, %s or %s", risk, RiskRootOwned, RiskForeignOwner, RiskLocked, RiskRule, RiskQuota)
	}
	return Accept{risk, name}, nil
}

// String is the form that ParseAccept reads.
func (a Accept) String() string { return a.Risk + ":" + a.Name }

// Options say what to check and how.
type Options struct {
	Server *tree.Server
	World  *panel.Server
	// Overrides are the operator's own rule files, or nil.
	Overrides fs.FS
	// Accounts are the names to check, all where empty. They must exist.
	Accounts []string
	// Exclude are absolute patterns of path.Match: what matches is not judged, nor anything beneath it.
	Exclude []string
	// Distrust names rules (FILE:NAME) that are not applied: their findings come without changes.
	Distrust map[string]bool
	// Exact asks for the canonical mode of everything.
	Exact  bool
	Accept []Accept
	// Truth is what snapshots say that entries were, or nil.
	Truth *Truth
	// Plan: the changes are wanted too, with the identity of each entry, and hashes where law 5 asks for them.
	Plan bool
	// Jobs is how many accounts are walked at once; 0 leaves it to [tree.Width].
	Jobs int
	// Wait, if set, is called before each account and returns when it may begin.
	Wait func(context.Context) error
	// Quota tells what a user takes and may take of the file system that a directory lies on; false where that is not
	// counted. Nil asks the kernel.
	Quota func(dir string, uid uint32) (tree.Quota, bool, error)
	// Walked is called now and then with how many entries were met since the last call.
	Walked func(n int)
}

// A Note is something that an operator should know and that is no fault of an entry.
type Note struct {
	Account string `json:"account"`
	Path    string `json:"path"`
	PathB64 []byte `json:"path_b64,omitempty"`
	Note    string `json:"note"`
}

// A Gap is what the panel's next backup of an account would lack, where the account's user makes it: whatever that user
// cannot read is left out, and nobody is told.
type Gap struct {
	Account string `json:"account"`
	// Unreadable counts files and directories. Of a directory that the user cannot list or enter, all that is beneath is
	// missing and not counted.
	Unreadable  int `json:"unreadable"`
	Directories int `json:"directories"`
	// Samples are the first few.
	Samples []GapSample `json:"samples"`
}

// A GapSample is one entry that a backup would lack.
type GapSample struct {
	Path    string        `json:"path"`
	PathB64 []byte        `json:"path_b64,omitempty"`
	Kind    rightful.Kind `json:"type"`
}

// A Report is all about one account.
type Report struct {
	Account  *panel.Account
	Bases    []string
	Findings []rightful.Finding
	Notes    []Note
	// Now and Planned are the predicted states of the account's sites, today and after Changes; one for each site, in
	// the same order.
	Now, Planned []rightful.Verdict
	Changes      []rightful.Change
	// Quota is what the changes move between users' quotas, by uid.
	Quota   []rightful.QuotaChange
	Entries int
	// First is when the first of the entries was changed that a change is planned for, in ns since 1970 by their times of
	// change; 0 where nothing is.
	First int64
	// Gap is what the panel's next backup would lack; nil where it would lack nothing, or where that is not known.
	Gap *Gap
	// New and Gone count, where a snapshot is restored, entries that came since and that are no more. Neither is touched;
	// Notes name some of them.
	New, Gone int
	// Lost are records of snapshots that could not be read, and so were not asked.
	Lost  []error
	rules map[*policy.Rule]*ruleCount
	held  int // what the room was told of it
}

// Worse lists the sites that the changes would make worse.
func (r *Report) Worse() []rightful.Verdict {
	var worse []rightful.Verdict
	for i, p := range r.Planned {
		n := r.Now[i]
		if p.State.Rank() > n.State.Rank() || p.State == n.State && p.Blocked > n.Blocked {
			worse = append(worse, p)
		}
	}
	return worse
}

// Run checks accounts and hands their reports to emit, one at a time, in the order of the accounts' names. An error is
// emit's, the context's, or a rule file's.
func Run(ctx context.Context, o Options, emit func(*Report) error) error {
	c, err := newChecker(o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	width := tree.NewWidth(ctx, o.Jobs)
	type slot struct {
		report *Report
		err    error
	}
	slots := make([]chan slot, len(c.accounts))
	for i := range slots {
		slots[i] = make(chan slot, 1)
	}
	// So many accounts may be under way or wait to be emitted, so that memory stays bounded.
	ahead := make(chan struct{}, width.Max()+2)
	room := newRoom()
	next := make(chan int)
	var wg sync.WaitGroup
	for range width.Max() {
		wg.Go(func() {
			for i := range next {
				var s slot
				if s.err = width.Enter(ctx); s.err == nil {
					if s.err = c.Wait(ctx); s.err == nil {
						s.report, s.err = c.account(ctx, c.accounts[i], func(n int) { room.hold(ctx, i, n) })
					}
					width.Leave()
				}
				slots[i] <- s
			}
		})
	}
	wg.Go(func() { inTurn(ctx, len(slots), ahead, next) })
	var failed error
	for i := range slots {
		select {
		case s := <-slots[i]:
			<-ahead
			if failed = s.err; failed == nil {
				failed = emit(s.report)
				room.leave(s.report.held)
			}
		case <-ctx.Done():
			failed = ctx.Err()
		}
		if failed != nil {
			break
		}
	}
	cancel()
	wg.Wait()
	return failed
}

// inTurn hands out the numbers below n in order, each when there is room for one more ahead, and then closes next.
func inTurn(ctx context.Context, n int, ahead chan<- struct{}, next chan<- int) {
	defer close(next)
	for i := range n {
		select {
		case ahead <- struct{}{}:
		case <-ctx.Done():
			return
		}
		select {
		case next <- i:
		case <-ctx.Done():
			return
		}
	}
}

// checker holds what all accounts share.
type checker struct {
	Options
	accounts []*panel.Account
	policies map[string]*policy.Policy
	accepted map[Accept]bool
	webUIDs  map[uint32]bool // who serves any site: their uploads may be given to the account they lie in
	mu       sync.Mutex
	held     map[uint32]holder
	holders  map[uint32][]rightful.Identity // by group; nil until somebody asks
	ids      map[*snapshot.Snapshot]renumbered
}

type holder struct{ held, certain bool }

func newChecker(o Options) (*checker, error) {
	c := &checker{Options: o, policies: map[string]*policy.Policy{}, accepted: map[Accept]bool{}, webUIDs: map[uint32]bool{}, held: map[uint32]holder{}, ids: map[*snapshot.Snapshot]renumbered{}}
	for _, a := range o.Accept {
		c.accepted[a] = true
	}
	if o.Walked == nil {
		c.Walked = func(int) {}
	}
	if o.Quota == nil {
		c.Quota = quotaOf(o.Server)
	}
	if o.Wait == nil {
		c.Wait = func(context.Context) error { return nil }
	}
	want := map[string]bool{}
	for _, n := range o.Accounts {
		want[n] = true
	}
	c.webUIDs[o.World.Web.UID] = true
	for i := range o.World.Accounts {
		a := &o.World.Accounts[i]
		for _, s := range a.Sites {
			c.webUIDs[s.Web.UID] = true
		}
		if len(want) > 0 && !want[a.Name] {
			continue
		}
		c.accounts = append(c.accounts, a)
		if c.policies[a.Panel] == nil {
			p, err := policy.Load(a.Panel, o.Overrides)
			if err != nil {
				return nil, err
			}
			c.policies[a.Panel] = p
		}
	}
	// With itk, ruid2 and the like the web server is the customer: then its uid proves nothing.
	for i := range o.World.Accounts {
		delete(c.webUIDs, o.World.Accounts[i].UID)
	}
	return c, nil
}

// holds reports whether some user has the uid, and whether that is certain.
func (c *checker) holds(uid uint32) (held, certain bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, ok := c.held[uid]
	if !ok {
		h.held, h.certain = c.World.Users.Held(uid)
		c.held[uid] = h
	}
	return h.held, h.certain
}

// facts gives the conditions that rules ask for in one account.
func facts(w *panel.Server, a *panel.Account) policy.Facts {
	f := policy.Facts{}
	for k, v := range w.Facts {
		f[k] = v
	}
	for k, v := range a.Facts {
		f[k] = v
	}
	dso, cgi, suexec, inGroup := false, false, false, len(a.Sites) > 0
	f["nginx"] = len(a.Sites) > 0
	for _, s := range a.Sites {
		f["nginx"] = f["nginx"] && s.Server == "nginx"
		inGroup = inGroup && s.Web.Has(a.GID)
		switch s.PHP.Handler {
		case "dso":
			dso = true
		case "itk", "ruid2", "suphp":
			f[s.PHP.Handler] = true
		}
		if len(s.CGI) > 0 {
			cgi = true
			suexec = suexec || s.CGIAs.UID == a.UID
		}
	}
	f["dso"] = dso
	if inGroup {
		f["web-in-group"] = true
	}
	if cgi {
		f["suexec"] = suexec
	}
	return f
}
