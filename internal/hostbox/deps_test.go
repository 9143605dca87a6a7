package hostbox

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The script that installs what a box needs is tried in a box, where it can do no harm.
func TestInstallDepsTouchesNoServer(t *testing.T) {
	script, err := os.ReadFile("../../scripts/install-deps")
	if err != nil {
		t.Fatal(err)
	}
	panels(t, func(t *testing.T, b *Box) {
		ctx := t.Context()
		try := func(args ...string) (int, string) {
			cmd := b.Command(ctx, "sh", append([]string{"-s", "--"}, args...)...)
			cmd.Stdin = strings.NewReader(string(script))
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			return cmd.ProcessState.ExitCode(), string(out)
		}
		if code, out := try(); code != 0 || !strings.Contains(out, "all there") {
			t.Skipf("needs every package that scripts/install-deps names: exit code %d: %s", code, out)
		}
		if _, err := b.Run(ctx, `sed -i '/^Package: attr$/,/^$/ s/^Status: .*/Status: deinstall ok config-files/' /var/lib/dpkg/status
			echo 'Acquire::Retries "0";' >/etc/apt/apt.conf.d/00no-retries
			printf '#!/bin/sh\nexit 104\n' >/usr/sbin/policy-rc.d
			chmod 0700 /usr/sbin/policy-rc.d`); err != nil {
			t.Fatal(err)
		}
		if code, out := try(); code != 3 || !strings.Contains(out, "error: ") || !strings.Contains(out, "nothing was changed") {
			t.Errorf("beside a running web server: exit code %d, want 3: %s", code, out)
		}
		if err := b.StopWeb(ctx); err != nil {
			t.Fatal(err)
		}
		code, out := try("--dry-run")
		if b.Panel == "cpanel" {
			if code != 3 || !strings.Contains(out, "/usr/local/cpanel") {
				t.Errorf("beside a panel: exit code %d, want 3: %s", code, out)
			}
			return
		}
		if code != 0 || !strings.Contains(out, "will install: attr") {
			t.Errorf("dry run: exit code %d: %s", code, out)
		}
		// There is no network in the box: the installation fails, and leaves things as they were.
		try()
		after, err := b.Run(ctx, `stat -c %a /usr/sbin/policy-rc.d; cat /usr/sbin/policy-rc.d; ls /usr/sbin/policy-rc.d*`)
		if want := "700\n#!/bin/sh\nexit 104\n/usr/sbin/policy-rc.d\n"; err != nil || after != want {
			t.Errorf("policy-rc.d afterwards: %q, %v, want %q", after, err, want)
		}
	})
}
