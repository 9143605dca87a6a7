// Command rightful puts every file on a shared web-hosting server back in its rightful hands.
//
// It knows the process only: streams, signals, exit code. It promises that the first SIGINT or SIGTERM asks the verb to
// stop in order and the second one kills; SIGUSR1 prints progress. It refuses to decide anything: internal/cli does.
package main

import (
	"context"
	"os"
	"os/signal"

	"rightful/internal/cli"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

func main() {
	var ends []os.Signal
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGTERM} {
		if !signal.Ignored(s) { // by whoever started us, who wants it to stay so
			ends = append(ends, s)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	if len(ends) > 0 { // none would be all
		ctx, stop = signal.NotifyContext(ctx, ends...)
	}
	context.AfterFunc(ctx, stop) // from now on the kernel's default: the next signal kills
	poke := make(chan os.Signal, 1)
	signal.Notify(poke, unix.SIGUSR1)
	tty := func(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
	os.Exit(cli.Main(ctx, cli.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Args: os.Args[1:], Getenv: os.Getenv, EUID: os.Geteuid(),
		StdinTTY: tty(os.Stdin), StdoutTTY: tty(os.Stdout), StderrTTY: tty(os.Stderr), Poke: poke,
		Width: func() int { w, _, _ := term.GetSize(int(os.Stderr.Fd())); return w },
	}))
}
