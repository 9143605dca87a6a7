package tree_test

import (
	"os"
	"path/filepath"
	"testing"

	"rightful/internal/tree"
)

// A path ends where it ends for the kernel, whatever slashes and dots there are in it or in the links on the way.
func TestTraceEndsWhereTheKernelDoes(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a/f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := tree.OpenServer("/")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, target := range []string{
		".", "..", "./", "../", "/", "b", "b/", "b/.", "b/..", "b/../f", "f", "f/", "f/.", "f/..", "f/x", "b//", "./b", "..//a/./b/", "nosuch", "nosuch/..",
		dir, dir + "/", "//", "l",
	} {
		for _, after := range []string{"", "/", "/.", "/.."} {
			name := filepath.Join(dir, "a/l")
			if err := os.Symlink(target, name); err != nil {
				t.Fatal(err)
			}
			want, wantErr := os.Stat(name + after)
			got, err := s.Trace(name + after)
			if (err == nil) != (wantErr == nil) {
				t.Errorf("l%s -> %q: %v, by the kernel %v", after, target, err, wantErr)
			} else if err == nil {
				last := got[len(got)-1]
				if at, err := os.Lstat(last.Path); err != nil || !os.SameFile(at, want) {
					t.Errorf("l%s -> %q ends at %q, %v", after, target, last.Path, err)
				}
			}
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
}
