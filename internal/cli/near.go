package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"rightful/internal/term"

	"github.com/spf13/cobra"
)

// near gives up to three of names that word may have been meant to be: within two edits, or a third of the word's
// length if that is less; nearest first.
func near(word string, names []string) []string {
	type hit struct {
		name string
		d    int
	}
	var hits []hit
	limit := min(2, max(1, len(word)/3))
	for _, n := range names {
		if d := distance(word, n); d <= limit || len(word) > 2 && strings.HasPrefix(n, word) {
			hits = append(hits, hit{n, d})
		}
	}
	slices.SortStableFunc(hits, func(x, y hit) int {
		if x.d != y.d {
			return x.d - y.d
		}
		return strings.Compare(x.name, y.name)
	})
	var out []string
	for _, h := range hits[:min(3, len(hits))] {
		out = append(out, h.name)
	}
	return out
}

// distance is the number of single-byte insertions, deletions, replacements and swaps of neighbours between a and b
// (optimal string alignment).
func distance(a, b string) int {
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}

// unknown is the error for a word that names none of what there is: exit 2, with the nearest names as hints.
func unknown(what, word string, names []string, command ...string) error {
	var hints []string
	for _, n := range near(word, names) {
		hints = append(hints, term.Command(append(slices.Clone(command), n)...))
	}
	return fail(exitUsage, fmt.Errorf("unknown %s %q", what, word), hints...)
}

// mistyped is unknown for a word that was typed as an argument, or as one of several with commas between them: the hints
// are what was typed, with the near name in its place.
func (a *app) mistyped(what, word string, names []string) error {
	var hints []string
	for _, n := range near(word, names) {
		args, found := slices.Clone(a.env.Args), false
		for i, arg := range args {
			flag, list := "", arg
			if k, v, ok := strings.Cut(arg, "="); ok && strings.HasPrefix(k, "-") {
				flag, list = k+"=", v
			}
			words := strings.Split(list, ",")
			if k := slices.IndexFunc(words, func(w string) bool { return strings.TrimSpace(w) == word }); k >= 0 && !found {
				words[k], found = strings.Replace(words[k], word, n, 1), true
				args[i] = flag + strings.Join(words, ",")
			}
		}
		if found {
			hints = append(hints, term.Command(append([]string{"rightful"}, args...)...))
		}
	}
	return fail(exitUsage, fmt.Errorf("unknown %s %q", what, word), hints...)
}

func unknownVerb(cmd *cobra.Command, word string) error {
	var names []string
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	return orHint(unknown("verb", word, names, strings.Fields(cmd.CommandPath())...), cmd.CommandPath()+" --help")
}

// orHint gives a failure that has no hint one.
func orHint(err error, hint string) error {
	if f, ok := errors.AsType[*failure](err); ok && len(f.hints) == 0 {
		f.hints = []string{hint}
	}
	return err
}
