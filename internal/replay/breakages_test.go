package replay

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/hostbox"

	gocmp "github.com/google/go-cmp/cmp"
)

// served are the names of files that somebody serves by their nature, as the server's own configuration has it. PHP
// and CGI stand for files that their interpreter must be able to read.
const served = `-name '*.html' -o -name '*.css' -o -name '*.js' -o -name '*.png' -o -name '*.jpg' -o -name '*.svg' -o
	-name '*.ico' -o -name '*.pdf' -o -name robots.txt -o -name '*.php' -o -name '*.cgi'`

// files lists the request paths of everything below a site's document root that is to be served, without what belongs
// to a document root within it.
func (s *server) files(site hostbox.Site) []string {
	s.t.Helper()
	// The site's own files are those that the server would find: find -H follows only the document root itself.
	args := []string{site.DocRoot}
	for _, other := range s.Sites() {
		if strings.HasPrefix(other.DocRoot, site.DocRoot+"/") {
			args = append(args, other.DocRoot)
		}
	}
	out := s.sh(`root=$1; shift
		for nested; do set -- "$@" -path "$nested" -prune -o; shift; done
		find -H "$root" "$@" -type f \( `+strings.ReplaceAll(served, "\n", " ")+` \) -printf '/%P\0'`, args...)
	var paths []string
	for p := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		if p != "" {
			paths = append(paths, (&url.URL{Path: p}).EscapedPath())
		}
	}
	return paths
}

// holdAgainstRequests demands that what check says of sites is what real requests say: the status of every front page,
// and for the named accounts the very number of files that are refused.
func (s *server) holdAgainstRequests(check *answer, accounts ...string) {
	s.t.Helper()
	codes := s.StatusAll(s.t.Context())
	for _, site := range s.Sites() {
		v, ok := check.sites[site.Host]
		if !ok {
			s.t.Errorf("check says nothing of site %q", site.Host)
			continue
		}
		if v.Status != 0 && v.Status != codes[site.Host] {
			s.t.Errorf("GET http://%s/: %d, predicted %d (%s: %s)", site.Host, codes[site.Host], v.Status, v.Culprit, v.Why)
		}
		if v.State == rightful.SiteUnknown && v.Why != "" {
			continue // said to be unknown, and never guessed
		}
		if up := codes[site.Host] == 200; up == (v.State == rightful.SiteDown) || v.State == rightful.SiteUnknown {
			s.t.Errorf("GET http://%s/: %d, predicted state %q (%s)", site.Host, codes[site.Host], v.State, v.Why)
		}
		if !slices.Contains(accounts, site.Account) {
			continue
		}
		paths := s.files(site)
		if len(paths) < 20 {
			s.t.Errorf("only %d files found below %s", len(paths), site.DocRoot)
		}
		var refused []string
		for p, code := range s.statuses(site.Host, paths) {
			if code != 200 {
				refused = append(refused, fmt.Sprintf("%d %s", code, p))
			}
			if code != 200 && code != 403 && code != 404 && code != 500 {
				s.t.Errorf("GET http://%s%s: %d", site.Host, p, code)
			}
		}
		slices.Sort(refused)
		if len(refused) != v.Blocked {
			s.t.Errorf("%s: %d of %d files are refused, predicted %d:\n%s", site.Host, len(refused), len(paths), v.Blocked, head(strings.Join(refused, "\n"), 20))
		}
		for p, code := range s.statuses(site.Host, v.Samples) {
			if code == 200 {
				s.t.Errorf("GET http://%s%s: 200, predicted to be refused", site.Host, p)
			}
		}
	}
}

// known demands that check knows the state of every site.
func (a *answer) known(t *testing.T) {
	t.Helper()
	for _, v := range a.sites {
		if v.State == rightful.SiteUnknown {
			t.Errorf("%s: %s", v.Site, v.Why)
		}
	}
}

// A healthy server has no findings, and every prediction holds to the last file.
func TestAHealthyServerHasNoFindings(t *testing.T) {
	panels(t, func(t *testing.T, s *server) {
		before := s.listing()
		check := s.rightful("check").exit(t, 0)
		if len(check.findings) > 0 {
			t.Errorf("check finds %q", check.paths())
		}
		check.known(t)
		s.holdAgainstRequests(check, "alice", "bob", "frank", "grace")
		if fix := s.rightful("fix", "--yes").exit(t, 0); len(fix.runs) > 0 {
			t.Errorf("fix made a run: %+v", fix.runs)
		}
		s.same("after check and fix", before)
	})
}

// An accident is one breakage, and what check and fix must make of it.
type accident struct {
	name     string
	args     []string
	accounts []string // whose files are asked for one by one
	problems []string // that findings may have
	worst    rightful.Effect
	accept   string // the risk that must be taken
}

