package policy

import (
	"path"
	"slices"
	"strings"
	"testing"

	"rightful"

	"github.com/google/go-cmp/cmp"
)

// listed writes a skeleton down: "etc" for a directory, "www -> public_html" for a link.
func listed(entries []SkeletonEntry) []string {
	out := []string{}
	for _, e := range entries {
		s := e.Rel
		if e.Target != "" {
			s += " -> " + e.Target
		}
		out = append(out, s)
	}
	return out
}

// madeOf says what the rules make of an entry that nothing is right of yet: "alice:mail 0750", of a link "alice".
func madeOf(t *testing.T, b *Bound, home string, e SkeletonEntry) string {
	t.Helper()
	kind := rightful.KindDir
	if e.Target != "" {
		kind = rightful.KindSymlink
	}
	r := ruleFor(b, home+"/"+e.Rel, kind)
	if r == nil {
		t.Errorf("%s: no rule", e.Rel)
		return ""
	}
	j := r.Judge(rightful.Meta{UID: 65533, GID: 65533, Mode: 0o777}, kind, true)
	canonical := slices.ContainsFunc(r.alts, func(a resolved) bool { return a.index == j.Alternative && a.hasMode })
	if kind == rightful.KindDir && !canonical {
		t.Errorf("%s: %s has no canonical mode for it", e.Rel, r)
	}
	if again := r.Judge(j.Want, kind, true); !again.OK || j.Stuck != "" {
		t.Errorf("%s: %s makes %s, which is not right (%q)", e.Rel, r, metaString(j.Want), j.Stuck)
	}
	if kind == rightful.KindSymlink {
		owner, _, _ := strings.Cut(metaString(j.Want), ":")
		return owner
	}
	return metaString(j.Want)
}

