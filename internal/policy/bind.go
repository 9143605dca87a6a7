package policy

import (
	"fmt"
	"slices"
	"strings"

	"rightful"
)

// A Binding is what the rules need to know of one account.
type Binding struct {
	// Home is absolute, links resolved. UID and GID are the account's uid and primary gid.
	Home     string
	UID, GID uint32
	// Web is the identity that serves the account's static files. "web" as a group means any of its gids; a repair
	// uses the first, which must be the primary one.
	Web rightful.Identity
	// GroupID and UserID look names up in the server's own databases.
	GroupID func(name string) (uint32, bool)
	UserID  func(name string) (uint32, bool)
	// DocRoots and CGIDirs are absolute, links resolved; they may nest and may lie outside the home.
	DocRoots, CGIDirs []string
	// Bases are the directories that will be walked: the home, and document roots outside it. Every one must be
	// absolute.
	Bases []string
	// Facts hold for this account; docroot-in-home is computed.
	Facts Facts
}

// A Bound is a policy for one account. It may be used from many goroutines.
type Bound struct {
	a     *automaton
	rules []*Rule // by the policy's index; nil where the rule does not apply
	root  node
	top   State
	pol   *Policy
}

// Bind resolves the rules for an account: names to ids, placeholders to directories. It fails on paths that are not
// absolute and on an account that is root.
func (p *Policy) Bind(b Binding) (*Bound, error) {
	if b.UID == 0 {
		return nil, fmt.Errorf("bind policy to %q: the account is root", b.Home)
	}
	for _, list := range [][]string{{b.Home}, b.DocRoots, b.CGIDirs, b.Bases} {
		for _, d := range list {
			if !strings.HasPrefix(d, "/") || slices.Contains(strings.Split(d, "/"), "..") {
				return nil, fmt.Errorf("bind policy to %q: %q is not a plain absolute path", b.Home, d)
			}
		}
	}
	home := splitAbs(b.Home)
	facts := b.Facts.set() &^ Facts{factDocRootInHome: true}.set()
	out := &Bound{pol: p, rules: make([]*Rule, len(p.rules))}
	out.root.plant(b.Home).anchor(anchorHome)
	for _, d := range b.DocRoots {
		out.root.plant(d).anchor(anchorDocRoot)
		parts := splitAbs(d)
		if !hasPrefix(parts, home) {
			continue
		}
		facts |= Facts{factDocRootInHome: true}.set()
		for n := len(home) + 1; n < len(parts); n++ {
			out.root.plant("/" + strings.Join(parts[:n], "/")).anchor(anchorParent)
		}
	}
	for _, d := range b.CGIDirs {
		out.root.plant(d).anchor(anchorCGI)
	}
	if p.maildir != "" {
		out.root.plant(b.Home + "/" + p.maildir).anchor(anchorMaildir)
	}
	active := make([]bool, len(p.rules))
	key := make([]byte, len(p.rules))
	for i, r := range p.rules {
		rule := &Rule{
			File: r.file, Name: r.name, Title: r.title, Public: r.public, Secret: r.secret, CGI: r.cgi, web: b.Web,
		}
		for j := range r.alts {
			if !r.alts[j].when.holds(facts) {
				continue
			}
			if a, ok := r.alts[j].resolve(&b); ok {
				rule.alts = append(rule.alts, a)
			}
		}
		if len(rule.alts) > 0 {
			out.rules[i], active[i], key[i] = rule, true, 1
		}
	}
	p.mu.Lock()
	out.a = p.automata[string(key)]
	if out.a == nil {
		out.a = newAutomaton(p.rules, active)
		p.automata[string(key)] = out.a
	}
	p.mu.Unlock()
	out.top = State{b: out, set: out.a.step(out.a.empty, "", &out.root), node: &out.root}
	return out, nil
}

func hasPrefix(parts, prefix []string) bool {
	return len(parts) >= len(prefix) && slices.Equal(parts[:len(prefix)], prefix)
}

// Base is the state at a directory where a walk starts, and the rule for that directory itself.
func (b *Bound) Base(base string) (State, *Rule) {
	s, r := b.top, b.self(&b.root)
	for _, c := range splitAbs(base) {
		s, r = s.Child(c, rightful.KindDir)
	}
	return s, r
}

// self is the rule for a directory that is an anchor.
func (b *Bound) self(n *node) *Rule {
	if n == nil {
		return nil
	}
	for _, an := range n.anchors {
		if m := b.a.self[an]; len(m) > 0 {
			return b.rules[m[0].rule]
		}
	}
	return nil
}

// A Match is one rule that matches a path, and the pattern by which it does.
type Match struct {
	Rule    *Rule
	Pattern string
}

// Explain lists every rule that matches an absolute path as an entry of the kind, in order: the first decides.
func (b *Bound) Explain(path string, kind rightful.Kind) []Match {
	out := []Match{}
	add := func(rule, pattern int) {
		m := Match{b.rules[rule], b.pol.rules[rule].patterns[pattern].text}
		if !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	addSelf := func(n *node) {
		if n == nil || kind != rightful.KindDir {
			return
		}
		for _, an := range n.anchors {
			for _, m := range b.a.self[an] {
				add(m.rule, m.pattern)
			}
		}
	}
	parts := splitAbs(path)
	if len(parts) == 0 {
		addSelf(&b.root)
		return out
	}
	s := b.top
	for _, c := range parts[:len(parts)-1] {
		s, _ = s.Child(c, rightful.KindDir)
	}
	name := parts[len(parts)-1]
	if s.node != nil {
		addSelf(s.node.kids[name])
	}
	for _, id := range s.set.pos {
		p := &b.a.pos[id]
		if p.last && p.kinds.has(kind) && (p.comp.deep || p.comp.match(name)) {
			add(p.rule, p.pattern)
		}
	}
	return out
}
