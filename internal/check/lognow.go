package check

import (
	"fmt"
	"path"
	"strings"

	"rightful"
	"rightful/internal/tree"
	"rightful/internal/web"
)

// standing is how what a line complains of stands now.
type standing struct{ now, culprit, why string }

// now looks at the tree as it is, by stat only: whether whoever lacked something still does.
func (g *Logs) now(x *group) standing {
	if x.path == "" {
		return standing{now: NotKnown}
	}
	st := g.look(x)
	if st.culprit == "" {
		st.culprit = x.path
	}
	return st
}

func (g *Logs) look(x *group) standing {
	cs, err := g.s.Trace(x.path)
	id := g.identity(x)
	if x.role == web.RoleSuexec {
		return g.strict(x, cs, err)
	}
	if st, ok := g.stopped(x, id, cs, err == nil); ok {
		return st
	}
	gone := err != nil && tree.IsNotExist(err)
	switch {
	case x.blame == web.BlameLink:
		return g.link(x, cs, gone)
	case gone && x.kind == web.LineEither:
		return standing{now: CuredSince, why: "there is no such file"}
	case gone:
		return standing{now: CuredSince, why: "it is not there any more"}
	case err != nil:
		return standing{now: NotKnown, why: err.Error()}
	case x.role == web.RoleApp:
		return standing{now: NotKnown, why: "what the application wanted to do is not in the log"}
	}
	return standing{now: CuredSince}
}

// stopped finds the first component that does not give what is needed. whole: the path was followed to its end.
func (g *Logs) stopped(x *group, id rightful.Identity, cs []tree.Component, whole bool) (standing, bool) {
	for i := range cs {
		c := &cs[i]
		last := whole && i == len(cs)-1
		var need uint8
		switch {
		case c.Stat.Kind == rightful.KindSymlink:
			continue
		case c.Stat.Kind == rightful.KindDir:
			need = rightful.RightSearch
			if last && x.role == web.RoleWeb && (x.blame == web.BlamePath || x.server == "nginx") {
				need = 5 // it was to be listed, or opened
			}
		case !last:
			continue
		case x.role == web.RoleSocket:
			need = 2
		case x.role == web.RoleCGI:
			need = 5
		case x.role != web.RoleApp:
			need = 4
		}
		if id.UID != 0 && !c.Meta.Allowed(id, need) {
			return standing{StillBroken, c.Path, fmt.Sprintf("uid %d lacks %s", id.UID, Needs(c.Stat.Kind, need))}, true
		}
		if odd := c.Stat.Kind != rightful.KindDir && c.Stat.Kind != rightful.KindFile; last && odd && x.code == "AH00038" ||
			last && c.Stat.Kind != rightful.KindFile && x.blame == web.BlameHtaccess && path.Base(x.path) == ".htaccess" {
			return standing{StillBroken, c.Path, "it is a " + c.Stat.Kind.String()}, true
		}
	}
	return standing{}, false
}

// identity is who lacked something.
func (g *Logs) identity(x *group) rightful.Identity {
	if x.account < 0 {
		return g.w.Web
	}
	a := &g.w.Accounts[x.account]
	site := x.site
	if site < 0 && len(a.Sites) > 0 {
		site = 0 // outside every document root, the first site's servers are as good as any
	}
	if site < 0 {
		return g.w.Web
	}
	switch s := &a.Sites[site]; x.role {
	case web.RolePHP, web.RoleApp:
		if s.PHP.Handler != "none" && s.PHP.Handler != "unknown" {
			return s.PHP.Identity
		}
		return s.Web
	case web.RoleCGI:
		return s.CGIAs
	default:
		return s.Web
	}
}

// link judges a link that the server would not follow though it can reach it. Which links it follows is configured.
func (g *Logs) link(x *group, cs []tree.Component, gone bool) standing {
	st, err := g.s.Lstat(x.path)
	switch {
	case err != nil || st.Kind != rightful.KindSymlink:
		return standing{now: CuredSince, why: "it is no link any more"}
	case gone:
		return standing{now: StillBroken, why: "its target is not there"}
	case len(cs) > 0 && st.UID != cs[len(cs)-1].Stat.UID:
		return standing{now: StillBroken, why: "its owner is not that of its target"}
	}
	return standing{now: NotKnown, why: "it leads somewhere; whether the server follows it is configured"}
}

// strict judges what suEXEC and suPHP refuse (support/suexec.c; Application.cpp of suPHP).
func (g *Logs) strict(x *group, cs []tree.Component, err error) standing {
	if err != nil || len(cs) == 0 {
		return standing{now: NotKnown}
	}
	c := &cs[len(cs)-1]
	m := c.Meta
	bad, why := false, ""
	switch x.code {
	case "suexec:116", "suexec:118", "suphp:writable":
		bad, why = m.Mode&0o022 != 0, "others may write it"
	case "suexec:119":
		bad, why = m.Mode&(rightful.ModeSetuid|rightful.ModeSetgid) != 0, "it is setuid or setgid"
	case "suexec:121":
		bad, why = m.Mode&0o100 == 0, "its owner may not execute it"
	case "suphp:unreadable":
		bad, why = m.Mode&0o400 == 0, "its owner may not read it"
	case "suphp:owner":
		if x.account < 0 {
			return standing{now: NotKnown}
		}
		a := &g.w.Accounts[x.account]
		roots := c.Stat.Kind == rightful.KindDir && m.UID == 0
		bad, why = !roots && (m.UID != a.UID || m.GID != a.GID), "it is not the account's"
	case "suexec:115":
		if x.account < 0 {
			return standing{now: NotKnown}
		}
		a := &g.w.Accounts[x.account]
		for i := range cs {
			if d := &cs[i]; d.Stat.Kind == rightful.KindDir && !d.Meta.Allowed(rightful.Identity{UID: a.UID, GIDs: []uint32{a.GID}}, rightful.RightSearch) {
				return standing{StillBroken, d.Path, "the account may not pass through it"}
			}
		}
	default:
		return standing{now: NotKnown, why: strings.TrimPrefix(x.code, "suexec:") + " is decided by the configuration"}
	}
	if bad {
		return standing{StillBroken, c.Path, why}
	}
	return standing{now: CuredSince}
}
