package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/archive"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
)

// home is a tree with everything that backup programs treat in their own ways.
const home = `
	d 0711 20001:20001 alice
	d 0750 20001:33 alice/public_html acl=user::rwx,user:65534:r-x,group::r-x,mask::r-x,other::--- default=user::rwx,user:65534:r-x,group::r-x,mask::r-x,other::---
	f 0644 20001:20001 alice/public_html/index.php = <?php
	f 0755 20001:20001 alice/public_html/run.cgi = #!/bin/sh
	f 0674 20001:20001 alice/public_html/acl.txt acl=user::rw-,user:33:rwx,group::r--,mask::rwx,other::r-- = x
	f 0600 20001:20001 alice/.env = SECRET=1
	f 4755 20001:20001 alice/suid = x
	f 0755 20001:20001 alice/caps caps = x
	f 0644 65534:65534 alice/upload.jpg = x
	d 2775 20001:33 alice/shared
	d 1777 20001:20001 alice/tmp
	l 0777 20001:20001 alice/www -> public_html
	h 0644 20001:20001 alice/public_html/zz-second -> index.php
	p 0600 20001:20001 alice/pipe
	f 0640 20001:20001 "alice/new\nline" = x
	f 0640 20001:20001 "alice/back\\slash #é [x]" = x
	f 0640 20001:20001 "alice/latin\xe9" = x
	d 0700 20001:20001 "alice/sp ace"
	f 0600 20001:20001 "alice/sp ace/A" = x
	f 0640 20001:20001 "alice/sp ace/a" = x
`

func buildHome(t *testing.T) string {
	t.Helper()
	treetest.NeedRoot(t)
	dir := treetest.OpenDir(t)
	treetest.Build(t, dir, strings.Replace(home, "-> index.php", "-> alice/public_html/index.php", 1))
	return dir
}

// run runs a command line in dir and gives what it writes to standard output.
func run(t *testing.T, dir, command string) []byte {
	t.Helper()
	c := exec.Command("sh", "-ec", command)
	c.Dir = dir
	c.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "RESTIC_PASSWORD=x", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes", "HOME="+t.TempDir())
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, stderr.String())
	}
	return out
}

// read gives everything that a source says, by name, and what it leaves out.
func read(t testing.TB, text []byte, format archive.Format) (map[string]archive.Entry, []string, *archive.Opened) {
	t.Helper()
	o, err := archive.Open(context.Background(), bytes.NewReader(text), format)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	return drain(t, o)
}

func drain(t testing.TB, o *archive.Opened) (map[string]archive.Entry, []string, *archive.Opened) {
	t.Helper()
	all := map[string]archive.Entry{}
	var rejected []string
	for {
		e, err := o.Next()
		var r *archive.Rejected
		switch {
		case errors.As(err, &r):
			rejected = append(rejected, r.Error())
		case err == io.EOF:
			return all, rejected, o
		case err != nil:
			t.Fatal(err)
		default:
			all[e.Name] = e
		}
	}
}

// judge lists what stat and getfattr say below dir, as far as a source knows it: name by name, a line each.
func judge(t *testing.T, dir string, known archive.Known) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		if rel == "." {
			return nil
		}
		c := exec.Command("stat", "-c", "%F %u:%g %a", p)
		line, err := c.Output()
		if err != nil {
			return err
		}
		f := strings.Fields(strings.ReplaceAll(string(line), "regular empty file", "file"))
		kind := map[string]string{"regular": "file", "directory": "dir", "symbolic": "symlink", "fifo": "fifo"}[f[0]]
		mode := f[len(f)-1]
		s := fmt.Sprintf("%s %s %04s", kind, f[len(f)-2], mode)
		if kind == "symlink" {
			s = fmt.Sprintf("%s %s", kind, f[len(f)-2])
		}
		if known.Has(archive.KnownACL) && kind != "symlink" {
			s += " " + attr(p, tree.XattrACL) + " " + attr(p, tree.XattrDefault)
		}
		out[rel] = s
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// attr decodes an ACL attribute as getfattr prints it.
func attr(path, name string) string {
	hex, err := exec.Command("getfattr", "--absolute-names", "-h", "--only-values", "-n", name, path).Output()
	if err != nil || len(hex) == 0 {
		return "-"
	}
	a, err := tree.DecodeACL(hex)
	if err != nil {
		return err.Error()
	}
	return a.String()
}

// say puts an entry into the judge's words.
func say(e archive.Entry, known archive.Known) string {
	s := fmt.Sprintf("%s %d:%d %s", e.Kind, e.UID, e.GID, e.Mode)
	if e.Kind == rightful.KindSymlink {
		return fmt.Sprintf("%s %d:%d", e.Kind, e.UID, e.GID)
	}
	if known.Has(archive.KnownACL) {
		s += " " + numbers(e.ACL) + " " + numbers(e.Default)
	}
	return s
}

var ids = map[string]uint32{"www-data": 33, "nobody": 65534, "nogroup": 65534}

