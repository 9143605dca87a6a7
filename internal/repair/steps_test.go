package repair

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"rightful"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
)

// randomMeta gives a state that an entry can really have.
func randomMeta(r *rand.Rand, kind rightful.Kind) rightful.Meta {
	ids := []uint32{0, 1001, 1002, 33, 8}
	m := rightful.Meta{UID: ids[r.IntN(4)], GID: ids[r.IntN(5)], Mode: rightful.Mode(r.IntN(0o10000))}
	if r.IntN(2) == 0 {
		m.Mode &= 0o777
	}
	acl := func() rightful.ACL {
		a := rightful.ACL{}
		a = a.Set(rightful.ACLUserObj, 0, uint8(r.IntN(8))).Set(rightful.ACLGroupObj, 0, uint8(r.IntN(8))).
			Set(rightful.ACLOther, 0, uint8(r.IntN(8))).Set(rightful.ACLMask, 0, uint8(r.IntN(8)))
		for range 1 + r.IntN(2) {
			a = a.Set(rightful.ACLUser, ids[r.IntN(4)], uint8(r.IntN(8)))
		}
		if r.IntN(2) == 0 {
			a = a.Set(rightful.ACLGroup, ids[r.IntN(5)], uint8(r.IntN(8)))
		}
		return a
	}
	if r.IntN(3) == 0 {
		m.ACL = acl().WithMode(m.Mode)
	}
	switch {
	case kind == rightful.KindDir && r.IntN(3) == 0:
		m.Default = acl()
	case kind == rightful.KindFile && r.IntN(4) == 0:
		m.Caps = treetest.NetBind
	}
	return m
}

// exceeds finds an identity with a right in mid that neither before nor after gives, or "".
func exceeds(mid, before, after rightful.Meta) string {
	uids := []uint32{1001, 1002, 33, 8, 4000}
	gids := []uint32{0, 1001, 1002, 33, 8}
	for _, uid := range uids {
		for set := range 1 << len(gids) {
			id := rightful.Identity{UID: uid}
			for i, g := range gids {
				if set&(1<<i) != 0 {
					id.GIDs = append(id.GIDs, g)
				}
			}
			if more := mid.Granted(id) &^ (before.Granted(id) | after.Granted(id)); more != 0 {
				return fmt.Sprintf("%v gets %s", id, rightful.PermString(more))
			}
		}
	}
	return ""
}

// Between before and after nobody has a right that neither gives, and the last step reaches after.
func TestStepsNeverGiveMoreThanEither(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		kind := []rightful.Kind{rightful.KindFile, rightful.KindDir}[r.IntN(2)]
		before, after := randomMeta(r, kind), randomMeta(r, kind)
		if r.IntN(3) == 0 {
			after.UID, after.GID = before.UID, before.GID
		}
		cur := before
		for i, s := range steps(before, after, kind) {
			cur = s.Model(cur, kind)
			if why := exceeds(cur, before, after); why != "" {
				t.Fatalf("%v → %v, step %d (%v) gives %v: %s", before, after, i, s, cur, why)
			}
			const set = rightful.ModeSetuid | rightful.ModeSetgid
			if kind == rightful.KindFile && cur.Mode&set&^(before.Mode|after.Mode) != 0 {
				t.Fatalf("%v → %v, step %d: set-id bits from nowhere: %v", before, after, i, cur)
			}
		}
		if !same(cur, after, kind) {
			t.Fatalf("%v → %v ends at %v", before, after, cur)
		}
	}
}

// The model of what system calls do is the kernel's: on real entries each step leaves exactly the state predicted.
func TestStepsLeaveWhatTheModelSays(t *testing.T) {
	treetest.NeedRoot(t)
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := tree.OpenServer(root)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	os.Mkdir(filepath.Join(root, "home"), 0o755)
	b, err := s.OpenBase("/home")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 1500 {
		kind := []rightful.Kind{rightful.KindFile, rightful.KindDir}[r.IntN(2)]
		name := fmt.Sprintf("e%d", i)
		path := filepath.Join(root, "home", name)
		if kind == rightful.KindDir {
			err = os.Mkdir(path, 0o700)
		} else {
			err = os.WriteFile(path, nil, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		cur := b.Cursor()
		n, err := cur.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		live, err := n.Refresh()
		if err != nil {
			t.Fatal(err)
		}
		for _, goal := range []rightful.Meta{randomMeta(r, kind), randomMeta(r, kind)} {
			want := live
			for _, st := range steps(live, goal, kind) {
				want = st.Model(want, kind)
				if err := st.Do(n); err != nil {
					t.Fatalf("%v: %v", st, err)
				}
				got, err := n.Refresh()
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("%v → %v, after %v (-model +kernel):\n%s", live, goal, st, diff)
				}
			}
			if !same(want, goal, kind) {
				t.Fatalf("%v → %v ends at %v", live, goal, want)
			}
			live = want
		}
		n.Close()
		cur.Close()
	}
}
