package check

import (
	"bytes"
	"cmp"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"rightful"
	"rightful/internal/panel"
	"rightful/internal/tree"
	"rightful/internal/web"
)

// How what a log complains of stands now.
const (
	StillBroken = "broken"
	CuredSince  = "cured"
	NotKnown    = "unknown"
)

// A Failure is what logs say about one culprit of one site: that somebody lacked a permission.
type Failure struct {
	Account string `json:"account"` // "" where the lines do not tell it, and neither does the log
	Site    string `json:"site"`    // "" where it lies in no document root, and the log is everybody's
	// Path is that of the newest line, as it stands there; "" where lines hold none.
	Path    string `json:"path"`
	PathB64 []byte `json:"path_b64,omitempty"`
	Server  string `json:"server"`
	Code    string `json:"code"`
	// Certain is false where the lines may have another reason too: a file that is not there.
	Certain bool      `json:"certain"`
	Count   int       `json:"count"`
	First   time.Time `json:"first,omitzero"`
	Last    time.Time `json:"last,omitzero"`
	Client  string    `json:"client,omitempty"` // of the newest line
	Now     string    `json:"now"`
	// Culprit is the entry to blame: today's where it is still broken, else the one that the lines point to.
	Culprit    string `json:"culprit,omitempty"`
	CulpritB64 []byte `json:"culprit_b64,omitempty"`
	Why        string `json:"why,omitempty"`
}

// A LookAlike is a refusal that looks like a missing permission and is none.
type LookAlike struct {
	Account string    `json:"account"`
	Site    string    `json:"site"`
	Code    string    `json:"code"`
	Why     string    `json:"why"`
	Path    string    `json:"path"` // of the newest line
	PathB64 []byte    `json:"path_b64,omitempty"`
	Count   int       `json:"count"`
	First   time.Time `json:"first,omitzero"`
	Last    time.Time `json:"last,omitzero"`
}

// An Unlogged site is broken, and no line in any log says so.
type Unlogged struct {
	rightful.Verdict
	// Refused counts its answers of 403 and 5xx in access logs, which have many reasons.
	Refused int `json:"refused"`
}

// LookAlikes explains the codes of what looks like a missing permission.
var LookAlikes = map[string]string{
	"AH01630": "Require or Deny in the configuration", "AH01797": "Deny in the configuration",
	"AH01276": "no index file, and listing is switched off", "AH01262": "ExecCGI is off", "AH02809": "ExecCGI is off",
	"AH00670": "a RewriteRule where links may not be followed", "ModSecurity": "a rule of ModSecurity",
	"nginx:rule": "deny in the configuration", "nginx:index": "no index file, and autoindex is off",
	"fpm:limit-extensions": "security.limit_extensions of the pool", "php:open-basedir": "PHP's open_basedir",
	"htaccess:config": "a directive in .htaccess is wrong or not allowed", "fcgid:exec-cgi": "ExecCGI is off",
	"AH00036": "a name that is too long, or too many open files", "AH00132": "no file, or too many open files",
	"AH00529": "too many open files", "AH02454": "nobody listens at the socket", "nginx:connect": "nobody listens at the socket",
	"AH01620": "a password file that is not there", "AH01241": "an interpreter that is not there",
	"AH01215": "an interpreter that is not there", "suexec:255": "an interpreter that is not there",
	"suexec:101": suexecSetup, "suexec:102": suexecSetup, "suexec:103": suexecSetup, "suexec:104": suexecSetup, "suexec:105": suexecSetup, "suexec:106": suexecSetup,
	"fpm:unable-to-open": "a script that is no file",
}

const suexecSetup = "who may call suEXEC, and for whom"

// Bounds of what is kept of logs, as visitors can write any number of different paths into them: of one site and code so
// many paths, and of all together so many bytes. What comes after that is counted by site and code only.
const (
	maxPathsOfSite = 1000
	maxLogMemory   = 32 << 20
)

