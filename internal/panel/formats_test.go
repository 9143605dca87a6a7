package panel

import (
	"fmt"
	"testing"
)

func TestGroupsAreThoseOfInitgroups(t *testing.T) {
	u, issues, err := ReadUsers(server(t, files{
		"etc/passwd": "alice:x:1000:1000::/home/alice:\n#c\n\nbroken\nx:y:z:0::/:\nalice:x:5:5::/:\nbob:x:1001:1000::/home/bob:",
		"etc/group":  "alice:x:1000:alice\nweb:x:33:alice,bobby\nbob:x:1001:\nbobs:x:7:bob,,alice\nbad\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	want(t, "alice", u.Groups("alice"), []uint32{1000, 33, 7})
	want(t, "bob", u.Groups("bob"), []uint32{1000, 7})
	want(t, "unknown", u.Groups("ali"), []uint32(nil))
	want(t, "names", []string{u.Name(1001), u.Name(4), u.GroupName(33), u.GroupName(4)}, []string{"bob", "4", "web", "4"})
	got := []string{}
	for _, i := range issues {
		got = append(got, fmt.Sprintf("%s:%d", i.File, i.Line))
	}
	want(t, "issues", got, []string{"/etc/passwd:4", "/etc/passwd:5", "/etc/passwd:6", "/etc/group:5"})
}

func TestAUidIsFreeOnlyWherePasswdIsTheOnlySource(t *testing.T) {
	for _, c := range []struct {
		nsswitch, passwd string
		uid              uint32
		held, certain    bool
	}{
		{"passwd: files\n", "", 1000, true, true},
		{"passwd: files\n", "", 4000, false, true},
		{"passwd:\tcompat systemd # x\ngroup: ldap\n", "", 4000, false, true},
		{"passwd: files systemd\n", "", 61200, false, false},
		{"passwd: files [NOTFOUND=return]\n", "", 4000, false, true},
		{"passwd: files sss\n", "", 4000, false, false},
		{"passwd: compat\n", "+::::::\n", 4000, false, false},
		{"", "", 4000, false, true},
	} {
		fs := files{"etc/passwd": "alice:x:1000:1000::/home/alice:\n" + c.passwd}
		if c.nsswitch != "" {
			fs["etc/nsswitch.conf"] = c.nsswitch
		}
		u, _, err := ReadUsers(server(t, fs))
		if err != nil {
			t.Fatal(err)
		}
		held, certain := u.Held(c.uid)
		want(t, c.nsswitch+c.passwd, []bool{held, certain}, []bool{c.held, c.certain})
	}
}

func TestPathsAreComparedByWholeNames(t *testing.T) {
	for _, c := range []struct {
		p, dir string
		in     bool
	}{
		{"/home/bob", "/home/bob", true},
		{"/home/bob/x", "/home/bob", true},
		{"/home/bobby", "/home/bob", false},
		{"/home", "/home/bob", false},
		{"/x", "/", true},
	} {
		want(t, c.p+" in "+c.dir, Within(c.p, c.dir), c.in)
	}
	for p, is := range map[string]bool{
		"/": true, "/home": true, "/home2": true, "/home/a": false, "/homes": false, "/etc/x": true, "/etcetera": false, "/var/www": true,
		"/var/www/a": false, "/srv": true, "/srv/a": false, "/var/lib/x": true, "/usr/home/a": false, "/root": true, "/home/virtfs": true, "/home/virtfs/alice": true, "/home/virtfsx": false, "/var/cagefs/12/alice": true,
	} {
		want(t, "system directory "+p, SystemDir(p), is)
	}
}

func TestYAMLIsReadAsPanelsWriteIt(t *testing.T) {
	doc, err := parseYAML("\ufeff--- \r\nmain_domain: 'a.example' \r\nparked_domains: \r\n- b.example\r\n- \"c.example\"\r\naddon_domains: {x.example: y.a.example, 'z': w}\n" +
		"empty: ''\nnone: ~\nlist: []\nsub_domains:\n  - d.example # comment\n  - '*.e.example'\naliases: one two\n  three\nscriptalias:\n  - path: /home/a b/cgi\n    url: /cgi-bin/\n  - {path: /c, url: /d}\nurl: http://x/#y\n\"_is_present\": 1\nlast: end")
	if err != nil {
		t.Fatalf("line %d: %s", err.line, err.msg)
	}
	want(t, "scalars", []string{doc.get("main_domain"), doc.get("empty"), doc.get("none"), doc.get("aliases"), doc.get("url"), doc.get("_is_present"), doc.get("last")},
		[]string{"a.example", "", "", "one two three", "http://x/#y", "1", "end"})
	want(t, "lists", [][]string{doc.fields["parked_domains"].list(), doc.fields["sub_domains"].list()},
		[][]string{{"b.example", "c.example"}, {"d.example", "*.e.example"}})
	want(t, "maps", []string{doc.fields["addon_domains"].get("x.example"), doc.fields["addon_domains"].get("z")}, []string{"y.a.example", "w"})
	s := doc.fields["scriptalias"].items
	if len(s) != 2 {
		t.Fatalf("scriptalias: %+v", s)
	}
	want(t, "list of maps", []string{s[0].get("path"), s[0].get("url"), s[1].get("path")}, []string{"/home/a b/cgi", "/cgi-bin/", "/c"})
	for text, line := range map[string]int{"a: b\nnonsense\n": 2, "a: [b\n": 1, "a:\n\tb: c\n": 2, "a: &x b\n": 1, "a: \"b\n": 1} {
		if _, err := parseYAML(text); err == nil || err.line != line {
			t.Errorf("%q: %+v, want an error in line %d", text, err, line)
		}
	}
}

func TestUserDataDomainsKeepsEmptyFields(t *testing.T) {
	out, issues := parseUserDataDomains("a.example: alice==root==main==a.example==/home/alice/x y==192.0.2.1:80======0==ea-php82\r\n" +
		"a.example: alice==root==main==a.example==/home/alice/x y==192.0.2.1:80======0==ea-php82\n" +
		"b.example: bob==root====b.example==/home/bob/w/==\n" +
		"c.example: c==root==main==c.example==/home/c==d==192.0.2.1:80\n" +
		"d.example: d==root==main==d.example==/home/d\nd.example: e==root==main==d.example==/home/e\n" +
		"e.example:e==root==main==e==/home/e\nf.example: ../x==root==main==f==/home/f\ng.example: g==root==main==g==home/g")
	want(t, "lines", fmt.Sprintf("%+v", out), "[{domain:a.example user:alice kind:main parent:a.example docroot:/home/alice/x y addr:192.0.2.1:80 tls: php:ea-php82 line:1}"+
		" {domain:b.example user:bob kind: parent:b.example docroot:/home/bob/w addr: tls: php: line:3}]")
	lines := []int{}
	for _, i := range issues {
		lines = append(lines, i.Line)
	}
	want(t, "broken lines", lines, []int{4, 6, 7, 8, 9})
}

func FuzzYAML(f *testing.F) {
	for _, s := range []string{"a: b\nc:\n- d\n- e: f\n  g: h\n", "- - a\n", "a: {b: [c, 'd']}", "---\n\"", "a:\n- b\nc: |\n  d", "-\n-\n  -", "? a", "{", "- a: b\n - c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) { parseYAML(text) })
}

func FuzzUserDataDomains(f *testing.F) {
	f.Add("a.example: alice==root==main==a.example==/home/alice==192.0.2.1:80======0==\n*: nobody")
	f.Fuzz(func(t *testing.T, text string) {
		out, _ := parseUserDataDomains(text)
		for _, d := range out {
			if d.docroot[0] != '/' || !soundName(d.user) {
				t.Errorf("%+v", d)
			}
		}
	})
}

// FuzzCPanel feeds one text to every reader of cPanel's files at once.
func FuzzCPanel(f *testing.F) {
	f.Add("a.example: alice\n", "USER=alice\nDNS=a.example\n")
	f.Add("a: alice\na: bob\n: \n", "=\n==\n")
	f.Fuzz(func(t *testing.T, list, user string) {
		parseTrueUsers(list)
		keyValues(user)
	})
}

func FuzzUsers(f *testing.F) {
	f.Add("a:x:1:2::/home/a:\n", "g:x:1:a,b\n", "UID_MIN 1\n", "passwd: files [x")
	f.Fuzz(func(t *testing.T, passwd, group, defs, nss string) {
		u := &Users{byName: map[string]int{}, byUID: map[uint32]int{}, groups: map[string]uint32{}, gnames: map[uint32]string{}, members: map[string][]uint32{}}
		u.passwd("p", passwd)
		u.group("g", group)
		u.loginDefs(defs)
		u.nsswitch(nss)
		for _, e := range u.All() {
			if len(u.Groups(e.Name)) == 0 {
				t.Errorf("user %q has no group", e.Name)
			}
		}
	})
}
