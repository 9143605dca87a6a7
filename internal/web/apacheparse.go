package web

import (
	"strings"
)

// A Directive is one directive of a web server's configuration. The name of a section keeps no brackets; its Body holds
// what stands between the tags or braces.
type Directive struct {
	Name    string // as written; compare with [Directive.Is]: Apache's names have no case, nginx's have
	Args    []string
	Raw     string // the text of the arguments, for directives that read it differently and for variables
	File    string
	Line    int // of the first line, counted from 1
	Section bool
	Body    []Directive
}

// Is reports whether the directive of Apache's has that name.
func (d *Directive) Is(name string) bool { return strings.EqualFold(d.Name, name) }

// Arg is the argument with that index, or "".
func (d *Directive) Arg(i int) string {
	if i < len(d.Args) {
		return d.Args[i]
	}
	return ""
}

// A Problem is something in a configuration that could not be read or was not understood. The rest was read.
type Problem struct {
	File string
	Line int // 0 where it is about the whole file
	Msg  string
	// Unreadable is set where a file that the configuration wants was not read.
	Unreadable bool
}

// maxLine is Apache's own limit on a line, continuations included (VARBUF_MAX_LEN, server/util.c).
const maxLine = 16 << 20

// maxNesting bounds sections inside sections; Apache has no limit, real configurations need fewer than ten.
const maxNesting = 64

const tooNested = "sections are nested too deeply"

// ParseApache splits one configuration file into directives, without looking at includes, conditions or variables.
// It follows ap_cfg_getline and ap_build_config (server/util.c, server/config.c of 2.4): a backslash before the end of a
// line continues it, comments included; only a line that begins with # is a comment.
func ParseApache(file, text string) ([]Directive, []Problem) {
	p := apacheParser{file: file, rest: strings.TrimPrefix(text, "\ufeff")}
	body := p.section("", 0)
	return body, p.problems
}

type apacheParser struct {
	file     string
	rest     string
	line     int // lines consumed
	problems []Problem
}

func (p *apacheParser) problem(line int, msg string) {
	p.problems = append(p.problems, Problem{File: p.file, Line: line, Msg: msg})
}

// next returns the next directive's text and the line where it begins.
func (p *apacheParser) next() (text string, line int, ok bool) {
	for p.rest != "" {
		line = p.line + 1
		var parts []string
		size := 0
		for {
			var l string
			l, p.rest, _ = strings.Cut(p.rest, "\n")
			p.line++
			l = strings.TrimSuffix(l, "\r")
			more := strings.HasSuffix(l, `\`) && p.rest != ""
			if more {
				l = l[:len(l)-1]
			}
			parts = append(parts, l)
			size += len(l)
			if !more {
				break
			}
		}
		text = parts[0]
		if len(parts) > 1 {
			text = strings.Join(parts, "")
		}
		text = strings.Trim(text, " \t\v\f\r")
		if text == "" || text[0] == '#' {
			continue
		}
		if size > maxLine {
			p.problem(line, "line is longer than Apache accepts")
			continue
		}
		return text, line, true
	}
	return "", 0, false
}

// section reads directives up to the end tag of the section called name, or to the end of the file for "".
func (p *apacheParser) section(name string, depth int) (body []Directive) {
	start := p.line
	for {
		text, line, ok := p.next()
		if !ok {
			if name != "" {
				p.problem(start, "section <"+name+"> is not closed")
			}
			return body
		}
		if strings.HasPrefix(text, "</") {
			end := strings.TrimSpace(strings.TrimSuffix(text[2:], ">"))
			if name != "" && strings.EqualFold(end, name) {
				return body
			}
			p.problem(line, "</"+clip(end)+"> closes nothing here")
			continue
		}
		d := Directive{File: p.file, Line: line}
		if text[0] == '<' {
			d.Section = true
			text = text[1:]
			if i := strings.LastIndexByte(text, '>'); i >= 0 {
				text = text[:i]
			} else {
				p.problem(line, "section tag has no closing >")
			}
		}
		d.Name, d.Raw = cutWord(text)
		d.Args = splitArgs(d.Raw)
		if d.Section {
			if depth == maxNesting {
				p.problem(line, tooNested)
				p.skip(d.Name)
				continue
			}
			d.Body = p.section(d.Name, depth+1)
		}
		body = append(body, d)
	}
}

// skip passes over the rest of a section without keeping it.
func (p *apacheParser) skip(name string) {
	for open := 1; open > 0; {
		text, _, ok := p.next()
		switch {
		case !ok:
			return
		case strings.HasPrefix(text, "</") && strings.EqualFold(strings.TrimSuffix(text[2:], ">"), name):
			open--
		case text[0] == '<':
			if n, _ := cutWord(strings.TrimSuffix(text[1:], ">")); strings.EqualFold(n, name) {
				open++
			}
		}
	}
}

const blanks = " \t\v\f\r\n"

// cutWord takes the first word off a text as ap_getword_conf does: quotes of both kinds, in which a backslash protects
// the quote and itself.
func cutWord(s string) (word, rest string) {
	s = strings.TrimLeft(s, blanks)
	if s == "" {
		return "", ""
	}
	q := s[0]
	if q != '"' && q != '\'' {
		end := strings.IndexAny(s, blanks)
		if end < 0 {
			end = len(s)
		}
		return unescape(s[:end], 0), strings.TrimLeft(s[end:], blanks)
	}
	i := 1
	for i < len(s) && s[i] != q {
		if s[i] == '\\' && i+1 < len(s) && (s[i+1] == q || s[i+1] == '\\') {
			i++
		}
		i++
	}
	word = unescape(s[1:i], q)
	return word, strings.TrimLeft(s[min(i+1, len(s)):], blanks)
}

func unescape(s string, quote byte) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && (s[i+1] == '\\' || quote != 0 && s[i+1] == quote) {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}

func splitArgs(s string) (args []string) {
	for s != "" {
		var w string
		w, s = cutWord(s)
		args = append(args, w)
	}
	return args
}

// clip keeps a message readable whatever a file contains.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
