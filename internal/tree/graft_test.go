package tree_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"

	"rightful/internal/tree"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
)

const graftTree = `
d 0755 0:0 home2
l 0777 0:0 home -> home2
l 0777 0:0 away -> /home/alice/www
d 0711 1002:1002 home2/bob
f 0644 1002:1002 home2/bob/index.html = bob
d 0700 0:0 home2/.aside
d 0711 1001:1001 home2/.aside/home
d 0755 1001:1001 home2/.aside/home/www
f 0644 1001:1001 home2/.aside/home/www/index.html = new
l 0777 1001:1001 home2/.aside/home/link -> www/index.html
l 0777 1001:1001 home2/.aside/home/absolute -> /home/alice/www/index.html
l 0777 1001:1001 home2/.aside/home/up -> ../bob/index.html
`

// ruin is what stands at the home, where something does.
const ruin = `
d 0755 1001:1001 home2/alice
f 0600 1001:1001 home2/alice/old = old
d 0700 1001:1001 home2/alice/www
f 0600 1001:1001 home2/alice/www/index.html = old
`

func graft(t *testing.T, root, at string) *tree.Server {
	t.Helper()
	s, err := tree.OpenServer(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	b, err := s.OpenBase("/home/.aside/home")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	g, err := s.Graft(at, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// What is read, listed, resolved and walked at a graft and below it is the grafted directory, whatever stands there and by
// whatever link above it is reached; what is beside it, dots that lead out of it and the server itself are as they were.
func TestAGraftStandsInItsPlace(t *testing.T) {
	treetest.Without(t, "openat2")
	for name, more := range map[string]string{"in the place of a ruin": ruin, "where nothing is": ""} {
		for _, at := range []string{"/home/alice", "/home2/alice", "/home/../home/./alice/"} {
			t.Run(name+" at "+at, func(t *testing.T) {
				root := treetest.OpenDir(t)
				treetest.Build(t, root, graftTree+more)
				before := treetest.Describe(t, root)
				g := graft(t, root, at)
				for p, want := range map[string]string{
					"/home/alice/www/index.html": "new", "/home2/alice/www/index.html": "new", "/home/alice/link": "new", "/home/alice/absolute": "new",
					"/away/index.html": "new", "/home/alice/up": "bob", "/home/alice/../bob/index.html": "bob", "/home/bob/../alice/www/index.html": "new",
					"/home/alice/www/../../bob/index.html": "bob", "/home/bob/index.html": "bob", "/home/.aside/home/www/index.html": "new",
				} {
					if got, err := g.ReadFile(p, 10); err != nil || string(got) != want {
						t.Errorf("%s: %q, %v, want %q", p, got, err, want)
					}
					if cs, err := g.Trace(p); err != nil || cs[len(cs)-1].Stat.Size != int64(len(want)) {
						t.Errorf("trace of %s: %+v, %v", p, cs, err)
					}
				}
				for _, p := range []string{"/home/alice/old", "/home2/alice/old"} {
					if _, err := g.Stat(p); !tree.IsNotExist(err) {
						t.Errorf("%s: %v", p, err)
					}
				}
				names, err := g.ReadDir("/home")
				if want := []string{".aside", "alice", "bob"}; err != nil || !slices.Equal(names, want) {
					t.Errorf("/home lists %q, %v, want %q", names, err, want)
				}
				if names, err = g.ReadDir("/home/alice"); err != nil || !slices.Equal(names, []string{"absolute", "link", "up", "www"}) {
					t.Errorf("/home/alice lists %q, %v", names, err)
				}
				if found, err := g.Glob("/home/*/www/*"); err != nil || !slices.Equal(found, []string{"/home/alice/www/index.html"}) {
					t.Errorf("found %q, %v", found, err)
				}
				b, err := g.OpenBase("/home/alice")
				if err != nil {
					t.Fatal(err)
				}
				defer b.Close()
				var met lister
				if err := b.Walk(context.Background(), &met, true); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff([]string{"", "absolute", "link", "up", "www", "www/index.html"}, met.sorted()); diff != "" {
					t.Errorf("walked (-want +got):\n%s", diff)
				}
				cur := b.Cursor()
				defer cur.Close()
				n, err := cur.Open("www/index.html")
				if err != nil {
					t.Fatal(err)
				}
				defer n.Close()
				if got, err := n.Read(10); err != nil || string(got) != "new" || n.Path() != "/home/alice/www/index.html" {
					t.Errorf("%s: %q, %v", n.Path(), got, err)
				}
				if diff := cmp.Diff(before, treetest.Describe(t, root)); diff != "" {
					t.Errorf("something was changed:\n%s", diff)
				}
				s, err := tree.OpenServer(root)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				if got, err := s.ReadFile("/home/alice/www/index.html", 10); more == "" && !tree.IsNotExist(err) || more != "" && string(got) != "old" {
					t.Errorf("without the graft: %q, %v", got, err)
				}
			})
		}
	}
}

// lister notes what a walk meets.
type lister struct{ names []string }

func (l *lister) Entry(_ *tree.Dir, e *tree.Entry) (bool, error) {
	l.names = append(l.names, e.Rel())
	return true, nil
}
func (l *lister) Enter(*tree.Dir) error { return nil }
func (l *lister) Leave(*tree.Dir) error { return nil }
func (l *lister) Fail(string, error)    {}
func (l *lister) sorted() []string      { slices.Sort(l.names); return l.names }

// A graft outlives the base that it was made of, and closing it leaves the server usable.
func TestAGraftIsIndependent(t *testing.T) {
	root := treetest.OpenDir(t)
	treetest.Build(t, root, graftTree)
	s, err := tree.OpenServer(root)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	before := count()
	b, err := s.OpenBase("/home/.aside/home")
	if err != nil {
		t.Fatal(err)
	}
	g, err := s.Graft("/home/alice", b)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	if got, err := g.ReadFile("/home/alice/www/index.html", 10); err != nil || string(got) != "new" {
		t.Errorf("%q, %v", got, err)
	}
	g.Close()
	if _, err := s.Stat("/home/bob"); err != nil {
		t.Error(err)
	}
	if now := count(); now != before {
		t.Errorf("%d descriptors, %d before", now, before)
	}
}

// Nothing is grafted where somebody but root could put another directory in its place, nor at what is no place.
func TestAGraftStandsOnlyInRootsDirectories(t *testing.T) {
	root := treetest.OpenDir(t)
	treetest.Build(t, root, graftTree+`
		d 0755 1001:1001 hers
		d 0755 0:0 hers/home
		d 0777 0:0 open
		d 0770 0:0 group
		l 0777 1001:1001 link -> home2
		f 0644 0:0 file
	`)
	s, err := tree.OpenServer(root)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, err := s.OpenBase("/home/.aside/home")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for at, cause := range map[string]tree.Cause{
		"/hers/alice": tree.CauseUnsafe, "/hers/home/alice": tree.CauseUnsafe, "/open/alice": tree.CauseUnsafe, "/group/alice": tree.CauseUnsafe,
		"/link/alice": tree.CauseLink, "/": tree.CauseEscape, "": tree.CauseEscape, "/home/..": tree.CauseEscape, "/file/alice": "", "/nosuch/alice": "",
	} {
		g, err := s.Graft(at, b)
		if err == nil {
			g.Close()
		}
		var e *tree.Error
		if !errors.As(err, &e) || e.Cause != cause {
			t.Errorf("%q: %v", at, err)
		}
	}
}
