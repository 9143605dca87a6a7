package replay

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rightful/internal/hostbox"
)

// A lab is a box whose web server is set up anew, with many small sites that differ in one thing each. Whatever is tried
// there is tried at once: one state for each site, then one prediction, then all requests.
type lab struct {
	*server
	setup  *setup
	sites  []*labSite
	main   *logFile   // of the server itself
	others []*logFile // of suEXEC
	asker  *asker
}

// A setup is a web server with its modules and the kinds of virtual host that it has.
type setup struct {
	server string // "apache" or "nginx"
	conf   string // the main configuration; sites follow it
	hosts  map[string]host
}

// A host is a kind of virtual host. In its texts @U is the user, @H the home, @D the document root, @N the name.
type host struct {
	vhost string
	pool  string // lines of the user's PHP-FPM pool; empty for none
	home  string // where it is not /home/@U
	root  string // document root where it is not @H/public_html
}

// A labSite is one account with one site.
type labSite struct {
	kind string
	user string
	uid  int
	logs []*logFile
	host
}

const (
	firstLab = 30001
	labPool  = "listen.owner = www-data\nlisten.mode = 0600\n"
)

// The other customers of a lab: bob lets everybody through, carol nobody.
var neighbours = []struct {
	name string
	uid  int
	mode int64
}{{"bob", 20101, 0o711}, {"carol", 20102, 0o700}}

// logName and name are what a site is called.
func (s *labSite) logName() string { return "/var/log/lab/" + s.user + ".log" }
func (s *labSite) phpLog() string  { return "/var/log/lab/" + s.user + "-php.log" }
func (s *labSite) name() string    { return s.user + ".example" }

// fill replaces the words of a text.
func (s *labSite) fill(text string) string {
	return strings.NewReplacer("@U", s.user, "@H", s.home, "@D", s.root, "@N", s.name()).Replace(text)
}

// newSite makes a site of a kind for a user that is called so.
func (u *setup) newSite(t *testing.T, kind, user string, n int) *labSite {
	t.Helper()
	h, ok := u.hosts[kind]
	if !ok {
		t.Fatalf("no kind of host is called %q", kind)
	}
	s := &labSite{kind: kind, user: user, uid: firstLab + n, host: h}
	if s.home == "" {
		s.home = "/home/@U"
	}
	s.home = s.fill(s.home)
	if s.root == "" {
		s.root = "@H/public_html"
	}
	s.root = s.fill(s.root)
	s.vhost, s.pool = s.fill(s.vhost), s.fill(s.pool)
	return s
}

// newLab starts a box, sets its web server up and fills the homes. fill writes what a document root holds.
func newLab(t *testing.T, u *setup, sites []*labSite, fill func(*files, *labSite)) *lab {
	t.Helper()
	for line := range strings.Lines(u.conf) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "LoadModule" {
			if _, err := os.Stat(f[2]); err != nil {
				t.Skipf("needs %s", f[2])
			}
		}
	}
	panel := "plain"
	if u.server == "nginx" {
		panel = "nginx"
	}
	l := &lab{server: start(t, panel, 1), setup: u, sites: sites}
	ctx := t.Context()
	if err := l.StopWeb(ctx); err != nil {
		t.Fatal(err)
	}
	var image bytes.Buffer
	l.image(&image, fill)
	unpack := l.Command(ctx, "sh", "-euc", `rm -rf /home/alice /etc/php/*/fpm/pool.d/* /etc/nginx/sites-enabled/* /run/php/*
		echo '[idle]
user = www-data
group = www-data
listen = /run/php/idle.sock
pm = ondemand
pm.max_children = 1' >"$(echo /etc/php/*/fpm/pool.d)/idle.conf"
		sed -i /^alice:/d /etc/passwd /etc/group
		tar --extract --preserve-permissions --numeric-owner --same-owner --acls --directory=/
		cat /etc/passwd.lab >>/etc/passwd; cat /etc/group.lab >>/etc/group
		cp /etc/pool.d/* "$(echo /etc/php/*/fpm/pool.d)" 2>/dev/null || :
		: >/var/log/apache2/error.log; : >/var/log/nginx/error.log; : >/var/log/apache2/suexec.log`)
	unpack.Stdin = &image
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("fill the lab: %v: %s", err, out)
	}
	if strings.Contains(u.conf, "mod_fcgid") {
		l.workersFirst()
	}
	if err := l.StartWeb(ctx); err != nil {
		t.Fatal(err)
	}
	l.asker = &asker{dial: l.Dial}
	t.Cleanup(l.asker.close)
	mainLog := map[string]string{"apache": "/var/log/apache2/error.log", "nginx": "/var/log/nginx/error.log"}[u.server]
	l.main = openLog(t, l.Box, u.server, mainLog)
	l.others = []*logFile{openLog(t, l.Box, "suexec", "/var/log/apache2/suexec.log"), openLog(t, l.Box, "fpm", "/var/log/php-fpm.log")}
	for _, s := range sites {
		s.logs = []*logFile{openLog(t, l.Box, u.server, s.logName())}
		if strings.Contains(s.pool, s.phpLog()) {
			s.logs = append(s.logs, openLog(t, l.Box, "fpm", s.phpLog()))
		}
	}
	return l
}

