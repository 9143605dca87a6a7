package check

import (
	"context"
	"path"
	"strings"

	"rightful"
	"rightful/internal/panel"
	"rightful/internal/policy"
	"rightful/internal/tree"
)

// An Explanation is who may reach a path and what it should be.
type Explanation struct {
	Path       string
	Account    string // "" where it belongs to none
	Site       string // whose document root it lies in, "" for none
	Components []tree.Component
	Access     []Access
	// Rules match the path; the first decides. Finding is what check says of the entry, nil where it is right.
	Rules   []policy.Match
	Finding *rightful.Finding
	// Err says why the path could not be followed to its end.
	Err error
	// server is the role of whoever opens the file.
	server string
}

// Access is how far one identity gets.
type Access struct {
	Role     string // "web", "php", "cgi", or a user's name
	Identity rightful.Identity
	// Needs has, for each component, what the identity needs of it: rwx as 4, 2, 1; 0 for a link.
	Needs []uint8
	// Stop is the index of the first component that does not give what is needed, or -1.
	Stop int
	// Serves: the path is served only if this identity gets there.
	Serves bool
}

// As is an identity to explain for besides those that serve the site.
type As struct {
	Role     string
	Identity rightful.Identity
}

// Explain follows a path on the server as the web server would, by stat only. A nil error with Explanation.Err set means
// that there is something to tell all the same.
func Explain(o Options, name string, as []As) (*Explanation, error) {
	x := &Explanation{Path: path.Clean(name), server: "web"}
	x.Components, x.Err = o.Server.Trace(x.Path)
	end := x.Path
	if n := len(x.Components); n > 0 && x.Err == nil {
		end = x.Components[n-1].Path
	}
	if err := x.judge(o, end, &as); err != nil {
		return nil, err
	}
	if len(as) == 0 {
		as = []As{{"web", o.World.Web}}
	}
	for _, a := range as {
		x.Access = append(x.Access, x.access(a))
	}
	return x, nil
}

// judge finds the account that a path belongs to, the site, the rule and the finding.
func (x *Explanation) judge(o Options, end string, as *[]As) error {
	checkers := map[string]*checker{} // by panel: what else they know of accounts is not asked for
	for i := range o.World.Accounts {
		a := &o.World.Accounts[i]
		c := checkers[a.Panel]
		if c == nil {
			o.Accounts = []string{a.Name}
			var err error
			if c, err = newChecker(o); err != nil {
				return err
			}
			checkers[a.Panel] = c
		}
		home := path.Clean(a.Home)
		if !beneath(end, home) && !beneath(x.Path, home) && !docrootHolds(a, end) {
			continue
		}
		j := c.newJob(context.Background(), a)
		b := j.binding()
		base := ""
		for _, p := range b.Bases {
			if beneath(end, p) {
				base = p
			}
		}
		if base == "" {
			continue
		}
		x.Account = a.Name
		var err error
		if j.bound, err = c.policies[a.Panel].Bind(b); err != nil {
			return err
		}
		site := -1
		for k, st := range j.sites {
			if st.docroot != "" && beneath(end, st.docroot) && (site < 0 || len(st.docroot) > len(j.sites[site].docroot)) {
				site = k
			}
		}
		inside := site
		if site < 0 && len(j.sites) > 0 {
			site = 0 // outside every document root, the first site's servers are as good as any
		} else if site >= 0 {
			x.Site = j.sites[site].Name
		}
		if err := j.openRecords(); err != nil {
			return err
		}
		x.rule(j, base, end, inside)
		j.closeRecords()
		if site >= 0 {
			x.servers(j.sites[site], as, end)
		}
		return nil
	}
	return nil
}

// servers puts those that serve a site among the identities, and finds out which of them opens the file.
func (x *Explanation) servers(s *site, as *[]As, end string) {
	*as = append([]As{{"web", s.Web}}, *as...)
	if s.php >= 0 {
		*as = append(*as, As{"php", s.PHP.Identity})
		if phpSuffix([]byte(end)) {
			x.server = "php"
		}
	}
	if s.cgi >= 0 && len(x.Rules) > 0 && x.Rules[0].Rule.CGI {
		*as = append(*as, As{"cgi", s.CGIAs})
		x.server = "cgi"
	}
}

