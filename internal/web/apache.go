package web

import (
	"net"
	"path"
	"slices"
	"strings"

	"rightful/internal/tree"
)

// An ApacheConfig is the configuration of one Apache 2.4 server, as far as it decides who serves what.
type ApacheConfig struct {
	// Main is the configuration file it began with, Files all that were read, in order.
	Main  string
	Files []string
	// Tree is everything in the order in which Apache acts on it: includes spliced in, conditions decided (but <If>,
	// which is decided per request), variables replaced, macros expanded.
	Tree       []Directive
	ServerRoot string
	// User and Group are who the workers are: names, or "#" and a number. Empty where the configuration does not say.
	User, Group string
	// Modules holds the identifiers of LoadModule ("suexec_module").
	Modules map[string]bool
	Listen  []Listen
	// Default is the main server; virtual hosts inherit from it what they do not say themselves.
	Default  VHost
	VHosts   []VHost
	Problems []Problem
	defined  map[string]bool // by Define, lower case: for <IfDefine> in a .htaccess
}

// Has reports whether a module was loaded, by its identifier.
func (c *ApacheConfig) Has(module string) bool { return c.Modules[module] }

// PHPModule reports whether mod_php of any version was loaded: php_module, php7_module, php5_module.
func (c *ApacheConfig) PHPModule() bool {
	for m := range c.Modules {
		if v, ok := strings.CutPrefix(m, "php"); ok && strings.Trim(v, "0123456789") == "_module" {
			return true
		}
	}
	return false
}

// A Listen is one address on which the server answers; an empty Addr means every local one.
type Listen struct {
	Addr, Port string
	File       string
	Line       int
}

// A UserGroup names the identity that a directive asks for, as written. Both are empty where none does.
type UserGroup struct{ User, Group string }

// An Alias maps a request path to a directory.
type Alias struct{ URL, Path string }

// A VHost is one virtual host, or the main server.
type VHost struct {
	File string
	Line int
	// Addrs are the addresses as written: "*:80", "192.0.2.1", "[::1]:443".
	Addrs      []string
	ServerName string   // lower case, without scheme and port
	Aliases    []string // lower case; may hold wildcards
	// DocRoot is absolute and clean; empty where only the main server's applies.
	DocRoot       string
	ErrorLog      string
	Suexec        UserGroup // SuexecUserGroup
	Assign        UserGroup // AssignUserID of mpm_itk
	RUidGid       UserGroup // mod_ruid2
	RMode         string    // "config" or "stat", lower case
	RGroups       []string
	SSL           bool
	ScriptAliases []Alias
	// Body is everything in the section; for the main server, everything outside virtual hosts.
	Body []Directive
}

// apacheMains are the usual main configuration files: EasyApache 4, Debian, Red Hat, built from source.
func apacheMains(cpanel bool) []string {
	mains := []string{
		"/etc/apache2/apache2.conf", "/etc/httpd/conf/httpd.conf", "/usr/local/apache/conf/httpd.conf",
		"/usr/local/apache2/conf/httpd.conf",
	}
	if cpanel {
		return append([]string{"/etc/apache2/conf/httpd.conf"}, mains...)
	}
	return append(mains, "/etc/apache2/conf/httpd.conf", "/etc/apache2/httpd.conf")
}

// FindApache returns the first of the usual main configuration files that exists, or "". On a cPanel server its own
// place comes first.
func FindApache(s *tree.Server, cpanel bool) string {
	for _, f := range apacheMains(cpanel) {
		if st, err := s.Stat(f); err == nil && st.Kind.String() == "file" {
			return f
		}
	}
	return ""
}

// ReadApache reads a server's configuration from its main file on. The error is that of the main file; whatever else
// is wrong is in Problems.
func ReadApache(s *tree.Server, main string) (*ApacheConfig, error) {
	dir := path.Dir(main)
	c := &ApacheConfig{Main: main, ServerRoot: strings.TrimSuffix(dir, "/conf"), Modules: map[string]bool{}}
	e := &evaluator{
		s: s, c: c, parsed: map[string][]Directive{}, macros: map[string]*Directive{},
		defines: map[string]string{}, builtin: map[string]bool{"core_module": true, "so_module": true, "http_module": true},
	}
	b, err := s.ReadFile(main, maxFileSize)
	if err != nil {
		return nil, err
	}
	e.environment(dir)
	ds, problems := ParseApache(main, string(b))
	c.Problems = append(c.Problems, problems...)
	c.Files = append(c.Files, main)
	e.parsed[main] = ds
	c.Tree = e.eval(nil, ds, 0)
	c.collect()
	c.defined = map[string]bool{}
	for name := range e.defines {
		c.defined[name] = true
	}
	c.Problems = dedupe(c.Problems)
	return c, nil
}

// UsualApache is a configuration that nobody wrote: text holds what is usual on servers of a kind. It has one virtual
// host, which says nothing.
func UsualApache(text string) *ApacheConfig {
	c := &ApacheConfig{Modules: map[string]bool{}}
	e := &evaluator{c: c, parsed: map[string][]Directive{}, macros: map[string]*Directive{}, defines: map[string]string{}}
	ds, _ := ParseApache("", text+"<VirtualHost *>\n</VirtualHost>\n")
	c.Tree = e.eval(nil, ds, 0)
	c.collect()
	return c
}

