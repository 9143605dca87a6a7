package web

import (
	"regexp"
	"strconv"
	"strings"

	"rightful"
)

// rewrite is mod_rewrite's configuration at one place, per directory or of the server.
type rewrite struct {
	on    bool
	dir   string // that patterns are relative to, with a closing slash; "" for the server's own
	rules []rewriteRule
	// spareFiles, spareDirs: no rule does anything to a regular file, to a directory, that exists.
	spareFiles, spareDirs bool
	doubt                 string // options that are not understood
}

type rewriteRule struct {
	d       *Directive
	re      *regexp.Regexp // nil: not understood
	not     bool
	to      string
	flags   map[string]string
	conds   []rewriteCond
	pending bool
}

type rewriteCond struct {
	test, pattern string
	not, or, fold bool
	re            *regexp.Regexp
}

// maxRules bounds what a .htaccess may have us try for each file.
const maxRules = 500

func (m *merge) rewriteDirective(name string, d *Directive) {
	s := m.s
	if !m.rewrote {
		// What a section says replaces the rules above it, but for the engine being on.
		r := &rewrite{dir: m.dir}
		if s.rewrite != nil {
			r.on = s.rewrite.on
		}
		m.rewrote, s.rewrite = true, r
	}
	r := s.rewrite
	switch name {
	case "rewriteengine":
		r.on = strings.EqualFold(d.Arg(0), "on")
	case "rewriteoptions":
		for _, a := range d.Args {
			if strings.HasPrefix(strings.ToLower(a), "inherit") {
				r.doubt = "rewrite rules are inherited"
			}
		}
	case "rewritecond":
		if len(r.rules) >= maxRules {
			return
		}
		if n := len(r.rules); n == 0 || !r.rules[n-1].pending {
			r.rules = append(r.rules, rewriteRule{pending: true})
		}
		last := &r.rules[len(r.rules)-1]
		last.conds = append(last.conds, newCond(d))
	case "rewriterule":
		if n := len(r.rules); n == 0 || !r.rules[n-1].pending {
			if n >= maxRules {
				r.doubt = "there are too many rewrite rules"
				return
			}
			r.rules = append(r.rules, rewriteRule{})
		}
		r.rules[len(r.rules)-1].set(d)
		r.settle()
	}
}

func (r *rewrite) settle() {
	r.spareFiles, r.spareDirs = r.doubt == "", r.doubt == ""
	for i := range r.rules {
		x := &r.rules[i]
		if x.pending || x.harmless() {
			continue
		}
		file, dir := false, false
		for k, c := range x.conds {
			if c.or || k > 0 && x.conds[k-1].or || !c.not || !requestFile(c.test) {
				continue
			}
			file = file || c.pattern == "-f"
			dir = dir || c.pattern == "-d"
		}
		r.spareFiles, r.spareDirs = r.spareFiles && file, r.spareDirs && dir
	}
}

func requestFile(s string) bool {
	switch strings.ToUpper(s) {
	case "%{REQUEST_FILENAME}", "%{SCRIPT_FILENAME}":
		return true
	}
	return false
}

func newCond(d *Directive) rewriteCond {
	c := rewriteCond{test: d.Arg(0), pattern: d.Arg(1)}
	c.pattern, c.not = strings.TrimPrefix(c.pattern, "!"), strings.HasPrefix(c.pattern, "!")
	for _, f := range strings.Split(strings.ToLower(strings.Trim(d.Arg(2), "[]")), ",") {
		switch strings.TrimSpace(f) {
		case "or", "ornext":
			c.or = true
		case "nc", "nocase":
			c.fold = true
		}
	}
	if !strings.HasPrefix(c.pattern, "-") && !strings.ContainsAny(c.pattern[:min(1, len(c.pattern))], "=<>") {
		p := c.pattern
		if c.fold {
			p = "(?i)" + p
		}
		c.re = pattern(p)
	}
	return c
}

func (x *rewriteRule) set(d *Directive) {
	x.d, x.pending = d, false
	p := d.Arg(0)
	p, x.not = strings.TrimPrefix(p, "!"), strings.HasPrefix(p, "!")
	x.to = d.Arg(1)
	x.flags = map[string]string{}
	for _, f := range strings.Split(strings.Trim(d.Arg(2), "[]"), ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(f), "=")
		if k = rewriteFlag(strings.ToLower(k)); k != "" {
			x.flags[k] = v
		}
	}
	if x.has("nc") {
		p = "(?i)" + p
	}
	x.re = pattern(p)
}

// rewriteFlag gives the short name of a flag.
func rewriteFlag(f string) string {
	switch f {
	case "last":
		return "l"
	case "forbidden":
		return "f"
	case "gone":
		return "g"
	case "redirect":
		return "r"
	case "nocase":
		return "nc"
	case "env":
		return "e"
	case "skip":
		return "s"
	case "chain":
		return "c"
	case "next":
		return "n"
	case "handler":
		return "h"
	case "proxy":
		return "p"
	case "qsappend":
		return "qsa"
	}
	return f
}

func (x *rewriteRule) has(flag string) bool {
	_, ok := x.flags[flag]
	return ok
}

// idle rules change nothing that decides an answer, and do not end the rules either.
func (x *rewriteRule) idle() bool {
	return x.harmless() && !x.has("l") && !x.has("end")
}

