package web

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"rightful/internal/tree"
)

// Bounds of one evaluation. Apache gives up at the depth of 20 (AP_MAX_INCLUDE_DEPTH); the others only stop a
// configuration that includes itself in ever new ways.
const (
	maxIncludeDepth = 20
	maxFileSize     = 512 << 20
	maxIncludes     = 1_000_000
	maxDirectives   = 10_000_000
	// Only a configuration that includes itself is both deep and wide.
	deep            = 6
	maxDeepIncludes = 10_000
	// Variables and macro parameters can double at each step.
	maxExpanded = 64 << 20
)

// evaluator turns parsed files into the tree that Apache would act on: includes spliced in, conditions decided,
// variables replaced, macros expanded, all in the order of reading, as Apache does.
type evaluator struct {
	s          *tree.Server
	c          *ApacheConfig
	env        map[string]string // environment of the server, from envvars and sysconfig files
	defines    map[string]string // by lower-case name: apr tables have no case
	builtin    map[string]bool
	macros     map[string]*Directive
	parsed     map[string][]Directive
	includes   int
	deep       int
	expanded   int // bytes
	directives int
	stopped    bool
}

func (e *evaluator) problem(d *Directive, format string, args ...any) {
	e.c.Problems = append(e.c.Problems, Problem{File: d.File, Line: d.Line, Msg: fmt.Sprintf(format, args...)})
}

// load parses a file once and records it.
func (e *evaluator) load(name string, from *Directive) []Directive {
	if ds, ok := e.parsed[name]; ok {
		return ds
	}
	e.parsed[name] = nil
	b, err := e.s.ReadFile(name, maxFileSize)
	if err != nil {
		p := Problem{File: name, Msg: err.Error(), Unreadable: true}
		if from != nil {
			p.File, p.Line = from.File, from.Line
		}
		e.c.Problems = append(e.c.Problems, p)
		return nil
	}
	ds, problems := ParseApache(name, string(b))
	e.c.Problems = append(e.c.Problems, problems...)
	e.c.Files = append(e.c.Files, name)
	e.parsed[name] = ds
	return ds
}

// eval appends what ds amount to.
func (e *evaluator) eval(out, ds []Directive, depth int) []Directive {
	for i := range ds {
		if e.stopped {
			return out
		}
		if e.directives++; e.directives > maxDirectives {
			e.problem(&ds[i], "configuration is endless: stopped here")
			e.stopped = true
			return out
		}
		d := e.expand(ds[i])
		switch strings.ToLower(d.Name) {
		case "include", "includeoptional":
			out = e.include(out, &d, depth)
			continue
		case "ifmodule", "ifdefine", "ifversion", "iffile", "ifdirective", "ifsection":
			if e.holds(&d) {
				out = e.eval(out, ds[i].Body, depth)
			}
			continue
		case "define":
			e.defines[strings.ToLower(d.Arg(0))] = d.Arg(1)
		case "undefine":
			delete(e.defines, strings.ToLower(d.Arg(0)))
		case "serverroot":
			if a := d.Arg(0); path.IsAbs(a) {
				e.c.ServerRoot = path.Clean(a)
			}
		case "loadmodule":
			e.c.Modules[d.Arg(0)] = true
		case "macro":
			m := ds[i]
			e.macros[strings.ToLower(d.Arg(0))] = &m
			continue
		case "use":
			out = e.use(out, &d, depth)
			continue
		}
		if d.Section {
			d.Body = e.eval(nil, ds[i].Body, depth)
		}
		out = append(out, d)
	}
	return out
}

// expand replaces ${NAME} in a directive's arguments before they are split, as ap_resolve_env does. A value is not
// expanded again, and an unknown name stays as it is written.
func (e *evaluator) expand(d Directive) Directive {
	if !strings.Contains(d.Raw, "${") {
		return d
	}
	var b strings.Builder
	s := d.Raw
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			break
		}
		n := strings.IndexByte(s[i:], '}')
		if n < 0 {
			break
		}
		name := s[i+2 : i+n]
		v, ok := e.defines[strings.ToLower(name)]
		if !ok {
			v, ok = e.env[name]
		}
		if !ok {
			// Rewrite maps look the same, with a colon: ${lower:%{HTTP_HOST}}.
			if !strings.Contains(name, ":") {
				e.problem(&d, "variable ${%s} is not defined", clip(name))
			}
			v = s[i : i+n+1]
		}
		b.WriteString(s[:i])
		b.WriteString(v)
		s = s[i+n+1:]
		if b.Len() > maxLine/16 {
			e.problem(&d, "line is longer than any real one")
			return d
		}
	}
	b.WriteString(s)
	if !e.grow(&d, b.Len()) {
		return d
	}
	d.Raw = b.String()
	d.Args = splitArgs(d.Raw)
	return d
}

