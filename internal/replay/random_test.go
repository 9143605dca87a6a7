package replay

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A specimen is a site with a tree that chance grew and broke. Its lines are run by a shell in the document root, one
// after the other, whether or not those before it worked: what is left when some are dropped is a specimen too.
type specimen struct {
	seed  uint64
	kind  string
	lines []string
}

// A grower makes specimens. What it makes depends on its seed alone.
type grower struct {
	*rand.Rand
	apache bool
	dirs   []string
	all    []string // entries that are no links
	links  []string
	lines  []string
}

func grow(seed uint64, kind string, apache bool) specimen {
	g := &grower{Rand: rand.New(rand.NewPCG(seed, 0)), apache: apache, dirs: []string{"."}}
	for _, s := range []string{"sub", "noidx"} {
		g.dirs, g.all = append(g.dirs, s), append(g.all, s)
	}
	g.all = append(g.all, "ok.html", "sub/ok.html", "index.html", "ok.php", "ok.cgi")
	for range 3 + g.IntN(5) {
		d := g.name(g.one("d", "img", "a b", ".well-known", "d.php", "x.html", "cgi-bin", "naïve", "index.html", "deep"))
		g.line("mkdir %s", quote(d))
		g.dirs, g.all = append(g.dirs, d), append(g.all, d)
	}
	for range 12 + g.IntN(14) {
		g.file()
	}
	for range 1 + g.IntN(5) {
		g.link()
	}
	g.line("chown -hR $U:$U .")
	if apache {
		for range g.IntN(3) {
			g.htaccess()
		}
	}
	for range 2 + g.IntN(8) {
		g.breakage()
	}
	return specimen{seed, kind, g.lines}
}

func (g *grower) line(format string, args ...any) {
	g.lines = append(g.lines, fmt.Sprintf(format, args...))
}
func (g *grower) one(of ...string) string { return of[g.IntN(len(of))] }
func (g *grower) chance(percent int) bool { return g.IntN(100) < percent }

// name puts a name into one of the directories.
func (g *grower) name(base string) string {
	d := g.dirs[g.IntN(len(g.dirs))]
	if d == "." {
		return base
	}
	return d + "/" + base
}

// quote is for the shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

const cgiScript = `printf '#!/bin/sh\necho Content-Type: text/plain\necho\n' >%[1]s; chmod 0755 %[1]s`

func (g *grower) file() {
	f := g.name(g.one("index", "a", "b", "c d", "é", "it's", "UPPER", ".env", "x&y", "100%", "semi;colon", "\xff") +
		g.one(".html", ".html", ".html", ".css", ".js", ".png", ".txt", "", ".php", ".php", ".phtml", ".php.bak", ".cgi", ".cgi", ".pl", ".cgi.txt", ".shtml", ".html.en", ".tar.gz"))
	switch {
	case g.chance(4):
		f = g.name("hang" + g.one("", ".html"))
		g.line("mkfifo -m %s %s", g.one("0600", "0644"), quote(f))
	case g.chance(2):
		f = g.name("null.txt")
		g.line("mknod -m 0666 %s c 1 3", quote(f))
	case strings.Contains(f, ".cgi"):
		g.line(cgiScript, quote(f))
	case strings.Contains(f, ".ph"):
		g.line("echo '<?php echo 1;' >%s", quote(f))
	default:
		g.line("echo x >%s", quote(f))
	}
	g.all = append(g.all, f)
}

func (g *grower) link() {
	l := g.name(g.one("l", "l.html", "l.php", "l.cgi", "index.html", "index.php", "ld"))
	up := strings.Repeat("../", strings.Count(l, "/"))
	own := g.all[g.IntN(len(g.all))]
	to := g.one(up+own, up+own, up+own, "$D/"+own, "nosuch", "/nosuch/x", "..", ".", up+"ok.html", up+"sub", "$B/b.html", "$B/d", "$B/b.php",
		"$B/closed.html", "$C/b.html", "/etc/passwd", "/etc/shadow", filepath.Base(l), "ok.html/")
	if len(g.links) > 0 && g.chance(20) {
		to = up + g.links[g.IntN(len(g.links))]
	}
	if strings.Contains(to, "hang") {
		return
	}
	quoted := quote(to)
	if strings.HasPrefix(to, "$") {
		quoted = to[:2] + quote(to[2:])
	}
	g.line("ln -s %s %s 2>/dev/null", quoted, quote(l))
	g.links = append(g.links, l)
}