// files is an archive that is being written.
type files struct {
	*tar.Writer
	uid, gid int
	err      error
}

func (f *files) put(typ byte, name string, mode int64, body string) {
	h := &tar.Header{Typeflag: typ, Name: strings.TrimPrefix(name, "/"), Mode: mode, Uid: f.uid, Gid: f.gid, ModTime: time.Unix(1.6e9, 0)}
	if typ == tar.TypeSymlink {
		h.Linkname, body = body, ""
	}
	h.Size = int64(len(body))
	if err := f.WriteHeader(h); err != nil {
		f.err = errors.Join(f.err, err)
		return
	}
	_, err := io.WriteString(f.Writer, body)
	f.err = errors.Join(f.err, err)
}
func (f *files) dir(name string, mode int64)            { f.put(tar.TypeDir, name+"/", mode, "") }
func (f *files) file(name string, mode int64, b string) { f.put(tar.TypeReg, name, mode, b) }
func (f *files) link(name, target string)               { f.put(tar.TypeSymlink, name, 0o777, target) }

func (f *files) system(name, body string) { f.uid, f.gid = 0, 0; f.file(name, 0o644, body) }

// image writes the accounts and the configuration.
func (l *lab) image(out io.Writer, fill func(*files, *labSite)) {
	f := &files{Writer: tar.NewWriter(out)}
	var passwd, group, vhosts strings.Builder
	account := func(name string, uid int, home string) {
		fmt.Fprintf(&passwd, "%s:x:%d:%[2]d::%s:/bin/sh\n", name, uid, home)
		fmt.Fprintf(&group, "%s:x:%d:\n", name, uid)
	}
	f.dir("/var/log/lab", 0o755)
	f.dir("/etc/pool.d", 0o755)
	f.dir("/home2/far", 0o755)
	f.dir("/srv/www", 0o755)
	for _, n := range neighbours {
		home := "/home/" + n.name
		account(n.name, n.uid, home)
		f.uid, f.gid = n.uid, n.uid
		f.dir(home, n.mode)
		f.dir(home+"/public_html", 0o755)
		f.file(home+"/public_html/b.html", 0o644, n.name)
		f.file(home+"/public_html/b.php", 0o644, "<?php echo 1;")
		f.file(home+"/public_html/closed.html", 0o600, n.name)
		f.dir(home+"/public_html/d", 0o755)
		f.file(home+"/public_html/d/b.html", 0o644, n.name)
	}
	for _, s := range l.sites {
		account(s.user, s.uid, s.home)
		real := s.home
		if strings.HasPrefix(s.home, "/home/ln-") {
			real = "/home/" + s.user
			f.uid, f.gid = 0, 0
			f.link(s.home, real)
		}
		f.uid, f.gid = s.uid, s.uid
		f.dir(real, 0o711)
		f.dir(strings.Replace(s.root, s.home, real, 1), 0o755)
		fill(f, s)
		f.file(s.phpLog(), 0o644, "")
		f.system(s.logName(), "")
		if s.pool != "" {
			group := ""
			if !strings.Contains(s.pool, "group =") {
				group = "group = " + s.user + "\n"
			}
			f.system("/etc/pool.d/"+s.user+".conf", fmt.Sprintf("[%s]\nuser = %[1]s\nlisten = /run/php/%[1]s.sock\npm = ondemand\npm.max_children = 2\n"+
				"php_admin_value[realpath_cache_size] = 0\n"+
				"php_admin_flag[display_errors] = off\nphp_admin_flag[log_errors] = on\n%s%s", s.user, group, s.pool))
		}
		if l.setup.server == "nginx" {
			fmt.Fprintf(&vhosts, "server {\nlisten 80;\nserver_name %s;\nroot %s;\nerror_log %s;\n%s\n}\n", s.name(), s.root, s.logName(), s.vhost)
		} else {
			fmt.Fprintf(&vhosts, "<VirtualHost *:80>\nServerName %s\nDocumentRoot %s\nErrorLog %s\n%s\n</VirtualHost>\n", s.name(), s.root, s.logName(), s.vhost)
		}
	}
	f.system("/etc/passwd.lab", passwd.String())
	f.system("/etc/group.lab", group.String())
	if l.setup.server == "nginx" {
		f.system("/etc/nginx/nginx.conf", l.setup.conf+vhosts.String()+"}\n")
	} else {
		f.system("/etc/apache2/apache2.conf", l.setup.conf+vhosts.String())
	}
	if err := errors.Join(f.err, f.Close()); err != nil {
		l.t.Fatal(err)
	}
}

