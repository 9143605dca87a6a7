package tree_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"unsafe"

	"rightful"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"

	"golang.org/x/sys/unix"
)

// become makes this thread an unprivileged user, as far as files go, for good.
func become(id rightful.Identity) error {
	runtime.LockOSThread() // and never unlocked: the thread ends with its goroutine
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(id.GIDs)), uintptr(unsafe.Pointer(unsafe.SliceData(id.GIDs))), 0); e != 0 {
		return e
	}
	unix.RawSyscall(unix.SYS_SETFSGID, uintptr(id.GIDs[0]), 0, 0)
	unix.RawSyscall(unix.SYS_SETFSUID, uintptr(id.UID), 0, 0)
	return nil
}

// What an identity is granted is what the kernel grants it, whatever the owner, the groups, the mode and the ACL.
func TestGrantedIsWhatTheKernelGrants(t *testing.T) {
	treetest.NeedRoot(t)
	dir := treetest.OpenDir(t)
	s, err := tree.OpenServer("/")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := rand.New(rand.NewPCG(1, 2))
	id := func() uint32 { return 1001 + uint32(r.IntN(3)) }
	var metas []rightful.Meta
	for i := range 600 {
		name := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		perm := func() uint8 { return uint8(r.IntN(8)) }
		if i%4 > 0 {
			acl := rightful.ACL{}.Set(rightful.ACLUserObj, 0, perm()).Set(rightful.ACLGroupObj, 0, perm()).Set(rightful.ACLOther, 0, perm())
			acl = acl.Set(rightful.ACLMask, 0, uint8(r.IntN(8)&r.IntN(8)))
			for range r.IntN(4) {
				tag := rightful.ACLUser
				if r.IntN(2) > 0 {
					tag = rightful.ACLGroup
				}
				acl = acl.Set(tag, id(), perm())
			}
			acl.Sort()
			if err := unix.Setxattr(name, tree.XattrACL, tree.EncodeACL(acl), 0); err != nil {
				t.Skipf("needs ACLs: %v", err)
			}
		} else if err := os.Chmod(name, os.FileMode(r.IntN(0o1000))); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(name, int(id()), int(id())); err != nil {
			t.Fatal(err)
		}
		steps, err := s.Trace(name)
		if err != nil {
			t.Fatal(err)
		}
		metas = append(metas, steps[len(steps)-1].Meta)
	}
	for range 12 {
		who := rightful.Identity{UID: id(), GIDs: []uint32{id()}}
		for range r.IntN(3) {
			who.GIDs = append(who.GIDs, id())
		}
		done := make(chan error)
		go func() {
			err := become(who)
			for i, m := range metas {
				for want, flag := range map[uint8]int{4: unix.O_RDONLY, 2: unix.O_WRONLY, 6: unix.O_RDWR} {
					fd, oerr := unix.Open(filepath.Join(dir, fmt.Sprint(i)), flag|unix.O_CLOEXEC, 0)
					if oerr == nil {
						unix.Close(fd)
					}
					if m.Allowed(who, want) != (oerr == nil) || want != 6 && (m.Granted(who)&want != 0) != (oerr == nil) {
						t.Errorf("%v of %d:%d %v %v: %o is allowed %v, granted %o; the kernel says %v", who, m.UID, m.GID, m.Mode, m.ACL, want, m.Allowed(who, want), m.Granted(who), oerr)
					}
				}
			}
			done <- err
		}()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}
