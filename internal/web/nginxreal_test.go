package web

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"rightful"
	"rightful/internal/hostbox"
	"rightful/internal/tree"

	"github.com/google/go-cmp/cmp"
)

// What servers say of the same document root D. Each is a server of its own.
var nginxForms = map[string]string{
	"plain":        "",
	"autoindex":    "autoindex on;",
	"try404":       "location / { try_files $uri $uri/ =404; }",
	"trySlash":     "try_files $uri $uri/ =404;",
	"tryApp":       "location / { try_files $uri $uri/ /index.php?$args; } PHP",
	"tryNamed":     "location / { try_files $uri @app; } location @app { include fastcgi_params; fastcgi_param SCRIPT_FILENAME $document_root/index.php; fastcgi_pass SOCK; }",
	"tryMany":      "location / { try_files $uri $uri.html $uri/index.html /404.html; }",
	"tryDir":       "location / { try_files $uri /sub/; }",
	"tryFixed":     "location / { try_files /nosuch $uri /sub/ok.html; } location /sub/ { try_files /noidx/ /ok.html =404; }",
	"php":          "PHP",
	"phpTry":       `location ~ \.php$ { try_files $uri =404; include fastcgi_params; fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name; fastcgi_pass SOCK; }`,
	"phpReal":      `location ~ \.php$ { include fastcgi_params; fastcgi_param SCRIPT_FILENAME $realpath_root$fastcgi_script_name; fastcgi_pass SOCK; }`,
	"phpSplit":     `location ~ \.php(/|$) { fastcgi_split_path_info ^(.+?\.php)(/.*)$; try_files $fastcgi_script_name =404; include fastcgi_params; fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name; fastcgi_pass SOCK; }`,
	"phpDir":       "location /sub/ { fastcgi_index x.php; include fastcgi_params; fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name; fastcgi_pass SOCK; }",
	"phpIntercept": "error_page 403 404 /404.html; fastcgi_intercept_errors on; PHP",
	"phpBob":       `location ~ \.php$ { include fastcgi_params; fastcgi_param SCRIPT_FILENAME $request_filename; fastcgi_pass unix:/run/php/bob.sock; }`,
	"linksOff":     "disable_symlinks on;",
	"linksOwner":   "disable_symlinks if_not_owner; autoindex on;",
	"linksFrom":    "disable_symlinks on from=$document_root;",
	"linksOwnFrom": "disable_symlinks if_not_owner from=$document_root; location / { try_files $uri $uri/ =404; }",
	"linksTry":     "disable_symlinks on; location / { try_files $uri $uri/ =404; }",
	"ifNotFile":    "if (!-f $request_filename) { return 404; }",
	"ifApp":        "if (!-e $request_filename) { rewrite ^ /index.php last; } PHP",
	"ifLocation":   "location / { if (-d $request_filename) { return 302 /dir; } if (!-e $request_filename) { rewrite ^(.*)$ /index.php?q=$1 last; } } PHP",
	"ifRoot":       "location / { try_files $uri =404; if ($request_method = GET) { root D/sub; } }",
	"ifTwice":      "location / { if ($uri) { root D/noidx; } if ($uri ~ html$) { root D/sub; } if ($uri = /x) { return 500; } }",
	"ahead":        `location ~ /\.(?!well-known) { return 402; } location ~ ^/(?!sub/|x/)(.*)\.html$ { return 406; } location ~* /(?=OK)..\.pHp$ { return 409; } if ($uri ~ ^/no(?!idx)) { return 410; }`,
	"ifExec":       "if (-x $request_filename) { return 409; }",
	"page":         "error_page 404 /404.html; error_page 403 /ok.html;",
	"pageOver":     "error_page 404 =200 /404.html; error_page 403 =404 /404.html;",
	"pageApp":      "error_page 403 404 = @app; location @app { include fastcgi_params; fastcgi_param SCRIPT_FILENAME $document_root/index.php; fastcgi_pass SOCK; }",
	"pageAppKeep":  "error_page 403 404 /index.php; PHP",
	"pageURL":      "error_page 404 http://x.example/; error_page 403 =301 http://x.example/;",
	"pageTwice":    "error_page 404 /nosuch1.html; error_page 403 /nosuch2.html; recursive_error_pages on; location = /nosuch1.html { error_page 404 =410 /f0600.html; }",
	"pageInner":    "error_page 404 /404.html; location /sub/ { error_page 403 =418 /404.html; } location /noidx/ { autoindex on; }",
	"page301":      "error_page 301 =200 /404.html;",
	"pageLoop":     "error_page 404 /nosuch1.html; recursive_error_pages on;",
	"alias":        "location /st/ { alias D/sub/; } location /sx { alias D/sub/; }",
	"aliasBare":    "location /st { alias D/sub; } location /x/ { alias D/noidx/; autoindex on; }",
	"aliasRegex":   "location ~ ^/x/(.*)$ { alias D/sub/$1; } location ~ ^/st/(.+)$ { alias D/noidx/$1; try_files \"\" =404; }",
	"aliasTry":     "location /st/ { alias D/sub/; try_files $uri $uri/ /st/index.html; location /st/deep/ { } }",
	"aliasFile":    "location = /x/ok.html { alias D/ok.html; } location = /st { alias D/noidx/; }",
	"nested":       `location / { location /sub/ { location ~ \.html$ { return 402; } } location ^~ /noidx/ { } } location ~ \.txt$ { return 406; }`,
	"caret":        `location ^~ /sub/ { } location ~ \.html$ { return 402; } location ~* \.TXT$ { return 406; }`,
	"exact":        "location = / { return 204; } location = /sub/ok.html { return 200 x; } location /sub { return 403; }",
	"internal":     "location /sub/ { internal; } location / { try_files $uri /sub/ok.html; }",
	"auth":         "location /sub/ { auth_basic x; auth_basic_user_file /etc/nginx/nosuch; } location /noidx/ { satisfy any; allow 127.0.0.1; auth_basic x; auth_basic_user_file /etc/x; deny all; }",
	"deny":         "location /sub/ { deny all; } location /noidx/ { allow all; deny all; } location ~ /\\.ht { deny all; }",
	"satisfy":      "satisfy any; deny all; auth_basic x; auth_basic_user_file /etc/x; location /sub/ { auth_basic off; } location /noidx/ { allow all; }",
	"indexAbs":     "index nosuch.html /ok.html;",
	"indexDeep":    "index sub/index.html index.php; PHP",
	"indexVar":     "set $i index; index $i.html;",
	"map":          "root $mapped; set $base D;",
	"set":          "set $d /sub; root D$d; location /noidx/ { root D; }",
	"rewrite":      "rewrite ^/st/(.*)$ /sub/$1; rewrite ^/x/(.*)$ /sub/$1 last; rewrite ^/st$ http://x.example/ permanent; rewrite ^/x$ /ok.html redirect;",
	"rewriteIn":    "location /st { rewrite ^/st/(.*)$ /sub/$1 last; rewrite ^/st$ /ok.html break; } location /x/ { rewrite ^/x/(.*)$ /sub/$1 break; root D; } location /sub/ { rewrite ^/sub/x.php$ /nosuch.html; }",
	"rewriteLoop":  "location / { rewrite ^ /x last; } location /sub/ { rewrite ^/sub/(.*)$ /sub/$1 last; }",
	"rewriteAlias": "location /x/ { alias D/sub/; rewrite ^/x/(.*)$ /x/$1 break; }",
	"return":       "location /sub/ { return 301 /x; } location /noidx/ { return 444; } location = /ok.html { return http://x.example/; } location = /ok.php { return 404 text; }",
	"except":       "location /sub/ { limit_except POST { deny all; } } location /noidx/ { limit_except GET { deny all; } }",
	"gzip":         "gzip_static always;",
	"condition":    `if ($uri ~* "^/SUB/(.*)\.html$") { set $hit $1; } if ($hit = ok) { return 405; } if ($arg_x) { return 500; } if ($http_cookie ~ x) { return 500; } if ($args !~ x) { set $y 1; } if ($y != 1) { return 500; }`,
	"referer":      `location ~ \.html$ { valid_referers blocked a.example; if ($invalid_referer) { return 403; } } location ~ \.txt$ { valid_referers none a.example; if ($invalid_referer) { return 403; } }`,
}

