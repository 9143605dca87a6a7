package web

import (
	"fmt"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"
)

// nginxHost is the host of a server whose document root /r is empty, and open to all.
func nginxHost(t testing.TB, http, body string, more map[string]string) (*NginxHost, View) {
	t.Helper()
	files := map[string]string{"etc/nginx/nginx.conf": "http {\n" + http + "\nserver {\nroot /r;\n" + body + "\n}\n}\n", "r/index.html": "", "r/a.txt": "", "r/a.php": ""}
	for k, v := range more {
		files[k] = v
	}
	s := root(t, files)
	c, err := ReadNginx(s, "/etc/nginx/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	h := NewNginxHost(NginxHostConfig{
		Server: s, Config: c, VHost: &c.Servers[0], Name: "www.a.example", DocRoot: "/r", Web: rightful.Identity{UID: 33}, PHP: rightful.Identity{UID: 2001},
		Pool: func(b string) (*Pool, rightful.Identity, bool) {
			return &Pool{Listen: b}, rightful.Identity{UID: 2001}, b != "unix:/none"
		},
	})
	return h, ViewOf(s, "/r")
}

// told is a verdict in short: the status or the set, and where it is not certain, "?".
func told(v Verdict) string {
	switch {
	case v.Certain:
		return fmt.Sprint(v.Status)
	case v.Statuses != nil:
		return fmt.Sprint(v.Statuses) + "?"
	}
	return "?"
}

