package archive

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"rightful"
	"rightful/internal/tree"
)

// mtreeSource reads specifications of mtree(5): one entry a line, as a name and KEYWORD=VALUE words.
//
// A name without "/" is in the directory that the lines before lead to: a line of type dir enters it, ".." leaves it.
// A name with "/" is a whole path and moves nothing (bsdtar writes these only). "/set" gives values for all lines that
// follow, "/unset" takes them back. "\" at the end continues a line, "#" at its beginning makes a comment. Names are
// encoded by vis(3).
type mtreeSource struct {
	listed
	l      *lines
	closer func()
	err    error
	dir    []string
	length int // of dir, joined
	set    map[string]string
	buf    []byte
}

func newMtree(r io.Reader, closer func()) *mtreeSource {
	return &mtreeSource{l: newLines(r), closer: closer, set: map[string]string{}}
}

func (s *mtreeSource) Close() error {
	s.closer()
	return nil
}

func (s *mtreeSource) Next() (Entry, error) {
	for s.err == nil {
		at, line, err := s.line()
		if err == errLong {
			return Entry{}, reject(at, "", "%v", err)
		}
		if err != nil {
			s.err = err
			break
		}
		words := strings.Fields(line)
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		switch words[0] {
		case "/set":
			for _, w := range words[1:] {
				if len(s.set) < 64 {
					k, v, _ := strings.Cut(w, "=")
					s.set[k] = v
				}
			}
		case "/unset":
			for _, w := range words[1:] {
				delete(s.set, w)
				if w == "all" {
					clear(s.set)
				}
			}
		case "..":
			if len(s.dir) == 0 {
				return Entry{}, reject(at, "..", "it leaves the directory that the list began in")
			}
			s.length -= len(s.dir[len(s.dir)-1]) + 1
			s.dir = s.dir[:len(s.dir)-1]
		default:
			return s.entry(at, words)
		}
	}
	return Entry{}, s.err
}

