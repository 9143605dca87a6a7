package web

import (
	"bytes"
	"slices"
)

// access parses a line of an access log in the common, combined or vhost_combined form, of either server:
//
//	[VHOST:PORT ]CLIENT IDENT USER [TIME] "REQUEST" STATUS BYTES …
//
// It tells only the answers that may be about permissions, and of other lines no more than that they are of this form.
func (p *LogParser) access(line []byte, l *LogLine) bool {
	i := bytes.IndexByte(line, '[')
	if i < 6 || len(line) < i+32 || line[i-1] != ' ' {
		return false
	}
	s := line[i+1:]
	if s[2] != '/' || s[6] != '/' || s[11] != ':' || s[26] != ']' || s[27] != ' ' || s[28] != '"' {
		return false
	}
	stamp := s[:26]
	s = s[29:]
	n := requestEnd(s)
	if n < 0 || len(s) < n+5 || s[n+1] != ' ' {
		return false
	}
	status := number(s[n+2 : n+5])
	if !telling(status) {
		return status > 0
	}
	t, ok := p.stamp(stamp)
	if !ok {
		return false
	}
	l.Kind, l.Status, l.Unix = LineAnswer, status, t
	l.URL = requestURL(s[:n])
	first, rest, _ := bytes.Cut(line[:i], []byte(" "))
	l.Client = first
	if !address(first) && bytes.Count(rest, []byte(" ")) >= 3 {
		if c := bytes.LastIndexByte(first, ':'); c > 0 {
			l.Name = first[:c]
			l.Client, _, _ = bytes.Cut(rest, []byte(" "))
		}
	}
	return true
}

// address tells an IP address from a name and port: an IPv4 address holds no letters, an IPv6 address no dots and at least
// two colons.
func address(s []byte) bool {
	colons, dots, letters := 0, 0, 0
	for _, c := range s {
		switch {
		case c == ':':
			colons++
		case c == '.':
			dots++
		case c >= '0' && c <= '9':
		case hexDigit(c) >= 0:
			letters++
		default:
			return false
		}
	}
	return dots > 0 && letters+colons == 0 || dots == 0 && colons > 1
}

// telling reports the answers that may be about permissions.
func telling(status int) bool {
	return status == 403 || status == 404 || status == 500 || status == 503
}

// requestEnd finds the quote that ends a request; those in it are escaped.
func requestEnd(s []byte) int {
	for from := 0; ; {
		i := bytes.IndexByte(s[from:], '"')
		if i < 0 {
			return -1
		}
		i += from
		escapes := 0
		for escapes < i && s[i-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return i
		}
		from = i + 1
	}
}

func requestURL(request []byte) []byte {
	_, url, _ := bytes.Cut(request, []byte(" "))
	url, _, _ = bytes.Cut(url, []byte(" "))
	url, _, _ = bytes.Cut(url, []byte("?"))
	return url
}

// custom tries the forms of the configuration, on lines that hold a word worth it.
func (p *LogParser) custom(line []byte, l *LogLine) bool {
	if len(p.Formats) == 0 {
		return false
	}
	errorWord := slices.ContainsFunc(errorWords[:], func(w string) bool { return bytes.Contains(line, []byte(w)) })
	answerWord := slices.ContainsFunc(answerWords[:], func(w string) bool { return bytes.Contains(line, []byte(w)) })
	for _, f := range p.Formats {
		if f.access && !answerWord || !f.access && !errorWord {
			continue
		}
		at := f.re.FindSubmatchIndex(line)
		if at == nil {
			continue
		}
		get := func(name string) []byte {
			if i := 2 * f.groups[name]; i > 0 && at[i] >= 0 {
				return line[at[i]:at[i+1]]
			}
			return nil
		}
		l.Unix, _ = p.stamp(get("time"))
		l.Name, l.Client = get("name"), get("client")
		if !f.access {
			l.Server = "apache"
			errno := 0
			if e, ok := between(get("errno"), "(", ")"); ok {
				errno = max(number(e), 0)
			}
			module := get("module")
			if level := get("level"); level != nil {
				module = append(append(slices.Clone(module), ':'), level...)
			}
			p.apacheMessage(get("message"), errno, module, l)
		} else if l.Status = number(get("status")); telling(l.Status) {
			l.Kind, l.URL = LineAnswer, requestURL(get("request"))
		}
		return l.Kind != LineOther
	}
	return false
}

// errorWords is in every message of Apache's that is judged, answerWords in every answer.
var (
	errorWords = [...]string{
		"ermission", "AH0", "htaccess", "ModSecurity", "SoftException", "rimary script", "closing connection", "race condition", "required '",
		"not found or unable", "ExecCGI",
	}
	answerWords = [...]string{"403", "404", "500", "503"}
)
