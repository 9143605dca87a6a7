package web

import (
	"slices"
	"strconv"
	"strings"
)

// An ngxConf is one level of configuration with what it inherits: http, a server, a location, an if or limit_except block
// of a location. Which directives are inherited, and how, is each module's merge function.
type ngxConf struct {
	up   *ngxConf
	d    *Directive // of the block; nil for http
	kind ngxKind

	// A location's pattern, and the locations nested in it.
	mod, name string
	re        *ngxRegex
	exact     map[string]*ngxConf
	prefix    []*ngxConf // longest first
	slashed   []*ngxConf // those of exact and prefix that answer without their last slash by asking for it
	regex     []*ngxConf
	named     map[string]*ngxConf // a server's
	ifs       map[*Directive]*ngxConf
	except    *ngxConf // limit_except that applies to GET

	// What is not inherited, but for the handler by an if block.
	codes    []*Directive // of the rewrite module, in order
	tryFiles []ngxTemplate
	tryFrom  *Directive
	handler  *Directive // answers in place of files

	// What is.
	root       ngxTemplate
	rootFrom   *Directive // nil: the built-in "html"
	alias      int        // bytes of the URI that it stands for; -1: a location with an expression, all of it
	index      []ngxTemplate
	autoindex  bool
	links      string // disable_symlinks: "", "on", "if_not_owner"
	linksFrom  ngxTemplate
	rules      []*Directive // allow, deny
	satisfyAny bool
	auth       *Directive // auth_basic
	authFile   ngxTemplate
	authAsk    *Directive // auth_request
	errorPages []ngxErrorPage
	recursive  bool
	// fastcgi_intercept_errors and proxy_intercept_errors: error_page has answers for another server's too.
	intercept, proxyIntercept bool
	internal                  bool
	script                    *ngxTemplate // SCRIPT_FILENAME
	method                    bool         // REQUEST_METHOD is given, without which PHP says nothing (200)
	fcgiIndex                 string
	split                     *ngxRegex // fastcgi_split_path_info
	splitFrom                 *Directive
	gzipStatic                string
	referers                  *Directive // valid_referers
	cached                    bool       // open_file_cache
	guarded                   bool       // ModSecurity
	doubt                     *Directive // one that may decide, nobody knows how
}

type ngxKind uint8

const (
	ngxHTTP ngxKind = iota
	ngxServer
	ngxLocation
	ngxIf
	ngxExcept
)

type ngxErrorPage struct {
	code      int
	overwrite int // -1: the application's
	page      ngxTemplate
	from      *Directive
}

// ngxHandlers answer a request in place of files; each is a content handler of its own.
var ngxHandlers = [...]string{
	"proxy_pass", "fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass", "memcached_pass", "content_by_lua_block", "content_by_lua_file",
	"content_by_lua", "stub_status", "empty_gif", "perl", "js_content", "passenger_enabled", "echo", "tunnel_pass", "api", "status",
}

// newNgxConf compiles one level. body is what stands in the block.
func newNgxConf(up *ngxConf, kind ngxKind, d *Directive, body []Directive) *ngxConf {
	c := &ngxConf{up: up, kind: kind, d: d, index: []ngxTemplate{newNgxTemplate("index.html")}, root: newNgxTemplate("html")}
	if up != nil {
		*c = *up
		c.up, c.kind, c.d = up, kind, d
		c.exact, c.prefix, c.regex, c.named, c.ifs, c.except = nil, nil, nil, nil, nil, nil
		c.slashed, c.codes, c.tryFiles, c.tryFrom = nil, nil, nil, nil
		if kind == ngxLocation || c.handler != nil && !strings.HasSuffix(c.handler.Name, "_pass") {
			c.handler = nil
		}
	}
	if kind == ngxLocation {
		c.re = nil
		if c.mod, c.name = locationPattern(d); c.mod == "~" || c.mod == "~*" {
			c.re = newNgxRegex(c.name, c.mod == "~*")
		}
	}
	c.lists(body)
	for i := range body {
		c.apply(&body[i])
	}
	return c
}

