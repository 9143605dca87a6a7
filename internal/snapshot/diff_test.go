package snapshot

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"rightful"

	"github.com/google/go-cmp/cmp"
)

// Every difference is told once and as what it is, and nothing else.
func TestDiffTellsEveryDifferenceAndNothingElse(t *testing.T) {
	s := scratch(t)
	before := someEntries(rand.New(rand.NewPCG(9, 9)), 6000)
	for i := range before {
		before[i].ID.Ino = uint64(100 + i)
		before[i].Unknown = 0
	}
	after := slices.Clone(before)
	var want []string
	touched := map[int]bool{}
	leaf := func(k int) int { // a file that nothing was done to yet
		for i := k; ; i++ {
			if after[i].Kind == rightful.KindFile && !touched[i] {
				touched[i] = true
				return i
			}
		}
	}
	edit := func(i int, say string, do func(e *Entry)) {
		want = append(want, fmt.Sprintf(say, after[i].Rel))
		do(&after[i])
	}
	edit(leaf(100), "changed %q mode", func(e *Entry) { e.Meta.Mode ^= 0o111 })
	edit(leaf(200), "changed %q owner group", func(e *Entry) { e.Meta.UID, e.Meta.GID = 7, 8 })
	edit(leaf(300), "changed %q acl", func(e *Entry) { e.Meta.Default, _ = rightful.ParseACL("user::rwx,group::r-x,other::---") })
	edit(leaf(400), "changed %q caps", func(e *Entry) { e.Meta.Caps = []byte{9} })
	edit(leaf(500), "changed %q owner replaced", func(e *Entry) { e.Meta.UID, e.ID.Ino = 9, 99999 })
	edit(leaf(600), "kind %q", func(e *Entry) { e.Kind = rightful.KindFIFO })
	after[leaf(700)].Size++
	after[leaf(800)].Ctime++
	after[leaf(900)].ID.Ino = 88888 // replaced by one that looks the same: nobody need know
	i := leaf(1000)
	edit(i, "moved %q to moved mode", func(e *Entry) { e.Rel, e.Meta.Mode = "moved", e.Meta.Mode^0o222 })
	gone := leaf(1100)
	want = append(want, fmt.Sprintf("gone %q", after[gone].Rel), `new "~new"`)
	after[gone] = Entry{Rel: "~new", Kind: rightful.KindFile, Meta: after[0].Meta, Links: 1, ID: rightful.EntryID{FS: fs, Ino: 77777, Birth: 1}}
	slices.SortFunc(after, func(a, b Entry) int { return Compare(a.Rel, b.Rel) })

	a, b := open(t, s, record(t, s, before)), open(t, s, record(t, s, after))
	var got []string
	err := Diff(a, b, func(d *Difference) error {
		e := d.Before
		if e == nil {
			e = d.After
		}
		line := fmt.Sprintf("%s %q", d.Change, e.Rel)
		if d.Change == ChangeMoved {
			line += " to " + d.After.Rel
		}
		line = strings.TrimSpace(line + " " + strings.Join(wordsOf(d.Fields), " "))
		if d.Replaced {
			line += " replaced"
		}
		got = append(got, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-made +told):\n%s", diff)
	}
}

func wordsOf(f Fields) (out []string) {
	for i, n := range []string{"owner", "group", "mode", "acl", "caps"} {
		if f&(1<<i) != 0 {
			out = append(out, n)
		}
	}
	return out
}

// Where one entry is inserted, all blocks but one stay what they are.
func TestAChangeAltersOneBlock(t *testing.T) {
	s := scratch(t)
	entries := someEntries(rand.New(rand.NewPCG(10, 10)), 40000)
	a := open(t, s, record(t, s, entries))
	k := len(entries) / 2
	dir, _ := split(entries[k].Rel)
	e := Entry{Rel: strings.TrimPrefix(dir+"/ a new one", "/"), Kind: rightful.KindFile, Links: 1}
	entries = append(entries, e)
	slices.SortFunc(entries, func(a, b Entry) int { return Compare(a.Rel, b.Rel) })
	b := open(t, s, record(t, s, entries))
	same := 0
	for i := range a.blocks {
		for j := range b.blocks {
			if a.blocks[i].what.hash == b.blocks[j].what.hash {
				same++
			}
		}
	}
	if len(a.blocks) < 8 || same < len(a.blocks)-2 {
		t.Errorf("%d of %d blocks stayed the same", same, len(a.blocks))
	}
}

func TestUnknownFieldsAreNoDifference(t *testing.T) {
	a := rightful.Meta{UID: 1, GID: 1, Mode: 0o644, Caps: []byte{1}}
	b := rightful.Meta{UID: 2, GID: 1, Mode: 0o600}
	if f := Differs(rightful.KindFile, a, b, FieldMode|FieldCaps); f != FieldUID {
		t.Errorf("fields %b", f)
	}
	if f := Differs(rightful.KindSymlink, a, b, 0); f != FieldUID {
		t.Errorf("fields of a link %b", f)
	}
}

// What one of the two could not read is neither gone nor new.
func TestWhatCouldNotBeReadIsNotGone(t *testing.T) {
	s := scratch(t)
	dir := func(rel string) Entry { return Entry{Rel: rel, Kind: rightful.KindDir, Links: 0} }
	a := open(t, s, record(t, s, []Entry{dir(""), dir("d"), dir("e"), dir("d/f"), dir("e/f")}))
	b := open(t, s, record(t, s, []Entry{dir(""), dir("d"), dir("e")}))
	b.unread = []Unread{{"/home/alice", "d", "input/output error"}}
	var got []string
	tell := func(d *Difference) error {
		e := d.Before
		if e == nil {
			e = d.After
		}
		got = append(got, string(d.Change)+" "+e.Rel)
		return nil
	}
	if err := Diff(a, b, tell); err != nil {
		t.Fatal(err)
	}
	if err := Diff(b, a, tell); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"gone e/f", "new e/f"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// BenchmarkDiff tells two records of 200,000 entries apart of which every block differs: by one entry in five hundred, and
// by every entry, as after a chown of everything.
func BenchmarkDiff(b *testing.B) {
	for _, step := range []int{500, 1} {
		b.Run(fmt.Sprintf("1 in %d", step), func(b *testing.B) {
			s := scratch(b)
			entries := someEntries(rand.New(rand.NewPCG(11, 11)), 200_000)
			x := record(b, s, entries)
			want := 0
			for i := 0; i < len(entries); i += step {
				entries[i].Meta.UID++
				want++
			}
			y := record(b, s, entries)
			for b.Loop() {
				n := 0
				ra, rb := open(b, s, x), open(b, s, y)
				if err := Diff(ra, rb, func(*Difference) error { n++; return nil }); err != nil || n != want {
					b.Fatal(n, err)
				}
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	s := scratch(b)
	entries := someEntries(rand.New(rand.NewPCG(12, 12)), 200_000)
	sn := record(b, s, entries)
	r := open(b, s, sn)
	rnd := rand.New(rand.NewPCG(13, 13))
	for b.Loop() {
		e := &entries[rnd.IntN(len(entries))]
		if got, err := r.Lookup("/home/alice", e.Rel); err != nil || got == nil || got.Rel != e.Rel {
			b.Fatal(got, err)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	s := scratch(b)
	entries := someEntries(rand.New(rand.NewPCG(14, 14)), 200_000)
	for b.Loop() {
		sn := record(b, s, entries)
		b.ReportMetric(float64(sn.Accounts[0].Bytes)/float64(len(entries)), "B/entry")
	}
}
