package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rightful"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const oddTree = `
d 0711 20001:20001 home
f 4755 20001:20001 home/own = x
f 0755 20001:20001 home/capable caps = capable
f 2755 0:0 home/roots = roots
d 2775 20001:33 home/shared default=user::rwx,group::r-x,group:44:r--,mask::rwx,other::---
d 1777 20001:20001 home/tmp
f 0640 20001:20001 home/shared/acl acl=user::rw-,user:33:rw-,group::rw-,mask::r--,other::---
l 0777 20001:20001 home/link -> /etc/passwd
f 0600 20001:20001 "home/new\nline \\ back"
f 0600 20001:20001 "home/bad\xff"
f 0600 20001:20001 "home/ sp ace#"
h 0600 20001:20001 home/second -> home/own
p 0600 20001:20001 home/fifo
d 0700 20001:20001 home/d
d 0700 20001:20001 home/d/e
f 0400 20001:20001 home/d/e/f
`

// host is a server with that tree, its store, and its base opened.
func host(t *testing.T, spec string) (*Store, *tree.Base, string) {
	t.Helper()
	root := treetest.OpenDir(t)
	treetest.Build(t, root, spec)
	srv, err := tree.OpenServer(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	b, err := srv.OpenBase("/home")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	s, err := Open(filepath.Join(t.TempDir(), "state"), srv)
	if err != nil {
		t.Fatal(err)
	}
	return s, b, root
}

func take(t *testing.T, s *Store, b *tree.Base, o TakeOptions) *Reader {
	t.Helper()
	k, err := s.Create(Header{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := k.Account(Account{Account: "alice"})
	if err == nil {
		err = w.Take(context.Background(), b, o)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	sn, err := k.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return open(t, s, sn)
}

// output runs a command in dir.
func output(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out)
}

// What is recorded is what getfacl and stat see, byte for byte.
func TestARecordIsWhatGetfaclAndStatSee(t *testing.T) {
	s, b, root := host(t, oddTree)
	r := take(t, s, b, TakeOptions{})
	var acls, stats []string
	for e, err := range r.All() {
		if err != nil {
			t.Fatal(err)
		}
		if e.Unknown != 0 {
			t.Errorf("%q: unknown %b", e.Rel, e.Unknown)
		}
		acls = append(acls, Getfacl("/home", e))
		links := e.Links
		size := e.Size
		if e.Kind == rightful.KindDir {
			links, size = 0, 0
		}
		stats = append(stats, fmt.Sprintf("%s %d:%d %o %d %d %d %d.%09d", e.Path("/home"), e.Meta.UID, e.Meta.GID, e.Meta.Mode, links, size, e.ID.Ino, e.Ctime/1e9, e.Ctime%1e9))
	}
	var wantStats []string
	for _, l := range strings.Split(strings.TrimSuffix(output(t, root, "find", "home", "-printf", `/%p %U:%G %m %n %s %i %C@|%y\0`), "\x00"), "\x00") {
		l, kind, _ := strings.Cut(l, "|")
		f := strings.Split(l, " ")
		if kind == "d" {
			f[len(f)-4], f[len(f)-3] = "0", "0"
		}
		f[len(f)-1] = strings.TrimSuffix(f[len(f)-1], "0") // find gives ten digits of a second
		wantStats = append(wantStats, strings.Join(f, " "))
	}
	compareSets(t, "stat", wantStats, stats)
	want := strings.SplitAfter(output(t, root, "sh", "-c", "getfacl -R -P -p -n home | sed 's,^# file: ,# file: /,'"), "\n\n")
	compareSets(t, "getfacl", want[:len(want)-1], slices.DeleteFunc(acls, func(s string) bool { return s == "" }))
}

func compareSets(t *testing.T, what string, want, got []string) {
	t.Helper()
	slices.Sort(want)
	slices.Sort(got)
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("%s has %q, which the snapshot has not", what, w)
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			t.Errorf("the snapshot has %q, which %s has not", g, what)
		}
	}
	if len(want) < 10 {
		t.Errorf("%s sees %d entries only", what, len(want))
	}
}

// setfacl --restore takes what is exported, and mtree finds nothing to complain about.
func TestOthersReadWhatIsExported(t *testing.T) {
	s, b, root := host(t, oddTree)
	r := take(t, s, b, TakeOptions{})
	var spec, dump strings.Builder
	mtreeOf := Mtree()
	for e, err := range r.All() {
		if err != nil {
			t.Fatal(err)
		}
		spec.WriteString(mtreeOf("/home", e))
		dump.WriteString(Getfacl("/home", e))
	}
	cmd := exec.Command("setfacl", "--test", "--restore=-")
	cmd.Dir, cmd.Stdin = root, strings.NewReader(strings.ReplaceAll(dump.String(), "# file: /", "# file: "))
	if out, err := cmd.CombinedOutput(); err != nil || strings.Count(string(out), "\n") == 0 {
		t.Errorf("setfacl: %v\n%s", err, out)
	}
	mtree, err := exec.LookPath("mtree")
	if err != nil {
		t.Skip("mtree is not installed")
	}
	cmd = exec.Command(mtree, "-p", root)
	cmd.Stdin = strings.NewReader(spec.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("mtree: %v\n%s", err, out)
	}
}

// The content of what has a privilege is hashed, that of nothing else; and not read again while its inode stays as it was.
func TestPrivilegedEntriesAreRecordedWithTheirContent(t *testing.T) {
	s, b, root := host(t, oddTree)
	r := take(t, s, b, TakeOptions{})
	hashed := map[string]bool{}
	for e, err := range r.All() {
		if err != nil {
			t.Fatal(err)
		}
		if e.Content == nil {
			continue
		}
		hashed[e.Rel] = true
		text, err := os.ReadFile(filepath.Join(root, "home", e.Rel))
		if err != nil {
			t.Fatal(err)
		}
		if e.Content.SHA256 != sha256.Sum256(text) || e.Content.Size != int64(len(text)) || len(e.ID.Handle) == 0 {
			t.Errorf("%s: %+v", e.Rel, e)
		}
	}
	if len(hashed) != 4 || !hashed["own"] || !hashed["second"] || !hashed["capable"] || !hashed["roots"] {
		t.Errorf("hashed: %v", hashed)
	}
	again := take(t, s, b, TakeOptions{Previous: r})
	if again.File != r.File {
		t.Error("the same tree was recorded otherwise")
	}
	if err := os.WriteFile(filepath.Join(root, "home/roots"), []byte("other"), 0); err != nil {
		t.Fatal(err)
	}
	e, err := take(t, s, b, TakeOptions{Previous: r}).Lookup("/home", "roots")
	if err != nil || e.Content == nil || e.Content.SHA256 != sha256.Sum256([]byte("other")) {
		t.Errorf("after a change: %+v, %v", e, err)
	}
}

// What nobody touched since the last record is not read again; what somebody touched is, and what he may have touched in the
// moment when it was recorded.
func TestACLsAreTakenFromTheLastRecordOnlyOfWhatNobodyTouched(t *testing.T) {
	s, b, root := host(t, oddTree)
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		t.Fatal(err)
	}
	if k := uint32(st.Type); k != unix.EXT4_SUPER_MAGIC && k != unix.XFS_SUPER_MAGIC && k != unix.BTRFS_SUPER_MAGIC {
		t.Skip("the scratch directory lies on a file system that is not trusted to stamp changes")
	}
	// The records tell of an ACL that is not there, so that it shows who was believed.
	acl, err := rightful.ParseACL("user::r--,user:33:r--,group::---,mask::---,other::---")
	if err != nil {
		t.Fatal(err)
	}
	said := func(h Header) *Reader {
		k, err := s.Create(h)
		if err != nil {
			t.Fatal(err)
		}
		w, err := k.Account(Account{Account: "alice"})
		if err == nil {
			err = w.Base("/home", b.FS())
		}
		for e, err2 := range take(t, s, b, TakeOptions{}).All() {
			if e.Rel == "d/e/f" {
				e.Meta.ACL = acl
			}
			err = errors.Join(err, err2, w.Add(e))
		}
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		sn, err := k.Commit()
		if err != nil {
			t.Fatal(err)
		}
		return open(t, s, sn)
	}
	check := func(what string, r *Reader, want rightful.ACL) {
		t.Helper()
		e, err := take(t, s, b, TakeOptions{Previous: r}).Lookup("/home", "d/e/f")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, e.Meta.ACL); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	later := Header{Created: time.Now().Add(time.Hour)} // than all that was changed
	rested := said(later)
	check("nobody touched it", rested, acl)
	check("recorded in the moment of its change", said(Header{}), nil)
	check("imported", said(Header{Created: later.Created, Source: "a backup"}), nil)
	name := filepath.Join(root, "home/d/e/f")
	text, err := os.ReadFile(name)
	if err == nil {
		err = os.WriteFile(name+".new", text, 0o400)
	}
	if err = errors.Join(err, os.Chown(name+".new", 20001, 20001), os.Rename(name+".new", name)); err != nil {
		t.Fatal(err)
	}
	check("another inode", rested, nil)
	rested = said(later)
	for was := ctime(t, name); ctime(t, name) == was; {
		if err := os.Chmod(name, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	check("touched, and as it was", rested, nil)
}

func ctime(t *testing.T, name string) unix.Timespec {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ctim
}

// What did not change costs nothing the next time.
func TestAnUnchangedAccountTakesNoNewSpace(t *testing.T) {
	s, b, _ := host(t, oddTree)
	a := take(t, s, b, TakeOptions{})
	if n := take(t, s, b, TakeOptions{}); n.File != a.File {
		t.Errorf("%s and %s", a.File, n.File)
	}
	names, err := s.dir.List(accountsDir)
	if err != nil || len(names) != 1 {
		t.Errorf("%d account files, %v", len(names), err)
	}
}

// A tenant who renames while his directory is read can neither stop nor confuse the record.
func TestARecordUnderAttackIsInOrder(t *testing.T) {
	s, b, root := host(t, "d 0711 1001:1001 home\nd 0755 1001:1001 home/d\n")
	var steps []string
	for i := range 300 {
		if err := os.WriteFile(filepath.Join(root, fmt.Sprintf("home/d/f%03d", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, fmt.Sprintf("rename d/f%03d d/g%03d", i, i), fmt.Sprintf("rename d/g%03d d/f%03d", i, i))
	}
	if err := os.Chown(filepath.Join(root, "home/d"), 1001, 1001); err != nil {
		t.Fatal(err)
	}
	stop := treetest.Attack(t, 1001, filepath.Join(root, "home"), append(steps, "rename d e", "rename e d")...)
	for range 20 {
		if err := take(t, s, b, TakeOptions{}).Verify(); err != nil {
			t.Error(err)
		}
	}
	stop()
}
