package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A contender is one command that is measured.
type contender struct {
	name    string
	argv    []string
	entries int
	ok      []int        // exit codes that are success, besides 0
	before  func() error // not measured; nil for nothing
	after   func() error // not measured, and only once; nil for nothing
	runs    []sample
}

type sample struct {
	wall, cpu time.Duration
	rss       int64 // KiB
}

// round runs every contender once, one after the other.
func round(ctx context.Context, cs []*contender, keep bool) error {
	for _, c := range cs {
		if c.before != nil {
			if err := c.before(); err != nil {
				return fmt.Errorf("prepare %s: %w", c.name, err)
			}
		}
		s, err := run(ctx, c)
		if err != nil {
			return fmt.Errorf("run %s: %w", c.name, err)
		}
		if keep {
			c.runs = append(c.runs, s)
		} else if c.after != nil {
			if err := c.after(); err != nil {
				return fmt.Errorf("look after %s: %w", c.name, err)
			}
		}
	}
	return nil
}

// run runs a command below time(1): of a process that starts another one, the kernel reports the starter's own memory as
// the least that the other had, and time's is small.
func run(ctx context.Context, c *contender) (s sample, err error) {
	out, err := os.CreateTemp("", "bench-*")
	if err != nil {
		return s, err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd := exec.CommandContext(ctx, "/usr/bin/time", append([]string{"-q", "-f", "%M", "-o", out.Name()}, c.argv...)...)
	cmd.WaitDelay = time.Second
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return s, err
	}
	defer null.Close()
	var said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = null, null, &said
	start := time.Now()
	err = cmd.Run()
	s.wall = time.Since(start)
	if ctx.Err() != nil {
		return s, ctx.Err()
	}
	if code := cmd.ProcessState.ExitCode(); err != nil && !slices.Contains(c.ok, code) {
		return s, fmt.Errorf("%w: %s", err, said.String())
	}
	s.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	b, err := os.ReadFile(out.Name())
	if err != nil {
		return s, err
	}
	lines := strings.Fields(string(b))
	if len(lines) > 0 {
		s.rss, err = strconv.ParseInt(lines[len(lines)-1], 10, 64)
	}
	return s, err
}

func (c *contender) wall() time.Duration {
	return median(c.runs, func(s sample) time.Duration { return s.wall })
}

func (c *contender) cpu() time.Duration {
	return median(c.runs, func(s sample) time.Duration { return s.cpu })
}

// rss is the most that any run had, in MiB.
func (c *contender) rss() float64 {
	var most int64
	for _, s := range c.runs {
		most = max(most, s.rss)
	}
	return float64(most) / 1024
}

// spread is how far the slowest run lay from the fastest, of the median.
func (c *contender) spread() float64 {
	lo, hi := c.runs[0].wall, c.runs[0].wall
	for _, s := range c.runs {
		lo, hi = min(lo, s.wall), max(hi, s.wall)
	}
	return float64(hi-lo) / float64(c.wall())
}

