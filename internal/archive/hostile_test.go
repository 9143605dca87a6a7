package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"rightful/internal/archive"
	"rightful/internal/snapshot"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

// tarOf writes an archive as an attacker could.
func tarOf(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		body := h.PAXRecords["body"]
		if body != "" {
			delete(h.PAXRecords, "body")
			h.Size = int64(len(body))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func withBody(h tar.Header, body []byte) tar.Header {
	h.PAXRecords = map[string]string{"body": string(body)}
	return h
}

func TestHostileEntriesAreRejectedByThemselves(t *testing.T) {
	long := strings.Repeat("x", 256)
	deep := strings.Repeat("d/", archive.MaxPath/2) + "x"
	last := tar.Header{Name: "last", Uid: 7, Gid: 8, Mode: 0o640}
	rows := []struct {
		name   string
		source []byte
		want   string
	}{
		{"the parent in a tar", tarOf(t, tar.Header{Name: "a/../../etc/shadow"}, last), `byte 0: entry "a/../../etc/shadow": ".." in the path`},
		{"a name that no file system takes", tarOf(t, tar.Header{Name: "a/" + long}, last), `a name of 256 bytes; file systems take 255`},
		{"a path deeper than what is entered", tarOf(t, tar.Header{Name: deep}, last), `a path of 32769 bytes; 32768 are read`},
		{"a device in a tar", tarOf(t, tar.Header{Name: "sda", Typeflag: tar.TypeBlock}, last), `byte 0: entry "sda": a device; no backup makes one right`},
		{"a hard link to the parent", tarOf(t, tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "a/../../etc/shadow"}, last), `entry "x": a hard link to "a/../../etc/shadow": ".." in the path`},
		{"a link to nothing", tarOf(t, tar.Header{Name: "x", Typeflag: tar.TypeSymlink}, last), `entry "x": a link to ""`},
		{"a link to more than any path", tarOf(t, tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("x/", 4096)}, last), `entry "x": a link to 8192 bytes; 4095 are read`},
		{"a file in the place of the top", tarOf(t, tar.Header{Name: "./."}, last), `a file without a name`},
		{"a link in the place of the top", tarOf(t, tar.Header{Name: "/", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, last), `a symlink without a name`},
		{"a member of an unknown kind", tarOf(t, tar.Header{Name: "odd", Typeflag: 'Q'}, last), `entry "odd": a member of the unknown kind 'Q'`},
		{"the parent in an mtree", []byte("#mtree\n./a/../../b type=file mode=0644\nlast uid=7 gid=8 mode=0640 type=file\n"), `line 2: entry "./a/../../b": ".." in the path`},
		{"leaving the directory of an mtree", []byte("#mtree\n..\nlast uid=7 gid=8 mode=0640 type=file\n"), `line 2: entry "..": it leaves the directory that the list began in`},
		{"a NUL in an mtree", []byte("#mtree\na\\000b type=file\nlast uid=7 gid=8 mode=0640 type=file\n"), `line 2: entry "a\x00b": a NUL in the path`},
		{"an id in an mtree", []byte("#mtree\na type=file uid=4294967295\nlast uid=7 gid=8 mode=0640 type=file\n"), `line 2: entry "a": uid=4294967295: no id that Linux has`},
		{"a mode in an mtree", []byte("#mtree\na type=file mode=10000\nlast uid=7 gid=8 mode=0640 type=file\n"), `line 2: entry "a": mode=10000: no mode`},
		{"a line without end in an mtree", []byte("#mtree\na type=file " + strings.Repeat("x", 1<<20) + "\nlast uid=7 gid=8 mode=0640 type=file\n"), `line 2: entry "": a line of more than 262144 bytes`},
		{"lines continued without end in an mtree", []byte("#mtree\na " + strings.Repeat(strings.Repeat("k=v ", 100)+"\\\n", 1000) + "\nlast uid=7 gid=8 mode=0640 type=file\n"), `a line of more than 262144 bytes`},
		{"an escape in a dump of ACLs", []byte("# file: a\\9\n# owner: 7\nuser::rw-\ngroup::r--\nother::---\n\n# file: last\n# owner: 7\n# group: 8\nuser::rw-\ngroup::r--\nother::---\n"), `line 1: entry "a\\9": a backslash before neither`},
		{"half an ACL", []byte("# file: a\n# owner: 7\nuser::rw-\n\n# file: last\n# owner: 7\n# group: 8\nuser::rw-\ngroup::r--\nother::---\n"), `line 1: entry "a": an ACL without the entry of owner, group or others`},
		{"an ACL entry", []byte("# file: a\n# owner: 7\nuser::rwxx\n\n# file: last\n# owner: 7\n# group: 8\nuser::rw-\ngroup::r--\nother::---\n"), `line 1: entry "a": ACL entry "user::rwxx" is not TAG:WHO:PERM`},
		{"an ACL without end", []byte("# file: a\n" + strings.Repeat("user:5:rwx\n", 100000) + "\n# file: last\n# owner: 7\n# group: 8\nuser::rw-\ngroup::r--\nother::---\n"), `entry "a": an ACL of more than 8192 entries`},
		{"a line of restic", []byte("{\"struct_type\":\"snapshot\"}\n{\"struct_type\":\"node\",\"path\":7}\n" + resticLast), `line 2: entry "": not a line of restic ls --json`},
		{"a mode that does not fit the kind", []byte("{\"struct_type\":\"snapshot\"}\n{\"struct_type\":\"node\",\"type\":\"dir\",\"path\":\"/a\",\"mode\":493}\n" + resticLast), `line 2: entry "/a": mode 493 is not that of a dir`},
		{"a device in restic", []byte("{\"struct_type\":\"snapshot\"}\n{\"struct_type\":\"node\",\"type\":\"dev\",\"path\":\"/a\"}\n" + resticLast), `line 2: entry "/a": a device`},
		{"a mode of borg", []byte(`{"path":"a","mode":"-rwxrwxrwz"}` + "\n" + `{"path":"last","mode":"-rw-r-----","uid":7,"gid":8}` + "\n"), `line 1: entry "a": mode "-rwxrwxrwz"`},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			got, rejected, _ := read(t, row.source, "")
			if len(rejected) != 1 || !strings.Contains(rejected[0], row.want) {
				t.Errorf("rejected %.200q, want %q", rejected, row.want)
			}
			e := got["last"]
			if len(got) != 1 || e.UID != 7 || e.GID != 8 || e.Mode != 0o640 {
				t.Errorf("what follows is %v", got)
			}
		})
	}
}