// Logs gathers lines of logs and says of what, whom and how it stands now. It is not safe for concurrent use.
type Logs struct {
	// Since drops what is older, in seconds since 1970; lines whose time is not known are kept.
	Since int64
	// Failed, LookedAlike and Unplaced count lines: of failures, of look-alikes, and of failures that nobody can be given.
	Failed, LookedAlike, Unplaced int
	// Folded counts failures whose paths were not kept.
	Folded int

	s       *tree.Server
	w       *panel.Server
	places  map[string]place // by directory: homes and document roots
	domains map[string]place
	sockets map[string]place
	groups  map[string]*group
	paths   map[groupKey]int
	refused map[place]int
	memory  int
	touched []*group
	key     []byte
}

// place is an account and one of its sites; -1 is none.
type place struct{ account, site int }

type groupKey struct {
	place
	server, code string
}

// group is lines with one path.
type group struct {
	groupKey
	path        string
	client      []byte
	kind        web.LineKind
	role        web.Role
	blame       web.Blame
	count       int
	first, last int64
	touched     bool
}

// NewLogs prepares to read the logs of a server.
func NewLogs(s *tree.Server, w *panel.Server) *Logs {
	g := &Logs{
		s: s, w: w, places: map[string]place{}, domains: map[string]place{}, sockets: map[string]place{},
		groups: map[string]*group{}, paths: map[groupKey]int{}, refused: map[place]int{},
	}
	users := map[string]int{}
	for i := range w.Accounts {
		a := &w.Accounts[i]
		users[a.Name] = i
		g.places[path.Clean(a.Home)] = place{i, -1}
	}
	for i := range w.Accounts {
		for k, site := range w.Accounts[i].Sites {
			g.places[path.Clean(site.DocRoot)] = place{i, k}
			for _, d := range append([]string{site.Name}, site.Domains...) {
				g.domains[strings.ToLower(d)] = place{i, k}
			}
		}
	}
	for i := range w.Pools {
		if file, ok := strings.CutPrefix(w.Pools[i].Listen, "unix:"); ok {
			if u, ok := users[w.Pools[i].User]; ok {
				g.sockets[file] = place{u, -1}
			}
		}
	}
	return g
}

// Add takes one line of a log that the virtual hosts called names write.
func (g *Logs) Add(l *web.LogLine, names []string) {
	if l.Unix != 0 && l.Unix < g.Since {
		return
	}
	p := l.Path
	if l.Kind == web.LineFailure && l.Blame == web.BlameParent && len(p) > 1 {
		p = p[:max(1, bytes.LastIndexByte(bytes.TrimRight(p, "/"), '/'))]
	}
	at := g.place(p, l, names)
	if p == nil && len(l.URL) > 0 && at.site >= 0 && l.Kind == web.LineEither {
		raw, _, _ := strings.Cut(string(l.URL), "?")
		if u, err := url.PathUnescape(raw); err == nil {
			p = []byte(path.Join(g.w.Accounts[at.account].Sites[at.site].DocRoot, u))
		}
	}
	switch l.Kind {
	case web.LineAnswer:
		if l.Status != 404 {
			g.refused[at]++
		}
		return
	case web.LineLookAlike:
		g.LookedAlike++
	default:
		if g.Failed++; at.account < 0 {
			g.Unplaced++
		}
	}
	k := groupKey{at, l.Server, l.Code}
	x := g.group(k, p, l)
	x.count++
	if l.Unix != 0 && (x.first == 0 || l.Unix < x.first) {
		x.first = l.Unix
	}
	if l.Unix >= x.last {
		x.last = l.Unix
		x.client = append(x.client[:0], l.Client...)
	}
	if !x.touched {
		x.touched = true
		g.touched = append(g.touched, x)
	}
}

