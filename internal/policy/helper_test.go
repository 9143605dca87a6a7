package policy

import (
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"rightful"
)

// The people of the tests.
const (
	alice  = 20001
	bob    = 20002
	nobody = 99 // the web server, uid and gid
	mail   = 12
	cpgid  = 201
)

var groupIDs = map[string]uint32{
	"root": 0, "alice": alice, "bob": bob, "nobody": nobody, "mail": mail, "cpanel": cpgid, "mailnull": 47, "ftp": 50,
}

func lookup(n string) (uint32, bool) { id, ok := groupIDs[n]; return id, ok }

func bindingOf(facts ...string) Binding {
	b := Binding{
		Home: "/home/alice", UID: alice, GID: alice,
		Web:      rightful.Identity{UID: nobody, GIDs: []uint32{nobody}},
		GroupID:  lookup,
		UserID:   lookup,
		DocRoots: []string{"/home/alice/public_html", "/home/alice/sites/shop.example", "/home/alice/public_html/blog"},
		CGIDirs:  []string{"/home/alice/public_html/cgi-bin"},
		Bases:    []string{"/home/alice"},
		Facts:    Facts{},
	}
	for _, f := range facts {
		b.Facts[f] = true
	}
	return b
}

func mustLoad(t testing.TB, panel string) *Policy {
	t.Helper()
	p, err := Load(panel, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustBind(t testing.TB, p *Policy, b Binding) *Bound {
	t.Helper()
	x, err := p.Bind(b)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// newPolicy compiles rules that stand alone, without any embedded ones.
func newPolicy(text string) (*Policy, error) {
	p := &Policy{Panel: "test", automata: map[string]*automaton{}}
	return p, p.add("test.toml", []byte("version = 1\npanel = \"test\"\n"+text))
}

func overrides(files ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		m[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return m
}

// ruleFor walks down to an absolute path, as a walk of the account would.
func ruleFor(b *Bound, path string, kind rightful.Kind) *Rule {
	parts := splitAbs(path)
	s, r := b.Base("/")
	for i, c := range parts {
		k := rightful.KindDir
		if i == len(parts)-1 {
			k = kind
		}
		s, r = s.Child(c, k)
	}
	return r
}

// parseEntry reads "d alice:nobody 0750 [ACL] public_html": a kind, an owner, a group, a mode, a path below the home.
func parseEntry(t testing.TB, s string) (path string, kind rightful.Kind, m rightful.Meta) {
	t.Helper()
	f := strings.SplitN(s, " ", 4)
	if len(f) != 4 {
		t.Fatalf("entry %q", s)
	}
	kind = map[string]rightful.Kind{"d": rightful.KindDir, "f": rightful.KindFile, "l": rightful.KindSymlink}[f[0]]
	u, g, _ := strings.Cut(f[1], ":")
	id := func(n string) uint32 {
		if x, ok := lookup(n); ok {
			return x
		}
		x, err := strconv.ParseUint(n, 10, 32)
		if err != nil {
			t.Fatalf("entry %q: no id %q", s, n)
		}
		return uint32(x)
	}
	mode, err := rightful.ParseMode(f[2])
	if err != nil {
		t.Fatal(err)
	}
	m = rightful.Meta{UID: id(u), GID: id(g), Mode: mode}
	path = f[3]
	if a, rest, ok := strings.Cut(path, " "); ok && strings.HasPrefix(a, "user::") {
		if m.ACL, err = rightful.ParseACL(a); err != nil {
			t.Fatal(err)
		}
		path = rest
	}
	if path == "." {
		return "/home/alice", kind, m
	}
	if !strings.HasPrefix(path, "/") {
		path = "/home/alice/" + path
	}
	return path, kind, m
}

func metaString(m rightful.Meta) string {
	names := map[uint32]string{0: "root", alice: "alice", bob: "bob", nobody: "nobody", mail: "mail"}
	name := func(id uint32) string {
		if n, ok := names[id]; ok {
			return n
		}
		return strconv.Itoa(int(id))
	}
	s := name(m.UID) + ":" + name(m.GID) + " " + m.Mode.String()
	if m.ACL != nil {
		s += " " + m.ACL.String()
	}
	if len(m.Caps) > 0 {
		s += " caps"
	}
	return s
}
