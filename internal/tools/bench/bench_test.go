package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary stand in for the tool, which runs itself for the parts that it measures.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-step" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestAQuickRunMeasuresEveryRowAndLeavesNothingBehind(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Skip("not root: trees of many owners cannot be built")
	}
	for _, p := range []string{"bfs", "getfacl", "setfacl", "/usr/bin/time", "find", "xargs"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
	bin := filepath.Join(t.TempDir(), "rightful")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", bin, "rightful/cmd/rightful").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	dir := t.TempDir()
	var out, errs bytes.Buffer
	if err := benchmark(t.Context(), []string{"-quick", "-dir", dir, "-rightful", bin}, &out, &errs); err != nil {
		t.Fatalf("bench: %v\n%s", err, errs.String())
	}
	for _, row := range []string{
		"| the floor |", "| the walk alone |", "| walk + policy |", "| rightful check |", "| find -printf |", "| bfs -", "| getfacl -R -n -P |",
		"| rightful fix |", "| rightful undo |", "| chown -Rh; chmod -R |", "| fixperms script |", "### reading odd trees",
		"| rightful snapshot take |", "| rightful vault take |", "| vault of 5 accounts, nothing changed |", "| newly stored of accounts that did not change | 0 B |", "| rightful rescue |", "| rescue against tar -x; chown -R |", "| rightful snapshot restore |", "| setfacl --restore |", "### records", "| snapshot: one path looked up |",
		"| the walk alone against the floor |", "| check against getfacl -R -n -P |", "| fix against chown -Rh; chmod -R |",
		"| undo against rightful fix |", "| rightful logs (error log) |", "| grep -c 'Permission denied' |", "| memory of logs |", "| memory of fix,", "| fix of 1 accounts against fixperms script |",
	} {
		if !strings.Contains(out.String(), row) {
			t.Errorf("no %q in\n%s", row, out.String())
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// A tool that compares must not be fooled by a program that does nothing.
func TestAProgramThatSeesNothingIsNotMeasured(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Skip("not root: trees of many owners cannot be built")
	}
	if _, err := exec.LookPath("/usr/bin/time"); err != nil {
		t.Skip("/usr/bin/time is not installed")
	}
	bin := filepath.Join(t.TempDir(), "idle")
	if err := os.WriteFile(bin, []byte("#!/bin/sh\necho '{\"kind\":\"summary\",\"entries\":0}'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	err := benchmark(t.Context(), []string{"-quick", "-dir", t.TempDir(), "-rightful", bin}, &out, &errs)
	if err == nil || !strings.Contains(err.Error(), "it saw 0") {
		t.Errorf("error %v", err)
	}
}