var nginxURLs = strings.Fields(`/ /ok.html /f0600.html /nosuch.html /nosuch/ /sub /sub/ /sub/ok.html /sub/nosuch.html /noidx/ /noidx /noidx/a.txt /ok.php /index.php
	/sub/x.php /nosuch.php /ok.html/ /ok.html/extra /l-own.html /l-bob.html /l-root.html /l-dang.html /ld/ok.html /ld/ /ld /lb/b.html /loop.html /l-secret.html /fifo
	/sock /ok.php/extra /st/ok.html /st/ /st /sx/ok.html /x/ok.html /x/ /x /404.html /d.php /d.php/ /sp%20%25ace.html /u%C3%A4.html /.htaccess /f0600.php /st/deep/a /st/nosuch
	/lsub/ok.html /lsub/ /a%0A.html`)

// What is done to the tree, one after the other, each undone by building it anew. $H is the home, $D the document root.
var nginxStates = []string{
	":",
	"chmod 0700 $H", "chgrp www-data $H; chmod 0750 $H", "chmod 0744 $H", "chmod 0711 $D", "chmod 0750 $D", "chmod 0744 $D", "chmod 0 $D", "chown root:root $D; chmod 0700 $D",
	"chmod 0700 $D/sub", "chmod 0711 $D/sub $D/noidx", "chmod 0744 $D/sub $D/noidx", "chmod 0644 $D/sub $D/noidx", "chmod 0 $D/sub",
	"chmod 0600 $D/*k.html $D/index.html $D/sub/*.html", "rm $D/index.html", "rm $D/index.html $D/index.php", "rm $D/sub/index.html; mkdir $D/sub/index.html", "ln -sf nowhere $D/sub/index.html; ln -sf nowhere $D/index.html",
	"ln -sf ../ok.html $D/sub/index.html; ln -sf /etc/shadow $D/index.html", "chown bob:bob $D/*.php; chmod 0600 $D/*.php", "chmod 0640 $D/*.php; chgrp www-data $D/*.php", "rm $D/404.html", "chmod 0600 $D/404.html $D/index.php",
	"setfacl -m u:www-data:--- $D", "chmod 0700 $H; setfacl -m u:www-data:x,u:bob:x $H", "setfacl -m u:www-data:r $D/f0600.html; setfacl -m u:bob:rwx $D/sub", "chmod 0600 $D/f0600.html; setfacl -m u:www-data:r,m::- $D/f0600.html",
	"chmod 0777 $D; chown -R bob:bob $D/sub", "chmod 0750 $D; chgrp www-data $D; chgrp www-data $D/sub; chmod 0750 $D/sub", "chmod 0604 $D/ok.html; chgrp www-data $D/ok.html", "rm -r $D/sub; ln -s noidx $D/sub", "chmod 0755 $D/ok.html",
	"rm -r $D/sub; : > $D/sub", "rm $D/index.html; mkfifo $D/index.html", "chmod 1777 $D; ln -sfn ok.html $D/l-own.html",
}

