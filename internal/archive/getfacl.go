package archive

import (
	"io"
	"strconv"
	"strings"

	"rightful"
)

// getfaclSource reads the output of getfacl: blocks parted by empty lines, each a few comments and an ACL.
//
//	# file: public_html/wp\040content        a path; backslash and what would end the line are \ooo
//	# owner: alice                           a name, or a number with -n
//	# group: nobody
//	# flags: -s-                             only where set: setuid, setgid, sticky
//	user::rwx
//	user:www-data:r-x	#effective:r--
//	default:user::rwx
//
// It does not tell directories from files, but for those that have a default ACL.
type getfaclSource struct {
	listed
	l      *lines
	closer func()
	err    error
}

func newGetfacl(r io.Reader, closer func()) *getfaclSource {
	return &getfaclSource{l: newLines(r), closer: closer}
}

func (s *getfaclSource) Close() error {
	s.closer()
	return nil
}

func (s *getfaclSource) Next() (Entry, error) {
	var e Entry
	var file string
	var acl []byte
	var bad error
	for s.err == nil {
		b, err := s.l.next()
		switch {
		case err == errLong:
			bad = reject(s.l.at(), file, "%v", err)
			continue
		case err != nil:
			s.err = err
		}
		line := strings.TrimSuffix(string(b), "\r")
		if line == "" {
			if e.At == "" && bad == nil {
				continue
			}
			break
		}
		if rest, ok := strings.CutPrefix(line, "# file: "); ok && e.At == "" {
			e.At, file = s.l.at(), rest
			continue
		}
		if e.At == "" {
			if bad == nil {
				bad = reject(s.l.at(), line, `a line before "# file:"`)
			}
			continue
		}
		if bad != nil {
			continue
		}
		if comment, ok := strings.CutPrefix(line, "# "); ok {
			bad = e.getfaclComment(s.l.at(), file, comment)
			continue
		}
		if len(acl)+len(line) > 64*maxACL {
			bad = reject(s.l.at(), file, "an ACL of more than %d entries", maxACL)
			continue
		}
		acl = append(append(acl, line...), '\n')
	}
	if bad != nil {
		return Entry{}, bad
	}
	if e.At == "" {
		return Entry{}, s.err
	}
	return e.getfaclDone(file, string(acl))
}

func (e *Entry) getfaclComment(at, file, comment string) error {
	key, value, _ := strings.Cut(comment, ": ")
	switch key {
	case "owner":
		return identity(at, file, value, KnownUser, KnownUID, e, &e.User, &e.UID)
	case "group":
		return identity(at, file, value, KnownGroup, KnownGID, e, &e.Group, &e.GID)
	case "flags":
		if len(value) != 3 {
			return reject(at, file, "flags %q", value)
		}
		for i, bit := range []rightful.Mode{rightful.ModeSetuid, rightful.ModeSetgid, rightful.ModeSticky} {
			switch value[i] {
			case "sst"[i]:
				e.Mode |= bit
			case '-':
			default:
				return reject(at, file, "flags %q", value)
			}
		}
	}
	return nil
}

// identity takes an owner or group that is a number or a name.
func identity(at, file, value string, name, number Known, e *Entry, text *string, id *uint32) error {
	if n, err := strconv.ParseUint(value, 10, 64); err == nil {
		if n >= 1<<32-1 {
			return reject(at, file, "the id %s, which no Linux has", value)
		}
		*id, e.Known = uint32(n), e.Known|number
		return nil
	}
	v, ok := unescape(value)
	if !ok || v == "" {
		return reject(at, file, "the name %q", value)
	}
	*text, e.Known = v, e.Known|name
	return nil
}

func (e *Entry) getfaclDone(file, acl string) (Entry, error) {
	name, ok := unescape(file)
	if !ok {
		return Entry{}, reject(e.At, file, "a backslash before neither three octal digits nor a backslash")
	}
	var err error
	if e.Name, err = clean(e.At, name); err != nil {
		return Entry{}, err
	}
	if e.ACL, err = parseACL(acl, &e.Default); err != nil {
		return Entry{}, reject(e.At, name, "%v", err)
	}
	bits, ok := e.ACL.bits()
	if !ok {
		return Entry{}, reject(e.At, name, "an ACL without the entry of owner, group or others")
	}
	e.Mode |= bits
	e.Known |= KnownMode | KnownACL
	if len(e.Default) > 0 {
		e.Kind = rightful.KindDir
	}
	return *e, nil
}

// unescape resolves \ooo and \\, the only escapes that getfacl writes.
func unescape(s string) (string, bool) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, true
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b = append(b, s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '\\' {
			b = append(b, '\\')
			i++
			continue
		}
		c, ok := octal(s[i+1:])
		if !ok {
			return "", false
		}
		b = append(b, c)
		i += 3
	}
	return string(b), true
}

// octal reads three octal digits that make a byte.
func octal(s string) (byte, bool) {
	if len(s) < 3 {
		return 0, false
	}
	n, err := strconv.ParseUint(s[:3], 8, 8)
	return byte(n), err == nil && s[0] != '+' && s[0] != '-'
}
