package replay

import (
	"slices"
	"strings"
	"testing"

	"rightful/internal/hostbox"
	"rightful/internal/rescue"
)

// What is trusted more comes back, and nothing of what anybody still has is lost: whatever came in between is named, whatever
// got worse is taken back, and whatever was done can be undone.
func TestSourcesAreTrustedInTheirOrder(t *testing.T) {
	t.Parallel()
	s := mailServer(t, 4)
	for _, sc := range []struct {
		name string
		run  func(*server)
	}{
		{"a vault before what is older, behind what is newer", func(s *server) { s.vaultsAndBackups("alice") }},
		{"what is left of the home, and records from after the accident", func(s *server) { s.ruinAndBackup("bob") }},
		{"a directory of root's, and one of the account's", func(s *server) { s.directories("dave") }},
		{"mail that comes meanwhile", func(s *server) { s.meanwhile("carol") }},
	} {
		t.Run(sc.name, func(t *testing.T) { sc.run(s.with(t)) })
	}
}

// backup makes a backup as the panel does.
func (s *server) backup(account string, form hostbox.BackupForm) string {
	s.t.Helper()
	file, err := s.Backup(s.t.Context(), account, form)
	if err != nil {
		s.t.Fatal(err)
	}
	return file
}

// away undoes what a rescue did, and removes what it rebuilt.
func (s *server) away(account string) {
	s.t.Helper()
	s.rightful("undo", "--yes").exit(s.t, 0)
	s.rescue(account, "--discard", "--yes").exit(s.t, 0)
}

// from lists where a rescue would take things from: what comes before the first colon of each source.
func (r *rescued) from() (out []string) {
	for _, src := range r.sources {
		kind, _, _ := strings.Cut(src.Spec, ":")
		out = append(out, kind)
	}
	return out
}

func (s *server) vaultsAndBackups(account string) {
	t := s.t
	others := s.others(account)
	set := func(what string) { s.sh(`echo "$1" >~alice/.my.cnf; touch -d '1 second' ~alice/.my.cnf`, what) }
	has := func(when, want string) {
		t.Helper()
		if got := s.sh(`cat ~alice/.my.cnf`); got != want+"\n" {
			t.Errorf("%s .my.cnf is %q, want %q", when, got, want)
		}
	}
	set("of the first vault")
	s.rightful("vault", "take").exit(t, 0)
	set("of the backup")
	file := s.backup(account, hostbox.Package)
	s.deleteHome(account)
	r := s.rescue(account, "--from", file, "--yes").exit(t, 0)
	if got := r.from(); !slices.Equal(got, []string{file, "vault"}) {
		t.Errorf("with a vault that is older than the backup the order is %q", got)
	}
	has("with an older vault", "of the backup")
	s.rescue(account, "--finish", "--yes").exit(t, 0)
	set("of the second vault")
	s.rightful("vault", "take").exit(t, 0)
	s.deleteHome(account)
	r = s.rescue(account, "--from", file, "--yes").exit(t, 0)
	if got := r.from(); !slices.Equal(got, []string{"vault", file}) {
		t.Errorf("with a vault that is newer than the backup the order is %q", got)
	}
	has("with a newer vault", "of the second vault")
	s.opens("from a newer vault and a backup", account, true)
	s.away(account)
	s.rescue(account, "--from", file, "--from", "vault", "--yes").exit(t, 0)
	has("with the backup named first", "of the backup")
	s.clean("after three rescues")
	s.alone("after three rescues", account, others)
	s.rescue(account, "--finish", "--yes").exit(t, 0)
	s.ofAnother(account, "dave", others)
}

// ofAnother rebuilds a home from the backup of what is another account here.
func (s *server) ofAnother(account, other, others string) {
	t := s.t
	pkg, bare := s.backup(other, hostbox.Package), s.backup(other, hostbox.Bare)
	s.sh(`mkdir -p /root/flat && tar -C /root/flat -xzf "$1" && tar -C /root/flat/dave -cf /root/flat.tar .`, bare)
	was := s.of(account)
	for _, file := range []string{pkg, bare, "/root/flat.tar"} {
		s.rescue(account, "--from", file, "--yes").exit(t, 3).
			says(t, `it is of the account "dave"; nothing was changed`, "rightful rescue alice --from "+file+" --owner dave")
	}
	if got := s.of(account); !slices.Equal(got, was) {
		t.Error("a rescue that was refused has changed the home")
	}
	s.deleteHome(account)
	s.rescue(account, "--from", bare, "--owner", other, "--yes").exit(t, 1)
	if got := s.sh(`find ~alice ! -user alice ! -name access-logs; find ~alice -group dave; [ -s ~alice/public_html/index.html ] && echo 1`); got != "1\n" {
		t.Errorf("in the home that was another's: %q", got)
	}
	if code, _, err := s.Get(t.Context(), "alice.example", "/"); code != 200 {
		t.Errorf("http://alice.example/ from another account's backup: %d, %v", code, err)
	}
	s.clean("from another account's backup")
	s.alone("from another account's backup", account, others)
	s.rescue(account, "--finish", "--yes").exit(t, 0)
}

