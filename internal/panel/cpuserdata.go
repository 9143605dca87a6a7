package panel

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"rightful/internal/tree"
)

// A cpSite is one document root of an account as cPanel names it.
type cpSite struct {
	name    string // ServerName of the virtual host
	domains []string
	docroot string
	listen  []string
	php     string
	fpm     bool
	cgi     []string
	file    string
	line    int
}

// accountReader reads the files of one account. It writes nothing that others read.
type accountReader struct {
	p      *cpanel
	c      *claim
	main   string
	dir    string
	files  map[string]string // name, the directory it is in
	sites  []cpSite
	issues []Issue
}

func (a *accountReader) problem(file string, line int, problem, format string, args ...any) {
	a.issues = append(a.issues, Issue{File: file, Line: line, Problem: problem, Account: a.c.Name, Msg: fmt.Sprintf(format, args...)})
}

func (a *accountReader) read() {
	a.checkUserFile()
	a.dir = cpUserdata + "/" + a.c.Name
	a.files = map[string]string{}
	names, err := a.p.r.s.ReadDir(a.dir)
	if err != nil && !tree.IsNotExist(err) {
		a.problem(a.dir, 0, Unreadable, "%v", err)
	}
	for _, n := range names {
		a.files[n] = a.dir
	}
	if _, flat := a.files["main"]; !flat {
		a.nested(names)
	}
	lines := a.p.domains[a.c.Name]
	file := cpDomains
	main := a.yaml("main")
	if len(lines) == 0 {
		lines, file = a.fromUserdata(main), a.dir
		if len(lines) == 0 {
			a.problem(cpDomains, 0, Unreadable, "account %q has no domains in %s or %s", a.c.Name, cpDomains, a.dir)
		}
	}
	a.group(lines, file, main)
}

// nested finds the files of newer versions, which are said to keep them one directory further down [K]. What lies flat is
// preferred; of several directories the first.
func (a *accountReader) nested(names []string) {
	for _, n := range names {
		dir := a.dir + "/" + n
		inner, err := a.p.r.s.ReadDir(dir)
		if err != nil || !slices.Contains(inner, "main") {
			continue
		}
		for _, f := range inner {
			if _, have := a.files[f]; !have {
				a.files[f] = dir
			}
		}
	}
}

// checkUserFile holds the account's own file against its name.
func (a *accountReader) checkUserFile() {
	file := cpUsers + "/" + a.c.Name
	b, err := a.p.r.s.ReadFile(file, 16<<20)
	if err != nil {
		a.problem(file, 0, Unreadable, "%v", err)
		return
	}
	kv := keyValues(string(b))
	if u := kv["USER"]; u != "" && u != a.c.Name {
		a.problem(file, 0, Syntax, "file says USER=%s", u)
	}
	if d := strings.ToLower(kv["DNS"]); d != "" && d != a.main {
		a.problem(file, 0, Syntax, "file says DNS=%s, %s says %s", d, cpTrueUsers, a.main)
	}
}

// yaml reads one of the account's files, if it is there.
func (a *accountReader) yaml(name string) node {
	dir, ok := a.files[name]
	if !ok {
		return node{}
	}
	file := dir + "/" + name
	b, err := a.p.r.s.ReadFile(file, 16<<20)
	if err != nil {
		a.problem(file, 0, Unreadable, "%v", err)
		return node{}
	}
	doc, bad := parseYAML(string(b))
	if bad != nil {
		a.problem(file, bad.line, Syntax, "%s", bad.msg)
	}
	return doc
}

// vhostFile is the name of a domain's file.
func vhostFile(domain string) string {
	if rest, ok := strings.CutPrefix(domain, "*."); ok {
		return "_wildcard_." + rest
	}
	return domain
}

