package web

import (
	"path"
	"strconv"
	"strings"

	"rightful"

	"golang.org/x/sys/unix"
)

// An ngxBackend is who answers on the address of a fastcgi_pass.
type ngxBackend struct {
	addr string // as [PHPHandler.Backend]
	pool *Pool
	id   *rightful.Identity
	why  string // it is not known who; "" where it is
	// reached: nginx can connect to it.
	reached bool
}

// backend finds who answers a fastcgi_pass, by what it says once variables are replaced.
func (h *NginxHost) backend(target string) *ngxBackend {
	if b := h.backends[target]; b != nil {
		return b
	}
	b := &ngxBackend{}
	h.backends[target] = b
	members, ok := h.Config.Upstreams[target]
	if !ok {
		members = []string{nginxBackend(target)}
	}
	for i, m := range members {
		pool, id, ok := h.Pool(m)
		switch {
		case !ok || pool == nil:
			b.why = "who answers at " + clip(target)
		case i > 0 && (id.UID != b.id.UID || pool.Chroot != b.pool.Chroot):
			b.why = "which of several pools answers at " + clip(target)
		default:
			b.addr, b.pool, b.id = m, pool, &id
			if len(members) > 1 {
				b.addr = "" // whether it can be connected to is settled by trying the others
			}
		}
	}
	if len(members) == 0 {
		b.why = "who answers at " + clip(target)
	}
	return b
}

// fastcgi hands the request to PHP-FPM, which finds the script by itself.
func (r *ngxRequest) fastcgi(d *Directive) {
	target := newNgxTemplate(d.Arg(0))
	text, why := r.eval(&target)
	if why != "" {
		r.unknown(d, why)
		return
	}
	b := r.h.backend(text)
	if b.why != "" {
		r.unknown(d, b.why)
		return
	}
	if v, ok := r.connects(b); !ok {
		if v.Cause == CauseUnknown {
			r.out, r.next = v.at(d), stepDone
		} else {
			r.refuse(502, v)
		}
		return
	}
	if r.conf.script == nil || !r.conf.method {
		r.unknown(d, "a FastCGI server that is given no SCRIPT_FILENAME or REQUEST_METHOD")
		return
	}
	script, why := r.eval(r.conf.script)
	if why != "" {
		r.unknown(d, why)
		return
	}
	v := r.fpm(b, script)
	if v.Cause == CauseUnknown {
		v = v.at(d)
	}
	r.passOn(v, r.conf.intercept)
}

// connects finds out whether nginx reaches the socket: it needs to write to it, and search on the way.
func (r *ngxRequest) connects(b *ngxBackend) (Verdict, bool) {
	sock, ok := strings.CutPrefix(b.addr, "unix:")
	if !ok {
		return Verdict{}, true
	}
	e := r.lookup(r.h.web, sock)
	if e.err == unix.ENOENT && !r.h.live { // it is made when PHP starts
		switch {
		case b.pool.ListenACL:
			return inDoubt("nginx decides by the ACL of a socket that is not there", nil), false
		case b.pool.mayConnect(r.h.web, r.h.User):
			return Verdict{}, true
		}
		e = ngxEntry{err: unix.EACCES, culprit: sock, need: 2, who: r.h.web}
	}
	if e.err == 0 && e.why == "" && !allowed(&e.meta, r.h.web, 2) {
		e = ngxEntry{err: unix.EACCES, culprit: e.real, need: 2, who: r.h.web}
	}
	switch {
	case e.why != "":
		return inDoubt("nginx decides by "+e.why, nil), false
	case e.err != 0:
		v := e.verdict("connect", 502)
		if e.err == unix.ENOENT {
			v.Cause, v.Why, v.Culprit = CauseApplication, "PHP does not run: there is no socket", sock
		}
		return v, false
	}
	return Verdict{}, true
}

// reaches remembers whether a backend's socket can be connected to, where no plan changes that: in /run.
func (h *NginxHost) reaches(b *ngxBackend, in View) bool {
	sock, ok := strings.CutPrefix(b.addr, "unix:")
	switch {
	case !ok, b.reached:
		return true
	case !strings.HasPrefix(sock, "/run/"):
		return false
	}
	r := &ngxRequest{h: h, in: in, conf: h.conf}
	_, b.reached = r.connects(b)
	return b.reached
}

