package attack_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rightful/internal/check"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
)

// tempting is what lies behind a mount: whatever was changed of it would be seen.
const tempting = `
d 0777 1001:1001 d
f 0666 1001:1001 d/f0.html
f 0666 1001:1001 f0.html
f 0666 0:0 f1.html
f 4755 1002:1002 suid.html
`

// What is mounted in a tenant's home is reported and never crossed: a bind mount of the same device, of a file, another
// file system of any kind; not even while she renames the directory above it.
func TestWhatIsMountedInAHomeIsNeverCrossed(t *testing.T) {
	treetest.Without(t, "fchmodat2", "name_to_handle_at", "unshare")
	for _, kind := range append([]string{"a bind mount of the same device", "a bind mount of a file"}, treetest.FileSystems...) {
		t.Run(kind, func(t *testing.T) {
			more := work(5) + "d 0755 1001:1001 home/alice/public_html/x\nd 0777 0:0 behind\n"
			h := newHost(t, more)
			source, at := h.path("behind"), h.path("home/alice/public_html/x/at")
			if !strings.HasPrefix(kind, "a bind") {
				source = treetest.Mounted(t, kind, "")
			}
			treetest.Build(t, source, tempting)
			if kind == "a bind mount of a file" {
				if err := os.WriteFile(at, nil, 0o644); err != nil {
					t.Fatal(err)
				}
				treetest.Bind(t, source+"/f0.html", at)
			} else {
				if err := os.Mkdir(at, 0o777); err != nil {
					t.Fatal(err)
				}
				treetest.Bind(t, source, at)
			}
			before := treetest.Describe(t, source)
			r, _ := h.check()
			told := false
			for _, n := range r.Notes {
				told = told || strings.HasPrefix(n.Path, "/home/alice/public_html/x/at") && strings.Contains(n.Note, "not entered")
			}
			if !told {
				t.Errorf("it is not reported: %+v", r.Notes)
			}
			stop := treetest.Attack(t, alice, h.path("home/alice/public_html"), "rename x y", "rename y x", "exchange d e", "exchange d e")
			for range 5 {
				if _, plan := h.check(); plan != "" {
					h.undo(h.apply(plan).ID)
				}
				if diff := cmp.Diff(before, treetest.Describe(t, source)); diff != "" {
					t.Fatalf("what is behind it was changed:\n%s", diff)
				}
			}
			stop()
		})
	}
}

// What is mounted over a planned entry is left alone, by a run and by an undo, though names and looks are the same.
func TestAMountOverAPlannedEntryIsLeftAlone(t *testing.T) {
	for _, when := range []string{"before the run", "before the undo"} {
		t.Run(when, func(t *testing.T) {
			h := newHost(t, work(3)+"d 0777 0:0 behind\n")
			source, at := h.path("behind"), h.path("home/alice/public_html/d")
			treetest.Build(t, source, "f 0666 1001:1001 f0.html\nf 0666 1001:1001 f1.html\nf 0666 1001:1001 f2.html\n")
			before := treetest.Describe(t, at)
			_, plan := h.check()
			if when == "before the run" {
				old := treetest.Describe(t, source)
				unmount := treetest.Bind(t, source, at)
				run := h.apply(plan)
				if diff := cmp.Diff(old, treetest.Describe(t, source)); diff != "" || run.Skipped < 3 {
					t.Errorf("run %+v:\n%s", run, diff)
				}
				unmount()
				return
			}
			run := h.apply(plan)
			after := treetest.Describe(t, at)
			for _, n := range []string{"", "f0.html", "f1.html", "f2.html"} { // as the run left the real ones
				copyLooks(t, filepath.Join(at, n), filepath.Join(source, n))
			}
			old := treetest.Describe(t, source)
			unmount := treetest.Bind(t, source, at)
			h.undo(run.ID)
			if diff := cmp.Diff(old, treetest.Describe(t, source)); diff != "" {
				t.Errorf("undo:\n%s", diff)
			}
			unmount()
			if got := treetest.Describe(t, at); !cmp.Equal(got, after) && !cmp.Equal(got, before) {
				t.Errorf("what was beneath the mount is half undone: %v", got)
			}
		})
	}
}

