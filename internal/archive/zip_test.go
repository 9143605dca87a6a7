package archive_test

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/archive"

	"github.com/google/go-cmp/cmp"
)

// A rawMember is a member of a zip archive as an attacker could write it.
type rawMember struct {
	name   string
	body   string
	host   byte // 3 for unix
	flags  uint16
	method uint16 // 8 packs the body
	attrs  uint32
	extra  []byte
	change func(record []byte) // the directory's record, without name and extra
	shared bool                // its data is that of the member before
}

// zipOf writes an archive.
func zipOf(members ...rawMember) []byte {
	le := binary.LittleEndian
	var out, dir bytes.Buffer
	at := 0
	var data []byte
	for _, m := range members {
		if !m.shared {
			data = []byte(m.body)
		}
		if m.method == 8 && !m.shared {
			var b bytes.Buffer
			w, _ := flate.NewWriter(&b, 9)
			io.WriteString(w, m.body)
			w.Close()
			data = b.Bytes()
		}
		rec := make([]byte, 46)
		copy(rec, "PK\x01\x02")
		rec[4], rec[5], rec[6] = 20, m.host, 20
		le.PutUint16(rec[8:], m.flags)
		le.PutUint16(rec[10:], m.method)
		le.PutUint32(rec[12:], 0x5c210000)
		le.PutUint32(rec[16:], crc32.ChecksumIEEE([]byte(m.body)))
		le.PutUint32(rec[20:], uint32(len(data)))
		le.PutUint32(rec[24:], uint32(len(m.body)))
		le.PutUint16(rec[28:], uint16(len(m.name)))
		le.PutUint16(rec[30:], uint16(len(m.extra)))
		le.PutUint32(rec[38:], m.attrs)
		if !m.shared {
			at = out.Len()
			local := make([]byte, 30)
			copy(local, "PK\x03\x04")
			copy(local[4:], rec[6:30])
			out.Write(local)
			out.WriteString(m.name)
			out.Write(data)
		}
		le.PutUint32(rec[42:], uint32(at))
		if m.change != nil {
			m.change(rec)
		}
		dir.Write(rec)
		dir.WriteString(m.name)
		dir.Write(m.extra)
	}
	end := make([]byte, 22)
	copy(end, "PK\x05\x06")
	le.PutUint16(end[8:], uint16(len(members)))
	le.PutUint16(end[10:], uint16(len(members)))
	le.PutUint32(end[12:], uint32(dir.Len()))
	le.PutUint32(end[16:], uint32(out.Len()))
	out.Write(dir.Bytes())
	out.Write(end)
	return out.Bytes()
}