// script runs a long script in the box as root.
func (l *lab) script(text string) {
	l.t.Helper()
	cmd := l.Command(l.t.Context(), "bash", "-eu", "-s")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		l.t.Fatalf("run the states: %v: %s", err, out)
	}
}

// A logFile is a log that is read as it grows.
type logFile struct {
	server string
	file   *os.File
	at     int64
}

func openLog(t *testing.T, b *hostbox.Box, server, name string) *logFile {
	t.Helper()
	f, err := os.Open(b.PathInHost(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &logFile{server: server, file: f}
}

// A logLine is one line, and whose it is.
type logLine struct{ server, text string }

func (l logLine) String() string { return l.text }

// more gives the lines that came since it was last asked.
func (l *logFile) more(t *testing.T) []logLine {
	t.Helper()
	end, err := l.file.Seek(0, io.SeekEnd)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, max(end-l.at, 0))
	if _, err := l.file.ReadAt(buf, l.at); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	l.at = end
	var all []logLine
	for text := range strings.SplitSeq(string(buf), "\n") {
		if text != "" {
			all = append(all, logLine{l.server, text})
		}
	}
	return all
}

// An asker sends requests over few connections.
type asker struct {
	dial func() (net.Conn, error)
	mu   sync.Mutex
	idle []*conn
}

type conn struct {
	net.Conn
	in *bufio.Reader
}

func (a *asker) close() {
	for _, c := range a.idle {
		c.Close()
	}
}

// maxAnswer is how long an answer may take: what takes longer hangs.
const maxAnswer = 20 * time.Second

// ask sends one request.
func (a *asker) ask(r *request) {
	r.status, r.err = a.answer(r)
}

func (a *asker) answer(r *request) (int, error) {
	a.mu.Lock()
	var c *conn
	if n := len(a.idle); n > 0 {
		c, a.idle = a.idle[n-1], a.idle[:n-1]
	}
	a.mu.Unlock()
	if c != nil {
		// The server may have closed it meanwhile.
		if code, err := a.over(c, r); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return code, err
		}
	}
	fresh, err := a.dial()
	if err != nil {
		return 0, err
	}
	return a.over(&conn{fresh, bufio.NewReader(fresh)}, r)
}

func (a *asker) over(c *conn, r *request) (int, error) {
	if err := c.SetDeadline(time.Now().Add(maxAnswer)); err != nil {
		return 0, err
	}
	method, more := "GET", ""
	switch r.how {
	case "":
	case "auth":
		more = "Authorization: Basic eDp5\r\n"
	case "referer":
		more = "Referer: http://ref.example/x?y\r\n"
	case "since":
		more = "If-Modified-Since: Sat, 01 Jan 2022 00:00:00 GMT\r\n"
	default:
		method, more = r.how, "Content-Length: 0\r\n"
	}
	_, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: lab\r\n%s\r\n", method, r.path, r.host, more)
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(c.in, &http.Request{Method: method})
	}
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	if err != nil {
		c.Close()
		return 0, fmt.Errorf("%s http://%s%s: %w", method, r.host, r.path, err)
	}
	if resp.Close {
		c.Close()
		return resp.StatusCode, nil
	}
	a.mu.Lock()
	a.idle = append(a.idle, c)
	a.mu.Unlock()
	return resp.StatusCode, nil
}