func numbers(a archive.ACL) string {
	var out rightful.ACL
	for _, e := range a {
		id := e.ID
		if !e.HasID {
			id = ids[e.Name]
		}
		if e.Tag != rightful.ACLUser && e.Tag != rightful.ACLGroup {
			id = 0
		}
		out = append(out, rightful.ACLEntry{Tag: e.Tag, Perm: e.Perm, ID: id})
	}
	out.Sort()
	if out.Minimal() {
		return "-"
	}
	return out.String()
}

// groupsOwn are modes as libarchive gives them where there is an ACL: the owning group's own bits, whatever the mask.
var groupsOwn = map[string]string{
	"alice/public_html/acl.txt": "0644", "alice/public_html/index.php": "0654", "alice/public_html/zz-second": "0654",
}

// sources are how each program is called, what its output knows, and which names it cannot express.
var sources = []struct {
	name    string
	command string
	format  archive.Format
	acls    bool
	missing []string // names that the program leaves out or cannot write
	modes   map[string]string
}{
	{name: "GNU tar with ACLs", command: "tar --acls --xattrs -cf - alice", format: archive.Tar, acls: true},
	{name: "GNU tar with raw attributes", command: `tar --format=posix --xattrs --xattrs-include='*' -cf - alice`, format: archive.Tar, acls: true},
	{name: "GNU tar with numbers", command: "tar --numeric-owner -cf - alice", format: archive.Tar},
	{name: "GNU tar, ustar", command: "tar --format=ustar -cf - alice", format: archive.Tar},
	{name: "GNU tar, v7", command: "tar --format=v7 -cf - alice 2>/dev/null || :", format: archive.Tar, missing: []string{"alice/pipe"}},
	{name: "GNU tar, gnu", command: "tar --format=gnu -cf - alice", format: archive.Tar},
	{name: "bsdtar", command: "bsdtar --acls --xattrs -cf - alice", format: archive.Tar, acls: true},
	{name: "gzip", command: "tar --acls -cf - alice | gzip", format: archive.Tar, acls: true},
	{name: "xz", command: "tar --acls -cf - alice | xz", format: archive.Tar, acls: true},
	{name: "zstd", command: "tar --acls -cf - alice | zstd", format: archive.Tar, acls: true},
	{name: "bzip2", command: "tar --acls -cf - alice | bzip2", format: archive.Tar, acls: true},
	{name: "getfacl", command: "getfacl -R alice; getfacl alice/www >/dev/null", format: archive.Getfacl, acls: true, missing: []string{"alice/www"}},
	{name: "getfacl with numbers", command: "getfacl -R -n alice", format: archive.Getfacl, acls: true, missing: []string{"alice/www"}},
	{name: "getfacl with absolute names", command: `getfacl -R -n --absolute-names "$PWD/alice" | sed "s,^# file: $PWD/,# file: /,"`, format: archive.Getfacl, acls: true, missing: []string{"alice/www"}},
	{name: "NetBSD mtree", command: "mkdir .m; mv alice .m; mtree -c -p .m -k uid,gid,mode,type,size,link,time; mv .m/alice .; rmdir .m", format: archive.Mtree},
	{name: "bsdtar's mtree", command: "bsdtar --format=mtree -cf - alice", format: archive.Mtree, modes: groupsOwn},
	{name: "bsdtar's mtree with /set", command: "bsdtar --format=mtree --options=mtree:use-set,mtree:indent -cf - alice", format: archive.Mtree, modes: groupsOwn},
	{name: "restic", command: "restic -q init -r .r && restic -q -r .r backup alice && restic -r .r ls latest --json; rm -rf .r", format: archive.Restic, missing: []string{"alice/latin\xe9"}},
	{name: "borg", command: "borg init -e none .b && borg create .b::a alice && borg list --json-lines .b::a; rm -rf .b", format: archive.Borg, missing: []string{"alice/latin\xe9"}},
}

