package replay

import (
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"rightful/internal/hostbox"
	"rightful/internal/rescue"

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
	return s.sh(`cd / && eval "home=~$1" && find home home2 srv etc var/spool/cron $(ls -d var/cpanel 2>/dev/null) -xdev -path "${home#/}" -prune -o -name '.rightful-rescue-*' -prune -o \
		-printf '%p %y %U:%G %m %s %T@ %l\n' | grep -v '^home2\? d' | sort`, account)
}

// alone demands that nothing outside an account has changed.
func (s *server) alone(when, account, want string) {
	s.t.Helper()
	if diff := hostbox.Differ(want, s.others(account), 12); len(diff) > 0 {
		s.t.Errorf("%s something outside %q has changed:\n%s", when, account, strings.Join(diff, "\n"))
	}
}

// clean demands that check finds nothing.
func (s *server) clean(when string) {
	s.t.Helper()
	if a := s.rightful("check").exit(s.t, 0); len(a.findings) > 0 {
		s.t.Errorf("%s check finds %q", when, a.paths())
	}
}

// A rescued is what one invocation of rescue printed as JSON.
type rescued struct {
	*answer
	sources []rescue.Source
	record  rescue.Record
}

// rescue runs rescue.
func (s *server) rescue(account string, args ...string) *rescued {
	s.t.Helper()
	return s.rescueAs(s.Command(s.t.Context(), "rightful", append([]string{"--json", "rescue", account}, args...)...))
}

// rescueAs runs a command that is a rescue with --json.
func (s *server) rescueAs(cmd *exec.Cmd) *rescued {
	s.t.Helper()
	r := &rescued{answer: s.say(cmd)}
	for line := range strings.Lines(r.stdout) {
		var head struct{ Kind string }
		var src rescue.Source
		err := json.Unmarshal([]byte(line), &head)
		switch head.Kind {
		case "source":
			err = json.Unmarshal([]byte(line), &src)
			r.sources = append(r.sources, src)
		case "rescue":
			err = json.Unmarshal([]byte(line), &r.record)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return r
}

// exit demands an exit code.
func (r *rescued) exit(t *testing.T, want int) *rescued {
	t.Helper()
	r.answer.exit(t, want)
	return r
}

// report gives the report, which must be there.
func (r *rescued) report(t *testing.T) *rescue.Report {
	t.Helper()
	if r.record.Report == nil {
		t.Fatalf("there is no report; exit code %d\n%s%s", r.code, head(r.stdout, 30), head(r.stderr, 20))
	}
	return r.record.Report
}

// lost lists the mailboxes that the report says need a new password.
func (r *rescued) lost(t *testing.T) (out []string) {
	t.Helper()
	for _, m := range r.report(t).Mailboxes {
		if !m.Password {
			out = append(out, m.Address)
		}
	}
	return out
}

// mailboxesOf lists the addresses of an account, sorted.
func (s *server) mailboxesOf(account string) (out []string) {
	for _, m := range s.Mailboxes() {
		if m.Account == account {
			out = append(out, m.Address)
		}
	}
	slices.Sort(out)
	return out
}

// opens demands that every mailbox of an account opens with its old password, or that none does.
func (s *server) opens(when, account string, want bool) {
	s.t.Helper()
	for _, m := range s.Mailboxes() {
		if m.Account != account {
			continue
		}
		if err := s.LogIn(s.t.Context(), m.Address, m.Password); want != (err == nil) || !want && !errors.Is(err, hostbox.ErrLogin) {
			s.t.Errorf("%s the login to %q: %v; want it to work: %t", when, m.Address, err, want)
		}
	}
}

// answers demands what the sites of an account answer.
func (s *server) answers(when, account string, want func(int) bool) {
	s.t.Helper()
	for _, site := range s.Sites() {
		if site.Account != account {
			continue
		}
		if code, _, err := s.Get(s.t.Context(), site.Host, site.Path); err != nil || !want(code) {
			s.t.Errorf("%s http://%s%s: %d, %v", when, site.Host, site.Path, code, err)
		}
	}
}

func is200(code int) bool { return code == 200 }

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
	s.alone("after the rescue", "alice", others)
	s.inboxes("after the rescue")
	s.clean("after the rescue")
	s.rightful("undo", "--yes").exit(t, 0)
	if got := strings.TrimSpace(s.sh(`ls -A ~alice`)); got != "" {
		t.Errorf("after the undo the home holds %q; it was empty", got)
	}
}
