package check

import (
	"path"
	"strings"

	"rightful"
	"rightful/internal/tree"
)

// A wrapper is the program that mod_fcgid has suEXEC start for the PHP of a site. Without it no script is run (500).
type wrapper struct {
	dir, path    string // links in the directory resolved
	now, planned bool   // suEXEC runs it
	culprit      string // what keeps it from running now
}

// newWrapper finds the wrapper of a site, nil where it has none that suEXEC runs. As long as the walk has not met it, it
// is judged where it lies, and stays as it is.
func (j *job) newWrapper(s *site) *wrapper {
	if s.PHP.Wrapper == "" || s.PHP.Handler != "fcgid" || s.CGIAs.UID != j.a.UID {
		return nil
	}
	w := &wrapper{dir: j.resolvePath(path.Dir(s.PHP.Wrapper))}
	w.path = rightful.JoinPath(w.dir, path.Base(s.PHP.Wrapper))
	w.culprit = w.path
	chain, err := j.c.Server.Trace(w.path)
	if err != nil || len(chain) < 2 {
		return w
	}
	file, dir := chain[len(chain)-1], chain[len(chain)-2]
	w.now = j.wrapperRuns(file.Stat.Kind, file.Meta) && j.suexecTakes(dir.Meta)
	for _, c := range chain {
		pass := j.search(c.Meta)
		w.now = w.now && (c.Stat.Kind != rightful.KindDir || pass.has(s.web) && pass.has(s.php))
	}
	w.planned = w.now
	return w
}

// wrapperRuns reports whether suEXEC puts up with a wrapper, its directory apart.
func (j *job) wrapperRuns(kind rightful.Kind, m rightful.Meta) bool {
	return kind == rightful.KindFile && j.suexecRuns(m) && m.Mode&0o100 != 0
}

// meetWrapper judges the wrapper when the walk enters its directory.
func (j *job) meetWrapper(d *tree.Dir, lv *level, s *site) {
	w := s.wrap
	_, st, err := d.Peek(path.Base(w.path))
	if err != nil {
		w.now, w.planned, w.culprit = false, false, w.path
		return
	}
	have, after, _, err := j.peek(d, lv, path.Base(w.path))
	open, willOpen := lv.now.has(s.web) && lv.now.has(s.php), lv.planned.has(s.web) && lv.planned.has(s.php)
	w.now = err == nil && open && !lv.refused && j.wrapperRuns(st.Kind, have)
	w.planned = err == nil && willOpen && !lv.willRefuse && j.wrapperRuns(st.Kind, after)
	if w.culprit = w.path; !open || lv.refused {
		w.culprit = w.dir
	}
}

// wraps counts a script that all can open: whether it is run, the wrapper decides.
func (s *site) wraps(name string, blocked, willBlock bool) {
	if s.wrap == nil || !phpSuffix([]byte(name)) {
		return
	}
	if !blocked {
		s.now.scripts++
	}
	if !willBlock {
		s.planned.scripts++
	}
}

// wrapped tells what the wrapper makes of a verdict.
func (s *site) wrapped(v *rightful.Verdict, f front, plan bool) {
	w := s.wrap
	if w == nil || !plan && w.now || plan && w.planned {
		return
	}
	v.Blocked += f.scripts
	if s.first == "" {
		s.first = w.culprit
	}
	if v.Status == 200 && f.who == s.php {
		v.Status, v.Why, v.Culprit = 500, "suEXEC does not run the wrapper of PHP", w.culprit
	}
}

// wrapperOf gives the site whose wrapper does not run for what a path is, or nil. have is how the path is now.
func (j *job) wrapperOf(p string, kind rightful.Kind, have rightful.Meta) *site {
	for _, s := range j.sites {
		if s.wrap == nil || !strings.HasPrefix(p, s.wrap.dir) {
			continue
		}
		pass := j.search(have)
		if p == s.wrap.dir && (!j.suexecTakes(have) || !pass.has(s.web) || !pass.has(s.php)) || p == s.wrap.path && !j.wrapperRuns(kind, have) {
			return s
		}
	}
	return nil
}
