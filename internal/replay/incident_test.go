package replay

import (
	"maps"
	"slices"
	"testing"

	"rightful"

	"github.com/google/go-cmp/cmp"
)

// The bad day: an ownership script takes the web server's group off every document root. Nobody visits a site before
// check names them all.
func TestTheIncidentIsFoundRepairedTakenBackAndRepairedAgain(t *testing.T) {
	panels(t, func(t *testing.T, s *server) {
		s.healthy("before the accident")
		before := s.listing()
		s.breakIt("chown-public-htmls")
		broken := s.listing()

		check := s.rightful("check").exit(t, 1)
		down := s.bad()
		predicted := map[string]int{}
		for _, v := range check.sites {
			if v.State != rightful.SiteOK {
				predicted[v.Site] = v.Status
			}
		}
		if diff := cmp.Diff(down, predicted); diff != "" || len(down) < 17 {
			t.Errorf("%d sites are down; by requests against by check (-requests +check):\n%s", len(down), diff)
		}
		harmed := map[string]bool{}
		for _, f := range check.findings {
			for _, site := range f.Sites {
				if f.Effect == rightful.EffectDown {
					harmed[site] = true
				}
			}
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(down)), slices.Sorted(maps.Keys(harmed))); diff != "" {
			t.Errorf("sites that are down, against those that findings name (-requests +findings):\n%s", diff)
		}

		fix := s.rightful("fix", "--canary", "carol", "--yes").exit(t, 0).run(t, rightful.RunDone)
		if len(fix.Stages) < 2 || !slices.Equal(fix.Stages[0].Accounts, []string{"carol"}) || !slices.Contains(fix.Stages[0].Cured, "carol.example") {
			t.Errorf("stages %+v; want carol alone first, and cured", fix.Stages)
		}
		var cured []string
		for _, st := range fix.Stages {
			cured = append(cured, st.Cured...)
			if len(st.Unverified)+len(st.Worse) > 0 {
				t.Errorf("stage %d: unverified %q, worse %q", st.Stage, st.Unverified, st.Worse)
			}
		}
		slices.Sort(cured)
		if diff := cmp.Diff(slices.Sorted(maps.Keys(down)), cured); diff != "" {
			t.Errorf("sites that the run says it cured (-down +cured):\n%s", diff)
		}
		s.healthy("after the repair")
		if again := s.rightful("check").exit(t, 0); len(again.findings) > 0 {
			t.Errorf("after the repair check finds %q", again.paths())
		}
		s.same("after break and fix, against before the accident,", before)
		fixed := s.listing()

		undo := s.rightful("undo", "--yes").exit(t, 0).run(t, rightful.RunDone)
		if undo.Undoes != fix.ID {
			t.Errorf("undo took back %q, want %q", undo.Undoes, fix.ID)
		}
		if diff := cmp.Diff(down, s.bad()); diff != "" {
			t.Errorf("sites after undo (-after the accident +after undo):\n%s", diff)
		}
		s.same("after undo", broken)

		s.rightful("undo", undo.ID, "--yes").exit(t, 0).run(t, rightful.RunDone)
		s.healthy("after the undo of the undo")
		s.same("after the undo of the undo", fixed)
	})
}
