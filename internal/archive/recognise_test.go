package archive_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rightful/internal/archive"

	"github.com/google/go-cmp/cmp"
)

// f makes files, each with its path in it.
const shell = `
	f() { for p; do mkdir -p "$(dirname "$p")"; echo "$p" >"$p"; done; }
	site() { f "$1/index.php" "$1/wp-config.php" "$1/wp-content/themes/a.css"; }
	home() { site "$1/public_html"; f "$1/shop.example/index.php" "$1/mail/alice.example/bob/cur/1" "$1/etc/alice.example/shadow" "$1/.bashrc"; }
`

// subject is the account of an ordinary cPanel server.
func subject() archive.Subject {
	return archive.Subject{
		Account: "alice", Home: "/home/alice", DocRoots: []string{"public_html", "shop.example"},
		Domains: map[string]string{"alice.example": "public_html", "www.alice.example": "public_html", "shop.example": "shop.example"},
	}
}

// panels are subjects of other panels.
func onPanel(panel string) archive.Subject {
	s := subject()
	switch panel {
	case "directadmin":
		s.DocRoots = []string{"domains/alice.example/public_html", "domains/shop.example/public_html"}
	case "hestia":
		s.DocRoots = []string{"web/alice.example/public_html", "web/shop.example/public_html"}
	case "plesk":
		s.Home, s.DocRoots = "/var/www/vhosts/alice.example", []string{"httpdocs", "shop.example"}
	case "ispconfig":
		s.Account, s.Home, s.DocRoots = "web7", "/var/www/clients/client3/web7", []string{"web"}
		s.Domains = map[string]string{"alice.example": "web"}
		return s
	case "cyberpanel":
		s.Account, s.Home, s.DocRoots = "alice1234", "/home/alice.example", []string{"public_html"}
		s.Domains = map[string]string{"alice.example": "public_html"}
		return s
	}
	s.Domains = map[string]string{"alice.example": s.DocRoots[0], "shop.example": s.DocRoots[1]}
	return s
}

// A reading is what is expected of a candidate.
type reading struct {
	what    string
	places  string // SRC=DST, comma separated; SRC! for what is left out
	certain bool
	account string
	why     string // some of it
}

func (r reading) String() string {
	return fmt.Sprintf("%s [%s] certain=%v account=%q", r.what, r.places, r.certain, r.account)
}

func readingOf(c archive.Candidate) reading {
	var places []string
	for _, p := range c.Places {
		if p.Out {
			places = append(places, p.Src+"!")
		} else {
			places = append(places, p.Src+"="+p.Dst)
		}
	}
	return reading{what: c.What, places: strings.Join(places, ","), certain: c.Certain, account: c.Account, why: c.Why}
}

