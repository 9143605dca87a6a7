package check

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
)

// planOf gives the changes of alice's account as lines "PATH BEFORE AFTER", in order.
func planOf(t *testing.T, spec string) []string {
	t.Helper()
	o := world(t, spec, "alice")
	o.Plan = true
	var out []string
	for _, c := range reports(t, o)[0].Changes {
		out = append(out, fmt.Sprintf("%s %d:%d %s -> %d:%d %s", strings.TrimPrefix(c.Path(), "/home/alice/"),
			c.Before.UID, c.Before.GID, c.Before.Mode, c.After.UID, c.After.GID, c.After.Mode))
	}
	return out
}

// A directory that lets somebody in comes after everything beneath it, one that shuts somebody out before; one that does
// both is first cut to what both states share.
func TestADirectoryOpensLastAndClosesFirst(t *testing.T) {
	const home = "d 0711 20001:20001 home/alice\nd 0750 20001:33 home/alice/public_html\n"
	for _, tt := range []struct {
		name, spec string
		want       []string
	}{
		{
			"opens", "d 0700 20001:20001 home/alice/public_html/sub\nf 0666 20001:20001 home/alice/public_html/sub/a.html\n",
			[]string{"public_html/sub/a.html 20001:20001 0666 -> 20001:20001 0664", "public_html/sub 20001:20001 0700 -> 20001:20001 0711"},
		},
		{
			"closes", "d 0777 20001:20001 home/alice/public_html/sub\nf 0666 20001:20001 home/alice/public_html/sub/a.html\n",
			[]string{"public_html/sub 20001:20001 0777 -> 20001:20001 0775", "public_html/sub/a.html 20001:20001 0666 -> 20001:20001 0664"},
		},
		{
			"both", "d 2770 20001:20001 home/alice/public_html\nf 0666 20001:20001 home/alice/public_html/a.html\n",
			[]string{
				"public_html 20001:20001 2770 -> 20001:20001 2700", "public_html/a.html 20001:20001 0666 -> 20001:20001 0664",
				"public_html 20001:20001 2700 -> 20001:33 2770",
			},
		},
		{
			"both, with nothing to wait for", "d 0750 20001:20001 home/alice/public_html\n",
			[]string{"public_html 20001:20001 0750 -> 20001:33 0750"},
		},
		{
			"links", "d 0700 20001:20001 home/alice/public_html/sub\nd 0777 20001:20001 home/alice/public_html/z\n" +
				"f 0606 20002:20001 home/alice/public_html/sub/a.html\nh 0 0:0 home/alice/public_html/z/b.html -> home/alice/public_html/sub/a.html\n",
			[]string{
				"public_html/sub/a.html 20002:20001 0606 -> 20002:20001 0404",
				"public_html/z 20001:20001 0777 -> 20001:20001 0775", "public_html/sub 20001:20001 0700 -> 20001:20001 0711",
				"public_html/sub/a.html 20002:20001 0404 -> 20001:20001 0644",
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, planOf(t, home+tt.spec)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// reach is what an identity may do with an entry: nothing unless it may pass through every directory above.
func reach(metas map[string]rightful.Meta, path string, id rightful.Identity) uint8 {
	for i, c := range path {
		if c == '/' {
			if m, ok := metas[path[:i]]; ok && m.Granted(id)&rightful.RightSearch == 0 {
				return 0
			}
		}
	}
	return metas[path].Granted(id)
}

// "Never more than either": at no moment while the changes are made, in their order, may anybody but root do with an entry
// what neither the state before nor the state after lets him do. Groups are held by who is known to hold them.
func TestAtNoMomentHasAnybodyMoreThanBeforeOrAfter(t *testing.T) {
	treetest.NeedRoot(t)
	ids := []rightful.Identity{
		{UID: www, GIDs: []uint32{www}},
		{UID: alice, GIDs: []uint32{alice}},
		{UID: bob, GIDs: []uint32{bob}},
		{UID: 29999, GIDs: []uint32{29999}},
		{UID: 32000, GIDs: []uint32{32000}},
		{UID: 31000, GIDs: []uint32{31000, 0, www}},
		{UID: 31001, GIDs: []uint32{31001, alice, bob}},
	}
	r := rand.New(rand.NewPCG(4, 2))
	changes := 0
	for range 60 {
		o := world(t, messy(r, "alice", alice)+"d 0711 20002:20002 home/bob\nd 0750 20002:33 home/bob/public_html\n", "alice", "bob")
		o.Plan, o.Accounts = true, []string{"alice"}
		o.Accept = []Accept{{RiskRootOwned, "alice"}, {RiskForeignOwner, "bob"}, {RiskLocked, "alice"}}
		rep := reports(t, o)[0]
		changes += len(rep.Changes)
		before := everything(t, o)
		after, now := maps.Clone(before), maps.Clone(before)
		for _, c := range rep.Changes {
			after[c.Path()] = c.After
		}
		for _, c := range rep.Changes {
			if !now[c.Path()].Equal(c.Before) {
				t.Fatalf("%s is expected to be %+v and is %+v", c.Path(), c.Before, now[c.Path()])
			}
			now[c.Path()] = c.After
			for _, p := range slices.Sorted(maps.Keys(now)) {
				for _, id := range ids {
					may := reach(before, p, id) | reach(after, p, id)
					if got := reach(now, p, id); got&^may != 0 {
						t.Fatalf("once %s is %+v, uid %d %v may %s %s; before %s, after %s", c.Path(), c.After, id.UID, id.GIDs,
							rightful.PermString(got), p, rightful.PermString(reach(before, p, id)), rightful.PermString(reach(after, p, id)))
					}
				}
			}
		}
	}
	if changes < 300 {
		t.Errorf("only %d changes were tried", changes)
	}
}

// everything gives what each entry of alice's home is, by the walk.
func everything(t *testing.T, o Options) map[string]rightful.Meta {
	t.Helper()
	b, err := o.Server.OpenBase("/home/alice")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	v := &collector{t: t, metas: map[string]rightful.Meta{}}
	if err := b.Walk(t.Context(), v, true); err != nil {
		t.Fatal(err)
	}
	return v.metas
}

// collector notes every entry of a walk.
type collector struct {
	t     *testing.T
	metas map[string]rightful.Meta
}

func (v *collector) Entry(_ *tree.Dir, e *tree.Entry) (bool, error) {
	m, err := e.Meta()
	v.metas[e.Path()] = m
	return true, err
}
func (v *collector) Enter(*tree.Dir) error      { return nil }
func (v *collector) Leave(*tree.Dir) error      { return nil }
func (v *collector) Fail(rel string, err error) { v.t.Errorf("%s: %v", rel, err) }
