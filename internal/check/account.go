package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/panel"
	"rightful/internal/policy"
	"rightful/internal/tree"
	"rightful/internal/web"
)

// The problems, as findings name them. Catalogue explains each.
const (
	WrongOwner        rightful.Problem = "wrong-owner"
	WrongGroup        rightful.Problem = "wrong-group"
	TooOpen           rightful.Problem = "too-open"
	TooClosed         rightful.Problem = "too-closed"
	WrongACL          rightful.Problem = "wrong-acl"
	WrongCaps         rightful.Problem = "wrong-caps"
	NotCanonical      rightful.Problem = "not-canonical"
	ForeignOwner      rightful.Problem = "foreign-owner"
	RootOwnedUnproven rightful.Problem = "root-owned-unproven"
	ForeignLink       rightful.Problem = "foreign-link"
	LockedByAdmin     rightful.Problem = "locked-by-admin"
	RuleDisagrees     rightful.Problem = "rule-disagrees"
	Device            rightful.Problem = "device"
	Unreadable        rightful.Problem = "unreadable"
	HomeMissing       rightful.Problem = "home-missing"
	HomeUnsafe        rightful.Problem = "home-unsafe"
	ClosedAncestor    rightful.Problem = "closed-ancestor"
	ClosedToServer    rightful.Problem = "closed-to-server"
	DocrootMissing    rightful.Problem = "docroot-missing"
	DocrootOutside    rightful.Problem = "docroot-outside"
	VerdictDisagrees  rightful.Problem = "verdict-disagrees"
	OverQuota         rightful.Problem = "over-quota"
)

// Catalogue explains every problem in one line.
var Catalogue = map[rightful.Problem]string{
	WrongOwner:        "it belongs to somebody else than it should",
	WrongGroup:        "its group is not the one it should be",
	TooOpen:           "somebody has rights that they must not have",
	TooClosed:         "somebody lacks rights that they need",
	WrongACL:          "its ACL lacks an entry, or has one that it must not have",
	WrongCaps:         "its capabilities are not those that it had",
	NotCanonical:      "it is right, but not as the panel would make it",
	ForeignOwner:      "it belongs to another live account or service; giving it away could be a theft",
	RootOwnedUnproven: "it is root's own private file as far as can be told",
	ForeignLink:       "not all of its hard links lie in this account",
	LockedByAdmin:     "an administrator closed it on purpose",
	RuleDisagrees:     "a rule wants something else of it, but most of the server disagrees with that rule",
	Device:            "a device node in a customer's tree",
	Unreadable:        "it could not be read",
	HomeMissing:       "the home does not exist",
	HomeUnsafe:        "the way to the home, or the home itself, cannot be trusted",
	ClosedToServer:    "it keeps out whoever serves the site, though it is as its rule wants it",
	ClosedAncestor:    "a directory above all homes is closed to the web server",
	DocrootMissing:    "the document root does not exist",
	DocrootOutside:    "the document root leads out of the account",
	VerdictDisagrees:  "the web server's answer is not the one that was predicted",
	OverQuota:         "repairing its owners would put the account above its quota",
}

// site is one site of the account while it is judged.
type site struct {
	*rightful.Site
	docroot string   // links resolved; "" where it cannot be judged
	scripts []string // the directories of CGI scripts, links resolved
	chain   []tree.Component
	served  web.Host // made when somebody asks, see job.host
	asked   bool
	web     int // indexes of identities
	php     int
	cgi     int
	now     front
	planned front
	seen    bool   // the walk entered the document root
	first   string // the first file that is blocked
	samples []string
	blames  map[string]bool // what keeps files from visitors
	last    string          // the last of them
}

// front is what is known of a site in one of two states of the world.
type front struct {
	page    web.Verdict // on the front page
	blocked int
}

// job judges one account.
type job struct {
	c     *checker
	ctx   context.Context
	a     *panel.Account
	id    rightful.Identity // the account's own
	bound *policy.Bound
	// backup is how the panel's backups are made; backed: what the walk meets is to be in them, and may be missing.
	backup policy.Backup
	backed bool
	sites  []*site
	ids    []rightful.Identity // distinct identities that serve
	// way are the directories on the way to a document root, and the home. It is true for those that the panel itself
	// names; false where only a link of the account's leads there, which proves nothing.
	way   map[string]bool
	r     *Report
	base  string
	bases []string
	fs    rightful.FSID // of the base
	// records are what snapshots say of the account, nil where they say nothing. failed: one that is restored from could
	// not be read to its end.
	records *records
	dirRel  string // of the directory whose entries the walk is at
	failed  error
	levels  []level
	eyes    []*[2]look // by depth
	links   map[inode]*linked
	walked  int
	counter counter
	moved   map[quotaUser]moved
	hold    func(n int) // see checker.account
}

