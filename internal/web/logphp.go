package web

import "bytes"

// phpMessage judges what PHP says, wherever it is written: through FastCGI into AH01071 or nginx's log, by mod_fcgid, by
// mod_php, into its own error_log or that of PHP-FPM (fpm_main.c, main/streams/plain_wrapper.c; the words before PHP 8 begin
// in lower case). One message may hold several, of which the one that decided the answer counts.
func phpMessage(s []byte, l *LogLine) {
	// Up to 32 bytes are looked for without a copy on the heap.
	find := func(words string) int { return bytes.Index(s, []byte(words)) }
	denied := find("ermission denied")
	l.Role = RolePHP
	if i := find("open_basedir restriction in "); i >= 0 {
		l.lookAlike("php:open-basedir")
		l.Path, _ = between(s[i:], "File(", ")")
		return
	}
	if i := find("Unable to open primary script: "); i >= 0 {
		s = s[i+len("Unable to open primary script: "):]
		if i = bytes.Index(s, []byte(" (Permission denied)")); i >= 0 {
			l.failure("fpm:unable-to-open", BlameWay)
			l.Path = s[:i]
		} else {
			l.lookAlike("fpm:unable-to-open")
		}
		return
	}
	if find("Primary script unknown") >= 0 {
		l.Kind, l.Code = LineEither, "fpm:primary-script-unknown"
		return
	}
	if i := find("Access to the script '"); i >= 0 && find("security.limit_extensions") >= 0 {
		l.lookAlike("fpm:limit-extensions")
		l.Path, _ = between(s[i:], "'", "' has been denied")
		return
	}
	if denied >= 0 {
		phpDenied(s, denied, l)
		return
	}
	// mod_php says of the script itself only that; the reason is in the line before.
	if i := find(":  Failed opening required '"); i >= 0 && find("No such file") < 0 {
		l.Kind, l.Code = LineEither, "php:failed-opening"
		l.Path, _ = between(s[i:], "'", "'")
	}
}

// phpDenied judges a message with EACCES in it.
func phpDenied(s []byte, denied int, l *LogLine) {
	l.failure("php:include", BlameWay)
	// FUNCTION(PATH): Failed to open stream: Permission denied in SCRIPT on line N
	begin := 0
	if i := bytes.LastIndex(s[:denied], []byte(":  ")); i >= 0 {
		begin = i + len(":  ")
	}
	call := s[begin:denied]
	function, rest, ok := bytes.Cut(call, []byte("("))
	if !ok { // "Unknown: Failed to open stream": of the script itself or of auto_prepend_file
		if required, ok := between(s, "Failed opening required '", "'"); ok {
			l.Code, l.Path = "php:failed-opening", required
		} else {
			l.Kind = LineOther
		}
		return
	}
	switch string(function) {
	case "include", "include_once", "require", "require_once":
	default:
		l.Code, l.Role = "php:app", RoleApp // may be about writing
	}
	switch {
	case len(rest) > 0 && rest[0] == '/':
		end := bytes.Index(rest, []byte("): "))
		if i := bytes.IndexByte(rest, ','); i >= 0 && l.Role == RoleApp && (end < 0 || i < end) {
			end = i // rename(FROM,TO)
		}
		l.Path = rest[:max(end, 0)]
	case bytes.Contains(rest, []byte("open(/")): // session_start(): open(/x/sess_1, O_RDWR) failed: Permission denied (13)
		l.Path, _ = between(rest, "open(", ",")
	default: // mkdir(): Permission denied, or a relative path: the script at least says whose it is
		l.Role = RoleApp
		if script, ok := between(s[denied:], "denied in ", " on line "); ok && len(script) > 0 && script[0] == '/' {
			l.Path = script
		} else {
			l.Kind = LineOther
		}
	}
}

