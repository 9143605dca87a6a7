package panel

import (
	"fmt"
	"maps"
	"net"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"rightful"
	"rightful/internal/tree"
	"rightful/internal/web"
)

// The files of cPanel. An account is one that /etc/trueuserdomains, /var/cpanel/users and passwd all name.
const (
	cpTrueUsers = "/etc/trueuserdomains"
	cpUsers     = "/var/cpanel/users"
	cpDomains   = "/etc/userdatadomains"
	cpUserdata  = "/var/cpanel/userdata"
	cpSuspended = "/var/cpanel/suspended"
	cpPHP       = "/etc/cpanel/ea4/php.conf"
)

func detectCPanel(s *tree.Server) bool {
	for _, f := range [...]string{cpTrueUsers, cpUsers} {
		if _, err := s.Stat(f); err == nil {
			return true
		}
	}
	return false
}

// cpanel is what all accounts share.
type cpanel struct {
	r         *reader
	users     map[string]bool // names in cpUsers
	suspended map[string]bool
	domains   map[string][]cpDomain // lines of cpDomains by user
	listed    bool                  // cpDomains was read
	handlers  map[string]string     // PHP handler by version
	vhosts    map[string][]vhostRef // virtual hosts by every name
}

type vhostRef struct {
	c *web.ApacheConfig
	v *web.VHost
}

func readCPanel(r *reader) []claim {
	p := &cpanel{r: r, users: r.names(cpUsers, true), suspended: r.names(cpSuspended, false)}
	r.cpanelFacts()
	text, ok := r.read(cpTrueUsers, 256<<20, true)
	if !ok {
		return nil
	}
	named, issues := parseTrueUsers(text)
	r.out.Issues = append(r.out.Issues, issues...)
	p.readDomains(named)
	p.readPHP()
	p.vhosts = map[string][]vhostRef{}
	for _, c := range r.out.Apache {
		for i := range c.VHosts {
			v := &c.VHosts[i]
			for _, n := range addNames([]string{v.ServerName}, v.Aliases...) {
				p.vhosts[n] = append(p.vhosts[n], vhostRef{c, v})
			}
		}
	}

	var claims []claim
	live := map[string]bool{}
	for _, n := range named {
		live[n.user] = true
		switch _, inPasswd := r.out.Users.ByName(n.user); {
		case !p.users[n.user]:
			r.issue(Issue{
				File: cpTrueUsers, Line: n.line, Problem: Leftover, Account: n.user,
				Msg: fmt.Sprintf("account %q has no file in %s", n.user, cpUsers),
			})
		case !inPasswd:
			r.issue(Issue{
				File: cpTrueUsers, Line: n.line, Problem: NoUser, Account: n.user, Fatal: true,
				Msg: fmt.Sprintf("account %q is not in passwd", n.user),
			})
		default:
			u, _ := r.out.Users.ByName(n.user)
			c := claim{file: cpTrueUsers, line: n.line}
			c.Account.Account = rightful.Account{
				Name: n.user, UID: u.UID, GID: u.GID, Home: u.Home, Panel: "cpanel", Suspended: p.suspended[n.user],
			}
			c.Known = cpTrueUsers + ", " + cpUsers + ", home from passwd"
			claims = append(claims, c)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.users)) {
		if !live[name] && name != "system" && name != "nobody" && name[0] != '.' {
			r.issue(Issue{
				File: cpUsers + "/" + name, Problem: Leftover, Account: name,
				Msg: fmt.Sprintf("%q is not in %s: left over, not an account", name, cpTrueUsers),
			})
		}
	}
	p.readAccounts(claims, named)
	return claims
}

// readAccounts fills in the sites, a few accounts at a time: each needs a handful of small files.
func (p *cpanel) readAccounts(claims []claim, named []cpName) {
	mains := map[string]string{}
	for _, n := range named {
		mains[n.user] = n.domain
	}
	found := make([]*accountReader, len(claims))
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(runtime.GOMAXPROCS(0), 8) {
		wg.Go(func() {
			for i := range next {
				found[i] = &accountReader{p: p, c: &claims[i], main: mains[claims[i].Name]}
				found[i].read()
			}
		})
	}
	for i := range claims {
		next <- i
	}
	close(next)
	wg.Wait()
	for i, a := range found {
		p.r.out.Issues = append(p.r.out.Issues, a.issues...)
		for _, s := range a.sites {
			claims[i].addSite(p.site(&claims[i], s), source{s.file, s.line})
		}
		for j := range claims[i].Sites {
			names := claims[i].Sites[j].Domains
			if len(names) > 1 {
				slices.Sort(names[1:])
			}
		}
	}
}

