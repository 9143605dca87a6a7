package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"os"
	"slices"
	"sort"
	"time"

	"rightful"
	"rightful/internal/state"
	"rightful/internal/tree"

	"github.com/klauspost/compress/zstd"
)

// Limits of what is unpacked: far more than a writer makes, so that a damaged file cannot ask for all memory.
const (
	maxFrame = 64 << 20
	maxIndex = 1 << 30
)

// The errors that callers act on.
var (
	ErrDamaged  = errors.New("the snapshot is truncated or altered")
	ErrNotOurs  = errors.New("not a snapshot file")
	ErrNewer    = errors.New("the snapshot is of a newer version of Rightful")
	ErrNone     = errors.New("no such snapshot")
	ErrForeign  = errors.New("the snapshot is of another server")
	ErrNotTaken = errors.New("the snapshot does not hold this account")
)

// A Reader reads the record of one account. It is for one goroutine.
type Reader struct {
	Account
	s     *Store
	f     io.ReaderAt
	close func() error
	*buffers
	bases  []base
	blocks []indexed
	unread []Unread

	cached [4]*block // the blocks unpacked last, newest first
	// last is the entry of cached[0] that was looked up last, or that was to come next, and run a directory at or before it.
	last, run int
	dir       []byte             // the one that was asked about last
	rested    int64              // what was changed at that time, in ns since 1970, or later may have changed again unseen; see Known
	inodes    []inode            // by number, once somebody asked
	frames    map[[16]byte]frame // by what they hold, once somebody asked
}

// Buffers are memory that one reader after the other uses.
type buffers struct {
	raw, plain []byte // a frame as it lies on disk, and unpacked
	own        block  // of the cursor that goes through the record
}

// inode says where an inode is recorded.
type inode struct {
	ino  uint64
	at   uint32 // block
	slot uint32
}

// openReader reads the index of an account file.
func openReader(f *os.File, s *Store) (*Reader, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	r, err := newReader(f, st.Size(), s)
	if err == nil {
		r.close = f.Close
	}
	return r, err
}

func newReader(f io.ReaderAt, size int64, s *Store) (*Reader, error) {
	r := &Reader{s: s, f: f, buffers: s.takeBuffers()}
	if err := r.open(size); err != nil {
		s.giveBuffers(r.buffers)
		return nil, err
	}
	return r, nil
}

// Close lets go of the file.
func (r *Reader) Close() {
	if r.buffers != nil {
		r.s.giveBuffers(r.buffers)
		r.buffers = nil
	}
	if r.close != nil {
		r.close()
	}
}

func (r *Reader) open(size int64) error {
	head := make([]byte, headSize)
	if _, err := r.f.ReadAt(head, 0); err != nil && err != io.EOF {
		return err
	}
	if string(head[:len(fileMagic)]) != fileMagic {
		return ErrNotOurs
	}
	if crc32.Checksum(head[:headSize-4], castagnoli) != binary.LittleEndian.Uint32(head[headSize-4:]) {
		return ErrDamaged
	}
	if v := binary.LittleEndian.Uint32(head[len(fileMagic):]); v > formatVersion {
		return fmt.Errorf("format version %d, this program (%s) knows up to %d: %w", v, rightful.Version, formatVersion, ErrNewer)
	} else if v < 1 {
		return ErrDamaged
	}
	if size < int64(headSize+tailSize) {
		return ErrDamaged
	}
	tail := make([]byte, tailSize)
	if _, err := r.f.ReadAt(tail, size-int64(tailSize)); err != nil {
		return err
	}
	le := binary.LittleEndian
	if string(tail[24:]) != endMagic || crc32.Checksum(tail[:20], castagnoli) != le.Uint32(tail[20:]) {
		return ErrDamaged
	}
	at, length, plain := int64(le.Uint64(tail)), le.Uint32(tail[8:]), le.Uint32(tail[12:])
	if at < int64(headSize) || at+int64(length)+int64(tailSize) != size || plain > maxIndex {
		return ErrDamaged
	}
	index, err := r.unpack(frame{off: at, length: length, plain: plain, crc: le.Uint32(tail[16:])}, nil)
	if err != nil {
		return err
	}
	return r.readIndex(bytes.Clone(index), at)
}

