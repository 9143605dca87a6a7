package panel

import (
	"fmt"
	"path"
	"slices"

	"rightful"
	"rightful/internal/tree"
	"rightful/internal/web"
)

// readNginx reads one nginx's configuration.
func (r *reader) readNginx(file string) []web.Problem {
	c, err := web.ReadNginx(r.s, file)
	if err != nil {
		r.issue(Issue{File: file, Problem: Unreadable, Msg: err.Error(), Fatal: true})
		return nil
	}
	r.out.WebConfig = append(r.out.WebConfig, file)
	r.out.Nginx = append(r.out.Nginx, c)
	return c.Problems
}

// oneServerPerAddress settles what to think of two servers that were both found and want the same address: both are
// installed, and one of them does not run. On the live server its workers tell; elsewhere both are read, and said so.
func (r *reader) oneServerPerAddress(workers []web.Worker) {
	if len(r.out.Apache) == 0 || len(r.out.Nginx) == 0 {
		return
	}
	taken := map[string]bool{}
	for _, c := range r.out.Apache {
		for _, l := range c.Listen {
			taken[l.Addr+":"+l.Port] = true
		}
	}
	both := ""
	for _, c := range r.out.Nginx {
		for i := range c.Servers {
			for _, l := range c.Servers[i].Listen {
				if taken[l.Addr+":"+l.Port] && both == "" {
					both = l.Addr + ":" + l.Port
				}
			}
		}
	}
	if both == "" {
		return
	}
	apache := slices.ContainsFunc(workers, func(w web.Worker) bool { return w.Apache() })
	nginx := slices.ContainsFunc(workers, func(w web.Worker) bool { return w.Nginx() })
	what := "both are read"
	switch {
	case apache && !nginx:
		what = "nginx does not run, and is left out"
		r.out.Nginx = nil
	case nginx && !apache:
		what = "Apache does not run, and is left out"
		r.out.Apache = nil
		clear(r.out.Facts)
	}
	r.issue(Issue{
		File: r.out.WebConfig[0], Problem: TwoServers,
		Msg: fmt.Sprintf("Apache and nginx (%s) both want to listen on %s: %s", r.out.WebConfig[len(r.out.WebConfig)-1], both, what),
	})
}

// nginxIdentities finds who the workers of each nginx are: as configured, with the groups of a running one.
func (r *reader) nginxIdentities(workers []web.Worker) {
	r.nginx = map[*web.NginxConfig]rightful.Identity{}
	for _, c := range r.out.Nginx {
		id, ok := r.out.Users.Identity(c.User, c.Group)
		if !ok {
			id = r.out.Web
		}
		for _, w := range workers {
			if w.Nginx() && (c.User == "" || w.UID == id.UID) {
				id = w.Identity
				break
			}
		}
		r.nginx[c] = id
	}
}

// nginxSites adds the sites of nginx. Where nginx only stands before Apache, Apache's virtual host says what the site
// is, and nginx where visitors meet it; where it also serves files from the site's document root, its workers open most
// of them, and the site's web identity is theirs.
func (r *reader) nginxSites(claims []claim, index map[string]int, homes homes) {
	type ref struct{ claim, site int }
	names, roots := map[string]ref{}, map[string]ref{}
	for i := range claims {
		for j := range claims[i].Sites {
			s := &claims[i].Sites[j]
			roots[s.DocRoot] = ref{i, j}
			for _, d := range s.Domains {
				names[d] = ref{i, j}
			}
		}
	}
	for _, c := range r.out.Nginx {
		for i := range c.Servers {
			v := &c.Servers[i]
			at, behind := roots[v.Root]
			if !behind && v.Proxied {
				for _, d := range v.Domains() {
					if at, behind = names[d]; behind {
						break
					}
				}
			}
			if behind {
				r.before(&claims[at.claim].Sites[at.site], c, v)
				continue
			}
			r.nginxSite(claims, index, homes, c, v)
		}
	}
}

// before puts a server of nginx before a site of Apache's.
func (r *reader) before(site *rightful.Site, c *web.NginxConfig, v *web.NginxServer) {
	site.Domains = addNames(site.Domains, v.Domains()...)
	site.Listen = addNames(site.Listen, v.Reach()...)
	id := r.nginx[c]
	if v.Root != site.DocRoot {
		return
	}
	if _, twice := r.out.fronts[v.Root]; !twice {
		r.out.fronts[v.Root] = nginxFront{nginxRef{c, v}, site.Web}
	}
	if id.UID == site.Web.UID && slices.Equal(id.GIDs, site.Web.GIDs) {
		return
	}
	r.issue(Issue{
		File: v.File, Line: v.Line, Problem: TwoServers,
		Msg: fmt.Sprintf("site %q is served by nginx as %s and by Apache as %s: only what nginx may do is judged", site.Name,
			r.out.Users.Name(id.UID), r.out.Users.Name(site.Web.UID)),
	})
	site.Web = id
}

// nginxSite gives a server's document root to the account that owns it, as plainSite does.
func (r *reader) nginxSite(claims []claim, index map[string]int, homes homes, c *web.NginxConfig, v *web.NginxServer) {
	if v.Root == "" || SystemDir(v.Root) {
		return
	}
	r.give(claims, index, homes, r.nginxServes(c, v), source{v.File, v.Line})
}

// nginxServes is the site of a server of nginx that serves its document root itself.
func (r *reader) nginxServes(c *web.NginxConfig, v *web.NginxServer) rightful.Site {
	site := rightful.Site{Domains: v.Domains(), DocRoot: v.Root, Server: "nginx", Listen: v.Reach(), Web: r.nginx[c], CGIAs: r.nginx[c]}
	if len(site.Domains) > 0 {
		site.Name = site.Domains[0]
	}
	h := c.PHP(v)
	site.PHP = rightful.PHP{Handler: h.Kind, Identity: site.Web}
	for i, b := range h.Backends {
		php := r.fpm(b, h.File, h.Line, site.Web)
		if i > 0 && (php.UID != site.PHP.UID || !slices.Equal(php.GIDs, site.PHP.GIDs)) {
			php = rightful.PHP{Handler: "unknown", Identity: site.Web}
			r.issue(Issue{File: h.File, Line: h.Line, Problem: NoPool, Msg: "pools of different users answer for one upstream"})
		}
		if site.PHP = php; php.Handler == "unknown" {
			break
		}
	}
	if _, twice := r.out.served[v.Root]; !twice {
		r.out.served[v.Root] = nginxRef{c, v}
	}
	return site
}

// nginxRef is a server of nginx with the configuration it is in.
type nginxRef struct {
	c *web.NginxConfig
	v *web.NginxServer
}

// nginxFront is a server of nginx that serves files of a site of Apache's, and hands the rest on to it.
type nginxFront struct {
	nginxRef
	behind rightful.Identity // who Apache is for the site
}

// nginxHost is how a server of nginx answers for a site, with what stands behind it, or nil.
func (s *Server) nginxHost(fs *tree.Server, site *rightful.Site, ref nginxRef, behind web.Host) web.Host {
	return web.NewNginxHost(web.NginxHostConfig{
		Server: fs, Config: ref.c, VHost: ref.v, Name: site.Name, DocRoot: path.Clean(site.DocRoot), Web: site.Web, PHP: site.PHP.Identity,
		Pool: s.pool, User: s.Users.Identity, Behind: behind,
	})
}
