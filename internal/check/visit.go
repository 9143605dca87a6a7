package check

import (
	"path"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/policy"
	"rightful/internal/tree"
)

// opinion is what is thought of one entry.
type opinion struct {
	after   rightful.Meta // what it will be, if a plan is applied; as it is where nothing is to be done
	change  bool
	problem rightful.Problem // "" where it is right
	want    *rightful.Meta
	rule    *policy.Rule
	note    string
	accept  string
	open    bool // too open, whatever else
	// recalled is the recorded state that want is, or nil.
	recalled *recalled
}

// deviceNote is what is told of a device in an account.
const deviceNote = "never opened or changed: look at who made it, and remove it by hand"

func ruleName(r *policy.Rule) string {
	if r == nil {
		return ""
	}
	return r.String()
}

// judge says what is thought of an entry, by its rule, by what snapshots say of it, and by the laws. p is an absolute path.
func (j *job) judge(lv *level, p string, rule *policy.Rule, kind rightful.Kind, have rightful.Meta, immutable bool, id identity) opinion {
	if j.restoring() {
		return j.judgeRecorded(lv, p, rule, kind, have, immutable, id)
	}
	op := opinion{after: have, rule: rule}
	if kind == rightful.KindBlock || kind == rightful.KindChar {
		op.problem, op.rule, op.note = Device, nil, deviceNote
		return op
	}
	if rule == nil {
		return op
	}
	v := rule.Judge(have, kind, j.c.Exact)
	if v.OK {
		j.counter.of(rule).right++
		if !j.rebuilt() {
			return op
		}
		rc, ok := j.better(p, rule, kind, have, have, id)
		if !ok {
			return op
		}
		op.recalled, op.want = &rc, &rc.want
		op.problem, op.open = difference(have, rc.want, rc.want)
		return j.permit(lv, p, kind, have, immutable, op)
	}
	if v.Untidy {
		j.counter.of(rule).right++
	} else {
		j.counter.of(rule).wrong++
	}
	op.open = v.TooOpen
	switch {
	case v.Untidy:
		op.problem = NotCanonical
	case v.Owner:
		op.problem = WrongOwner
	case v.Group:
		op.problem = WrongGroup
	case v.TooOpen:
		op.problem = TooOpen
	case v.ACL:
		op.problem = WrongACL
	default:
		op.problem = TooClosed
	}
	want := v.Want
	op.want = &want
	op.note = v.Stuck
	if rc, ok := j.better(p, rule, kind, have, want, id); ok {
		op.recalled, op.want, op.note = &rc, &rc.want, ""
		want = rc.want
	} else if j.c.Truth != nil && j.c.Truth.Strict {
		op.want, op.note = nil, "no snapshot shows it as its rule accepts it"
		return op
	}
	// What harms somebody is no habit of the server's, whatever the rule's standing is.
	if name := rule.String(); j.c.Distrust[name] && !j.harms(lv, p, rule, kind, have) {
		op.problem, op.accept = RuleDisagrees, RiskRule+":"+name
		op.note = "most accounts of this server are like this: the rule may be wrong here"
		return op
	}
	if want.Equal(have) {
		op.want = nil
		return op
	}
	return j.permit(lv, p, kind, have, immutable, op)
}

// permit decides by the laws whether what is wanted of an entry is done, or left for a decision.
func (j *job) permit(lv *level, p string, kind rightful.Kind, have rightful.Meta, immutable bool, op opinion) opinion {
	if why := j.locked(p, have); why != "" && !j.c.accepted[Accept{RiskLocked, j.a.Name}] {
		if _, ok := j.way[p]; ok {
			op.problem = LockedByAdmin
		}
		op.note, op.accept = why, RiskLocked+":"+j.a.Name
		return op
	}
	if op.want.UID != have.UID && (op.recalled == nil || !op.recalled.proven) {
		if why, note, accept := j.mayGive(p, kind, have, lv.account); why != "" && !j.c.accepted[accept] {
			op.problem, op.note, op.accept = why, note, accept.String()
			return op
		}
	}
	if immutable {
		op.note = "immutable or append-only: to let it be repaired, chattr -i -a it first"
		return op
	}
	op.change, op.after = true, *op.want
	return op
}

// suspended is why nothing of a suspended account is changed: its panel may have closed any of it on purpose, and puts
// back what it closed by itself.
const suspended = "the account is suspended"

