package web

import (
	"errors"
	"path"
	"slices"
	"strconv"
	"strings"

	"rightful"
	"rightful/internal/tree"

	"golang.org/x/sys/unix"
)

// An ngxEntry is what a system call of nginx or PHP finds at a path.
type ngxEntry struct {
	err  unix.Errno // 0 where it is there
	why  string     // what is not known, "" where all is
	kind rightful.Kind
	meta rightful.Meta
	real string // its path, links resolved
	// Where err is EACCES or ELOOP: the entry to blame, and what who needs of it.
	culprit string
	need    uint8
	who     *rightful.Identity
	link    bool // a link is to blame
	strict  bool // disable_symlinks was in force
}

func (e *ngxEntry) isFile() bool { return e.kind == rightful.KindFile }
func (e *ngxEntry) isDir() bool  { return e.kind == rightful.KindDir }

// fault reports whether somebody is kept out who need not be.
func (e *ngxEntry) fault() bool { return e.err == unix.EACCES || e.err == unix.ELOOP || e.link }

// nameMax is the kernel's bound on a name (NAME_MAX).
const nameMax = 255

// ngxStop is why an identity does not get into a directory; the zero value says that it does.
type ngxStop struct {
	err     unix.Errno
	culprit string
	need    uint8
	link    bool
}

func (s ngxStop) entry(who *rightful.Identity) ngxEntry {
	return ngxEntry{err: s.err, culprit: s.culprit, need: s.need, link: s.link, who: who}
}

// allowed asks an entry for rights on behalf of an identity. Root is refused nothing that matters here.
func allowed(m *rightful.Meta, id *rightful.Identity, need uint8) bool {
	return id.UID == 0 || m.Allowed(*id, need)
}

// lookup is stat(2) by an identity.
func (r *ngxRequest) lookup(id *rightful.Identity, name string) ngxEntry {
	if len(name) >= pathMax {
		return ngxEntry{err: unix.ENAMETOOLONG}
	}
	if e, ok := r.near(id, name); ok {
		return e
	}
	if !path.IsAbs(name) {
		return ngxEntry{why: "a path that is not absolute"}
	}
	cs, err := r.in.Follow(name)
	return r.reached(id, name, cs, err)
}

// near finds an entry of the directory that is being looked at, without following the whole path.
func (r *ngxRequest) near(id *rightful.Identity, name string) (ngxEntry, bool) {
	s := r.s
	dir, base, ok := cutLast(name)
	if s == nil || s.unsure || !ok || dir != s.dir || base == "" || base == "." || base == ".." {
		return ngxEntry{}, false
	}
	i := r.h.index(id)
	if i < 0 {
		return ngxEntry{}, false
	}
	if s.stop[i].err != 0 {
		return s.stop[i].entry(id), true
	}
	n, ok := r.node, true
	switch {
	case len(base) > nameMax:
		return ngxEntry{err: unix.ENAMETOOLONG}, true
	case base != r.name:
		n, ok = r.in.Lstat(base)
	}
	switch {
	case !ok || n.Kind == rightful.KindUnknown:
		return ngxEntry{err: unix.ENOENT}, true
	case n.Kind == rightful.KindSymlink:
		return ngxEntry{}, false
	}
	return ngxEntry{kind: n.Kind, meta: n.Meta, real: rightful.JoinPath(s.real, base)}, true
}

// cutLast takes a path and its last name apart.
func cutLast(p string) (dir, base string, ok bool) {
	i := strings.LastIndexByte(p, '/')
	if i < 0 {
		return "", "", false
	}
	return p[:i], p[i+1:], true
}

