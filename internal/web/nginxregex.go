package web

import (
	"bytes"
	"regexp"
	"regexp/syntax"
	"strings"
)

// ngxRegex is an expression of nginx's, which PCRE runs, for Go's engine: that one prefers the same alternatives, and what
// it does not know (look-around, references, possessive quantifiers) it refuses. PCRE sees bytes here and not characters,
// so pattern and subject are given to Go with each byte as one character.
type ngxRegex struct {
	re *regexp.Regexp // nil where Go cannot run it
	// Where one of some literals must be in the subject, it is looked for first; nearly every pattern of a location is
	// no more than that: "\.php$", "^/wp-admin/", "/\.ht".
	lits       []string
	fold       bool // literals are in lower case, and any case will do
	begin, end bool // they must stand there
	only       bool // nothing else must hold
	dollar     bool // PCRE's "$" matches before a last newline too, and its "\s" a vertical tab
}

// newNgxRegex compiles a pattern; a leading "(?i)" is added where fold is set.
func newNgxRegex(pattern string, fold bool) *ngxRegex {
	x := &ngxRegex{dollar: strings.Contains(pattern, "$") || strings.Contains(pattern, `\s`) || strings.Contains(pattern, `\S`)}
	p := latin(pattern)
	if fold {
		p = "(?i)" + p
	}
	re, err := regexp.Compile(p)
	if err != nil || fold && p != "(?i)"+pattern { // how PCRE folds letters beyond ASCII depends on its tables
		return x
	}
	x.re = re
	tree, err := syntax.Parse(p, syntax.Perl)
	if err == nil {
		x.literals(tree.Simplify())
	}
	return x
}

// latin makes each byte beyond ASCII a character of its own.
func latin(s string) string {
	for i := range len(s) {
		if s[i] >= 0x80 {
			r := make([]rune, len(s))
			for k := range len(s) {
				r[k] = rune(s[k])
			}
			return string(r)
		}
	}
	return s
}

// unlatin is the inverse of latin.
func unlatin(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 }) {
		return s
	}
	b := make([]byte, 0, len(s))
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}

// sure reports whether PCRE would agree about this subject.
func (x *ngxRegex) sure(subject []byte) bool {
	return x.re != nil && !(x.dollar && bytes.ContainsAny(subject, "\n\v"))
}

// match searches a subject that [ngxRegex.sure] vouches for. It allocates nothing for ASCII.
func (x *ngxRegex) match(subject []byte) bool {
	if x.lits != nil {
		hit := false
		for _, l := range x.lits {
			if hit = x.holds(subject, l); hit {
				break
			}
		}
		if !hit || x.only {
			return hit
		}
	}
	for _, c := range subject {
		if c >= 0x80 {
			return x.re.MatchString(latin(string(subject)))
		}
	}
	return x.re.Match(subject)
}

func (x *ngxRegex) holds(subject []byte, lit string) bool {
	at := func(i int) bool {
		if i < 0 || i+len(lit) > len(subject) {
			return false
		}
		for k := range len(lit) {
			c := subject[i+k]
			if x.fold && 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			if c != lit[k] {
				return false
			}
		}
		return true
	}
	switch {
	case x.begin && x.end:
		return len(subject) == len(lit) && at(0)
	case x.begin:
		return at(0)
	case x.end:
		return at(len(subject) - len(lit))
	case !x.fold:
		return bytes.Contains(subject, []byte(lit))
	}
	for i := range len(subject) - len(lit) + 1 {
		if at(i) {
			return true
		}
	}
	return false
}

// find gives the captures, nil where there is no match.
func (x *ngxRegex) find(subject string) []string {
	m := x.re.FindStringSubmatch(latin(subject))
	for i := range m {
		m[i] = unlatin(m[i])
	}
	return m
}

const maxLiterals = 64

// literals settles the short cut.
func (x *ngxRegex) literals(re *syntax.Regexp) {
	subs := []*syntax.Regexp{re}
	if re.Op == syntax.OpConcat {
		subs = re.Sub
	}
	if len(subs) > 0 && subs[0].Op == syntax.OpBeginText {
		x.begin, subs = true, subs[1:]
	}
	if n := len(subs); n > 0 && subs[n-1].Op == syntax.OpEndText {
		x.end, subs = true, subs[:n-1]
	}
	fold := folded(re)
	if all := spelled(subs); all != nil && (!fold || unfolded(re) == nil) {
		x.lits, x.fold, x.only = all, fold, true
	} else {
		// What stands at the end, or before something else, must be there.
		var tail []string
		if x.end {
			for i := len(subs) - 1; i >= 0; i-- {
				if t := spelled(subs[i:]); t == nil {
					break
				} else {
					tail = t
				}
			}
		}
		x.begin, x.end = false, tail != nil
		for i := 0; tail == nil && i < len(subs); i++ {
			tail = spelled(subs[i : i+1])
		}
		x.lits, x.fold = tail, fold
	}
	for i, l := range x.lits {
		if x.fold {
			x.lits[i] = strings.ToLower(l)
		}
		if l == "" || latin(l) != l {
			x.lits, x.only = nil, false // no short cut
			break
		}
	}
}

// spelled lists every string that a concatenation can match, or nil where there are too many.
func spelled(subs []*syntax.Regexp) []string {
	out := []string{""}
	for _, s := range subs {
		var next []string
		switch s.Op {
		case syntax.OpLiteral:
			next = []string{string(s.Rune)}
		case syntax.OpCapture, syntax.OpConcat:
			next = spelled(s.Sub)
		case syntax.OpQuest:
			if next = spelled(s.Sub); next != nil {
				next = append(next, "")
			}
		case syntax.OpAlternate:
			for i := range s.Sub {
				more := spelled(s.Sub[i : i+1])
				if more == nil {
					return nil
				}
				next = append(next, more...)
			}
		case syntax.OpCharClass:
			for i := 0; i+1 < len(s.Rune); i += 2 {
				if s.Rune[i+1]-s.Rune[i] >= maxLiterals {
					return nil
				}
				for r := s.Rune[i]; r <= s.Rune[i+1]; r++ {
					next = append(next, string(r))
				}
			}
		case syntax.OpEmptyMatch:
			next = []string{""}
		}
		if next == nil || len(out)*len(next) > maxLiterals {
			return nil
		}
		var both []string
		for _, o := range out {
			for _, n := range next {
				both = append(both, o+n)
			}
		}
		out = both
	}
	return out
}

// folded reports whether any part of a pattern disregards case.
func folded(re *syntax.Regexp) bool {
	if re.Op == syntax.OpLiteral && re.Flags&syntax.FoldCase != 0 {
		return true
	}
	for _, s := range re.Sub {
		if folded(s) {
			return true
		}
	}
	return false
}

// unfolded finds a literal part that minds case, or a class: beside folded ones, literals alone do not decide.
func unfolded(re *syntax.Regexp) *syntax.Regexp {
	if re.Op == syntax.OpLiteral && re.Flags&syntax.FoldCase == 0 && strings.ToLower(string(re.Rune)) != strings.ToUpper(string(re.Rune)) ||
		re.Op == syntax.OpCharClass {
		return re
	}
	for _, s := range re.Sub {
		if u := unfolded(s); u != nil {
			return u
		}
	}
	return nil
}