// locked says why an entry looks closed on purpose (law 9): a document root or home by what it is, everything of a
// suspended account. It is "" where nothing speaks for that.
func (j *job) locked(path string, have rightful.Meta) string {
	if j.a.Suspended {
		return suspended
	}
	if _, ok := j.way[path]; !ok {
		return ""
	}
	switch {
	case have.Mode&rightful.ModePerm == 0 && len(have.ACL) == 0:
		return "its mode is 000: somebody closed it to everybody"
	case have.UID == 0 && have.Mode&0o077 == 0:
		return "it is root's and open to root alone"
	}
	return ""
}

// mayGive decides whether ownership may be given to the account from the present owner (law 3). It returns the problem
// where it may not, and the risk that the operator could accept.
func (j *job) mayGive(path string, kind rightful.Kind, have rightful.Meta, accountMayPass bool) (rightful.Problem, string, Accept) {
	if have.UID == j.a.UID || j.c.webUIDs[have.UID] || have.UID == panelNobody {
		return "", "", Accept{}
	}
	if have.UID == 0 {
		need := uint8(4)
		if kind == rightful.KindDir {
			need = 5
		}
		readable := kind == rightful.KindSymlink || have.Allowed(j.id, need)
		if kind == rightful.KindDir && j.way[path] || accountMayPass && readable {
			return "", "", Accept{}
		}
		return RootOwnedUnproven, "the account cannot read it today; accepting would give it to " + j.a.Name, Accept{RiskRootOwned, j.a.Name}
	}
	name := j.c.World.Users.Name(have.UID)
	held, certain := j.c.holds(have.UID)
	if !held && certain {
		return "", "", Accept{}
	}
	note := "it belongs to " + name + "; accepting would give all that " + name + " owns in the checked accounts to the accounts it lies in"
	if !held {
		note = "uid " + name + " is not in passwd, but users may come from elsewhere too; " + note
	}
	return ForeignOwner, note, Accept{RiskForeignOwner, name}
}

// panelNobody is the uid that file systems show for owners they cannot name (the overflow uid).
const panelNobody = 65534

// Entry judges one entry. It implements tree.Visitor.
func (j *job) Entry(d *tree.Dir, e *tree.Entry) (bool, error) {
	j.r.Entries++
	if j.walked++; j.walked == 4096 {
		j.c.Walked(j.walked)
		j.walked = 0
		if err := j.ctx.Err(); err != nil {
			return false, err
		}
	}
	var lv *level
	var state policy.State
	var rule *policy.Rule
	if d == nil {
		j.levels = append(j.levels[:0], level{site: -1, account: true})
		lv = &j.levels[0]
		state, rule = j.bound.Base(j.base)
	} else {
		lv = &j.levels[d.Depth+1]
		state, rule = lv.state.ChildBytes(e.Name, e.Kind)
	}
	if j.excluded(e) {
		return false, nil
	}
	have, err := e.Meta()
	if err != nil {
		j.Fail(e.Rel(), err)
		return false, nil
	}
	if e.Kind == rightful.KindDir {
		return true, j.dir(lv, e, state, rule, have)
	}
	if j.backed && e.Kind == rightful.KindFile && !j.mine(&have, needFile) && !lv.lost {
		j.lacks(e, &have, needFile)
	}
	if e.Nlink > 1 {
		j.link(d, e, rule, have, lv)
		return false, nil
	}
	if rule == nil && !j.restoring() && e.Kind != rightful.KindBlock && e.Kind != rightful.KindChar {
		return false, nil
	}
	right := rule != nil && !j.restoring() && !j.rebuilt() && rule.Judge(have, e.Kind, j.c.Exact).OK
	if right || j.unchanged(e, &have) {
		// Nearly every entry ends here: what is right needs no path, and no more thought than who can read it.
		if rule == nil {
			return false, nil
		}
		j.counter.of(rule).right++
		if lv.site >= 0 {
			j.count(d, lv, e, rule, &have, &have)
		}
		return false, nil
	}
	op := j.judge(lv, e.Path(), rule, e.Kind, have, e.Immutable(), j.entryID(e))
	if op.problem == "" {
		if lv.site >= 0 && rule != nil {
			j.count(d, lv, e, rule, &have, &have)
		}
		return false, j.failed
	}
	f := j.finding(d, e, have, op, lv)
	j.find(f)
	j.move(j.extent(e), have.UID, op.after.UID)
	if c := j.newChange(e, have, op, f); c != nil {
		j.r.Changes = add(j.r.Changes, *c)
	}
	return false, nil
}

