package policy

import (
	"slices"

	"rightful"
)

// A Judgement is what a rule says about one entry.
type Judgement struct {
	// OK means that nothing is to be done; Want is then what the entry has.
	OK bool
	// Want is what a repair would make of the entry.
	Want rightful.Meta
	// Owner, Group, TooOpen, TooClosed and ACL say in which respects the entry misses the alternative that a repair
	// goes to. All are false where OK is, or Untidy.
	Owner, Group, TooOpen, TooClosed, ACL bool
	// Untidy means that the entry is right and only its mode is not canonical; it is never set unless asked for.
	Untidy bool
	// Alternative is the place in the rule's accept list, from 0, of the one satisfied, or else of the repair's.
	Alternative int
	// Stuck says why Want is still not right: what is missing would let somebody else in. Empty where Want is right.
	Stuck string
}

// Judge compares an entry with the rule. With exact an entry that is right but whose mode is not the canonical one is
// not OK; set-id bits, sticky bits, exec bits of files, and entries with an ACL are left as they are even so, and
// nothing but a rule that is public gains a bit for group or other.
func (r *Rule) Judge(have rightful.Meta, kind rightful.Kind, exact bool) Judgement {
	have = plainACL(have)
	for i := range r.alts {
		a := &r.alts[i]
		if !a.misses(&have, kind).none() {
			continue
		}
		j := Judgement{OK: true, Want: have, Alternative: a.index}
		if exact {
			r.tidy(a, &j.Want, kind)
			j.Untidy = j.Want.Mode != have.Mode
			j.OK = !j.Untidy
		}
		return j
	}
	a, m := r.goal(&have, kind)
	j := Judgement{
		Owner: m.owner, Group: m.group, TooOpen: m.open != 0, TooClosed: m.closed != 0, ACL: m.acl, Alternative: a.index,
	}
	j.Want, j.Stuck = r.repair(a, have, kind, m)
	if exact && j.Stuck == "" {
		r.tidy(a, &j.Want, kind)
	}
	return j
}

// tidy gives the canonical mode to what satisfies an alternative.
func (r *Rule) tidy(a *resolved, m *rightful.Meta, kind rightful.Kind) {
	if a.hasMode && kind != rightful.KindSymlink && m.ACL == nil {
		m.Mode = r.canonical(a, m.Mode, kind)
	}
}

// goal is the alternative that a repair goes to: the first, except that where that one would open something to all and a
// later one, for the same owner, asks for no more than another group, the group is the smaller change. So a directory
// that lost the web server's group gets that back instead of being opened to everybody.
func (r *Rule) goal(have *rightful.Meta, kind rightful.Kind) (*resolved, miss) {
	first := &r.alts[0]
	m := first.misses(have, kind)
	if !r.Public || m.closed&0o007 == 0 || kind == rightful.KindSymlink {
		return first, m
	}
	for i := range r.alts[1:] {
		a := &r.alts[1+i]
		n := a.misses(have, kind)
		sameOwner := !n.owner || first.owners != nil && a.owners[0] == first.owners[0]
		if n.group && sameOwner && n.open == 0 && n.closed == 0 && !n.acl {
			return a, n
		}
	}
	return first, m
}

// plainACL drops an ACL that says no more than the mode, which an entry should not carry.
func plainACL(m rightful.Meta) rightful.Meta {
	if m.ACL.Minimal() {
		m.ACL = nil
	}
	return m
}

func (r *Rule) canonical(a *resolved, have rightful.Mode, kind rightful.Kind) rightful.Mode {
	keep := rightful.ModeAll &^ rightful.ModePerm
	if kind != rightful.KindDir {
		keep |= 0o111
	}
	want := have&keep | a.mode&^keep
	if !r.Public {
		want &= have | 0o700
	}
	// need and deny hold for have, and must go on to.
	return (want | have&a.need) &^ a.deny
}

// miss is how an entry fails an alternative.
type miss struct {
	owner, group, acl bool
	open, closed      rightful.Mode // bits to clear and to set, the group's on effective rights
}

func (m miss) none() bool { return m == miss{} }

func (a *resolved) misses(have *rightful.Meta, kind rightful.Kind) miss {
	var m miss
	m.owner = a.owners != nil && !slices.Contains(a.owners, have.UID)
	m.group = a.groups != nil && !slices.Contains(a.groups, have.GID)
	if kind == rightful.KindSymlink {
		return m
	}
	eff := have.Mode
	if have.ACL != nil {
		g, mask := groupPerm(have)
		eff = eff&^0o070 | rightful.Mode(g&mask)<<3
	}
	m.open = eff & a.deny
	m.closed = a.need &^ eff
	for i := range a.acl {
		if !a.acl[i].met(have) {
			m.acl = true
		}
	}
	return m
}

// groupPerm gives what the ACL says for the owning group, and its mask. The mode holds the mask.
func groupPerm(m *rightful.Meta) (group, mask uint8) {
	mask = uint8(m.Mode >> 3 & 7)
	e, ok := m.ACL.Find(rightful.ACLGroupObj, 0)
	if !ok {
		return mask, mask
	}
	return e.Perm, mask
}

func named(e rightful.ACLEntry) bool { return e.Tag == rightful.ACLUser || e.Tag == rightful.ACLGroup }

