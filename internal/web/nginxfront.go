package web

import (
	"regexp"
	"strings"
)

// place is where a request ends up: the bodies that apply, from http inward. The last is the location's, or the
// server's own where no location matches.
type place struct {
	v      *NginxServer
	bodies [][]Directive
}

// own finds a directive of the innermost body: those that are not inherited.
func (p *place) own(name string) *Directive {
	body := p.bodies[len(p.bodies)-1]
	for i := range body {
		if body[i].Name == name {
			return &body[i]
		}
	}
	return nil
}

// inherited finds all directives of that name in the innermost body that has any.
func (p *place) inherited(name string) (ds []*Directive) {
	for i := len(p.bodies) - 1; i >= 0 && len(ds) == 0; i-- {
		for k := range p.bodies[i] {
			if d := &p.bodies[i][k]; d.Name == name {
				ds = append(ds, d)
			}
		}
	}
	return ds
}

// root is the document root that applies, with variables replaced as far as they are known.
func (p *place) root() (string, *Directive) {
	if d := p.own("alias"); d != nil {
		return p.v.expand(d.Arg(0)), d
	}
	if ds := p.inherited("root"); len(ds) > 0 {
		return p.v.expand(ds[0].Arg(0)), ds[0]
	}
	return "", nil
}

// deciders are directives that answer a request without regard to the files below the document root.
var deciders = [...]string{
	"return", "proxy_pass", "fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass", "memcached_pass", "content_by_lua_block",
	"content_by_lua_file", "stub_status", "empty_gif", "alias", "internal", "perl", "js_content",
}

// decider is what answers here without regard to the files below the document root, or nil.
func (p *place) decider() *Directive {
	for _, n := range deciders {
		if d := p.own(n); d != nil {
			return d
		}
	}
	// A server's own return answers before any location is looked for.
	for i := range p.v.Body {
		if p.v.Body[i].Name == "return" {
			return &p.v.Body[i]
		}
	}
	return nil
}

// locate finds the location of a path as ngx_http_core_find_location does: the exact one, else the longest prefix and
// what is nested in it, else the first regular expression that matches. It is not known where an expression before that
// is of a kind that cannot be tried here.
func (v *NginxServer) locate(uri string) (p place, known bool) {
	p = place{v: v, bodies: [][]Directive{v.http, v.Body}}
	known, _ = p.descend(uri, 0)
	return p, known
}

// descend goes into the locations of the innermost body. done: an exact or regular match ended the search.
func (p *place) descend(uri string, depth int) (known, done bool) {
	body := p.bodies[len(p.bodies)-1]
	var best *Directive
	longest, noRegex := -1, false
	for i := range body {
		d := &body[i]
		if d.Name != "location" || !d.Section {
			continue
		}
		switch mod, pattern := locationPattern(d); {
		case mod == "=" && pattern == uri:
			p.bodies = append(p.bodies, d.Body)
			return true, true
		case (mod == "" || mod == "^~") && strings.HasPrefix(uri, pattern) && len(pattern) > longest && !strings.HasPrefix(pattern, "@"):
			best, longest, noRegex = d, len(pattern), mod == "^~"
		}
	}
	outside := len(p.bodies)
	if best != nil {
		p.bodies = append(p.bodies, best.Body)
		if depth < maxNesting {
			if known, done = p.descend(uri, depth+1); done || !known {
				return known, done
			}
		}
	}
	if noRegex {
		return true, false
	}
	for i := range body {
		mod, pattern := "", ""
		if d := &body[i]; d.Name == "location" && d.Section {
			mod, pattern = locationPattern(d)
		}
		if mod != "~" && mod != "~*" {
			continue
		}
		if mod == "~*" {
			pattern = "(?i)" + pattern
		}
		re, err := regexp.Compile(pattern)
		if err != nil {
			return false, false
		}
		if re.MatchString(uri) {
			p.bodies = append(p.bodies[:outside:outside], body[i].Body)
			known, _ = p.descend(uri, depth+1)
			return known, true
		}
	}
	return true, false
}

// locationPattern takes a location's modifier and pattern apart; they may be one word.
func locationPattern(d *Directive) (mod, pattern string) {
	if len(d.Args) > 1 {
		return d.Arg(0), d.Arg(1)
	}
	for _, m := range [...]string{"^~", "~*", "~", "="} {
		if rest, ok := strings.CutPrefix(d.Arg(0), m); ok {
			return m, rest
		}
	}
	return "", d.Arg(0)
}

