package web

import (
	"fmt"
	"path"
	"strings"

	"rightful/internal/tree"
)

// ParseNginx splits one nginx configuration file into directives, without looking at includes. It follows
// ngx_conf_read_token (src/core/ngx_conf_file.c of 1.22): a word may begin with a quote of either kind and then ends with
// it; a backslash protects the next byte; a # begins a comment only where a word could begin; "${" opens no block.
// The entries of map, geo and types blocks are directives like any other. Blocks of Lua are passed over.
func ParseNginx(file, text string) ([]Directive, []Problem) {
	p := nginxParser{file: file, s: strings.TrimPrefix(text, "\ufeff"), line: 1}
	body, closed := p.block(0)
	if closed {
		p.problem(p.line, "} closes nothing here")
		for p.i < len(p.s) { // nginx would not start; what follows may still tell something
			more, again := p.block(0)
			body = append(body, more...)
			if !again {
				break
			}
		}
	}
	return body, p.problems
}

type nginxParser struct {
	file     string
	s        string
	i, line  int
	problems []Problem
}

func (p *nginxParser) problem(line int, format string, args ...any) {
	if len(p.problems) < maxProblems {
		p.problems = append(p.problems, Problem{File: p.file, Line: line, Msg: fmt.Sprintf(format, args...)})
	}
}

// maxProblems of one file are reported: a file that is no configuration at all would have one in each line.
const maxProblems = 100

// block reads directives up to the end of the block or file; closed tells which.
func (p *nginxParser) block(depth int) (body []Directive, closed bool) {
	for {
		words, line, end := p.directive()
		switch {
		case end == 0 && len(words) == 0:
			return body, false
		case end == '}' && len(words) == 0:
			return body, true
		case len(words) == 0:
			p.problem(line, "unexpected %q", string(end))
			if end == '{' {
				p.block(min(depth+1, maxNesting))
			}
			continue
		}
		d := Directive{Name: words[0], Args: words[1:], File: p.file, Line: line}
		switch end {
		case '{':
			d.Section = true
			start := p.line
			var done bool
			switch {
			case strings.HasSuffix(d.Name, "_by_lua_block"):
				done = p.lua()
			case depth == maxNesting:
				p.problem(line, "blocks are nested too deeply")
				done = p.skip()
			default:
				d.Body, done = p.block(depth + 1)
			}
			if !done {
				p.problem(start, "block %q is not closed", clip(d.Name))
			}
		case ';':
		default:
			p.problem(line, "directive %q does not end with ;", clip(d.Name))
			if end == '}' {
				return append(body, d), true
			}
		}
		body = append(body, d)
	}
}

// directive reads words up to what ends them: ';', '{', '}' or, as 0, the end of the file.
func (p *nginxParser) directive() (words []string, line int, end byte) {
	line = p.line
	for p.i < len(p.s) {
		switch c := p.s[p.i]; c {
		case '\n':
			p.line++
			fallthrough
		case ' ', '\t', '\r':
			p.i++
		case '#':
			for p.i < len(p.s) && p.s[p.i] != '\n' {
				p.i++
			}
		case ';', '{', '}':
			if len(words) == 0 {
				line = p.line
			}
			p.i++
			return words, line, c
		default:
			if len(words) == 0 {
				line = p.line
			}
			words = append(words, p.word())
		}
	}
	return words, line, 0
}

// word reads one word, quoted or not.
func (p *nginxParser) word() string {
	var quote byte
	line := p.line
	if c := p.s[p.i]; c == '"' || c == '\'' {
		quote = c
		p.i++
	}
	start := p.i
	for p.i < len(p.s) {
		c := p.s[p.i]
		switch {
		case c == '\\' && p.i+1 < len(p.s):
			if p.s[p.i+1] == '\n' {
				p.line++
			}
			p.i += 2
			continue
		case quote != 0 && c == quote:
			w := nginxUnescape(p.s[start:p.i])
			p.i++
			if p.i < len(p.s) && !strings.ContainsRune(" \t\r\n;{)", rune(p.s[p.i])) {
				p.problem(p.line, "unexpected %q after a quoted word", clip(p.s[p.i:p.i+1]))
			}
			return w
		case quote == 0 && c == '$' && p.i+1 < len(p.s) && p.s[p.i+1] == '{':
			p.i += 2
			continue
		case quote == 0 && strings.IndexByte(" \t\r\n;{", c) >= 0:
			return nginxUnescape(p.s[start:p.i])
		case c == '\n':
			p.line++
		}
		p.i++
	}
	p.i = len(p.s)
	if quote != 0 {
		p.problem(line, "quoted word is not closed")
	}
	return nginxUnescape(p.s[start:])
}

