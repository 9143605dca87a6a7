package tree_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rightful/internal/tree"
	"rightful/internal/tree/treetest"

	"golang.org/x/sys/unix"
)

// A quota is what the kernel counts and what an administrator set, by the old call too; what one entry takes adds up to it.
func TestAQuotaIsWhatTheKernelCounts(t *testing.T) {
	dir, ok := treetest.Quotas(t)
	if !ok {
		return
	}
	holdQuota(t, dir)
	treetest.Without(t, "quotactl_fd")
}

func holdQuota(t *testing.T, dir string) {
	t.Helper()
	const uid = 20001
	home := filepath.Join(dir, "alice")
	defer os.RemoveAll(home)
	treetest.Build(t, dir, `
		d 0755 0:0 alice
		f 0644 20001:20001 alice/a = `+strings.Repeat("x", 5000)+`
		f 0644 20001:20001 alice/b = b
		h 0644 20001:20001 alice/c -> alice/a
		f 0644 0:0 alice/roots = roots
	`)
	unix.Sync() // space is counted when it is given out
	treetest.SetQuota(t, dir, uid, 1<<10, 2<<10, 30, 40)
	s, err := tree.OpenServer("/")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, err := s.OpenBase(home)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	got, ok, err := b.Quota(uid)
	want := tree.Quota{Bytes: 8192 + 4096, SoftBytes: 1 << 20, HardBytes: 2 << 20, Inodes: 2, SoftInodes: 30, HardInodes: 40}
	if !ok || err != nil || got != want {
		t.Errorf("quota %+v, %v, %v; want %+v", got, ok, err, want)
	}
	taken := int64(0)
	c := b.Cursor()
	defer c.Close()
	for _, name := range []string{"a", "b"} {
		n, err := c.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		taken += n.Stat.Taken
		n.Close()
	}
	if uint64(taken) != got.Bytes {
		t.Errorf("the entries take %d bytes, the quota says %d", taken, got.Bytes)
	}
	if repquota, err := exec.LookPath("repquota"); err == nil {
		out, err := exec.Command(repquota, "-unp", dir).CombinedOutput()
		line := ""
		for l := range strings.Lines(string(out)) {
			if strings.HasPrefix(l, "#20001 ") {
				line = strings.Join(strings.Fields(l), " ")
			}
		}
		if want := "#20001 -- 12 1024 2048 0 2 30 40 0"; err != nil || line != want {
			t.Errorf("repquota says %q, want %q: %v\n%s", line, want, err, out)
		}
	} else {
		t.Log("repquota is missing (package quota): judged by quotactl alone")
	}
}

// A file system that counts nothing for users has no quota, and that is no error.
func TestWhereNothingIsCountedThereIsNoQuota(t *testing.T) {
	treetest.NeedRoot(t)
	s, err := tree.OpenServer(treetest.Mounted(t, "tmpfs", "mode=0755"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, err := s.OpenBase("/")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if q, ok, err := b.Quota(20001); ok || err != nil {
		t.Errorf("quota %+v, %v, %v", q, ok, err)
	}
	treetest.Without(t, "quotactl_fd")
}
