package panel

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/web"
)

// readPlain finds accounts where there is no panel: ordinary users in passwd, and the virtual hosts whose document
// roots are theirs. A user without a site is an account only where the home is in a usual place for customers.
func readPlain(r *reader) []claim {
	var claims []claim
	index := map[string]int{}
	for _, u := range r.out.Users.All() {
		if u.UID < r.out.Users.UIDMin || u.UID > r.out.Users.UIDMax || u.UID == Nobody {
			continue
		}
		index[u.Name] = len(claims)
		c := claim{file: "/etc/passwd", line: u.Line, weak: true}
		c.Account.Account = rightful.Account{Name: u.Name, UID: u.UID, GID: u.GID, Home: u.Home, Panel: "plain"}
		c.Known = "/etc/passwd"
		claims = append(claims, c)
	}
	homes := newHomes(claims)
	for _, c := range r.out.Apache {
		for i := range c.VHosts {
			r.plainSite(claims, index, homes, c, &c.VHosts[i])
		}
		if c.Default.DocRoot != "" {
			main := c.Default
			for _, l := range c.Listen {
				main.Addrs = append(main.Addrs, joinAddr(l))
			}
			r.plainSite(claims, index, homes, c, &main)
		}
	}
	r.userDirSites(claims)
	r.nginxSites(claims, index, homes)
	r.lsSites(claims, index, homes)
	for i := range claims {
		c := &claims[i]
		if len(c.Sites) > 0 {
			root := "DocumentRoot"
			switch c.Sites[0].Server {
			case "nginx":
				root = "root"
			case "litespeed":
				root = "docRoot"
			}
			c.Known = fmt.Sprintf("/etc/passwd, %s in %s:%d", root, c.from[0].file, c.from[0].line)
		}
	}
	return claims
}

func joinAddr(l web.Listen) string {
	addr := l.Addr
	if addr == "" {
		addr = "*"
	}
	if strings.Contains(addr, ":") {
		addr = "[" + addr + "]"
	}
	return addr + ":" + l.Port
}

// plainSite gives a virtual host to the account that owns its document root: the user that it runs as where that is an
// account, else the one whose home holds it. Where the two contradict each other it is nobody's.
func (r *reader) plainSite(claims []claim, index map[string]int, homes homes, c *web.ApacheConfig, v *web.VHost) {
	root := v.DocRoot
	if root == "" {
		root = c.Default.DocRoot
	}
	if root == "" || SystemDir(root) {
		return
	}
	site := rightful.Site{Name: v.ServerName, Domains: addNames([]string{}, v.ServerName), DocRoot: root, Listen: c.Reach(v)}
	site.Domains = addNames(site.Domains, v.Aliases...)
	r.serve(&site, c, v)
	r.give(claims, index, homes, site, source{v.File, v.Line})
}

// give finds the account that owns a site's document root, and adds the site to it.
func (r *reader) give(claims []claim, index map[string]int, homes homes, site rightful.Site, from source) {
	root := site.DocRoot
	if site.Name == "" {
		site.Name = root
		if len(site.Domains) > 0 {
			site.Name = site.Domains[0]
		}
	}

	explicit := -1
	for _, id := range []rightful.Identity{site.CGIAs, site.Web, site.PHP.Identity} {
		if u, ok := r.out.Users.ByUID(id.UID); ok && explicit < 0 {
			if i, ok := index[u.Name]; ok {
				explicit = i
			}
		}
	}
	owner := homes.find(root)
	switch {
	case owner < 0:
		owner = explicit
	case explicit >= 0 && claims[explicit].UID != claims[owner].UID:
		r.issue(Issue{
			File: from.file, Line: from.line, Problem: DocrootInside, Account: claims[explicit].Name, Fatal: true,
			Msg: fmt.Sprintf("virtual host %q runs as %q, but its document root %q is in the home of %q", site.Name,
				claims[explicit].Name, root, claims[owner].Name),
		})
		return
	}
	if owner < 0 {
		return
	}
	claims[owner].addSite(site, from)
}

// addSite adds a site, or joins it with the one that has the same document root.
func (c *claim) addSite(site rightful.Site, from source) {
	i := slices.IndexFunc(c.Sites, func(s rightful.Site) bool { return s.DocRoot == site.DocRoot })
	if i < 0 {
		c.Sites = append(c.Sites, site)
		c.from = append(c.from, from)
		return
	}
	have := &c.Sites[i]
	if len(have.Domains) == 0 && len(site.Domains) > 0 {
		have.Name = site.Name
	}
	have.Domains = addNames(have.Domains, site.Domains...)
	have.Listen = addNames(have.Listen, site.Listen...)
	have.CGI = addNames(have.CGI, site.CGI...)
	if have.PHP.Handler == "none" {
		have.PHP = site.PHP
	}
}

// homes finds whose home holds a path.
type homes struct{ claim map[string]int }

func newHomes(claims []claim) homes {
	h := homes{claim: map[string]int{}}
	for i, c := range claims {
		home := path.Clean(c.Home)
		if !path.IsAbs(home) || SystemDir(home) {
			continue
		}
		if _, twice := h.claim[home]; !twice {
			h.claim[home] = i
		}
	}
	return h
}

// find returns the claim with the longest home that is p or holds it, or -1.
func (h homes) find(p string) int {
	for d := p; len(d) > 1; {
		if i, ok := h.claim[d]; ok {
			return i
		}
		d = d[:max(strings.LastIndexByte(d, '/'), 0)]
	}
	return -1
}
