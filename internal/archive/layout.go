package archive

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// ErrLayout says that it is not known where in a source an account's entries are.
var ErrLayout = errors.New("it is not known where in it the account's entries are")

// An OtherAccountError says that a source is of another account.
type OtherAccountError struct{ Account string }

// Error names the account.
func (e *OtherAccountError) Error() string { return fmt.Sprintf("it is of the account %q", e.Account) }

// Layout finds out where the account's entries are: by what names itself so (a cPanel package), by the path of the home,
// by document roots, last by how many names exist in the live tree. exists asks that tree about a path below the home.
// owner is what the account was called in the source.
func (s *Survey) Layout(owner string, exists func(rel string) bool) (Layout, error) {
	l := &s.layout
	found, err := l.structure(owner)
	if err != nil {
		return Layout{}, err
	}
	if len(found.Places) == 0 {
		found = l.byNames(exists)
	}
	if len(found.Places) == 0 {
		return Layout{}, ErrLayout
	}
	hit, of := l.hits(found.Places, exists)
	if of > 0 {
		found.Why += fmt.Sprintf("; of %d names in it that were looked up, the home has %d", of, hit)
	}
	return found, nil
}

func (l *layoutFinder) structure(owner string) (Layout, error) {
	for _, at := range l.packages {
		home := path.Join(at, "homedir")
		user, ok := l.users[at]
		if !ok || l.insideHome(at) {
			continue
		}
		if user != owner {
			return Layout{}, &OtherAccountError{user}
		}
		return Layout{[]Place{{home, ""}}, fmt.Sprintf("a cPanel package of %q: its home is %q", user, home)}, nil
	}
	at, ok := l.outermost()
	if ok {
		return Layout{[]Place{{at, ""}}, fmt.Sprintf("the path of the home: %q", at)}, nil
	}
	if len(l.parents[at]) == 0 {
		return Layout{}, nil
	}
	where := fmt.Sprintf("in %q", at)
	if at == "" {
		where = "at its top"
	}
	return Layout{[]Place{{at, ""}}, fmt.Sprintf("the home is %s: the document root %q lies there", where, l.docroots[slices.Min(l.parents[at])])}, nil
}

// insideHome reports whether document roots lie in a directory or in one above it: a customer may have directories of any
// name in a home.
func (l *layoutFinder) insideHome(at string) bool {
	for p := range l.parents {
		if p == at || p == "" || strings.HasPrefix(at, p+"/") {
			return true
		}
	}
	return false
}

// outermost gives the directory that is the home: one whose path ends like the home's (byPath), unless that lies in
// another home; else one that holds most document roots.
func (l *layoutFinder) outermost() (at string, byPath bool) {
	parents := slices.SortedFunc(maps.Keys(l.parents), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(l.parents[b]), len(l.parents[a])), cmp.Compare(strings.Count(a, "/"), strings.Count(b, "/")),
			cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
	if len(l.homes) > 0 {
		at = slices.MinFunc(l.homes, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
		if above, _ := path.Split(at); at == "" || !l.insideHome(strings.TrimSuffix(above, "/")) {
			return at, true
		}
	}
	if len(parents) == 0 {
		return "", false
	}
	return parents[0], false
}

// byNames tries the source's top and its only directory as the home and as each document root. At least half of the names
// must be there, and no other place may hold as many.
func (l *layoutFinder) byNames(exists func(string) bool) Layout {
	srcs := []string{""}
	if len(l.tops) == 1 {
		for top := range l.tops {
			srcs = append(srcs, top)
		}
	}
	var best Place
	most, second, of := 0, 0, 0
	for _, src := range srcs {
		for _, dst := range append([]string{""}, l.docroots...) {
			p := Place{src, dst}
			switch hit, n := l.hits([]Place{p}, exists); {
			case hit > most:
				best, most, second, of = p, hit, most, n
			case hit > second:
				second = hit
			}
		}
	}
	if most == second || 2*most < of {
		return Layout{}
	}
	what := "the home"
	if best.Dst != "" {
		what = fmt.Sprintf("the document root %q", best.Dst)
	}
	return Layout{[]Place{best}, "the names in it are those of " + what}
}

// hits counts how many of the sampled names the live tree has.
func (l *layoutFinder) hits(places []Place, exists func(string) bool) (hit, of int) {
	for _, name := range l.samples {
		for _, p := range places {
			rel, ok := p.under(name)
			if !ok || rel == p.Dst {
				continue
			}
			of++
			if exists(rel) {
				hit++
			}
			break
		}
	}
	return hit, of
}