// reached judges the steps of a resolved path for an identity: it needs search on every directory that it leaves again.
func (r *ngxRequest) reached(id *rightful.Identity, name string, cs []tree.Component, err error) ngxEntry {
	if err == nil && len(cs) > 0 && strings.HasSuffix(cs[len(cs)-1].Path, "/..") {
		return ngxEntry{why: "a path that ends with .."}
	}
	sticky := false // the directory looked in may be written by all
	var parent rightful.Meta
	for i := range cs {
		c := &cs[i]
		last := i == len(cs)-1 && err == nil
		switch c.Stat.Kind {
		case rightful.KindSymlink:
			if sticky && c.Meta.UID != id.UID && c.Meta.UID != parent.UID {
				switch r.h.protected {
				case yes:
					return ngxEntry{err: unix.EACCES, culprit: c.Path, who: id, link: true}
				case unsure:
					return ngxEntry{why: "whether links in directories that all may write are followed (fs.protected_symlinks)"}
				}
			}
			if strings.HasSuffix(c.Target, "..") && last {
				return ngxEntry{why: "a link to a parent directory"}
			}
		case rightful.KindDir:
			if (!last || strings.HasSuffix(name, "/.")) && !allowed(&c.Meta, id, rightful.RightSearch) {
				return ngxEntry{err: unix.EACCES, culprit: c.Path, need: rightful.RightSearch, who: id}
			}
			sticky, parent = c.Meta.Mode&rightful.ModeSticky != 0 && c.Meta.Mode&0o002 != 0, c.Meta
		}
	}
	if err != nil {
		return failed(err, cs)
	}
	if len(cs) == 0 {
		return ngxEntry{why: "what lies there"}
	}
	end := &cs[len(cs)-1]
	if strings.HasSuffix(name, "/") && end.Stat.Kind != rightful.KindDir {
		return ngxEntry{err: unix.ENOTDIR}
	}
	return ngxEntry{kind: end.Stat.Kind, meta: end.Meta, real: end.Path}
}

// failed takes the kernel's word out of an error of path work.
func failed(err error, cs []tree.Component) ngxEntry {
	var errno unix.Errno
	switch {
	case tree.Refused(err) == tree.CauseLoop:
		e := ngxEntry{err: unix.ELOOP, link: true}
		for i := range cs {
			if cs[i].Stat.Kind == rightful.KindSymlink {
				e.culprit = cs[i].Path
				break
			}
		}
		return e
	case errors.As(err, &errno) && (errno == unix.ENOENT || errno == unix.ENOTDIR || errno == unix.ENAMETOOLONG):
		return ngxEntry{err: errno}
	}
	return ngxEntry{why: "what lies there: " + err.Error()}
}

// stat is how nginx looks for a file (ngx_file_info_wrapper): by stat(2), or where links are restricted, by opening it.
func (r *ngxRequest) stat(name string) ngxEntry {
	if r.conf.links == "" {
		return r.lookup(r.h.web, name)
	}
	return r.open(name)
}

// open is open(2) for reading by nginx, as disable_symlinks wants it.
func (r *ngxRequest) open(name string) ngxEntry {
	e := r.seek(name)
	switch {
	case e.err != 0 || e.why != "":
	case e.kind != rightful.KindUnknown && !allowed(&e.meta, r.h.web, 4):
		return ngxEntry{err: unix.EACCES, culprit: e.real, need: 4, who: r.h.web, strict: e.strict}
	case e.kind == rightful.KindSocket:
		e.err = unix.ENXIO
	}
	return e
}

// seek is lookup as disable_symlinks wants it (ngx_open_file_wrapper): the path is opened name by name, from "/" or from
// what from= gives, and a link is refused, or one that does not belong to the owner of what it leads to.
func (r *ngxRequest) seek(name string) ngxEntry {
	from, why := r.strictFrom(name)
	switch {
	case why != "":
		return ngxEntry{why: why}
	case r.conf.links == "" || from == len(name):
		return r.lookup(r.h.web, name)
	case len(name) >= pathMax:
		return ngxEntry{err: unix.ENAMETOOLONG}
	}
	e := r.strictly(name, from)
	e.strict = true
	return e
}

// strictFrom gives how many bytes of a path are trusted (ngx_http_set_disable_symlinks).
func (r *ngxRequest) strictFrom(name string) (n int, why string) {
	if r.conf.links == "" || r.conf.linksFrom.raw == "" {
		return 0, ""
	}
	from, why := r.eval(&r.conf.linksFrom)
	switch {
	case why != "" || from == "" || !strings.HasPrefix(name, from):
		return 0, why
	case len(from) == len(name):
		return len(name), ""
	case name[len(from)] == '/':
		return len(from), ""
	case from[len(from)-1] == '/':
		return len(from) - 1, ""
	}
	return 0, ""
}

