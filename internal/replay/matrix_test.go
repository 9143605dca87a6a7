package replay

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A row is one state of one site: how it comes about, and what the real server answers.
type row struct {
	id   string // in the table of observations on real servers; with a letter of its own where there are several
	kind string // of virtual host
	// state is run by a shell in the document root, as root. U is the user, H the home, D the document root, B and C
	// those of bob and carol.
	state string
	// asks are requests, separated by "; ": path, status, and what the error log says of it, by its code. Before the path
	// may stand how it is asked, as in "POST:/". A status followed by "?" need not be predicted with certainty, one
	// followed by "!" is the script's own doing, and one followed by "-" is of something that predict does not list.
	asks string
}

var plainAsk = regexp.MustCompile(`^(?:(\w+):)?(/\S*) (\d+)([?!-]?)(?: (\S+))?$`)

type ask struct {
	request
	want int
	mark string
	code string
	logs []logLine
}

// phrases are what the log says for the codes that are not Apache's own numbers.
var phrases = map[string]string{
	"suexec:107": "cannot run as forbidden uid", "suexec:111": "current working directory", "suexec:114": "command not in docroot", "suexec:115": "cannot stat directory",
	"suexec:116": "directory is writable by others", "suexec:117": "cannot stat program", "suexec:118": "file is writable by others",
	"suexec:119": "file is either setuid or setgid", "suexec:120": "mismatch with directory", "suexec:121": "file has no execute permission",
	"suexec:255": "exec failed", "fpm:primary-script-unknown": "Primary script unknown", "fpm:unable-to-open": "Unable to open primary script",
	"fpm:limit-extensions": "security.limit_extensions", "php:failed-opening": "Failed opening required", "fcgid:exec-cgi": "does not have ExecCGI enabled",
	"htaccess:config": ":alert]", "cgi:exec": "exec of '",
	"nginx:open": "open()", "nginx:openat": "openat()", "nginx:stat": "stat()", "nginx:opendir": "opendir()", "nginx:forbidden": "is forbidden (13",
	"nginx:index": "directory index of", "nginx:not-regular": "is not a regular file", "nginx:connect": "connect()",
	// These are in the log, but are not the mark of what decides.
	"fcgid-reset": "error reading data from FastCGI server", "sh": "cannot open", "headers": "End of script output before headers",
	"referer": "referer: http://ref.example/x?y", "suexec-log": "could not open log file", "itk-setgid": "setgid(1): Operation not permitted",
	"notfound": "failed (2", "notdir": "(20: Not a directory)", "rule": "access forbidden by rule",
}

// mark is a code that a prediction gives too.
var mark = regexp.MustCompile(`^(AH\d+|\w+:[\w-]+)$`)

// baseline is what every document root holds before anything is done to it.
func baseline(f *files, s *labSite) {
	d := s.root
	if strings.HasPrefix(s.home, "/home/ln-") {
		d = "/home/" + s.user + "/public_html"
	}
	f.file(d+"/index.html", 0o644, "front")
	f.file(d+"/ok.html", 0o644, "ok")
	f.file(d+"/f0600.html", 0o600, "closed")
	f.file(d+"/ok.php", 0o644, "<?php echo 'ok';")
	f.file(d+"/ok.cgi", 0o755, "#!/bin/sh\necho 'Content-Type: text/plain'\necho\necho ok\n")
	f.dir(d+"/sub", 0o755)
	f.file(d+"/sub/ok.html", 0o644, "ok")
	f.dir(d+"/noidx", 0o755)
	f.file(d+"/noidx/a.txt", 0o644, "a")
	if strings.HasPrefix(s.kind, "fcgid") {
		f.dir(s.home+"/fcgi-bin", 0o755)
		f.file(s.home+"/fcgi-bin/php-wrapper", 0o755, "#!/bin/sh\nexport PHP_FCGI_MAX_REQUESTS=1000\nexec php-cgi -d display_errors=0 -d realpath_cache_size=0\n")
	}
}

// hangs are names of what would hold a worker for ever, if it were open to it.
var hangs = regexp.MustCompile(`/(hang|fifo)`)

