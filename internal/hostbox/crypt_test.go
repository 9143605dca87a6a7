package hostbox

import (
	"os/exec"
	"strings"
	"testing"
)

// Passwords are hashed as the C library does it, by the word of Perl's crypt.
func TestPasswordsAreHashedAsTheCLibraryDoes(t *testing.T) {
	perl := lookPath("perl")
	if perl == "" {
		t.Skip("needs perl")
	}
	for _, test := range []struct{ password, salt string }{
		{"Hello world!", "saltstring"},
		{"", "x"},
		{"é \"\\", "0123456789abcdef"},
		{strings.Repeat("a", 63), "a"},
		{strings.Repeat("b", 64), "ab"},
		{strings.Repeat("c", 65), "abc"},
		{strings.Repeat("long ", 60), "./"},
	} {
		want, err := exec.Command(perl, "-e", "print crypt($ARGV[0], $ARGV[1])", test.password, "$6$"+test.salt).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := sha512Crypt(test.password, test.salt); got != string(want) {
			t.Errorf("%q with salt %q: %q, want %q", test.password, test.salt, got, want)
		}
	}
}