// mask has a bit for each identity of job.ids.
type mask uint64

// level is what is known of a directory that the walk is in. Level 0 is everything above the base.
type level struct {
	state policy.State
	site  int // of the innermost document root, or -1
	// now and planned are where the site's web server stands, today and after the plan; nil outside document roots. same:
	// they are the same.
	now, planned web.Scope
	same         bool
	account      bool // the account itself may pass, counting directories that the panel names
	lost         bool // the panel's backup does not come here
	late         *rightful.Change
	subs         []subdir
}

// newJob finds out all about an account that does not take a walk.
func (c *checker) newJob(ctx context.Context, a *panel.Account) *job {
	j := &job{
		c: c, ctx: ctx, a: a, r: &Report{Account: a}, way: map[string]bool{}, links: map[inode]*linked{}, hold: func(int) {},
		counter: counter{rules: map[*policy.Rule]*ruleCount{}}, moved: map[quotaUser]moved{},
		id: rightful.Identity{UID: a.UID, GIDs: c.World.Users.Groups(a.Name)},
	}
	if len(j.id.GIDs) == 0 {
		j.id.GIDs = []uint32{a.GID}
	}
	home := j.home()
	for i := range a.Sites {
		j.sites = append(j.sites, j.newSite(&a.Sites[i], home))
	}
	for _, s := range j.sites {
		for _, c := range s.chain {
			if c.Stat.Kind == rightful.KindDir && beneath(c.Path, home) {
				j.way[c.Path] = false
			}
		}
	}
	for _, d := range a.DirsNamed {
		if cs, err := c.Server.Trace(d); err == nil {
			if _, loose := looseLink(cs, home); loose {
				continue
			}
			j.way[cs[len(cs)-1].Path] = true
		}
	}
	return j
}

// binding is what the rules need to know of the account. The home comes first among the bases.
func (j *job) binding() policy.Binding {
	users := j.c.World.Users
	home := j.home()
	b := policy.Binding{
		Home: home, UID: j.a.UID, GID: j.a.GID, Web: j.c.World.Web, Facts: facts(j.c.World, j.a), GroupID: j.c.World.GroupID,
		UserID: func(name string) (uint32, bool) {
			u, ok := users.ByName(name)
			return u.UID, ok
		},
	}
	for _, n := range j.a.Nested {
		b.Nested = append(b.Nested, policy.Nested{Dir: home + strings.TrimPrefix(n.Dir, path.Clean(j.a.Home)), UID: n.UID, GID: n.GID})
	}
	var outer []string
	for _, s := range j.sites {
		b.Web = s.Web
		if s.docroot == "" {
			continue
		}
		b.DocRoots = append(b.DocRoots, s.docroot)
		b.CGIDirs = append(b.CGIDirs, s.scripts...)
		if !beneath(s.docroot, home) {
			outer = append(outer, outerBase(s.chain, s.docroot))
		}
	}
	slices.Sort(outer)
	b.Bases = append([]string{home}, slices.Compact(outer)...)
	return b
}

// Binding is what the rules need to know of an account, for those who look at rules without checking.
func Binding(s *tree.Server, w *panel.Server, a *panel.Account) policy.Binding {
	c := &checker{Options: Options{Server: s, World: w}}
	return c.newJob(context.Background(), a).binding()
}

// account checks one account. hold is told how many more findings and changes it holds, and returns when it may go on.
func (c *checker) account(ctx context.Context, a *panel.Account, hold func(n int)) (*Report, error) {
	j := c.newJob(ctx, a)
	j.hold = hold
	b := j.binding()
	var err error
	if j.bound, err = c.policies[a.Panel].Bind(b); err != nil {
		return nil, fmt.Errorf("bind rules for account %q: %w", a.Name, err)
	}
	if err := j.openRecords(); err != nil {
		return nil, err
	}
	defer j.closeRecords()
	j.bases = b.Bases
	j.backup = c.policies[a.Panel].Backup()
	for i, base := range b.Bases {
		if err := j.walk(base, i == 0); err != nil {
			return nil, err
		}
	}
	if err := cmp.Or(j.failed, j.missing()); err != nil {
		return nil, err
	}
	j.settleLinks()
	for _, s := range j.sites {
		j.unseen(s)
		now, planned := j.verdict(s)
		j.r.Now, j.r.Planned = append(j.r.Now, now), append(j.r.Planned, planned)
	}
	j.temper()
	j.unexplained()
	j.weigh()
	c.Walked(j.walked)
	j.r.rules = j.counter.rules
	return j.r, ctx.Err()
}

