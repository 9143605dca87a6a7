package web

import (
	"bytes"
	"path"
	"regexp"
	"regexp/syntax"
	"strings"
)

// A matcher decides whether a name is one of those that <Files> or <FilesMatch> mean. The patterns of real configurations
// nearly all ask for an end, a beginning or the whole of a name, which costs a few comparisons; the others are tried as
// what they are.
type matcher struct {
	lits []string
	// begin, end: the literal must stand there. Both: it is the whole name, but for least bytes or more before it.
	begin, end bool
	least      int // bytes before the literal that there must be
	fold       bool
	// dollar: as in PCRE, the end may also be before a newline at the very end.
	dollar bool
	re     *regexp.Regexp
	glob   string
	// sure is false where the pattern cannot be tried here; it then matches nothing and everything.
	sure bool
}

func nameMatcher(d *Directive) matcher {
	pattern, regex := d.Arg(0), d.Is("FilesMatch")
	if pattern == "~" {
		pattern, regex = d.Arg(1), true
	}
	if !regex {
		return globMatcher(pattern)
	}
	return regexMatcher(pattern)
}

func globMatcher(pattern string) matcher {
	if !strings.ContainsAny(pattern, `*?[\`) {
		return matcher{lits: []string{pattern}, begin: true, end: true, sure: true}
	}
	inner := strings.TrimSuffix(pattern, "*")
	if !strings.ContainsAny(inner, `*?[\`) {
		return matcher{lits: []string{inner}, begin: true, sure: true}
	}
	inner = strings.TrimPrefix(pattern, "*")
	if !strings.ContainsAny(inner, `*?[\`) {
		return matcher{lits: []string{inner}, end: true, sure: true}
	}
	g := strings.ReplaceAll(pattern, "[!", "[^")
	_, err := path.Match(g, "")
	return matcher{glob: g, sure: err == nil}
}

// maxPattern bounds an expression that somebody else wrote, in bytes: what is longer is not understood.
const maxPattern = 4 << 10

// pattern compiles an expression of PCRE's, nil where it cannot be tried here.
func pattern(p string) *regexp.Regexp {
	if len(p) > maxPattern {
		return nil
	}
	re, _ := regexp.Compile(p)
	return re
}

func regexMatcher(pattern string) matcher {
	if len(pattern) > maxPattern {
		return matcher{}
	}
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return matcher{}
	}
	if m, ok := plain(re); ok {
		m.dollar = m.end
		return m
	}
	c, err := regexp.Compile(pattern)
	return matcher{re: c, sure: err == nil, dollar: strings.Contains(pattern, "$")}
}

// plain turns an expression into literals at the beginning, at the end or anywhere, if that is all it says.
func plain(re *syntax.Regexp) (matcher, bool) {
	m := matcher{sure: true}
	parts := flat(re)
	if n := len(parts); n > 0 && parts[0].Op == syntax.OpBeginText {
		m.begin, parts = true, parts[1:]
	}
	if n := len(parts); n > 0 && (parts[n-1].Op == syntax.OpEndText || parts[n-1].Op == syntax.OpEndLine) {
		m.end, parts = true, parts[:n-1]
	}
	if len(parts) > 0 {
		switch p := parts[0]; {
		case p.Op == syntax.OpStar && anyByte(p.Sub[0]):
			m.begin, parts = false, parts[1:]
		case p.Op == syntax.OpPlus && anyByte(p.Sub[0]):
			m.begin, m.least, parts = false, 1, parts[1:]
		}
	}
	if n := len(parts); n > 0 && parts[n-1].Op == syntax.OpStar && anyByte(parts[n-1].Sub[0]) && !m.end {
		parts = parts[:n-1]
	}
	lits := []string{""}
	m.fold = folds(re, true)
	if !m.fold && folds(re, false) {
		return m, false
	}
	for _, p := range parts {
		more, ok := literals(p)
		if !ok || len(lits)*len(more) > 64 {
			return m, false
		}
		lits = products(lits, more)
	}
	if m.least > 0 && m.begin {
		return m, false
	}
	if m.fold {
		for i := range lits {
			lits[i] = strings.ToLower(lits[i])
		}
	}
	m.lits = lits
	return m, true
}

func flat(re *syntax.Regexp) []*syntax.Regexp {
	switch re.Op {
	case syntax.OpConcat:
		var out []*syntax.Regexp
		for _, s := range re.Sub {
			out = append(out, flat(s)...)
		}
		return out
	case syntax.OpEmptyMatch:
		return nil
	}
	return []*syntax.Regexp{re}
}

func anyByte(re *syntax.Regexp) bool {
	return re.Op == syntax.OpAnyCharNotNL || re.Op == syntax.OpAnyChar
}

// folds reports whether all literals have no case, or with all unset, whether any has none.
func folds(re *syntax.Regexp, all bool) bool {
	if re.Op == syntax.OpLiteral {
		return re.Flags&syntax.FoldCase != 0 || all && strings.ToLower(string(re.Rune)) == strings.ToUpper(string(re.Rune))
	}
	if re.Op == syntax.OpCharClass && all {
		return re.Flags&syntax.FoldCase != 0
	}
	for _, s := range re.Sub {
		if folds(s, all) != all {
			return !all
		}
	}
	return all
}

// literals lists all that a part of an expression may stand for, where those are few.
func literals(re *syntax.Regexp) ([]string, bool) {
	switch re.Op {
	case syntax.OpLiteral:
		return []string{string(re.Rune)}, true
	case syntax.OpCapture:
		return literals(re.Sub[0])
	case syntax.OpEmptyMatch:
		return []string{""}, true
	case syntax.OpQuest:
		l, ok := literals(re.Sub[0])
		return append(l, ""), ok
	case syntax.OpCharClass:
		var out []string
		for i := 0; i < len(re.Rune); i += 2 {
			for r := re.Rune[i]; r <= re.Rune[i+1]; r++ {
				if out = append(out, string(r)); len(out) > 16 || r > 0x7f {
					return nil, false
				}
			}
		}
		return out, true
	case syntax.OpAlternate:
		var out []string
		for _, s := range re.Sub {
			l, ok := literals(s)
			if !ok {
				return nil, false
			}
			out = append(out, l...)
		}
		return out, true
	case syntax.OpConcat:
		out := []string{""}
		for _, s := range re.Sub {
			l, ok := literals(s)
			if !ok || len(out)*len(l) > 64 {
				return nil, false
			}
			out = products(out, l)
		}
		return out, true
	}
	return nil, false
}

func products(as, bs []string) (out []string) {
	for _, a := range as {
		for _, b := range bs {
			out = append(out, a+b)
		}
	}
	return out
}

// matches does not allocate.
func (m *matcher) matches(name []byte) bool {
	if m.try(name) {
		return true
	}
	n := len(name) - 1
	return m.dollar && n >= 0 && name[n] == '\n' && m.try(name[:n])
}

func (m *matcher) try(name []byte) bool {
	switch {
	case m.re != nil:
		return m.re.Match(name)
	case m.glob != "":
		ok, _ := path.Match(m.glob, string(name))
		return ok
	}
	for _, l := range m.lits {
		if m.one(l, name) {
			return true
		}
	}
	return false
}

func (m *matcher) one(l string, name []byte) bool {
	if len(name) < len(l)+m.least {
		return false
	}
	switch {
	case m.begin && m.end:
		return len(name) == len(l) && m.same(name, l)
	case m.end:
		return m.same(name[len(name)-len(l):], l)
	case m.begin:
		return m.same(name[:len(l)], l)
	case m.fold:
		return strings.Contains(strings.ToLower(string(name[m.least:])), l)
	}
	return bytes.Contains(name[m.least:], []byte(l))
}

func (m *matcher) same(b []byte, l string) bool {
	if string(b) == l {
		return true
	}
	if !m.fold {
		return false
	}
	for i := range b {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != l[i] {
			return false
		}
	}
	return true
}