func accidents() []accident {
	carol, down, broken := []string{"carol"}, rightful.EffectDown, rightful.EffectBroken
	return []accident{
		{name: "chown-public-htmls", accounts: []string{"alice", "grace"}, problems: []string{"wrong-group"}, worst: down},
		{name: "chown-all-to", args: []string{"carol", "bob"}, accounts: carol, problems: []string{"foreign-owner"}, worst: down, accept: "foreign-owner:bob"},
		{name: "chmod-777", args: carol, accounts: carol, problems: []string{"too-open"}, worst: broken},
		{name: "chmod-644", args: carol, accounts: carol, problems: []string{"too-closed", "too-open"}, worst: down},
		{name: "restored-as-root", args: carol, accounts: carol, problems: []string{"wrong-owner", "root-owned-unproven"}, worst: down, accept: "root-owned:carol"},
		{name: "strip-group", args: []string{"alice"}, accounts: []string{"alice"}, problems: []string{"wrong-group"}, worst: down},
		{name: "homes-to-0700", accounts: []string{"erin", "grace"}, problems: []string{"too-closed"}, worst: down},
		{name: "docroot-to-root", args: []string{"bob"}, accounts: []string{"bob"}, problems: []string{"wrong-owner"}, worst: down},
		{name: "lost-exec-bits", args: carol, accounts: carol, problems: []string{"too-closed"}, worst: broken},
		{name: "files-to-0600", args: []string{"frank"}, accounts: []string{"frank"}, problems: []string{"too-closed"}, worst: down},
		{name: "htaccess-to-0600", args: []string{"alice"}, accounts: []string{"alice"}, problems: []string{"too-closed"}, worst: down},
		{name: "cgi-group-writable", args: carol, accounts: carol, problems: []string{"too-open"}, worst: broken},
		{name: "lost-acls", args: []string{"alice"}, accounts: []string{"alice"}, problems: []string{"wrong-group"}, worst: broken},
	}
}

// Every accident: the prediction holds, the findings make sense, the repair cures every site, and undo takes all of it
// back. Where the law demands a decision, the site stays as it is without it, and the finding prints the command.
func TestEveryAccidentIsPredictedRepairedAndTakenBack(t *testing.T) {
	panels(t, func(t *testing.T, s *server) {
		s.keep()
		all := accidents()
		for _, k := range hostbox.Breakages() {
			i := slices.IndexFunc(all, func(a accident) bool { return a.name == k.Name })
			if i < 0 {
				t.Errorf("no test says what becomes of %q", k.Name)
				continue
			}
			t.Run(k.Name, func(t *testing.T) {
				s := s.with(t)
				defer s.putBack()
				s.accident(all[i])
			})
		}
	})
}

func (s *server) accident(a accident) {
	t := s.t
	s.breakIt(a.name, a.args...)
	broken, bad := s.listing(), s.bad()

	check := s.rightful("check").exit(t, 1)
	check.known(t)
	s.holdAgainstRequests(check, a.accounts...)
	worst := rightful.Effect("")
	for _, f := range check.findings {
		if !slices.Contains(a.problems, string(f.Problem)) {
			t.Errorf("%s: problem %q, want one of %q", f.Path, f.Problem, a.problems)
		}
		if f.Rule == "" || (f.Effect == rightful.EffectDown || f.Effect == rightful.EffectBroken) != (len(f.Sites) > 0) {
			t.Errorf("%s: rule %q, effect %q, sites %q", f.Path, f.Rule, f.Effect, f.Sites)
		}
		if f.Effect.Rank() < worst.Rank() {
			worst = f.Effect
		}
		if f.Accept != "" && f.Accept != a.accept {
			t.Errorf("%s: accept %q, want %q", f.Path, f.Accept, a.accept)
		}
	}
	if worst != a.worst {
		t.Errorf("the worst effect is %q, want %q", worst, a.worst)
	}

	args, runs := []string{"fix", "--yes"}, 1
	if a.accept != "" {
		runs += len(s.rightful(args...).exit(t, 1).runs)
		text := s.text(s.Command(t.Context(), "rightful", "check")).stdout
		if want := "rightful fix carol --accept=" + a.accept; !strings.Contains(text, want) {
			t.Errorf("check does not print %q", want)
		}
		args = append(args, "--accept="+a.accept)
	}
	for _, st := range s.rightful(args...).exit(t, 0).run(t, rightful.RunDone).Stages {
		if len(st.Unverified)+len(st.Uncured)+len(st.Worse) > 0 {
			t.Errorf("stage %+v; want every site verified by requests", st)
		}
	}
	s.healthy("after the repair")
	again := s.rightful("check").exit(t, 0)
	if len(again.findings) > 0 {
		t.Errorf("after the repair check finds %q", again.paths())
	}
	s.holdAgainstRequests(again, a.accounts...)
	for range runs {
		s.rightful("undo", "--yes").exit(t, 0).run(t, rightful.RunDone)
	}
	if diff := gocmp.Diff(bad, s.bad()); diff != "" {
		t.Errorf("sites after undo (-after the accident +after undo):\n%s", diff)
	}
	s.same("after undo", broken)
}
