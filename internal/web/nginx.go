package web

import (
	"net"
	"path"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/tree"
)

// A NginxConfig is the configuration of one nginx, as far as it decides who serves what.
type NginxConfig struct {
	// Main is the configuration file it began with, Files all that were read, in order.
	Main  string
	Files []string
	// Tree is everything in the order in which nginx acts on it, includes spliced in.
	Tree []Directive
	// User and Group are who the workers are, as written. Empty where the configuration does not say: what nginx was
	// built with counts then.
	User, Group string
	Servers     []NginxServer
	// Upstreams are the members of upstream blocks, in the form of [PHPHandler.Backend].
	Upstreams map[string][]string
	Problems  []Problem
	http      []Directive
	level     *ngxConf     // http
	maps      []*Directive // map blocks
	sets      map[string]bool
}

// A NginxServer is one server block.
type NginxServer struct {
	File string
	Line int
	// Names are the server names as written, in lower case but for regular expressions, which begin with "~".
	Names  []string
	Listen []NginxListen
	// Root is the document root from which files are served: that of a request for "/", or where Proxied is set, that of
	// pages and pictures which nginx serves by itself. Absolute and clean, or empty where there is none.
	Root string
	// Proxied is set where another server answers a request for "/" (proxy_pass).
	Proxied bool
	Body    []Directive
	c       *NginxConfig
	conf    *ngxConf
}

// A NginxListen is one address of a server block; an empty Addr means every local one.
type NginxListen struct {
	Addr, Port string
	SSL        bool
	Default    bool // its server answers for names that no other has
}

// nginxMains are the usual main configuration files: packages, OpenResty, built from source.
var nginxMains = [...]string{
	"/etc/nginx/nginx.conf", "/usr/local/nginx/conf/nginx.conf", "/usr/local/openresty/nginx/conf/nginx.conf",
	"/usr/local/etc/nginx/nginx.conf",
}

// FindNginx returns the first of the usual main configuration files that exists, or "".
func FindNginx(s *tree.Server) string {
	for _, f := range nginxMains {
		if st, err := s.Stat(f); err == nil && st.Kind == rightful.KindFile {
			return f
		}
	}
	return ""
}

// IsNginx reports whether a main configuration file is nginx's: by its name, or where that says nothing, by its contents.
func IsNginx(s *tree.Server, file string) bool {
	switch base := path.Base(file); {
	case base == "nginx.conf":
		return true
	case base == "httpd.conf", base == "apache2.conf":
		return false
	}
	b, err := s.ReadFile(file, maxFileSize)
	if err != nil {
		return false
	}
	ds, problems := ParseNginx(file, string(b))
	return len(problems) == 0 && slices.ContainsFunc(ds, func(d Directive) bool {
		return d.Section && (d.Name == "http" || d.Name == "events")
	})
}

// ReadNginx reads a server's configuration from its main file on. The error is that of the main file; whatever else is
// wrong is in Problems.
func ReadNginx(s *tree.Server, main string) (*NginxConfig, error) {
	b, err := s.ReadFile(main, maxFileSize)
	if err != nil {
		return nil, err
	}
	c := &NginxConfig{Main: main, Files: []string{main}, Upstreams: map[string][]string{}}
	r := &nginxReader{s: s, c: c, prefix: path.Dir(main), parsed: map[string][]Directive{}}
	ds, problems := ParseNginx(main, string(b))
	c.Problems = problems
	r.parsed[main] = ds
	c.Tree = r.splice(nil, ds, 0)
	c.collect()
	c.Problems = dedupe(c.Problems)
	return c, nil
}

func (c *NginxConfig) problem(d *Directive, msg string) {
	c.Problems = append(c.Problems, Problem{File: d.File, Line: d.Line, Msg: msg})
}

