package replay

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

// Where nginx stands before Apache and serves pictures and styles by itself, each entry is predicted by the rules of whoever
// serves it: nginx as the same user as Apache, or as another, who does not get into homes.
func TestASiteBehindNginxIsPredictedByWhoServesEachFile(t *testing.T) {
	t.Parallel()
	for _, user := range []string{"www-data", "nobody nogroup"} {
		t.Run(user, func(t *testing.T) {
			t.Parallel()
			holdFront(start(t, "plain", 1), user)
		})
	}
}

func holdFront(s *server, user string) {
	t := s.t
	s.sh(`mkdir -p /etc/nginx; cat > /etc/nginx/nginx.conf <<'EOF'
user ` + user + `;
pid /run/nginx-front.pid;
error_log /var/log/nginx-front.log;
events { }
http {
	access_log off;
	server {
		listen 8080;
		server_name alice.example;
		root /home/alice/public_html;
		location / { proxy_set_header Host $host; proxy_pass http://127.0.0.1:80; }
		location ~* \.(css|png|jpg|svg)$ { try_files $uri @apache; }
		location @apache { proxy_set_header Host $host; proxy_pass http://127.0.0.1:80; }
	}
}
EOF
cd /home/alice/public_html; echo x > front.css; echo x > front.html; echo '<?php echo 1;' > front.php; mkdir -p closed; echo x > closed/a.css; echo x > closed/a.html
chown -R alice:alice front.* closed; nginx`)
	s.keep()
	for _, trouble := range []string{
		":", "chmod 0600 front.css", "chgrp www-data front.css front.html; chmod 0640 front.css front.html", "chmod 0600 .htaccess", "chmod 0700 closed",
		"chgrp www-data .; chmod 0750 .", "chgrp www-data closed; chmod 0710 closed", "rm front.css; ln -s closed/a.css front.css; echo 'Options -FollowSymLinks -SymLinksIfOwnerMatch' > closed/.htaccess",
		"setfacl -m u:nobody:--- front.css; setfacl -m u:www-data:--- front.html",
	} {
		s.sh("cd /home/alice/public_html; " + trouble)
		said := s.rightful("predict", "alice.example")
		predicted := map[string]prophecy{}
		var urls []string
		for line := range strings.Lines(said.stdout) {
			var p prophecy
			if err := json.Unmarshal([]byte(line), &p); err != nil {
				t.Fatal(err)
			}
			if p.Kind == "url" && (strings.HasPrefix(p.URL, "/front") || strings.HasPrefix(p.URL, "/closed/") || p.URL == "/") {
				predicted[p.URL] = p
				urls = append(urls, p.URL)
			}
		}
		if len(urls) < 7 {
			t.Fatalf("%s: predicted are only %q: %s", trouble, urls, said.stderr)
		}
		codes := strings.Fields(s.sh(`for u; do curl --silent --output /dev/null --write-out '%{http_code}\n' --header 'Host: alice.example' "http://127.0.0.1:8080$u"; done`, urls...))
		for i, u := range urls {
			if p := predicted[u]; !p.Certain || strconv.Itoa(p.Status) != codes[i] {
				t.Errorf("%s: GET http://alice.example:8080%s: %s, predicted %+v", trouble, u, codes[i], p)
			}
		}
		s.putBack()
	}
	s.sh("nginx -s quit")
}
