package archive

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"rightful"
	"rightful/internal/tree"

	"github.com/klauspost/compress/flate"
)

// zipSource reads the directory of a zip archive (PKWARE's APPNOTE 6.3.10) record by record, and each content where its
// record says it is. The standard library has a reader of its own, but that one holds the whole directory in memory, some
// 400 bytes for each 46 of a hostile file, and gives up all of it for one bad record.
//
// A bomb that overlaps its members, so that one stretch of data expands many times, is refused by what no honest archive
// exceeds: the members together are not longer than the file.
type zipSource struct {
	r    io.ReaderAt
	stop func() error
	zipDir
	rec   *bufio.Reader
	pos   int64 // of the next record
	room  int64 // what the data of members that are still to come may take
	local zipMember
	n     int // of the entry that was given last
	file  bool
	in    *bufio.Reader // reused for each content
	out   io.ReadCloser
	err   error
}

// A zipDir is where the directory is, and what can be told of names only by all of them.
type zipDir struct {
	at, end   int64
	backslash bool // it is what separates names
}

// A zipMember is where a content is.
type zipMember struct {
	at           int64 // of its own header
	packed, size int64
	method       uint16
	sum          uint32
}

const (
	zipStored  = 0
	zipDeflate = 8

	zipRecordLen = 46
	zipLocalLen  = 30
	zipEndLen    = 22

	zipEncrypted = 1 << 0
	zipUTF8      = 1 << 11
	zipMasked    = 1 << 13 // the directory is encrypted, and values in local headers are not true
)

// isZip reports whether a stream begins as an archive does: with a member, or with the end of an empty one.
func isZip(head []byte) bool {
	return bytes.HasPrefix(head, []byte("PK\x03\x04")) || bytes.HasPrefix(head, []byte("PK\x05\x06"))
}

var errZip = errors.New("zip: damaged")

func newZip(r io.ReaderAt, size int64, stop func() error) (*zipSource, error) {
	s := &zipSource{r: r, stop: stop}
	var err error
	if s.at, s.end, err = zipFind(r, size); err != nil {
		return nil, err
	}
	s.rewind()
	if err := s.lookAtNames(); err != nil {
		return nil, err
	}
	s.rewind()
	s.room = s.at
	return s, nil
}

func (s *zipSource) rewind() {
	s.pos = s.at
	s.rec = bufio.NewReaderSize(io.NewSectionReader(s.r, s.at, s.end-s.at), 64<<10)
}

// zipFind finds the directory by the record at the end, behind which is only a comment.
func zipFind(r io.ReaderAt, size int64) (at, end int64, err error) {
	tail := make([]byte, min(size, zipEndLen+1<<16))
	from := size - int64(len(tail))
	if n, err := r.ReadAt(tail, from); n < len(tail) {
		return 0, 0, eof(err)
	}
	i := len(tail)
	for {
		i = bytes.LastIndex(tail[:i], []byte("PK\x05\x06"))
		if i < 0 {
			return 0, 0, errors.New("zip: its directory is missing: it is cut short, or one part of several")
		}
		if i+zipEndLen <= len(tail) && i+zipEndLen+int(binary.LittleEndian.Uint16(tail[i+20:])) <= len(tail) {
			break
		}
	}
	le := binary.LittleEndian
	rec := tail[i:]
	end = from + int64(i)
	disk, length, at := uint32(le.Uint16(rec[4:])), int64(le.Uint32(rec[12:])), int64(le.Uint32(rec[16:]))
	if disk == 0xffff || length == 0xffffffff || at == 0xffffffff || le.Uint16(rec[10:]) == 0xffff {
		var b [56]byte
		if end >= 20 {
			if _, err := r.ReadAt(b[:20], end-20); err != nil {
				return 0, 0, eof(err)
			}
		}
		if far := int64(le.Uint64(b[8:])); string(b[:4]) == "PK\x06\x07" && far >= 0 && far <= end-20-int64(len(b)) {
			if _, err := r.ReadAt(b[:], far); err != nil {
				return 0, 0, eof(err)
			}
			if string(b[:4]) != "PK\x06\x06" {
				return 0, 0, errZip
			}
			end = far
			disk, length, at = le.Uint32(b[16:]), int64(le.Uint64(b[40:])), int64(le.Uint64(b[48:]))
		}
	}
	switch {
	case disk != 0:
		return 0, 0, errors.New("zip: it is one part of several")
	case at < 0 || length < 0 || at > end || length > end-at:
		return 0, 0, errZip
	}
	return at, at + length, nil
}

// A zipRecord is an entry of the directory.
type zipRecord struct {
	zipMember
	pos         int64
	host        byte // of the program that wrote it
	flags       uint16
	date        uint32
	attrs       uint32
	name, extra []byte
}