// A request is what was asked and what came: status 0 where nothing did. The path is sent as it is. How it is asked is
// plainly (""), with a header ("auth", "referer", "since"), or by another method than GET, by its name.
type request struct {
	host, path, how string
	status          int
	err             error
}

// all sends many requests at once.
func (a *asker) all(reqs []*request) {
	var wg sync.WaitGroup
	next := make(chan *request)
	for range 4 {
		wg.Go(func() {
			for r := range next {
				a.ask(r)
			}
		})
	}
	for _, r := range reqs {
		next <- r
	}
	close(next)
	wg.Wait()
}

// A prediction is one line of predict.
type prediction struct {
	Kind       string  `json:"kind"`
	Account    string  `json:"account"`
	Site       string  `json:"site"`
	URL        string  `json:"url"`
	Path       string  `json:"path"`
	PathB64    []byte  `json:"path_b64"`
	Status     int     `json:"status"`
	Statuses   []int   `json:"statuses"`
	Certain    bool    `json:"certain"`
	Code       string  `json:"code"`
	Culprit    string  `json:"culprit"`
	CulpritB64 []byte  `json:"culprit_b64"`
	Identity   *uint32 `json:"identity"`
	Need       string  `json:"need"`
	Why        string  `json:"why"`
	App        bool    `json:"app"`
}

// String is what a person needs to see of it.
func (p *prediction) String() string {
	return fmt.Sprintf("%d %v %s by %q for %s (%s)", p.Status, p.Statuses, p.Code, p.Culprit, p.Need, p.Why)
}

// right reports whether an answer is what was predicted.
func (p *prediction) right(status int) bool {
	if p.Certain {
		return p.Status == status
	}
	return len(p.Statuses) == 0 || slices.Contains(p.Statuses, status)
}

// predict runs rightful predict and gives its lines by site and URL.
func (l *lab) predict(accounts ...string) map[string]map[string]*prediction {
	l.t.Helper()
	a := l.text(l.Command(l.t.Context(), "rightful", append([]string{"--json", "predict"}, accounts...)...))
	if a.code > 1 {
		l.t.Fatalf("rightful predict: exit code %d: %s", a.code, head(a.stderr, 20))
	}
	all := map[string]map[string]*prediction{}
	for line := range strings.Lines(a.stdout) {
		p := &prediction{}
		if err := json.Unmarshal([]byte(line), p); err != nil {
			l.t.Fatalf("JSON line %q: %v", line, err)
		}
		if p.Kind != "url" {
			continue
		}
		site := all[p.Site]
		if site == nil {
			site = map[string]*prediction{}
			all[p.Site] = site
		}
		if p.PathB64 != nil {
			p.Path = string(p.PathB64)
		}
		if p.CulpritB64 != nil {
			p.Culprit = string(p.CulpritB64)
		}
		if old := site[p.URL]; old != nil {
			l.t.Errorf("%s%s is predicted twice: %v, %v", p.Site, p.URL, old, p)
		}
		site[p.URL] = p
	}
	return all
}

// complete demands that every entry below the document roots, by the word of find, is predicted once. Mounts are not
// crossed, and paths are those that the entries really have.
func (l *lab) complete(predicted map[string]map[string]*prediction, sites []*labSite) {
	l.t.Helper()
	var b strings.Builder
	for _, s := range sites {
		fmt.Fprintf(&b, "printf '%%s\\0' %s; find \"$(readlink -f %s)\" -xdev ! -name nx -printf '%%p\\0' 2>/dev/null || :\n", s.name(), s.root)
	}
	cmd := l.Command(l.t.Context(), "bash", "-eu", "-s")
	cmd.Stdin = strings.NewReader(b.String())
	out, err := cmd.Output()
	if err != nil {
		l.t.Fatalf("list the document roots: %v", err)
	}
	var site string
	left := map[string]int{}
	end := func() {
		for p, n := range left {
			if n != 0 {
				l.t.Errorf("%s: %q is predicted %d times too few", site, p, n)
			}
		}
		clear(left)
	}
	for p := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if strings.HasPrefix(p, "/") {
			left[p]++
			continue
		}
		end()
		site = p
		for _, q := range predicted[site] {
			left[q.Path]--
		}
	}
	end()
}
