package archive

import (
	"archive/tar"
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net/url"
	"path"
	"strings"

	"rightful"
	"rightful/internal/tree"
)

// tarSource reads a tar stream of any kind. archive/tar bounds what it takes of extended headers and sparse maps.
type tarSource struct {
	top    tarStream
	inner  *tarStream // a homedir.tar that is being read
	closer func()
	err    error
}

// A tarStream is one archive with the place that its names are below.
type tarStream struct {
	r     *tar.Reader
	pos   *counter
	below string
	in    string // " in NAME" for a nested one
	close func()
}

func newTar(r io.Reader, closer func()) *tarSource {
	s := &tarSource{closer: closer}
	s.top = openTar(r)
	return s
}

func openTar(r io.Reader) tarStream {
	if k, ok := r.(*seeker); ok {
		return tarStream{r: tar.NewReader(k), pos: &k.counter}
	}
	p := &counter{r: r}
	return tarStream{r: tar.NewReader(p), pos: p}
}

// nested are the archives inside an archive that hold a home or part of it, and where their names are below: "homedir"
// next to them, or "" for the place that they are in.
var nested = []struct{ file, below string }{
	{"homedir.tar", "homedir"}, // cPanel
	{"home.tar", "home"},       // DirectAdmin
	{"domain_data.tar", ""},    // HestiaCP: web/DOMAIN
	{"accounts.tar", ""},       // HestiaCP: mail/DOMAIN
}

// nestedBelow tells where the names of an archive inside an archive are below. Only one that root owns counts, or one in a
// directory called like cPanel's packages: a customer may have a file of that name in a home.
func nestedBelow(name string, h *tar.Header) (string, bool) {
	if strings.Count(name, "/") > 3 || h.Uid != 0 && !strings.HasPrefix(name, "cpmove-") && !strings.HasPrefix(name, "backup-") {
		return "", false
	}
	dir, file := path.Split(name)
	for _, n := range nested {
		if rest, ok := strings.CutPrefix(file, n.file); ok && (rest == "" || rest == ".gz" || rest == ".zst" || rest == ".xz" || rest == ".bz2") {
			return strings.TrimSuffix(dir+n.below, "/"), true
		}
	}
	return "", false
}

func (s *tarSource) Close() error {
	s.endInner()
	s.closer()
	return nil
}

func (s *tarSource) endInner() {
	if s.inner != nil {
		s.inner.close()
		s.inner = nil
	}
}

func (s *tarSource) Next() (Entry, error) {
	for s.err == nil {
		t := &s.top
		if s.inner != nil {
			t = s.inner
		}
		start := t.pos.n
		h, err := t.r.Next()
		at := fmt.Sprintf("byte %d%s", start, t.in)
		if s.inner != nil && err != nil {
			// The outer archive goes on behind it, whatever became of it.
			below := t.below
			s.endInner()
			if err != io.EOF {
				return Entry{}, reject(at, below, "the archive inside ends early: %v", err)
			}
			continue
		}
		if err == io.EOF {
			s.err = io.EOF
			break
		}
		if err != nil {
			s.err = fmt.Errorf("%s: %w", at, err)
			break
		}
		e, keep, err := s.entry(t, h, at)
		if err != nil {
			return Entry{}, err
		}
		if keep {
			return e, nil
		}
	}
	return Entry{}, s.err
}

// entry makes an entry of a header. keep is false for what is not one.
func (s *tarSource) entry(t *tarStream, h *tar.Header, at string) (e Entry, keep bool, err error) {
	e.At = at
	name, err := clean(at, h.Name)
	if err != nil {
		return e, false, err
	}
	e.Name = name
	if t.below != "" {
		e.Name = strings.TrimSuffix(t.below+"/"+name, "/")
	}
	switch h.Typeflag {
	case tar.TypeXGlobalHeader, 'V', 'N': // attributes of all that follows, a volume's label, old long names
		return e, false, nil
	case tar.TypeReg, '\x00', tar.TypeCont, tar.TypeGNUSparse:
		e.Kind = rightful.KindFile
		if s.inner == nil {
			if below, ok := nestedBelow(name, h); ok {
				return e, false, s.enter(t, name, below, at)
			}
		}
	case tar.TypeLink:
		e.Kind, e.HardLink = rightful.KindFile, true
	case tar.TypeSymlink:
		e.Kind, e.Target = rightful.KindSymlink, h.Linkname
		e.Known |= KnownTarget
	case tar.TypeDir, 'D': // D: with a list of its names (GNU tar --incremental)
		e.Kind = rightful.KindDir
	case tar.TypeFifo:
		e.Kind = rightful.KindFIFO
	case tar.TypeChar, tar.TypeBlock:
		return e, false, reject(at, e.Name, "a device; no backup makes one right")
	default:
		return e, false, reject(at, e.Name, "a member of the unknown kind %q", h.Typeflag)
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

// enter begins to read an archive inside the archive. What is wrong with it concerns it alone.
func (s *tarSource) enter(t *tarStream, name, below, at string) error {
	b := bufio.NewReaderSize(t.r, sniffLen)
	head, err := b.Peek(512)
	if err != nil && err != io.EOF {
		return reject(at, name, "the archive inside: %v", err)
	}
	var body io.Reader = b
	closer := func() {}
	if kind := compression(head); kind != "" {
		body, closer, err = decompress(kind, &counter{r: b})
		if err != nil {
			return reject(at, name, "the archive inside: %v", err)
		}
	} else if len(head) > 0 && !isTar(head) && strings.Trim(string(head), "\x00") != "" {
		return reject(at, name, "it is named like an archive and is none")
	}
	inner := openTar(body)
	inner.below, inner.in, inner.close = below, fmt.Sprintf(" of %q", name), closer
	s.inner = &inner
	return nil
}
