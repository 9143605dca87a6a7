package check

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/panel"
	"rightful/internal/policy"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
)

const (
	alice = 20001
	bob   = 20002
	www   = 33
)

// healthy is alice's home on a server without a panel: static pages, and PHP under her own user.
const healthy = `
	d 0711 20001:20001 home/alice
	d 0750 20001:33 home/alice/public_html
	f 0644 20001:20001 home/alice/public_html/index.html
	f 0644 20001:20001 home/alice/public_html/page.html
	d 0755 20001:20001 home/alice/public_html/sub
	f 0644 20001:20001 home/alice/public_html/sub/deep.html`

// world builds a server of these accounts below a new directory, with spec on top (see treetest.Build). Every account has
// one site NAME.example in its public_html, served by www-data, PHP by its own pool.
// The user staff is in the groups root and www-data, friend in that of every account.
func world(t testing.TB, spec string, accounts ...string) Options {
	t.Helper()
	return worldOf(t, "", `<FilesMatch php$>\nSetHandler \"proxy:unix:/run/php/%s.sock|fcgi://localhost\"\n</FilesMatch>\n`, spec, accounts...)
}

// worldOf is world with lines for the whole of Apache's configuration, and others for each virtual host, in which %s is
// the account.
func worldOf(t testing.TB, conf, host, spec string, accounts ...string) Options {
	t.Helper()
	dir := t.TempDir()
	passwd := `root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\nstaff:x:31000:31000::/:/bin/sh\nfriend:x:31001:31001::/:/bin/sh\n`
	group := `root:x:0:staff\nwww-data:x:33:staff\nstaff:x:31000:\nfriend:x:31001:\n`
	conf = `User www-data\nGroup www-data\nDirectoryIndex index.html index.php index.htm\n<Directory /home>\nAllowOverride All\n</Directory>\n` + conf
	pools := ""
	for i, a := range accounts {
		passwd += fmt.Sprintf(`%s:x:%d:%[2]d::/home/%[1]s:/bin/sh\n`, a, alice+i)
		group += fmt.Sprintf(`%s:x:%d:friend\n`, a, alice+i)
		conf += fmt.Sprintf(`<VirtualHost *:80>\nServerName %s.example\nDocumentRoot /home/%[1]s/public_html\n`, a) +
			strings.ReplaceAll(host, "%s", a) + `</VirtualHost>\n`
		pools += fmt.Sprintf(`[%s]\nuser = %[1]s\nlisten = /run/php/%[1]s.sock\n`, a)
	}
	base := ""
	for _, d := range []string{"etc", "etc/apache2", "etc/php", "etc/php/8.2", "etc/php/8.2/fpm", "etc/php/8.2/fpm/pool.d", "home", "var"} {
		base += "d 0755 0:0 " + d + "\n"
	}
	for name, text := range map[string]string{
		"etc/passwd": passwd, "etc/group": group, "etc/apache2/apache2.conf": conf, "etc/php/8.2/fpm/pool.d/all.conf": pools,
		"etc/nsswitch.conf": `passwd: files\n`,
	} {
		base += fmt.Sprintf("f 0644 0:0 %s = \"%s\"\n", name, text)
	}
	treetest.Build(t, dir, base+spec)
	s, err := tree.OpenServer(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	w, err := panel.Read(s, panel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(w.Accounts) != len(accounts) {
		t.Fatalf("%d accounts, want %q; %v", len(w.Accounts), accounts, w.Issues)
	}
	return Options{Server: s, World: w}
}

// reports runs a check.
func reports(t testing.TB, o Options) []*Report {
	t.Helper()
	var out []*Report
	if err := Run(t.Context(), o, func(r *Report) error {
		out = append(out, r)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// messy is a tree of one account with something wrong nearly everywhere, the same for the same seed.
func messy(r *rand.Rand, name string, id int) string {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	own := func() string {
		return fmt.Sprintf("%d:%d", []int{id, id, id, 0, www, bob, 29999}[r.IntN(7)], []int{id, id, www, 0}[r.IntN(4)])
	}
	dirs := []string{"home/" + name, "home/" + name + "/public_html"}
	spec := ""
	add := func(format string, args ...any) { spec += fmt.Sprintf(format+"\n", args...) }
	add("d %s %s %s", pick("0711", "0755", "0700", "0777"), own(), dirs[0])
	add("d %s %s %s", pick("0750", "0755", "0700", "0777", "0000"), own(), dirs[1])
	for i := range 4 {
		d := fmt.Sprintf("%s/d%d", dirs[r.IntN(len(dirs))], i)
		dirs = append(dirs, d)
		add("d %s %s %s", pick("0755", "0750", "0700", "0777", "2775", "0500"), own(), d)
	}
	file := ""
	for i, n := range []string{"index.html", ".htaccess", "a.png", "b.php", "c.txt", ".env", "wp-config.php", "x.html"} {
		file = dirs[1+r.IntN(len(dirs)-1)] + "/" + n
		if i < 2 {
			file = dirs[1] + "/" + n
		}
		add("f %s %s %s", pick("0644", "0600", "0666", "0640", "0444", "4755", "0777"), own(), file)
	}
	add("h 0 0:0 %s/twice.html -> %s", dirs[1], file)
	add("l 0777 %s %s/link -> index.html", own(), dirs[1])
	return spec
}

// Law 13: the same tree gives the same findings, verdicts and changes in the same order, at any number of jobs.
func TestTheAnswerDoesNotDependOnTheNumberOfJobs(t *testing.T) {
	treetest.NeedRoot(t)
	r := rand.New(rand.NewPCG(13, 1))
	var names []string
	spec := ""
	for i := range 12 {
		names = append(names, fmt.Sprintf("user%02d", i))
		spec += messy(r, names[i], alice+i)
	}
	o := world(t, spec, names...)
	o.Plan = true
	print := func(jobs int) string {
		o.Jobs = jobs
		var b strings.Builder
		for _, r := range reports(t, o) {
			r.Account, r.rules = nil, nil
			text, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(text)
			b.WriteByte('\n')
		}
		return b.String()
	}
	want := print(1)
	if n := strings.Count(want, `"problem"`); n < 50 {
		t.Fatalf("only %d findings", n)
	}
	for range 3 {
		if diff := cmp.Diff(want, print(8)); diff != "" {
			t.Fatalf("1 job and 8 differ:\n%s", diff)
		}
	}
}

// Only a site that gets worse is worse: a lower state, or the same one with more files that cannot be opened.
func TestWorseIsALowerStateOrMoreBlockedFiles(t *testing.T) {
	v := func(s rightful.SiteState, blocked int) rightful.Verdict {
		return rightful.Verdict{State: s, Blocked: blocked}
	}
	for _, tt := range []struct {
		now, planned rightful.Verdict
		worse        bool
	}{
		{v(rightful.SiteOK, 0), v(rightful.SiteOK, 0), false},
		{v(rightful.SiteOK, 0), v(rightful.SiteBroken, 1), true},
		{v(rightful.SiteOK, 0), v(rightful.SiteDown, 0), true},
		{v(rightful.SiteBroken, 2), v(rightful.SiteDown, 2), true},
		{v(rightful.SiteBroken, 2), v(rightful.SiteBroken, 3), true},
		{v(rightful.SiteBroken, 2), v(rightful.SiteBroken, 1), false},
		{v(rightful.SiteDown, 0), v(rightful.SiteBroken, 5), false},
		{v(rightful.SiteDown, 5), v(rightful.SiteDown, 6), true},
		{v(rightful.SiteDown, 5), v(rightful.SiteOK, 0), false},
		{v(rightful.SiteUnknown, 0), v(rightful.SiteDown, 0), true},
		{v(rightful.SiteUnknown, 0), v(rightful.SiteOK, 0), false},
	} {
		r := Report{Now: []rightful.Verdict{tt.now}, Planned: []rightful.Verdict{tt.planned}}
		if got := len(r.Worse()) > 0; got != tt.worse {
			t.Errorf("%s with %d to %s with %d: worse is %v", tt.now.State, tt.now.Blocked, tt.planned.State, tt.planned.Blocked, got)
		}
	}
}

// The conditions that rules ask for are an account's own where they can be, and the server's otherwise.
func TestFactsAreTheAccountsOwn(t *testing.T) {
	site := func(handler string) rightful.Site { return rightful.Site{PHP: rightful.PHP{Handler: handler}} }
	cgi := func(uid uint32) rightful.Site {
		return rightful.Site{CGI: []string{"/home/alice/cgi-bin"}, CGIAs: rightful.Identity{UID: uid}}
	}
	server := map[string]bool{"fileprotect": true, "suexec": true, "dso": true}
	for _, tt := range []struct {
		name  string
		sites []rightful.Site
		want  policy.Facts
	}{
		{"no sites", nil, policy.Facts{"fileprotect": true, "suexec": true, "dso": false, "nginx": false}},
		{"fpm on a server with mod_php", []rightful.Site{site("fpm")}, policy.Facts{"fileprotect": true, "suexec": true, "dso": false, "nginx": false}},
		{"one of two by mod_php", []rightful.Site{site("fpm"), site("dso")}, policy.Facts{"fileprotect": true, "suexec": true, "dso": true, "nginx": false}},
		{"itk", []rightful.Site{site("itk")}, policy.Facts{"fileprotect": true, "suexec": true, "dso": false, "itk": true, "nginx": false}},
		{"scripts as the web server", []rightful.Site{cgi(www)}, policy.Facts{"fileprotect": true, "suexec": false, "dso": false, "nginx": false}},
		{"scripts as the account", []rightful.Site{cgi(alice)}, policy.Facts{"fileprotect": true, "suexec": true, "dso": false, "nginx": false}},
	} {
		a := panel.Account{Account: rightful.Account{Name: "alice", UID: alice, Sites: tt.sites}}
		if diff := cmp.Diff(tt.want, facts(&panel.Server{Facts: server}, &a)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestAcceptIsReadAsItIsWritten(t *testing.T) {
	for _, s := range []string{"root-owned:alice", "foreign-owner:bob", "foreign-owner:29999", "locked:alice", "rule:plain.toml:home", "quota:alice"} {
		a, err := ParseAccept(s)
		if err != nil || a.String() != s {
			t.Errorf("%q is read as %q, %v", s, a, err)
		}
	}
	for _, s := range []string{"", "alice", ":alice", "locked:", "theft:alice", "Locked:alice"} {
		if a, err := ParseAccept(s); err == nil {
			t.Errorf("%q is read as %v", s, a)
		}
	}
}

// Every problem that the package names has its line in the catalogue: the source is asked, so that none is forgotten.
func TestTheCatalogueExplainsEveryProblem(t *testing.T) {
	text, err := os.ReadFile("account.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, m := range regexp.MustCompile(`(?m)rightful\.Problem = "(.+)"$`).FindAllStringSubmatch(string(text), -1) {
		n++
		if Catalogue[rightful.Problem(m[1])] == "" {
			t.Errorf("nothing explains %q", m[1])
		}
	}
	if n < 18 || n != len(Catalogue) {
		t.Errorf("%d problems, %d explained", n, len(Catalogue))
	}
}