func TestTheMatrixUnderApache(t *testing.T)  { t.Parallel(); matrix(t, event(), apacheRows()) }
func TestTheMatrixUnderPrefork(t *testing.T) { t.Parallel(); matrix(t, prefork(), preforkRows()) }
func TestTheMatrixUnderITK(t *testing.T)     { t.Parallel(); matrix(t, itk(), itkRows()) }
func TestTheMatrixUnderNginx(t *testing.T)   { t.Parallel(); matrix(t, nginx(), nginxRows()) }

// users names the user of each row.
func users(rows []row) []string {
	names, seen := make([]string, len(rows)), map[string]int{}
	for i, r := range rows {
		name := strings.ToLower(r.id) + r.kind
		if seen[name]++; seen[name] > 1 {
			name += strconv.Itoa(seen[name])
		}
		names[i] = name
	}
	return names
}

// states is the script that brings all rows about.
func states(rows []row, sites []*labSite) string {
	var b strings.Builder
	b.WriteString("set +e; B=/home/bob/public_html C=/home/carol/public_html\n")
	for i, r := range rows {
		s := sites[i]
		fmt.Fprintf(&b, "(set -e; U=%s H=%s D=%s; cd $D 2>/dev/null || cd $H\n%s)\n[ $? = 0 ] || { echo %s >&2; exit 1; }\n", s.user, s.home, s.root, r.state, s.user)
	}
	return b.String()
}

// matrix brings all states about at once, and holds what is predicted against what is answered.
func matrix(t *testing.T, u *setup, rows []row) {
	var sites []*labSite
	for i, name := range users(rows) {
		sites = append(sites, u.newSite(t, rows[i].kind, name, i))
	}
	l := newLab(t, u, sites, baseline)
	l.script(states(rows, sites))
	predicted := l.predict()
	l.complete(predicted, listed(rows, sites))

	// Requests of which the log is read go one by one.
	own := map[string]map[string]bool{} // what scripts do by themselves
	var rest []*request
	for i, r := range rows {
		s, listed := sites[i], map[string]bool{}
		own[s.name()] = map[string]bool{}
		for _, a := range l.asks(s, r) {
			listed[a.path] = true
			own[s.name()][a.path] = a.mark == "!"
			hold(t, r, a, predicted[s.name()][a.path])
		}
		for url := range predicted[s.name()] {
			if !listed[url] {
				rest = append(rest, &request{host: s.name(), path: url})
			}
		}
	}
	rest = l.harmless(predicted, rest)
	unknown := l.hold(predicted, rest)
	if t.Failed() {
		return // what follows would say the same again
	}
	given := l.cure(predicted, 8, func(now map[string]map[string]*prediction) {
		l.hold(now, slices.DeleteFunc(l.requests(now), func(r *request) bool { return own[r.host][r.path] }))
	})
	t.Logf("%d states; besides the rows' own, %d URLs asked, %d uncertain; %d grants", len(rows), len(rest), unknown, given)
}

// listed are the sites that predict knows, by their rows.
func listed(rows []row, sites []*labSite) []*labSite {
	var all []*labSite
	for i, r := range rows {
		for text := range strings.SplitSeq(r.asks, "; ") {
			if m := plainAsk.FindStringSubmatch(text); m != nil && m[4] != "-" {
				all = append(all, sites[i])
				break
			}
		}
	}
	return all
}

// requests are for every URL that is predicted, but for what would hold a worker.
func (l *lab) requests(predicted map[string]map[string]*prediction) []*request {
	var all []*request
	for _, s := range l.sites {
		for url := range predicted[s.name()] {
			all = append(all, &request{host: s.name(), path: url})
		}
	}
	return l.harmless(predicted, all)
}

// harmless leaves out the requests that would hold one of Apache's workers, and demands that none of those is predicted
// to be served.
func (l *lab) harmless(predicted map[string]map[string]*prediction, reqs []*request) []*request {
	if l.setup.server == "nginx" {
		return reqs
	}
	return slices.DeleteFunc(reqs, func(r *request) bool {
		held := hangs.MatchString(r.path)
		if p := predicted[r.host][r.path]; held && p.Certain && p.Status == 200 {
			l.t.Errorf("%s%s: a FIFO holds the worker, predicted %v", r.host, r.path, p)
		}
		return held
	})
}

