package web

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// An ngxRequest is one GET on its way through nginx's phases (src/http/ngx_http_core_module.c): server rewrite, location,
// location rewrite, access, try_files, content. error_page, index files and fallbacks send it through them again.
type ngxRequest struct {
	h  *NginxHost
	in View
	// s is the directory that is looked at, node the entry called name in it, if that is what was asked for.
	s    *ngxScope
	name string
	node Node

	asked    string // as the visitor wrote it
	first    string // the URI that was asked for
	uri      string
	args     string
	conf     *ngxConf
	captures []string
	blind    string // why they are not known
	vars     map[string]ngxValue
	looked   int
	inRoot   bool

	internal bool // what "internal" locations want
	changed  bool // the rewrite module made another URI: its location is still to be found
	moved    bool // it did at some time
	invalid  bool // an alias does not apply any more
	added    bool // try_files: the URI follows the alias of an expression
	left     int  // changes of the URI that are left before nginx calls it a cycle

	errStatus int  // what the answer will say, whatever it is; 0: its own
	errorPage bool // an error page is on its way: no other
	fault     *Verdict
	refusal   *Verdict   // the first one
	rule      *Directive // deny that holds
	odd       *Directive // one that applies and is not known

	// How conditions turn out that hang on what is not known: as choices says, then false.
	choices, made []bool
	decided       map[*Directive]bool
	doubt         *Directive
	doubtWhy      string

	next ngxStep
	out  Verdict
}

type ngxStep uint8

const (
	stepServer ngxStep = iota
	stepFind
	stepLocation
	stepAccess
	stepTry
	stepContent
	stepDone
)

// maxChanges is NGX_HTTP_MAX_URI_CHANGES and one.
const maxChanges = 11

// run takes the request to its end.
func (r *ngxRequest) run() {
	r.conf, r.left = r.h.conf, maxChanges
	for r.next != stepDone {
		switch r.next {
		case stepServer:
			if r.rewrite(r.h.conf.codes) != rewriteEnd {
				r.next = stepFind
			}
		case stepFind:
			r.changed = false
			r.findLocation()
		case stepLocation:
			r.relocate()
		case stepAccess:
			r.next = stepTry
			r.access()
		case stepTry:
			r.next = stepContent
			r.tryFiles()
		case stepContent:
			r.content()
		}
	}
}

// findLocation settles the location.
func (r *ngxRequest) findLocation() {
	f := r.h.conf.locate([]byte(r.uri))
	if f.unsure != nil {
		r.unknown(f.unsure.d, "whether an expression matches: "+strconv.Quote(clip(f.unsure.name)))
		return
	}
	r.conf, r.next = f.conf, stepLocation
	for c := f.conf; c.up != nil; c = c.up {
		if c.re == nil {
			continue
		}
		r.captures, r.blind = nil, ""
		switch {
		case c.re.finds([]byte(r.uri)):
			r.capture(c.re, c.re.find(r.uri))
		case c.re.groups():
			r.blind = "what an expression finds: " + strconv.Quote(clip(c.name))
		}
		break
	}
	switch {
	case f.conf.internal && !r.internal:
		r.refuse(404, configured(404, "", "the location is internal", f.conf.d))
	case f.slash:
		r.refuse(301, configured(301, "", "a slash is added", f.conf.d))
	default:
		r.excepted()
	}
}

// excepted applies limit_except.
func (r *ngxRequest) excepted() {
	if r.conf.except != nil {
		r.conf = r.conf.except
	}
}

// relocate runs the location's own rewriting, after which another location may have to be found.
func (r *ngxRequest) relocate() {
	if r.conf.kind != ngxServer && r.rewrite(r.conf.codes) == rewriteEnd {
		return
	}
	r.next = stepAccess
	if !r.changed {
		return
	}
	if r.left--; r.left == 0 {
		r.cycle()
		return
	}
	r.next = stepFind
}

func (r *ngxRequest) cycle() {
	r.refuse(500, configured(500, "nginx:cycle", "the configuration leads the request in a circle", r.conf.d))
}

// redirect starts over with another URI, within nginx.
func (r *ngxRequest) redirect(uri, args string) {
	if r.left--; r.left == 0 {
		r.cycle()
		return
	}
	r.uri, r.args, r.conf, r.internal = uri, args, r.h.conf, true
	r.added, r.invalid, r.changed = false, false, false
	r.next = stepServer
}

// toNamed goes on in a location whose name begins with "@".
func (r *ngxRequest) toNamed(name string, from *Directive) {
	if r.left--; r.left == 0 {
		r.cycle()
		return
	}
	l := r.h.conf.named[name]
	if l == nil {
		r.refuse(500, configured(500, "nginx:no-location", "there is no location "+clip(name), from))
		return
	}
	r.conf, r.internal, r.invalid, r.changed, r.next = l, true, false, false, stepLocation
	r.excepted()
}

