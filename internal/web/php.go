package web

import (
	"cmp"
	"path"
	"strings"

	"rightful"
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

// PHP tells how scripts directly in the document root of v run, from the configuration alone: no .htaccess is read, and an
// <If> is taken to hold.
func (c *ApacheConfig) PHP(v *VHost) PHPHandler {
	h := NewApacheHost(ApacheHostConfig{Config: c, VHost: v, DocRoot: cmp.Or(v.DocRoot, c.Default.DocRoot, "/")})
	const script = "/index.php"
	for i := range h.proxies {
		if p := &h.proxies[i]; p.backend != "" && p.takes(script) != no {
			return PHPHandler{Kind: "fpm", Backend: p.backend, ByPath: true, File: p.d.File, Line: p.d.Line}
		}
	}
	s := &apacheScope{h: h, root: &apacheRoot{}, set: h.base, dirs: h.dirs, locs: h.locs}
	s.sections("")
	for _, n := range splitPath(h.DocRoot) {
		s.depth++
		s.sections(n)
	}
	set := s.settingsFor([]byte("index.php"), rightful.KindFile)
	for _, f := range set.ifs {
		set = set.with(h, f)
	}
	d, _ := set.handlerFor([]byte("index.php"))
	out := PHPHandler{Kind: "none"}
	switch k := h.kindOf(set, d); {
	case set.phpOff && h.php:
		return out
	case k == kindFPM:
		out = PHPHandler{Kind: "fpm", Backend: backend(d.Arg(0)[len("proxy:"):])}
	case k == kindFcgid:
		out = PHPHandler{Kind: "fcgid", Wrapper: set.wrapper}
	case k == kindCGI, k == kindAction:
		out.Kind = "cgi"
	case k == kindPHP:
		out.Kind = "dso"
	case k == kindSuPHP:
		out.Kind = "suphp"
	case k == kindLSAPI:
		out.Kind = "lsapi"
	default:
		return out
	}
	out.File, out.Line = d.File, d.Line
	return out
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
