package web

import (
	"bytes"
)

// apache parses what follows the time in a line of ErrorLogFormat's default (do_errorlog_default, server/log.c):
//
//	[module:level] [pid P:tid T] file.c(line): (errno)strerror: [client IP:PORT] AHnnnnn: message, referer: URL
//
// All but the first and the message may be missing. suPHP's own log has [level] alone.
func (p *LogParser) apache(s []byte, l *LogLine) {
	l.Server = "apache"
	module := []byte(nil)
	if f, rest, ok := cutBracket(s); ok {
		if bytes.IndexByte(f, ':') < 0 && !bytes.HasPrefix(rest, []byte("[")) {
			l.Server = "suphp"
			suphpMessage(rest, l)
			return
		}
		module, s = f, rest
	}
	if f, rest, ok := cutBracket(s); ok && bytes.HasPrefix(f, []byte("pid ")) {
		s = rest
	}
	if i := bytes.Index(s[:min(len(s), 64)], []byte("): ")); i > 0 && s[0] != '(' && s[0] != '[' && bytes.IndexByte(s[:i], ' ') < 0 {
		s = s[i+3:] // file.c(line): of the debugging levels
	}
	errno := 0
	if len(s) > 0 && s[0] == '(' {
		if i := bytes.IndexByte(s[:min(len(s), 8)], ')'); i > 0 && number(s[1:i]) >= 0 {
			if n := bytes.Index(s, []byte(": ")); n > 0 {
				errno, s = number(s[1:i]), s[n+2:]
			}
		}
	}
	if f, rest, ok := cutBracket(s); ok {
		for _, word := range [...]string{"client ", "remote "} {
			if c, ok := bytes.CutPrefix(f, []byte(word)); ok {
				l.Client, s = c, rest
			}
		}
	}
	p.apacheMessage(s, errno, module, l)
}

// cutBracket takes "[…] " off the beginning.
func cutBracket(s []byte) (in, rest []byte, ok bool) {
	if len(s) == 0 || s[0] != '[' {
		return nil, s, false
	}
	i := bytes.IndexByte(s, ']')
	if i < 0 {
		return nil, s, false
	}
	return s[1:i], bytes.TrimPrefix(s[i+1:], []byte(" ")), true
}

// errno of Linux, as servers print them.
const (
	ePERM        = 1
	eNOENT       = 2
	eACCES       = 13
	eNFILE       = 23
	eMFILE       = 24
	eNAMETOOLONG = 36
	eLOOP        = 40
)

// apacheMessage judges a message by its code. Where a visitor's words could be taken for the server's own (the request, the
// referrer), the part that is the server's decides: a path comes out cut short at worst.
func (p *LogParser) apacheMessage(s []byte, errno int, module []byte, l *LogLine) {
	ah := 0
	if len(s) > 9 && s[0] == 'A' && s[1] == 'H' && s[7] == ':' {
		if n := number(s[2:7]); n >= 0 {
			ah, s = n, s[9:]
		}
	}
	if i := bytes.Index(s, []byte(", referer: ")); i >= 0 {
		s = s[:i]
	}
	switch ah {
	case 0:
		p.plainMessage(s, module, l)
	case 35: // ap_directory_walk, server/request.c
		l.failure("AH00035", BlameParent)
		p.filesystemPath(s, l)
	case 36:
		l.failure("AH00036", BlameWay)
		p.filesystemPath(s, l)
		if errno == eNAMETOOLONG || errno == eNFILE || errno == eMFILE {
			l.Kind = LineLookAlike
		}
	case 31:
		l.failure("AH00031", BlameWay)
		p.path(s, "failed; stat of '", "' failed.", l)
	case 32, 37:
		l.failure(pick(ah == 32, "AH00032", "AH00037"), BlameLink)
		p.path(s, "accessible: ", "", l)
	case 38:
		l.failure("AH00038", BlamePath)
		p.path(s, "Forbidden: ", " doesn't point to", l)
	case 132:
		l.failure("AH00132", BlameWay)
		p.path(s, "server access: ", "", l)
		if errno != 0 && errno != eACCES && errno != ePERM && errno != eLOOP {
			l.Kind = LineLookAlike // too many open files, a socket: the words lie
		}
	case 529:
		l.failure("AH00529", BlameHtaccess)
		p.path(s, "", " pcfg_openfile: ", l)
		if errno == eNFILE || errno == eMFILE {
			l.Kind = LineLookAlike
		}
	case 686:
		l.failure("AH00686", BlamePath)
		p.path(s, "for multi: ", "", l)
	case 1275:
		l.failure("AH01275", BlamePath)
		p.path(s, "for index: ", "", l)
	case 1241, 1215, 1262, 1263, 1264, 1265, 1266, 2809, 2811, 2812, 2813:
		p.cgiMessage(ah, s, errno, l)
	case 1071:
		phpMessage(s, l)
	case 2454:
		l.failure("AH02454", BlameWay)
		l.Role = RoleSocket
		if p.path(s, "domain socket ", " (", l); errno != eACCES {
			l.Kind = LineLookAlike // nobody listens there
		}
	case 1620:
		l.failure("AH01620", BlameWay)
		if p.path(s, "password file: ", "", l); errno == eNOENT {
			l.Kind = LineLookAlike
		}
	default:
		p.apacheLookAlike(ah, s, l)
	}
}