// htaccessText is what customers have in their .htaccess files, or what they should not have.
func (g *grower) htaccessText() string {
	ok := []string{
		"", "Options -Indexes", "Options +Indexes", "Options -FollowSymLinks", "Options +SymLinksIfOwnerMatch", "Options SymLinksIfOwnerMatch",
		"Options None", "Options All -Indexes", "Options +ExecCGI", "Options -ExecCGI", "Require all granted", "DirectoryIndex index.php index.html",
		"DirectoryIndex a.html b.txt", "DirectoryIndex disabled", "DirectoryIndex /ok.html", "AddHandler cgi-script .pl", "AddType text/plain .cgi", "# note\\\nRequire all denied",
		"<Files index.html>\nRequire all denied\n</Files>", "<FilesMatch \"\\.(env|txt)$\">\nRequire all denied\n</FilesMatch>", "<Files \"*.css\">\nOrder allow,deny\nDeny from all\n</Files>",
		"ErrorDocument 404 /ok.html", "ErrorDocument 403 /sub/ok.html", "<IfModule mod_rewrite.c>\nRewriteEngine On\nRewriteBase /\nRewriteCond %{REQUEST_FILENAME} !-f\nRewriteCond %{REQUEST_FILENAME} !-d\nRewriteRule . /ok.php [L]\n</IfModule>",
		"<IfModule nosuch_module>\nBogus\n</IfModule>", "Header set X-A b", "ExpiresActive On\nExpiresDefault \"access plus 1 day\"", "AddDefaultCharset utf-8",
		"Require \\\nall granted", "<RequireAny>\nRequire all denied\nRequire all granted\n</RequireAny>", "\t options\t-indexes  ",
		"Order deny,allow\nAllow from all", "RewriteEngine Off", "SetEnv A b", "<Files ~ \"^a\\.\">\nRequire all denied\n</Files>", "Options -Indexes\r\nRequire all granted\r",
	}
	bad := []string{
		"Require all denied", "Deny from all", "Bogus", "php_flag display_errors on", "<Files x>", "</Files>", "Options Bogus", "Options +Indexes None",
		"<Directory /x>\n</Directory>", "Require", "AddHandler", "\xef\xbb\xbfOptions -Indexes", "AuthType Basic\nAuthName x\nAuthUserFile /nosuch\nRequire valid-user",
		"<VirtualHost *>", "DocumentRoot /tmp", "Redirect 410 /", "Require ip 203.0.113.0/24", "<RequireAll>\nRequire all granted\nRequire not all granted\n</RequireAll>", "SetHandler cgi-script", "Order maybe",
	}
	rare := []string{"<If \"true\">\nRequire all denied\n</If>", "Require expr true", "RewriteEngine On\nRewriteRule ^a - [F]", "Options +MultiViews", "Require env nosuch"}
	switch n := g.IntN(100); {
	case n < 70:
		return g.one(ok...)
	case n < 98:
		return g.one(bad...)
	}
	return g.one(rare...)
}

func (g *grower) htaccess() {
	f := g.name(".htaccess")
	text := g.htaccessText()
	if g.chance(30) {
		text += "\n" + g.htaccessText()
	}
	g.line("printf %%s\\\\n %s >%s; chown $U:$U %[2]s", quote(text), quote(f))
	g.all = append(g.all, f)
}

func (g *grower) mode() string {
	if g.chance(60) {
		return g.one("0600", "0640", "0644", "0700", "0710", "0711", "0750", "0755", "0775", "0777", "0666", "0604", "0444", "0", "0111", "0070", "0007")
	}
	return fmt.Sprintf("%04o", g.IntN(0o10000))
}

func (g *grower) owner() string { return g.one("$U", "$U", "bob", "root", "www-data", "nobody") }
func (g *grower) group() string { return g.one("$U", "$U", "bob", "root", "www-data", "nogroup") }
func (g *grower) perm() string  { return g.one("---", "r--", "r-x", "rwx", "--x", "rw-", "-w-") }

func (g *grower) acl() string {
	entries := []string{g.one("u", "g") + ":" + g.one("$U", "bob", "www-data", "nobody") + ":" + g.perm()}
	for g.chance(40) {
		entries = append(entries, g.one("u:$U", "u:bob", "u:www-data", "g:www-data", "g:bob", "g:nogroup", "u:", "g:", "o:")+":"+g.perm())
	}
	if g.chance(30) {
		entries = append(entries, "m::"+g.perm())
	}
	return strings.Join(entries, ",")
}