// readIndex reads what newWriter.index wrote. The blocks lie one behind the other, from the header to end.
func (r *Reader) readIndex(index []byte, end int64) error {
	d := state.Unpacker{B: index}
	off := int64(headSize)
	for n := d.Uint(); n > 0 && d.Err == nil; n-- {
		r.bases = append(r.bases, base{d.Text(), rightful.FSID(d.Text())})
		r.Bases = append(r.Bases, r.bases[len(r.bases)-1].path)
	}
	for n := d.Uint(); n > 0 && d.Err == nil; n-- {
		b := indexed{base: int(min(d.Uint(), maxIndex)), first: key{d.Take(), d.Take()}, number: r.Entries}
		b.n = int(min(d.Uint(), maxBlock+1))
		for _, f := range []*frame{&b.what, &b.which} {
			length, plain := d.Uint(), d.Uint()
			if d.Err != nil || length > maxFrame || plain > maxFrame || len(d.B) < 4+len(f.hash) {
				return ErrDamaged
			}
			*f = frame{off: off, length: uint32(length), plain: uint32(plain), crc: binary.LittleEndian.Uint32(d.B)}
			d.B = d.B[4+copy(f.hash[:], d.B[4:]):]
			off += int64(length)
		}
		if b.base >= len(r.bases) || b.n == 0 || b.n > maxBlock {
			return ErrDamaged
		}
		if k := len(r.blocks) - 1; k >= 0 {
			p := &r.blocks[k]
			if p.base > b.base || p.base == b.base && compareKeys(p.first.dir, p.first.name, b.first.dir, b.first.name) >= 0 {
				return ErrDamaged
			}
		}
		r.Entries += b.n
		r.blocks = append(r.blocks, b)
	}
	for n := d.Uint(); n > 0 && d.Err == nil; n-- {
		k := d.Uint()
		if k >= uint64(len(r.bases)) {
			return ErrDamaged
		}
		r.unread = append(r.unread, Unread{r.bases[k].path, d.Text(), d.Text()})
	}
	if d.Err != nil || len(d.B) > 0 || off != end {
		return ErrDamaged
	}
	return nil
}

// unpack reads one frame and checks it, into buf.
func (r *Reader) unpack(f frame, buf []byte) ([]byte, error) {
	if cap(r.raw) < int(f.length) {
		r.raw = make([]byte, f.length)
	}
	r.raw = r.raw[:f.length]
	if _, err := r.f.ReadAt(r.raw, f.off); err != nil {
		if err == io.EOF {
			err = ErrDamaged
		}
		return nil, err
	}
	if checksum(f.off, r.raw) != f.crc {
		return nil, fmt.Errorf("at byte %d: %w", f.off, ErrDamaged)
	}
	var h zstd.Header
	if err := h.Decode(r.raw); err != nil || h.HasFCS && h.FrameContentSize != uint64(f.plain) {
		return nil, fmt.Errorf("at byte %d: %w", f.off, ErrDamaged)
	}
	out, err := r.s.unzstd.DecodeAll(r.raw, buf[:0])
	if err != nil || len(out) != int(f.plain) {
		return nil, fmt.Errorf("at byte %d: %w", f.off, ErrDamaged)
	}
	return out, nil
}

// packed reads, as it lies there, the frame of the record that holds the same as another, into buf. It is empty where there is
// none, or where that is damaged. A nil reader has none.
func (r *Reader) packed(like *frame, buf []byte) []byte {
	buf = buf[:0]
	if r == nil {
		return buf
	}
	if r.frames == nil {
		r.frames = map[[16]byte]frame{}
		for i := range r.blocks {
			b := &r.blocks[i]
			r.frames[b.what.hash], r.frames[b.which.hash] = b.what, b.which
		}
	}
	f, ok := r.frames[like.hash]
	if !ok || f.plain != like.plain {
		return buf
	}
	buf = slices.Grow(buf, int(f.length))[:f.length]
	if _, err := r.f.ReadAt(buf, f.off); err != nil || checksum(f.off, buf) != f.crc {
		return buf[:0]
	}
	return buf
}

// block gives a block; with which set, its second half too. It is the caller's until a few others were asked for, since its
// memory is used again.
func (r *Reader) block(i int, which bool) (*block, error) {
	at := slices.IndexFunc(r.cached[:], func(b *block) bool { return b != nil && b.index == i })
	var b *block
	if at >= 0 {
		b = r.cached[at]
	} else {
		at = len(r.cached) - 1
		if b, r.cached[at] = r.cached[at], nil; b == nil {
			b = &block{}
		}
		if err := r.unpackBlock(b, i); err != nil {
			return nil, err
		}
	}
	if at > 0 {
		r.last, r.run = 0, 0
	}
	copy(r.cached[1:at+1], r.cached[:at])
	r.cached[0] = b
	if which {
		return b, r.unpackWhich(b)
	}
	return b, nil
}

// unpackBlock reads the first half of a block into b.
func (r *Reader) unpackBlock(b *block, i int) error {
	raw, err := r.unpack(r.blocks[i].what, r.plain)
	if err != nil {
		return err
	}
	r.plain = raw
	return r.parseBlock(b, i, raw)
}

