package rescue

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"rightful/internal/archive"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// sparse is the header of a member of GNU tar's that says to have a size, of which nothing is in the archive.
func sparse(name string, size int64) []byte {
	b := make([]byte, 512)
	copy(b, name)
	for _, f := range []struct {
		at   int
		text string
	}{{100, "0000644\x00"}, {108, "0000000\x00"}, {116, "0000000\x00"}, {124, "00000000000\x00"}, {136, "00000000000\x00"}, {257, "ustar  \x00"}} {
		copy(b[f.at:], f.text)
	}
	b[156] = tar.TypeGNUSparse
	number := func(at int, n int64) {
		b[at] = 0x80
		binary.BigEndian.PutUint64(b[at+4:], uint64(n))
	}
	number(386, size) // where its one piece is, which is empty
	copy(b[386+12:], "00000000000\x00")
	number(483, size)
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// Whatever a tar archive holds, each entry is made below the home, bounded and harmless, or rejected by itself, and those
// behind it are unpacked.
func TestAHostileTarHarmsNothingAndLosesNothing(t *testing.T) {
	l := newLab(t)
	odd := "odd\n\x1b[31m\xff\xfe"
	long := strings.Repeat("n", 256)
	huge := strings.Repeat("m/", 1<<18) + "m"
	members := tarball(t,
		file("first", "first"),
		file("../../victim", "evil"), file("a/../../../victim", "evil"), file("/abs/olute", "below"),
		link("out", "../.."), file("out/victim", "evil"), link("abslink", "/home"), file("abslink/victim", "evil"),
		link("again", "out"), file("again/victim", "evil"), dir("out", 0o777),
		hard("hard-out", "../../victim"), hard("hard-abs", "/home/victim"), hard("hard-through", "out/victim"), hard("hard-link", "out"),
		hard("hard-first", "first"), hard("first", "first"), hard("hard-none", "none"),
		tar.Header{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}, tar.Header{Typeflag: tar.TypeBlock, Name: "disk", Devmajor: 8},
		tar.Header{Typeflag: tar.TypeFifo, Name: "fifo"},
		tar.Header{Name: "setuid", Mode: 0o6777, Gname: "x"}, dir("open", 0o1777), dir("group", 0o2775),
		file("twice", "one"), file("twice", "two"),
		file("over", "file"), dir("over", 0o755), file("over/below", "x"),
		dir("under", 0o755), file("under/x", "x"), file("under", "file"),
		file(odd, "odd"), file("Case", "upper"), file("case", "lower"), file(long, "long"), file(huge, "huge"),
	)
	end := len(members) - 1024
	content := append(append(members[:end:end], sparse("sparse", 1<<63-1)...), tarball(t, file("last", "last"))...)
	var c Counts
	l.same(func() { c = l.unpack(1, content, roomy) })
	want := []string{
		"Case f 644", "abs d 1700", "abs/olute f 644", "abslink l 777 /home", "again l 777 out", "case f 644", "first f 644", "group d 2755",
		"hard-first f 644", "last f 644", odd + " f 644", "open d 755", "out l 777 ../..", "over f 644", "setuid f 755", "twice f 644",
		"under d 755", "under/x f 644",
	}
	got := l.find("1", "%P %y %m %l")
	for i := range got {
		got[i] = strings.TrimSuffix(got[i], " ")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, body := range map[string]string{"first": "first", "twice": "two", "over": "file", "last": "last", "Case": "upper", "abs/olute": "below"} {
		if b, err := os.ReadFile(l.at("1/" + name)); err != nil || string(b) != body {
			t.Errorf("%s: %q, %v; want %q", name, b, err, body)
		}
	}
	if owners := l.find("1", "%U:%G"); owners[0] != "20001:20001" || owners[len(owners)-1] != "20001:20001" {
		t.Errorf("owners: %v", owners)
	}
	for path, why := range map[string]string{
		"../../victim": `".."`, "out/victim": "in its way", "abslink/victim": "in its way", "again/victim": "in its way", "out": "in its way",
		"hard-out": `".."`, "hard-abs": "not there", "hard-through": "not there", "hard-link": "not there", "hard-none": "not there",
		"null": "device", "disk": "device", "fifo": "fifo", "over": "in its way", "over/below": "in its way", "under": "a directory of that name",
		long: "256 bytes", huge[:4<<10]: "524289 bytes", "sparse": "there is room for",
	} {
		l.wantReject(c, path, why)
	}
	if c.Rejects != 20 || c.Cut != "" {
		t.Errorf("%d rejects, cut %q", c.Rejects, c.Cut)
	}
}

// A zip archive can do no more.
func TestAHostileZipHarmsNothingAndLosesNothing(t *testing.T) {
	l := newLab(t)
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	put := func(name string, mode os.FileMode, body string) {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: longAgo}
		h.SetMode(mode)
		f, err := w.CreateHeader(h)
		if err == nil {
			_, err = f.Write([]byte(body))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put("first", 0o644, "first")
	put("../../victim", 0o644, "evil")
	put("/abs", 0o644, "below")
	put("out", os.ModeSymlink|0o777, "../..")
	put("out/victim", 0o644, "evil")
	put("setuid", os.ModeSetuid|0o777, "x")
	put("fifo", os.ModeNamedPipe|0o644, "")
	put("dev", os.ModeDevice|0o644, "")
	put("odd\n\x1b\xff", 0o644, "odd")
	put("last", 0o644, "last")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var c Counts
	l.same(func() { c = l.unpack(1, b.Bytes(), roomy) })
	for _, name := range []string{"../../victim", "out/victim", "fifo", "dev"} {
		l.wantReject(c, name, "")
	}
	for name, mode := range map[string]string{"first": "f 644", "last": "f 644", "abs": "f 644", "setuid": "f 755", "out": "l 777"} {
		out, err := exec.Command("find", l.at("1/"+name), "-printf", "%y %m").Output()
		if err != nil || string(out) != mode {
			t.Errorf("%s: %q, %v; want %q", name, out, err, mode)
		}
	}
	if c.Rejects != 4 {
		t.Errorf("%d rejects: %+v", c.Rejects, c.Rejected)
	}
}

// What comes before the place where an archive is cut stands, and what is not whole replaces nothing that is.
func TestAnArchiveThatIsCutGivesWhatComesBefore(t *testing.T) {
	noise := make([]byte, 30_000) // which does not get smaller
	rand.NewChaCha8([32]byte{}).Read(noise)
	whole := tarball(t, file("a", "a"), file("twice", "one"), file("twice", string(noise)))
	packed := &bytes.Buffer{}
	z := gzip.NewWriter(packed)
	z.Write(whole)
	z.Close()
	for name, content := range map[string][]byte{
		"in a file":   whole[:len(whole)-20_000],
		"in a header": whole[:2*1024+100],
		"in gzip":     packed.Bytes()[:packed.Len()-20_000],
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			c := l.unpack(1, content, roomy)
			if c.Cut == "" {
				t.Error("that it is cut was not said")
			}
			if diff := cmp.Diff([]string{"a", "twice"}, l.find("1", "%P")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if b, err := os.ReadFile(l.at("1/twice")); err != nil || string(b) != "one" {
				t.Errorf("%.20q, %v", b, err)
			}
		})
	}
}

// A source that holds more than was announced is not unpacked beyond that.
func TestASourceIsBoundedByWhatWasAnnounced(t *testing.T) {
	l := newLab(t)
	var many []tar.Header
	for i := range 100 {
		many = append(many, file(fmt.Sprintf("d%d/f", i), strings.Repeat("x", 1000)))
	}
	for _, job := range []Job{
		{MaxEntries: 10, MaxBytes: 1 << 30, MaxFile: 1 << 30}, {MaxEntries: 1000, MaxBytes: 5000, MaxFile: 1 << 30},
	} {
		job.Places = roomy.Places
		_, err := l.q.Unpack(context.Background(), 1, l.file(tarball(t, many...)), job, nil)
		if e := (*WorkError)(nil); !errors.As(err, &e) || !strings.Contains(e.Text, errMore.Error()) {
			t.Errorf("%+v: %v", job, err)
		}
		if n := len(l.find("1", "%P")); n > 11 {
			t.Errorf("%+v: %d entries", job, n)
		}
	}
	job := roomy
	job.MaxFile = 999
	if c := l.unpack(1, tarball(t, append(many, file("small", "x"))...), job); c.Rejects != 100 || c.Files != 1 {
		t.Errorf("%+v", c)
	}
}

// However many entries are rejected, and whatever they are called, what is said of them is bounded and arrives.
func TestWhatIsSaidOfRejectedEntriesIsBounded(t *testing.T) {
	l := newLab(t)
	name := strings.Repeat("\x01\xff", 120)
	deep := strings.Repeat(name+"/", 20)
	all := []tar.Header{link("l", "x")}
	for i := range 1200 {
		all = append(all, file(fmt.Sprintf("l/%s%d", deep, i), ""))
	}
	c := l.unpack(1, tarball(t, append(all, file("last", "last"))...), roomy)
	size := 0
	for _, r := range c.Rejected {
		size += len(r.PathB64) + len(r.Reason)
	}
	if c.Rejects != 1200 || c.Files != 1 || size > maxRejectedBytes || len(c.Rejected) < 10 {
		t.Errorf("%d rejects, %d listed in %d bytes, %d files", c.Rejects, len(c.Rejected), size, c.Files)
	}
	sum := Counts{Rejected: make([]Rejected, maxRejected+1)}
	sum.Add(c) // whatever it has already
}

// A file of nothing but holes takes no room, and one with data in it is the same file.
func TestAHoleStaysAHole(t *testing.T) {
	l := newLab(t)
	body := []byte(strings.Repeat("\x00", 3<<20) + "data" + strings.Repeat("\x00", 3<<20))
	l.unpack(1, tarball(t, file("f", string(body)), file("end", string(body[:3<<20])), file("small", string(body[:5000]))), roomy)
	got, err := os.ReadFile(l.at("1/f"))
	if err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes, %v; want %d", len(got), err, len(body))
	}
	for name, size := range map[string]int64{"f": int64(len(body)), "end": 3 << 20, "small": 5000} {
		var st unix.Stat_t
		if err := unix.Stat(l.at("1/"+name), &st); err != nil || st.Size != size || st.Blocks*512 > 1<<20 {
			t.Errorf("%s: %d bytes in %d blocks, %v", name, st.Size, st.Blocks, err)
		}
	}
}

// Times of files and directories are those of the archive, whatever was made in them afterwards.
func TestTimesAreThoseOfTheArchive(t *testing.T) {
	l := newLab(t)
	l.unpack(1, tarball(t, dir("d", 0o755), file("d/f", "x"), dir("e", 0o755), file("d/g", "x"), link("d/l", "f")), roomy)
	want := fmt.Sprint(longAgo.Unix())
	for _, got := range l.find("1", "%P %Ts") {
		if !strings.HasSuffix(got, " "+want) {
			t.Errorf("%s; want %s", got, want)
		}
	}
}

// A bomb ends by itself, long before it has filled anything.
func TestABombEnds(t *testing.T) {
	l := newLab(t)
	job := roomy
	job.MaxFile, job.MaxBytes = 1<<50, 1<<50
	members := tarball(t, file("first", "first"))
	end := len(members) - 1024
	content := append(append(members[:end:end], sparse("sparse", 1<<40)...), tarball(t, file("last", "last"))...)
	start := time.Now()
	c := l.unpack(1, content, job)
	l.wantReject(c, "sparse", archive.ErrBomb.Error())
	if diff := cmp.Diff([]string{"first", "last"}, l.find("1", "%P")); diff != "" {
		t.Errorf("after %v (-want +got):\n%s", time.Since(start), diff)
	}
}