// relative makes a path absolute by ServerRoot.
func (e *evaluator) relative(p string) string {
	if !path.IsAbs(p) {
		p = e.c.ServerRoot + "/" + p
	}
	return path.Clean(p)
}

func (e *evaluator) include(out []Directive, d *Directive, depth int) []Directive {
	if depth >= maxIncludeDepth {
		e.problem(d, "includes are nested deeper than Apache accepts")
		return out
	}
	optional := d.Is("IncludeOptional")
	for _, arg := range d.Args {
		// A pattern that matches nothing costs as much as one that does.
		if e.endless(d, depth) {
			return out
		}
		name := e.relative(arg)
		if !strings.ContainsAny(name, `*?[`) {
			out = e.includePath(out, name, d, depth, optional)
			continue
		}
		// fnmatch negates a class with "!", path.Match with "^".
		found, err := e.s.Glob(strings.ReplaceAll(name, "[!", "[^"))
		if err != nil {
			e.problem(d, "pattern %q is not understood", clip(arg))
			continue
		}
		if len(found) == 0 && !optional {
			e.problem(d, "nothing matches %q", clip(arg))
		}
		for _, f := range found {
			out = e.includePath(out, f, d, depth, optional)
		}
	}
	return out
}

// includePath includes a file, or everything below a directory in order of names.
func (e *evaluator) includePath(out []Directive, name string, d *Directive, depth int, optional bool) []Directive {
	if e.endless(d, depth) {
		return out
	}
	if _, ok := e.parsed[name]; !ok {
		st, err := e.s.Stat(name)
		switch {
		case err != nil && optional && tree.IsNotExist(err):
			return out
		case err == nil && st.Kind.String() == "dir":
			if depth >= maxIncludeDepth {
				e.problem(d, "includes are nested deeper than Apache accepts")
				return out
			}
			names, err := e.s.ReadDir(name)
			if err != nil {
				e.c.Problems = append(e.c.Problems, Problem{File: d.File, Line: d.Line, Msg: err.Error(), Unreadable: true})
			}
			for _, n := range names {
				out = e.includePath(out, strings.TrimSuffix(name, "/")+"/"+n, d, depth+1, optional)
			}
			return out
		}
	}
	return e.eval(out, e.load(name, d), depth+1)
}

// grow counts replaced text, and stops everything when there is more than any real configuration has.
func (e *evaluator) grow(d *Directive, n int) bool {
	if e.expanded += n; e.expanded > maxExpanded && !e.stopped {
		e.problem(d, "configuration is endless: stopped here")
		e.stopped = true
	}
	return !e.stopped
}

// endless counts an include or macro, and stops everything when there are more than any real configuration has.
func (e *evaluator) endless(d *Directive, depth int) bool {
	e.includes++
	if depth >= deep {
		e.deep++
	}
	if !e.stopped && (e.includes > maxIncludes || e.deep > maxDeepIncludes) {
		e.problem(d, "configuration is endless: stopped here")
		e.stopped = true
	}
	return e.stopped
}

// use expands a macro of mod_macro: parameters are replaced as text, the longest name first.
func (e *evaluator) use(out []Directive, d *Directive, depth int) []Directive {
	m := e.macros[strings.ToLower(d.Arg(0))]
	switch {
	case m == nil:
		e.problem(d, "macro %q is not defined", clip(d.Arg(0)))
		return out
	case len(m.Args) != len(d.Args):
		e.problem(d, "macro %q takes %d arguments, not %d", clip(d.Arg(0)), len(m.Args)-1, len(d.Args)-1)
		return out
	case depth >= maxIncludeDepth:
		e.problem(d, "macros are nested too deeply")
		return out
	case e.endless(d, depth):
		return out
	}
	type param struct{ name, value string }
	var ps []param
	for i, name := range m.Args[1:] {
		if name != "" {
			ps = append(ps, param{name, d.Args[i+1]})
		}
	}
	slices.SortStableFunc(ps, func(a, b param) int { return len(b.name) - len(a.name) })
	var pairs []string
	for _, p := range ps {
		pairs = append(pairs, p.name, p.value)
	}
	return e.eval(out, e.substitute(m.Body, strings.NewReplacer(pairs...)), depth+1)
}

