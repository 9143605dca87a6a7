// Command bench measures the program against other tools on trees like those of a hosting server, in one run.
//
// It builds the trees itself in a scratch directory (accounts of about 5,000 entries: WordPress, mail, logs; a directory of
// 200,000 files; directories 500 deep), runs every command once to warm up and then in turns, and prints entries per
// second, CPU time per entry, peak memory and the ratios between neighbours, as Markdown. Each figure is a median, with the
// spread beside it. It promises to say which of its targets are met and by how much the others are missed, and to exit 0
// either way: speed is to be looked at, not to fail a build. It refuses to work on anything but trees of its own making.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	err := benchmark(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(3)
	}
}

// bench is one run of the whole.
type bench struct {
	out, err   io.Writer
	self       string
	rightful   string
	dir        string
	rounds     int
	cold       bool
	targets    []target
	memory     map[int][2]float64 // size: check, fix
	takeMemory map[int]float64    // size: snapshot take
	perEntry   map[int]float64    // size: µs
}

func (b *bench) printf(format string, args ...any) { fmt.Fprintf(b.out, format, args...) }
func (b *bench) note(format string, args ...any)   { fmt.Fprintf(b.err, "bench: "+format+"\n", args...) }

func benchmark(ctx context.Context, args []string, out, errs io.Writer) error {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(errs)
	sizes := fs.String("sizes", "10000,100000,1000000", "how many entries the trees have, about")
	dir := fs.String("dir", orElse(os.Getenv("BENCHDIR"), "/var/tmp"), "where to build the trees")
	keep := fs.Bool("keep", false, "leave the trees there, and use those that are")
	rounds := fs.Int("rounds", 5, "how often each command is measured")
	quick := fs.Bool("quick", false, "a tiny tree and one round: to see that it works")
	only := fs.String("only", "", "only these parts, separated by commas: walk, fix, snapshot, rescue, script, cold, odd, logs, vault")
	rightful := fs.String("rightful", "bin/rightful", "the program to measure")
	run := fs.String("step", "", "only run this `PART` below the directory given: floor, walk, attrs, policy, check, damage, heal")
	profile := fs.String("cpuprofile", "", "with -step: write a CPU profile there")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *run != "" {
		return oneStep(*run, fs.Arg(0), *profile, errs)
	}
	b := &bench{out: out, err: errs, rounds: max(1, *rounds), cold: true, memory: map[int][2]float64{}, takeMemory: map[int]float64{}, perEntry: map[int]float64{}}
	many, depth, logs, kept := 200_000, 500, int64(1<<30), 1000
	if *quick {
		*sizes, b.rounds, b.cold, many, depth, logs, kept = "5000", 1, false, 500, 40, 4<<20, 5
	}
	if unix.Geteuid() != 0 {
		return errors.New("build trees of many owners: not root")
	}
	var err error
	if b.self, err = os.Executable(); err == nil {
		b.rightful, err = filepath.Abs(*rightful)
	}
	if err == nil {
		_, err = exec.LookPath(b.rightful)
	}
	if err == nil {
		err = b.need(ctx)
	}
	if err != nil {
		return err
	}
	b.dir = filepath.Join(*dir, "rightful-bench")
	if !*keep {
		defer os.RemoveAll(b.dir)
	}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	want := func(part string) bool { return *only == "" || strings.Contains(","+*only+",", ","+part+",") }
	b.header()
	list := strings.Split(*sizes, ",")
	for i, s := range list {
		size, err := strconv.Atoi(s)
		if err != nil || size < 1 {
			return fmt.Errorf("size %q is not a number of entries", s)
		}
		if err := b.size(ctx, size, i == len(list)-1, want); err != nil {
			return err
		}
	}
	if want("odd") {
		if err := b.odd(ctx, many, depth); err != nil {
			return err
		}
	}
	if want("logs") {
		if err := b.logs(ctx, logs); err != nil {
			return err
		}
	}
	if want("vault") {
		if err := b.vaults(ctx, kept); err != nil {
			return err
		}
	}
	b.growth()
	b.printTargets()
	return nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func oneStep(what, root, profile string, errs io.Writer) error {
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	n, err := step(what, root)
	fmt.Fprintln(errs, n, "entries")
	return err
}

func (b *bench) header() {
	var u unix.Utsname
	unix.Uname(&u)
	var st unix.Statfs_t
	unix.Statfs(b.dir, &st)
	kind := map[int64]string{unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs"}[int64(st.Type)]
	var info unix.Sysinfo_t
	unix.Sysinfo(&info)
	load, _, _ := strings.Cut(readAll("/proc/loadavg"), " ")
	b.printf("Linux %s, %d processors, %d GiB, %s, %s, %d rounds in turns after one to warm up, medians. Load before: %s.\n",
		unix.ByteSliceToString(u.Release[:]), runtime.NumCPU(), (uint64(info.Totalram)*uint64(info.Unit)+1<<29)>>30,
		orElse(kind, "another file system"), runtime.Version(), b.rounds, load)
}

func readAll(file string) string {
	b, _ := os.ReadFile(file)
	return string(b)
}

// grown builds a world, or takes the one that is there.
func (b *bench) grown(w *world) error {
	done := w.root + ".built"
	if text, err := os.ReadFile(done); err == nil {
		w.entries, err = strconv.Atoi(string(text))
		return err
	}
	b.note("building %s", w.root)
	if err := os.RemoveAll(w.root); err != nil {
		return err
	}
	if err := w.build(); err != nil {
		return err
	}
	return os.WriteFile(done, []byte(strconv.Itoa(w.entries)), 0o644)
}

// perAccount is about how many entries an account has.
const perAccount = 5000

func (b *bench) size(ctx context.Context, size int, last bool, want func(string) bool) error {
	w := &world{root: filepath.Join(b.dir, strconv.Itoa(size)), accounts: max(1, size/perAccount)}
	if err := b.grown(w); err != nil {
		return err
	}
	b.printf("\n## %s entries in %d accounts\n", thousands(float64(w.entries)), w.accounts)
	if want("walk") {
		if err := b.walks(ctx, size, w, last); err != nil {
			return err
		}
	}
	if want("fix") {
		if err := b.fixes(ctx, size, w, last); err != nil {
			return err
		}
	}
	if want("snapshot") {
		if err := b.snapshots(ctx, size, w, last); err != nil {
			return err
		}
	}
	if !last {
		return nil
	}
	if want("rescue") {
		if err := b.rescues(ctx, w); err != nil {
			return err
		}
	}
	if want("script") {
		if err := b.script(ctx, w); err != nil {
			return err
		}
	}
	if want("cold") && b.cold {
		return b.coldly(ctx, w)
	}
	return nil
}

func (b *bench) contest(ctx context.Context, title string, cs []*contender, rounds int) error {
	if err := round(ctx, cs, false); err != nil {
		return err
	}
	for i := range rounds {
		b.note("%s: round %d of %d", title, i+1, rounds)
		if err := round(ctx, cs, true); err != nil {
			return err
		}
	}
	b.table(title, cs)
	return nil
}

// sound makes sure that check sees all of a world before it is measured, and that of a damaged one a good part is found.
func (b *bench) sound(ctx context.Context, w *world, findings int) error {
	c := b.verb(w, w.entries, "check", "--json")
	out, err := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...).Output()
	if exit := (*exec.ExitError)(nil); err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
		return fmt.Errorf("check %s: %w", w.root, err)
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	var sum struct{ Entries, Findings, Down, Broken int }
	if err := json.Unmarshal(lines[len(lines)-1], &sum); err != nil {
		return fmt.Errorf("check %s: %w", w.root, err)
	}
	if sum.Entries != w.entries || sum.Findings < findings || findings == 0 && sum.Findings+sum.Down+sum.Broken > 0 {
		return fmt.Errorf("check %s: of %d entries it saw %d; %d findings, %d sites down, %d broken", w.root, w.entries, sum.Entries, sum.Findings, sum.Down, sum.Broken)
	}
	return nil
}

func (b *bench) step(what string, w *world) *contender {
	label := map[string]string{"floor": "the floor", "walk": "the walk alone", "attrs": "the walk with attributes", "policy": "walk + policy"}[what]
	return &contender{name: label, argv: []string{b.self, "-step", what, w.root}, entries: w.entries}
}

// verb is a verb of the program on a world. Exit code 1 says that something is left to be said, which is no failure here.
func (b *bench) verb(w *world, entries int, args ...string) *contender {
	argv := append([]string{b.rightful, args[0], "--root", w.root, "--state", filepath.Join(b.dir, "state"), "--quiet"}, args[1:]...)
	return &contender{name: "rightful " + args[0], argv: argv, entries: entries, ok: []int{1}}
}

// peers are the tools to compare with. A bfs older than 3.0 has one thread only, so find in two processes, each with half of
// the homes, stands beside it.
func (b *bench) peers(w *world) (find, find2, bfs, getfacl *contender) {
	homes := filepath.Join(w.root, "home")
	const format = `%U %G %m %p\n`
	find = &contender{name: "find -printf", argv: []string{"find", homes, "-printf", format}, entries: w.entries}
	find2 = &contender{
		name: "find -printf, two processes", entries: w.entries,
		argv: []string{"sh", "-c", `find "$1" -mindepth 1 -maxdepth 1 -print0 | xargs -0 -P 2 -n "$2" sh -c 'exec find "$@" -printf "%U %G %m %p\n"' sh`, "sh", homes, strconv.Itoa(max(1, w.accounts/8))},
	}
	bfs = &contender{name: "bfs -j2 -printf", argv: []string{"bfs", "-j2", homes, "-printf", format}, entries: w.entries}
	if exec.Command("bfs", "-j2", "-version").Run() != nil {
		bfs.name, bfs.argv = "bfs -printf (one thread)", []string{"bfs", homes, "-printf", format}
	}
	getfacl = &contender{name: "getfacl -R -n -P", argv: []string{"getfacl", "-R", "-n", "-P", homes}, entries: w.entries}
	return find, find2, bfs, getfacl
}

// walks measures what only reads, on a healthy tree.
func (b *bench) walks(ctx context.Context, size int, w *world, last bool) error {
	floor, walk, judged := b.step("floor", w), b.step("walk", w), b.step("policy", w)
	check := b.verb(w, w.entries, "check")
	if err := b.sound(ctx, w, 0); err != nil {
		return err
	}
	start := &contender{name: "rightful version", argv: []string{b.rightful, "version"}, entries: 1}
	find, find2, bfs, getfacl := b.peers(w)
	if err := b.contest(ctx, "reading", []*contender{floor, walk, judged, check, find, find2, bfs, getfacl, start}, b.rounds); err != nil {
		return err
	}
	// The start of a process is no cost of an entry.
	b.perEntry[size] = (check.wall() - start.wall()).Seconds() * 1e6 / float64(w.entries)
	if last {
		b.atMost("the walk alone", walk, floor, 1.1)
		b.atMost("walk + policy", judged, floor, 1.4)
		b.faster("walk + policy", judged, find, 2)
		b.faster("walk + policy", judged, bfs, 1.4)
		b.atMost("check", check, floor, 2.2)
		b.faster("check", check, getfacl, 3)
	}
	return nil
}

// fixes measures a repair of a tree of which 30 % is wrong, and taking it back, which makes the tree wrong again for the
// next round.
func (b *bench) fixes(ctx context.Context, size int, w *world, last bool) error {
	b.note("putting 30 %% of %s wrong", w.root)
	if err := w.set(true); err != nil {
		return err
	}
	homes := filepath.Join(w.root, "home")
	mustBe := func(damaged bool, what string) func() error {
		return func() error {
			n, err := w.differ(damaged)
			if err == nil && n > 0 {
				err = fmt.Errorf("after %s %d entries are not as they were", what, n)
			}
			return err
		}
	}
	if err := b.sound(ctx, w, w.entries/4); err != nil {
		return err
	}
	check := b.verb(w, w.entries, "check")
	fix := b.verb(w, w.entries, "fix", "--yes")
	fix.ok, fix.after = nil, func() error { return b.sound(ctx, w, 0) }
	fix.before = func() error { return os.RemoveAll(filepath.Join(b.dir, "state")) }
	undo := b.verb(w, w.entries, "undo", "--yes")
	undo.ok, undo.after = nil, mustBe(true, "undo")
	cs := []*contender{check, fix, undo}
	chown := &contender{
		name: "chown -Rh; chmod -R", entries: w.entries,
		argv: []string{"sh", "-c", `chown -Rh 20001:20001 "$1"/* && chmod -R u=rwX,go=rX "$1"/*`, "sh", homes},
	}
	if last {
		cs = append(cs, chown)
		check.before = func() error { return w.set(true) }
	}
	if err := b.contest(ctx, "repairing", cs, b.rounds); err != nil {
		return err
	}
	b.memory[size] = [2]float64{check.rss(), fix.rss()}
	if last {
		b.atMost("fix", fix, chown, 1)
		b.atMost("undo", undo, fix, 1)
		b.under(fmt.Sprintf("memory of check, %s entries", thousands(float64(w.entries))), "MiB", check.rss(), 64)
		b.under(fmt.Sprintf("memory of fix, %s entries", thousands(float64(w.entries))), "MiB", fix.rss(), 64)
	}
	if err := os.RemoveAll(filepath.Join(b.dir, "state")); err != nil {
		return err
	}
	return w.set(false)
}

// script measures a repair of up to 50 accounts against the usual script.
func (b *bench) script(ctx context.Context, w *world) error {
	script, err := writeScript(b.dir)
	if err != nil {
		return err
	}
	part := *w
	part.accounts = min(w.accounts, 50)
	part.entries = w.entries * part.accounts / w.accounts
	wrong := func() error { return part.set(true) }
	fix := b.verb(&part, part.entries, "fix", "--yes")
	fix.before, fix.ok = wrong, nil
	usual := &contender{name: "fixperms script", argv: []string{"sh", script, filepath.Join(w.root, "home")}, entries: part.entries, before: wrong}
	for i := range part.accounts {
		fix.argv = append(fix.argv, name(i))
		usual.argv = append(usual.argv, fmt.Sprintf("%s=%d", name(i), firstUID+i))
	}
	if err := b.contest(ctx, fmt.Sprintf("repairing %d accounts", part.accounts), []*contender{fix, usual}, min(b.rounds, 3)); err != nil {
		return err
	}
	b.faster(fmt.Sprintf("fix of %d accounts", part.accounts), fix, usual, 20)
	return part.set(false)
}

func (b *bench) coldly(ctx context.Context, w *world) error {
	check, judged := b.verb(w, w.entries, "check"), b.step("policy", w)
	find, find2, bfs, _ := b.peers(w)
	cs := []*contender{judged, check, find, find2, bfs}
	for _, c := range cs {
		c.before = dropCaches
	}
	for i := range min(b.rounds, 3) {
		b.note("cold: round %d", i+1)
		if err := round(ctx, cs, true); err != nil {
			return err
		}
	}
	b.table("reading from a cold cache", cs)
	b.faster("check, cold", check, find, 1.5)
	b.faster("check, cold", check, bfs, 1.5)
	return nil
}

// odd measures trees that no account of the usual kind has.
func (b *bench) odd(ctx context.Context, many, depth int) error {
	w := odd(filepath.Join(b.dir, fmt.Sprintf("odd-%d-%d", many, depth)), many, depth)
	if err := b.grown(w); err != nil {
		return err
	}
	b.printf("\n## A directory of %s files, and directories %d deep\n", thousands(float64(many)), depth)
	find, find2, bfs, getfacl := b.peers(w)
	return b.contest(ctx, "reading odd trees", []*contender{b.step("floor", w), b.step("walk", w), b.step("policy", w), b.verb(w, w.entries, "check"), find, find2, bfs, getfacl}, b.rounds)
}

// growth compares the sizes with one another.
func (b *bench) growth() {
	var least, most int
	for size := range b.perEntry {
		if least == 0 || size < least {
			least = size
		}
		most = max(most, size)
	}
	if least < most {
		b.printf("\n### growth\n\n| entries | check, µs per entry, without the start of the process |\n|---:|---:|\n")
		for _, size := range []int{least, most} {
			b.printf("| %s | %.2f |\n", thousands(float64(size)), b.perEntry[size])
		}
		b.under(fmt.Sprintf("check, time per entry at %s against %s", thousands(float64(most)), thousands(float64(least))), "×", b.perEntry[most]/b.perEntry[least], 1.2)
	}
	fix := map[int]float64{}
	for size, m := range b.memory {
		fix[size] = m[1]
	}
	b.sameMemory("fix", fix)
	b.sameMemory("snapshot take", b.takeMemory)
}

// sameMemory demands that something takes as much memory for the largest tree as for one of 100,000 entries.
func (b *bench) sameMemory(what string, at map[int]float64) {
	from, to := 0, 0
	for size := range at {
		if size >= 100_000 && (from == 0 || size < from) {
			from = size
		}
		to = max(to, size)
	}
	if from > 0 && from < to {
		b.under("memory of "+what+" at the largest size against 100,000", "×", at[to]/at[from], 1.2)
	}
}