func TestHostileMembersOfAZipAreRejectedByThemselves(t *testing.T) {
	le := binary.LittleEndian
	link := uint32(0o120777 << 16)
	rows := []struct {
		name string
		m    rawMember
		want string
	}{
		{"the parent", rawMember{name: "a/../../etc/shadow"}, `entry "a/../../etc/shadow": ".." in the path`},
		{"the parent by backslashes", rawMember{name: `a\..\..\etc\shadow`}, `".." in the path`},
		{"the parent in a field of its own", rawMember{name: "x", extra: unicodePath("x", "../x")}, `".." in the path`},
		{"a NUL", rawMember{name: "a\x00b"}, "a NUL in the path"},
		{"a name that no file system takes", rawMember{name: strings.Repeat("x", 256)}, "a name of 256 bytes"},
		{"a file without a name", rawMember{name: "."}, "a file without a name"},
		{"a device", rawMember{name: "sda", host: 3, attrs: 0o060666 << 16}, "a device; no backup makes one right"},
		{"an encrypted member", rawMember{name: "x", flags: 1}, "it is encrypted"},
		{"an encrypted directory", rawMember{name: "x", flags: 1 << 13}, "it is encrypted"},
		{"a method that is not known", rawMember{name: "x", method: 9}, "it is packed by the method 9; only 0 (stored) and 8 (deflate) are read"},
		{"data behind the end", rawMember{name: "x", change: func(r []byte) { le.PutUint32(r[42:], 1<<20) }}, "its data lies outside the archive"},
		{"data beyond the end", rawMember{name: "x", change: func(r []byte) { le.PutUint32(r[20:], 1<<20); le.PutUint32(r[24:], 1<<20) }}, "its data lies outside the archive"},
		{"a stored member of two sizes", rawMember{name: "x", body: "abc", change: func(r []byte) { le.PutUint32(r[24:], 2) }}, "it says that 3 bytes expand to 2"},
		{"a size that nothing expands to", rawMember{name: "x", body: "abc", method: 8, change: func(r []byte) { le.PutUint32(r[24:], 1<<31) }}, "bytes expand to 2147483648"},
		{"a link to nothing", rawMember{name: "l", host: 3, attrs: link}, `a link to ""`},
		{"a link with a NUL", rawMember{name: "l", host: 3, attrs: link, body: "a\x00b"}, `a link to "a\x00b"`},
		{"a link to more than any path", rawMember{name: "l", host: 3, attrs: link, body: strings.Repeat("x/", 4096)}, "a link to 8192 bytes; 4095 are read"},
		{"a link whose content is damaged", rawMember{name: "l", host: 3, attrs: link, body: "x", change: func(r []byte) { r[16]++ }}, "its checksum is wrong"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			last := rawMember{name: "last", host: 3, attrs: 0o104640 << 16, body: "last"}
			got, rejected, _ := read(t, zipOf(row.m, last), "")
			if len(rejected) != 1 || !strings.Contains(rejected[0], row.want) {
				t.Errorf("rejected %.200q, want %q", rejected, row.want)
			}
			if e := got["last"]; len(got) != 1 || e.Mode != 0o4640 || e.Size != 4 {
				t.Errorf("what follows is %v", got)
			}
		})
	}
}

// unicodePath is Info-ZIP's field for a name in UTF-8.
func unicodePath(name, is string) []byte {
	b := []byte{0x75, 0x70, 0, 0, 1}
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE([]byte(name)))
	b = append(b, is...)
	binary.LittleEndian.PutUint16(b[2:], uint16(len(b)-4))
	return b
}

func TestAContentOfAZipIsAsLongAsItSaysAndSound(t *testing.T) {
	le := binary.LittleEndian
	long := strings.Repeat("some text ", 1000)
	rows := []struct {
		name string
		m    rawMember
		want string
	}{
		{"longer", rawMember{body: long, method: 8, change: func(r []byte) { le.PutUint32(r[24:], 5000) }}, "it is longer than the 5000 bytes that it should have"},
		{"shorter", rawMember{body: long, method: 8, change: func(r []byte) { le.PutUint32(r[24:], 10001) }}, "unexpected EOF"},
		{"another", rawMember{body: long, method: 8, change: func(r []byte) { r[16]++ }}, "its checksum is wrong"},
		{"another, stored", rawMember{body: long, change: func(r []byte) { r[16]++ }}, "its checksum is wrong"},
		{"of an empty one", rawMember{body: "", change: func(r []byte) { r[16]++ }}, "its checksum is wrong"},
		{"no member there", rawMember{body: long, change: func(r []byte) { le.PutUint32(r[42:], 1) }}, "zip: damaged"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			row.m.name = "x"
			o := opened(t, zipOf(row.m, rawMember{name: "last", body: "last"}))
			if _, err := o.Next(); err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, o.Content()); err == nil || !strings.Contains(err.Error(), row.want) || n > 10000 {
				t.Errorf("%d bytes, %v; want %q", n, err, row.want)
			}
			if _, err := o.Next(); err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(o.Content()); string(b) != "last" || err != nil {
				t.Errorf("what follows is %q, %v", b, err)
			}
		})
	}
}

