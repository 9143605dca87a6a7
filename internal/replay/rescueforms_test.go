package replay

import (
	"os/exec"
	"strings"
	"testing"

	"rightful/internal/hostbox"
)

// backupPrograms are how an operator may have packed /home/alice, and how rescue is told of it.
var backupPrograms = []struct {
	panel, tool, pack, from string
	env                     []string
}{
	{"plain", "tar", `tar -C / -cJf /root/alice.tar.xz home/alice`, "/root/alice.tar.xz", nil},
	{"plain", "bsdtar", `bsdtar -C /home -czf /root/alice.tgz alice`, "/root/alice.tgz", nil},
	{"plain", "zip", `cd /home/alice && zip -qry /root/alice.zip .`, "/root/alice.zip", nil},
	{"plain", "restic", `restic -q init -r /root/restic && restic -q -r /root/restic backup /home/alice /home/bob`, "restic:/root/restic", []string{"RESTIC_PASSWORD=secret"}},
	{"nginx", "tar", `tar -C /home/alice -c . | zstd -q >/root/alice.zst`, "/root/alice.zst", nil},
	{"nginx", "bsdtar", `bsdtar -C /home -cf /root/alice.bsd.zip --format=zip alice`, "/root/alice.bsd.zip", nil},
	{"nginx", "7zz", `cd /home && 7zz a -tzip -snl /root/alice.7.zip alice >/dev/null`, "/root/alice.7.zip", nil},
	{"nginx", "borg", `borg init -e repokey /root/borg && borg create /root/borg::first /home/alice /home/bob`, "borg:/root/borg::first", []string{"BORG_PASSPHRASE=secret"}},
}

// A home comes back as it was from what every program makes of it, with a snapshot that tells what an archive cannot.
func TestEveryBackupProgramBringsAHomeBack(t *testing.T) {
	t.Parallel()
	for _, panel := range []string{"plain", "nginx"} {
		t.Run(panel, func(t *testing.T) {
			t.Parallel()
			s := start(t, panel, 2)
			s.rightful("snapshot", "take").exit(t, 0)
			before, others := s.of("alice"), s.others("alice")
			for _, p := range backupPrograms {
				if p.panel == panel {
					t.Run(p.tool, func(t *testing.T) {
						if _, err := exec.LookPath(p.tool); err != nil {
							t.Skipf("needs %s", p.tool)
						}
						s := s.with(t)
						s.sh("export HOME=/root " + strings.Join(p.env, " ") + "; " + p.pack)
						s.deleteHome("alice")
						say := append([]string{"env", "HOME=/root"}, p.env...)
						say = append(say, "rightful", "--json", "rescue", "alice", "--from", p.from, "--yes")
						r := s.rescueAs(s.Command(t.Context(), say[0], say[1:]...)).exit(t, 0)
						if diff := hostbox.Differ(strings.Join(before, "\n"), strings.Join(s.of("alice"), "\n"), 12); len(diff) > 0 {
							t.Errorf("the home is not as it was:\n%s", strings.Join(diff, "\n"))
						}
						if n := r.report(t).Rejects; n > 0 {
							t.Errorf("%d entries were left out: %v", n, r.report(t).Rejected)
						}
						s.healthy("afterwards")
						s.clean("afterwards")
						s.alone("afterwards", "alice", others)
						s.rescue("alice", "--finish", "--yes").exit(t, 0)
					})
				}
			}
			// A repository that does not open is no source, and says so in its program's own words.
			if _, err := exec.LookPath("restic"); err == nil && panel == "plain" {
				s.rescueAs(s.Command(t.Context(), "env", "HOME=/root", "RESTIC_PASSWORD=wrong", "rightful", "--json", "rescue", "alice", "--from", "restic:/root/restic", "--yes")).
					exit(t, 3).says(t, `"restic"`, "wrong password", "nothing was changed")
			}
		})
	}
}
