package repair

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"rightful"
	"rightful/internal/state"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
)

// randomChange gives any change that can be written.
func randomChange(r *rand.Rand) *rightful.Change {
	text := func() string {
		b := make([]byte, r.IntN(20))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return string(b)
	}
	kind := rightful.Kind(1 + r.IntN(7))
	c := &rightful.Change{
		Base: "/home/" + text(), Rel: text(), Kind: kind, Links: r.Uint32(), Before: randomMeta(r, kind), After: randomMeta(r, kind),
		Problem: rightful.Problem(text()), Effect: rightful.Effect(text()), Rule: text(),
		ID: rightful.EntryID{FS: rightful.FSID(text()), Ino: r.Uint64(), Birth: int64(r.Uint64())},
	}
	if r.IntN(2) == 0 {
		c.ID.Handle = []byte("h" + text())
	}
	id := func() (id rightful.EntryID) {
		if r.IntN(3) == 0 {
			return id // nothing stands there
		}
		id = rightful.EntryID{FS: rightful.FSID(text()), Ino: r.Uint64(), Birth: int64(r.Uint64())}
		if r.IntN(2) == 0 {
			id.Handle = []byte("h" + text())
		}
		return id
	}
	switch r.IntN(3) {
	case 0:
		c.Content = &rightful.Content{Size: r.Int64()}
		copy(c.Content.SHA256[:], text())
	case 1:
		c.Kind = rightful.KindDir
		c.ID, c.Exchange = id(), &rightful.Exchange{With: "/home/" + text(), ID: id()}
	}
	return c
}

// Every change comes back from its record as it was, whatever bytes its names hold.
func FuzzChange(f *testing.F) {
	f.Add(uint64(1), []byte{})
	f.Fuzz(func(t *testing.T, seed uint64, raw []byte) {
		c := randomChange(rand.New(rand.NewPCG(seed, 0)))
		var strings []string
		intern := func(s string) uint64 {
			strings = append(strings, s)
			return uint64(len(strings) - 1)
		}
		var e state.Packer
		encodeChange(&e, c, intern)
		got, err := decodeChange(e.B, strings)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, got); diff != "" {
			t.Errorf("(-written +read):\n%s", diff)
		}
		for n := range e.B {
			if _, err := decodeChange(e.B[:n], strings); err == nil {
				t.Fatalf("cut at byte %d of %d it was accepted", n, len(e.B))
			}
		}
		// Any other bytes are read as a change or refused; what is read can be written again.
		if c, err := decodeChange(raw, strings); err == nil {
			var again state.Packer
			encodeChange(&again, c, intern)
			if d, err := decodeChange(again.B, strings); err != nil || !cmp.Equal(c, d) {
				t.Errorf("%+v became %+v, %v", c, d, err)
			}
		}
	})
}

// scratch makes a state directory that needs no root.
func scratch(t testing.TB) *State {
	dir := t.TempDir()
	for _, d := range []string{plansDir, runsDir} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return &State{dir: &state.Dir{Path: dir, Root: "/", Server: "test"}}
}

