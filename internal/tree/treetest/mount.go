package treetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// images are the file systems that Mounted makes in a file: how, and of how many MiB at least.
var images = map[string]struct {
	mkfs []string
	size int64
}{
	"ext4":  {[]string{"mkfs.ext4", "-q", "-F", "-I", "256"}, 64},
	"xfs":   {[]string{"mkfs.xfs", "-q", "-f"}, 320},
	"btrfs": {[]string{"mkfs.btrfs", "-q", "-f"}, 160},
}

// FileSystems are the kinds that Mounted can mount, where the machine can.
var FileSystems = []string{"tmpfs", "ext4", "xfs", "btrfs", "overlay"}

// Mounted mounts a new file system of a kind with options at a new directory that others may enter. An overlay has both
// its layers on ext4. Where the kernel or the tools do not know the kind, the test is skipped and says so.
func Mounted(t testing.TB, kind, options string) string {
	t.Helper()
	NeedRoot(t)
	if kind == "overlay" {
		return Overlay(t, func(string) {})
	}
	dir := OpenDir(t)
	at := filepath.Join(dir, "mnt")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{"-t", kind, "-o", options, "rightful-test", at}
	if image, ok := images[kind]; ok {
		img := filepath.Join(dir, "img")
		f, err := os.Create(img)
		if err == nil {
			err = f.Truncate(image.size << 20)
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(image.mkfs[0], append(image.mkfs[1:], img)...).CombinedOutput(); err != nil {
			t.Skipf("needs %s: %v %s", image.mkfs[0], err, out)
		}
		args = []string{"-t", kind, "-o", "loop" + options, img, at}
	}
	if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
		t.Skipf("needs a kernel that mounts %s: %v %s", kind, err, out)
	}
	unmountLater(t, at)
	if err := os.Chmod(at, 0o755); err != nil {
		t.Fatal(err)
	}
	return at
}

// Overlay mounts an overlay at a new directory. Its lower layer is what fill makes in a directory.
func Overlay(t testing.TB, fill func(lower string)) string {
	t.Helper()
	dir := Mounted(t, "ext4", "")
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	fill(filepath.Join(dir, "lower"))
	at := filepath.Join(dir, "merged")
	if err := unix.Mount("overlay", at, "overlay", 0, "lowerdir="+dir+"/lower,upperdir="+dir+"/upper,workdir="+dir+"/work"); err != nil {
		t.Skipf("needs a kernel that mounts overlay: %v", err)
	}
	unmountLater(t, at)
	return at
}

// Bind mounts a directory or a file a second time, at another.
func Bind(t testing.TB, what, at string) (unmount func()) {
	t.Helper()
	if err := unix.Mount(what, at, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("needs to mount: %v", err)
	}
	return unmountLater(t, at)
}

func unmountLater(t testing.TB, at string) (unmount func()) {
	done := false
	unmount = func() {
		if done {
			return
		}
		done = true
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	}
	t.Cleanup(unmount)
	return unmount
}
