package web

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"
)

// nginxBase is a healthy site of alice's (2001) beside one of bob's (2002); www-data is 33.
const nginxBase = `d 0755 0:0 home
d 0711 2001:2001 home/alice
d 0755 2001:2001 home/alice/public_html
f 0644 2001:2001 home/alice/public_html/ok.html = x
f 0600 2001:2001 home/alice/public_html/f0600.html = x
f 0644 2001:2001 home/alice/public_html/index.html = x
f 0644 2001:2001 home/alice/public_html/ok.php = x
d 0755 2001:2001 home/alice/public_html/sub
f 0644 2001:2001 home/alice/public_html/sub/ok.html = x
f 0644 2001:2001 home/alice/public_html/sub/index.html = x
d 0755 2001:2001 home/alice/public_html/noidx
f 0644 2001:2001 home/alice/public_html/noidx/a.txt = x
d 0711 2002:2002 home/bob
d 0755 2002:2002 home/bob/public_html
f 0644 2002:2002 home/bob/public_html/b.html = x
d 0755 0:0 run
s 0660 0:33 run/alice.sock
s 0600 0:0 run/locked.sock
`

// nginxVHosts are the servers that the facts below were measured on, by name.
var nginxVHosts = map[string]string{
	"std":      "",
	"auto":     "autoindex on;",
	"tryf":     "location / { try_files $uri $uri/ =404; }",
	"tryphp":   "location / { try_files $uri $uri/ /index.php?$args; } " + nginxPHPLocation,
	"php":      nginxPHPLocation,
	"phptry":   "location ~ \\.php$ { try_files $uri =404; " + nginxPass + "alice.sock; }",
	"phplock":  "location ~ \\.php$ { " + nginxPass + "locked.sock; }",
	"phpno":    "location ~ \\.php$ { " + nginxPass + "nosuch.sock; }",
	"dson":     "disable_symlinks on;",
	"dsino":    "disable_symlinks if_not_owner;",
	"dsfrom":   "disable_symlinks on from=$document_root;",
	"iff":      "if (!-f $request_filename) { return 404; }",
	"auth":     "auth_basic x; auth_basic_user_file /home/alice/public_html/f0600.html;",
	"ofc":      "open_file_cache max=100; open_file_cache_errors on;",
	"deny":     "deny all;",
	"ret":      "return 403;",
	"phtml":    "location ~ \\.(php|phtml)$ { " + nginxPass + "alice.sock; }",
	"callback": "error_page 404 = @app; location @app { fastcgi_param REQUEST_METHOD $request_method; fastcgi_param SCRIPT_FILENAME $document_root/index.php; fastcgi_pass unix:/run/alice.sock; }",
}

const (
	nginxPass        = "fastcgi_param REQUEST_METHOD $request_method; fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name; fastcgi_pass unix:/run/"
	nginxPHPLocation = "location ~ \\.php$ { " + nginxPass + "alice.sock; }"
)

