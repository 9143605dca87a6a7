package replay

import (
	"bufio"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"rightful"
	"rightful/internal/hostbox"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// logged is a line of rightful logs.
type logged struct {
	Kind, Account, Site, Code, Now, Culprit, Path string
	Count                                         int
	First, Last                                   time.Time
}

// of reads the lines of one kind from an answer.
func (a *answer) of(t *testing.T, kind string) (all []logged) {
	t.Helper()
	for line := range strings.Lines(a.stdout) {
		var l logged
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("JSON line %q: %v", line, err)
		}
		if l.Kind == kind {
			all = append(all, l)
		}
	}
	return all
}

func sitesOf(ls []logged, now string) []string {
	all := map[string]bool{}
	for _, l := range ls {
		if now == "" || l.Now == now {
			all[l.Site] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// After the accident a few sites are visited. The logs name these, as still broken; all others that are broken come last, as
// broken and in no log. After the repair the same lines are cured.
func TestLogsNameTheVisitedAndTheBrokenThatNobodyVisited(t *testing.T) {
	t.Parallel()
	for _, panel := range []string{"cpanel", "plain", "nginx"} {
		t.Run(panel, func(t *testing.T) {
			t.Parallel()
			s := start(t, panel, 0)
			s.healthy("before the accident")
			s.breakIt("chown-public-htmls")
			check := s.rightful("check").exit(t, 1)
			var broken []string
			for _, v := range check.sites {
				if v.State == rightful.SiteDown || v.State == rightful.SiteBroken {
					broken = append(broken, v.Site)
				}
			}
			slices.Sort(broken)
			if len(broken) < 10 {
				t.Fatalf("only %d sites are broken", len(broken))
			}
			before := time.Now()
			visited := []string{}
			for _, site := range s.Sites() {
				// In a log that many write, a line about a document root says nothing of those in it.
				nested := panel == "cpanel" && slices.ContainsFunc(s.Sites(), func(o hostbox.Site) bool { return strings.HasPrefix(site.DocRoot, o.DocRoot+"/") })
				if slices.Contains(broken, site.Host) && !nested && len(visited) < 3 {
					if code, _, err := s.Visit(t.Context(), site.Host, site.Path); err != nil || code == 200 {
						t.Fatalf("GET http://%s%s: %d, %v", site.Host, site.Path, code, err)
					}
					visited = append(visited, site.Host)
				}
			}
			slices.Sort(visited)

			logs := s.rightful("logs").exit(t, 1)
			failures := logs.of(t, "failure")
			if diff := gocmp.Diff(visited, sitesOf(failures, "broken")); diff != "" {
				t.Errorf("sites that logs call still broken (-visited +logs):\n%s\n%s", diff, head(logs.stdout, 20))
			}
			for _, f := range failures {
				if f.Now != "broken" || f.Culprit != check.sites[f.Site].Culprit {
					t.Errorf("failure %+v; check blames %q", f, check.sites[f.Site].Culprit)
				}
				if f.First.Before(before.Add(-2*time.Second)) || f.Last.After(time.Now().Add(time.Second)) {
					t.Errorf("failure of %s from %s to %s, but it was visited at %s", f.Site, f.First, f.Last, before)
				}
			}
			var unvisited []string
			for _, site := range broken {
				if !slices.Contains(visited, site) {
					unvisited = append(unvisited, site)
				}
			}
			if diff := gocmp.Diff(unvisited, sitesOf(logs.of(t, "unlogged"), "")); diff != "" {
				t.Errorf("sites that are broken and in no log (-unvisited +logs):\n%s", diff)
			}

			s.rightful("fix", "--yes").exit(t, 0)
			cured := s.rightful("logs").exit(t, 0)
			if diff := gocmp.Diff(visited, intersect(sitesOf(cured.of(t, "failure"), "cured"), visited)); diff != "" {
				t.Errorf("sites that logs call cured (-visited +logs):\n%s", diff)
			}
			if still := sitesOf(cured.of(t, "failure"), "broken"); len(still)+len(cured.of(t, "unlogged")) > 0 {
				t.Errorf("after the repair: still broken %q, in no log %q\n%s", still, sitesOf(cured.of(t, "unlogged"), ""), head(cured.stdout, 8))
			}
		})
	}
}

func intersect(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return !slices.Contains(b, s) })
}

// What is added is told as it comes, also after the log was put aside and begun anew, and after it was cut. An interrupt ends
// it with the summary.
func TestLogsAreFollowedThroughRotationAndTruncation(t *testing.T) {
	t.Parallel()
	s := start(t, "plain", 4)
	s.breakIt("files-to-0600", "alice")
	s.breakIt("files-to-0600", "bob")
	const log = "/var/log/apache2/alice.example-error.log"
	s.sh(`: >` + log)
	cmd := s.Command(t.Context(), "rightful", "--json", "logs", "--follow")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	// next waits for a failure at a path.
	next := func(path string) {
		t.Helper()
		for lines.Scan() {
			var l logged
			if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
				t.Fatal(err)
			}
			if l.Kind == "failure" && strings.HasSuffix(l.Culprit, path) {
				return
			}
		}
		t.Fatalf("no line about %s", path)
	}
	get := func(path string) {
		t.Helper()
		if code, _, err := s.Visit(t.Context(), "alice.example", path); err != nil || code != 403 {
			t.Fatalf("GET %s: %d, %v", path, code, err)
		}
	}
	s.sh(`echo '[Sun Nov 22 07:02:17.653203 2026] [core:error] [pid 1:tid 1] (13)Permission denied: [client 127.0.0.1:1] AH00132: file permissions deny server access: /home/alice/public_html/index.html' >>` + log)
	next("/index.html")
	s.sh(`mv ` + log + ` ` + log + `.1
		echo '[Sun Nov 22 07:02:18.653203 2026] [core:error] [pid 1:tid 1] (13)Permission denied: [client 127.0.0.1:1] AH00132: file permissions deny server access: /home/alice/public_html/.htaccess' >>` + log)
	next("/.htaccess")
	s.sh(`: >` + log + `
		echo '[Sun Nov 22 07:02:19.653203 2026] [core:error] [pid 1:tid 1] AH00132: file permissions deny server access: /home/alice/public_html/x' >>` + log)
	next("/x")
	get("/") // Apache itself, into the log that was put aside
	next("/.htaccess")
	if err := hostbox.Signal(cmd, unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	last := ""
	for lines.Scan() {
		last = lines.Text()
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 || !strings.HasPrefix(last, `{"kind":"summary"`) {
		t.Errorf("exit: %v; last line %s", err, last)
	}
}