func TestWhatNginxDecidesByIsKnownOrSaidToBeUnknown(t *testing.T) {
	for _, c := range []struct{ name, http, body, url, want, why string }{
		{"argument", "", "if ($arg_a) { return 404; }", "/a.txt", "200", ""},
		{"cookie", "", "if ($http_cookie) { return 404; }", "/a.txt", "200", ""},
		{"browser", "", "if ($http_user_agent ~ x) { return 404; }", "/a.txt", "[200 404]?", "$http_user_agent"},
		{"browser, but to no effect", "", "if ($http_user_agent ~ x) { set $cache 0; }", "/a.txt", "200", ""},
		{"two conditions", "", "if ($http_user_agent ~ x) { set $a 1; } if ($remote_addr = y) { return 404; } if ($a) { return 403; }", "/a.txt", "[200 403 404]?", "$http_user_agent"},
		{"too many conditions", "", strings.Repeat("if ($http_user_agent ~ x) { return 404; }\n", 30), "/a.txt", "?", "$http_user_agent"},
		{"name", "", "if ($host != www.a.example) { return 301 http://www.a.example/; }", "/a.txt", "200", ""},
		{"scheme", "", "if ($scheme = http) { return 301 https://$host; }", "/a.txt", "301", "return 301"},
		{"scheme, over TLS", "", "listen 80; listen 443 ssl; if ($scheme = http) { return 301 https://$host; }", "/a.txt", "200", ""},
		{"map", "map $uri $no { default 0; /a.txt 1; ~^/b 1; }", "if ($no) { return 410; }", "/a.txt", "410", "return 410"},
		{"map by expression", "map $uri $no { default 0; /a.txt 1; ~^/b 1; }", "if ($no) { return 410; }", "/b", "410", "return 410"},
		{"map by default", "map $uri $no { default 0; /a.txt 1; ~^/b 1; }", "if ($no) { return 410; }", "/index.html", "200", ""},
		{"map of map", "map $uri $x { default $y; } map $x $y { default $x; }", "if ($y) { return 410; }", "/a.txt", "[200 410]?", "lead to one another"},
		{"map by names", "map $host $r { hostnames; default /none; *.a.example /r; }", "location / { root $r; }", "/a.txt", "200", ""},
		{"geo", "geo $g { default 0; }", "if ($g) { return 410; }", "/a.txt", "[200 410]?", "$g"},
		{"geo in a root", "geo $g { default /r; }", "location / { root $g; }", "/a.txt", "?", "$g"},
		{"split_clients", "split_clients $remote_addr $s { 50% a; * b; }", "if ($s = a) { return 410; }", "/a.txt", "[200 410]?", "$s"},
		{"lua sets", "", "set_by_lua_block $l { return 1 } if ($l) { return 410; }", "/a.txt", "[200 410]?", "$l"},
		{"lua answers", "", "location / { content_by_lua_block { ngx.say(1) } }", "/a.txt", "?", "content_by_lua_block"},
		{"lua decides", "", "access_by_lua_block { x }", "/a.txt", "?", "access_by_lua_block"},
		{"unheard of", "", "location / { frobnicate on; }", "/a.txt", "?", "frobnicate"},
		{"look-ahead", "", "location ~ ^/(?!b) { return 410; }", "/a.txt", "410", "return 410"},
		{"look-ahead in a rewrite", "", "rewrite ^/(?!a) /c; rewrite ^/(?!b) /a.php;", "/a.txt", "200", ""},
		{"captures beside a look-ahead", "", "rewrite ^/(?!b)(.*) /c$1;", "/a.txt", "?", "(?!b)"},
		{"captures that nobody needs", "", "location ~ ^/(?!b)(.*) { }", "/a.txt", "200", ""},
		{"a panel's template", "", "location ~ /\\.(?!well-known\\/|file) { deny all; return 404; } location / { location ~* ^.+\\.(css|txt)$ { root /r; try_files $uri @b; expires max; } } location @b { return 410; }", "/a.txt", "200", ""},
		{"what it hides", "", "location ~ /\\.(?!well-known\\/|file) { deny all; return 404; }", "/.git/a.txt", "404", "return 404"},
		{"look-behind", "", "location ~ (?<!b)/a { return 410; }", "/a.txt", "?", "(?<!b)"},
		{"reference", "", "location ~ (.)\\1 { return 410; }", "/a.txt", "?", "expression"},
		{"addresses", "", "allow 192.0.2.0/24; deny all;", "/a.txt", "[200 403]?", "address"},
		{"some address", "", "deny 192.0.2.1;", "/a.txt", "[200 403]?", "address"},
		{"another asks", "", "auth_request /auth;", "/a.txt", "?", "auth_request"},
		{"proxied", "", "location / { proxy_pass http://127.0.0.1:81; }", "/a.txt", "?", "127.0.0.1:81"},
		{"no pool", "", "location ~ php$ { include params; fastcgi_pass unix:/none; }", "/a.php", "?", "unix:/none"},
		{"variable pool", "map $host $p { www.a.example 127.0.0.1:9000; }", "location ~ php$ { include params; fastcgi_pass $p; }", "/a.php", "200", ""},
		{"no method", "", "location ~ php$ { fastcgi_param SCRIPT_FILENAME $request_filename; fastcgi_pass 127.0.0.1:9000; }", "/a.php", "?", "REQUEST_METHOD"},
		{"client certificate", "", "ssl_verify_client on;", "/a.txt", "?", "ssl_verify_client"},
		{"relative root", "", "location / { root html; }", "/a.txt", "?", "installed"},
		{"error page that is not known", "", "error_page 404 $http_user_agent;", "/b", "?", "$http_user_agent"},
		{"no location of that name", "", "location / { try_files $uri @b; }", "/b", "500", "@b"},
		{"named captures", "", "server_name ~^(?<sub>[a-z]+)\\.(.+)$; location / { return 2$sub; }", "/a.txt", "302", "return"},
		{"name captured", "", "server_name ~^(?<sub>[a-z]+)\\.(.+)$; if ($sub = www) { return 410; }", "/a.txt", "410", "return 410"},
		{"image filter", "", "image_filter resize 1 1;", "/a.txt", "?", "image_filter"},
		{"gzip", "", "gzip_static on;", "/b", "[200 404]?", "gzip"},
		{"not a path", "", "", "a", "400", "no request path"},
		{"dots", "", "", "/x/../a.txt", "200", ""},
	} {
		h, in := nginxHost(t, c.http, c.body, map[string]string{
			"etc/nginx/params": "fastcgi_param REQUEST_METHOD GET; fastcgi_param SCRIPT_FILENAME $request_filename;", "r/b.gz": "",
		})
		v := h.URL(c.url, in)
		same(t, c.name, told(v), c.want)
		if !strings.Contains(v.Why, c.why) || (c.why == "") != (v.Why == "") {
			t.Errorf("%s: it says %q, and not %q", c.name, v.Why, c.why)
		}
	}
}