// excluded reports whether the operator wants an entry left alone, and says so once for each.
func (j *job) excluded(e *tree.Entry) bool {
	if len(j.c.Exclude) == 0 {
		return false
	}
	p := e.Path()
	pattern := j.excludes(p)
	if p == j.base { // what is above it is not walked
		for up := path.Dir(p); pattern == "" && up != "/"; up = path.Dir(up) {
			pattern = j.excludes(up)
		}
	}
	if pattern == "" {
		return false
	}
	j.note(p, "excluded by the configuration: "+pattern)
	j.blind(p)
	return true
}

// excludes gives the pattern that a path matches, or "".
func (j *job) excludes(p string) string {
	for _, pattern := range j.c.Exclude {
		if ok, _ := path.Match(pattern, p); ok {
			return pattern
		}
	}
	return ""
}

// finding makes a finding of an opinion, with its effect and the sites that it harms. A file in a document root is
// counted for its site on the way.
func (j *job) finding(d *tree.Dir, e *tree.Entry, have rightful.Meta, op opinion, lv *level) rightful.Finding {
	if op.change && (j.r.First == 0 || e.Ctime < j.r.First) {
		j.r.First = e.Ctime
	}
	blocks := e.Kind == rightful.KindFile && lv.site >= 0 && op.rule != nil && j.count(d, lv, e, op.rule, &have, &op.after)
	return j.grade(e.Path(), e.Kind, have, op, lv, blocks)
}

// grade makes a finding of an opinion, with its effect and the sites that it harms. blocks: as a file, it keeps whoever
// serves it from reading it.
func (j *job) grade(path string, kind rightful.Kind, have rightful.Meta, op opinion, lv *level, blocks bool) rightful.Finding {
	f := rightful.Finding{
		Path: path, Kind: kind, Problem: op.problem, Have: have, Rule: ruleName(op.rule),
		Effect: rightful.EffectWrong, Note: op.note, Accept: op.accept,
	}
	if op.recalled != nil {
		f.Source = op.recalled.source
	}
	if j.restoring() {
		f.Rule = ""
	}
	if op.change || op.accept != "" {
		f.Want = op.want
	}
	stranger := op.problem == ForeignOwner || op.problem == WrongOwner && have.UID != 0 && !j.c.webUIDs[have.UID]
	if stranger {
		stranger, _ = j.c.holds(have.UID)
	}
	switch {
	case op.problem == NotCanonical:
		f.Effect = rightful.EffectUntidy
	case op.open || stranger || op.problem == Device:
		f.Effect = rightful.EffectExposed
	}
	if kind == rightful.KindDir {
		if sites, front := j.shutOut(path, lv, have); len(sites) > 0 {
			f.Sites, f.Effect = sites, rightful.EffectBroken
			if front {
				f.Effect = rightful.EffectDown
			}
		} else if s := j.scriptsOf(path, lv); s != nil && j.stopsScripts(lv, path, have) {
			f.Sites, f.Effect = []string{s.Name}, rightful.EffectBroken
		}
	} else if blocks {
		s := j.sites[lv.site]
		f.Sites, f.Effect = []string{s.Name}, rightful.EffectBroken
		if path == s.now.page.Culprit {
			f.Effect = rightful.EffectDown
		}
		if dir, ok := strings.CutSuffix(path, "/.htaccess"); ok { // it closes the sites within this one too
			for _, inner := range j.through(dir) {
				if inner != s.Name {
					f.Sites = append(f.Sites, inner)
				}
			}
		}
	}
	if op.rule != nil && (len(f.Sites) > 0 || openToAll(kind, have)) {
		j.counter.of(op.rule).harm = true
	}
	return f
}