const resticLast = `{"struct_type":"node","type":"file","path":"/last","mode":416,"uid":7,"gid":8}` + "\n"

func TestAbsolutePathsArePathsOfTheSource(t *testing.T) {
	got, rejected, _ := read(t, tarOf(t, tar.Header{Name: "/home/alice/./x//y"}), "")
	if _, ok := got["home/alice/x/y"]; !ok || len(rejected) > 0 {
		t.Errorf("got %v, rejected %q", got, rejected)
	}
}

func TestTheLastOfATarsDuplicatesCounts(t *testing.T) {
	x := func(mode int64) tar.Header {
		return tar.Header{Name: "x", Uname: "alice", Gname: "alice", Mode: mode}
	}
	other := tar.Header{Name: "d", Typeflag: tar.TypeDir, Uname: "alice", Gname: "nobody", Mode: 0o750}
	r := judgeSource(t, tarOf(t, x(0o644), other, x(0o755), x(0o600)), alice(), nil, archive.Place{})
	want := []string{`"d" dir 20001:99 0750 acl=?`, `"x" file 20001:20001 0600 acl=?`}
	if diff := cmp.Diff(want, r.records); diff != "" || r.counts.Twice != 2 {
		t.Errorf("-want +got:\n%s\n%+v", diff, r.counts)
	}
}

func TestIdsThatNoLinuxHasAreNotKnown(t *testing.T) {
	got, _, _ := read(t, tarOf(t, tar.Header{Name: "x", Uid: 1<<32 + 5, Gid: 1<<32 - 1}), "")
	if e := got["x"]; e.Known&(archive.KnownUID|archive.KnownGID) != 0 {
		t.Errorf("%+v", e)
	}
}

