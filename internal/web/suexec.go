package web

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/tree"
)

// suexec is the suEXEC of one server (support/suexec.c): what was compiled into it, or configured for Debian's custom one.
type suexec struct {
	docroot        string // "" where it is not known
	minUID, minGID uint32
	// group is the web server's, which cPanel's build takes for a directory's or a program's.
	group   []uint32
	refused *Verdict // it cannot be run at all
}

// suexecPrograms are the usual places: Debian, Red Hat and cPanel, built from source.
var suexecPrograms = [...]string{"/usr/lib/apache2/suexec", "/usr/sbin/suexec", "/usr/local/apache2/bin/suexec"}

// newSuexec finds out which suEXEC the server has. It is never run: what it was compiled with is known by where it lies.
func (h *ApacheHost) newSuexec() *suexec {
	x := &suexec{minUID: 100, minGID: 100}
	if h.CPanel {
		x.docroot, x.group = "/", h.Workers.GIDs
	}
	if h.Server == nil {
		return x
	}
	for _, p := range suexecPrograms {
		steps, err := h.Server.Trace(p)
		if err != nil {
			continue
		}
		last := &steps[len(steps)-1]
		x.program(h, steps, last)
		switch {
		case h.CPanel:
		case strings.HasSuffix(last.Path, "suexec-custom"):
			x.custom(h)
		case strings.HasPrefix(p, "/usr/lib/"):
			x.docroot = "/var/www"
		case strings.HasPrefix(p, "/usr/sbin/"):
			x.docroot, x.minUID, x.minGID = "/var/www", 1000, 1000
		}
		break
	}
	return x
}

// custom reads Debian's /etc/apache2/suexec/USER: the first line is the document root.
func (x *suexec) custom(h *ApacheHost) {
	name := "/etc/apache2/suexec/" + h.Config.User
	b, err := h.Server.ReadFile(name, 64<<10)
	switch {
	case err != nil && tree.IsNotExist(err):
		v := configured(500, "suexec:103", "suEXEC has no configuration for the web server's user", nil)
		v.Culprit = name
		x.refused = &v
	case err == nil:
		line, _, _ := strings.Cut(string(b), "\n")
		x.docroot = path.Clean(strings.TrimSpace(line))
	}
}

// program judges suEXEC's own file: it must be set-uid root (or have capabilities), and the worker must run it.
func (x *suexec) program(h *ApacheHost, steps []tree.Component, last *tree.Component) {
	switch {
	case h.stopped(steps, h.web()) != nil || !h.reads(h.web(), &last.Meta, 1):
		v := h.lacks(500, "cgi:exec", last.Path, h.web(), 1, "the web server may not run suEXEC")
		x.refused = &v
	case last.Meta.Mode&rightful.ModeSetuid == 0 && len(last.Meta.Caps) == 0:
		x.refused = &Verdict{Status: 500, Certain: true, Cause: CausePermission, Code: "suexec:1", Culprit: last.Path, Why: "suEXEC lost its set-uid bit"}
	}
}

// runs applies suEXEC's checks, in their order, to a program: dir is the resolved directory it lies in with the way to
// it, file the program itself as lstat(2) gives it.
func (x *suexec) runs(h *ApacheHost, steps []tree.Component, dir *tree.Component, name string, file Node) (Verdict, bool) {
	id := h.cgiID()
	as := h.ids[id]
	gid := uint32(0)
	if len(as.GIDs) > 0 {
		gid = as.GIDs[0]
	}
	p := rightful.JoinPath(dir.Path, name)
	refuse := func(code int, culprit, why string) (Verdict, bool) {
		return Verdict{
			Status: 500, Certain: true, Cause: CausePermission, Code: fmt.Sprintf("suexec:%d", code), Culprit: culprit,
			Why: "suEXEC refuses: " + why,
		}, true
	}
	const shared = 0o022
	taken := func(m *rightful.Meta) bool {
		return m.UID == as.UID && (m.GID == gid || slices.Contains(x.group, m.GID))
	}
	switch {
	case x.refused != nil:
		return *x.refused, true
	case as.UID < x.minUID:
		v := configured(500, "suexec:107", "suEXEC refuses: it runs nothing as that user", nil)
		return v, true
	case gid < x.minGID:
		v := configured(500, "suexec:108", "suEXEC refuses: it runs nothing as that group", nil)
		return v, true
	case x.docroot != "" && !within(dir.Path, h.resolved(x.docroot)):
		v := configured(500, "suexec:114", "suEXEC refuses: it runs nothing outside "+x.docroot, nil)
		v.Culprit = dir.Path
		return v, true
	}
	if at := stoppedBy(steps, as); at != nil && at.Path != dir.Path {
		return h.lacks(500, "suexec:115", at.Path, id, 1, "the script's user may not pass through it"), true
	}
	switch m := &file.Meta; {
	case dir.Meta.Mode&shared != 0:
		return refuse(116, dir.Path, "others may write the directory")
	case file.Kind == rightful.KindSymlink:
		return refuse(117, p, "it is a link")
	case m.Mode&shared != 0:
		return refuse(118, p, "others may write it")
	case m.Mode&(rightful.ModeSetuid|rightful.ModeSetgid) != 0:
		return refuse(119, p, "it is set-uid or set-gid")
	case !taken(&dir.Meta):
		return refuse(120, dir.Path, "the directory is not the user's and group's")
	case !taken(m):
		return refuse(120, p, "it is not the user's and group's")
	case m.Mode&0o100 == 0:
		return refuse(121, p, "its owner may not run it")
	case !h.reads(id, &dir.Meta, 4):
		// 2.4.71 opens its working directory, older ones do not.
		v := h.lacks(500, "suexec:111", dir.Path, id, 4, "the script's user cannot read the directory, which newer suEXECs want")
		v.Certain, v.Statuses = false, []int{200, 500}
		return v, true
	}
	return Verdict{}, false
}

func within(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir) && p[len(dir)] == '/'
}

// resolved is a path with its links resolved, as it is where that fails.
func (h *ApacheHost) resolved(p string) string {
	if h.Server != nil {
		if steps, err := h.Server.Trace(p); err == nil {
			return steps[len(steps)-1].Path
		}
	}
	return p
}