// collect reads the spliced tree.
func (c *NginxConfig) collect() {
	for i := range c.Tree {
		switch d := &c.Tree[i]; d.Name {
		case "user":
			c.User, c.Group = d.Arg(0), d.Arg(1)
		case "http":
			c.http = append(c.http, d.Body...)
		}
	}
	c.level, c.sets = newNgxConf(nil, ngxHTTP, nil, c.http), map[string]bool{}
	setVariables(c.http, c.sets)
	for i := range c.http {
		d := &c.http[i]
		if d.Name == "map" {
			c.maps = append(c.maps, d)
		}
		if d.Name == "upstream" {
			for j := range d.Body {
				if m := &d.Body[j]; m.Name == "server" {
					c.Upstreams[d.Arg(0)] = append(c.Upstreams[d.Arg(0)], nginxBackend(m.Arg(0)))
				}
			}
		}
	}
	for i := range c.http {
		if d := &c.http[i]; d.Name == "server" && d.Section {
			c.Servers = append(c.Servers, c.server(d))
		}
	}
}

func (c *NginxConfig) server(d *Directive) NginxServer {
	v := NginxServer{File: d.File, Line: d.Line, Body: d.Body, c: c, conf: newNgxConf(c.level, ngxServer, d, d.Body)}
	v.conf.nest(d.Body, maxNesting)
	sslOn := false
	for i := range d.Body {
		switch b := &d.Body[i]; b.Name {
		case "server_name":
			for _, n := range b.Args {
				if !strings.HasPrefix(n, "~") {
					n = strings.ToLower(n)
				}
				v.Names = append(v.Names, n)
			}
		case "ssl":
			sslOn = b.Arg(0) == "on"
		}
	}
	asked := false
	for i := range d.Body {
		if b := &d.Body[i]; b.Name == "listen" {
			asked = true
			c.listen(&v, b, sslOn)
		}
	}
	if !asked {
		v.Listen = []NginxListen{{Port: "80"}}
	}
	c.root(&v)
	return v
}

// root settles the document root of a server.
func (c *NginxConfig) root(v *NginxServer) {
	at, known := v.locate("/")
	if !known {
		c.Problems = append(c.Problems, Problem{File: v.File, Line: v.Line, Msg: "location with a regular expression that is not understood: its site is not listed"})
		return
	}
	v.Proxied = v.proxied(at.conf)
	if v.Proxied {
		served := false
		for _, uri := range [...]string{"/", "/a.css", "/a.jpg", "/a.html"} {
			if p, ok := v.locate(uri); ok && !served && p.conf.decider() == nil {
				at, served = p, true
			}
		}
		if !served {
			return
		}
	} else if d := at.conf.decider(); d != nil && d.Name != "fastcgi_pass" && d.Name != "alias" {
		return
	}
	root, why := at.docroot()
	from := at.conf.rootFrom
	switch {
	case from == nil:
	case why == relativeRoot:
		c.problem(from, "root "+clip(from.Arg(0))+" is relative to where nginx was installed, which its files do not tell: its site is not listed")
	case why != "":
		c.problem(from, "root "+clip(from.Arg(0))+" depends on the request: its sites are not listed")
	default:
		v.Root = path.Clean("/" + root)
	}
}

// locate finds the location of a path for a request of which nothing else is known. It is not known where an expression
// before that is of a kind that cannot be tried here.
func (v *NginxServer) locate(uri string) (r *ngxRequest, known bool) {
	h := &NginxHost{NginxHostConfig: NginxHostConfig{Config: v.c, VHost: v}, conf: v.conf, regexes: map[string]*ngxRegex{}}
	r = &ngxRequest{h: h, conf: v.conf, uri: uri, asked: uri}
	for _, d := range v.conf.codes {
		if d.Name == "set" {
			r.assign(d)
		}
	}
	f := v.conf.locate([]byte(uri))
	r.conf = f.conf
	return r, f.unsure == nil
}

// decider is what answers here without regard to the files below the document root, or nil.
func (c *ngxConf) decider() *Directive {
	for at := c; at != nil; at = at.up { // a server's own return answers before any location is looked for
		for _, d := range at.codes {
			if d.Name == "return" && (at == c || at.kind == ngxServer) {
				return d
			}
		}
	}
	switch {
	case c.handler != nil:
		return c.handler
	case c.alias != 0:
		return c.rootFrom
	case c.internal:
		return c.d
	}
	return nil
}

