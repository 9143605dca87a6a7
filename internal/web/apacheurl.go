package web

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"rightful"
)

// A Mapping is where a request path leads to before any file is looked at.
type Mapping struct {
	// Root is the directory and Rest what comes below it; the path is the two together.
	Root, Rest string
	// Script: a ScriptAlias mapped it, and whatever is there is run.
	Script bool
	// How says what mapped it, At is the directive, nil for the document root.
	How string
	At  *Directive
}

// Path is where the request path leads to.
func (m *Mapping) Path() string { return path.Clean(m.Root + "/" + m.Rest) }

// Map maps a decoded request path: the first Alias that covers it, a user's directory, else the document root.
func (h *ApacheHost) Map(url string) Mapping {
	for i := range h.aliases {
		a := &h.aliases[i]
		switch {
		case a.re != nil:
			if m := a.re.FindStringSubmatch(url); m != nil {
				to := a.to
				for k := len(m) - 1; k >= 0; k-- {
					to = strings.ReplaceAll(to, fmt.Sprintf("$%d", k), m[k])
				}
				return Mapping{Root: path.Dir(path.Clean(to)), Rest: path.Base(to), Script: a.script, How: a.d.Name, At: a.d}
			}
		case a.url != "" && (url == a.url || strings.HasPrefix(url, a.url+"/")):
			return Mapping{Root: a.to, Rest: strings.TrimPrefix(url[len(a.url):], "/"), Script: a.script, How: a.d.Name, At: a.d}
		}
	}
	if rest, ok := strings.CutPrefix(url, "/~"); ok && h.userDir != "" && !strings.HasPrefix(strings.ToLower(h.userDir), "disabled") && !path.IsAbs(h.userDir) {
		user, rest, _ := strings.Cut(rest, "/")
		if home, ok := h.home(user); ok {
			return Mapping{Root: path.Join(home, h.userDir), Rest: rest, How: "UserDir"}
		}
	}
	return Mapping{Root: h.DocRoot, Rest: strings.TrimPrefix(url, "/"), How: "DocumentRoot"}
}

func (h *ApacheHost) home(user string) (string, bool) {
	if h.Home == nil || user == "" {
		return "", false
	}
	return h.Home(user)
}

// at is the host as if its document root were another directory, which an Alias leads to.
func (h *ApacheHost) at(m Mapping) *ApacheHost {
	c := h.ApacheHostConfig
	c.DocRoot, c.scripts, c.bare = path.Clean(m.Root), m.Script, true
	return NewApacheHost(c)
}

// URL implements [Host]. It follows no link to a directory: what is behind one is in doubt.
func (h *ApacheHost) URL(url string, in View) Verdict {
	url = cleanURL(url)
	if m := h.Map(url); m.How != "DocumentRoot" && !h.same(m, url) {
		to := h.at(m)
		return to.URL("/"+m.Rest, ViewOf(h.Server, h.resolved(to.DocRoot)))
	}
	scope := h.Root(in)
	names := splitPath(url)
	slash := strings.HasSuffix(url, "/")
	dir := h.resolved(h.DocRoot)
	for i, name := range names {
		n, _ := in.Lstat(name)
		last := i == len(names)-1
		if n.Kind == rightful.KindDir && (!last || slash) {
			dir = rightful.JoinPath(dir, name)
			in = pathView{in.Follow, h.Server, dir}
			scope = scope.Dir(name, n.Meta, in)
			continue
		}
		v := scope.File([]byte(name), n, in)
		switch {
		case last && !slash:
		case n.Kind == rightful.KindSymlink && (v.Served() || v.Status >= 300 && v.Status < 400):
			return inDoubt("it lies behind the link "+rightful.JoinPath(dir, name), nil)
		case v.Served() && !v.App:
			return Verdict{Status: 404, Certain: true, Cause: CauseMissing, Code: "AH00130", Why: "it is a file, and more follows it in the path"}
		}
		return v
	}
	return scope.Index(in)
}

// same reports whether an Alias only leads to where the document root would.
func (h *ApacheHost) same(m Mapping, url string) bool {
	p := m.Path()
	return p == path.Clean(h.DocRoot+url) || p == path.Clean(h.resolved(h.DocRoot)+url)
}

// cleanURL does away with dots and doubled slashes, and keeps the slash at the end.
func cleanURL(url string) string {
	clean := path.Clean("/" + url)
	if clean != "/" && (strings.HasSuffix(url, "/") || strings.HasSuffix(url, "/.") || strings.HasSuffix(url, "/..")) {
		clean += "/"
	}
	return clean
}

// Choose finds the virtual host that answers for a name at an address and port (server/vhost.c): among those of the most
// exact address, the first that has the name, else the first of all. An empty addr is one that is not known: then any
// address may be the one, and a host that has the name is preferred. why says so in words.
func (c *ApacheConfig) Choose(addr, port, host string) (v *VHost, why string) {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	type group struct {
		addr  string
		hosts []*VHost
	}
	var groups []group
	for i := range c.VHosts {
		v := &c.VHosts[i]
		for _, a := range v.Addrs {
			at, p := splitAddr(a)
			at = wildcard(at)
			if p != "" && p != "*" && p != port || addr != "" && at != "" && at != addr {
				continue
			}
			k := slices.IndexFunc(groups, func(g group) bool { return g.addr == at })
			if k < 0 {
				k = len(groups)
				groups = append(groups, group{addr: at})
			}
			if !slices.Contains(groups[k].hosts, v) {
				groups[k].hosts = append(groups[k].hosts, v)
			}
		}
	}
	// The exact address wins over the wildcard. Where it is not known, who has the name does.
	slices.SortStableFunc(groups, func(a, b group) int { return cmp.Compare(len(b.addr), len(a.addr)) })
	if addr != "" && len(groups) > 1 {
		groups = groups[:1]
	}
	for _, g := range groups {
		for _, v := range g.hosts {
			if how := v.named(host); how != "" {
				return v, how
			}
		}
	}
	if n := len(groups); n > 0 {
		v := groups[n-1].hosts[0]
		return v, fmt.Sprintf("no virtual host on port %s has the name, and this is the first there", port)
	}
	return &c.Default, "no virtual host listens on port " + port + ": the main server answers"
}

// named says how a virtual host has a name, "" where it has not.
func (v *VHost) named(host string) string {
	if v.ServerName == host {
		return "its ServerName is the name"
	}
	for _, a := range v.Aliases {
		if ok, _ := path.Match(strings.ReplaceAll(a, "[", `\[`), host); ok || a == host {
			return "its ServerAlias " + a + " is the name"
		}
	}
	return ""
}
