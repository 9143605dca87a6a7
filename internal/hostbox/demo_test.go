package hostbox

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// stub speaks as rightful does and knows just enough to play its part on a cPanel-shaped box. Its faults are those
// that the demo must not overlook.
const stub = `#!/bin/sh
fault=FAULT
roots() { sed 's/^[^:]*: //' /etc/userdatadomains | awk -F== '{ print $1 ":" $5 }' | sort -u; }
group() { # of all document roots: the web server's, or the customer's own
	roots | while IFS=: read -r user root; do chgrp "${1:-$user}" "$root"; done
}
case "$*" in
check)
	roots | while IFS=: read -r user root; do [ "$(stat -c %G "$root")" = nobody ] || exit 1; done ||
		{ echo "all sites are down"; exit 1; }
	echo "nothing is wrong" ;;
logs) echo "broken and in no log"; exit 1 ;;
'explain http://'*) echo "why"; exit 1 ;;
'guard -- /root/fix-ownership')
	/root/fix-ownership
	[ $fault = lazy-guard ] || group nobody
	exit 4 ;;
'--json check')
	awk '$2 != "localhost" && $2 != "box" { print $2 }' /etc/hosts | while read -r site; do
		[ "$fault$site" != blind-checkbob.example ] || continue
		echo '{"kind":"site","site":"'"$site"'","state":"down","later":1}'
	done
	echo '{"kind":"summary"}'
	exit 1 ;;
'fix --yes')
	[ $fault = lazy-fix ] || group nobody
	[ $fault != partial-fix ] || exit 1 ;;
'undo --yes')
	[ $fault = lazy-undo ] || group ''
	[ $fault != inexact-undo ] || chmod o+r /home/alice/public_html/.env ;;
runs) echo "r1 fix"; echo "r2 undo" ;;
'--json runs')
	echo '{"kind":"run","run":"r2","verb":"undo","undoes":"r1","started":"2024-03-01T12:00:02Z"}'
	echo '{"kind":"run","run":"r1","verb":"fix","started":"2024-03-01T12:00:01Z"}' ;;
'undo r2 --yes') [ $fault = lazy-redo ] || group nobody ;;
'snapshot take' | 'vault take' | 'rescue alice --finish --yes') ;;
'rescue alice --from /root/alice.tar.gz --yes') [ $fault = lazy-rescue ] || tar -C / -xzpf /root/alice.tar.gz ;;
*) echo "unknown: $*" >&2; exit 2 ;;
esac
`

func TestTheDemoHoldsEveryStepAgainstTheServer(t *testing.T) {
	if missing := Requirements(); len(missing) > 0 {
		t.Skipf("needs %s", strings.Join(missing, ", "))
	}
	for _, test := range []struct{ fault, want string }{
		{"none", ""},
		{"blind-check", "rightful check says"},
		{"lazy-fix", "do not answer 200"},
		{"partial-fix", "exit code 1, want 0"},
		{"lazy-undo", "after the undo"},
		{"lazy-redo", "do not answer 200"},
		{"inexact-undo", "/home/alice/public_html/.env"},
		{"lazy-guard", "do not answer 200"},
		{"lazy-rescue", "do not answer 200"},
	} {
		t.Run(test.fault, func(t *testing.T) {
			binary := filepath.Join(t.TempDir(), "rightful")
			if err := os.WriteFile(binary, []byte(strings.Replace(stub, "FAULT", test.fault, 1)), 0o755); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			err := Demo(t.Context(), DemoOptions{Binary: binary, Stdout: &out, Stderr: testLog{t}, Accounts: 2})
			switch {
			case test.want == "" && err != nil:
				t.Fatalf("%v\n%s", err, &out)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error %v, want %q in it", err, test.want)
			case test.want == "":
				t.Logf("%s", &out)
				for _, s := range []string{
					"\nbox# /root/fix-ownership\n", "\nbox# rightful undo r2 --yes\n", "403  http://alice.example/\n",
					"\n5 answer 403\n", "\n5 answer 200\n",
					"\nbox# rightful logs\n", "\nbox# rightful guard -- /root/fix-ownership\n", "\nbox# rightful rescue alice --from /root/alice.tar.gz --yes\n", "2 accounts, 5 sites: 5 broken",
				} {
					if !strings.Contains(out.String(), s) {
						t.Errorf("the story lacks %q", s)
					}
				}
			}
		})
	}
}

func TestTheDemoNeedsABinary(t *testing.T) {
	if err := Demo(t.Context(), DemoOptions{}); err == nil {
		t.Error("a demo without a binary")
	}
}
