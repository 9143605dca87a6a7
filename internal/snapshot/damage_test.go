package snapshot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rightful"
	"rightful/internal/state"

	"github.com/google/go-cmp/cmp"
)

// files gives the snapshot's own file and that of its account.
func files(t testing.TB, s *Store, sn *Snapshot) (list, account string) {
	t.Helper()
	return s.path(sn.ID), s.accountPath(sn.Accounts[0].File)
}

// whole reads everything that there is of the newest snapshot.
func whole(s *Store) error {
	sn, err := s.Find("latest", time.Time{})
	if err != nil {
		return err
	}
	r, err := s.Account(sn, "alice")
	if err != nil {
		return err
	}
	defer r.Close()
	return r.Verify()
}

func TestABitThatFlipsAnywhereIsFound(t *testing.T) {
	s := scratch(t)
	list, account := files(t, s, record(t, s, someEntries(rand.New(rand.NewPCG(2, 2)), 80)))
	for _, file := range []string{list, account} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i := range text {
			bad := bytes.Clone(text)
			bad[i] ^= 1 << (i % 8)
			if err := os.WriteFile(file, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := whole(s); err == nil {
				t.Errorf("%s: a flip in byte %d of %d was not found", filepath.Ext(file), i, len(text))
			}
		}
		for n := 0; n < len(text); n += 1 + n/7 {
			if err := os.WriteFile(file, text[:n], 0o600); err != nil {
				t.Fatal(err)
			}
			if err := whole(s); err == nil {
				t.Errorf("%s: a file cut off after %d of %d bytes was not found", filepath.Ext(file), n, len(text))
			}
		}
		if err := os.WriteFile(file, append(bytes.Clone(text), 0), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := whole(s); err == nil {
			t.Errorf("%s: one byte more was not found", filepath.Ext(file))
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := whole(s); err != nil {
		t.Error(err)
	}
}

// Blocks of one file that change places, and an account file under the name of another, are found too.
func TestWhatIsWholeButElsewhereIsFound(t *testing.T) {
	s := scratch(t)
	_, one := files(t, s, record(t, s, someEntries(rand.New(rand.NewPCG(3, 3)), 300)))
	sn := record(t, s, someEntries(rand.New(rand.NewPCG(4, 4)), 300))
	_, other := files(t, s, sn)
	text, err := os.ReadFile(one)
	if err == nil {
		err = os.WriteFile(other, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := open(t, s, sn).Verify(); !errors.Is(err, ErrDamaged) {
		t.Errorf("verify: %v", err)
	}
}

func TestASnapshotOfANewerVersionIsRefusedByName(t *testing.T) {
	s := scratch(t)
	sn := record(t, s, someEntries(rand.New(rand.NewPCG(5, 5)), 10))
	list, account := files(t, s, sn)
	text, err := os.ReadFile(account)
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(text[8:], 2)
	binary.LittleEndian.PutUint32(text[12:], crc32.Checksum(text[:12], castagnoli))
	if err := os.WriteFile(account, text, 0o600); err != nil {
		t.Fatal(err)
	}
	const says = "format version 2, this program (" + rightful.Version + ") knows up to 1"
	if _, err := s.Account(sn, "alice"); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), says) {
		t.Errorf("account: %v", err)
	}
	sn.Version = 2
	if text, err = sn.marshal(); err == nil {
		err = os.WriteFile(list, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(sn.ID); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), says) {
		t.Errorf("list: %v", err)
	}
}

func TestASnapshotOfAnotherServerIsRefused(t *testing.T) {
	s := scratch(t)
	sn := record(t, s, someEntries(rand.New(rand.NewPCG(6, 6)), 10))
	other, err := newStore(&state.Dir{Path: s.dir.Path, Root: "/", Server: "other"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Get(sn.ID); !errors.Is(err, ErrForeign) {
		t.Errorf("get: %v", err)
	}
	if all, err := other.List(); len(all) > 0 || !errors.Is(err, ErrForeign) {
		t.Errorf("list: %v, %v", all, err)
	}
}

// A record that copies what did not change from the one before is the one that would have been packed, and takes over no damage.
func TestFramesAreCopiedOnlyWhole(t *testing.T) {
	s := scratch(t)
	entries := someEntries(rand.New(rand.NewPCG(15, 15)), 8000)
	before := record(t, s, entries)
	entries[4000].Meta.UID++
	want := record(t, s, entries)
	_, packed := files(t, s, want)
	text, err := os.ReadFile(packed)
	if err != nil {
		t.Fatal(err)
	}
	again := func(prev *Reader) {
		t.Helper()
		if err := os.Remove(packed); err != nil {
			t.Fatal(err)
		}
		k, err := s.Create(Header{})
		if err != nil {
			t.Fatal(err)
		}
		w, err := k.Account(Account{Account: "alice"})
		if err == nil {
			w.previous = prev
			err = w.Base("/home/alice", fs)
		}
		for i := range entries {
			err = errors.Join(err, w.Add(&entries[i]))
		}
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		k.Discard() // what no snapshot lists goes with it
		got, err := os.ReadFile(packed)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, text) {
			t.Errorf("%d bytes, and not the %d that were packed", len(got), len(text))
		}
	}
	r := open(t, s, before)
	again(r)
	if len(r.blocks) < 3 || len(r.frames) < len(r.blocks) {
		t.Fatalf("%d blocks, %d frames were looked at", len(r.blocks), len(r.frames))
	}
	_, account := files(t, s, before)
	damaged, err := os.ReadFile(account)
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.blocks {
		damaged[r.blocks[i].what.off+9] ^= 1
	}
	if err := os.WriteFile(account, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	again(open(t, s, before))
}

// FuzzAccountFile: whatever an account file holds, reading it ends, with an error or with entries that make sense.
func FuzzAccountFile(f *testing.F) {
	s := scratch(f)
	_, account := files(f, s, record(f, s, someEntries(rand.New(rand.NewPCG(7, 7)), 200)))
	text, err := os.ReadFile(account)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(text[:len(text)/2])
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := newReader(bytes.NewReader(text), int64(len(text)), s)
		if err != nil {
			return
		}
		defer r.Close()
		last, first := "", true
		lastBase := ""
		for e, err := range r.All() {
			if err != nil {
				break
			}
			if b := r.BaseOf(e); b == lastBase && !first && Compare(last, e.Rel) >= 0 {
				t.Fatalf("%q comes after %q", e.Rel, last)
			} else {
				last, lastBase, first = e.Rel, b, false
			}
			if got, err := r.Lookup(r.BaseOf(e), e.Rel); err == nil && got != nil && got.Number != e.Number {
				t.Fatalf("%q is entry %d and found as %d", e.Rel, e.Number, got.Number)
			}
		}
		// Under the right name it must be whole, or be found out.
		r.File = contentHash((&Writer{bases: r.bases, blocks: r.blocks, unread: r.unread}).index(false))
		r.Verify()
	})
}

// FuzzBlock goes beneath the checksums: what is unpacked may be anything.
func FuzzBlock(f *testing.F) {
	p := newPacker()
	for _, e := range someEntries(rand.New(rand.NewPCG(8, 8)), 60) {
		dir, name := split(e.Rel)
		p.add([]byte(dir), []byte(name), &e)
	}
	firstWhat, firstWhich := p.what(), p.which()
	f.Add(firstWhat, firstWhich)
	f.Fuzz(func(t *testing.T, what, which []byte) {
		var b, again block
		if err := errors.Join(b.unpackWhat(firstWhat), b.unpackWhich(firstWhich)); err != nil {
			t.Fatal(err)
		}
		if b.unpackWhat(what) != nil || b.unpackWhich(which) != nil { // in the memory of another
			return
		}
		// What is understood can be written again, and then says the same.
		p := newPacker()
		var entries []Entry
		for k := range b.dirs {
			for i := b.dirs[k].from; i < b.dirs[k].to; i++ {
				var e Entry
				b.fill(i, b.rel(i, b.dirs[k].path), "", &e)
				entries = append(entries, e)
				p.add(b.dirs[k].path, b.name(i), &e)
			}
		}
		if err := errors.Join(again.unpackWhat(p.what()), again.unpackWhich(p.which())); err != nil {
			t.Fatal(err)
		}
		for i := range entries {
			var e Entry
			again.fill(i, again.rel(i, again.dirOf(i).path), "", &e)
			if diff := cmp.Diff(entries[i], e); diff != "" {
				t.Fatalf("(-read +read again):\n%s", diff)
			}
		}
	})
}
