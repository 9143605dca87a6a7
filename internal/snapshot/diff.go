package snapshot

import (
	"bytes"
	"strings"

	"rightful"
	"rightful/internal/tree"
)

// A Change is how an entry of one record differs from another.
type Change string

// The changes.
const (
	ChangeMeta  Change = "changed" // owner, group, mode, ACL or capabilities
	ChangeKind  Change = "kind"    // something else stands at the path
	ChangeMoved Change = "moved"   // the same inode stands at another path, as it was or changed
	ChangeGone  Change = "gone"
	ChangeNew   Change = "new"
)

// A Difference is one entry that two records show otherwise.
type Difference struct {
	Change Change
	Base   string
	// Before is nil for what is new, After for what is gone.
	Before, After *Entry
	// Fields are those that differ.
	Fields Fields
	// Replaced: another inode stands at the path. Identities must be known on both sides.
	Replaced bool
}

// Differs gives the fields in which two states differ, but for those that one of them does not tell. The mode of a link
// means nothing.
func Differs(kind rightful.Kind, a, b rightful.Meta, unknown Fields) Fields {
	var f Fields
	if a.UID != b.UID {
		f |= FieldUID
	}
	if a.GID != b.GID {
		f |= FieldGID
	}
	if kind == rightful.KindSymlink {
		return f &^ unknown
	}
	if a.Mode != b.Mode {
		f |= FieldMode
	}
	if !a.ACL.Equal(b.ACL) || !a.Default.Equal(b.Default) {
		f |= FieldACL
	}
	if string(a.Caps) != string(b.Caps) {
		f |= FieldCaps
	}
	return f &^ unknown
}

// known reports whether an inode can be told from another.
func known(id rightful.EntryID) bool { return id.Ino != 0 && !id.Weak() }

// maxAside bounds how many entries that are gone or new are put aside to see whether they only moved. Of more, the rest
// is told as gone and new.
const maxAside = 100_000

// Diff hands every difference between two records of an account, each with a reader of its own, to fn: in walk order what
// changed in its place, then what moved, what is gone and what is new. What only one of them knows because it has another
// base is gone or new. The Difference is there until fn returns, and not for fn to change.
// Differences of size and times alone are none.
func Diff(a, b *Reader, fn func(*Difference) error) error {
	d := differ{fn: fn, same: map[[2]uint32]Fields{}, dark: [2]map[string]bool{a.dark(), b.dark()}}
	for i := range a.bases {
		if err := d.base(newCursor(a, i), newCursor(b, b.baseIndex(a.bases[i].path))); err != nil {
			return err
		}
	}
	for i := range b.bases {
		if a.baseIndex(b.bases[i].path) >= 0 {
			continue
		}
		if err := d.base(newCursor(a, -1), newCursor(b, i)); err != nil {
			return err
		}
	}
	return d.aside()
}

type differ struct {
	fn func(*Difference) error
	// dark are the paths of which each record knows nothing, with all beneath them: what it lacks there may be there.
	dark      [2]map[string]bool
	gone, new []*Difference
	// same says for pairs of states of the two blocks at hand which fields differ.
	same map[[2]uint32]Fields
	// pair is the one met last, and fields what is said of it; known is false where there is none.
	pair   [2]uint32
	fields Fields
	known  bool
	// at are the blocks and directories of both sides that were met last, and order how the directories stand.
	at    [2]place
	order int
	// out is what both hands to fn, over and over; before and after have the states of pair.
	out           Difference
	before, after Entry
}

// place is a directory in a block.
type place struct{ block, run int }

// base joins the records of one base.
func (d *differ) base(a, b *cursor) error {
	d.at = [2]place{{-1, -1}, {-1, -1}}
	for {
		for a.atStart() && b.atStart() && a.indexed().what.hash == b.indexed().what.hash {
			a.skip()
			b.skip()
		}
		if err := a.load(); err != nil {
			return err
		}
		if err := b.load(); err != nil {
			return err
		}
		c := 0
		switch {
		case a.done() && b.done():
			return nil
		case a.done():
			c = 1
		case b.done():
			c = -1
		default:
			if at := [2]place{{a.i, a.run}, {b.i, b.run}}; at != d.at {
				if at[0].block != d.at[0].block || at[1].block != d.at[1].block {
					clear(d.same)
					d.known = false
				}
				d.at, d.order = at, tree.ComparePaths(a.dir(), b.dir())
			}
			if c = d.order; c == 0 {
				c = bytes.Compare(a.name(), b.name())
			}
		}
		var err error
		switch {
		case c < 0:
			err = d.only(a, &d.gone, ChangeGone)
			a.next()
		case c > 0:
			err = d.only(b, &d.new, ChangeNew)
			b.next()
		default:
			err = d.both(a, b)
			a.next()
			b.next()
		}
		if err != nil {
			return err
		}
	}
}

func (d *differ) only(c *cursor, aside *[]*Difference, change Change) error {
	if err := c.r.unpackWhich(c.b); err != nil {
		return err
	}
	e := &Entry{}
	c.b.fill(c.j, c.b.rel(c.j, c.dir()), c.r.bases[c.base].fs, e)
	x := &Difference{Change: change, Base: c.r.bases[c.base].path, Before: e}
	other := d.dark[1]
	if change == ChangeNew {
		other = d.dark[0]
	}
	if hides(other, x.Base, e.Rel) {
		return nil
	}
	if change == ChangeNew {
		x.Before, x.After = nil, e
	}
	if len(*aside) == maxAside {
		return d.fn(x)
	}
	*aside = append(*aside, x)
	return nil
}

