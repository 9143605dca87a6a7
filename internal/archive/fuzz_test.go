package archive_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"path"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/archive"
	"rightful/internal/snapshot"
)

// Whatever a source holds, reading it ends, and every entry has a name that can only mean something below where it was read.
func FuzzReaders(f *testing.F) {
	f.Add([]byte("#mtree\n/set type=file uid=5 mode=0644\n.  type=dir\n  a\\040b mode=u=rwxs,g=rx,o=t \\\n uname=x\n d type=dir\n x\n ..\n..\n./full/path gname=a\\M-C\\M^C\\^?\n"))
	f.Add([]byte("# file: a\\040b\n# owner: alice\n# group: 5\n# flags: sst\nuser::rwx\nuser:bob:r-x\t#effective:r--\ngroup::r-x\nmask::r--\nother::---\ndefault:user::rwx\ndefault:group::---\ndefault:other::---\n\n"))
	f.Add([]byte(`{"struct_type":"snapshot"}` + "\n" + resticLast))
	f.Add([]byte(`{"type":"l","mode":"lrwxrwxrwx","user":5,"group":"x","path":"a","linktarget":"b","mtime":"2026-01-01T00:00:00.5"}`))
	f.Add(tarOf(f, tar.Header{Name: "cpmove-a/cp/alice"}, withBody(tar.Header{Name: "cpmove-a/homedir.tar"}, tarOf(f, tar.Header{Name: "./x", Mode: 0o4755})),
		tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "x"},
		tar.Header{Name: "acl", PAXRecords: map[string]string{
			"SCHILY.acl.access": "user::rw-,user:a:rwx:5,group::r--,mask::rwx,other::r--", "LIBARCHIVE.xattr.security.capability": "AQAAAg==",
			"SCHILY.xattr.system.posix_acl_default": "\x02\x00\x00\x00",
		}}))
	f.Add(zipOf(rawMember{name: `www\a\`, attrs: 0x10}, rawMember{name: "gr\x81\xe1", body: "some text", method: 8, extra: unicodePath("x", "y")},
		rawMember{name: "l", host: 3, attrs: 0o120777 << 16, body: "../x"}, rawMember{name: "cpmove-a/homedir.tar", body: string(tarOf(f, tar.Header{Name: "x"}))}))
	f.Add([]byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01\x16\x00\x00\x00t/\xe5\xa3"))
	f.Add([]byte("\x28\xb5\x2f\xfd\x04\x00\x01\x00\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, format := range append([]archive.Format{""}, archive.Formats...) {
			o, err := archive.Open(context.Background(), bytes.NewReader(text), format)
			if err != nil {
				continue
			}
			for n := 0; ; n++ {
				e, err := o.Next()
				if r := (*archive.Rejected)(nil); errors.As(err, &r) {
					continue
				}
				if err != nil {
					break
				}
				if n > 2*len(text)+1000 && o.Compression == "" {
					t.Fatalf("%s: %d entries of %d bytes", o.Format, n, len(text))
				}
				if e.Name != "" && (path.Clean("/"+e.Name) != "/"+e.Name || strings.ContainsRune(e.Name, 0) || len(e.Name) > archive.MaxPath+16) {
					t.Fatalf("%s: name %q", o.Format, e.Name)
				}
				if e.Mode > 0o7777 {
					t.Fatalf("%s: mode %o", o.Format, e.Mode)
				}
				if e.HardLink && e.Known.Has(archive.KnownTarget) && path.Clean("/"+e.Target) != "/"+e.Target {
					t.Fatalf("%s: %q is another name for %q", o.Format, e.Name, e.Target)
				}
				if e.Kind == rightful.KindSymlink && (o.Format == archive.Tar || o.Format == archive.Zip) && (e.Target == "" || len(e.Target) > 4095 || strings.ContainsRune(e.Target, 0)) {
					t.Fatalf("%s: %q points to %q", o.Format, e.Name, e.Target)
				}
				if c := o.Content(); c != nil && n%2 == 0 {
					if got, err := io.Copy(io.Discard, io.LimitReader(c, 1<<20)); err == nil && got != min(e.Size, 1<<20) {
						t.Fatalf("%s: %q has %d bytes of %d", o.Format, e.Name, got, e.Size)
					}
				}
			}
			if _, err := o.Next(); err == nil {
				t.Fatalf("%s: it goes on after its end", o.Format)
			} else if err != io.EOF && errors.As(err, new(*archive.Rejected)) {
				t.Fatalf("%s: %v after its end", o.Format, err)
			}
			o.Close()
		}
	})
}

// What the standard library reads of a zip archive is read here likewise, or left out.
func FuzzZip(f *testing.F) {
	f.Add("a", "some text, some text", []byte(nil), uint16(0), uint16(8), byte(0), uint32(0), int32(0), int32(0), int32(0), uint16(0))
	f.Add("gr\x81\xe1", "x", unicodePath("gr\x81\xe1", "gr\u00fc\u00df"), uint16(1<<11), uint16(0), byte(3), uint32(0o100600<<16), int32(0), int32(0), int32(0), uint16(0))
	f.Add("l", "../x", []byte{1, 0, 8, 0, 4, 0, 0, 0, 0, 0, 0, 0}, uint16(0), uint16(0), byte(19), uint32(0o120777<<16), int32(0), int32(-5), int32(1), uint16(3))
	f.Fuzz(func(t *testing.T, name, body string, extra []byte, flags, method uint16, host byte, attrs uint32, at, packed, size int32, cut uint16) {
		if len(name) > 1<<15 || len(extra) > 1<<15 {
			return
		}
		add := func(b []byte, n int32) { binary.LittleEndian.PutUint32(b, binary.LittleEndian.Uint32(b)+uint32(n)) }
		text := zipOf(rawMember{name: "first", body: "first", method: 8}, rawMember{
			name: name, body: body, extra: extra, flags: flags, method: method, host: host, attrs: attrs,
			change: func(r []byte) { add(r[42:], at); add(r[20:], packed); add(r[24:], size) },
		}, rawMember{name: "last", body: "last"})
		if cut > 0 {
			i := int(cut) % len(text)
			text = append(text[:i:i], text[i+1:]...)
		}
		z, err := zip.NewReader(bytes.NewReader(text), int64(len(text)))
		if err != nil {
			return
		}
		o, err := archive.Open(context.Background(), bytes.NewReader(text), archive.Zip)
		if err != nil {
			return
		}
		defer o.Close()
		for _, m := range z.File {
			e, err := o.Next()
			if err != nil {
				if errors.As(err, new(*archive.Rejected)) {
					continue
				}
				return
			}
			c := o.Content()
			if c == nil || m.UncompressedSize64 > 1<<20 {
				continue
			}
			r, err := m.Open()
			if err != nil {
				continue
			}
			want, err := io.ReadAll(r)
			if err != nil {
				continue
			}
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%q holds %.100q, %v; the library reads %.100q", e.Name, got, err, want)
			}
		}
	})
}

// Whatever names a source has, what is recognised in it leads below the home, at most one reading is certain, and then it is
// the first.
func FuzzCandidates(f *testing.F) {
	f.Add("cpmove-alice/cp/alice\ncpmove-alice/homedir/public_html/index.php\n", true)
	f.Add("backup/user.conf\ndomains/alice.example/public_html/x\nhome/y\nimap/z\n.backup/a_virtualmin\n", false)
	f.Add("www/index.php\nb/www/index.php\n__MACOSX/x\ncomposer.json\npublic/index.php\n", true)
	f.Add("home/bob/public_html/x\nhome/carol/public_html/x\nhome/alice/x\nvhosts/alice.example/httpdocs/index.html\n", false)
	f.Fuzz(func(t *testing.T, names string, live bool) {
		var b strings.Builder
		b.WriteString("#mtree\n")
		for i, name := range strings.Split(names, "\n") {
			kind := [...]string{"file", "dir", "link"}[(len(name)+i)%3]
			b.WriteString("./" + strings.Map(func(r rune) rune {
				if r <= ' ' || r == '\\' || r == '#' {
					return -1
				}
				return r
			}, name) + " type=" + kind + " uname=alice\n")
		}
		o, err := archive.Open(context.Background(), strings.NewReader(b.String()), archive.Mtree)
		if err != nil {
			return
		}
		defer o.Close()
		sub := subject()
		if live {
			sub.Exists = func(rel string) bool { return len(rel)%2 == 0 }
		}
		all, err := survey(t, o).Candidates(sub)
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range all {
			if c.Certain && (i > 0 || c.Account != "") || c.What == "" || c.Why == "" || c.Entries == 0 {
				t.Fatalf("%d: %+v", i, c)
			}
			for _, name := range append(strings.Split(names, "\n"), "", "home/alice", "public_html") {
				name = strings.Trim(path.Clean("/"+name), "/")
				if rel, ok := c.Places.Rel(name); ok && rel != "" && path.Clean("/"+rel) != "/"+rel {
					t.Fatalf("%q lies at %q by %+v", name, rel, c.Places)
				}
			}
		}
	})
}

// Whatever a source holds, what is recorded of it is in order, each path once, and gives no privilege.
func FuzzTruth(f *testing.F) {
	f.Add("#mtree\n/set uid=20001 gid=20001\n./public_html type=dir mode=2755\n./public_html/a/b type=file mode=4755\n./public_html/a type=file mode=0644 gid=99\n./public_html/a/b type=file mode=0600\n")
	f.Add("# file: public_html/a\n# owner: alice\n# group: 99\nuser::rwx\nuser:33:rwx\ngroup::rwx\nmask::rwx\nother::---\n\n# file: public_html/b\n# owner: 0\n# group: 0\n# flags: ss-\nuser::rwx\ngroup::rwx\nother::---\n")
	f.Fuzz(func(t *testing.T, text string) {
		o, err := archive.Open(context.Background(), strings.NewReader(text), "")
		if err != nil {
			return
		}
		defer o.Close()
		s, err := archive.Read(o, scratch(t))
		if err != nil {
			t.Fatal(err)
		}
		tr, err := s.Truth(archive.Places{{}}, alice())
		if err != nil {
			t.Fatal(err)
		}
		any, last := false, ""
		err = tr.Each(func(e *snapshot.Entry) error {
			if any && snapshot.Compare(last, e.Rel) >= 0 {
				t.Fatalf("%q comes after %q", e.Rel, last)
			}
			any, last = true, e.Rel
			if e.Unknown&snapshot.FieldUID == 0 && e.Meta.UID != 20001 {
				t.Fatalf("%q is given to %d", e.Rel, e.Meta.UID)
			}
			if e.Kind.String() == "file" && e.Meta.Mode&0o6000 != 0 || len(e.Meta.Caps) > 0 || e.Unknown&snapshot.FieldCaps == 0 {
				t.Fatalf("%q has a privilege: %v", e.Rel, e.Meta)
			}
			if e.Meta.ACL != nil && e.Meta.ACL.Check() != nil {
				t.Fatalf("%q has the ACL %v", e.Rel, e.Meta.ACL)
			}
			return nil
		})
		if err != nil && !errors.Is(err, archive.ErrNothing) {
			t.Fatal(err)
		}
	})
}
