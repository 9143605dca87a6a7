package web

import (
	"fmt"
	"path"
	"strings"

	"rightful"
	"rightful/internal/tree"
)

// target is what an entry turns out to be once links are followed.
type target struct {
	kind  rightful.Kind
	meta  rightful.Meta
	steps []tree.Component // of a link; nil for what is none
}

// File implements [Scope].
func (s *apacheScope) File(name []byte, n Node, in View) Verdict {
	v, set, t, ok := s.lookup(name, n, in)
	if !ok {
		return v
	}
	return s.serve(set, name, t, in)
}

// lookup goes through everything that comes before the handler: mapping the URL, the walk's last step, access control,
// redirects and rewriting. ok is false where that decides.
func (s *apacheScope) lookup(name []byte, n Node, in View) (v Verdict, set *settings, t target, ok bool) {
	h := s.h
	if len(h.proxies)+len(h.acted)+len(s.aliases) > 0 || h.server != nil {
		if v, done := s.translated(name, n, in); done {
			return v, nil, t, false
		}
	}
	t = target{kind: n.Kind, meta: n.Meta}
	switch {
	case s.refused != nil:
		return *s.refused, nil, t, false
	case s.doubt != "":
		return inDoubt(s.doubt, nil), nil, t, false
	case h.doubt != "":
		return inDoubt(h.doubt, h.base.at), nil, t, false
	case s.length+1+len(name) >= pathMax:
		return Verdict{Status: 403, Certain: true, Cause: CauseLink, Code: "AH00036", Culprit: s.entry(name), Why: "its path is longer than the kernel takes"}, nil, t, false
	}
	switch n.Kind {
	case rightful.KindFile:
	case rightful.KindDir:
		return s.slashless(name, n.Meta, in), nil, t, false
	default:
		if v, done := s.special(name, n, &t, in); done {
			return v, nil, t, false
		}
	}
	set = s.settingsFor(name, t.kind)
	if v, done := s.permitted(set, name, t.kind); done {
		return v, nil, t, false
	}
	switch t.kind {
	case rightful.KindDir:
		return slash(set), nil, t, false
	case rightful.KindUnknown:
		return s.absent(set, name), nil, t, false
	}
	return v, set, t, true
}

// absent answers for a name that does not exist.
func (s *apacheScope) absent(set *settings, name []byte) Verdict {
	h := s.h
	if set.fallback != "" {
		return inDoubt("FallbackResource answers", nil)
	}
	v := Verdict{Status: 404, Certain: true, Cause: CauseMissing, Code: "AH00128", Why: "there is nothing of that name"}
	d, _ := set.handlerFor(name)
	switch h.kindOf(set, d) {
	case kindFPM:
		p := h.poolOf(set, d)
		if p.refused != nil {
			return *p.refused
		}
		v.Code = "fpm:primary-script-unknown"
	case kindCGI:
		v.Code = pick(h.plainCGI(), "AH02811", "AH01264")
	case kindFcgid, kindPHP, kindSuPHP:
		v.Code = ""
	}
	if set.options&optMultiViews != 0 {
		return inDoubt("MultiViews may choose another name", nil)
	}
	return v
}

// entry is the path of an entry of the directory.
func (s *apacheScope) entry(name []byte) string { return rightful.JoinPath(s.path(), string(name)) }

// slashless answers for a directory asked for without its slash: mod_dir redirects without a look at it, but the walk has
// looked for its .htaccess.
func (s *apacheScope) slashless(name []byte, m rightful.Meta, in View) Verdict {
	c := s.Dir(string(name), m, pathView{in.Follow, s.h.Server, s.entry(name)}).(*apacheScope)
	switch {
	case c.refused != nil && c.refused.Code != "AH00035":
		return *c.refused
	case c.doubt != "":
		return inDoubt(c.doubt, nil)
	}
	set := c.filesFor(c.settingsFor(nil, rightful.KindDir), name)
	if v, done := c.permitted(set, nil, rightful.KindDir); done {
		return v
	}
	return slash(set)
}

// slash is mod_dir's answer for a directory, or a link to one, without its slash.
func slash(set *settings) Verdict {
	if set.noSlash {
		return inDoubt("DirectorySlash is off", nil)
	}
	return Verdict{Status: 301, Certain: true, Cause: CauseConfigured, Why: "it is redirected to the directory with a slash"}
}