func TestAHomeInsideAPackageIsReadInItsPlace(t *testing.T) {
	inner := tarOf(t, tar.Header{Name: "./public_html/", Typeflag: tar.TypeDir, Uid: 5, Mode: 0o750}, tar.Header{Name: "./run", Uid: 5, Mode: 0o755})
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write(inner)
	z.Close()
	after := tar.Header{Name: "cpmove-alice/version"}
	rows := []struct {
		name  string
		h     tar.Header
		body  []byte
		names []string
		told  string
	}{
		{"plain", tar.Header{Name: "cpmove-alice/homedir.tar"}, inner, []string{"cpmove-alice/homedir/public_html", "cpmove-alice/homedir/run", "cpmove-alice/version"}, ""},
		{"compressed", tar.Header{Name: "cpmove-alice/homedir.tar.gz"}, zipped.Bytes(), []string{"cpmove-alice/homedir/public_html", "cpmove-alice/homedir/run", "cpmove-alice/version"}, ""},
		{"made as the customer", tar.Header{Name: "backup-11.24.2026_02-00-00_alice/homedir.tar", Uid: 5}, inner, []string{"backup-11.24.2026_02-00-00_alice/homedir/public_html", "backup-11.24.2026_02-00-00_alice/homedir/run", "cpmove-alice/version"}, ""},
		{"HestiaCP", tar.Header{Name: "./web/alice.example/domain_data.tar.gz"}, zipped.Bytes(), []string{"cpmove-alice/version", "home/web/alice.example/public_html", "home/web/alice.example/run"}, ""},
		{"cut short", tar.Header{Name: "cpmove-alice/homedir.tar"}, inner[:700], []string{"cpmove-alice/homedir/public_html", "cpmove-alice/version"}, "the archive inside ends early: unexpected EOF"},
		{"none", tar.Header{Name: "cpmove-alice/homedir.tar"}, bytes.Repeat([]byte("x"), 600), []string{"cpmove-alice/homedir.tar", "cpmove-alice/version"}, ""},
		{"DirectAdmin", tar.Header{Name: "backup/home.tar.gz"}, zipped.Bytes(), []string{"cpmove-alice/version", "home/public_html", "home/run"}, ""},
		{"Plesk", tar.Header{Name: "clients/c/domains/a.example/backup_user-data_2611200200.tgz", Uid: 7}, zipped.Bytes(), []string{"clients/c/domains/a.example/home/public_html", "clients/c/domains/a.example/home/run", "cpmove-alice/version"}, ""},
		{"empty", tar.Header{Name: "cpmove-alice/homedir.tar"}, nil, []string{"cpmove-alice/version"}, ""},
		{"a customer's file of that name", tar.Header{Name: "alice/homedir.tar", Uid: 20001}, inner, []string{"alice/homedir.tar", "cpmove-alice/version"}, ""},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			h := row.h
			if row.body != nil {
				h = withBody(h, row.body)
			}
			got, rejected, _ := read(t, tarOf(t, h, after), "")
			var names []string
			for n := range got {
				names = append(names, n)
			}
			if diff := cmp.Diff(row.names, slices.Sorted(slices.Values(names))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if told := strings.Join(rejected, "\n"); row.told == "" && told != "" || !strings.Contains(told, row.told) {
				t.Errorf("told %q, want %q", told, row.told)
			}
		})
	}
}

// Beside what a panel keeps of its own, whoever owns it, an archive of the panel's name is the panel's.
func TestAnArchiveBesideAPanelsDataIsRead(t *testing.T) {
	home := withBody(tar.Header{Name: "backup/home.tar", Uid: 20001}, tarOf(t, tar.Header{Name: "Maildir/x"}))
	got, _, _ := read(t, tarOf(t, withBody(tar.Header{Name: "backup/user.conf", Uid: 20001}, []byte("username=alice\n")), home), "")
	if _, ok := got["home/Maildir/x"]; !ok {
		t.Errorf("%q", keys(got))
	}
	got, _, _ = read(t, tarOf(t, home), "")
	if _, ok := got["backup/home.tar"]; !ok || len(got) != 1 {
		t.Errorf("alone: %q", keys(got))
	}
}

