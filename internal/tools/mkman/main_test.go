package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rightful/internal/cli"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Every verb has a page, which man prints without a warning and with all that the help says: what it does and never does,
// each flag, each example, each exit status. There is no other page.
func TestEveryVerbHasAManualPageThatSaysWhatItsHelpSays(t *testing.T) {
	man, err := exec.LookPath("man")
	if err != nil {
		t.Skip("needs man")
	}
	dir := t.TempDir()
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	var want []string
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		name := strings.ReplaceAll(c.CommandPath(), " ", "-") + ".8"
		want = append(want, name)
		cmd := exec.Command(man, "--warnings", "--local-file", filepath.Join(dir, name))
		cmd.Env = append(os.Environ(), "MANWIDTH=400", "LC_ALL=C.UTF-8", "MANPAGER=cat", "GROFF_NO_SGR=1", "MANOPT=--no-hyphenation --no-justification")
		var said strings.Builder
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil || said.Len() > 0 {
			t.Errorf("man %s: %v %s", name, err, said.String())
		}
		page := squeeze(string(out))
		texts := append(strings.Split(c.Long, "\n\n"), c.Short, c.UseLine())
		texts = append(texts, strings.Split(c.Example, "\n")...)
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			_, usage := pflag.UnquoteUsage(f)
			texts = append(texts, "--"+f.Name, usage)
		})
		for _, text := range texts {
			if text = squeeze(text); !strings.Contains(page, text) {
				t.Errorf("%s lacks %q", name, text)
			}
		}
		for _, sub := range c.Commands() {
			if sub.Name() != "help" {
				visit(sub)
			}
		}
	}
	visit(cli.Commands())
	var got []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("pages %q, want %q", got, want)
	}
}

// squeeze makes line breaks and indents one blank, and typographic signs plain.
func squeeze(s string) string {
	return strings.NewReplacer("‘", "'", "’", "'", "‐", "-", "−", "-", "`", "").Replace(strings.Join(strings.Fields(s), " "))
}

// The same version and SOURCE_DATE_EPOCH give the same bytes.
func TestPagesAreTheSameForTheSameSourceDate(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	a, b := t.TempDir(), t.TempDir()
	for _, dir := range []string{a, b} {
		if err := write(dir); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("diff", "-r", a, b).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if page, err := os.ReadFile(filepath.Join(a, "rightful.8")); err != nil || !strings.Contains(string(page), `"Nov 2023"`) {
		t.Errorf("the page does not bear the date of its source: %v\n%.200s", err, page)
	}
}