// unexplained adds a finding for each site that does not answer and that no finding harms: something that every rule
// accepts, such as an ACL entry that bars the web server by name, keeps it down. It is for a person to decide.
func (j *job) unexplained() {
	named := map[string]bool{}
	for i := range j.r.Findings {
		for _, s := range j.r.Findings[i].Sites {
			named[s] = true
		}
	}
	for i, v := range j.r.Now {
		if p := &j.sites[i].now.page; named[v.Site] || v.Culprit == "" || v.State == rightful.SiteDown && !p.Cause.Fault() || v.State != rightful.SiteDown && v.State != rightful.SiteBroken {
			continue
		}
		excluded := false
		for p := v.Culprit; !excluded && p != "/" && p != "."; p = path.Dir(p) {
			excluded = j.excludes(p) != ""
		}
		if excluded {
			continue
		}
		f := rightful.Finding{Path: v.Culprit, Problem: ClosedToServer, Effect: rightful.EffectBroken, Sites: []string{v.Site}, Note: v.Why}
		if v.State == rightful.SiteDown {
			f.Effect = rightful.EffectDown
		}
		if cs, err := j.c.Server.Trace(v.Culprit); err == nil {
			last := cs[len(cs)-1]
			f.Kind, f.Have = last.Stat.Kind, last.Meta
		}
		j.find(f)
	}
}

// unseen finds out how the front page of a site answers whose document root the walk did not enter: what is above it may
// decide all the same.
func (j *job) unseen(s *site) {
	if s.seen || s.docroot == "" {
		return
	}
	host := j.host(s)
	if host == nil {
		return
	}
	trace := j.c.Server.Trace
	s.now.page = above(host, trace)
	s.planned.page = above(host, func(p string) ([]tree.Component, error) {
		steps, err := trace(p)
		j.foresee(steps)
		return steps, err
	})
}

// above is the verdict on a front page as far as the way to the document root decides it.
func above(host web.Host, follow func(string) ([]tree.Component, error)) web.Verdict {
	in := wayOnly{follow: follow}
	return host.Root(in).Index(in)
}

// host is how a site is served; nil where nothing is known of that. Not everybody who asks about an account wants to know,
// and it takes a look at the whole configuration.
func (j *job) host(s *site) web.Host {
	if !s.asked {
		s.asked, s.served = true, j.c.World.Host(j.c.Server, j.a, s.Site)
	}
	return s.served
}

// resolvePath follows links as the server would, by stat only; a path that leads nowhere stays as it is.
func (j *job) resolvePath(p string) string {
	cs, err := j.c.Server.Trace(p)
	if err != nil || len(cs) == 0 {
		return path.Clean(p)
	}
	return cs[len(cs)-1].Path
}

// home is where the account's home really is. Where a link that is not the administrator's leads there, it stays as
// configured, and cannot be opened.
func (j *job) home() string {
	if cs, err := j.c.Server.Trace(j.a.Home); err == nil {
		if _, loose := looseLink(cs, ""); loose {
			return path.Clean(j.a.Home)
		}
	}
	return j.resolvePath(j.a.Home)
}

// beneath reports whether p is dir or lies below it, by whole names.
func beneath(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir) && p[len(dir)] == '/'
}

// outerBase is where a document root outside the home is walked from: the topmost directory on the way to it that is
// not root's, since everything above is trusted and everything from there on may be the account's.
func outerBase(chain []tree.Component, docroot string) string {
	for _, c := range chain {
		if c.Stat.Kind == rightful.KindDir && c.Stat.UID != 0 && beneath(docroot, c.Path) {
			return c.Path
		}
	}
	return docroot
}