// The observed answers of nginx 1.22.1 to 80 requests. Of the columns, state is the entries that differ from nginxBase (D/,
// H/, B/: alice's document root and home, bob's document root; "-" before a path removes it); code is the word for the log line.
const nginxFacts = `
S00 | std /ok.html | 200 |
S01 | std /ok.html | 403 nginx:open H x | d 0700 2001:2001 H
S01 | std / | 403 nginx:forbidden H x | d 0700 2001:2001 H
S01 | std /nosuch.html | 403 nginx:open H x | d 0700 2001:2001 H
S02 | std /ok.html | 403 nginx:open H x | d 0750 2001:2001 H
S03 | std /ok.html | 200 | d 0750 2001:33 H
S04 | std /ok.html | 200 | d 0710 2001:33 H
S06 | std /ok.html | 403 nginx:open D x | d 0750 2001:2001 D
S06 | std / | 403 nginx:forbidden D x | d 0750 2001:2001 D
S07 | std /ok.html | 200 | d 0750 2001:33 D
S08 | auto /noidx/ | 403 nginx:opendir D/noidx r | d 0710 2001:33 D/noidx
S08 | std /noidx/ | 403 nginx:index | d 0710 2001:33 D/noidx
S09 | std /f0600.html | 403 nginx:open D/f0600.html r |
S11 | std /ok.html | 403 nginx:open D/ok.html r | f 0604 2001:33 D/ok.html
S13 | std /sub/ok.html | 403 nginx:open D/sub x | d 0644 2001:2001 D/sub
S13 | std /sub/ | 403 nginx:forbidden D/sub x | d 0644 2001:2001 D/sub
S13 | auto /sub/ | 403 nginx:forbidden D/sub x | d 0644 2001:2001 D/sub
S14b | std /sub | 403 nginx:open D/sub r | d 0000 2001:2001 D/sub
S60 | std /sub/ | 200 | d 0711 2001:2001 D/sub
S60 | auto /sub/ | 200 | d 0711 2001:2001 D/sub
S61 | std /sub/ | 403 nginx:forbidden D/sub x | d 0744 2001:2001 D/sub
S63 | std /a/b/c/dd/x.html | 403 nginx:open D/a/b/c x | d 0755 2001:2001 D/a; d 0755 2001:2001 D/a/b; d 0744 2001:2001 D/a/b/c; d 0755 2001:2001 D/a/b/c/dd; f 0644 2001:2001 D/a/b/c/dd/x.html
S65 | std /ok.html | 403 nginx:open home x | d 0700 0:0 home
S66 | std /sub | 403 nginx:open D/sub r | d 0711 2001:2001 D/sub
S66 | std /noidx | 301 | d 0644 2001:2001 D/noidx
S15 | std /ok.html | 200 | f 0600 2001:2001 D/.htaccess
S19 | std /noidx/ | 403 nginx:index |
S19 | auto /noidx/ | 200 |
S20 | std /sub/ | 403 nginx:open D/sub/index.html r | f 0600 2001:2001 D/sub/index.html
S21 | std /sub/ | 403 nginx:open D/sub/index.html r | f 0600 2001:2001 D/sub/index.html; f 0644 2001:2001 D/sub/index.php
S21b | std /sub/ | 301 | -D/sub/index.html; d 0755 2001:2001 D/sub/index.html
S21c | std /sub/ | 403 nginx:index | -D/sub/index.html; l 0777 2001:2001 D/sub/index.html -> nowhere
S22 | std /nosuch.html | 404 nginx:open |
S22 | std /ok.html/extra | 404 nginx:open |
S22 | std /ok.html/ | 404 nginx:not-found |
S22 | std /sub | 301 |
S34 | std /fifo | 404 nginx:not-regular | p 0644 2001:2001 D/fifo
S35 | std /sock | 500 nginx:open | s 0755 2001:2001 D/sock
S37 | std /aaa | 404 nginx:open | long
S40 | auto / | 200 | -D/index.html; d 0700 2001:2001 D/sub
S24 | std /l.html | 404 nginx:open | l 0777 2001:2001 D/l.html -> nowhere
S25 | std /l.html | 200 | l 0777 2001:2001 D/l.html -> /home/bob/public_html/b.html
S25 | dson /l.html | 403 nginx:openat D/l.html | l 0777 2001:2001 D/l.html -> /home/bob/public_html/b.html
S25 | dsino /l.html | 403 nginx:openat D/l.html | l 0777 2001:2001 D/l.html -> /home/bob/public_html/b.html
S25 | dsfrom /l.html | 403 nginx:openat D/l.html | l 0777 2001:2001 D/l.html -> /home/bob/public_html/b.html
S26 | dsino /l.html | 200 | l 0777 2002:2002 D/l.html -> /home/bob/public_html/b.html
S27 | dson /l.html | 403 nginx:openat D/l.html | l 0777 2001:2001 D/l.html -> ok.html
S27 | dsino /l.html | 200 | l 0777 2001:2001 D/l.html -> ok.html
S28 | std /l.html | 403 nginx:open B/b.html r | f 0600 2002:2002 B/b.html; l 0777 2001:2001 D/l.html -> /home/bob/public_html/b.html
S28 | dsino /l.html | 403 nginx:openat B/b.html r | f 0600 2002:2002 B/b.html; l 0777 2001:2001 D/l.html -> /home/bob/public_html/b.html
S29 | std /l.html | 403 nginx:open home/bob x | d 0700 2002:2002 home/bob; l 0777 2001:2001 D/l.html -> /home/bob/public_html/b.html
S29 | dsino /l.html | 403 nginx:openat home/bob x | d 0700 2002:2002 home/bob; l 0777 2001:2001 D/l.html -> /home/bob/public_html/b.html
S30 | std /ld/b.html | 200 | l 0777 2001:2001 D/ld -> /home/bob/public_html
S30 | dson /ld/b.html | 404 nginx:openat D/ld | l 0777 2001:2001 D/ld -> /home/bob/public_html
S30 | dsino /ld/b.html | 403 nginx:openat D/ld | l 0777 2001:2001 D/ld -> /home/bob/public_html
S30 | dsfrom /ld/b.html | 404 nginx:openat D/ld | l 0777 2001:2001 D/ld -> /home/bob/public_html
S30b | dsino /ld/bob.html | 200 | f 0644 2002:2002 D/sub/bob.html; l 0777 2001:2001 D/ld -> sub
S30b | dson /ld/bob.html | 404 nginx:openat D/ld | f 0644 2002:2002 D/sub/bob.html; l 0777 2001:2001 D/ld -> sub
S30c | dsino /l.html | 403 nginx:openat D/l.html | l 0777 0:0 D/l.html -> ok.html
S30d | dson /ok.html | 200 |
S30e | std /l.html | 403 nginx:open D/l.html | l 0777 2001:2001 D/l.html -> l2.html; l 0777 2001:2001 D/l2.html -> l.html
S30f | dsino /l1.html | 403 nginx:openat D/l1.html | l 0777 2001:2001 D/l1.html -> l2.html; l 0777 2001:2001 D/l2.html -> /home/bob/public_html/b.html
S30g | dsino /l1.html | 200 | l 0777 2001:2001 D/l1.html -> l2.html; l 0777 2002:2002 D/l2.html -> ok.html
S41 | std /tmp/l.html | 403 nginx:open D/tmp/l.html | d 1777 2001:2001 D/tmp; l 0777 2002:2002 D/tmp/l.html -> /home/alice/public_html/ok.html
S31 | std /f0600.html | 200 | f 0640 2001:2001 D/f0600.html acl=user::rw-,user:33:r--,group::---,mask::r--,other::---
S32d | std /ok.html | 200 | d 0710 2001:2001 H acl=user::rwx,user:33:--x,group::---,mask::--x,other::---
G01 | std /ok.html | 403 nginx:open D/ok.html r | f 0640 2001:2001 D/ok.html
G02 | std /ok.html | 200 | f 0640 2001:2001 D/ok.html; group 2001
S36 | deny /ok.html | 403 nginx:rule |
S36 | ret /ok.html | 403 |
S43 | std /a"b\c.html | 403 nginx:open D/a"b\c.html r | f 0600 2001:2001 "D/a\"b\\c.html"
N01 | tryf /sub/ok.html | 404 nginx:stat D/sub x | d 0700 2001:2001 D/sub
N01 | tryf /f0600.html | 403 nginx:open D/f0600.html r | d 0700 2001:2001 D/sub
N01 | tryf /sub/ | 403 nginx:forbidden D/sub x | d 0700 2001:2001 D/sub
N01 | iff /sub/ok.html | 404 nginx:stat D/sub x | d 0700 2001:2001 D/sub
N01 | iff /f0600.html | 403 nginx:open D/f0600.html r | d 0700 2001:2001 D/sub
N01 | auth /ok.html | 401|500 nginx:open D/f0600.html r |
N01 | tryphp /sub/ok.html | 404 nginx:stat D/sub x | d 0700 2001:2001 D/sub
N02 | tryf /ok.html | 404 nginx:stat H x | d 0700 2001:2001 H
N02 | tryf / | 404 nginx:stat H x | d 0700 2001:2001 H
N02 | tryphp /ok.html | 404 nginx:stat H x | d 0700 2001:2001 H
N02 | tryphp / | 404 nginx:stat H x | d 0700 2001:2001 H
N03 | tryphp /sub/ok.html | app nginx:stat D/sub x | d 0700 2001:2001 D/sub; f 0644 2001:2001 D/index.php
N10 | ofc /ok.html | 200 |
N10 | ofc /f0600.html | 403 nginx:open D/f0600.html r |
N11 | std /ok.html | 200 | f 4755 2001:2001 D/ok.html
P01 | php /ok.php | app |
P02 | php /ok.php | app | f 0600 2001:2001 D/ok.php
P02 | phptry /ok.php | app | f 0600 2001:2001 D/ok.php
P04 | php /ok.php | 403 fpm:unable-to-open D/ok.php r | f 0600 2002:2002 D/ok.php
P06 | php /ok.php | app | d 0700 2001:2001 H
P06 | phptry /ok.php | 404 nginx:stat H x | d 0700 2001:2001 H
P08 | php /nosuch.php | 404 fpm:primary-script-unknown |
P08 | phptry /nosuch.php | 404 |
P09 | php /bd/x.php | 404 fpm:primary-script-unknown D/bd x | d 0750 2002:33 D/bd; f 0644 2001:2001 D/bd/x.php
P10 | phtml /x.phtml | 403 fpm:limit-extensions | f 0644 2001:2001 D/x.phtml
P11 | php /r.php | app | f 0644 2001:2001 D/r.php; f 0600 2002:2002 D/inc.php
P13 | phplock /ok.php | 502 nginx:connect run/locked.sock w |
P13 | phpno /ok.php | 502 nginx:connect run/nosuch.sock |
P16 | php /l.php | app | f 0644 2002:2002 B/b.php; l 0777 2001:2001 D/l.php -> /home/bob/public_html/b.php
P19 | php /x.php | 404 fpm:unable-to-open D/x.php | d 0755 2001:2001 D/x.php
P15 | php /sub/ | app | -D/sub/index.html; f 0600 2001:2001 D/sub/index.php
P15b | php /sub/ | 403 nginx:forbidden D/sub x | -D/sub/index.html; f 0600 2001:2001 D/sub/index.php; d 0700 2001:2001 D/sub
P16b | php /l3.php | 404 fpm:primary-script-unknown | l 0777 2001:2001 D/l3.php -> nowhere
`

