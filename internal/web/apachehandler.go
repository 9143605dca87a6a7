package web

import (
	"bytes"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"rightful"
	"rightful/internal/tree"
)

// kind is what a handler's name means on a server.
type kind uint8

const (
	kindStatic kind = iota
	kindCGI
	kindFcgid
	kindFPM
	kindPHP // mod_php
	kindSuPHP
	kindLSAPI
	kindAction
	kindProxy   // another server, not FastCGI
	kindBuiltin // server-status and the like
	kindUnknown
)

// kind says what the name of a handler means under some settings.
func (h *ApacheHost) kind(name string, s *settings) kind {
	low := strings.ToLower(name)
	switch {
	case low == "" || low == "none" || low == "default-handler" || low == "server-parsed" || low == "send-as-is":
		return kindStatic
	case strings.HasPrefix(low, "proxy:"):
		if backend(name[len("proxy:"):]) != "" {
			return kindFPM
		}
		return kindProxy
	case low == "cgi-script":
		if h.hasModule("cgi_module") || h.hasModule("cgid_module") {
			return kindCGI
		}
		return kindStatic
	case low == "fcgid-script":
		if h.hasModule("fcgid_module") {
			return kindFcgid
		}
		return kindStatic
	case s.actions[low]:
		return kindAction
	case strings.Contains(low, "lsapi") || strings.Contains(low, "lsphp"):
		return kindLSAPI
	case s.suphp && strings.Contains(low, "php"):
		return kindSuPHP
	case low == "server-status" || low == "server-info" || low == "balancer-manager" || low == "ldap-status":
		return kindBuiltin
	case low == "type-map" || low == "imap-file":
		return kindUnknown
	case phpHandler(low):
		if h.php && !s.phpOff {
			return kindPHP
		}
		return kindStatic
	}
	// A handler that no module answers to leaves the file to the default one.
	return kindStatic
}

// phpHandler reports whether a handler's name or a type is one of mod_php's.
func phpHandler(low string) bool {
	return (strings.HasPrefix(low, "application/x-httpd-php") || strings.HasPrefix(low, "application/x-httpd-ea-php") ||
		strings.HasPrefix(low, "php") && strings.HasSuffix(low, "-script")) && !strings.Contains(low, "source")
}

// kindOf is kind for a directive, remembered.
func (h *ApacheHost) kindOf(s *settings, d *Directive) kind {
	if d == nil {
		return kindStatic
	}
	if k, ok := s.kinds[d]; ok {
		return k
	}
	if s.kinds == nil {
		s.kinds = map[*Directive]kind{}
	}
	k := h.kind(d.Arg(0), s)
	s.kinds[d] = k
	return k
}

// handlerFor finds the directive that says who handles a file: SetHandler, else the last of its suffixes that AddHandler
// or AddType knows (mod_mime takes all parts of a name).
func (s *settings) handlerFor(name []byte) (d *Directive, sure bool) {
	if s.handler != nil {
		return s.handler, true
	}
	if len(s.byExt) == 0 && len(s.typeExt) == 0 {
		return nil, true
	}
	rest := bytes.TrimLeft(name, ".")
	i := bytes.IndexByte(rest, '.')
	if i < 0 {
		return nil, true
	}
	sure = true
	var byType *Directive
	for more := true; more; {
		rest = rest[i+1:]
		if i = bytes.IndexByte(rest, '.'); i < 0 {
			i, more = len(rest), false
		}
		var low [16]byte
		if i == 0 || i > len(low) {
			continue
		}
		for k, c := range rest[:i] {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			low[k] = c
		}
		if x := s.byExt[string(low[:i])]; x != nil {
			d = x
		}
		if x := s.typeExt[string(low[:i])]; x != nil {
			byType, sure = x, true
		} else if byType != nil {
			sure = false // whether this suffix has a type is in mime.types
		}
	}
	if d != nil {
		return d, true
	}
	return byType, sure
}

