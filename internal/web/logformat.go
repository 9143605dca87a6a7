package web

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// A LogFormat is a form of lines that a configuration defines.
type LogFormat struct {
	re     *regexp.Regexp
	groups map[string]int
	access bool
}

// ErrorFormat reads Apache's ErrorLogFormat (core.html#errorlogformat). Words between spaces are left out of a line
// where their item has nothing to say; "\ " is a space that is part of a word, "% " one that is not printed.
func ErrorFormat(format string) (*LogFormat, error) {
	var b strings.Builder
	b.WriteString("^")
	rest := strings.ReplaceAll(format, "% ", "\x00")
	for rest != "" {
		// One word, and the space after it.
		var word strings.Builder
		items := false
		gap := ""
		for rest != "" && gap == "" {
			switch c := rest[0]; {
			case c == '\\' && len(rest) > 1:
				word.WriteString(regexp.QuoteMeta(rest[1:2]))
				rest = rest[2:]
			case c == ' ':
				gap, rest = " ", rest[1:]
			case c == 0:
				gap, rest = "(?:)", rest[1:]
			case c == '%':
				name, _, after := formatItem(rest[1:])
				word.WriteString(errorItem(name))
				items, rest = items || name != '%' && name != 'M', after
			default:
				word.WriteString(regexp.QuoteMeta(rest[:1]))
				rest = rest[1:]
			}
		}
		switch {
		case strings.Contains(word.String(), "<message>"):
			b.WriteString(word.String() + strings.ReplaceAll(gap, " ", " ?"))
		case items:
			b.WriteString("(?:" + word.String() + gap + ")?")
		default:
			b.WriteString(word.String() + gap)
		}
	}
	b.WriteString("$")
	return newFormat(b.String(), false, "message")
}

// AccessFormat reads Apache's LogFormat (mod_log_config), NginxFormat nginx's log_format.
func AccessFormat(format string) (*LogFormat, error) {
	var b strings.Builder
	b.WriteString("^")
	for rest := format; rest != ""; {
		switch {
		case rest[0] == '%' && len(rest) > 1:
			name, arg, after := formatItem(rest[1:])
			b.WriteString(accessItem(name, arg))
			rest = after
		case rest[0] == '\\' && len(rest) > 1:
			c := rest[1]
			if c == 't' {
				c = '\t'
			}
			b.WriteString(regexp.QuoteMeta(string(rune(c))))
			rest = rest[2:]
		default:
			b.WriteString(regexp.QuoteMeta(rest[:1]))
			rest = rest[1:]
		}
	}
	return newFormat(b.String(), true, "status")
}

// NginxFormat reads nginx's log_format.
func NginxFormat(format string) (*LogFormat, error) {
	var b strings.Builder
	b.WriteString("^")
	for rest := format; rest != ""; {
		i := strings.IndexByte(rest, '$')
		if i < 0 {
			b.WriteString(regexp.QuoteMeta(rest))
			break
		}
		b.WriteString(regexp.QuoteMeta(rest[:i]))
		name, braced := strings.CutPrefix(rest[i+1:], "{")
		n := strings.IndexFunc(name, func(r rune) bool {
			return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
		})
		if n < 0 {
			n = len(name)
		}
		if rest = name[n:]; braced {
			rest = strings.TrimPrefix(rest, "}")
		}
		item, ok := map[string]string{
			"status": `(?P<status>\d{3})`, "time_local": `(?P<time>[^\]"]*?)`, "time_iso8601": `(?P<time>[^\]" ]*?)`,
			"server_name": `(?P<name>[^ "]*?)`, "host": `(?P<name>[^ "]*?)`, "remote_addr": `(?P<client>[^ "]*?)`, "request": `(?P<request>.*?)`,
		}[name[:n]]
		if !ok {
			item = `.*?`
		}
		b.WriteString(item)
	}
	return newFormat(b.String(), true, "status")
}

// errUseless says that lines of a form do not tell what is looked for.
var errUseless = errors.New("read log format")

// newFormat compiles a form. Of an item that stands in it twice, the first counts.
func newFormat(re string, access bool, must string) (*LogFormat, error) {
	named := regexp.MustCompile(`\(\?P<(\w+)>`)
	seen := map[string]bool{}
	re = named.ReplaceAllStringFunc(re, func(g string) string {
		if seen[g] {
			return "(?:"
		}
		seen[g] = true
		return g
	})
	c, err := regexp.Compile("(?s)" + re)
	if err != nil {
		return nil, fmt.Errorf("read log format: %w", err)
	}
	f := &LogFormat{re: c, groups: map[string]int{}, access: access}
	for i, n := range c.SubexpNames() {
		f.groups[n] = i
	}
	if f.groups[must] == 0 {
		return nil, fmt.Errorf("%w: it does not hold the %s", errUseless, must)
	}
	return f, nil
}

// formatItem takes one item apart: flags and numbers, {argument}, letter.
func formatItem(s string) (name byte, arg, rest string) {
	s = strings.TrimLeft(s, "-+<>!,0123456789")
	if strings.HasPrefix(s, "{") {
		var ok bool
		if arg, s, ok = strings.Cut(s[1:], "}"); !ok {
			return 0, "", ""
		}
	}
	if strings.HasPrefix(s, "^") && len(s) > 2 {
		s = s[2:] // ^FB, ^ti, ^to
	}
	if s == "" {
		return 0, "", ""
	}
	return s[0], arg, s[1:]
}

const timeItem = `(?P<time>[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d [\d:.]+ \d{4}|\d{4}-\d\d-\d\d[ T][\d:.]+)`

func errorItem(name byte) string {
	switch name {
	case '%':
		return "%"
	case 't':
		return timeItem
	case 'M':
		return `(?P<message>.*?)`
	case 'E':
		return `(?P<errno>\(\d+\)[^:\]]*)`
	case 'm':
		return `(?P<module>[\w-]*)`
	case 'l':
		return `(?P<level>[\w-]*)`
	case 'v', 'V':
		return `(?P<name>[^ \]|]+)`
	case 'a':
		return `(?P<client>[0-9a-fA-F.:]+)`
	case 'L':
		return `[^ ]+`
	case 'F':
		return `[\w./-]+\(\d+\)`
	case 'P', 'T', 'k', 'p':
		return `[\d-]*`
	}
	return `.*?`
}

func accessItem(name byte, arg string) string {
	switch name {
	case '%':
		return "%"
	case 't':
		if arg == "" {
			return `\[(?P<time>[^\]]*)\]`
		}
	case 's':
		return `(?P<status>\d{3}|-)`
	case 'r':
		return `(?P<request>.*?)`
	case 'h', 'a':
		return `(?P<client>[^ "]*?)`
	case 'v', 'V':
		return `(?P<name>[^ ":]*?)`
	case 'i':
		if strings.EqualFold(arg, "Host") {
			return `(?P<name>[^ ":]*?)`
		}
	}
	return `.*?`
}