const nginxTree = `
H=/home/alice D=$H/m B=/home/bob/m
rm -rf "$D" "$B"; setfacl -b $H; chown alice:alice $H; chmod 0711 $H /home/bob
mkdir -p $D/sub $D/noidx $D/d.php $B; cd $D
for f in ok f0600 index 404 sub/ok sub/index "sp %ace" "$(printf 'u\303\244')" "a
" target; do echo x > "$f.html"; done
for f in ok index f0600 sub/x; do echo '<?php echo "x";' > $f.php; done
echo x > noidx/a.txt; echo x > .htaccess; gzip < ok.html > ok.html.gz; cp ok.html.gz nosuch.html.gz; echo x > $B/b.html; echo x > $B/secret.html
ln -s target.html l-own.html; ln -s $B/b.html l-bob.html; ln -s target.html l-root.html; ln -s nowhere l-dang.html; ln -s sub ld; ln -s loop.html loop.html; ln -s $B/secret.html l-secret.html
ln -s $B lb; ln -s ./sub/../sub lsub; mkfifo fifo; perl -e 'use Socket; socket(S,PF_UNIX,SOCK_STREAM,0); bind(S,sockaddr_un("sock"))'
chown -R alice:alice $D; chown -h alice:alice $D/*; chown -h root:root l-root.html; chown -R bob:bob $B; chmod 0600 f0600.html f0600.php $B/secret.html; chmod 0644 fifo sock; chmod 0755 . sub noidx
`

// nginxFormsConf gives each form a server that is named after it.
func nginxFormsConf(names []string) string {
	var conf strings.Builder
	conf.WriteString("map $base $mapped { default /nowhere; ~^(/home/alice/)m $1m; }\n")
	const php = `location ~ \.php$ { include fastcgi_params; fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name; fastcgi_pass SOCK; }`
	for _, n := range names {
		body := strings.Replace(nginxForms[n], "PHP", php, 1)
		body = strings.NewReplacer("SOCK", "unix:/run/php/alice.sock", "D/", "/home/alice/m/", "D;", "/home/alice/m;", "D$", "/home/alice/m$").Replace(body)
		if !strings.HasPrefix(body, "root ") && !strings.Contains(body, "; root /home/alice/m$d") {
			body = "root /home/alice/m; " + body
		}
		fmt.Fprintf(&conf, "server { listen 80; server_name %s.test; %s }\n", strings.ToLower(n), body)
	}
	return conf.String()
}