// refuse ends a request with a status that error_page may turn into another answer (ngx_http_special_response_handler).
func (r *ngxRequest) refuse(status int, v Verdict) ngxRewritten {
	r.note(&v)
	switch {
	case status == 444, status == 408, status == 499: // the connection is closed
		r.errStatus = 0
		r.send(status, v)
		return rewriteEnd
	case status >= 494 && status <= 497:
		status = 400
	}
	r.errStatus = status
	if r.errorPage || r.left == 0 {
		r.send(status, v)
		return rewriteEnd
	}
	for i := range r.conf.errorPages {
		p := &r.conf.errorPages[i]
		if p.code != status {
			continue
		}
		r.errorPage = !r.conf.recursive
		r.page(status, v, p)
		return rewriteEnd
	}
	r.errorPage = r.errorPage || len(r.conf.errorPages) > 0 && !r.conf.recursive
	r.send(status, v)
	return rewriteEnd
}

// page sends an error page (ngx_http_send_error_page).
func (r *ngxRequest) page(status int, v Verdict, p *ngxErrorPage) {
	switch {
	case p.overwrite < 0:
		r.errStatus = 0
	case p.overwrite > 0:
		r.errStatus = p.overwrite
	}
	to, why := r.eval(&p.page)
	switch {
	case why != "":
		r.unknown(p.from, why)
	case strings.HasPrefix(to, "/"):
		uri, args, _ := strings.Cut(to, "?")
		r.redirect(uri, args)
	case strings.HasPrefix(to, "@"):
		r.toNamed(to, p.from)
	default:
		if !slices.Contains([]int{301, 302, 303, 307, 308}, p.overwrite) {
			r.errStatus = 302
		}
		r.send(r.errStatus, v)
	}
}

// note remembers the first fault, and the first refusal: whatever answer is made of it, that is what keeps the visitor from
// what was asked for.
func (r *ngxRequest) note(v *Verdict) {
	f := *v
	if r.refusal == nil {
		r.refusal = &f
	}
	if v.Cause.Fault() && r.fault == nil {
		r.fault = &f
	}
}

// absent notes a fault that nginx takes for an absent file.
func (r *ngxRequest) absent(e ngxEntry) {
	if e.fault() && r.fault == nil {
		v := e.verdict("stat", 0)
		r.fault = &v
	}
}

// send ends the request.
func (r *ngxRequest) send(status int, v Verdict) {
	if r.errStatus != 0 {
		status = r.errStatus
	}
	because := r.fault
	switch {
	case v.Cause == CauseNone && (r.uri == r.first || r.uri == r.first+r.indexed()) && r.errStatus == 0:
		because = nil // after all it is served
	case v.App && status == 200 && r.first == "/":
		because = nil // the front page is an application's, whatever else there is
	case because == nil && v.Cause == CauseNone && status != 200:
		because = r.refusal
	}
	if because != nil {
		certain, app := v.Certain && because.Certain, v.App
		v = *because
		v.Certain, v.App = certain, app
	}
	v.Status = status
	if r.odd != nil && v.Certain {
		if v.Certain = false; v.Why == "" {
			v = v.at(r.odd)
			v.Why = "directive " + strconv.Quote(clip(r.odd.Name)) + " may decide"
		}
	}
	r.out, r.next = v, stepDone
}

// indexed is what a request for a directory has more at its end since an index file was found.
func (r *ngxRequest) indexed() string {
	if rest, ok := strings.CutPrefix(r.uri, r.first); ok && strings.HasSuffix(r.first, "/") && !r.moved && !strings.Contains(rest, "/") &&
		slices.ContainsFunc(r.h.conf.index, func(t ngxTemplate) bool { return t.raw == rest }) {
		return rest
	}
	return ""
}

// unknown ends the request without an answer.
func (r *ngxRequest) unknown(d *Directive, what string) ngxRewritten {
	r.out, r.next = inDoubt("nginx decides by "+what, d), stepDone
	return rewriteEnd
}

// decide says how a condition turns out that hangs on what is not known.
func (r *ngxRequest) decide(d *Directive, why string) bool {
	if yes, ok := r.decided[d]; ok {
		return yes
	}
	choice := len(r.made) < len(r.choices) && r.choices[len(r.made)]
	r.made = append(r.made, choice)
	if r.decided == nil {
		r.decided = map[*Directive]bool{}
	}
	if r.decided[d] = choice; r.doubt == nil {
		r.doubt, r.doubtWhy = d, why
	}
	return choice
}

