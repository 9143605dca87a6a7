package policy

import (
	"slices"
	"strings"
	"testing"

	"rightful"
)

func TestLoadRefusesWhatCannotBeMeant(t *testing.T) {
	const ok = "accept = [{ owner = \"user\" }]\n"
	rule := func(body string) string { return "version = 1\npanel = \"cpanel\"\n[[rule]]\nname = \"r\"\n" + body }
	for _, tt := range []struct{ text, want string }{
		{"version = 1\npanel = \"cpanel\"\ncolour = 1\n", `"x.toml:3": unknown key "colour"`},
		{rule("path = \"x\"\n" + ok + "publik = true\n"), `"x.toml:7": unknown key "rule.publik"`},
		{rule("path = \"x\"\naccept = [\n  { ownr = \"user\" },\n]\n"), `"x.toml:7": unknown key "rule.accept.ownr"`},
		{"version = 2\npanel = \"cpanel\"\n", `"x.toml:1": version is 2, not 1`},
		{"version = 1\n", `no panel`},
		{"version = 1\npanel = \"cpanel\"\nx = [\n", `"x.toml:`},
		{"version = 1\npanel = \"cpanel\"\n[[rule]]\npath = \"x\"\n" + ok, `"x.toml:3": a rule has no name`},
		{rule("path = \"{docrot}/x\"\n" + ok), `"x.toml:r": line 3: path "{docrot}/x": unknown placeholder "{docrot}"`},
		{rule("path = \"a/{docroot}\"\n" + ok), `unknown placeholder "{docroot}"`},
		{rule("path = \"{docroot}x\"\n" + ok), `whole components`},
		{rule("path = \"{docroot-parent}/x\"\n" + ok), `nothing in it`},
		{rule("path = \"/x\"\n" + ok), `empty component`},
		{rule("path = \"a//b\"\n" + ok), `empty component`},
		{rule("path = \"a/../b\"\n" + ok), `".." never occurs`},
		{rule("path = \"a/{.,b}\"\n" + ok), `"." never occurs`},
		{rule("path = \"a**\"\n" + ok), `** stands alone`},
		{rule("path = \"**/**\"\n" + ok), `** twice`},
		{rule("path = \"a{b\"\n" + ok), `{ without }`},
		{rule("path = \"a}b\"\n" + ok), `} without {`},
		{rule("path = \"{a,{b,c}}\"\n" + ok), `braces within braces`},
		{rule("path = 'a\\'\n" + ok), `\ at the end`},
		{rule("path = []\n" + ok), `empty list`},
		{rule("path = 3\n" + ok), `neither a string nor a list`},
		{rule(ok), `no path`},
		{rule("path = \"x\"\n"), `accept is empty`},
		{rule("path = \"x\"\naccept = []\n"), `accept is empty`},
		{rule("path = \"x\"\nkind = \"folder\"\n" + ok), `unknown kind "folder"`},
		{rule("path = \"{docroot}\"\nkind = \"file\"\n" + ok), `always a directory`},
		{rule("path = \"{docroot}\"\nkind = [\"file\", \"dir\"]\n" + ok), `always a directory`},
		{rule("path = \"x\"\npublic = true\nsecret = true\n" + ok), `both public and secret`},
		{rule("path = \"x\"\naccept = [{ when = \"moon\" }]\n"), `unknown fact "moon"`},
		{rule("path = \"x\"\naccept = [{ when = \"itk && !itk\" }]\n"), `accept 1: when "itk && !itk" is never true`},
		{rule("path = \"x\"\naccept = [{ when = \"itk &&\" }]\n"), `unknown fact ""`},
		{rule("path = \"x\"\naccept = [{ need = \"0700\", deny = \"0100\" }]\n"), `contradict`},
		{rule("path = \"x\"\naccept = [{ mode = \"0644\", need = \"0700\" }]\n"), `not right by its own`},
		{rule("path = \"x\"\naccept = [{ mode = \"0999\" }]\n"), `octal`},
		{rule("path = \"x\"\naccept = [{ owner = \"\" }]\n"), `empty name`},
		{rule("path = \"x\"\naccept = [{ owner = [\"any\", \"user\"] }]\n"), `stands alone`},
		{rule("path = \"x\"\naccept = [{ group = \"#x\" }]\n"), `not # and a number`},
		{rule("path = \"x\"\nkind = \"symlink\"\naccept = [{ mode = \"0777\" }]\n"), `a link has no mode`},
		{rule("path = \"x\"\naccept = [{ need = \"4000\" }]\n"), `gives a privilege`},
		{rule("path = \"x\"\naccept = [{ acl = \"users:x:r\" }]\n"), `acl "users:x:r"`},
		{rule("path = \"x\"\naccept = [{ acl = \"user:web\" }]\n"), `acl "user:web"`},
		{rule("path = \"x\"\naccept = [{ acl = \"user:web:r\" }]\n"), `opens what is not public`},
		{rule("path = \"x\"\nsecret = true\naccept = [{ group = \"user\", need = \"0440\" }]\n"), `never loosened`},
		{rule("path = \"x\"\nsecret = true\naccept = [{ group = \"web\" }]\n"), `never loosened`},
		{rule("path = \"x\"\naccept = [{ group = \"user\", need = \"0444\" }]\n"), `does not say public`},
		{rule("path = \"x\"\naccept = [{ group = \"web\", need = \"0440\" }]\n"), `does not say public`},
		{rule("path = \"x\"\n" + ok + "[[rule]]\nname = \"r\"\npath = \"y\"\n" + ok), `"x.toml:r": line 7: the name is used twice`},
		{rule("path = \"x\"\n" + ok + "[[rule]]\nname = \"s\"\npath = [\"y\", \"{home}/x\"]\n" + ok), `"x.toml:r": line 3: never decides: "s"`},
		{rule("path = \"{maildir}/x\"\n" + ok), ""},
		{rule("path = \"x\"\n" + ok + "[[rule]]\nname = \"s\"\npath = \"x\"\naccept = [{ when = \"itk\" }]\n"), ""},
		{rule("path = \"x\"\n" + ok + "[[rule]]\nname = \"s\"\npath = \"x\"\nkind = \"dir\"\n" + ok), ""},
		{rule("path = \"x\"\n" + ok + "[[rule]]\nname = \"s\"\npath = \"x\"\naccept = [{ owner = \"mysql\" }]\n"), ""},
		{strings.Replace(rule("path = \"{docrot}\"\n"+ok), "cpanel", "plesk", 1), `unknown placeholder`}, // another panel's is checked too
	} {
		_, err := Load("cpanel", overrides("x.toml", tt.text))
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s\n%v", tt.text, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s\n%v\nwant %s", tt.text, err, tt.want)
		}
	}
}

