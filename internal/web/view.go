package web

import (
	"path"

	"rightful"
	"rightful/internal/tree"
)

// pathView shows a directory by its path, where no walk stands in it. Everything goes through O_PATH handles.
type pathView struct {
	follow func(string) ([]tree.Component, error)
	s      *tree.Server
	dir    string
}

// ViewOf shows a directory of a server as it is.
func ViewOf(s *tree.Server, dir string) View { return pathView{s.Trace, s, dir} }

// Lstat implements [View].
func (v pathView) Lstat(name string) (Node, bool) {
	p := rightful.JoinPath(v.dir, name)
	steps, _ := v.follow(p)
	for i := range steps {
		if c := &steps[i]; c.Path == p {
			return Node{c.Stat.Kind, c.Meta}, true
		}
	}
	return Node{}, false
}

// Follow implements [View].
func (v pathView) Follow(p string) ([]tree.Component, error) {
	if !path.IsAbs(p) {
		p = rightful.JoinPath(v.dir, p)
	}
	return v.follow(p)
}

// Head implements [View].
func (v pathView) Head(name string, n int64) ([]byte, error) {
	return v.s.Head(rightful.JoinPath(v.dir, name), n)
}

// Links implements [View].
func (v pathView) Links() (names []string, ok bool) {
	all, err := v.s.ReadDir(v.dir)
	for _, name := range all {
		if n, ok := v.Lstat(name); ok && n.Kind == rightful.KindSymlink {
			names = append(names, name)
		}
	}
	return names, err == nil
}

// Ask gives the verdict on one request path of a host whose document root is given as configured. The path is decoded and
// without a query.
func Ask(h Host, s *tree.Server, docroot, url string) Verdict {
	dir := docroot
	if steps, err := s.Trace(docroot); err == nil {
		dir = steps[len(steps)-1].Path
	}
	return h.URL(url, ViewOf(s, dir))
}
