package replay

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// nginxSites are the ways in which the sites of the test below look for the same files. D is the document root; PHP hands a
// script to alice's pool, APP whatever is asked for to index.php.
var nginxSites = map[string]string{
	"plain":      "",
	"autoindex":  "autoindex on;",
	"try404":     "location / { try_files $uri $uri/ =404; }",
	"tryapp":     `location / { try_files $uri $uri/ /index.php?$args; } location ~ \.php$ { PHP }`,
	"trynamed":   "location / { try_files $uri @app; } location @app { APP }",
	"trymany":    "location / { try_files $uri $uri/index.html /404.html; }",
	"php":        `location ~ \.php$ { PHP }`,
	"phptry":     `location ~ \.php$ { try_files $uri =404; PHP }`,
	"phpsplit":   `location ~ \.php(/|$) { fastcgi_split_path_info ^(.+?\.php)(/.*)$; PHP }`,
	"links":      "disable_symlinks on;",
	"linksfrom":  "disable_symlinks on from=$document_root;",
	"linksowner": "disable_symlinks if_not_owner; location / { try_files $uri $uri/ =404; }",
	"ifapp":      `if (!-e $request_filename) { rewrite ^ /index.php last; } location ~ \.php$ { PHP }`,
	"iffile":     "if (!-f $request_filename) { return 404; }",
	"page":       "error_page 404 /404.html; error_page 403 =404 /404.html;",
	"pageapp":    "error_page 403 404 = @app; location @app { APP }",
	"pagetwice":  "recursive_error_pages on; error_page 403 /nosuch; error_page 404 =410 /404.html;",
	"alias":      "location /sub/ { alias D/noidx/; } location /noidx/ { alias D/sub/; autoindex on; }",
	"aliasregex": "location ~ ^/sub/(.*)$ { alias D/noidx/$1; }",
	"nested":     `location / { location /sub/ { location ~ \.html$ { return 402; } } } location ~ \.txt$ { deny all; }`,
	"caret":      `location ^~ /sub/ { } location ~ \.html$ { internal; }`,
	"auth":       "location /sub/ { auth_basic x; auth_basic_user_file /etc/hostname; } location /noidx/ { satisfy any; allow all; auth_basic x; }",
	"map":        "location / { try_files $picked =404; }",
	"rewrite":    "rewrite ^/sub/(.*)$ /noidx/$1; location /noidx/ { rewrite ^(.*)/a.txt$ /ok.html break; }",
	"indexes":    "index nosuch sub/index.html /ok.html;",
}

// What is done to each document root in turn: D is the document root, H the home that holds it.
var nginxTroubles = []string{
	":", "chmod 0700 H", "chmod 0750 H; chgrp www-data H", "chmod 0711 D", "chmod 0744 D", "chmod 0700 D/sub", "chmod 0644 D/sub D/noidx",
	"chmod 0600 D/ok.html D/index.html D/404.html D/*.php", "rm D/index.html; chmod 0600 D/sub/index.html", "chown bob D/*.php; chmod 0600 D/*.php", "setfacl -m u:www-data:--- D/sub D/ok.html",
	"chmod 0700 D; setfacl -m u:www-data:x D", "rm D/404.html D/index.php", "chmod 0700 B",
}

const nginxSiteTree = `
H=/home/alice/forms; B=/home/bob/theirs; rm -rf $H $B; mkdir -p $H $B; chmod 0711 /home/alice /home/bob
echo x > $B/b.html; echo x > $B/secret.html; chmod 0600 $B/secret.html; chown -R bob:bob $B
T=/tmp/form; rm -rf $T; mkdir -p $T/sub $T/noidx $T/d.php; cd $T
for f in ok f0600 index 404 sub/ok sub/index 'sp %ace'; do echo x > "$f.html"; done
for f in ok index f0600 sub/x; do echo '<?php echo "x";' > $f.php; done
echo x > noidx/a.txt; echo x > .htaccess
ln -s ok.html own.html; ln -s $B/b.html bobs.html; ln -s $B/secret.html secret.html; ln -s ok.html roots.html; ln -s nowhere none.html; ln -s sub linked; ln -s $B theirs; ln -s loop loop
mkfifo fifo
chown -R alice:alice .; chown -h alice:alice *; chown -h root:root roots.html; chmod 0600 f0600.*
for form; do mkdir $H/$form; cp -a $T $H/$form/www; done; chown alice:alice $H $H/*
`

