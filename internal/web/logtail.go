package web

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"rightful/internal/tree"
)

// maxUnpacked is the default of [LogTail.Most]: 16 MB of packed zeros in a customer's directory would otherwise
// keep root reading for a while.
const maxUnpacked = 16 << 30

// ErrPacked says that a log is compressed in a way that is not read.
var ErrPacked = errors.New("it is compressed by another program than gzip: unpack it and give it as -")

// A LogTail reads a log from its beginning, and later what was added to it.
type LogTail struct {
	LogScanner
	Server *tree.Server
	// Path is that of the log on the server. It may lie where customers write: no link of theirs is followed, and nothing
	// but a regular file is opened.
	Path string
	// Most is how much of a packed log is read, in bytes; 16 GiB.
	Most int64
	// Newer, if set, passes over a log that was last written before then.
	Newer time.Time

	file *os.File
	at   int64 // how far it was read
	id   [2]uint64
	// aside is the log that this one took the place of, until the next one does.
	aside *LogTail
}

// Once reads the log to its end, unpacked where gzip packed it, and closes it.
func (t *LogTail) Once(ctx context.Context) error {
	if err := t.open(); err != nil || t.file == nil {
		return err
	}
	defer t.Close()
	defer t.Flush()
	var magic [6]byte
	n, err := t.file.ReadAt(magic[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	head := magic[:n]
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(t.file)
		if err != nil {
			return fmt.Errorf("read %q: %w", t.Path, err)
		}
		most := cmp.Or(t.Most, maxUnpacked)
		r := &io.LimitedReader{R: z, N: most}
		if err = t.From(ctx, r); err == nil && r.N <= 0 {
			err = fmt.Errorf("it holds %d bytes and more", most)
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("read %q: %w", t.Path, err)
		}
		return err
	case bytes.HasPrefix(head, []byte("\xfd7zXZ")), bytes.HasPrefix(head, []byte("BZh")), bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		return fmt.Errorf("read %q: %w", t.Path, ErrPacked)
	}
	return t.more(ctx)
}

// More reads what was added since the last call, or all at the first. It notices that the log was put aside and begun anew
// (by its inode), and that it was cut (by its size). A log that is not there is read once it is.
func (t *LogTail) More(ctx context.Context) error {
	if t.file == nil {
		if err := t.open(); err != nil || t.file == nil {
			if tree.IsNotExist(err) {
				err = nil
			}
			return err
		}
	}
	if t.aside != nil {
		if err := t.aside.more(ctx); err != nil {
			return err
		}
	}
	if err := t.more(ctx); err != nil {
		return err
	}
	f, st, err := t.Server.OpenForeign(t.Path)
	if err != nil { // between two rotations there is none for a moment
		return nil
	}
	if t.id == [2]uint64{st.Dev, st.Ino} {
		return f.Close()
	}
	// The server goes on writing into the old one until it is told to open its logs anew.
	if t.aside != nil {
		t.aside.Close()
	}
	old := *t
	old.aside, t.aside = nil, &old
	t.LogScanner = LogScanner{Parser: t.Parser, Found: t.Found, Read: t.Read}
	t.file, t.at, t.id = f, 0, [2]uint64{st.Dev, st.Ino}
	return t.more(ctx)
}

// Open reports whether there is a log.
func (t *LogTail) Open() bool { return t.file != nil }

// Close lets go of the log.
func (t *LogTail) Close() {
	t.Flush()
	if t.aside != nil {
		t.aside.Close()
	}
	if t.file != nil {
		t.file.Close()
	}
	t.file, t.at, t.aside = nil, 0, nil
}

// open leaves file nil where the log is too old.
func (t *LogTail) open() error {
	f, st, err := t.Server.OpenForeign(t.Path)
	if err != nil {
		return err
	}
	if fi, err := f.Stat(); err == nil && !t.Newer.IsZero() && fi.ModTime().Before(t.Newer) {
		t.Newer = time.Time{} // it may yet grow
		return f.Close()
	}
	t.file, t.at, t.id = f, 0, [2]uint64{st.Dev, st.Ino}
	return nil
}

func (t *LogTail) more(ctx context.Context) error {
	fi, err := t.file.Stat()
	if err == nil && fi.Size() < t.at {
		t.Flush()
		_, err = t.file.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = t.From(ctx, t.file)
	}
	if err == nil {
		t.at, err = t.file.Seek(0, io.SeekCurrent)
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("read %q: %w", t.Path, err)
	}
	return err
}
