package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"path"
	"strings"
	"testing"

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
