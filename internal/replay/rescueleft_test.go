package replay

import (
	"slices"
	"strings"
	"testing"

	"rightful/internal/hostbox"
	"rightful/internal/rescue"

	gocmp "github.com/google/go-cmp/cmp"
)

// From whatever is left of an account everything works that can work, and the report names the rest.
func TestAHomeIsRebuiltFromWhateverIsLeft(t *testing.T) {
	t.Parallel()
	s := mailServer(t, 4)
	ctx := t.Context()
	// What the logs tell: whose mailbox was opened, and where mail for an alias went.
	s.inboxes("before")
	for _, to := range []string{"office@alice.example", "info@carol.example"} {
		if err := s.SendMail(ctx, to, "Subject: third\n\nthird\n"); err != nil {
			t.Fatal(err)
		}
	}
	s.sh(`cd /var/log && gzip -c exim_mainlog >exim_mainlog-20261122.gz && gzip -c dovecot.log >dovecot.log.1.gz && : >exim_mainlog && : >dovecot.log`)
	zip, err := s.ZipSite(ctx, "alice")
	if err != nil {
		t.Fatal(err)
	}
	bare, err := s.Backup(ctx, "bob", hostbox.Bare)
	if err != nil {
		t.Fatal(err)
	}
	nested, err := s.Backup(ctx, "dave", hostbox.Nested)
	if err != nil {
		t.Fatal(err)
	}
	s.rightful("snapshot", "take", "alice").exit(t, 0)
	for _, sc := range []struct {
		name string
		run  func(*server)
	}{
		{"nothing at all", func(s *server) { s.fromNothing("carol") }},
		{"a zip of the site, with names of Windows", func(s *server) { s.fromZip("alice", zip) }},
		{"a backup without any structure, and no home", func(s *server) { s.fromBackup("bob", bare, "") }},
		{"a backup in odd directories, read from a pipe of the panel's", func(s *server) { s.fromBackup("dave", nested, "odd") }},
	} {
		t.Run(sc.name, func(t *testing.T) { sc.run(s.with(t)) })
	}
}

// fromNothing rebuilds a home with the panel's own data alone.
func (s *server) fromNothing(account string) {
	t := s.t
	others := s.others(account)
	s.deleteHome(account)
	s.rescue(account).exit(t, 3).says(t, "Rebuild /home/carol with standard folders and links only?", "nothing was changed")
	r := s.rescue(account, "--yes").exit(t, 1)
	s.answers("with standard folders only", account, func(code int) bool { return code < 500 })
	s.clean("with standard folders only")
	s.opens("without its hash", account, false)
	if diff := gocmp.Diff(s.mailboxesOf(account), r.lost(t)); diff != "" {
		t.Errorf("mailboxes that need a new password (-want +got):\n%s", diff)
	}
	if box := r.report(t).Mailboxes[0]; !slices.Equal(box.Traces, []string{"aliases", "mail log"}) {
		t.Errorf("the traces of %q are %q", box.Address, box.Traces)
	}
	for _, site := range r.report(t).Sites {
		if !site.Empty || !site.Writes {
			t.Errorf("the report says of a site without a page: %+v", site)
		}
	}
	s.tells(account, "standard folders only", "info@carol.example: needs a new password", "is refused until the mailbox is made anew in the panel",
		"carol.example: there is no page in its directory", "there is no snapshot to compare with")
	s.alone("after the rescue", account, others)

	// What the panel does when somebody makes the mailbox anew works in the rebuilt home.
	box := s.Mailboxes()[slices.IndexFunc(s.Mailboxes(), func(m hostbox.Mailbox) bool { return m.Account == account })]
	err := s.SendMail(t.Context(), box.Address, "Subject: x\n\nx\n")
	if err == nil || !strings.Contains(err.Error(), "no such mailbox here") {
		t.Errorf("mail for a mailbox that is not there: %v", err)
	}
	s.sh(`umask 027; d=/home/carol/etc/carol.example; : >$d/passwd; : >$d/shadow; chown carol:mail $d/passwd $d/shadow
		echo "info:x:$(id -u carol):$(id -g carol)::/home/carol/mail/carol.example/info:/home/carol" >$d/passwd
		echo "info:$(openssl passwd -6 -salt abcdefgh 'a new one'):19700::::::" >$d/shadow`)
	if err := s.SendMail(t.Context(), box.Address, "Subject: anew\n\nanew\n"); err != nil {
		t.Error(err)
	}
	if got, err := s.ReadMail(t.Context(), box.Address, "a new one"); err != nil || len(got) != 1 || !strings.HasSuffix(got[0], "anew\n") {
		t.Errorf("in the mailbox that was made anew: %q, %v", got, err)
	}
	s.clean("with a mailbox that was made anew")
}

// tells demands lines of the report, in text and as a page.
func (s *server) tells(account, when string, words ...string) {
	s.t.Helper()
	for _, form := range []string{"text", "html"} {
		said := s.text(s.Command(s.t.Context(), "rightful", "rescue", account, "--report", form)).exit(s.t, 0).stdout
		for _, w := range words {
			if !strings.Contains(said, w) {
				s.t.Errorf("the report as %s, %s, lacks %q:\n%s", form, when, w, head(said, 60))
			}
		}
	}
}

