package web

import (
	"bytes"
	"time"
)

// LineKind is what a line of a log says about access.
type LineKind uint8

// The kinds of line.
const (
	LineOther     LineKind = iota // nothing about access, or only that something failed which another line explains
	LineFailure                   // somebody lacked a permission
	LineEither                    // a permission or something else: PHP-FPM calls what it cannot reach "unknown", as what is missing
	LineLookAlike                 // refused or failed for a reason that is no permission of an entry
	LineAnswer                    // of an access log: 403, 404, 500, 503
	LineUser                      // of suexec.log: whose script the next line is about
)

// Blame is which component a line points to. What is really to blame only a look at the tree tells.
type Blame uint8

// What a line points to.
const (
	BlameWay      Blame = iota // Path or any directory on the way to it
	BlamePath                  // Path itself
	BlameParent                // the directory of Path, or one above it, lacks search for the web server
	BlameHtaccess              // Path, which is a .htaccess, or its directory
	BlameLink                  // Path is a link that may not be followed, or whose target cannot be reached
)

// A LogLine is one line of a log, as far as it speaks about access. Its slices are parts of the line or of the parser's
// own memory, and valid until the next line is parsed. They are bytes that visitors and customers choose.
type LogLine struct {
	Kind   LineKind
	Server string // "apache", "nginx", "php-fpm", "suexec", "suphp"
	// Code is the server's own ("AH00035"), or a stable word of ours ("suexec:116", "nginx:open"), as verdicts have it.
	Code  string
	Role  Role
	Path  []byte // absolute, unescaped; nil where the line does not tell it
	Blame Blame
	// Name is the virtual host or domain that the line names, User the account that it is about, URL the request, as sent.
	Name, User, URL []byte
	Client          []byte // address, with its port where the line has it
	Status          int    // of LineAnswer
	// Unix is the time in seconds since 1970, 0 where the line has none.
	Unix int64
}

// Role is who lacked something, which says how to find out whether it still does.
type Role uint8

// The roles.
const (
	RoleWeb    Role = iota // the web server, to read what it serves or to pass through
	RoleSocket             // the web server, to write to a socket
	RolePHP                // PHP, to read a script
	RoleCGI                // whoever runs a script
	RoleSuexec             // suEXEC or suPHP, which refuse what is too open or somebody else's
	RoleApp                // the application itself: what it wanted to do with the path is not known
)

// maxPath is how much of a path in a line is kept: more than PATH_MAX, which no server can open.
const maxPath = 8 << 10

// A LogParser tells what lines of logs mean: Apache's error log, nginx's, PHP-FPM's and PHP's, suexec.log, suphp.log,
// access logs, and what programs write into them without any form. The form is told from the line, so one parser can read
// any log. It never fails: what it does not know is LineOther. It takes time in proportion to the line, and no memory. It is
// not safe for concurrent use.
type LogParser struct {
	// Location is the time zone of the server: only access logs say theirs.
	Location *time.Location
	// Formats are those of the configuration that are not the usual ones. They are tried on lines of no known form.
	Formats []*LogFormat
	minute  int64 // the last line's, as a key: when it began is base, in seconds since 1970
	base    int64
	buf     []byte
	block   []byte // of the scanners
}

// Parse fills in l by a line without its end.
func (p *LogParser) Parse(line []byte, l *LogLine) {
	*l = LogLine{}
	line = bytes.TrimRight(line, "\r")
	if len(line) < 8 {
		return
	}
	switch {
	case line[0] == '[' && p.bracketed(line, l):
	case line[4] == '/' && line[7] == '/' && p.nginx(line, l):
	case p.access(line, l):
	case p.custom(line, l):
	default:
		rawLine(line, l)
	}
	if len(l.Path) == 0 || l.Path[0] != '/' || len(l.Path) > maxPath {
		l.Path = nil
	}
}

// bracketed parses the forms that begin with a time in brackets.
func (p *LogParser) bracketed(line []byte, l *LogLine) bool {
	end := bytes.IndexByte(line[:min(len(line), 80)], ']')
	if end < 0 {
		return false
	}
	stamp, rest := line[1:end], line[end+1:]
	switch t, ok := p.stamp(stamp); {
	case !ok:
		return false
	case stamp[3] == ' ':
		l.Unix = t
		p.apache(bytes.TrimPrefix(rest, []byte(" ")), l)
	case stamp[4] == '-' && bytes.HasPrefix(rest, []byte(": ")):
		l.Unix = t
		suexecMessage(rest[2:], l)
	case stamp[2] == '-':
		l.Unix, l.Server = t, "php-fpm"
		phpMessage(bytes.TrimPrefix(rest, []byte(" ")), l)
	default:
		return false
	}
	return true
}

