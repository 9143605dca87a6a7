package panel

import (
	"rightful"
	"rightful/internal/web"
)

// defaultIndex is Debian's and Red Hat's DirectoryIndex, for a server whose configuration does not say.
var defaultIndex = []string{"index.html", "index.cgi", "index.pl", "index.php", "index.xhtml", "index.htm"}

// Front tells how nginx answers a request for a site's front page; nil where Apache does.
func (s *Server) Front(site *rightful.Site) *web.NginxFront {
	if site.Server != "nginx" {
		return nil
	}
	return s.fronts[site.DocRoot]
}

// Index lists the file names that are tried for a directory of a site (DirectoryIndex), in order: those of its document
// root's section, else of its virtual host, else of the main server.
func (s *Server) Index(site *rightful.Site) []string {
	if f := s.Front(site); f != nil {
		return f.Index
	}
	for _, c := range s.Apache {
		for i := range c.VHosts {
			v := &c.VHosts[i]
			if v.DocRoot != site.DocRoot {
				continue
			}
			index := v.DirectoryIndex
			for j := range c.Default.Dirs {
				if d := &c.Default.Dirs[j]; d.Covers(site.DocRoot) && len(d.DirectoryIndex) > 0 {
					index = d.DirectoryIndex
				}
			}
			for j := range v.Dirs {
				if d := &v.Dirs[j]; d.Covers(site.DocRoot) && len(d.DirectoryIndex) > 0 {
					index = d.DirectoryIndex
				}
			}
			if len(index) > 0 {
				return index
			}
		}
		if len(c.Default.DirectoryIndex) > 0 {
			return c.Default.DirectoryIndex
		}
	}
	return defaultIndex
}