// lists takes the directives of which several at one level make one list, which replaces the outer one.
func (c *ngxConf) lists(body []Directive) {
	all := func(names ...string) (ds []*Directive) {
		for i := range body {
			if slices.Contains(names, body[i].Name) {
				ds = append(ds, &body[i])
			}
		}
		return ds
	}
	if ds := all("index"); ds != nil {
		c.index = nil
		for _, d := range ds {
			for _, a := range d.Args {
				c.index = append(c.index, newNgxTemplate(a))
			}
		}
	}
	if ds := all("allow", "deny"); ds != nil {
		c.rules = ds
	}
	if ds := all("error_page"); ds != nil {
		c.errorPages = nil
		for _, d := range ds {
			c.errorPages = append(c.errorPages, errorPagesOf(d)...)
		}
	}
	if ds := all("fastcgi_param"); ds != nil {
		c.script, c.method = nil, false
		for _, d := range ds {
			switch d.Arg(0) {
			case "SCRIPT_FILENAME":
				t := newNgxTemplate(d.Arg(1))
				c.script = &t
			case "REQUEST_METHOD":
				c.method = true
			}
		}
	}
}

// errorPagesOf reads error_page CODE... [=[CODE]] PAGE.
func errorPagesOf(d *Directive) (out []ngxErrorPage) {
	n := len(d.Args) - 1
	if n < 1 {
		return nil
	}
	overwrite := 0
	if o, ok := strings.CutPrefix(d.Args[n-1], "="); ok {
		n--
		if overwrite, _ = strconv.Atoi(o); o == "" {
			overwrite = -1
		}
	}
	for _, a := range d.Args[:n] {
		if code, err := strconv.Atoi(a); err == nil {
			out = append(out, ngxErrorPage{code, overwrite, newNgxTemplate(d.Args[len(d.Args)-1]), d})
		}
	}
	return out
}

// apply takes a directive that stands alone.
func (c *ngxConf) apply(d *Directive) {
	on := d.Arg(0) != "off"
	switch {
	case c.applyFiles(d, on), c.applyAnswers(d, on):
	case strings.HasPrefix(d.Name, "set_by_lua"):
		c.codes = append(c.codes, d)
	case strings.HasPrefix(d.Name, "modsecurity"):
		c.guarded = c.guarded || on
	case slices.Contains(ngxHandlers[:], d.Name) && on:
		c.handler = d
	case !harmless(d):
		c.doubt = d
	}
}

// applyFiles takes what says which file is looked for, and how.
func (c *ngxConf) applyFiles(d *Directive, on bool) bool {
	switch d.Name {
	case "root":
		c.root, c.rootFrom, c.alias = newNgxTemplate(strings.TrimSuffix(d.Arg(0), "/")), d, 0
	case "alias":
		c.root, c.rootFrom, c.alias = newNgxTemplate(d.Arg(0)), d, len(c.name)
		if c.re != nil {
			c.alias = -1
		}
	case "autoindex":
		c.autoindex = on
	case "disable_symlinks":
		c.links, c.linksFrom = "", ngxTemplate{}
		if on {
			c.links = d.Arg(0)
			if from, ok := strings.CutPrefix(d.Arg(1), "from="); ok {
				c.linksFrom = newNgxTemplate(from)
			}
		}
	case "gzip_static":
		if c.gzipStatic = d.Arg(0); !on {
			c.gzipStatic = ""
		}
	case "open_file_cache":
		c.cached = on
	case "try_files":
		c.tryFrom = d
		for _, a := range d.Args {
			c.tryFiles = append(c.tryFiles, newNgxTemplate(a))
		}
	case "fastcgi_index":
		c.fcgiIndex = d.Arg(0)
	case "fastcgi_split_path_info":
		c.split, c.splitFrom = newNgxRegex(d.Arg(0), false), d
	default:
		return false
	}
	return true
}

// applyAnswers takes what says who may have it, and what is answered otherwise.
func (c *ngxConf) applyAnswers(d *Directive, on bool) bool {
	switch d.Name {
	case "satisfy":
		c.satisfyAny = d.Arg(0) == "any"
	case "auth_basic":
		if c.auth = d; !on {
			c.auth = nil
		}
	case "auth_basic_user_file":
		c.authFile = newNgxTemplate(d.Arg(0))
	case "auth_request":
		if c.authAsk = d; !on {
			c.authAsk = nil
		}
	case "recursive_error_pages":
		c.recursive = on
	case "fastcgi_intercept_errors":
		c.intercept = on
	case "proxy_intercept_errors":
		c.proxyIntercept = on
	case "internal":
		c.internal = true
	case "valid_referers":
		c.referers = d
	case "ssl_verify_client", "ssl_reject_handshake":
		if d.Arg(0) == "on" {
			c.doubt = d
		}
	case "if":
		if c.ifs == nil {
			c.ifs = map[*Directive]*ngxConf{}
		}
		c.codes = append(c.codes, d)
	case "set", "break", "return", "rewrite":
		c.codes = append(c.codes, d)
	default:
		return false
	}
	return true
}

