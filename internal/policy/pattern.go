package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// anchor is where a pattern starts. The order is the rank of anchors on the same directory, first wins.
type anchor uint8

const (
	anchorDocRoot anchor = iota
	anchorCGI
	anchorMaildir
	anchorParent
	anchorNested
	anchorHome
	anchors
)

var anchorNames = [anchors]string{"docroot", "cgi", "maildir", "docroot-parent", "nested", "home"}

// pattern is a path as a rule writes it.
type pattern struct {
	text   string
	anchor anchor
	comps  []comp
}

// key tells patterns that match the same apart from others; two spellings of one pattern may differ in it.
func (p pattern) key() string {
	_, rest := cutAnchor(p.text)
	return anchorNames[p.anchor] + "/" + strings.TrimPrefix(rest, "/")
}

// comp matches one component, or any number of them.
type comp struct {
	deep bool   // **
	alts []glob // otherwise: any of these
}

func (c *comp) match(name string) bool {
	for i := range c.alts {
		if c.alts[i].match(name) {
			return true
		}
	}
	return false
}

// maxAlts bounds the expansion of {a,b}{c,d}… in one component.
const maxAlts = 1024

func cutAnchor(s string) (anchor, string) {
	for i, n := range anchorNames {
		if rest, ok := strings.CutPrefix(s, "{"+n+"}"); ok {
			return anchor(i), rest
		}
	}
	return anchors, s
}

// parsePattern reads a path. An error says why it can never match.
func parsePattern(s string) (pattern, error) {
	p := pattern{text: s, anchor: anchorHome}
	if s == "" {
		return p, errors.New("is empty")
	}
	rest := s
	if a, r := cutAnchor(s); a != anchors {
		if r == "" {
			p.anchor = a
			return p, nil
		}
		if r[0] != '/' {
			return p, errors.New("a placeholder stands for whole components")
		}
		p.anchor, rest = a, r[1:]
	} else if s[0] == '{' {
		if end := strings.IndexByte(s, '}'); end < 0 || !strings.Contains(s[:end], ",") {
			return p, fmt.Errorf("unknown placeholder %q", s[:end+1])
		}
	}
	for _, part := range splitComps(rest) {
		switch part {
		case "":
			return p, errors.New("empty component")
		case ".", "..":
			return p, fmt.Errorf("component %q never occurs in a walk", part)
		case "**":
			if n := len(p.comps); n > 0 && p.comps[n-1].deep {
				return p, errors.New("** twice in a row")
			}
			p.comps = append(p.comps, comp{deep: true})
			continue
		}
		if strings.Contains(part, "**") {
			return p, errors.New("** stands alone between slashes")
		}
		words, err := expandBraces(part)
		if err != nil {
			return p, err
		}
		var c comp
		for _, w := range words {
			g, err := parseGlob(w)
			if err != nil {
				return p, err
			}
			c.alts = append(c.alts, g)
		}
		p.comps = append(p.comps, c)
	}
	return p, nil
}

// parseFixed reads a path below the home that is as deep as it says.
func parseFixed(s string) (pattern, error) {
	pt, err := parsePattern(s)
	if err == nil && (pt.anchor != anchorHome || len(pt.comps) == 0 || slices.ContainsFunc(pt.comps, func(c comp) bool { return c.deep })) {
		err = errors.New("is not a path below the home, component by component")
	}
	return pt, err
}

// begins reports whether a path, cut into components, is what the fixed pattern says or lies beneath that.
func (p *pattern) begins(parts []string) bool {
	if len(p.comps) > len(parts) {
		return false
	}
	for i := range p.comps {
		if !p.comps[i].match(parts[i]) {
			return false
		}
	}
	return true
}

func splitComps(s string) []string { return strings.Split(s, "/") }

