package web

import (
	"bytes"
	"path"
	"strings"

	"rightful"
	"rightful/internal/tree"
)

// plainCGI reports whether mod_cgi starts programs, and not mod_cgid, whose messages have other codes.
func (h *ApacheHost) plainCGI() bool {
	return h.Config.Has("cgi_module") && !h.Config.Has("cgid_module")
}

// mayNotRun is the code of a refusal for want of ExecCGI.
func (h *ApacheHost) mayNotRun() string { return pick(h.plainCGI(), "AH02809", "AH01262") }

// cgi is the answer for a program that mod_cgi or mod_cgid starts, by suEXEC where that is asked for. Nothing about the
// program is checked before it is started, so that whatever keeps it from running is a 500.
func (s *apacheScope) cgi(set *settings, name []byte, t *target, d *Directive, in View) Verdict {
	h := s.h
	if set.options&optExecCGI == 0 && !s.script {
		return configured(403, h.mayNotRun(), "programs may not be run here (ExecCGI)", d)
	}
	if t.kind != rightful.KindFile {
		return inDoubt("it is no file, and is to be run", d)
	}
	if h.suexec != nil {
		id := h.cgiID()
		dir := tree.Component{Path: s.path(), Meta: s.meta}
		file := Node{Kind: t.kind, Meta: t.meta}
		if t.steps != nil {
			file.Kind = rightful.KindSymlink
		}
		if !s.passes(id) {
			return h.lacks(500, "suexec:115", s.stop(h.ids[id]), id, 1, "the script's user may not pass through it")
		}
		if v, bad := h.suexec.runs(h, nil, &dir, string(name), file); bad {
			return v
		}
		return s.started(id, name, t, in)
	}
	id := s.openerOf(&t.meta)
	if h.free() && !s.passes(id) {
		return h.lacks(500, "cgi:exec", s.stop(h.ids[id]), id, 1, "the script's user may not pass through it")
	}
	if t.meta.Mode&0o111 == 0 || !h.reads(id, &t.meta, 1) {
		return h.lacks(500, "cgi:exec", s.final(name, t), id, 1, "the web server may not run it")
	}
	return s.started(id, name, t, in)
}

func (h *ApacheHost) cgiID() int { return h.identity(h.CGI) }

// started looks at how a program begins: a script is read by its interpreter, which must exist.
func (s *apacheScope) started(id int, name []byte, t *target, in View) Verdict {
	h := s.h
	served, code := Verdict{Status: 200, Certain: true, App: true}, "cgi:exec"
	if h.suexec != nil {
		code = "suexec:255"
	}
	if h.noexec(s.final(name, t)) {
		return configured(500, code, "nothing may be run from this mount (noexec)", nil)
	}
	if t.steps != nil {
		v := inDoubt("what kind of program it is, is behind a link", nil)
		v.Status, v.Statuses, v.App = 200, []int{200, 500}, true
		if !h.reads(id, &t.meta, 4) {
			v.Status, v.App = 500, false
		}
		return v
	}
	head, err := in.Head(string(name), 256)
	if err != nil {
		return inDoubt("how it begins was not read: "+err.Error(), nil)
	}
	switch {
	case bytes.HasPrefix(head, []byte("#!")):
	case bytes.HasPrefix(head, []byte("\x7fELF")):
		return served
	default:
		return Verdict{Status: 500, Certain: true, Cause: CauseApplication, Code: code, Culprit: s.entry(name), Why: "it is neither a script with an interpreter nor a program"}
	}
	if !h.reads(id, &t.meta, 4) {
		return h.lacks(500, "cgi:exec", s.entry(name), id, 4, "its interpreter cannot read it")
	}
	line, _, _ := bytes.Cut(head[2:], []byte("\n"))
	words := strings.FieldsFunc(string(line), func(r rune) bool { return r == ' ' || r == '\t' })
	if len(words) == 0 || !path.IsAbs(words[0]) {
		return inDoubt("its interpreter is not named by a path", nil)
	}
	if _, err := h.Server.Stat(words[0]); err != nil && tree.IsNotExist(err) && h.Server.Live() {
		return Verdict{Status: 500, Certain: true, Cause: CauseApplication, Code: code, Culprit: s.entry(name), Why: "its interpreter does not exist"}
	}
	return served
}

// fcgid is mod_fcgid's answer: it has suEXEC start a wrapper, and PHP in that opens the script as the user.
func (s *apacheScope) fcgid(set *settings, name []byte, t *target, d *Directive, in View) Verdict {
	h := s.h
	if set.options&optExecCGI == 0 {
		return configured(403, "fcgid:exec-cgi", "programs may not be run here (ExecCGI)", d)
	}
	if set.wrapper == "" {
		v := inDoubt("mod_fcgid runs it without a wrapper", d)
		v.Status, v.App = 200, true
		return v
	}
	v := s.root.wraps
	if set.wrapper != s.root.wrapper {
		v = h.wrapped(set.wrapper, in)
	}
	if v.Status != 200 {
		return v
	}
	id := h.cgiID()
	if v, bad := s.reach(id, t, 404, "fpm:no-input-file"); bad {
		return v
	}
	switch {
	case t.kind != rightful.KindFile:
		return inDoubt("it is no file, and PHP is to run it", d)
	case !h.reads(id, &t.meta, 4):
		return h.lacks(403, "fpm:unable-to-open", s.final(name, t), id, 4, "PHP cannot read it")
	}
	return Verdict{Status: 200, Certain: true, App: true}
}

