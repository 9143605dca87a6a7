package snapshot

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"rightful"
	"rightful/internal/state"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
)

// scratch is a store that needs no root.
func scratch(t testing.TB) *Store {
	t.Helper()
	s, err := newStore(&state.Dir{Path: t.TempDir(), Root: "/", Server: "test"})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{snapshotsDir, accountsDir} {
		if err := os.MkdirAll(s.dir.Join(d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

const fs = rightful.FSID("fs")

// someEntries makes a tree of entries in walk order, some with everything that an entry can have.
func someEntries(r *rand.Rand, n int) []Entry {
	dirs := []string{""}
	met := map[string]bool{"": true}
	out := []Entry{{Kind: rightful.KindDir, Meta: rightful.Meta{UID: 1, GID: 1, Mode: 0o711}, ID: rightful.EntryID{FS: fs, Ino: 2, Birth: 5}}}
	acl, _ := rightful.ParseACL("user::rwx,user:33:r-x,group::r-x,mask::r-x,other::---")
	for len(out) < n {
		name := fmt.Sprintf("%s%x", []string{"wp-", "image-", "\xff\n", " ", "ü"}[r.IntN(5)], r.IntN(n))
		rel := name
		if d := dirs[r.IntN(len(dirs))]; d != "" {
			rel = d + "/" + name
		}
		if met[rel] {
			continue
		}
		met[rel] = true
		e := Entry{
			Rel: rel, Kind: rightful.KindFile, Meta: rightful.Meta{UID: 20001, GID: 20001, Mode: 0o644}, Size: r.Int64N(1 << 20), Links: 1,
			ID: rightful.EntryID{FS: fs, Ino: r.Uint64N(1 << 24), Birth: r.Int64N(1 << 60)}, Ctime: r.Int64N(1 << 60),
		}
		switch r.IntN(12) {
		case 0, 1:
			dirs = append(dirs, rel)
			e.Kind, e.Meta.Mode, e.Size, e.Links = rightful.KindDir, 0o2755, 0, 0
		case 2:
			e.Meta.ACL, e.Meta.Mode = acl, 0o750
		case 3:
			e.Meta.Caps, e.ID.Handle = []byte{1, 0, 0, 2}, []byte{1, 2, 3, 4, 5}
			e.Content = &rightful.Content{Size: e.Size, SHA256: [32]byte{byte(len(out))}}
		case 4:
			e.Kind, e.Links = rightful.KindSymlink, 3
		case 5:
			e.Unknown = FieldACL | FieldCaps
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Entry) int { return Compare(a.Rel, b.Rel) })
	for i := range out {
		out[i].Number = i
	}
	return out
}

// record takes a snapshot of one account out of entries.
func record(t testing.TB, s *Store, entries []Entry) *Snapshot {
	t.Helper()
	k, err := s.Create(Header{By: "root"})
	if err != nil {
		t.Fatal(err)
	}
	w, err := k.Account(Account{Account: "alice", UID: 20001, GID: 20001, Home: "/home/alice"})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Base("/home/alice", fs); err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		if err := w.Add(&entries[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sn, err := k.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return sn
}

func open(t testing.TB, s *Store, sn *Snapshot) *Reader {
	t.Helper()
	r, err := s.Account(sn, "alice")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func TestATenantCannotHaveRootHashForEver(t *testing.T) {
	treetest.NeedRoot(t)
	root := treetest.OpenDir(t)
	treetest.Build(t, root, `
d 0755 0:0 home
d 0755 20001:20001 home/alice
f 4755 20001:20001 home/alice/a = first
f 4755 20001:20001 home/alice/b = second
`)
	srv, err := tree.OpenServer(root)
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	s := scratch(t)
	take := func(previous *Reader) (*Reader, []string) {
		t.Helper()
		k, err := s.Create(Header{By: "root"})
		if err != nil {
			t.Fatal(err)
		}
		w, err := k.Account(Account{Account: "alice", Home: "/home/alice"})
		if err != nil {
			t.Fatal(err)
		}
		b, err := srv.OpenBase("/home/alice")
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if err := errors.Join(w.Take(t.Context(), b, TakeOptions{SystemUID: 1, Previous: previous, MaxHashed: 1}), w.Close()); err != nil {
			t.Fatal(err)
		}
		sn, err := k.Commit()
		if err != nil {
			t.Fatal(err)
		}
		r := open(t, s, sn)
		var proven []string
		for e, err := range r.All() {
			if err != nil {
				t.Fatal(err)
			}
			if e.Content != nil {
				proven = append(proven, e.Rel)
			}
		}
		return r, proven
	}
	r, proven := take(nil)
	if !slices.Equal(proven, []string{"a"}) {
		t.Errorf("hashed %q, want what one byte allows to begin", proven)
	}
	if _, proven = take(r); !slices.Equal(proven, []string{"a", "b"}) {
		t.Errorf("a later record has %q", proven)
	}
}

func TestWhatIsRecordedIsReadBack(t *testing.T) {
	for seed := range uint64(4) {
		readBack(t, someEntries(rand.New(rand.NewPCG(seed, 1)), 40000))
	}
}

func readBack(t *testing.T, want []Entry) {
	t.Helper()
	s := scratch(t)
	sn := record(t, s, want)
	found, err := s.Find("latest", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sn, found); diff != "" {
		t.Errorf("snapshot (-taken +found):\n%s", diff)
	}
	r := open(t, s, found)
	if err := r.Verify(); err != nil {
		t.Error(err)
	}
	if len(r.blocks) < 3 {
		t.Errorf("%d blocks: the test tests little", len(r.blocks))
	}
	var got []Entry
	for e, err := range r.All() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, *e)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-recorded +read):\n%s", diff)
	}
	for i := 0; i < len(want); i += 197 {
		e, err := r.Lookup("/home/alice", want[i].Rel)
		if err != nil || e == nil || !cmp.Equal(*e, want[i]) {
			t.Fatalf("look up %q: %v, %v", want[i].Rel, e, err)
		}
		if e, err := r.Lookup("/home/alice", want[i].Rel+"-not"); e != nil || err != nil {
			t.Fatalf("look up what is not there: %v, %v", e, err)
		}
		es, err := r.ByID(want[i].ID)
		if err != nil || !slices.ContainsFunc(es, func(e *Entry) bool { return cmp.Equal(*e, want[i]) }) {
			t.Fatalf("look up inode of %q: %v, %v", want[i].Rel, es, err)
		}
	}
}

// Whoever writes a record cannot make it hold what no file system does, or the same twice.
func TestWhatNoFileSystemHasIsNotRecorded(t *testing.T) {
	s := scratch(t)
	k, err := s.Create(Header{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := k.Account(Account{Account: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(&Entry{}); err == nil {
		t.Error("recorded without a base")
	}
	if err := w.Base("/home/alice", fs); err != nil {
		t.Fatal(err)
	}
	long := string(make([]byte, maxName+1))
	for _, rel := range []string{"..", "a/../b", "/etc/passwd", "a//b", "a/", "./a", "a\x00b", "b/" + long, "a/./b"} {
		if err := w.Add(&Entry{Rel: rel}); err == nil {
			t.Errorf("%q was recorded", rel)
		}
	}
	for _, c := range []struct {
		rel string
		err error
	}{{"", nil}, {"", ErrOrder}, {"b", nil}, {"a", ErrOrder}, {"c", nil}, {"b/x", nil}, {"b/x", ErrOrder}, {"d", ErrOrder}, {"b/x/y", nil}, {"b-", ErrOrder}} {
		if err := w.Add(&Entry{Rel: c.rel}); !errors.Is(err, c.err) {
			t.Errorf("%q: %v, want %v", c.rel, err, c.err)
		}
	}
	if err := w.Base("/home/alice", fs); !errors.Is(err, ErrOrder) {
		t.Errorf("base twice: %v", err)
	}
	w.Discard()
	k.Discard()
	if all, err := s.List(); err != nil || len(all) > 0 {
		t.Errorf("listed: %v, %v", all, err)
	}
}