// line gives a line with those that continue it.
func (s *mtreeSource) line() (at, text string, err error) {
	s.buf = s.buf[:0]
	long := false
	for {
		b, err := s.l.next()
		if at == "" {
			at = s.l.at()
		}
		if err == errLong {
			return at, "", err
		}
		if err != nil && (err != io.EOF || len(s.buf) == 0) {
			return at, "", err
		}
		b = bytes.TrimSuffix(b, []byte("\r"))
		more := bytes.HasSuffix(b, []byte(`\`)) && !bytes.HasPrefix(bytes.TrimLeft(b, " \t"), []byte("#"))
		if long = long || len(s.buf)+len(b) > maxLine; !long {
			s.buf = append(append(s.buf, bytes.TrimSuffix(b, []byte(`\`))...), ' ')
		}
		switch {
		case more && err == nil:
		case long:
			return at, "", errLong
		default:
			return at, string(s.buf), nil
		}
	}
}

func (s *mtreeSource) entry(at string, words []string) (Entry, error) {
	e := Entry{At: at}
	name, ok := unvis(words[0])
	if !ok {
		return e, reject(at, words[0], "a backslash that vis(3) does not write")
	}
	keys := make(map[string]string, len(words)+len(s.set))
	for k, v := range s.set {
		keys[k] = v
	}
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		keys[k] = v
	}
	kind, ok := mtreeKinds[keys["type"]]
	if !ok && keys["type"] != "" {
		return e, reject(at, name, "type %q", keys["type"])
	}
	e.Kind = kind
	full := strings.Contains(name, "/")
	path := name
	if !full {
		if s.length+len(name) > MaxPath {
			return e, reject(at, name, "it lies deeper than %d bytes of path", MaxPath)
		}
		path = strings.Join(append(s.dir[:len(s.dir):len(s.dir)], name), "/")
		if kind == rightful.KindDir {
			// Entered whatever is wrong with the line: the ".." that leaves it comes all the same.
			s.dir = append(s.dir, name)
			s.length += len(name) + 1
		}
	}
	var err error
	if e.Name, err = clean(at, path); err != nil {
		return e, err
	}
	if kind == rightful.KindBlock || kind == rightful.KindChar {
		return e, reject(at, e.Name, "a device; no backup makes one right")
	}
	if err := e.mtreeKeys(keys); err != nil {
		return e, reject(at, e.Name, "%v", err)
	}
	return e, nil
}

var mtreeKinds = map[string]rightful.Kind{
	"file": rightful.KindFile, "dir": rightful.KindDir, "link": rightful.KindSymlink, "fifo": rightful.KindFIFO,
	"socket": rightful.KindSocket, "block": rightful.KindBlock, "char": rightful.KindChar,
}

// mtreeKeys takes the keywords that are about metadata.
func (e *Entry) mtreeKeys(keys map[string]string) error {
	for k, v := range keys {
		var err error
		switch k {
		case "uid":
			e.UID, err = parseID(v)
			e.Known |= KnownUID
		case "gid":
			e.GID, err = parseID(v)
			e.Known |= KnownGID
		case "uname":
			e.User, e.Known, err = unvisName(v, e.Known|KnownUser)
		case "gname":
			e.Group, e.Known, err = unvisName(v, e.Known|KnownGroup)
		case "mode":
			e.Mode, err = mtreeMode(v)
			e.Known |= KnownMode | KnownMask
		case "size":
			e.Size, err = strconv.ParseInt(v, 10, 64)
			e.Known |= KnownSize
		case "time":
			e.Time, err = mtreeTime(v)
			e.Known |= KnownTime
		case "link":
			e.Target, e.Known, err = unvisName(v, e.Known|KnownTarget)
		case "xattr." + tree.XattrCaps:
			e.Caps, err = base64.StdEncoding.DecodeString(v)
			e.Known |= KnownCaps
		}
		if err != nil {
			return fmt.Errorf("%s=%s: %w", k, v, err)
		}
	}
	return nil
}

func parseID(v string) (uint32, error) {
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil || n == 1<<32-1 {
		return 0, fmt.Errorf("no id that Linux has")
	}
	return uint32(n), nil
}

func unvisName(v string, known Known) (string, Known, error) {
	s, ok := unvis(v)
	if !ok || strings.IndexByte(s, 0) >= 0 {
		return "", known, fmt.Errorf("not a name")
	}
	return s, known, nil
}

// mtreeMode reads octal digits, or the symbols of chmod(1) applied to nothing: u=rwxs,g=rx,o=t.
func mtreeMode(v string) (rightful.Mode, error) {
	if m, err := rightful.ParseMode(v); err == nil {
		return m, nil
	}
	var m rightful.Mode
	for clause := range strings.SplitSeq(v, ",") {
		who, perm, ok := strings.Cut(clause, "=")
		if !ok {
			return 0, fmt.Errorf("no mode")
		}
		if who == "" || who == "a" {
			who = "ugo"
		}
		for _, w := range who {
			shift := map[rune]int{'u': 6, 'g': 3, 'o': 0}
			n, ok := shift[w]
			if !ok {
				return 0, fmt.Errorf("no mode")
			}
			for _, p := range perm {
				switch {
				case strings.ContainsRune("rwx", p):
					m |= rightful.Mode(4>>strings.IndexRune("rwx", p)) << n
				case p == 's' && w == 'u':
					m |= rightful.ModeSetuid
				case p == 's' && w == 'g':
					m |= rightful.ModeSetgid
				case p == 't':
					m |= rightful.ModeSticky
				default:
					return 0, fmt.Errorf("no mode")
				}
			}
		}
	}
	return m, nil
}

// mtreeTime reads seconds and, behind a point, a number of nanoseconds: not a fraction (NetBSD's mtree writes 1.5 for five
// nanoseconds after one second).
func mtreeTime(v string) (time.Time, error) {
	sec, nsec, _ := strings.Cut(v, ".")
	s, err := strconv.ParseInt(sec, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("no time")
	}
	n := uint64(0)
	if nsec != "" {
		if n, err = strconv.ParseUint(nsec, 10, 32); err != nil || n >= 1e9 {
			return time.Time{}, fmt.Errorf("no time")
		}
	}
	return time.Unix(s, int64(n)), nil
}

// unvis decodes what vis(3) encodes: \ooo, \s \t \n and so on, \^C, \M-C and \M^C, and \ before what stands for itself.
func unvis(s string) (string, bool) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, true
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			b = append(b, s[i])
			i++
			continue
		}
		c, n := unvisOne(s[i+1:])
		if n == 0 {
			return "", false
		}
		b = append(b, c)
		i += 1 + n
	}
	return string(b), true
}

// unvisOne decodes one character behind a backslash and gives how many bytes it took; 0 for what vis does not write.
func unvisOne(s string) (byte, int) {
	if s == "" {
		return 0, 0
	}
	if c, ok := octal(s); ok {
		return c, 3
	}
	if i := strings.IndexByte(`s0tnrabvfE`, s[0]); i >= 0 {
		return " \x00\t\n\r\a\b\v\f\x1b"[i], 1
	}
	switch {
	case s[0] == '^' && len(s) > 1:
		return control(s[1]), 2
	case s[0] == 'M' && len(s) > 2 && s[1] == '-':
		return s[2] | 0x80, 3
	case s[0] == 'M' && len(s) > 2 && s[1] == '^':
		return control(s[2]) | 0x80, 3
	case s[0] >= '0' && s[0] <= '9' || s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z':
		return 0, 0
	}
	return s[0], 1 // \\ \# \* \? \[
}

func control(c byte) byte {
	if c == '?' {
		return 0x7f
	}
	return c & 0x1f
}
