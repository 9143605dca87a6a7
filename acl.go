package rightful

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ACLTag says whom an ACL entry is about. The values are those of the kernel's POSIX ACL attribute.
type ACLTag uint16

// The tags, in the order in which the kernel wants them.
const (
	ACLUserObj  ACLTag = 0x01 // the owner
	ACLUser     ACLTag = 0x02 // a named user
	ACLGroupObj ACLTag = 0x04 // the owning group
	ACLGroup    ACLTag = 0x08 // a named group
	ACLMask     ACLTag = 0x10 // the most that named users and all groups get
	ACLOther    ACLTag = 0x20 // everybody else
)

// An ACLEntry gives Perm (rwx as 4, 2, 1) to whom Tag and ID name. ID counts for named users and groups only.
type ACLEntry struct {
	Tag  ACLTag
	Perm uint8
	ID   uint32
}

// An ACL is a POSIX.1e ACL, sorted as the kernel keeps it: by tag, then by ID.
type ACL []ACLEntry

// Equal reports whether both hold the same entries.
func (a ACL) Equal(b ACL) bool { return slices.Equal(a, b) }

// Find returns the entry for tag and id.
func (a ACL) Find(tag ACLTag, id uint32) (ACLEntry, bool) {
	for _, e := range a {
		if e.Tag == tag && (e.ID == id || tag != ACLUser && tag != ACLGroup) {
			return e, true
		}
	}
	return ACLEntry{}, false
}

// Set returns a copy in which the entry for tag and id has perm.
func (a ACL) Set(tag ACLTag, id uint32, perm uint8) ACL {
	if tag != ACLUser && tag != ACLGroup {
		id = 0
	}
	b := slices.DeleteFunc(slices.Clone(a), func(e ACLEntry) bool { return e.Tag == tag && e.ID == id })
	b = append(b, ACLEntry{Tag: tag, Perm: perm & 7, ID: id})
	b.Sort()
	return b
}

// ModeACL gives the minimal ACL that says what nine bits say.
func ModeACL(mode Mode) ACL {
	return ACL{
		{Tag: ACLUserObj, Perm: uint8(mode >> 6 & 7)},
		{Tag: ACLGroupObj, Perm: uint8(mode >> 3 & 7)},
		{Tag: ACLOther, Perm: uint8(mode & 7)},
	}
}

// WithMode gives the ACL as chmod(2) would leave it: owner, mask (or without one, group) and other follow the mode.
func (a ACL) WithMode(mode Mode) ACL {
	if len(a) == 0 {
		return a
	}
	a = a.Set(ACLUserObj, 0, uint8(mode>>6&7))
	if _, ok := a.Find(ACLMask, 0); ok {
		a = a.Set(ACLMask, 0, uint8(mode>>3&7))
	} else {
		a = a.Set(ACLGroupObj, 0, uint8(mode>>3&7))
	}
	return a.Set(ACLOther, 0, uint8(mode&7))
}

// Sort puts the entries in the kernel's order.
func (a ACL) Sort() {
	slices.SortFunc(a, func(x, y ACLEntry) int {
		if x.Tag != y.Tag {
			return int(x.Tag) - int(y.Tag)
		}
		switch {
		case x.ID < y.ID:
			return -1
		case x.ID > y.ID:
			return 1
		}
		return 0
	})
}

// Minimal reports whether the ACL says no more than nine permission bits can.
func (a ACL) Minimal() bool {
	for _, e := range a {
		if e.Tag == ACLUser || e.Tag == ACLGroup || e.Tag == ACLMask {
			return false
		}
	}
	return true
}

// Check reports what makes the ACL one that the kernel refuses.
func (a ACL) Check() error {
	var n [ACLOther + 1]int
	for i, e := range a {
		switch e.Tag {
		case ACLUserObj, ACLUser, ACLGroupObj, ACLGroup, ACLMask, ACLOther:
		default:
			return fmt.Errorf("unknown ACL tag %#x", uint16(e.Tag))
		}
		if e.Perm > 7 {
			return fmt.Errorf("ACL permission %#o", e.Perm)
		}
		if i > 0 {
			p := a[i-1]
			if p.Tag > e.Tag || p.Tag == e.Tag && p.ID >= e.ID {
				return fmt.Errorf("ACL entries out of order")
			}
		}
		n[e.Tag]++
	}
	if n[ACLUserObj] != 1 || n[ACLGroupObj] != 1 || n[ACLOther] != 1 || n[ACLMask] > 1 {
		return fmt.Errorf("ACL lacks or repeats an owner, group or other entry")
	}
	if n[ACLMask] == 0 && n[ACLUser]+n[ACLGroup] > 0 {
		return fmt.Errorf("ACL has named entries and no mask")
	}
	return nil
}

var tagNames = map[ACLTag]string{
	ACLUserObj: "user", ACLUser: "user", ACLGroupObj: "group", ACLGroup: "group", ACLMask: "mask", ACLOther: "other",
}