// proxied reports whether another server answers here, by proxy_pass or by that of a named location to which try_files
// comes in the end.
func (v *NginxServer) proxied(c *ngxConf) bool {
	pass := func(c *ngxConf) bool { return c != nil && c.handler != nil && c.handler.Name == "proxy_pass" }
	n := len(c.tryFiles)
	return pass(c) || n > 0 && pass(v.conf.named[c.tryFiles[n-1].raw])
}

// A NginxPHP says how nginx runs the PHP scripts of a document root.
type NginxPHP struct {
	// Kind is "fpm", "none", or "unknown".
	Kind string
	// Backends are the sockets that may answer, in the form of [PHPHandler.Backend].
	Backends []string
	File     string
	Line     int
}

// PHP tells how scripts directly in the document root run.
func (c *NginxConfig) PHP(v *NginxServer) NginxPHP {
	at, known := v.locate("/index.php")
	if !known {
		return NginxPHP{Kind: "unknown", File: v.File, Line: v.Line}
	}
	d := at.conf.handler
	if d == nil || d.Name != "fastcgi_pass" {
		return NginxPHP{Kind: "none"}
	}
	h := NginxPHP{Kind: "fpm", File: d.File, Line: d.Line}
	target := newNgxTemplate(d.Arg(0))
	text, why := at.eval(&target)
	if members, ok := c.Upstreams[text]; ok {
		h.Backends = members
	} else if why == "" && text != "" {
		h.Backends = []string{nginxBackend(text)}
	}
	if len(h.Backends) == 0 {
		h.Kind = "unknown"
	}
	return h
}

// listen records an address that a plain request can be sent to: no local socket, no QUIC, none that wants the PROXY
// protocol first.
func (c *NginxConfig) listen(v *NginxServer, d *Directive, sslOn bool) {
	where := d.Arg(0)
	flags := d.Args[min(1, len(d.Args)):]
	if strings.HasPrefix(where, "unix:") || slices.Contains(flags, "quic") || slices.Contains(flags, "proxy_protocol") {
		return
	}
	addr, port := splitAddr(where)
	if port == "" {
		port = "80"
		if strings.Trim(addr, "0123456789") == "" {
			addr, port = "", addr
		}
	}
	if addr == "localhost" {
		addr = "127.0.0.1"
	}
	if addr = wildcard(addr); port == "" || strings.Trim(port, "0123456789") != "" || addr != "" && net.ParseIP(addr) == nil {
		c.problem(d, "address "+clip(where)+" is not understood")
		return
	}
	v.Listen = append(v.Listen, NginxListen{
		Addr: addr, Port: port, SSL: sslOn || slices.Contains(flags, "ssl"),
		Default: slices.Contains(flags, "default_server") || slices.Contains(flags, "default"),
	})
}

// Reach lists where a server answers as scheme://address:port, in the form of rightful.Site.Listen.
func (v *NginxServer) Reach() []string {
	var out []string
	for _, l := range v.Listen {
		scheme := "http"
		if l.SSL {
			scheme = "https"
		}
		if u := scheme + "://" + net.JoinHostPort(l.Addr, l.Port); !slices.Contains(out, u) {
			out = append(out, u)
		}
	}
	return out
}

// Domains lists the names that a visitor can use: regular expressions and the catch-all names "_" and "" are none, and
// ".example.com" is that name and everything below it.
func (v *NginxServer) Domains() []string {
	out := []string{}
	for _, n := range v.Names {
		switch {
		case n == "" || n == "_" || n[0] == '~' || n[0] == '$':
		case n[0] == '.':
			out = append(out, n[1:], "*"+n)
		default:
			out = append(out, n)
		}
	}
	return out
}

// nginxBackend brings an address of fastcgi_pass or of a member of an upstream to the form of [PHPHandler.Backend].
func nginxBackend(s string) string {
	if sock, ok := strings.CutPrefix(s, "unix:"); ok {
		sock, _, _ = strings.Cut(sock, ":") // a URI may follow
		return "unix:" + cleanSocket(sock)
	}
	addr, port := splitAddr(s)
	if port == "" {
		port = "80"
	}
	return "tcp:" + tcpHost(addr) + ":" + port
}