// names lists a directory as a set.
func (r *reader) names(dir string, must bool) map[string]bool {
	names, err := r.s.ReadDir(dir)
	if err != nil && (must || !tree.IsNotExist(err)) {
		r.issue(Issue{File: dir, Problem: Unreadable, Msg: err.Error(), Fatal: true})
	}
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}

// cpanelFacts learns the server-wide settings that the rules of document roots depend on.
func (r *reader) cpanelFacts() {
	if r.exists("/var/cpanel/fileprotect") {
		r.out.Facts["fileprotect"] = true
	}
	if text, ok := r.read("/var/cpanel/cpanel.config", 1<<20, false); ok {
		if keyValues(text)["acls"] == "1" {
			r.out.Facts["acls"] = true
		}
	}
}

// readPHP learns the handler of each PHP version.
func (p *cpanel) readPHP() {
	p.handlers = map[string]string{}
	text, ok := p.r.read(cpPHP, 1<<20, false)
	if !ok {
		return
	}
	doc, err := parseYAML(text)
	if err != nil {
		p.r.issue(Issue{File: cpPHP, Line: err.line, Problem: Syntax, Msg: err.msg})
	}
	for k, v := range doc.fields {
		p.handlers[k] = v.scalar
	}
}

// readDomains reads the list of all virtual hosts.
func (p *cpanel) readDomains(named []cpName) {
	text, ok := p.r.read(cpDomains, 512<<20, false)
	p.domains = map[string][]cpDomain{}
	if !ok {
		return
	}
	p.listed = true
	lines, issues := parseUserDataDomains(text)
	p.r.out.Issues = append(p.r.out.Issues, issues...)
	known := map[string]bool{"nobody": true, "system": true}
	for _, n := range named {
		known[n.user] = true
	}
	for _, d := range lines {
		if !known[d.user] {
			known[d.user] = true // once each
			p.r.issue(Issue{
				File: cpDomains, Line: d.line, Problem: Leftover, Account: d.user,
				Msg: fmt.Sprintf("domain %q belongs to %q, which is not an account", d.domain, d.user),
			})
		}
		p.domains[d.user] = append(p.domains[d.user], d)
	}
}

// site turns what the panel says of a document root into a site, with the virtual host's word where there is one.
func (p *cpanel) site(c *claim, s cpSite) rightful.Site {
	r := p.r
	site := rightful.Site{Name: s.name, Domains: addNames([]string{s.name}, s.domains...), DocRoot: s.docroot, Web: r.out.Web}
	user := rightful.Identity{UID: c.UID, GIDs: r.out.Users.Groups(c.Name)}
	suexec := len(r.out.Apache) == 0 || r.out.Facts["suexec"]
	site.CGIAs = r.out.Web
	if suexec {
		site.CGIAs = user
	}
	var handler web.PHPHandler
	hosts := p.vhosts[s.name]
	for _, h := range hosts {
		if h.v.DocRoot != s.docroot {
			continue
		}
		own := rightful.Site{}
		r.serveWeb(&own, h.c, h.v)
		site.Web, site.CGIAs = own.Web, own.CGIAs
		site.CGI = addNames(site.CGI, own.CGI...)
		site.Listen = addNames(site.Listen, h.c.Reach(h.v)...)
		if k := h.c.PHP(h.v); k.Kind == "fpm" {
			handler = k
		}
	}
	if len(site.Listen) == 0 {
		site.Listen = s.listen
	}
	if len(hosts) == 0 {
		site.CGI = s.cgi
	}
	site.PHP = p.php(s, handler, site.Web, user, suexec)
	return site
}

// php tells who runs PHP: the site's own pool where it has one, else the handler of its PHP version.
func (p *cpanel) php(s cpSite, pool web.PHPHandler, as, user rightful.Identity, suexec bool) rightful.PHP {
	facts := p.r.out.Facts
	if s.fpm {
		id := user
		if w, ok := p.r.out.pools.For(pool.Backend); ok {
			if pid, ok := p.r.out.Users.Identity(w.User, w.Group); ok {
				id = pid
			}
		}
		return rightful.PHP{Handler: "fpm", Identity: id}
	}
	version := s.php
	if version == "" || version == "inherit" {
		version = p.handlers["default"]
	}
	switch h := p.handlers[version]; h {
	case "dso":
		switch {
		case facts["itk"]:
			return rightful.PHP{Handler: "itk", Identity: user}
		case facts["ruid2"]:
			return rightful.PHP{Handler: "ruid2", Identity: user}
		}
		facts["dso"] = true
		return rightful.PHP{Handler: "dso", Identity: as}
	case "fcgi", "fcgid", "cgi":
		if h == "fcgi" {
			h = "fcgid"
		}
		if !suexec {
			return rightful.PHP{Handler: h, Identity: as}
		}
		return rightful.PHP{Handler: h, Identity: user}
	case "suphp", "lsapi":
		return rightful.PHP{Handler: h, Identity: user}
	case "none":
		return rightful.PHP{Handler: "none", Identity: as}
	}
	return rightful.PHP{Handler: "unknown", Identity: user}
}