func TestOverridesComeLaterInNameOrder(t *testing.T) {
	rule := func(panel, name string) string {
		return "version = 1\npanel = \"" + panel + "\"\n[[rule]]\nname = \"" + name + "\"\npath = \"{docroot}/**/*.css\"\naccept = [{ owner = \"user\" }]\n"
	}
	for _, tt := range []struct{ files, want string }{
		{"", "cpanel.toml:static"},
		{"10.toml cpanel a", "10.toml:a"},
		{"10.toml * a", "10.toml:a"},
		{"10.toml plain a", "cpanel.toml:static"},
		{"20.toml * b,10.toml cpanel a", "20.toml:b"},
		{"20.txt * b", "cpanel.toml:static"},
	} {
		var files []string
		for _, f := range strings.Split(tt.files, ",") {
			if w := strings.Fields(f); len(w) == 3 {
				files = append(files, w[0], rule(w[1], w[2]))
			}
		}
		p, err := Load("cpanel", overrides(files...))
		if err != nil {
			t.Fatal(err)
		}
		r := ruleFor(mustBind(t, p, bindingOf()), "/home/alice/public_html/a.css", rightful.KindFile)
		if r == nil || r.String() != tt.want {
			t.Errorf("%s: rule %v, want %s", tt.files, r, tt.want)
		}
	}
}

func TestUnknownPanelIsAnError(t *testing.T) {
	if _, err := Load("nosuch", nil); err == nil || !strings.Contains(err.Error(), "cpanel, ") {
		t.Error(err)
	}
}

