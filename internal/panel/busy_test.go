package panel

import (
	"strings"
	"testing"

	"rightful"
)

// A process is a culprit if what it changes is a home, lies in one or holds one, whatever interpreter stands before it;
// what it only reads makes it none.
func TestWhatACommandChangesIsKnownByItsCommandLine(t *testing.T) {
	accounts := []Account{
		{Account: rightful.Account{Name: "alice", Home: "/home/alice", Sites: []rightful.Site{{Domains: []string{"alice.example", "shop.example"}}}}},
		{Account: rightful.Account{Name: "bob", Home: "/home/bob"}},
	}
	for _, c := range []struct {
		command string // words parted by spaces
		cwd     string
		want    string
	}{
		{"chown -R alice:alice /home/alice/public_html", "/root", "/home/alice/public_html"},
		{"/bin/chmod -R 755 /home", "/root", "/home"},
		{"chmod -R 755 /", "/root", "/"},
		{"chown -R alice .", "/home/alice", "/home/alice"},
		{"chown -R bob public_html", "/home/alice", "/home/alice/public_html"},
		{"chown --reference=/root/x -R public_html", "/home/alice", "/home/alice/public_html"},
		{"chown -R 1001 ../bob", "/home/alice", "/home/bob"},
		{"chgrp -R nobody /home/bob", "/", "/home/bob"},
		{"setfacl -R -b /home/bob", "/", "/home/bob"},
		{"restorecon -R /home", "/", "/home"},
		{"chown -R x /home/alicex", "/", ""},
		{"chown -R x /srv", "/home/alice", ""},
		{"busybox chmod 755 /home/bob", "/", "/home/bob"},

		{"find /home/alice -exec chmod 644 {} +", "/", "/home/alice"},
		{"find -type d -execdir chmod 755 {} ;", "/home/bob", "/home/bob"},
		{"find . ( -type d -o -type f ) -exec chown alice {} ;", "/home/alice", "/home/alice"},
		{"find / -xdev -exec chown root {} ;", "/", "/"},
		{"find /home/alice -name x", "/", ""},
		{"find /home -name error_log -exec ls -l {} ;", "/", ""},
		{"find /home -name error_log -delete", "/", ""},

		{"rsync -a /backup/ /home/", "/", "/home"},
		{"rsync --server -logDtpre.iLsfxC . /home/bob/", "/root", "/home/bob"},
		{"rsync --server --sender -logDtpre . /home/bob/", "/root", ""},
		{"rsync -a /home/ /backup/", "/", ""},
		{"rsync -a /home/ backup.example:/srv", "/home/alice", ""},
		{"cp -a /root/site/. /home/alice/public_html", "/", "/home/alice/public_html"},
		{"cp -a -t /home/alice/public_html /root/a", "/", "/home/alice/public_html"},
		{"cp -a /home/alice /backup", "/", ""},
		{"cp /root/x /", "/", ""},
		{"mv /home/alice /srv", "/", "/home/alice"},
		{"tar xzf /root/b.tgz -C /home/alice", "/", "/home/alice"},
		{"tar -C /home/alice -xzf /root/b.tgz", "/", "/home/alice"},
		{"tar xzf /root/b.tgz", "/home/bob/public_html", "/home/bob/public_html"},
		{"tar --extract --file=/home/alice/b.tgz --directory=/home/bob", "/", "/home/bob"},
		{"tar xzf /home/alice/b.tgz -C /root/look", "/home/alice", ""},
		{"tar czf /root/b.tgz /home/alice", "/home/alice", ""},
		{"unzip /root/x.zip -d /home/bob", "/", "/home/bob"},

		{"bash /root/fixperms bob", "/root", "/home/bob"},
		{"/bin/bash -x /root/fixperms.sh -a bob", "/root", "/home/bob"},
		{"perl /scripts/restorepkg /home/cpmove-new.tar.gz", "/", "/home"},
		{"/scripts/chownpublichtmls", "/root", "/home"},
		{"perl /usr/local/cpanel/scripts/mailperm --verbose bob", "/", "/home/bob"},
		{"/usr/local/cpanel/scripts/disablefileprotect", "/", "/home"},
		{"plesk repair fs shop.example -y", "/", "/home/alice"},
		{"plesk repair fs -y", "/", "/home"},
		{"plesk repair mail -y", "/", ""},
		{"bash /usr/local/directadmin/scripts/set_permissions.sh set_user_home bob", "/", "/home/bob"},
		{"bash /usr/local/hestia/bin/v-rebuild-web-domains alice", "/", "/home/alice"},
		{"bash /usr/local/vesta/bin/v-fix-website-permissions alice.example", "/", "/home/alice"},
		{"bash /usr/local/hestia/bin/v-list-users", "/home/alice", ""},
		{"virtualmin fix-domain-permissions --all-domains", "/", "/home"},
		{"virtualmin fix-domain-permissions --domain alice.example", "/", "/home/alice"},
		{"virtualmin list-domains", "/home/alice", ""},
		{"clpctl system:permissions:reset --directories=770 --files=660 --path=/home/bob/htdocs", "/", "/home/bob"},
		{"perl /usr/local/cpanel/scripts/pkgacct alice", "/home/alice", ""},
		{"/usr/local/cpanel/bin/backup", "/home", ""},

		{"sh -c chown_-R_alice_/home/alice;rightful_fix", "/", ""},
		{"bash", "/home/alice", ""},
		{"ls /home/alice", "/", ""},
		{"vi /root/chown", "/home/alice", ""},
		{"rightful fix alice", "/home/alice", ""},
		{"", "/home/alice", ""},
	} {
		if got := target(strings.Split(c.command, " "), c.cwd, accounts); got != c.want {
			t.Errorf("%q in %q changes %q, want %q", c.command, c.cwd, got, c.want)
		}
	}
	if got := target([]string{"perl /usr/local/cpanel/scripts/restorepkg bob"}, "/", accounts); got != "/home/bob" {
		t.Errorf("a title of one word: %q", got)
	}
	if got := target([]string{"fixperms", "-a"}, "/", append(accounts, Account{Account: rightful.Account{Name: "dave", Home: "/home2/dave"}})); got != "/" {
		t.Errorf("homes in two places: %q", got)
	}
	if got := target([]string{"fixperms"}, "/", nil); got != "" {
		t.Errorf("no accounts: %q", got)
	}
}
