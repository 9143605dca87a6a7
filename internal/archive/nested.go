package archive

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"rightful"
)

// A nester reads the archives that control panels put into their backups in their places. One inside another of these is
// an ordinary file.
type nester struct {
	Source
	inner  *tarSource
	looked io.Reader       // the content of the present entry, where its beginning was looked at
	panels map[string]bool // directories that hold a panel's own data
}

func newNester(s Source) *nester { return &nester{Source: s, panels: map[string]bool{}} }

// archiveSuffixes are the endings of the archives that panels write.
var archiveSuffixes = []string{".tar", ".tar.gz", ".tar.zst", ".tar.xz", ".tar.bz2", ".tgz", ".tzst"}

// maxNest is how many directories deep a panel's archive lies at most: Plesk's resellers/R/clients/C/domains/D, below the
// path of its dumps.
const maxNest = 12

// An inside is an archive that holds a home, or part of one.
type inside struct {
	top   string // the directory of the backup that it belongs to
	below string // what its names are below
	sure  bool   // no customer has a file of such a name by chance
}

// insideOf tells by its name what an archive holds. HestiaCP's and DirectAdmin's parts get one place together, "home",
// which neither has: so that what these panels keep of their own beside them is elsewhere.
func insideOf(name string) (in inside, ok bool) {
	stem := ""
	for _, suffix := range archiveSuffixes {
		if s, cut := strings.CutSuffix(name, suffix); cut {
			stem = s
		}
	}
	virtualmin := strings.HasSuffix(name, "_dir")
	if stem == "" && !virtualmin || strings.Count(name, "/") > maxNest {
		return in, false
	}
	dir, stem := path.Split(stem)
	if virtualmin { // DOMAIN_dir, of the domain's home
		dir, _ = path.Split(name)
		dir = strings.TrimSuffix(dir, "/")
		return inside{top: dir, below: name}, true
	}
	dir = strings.TrimSuffix(dir, "/")
	up, last := path.Split(dir)
	up = strings.TrimSuffix(up, "/")
	above, kind := path.Split(up)
	above = strings.TrimSuffix(above, "/")
	switch {
	case stem == "homedir": // cPanel
		return inside{top: dir, below: path.Join(dir, "homedir"), sure: cpanelDir(dir)}, true
	case stem == "home" && last == "backup": // DirectAdmin 1.6 and later
		return inside{top: up, below: path.Join(up, "home")}, true
	case stem == "home": // DirectAdmin before
		return inside{top: dir, below: path.Join(dir, "home")}, true
	case stem == "domain_data" && kind == "web", stem == "accounts" && kind == "mail": // HestiaCP: web/DOMAIN, mail/DOMAIN
		return inside{top: above, below: path.Join(above, "home", kind, last)}, true
	case stem != "" && last == "user_dir": // HestiaCP: whatever else is in the home
		return inside{top: up, below: path.Join(up, "home")}, true
	case strings.HasPrefix(stem, "backup_user-data_"): // Plesk, of a subscription's home
		return inside{top: dir, below: path.Join(dir, "home"), sure: true}, true
	}
	return in, false
}

// cpanelDir reports whether a directory is called like cPanel's packages.
func cpanelDir(dir string) bool {
	last := path.Base(dir)
	return strings.HasPrefix(last, "cpmove-") || strings.HasPrefix(last, "backup-")
}

// panelData gives the directory of a backup of which a name is the panel's own data.
func panelData(name string) (top string, ok bool) {
	dir, file := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	for i := range tellers {
		if top, ok = tellers[i].of(dir, file); ok {
			return top, true
		}
	}
	return "", false
}

// Next implements [Source].
func (s *nester) Next() (Entry, error) {
	for {
		if s.inner != nil {
			e, err := s.inner.Next()
			var r *Rejected
			if err == nil || errors.As(err, &r) {
				return e, err
			}
			// What it is inside goes on behind it, whatever became of it.
			at, below := s.inner.at(), s.inner.below
			s.end()
			if err != io.EOF {
				return Entry{}, reject(at, below, "the archive inside ends early: %v", errors.Unwrap(err))
			}
		}
		s.looked = nil
		e, err := s.Source.Next()
		if err != nil {
			return e, err
		}
		if top, ok := panelData(e.Name); ok && len(s.panels) < maxPlaces {
			s.panels[top] = true
		}
		in, ok := s.nested(&e)
		if !ok {
			return e, nil
		}
		if err := s.enter(&e, in); err != nil {
			return Entry{}, err
		}
		if s.inner == nil { // it is only called so
			return e, nil
		}
	}
}

// nested tells whether an entry is an archive that is read. Only one that root owns counts, one beside a panel's own data, or
// one whose name nothing else has: a customer may have a file called so in a home.
func (s *nester) nested(e *Entry) (inside, bool) {
	if e.Kind != rightful.KindFile || e.HardLink {
		return inside{}, false
	}
	in, ok := insideOf(e.Name)
	if !ok || !in.sure && !s.panels[in.top] && (!e.Known.Has(KnownUID) || e.UID != 0) {
		return in, false
	}
	return in, s.Source.Content() != nil
}

// Content implements [Source].
func (s *nester) Content() io.Reader {
	switch {
	case s.inner != nil:
		return s.inner.Content()
	case s.looked != nil:
		return s.looked
	}
	return s.Source.Content()
}

// Close implements [Source].
func (s *nester) Close() error {
	s.end()
	return s.Source.Close()
}

func (s *nester) end() {
	if s.inner != nil {
		s.inner.Close()
		s.inner = nil
	}
}

// enter begins to read an archive inside the archive. What is wrong with it concerns it alone.
func (s *nester) enter(e *Entry, in inside) error {
	b := bufio.NewReaderSize(s.Source.Content(), sniffLen)
	head, err := b.Peek(512)
	if err != nil && err != io.EOF {
		return reject(e.At, e.Name, "the archive inside: %v", err)
	}
	var body io.Reader = b
	closer := func() {}
	if kind := compression(head); kind != "" {
		body, closer, err = decompress(kind, &counter{r: b})
		if err != nil {
			return reject(e.At, e.Name, "the archive inside: %v", err)
		}
	} else if len(head) > 0 && !isTar(head) && strings.Trim(string(head), "\x00") != "" {
		s.looked = b
		return nil
	}
	s.inner = newTar(body, closer)
	s.inner.below, s.inner.in = in.below, fmt.Sprintf(" of %q", e.Name)
	return nil
}