// serve is what the handler makes of a file that everything before it let through.
func (s *apacheScope) serve(set *settings, name []byte, t target, in View) Verdict {
	h := s.h
	d, sure := set.handlerFor(name)
	k := h.kindOf(set, d)
	if s.script && set.handler == nil { // SetHandler says more than ScriptAlias
		k, sure = kindCGI, true
	}
	if !sure && k != kindStatic {
		return inDoubt("it has several suffixes, and the last that has a type decides", d)
	}
	switch k {
	case kindStatic:
		v := s.static(name, &t)
		if set.symlinkGuard && v.Served() {
			s.guard(&v, name, &t)
		}
		return v
	case kindCGI:
		return s.cgi(set, name, &t, d, in)
	case kindFPM:
		return s.fpm(h.poolOf(set, d), name, &t, d)
	case kindFcgid:
		return s.fcgid(set, name, &t, d, in)
	case kindPHP:
		return s.modPHP(set, name, &t)
	case kindSuPHP:
		return s.suPHP(name, &t)
	case kindLSAPI:
		v := inDoubt("LiteSpeed's PHP decides", d)
		v.Status, v.App = 200, true
		return v
	case kindBuiltin:
		return Verdict{Status: 200, Certain: true, App: true}
	case kindAction:
		v := inDoubt("an Action hands it to another program", d)
		v.Status, v.App = 200, true
		return v
	case kindProxy:
		v := inDoubt("it is handed to another server", d)
		v.App = true
		return v
	}
	return inDoubt("its handler is not known", d)
}

// openerOf is who opens a file: the worker, or with mod_ruid2's RMode stat the file's owner.
func (s *apacheScope) openerOf(m *rightful.Meta) int {
	h := s.h
	if h.mode != modeStat || m.UID < 100 {
		return h.web()
	}
	id := rightful.Identity{UID: m.UID, GIDs: []uint32{m.GID}}
	for _, g := range h.Workers.GIDs {
		if !id.Has(g) {
			id.GIDs = append(id.GIDs, g)
		}
	}
	return h.identity(id)
}

func (h *ApacheHost) reads(id int, m *rightful.Meta, need uint8) bool {
	return h.ids[id].UID == 0 || m.Allowed(h.ids[id], need)
}

// passes reports whether an identity gets to the directory.
func (s *apacheScope) passes(id int) bool {
	if id < s.root.ids {
		return s.pass.has(id)
	}
	return s.stop(s.h.ids[id]) == ""
}

// static is the default handler: it opens the file (AH00132).
func (s *apacheScope) static(name []byte, t *target) Verdict {
	h := s.h
	const code = "AH00132"
	id := h.web()
	if h.mode == modeStat {
		id = s.openerOf(&t.meta)
	}
	if h.free() && !s.passes(id) {
		return h.lacks(403, code, s.stop(h.ids[id]), id, 1, "whoever opens the file may not pass through it")
	}
	if h.free() && t.steps != nil {
		if at := h.stopped(t.steps, id); at != nil {
			return h.lacks(403, code, at.Path, id, 1, "whoever opens the file may not pass through it")
		}
	}
	if !h.reads(id, &t.meta, 4) {
		return h.lacks(403, code, s.final(name, t), id, 4, "the web server cannot read it")
	}
	switch t.kind {
	case rightful.KindFile:
		return Verdict{Status: 200, Certain: true}
	case rightful.KindSocket:
		return Verdict{Status: 403, Certain: true, Cause: CauseConfigured, Code: code, Culprit: s.final(name, t), Why: "a socket cannot be opened"}
	case rightful.KindFIFO:
		return inDoubt("it is a FIFO: the worker waits for a writer, for ever", nil)
	}
	return inDoubt("it is a device", nil)
}