// fromZip rebuilds a home from its main site alone, of which nothing says what it is.
func (s *server) fromZip(account, zip string) {
	t := s.t
	others := s.others(account)
	s.deleteHome(account)
	hint := "hint: rightful rescue alice --from " + zip + " --map www="
	said := s.text(s.Command(t.Context(), "rightful", "--state", "/var/tmp/other", "rescue", account, "--from", zip, "--yes")).exit(t, 3)
	said.says(t, "it may be any of 3 things; nothing was changed", hint+"public_html --state", hint+"alice-shop.example --state", hint+"public_html/blog --state")
	if got := s.sh("ls -A ~alice"); got != "" {
		t.Errorf("a rescue that was refused made %q", got)
	}
	// The names that the snapshot knows leave one reading; to say it is as good.
	if r := s.rescue(account, "--from", zip, "--dry-run").exit(t, 1); len(r.sources) != 1 || r.sources[0].Places[0].Dst != "public_html" {
		t.Errorf("with a snapshot the zip is %+v", r.sources)
	}
	r := s.rescue(account, "--from", zip, "--map", "www=public_html", "--yes").exit(t, 1)
	if code, _, err := s.Get(t.Context(), "alice.example", "/"); code != 200 {
		t.Errorf("http://alice.example/ from a zip: %d, %v", code, err)
	}
	s.clean("from a zip")
	s.opens("without its hash", account, false)
	if diff := gocmp.Diff(s.mailboxesOf(account), r.lost(t)); diff != "" {
		t.Errorf("mailboxes that need a new password (-want +got):\n%s", diff)
	}
	for _, m := range r.report(t).Mailboxes {
		if !slices.Contains(m.Traces, "mail log") || !slices.Contains(m.Traces, "snapshot") {
			t.Errorf("the traces of %q are %q", m.Address, m.Traces)
		}
	}
	missing := r.report(t).Missing
	if missing == nil {
		t.Fatal("the report does not compare with the snapshot")
	}
	names := paths(missing.Samples)
	for _, f := range []string{".ssh/authorized_keys", ".my.cnf", "etc/alice.example/shadow", "alice-shop.example/index.php"} {
		if !slices.Contains(names, f) {
			t.Errorf("the report does not say that %q is missing", f)
		}
	}
	if slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "public_html/") }) {
		t.Errorf("files of the zip are said to be missing: %q", names)
	}
	s.tells(account, "from a zip", "info@alice.example: needs a new password", "orders@alice-shop.example: needs a new password", "(a zip archive)",
		".ssh/authorized_keys", "by their age, and were not:", "alice-shop.alice.example: there is no page in its directory")
	s.alone("after the rescue", account, others)
}

func paths(all []rescue.Named) (out []string) {
	for _, n := range all {
		out = append(out, n.Path)
	}
	return out
}

// fromBackup rebuilds a home, that is gone with its directory, from a whole backup, which may be packed once more in another
// way first.
func (s *server) fromBackup(account, file, form string) {
	t := s.t
	others, before := s.others(account), s.of(account)
	if form == "odd" {
		s.sh(`cd "$(mktemp -d)" && tar -xzf "$1" && mkdir -p "x/srv 2024/copies/of it" && tar -C "x/srv 2024/copies/of it" -xf cpmove-*/homedir.tar &&
			tar -cf - x | xz >/root/odd`, file)
		file = "/root/odd"
	}
	s.sh(`rm -rf ~` + account)
	r := s.rescue(account, "--from", file, "--yes").exit(t, 0)
	s.answers("from a backup", account, is200)
	s.clean("from a backup")
	s.opens("with its hash", account, true)
	for _, c := range s.Closed() {
		if c.Host != account+".example" {
			continue
		}
		if code, _, err := s.GetAs(t.Context(), c.User, c.Password, c.Host, c.Path); code != 200 {
			t.Errorf("http://%s%s with its password: %d, %v, want 200", c.Host, c.Path, code, err)
		}
	}
	if lost := r.lost(t); len(lost) > 0 || r.report(t).Missing != nil || r.report(t).Aside != "" {
		t.Errorf("the report of a whole backup: mailboxes without a password %q, %+v, %q", lost, r.report(t).Missing, r.report(t).Aside)
	}
	s.sameNames("from a backup", account, before)
	s.alone("after the rescue", account, others)
	// The other way, and back, and to the end: there is no old home.
	s.rightful("undo", "--yes").exit(t, 0)
	if got := s.sh(`[ -e ~` + account + ` ] && echo there || echo gone`); got != "gone\n" {
		t.Errorf("after the undo of a home that was gone it is %s", got)
	}
	s.rescue(account).exit(t, 3).says(t, "was undone", "rescue "+account+" --resume", "rescue "+account+" --discard")
	s.rescue(account, "--finish", "--yes").exit(t, 3).says(t, "does not stand in its place", "rescue "+account+" --resume")
	s.rescue(account, "--resume").exit(t, 0)
	s.answers("brought in again", account, is200)
	s.rescue(account, "--finish", "--yes").exit(t, 0)
	if left := s.sh("ls -d /home*/.rightful-rescue-* 2>/dev/null | grep -c . || :"); form == "odd" && left != "2\n" {
		t.Errorf("%s quarantines are left of two that are not finished", left)
	}
}

// of lists an account's home: kind, mode, user and name, a line each.
func (s *server) of(account string) []string {
	s.t.Helper()
	out := s.sh(`eval "cd ~$1" && find . -printf '%y %m %U %p %l\n' | sort -k 4`, account)
	return strings.Split(strings.TrimSuffix(out, "\n"), "\n")
}

// sameNames demands that a home is as it was, but for what the panel made as root, and what a panel's account has besides.
func (s *server) sameNames(when, account string, before []string) {
	s.t.Helper()
	access := func(l string) bool { return strings.Contains(l, " ./access-logs ") }
	var missing []string
	got := s.of(account)
	for _, l := range before {
		if !access(l) && !slices.Contains(got, l) {
			missing = append(missing, l)
		}
	}
	if len(missing) > 0 {
		s.t.Errorf("%s the home of %q has not got, or has otherwise:\n%s", when, account, strings.Join(missing, "\n"))
	}
}