// The owners and modes are those of the panels' own tables, not of our rules.
func TestALostHomeIsMadeAgainAsItsPanelMadeIt(t *testing.T) {
	domains := []string{"a.example", "www.a.example", "b.example", "sub.a.example"}
	for _, tt := range []struct {
		c    panelCase
		want []string
	}{
		{
			panelCase{panel: "cpanel", web: rightful.Identity{UID: nobody, GIDs: []uint32{nobody}}, facts: []string{"fileprotect", "suexec"}, docroots: []string{"public_html", "sites/b.example"}},
			[]string{
				"alice:alice 0700 .cpanel", "alice:alice 0700 .cpanel/caches", "alice:alice 0700 .cpanel/datastore", "alice:nobody 0750 .htpasswds",
				"alice access-logs -> /etc/apache2/logs/domlogs/alice", "alice:mail 0750 etc", "alice:mail 0750 etc/a.example",
				"alice:mail 0750 etc/b.example", "alice:mail 0750 etc/sub.a.example", "alice:alice 0700 logs", "alice:alice 0751 mail",
				"alice:alice 0750 public_ftp", "alice:alice 0700 public_ftp/incoming", "alice:nobody 0750 public_html", "alice:alice 0755 public_html/cgi-bin",
				"alice:nobody 0750 sites", "alice:nobody 0750 sites/b.example", "alice:alice 0755 ssl", "alice:alice 0755 ssl/certs", "alice:alice 0700 ssl/private",
				"alice:alice 0755 tmp", "alice www -> public_html",
			},
		},
		{
			panelCase{
				panel: "directadmin", web: rightful.Identity{UID: 48, GIDs: []uint32{48, 900}}, groups: map[string]uint32{"apache": 48, "access": 900}, facts: []string{"suexec", "access-group"},
				docroots: []string{"domains/a.example/public_html", "domains/a.example/public_html/sub", "domains/b.example/public_html"},
			},
			[]string{
				"alice:alice 0711 domains", "alice:alice 0711 domains/a.example", "alice:alice 0755 domains/a.example/logs", "alice:alice 0755 domains/a.example/public_ftp",
				"alice:900 0750 domains/a.example/public_html", "alice:900 0750 domains/a.example/public_html/sub", "alice:alice 0755 domains/a.example/stats",
				"alice:alice 0711 domains/b.example", "alice:alice 0755 domains/b.example/logs", "alice:alice 0755 domains/b.example/public_ftp",
				"alice:900 0750 domains/b.example/public_html", "alice:alice 0755 domains/b.example/stats",
			},
		},
		{
			panelCase{panel: "hestia", web: rightful.Identity{UID: 33, GIDs: []uint32{33}}, groups: map[string]uint32{"www-data": 33}, docroots: []string{"web/a.example/public_html", "web/b.example/public_html/app/public"}},
			[]string{
				"root:root 0751 conf", "root:mail 0751 conf/mail", "root:root 0751 conf/web", "alice:alice 0751 mail", "alice:alice 0700 tmp",
				"root:alice 0751 web", "alice:alice 0551 web/a.example", "alice:alice 0751 web/a.example/cgi-bin", "alice:alice 0751 web/a.example/document_errors",
				"alice:alice 0751 web/a.example/logs", "alice:alice 0751 web/a.example/private", "alice:33 0751 web/a.example/public_html",
				"alice:alice 0751 web/a.example/stats", "alice:alice 0551 web/b.example", "alice:alice 0751 web/b.example/cgi-bin",
				"alice:alice 0751 web/b.example/document_errors", "alice:alice 0751 web/b.example/logs", "alice:alice 0751 web/b.example/private",
				"alice:alice 0755 web/b.example/public_html", "alice:alice 0755 web/b.example/public_html/app", "alice:33 0751 web/b.example/public_html/app/public",
				"alice:alice 0751 web/b.example/stats",
			},
		},
		{
			panelCase{panel: "virtualmin", web: rightful.Identity{UID: 33, GIDs: []uint32{33, alice}}, facts: []string{"suexec", "web-in-group"}, docroots: []string{"public_html", "domains/sub.a.example/public_html"}},
			[]string{
				"alice:alice 0755 cgi-bin", "alice:alice 0750 domains", "alice:alice 0750 domains/sub.a.example", "alice:alice 0755 domains/sub.a.example/cgi-bin",
				"alice:alice 0755 domains/sub.a.example/homes", "alice:alice 0750 domains/sub.a.example/logs", "alice:alice 0750 domains/sub.a.example/public_html",
				"alice:alice 0750 domains/sub.a.example/tmp", "alice:alice 0755 homes", "alice:alice 0750 logs", "alice:alice 0750 public_html", "alice:alice 0750 tmp",
			},
		},
		{
			panelCase{
				panel: "plesk", home: "/var/www/vhosts/a.example", web: rightful.Identity{UID: 33, GIDs: []uint32{33, 1004}}, groups: map[string]uint32{"psaserv": 1004},
				docroots: []string{"httpdocs", "b.example"},
			},
			[]string{"alice:1004 0750 b.example", "alice:alice 0755 error_docs", "alice:1004 0750 httpdocs", "alice:root 0700 logs"},
		},
		{
			panelCase{panel: "ispconfig", home: "/var/www/clients/client3/web7", web: rightful.Identity{UID: 33, GIDs: []uint32{33, alice}}, facts: []string{"web-in-group"}, docroots: []string{"web", "sub"}},
			[]string{
				"alice:alice 0755 cgi-bin", "root:alice 0755 log", "alice:alice 0710 private", "root:root 0755 ssl", "alice:alice 0711 sub",
				"alice:alice 0770 tmp", "alice:alice 0711 web", "alice:alice 0710 webdav",
			},
		},
		{
			panelCase{panel: "cyberpanel", web: rightful.Identity{UID: 65534, GIDs: []uint32{65534}}, groups: map[string]uint32{"nogroup": 65534}, docroots: []string{"public_html"}},
			[]string{"root:65534 0750 logs", "alice:65534 0750 public_html"},
		},
		{
			panelCase{panel: "cloudpanel", web: rightful.Identity{UID: 33, GIDs: []uint32{33, alice}}, facts: []string{"web-in-group", "nginx"}, docroots: []string{"htdocs/b.example/public"}},
			[]string{"alice:alice 0770 htdocs", "alice:alice 0770 htdocs/b.example", "alice:alice 0770 htdocs/b.example/public"},
		},
		{
			panelCase{panel: "plain", web: rightful.Identity{UID: 33, GIDs: []uint32{33}}, docroots: []string{"www/a.example/htdocs"}},
			[]string{"alice:alice 0755 www", "alice:alice 0755 www/a.example", "alice:33 0750 www/a.example/htdocs"},
		},
	} {
		t.Run(tt.c.panel, func(t *testing.T) {
			b, home := tt.c.bind(t), tt.c.home
			if home == "" {
				home = "/home/alice"
			}
			var got []string
			entries := mustLoad(t, tt.c.panel).Skeleton("alice", domains, tt.c.docroots)
			for i, s := range listed(entries) {
				got = append(got, madeOf(t, b, home, entries[i])+" "+s)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestPanelsThatCopyAnotherHaveItsSkeleton(t *testing.T) {
	docroots := []string{"web/a.example/public_html"}
	want := listed(mustLoad(t, "hestia").Skeleton("alice", []string{"a.example"}, docroots))
	for _, panel := range []string{"vesta", "myvesta"} {
		if d := cmp.Diff(want, listed(mustLoad(t, panel).Skeleton("alice", []string{"a.example"}, docroots))); d != "" {
			t.Errorf("%s: %s", panel, d)
		}
	}
}

// withSkeleton loads the plain rules, which have no skeleton, with tables of an operator's, each a file of its own.
func withSkeleton(t *testing.T, tables ...string) *Policy {
	t.Helper()
	var files []string
	for i, s := range tables {
		files = append(files, string(rune('a'+i))+".toml", "version = 1\npanel = \"*\"\n[skeleton]\n"+s)
	}
	p, err := Load("plain", overrides(files...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNothingInASkeletonLeadsOutOfTheHome(t *testing.T) {
	p := withSkeleton(t, `
dirs  = ["of/{user}", "for/{domain}", "web/{domain}/logs", "{docroot}/in/{user}"]
links = [{ path = "www", target = "pub" }, { path = "out", target = "/var/{user}" }, { path = "r1", target = "r2" }, { path = "r2", target = "r1" }]`)
	for _, tt := range []struct {
		name, user        string
		domains, docroots []string
		want              []string
	}{
		{"nothing", "u", nil, nil, []string{"of", "of/u", "out -> /var/u", "r1 -> r2", "r2 -> r1", "www -> pub"}},
		{"no name for a file", "../u", nil, nil, []string{"r1 -> r2", "r2 -> r1", "www -> pub"}},
		{"domains that are none", "u", []string{"", ".", "..", "../x", "a/b", "*.d.example", "d.example", "{user}", ".x", "a\x00b", "a b"}, nil, []string{
			"for", "for/d.example", "of", "of/u", "out -> /var/u", "r1 -> r2", "r2 -> r1", "www -> pub",
		}},
		{"aliases of a domain", "u", []string{"d.example", "www.d.example", "mail.d.example", "www.example", "shop.d.example"}, nil, []string{
			"for", "for/d.example", "for/shop.d.example", "for/www.example", "of", "of/u", "out -> /var/u", "r1 -> r2", "r2 -> r1", "www -> pub",
		}},
		{"document roots elsewhere", "u", nil, []string{"", ".", "..", "../x", "a/../..", "/abs", "a\x00b", "out", "out/x", "r1/x", "r2"}, []string{
			"of", "of/u", "out -> /var/u", "r1 -> r2", "r2 -> r1", "www -> pub",
		}},
		{"document roots in the home", "u", []string{"d.example", "e.example"}, []string{"web/d.example/html/", "www/blog", "www", "./x//y", "x/y", "{user}", "of"}, []string{
			"of", "of/in", "of/in/u", "of/u", "out -> /var/u", "pub", "pub/blog", "pub/blog/in", "pub/blog/in/u", "pub/in", "pub/in/u", "r1 -> r2", "r2 -> r1",
			"web", "web/d.example", "web/d.example/html", "web/d.example/html/in", "web/d.example/html/in/u", "web/d.example/logs", "www -> pub",
			"x", "x/y", "x/y/in", "x/y/in/u", "{user}", "{user}/in", "{user}/in/u", "for", "for/d.example", "for/e.example",
		}},
	} {
		slices.Sort(tt.want)
		if d := cmp.Diff(tt.want, listed(p.Skeleton(tt.user, tt.domains, tt.docroots))); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
}

func TestOperatorsAddToAndTakeFromASkeleton(t *testing.T) {
	p := withSkeleton(t, `dirs = ["public_ftp", "public_ftp/incoming", "public_ftps", "logs"]`+"\n"+`links = [{ path = "www", target = "public_html" }]`,
		`without = ["public_ftp"]`+"\n"+`dirs = ["www", "private"]`+"\n"+`links = [{ path = "logs", target = "/srv/logs/{user}" }]`)
	want := []string{"logs -> /srv/logs/u", "private", "public_ftps", "www"}
	if d := cmp.Diff(want, listed(p.Skeleton("u", nil, nil))); d != "" {
		t.Error(d)
	}
	table := []SkeletonInfo{{"a.toml", "public_ftps", ""}, {"b.toml", "www", ""}, {"b.toml", "private", ""}, {"b.toml", "logs", "/srv/logs/{user}"}}
	if d := cmp.Diff(table, p.SkeletonTable()); d != "" {
		t.Error(d)
	}
	// An operator's file for another panel says nothing here.
	p, err := Load("plain", overrides("a.toml", "version = 1\npanel = \"cpanel\"\n[skeleton]\ndirs = [\"x\"]\n"))
	if err != nil || len(p.Skeleton("u", nil, nil)) != 0 {
		t.Errorf("%v, %v", p.Skeleton("u", nil, nil), err)
	}
}

func TestLoadRefusesASkeletonThatCannotBeMeant(t *testing.T) {
	for text, want := range map[string]string{
		`dirs = ["/etc"]`:                                              `"x.toml:3": skeleton: dirs "/etc": is not below the home`,
		`dirs = ["a/../b"]`:                                            `dirs "a/../b": is not a plain path`,
		`dirs = [".."]`:                                                `is not a plain path`,
		`dirs = ["../x"]`:                                              `is not a plain path`,
		`dirs = ["a//b"]`:                                              `is not a plain path`,
		`dirs = ["a/"]`:                                                `is not a plain path`,
		`dirs = ["."]`:                                                 `is not a plain path`,
		`dirs = [""]`:                                                  `is not a plain path`,
		`dirs = ["a\u0000b"]`:                                          `is not a plain path`,
		`dirs = ["a/*"]`:                                               `only {user}, {domain} stand for something`,
		`dirs = ["a/{home}"]`:                                          `only {user}, {domain} stand for something`,
		`dirs = ["a/{docroot}"]`:                                       `only {user}, {domain} stand for something`,
		`dirs = ["{docroot}"]`:                                         `there anyhow`,
		`dirs = ["{docroot}x"]`:                                        `whole components`,
		`dirs = ["{docroot}/../x"]`:                                    `is not a plain path`,
		`dirs = ["{docroot}/{domain}"]`:                                `no domain of its own`,
		`dirs = ["a", "a"]`:                                            `dirs "a": is there twice`,
		`without = ["/a"]`:                                             `without "/a": is not below the home`,
		`links = [{ path = "a", target = "" }]`:                        `links "a": target "": is not a plain path`,
		`links = [{ path = "a" }]`:                                     `is not a plain path`,
		`links = [{ path = "a", target = "../b" }]`:                    `target "../b": is not a plain path`,
		`links = [{ path = "a", target = "//b" }]`:                     `is not a plain path`,
		`links = [{ path = "a", target = "/" }]`:                       `is not a plain path`,
		`links = [{ path = "a", target = "/x/../y" }]`:                 `is not a plain path`,
		`links = [{ path = "a", target = "{docroot}" }]`:               `only {user}, {domain} stand for something`,
		`links = [{ path = "a", target = "{domain}" }]`:                `cannot lead to every domain`,
		`links = [{ path = "{docroot}", target = "b" }]`:               `there anyhow`,
		`links = [{ path = "/a", target = "b" }]`:                      `is not below the home`,
		"dirs = [\"a\"]\nlinks = [{ path = \"a\", target = \"b\" }]":   `links "a": is there twice`,
		"dirs = [\"a/b\"]\nlinks = [{ path = \"a\", target = \"b\" }]": `"a/b" lies beneath the link "a"`,
		`links = [{ path = "a", to = "b" }]`:                           `unknown key "skeleton.links.to"`,
		`files = ["a"]`:                                                `unknown key "skeleton.files"`,
	} {
		// Another panel's is checked too, but for what only all files together say.
		for _, panel := range []string{"plain", "cpanel"} {
			_, err := Load("plain", overrides("x.toml", "version = 1\npanel = \""+panel+"\"\n[skeleton]\n"+text+"\n"))
			if panel == "cpanel" && strings.Contains(want, "beneath") {
				continue
			}
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "x.toml:") {
				t.Errorf("%s for %s: %v\nwant %s", text, panel, err, want)
			}
		}
	}
	if _, err := Load("cpanel", overrides("x.toml", "version = 1\npanel = \"*\"\n[skeleton]\ndirs = [\"www/x\"]\n")); err == nil || !strings.Contains(err.Error(), `"www/x" lies beneath the link "www"`) {
		t.Errorf("beneath a link of another file: %v", err)
	}
}

func FuzzSkeleton(f *testing.F) {
	f.Add("alice", "a.example\nwww.a.example", "public_html\nwww/x\n../y")
	f.Add("..", "*.x\n..", "access-logs/x\n/abs\n.")
	f.Add("a{domain}", "{user}", "{docroot}/{domain}\nweb/{user}/x")
	policies := []*Policy{mustLoad(f, "cpanel"), mustLoad(f, "hestia")}
	f.Fuzz(func(t *testing.T, user, domains, docroots string) {
		for _, p := range policies {
			roots := strings.Split(docroots, "\n")
			seen := map[string]string{}
			got := p.Skeleton(user, strings.Split(domains, "\n"), roots)
			for _, e := range got {
				if e.Rel == "" || e.Rel[0] == '/' || path.Clean("/"+e.Rel) != "/"+e.Rel || strings.ContainsRune(e.Rel, 0) {
					t.Fatalf("%q is no path below a home", e.Rel)
				}
				if _, twice := seen[e.Rel]; twice {
					t.Fatalf("%q is there twice", e.Rel)
				}
				seen[e.Rel] = e.Target
				if dir := path.Dir(e.Rel); dir != "." {
					if target, there := seen[dir]; !there || target != "" {
						t.Fatalf("%q comes before its directory, or lies beneath a link (%v, %q)", e.Rel, there, target)
					}
				}
			}
			slices.Reverse(roots)
			if d := cmp.Diff(listed(got), listed(p.Skeleton(user, strings.Split(domains, "\n"), roots))); d != "" {
				t.Fatalf("the order of document roots matters: %s", d)
			}
		}
	})
}
