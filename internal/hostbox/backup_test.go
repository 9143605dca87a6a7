package hostbox

import (
	"archive/zip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// listed gives the members of a tar archive in the box as GNU tar lists them: "MODE OWNER/GROUP NAME", by name.
func listed(t *testing.T, b *Box, file string) map[string]string {
	t.Helper()
	out, err := b.Run(t.Context(), `tar --list --verbose --file="$1"`, file)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		all[f[5]] = f[0] + " " + f[1]
	}
	return all
}

func TestABackupIsLaidOutAsCPanelDoes(t *testing.T) {
	t.Parallel()
	b := mailBox(t, 2)
	ctx := t.Context()
	if _, err := b.Run(ctx, `echo x >/home/alice/roots-own; chmod 0600 /home/alice/roots-own
		echo x >/home/alice/public_html/upload; chown nobody:nobody /home/alice/public_html/upload`); err != nil {
		t.Fatal(err)
	}
	file, err := b.Backup(ctx, "alice", Package)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(file, "/cpmove-alice.tar.gz") {
		t.Errorf("the package is called %q", file)
	}
	got := listed(t, b, file)
	want := map[string]string{
		"version":                           "-rw------- root/root",
		"cp/alice":                          "-rw-r----- root/alice",
		"userdata/main":                     "-rw-r--r-- root/root",
		"userdata/alice-shop.alice.example": "-rw-r--r-- root/root",
		"va/alice.example":                  "-rw-r----- alice/mail",
		"cron/alice":                        "-rw------- alice/crontab",
		"shadow":                            "-rw------- root/root",
		"homedir/":                          "drwx------ alice/alice",
		"homedir/public_html/":              "drwxr-x--- alice/nobody",
		"homedir/etc/alice.example/shadow":  "-rw-r----- alice/mail",
		"homedir/.ssh/authorized_keys":      "-rw------- alice/alice",
		"homedir/.htpasswds/public_html/staff/passwd": "-rw-r--r-- alice/alice",
		"homedir/roots-own":                           "",
	}
	for name, is := range want {
		if got["cpmove-alice/"+name] != is {
			t.Errorf("%q is %q, want %q", name, got["cpmove-alice/"+name], is)
		}
	}
	const read = `tar --extract --to-stdout --file="$1" cpmove-alice/shadow cpmove-alice/sds2 cpmove-alice/addons cpmove-alice/nobodyfiles cpmove-alice/shell`
	texts, err := b.Run(ctx, read, file)
	lines := strings.Split(texts, "\n")
	slices.Sort(lines)
	if diff := cmp.Diff([]string{
		"", b.world.accounts[0].login(), "/bin/bash", "alice-shop.example=alice-shop_alice.example",
		"alice-shop_alice.example=alice-shop.example", "blog_alice.example=public_html/blog", "public_html/upload",
	}, lines); err != nil || diff != "" {
		t.Errorf("small files: %v (-want +got):\n%s", err, diff)
	}
}

func TestABackupComesInOtherForms(t *testing.T) {
	t.Parallel()
	b := mailBox(t, 2)
	ctx := t.Context()
	if _, err := b.Run(ctx, `mkdir -m 0700 /home/alice/roots-own; echo x >/home/alice/roots-own/x`); err != nil {
		t.Fatal(err)
	}
	file, err := b.Backup(ctx, "alice", Nested)
	if err != nil {
		t.Fatal(err)
	}
	outer := listed(t, b, file)
	if outer["cpmove-alice/cp/alice"] == "" || outer["cpmove-alice/homedir/"] != "" || outer["cpmove-alice/homedir.tar"] == "" {
		t.Errorf("nested: %q", outer)
	}
	if _, err := b.Run(ctx, `tar -xOf "$1" cpmove-alice/homedir.tar >/root/homedir.tar`, file); err != nil {
		t.Fatal(err)
	}
	if inner := listed(t, b, "/root/homedir.tar"); inner["./etc/alice.example/shadow"] != "-rw-r----- alice/mail" || inner["./roots-own/x"] != "" {
		t.Errorf("in homedir.tar: %q", inner)
	}
	if file, err = b.Backup(ctx, "alice", Bare); err != nil {
		t.Fatal(err)
	}
	bare := listed(t, b, file)
	if bare["alice/"] != "drwx--x--x alice/alice" || bare["alice/etc/alice.example/shadow"] != "-rw-r----- alice/mail" || bare["alice/cp/"] != "" {
		t.Errorf("bare: %q", bare)
	}
	for _, bad := range []struct {
		account string
		form    BackupForm
	}{{"mallory", Package}, {"alice", "rar"}} {
		if _, err := b.Backup(ctx, bad.account, bad.form); err == nil {
			t.Errorf("a backup of %q as %q was made", bad.account, bad.form)
		}
	}
}

func TestAZippedSiteHasNamesOfWindows(t *testing.T) {
	t.Parallel()
	b := StartFor(t, Spec{Accounts: 1})
	file, err := b.ZipSite(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	z, err := zip.OpenReader(b.PathInHost(file))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var names []string
	for _, f := range z.File {
		if strings.Contains(f.Name, "/") || !strings.HasPrefix(f.Name, `www\`) {
			t.Errorf("a name is %q", f.Name)
		}
		names = append(names, f.Name)
	}
	for _, name := range []string{`www\`, `www\index.php`, `www\css\`, `www\css\print style.css`, `www\名前.html`} {
		if !slices.Contains(names, name) {
			t.Errorf("%q is missing among %d names", name, len(names))
		}
	}
	if slices.Contains(names, `www\latest.jpg`) {
		t.Error("a link is in it")
	}
	// Whether it is a ZIP at all is another program's to say.
	out, err := b.Run(t.Context(), `mkdir /root/unzipped; bsdtar -C /root/unzipped -xf "$1"; find /home/alice/public_html /root/unzipped -type f -exec md5sum {} + | cut -c 1-32 | sort | uniq -c | awk '$1 % 2'`, file)
	if err != nil || out != "" {
		t.Errorf("unpacked files differ: %v: %s", err, out)
	}
}
