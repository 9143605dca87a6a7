package panel

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/tree"

	"github.com/google/go-cmp/cmp"
)

// files is a server's files by path; a path that ends in "/" is a directory, a value that begins with "-> " a link.
type files map[string]string

// server builds the files in a directory and opens it as a server's root.
func server(t testing.TB, sets ...files) *tree.Server {
	t.Helper()
	dir := t.TempDir()
	for _, fs := range sets {
		for name, text := range fs {
			p := filepath.Join(dir, name)
			if strings.HasSuffix(name, "/") {
				if err := os.MkdirAll(p, 0o755); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				t.Fatal(err)
			}
			os.Remove(p)
			var err error
			if target, ok := strings.CutPrefix(text, "-> "); ok {
				err = os.Symlink(target, p)
			} else {
				err = os.WriteFile(p, []byte(text), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	s, err := tree.OpenServer(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func read(t testing.TB, s *tree.Server) *Server {
	t.Helper()
	srv, err := Read(s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return srv
}

// problems lists the issues as "problem account file:line".
func problems(s *Server) []string {
	out := []string{}
	for _, i := range s.Issues {
		out = append(out, fmt.Sprintf("%s %s %s:%d", i.Problem, i.Account, i.File, i.Line))
	}
	return out
}

func names(s *Server) []string {
	out := []string{}
	for _, a := range s.Accounts {
		out = append(out, a.Name)
	}
	return out
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// account finds one account or fails.
func account(t *testing.T, s *Server, name string) *Account {
	t.Helper()
	a, ok := s.Account(name)
	if !ok {
		t.Fatalf("no account %q among %q; issues %q", name, names(s), s.Issues)
	}
	return a
}

// sites gives "name docroot domains handler:uid" of each site.
func sites(a *Account) []string {
	out := []string{}
	for _, s := range a.Sites {
		out = append(out, fmt.Sprintf("%s %s [%s] %s:%d", s.Name, s.DocRoot, strings.Join(s.Domains, " "), s.PHP.Handler, s.PHP.UID))
	}
	return out
}

const passwdBase = "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33::/var/www:/usr/sbin/nologin\nnobody:x:99:99::/:/sbin/nologin\nalice:x:20001:20001::/home/alice:/bin/sh\nbob:x:20002:20002::/home2/bob:/bin/sh\nbobby:x:20003:20003::/home/bobby:/bin/sh\nftpish:x:20009:20009::/home/alice2:/bin/false\n"

const groupBase = "root:x:0:\nwww-data:x:33:\nnobody:x:99:\nmail:x:12:alice,nobody\nalice:x:20001:\nbob:x:20002:\nbobby:x:20003:\n"

// cpanel is a server with alice (main, addon outside public_html with a blank, parked), bob on /home2, and bobby.
func cpanelFiles() files {
	return files{
		"etc/passwd":              passwdBase,
		"etc/group":               groupBase,
		"etc/nsswitch.conf":       "passwd: files systemd\n",
		"etc/trueuserdomains":     "\ufeffa.example: alice\r\naa.example: bob\r\nbobby.example: bobby",
		"var/cpanel/users/alice":  "USER=alice\nDNS=a.example\nDNS1=shop.example\n",
		"var/cpanel/users/bob":    "USER=bob\nDNS=aa.example\n",
		"var/cpanel/users/bobby":  "USER=bobby\nDNS=bobby.example\n",
		"var/cpanel/users/system": "",
		"var/cpanel/fileprotect":  "",
		"etc/cpanel/ea4/php.conf": "---\ndefault: ea-php82\nea-php82: suphp\nea-php74: cgi\n",
		"etc/userdatadomains": "a.example: alice==root==main==a.example==/home/alice/public_html==192.0.2.10:80==192.0.2.10:443====0==ea-php82\r\n" +
			"shop.example: alice==root==addon==shop.a.example==/home/alice/My Shop==192.0.2.10:80======0==ea-php82\r\n" +
			"shop.a.example: alice==root==sub==a.example==/home/alice/My Shop==192.0.2.10:80======0==ea-php82\r\n" +
			"blog.a.example: alice==root==sub==a.example==/srv/blogs/alice==192.0.2.10:80======0==ea-php74\r\n" +
			"old.example: alice==root==parked==a.example==/home/alice/public_html==192.0.2.10:80======0==ea-php82\r\n" +
			"aa.example: bob==root==main==aa.example==/home2/bob/public_html==192.0.2.10:80======0==\r\n" +
			"bobby.example: bobby==root==main==bobby.example==/home/bobby/sites/main/public_html==192.0.2.10:80======0==ea-php82\r\n" +
			"*: nobody==root==main==x==/home/none==192.0.2.10:80======0==",
		"var/cpanel/userdata/alice/main":                        "---\nmain_domain: a.example\nparked_domains:\n  - old.example\n  - older.example\nsub_domains: [blog.a.example, shop.a.example]\naddon_domains:\n  shop.example: shop.a.example\n",
		"var/cpanel/userdata/alice/a.example":                   "---\ndocumentroot: /home/alice/public_html\nserveralias: mail.a.example www.a.example\nscriptalias:\n  - path: /home/alice/public_html/cgi-bin\n    url: /cgi-bin/\n",
		"var/cpanel/userdata/alice/a.example.php-fpm.yaml":      "---\n_is_present: 1\n",
		"var/cpanel/userdata/alice/shop.a.example":              "---\ndocumentroot: /home/alice/My Shop\nserveralias: shop.example www.shop.example\n",
		"var/cpanel/userdata/alice/shop.a.example.php-fpm.yaml": "---\n_is_present: 0\n",
		"home/alice/": "", "home2/bob/": "", "home/bobby/": "",
	}
}

func TestCPanelAccountsAreWhatAllFilesAgreeOn(t *testing.T) {
	s := read(t, server(t, cpanelFiles()))
	want(t, "panels", s.Panels, []string{"cpanel"})
	want(t, "accounts", names(s), []string{"alice", "bob", "bobby"})
	want(t, "issues", problems(s), []string{})
	want(t, "facts", s.Facts, map[string]bool{"fileprotect": true})
	want(t, "web", s.Web, rightful.Identity{UID: 99, GIDs: []uint32{99, 12}})
	alice := account(t, s, "alice")
	want(t, "alice's sites", sites(alice), []string{
		"a.example /home/alice/public_html [a.example mail.a.example old.example older.example www.a.example] fpm:20001",
		"shop.a.example /home/alice/My Shop [shop.a.example shop.example www.shop.example] suphp:20001",
		"blog.a.example /srv/blogs/alice [blog.a.example] cgi:20001",
	})
	want(t, "listen", alice.Sites[0].Listen, []string{"http://192.0.2.10:80", "https://192.0.2.10:443"})
	want(t, "cgi", alice.Sites[0].CGI, []string{"/home/alice/public_html/cgi-bin"})
	want(t, "PHP's groups", alice.Sites[0].PHP.GIDs, []uint32{20001, 12})
	want(t, "alice's directories", alice.DirsNamed, []string{"/home/alice", "/home/alice/My Shop", "/home/alice/public_html", "/srv/blogs/alice"})
	want(t, "bob's home", account(t, s, "bob").Home, "/home2/bob")
	want(t, "bobby's directories", account(t, s, "bobby").DirsNamed,
		[]string{"/home/bobby", "/home/bobby/sites", "/home/bobby/sites/main", "/home/bobby/sites/main/public_html"})
}

func TestCPanelWithoutTheListReadsUserdata(t *testing.T) {
	fs := cpanelFiles()
	delete(fs, "etc/userdatadomains")
	fs["var/cpanel/userdata/alice/blog.a.example"] = "---\ndocumentroot: /srv/blogs/alice\nip: 192.0.2.10\nport: 80\nphpversion: ea-php74\n"
	s := read(t, server(t, fs))
	want(t, "alice's sites", sites(account(t, s, "alice")), []string{
		"a.example /home/alice/public_html [a.example mail.a.example old.example older.example www.a.example] fpm:20001",
		"shop.a.example /home/alice/My Shop [shop.a.example shop.example www.shop.example] suphp:20001",
		"blog.a.example /srv/blogs/alice [blog.a.example] cgi:20001",
	})
	want(t, "issues", problems(s), []string{"unreadable bob /etc/userdatadomains:0", "unreadable bobby /etc/userdatadomains:0"})
}

func TestCPanelLeftoversAreReportedAndNoAccounts(t *testing.T) {
	fs := cpanelFiles()
	fs["etc/trueuserdomains"] += "\ngone.example: gone\nghost.example: ghost\nbroken line\n"
	fs["var/cpanel/users/gone"] = "USER=gone\n"
	fs["var/cpanel/users/terminated"] = "USER=terminated\n"
	fs["etc/userdatadomains"] = strings.ReplaceAll(fs["etc/userdatadomains"], "*: nobody", "t.example: terminated==root==main==t.example==/home/t/public_html\nshort: alice==x\n*: nobody")
	s := read(t, server(t, fs))
	want(t, "accounts", names(s), []string{"alice", "bob", "bobby"})
	want(t, "issues", problems(s), []string{
		"no-user gone /etc/trueuserdomains:4",
		"leftover ghost /etc/trueuserdomains:5",
		"syntax  /etc/trueuserdomains:6",
		"leftover terminated /etc/userdatadomains:8",
		"syntax  /etc/userdatadomains:9",
		"leftover terminated /var/cpanel/users/terminated:0",
	})
}

func TestSuspendedAccountsSaySo(t *testing.T) {
	fs := cpanelFiles()
	fs["var/cpanel/suspended/bob"] = ""
	s := read(t, server(t, fs))
	if !account(t, s, "bob").Suspended || account(t, s, "bobby").Suspended {
		t.Error("bob is suspended, bobby is not")
	}
}

func TestContestedDocumentRootsAreNobodys(t *testing.T) {
	fs := cpanelFiles()
	fs["etc/userdatadomains"] += "\nboth1.example: alice==root==sub==a.example==/srv/both==192.0.2.10:80======0==ea-php82\n" +
		"both2.example: bob==root==sub==aa.example==/srv/both/==192.0.2.10:80======0==ea-php82\n" +
		"in.example: bob==root==sub==aa.example==/home/alice/public_html/in==192.0.2.10:80======0==ea-php82\n" +
		"sys.example: bob==root==sub==aa.example==/home==192.0.2.10:80======0==ea-php82\n"
	s := read(t, server(t, fs))
	want(t, "issues", problems(s), []string{
		"shared-docroot alice /etc/userdatadomains:9",
		"shared-docroot bob /etc/userdatadomains:10",
		"docroot-inside bob /etc/userdatadomains:11",
		"bad-docroot bob /etc/userdatadomains:12",
	})
	for _, a := range s.Accounts {
		for _, site := range a.Sites {
			if slices.Contains([]string{"both1.example", "both2.example", "in.example", "sys.example"}, site.Name) {
				t.Errorf("account %q kept site %q", a.Name, site.Name)
			}
		}
	}
	if len(account(t, s, "alice").Sites) != 3 {
		t.Errorf("alice lost sites that nobody contests: %q", sites(account(t, s, "alice")))
	}
}

func TestHomesOfTheSystemOrOfOthersAreRefused(t *testing.T) {
	for _, c := range []struct {
		name, alice, bob string // homes
		accounts, issues []string
	}{
		{"root", "/", "/home2/bob", []string{"bob", "bobby"}, []string{"bad-home alice"}},
		{"shared", "/home/", "/home2", []string{"bobby"}, []string{"bad-home alice", "bad-home bob"}},
		{"system", "/etc/alice", "/var/lib/bob", []string{"bobby"}, []string{"bad-home alice", "bad-home bob"}},
		{"missing", "", "home/bob", []string{"bobby"}, []string{"no-home alice", "bad-home bob"}},
		{"dots", "/home/x/../alice", "/home2/bob", []string{"bob", "bobby"}, []string{"bad-home alice"}},
		{"same", "/home/alice", "/home/alice/", []string{"bobby"}, []string{"home-overlap alice", "home-overlap bob"}},
		{"inside", "/home/alice", "/home/alice/bob", []string{"bobby"}, []string{"home-overlap alice", "home-overlap bob"}},
		{"prefix", "/home/bob", "/home/bobb", []string{"alice", "bob", "bobby"}, nil},
		{"many", "/home/x", "/home/x/bob", []string{"bob", "bobby"}, []string{"bad-home alice"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := cpanelFiles()
			bobby := "/home/bobby"
			if c.name == "many" {
				bobby = "/home/x/bobby"
			}
			fs["etc/passwd"] = fmt.Sprintf("alice:x:20001:20001::%s:\nbob:x:20002:20002::%s:\nbobby:x:20003:20003::%s:\nnobody:x:99:99::/:\n", c.alice, c.bob, bobby)
			delete(fs, "etc/userdatadomains")
			delete(fs, "var/cpanel/userdata/alice/main")
			s := read(t, server(t, fs))
			want(t, "accounts", names(s), c.accounts)
			var got []string
			for _, i := range s.Issues {
				if i.Problem != Unreadable {
					got = append(got, i.Problem+" "+i.Account)
				}
			}
			want(t, "issues", got, c.issues)
		})
	}
}

func TestSystemUidsAreNoAccounts(t *testing.T) {
	fs := cpanelFiles()
	fs["etc/login.defs"] = "UID_MIN 500\n"
	fs["etc/passwd"] = "alice:x:0:0::/home/alice:\nbob:x:499:499::/home2/bob:\nbobby:x:500:500::/home/bobby:\nnobody:x:99:99::/:\n"
	s := read(t, server(t, fs))
	want(t, "accounts", names(s), []string{"bobby"})
	want(t, "least uid", s.Users.UIDMin, uint32(500))
}

func TestAServerWithoutPasswdCannotBeRead(t *testing.T) {
	if _, err := Read(server(t, files{"etc/group": groupBase}), Options{}); err == nil {
		t.Error("no error without passwd")
	}
}

func TestCPanelsNestedUserdataIsReadToo(t *testing.T) {
	fs := cpanelFiles()
	flat := read(t, server(t, fs))
	for name, text := range cpanelFiles() {
		if rest, ok := strings.CutPrefix(name, "var/cpanel/userdata/alice/"); ok {
			delete(fs, name)
			fs["var/cpanel/userdata/alice/web/"+rest] = text
		}
	}
	fs["var/cpanel/userdata/alice/other/x"] = ""
	nested := read(t, server(t, fs))
	want(t, "issues", problems(nested), []string{})
	want(t, "alice's sites", sites(account(t, nested, "alice")), sites(account(t, flat, "alice")))
	delete(fs, "etc/userdatadomains")
	if got := sites(account(t, read(t, server(t, fs)), "alice")); len(got) != 2 {
		t.Errorf("from nested userdata alone: %q", got)
	}
}
