package tree_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if treetest.Child() {
		return
	}
	os.Exit(m.Run())
}

// newBase makes a server root with one home, builds a tree in it, and opens it.
func newBase(t testing.TB, spec string) (dir string, s *tree.Server, b *tree.Base) {
	t.Helper()
	treetest.NeedRoot(t)
	return baseAt(t, treetest.OpenDir(t), spec)
}

func baseAt(t testing.TB, root, spec string) (dir string, s *tree.Server, b *tree.Base) {
	t.Helper()
	treetest.Build(t, root, "d 0755 0:0 home\nd 0755 1001:1001 home/alice\n")
	dir = filepath.Join(root, "home/alice")
	treetest.Build(t, dir, spec)
	s, err := tree.OpenServer(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	b, err = s.OpenBase("/home/alice")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return dir, s, b
}

// recorder notes what a walk meets.
type recorder struct {
	met   []string
	fails map[string]error
	entry func(e *tree.Entry)
	enter func(d *tree.Dir)
	metas map[string]rightful.Meta
	quiet bool
}

func (r *recorder) Entry(_ *tree.Dir, e *tree.Entry) (bool, error) {
	if r.entry != nil {
		r.entry(e)
	}
	if r.quiet {
		return true, nil
	}
	r.met = append(r.met, e.Rel())
	if r.metas != nil {
		m, err := e.Meta()
		if err != nil {
			return false, err
		}
		r.metas[e.Rel()] = m
	}
	return true, nil
}

func (r *recorder) Enter(d *tree.Dir) error {
	if r.enter != nil {
		r.enter(d)
	}
	return nil
}
func (r *recorder) Leave(*tree.Dir) error { return nil }
func (r *recorder) Fail(rel string, err error) {
	if r.fails == nil {
		r.fails = map[string]error{}
	}
	r.fails[rel] = err
}

func walk(t testing.TB, b *tree.Base, r *recorder) *recorder {
	t.Helper()
	if err := b.Walk(context.Background(), r, true); err != nil {
		t.Fatal(err)
	}
	return r
}

func noFails(t testing.TB, r *recorder) {
	t.Helper()
	for rel, err := range r.fails {
		t.Errorf("walk failed at %q: %v", rel, err)
	}
}

func descriptors(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

const oddNames = `
d 0755 1001:1001 "new\nline"
f 0644 1001:1001 "new\nline/\x1b[31mred"
f 0644 1001:1001 "\xff\xfe"
f 0644 1001:1001 -rf
f 0644 1001:1001 "..."
f 0644 1001:1001 " -> "
d 0755 1001:1001 b
d 0755 1001:1001 a
f 0644 1001:1001 a/z
f 0644 1001:1001 a/B
l 0777 1001:1001 link -> /etc
l 0777 1001:1001 a/up -> ../..
`

// The order depends on names alone: entries by bytes, then directories in the same order; links are not followed.
func TestWalkOrderDependsOnNamesAlone(t *testing.T) {
	dir, _, b := newBase(t, oddNames)
	long := strings.Repeat("n", 255)
	if err := os.WriteFile(filepath.Join(dir, long), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"", " -> ", "-rf", "...", "a", "b", "link", "new\nline", long, "\xff\xfe", "a/B", "a/up", "a/z", "new\nline/\x1b[31mred",
	}
	for range 3 {
		r := walk(t, b, &recorder{})
		noFails(t, r)
		if diff := cmp.Diff(want, r.met); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// chain makes nested directories one below the other, by handles, so that their path may be of any length. In each it
// also makes what beside asks for.
func chain(t testing.TB, dir string, levels int, name func(i int) string, beside ...string) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range levels {
		for _, n := range append([]string{name(i)}, beside...) {
			if err := unix.Mkdirat(fd, n, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		next, err := unix.Openat(fd, name(i), unix.O_RDONLY|unix.O_DIRECTORY, 0)
		unix.Close(fd)
		if err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	unix.Close(fd)
}

// A tree may be as deep as it likes, beyond PATH_MAX too: everything is met, in order, with a bounded number of
// descriptors, and so is what comes after the deep part on every level.
func TestWalkGoesDeepWithFewDescriptors(t *testing.T) {
	for _, c := range []struct {
		name   string
		levels int
		dir    func(i int) string
	}{
		{"500 levels", 500, func(int) string { return "d" }},
		{"12 kB of path", 60, func(i int) string { return fmt.Sprintf("%0200d", i) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, _, b := newBase(t, "")
			chain(t, dir, c.levels, c.dir, "z")
			before, most := descriptors(t), 0
			r := &recorder{}
			r.enter = func(d *tree.Dir) {
				if d.Depth%50 == 0 || d.Depth == c.levels {
					most = max(most, descriptors(t)-before)
				}
			}
			walk(t, b, r)
			noFails(t, r)
			if len(r.met) != 1+2*c.levels {
				t.Errorf("met %d entries, want %d", len(r.met), 1+2*c.levels)
			}
			if most > 64 {
				t.Errorf("%d descriptors were open", most)
			}
			if got := descriptors(t); got > before {
				t.Errorf("%d descriptors stay open, %d before", got, before)
			}
			deepest := slices.MaxFunc(r.met, func(a, b string) int { return len(a) - len(b) })
			cur := b.Cursor()
			defer cur.Close()
			n, err := cur.Open(deepest)
			if err != nil {
				t.Fatalf("open the deepest: %v", err)
			}
			n.Close()
			if got := descriptors(t) - before; got > 70 {
				t.Errorf("the cursor keeps %d descriptors", got)
			}
		})
	}
}

// A chain so deep that no program could use it is left, and said to be, at a bounded cost.
func TestWalkLeavesAbsurdDepths(t *testing.T) {
	dir, _, b := newBase(t, "d 0755 1001:1001 x\nf 0644 1001:1001 x/y\n")
	long := strings.Repeat("d", 250)
	chain(t, dir, 1000, func(int) string { return long })
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := walk(t, b, &recorder{quiet: true})
	runtime.ReadMemStats(&after)
	deep := 0
	for _, err := range r.fails {
		if tree.Refused(err) == tree.CauseTooDeep {
			deep++
		}
	}
	if len(r.fails) != 1 || deep != 1 {
		t.Errorf("fails: %d, of which %d for depth", len(r.fails), deep)
	}
	if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 4 {
		t.Errorf("the walk allocated %d MiB", mb)
	}
}

// A directory of 100,000 entries is met in order; the walk allocates for the directory, not for its entries.
func TestWalkOfAHugeDirectoryAllocatesNothingPerEntry(t *testing.T) {
	const n = 100_000
	dir, _, b := newBase(t, "d 0755 1001:1001 big\n")
	fd, err := unix.Open(filepath.Join(dir, "big"), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for i := range n {
		if err := unix.Mknodat(fd, fmt.Sprintf("%x", i*7919%n), unix.S_IFREG|0o644, 0); err != nil {
			t.Fatal(err)
		}
	}
	met, last, sorted := 0, []byte{}, true
	r := &recorder{quiet: true}
	r.entry = func(e *tree.Entry) {
		met++
		if met > 3 && bytes.Compare(last, e.Name) >= 0 {
			sorted = false
		}
		last = append(last[:0], e.Name...)
		if _, err := e.Meta(); err != nil {
			t.Error(err)
		}
	}
	allocs := testing.AllocsPerRun(1, func() { met = 0; walk(t, b, r) })
	if met != n+2 || !sorted {
		t.Errorf("met %d entries (want %d), sorted: %v", met, n+2, sorted)
	}
	if allocs > 200 {
		t.Errorf("%.0f allocations for %d entries", allocs, n)
	}
}

// A walk of many small directories costs a bounded few allocations for each directory and none for a file.
func TestWalkAllocatesLittle(t *testing.T) {
	dir, _, b := newBase(t, "")
	const dirs, files = 100, 200
	for i := range dirs {
		d := filepath.Join(dir, fmt.Sprintf("%03d", i))
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		for k := range files {
			if err := unix.Mknod(fmt.Sprintf("%s/%03d", d, k), unix.S_IFREG|0o644, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := &recorder{quiet: true}
	allocs := testing.AllocsPerRun(3, func() { walk(t, b, r) })
	if allocs > 8*dirs {
		t.Errorf("%.0f allocations for %d directories with %d files each", allocs, dirs, files)
	}
}

// Nothing mounted below a base is met or opened: neither another file system nor a bind mount of the same one.
func TestMountsAreNotEntered(t *testing.T) {
	dir, _, b := newBase(t, `
		d 0755 1001:1001 bound
		d 0755 1001:1001 other
		f 0644 1001:1001 file
		d 0755 1001:1001 kept
		f 0644 1001:1001 kept/f
	`)
	victim := treetest.OpenDir(t)
	treetest.Build(t, victim, "f 0600 0:0 secret\n")
	mount := func(source, at, kind string, flags uintptr) {
		if err := unix.Mount(source, at, kind, flags, ""); err != nil {
			t.Skipf("needs to mount: %v", err)
		}
		t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	}
	mount(victim, filepath.Join(dir, "bound"), "", unix.MS_BIND)
	mount(filepath.Join(victim, "secret"), filepath.Join(dir, "file"), "", unix.MS_BIND)
	mount("none", filepath.Join(dir, "other"), "tmpfs", 0)
	r := walk(t, b, &recorder{})
	if diff := cmp.Diff([]string{"", "kept", "kept/f"}, r.met); diff != "" {
		t.Errorf("met (-want +got):\n%s", diff)
	}
	if crosses, err := tree.CrossesBlind(b, "kept"); crosses || err != nil {
		t.Errorf("an ordinary directory is taken for a mount: %v", err)
	}
	cur := b.Cursor()
	defer cur.Close()
	for _, rel := range []string{"bound", "other", "file", "bound/secret"} {
		if rel != "bound/secret" && tree.Refused(r.fails[rel]) != tree.CauseMount {
			t.Errorf("walk at %s: %v", rel, r.fails[rel])
		}
		if rel != "bound/secret" {
			if crosses, err := tree.CrossesBlind(b, rel); !crosses || err != nil {
				t.Errorf("%s is not known for a mount without the help of statx: %v", rel, err)
			}
		}
		if n, err := cur.Open(rel); tree.Refused(err) != tree.CauseMount {
			t.Errorf("open %s: %v", rel, err)
			if err == nil {
				n.Close()
			}
		}
	}
}

// FIFOs, sockets, devices and files are never opened by a walk, whatever is asked about them.
func TestWalkOpensNothingButDirectories(t *testing.T) {
	dir, _, b := newBase(t, "p 0600 1001:1001 fifo\ns 0600 1001:1001 sock\nf 0600 1001:1001 file acl=user::rw-,user:5:r--,group::---,mask::r--,other::---\n")
	if err := unix.Mknod(filepath.Join(dir, "dev"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		t.Skipf("needs to make devices: %v", err)
	}
	in, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(in)
	for _, n := range []string{"fifo", "sock", "file", "dev"} {
		if _, err := unix.InotifyAddWatch(in, filepath.Join(dir, n), unix.IN_OPEN|unix.IN_ACCESS); err != nil {
			t.Fatal(err)
		}
	}
	kinds := map[rightful.Kind]bool{}
	r := &recorder{}
	r.entry = func(e *tree.Entry) {
		kinds[e.Kind] = true
		e.ID()
		n, err := e.Pin()
		if err != nil {
			t.Error(err)
			return
		}
		defer n.Close()
		if _, err := n.Refresh(); err != nil {
			t.Error(err)
		}
		if _, _, err := n.Content(context.Background(), false); e.Kind != rightful.KindFile && tree.Refused(err) != tree.CauseKind {
			t.Errorf("read %s: %v", e.Kind, err)
		}
	}
	walk(t, b, r)
	noFails(t, r)
	if len(kinds) != 5 {
		t.Errorf("kinds met: %v", kinds)
	}
	buf := make([]byte, 4096)
	n, err := unix.Read(in, buf)
	opened := map[int32]bool{}
	for off := 0; err == nil && off < n; off += unix.SizeofInotifyEvent {
		opened[int32(buf[off])] = true
	}
	delete(opened, 3) // the file, whose content was asked for
	if len(opened) > 0 {
		t.Errorf("opened: %v", opened)
	}
}

// What vanishes between listing and stat is reported, and the walk goes on.
func TestWalkOutlivesWhatVanishes(t *testing.T) {
	dir, _, b := newBase(t, "f 0644 1:1 a\nf 0644 1:1 b\nd 0755 1:1 c\nf 0644 1:1 c/x\nd 0755 1:1 d\nf 0644 1:1 d/y\n")
	r := &recorder{}
	r.enter = func(d *tree.Dir) {
		if d.Depth == 0 {
			os.Remove(filepath.Join(dir, "a"))
		}
	}
	r.entry = func(e *tree.Entry) {
		if string(e.Name) == "d" {
			os.RemoveAll(filepath.Join(dir, "c"))
		}
	}
	walk(t, b, r)
	if diff := cmp.Diff([]string{"", "b", "c", "d", "d/y"}, r.met); diff != "" {
		t.Error(diff)
	}
	for _, rel := range []string{"a", "c"} {
		if !tree.IsNotExist(r.fails[rel]) {
			t.Errorf("%s: %v", rel, r.fails[rel])
		}
	}
}

// A directory that is swapped after it was met, for a link or for another directory, is not entered.
func TestWalkDoesNotEnterWhatWasSwapped(t *testing.T) {
	for _, by := range []string{"link", "directory"} {
		t.Run(by, func(t *testing.T) {
			dir, _, b := newBase(t, "d 0755 1:1 a\nf 0644 1:1 a/mine\nd 0755 1:1 z\nf 0644 1:1 z/after\n")
			victim := treetest.OpenDir(t)
			treetest.Build(t, victim, "d 0755 0:0 v\nf 0644 0:0 v/secret\n")
			r := &recorder{}
			r.entry = func(e *tree.Entry) {
				if string(e.Name) != "z" || e.Kind != rightful.KindDir {
					return
				}
				err := os.Rename(filepath.Join(dir, "a"), filepath.Join(victim, "a"))
				if by == "link" {
					err = errors.Join(err, os.Symlink(filepath.Join(victim, "v"), filepath.Join(dir, "a")))
				} else {
					err = errors.Join(err, os.Rename(filepath.Join(victim, "v"), filepath.Join(dir, "a")))
				}
				if err != nil {
					t.Error(err)
				}
			}
			walk(t, b, r)
			if diff := cmp.Diff([]string{"", "a", "z", "z/after"}, r.met); diff != "" {
				t.Error(diff)
			}
			if r.fails["a"] == nil || by == "directory" && tree.Refused(r.fails["a"]) != tree.CauseChanged {
				t.Errorf("a: %v", r.fails["a"])
			}
		})
	}
}

// Where the walk has let go of a directory to bound its descriptors and the way back leads elsewhere since, it does not
// go there.
func TestWalkDoesNotReturnElsewhere(t *testing.T) {
	dir, _, b := newBase(t, "")
	chain(t, dir, 120, func(int) string { return "d" }, "z")
	victim := treetest.OpenDir(t)
	treetest.Build(t, victim, "d 0755 0:0 secret\n")
	r := &recorder{}
	r.enter = func(d *tree.Dir) {
		if d.Depth != 110 {
			return
		}
		third := filepath.Join(dir, "d/d/d")
		if _, err := os.Lstat(third); err != nil {
			return // done already
		}
		if err := os.Rename(third, filepath.Join(victim, "d")); err != nil {
			t.Error(err)
		}
	}
	walk(t, b, r)
	if slices.ContainsFunc(r.met, func(s string) bool { return strings.Contains(s, "secret") }) {
		t.Error("the walk left the base")
	}
	if err := r.fails["d/d"]; tree.Refused(err) != tree.CauseChanged {
		t.Errorf("fails: %v", r.fails)
	}
}

// A visitor's error and a cancelled context end the walk at once.
func TestWalkEndsOnCancel(t *testing.T) {
	_, _, b := newBase(t, "d 0755 1:1 a\nd 0755 1:1 a/b\n")
	ctx, cancel := context.WithCancel(context.Background())
	r := &recorder{enter: func(*tree.Dir) { cancel() }}
	if err := b.Walk(ctx, r, true); !errors.Is(err, context.Canceled) {
		t.Errorf("walk: %v", err)
	}
	if diff := cmp.Diff([]string{"", "a"}, r.met); diff != "" {
		t.Error(diff)
	}
}

// A directory with more names than are read is reported; those that were read are met, and the walk goes on elsewhere.
func TestADirectoryWithoutEndIsLeft(t *testing.T) {
	dir, _, b := newBase(t, "d 0755 1:1 huge\nf 0644 1:1 last\n")
	for i := range 2000 {
		if err := os.WriteFile(filepath.Join(dir, "huge", fmt.Sprintf("%040d", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tree.LimitNames(b, 1000)
	r := &recorder{}
	walk(t, b, r)
	if tree.Refused(r.fails["huge"]) != tree.CauseTooMany || len(r.fails) != 1 {
		t.Errorf("fails: %v", r.fails)
	}
	if !slices.Contains(r.met, "last") || len(r.met) < 20 || len(r.met) > 1500 {
		t.Errorf("%d met", len(r.met))
	}
}
