package tree_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// A base is opened only where nobody but root could have led us elsewhere.
func TestBasesAreReachedOnlyThroughRoot(t *testing.T) {
	treetest.NeedRoot(t)
	root := treetest.OpenDir(t)
	treetest.Build(t, root, `
		d 0755 0:0 home2
		d 0755 1001:1001 home2/alice
		d 0755 1001:1001 home2/alice/sub
		l 0777 0:0 home -> home2
		l 0777 0:0 absolute -> /home2
		l 0777 0:0 climbing -> ../../../home2
		l 0777 0:0 home2/byroot -> alice
		l 0777 1001:1001 home2/bytenant -> alice
		d 0775 0:1001 grouped
		d 0755 1002:1002 grouped/bob
		d 1777 0:0 tmp
		d 0755 1002:1002 tmp/bob
		d 0755 1001:1001 tenants
		d 0755 1001:1001 tenants/carol
		l 0777 0:0 loop -> loop
		f 0644 0:0 file
	`)
	s, err := tree.OpenServer(root)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, c := range []struct {
		path  string
		cause tree.Cause
	}{
		{"/home2/alice", ""},
		{"/home/alice", ""},
		{"/absolute/alice", ""},
		{"/climbing/alice", ""},
		{"/../../home2/alice", ""},
		{"/home2/byroot", ""},
		{"/home2/bytenant", tree.CauseLink},
		{"/home2/alice/sub", tree.CauseUnsafe},
		{"/grouped/bob", tree.CauseUnsafe},
		{"/tmp/bob", tree.CauseUnsafe},
		{"/tenants/carol", tree.CauseUnsafe},
		{"/loop", tree.CauseLoop},
		{"/file", tree.CauseKind},
	} {
		b, err := s.OpenBase(c.path)
		if got := tree.Refused(err); got != c.cause || c.cause == "" && err != nil {
			t.Errorf("%s: %v, want cause %q", c.path, err, c.cause)
		}
		if err == nil {
			b.Close()
		}
	}
}

// Everything below a server root stays below it: absolute links, dots, and reading through both.
func TestAServerRootIsNeverLeft(t *testing.T) {
	treetest.NeedRoot(t)
	outside := treetest.OpenDir(t)
	treetest.Build(t, outside, "f 0644 0:0 secret = outside\nd 0755 0:0 root\nd 0755 0:0 root/etc\nf 0644 0:0 root/etc/passwd = inside\n")
	treetest.Build(t, filepath.Join(outside, "root"), `
		l 0777 0:0 abs -> /etc/passwd
		l 0777 0:0 up -> ../../../../../../etc/passwd
		l 0777 0:0 out -> ../secret
		l 0777 0:0 dir -> /../..
	`)
	s, err := tree.OpenServer(filepath.Join(outside, "root"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, p := range []string{"/abs", "/up", "/dir/etc/passwd", "/dir/../../etc/passwd"} {
		if b, err := s.ReadFile(p, 100); err != nil || string(b) != "inside" {
			t.Errorf("%s: %q, %v", p, b, err)
		}
	}
	if b, err := s.ReadFile("/out", 100); !tree.IsNotExist(err) {
		t.Errorf("/out: %q, %v", b, err)
	}
}

// aclText is what getfacl -n prints of an entry, but for its first lines.
func aclText(m rightful.Meta) string {
	acl := m.ACL
	if acl == nil {
		acl = rightful.ACL{
			{Tag: rightful.ACLUserObj, Perm: uint8(m.Mode >> 6 & 7)},
			{Tag: rightful.ACLGroupObj, Perm: uint8(m.Mode >> 3 & 7)},
			{Tag: rightful.ACLOther, Perm: uint8(m.Mode & 7)},
		}
	}
	lines := strings.Split(acl.String(), ",")
	if m.Default != nil {
		for _, l := range strings.Split(m.Default.String(), ",") {
			lines = append(lines, "default:"+l)
		}
	}
	return strings.Join(lines, "\n")
}

func output(t testing.TB, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("needs %s", name)
	}
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return strings.TrimSpace(string(out))
}

// ACLs and capabilities are read as getfacl and getcap read them, by the walk and by a pinned entry, on old kernels too.
func TestAttributesAreReadAsGetfaclReadsThem(t *testing.T) {
	treetest.Without(t, "listxattrat")
	treetest.Without(t, "listxattrat", "unshare")
	dir, _, b := newBase(t, `
		d 0755 1001:1001 plain
		f 0640 1001:1001 acl acl=user::rw-,user:1005:rwx,group::r--,group:33:r-x,mask::r-x,other::---
		d 2770 1001:33 both acl=user::rwx,user:33:r-x,group::r-x,mask::rwx,other::--- default=user::rwx,user:33:r-x,group::r-x,mask::r-x,other::---
		d 0755 1001:1001 default default=user::rwx,group::r-x,other::---
		f 0755 0:0 capable caps
		l 0777 1001:1001 link -> acl
	`)
	r := walk(t, b, &recorder{metas: map[string]rightful.Meta{}})
	noFails(t, r)
	cur := b.Cursor()
	defer cur.Close()
	for rel, m := range r.metas {
		p := filepath.Join(dir, rel)
		n, err := cur.Open(rel)
		if err != nil {
			t.Fatal(err)
		}
		pinned, err := n.Refresh()
		n.Close()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, pinned); diff != "" {
			t.Errorf("%s (-walk +pinned):\n%s", rel, diff)
		}
		if rel == "link" {
			continue
		}
		if diff := cmp.Diff(output(t, "getfacl", "-nEcp", p), aclText(m)); diff != "" {
			t.Errorf("%s (-getfacl +walk):\n%s", rel, diff)
		}
		if got := strings.Contains(output(t, "getcap", p), "cap_net_bind_service=ep"); got != (len(m.Caps) > 0) {
			t.Errorf("%s: getcap says %v, walk %x", rel, got, m.Caps)
		}
	}
}

