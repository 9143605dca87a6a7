// Package hostbox builds a real shared-hosting server in private namespaces: for tests, and for `rightful demo`.
//
// A [Box] has its own mount, process, network, UTS and IPC namespaces. Its root is an overlay on the machine's own
// file system whose upper layer is memory; passwd, logs, panel files and web configuration are its own, and the
// customers' homes are on their own ext4 images. In it run a real Apache (event MPM), a real PHP-FPM with one pool per
// account, suEXEC and mod_fcgid, or a real nginx in Apache's place. Its root user is the machine's real root without a user namespace between: what a command may
// do in the box is what it may do on a server.
//
// It knows three shapes of server: "plain", as Debian sets Apache up by hand, "nginx", the same with nginx, and "cpanel",
// with cPanel's files, names and permissions (without any of cPanel's programs); and, with fewer sites, those of
// DirectAdmin, HestiaCP (with nginx), Plesk (whose database is down) and Virtualmin. Each is the same at every start:
// accounts, uids, contents. Sites differ in how visitors reach them: over TLS too, on an address of their own, or
// by a redirect to TLS.
//
// A cPanel-shaped box can have mail as well ([Spec].Mail): a real Dovecot that knows its users by the password files in
// the homes, and a real Exim before it. Its homes then hold what is lost with a home, and [Box.Backup] makes the
// backups that it would come back from.
//
// It promises to leave the machine alone: no file, port, user, mount or service of it changes. Everything lives in
// memory that belongs to the namespaces, and these end with their first process, which ends when its standard input
// does: at [Box.Close], or when the process that started the box dies of anything, SIGKILL included.
//
// It refuses to start where something is missing; [Requirements] says what, so that a test can skip by name.
package hostbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"rightful"

	"golang.org/x/sys/unix"
)

// A Spec says what server to build. The zero Spec is a cPanel-shaped one with 12 accounts.
type Spec struct {
	// Panel is "cpanel", "plain", "nginx", or one of [Shapes].
	Panel string
	// Accounts is how many customers live on it; 0 means 12.
	Accounts int
	// Mail gives a cPanel-shaped server Dovecot and Exim, mailboxes with passwords and messages ([Box.Mailboxes]),
	// directories with passwords ([Box.Closed]), crontabs, and passwords of the accounts' own.
	Mail bool
	// Binary is a rightful binary on the machine, to become /usr/local/bin/rightful in the box. Empty means none.
	Binary string
	// Log receives what the box's own commands say on standard error. Nil discards it.
	Log io.Writer
}

// maxAccounts keeps uids and the homes' image within reason.
const maxAccounts = 5000

// A Box is a running server. Its methods may be used by several goroutines at once.
type Box struct {
	// Panel is the shape of the server, as in [Spec].
	Panel string

	world *world
	cert  string         // key and certificate, PEM
	trust *x509.CertPool // the certificate
	phpv  string
	first string // what stands before the command of Apache, by WorkersFirst
	log   io.Writer

	init  *exec.Cmd // the first process of the namespaces
	stdin io.Closer // whose end is the end of the box
	pid   int       // of init, as the machine counts
	net   *os.File  // the network namespace
	token string    // in the names of the images, to tell them from another box's

	close func() error
}