// looseLink finds the first link on a resolved way that may be a customer's own, and so proves nothing about what belongs
// to whom: it is not root's, or lies in the home or anywhere below a directory that is not root's alone.
func looseLink(chain []tree.Component, home string) (at tree.Component, ok bool) {
	loose := false
	for _, c := range chain {
		switch c.Stat.Kind {
		case rightful.KindSymlink:
			if loose || c.Stat.UID != 0 || home != "" && beneath(c.Path, home) {
				return c, true
			}
		case rightful.KindDir:
			loose = loose || c.Stat.UID != 0 || c.Meta.Mode&0o022 != 0
		}
	}
	return at, false
}

// astray says why a document root is not the account's to have judged, with the entry to blame: a link that may be the
// account's own leads out of the home. What the panel names in another account's home, it has left out itself.
func (j *job) astray(chain []tree.Component, home string) (at tree.Component, why string) {
	last := chain[len(chain)-1]
	if beneath(last.Path, home) {
		return at, ""
	}
	if at, ok := looseLink(chain, home); ok {
		return at, "it leads to " + last.Path + ", which is not judged"
	}
	return at, ""
}

// newSite resolves the document root of a site and the identities that serve it.
func (j *job) newSite(rs *rightful.Site, home string) *site {
	s := &site{Site: rs, web: j.identity(rs.Web), php: -1, cgi: -1}
	if rs.PHP.Handler != "" && rs.PHP.Handler != "none" {
		s.php = j.identity(rs.PHP.Identity)
	}
	if len(rs.CGI) > 0 {
		s.cgi = j.identity(rs.CGIAs)
		for _, d := range rs.CGI {
			s.scripts = append(s.scripts, j.resolvePath(d))
		}
	}
	var err error
	s.chain, err = j.c.Server.Trace(rs.DocRoot)
	switch {
	case tree.IsNotExist(err):
		j.find(rightful.Finding{Path: rs.DocRoot, Kind: rightful.KindDir, Problem: DocrootMissing, Effect: rightful.EffectDown, Sites: []string{rs.Name}})
		s.none(rs.DocRoot, "the document root does not exist")
		return s
	case err != nil:
		j.find(rightful.Finding{Path: rs.DocRoot, Problem: Unreadable, Effect: rightful.EffectWrong, Sites: []string{rs.Name}, Note: err.Error()})
		return s
	}
	last := s.chain[len(s.chain)-1]
	if last.Stat.Kind != rightful.KindDir {
		j.find(rightful.Finding{Path: last.Path, Kind: last.Stat.Kind, Have: last.Meta, Problem: DocrootMissing, Effect: rightful.EffectDown, Sites: []string{rs.Name}, Note: "it is not a directory"})
		s.none(last.Path, "the document root is not a directory")
		return s
	}
	if at, why := j.astray(s.chain, home); why != "" {
		j.find(rightful.Finding{
			Path: at.Path, Kind: at.Stat.Kind, Problem: DocrootOutside, Have: at.Meta, Effect: rightful.EffectWrong, Sites: []string{rs.Name},
			Note: why,
		})
		return s
	}
	s.docroot = last.Path
	return s
}

// none says that there is no document root.
func (s *site) none(culprit, why string) {
	s.now.page = web.Verdict{Status: 404, Certain: true, Cause: web.CauseMissing, Culprit: culprit, Why: why}
	s.planned = s.now
}

// identity gives the index of an identity among those that serve the account.
func (j *job) identity(id rightful.Identity) int {
	for i, x := range j.ids {
		if x.UID == id.UID && slices.Equal(x.GIDs, id.GIDs) {
			return i
		}
	}
	if len(j.ids) == 64 {
		return 63 // far more than any account has; the mask has no more bits
	}
	j.ids = append(j.ids, id)
	return len(j.ids) - 1
}

// search gives who of the identities may pass through a directory. Root passes everywhere.
func (j *job) search(m rightful.Meta) mask {
	var out mask
	for i, id := range j.ids {
		if id.UID == 0 || m.Allowed(id, rightful.RightSearch) {
			out |= 1 << i
		}
	}
	return out
}

func (m mask) has(i int) bool { return i < 0 || m&(1<<i) != 0 }