// An entry is known again wherever it is moved, and its successor under the same name and inode number is not it; where
// the kernel gives no handle, its birth tells.
func TestIdentityOutlivesRenamesAndNotDeletion(t *testing.T) {
	treetest.Without(t, "name_to_handle_at")
	for _, fs := range []string{"ext4", "tmpfs"} {
		t.Run(fs, func(t *testing.T) {
			dir, _, b := baseAt(t, treetest.Mounted(t, fs, ""), "f 0644 1001:1001 f\nd 0755 1001:1001 d\n")
			cur := b.Cursor()
			defer cur.Close()
			id := func(rel string) rightful.EntryID {
				n, err := cur.Open(rel)
				if err != nil {
					t.Fatal(err)
				}
				defer n.Close()
				return n.ID()
			}
			first := id("f")
			if first.Weak() {
				t.Fatalf("weak identity: %+v", first)
			}
			if err := os.Rename(filepath.Join(dir, "f"), filepath.Join(dir, "d/g")); err != nil {
				t.Fatal(err)
			}
			if !id("d/g").Same(first) {
				t.Error("renamed, it is another")
			}
			if len(first.Handle) > 0 {
				n, err := b.OpenID(first, "f")
				if err != nil {
					t.Fatal(err)
				}
				n.Close()
			}
			for range 20 {
				if err := os.Remove(filepath.Join(dir, "d/g")); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "d/g"), nil, 0o644); err != nil {
					t.Fatal(err)
				}
				if id("d/g").Same(first) {
					t.Fatal("its successor is taken for it")
				}
			}
			if n, err := b.OpenID(first, "f"); err == nil {
				n.Close()
				t.Error("it can be opened though it was deleted")
			}
		})
	}
}

