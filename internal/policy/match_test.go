package policy

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"rightful"

	"github.com/google/go-cmp/cmp"
)

const anyone = "accept = [{ owner = \"user\" }]\n"

func TestPatternMatchesExactlyWhatItSays(t *testing.T) {
	const h = "/home/alice/"
	tests := []struct {
		pattern string
		yes, no []string
	}{
		{"public_html", []string{h + "public_html"}, []string{h + "public_html2", h + "x/public_html", h + "public_html/x", h[:len(h)-1]}},
		{"{home}/etc/*", []string{h + "etc/a.example", h + "etc/.x"}, []string{h + "etc", h + "etc/a/b", "/etc/a"}},
		{"**", []string{h + "a", h + "a/b/c", h + ".x"}, []string{"/home/alice", "/home/bob/x", "/home/alice2/x"}},
		{"a/**", []string{h + "a/b", h + "a/b/c"}, []string{h + "a", h + "ab/c"}},
		{"a/**/z", []string{h + "a/z", h + "a/b/z", h + "a/b/c/z", h + "a/z/z"}, []string{h + "a/zz", h + "z", h + "a/z/y"}},
		{"**/x/**/y", []string{h + "x/y", h + "a/x/b/y", h + "x/x/y/y"}, []string{h + "x", h + "y", h + "y/x"}},
		{"*.{css,js,tar.gz}", []string{h + "a.css", h + ".js", h + "a.b.js", h + "x.tar.gz", h + "\xff\n.css"}, []string{h + "a.cs", h + "acss", h + "a.css.bak", h + "a.gz", h + "d/a.css", h + "a.CSS"}},
		{"a?c", []string{h + "abc", h + "a\nc", h + "a\xffc"}, []string{h + "ac", h + "abbc"}},
		{"*b*d*", []string{h + "bd", h + "abcd", h + "bbdd", h + "xbydz"}, []string{h + "db", h + "b"}},
		{"id_*", []string{h + "id_", h + "id_rsa"}, []string{h + "xid_rsa", h + "id"}},
		{`\*x`, []string{h + "*x"}, []string{h + "ax", h + "x"}},
		{`{a\,b,c}d`, []string{h + "a,bd", h + "cd"}, []string{h + "ad"}},
		{"passwd,v", []string{h + "passwd,v"}, []string{h + "passwd"}},
		{"sitemap{,s}.xml", []string{h + "sitemap.xml", h + "sitemaps.xml"}, []string{h + "sitemapx.xml"}},
		{"{docroot}", []string{h + "public_html", h + "public_html/blog", h + "sites/my shop", "/srv/www/shop"}, []string{h + "public_html2", "/srv/www", h + "public_html/x", h + "sites"}},
		{"{docroot}/**/*.css", []string{h + "public_html/a.css", h + "public_html/blog/x/a.css", "/srv/www/shop/a.css"}, []string{h + "a.css", "/srv/www/a.css", h + "public_html2/a.css"}},
		{"{docroot-parent}", []string{h + "sites"}, []string{h[:len(h)-1], h + "sites/x", "/srv", "/srv/www", h + "public_html/blog"}},
		{"{cgi}/**", []string{h + "public_html/cgi-bin/x"}, []string{h + "public_html/cgi-bin", h + "cgi-bin/x"}},
		{"{maildir}/**", []string{h + "mail/x/cur/1:2,S"}, []string{h + "mail", h + "public_html/mail/x"}},
		{"{home}", []string{"/home/alice"}, []string{"/home", h + "home", "/home/alice2"}},
	}
	for _, tt := range tests {
		t.Run(tt.pattern, func(t *testing.T) {
			p, err := newPolicy("maildir = \"mail\"\n[[rule]]\nname = \"r\"\npath = '" + tt.pattern + "'\n" + anyone)
			if err != nil {
				t.Fatal(err)
			}
			bd := bindingOf()
			bd.DocRoots = []string{"/home/alice/public_html", "/home/alice/public_html/blog", "/home/alice/sites/my shop", "/srv/www/shop"}
			b := mustBind(t, p, bd)
			for _, path := range tt.yes {
				if r := ruleFor(b, path, rightful.KindDir); r == nil {
					t.Errorf("%q does not match %q", tt.pattern, path)
				}
				if len(b.Explain(path, rightful.KindDir)) != 1 {
					t.Errorf("%q is not explained by %q", path, tt.pattern)
				}
			}
			for _, path := range tt.no {
				if r := ruleFor(b, path, rightful.KindDir); r != nil {
					t.Errorf("%q matches %q", tt.pattern, path)
				}
				if len(b.Explain(path, rightful.KindDir)) != 0 {
					t.Errorf("%q is explained by %q", path, tt.pattern)
				}
			}
		})
	}
}

