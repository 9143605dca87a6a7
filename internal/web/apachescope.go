package web

import (
	"path"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/tree"
)

// apacheScope is a directory below a document root as Apache's directory walk (ap_directory_walk, server/request.c) stands
// in it.
type apacheScope struct {
	h    *ApacheHost
	up   *apacheScope // nil for the document root
	root *apacheRoot
	name string
	meta rightful.Meta
	set  *settings
	pass pass // who gets down to here, this directory included
	// refused decides everything in and below this directory, doubt makes all of it uncertain.
	refused *Verdict
	doubt   string
	depth   int        // components of the path that the URL is mapped to
	length  int        // of the path that the URL is mapped to, in bytes
	dirs    []*section // <Directory> sections for directories further down
	locs    []*section // <Location> sections that apply here or may further down
	aliases []alias    // that map something here or further down elsewhere
	script  bool       // ScriptAlias: whatever is in here is run
}

// apacheRoot is what a document root's scope shares with all below it.
type apacheRoot struct {
	path    string // where the document root really is
	mapped  string // as it is configured; on the way there, how far that is
	steps   []tree.Component
	ids     int    // of the host, when it was made: masks have no bits for others
	wrapper string // of mod_fcgid at the document root
	wraps   Verdict
}

// free reports whether the walk needs no permission: the worker still has CAP_DAC_READ_SEARCH then.
func (h *ApacheHost) free() bool { return h.mode == modeITK || h.mode == modeStat }

// lacks is the verdict where an identity lacks rights on an entry.
func (h *ApacheHost) lacks(status int, code, culprit string, id int, need uint8, why string) Verdict {
	return Verdict{
		Status: status, Certain: true, Cause: CausePermission, Code: code, Culprit: culprit, Identity: &h.ids[id], Need: need, Why: why,
	}
}

// inDoubt is the verdict where something else may decide.
func inDoubt(why string, d *Directive) Verdict {
	v := Verdict{Cause: CauseUnknown, Why: why}
	return v.at(d)
}

// at adds the directive that decides.
func (v Verdict) at(d *Directive) Verdict {
	if d != nil {
		v.File, v.Line = d.File, d.Line
	}
	return v
}

func configured(status int, code, why string, d *Directive) Verdict {
	v := Verdict{Status: status, Certain: true, Cause: CauseConfigured, Code: code, Why: why}
	return v.at(d)
}

func (s *apacheScope) refuse(v Verdict) {
	if s.refused == nil {
		s.refused = &v
	}
}

// path is where the directory really is; mapped is the path by which Apache knows it; url the request path, with a slash
// at the end.
func (s *apacheScope) path() string { return s.below(s.root.path) }

func (s *apacheScope) mapped() string { return s.below(s.root.mapped) }

func (s *apacheScope) below(root string) string {
	if s.up == nil {
		return root
	}
	return rightful.JoinPath(s.up.below(root), s.name)
}

func (s *apacheScope) url() string {
	if s.up == nil {
		return "/"
	}
	return s.up.url() + s.name + "/"
}

// Same implements [Scope].
func (s *apacheScope) Same(o Scope) bool {
	t, ok := o.(*apacheScope)
	return ok && (s == t || s.h == t.h && s.set == t.set && s.pass == t.pass && s.doubt == t.doubt && s.script == t.script &&
		s.meta.Equal(t.meta) && sameVerdict(s.refused, t.refused) && (s.up == nil) == (t.up == nil) && (s.up == nil || s.up.Same(t.up)) &&
		s.root.same(t.root))
}

func sameVerdict(a, b *Verdict) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Status == b.Status && a.Code == b.Code && a.Culprit == b.Culprit && a.Cause == b.Cause && a.Certain == b.Certain
}

