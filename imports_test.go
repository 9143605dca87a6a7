package rightful_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// permitted is the shape of the program: which packages of the module each package may import, and why. Imports point
// down; a new edge is a decision and gets its reason here.
var permitted = map[string]struct {
	imports []string
	why     string
}{
	".":                      {nil, "the vocabulary knows nobody, so that all may share it"},
	"internal/tree":          {[]string{"."}, "reads the file system into the vocabulary"},
	"internal/tree/edit":     {[]string{".", "internal/tree"}, "changes one entry on a handle that tree verified"},
	"internal/tree/treetest": {[]string{".", "internal/tree"}, "builds trees for tests"},
	"internal/web":           {[]string{".", "internal/tree"}, "reads configuration and judges access through tree's handles"},
	"internal/panel":         {[]string{".", "internal/tree", "internal/web"}, "reads panel files through tree; sites come from virtual hosts"},
	"internal/policy":        {[]string{"."}, "pure: decides from what it is given"},
	"internal/check": {
		[]string{".", "internal/tree", "internal/panel", "internal/policy", "internal/web", "internal/snapshot"},
		"joins walk, policy, web and what snapshots recall into findings; read-only",
	},
	"internal/state":    {[]string{".", "internal/tree"}, "the directory of our own files, and how fields are packed in them"},
	"internal/wrapper":  {[]string{".", "internal/tree", "internal/state"}, "puts guard before a program of root's, and nothing of a customer's"},
	"internal/vault":    {[]string{".", "internal/tree", "internal/policy", "internal/state"}, "keeps small files as a matcher picks them; changes nothing"},
	"internal/snapshot": {[]string{".", "internal/tree", "internal/state"}, "records what a walk meets; changes nothing"},
	"internal/rescue": {
		[]string{".", "internal/tree", "internal/state", "internal/archive"},
		"builds a home out of archives, beside its place; repair brings it in",
	},
	"internal/archive": {[]string{".", "internal/tree", "internal/state", "internal/snapshot"}, "turns what a backup says into what a snapshot records; changes nothing"},
	"internal/repair":  {[]string{".", "internal/tree", "internal/tree/edit", "internal/state"}, "the one writer; verification is handed to it"},
	"internal/attack":  {nil, "attacks check and repair from outside, by tests only"},
	"internal/config":  {nil, "plain structs"},
	"internal/term":    {nil, "knows text, not what it is about"},
	"internal/hostbox": {[]string{"."}, "judges the product from outside, so it must not be built from it"},
	"internal/replay":  {nil, "tests only: drives the built binary in a box, and judges it by what the server answers"},
	"internal/cli": {
		[]string{
			".", "internal/tree", "internal/panel", "internal/policy", "internal/web", "internal/check", "internal/repair",
			"internal/wrapper", "internal/config", "internal/term", "internal/hostbox", "internal/snapshot",
			"internal/state", "internal/vault", "internal/archive", "internal/rescue",
		},
		"the command line joins everything, and changes nothing but through repair",
	},
	"internal/tools/testsum": {nil, "reads test output"},
	"internal/tools/bench": {
		[]string{".", "internal/tree", "internal/panel", "internal/policy", "internal/check", "internal/snapshot"},
		"measures the program, and the walk and the rules by themselves",
	},
	"internal/tools/mkman": {[]string{".", "internal/cli"}, "renders the help texts"},
	"cmd/rightful":         {[]string{"internal/cli"}, "streams, signals, exit code"},
}