func TestNearestAnchorWinsThenTheLaterRule(t *testing.T) {
	p, err := newPolicy(`
[[rule]]
name = "docroot"
path = "{docroot}"
` + anyone + `
[[rule]]
name = "content"
path = "{docroot}/**"
` + anyone + `
[[rule]]
name = "css"
path = "{docroot}/**/*.css"
` + anyone + `
[[rule]]
name = "only-outer"
path = "{docroot}/blog/deep"
` + anyone + `
[[rule]]
name = "cgi"
path = "{cgi}/**"
` + anyone + `
[[rule]]
name = "parent"
path = "{docroot-parent}"
` + anyone + `
[[rule]]
name = "everything"
path = "**"
` + anyone + `
[[rule]]
name = "inside"
path = "public_html/**"
` + anyone)
	if err != nil {
		t.Fatal(err)
	}
	b := mustBind(t, p, bindingOf())
	for path, want := range map[string]string{
		"/home/alice":                               "",
		"/home/alice/x":                             "everything",
		"/home/alice/public_html":                   "docroot",
		"/home/alice/public_html2":                  "everything",
		"/home/alice/public_html/a.css":             "css",
		"/home/alice/public_html/a":                 "content",
		"/home/alice/public_html/blog":              "docroot",
		"/home/alice/public_html/blog/deep":         "content", // the inner document root's rule, not the outer's
		"/home/alice/public_html/blog/a.css":        "css",
		"/home/alice/public_html/cgi-bin":           "content",
		"/home/alice/public_html/cgi-bin/a.css":     "cgi",
		"/home/alice/public_html/cgi-bin/lib/x.css": "cgi",
		"/home/alice/sites":                         "parent",
		"/home/alice/sites/other":                   "everything",
		"/home/alice/sites/shop.example":            "docroot",
		"/home/bob/x":                               "",
	} {
		got := ""
		if r := ruleFor(b, path, rightful.KindDir); r != nil {
			got = r.Name
		}
		if got != want {
			t.Errorf("%s: rule %q, want %q", path, got, want)
		}
	}
}

func TestBaseStartsAnywhere(t *testing.T) {
	bd := bindingOf()
	bd.DocRoots = append(bd.DocRoots, "/srv/www/my site")
	bd.Bases = append(bd.Bases, "/srv/www/my site")
	b := mustBind(t, mustLoad(t, "cpanel"), bd)
	for base, want := range map[string]string{
		"/home/alice": "cpanel.toml:home", "/srv/www/my site": "cpanel.toml:docroot",
		"/home/alice/public_html/": "cpanel.toml:docroot",
	} {
		s, r := b.Base(base)
		if r == nil || r.String() != want {
			t.Errorf("base %q: rule %v, want %s", base, r, want)
		}
		if s == (State{}) {
			t.Errorf("base %q: no state", base)
		}
	}
	s, _ := b.Base("/srv/www/my site")
	if _, r := s.Child("a.png", rightful.KindFile); r == nil || r.Name != "static" {
		t.Errorf("rule %v, want static", r)
	}
	if _, r := b.Base("/srv/www"); r != nil {
		t.Errorf("rule %v for a directory of nobody's", r)
	}
	if s, r := (State{}).Child("x", rightful.KindDir); r != nil || s != (State{}) {
		t.Error("the zero state matches")
	}
}

func TestNamesAreBytes(t *testing.T) {
	b := mustBind(t, mustLoad(t, "cpanel"), bindingOf("fileprotect"))
	for name, want := range map[string]string{
		"a\n.css": "static", "\xff\xfe.png": "static", "\x1b[2J": "content-files", ".htaccess": "htaccess",
		".htaccess\n": "content-files", "x.php": "php", "wp-config.php": "secrets", ".env": "secrets", ".env.local": "secrets",
		"dump.sql.gz": "secrets", "a.css.bak": "secrets", "run.cgi": "scripts", "id_rsa": "secrets", " ": "content-files",
		strings.Repeat("x", 255): "content-files", "robots.txt": "static", "passwords.txt": "content-files",
	} {
		s, _ := b.Base("/home/alice/public_html")
		s, _ = s.Child("dir\xff\n", rightful.KindDir)
		_, r := s.ChildBytes([]byte(name), rightful.KindFile)
		if r == nil || r.Name != want {
			t.Errorf("%q: rule %v, want %s", name, r, want)
		}
	}
}

func TestHomeThatIsADocumentRootIsOne(t *testing.T) {
	bd := bindingOf()
	bd.DocRoots = []string{"/home/alice"}
	b := mustBind(t, mustLoad(t, "plain"), bd)
	if _, r := b.Base("/home/alice"); r == nil || r.Name != "docroot" {
		t.Errorf("rule %v, want docroot", r)
	}
	r := ruleFor(b, "/home/alice/.ssh/id_rsa", rightful.KindFile)
	if r == nil || !r.Secret {
		t.Errorf("rule %v is not secret", r)
	}
}