// record reads the next record; io.EOF at the end of the directory.
func (s *zipSource) record() (*zipRecord, error) {
	if s.pos >= s.end {
		return nil, io.EOF
	}
	if err := s.stop(); err != nil {
		return nil, err
	}
	var b [zipRecordLen]byte
	if _, err := io.ReadFull(s.rec, b[:]); err != nil {
		return nil, eof(err)
	}
	if string(b[:4]) != "PK\x01\x02" {
		return nil, errZip
	}
	le := binary.LittleEndian
	name, extra, comment := int(le.Uint16(b[28:])), int(le.Uint16(b[30:])), int(le.Uint16(b[32:]))
	z := &zipRecord{
		pos: s.pos, host: b[5], flags: le.Uint16(b[8:]), date: le.Uint32(b[12:]), attrs: le.Uint32(b[38:]),
		zipMember: zipMember{
			method: le.Uint16(b[10:]), sum: le.Uint32(b[16:]), packed: int64(le.Uint32(b[20:])), size: int64(le.Uint32(b[24:])),
			at: int64(le.Uint32(b[42:])),
		},
	}
	rest := make([]byte, name+extra)
	if _, err := io.ReadFull(s.rec, rest); err != nil {
		return nil, eof(err)
	}
	z.name, z.extra = rest[:name], rest[name:]
	if _, err := s.rec.Discard(comment); err != nil {
		return nil, eof(err)
	}
	s.pos += int64(zipRecordLen + name + extra + comment)
	// What does not fit is in a field of its own, in this order.
	if big := z.field(0x0001); big != nil {
		for _, v := range []*int64{&z.size, &z.packed, &z.at} {
			if *v != 0xffffffff {
				continue
			}
			if len(big) < 8 {
				break
			}
			*v, big = int64(le.Uint64(big)), big[8:]
		}
	}
	return z, nil
}

// field finds an extra field; nil where there is none.
func (z *zipRecord) field(id uint16) []byte {
	le := binary.LittleEndian
	for b := z.extra; len(b) >= 4; {
		n := int(le.Uint16(b[2:]))
		if n > len(b)-4 {
			return nil
		}
		if le.Uint16(b) == id {
			return b[4 : 4+n]
		}
		b = b[4+n:]
	}
	return nil
}

// unix reports whether the attributes of a record are those of a unix file, as they are by programs for unix and macOS.
func (z *zipRecord) unix() bool { return z.host == 3 || z.host == 19 }

// time is when the file was changed: in UTC by the fields of Info-ZIP and Windows, else by a clock of an unknown zone, which
// is taken for ours.
func (z *zipRecord) time() (time.Time, bool) {
	le := binary.LittleEndian
	if f := z.field(0x5455); len(f) >= 5 && f[0]&1 != 0 {
		return time.Unix(int64(int32(le.Uint32(f[1:]))), 0), true
	}
	if f := z.field(0x000a); len(f) >= 16 && le.Uint16(f[4:]) == 1 {
		const since1601 = 11644473600 // seconds before 1970
		ticks := le.Uint64(f[8:])     // of 100 ns
		return time.Unix(int64(ticks/1e7)-since1601, int64(ticks%1e7)*100), true
	}
	d, t := int(z.date>>16), int(z.date&0xffff)
	if d == 0 {
		return time.Time{}, false
	}
	return time.Date(1980+d>>9, time.Month(d>>5&15), d&31, t>>11, t>>5&63, t&31*2, 0, time.Local), true
}

// Next implements [Source].
func (s *zipSource) Next() (Entry, error) {
	s.n, s.file = s.n+1, false
	if s.err != nil {
		return Entry{}, s.err
	}
	z, err := s.record()
	if err != nil {
		if s.err = err; err != io.EOF {
			s.err = fmt.Errorf("byte %d: %w", s.pos, err)
		}
		return Entry{}, s.err
	}
	e := Entry{At: fmt.Sprintf("byte %d", z.pos), Kind: rightful.KindFile}
	name, dir := "", false
	if name, dir, e.Recoded = s.name(z); dir {
		e.Kind = rightful.KindDir
	}
	if e.Name, err = clean(e.At, name); err != nil {
		return Entry{}, err
	}
	if z.unix() && z.attrs>>16 != 0 {
		e.Mode, e.Known = rightful.Mode(z.attrs>>16)&rightful.ModeAll, KnownMode|KnownMask
		if kind := tree.KindOf(z.attrs >> 16); kind != rightful.KindUnknown && !dir {
			e.Kind = kind
		}
	}
	if e.Name == "" && !dir {
		return Entry{}, reject(e.At, name, "a %s without a name", e.Kind)
	}
	if t, ok := z.time(); ok {
		e.Time, e.Known = t, e.Known|KnownTime
	}
	if why := s.refuse(z, &e); why != "" {
		return Entry{}, reject(e.At, e.Name, "%s", why)
	}
	s.local = z.zipMember
	switch e.Kind {
	case rightful.KindFile:
		s.file = true
		e.Size, e.Known = z.size, e.Known|KnownSize
	case rightful.KindSymlink:
		target, err := io.ReadAll(s.content(s.local))
		if err != nil {
			return Entry{}, reject(e.At, e.Name, "%v", err)
		}
		if err := e.symlink(string(target)); err != nil {
			return Entry{}, err
		}
	}
	return e, nil
}