func docrootHolds(a *panel.Account, p string) bool {
	for i := range a.Sites {
		if beneath(p, path.Clean(a.Sites[i].DocRoot)) {
			return true
		}
	}
	return false
}

// rule finds the deciding rule of the last component and what is thought of it. site is the one in whose document root it
// lies, or -1.
func (x *Explanation) rule(j *job, base, end string, site int) {
	kind := rightful.KindFile
	var last *tree.Component
	if n := len(x.Components); n > 0 && x.Err == nil {
		last = &x.Components[n-1]
		kind = last.Stat.Kind
	}
	x.Rules = j.bound.Explain(end, kind)
	if last == nil {
		return
	}
	var rule *policy.Rule
	if len(x.Rules) > 0 {
		rule = x.Rules[0].Rule
	}
	mayPass := true
	for _, c := range x.Components {
		if c.Stat.Kind == rightful.KindDir && beneath(c.Path, base) && c.Path != end {
			mayPass = mayPass && (c.Meta.Allowed(j.id, rightful.RightSearch) || j.way[c.Path] && c.Meta.UID == 0)
		}
	}
	lv := level{site: site, account: mayPass}
	j.base = base
	if b, err := j.c.Server.OpenBase(base); err == nil { // else no record is of this file system
		j.fs = b.FS()
		b.Close()
	}
	op := j.judge(&lv, end, rule, kind, last.Meta, last.Stat.Immutable(), j.statID(&last.Stat))
	if op.problem == "" {
		return
	}
	blocks := false
	if kind == rightful.KindFile && site >= 0 && rule != nil {
		if who, need, ok := j.sites[site].meant([]byte(path.Base(end)), rule); ok {
			blocks = !last.Meta.Allowed(j.ids[who], need)
		}
	}
	f := j.grade(end, kind, last.Meta, op, &lv, blocks)
	f.Account, f.PathB64 = j.a.Name, rightful.RawPath(end)
	if f.Sites == nil {
		f.Sites = []string{}
	}
	x.Finding = &f
}

// access works out how far an identity gets: it must pass through every directory, and read what is at the end (or, for
// a directory, pass through it too; listing takes more, and nearly nobody lists).
func (x *Explanation) access(a As) Access {
	out := Access{Role: a.Role, Identity: a.Identity, Stop: -1, Serves: a.Role == "web" || a.Role == x.server}
	for i, c := range x.Components {
		var need uint8
		switch {
		case c.Stat.Kind == rightful.KindDir:
			need = rightful.RightSearch
		case c.Stat.Kind != rightful.KindSymlink && i == len(x.Components)-1:
			need = 4
			switch {
			case a.Role == "cgi":
				need = 5
			case a.Role == "web" && x.server != "web":
				need = 0 // it hands the file to somebody else, who opens it
			}
		}
		out.Needs = append(out.Needs, need)
		if out.Stop < 0 && need != 0 && a.Identity.UID != 0 && !c.Meta.Allowed(a.Identity, need) {
			out.Stop = i
		}
	}
	return out
}

// Class says which class of rights an identity falls into for an entry, and so which bits decide: "owner", "named user",
// "group", "other".
func Class(m rightful.Meta, id rightful.Identity) string {
	if id.UID == m.UID {
		return "owner"
	}
	if _, ok := m.ACL.Find(rightful.ACLUser, id.UID); ok {
		return "named user"
	}
	if id.Has(m.GID) {
		return "group"
	}
	for _, e := range m.ACL {
		if e.Tag == rightful.ACLGroup && id.Has(e.ID) {
			return "named group"
		}
	}
	return "other"
}

// Needs names rights in words: "search", "read".
func Needs(kind rightful.Kind, need uint8) string {
	var words []string
	for _, w := range []struct {
		bit  uint8
		file string
		dir  string
	}{{4, "read", "list"}, {2, "write", "write"}, {1, "execute", "search"}} {
		if need&w.bit != 0 {
			word := w.file
			if kind == rightful.KindDir {
				word = w.dir
			}
			words = append(words, word)
		}
	}
	return strings.Join(words, " and ")
}