func copyLooks(t *testing.T, from, to string) {
	t.Helper()
	for _, tool := range []string{"chown", "chmod"} {
		if out, err := exec.Command(tool, "--reference="+from, to).CombinedOutput(); err != nil {
			t.Fatal(err, string(out))
		}
	}
}

// A subvolume is no mount: whoever may make directories may make one, and no hard link leads out of it. What is in it is
// judged, repaired and undone like the rest.
func TestASubvolumeIsADirectory(t *testing.T) {
	h := newHostIn(t, treetest.Mounted(t, "btrfs", ""), "")
	at := h.path("home/alice/public_html/sub")
	if out, err := exec.Command("btrfs", "subvolume", "create", at).CombinedOutput(); err != nil {
		t.Skipf("needs btrfs: %v %s", err, out)
	}
	treetest.Build(t, at, "f 0666 1001:1001 own.html\nf 0666 1002:1002 bobs.html\nf 0600 0:0 roots.html\n")
	before := treetest.Listing(t, h.path("home"))
	r, plan := h.check()
	if found(r, "/home/alice/public_html/sub/bobs.html") != check.ForeignOwner || found(r, "/home/alice/public_html/sub/roots.html") != check.RootOwnedUnproven {
		t.Errorf("findings: %+v", r.Findings)
	}
	run := h.apply(plan)
	if fi, err := os.Stat(at + "/own.html"); err != nil || fi.Mode().Perm() == 0o666 || run.Skipped+run.Failed > 0 {
		t.Errorf("run: %+v, %v, %v", run, fi.Mode(), err)
	}
	h.undo(run.ID)
	if diff := cmp.Diff(before, treetest.Listing(t, h.path("home"))); diff != "" {
		t.Error(diff)
	}
}

// On every file system a tenant who races harms nobody, and what is repaired is undone exactly once she rests.
func TestOnEveryFileSystemNobodyElseIsHarmed(t *testing.T) {
	treetest.Without(t, "fchmodat2", "name_to_handle_at", "unshare")
	const p = "public_html/"
	for _, kind := range treetest.FileSystems {
		t.Run(kind, func(t *testing.T) {
			h := newHostIn(t, treetest.Mounted(t, kind, ""), work(30))
			if err := os.Link(h.path("victims/upload.html"), h.path("home/alice/"+p+"h.html")); err != nil {
				t.Fatal(err)
			}
			victims := h.victims()
			stop := treetest.Attack(t, alice, h.path("home/alice"), "symlink "+h.path("victims")+" "+p+"l", "exchange "+p+"d "+p+"l", "exchange "+p+"d "+p+"l",
				"exchange "+p+"d/f0.html "+p+"h.html", "exchange "+p+"d/f0.html "+p+"h.html", "unlink "+p+"d/f1.html", "write "+p+"d/f1.html", "chmod 0666 "+p+"d/f1.html")
			for range 6 {
				if _, plan := h.check(); plan != "" {
					h.undo(h.apply(plan).ID)
				}
				h.unharmed(victims)
			}
			stop()
			home := h.path("home/alice")
			before := treetest.Listing(t, home)
			_, plan := h.check()
			run := h.apply(plan)
			if run.Changed == 0 || treetest.Listing(t, home) == before {
				t.Fatalf("nothing was repaired: %+v", run)
			}
			h.undo(run.ID)
			if diff := cmp.Diff(strings.Split(before, "\n"), strings.Split(treetest.Listing(t, home), "\n")); diff != "" {
				t.Errorf("undo is not exact:\n%s", diff)
			}
			h.unharmed(victims)
		})
	}
}
