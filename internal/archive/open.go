package archive

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// A Format is a kind of source.
type Format string

// The formats.
const (
	Tar     Format = "tar"
	Zip     Format = "zip"
	Mtree   Format = "mtree"
	Getfacl Format = "getfacl"
	Restic  Format = "restic"
	Borg    Format = "borg"
	Dir     Format = "dir"
)

// Formats lists the formats of files.
var Formats = []Format{Tar, Zip, Mtree, Getfacl, Restic, Borg}

// An Opened is a source, with what it was recognised as.
type Opened struct {
	Source
	Format      Format
	Compression string // "", "gzip", "xz", "zstd", "bzip2"
	// Taken is when the backup was made, where the source itself says so.
	Taken time.Time
}

// Open reads r, which is of the given format, or of the one that its beginning shows where format is "". The reading ends
// with the context's error when that is done. What cannot seek, a pipe, is read as it comes; contents that are not wanted
// are then read over.
func Open(ctx context.Context, r io.Reader, format Format) (*Opened, error) {
	s, seeks := r.(io.ReadSeeker)
	if seeks { // a pipe has the method too
		_, err := s.Seek(0, io.SeekCurrent)
		seeks = err == nil
	}
	var head []byte
	var err error
	if seeks {
		head, err = peekAt(s)
	} else {
		b := bufio.NewReaderSize(r, sniffLen)
		if head, err = b.Peek(sniffLen); err == io.EOF {
			err = nil
		}
		r = b
	}
	if err != nil {
		return nil, err
	}
	o := &Opened{Format: format}
	if format == Zip || format == "" && isZip(head) {
		return o, o.zip(ctx, r)
	}
	in := &counter{r: r, stop: ctx.Err}
	var body io.Reader = in
	closer := func() {}
	if o.Compression = compression(head); o.Compression != "" {
		body, closer, err = decompress(o.Compression, in)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", o.Compression, err)
		}
		b := bufio.NewReaderSize(body, sniffLen)
		head, err = b.Peek(sniffLen)
		if err != nil && err != io.EOF && len(head) == 0 { // what is cut gives what comes before
			closer()
			return nil, fmt.Errorf("read %s: %w", o.Compression, err)
		}
		body = b
	} else if seeks {
		body = newSeeker(in, s)
	}
	if o.Format == "" {
		o.Format = sniff(head)
	}
	if o.Format == Restic {
		o.Taken = resticTaken(head)
	}
	switch o.Format {
	case Tar:
		o.Source = newNester(newTar(body, closer))
	case Mtree:
		o.Source = newMtree(body, closer)
	case Getfacl:
		o.Source = newGetfacl(body, closer)
	case Restic:
		o.Source = newListing(body, closer, resticLine)
	case Borg:
		o.Source = newListing(body, closer, borgLine)
	default:
		closer()
		return nil, fmt.Errorf("read as %q: %w", o.Format, ErrFormat)
	}
	return o, nil
}

// zip opens what has its directory at its end.
func (o *Opened) zip(ctx context.Context, r io.Reader) error {
	o.Format = Zip
	f, ok := r.(interface {
		io.ReaderAt
		io.Seeker
	})
	if !ok {
		return errors.New("read zip: its directory is at its end, which a pipe does not reach; it must be a file")
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("read zip: %w", err)
	}
	z, err := newZip(f, size, ctx.Err)
	if err != nil {
		return fmt.Errorf("read zip: %w", err)
	}
	o.Source = newNester(z)
	return nil
}

// sniffLen is how much of a stream is looked at to recognise it. The first line of a listing by restic names every path
// that the snapshot is of.
const sniffLen = 16 << 10

func peekAt(f io.ReadSeeker) ([]byte, error) {
	b := make([]byte, sniffLen)
	n, err := io.ReadFull(f, b)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return nil, err
	}
	_, err = f.Seek(0, io.SeekStart)
	return b[:n], err
}

// compression names what a stream begins like.
func compression(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return "gzip"
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return "xz"
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}),
		len(head) >= 4 && head[0]&0xf0 == 0x50 && head[1] == 0x2a && head[2] == 0x4d && head[3] == 0x18: // a skippable frame
		return "zstd"
	case len(head) > 3 && bytes.HasPrefix(head, []byte("BZh")) && head[3] >= '1' && head[3] <= '9':
		return "bzip2"
	}
	return ""
}

// decompress opens a compressed stream whose memory and expansion are bounded.
func decompress(kind string, in *counter) (io.Reader, func(), error) {
	var r io.Reader
	closer := func() {}
	switch kind {
	case "gzip":
		z, err := gzip.NewReader(bufio.NewReaderSize(in, 128<<10))
		if err != nil {
			return nil, nil, err
		}
		r = z
	case "xz":
		r = newXZ(bufio.NewReaderSize(in, 128<<10))
	case "zstd":
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		r, closer = z, z.Close
	default:
		r = bzip2.NewReader(bufio.NewReaderSize(in, 128<<10))
	}
	return &bounded{r: r, in: in}, closer, nil
}

