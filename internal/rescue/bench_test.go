package rescue

import (
	"archive/tar"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"rightful/internal/tree/treetest"
)

// What does it cost to unpack small files as an account that can do nothing else, beside GNU tar as root and a chown?
func BenchmarkUnpackSmallFiles(b *testing.B) {
	const files = 20_000
	dir := treetest.Mounted(b, "tmpfs", "size=2g")
	l := labAt(b, dir)
	var all []tar.Header
	for i := range files {
		all = append(all, file(fmt.Sprintf("d%d/s%d/file%d.php", i/1000, i/100, i), strings.Repeat("php!", 1000)))
	}
	f := l.file(tarball(b, all...))
	b.Run("rescue", func(b *testing.B) {
		for b.Loop() {
			if _, err := f.Seek(0, 0); err != nil {
				b.Fatal(err)
			}
			if c, err := l.q.Unpack(context.Background(), 1, f, roomy, nil); err != nil || c.Files != files {
				b.Fatal(c, err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/files, "ns/entry")
	})
	b.Run("tar", func(b *testing.B) {
		at := l.at("tar")
		script := fmt.Sprintf("rm -rf %[1]s && mkdir %[1]s && tar -C %[1]s -xf %s && chown -R %d %[1]s", at, f.Name(), aliceUID)
		for b.Loop() {
			if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
				b.Fatalf("%v %s", err, out)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/files, "ns/entry")
	})
}