// Requirements lists what the machine lacks for a box, each in a few words. It is empty where [Start] can work.
func Requirements() (missing []string) {
	if os.Geteuid() != 0 {
		missing = append(missing, "root")
	}
	for _, tool := range []string{
		"bash", "mount", "pivot_root", "nsenter", "setpriv", "mkfs.ext4", "tar", "setfacl", "getcap", "apache2", "nginx", "php-cgi",
	} {
		if lookPath(tool) == "" {
			missing = append(missing, tool)
		}
	}
	if _, err := phpVersion(); err != nil {
		missing = append(missing, "php-fpm")
	}
	if _, err := os.Stat("/usr/lib/apache2/suexec-custom"); err != nil {
		missing = append(missing, "apache2-suexec-custom")
	}
	if _, err := os.Stat("/usr/lib/apache2/modules/mod_fcgid.so"); err != nil {
		missing = append(missing, "libapache2-mod-fcgid")
	}
	if b, err := os.ReadFile("/proc/filesystems"); err != nil || !strings.Contains(string(b), "\toverlay\n") {
		missing = append(missing, "overlay file system")
	}
	if len(missing) > 0 {
		return missing
	}
	cmd := exec.Command("/bin/bash", "-c", "mount --make-rprivate / && mount -t tmpfs probe /tmp")
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: namespaces}
	if out, err := cmd.CombinedOutput(); err != nil {
		missing = append(missing, fmt.Sprintf("private namespaces with mounts (%v: %s)", err, bytes.TrimSpace(out)))
	}
	return missing
}

// requirements is Requirements for this server.
func (s Spec) requirements() []string {
	missing := Requirements()
	if s.Mail {
		missing = append(missing, mailRequirements()...)
	}
	return missing
}

const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC

// ErrSpec says that a [Spec] asks for what there is not.
var ErrSpec = errors.New("no such server")

// Start builds the server and returns when its web server answers. It takes about a second. ctx bounds the start only;
// the box lives until Close, or until this process ends.
func Start(ctx context.Context, spec Spec) (_ *Box, err error) {
	if spec.Panel == "" {
		spec.Panel = "cpanel"
	}
	if known := append([]string{"cpanel", "plain", "nginx"}, Shapes()...); !slices.Contains(known, spec.Panel) {
		return nil, fmt.Errorf("start box: panel %q: %w: it is one of %s", spec.Panel, ErrSpec, strings.Join(known, ", "))
	}
	if spec.Accounts == 0 {
		spec.Accounts = 12
	}
	if spec.Accounts < 1 || spec.Accounts > maxAccounts {
		return nil, fmt.Errorf("start box: %d accounts: %w: it takes 1 to %d", spec.Accounts, ErrSpec, maxAccounts)
	}
	if spec.Mail && spec.Panel != "cpanel" {
		return nil, fmt.Errorf("start box: panel %q with mail: %w: only cpanel has mail", spec.Panel, ErrSpec)
	}
	if spec.Log == nil {
		spec.Log = io.Discard
	}
	if missing := spec.requirements(); len(missing) > 0 {
		return nil, fmt.Errorf("start box: this machine lacks %s", strings.Join(missing, ", "))
	}
	phpv, err := phpVersion()
	if err != nil {
		return nil, err
	}
	b := &Box{Panel: spec.Panel, world: newWorld(spec.Panel, spec.Accounts), phpv: phpv, log: spec.Log}
	if spec.Mail {
		b.world.withMail()
	}
	if b.cert, b.trust, err = b.world.makeCert(); err != nil {
		return nil, fmt.Errorf("start box: %w", err)
	}
	if err := b.boot(ctx); err != nil {
		return nil, fmt.Errorf("start box: %w", err)
	}
	b.close = sync.OnceValue(b.end)
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start box: %w", err), b.Close())
		}
	}()
	if b.net, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", b.pid)); err != nil {
		return nil, err
	}
	if err := b.inNet(func() error { return loopbackUp(b.world.public) }); err != nil {
		return nil, fmt.Errorf("set loopback up: %w", err)
	}
	if err := b.furnish(ctx, spec.Binary); err != nil {
		return nil, err
	}
	if err := b.StartWeb(ctx); err != nil {
		return nil, err
	}
	if spec.Mail {
		if err := b.startMail(ctx); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// boot starts the namespaces and their first process.
func (b *Box) boot(ctx context.Context) error {
	b.token = strings.ToLower(rand.Text()[:10])
	cmd := exec.Command("/bin/bash", "-c", bootScript, "hostbox", strconv.Itoa(64+4*len(b.world.accounts)), b.token)
	cmd.Env = boxEnv()
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: namespaces, Setsid: true}
	var said bytes.Buffer
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	line, err := io.ReadAll(io.LimitReader(out, int64(len("ready\n"))))
	if !stop() {
		err = ctx.Err()
	}
	if err == nil && string(line) == "ready\n" {
		b.init, b.stdin, b.pid = cmd, in, cmd.Process.Pid
		return nil
	}
	cmd.Process.Kill()
	cmd.Wait()
	if err == nil {
		err = errors.New("the namespaces' first process ended")
	}
	return fmt.Errorf("set up namespaces: %w: %s", err, bytes.TrimSpace(said.Bytes()))
}

