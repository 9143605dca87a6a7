package panel

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/web"
)

// readWeb reads the web server's configuration and settles who it is.
func (r *reader) readWeb(o Options, cpanel bool) {
	files := o.WebConfig
	if len(files) == 0 {
		if f := web.FindApache(r.s, cpanel); f != "" {
			files = []string{f}
		}
		if f := web.FindNginx(r.s); f != "" && !cpanel {
			files = append(files, f)
		}
	}
	var problems []web.Problem
	for _, f := range files {
		if web.IsNginx(r.s, f) {
			problems = append(problems, r.readNginx(f)...)
			continue
		}
		c, err := web.ReadApache(r.s, f)
		if err != nil {
			r.issue(Issue{File: f, Problem: Unreadable, Msg: err.Error(), Fatal: true})
			continue
		}
		r.out.WebConfig = append(r.out.WebConfig, f)
		r.out.Apache = append(r.out.Apache, c)
		problems = append(problems, c.Problems...)
		for fact, module := range map[string]string{"itk": "mpm_itk_module", "ruid2": "ruid2_module", "suexec": "suexec_module"} {
			if c.Has(module) {
				r.out.Facts[fact] = true
			}
		}
	}
	workers := web.Workers(r.s)
	if len(o.WebConfig) == 0 {
		r.oneServerPerAddress(workers)
	}
	pools, more := web.ReadPools(r.s)
	r.out.Pools = pools
	r.out.pools = web.IndexPools(pools)
	for _, p := range append(problems, more...) {
		i := Issue{File: p.File, Line: p.Line, Problem: Syntax, Msg: p.Msg}
		if p.Unreadable {
			i.Problem = Unreadable
		}
		r.issue(i)
	}
	r.webIdentity(cpanel, workers)
}

// webIdentity finds who the workers are: as configured, with the groups of a running one where there is one.
func (r *reader) webIdentity(cpanel bool, workers []web.Worker) {
	r.out.Web = rightful.Identity{UID: Nobody, GIDs: []uint32{Nobody}}
	type guess struct{ user, group, known string }
	var guesses []guess
	for _, c := range r.out.Apache {
		if c.User != "" {
			guesses = append(guesses, guess{c.User, c.Group, "User and Group in " + c.Main})
		}
	}
	if cpanel {
		guesses = append(guesses, guess{"nobody", "nobody", "cPanel's default"})
	}
	for _, c := range r.out.Nginx {
		if c.User != "" {
			guesses = append(guesses, guess{c.User, c.Group, "user in " + c.Main})
		}
	}
	if len(r.out.Apache) == 0 && len(r.out.Nginx) == 0 {
		// Only where nobody else serves: its configuration stays behind when Apache takes over.
		if ls := r.readLiteSpeed(); ls.user != "" {
			r.out.LiteSpeed = true
			guesses = append(guesses, guess{ls.user, ls.group, "user and group in " + lsConf})
		}
	}
	defer r.nginxIdentities(workers)
	file := "/etc/apache2"
	if len(r.out.WebConfig) > 0 {
		file = r.out.WebConfig[0]
	}
	for _, g := range guesses {
		id, ok := r.out.Users.Identity(g.user, g.group)
		if !ok {
			r.issue(Issue{
				File: file, Problem: NoWebUser,
				Msg: fmt.Sprintf("web server's user %q or group %q does not exist", g.user, g.group),
			})
			continue
		}
		r.out.Web, r.out.WebKnown = id, g.known
		break
	}
	if r.out.WebKnown == "" {
		r.issue(Issue{File: file, Problem: NoWebUser, Msg: "it is not known who the web server is"})
		return
	}
	for _, w := range workers {
		if (w.Apache() || len(r.out.Apache) == 0 && w.Nginx()) && w.UID == r.out.Web.UID {
			r.out.Web, r.out.WebKnown = w.Identity, fmt.Sprintf("running worker %d", w.PID)
			return
		}
	}
}

// serve fills in who serves a virtual host: the web identity, PHP and CGI. The document root and names are the caller's.
func (r *reader) serve(site *rightful.Site, c *web.ApacheConfig, v *web.VHost) {
	assigned := r.serveWeb(site, c, v)
	h := c.PHP(v)
	site.PHP = r.php(h, site.Web, site.CGIAs, assigned)
	// mod_fcgid starts PHP by a program in a directory that is for nothing else, and suEXEC is as strict about it.
	switch dir := path.Dir(h.Wrapper); path.Base(dir) {
	case "fcgi-bin", "cgi-bin", "fcgi":
		if path.IsAbs(dir) && !SystemDir(dir) {
			site.CGI = addNames(site.CGI, dir)
		}
	}
}

