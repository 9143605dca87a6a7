package panel

import (
	"strconv"
	"strings"

	"rightful/internal/tree"
)

// What the files of several panels have in common.

// readAccount reads a file that every account of a panel has. Without it the account is left over, or half made.
func (r *reader) readAccount(file, account string) (string, bool) {
	b, err := r.s.ReadFile(file, 64<<20)
	if err == nil {
		return string(b), true
	}
	i := Issue{File: file, Problem: Unreadable, Account: account, Msg: err.Error(), Fatal: true}
	if tree.IsNotExist(err) {
		i.Problem, i.Fatal, i.Msg = Leftover, false, "account "+quote(account)+" has no such file: left over, or not complete"
	}
	r.issue(i)
	return "", false
}

// words are the words of a file, one or more a line, in lower case: domains. A line that begins with # is a comment.
func words(text string) (out []string) {
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		if !strings.HasPrefix(line, "#") {
			out = append(out, strings.Fields(strings.ToLower(line))...)
		}
	}
	return out
}

// keyed reads "key: value" lines, whatever stands between the two, keys in lower case; the first of two counts.
func keyed(text, sep string) map[string]string {
	kv := map[string]string{}
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		k, v, ok := strings.Cut(line, sep)
		k = strings.ToLower(strings.TrimSpace(k))
		if !ok || k == "" || k[0] == '#' {
			continue
		}
		if _, twice := kv[k]; !twice {
			kv[k] = strings.TrimSpace(v)
		}
	}
	return kv
}

// yes reports whether a setting is on, in the words of any panel.
func yes(s string) bool {
	switch strings.ToLower(strings.Trim(s, `'" `)) {
	case "yes", "1", "on", "true", "y":
		return true
	}
	return false
}

func quote(s string) string { return strconv.Quote(s) }

// alias lets rules speak of a group by another name.
func (s *Server) alias(name string, gid uint32) {
	if s.Groups == nil {
		s.Groups = map[string]uint32{}
	}
	s.Groups[name] = gid
}
