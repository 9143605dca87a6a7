package replay

import (
	"strconv"
	"strings"
	"testing"

	"rightful"
)

// PHP under mod_fcgid depends on its wrapper too, which suEXEC runs only if it and its directory are the account's and
// nobody else may write them. The repair cures what is broken there.
func TestPHPUnderModFcgidIsPredictedByItsWrapper(t *testing.T) {
	t.Parallel()
	s := start(t, "plain", 12)
	s.keep()
	s.workersFirst()
	for _, c := range []struct{ name, script, culprit string }{
		{"all is well", ":", ""},
		{"everything is open", "chmod -R 777 /home/kim", "/home/kim/fcgi-bin"},
		{"the wrapper may be written", "chmod g+w /home/kim/fcgi-bin/php-wrapper", "/home/kim/fcgi-bin/php-wrapper"},
		{"its directory may be", "chmod g+w /home/kim/fcgi-bin", "/home/kim/fcgi-bin"},
		{"the wrapper does not run", "chmod 0644 /home/kim/fcgi-bin/php-wrapper", "/home/kim/fcgi-bin/php-wrapper"},
		{"the wrapper is root's", "chown root:root /home/kim/fcgi-bin/php-wrapper", "/home/kim/fcgi-bin/php-wrapper"},
		{"the directory is closed", "chmod 0700 /home/kim/fcgi-bin", "/home/kim/fcgi-bin"},
		{"scripts may be written", "chmod 0666 /home/kim/public_html/index.php", ""},
		{"the document root is closed too", "chgrp kim /home/kim/public_html; chmod 0700 /home/kim/fcgi-bin", "/home/kim/public_html"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := s.with(t)
			defer s.putBack()
			s.sh(c.script)
			s.reload() // a PHP that runs already would go on
			check := s.rightful("check")
			s.holdAgainstRequests(check)
			v := check.sites["kim.example"]
			if v.Culprit != c.culprit || (v.State == rightful.SiteDown) != (c.culprit != "") {
				t.Errorf("predicted %+v, want culprit %q", v, c.culprit)
			}
			if c.culprit == "" {
				return
			}
			php, err := strconv.Atoi(strings.TrimSpace(s.sh("find /home/kim/public_html -name '*.php' | wc -l")))
			if err != nil || v.Blocked < php {
				t.Errorf("%d files blocked; there are %d scripts (%v)", v.Blocked, php, err)
			}
			if f := check.at(t, c.culprit); f.Effect != rightful.EffectDown {
				t.Errorf("%s: effect %q, want down", f.Path, f.Effect)
			}
			cured(t, s.rightful("fix", "--yes").exit(t, 0).run(t, rightful.RunDone), "kim.example")
			s.healthy("after the repair")
		})
	}
}