func (s *server) ruinAndBackup(account string) {
	t := s.t
	file := s.backup(account, hostbox.Package)
	s.sh(`until [ "$(date +%s)" -gt "$1" ]; do :; done`, strings.TrimSpace(s.sh(`date +%s`))) // times in a tar are whole seconds
	s.rightful("snapshot", "take").exit(t, 0)
	s.rightful("vault", "take").exit(t, 0)
	others := s.others(account)
	// The backup's site is in maintenance, as nobody noticed: it answers 503.
	s.sh(`d=$(mktemp -d); cd $d; tar -xzf "$1"; : >cpmove-bob/homedir/public_html/.maintenance; chown bob: cpmove-bob/homedir/public_html/.maintenance
		tar -czf /root/maintenance.tar.gz cpmove-bob`, file)
	s.sh(`cd ~bob; rm -rf mail etc .ssh public_html/img; printf '<?php echo "mine";' >public_html/index.php`)
	const ask = "bob.example"
	body := func(when, want string) {
		t.Helper()
		if code, body, err := s.Get(t.Context(), ask, "/"); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s http://%s/ is %d %q, %v; want %q", when, ask, code, body, err, want)
		}
	}
	body("in the ruin", "mine")
	// What was recorded after the accident knows next to nothing.
	s.sh(`mkdir /root/aside; mv ~bob/public_html /root/aside`)
	s.rightful("snapshot", "take")
	s.rightful("vault", "take")
	s.sh(`mv /root/aside/public_html ~bob`)
	state := func() string {
		return s.sh(`find /home /home2 /var/lib/rightful \( -type d -printf '%p\n' -o -printf '%p %T@ %s\n' \) | sort`)
	}
	before := state()
	r := s.rescue(account, "--from", file, "--dry-run").exit(t, 1)
	if now := state(); now != before {
		t.Errorf("a dry run has written:\n%s", strings.Join(hostbox.Differ(before, now, 12), "\n"))
	}
	if got := r.from(); !slices.Equal(got, []string{"home", "vault", file}) {
		t.Errorf("the order is %q", got)
	}
	r = s.rescue(account, "--from", file, "--yes").exit(t, 0)
	body("with what was left", "mine")
	s.opens("with what was left", account, true)
	if m := r.report(t).Missing; m == nil || m.Files != 0 {
		t.Errorf("against the snapshot from before the accident: %+v", m)
	}
	s.away(account)
	body("in the ruin again", "mine")
	s.rescue(account, "--from", file, "--prefer-backup", "--yes").exit(t, 0)
	body("with the backup before what was left", "served as uid")
	s.away(account)

	// A site that worked in the ruin and does not in the rebuilt home: the old home comes back.
	ruin := s.of(account)
	worse := s.rescue(account, "--from", "/root/maintenance.tar.gz", "--prefer-backup", "--yes").exit(t, 4)
	worse.says(t, "the rebuilt home is kept at", "rescue bob --resume --keep", "rescue bob --discard")
	body("after a site got worse", "mine")
	if got := s.of(account); !slices.Equal(got, ruin) {
		t.Errorf("the old home is not as it was:\n%s", strings.Join(hostbox.Differ(strings.Join(ruin, "\n"), strings.Join(got, "\n"), 12), "\n"))
	}
	s.rescue(account, "--from", file).exit(t, 3).says(t, "is not at its end; nothing was changed", "rescue bob --resume", "rescue bob --discard")
	s.rescue(account, "--finish", "--yes").exit(t, 3).says(t, "does not stand in its place; nothing was changed", "rescue bob --resume")
	kept := s.rescue(account, "--resume", "--keep").exit(t, 1)
	if site := kept.report(t).Sites[0]; site.Answers != 503 {
		t.Errorf("the report says of a site that answers 503: %+v", site)
	}
	if code, _, _ := s.Get(t.Context(), ask, "/"); code != 503 {
		t.Errorf("kept although it is worse, http://%s/ is %d", ask, code)
	}
	s.rescue(account, "--discard", "--yes").exit(t, 3).says(t, "the rebuilt home stands in its place", "rightful undo ", "rescue bob --finish")
	s.rescue(account, "--from", file).exit(t, 3).says(t, "is not finished; nothing was changed", "rescue bob --finish", "rightful undo ")
	s.rescue(account, "--finish", "--yes").exit(t, 0)
	s.rescue(account, "--finish", "--yes").exit(t, 2).says(t, "none is under way")
	if left := s.sh("ls -d /home/.rightful-rescue-* 2>/dev/null || :"); left != "" {
		t.Errorf("quarantines are left: %s", left)
	}
	s.alone("after five rescues", account, others)
}

