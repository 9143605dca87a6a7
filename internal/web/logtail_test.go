package web

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rightful/internal/tree"

	"github.com/google/go-cmp/cmp"
)

const logHead = "[Sun Nov 22 07:02:17.653203 2026] [core:error] AH00132: file permissions deny server access: "

// following gives a tail, and what it found so far.
func following(t *testing.T) (*LogTail, *[]string, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := tree.OpenServer(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	var got []string
	tail := &LogTail{Server: s, Path: "/log", LogScanner: LogScanner{
		Parser: &LogParser{Location: time.UTC}, Found: func(l *LogLine) { got = append(got, string(l.Path)) },
	}}
	return tail, &got, filepath.Join(dir, "log")
}

func appendTo(t *testing.T, file, text string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Nothing that is written is missed or told twice, whether the log is put aside, begun anew, cut, or written to a little late.
func TestATailMissesNothingWhereALogIsPutAsideOrCut(t *testing.T) {
	tail, got, file := following(t)
	defer tail.Close()
	step := func(what string, want ...string) {
		t.Helper()
		if err := tail.More(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, *got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		*got = nil
	}
	step("there is no log yet")
	appendTo(t, file, logHead+"/1\n"+logHead+"/2")
	step("the second line is unfinished", "/1")
	appendTo(t, file, "2\n")
	step("now it is finished", "/22")
	step("nothing was added")
	appendTo(t, file, logHead+"/3\n")
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	step("it was put aside, and there is none for a moment", "/3")
	appendTo(t, file, logHead+"/4\n")
	step("it was begun anew", "/4")
	appendTo(t, file+".1", logHead+"/5\n")
	appendTo(t, file, logHead+"/6\n")
	step("the server still had the old one open", "/5", "/6")
	if err := os.Truncate(file, 0); err != nil {
		t.Fatal(err)
	}
	appendTo(t, file, logHead+"/7\n")
	step("it was cut", "/7")
	if tail.Lines != 3 {
		t.Errorf("%d lines of the present log", tail.Lines)
	}
}

func TestAPackedLogIsReadAsFarAsItIsWhole(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	for i := range 1000 {
		fmt.Fprintf(z, "%s/%d\n", logHead, i)
	}
	z.Close()
	for _, c := range []struct {
		name    string
		data    []byte
		lines   int
		problem bool
	}{
		{"whole", packed.Bytes(), 1000, false},
		{"several parts", append(bytes.Clone(packed.Bytes()), packed.Bytes()...), 2000, false},
		{"cut off", packed.Bytes()[:packed.Len()/2], -1, true},
		{"xz", []byte("\xfd7zXZ\x00data"), 0, true},
		{"no gzip at all", []byte{0x1f, 0x8b, 0}, 0, true},
		{"empty", nil, 0, false},
	} {
		tail, got, file := following(t)
		if err := os.WriteFile(file, c.data, 0o644); err != nil {
			t.Fatal(err)
		}
		err := tail.Once(t.Context())
		if (err != nil) != c.problem || c.lines >= 0 && len(*got) != c.lines || c.lines < 0 && len(*got) == 0 {
			t.Errorf("%s: %d lines, %v", c.name, len(*got), err)
		}
	}
}

// A few megabytes can unpack to any number of them.
func TestAPackedLogHasAnEnd(t *testing.T) {
	tail, got, file := following(t)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	fmt.Fprintf(z, "%s/1\n", logHead)
	z.Write(make([]byte, 8<<20))
	fmt.Fprintf(z, "\n%s/2\n", logHead)
	z.Close()
	if err := os.WriteFile(file, packed.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	tail.Most = 1 << 20
	if err := tail.Once(t.Context()); err == nil || tail.Bytes > 1<<20 || len(*got) != 1 {
		t.Errorf("%d bytes, %q, %v", tail.Bytes, *got, err)
	}
}

// What was last written before the time that is asked for is not even opened.
func TestAnOldLogIsPassedOver(t *testing.T) {
	tail, got, file := following(t)
	appendTo(t, file, logHead+"/1\n")
	if err := os.Chtimes(file, time.Time{}, time.Now().Add(-48*time.Hour)); err != nil {
		t.Fatal(err)
	}
	tail.Newer = time.Now().Add(-time.Hour)
	if err := tail.Once(t.Context()); err != nil || len(*got) > 0 || tail.Bytes > 0 {
		t.Errorf("%q, %d bytes, %v", *got, tail.Bytes, err)
	}
}

func TestTheNamesOfLogsThatWerePutAside(t *testing.T) {
	for name, want := range map[string]bool{
		"error.log": false, "error.log.1": true, "error.log.2.gz": true, "error.log-20261122": true, "error.log-20261122.gz": true,
		"error.log-2026-11-22": true, "error.log.2026-11-22-07.bz2": true, "error.log.bak": false, "error.log2": false, "error.log.gz": false,
		"other.log.1": false, "error.log.1.zip": false, "error.log-20261122-1795330937.gz": true,
	} {
		if got := Rotated("error.log", name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
