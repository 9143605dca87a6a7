package web

import (
	"strings"

	"rightful"

	"golang.org/x/sys/unix"
)

// content answers.
func (r *ngxRequest) content() {
	switch d := r.conf.handler; {
	case d == nil:
		r.files()
	case d.Name == "fastcgi_pass":
		r.fastcgi(d)
	case d.Name == "proxy_pass":
		r.proxied(d)
	case d.Name == "empty_gif":
		r.send(200, Verdict{Certain: true})
	case d.Name == "stub_status", d.Name == "status", d.Name == "api":
		r.send(200, configured(200, "", "nginx's own status", d))
	default:
		r.unknown(d, "what a program answers ("+d.Name+")")
	}
}

// proxied is answered by whoever nginx hands the request on to: the other server of the same site, if that is known.
func (r *ngxRequest) proxied(d *Directive) {
	h := r.h
	_, rest, _ := strings.Cut(d.Arg(0), "://")
	_, to, replaced := strings.Cut(rest, "/")
	if h.Behind == nil || r.uri != r.first || strings.Contains(d.Arg(0), "$") || replaced && "/"+to != r.conf.name {
		r.unknown(d, "what "+clip(d.Arg(0))+" answers")
		return
	}
	var v Verdict
	switch {
	case r.s.uri+r.name != r.first:
		v = Ask(h.Behind, h.Server, h.DocRoot, r.first)
	case r.name == "":
		v = r.s.behind.Index(r.in)
	default:
		v = r.s.behind.File([]byte(r.name), r.node, r.in)
	}
	r.passOn(v, r.conf.proxyIntercept)
}

// passOn gives a visitor the answer of another server, or the page for it that nginx has of its own.
func (r *ngxRequest) passOn(v Verdict, intercept bool) {
	switch {
	case v.Status == 0:
		r.out, r.next = v, stepDone
		return
	case v.Status >= 300 && intercept:
		r.refuse(v.Status, v)
		return
	case v.Status >= 300:
		r.note(&v)
	}
	statuses := v.Statuses
	r.send(v.Status, v)
	r.out.Statuses = statuses
}

// files serves what lies below the document root: index, autoindex, static.
func (r *ngxRequest) files() {
	name, why := r.filename()
	switch {
	case why != "":
		r.unknown(r.conf.rootFrom, why)
	case r.conf.alias != 0 && r.invalid:
		r.refuse(500, configured(500, "nginx:alias", "alias does not go with rewrite", r.conf.rootFrom))
	case strings.HasSuffix(r.uri, "/"):
		r.directory(name)
	default:
		r.static(name)
	}
}

// static opens a file and sends it (ngx_http_static_module.c).
func (r *ngxRequest) static(name string) {
	if r.conf.gzipStatic != "" {
		zipped := r.open(name + ".gz")
		switch {
		case zipped.why != "":
			r.unknown(nil, zipped.why)
			return
		case zipped.err == 0 && zipped.isFile() && (r.conf.gzipStatic == "always" || r.decide(r.conf.d, "whether the visitor takes gzip")):
			r.send(200, Verdict{Certain: true})
			return
		}
	}
	e := r.open(name)
	switch {
	case e.why != "":
		r.unknown(nil, e.why)
	case e.err != 0:
		r.refuse(e.status(), e.verdict("open", e.status()))
	case e.isDir():
		r.refuse(301, configured(301, "", "a slash is added", nil))
	case e.kind == rightful.KindBlock || e.kind == rightful.KindChar:
		v := e.verdict("not-regular", 404)
		v.Certain, v.Statuses, v.Cause, v.Why = false, []int{403, 404}, CauseUnknown, "a device: whether it can be opened hangs on the mount"
		r.refuse(404, v)
	case !e.isFile():
		v := e.verdict("not-regular", 404)
		v.Cause, v.Why = CauseApplication, "it is no regular file"
		r.refuse(404, v)
	default:
		r.send(200, Verdict{Certain: true})
	}
}

// directory looks for an index file, then lists (ngx_http_index_module.c, ngx_http_autoindex_module.c).
func (r *ngxRequest) directory(dir string) {
	tested := false
	for i := range r.conf.index {
		index, why := r.eval(&r.conf.index[i])
		if why != "" {
			r.unknown(nil, why)
			return
		}
		if strings.HasPrefix(index, "/") {
			r.redirect(index, r.args)
			return
		}
		e := r.stat(dir + index)
		switch {
		case e.why != "":
			r.unknown(nil, e.why)
			return
		case e.err == 0:
			r.redirect(r.uri+index, r.args)
			return
		case e.err == unix.EACCES:
			r.refuse(403, e.verdict("forbidden", 403))
			return
		case e.err == unix.ELOOP:
			r.refuse(403, e.verdict("stat", 403))
			return
		case e.err == unix.ENOTDIR, e.err == unix.ENAMETOOLONG:
			r.refuse(404, e.verdict("not-found", 404))
			return
		}
		if tested {
			continue
		}
		tested = true
		if d := r.stat(strings.TrimSuffix(dir, "/")); d.err == unix.ENOENT {
			r.refuse(404, d.verdict("not-found", 404))
			return
		} else if d.why != "" || d.err != 0 && d.err != unix.EACCES || d.err == 0 && !d.isDir() {
			r.unknown(nil, "what lies at "+clip(dir))
			return
		}
	}
	if !r.conf.autoindex {
		r.refuse(403, configured(403, "nginx:index", "there is no index file, and listing is off", nil))
		return
	}
	e := r.opendir(strings.TrimSuffix(dir, "/"))
	switch {
	case e.why != "":
		r.unknown(nil, e.why)
	case e.err != 0:
		r.refuse(e.status(), e.verdict("opendir", e.status()))
	case r.breaksListing(dir):
		r.unknown(nil, "a link in it that leads through a file, for which nginx breaks off its listing")
	default:
		r.send(200, Verdict{Certain: true})
	}
}

// breaksListing reports whether a link in a directory makes mod_autoindex give up without an answer: it passes over what
// is not there, leads in circles or may not be seen, and over no other error (ngx_http_autoindex_handler).
func (r *ngxRequest) breaksListing(dir string) bool {
	if r.s == nil || strings.TrimSuffix(dir, "/") != r.s.dir {
		return false
	}
	links, _ := r.in.Links()
	for _, name := range links {
		if name[0] == '.' {
			continue // not listed
		}
		switch r.stat(dir + name).err {
		case 0, unix.ENOENT, unix.ELOOP, unix.EACCES:
		default:
			return true
		}
	}
	return false
}