// nginxUnescape drops the backslash before quotes and backslashes, and gives \t, \r and \n; any other stays with its
// backslash (regular expressions need them).
func nginxUnescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			switch c := s[i+1]; c {
			case '"', '\'', '\\':
				i++
			case 't', 'r', 'n':
				b = append(b, map[byte]byte{'t': '\t', 'r': '\r', 'n': '\n'}[c])
				i++
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

// skip passes over the rest of a block without keeping it.
func (p *nginxParser) skip() bool {
	for open := 1; ; {
		switch _, _, end := p.directive(); end {
		case 0:
			return false
		case '{':
			open++
		case '}':
			if open--; open == 0 {
				return true
			}
		}
	}
}

// lua passes over a block of Lua: braces count outside its strings and comments.
func (p *nginxParser) lua() bool {
	open := 1
	for ; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; c {
		case '\n':
			p.line++
		case '{':
			open++
		case '}':
			if open--; open == 0 {
				p.i++
				return true
			}
		case '"', '\'':
			for p.i++; p.i < len(p.s) && p.s[p.i] != c && p.s[p.i] != '\n'; p.i++ {
				if p.s[p.i] == '\\' {
					p.i++
				}
			}
			p.i = min(p.i, len(p.s)-1)
			if p.s[p.i] == '\n' {
				p.line++
			}
		case '-':
			if strings.HasPrefix(p.s[p.i:], "--") {
				n := strings.IndexByte(p.s[p.i:], '\n')
				if n < 0 {
					p.i = len(p.s)
					return false
				}
				p.i += n - 1
			}
		}
	}
	return false
}

// nginxReader splices includes into one tree.
type nginxReader struct {
	s          *tree.Server
	c          *NginxConfig
	prefix     string // of relative includes: the directory of the main file
	parsed     map[string][]Directive
	includes   int
	directives int
	stopped    bool
}

func (r *nginxReader) problem(d *Directive, format string, args ...any) {
	r.c.Problems = append(r.c.Problems, Problem{File: d.File, Line: d.Line, Msg: fmt.Sprintf(format, args...)})
}

func (r *nginxReader) splice(out, ds []Directive, depth int) []Directive {
	for i := range ds {
		if r.stopped {
			return out
		}
		d := ds[i]
		if r.directives++; r.directives > maxDirectives {
			r.endless(&d)
			return out
		}
		if d.Name == "include" && !d.Section {
			out = r.include(out, &d, depth)
			continue
		}
		if d.Section {
			d.Body = r.splice(nil, ds[i].Body, depth)
		}
		out = append(out, d)
	}
	return out
}

func (r *nginxReader) endless(d *Directive) {
	if !r.stopped {
		r.problem(d, "configuration is endless: stopped here")
		r.stopped = true
	}
}

// include reads what a pattern of glob(3) matches, in order of bytes. A pattern may match nothing; a plain name may not.
func (r *nginxReader) include(out []Directive, d *Directive, depth int) []Directive {
	name := d.Arg(0)
	switch {
	case len(d.Args) != 1:
		r.problem(d, "include takes one name")
		return out
	case depth >= maxIncludeDepth:
		r.problem(d, "includes are nested too deeply")
		return out
	case !path.IsAbs(name):
		name = r.prefix + "/" + name
	}
	files := []string{path.Clean(name)}
	if strings.ContainsAny(name, `*?[`) {
		var err error
		// glob(3) negates a class with "!", path.Match with "^".
		if files, err = r.s.Glob(strings.ReplaceAll(files[0], "[!", "[^")); err != nil {
			r.problem(d, "pattern %q is not understood", clip(d.Arg(0)))
			return out
		}
	}
	r.includes++
	for _, f := range files {
		if r.includes++; r.includes > maxIncludes || depth >= deep && r.includes > maxDeepIncludes {
			r.endless(d)
			return out
		}
		out = r.splice(out, r.load(f, d), depth+1)
	}
	return out
}

// load parses a file once and records it.
func (r *nginxReader) load(name string, from *Directive) []Directive {
	if ds, ok := r.parsed[name]; ok {
		return ds
	}
	r.parsed[name] = nil
	b, err := r.s.ReadFile(name, maxFileSize)
	if err != nil {
		r.c.Problems = append(r.c.Problems, Problem{File: from.File, Line: from.Line, Msg: err.Error(), Unreadable: true})
		return nil
	}
	ds, problems := ParseNginx(name, string(b))
	r.c.Problems = append(r.c.Problems, problems...)
	r.c.Files = append(r.c.Files, name)
	r.parsed[name] = ds
	return ds
}