// breakage damages one entry.
func (g *grower) breakage() {
	p := quote(g.all[g.IntN(len(g.all))])
	switch n := g.IntN(100); {
	case n < 3:
		p = "$H"
	case n < 9:
		p = "."
	case n < 15 && len(g.links) > 0:
		g.line("chown -h %s %s", g.owner(), quote(g.links[g.IntN(len(g.links))]))
		return
	case n < 18:
		p = "$H/fcgi-bin"
	case n < 22:
		p = "$H/fcgi-bin/php-wrapper"
	}
	switch n := g.IntN(100); {
	case n < 25:
		g.line("chown %s:%s %s", g.owner(), g.group(), p)
	case n < 70:
		g.line("chmod %s %s", g.mode(), p)
	case n < 88:
		g.line("setfacl -m %s %s", g.acl(), p)
	case n < 92:
		d := g.dirs[g.IntN(len(g.dirs))]
		f := d + "/new.html"
		g.line("setfacl -d -m %s %s; echo x >%s", g.acl(), quote(d), quote(f))
		g.all = append(g.all, strings.TrimPrefix(f, "./"))
	case n < 96:
		g.line("chown -R %s:%s %s", g.owner(), g.group(), p)
	default:
		g.line("chmod -R %s %s", g.one("go-rwx", "o-rwx", "a-x", "g+w", "0755", "0644", "o-x", "a+X"), p)
	}
}

// putBackOthers undoes what was done through links.
const putBackOthers = `for u in bob carol; do rm -rf /home/$u; cp -a /var/tmp/lab/$u /home; done
for f in /etc/passwd /etc/shadow; do setfacl -b $f; cp -a /var/tmp/lab${f#/etc} $f; done
`

// plant brings specimens about in the lab's sites, which are emptied before.
func (l *lab) plant(all []specimen) {
	l.t.Helper()
	var b strings.Builder
	b.WriteString("umask 022; set +e; exec 2>/dev/null; B=/home/bob/public_html C=/home/carol/public_html\n" + putBackOthers)
	for i, sp := range all {
		s := l.sites[i]
		// The baseline is put back from the copy that was kept.
		fmt.Fprintf(&b, "rm -rf %[1]s; cp -a /var/tmp/lab/%[2]s %[1]s; (U=%[2]s H=%[1]s D=%[3]s; cd $D\n", s.home, s.user, s.root)
		for _, line := range sp.lines {
			b.WriteString(line + "\n")
		}
		b.WriteString(")\n")
	}
	b.WriteString("exit 0\n")
	l.script(b.String())
}

// freshPHP ends the processes of PHP that mod_fcgid started: they would go on after their wrapper is broken.
func (l *lab) freshPHP() {
	l.t.Helper()
	if err := l.ReloadWeb(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
}

// A miss is a prediction that was not what the server answered.
type miss struct {
	site   int
	path   string
	status int
	p      *prediction
}

// A score is what came of many requests.
type score struct{ asked, unknown int }

// try plants specimens and scores what is predicted of them.
func (l *lab) try(all []specimen, accounts ...string) (score, []miss, map[string]map[string]*prediction) {
	l.t.Helper()
	l.plant(all)
	if slices.ContainsFunc(all, func(sp specimen) bool { return sp.kind == "fcgid" }) {
		l.freshPHP()
	}
	predicted := l.predict(accounts...)
	if len(accounts) == 0 {
		l.complete(predicted, l.sites)
	}
	sc, misses := l.score(predicted)
	return sc, misses, predicted
}

// score asks for every URL that is predicted, and gives what was predicted wrongly.
func (l *lab) score(predicted map[string]map[string]*prediction) (score, []miss) {
	index := map[string]int{}
	for i, s := range l.sites {
		index[s.name()] = i
	}
	reqs := l.requests(predicted)
	l.asker.all(reqs)
	sc, misses := score{asked: len(reqs)}, []miss(nil)
	for _, r := range reqs {
		p := predicted[r.host][r.path]
		if !p.Certain {
			sc.unknown++
		}
		if !p.right(r.status) {
			misses = append(misses, miss{index[r.host], r.path, r.status, p})
		}
	}
	slices.SortFunc(misses, func(a, b miss) int {
		if a.site != b.site {
			return a.site - b.site
		}
		return strings.Compare(a.path, b.path)
	})
	return sc, misses
}

// minimise drops lines from a specimen as long as its miss stays one.
func (l *lab) minimise(sp specimen, path string) (specimen, miss) {
	l.t.Helper()
	var last miss
	still := func(lines []string) bool {
		_, misses, _ := l.try([]specimen{{sp.seed, sp.kind, lines}}, l.sites[0].user)
		for _, m := range misses {
			if m.path == path {
				last = m
				return true
			}
		}
		return false
	}
	if !still(sp.lines) {
		return sp, last // another site's business, or gone
	}
	for size := max(len(sp.lines)/2, 1); size > 0; size /= 2 {
		for at := 0; at < len(sp.lines); {
			less := slices.Concat(sp.lines[:at], sp.lines[min(at+size, len(sp.lines)):])
			if still(less) {
				sp.lines = less
			} else {
				at += size
			}
		}
	}
	still(sp.lines)
	return sp, last
}

// randomKinds are the kinds of host that chance breaks: those with the most ways to go.
func randomKinds(u *setup) []string {
	if u.server == "nginx" {
		return strings.Fields("std auto tryf tryphp php phptry dson dsino dsall wp spa page")
	}
	return strings.Fields("std none idx noneidx sio sioover fpmh fpmm cgi sux fcgid rootover fpmsio fpmh sux nosymover mixed")
}

const sitesPerRound = 51

// random runs rounds of chance: of known seeds, or for as long as RIGHTFUL_SOAK says (a duration, as "10m") of new ones.
// RIGHTFUL_SEED runs one seed again.
func random(t *testing.T, u *setup, rounds int) {
	t.Parallel()
	kinds := randomKinds(u)
	var sites []*labSite
	for i := range sitesPerRound {
		kind := kinds[i%len(kinds)]
		sites = append(sites, u.newSite(t, kind, fmt.Sprintf("r%d%s", i, kind), i))
	}
	l := newLab(t, u, sites, baseline)
	l.script("mkdir -p /var/tmp/lab; cp -a /home/* /etc/passwd /etc/shadow /var/tmp/lab")

	seed, until := uint64(1), time.Time{}
	if soak := os.Getenv("RIGHTFUL_SOAK"); soak != "" {
		d, err := time.ParseDuration(soak)
		if err != nil {
			t.Fatal(err)
		}
		seed, until, rounds = uint64(time.Now().UnixNano()), time.Now().Add(d), 0
	}
	if s := os.Getenv("RIGHTFUL_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatal(err)
		}
		rounds = 1
	}
	var total score
	grants, known := 0, map[string]bool{}
	for round := 0; round < rounds || time.Now().Before(until); round++ {
		var all []specimen
		for i, s := range sites {
			all = append(all, grow(seed+uint64(round)<<16+uint64(i), s.kind, u.server == "apache"))
		}
		sc, misses, predicted := l.try(all)
		total.asked += sc.asked
		total.unknown += sc.unknown
		if len(misses) > 0 {
			t.Errorf("seed %d: %d of %d URLs are not predicted", seed+uint64(round)<<16, len(misses), sc.asked)
			l.counterexample(all, misses, known)
			continue
		}
		grants += l.cure(predicted, 2, func(now map[string]map[string]*prediction) {
			sc, misses := l.score(now)
			total.asked, total.unknown = total.asked+sc.asked, total.unknown+sc.unknown
			for _, m := range misses[:min(len(misses), 10)] {
				t.Errorf("seed %d, after grants: %s", seed+uint64(round)<<16, m.of(sites[m.site]))
			}
		})
	}
	t.Logf("%d URLs asked, %d of them predicted without certainty; %d grants", total.asked, total.unknown, grants)
	if total.unknown*50 > total.asked {
		t.Errorf("%d of %d URLs are predicted without certainty; at most 2 %% are to be", total.unknown, total.asked)
	}
}

