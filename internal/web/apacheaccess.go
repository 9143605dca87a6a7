package web

import (
	"strings"
)

// answer is what access control says to a stranger without a password.
type answer uint8

const (
	granted answer = iota
	denied
	asks // 401: a password would help
	depends
)

// access is what Require, Order and their kin say at one place.
type access struct {
	require *requirement // nil: nothing said
	compat  *compat
	any     bool // Satisfy Any
	auth    bool // AuthType: who is refused is asked for a password

	verdict answer // of all of it
	code    string
	at      *Directive
}

// decide works out the verdict: Order and its kin are asked first (access_checker), then Require.
func (a *access) decide() {
	a.verdict, a.code, a.at = granted, "", nil
	old := granted
	if a.compat != nil {
		old = a.compat.decide()
	}
	now := granted
	if a.require != nil {
		now = a.require.decide()
		if now == asks && !a.auth {
			now = depends // a configuration error (500), or a provider of another module
		}
	}
	switch {
	case a.any && a.compat != nil && a.require != nil && (old == granted || now == granted):
	case a.any && a.compat != nil && a.require != nil && now == asks:
		a.set(asks, "", a.require.first())
	case old == denied || old == depends:
		a.set(old, "AH01797", a.compat.at)
	case now != granted:
		a.set(now, "AH01630", a.require.first())
		if now == asks {
			a.code = ""
		}
	}
}

func (a *access) set(v answer, code string, at *Directive) { a.verdict, a.code, a.at = v, code, at }

// A requirement is one Require, or a container of them.
type requirement struct {
	kind string // "require", "requireall", "requireany", "requirenone"
	not  bool
	args []string
	of   []requirement
	d    *Directive
}

func newRequirement(d *Directive) requirement {
	r := requirement{kind: strings.ToLower(d.Name), args: d.Args, d: d}
	if r.kind == "require" {
		if len(r.args) > 0 && strings.EqualFold(r.args[0], "not") {
			r.not, r.args = true, r.args[1:]
		}
		return r
	}
	for i := range d.Body {
		switch strings.ToLower(d.Body[i].Name) {
		case "require", "requireall", "requireany", "requirenone":
			r.of = append(r.of, newRequirement(&d.Body[i]))
		}
	}
	return r
}

// first is the directive to name.
func (r *requirement) first() *Directive {
	if r.d == nil && len(r.of) > 0 {
		return r.of[0].first()
	}
	return r.d
}

func (r *requirement) decide() answer {
	switch r.kind {
	case "require":
		a := r.one()
		if r.not {
			if a == granted {
				return denied
			}
			return granted // whom it names is no stranger
		}
		return a
	case "requireall":
		return r.fold(granted, denied)
	case "requirenone":
		for i := range r.of {
			if r.of[i].decide() == granted {
				return denied
			}
		}
		return granted
	}
	return r.fold(denied, granted)
}

// fold decides those inside one after the other: the first that says end decides, and start where they say nothing else.
func (r *requirement) fold(start, end answer) answer {
	out := start
	for i := range r.of {
		switch a := r.of[i].decide(); {
		case a == end:
			return end
		case a == depends || out == depends:
			out = depends
		case a == asks:
			out = asks
		}
	}
	return out
}

// one decides a single Require. Addresses and hosts of visitors are not known.
func (r *requirement) one() answer {
	arg := func(i int) string {
		if i < len(r.args) {
			return strings.ToLower(r.args[i])
		}
		return ""
	}
	switch arg(0) {
	case "all":
		if arg(1) == "granted" {
			return granted
		}
		return denied
	case "method":
		for i := 1; i < len(r.args); i++ {
			if arg(i) == "get" {
				return granted
			}
		}
		return denied
	case "valid-user", "user", "group", "valid-role", "ldap-user", "ldap-group", "file-owner", "file-group":
		return asks
	}
	return depends
}

// compat is mod_access_compat's Order, Allow and Deny.
type compat struct {
	allowFirst  bool // Order Allow,Deny
	allow, deny answer
	at          *Directive
}

func (c *compat) add(d *Directive) {
	if c.at == nil {
		c.at = d
	}
	switch strings.ToLower(d.Name) {
	case "order":
		c.allowFirst = strings.HasPrefix(strings.ToLower(d.Arg(0)), "allow")
		if strings.EqualFold(d.Arg(0), "mutual-failure") {
			c.allowFirst = true
		}
		return
	case "allow":
		c.allow = from(d, c.allow)
	case "deny":
		c.deny = from(d, c.deny)
		c.at = d
	}
}

// from gives granted where the list cannot match, denied where it always does: whether a stranger is in it.
func from(d *Directive, have answer) answer {
	for _, a := range d.Args[min(1, len(d.Args)):] {
		if strings.EqualFold(a, "all") {
			return denied
		}
	}
	if have == denied {
		return have
	}
	return depends
}

// decide follows find_allowdeny: with Allow,Deny who is in no list is refused, with Deny,Allow he is let in. Those who are
// refused by their address are no strangers.
func (c *compat) decide() answer {
	allowed, perhaps, refused := c.allow == denied, c.allow == depends, c.deny == denied
	switch {
	case c.allowFirst && (refused || !allowed && !perhaps), !c.allowFirst && refused && !allowed && !perhaps:
		return denied
	case perhaps && !allowed && (c.allowFirst || refused):
		return depends
	}
	return granted
}