func TestWhatBackupProgramsWriteIsReadAsStatSaysIt(t *testing.T) {
	dir := buildHome(t)
	plain := judge(t, dir, 0)
	full := judge(t, dir, archive.KnownACL)
	for _, src := range sources {
		t.Run(src.name, func(t *testing.T) {
			for _, tool := range []string{"bsdtar", "mtree", "restic", "borg", "gzip", "xz", "zstd", "bzip2"} {
				if _, err := exec.LookPath(tool); err != nil && strings.Contains(src.command, tool+" ") {
					t.Skipf("needs %s: %v", tool, err)
				}
			}
			text := run(t, dir, src.command)
			got, rejected, o := read(t, text, "")
			if o.Format != src.format {
				t.Fatalf("recognised as %q, want %q", o.Format, src.format)
			}
			var known archive.Known
			want := maps.Clone(plain)
			if src.acls {
				known, want = archive.KnownACL, maps.Clone(full)
			}
			for _, m := range src.missing {
				delete(want, m)
			}
			for n, mode := range src.modes {
				want[n] = want[n][:len(want[n])-4] + mode
			}
			said := map[string]string{}
			for n, e := range got {
				if n == "" {
					continue
				}
				if e.Kind == rightful.KindUnknown { // getfacl does not tell
					e.Kind, _ = rightful.ParseKind(strings.Fields(want[n])[0])
				}
				if !e.Known.Has(archive.KnownUID) {
					e.UID = ids[e.User]
				}
				if !e.Known.Has(archive.KnownGID) {
					e.GID = ids[e.Group]
				}
				said[n] = say(e, known)
				if e.HardLink && !e.Known.Has(archive.KnownACL) && known.Has(archive.KnownACL) {
					// GNU tar does not repeat the ACL: nothing is said, and so nothing known.
					said[n] = want[n]
				}
			}
			if diff := cmp.Diff(want, said); diff != "" {
				t.Errorf("-stat +source:\n%s\nrejected: %q", diff, rejected)
			}
			for _, m := range src.missing {
				lost := !slices.ContainsFunc(rejected, func(r string) bool { return strings.Contains(r, "lost bytes") })
				if strings.Contains(m, "\xe9") && lost {
					t.Errorf("nothing says that the name %q was lost: %q", m, rejected)
				}
			}
		})
	}
}

func TestADirectoryIsReadAsStatSaysIt(t *testing.T) {
	dir := buildHome(t)
	s, err := tree.OpenServer("/")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ev, err := s.OpenEvidence(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ev.File.Close()
	b, done, err := ev.OpenTree()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	o := archive.OpenDir(context.Background(), b)
	defer o.Close()
	got, rejected, _ := drain(t, o)
	delete(got, "")
	said := map[string]string{}
	for n, e := range got {
		said[n] = say(e, archive.KnownACL)
	}
	if diff := cmp.Diff(judge(t, dir, archive.KnownACL), said); diff != "" || len(rejected) > 0 {
		t.Errorf("-stat +source:\n%s\nrejected: %q", diff, rejected)
	}
}

// A copy that rsync made without being root has the wrong owners, and the right ones in attributes.
func TestACopyByFakeSuperIsReadAsItWas(t *testing.T) {
	dir := buildHome(t)
	if _, err := exec.LookPath("rsync"); err != nil {
		t.Skipf("needs rsync: %v", err)
	}
	run(t, dir, "rsync -a --numeric-ids -M--fake-super alice/ copy")
	if m := run(t, dir, "stat -c %u copy/.env"); string(m) != "0\n" {
		t.Fatalf("the copy has owners: %s", m)
	}
	want := judge(t, filepath.Join(dir, "alice"), 0)
	for _, n := range []string{"www"} { // of a link rsync may keep nothing, or make a file of it
		delete(want, n)
	}
	s, err := tree.OpenServer(filepath.Join(dir, "copy"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, err := s.OpenBase("/")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	o := archive.OpenDir(context.Background(), b)
	defer o.Close()
	got, rejected, _ := drain(t, o)
	delete(got, "")
	said := map[string]string{}
	for n, e := range got {
		if n != "www" {
			said[n] = say(e, 0)
		}
		if e.Known.Has(archive.KnownACL) && e.Kind == rightful.KindFile {
			t.Errorf("%q: rsync did not keep ACLs, and so nothing is known of them", n)
		}
	}
	if diff := cmp.Diff(want, said); diff != "" || len(rejected) > 0 {
		t.Errorf("-stat +source:\n%s\nrejected: %q", diff, rejected)
	}
}

func TestADirectoryThatIsNotReadToItsEndLetsGo(t *testing.T) {
	dir := buildHome(t)
	for i := range 3000 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := tree.OpenServer(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, err := s.OpenBase("/")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	o := archive.OpenDir(context.Background(), b)
	if _, err := o.Next(); err != nil {
		t.Fatal(err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestACopyWithoutGroupWriteIsSaidToBePerhapsCut(t *testing.T) {
	dir := t.TempDir()
	for i := range 25 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "0"), 0o755); err != nil {
		t.Fatal(err)
	}
	reasons := func() string {
		s, err := tree.OpenServer(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		b, err := s.OpenBase("/")
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		o := archive.OpenDir(context.Background(), b)
		defer o.Close()
		survey, err := archive.Read(o, scratch(t))
		if err != nil {
			t.Fatal(err)
		}
		tr, err := survey.Truth(archive.Places{{}}, alice())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(tr.Reasons, "\n")
	}
	const told = "nothing in it is writable by group or others: if it was extracted under a umask, such bits are lost"
	if got := reasons(); !strings.Contains(got, told) {
		t.Errorf("not told: %s", got)
	}
	if err := os.Chmod(filepath.Join(dir, "1"), 0o664); err != nil {
		t.Fatal(err)
	}
	if got := reasons(); strings.Contains(got, told) {
		t.Errorf("told although something is: %s", got)
	}
}
