package vault

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"rightful"
	"rightful/internal/state"
	"rightful/internal/tree"

	"filippo.io/age"
)

// A File is one file in a vault.
type File struct {
	Path    string        `json:"path"`
	PathB64 []byte        `json:"path_b64,omitempty"`
	UID     uint32        `json:"uid"`
	GID     uint32        `json:"gid"`
	Mode    rightful.Mode `json:"mode"`
	ACL     rightful.ACL  `json:"acl,omitempty"`
	Size    int64         `json:"size"`
	Mtime   time.Time     `json:"mtime"`
	Data    []byte        `json:"-"`
}

// maxPlain bounds what is unpacked of one account: what Take keeps, with its headers.
const maxPlain = maxAccount + maxFiles*8<<10

// Archive gives an account's files as the tar archive that they are kept as, checked against its name.
func (s *Store) Archive(v *Vault, account string) ([]byte, error) {
	a, ok := v.Account(account)
	if !ok {
		return nil, fmt.Errorf("open account %q in vault %q: it is not in it", account, v.ID)
	}
	fail := func(err error) ([]byte, error) {
		return nil, fmt.Errorf("read account %q in vault %q: %w", account, v.ID, err)
	}
	key, err := s.identity()
	if err != nil {
		return fail(err)
	}
	f, err := os.Open(s.accountPath(a.Hash))
	if err != nil {
		return fail(fmt.Errorf("open %q: %w", s.accountPath(a.Hash), state.Cause(err)))
	}
	defer f.Close()
	plain, err := age.Decrypt(f, key)
	if err != nil {
		return fail(errors.Join(ErrDamaged, err))
	}
	z, err := gzip.NewReader(plain)
	if err != nil {
		return fail(errors.Join(ErrDamaged, err))
	}
	b, err := io.ReadAll(io.LimitReader(z, maxPlain+1))
	switch {
	case err != nil:
		return fail(errors.Join(ErrDamaged, err))
	case len(b) > maxPlain || name(key, v.Recipients, b) != a.Hash:
		return fail(ErrDamaged)
	}
	return b, nil
}

// Files gives an account's files, in the order of their paths.
func (s *Store) Files(v *Vault, account string) ([]File, error) {
	b, err := s.Archive(v, account)
	if err != nil {
		return nil, err
	}
	var out []File
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read account %q in vault %q: %w", account, v.ID, errors.Join(ErrDamaged, err))
		}
		f := File{
			Path: "/" + h.Name, UID: uint32(h.Uid), GID: uint32(h.Gid), Mode: rightful.Mode(h.Mode) & rightful.ModePerm, Size: h.Size,
			Mtime: h.ModTime.UTC(),
		}
		f.PathB64 = rightful.RawPath(f.Path)
		if text := h.PAXRecords[aclRecord]; text != "" {
			if f.ACL, err = rightful.ParseACL(text); err != nil {
				return nil, fmt.Errorf("read account %q in vault %q: %q: %w", account, v.ID, f.Path, err)
			}
		}
		if f.Data, err = io.ReadAll(r); err != nil {
			return nil, fmt.Errorf("read account %q in vault %q: %w", account, v.ID, errors.Join(ErrDamaged, err))
		}
		out = append(out, f)
	}
}

// A Difference is one file that is not the same in two vaults.
type Difference struct {
	Account string `json:"account"`
	Path    string `json:"path"`
	PathB64 []byte `json:"path_b64,omitempty"`
	// How is "added", "removed", "changed" (what is in it), or "rights" (owner, group, mode or ACL alone).
	How string `json:"how"`
}

// Diff compares the files of one account, both in the order of their paths.
func Diff(account string, a, b []File) []Difference {
	var out []Difference
	add := func(f *File, how string) {
		out = append(out, Difference{account, f.Path, f.PathB64, how})
	}
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Path < b[0].Path:
			add(&a[0], "removed")
			a = a[1:]
			continue
		case len(a) == 0 || b[0].Path < a[0].Path:
			add(&b[0], "added")
			b = b[1:]
			continue
		case !bytes.Equal(a[0].Data, b[0].Data):
			add(&b[0], "changed")
		case a[0].UID != b[0].UID || a[0].GID != b[0].GID || a[0].Mode != b[0].Mode || !a[0].ACL.Equal(b[0].ACL):
			add(&b[0], "rights")
		}
		a, b = a[1:], b[1:]
	}
	return out
}

// Below reports whether a file lies at or below a path.
func (f *File) Below(path string) bool {
	return f.Path == path || strings.HasPrefix(f.Path, strings.TrimSuffix(path, "/")+"/")
}

// Live gives what would be kept of an account now, and what would be left out.
func Live(ctx context.Context, srv *tree.Server, src *Source) ([]File, []Left, error) {
	c := newCollector(srv, src)
	if err := c.collect(ctx); err != nil {
		return nil, nil, fmt.Errorf("look at account %q: %w", src.Account.Name, err)
	}
	return c.files, c.left, nil
}

// aclRecord is the PAX record by which GNU tar and bsdtar know an access ACL.
const aclRecord = "SCHILY.acl.access"

// WriteTar writes files as a tar archive. The same files give the same bytes.
func WriteTar(to io.Writer, files []File) error {
	w := tar.NewWriter(to)
	for i := range files {
		f := &files[i]
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: strings.TrimPrefix(f.Path, "/"), Size: f.Size, Mode: int64(f.Mode), Uid: int(f.UID), Gid: int(f.GID),
			ModTime: f.Mtime, Format: tar.FormatPAX,
		}
		if len(f.ACL) > 0 {
			h.PAXRecords = map[string]string{aclRecord: f.ACL.String()}
		}
		err := w.WriteHeader(h)
		if err == nil {
			_, err = w.Write(f.Data)
		}
		if err != nil {
			return fmt.Errorf("pack %q: %w", f.Path, err)
		}
	}
	return w.Close()
}