// harmless rules change nothing that decides an answer, but may end the rules.
func (x *rewriteRule) harmless() bool {
	if x.to != "-" {
		return false
	}
	for f := range x.flags {
		switch f {
		case "e", "nc", "qsa", "co", "ns", "ne", "l", "end":
		default:
			return false
		}
	}
	return true
}

// maybe is a truth that may not be known.
type maybe uint8

const (
	no maybe = iota
	yes
	unsure
)

func truth(b bool) maybe {
	if b {
		return yes
	}
	return no
}

func (m maybe) not() maybe {
	switch m {
	case yes:
		return no
	case no:
		return yes
	}
	return unsure
}

// subject is what rules are tried on.
type subject struct {
	uri   string // the request path, decoded
	file  string // the path that it maps to
	kind  rightful.Kind
	host  string // lower case; "" where it is not known
	https bool
}

// fires tries the rules on an existing entry. It returns a verdict where a rule answers, or may; done is false where
// everything goes on as without rules.
func (r *rewrite) fires(s subject) (v Verdict, done bool) {
	if r.doubt != "" {
		return inDoubt(r.doubt, nil), true
	}
	rel := s.uri
	if r.dir != "" {
		if !strings.HasPrefix(s.file, r.dir) {
			return v, false
		}
		rel = s.file[len(r.dir):]
	}
	skip, chained := 0, yes
	for i := range r.rules {
		x := &r.rules[i]
		if x.pending {
			continue
		}
		if skip > 0 {
			skip--
			continue
		}
		fire := unsure
		if x.re != nil {
			if fire = truth(x.re.MatchString(rel)); x.not {
				fire = fire.not()
			}
		}
		for k := 0; k < len(x.conds) && fire != no; {
			group := no
			for more := true; more && k < len(x.conds); k++ {
				if t := x.conds[k].holds(s); t == yes || t == unsure && group == no {
					group = t
				}
				more = x.conds[k].or
			}
			if group != yes {
				fire = group
			}
		}
		if chained == no {
			fire = no
		} else if chained == unsure && fire == yes {
			fire = unsure
		}
		if chained = yes; x.has("c") {
			chained = fire
		}
		switch {
		case fire == no || x.idle():
		case fire == unsure:
			return inDoubt("a rewrite rule may decide", x.d), true
		case x.has("f"):
			return configured(403, "", "a rewrite rule forbids it", x.d), true
		case x.has("g"):
			return configured(410, "", "a rewrite rule says it is gone", x.d), true
		case x.has("r"):
			return configured(redirectStatus(x.flags["r"]), "", "a rewrite rule redirects", x.d), true
		case x.to == "-" && x.has("s"):
			skip, _ = strconv.Atoi(x.flags["s"])
		case x.to == "-" && !x.has("h") && !x.has("n") && !x.has("t") && !x.has("p"):
			if x.has("l") || x.has("end") {
				return v, false
			}
		case strings.Contains(x.to, "://"):
			return configured(302, "", "a rewrite rule redirects", x.d), true
		default:
			return inDoubt("a rewrite rule maps it to something else", x.d), true
		}
	}
	return v, false
}

func redirectStatus(s string) int {
	switch strings.ToLower(s) {
	case "", "temp":
		return 302
	case "permanent":
		return 301
	case "seeother":
		return 303
	case "gone":
		return 410
	}
	if n, err := strconv.Atoi(s); err == nil && n >= 100 && n < 600 {
		return n
	}
	return 302
}

// holds decides a condition, as far as an existing entry and a plain request tell.
func (c *rewriteCond) holds(s subject) maybe {
	out := unsure
	value, known := c.value(s)
	switch {
	case c.pattern == "-f" && requestFile(c.test):
		out = truth(s.kind == rightful.KindFile)
	case c.pattern == "-d" && requestFile(c.test):
		out = truth(s.kind == rightful.KindDir)
	case (c.pattern == "-l" || c.pattern == "-h" || c.pattern == "-L") && requestFile(c.test):
		out = unsure
	case !known || strings.HasPrefix(c.pattern, "-"):
	case strings.HasPrefix(c.pattern, "="):
		want := strings.Trim(c.pattern[1:], `"`)
		out = truth(value == want || c.fold && strings.EqualFold(value, want))
	case c.re != nil:
		out = truth(c.re.MatchString(value))
	}
	if c.not {
		return out.not()
	}
	return out
}

// value expands the test string where it is one of the variables that a request for an entry fixes.
func (c *rewriteCond) value(s subject) (string, bool) {
	switch strings.ToUpper(c.test) {
	case "%{REQUEST_URI}", "%{SCRIPT_NAME}":
		return s.uri, true
	case "%{REQUEST_FILENAME}", "%{SCRIPT_FILENAME}":
		return s.file, true
	case "%{QUERY_STRING}", "%{HTTP_REFERER}", "%{HTTP_COOKIE}", "%{REMOTE_USER}":
		return "", true
	case "%{REQUEST_METHOD}":
		return "GET", true
	case "%{HTTPS}":
		return map[bool]string{true: "on", false: "off"}[s.https], true
	case "%{REQUEST_SCHEME}":
		return map[bool]string{true: "https", false: "http"}[s.https], true
	case "%{HTTP_HOST}", "%{SERVER_NAME}":
		return s.host, s.host != ""
	case "%{ENV:REDIRECT_STATUS}":
		return "", true
	case "%{THE_REQUEST}":
		return "", false
	}
	return c.test, !strings.ContainsAny(c.test, "%$")
}
