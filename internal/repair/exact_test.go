package repair

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const everything = aliceTree + `
d 3777 1001:1001 alice/sticky
d 6755 1001:33 alice/sticky/both
f 2644 0:33 alice/sgid-no-x = data
f 6755 0:0 alice/both = tool
f 7777 0:33 alice/all caps = everything
f 0000 1001:1001 alice/none
l 0777 0:0 alice/dangling -> "/no such"
s 0666 1001:33 alice/sock
d 0700 1001:1001 alice/acldir acl=user::rwx,user:33:--x,group::---,group:8:r-x,mask::r-x,other::--- default=user::rwx,user:33:--x,group::---,mask::rwx,other::---
f 0644 1001:1001 alice/acldir/f
d 0755 1001:1001 "alice/\xff\n -> \x1b"
f 0644 1001:1001 "alice/\xff\n -> \x1b/-"
f 0644 1001:1001 alice/immutable
f 0644 1001:1001 alice/append
`

// After break, repair and undo the tree is, for stat, getfacl and getcap, what it was; what is immutable was never touched.
// So on every file system, and on kernels without the newer calls.
func TestUndoIsExactForOtherTools(t *testing.T) {
	treetest.Without(t, "fchmodat2", "name_to_handle_at", "unshare")
	onEach(t, treetest.FileSystems, func(t *testing.T, dir string) {
		b := boxIn(t, dir, everything)
		home := filepath.Join(b.root, "home")
		for file, flag := range map[string]string{"immutable": "+i", "append": "+a"} {
			p := filepath.Join(home, "alice", file)
			if out, err := exec.Command("chattr", flag, p).CombinedOutput(); err != nil {
				t.Logf("no chattr %s here: %v %s", flag, err, out)
				continue
			}
			t.Cleanup(func() { exec.Command("chattr", "-i", "-a", p).Run() })
		}
		before := treetest.Listing(t, home)
		run := b.apply(b.plan(allToCarol, "alice", "bob"), b.options())
		if run.State != rightful.RunDone || run.Failed > 0 {
			t.Errorf("run: %+v", run)
		}
		if treetest.Listing(t, home) == before {
			t.Fatal("nothing was changed")
		}
		u := b.undo(run.ID)
		if diff := cmp.Diff(strings.Split(before, "\n"), strings.Split(treetest.Listing(t, home), "\n")); diff != "" {
			t.Errorf("undo is not exact (-before +now):\n%s", diff)
		}
		if u.Changed != run.Changed || u.Skipped+u.Failed > 0 {
			t.Errorf("run %+v, undo %+v", run, u)
		}
	})
}

// On an overlay, where a change copies the file up, a run and its undo are exact too.
func TestUndoIsExactOnAnOverlay(t *testing.T) {
	merged := treetest.Overlay(t, func(lower string) {
		treetest.Build(t, lower, "d 0711 0:0 home\n")
		treetest.Build(t, filepath.Join(lower, "home"), smallTree)
	})
	b := openBox(t, merged, filepath.Join(t.TempDir(), "state"))
	before := b.describe()
	run := b.apply(b.smallPlan(), b.options())
	b.calm("run", run)
	b.calm("undo", b.undo(run.ID))
	b.exact("undo", before)
}