// nest compiles the blocks within a level, after all of its own directives.
func (c *ngxConf) nest(body []Directive, depth int) {
	for i := range body {
		d := &body[i]
		switch {
		case depth == 0 || !d.Section:
		case d.Name == "location":
			l := newNgxConf(c, ngxLocation, d, d.Body)
			l.nest(d.Body, depth-1)
			c.add(l)
		case d.Name == "if" && c.kind == ngxLocation:
			c.ifs[d] = newNgxConf(c, ngxIf, d, d.Body)
		case d.Name == "if":
			c.ifs[d] = newNgxConf(nil, ngxIf, d, d.Body) // it only rewrites
		case d.Name == "limit_except" && !slices.ContainsFunc(d.Args, func(m string) bool { return strings.EqualFold(m, "GET") }):
			c.except = newNgxConf(c, ngxExcept, d, d.Body)
		}
	}
	slices.SortStableFunc(c.prefix, func(a, b *ngxConf) int { return len(b.name) - len(a.name) })
}

func (c *ngxConf) add(l *ngxConf) {
	if l.re == nil && l.handler != nil && strings.HasSuffix(l.handler.Name, "_pass") && strings.HasSuffix(l.name, "/") {
		c.slashed = append(c.slashed, l)
	}
	switch {
	case l.mod == "=":
		if c.exact == nil {
			c.exact = map[string]*ngxConf{}
		}
		c.exact[l.name] = l
	case l.re != nil:
		c.regex = append(c.regex, l)
	case strings.HasPrefix(l.name, "@"):
		if c.named == nil {
			c.named = map[string]*ngxConf{}
		}
		c.named[l.name] = l
	default:
		c.prefix = append(c.prefix, l)
	}
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

// An ngxFound is where a request ends up.
type ngxFound struct {
	conf *ngxConf
	// done: an exact or regular match ended the search.
	done bool
	// slash: the location's name has a slash more, and it asks for it.
	slash bool
	// unsure is an expression on the way that cannot be tried here, or nil.
	unsure *ngxConf
}

// locate finds the location of a URI as ngx_http_core_find_location does: the exact one, else the longest prefix and what
// is nested in it, else the first regular expression that matches, and what is nested in that.
func (c *ngxConf) locate(uri []byte) ngxFound {
	if l := c.exact[string(uri)]; l != nil {
		return ngxFound{conf: l, done: true}
	}
	found, noRegex := ngxFound{conf: c}, false
	var best *ngxConf
	for _, l := range c.prefix {
		if len(l.name) <= len(uri) && l.name == string(uri[:len(l.name)]) {
			best = l
			break
		}
	}
	for _, l := range c.slashed {
		if len(l.name) == len(uri)+1 && l.name[:len(uri)] == string(uri) && (best == nil || len(best.name) < len(uri)) {
			return ngxFound{conf: l, done: true, slash: true}
		}
	}
	if best != nil {
		if found = best.locate(uri); found.done || found.unsure != nil {
			return found
		}
		noRegex = best.mod == "^~"
	}
	for _, l := range c.regex {
		switch {
		case noRegex:
		case !l.re.sure(uri):
			return ngxFound{conf: found.conf, unsure: l}
		case l.re.match(uri):
			found = l.locate(uri)
			found.done = true
			return found
		}
	}
	return found
}

// each calls f for a level and everything within it.
func (c *ngxConf) each(f func(*ngxConf)) {
	f(c)
	for _, l := range c.exact {
		l.each(f)
	}
	for _, l := range c.named {
		l.each(f)
	}
	for _, l := range c.ifs {
		l.each(f)
	}
	for _, l := range slices.Concat(c.prefix, c.regex) {
		l.each(f)
	}
}