// wrapped says whether a wrapper of mod_fcgid is started.
func (h *ApacheHost) wrapped(wrapper string, in View) Verdict {
	lost := Verdict{Status: 500, Certain: true, Cause: CauseMissing, Culprit: wrapper, Why: "the wrapper of PHP does not exist"}
	steps, err := in.Follow(path.Dir(wrapper))
	if at := h.stopped(steps, h.web()); at != nil {
		return h.lacks(500, "", at.Path, h.web(), 1, "the web server cannot get to the wrapper of PHP")
	}
	if err != nil {
		return lost
	}
	dir := &steps[len(steps)-1]
	if dir.Stat.Kind != rightful.KindDir {
		return lost
	}
	if !h.reads(h.web(), &dir.Meta, 1) {
		return h.lacks(500, "", dir.Path, h.web(), 1, "the web server cannot get to the wrapper of PHP")
	}
	p := rightful.JoinPath(dir.Path, path.Base(wrapper))
	way, err := in.Follow(p)
	var file *Node
	for i := range way {
		if way[i].Path == p {
			file = &Node{way[i].Stat.Kind, way[i].Meta}
		}
	}
	switch {
	case file == nil:
		return lost
	case h.suexec != nil:
		if v, bad := h.suexec.runs(h, steps, dir, path.Base(wrapper), *file); bad {
			return v
		}
		if !h.reads(h.cgiID(), &dir.Meta, 1) {
			return h.lacks(500, "suexec:115", dir.Path, h.cgiID(), 1, "the wrapper's user may not pass through it")
		}
		if head, err := h.Server.Head(p, 2); !h.reads(h.cgiID(), &file.Meta, 4) && (err != nil || string(head) == "#!") {
			return h.lacks(500, "cgi:exec", p, h.cgiID(), 4, "its interpreter cannot read the wrapper of PHP")
		}
	case err != nil:
		return lost
	case !h.reads(h.web(), &way[len(way)-1].Meta, 5):
		return h.lacks(500, "cgi:exec", way[len(way)-1].Path, h.web(), 5, "the web server cannot run the wrapper of PHP")
	}
	return Verdict{Status: 200, Certain: true}
}

// suPHP is mod_suphp's answer in its paranoid mode (Application.cpp): the worker wants the owner's right to read, then
// suPHP takes nothing that others could have written, up to "/".
func (s *apacheScope) suPHP(name []byte, t *target) Verdict {
	h := s.h
	id := h.cgiID()
	as := h.ids[id]
	p := s.final(name, t)
	refuse := func(what, culprit, why string) Verdict {
		return Verdict{Status: 500, Certain: true, Cause: CausePermission, Code: "suphp:" + what, Culprit: culprit, Why: "suPHP refuses: " + why}
	}
	const least = 100 // min_uid, min_gid
	m := &t.meta
	switch {
	case m.Mode&0o400 == 0:
		return Verdict{Status: 403, Certain: true, Cause: CausePermission, Code: "suphp:insufficient", Culprit: p, Why: "its owner cannot read it"}
	case t.steps != nil && !within(p, s.root.path):
		return refuse("docroot", p, "the link leads out of the document root")
	case m.Mode&0o020 != 0 && !h.CPanel:
		return refuse("writable", p, "its group may write it")
	case m.Mode&0o002 != 0:
		return refuse("writable", p, "others may write it")
	case m.UID < least || m.GID < least:
		return refuse("min-id", p, "it belongs to a user or group of the system")
	case m.UID != as.UID || len(as.GIDs) > 0 && m.GID != as.GIDs[0]:
		return refuse("owner", p, "it is not the user's and group's")
	}
	check := func(at string, m *rightful.Meta) *Verdict {
		var v Verdict
		switch {
		case m.UID != as.UID && m.UID != 0:
			v = refuse("directory-owner", at, "the directory is not the user's")
		case m.Mode&0o020 != 0 && m.UID != 0:
			v = refuse("directory-writable", at, "the group may write the directory")
		case m.Mode&0o002 != 0:
			v = refuse("directory-writable", at, "others may write the directory")
		default:
			return nil
		}
		return &v
	}
	for c := s; c.up != nil; c = c.up {
		if v := check(c.path(), &c.meta); v != nil {
			return *v
		}
	}
	for i := len(s.root.steps) - 1; i >= 0; i-- {
		if c := &s.root.steps[i]; c.Stat.Kind == rightful.KindDir {
			if v := check(c.Path, &c.Meta); v != nil {
				return *v
			}
		}
	}
	return Verdict{Status: 200, Certain: true, App: true}
}

// noexec reports whether a path lies on a mount from which nothing may be run; not known but on the running machine.
func (h *ApacheHost) noexec(p string) bool {
	if h.Server == nil || !h.Server.Live() {
		return false
	}
	if h.mounts == nil {
		h.mounts = map[string]bool{}
		b, _ := h.Server.ReadFile("/proc/self/mountinfo", 16<<20)
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 5 {
				opts := "," + f[5] + ","
				h.mounts[f[4]] = strings.Contains(opts, ",noexec,")
			}
		}
	}
	for d := p; ; d = path.Dir(d) {
		if no, ok := h.mounts[d]; ok || d == "/" {
			return no
		}
	}
}
