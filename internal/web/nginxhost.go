package web

import (
	"path"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/tree"

	"golang.org/x/sys/unix"
)

// A NginxHostConfig is what a [NginxHost] is made of.
type NginxHostConfig struct {
	Server *tree.Server
	Config *NginxConfig
	// VHost is one of Config's servers.
	VHost *NginxServer
	// Name is the host name that visitors ask for, "" where any may be meant.
	Name string
	// DocRoot is absolute and clean, as configured.
	DocRoot string
	// Web is who the workers are.
	Web rightful.Identity
	// PHP is the identity that runs most scripts.
	PHP rightful.Identity
	// Pool finds the pool of PHP-FPM that answers on a backend ("unix:/path", "tcp:host:port") and who it runs as.
	Pool func(backend string) (*Pool, rightful.Identity, bool)
	// User resolves names of users and groups, for a socket that is not there yet.
	User func(user, group string) (rightful.Identity, bool)
	// Plain: visitors come without TLS. Else they come with it where the server speaks it.
	Plain bool
	// Behind is the same site on the server that nginx hands requests on to, or nil.
	Behind Host
}

// A NginxHost is a server block of nginx.
type NginxHost struct {
	NginxHostConfig
	conf               *ngxConf
	name, scheme, port string
	root               string // DocRoot without a slash at the end
	confDir            string
	web, php           *rightful.Identity
	live               bool
	protected          maybe
	regexes            map[string]*ngxRegex
	backends           map[string]*ngxBackend
	vars               map[string]ngxValue // what the expression of a server name catches
	notes              []string
	plain              map[*ngxConf]bool
	buf                []byte
}

// NewNginxHost compiles a server block.
func NewNginxHost(c NginxHostConfig) *NginxHost {
	h := &NginxHost{
		NginxHostConfig: c, name: strings.ToLower(c.Name), root: strings.TrimSuffix(c.DocRoot, "/"), confDir: path.Dir(c.Config.Main),
		regexes: map[string]*ngxRegex{}, backends: map[string]*ngxBackend{}, plain: map[*ngxConf]bool{},
		live: c.Server != nil && c.Server.Live(), protected: protectedSymlinks(c.Server),
	}
	h.web, h.php = &h.Web, &h.PHP
	h.scheme, h.port = "http", "80"
	for i, l := range c.VHost.Listen {
		if l.SSL != c.Plain || i == 0 {
			h.port = l.Port
		}
		if l.SSL && !c.Plain { // plain requests often only lead there
			h.scheme = "https"
		}
		if l.SSL != c.Plain {
			break
		}
	}
	h.conf = c.VHost.conf
	h.named()
	h.conf.each(h.remark)
	return h
}

// setVariables collects the names that any set directive gives a value.
func setVariables(ds []Directive, names map[string]bool) {
	for i := range ds {
		if d := &ds[i]; d.Name == "set" {
			names[strings.TrimPrefix(d.Arg(0), "$")] = true
		}
		setVariables(ds[i].Body, names)
	}
}

// named takes what the expression among the server's names catches of the name that is asked for.
func (h *NginxHost) named() {
	for _, n := range h.VHost.Names {
		if strings.EqualFold(n, h.name) || wildcardName(n, h.name) > 0 {
			return
		}
	}
	for _, n := range h.VHost.Names {
		pattern, ok := strings.CutPrefix(n, "~")
		re := h.regex(pattern, true)
		if !ok || h.name == "" || !re.finds([]byte(h.name)) {
			continue
		}
		if m := re.find(h.name); m != nil {
			r := &ngxRequest{h: h}
			r.capture(re, m)
			h.vars = r.vars
			return
		}
	}
}

// remark notes what a level has that no prediction takes into account.
func (h *NginxHost) remark(c *ngxConf) {
	note := func(s string) {
		if !slices.Contains(h.notes, s) {
			h.notes = append(h.notes, s)
		}
	}
	if c.cached {
		note("nginx remembers what it found (open_file_cache): a change shows only after a minute or so")
	}
	if c.guarded {
		note("ModSecurity may refuse a request for what it says")
	}
}

