package replay

import (
	"strings"
	"testing"

	"rightful"
)

// The bad day with guard in front of the script: every site answers, and nothing is left to repair.
func TestAGuardedScriptLeavesNothingToRepair(t *testing.T) {
	panels(t, func(t *testing.T, s *server) {
		before := s.listing()
		s.breakIt("chown-public-htmls")
		sites := len(s.bad())
		s.rightful("fix", "--yes").exit(t, 0)
		s.same("after the script and a repair, against before,", before)

		guard := s.text(s.Command(t.Context(), "rightful", "guard", "--", "/root/fix-ownership"))
		guard.exit(t, 4)
		guard.says(t, "the command ended with 0", "is worse, by prediction and request: ", "taken back: ", " 0 skipped, 0 failed")
		s.healthy("after the guarded script")
		s.same("after the guarded script", before)
		if found := s.rightful("check").exit(t, 0); len(found.findings) > 0 {
			t.Errorf("check finds %q", found.paths())
		}

		// The same from behind a wrapper, as cron or a colleague would run it.
		s.text(s.Command(t.Context(), "rightful", "guard", "--install", "/root/fix-ownership")).exit(t, 0)
		out := s.text(s.Command(t.Context(), "/root/fix-ownership"))
		out.exit(t, 4)
		s.healthy("after the wrapped script")
		s.same("after the wrapped script", before)
		s.text(s.Command(t.Context(), "rightful", "guard", "--remove", "/root/fix-ownership")).exit(t, 0)
		s.breakIt("chown-public-htmls")
		if got := len(s.bad()); got != sites {
			t.Errorf("without the wrapper the script breaks %d sites, want %d", got, sites)
		}
	})
}

// chown -R with the wrong name destroys every evidence of whose a file was: only a record knows.
func TestGuardAndASnapshotKnowWhoseFilesWereWhereNothingElseDoes(t *testing.T) {
	panels(t, func(t *testing.T, s *server) {
		before := s.listing()
		s.text(s.Command(t.Context(), "rightful", "snapshot", "take")).exit(t, 0)
		s.breakIt("chown-all-to", "alice", "bob")
		if len(s.bad()) == 0 {
			t.Fatal("the accident harmed no site")
		}
		run := s.rightful("snapshot", "restore", "latest", "--yes").exit(t, 0).run(t, rightful.RunDone)
		s.healthy("after the restore")
		s.same("after the restore", before)
		s.rightful("undo", run.ID, "--yes").exit(t, 0)
		if len(s.bad()) == 0 {
			t.Error("the restore was undone, and every site answers")
		}
		s.rightful("snapshot", "restore", "latest", "--yes").exit(t, 0)

		guard := s.text(s.Command(t.Context(), "rightful", "guard", "--accounts", "alice,bob", "--undo-on=changed", "--", "chown", "-R", "bob:bob", "/home/alice"))
		guard.exit(t, 4)
		s.healthy("after a guarded chown")
		s.same("after a guarded chown", before)
	})
}

// Guard costs a command that touches nothing two walks, and nobody a request that fails.
func TestAGuardedCommandKeepsItsOutputAndItsCode(t *testing.T) {
	panels(t, func(t *testing.T, s *server) {
		got := s.text(s.Command(t.Context(), "rightful", "guard", "--", "sh", "-c", "echo out; echo said >&2; exit 9"))
		got.exit(t, 9)
		if got.stdout != "out\n" || !strings.HasPrefix(got.stderr, "said\n") {
			t.Errorf("printed %q and said %q", got.stdout, got.stderr)
		}
		got.says(t, "guard: the command ended with 9; 0 entries changed in 0 accounts")
	})
}