// Who reads a file to give it a privilege knows that nobody can be writing it, and never reads for ever.
func TestContentIsProvedOrRefused(t *testing.T) {
	dir, _, b := newBase(t, "f 0644 1001:1001 f = hello\nf 0644 1001:1001 sparse\n")
	cur := b.Cursor()
	defer cur.Close()
	read := func(rel string, alone bool) (rightful.Content, func(), error) {
		n, err := cur.Open(rel)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		return n.Content(context.Background(), alone)
	}
	c, release, err := read("f", true)
	if err != nil || c.Size != 5 {
		t.Fatalf("content: %+v, %v", c, err)
	}
	if _, err := os.OpenFile(filepath.Join(dir, "f"), os.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
		t.Error("a writer was let in while the file was held")
	}
	release()
	w, err := os.OpenFile(filepath.Join(dir, "f"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := read("f", true); err == nil {
		t.Error("a file that is open for writing was held to be proved")
	}
	w.Close()
	if err := os.Truncate(filepath.Join(dir, "sparse"), 1<<40); err != nil {
		t.Fatal(err)
	}
	if _, _, err := read("sparse", false); tree.Refused(err) != tree.CauseTooLarge {
		t.Errorf("a tebibyte of nothing: %v", err)
	}
}

// A writer who knocks while a file is read to prove its content makes the proof void: the kernel lets him in sooner or
// later.
func TestAWriterWhoWaitsVoidsTheProof(t *testing.T) {
	dir, _, b := newBase(t, "f 0644 1001:1001 f\n")
	p := filepath.Join(dir, "f")
	if err := os.Truncate(p, 512<<20); err != nil {
		t.Fatal(err)
	}
	cur := b.Cursor()
	defer cur.Close()
	n, err := cur.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	knocked := make(chan bool)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				knocked <- false
				return
			default:
			}
			fd, err := unix.Open(p, unix.O_WRONLY|unix.O_NONBLOCK, 0)
			if err == unix.EAGAIN {
				knocked <- true
				return
			}
			if err == nil {
				unix.Close(fd)
			}
		}
	}()
	for err = error(unix.EAGAIN); errors.Is(err, unix.EAGAIN); {
		var release func()
		_, release, err = n.Content(context.Background(), true)
		release()
		select {
		case k := <-knocked:
			if k && err == nil {
				t.Error("the proof stands though a writer waited")
			}
			return
		default:
		}
	}
	close(done)
	if k := <-knocked; k {
		t.Error("the proof stands though a writer waited")
	}
}

// All links of a file are proved to be where they were met; one link met twice is not two, nor is one in a directory
// that was renamed.
func TestLinksAreProvedToBeThere(t *testing.T) {
	dir, s, b := newBase(t, `
		d 0755 1001:1001 a
		d 0755 1001:1001 b
		f 0644 1001:1001 a/f
		h 0644 1001:1001 b/f -> a/f
		f 0644 0:0 a/other
		l 0777 1001:1001 c -> a
	`)
	outside := filepath.Join(filepath.Dir(dir), "outside")
	if err := os.Link(filepath.Join(dir, "a/other"), outside); err != nil {
		t.Fatal(err)
	}
	cur := b.Cursor()
	defer cur.Close()
	all := func(first string, paths ...string) error {
		n, err := cur.Open(first)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		for i := range paths {
			paths[i] = "/home/alice/" + paths[i]
		}
		return s.AllLinks(context.Background(), n.ID(), []string{"/home/alice"}, paths)
	}
	if err := all("a/f", "a/f", "b/f"); err != nil {
		t.Errorf("both links: %v", err)
	}
	for _, paths := range [][]string{{"a/f"}, {"a/f", "a/f"}, {"a/f", "b/f", "b/f"}, {"a/f", "b/g"}, {"a/f", "a/other"}, {"a/f", "c/f"}} {
		if err := all("a/f", slices.Clone(paths)...); err == nil {
			t.Errorf("%v are held to be all links", paths)
		}
	}
	if err := all("a/other", "a/other", "a/other"); err == nil {
		t.Error("a link met twice is held to be two")
	}
	if err := s.AllLinks(context.Background(), rightful.EntryID{}, []string{"/home/alice"}, []string{"/home/outside"}); tree.Refused(err) != tree.CauseEscape {
		t.Errorf("a path outside: %v", err)
	}
}

