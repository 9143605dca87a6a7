package web

import (
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
)

// ngxTemplate is a word of the configuration with its variables apart: text and names alternate, text first.
type ngxTemplate struct {
	raw   string
	parts []string
}

func newNgxTemplate(raw string) ngxTemplate {
	t := ngxTemplate{raw: raw}
	text := ""
	for i := 0; i < len(raw); {
		name, next := ngxVariable(raw[i:])
		if next == 0 {
			text += raw[i : i+1]
			i++
			continue
		}
		t.parts = append(t.parts, text, name)
		text = ""
		i += next
	}
	t.parts = append(t.parts, text)
	return t
}

// ngxVariable reads a variable at the beginning of s ("$name", "${name}", "$1") and how long it is, 0 for none.
func ngxVariable(s string) (name string, n int) {
	if len(s) < 2 || s[0] != '$' {
		return "", 0
	}
	if s[1] == '{' {
		end := strings.IndexByte(s, '}')
		if end < 3 {
			return "", 0
		}
		return s[2:end], end + 1
	}
	if s[1] >= '1' && s[1] <= '9' {
		return s[1:2], 2
	}
	for n = 1; n < len(s) && (s[n] == '_' || s[n]|0x20 >= 'a' && s[n]|0x20 <= 'z' || s[n] >= '0' && s[n] <= '9'); n++ {
	}
	if n == 1 {
		return "", 0
	}
	return s[1:n], n
}

// fixed reports whether there is no variable in it.
func (t *ngxTemplate) fixed() bool { return len(t.parts) == 1 }

// maxVariableText bounds what variables may grow to, and maxVariables how many are looked at for one request: the values of
// set and map may refer to others.
const (
	maxVariableText = 64 << 10
	maxVariables    = 1000
)

// eval gives the text of a template. why says which variable is not known, and is "" where all are.
func (r *ngxRequest) eval(t *ngxTemplate) (text, why string) {
	if t.fixed() {
		return t.parts[0], ""
	}
	var b strings.Builder
	for i, p := range t.parts {
		if i%2 == 0 {
			b.WriteString(p)
			continue
		}
		v, why := r.variable(p)
		if why != "" {
			return "", why
		}
		b.WriteString(v)
		if b.Len() > maxVariableText {
			return "", "variables that grow without end"
		}
	}
	return b.String(), ""
}

// ngxValue is that of a variable that the configuration sets; why is what makes it unknown, "" where it is known.
type ngxValue struct{ text, why string }

// variable gives the value of a variable in a request by somebody who sends no arguments, no cookie and no name, and comes
// from nowhere in particular.
func (r *ngxRequest) variable(name string) (value, why string) {
	if r.looked++; r.looked > maxVariables {
		return "", "variables that lead to one another without end"
	}
	if v, ok := r.vars[name]; ok {
		return v.text, v.why
	}
	h := r.h
	switch name {
	case "1", "2", "3", "4", "5", "6", "7", "8", "9":
		if r.blind != "" {
			return "", r.blind
		}
		if n := int(name[0] - '0'); n < len(r.captures) {
			return r.captures[n], ""
		}
		return "", ""
	case "uri", "document_uri":
		return r.uri, ""
	case "request_uri":
		return r.asked, ""
	case "args", "query_string":
		return r.args, ""
	case "is_args":
		if r.args != "" {
			return "?", ""
		}
		return "", ""
	case "request_method":
		return "GET", ""
	case "host", "http_host":
		if h.name == "" {
			return "", "$" + name
		}
		return h.name, ""
	case "server_name":
		if len(h.VHost.Names) > 0 {
			return h.VHost.Names[0], ""
		}
		return "", ""
	case "scheme":
		return h.scheme, ""
	case "https":
		if h.scheme == "https" {
			return "on", ""
		}
		return "", ""
	case "server_port":
		return h.port, ""
	case "remote_user", "content_length", "content_type":
		return "", ""
	case "invalid_referer":
		if d := r.conf.referers; d != nil && !slices.Contains(d.Args, "none") {
			return "1", ""
		}
		return "", ""
	case "status", "nginx_version", "hostname", "pid", "remote_addr", "remote_port", "server_addr", "request_id", "server_protocol":
		return "", "$" + name
	case "document_root", "realpath_root":
		root, why := r.docroot()
		if why != "" || name == "document_root" {
			return root, why
		}
		e := r.lookup(r.h.web, root)
		if e.why != "" || e.err != 0 {
			return "", e.why // a root that cannot be resolved is an empty string
		}
		return e.real, ""
	case "request_filename":
		return r.filename()
	case "fastcgi_script_name":
		script, _, why := r.split()
		return script, why
	case "fastcgi_path_info":
		_, info, why := r.split()
		return info, why
	}
	return r.configured(name)
}

// configured gives the value of a variable that a map makes, or that belongs to a family.
func (r *ngxRequest) configured(name string) (value, why string) {
	for _, d := range r.h.Config.maps {
		if strings.TrimPrefix(d.Arg(1), "$") == name {
			return r.mapped(d)
		}
	}
	switch {
	case name == "http_user_agent", name == "http_accept", name == "http_accept_encoding", name == "http_accept_language",
		name == "http_connection", strings.HasPrefix(name, "http_sec_"), strings.HasPrefix(name, "http_cf_"), name == "http_x_forwarded_proto":
	case strings.HasPrefix(name, "http_"), strings.HasPrefix(name, "arg_"), strings.HasPrefix(name, "cookie_"):
		return "", "" // not sent
	}
	if r.h.Config.sets[name] {
		return "", "" // one that is set somewhere is empty until it is
	}
	return "", "$" + name
}

