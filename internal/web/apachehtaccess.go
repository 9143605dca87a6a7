package web

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/tree"
)

// Bounds of one .htaccess: Apache has none but the length of a line. More than this decides nothing with certainty.
const (
	maxHtaccess  = 1 << 20
	maxDirective = 20_000
	maxSections  = 500     // of those that are tried for each file
	keptHtaccess = 4 << 10 // what is kept for the next of the same content, in bytes
	keptCount    = 1024
)

// htaccess merges the access files of a directory into its settings, or says what refuses everything here and below: one
// that the worker cannot read (AH00529), or one that holds what it must not.
func (s *apacheScope) htaccess(in View) {
	for _, name := range s.h.access {
		if !s.set.overridable() {
			return
		}
		n, ok := in.Lstat(name)
		if !ok {
			continue
		}
		p := rightful.JoinPath(s.path(), name)
		if n.Kind == rightful.KindSymlink {
			if s.htaccessLink(in, name, p) {
				return
			}
			continue
		}
		if s.unreadable(&n, p) {
			return
		}
		b, err := in.Head(name, maxHtaccess+1)
		switch {
		case err != nil && tree.IsNotExist(err):
			continue
		case err != nil:
			s.doubt = p + " was not read: " + err.Error()
			return
		case len(b) > maxHtaccess:
			s.doubt = p + " is larger than what is looked at"
			return
		}
		if len(b) > 0 {
			s.mergeHtaccess(p, b)
		}
		return // the first that exists is the one
	}
}

// unreadable refuses everything where the worker cannot open an access file.
func (s *apacheScope) unreadable(n *Node, p string) bool {
	h := s.h
	switch {
	case n.Kind == rightful.KindFIFO && (h.free() || n.Meta.Allowed(h.Web, 4)):
		s.doubt = p + " is a FIFO: the worker waits for a writer"
	case n.Kind != rightful.KindFile:
		s.refuse(Verdict{Status: 403, Certain: true, Cause: CausePermission, Code: "AH00529", Culprit: p, Why: "it is not a regular file"})
	case !h.free() && !n.Meta.Allowed(h.Web, 4):
		v := h.lacks(403, "AH00529", p, h.web(), 4, "the web server cannot read it")
		s.refuse(v)
	default:
		return false
	}
	return true
}

// htaccessLink judges one that is a link: it is opened without regard to Options, and one that leads nowhere is as good
// as none. What it leads to is not read.
func (s *apacheScope) htaccessLink(in View, name, p string) (done bool) {
	steps, err := in.Follow(name)
	if at := s.h.stopped(steps, s.h.web()); at != nil && !s.h.free() {
		s.refuse(s.h.lacks(403, "AH00529", at.Path, s.h.web(), 1, "the web server cannot get to where .htaccess leads"))
		return true
	}
	if err != nil {
		if tree.IsNotExist(err) {
			return false
		}
		s.refuse(Verdict{Status: 403, Certain: tree.Refused(err) == tree.CauseLoop, Cause: CauseLink, Code: "AH00529", Culprit: p, Why: "it leads nowhere"})
		return true
	}
	last := steps[len(steps)-1]
	n := Node{Kind: last.Stat.Kind, Meta: last.Meta}
	if !s.unreadable(&n, last.Path) {
		s.doubt = p + " is a link: what it leads to is not read"
	}
	return true
}

// mergeHtaccess merges the text of an access file.
func (s *apacheScope) mergeHtaccess(p string, text []byte) {
	h := s.h
	if bytes.HasPrefix(text, []byte("\ufeff")) {
		// Apache takes it for the beginning of the first directive's name.
		s.configError(p, 1, "it begins with a byte order mark")
		return
	}
	dir := strings.TrimSuffix(s.mapped(), "/") + "/"
	sec := h.parsed[string(text)]
	if sec == nil { // what depends on where it stands is kept for that place
		sec = h.parsed[dir+"\x00"+string(text)]
	}
	if sec == nil {
		ds, problems := ParseApache(p, string(text))
		if len(problems) > 0 && problems[0].Msg == tooNested {
			s.doubt = "sections in " + p + " are nested deeper than is looked at"
			return
		}
		if len(problems) > 0 {
			s.configError(p, problems[0].Line, problems[0].Msg)
			return
		}
		c := htaccessCheck{h: h, set: s.set}
		ds = c.body(ds, 0)
		switch {
		case c.err != nil:
			var at *htaccessError
			if errors.As(c.err, &at) && at.unsure {
				s.doubt = at.Error()
				return
			}
			s.configError(p, c.line, c.err.Error())
			return
		case len(ds) == 0:
			return
		}
		sec = &section{body: ds, dir: dir}
		if len(text) <= keptHtaccess && len(h.parsed) < keptCount {
			key := string(text)
			if c.places {
				key = dir + "\x00" + key
			}
			h.parsed[key] = sec
		}
	}
	if s.set = s.set.with(h, sec); len(s.set.files)+len(s.set.ifs)+len(s.set.redirects) > maxSections {
		s.doubt = "there are too many sections in " + p
	}
}

