package panel

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/tree"
	"rightful/internal/web"
)

// Host is how the web server answers for a site: its virtual host, compiled. Where no configuration names the document
// root, it is as the panel would have configured it. The result belongs to one goroutine.
func (s *Server) Host(fs *tree.Server, a *Account, site *rightful.Site) web.Host {
	if site.Server == "nginx" {
		ref, ok := s.served[site.DocRoot]
		if !ok {
			return nil
		}
		return s.nginxHost(fs, site, ref, nil)
	}
	front, ok := s.fronts[site.DocRoot]
	switch {
	case site.Server == "litespeed":
		return web.NewLiteSpeedHost(s.apacheHost(fs, a, site, site.Web), path.Clean(site.DocRoot))
	case !ok:
		return s.apacheHost(fs, a, site, site.Web)
	}
	return s.nginxHost(fs, site, front.nginxRef, s.apacheHost(fs, a, site, front.behind))
}

// apacheHost is how Apache answers for a site as one of its users.
func (s *Server) apacheHost(fs *tree.Server, a *Account, site *rightful.Site, as rightful.Identity) web.Host {
	c := web.ApacheHostConfig{
		Server: fs, DocRoot: path.Clean(site.DocRoot), Web: as, Workers: s.Web, CGI: site.CGIAs, Pool: s.pool, CPanel: a.Panel == "cpanel",
		Home: func(user string) (string, bool) {
			u, ok := s.Users.ByName(user)
			return u.Home, ok
		},
	}
	if ref, ok := s.vhosts[site.DocRoot]; ok {
		c.Config, c.VHost = ref.c, ref.v
		return web.NewApacheHost(c)
	}
	c.Config, c.VHost = usualHost(site)
	c.Pool = func(string) (*web.Pool, rightful.Identity, bool) {
		return nil, site.PHP.Identity, site.PHP.Handler != "unknown"
	}
	return web.NewApacheHost(c)
}

// An apacheRef is a virtual host of Apache, or its main server, with the configuration that it is of.
type apacheRef struct {
	c *web.ApacheConfig
	v *web.VHost
}

// indexVHosts finds out which virtual host serves each document root. Of several it is the one that speaks TLS: the others
// often only lead there. The main server is meant where no virtual host is.
func (s *Server) indexVHosts() {
	s.vhosts = map[string]apacheRef{}
	for _, c := range s.Apache {
		for i := range c.VHosts {
			v := &c.VHosts[i]
			root := cmp.Or(v.DocRoot, c.Default.DocRoot)
			if found, ok := s.vhosts[root]; !ok || v.SSL && !found.v.SSL {
				s.vhosts[root] = apacheRef{c, v}
			}
		}
		if _, ok := s.vhosts[c.Default.DocRoot]; !ok {
			s.vhosts[c.Default.DocRoot] = apacheRef{c, &c.Default}
		}
	}
}

// A Chosen is the virtual host that answers for a name on a port, and whose site that is.
type Chosen struct {
	Server  string // "apache" or "nginx"
	Name    string // of the virtual host
	File    string
	Line    int
	Why     string
	Account *Account // nil where its document root belongs to no account
	Site    *rightful.Site
	nginx   nginxRef
}

// Choose finds out who answers for a name on a port of this server; an empty addr is an address that is not known. It is
// false where nobody does.
func (s *Server) Choose(addr, port, host string) (Chosen, bool) {
	for _, c := range s.Nginx {
		if v, why := c.Choose(addr, port, host); v != nil {
			out := Chosen{Server: "nginx", File: v.File, Line: v.Line, Why: why, nginx: nginxRef{c, v}}
			if len(v.Names) > 0 {
				out.Name = v.Names[0]
			}
			out.find(s, func(site *rightful.Site) bool { return path.Clean(site.DocRoot) == v.Root })
			if v.Root == "" { // it sends visitors elsewhere, or hands them on
				out.find(s, func(site *rightful.Site) bool { return slices.Contains(site.Domains, strings.ToLower(host)) })
			}
			return out, true
		}
	}
	for _, c := range s.Apache {
		v, why := c.Choose(addr, port, host)
		if v == &c.Default && v.DocRoot == "" {
			continue
		}
		out := Chosen{Server: "apache", Name: v.ServerName, File: v.File, Line: v.Line, Why: why}
		root := v.DocRoot
		if root == "" {
			root = c.Default.DocRoot
		}
		out.find(s, func(site *rightful.Site) bool { return path.Clean(site.DocRoot) == path.Clean(root) })
		return out, true
	}
	return Chosen{}, false
}

