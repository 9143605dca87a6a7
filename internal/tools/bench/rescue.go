package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// rescues measures how fast a home is rebuilt out of an archive: of all homes of a world, as if they were one. tar and
// chown only write; a rescue recognises, writes, judges every entry, and has it all on disk before it lets it in.
func (b *bench) rescues(ctx context.Context, w *world) error {
	archive := filepath.Join(b.dir, "homes.tar")
	home, aside := w.home(0), filepath.Join(w.root, "aside")
	if out, err := exec.CommandContext(ctx, "tar", "-C", w.root, "-cf", archive, "home").CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w: %s", err, out)
	}
	if err := os.Rename(home, aside); err != nil {
		return err
	}
	state, plain := filepath.Join(b.dir, "state"), filepath.Join(w.root, "plain")
	empty := func() error {
		left, err := filepath.Glob(filepath.Join(w.root, "home", ".rightful-rescue-*"))
		for _, dir := range append(left, home, plain, state) {
			err = errors.Join(err, os.RemoveAll(dir))
		}
		return err
	}
	rescue := b.verb(w, w.entries, "rescue", name(0), "--from", archive, "--map", "home=.", "--yes")
	rescue.before, rescue.after = empty, func() error {
		n, err := count(home)
		if err == nil && n < w.entries {
			err = fmt.Errorf("rescue %s: %d entries of %d", home, n, w.entries)
		}
		return err
	}
	const script = `mkdir "$2" && tar -xf "$1" -C "$2" && chown -R "$3:$3" "$2"`
	uid := strconv.Itoa(firstUID)
	tar := &contender{name: "tar -x; chown -R", argv: []string{"sh", "-c", script, "sh", archive, plain, uid}, entries: w.entries, before: empty}
	synced := &contender{name: "tar -x; chown -R; sync -f", argv: []string{"sh", "-c", script + ` && sync -f "$2"`, "sh", archive, plain, uid}, entries: w.entries, before: empty}
	if err := b.contest(ctx, "rebuilding a home", []*contender{rescue, tar, synced}, min(b.rounds, 3)); err != nil {
		return err
	}
	b.faster("rescue", rescue, tar, 0.8)
	return errors.Join(empty(), os.Remove(archive), os.Rename(aside, home))
}

// count counts what is in a directory and below it.
func count(dir string) (n int, err error) {
	err = filepath.WalkDir(dir, func(string, os.DirEntry, error) error { n++; return nil })
	return n, err
}