// serveWeb does so but for PHP. It returns "itk" or "ruid2" where the worker itself takes another identity.
func (r *reader) serveWeb(site *rightful.Site, c *web.ApacheConfig, v *web.VHost) (assigned string) {
	site.Server, site.Web = "apache", r.out.Web
	if ug := either(v.Assign, c.Default.Assign); ug.User != "" && c.Has("mpm_itk_module") {
		if id, ok := r.identity(ug, v); ok {
			site.Web, assigned = id, "itk"
		}
	} else if ug := either(v.RUidGid, c.Default.RUidGid); ug.User != "" && c.Has("ruid2_module") {
		if id, ok := r.identity(ug, v); ok {
			// RMode config changes the uid for the whole request. The groups are RGroups, else those that the worker had.
			id.GIDs = id.GIDs[:1]
			more := r.out.Web.GIDs
			if len(v.RGroups) > 0 {
				more = nil
				for _, g := range v.RGroups {
					if gid, ok := r.out.Users.groupNamed(g); ok {
						more = append(more, gid)
					}
				}
			}
			for _, g := range more {
				if !id.Has(g) {
					id.GIDs = append(id.GIDs, g)
				}
			}
			assigned = "ruid2"
			if v.RMode != "stat" && (v.RMode != "" || c.Default.RMode != "stat") {
				site.Web = id
			}
		}
	}
	cgi := site.Web
	if ug := either(v.Suexec, c.Default.Suexec); ug.User != "" && c.Has("suexec_module") && assigned == "" {
		if id, ok := r.identity(ug, v); ok {
			cgi = id
		}
	}
	site.CGIAs = cgi
	for _, a := range slices.Concat(v.ScriptAliases, c.Default.ScriptAliases) {
		if strings.HasSuffix(a.URL, "/") && path.IsAbs(a.Path) && !SystemDir(a.Path) && !slices.Contains(site.CGI, a.Path) {
			site.CGI = append(site.CGI, a.Path)
		}
	}
	return assigned
}

func (r *reader) php(h web.PHPHandler, as, cgi rightful.Identity, assigned string) rightful.PHP {
	switch h.Kind {
	case "fpm":
		return r.fpm(h.Backend, h.File, h.Line, as)
	case "dso":
		if assigned != "" {
			return rightful.PHP{Handler: assigned, Identity: as}
		}
		r.out.Facts["dso"] = true
		return rightful.PHP{Handler: "dso", Identity: as}
	case "fcgid", "cgi", "suphp", "lsapi":
		return rightful.PHP{Handler: h.Kind, Wrapper: h.Wrapper, Identity: cgi}
	}
	return rightful.PHP{Handler: "none", Identity: as}
}

// fpm tells who the pool behind a socket is.
func (r *reader) fpm(backend, file string, line int, as rightful.Identity) rightful.PHP {
	pool, ok := r.out.pools.For(backend)
	if !ok {
		r.issue(Issue{File: file, Line: line, Problem: NoPool, Msg: fmt.Sprintf("no pool file answers for %q alone", backend)})
		return rightful.PHP{Handler: "unknown", Identity: as}
	}
	id, ok := r.out.Users.Identity(pool.User, pool.Group)
	if !ok {
		r.issue(Issue{
			File: pool.File, Line: pool.Line, Problem: NoUser,
			Msg: fmt.Sprintf("pool %q: user %q or group %q does not exist", pool.Name, pool.User, pool.Group),
		})
		return rightful.PHP{Handler: "unknown", Identity: as}
	}
	return rightful.PHP{Handler: "fpm", Identity: id}
}

// identity resolves what a directive of a virtual host asks for, or reports that it does not exist.
func (r *reader) identity(ug web.UserGroup, v *web.VHost) (rightful.Identity, bool) {
	id, ok := r.out.Users.Identity(ug.User, ug.Group)
	if !ok {
		r.issue(Issue{
			File: v.File, Line: v.Line, Problem: NoUser,
			Msg: fmt.Sprintf("virtual host %q: user %q or group %q does not exist", v.ServerName, ug.User, ug.Group),
		})
	}
	return id, ok
}

func either(a, b web.UserGroup) web.UserGroup {
	if a.User != "" {
		return a
	}
	return b
}

// addNames adds what is not yet there.
func addNames(have []string, more ...string) []string {
	for _, n := range more {
		if n != "" && !slices.Contains(have, n) {
			have = append(have, n)
		}
	}
	return have
}