// permitted asks access control, then redirects and rewrite rules of this place.
func (s *apacheScope) permitted(set *settings, name []byte, kind rightful.Kind) (Verdict, bool) {
	switch a := &set.access; a.verdict {
	case denied:
		return configured(403, a.code, "access is denied by configuration", a.at), true
	case asks:
		return configured(401, "", "a password is asked for", a.at), true
	case depends:
		v := inDoubt("who may have it depends on the visitor", a.at)
		v.Status, v.Statuses = 403, []int{200, 301, 401, 403, 404, 500}
		return v, true
	}
	if set.doubt != "" {
		return inDoubt(set.doubt, set.at), true
	}
	if r := set.rewrite; r != nil && r.on {
		if set.options&(optFollow|optOwnerMatch) == 0 {
			return configured(403, "AH00670", "rewrite rules need FollowSymLinks, which is off", nil), true
		}
		spared := kind == rightful.KindFile && r.spareFiles || kind == rightful.KindDir && r.spareDirs
		if len(r.rules) > 0 && !spared {
			if v, done := r.fires(s.subject(name, kind)); done {
				return v, true
			}
		}
	}
	if len(set.redirects) > 0 && len(s.h.acted) != len(set.redirects) {
		if v, done := redirected(set.redirects[len(s.h.acted):], s.url()+string(name)); done {
			return v, true
		}
	}
	return Verdict{}, false
}

func (s *apacheScope) subject(name []byte, kind rightful.Kind) subject {
	file := s.mapped() + "/" + string(name)
	if len(name) == 0 {
		file = s.mapped() + "/"
	}
	return subject{uri: s.url() + string(name), file: file, kind: kind, host: s.h.VHost.ServerName, https: s.h.VHost.SSL}
}

// redirected tries the directives of mod_alias, in order.
func redirected(ds []*Directive, url string) (Verdict, bool) {
	for _, d := range ds {
		status, args := 302, d.Args
		switch {
		case d.Is("RedirectPermanent"):
			status = 301
		case !d.Is("RedirectTemp") && len(args) > 1:
			switch w := strings.ToLower(args[0]); {
			case w == "permanent" || w == "seeother" || w == "gone" || w == "temp" || strings.Trim(w, "0123456789") == "":
				status, args = redirectStatus(w), args[1:]
			}
		}
		if len(args) == 0 {
			continue
		}
		hit := no
		if d.Is("RedirectMatch") {
			hit = unsure
			if re := pattern(args[0]); re != nil {
				hit = truth(re.MatchString(url))
			}
		} else {
			hit = truth(prefixes(args[0], url))
		}
		switch hit {
		case yes:
			return configured(status, "", "it is redirected", d), true
		case unsure:
			return inDoubt("the pattern of "+d.Name+" cannot be tried here", d), true
		}
	}
	return Verdict{}, false
}

// translated decides what the server does with a URL before it looks at any file: its own rewrite rules and redirects,
// ProxyPass, Alias.
func (s *apacheScope) translated(name []byte, n Node, in View) (Verdict, bool) {
	h := s.h
	url := s.url() + string(name)
	if h.server != nil && len(h.server.rules) > 0 {
		sub := s.subject(name, n.Kind)
		sub.file = sub.uri // not mapped yet
		if v, done := h.server.translate(sub); done {
			return v, true
		}
	}
	if v, done := redirected(h.acted, url); done && !h.bare {
		return v, true
	}
	for i := range h.proxies {
		if v, done := s.proxied(&h.proxies[i], url, name, n, in); done {
			return v, true
		}
	}
	for i := range s.aliases {
		a := &s.aliases[i]
		hit := a.url == url
		if a.re != nil {
			hit = a.re.MatchString(url)
		}
		if hit {
			return inDoubt("the URL is mapped elsewhere", a.d), true
		}
	}
	return Verdict{}, false
}

// translate tries the server's own rules: a file test there looks at the path of the URL itself, which is nowhere.
func (r *rewrite) translate(s subject) (Verdict, bool) {
	s.kind = rightful.KindUnknown
	return r.fires(s)
}

// special judges what is no plain file: it follows a link as Options allow, and refuses other kinds.
func (s *apacheScope) special(name []byte, n Node, t *target, in View) (Verdict, bool) {
	p := s.entry(name)
	plainFollow := s.set.options&optFollow != 0 && s.set.options&optOwnerMatch == 0
	if n.Kind == rightful.KindSymlink {
		steps, err := in.Follow(string(name))
		if v, bad := s.follow(p, n, steps, err); bad {
			return v, true
		}
		last := steps[len(steps)-1]
		t.kind, t.meta, t.steps = last.Stat.Kind, last.Meta, steps
		if t.kind == rightful.KindDir {
			return s.linkedDir(p, name, t, in)
		}
	}
	switch t.kind {
	case rightful.KindFile, rightful.KindDir:
		return Verdict{}, false
	}
	if !plainFollow && n.Kind != rightful.KindSymlink {
		return Verdict{Status: 403, Certain: true, Cause: CauseConfigured, Code: "AH00038", Culprit: p, Why: "it is neither a file nor a directory"}, true
	}
	return Verdict{}, false
}

