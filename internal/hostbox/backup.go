package hostbox

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// A BackupForm is a way in which the backup of an account comes.
type BackupForm string

// The forms of an account's backup.
const (
	// Package is cPanel's cpmove-USER.tar.gz, with the home in homedir/.
	Package BackupForm = "package"
	// Nested is the same with the home in homedir.tar.
	Nested BackupForm = "nested"
	// Bare is USER.tar.gz with the home alone, below its own name: nothing in it says what it is.
	Bare BackupForm = "bare"
)

// backups is where they lie in the box.
const backups = "/root/backup"

// Backup makes a backup of an account of a cPanel-shaped box with GNU tar and returns its path in the box. It is made as
// cPanel makes its own: the home is read by the account, so that what the account can't read is missing, without a word;
// ACLs are lost. A backup of the same account and name is replaced.
func (b *Box) Backup(ctx context.Context, account string, form BackupForm) (string, error) {
	a, err := b.world.account(account)
	if err != nil {
		return "", err
	}
	name := "cpmove-" + a.name
	switch {
	case b.Panel != "cpanel":
		return "", fmt.Errorf("back up %q: the box is no cPanel server", account)
	case form == Bare:
		name = a.name
	case form != Package && form != Nested:
		return "", fmt.Errorf("back up %q: unknown form %q", account, form)
	}
	var texts bytes.Buffer
	if form != Bare {
		if err := a.packageTexts(&texts); err != nil {
			return "", fmt.Errorf("back up %q: %w", account, err)
		}
	}
	out := path.Join(backups, name+".tar.gz")
	args := []string{"-euc", backupScript, "backup", string(form), a.name, a.home, name, out}
	cmd := b.Command(ctx, "sh", append(args, a.names()...)...)
	cmd.Stdin = &texts
	return out, b.run(cmd)
}

// backupScript gets what it can't copy as a tar archive on its standard input, and the account's domains as arguments.
const backupScript = `
umask 077
form=$1 user=$2 home=$3 name=$4 out=$5
shift 5
work=$(mktemp -d /var/tmp/backup.XXXXXX)
trap 'rm -rf "$work"' EXIT
top=$work/$name
mkdir -p "$top" "${out%/*}"
readable() { # the home, as far as its user can read it
	setpriv --reuid="$user" --regid="$user" --init-groups tar --create --ignore-failed-read --directory="$home" . 2>/dev/null
}
copy() { # FROM TO
	[ ! -e "$1" ] || cp -a "$1" "$top/$2"
}
if [ "$form" = bare ]; then
	readable | tar --extract --preserve-permissions --same-owner --directory="$top"
else
	tar --extract --directory="$top"
	mkdir "$top/cp" "$top/cron" "$top/userdata" "$top/va" "$top/vad" "$top/vf"
	case $form in
	package)
		mkdir "$top/homedir"
		readable | tar --extract --preserve-permissions --same-owner --directory="$top/homedir"
		chmod 0700 "$top/homedir"
		;;
	nested) readable >"$top/homedir.tar" ;;
	esac
	copy "/var/cpanel/users/$user" cp
	copy "/var/cpanel/userdata/$user/." userdata
	copy "/var/spool/cron/crontabs/$user" cron
	copy "/etc/proftpd/$user" proftpdpasswd
	for domain; do
		copy "/etc/valiases/$domain" va
		copy "/etc/vdomainaliases/$domain" vad
		copy "/etc/vfilters/$domain" vf
	done
	sed -n "s/^$user:\([^:]*\):.*/\1/p" /etc/shadow >"$top/shadow"
	sed -n "s/^$user:.*://p" /etc/passwd >"$top/shell"
	find "$home" -user nobody -printf '%P\n' >"$top/nobodyfiles"
fi
tar --create --gzip --file="$out" --directory="$work" "$name"
`

// packageTexts writes the small files of a cPanel package that are no copies.
func (a *account) packageTexts(out io.Writer) error {
	m := &image{tw: tar.NewWriter(out), made: map[string]bool{}}
	m.file("version", 0o600, "pkgacct version: 10.0\narchive version: 4\n")
	m.file("homedir_paths", 0o600, a.home+"\n")
	m.dir("meta", 0o700)
	m.file("meta/homedir_paths", 0o600, a.home+"\n")
	m.file("meta/hostname", 0o600, "box\n")
	m.file("meta/mailserver", 0o600, "dovecot\n")
	m.file("meta/dbprefix", 0o600, "1\n")
	m.file("quota", 0o600, "0\n")
	m.file("digestshadow", 0o600, "")
	m.file("mysql.sql", 0o600, "-- cPanel mysql backup\n")
	var subs, roots, parked, addons string
	for _, s := range a.sites {
		label, _, _ := strings.Cut(s.host, ".")
		sub := label + "_" + a.sites[0].host
		if s.kind != "main" {
			subs += sub + "\n"
			roots += sub + "=" + strings.TrimPrefix(s.docroot, a.home+"/") + "\n"
		}
		if s.addon != "" {
			addons += s.addon + "=" + sub + "\n"
		}
		for _, p := range s.parked {
			parked += p + "\n"
		}
	}
	m.file("sds", 0o600, subs)
	m.file("sds2", 0o600, roots)
	m.file("pds", 0o600, parked)
	m.file("addons", 0o600, addons)
	if m.err != nil {
		return m.err
	}
	return m.tw.Close()
}

// ZipSite packs the contents of the account's main document root the way a customer's PC with Windows would, and returns
// the path of the archive in the box: below a directory www, names with backslashes, no owners, modes or links.
func (b *Box) ZipSite(ctx context.Context, account string) (_ string, err error) {
	a, err := b.world.account(account)
	if err != nil {
		return "", err
	}
	out := path.Join(backups, a.name+"-www.zip")
	if _, err := b.Run(ctx, `umask 077; mkdir -p "${1%/*}"; rm -f "$1"`, out); err != nil {
		return "", err
	}
	f, err := os.OpenFile(b.PathInHost(out), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("zip the site of %q: %w", account, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z := zip.NewWriter(f)
	if err := zipTree(z, os.DirFS(b.PathInHost(a.sites[0].docroot))); err != nil {
		return "", fmt.Errorf("zip the site of %q: %w", account, err)
	}
	return out, z.Close()
}

// zipTree writes a tree into an archive. Attributes are those of FAT.
func zipTree(z *zip.Writer, tree fs.FS) error {
	const archived, directory = 0x20, 0x10
	return fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		h := &zip.FileHeader{Name: strings.ReplaceAll(filepath.Join("www", name), "/", `\`), Modified: info.ModTime()}
		switch {
		case d.IsDir():
			h.Name, h.ExternalAttrs = h.Name+`\`, directory
			_, err := z.CreateHeader(h)
			return err
		case !d.Type().IsRegular():
			return nil
		}
		h.Method, h.ExternalAttrs = zip.Deflate, archived
		w, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		body, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		_, err = w.Write(body)
		return err
	})
}
