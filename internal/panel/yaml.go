package panel

import (
	"fmt"
	"strings"
)

// A node is a value of the part of YAML that panels write: scalars, block and flow lists and maps. The zero node is an
// absent value.
type node struct {
	scalar string
	items  []node
	fields map[string]node
}

// get is the scalar under a key, or "".
func (n node) get(key string) string { return n.fields[key].scalar }

// list gives the scalars of a list, or the keys' scalars of nothing else.
func (n node) list() (out []string) {
	for _, i := range n.items {
		if i.scalar != "" {
			out = append(out, i.scalar)
		}
	}
	return out
}

// A yamlError is the first line that was not understood. What stood before it was read.
type yamlError struct {
	line int
	msg  string
}

// parseYAML reads one document. It knows no anchors, tags or complex keys: panels write none, and a file that has them
// is better reported than half understood. Of a key that is there twice the last counts.
func parseYAML(text string) (node, *yamlError) {
	p := yamlParser{}
	n := 0
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		n++
		line = strings.TrimRight(line, "\r\n\t ")
		body := strings.TrimLeft(line, " ")
		switch {
		case body == "", body[0] == '#', strings.HasPrefix(line, "%"):
			continue
		case line == "---" && len(p.lines) == 0:
			continue
		case line == "---", line == "...":
			return p.document()
		case strings.HasPrefix(line, "--- "):
			if body = strings.TrimSpace(line[4:]); body == "" || body[0] == '#' {
				continue
			}
		case body[0] == '\t':
			return node{}, &yamlError{n, "line is indented with a tab"}
		}
		p.lines = append(p.lines, yamlLine{n, len(line) - len(strings.TrimLeft(line, " ")), body})
	}
	return p.document()
}

type yamlLine struct {
	n, indent int
	text      string
}

type yamlParser struct {
	lines []yamlLine
	i     int
	err   *yamlError
}

const maxYAMLDepth = 32

func (p *yamlParser) fail(format string, args ...any) {
	if p.err == nil {
		n := 0
		if p.i < len(p.lines) {
			n = p.lines[p.i].n
		} else if len(p.lines) > 0 {
			n = p.lines[len(p.lines)-1].n
		}
		p.err = &yamlError{n, fmt.Sprintf(format, args...)}
	}
}

func (p *yamlParser) document() (node, *yamlError) {
	if len(p.lines) == 0 {
		return node{}, nil
	}
	out := p.block(p.lines[0].indent, 0)
	if p.err == nil && p.i < len(p.lines) {
		p.fail("line does not belong to what is above it")
	}
	return out, p.err
}

// block reads a list or map whose lines begin at indent.
func (p *yamlParser) block(indent, depth int) (out node) {
	if depth > maxYAMLDepth {
		p.fail("values are nested too deeply")
		return out
	}
	for p.err == nil && p.i < len(p.lines) && p.lines[p.i].indent == indent {
		l := p.lines[p.i]
		if item, ok := listItem(l.text); ok {
			if out.fields != nil {
				return out
			}
			out.items = append(out.items, p.item(indent, item, depth))
			continue
		}
		key, value, ok := cutKey(l.text)
		if !ok {
			if out.fields == nil && out.items == nil {
				// A document that is one flow value or scalar.
				p.i++
				return p.value(l.text, indent-1, depth)
			}
			p.fail("line is not KEY: VALUE")
			return out
		}
		if out.items != nil {
			return out // the next key of the map that holds this list
		}
		if out.fields == nil {
			out.fields = map[string]node{}
		}
		p.i++
		out.fields[key] = p.value(value, indent, depth)
	}
	return out
}

func listItem(text string) (string, bool) {
	if text == "-" {
		return "", true
	}
	if strings.HasPrefix(text, "- ") {
		return strings.TrimLeft(text[2:], " "), true
	}
	return "", false
}

// item reads what follows a dash: a scalar, or a map that begins on the same line.
func (p *yamlParser) item(indent int, text string, depth int) node {
	l := &p.lines[p.i]
	if _, _, isMap := cutKey(text); isMap && text != "" && !strings.ContainsRune(`[{"'`, rune(text[0])) {
		// The map's own indent is where its first key stands.
		l.indent += len(l.text) - len(text)
		l.text = text
		return p.block(l.indent, depth+1)
	}
	p.i++
	return p.value(text, indent, depth)
}

// value reads what follows a colon or dash at indent: on the line, or on the deeper lines below.
func (p *yamlParser) value(text string, indent, depth int) node {
	text = strings.TrimSpace(text)
	if text == "" || text[0] == '#' {
		if p.i < len(p.lines) {
			next := p.lines[p.i]
			_, dash := listItem(next.text)
			// A list may stand at its key's own indent.
			if next.indent > indent || dash && next.indent == indent && !p.inList(indent) {
				return p.block(next.indent, depth+1)
			}
		}
		return node{}
	}
	if text[0] == '|' || text[0] == '>' {
		return node{scalar: p.more("", indent)}
	}
	if strings.ContainsRune("&*!@`", rune(text[0])) {
		p.i--
		p.fail("value begins with %q, which is not read", text[:1])
		return node{}
	}
	if text[0] == '[' || text[0] == '{' {
		f := flow{s: p.more(text, indent)}
		v := f.value(depth)
		f.blanks()
		if f.bad || f.i < len(f.s) && f.s[f.i] != '#' {
			p.i = max(p.i-1, 0)
			p.fail("list or map in brackets is not understood")
		}
		return v
	}
	if text[0] == '"' || text[0] == '\'' {
		f := flow{s: p.more(text, indent)}
		v := f.value(depth)
		f.blanks()
		if f.bad || f.i < len(f.s) && f.s[f.i] != '#' {
			p.i = max(p.i-1, 0)
			p.fail("quoted value is not understood")
		}
		return v
	}
	return node{scalar: plain(p.more(cutComment(text), indent))}
}