// sniff names the format of a stream by its beginning; "" for none that is known.
func sniff(head []byte) Format {
	if isTar(head) {
		return Tar
	}
	if bytes.IndexByte(head, 0) >= 0 {
		return ""
	}
	for line := range bytes.Lines(head) {
		line = bytes.TrimRight(line, "\r\n")
		switch trimmed := bytes.TrimLeft(line, " \t"); {
		case len(trimmed) == 0:
		case bytes.HasPrefix(line, []byte("# file: ")):
			return Getfacl
		case bytes.HasPrefix(line, []byte("#mtree")), bytes.HasPrefix(line, []byte("/set ")):
			return Mtree
		case line[0] == '#':
		case line[0] == '{' && (bytes.Contains(line, []byte(`"struct_type"`)) || bytes.Contains(line, []byte(`"message_type"`))):
			return Restic
		case line[0] == '{' && bytes.Contains(line, []byte(`"path"`)):
			return Borg
		case bytes.Contains(line, []byte(" type=")), bytes.Contains(line, []byte(" mode=")), bytes.Contains(line, []byte("\ttype=")):
			return Mtree
		default:
			return ""
		}
	}
	return ""
}

// isTar recognises a tar header by its checksum, which all kinds have, the oldest included: the sum of all bytes, those
// of the checksum taken as spaces. Some old programs summed signed bytes.
func isTar(head []byte) bool {
	if len(head) < 512 {
		return false
	}
	field := strings.Trim(string(head[148:156]), " \x00")
	want, err := strconv.ParseInt(field, 8, 64)
	if err != nil {
		return false
	}
	var sum, signed int64
	for i, c := range head[:512] {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int64(c)
		signed += int64(int8(c))
	}
	return want == sum || want == signed
}

// A counter counts what is read, and ends the reading with what stop gives.
type counter struct {
	r    io.Reader
	n    int64
	stop func() error // nil: never
}

func (c *counter) Read(b []byte) (int, error) {
	if err := c.stopped(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

func (c *counter) stopped() error {
	if c.stop == nil {
		return nil
	}
	return c.stop()
}

// A seeker is a counter in a file, where what is not needed is skipped without being read. It reads ahead a little, so that a
// small file and the header before it cost no call each.
type seeker struct {
	counter
	f io.ReadSeeker
	b *bufio.Reader
}

// readAhead is what the kernel reads at once too.
const readAhead = 64 << 10

// newSeeker makes a seeker of a counter at the beginning of a file.
func newSeeker(c *counter, f io.ReadSeeker) *seeker {
	b := bufio.NewReaderSize(f, readAhead)
	return &seeker{counter: counter{r: b, n: c.n, stop: c.stop}, f: f, b: b}
}

// Seek implements [io.Seeker], but not from the end.
func (c *seeker) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += c.n
	case io.SeekStart:
	default:
		return c.n, errors.ErrUnsupported
	}
	if skip := off - c.n; skip >= 0 && skip <= int64(c.b.Buffered()) {
		if _, err := c.b.Discard(int(skip)); err != nil {
			return c.n, err
		}
		c.n = off
		return off, nil
	}
	n, err := c.f.Seek(off, io.SeekStart)
	if err == nil {
		c.b.Reset(c.f)
		c.n = n
	}
	return c.n, err
}

// ErrBomb says that a compressed stream expands beyond what any honest one does.
var ErrBomb = fmt.Errorf("expands more than %d times: made to exhaust who reads it", maxRatio)

// A bounded reader ends with ErrBomb.
type bounded struct {
	r   io.Reader
	in  *counter
	out int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if err := b.in.stopped(); err != nil { // what is read ahead may expand for long
		return 0, err
	}
	n, err := b.r.Read(p)
	b.out += int64(n)
	if b.out > ratioFree+maxRatio*b.in.n {
		return 0, ErrBomb
	}
	return n, err
}

// lines reads a listing line by line.
type lines struct {
	r    *bufio.Reader
	n    int // the number of the line that was read last
	long []byte
}

func newLines(r io.Reader) *lines { return &lines{r: bufio.NewReaderSize(r, 64<<10)} }

// errLong is what [lines.next] gives, with an empty line, for one that is longer than any honest one.
var errLong = fmt.Errorf("a line of more than %d bytes", maxLine)

// next gives a line without its end; it is valid until the next call.
func (l *lines) next() ([]byte, error) {
	l.n++
	b, err := l.r.ReadSlice('\n')
	if err == nil {
		return b[:len(b)-1], nil
	}
	if err == io.EOF && len(b) > 0 {
		return b, nil
	}
	if !errors.Is(err, bufio.ErrBufferFull) {
		return nil, err
	}
	l.long = append(l.long[:0], b...)
	for errors.Is(err, bufio.ErrBufferFull) {
		b, err = l.r.ReadSlice('\n')
		if len(l.long) <= maxLine {
			l.long = append(l.long, b...)
		}
	}
	if err != nil && err != io.EOF {
		return nil, err
	}
	if len(l.long) > maxLine {
		return nil, errLong
	}
	return bytes.TrimSuffix(l.long, []byte("\n")), nil
}

func (l *lines) at() string { return "line " + strconv.Itoa(l.n) }

// lossy reports whether a program that writes text put U+FFFD for bytes that it could not express.
func lossy(s string) bool { return strings.ContainsRune(s, utf8.RuneError) }

// ParseFormat finds a format by its name.
func ParseFormat(s string) (Format, error) {
	if slices.Contains(Formats, Format(s)) {
		return Format(s), nil
	}
	return "", fmt.Errorf("format %q: %w", s, ErrFormat)
}
