package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"
)

// calmly runs three waits for a lower load at once, and gives how long they took, how they ended and what was said.
func calmly(ctx context.Context, load func() (float64, error), args ...string) (took time.Duration, errs []error, said string) {
	var out, stderr bytes.Buffer
	env := Env{Stdout: &out, Stderr: &stderr, Args: append([]string{"try"}, args...), Getenv: func(string) string { return "" }, Load: load}
	run(ctx, env, []func(*app) *cobra.Command{func(a *app) *cobra.Command {
		return a.command(verb{use: "try", bare: true, run: func(ctx context.Context, _ []string) error {
			begun, ends := time.Now(), make(chan error)
			for range 3 {
				go func() { ends <- a.calm(ctx) }()
			}
			for range 3 {
				errs = append(errs, <-ends)
			}
			took = time.Since(begun)
			return nil
		}})
	}})
	return took, errs, stderr.String()
}

// No account is begun while the load is above the limit; it is said once, and an interrupt ends the wait.
func TestNothingIsBegunWhileTheLoadIsTooHigh(t *testing.T) {
	for name, c := range map[string]struct {
		args  []string
		load  func(time.Duration) (float64, error)
		least time.Duration
		most  time.Duration
		said  string
		err   error
	}{
		"high for a while": {
			[]string{"--max-load", "4"},
			func(d time.Duration) (float64, error) { return 4.01 - float64(d/(30*time.Second)), nil },
			30 * time.Second, 30*time.Second + 2*loadEvery, "the load is 4.01: waiting until it is 4 or less\n", nil,
		},
		"just as allowed": {[]string{"--max-load", "4"}, func(time.Duration) (float64, error) { return 4, nil }, 0, 0, "", nil},
		"no limit":        {nil, func(time.Duration) (float64, error) { return 400, nil }, 0, 0, "", nil},
		"no figure":       {[]string{"--max-load", "1"}, func(time.Duration) (float64, error) { return 400, errors.New("no") }, 0, 0, "", nil},
		"interrupted": {
			[]string{"--max-load", "1"},
			func(time.Duration) (float64, error) { return 9, nil },
			time.Hour, time.Hour, "the load is 9.00: waiting until it is 1 or less\n", context.DeadlineExceeded,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				took, errs, said := calmly(ctx, func() (float64, error) { return c.load(time.Since(begun)) }, c.args...)
				if took < c.least || took > c.most {
					t.Errorf("it took %v, want %v to %v", took, c.least, c.most)
				}
				for _, err := range errs {
					if !errors.Is(err, c.err) {
						t.Errorf("%v, want %v", err, c.err)
					}
				}
				if strings.Count(said, "the load") != strings.Count(c.said, "the load") || !strings.HasPrefix(said, c.said) {
					t.Errorf("said %q, want %q", said, c.said)
				}
			})
		})
	}
}