// unpackWhich reads the second half of a block, unless it is there already.
func (r *Reader) unpackWhich(b *block) error {
	if b.ino != nil {
		return nil
	}
	f := r.blocks[b.index].which
	raw, err := r.unpack(f, r.plain)
	if err == nil {
		r.plain = raw
		err = b.unpackWhich(raw)
	}
	if err != nil {
		b.ino = nil
		return fmt.Errorf("at byte %d: %w", f.off, err)
	}
	return nil
}

// parseBlock takes the first half of a block as it is unpacked. It keeps nothing of raw.
func (r *Reader) parseBlock(b *block, i int, raw []byte) error {
	x := &r.blocks[i]
	err := b.unpackWhat(raw)
	if err == nil && (b.n != x.n || string(b.dirs[0].path) != string(x.first.dir) || string(b.name(0)) != string(x.first.name)) {
		err = ErrDamaged
	}
	if err != nil {
		return fmt.Errorf("at byte %d: %w", x.what.off, err)
	}
	b.index, b.number = i, x.number
	return nil
}

// Unread lists what could not be read, at most ten thousand of it.
func (r *Reader) Unread() []Unread { return r.unread }

// All gives every entry with the base that it lies below, in walk order. It ends at the first error.
func (r *Reader) All() iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		var b block // not a cached one: whoever is given the entries may look up others
		for i := range r.blocks {
			err := r.unpackBlock(&b, i)
			if err == nil {
				err = r.unpackWhich(&b)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			for k := range b.dirs {
				for j := b.dirs[k].from; j < b.dirs[k].to; j++ {
					e := &Entry{}
					b.fill(j, b.rel(j, b.dirs[k].path), r.bases[r.blocks[i].base].fs, e)
					if !yield(e, nil) {
						return
					}
				}
			}
		}
	}
}

// BaseOf gives the base that an entry lies below.
func (r *Reader) BaseOf(e *Entry) string {
	i := sort.Search(len(r.blocks), func(i int) bool { return r.blocks[i].number > e.Number }) - 1
	return r.bases[r.blocks[max(i, 0)].base].path
}

// Lookup finds the record of a path below a base; nil where there is none.
func (r *Reader) Lookup(basePath, rel string) (*Entry, error) {
	dir, name := split(rel)
	return r.lookup(basePath, []byte(dir), []byte(name))
}

func (r *Reader) lookup(basePath string, dir, name []byte) (*Entry, error) {
	n := r.baseIndex(basePath)
	if n < 0 {
		return nil, nil
	}
	b, j, err := r.find(n, dir, name)
	if b == nil || err != nil {
		return nil, err
	}
	return r.entry(b.index, j)
}

// find gives the block that holds a path below a base, and which of its entries that is; nil where it is not recorded. Who
// asks for one path after the other in walk order needs no search.
func (r *Reader) find(base int, dir, name []byte) (*block, int, error) {
	if b := r.cached[0]; b != nil && r.blocks[b.index].base == base {
		for _, j := range [...]int{r.last, r.last + 1} {
			for r.run < len(b.dirs) && b.dirs[r.run].to <= j {
				r.run++
			}
			if r.run < len(b.dirs) && j >= b.dirs[r.run].from && string(b.name(j)) == string(name) && string(b.dirs[r.run].path) == string(dir) {
				r.last = j
				return b, j, nil
			}
		}
	}
	i := r.place(base, dir, name)
	if i < 0 || r.blocks[i].base != base {
		return nil, 0, nil
	}
	b, err := r.block(i, false)
	if err != nil {
		return nil, 0, err
	}
	j, ok := b.find(dir, name)
	r.run, r.last = 0, max(j-1, 0) // what is not recorded comes before j, and that is what is asked for next
	if !ok {
		return nil, 0, nil
	}
	r.last = j
	return b, j, nil
}

// Same gives the number of the entry recorded at a path, if that is the same inode in the same state as what is handed to
// it. It allocates nothing where its answer lies near the one before. An inode that cannot be told from others is none.
func (r *Reader) Same(basePath, dir string, name []byte, kind rightful.Kind, meta *rightful.Meta, id *rightful.EntryID) (number int, ok bool, err error) {
	n := r.baseIndex(basePath)
	if n < 0 || id.Weak() || r.bases[n].fs != id.FS {
		return 0, false, nil
	}
	b, j, err := r.find(n, bytesOf(dir, &r.dir), name)
	if b == nil || err != nil {
		return 0, false, err
	}
	if err := r.unpackWhich(b); err != nil {
		return 0, false, err
	}
	if b.ino[j] != id.Ino || b.birth[j] != id.Birth || len(id.Handle) > 0 {
		return 0, false, nil
	}
	s := &b.states[b.ids[j]]
	return b.number + j, s.kind == kind && s.unknown == 0 && s.meta.Equal(*meta), nil
}

// grain is how much older than a snapshot a time of change must be to tell that nothing was changed since. Clocks of file
// systems go in steps of up to 10 ms, so that a change in the step in which the entry was read leaves no trace.
const grain = time.Second