// String is the numeric text form of getfacl on one line: "user::rwx,user:33:r-x,group::r-x,mask::r-x,other::---".
func (a ACL) String() string {
	var b strings.Builder
	for i, e := range a {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(tagNames[e.Tag])
		b.WriteByte(':')
		if e.Tag == ACLUser || e.Tag == ACLGroup {
			b.WriteString(strconv.FormatUint(uint64(e.ID), 10))
		}
		b.WriteByte(':')
		b.WriteString(PermString(e.Perm))
	}
	return b.String()
}

// PermString gives three bits as "rwx", with "-" for a missing one.
func PermString(p uint8) string {
	s := []byte("---")
	for i, c := range "rwx" {
		if p&(4>>i) != 0 {
			s[i] = byte(c)
		}
	}
	return string(s)
}

// ParseACL reads the form of [ACL.String].
func ParseACL(s string) (ACL, error) {
	if s == "" {
		return nil, nil
	}
	var a ACL
	for _, f := range strings.Split(s, ",") {
		p := strings.Split(f, ":")
		if len(p) != 3 {
			return nil, fmt.Errorf("ACL entry %q is not TAG:ID:PERM", f)
		}
		var e ACLEntry
		switch p[0] + map[bool]string{true: ":", false: ":id"}[p[1] == ""] {
		case "user:":
			e.Tag = ACLUserObj
		case "user:id":
			e.Tag = ACLUser
		case "group:":
			e.Tag = ACLGroupObj
		case "group:id":
			e.Tag = ACLGroup
		case "mask:":
			e.Tag = ACLMask
		case "other:":
			e.Tag = ACLOther
		default:
			return nil, fmt.Errorf("ACL entry %q has an unknown tag", f)
		}
		if p[1] != "" {
			n, err := strconv.ParseUint(p[1], 10, 32)
			if err != nil {
				return nil, fmt.Errorf("ACL entry %q has no numeric id", f)
			}
			e.ID = uint32(n)
		}
		if len(p[2]) != 3 {
			return nil, fmt.Errorf("ACL entry %q has no three permissions", f)
		}
		for i, c := range "rwx" {
			switch p[2][i] {
			case byte(c):
				e.Perm |= 4 >> i
			case '-':
			default:
				return nil, fmt.Errorf("ACL entry %q has permission %q", f, p[2][i])
			}
		}
		a = append(a, e)
	}
	a.Sort()
	return a, a.Check()
}

// MarshalText implements encoding.TextMarshaler.
func (a ACL) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *ACL) UnmarshalText(b []byte) (err error) {
	*a, err = ParseACL(string(b))
	return err
}

// acl reports whether there is an ACL and the kernel looks at it.
func (m Meta) acl() bool { return len(m.ACL) > 0 && m.Mode&0o070 != 0 }

// Granted computes which of rwx the identity gets from m, by the kernel's rules (acl(5)): the classes exclude one
// another, owner first; named users and groups are cut by the mask; capabilities are not counted, so uid 0 is judged
// like anybody else: callers that mean the superuser must say so themselves.
//
// An ACL whose mask is empty is not looked at (fs/namei.c, acl_permission_check): whoever is neither the owner nor in the
// owning group is one of the others then, whatever entry names him.
//
// For groups the kernel asks whether any one matching entry grants everything wanted at once; the bits returned are
// the union, which differs only for a request of several bits that no single group entry grants. [Allowed] asks exactly.
func (m Meta) Granted(id Identity) uint8 {
	if id.UID == m.UID {
		return uint8(m.Mode >> 6 & 7)
	}
	if !m.acl() {
		if id.Has(m.GID) {
			return uint8(m.Mode >> 3 & 7)
		}
		return uint8(m.Mode & 7)
	}
	mask := uint8(m.Mode >> 3 & 7)
	if _, ok := m.ACL.Find(ACLMask, 0); !ok {
		mask = 7
	}
	var groups uint8
	matched := false
	for _, e := range m.ACL {
		switch {
		case e.Tag == ACLUser && e.ID == id.UID:
			return e.Perm & mask
		case e.Tag == ACLGroupObj && id.Has(m.GID), e.Tag == ACLGroup && id.Has(e.ID):
			matched = true
			groups |= e.Perm & mask
		}
	}
	if matched {
		return groups
	}
	return uint8(m.Mode & 7)
}

// Allowed reports whether the identity gets all of want (rwx as 4, 2, 1) at once from m. Uid 0 is judged like anybody
// else, as in [Meta.Granted].
func (m Meta) Allowed(id Identity, want uint8) bool {
	if m.Granted(id)&want != want {
		return false
	}
	if !m.acl() || id.UID == m.UID {
		return true
	}
	if _, ok := m.ACL.Find(ACLUser, id.UID); ok {
		return true
	}
	mask := uint8(7)
	if _, ok := m.ACL.Find(ACLMask, 0); ok {
		mask = uint8(m.Mode >> 3 & 7)
	}
	matched := false
	for _, e := range m.ACL {
		if e.Tag == ACLGroupObj && id.Has(m.GID) || e.Tag == ACLGroup && id.Has(e.ID) {
			matched = true
			if e.Perm&mask&want == want {
				return true
			}
		}
	}
	return !matched
}
