package attack_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"rightful"
	"rightful/internal/check"
	"rightful/internal/panel"
	"rightful/internal/snapshot"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// restore plans alice's way back to a snapshot, and carries it out.
func (h *host) restore(st *snapshot.Store, sn *snapshot.Snapshot, accept ...check.Accept) (*check.Report, *rightful.Run) {
	h.t.Helper()
	h.truth = &check.Truth{Store: st, Snapshots: []*snapshot.Snapshot{sn}, Restore: true}
	r, plan := h.check(accept...)
	if plan == "" {
		return r, nil
	}
	return r, h.apply(plan)
}

func (h *host) store() *snapshot.Store {
	h.t.Helper()
	st, err := snapshot.Open(filepath.Join(h.t.TempDir(), "state"), h.s)
	if err != nil {
		h.t.Fatal(err)
	}
	return st
}

// take takes a snapshot of alice.
func (h *host) take() (*snapshot.Store, *snapshot.Snapshot) {
	h.t.Helper()
	st := h.store()
	k, err := st.Create(snapshot.Header{})
	if err == nil {
		o := check.Options{Server: h.s, World: h.world, Accounts: []string{"alice"}}
		err = check.Record(context.Background(), o, k, nil, st, func(_ *panel.Account, err error) { h.t.Error(err) })
	}
	if err != nil {
		h.t.Fatal(err)
	}
	sn, err := k.Commit()
	if err != nil {
		h.t.Fatal(err)
	}
	return st, sn
}

// mustBe compares owner, group and mode of files with what they should be.
func (h *host) mustBe(dir string, want map[string]string) {
	h.t.Helper()
	got := map[string]string{}
	for name := range want {
		var st unix.Stat_t
		if err := unix.Lstat(h.path(dir+"/"+name), &st); err != nil {
			h.t.Fatal(err)
		}
		got[name] = fmt.Sprintf("%d:%d %04o", st.Uid, st.Gid, st.Mode&0o7777)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		h.t.Errorf("(-want +got):\n%s", diff)
	}
}

// recorded makes a snapshot of alice of what somebody says that she had.
func (h *host) recorded(st *snapshot.Store, source string, entries ...snapshot.Entry) *snapshot.Snapshot {
	h.t.Helper()
	k, err := st.Create(snapshot.Header{Source: source})
	if err != nil {
		h.t.Fatal(err)
	}
	w, err := k.Account(snapshot.Account{Account: "alice", UID: alice, GID: alice, Home: "/home/alice"})
	if err == nil {
		err = w.Base("/home/alice", "")
	}
	slices.SortFunc(entries, func(a, b snapshot.Entry) int { return snapshot.Compare(a.Rel, b.Rel) })
	for i := range entries {
		err = errors.Join(err, w.Add(&entries[i]))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		h.t.Fatal(err)
	}
	sn, err := k.Commit()
	if err != nil {
		h.t.Fatal(err)
	}
	return sn
}

// A22: a record that does not come from this file system is believed in modes and ordinary owners, and in nothing that is
// a privilege, or gives away what belongs to others.
func TestAnImportedRecordGivesNoPrivilege(t *testing.T) {
	h := newHost(t, `
f 0755 1001:1001 home/alice/root-suid = x
f 0755 1001:1001 home/alice/own-suid = x
f 0755 1001:1001 home/alice/capable = x
f 0600 1001:1001 home/alice/open.txt = x
f 0644 1001:1001 home/alice/bobs = x
f 0600 0:0 home/alice/secret-of-root = x
f 0600 1002:1002 home/alice/secret-of-bob = x
d 0755 1001:1001 home/alice/dir
`)
	st := h.store()
	file := func(rel string, uid, gid uint32, mode rightful.Mode) snapshot.Entry {
		return snapshot.Entry{Rel: rel, Kind: rightful.KindFile, Meta: rightful.Meta{UID: uid, GID: gid, Mode: mode}, Links: 1}
	}
	capable := file("capable", alice, alice, 0o755)
	capable.Meta.Caps = treetest.NetBind
	dir := file("dir", 0, 0, 0o2750)
	dir.Kind = rightful.KindDir
	sn := h.recorded(st, "tar", file("root-suid", 0, 0, 0o4755), file("own-suid", alice, alice, 0o6755), capable, file("open.txt", alice, web, 0o644),
		file("bobs", bob, bob, 0o640), file("secret-of-root", alice, alice, 0o600), file("secret-of-bob", alice, alice, 0o600), dir)
	r, run := h.restore(st, sn)
	if run == nil || run.Failed > 0 {
		t.Fatalf("run %+v, findings %+v", run, r.Findings)
	}
	want := map[string]string{
		"root-suid": "1001:1001 0755", "own-suid": "1001:1001 0755", "capable": "1001:1001 0755", "open.txt": "1001:33 0644",
		"bobs": "1001:1001 0640", "secret-of-root": "0:0 0600", "secret-of-bob": "1002:1002 0600", "dir": "1001:1001 2750",
	}
	h.mustBe("home/alice", want)
	if n, err := unix.Lgetxattr(h.path("home/alice/capable"), tree.XattrCaps, nil); err == nil {
		t.Errorf("a capability of %d bytes was given", n)
	}
}

// A snapshot of this file system proves whose an inode was, and only that inode.
func TestARecordProvesOwnershipOfItsInodeAlone(t *testing.T) {
	h := newHost(t, `
f 0600 1001:1001 home/alice/mine = x
f 0600 1001:1001 home/alice/replaced = x
`)
	st, sn := h.take()
	// Root's own secret lands at a path that was hers; and hers is given to bob by mistake.
	if err := errors.Join(os.Remove(h.path("home/alice/replaced")), os.Rename(h.path("victims/secret.html"), h.path("home/alice/replaced")),
		os.Chown(h.path("home/alice/mine"), bob, bob)); err != nil {
		t.Fatal(err)
	}
	r, _ := h.restore(st, sn)
	h.mustBe("home/alice", map[string]string{"mine": "1001:1001 0600", "replaced": "0:0 0600"})
	if !slices.ContainsFunc(r.Findings, func(f rightful.Finding) bool { return f.Problem == check.RootOwnedUnproven }) {
		t.Errorf("findings %+v", r.Findings)
	}
}

// Whatever alice swaps, links, renames and recreates while her account is restored: nothing that is not hers is changed.
func TestNobodyElseIsHarmedWhileATenantRacesARestore(t *testing.T) {
	for _, c := range races() {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, work(60))
			st, sn := h.take()
			before, stop := h.race(c)
			restored := 0
			for range 10 {
				h.truth = nil
				if _, plan := h.check(); plan != "" {
					h.apply(plan)
				}
				if _, run := h.restore(st, sn); run != nil {
					restored += run.Changed
				}
				h.unharmed(before)
			}
			if n := slices.Max(stop()); n < 10 {
				t.Errorf("the attacker came to only %d rounds", n)
			}
			if restored == 0 {
				t.Error("nothing was ever restored")
			}
			h.unharmed(before)
		})
	}
}