// hold sends requests and holds predictions against the answers. It counts those that were uncertain.
func (l *lab) hold(predicted map[string]map[string]*prediction, reqs []*request) (unknown int) {
	l.t.Helper()
	l.asker.all(reqs)
	for _, r := range reqs {
		p := predicted[r.host][r.path]
		if !p.Certain {
			unknown++
		}
		if !p.right(r.status) {
			l.t.Errorf("%s%s: answered %d (%v), predicted %v", r.host, r.path, r.status, r.err, p)
		}
	}
	return unknown
}

// asks sends the requests of a row and keeps what was logged of each.
func (l *lab) asks(s *labSite, r row) []*ask {
	var all []*ask
	for text := range strings.SplitSeq(r.asks, "; ") {
		m := plainAsk.FindStringSubmatch(text)
		if m == nil {
			l.t.Fatalf("%s/%s: request %q is not understood", r.id, r.kind, text)
		}
		a := &ask{request: request{host: s.name(), how: m[1], path: m[2]}, mark: m[4], code: m[5]}
		a.want, _ = strconv.Atoi(m[3])
		l.lines(s)
		l.asker.ask(&a.request)
		a.logs = l.lines(s)
		all = append(all, a)
		if a.status != a.want {
			l.t.Errorf("%s/%s: GET %s: the server answers %d (%v), want %d; it says %q", r.id, r.kind, a.path, a.status, a.err, a.want, a.logs)
		}
		if want := a.phrase(); want != "" && !strings.Contains(fmt.Sprint(a.logs), want) {
			l.t.Errorf("%s/%s: GET %s: the log says %q, want %q", r.id, r.kind, a.path, a.logs, want)
		}
	}
	return all
}

func (a *ask) phrase() string {
	if p := phrases[a.code]; p != "" {
		return p
	}
	return a.code
}

// lines gives what came into any log.
func (l *lab) lines(s *labSite) []logLine {
	var all []logLine
	for _, f := range slices.Concat(s.logs, []*logFile{l.main}, l.others) {
		all = append(all, f.more(l.t)...)
	}
	return all
}

// hold demands of the prediction for one request of a row what its mark says.
func hold(t *testing.T, r row, a *ask, p *prediction) {
	t.Helper()
	at := fmt.Sprintf("%s/%s: GET %s", r.id, r.kind, a.path)
	switch {
	case a.how != "": // predict speaks of plain requests
	case p == nil:
		if a.mark != "-" {
			t.Errorf("%s: %d is not predicted", at, a.want)
		}
	case a.mark == "-":
		t.Errorf("%s: is predicted, and the row says that it is not listed: %v", at, p)
	case a.mark == "!":
		if !p.App {
			t.Errorf("%s: the script answers %d by itself, predicted %v", at, a.want, p)
		}
	case !p.right(a.want):
		t.Errorf("%s: answered %d, predicted %v", at, a.want, p)
	case !p.Certain && a.mark != "?":
		t.Errorf("%s: answered %d, predicted without certainty: %v", at, a.want, p)
	case p.Certain && mark.MatchString(a.code) && a.want >= 400 && p.Code != a.code:
		t.Errorf("%s: logged %s, predicted %v", at, a.code, p)
	}
}

// Every row has a state of its own, and the matrix is as large as was promised.
func TestTheMatrixIsLarge(t *testing.T) {
	var all []row
	for _, rows := range [][]row{apacheRows(), preforkRows(), itkRows(), nginxRows()} {
		all = append(all, rows...)
		names := users(rows)
		if slices.Sort(names); len(slices.Compact(names)) != len(rows) {
			t.Error("two rows share a user")
		}
	}
	distinct := map[string]bool{}
	for _, r := range all {
		distinct[r.kind+"\x00"+r.state] = true
	}
	if len(distinct) < 150 {
		t.Errorf("%d states and handlers, want at least 150", len(distinct))
	}
}
