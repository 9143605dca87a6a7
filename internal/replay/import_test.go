package replay

import (
	"strings"
	"testing"

	"rightful"
	"rightful/internal/hostbox"
)

// Policy knows that CGI scripts run. It does not know a customer's own helpers: those come back from last night's backup.
func TestABackupGivesBackWhatPolicyCannotKnow(t *testing.T) {
	panels(t, func(t *testing.T, s *server) {
		before := s.listing()
		home := strings.TrimSpace(s.sh("eval echo ~carol"))
		s.sh(`mkdir -p /root/backup/cpmove-carol/cp && echo DNS=carol.example >/root/backup/cpmove-carol/cp/carol
			cp -a "$1" /root/backup/cpmove-carol/homedir
			tar --acls --xattrs -C /root/backup -czf /root/backup/cpmove-carol.tar.gz cpmove-carol
			rm -r /root/backup/cpmove-carol`, home)
		s.breakIt("lost-exec-bits", "carol")
		s.rightful("fix", "carol", "--yes").exit(t, 0).run(t, rightful.RunDone)
		if len(hostbox.Differ(before, s.listing(), 1)) == 0 {
			t.Fatal("policy alone gave everything back: the test proves nothing")
		}

		a := s.rightful("snapshot", "import", "/root/backup/cpmove-carol.tar.gz", "--account", "carol").exit(t, 0)
		if a.summary["format"] != "tar" || a.summary["confidence"] != "exact" && a.summary["confidence"] != "owners and modes" {
			t.Errorf("the import is %v", a.summary)
		}
		id, _ := a.summary["snapshot"].(string)
		s.rightful("snapshot", "restore", id, "carol", "--yes").exit(t, 0).run(t, rightful.RunDone)
		s.same("after import and restore", before)
		s.healthy("after import and restore")
	})
}
