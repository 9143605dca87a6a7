package replay

import (
	"encoding/json"
	"strings"
	"testing"
)

// A URL is explained by the server block that really answers for it: one that only leads to TLS, the default one, the
// site's own; whether or not there is anything at the path.
func TestAURLUnderNginxIsExplainedByTheServerThatAnswers(t *testing.T) {
	t.Parallel()
	s := start(t, "nginx", 10)
	s.sh("chmod 0600 /home/judy/public_html/robots.txt; chmod 0700 /home/erin; cp /home/judy/public_html/index.php /tmp/x; rm -f /home/ivan/public_html/index.php")
	asked := 0
	for _, host := range []string{"alice.example", "www.alice.example", "heidi.example", "judy.example", "erin.example", "ivan.example", "nobody.example", "blog.alice.example"} {
		for _, path := range []string{"/", "/index.php", "/robots.txt", "/nosuch", "/nosuch/", "/nosuch.php", "/wp/pretty/url", "/cgi-bin/x", "/.htaccess"} {
			code, _, err := s.Get(t.Context(), host, path)
			if err != nil {
				t.Fatal(err)
			}
			said := s.rightful("explain", "http://"+host+path)
			for line := range strings.Lines(said.stdout) {
				var p prophecy
				if err := json.Unmarshal([]byte(line), &p); err != nil {
					t.Fatal(err)
				}
				if p.Kind != "url" {
					continue
				}
				asked++
				if !p.Certain || p.Status != code {
					t.Errorf("GET http://%s%s: %d, explained as %+v", host, path, code, p)
				}
			}
		}
	}
	if asked != 8*9 {
		t.Errorf("%d URLs were explained", asked)
	}
}
