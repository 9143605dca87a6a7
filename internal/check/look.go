package check

import (
	"path"
	"strings"

	"rightful"
	"rightful/internal/policy"
	"rightful/internal/tree"
	"rightful/internal/web"
)

// look shows a web server's engine the directory that the walk is in: as it is, or as the plan would make it. It serves for
// one directory at a time, and costs nothing until the engine looks.
type look struct {
	j       *job
	d       *tree.Dir
	planned bool
}

// looks gives the two looks of the directory that the walk is in.
func (j *job) looks(d *tree.Dir) (now, planned web.View) {
	for len(j.eyes) <= d.Depth {
		j.eyes = append(j.eyes, &[2]look{})
	}
	e := j.eyes[d.Depth]
	if e[0].d != d { // directories of one depth are the same to a walk
		*e = [2]look{{j: j, d: d}, {j: j, d: d, planned: true}}
	}
	return &e[0], &e[1]
}

// path is the directory's.
func (l *look) path() string { return rightful.JoinPath(l.j.base, l.d.Rel()) }

// Lstat implements [web.View]. Of an inode with several links it is not yet known whether it may be changed.
func (l *look) Lstat(name string) (web.Node, bool) {
	if !l.d.Has(name) {
		return web.Node{}, false
	}
	m, st, err := l.d.Peek(name)
	if err != nil {
		return web.Node{}, false
	}
	if l.planned && (st.Kind == rightful.KindDir || st.Nlink == 1) {
		lv := &l.j.levels[l.d.Depth+1]
		_, rule := lv.state.Child(name, st.Kind)
		m = l.j.foreseen(lv, rightful.JoinPath(l.path(), name), rule, m, &st)
	}
	return web.Node{Kind: st.Kind, Meta: m}, true
}

// Follow implements [web.View].
func (l *look) Follow(p string) ([]tree.Component, error) {
	if !path.IsAbs(p) {
		p = rightful.JoinPath(l.path(), p)
	}
	steps, err := l.j.c.Server.Trace(p)
	if l.planned {
		l.j.foresee(steps)
	}
	return steps, err
}

// Head implements [web.View].
func (l *look) Head(name string, n int64) ([]byte, error) { return l.d.Head(name, n) }

// Links implements [web.View].
func (l *look) Links() (names []string, ok bool) {
	for name := range l.d.Names() {
		if _, st, err := l.d.Peek(name); err == nil && st.Kind == rightful.KindSymlink {
			names = append(names, name)
		}
	}
	return names, true
}

// foreseen is what an entry will be like if the plan is applied. It is asked ahead of the entry's turn, and so is no vote
// about the rule.
func (j *job) foreseen(lv *level, p string, rule *policy.Rule, have rightful.Meta, st *tree.Stat) rightful.Meta {
	votes := j.counter
	j.counter = counter{rules: map[*policy.Rule]*ruleCount{}}
	defer func() { j.counter = votes }()
	return j.judge(lv, p, rule, st.Kind, have, st.Immutable(), j.statID(st)).after
}

// foresee puts what the plan makes of them in the place of all steps that lie in the account.
func (j *job) foresee(steps []tree.Component) {
	account := true
	for i := range steps {
		c := &steps[i]
		base := ""
		for _, b := range j.bases {
			if beneath(c.Path, b) && len(b) > len(base) {
				base = b
			}
		}
		if base == "" || c.Stat.Kind != rightful.KindDir && c.Stat.Nlink > 1 {
			continue
		}
		if c.Path == base {
			account = true
		}
		have := c.Meta
		state, rule := j.bound.Base(base)
		if rest := strings.TrimPrefix(c.Path[len(base):], "/"); rest != "" {
			names := strings.Split(rest, "/")
			for k, n := range names {
				kind := rightful.KindDir
				if k == len(names)-1 {
					kind = c.Stat.Kind
				}
				state, rule = state.Child(n, kind)
			}
		}
		c.Meta = j.foreseen(&level{site: -1, account: account}, c.Path, rule, have, &c.Stat)
		if c.Stat.Kind == rightful.KindDir {
			account = account && (have.Allowed(j.id, rightful.RightSearch) || j.way[c.Path] && have.UID == 0)
		}
	}
}
