package panel

import (
	"path"
	"slices"
	"strings"

	"rightful"
)

// A hosted is one document root of an account as a panel names it, before the virtual hosts are asked who serves it.
type hosted struct {
	name    string // the panel's name of the site; the first of domains
	domains []string
	docroot string
	// php is what the panel says of PHP, for a site of which no virtual host is known. An empty handler is PHP-FPM as the
	// account: all panels' habit.
	php  string
	from source
}

// hosts finds virtual hosts by document root and by name.
type hosts struct {
	r             *reader
	apacheByRoot  map[string][]vhostRef
	apacheByName  map[string][]vhostRef
	nginxByRoot   map[string][]nginxRef
	nginxByName   map[string][]nginxRef
	resolvedRoots map[string]string
}

func (r *reader) hosts() *hosts {
	h := &hosts{
		r: r, apacheByRoot: map[string][]vhostRef{}, apacheByName: map[string][]vhostRef{},
		nginxByRoot: map[string][]nginxRef{}, nginxByName: map[string][]nginxRef{}, resolvedRoots: map[string]string{},
	}
	for _, c := range r.out.Apache {
		for i := range c.VHosts {
			v := &c.VHosts[i]
			if v.DocRoot == "" {
				continue
			}
			h.apacheByRoot[v.DocRoot] = append(h.apacheByRoot[v.DocRoot], vhostRef{c, v})
			for _, n := range addNames([]string{}, append([]string{v.ServerName}, v.Aliases...)...) {
				h.apacheByName[n] = append(h.apacheByName[n], vhostRef{c, v})
			}
		}
	}
	for _, c := range r.out.Nginx {
		for i := range c.Servers {
			v := &c.Servers[i]
			h.nginxByRoot[v.Root] = append(h.nginxByRoot[v.Root], nginxRef{c, v})
			for _, n := range v.Domains() {
				h.nginxByName[n] = append(h.nginxByName[n], nginxRef{c, v})
			}
		}
	}
	return h
}

// add gives the account a site. Where the virtual hosts of that name have another document root of the account's than
// the panel's files say, they are believed: they are what is served.
func (h *hosts) add(c *claim, s hosted) {
	if !path.IsAbs(s.docroot) || slices.Contains(strings.Split(s.docroot, "/"), "..") {
		h.r.issue(Issue{
			File: s.from.file, Line: s.from.line, Problem: BadDocroot, Account: c.Name, Fatal: true,
			Msg: "document root " + quote(s.docroot) + " of site " + quote(s.name) + " is not an absolute path without ..",
		})
		return
	}
	s.docroot = path.Clean(s.docroot)
	roots := h.roots(c, s)
	if len(roots) == 0 {
		c.addSite(h.unserved(c, s), s.from)
		return
	}
	for i, root := range roots {
		name := s.name
		if i > 0 { // the same names, from another directory: over TLS, at another address
			name += " (" + path.Base(root) + ")"
		}
		site := rightful.Site{Name: name, Domains: addNames([]string{s.name}, s.domains...), DocRoot: root}
		h.serve(&site)
		c.addSite(site, s.from)
	}
}

// roots lists the document roots from which the names of a site are served: the panel's own spelling where a virtual
// host has that directory, whatever links lead to it, and others that lie in the account's home.
func (h *hosts) roots(c *claim, s hosted) (roots []string) {
	served := len(h.apacheByRoot[s.docroot])+len(h.nginxByRoot[s.docroot]) > 0
	if served {
		roots = append(roots, s.docroot)
	}
	home := path.Clean(c.Home)
	for _, n := range append([]string{s.name}, s.domains...) {
		var named []string
		for _, v := range h.apacheByName[n] {
			named = append(named, v.v.DocRoot)
		}
		for _, v := range h.nginxByName[n] {
			named = append(named, v.v.Root)
		}
		for _, root := range named {
			switch {
			case root == "" || slices.Contains(roots, root):
			case root != s.docroot && h.resolved(root) == h.resolved(s.docroot):
				// Two ways to one directory: it is one site, judged where the panel says it is.
				h.merge(s.docroot, root)
				roots = addNames(roots, s.docroot)
			case Within(root, home) && root != home:
				roots = addNames(roots, root)
			}
		}
	}
	return roots
}