// inList reports whether the line just read was itself an item at indent, so that a dash there is its neighbour.
func (p *yamlParser) inList(indent int) bool {
	l := p.lines[p.i-1]
	_, dash := listItem(l.text)
	return dash && l.indent == indent
}

// more joins the deeper lines that continue a scalar.
func (p *yamlParser) more(text string, indent int) string {
	if p.i >= len(p.lines) || p.lines[p.i].indent <= indent {
		return text
	}
	parts := []string{}
	if text != "" {
		parts = append(parts, text)
	}
	for p.i < len(p.lines) && p.lines[p.i].indent > indent {
		parts = append(parts, cutComment(p.lines[p.i].text))
		p.i++
	}
	return strings.Join(parts, " ")
}

func cutComment(s string) string {
	if i := strings.Index(s, " #"); i >= 0 {
		s = s[:i]
	}
	return strings.TrimSpace(s)
}

// plain gives the text of an unquoted scalar; YAML's ways to say nothing are "".
func plain(s string) string {
	switch s {
	case "~", "null", "Null", "NULL":
		return ""
	}
	return s
}

// cutKey splits KEY: VALUE; the key may be quoted, and a colon counts only before a blank or at the end.
func cutKey(s string) (key, value string, ok bool) {
	if s == "" {
		return "", "", false
	}
	if s[0] == '"' || s[0] == '\'' {
		f := flow{s: s}
		k := f.value(0)
		f.blanks()
		if f.bad || f.i >= len(s) || s[f.i] != ':' || f.i+1 < len(s) && s[f.i+1] != ' ' {
			return "", "", false
		}
		return k.scalar, s[f.i+1:], true
	}
	if s[0] == '[' || s[0] == '{' {
		return "", "", false
	}
	if strings.HasSuffix(s, ":") && !strings.Contains(s, ": ") {
		return s[:len(s)-1], "", true
	}
	key, value, ok = strings.Cut(s, ": ")
	return strings.TrimSpace(key), value, ok
}

// flow reads values in brackets and quotes.
type flow struct {
	s   string
	i   int
	bad bool
}

func (f *flow) blanks() {
	for f.i < len(f.s) && (f.s[f.i] == ' ' || f.s[f.i] == '\t') {
		f.i++
	}
}

func (f *flow) value(depth int) node {
	f.blanks()
	if f.i >= len(f.s) || depth > maxYAMLDepth {
		f.bad = true
		return node{}
	}
	switch f.s[f.i] {
	case '[', '{':
		return f.collection(f.s[f.i] == '{', depth)
	case '"', '\'':
		return node{scalar: f.quoted(f.s[f.i])}
	}
	start := f.i
	for f.i < len(f.s) && !strings.ContainsRune(",]}", rune(f.s[f.i])) {
		if f.s[f.i] == ':' && (f.i+1 == len(f.s) || f.s[f.i+1] == ' ') {
			break
		}
		f.i++
	}
	return node{scalar: plain(strings.TrimSpace(f.s[start:f.i]))}
}

func (f *flow) collection(isMap bool, depth int) (out node) {
	end := byte(']')
	if isMap {
		end = '}'
		out.fields = map[string]node{}
	}
	f.i++
	for !f.bad {
		f.blanks()
		if f.i >= len(f.s) {
			f.bad = true
			return out
		}
		if f.s[f.i] == end {
			f.i++
			return out
		}
		v := f.value(depth + 1)
		f.blanks()
		if isMap {
			if f.i >= len(f.s) || f.s[f.i] != ':' {
				f.bad = true
				return out
			}
			f.i++
			out.fields[v.scalar] = f.value(depth + 1)
			f.blanks()
		} else {
			out.items = append(out.items, v)
		}
		switch {
		case f.i < len(f.s) && f.s[f.i] == ',':
			f.i++
		case f.i >= len(f.s) || f.s[f.i] != end:
			f.bad = true
		}
	}
	return out
}

func (f *flow) quoted(q byte) string {
	var b strings.Builder
	for f.i++; f.i < len(f.s); f.i++ {
		c := f.s[f.i]
		switch {
		case c == q && q == '\'' && f.i+1 < len(f.s) && f.s[f.i+1] == q:
			f.i++
		case c == q:
			f.i++
			return b.String()
		case c == '\\' && q == '"' && f.i+1 < len(f.s):
			f.i++
			c = f.s[f.i]
			switch c {
			case 'n':
				c = '\n'
			case 't':
				c = '\t'
			case '"', '\\', '/', ' ':
			default:
				f.bad = true
			}
		}
		b.WriteByte(c)
	}
	f.bad = true
	return b.String()
}