// A NginxFront is how nginx answers a request for "/" from the files of a document root.
type NginxFront struct {
	// Index are the names that are tried for a directory, in order.
	Index []string
	// TryFiles are the arguments of try_files, nil where there is none. The last one is what is left if nothing else is
	// found: a path, "=CODE" or "@NAME".
	TryFiles []string
	// Unknown says what else decides, where it is not files alone.
	Unknown string
	// Links is disable_symlinks: "", "on" or "if_not_owner".
	Links string
	// Looks is that of the server's [NginxPHP].
	Looks bool
}

// Front tells how a server answers a request for "/".
func (v *NginxServer) Front() NginxFront {
	f := NginxFront{Index: []string{"index.html"}}
	at, known := v.locate("/")
	if !known {
		f.Unknown = "a location with a regular expression that is not understood"
		return f
	}
	if d := at.decider(); d != nil {
		f.Unknown = d.Name
		return f
	}
	// Conditions of a whole server nearly always pick the name or scheme; those of a location pick files.
	for _, n := range [...]string{"if", "rewrite", "rewrite_by_lua_block", "access_by_lua_block"} {
		if len(at.bodies) > 2 && at.own(n) != nil {
			f.Unknown = n
		}
	}
	for _, n := range [...]string{"auth_basic", "auth_request", "deny"} {
		if ds := at.inherited(n); len(ds) > 0 && ds[0].Arg(0) != "off" {
			f.Unknown = n
		}
	}
	if ds := at.inherited("index"); len(ds) > 0 {
		f.Index = nil
		for _, d := range ds {
			f.Index = append(f.Index, d.Args...)
		}
	}
	if ds := at.inherited("disable_symlinks"); len(ds) > 0 && ds[0].Arg(0) != "off" {
		f.Links = ds[0].Arg(0)
	}
	if d := at.own("try_files"); d != nil {
		for _, a := range d.Args {
			f.TryFiles = append(f.TryFiles, v.expand(a))
		}
	}
	return f
}

// A NginxPHP says how nginx runs the PHP scripts of a document root.
type NginxPHP struct {
	// Kind is "fpm", "none", or "unknown".
	Kind string
	// Backends are the sockets that may answer, in the form of [PHPHandler.Backend].
	Backends []string
	// Looks is set where nginx looks for the file itself first (try_files), and so must be able to reach it.
	Looks bool
	File  string
	Line  int
}

// PHP tells how scripts directly in the document root run.
func (c *NginxConfig) PHP(v *NginxServer) NginxPHP {
	at, known := v.locate("/index.php")
	if !known {
		return NginxPHP{Kind: "unknown", File: v.File, Line: v.Line}
	}
	d := at.own("fastcgi_pass")
	if d == nil {
		return NginxPHP{Kind: "none"}
	}
	h := NginxPHP{Kind: "fpm", Looks: at.own("try_files") != nil, File: d.File, Line: d.Line}
	target := v.expand(d.Arg(0))
	if members, ok := c.Upstreams[target]; ok {
		h.Backends = members
	} else if !strings.Contains(target, "$") {
		h.Backends = []string{nginxBackend(target)}
	}
	if len(h.Backends) == 0 {
		h.Kind = "unknown"
	}
	return h
}

// proxied reports whether another server answers here, by proxy_pass or by that of a named location to which try_files
// comes in the end.
func (v *NginxServer) proxied(at *place) bool {
	if at.own("proxy_pass") != nil {
		return true
	}
	d := at.own("try_files")
	if d == nil || len(d.Args) == 0 {
		return false
	}
	behind := v.named(d.Args[len(d.Args)-1])
	return behind != nil && behind.own("proxy_pass") != nil
}

// named finds a location whose name begins with "@".
func (v *NginxServer) named(name string) *place {
	for i := range v.Body {
		if d := &v.Body[i]; d.Name == "location" && d.Section && len(d.Args) == 1 && d.Arg(0) == name {
			return &place{v: v, bodies: [][]Directive{v.http, v.Body, d.Body}}
		}
	}
	return nil
}
