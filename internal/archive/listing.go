package archive

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"rightful"
)

// listingSource reads one JSON object a line.
type listingSource struct {
	listed
	l      *lines
	closer func()
	err    error
	line   func(at string, b []byte) (e Entry, keep bool, err error)
}

func newListing(r io.Reader, closer func(), line func(string, []byte) (Entry, bool, error)) *listingSource {
	return &listingSource{l: newLines(r), closer: closer, line: line}
}

func (s *listingSource) Close() error {
	s.closer()
	return nil
}

func (s *listingSource) Next() (Entry, error) {
	for s.err == nil {
		b, err := s.l.next()
		switch {
		case err == errLong:
			return Entry{}, reject(s.l.at(), "", "%v", err)
		case err != nil:
			s.err = err
		case len(strings.TrimSpace(string(b))) == 0:
		default:
			if e, keep, err := s.line(s.l.at(), b); err != nil || keep {
				return e, err
			}
		}
	}
	return Entry{}, s.err
}

// resticNode is a line of restic ls --json.
type resticNode struct {
	Struct  string     `json:"struct_type"`
	Message string     `json:"message_type"`
	Type    string     `json:"type"`
	Path    string     `json:"path"`
	UID     *uint32    `json:"uid"`
	GID     *uint32    `json:"gid"`
	User    string     `json:"user"`
	Group   string     `json:"group"`
	Mode    *uint32    `json:"mode"`
	Size    *int64     `json:"size"`
	Time    *time.Time `json:"mtime"`
	Target  string     `json:"linktarget"`
}

// resticTaken finds the time of the backup in the first line of a listing.
func resticTaken(head []byte) time.Time {
	var first struct {
		Time time.Time `json:"time"`
	}
	line, _, _ := bytes.Cut(head, []byte("\n"))
	if json.Unmarshal(line, &first) != nil {
		return time.Time{}
	}
	return first.Time
}

// The bits of a Go os.FileMode, which restic writes as a number: 4755 is 0x8001ed there and not 0o4755.
const (
	goDir    = 1 << 31
	goSetuid = 1 << 23
	goSetgid = 1 << 22
	goSticky = 1 << 20
)

var resticKinds = map[string]rightful.Kind{
	"file": rightful.KindFile, "dir": rightful.KindDir, "symlink": rightful.KindSymlink, "fifo": rightful.KindFIFO,
	"socket": rightful.KindSocket, "dev": rightful.KindBlock, "chardev": rightful.KindChar,
}

func resticLine(at string, b []byte) (e Entry, keep bool, err error) {
	var n resticNode
	if err := json.Unmarshal(b, &n); err != nil {
		return e, false, reject(at, "", "not a line of restic ls --json: %v", err)
	}
	if n.Struct == "snapshot" || n.Message == "snapshot" {
		return e, false, nil
	}
	kind, ok := resticKinds[n.Type]
	if !ok {
		return e, false, reject(at, n.Path, "type %q", n.Type)
	}
	e = Entry{At: at, Kind: kind, User: n.User, Group: n.Group, Target: n.Target}
	if err := e.listed(n.Path, lossy(n.Path)); err != nil {
		return e, false, err
	}
	if n.Mode != nil {
		m := *n.Mode
		if (m&goDir != 0) != (kind == rightful.KindDir) {
			return e, false, reject(at, n.Path, "mode %d is not that of a %s", m, kind)
		}
		e.Mode = rightful.Mode(m) & rightful.ModePerm
		for _, bit := range []struct {
			of uint32
			to rightful.Mode
		}{{goSetuid, rightful.ModeSetuid}, {goSetgid, rightful.ModeSetgid}, {goSticky, rightful.ModeSticky}} {
			if m&bit.of != 0 {
				e.Mode |= bit.to
			}
		}
		e.Known |= KnownMode | KnownMask
	}
	e.ids(n.UID, n.GID, n.Size)
	if n.Time != nil {
		e.Time, e.Known = *n.Time, e.Known|KnownTime
	}
	return e, true, nil
}

// A borgName is a user or group: borg gives the number where the host had no name for it.
type borgName string

// UnmarshalJSON implements json.Unmarshaler.
func (n *borgName) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, (*string)(n))
	}
	return nil
}

// borgItem is a line of borg list --json-lines, with or without some keys of --format.
type borgItem struct {
	Type    string   `json:"type"`
	Mode    string   `json:"mode"`
	User    borgName `json:"user"`
	Group   borgName `json:"group"`
	UID     *uint32  `json:"uid"`
	GID     *uint32  `json:"gid"`
	Path    string   `json:"path"`
	PathB64 []byte   `json:"path_b64"`
	Target  string   `json:"linktarget"` // of a link, or of what a hard link is another name for
	Source  string   `json:"source"`     // the same, and all that some versions give
	Size    *int64   `json:"size"`
	Time    string   `json:"mtime"`
}