func (r *ngxRequest) strictly(name string, from int) ngxEntry {
	if s := r.s; s != nil && from == len(r.h.root) && strings.HasPrefix(name, r.h.root+"/") {
		// All directories from the document root down to the one being looked at are no links.
		if e, ok := r.near(r.h.web, name); ok {
			return e
		}
	}
	start := name[:max(from, 1)]
	end := r.lookup(r.h.web, start)
	if end.err != 0 || end.why != "" {
		return end
	}
	cs, _ := r.in.Follow(start)
	before := len(cs)
	for i := from; i < len(name); {
		next := strings.IndexByte(name[i+1:], '/') + i + 1
		if next <= i {
			next = len(name)
		}
		if next == i+1 { // a slash more, or at the end
			i = next
			continue
		}
		switch {
		case !end.isDir():
			return ngxEntry{err: unix.ENOTDIR}
		case !allowed(&end.meta, r.h.web, rightful.RightSearch):
			return end.closed(r.h.web)
		}
		end = r.lookup(r.h.web, name[:next])
		cs, _ = r.in.Follow(name[:next])
		if before < len(cs) && cs[before].Stat.Kind == rightful.KindSymlink {
			link := &cs[before]
			stopped := ngxEntry{err: unix.ELOOP, culprit: link.Path, link: true, who: r.h.web}
			switch {
			case r.conf.links == "on" && next < len(name):
				stopped.err = unix.ENOTDIR // the link itself was opened
				return stopped
			case r.conf.links == "on":
				return stopped
			case end.err == 0 && end.why == "" && next < len(name) && !end.isDir():
				return ngxEntry{err: unix.ENOTDIR}
			case end.err == 0 && end.why == "" && link.Meta.UID != end.meta.UID:
				if next == len(name) && !allowed(&end.meta, r.h.web, 4) {
					return ngxEntry{err: unix.EACCES, culprit: end.real, need: 4, who: r.h.web} // it is opened before owners are compared
				}
				return stopped
			}
		}
		if end.err != 0 || end.why != "" {
			return end
		}
		before, i = len(cs), next
	}
	switch {
	case !strings.HasSuffix(name, "/"):
	case !end.isDir():
		return ngxEntry{err: unix.ENOTDIR}
	case !allowed(&end.meta, r.h.web, rightful.RightSearch): // it is opened once more, as "."
		return end.closed(r.h.web)
	}
	return end
}

// closed is the error of somebody who may not pass through a directory.
func (e *ngxEntry) closed(who *rightful.Identity) ngxEntry {
	return ngxEntry{err: unix.EACCES, culprit: e.real, need: rightful.RightSearch, who: who}
}

// opendir is opendir(3) by nginx, which disable_symlinks says nothing about.
func (r *ngxRequest) opendir(name string) ngxEntry {
	e := r.lookup(r.h.web, name)
	switch {
	case e.err != 0 || e.why != "":
	case !e.isDir():
		e.err = unix.ENOTDIR
	case !allowed(&e.meta, r.h.web, 4):
		return ngxEntry{err: unix.EACCES, culprit: e.real, need: 4, who: r.h.web}
	}
	return e
}

// verdict says what a failed look at a file comes to; call is what nginx names in its message.
func (e *ngxEntry) verdict(call string, status int) Verdict {
	v := Verdict{Status: status, Certain: true, Code: "nginx:" + call, Culprit: e.culprit, Need: e.need}
	if e.strict && (call == "open" || call == "stat") {
		v.Code = "nginx:openat"
	}
	if e.need != 0 {
		v.Identity = e.who
	}
	switch {
	case e.link && e.strict:
		v.Cause, v.Why = CauseLink, "disable_symlinks forbids this link"
	case e.link && e.err == unix.ELOOP:
		v.Cause, v.Why = CauseLink, "links that lead to one another"
	case e.link:
		v.Cause, v.Why = CauseLink, "the kernel follows no link of somebody else's in a directory that all may write"
	case e.err == unix.EACCES:
		v.Cause, v.Why = CausePermission, needs(e.need, e.who)
	case e.err == unix.ENXIO:
		v.Cause, v.Why = CauseApplication, "a socket is no file"
	default:
		v.Cause, v.Why = CauseMissing, "there is nothing"
	}
	return v
}

// needs says what an identity lacks.
func needs(need uint8, who *rightful.Identity) string {
	what := "read it"
	switch need {
	case rightful.RightSearch:
		what = "pass through it"
	case 2:
		what = "connect to it"
	}
	return "uid " + strconv.FormatUint(uint64(who.UID), 10) + " may not " + what
}

// status is what the static module makes of an error (ngx_http_static_handler), and index and autoindex with it.
func (e *ngxEntry) status() int {
	switch {
	case slices.Contains([]unix.Errno{unix.ENOENT, unix.ENOTDIR, unix.ENAMETOOLONG}, e.err):
		return 404
	case e.err == unix.EACCES, e.err == unix.ELOOP:
		return 403
	}
	return 500
}
