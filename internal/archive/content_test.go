package archive_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rightful"
	"rightful/internal/archive"
	"rightful/internal/tree"

	"github.com/google/go-cmp/cmp"
)

// digests lists what sha256sum and readlink say of everything below dir: its checksum, its target, or its kind.
func digests(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		switch {
		case d.Type().IsRegular():
			c := exec.Command("sha256sum")
			if c.Stdin, err = os.Open(p); err != nil {
				return err
			}
			sum, err := c.Output()
			if err != nil {
				return err
			}
			out[rel] = string(sum[:64])
		case d.Type() == os.ModeSymlink:
			target, err := exec.Command("readlink", "-n", p).Output()
			if err != nil {
				return err
			}
			out[rel] = "-> " + string(target)
		case d.IsDir():
			out[rel] = "dir"
		default:
			out[rel] = "fifo"
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// contents reads a source and every content in it, into the words of digests; a hard link is what it is another name for.
func contents(t testing.TB, o *archive.Opened) (map[string]string, []string) {
	t.Helper()
	out := map[string]string{}
	var rejected []string
	for {
		e, err := o.Next()
		var r *archive.Rejected
		switch {
		case errors.As(err, &r):
			rejected = append(rejected, r.Error())
			continue
		case err == io.EOF:
			return out, rejected
		case err != nil:
			t.Fatal(err)
		}
		content := o.Content()
		if plain := e.Kind == rightful.KindFile && !e.HardLink; plain != (content != nil) {
			t.Errorf("%q, a %s, has the content %v", e.Name, e.Kind, content)
			continue
		}
		switch {
		case e.HardLink:
			out[e.Name] = out[e.Target]
		case e.Kind == rightful.KindFile:
			h := sha256.New()
			n, err := io.Copy(h, content)
			if err != nil || n != e.Size {
				t.Errorf("%q: %d bytes of %d, %v", e.Name, n, e.Size, err)
			}
			out[e.Name] = fmt.Sprintf("%x", h.Sum(nil))
		case e.Kind == rightful.KindSymlink:
			out[e.Name] = "-> " + e.Target
		default:
			out[e.Name] = e.Kind.String()
		}
		if e.Name == "" {
			delete(out, "")
		}
	}
}

// buildContents makes a home whose files have contents of all sizes, one of them with holes.
func buildContents(t *testing.T) string {
	t.Helper()
	dir := buildHome(t)
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, "alice", name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("empty", nil)
	long := make([]byte, 3<<20+17)
	for i := range long {
		long[i] = byte(i * i >> 7)
	}
	write("long", long)
	write("even", bytes.Repeat([]byte("0123456789abcdef"), 4096))
	f, err := os.Create(filepath.Join(dir, "alice/holes"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, at := range []int64{0, 2 << 20, 5<<20 - 3} {
		if _, err := f.WriteAt([]byte("x"), at); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// contentSources are how programs are called so that their output holds contents.
var contentSources = []struct {
	name, command string
	format        archive.Format
	missing       []string // what it leaves out
	pipe          bool     // read it as it comes, without seeking
}{
	{name: "GNU tar, sparse", command: "tar --sparse -cf - alice", format: archive.Tar},
	{name: "GNU tar, sparse in pax", command: "tar --sparse --format=posix -cf - alice", format: archive.Tar},
	{name: "GNU tar, sparse in pax 0.1", command: "tar --sparse --format=posix --sparse-version=0.1 -cf - alice", format: archive.Tar},
	{name: "GNU tar, ustar", command: "tar --format=ustar -cf - alice", format: archive.Tar},
	{name: "GNU tar, v7", command: "tar --format=v7 -cf - alice 2>/dev/null || :", format: archive.Tar, missing: []string{"alice/pipe"}},
	{name: "bsdtar", command: "bsdtar --acls --xattrs -cf - alice", format: archive.Tar},
	{name: "gzip", command: "tar -cf - alice | gzip", format: archive.Tar},
	{name: "xz", command: "tar -cf - alice | xz -1", format: archive.Tar},
	{name: "zstd", command: "tar -cf - alice | zstd", format: archive.Tar},
	{name: "bzip2", command: "tar -cf - alice | bzip2", format: archive.Tar},
	{name: "a pipe", command: "tar --sparse -cf - alice", format: archive.Tar, pipe: true},
	{name: "a pipe in zstd", command: "tar -cf - alice | zstd", format: archive.Tar, pipe: true},
	{name: "restic dump", command: "restic -q init -r .r >&2 && restic -q -r .r backup alice >&2 && restic -q -r .r dump latest / --archive tar; rm -rf .r", format: archive.Tar, missing: []string{"alice/pipe"}, pipe: true},
	{name: "borg export-tar", command: "borg init -e none .b && borg create .b::a alice && borg export-tar .b::a -; rm -rf .b", format: archive.Tar, pipe: true},
	{name: "zip", command: "zip -qry - alice", format: archive.Zip, missing: []string{"alice/pipe"}},
	{name: "zip of stored members", command: "zip -qry0 x.zip alice; cat x.zip; rm x.zip", format: archive.Zip, missing: []string{"alice/pipe"}},
	{name: "zip64", command: "zip -qry -fz x.zip alice; cat x.zip; rm x.zip", format: archive.Zip, missing: []string{"alice/pipe"}},
	{name: "7-Zip", command: "7zz a -tzip -snl '-xr!pipe' x.zip alice >&2; cat x.zip; rm x.zip", format: archive.Zip, missing: []string{"alice/pipe"}},
	{name: "bsdtar's zip", command: "bsdtar --format=zip -cf x.zip alice 2>/dev/null || :; cat x.zip; rm x.zip", format: archive.Zip, missing: []string{"alice/pipe"}},
}

func TestContentsAreWhatTheFilesHeld(t *testing.T) {
	dir := buildContents(t)
	want := digests(t, dir)
	for _, src := range contentSources {
		t.Run(src.name, func(t *testing.T) {
			for _, tool := range []string{"bsdtar", "restic", "borg", "zip", "7zz", "xz", "zstd", "bzip2"} {
				if _, err := exec.LookPath(tool); err != nil && strings.Contains(src.command, tool+" ") {
					t.Skipf("needs %s: %v", tool, err)
				}
			}
			text := run(t, dir, src.command)
			var in io.Reader = bytes.NewReader(text)
			if src.pipe {
				in = pipeOf(t, text)
			}
			o, err := archive.Open(context.Background(), in, "")
			if err != nil {
				t.Fatal(err)
			}
			defer o.Close()
			if o.Format != src.format {
				t.Errorf("recognised as %q", o.Format)
			}
			got, rejected := contents(t, o)
			expect := maps.Clone(want)
			for _, m := range src.missing {
				delete(expect, m)
			}
			if diff := cmp.Diff(expect, got); diff != "" {
				t.Errorf("-disk +source:\n%s\nrejected: %q", diff, rejected)
			}
			if o.Format == archive.Tar && len(rejected) > 0 {
				t.Errorf("rejected: %q", rejected)
			}
		})
	}
}

// pipeOf is a real pipe that a text comes through.
func pipeOf(t testing.TB, text []byte) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		w.Write(text)
		w.Close()
	}()
	t.Cleanup(func() { r.Close() })
	return r
}

// openTree opens a directory as a source.
func openTree(t testing.TB, dir string) *archive.Opened {
	t.Helper()
	s, err := tree.OpenServer(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.OpenBase("/")
	if err != nil {
		t.Fatal(err)
	}
	o := archive.OpenDir(context.Background(), b)
	t.Cleanup(func() { o.Close(); b.Close(); s.Close() })
	return o
}

func TestContentsOfADirectoryAreWhatTheFilesHold(t *testing.T) {
	dir := buildContents(t)
	want := digests(t, dir)
	got, rejected := contents(t, openTree(t, dir))
	if diff := cmp.Diff(want, got); diff != "" || len(rejected) > 0 {
		t.Errorf("-disk +source:\n%s\nrejected: %q", diff, rejected)
	}
}

// rsync --fake-super makes files of what it may not make, or may not give attributes to.
func TestLinksInACopyByFakeSuperPointWhereTheyPointed(t *testing.T) {
	dir := buildHome(t)
	if _, err := exec.LookPath("rsync"); err != nil {
		t.Skipf("needs rsync: %v", err)
	}
	run(t, dir, "rsync -a --numeric-ids -M--fake-super alice/ copy")
	got, rejected := contents(t, openTree(t, filepath.Join(dir, "copy")))
	if got["www"] != "-> public_html" || got["pipe"] != "fifo" || len(rejected) > 0 {
		t.Errorf("www %q, pipe %q, rejected %q", got["www"], got["pipe"], rejected)
	}
}

// Between a walk and the reading of a content, a customer may put anything in the place of a file.
func TestAContentIsThatOfTheFileThatWasMet(t *testing.T) {
	rows := []struct {
		name, change, want string
	}{
		{"a link in its place", "rm d/x; ln -s ../secret d/x", "changed underneath us"},
		{"another file in its place", "echo another >y; mv y d/x", "changed underneath us"},
		{"a pipe in its place", "rm d/x; mkfifo d/x", "changed underneath us"},
		{"a link in the place of its directory", "mv d e; ln -s e d", "link"},
		{"it was cut", ": >d/x", "unexpected EOF"},
		{"it is gone", "rm d/x", "no such file"},
		{"it grew", "echo more >>d/x", ""},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			run(t, dir, "mkdir d; echo content >d/x; echo secret >secret")
			o := openTree(t, dir)
			for {
				e, err := o.Next()
				if err != nil {
					t.Fatal(err)
				}
				if e.Name == "d/x" {
					break
				}
			}
			c := o.Content()
			run(t, dir, row.change)
			b, err := io.ReadAll(c)
			if row.want == "" && (err != nil || string(b) != "content\n") || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want) || len(b) > 0) {
				t.Errorf("%q, %v; want %q", b, err, row.want)
			}
		})
	}
}

func TestAContentEndsWithTheNextEntry(t *testing.T) {
	dir := buildHome(t)
	for name, open := range map[string]func() *archive.Opened{
		"tar": func() *archive.Opened { return opened(t, run(t, dir, "tar -cf - alice")) },
		"zip": func() *archive.Opened { return opened(t, run(t, dir, "zip -qr - alice")) },
		"dir": func() *archive.Opened { return openTree(t, dir) },
	} {
		t.Run(name, func(t *testing.T) {
			o := open()
			var old io.Reader
			for {
				e, err := o.Next()
				if err != nil {
					break
				}
				if old != nil {
					if n, err := io.Copy(io.Discard, old); err == nil || n > 0 {
						t.Fatalf("before %q, the content of the one before gives %d bytes, %v", e.Name, n, err)
					}
				}
				old = o.Content()
			}
			if old == nil {
				t.Skip("nothing to be read last")
			}
		})
	}
}

// opened opens a text as a source.
func opened(t testing.TB, text []byte) *archive.Opened {
	t.Helper()
	o, err := archive.Open(context.Background(), bytes.NewReader(text), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

func TestContentsOfArchivesInsideAreRead(t *testing.T) {
	dir := t.TempDir()
	run(t, dir, `
		mkdir -p home/public_html home/mail cpmove-alice/cp
		echo index >home/public_html/index.php
		ln home/public_html/index.php home/public_html/other.php
		echo DNS=alice.example >cpmove-alice/cp/alice
		tar -C home -cf cpmove-alice/homedir.tar .
		echo 113 >cpmove-alice/version
		tar -cf whole.tar cpmove-alice
		gzip -k whole.tar
		zip -qr whole.zip cpmove-alice
		mkdir copy; cp -r cpmove-alice copy`)
	want := map[string]string{}
	for n, d := range digests(t, filepath.Join(dir, "cpmove-alice")) {
		want["cpmove-alice/"+n] = d
	}
	delete(want, "cpmove-alice/homedir.tar")
	for n, d := range digests(t, filepath.Join(dir, "home")) {
		want["cpmove-alice/homedir/"+n] = d
	}
	want["cpmove-alice"], want["cpmove-alice/homedir"] = "dir", "dir"
	for _, name := range []string{"whole.tar", "whole.tar.gz", "whole.zip", "copy"} {
		t.Run(name, func(t *testing.T) {
			var o *archive.Opened
			if name == "copy" {
				o = openTree(t, filepath.Join(dir, name))
			} else {
				text, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil {
					t.Fatal(err)
				}
				o = opened(t, text)
			}
			got, rejected := contents(t, o)
			if diff := cmp.Diff(want, got); diff != "" || len(rejected) > 0 {
				t.Errorf("-disk +source:\n%s\nrejected: %q", diff, rejected)
			}
		})
	}
}

// A listing names files and holds none.
func TestListingsHaveNoContents(t *testing.T) {
	for _, text := range []string{"#mtree\n./a type=file mode=0644\n", resticLast, "# file: a\n# owner: 1\nuser::rw-\ngroup::r--\nother::r--\n"} {
		o, err := archive.Open(context.Background(), strings.NewReader(text), map[bool]archive.Format{true: archive.Restic}[text == resticLast])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Next(); err != nil || o.Content() != nil {
			t.Errorf("%q: %v, %v", text, err, o.Content())
		}
	}
}

// Metadata alone is had without reading contents: what is skipped in a file is not read.
func TestContentsThatAreNotWantedAreNotRead(t *testing.T) {
	dir := buildContents(t)
	for _, command := range []string{"tar -cf - alice", "zip -qry0 x.zip alice; cat x.zip; rm x.zip"} {
		text := run(t, dir, command)
		f := &countedFile{Reader: bytes.NewReader(text)}
		o, err := archive.Open(context.Background(), f, "")
		if err != nil {
			t.Fatal(err)
		}
		drain(t, o)
		if f.n > int64(len(text))/10 {
			t.Errorf("%s: %d bytes of %d were read", command, f.n, len(text))
		}
	}
}

// countedFile counts what is read of a file.
type countedFile struct {
	*bytes.Reader
	n int64
}

func (f *countedFile) Read(b []byte) (int, error) {
	n, err := f.Reader.Read(b)
	f.n += int64(n)
	return n, err
}

func (f *countedFile) ReadAt(b []byte, at int64) (int, error) {
	n, err := f.Reader.ReadAt(b, at)
	f.n += int64(n)
	return n, err
}

func TestTheTimeOfAFileIsKnownFromWhereverItIsRead(t *testing.T) {
	dir := t.TempDir()
	run(t, dir, "echo x >x; touch -d '2026-01-02 03:04:06 UTC' x")
	want := time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)
	for _, command := range []string{"tar -cf - x", "zip -q - x", "zip -qX - x", "7zz a -tzip y x >&2; cat y.zip; rm y.zip", "bsdtar --format=zip -cf - x"} {
		got, _, _ := read(t, run(t, dir, command), "")
		if e := got["x"]; !e.Known.Has(archive.KnownTime) || !e.Time.Equal(want) {
			t.Errorf("%s: %v", command, e.Time)
		}
	}
	got, _, _ := drain(t, openTree(t, dir))
	if e := got["x"]; !e.Known.Has(archive.KnownTime) || !e.Time.Equal(want) {
		t.Errorf("the directory: %v", e.Time)
	}
}

func TestReadingEndsWithTheContext(t *testing.T) {
	dir := buildContents(t)
	for _, command := range []string{"tar -cf - alice", "tar -cf - alice | gzip", "zip -qr - alice"} {
		ctx, cancel := context.WithCancel(context.Background())
		o, err := archive.Open(ctx, bytes.NewReader(run(t, dir, command)), "")
		if err != nil {
			t.Fatal(err)
		}
		for {
			e, err := o.Next()
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(e.Name, "/long") {
				break
			}
		}
		c := o.Content()
		cancel()
		if _, err := io.Copy(io.Discard, c); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", command, err)
		}
		if _, err := o.Next(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v after it", command, err)
		}
		o.Close()
	}
}
