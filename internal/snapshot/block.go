package snapshot

import (
	"hash/crc32"
	"slices"
	"sort"

	"rightful"
	"rightful/internal/state"
	"rightful/internal/tree"
)

// Limits of a block. Its last entry is the one whose path's checksum says so, so that inserting one entry moves no other
// end; but it has at least minBlock entries and at most maxBlock, and no more than maxPaths bytes of paths: a tenant's deep
// chain of directories could otherwise need gigabytes when its paths are written out.
const (
	minBlock = 512
	maxBlock = 8192
	endMask  = 1023 // one entry in so many may be a last one
	maxPaths = 1 << 20
	maxDir   = 64 << 10
	maxName  = 255 // NAME_MAX of every Linux file system
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// plainState is the usual key of the dictionary of states: nothing that needs an allocation.
type plainState struct {
	uid, gid uint32
	mode     rightful.Mode
	kind     rightful.Kind
	unknown  Fields
}

// How times of change are told: as the difference to the entry before, or to the entry's own birth.
const (
	byNeighbour byte = iota
	byAge
)

// A packer collects the entries of one block.
type packer struct {
	n     int
	paths int // bytes of paths when written out
	dirs  state.Packer
	ndirs int
	dir   []byte // the current one
	dirN  int    // its entries so far
	dirCk uint32
	name  []byte // the last one

	shared, lens, rests []byte
	states              state.Packer
	nstates             uint64
	plain               map[plainState]uint64
	full                map[string]uint64 // by packed form: those with ACLs or capabilities
	last                plainState
	lastID              uint64
	ids                 state.Packer

	ino, birth, size             state.Packer
	ctime, age                   state.Packer // times of change, as the difference to the entry before, and to birth
	lastIno                      uint64
	lastBirth, lastCtime         int64
	links, handles, contents     state.Packer
	nlinks, nhandles, ncontents  uint64
	atLinks, atHandle, atContent int
	first                        key
	scratch                      state.Packer
}

// A key is where a block begins.
type key struct{ dir, name []byte }

func newPacker() *packer {
	return &packer{plain: map[plainState]uint64{}, full: map[string]uint64{}}
}

func (p *packer) reset() {
	for _, b := range []*[]byte{
		&p.dirs.B, &p.dir, &p.name, &p.shared, &p.lens, &p.rests, &p.states.B, &p.ids.B, &p.ino.B, &p.birth.B, &p.ctime.B, &p.age.B, &p.size.B,
		&p.links.B, &p.handles.B, &p.contents.B,
	} {
		*b = (*b)[:0]
	}
	clear(p.plain)
	clear(p.full)
	p.n, p.paths, p.ndirs, p.dirN, p.nstates = 0, 0, 0, 0, 0
	p.lastIno, p.lastBirth, p.lastCtime = 0, 0, 0
	p.nlinks, p.nhandles, p.ncontents, p.atLinks, p.atHandle, p.atContent = 0, 0, 0, 0, 0, 0
}

func sharedPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// add takes one entry and reports whether the block may end behind it. The entry's Rel is not looked at.
func (p *packer) add(dir, name []byte, e *Entry) (end bool) {
	if p.n == 0 {
		p.first = key{slices.Clone(dir), slices.Clone(name)}
	}
	if p.n == 0 || string(dir) != string(p.dir) {
		p.closeDir()
		k := sharedPrefix(p.dir, dir)
		p.dirs.Uint(uint64(k))
		p.dirs.Uint(uint64(len(dir) - k))
		p.dirs.B = append(p.dirs.B, dir[k:]...)
		p.dir = append(p.dir[:0], dir...)
		p.dirCk = crc32.Checksum(dir, castagnoli)
		p.name = p.name[:0]
		p.ndirs++
		p.paths += len(dir)
	}
	k := sharedPrefix(p.name, name)
	p.shared, p.lens = append(p.shared, byte(k)), append(p.lens, byte(len(name)-k))
	p.rests = append(p.rests, name[k:]...)
	p.name = append(p.name[:0], name...)
	p.paths += len(name)
	p.dirN++
	p.ids.Uint(p.state(e))

	p.ino.Int(int64(e.ID.Ino - p.lastIno))
	p.birth.Int(e.ID.Birth - p.lastBirth)
	p.ctime.Int(e.Ctime - p.lastCtime)
	p.age.Int(e.Ctime - e.ID.Birth)
	p.lastIno, p.lastBirth, p.lastCtime = e.ID.Ino, e.ID.Birth, e.Ctime
	if e.Kind != rightful.KindDir {
		p.size.Uint(uint64(e.Size))
		if e.Links != 1 {
			p.links.Uint(uint64(p.n - p.atLinks))
			p.links.Uint(uint64(e.Links))
			p.atLinks = p.n
			p.nlinks++
		}
	}
	if len(e.ID.Handle) > 0 {
		p.handles.Uint(uint64(p.n - p.atHandle))
		p.handles.Bytes(e.ID.Handle)
		p.atHandle = p.n
		p.nhandles++
	}
	if e.Content != nil {
		p.contents.Uint(uint64(p.n - p.atContent))
		p.contents.Content(e.Content)
		p.atContent = p.n
		p.ncontents++
	}
	p.n++
	return p.n >= maxBlock || p.paths >= maxPaths || p.n >= minBlock && crc32.Update(p.dirCk, castagnoli, name)&endMask == 0
}

func (p *packer) closeDir() {
	if p.ndirs > 0 {
		p.dirs.Uint(uint64(p.dirN))
	}
	p.dirN = 0
}

// state gives the number of an entry's state in the block's dictionary.
func (p *packer) state(e *Entry) uint64 {
	m := &e.Meta
	if m.ACL == nil && m.Default == nil && m.Caps == nil {
		s := plainState{m.UID, m.GID, m.Mode, e.Kind, e.Unknown}
		if len(p.plain) > 0 && s == p.last {
			return p.lastID
		}
		id, ok := p.plain[s]
		if !ok {
			id = p.newState(e)
			p.plain[s] = id
		}
		p.last, p.lastID = s, id
		return id
	}
	p.scratch.B = p.scratch.B[:0]
	packState(&p.scratch, e)
	id, ok := p.full[string(p.scratch.B)]
	if !ok {
		id = p.newState(e)
		p.full[string(p.scratch.B)] = id
	}
	return id
}

func (p *packer) newState(e *Entry) uint64 {
	packState(&p.states, e)
	p.nstates++
	return p.nstates - 1
}

func packState(p *state.Packer, e *Entry) {
	p.Byte(byte(e.Kind))
	p.Byte(byte(e.Unknown))
	p.Meta(e.Meta)
}

// what gives the first half of the block.
func (p *packer) what() []byte {
	p.closeDir()
	out := state.Packer{B: make([]byte, 0, 64+len(p.dirs.B)+2*p.n+len(p.rests)+len(p.states.B)+len(p.ids.B))}
	out.Uint(uint64(p.n))
	out.Uint(uint64(p.ndirs))
	out.B = append(out.B, p.dirs.B...)
	out.B = append(out.B, p.shared...)
	out.B = append(out.B, p.lens...)
	out.B = append(out.B, p.rests...)
	out.Uint(p.nstates)
	out.B = append(out.B, p.states.B...)
	out.B = append(out.B, p.ids.B...)
	return out.B
}

// which gives the second half.
func (p *packer) which() []byte {
	// Files that nobody changed since they were made are best told by their age, those of a mass change by their neighbours.
	ctime, by := p.ctime.B, byNeighbour
	if len(p.age.B) < len(ctime) {
		ctime, by = p.age.B, byAge
	}
	out := state.Packer{B: []byte{by}}
	for _, c := range [][]byte{p.ino.B, p.birth.B, ctime, p.size.B} {
		out.B = append(out.B, c...)
	}
	for _, c := range []struct {
		n uint64
		b []byte
	}{{p.nlinks, p.links.B}, {p.nhandles, p.handles.B}, {p.ncontents, p.contents.B}} {
		out.Uint(c.n)
		out.B = append(out.B, c.b...)
	}
	return out.B
}

// A block is one unpacked half or both.
type block struct {
	n      int
	index  int // which block of the account it is
	number int // of its first entry in the account
	dirs   []dirRun
	paths  []byte   // of dirs, one behind the other
	names  []byte   // written out, one behind the other
	ends   []uint32 // where each ends
	states []stateOf
	ids    []uint32

	ino      []uint64 // nil as long as the second half is not unpacked
	inos     []uint64 // its memory
	birth    []int64
	ctime    []int64
	size     []int64
	links    map[int]uint32
	handles  map[int][]byte
	contents map[int]*rightful.Content
}

// A dirRun is the entries of one directory within a block.
type dirRun struct {
	path     []byte
	from, to int
}

type stateOf struct {
	kind    rightful.Kind
	unknown Fields
	meta    rightful.Meta
}

// unpackWhat reads the first half. It trusts nothing: what does not hold together, or is not in the order that finding
// relies upon, is ErrDamaged. The block may be one that was read before and is done with: its memory is used again.
func (b *block) unpackWhat(raw []byte) error {
	d := state.Unpacker{B: raw}
	b.n, b.ino = int(min(d.Uint(), maxBlock+1)), nil
	ndirs := int(min(d.Uint(), maxBlock+1))
	if d.Err != nil || b.n == 0 || b.n > maxBlock || ndirs == 0 || ndirs > b.n {
		return ErrDamaged
	}
	b.dirs, b.paths = slices.Grow(b.dirs[:0], ndirs), b.paths[:0]
	var last []byte
	at := 0
	for range ndirs {
		shared := d.Uint()
		rest := d.Take()
		count := d.Uint()
		if d.Err != nil || shared > uint64(len(last)) || len(rest) > maxDir || count == 0 || count > uint64(b.n-at) {
			return ErrDamaged
		}
		from := len(b.paths)
		b.paths = append(append(b.paths, last[:shared]...), rest...)
		path := b.paths[from:]
		if len(path) > maxDir || len(b.paths) > 2*maxPaths || len(b.dirs) > 0 && tree.ComparePaths(last, path) >= 0 {
			return ErrDamaged
		}
		b.dirs = append(b.dirs, dirRun{path, at, at + int(count)})
		at, last = at+int(count), path
	}
	if at != b.n || len(d.B) < 2*b.n {
		return ErrDamaged
	}
	shared, lens := d.B[:b.n], d.B[b.n:2*b.n]
	d.B = d.B[2*b.n:]
	b.ends, b.ids = sized(b.ends, b.n), sized(b.ids, b.n)
	total := 0
	for i := range b.n {
		total += int(shared[i]) + int(lens[i])
	}
	b.names = slices.Grow(b.names[:0], total)
	run := 0
	var name []byte
	for i := range b.n {
		for i >= b.dirs[run].to {
			run++
		}
		k, n := int(shared[i]), int(lens[i])
		first := i == b.dirs[run].from
		if first {
			name = nil
		}
		if k > len(name) || n > len(d.B) || k+n > maxName || !first && string(d.B[:n]) <= string(name[k:]) {
			return ErrDamaged
		}
		from := len(b.names)
		b.names = append(append(b.names, name[:k]...), d.B[:n]...)
		d.B = d.B[n:]
		name = b.names[from:]
		b.ends[i] = uint32(len(b.names))
	}
	return b.unpackStates(&d)
}

// sized gives n values to be overwritten, in the memory of others where there is enough.
func sized[T any](old []T, n int) []T { return slices.Grow(old[:0], n)[:n] }

func (b *block) unpackStates(d *state.Unpacker) error {
	n := d.Uint()
	if n == 0 || n > uint64(b.n) {
		return ErrDamaged
	}
	b.states = sized(b.states, int(n))
	for i := range b.states {
		s := &b.states[i]
		s.kind, s.unknown = rightful.Kind(d.Byte()), Fields(d.Byte())
		s.meta = d.Meta()
		if d.Err != nil || s.unknown&^FieldAll != 0 {
			return ErrDamaged
		}
	}
	for i := range b.ids {
		id := d.Uint()
		if d.Err != nil || id >= n {
			return ErrDamaged
		}
		b.ids[i] = uint32(id)
	}
	if len(d.B) > 0 {
		return ErrDamaged
	}
	return nil
}

// unpackWhich reads the second half of a block whose first half is known.
func (b *block) unpackWhich(raw []byte) error {
	d := state.Unpacker{B: raw}
	by := d.Byte()
	if by > byAge {
		return ErrDamaged
	}
	b.ino = sized(b.inos, b.n)
	b.inos = b.ino
	var ino uint64
	for i := range b.ino {
		ino += uint64(d.Int())
		b.ino[i] = ino
	}
	b.birth, b.ctime, b.size = sized(b.birth, b.n), sized(b.ctime, b.n), sized(b.size, b.n)
	var last int64
	for i := range b.birth {
		last += d.Int()
		b.birth[i] = last
	}
	last = 0
	for i := range b.ctime {
		if by == byAge {
			last = b.birth[i]
		}
		last += d.Int()
		b.ctime[i] = last
	}
	for i := range b.size {
		b.size[i] = 0
		if b.states[b.ids[i]].kind != rightful.KindDir {
			b.size[i] = int64(d.Uint())
		}
	}
	b.links, b.handles, b.contents = map[int]uint32{}, map[int][]byte{}, map[int]*rightful.Content{}
	few := func(read func(i int)) {
		at := 0
		for n := d.Uint(); n > 0 && d.Err == nil; n-- {
			step := d.Uint()
			if step >= uint64(b.n-at) {
				d.Fail()
				return
			}
			at += int(step)
			read(at)
		}
	}
	few(func(i int) { b.links[i] = d.Uint32() })
	few(func(i int) { b.handles[i] = d.Bytes() })
	few(func(i int) { b.contents[i] = d.Content() })
	if d.Err != nil || len(d.B) > 0 {
		return ErrDamaged
	}
	return nil
}

// dirOf gives the run of directory that entry i lies in.
func (b *block) dirOf(i int) *dirRun {
	return &b.dirs[sort.Search(len(b.dirs), func(k int) bool { return b.dirs[k].to > i })]
}

func (b *block) name(i int) []byte {
	from := uint32(0)
	if i > 0 {
		from = b.ends[i-1]
	}
	return b.names[from:b.ends[i]]
}

// fill writes entry i into e; both halves of the block are unpacked. What it points at belongs to the block. rel is its
// path.
func (b *block) fill(i int, rel string, fs rightful.FSID, e *Entry) {
	b.fillState(i, fs, e)
	b.fillInode(i, rel, e)
}

// fillState writes what many entries share into e. It sets one field after the other: a literal would be made aside and
// copied, which takes longer.
func (b *block) fillState(i int, fs rightful.FSID, e *Entry) {
	s := &b.states[b.ids[i]]
	e.Kind, e.Unknown, e.Meta, e.ID.FS = s.kind, s.unknown, s.meta, fs
}

// fillInode writes the rest, into an e that has the state of entry i.
func (b *block) fillInode(i int, rel string, e *Entry) {
	e.Rel, e.Number = rel, b.number+i
	e.ID.Handle, e.ID.Ino, e.ID.Birth = b.handles[i], b.ino[i], b.birth[i]
	e.Ctime, e.Size, e.Content, e.Links = b.ctime[i], b.size[i], b.contents[i], 0
	if e.Kind != rightful.KindDir {
		e.Links = 1
		if n, ok := b.links[i]; ok {
			e.Links = n
		}
	}
}

// rel puts together the path of entry i, which lies in dir.
func (b *block) rel(i int, dir []byte) string {
	name := b.name(i)
	if len(dir) == 0 {
		return string(name)
	}
	var room [256]byte // most paths fit, and are then copied once
	return string(append(append(append(room[:0], dir...), '/'), name...))
}

// find gives the first entry that is not before a path, and whether it is that path. It may be b.n.
func (b *block) find(dir, name []byte) (int, bool) {
	k := sort.Search(len(b.dirs), func(k int) bool { return tree.ComparePaths(b.dirs[k].path, dir) >= 0 })
	if k == len(b.dirs) {
		return b.n, false
	}
	r := &b.dirs[k]
	if string(r.path) != string(dir) {
		return r.from, false
	}
	i := r.from + sort.Search(r.to-r.from, func(i int) bool { return string(b.name(r.from+i)) >= string(name) })
	return i, i < r.to && string(b.name(i)) == string(name)
}

// isPrivileged reports whether content guards what an entry may do: see rightful.Content.
func isPrivileged(kind rightful.Kind, m rightful.Meta, systemUID uint32) bool {
	return kind == rightful.KindFile && (m.Mode&(rightful.ModeSetuid|rightful.ModeSetgid) != 0 || len(m.Caps) > 0 || m.UID < systemUID)
}
