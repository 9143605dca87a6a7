package replay

import (
	"slices"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/hostbox"
)

// servers runs a test on Apache and on nginx, with sites that are reached in every way.
func servers(t *testing.T, f func(*testing.T, *server)) {
	t.Parallel()
	for _, panel := range []string{"plain", "nginx"} {
		t.Run(panel, func(t *testing.T) {
			t.Parallel()
			f(t, start(t, panel, 0))
		})
	}
}

// cured demands that a run's first stage cured a site, by the word of the web server.
func cured(t *testing.T, run rightful.Run, site string) {
	t.Helper()
	st := run.Stages[0]
	if !slices.Contains(st.Cured, site) || slices.Contains(st.Unverified, site) || len(st.Worse)+len(st.TakenBack) > 0 {
		t.Errorf("canary stage %+v; want %s cured and verified", st, site)
	}
}

// However visitors reach a site, its cure is proved by asking it in just that way: at every address where it listens, by
// its name in TLS, past a redirect to TLS, and with PHP run by mod_fcgid.
func TestSitesAreVerifiedInEveryWayThatVisitorsReachThem(t *testing.T) {
	servers(t, func(t *testing.T, s *server) {
		for _, c := range []struct{ account, site, log string }{
			{"bob", "bob.example", "bob.example"},       // an address of its own
			{"bob", "bob.example", "album.bob.example"}, // two addresses
			{"heidi", "heidi.example", "heidi.example"}, // http leads to https
			{"kim", "kim.example", "kim.example"},       // mod_fcgid, or a pool under nginx
			{"carol", "carol.example", "carol.example"}, // http and https
		} {
			s.breakIt("strip-group", c.account)
			dir := map[string]string{"plain": "apache2", "nginx": "nginx"}[s.Panel]
			log := "/var/log/" + dir + "/" + c.log + "-access.log"
			s.sh(`: >"$1"`, log)
			run := s.rightful("fix", "--canary", c.account, "--yes").exit(t, 0).run(t, rightful.RunDone)
			cured(t, run, c.site)
			s.healthy("with " + c.account + " repaired")
			asked := s.sh(`cat "$1"`, log)
			if asked == "" {
				t.Errorf("%s was not asked", c.log)
			}
			if ua := `"rightful/`; s.Panel == "nginx" && strings.Count(asked, ua) < strings.Count(asked, "\n")/2 {
				t.Errorf("requests do not say whose they are:\n%s", head(asked, 5))
			}
		}
	})
}

// A site that listens at two addresses is asked at both: cured at one alone, it is not passed for cured.
func TestEveryAddressOfASiteIsAsked(t *testing.T) {
	t.Parallel()
	s := start(t, "plain", 2)
	// Whoever asks the second address meets another virtual host of the same name, which something else keeps closed.
	s.sh(`f=/etc/apache2/sites-available/album.bob.example.conf
		sed 's/<VirtualHost .*>/<VirtualHost 192.0.2.20:80>/; s|</VirtualHost>|<Location />\nRequire all denied\n</Location>\n</VirtualHost>|' "$f" >"$f.2"
		sed -i 's/<VirtualHost .*>/<VirtualHost *:80>/' "$f"
		cat "$f.2" >>"$f"`)
	s.reload()
	s.breakIt("strip-group", "bob")
	log := "/var/log/apache2/album.bob.example-access.log"
	s.sh(`: >"$1"`, log)
	run := s.rightful("fix", "--canary", "bob", "--yes", "--settle", "0").exit(t, 0).run(t, rightful.RunDone)
	cured(t, run, "album.bob.example")
	asked := s.sh(`cat "$1"`, log)
	if !strings.Contains(asked, `" 200 `) || !strings.Contains(asked, `" 403 `) {
		t.Fatalf("requests to album.bob.example:\n%s", asked)
	}
	after := asked[strings.Index(asked, `" 200 `):]
	if !strings.Contains(after, `" 403 `) {
		t.Errorf("after the repair the second address was not asked:\n%s", asked)
	}
}

// An application in maintenance answers 503 and says that it will be back. That it answers at all shows nothing worse
// than a refused page, and where it did so before, it proves nothing.
func TestASiteInMaintenanceIsNeitherWorseNorProof(t *testing.T) {
	servers(t, func(t *testing.T, s *server) {
		if err := hostbox.Maintenance(t.Context(), s.Box, "carol", true); err != nil {
			t.Fatal(err)
		}
		s.breakIt("strip-group", "carol")
		if bad := s.bad(); bad["carol.example"] != 403 {
			t.Fatalf("before the repair: %v", bad)
		}
		run := s.rightful("fix", "--canary", "carol", "--yes").exit(t, 0).run(t, rightful.RunDone)
		cured(t, run, "carol.example") // its static files answer
		if bad := s.bad(); len(bad) != 1 || bad["carol.example"] != 503 {
			t.Errorf("after the repair: %v, want carol.example in maintenance alone", bad)
		}
		// Now 503 is what was before: a repair that visitors would not notice is unverified, and stays.
		s.sh("chmod 0666 /home/carol/public_html/info.php")
		run = s.rightful("fix", "--yes").exit(t, 0).run(t, rightful.RunDone)
		st := run.Stages[0]
		if !slices.Equal(st.Unverified, []string{"carol.example"}) || len(st.Worse)+len(st.TakenBack)+len(st.Uncured) > 0 || st.Changed != 1 {
			t.Errorf("stage %+v; want carol.example unverified and nothing else", st)
		}
	})
}

