package tree_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"
)

func TestEvidenceTellsWhoCouldHaveWrittenIt(t *testing.T) {
	treetest.NeedRoot(t)
	root := treetest.OpenDir(t)
	treetest.Build(t, root, `
		d 0755 0:0 backup
		f 0644 0:0 backup/root.tar
		f 0644 1001:1001 backup/alices.tar
		f 0666 0:0 backup/anybodys.tar
		l 0777 0:0 backup/link.tar -> root.tar
		l 0777 1001:1001 backup/alices-link.tar -> root.tar
		d 0777 0:0 backup/open
		f 0644 0:0 backup/open/x.tar
		d 1777 0:0 backup/tmp
		f 0644 0:0 backup/tmp/x.tar
		d 0755 1001:1001 backup/alice
		f 0644 0:0 backup/alice/x.tar
		d 0700 0:0 backup/closed
		d 0755 1001:1001 backup/closed/alice
		f 0644 0:0 backup/closed/alice/x.tar
		f 0644 1001:1001 backup/closed/alices.tar
		p 0666 0:0 backup/pipe
	`)
	s, err := tree.OpenServer(root)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, row := range []struct{ path, want string }{
		{"/backup/root.tar", ""},
		{"/backup/link.tar", ""},
		{"/backup", ""},
		{"/backup/tmp/x.tar", ""},
		{"/backup/closed/alice", ""},
		{"/backup/closed/alice/x.tar", ""},
		{"/backup/alices.tar", `"/backup/alices.tar" belongs to the uid 1001`},
		{"/backup/closed/alices.tar", `"/backup/closed/alices.tar" belongs to the uid 1001`},
		{"/backup/alices-link.tar", `"/backup/alices-link.tar" belongs to the uid 1001`},
		{"/backup/anybodys.tar", `others may write "/backup/anybodys.tar"`},
		{"/backup/open", `others may write "/backup/open"`},
		{"/backup/open/x.tar", `others may write the directory of "/backup/open/x.tar"`},
		{"/backup/alice", `"/backup/alice" belongs to the uid 1001`},
		{"/backup/alice/x.tar", `"/backup/alice" belongs to the uid 1001`},
	} {
		e, err := s.OpenEvidence(row.path)
		if err != nil {
			t.Errorf("%s: %v", row.path, err)
			continue
		}
		e.File.Close()
		if e.Forgeable != row.want {
			t.Errorf("%s: %q, want %q", row.path, e.Forgeable, row.want)
		}
	}
	if _, err := s.OpenEvidence("/backup/pipe"); tree.Refused(err) != tree.CauseKind {
		t.Errorf("a FIFO: %v", err)
	}
	if _, err := s.OpenEvidence("/backup/none"); !tree.IsNotExist(err) {
		t.Errorf("nothing: %v", err)
	}
}

func TestATreeOfEvidenceIsTheOneThatWasOpened(t *testing.T) {
	treetest.NeedRoot(t)
	root := treetest.OpenDir(t)
	treetest.Build(t, root, "d 0755 0:0 copy\nf 0644 0:0 copy/x\n")
	s, err := tree.OpenServer(root)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	e, err := s.OpenEvidence("/copy")
	if err != nil {
		t.Fatal(err)
	}
	defer e.File.Close()
	if err := os.Rename(filepath.Join(root, "copy"), filepath.Join(root, "moved")); err != nil {
		t.Fatal(err)
	}
	treetest.Build(t, root, "d 0755 0:0 copy\n")
	b, done, err := e.OpenTree()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	c := b.Cursor()
	defer c.Close()
	if n, err := c.Open("x"); err != nil || n.Stat.Kind != rightful.KindFile || !strings.HasSuffix(n.Path(), "x") {
		t.Errorf("%v", err)
	} else {
		n.Close()
	}
}