// mapped gives what a map block makes of its source (ngx_http_map_module): an exact string in any case, then the longest
// name with a wildcard, then the first expression, then the default.
func (r *ngxRequest) mapped(d *Directive) (value, why string) {
	source := newNgxTemplate(d.Arg(0))
	text, why := r.eval(&source)
	if why != "" {
		return "", why
	}
	result := func(e *Directive) (string, string) {
		t := newNgxTemplate(e.Arg(0))
		return r.eval(&t)
	}
	hostnames := false
	var exact, wild, def *Directive
	longest := 0
	for i := range d.Body {
		e := &d.Body[i]
		key := e.Name
		switch {
		case key == "default" && len(e.Args) > 0:
			def = e
			continue
		case key == "hostnames" && len(e.Args) == 0:
			hostnames = true
			continue
		case key == "volatile" && len(e.Args) == 0, strings.HasPrefix(key, "~"):
			continue
		}
		key = strings.TrimPrefix(key, `\`)
		if strings.EqualFold(key, text) && exact == nil {
			exact = e
		}
		if n := wildcardName(key, text); hostnames && n > longest {
			wild, longest = e, n
		}
	}
	if exact != nil {
		return result(exact)
	}
	if wild != nil {
		return result(wild)
	}
	for i := range d.Body {
		pattern, ok := strings.CutPrefix(d.Body[i].Name, "~")
		if !ok {
			continue
		}
		pattern, fold := strings.CutPrefix(pattern, "*")
		re := r.h.regex(pattern, fold)
		m, ok := re.try(text)
		if !ok {
			return "", "expression " + strconv.Quote(clip(pattern))
		}
		if m != nil {
			r.capture(re, m)
			return result(&d.Body[i])
		}
	}
	if def != nil {
		return result(def)
	}
	return "", ""
}

// wildcardName gives how much of a name a pattern with a wildcard at either end stands for, 0 where it does not match.
// A wildcard in front beats one behind, whatever their lengths (ngx_hash_find_combined).
func wildcardName(pattern, name string) int {
	pattern, name = strings.ToLower(pattern), strings.ToLower(name)
	switch {
	case strings.HasPrefix(pattern, "*.") && strings.HasSuffix(name, pattern[1:]) && len(name) > len(pattern)-1:
		return 1<<16 + len(pattern)
	case strings.HasPrefix(pattern, ".") && (name == pattern[1:] || strings.HasSuffix(name, pattern)):
		return 1<<16 + len(pattern) + 1
	case strings.HasSuffix(pattern, ".*") && strings.HasPrefix(name, pattern[:len(pattern)-1]) && len(name) > len(pattern)-1:
		return len(pattern)
	}
	return 0
}

// capture takes the groups of an expression that matched: by number, and by name as variables.
func (r *ngxRequest) capture(re *ngxRegex, m []string) {
	r.captures, r.blind = m, ""
	if re.re == nil {
		return
	}
	for i, n := range re.re.SubexpNames() {
		if n != "" {
			r.set(n, ngxValue{text: m[i]})
		}
	}
}

func (r *ngxRequest) set(name string, v ngxValue) {
	if r.vars == nil {
		r.vars = map[string]ngxValue{}
	}
	r.vars[name] = v
}

// docroot is the root or alias that applies, absolute.
func (r *ngxRequest) docroot() (root, why string) {
	if r.inRoot { // a root that refers to itself by way of a map
		return "", "$document_root"
	}
	r.inRoot = true
	root, why = r.eval(&r.conf.root)
	r.inRoot = false
	if why == "" && !path.IsAbs(root) && r.conf.root.raw != "" {
		return "", relativeRoot
	}
	return root, why
}

// relativeRoot is why a root that is not absolute is not known: it begins where nginx was installed.
const relativeRoot = "where nginx was installed"

// filename is what the URI stands for in the file system (ngx_http_map_uri_to_path).
func (r *ngxRequest) filename() (name, why string) {
	root, why := r.docroot()
	switch {
	case why != "":
		return "", why
	case r.conf.alias < 0 && !r.added:
		return root, ""
	case r.conf.alias > 0:
		return root + r.uri[min(r.conf.alias, len(r.uri)):], ""
	}
	return root + r.uri, ""
}

// split gives the path of a script and what follows it (ngx_http_fastcgi_split).
func (r *ngxRequest) split() (script, info, why string) {
	c := r.conf
	if c.split == nil {
		if strings.HasSuffix(r.uri, "/") {
			return r.uri + c.fcgiIndex, "", ""
		}
		return r.uri, "", ""
	}
	if !c.split.finds([]byte(r.uri)) {
		return "", "", "expression " + strconv.Quote(clip(c.splitFrom.Arg(0)))
	}
	if m := c.split.find(r.uri); len(m) > 2 {
		return m[1], m[2], ""
	}
	return r.uri, "", ""
}

// requestURI is a path as a browser would send it.
func requestURI(uri string) string { return (&url.URL{Path: uri}).EscapedPath() }
