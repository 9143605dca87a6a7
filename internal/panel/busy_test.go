package panel

import (
	"testing"

	"rightful"
)

// A process is a culprit if root runs something that changes trees on a home, whatever shell or niceness stands before it.
func TestWhoChangesHomesIsKnownByItsCommandLine(t *testing.T) {
	accounts := []Account{
		{Account: rightful.Account{Name: "alice", Home: "/home/alice"}},
		{Account: rightful.Account{Name: "bob", Home: "/home2/bob"}},
	}
	for _, c := range []struct {
		args []string
		cwd  string
		want string
	}{
		{[]string{"chown", "-R", "alice:alice", "/home/alice/public_html"}, "/root", "/home/alice/public_html"},
		{[]string{"/bin/chmod", "-R", "755", "/home"}, "/root", "/home"},
		{[]string{"chown", "-R", "alice", "."}, "/home/alice", "alice"},
		{[]string{"chown", "-R", "1001", "."}, "/home/alice", "/home/alice"},
		{[]string{"bash", "/root/fixperms", "bob"}, "/root", "bob"},
		{[]string{"/usr/bin/perl", "/scripts/restorepkg", "bob"}, "/", "bob"},
		{[]string{"nice", "rsync", "-a", "/backup/", "/home/"}, "/", "/home/"},
		{[]string{"find", "/home/alice", "-exec", "chmod", "644", "{}", "+"}, "/", "/home/alice"},
		{[]string{"find", "/home/alice", "-name", "x"}, "/", ""},
		{[]string{"tar", "xzf", "/root/b.tgz", "-C", "/home/alice"}, "/", "/home/alice"},
		{[]string{"tar", "czf", "/root/b.tgz", "/home/alice"}, "/", ""},
		{[]string{"chown", "-R", "x", "/home/alicex"}, "/", ""},
		{[]string{"chown", "-R", "x", "/srv"}, "/home/alice", ""},
		{[]string{"ls", "/home/alice"}, "/", ""},
		{[]string{"vi", "/root/chown"}, "/home/alice", ""},
		{[]string{""}, "/home/alice", ""},
	} {
		got := ""
		if changes(c.args) {
			got = worksOn(c.args, c.cwd, accounts)
		}
		if got != c.want {
			t.Errorf("%q in %q: %q, want %q", c.args, c.cwd, got, c.want)
		}
	}
}
