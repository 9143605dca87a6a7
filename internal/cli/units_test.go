package cli_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rightful/internal/cli"
)

// The units that are shipped run commands that exist, and may do no more than they need.
func TestTheSystemdUnitsRunWhatThereIs(t *testing.T) {
	services, err := filepath.Glob("../../packaging/systemd/*.service")
	if err != nil || len(services) == 0 {
		t.Fatalf("no units: %v", err)
	}
	for _, file := range services {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		commands, pages := 0, ""
		for line := range strings.Lines(string(text)) {
			args, ok := strings.CutPrefix(strings.TrimSpace(line), "ExecStart=/usr/bin/rightful ")
			if !ok {
				continue
			}
			commands++
			words := slices.DeleteFunc(strings.Fields(args), func(w string) bool { return w[0] == '-' })
			pages += "Documentation=man:rightful-" + strings.Join(words[:2], "-") + "(8)\n"
			var out, errs bytes.Buffer
			code := cli.Main(t.Context(), cli.Env{
				Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Args: append(strings.Fields(args), "--help"),
				Getenv: func(string) string { return "" },
			})
			if code != 0 || !strings.Contains(out.String(), "Usage:") {
				t.Errorf("%s: %s: exit %d, %s", file, args, code, &errs)
			}
		}
		if commands == 0 {
			t.Errorf("%s starts nothing", file)
		}
		if _, page, ok := strings.Cut(string(text), "\nDocumentation="); !ok || !strings.Contains(pages, "Documentation="+page[:strings.IndexByte(page, '\n')+1]) {
			t.Errorf("%s names no page of what it runs; there are\n%s", file, pages)
		}
		if timer := strings.TrimSuffix(file, ".service") + ".timer"; !exists(timer) {
			t.Errorf("%s has no timer", file)
		}
		if _, err := exec.LookPath("systemd-analyze"); err != nil {
			continue
		}
		if out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
