package archive

import (
	"fmt"
	"strconv"
	"strings"

	"rightful"
	"rightful/internal/state"
	"rightful/internal/tree"
)

// An ACLEntry is one of an ACL as the source's host had it: the named user or group by name, by number, or by both.
type ACLEntry struct {
	Tag   rightful.ACLTag
	Perm  uint8
	Name  string // "" where only the number is known
	ID    uint32
	HasID bool
}

// An ACL is a POSIX.1e ACL in the words of the source's host.
type ACL []ACLEntry

// parseACL reads the text forms: the entries parted by newlines (GNU tar, getfacl) or commas (bsdtar, star), each
// TAG:WHO:PERM with a number behind a name in those of bsdtar and star (user:alice:rwx:1000), "#effective" and other comments, and
// default entries where def is not nil.
func parseACL(text string, def *ACL) (ACL, error) {
	var a ACL
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == ',' }) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		to := &a
		if rest, ok := strings.CutPrefix(line, "default:"); ok {
			if def == nil {
				return nil, fmt.Errorf("ACL entry %q among those for access", line)
			}
			line, to = rest, def
		}
		e, err := parseACLEntry(line)
		if err != nil {
			return nil, err
		}
		if len(*to) == maxACL {
			return nil, fmt.Errorf("ACL of more than %d entries", maxACL)
		}
		*to = append(*to, e)
	}
	return a, nil
}

func parseACLEntry(s string) (ACLEntry, error) {
	var e ACLEntry
	bad := func() (ACLEntry, error) { return e, fmt.Errorf("ACL entry %q is not TAG:WHO:PERM", s) }
	p := strings.Split(s, ":")
	if len(p) == 2 && (p[0] == "mask" || p[0] == "m" || p[0] == "other" || p[0] == "o") {
		p = []string{p[0], "", p[1]} // the short form that POSIX.1e allows
	}
	if len(p) != 3 && len(p) != 4 {
		return bad()
	}
	named := p[1] != ""
	switch p[0] {
	case "user", "u":
		e.Tag = rightful.ACLUserObj
		if named {
			e.Tag = rightful.ACLUser
		}
	case "group", "g":
		e.Tag = rightful.ACLGroupObj
		if named {
			e.Tag = rightful.ACLGroup
		}
	case "mask", "m":
		e.Tag = rightful.ACLMask
	case "other", "o":
		e.Tag = rightful.ACLOther
	default:
		return bad()
	}
	if named && e.Tag != rightful.ACLUser && e.Tag != rightful.ACLGroup {
		return bad()
	}
	if named {
		if n, err := strconv.ParseUint(p[1], 10, 32); err == nil {
			e.ID, e.HasID = uint32(n), true
		} else {
			e.Name = p[1]
		}
	}
	if len(p) == 4 {
		n, err := strconv.ParseUint(p[3], 10, 32)
		if err != nil || !named {
			return bad()
		}
		e.ID, e.HasID = uint32(n), true
	}
	if len(p[2]) != 3 {
		return bad()
	}
	for i, c := range "rwx" {
		switch p[2][i] {
		case byte(c):
			e.Perm |= 4 >> i
		case '-':
		default:
			return bad()
		}
	}
	return e, nil
}

// rawACL reads the kernel's attribute.
func rawACL(b []byte) (ACL, error) {
	k, err := tree.DecodeACL(b)
	if err != nil {
		return nil, err
	}
	return numericACL(k), nil
}

func numericACL(k rightful.ACL) ACL {
	if len(k) == 0 {
		return nil
	}
	a := make(ACL, 0, len(k))
	for _, e := range k {
		named := e.Tag == rightful.ACLUser || e.Tag == rightful.ACLGroup
		a = append(a, ACLEntry{Tag: e.Tag, Perm: e.Perm, ID: e.ID, HasID: named})
	}
	return a
}

// minimal reports whether the ACL says no more than nine permission bits can.
func (a ACL) minimal() bool {
	for _, e := range a {
		if e.Tag == rightful.ACLUser || e.Tag == rightful.ACLGroup || e.Tag == rightful.ACLMask {
			return false
		}
	}
	return true
}

// bits gives the nine permission bits that stat(2) shows on an entry with this ACL: the group's are the mask. It is false
// for an ACL that lacks one of the entries every ACL has.
func (a ACL) bits() (rightful.Mode, bool) {
	var m rightful.Mode
	var have rightful.ACLTag
	for _, e := range a {
		if e.Tag == rightful.ACLUser || e.Tag == rightful.ACLGroup {
			continue
		}
		have |= e.Tag
		switch e.Tag {
		case rightful.ACLUserObj:
			m |= rightful.Mode(e.Perm) << 6
		case rightful.ACLGroupObj:
			m = m&^0o070 | rightful.Mode(e.Perm)<<3
		case rightful.ACLOther:
			m |= rightful.Mode(e.Perm)
		}
	}
	for _, e := range a {
		if e.Tag == rightful.ACLMask {
			m = m&^0o070 | rightful.Mode(e.Perm)<<3
		}
	}
	base := rightful.ACLUserObj | rightful.ACLGroupObj | rightful.ACLOther
	return m, have&base == base
}

// packACL and unpackACL are the form of an ACL in the spool.
func packACL(p *state.Packer, a ACL) {
	p.Uint(uint64(len(a)))
	for _, e := range a {
		has := byte(0)
		if e.HasID {
			has = 1
		}
		p.Byte(byte(e.Tag))
		p.Byte(e.Perm)
		p.Byte(has)
		p.Uint(uint64(e.ID))
		p.Text(e.Name)
	}
}

func unpackACL(u *state.Unpacker) ACL {
	n := u.Uint()
	if n > maxACL {
		u.Fail()
	}
	var a ACL
	for ; n > 0 && u.Err == nil; n-- {
		e := ACLEntry{Tag: rightful.ACLTag(u.Byte()), Perm: u.Byte(), HasID: u.Byte() == 1, ID: u.Uint32()}
		e.Name = u.Text()
		a = append(a, e)
	}
	return a
}
