package repair

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// kind of a record; its first payload byte decides how the rest is read. See the package comment.
type recordKind uint8

const (
	recHeader   recordKind = 'H'
	recString   recordKind = 'S'
	recAccount  recordKind = 'A'
	recChange   recordKind = 'C'
	recSkip     recordKind = 'K'
	recEnd      recordKind = 'E'
	recBaseline recordKind = 'L'
	recStage    recordKind = 'G'
	recBegin    recordKind = 'B'
	recResult   recordKind = 'R'
	recVerdict  recordKind = 'V'
	recTakeBack recordKind = 'T'
	recResume   recordKind = 'U'
)

// maxRecord bounds one record. The longest honest one is what verification knows of all sites before a run, about 2 KiB
// for each. A reader allocates no more than there is of the file.
const maxRecord = 1 << 30

const frameHead = 8 // length and checksum

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errTorn marks a record that is cut off or does not match its checksum.
var errTorn = errors.New("torn or altered record")

// sum covers the record's place in the file, so that a record moved elsewhere is found out.
func sum(off int64, body []byte) uint32 {
	var pos [8]byte
	binary.LittleEndian.PutUint64(pos[:], uint64(off))
	return crc32.Update(crc32.Checksum(pos[:], castagnoli), castagnoli, body)
}

// appendRecord frames kind and payload as they stand at offset off.
func appendRecord(b []byte, off int64, kind recordKind, payload []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, frameHead)...)
	b = append(b, byte(kind))
	b = append(b, payload...)
	body := b[start+frameHead:]
	binary.LittleEndian.PutUint32(b[start:], uint32(len(body)))
	binary.LittleEndian.PutUint32(b[start+4:], sum(off, body))
	return b
}

// recordReader reads records one after the other.
type recordReader struct {
	r    *bufio.Reader
	off  int64 // where the next record starts
	end  int64 // of the file
	body []byte
}

func newRecordReader(r io.ReaderAt, off, end int64) *recordReader {
	return &recordReader{r: bufio.NewReaderSize(io.NewSectionReader(r, off, end-off), int(min(end-off+1, 64<<10))), off: off, end: end}
}

// next returns the next record, valid until the call after. io.EOF says that the file ends between records.
func (r *recordReader) next() (recordKind, []byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		if err == io.EOF {
			return 0, nil, io.EOF
		}
		if err == io.ErrUnexpectedEOF {
			err = errTorn
		}
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n == 0 || n > maxRecord || int64(n) > r.end-r.off-frameHead {
		return 0, nil, errTorn
	}
	if uint32(cap(r.body)) < n {
		r.body = make([]byte, n)
	}
	r.body = r.body[:n]
	if _, err := io.ReadFull(r.r, r.body); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = errTorn
		}
		return 0, nil, err
	}
	if binary.LittleEndian.Uint32(head[4:]) != sum(r.off, r.body) {
		return 0, nil, errTorn
	}
	r.off += frameHead + int64(n)
	return recordKind(r.body[0]), r.body[1:], nil
}

// A fileWriter appends records and remembers the first error: after one, nothing more is written.
type fileWriter struct {
	w   *bufio.Writer
	off int64
	buf []byte
	err error
}

func (w *fileWriter) put(kind recordKind, payload []byte) error {
	if w.err == nil && len(payload) >= maxRecord {
		w.err = fmt.Errorf("record of %d bytes", len(payload))
	}
	if w.err == nil {
		w.buf = appendRecord(w.buf[:0], w.off, kind, payload)
		_, w.err = w.w.Write(w.buf)
		w.off += int64(len(w.buf))
	}
	return w.err
}

func (w *fileWriter) putJSON(kind recordKind, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.put(kind, b)
}
