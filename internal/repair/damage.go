package repair

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"

	"rightful"
)

// An outcome can be bad in two ways. A crash leaves a torn end: a record that is shorter than it says, or a stretch of
// zeros that was never written. Nothing relied upon it. A bad disk damages what was on it: a record does not match its
// checksum, and mostly there are whole records behind it. Then it is not known what the lost record announced, so every
// change of which no record tells what became of it counts as in doubt. Undo is planned from the live entries: it finds
// those that were never made as they were, and leaves them alone.

// outcomeFile is an outcome to read.
type outcomeFile interface {
	io.ReaderAt
	Stat() (os.FileInfo, error)
}

// An outcomeReader goes through the records of an outcome, and over what is damaged.
type outcomeReader struct {
	f      io.ReaderAt
	size   int64
	rec    *recordReader
	good   int64                // where the last whole record ends
	torn   bool                 // what follows is a torn end
	damage func(from, to int64) // called when something damaged was passed over
}

// next returns the next whole record and where it begins; io.EOF where there is none.
func (r *outcomeReader) next() (at int64, kind recordKind, body []byte, err error) {
	for {
		at = r.rec.off
		kind, body, err = r.rec.next()
		if err == nil {
			r.good = r.rec.off
			return at, kind, body, nil
		}
		if err != errTorn {
			return at, 0, nil, err
		}
		rest, err := io.ReadAll(io.NewSectionReader(r.f, at, r.size-at))
		if err != nil {
			return at, 0, nil, err
		}
		skip, torn := afterDamage(rest, at)
		if torn {
			r.torn = true
			return at, 0, nil, io.EOF
		}
		r.damage(at, at+int64(skip))
		r.rec = newRecordReader(r.f, at+int64(skip), r.size)
	}
}

// afterDamage looks behind a bad record, the first of rest, which stands at off: it gives how far the next whole record
// is away, or the end of the file. Torn means that there is none, and that a crash explains it.
func afterDamage(rest []byte, off int64) (skip int, torn bool) {
	for i := 1; i+frameHead < len(rest); i++ {
		if whole(rest[i:], off+int64(i)) {
			return i, false
		}
	}
	zeros := !slices.ContainsFunc(rest, func(b byte) bool { return b != 0 })
	switch {
	case len(rest) <= frameHead || zeros:
		return len(rest), true
	case int64(binary.LittleEndian.Uint32(rest)) > int64(len(rest)-frameHead):
		// Cut off, unless all of it is there and only the length is wrong.
		return len(rest), binary.LittleEndian.Uint32(rest[4:]) != sum(off, rest[frameHead:])
	}
	return len(rest), false
}

// longestPacked is more than any record of packed fields takes: 512 numbers, or a reason and a state with its ACLs.
const longestPacked = 1 << 18

// whole reports whether a record of an outcome stands at the beginning of b, which is at off. Its looks are judged first,
// so that few checksums are made where none does.
func whole(b []byte, off int64) bool {
	n := int64(binary.LittleEndian.Uint32(b))
	if n < 2 || n > int64(len(b)-frameHead) {
		return false
	}
	body := b[frameHead : frameHead+n]
	switch recordKind(body[0]) {
	case recBegin, recResult:
		if n > longestPacked {
			return false
		}
	case recHeader, recBaseline, recStage, recVerdict, recTakeBack, recResume, recEnd:
		if body[1] != '{' || body[n-1] != '}' {
			return false
		}
	default:
		return false
	}
	return binary.LittleEndian.Uint32(b[4:]) == sum(off, body)
}

// openRecords is a reader at the first record of an outcome. A damaged magic is passed over where a record follows it.
func (o *outcome) openRecords(f outcomeFile) (*outcomeReader, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	const first = int64(len(outcomeMagic))
	r := &outcomeReader{
		f: f, size: fi.Size(), rec: newRecordReader(f, first, fi.Size()), good: first,
		damage: func(from, to int64) {
			o.damage = append(o.damage, rightful.Damage{At: from, Bytes: to - from, Before: o.results})
		},
	}
	magic := make([]byte, first)
	if _, err := f.ReadAt(magic, 0); err != nil && err != io.EOF {
		return nil, err
	}
	if string(magic) != outcomeMagic {
		if _, _, err := newRecordReader(f, first, r.size).next(); err != nil {
			return nil, errDamagedOutcome
		}
		r.damage(0, first)
	}
	return r, nil
}

// readHeader finds the first header that is whole: it stands at the beginning, and again with every stage.
func readHeader(f outcomeFile) (h []byte, err error) {
	r, err := (&outcome{}).openRecords(f)
	if err != nil {
		return nil, err
	}
	for {
		_, kind, body, err := r.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil, errDamagedOutcome
		case err != nil:
			return nil, err
		case kind == recHeader:
			return bytes.Clone(body), nil
		}
	}
}

// doubt takes into account what a damaged outcome does not tell any more.
func (o *outcome) doubt() {
	if len(o.damage) == 0 {
		return
	}
	for i := range o.damage {
		o.damage[i].After = o.results - o.damage[i].Before
	}
	for seq, st := range o.status {
		switch st {
		case stNone:
			o.status[seq] = stBegun
		case stApplied, stFailed:
			o.reverting[seq] = true // a take-back may have been announced
		}
	}
}
