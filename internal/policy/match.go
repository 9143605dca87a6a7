package policy

import (
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"rightful"
)

// The automaton of a set of rules: patterns are matched one component at a time. A position is a component of one
// pattern that the next name may match; a set of them, in order of precedence, is all that a path so far can tell.
// Sets are built when a walk first meets them and kept; there are about as many as there are different directories in
// the rules, whatever is in the tree. Document roots and the other anchors are not in the automaton but in each
// account's own trie, so that all accounts share one automaton.
type automaton struct {
	pos   []position
	start [anchors][]posID     // positions at the first component, later rules first
	self  [anchors][]selfMatch // patterns that are the anchor itself, later rules first
	kinds kindSet              // that any rule is about

	mu    sync.RWMutex
	sets  map[string]*posSet
	empty *posSet
}

type posID uint16

// maxPositions keeps a posID within its bits.
const maxPositions = 1 << 16

// maxSets bounds what is kept. More can only arise from rules with many ** in one pattern; further sets are built anew
// each time.
const maxSets = 1 << 12

type position struct {
	rule    int // index into the policy's rules
	pattern int
	comp    *comp
	last    bool
	kinds   kindSet
}

type selfMatch struct{ rule, pattern int }

// posSet is a set of positions, indexed for names.
type posSet struct {
	pos    []posID
	steps  []posID // those that lead on: not last, or **
	tables [rightful.KindChar + 1]*table
}

// table finds the first position of a set that accepts a name of one kind as its end.
type table struct {
	literal map[string]int32 // to the index in posSet.pos
	suffix  map[string]int32 // ".css": from the last dot on
	other   []entry          // in order
	any     int32            // the first that accepts every name, or none
}

type entry struct {
	index int32
	glob  *glob
}

const none = int32(1<<31 - 1)

func newAutomaton(rules []*rule, active []bool) *automaton {
	a := &automaton{sets: map[string]*posSet{}}
	for ri := len(rules) - 1; ri >= 0; ri-- {
		if !active[ri] {
			continue
		}
		r := rules[ri]
		a.kinds |= r.kinds
		for pi := range r.patterns {
			p := &r.patterns[pi]
			if len(p.comps) == 0 {
				a.self[p.anchor] = append(a.self[p.anchor], selfMatch{ri, pi})
				continue
			}
			a.start[p.anchor] = append(a.start[p.anchor], posID(len(a.pos)))
			for ci := range p.comps {
				a.pos = append(a.pos, position{ri, pi, &p.comps[ci], ci == len(p.comps)-1, r.kinds})
			}
		}
	}
	a.empty = a.build(nil)
	return a
}

// closure appends id, and what follows a ** that may stand for nothing, unless it is there.
func (a *automaton) closure(list []posID, seen []uint64, id posID) []posID {
	for {
		if seen[id/64]&(1<<(id%64)) == 0 {
			seen[id/64] |= 1 << (id % 64)
			list = append(list, id)
		}
		if p := &a.pos[id]; !p.comp.deep || p.last {
			return list
		}
		id++
	}
}

// step gives the set after a directory's name, with the starts of the anchors on it first.
func (a *automaton) step(from *posSet, name string, at *node) *posSet {
	if len(from.steps) == 0 && (at == nil || len(at.anchors) == 0) {
		return a.empty
	}
	var seenBuf [64]uint64
	seen := seenBuf[:]
	if n := (len(a.pos) + 63) / 64; n > len(seen) {
		seen = make([]uint64, n)
	}
	var listBuf [256]posID
	list := listBuf[:0]
	if at != nil {
		for _, an := range at.anchors {
			for _, id := range a.start[an] {
				list = a.closure(list, seen, id)
			}
		}
	}
	for _, id := range from.steps {
		p := &a.pos[id]
		switch {
		case p.comp.deep:
			list = a.closure(list, seen, id)
		case p.comp.match(name):
			list = a.closure(list, seen, id+1)
		}
	}
	return a.intern(list)
}

func (a *automaton) intern(list []posID) *posSet {
	if len(list) == 0 {
		return a.empty
	}
	var keyBuf [512]byte
	key := keyBuf[:0]
	for _, id := range list {
		key = binary.LittleEndian.AppendUint16(key, uint16(id))
	}
	a.mu.RLock()
	s := a.sets[string(key)]
	a.mu.RUnlock()
	if s != nil {
		return s
	}
	s = a.build(slices.Clone(list))
	a.mu.Lock()
	defer a.mu.Unlock()
	if have := a.sets[string(key)]; have != nil {
		return have
	}
	if len(a.sets) < maxSets {
		a.sets[string(key)] = s
	}
	return s
}