// However fast somebody renames the one link he has, to other names and directories, it is never taken for two.
func TestARenamedLinkIsNeverTwo(t *testing.T) {
	dir, s, b := newBase(t, "d 0777 1001:1001 a\nf 0666 1001:1001 a/f\n")
	if err := os.Link(filepath.Join(dir, "a/f"), filepath.Join(filepath.Dir(dir), "outside")); err != nil {
		t.Fatal(err)
	}
	cur := b.Cursor()
	n, err := cur.Open("a/f")
	if err != nil {
		t.Fatal(err)
	}
	id := n.ID()
	n.Close()
	cur.Close()
	for _, steps := range [][]string{{"rename a/f a/g", "rename a/g a/f"}, {"rename a b", "rename b a"}} {
		stop := treetest.Attack(t, 1001, dir, steps...)
		paths := []string{"/home/alice/a/f", "/home/alice/a/g"}
		if steps[0] == "rename a b" {
			paths[1] = "/home/alice/b/f"
		}
		for range 2000 {
			if err := tree.AllLinksOnce(s, id, "/home/alice", paths); err == nil {
				t.Errorf("%v: one link was taken for two", steps)
				break
			}
		}
		if got := stop(); got[0] < 100 {
			t.Errorf("%v: the attacker came to only %v", steps, got)
		}
	}
}

func FuzzACL(f *testing.F) {
	f.Add(tree.EncodeACL(rightful.ACL{{Tag: 1, Perm: 7}, {Tag: 2, Perm: 5, ID: 33}, {Tag: 4, Perm: 5}, {Tag: 16, Perm: 5}, {Tag: 32}}), "user::rwx,group::r-x,other::---")
	f.Add([]byte{2, 0, 0, 0}, "user:4294967295:rwx")
	f.Fuzz(func(t *testing.T, raw []byte, text string) {
		if a, err := tree.DecodeACL(raw); err == nil {
			same(t, a)
		}
		if a, err := rightful.ParseACL(text); err == nil && a != nil {
			same(t, a)
		}
	})
}

// same makes sure that an ACL survives its kernel form and its text form.
func same(t *testing.T, a rightful.ACL) {
	t.Helper()
	if b, err := tree.DecodeACL(tree.EncodeACL(a)); err != nil || !a.Equal(b) {
		t.Errorf("kernel form: %v became %v, %v", a, b, err)
	}
	if b, err := rightful.ParseACL(a.String()); err != nil || !a.Equal(b) {
		t.Errorf("text form: %v became %v, %v", a, b, err)
	}
}

// Below a base an entry is pinned and never followed: a link is itself, and nothing is reached through one.
func TestNothingIsReachedThroughALink(t *testing.T) {
	_, _, b := newBase(t, "d 0755 1:1 d\nf 0644 1:1 d/f\nl 0777 1:1 in -> d\nl 0777 1:1 out -> /etc\nl 0777 1:1 file -> d/f\nf 0644 1:1 plain\n")
	cur := b.Cursor()
	defer cur.Close()
	for rel, want := range map[string]tree.Cause{
		"in/f": tree.CauseLink, "out/passwd": tree.CauseLink, "d/../d/f": tree.CauseEscape, "../alice": tree.CauseEscape,
		"d//f": tree.CauseEscape, "./d": tree.CauseEscape, "d/": tree.CauseEscape,
	} {
		if n, err := cur.Open(rel); err == nil || tree.Refused(err) != want {
			t.Errorf("%s: %v, %v", rel, n, err)
		}
	}
	if _, err := cur.Open("plain/f"); !tree.IsNotExist(err) {
		t.Errorf("below a file: %v", err)
	}
	for _, rel := range []string{"in", "out", "file"} {
		n, err := cur.Open(rel)
		if err != nil || n.Stat.Kind != rightful.KindSymlink {
			t.Errorf("%s: %+v, %v", rel, n, err)
		}
		if err == nil {
			n.Close()
		}
	}
}
