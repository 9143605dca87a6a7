package hostbox

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mailBox starts a small box with mail.
func mailBox(t *testing.T, accounts int) *Box {
	t.Helper()
	return StartFor(t, Spec{Accounts: accounts, Mail: true, Log: testLog{t}})
}

func TestEveryMailboxIsReadWithItsOwnPasswordOnly(t *testing.T) {
	t.Parallel()
	b := mailBox(t, 0)
	ctx := t.Context()
	boxes := b.Mailboxes()
	if len(boxes) < 13 {
		t.Errorf("%d mailboxes for 12 accounts, of which some have two", len(boxes))
	}
	for i, m := range boxes {
		got, err := b.ReadMail(ctx, m.Address, m.Password)
		if diff := cmp.Diff(m.Messages, got); err != nil || diff != "" {
			t.Errorf("inbox of %q: %v (-want +got):\n%s", m.Address, err, diff)
		}
		if i > 0 {
			continue
		}
		for _, wrong := range []string{"", m.Password + "x", boxes[1].Password} {
			if err := b.LogIn(ctx, m.Address, wrong); !errors.Is(err, ErrLogin) || !strings.Contains(err.Error(), "AUTHENTICATIONFAILED") {
				t.Errorf("login to %q with %q: %v, want %v", m.Address, wrong, err, ErrLogin)
			}
		}
	}
	if err := b.LogIn(ctx, "nobody@alice.example", "x"); !errors.Is(err, ErrLogin) {
		t.Errorf("login of nobody: %v, want %v", err, ErrLogin)
	}
}

func TestDeliveredMailIsReadAndOtherMailRefused(t *testing.T) {
	t.Parallel()
	b := mailBox(t, 2)
	ctx := t.Context()
	m := b.Mailboxes()[0]
	want := m.Messages
	for _, to := range []string{m.Address, "office@alice.example"} {
		if err := b.SendMail(ctx, to, "Subject: for "+to+"\n\n.\nthe end\n"); err != nil {
			t.Fatal(err)
		}
		got, err := b.ReadMail(ctx, m.Address, m.Password)
		if err != nil || len(got) != len(want)+1 || !strings.HasSuffix(got[len(got)-1], "Subject: for "+to+"\n\n.\nthe end\n") {
			t.Fatalf("after a message to %q: %d messages, %v: %q", to, len(got), err, got)
		}
		want = got
	}
	for _, to := range []string{"nobody@alice.example", "info@elsewhere.example"} {
		if err := b.SendMail(ctx, to, "Subject: x\n\nx\n"); err == nil || !strings.Contains(err.Error(), "550") {
			t.Errorf("mail to %q: %v, want a refusal", to, err)
		}
	}
	out, err := b.Run(ctx, `stat -c '%U:%G %a' "$1"/new/* | sort | uniq -c`, m.Dir)
	if got := strings.Join(strings.Fields(out), " "); err != nil || got != "3 alice:alice 640" {
		t.Errorf("owners and modes of new messages: %q, %v", got, err)
	}
}

func TestMailStopsWithTheHomeAndComesBackWithIt(t *testing.T) {
	t.Parallel()
	b := mailBox(t, 2)
	ctx := t.Context()
	m := b.Mailboxes()[0]
	if err := b.LogIn(ctx, m.Address, m.Password); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Run(ctx, `tar -C /home -cf /root/alice.tar alice; rm -rf /home/alice/* /home/alice/.[!.]*`); err != nil {
		t.Fatal(err)
	}
	if err := b.LogIn(ctx, m.Address, m.Password); !errors.Is(err, ErrLogin) {
		t.Errorf("login without a home: %v, want %v", err, ErrLogin)
	}
	if err := b.SendMail(ctx, m.Address, "Subject: x\n\nx\n"); err == nil || !strings.Contains(err.Error(), "550") {
		t.Errorf("mail without a home: %v, want a refusal", err)
	}
	if _, err := b.Run(ctx, `tar -C /home -xpf /root/alice.tar`); err != nil {
		t.Fatal(err)
	}
	got, err := b.ReadMail(ctx, m.Address, m.Password)
	if diff := cmp.Diff(m.Messages, got); err != nil || diff != "" {
		t.Errorf("with the home back: %v (-want +got):\n%s", err, diff)
	}
	if _, err := b.Run(ctx, `chgrp -R alice /home/alice/etc`); err != nil {
		t.Fatal(err)
	}
	if err := b.LogIn(ctx, m.Address, m.Password); !errors.Is(err, ErrLogin) {
		t.Errorf("login where the mail server may not read: %v, want %v", err, ErrLogin)
	}
}

func TestAClosedDirectoryOpensWithItsPassword(t *testing.T) {
	t.Parallel()
	b := mailBox(t, 2)
	ctx := t.Context()
	for _, c := range b.Closed() {
		for password, want := range map[string]int{c.Password: http.StatusOK, "x": http.StatusUnauthorized} {
			if code, _, err := b.GetAs(ctx, c.User, password, c.Host, c.Path); err != nil || code != want {
				t.Errorf("http://%s%s with %q: %d, %v, want %d", c.Host, c.Path, password, code, err, want)
			}
		}
	}
}