// guard is SymlinkProtect of cPanel's Apache (ea-apache2, patch 0013): a file that is not of the owner of the document root
// is not found, link or not. That is known from its source, and not certain.
func (s *apacheScope) guard(v *Verdict, name []byte, t *target) {
	n := len(s.root.steps)
	if n == 0 || t.meta.UID == s.root.steps[n-1].Meta.UID {
		return
	}
	*v = Verdict{
		Status: 404, Statuses: []int{200, 404}, Cause: CausePermission, Code: "cpanel:symlink-protect", Culprit: s.final(name, t),
		Why: "it is not of the owner of the document root (SymlinkProtect)",
	}
}

// final is the path of what an entry leads to.
func (s *apacheScope) final(name []byte, t *target) string {
	if n := len(t.steps); n > 0 {
		return t.steps[n-1].Path
	}
	return s.entry(name)
}

// A pool is one PHP-FPM behind a socket.
type pool struct {
	id      int
	conf    *Pool // nil where it is not known
	doubt   string
	refused *Verdict // of the connection
}

// poolOf is the pool that a SetHandler names, remembered.
func (h *ApacheHost) poolOf(s *settings, d *Directive) *pool {
	if s.pool == nil || s.poolAt != d {
		s.pool, s.poolAt = h.pool(backend(d.Arg(0)[len("proxy:"):])), d
	}
	return s.pool
}

// pool finds the pool behind a backend, once.
func (h *ApacheHost) pool(backend string) *pool {
	if p := h.pools[backend]; p != nil {
		return p
	}
	p := &pool{}
	h.pools[backend] = p
	var conf *Pool
	var id rightful.Identity
	ok := false
	if h.Pool != nil {
		conf, id, ok = h.Pool(backend)
	}
	if !ok {
		p.doubt = "no pool file answers for " + backend + " alone"
		return p
	}
	p.id = h.identity(id)
	if conf != nil && conf.Chroot != "" {
		p.doubt = "the pool of PHP-FPM is in " + conf.Chroot + ", where paths mean something else"
	}
	p.conf = conf
	p.refused = h.socket(strings.TrimPrefix(backend, "unix:"), strings.HasPrefix(backend, "unix:"))
	return p
}

// socket says whether the worker may connect to a socket: it must get there, and write it. One that does not exist proves
// something on the running machine only.
func (h *ApacheHost) socket(p string, unix bool) *Verdict {
	if !unix || h.Server == nil {
		return nil
	}
	steps, err := h.Server.Trace(p)
	refuse := func(v Verdict) *Verdict {
		v.Code = "AH02454"
		return &v
	}
	switch {
	case err != nil && !tree.IsNotExist(err):
		return nil
	case err != nil && h.Server.Live():
		return refuse(Verdict{Status: 503, Certain: true, Cause: CauseMissing, Culprit: p, Why: "the socket of PHP-FPM does not exist"})
	case err != nil:
		return nil
	}
	if at := h.stopped(steps, h.web()); at != nil {
		return refuse(h.lacks(503, "", at.Path, h.web(), 1, "the web server cannot get to the socket of PHP-FPM"))
	}
	if last := &steps[len(steps)-1]; !h.reads(h.web(), &last.Meta, 2) {
		return refuse(h.lacks(503, "", last.Path, h.web(), 2, "the web server may not connect to PHP-FPM"))
	}
	return nil
}