func borgLine(at string, b []byte) (e Entry, keep bool, err error) {
	var n borgItem
	if err := json.Unmarshal(b, &n); err != nil {
		return e, false, reject(at, "", "not a line of borg list --json-lines: %v", err)
	}
	e = Entry{At: at, User: string(n.User), Group: string(n.Group)}
	if n.Target == "" {
		n.Target = n.Source
	}
	// borg writes "?" for a byte that is no text, and one may as well stand for itself.
	lost := strings.Contains(n.Path, "?") || lossy(n.Path)
	if len(n.PathB64) > 0 {
		n.Path, lost = string(n.PathB64), false
	}
	if err := e.listed(n.Path, lost); err != nil {
		return e, false, err
	}
	kind, mode, err := borgMode(n.Type, n.Mode)
	if err != nil {
		return e, false, reject(at, n.Path, "%v", err)
	}
	e.Kind = kind
	switch {
	case kind == rightful.KindBlock || kind == rightful.KindChar:
		return e, false, reject(at, n.Path, "a device; no backup makes one right")
	case kind == rightful.KindSymlink:
		e.Target = n.Target
		e.Known |= KnownTarget
	case n.Target != "" || strings.HasPrefix(n.Mode, "h"):
		e.HardLink, n.Size = true, nil
	}
	if n.Mode != "" {
		e.Mode, e.Known = mode, e.Known|KnownMode|KnownMask
	}
	e.ids(n.UID, n.GID, n.Size)
	for _, form := range []string{"2006-01-02T15:04:05.999999", time.RFC3339Nano} {
		if t, err := time.ParseInLocation(form, n.Time, time.Local); err == nil { // without a zone it is local
			e.Time, e.Known = t, e.Known|KnownTime
			break
		}
	}
	return e, true, nil
}

var borgKinds = map[byte]rightful.Kind{
	'-': rightful.KindFile, 'h': rightful.KindFile, 'd': rightful.KindDir, 'l': rightful.KindSymlink, 'p': rightful.KindFIFO,
	's': rightful.KindSocket, 'b': rightful.KindBlock, 'c': rightful.KindChar,
}

// borgSpecial is what may stand in the place of an x, with it or without.
var borgSpecial = map[int]struct {
	x, none byte
	bit     rightful.Mode
}{3: {'s', 'S', rightful.ModeSetuid}, 6: {'s', 'S', rightful.ModeSetgid}, 9: {'t', 'T', rightful.ModeSticky}}

// borgMode reads ten characters as ls -l writes them; the first may be h for a hard link.
func borgMode(typ, s string) (kind rightful.Kind, m rightful.Mode, err error) {
	if s == "" { // --format without {mode}
		if kind = borgKinds[(typ + " ")[0]]; kind == 0 {
			err = fmt.Errorf("type %q", typ)
		}
		return kind, 0, err
	}
	kind = borgKinds[s[0]]
	if kind == 0 || len(s) != 10 {
		return 0, 0, fmt.Errorf("mode %q", s)
	}
	for i := 1; i < 10; i++ {
		bit := rightful.Mode(0o400) >> (i - 1)
		sp := borgSpecial[i]
		switch c := s[i]; {
		case c == "rwx"[(i-1)%3]:
			m |= bit
		case c == '-':
		case sp.bit != 0 && c == sp.x:
			m |= bit | sp.bit
		case sp.bit != 0 && c == sp.none:
			m |= sp.bit
		default:
			return 0, 0, fmt.Errorf("mode %q", s)
		}
	}
	return kind, m, nil
}

// listed takes the path of a listing that is text, and so cannot express every name.
func (e *Entry) listed(path string, lost bool) (err error) {
	if lost {
		return reject(e.At, path, "the listing is text and may have lost bytes of the name")
	}
	e.Name, err = clean(e.At, path)
	switch e.Kind {
	case rightful.KindBlock, rightful.KindChar:
		return reject(e.At, path, "a device; no backup makes one right")
	case rightful.KindSymlink:
		e.Known |= KnownTarget
	}
	return err
}

// ids takes what a listing may leave out. Names stand in User and Group.
func (e *Entry) ids(uid, gid *uint32, size *int64) {
	if uid != nil && *uid != 1<<32-1 {
		e.UID, e.Known = *uid, e.Known|KnownUID
	}
	if gid != nil && *gid != 1<<32-1 {
		e.GID, e.Known = *gid, e.Known|KnownGID
	}
	if e.User != "" {
		e.Known |= KnownUser
	}
	if e.Group != "" {
		e.Known |= KnownGroup
	}
	if size != nil && e.Kind == rightful.KindFile {
		e.Size, e.Known = *size, e.Known|KnownSize
	}
}
