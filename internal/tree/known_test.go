package tree_test

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"rightful"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// knower says of everything but what is named read that it has one ACL.
type knower struct {
	recorder
	acl  rightful.ACL
	read string
}

func (k *knower) Known(e *tree.Entry) (rightful.Meta, bool) {
	return rightful.Meta{ACL: k.acl}, string(e.Name) != k.read
}

// stamps reports whether a directory lies on a file system that is trusted to stamp changes.
func stamps(t *testing.T, dir string) bool {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	switch uint32(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC:
		return true
	}
	return false
}

// What somebody knows is not read, and on a file system that is not known to stamp every change nobody knows anything.
func TestWhatIsKnownIsReadOnlyWhereChangesLeaveNoStamp(t *testing.T) {
	treetest.NeedRoot(t)
	shm, err := os.MkdirTemp("/dev/shm", "rightful-test-")
	if err != nil {
		t.Skip(err)
	}
	defer os.RemoveAll(shm)
	if err := os.Chmod(shm, 0o755); err != nil {
		t.Fatal(err)
	}
	acl, err := rightful.ParseACL("user::rw-,user:33:r--,group::r--,mask::r--,other::r--")
	if err != nil {
		t.Fatal(err)
	}
	const spec = "f 0644 1001:1001 a\nf 0644 1001:1001 b\nl 0777 1001:1001 l -> a\n"
	for _, root := range []string{treetest.OpenDir(t), shm} {
		_, _, b := baseAt(t, root, spec)
		k := &knower{acl: acl, read: "b"}
		k.metas = map[string]rightful.Meta{}
		if err := b.Walk(context.Background(), k, true); err != nil {
			t.Fatal(err)
		}
		noFails(t, &k.recorder)
		want := rightful.ACL(nil)
		if stamps(t, root) {
			want = acl
		}
		if diff := cmp.Diff(want, k.metas["a"].ACL); diff != "" {
			t.Errorf("below %s (-want +got):\n%s", root, diff)
		}
		if k.metas["b"].ACL != nil || k.metas["b"].Mode != 0o644 {
			t.Errorf("below %s, what is not known: %+v", root, k.metas["b"])
		}
	}
}

// The kernel's side of the bargain: no ACL and no capability comes or goes without a new time of change.
func TestEveryChangeOfAnAttributeLeavesAStamp(t *testing.T) {
	dir, _, b := newBase(t, "d 0755 1001:1001 d\nf 0755 1001:1001 d/f = x\n")
	if !stamps(t, dir) {
		t.Skip("the scratch directory lies on a file system that is not trusted to stamp changes")
	}
	times := func() (ctimes [2]int64) {
		w := &recorder{}
		w.entry = func(e *tree.Entry) {
			switch e.Rel() {
			case "d":
				ctimes[0] = e.Ctime
			case "d/f":
				ctimes[1] = e.Ctime
			}
		}
		noFails(t, walk(t, b, w))
		return ctimes
	}
	run := func(argv ...string) {
		if _, err := exec.LookPath(argv[0]); err != nil {
			t.Skipf("%s is not installed", argv[0])
		}
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
	}
	for _, tt := range []struct {
		there, back []string
		which       int
	}{
		{[]string{"setfacl", "-m", "u:33:r", "d/f"}, []string{"setfacl", "-b", "d/f"}, 1},
		{[]string{"setfacl", "-m", "u:33:r", "d"}, []string{"setfacl", "-b", "d"}, 0},
		{[]string{"setfacl", "-d", "-m", "u:33:r", "d"}, []string{"setfacl", "-k", "d"}, 0},
		{[]string{"setcap", "cap_net_raw+ep", "d/f"}, []string{"setcap", "-r", "d/f"}, 1},
	} {
		for i, argv := range [][]string{tt.there, tt.back} {
			// Within one step of the clock the old time may stay, so it is done until another step has come.
			before, end := times(), time.Now().Add(5*time.Second)
			for changed := false; !changed; changed = times()[tt.which] != before[tt.which] {
				if time.Now().After(end) {
					t.Fatalf("%v in %s leaves the time of change as it was", argv, dir)
				}
				if i == 1 { // there must be something to remove
					run(tt.there...)
					before = times()
				}
				run(argv...)
			}
		}
	}
}