// find finds the site that is meant.
func (c *Chosen) find(s *Server, meant func(*rightful.Site) bool) {
	for i := range s.Accounts {
		a := &s.Accounts[i]
		for k := range a.Sites {
			if meant(&a.Sites[k]) {
				c.Account, c.Site = a, &a.Sites[k]
			}
		}
	}
}

// HostOf compiles the virtual host that was chosen for a name, asked over TLS or not; nil where it is not known who it runs
// as.
func (s *Server) HostOf(fs *tree.Server, c *Chosen, name string, tls bool) web.Host {
	switch {
	case c.nginx.v == nil && c.Site == nil:
		return nil
	case c.nginx.v == nil:
		return s.Host(fs, c.Account, c.Site)
	}
	n := web.NginxHostConfig{
		Server: fs, Config: c.nginx.c, VHost: c.nginx.v, Name: name, DocRoot: c.nginx.v.Root, Web: s.Web, Pool: s.pool, User: s.Users.Identity, Plain: !tls,
	}
	if c.Site != nil {
		n.DocRoot, n.Web, n.PHP = path.Clean(c.Site.DocRoot), c.Site.Web, c.Site.PHP.Identity
		if c.Site.Server == "apache" {
			as := c.Site.Web
			if front, ok := s.fronts[c.Site.DocRoot]; ok {
				as = front.behind
			}
			n.Behind = s.apacheHost(fs, c.Account, c.Site, as)
		}
	}
	return web.NewNginxHost(n)
}

// pool finds the pool behind a backend, and who it runs as.
func (s *Server) pool(backend string) (*web.Pool, rightful.Identity, bool) {
	if s.pools == nil {
		return nil, rightful.Identity{}, false
	}
	p, ok := s.pools.For(backend)
	if !ok {
		return nil, rightful.Identity{}, false
	}
	id, ok := s.Users.Identity(p.User, p.Group)
	return p, id, ok
}

// defaultIndex is Debian's and Red Hat's DirectoryIndex, for a server whose configuration does not say.
var defaultIndex = []string{"index.html", "index.cgi", "index.pl", "index.php", "index.xhtml", "index.htm"}

// usualHost is a virtual host as the panels make them, for a site of which only the panel's own files tell.
func usualHost(site *rightful.Site) (*web.ApacheConfig, *web.VHost) {
	var b strings.Builder
	b.WriteString("<Directory />\nAllowOverride All\nOptions FollowSymLinks Includes ExecCGI\n</Directory>\n<FilesMatch ^\\.ht>\nRequire all denied\n</FilesMatch>\n")
	b.WriteString("DirectoryIndex " + strings.Join(defaultIndex, " ") + "\n")
	switch site.PHP.Handler {
	case "fpm", "unknown":
		b.WriteString("<FilesMatch \\.(php|phtml|phar|php5|php7|php8)$>\nSetHandler proxy:fcgi://localhost:9000\n</FilesMatch>\n")
	case "dso", "itk", "ruid2":
		b.WriteString("LoadModule php_module x\nAddType application/x-httpd-php .php .phtml\n")
	case "suphp":
		b.WriteString("suPHP_Engine on\nAddHandler application/x-httpd-php .php .phtml\n")
	case "lsapi":
		b.WriteString("AddHandler application/x-httpd-lsphp .php .phtml\n")
	case "fcgid", "cgi":
		b.WriteString("AddHandler fcgid-script .php .phtml\n")
		if site.PHP.Wrapper != "" {
			b.WriteString("FcgidWrapper \"" + site.PHP.Wrapper + "\" .php\n")
		}
	}
	for _, dir := range site.CGI {
		b.WriteString("ScriptAlias /" + path.Base(dir) + "/ \"" + dir + "/\"\n")
	}
	c := web.UsualApache(b.String())
	c.VHosts[0].ServerName, c.VHosts[0].DocRoot = site.Name, site.DocRoot
	if slices.Contains([]string{"itk", "ruid2"}, site.PHP.Handler) {
		c.Modules[map[string]string{"itk": "mpm_itk_module", "ruid2": "ruid2_module"}[site.PHP.Handler]] = true
	}
	return c, &c.VHosts[0]
}