func (s *server) directories(account string) {
	t := s.t
	others := s.others(account)
	s.sh(`mkdir -p /root/mnt/daily && cp -a ~dave /root/mnt/daily/dave && cp -a ~dave /var/tmp/copy && rm -rf /var/tmp/copy/.ssh; cd /var/tmp/copy/public_html
		echo root >roots.txt; chmod 0600 roots.txt; ln /etc/shadow shadow.txt || cp -a /etc/shadow shadow.txt; rm -rf ~dave`)
	names := s.of(account + "/../../root/mnt/daily/dave")
	r := s.rescue(account, "--from", "/root/mnt/daily", "--yes").exit(t, 0)
	s.answers("from a directory of root's", account, is200)
	s.opens("from a directory of root's", account, true)
	s.clean("from a directory of root's")
	s.sameNames("from a directory of root's", account, names)
	if n := r.report(t).Rejects; n != 0 {
		t.Errorf("%d entries were left out: %v", n, r.report(t).Rejected)
	}
	s.away(account)
	r = s.rescue(account, "--from", "/var/tmp/copy", "--yes").exit(t, 1)
	s.answers("from a directory of the account's", account, is200)
	for _, f := range []string{"roots.txt", "shadow.txt"} {
		if s.sh(`[ -e ~dave/public_html/"$1" ] && echo there || :`, f) != "" {
			t.Errorf("%q, which the account could not read, is in its home", f)
		}
		if !slices.ContainsFunc(r.report(t).Rejected, func(x rescue.Rejected) bool {
			return x.Path == "public_html/"+f && strings.Contains(x.Reason, "the account itself may not read it")
		}) {
			t.Errorf("the report does not name %q: %v", f, r.report(t).Rejected)
		}
	}
	s.alone("from directories", account, others)
}

// meanwhile has mail delivered into a home that is being rebuilt.
func (s *server) meanwhile(account string) {
	t := s.t
	// Since the snapshot one message was read, and one deleted.
	s.rightful("snapshot", "take", account).exit(t, 0)
	s.sh(`cd ~carol/mail/carol.example/info && rm cur/*M1P0.* && set -- new/*M1P1.* && mv "$1" "cur/${1#new/}:2,S"`)
	file := s.backup(account, hostbox.Package)
	others := s.others(account)
	s.sh(`rm -rf ~carol/public_html`)
	const box = "info@carol.example"
	// Somebody else is at work on the server, so that the switch has to wait.
	s.text(s.Command(t.Context(), "rightful", "guard", "--undo-on", "never", "--", "rightful", "rescue", account, "--from", file, "--yes")).says(t, "rescue carol --resume")
	if err := s.SendMail(t.Context(), box, "Subject: meanwhile\n\nmeanwhile\n"); err != nil {
		t.Fatal(err)
	}
	r := s.rescue(account, "--resume").exit(t, 1)
	s.answers("after the resumption", account, is200)
	late := r.report(t).Late
	if late == nil || !slices.ContainsFunc(late.Samples, func(n rescue.Named) bool { return strings.HasPrefix(n.Path, "mail/carol.example/info/new/") }) {
		t.Errorf("of what came meanwhile the report says %+v", late)
	}
	if late != nil && slices.ContainsFunc(late.Samples, func(n rescue.Named) bool { return !strings.HasPrefix(n.Path, "mail/carol.example/info/") }) {
		t.Errorf("what did not change is said to have come meanwhile: %+v", late)
	}
	if got := paths(r.report(t).Missing.Samples); len(got) != 1 || !strings.Contains(got[0], "M1P0.") || r.report(t).Mailboxes[0].Missing != 1 {
		t.Errorf("of two messages, one read and one deleted, are missing: %q; %+v", got, r.report(t).Mailboxes)
	}
	s.tells(account, "with mail that came meanwhile", "info@carol.example: the old password works, 1 of its messages are not back", "What came while it was rebuilt", "are there only (/home/.rightful-rescue-", "mail/carol.example/info/new/")
	s.clean("with mail that came meanwhile")
	s.alone("with mail that came meanwhile", account, others)
}