func (r *apacheRoot) same(o *apacheRoot) bool {
	if r == o {
		return true
	}
	if r.path != o.path || r.wrapper != o.wrapper || !sameVerdict(&r.wraps, &o.wraps) || len(r.steps) != len(o.steps) {
		return false
	}
	for i := range r.steps {
		if r.steps[i].Path != o.steps[i].Path || !r.steps[i].Meta.Equal(o.steps[i].Meta) {
			return false
		}
	}
	return true
}

// Root implements [Host]: it walks from "/" to the document root.
func (h *ApacheHost) Root(in View) Scope {
	s := &apacheScope{h: h, root: &apacheRoot{path: h.DocRoot, mapped: h.DocRoot}, set: h.base, dirs: h.dirs, pass: ^pass(0), length: len(h.DocRoot)}
	s.script = h.scripts
	if !h.bare {
		s.aliases, s.locs = h.aliases, h.locs
	}
	names := splitPath(h.DocRoot)
	walk := []string{"/"}
	for i := range names {
		walk = append(walk, rightful.JoinPath(walk[i], names[i]))
	}
	for i, p := range walk {
		steps, err := in.Follow(p)
		s.root.steps = steps
		if i > 0 {
			s.linked(p, steps, err)
		}
		if err != nil && s.refused == nil {
			s.refuse(Verdict{Status: 404, Certain: tree.IsNotExist(err), Cause: CauseMissing, Culprit: p, Why: "the document root does not exist"})
		}
		if s.refused != nil && err != nil {
			break
		}
		last := &steps[len(steps)-1]
		s.root.path, s.meta = last.Path, last.Meta
		s.pass = ^pass(0)
		for k := range steps {
			if steps[k].Stat.Kind == rightful.KindDir {
				s.pass &= h.search(&steps[k].Meta)
			}
		}
		if s.refused != nil {
			continue
		}
		s.root.mapped = p
		if s.depth = i; i > 0 {
			s.sections(names[i-1])
		} else {
			s.sections("")
		}
		view := in
		if i < len(walk)-1 {
			view = pathView{in.Follow, h.Server, last.Path}
		}
		s.enter(view)
	}
	s.root.mapped = h.DocRoot
	if h.limited() {
		s.refuse(configured(500, "itk:ids", "the site's user is outside LimitUIDRange or LimitGIDRange", nil))
	}
	set := s.settingsFor([]byte("index.php"), rightful.KindFile)
	if d, _ := set.handlerFor([]byte("index.php")); h.kindOf(set, d) == kindFPM {
		h.poolOf(set, d) // the pool's user gets a bit in the masks
	}
	s.root.ids, s.pass = len(h.ids), ^pass(0)
	for i := range s.root.steps {
		if c := &s.root.steps[i]; c.Stat.Kind == rightful.KindDir {
			s.pass &= h.search(&c.Meta)
		}
	}
	if w := set.wrapper; w != "" && s.refused == nil {
		s.root.wrapper, s.root.wraps = w, h.wrapped(w, in)
	}
	return s
}

// linked judges a component of the way to the document root that is a link, by the options of the directory it lies in.
func (s *apacheScope) linked(p string, steps []tree.Component, err error) {
	if s.refused != nil {
		return
	}
	parent := s.root.path
	var link *tree.Component
	for i := range steps {
		if c := &steps[i]; c.Target != "" && path.Dir(c.Path) == parent && path.Base(c.Path) == path.Base(p) {
			link = c
			break
		}
	}
	if link == nil {
		return
	}
	if v, bad := s.follow(link.Path, Node{link.Stat.Kind, link.Meta}, steps, err); bad {
		s.refuse(v)
	}
}

// enter decides what stepping into the directory takes, and reads its .htaccess.
func (s *apacheScope) enter(in View) {
	h := s.h
	if !h.free() && !s.pass.has(h.web()) {
		code := "AH00035"
		if s.set.overridable() {
			code = "AH00529"
		}
		s.refuse(h.lacks(403, code, s.path(), h.web(), 1, "the web server may not pass through it"))
		return
	}
	s.htaccess(in)
}