func TestBindRefusesRootAndRelativePaths(t *testing.T) {
	p := mustLoad(t, "plain")
	for name, spoil := range map[string]func(*Binding){
		"root":              func(b *Binding) { b.UID = 0 },
		"relative home":     func(b *Binding) { b.Home = "home/alice" },
		"no home":           func(b *Binding) { b.Home = "" },
		"relative docroot":  func(b *Binding) { b.DocRoots = []string{"public_html"} },
		"docroot with dots": func(b *Binding) { b.DocRoots = []string{"/home/alice/../bob"} },
		"relative cgi":      func(b *Binding) { b.CGIDirs = []string{"cgi-bin"} },
	} {
		b := bindingOf()
		spoil(&b)
		if _, err := p.Bind(b); err == nil {
			t.Errorf("%s: bound", name)
		}
	}
}

func FuzzLoad(f *testing.F) {
	for _, panel := range Panels() {
		text, err := embedded.ReadFile("rules/" + panel + ".toml")
		if err != nil {
			f.Fatal(err)
		}
		// One rule each: minimising a whole file takes a fuzzer longer than it looks for new ones.
		if _, rules, ok := strings.Cut(string(text), "[[rule]]"); ok {
			first, _, _ := strings.Cut(rules, "[[rule]]")
			f.Add("version = 1\npanel = \"*\"\n[[rule]]" + first)
		}
	}
	f.Add("version = 1\npanel = \"*\"\n[[rule]]\nname=\"a\"\npath=[\"{docroot}/**/*.{a,b}\"]\nkind=\"file\"\naccept=[{owner=[\"user\",\"#5\"],acl=\"!*:w\",when=\"!itk||dso\"}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		p := &Policy{Panel: "x", automata: map[string]*automaton{}}
		if err := p.add("x.toml", []byte(text)); err != nil {
			if !strings.Contains(err.Error(), "x.toml") {
				t.Errorf("%v does not name the file", err)
			}
			return
		}
		b := mustBind(t, p, bindingOf())
		path := "/home/alice/public_html/x.css"
		var want *Rule
		if m := b.Explain(path, rightful.KindFile); len(m) > 0 {
			want = m[0].Rule
		}
		if r := ruleFor(b, path, rightful.KindFile); r != want {
			t.Errorf("rule %v decides, %v is explained", r, want)
		}
		if len(p.Rules()) != len(p.rules) {
			t.Error("rules are missing")
		}
	})
}

func FuzzPattern(f *testing.F) {
	for _, s := range []string{"a/**/b", "*.{a,b}", "{docroot}/x?", `\*`, "**", "{home}", "*a*b*"} {
		f.Add(s, "a/b", "x.a")
	}
	f.Fuzz(func(t *testing.T, text, dir, name string) {
		pt, err := parsePattern(text)
		if err != nil || len(pt.comps) > 100 {
			return
		}
		p := &Policy{Panel: "x", automata: map[string]*automaton{}, maildir: "mail", rules: []*rule{{
			file: "x", name: "x", patterns: []pattern{pt}, kinds: kindsDefault, alts: []alternative{{}},
		}}}
		b, err := p.Bind(bindingOf())
		if err != nil {
			t.Fatal(err)
		}
		path := "/home/alice/public_html/" + dir + "/" + strings.ReplaceAll(name, "/", "")
		got := ruleFor(b, path, rightful.KindFile) != nil
		// The slow way: every anchor that contains the path, component by component.
		want := false
		parts := splitAbs(path)
		for _, a := range [][]string{
			{"home", "alice"},
			{"home", "alice", "public_html"},
			{"home", "alice", "public_html", "blog"},
			{"home", "alice", "public_html", "cgi-bin"},
		} {
			is := map[int]anchor{2: anchorHome, 3: anchorDocRoot, 4: anchorDocRoot}[len(a)]
			if a[len(a)-1] == "cgi-bin" {
				is = anchorCGI
			}
			if is == pt.anchor && len(parts) > len(a) && hasPrefix(parts, a) && len(pt.comps) > 0 && slowMatch(pt.comps, parts[len(a):]) {
				want = true
			}
		}
		if got != want {
			t.Errorf("%q on %q: %v, want %v", text, path, got, want)
		}
	})
}

