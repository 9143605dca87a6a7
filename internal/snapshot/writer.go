package snapshot

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"

	"rightful"
	"rightful/internal/state"
	"rightful/internal/tree"

	"github.com/klauspost/compress/zstd"
)

// formatVersion is the version of both file formats. A file of a newer one is refused.
const formatVersion = 1

const (
	fileMagic = "RFSNAP\r\n"
	endMagic  = "RFSNEND\n"
	headSize  = len(fileMagic) + 4 + 4
	tailSize  = 8 + 4 + 4 + 4 + 4 + len(endMagic)
)

// frame is where one half of a block lies, and what is in it.
type frame struct {
	off           int64
	length, plain uint32
	crc           uint32
	hash          [16]byte
}

// indexed is what the index says of a block.
type indexed struct {
	base        int
	first       key
	n           int
	number      int // of its first entry; not stored
	what, which frame
}

type base struct {
	path string
	fs   rightful.FSID
}

// An Unread is what could not be read when the snapshot was taken: nothing is known of it and of what lies beneath.
type Unread struct {
	Base, Rel string
	Reason    string
}

// maxUnread bounds how many of them are kept; Account.Unread counts all.
const maxUnread = 10000

// A Writer records one account. It is for one goroutine. Entries come base by base, and within one in the order of
// [Compare]; the base itself comes first.
type Writer struct {
	t       *Taking
	f       *os.File
	w       *bufio.Writer
	off     int64
	err     error
	account Account
	bases   []base
	blocks  []indexed
	unread  []Unread
	p       *packer
	lastDir []byte
	last    []byte // name; nil where nothing came yet
	any     bool
	packed  []byte
	// previous, if not nil, is an older record: a frame that is there already is copied, which is cheaper than to pack it.
	previous *Reader
}

// ErrOrder is given for an entry that comes at or before the one before it: a duplicate, or not sorted by [Compare].
var ErrOrder = errors.New("the entry is recorded already, or out of order")

// Base begins a directory that is recorded with all beneath it.
func (w *Writer) Base(path string, fs rightful.FSID) error {
	if slices.ContainsFunc(w.bases, func(b base) bool { return b.path == path }) {
		return fmt.Errorf("record base %q: %w", path, ErrOrder)
	}
	w.flush()
	w.bases = append(w.bases, base{path, fs})
	w.account.Bases = append(w.account.Bases, path)
	w.any = false
	return w.err
}

// Add records one entry. What is wrong with it is an error that leaves the writer usable; an error of writing stays.
func (w *Writer) Add(e *Entry) error {
	dir, name := split(e.Rel)
	return w.add([]byte(dir), []byte(name), e)
}

func (w *Writer) add(dir, name []byte, e *Entry) error {
	sibling := w.any && string(dir) == string(w.lastDir) // of the one before: then the directory has been looked at
	switch {
	case len(w.bases) == 0:
		return errors.New("record entry: no base")
	case len(name) > maxName || len(dir) > maxDir || !(sibling && isName(name)) && !names(dir, name):
		return fmt.Errorf("record %q: not a path that a file system can have", rightful.JoinPath(string(dir), string(name)))
	case sibling && bytes.Compare(w.last, name) >= 0 || w.any && !sibling && tree.ComparePaths(w.lastDir, dir) >= 0:
		return fmt.Errorf("record %q: %w", rightful.JoinPath(string(dir), string(name)), ErrOrder)
	}
	w.any = true
	if !sibling {
		w.lastDir = append(w.lastDir[:0], dir...)
	}
	w.last = append(w.last[:0], name...)
	w.account.Entries++
	if w.p.add(dir, name, e) {
		w.flush()
	}
	return w.err
}

// names reports whether a path is made of names that a directory can hold; the base itself has none.
func names(dir, name []byte) bool {
	if len(dir) == 0 && len(name) == 0 {
		return true
	}
	for len(dir) > 0 {
		part, rest, more := bytes.Cut(dir, []byte{'/'})
		if !isName(part) || more && len(rest) == 0 {
			return false
		}
		dir = rest
	}
	return isName(name)
}

func isName(b []byte) bool {
	return len(b) > 0 && string(b) != "." && string(b) != ".." && bytes.IndexByte(b, 0) < 0
}

// Err is the error of writing that ended the record, nil as long as it can go on.
func (w *Writer) Err() error { return w.err }

// Unread records that something could not be read.
func (w *Writer) Unread(rel, reason string) {
	w.account.Unread++
	if len(w.unread) < maxUnread && len(w.bases) > 0 {
		w.unread = append(w.unread, Unread{w.bases[len(w.bases)-1].path, rel, reason})
	}
}

