package replay

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/hostbox"

	gocmp "github.com/google/go-cmp/cmp"
)

// The bad day on the servers of other panels: each has the accident that its own tools or guides are known for. What
// check says is what the web server answers, the repair cures every site and leaves the panel's layout as it was.
func TestThePanelsOwnAccidentsAreFoundAndRepaired(t *testing.T) {
	t.Parallel()
	accidents := map[string]struct {
		script string
		down   []string
		left   int // lines of the listing that stay otherwise than before: as right, by another of the panel's own choices
	}{
		// A script that knows nothing of secure_access_group.
		"directadmin": {
			`for u in alice bob; do chown -R $u:$u /home/$u/domains; done`,
			[]string{"alice.example", "blog.alice.example", "bob-shop.example", "bob.example"},
			0,
		},
		// chown -R, and the skeleton's chmod that takes search permission.
		"hestia": {
			`chown -R alice:alice /home/alice; chmod 0644 /home/bob/web/bob.example`,
			[]string{"alice.example", "blog.alice.example", "bob.example"},
			6,
		},
		// Somebody worked as root, and somebody hardened a home; the mailbox was given to the account.
		"virtualmin": {
			`chown -R root:root /home/alice/public_html; chmod 0700 /home/bob; chown -R carol:carol /home/carol/homes`,
			[]string{"alice.example", "bob-shop.example", "bob.example"},
			12,
		},
		// As guides say: chown -R USER:psacln on the document root.
		"plesk": {
			`chown -R alice:psacln /srv/vhosts/alice.example/httpdocs; chown -R bob:psacln /srv/vhosts/bob.example/bob-shop.example`,
			[]string{"alice.example", "bob-shop.example"},
			0,
		},
	}
	for _, panel := range hostbox.Shapes() {
		a, ok := accidents[panel]
		if !ok {
			t.Errorf("no accident for %q", panel)
		}
		t.Run(panel, func(t *testing.T) {
			s := start(t, panel, 4)
			s.healthy("before the accident")
			// Plesk's database is down here, which is an issue and no reason to stop.
			fine := 0
			if panel == "plesk" {
				fine = 1
			}
			before := s.listing()
			accounts := s.rightful("accounts").exit(t, fine)
			if n := strings.Count(accounts.stdout, `"panel":"`+panel+`"`); n != 4 {
				t.Errorf("%d accounts of %q, want 4:\n%s", n, panel, head(accounts.stdout, 8))
			}
			check := s.rightful("check").exit(t, fine)
			if len(check.findings) > 0 || len(check.sites) != len(s.Sites()) {
				t.Fatalf("on a healthy server check finds %q, and %d of %d sites", check.paths(), len(check.sites), len(s.Sites()))
			}

			s.sh(a.script)
			down := slices.Sorted(maps.Keys(s.bad()))
			if diff := gocmp.Diff(a.down, down); diff != "" {
				t.Errorf("sites that are down (-want +requests):\n%s", diff)
			}
			check = s.rightful("check").exit(t, 1)
			var predicted []string
			for _, name := range slices.Sorted(maps.Keys(check.sites)) {
				if check.sites[name].State == rightful.SiteDown {
					predicted = append(predicted, name)
				}
			}
			if diff := gocmp.Diff(down, predicted); diff != "" {
				t.Errorf("sites that are down (-requests +check):\n%s", diff)
			}

			args := []string{"fix", "--yes"}
			if panel == "virtualmin" { // root's private files are given to alice only by decision
				args = append(args, "--accept=root-owned:alice")
			}
			s.rightful(args...).exit(t, fine).run(t, rightful.RunDone)
			s.healthy("after the repair")
			if again := s.rightful("check").exit(t, fine); len(again.findings) > 0 {
				t.Errorf("after the repair check finds %q", again.paths())
			}
			if left := hostbox.Differ(before, s.listing(), 40); len(left) > a.left {
				t.Errorf("after the repair %d lines are otherwise than before the accident, want %d:\n%s", len(left), a.left, strings.Join(left, "\n"))
			}
			s.rightful("undo", "--yes").exit(t, 0)
			if now := slices.Sorted(maps.Keys(s.bad())); !slices.Equal(now, down) {
				t.Errorf("after undo %q are down, want %q", now, down)
			}
		})
	}
}