// reserved are packages outside the module that only some may import, and why.
var reserved = map[string]struct {
	by  []string
	why string
}{
	"net/http":                 {[]string{"internal/web", "internal/hostbox"}, "requests go to the local web server only, and one package makes them"},
	"net":                      {[]string{"internal/web", "internal/panel", "internal/hostbox"}, "nothing leaves the server"},
	"database/sql":             {[]string{"internal/panel"}, "panels keep accounts in databases, which are only read"},
	"github.com/go-sql-driver": {[]string{"internal/panel"}, "panels keep accounts in MySQL databases, which are only read"},
	"os/exec":                  {[]string{"internal/panel", "internal/cli", "internal/rescue", "internal/hostbox", "internal/tree/treetest", "internal/tools/bench"}, "getent, the guarded command, backup programs, a rescue's worker, the box, a test's attackers, what is compared: nothing else runs programs as root"},
	"unsafe":                   {[]string{"internal/tree", "internal/tree/edit", "internal/policy", "internal/tree/treetest", "internal/tools/bench"}, "system calls that x/sys does not have; names matched without a copy"},
	"C":                        {nil, "the binary is static"},
	"testing":                  {[]string{"internal/tree/treetest"}, "no test code in the product"},
	"github.com/spf13/cobra":   {[]string{"internal/cli", "internal/tools/mkman"}, "flags are the command line's"},
	"golang.org/x/term":        {[]string{"cmd/rightful", "internal/term"}, "one owner of the terminal"},
	"github.com/stretchr":      {nil, "no assertion library, in tests neither"},
	"internal/tree/edit":       {[]string{"internal/repair"}, "one writer"},
	"github.com/BurntSushi":    {[]string{"internal/config", "internal/policy"}, "TOML is read in two places"},
	"math/rand":                {nil, "same input, same output"},
	"github.com/sirupsen":      {nil, "no logger: errors are returned, progress is the terminal's"},
	"log":                      {nil, "no logger: errors are returned, progress is the terminal's"},
	"github.com/rogpeppe":      {nil, "for tests"},
	"github.com/google/go-cmp": {nil, "for tests"},
}

func TestEveryImportIsInTheTable(t *testing.T) {
	got := map[string][]string{}
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		row, ok := permitted[f.dir]
		if !ok {
			t.Errorf("package %q has no row in the table of permitted imports", f.dir)
			continue
		}
		for _, p := range f.imports {
			in, ok := internal(p)
			if ok && !slices.Contains(row.imports, in) {
				t.Errorf("%s imports %q, which the table does not permit: %q %s", f.name, p, f.dir, row.why)
			}
			if ok {
				got[f.dir] = append(got[f.dir], in)
			}
		}
	}
	for dir := range got {
		for _, to := range got[dir] {
			if slices.Contains(got[to], dir) {
				t.Errorf("%q and %q import one another", dir, to)
			}
		}
	}
}

func TestReservedPackagesAreImportedOnlyByTheirOwners(t *testing.T) {
	for _, f := range sources(t) {
		for _, p := range f.imports {
			for _, name := range slices.Sorted(maps.Keys(reserved)) {
				row := reserved[name]
				if p != name && p != "rightful/"+name && !strings.HasPrefix(p, name+"/") {
					continue
				}
				// net/http is not net; what tests import does not run as root, but for the writer and assertions.
				if name == "net" && p != "net" || name == "log" && p != "log" || name == "testing" && p == "testing/fstest" {
					continue
				}
				if f.test && name != "internal/tree/edit" && name != "github.com/stretchr" {
					continue
				}
				if f.dir != name && !slices.Contains(row.by, f.dir) {
					t.Errorf("%s imports %q, reserved to %q: %s", f.name, p, row.by, row.why)
				}
			}
		}
	}
}

func TestTheVocabularyImportsOnlyTheStandardLibrary(t *testing.T) {
	for _, f := range sources(t) {
		if f.dir != "." || f.test {
			continue
		}
		for _, p := range f.imports {
			first, _, _ := strings.Cut(p, "/")
			if strings.Contains(first, ".") || slices.Contains([]string{"os", "io", "io/fs", "net", "syscall"}, p) {
				t.Errorf("%s imports %q", f.name, p)
			}
		}
	}
}

func TestOnlyRepairReachesTheWriter(t *testing.T) {
	var got []string
	for dir, row := range permitted {
		if slices.Contains(row.imports, "internal/tree/edit") {
			got = append(got, dir)
		}
	}
	if diff := cmp.Diff([]string{"internal/repair"}, got); diff != "" {
		t.Errorf("packages that may import internal/tree/edit (-want +got):\n%s", diff)
	}
}

// internal gives the directory of an import of this module.
func internal(p string) (dir string, ok bool) {
	if p == "rightful" {
		return ".", true
	}
	return strings.CutPrefix(p, "rightful/")
}
