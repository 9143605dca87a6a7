package web

import (
	"regexp"
	"regexp/syntax"
	"strings"
)

// lookAhead is a pattern with one look-ahead, "before(?!ahead)after", which Go's engine does not know and every other panel's
// template has: location ~ /\.(?!well-known). Where what stands before is of one length, all places at which it matches
// can be tried, and so the answer is PCRE's.
type lookAhead struct {
	before, ahead, after *regexp.Regexp // each holds where it is tried
	rest                 *lookAhead     // in place of after, where there is another
	length               int            // bytes of what stands before
	begin                bool           // that must be the beginning
	not                  bool
}

// newLookAhead takes a pattern apart; nil where it has no look-ahead, or one that is not so simple.
func newLookAhead(pattern, flags string) *lookAhead {
	start, end := findLookAhead(pattern)
	if start < 0 {
		return nil
	}
	l := &lookAhead{not: pattern[start+2] == '!'}
	before := pattern[:start]
	if before, l.begin = strings.CutPrefix(before, "^"); looksBack(before) || looksBack(pattern[start+3:]) {
		return nil
	}
	tree, err := syntax.Parse(flags+before, syntax.Perl)
	if err != nil {
		return nil
	}
	var ok bool
	if l.length, ok = fixedLength(tree); !ok {
		return nil
	}
	here := func(p string) *regexp.Regexp {
		re, e := regexp.Compile(flags + `\A(?:` + p + `)`)
		if e != nil {
			err = e
		}
		return re
	}
	l.before, l.ahead = here(before), here(pattern[start+3:end])
	if after := pattern[end+1:]; strings.Contains(after, "(?=") || strings.Contains(after, "(?!") {
		if l.rest = newLookAhead(after, flags); l.rest == nil {
			return nil
		}
	} else {
		l.after = here(after)
	}
	if err != nil {
		return nil
	}
	return l
}

// findLookAhead finds the first look-ahead, from its "(" to its ")", if it stands in no group or alternative.
func findLookAhead(p string) (start, end int) {
	start, depth, class := -1, 0, false
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case c == '\\':
			i++
		case class:
			class = c != ']' || p[i-1] == '[' || p[i-1] == '^' && p[i-2] == '['
		case c == '[':
			class = true
		case c == '|' && depth == 0:
			return -1, 0
		case c == '(':
			if depth == 0 && start < 0 && (strings.HasPrefix(p[i:], "(?!") || strings.HasPrefix(p[i:], "(?=")) {
				start = i
			}
			depth++
		case c == ')':
			if depth--; depth == 0 && start >= 0 && end == 0 {
				end = i
			}
		}
	}
	if depth != 0 || class || end == 0 || strings.HasPrefix(p[end+1:], "*") || strings.HasPrefix(p[end+1:], "+") || strings.HasPrefix(p[end+1:], "?") ||
		strings.HasPrefix(p[end+1:], "{") {
		return -1, 0
	}
	return start, end
}

// fixedLength gives the length of whatever a pattern matches, if that is always the same.
func fixedLength(re *syntax.Regexp) (n int, ok bool) {
	switch re.Op {
	case syntax.OpLiteral:
		return len(re.Rune), true
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return 1, true
	case syntax.OpEmptyMatch, syntax.OpBeginText:
		return 0, true
	case syntax.OpCapture:
		return fixedLength(re.Sub[0])
	case syntax.OpConcat:
		for _, s := range re.Sub {
			m, ok := fixedLength(s)
			if !ok {
				return 0, false
			}
			n += m
		}
		return n, true
	}
	return 0, false
}

// match tries every place of the subject, in which each byte is one character.
func (l *lookAhead) match(subject []rune) bool {
	for i := 0; i+l.length <= len(subject); i++ {
		if l.at(subject, i) {
			return true
		}
	}
	return false
}

func (l *lookAhead) at(subject []rune, i int) bool {
	if i+l.length > len(subject) || l.begin && i > 0 || !l.before.MatchString(string(subject[i:i+l.length])) {
		return false
	}
	next := subject[i+l.length:]
	if l.ahead.MatchString(string(next)) == l.not {
		return false
	}
	if l.rest != nil {
		return l.rest.at(subject, i+l.length)
	}
	return l.after.MatchString(string(next))
}

// looksBack reports whether a part of a pattern may mean something by what stands before it, or changes the rules within.
func looksBack(p string) bool {
	for i := 0; i < len(p); i++ {
		switch {
		case p[i] == '\\':
			if i++; i < len(p) && (p[i] == 'b' || p[i] == 'B' || p[i] == 'A') {
				return true
			}
		case p[i] == '^' && (i == 0 || p[i-1] != '['):
			return true
		case strings.HasPrefix(p[i:], "(?") && !strings.HasPrefix(p[i:], "(?:") && !strings.HasPrefix(p[i:], "(?!") && !strings.HasPrefix(p[i:], "(?="):
			return true
		}
	}
	return false
}

// groups reports whether a pattern captures anything.
func groups(p string) bool {
	for i := 0; i < len(p); i++ {
		switch {
		case p[i] == '\\':
			i++
		case p[i] == '(' && !strings.HasPrefix(p[i:], "(?"):
			return true
		}
	}
	return false
}