func TestExplainListsEveryRuleInOrder(t *testing.T) {
	b := mustBind(t, mustLoad(t, "cpanel"), bindingOf("fileprotect"))
	var got []string
	for _, m := range b.Explain("/home/alice/public_html/blog/wp-config.php", rightful.KindFile) {
		got = append(got, m.Rule.Name+" "+m.Pattern)
	}
	first := "secrets " + "{docroot}/**/{wp-config.php,"
	if len(got) < 4 || !strings.HasPrefix(got[0], first) {
		t.Fatalf("explained by %q", got)
	}
	want := []string{"content-files {docroot}/**", "home-files **"}
	if diff := cmp.Diff(want, got[len(got)-2:]); diff != "" {
		t.Error(diff)
	}
}

func TestSharedAutomatonStaysSmall(t *testing.T) {
	p := mustLoad(t, "cpanel")
	for i := range 50 {
		bd := bindingOf("fileprotect")
		bd.Home = fmt.Sprintf("/home/u%d", i)
		bd.DocRoots = []string{bd.Home + "/public_html", bd.Home + "/public_html/a", bd.Home + "/d/b"}
		b := mustBind(t, p, bd)
		for j := range 200 {
			ruleFor(b, fmt.Sprintf("%s/public_html/d%d/e%d/x.css", bd.Home, j, j), rightful.KindFile)
			ruleFor(b, fmt.Sprintf("%s/mail/d%d/cur/%d", bd.Home, j, j), rightful.KindFile)
		}
	}
	if len(p.automata) != 1 {
		t.Fatalf("%d automata for one set of facts", len(p.automata))
	}
	for _, a := range p.automata {
		if n := len(a.sets); n > 40 {
			t.Errorf("%d sets of positions", n)
		}
	}
}

// wordpress is what a walk of a common site meets: name, kind, and how many there are of it.
func wordpress() (names [][]byte) {
	for _, n := range []string{
		"index.php", "class-wp-query.php", "style.css", "style.min.css", "editor.js", "editor.min.js", "image-300x200.jpg",
		"IMG_2041.JPG", "logo.svg", "readme.txt", "block.json", "plugin-de_DE.mo", "plugin-de_DE.po", "view.asset.php",
		"fontawesome.woff2", "LICENSE", ".htaccess", "backup.sql.gz", "error_log",
	} {
		names = append(names, []byte(n))
	}
	return names
}

func TestChildDoesNotAllocate(t *testing.T) {
	b := mustBind(t, mustLoad(t, "cpanel"), bindingOf("fileprotect"))
	s, _ := b.Base("/home/alice/public_html")
	names := wordpress()
	s.Child("wp-content", rightful.KindDir)
	n := testing.AllocsPerRun(100, func() {
		d, _ := s.Child("wp-content", rightful.KindDir)
		for _, name := range names {
			if _, r := d.ChildBytes(name, rightful.KindFile); r == nil {
				t.Fatal("no rule")
			}
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for a directory with %d files", n, len(names))
	}
}

func BenchmarkChild(b *testing.B) {
	bound := mustBind(b, mustLoad(b, "cpanel"), bindingOf("fileprotect"))
	s, _ := bound.Base("/home/alice/public_html")
	names := wordpress()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		d, _ := s.Child("wp-content", rightful.KindDir)
		for _, name := range names {
			_, r := d.ChildBytes(name, rightful.KindFile)
			if r == nil {
				b.Fatal("no rule")
			}
		}
		n += len(names) + 1
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/entry")
}

func BenchmarkJudge(b *testing.B) {
	bound := mustBind(b, mustLoad(b, "cpanel"), bindingOf("fileprotect"))
	r := ruleFor(bound, "/home/alice/public_html/a.css", rightful.KindFile)
	m := rightful.Meta{UID: alice, GID: alice, Mode: 0o644}
	b.ReportAllocs()
	for b.Loop() {
		if !r.Judge(m, rightful.KindFile, false).OK {
			b.Fatal("not right")
		}
	}
}

func TestManyWalksShareOnePolicy(t *testing.T) {
	p := mustLoad(t, "cpanel")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			bd := bindingOf("fileprotect")
			bd.Home = fmt.Sprintf("/home/u%d", i)
			bd.DocRoots = []string{bd.Home + "/public_html"}
			b, err := p.Bind(bd)
			if err != nil {
				t.Error(err)
				return
			}
			for j := range 100 {
				r := ruleFor(b, fmt.Sprintf("%s/public_html/a%d/.git/x%d/y", bd.Home, j, j%3), rightful.KindFile)
				if r == nil || r.Name != "private-trees" {
					t.Errorf("rule %v, want private-trees", r)
				}
			}
		})
	}
	wg.Wait()
}