// Notes implements [Host].
func (h *NginxHost) Notes() []string { return h.notes }

func (h *NginxHost) regex(pattern string, fold bool) *ngxRegex {
	key := " " + pattern
	if fold {
		key = "*" + pattern
	}
	x := h.regexes[key]
	if x == nil {
		x = newNgxRegex(pattern, fold)
		h.regexes[key] = x
	}
	return x
}

// index gives the place of an identity in [ngxScope.stop], -1 for any that has none.
func (h *NginxHost) index(id *rightful.Identity) int {
	switch {
	case id == h.web:
		return 0
	case id.UID == h.PHP.UID && slices.Equal(id.GIDs, h.PHP.GIDs):
		return 1
	}
	return -1
}

// ngxScope is a directory below the document root.
type ngxScope struct {
	h *NginxHost
	// uri ends with a slash; dir, without one, is how nginx spells the directory, real where it lies.
	uri, dir, real string
	stop           [2]ngxStop // why the web server and PHP do not get into it
	unsure         bool       // that is not known
	behind         Scope
}

// Root implements [Host].
func (h *NginxHost) Root(in View) Scope {
	s := &ngxScope{h: h, uri: "/", dir: h.root, real: h.root}
	r := &ngxRequest{h: h, in: in, conf: h.conf}
	for i, id := range [...]*rightful.Identity{h.web, h.php} {
		e := r.lookup(id, h.root+"/.")
		if e.real != "" {
			s.real = e.real
		}
		s.stop[i] = ngxStop{err: e.err, culprit: e.culprit, need: e.need, link: e.link}
		s.unsure = s.unsure || e.why != ""
	}
	if h.Behind != nil {
		s.behind = h.Behind.Root(in)
	}
	return s
}

// Same implements [Scope].
func (s *ngxScope) Same(o Scope) bool {
	t, ok := o.(*ngxScope)
	return ok && s.h == t.h && s.uri == t.uri && s.real == t.real && s.stop == t.stop && s.unsure == t.unsure && (s.behind == nil || s.behind.Same(t.behind))
}

// Dir implements [Scope].
func (s *ngxScope) Dir(name string, m rightful.Meta, in View) Scope {
	sub := &ngxScope{h: s.h, uri: s.uri + name + "/", dir: s.dir + "/" + name, real: rightful.JoinPath(s.real, name), stop: s.stop, unsure: s.unsure}
	for i, id := range [...]*rightful.Identity{s.h.web, s.h.php} {
		if sub.stop[i].err == 0 && !allowed(&m, id, rightful.RightSearch) {
			sub.stop[i] = ngxStop{err: unix.EACCES, culprit: sub.real, need: rightful.RightSearch}
		}
	}
	if s.behind != nil {
		sub.behind = s.behind.Dir(name, m, in)
	}
	return sub
}

// File implements [Scope].
func (s *ngxScope) File(name []byte, n Node, in View) Verdict {
	s.h.buf = append(append(s.h.buf[:0], s.uri...), name...)
	if v, ok := s.fast(&n, in); ok {
		return v
	}
	return s.ask(string(s.h.buf), string(name), n, in)
}

// Index implements [Scope].
func (s *ngxScope) Index(in View) Verdict { return s.ask(s.uri, "", Node{}, in) }

// maxRequestLine is how long a request line may be where large_client_header_buffers says nothing else, and maxPlainURI what
// it surely holds, as the kernel's bound on paths does.
const (
	maxRequestLine = 8 << 10
	maxPlainURI    = 2500
)

func (s *ngxScope) ask(uri, name string, n Node, in View) Verdict {
	asked := requestURI(uri)
	if len("GET  HTTP/1.1\r\n")+len(asked) > maxRequestLine {
		return inDoubt("nginx decides by how long a request may be (large_client_header_buffers)", nil)
	}
	return s.h.explore(func(choices []bool) *ngxRequest {
		return &ngxRequest{h: s.h, in: in, s: s, name: name, node: n, asked: asked, first: uri, uri: uri, choices: choices}
	})
}

