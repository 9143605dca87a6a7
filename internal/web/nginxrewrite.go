package web

import (
	"fmt"
	"strconv"
	"strings"
)

// What the directives of the rewrite module come to.
type ngxRewritten uint8

const (
	rewriteOn   ngxRewritten = iota // go on with the next phase
	rewriteEnd                      // r.out is the answer
	rewriteStop                     // break and last: no more of these directives
)

// rewrite runs the directives of the rewrite module in order (ngx_http_rewrite_module, ngx_http_script.c).
func (r *ngxRequest) rewrite(codes []*Directive) ngxRewritten {
	ifs := r.conf.ifs // of the location, whichever of them comes to apply
	for _, d := range codes {
		switch d.Name {
		case "set":
			r.assign(d)
		case "break":
			r.invalid = r.invalid || r.changed
			r.changed = false
			return rewriteStop
		case "return":
			return r.respond(d)
		case "rewrite":
			if what := r.rewriteURI(d); what != rewriteOn {
				return what
			}
		case "if":
			if !r.holds(d) {
				continue
			}
			inner := ifs[d]
			switch {
			case inner == nil:
				return r.unknown(d, "an if that is nested too deeply")
			case inner.up != nil:
				r.conf = inner
			case inner.doubt != nil:
				return r.unknown(inner.doubt, "directive "+strconv.Quote(clip(inner.doubt.Name)))
			}
			if what := r.rewrite(inner.codes); what != rewriteOn {
				return what
			}
		default:
			r.set(strings.TrimPrefix(d.Arg(0), "$"), ngxValue{why: "$" + strings.TrimPrefix(d.Arg(0), "$")}) // set_by_lua
		}
	}
	return rewriteOn
}

// assign is set $NAME VALUE.
func (r *ngxRequest) assign(d *Directive) {
	t := newNgxTemplate(d.Arg(1))
	text, why := r.eval(&t)
	r.set(strings.TrimPrefix(d.Arg(0), "$"), ngxValue{text, why})
}

// respond is return CODE, CODE TEXT, CODE URL or URL.
func (r *ngxRequest) respond(d *Directive) ngxRewritten {
	code, err := strconv.Atoi(d.Arg(0))
	switch {
	case err != nil:
		code = 302
	case len(d.Args) > 1 && (code < 301 || code == 304 || code > 308 || code == 305 || code == 306):
		r.send(code, configured(code, "", fmt.Sprintf("return %d", code), d)) // with a text: no error_page
		return rewriteEnd
	case code < 300:
		r.send(code, configured(code, "", fmt.Sprintf("return %d", code), d))
		return rewriteEnd
	}
	return r.refuse(code, configured(code, "", fmt.Sprintf("return %d", code), d))
}

// rewriteURI is rewrite REGEX REPLACEMENT [FLAG].
func (r *ngxRequest) rewriteURI(d *Directive) ngxRewritten {
	re := r.h.regex(d.Arg(0), false)
	m, ok := re.try(r.uri)
	if !ok {
		return r.unknown(d, "expression "+strconv.Quote(clip(d.Arg(0))))
	}
	if m == nil {
		return rewriteOn
	}
	r.capture(re, m)
	to, flag := d.Arg(1), d.Arg(2)
	if strings.HasPrefix(to, "http://") || strings.HasPrefix(to, "https://") || strings.HasPrefix(to, "$scheme") || flag == "redirect" || flag == "permanent" {
		code := 302
		if flag == "permanent" {
			code = 301
		}
		return r.refuse(code, configured(code, "", fmt.Sprintf("rewrite to another URL (%d)", code), d))
	}
	t := newNgxTemplate(to)
	text, why := r.eval(&t)
	if why != "" {
		return r.unknown(d, why)
	}
	uri, args, more := strings.Cut(text, "?")
	switch {
	case !more:
	case strings.HasSuffix(to, "?"):
		r.args = strings.TrimSuffix(args, "?")
	case r.args != "" && args != "":
		r.args = args + "&" + r.args
	case args != "":
		r.args = args
	}
	if uri == "" {
		return r.refuse(500, configured(500, "nginx:rewrite", "the rewritten URI has a zero length", d))
	}
	r.uri, r.internal, r.moved = uri, true, true
	if flag == "break" {
		r.invalid, r.changed = true, false
		return rewriteStop
	}
	r.changed = true
	if flag == "last" {
		return rewriteStop
	}
	return rewriteOn
}

// holds evaluates the condition of an if. One that hangs on what is not known is asked of [ngxRequest.decide].
func (r *ngxRequest) holds(d *Directive) bool {
	words := append([]string{}, d.Args...)
	if len(words) == 0 {
		return false
	}
	words[0] = strings.TrimPrefix(words[0], "(")
	if words[0] == "" {
		words = words[1:]
	}
	if n := len(words) - 1; n >= 0 {
		if words[n] = strings.TrimSuffix(words[n], ")"); words[n] == "" && n > 0 && n != 2 {
			words = words[:n]
		}
	}
	yes, why := r.condition(words)
	if why != "" {
		return r.decide(d, why)
	}
	return yes
}

func (r *ngxRequest) condition(words []string) (yes bool, why string) {
	switch {
	case len(words) == 2 && strings.HasPrefix(strings.TrimPrefix(words[0], "!"), "-"):
		return r.fileTest(words[0], words[1])
	case len(words) == 1:
		t := newNgxTemplate(words[0])
		v, why := r.eval(&t)
		return v != "" && v != "0", why
	case len(words) != 3:
		return false, "a condition that is not understood"
	}
	left := newNgxTemplate(words[0])
	v, why := r.eval(&left)
	if why != "" {
		return false, why
	}
	op, not := strings.CutPrefix(words[1], "!")
	switch op {
	case "=":
		right := newNgxTemplate(words[2])
		w, why := r.eval(&right)
		return (v == w) != not, why
	case "~", "~*":
		re := r.h.regex(words[2], op == "~*")
		m, ok := re.try(v)
		if !ok {
			return false, "expression " + strconv.Quote(clip(words[2]))
		}
		if m != nil {
			r.capture(re, m)
		}
		return (m != nil) != not, ""
	}
	return false, "a condition that is not understood"
}

// fileTest is -f, -d, -e or -x, or one of them with "!". What cannot be reached is taken for absent, with a line in the log.
func (r *ngxRequest) fileTest(op, name string) (yes bool, why string) {
	t := newNgxTemplate(name)
	file, why := r.eval(&t)
	if why != "" {
		return false, why
	}
	op, not := strings.CutPrefix(op, "!")
	e := r.stat(file)
	if e.why != "" {
		return false, e.why
	}
	if e.err != 0 {
		r.absent(e)
		return not, ""
	}
	switch op {
	case "-f":
		yes = e.isFile()
	case "-d":
		yes = e.isDir()
	case "-e":
		yes = e.isFile() || e.isDir()
	case "-x":
		yes = e.meta.Mode&0o100 != 0
	}
	return yes != not, ""
}