// access runs allow and deny, auth_basic, auth_request, in that order.
func (r *ngxRequest) access() {
	c := r.conf
	if r.odd == nil {
		r.odd = c.doubt
	}
	allowed, denied := r.byAddress()
	switch {
	case denied && !c.satisfyAny:
		return
	case allowed && c.satisfyAny:
		return
	case r.next == stepDone:
		return
	}
	if c.auth != nil {
		realm := newNgxTemplate(c.auth.Arg(0))
		text, why := r.eval(&realm)
		switch {
		case why != "":
			r.unknown(c.auth, why)
			return
		case text != "off":
			r.refuse(401, r.password())
			return
		}
	}
	switch {
	case c.authAsk != nil:
		r.unknown(c.authAsk, "what another request answers (auth_request)")
	case denied:
		r.refuse(403, r.ruled())
	}
}

// byAddress applies allow and deny. Who asks is not known: a rule for some addresses is one that may hold.
func (r *ngxRequest) byAddress() (allowed, denied bool) {
	for _, d := range r.conf.rules {
		switch addr := d.Arg(0); {
		case addr == "unix:":
			continue
		case addr != "all" && !r.decide(d, "the visitor's address"):
			continue
		}
		if d.Name == "allow" {
			return true, false
		}
		if r.rule = d; !r.conf.satisfyAny {
			r.refuse(403, r.ruled())
		}
		return false, true
	}
	return false, false
}

func (r *ngxRequest) ruled() Verdict {
	return configured(403, "nginx:rule", "access forbidden by rule", r.rule)
}

// password is the answer to somebody who gives none. Whether nginx can read those that it knows shows only to others.
func (r *ngxRequest) password() Verdict {
	v := configured(401, "", "a password is asked for", r.conf.auth)
	file, why := r.eval(&r.conf.authFile)
	if why != "" || file == "" {
		return v
	}
	if !strings.HasPrefix(file, "/") {
		file = r.h.confDir + "/" + file
	}
	e := r.lookup(r.h.web, file)
	if e.err == 0 && e.why == "" && !allowed(&e.meta, r.h.web, 4) {
		e = ngxEntry{err: unix.EACCES, culprit: e.real, need: 4, who: r.h.web}
	}
	if e.fault() {
		// Whoever gives a password gets 500.
		v = e.verdict("open", 401)
		v.Statuses, v.Certain, v.Why = []int{401, 500}, false, "nginx cannot read the passwords: "+v.Why
	}
	return v
}

// tryFiles is try_files (ngx_http_try_files_module.c): what cannot be reached is as good as absent, and only the log tells.
func (r *ngxRequest) tryFiles() {
	c := r.conf
	if r.next != stepContent || len(c.tryFiles) == 0 {
		return
	}
	last := len(c.tryFiles) - 1
	for i := range c.tryFiles[:last] {
		t, dir := &c.tryFiles[i], false
		if raw, ok := strings.CutSuffix(t.raw, "/"); ok {
			short := newNgxTemplate(raw)
			t, dir = &short, true
		}
		name, uri, why := r.candidate(t)
		if why != "" {
			r.unknown(c.tryFrom, why)
			return
		}
		e := r.stat(name)
		switch {
		case e.why != "":
			r.unknown(c.tryFrom, e.why)
			return
		case e.err != 0:
			r.absent(e)
			continue
		case e.isDir() != dir:
			continue
		}
		switch {
		case c.alias >= 0:
			r.uri = uri
		case !dir:
			r.uri, r.added = uri, true
		}
		return
	}
	r.fallBack(&c.tryFiles[last])
}

// candidate gives the file that an argument of try_files stands for, and the URI if it is taken.
func (r *ngxRequest) candidate(t *ngxTemplate) (name, uri, why string) {
	text, why := r.eval(t)
	if why != "" {
		return "", "", why
	}
	root, why := r.docroot()
	if why != "" {
		return "", "", why
	}
	c := r.conf
	if c.alias > 0 {
		n := min(c.alias, len(r.uri))
		if !t.fixed() {
			text = strings.TrimPrefix(text, r.uri[:n])
		}
		return root + text, r.uri[:n] + text, ""
	}
	return root + text, text, ""
}

// fallBack is the last argument of try_files.
func (r *ngxRequest) fallBack(t *ngxTemplate) {
	if code, ok := strings.CutPrefix(t.raw, "="); ok {
		n, err := strconv.Atoi(code)
		if err != nil || n < 300 {
			r.unknown(r.conf.tryFrom, "a code that is no error")
			return
		}
		r.refuse(n, Verdict{Status: n, Certain: true, Cause: CauseMissing, Why: fmt.Sprintf("try_files finds nothing (%d)", n)}.at(r.conf.tryFrom))
		return
	}
	text, why := r.eval(t)
	if why == "" && r.conf.alias > 0 && !t.fixed() {
		text = strings.TrimPrefix(text, r.uri[:min(r.conf.alias, len(r.uri))])
	}
	switch {
	case why != "":
		r.unknown(r.conf.tryFrom, why)
	case strings.HasPrefix(text, "@"):
		r.toNamed(text, r.conf.tryFrom)
	default:
		uri, args, _ := strings.Cut(text, "?")
		r.redirect(uri, args)
	}
}