// The header of a member may say that it is longer than the archive.
func TestDataOfAZipLiesBeforeTheDirectory(t *testing.T) {
	text := zipOf(rawMember{name: "x", body: "x"})
	text[28] = 40 // of an extra field there
	o := opened(t, text)
	if _, err := o.Next(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(o.Content()); err == nil || !strings.Contains(err.Error(), "zip: damaged") {
		t.Errorf("%q, %v", b, err)
	}
}

// A bomb of a new kind has many members whose data is the same.
func TestOverlappingMembersAreRejected(t *testing.T) {
	members := []rawMember{{name: "0", body: strings.Repeat("\x00", 1<<20), method: 8}}
	for i := 1; i < 1000; i++ {
		m := members[0]
		m.name, m.shared = fmt.Sprint(i), true
		members = append(members, m)
	}
	text := zipOf(members...)
	got, rejected, _ := read(t, text, "")
	total := int64(0)
	for _, e := range got {
		total += e.Size
	}
	if len(rejected) == 0 || !strings.Contains(rejected[0], "its data is that of others too") || total > 1100*int64(len(text)) || total > 8<<20 {
		t.Errorf("%d members of %d bytes in an archive of %d are given, rejected %.300q", len(got), total, len(text), rejected)
	}
}

func TestNamesInAZipAreReadByTheirRules(t *testing.T) {
	rows := []struct {
		name    string
		m       rawMember
		want    string
		recoded bool
	}{
		{"marked as UTF-8", rawMember{name: "gr\u00fc\u00df", flags: 1 << 11}, "gr\u00fc\u00df", false},
		{"UTF-8 without a mark, of DOS", rawMember{name: "gr\u00fc\u00df"}, "gr\u00fc\u00df", false},
		{"Latin-1 of unix", rawMember{name: "gr\xfc\xdf", host: 3}, "gr\xfc\xdf", false},
		{"Latin-1 of macOS", rawMember{name: "gr\xfc\xdf", host: 19}, "gr\xfc\xdf", false},
		{"the code page of DOS", rawMember{name: "gr\x81\xe1"}, "gr\u00fc\u00df", true},
		{"all of the code page's upper half", rawMember{name: "\x80\x9f\xa0\xb0\xdb\xdf\xe0\xfe\xff"}, "\u00c7\u0192\u00e1\u2591\u2588\u2580\u03b1\u25a0\u00a0", true},
		{"the code page of Windows", rawMember{name: "gr\x81\xe1", host: 10}, "gr\u00fc\u00df", true},
		{"a field of its own", rawMember{name: "gr?\xe1", extra: unicodePath("gr?\xe1", "gr\u00fc\u00df")}, "gr\u00fc\u00df", false},
		{"a field of another name", rawMember{name: "other", extra: unicodePath("gr?\xe1", "gr\u00fc\u00df")}, "other", false},
		{"marked as UTF-8 and none", rawMember{name: "gr\xfc", flags: 1 << 11}, "gr\xfc", false},
		{"backslashes of Windows", rawMember{name: `www\img\a.png`}, "www/img/a.png", false},
		{"backslashes of a program that says it is for unix", rawMember{name: `www\img\a.png`, host: 3}, "www/img/a.png", false},
		{"a drive", rawMember{name: `C:\inetpub\a.asp`}, "inetpub/a.asp", false},
		{"a share", rawMember{name: `\\server\www\a.asp`}, "server/www/a.asp", false},
		{"the root", rawMember{name: "/www/a"}, "www/a", false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			got, rejected, _ := read(t, zipOf(row.m), "")
			e, ok := got[row.want]
			if !ok || e.Recoded != row.recoded || len(rejected) > 0 {
				t.Errorf("got %q (guessed: %v), rejected %q; want %q (guessed: %v)", keys(got), e.Recoded, rejected, row.want, row.recoded)
			}
		})
	}
	// A backslash is an ordinary character of a name on unix, and where there are slashes it is meant so.
	got, _, _ := read(t, zipOf(rawMember{name: `www/a\b`, host: 3}), "")
	if _, ok := got[`www/a\b`]; !ok {
		t.Errorf("got %q", keys(got))
	}
}