// bootScript runs as the first process of the namespaces. All mounts live in them. The scratch tmpfs is mounted over
// /tmp of the old root and goes out of sight with it; the overlay and the loop devices keep it alive. A loop device is
// released by the kernel with the mount on it (autoclear). Without loop devices, homes are on a tmpfs, which has ACLs
// and capabilities too.
//
// What must not shine through from the machine is hidden by whiteouts: character devices 0:0 in the upper layer.
const bootScript = `
set -eu
umask 022
size=$1
token=$2
mount --make-rprivate /
mount -t tmpfs -o mode=0755,size=75% hostbox /tmp
mkdir /tmp/upper /tmp/work /tmp/root
for p in home home2 root srv var/www var/log var/mail var/tmp var/spool var/cpanel var/lib/rightful \
	etc/webmin etc/virtual etc/postfix etc/dovecot etc/exim4 var/lib/dovecot var/lib/exim4 etc/apache2 etc/nginx etc/httpd etc/php etc/cpanel etc/rightful etc/psa etc/fstab etc/ld.so.preload \
	etc/userdatadomains etc/userdomains etc/trueuserdomains etc/domainusers etc/trueuserowners \
	etc/passwd etc/passwd- etc/group etc/group- etc/shadow etc/shadow- etc/gshadow etc/gshadow- etc/subuid etc/subgid \
	etc/nsswitch.conf etc/hosts etc/hostname etc/resolv.conf etc/sudoers.d etc/profile.d \
	etc/cron.d etc/cron.hourly etc/cron.daily etc/cron.weekly etc/cron.monthly etc/crontab \
	opt/cpanel opt/psa usr/local/cpanel usr/local/psa usr/local/directadmin usr/local/hestia usr/local/vesta \
	usr/local/CyberCP usr/local/lsws usr/local/ispconfig usr/local/bin/rightful; do
	case $p in */*) mkdir -p "/tmp/upper/${p%/*}" ;; esac
	mknod "/tmp/upper/$p" c 0 0
done
mount -t overlay -o lowerdir=/,upperdir=/tmp/upper,workdir=/tmp/work hostbox /tmp/root
cd /tmp/root
if mountpoint -q /usr; then
	mkdir -p /tmp/usr.upper /tmp/usr.work
	mount -t overlay -o lowerdir=/usr,upperdir=/tmp/usr.upper,workdir=/tmp/usr.work hostbox usr
fi
mkdir -p home home2 srv .old
image() { # name, MiB
	img=/tmp/$1-$token.img
	truncate -s "$2M" "$img"
	mkfs.ext4 -q -F -m 0 -b 4096 -I 256 -i 8192 -E nodiscard,lazy_itable_init=1,lazy_journal_init=1 "$img"
	if ! mount -t ext4 -o loop,acl "$img" "$1"; then
		mount -t tmpfs -o "mode=0755,size=$2m" hostbox "$1"
		return
	fi
	rmdir "$1/lost+found"
}
image home "$size"
image home2 "$size"
image srv 32
mount -t tmpfs -o mode=0755 hostbox dev
for n in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
	IFS=: read -r name major minor <<<"$n"
	mknod -m 0666 "dev/$name" c "$major" "$minor" || { touch "dev/$name"; mount --bind "/dev/$name" "dev/$name"; }
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 hostbox dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -t tmpfs -o mode=1777 hostbox dev/shm
mount -t tmpfs -o mode=0755 hostbox run
mount -t tmpfs -o mode=1777 hostbox tmp
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys || true
pivot_root . .old
cd /
umount -l .old
rmdir .old
echo box >/proc/sys/kernel/hostname
echo ready
# The first process reaps what is left to it, until the far end of its input closes.
exec /bin/bash -c 'while read -r _; do :; done' box >/dev/null
`