func TestEveryObservedAnswerOfNginxIsPredicted(t *testing.T) {
	treetest.NeedRoot(t)
	rows := strings.Split(strings.TrimSpace(nginxFacts), "\n")
	if len(rows) < 100 {
		t.Errorf("%d rows", len(rows))
	}
	for _, row := range rows {
		cells := strings.SplitN(row, " | ", 4)
		if len(cells) < 3 {
			t.Fatalf("row %q", row)
		}
		state := ""
		if len(cells) == 4 {
			state = cells[3]
		}
		t.Run(cells[0]+" "+cells[1], func(t *testing.T) {
			vhost, url, _ := strings.Cut(cells[1], " ")
			if state == "long" {
				url, state = "/"+strings.Repeat("a", 300), ""
			}
			h, s := nginxFact(t, nginxVHosts[vhost], &state)
			v := Ask(h, s, "/home/alice/public_html", url)
			want := strings.TrimSuffix(strings.TrimSpace(cells[2]), " |")
			same(t, state, nginxTell(&v), want)
		})
	}
}

// nginxTell puts a verdict as the table does.
func nginxTell(v *Verdict) string {
	out := fmt.Sprint(v.Status)
	if v.App {
		out = "app"
	}
	if !v.Certain {
		out = ""
		for i, s := range v.Statuses {
			out += strings.Repeat("|", min(i, 1)) + fmt.Sprint(s)
		}
	}
	if v.Code != "" {
		out += " " + v.Code
	}
	if v.Culprit != "" {
		c := strings.NewReplacer("/home/alice/public_html", "D", "/home/bob/public_html", "B").Replace(v.Culprit)
		if c == "/home/alice" {
			c = "H"
		}
		out += " " + strings.TrimPrefix(c, "/")
	}
	if v.Need != 0 {
		out += " " + strings.Trim(rightful.PermString(v.Need), "-")
	}
	return out
}