func slowMatch(cs []comp, names []string) bool {
	if len(cs) == 0 {
		return len(names) == 0
	}
	if cs[0].deep {
		if len(cs) == 1 {
			return len(names) > 0
		}
		for i := range len(names) + 1 {
			if slowMatch(cs[1:], names[i:]) {
				return true
			}
		}
		return false
	}
	return len(names) > 0 && cs[0].match(names[0]) && slowMatch(cs[1:], names[1:])
}

func TestRuleFilesBuildOnOneAnother(t *testing.T) {
	p := mustLoad(t, "myvesta")
	var order []string
	for _, r := range p.Rules() {
		if n := len(order); n == 0 || order[n-1] != r.File {
			order = append(order, r.File)
		}
	}
	if want := []string{"plain.toml", "hestia.toml", "myvesta.toml"}; !slices.Equal(order, want) {
		t.Errorf("rules are from %q, want %q", order, want)
	}
	const path = "/home/alice/web/a.example/public_html"
	b := bindingOf()
	b.DocRoots = []string{path}
	for dir, want := range map[string]string{path: "hestia.toml:docroot", "/home/alice/web/a.example": "hestia.toml:domain", "/home/alice/web": "hestia.toml:web"} {
		if r := ruleFor(mustBind(t, p, b), dir, rightful.KindDir); r == nil || r.String() != want {
			t.Errorf("%s: rule %v, want %s", dir, r, want)
		}
	}
	// The same directories are any {docroot-parent} where no layout names them.
	if r := ruleFor(mustBind(t, mustLoad(t, "plain"), b), "/home/alice/web", rightful.KindDir); r == nil || r.Name != "docroot-parent" {
		t.Errorf("without a layout: rule %v", r)
	}
	for text, want := range map[string]string{
		"base = \"plain\"\n":         "base is for the embedded rules",
		"layout = [\"web/**\"]\n":    "layout",
		"layout = [\"{docroot}\"]\n": "layout",
		"layout = [\"a//b\"]\n":      "layout",
	} {
		_, err := Load("plain", overrides("x.toml", "version = 1\npanel = \"*\"\n"+text))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "x.toml:3") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestANestedHomeHasItsOwnOwner(t *testing.T) {
	p, err := newPolicy(`
[[rule]]
name = "home"
path = "**"
accept = [{ owner = "user" }]
[[rule]]
name = "mine"
path = ["{nested}", "{nested}/**"]
accept = [{ owner = "nested", group = "nested", mode = "0700", deny = "0077" }]
`)
	if err != nil {
		t.Fatal(err)
	}
	bd := bindingOf()
	bd.DocRoots = nil
	bd.Nested = []Nested{{"/home/alice/homes/bob", 20102, 5}, {"/home/alice/homes/bobby", 20103, 5}, {"/home/alice/homes/bobby/deep", 20104, 6}}
	b := mustBind(t, p, bd)
	for path, uid := range map[string]uint32{
		"/home/alice/homes": alice, "/home/alice/homes/bob": 20102, "/home/alice/homes/bob/x/y": 20102, "/home/alice/homes/bobby": 20103,
		"/home/alice/homes/bobby/x": 20103, "/home/alice/homes/bobby/deep": 20104, "/home/alice/homes/bobby/deep/x": 20104,
		"/home/alice/homes/bobbys": alice, "/home/alice/homes/bo": alice,
	} {
		r := ruleFor(b, path, rightful.KindDir)
		if got := r.Judge(rightful.Meta{UID: 9, GID: 9, Mode: 0o700}, rightful.KindDir, false).Want.UID; got != uid {
			t.Errorf("%s belongs to %d, want %d (%s)", path, got, uid, r)
		}
		if m := b.Explain(path, rightful.KindDir); len(m) == 0 || m[0].Rule != r {
			t.Errorf("%s: %v decides, %v is explained", path, r, m)
		}
	}
	// Without such homes the rule is as if it were not written.
	bd.Nested = nil
	if r := ruleFor(mustBind(t, p, bd), "/home/alice/homes/bob", rightful.KindDir); r.Name != "home" {
		t.Errorf("without nested homes: %v", r)
	}
	bd.Nested = []Nested{{"homes/bob", 1, 1}}
	if _, err := p.Bind(bd); err == nil {
		t.Error("a nested home that is not absolute was bound")
	}
}
