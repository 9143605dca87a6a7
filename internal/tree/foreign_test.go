package tree_test

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"rightful/internal/tree"
	"rightful/internal/tree/treetest"

	"golang.org/x/sys/unix"
)

// A file that lies where others write is opened, but no link that they can have put there is followed, wherever it leads,
// and nothing but a regular file is opened.
func TestForeignFilesAreNotReachedThroughTheirOwnersLinks(t *testing.T) {
	treetest.NeedRoot(t)
	root := treetest.OpenDir(t)
	treetest.Build(t, root, `
		d 0755 0:0 var
		d 0755 0:0 var/log
		f 0640 0:0 var/log/error.log
		l 0777 0:0 var/link -> log
		l 0777 1001:1001 var/planted -> log
		d 0775 0:4 grouped
		f 0640 0:0 grouped/error.log
		l 0777 0:0 grouped/link -> ../var/log
		d 0755 0:0 home
		d 0711 1001:1001 home/alice
		d 0755 1001:1001 home/alice/logs
		f 0644 1001:1001 home/alice/logs/error.log
		l 0777 1001:1001 home/alice/logs/up -> ../../../var/log/error.log
		l 0777 0:0 home/alice/logs/byroot -> /var/log/error.log
		l 0777 1001:1001 home/alice/away -> /var/log
		l 0777 1001:1001 home/alice/own -> logs
		d 0755 0:0 home/alice/roots
		l 0777 0:0 home/alice/roots/link -> /var/log/error.log
		l 0777 0:0 home/logs -> alice/logs
	`)
	if err := unix.Mkfifo(filepath.Join(root, "home/alice/logs/pipe"), 0o666); err != nil {
		t.Fatal(err)
	}
	s, err := tree.OpenServer(root)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for path, cause := range map[string]tree.Cause{
		"/var/log/error.log":                          "",
		"/var/link/error.log":                         "",
		"/var/planted/error.log":                      tree.CauseLink,
		"/grouped/error.log":                          "",
		"/grouped/link/error.log":                     tree.CauseLink,
		"/home/alice/logs/error.log":                  "",
		"/home/logs/error.log":                        "",
		"/home/alice/logs/up":                         tree.CauseLink,
		"/home/alice/logs/byroot":                     tree.CauseLink,
		"/home/alice/away/error.log":                  tree.CauseLink,
		"/home/alice/own/error.log":                   tree.CauseLink,
		"/home/alice/roots/link":                      tree.CauseLink,
		"/home/alice/logs/../../../var/log/error.log": "",
		"/home/alice/logs/pipe":                       tree.CauseKind,
		"/home/alice/logs":                            tree.CauseKind,
	} {
		f, st, err := s.OpenForeign(path)
		if got := tree.Refused(err); got != cause || (err == nil) != (cause == "") {
			t.Errorf("open %s: %v, want cause %q", path, err, cause)
		}
		if err == nil {
			if _, err := io.ReadAll(f); err != nil || st.Ino == 0 {
				t.Errorf("read %s: %v", path, err)
			}
			f.Close()
		}
	}
	names, err := s.ListForeign("/home/alice/logs", 100)
	if want := []string{"byroot", "error.log", "pipe", "up"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("list: %q, %v", names, err)
	}
	if names, err := s.ListForeign("/home/alice/logs", 2); err != nil || len(names) != 2 {
		t.Errorf("list two: %q, %v", names, err)
	}
	if _, err := s.ListForeign("/home/alice/away", 100); tree.Refused(err) != tree.CauseLink {
		t.Errorf("list through a customer's link: %v", err)
	}
	if err := os.Remove(filepath.Join(root, "var/log/error.log")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.OpenForeign("/var/log/error.log"); !tree.IsNotExist(err) {
		t.Errorf("open what is gone: %v", err)
	}
}