// find records a finding.
func (j *job) find(f rightful.Finding) {
	f.Account = j.a.Name
	f.PathB64 = rightful.RawPath(f.Path)
	if j.a.Suspended && len(f.Sites) > 0 && !j.c.accepted[Accept{RiskLocked, j.a.Name}] {
		f.Effect, f.Sites = rightful.EffectWrong, nil // nobody was to reach them
	}
	if f.Sites == nil {
		f.Sites = []string{}
	}
	j.r.Findings = add(j.r.Findings, f)
	if n := len(j.r.Findings) + len(j.r.Changes); n >= j.r.held+holdEvery {
		n, j.r.held = n-j.r.held, n
		j.hold(n)
	}
}

// add is append with room for twice as many when there is none left: the values are large, and growing by less leaves
// several times as much garbage behind as is kept.
func add[T any](list []T, x T) []T {
	if len(list) == cap(list) {
		list = slices.Grow(list, max(16, len(list)))
	}
	return append(list, x)
}

func (j *job) note(path, text string) {
	j.r.Notes = append(j.r.Notes, Note{Account: j.a.Name, Path: path, PathB64: rightful.RawPath(path), Note: text})
}

// walk judges everything below one base.
func (j *job) walk(base string, home bool) error {
	j.base = base
	// Backups hold homes, and what a suspended account is closed to is closed on purpose.
	j.backed = home && j.backup.AsUser && !j.a.Suspended && !j.restoring()
	b, err := j.openBase(base, home)
	if err != nil {
		f := rightful.Finding{Path: base, Kind: rightful.KindDir, Problem: HomeUnsafe, Effect: rightful.EffectWrong, Sites: j.through(base), Note: err.Error()}
		if home {
			f.Path = j.a.Home
		}
		if tree.IsNotExist(err) {
			f.Problem = HomeMissing
			if len(f.Sites) > 0 {
				f.Effect = rightful.EffectDown
			}
		}
		if !home && f.Problem == HomeMissing {
			return nil // the document root was reported already
		}
		j.find(f)
		return nil
	}
	defer b.Close()
	j.r.Bases = append(j.r.Bases, base)
	j.fs = b.FS()
	j.lookAbove(base)
	err = b.Walk(j.ctx, j, true)
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return j.ctx.Err()
}

// openBase opens a base. The home is opened by the name that passwd gives it too, so that a link on the way to it that is
// not root's is refused. A link of root's may lead anywhere, by mistake, and what is there is not the account's for that.
func (j *job) openBase(base string, home bool) (*tree.Base, error) {
	if home {
		b, err := j.c.Server.OpenBase(j.a.Home)
		if err != nil {
			return nil, err
		}
		b.Close()
	}
	b, err := j.c.Server.OpenBase(base)
	if err != nil {
		return nil, err
	}
	why := ""
	if panel.SystemDir(base) && b.Stat().UID != j.a.UID {
		why = "a directory of the system or of many"
	} else if home && base != path.Clean(j.a.Home) {
		for i := range j.c.World.Accounts {
			if o := &j.c.World.Accounts[i]; o.Name != j.a.Name && panel.Within(base, path.Clean(o.Home)) {
				why = "in the home of " + o.Name
			}
		}
	}
	if why != "" {
		b.Close()
		return nil, fmt.Errorf("it leads to %q, which is %s", base, why)
	}
	return b, nil
}

// lookAbove finds out who may pass through the directories above a base, and reports those that shut out the web server.
func (j *job) lookAbove(base string) {
	above := ^mask(0)
	cs, err := j.c.Server.Trace(path.Dir(base))
	if err != nil {
		return
	}
	for _, c := range cs {
		if c.Stat.Kind != rightful.KindDir {
			continue
		}
		ok := j.search(c.Meta)
		if above&^ok == 0 {
			continue
		}
		var sites []string
		for _, s := range j.sites {
			if s.docroot != "" && beneath(s.docroot, base) && !ok.has(s.web) {
				sites = append(sites, s.Name)
			}
		}
		above &= ok
		if len(sites) > 0 {
			j.find(rightful.Finding{
				Path: c.Path, Kind: rightful.KindDir, Problem: ClosedAncestor, Have: c.Meta, Effect: rightful.EffectDown, Sites: sites,
				Note: "Rightful changes nothing above an account; if it is to be open: chmod a+x " + c.Path,
			})
		}
	}
}

// through lists the sites whose document root lies, or should, at or below a directory.
func (j *job) through(dir string) []string {
	sites := []string{}
	for _, s := range j.sites {
		if beneath(cmp.Or(s.docroot, path.Clean(s.DocRoot)), dir) {
			sites = append(sites, s.Name)
		}
	}
	return sites
}