// furnish fills the root: accounts, panel files, configuration, homes, in one archive that one tar unpacks.
func (b *Box) furnish(ctx context.Context, binary string) error {
	pr, pw := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := b.writeImage(pw, binary)
		pw.CloseWithError(err)
		written <- err
	}()
	// suEXEC may be run by its group only, which is the web server's.
	script := `set -eu
tar --extract --preserve-permissions --numeric-owner --acls --same-owner --directory=/
f=$(readlink -f /usr/lib/apache2/suexec-custom)
ln -sf "$f" /usr/lib/apache2/suexec
chgrp "$1" "$f"
chmod 4754 "$f"`
	cmd := b.Command(ctx, "sh", "-c", script, "furnish", strconv.Itoa(int(b.world.web.GIDs[0])))
	cmd.Stdin = pr
	err := b.run(cmd)
	pr.Close()
	// What kept the archive from being written says more than the tar that had half of it.
	if werr := <-written; werr != nil && !errors.Is(werr, io.ErrClosedPipe) {
		return werr
	}
	return err
}

// Close ends every process of the box and lets go of everything that it holds. The kernel may take some milliseconds
// more to release its mounts and loop devices. Close may be called more than once.
func (b *Box) Close() error { return b.close() }

func (b *Box) end() error {
	b.stdin.Close()
	// The first process does nothing but wait for this; its end is that of every other, by the kernel's hand.
	err := b.init.Wait()
	if b.net != nil {
		b.net.Close()
	}
	if err != nil {
		return fmt.Errorf("close box: %w", err)
	}
	return nil
}

// Accounts tells who lives on the server, as it was built: the truth to hold against what is read from its files.
func (b *Box) Accounts() []rightful.Account { return b.world.truth() }

// A Site is one host name that the web server answers, and the path that a visitor asks for.
type Site struct {
	Host, Path, Account, DocRoot string
}

// Sites lists every site by its first name, in the order of accounts.
func (b *Box) Sites() []Site {
	var sites []Site
	for _, a := range b.world.accounts {
		for _, s := range a.sites {
			sites = append(sites, Site{Host: s.host, Path: "/", Account: a.name, DocRoot: s.docroot})
		}
	}
	return sites
}

// PathInHost gives the path under which the machine sees the box's absolute path p, while the box runs. An absolute
// symbolic link on the way would be resolved on the machine, not in the box.
func (b *Box) PathInHost(p string) string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", b.pid), p)
}

// phpVersion finds the installed PHP-FPM, the newest where there are several: "8.2".
func phpVersion() (string, error) {
	found, err := filepath.Glob("/usr/sbin/php-fpm[0-9]*.[0-9]*")
	if err != nil || len(found) == 0 {
		return "", errors.New("find PHP-FPM: no /usr/sbin/php-fpm*")
	}
	best, rank := "", -1
	for _, f := range found {
		v := strings.TrimPrefix(f, "/usr/sbin/php-fpm")
		major, minor, _ := strings.Cut(v, ".")
		x, err1 := strconv.Atoi(major)
		y, err2 := strconv.Atoi(minor)
		if err1 == nil && err2 == nil && x*1000+y > rank {
			best, rank = v, x*1000+y
		}
	}
	if best == "" {
		return "", fmt.Errorf("find PHP-FPM: no version in %q", found)
	}
	return best, nil
}

// lookPath finds a tool where root's PATH may not lead.
func lookPath(tool string) string {
	if p, err := exec.LookPath(tool); err == nil {
		return p
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if p := filepath.Join(dir, tool); unix.Access(p, unix.X_OK) == nil {
			return p
		}
	}
	return ""
}
