package replay

import (
	"errors"
	"os"
	"strings"
	"testing"

	"rightful/internal/hostbox"

	gocmp "github.com/google/go-cmp/cmp"
)

// mailServer starts a cPanel-shaped server with mail.
func mailServer(t *testing.T, accounts int) *server {
	t.Helper()
	return &server{hostbox.StartFor(t, hostbox.Spec{Accounts: accounts, Mail: true, Binary: os.Getenv(binaryEnv)}), t}
}

// inboxes demands that every mailbox opens with the password that it always had, and holds what it held.
func (s *server) inboxes(when string) {
	s.t.Helper()
	for _, m := range s.Mailboxes() {
		got, err := s.ReadMail(s.t.Context(), m.Address, m.Password)
		if diff := gocmp.Diff(m.Messages, got); err != nil || diff != "" {
			s.t.Errorf("%s the inbox of %q: %v (-want +got):\n%s", when, m.Address, err, diff)
		}
	}
}

// What a mail server, visitors with passwords and a vault make of a healthy account is healthy too.
func TestAServerWithMailIsHealthy(t *testing.T) {
	t.Parallel()
	s := mailServer(t, 4)
	ctx := t.Context()
	if a := s.rightful("check").exit(t, 0); len(a.findings) > 0 {
		t.Errorf("on a new server check finds %q", a.paths())
	}
	s.inboxes("on a new server")
	for _, m := range s.Mailboxes() {
		if err := s.SendMail(ctx, m.Address, "Subject: third\n\nthird\n"); err != nil {
			t.Error(err)
		}
		got, err := s.ReadMail(ctx, m.Address, m.Password)
		if err != nil || len(got) != len(m.Messages)+1 || !strings.HasSuffix(got[len(got)-1], "third\n") {
			t.Errorf("after a delivery to %q: %d messages, %v", m.Address, len(got), err)
		}
	}
	for _, c := range s.Closed() {
		if code, _, err := s.GetAs(ctx, c.User, c.Password, c.Host, c.Path); code != 200 {
			t.Errorf("http://%s%s with its password: %d, %v, want 200", c.Host, c.Path, code, err)
		}
	}
	s.healthy("with mail")
	if a := s.rightful("check").exit(t, 0); len(a.findings) > 0 {
		t.Errorf("after mail came and was read, check finds %q", a.paths())
	}
}

// What only a home holds is gone with it, and was in the vault, in a snapshot and in backups before.
func TestADeletedHomeTakesItsMailWithIt(t *testing.T) {
	t.Parallel()
	s := mailServer(t, 2)
	ctx := t.Context()
	s.rightful("accounts").exit(t, 0)
	s.rightful("snapshot", "take").exit(t, 0)
	s.rightful("vault", "take").exit(t, 0)
	kept := s.rightful("vault", "show", "latest", "alice").exit(t, 0).stdout
	for _, f := range []string{
		"/home/alice/etc/alice.example/shadow", "/home/alice/etc/alice-shop.example/shadow", "/home/alice/.cpanel/email_accounts.json",
		"/home/alice/.htpasswds/public_html/staff/passwd", "/home/alice/.ssh/authorized_keys", "/home/alice/.my.cnf",
		"/home/alice/public_html/staff/.htaccess", "/etc/valiases/alice.example", "/etc/proftpd/alice", "/var/spool/cron/crontabs/alice",
	} {
		if !strings.Contains(kept, `"`+f+`"`) {
			t.Errorf("the vault has no %q", f)
		}
	}
	for _, form := range []hostbox.BackupForm{hostbox.Package, hostbox.Bare} {
		file, err := s.Backup(ctx, "alice", form)
		if err != nil {
			t.Fatal(err)
		}
		s.rightful("snapshot", "import", file, "--account", "alice").exit(t, 0)
	}

	s.sh(`rm -rf ~alice/* ~alice/.[!.]*`)
	for _, m := range s.Mailboxes() {
		err := s.LogIn(ctx, m.Address, m.Password)
		if gone := m.Account == "alice"; gone != errors.Is(err, hostbox.ErrLogin) || !gone && err != nil {
			t.Errorf("login to %q of %q, without alice's home: %v", m.Address, m.Account, err)
		}
	}
	if code, _, err := s.Get(ctx, "alice.example", "/"); code == 200 {
		t.Errorf("http://alice.example/ without a home: %d, %v", code, err)
	}
}
