package treetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	envGuest   = "RIGHTFUL_TEST_GUEST" // "init": the first process of another kernel; "test": a test in it
	guestTmp   = "/mnt/tmp"
	guestQuota = "/mnt/quota"
)

// Quotas gives a directory on a file system that keeps quotas for users. Where the running kernel cannot, the calling
// test is run a second time in a user-mode kernel that can, and nothing is given here: the test is then done. It needs
// Child in TestMain.
func Quotas(t testing.TB) (dir string, ok bool) {
	t.Helper()
	NeedRoot(t)
	if os.Getenv(envGuest) != "" {
		return guestQuota, true
	}
	at := OpenDir(t)
	img := filepath.Join(at, "img")
	f, err := os.Create(img)
	if err == nil {
		err = f.Truncate(64 << 20)
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-b", "4096", "-I", "256", "-O", "quota", "-E", "quotatype=usrquota", img).CombinedOutput(); err != nil {
		t.Skipf("needs mkfs.ext4: %v %s", err, out)
	}
	mnt := filepath.Join(at, "mnt")
	if err := os.Mkdir(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "ext4", "-o", "loop,usrquota", img, mnt).CombinedOutput(); err != nil {
		guest(t, at, img, string(out))
		return "", false
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mnt, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return mnt, true
}

// guest runs the calling test in a user-mode kernel, as nobody of the machine, with img as its disk.
func guest(t testing.TB, dir, img, why string) {
	t.Helper()
	kernel, err := exec.LookPath("linux.uml")
	modules, _ := filepath.Glob(filepath.Join(filepath.Dir(kernel), "../lib/uml/modules/*/kernel/fs/quota/quota_tree.ko"))
	if err != nil || len(modules) == 0 {
		t.Skipf("needs a kernel with CONFIG_QFMT_V2, or the package user-mode-linux: %s", strings.TrimSpace(why))
	}
	self, err := os.ReadFile("/proc/self/exe")
	exe, home := filepath.Join(dir, filepath.Base(os.Args[0])), filepath.Join(dir, "home")
	if err == nil {
		err = os.WriteFile(exe, self, 0o755)
	}
	if err == nil {
		err = os.Mkdir(home, 0o700)
	}
	for _, name := range []string{img, home} {
		if err == nil {
			err = os.Chown(name, 65534, 65534)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	work, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), kernel, "mem=256M", "quiet", "con=null", "con0=null,fd:1", "con1=null", "uml_dir="+home+"/",
		"rootfstype=hostfs", "rootflags=/", "ro", "ubd0="+img, "init="+exe,
		envGuest+"=init", "GUEST_DIR="+work, "GUEST_PATH="+os.Getenv("PATH"), "GUEST_MODULES="+filepath.Dir(modules[len(modules)-1]), "--", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = []string{"HOME=" + home, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"} // it looks for its port helper
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Pdeathsig: unix.SIGKILL}
	out, err := cmd.CombinedOutput()
	if !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in a user-mode kernel: %v\n%s", err, out)
	}
}

// initGuest is the first process of the user-mode kernel: it makes the place fit for a test, runs it, and switches off.
func initGuest() {
	defer unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	must := func(what string, err error) {
		if err != nil {
			fmt.Fprintf(os.Stdout, "%s: %v\n", what, err)
		}
	}
	must("mount /proc", unix.Mount("proc", "/proc", "proc", 0, ""))
	must("mount /mnt", unix.Mount("mnt", "/mnt", "tmpfs", 0, "mode=0755"))
	for _, m := range []string{"quota_tree.ko", "quota_v2.ko"} {
		f, err := os.Open(filepath.Join(os.Getenv("GUEST_MODULES"), m))
		if err == nil {
			err = unix.FinitModule(int(f.Fd()), "", 0)
			f.Close()
		}
		must("load "+m, err)
	}
	must("mkdir", os.Mkdir(guestTmp, 0o777))
	must("mkdir", os.Mkdir(guestQuota, 0o755))
	must("mount disk", unix.Mount("/dev/ubda", guestQuota, "ext4", 0, "usrquota"))
	// udev would keep this name.
	must("mkdir", os.Mkdir("/dev/block", 0o755))
	var st unix.Stat_t
	must("stat disk", unix.Stat("/dev/ubda", &st))
	must("link disk", os.Symlink("/dev/ubda", blockName(st.Rdev)))
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Dir = os.Getenv("GUEST_DIR")
	cmd.Env = []string{envGuest + "=test", "TMPDIR=" + guestTmp, "HOME=" + guestTmp, "PATH=" + os.Getenv("GUEST_PATH")}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	must("run", cmd.Run())
}

// SetQuota sets a user's limits, soft and hard, of KiB and of inodes.
func SetQuota(t testing.TB, dir string, uid int, softKiB, hardKiB, softInodes, hardInodes uint64) {
	t.Helper()
	const setUserQuota, limitsOnly = 0x800008 << 8, 5
	d := [9]uint64{hardKiB, softKiB, 0, hardInodes, softInodes, 0, 0, 0, limitsOnly}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, _, e := unix.Syscall6(443, f.Fd(), setUserQuota, uintptr(uid), uintptr(unsafe.Pointer(&d)), 0, 0)
	if e == unix.ENOSYS {
		dev, _ := unix.BytePtrFromString(blockName(st.Dev))
		_, _, e = unix.Syscall6(unix.SYS_QUOTACTL, setUserQuota, uintptr(unsafe.Pointer(dev)), uintptr(uid), uintptr(unsafe.Pointer(&d)), 0, 0)
	}
	if e != 0 {
		t.Fatalf("set quota: %v", e)
	}
}

// blockName is the name that udev keeps for a device.
func blockName(dev uint64) string {
	return fmt.Sprintf("/dev/block/%d:%d", unix.Major(dev), unix.Minor(dev))
}