// newChange makes the change of an entry for the plan, or nil where there is none to make.
func (j *job) newChange(e *tree.Entry, have rightful.Meta, op opinion, f rightful.Finding) *rightful.Change {
	if !op.change || !j.c.Plan {
		return nil
	}
	c := &rightful.Change{
		Base: j.base, Rel: e.Rel(), Kind: e.Kind, ID: e.ID(), Links: e.Nlink, Before: have, After: op.after,
		Problem: f.Problem, Effect: f.Effect, Rule: f.Rule,
	}
	if f.Source != "" {
		c.Rule = strings.TrimPrefix(c.Rule+" snapshot:"+f.Source, " ")
	}
	if r := op.recalled; e.Kind == rightful.KindFile && r != nil && grants(have, op.after, j.c.World.Users.UIDMin) {
		c.Content = r.content // what is given must be what had it
		return c
	}
	const setID = rightful.ModeSetuid | rightful.ModeSetgid
	privileged := have.Mode&setID != 0 || len(have.Caps) > 0 || have.UID < j.c.World.Users.UIDMin
	if e.Kind != rightful.KindFile || !privileged || have.UID == op.after.UID && have.GID == op.after.GID {
		return c
	}
	n, err := e.Pin()
	if err == nil {
		defer n.Close()
		var content rightful.Content
		content, _, err = n.Content(j.ctx, false)
		switch {
		case err == nil:
			c.Content = &content
			return c
		case tree.Refused(err) == tree.CauseTooLarge:
			return c // without proof of its content it gets no privilege back
		}
	}
	j.Fail(e.Rel(), err)
	return nil
}

// grants reports whether a change gives a file a privilege: set-id bits, capabilities, or an owner of the system's.
func grants(before, after rightful.Meta, uidMin uint32) bool {
	const setID = rightful.ModeSetuid | rightful.ModeSetgid
	return after.Mode&setID != 0 || len(after.Caps) > 0 || after.UID < uidMin && after.UID != before.UID
}

// subdir is what is known of a directory between being met and being entered.
type subdir struct {
	id          inode
	level       level
	have, after rightful.Meta
}

// dir judges a directory, and works out who may pass through it, now and after the plan.
func (j *job) dir(lv *level, e *tree.Entry, state policy.State, rule *policy.Rule, have rightful.Meta) error {
	path := e.Path()
	op := j.judge(lv, path, rule, e.Kind, have, e.Immutable(), j.entryID(e))
	below := level{
		state: state, site: lv.site,
		account: lv.account && (have.Allowed(j.id, rightful.RightSearch) || j.way[path] && have.UID == 0),
		lost:    lv.lost || j.backed && !j.mine(&have, needDir) && j.lacks(e, &have, needDir),
	}
	if op.problem != "" {
		f := j.finding(nil, e, have, op, lv)
		j.find(f)
		j.move(j.extent(e), have.UID, op.after.UID)
		if c := j.newChange(e, have, op, f); c != nil {
			below.late = j.order(c)
		}
	}
	lv.subs = append(lv.subs, subdir{inode{e.Dev, e.Ino}, below, have, op.after})
	return nil
}

// order adds the change of a directory at its place, before everything beneath it, or returns what must wait until
// everything beneath it is done. A directory that lets somebody new in must wait; one that shuts somebody out must not;
// one that does both is first cut to what both states share.
func (j *job) order(c *rightful.Change) (late *rightful.Change) {
	if !rightful.Gains(c.Before, c.After, rightful.RightSearch) {
		j.r.Changes = add(j.r.Changes, *c)
		return nil
	}
	if j.c.shutsOut(c.Before, c.After) {
		if cut := cutOff(c); cut != nil {
			j.r.Changes = add(j.r.Changes, *cut)
		}
	}
	return c
}

// cutOff splits a change in two: the one it returns takes away what the state after does not give, and c does the rest. It
// is nil where there is nothing to take away.
func cutOff(c *rightful.Change) *rightful.Change {
	first := *c
	first.After = c.Before
	first.After.Mode = shared(c.Before, c.After)
	first.After.ACL = c.Before.ACL.WithMode(first.After.Mode)
	if first.After.Equal(c.Before) {
		return nil
	}
	c.Before = first.After
	return &first
}

// shared is the mode that leaves everybody, under the owner, group and ACL of before, no more than both states give: who is
// in one class before may be in another after, and is then held to that one too.
func shared(before, after rightful.Meta) rightful.Mode {
	class := func(m rightful.Meta) (u, g, o rightful.Mode) { return m.Mode >> 6 & 7, m.Mode >> 3 & 7, m.Mode & 7 }
	u, g, o := class(before)
	au, ag, ao := class(after)
	u, g, o = u&au, g&ag, o&ao
	if before.UID != after.UID {
		g, o = g&au, o&au
		if before.UID != 0 {
			u &= ag & ao
		}
	}
	if before.GID != after.GID {
		g, o = g&ao, o&ag
	}
	if !before.ACL.Equal(after.ACL) {
		g, o = 0, o&ag // named entries come and go: nobody but the owner and others is sure of anything
	}
	return before.Mode&^rightful.ModePerm | u<<6 | g<<3 | o
}

