package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"rightful/internal/snapshot"
	"rightful/internal/tree"

	"golang.org/x/sys/unix"
)

// snapshots measures what a record costs, and what it gives: taking one against the walk alone, its size, telling two
// apart, finding one path, and restoring a mass change against setfacl --restore.
func (b *bench) snapshots(ctx context.Context, size int, w *world, last bool) error {
	state := filepath.Join(b.dir, "state")
	acl := func(how ...string) error {
		// About one entry in three hundred has an ACL.
		args := append([]string{"-R"}, how...)
		for i := range w.accounts {
			args = append(args, filepath.Join(w.home(i), "public_html/wp-content/uploads/2020/01"))
		}
		if out, err := exec.CommandContext(ctx, "setfacl", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("setfacl: %w: %s", err, out)
		}
		return nil
	}
	if err := acl("-m", "u:34:rX"); err != nil {
		return err
	}
	defer acl("-b")
	walk, attrs := b.step("walk", w), b.step("attrs", w)
	take := b.verb(w, w.entries, "snapshot", "take")
	take.name = "rightful snapshot take"
	take.before = func() error { return os.RemoveAll(state) }
	again := b.verb(w, w.entries, "snapshot", "take")
	again.name = "the same again, unchanged"
	guard := b.verb(w, w.entries, "guard", "--", "true")
	guard.name = "rightful guard -- true"
	if err := b.contest(ctx, "taking a snapshot", []*contender{walk, attrs, take, again, guard}, b.rounds); err != nil {
		return err
	}
	b.takeMemory[size] = take.rss()
	if !last {
		return os.RemoveAll(state)
	}
	b.atMost("snapshot take", take, attrs, 1.3)
	b.atMost("snapshot take", take, walk, 1.3)
	b.atMost("snapshot take of what did not change", again, walk, 1.3)
	b.atMost("guard -- true", guard, walk, 2)
	if err := b.restoring(ctx, w); err != nil {
		return err
	}
	if err := b.records(w); err != nil {
		return err
	}
	return os.RemoveAll(state)
}

// accidents are what is restored: an ownership script that goes over the document roots of all accounts, and a mass change
// of everything.
var accidents = []struct{ name, script string }{
	{"document roots", `for d in "$1"/*/public_html; do chown "$(stat -c %u "$d"):$(stat -c %u "$d")" "$d"; done`},
	{"everything", `chown -Rh 20001:20001 "$1"/* && chmod -R u=rwX,go=rX "$1"/*`},
}

// restoring measures the way back from accidents, and leaves two snapshots: before the last of them and after.
func (b *bench) restoring(ctx context.Context, w *world) error {
	homes := filepath.Join(w.root, "home")
	dump := filepath.Join(b.dir, "dump")
	run := func(argv ...string) error {
		if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", argv[0], err, out)
		}
		return nil
	}
	const shell = `getfacl -R -n -P -p "$1" > "$2"`
	if err := run("sh", "-c", shell, "sh", homes, dump); err != nil {
		return err
	}
	same := func() error {
		now := dump + ".now"
		if err := run("sh", "-c", shell, "sh", homes, now); err != nil {
			return err
		}
		return run("cmp", dump, now)
	}
	var accident func() error
	for _, a := range accidents {
		accident = func() error { return run("sh", "-c", a.script, "sh", homes) }
		restore := b.verb(w, w.entries, "snapshot", "restore", "latest", "--yes")
		restore.name, restore.before, restore.after = "rightful snapshot restore", accident, same
		setfacl := &contender{name: "setfacl --restore", argv: []string{"setfacl", "--restore=" + dump}, entries: w.entries, before: accident}
		if err := b.contest(ctx, "restoring "+a.name, []*contender{restore, setfacl}, min(b.rounds, 3)); err != nil {
			return err
		}
		b.faster("snapshot restore of "+a.name, restore, setfacl, 3)
	}
	if err := accident(); err != nil {
		return err
	}
	after := b.verb(w, w.entries, "snapshot", "take")
	if err := run(after.argv...); err != nil {
		return err
	}
	return run("setfacl", "--restore="+dump)
}

// records measures the records by themselves, in this process.
func (b *bench) records(w *world) error {
	srv, err := tree.OpenServer(w.root)
	if err != nil {
		return err
	}
	defer srv.Close()
	st, err := snapshot.Open(filepath.Join(b.dir, "state"), srv)
	if err != nil {
		return err
	}
	all, err := st.List()
	if err != nil || len(all) < 2 {
		return fmt.Errorf("%d snapshots, %w", len(all), err)
	}
	after, before := all[0], all[1]
	var what, which, index, entries int64
	var paths [][2]string
	for i := range before.Accounts {
		name := before.Accounts[i].Account
		r, err := st.Account(before, name)
		if err != nil {
			return err
		}
		a, c, d := r.Sizes()
		what, which, index, entries = what+a, which+c, index+d, entries+int64(r.Entries)
		for e, err := range r.All() {
			if err != nil {
				return err
			}
			if e.Number%1009 == 7 {
				paths = append(paths, [2]string{name, e.Rel})
			}
		}
		r.Close()
	}
	per := func(n int64) float64 { return float64(n) / float64(entries) }
	diffs, diff, err := timed(b.rounds, func() (n int, err error) {
		for i := range before.Accounts {
			ra, err := st.Account(before, before.Accounts[i].Account)
			if err != nil {
				return n, err
			}
			rb, err := st.Account(after, before.Accounts[i].Account)
			if err == nil {
				err = snapshot.Diff(ra, rb, func(*snapshot.Difference) error { n++; return nil })
				rb.Close()
			}
			ra.Close()
			if err != nil {
				return n, err
			}
		}
		return n, nil
	})
	if err != nil {
		return err
	}
	found, lookup, err := timed(b.rounds, func() (n int, err error) {
		for _, p := range paths {
			r, err := st.Account(before, p[0])
			if err != nil {
				return n, err
			}
			e, err := r.Lookup("/home/"+p[0], p[1])
			r.Close()
			if err != nil || e == nil {
				return n, fmt.Errorf("look up %q: %w", p[1], err)
			}
			n++
		}
		return n, nil
	})
	if err != nil {
		return err
	}
	each := lookup.Seconds() * 1e3 / float64(found)
	b.printf("\n### records\n\n| what | |\n|---|---:|\n| paths, kind, owner, group, mode, ACL | %.2f B an entry |\n| inode, times, size, links | %.2f B an entry |\n| index | %.2f B an entry |\n| telling two apart that differ in %s entries | %.1f ms of a processor |\n| finding one path, the record opened for it | %.3f ms of a processor |\n",
		per(what), per(which), per(index), thousands(float64(diffs)), diff.Seconds()*1e3, each)
	b.under("snapshot: paths, kind, owner, group, mode, ACL", "B", per(what+index), 7)
	b.under("snapshot: with identity, size and times", "B", per(what+which+index), 20)
	b.under(fmt.Sprintf("snapshot: diff of two of %s entries", thousands(float64(entries))), "ms", diff.Seconds()*1e3, 50)
	b.under("snapshot: one path looked up", "ms", each, 1)
	return nil
}

// timed gives the median processor time of some rounds, which are for one thread, and what the last one gave. Other
// processes can take the clock's time, but not that.
func timed(rounds int, f func() (int, error)) (n int, d time.Duration, err error) {
	var took []time.Duration
	for range rounds {
		start := processor()
		if n, err = f(); err != nil {
			return n, 0, err
		}
		took = append(took, processor()-start)
	}
	slices.Sort(took)
	return n, took[len(took)/2], nil
}

func processor() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
