package archive

import (
	"bufio"
	"bytes"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"rightful"
	"rightful/internal/state"
)

// A File is where a survey keeps what it read, so that memory does not grow with the number of entries. Nobody else may
// read it.
type File interface {
	io.Writer
	io.ReaderAt
}

// maxSpool bounds what a survey writes: MaxEntries of some 200 bytes.
const maxSpool = 4 << 30

// errSpool says that a source holds more than any account does.
var errSpool = fmt.Errorf("more than %d GiB of names and attributes", maxSpool>>30)

// A spool is a file of packed records, each behind its length.
type spool struct {
	f   File
	w   *bufio.Writer
	off int64
	p   state.Packer
}

func newSpool(f File) *spool { return &spool{f: f, w: bufio.NewWriterSize(f, 256<<10)} }

// put appends a record that pack packs.
func (s *spool) put(pack func(*state.Packer)) error {
	s.p.B = s.p.B[:0]
	pack(&s.p)
	return s.append(s.p.B)
}

func (s *spool) append(b []byte) error {
	var n [binary.MaxVarintLen32]byte
	head := binary.PutUvarint(n[:], uint64(len(b)))
	s.off += int64(head + len(b))
	if s.off > maxSpool {
		return errSpool
	}
	if _, err := s.w.Write(n[:head]); err != nil {
		return err
	}
	_, err := s.w.Write(b)
	return err
}

// A spoolReader reads the records in a part of a spool.
type spoolReader struct {
	r   *bufio.Reader
	buf []byte
}

// read begins to read what was written between two places.
func (s *spool) read(from, to int64, buffer int) (*spoolReader, error) {
	if err := s.w.Flush(); err != nil {
		return nil, err
	}
	return &spoolReader{r: bufio.NewReaderSize(io.NewSectionReader(s.f, from, to-from), buffer)}, nil
}

// next gives a record, valid until the next call; io.EOF at the end.
func (r *spoolReader) next() ([]byte, error) {
	n, err := binary.ReadUvarint(r.r)
	if err != nil {
		return nil, err
	}
	if uint64(cap(r.buf)) < n {
		r.buf = make([]byte, n+n/2)
	}
	r.buf = r.buf[:n]
	_, err = io.ReadFull(r.r, r.buf)
	return r.buf, eof(err)
}

func packEntry(p *state.Packer, e *Entry) {
	p.Text(e.Name)
	p.Text(e.At)
	p.Byte(byte(e.Kind))
	p.Uint(uint64(e.Known))
	hard := byte(0)
	if e.HardLink {
		hard = 1
	}
	p.Byte(hard)
	p.Uint(uint64(e.UID))
	p.Uint(uint64(e.GID))
	p.Text(e.User)
	p.Text(e.Group)
	p.Uint(uint64(e.Mode))
	packACL(p, e.ACL)
	packACL(p, e.Default)
	p.Int(e.Size)
	p.Int(e.Time.Unix())
	p.Text(e.Unreadable)
	set := byte(0)
	if len(e.Caps) > 0 {
		set = 1
	}
	p.Byte(set)
}

func unpackEntry(b []byte) (Entry, error) {
	u := state.Unpacker{B: b}
	e := Entry{Name: u.Text(), At: u.Text(), Kind: rightful.Kind(u.Byte()), Known: Known(u.Uint()), HardLink: u.Byte() == 1}
	e.UID, e.GID, e.User, e.Group = u.Uint32(), u.Uint32(), u.Text(), u.Text()
	e.Mode = rightful.Mode(u.Uint())
	e.ACL, e.Default = unpackACL(&u), unpackACL(&u)
	e.Size, e.Time, e.Unreadable = u.Int(), time.Unix(u.Int(), 0), u.Text()
	if u.Byte() == 1 {
		e.Caps = []byte{0} // that there were some is all that is asked for
	}
	return e, u.Err
}

// A sorter sorts records by a key of bytes, those of one key in the order in which they came, in bounded memory: runs are
// sorted and written behind one another, then merged.
type sorter struct {
	s     *spool
	arena []byte
	recs  []sortRec
	runs  [][2]int64
}

type sortRec struct{ off, key, all int }

// sortMemory is the size of one run; the merge then takes runBuffer for each.
const (
	sortMemory = 24 << 20
	runBuffer  = 64 << 10
)

// put adds a record that begins with its key of n bytes.
func (s *sorter) put(rec []byte, n int) error {
	s.recs = append(s.recs, sortRec{len(s.arena), n, len(rec)})
	s.arena = append(s.arena, rec...)
	if len(s.arena)+24*len(s.recs) < sortMemory {
		return nil
	}
	return s.flush()
}

func (s *sorter) key(r sortRec) []byte { return s.arena[r.off : r.off+r.key] }

func (s *sorter) flush() error {
	slices.SortStableFunc(s.recs, func(a, b sortRec) int { return bytes.Compare(s.key(a), s.key(b)) })
	from := s.s.off
	for _, r := range s.recs {
		err := s.s.put(func(p *state.Packer) {
			p.Uint(uint64(r.key))
			p.B = append(p.B, s.arena[r.off:r.off+r.all]...)
		})
		if err != nil {
			return err
		}
	}
	s.runs = append(s.runs, [2]int64{from, s.s.off})
	s.arena, s.recs = s.arena[:0], s.recs[:0]
	return nil
}

// A run is one sorted part while parts are merged.
type run struct {
	r        *spoolReader
	n        int
	key, rec []byte
}

func (r *run) next() error {
	b, err := r.r.next()
	if err != nil {
		return err
	}
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)-used) {
		return state.ErrMalformed
	}
	r.rec = b[used:]
	r.key = r.rec[:n]
	return nil
}

type runHeap struct{ runs []*run }

func (h *runHeap) Len() int { return len(h.runs) }
func (h *runHeap) Less(i, j int) bool {
	if c := bytes.Compare(h.runs[i].key, h.runs[j].key); c != 0 {
		return c < 0
	}
	return h.runs[i].n < h.runs[j].n
}
func (h *runHeap) Swap(i, j int) { h.runs[i], h.runs[j] = h.runs[j], h.runs[i] }
func (h *runHeap) Push(any)      {}
func (h *runHeap) Pop() any {
	last := h.runs[len(h.runs)-1]
	h.runs = h.runs[:len(h.runs)-1]
	return last
}

// each hands the records over in order; a record is valid during the call.
func (s *sorter) each(fn func(key, rec []byte) error) error {
	if err := s.flush(); err != nil {
		return err
	}
	s.arena, s.recs = nil, nil
	h := &runHeap{}
	for i, at := range s.runs {
		r, err := s.s.read(at[0], at[1], runBuffer)
		if err != nil {
			return err
		}
		one := &run{r: r, n: i}
		if err := one.next(); err == nil {
			h.runs = append(h.runs, one)
		} else if !errors.Is(err, io.EOF) {
			return err
		}
	}
	heap.Init(h)
	for len(h.runs) > 0 {
		first := h.runs[0]
		if err := fn(first.key, first.rec); err != nil {
			return err
		}
		switch err := first.next(); {
		case err == nil:
			heap.Fix(h, 0)
		case errors.Is(err, io.EOF):
			heap.Pop(h)
		default:
			return err
		}
	}
	return nil
}