// of says what a miss is.
func (m miss) of(s *labSite) string {
	return fmt.Sprintf("%s: GET %s: answered %d, predicted %v", s.user, m.path, m.status, m.p)
}

// counterexample makes misses small, one of each sort, and writes them as rows of the matrix.
func (l *lab) counterexample(all []specimen, misses []miss, known map[string]bool) {
	l.t.Helper()
	var out strings.Builder
	for _, m := range misses {
		sort := fmt.Sprint(m.status, m.p.Status, m.p.Code, m.p.Why)
		if known[sort] || len(known) == 12 {
			continue
		}
		known[sort] = true
		here := *l
		here.sites = []*labSite{l.sites[m.site]}
		s, sp, last := here.sites[0], all[m.site], m
		if sp, last = here.minimise(sp, m.path); last.p == nil {
			fmt.Fprintf(&out, "// seed %d, not again by itself: %s\n", sp.seed, m.of(s))
			continue
		}
		here.lines(s)
		l.asker.ask(&request{host: s.name(), path: m.path})
		fmt.Fprintf(&out, "{\"R%d\", %q, %q, %q},\n// %s\n// logged %q\n", sp.seed, sp.kind, strings.Join(sp.lines, "; "), fmt.Sprintf("%s %d", m.path, last.status), last.of(s), here.lines(s))
	}
	if out.Len() == 0 {
		return
	}
	f, err := os.CreateTemp("", "rightful-counterexample-*.txt")
	if err != nil {
		l.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(out.String()); err != nil {
		l.t.Fatal(err)
	}
	l.t.Errorf("counterexamples, as rows of the matrix, are in %s:\n%s", f.Name(), out.String())
}

// Whatever chance makes of a site under Apache, what is predicted with certainty is what a visitor gets.
func TestWhateverIsBrokenUnderApacheIsPredicted(t *testing.T) { random(t, event(), 3) }

// The same under nginx.
func TestWhateverIsBrokenUnderNginxIsPredicted(t *testing.T) { random(t, nginx(), 3) }
