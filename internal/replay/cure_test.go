package replay

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A grant is what a prediction says somebody lacks.
type grant struct {
	path string
	uid  uint32
	need string // of "rwx"
}

// lacks is the grant that a prediction asks for. A socket is made anew at every start: the configuration says what it is.
func (p *prediction) lacks() (g grant, ok bool) {
	if !p.Certain || strings.HasPrefix(p.Culprit, "/run/") || p.Culprit == "" || p.Identity == nil || strings.Trim(p.Need, "rwx") != "" || p.Need == "" {
		return g, false
	}
	return grant{p.Culprit, *p.Identity, p.Need}, true
}

// grants are all that some predictions ask for, each once.
func grants(predicted map[string]map[string]*prediction) []grant {
	all := map[grant]bool{}
	for _, site := range predicted {
		for _, p := range site {
			if g, ok := p.lacks(); ok {
				all[g] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(all), func(a, b grant) int {
		return cmp.Or(strings.Compare(a.path, b.path), cmp.Compare(a.uid, b.uid), strings.Compare(a.need, b.need))
	})
}

// give gives just that, and leaves what the identity could do before, by the kernel's word.
func (l *lab) give(all []grant) {
	l.t.Helper()
	var b strings.Builder
	b.WriteString(`set +e; exec 2>/dev/null
give() { # path, uid, need
	if [ "$(stat -Lc %u "$1")" = "$2" ]; then chmod "u+$3" "$1"; return; fi
	has=$(setpriv --reuid="$2" --regid="$(getent passwd "$2" | cut -d: -f4)" --init-groups sh -c 'for b in r w x; do case $2 in *$b*) printf $b ;; *) test -$b "$1" && printf $b ;; esac; done' sh "$1" "$3")
	setfacl -m "u:$2:$has" "$1"
}
`)
	for _, g := range all {
		fmt.Fprintf(&b, "give %s %d %s\n", quote(g.path), g.uid, g.need)
	}
	b.WriteString("exit 0\n")
	l.script(b.String())
}

// cure does what predictions ask for, until they ask for nothing more. What was given must not be asked for again, and
// at every step what is predicted is what is answered: were the wrong entry blamed, the answer would stay what it was.
// It gives the number of grants, and takes no more than some steps.
func (l *lab) cure(predicted map[string]map[string]*prediction, steps int, hold func(map[string]map[string]*prediction)) int {
	l.t.Helper()
	given := map[grant]bool{}
	for range steps {
		all := grants(predicted)
		if len(all) == 0 {
			break
		}
		for _, g := range all {
			if given[g] {
				l.t.Errorf("uid %d was given %q on %q, and that is asked for again", g.uid, g.need, g.path)
				return len(given)
			}
			given[g] = true
		}
		l.give(all)
		if slices.ContainsFunc(all, func(g grant) bool { return strings.Contains(g.path, "/fcgi-bin") }) {
			l.freshPHP()
		}
		predicted = l.predict()
		hold(predicted)
	}
	return len(given)
}
