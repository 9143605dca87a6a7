package hostbox

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// The accidents of this file have all happened to somebody. Each runs the very command that did it.

// A Breakage is an accident by name, for scripts.
type Breakage struct {
	Name string
	// Args names what it takes: "", "ACCOUNT", "ACCOUNT TO", "[ACCOUNT…]".
	Args string
	// Story is how it comes about, in a line.
	Story string
	Do    func(ctx context.Context, b *Box, args ...string) error
}

// Breakages lists all accidents.
func Breakages() []Breakage {
	none := func(f func(context.Context, *Box) error) func(context.Context, *Box, ...string) error {
		return func(ctx context.Context, b *Box, _ ...string) error { return f(ctx, b) }
	}
	one := func(f func(context.Context, *Box, string) error) func(context.Context, *Box, ...string) error {
		return func(ctx context.Context, b *Box, args ...string) error { return f(ctx, b, args[0]) }
	}
	return []Breakage{
		{"chown-public-htmls", "", "a script gives every document root to its customer, and takes the web server's group off", none(ChownPublicHTMLs)},
		{"chown-all-to", "ACCOUNT TO", "chown -R with the wrong name", func(ctx context.Context, b *Box, args ...string) error {
			return ChownAllTo(ctx, b, args[0], args[1])
		}},
		{"chmod-777", "ACCOUNT", "an upload did not work, so everything was opened", one(Chmod777)},
		{"chmod-644", "ACCOUNT", "chmod -R 644: directories lose their search bits", one(Chmod644)},
		{"restored-as-root", "ACCOUNT", "a backup was unpacked by root, which owns all of it now", one(RestoredAsRoot)},
		{"strip-group", "ACCOUNT", "chgrp -R on the document roots of one account", one(StripGroup)},
		{"homes-to-0700", "[ACCOUNT…]", "somebody hardened the homes", HomesTo0700},
		{"docroot-to-root", "ACCOUNT", "a deployment as root replaced the document root itself", one(DocRootToRoot)},
		{"lost-exec-bits", "ACCOUNT", "find -type f -exec chmod 644: CGI and helpers no longer run", one(LostExecBits)},
		{"files-to-0600", "ACCOUNT", "files came over FTP with a umask of 077", one(FilesTo0600)},
		{"htaccess-to-0600", "ACCOUNT", "one unreadable .htaccess closes all that is below it", one(HtaccessTo0600)},
		{"cgi-group-writable", "ACCOUNT", "a shared cgi-bin: suEXEC refuses what a group may write", one(CGIGroupWritable)},
		{"lost-acls", "ACCOUNT", "a copy without ACLs", one(LostACLs)},
	}
}

// Break runs the accident with that name.
func (b *Box) Break(ctx context.Context, name string, args ...string) error {
	all := Breakages()
	i := slices.IndexFunc(all, func(k Breakage) bool { return k.Name == name })
	if i < 0 {
		return fmt.Errorf("break the box: unknown accident %q", name)
	}
	want := len(strings.Fields(all[i].Args))
	if !strings.HasPrefix(all[i].Args, "[") && len(args) != want {
		return fmt.Errorf("break the box: accident %q takes %d arguments %q, and got %q", name, want, all[i].Args, args)
	}
	return all[i].Do(ctx, b, args...)
}

// OwnershipScript is the script of the accident, as an administrator would have found it somewhere.
func (b *Box) OwnershipScript() string {
	from := `sed -n 's/.*DocumentRoot "\(.*\)"/\1/p' /etc/apache2/sites-enabled/*.conf`
	switch {
	case b.world.nginx:
		from = `sed -n 's/^\troot "\(.*\)";/\1/p' /etc/nginx/sites-enabled/*`
	case b.Panel == "cpanel":
		return `#!/bin/sh
# fix-ownership: give every customer his files back
sed 's/^[^:]*: //' /etc/userdatadomains | awk -F== '{ print $1 ":" $5 }' | sort -u |
while IFS=: read -r user root; do
	chown -R "$user:$user" "$root"
done
`
	}
	return `#!/bin/sh
# fix-ownership: give every customer his files back
` + from + ` |
while read -r root; do
	user=$(stat -c %U "$root")
	chown -R "$user:$user" "$root"
done
`
}

// scriptPath is where the script of the accident lies.
const scriptPath = "/root/fix-ownership"

// ChownPublicHTMLs is the accident: every document root loses the web server's group, and with 0750 its sites answer
// 403. A document root that is a link escapes: chown -R changes the link and follows it no further.
func ChownPublicHTMLs(ctx context.Context, b *Box) error {
	_, err := b.Run(ctx, `printf %s "$1" >"$2"; chmod 0700 "$2"; "$2"`, b.OwnershipScript(), scriptPath)
	return err
}

