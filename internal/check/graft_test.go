package check

import (
	"os"
	"path/filepath"
	"testing"

	"rightful/internal/panel"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
)

// A home that is grafted is found, judged and predicted as it is when it stands in its place.
func TestAGraftIsJudgedAsIfItStoodThere(t *testing.T) {
	const rebuilt = `
		d 0700 0:0 home/.aside
		d 0711 20001:20001 home/.aside/home
		d 0700 20001:20001 home/.aside/home/public_html
		f 0600 20001:20001 home/.aside/home/public_html/index.html
		f 0644 20002:20002 home/.aside/home/public_html/page.html
		d 0755 20001:20001 home/.aside/home/public_html/sub
		f 0666 20001:20001 home/.aside/home/public_html/sub/.htaccess = "Redirect /x /y\n"
	`
	for name, spec := range map[string]string{"a ruin": "d 0711 20001:20001 home/alice\n" + rebuilt, "nothing": rebuilt} {
		t.Run(name, func(t *testing.T) {
			o := world(t, spec, "alice")
			root := o.Server.Dir()
			on := func(s *tree.Server) *Report {
				w, err := panel.Read(s, panel.Options{})
				if err != nil {
					t.Fatal(err)
				}
				rs := reports(t, Options{Server: s, World: w, Plan: true})
				if len(rs) != 1 {
					t.Fatalf("%d reports", len(rs))
				}
				return rs[0]
			}
			before := treetest.Describe(t, root)
			b, err := o.Server.OpenBase("/home/.aside/home")
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			g, err := o.Server.Graft("/home/alice", b)
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			got := on(g)
			if diff := cmp.Diff(before, treetest.Describe(t, root)); diff != "" {
				t.Errorf("something was changed:\n%s", diff)
			}
			if name == "a ruin" {
				err = os.Remove(filepath.Join(root, "home/alice"))
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(root, "home/.aside/home"), filepath.Join(root, "home/alice")); err != nil {
				t.Fatal(err)
			}
			want := on(o.Server)
			if len(want.Findings) < 4 || len(want.Changes) < 3 || len(want.Planned) != 1 {
				t.Fatalf("%d findings, %d changes, %d predictions", len(want.Findings), len(want.Changes), len(want.Planned))
			}
			for what, pair := range map[string][2]any{
				"findings": {want.Findings, got.Findings}, "changes": {want.Changes, got.Changes}, "now": {want.Now, got.Now}, "planned": {want.Planned, got.Planned},
			} {
				if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
					t.Errorf("%s (-in its place +grafted):\n%s", what, diff)
				}
			}
		})
	}
}