// maxChoices bounds how many ways a request is tried where conditions hang on what is not known.
const maxChoices = 16

// explore runs a request, and where that hangs on conditions that are not known, every way that they may turn out.
func (h *NginxHost) explore(request func(choices []bool) *ngxRequest) Verdict {
	run := func(choices []bool) *ngxRequest {
		r := request(choices)
		for k, v := range h.vars {
			r.set(k, v)
		}
		r.run()
		return r
	}
	first := run(nil)
	if len(first.made) == 0 {
		return first.out
	}
	v := first.out
	statuses := append([]int{v.Status}, v.Statuses...)
	open, certain := true, v.Certain
	todo := [][]bool{}
	branch := func(r *ngxRequest, from int) {
		for i := from; i < len(r.made); i++ {
			todo = append(todo, append(slices.Clone(r.made[:i]), true))
		}
	}
	branch(first, 0)
	for n := 0; len(todo) > 0; n++ {
		if n == maxChoices {
			open = false
			break
		}
		choices := todo[0]
		todo = todo[1:]
		r := run(choices)
		statuses = append(append(statuses, r.out.Status), r.out.Statuses...)
		certain = certain && r.out.Certain
		branch(r, len(choices))
	}
	slices.Sort(statuses)
	statuses = slices.Compact(statuses)
	if certain && open && len(statuses) == 1 {
		return v
	}
	v.Certain, v.Statuses = false, statuses
	if !open || statuses[0] == 0 {
		v.Statuses = nil
	}
	if v.Cause != CauseUnknown {
		v.Why = strings.TrimPrefix(v.Why+"; ", "; ") + "it may hang on " + first.doubtWhy
		v = v.at(first.doubt)
	}
	return v
}

// fast is the verdict on what nearly every request meets: a plain file that is there, and served from the document root
// or handed to PHP. h.buf has the URI.
func (s *ngxScope) fast(n *Node, in View) (Verdict, bool) {
	h := s.h
	if n.Kind != rightful.KindFile || s.stop[0].err != 0 || s.unsure || len(h.conf.codes) > 0 || len(s.dir)+len(h.buf) >= maxPlainURI {
		return Verdict{}, false
	}
	f := h.conf.locate(h.buf)
	c := f.conf
	if f.unsure != nil || f.slash || !h.plainly(c) {
		return Verdict{}, false
	}
	if c.handler == nil {
		return Verdict{Status: 200, Certain: true}, allowed(&n.Meta, h.web, 4)
	}
	if c.handler.Name != "fastcgi_pass" || s.stop[1].err != 0 || strings.IndexByte(c.handler.Arg(0), '$') >= 0 {
		return Verdict{}, false
	}
	b := h.backend(c.handler.Arg(0))
	if b.why != "" || h.index(b.id) != 1 || b.pool.Chroot != "" || !h.reaches(b, in) || !allowed(&n.Meta, b.id, 4) || !b.pool.runs(h.buf) {
		return Verdict{}, false
	}
	return Verdict{Status: 200, Certain: true, App: true}, true
}

// plainly reports whether a location only looks for the file below the document root that the URI names, and lets
// everybody have it.
func (h *NginxHost) plainly(c *ngxConf) bool {
	ok, known := h.plain[c]
	if known {
		return ok
	}
	ok = len(c.codes) == 0 && c.rules == nil && c.auth == nil && c.authAsk == nil && !c.internal && c.doubt == nil && c.except == nil &&
		c.alias == 0 && c.root.fixed() && c.root.raw == h.root && c.links == "" && c.gzipStatic == "" &&
		(c.tryFiles == nil || len(c.tryFiles) > 1 && c.tryFiles[0].raw == "$uri")
	if c.handler != nil && ok {
		ok = c.script != nil && c.method && c.split == nil &&
			slices.Contains([]string{"$document_root$fastcgi_script_name", "$request_filename", "$document_root$uri"}, c.script.raw)
	}
	h.plain[c] = ok
	return ok
}
