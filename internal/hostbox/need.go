package hostbox

import (
	"context"
	"strings"
)

// TB is what [StartFor] needs of a *testing.T. The package itself does not import testing: it is part of the program.
type TB interface {
	Helper()
	Context() context.Context
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(f func())
}

// StartFor starts a box that lives as long as the test. Where the machine can't have one, the test is skipped and says
// what is missing.
func StartFor(t TB, spec Spec) *Box {
	t.Helper()
	if missing := spec.requirements(); len(missing) > 0 {
		t.Skipf("needs %s", strings.Join(missing, ", "))
	}
	b, err := Start(t.Context(), spec)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Fatalf("%v", err)
		}
	})
	return b
}