// Whatever stands in for a planned entry is left alone, be it alike in every respect; so is one that got another link.
func TestWhatStandsInForAPlannedEntryIsLeftAlone(t *testing.T) {
	treetest.Without(t, "name_to_handle_at")
	for name, swap := range map[string]func(home string) error{
		"a twin": func(home string) error { return os.Rename(home+"/twin", home+"/f") },
		"a link": func(home string) error { return errors.Join(os.Remove(home+"/f"), os.Symlink("twin", home+"/f")) },
		"a hard link to a twin": func(home string) error {
			return errors.Join(os.Remove(home+"/f"), os.Link(home+"/twin", home+"/f"))
		},
		"the same with another link": func(home string) error { return os.Link(home+"/f", home+"/g") },
		"a twin in another directory": func(home string) error {
			return errors.Join(os.Rename(home+"/d", home+"/e"), os.Rename(home+"/dtwin", home+"/d"))
		},
		"a link to a directory": func(home string) error {
			return errors.Join(os.Rename(home+"/d", home+"/e"), os.Symlink("dtwin", home+"/d"))
		},
	} {
		for _, when := range []string{"before the run", "before the undo"} {
			t.Run(name+" "+when, func(t *testing.T) {
				b := boxIn(t, treetest.OpenDir(t), `
					d 0711 1001:1001 alice
					f 0644 1001:1001 alice/f
					f 0644 1001:1001 alice/twin
					d 0755 1001:1001 alice/d
					f 0644 1001:1001 alice/d/f
					d 0755 1001:1001 alice/dtwin
					f 0644 1001:1001 alice/dtwin/f
				`)
				home := filepath.Join(b.root, "home/alice")
				to := rightful.Meta{UID: 1003, GID: 1003, Mode: 0o640}
				id := b.write(todo{"f", to}, todo{"d/f", to})
				spoil := func() {
					if when == "before the undo" { // the twins are then as the run left the others
						for _, p := range []string{"twin", "dtwin/f"} {
							if err := errors.Join(os.Chown(home+"/"+p, 1003, 1003), os.Chmod(home+"/"+p, 0o640)); err != nil {
								t.Fatal(err)
							}
						}
					}
					if err := swap(home); err != nil {
						t.Fatal(err)
					}
				}
				if when == "before the run" {
					spoil()
				}
				twin := func() (out []string) {
					for _, l := range treetest.Describe(t, home) {
						for _, n := range []string{"twin", `"f"`, `"g"`, `"d/f"`} {
							if strings.Contains(l, n) && !strings.Contains(name, "directory") != strings.Contains(n, "d/f") {
								out = append(out, l)
								break
							}
						}
					}
					return out
				}
				if when == "before the run" {
					before := twin()
					run := b.apply(id, b.options())
					if diff := cmp.Diff(before, twin()); diff != "" || run.Changed != 1 || run.Skipped != 1 {
						t.Errorf("run %+v\n%s", run, diff)
					}
					return
				}
				run := b.apply(id, b.options())
				spoil()
				before := twin()
				b.undo(run.ID)
				if diff := cmp.Diff(before, twin()); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// A state directory that somebody else could write, or that is none, is refused.
func TestAStateDirectoryThatIsNotOursIsRefused(t *testing.T) {
	treetest.NeedRoot(t)
	s, err := tree.OpenServer(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	dir := treetest.OpenDir(t)
	treetest.Build(t, dir, `
		d 0777 0:0 open
		d 0770 0:0 group
		d 0700 1001:1001 hers
		f 0600 0:0 file
		d 0700 0:0 good
		l 0777 0:0 link -> good
		d 0700 0:0 inner
		d 0777 0:0 inner/plans
		d 0700 0:0 linked
		l 0777 0:0 linked/plans -> ../good
	`)
	for _, n := range []string{"open", "group", "hers", "file", "link", "inner", "linked"} {
		if _, err := OpenState(filepath.Join(dir, n), s); err == nil {
			t.Errorf("%s is taken for a state directory", n)
		}
	}
	if _, err := OpenState(filepath.Join(dir, "good"), s); err != nil {
		t.Error(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "good/lock")); err != nil {
		t.Fatal(err)
	}
	st, err := OpenState(filepath.Join(dir, "good"), s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Lock("test", "test"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a link for a lock: %v", err)
	}
}

// fill leaves so many bytes free on the file system of dir.
func fill(t testing.TB, dir string, free int64) (unfill func()) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "ballast")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, max(int64(st.Bavail)*st.Bsize-free, 1)); err != nil {
		t.Fatal(err)
	}
	return func() { os.Remove(name) }
}

// A plan that the disk has no room for does not come to be. A run whose outcome it has no room for stops, having changed
// nothing that was not announced, and is undone, or resumed, exactly once there is room.
func TestAFullDiskStopsTheRunAndLosesNothing(t *testing.T) {
	spec := "d 0711 1001:1001 alice\n"
	for i := range 1500 {
		spec += "f 0644 1001:1001 alice/" + strings.Repeat("n", 40) + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + "-" + string(rune('0'+i/1000)) + string(rune('0'+i/100%10)) + string(rune('0'+i/10%10)) + string(rune('0'+i%10)) + "\n"
	}
	failures := 0
	for _, free := range []int64{0, 4 << 10, 8 << 10, 12 << 10, 16 << 10, 24 << 10} {
		small := treetest.Mounted(t, "tmpfs", "size=1m")
		made := boxIn(t, treetest.OpenDir(t), spec)
		b := openBox(t, made.root, filepath.Join(small, "state"))
		before := b.describe()

		unfill := fill(t, small, 8<<10)
		w, err := b.state.NewPlan(PlanHeader{Verb: "fix"})
		if err == nil {
			err = w.Account(PlanAccount{Account: strings.Repeat("a", 300<<10)})
		}
		if err == nil {
			err = w.Commit()
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("plan without room: %v", err)
		}
		if w != nil {
			w.Discard()
		}
		unfill()
		if names, _ := filepath.Glob(filepath.Join(small, "state/plans/*")); len(names) > 0 {
			t.Errorf("left behind: %v", names)
		}

		id := b.plan(func(rel string, k rightful.Kind, m rightful.Meta) *rightful.Meta {
			to := rightful.Meta{UID: 1003, GID: 1003, Mode: 0o640}
			if k == rightful.KindDir {
				to.Mode = 0o751
			}
			return &to
		}, "alice")
		unfill = fill(t, small, free)
		p, err := b.state.OpenPlan(id)
		if err != nil {
			t.Fatal(err)
		}
		run, err := b.state.Apply(context.Background(), p, b.options())
		p.Close()
		changed := 0
		for i, l := range b.describe() {
			if l != before[i] {
				changed++
			}
		}
		if err == nil {
			unfill()
			continue
		}
		failures++
		if !errors.Is(err, unix.ENOSPC) || run != nil && run.State != rightful.RunFailed {
			t.Errorf("%d bytes free: %+v, %v", free, run, err)
		}
		if run == nil {
			if changed > 0 {
				t.Errorf("%d bytes free: %d changed without a run", free, changed)
			}
			unfill()
			continue
		}
		o, err := b.state.readOutcome(run.ID, nil)
		if err != nil {
			t.Fatal(err)
		}
		announced := 0
		for seq := range o.status {
			if o.status[seq] != stNone {
				announced++
			}
		}
		if changed > announced {
			t.Errorf("%d bytes free: %d changed, %d announced", free, changed, announced)
		}
		unfill()
		if free%(8<<10) == 0 {
			done, err := b.state.Resume(context.Background(), run.ID, b.options())
			if err != nil || done.Changed != 1501 {
				t.Errorf("%d bytes free: resume: %+v, %v", free, done, err)
			}
		}
		b.undo(run.ID)
		b.exact("undo after a full disk", before)
	}
	if failures < 2 {
		t.Errorf("the disk was full only %d times", failures)
	}
}
