package replay

import (
	"errors"
	"strings"
	"testing"

	"rightful/internal/hostbox"

	gocmp "github.com/google/go-cmp/cmp"
)

// deleteHome does what the customer of the story did.
func (s *server) deleteHome(account string) {
	s.t.Helper()
	s.sh(`rm -rf ~` + account + `/* ~` + account + `/.[!.]*`)
}

// others lists everything of every account but one, and of the panel's and the system's files that rescue reads.
func (s *server) others(account string) string {
	s.t.Helper()
	return s.sh(`cd / && find home etc var/cpanel var/spool/cron -xdev -path home/` + account + ` -prune -o -path 'home/.rightful-rescue-*' -prune -o \
		-printf '%p %y %U:%G %m %s %l\n' | grep -v '^home [d]' | sort`)
}

// Whoever deleted a whole home gets it back from the vault and a backup: sites, mailboxes with their old passwords, keys.
func TestADeletedHomeIsRebuiltFromVaultAndBackup(t *testing.T) {
	t.Parallel()
	s := mailServer(t, 4)
	ctx := t.Context()
	s.rightful("snapshot", "take").exit(t, 0)
	s.rightful("vault", "take").exit(t, 0)
	file, err := s.Backup(ctx, "alice", hostbox.Package)
	if err != nil {
		t.Fatal(err)
	}
	s.inboxes("before")
	before, others := s.listing(), s.others("alice")
	s.deleteHome("alice")
	if err := s.LogIn(ctx, s.Mailboxes()[0].Address, s.Mailboxes()[0].Password); !errors.Is(err, hostbox.ErrLogin) {
		t.Fatalf("login without a home: %v", err)
	}
	a := s.rightful("rescue", "alice", "--from", file, "--yes").exit(t, 0)
	t.Log(a.stdout, a.stderr)
	s.inboxes("after the rescue")
	s.healthy("after the rescue")
	for _, c := range s.Closed() {
		if code, _, err := s.GetAs(ctx, c.User, c.Password, c.Host, c.Path); code != 200 {
			t.Errorf("http://%s%s with its password: %d, %v, want 200", c.Host, c.Path, code, err)
		}
	}
	s.same("after the rescue", before)
	if diff := gocmp.Diff(strings.Split(others, "\n"), strings.Split(s.others("alice"), "\n")); diff != "" {
		t.Errorf("outside the account something changed (-want +got):\n%s", diff)
	}
	if a := s.rightful("check").exit(t, 0); len(a.findings) > 0 {
		t.Errorf("after the rescue check finds %q", a.paths())
	}
	s.rightful("undo", "--yes").exit(t, 0)
	if got := strings.TrimSpace(s.sh(`ls -A ~alice`)); got != "" {
		t.Errorf("after the undo the home holds %q; it was empty", got)
	}
}