// What rightful predicts for every entry below a document root is what nginx answers, whatever is done to the tree and however
// nginx is told to look for files.
func TestPredictionsUnderNginxAreWhatNginxAnswers(t *testing.T) {
	t.Parallel()
	s := start(t, "nginx", 2)
	names := slices.Sorted(maps.Keys(nginxSites))
	var conf strings.Builder
	conf.WriteString("map $uri $picked { default $uri; ~^/sub/(.*) /noidx/$1; /ok.html /sub/ok.html; }\n")
	const script = "include fastcgi_params; fastcgi_pass unix:/run/php/alice.sock; fastcgi_param SCRIPT_FILENAME $document_root"
	for _, n := range names {
		root := "/home/alice/forms/" + n + "/www"
		body := strings.NewReplacer("PHP", script+"$fastcgi_script_name;", "APP", script+"/index.php;", "D/", root+"/").Replace(nginxSites[n])
		fmt.Fprintf(&conf, "server { listen 80; server_name %s.forms.example; root %s; index index.php index.html; %s }\n", n, root, body)
	}
	s.sh("cat > /etc/nginx/sites-enabled/forms <<'EOF'\n" + conf.String() + "EOF\n" +
		"sed -i '$ a opcache.enable=0\\nrealpath_cache_size=0' /etc/php/*/fpm/php.ini") // which would remember the trees before
	if err := s.ReloadWeb(t.Context()); err != nil {
		t.Fatal(err)
	}
	asked, certain := 0, 0
	for _, trouble := range nginxTroubles {
		s.sh(nginxSiteTree, names...)
		s.sh(`for form; do `+strings.NewReplacer("D", "/home/alice/forms/$form/www", "H", "/home/alice/forms/$form", "B", "/home/bob/theirs").Replace(trouble)+`; done`, names...)
		said := s.rightful("predict", "alice")
		urls := map[string]map[string]prophecy{}
		for line := range strings.Lines(said.stdout) {
			var p prophecy
			if err := json.Unmarshal([]byte(line), &p); err != nil {
				t.Fatal(err)
			}
			if form, ok := strings.CutSuffix(p.Site, ".forms.example"); ok && p.Kind == "url" {
				if urls[form] == nil {
					urls[form] = map[string]prophecy{}
				}
				urls[form][p.URL] = p
			}
		}
		for _, n := range names {
			if len(urls[n]) < 20 {
				t.Fatalf("%s: of %s only %d URLs are predicted: %s", trouble, n, len(urls[n]), said.stderr)
			}
			for u, code := range s.statuses(n+".forms.example", slices.Sorted(maps.Keys(urls[n]))) {
				asked++
				p := urls[n][u]
				if p.Certain {
					certain++
				}
				if p.Certain && p.Status != code || !p.Certain && len(p.Statuses) > 0 && !slices.Contains(p.Statuses, code) {
					t.Errorf("%s: GET http://%s.forms.example%s: %d, predicted %+v", trouble, n, u, code, p)
				}
			}
		}
	}
	if asked < 8000 || certain*100 < asked*98 {
		t.Errorf("%d of %d predictions are certain", certain, asked)
	}
}

// A prophecy is what predict says of one URL.
type prophecy struct {
	Kind, Site, URL, Code, Culprit, Why string
	Status                              int
	Statuses                            []int
	Certain                             bool
}