// fpm is PHP-FPM's answer (sapi/fpm/fpm/fpm_main.c): it resolves the path, then looks at the suffix, then opens.
func (s *apacheScope) fpm(p *pool, name []byte, t *target, d *Directive) Verdict {
	h := s.h
	switch {
	case p.doubt != "":
		v := inDoubt(p.doubt, nil)
		v.Status, v.Statuses, v.App = 200, []int{200, 403, 404, 503}, true
		return v
	case p.refused != nil:
		return *p.refused
	}
	if v, bad := s.reach(p.id, t, 404, "fpm:primary-script-unknown"); bad {
		return v
	}
	if len(name) == 0 && t.kind == rightful.KindDir {
		// After a slash PHP looks for a regular file further up, and there is none (init_request_info).
		return Verdict{Status: 404, Certain: true, Cause: CauseMissing, Code: "fpm:primary-script-unknown", Why: "PHP is to run a directory"}
	}
	if !p.conf.runs(name) {
		return configured(403, "fpm:limit-extensions", "PHP-FPM does not run files with this suffix", d)
	}
	switch {
	case t.kind != rightful.KindFile && t.kind != rightful.KindDir:
		return inDoubt("it is no file, and PHP is to run it", d)
	case !h.reads(p.id, &t.meta, 4):
		return h.lacks(403, "fpm:unable-to-open", s.final(name, t), p.id, 4, "PHP cannot read it")
	case t.kind == rightful.KindDir:
		return Verdict{Status: 404, Certain: true, Cause: CauseMissing, Code: "fpm:unable-to-open", Why: "PHP is to run a directory"}
	case p.conf != nil && len(p.conf.OpenBasedir) > 0 && !p.conf.opens(s.final(name, t)):
		v := inDoubt("the pool's open_basedir does not name its directory", d)
		v.Status, v.Statuses, v.App = 404, []int{200, 404}, true
		return v
	case bytes.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '?' || r == '#' }):
		return inDoubt("the name has bytes that Apache may not hand on", d)
	}
	return Verdict{Status: 200, Certain: true, App: true}
}

// reach finds what keeps an identity that resolves the path by itself from getting to a file.
func (s *apacheScope) reach(id int, t *target, status int, code string) (Verdict, bool) {
	h := s.h
	if !s.passes(id) {
		return h.lacks(status, code, s.stop(h.ids[id]), id, 1, "PHP may not pass through it"), true
	}
	if t.steps != nil {
		if at := h.stopped(t.steps, id); at != nil {
			return h.lacks(status, code, at.Path, id, 1, "PHP may not pass through it"), true
		}
	}
	return Verdict{}, false
}

// modPHP opens the script as the worker. Whether the fault shows as an error depends on display_errors.
func (s *apacheScope) modPHP(set *settings, name []byte, t *target) Verdict {
	h := s.h
	const code = "php:failed-opening"
	id := s.openerOf(&t.meta)
	var v Verdict
	switch {
	case h.free() && !s.passes(id):
		v = h.lacks(500, code, s.stop(h.ids[id]), id, 1, "PHP may not pass through it")
	case !h.reads(id, &t.meta, 4):
		v = h.lacks(500, code, s.final(name, t), id, 4, "PHP cannot read it")
	case t.kind != rightful.KindFile:
		return inDoubt("it is no file, and PHP is to run it", nil)
	default:
		return Verdict{Status: 200, Certain: true, App: true}
	}
	switch shown := h.errorsShown(set); shown {
	case yes:
		v.Status, v.Why = 200, v.Why+"; the page shows the error"
	case unsure:
		v.Certain, v.Statuses = false, []int{200, 500}
	}
	return v
}

// errorsShown reports whether PHP shows errors to visitors, which makes them a 200.
func (h *ApacheHost) errorsShown(set *settings) maybe {
	if set.displayErrors != unsure {
		return set.displayErrors
	}
	if h.phpErrors != unsure || h.Server == nil {
		return h.phpErrors
	}
	files, _ := h.Server.Glob("/etc/php/*/apache2/php.ini")
	if len(files) != 1 {
		return unsure
	}
	b, err := h.Server.ReadFile(files[0], 1<<20)
	if err != nil {
		return unsure
	}
	h.phpErrors = yes // PHP's own default
	for line := range strings.Lines(string(b)) {
		k, v, ok := strings.Cut(line, "=")
		if ok && strings.TrimSpace(k) == "display_errors" {
			v = strings.ToLower(iniValue(v))
			h.phpErrors = truth(v != "off" && v != "0" && v != "no" && v != "false" && v != "none" && v != "stderr" && v != "")
		}
	}
	return h.phpErrors
}

// proxyRule is one ProxyPass or ProxyPassMatch.
type proxyRule struct {
	d       *Directive
	prefix  string
	re      *regexp.Regexp
	regex   bool
	backend string // of FastCGI; "" for another server
	target  string
	off     bool // "!"
}

