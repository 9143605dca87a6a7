package rescue

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Only what proves a mailbox names one: a login that worked, a delivery into it.
func TestALogNamesTheMailboxesThatThereWere(t *testing.T) {
	for _, row := range []struct{ name, line, want string }{
		{"login", `Nov 25 17:42:36 imap-login: Info: Login: user=<info@a.example>, method=PLAIN, rip=192.0.2.10`, "info@a.example"},
		{"login in a syslog", `Nov 25 17:42:36 box dovecot: imap-login: Logged in: user=<info@a.example>, method=PLAIN`, "info@a.example"},
		{"failed login", `Nov 25 17:42:36 imap-login: Info: Aborted login (auth failed, 1 attempts): user=<guess@a.example>, method=PLAIN`, ""},
		{"delivery by LMTP", `Nov 25 17:42:36 lmtp(info@a.example)<247><DbMS>: Info: msgid=unspecified: saved mail to INBOX`, "info@a.example"},
		{"another customer's", `Nov 25 17:42:36 lmtp(info@b.example)<247><DbMS>: Info: saved mail to INBOX`, ""},
		{"cPanel's Exim", `2026-11-25 17:42:36 1xWH0u-3w-0H => info <info@a.example> R=virtual_user T=dovecot_virtual_delivery C="250 2.0.0 <info@a.example> DbMS Saved"`, "info@a.example"},
		{"an alias, and where its mail went", `2026-11-25 17:42:36 1xWH0u-3w-0H => info <office@a.example> R=mailboxes T=dovecot C="250 2.0.0 <info@a.example> DbMS Saved"`, "info@a.example"},
		{"an alias, and nobody says where", `2026-11-25 17:42:36 1xWH0u-3w-0H => info <office@a.example> R=mailboxes T=dovecot`, ""},
		{"its own address", `2026-11-25 17:42:36 1xWH0u-3w-0H => info <info@a.example> R=local T=local_delivery`, "info@a.example"},
		{"a whole address", `2026-11-25 17:42:36 1xWH0u-3w-0H => info@a.example R=v T=virtual_userdelivery`, "info@a.example"},
		{"sent away", `2026-11-25 17:42:36 1xWH0u-3w-0H => info@a.example R=dnslookup T=remote_smtp H=mx.b.example`, ""},
		{"a path", `Nov 25 lmtp(../../x@a.example)<247>: Info: saved`, ""},
	} {
		m := NewMailboxes([]string{"A.example"})
		m.Log([]byte(row.line + "\n"))
		var got []string
		for a := range m.found {
			got = append(got, a)
		}
		if s := strings.Join(got, " "); s != row.want {
			t.Errorf("%s: %q, want %q", row.name, s, row.want)
		}
	}
}

func TestAliasesNameTheMailboxesBehindThem(t *testing.T) {
	m := NewMailboxes([]string{"a.example"})
	m.Aliases("a.example", []byte("office@a.example: info@a.example, out@elsewhere.example\nchain@a.example: office@a.example\n*: \":fail: No Such User Here\"\npipe@a.example: \"|/home/a/bin/x\"\nbroken\n"))
	var got []string
	for a, b := range m.found {
		got = append(got, a+" "+strings.Join(b.Traces, " "))
	}
	if diff := cmp.Diff([]string{"info@a.example aliases"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