// mayConnect reports whether an identity may connect to the socket that a pool will make: owner and group are those of
// the FPM master, root's, and its mode is 0660, unless the pool says otherwise.
func (p *Pool) mayConnect(id *rightful.Identity, users func(user, group string) (rightful.Identity, bool)) bool {
	m := rightful.Meta{Mode: 0o660}
	if n, err := strconv.ParseUint(p.ListenMode, 8, 12); err == nil {
		m.Mode = rightful.Mode(n)
	}
	if users != nil && p.ListenOwner != "" {
		if u, ok := users(p.ListenOwner, ""); ok {
			m.UID = u.UID
		}
	}
	if users != nil && p.ListenGroup != "" {
		if u, ok := users("root", p.ListenGroup); ok && len(u.GIDs) > 0 {
			m.GID = u.GIDs[0]
		}
	}
	return allowed(&m, id, 2)
}

// usualExtensions is the default of security.limit_extensions.
var usualExtensions = []string{".php", ".phar"}

// runs reports whether a pool runs files of that name (security.limit_extensions); nil is one of which nothing is known.
func (p *Pool) runs(script []byte) bool {
	limit := usualExtensions
	if p != nil && p.LimitExtensions != nil {
		limit = p.LimitExtensions
	}
	for _, ext := range limit {
		if n := len(script) - len(ext); n >= 0 && string(script[n:]) == ext {
			return true
		}
	}
	return len(limit) == 0
}

// fpm is what PHP-FPM makes of a script's path (sapi/fpm/fpm/fpm_main.c): whatever keeps the pool's user from the file is
// to it a script that is not there, but for the file itself.
func (r *ngxRequest) fpm(b *ngxBackend, script string) Verdict {
	inside := script
	if b.pool.Chroot != "" {
		script = path.Join(b.pool.Chroot, script)
	}
	e := r.lookup(b.id, script)
	switch {
	case e.why != "":
		return inDoubt("PHP decides by "+e.why, nil)
	case b.pool.Chroot != "" && e.err == 0 && e.real != script:
		return inDoubt("PHP decides by where links lead within its chroot", nil)
	case e.err != 0:
		v := e.verdict("", 404)
		v.Code = "fpm:primary-script-unknown"
		if above, name := r.pathInfo(b, script); above.isFile() && !e.fault() {
			// cgi.fix_pathinfo, which is on unless php.ini says otherwise, finds the script above.
			v.Certain, v.Cause, v.Why = false, CauseUnknown, "PHP decides by cgi.fix_pathinfo"
			if v.Status = 200; !b.pool.runs([]byte(name)) || !allowed(&above.meta, b.id, 4) {
				v.Status = 403
			}
			v.Statuses = []int{v.Status, 404}
		}
		return v
	case strings.HasSuffix(inside, "/") && e.isDir():
		// After a slash PHP looks for a regular file further up, and there is none (init_request_info).
		return Verdict{Status: 404, Certain: true, Cause: CauseMissing, Code: "fpm:primary-script-unknown", Culprit: e.real, Why: "PHP is to run a directory"}
	case !b.pool.runs([]byte(inside)):
		return configured(403, "fpm:limit-extensions", "security.limit_extensions does not name its suffix", &Directive{File: b.pool.File, Line: b.pool.Line})
	case !allowed(&e.meta, b.id, 4):
		e.err, e.culprit, e.need, e.who = unix.EACCES, e.real, 4, b.id
		v := e.verdict("", 403)
		v.Code = "fpm:unable-to-open"
		return v
	case !e.isFile():
		return Verdict{Status: 404, Certain: e.isDir(), Cause: CauseApplication, Code: "fpm:unable-to-open", Culprit: e.real, Why: "it is no regular file"}
	case !b.pool.opens(e.real):
		v := inDoubt("the pool's open_basedir does not name its directory", nil)
		v.Status, v.Statuses, v.App = 404, []int{200, 404}, true
		return v
	}
	return Verdict{Status: 200, Certain: true, App: true}
}

// pathInfo finds the entry on the way to a script that is not there at which the way ends.
func (r *ngxRequest) pathInfo(b *ngxBackend, script string) (ngxEntry, string) {
	for dir := path.Dir(script); dir != "/" && dir != "."; dir = path.Dir(dir) {
		if e := r.lookup(b.id, dir); e.err == 0 && e.why == "" {
			return e, dir
		}
	}
	return ngxEntry{}, ""
}