// sections merges the <Directory> sections of the directory called name, and keeps those that may match further down.
// Sections of fewer components apply first; of the same number, in the order of the files.
func (s *apacheScope) sections(name string) {
	if len(s.dirs) == 0 {
		return
	}
	var keep []*section
	for _, sec := range s.dirs {
		if len(sec.comps) < s.depth {
			continue
		}
		if s.depth > 0 {
			want := sec.comps[s.depth-1]
			if ok, _ := path.Match(want, name); !ok && want != name {
				continue
			}
		}
		if len(sec.comps) == s.depth {
			s.set = s.set.with(s.h, sec)
		} else {
			keep = append(keep, sec)
		}
	}
	s.dirs = keep
}

// Dir implements [Scope].
func (s *apacheScope) Dir(name string, m rightful.Meta, in View) Scope {
	h := s.h
	c := &apacheScope{
		h: h, up: s, root: s.root, name: name, meta: m, set: s.set, pass: s.pass & h.search(&m), refused: s.refused, doubt: s.doubt,
		depth: s.depth + 1, length: s.length + 1 + len(name), dirs: s.dirs, script: s.script,
	}
	c.locate(s)
	if c.refused != nil {
		return c
	}
	if c.length+2 >= pathMax {
		c.refuse(Verdict{Status: 403, Certain: true, Cause: CauseLink, Code: "AH00036", Culprit: c.path(), Why: "its path is longer than the kernel takes"})
		return c
	}
	c.sections(name)
	c.enter(in)
	return c
}

// pathMax is the kernel's bound on a path that is handed to it, its NUL included.
const pathMax = 4096

// locate keeps the locations and aliases that apply to a directory or may further down.
func (s *apacheScope) locate(up *apacheScope) {
	if len(up.locs) == 0 && len(up.aliases) == 0 {
		return
	}
	url := s.url()
	for _, l := range up.locs {
		if l.comps == nil || prefixes(l.comps[0], url) || strings.HasPrefix(l.comps[0], url) {
			s.locs = append(s.locs, l)
		}
	}
	for _, a := range up.aliases {
		switch {
		case a.re != nil || strings.HasPrefix(a.url, url):
			s.aliases = append(s.aliases, a)
		case a.re == nil && !strings.HasSuffix(strings.ToLower(a.d.Name), "match") && strings.HasPrefix(url, a.url+"/"):
			// What it maps to instead may be this very directory.
			if to := a.to + strings.TrimSuffix(url[len(a.url):], "/"); to == s.mapped() || to == s.path() {
				s.script = s.script || a.script
			} else {
				v := inDoubt("the URL is mapped to "+to, a.d)
				s.refuse(v)
			}
		}
	}
}

// prefixes reports whether a location that is no pattern covers a URL, by whole names.
func prefixes(loc, url string) bool {
	return strings.HasPrefix(url, loc) && (len(loc) == len(url) || strings.HasSuffix(loc, "/") || url[len(loc)] == '/')
}

// filesFor merges the <Files> sections for a name into settings.
func (s *apacheScope) filesFor(set *settings, name []byte) *settings {
	for _, f := range s.set.files {
		if !f.match.sure {
			set = set.doubted(f.d, "the pattern of <"+f.d.Name+"> cannot be tried here")
		} else if f.match.matches(name) {
			set = set.with(s.h, f)
		}
	}
	return set
}

// settingsFor are the settings for an entry of the directory: <Files>, then the sections that match by expressions, then
// <Location>, then <If>.
func (s *apacheScope) settingsFor(name []byte, kind rightful.Kind) *settings {
	set := s.filesFor(s.set, name)
	h := s.h
	if len(h.regexes) == 0 && len(s.locs) == 0 && len(set.ifs) == 0 {
		return set
	}
	if len(h.regexes) > 0 {
		p := []byte(rightful.JoinPath(s.mapped(), string(name)))
		for _, r := range h.regexes {
			if !r.match.sure {
				set = set.doubted(r.d, "the pattern of <"+r.d.Name+"> cannot be tried here")
			} else if r.match.matches(p) {
				set = set.with(h, r)
			}
		}
	}
	for _, l := range s.locs {
		if s.location(l, name) {
			set = set.with(h, l)
		}
	}
	for _, f := range set.ifs {
		switch expression(f.d, kind) {
		case yes:
			set = set.with(h, f)
		case unsure:
			if decisive(f.body) {
				set = set.doubted(f.d, "<"+f.d.Name+"> may decide")
			}
		}
	}
	return set
}

