package replay

import (
	"errors"
	"slices"
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
	s.inboxes("before")
	s.rightful("snapshot", "take").exit(t, 0)
	s.rightful("vault", "take").exit(t, 0)
	file, err := s.Backup(ctx, "alice", hostbox.Package)
	if err != nil {
		t.Fatal(err)
	}
	before, others := s.listing(), s.others("alice")
	s.deleteHome("alice")
	if err := s.LogIn(ctx, s.Mailboxes()[0].Address, s.Mailboxes()[0].Password); !errors.Is(err, hostbox.ErrLogin) {
		t.Fatalf("login without a home: %v", err)
	}
	s.rightful("rescue", "alice", "--from", file, "--yes").exit(t, 0)
	s.healthy("after the rescue")
	for _, c := range s.Closed() {
		if code, _, err := s.GetAs(ctx, c.User, c.Password, c.Host, c.Path); code != 200 {
			t.Errorf("http://%s%s with its password: %d, %v, want 200", c.Host, c.Path, code, err)
		}
	}
	// What was made since is told apart: the quarantine, and a link that the panel made as root.
	want := strings.NewReplacer("711 0:0 5 /home\n", "711 0:0 6 /home\n", "777 0:0 1 /home/alice/access-logs", "777 20001:20001 1 /home/alice/access-logs").Replace(before)
	got := slices.DeleteFunc(strings.Split(s.listing(), "\n"), func(l string) bool { return strings.Contains(l, "/.rightful-rescue-") })
	if diff := gocmp.Diff(strings.Split(want, "\n"), got); diff != "" {
		t.Errorf("the account is not as it was (-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff(strings.Split(others, "\n"), strings.Split(s.others("alice"), "\n")); diff != "" {
		t.Errorf("outside the account something changed (-want +got):\n%s", diff)
	}
	s.inboxes("after the rescue")
	if a := s.rightful("check").exit(t, 0); len(a.findings) > 0 {
		t.Errorf("after the rescue check finds %q", a.paths())
	}
	s.rightful("undo", "--yes").exit(t, 0)
	if got := strings.TrimSpace(s.sh(`ls -A ~alice`)); got != "" {
		t.Errorf("after the undo the home holds %q; it was empty", got)
	}
}