func (s *apacheScope) configError(p string, line int, msg string) {
	s.refuse(Verdict{
		Status: 500, Certain: true, Cause: CauseConfigured, Code: "htaccess:config", Culprit: p, File: p, Line: line,
		Why: "the line is an error: " + clip(msg),
	})
}

// htaccessCheck goes through the directives of a .htaccess as Apache does when it reads one: conditions are decided, and
// the first directive that does not exist or is not allowed there is an error.
type htaccessCheck struct {
	h    *ApacheHost
	set  *settings
	n    int
	err  error
	line int
	// places: what it says depends on where it stands, or on what is allowed there.
	places bool
}

type htaccessError struct {
	msg    string
	unsure bool
}

func (e *htaccessError) Error() string { return e.msg }

func (c *htaccessCheck) fail(d *Directive, unsure bool, format string, args ...any) {
	c.err, c.line = &htaccessError{fmt.Sprintf(format, args...), unsure}, d.Line
}

func (c *htaccessCheck) body(ds []Directive, depth int) (out []Directive) {
	for i := range ds {
		d := ds[i]
		if c.n++; c.n > maxDirective {
			c.fail(&d, true, "there are too many directives in %s", d.File)
		}
		if c.err != nil {
			return nil
		}
		name := strings.ToLower(d.Name)
		switch name {
		case "ifmodule", "ifdefine", "ifversion", "iffile", "ifdirective", "ifsection":
			hold := c.h.condition(&d)
			if hold == unsure {
				c.fail(&d, true, "<%s> in %s: whether it holds is not known", d.Name, d.File)
				return nil
			}
			if hold == yes {
				out = append(out, c.body(d.Body, depth+1)...)
			}
			continue
		}
		if !c.allowed(name, &d) {
			if c.err != nil {
				return nil
			}
			continue // nonfatal
		}
		if strings.HasPrefix(name, "rewrite") || name == "files" || name == "filesmatch" || name == "if" {
			c.places = true
		}
		if d.Section {
			d.Body = c.body(d.Body, depth+1)
		}
		if c.err == nil {
			c.arguments(name, &d)
		}
		out = append(out, d)
	}
	return out
}

// allowed reports whether a directive may stand in this .htaccess. Where it is an error, err is set; where it is only
// ignored, it is not.
func (c *htaccessCheck) allowed(name string, d *Directive) bool {
	k, known := htaccessDirectives[name]
	for i := range htaccessPrefixes {
		if p := &htaccessPrefixes[i]; !known && strings.HasPrefix(name, p.prefix) {
			k, known = p.htaccessKind, true
		}
	}
	tag := d.Name
	if d.Section {
		tag = "<" + d.Name
	}
	switch {
	case serverDirectives[name]:
		c.fail(d, false, "%s not allowed here", clip(tag))
		return false
	case known && (k.module == "" || c.h.hasModule(k.module)):
	case c.set.nonfatal&nonfatalUnknown != 0:
		return false
	default:
		unsure := !known && c.h.strangers()
		c.fail(d, unsure, "Invalid command '%s'", clip(d.Name))
		return false
	}
	set := c.set
	if set.override != allowAll || set.optionsIn != 0 || len(set.list) > 0 {
		c.places = true
	}
	if slices.Contains(set.list, name) || k.class&set.override != 0 {
		if name == "options" && set.optionsIn != 0 && !slices.Contains(set.list, name) {
			for _, a := range d.Args {
				o := optionNames[strings.ToLower(strings.TrimLeft(a, "+-"))]
				if o&^set.optionsIn != 0 {
					c.fail(d, false, "Option %s not allowed here", clip(a))
					return false
				}
			}
		}
		return true
	}
	if k.class&set.nonfatal != 0 {
		return false
	}
	c.fail(d, false, "%s not allowed here", clip(tag))
	return false
}

