package web

import (
	"path"
	"strings"

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

// asked is a [Host] that takes any request path by itself, since more than the entry that it names decides.
type asked interface {
	URL(path string, in View) Verdict
}

// Ask gives the verdict on one request path below a document root, decoded and without a query, by walking down to it where
// the host does not do so itself. It follows no link: what a linked directory holds is in doubt.
func Ask(h Host, s *tree.Server, docroot, url string) Verdict {
	dir := docroot
	if steps, err := s.Trace(docroot); err == nil {
		dir = steps[len(steps)-1].Path
	}
	in := ViewOf(s, dir)
	if h, ok := h.(asked); ok {
		return h.URL(url, in)
	}
	scope := h.Root(in)
	names := splitPath(url)
	slash := strings.HasSuffix(url, "/") || len(names) == 0
	for i, name := range names {
		n, _ := in.Lstat(name)
		last := i == len(names)-1
		if n.Kind != rightful.KindDir || last && !slash {
			if n.Kind == rightful.KindSymlink && !last {
				v := scope.File([]byte(name), n, in)
				if v.Status >= 300 && v.Status < 400 || v.Served() {
					return inDoubt("it lies behind the link "+rightful.JoinPath(dir, name), nil)
				}
				return v
			}
			v := scope.File([]byte(name), n, in)
			if !last && v.Served() && !v.App {
				return Verdict{Status: 404, Certain: true, Cause: CauseMissing, Code: "AH00130", Why: "it is a file, and more follows it in the path"}
			}
			return v
		}
		dir = rightful.JoinPath(dir, name)
		in = ViewOf(s, dir)
		scope = scope.Dir(name, n.Meta, in)
	}
	return scope.Index(in)
}