func median(runs []sample, of func(sample) time.Duration) time.Duration {
	v := make([]time.Duration, len(runs))
	for i, s := range runs {
		v[i] = of(s)
	}
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// ratio compares two contenders round by round: the median of the ratios of runs that stood side by side, which a machine
// that is slow for a minute does not change. It is how many times as long a takes as b.
func ratio(a, b *contender) float64 {
	v := make([]float64, len(a.runs))
	for i := range v {
		v[i] = float64(a.runs[i].wall) / float64(b.runs[i].wall)
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// table prints contenders as a Markdown table.
func (b *bench) table(title string, cs []*contender) {
	b.printf("\n### %s\n\n| command | wall s | spread | entries/s | µs CPU/entry | peak RSS MiB |\n|---|---:|---:|---:|---:|---:|\n", title)
	for _, c := range cs {
		b.printf("| %s | %.3f | %.0f %% | %s | %.2f | %.0f |\n", c.name, c.wall().Seconds(), c.spread()*100,
			thousands(float64(c.entries)/c.wall().Seconds()), float64(c.cpu().Nanoseconds())/1e3/float64(c.entries), c.rss())
	}
}

func thousands(f float64) string {
	s := strconv.FormatInt(int64(f), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// A target is a promise and how far it is kept.
type target struct {
	what string
	got  string
	want string
	cpu  string  // the same in processor time, which a busy machine changes less; "" where it has no meaning
	by   float64 // > 0: missed by this part
}

func cpuRatio(a, b *contender) string {
	return fmt.Sprintf("%.2f ×", float64(a.cpu())/float64(b.cpu()))
}

// atMost demands that a takes no more than times as long as b.
func (b *bench) atMost(what string, a, peer *contender, times float64) {
	r := ratio(a, peer)
	b.targets = append(b.targets, target{
		what: what + " against " + peer.name, got: fmt.Sprintf("%.2f × its time", r), want: fmt.Sprintf("≤ %.2f ×", times), by: r/times - 1,
		cpu: cpuRatio(a, peer),
	})
}

// faster demands that a is times as fast as b.
func (b *bench) faster(what string, a, peer *contender, times float64) {
	r := 1 / ratio(a, peer)
	b.targets = append(b.targets, target{
		what: what + " against " + peer.name, got: fmt.Sprintf("%.2f × as fast", r), want: fmt.Sprintf("≥ %.2f ×", times), by: 1 - r/times,
		cpu: cpuRatio(a, peer),
	})
}

func (b *bench) least(what, unit string, got, want float64) {
	b.targets = append(b.targets, target{what: what, got: fmt.Sprintf("%.0f %s", got, unit), want: fmt.Sprintf("≥ %.0f %s", want, unit), by: 1 - got/want})
}

func (b *bench) under(what, unit string, got, want float64) {
	b.targets = append(b.targets, target{what: what, got: fmt.Sprintf("%.1f %s", got, unit), want: fmt.Sprintf("≤ %.1f %s", want, unit), by: got/want - 1})
}

func (b *bench) printTargets() {
	b.printf("\n### Targets\n\n| what | got | target | | processor time |\n|---|---|---|---|---|\n")
	for _, t := range b.targets {
		verdict := "met"
		if t.by > 0 {
			verdict = fmt.Sprintf("missed by %.0f %%", t.by*100)
		}
		b.printf("| %s | %s | %s | %s | %s |\n", t.what, t.got, t.want, verdict, t.cpu)
	}
}

// dropCaches makes the next walk start from the disk.
func dropCaches() error {
	syscall.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3\n"), 0o644)
}

// need finds the peers, and installs those that are missing where apt can.
func (b *bench) need(ctx context.Context) error {
	var missing []string
	for _, p := range []struct{ bin, pkg string }{{"bfs", "bfs"}, {"getfacl", "acl"}, {"/usr/bin/time", "time"}, {"find", "findutils"}, {"xargs", "findutils"}} {
		if _, err := exec.LookPath(p.bin); err != nil {
			missing = append(missing, p.pkg)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	b.note("installing what is compared with: %s", strings.Join(missing, " "))
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"install", "-y", "-q", "--no-install-recommends"}, missing...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get install %s: %w\n%s", strings.Join(missing, " "), err, out)
	}
	return nil
}

// fixperms is the kind of script that is passed around for this: one process for each directory, three passes, no record.
const fixperms = `#!/bin/sh
# usage: fixperms HOMES NAME=UID…
homes=$1; shift
for a; do
	u=${a#*=} h=$homes/${a%=*}
	chown -R "$u:$u" "$h"
	chmod 711 "$h"
	find "$h/public_html" -type d -exec chmod 755 {} \;
	find "$h/public_html" -type f -print0 | xargs -0 -r chmod 644
	chown "$u:33" "$h/public_html"
	chmod 750 "$h/public_html"
done
`

func writeScript(dir string) (string, error) {
	p := filepath.Join(dir, "fixperms")
	return p, os.WriteFile(p, []byte(fixperms), 0o755)
}
