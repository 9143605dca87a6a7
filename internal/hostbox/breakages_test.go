package hostbox

import (
	"maps"
	"strings"
	"testing"
)

// What each accident makes of the sites, on either shape of server.
func TestEveryAccidentBreaksWhatItsStorySays(t *testing.T) {
	const front, cgi, css = "/", "/cgi-bin/hello.cgi", "/css/style.css"
	type want map[string]int
	closed := want{front: 403, cgi: 403, css: 403}
	tests := map[string]struct {
		args []string
		want want
	}{
		"chown-public-htmls": {nil, closed},
		"chown-all-to":       {[]string{"carol", "bob"}, closed},
		"chmod-777":          {[]string{"carol"}, want{front: 200, cgi: 500, css: 200}},
		"chmod-644":          {[]string{"carol"}, closed},
		"restored-as-root":   {[]string{"carol"}, closed},
		"strip-group":        {[]string{"carol"}, closed},
		"homes-to-0700":      {nil, closed},
		"docroot-to-root":    {[]string{"carol"}, closed},
		"lost-exec-bits":     {[]string{"carol"}, want{front: 200, cgi: 500, css: 200}},
		"files-to-0600":      {[]string{"carol"}, closed},
		"htaccess-to-0600":   {[]string{"carol"}, closed},
		"cgi-group-writable": {[]string{"carol"}, want{front: 200, cgi: 500, css: 200}},
		"lost-acls":          {[]string{"alice"}, want{front: 200, cgi: 200, css: 200}},
	}
	panels(t, func(t *testing.T, b *Box) {
		ctx := t.Context()
		healthy, err := b.Listing(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Run(ctx, "mkdir /var/tmp/keep && tar --create --acls --file=/var/tmp/keep/homes.tar /home /home2 /srv 2>/dev/null"); err != nil {
			t.Fatal(err)
		}
		for _, k := range Breakages() {
			test, ok := tests[k.Name]
			if !ok {
				t.Errorf("no test says what %q does", k.Name)
				continue
			}
			if err := b.Break(ctx, k.Name, test.args...); err != nil {
				t.Error(err)
				continue
			}
			broken, err := b.Listing(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if len(Differ(healthy, broken, 1)) == 0 {
				t.Errorf("%s changed nothing", k.Name)
			}
			if b.Panel == "nginx" {
				// It runs no CGI, and never looks at .htaccess; PHP reads its scripts whatever nginx may do.
				test.want = nginxWants(k.Name, test.want)
			}
			for path, want := range test.want {
				if code, _, err := b.Get(ctx, "carol.example", path); err != nil || code != want {
					t.Errorf("%s: GET http://carol.example%s: %d, %v, want %d", k.Name, path, code, err, want)
				}
			}
			all := len(test.args) == 0
			for host, code := range b.StatusAll(ctx) {
				// chown -R does not follow the link that is frank's document root, and one site is in no home.
				spared := b.Panel != "cpanel" && (k.Name == "chown-public-htmls" && host == "frank.example" ||
					k.Name == "homes-to-0700" && host == "archive.grace.example")
				want := 200
				if all && !spared || strings.HasSuffix(host, "carol.example") {
					want = test.want[front]
				}
				if code, ok := nginxFronts(k.Name)[host]; ok && b.Panel == "nginx" {
					want = code
				}
				if code != want {
					t.Errorf("%s: http://%s/ answers %d, want %d", k.Name, host, code, want)
				}
			}
			// GNU tar puts everything back for the next accident.
			if _, err := b.Run(ctx, `setfacl -R -b /home /home2 /srv
				tar --extract --acls --preserve-permissions --same-owner --numeric-owner --file=/var/tmp/keep/homes.tar --directory=/`); err != nil {
				t.Fatal(err)
			}
			cured, err := b.Listing(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if diff := Differ(healthy, cured, 5); len(diff) > 0 {
				t.Fatalf("after %s the test did not get its box back:\n%s", k.Name, strings.Join(diff, "\n"))
			}
		}
	})
}

// nginxFronts are the front pages that try_files decides, where nginx cannot look for a file.
func nginxFronts(accident string) map[string]int {
	switch accident {
	case "chown-public-htmls":
		return map[string]int{"judy-cakes.judy.example": 404}
	case "homes-to-0700":
		return map[string]int{"erin.example": 404, "dev.erin.example": 404, "judy.example": 200, "judy-cakes.judy.example": 404}
	}
	return nil
}

// nginxWants is what becomes of carol's site under nginx.
func nginxWants(accident string, apache map[string]int) map[string]int {
	want := maps.Clone(apache)
	want["/cgi-bin/hello.cgi"] = 403
	switch accident {
	case "files-to-0600":
		want["/"] = 200
	case "htaccess-to-0600":
		want["/"], want["/css/style.css"] = 200, 200
	}
	return want
}

func TestAnUnknownAccidentIsNamed(t *testing.T) {
	b := &Box{Panel: "plain", world: newWorld("plain", 2)}
	for _, argv := range [][]string{{"meteor"}, {"chmod-777"}, {"chmod-777", "mallory"}, {"chown-all-to", "alice", "mallory"}} {
		err := b.Break(t.Context(), argv[0], argv[1:]...)
		if err == nil || !strings.Contains(err.Error(), argv[len(argv)-1]) {
			t.Errorf("%q: %v", argv, err)
		}
	}
}

func TestDifferNamesBothSides(t *testing.T) {
	got := strings.Join(Differ("a\nb\nb\nc\n", "b\nc\nd\n", 5), " ")
	if want := "- a - b + d"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Differ("a\n", "a\n", 5); got != nil {
		t.Errorf("equal listings differ: %q", got)
	}
}
