package archive

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"

	"rightful"
	"rightful/internal/state"
)

// A Survey is a source that was read to its end, with what is asked of it as a whole.
type Survey struct {
	Format      Format
	Compression string
	// Entries counts what was read, Rejects what was not; the first of these are in Rejected.
	Entries, Rejects int
	Rejected         []*Rejected
	// Recoded counts names in a code that was guessed.
	Recoded int
	// Cut is why the source ended early; nil where it was read to its end.
	Cut error
	// Newest is the latest time of change in it, zero where it tells none: it was made no earlier.
	Newest time.Time

	spool *spool
	end   int64 // of the entries in it
	told  []told
}

// keptRejected bounds Survey.Rejected.
const keptRejected = 1000

// Read reads a source to its end into f. What ends the source early ends the survey in good order, with Cut set; the error
// is that of f, or that of a source beyond the bounds, of which nothing is used.
func Read(o *Opened, f File) (*Survey, error) {
	s := &Survey{Format: o.Format, Compression: o.Compression, spool: newSpool(f)}
	for {
		e, err := o.Next()
		var r *Rejected
		switch {
		case errors.As(err, &r):
			s.reject(r)
			if s.Rejects > MaxEntries {
				return nil, errMany
			}
			continue
		case err == io.EOF:
			return s, s.done()
		case errors.Is(err, ErrBomb):
			return nil, err
		case err != nil:
			s.Cut = err
			return s, s.done()
		}
		if s.Entries++; s.Entries > MaxEntries {
			return nil, errMany
		}
		if e.Known.Has(KnownTime) && e.Time.After(s.Newest) {
			s.Newest = e.Time
		}
		if e.Recoded {
			s.Recoded++
		}
		s.hear(&e, o)
		if err := s.spool.put(func(p *state.Packer) { packEntry(p, &e) }); err != nil {
			return nil, err
		}
	}
}

var errMany = errors.New("more entries than any server has files")

func (s *Survey) reject(r *Rejected) {
	s.Rejects++
	if len(s.Rejected) < keptRejected {
		s.Rejected = append(s.Rejected, r)
	}
}

func (s *Survey) done() error {
	s.end = s.spool.off
	return s.spool.w.Flush()
}

// each reads the entries again.
func (s *Survey) each(fn func(e *Entry) error) error {
	r, err := s.spool.read(0, s.end, 256<<10)
	if err != nil {
		return err
	}
	for {
		b, err := r.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		e, err := unpackEntry(b)
		if err != nil {
			return err
		}
		if err := fn(&e); err != nil {
			return err
		}
	}
}

// A Place maps what lies below Src in a source to what lies below Dst in the account's home.
type Place struct {
	Src string // "" for all of the source
	Dst string // "" for the home itself
	Out bool   // what lies below Src is not the account's
}

// placeJSON is a place as it is written down. Names are bytes: those that are no text stand in base64 too.
type placeJSON struct {
	Src    string `json:"src"`
	SrcB64 []byte `json:"src_b64,omitempty"`
	Dst    string `json:"dst"`
	DstB64 []byte `json:"dst_b64,omitempty"`
	Out    bool   `json:"out,omitempty"`
}

// MarshalJSON implements [json.Marshaler].
func (p Place) MarshalJSON() ([]byte, error) {
	return json.Marshal(placeJSON{p.Src, rightful.RawPath(p.Src), p.Dst, rightful.RawPath(p.Dst), p.Out})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (p *Place) UnmarshalJSON(b []byte) error {
	var j placeJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*p = Place{j.Src, j.Dst, j.Out}
	if j.SrcB64 != nil {
		p.Src = string(j.SrcB64)
	}
	if j.DstB64 != nil {
		p.Dst = string(j.DstB64)
	}
	return nil
}

// Places map names of a source to paths below the home. Of several that hold a name the innermost counts.
type Places []Place

// Rel gives where a name of the source lies below the home; false for what is not the account's.
func (ps Places) Rel(name string) (rel string, ok bool) {
	best := -1
	for i, p := range ps {
		if within(name, p.Src) && (best < 0 || len(p.Src) > len(ps[best].Src)) {
			best = i
		}
	}
	if best < 0 || ps[best].Out {
		return "", false
	}
	p := ps[best]
	rest := strings.TrimPrefix(name[len(p.Src):], "/")
	switch {
	case rest == "":
		return p.Dst, true
	case p.Dst == "":
		return rest, true
	}
	return p.Dst + "/" + rest, true
}

// within reports whether a path is dir or lies below it; "" holds every path.
func within(name, dir string) bool {
	return dir == "" || strings.HasPrefix(name, dir) && (len(name) == len(dir) || name[len(dir)] == '/')
}