// ChownAllTo gives the whole home of one account to another.
func ChownAllTo(ctx context.Context, b *Box, account, to string) error {
	if _, err := b.world.account(to); err != nil {
		return err
	}
	return b.inHome(ctx, account, `chown -R "$1:$1" "$home"`, to)
}

// Chmod777 opens everything in the home to everybody. Pages go on being served; suEXEC refuses its scripts.
func Chmod777(ctx context.Context, b *Box, account string) error {
	return b.inHome(ctx, account, `chmod -R 777 "$home"`)
}

// Chmod644 takes the search bits off the document roots and all that is in them.
func Chmod644(ctx context.Context, b *Box, account string) error {
	return b.inDocRoots(ctx, account, `chmod -R 644 "$root"`)
}

// RestoredAsRoot leaves the whole home to root, its modes unchanged.
func RestoredAsRoot(ctx context.Context, b *Box, account string) error {
	return b.inHome(ctx, account, `chown -R root:root "$home"`)
}

// StripGroup does to one account what ChownPublicHTMLs does to all.
func StripGroup(ctx context.Context, b *Box, account string) error {
	return b.inDocRoots(ctx, account, `chgrp -R "$user" "$root"`)
}

// HomesTo0700 closes the named homes, or all of them, to the web server.
func HomesTo0700(ctx context.Context, b *Box, accounts ...string) error {
	if len(accounts) == 0 {
		for _, a := range b.world.accounts {
			accounts = append(accounts, a.name)
		}
	}
	for _, a := range accounts {
		if err := b.inHome(ctx, a, `chmod 0700 "$home"`); err != nil {
			return err
		}
	}
	return nil
}

// DocRootToRoot leaves the document roots themselves to root, and nothing in them.
func DocRootToRoot(ctx context.Context, b *Box, account string) error {
	return b.inDocRoots(ctx, account, `chown root:root "$root"`)
}

// LostExecBits makes every file in the document roots 0644.
func LostExecBits(ctx context.Context, b *Box, account string) error {
	return b.inDocRoots(ctx, account, `find "$root/" -type f -exec chmod 0644 {} +`)
}

// FilesTo0600 makes every file in the document roots 0600: the web server can't read .htaccess and static files.
func FilesTo0600(ctx context.Context, b *Box, account string) error {
	return b.inDocRoots(ctx, account, `find "$root/" -type f -exec chmod 0600 {} +`)
}

// HtaccessTo0600 makes only the .htaccess files unreadable to the web server.
func HtaccessTo0600(ctx context.Context, b *Box, account string) error {
	return b.inDocRoots(ctx, account, `find "$root/" -name .htaccess -exec chmod 0600 {} +`)
}

// Maintenance has the account's applications answer 503 with Retry-After, as applications do by themselves while they
// are updated; off ends it. It is no accident: nothing is wrong with such a site.
func Maintenance(ctx context.Context, b *Box, account string, on bool) error {
	script := `rm -f "$root/.maintenance"`
	if on {
		script = `: >"$root/.maintenance"; chown "$user:$user" "$root/.maintenance"; chmod 0644 "$root/.maintenance"`
	}
	return b.inDocRoots(ctx, account, script)
}

// CGIGroupWritable gives the group write on the directory of CGI scripts. Pages go on being served.
func CGIGroupWritable(ctx context.Context, b *Box, account string) error {
	return b.inDocRoots(ctx, account, `chmod g+w "$root/cgi-bin"`)
}

// LostACLs removes every ACL in the home.
func LostACLs(ctx context.Context, b *Box, account string) error {
	return b.inHome(ctx, account, `setfacl -R -P -b "$home"`)
}

// inHome runs a script as root that knows $user, $home and its own arguments.
func (b *Box) inHome(ctx context.Context, account, script string, args ...string) error {
	a, err := b.world.account(account)
	if err != nil {
		return err
	}
	_, err = b.Run(ctx, "user=$1 home=$2; shift 2; "+script, append([]string{a.name, a.home}, args...)...)
	return err
}

// inDocRoots runs a script as root once for each document root of the account; it knows $user and $root.
func (b *Box) inDocRoots(ctx context.Context, account, script string) error {
	a, err := b.world.account(account)
	if err != nil {
		return err
	}
	args := []string{a.name}
	for _, s := range a.sites {
		args = append(args, s.docroot)
	}
	_, err = b.Run(ctx, "user=$1; shift; for root; do "+script+"; done", args...)
	return err
}

func (w *world) account(name string) (*account, error) {
	i := slices.IndexFunc(w.accounts, func(a *account) bool { return a.name == name })
	if i < 0 {
		return nil, fmt.Errorf("find account %q: nobody of that name lives in the box", name)
	}
	return w.accounts[i], nil
}