func (a *automaton) build(list []posID) *posSet {
	s := &posSet{pos: list}
	for i, id := range list {
		p := &a.pos[id]
		if !p.last || p.comp.deep {
			s.steps = append(s.steps, id)
		}
		if !p.last {
			continue
		}
		for k := rightful.KindFile; k <= rightful.KindChar; k++ {
			if !p.kinds.has(k) {
				continue
			}
			if s.tables[k] == nil {
				s.tables[k] = &table{literal: map[string]int32{}, suffix: map[string]int32{}, any: none}
			}
			s.tables[k].add(int32(i), p.comp)
		}
	}
	return s
}

func (t *table) add(index int32, c *comp) {
	if t.any != none {
		return // everything later loses
	}
	if c.deep {
		t.any = index
		return
	}
	first := func(m map[string]int32, key string) {
		if _, ok := m[key]; !ok {
			m[key] = index
		}
	}
	for i := range c.alts {
		switch g := &c.alts[i]; {
		case g.kind == globAny:
			t.any = index
		case g.kind == globLiteral:
			first(t.literal, g.text)
		case g.kind == globSuffix && strings.LastIndexByte(g.text, '.') == 0:
			first(t.suffix, g.text)
		default:
			t.other = append(t.other, entry{index, g})
		}
	}
}

func (t *table) find(name string) int32 {
	best := t.any
	if len(t.literal) > 0 {
		if i, ok := t.literal[name]; ok && i < best {
			best = i
		}
	}
	if len(t.suffix) > 0 {
		if dot := strings.LastIndexByte(name, '.'); dot >= 0 {
			if i, ok := t.suffix[name[dot:]]; ok && i < best {
				best = i
			}
		}
	}
	for i := range t.other {
		e := &t.other[i]
		if e.index >= best {
			break
		}
		if e.glob.match(name) {
			best = e.index
		}
	}
	return best
}

// node is a directory on the way to an anchor, or an anchor.
type node struct {
	kids    map[string]*node
	anchors []anchor // by rank, each once
	nested  int      // the place of a nested home in the binding, from 1; 0 for any other directory
}

// plant adds the nodes of an absolute path and returns the last.
func (n *node) plant(p string) *node {
	for _, c := range splitAbs(p) {
		k := n.kids[c]
		if k == nil {
			k = &node{}
			if n.kids == nil {
				n.kids = map[string]*node{}
			}
			n.kids[c] = k
		}
		n = k
	}
	return n
}

func (n *node) anchor(a anchor) {
	if !slices.Contains(n.anchors, a) {
		n.anchors = append(n.anchors, a)
		slices.Sort(n.anchors)
	}
}

// splitAbs gives the components of an absolute path; doubled slashes and dots count for nothing.
func splitAbs(p string) []string {
	return slices.DeleteFunc(strings.Split(p, "/"), func(c string) bool { return c == "" || c == "." })
}

// A State is where a walk stands: all that the rules need to know of the path so far. It is a small value, compares
// with ==, and may be used from many goroutines. No rule matches anything below the zero State.
type State struct {
	b    *Bound
	set  *posSet
	node *node
	// nested is the nested home that the walk is in, as in node.
	nested int
}

// Child goes one step down. It returns the state below, which is zero for anything but a directory, and the rule that
// decides about the entry, nil where none does. It does not allocate for anything but a directory whose kind of place
// is new.
func (s State) Child(name string, kind rightful.Kind) (State, *Rule) {
	if s.b == nil || kind > rightful.KindChar {
		return State{}, nil
	}
	if kind != rightful.KindDir {
		return State{}, s.end(name, kind)
	}
	var next *node
	if s.node != nil {
		next = s.node.kids[name]
	}
	nested := s.nested
	if next != nil && next.nested > 0 {
		nested = next.nested
	}
	rule := s.b.self(next, nested)
	if rule == nil {
		rule = s.end(name, kind)
	}
	return State{s.b, s.b.a.step(s.set, name, next), next, nested}, rule
}

// ChildBytes is [State.Child] for a name as a walk holds it. The bytes are not kept.
func (s State) ChildBytes(name []byte, kind rightful.Kind) (State, *Rule) {
	return s.Child(unsafe.String(unsafe.SliceData(name), len(name)), kind)
}

func (s State) end(name string, kind rightful.Kind) *Rule {
	t := s.set.tables[kind]
	if t == nil {
		return nil
	}
	i := t.find(name)
	if i == none {
		return nil
	}
	return s.b.rule(s.b.a.pos[s.set.pos[i]].rule, s.nested)
}
