package web

import (
	"bytes"
	"regexp"
	"strings"
)

// ngxRegex is an expression of nginx's, which PCRE runs, for Go's engine: that one prefers the same alternatives, and what
// it does not know (look-behind, references, possessive quantifiers) it refuses. PCRE sees bytes here and not characters,
// so pattern and subject are given to Go with each byte as one character.
type ngxRegex struct {
	re    *regexp.Regexp // nil where Go cannot run it
	ahead *lookAhead     // in its place
	// catches: there is a group to capture, where re is nil.
	catches bool
	// plain: a few comparisons decide, as for nearly every pattern of a location ("\.php$", "^/wp-admin/", "/\.ht").
	plain   bool
	quick   matcher
	newline bool // PCRE's "$" matches before a last newline too, and its "\s" a vertical tab
}

func newNgxRegex(pattern string, fold bool) *ngxRegex {
	space := strings.Contains(strings.ToLower(pattern), `\s`)
	x := &ngxRegex{newline: space || strings.Contains(pattern, "$")}
	p := latin(pattern)
	ascii := p == pattern
	if fold {
		p = "(?i)" + p
	}
	re, err := regexp.Compile(p)
	if err != nil && ascii {
		x.ahead = newLookAhead(pattern, map[bool]string{true: "(?i)"}[fold])
		x.catches = groups(pattern)
	}
	if err != nil || fold && !ascii { // how PCRE folds letters beyond ASCII depends on its tables
		return x
	}
	x.re = re
	if ascii {
		x.quick = regexMatcher(p)
		x.plain = x.quick.sure && x.quick.re == nil && !space
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

// sure reports whether PCRE would agree about a match of this subject.
func (x *ngxRegex) sure(subject []byte) bool {
	return x.plain || x.finds(subject) || x.ahead != nil && !bytes.ContainsAny(subject, "\n\v")
}

// finds reports whether PCRE would agree about the captures too.
func (x *ngxRegex) finds(subject []byte) bool {
	return x.re != nil && !(x.newline && bytes.ContainsAny(subject, "\n\v"))
}

// match searches a subject that [ngxRegex.sure] vouches for. It allocates nothing for ASCII.
func (x *ngxRegex) match(subject []byte) bool {
	if x.ahead != nil {
		return x.ahead.match([]rune(latin(string(subject))))
	}
	for _, c := range subject {
		if c >= 0x80 && !(x.plain && !x.quick.fold) {
			return x.re.MatchString(latin(string(subject)))
		}
	}
	if x.plain {
		return x.quick.matches(subject)
	}
	return x.re.Match(subject)
}

// find gives the captures of a subject that [ngxRegex.finds] vouches for, nil where there is no match.
func (x *ngxRegex) find(subject string) []string {
	m := x.re.FindStringSubmatch(latin(subject))
	for i := range m {
		m[i] = unlatin(m[i])
	}
	return m
}

// groups reports whether there is anything to capture.
func (x *ngxRegex) groups() bool {
	if x.re == nil {
		return x.catches
	}
	return x.re.NumSubexp() > 0
}

// try gives the captures of a subject, nil where there is no match; ok is false where that cannot be told.
func (x *ngxRegex) try(subject string) (m []string, ok bool) {
	switch {
	case x.finds([]byte(subject)):
		return x.find(subject), true
	case !x.sure([]byte(subject)):
		return nil, false
	case !x.match([]byte(subject)):
		return nil, true
	}
	return []string{subject}, !x.groups()
}