// group finds the group of a line, or makes it. Of look-alikes one for each code will do.
func (g *Logs) group(k groupKey, p []byte, l *web.LogLine) *group {
	if l.Kind == web.LineLookAlike {
		p = p[:0:0]
	}
	x, ok := g.groups[string(g.keyOf(k, p, l))]
	if ok {
		return x
	}
	if len(p) > 0 && (g.paths[k] >= maxPathsOfSite || g.memory+len(p) > maxLogMemory) {
		g.Folded++
		if x, ok = g.groups[string(g.keyOf(k, nil, l))]; ok {
			return x
		}
		p = nil
	}
	x = &group{groupKey: k, path: string(p), kind: l.Kind, role: l.Role, blame: l.Blame}
	if l.Kind == web.LineLookAlike {
		x.path = string(l.Path)
	}
	g.paths[k]++
	g.memory += 2*len(p) + 256
	g.groups[string(g.keyOf(k, p, l))] = x
	return x
}

func (g *Logs) keyOf(k groupKey, p []byte, l *web.LogLine) []byte {
	b := append(g.key[:0], byte(k.account), byte(k.account>>8), byte(k.account>>16), byte(k.site), byte(k.site>>8), byte(l.Kind), byte(l.Role))
	b = append(append(append(append(append(b, k.server...), 0), k.code...), 0), p...)
	g.key = b
	return b
}

// place finds out whom a line is about. The name in it, or that of the only host that writes the log, is the site that was
// visited, if it is of the account in whose tree the path lies; else the path decides.
func (g *Logs) place(p []byte, l *web.LogLine, names []string) place {
	at := place{-1, -1}
	for q := bytes.TrimRight(p, "/"); len(q) > 0; q = q[:max(bytes.LastIndexByte(q, '/'), 0)] {
		if x, ok := g.places[string(q)]; ok {
			at = x
			break
		}
	}
	if at.account < 0 {
		if x, ok := g.sockets[string(p)]; ok {
			at = x
		}
	}
	named := place{-1, -1}
	if len(l.Name) > 0 {
		named = g.named(string(l.Name))
	} else if len(names) > 0 {
		// Of several hosts all must be one site's.
		named = g.named(names[0])
		for _, n := range names[1:] {
			if g.named(n) != named {
				named = place{-1, -1}
			}
		}
	}
	if named.account >= 0 && (at.account < 0 || at.account == named.account) {
		return named
	}
	if at.account < 0 && len(l.User) > 0 {
		if i, ok := slices.BinarySearchFunc(g.w.Accounts, string(l.User), func(a panel.Account, n string) int { return strings.Compare(a.Name, n) }); ok {
			return place{i, -1}
		}
	}
	return at
}

func (g *Logs) named(name string) place {
	if x, ok := g.domains[name]; ok {
		return x
	}
	if x, ok := g.domains[strings.ToLower(name)]; ok {
		return x
	}
	return place{-1, -1}
}

func stamp(unix int64) time.Time {
	if unix == 0 {
		return time.Time{}
	}
	return time.Unix(unix, 0).UTC()
}

func (g *Logs) names(at place) (account, site string) {
	if at.account >= 0 {
		a := &g.w.Accounts[at.account]
		account = a.Name
		if at.site >= 0 {
			site = a.Sites[at.site].Name
		}
	}
	return account, site
}

// Failures gives all failures by account, site and culprit, the worst first: what is still broken, then by count.
func (g *Logs) Failures() []Failure { return g.join(nil) }

// Changed gives those to which lines were added since it was called last.
func (g *Logs) Changed() []Failure {
	var changed []*group
	for _, x := range g.touched {
		x.touched = false
		changed = append(changed, x)
	}
	g.touched = nil
	if len(changed) == 0 {
		return nil
	}
	return g.join(changed)
}

