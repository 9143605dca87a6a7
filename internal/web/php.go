package web

import (
	"path"
	"regexp"
	"strings"
)

// A PHPHandler says how a virtual host runs the PHP scripts in its document root.
type PHPHandler struct {
	// Kind is a handler of rightful.PHP ("fpm", "dso", "fcgid", "cgi", "suphp", "lsapi"), or "none".
	Kind string
	// Backend is the socket of PHP-FPM: "unix:/path" or "tcp:host:port".
	Backend string
	// ByPath is set where requests go to the backend by their path (ProxyPass): the web server then never looks at the
	// file, and only the backend's identity counts.
	ByPath bool
	// Wrapper is the program that mod_fcgid starts PHP by, or "".
	Wrapper string
	File    string
	Line    int
}

// PHP tells how scripts directly in the document root of v run, from the configuration alone: .htaccess files are not
// read. Sections apply in Apache's order: directories, then files, then locations, then <If>, which is taken to hold;
// the virtual host's after the main server's.
func (c *ApacheConfig) PHP(v *VHost) PHPHandler {
	w := phpWalk{c: c, docroot: v.DocRoot, actions: map[string]bool{}}
	w.walk(c.Default.Body, 0)
	if v != &c.Default {
		w.walk(v.Body, 0)
	}
	switch {
	case w.proxy.Kind != "":
		return w.proxy
	case w.engineOff:
		return PHPHandler{Kind: "none", File: w.off.File, Line: w.off.Line}
	case w.set.Kind != "":
		return w.wrapped(w.set)
	case w.added.Kind != "":
		return w.wrapped(w.added)
	}
	return PHPHandler{Kind: "none"}
}

func (w *phpWalk) wrapped(h PHPHandler) PHPHandler {
	if h.Kind == "fcgid" {
		h.Wrapper = w.wrapper
	}
	return h
}

type phpWalk struct {
	c         *ApacheConfig
	docroot   string
	rank      int // of the section that gave set
	set       PHPHandler
	added     PHPHandler
	proxy     PHPHandler
	off       Directive
	engineOff bool
	suphp     bool
	wrapper   string
	actions   map[string]bool // handlers that an Action hands to a CGI program
}

// The order in which Apache merges sections.
const (
	rankDirectory = iota + 1
	rankFiles
	rankLocation
	rankIf
)

func (w *phpWalk) walk(body []Directive, rank int) {
	for i := range body {
		d := &body[i]
		switch name := strings.ToLower(d.Name); name {
		case "directory", "directorymatch":
			if s := newDir(d); s.Covers(w.docroot) {
				w.walk(d.Body, max(rank, rankDirectory))
			}
		case "files", "filesmatch":
			if matches(d, "index.php") {
				w.walk(d.Body, max(rank, rankFiles))
			}
		case "location", "locationmatch":
			if matches(d, "/index.php") {
				w.walk(d.Body, max(rank, rankLocation))
			}
		case "if", "elseif", "else":
			w.walk(d.Body, max(rank, rankIf))
		case "proxypass", "proxypassmatch":
			w.proxyPass(d, name == "proxypassmatch")
		case "sethandler":
			if rank >= w.rank {
				w.rank, w.set = rank, w.handler(d, d.Arg(0))
			}
		case "addhandler", "addtype":
			for _, ext := range d.Args[min(1, len(d.Args)):] {
				if strings.EqualFold(strings.TrimPrefix(ext, "."), "php") {
					w.added = w.handler(d, d.Arg(0))
				}
			}
		case "action":
			w.actions[strings.ToLower(d.Arg(0))] = true
		case "fcgidwrapper":
			if suffix := d.Arg(1); suffix == "" || suffix == ".php" || strings.EqualFold(suffix, "virtual") {
				w.wrapper, _ = cutWord(d.Arg(0)) // arguments may follow
			}
		case "suphp_engine":
			w.suphp = strings.EqualFold(d.Arg(0), "on")
		case "php_admin_flag", "php_flag", "php_admin_value", "php_value":
			if strings.EqualFold(d.Arg(0), "engine") && w.c.PHPModule() {
				v := strings.ToLower(d.Arg(1))
				w.engineOff, w.off = v == "off" || v == "0" || v == "false", *d
			}
		}
	}
}