// suexecMessage judges a line of suexec.log (support/suexec.c). The codes are suEXEC's exit codes.
func suexecMessage(s []byte, l *LogLine) {
	l.Server, l.Role = "suexec", RoleSuexec
	if rest, ok := bytes.CutPrefix(s, []byte("uid: (")); ok { // uid: (2001/alice) gid: (2001/alice) cmd: ok.cgi
		if user, ok := between(rest, "/", ")"); ok {
			l.Kind, l.User = LineUser, user
		}
		return
	}
	for _, m := range suexecMessages {
		rest, ok := bytes.CutPrefix(s, []byte(m.words))
		if !ok {
			continue
		}
		l.Kind, l.Code, l.Blame = m.kind, m.code, BlamePath
		// The directory and a name, or the name alone.
		if i := bytes.IndexByte(rest, '('); i >= 0 {
			rest = bytes.TrimSuffix(rest[i+1:], []byte(")"))
			if m.code == "suexec:115" || m.code == "suexec:114" {
				l.Blame = BlameWay
			}
			l.Path = rest
		}
		return
	}
	if bytes.Contains(s, []byte("exec failed (")) {
		l.lookAlike("suexec:255")
		if bytes.HasPrefix(s, []byte("(13)")) {
			l.Kind = LineFailure
		}
	}
}

// suexecMessages are the words of suEXEC and the exit codes that go with them. Up to 106 it is the server's configuration
// that is wrong, not a tree.
var suexecMessages = [...]struct {
	words, code string
	kind        LineKind
}{
	{"file has no execute permission: ", "suexec:121", LineFailure},
	{"target uid/gid ", "suexec:120", LineFailure},
	{"directory is writable by others: ", "suexec:116", LineFailure},
	{"file is writable by others: ", "suexec:118", LineFailure},
	{"file is either setuid or setgid: ", "suexec:119", LineFailure},
	{"cannot stat program: ", "suexec:117", LineFailure},
	{"cannot stat directory: ", "suexec:115", LineFailure},
	{"command not in docroot ", "suexec:114", LineFailure},
	{"cannot get docroot information ", "suexec:113", LineFailure},
	{"cannot get current working directory", "suexec:111", LineFailure},
	{"cannot open current working directory", "suexec:111", LineFailure},
	{"cannot run as forbidden uid ", "suexec:107", LineFailure},
	{"cannot run as forbidden gid ", "suexec:108", LineFailure},
	{"failed to setgid", "suexec:109", LineFailure},
	{"failed to setuid", "suexec:110", LineFailure},
	{"too few arguments", "suexec:101", LineLookAlike},
	{"crit: invalid uid: ", "suexec:102", LineLookAlike},
	{"user mismatch ", "suexec:103", LineLookAlike},
	{"User ", "suexec:103", LineLookAlike},
	{"invalid command ", "suexec:104", LineLookAlike},
	{"invalid target user ", "suexec:105", LineLookAlike},
	{"invalid target group ", "suexec:106", LineLookAlike},
}

// suphpMessage judges what suPHP says in its own log and, as a SoftException, in Apache's (Application.cpp).
func suphpMessage(s []byte, l *LogLine) {
	l.Role = RoleSuexec
	code := ""
	for _, m := range suphpMessages {
		if bytes.Contains(s, []byte(m.words)) {
			code = m.code
			break
		}
	}
	if code == "" {
		return
	}
	l.failure(code, BlamePath)
	if i := bytes.Index(s, []byte(`"/`)); i >= 0 {
		s = s[i+1:]
		if i = bytes.IndexByte(s, '"'); i >= 0 {
			l.Path = s[:i]
		}
	} else if path, ok := between(s, "Directory ", " is not owned by "); ok {
		l.Path = path
	}
}

var suphpMessages = [...]struct{ words, code string }{
	{" is writeable by ", "suphp:writable"},
	{"Mismatch between target ", "suphp:owner"},
	{" is not owned by ", "suphp:owner"},
	{" is smaller than min_", "suphp:owner"},
	{" is not matching its target", "suphp:owner"},
	{" not readable", "suphp:unreadable"},
	{" is not in document root", "suphp:outside"},
	{" not within configured docroot", "suphp:outside"},
}

// rawLine judges what a program wrote into a log without any form: what a script or its interpreter says on standard error
// under mod_cgid, and the later lines of a message of several lines.
func rawLine(s []byte, l *LogLine) {
	denied := bytes.Contains(s, []byte("ermission denied"))
	if !denied && !bytes.Contains(s, []byte("rimary script")) && !bytes.Contains(s, []byte("security.limit_extensions")) {
		return
	}
	if script, ok := interpreted(s); ok {
		l.failure("stderr", BlameWay)
		l.Role, l.Path = RoleCGI, script
		return
	}
	if phpMessage(s, l); l.Path == nil && denied {
		l.Kind, l.Code = LineEither, "stderr"
	}
}
