// Package term is the way to a person: escaped names, aligned tables, a status line, a question.
//
// It knows that names are bytes chosen by customers. It promises that no byte of a name that went through [Quote],
// [Shell], [Line] or [Clean] can move a cursor, set a title or answer for the user, that quoting loses nothing ([Unquote] gives
// the bytes back), that columns line up by display width, and that one goroutine owns the terminal, so that the status
// line and other output never mix. It refuses to draw a status line where nobody looks, and to ask where nobody can
// answer. Colour only repeats what the text says.
package term

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// Quote gives a name as it may be shown. A name of printable characters is shown as it is, spaces included. Any other
// (control characters, escape sequences, direction marks, odd spaces, invalid UTF-8), and one that itself begins with
// $', becomes $'…' with \n, \t, \r, \\, \' and \xHH for every other byte, which bash reads back whatever its locale.
func Quote(s string) string {
	if printable(s) && !strings.HasPrefix(s, "$'") {
		return s
	}
	var b strings.Builder
	b.WriteString("$'")
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\\' || r == '\'':
			b.WriteByte('\\')
			b.WriteByte(byte(r))
		case shown(r, n):
			b.WriteString(s[:n])
		default:
			for i := range n {
				fmt.Fprintf(&b, `\x%02x`, s[i])
			}
		}
		s = s[n:]
	}
	b.WriteByte('\'')
	return b.String()
}

// Unquote gives the bytes that [Quote] was given.
func Unquote(s string) (string, error) {
	body, ok := strings.CutPrefix(s, "$'")
	if !ok {
		return s, nil
	}
	bad := func() (string, error) { return "", fmt.Errorf("read quoted name %q: not of the form $'…'", s) }
	body, ok = strings.CutSuffix(body, "'")
	if !ok {
		return bad()
	}
	var b strings.Builder
	for i := 0; i < len(body); i++ {
		c := body[i]
		if c == '\'' {
			return bad()
		}
		if c != '\\' {
			b.WriteByte(c)
			continue
		}
		if i++; i == len(body) {
			return bad()
		}
		switch body[i] {
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case 'r':
			b.WriteByte('\r')
		case '\\', '\'':
			b.WriteByte(body[i])
		case 'x':
			if i+2 >= len(body) {
				return bad()
			}
			v, err := strconv.ParseUint(body[i+1:i+3], 16, 8)
			if err != nil {
				return bad()
			}
			b.WriteByte(byte(v))
			i += 2
		default:
			return bad()
		}
	}
	return b.String(), nil
}

// Shell gives a word that a shell reads back as s, for commands that are ready to paste. Names that [Quote] would
// escape need a shell that knows $'…' (bash, zsh, ksh, busybox).
func Shell(s string) string {
	const safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-"
	switch {
	case s == "":
		return "''"
	case strings.Trim(s, safe) == "":
		return s
	case printable(s):
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return Quote(s)
}

// Command joins words into a command that is ready to paste.
func Command(words ...string) string {
	q := make([]string, len(words))
	for i, w := range words {
		q[i] = Shell(w)
	}
	return strings.Join(q, " ")
}

// Clean makes running text harmless that may hold foreign bytes, such as the message of an error: newline and tab stay,
// anything else that is not printable becomes \xHH. It is not reversible; names are given to [Quote].
func Clean(s string) string {
	if printable(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == '\n' || r == '\t' || shown(r, n) {
			b.WriteString(s[:n])
		} else {
			for i := range n {
				fmt.Fprintf(&b, `\x%02x`, s[i])
			}
		}
		s = s[n:]
	}
	return b.String()
}

// Line is [Clean] for text that must stay on one line, so that a name cannot forge the next one.
func Line(s string) string {
	return strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(Clean(s))
}

func printable(s string) bool {
	for i := 0; i < len(s); {
		if c := s[i]; c >= ' ' && c < 0x7f {
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if !shown(r, n) {
			return false
		}
		i += n
	}
	return true
}

func shown(r rune, n int) bool { return unicode.IsPrint(r) && (r != utf8.RuneError || n > 1) }

// Width is the number of columns that s takes on a terminal: two for wide and fullwidth characters, none for combining
// marks (Unicode UAX #11, as golang.org/x/text/width has it).
func Width(s string) int {
	w := 0
	for _, r := range s {
		switch {
		case r >= ' ' && r < 0x7f:
			w++
		case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf, unicode.Cc):
		default:
			w++
			if k := width.LookupRune(r).Kind(); k == width.EastAsianWide || k == width.EastAsianFullwidth {
				w++
			}
		}
	}
	return w
}
