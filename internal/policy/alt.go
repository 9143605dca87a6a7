package policy

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"rightful"
)

// alternative is one of the states that a rule accepts, as written.
type alternative struct {
	index        int
	whenText     string
	when         condition
	owner, group []string
	mode         rightful.Mode
	hasMode      bool
	need, deny   rightful.Mode
	acl          []aclWord
}

// String is the alternative on one line, in the words of the file.
func (a *alternative) String() string {
	one := func(names []string) string {
		if len(names) == 0 {
			return nameAny
		}
		return strings.Join(names, "|")
	}
	s := one(a.owner) + ":" + one(a.group)
	if a.hasMode {
		s += " " + a.mode.String()
	}
	if a.need != 0 {
		s += ", need " + a.need.String()
	}
	if a.deny != 0 {
		s += ", deny " + a.deny.String()
	}
	for _, e := range a.acl {
		s += ", acl " + e.text
	}
	if a.whenText != "" {
		s += ", when " + a.whenText
	}
	return s
}

// needsNames reports whether a server may lack what the alternative names.
func (a *alternative) needsNames() bool {
	plain := func(n string) bool { return n == nameUser || n == nameRoot || n == nameAny || n[0] == '#' }
	none := func(names []string) bool { return len(names) > 0 && !slices.ContainsFunc(names, plain) }
	return none(a.owner) || none(a.group)
}

// factSet has one bit per place in factNames.
type factSet uint32

func (f Facts) set() factSet {
	var s factSet
	for i, n := range factNames {
		if f[n] {
			s |= 1 << i
		}
	}
	return s
}

// condition is a disjunction of conjunctions; nil always holds.
type condition []conjunction

type conjunction struct{ yes, no factSet }

func (c condition) holds(f factSet) bool {
	return len(c) == 0 || slices.ContainsFunc(c, func(t conjunction) bool { return f&t.yes == t.yes && f&t.no == 0 })
}

// parseWhen reads facts joined by && and ||, each perhaps with ! before it. && binds tighter.
func parseWhen(s string) (condition, error) {
	if s == "" {
		return nil, nil
	}
	var c condition
	for _, or := range strings.Split(s, "||") {
		var t conjunction
		for _, and := range strings.Split(or, "&&") {
			name := strings.TrimSpace(and)
			bare, not := strings.CutPrefix(name, "!")
			i := slices.Index(factNames[:], strings.TrimSpace(bare))
			if i < 0 {
				return nil, fmt.Errorf("when %q: unknown fact %q", s, strings.TrimSpace(bare))
			}
			if not {
				t.no |= 1 << i
			} else {
				t.yes |= 1 << i
			}
		}
		if t.yes&t.no == 0 {
			c = append(c, t)
		}
	}
	if len(c) == 0 {
		return nil, fmt.Errorf("when %q is never true", s)
	}
	return c, nil
}

// aclWord is one demand on the ACL: "group:web:x" must be there and give at least this, "!user:bob" must not be there,
// "!*" no named entry, "!*:w" no named entry that gives any of this.
type aclWord struct {
	text string
	want bool
	all  bool // any named entry
	tag  rightful.ACLTag
	name string
	perm uint8
}

func parseACLWord(s string) (aclWord, error) {
	bad := fmt.Errorf("acl %q is not user:NAME:rwx, group:NAME:rwx, !user:NAME, !group:NAME, !* or !*:rwx", s)
	w := aclWord{text: s, want: true}
	body, not := strings.CutPrefix(s, "!")
	w.want = !not
	f := strings.Split(body, ":")
	perm := ""
	switch {
	case not && f[0] == "*" && len(f) <= 2:
		w.all, perm = true, "rwx"
		if len(f) == 2 {
			perm = f[1]
		}
	case not && len(f) == 2, !not && len(f) == 3:
		switch f[0] {
		case "user":
			w.tag = rightful.ACLUser
		case "group":
			w.tag = rightful.ACLGroup
		default:
			return w, bad
		}
		w.name = f[1]
		if err := checkName(w.name, true); err != nil {
			return w, errors.Join(bad, err)
		}
		if w.want {
			perm = f[2]
		}
	default:
		return w, bad
	}
	for _, c := range perm {
		i := strings.IndexRune("xwr", c)
		if i < 0 && c != '-' {
			return w, bad
		}
		if i >= 0 {
			w.perm |= 1 << i
		}
	}
	if w.perm == 0 && (w.want || w.all) {
		return w, bad
	}
	return w, nil
}

// resolved is an alternative for one account.
type resolved struct {
	index          int
	owners, groups []uint32 // the first is canonical; nil means any
	mode           rightful.Mode
	hasMode        bool
	need, deny     rightful.Mode
	acl            []aclDemand
}

type aclDemand struct {
	aclWord
	id uint32
}

// resolve gives false where an owner or a group does not exist on the server. ACL entries for such names are dropped:
// there is nobody to let in or to keep out.
func (a *alternative) resolve(b *Binding, nested int) (resolved, bool) {
	r := resolved{index: a.index, mode: a.mode, hasMode: a.hasMode, need: a.need, deny: a.deny}
	var ok bool
	if r.owners, ok = resolveNames(a.owner, b.owner, nested); !ok {
		return r, false
	}
	if r.groups, ok = resolveNames(a.group, b.group, nested); !ok {
		return r, false
	}
	for _, w := range a.acl {
		d := aclDemand{aclWord: w}
		if w.all {
			r.acl = append(r.acl, d)
			continue
		}
		var ids []uint32
		if w.tag == rightful.ACLUser {
			ids = b.owner(w.name, nested)
		} else {
			ids = b.group(w.name, nested)
		}
		if len(ids) > 0 {
			d.id = ids[0]
			r.acl = append(r.acl, d)
		} else if w.want && w.name == nameWeb {
			return r, false
		}
	}
	return r, true
}

func resolveNames(names []string, look func(name string, nested int) []uint32, nested int) ([]uint32, bool) {
	if len(names) == 0 || names[0] == nameAny {
		return nil, true
	}
	var ids []uint32
	for _, n := range names {
		for _, id := range look(n, nested) {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids, len(ids) > 0
}

func (b *Binding) owner(name string, nested int) []uint32 {
	switch name {
	case nameNested:
		if nested < 0 {
			return nil
		}
		return []uint32{b.Nested[nested].UID}
	case nameUser:
		return []uint32{b.UID}
	case nameWeb:
		if b.Web.UID == 0 && len(b.Web.GIDs) == 0 {
			return nil // no web server is known: the zero Identity is not root
		}
		return []uint32{b.Web.UID}
	case nameRoot:
		return []uint32{0}
	}
	return lookID(name, b.UserID)
}

func (b *Binding) group(name string, nested int) []uint32 {
	switch name {
	case nameNested:
		if nested < 0 {
			return nil
		}
		return []uint32{b.Nested[nested].GID}
	case nameUser:
		return []uint32{b.GID}
	case nameWeb:
		return b.Web.GIDs
	case nameRoot:
		return []uint32{0}
	}
	return lookID(name, b.GroupID)
}

func lookID(name string, look func(string) (uint32, bool)) []uint32 {
	if num, ok := strings.CutPrefix(name, "#"); ok {
		n, err := strconv.ParseUint(num, 10, 32)
		if err != nil {
			return nil
		}
		return []uint32{uint32(n)}
	}
	if look == nil {
		return nil
	}
	if id, ok := look(name); ok {
		return []uint32{id}
	}
	return nil
}