func newProxyRule(d *Directive, regex bool) proxyRule {
	r := proxyRule{d: d, prefix: d.Arg(0), regex: regex, target: d.Arg(1)}
	if regex {
		r.re, _ = regexp.Compile(r.prefix)
	}
	r.off, r.backend = r.target == "!", backend(r.target)
	return r
}

// takes reports whether the rule is about a request path.
func (r *proxyRule) takes(url string) maybe {
	switch {
	case r.regex && r.re == nil:
		return unsure
	case r.regex:
		return truth(r.re.MatchString(url))
	}
	return truth(prefixes(r.prefix, url))
}

// proxied is the answer where ProxyPass takes a URL: no directory is walked and no .htaccess read, and only the pool's
// user has to get to the script.
func (s *apacheScope) proxied(r *proxyRule, url string, name []byte, n Node, in View) (Verdict, bool) {
	h := s.h
	hit := r.takes(url)
	switch {
	case hit == no:
		return Verdict{}, false
	case hit == unsure:
		return inDoubt("the pattern of ProxyPassMatch cannot be tried here", r.d), true
	case r.off:
		return Verdict{}, false
	case r.backend == "":
		v := inDoubt("it is handed to another server", r.d)
		v.App = true
		return v, true
	}
	if strings.IndexFunc(url, encoded) >= 0 {
		if slices.Contains(r.d.Args, "nocanon") {
			return inDoubt("PHP-FPM is asked for a path that may be encoded", r.d), true
		}
		return Verdict{Status: 404, Certain: true, Cause: CauseConfigured, Code: "fpm:primary-script-unknown", Why: "ProxyPass hands its name on percent-encoded"}.at(r.d), true
	}
	script := r.script(url)
	if script != rightful.JoinPath(s.mapped(), string(name)) && script != rightful.JoinPath(s.path(), string(name)) {
		v := inDoubt("PHP-FPM is asked for another path", r.d)
		v.Status, v.App = 200, true
		return v, true
	}
	t := target{kind: n.Kind, meta: n.Meta}
	p := h.pool(r.backend)
	if p.doubt == "" && p.refused == nil {
		if n.Kind == rightful.KindSymlink {
			steps, err := in.Follow(string(name))
			if err != nil {
				return Verdict{Status: 404, Certain: tree.IsNotExist(err), Cause: CauseMissing, Code: "fpm:primary-script-unknown", Culprit: s.entry(name), Why: "the link leads nowhere"}, true
			}
			last := steps[len(steps)-1]
			t = target{last.Stat.Kind, last.Meta, steps}
		}
		if n.Kind == rightful.KindUnknown {
			return Verdict{Status: 404, Certain: true, Cause: CauseMissing, Code: "fpm:primary-script-unknown", Why: "there is no such script"}.at(r.d), true
		}
	}
	return s.fpm(p, name, &t, r.d), true
}

// encoded reports whether a byte of a path goes to the backend percent-encoded (ap_proxy_canonenc).
func encoded(r rune) bool {
	return r >= 0x80 || !('0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || strings.ContainsRune("$-_.+!*'(),;:@&=/~", r))
}

// script is the path that a URL has for the backend.
func (r *proxyRule) script(url string) string {
	to := r.target
	if _, rest, ok := strings.Cut(to, "|"); ok {
		to = rest
	}
	_, to, _ = strings.Cut(to, "://")
	i := strings.IndexByte(to, '/')
	if i < 0 {
		i = len(to)
	}
	to = to[i:]
	if !r.regex {
		return path.Clean(to + strings.TrimPrefix(url, r.prefix))
	}
	m := r.re.FindStringSubmatch(url)
	if !strings.Contains(to, "$") {
		return path.Clean(to + url)
	}
	for k := len(m) - 1; k >= 0; k-- {
		to = strings.ReplaceAll(to, "$"+strconv.Itoa(k), m[k])
	}
	return path.Clean(to)
}