// handler says what the name of a handler means on this server.
func (w *phpWalk) handler(d *Directive, name string) PHPHandler {
	h := PHPHandler{File: d.File, Line: d.Line}
	low := strings.ToLower(name)
	switch {
	case strings.HasPrefix(low, "proxy:"):
		if h.Backend = backend(name[len("proxy:"):]); h.Backend != "" {
			h.Kind = "fpm"
		}
	case low == "fcgid-script":
		h.Kind = "fcgid"
	case low == "cgi-script":
		h.Kind = "cgi"
	case strings.Contains(low, "lsapi") || strings.Contains(low, "lsphp"):
		h.Kind = "lsapi"
	case w.suphp && strings.Contains(low, "php"):
		h.Kind = "suphp"
	case w.actions[low]:
		h.Kind = "cgi"
	case w.c.PHPModule() && (strings.HasPrefix(low, "application/x-httpd-php") || strings.HasPrefix(low, "application/x-httpd-ea-php") ||
		strings.HasPrefix(low, "php") && strings.HasSuffix(low, "-script")) && !strings.Contains(low, "source"):
		h.Kind = "dso"
	}
	return h
}

func (w *phpWalk) proxyPass(d *Directive, regex bool) {
	pattern, target := d.Arg(0), d.Arg(1)
	b := backend(target)
	if b == "" {
		return
	}
	hit := false
	if regex {
		hit = regexHits(pattern, "/index.php")
	} else {
		hit = pattern == "/" || strings.HasPrefix("/index.php", strings.TrimSuffix(pattern, "/")+"/")
	}
	// The first ProxyPass that matches is the one that counts.
	if hit && w.proxy.Kind == "" {
		w.proxy = PHPHandler{Kind: "fpm", Backend: b, ByPath: true, File: d.File, Line: d.Line}
	}
}

// backend takes the FastCGI socket out of unix:/path|fcgi://host/ or fcgi://host:port/path; "" for anything else.
func backend(s string) string {
	if p, rest, ok := strings.Cut(s, "|"); ok {
		sock, isUnix := strings.CutPrefix(p, "unix:")
		if isUnix && strings.HasPrefix(strings.ToLower(rest), "fcgi://") {
			return "unix:" + cleanSocket(sock)
		}
		return ""
	}
	if len(s) < 7 || !strings.EqualFold(s[:7], "fcgi://") {
		return ""
	}
	host, _, _ := strings.Cut(s[7:], "/")
	addr, port := splitAddr(host)
	if port == "" {
		port = "8000" // the default port of mod_proxy_fcgi
	}
	return "tcp:" + tcpHost(addr) + ":" + port
}

// tcpHost makes the ways to name this machine equal, for comparison only.
func tcpHost(h string) string {
	switch h {
	case "", "localhost", "::1", "0.0.0.0", "::", "*":
		return "127.0.0.1"
	}
	return h
}

// cleanSocket makes the usual two names of a socket's directory equal, for comparison only.
func cleanSocket(p string) string {
	p = path.Clean(p)
	if rest, ok := strings.CutPrefix(p, "/var/run/"); ok {
		return "/run/" + rest
	}
	return p
}

// matches reports whether a section for files or locations covers a name.
func matches(d *Directive, name string) bool {
	pattern, regex := d.Arg(0), strings.HasSuffix(strings.ToLower(d.Name), "match")
	if pattern == "~" {
		pattern, regex = d.Arg(1), true
	}
	if regex {
		return regexHits(pattern, name)
	}
	if strings.HasPrefix(name, "/") {
		if strings.ContainsAny(pattern, "*?[") {
			ok, _ := path.Match(pattern, name)
			return ok
		}
		p := strings.TrimSuffix(pattern, "/")
		return p == "" || name == p || strings.HasPrefix(name, p+"/")
	}
	ok, _ := path.Match(pattern, name)
	return ok
}

// regexHits searches a PCRE pattern. One that Go does not know (a look-around) is taken to match where it speaks of PHP.
func regexHits(pattern, s string) bool {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return strings.Contains(strings.ToLower(pattern), "ph")
	}
	return re.MatchString(s)
}

// Covers reports whether the section applies to a directory: it names the directory or one above it, by whole names.
func (s *Dir) Covers(dir string) bool {
	if s.Regex {
		re, err := regexp.Compile(s.Path)
		return err == nil && (re.MatchString(dir) || re.MatchString(dir+"/"))
	}
	if s.Path == "/" {
		return true
	}
	have := strings.Split(strings.Trim(dir, "/"), "/")
	want := strings.Split(strings.Trim(s.Path, "/"), "/")
	if len(want) > len(have) {
		return false
	}
	for i, w := range want {
		if ok, err := path.Match(w, have[i]); err != nil || !ok {
			return false
		}
	}
	return true
}