func TestTheOperatorIsToldOfCachesAndGuards(t *testing.T) {
	h, _ := nginxHost(t, "open_file_cache max=10;", "location /x { modsecurity on; }", nil)
	same(t, "notes", len(h.Notes()), 2)
	h, _ = nginxHost(t, "", "open_file_cache off; modsecurity off;", nil)
	same(t, "notes", len(h.Notes()), 0)
}

func TestAServerIsChosenByAddressThenName(t *testing.T) {
	c := nginx(t, map[string]string{"etc/nginx/nginx.conf": `http {
server { listen 80; server_name first.example; }
server { listen 80 default_server; server_name _; }
server { listen 80; server_name .dot.example *.wild.example tail.*; }
server { listen 80; server_name *.long.wild.example; }
server { listen 80; server_name ~^re\d+\.example$ exact.wild.example; }
server { listen 192.0.2.1:80; server_name own.example; }
server { listen 81; server_name a.example; }
server { listen [::]:82; server_name six.example; }
server { listen 83; server_name ~(?!a)b; }
}`})
	for _, x := range []struct {
		addr, port, name string
		want             int // index of the server, -1 for none
	}{
		{"", "80", "first.example", 0},
		{"", "80", "FIRST.example.", 0},
		{"", "80", "none.example", 1},
		{"", "80", "", 1},
		{"", "80", "dot.example", 2},
		{"", "80", "a.b.dot.example", 2},
		{"", "80", "a.wild.example", 2},
		{"", "80", "wild.example", 1},
		{"", "80", "a.long.wild.example", 3},
		{"", "80", "long.wild.example", 2},
		{"", "80", "tail.example", 2},
		{"", "80", "exact.wild.example", 4},
		{"", "80", "re12.example", 4},
		{"192.0.2.1", "80", "first.example", 5},
		{"192.0.2.2", "80", "first.example", 0},
		{"", "81", "x", 6},
		{"", "82", "x", 7},
		{"", "84", "x", -1},
		{"", "83", "b", 8},
	} {
		v, why := c.Choose(x.addr, x.port, x.name)
		got := -1
		for i := range c.Servers {
			if v == &c.Servers[i] {
				got = i
			}
		}
		if got != x.want || why == "" {
			t.Errorf("%s:%s %q: server %d (%s), want %d", x.addr, x.port, x.name, got, why, x.want)
		}
	}
}