func keys[V any](m map[string]V) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	return out
}

func TestDirectoriesAndModesOfAZipAreThoseOfItsProgram(t *testing.T) {
	rows := []struct {
		name string
		m    rawMember
		kind rightful.Kind
		mode string // "" where it is not known
	}{
		{"a directory by its name", rawMember{name: "d/"}, rightful.KindDir, ""},
		{"a directory by a backslash", rawMember{name: `d\`}, rightful.KindDir, ""},
		{"a directory by an attribute of DOS", rawMember{name: "d", attrs: 0x10}, rightful.KindDir, ""},
		{"a directory by its mode", rawMember{name: "d", host: 3, attrs: 0o042755 << 16}, rightful.KindDir, "2755"},
		{"a mode without a kind", rawMember{name: "d", host: 3, attrs: 0o0600 << 16}, rightful.KindFile, "0600"},
		{"no mode", rawMember{name: "d", host: 3}, rightful.KindFile, ""},
		{"what stands for modes in a program for Windows", rawMember{name: "d", attrs: 0o100666 << 16}, rightful.KindFile, ""},
		{"a pipe", rawMember{name: "d", host: 3, attrs: 0o010600 << 16}, rightful.KindFIFO, "0600"},
		{"a link", rawMember{name: "d", host: 19, attrs: 0o120777 << 16, body: "../x"}, rightful.KindSymlink, "0777"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			got, rejected, _ := read(t, zipOf(row.m), "")
			e := got["d"]
			mode := ""
			if e.Known.Has(archive.KnownMode) {
				mode = e.Mode.String()
			}
			if e.Kind != row.kind || mode != row.mode || e.Known&(archive.KnownUID|archive.KnownUser|archive.KnownACL) != 0 || len(rejected) > 0 {
				t.Errorf("%s %q %+v, rejected %q", e.Kind, mode, e, rejected)
			}
			if e.Kind == rightful.KindSymlink && e.Target != "../x" {
				t.Errorf("it points to %q", e.Target)
			}
		})
	}
}

// What real programs write of names, encryption and streams.
func TestZipProgramsAreReadAsTheyMeant(t *testing.T) {
	need := func(t *testing.T, tool string) {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s: %v", tool, err)
		}
	}
	t.Run("encrypted", func(t *testing.T) {
		need(t, "zip")
		dir := t.TempDir()
		got, rejected, _ := read(t, run(t, dir, "echo x >x; echo y >y; zip -q -P secret a.zip x; zip -q a.zip y; cat a.zip"), "")
		if len(got) != 1 || len(rejected) != 1 || !strings.Contains(rejected[0], `entry "x": it is encrypted`) {
			t.Errorf("%q, %q", keys(got), rejected)
		}
	})
	t.Run("encrypted by 7-Zip", func(t *testing.T) {
		need(t, "7zz")
		_, rejected, _ := read(t, run(t, t.TempDir(), "echo x >x; 7zz a -tzip -psecret -mem=AES256 a.zip x >&2; cat a.zip"), "")
		if len(rejected) != 1 || !strings.Contains(rejected[0], `entry "x": it is encrypted`) {
			t.Errorf("%q", rejected)
		}
	})
	t.Run("other methods", func(t *testing.T) {
		need(t, "7zz")
		for method, id := range map[string]string{"Deflate64": "9", "BZip2": "12", "LZMA": "14"} {
			_, rejected, _ := read(t, run(t, t.TempDir(), "seq 10000 >x; 7zz a -tzip -mm="+method+" a.zip x >&2; cat a.zip"), "")
			if len(rejected) != 1 || !strings.Contains(rejected[0], "it is packed by the method "+id) {
				t.Errorf("%s: %q", method, rejected)
			}
		}
	})
	t.Run("one part of several", func(t *testing.T) {
		need(t, "zip")
		text := run(t, t.TempDir(), "head -c 300000 /dev/urandom >x; zip -q -s 100k a.zip x; cat a.zip")
		if o, err := archive.Open(context.Background(), bytes.NewReader(text), archive.Zip); err == nil || !strings.Contains(err.Error(), "one part of several") {
			t.Errorf("%v, %v", o, err)
		}
	})
	t.Run("a comment that looks like an end", func(t *testing.T) {
		need(t, "zip")
		got, _, _ := read(t, run(t, t.TempDir(), `echo x >x; zip -q a.zip x; printf 'a PK\005\006 in a comment\n' | zip -qz a.zip >&2; cat a.zip`), "")
		if _, ok := got["x"]; !ok {
			t.Errorf("%q", keys(got))
		}
	})
	t.Run("empty", func(t *testing.T) {
		got, rejected, o := read(t, zipOf(), "")
		if len(got) != 0 || len(rejected) != 0 || o.Format != archive.Zip {
			t.Errorf("%v %v %v", got, rejected, o.Format)
		}
	})
}

func TestAZipThatIsCutOrInAPipeIsRefused(t *testing.T) {
	text := zipOf(rawMember{name: "x", body: "x"})
	if _, err := archive.Open(context.Background(), bytes.NewReader(text[:len(text)-10]), ""); err == nil || !strings.Contains(err.Error(), "its directory is missing") {
		t.Errorf("cut: %v", err)
	}
	if _, err := archive.Open(context.Background(), pipeOf(t, text), ""); err == nil || !strings.Contains(err.Error(), "it must be a file") {
		t.Errorf("in a pipe: %v", err)
	}
	// A record that is none ends the reading, and what came before stands.
	two := zipOf(rawMember{name: "first"}, rawMember{name: "second"})
	i := bytes.LastIndex(two, []byte("PK\x01\x02"))
	two[i] = 'X'
	o := opened(t, two)
	if e, err := o.Next(); err != nil || e.Name != "first" {
		t.Errorf("%q, %v", e.Name, err)
	}
	if _, err := o.Next(); err == nil || err == io.EOF || errors.As(err, new(*archive.Rejected)) {
		t.Errorf("a damaged record gives %v", err)
	}
}

// The directory of a hostile archive may have millions of records.
func TestADirectoryOfAZipTakesLittleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 300,000 entries")
	}
	const n = 300_000
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := range n {
		if _, err := w.CreateRaw(&zip.FileHeader{Name: fmt.Sprintf("public_html/%03d/some-ordinary-name-of-a-file-%d.php", i%500, i)}); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	o := opened(t, b.Bytes())
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	got := 0
	for {
		if _, err := o.Next(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		got++
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys) - int64(before.HeapSys); got != n || grown > 16<<20 {
		t.Errorf("%d entries of %d, the heap grew by %d MiB", got, n, grown>>20)
	}
}

// The standard library's reader is the judge of what it can read.
func TestAZipIsReadAsTheStandardLibraryReadsIt(t *testing.T) {
	if _, err := exec.LookPath("zip"); err != nil {
		t.Skipf("needs zip: %v", err)
	}
	dir := buildContents(t)
	text := run(t, dir, "zip -qry - alice")
	z, err := zip.NewReader(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, f := range z.File {
		want[strings.TrimSuffix(f.Name, "/")] = fmt.Sprintf("%o %d %d", f.Mode().Perm(), f.UncompressedSize64, f.Modified.Unix())
	}
	got, _, _ := read(t, text, "")
	said := map[string]string{}
	for n, e := range got {
		size := e.Size
		if e.Kind == rightful.KindSymlink {
			size = int64(len(e.Target))
		}
		said[n] = fmt.Sprintf("%o %d %d", e.Mode&0o777, size, e.Time.Unix())
	}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Errorf("-library +source:\n%s", diff)
	}
}