// fromUserdata makes the lines of /etc/userdatadomains from the files that it is made of.
func (a *accountReader) fromUserdata(main node) (out []cpDomain) {
	add := func(kind, domain, server string) {
		domain, server = strings.ToLower(domain), strings.ToLower(server)
		v := a.yaml(vhostFile(server))
		root := v.get("documentroot")
		if !soundName(domain) || !path.IsAbs(root) || slices.Contains(strings.Split(root, "/"), "..") {
			a.problem(a.dir+"/"+vhostFile(server), 0, Syntax, "no document root for domain %q", domain)
			return
		}
		d := cpDomain{
			domain: domain, user: a.c.Name, kind: kind, parent: server, docroot: path.Clean(root), php: v.get("phpversion"),
		}
		if ip := v.get("ip"); ip != "" {
			d.addr = ip + ":" + either2(v.get("port"), "80")
			if _, ok := a.files[vhostFile(server)+"_SSL"]; ok {
				d.tls = ip + ":443"
			}
			if !isAddr(d.addr) || !isAddr(d.tls) {
				d.addr, d.tls = "", ""
			}
		}
		out = append(out, d)
	}
	if m := main.get("main_domain"); m != "" {
		add("main", m, m)
	}
	for _, s := range main.fields["sub_domains"].list() {
		add("sub", s, s)
	}
	addons := main.fields["addon_domains"].fields
	for _, name := range slices.Sorted(maps.Keys(addons)) {
		add("addon", name, addons[name].scalar)
	}
	return out
}

func either2(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// group makes sites of the domains that share a document root.
func (a *accountReader) group(lines []cpDomain, file string, main node) {
	byRoot := map[string][]cpDomain{}
	var roots []string
	for _, d := range lines {
		if _, ok := byRoot[d.docroot]; !ok {
			roots = append(roots, d.docroot)
		}
		byRoot[d.docroot] = append(byRoot[d.docroot], d)
	}
	slices.Sort(roots)
	var sites []cpSite
	for _, root := range roots {
		ds := byRoot[root]
		slices.SortStableFunc(ds, func(x, y cpDomain) int { return kindRank(x.kind) - kindRank(y.kind) })
		s := cpSite{docroot: root, name: ds[0].domain, php: ds[0].php, file: file, line: ds[0].line}
		if ds[0].kind == "addon" && ds[0].parent != "" {
			s.name = ds[0].parent // the sub-domain behind it is the virtual host's name
		}
		isMain := false
		for _, d := range ds {
			s.domains = addNames(s.domains, d.domain)
			isMain = isMain || d.kind == "main"
			s.listen = addListen(s.listen, "http", d.addr)
			s.listen = addListen(s.listen, "https", d.tls)
			if d.kind == "main" || d.kind == "sub" {
				a.vhost(&s, d.domain)
			}
		}
		if ds[0].kind == "addon" {
			a.vhost(&s, s.name)
		}
		if isMain {
			for _, n := range main.fields["parked_domains"].list() {
				s.domains = addNames(s.domains, strings.ToLower(n))
			}
		}
		sites = append(sites, s)
	}
	// The main site first, then by document root.
	slices.SortStableFunc(sites, func(x, y cpSite) int {
		return boolRank(x.name != a.main) - boolRank(y.name != a.main)
	})
	a.sites = sites
}

func boolRank(b bool) int {
	if b {
		return 1
	}
	return 0
}

// kindRank orders the domains of one document root by whose name the virtual host bears.
func kindRank(kind string) int {
	switch kind {
	case "main":
		return 0
	case "sub":
		return 1
	case "addon":
		return 2
	}
	return 3
}

func addListen(have []string, scheme, addr string) []string {
	if addr == "" {
		return have
	}
	return addNames(have, scheme+"://"+strings.Replace(addr, "*:", ":", 1))
}

// vhost adds what the file of a virtual host says: other names, CGI directories, its own PHP-FPM pool.
func (a *accountReader) vhost(s *cpSite, server string) {
	name := vhostFile(server)
	v := a.yaml(name)
	if root := v.get("documentroot"); root != "" && path.Clean(root) != s.docroot {
		a.problem(a.dir+"/"+name, 0, Syntax, "document root of %q is %q here, but %q in %s", server, root, s.docroot, cpDomains)
	}
	for n := range strings.FieldsSeq(v.get("serveralias")) {
		s.domains = addNames(s.domains, strings.ToLower(n))
	}
	for _, alias := range v.fields["scriptalias"].items {
		if p := alias.get("path"); path.IsAbs(p) && !SystemDir(path.Clean(p)) {
			s.cgi = addNames(s.cgi, path.Clean(p))
		}
	}
	if s.php == "" {
		s.php = v.get("phpversion")
	}
	if fpm := a.yaml(name + ".php-fpm.yaml"); fpm.get("_is_present") == "1" {
		s.fpm = true
	}
}