// join looks at how each group stands and puts those of one culprit together. With some given, only what they are part of.
func (g *Logs) join(some []*group) []Failure {
	type key struct {
		groupKey
		culprit, now string
		certain      bool
	}
	index := map[key]int{}
	var out []Failure
	wanted, near := map[key]bool{}, map[groupKey]bool{}
	seen := map[*group]standing{}
	keyOf := func(x *group) key {
		st, ok := seen[x]
		if !ok {
			st = g.now(x)
			seen[x] = st
		}
		return key{x.groupKey, st.culprit, st.now, x.kind == web.LineFailure}
	}
	for _, x := range some {
		if x.kind != web.LineLookAlike {
			wanted[keyOf(x)], near[x.groupKey] = true, true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(g.groups)) {
		x := g.groups[id]
		if x.kind == web.LineLookAlike || some != nil && !near[x.groupKey] {
			continue
		}
		k := keyOf(x)
		if some != nil && !wanted[k] {
			continue
		}
		i, ok := index[k]
		if !ok {
			i = len(out)
			index[k] = i
			f := Failure{Server: x.server, Code: x.code, Certain: k.certain, Now: k.now, Culprit: k.culprit, CulpritB64: rightful.RawPath(k.culprit), Why: seen[x].why}
			f.Account, f.Site = g.names(x.place)
			out = append(out, f)
		}
		out[i].take(x)
	}
	rank := map[string]int{StillBroken: 0, NotKnown: 1, CuredSince: 2}
	slices.SortStableFunc(out, func(a, b Failure) int {
		return cmp.Or(cmp.Compare(rank[a.Now], rank[b.Now]), cmp.Compare(b.Count, a.Count), strings.Compare(a.Account, b.Account),
			strings.Compare(a.Site, b.Site), strings.Compare(a.Culprit, b.Culprit), strings.Compare(a.Code, b.Code))
	})
	return out
}

// take adds a group to a failure.
func (f *Failure) take(x *group) {
	f.Count += x.count
	if t := stamp(x.first); !t.IsZero() && (f.First.IsZero() || t.Before(f.First)) {
		f.First = t
	}
	if t := stamp(x.last); f.Path == "" || t.After(f.Last) {
		f.Last, f.Path, f.PathB64, f.Client = t, x.path, rightful.RawPath(x.path), string(x.client)
	}
}

// LookAlikes gives what only looks alike, by account, site and code, the most frequent first.
func (g *Logs) LookAlikes() []LookAlike {
	var out []LookAlike
	for _, id := range slices.Sorted(maps.Keys(g.groups)) {
		x := g.groups[id]
		if x.kind != web.LineLookAlike {
			continue
		}
		l := LookAlike{Code: x.code, Why: LookAlikes[x.code], Path: x.path, PathB64: rightful.RawPath(x.path), Count: x.count, First: stamp(x.first), Last: stamp(x.last)}
		l.Account, l.Site = g.names(x.place)
		out = append(out, l)
	}
	slices.SortStableFunc(out, func(a, b LookAlike) int { return cmp.Compare(b.Count, a.Count) })
	return out
}

// Unlogged gives those of the verdicts that say that a site is broken, and of which no failure tells that is not cured.
func (g *Logs) Unlogged(verdicts []rightful.Verdict, failures []Failure) []Unlogged {
	type key struct{ account, site string }
	logged := map[key]bool{}
	loose := map[string][]string{} // culprits that no site is known of, by account
	blamed := map[string]bool{}
	for _, f := range failures {
		blamed[f.Culprit] = blamed[f.Culprit] || f.Now != CuredSince
		switch {
		case f.Now == CuredSince:
		case f.Site != "":
			logged[key{f.Account, f.Site}] = true
		case f.Account != "" && f.Culprit != "":
			loose[f.Account] = append(loose[f.Account], path.Dir(f.Culprit+"/x"))
		}
	}
	var out []Unlogged
	for _, v := range verdicts {
		if v.State != rightful.SiteDown && v.State != rightful.SiteBroken || logged[key{v.Account, v.Site}] {
			continue
		}
		at := g.named(v.Site)
		root := ""
		if a, ok := g.w.Account(v.Account); ok {
			for i := range a.Sites {
				if a.Sites[i].Name == v.Site {
					root = path.Clean(a.Sites[i].DocRoot)
				}
			}
		}
		// A line about a directory above a document root speaks of all sites beneath it.
		if slices.ContainsFunc(loose[v.Account], func(c string) bool { return root != "" && beneath(root, c) }) {
			continue
		}
		// A log that many write blames the entry, and the site's own access log says that it was visited.
		if refused := g.refused[at]; refused == 0 || !blamed[v.Culprit] {
			out = append(out, Unlogged{v, refused})
		}
	}
	return out
}