// stamp reads a time in one of the forms of servers: "Sun Nov 22 07:02:17.653203 2026", "2026-11-22 07:08:41",
// "2026/11/22 07:02:19", "22-Nov-2026 07:13:04 UTC", "22/Nov/2026:07:13:01 +0000", "2026-11-22T07:02:17+00:00".
func (p *LogParser) stamp(s []byte) (unix int64, ok bool) {
	if len(s) < 19 {
		return 0, false
	}
	var year, month, day, clock int // clock is where hh:mm:ss begins
	zone := []byte(nil)
	switch {
	case s[3] == ' ' && s[7] == ' ':
		i := bytes.LastIndexByte(s, ' ')
		month, day, year, clock = monthOf(s[4:7]), number(bytes.TrimLeft(s[8:10], " ")), number(s[i+1:]), 11
	case (s[4] == '-' || s[4] == '/') && s[7] == s[4]:
		year, month, day, clock = number(s[:4]), number(s[5:7]), number(s[8:10]), 11
		if s[10] == 'T' {
			zone = bytes.TrimLeft(s[19:], "0123456789.")
		}
	case (s[2] == '-' || s[2] == '/') && s[6] == s[2] && len(s) > 19:
		day, month, year, clock = number(s[:2]), monthOf(s[3:6]), number(s[7:11]), 12
		zone = bytes.TrimPrefix(s[20:], []byte(" "))
	default:
		return 0, false
	}
	if s[clock+2] != ':' || s[clock+5] != ':' {
		return 0, false
	}
	h, m, sec := number(s[clock:clock+2]), number(s[clock+3:clock+5]), number(s[clock+6:clock+8])
	if year < 1970 || year > 9999 || month < 1 || day < 1 || day > 31 || h < 0 || h > 23 || m < 0 || m > 59 || sec < 0 || sec > 60 {
		return 0, false
	}
	off, local := offset(zone)
	// Most lines are of the same minute as the one before.
	key := 2 * (((int64(year*13+month)*32+int64(day))*24+int64(h))*60 + int64(m))
	loc := time.UTC
	if local && p.Location != nil {
		loc = p.Location
		key++
	}
	if key != p.minute {
		p.minute, p.base = key, time.Date(year, time.Month(month), day, h, m, 0, 0, loc).Unix()
	}
	return p.base + int64(sec) - off, true
}

// offset reads a zone: "+0130", "-01:00", "Z", "UTC". Any other, and none, is the server's own.
func offset(z []byte) (seconds int64, local bool) {
	switch {
	case string(z) == "Z" || string(z) == "UTC" || string(z) == "GMT":
		return 0, false
	case len(z) < 5 || z[0] != '+' && z[0] != '-':
		return 0, true
	}
	h, m := number(z[1:3]), number(z[len(z)-2:])
	if h < 0 || m < 0 {
		return 0, true
	}
	seconds = int64(h*60+m) * 60
	if z[0] == '-' {
		seconds = -seconds
	}
	return seconds, false
}

// number reads up to nine digits; -1 is none.
func number(s []byte) int {
	if len(s) == 0 || len(s) > 9 {
		return -1
	}
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' {
			return -1
		}
		n = 10*n + int(c-'0')
	}
	return n
}

func monthOf(s []byte) int {
	const names = "JanFebMarAprMayJunJulAugSepOctNovDec"
	for i := 0; i < len(names); i += 3 {
		if string(s) == names[i:i+3] {
			return i/3 + 1
		}
	}
	return 0
}

// between gives what stands between before and after, the first of either.
func between(s []byte, before, after string) ([]byte, bool) {
	i := bytes.Index(s, []byte(before))
	if i < 0 {
		return nil, false
	}
	s = s[i+len(before):]
	i = bytes.Index(s, []byte(after))
	if i < 0 {
		return nil, false
	}
	return s[:i], true
}

// unescape undoes ap_escape_errorlog_item and ap_escape_logitem: \\, \", \n and the like, \xHH.
func (p *LogParser) unescape(s []byte) []byte {
	i := bytes.IndexByte(s, '\\')
	if i < 0 || len(s) > maxPath {
		return s
	}
	b := append(p.buf[:0], s[:i]...)
	for ; i < len(s); i++ {
		c := s[i]
		if c == '\\' && i+1 < len(s) {
			i++
			switch c = s[i]; c {
			case 'b':
				c = '\b'
			case 'n':
				c = '\n'
			case 'r':
				c = '\r'
			case 't':
				c = '\t'
			case 'v':
				c = '\v'
			case 'x':
				if i+2 < len(s) && hexDigit(s[i+1]) >= 0 && hexDigit(s[i+2]) >= 0 {
					c = byte(hexDigit(s[i+1])<<4 | hexDigit(s[i+2]))
					i += 2
				}
			}
		}
		b = append(b, c)
	}
	p.buf = b
	return b
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
