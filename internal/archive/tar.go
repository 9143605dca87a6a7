package archive

import (
	"archive/tar"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"rightful"
	"rightful/internal/tree"
)

// tarSource reads a tar stream of any kind. archive/tar bounds what it takes of extended headers and sparse maps.
type tarSource struct {
	r      *tar.Reader
	pos    *counter
	below  string // what its names are below
	in     string // " of NAME" for an archive inside another
	closer func()
	n      int // of the entry that was given last
	file   bool
	err    error
}

func newTar(r io.Reader, closer func()) *tarSource {
	if k, ok := r.(*seeker); ok {
		return &tarSource{r: tar.NewReader(k), pos: &k.counter, closer: closer}
	}
	p := &counter{r: r}
	return &tarSource{r: tar.NewReader(p), pos: p, closer: closer}
}

// Close implements [Source].
func (s *tarSource) Close() error {
	s.closer()
	return nil
}

// Next implements [Source].
func (s *tarSource) Next() (Entry, error) {
	for s.err == nil {
		s.n, s.file = s.n+1, false
		at := s.at()
		h, err := s.r.Next()
		if err == io.EOF {
			s.err = io.EOF
			break
		}
		if err != nil {
			s.err = fmt.Errorf("%s: %w", at, err)
			break
		}
		e, keep, err := s.entry(h, at)
		if err != nil {
			return Entry{}, err
		}
		if keep {
			s.file = e.Kind == rightful.KindFile && !e.HardLink
			return e, nil
		}
	}
	return Entry{}, s.err
}

func (s *tarSource) at() string { return fmt.Sprintf("byte %d%s", s.pos.n, s.in) }

// Content implements [Source].
func (s *tarSource) Content() io.Reader {
	if !s.file {
		return nil
	}
	return &tarContent{s: s, n: s.n, from: s.pos.n}
}

// A tarContent is the content of one member. The holes of a sparse file are bounded as what a compressed stream expands to.
type tarContent struct {
	s         *tarSource
	n         int
	from, out int64
}

var errStale = errors.New("read the content of an entry after the next one")

// Read implements [io.Reader].
func (c *tarContent) Read(b []byte) (int, error) {
	if c.n != c.s.n {
		return 0, errStale
	}
	n, err := c.s.r.Read(b)
	if c.out += int64(n); c.out > ratioFree+maxRatio*(c.s.pos.n-c.from) {
		return 0, ErrBomb
	}
	return n, err
}

// name brings a name in the archive into the form of [Entry.Name].
func (s *tarSource) name(at, name string) (string, error) {
	name, err := clean(at, name)
	if err == nil && s.below != "" {
		name = strings.TrimSuffix(s.below+"/"+name, "/")
	}
	return name, err
}

// entry makes an entry of a header. keep is false for what is not one.
func (s *tarSource) entry(h *tar.Header, at string) (e Entry, keep bool, err error) {
	e.At = at
	if e.Name, err = s.name(at, h.Name); err != nil {
		return e, false, err
	}
	switch h.Typeflag {
	case tar.TypeXGlobalHeader, 'V', 'N': // attributes of all that follows, a volume's label, old long names
		return e, false, nil
	case tar.TypeReg, '\x00', tar.TypeCont, tar.TypeGNUSparse:
		e.Kind = rightful.KindFile
	case tar.TypeLink:
		e.Kind, e.HardLink = rightful.KindFile, true
		if e.Target, err = s.name(at, h.Linkname); err != nil {
			return e, false, reject(at, e.Name, "a hard link to %.4096q: %s", h.Linkname, err.(*Rejected).Why)
		}
		e.Known |= KnownTarget
	case tar.TypeSymlink:
		if err := e.symlink(h.Linkname); err != nil {
			return e, false, err
		}
	case tar.TypeDir, 'D': // D: with a list of its names (GNU tar --incremental)
		e.Kind = rightful.KindDir
	case tar.TypeFifo:
		e.Kind = rightful.KindFIFO
	case tar.TypeChar, tar.TypeBlock:
		return e, false, reject(at, e.Name, "a device; no backup makes one right")
	default:
		return e, false, reject(at, e.Name, "a member of the unknown kind %q", h.Typeflag)
	}
	if e.Name == s.below && e.Kind != rightful.KindDir {
		return e, false, reject(at, h.Name, "a %s without a name", e.Kind)
	}
	e.Mode = rightful.Mode(h.Mode) & rightful.ModeAll
	e.Known |= KnownMode | KnownMask
	if h.Uid >= 0 && h.Uid < 1<<32-1 {
		e.UID, e.Known = uint32(h.Uid), e.Known|KnownUID
	}
	if h.Gid >= 0 && h.Gid < 1<<32-1 {
		e.GID, e.Known = uint32(h.Gid), e.Known|KnownGID
	}
	if h.Uname != "" {
		e.User, e.Known = h.Uname, e.Known|KnownUser
	}
	if h.Gname != "" {
		e.Group, e.Known = h.Gname, e.Known|KnownGroup
	}
	if e.Kind == rightful.KindFile && !e.HardLink {
		e.Size, e.Known = h.Size, e.Known|KnownSize
	}
	e.Time, e.Known = h.ModTime, e.Known|KnownTime
	if e.Kind != rightful.KindSymlink {
		e.attributes(h.PAXRecords)
	}
	return e, true, nil
}

// attributes takes ACLs and capabilities from pax records. The text forms come first: they hold names.
func (e *Entry) attributes(pax map[string]string) {
	if len(pax) == 0 {
		return
	}
	var have bool
	take := func(to *ACL, text, raw string) {
		var err error
		if v, ok := pax[text]; ok {
			*to, err = parseACL(v, nil)
			have = true
		} else if v, ok := xattr(pax, raw); ok {
			*to, err = rawACL([]byte(v))
			have = true
		}
		if err != nil {
			e.Unreadable = err.Error()
		}
	}
	take(&e.ACL, "SCHILY.acl.access", tree.XattrACL)
	take(&e.Default, "SCHILY.acl.default", tree.XattrDefault)
	if _, ok := pax["SCHILY.acl.ace"]; ok {
		e.Unreadable = "an NFSv4 ACL"
	}
	if v, ok := xattr(pax, tree.XattrCaps); ok {
		e.Caps, e.Known = []byte(v), e.Known|KnownCaps
	}
	if !have || e.Unreadable != "" {
		return
	}
	e.Known |= KnownACL
	if len(e.ACL) > 0 {
		// The header's group bits are the mask by GNU tar, the owning group's own bits by bsdtar.
		bits, ok := e.ACL.bits()
		if !ok {
			e.Known &^= KnownACL
			e.Unreadable = "an ACL without the entry of owner, group or others"
			return
		}
		e.Mode = e.Mode&^rightful.ModePerm | bits
	}
	e.Known &^= KnownMask
}

// xattr finds an extended attribute in the forms of GNU tar and star (raw) and of bsdtar (base64).
func xattr(pax map[string]string, name string) (string, bool) {
	if v, ok := pax["SCHILY.xattr."+name]; ok {
		return v, true
	}
	if v, ok := pax["LIBARCHIVE.xattr."+url.PathEscape(name)]; ok {
		b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "="))
		return string(b), err == nil
	}
	return "", false
}