// nginxFact builds a tree and the host of a server in it. A state may give the web server another group.
func nginxFact(t *testing.T, body string, state *string) (*NginxHost, *tree.Server) {
	t.Helper()
	web := rightful.Identity{UID: 33, GIDs: []uint32{33}}
	expand := strings.NewReplacer(" D/", " home/alice/public_html/", " D\n", " home/alice/public_html\n", " H\n", " home/alice\n", " H ", " home/alice ",
		" B/", " home/bob/public_html/", "\"D/", "\"home/alice/public_html/", "-D/", "-home/alice/public_html/")
	lines := strings.Split(strings.TrimSpace(nginxBase), "\n")
	where := func(line string) string {
		f := strings.Fields(line)
		return f[min(3, len(f)-1)]
	}
	for _, l := range strings.Split(*state, ";") {
		l = strings.TrimSpace(strings.TrimSuffix(expand.Replace(" "+strings.TrimSpace(l)+"\n"), "\n"))
		switch gone, remove := strings.CutPrefix(l, "-"); {
		case l == "":
		case l == "group 2001":
			web.GIDs = append(web.GIDs, 2001)
		case remove:
			lines = slices.DeleteFunc(lines, func(x string) bool { return where(x) == gone })
		default:
			if i := slices.IndexFunc(lines, func(x string) bool { return where(x) == where(l) }); i >= 0 {
				lines[i] = l
			} else {
				lines = append(lines, l)
			}
		}
	}
	dir := treetest.OpenDir(t)
	treetest.Build(t, dir, strings.Join(lines, "\n")+"\n")
	treetest.Build(t, dir, "d 0755 0:0 etc\nd 0755 0:0 etc/nginx\n"+
		fmt.Sprintf("f 0644 0:0 etc/nginx/nginx.conf = %q\n", "http { server { root /home/alice/public_html; index index.html index.php; "+body+" } }"))
	s, err := tree.OpenServer(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	c, err := ReadNginx(s, "/etc/nginx/nginx.conf")
	if err != nil || len(c.Problems) > 0 {
		t.Fatal(err, c.Problems)
	}
	alice := rightful.Identity{UID: 2001, GIDs: []uint32{2001}}
	h := NewNginxHost(NginxHostConfig{
		Server: s, Config: c, VHost: &c.Servers[0], Name: "a.example", DocRoot: "/home/alice/public_html", Web: web, PHP: alice,
		Pool: func(b string) (*Pool, rightful.Identity, bool) {
			return &Pool{Name: "alice", Listen: b}, alice, filepath.Dir(strings.TrimPrefix(b, "unix:")) == "/run"
		},
	})
	h.protected, h.live = yes, true
	return h, s
}
