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
	// Nested are the homes inside the account's that have owners of their own.
	Nested []Nested
	// Bases are the directories that will be walked: the home, and document roots outside it. Every one must be
	// absolute.
	Bases []string
	// Facts hold for this account; docroot-in-home is computed.
	Facts Facts
}

// Nested is a home inside an account's home whose owner is not the account's user: a mailbox or web user with a uid of
// its own. Dir is absolute, links resolved.
type Nested struct {
	Dir      string
	UID, GID uint32
}

// A Bound is a policy for one account. It may be used from many goroutines.
type Bound struct {
	a     *automaton
	rules []*Rule   // by the policy's index; nil where the rule does not apply
	inner [][]*Rule // the same for each nested home: rules that speak of its owner, the others nil
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
	for _, list := range [][]string{{b.Home}, b.DocRoots, b.CGIDirs, b.Bases, b.nestedDirs()} {
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
			if !p.lays(parts[len(home):n]) {
				out.root.plant("/" + strings.Join(parts[:n], "/")).anchor(anchorParent)
			}
		}
	}
	for _, d := range b.CGIDirs {
		out.root.plant(d).anchor(anchorCGI)
	}
	for i, n := range b.Nested {
		at := out.root.plant(n.Dir)
		at.anchor(anchorNested)
		at.nested = i + 1
	}
	if p.maildir != "" {
		out.root.plant(b.Home + "/" + p.maildir).anchor(anchorMaildir)
	}
	active := make([]bool, len(p.rules))
	key := make([]byte, len(p.rules))
	for i, r := range p.rules {
		out.rules[i] = r.bind(&b, facts, -1)
		if r.speaksOf(nameNested) {
			for n := range b.Nested {
				if n == len(out.inner) {
					out.inner = append(out.inner, make([]*Rule, len(p.rules)))
				}
				out.inner[n][i] = r.bind(&b, facts, n)
				if out.rules[i] == nil {
					out.rules[i] = out.inner[n][i]
				}
			}
		}
		if out.rules[i] != nil {
			active[i], key[i] = true, 1
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

// lays reports whether a directory below the home is one of the panel's layout.
func (p *Policy) lays(parts []string) bool {
	return slices.ContainsFunc(p.layout, func(pt pattern) bool { return len(pt.comps) == len(parts) && pt.begins(parts) })
}

// bind resolves a rule for an account, in the nested home of that index or in none (-1). It is nil where it does not apply.
func (r *rule) bind(b *Binding, facts factSet, nested int) *Rule {
	out := &Rule{File: r.file, Name: r.name, Title: r.title, Public: r.public, Secret: r.secret, CGI: r.cgi, web: b.Web}
	for j := range r.alts {
		if !r.alts[j].when.holds(facts) {
			continue
		}
		if a, ok := r.alts[j].resolve(b, nested); ok {
			out.alts = append(out.alts, a)
		}
	}
	if len(out.alts) == 0 {
		return nil
	}
	return out
}

// speaksOf reports whether an owner or a group is that word.
func (r *rule) speaksOf(name string) bool {
	return slices.ContainsFunc(r.alts, func(a alternative) bool {
		return slices.Contains(a.owner, name) || slices.Contains(a.group, name)
	})
}

// rule is a rule as it is in a nested home, or in none (0).
func (b *Bound) rule(i, nested int) *Rule {
	if nested > 0 && nested <= len(b.inner) && b.inner[nested-1][i] != nil {
		return b.inner[nested-1][i]
	}
	return b.rules[i]
}

func (b *Binding) nestedDirs() []string {
	dirs := make([]string, len(b.Nested))
	for i, n := range b.Nested {
		dirs[i] = n.Dir
	}
	return dirs
}

func hasPrefix(parts, prefix []string) bool {
	return len(parts) >= len(prefix) && slices.Equal(parts[:len(prefix)], prefix)
}

// Base is the state at a directory where a walk starts, and the rule for that directory itself.
func (b *Bound) Base(base string) (State, *Rule) {
	s, r := b.top, b.self(&b.root, 0)
	for _, c := range splitAbs(base) {
		s, r = s.Child(c, rightful.KindDir)
	}
	return s, r
}

// self is the rule for a directory that is an anchor.
func (b *Bound) self(n *node, nested int) *Rule {
	if n == nil {
		return nil
	}
	for _, an := range n.anchors {
		if m := b.a.self[an]; len(m) > 0 {
			return b.rule(m[0].rule, nested)
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
	s := b.top
	add := func(rule, pattern, nested int) {
		m := Match{b.rule(rule, nested), b.pol.rules[rule].patterns[pattern].text}
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
				add(m.rule, m.pattern, max(n.nested, s.nested))
			}
		}
	}
	parts := splitAbs(path)
	if len(parts) == 0 {
		addSelf(&b.root)
		return out
	}
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
			add(p.rule, p.pattern, s.nested)
		}
	}
	return out
}