func (e *evaluator) substitute(ds []Directive, r *strings.Replacer) []Directive {
	out := slices.Clone(ds)
	for i := range out {
		if !e.grow(&out[i], len(out[i].Raw)) {
			return nil
		}
		out[i].Name = r.Replace(out[i].Name)
		out[i].Raw = r.Replace(out[i].Raw)
		if len(out[i].Raw) > maxLine/16 {
			e.problem(&out[i], "line is longer than any real one")
			out[i].Raw = ""
		}
		out[i].Args = splitArgs(out[i].Raw)
		out[i].Body = e.substitute(out[i].Body, r)
	}
	return out
}

// holds decides a condition that Apache decides while it reads.
func (e *evaluator) holds(d *Directive) bool {
	arg := d.Arg(0)
	not := strings.HasPrefix(arg, "!")
	arg = strings.TrimPrefix(arg, "!")
	switch strings.ToLower(d.Name) {
	case "ifmodule":
		return e.hasModule(arg) != not
	case "ifdefine":
		_, ok := e.defines[strings.ToLower(arg)]
		return ok != not
	case "iffile":
		e.includes++
		_, err := e.s.Stat(e.relative(arg))
		return (err == nil) != not
	case "ifversion":
		return e.version(d)
	}
	// Which directives the modules of that server bring is not known from its files.
	e.problem(d, "<%s %s> is taken to hold", d.Name, clip(d.Arg(0)))
	return !not
}

// moduleFiles are the source names by which <IfModule> knows modules that break the rule x_module = mod_x.c.
var moduleFiles = map[string]string{
	"core.c": "core_module", "http_core.c": "http_module",
	"prefork.c": "mpm_prefork_module", "worker.c": "mpm_worker_module", "event.c": "mpm_event_module",
	"mpm_itk.c": "mpm_itk_module", "itk.c": "mpm_itk_module",
}

func (e *evaluator) hasModule(name string) bool {
	id := name
	if f, ok := moduleFiles[name]; ok {
		id = f
	} else if x, ok := strings.CutSuffix(name, ".c"); ok {
		id = strings.TrimPrefix(x, "mod_") + "_module"
	}
	return e.c.Modules[id] || e.builtin[id]
}

// version decides <IfVersion>. The version of the binary is not in the configuration: any 2.4 is assumed, and a
// condition that would tell one 2.4 from another is reported.
func (e *evaluator) version(d *Directive) bool {
	op, want := "=", d.Arg(0)
	if len(d.Args) > 1 {
		op, want = d.Arg(0), d.Arg(1)
	}
	not := strings.HasPrefix(op, "!")
	op = strings.TrimPrefix(op, "!")
	if len(d.Args) == 1 {
		if not = strings.HasPrefix(want, "!"); not {
			want = want[1:]
		}
	}
	test := func(patch int) bool {
		have := []int{2, 4, patch}
		if op == "~" || strings.HasPrefix(want, "/") {
			re, err := regexp.Compile(strings.Trim(want, "/"))
			return err == nil && re.MatchString(fmt.Sprintf("2.4.%d", patch))
		}
		cmp := 0
		for i, f := range strings.Split(want, ".") {
			n, err := strconv.Atoi(f)
			if err != nil || i > 2 {
				break
			}
			if cmp == 0 {
				cmp = have[i] - n
			}
		}
		switch op {
		case "=", "==":
			return cmp == 0
		case ">":
			return cmp > 0
		case ">=":
			return cmp >= 0
		case "<":
			return cmp < 0
		case "<=":
			return cmp <= 0
		}
		return false
	}
	oldest, newest := test(1), test(62)
	if oldest != newest {
		e.problem(d, "<IfVersion %s>: the server's version is not known, 2.4.62 is assumed", clip(d.Raw))
	}
	return newest != not
}