func TestNginxItselfAnswersAsPredicted(t *testing.T) {
	b := hostbox.StartFor(t, hostbox.Spec{Panel: "nginx", Accounts: 2})
	sh := func(script string) {
		t.Helper()
		if _, err := b.Run(t.Context(), script); err != nil {
			t.Fatal(err)
		}
	}
	names := slices.Sorted(maps.Keys(nginxForms))
	sh("cat > /etc/nginx/sites-enabled/zz-forms <<'EOF'\n" + nginxFormsConf(names) + "EOF\nnginx -t -q\nsed -i '$ a opcache.enable=0\\nrealpath_cache_size=0' /etc/php/*/fpm/php.ini")
	if err := b.ReloadWeb(t.Context()); err != nil {
		t.Fatal(err)
	}
	server, err := tree.OpenServer(b.PathInHost("/"))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	c, err := ReadNginx(server, "/etc/nginx/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]rightful.Identity{}
	for _, a := range b.Accounts() {
		ids[a.Name] = rightful.Identity{UID: a.UID, GIDs: []uint32{a.GID}}
	}
	// Every form meets every state, with some of the paths; with SOAKTIME, with all of them.
	every := 40
	if os.Getenv("SOAKTIME") != "" {
		every = 1
	}
	asked, unsure, wrong := 0, map[string]int{}, 0
	for k, state := range nginxStates {
		sh(nginxTree + state)
		for f, n := range names {
			var urls []string
			for i, u := range nginxURLs {
				if (i+5*f+7*k)%every == 0 {
					urls = append(urls, u)
				}
			}
			v, why := c.Choose("", "80", strings.ToLower(n)+".test")
			if v == nil || !slices.Contains(v.Names, strings.ToLower(n)+".test") {
				t.Fatalf("%s: %v %s", n, v, why)
			}
			h := NewNginxHost(NginxHostConfig{
				Server: server, Config: c, VHost: v, Name: v.Names[0], DocRoot: "/home/alice/m", Web: rightful.Identity{UID: 33, GIDs: []uint32{33}}, PHP: ids["alice"],
				Pool: func(b string) (*Pool, rightful.Identity, bool) {
					name := strings.TrimSuffix(strings.TrimPrefix(b, "unix:/run/php/"), ".sock")
					id, ok := ids[name]
					return &Pool{Name: name, Listen: b}, id, ok
				},
			})
			h.live, h.protected = true, no
			codes := make([]int, len(urls))
			var wg sync.WaitGroup
			slots := make(chan struct{}, 8)
			for i, u := range urls {
				slots <- struct{}{}
				wg.Go(func() {
					defer func() { <-slots }()
					codes[i], _, _ = b.Get(t.Context(), v.Names[0], u)
				})
			}
			wg.Wait()
			for i, u := range urls {
				decoded, _ := url.PathUnescape(u)
				got := Ask(h, server, "/home/alice/m", decoded)
				asked++
				// The walk, which meets entries one by one, must come to the same.
				if v, ok := walked(h, server, "/home/alice/m", decoded); ok {
					if d := cmp.Diff(got, v); d != "" {
						t.Errorf("%s: %s %s: asked and walked differ (-asked +walked):\n%s", state, n, u, d)
					}
				}
				if got.Status == 444 {
					got.Status = 0
				}
				switch {
				case !got.Certain && got.Statuses == nil:
					unsure[n+": "+got.Why]++
				case !got.Certain && slices.Contains(got.Statuses, codes[i]):
					unsure[n+": "+got.Why]++
				case got.Status != codes[i]:
					wrong++
					if wrong < 60 {
						t.Errorf("%s: GET http://%s%s: %d, predicted %d %v %s (%s: %s)", state, v.Names[0], u, codes[i], got.Status, got.Cause, got.Code, got.Culprit, got.Why)
					}
				}
			}
		}
	}
	n := 0
	for why, k := range unsure {
		n += k
		t.Logf("unsure %d times: %s", k, why)
	}
	t.Logf("%d requests, %d wrong, %d unsure", asked, wrong, n)
}

// walked asks for a path as a walk does that meets it below a document root; ok is false for what no walk meets.
func walked(h Host, s *tree.Server, dir, url string) (v Verdict, ok bool) {
	in := ViewOf(s, dir)
	scope := h.Root(in)
	names := strings.Split(strings.TrimPrefix(url, "/"), "/")
	for _, name := range names[:len(names)-1] {
		n, _ := in.Lstat(name)
		if n.Kind != rightful.KindDir {
			return v, false
		}
		dir += "/" + name
		in = ViewOf(s, dir)
		scope = scope.Dir(name, n.Meta, in)
	}
	name := names[len(names)-1]
	if name == "" {
		return scope.Index(in), true
	}
	n, _ := in.Lstat(name)
	return scope.File([]byte(name), n, in), n.Kind != rightful.KindDir && n.Kind != rightful.KindUnknown
}
