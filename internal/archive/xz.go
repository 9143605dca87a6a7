package archive

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// xzReader reads the container of xz (tukaani.org/xz/xz-file-format.txt) around streams of LZMA2. The library has a reader
// of its own, but that one allocates whatever window a block asks for, up to 4 GiB: here each block's header is looked at
// first. Checks of contents are verified; the index, which repeats what was read, is skipped.
type xzReader struct {
	r     *bufio.Reader
	in    bool // in a stream
	check hash.Hash
	size  int // of the check
	block io.Reader
	count *byteCounter
	err   error
}

func newXZ(r *bufio.Reader) io.Reader { return &xzReader{r: r} }

var errXZ = errors.New("xz: damaged")

func (x *xzReader) Read(p []byte) (int, error) {
	for x.err == nil {
		if x.block == nil {
			x.err = x.next()
			continue
		}
		n, err := x.block.Read(p)
		x.check.Write(p[:n])
		if err == io.EOF {
			err = x.endBlock()
		}
		x.err = err
		if n > 0 {
			return n, nil
		}
	}
	return 0, x.err
}

// next goes to the next block, which may be in another stream; io.EOF at the end.
func (x *xzReader) next() error {
	if !x.in {
		return x.stream()
	}
	b, err := x.r.ReadByte()
	if err != nil {
		return eof(err)
	}
	if b == 0 {
		return x.index()
	}
	h := make([]byte, (int(b)+1)*4)
	h[0] = b
	if _, err := io.ReadFull(x.r, h[1:]); err != nil {
		return eof(err)
	}
	body := h[:len(h)-4]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(h[len(body):]) {
		return errXZ
	}
	f := bytes.NewReader(body[2:])
	for _, bit := range []byte{0x40, 0x80} { // sizes that need not be known
		if body[1]&bit != 0 {
			if _, err := binary.ReadUvarint(f); err != nil {
				return errXZ
			}
		}
	}
	id, err1 := binary.ReadUvarint(f)
	props, err2 := binary.ReadUvarint(f)
	dict, err3 := f.ReadByte()
	if err1 != nil || err2 != nil || err3 != nil || dict > 40 {
		return errXZ
	}
	if body[1]&3 != 0 || id != 0x21 || props != 1 {
		return errors.New("xz: a filter other than LZMA2")
	}
	window := int64(2|dict&1) << (dict/2 + 11)
	if window > maxWindow {
		return fmt.Errorf("xz: a window of %d MiB; %d MiB are given", window>>20, maxWindow>>20)
	}
	x.count = &byteCounter{r: x.r}
	x.block, err = lzma.Reader2Config{DictCap: max(int(window), lzma.MinDictCap)}.NewReader2(x.count)
	return err
}

// endBlock skips the padding behind a block and verifies its contents.
func (x *xzReader) endBlock() error {
	pad := int(-x.count.n & 3)
	tail := make([]byte, pad+x.size)
	if _, err := io.ReadFull(x.r, tail); err != nil {
		return eof(err)
	}
	if sum := x.check.Sum(nil); len(sum) > 0 && !bytes.Equal(sum, tail[pad:]) {
		return errXZ
	}
	x.check.Reset()
	x.block = nil
	return nil
}

// index skips the index and the footer behind it: the number of blocks, two numbers for each, padding, checksum.
func (x *xzReader) index() error {
	c := &byteCounter{r: x.r, n: 1}
	n, err := binary.ReadUvarint(c)
	for i := uint64(0); err == nil && i < 2*n; i++ {
		_, err = binary.ReadUvarint(c)
	}
	if err != nil {
		return eof(err)
	}
	x.in = false
	_, err = x.r.Discard(int(-c.n&3) + 4 + 12)
	return eof(err)
}

// stream reads the header of a stream. Streams may follow one another, with zeros between.
func (x *xzReader) stream() error {
	for {
		b, err := x.r.Peek(4)
		if len(b) == 0 && err == io.EOF {
			return io.EOF
		}
		if !bytes.Equal(b, []byte{0, 0, 0, 0}) {
			break
		}
		x.r.Discard(4)
	}
	var h [12]byte
	if _, err := io.ReadFull(x.r, h[:]); err != nil {
		return eof(err)
	}
	if !bytes.HasPrefix(h[:], []byte("\xfd7zXZ\x00\x00")) || crc32.ChecksumIEEE(h[6:8]) != binary.LittleEndian.Uint32(h[8:]) {
		return errXZ
	}
	sizes := [16]int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}
	x.size = sizes[h[7]&15]
	switch h[7] & 15 {
	case 1:
		x.check = littleEndian{crc32.NewIEEE()}
	case 4:
		x.check = littleEndian{crc64.New(crc64.MakeTable(crc64.ECMA))}
	case 10:
		x.check = sha256.New()
	default:
		x.check = noCheck{crc32.NewIEEE()}
	}
	x.in = true
	return nil
}

// eof makes an end where more must follow an unexpected one.
func eof(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// littleEndian is a checksum as xz writes it.
type littleEndian struct{ hash.Hash }

func (h littleEndian) Sum(b []byte) []byte {
	s := h.Hash.Sum(nil)
	for i := len(s) - 1; i >= 0; i-- {
		b = append(b, s[i])
	}
	return b
}

// noCheck is a check that is not known, and so not verified.
type noCheck struct{ hash.Hash }

func (noCheck) Sum(b []byte) []byte { return b }

// A byteCounter counts what LZMA2 takes of the stream, which it reads without looking ahead.
type byteCounter struct {
	r *bufio.Reader
	n int64
}

func (c *byteCounter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

func (c *byteCounter) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}