func (p *LogParser) apacheLookAlike(ah int, s []byte, l *LogLine) {
	switch ah {
	case 1630:
		l.lookAlike("AH01630")
		p.path(s, "configuration: ", "", l)
	case 1797:
		l.lookAlike("AH01797")
		p.path(s, "configuration: ", "", l)
	case 1276:
		l.lookAlike("AH01276")
		p.path(s, "Cannot serve directory ", ": No matching", l)
	case 670:
		l.lookAlike("AH00670")
		p.path(s, " restrictions : ", "", l)
	}
}

func pick(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

func (l *LogLine) failure(code string, b Blame) { l.Kind, l.Code, l.Blame = LineFailure, code, b }
func (l *LogLine) lookAlike(code string)        { l.Kind, l.Code = LineLookAlike, code }

// path takes the path between two words of the server's; "" is the end.
func (p *LogParser) path(s []byte, before, after string, l *LogLine) {
	i := bytes.Index(s, []byte(before))
	if i < 0 {
		return
	}
	s = s[i+len(before):]
	if after != "" {
		if i = bytes.LastIndex(s, []byte(after)); i < 0 {
			return
		}
		s = s[:i]
	}
	l.Path = p.unescape(s)
}

// filesystemPath takes the path of AH00035 and AH00036. The request before it is the visitor's and may look like the rest
// of the line; the path ends in a single name that may be too, but a name holds no slash.
func (p *LogParser) filesystemPath(s []byte, l *LogLine) {
	const before = " (filesystem path '/"
	if i := bytes.LastIndex(s, []byte(before)); i >= 0 {
		s = s[i+len(before)-1:]
		if i = bytes.LastIndex(s, []byte("')")); i >= 0 {
			l.Path = p.unescape(s[:i])
		}
	}
}

// cgiMessage judges mod_cgi's and mod_cgid's lines. Until 2.4.59 they are "MESSAGE: PATH", since then "stderr from PATH:
// MESSAGE".
func (p *LogParser) cgiMessage(ah int, s []byte, errno int, l *LogLine) {
	l.Role = RoleCGI
	script, msg := []byte(nil), s
	if rest, ok := bytes.CutPrefix(s, []byte("stderr from ")); ok {
		if i := bytes.Index(rest, []byte(": ")); i >= 0 {
			script, msg = rest[:i], rest[i+2:]
		}
	} else if i := bytes.LastIndex(s, []byte(": /")); i >= 0 {
		script, msg = s[i+2:], s[:i]
	}
	switch {
	case ah == 1262 || ah == 2809:
		l.lookAlike(pick(ah == 1262, "AH01262", "AH02809"))
		l.Path = p.unescape(script)
		return
	case ah != 1241 && ah != 1215:
		return // not found, a directory: no permission
	}
	code := pick(ah == 1241, "AH01241", "AH01215")
	if len(msg) > 1 && msg[0] == '(' {
		if i := bytes.IndexByte(msg[:min(len(msg), 8)], ')'); i > 0 && number(msg[1:i]) > 0 {
			errno = number(msg[1:i])
		}
	}
	x, ok := between(msg, "exec of '", "' failed")
	switch {
	case ok && errno == eACCES:
		l.failure(code, BlameWay)
		l.Path = p.unescape(x)
	case ok: // no such interpreter, no interpreter named
		l.lookAlike(code)
		l.Path = p.unescape(x)
	case bytes.Contains(msg, []byte("suexec policy violation")): // suexec.log says why
	case bytes.Contains(msg, []byte("ermission denied")):
		l.Kind, l.Code, l.Path = LineEither, code, p.unescape(script)
		if x, ok := interpreted(msg); ok {
			l.failure(code, BlameWay)
			l.Path = p.unescape(x)
		}
	}
}

// interpreted finds the script that an interpreter says it can't read: "/bin/sh: 0: cannot open /x/y.cgi: Permission denied".
func interpreted(s []byte) (script []byte, ok bool) {
	i := bytes.Index(s, []byte("cannot open /"))
	if i < 0 {
		return nil, false
	}
	s = s[i+len("cannot open "):]
	i = bytes.Index(s, []byte(": Permission denied"))
	return s[:max(i, 0)], i > 0
}

// plainMessage judges the messages that have no code: of modules that others wrote, and some of the server's own.
func (p *LogParser) plainMessage(s, module []byte, l *LogLine) {
	if len(s) == 0 {
		return
	}
	has := func(words string) bool { return bytes.HasPrefix(s, []byte(words)) }
	switch s[0] {
	case '[', 'M':
		if i := bytes.Index(s, []byte("ModSecurity: Access denied with code ")); i >= 0 {
			l.lookAlike("ModSecurity")
			l.Name, _ = between(s[i:], `[hostname "`, `"]`)
			l.URL, _ = between(s[i:], `[uri "`, `"]`)
		}
	case '/':
		// Nothing else is of the level alert and begins with a path.
		if i := bytes.Index(s, []byte(".htaccess: ")); i >= 0 && bytes.HasSuffix(module, []byte(":alert")) {
			l.lookAlike("htaccess:config")
			l.Path = p.unescape(s[:i+len(".htaccess")])
		}
	case 'P':
		if has("PHP ") {
			phpMessage(s, l)
		}
	case 's':
		if has("script '") {
			l.Kind, l.Code, l.Role = LineEither, "php:not-found", RolePHP
			p.path(s, "script '", "' not found or", l)
		}
	case 'm':
		if has("mod_fcgid: stderr: ") {
			phpMessage(s, l)
		} else if has("mod_fcgid: location of script ") {
			l.lookAlike("fcgid:exec-cgi")
			p.path(s, "of script ", " does not have ExecCGI", l)
		}
	case 'S':
		if has("SoftException in ") {
			if i := bytes.Index(s, []byte(": ")); i >= 0 {
				suphpMessage(s[i+2:], l)
			}
		}
	case 'I':
		if has("Insufficient permissions: ") {
			l.failure("suphp:unreadable", BlamePath)
			p.path(s, "permissions: ", "", l)
		}
	case 'C':
		switch {
		case has("Couldn't read "):
			l.failure("itk:read", BlameHtaccess)
			p.path(s, "Couldn't read ", ", closing connection.", l)
		case has("Caught race condition abuser"):
			l.failure("SymlinkProtect", BlamePath)
			p.path(s, "open file: ", "", l)
		}
	}
}