// A cpName is one line of /etc/trueuserdomains.
type cpName struct {
	domain, user string
	line         int
}

// parseTrueUsers reads "maindomain: user" lines; the first line of a user counts.
func parseTrueUsers(text string) (out []cpName, issues []Issue) {
	seen := map[string]bool{}
	n := 0
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		domain, user, ok := strings.Cut(line, ":")
		domain, user = strings.TrimSpace(domain), strings.TrimSpace(user)
		if !ok || domain == "" || !soundName(user) {
			issues = append(issues, Issue{File: cpTrueUsers, Line: n, Problem: Syntax, Msg: "line is not DOMAIN: USER", Fatal: true})
			continue
		}
		if user == "nobody" || user == "system" {
			continue
		}
		if seen[user] {
			issues = append(issues, Issue{
				File: cpTrueUsers, Line: n, Problem: Syntax, Account: user, Msg: fmt.Sprintf("account %q is there twice", user),
			})
			continue
		}
		seen[user] = true
		out = append(out, cpName{strings.ToLower(domain), user, n})
	}
	return out, issues
}

// soundName reports whether a name can be used as the name of one file and one user.
func soundName(s string) bool {
	return s != "" && s != "." && s != ".." && !strings.ContainsAny(s, "/\x00: \t") && len(s) < 256
}

// A cpDomain is one line of /etc/userdatadomains.
type cpDomain struct {
	domain, user, kind, parent, docroot, addr, tls, php string
	line                                                int
}

// parseUserDataDomains reads "domain: user==owner==type==parent==docroot==ip:port==sslip:sslport==…==phpversion".
// Fields may be empty, so that separators stand side by side, and document roots may hold blanks. A domain with two
// different lines is nobody's.
func parseUserDataDomains(text string) (out []cpDomain, issues []Issue) {
	index := map[string]int{}
	conflict := map[string]bool{}
	n := 0
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" || line[0] == '#' {
			continue
		}
		bad := func(msg string) {
			issues = append(issues, Issue{File: cpDomains, Line: n, Problem: Syntax, Msg: msg, Fatal: true})
		}
		domain, rest, ok := strings.Cut(line, ": ")
		f := strings.Split(rest, "==")
		if !ok || len(f) < 5 {
			bad("line is not DOMAIN: USER==OWNER==TYPE==PARENT==DOCROOT…")
			continue
		}
		d := cpDomain{domain: strings.ToLower(domain), user: f[0], kind: f[2], parent: strings.ToLower(f[3]), docroot: f[4], line: n}
		if len(f) > 5 {
			d.addr = f[5]
		}
		if len(f) > 6 {
			d.tls = f[6]
		}
		if len(f) > 9 {
			d.php = strings.TrimSpace(f[9])
		}
		switch {
		case !soundName(d.domain) || !soundName(d.user):
			bad("domain or user is not a name")
			continue
		case !path.IsAbs(d.docroot) || slices.Contains(strings.Split(d.docroot, "/"), ".."):
			bad(fmt.Sprintf("document root %q is not an absolute path without ..", d.docroot))
			continue
		case !isAddr(d.addr) || !isAddr(d.tls):
			// A document root with == in it would look like this.
			bad("address after the document root is not ADDRESS:PORT")
			continue
		}
		d.docroot = path.Clean(d.docroot)
		i, twice := index[d.domain]
		if !twice {
			index[d.domain] = len(out)
			out = append(out, d)
			continue
		}
		same := out[i]
		same.line = d.line
		if same != d {
			bad(fmt.Sprintf("domain %q is there twice with different values", d.domain))
			conflict[d.domain] = true
		}
	}
	if len(conflict) > 0 {
		out = slices.DeleteFunc(out, func(d cpDomain) bool { return conflict[d.domain] })
	}
	return out, issues
}

func isAddr(s string) bool {
	if s == "" {
		return true
	}
	host, port, err := net.SplitHostPort(s)
	return err == nil && strings.Trim(port, "0123456789") == "" && (host == "*" || net.ParseIP(host) != nil)
}

// keyValues reads KEY=VALUE lines; the first of two counts.
func keyValues(text string) map[string]string {
	kv := map[string]string{}
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		k, v, ok := strings.Cut(strings.TrimRight(line, "\r\n"), "=")
		if k = strings.TrimSpace(k); !ok || k == "" || k[0] == '#' {
			continue
		}
		if _, twice := kv[k]; !twice {
			kv[k] = strings.TrimSpace(v)
		}
	}
	return kv
}