// A hard link in an archive inside is to a name in that archive, and what is the top there is no file.
func TestLinksInAnArchiveInsideStayInIt(t *testing.T) {
	inner := tarOf(t, tar.Header{Name: "./x", Mode: 0o644}, tar.Header{Name: "y", Typeflag: tar.TypeLink, Linkname: "./x"},
		tar.Header{Name: "z", Typeflag: tar.TypeLink, Linkname: "../cp/alice"}, tar.Header{Name: ".", Typeflag: tar.TypeSymlink, Linkname: "/etc"})
	got, rejected, _ := read(t, tarOf(t, withBody(tar.Header{Name: "cpmove-alice/homedir.tar"}, inner)), "")
	if y := got["cpmove-alice/homedir/y"]; !y.HardLink || y.Target != "cpmove-alice/homedir/x" || !y.Known.Has(archive.KnownTarget) {
		t.Errorf("%+v", y)
	}
	if len(got) != 2 || len(rejected) != 2 {
		t.Errorf("%q, rejected %q", keys(got), rejected)
	}
}

// A file of nothing but holes is small in an archive, and any size to whoever reads it.
func TestHolesEnd(t *testing.T) {
	dir := t.TempDir()
	text := run(t, dir, "truncate -s 8T big; echo x >small; tar --sparse -cf - big small")
	o := opened(t, text)
	e, err := o.Next()
	if err != nil || e.Size != 8<<40 || len(text) > 1<<20 {
		t.Fatalf("%+v, %v, in %d bytes", e, err, len(text))
	}
	if n, err := io.Copy(io.Discard, o.Content()); !errors.Is(err, archive.ErrBomb) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := o.Next(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(o.Content()); string(b) != "x\n" || err != nil {
		t.Errorf("what follows is %q, %v", b, err)
	}
}

func TestWhatEndsEarlyIsKeptAndTold(t *testing.T) {
	h := func(i int) tar.Header {
		return tar.Header{Name: fmt.Sprintf("public_html/f%d", i), Uname: "alice", Gname: []string{"alice", "nobody"}[i%2], Mode: 0o644 + int64(i%2)*0o111}
	}
	text := tarOf(t, h(0), h(1), h(2), h(3))
	r := judgeSource(t, text[:512*3+100], alice(), nil)
	if len(r.records) != 3 || r.confidence != archive.OwnersAndModes || !strings.Contains(r.reasons, "it ends early (byte 1536: unexpected EOF): what comes after that is not known") {
		t.Errorf("%q %q %q", r.records, r.confidence, r.reasons)
	}
}

// A bomb is a small stream that expands without end.
func TestBombsEnd(t *testing.T) {
	zeros := func(w io.Writer, n int64) {
		b := make([]byte, 1<<20)
		for ; n > 0; n -= int64(len(b)) {
			w.Write(b)
		}
	}
	var headers bytes.Buffer
	if err := tar.NewWriter(&headers).WriteHeader(&tar.Header{Name: "x", Size: 1 << 40, Typeflag: tar.TypeReg, Format: tar.FormatGNU}); err != nil {
		t.Fatal(err)
	}
	var z bytes.Buffer
	w, err := zstd.NewWriter(&z, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	w.Write(headers.Bytes())
	zeros(w, 3<<29)
	w.Close()
	o, err := archive.Open(context.Background(), bytes.NewReader(z.Bytes()), "")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	_, err = archive.Read(o, scratch(t))
	if !errors.Is(err, archive.ErrBomb) {
		t.Errorf("%d bytes that expand to 1.5 GiB: %v", z.Len(), err)
	}
	// One inside an archive ends what it is in, and what follows is read.
	_, rejected, _ := read(t, tarOf(t, withBody(tar.Header{Name: "cpmove-alice/homedir.tar.zst"}, z.Bytes()), tar.Header{Name: "last"}), "")
	if len(rejected) != 1 || !strings.Contains(rejected[0], archive.ErrBomb.Error()) {
		t.Errorf("inside: %q", rejected)
	}
}

func TestAWindowThatTakesAllMemoryIsRefused(t *testing.T) {
	t.Run("zstd", func(t *testing.T) {
		// A frame header with a window of 2 GiB.
		frame := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3}, make([]byte, 64)...)
		_, err := archive.Open(context.Background(), bytes.NewReader(frame), "")
		if err == nil || !strings.Contains(err.Error(), "window") {
			t.Errorf("%v", err)
		}
	})
	t.Run("xz", func(t *testing.T) {
		block := []byte{2, 0, 0x21, 1, 40, 0, 0, 0} // a dictionary of 4 GiB
		block = binary.LittleEndian.AppendUint32(block, crc32.ChecksumIEEE(block))
		head := append([]byte("\xfd7zXZ\x00"), 0, 0)
		head = binary.LittleEndian.AppendUint32(head, crc32.ChecksumIEEE(head[6:]))
		_, err := archive.Open(context.Background(), bytes.NewReader(append(head, block...)), "")
		if err == nil || !strings.Contains(err.Error(), "xz: a window of 4096 MiB; 128 MiB are given") {
			t.Errorf("%v", err)
		}
	})
}