func TestNginxsExpressionsMatchBytesAsPCREDoes(t *testing.T) {
	for _, c := range []struct {
		pattern, subject string
		fold, want       bool
	}{
		{`\.php$`, "/a.php", false, true},
		{`\.php$`, "/a.php\n", false, true},
		{`\.php$`, "/a.PHP", false, false},
		{`\.php$`, "/a.PHP", true, true},
		{`^/.{2}$`, "/ä", false, true},
		{`^/.$`, "/ä", false, false},
		{`^/[^a]{4}x$`, "/äöx", false, true},
		{`ä`, "/ä", false, true},
		{`^/\w+$`, "/ä", false, false},
		{`^/(a|b)/c?$`, "/a/", false, true},
		{`^/(a|b)/c?$`, "/a/d", false, false},
		{`/\.ht`, "/x/.htaccess", false, true},
		{`\.(css|js)$`, "/a.jss", false, false},
		{`^/A.*Z$`, "/abcz", true, true},
		{`a b`, "/a b", false, true},
		{`^/x{2,3}$`, "/xxx", false, true},
		{`k`, "\u212a", true, false},
		{`/\.(?!well-known)`, "/.git/x", false, true},
		{`/\.(?!well-known)`, "/.well-known/x", false, false},
		{`/\.(?!well-known)`, "/.well-known/.x", false, true},
		{`^/(?!a|b/)`, "/ab", false, false},
		{`^/(?!a|b/)`, "/b", false, true},
		{`^/(?!b/)`, "/a/b/c", false, true},
		{`/(?!B)[a-z]$`, "/b", true, false},
		{`/(?=a)..$`, "/ab", false, true},
		{`/(?=a)..$`, "/ba", false, false},
		{`/\.(?!well-known\/|file)`, "/.file", false, false},
		{`/(?!a)(?!b).`, "/b", false, false},
		{`/(?!a)(?!b).`, "/c", false, true},
		{`/.(?!$)`, "/ä", false, true},
		{`/..(?!$)`, "/ä", false, false},
	} {
		x := newNgxRegex(c.pattern, c.fold)
		if !x.sure([]byte(c.subject)) {
			t.Errorf("%q on %q is not sure", c.pattern, c.subject)
			continue
		}
		same(t, fmt.Sprintf("%q on %q", c.pattern, c.subject), x.match([]byte(c.subject)), c.want)
		if x.finds([]byte(c.subject)) {
			same(t, fmt.Sprintf("finding %q in %q", c.pattern, c.subject), x.find(c.subject) != nil, c.want)
		}
	}
	for _, c := range [][2]string{{`^a$.?`, "a\n"}, {`(?<!x)`, ""}, {`a*(?!x)`, ""}, {`(a(?!x))`, ""}, {`a(?!\bx)`, ""}, {`a|b(?!x)`, ""}, {`(?i)a(?!x)`, ""}, {`a(?!x)?b`, ""}, {`(a)\1`, ""}, {`a++`, ""}, {`\s$`, "\v"}} {
		if x := newNgxRegex(c[0], false); x.sure([]byte(c[1])) {
			t.Errorf("%q on %q is sure", c[0], c[1])
		}
	}
	same(t, "captures", newNgxRegex(`^/(.)(.)`, false).find("/ä"), []string{"/ä", "\xc3", "\xa4"})
}