// expandBraces gives every word of a{b,c}d: abd, acd. Escapes stay as they are.
func expandBraces(s string) ([]string, error) {
	open := -1
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '{':
			if open >= 0 {
				return nil, errors.New("braces within braces")
			}
			open = i
		case '}':
			if open < 0 {
				return nil, errors.New("} without {")
			}
			list := splitList(s[open+1 : i])
			if len(list) < 2 {
				return nil, fmt.Errorf("unknown placeholder %q", s[open:i+1])
			}
			tails, err := expandBraces(s[i+1:])
			if err != nil {
				return nil, err
			}
			if len(list)*len(tails) > maxAlts {
				return nil, fmt.Errorf("more than %d alternatives", maxAlts)
			}
			var out []string
			for _, w := range list {
				for _, t := range tails {
					out = append(out, s[:open]+w+t)
				}
			}
			return out, nil
		}
	}
	if open >= 0 {
		return nil, errors.New("{ without }")
	}
	return []string{s}, nil
}

// splitList cuts at commas that are not escaped.
func splitList(s string) []string {
	var out []string
	start := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case ',':
			out = append(out, s[start:i])
			start = i + 1
		}
	}
	return append(out, s[start:])
}

type globKind uint8

const (
	globLiteral globKind = iota // text
	globSuffix                  // *text
	globPrefix                  // text*
	globAny                     // *
	globMixed                   // anything else, in ops
)

// glob matches one name.
type glob struct {
	kind globKind
	text string
	ops  []globOp
}

// globOp is a literal byte, ? or *.
type globOp struct {
	c    byte
	wild byte // 0, '?' or '*'
}

func parseGlob(s string) (glob, error) {
	var ops []globOp
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '\\':
			i++
			if i == len(s) {
				return glob{}, errors.New(`\ at the end of a component`)
			}
			ops = append(ops, globOp{c: s[i]})
		case '?':
			ops = append(ops, globOp{wild: c})
		case '*':
			if n := len(ops); n == 0 || ops[n-1].wild != '*' {
				ops = append(ops, globOp{wild: c})
			}
		default:
			ops = append(ops, globOp{c: c})
		}
	}
	if len(ops) == 0 {
		return glob{}, errors.New("empty component")
	}
	literal := func(ops []globOp) (string, bool) {
		b := make([]byte, len(ops))
		for i, o := range ops {
			if o.wild != 0 {
				return "", false
			}
			b[i] = o.c
		}
		return string(b), true
	}
	if t, ok := literal(ops); ok {
		if t == "." || t == ".." || strings.ContainsAny(t, "/\x00") {
			return glob{}, fmt.Errorf("component %q never occurs in a walk", t)
		}
		return glob{kind: globLiteral, text: t}, nil
	}
	last := len(ops) - 1
	if ops[0].wild == '*' {
		if last == 0 {
			return glob{kind: globAny}, nil
		}
		if t, ok := literal(ops[1:]); ok {
			return glob{kind: globSuffix, text: t}, nil
		}
	}
	if ops[last].wild == '*' {
		if t, ok := literal(ops[:last]); ok {
			return glob{kind: globPrefix, text: t}, nil
		}
	}
	return glob{kind: globMixed, ops: ops}, nil
}

func (g *glob) match(name string) bool {
	switch g.kind {
	case globLiteral:
		return name == g.text
	case globSuffix:
		return strings.HasSuffix(name, g.text)
	case globPrefix:
		return strings.HasPrefix(name, g.text)
	case globAny:
		return true
	}
	// One * is enough to go back to: a later one makes every earlier choice irrelevant.
	i, j, star, mark := 0, 0, -1, 0
	for i < len(name) {
		switch {
		case j < len(g.ops) && g.ops[j].wild == '*':
			star, mark = j, i
			j++
		case j < len(g.ops) && (g.ops[j].wild == '?' || g.ops[j].wild == 0 && g.ops[j].c == name[i]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = mark, star+1
		default:
			return false
		}
	}
	for j < len(g.ops) && g.ops[j].wild == '*' {
		j++
	}
	return j == len(g.ops)
}
