package rescue

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rightful/internal/archive"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func (l *lab) merge(n int) Counts {
	l.t.Helper()
	c, err := l.q.Merge(context.Background(), n)
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

func (l *lab) furnish(want ...Furniture) Counts {
	l.t.Helper()
	c, err := l.q.Furnish(context.Background(), want)
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

// copyHome copies what is left of the home.
func (l *lab) copyHome(n int, job Job) Counts {
	l.t.Helper()
	ruin, err := os.Open(filepath.Join(l.dir, "home/alice"))
	if err != nil {
		l.t.Fatal(err)
	}
	defer ruin.Close()
	job.Home = true
	c, err := l.q.Copy(context.Background(), n, ruin, job, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

// What a better source has is kept, whatever a lesser one says; what it lacks is taken. A directory that the better one only
// passed through gets the mode that the lesser one tells, and one that it closed stays closed.
func TestTheBestSourceWins(t *testing.T) {
	l := newLab(t)
	l.unpack(1, tarball(t, file("way/a", "best"), dir("closed", 0o700), file("closed/a", "best"), file("kind", "best"), dir("dir", 0o755), file("alone/x", "")), roomy)
	l.unpack(2, tarball(t, dir("way", 0o755), file("way/a", "less"), file("way/b", "less"), dir("closed", 0o755), file("closed/b", "less"),
		dir("kind", 0o755), file("kind/x", "less"), file("dir", "less"), dir("new", 0o750)), roomy)
	l.merge(1)
	c := l.merge(2)
	l.wantReject(c, "kind", "another kind")
	l.wantReject(c, "dir", "another kind")
	if c.Kept != 3 || c.Rejects != 2 {
		t.Errorf("%+v", c)
	}
	if c := l.merge(2); c.Kept+c.Rejects != 0 { // as after a kill before the record
		t.Errorf("merged twice: %+v", c)
	}
	made := l.furnish(Furniture{Rel: []byte("odd\xff/sub")}, Furniture{Rel: []byte("way")}, Furniture{Rel: []byte("www"), Target: []byte("way\xff")}, Furniture{Rel: []byte("way/a/sub")})
	if diff := cmp.Diff([][]byte{[]byte("odd\xff/sub"), []byte("www")}, made.Made); diff != "" {
		t.Errorf("(-want +made):\n%s", diff)
	}
	l.wantReject(made, "way/a/sub", "in its way")
	want := []string{
		"alone d 700 ", "alone/x f 644 ", "closed d 700 ", "closed/a f 644 ", "closed/b f 644 ", "dir d 755 ", "kind f 644 ", "new d 750 ", "odd\xff d 700 ",
		"odd\xff/sub d 755 ", "way d 755 ", "way/a f 644 ", "way/b f 644 ", "www l 777 way\xff",
	}
	if diff := cmp.Diff(want, l.find("home", "%P %y %m %l")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if b, err := os.ReadFile(l.at("home/way/a")); err != nil || string(b) != "best" {
		t.Errorf("%q, %v", b, err)
	}
	if out := l.find("", "%P"); slices.ContainsFunc(out, func(s string) bool { return s[0] == '1' || s[0] == '2' }) {
		t.Errorf("left in the quarantine: %v", out)
	}
}

// What is left of a home is copied as it is: an archive of a panel's in it, or a copy of rsync's, is a file of the customer's,
// a second name is a second name, and what is no file, or not the account's to read, is told.
func TestWhatIsLeftOfAHomeIsCopiedAsItIs(t *testing.T) {
	l := newLab(t)
	home := filepath.Join(l.dir, "home/alice")
	treetest.Build(t, l.dir, `
d 0755 20001:20001 home/alice/backup-1
f 0644 0:0 home/alice/theirs = theirs
f 0600 0:0 home/alice/roots = secret
f 0644 20001:20001 home/alice/user.conf = x
f 6755 20001:20001 home/alice/setuid = tool
f 0666 20001:20001 home/alice/open = open
f 0644 20001:20001 home/alice/fake = target
d 0700 0:0 home/alice/closed
f 0644 0:0 home/alice/closed/x = x
f 0600 20001:20001 home/alice/first = linked
`)
	inner := tarball(t, file("public_html/index.html", "no file of this home"))
	for _, err := range []error{
		os.WriteFile(home+"/backup-1/homedir.tar", inner, 0o644), os.WriteFile(home+"/homedir.tar", inner, 0o644), os.Chown(home+"/homedir.tar", 0, 0),
		os.Link(home+"/first", home+"/second"), os.Symlink("/etc/passwd", home+"/passwd"), unix.Mkfifo(home+"/fifo", 0o666),
		unix.Mknod(home+"/sock", unix.S_IFSOCK|0o666, 0), unix.Mknod(home+"/dev", unix.S_IFCHR|0o666, 1<<8|3),
		unix.Setxattr(home+"/fake", "user.rsync.%stat", []byte("120777 0,0 0:0"), 0), os.Truncate(home+"/first", 1<<20),
		os.WriteFile(home+"/holes", nil, 0o644), os.Chown(home+"/holes", aliceUID, aliceUID), os.Truncate(home+"/holes", 1<<42),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	job := roomy
	job.MaxFile = 1 << 50
	var c Counts
	l.same(func() { c = l.copyHome(1, job) })
	want := []string{
		"backup-1 d 755 1", "backup-1/homedir.tar f 644 1", "fake f 644 1", "first f 600 2", "homedir.tar f 644 1", "old f 600 1", "open f 644 1",
		"passwd l 777 1", "second f 600 2", "setuid f 755 1", "theirs f 644 1", "user.conf f 644 1",
	}
	got := slices.DeleteFunc(l.find("1", "%P %y %m %n"), func(s string) bool { return strings.HasPrefix(s, "closed d") })
	for i := range got { // how many links a directory has is the file system's business
		if strings.Contains(got[i], " d ") {
			got[i] = got[i][:strings.LastIndexByte(got[i], ' ')] + " 1"
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for path, why := range map[string]string{
		"roots": "the account itself may not read it", "closed": "permission denied", "fifo": "fifo", "sock": "socket", "dev": "device", "holes": archive.ErrBomb.Error(),
	} {
		l.wantReject(c, path, why)
	}
	if c.Rejects != 6 {
		t.Errorf("%d rejects: %+v", c.Rejects, c.Rejected)
	}
}

// deep makes directories in one another, more than there are descriptors, and a file at their end.
func deep(t *testing.T, dir string, levels int) {
	t.Helper()
	at, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	for range levels {
		if err == nil {
			err = unix.Mkdirat(at, "d", 0o755)
		}
		if err == nil {
			err = unix.Fchownat(at, "d", aliceUID, aliceUID, 0)
		}
		next := -1
		if err == nil {
			next, err = unix.Openat(at, "d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		}
		unix.Close(at)
		if at = next; err != nil {
			t.Fatal(err)
		}
	}
	f, err := unix.Openat(at, "f", unix.O_CREAT|unix.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(f)
	unix.Close(at)
}

// A home that is deeper than any program goes is copied as far as that, told, and removed, with few descriptors.
func TestARuinOfAnyDepthIsCopiedToldAndRemoved(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &old) })
	l := labAt(t, treetest.Mounted(t, "tmpfs", ""))
	deep(t, filepath.Join(l.dir, "home/alice"), 30_000)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1024, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 2; n++ { // two that are merged, at every level
		c := l.copyHome(n, roomy)
		if c.Dirs != maxDepth || c.Rejects != 1 || c.Files != 1 {
			t.Errorf("%d directories, %d files, %d rejects", c.Dirs, c.Files, c.Rejects)
		}
		l.wantReject(c, strings.Repeat("d/", maxDepth)+"d", "directories deep")
		l.merge(n)
	}
	l.furnish()
	if err := os.Rename(filepath.Join(l.dir, "home/alice"), l.at("old")); err != nil {
		t.Fatal(err)
	}
	if err := l.q.Remove(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(l.at("")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the quarantine is still there: %v", err)
	}
}

// What somebody mounted in the old home, or made immutable, is not touched, and the first of it named. Everything else is
// removed, and when that is out of the way, the rest.
func TestWhatCannotBeRemovedIsLeftAndNamed(t *testing.T) {
	l := labAt(t, treetest.Mounted(t, "ext4", ""))
	if err := os.Rename(filepath.Join(l.dir, "home/alice"), l.at("home")); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"mnt", "a"} {
		if err := os.Mkdir(l.at("home/"+d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"a/fixed", "z"} {
		if err := os.WriteFile(l.at("home/"+f), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	attr := func(flag string) {
		t.Helper()
		names, _ := filepath.Glob(l.at("*/a/fixed"))
		if out, err := exec.Command("chattr", append([]string{flag}, names...)...).CombinedOutput(); err != nil {
			t.Skipf("needs chattr: %v %s", err, out)
		}
	}
	attr("+i")
	t.Cleanup(func() { exec.Command("chattr", "-R", "-i", l.at("")).Run() })
	if err := unix.Mount(filepath.Join(l.dir, "home/bob"), l.at("home/mnt"), "", unix.MS_BIND, ""); err != nil {
		t.Skipf("needs to mount: %v", err)
	}
	unmount := func(at string) { unix.Unmount(at, unix.MNT_DETACH) }
	t.Cleanup(func() { unmount(l.at("home/mnt")) })
	var err error
	l.sameOf([]string{"home/victim", "home/secret", "home/bob"}, func() { err = l.q.Remove(context.Background()) })
	if err == nil || !strings.Contains(err.Error(), l.r.Quarantine+"/removed-") {
		t.Errorf("%v", err)
	}
	if got := l.find("", "%f"); !slices.Equal(got, []string{"a", "file", "fixed", "mnt", "removed-1"}) {
		t.Errorf("left: %v", got)
	}
	attr("-i")
	unmount(l.at("removed-1/mnt"))
	if err := l.q.Remove(context.Background()); err != nil {
		t.Error(err)
	}
}

// A process that was in the old home when that was set aside, and fills it as fast as it can, does not keep it there.
func TestAProcessInTheOldHomeCannotKeepItThere(t *testing.T) {
	l := newLab(t)
	treetest.Build(t, l.dir, "d 0755 20001:20001 home/alice/d\nd 0755 20001:20001 home/alice/d/e\n")
	stop := treetest.Attack(t, aliceUID, filepath.Join(l.dir, "home/alice/d"), "mkmany . 50", "mkmany e 50", "rename e x", "rename x e")
	if err := os.Rename(filepath.Join(l.dir, "home/alice"), l.at("home")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := l.q.Remove(ctx); err != nil {
		t.Error(err)
	}
	if n := stop(); n[0] == 0 {
		t.Errorf("there was no attack: %v", n)
	}
	if _, err := os.Lstat(l.at("")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

// A removal that was cut short leaves nothing that could be taken for a home.
func TestAHalfRemovedHomeIsNoHome(t *testing.T) {
	l := newLab(t)
	l.unpack(1, tarball(t, file("a", "a"), file("b", "b")), roomy)
	l.merge(1)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.q.Remove(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if b, err := l.q.Base(); err == nil {
		b.Close()
		t.Error("there is still a home")
	}
	if err := l.q.Remove(context.Background()); err != nil {
		t.Error(err)
	}
}

// Where somebody took the quarantine's name, or could take it, or nothing can change places with the home, nothing is begun.
func TestAQuarantineIsRootsOrNotMade(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(l *lab, at string) error
		want    string
	}{
		"a link": {func(l *lab, at string) error { return os.Symlink("bob", at) }, "not a directory"},
		"a file": {func(l *lab, at string) error { return os.WriteFile(at, nil, 0o600) }, "not a directory"},
		"somebody's": {func(l *lab, at string) error {
			return errors.Join(os.Mkdir(at, 0o700), os.Chown(at, bobUID, bobUID))
		}, "not root's alone"},
		"open":            {func(l *lab, at string) error { return errors.Join(os.Mkdir(at, 0o700), os.Chmod(at, 0o755)) }, "not root's alone"},
		"a parent of all": {func(l *lab, at string) error { return os.Chmod(filepath.Dir(at), 0o777|os.ModeSticky) }, errNotRoots.Error()},
		"bob's parent":    {func(l *lab, at string) error { return os.Chown(filepath.Dir(at), bobUID, 0) }, errNotRoots.Error()},
		"a mount": {func(l *lab, at string) error {
			treetest.Bind(l.t, filepath.Join(l.dir, "home/bob"), filepath.Join(l.dir, "home/alice"))
			return nil
		}, errMount.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			if err := l.q.Remove(context.Background()); err != nil {
				t.Fatal(err)
			}
			if err := c.prepare(l, l.at("")); err != nil {
				t.Fatal(err)
			}
			q, err := MakeQuarantine(l.s, l.r)
			if err == nil {
				q.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q", err, c.want)
			}
		})
	}
}

// On a full disk the work ends with the kernel's word for it, nothing around is touched, and with room made it is done anew.
func TestAFullDiskEndsTheWorkAndNothingElse(t *testing.T) {
	for options, big := range map[string]bool{"size=4m": true, "size=64m,nr_inodes=300": false} {
		t.Run(options, func(t *testing.T) {
			l := labAt(t, treetest.Mounted(t, "tmpfs", options))
			all := []string{}
			for i := range 400 {
				all = append(all, strconv.Itoa(i))
			}
			body := "x"
			if big {
				body = strings.Repeat("x", 20<<10)
			}
			headers := tarball(t)
			for _, name := range all {
				one := tarball(t, file("d/"+name, body))
				headers = append(one[:len(one)-1024:len(one)-1024], headers...)
			}
			l.same(func() {
				_, err := l.q.Unpack(context.Background(), 1, l.file(headers), roomy, nil)
				if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), `write "d/`) {
					t.Errorf("%v", err)
				}
			})
			if out, err := exec.Command("mount", "-o", "remount,size=64m,nr_inodes=10000", l.dir).CombinedOutput(); err != nil {
				t.Fatalf("%v %s", err, out)
			}
			if c := l.unpack(1, headers, roomy); c.Files != 400 || c.Rejects != 0 {
				t.Errorf("%+v", c)
			}
		})
	}
}

// Beyond its quota the account gets no more from a backup than by itself.
func TestAQuotaEndsTheWork(t *testing.T) {
	dir, ok := treetest.Quotas(t)
	if !ok {
		return
	}
	l := labAt(t, dir)
	treetest.SetQuota(t, dir, aliceUID, 0, 200, 0, 0)
	content := tarball(t, file("a", strings.Repeat("x", 100<<10)), file("b", strings.Repeat("x", 200<<10)))
	if _, err := l.q.Unpack(context.Background(), 1, l.file(content), roomy, nil); !errors.Is(err, unix.EDQUOT) {
		t.Errorf("%v", err)
	}
	treetest.SetQuota(t, dir, aliceUID, 0, 0, 0, 0)
	if c := l.unpack(1, content, roomy); c.Files != 2 {
		t.Errorf("%+v", c)
	}
}