// nginx remembers what it could not open for a while: a canary that is repaired is given that while, and no more.
func TestACanaryIsGivenTimeForCachesToForget(t *testing.T) {
	t.Parallel()
	s := start(t, "nginx", 2)
	s.sh(`sed -i 's/^http {/http {\n\topen_file_cache max=1000 inactive=300s;\n\topen_file_cache_errors on;\n\topen_file_cache_valid 300s;/; s/^worker_processes.*/worker_processes 1;/' /etc/nginx/nginx.conf`)
	s.reload()
	s.breakIt("strip-group", "bob")
	if bad := s.bad(); bad["bob.example"] != 403 {
		t.Fatalf("before the repair: %v", bad)
	}
	broken := s.listing()
	run := s.takenBack(s.rightful("fix", "--canary", "bob", "--yes", "--settle", "1"), broken)
	if !strings.Contains(run.Reason, "not cured") {
		t.Errorf("reason %q", run.Reason)
	}
	s.sh(`sed -i 's/valid 300s/valid 3s/' /etc/nginx/nginx.conf`)
	s.reload()
	s.bad() // the cache fills with what cannot be opened
	run = s.rightful("fix", "--canary", "bob", "--yes").exit(t, 0).run(t, rightful.RunDone)
	cured(t, run, "bob.example")
	eventually(t, "every site answers", func() bool { return len(s.bad()) == 0 })
}

// Where nginx lets an application answer for what it cannot open, visitors were served all along: that proves nothing of
// a cure, so it is judged by prediction, and the canary is kept.
func TestAFrontPageThatAnApplicationAnsweredAnywayProvesNoCure(t *testing.T) {
	t.Parallel()
	s := start(t, "nginx", 12)
	s.breakIt("homes-to-0700", "judy")
	if bad := s.bad(); bad["judy.example"] != 0 {
		t.Fatalf("judy's front page answers %d", bad["judy.example"])
	}
	check := s.rightful("check").exit(t, 1)
	if v := check.sites["judy.example"]; v.State != rightful.SiteBroken || v.Status != 200 || v.Blocked == 0 {
		t.Errorf("predicted %+v; want broken behind a front page that answers", v)
	}
	is(t, check.at(t, "/home/judy"), "too-closed", rightful.EffectDown, "judy.example", "judy-cakes.judy.example")
	run := s.rightful("fix", "--canary", "judy", "--yes").exit(t, 0).run(t, rightful.RunDone)
	st := run.Stages[0]
	if !slices.Contains(st.Unverified, "judy.example") || !slices.Contains(st.Cured, "judy.example") || !slices.Contains(st.Cured, "judy-cakes.judy.example") {
		t.Errorf("canary stage %+v; want judy.example cured by prediction and marked unverified", st)
	}
	s.healthy("with judy's home open again")
}

// What nginx never reads harms no site, and a closed directory does not take down a site whose front page an application
// answers all the same.
func TestFindingsUnderNginxClaimNoMoreHarmThanThereIs(t *testing.T) {
	t.Parallel()
	s := start(t, "nginx", 12)
	s.sh(`chown bob:bob /home/alice/public_html/.htaccess; chmod 0600 /home/alice/public_html/.htaccess
		rm -r /home/judy/public_html/judy-cakes.example; chmod 0700 /home/judy`)
	check := s.rightful("check").exit(t, 1)
	s.holdNginx(check, "alice")
	is(t, check.at(t, "/home/alice/public_html/.htaccess"), "foreign-owner", rightful.EffectExposed)
	is(t, check.at(t, "/home/judy"), "too-closed", rightful.EffectBroken, "judy.example")
	is(t, check.at(t, "/home/judy/public_html/judy-cakes.example"), "docroot-missing", rightful.EffectDown, "judy-cakes.judy.example")
}

// Of two servers that are installed and want one address, the one that runs counts; and who it is, its running worker says.
func TestTheServerThatRunsCounts(t *testing.T) {
	servers(t, func(t *testing.T, s *server) {
		other, conf, want := "/etc/nginx/nginx.conf", `user nobody;
events {
}
http {
	server {
		listen 80;
		server_name other.example;
		root /home/alice/public_html;
	}
}
`, "nginx does not run"
		if s.Panel == "nginx" {
			other, want = "/etc/apache2/apache2.conf", "Apache does not run"
			conf = "User nobody\nGroup nogroup\nListen 80\n<VirtualHost *:80>\nServerName other.example\nDocumentRoot /home/alice/public_html\n</VirtualHost>\n"
		}
		s.sh(`mkdir -p "${1%/*}"; printf %s "$2" >"$1"
			sed -i 's/^bob:.*/&www-data/' /etc/group`, other, conf)
		site := func() string {
			accounts := s.rightful("accounts", "alice").exit(t, 0)
			accounts.says(t, want)
			return head(accounts.stdout, 1)
		}
		server := map[string]string{"plain": "apache", "nginx": "nginx"}[s.Panel]
		if got := site(); strings.Contains(got, "other.example") || !strings.Contains(got, `"server":"`+server+`","web":{"uid":33,"gids":[33]}`) {
			t.Errorf("with a worker that was started before its new group: %s", got)
		}
		s.reload()
		if got := site(); !strings.Contains(got, `"web":{"uid":33,"gids":[33,20002]}`) {
			t.Errorf("with a new worker: %s", got)
		}
	})
}
