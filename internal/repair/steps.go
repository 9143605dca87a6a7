package repair

import (
	"slices"

	"rightful"
	"rightful/internal/tree/edit"
)

// steps lists the system calls that bring an entry from one state to another. It is pure: applying takes them, and
// recovering after a crash asks known for the states between them.
//
// At no point may anyone but root have a right that neither state gives:
//
//   - Where no ACL is in play, the mode is first cut to what both states share. While the old owner and group stand,
//     that is no more than before; once the new ones stand, the same bits are no more than after. So a site that is
//     served in both states is served throughout.
//   - Where the owner or group of an entry with an ACL changes, cutting is not enough: the classes of an ACL can be
//     filled by other people after the chown. The entry is closed to all but root, and opened by the last step.
//   - Setting an ACL replaces entries and mode at once. A minimal one takes the ACL away in the same call, whereas
//     removing the attribute would leave the mask as the group's bits.
//
// A chown takes set-id bits and capabilities away, so what after holds of them is put back last (law 5 is upheld
// before: after never holds a privilege that must not survive).
func steps(before, after rightful.Meta, kind rightful.Kind) []edit.Step {
	var out []edit.Step
	cur := before
	do := func(s edit.Step) {
		out = append(out, s)
		cur = s.Model(cur, kind)
	}
	chown := before.UID != after.UID || before.GID != after.GID
	if kind == rightful.KindSymlink {
		if chown {
			do(edit.Step{Op: edit.Chown, Meta: after})
		}
		return out
	}
	chmod := func(m rightful.Mode) {
		if cur.Mode != m {
			do(edit.Step{Op: edit.Chmod, Meta: rightful.Meta{Mode: m}})
		}
	}
	acls := len(before.ACL) > 0 || len(after.ACL) > 0
	switch {
	case chown && acls:
		chmod(0)
		do(edit.Step{Op: edit.Chown, Meta: after})
		if closed := after.ACL.WithMode(0); !closed.Equal(cur.ACL) {
			if len(closed) == 0 {
				closed = rightful.ModeACL(0)
			}
			do(edit.Step{Op: edit.SetACL, Meta: rightful.Meta{ACL: closed}})
		}
	case chown:
		chmod(before.Mode & after.Mode & rightful.ModePerm)
		do(edit.Step{Op: edit.Chown, Meta: after})
	case !before.ACL.Equal(after.ACL.WithMode(before.Mode)):
		acl := after.ACL
		if len(acl) == 0 {
			acl = rightful.ModeACL(after.Mode)
		}
		do(edit.Step{Op: edit.SetACL, Meta: rightful.Meta{ACL: acl}})
	}
	if !cur.Default.Equal(after.Default) {
		do(edit.Step{Op: edit.SetDefault, Meta: after})
	}
	chmod(after.Mode)
	if string(cur.Caps) != string(after.Caps) {
		do(edit.Step{Op: edit.SetCaps, Meta: after})
	}
	return out
}

// known lists every state that an entry can be found in when a crash cut its change short: before, each state between,
// and after.
func known(before, after rightful.Meta, kind rightful.Kind) []rightful.Meta {
	states := []rightful.Meta{before}
	cur := before
	for _, s := range steps(before, after, kind) {
		cur = s.Model(cur, kind)
		states = append(states, cur)
	}
	return states
}

// knownState reports whether live is one of the states between before and after, those two included, with the privileges
// of after or without them: the gate may have withheld them.
func knownState(live, before, after rightful.Meta, kind rightful.Kind) bool {
	is := func(m rightful.Meta) bool { return same(live, m, kind) }
	if slices.ContainsFunc(known(before, after, kind), is) {
		return true
	}
	bare := withheld(after)
	return kind == rightful.KindFile && !same(bare, after, kind) && slices.ContainsFunc(known(before, bare, kind), is)
}

// setID are the bits that give a file's owner or group to whoever runs it.
const setID = rightful.ModeSetuid | rightful.ModeSetgid

// withheld is a state without its set-id bits and capabilities.
func withheld(m rightful.Meta) rightful.Meta {
	m.Mode &^= setID
	m.Caps = nil
	return m
}

// same compares two states of an entry. The mode of a link means nothing.
func same(a, b rightful.Meta, kind rightful.Kind) bool {
	if kind == rightful.KindSymlink {
		return a.UID == b.UID && a.GID == b.GID
	}
	return a.Equal(b)
}