// merge lets virtual hosts be found by the other spelling of their document root too.
func (h *hosts) merge(root, other string) {
	for _, v := range h.apacheByRoot[other] {
		if !slices.Contains(h.apacheByRoot[root], v) {
			h.apacheByRoot[root] = append(h.apacheByRoot[root], v)
		}
	}
	for _, v := range h.nginxByRoot[other] {
		if !slices.Contains(h.nginxByRoot[root], v) {
			h.nginxByRoot[root] = append(h.nginxByRoot[root], v)
		}
	}
}

// resolved follows the links of a path, and gives it back where it cannot.
func (h *hosts) resolved(p string) string {
	to, ok := h.resolvedRoots[p]
	if !ok {
		to = p
		if cs, err := h.r.s.Trace(p); err == nil && len(cs) > 0 {
			to = cs[len(cs)-1].Path
		}
		h.resolvedRoots[p] = to
	}
	return to
}

// serve fills in who serves a document root: Apache's virtual hosts, and nginx's before or instead of them.
func (h *hosts) serve(site *rightful.Site) {
	apache := h.apacheByRoot[site.DocRoot]
	for _, ref := range apache {
		one := rightful.Site{DocRoot: site.DocRoot}
		h.r.serve(&one, ref.c, ref.v)
		if site.Server == "" {
			site.Server, site.Web, site.PHP, site.CGIAs = one.Server, one.Web, one.PHP, one.CGIAs
		} else if site.PHP.Handler == "none" {
			site.PHP = one.PHP
		}
		site.Domains = addNames(site.Domains, append([]string{ref.v.ServerName}, ref.v.Aliases...)...)
		site.CGI = addNames(site.CGI, one.CGI...)
		site.Listen = addNames(site.Listen, ref.c.Reach(ref.v)...)
	}
	nginx := h.nginxByRoot[site.DocRoot]
	if len(apache) > 0 {
		// A proxy need not say where the files are.
		for _, ref := range h.nginxByName[site.Domains[0]] {
			if ref.v.Proxied && !slices.Contains(nginx, ref) {
				nginx = append(nginx, ref)
			}
		}
	}
	for _, ref := range nginx {
		if len(apache) > 0 {
			h.r.before(site, ref.c, ref.v)
			continue
		}
		one := h.r.nginxServes(ref.c, ref.v)
		if _, twice := h.r.out.served[site.DocRoot]; !twice {
			h.r.out.served[site.DocRoot] = ref
		}
		if site.Server == "" || site.PHP.Handler == "none" {
			site.Server, site.Web, site.PHP, site.CGIAs = one.Server, one.Web, one.PHP, one.CGIAs
		}
		site.Domains = addNames(site.Domains, one.Domains...)
		site.Listen = addNames(site.Listen, one.Listen...)
	}
	if len(site.Domains) > 1 {
		slices.Sort(site.Domains[1:])
	}
}

// unserved is a site of which no virtual host is known: it is believed to be served as the panel usually does.
func (h *hosts) unserved(c *claim, s hosted) rightful.Site {
	r := h.r
	site := rightful.Site{Name: s.name, Domains: addNames([]string{s.name}, s.domains...), DocRoot: s.docroot, Web: r.out.Web, CGIAs: r.out.Web}
	switch {
	case r.out.LiteSpeed:
		site.Server = "litespeed"
	case len(r.out.Apache) > 0:
		site.Server = "apache"
	}
	slices.Sort(site.Domains[1:])
	site.PHP = r.phpAs(s.php, c)
	return site
}

// phpAs is PHP by a handler of which only the panel speaks.
func (r *reader) phpAs(handler string, c *claim) rightful.PHP {
	switch handler {
	case "none":
		return rightful.PHP{Handler: "none", Identity: r.out.Web}
	case "dso":
		r.out.Facts["dso"] = true
		return rightful.PHP{Handler: "dso", Identity: r.out.Web}
	case "":
		handler = "fpm"
	}
	return rightful.PHP{Handler: handler, Identity: rightful.Identity{UID: c.UID, GIDs: r.out.Users.Groups(c.Name)}}
}

// claimOf makes the claim of an account that a panel's file names, with uid and home from passwd; or reports that
// passwd does not know it.
func (r *reader) claimOf(panel, name, file string, line int) (claim, bool) {
	u, ok := r.out.Users.ByName(name)
	if !ok {
		r.issue(Issue{File: file, Line: line, Problem: NoUser, Account: name, Fatal: true, Msg: "account " + quote(name) + " is not in passwd"})
		return claim{}, false
	}
	c := claim{file: file, line: line}
	c.Account.Account = rightful.Account{Name: name, UID: u.UID, GID: u.GID, Home: u.Home, Panel: panel}
	c.Known = file + ", home from passwd"
	return c, true
}