// Known gives the recorded state of the entry at a path, if it is the same inode and nothing of it was changed since: its
// time of change, which nobody but the kernel sets, is the recorded one, and had come to rest before the snapshot was begun.
// So it still has the ACLs and capabilities that were recorded. It is false where that is not certain, and for what was
// imported.
func (r *Reader) Known(basePath, dir string, name []byte, fs rightful.FSID, st *tree.Stat) (m rightful.Meta, ok bool) {
	n := r.baseIndex(basePath)
	if n < 0 || st.Birth == 0 || st.Ctime >= r.rested || r.bases[n].fs != fs {
		return m, false
	}
	b, j, err := r.find(n, bytesOf(dir, &r.dir), name)
	if b == nil || err != nil || r.unpackWhich(b) != nil { // then it is read, and the error comes again for who needs the record
		return m, false
	}
	s := &b.states[b.ids[j]]
	now := st.Meta()
	if b.ino[j] != st.Ino || b.birth[j] != st.Birth || b.ctime[j] != st.Ctime || s.kind != st.Kind || s.unknown != 0 ||
		s.meta.UID != now.UID || s.meta.GID != now.GID || s.meta.Mode != now.Mode {
		return m, false
	}
	return s.meta, true
}

// bytesOf gives the bytes of a string in a buffer that is used again, and copies only what is not there yet.
func bytesOf(s string, buf *[]byte) []byte {
	if string(*buf) != s {
		*buf = append((*buf)[:0], s...)
	}
	return *buf
}

// place gives the block that a path would lie in, or -1 where it comes before all.
func (r *Reader) place(base int, dir, name []byte) int {
	return sort.Search(len(r.blocks), func(i int) bool {
		b := &r.blocks[i]
		if b.base != base {
			return b.base > base
		}
		return compareKeys(b.first.dir, b.first.name, dir, name) > 0
	}) - 1
}

func (r *Reader) entry(i, j int) (*Entry, error) {
	b, err := r.block(i, true)
	if err != nil {
		return nil, err
	}
	e := &Entry{}
	b.fill(j, b.rel(j, b.dirOf(j).path), r.bases[r.blocks[i].base].fs, e)
	return e, nil
}

// ByID gives all entries recorded of an inode, which are several where it had several links. The first call reads the
// whole record and keeps 16 bytes for each entry.
func (r *Reader) ByID(id rightful.EntryID) ([]*Entry, error) {
	if r.inodes == nil {
		r.inodes = make([]inode, 0, r.Entries)
		for i := range r.blocks {
			b, err := r.block(i, true)
			if err != nil {
				return nil, err
			}
			for j, ino := range b.ino {
				r.inodes = append(r.inodes, inode{ino, uint32(i), uint32(j)})
			}
		}
		slices.SortStableFunc(r.inodes, func(a, b inode) int {
			switch {
			case a.ino < b.ino:
				return -1
			case a.ino > b.ino:
				return 1
			}
			return 0
		})
	}
	var out []*Entry
	at := sort.Search(len(r.inodes), func(i int) bool { return r.inodes[i].ino >= id.Ino })
	for ; at < len(r.inodes) && r.inodes[at].ino == id.Ino; at++ {
		e, err := r.entry(int(r.inodes[at].at), int(r.inodes[at].slot))
		if err != nil {
			return nil, err
		}
		if e.ID.Same(id) {
			out = append(out, e)
		}
	}
	return out, nil
}

// Verify reads everything and makes sure that it is what was written.
func (r *Reader) Verify() error {
	w := Writer{bases: r.bases, blocks: r.blocks, unread: r.unread}
	if name := contentHash(w.index(false)); name != r.File {
		return fmt.Errorf("its content is not that of its name: %w", ErrDamaged)
	}
	var b block
	for i := range r.blocks {
		x := &r.blocks[i]
		var raw [2][]byte
		for k, f := range []frame{x.what, x.which} {
			var err error
			if raw[k], err = r.unpack(f, nil); err != nil {
				return err
			}
			if h := sha256.Sum256(raw[k]); string(h[:len(f.hash)]) != string(f.hash[:]) {
				return fmt.Errorf("at byte %d: %w", f.off, ErrDamaged)
			}
		}
		if err := r.parseBlock(&b, i, raw[0]); err != nil {
			return err
		}
		if err := b.unpackWhich(raw[1]); err != nil {
			return fmt.Errorf("at byte %d: %w", x.which.off, err)
		}
	}
	return nil
}

// Sizes gives the bytes on disk of what was recorded: paths and metadata, identity and times, and the index.
func (r *Reader) Sizes() (what, which, index int64) {
	for i := range r.blocks {
		what += int64(r.blocks[i].what.length)
		which += int64(r.blocks[i].which.length)
	}
	return what, which, r.Bytes - what - which
}
