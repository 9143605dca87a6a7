package cli

import (
	"fmt"
	"strings"

	"rightful"
	"rightful/internal/panel"
	"rightful/internal/term"
)

// names shows ids as people know them.
type names struct{ users *panel.Users }

// names of the server that was read last; without one, ids are shown as numbers.
func (a *app) names() names { return names{a.users} }

func (n names) user(uid uint32) string {
	if n.users == nil {
		return fmt.Sprint(uid)
	}
	return term.Quote(n.users.Name(uid))
}

func (n names) owner(uid, gid uint32) string {
	if n.users == nil {
		return fmt.Sprintf("%d:%d", uid, gid)
	}
	return n.user(uid) + ":" + term.Quote(n.users.GroupName(gid))
}

// diff shows only what is different: "alice:alice → alice:www-data, 0755 → 0750".
func (n names) diff(have, want rightful.Meta) string {
	var parts []string
	if have.UID != want.UID || have.GID != want.GID {
		parts = append(parts, n.owner(have.UID, have.GID)+" → "+n.owner(want.UID, want.GID))
	}
	if have.Mode != want.Mode {
		parts = append(parts, have.Mode.String()+" → "+want.Mode.String())
	}
	if !have.ACL.Equal(want.ACL) {
		parts = append(parts, "acl "+orDash(have.ACL.String())+" → "+orDash(want.ACL.String()))
	}
	if !have.Default.Equal(want.Default) {
		parts = append(parts, "default acl "+orDash(have.Default.String())+" → "+orDash(want.Default.String()))
	}
	if string(have.Caps) != string(want.Caps) {
		parts = append(parts, "capabilities dropped")
	}
	return strings.Join(parts, ", ")
}

// counted is "1 entry", "2 entries".
func counted(n int, one, many string) string {
	if n == 1 {
		many = one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func entries(n int) string  { return counted(n, "entry", "entries") }
func accounts(n int) string { return counted(n, "account", "accounts") }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