// shutOut lists the sites that a directory keeps the web server or PHP out of. front: it keeps them from the whole of a
// document root.
func (j *job) shutOut(path string, lv *level, have rightful.Meta) (sites []string, front bool) {
	ok := j.search(have)
	for i, s := range j.sites {
		if s.docroot == "" || ok.has(s.web) && ok.has(s.php) {
			continue
		}
		whole := beneath(s.docroot, path)
		if whole || i == lv.site {
			sites = append(sites, s.Name)
			front = front || whole
		}
	}
	return sites, front
}

// scriptsOf gives the site whose scripts suEXEC runs in a directory, or nil.
func (j *job) scriptsOf(path string, lv *level) *site {
	if lv.site < 0 || j.sites[lv.site].cgi < 0 {
		return nil
	}
	s := j.sites[lv.site]
	if !slices.ContainsFunc(s.scripts, func(dir string) bool { return beneath(path, dir) }) {
		return nil
	}
	return s
}

// Enter makes the level of a directory, and has the site's web server step into it; in a document root, it asks for the
// front page. It implements tree.Visitor.
func (j *job) Enter(d *tree.Dir) error {
	if j.restoring() {
		j.dirRel = d.Rel()
	}
	lv := &j.levels[d.Depth]
	// They are entered in the order in which they were met; those before this one were not entered.
	i := slices.IndexFunc(lv.subs, func(s subdir) bool { return s.id == inode{d.Stat.Dev, d.Stat.Ino} })
	if i < 0 {
		return &tree.Error{Op: "enter", Path: rightful.JoinPath(j.base, d.Rel()), Cause: tree.CauseChanged}
	}
	sub := lv.subs[i]
	lv.subs = lv.subs[i+1:]
	var root *site
	if len(j.sites) > 0 {
		path := rightful.JoinPath(j.base, d.Rel())
		for i, s := range j.sites {
			if s.docroot == path {
				sub.level.site, root = i, s
			}
		}
	}
	j.levels = append(j.levels[:d.Depth+1], sub.level)
	up, lv := &j.levels[d.Depth], &j.levels[d.Depth+1]
	in, then := j.looks(d)
	switch {
	case root != nil && j.host(root) != nil:
		root.seen = true
		lv.now, lv.planned = root.served.Root(in), root.served.Root(then)
		root.now.page, root.planned.page = lv.now.Index(in), lv.planned.Index(then)
		lv.same = lv.now.Same(lv.planned)
	case root == nil && up.now != nil:
		name := path.Base(d.Rel())
		lv.now = up.now.Dir(name, sub.have, in)
		lv.planned, lv.same = lv.now, up.same && sub.have.Equal(sub.after) && !d.HasPrefix(".ht")
		if !lv.same {
			lv.planned = up.planned.Dir(name, sub.after, then)
			lv.same = lv.now.Same(lv.planned)
		}
	}
	if lv.same {
		lv.planned = lv.now
	}
	return nil
}

// Leave adds the change of a directory that waited for what is beneath it. It implements tree.Visitor.
func (j *job) Leave(d *tree.Dir) error {
	if c := j.levels[d.Depth+1].late; c != nil {
		// Cut off just before, and nothing beneath to wait for: then it is one visit.
		if n := len(j.r.Changes) - 1; n >= 0 && j.r.Changes[n].ID.Same(c.ID) && j.r.Changes[n].After.Equal(c.Before) {
			c.Before = j.r.Changes[n].Before
			j.r.Changes = j.r.Changes[:n]
		}
		j.r.Changes = add(j.r.Changes, *c)
	}
	j.levels = j.levels[:d.Depth+1]
	return nil
}

// Fail records what could not be read. A mount is not a fault: what is behind it is simply not looked at (law 6).
func (j *job) Fail(rel string, err error) {
	path := rightful.JoinPath(j.base, rel)
	j.blind(path)
	if tree.Refused(err) == tree.CauseMount {
		j.note(path, "something is mounted here: not entered")
		return
	}
	if tree.IsNotExist(err) {
		return // it vanished while we looked: mail arrives and caches turn over all the time
	}
	j.find(rightful.Finding{Path: path, Problem: Unreadable, Effect: rightful.EffectWrong, Note: err.Error()})
}