// linkedDir decides what stepping into the target of a link takes, which the redirect to it needs as well.
func (s *apacheScope) linkedDir(p string, name []byte, t *target, in View) (Verdict, bool) {
	if !s.set.overridable() {
		return Verdict{}, false
	}
	h, last := s.h, &t.steps[len(t.steps)-1]
	if !h.free() && h.ids[h.web()].UID != 0 && !last.Meta.Allowed(h.Web, rightful.RightSearch) {
		return h.lacks(403, "AH00529", last.Path, h.web(), 1, "the web server may not pass through it"), true
	}
	for _, a := range h.access {
		if _, err := in.Follow(rightful.JoinPath(string(name), a)); err == nil || !tree.IsNotExist(err) {
			return inDoubt("the settings of "+p+" are behind a link and not read", nil), true
		}
	}
	return Verdict{}, false
}

// follow judges a link that Apache meets (resolve_symlink, server/request.c): by the options of the directory it lies in,
// by its own owner and that of the final target, and by whether the worker gets there.
func (s *apacheScope) follow(p string, n Node, steps []tree.Component, err error) (Verdict, bool) {
	h := s.h
	const code = "AH00037"
	if s.set.options&(optFollow|optOwnerMatch) == 0 {
		return Verdict{Status: 403, Certain: true, Cause: CauseConfigured, Code: code, Culprit: p, Why: "links may not be followed here"}, true
	}
	if !h.free() {
		if at := h.stopped(steps, h.web()); at != nil {
			return h.lacks(403, code, at.Path, h.web(), 1, "the web server cannot get to where the link leads"), true
		}
	}
	if err != nil {
		v := Verdict{Status: 403, Certain: true, Cause: CauseMissing, Code: code, Culprit: p, Why: "the link leads nowhere"}
		if !tree.IsNotExist(err) && tree.Refused(err) != tree.CauseLoop {
			v.Certain, v.Cause, v.Why = false, CauseUnknown, err.Error()
		}
		return v, true
	}
	for i := range steps {
		c := &steps[i]
		if c.Target == "" || !h.shared(steps, i) || c.Meta.UID == h.Web.UID {
			continue
		}
		if h.links == no {
			continue
		}
		v := Verdict{Status: 403, Certain: h.links == yes, Cause: CauseLink, Code: code, Culprit: c.Path, Why: "it is a link of somebody else's in a directory that all may write (fs.protected_symlinks)"}
		if h.links == unsure {
			v.Cause, v.Statuses = CauseUnknown, []int{200, 403}
		}
		return v, true
	}
	last := steps[len(steps)-1]
	if s.set.options&optOwnerMatch != 0 && n.Meta.UID != last.Meta.UID {
		return Verdict{
			Status: 403, Certain: true, Cause: CauseLink, Code: code, Culprit: p,
			Why: fmt.Sprintf("the link belongs to uid %d and its target to uid %d (SymLinksIfOwnerMatch)", n.Meta.UID, last.Meta.UID),
		}, true
	}
	return Verdict{}, false
}

// shared reports whether a link lies in a sticky directory that all may write and that is not its owner's: there the
// kernel lets only its owner follow it.
func (h *ApacheHost) shared(steps []tree.Component, i int) bool {
	dir := path.Dir(steps[i].Path)
	for k := i - 1; k >= 0; k-- {
		if steps[k].Path == dir {
			m := &steps[k].Meta
			return m.Mode&(rightful.ModeSticky|0o002) == rightful.ModeSticky|0o002 && m.UID != steps[i].Meta.UID
		}
	}
	return false
}