// Where nginx stands before Apache, each answers for what it serves.
func TestNginxAnswersForItsFilesAndApacheForTheRest(t *testing.T) {
	treetest.NeedRoot(t)
	dir := treetest.OpenDir(t)
	treetest.Build(t, dir, `d 0755 0:0 r
f 0600 2001:2001 r/.htaccess = x
f 0644 2001:2001 r/a.css = x
f 0600 2001:2001 r/b.css = x
f 0644 2001:2001 r/a.html = x
d 0755 0:0 etc
f 0644 0:0 etc/apache.conf = "DocumentRoot /r\n<Directory /r>\nAllowOverride All\n</Directory>\n"
f 0644 0:0 etc/nginx.conf = "http { server { root /r; location / { proxy_pass http://127.0.0.1:8080; } location ~ \\.css$ { try_files $uri @apache; } location @apache { proxy_pass http://127.0.0.1:8080; } } }"
`)
	s, err := tree.OpenServer(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	ac, err := ReadApache(s, "/etc/apache.conf")
	if err != nil {
		t.Fatal(err)
	}
	nc, err := ReadNginx(s, "/etc/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	web := rightful.Identity{UID: 33, GIDs: []uint32{33}}
	h := NewNginxHost(NginxHostConfig{
		Server: s, Config: nc, VHost: &nc.Servers[0], DocRoot: "/r", Web: web,
		Behind: NewApacheHost(ApacheHostConfig{Server: s, Config: ac, VHost: &ac.Default, DocRoot: "/r", Web: web, Workers: web}),
	})
	in := ViewOf(s, "/r")
	scope := h.Root(in)
	for name, want := range map[string]string{"a.css": "200 ", "b.css": "403 nginx:open", "a.html": "403 AH00529", "": "403 AH00529", "c.css": "403 AH00529"} {
		n, _ := in.Lstat(name)
		v := scope.File([]byte(name), n, in)
		if name == "" {
			v = scope.Index(in)
		}
		same(t, name, fmt.Sprint(v.Status, " ", v.Code), want)
		asked := h.URL("/"+name, in)
		same(t, "asked for "+name, fmt.Sprint(asked.Status, " ", asked.Code), want)
	}
	if !scope.Same(h.Root(in)) {
		t.Error("the same scope twice is not the same")
	}
}

// The socket of a pool that does not run yet is as its file says.
func TestASocketThatIsToComeIsJudgedByItsPool(t *testing.T) {
	users := func(user, group string) (rightful.Identity, bool) {
		ids := map[string]rightful.Identity{"www-data": {UID: 33, GIDs: []uint32{33}}, "alice": {UID: 2001, GIDs: []uint32{2001}}, "root": {}}
		id, ok := ids[user]
		if g, known := ids[group]; known {
			id.GIDs = g.GIDs
		}
		return id, ok
	}
	web := rightful.Identity{UID: 33, GIDs: []uint32{33}}
	for _, c := range []struct {
		pool Pool
		want bool
	}{
		{Pool{}, false},
		{Pool{ListenOwner: "www-data"}, true},
		{Pool{ListenOwner: "alice"}, false},
		{Pool{ListenGroup: "www-data"}, true},
		{Pool{ListenOwner: "alice", ListenGroup: "www-data", ListenMode: "0600"}, false},
		{Pool{ListenMode: "0666"}, true},
	} {
		same(t, fmt.Sprintf("%+v", c.pool), c.pool.mayConnect(&web, users), c.want)
	}
}

func TestAServedFileCostsNoAllocation(t *testing.T) {
	h, in := nginxHost(t, "", `location / { try_files $uri $uri/ /index.php; } location ~* \.(css|txt|js)$ { expires 1d; } location ~ /\.ht { deny all; }
location ~ \.php$ { fastcgi_param REQUEST_METHOD GET; fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name; fastcgi_pass 127.0.0.1:9000; }`, nil)
	scope := h.Root(in)
	n := Node{Kind: rightful.KindFile, Meta: rightful.Meta{Mode: 0o644}}
	for _, name := range [][]byte{[]byte("a.txt"), []byte("x.html"), []byte("a.php")} {
		scope.File(name, n, in)
		if a := testing.AllocsPerRun(100, func() {
			if v := scope.File(name, n, in); !v.Served() {
				t.Fatal(v)
			}
		}); a > 0 {
			t.Errorf("%s: %.0f allocations", name, a)
		}
	}
}

func BenchmarkNginxFile(b *testing.B) {
	h, in := nginxHost(b, "", `location / { try_files $uri $uri/ /index.php; } location ~* \.(css|txt|js|png|jpg|svg)$ { expires 1d; } location ~ /\.ht { deny all; }
location ~ \.php$ { fastcgi_param REQUEST_METHOD GET; fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name; fastcgi_pass 127.0.0.1:9000; }`, nil)
	scope := h.Root(in)
	for _, c := range []struct {
		name, file string
		mode       rightful.Mode
	}{{"static", "style.css", 0o644}, {"php", "index.php", 0o644}, {"other", "readme.html", 0o644}, {"closed", "style.css", 0o600}} {
		b.Run(c.name, func(b *testing.B) {
			n, name := Node{Kind: rightful.KindFile, Meta: rightful.Meta{Mode: c.mode}}, []byte(c.file)
			b.ReportAllocs()
			for b.Loop() {
				scope.File(name, n, in)
			}
		})
	}
}