// dedupe drops repetitions: a file that is included twice has each of its faults once.
func dedupe(ps []Problem) (out []Problem) {
	seen := map[Problem]bool{}
	for _, p := range ps {
		if !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}

// collect reads the evaluated tree.
func (c *ApacheConfig) collect() {
	c.Default.File = c.Main
	for i := range c.Tree {
		d := &c.Tree[i]
		switch strings.ToLower(d.Name) {
		case "user":
			c.User = d.Arg(0)
		case "group":
			c.Group = d.Arg(0)
		case "listen":
			addr, port := splitAddr(d.Arg(0))
			if port == "" {
				addr, port = "", addr
			}
			c.Listen = append(c.Listen, Listen{Addr: wildcard(addr), Port: port, File: d.File, Line: d.Line})
		case "virtualhost":
			v := VHost{File: d.File, Line: d.Line, Addrs: d.Args, Body: d.Body}
			for j := range d.Body {
				c.directive(&v, &d.Body[j])
			}
			c.VHosts = append(c.VHosts, v)
			continue
		}
		c.directive(&c.Default, d)
		c.Default.Body = append(c.Default.Body, *d)
	}
}

// directive records what one directive says about a virtual host.
func (c *ApacheConfig) directive(v *VHost, d *Directive) {
	switch strings.ToLower(d.Name) {
	case "servername":
		v.ServerName = hostName(d.Arg(0))
	case "serveralias":
		for _, a := range d.Args {
			v.Aliases = append(v.Aliases, strings.ToLower(a))
		}
	case "documentroot":
		v.DocRoot = c.abs(d.Arg(0))
	case "virtualdocumentroot", "virtualdocumentrootip":
		c.Problems = append(c.Problems, Problem{File: d.File, Line: d.Line, Msg: d.Name + " is not understood: its sites are not listed"})
	case "errorlog":
		v.ErrorLog = d.Arg(0)
		if v.ErrorLog != "" && !strings.HasPrefix(v.ErrorLog, "|") && !strings.HasPrefix(v.ErrorLog, "syslog") {
			v.ErrorLog = c.abs(v.ErrorLog)
		}
	case "suexecusergroup":
		v.Suexec = UserGroup{d.Arg(0), d.Arg(1)}
	case "assignuserid":
		v.Assign = UserGroup{d.Arg(0), d.Arg(1)}
	case "ruidgid":
		v.RUidGid = UserGroup{d.Arg(0), d.Arg(1)}
	case "rmode":
		v.RMode = strings.ToLower(d.Arg(0))
	case "rgroups":
		v.RGroups = d.Args
	case "sslengine":
		v.SSL = !strings.EqualFold(d.Arg(0), "off")
	case "scriptalias":
		v.ScriptAliases = append(v.ScriptAliases, Alias{d.Arg(0), c.abs(d.Arg(1))})
	}
}

// addIndex adds names as mod_dir does: repeated directives add up, "disabled" alone means none.
func addIndex(have, args []string) []string {
	if len(args) == 1 && strings.EqualFold(args[0], "disabled") {
		return []string{}
	}
	return append(slices.Clone(have), args...)
}

// abs makes a path absolute by ServerRoot and clean, as Apache keeps it.
func (c *ApacheConfig) abs(p string) string {
	if p == "" {
		return ""
	}
	if !path.IsAbs(p) {
		p = c.ServerRoot + "/" + p
	}
	return path.Clean(p)
}

// hostName takes the name out of scheme://name:port.
func hostName(s string) string {
	if _, rest, ok := strings.Cut(s, "://"); ok {
		s = rest
	}
	host, _ := splitAddr(s)
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// splitAddr splits ADDRESS:PORT; an IPv6 address stands in brackets, which are dropped.
func splitAddr(s string) (addr, port string) {
	if strings.HasPrefix(s, "[") {
		i := strings.IndexByte(s, ']')
		if i < 0 {
			return s, ""
		}
		return s[1:i], strings.TrimPrefix(s[i+1:], ":")
	}
	if i := strings.LastIndexByte(s, ':'); i >= 0 && strings.Count(s, ":") == 1 {
		return s[:i], s[i+1:]
	}
	return s, ""
}

// wildcard turns every way to say "any address" into "". The unspecified IPv6 address stays: it may exclude IPv4.
func wildcard(addr string) string {
	switch addr {
	case "*", "_default_", "0.0.0.0":
		return ""
	}
	return addr
}

// Reach lists where a virtual host answers as scheme://address:port, in the form of rightful.Site.Listen: each of its
// addresses with every Listen that it meets, the more exact address of the two. A configuration without any Listen
// gives the virtual host's own.
func (c *ApacheConfig) Reach(v *VHost) []string {
	scheme := "http"
	if v.SSL || c.Default.SSL {
		scheme = "https"
	}
	var out []string
	add := func(addr, port string) {
		u := scheme + "://" + net.JoinHostPort(addr, port)
		if !slices.Contains(out, u) {
			out = append(out, u)
		}
	}
	for _, a := range v.Addrs {
		addr, port := splitAddr(a)
		addr = wildcard(addr)
		if port == "*" {
			port = ""
		}
		if len(c.Listen) == 0 && port != "" {
			add(addr, port)
		}
		for _, l := range c.Listen {
			switch {
			case port != "" && port != l.Port:
			case addr == "":
				add(l.Addr, l.Port)
			case l.Addr == "" || l.Addr == addr || l.Addr == "::":
				add(addr, l.Port)
			}
		}
	}
	return out
}