// Index implements [Scope]: mod_dir tries each name of DirectoryIndex, then mod_autoindex lists the directory or refuses.
func (s *apacheScope) Index(in View) Verdict {
	h := s.h
	if len(h.proxies)+len(h.acted)+len(s.aliases) > 0 || h.server != nil {
		if v, done := s.translated(nil, Node{Kind: rightful.KindDir, Meta: s.meta}, in); done {
			return v
		}
	}
	switch {
	case s.refused != nil:
		return *s.refused
	case s.doubt != "":
		return inDoubt(s.doubt, nil)
	case h.doubt != "":
		return inDoubt(h.doubt, h.base.at)
	}
	set := s.settingsFor(nil, rightful.KindDir)
	if v, done := s.permitted(set, nil, rightful.KindDir); done {
		return v
	}
	if k := h.kindOf(set, set.handler); k == kindBuiltin || k == kindProxy {
		return s.serve(set, nil, target{kind: rightful.KindDir, meta: s.meta}, in)
	}
	if h.free() && !s.passes(h.web()) && len(set.index) > 0 { // it has become the site's user by now
		return h.lacks(403, "AH00035", s.stop(h.Web), h.web(), 1, "the site's user may not pass through it")
	}
	var refused *Verdict
	for _, name := range set.index {
		if strings.ContainsAny(name, "/?") {
			return inDoubt("DirectoryIndex leads out of the directory", nil)
		}
		n, ok := in.Lstat(name)
		if v, done := s.proxiedIndex(name, n, in); done {
			return v
		}
		if !ok {
			// What is denied is denied whether or not it exists.
			if a := &s.filesFor(set, []byte(name)).access; a.verdict == denied {
				v := configured(403, a.code, "access is denied by configuration", a.at)
				refused = &v
			}
			continue
		}
		if n.Kind == rightful.KindDir {
			switch v := s.slashless([]byte(name), n.Meta, in); {
			case v.Status == 404:
			case v.Certain && v.Status >= 400:
				refused = &v
			default:
				return v
			}
			continue
		}
		v, sub, t, ok := s.asIndex(name, n, in).lookup([]byte(name), n, in)
		switch {
		case !ok && v.Status == 404:
		case !ok && (!v.Certain || v.Status >= 300 && v.Status < 400):
			return v
		case !ok:
			refused = &v
		case t.kind == rightful.KindFile:
			return s.serve(sub, []byte(name), t, in)
		}
	}
	switch {
	case refused != nil:
		return *refused
	case set.fallback != "":
		return inDoubt("FallbackResource answers", nil)
	case h.kindOf(set, set.handler) != kindStatic:
		return s.handled(set)
	case s.script:
		return configured(403, "", "scripts are run here, and the directory is not listed", nil)
	case !h.hasModule("mod_autoindex.c"):
		return configured(404, "AH00129", "there is no index, and no module lists directories", nil)
	case set.options&optIndexes == 0:
		return configured(403, "AH01276", "there is no index, and listing is off", nil)
	case !h.reads(s.openerOf(&s.meta), &s.meta, 4):
		id := s.openerOf(&s.meta)
		return h.lacks(403, "AH01275", s.path(), id, 4, "the web server cannot list it")
	}
	return Verdict{Status: 200, Certain: true}
}

// proxiedIndex asks ProxyPass for an index: one that is handed on by its path is taken, whatever there is.
func (s *apacheScope) proxiedIndex(name string, n Node, in View) (Verdict, bool) {
	for i := range s.h.proxies {
		if v, done := s.proxied(&s.h.proxies[i], s.url()+name, []byte(name), n, in); done {
			return v, true
		}
	}
	return Verdict{}, false
}

// asIndex is the scope for a look at an index. Under FollowSymLinks together with SymLinksIfOwnerMatch the owners of a link
// to a file are not compared there: for a file of the directory that was walked just now, the walk is skipped where links
// are followed (ap_directory_walk, server/request.c).
func (s *apacheScope) asIndex(name string, n Node, in View) *apacheScope {
	const both = optFollow | optOwnerMatch
	if n.Kind != rightful.KindSymlink || s.set.options&both != both {
		return s
	}
	if steps, err := in.Follow(name); err != nil || steps[len(steps)-1].Stat.Kind != rightful.KindFile {
		return s
	}
	set, c := *s.set, *s
	set.options &^= optOwnerMatch
	c.set = &set
	return &c
}

// handled is the answer for a directory without an index, where SetHandler gives it to somebody else than mod_autoindex.
func (s *apacheScope) handled(set *settings) Verdict {
	h := s.h
	switch h.kindOf(set, set.handler) {
	case kindCGI:
		if set.options&optExecCGI == 0 {
			return configured(403, h.mayNotRun(), "programs may not be run here (ExecCGI)", set.handler)
		}
		return configured(403, pick(h.plainCGI(), "AH02812", "AH01265"), "a directory is no program", set.handler)
	case kindFcgid:
		code := ""
		if set.options&optExecCGI == 0 {
			code = "fcgid:exec-cgi"
		}
		return configured(403, code, "a directory is no program", set.handler)
	}
	return inDoubt("a handler is set on the directory itself", set.handler)
}
