package replay

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"rightful"
)

// probed is a line of rightful probe.
type probed struct {
	Kind, Site, URL, Class string
	Status, Predicted      int
	Agrees, Certain        bool
}

func (a *answer) probes(t *testing.T) (all []probed) {
	t.Helper()
	for line := range strings.Lines(a.stdout) {
		var p probed
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			t.Fatalf("JSON line %q: %v", line, err)
		}
		if p.Kind == "probe" {
			all = append(all, p)
		}
	}
	return all
}

// What nginx answers for a file may be decided by a location; front pages are predicted all the same.
func TestProbeAgreesWithNginx(t *testing.T) {
	t.Parallel()
	s := start(t, "nginx", 0)
	s.rightful("probe").exit(t, 0)
	s.breakIt("strip-group", "bob")
	if a := s.rightful("probe", "bob").exit(t, 1); a.summary["disagree"] != 0.0 || a.summary["refused"] == 0.0 {
		t.Errorf("summary %v", a.summary)
	}
}

// Every site is asked for its front page, some files and a script, whoever visited it. A healthy server answers as predicted,
// and so does a broken one; what neither modes nor configuration show is a finding.
func TestProbeHoldsAnswersAgainstPredictions(t *testing.T) {
	panels(t, func(t *testing.T, s *server) {
		whole := s.rightful("probe").exit(t, 0)
		probes := whole.probes(t)
		pages := map[string]int{}
		for _, p := range probes {
			if pages[p.Site]++; p.Class != "served" && p.Predicted == 200 && p.Certain || !p.Agrees {
				t.Errorf("healthy, and yet %+v", p)
			}
		}
		for _, site := range s.Sites() {
			if pages[site.Host] < 4 {
				t.Errorf("site %s was asked for %d pages", site.Host, pages[site.Host])
			}
		}

		every := s.rightful("probe", "alice", "--all", "--rate", "2000").exit(t, 0)
		asked := map[string]bool{}
		for _, p := range every.probes(t) {
			if asked[p.URL] = true; !p.Agrees {
				t.Errorf("every page: %+v", p)
			}
		}
		for _, site := range s.Sites() {
			for _, path := range s.files(site) {
				if u := "http://" + site.Host + path; site.Account == "alice" && !asked[u] {
					t.Errorf("%s was not asked for", u)
				}
			}
		}

		s.breakIt("files-to-0600", "alice")
		s.breakIt("strip-group", "bob")
		broken := s.rightful("probe", "alice", "bob").exit(t, 1)
		refused := 0
		for _, p := range broken.probes(t) {
			if !p.Agrees {
				t.Errorf("broken: %+v", p)
			}
			if p.Class == "refused" {
				refused++
			}
		}
		if n := broken.summary["disagree"]; n != 0.0 || refused < 6 {
			t.Errorf("%v answers are not as predicted, %d refused", n, refused)
		}

		// As systemd's ProtectHome does it: the server sees another tree than everybody else.
		s.sh(`pid=$(cat /run/apache2/*.pid)
			kill "$pid"
			tail --pid="$pid" --sleep-interval=0.02 --follow /dev/null
			unshare --mount sh -c '
			mount -t tmpfs -o mode=0700 none /home/carol
			if [ -e /etc/apache2/envvars ]; then . /etc/apache2/envvars; fi
			mkdir -p /run/apache2
			if [ -e /usr/sbin/httpd ]; then httpd -k start; else apache2 -k start; fi'`)
		eventually(t, "the web server answers", func() bool {
			code, _, err := s.Visit(t.Context(), "dave.example", "/")
			return err == nil && code > 0
		})
		odd := s.rightful("probe", "carol.example").exit(t, 1)
		i := slices.IndexFunc(odd.findings, func(f rightful.Finding) bool { return string(f.Problem) == "verdict-disagrees" })
		if i < 0 || !slices.Equal(odd.findings[i].Sites, []string{"carol.example"}) || !strings.Contains(odd.findings[i].Note, "predicted 200, seen 403") {
			t.Errorf("findings %+v\n%s", odd.findings, head(odd.stdout, 5))
		}

		// Nothing runs below another root.
		s.rightful("probe", "--root", "/srv").exit(t, 3)
	})
}