// somePlan writes a plan of random changes and gives them back by account.
func somePlan(t testing.TB, s *State, r *rand.Rand) (id string, want [][]*rightful.Change) {
	w, err := s.NewPlan(PlanHeader{Verb: "fix"})
	if err != nil {
		t.Fatal(err)
	}
	for range r.IntN(4) {
		if err := w.Account(PlanAccount{Account: "alice", Bases: []string{"/home/alice"}}); err != nil {
			t.Fatal(err)
		}
		var cs []*rightful.Change
		for range r.IntN(5) {
			c := randomChange(r)
			if err := w.Change(c); err != nil {
				t.Fatal(err)
			}
			cs = append(cs, c)
		}
		want = append(want, cs)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return w.ID(), want
}

// within fails a test in which fn allocates wildly for what it is given.
func within(t *testing.T, given int, fn func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 64<<20+100*uint64(given) {
		t.Errorf("%d MiB were allocated for %d bytes", got>>20, given)
	}
}

// A plan comes back as it was written, forwards and backwards; any other bytes are refused without harm.
func FuzzPlan(f *testing.F) {
	s := scratch(f)
	id, _ := somePlan(f, s, rand.New(rand.NewPCG(5, 5)))
	good, err := os.ReadFile(s.planPath(id))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint64(0), good)
	f.Add(uint64(1), []byte(planMagic))
	f.Add(uint64(2), appendRecord([]byte(planMagic), int64(len(planMagic)), recHeader, []byte(`{"version":1}`)))
	f.Fuzz(func(t *testing.T, seed uint64, raw []byte) {
		id, want := somePlan(t, s, rand.New(rand.NewPCG(seed, 1)))
		defer os.Remove(s.planPath(id))
		p, err := s.OpenPlan(id)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for i := range want {
			var got, back []*rightful.Change
			keep := func(to *[]*rightful.Change) func(int, *rightful.Change) error {
				return func(_ int, c *rightful.Change) error { *to = append(*to, c); return nil }
			}
			if err := p.Each(i, keep(&got)); err != nil {
				t.Fatal(err)
			}
			if err := p.EachBack(i, keep(&back)); err != nil {
				t.Fatal(err)
			}
			for k := range back[:len(back)/2] {
				back[k], back[len(back)-1-k] = back[len(back)-1-k], back[k]
			}
			if diff := cmp.Diff(want[i], got); diff != "" {
				t.Errorf("(-written +read):\n%s", diff)
			}
			if diff := cmp.Diff(got, back); diff != "" {
				t.Errorf("(-forwards +backwards):\n%s", diff)
			}
		}
		name := filepath.Join(t.TempDir(), "plan")
		if err := os.WriteFile(name, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		within(t, len(raw), func() {
			if p, err := s.OpenPlan(name); err == nil {
				p.Close()
			}
		})
	})
}

// fileOf lets bytes be read as an outcome.
type fileOf struct {
	*bytes.Reader
	os.FileInfo
}

func (f fileOf) Stat() (os.FileInfo, error) { return f, nil }
func (f fileOf) Size() int64                { return f.Reader.Size() }

// Whatever bytes an outcome holds, it is read or refused without harm, and each part of it up to a whole record says no
// more than the whole.
func FuzzOutcome(f *testing.F) {
	write := func(payloads ...[]byte) []byte {
		b := []byte(outcomeMagic)
		for _, p := range payloads {
			b = appendRecord(b, int64(len(b)), recordKind(p[0]), p[1:])
		}
		return b
	}
	head := []byte(`H{"version":1,"run":"r","changes":4}`)
	f.Add(write(head, []byte("B\x01\x00\x02\x02"), []byte("R\x01\x00\x02\x00\x00"), []byte("B\x02\x00"), []byte("R\x02\x00\x06\x00\x00"), []byte(`E{"state":"done"}`)))
	f.Add(write([]byte(`H{"version":1,"changes":67108865}`)))
	f.Add(write([]byte(`H{"version":1,"changes":4}`), []byte(`H{"version":1,"changes":2}`), []byte("B\x01\x06")))
	f.Add([]byte(outcomeMagic))
	damaged := write(head, []byte("B\x01\x00\x02\x02"), head, []byte("R\x01\x00\x02\x00\x00"))
	damaged[20] ^= 1
	f.Add(damaged)
	f.Fuzz(func(t *testing.T, raw []byte) {
		within(t, len(raw)+1<<20, func() {
			o, err := parseOutcome(fileOf{Reader: bytes.NewReader(raw)}, nil)
			if err != nil {
				return
			}
			if o.until > int64(len(raw)) || len(o.status) != o.Changes {
				t.Errorf("outcome: %+v", o)
			}
			again, err := parseOutcome(fileOf{Reader: bytes.NewReader(raw[:o.until])}, nil)
			if err != nil || again.until != o.until || !cmp.Equal(o.status, again.status) || !cmp.Equal(o.observed, again.observed) {
				t.Errorf("without its torn end it is another: %+v, %+v, %v", o, again, err)
			}
		})
	})
}

// A plan that is closed holds no file.
func TestPlansLetGoOfTheirFiles(t *testing.T) {
	treetest.NeedRoot(t)
	s := scratch(t)
	id, _ := somePlan(t, s, rand.New(rand.NewPCG(7, 7)))
	count := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	before := count()
	for range 10 {
		p, err := s.OpenPlan(id)
		if err != nil {
			t.Fatal(err)
		}
		p.Close()
	}
	if got := count(); got > before {
		t.Errorf("%d descriptors, %d before", got, before)
	}
}