// flush ends the block.
func (w *Writer) flush() {
	if w.p.n == 0 || w.err != nil {
		return
	}
	b := indexed{base: len(w.bases) - 1, first: w.p.first, n: w.p.n}
	b.what, b.which = w.frame(w.p.what()), w.frame(w.p.which())
	w.blocks = append(w.blocks, b)
	w.p.reset()
}

func checksum(off int64, b []byte) uint32 {
	var at [8]byte
	binary.LittleEndian.PutUint64(at[:], uint64(off))
	return crc32.Update(crc32.Checksum(at[:], castagnoli), castagnoli, b)
}

func (w *Writer) frame(plain []byte) frame {
	f := frame{off: w.off, plain: uint32(len(plain))}
	h := sha256.Sum256(plain)
	copy(f.hash[:], h[:])
	if w.packed = w.previous.packed(&f, w.packed); len(w.packed) == 0 {
		w.packed = w.t.zstd.EncodeAll(plain, w.packed)
	}
	f.length, f.crc = uint32(len(w.packed)), checksum(w.off, w.packed)
	w.write(w.packed)
	return f
}

func (w *Writer) write(b []byte) {
	if w.err == nil {
		_, w.err = w.w.Write(b)
		w.off += int64(len(b))
	}
}

// index packs the index. Without frames it is what the account's file is named by.
func (w *Writer) index(frames bool) []byte {
	var p state.Packer
	p.Uint(uint64(len(w.bases)))
	for _, b := range w.bases {
		p.Text(b.path)
		p.Text(string(b.fs))
	}
	p.Uint(uint64(len(w.blocks)))
	for i := range w.blocks {
		b := &w.blocks[i]
		p.Uint(uint64(b.base))
		p.Bytes(b.first.dir)
		p.Bytes(b.first.name)
		p.Uint(uint64(b.n))
		for _, f := range []*frame{&b.what, &b.which} {
			if frames {
				p.Uint(uint64(f.length))
				p.Uint(uint64(f.plain))
				p.B = binary.LittleEndian.AppendUint32(p.B, f.crc)
			}
			p.B = append(p.B, f.hash[:]...)
		}
	}
	p.Uint(uint64(len(w.unread)))
	for _, u := range w.unread {
		p.Uint(uint64(slices.IndexFunc(w.bases, func(b base) bool { return b.path == u.Base })))
		p.Text(u.Rel)
		p.Text(u.Reason)
	}
	return p.B
}

func contentHash(index []byte) string {
	h := sha256.Sum256(index)
	return hex.EncodeToString(h[:])
}

// header is the beginning of every account file.
func header() []byte {
	b := binary.LittleEndian.AppendUint32([]byte(fileMagic), formatVersion)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// newWriter begins an account file.
func newWriter(t *Taking, a Account, f *os.File) *Writer {
	a.Bases, a.Entries, a.Unread = []string{}, 0, 0
	w := &Writer{t: t, f: f, w: bufio.NewWriterSize(f, 64<<10), account: a, p: t.packer()}
	w.write(header())
	return w
}

// finish writes what is left and gives the file's name. The file is not synced.
func (w *Writer) finish() (name string, err error) {
	w.flush()
	at, plain := w.off, w.index(true)
	packed := w.t.zstd.EncodeAll(plain, nil)
	w.write(packed)
	tail := binary.LittleEndian.AppendUint64(nil, uint64(at))
	tail = binary.LittleEndian.AppendUint32(tail, uint32(len(packed)))
	tail = binary.LittleEndian.AppendUint32(tail, uint32(len(plain)))
	tail = binary.LittleEndian.AppendUint32(tail, checksum(at, packed))
	tail = binary.LittleEndian.AppendUint32(tail, crc32.Checksum(tail, castagnoli))
	w.write(append(tail, endMagic...))
	if w.err == nil {
		w.err = w.w.Flush()
	}
	w.account.Bytes = w.off
	w.t.spare(w.p)
	return contentHash(w.index(false)), w.err
}

// Close makes the account durable and part of the snapshot.
func (w *Writer) Close() error {
	name, err := w.finish()
	if err == nil {
		w.account.File = name
		err = w.t.keep(w)
	}
	if err != nil {
		w.Discard()
		return fmt.Errorf("record account %q: %w", w.account.Account, state.Cause(err))
	}
	return w.f.Close()
}

// Discard throws away what was written.
func (w *Writer) Discard() { state.Drop(w.f) }

func newZstd() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderCRC(false), zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true), zstd.WithEncoderConcurrency(8))
}