// refuse says why an entry is left out.
func (s *zipSource) refuse(z *zipRecord, e *Entry) string {
	if e.Kind == rightful.KindBlock || e.Kind == rightful.KindChar {
		return "a device; no backup makes one right"
	}
	if e.Kind != rightful.KindFile && e.Kind != rightful.KindSymlink {
		return ""
	}
	took := zipLocalLen + int64(len(z.name)) + z.packed
	switch {
	case z.flags&(zipEncrypted|zipMasked) != 0:
		return "it is encrypted"
	case z.method != zipStored && z.method != zipDeflate:
		return fmt.Sprintf("it is packed by the method %d; only 0 (stored) and 8 (deflate) are read", z.method)
	case z.packed < 0 || z.size < 0 || z.at < 0 || z.packed > s.at || z.at > s.at-took:
		return "its data lies outside the archive"
	case z.method == zipStored && z.size != z.packed, z.size > 0 && z.size/maxRatio > z.packed:
		return fmt.Sprintf("it says that %d bytes expand to %d", z.packed, z.size)
	case e.Kind == rightful.KindSymlink && z.size > maxTarget:
		return fmt.Sprintf("a link to %d bytes; %d are read", z.size, maxTarget)
	case took > s.room:
		return "its data is that of others too"
	}
	s.room -= took
	return ""
}

// Content implements [Source].
func (s *zipSource) Content() io.Reader {
	if !s.file {
		return nil
	}
	return s.content(s.local)
}

// Close implements [Source].
func (s *zipSource) Close() error { return nil }

func (s *zipSource) content(m zipMember) io.Reader {
	return &zipContent{s: s, m: m, of: s.n, sum: crc32.NewIEEE()}
}

// A zipContent is the content of one member, whose length and checksum are verified at its end.
type zipContent struct {
	s   *zipSource
	m   zipMember
	of  int
	r   io.Reader
	n   int64
	sum interface {
		io.Writer
		Sum32() uint32
	}
	err error
}

// Read implements [io.Reader].
func (c *zipContent) Read(b []byte) (int, error) {
	if c.err == nil && c.of != c.s.n {
		c.err = errStale
	}
	if c.err == nil {
		c.err = c.s.stop()
	}
	if c.err == nil && c.r == nil {
		c.err = c.open()
	}
	if c.err != nil {
		return 0, c.err
	}
	if left := c.m.size - c.n; int64(len(b)) > left+1 { // one more tells that there is no more
		b = b[:left+1]
	}
	n, err := c.r.Read(b)
	c.n += int64(n)
	if c.n > c.m.size {
		c.err = fmt.Errorf("it is longer than the %d bytes that it should have", c.m.size)
		return 0, c.err
	}
	c.sum.Write(b[:n])
	switch {
	case err == io.EOF && c.n < c.m.size:
		err = io.ErrUnexpectedEOF
	case err == io.EOF && c.sum.Sum32() != c.m.sum:
		err = errors.New("its checksum is wrong")
	}
	c.err = err
	return n, err
}

// open goes to the data, which begins behind a header of the member's own. Its name there may have another length.
func (c *zipContent) open() error {
	var h [zipLocalLen]byte
	if _, err := c.s.r.ReadAt(h[:], c.m.at); err != nil {
		return eof(err)
	}
	if string(h[:4]) != "PK\x03\x04" {
		return errZip
	}
	at := c.m.at + zipLocalLen + int64(binary.LittleEndian.Uint16(h[26:])) + int64(binary.LittleEndian.Uint16(h[28:]))
	if at > c.s.at-c.m.packed {
		return errZip
	}
	data := io.NewSectionReader(c.s.r, at, c.m.packed)
	if c.m.method == zipStored {
		c.r = data
		return nil
	}
	if c.s.in == nil {
		c.s.in = bufio.NewReaderSize(data, 64<<10)
		c.s.out = flate.NewReader(c.s.in)
	} else {
		c.s.in.Reset(data)
		if err := c.s.out.(flate.Resetter).Reset(c.s.in, nil); err != nil {
			return err
		}
	}
	c.r = c.s.out
	return nil
}

// lookAtNames reads all names for what one alone does not tell: programs on Windows that say they are for unix separate
// names by backslashes, which in names of unix are ordinary characters. An archive without any slash has them from there.
func (s *zipSource) lookAtNames() error {
	for {
		z, err := s.record()
		switch {
		case err != nil && s.stop() != nil:
			return err
		case err != nil: // the end; or a damaged one, before which everything is read
			return nil
		case bytes.IndexByte(z.name, '/') >= 0:
			s.backslash = false
			return nil
		}
		s.backslash = s.backslash || bytes.IndexByte(z.name, '\\') >= 0
	}
}
