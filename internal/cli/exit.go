package cli

import (
	"context"
	"errors"
	"fmt"
)

// The exit codes, one table for all verbs.
const (
	exitOK          = 0   // done, nothing wrong
	exitFindings    = 1   // findings, or some changes skipped or failed, or some panel file unreadable
	exitUsage       = 2   // usage, unknown account
	exitCannot      = 3   // cannot run, nothing was changed
	exitTakenBack   = 4   // verification failed, taken back
	exitInterrupted = 130 // as a shell says of a command that SIGINT ended
)

// exitTexts is what help says of the codes where a verb does not say it more exactly.
var exitTexts = map[int]string{
	exitOK:          "done, nothing wrong",
	exitFindings:    "findings, or something was skipped, failed or unreadable",
	exitUsage:       "wrong usage, or an unknown account",
	exitCannot:      "cannot run; nothing was changed",
	exitTakenBack:   "verification failed; taken back",
	exitInterrupted: "interrupted",
}

// A failure is an error that knows its exit code and what to do about it.
type failure struct {
	code  int
	err   error
	hints []string
}

func (f *failure) Error() string {
	if f.err == nil {
		return fmt.Sprintf("exit status %d", f.code)
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

// fail makes an error that ends the program with code. Hints are commands or choices, ready to paste (see
// [term.Command]); each is printed as a line of its own.
func fail(code int, err error, hints ...string) error {
	return &failure{code, err, hints}
}

// exitWith ends the program with code and says nothing more: the answer said it all.
func exitWith(code int) error {
	if code == exitOK {
		return nil
	}
	return &failure{code: code}
}

// report prints an error for a person and gives the exit code.
func (a *app) report(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	f := &failure{code: exitCannot, err: err}
	msg := err.Error()
	switch {
	case errors.As(err, &f):
	case ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))):
		f.code, msg = exitInterrupted, "interrupted"
	case !a.started: // cobra's own: an unknown verb, too many arguments
		f.code, f.hints = exitUsage, []string{a.cmd + " --help"}
	}
	if f.err != nil {
		a.term.Say("error: " + msg)
	}
	for _, h := range f.hints {
		a.term.Say("hint: " + h)
	}
	return f.code
}
