package web

import (
	"bytes"
	"strings"
)

// nginx parses a line of nginx's error log (src/core/ngx_log.c):
//
//	2026/11/22 07:02:19 [error] PID#TID: *CONN message, client: C, server: S, request: "GET / HTTP/1.1", …
//
// Nothing in it is escaped: a path may hold quotes, and even a newline, which begins a line that a visitor wrote. Where the
// message ends is the first place where it can, so that a path is cut short at worst.
func (p *LogParser) nginx(line []byte, l *LogLine) bool {
	t, ok := p.stamp(line)
	if !ok || len(line) < 24 || line[20] != '[' {
		return false
	}
	l.Unix, l.Server = t, "nginx"
	i := bytes.Index(line[:min(len(line), 120)], []byte(": "))
	if i < 0 {
		return true
	}
	s := line[i+2:]
	if len(s) > 0 && s[0] == '*' {
		if i = bytes.IndexByte(s, ' '); i < 0 {
			return true
		}
		s = s[i+1:]
	}
	if len(s) < 8 {
		return true
	}
	tail := []byte(nil)
	switch s[0] {
	case 'o', 's', 'l':
		tail = nginxCall(s, l)
	case '"': // "P" is forbidden (13: Permission denied)
		const words = `" is forbidden (13: `
		if i = bytes.Index(s, []byte(words)); i > 0 {
			l.failure("nginx:forbidden", BlameParent) // an index was looked for, by stat
			l.Path, tail = s[1:i], s[i+len(words):]
		}
	case 'd':
		const words = `" is forbidden`
		if path, ok := bytes.CutPrefix(s, []byte(`directory index of "`)); ok {
			if i = bytes.Index(path, []byte(words)); i >= 0 {
				l.lookAlike("nginx:index")
				l.Path, tail = path[:i], path[i+len(words):]
			}
		}
	case 'a':
		if bytes.HasPrefix(s, []byte("access forbidden by rule")) {
			l.lookAlike("nginx:rule")
			tail = s
		}
	case 'c': // connect() to unix:/run/x.sock failed (13: Permission denied) while connecting to upstream
		if path, ok := bytes.CutPrefix(s, []byte("connect() to unix:")); ok {
			if i = bytes.Index(path, []byte(" failed (")); i >= 0 {
				l.failure("nginx:connect", BlameWay)
				l.Role = RoleSocket
				l.Path, tail = path[:i], path[i:]
				if !bytes.HasPrefix(path[i:], []byte(" failed (13:")) {
					l.Kind = LineLookAlike
				}
			}
		}
	case 'F': // FastCGI sent in stderr: "…" while reading …; the rest of several lines comes raw
		if msg, ok := bytes.CutPrefix(s, []byte(`FastCGI sent in stderr: "`)); ok {
			if i = bytes.Index(msg, []byte(`" while reading `)); i >= 0 {
				msg, tail = msg[:i], msg[i:]
			}
			phpMessage(msg, l)
		}
	case '[', 'M':
		if i = bytes.Index(s, []byte("ModSecurity: Access denied with code ")); i >= 0 {
			l.lookAlike("ModSecurity")
			tail = s[i:]
		}
	}
	if l.Kind != LineOther {
		nginxTail(tail, l)
	}
	return true
}

// nginxCall judges `open() "P" failed (13: Permission denied)` and the like, and gives what follows.
func nginxCall(s []byte, l *LogLine) (tail []byte) {
	call, _, ok := bytes.Cut(s[:min(len(s), 12)], []byte(`() "`))
	if !ok {
		return nil
	}
	code := ""
	for _, c := range [...]string{"nginx:open", "nginx:openat", "nginx:stat", "nginx:lstat", "nginx:opendir"} {
		if string(call) == c[len("nginx:"):] {
			code = c
		}
	}
	if code == "" {
		return nil
	}
	rest := s[len(call)+len(`() "`):]
	const words = `" failed (`
	i := bytes.Index(rest, []byte(words))
	if i <= 0 {
		return nil
	}
	l.Path, tail = rest[:i], rest[i+len(words):]
	errno, _, _ := bytes.Cut(tail[:min(len(tail), 8)], []byte(":"))
	switch number(errno) {
	case eACCES:
		if l.failure(code, BlameWay); strings.HasSuffix(code, "stat") {
			l.Blame = BlameParent
		}
	case eLOOP: // disable_symlinks
		l.failure(code, BlameLink)
	default: // not there, a name too long
		l.Path = nil
	}
	return tail
}

// nginxTail takes the names from `, client: C, server: S, request: "GET /x HTTP/1.1", host: "h"`. The server is the
// configuration's own name; the host is the visitor's.
func nginxTail(s []byte, l *LogLine) {
	i := bytes.Index(s, []byte(", client: "))
	if i < 0 {
		return
	}
	s = s[i+len(", client: "):]
	l.Client, s, _ = bytes.Cut(s, []byte(", "))
	name, rest, ok := bytes.Cut(s, []byte(", "))
	if name, ok2 := bytes.CutPrefix(name, []byte("server: ")); ok2 {
		l.Name = name
	}
	if !ok {
		return
	}
	if req, ok := bytes.CutPrefix(rest, []byte(`request: "`)); ok {
		if _, req, ok = bytes.Cut(req, []byte(" ")); ok {
			l.URL, _, _ = bytes.Cut(req, []byte(" "))
		}
	}
}