func TestXZIsReadInAllItsFormsOrNotAtAll(t *testing.T) {
	var headers []tar.Header
	for i := range 50 {
		headers = append(headers, tar.Header{Name: fmt.Sprintf("x%d", i)})
	}
	for _, flags := range []string{"--check=crc64", "--check=crc32", "--check=sha256", "--check=none", "--check=crc64 --block-size=4096 -T2", "-0", "-9e"} {
		c := exec.Command("xz", append(strings.Fields(flags), "-c")...)
		c.Stdin = bytes.NewReader(tarOf(t, headers...))
		good, err := c.Output()
		if err != nil {
			t.Skipf("xz: %v", err)
		}
		if got, _, o := read(t, good, ""); len(got) != len(headers) || o.Compression != "xz" {
			t.Errorf("xz %s: %d entries of %d", flags, len(got), len(headers))
		}
		// Two streams with padding between.
		if got, _, _ := read(t, append(append(good[:len(good):len(good)], 0, 0, 0, 0), good...), archive.Tar); len(got) != len(headers) {
			t.Errorf("xz %s, two streams: %d entries of %d", flags, len(got), len(headers))
		}
		if flags == "--check=none" {
			continue
		}
		for i := 24; i < len(good)-60; i += 7 {
			bad := bytes.Clone(good)
			bad[i] ^= 0x10
			o, err := archive.Open(context.Background(), bytes.NewReader(bad), archive.Tar)
			n := 0
			for err == nil {
				var e archive.Entry
				if e, err = o.Next(); err == nil && e.Name == fmt.Sprintf("x%d", n) {
					n++
				}
			}
			if err == io.EOF && n != len(headers) { // some bits of LZMA mean nothing
				t.Errorf("xz %s: a bit flipped in byte %d of %d is not found", flags, i, len(good))
			}
		}
	}
}

func TestManyEntriesTakeLittleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 220,000 entries")
	}
	const n = 220_000
	var text bytes.Buffer
	z, err := zstd.NewWriter(&text, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for i := range n {
		w.WriteHeader(&tar.Header{
			Name: fmt.Sprintf("public_html/%03d/%d/some-ordinary-name-of-a-file-%d.php", (i*7919)%500, i%11, i), Mode: 0o644 + int64(i%2)*0o111,
			Uname: "alice", Gname: []string{"alice", "nobody"}[i%2], Uid: 1005, Gid: 1005, Typeflag: tar.TypeReg,
		})
	}
	w.Close()
	z.Close()
	o, err := archive.Open(context.Background(), bytes.NewReader(text.Bytes()), "")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	f := scratch(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	survey, err := archive.Read(o, f)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := survey.Truth(archive.Places{{}}, alice())
	if err != nil {
		t.Fatal(err)
	}
	got, last := 0, ""
	err = tr.Each(func(e *snapshot.Entry) error {
		if got > 0 && snapshot.Compare(last, e.Rel) >= 0 {
			return fmt.Errorf("%q comes after %q", e.Rel, last)
		}
		got, last = got+1, e.Rel
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got != n {
		t.Errorf("%d records of %d", got, n)
	}
	// Runs of the sort and the decompressor, wherever the collector is; all entries together would take 100 MiB.
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 96<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}
