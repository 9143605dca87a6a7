package replay

import (
	"bytes"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/hostbox"

	gocmp "github.com/google/go-cmp/cmp"
)

// cannot asks the kernel, as a user, which of some files that user cannot open (-r) or even see (-e).
func (s *server) cannot(test, user string, files []string) map[string]bool {
	s.t.Helper()
	cmd := s.CommandAs(s.t.Context(), user, "bash", "-c", `while IFS= read -r -d '' f; do [ `+test+` "$f" ] || printf '%s\0' "$f"; done`)
	cmd.Stdin = strings.NewReader(strings.Join(files, "\x00") + "\x00")
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		s.t.Fatal(err)
	}
	not := map[string]bool{}
	for f := range strings.SplitSeq(out.String(), "\x00") {
		not[f] = true
	}
	delete(not, "")
	return not
}

// holdNginx demands that what check says is what nginx does: the status of every front page, and for the named accounts
// the number of files that whoever serves them cannot open, by the kernel's word, each of which visitors do not get.
func (s *server) holdNginx(check *answer, accounts ...string) {
	s.t.Helper()
	codes := s.StatusAll(s.t.Context())
	for _, site := range s.Sites() {
		v := check.sites[site.Host]
		if v.Status != codes[site.Host] || (v.State == rightful.SiteDown) != (codes[site.Host] != 200) {
			s.t.Errorf("GET http://%s/: %d, predicted %d %q (%s: %s)", site.Host, codes[site.Host], v.Status, v.State, v.Culprit, v.Why)
		}
		if !slices.Contains(accounts, site.Account) {
			continue
		}
		var static, scripts []string
		paths := s.files(site)
		for _, p := range paths {
			rel, err := url.PathUnescape(p)
			if err != nil {
				s.t.Fatal(err)
			}
			switch {
			case strings.HasPrefix(p, "/cgi-bin/"): // closed by the configuration, whatever its files are like
			case strings.HasSuffix(p, ".php"):
				scripts = append(scripts, site.DocRoot+rel)
			default:
				static = append(static, site.DocRoot+rel)
			}
		}
		not := s.cannot("-r", "www-data", static)
		maps.Copy(not, s.cannot("-r", site.Account, scripts))
		if site.Account == "ivan" { // his nginx looks for a script before it hands it to PHP
			maps.Copy(not, s.cannot("-e", "www-data", scripts))
		}
		if len(paths) < 20 || len(not) != v.Blocked {
			s.t.Errorf("%s: %d of %d files cannot be opened, predicted %d", site.Host, len(not), len(paths), v.Blocked)
		}
		for p, code := range s.statuses(site.Host, paths) {
			rel, _ := url.PathUnescape(p)
			// Where try_files leads to an application, that one answers for what nginx does not see.
			fallback := strings.HasPrefix(p, "/wp/") || site.Account == "judy"
			switch blocked := not[site.DocRoot+rel]; {
			case strings.HasPrefix(p, "/cgi-bin/"): // closed by the configuration
			case blocked && code != 403 && code != 404 && !fallback, !blocked && code != 200:
				s.t.Errorf("GET http://%s%s: %d, and by the kernel it can be opened: %v", site.Host, p, code, !blocked)
			}
		}
	}
}

// Every accident on a server with nginx: the prediction holds, the repair cures every site, and undo takes all of it back.
func TestEveryAccidentUnderNginxIsPredictedRepairedAndTakenBack(t *testing.T) {
	t.Parallel()
	s := start(t, "nginx", 0)
	carol, harmless := []string{"carol"}, []string{"htaccess-to-0600", "cgi-group-writable"}
	accidents := map[string]struct {
		args, ask []string
		worst     rightful.Effect
		accept    string
	}{
		"chown-public-htmls": {nil, []string{"alice", "erin", "judy"}, rightful.EffectDown, ""},
		"chown-all-to":       {[]string{"carol", "bob"}, carol, rightful.EffectDown, "foreign-owner:bob"},
		"chmod-777":          {carol, carol, rightful.EffectExposed, ""},
		"chmod-644":          {carol, carol, rightful.EffectDown, ""},
		"restored-as-root":   {carol, carol, rightful.EffectDown, "root-owned:carol"},
		"strip-group":        {[]string{"alice"}, []string{"alice"}, rightful.EffectDown, ""},
		"homes-to-0700":      {nil, []string{"erin", "grace", "judy", "ivan"}, rightful.EffectDown, ""},
		"docroot-to-root":    {[]string{"bob"}, []string{"bob"}, rightful.EffectDown, ""},
		"lost-exec-bits":     {carol, carol, rightful.EffectWrong, ""},
		"files-to-0600":      {[]string{"frank"}, []string{"frank"}, rightful.EffectBroken, ""},
		"htaccess-to-0600":   {args: []string{"alice"}},
		"cgi-group-writable": {args: carol},
		"lost-acls":          {[]string{"alice"}, []string{"alice"}, rightful.EffectBroken, ""},
	}
	healthy := s.rightful("check").exit(t, 0)
	if len(healthy.findings) > 0 {
		t.Fatalf("on a healthy server check finds %q", healthy.paths())
	}
	s.holdNginx(healthy, "alice", "bob", "erin", "frank", "judy")
	s.keep()
	for _, k := range hostbox.Breakages() {
		a, ok := accidents[k.Name]
		if !ok {
			t.Errorf("no test says what becomes of %q", k.Name)
			continue
		}
		t.Run(k.Name, func(t *testing.T) {
			s := s.with(t)
			defer s.putBack()
			s.breakIt(k.Name, a.args...)
			if slices.Contains(harmless, k.Name) {
				if check := s.rightful("check").exit(t, 0); len(check.findings) > 0 {
					t.Errorf("nginx does not mind, but check finds %q", check.paths())
				}
				s.healthy("after what nginx does not mind")
				return
			}
			broken, bad := s.listing(), s.bad()
			check := s.rightful("check").exit(t, 1)
			s.holdNginx(check, a.ask...)
			var worst rightful.Effect
			for _, f := range check.findings {
				if f.Effect.Rank() < worst.Rank() {
					worst = f.Effect
				}
				for _, site := range f.Sites {
					if f.Effect == rightful.EffectDown && bad[site] == 0 && len(f.Sites) == 1 {
						t.Errorf("%s: effect down, but http://%s/ is served", f.Path, site)
					}
				}
			}
			if worst != a.worst {
				t.Errorf("the worst effect is %q, want %q", worst, a.worst)
			}
			args := []string{"fix", "--yes"}
			if a.accept != "" {
				s.rightful(args...).exit(t, 1)
				args = append(args, "--accept="+a.accept)
			}
			s.rightful(args...).exit(t, 0)
			s.healthy("after the repair")
			again := s.rightful("check").exit(t, 0)
			s.holdNginx(again, a.ask...)
			for range len(s.rightful("runs").runs) {
				s.rightful("undo", "--yes").exit(t, 0)
			}
			if diff := gocmp.Diff(bad, s.bad()); diff != "" {
				t.Errorf("sites after undo (-after the accident +after undo):\n%s", diff)
			}
			s.same("after undo", broken)
		})
	}
}