// arguments finds the errors in arguments that people make.
func (c *htaccessCheck) arguments(name string, d *Directive) {
	need := 1
	switch name {
	case "rewriterule", "rewritecond", "addhandler", "addtype", "action":
		need = 2
	case "limit", "limitexcept", "requireall", "requireany", "requirenone", "else", "indexignorereset":
		return
	case "allow", "deny":
		if !strings.EqualFold(d.Arg(0), "from") {
			c.fail(d, false, "allow and deny must be followed by 'from'")
		}
		need = 2
	case "options":
		// As set_options (server/core.c) goes through them: signs may follow a first All or None.
		signs, whole := false, false
		for i, a := range d.Args {
			sign := strings.HasPrefix(a, "+") || strings.HasPrefix(a, "-")
			name := strings.ToLower(strings.TrimLeft(a, "+-"))
			_, ok := optionNames[name]
			all := name == "all" || name == "none"
			switch {
			case sign && !signs && i > 0 && !whole, !sign && signs:
				c.fail(d, false, "Either all Options must start with + or -, or no Option may.")
			case !ok:
				c.fail(d, false, "Illegal option %s", clip(a))
			case all && (i > 0 || sign):
				c.fail(d, false, "%s must be the first option, without a sign", clip(a))
			}
			signs, whole = signs || sign, whole || all
		}
	case "rewriteengine":
		if !strings.EqualFold(d.Arg(0), "on") && !strings.EqualFold(d.Arg(0), "off") {
			c.fail(d, false, "RewriteEngine must be On or Off")
		}
	case "order":
		switch strings.ToLower(d.Arg(0)) {
		case "allow,deny", "deny,allow", "mutual-failure":
		default:
			c.fail(d, false, "unknown order")
		}
	}
	if c.err == nil && len(d.Args) < need {
		c.fail(d, !slices.Contains(strict[:], name), "%s takes more arguments", clip(d.Name))
	}
}

// strict directives are known to be an error without arguments.
var strict = [...]string{"rewriterule", "rewritecond", "addhandler", "action", "options", "allow", "deny", "require", "redirect", "sethandler", "files", "filesmatch", "directoryindex"}

// condition decides <IfModule> and its kin as the server would.
func (h *ApacheHost) condition(d *Directive) maybe {
	arg := d.Arg(0)
	not := strings.HasPrefix(arg, "!")
	arg = strings.TrimPrefix(arg, "!")
	out := unsure
	switch strings.ToLower(d.Name) {
	case "ifmodule":
		out = truth(h.hasModule(arg))
	case "ifdefine":
		out = truth(h.Config.defined[strings.ToLower(arg)])
	case "iffile":
		if _, err := h.Server.Stat(h.Config.abs(arg)); err == nil || tree.IsNotExist(err) {
			out = truth(err == nil)
		}
	case "ifversion":
		e := evaluator{c: &ApacheConfig{}}
		hold := e.version(d)
		if len(e.c.Problems) > 0 {
			return unsure
		}
		return truth(hold)
	}
	if not {
		return out.not()
	}
	return out
}

// hasModule reports whether the server has a module, by its source name or identifier. One that loads none has all of
// them built in.
func (h *ApacheHost) hasModule(name string) bool {
	if len(h.Config.Modules) == 0 {
		return true
	}
	e := evaluator{c: h.Config, builtin: builtinModules}
	if name == "mod_php.c" || name == "php_module" {
		return h.php
	}
	return e.hasModule(name)
}

// builtinModules are compiled in on Debian and elsewhere, and not loaded.
var builtinModules = map[string]bool{
	"core_module": true, "so_module": true, "http_module": true, "unixd_module": true, "log_config_module": true,
	"version_module": true, "logio_module": true, "watchdog_module": true,
}

// strangers reports whether a module is loaded whose directives are not in the table.
func (h *ApacheHost) strangers() bool {
	if len(h.Config.Modules) == 0 {
		return true
	}
	for m := range h.Config.Modules {
		if _, ok := knownModules[strings.TrimSuffix(m, "_module")]; !ok && !strings.HasPrefix(m, "php") {
			return true
		}
	}
	return false
}