// dark gives the paths that could not be read.
func (r *Reader) dark() map[string]bool {
	m := map[string]bool{}
	for _, u := range r.unread {
		m[rightful.JoinPath(u.Base, u.Rel)] = true
	}
	return m
}

// hides reports whether a path or a directory above it is among those of which nothing is known.
func hides(dark map[string]bool, base, rel string) bool {
	if len(dark) == 0 {
		return false
	}
	p := rightful.JoinPath(base, rel)
	for len(p) > len(base) {
		if dark[p] {
			return true
		}
		p = p[:strings.LastIndexByte(p, '/')]
	}
	return dark[base]
}

func (d *differ) both(a, b *cursor) error {
	pair := [2]uint32{a.b.ids[a.j], b.b.ids[b.j]}
	x, y := &a.b.states[pair[0]], &b.b.states[pair[1]]
	if !d.known || pair != d.pair { // nearly always it is the pair before
		f, ok := d.same[pair]
		if !ok {
			f = Differs(x.kind, x.meta, y.meta, x.unknown|y.unknown)
			d.same[pair] = f
		}
		d.pair, d.fields, d.known = pair, f, true
		a.b.fillState(a.j, a.r.bases[a.base].fs, &d.before)
		b.b.fillState(b.j, b.r.bases[b.base].fs, &d.after)
	}
	f := d.fields
	if f == 0 && x.kind == y.kind {
		return nil
	}
	for _, c := range [...]*cursor{a, b} {
		if err := c.r.unpackWhich(c.b); err != nil {
			return err
		}
	}
	rel := a.b.rel(a.j, a.dir())
	a.b.fillInode(a.j, rel, &d.before)
	b.b.fillInode(b.j, rel, &d.after)
	d.out = Difference{Change: ChangeMeta, Base: a.r.bases[a.base].path, Fields: f, Before: &d.before, After: &d.after}
	if x.kind != y.kind {
		d.out.Change, d.out.Fields = ChangeKind, 0
	}
	d.out.Replaced = known(d.before.ID) && known(d.after.ID) && !d.before.ID.Same(d.after.ID)
	return d.fn(&d.out)
}

// aside tells what moved, and then what is gone and what is new.
func (d *differ) aside() error {
	at := map[uint64][]*Difference{}
	for _, g := range d.gone {
		if known(g.Before.ID) {
			at[g.Before.ID.Ino] = append(at[g.Before.ID.Ino], g)
		}
	}
	news := d.new[:0]
	for _, n := range d.new {
		moved := false
		for k, g := range at[n.After.ID.Ino] {
			if g != nil && g.Base == n.Base && g.Before.Kind == n.After.Kind && g.Before.ID.Same(n.After.ID) {
				at[n.After.ID.Ino][k] = nil
				g.Change, g.After = ChangeMoved, n.After
				g.Fields = Differs(g.Before.Kind, g.Before.Meta, g.After.Meta, g.Before.Unknown|g.After.Unknown)
				moved = true
				break
			}
		}
		if !moved {
			news = append(news, n)
		}
	}
	for _, pass := range []Change{ChangeMoved, ChangeGone} {
		for _, g := range d.gone {
			if g.Change != pass {
				continue
			}
			if err := d.fn(g); err != nil {
				return err
			}
		}
	}
	for _, n := range news {
		if err := d.fn(n); err != nil {
			return err
		}
	}
	return nil
}

// A cursor goes through one base of a record.
type cursor struct {
	r    *Reader
	base int    // -1 where the record has no such base
	i    int    // block
	b    *block // nil before one is loaded
	run  int
	j    int
}

func newCursor(r *Reader, base int) *cursor {
	c := &cursor{r: r, base: base, i: len(r.blocks)}
	for i := range r.blocks {
		if r.blocks[i].base == base {
			c.i = i
			break
		}
	}
	return c
}

func (r *Reader) baseIndex(path string) int {
	for i := range r.bases {
		if r.bases[i].path == path {
			return i
		}
	}
	return -1
}

func (c *cursor) done() bool        { return c.i >= len(c.r.blocks) || c.r.blocks[c.i].base != c.base }
func (c *cursor) atStart() bool     { return c.b == nil && !c.done() }
func (c *cursor) indexed() *indexed { return &c.r.blocks[c.i] }
func (c *cursor) skip()             { c.i++ }
func (c *cursor) dir() []byte       { return c.b.dirs[c.run].path }
func (c *cursor) name() []byte      { return c.b.name(c.j) }

// load unpacks the block that the cursor stands in.
func (c *cursor) load() (err error) {
	if c.atStart() {
		// Of one record one cursor is under way at a time.
		if err = c.r.unpackBlock(&c.r.own, c.i); err == nil {
			c.b, c.run, c.j = &c.r.own, 0, 0
		}
	}
	return err
}

func (c *cursor) next() {
	if c.j++; c.j == c.b.n {
		c.b, c.i = nil, c.i+1
		return
	}
	if c.j == c.b.dirs[c.run].to {
		c.run++
	}
}