// survey reads a source to its end.
func survey(t testing.TB, o *archive.Opened) *archive.Survey {
	t.Helper()
	s, err := archive.Read(o, scratch(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// layouts are sources of every form that a backup of an account has, and what they are recognised as: the best first.
var layouts = []struct {
	name  string
	sub   func(*archive.Subject)
	panel string
	make  string // makes "source", a file or a directory
	live  []string
	want  []reading
}{
	{
		name: "a bare public_html", make: `site public_html; tar -cf source public_html`,
		want: []reading{{"a home directory", "=", true, "", `the home is at its top: the document root "public_html" lies there`}},
	},
	{
		name: "a whole home by its path", make: `home home/alice; tar -czf source home`,
		want: []reading{{"a home directory", "home/alice=", true, "", `the path of the home: "home/alice"`}},
	},
	{
		name: "the home's contents", make: `home h; tar -C h -cf source .`,
		want: []reading{{"a home directory", "=", true, "", "at its top"}},
	},
	{
		name: "the home in a directory of its name, on another disk", make: `home home2/alice; tar -cf source home2`,
		want: []reading{{"a home directory", "home2/alice=", true, "", `"home2/alice" is called like the account`}},
	},
	{
		name: "below a date", make: `home 2026-11-20; tar -cf source 2026-11-20`,
		want: []reading{{"a home directory", "2026-11-20=", true, "", `the home is in "2026-11-20"`}},
	},
	{
		name: "a directory that is a copy", make: `home source/alice`,
		want: []reading{{"a home directory", "alice=", true, "", `called like the account`}},
	},
	{
		name: "a copy of a home whose document root is a link", make: `f h/releases/7/index.php h/mail/x; ln -s releases/7 h/public_html; tar -C h -cf source .`,
		want: []reading{{"a home directory", "=", true, "", "at its top"}},
	},
	{
		name: "a zip from Windows with backslashes and a www folder",
		make: `site www; tar -cf - www >/dev/null; cp "$ZIP" source`,
		want: []reading{
			{"a document root", "www=public_html", false, "", `"www" holds WordPress, as document roots do`},
			{"a document root", "www=shop.example", false, "", ""},
		},
	},
	{
		name: "a www folder whose names are known to exist", make: `site www; zip -qr source.zip www; mv source.zip source`,
		live: []string{"public_html/index.php", "public_html/wp-config.php", "public_html/wp-content/themes/a.css", "shop.example/index.php"},
		want: []reading{
			{"a document root", "www=public_html", true, "", `the names in it are those of the document root "public_html"; of 5 names in it that were looked up, the home has 3`},
			{"a document root", "www=shop.example", false, "", ""},
		},
	},
	{
		name: "a document root with no folder around it", make: `site w; tar -C w -cf source .`, sub: func(s *archive.Subject) { s.DocRoots = s.DocRoots[:1] },
		want: []reading{{"a document root", "=public_html", false, "", "its top holds WordPress"}},
	},
	{
		name: "a document root with what macOS adds", make: `site .; f __MACOSX/._index.php; zip -qr source.zip . -x source; mv source.zip source`, sub: func(s *archive.Subject) { s.DocRoots = s.DocRoots[:1] },
		want: []reading{{"a document root", "=public_html,__MACOSX!", false, "", ""}},
	},
	{
		name: "an application with a public directory", make: `f app/composer.json app/artisan app/public/index.php app/vendor/autoload.php app/.env; tar -cf source app`,
		sub:  func(s *archive.Subject) { s.DocRoots = []string{"site/public"}; s.Domains = nil },
		want: []reading{{"a document root", "app=site", false, "", "an application whose document root may be its public directory"}},
	},
	{
		name: "nothing but names that are known to exist", make: `f x/css/a.css x/css/b.css x/img/c.png; tar -cf source x`,
		live: []string{"shop.example/css/a.css", "shop.example/css/b.css", "shop.example/css"},
		want: []reading{{"a document root", "x=shop.example", true, "", `the names in it are those of the document root "shop.example"`}},
	},
	{name: "nothing that is known", make: `f etc/passwd usr/bin/env; tar -cf source etc usr`},
	{
		name: "two accounts in one archive, one of them this", make: `home home/alice; home home/bob; tar -cf source home`,
		want: []reading{
			{"a home directory", "home/alice=", true, "", `the path of the home`},
			{"a home directory", "home/bob=", false, "bob", `the home is in "home/bob"`},
		},
	},
	{
		name: "two accounts in one archive, without this one's name", make: `home bob; home carol; tar -cf source bob carol`,
		want: []reading{
			{"a home directory", "bob=", false, "bob", `the home is in "bob"`},
			{"a home directory", "carol=", false, "carol", `the home is in "carol"`},
		},
	},
	{
		name: "another account's home", make: `home home/bob; tar -cf source home`,
		want: []reading{{"a home directory", "home/bob=", false, "bob", ""}},
	},
	{
		name: "a home that may be another account's", make: `site bob/public_html; tar -cf source bob`,
		want: []reading{{"a home directory", "bob=", false, "", ""}},
	},
	{
		name: "a document root that is another user's", make: `site public_html; tar --owner=bob:1007 --group=bob:1007 -cf source public_html`,
		want: []reading{{"a home directory", "=", false, "", `most of it belongs to "bob" there`}},
	},
	{
		name: "another user's home by its name and owner", make: `home bob; tar --owner=bob:1007 --group=bob:1007 -cf source bob`,
		want: []reading{{"a home directory", "bob=", false, "bob", `most of it belongs to "bob" there`}},
	},
	{
		name: "the account under another name", make: `home home/bob; tar -cf source home`, sub: func(s *archive.Subject) { s.Owner = "bob" },
		want: []reading{{"a home directory", "home/bob=", true, "", `the path of the home: "home/bob"`}},
	},
	{
		name: "the account twice", make: `home daily.0/home/alice; home daily.1/home/alice; tar -cf source daily.0 daily.1`,
		want: []reading{
			{"a home directory", "daily.0/home/alice=", false, "", "it is one of 2 that are as good"},
			{"a home directory", "daily.1/home/alice=", false, "", "it is one of 2 that are as good"},
		},
	},
	{
		name: "a whole server of cPanel", make: `home home/alice; home home/virtfs/alice/home/alice; f var/cpanel/users/alice etc/valiases/alice.example var/www/html/index.html home/bob/.bashrc; tar -cf source home var etc`,
		want: []reading{{"a home directory", "home/alice=", true, "", ""}, {"a home directory", "home/virtfs/alice/home/alice=", false, "", ""}},
	},
	{
		name: "a whole server of DirectAdmin", panel: "directadmin",
		make: `site home/alice/domains/alice.example/public_html; f usr/local/directadmin/data/users/alice/user.conf usr/local/directadmin/data/users/alice/domains/alice.example.conf; tar -cf source home usr`,
		want: []reading{{"a home directory", "home/alice=", true, "", ""}},
	},
	{
		name: "what DirectAdmin knows of the account, and no home", panel: "directadmin",
		make: `f usr/local/directadmin/data/users/alice/user.conf usr/local/directadmin/data/users/alice/domains/alice.example.conf; tar -cf source usr`,
	},
	{
		name: "two sites without a name", make: `site one; site two; tar -cf source one two`, sub: func(s *archive.Subject) { s.DocRoots = s.DocRoots[:1] },
		want: []reading{{"a document root", "one=public_html", false, "", ""}, {"a document root", "two=public_html", false, "", ""}},
	},
	{
		name: "a public_html with pages only below", make: `f public_html/blog/index.php public_html/img/a.png; tar -cf source public_html`, sub: func(s *archive.Subject) { s.DocRoots = []string{"web"} },
		want: []reading{{"a document root", "public_html=web", false, "", `"public_html" has such a name`}},
	},
	{
		name: "a web that holds sites, of domains that are not known", make: `site web/other.example/public_html; f web/other.example/logs/x; tar -cf source web`, sub: func(s *archive.Subject) { s.DocRoots = []string{"site"} },
		want: []reading{{"a document root", "web/other.example/public_html=site", false, "", ""}},
	},
	{
		name: "sites in directories called like the domains", make: `site sites/alice.example; site sites/shop.example/htdocs; site sites/other.example; tar -cf source sites`,
		sub: func(s *archive.Subject) {
			s.DocRoots[1] = "public_html/shop"
			s.Domains["shop.example"] = "public_html/shop"
		},
		want: []reading{{"document roots", "sites/alice.example=public_html,sites/shop.example/htdocs=public_html/shop", true, "", "called like the domain"}},
	},

	// Panels.
	{
		name: "cPanel", make: `home cpmove-alice/homedir; f cpmove-alice/cp/alice cpmove-alice/version cpmove-alice/mysql/alice_wp.sql cpmove-alice/userdata/main; tar -czf source cpmove-alice`,
		want: []reading{{`a cPanel package of "alice"`, "cpmove-alice/homedir=", true, "", `a cPanel package of "alice": its home is "cpmove-alice/homedir"`}},
	},
	{
		name: "cPanel with a homedir.tar", make: `home h; f backup-11.20.2026_02-00-00_alice/cp/alice; tar -C h -cf backup-11.20.2026_02-00-00_alice/homedir.tar .; tar -cf source backup-*`,
		want: []reading{{`a cPanel package of "alice"`, "backup-11.20.2026_02-00-00_alice/homedir=", true, "", ""}},
	},
	{
		name: "cPanel, of which only the beginning is there", make: `home cpmove-alice/homedir; tar -cf source cpmove-alice`,
		want: []reading{{`a cPanel package of "alice"`, "cpmove-alice/homedir=", true, "", ""}},
	},
	{
		name: "another account's cpmove", make: `home cpmove-bob/homedir; f cpmove-bob/cp/bob; tar -cf source cpmove-bob`,
		want: []reading{{`a cPanel package of "bob"`, "cpmove-bob/homedir=", false, "bob", ""}},
	},
	{
		name: "cPanel's backups of a day", make: `for u in alice bob; do home source/accounts/$u/homedir; f source/accounts/$u/cp/$u; done`,
		want: []reading{
			{`a cPanel package of "alice"`, "accounts/alice/homedir=", true, "", ""},
			{`a cPanel package of "bob"`, "accounts/bob/homedir=", false, "bob", ""},
		},
	},
	{
		name: "cPanel, for an account of HestiaCP", panel: "hestia", make: `home cpmove-alice/homedir; f cpmove-alice/cp/alice; tar -cf source cpmove-alice`,
		want: []reading{{`a cPanel package of "alice"`, "cpmove-alice/homedir/public_html=web/alice.example/public_html", true, "", "only document roots are taken"}},
	},
	{
		name: "DirectAdmin", panel: "directadmin",
		make: `mkdir -p backup; echo username=alice >backup/user.conf; f backup/alice.example/domain.conf backup/alice_wp.sql; f h/Maildir/cur/1 h/.shadow
			tar -C h --zstd -cf backup/home.tar.zst .; for d in alice shop; do site domains/$d.example/public_html; done; f imap/alice.example/bob/Maildir/cur/1
			tar --zstd -cf source backup domains imap`,
		want: []reading{{`a DirectAdmin backup of "alice"`, "home=,domains=domains,imap=imap", true, "", `its home is in "home", "domains" and "imap"`}},
	},
	{
		name: "DirectAdmin before, by the customer", panel: "directadmin",
		make: `mkdir backup; echo username=bob >backup/user.conf; f h/Maildir/cur/1; tar -C h -czf home.tar.gz .; site domains/bob.example/public_html
			tar --owner=bob:1007 -czf source backup domains home.tar.gz`,
		want: []reading{{`a DirectAdmin backup of "bob"`, "home=,domains=domains,imap=imap", false, "bob", ""}},
	},
	{
		name: "DirectAdmin, for an account of cPanel", make: `mkdir backup; echo username=alice >backup/user.conf; site domains/alice.example/public_html; tar -cf source backup domains`,
		want: []reading{{`a DirectAdmin backup of "alice"`, "domains/alice.example/public_html=public_html", true, "", "only document roots are taken"}},
	},
	{
		name: "HestiaCP", panel: "hestia",
		make: `site h/public_html; f h/private/key h/stats/x; mkdir -p web/alice.example mail/alice.example user_dir pam; tar -C h -czf web/alice.example/domain_data.tar.gz public_html private stats
			f web/alice.example/conf/nginx.conf web/alice.example/hestia/web.conf hestia/user.conf mail/alice.example/hestia/mail.conf bob/cur/1 .ssh/authorized_keys
			tar -czf mail/alice.example/accounts.tar.gz bob; tar -czf user_dir/.ssh.tar.gz .ssh; echo 'alice:x:1003:1003:Alice:/home/alice:/bin/bash' >pam/passwd
			tar -cf source ./hestia ./pam ./web ./mail ./user_dir`,
		want: []reading{{`a HestiaCP backup of "alice"`, "home=", true, "", `a HestiaCP backup of "alice": its home is "home"`}},
	},
	{
		name: "HestiaCP, for an account of cPanel",
		make: `site public_html; mkdir -p web/shop.example pam; tar -czf web/shop.example/domain_data.tar.gz public_html; f hestia/user.conf web/shop.example/hestia/web.conf
			echo 'alice:x:1003:1003::/home/alice:/bin/bash' >pam/passwd; tar -cf source ./hestia ./pam ./web`,
		want: []reading{{`a HestiaCP backup of "alice"`, "home/web/shop.example/public_html=shop.example", true, "", "only document roots are taken"}},
	},
	{
		name: "Virtualmin", make: `home h; mkdir h/.backup; printf 'dom=alice.example\nuser=alice\n' >h/.backup/alice.example_virtualmin; f h/.backup/alice.example_mysql_wp; tar -C h -czf source .`,
		want: []reading{{`a Virtualmin backup of "alice"`, "=,.backup!", true, "", `its home is its top`}},
	},
	{
		name: "Virtualmin, all in one file", make: `home h; tar -C h -czf alice.example_dir .; printf 'user=alice\n' >alice.example_virtualmin; f alice.example_dns; tar -czf source alice.example_*`,
		want: []reading{{`a Virtualmin backup of "alice"`, "alice.example_dir=", true, "", ""}},
	},
	{
		name: "Plesk", panel: "plesk",
		make: `site h/httpdocs; f h/shop.example/index.html h/logs/x; mkdir -p domains/alice.example; tar -C h --zstd -cf domains/alice.example/backup_user-data_2611200200.tzst httpdocs shop.example logs
			echo '<migration-dump><domain><phosting><sysuser name="alice"></sysuser></phosting></domain></migration-dump>' >domains/alice.example/backup_info_2611200200.xml
			f domains/alice.example/backup_conf_2611200200.tzst backup_info_2611200200.xml dump-index; tar -cf source domains backup_info_2611200200.xml dump-index`,
		want: []reading{{`a Plesk backup of "alice"`, "domains/alice.example/home=", true, "", ""}},
	},
	{
		name: "Plesk's own storage, with another subscription", panel: "plesk",
		make: `site h/httpdocs; for d in alice bob; do p=source/clients/c/domains/$d.example; mkdir -p $p; tar -C h -czf $p/backup_user-data_2611200200.tgz httpdocs; f $p/backup_info_2611200200.xml; done`,
		want: []reading{
			{`a Plesk backup of "alice"`, "clients/c/domains/alice.example/home=", true, "", ""},
			{`a Plesk backup of "bob.example"`, "clients/c/domains/bob.example/home=", false, "bob.example", ""},
		},
	},
	{
		name: "Plesk's export of a domain", panel: "plesk", sub: func(s *archive.Subject) { s.File = "backup_alice.example_2611200200.tar" },
		make: `site h/httpdocs; tar -C h --zstd -cf backup_user-data_2611200200.tzst httpdocs; f backup_info_2611200200.xml; tar -cf source backup_*`,
		want: []reading{{`a Plesk backup of "alice"`, "home=", true, "", ""}},
	},
	{
		name: "ISPConfig", panel: "ispconfig", make: `site web; f private/x cgi-bin/y ssl/z tmp/a; tar -czf source web private cgi-bin ssl tmp`,
		want: []reading{{"an ISPConfig site", "=", true, "", `the document root "web" lies there`}},
	},
	{
		name: "ISPConfig in a zip", panel: "ispconfig", make: `site web; f private/x cgi-bin/y; zip -qr source.zip web private cgi-bin; mv source.zip source`,
		want: []reading{{"an ISPConfig site", "=", true, "", ""}},
	},
	{
		name: "CyberPanel", panel: "cyberpanel",
		make: `site public_html/public_html; f public_html/.bashrc vmail/bob/cur/1; echo '<metaFile><masterDomain>alice.example</masterDomain><externalApp>alice1234</externalApp></metaFile>' >meta.xml; tar -czf source meta.xml public_html vmail`,
		want: []reading{{`a CyberPanel backup of "alice1234"`, "public_html=", true, "", ""}},
	},

	// What a customer put there.
	{
		name: "what looks like a package in a home", make: `home alice; f alice/cp/bob; site alice/homedir/public_html; tar -cf source alice`,
		want: []reading{{"a home directory", "alice=", true, "", ""}},
	},
	{
		name: "what looks like the home in a home", make: `home h; home h/home/alice; home h/alice; tar -C h -cf source .`,
		want: []reading{{"a home directory", "=", true, "", ""}},
	},
	{
		name: "what looks like DirectAdmin in a home", panel: "directadmin", make: `mkdir -p h/backup; echo username=alice >h/backup/user.conf; site h/domains/alice.example/public_html; f h/.bashrc; tar -C h -cf source .`,
		want: []reading{{"a home directory", "=", true, "", ""}},
	},
}

func TestWhatASourceHoldsIsRecognised(t *testing.T) {
	windows := filepath.Join(t.TempDir(), "windows.zip")
	zip := zipOf(rawMember{name: `www\`, attrs: 0x10}, rawMember{name: `www\index.php`, body: "x"}, rawMember{name: `www\wp-config.php`}, rawMember{name: `www\wp-content\themes\gr` + "\x81\xe1" + `.css`})
	if err := os.WriteFile(windows, zip, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, row := range layouts {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			run(t, dir, "umask 022; ZIP="+windows+shell+row.make)
			sub := subject()
			if row.panel != "" {
				sub = onPanel(row.panel)
			}
			if row.sub != nil {
				row.sub(&sub)
			}
			if row.live != nil {
				sub.Exists = func(rel string) bool { return slices.Contains(row.live, rel) }
			}
			var o *archive.Opened
			if text, err := os.ReadFile(filepath.Join(dir, "source")); err == nil {
				o = opened(t, text)
			} else {
				o = openTree(t, filepath.Join(dir, "source"))
			}
			s := survey(t, o)
			if s.Rejects > 0 || s.Cut != nil {
				t.Errorf("rejected %v, cut %v", s.Rejected, s.Cut)
			}
			all, err := s.Candidates(sub)
			if err != nil {
				t.Fatal(err)
			}
			var got, want []string
			for i, c := range all {
				r := readingOf(c)
				got = append(got, r.String())
				if i < len(row.want) && !strings.Contains(r.why, row.want[i].why) {
					t.Errorf("told %q, want %q", r.why, row.want[i].why)
				}
				if c.Certain && (i > 0 || c.Account != "") {
					t.Errorf("certain, as number %d, of %q: %s", i, c.Account, r)
				}
			}
			for _, w := range row.want {
				want = append(want, w.String())
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