func (s *apacheScope) location(l *section, name []byte) bool {
	if l.comps != nil {
		p, url := l.comps[0], s.url()
		return prefixes(p, url) || p == url+string(name)
	}
	return l.match.sure && l.match.matches([]byte(s.url()+string(name)))
}

// doubted gives settings under which nothing is certain.
func (s *settings) doubted(d *Directive, why string) *settings {
	k := *s
	k.forget()
	k.doubt, k.at = why, d
	return &k
}

// expression decides the condition of an <If> where it asks for nothing but the kind of the file.
func expression(d *Directive, kind rightful.Kind) maybe {
	if !d.Is("If") {
		return unsure
	}
	e := strings.Join(strings.Fields(strings.Trim(strings.TrimSpace(d.Raw), `"'`)), " ")
	not := strings.HasPrefix(e, "!")
	e = strings.TrimSpace(strings.TrimPrefix(e, "!"))
	out := unsure
	switch strings.Trim(e, "()") {
	case "-f %{REQUEST_FILENAME}", "-f %{SCRIPT_FILENAME}", "-e %{REQUEST_FILENAME}":
		out = truth(kind == rightful.KindFile || kind == rightful.KindDir && strings.HasPrefix(e, "-e"))
	case "-d %{REQUEST_FILENAME}", "-d %{SCRIPT_FILENAME}":
		out = truth(kind == rightful.KindDir)
	}
	if not {
		return out.not()
	}
	return out
}

// decisive reports whether a section holds anything that decides about an answer's status.
func decisive(body []Directive) bool {
	return slices.ContainsFunc(body, func(d Directive) bool {
		switch name := strings.ToLower(d.Name); name {
		case "sethandler", "forcetype", "addhandler", "addtype", "removehandler", "action", "order", "allow", "deny", "satisfy",
			"require", "requireall", "requireany", "requirenone", "redirect", "redirectmatch", "redirectpermanent", "redirecttemp",
			"options", "directoryindex", "fallbackresource", "proxypass", "php_flag", "php_admin_flag":
			return true
		default:
			return strings.HasPrefix(name, "rewrite") || d.Section && decisive(d.Body)
		}
	})
}

// stop finds the topmost directory on the way down to here that an identity may not pass through.
func (s *apacheScope) stop(id rightful.Identity) string {
	at := ""
	for c := s; c.up != nil; c = c.up {
		if id.UID != 0 && !c.meta.Allowed(id, rightful.RightSearch) {
			at = c.path()
		}
	}
	if c := stoppedBy(s.root.steps, id); c != nil {
		return c.Path
	}
	return at
}

// stoppedBy finds the first directory of a way that an identity may not pass through; nil where there is none.
func stoppedBy(steps []tree.Component, id rightful.Identity) *tree.Component {
	for i := range steps {
		if c := &steps[i]; c.Stat.Kind == rightful.KindDir && id.UID != 0 && !c.Meta.Allowed(id, rightful.RightSearch) {
			return c
		}
	}
	return nil
}

// stopped is stoppedBy for an identity of the host. The last step is only stat, and needs nothing itself.
func (h *ApacheHost) stopped(steps []tree.Component, id int) *tree.Component {
	if n := len(steps); n > 0 && steps[n-1].Stat.Kind == rightful.KindDir {
		steps = steps[:n-1]
	}
	return stoppedBy(steps, h.ids[id])
}