func (d *aclDemand) met(m *rightful.Meta) bool {
	if m.ACL == nil {
		return !d.want
	}
	_, mask := groupPerm(m)
	switch {
	case d.all:
		return !slices.ContainsFunc(m.ACL, func(e rightful.ACLEntry) bool {
			return named(e) && (d.perm == 7 || e.Perm&mask&d.perm != 0)
		})
	case d.want:
		e, ok := m.ACL.Find(d.tag, d.id)
		return ok && e.Perm&mask&d.perm == d.perm
	}
	_, ok := m.ACL.Find(d.tag, d.id)
	return !ok
}

// repair makes the smallest change that satisfies the alternative.
func (r *Rule) repair(a *resolved, have rightful.Meta, kind rightful.Kind, m miss) (want rightful.Meta, stuck string) {
	want = have
	if m.owner {
		want.UID = a.owners[0]
	}
	if m.group {
		want.GID = a.groups[0]
	}
	if kind == rightful.KindSymlink {
		return want, ""
	}
	if kind != rightful.KindDir && (m.owner || m.group) {
		// A privilege does not survive being given to somebody; the kernel drops these at any change of either.
		want.Mode &^= rightful.ModeSetuid | rightful.ModeSetgid
		want.Caps = nil
	}
	if have.ACL == nil && !m.acl {
		want.Mode = (want.Mode | a.need) &^ a.deny
		r.keepClosed(a, &have, &want, kind)
		return want, ""
	}
	stuck = r.repairACL(a, &have, &want, kind)
	return want, stuck
}

// keepClosed takes back what a change of group would give the web server on a file that is not public by nature.
func (r *Rule) keepClosed(a *resolved, have, want *rightful.Meta, kind rightful.Kind) {
	if r.Public || kind == rightful.KindDir || have.GID == want.GID && have.UID == want.UID {
		return
	}
	gained := rightful.Mode(want.Granted(r.web) &^ have.Granted(r.web) & 6)
	if gained == 0 || want.UID == r.web.UID {
		return
	}
	if !r.web.Has(want.GID) {
		want.Mode &^= gained &^ a.need
		return
	}
	gained = gained << 3 &^ a.need
	if want.ACL == nil {
		want.Mode &^= gained
		return
	}
	g, _ := groupPerm(want)
	want.ACL = want.ACL.Set(rightful.ACLGroupObj, 0, g&^uint8(gained>>3))
}

func (r *Rule) repairACL(a *resolved, have, want *rightful.Meta, kind rightful.Kind) (stuck string) {
	acl := slices.Clone(have.ACL)
	group, mask := groupPerm(have)
	if acl == nil {
		group = mask
		acl = rightful.ACL{
			{Tag: rightful.ACLUserObj}, {Tag: rightful.ACLGroupObj, Perm: group}, {Tag: rightful.ACLOther},
		}
	}
	// What must not be there goes first: it also frees the mask.
	for i := range a.acl {
		d := &a.acl[i]
		switch {
		case d.want:
		case d.all && d.perm == 7:
			acl = slices.DeleteFunc(acl, named)
		case d.all:
			for k := range acl {
				if named(acl[k]) && acl[k].Perm&mask&d.perm != 0 {
					acl[k].Perm &^= d.perm
				}
			}
		default:
			acl = slices.DeleteFunc(acl, func(e rightful.ACLEntry) bool { return e.Tag == d.tag && e.ID == d.id })
		}
	}
	before := slices.Clone(acl)
	oldMask := mask
	var widen uint8
	meant := map[rightful.ACLEntry]uint8{} // the bits that a named entry is meant to gain
	for i := range a.acl {
		d := &a.acl[i]
		if !d.want {
			continue
		}
		e, _ := acl.Find(d.tag, d.id)
		// What the old mask hid of this entry stays hidden.
		acl = acl.Set(d.tag, d.id, e.Perm&mask|d.perm)
		meant[rightful.ACLEntry{Tag: d.tag, ID: d.id}] |= d.perm
		widen |= d.perm
	}
	need, deny := uint8(a.need>>3&7), uint8(a.deny>>3&7)
	lacking := need &^ (group & mask)
	newGroup := group&^deny | need
	widen |= lacking
	for _, e := range acl {
		if named(e) && e.Perm&(mask|widen)&^(e.Perm&mask)&^meant[rightful.ACLEntry{Tag: e.Tag, ID: e.ID}] != 0 {
			stuck = "the ACL's mask hides rights of a named user or group, and widening it would give them back"
		}
	}
	if newGroup&(mask|widen)&^(group&mask)&^need != 0 {
		// The mask hides rights of the owning group too; they are not needed, so they stay away.
		newGroup = newGroup&mask | need
	}
	if stuck != "" {
		acl, mask = before, oldMask
		newGroup = group &^ deny
	} else {
		mask |= widen
	}
	want.Mode = (want.Mode|a.need&^0o070)&^(a.deny&^0o070)&^0o070 | rightful.Mode(mask)<<3
	if !slices.ContainsFunc(acl, named) {
		// Without named entries the mask has nobody left to bind.
		want.ACL = nil
		want.Mode = want.Mode&^0o070 | rightful.Mode(newGroup&mask)<<3
		r.keepClosed(a, have, want, kind)
		return stuck
	}
	acl = acl.Set(rightful.ACLGroupObj, 0, newGroup)
	acl = acl.Set(rightful.ACLUserObj, 0, uint8(want.Mode>>6&7))
	acl = acl.Set(rightful.ACLOther, 0, uint8(want.Mode&7))
	want.ACL = acl.Set(rightful.ACLMask, 0, mask)
	r.keepClosed(a, have, want, kind)
	return stuck
}
