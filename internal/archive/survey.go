package archive

import (
	"errors"
	"io"
	"slices"
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
	// Cut is why the source ended early; nil where it was read to its end.
	Cut error
	// Newest is the latest time of change in it, zero where it tells none: it was made no earlier.
	Newest time.Time

	spool  *spool
	layout layoutFinder
}

// keptRejected bounds Survey.Rejected.
const keptRejected = 1000

// Read reads a source to its end into f. What ends the source early ends the survey in good order, with Cut set; the error
// is that of f, or that of a source beyond the bounds, of which nothing is used. home is the account's home and docroots
// are paths below it: they are what the layout is recognised by.
func Read(o *Opened, f File, home string, docroots []string) (*Survey, error) {
	s := &Survey{Format: o.Format, Compression: o.Compression, spool: newSpool(f), layout: newLayoutFinder(home, docroots)}
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
		s.layout.note(&e)
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

func (s *Survey) done() error { return s.spool.w.Flush() }

// each reads the entries again.
func (s *Survey) each(end int64, fn func(e *Entry) error) error {
	r, err := s.spool.read(0, end, 256<<10)
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
}

// under gives where a name of the source lies below the home.
func (p Place) under(name string) (rel string, ok bool) {
	if p.Src != "" {
		rest, in := strings.CutPrefix(name, p.Src)
		if !in || rest != "" && rest[0] != '/' {
			return "", false
		}
		name = strings.TrimPrefix(rest, "/")
	}
	switch {
	case name == "":
		return p.Dst, true
	case p.Dst == "":
		return name, true
	}
	return p.Dst + "/" + name, true
}

// A Layout is where in a source the account's entries are, and how that is known.
type Layout struct {
	Places []Place
	Why    string
}

// A layoutFinder notes by which directories a source could be recognised.
type layoutFinder struct {
	home     string // without the leading "/"
	docroots []string
	lastDir  string
	any      bool
	homes    []string         // directories of the source whose path ends like the home's
	parents  map[string][]int // directories that hold document roots: which of them
	packages []string         // directories that hold homedir
	users    map[string]string
	tops     map[string]bool
	samples  []string
	stride   int
	seen     int
}

const (
	// maxCandidates bounds the directories that are noted: a hostile source could hold any number.
	maxCandidates = 64
	// maxSamples bounds the names that are looked up in the live tree.
	maxSamples = 512
)

func newLayoutFinder(home string, docroots []string) layoutFinder {
	return layoutFinder{
		home: strings.Trim(home, "/"), docroots: docroots, parents: map[string][]int{}, users: map[string]string{},
		tops: map[string]bool{}, stride: 1,
	}
}

func (l *layoutFinder) note(e *Entry) {
	if l.seen%l.stride == 0 && e.Name != "" {
		if len(l.samples) == maxSamples { // keep every other one, and go on half as often
			for i := range maxSamples / 2 {
				l.samples[i] = l.samples[2*i]
			}
			l.samples, l.stride = l.samples[:maxSamples/2], 2*l.stride
		}
		l.samples = append(l.samples, e.Name)
	}
	l.seen++
	dir := e.Name
	if e.Kind != rightful.KindDir {
		i := strings.LastIndexByte(dir, '/')
		l.noteUser(dir, i)
		dir = dir[:max(i, 0)]
	}
	if l.any && dir == l.lastDir {
		return
	}
	l.any, l.lastDir = true, dir
	if top, _, _ := strings.Cut(e.Name, "/"); top != "" && len(l.tops) <= maxCandidates {
		l.tops[top] = true
	}
	if at, ok := endsIn(dir, l.home); ok && !slices.Contains(l.homes, at) && len(l.homes) < maxCandidates {
		l.homes = append(l.homes, at)
	}
	for i, d := range l.docroots {
		at, ok := endsIn(dir, d)
		if !ok || slices.Contains(l.parents[at], i) || len(l.parents) >= maxCandidates {
			continue
		}
		at = strings.TrimSuffix(strings.TrimSuffix(at, d), "/")
		if !slices.Contains(l.parents[at], i) {
			l.parents[at] = append(l.parents[at], i)
		}
	}
	at, ok := endsIn(dir, "homedir")
	at = strings.TrimSuffix(strings.TrimSuffix(at, "homedir"), "/")
	if ok && !strings.Contains(at, "/") && !slices.Contains(l.packages, at) && len(l.packages) < maxCandidates {
		l.packages = append(l.packages, at)
	}
}

// noteUser notes the file of cPanel's packages that names their account: cp/USER.
func (l *layoutFinder) noteUser(name string, slash int) {
	if slash < 2 || name[slash-2:slash] != "cp" || strings.Count(name, "/") > 2 || len(l.users) >= maxCandidates {
		return
	}
	if slash == 2 || name[slash-3] == '/' {
		l.users[name[:max(slash-3, 0)]] = name[slash+1:]
	}
}

// endsIn finds whole components of a path that are tail, and gives the path up to their end.
func endsIn(path, tail string) (string, bool) {
	if tail == "" {
		return "", false
	}
	for from := 0; ; {
		i := strings.Index(path[from:], tail)
		if i < 0 {
			return "", false
		}
		i += from
		end := i + len(tail)
		if (i == 0 || path[i-1] == '/') && (end == len(path) || path[end] == '/') {
			return path[:end], true
		}
		from = i + 1
	}
}
