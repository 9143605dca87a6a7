package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"rightful/internal/panel"
	"rightful/internal/term"

	"golang.org/x/sys/unix"
)

// yield asks the kernel for the lowest priority of processor and disk, if the operator wants that or systemd started us:
// a timer runs beside the customers' sites. What it cannot get it does without.
func (a *app) yield() {
	if !a.cfg.Background && a.env.Getenv("INVOCATION_ID") == "" {
		return
	}
	const (
		whoProcess = 1       // IOPRIO_WHO_PROCESS
		idle       = 3 << 13 // IOPRIO_CLASS_IDLE
	)
	// Both are attributes of a thread. One begun later inherits them, but perhaps from a thread whose turn has not come:
	// so it is looked until there is no new one.
	seen := map[string]bool{}
	for more := true; more; {
		more = false
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return
		}
		for _, t := range tasks {
			tid, err := strconv.Atoi(t.Name())
			if err != nil || seen[t.Name()] {
				continue
			}
			seen[t.Name()], more = true, true
			unix.Setpriority(unix.PRIO_PROCESS, tid, 19)
			unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(tid), idle)
		}
	}
}

// busy lists who is changing accounts that are to be worked on; no name means all.
func (c *checking) busy(names []string) []panel.Process {
	var chosen []*panel.Account
	for i := range c.ps.Accounts {
		if a := &c.ps.Accounts[i]; len(names) == 0 || slices.Contains(names, a.Name) {
			chosen = append(chosen, a)
		}
	}
	return panel.Busy(c.s, c.ps.Accounts, chosen)
}

// busyEvery is how often it is looked whether somebody is still changing the accounts.
const busyEvery = time.Second

// alone returns when no process of root's is changing the named accounts (all, if none is named): the culprit may still be
// running, and two repairs at once repair nothing. Without wait it refuses.
func (a *app) alone(ctx context.Context, c *checking, names []string, wait bool) error {
	var tick <-chan time.Time
	for {
		busy := c.busy(names)
		if len(busy) == 0 {
			return nil
		}
		b := busy[0]
		if !wait {
			return fail(exitCannot, fmt.Errorf("begin: process %d is changing %s: %s; nothing was changed", b.PID, term.Quote(b.Path), term.Line(b.Command)),
				term.Command(slices.Concat([]string{"rightful"}, a.env.Args, []string{"--wait"})...))
		}
		if tick == nil {
			a.note("waiting for process %d, which is changing %s: %s", b.PID, term.Quote(b.Path), b.Command)
			t := time.NewTicker(busyEvery)
			defer t.Stop()
			tick = t.C
		}
		select {
		case <-tick:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// loadEvery is how often the load is looked at while it is too high.
const loadEvery = 2 * time.Second

// calm returns when the load average of the last minute is no higher than the operator allows. Whoever comes while another
// waits gets in line, so that one looks and one says it.
func (a *app) calm(ctx context.Context) error {
	a.yield() // a thread that was being made while yield last looked may have missed it
	if a.cfg.MaxLoad <= 0 {
		return nil
	}
	select {
	case a.line <- struct{}{}:
		defer func() { <-a.line }()
	case <-ctx.Done():
		return ctx.Err()
	}
	load := a.env.Load
	if load == nil {
		load = loadAverage
	}
	var tick <-chan time.Time
	for ctx.Err() == nil {
		now, err := load()
		if err != nil || now <= float64(a.cfg.MaxLoad) {
			return nil // without a figure there is nothing to wait for
		}
		if tick == nil {
			a.note("the load is %.2f: waiting until it is %d or less", now, a.cfg.MaxLoad)
			t := time.NewTicker(loadEvery)
			defer t.Stop()
			tick = t.C
		}
		select {
		case <-tick:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// loadAverage reads the first figure of the kernel's.
func loadAverage() (float64, error) {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, err
	}
	one, _, _ := strings.Cut(string(b), " ")
	return strconv.ParseFloat(one, 64)
}
