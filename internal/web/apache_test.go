package web

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/tree"

	"github.com/google/go-cmp/cmp"
)

// root builds a server's root out of files and opens it.
func root(t testing.TB, files map[string]string) *tree.Server {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := tree.OpenServer(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func apache(t testing.TB, files map[string]string) *ApacheConfig {
	t.Helper()
	c, err := ReadApache(root(t, files), "/etc/apache2/apache2.conf")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// outline prints directives as "name[args](body)".
func outline(ds []Directive) string {
	var b strings.Builder
	for i, d := range ds {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s%q", d.Name, d.Args)
		if d.Section {
			fmt.Fprintf(&b, "(%s)", outline(d.Body))
		}
	}
	return b.String()
}

func TestLinesAreSplitAsApacheSplitsThem(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"A b c\n", `A["b" "c"]`},
		{"\ufeffA b", `A["b"]`},
		{"  A\tb  \r\n", `A["b"]`},
		{"A \"b c\" 'd \"e' f#g", `A["b c" "d \"e" "f#g"]`},
		{`A "b \"c\" \\ \n"`, `A["b \"c\" \\ \\n"]`},
		{`A b\c d\\e`, `A["b\\c" "d\\e"]`},
		{"A b \\\n  c\nD", `A["b" "c"] D[]`},
		{"A b\\\r\nc\r\n", `A["bc"]`},
		{"# comment \\\nA hidden\nB", `B[]`},
		{"A b # no comment", `A["b" "#" "no" "comment"]`},
		{"<S \"a b\">\nA\n<T>\nB\n</T>\n</s>\nC", `S["a b"](A[] T[](B[])) C[]`},
		{"<If \"1 > 2\">\nA\n</If>", `If["1 > 2"](A[])`},
		{"<S a >\n</S >\nB", `S["a"]() B[]`},
		{"</S>\nA", `A[]`},
		{"<S a>\nA", `S["a"](A[])`},
		{`A "unclosed`, `A["unclosed"]`},
	} {
		ds, _ := ParseApache("f", c.text)
		same(t, fmt.Sprintf("%q", c.text), outline(ds), c.want)
	}
	ds, _ := ParseApache("f", "\n# x\nA b \\\n c\n<S>\nB\n</S>")
	same(t, "lines", []int{ds[0].Line, ds[1].Line, ds[1].Body[0].Line}, []int{3, 5, 6})
}

func TestConditionsIncludesAndVariablesAreDecidedInOrder(t *testing.T) {
	c := apache(t, map[string]string{
		"etc/apache2/envvars":      "export APACHE_RUN_USER=web\n: ${APACHE_RUN_GROUP:=webgrp}\nexport APACHE_RUN_GROUP\nSUFFIX=\nexport APACHE_LOG_DIR=/var/log/apache2$SUFFIX\nexport APACHE_ARGUMENTS=\"-D Flag\"\n",
		"etc/apache2/apache2.conf": "User ${APACHE_RUN_USER}\nGroup ${APACHE_RUN_GROUP}\nErrorLog ${APACHE_LOG_DIR}/error.log\nDefine Base \"/home/alice/my site\"\nInclude mods/*.load\n<IfModule mod_a.c>\nDefine A\n</IfModule>\n<IfModule !a_module>\nInclude /never\n</IfModule>\n<IfDefine FLAG>\nListen 80\n</IfDefine>\n<IfDefine !A>\nListen 81\n</IfDefine>\n<IfModule log_config_module>\nListen 82\n</IfModule>\nIncludeOptional none/*.conf none.conf\nInclude sites/\nUnDefine Base\n<IfDefine Base>\nListen 83\n</IfDefine>\n<IfVersion >= 2.4>\nListen 84\n</IfVersion>\n<IfFile /etc/apache2/envvars>\nListen 85\n</IfFile>\nListen ${NONE}\n",
		"etc/apache2/mods/a.load":  "LoadModule a_module x.so",
		"etc/apache2/mods/.b.load": "LoadModule b_module x.so",
		"etc/apache2/sites/2.conf": "<VirtualHost *:80>\nServerName two.example\n</VirtualHost>",
		"etc/apache2/sites/1/a":    "<VirtualHost *:80>\nServerName One.Example:80\nDocumentRoot \"${Base}/\"\n</VirtualHost>",
	})
	same(t, "user", []string{c.User, c.Group, c.Default.ErrorLog}, []string{"web", "webgrp", "/var/log/apache2/error.log"})
	var ports []string
	for _, l := range c.Listen {
		ports = append(ports, l.Port)
	}
	same(t, "ports", ports, []string{"80", "82", "84", "85", "${NONE}"})
	same(t, "hosts", []string{c.VHosts[0].ServerName, c.VHosts[0].DocRoot, c.VHosts[1].ServerName},
		[]string{"one.example", "/home/alice/my site", "two.example"})
	same(t, "modules", c.Modules, map[string]bool{"a_module": true})
	if len(c.Problems) != 1 || c.Problems[0].Line != 33 || !strings.Contains(c.Problems[0].Msg, "NONE") {
		t.Errorf("problems: %+v", c.Problems)
	}
}

func TestMacrosAreExpanded(t *testing.T) {
	c := apache(t, map[string]string{
		"etc/apache2/apache2.conf": "<Macro VH $name $namedir>\n<VirtualHost *:80>\nServerName $name\nDocumentRoot \"$namedir/www\"\n</VirtualHost>\n</Macro>\nUse VH a.example \"/home/al ice\"\nUse vh b.example /home/bob\nUse VH x\n",
	})
	same(t, "hosts", []string{c.VHosts[0].ServerName, c.VHosts[0].DocRoot, c.VHosts[1].ServerName, c.VHosts[1].DocRoot},
		[]string{"a.example", "/home/al ice/www", "b.example", "/home/bob/www"})
	if len(c.Problems) != 1 {
		t.Errorf("problems: %+v", c.Problems)
	}
}

func TestEndlessConfigurationsEnd(t *testing.T) {
	for name, text := range map[string]string{
		"itself":     "Include apache2.conf\n",
		"directory":  "Include /etc/apache2\nInclude /etc/apache2/*.conf\n",
		"macro":      "<Macro A>\nUse A\nUse A\n</Macro>\nUse A\n",
		"long line":  "A " + strings.Repeat("x", 1<<20) + "\n",
		"nested":     strings.Repeat("<S>\n", 10000),
		"device":     "Include /dev/null/x\nInclude /etc/apache2/fifo\n",
		"big define": "Define A " + strings.Repeat("x", 1000) + "\n" + strings.Repeat("Define A ${A}${A}\n", 30),
	} {
		t.Run(name, func(t *testing.T) {
			c := apache(t, map[string]string{"etc/apache2/apache2.conf": text + "Listen 80\n"})
			if len(c.Problems) == 0 && name != "long line" {
				t.Error("nothing was reported")
			}
		})
	}
}

func TestHostsAreReachedWhereTheServerListens(t *testing.T) {
	for _, c := range []struct {
		listen, vhost string
		want          []string
	}{
		{"Listen 80", "<VirtualHost *:80>", []string{"http://:80"}},
		{"Listen 80\nListen 8080", "<VirtualHost *>", []string{"http://:80", "http://:8080"}},
		{"Listen 127.0.0.1:8080", "<VirtualHost _default_:8080>", []string{"http://127.0.0.1:8080"}},
		{"Listen 80", "<VirtualHost 192.0.2.1:80 [2001:db8::1]:80>", []string{"http://192.0.2.1:80", "http://[2001:db8::1]:80"}},
		{"Listen 80", "<VirtualHost *:81>", nil},
		{"Listen 443 https", "<VirtualHost *:443>\nSSLEngine on", []string{"https://:443"}},
		{"Listen [::]:80", "<VirtualHost *:80>", []string{"http://[::]:80"}},
		{"", "<VirtualHost 192.0.2.1:80>", []string{"http://192.0.2.1:80"}},
	} {
		a := apache(t, map[string]string{"etc/apache2/apache2.conf": c.listen + "\n" + c.vhost + "\n</VirtualHost>\n"})
		same(t, c.listen+" "+c.vhost, a.Reach(&a.VHosts[0]), c.want)
	}
}

func TestPHPRunsAsTheConfigurationSays(t *testing.T) {
	const deb = "LoadModule php_module x\n<FilesMatch \".+\\.ph(?:ar|p|tml)$\">\nSetHandler application/x-httpd-php\n</FilesMatch>\n"
	for _, c := range []struct{ name, server, vhost, kind, backend string }{
		{"nothing", "", "", "none", ""},
		{"mod_php", deb, "", "dso", ""},
		{"mod_php without its module", strings.Replace(deb, "LoadModule", "#", 1), "", "none", ""},
		{"mod_php off", deb, "php_admin_flag engine off", "none", ""},
		{"own pool before mod_php", deb, "<FilesMatch \\.php$>\nSetHandler \"proxy:unix:/var/run/php/alice.sock|fcgi://localhost/\"\n</FilesMatch>", "fpm", "unix:/run/php/alice.sock"},
		{"server's pool", "<FilesMatch \\.php$>\nSetHandler proxy:fcgi://127.0.0.1:9000\n</FilesMatch>\n", "", "fpm", "tcp:127.0.0.1:9000"},
		{"in <If>", "", "<Directory /home/alice/public_html>\n<If \"-f %{REQUEST_FILENAME}\">\nSetHandler proxy:unix:/x|fcgi://y\n</If>\n</Directory>", "fpm", "unix:/x"},
		{"other directory", "", "<Directory /home/alice/public_html2>\n<Files *.php>\nSetHandler proxy:unix:/x|fcgi://y\n</Files>\n</Directory>", "none", ""},
		{"directory before files", "", "<Files *.php>\nSetHandler proxy:unix:/x|fcgi://y\n</Files>\n<Directory />\nSetHandler cgi-script\n</Directory>", "fpm", "unix:/x"},
		{"path", "", "ProxyPassMatch ^/(.*\\.php)$ unix:/run/a.sock|fcgi://x/home/alice/public_html/\nAddHandler cgi-script .php", "fpm", "unix:/run/a.sock"},
		{"fcgid", "", "AddHandler fcgid-script .fcgi .php\nFcgidWrapper /x/php.fcgi .php", "fcgid", ""},
		{"action", "Action php-cgi /cgi-bin/php\n", "AddHandler php-cgi .php", "cgi", ""},
		{"suphp", "", "suPHP_Engine on\nAddHandler x-httpd-php5 .php", "suphp", ""},
		{"static files only", "", "<FilesMatch \\.html$>\nSetHandler proxy:unix:/x|fcgi://y\n</FilesMatch>", "none", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := apache(t, map[string]string{
				"etc/apache2/apache2.conf": c.server + "<VirtualHost *:80>\nDocumentRoot /home/alice/public_html\n" + c.vhost + "\n</VirtualHost>\n",
			})
			h := a.PHP(&a.VHosts[0])
			same(t, "handler", []string{h.Kind, h.Backend}, []string{c.kind, c.backend})
		})
	}
}

func TestPoolsAreRead(t *testing.T) {
	s := root(t, map[string]string{
		"etc/php/8.2/fpm/pool.d/a.conf":                 "\ufeff; comment\r\n[global]\r\npid = /x\r\n[alice]\r\nuser = $pool\r\nuser = alice ; really\r\ngroup= \"webs\"\r\nlisten = /var/run/php/$pool.sock\r\nlisten.mode = 0660\r\nsecurity.limit_extensions = .php .html\r\nphp_admin_value[open_basedir] = /home/alice:/tmp",
		"opt/cpanel/ea-php82/root/etc/php-fpm.d/b.conf": "[b_example]\nuser=bob\nlisten=9001\nchroot=/home/$pool\nnonsense\n[c]\nlisten=[::1]:9002\n",
	})
	pools, problems := ReadPools(s)
	same(t, "pools", pools, []Pool{
		{
			Name: "alice", User: "alice", Group: "webs", Listen: "unix:/run/php/alice.sock", ListenRaw: "/var/run/php/alice.sock", ListenMode: "0660",
			LimitExtensions: []string{".php", ".html"}, OpenBasedir: []string{"/home/alice", "/tmp"}, File: "/etc/php/8.2/fpm/pool.d/a.conf", Line: 4,
		},
		{Name: "b_example", User: "bob", Listen: "tcp:127.0.0.1:9001", ListenRaw: "9001", Chroot: "/home/b_example", File: "/opt/cpanel/ea-php82/root/etc/php-fpm.d/b.conf", Line: 1},
		{Name: "c", Listen: "tcp:127.0.0.1:9002", ListenRaw: "[::1]:9002", File: "/opt/cpanel/ea-php82/root/etc/php-fpm.d/b.conf", Line: 6},
	})
	if len(problems) != 1 || problems[0].Line != 5 {
		t.Errorf("problems: %+v", problems)
	}
	if p, ok := IndexPools(pools).For("unix:/run/php/alice.sock"); !ok || p.Name != "alice" {
		t.Errorf("pool of the socket: %+v", p)
	}
}

func TestASocketOfTwoPoolsIsNeithers(t *testing.T) {
	x := IndexPools([]Pool{{Name: "a", User: "a", Listen: "unix:/s"}, {Name: "b", User: "b", Listen: "unix:/s"}, {Name: "c", User: "a", Listen: "unix:/s"}})
	if p, ok := x.For("unix:/s"); ok {
		t.Errorf("pool %+v", p)
	}
	if _, ok := x.For(""); ok {
		t.Error("a pool without a socket was found")
	}
}

func TestWorkersHoldTheGroupsOfTheirStatus(t *testing.T) {
	id, ok := parseStatus("Name:\tapache2\nUid:\t33\t33\t33\t33\nGid:\t33\t33\t33\t33\nGroups:\t33 2001 2002 \nThreads: 1\n")
	same(t, "identity", id, rightful.Identity{UID: 33, GIDs: []uint32{33, 2001, 2002}})
	if !ok {
		t.Error("not understood")
	}
	if _, ok := parseStatus("Uid:\tx\n"); ok {
		t.Error("a broken status gave an identity")
	}
}

// TestApacheAgreesAboutFilesAndHosts holds the reader against the real server's own dumps.
func TestApacheAgreesAboutFilesAndHosts(t *testing.T) {
	bin, err := exec.LookPath("apache2")
	if err != nil {
		t.Skip("apache2 is not installed")
	}
	dir := t.TempDir()
	write := func(name, text string) {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"logs", "www/a", "www/b b", "www/c"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("apache2.conf", `ServerRoot "`+dir+`"
Mutex file:`+dir+` default
PidFile `+dir+`/pid
Define WWW `+dir+`/www
ServerName main.example
Listen 127.0.0.1:8181
Listen 127.0.0.1:8182
User nobody
IncludeOptional mods/*.load
Include sites
IncludeOptional missing/*.conf
<IfModule !mod_version.c>
	Include mods/extra
</IfModule>
<IfModule mod_alias.c>
	IncludeOptional alias/[!x]*.conf
</IfModule>
`)
	write("envvars", "export LANG=C\n")
	write("mods/mpm.load", "LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so\nLoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so\n")
	write("mods/alias.load", "LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so\n")
	write("mods/extra", "Listen 1\n")
	write("sites/20", "<VirtualHost *:8181>\n ServerName a.example\n ServerAlias www.a.example \\\n   *.a.example\n DocumentRoot ${WWW}/a\n</VirtualHost>\n")
	write("sites/10/z", "<VirtualHost 127.0.0.1:8182>\n ServerName \"b.example\"\n DocumentRoot \"${WWW}/b b\"\n</VirtualHost>\n<IfDefine WWW>\n<VirtualHost *:8181>\nServerName c.example:8181\nDocumentRoot www/c/\n</VirtualHost>\n</IfDefine>")
	write("alias/a.conf", "# comment \\\n<VirtualHost *:1>\nAlias /x \"${WWW}/a\"\n")
	write("alias/x.conf", "Bogus\n")
	run := func(what string) string {
		cmd := exec.Command(bin, "-d", dir, "-f", dir+"/apache2.conf", "-t", "-D", what)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("apache2 -D %s: %v: %s", what, err, out)
		}
		return string(bytes.TrimSpace(out))
	}

	s, err := tree.OpenServer("/")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := ReadApache(s, dir+"/apache2.conf")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Problems) > 0 {
		t.Errorf("problems: %+v", c.Problems)
	}
	var files []string
	for _, m := range regexp.MustCompile(`(?m)^\s*\(\S+\) (.*)$`).FindAllStringSubmatch(run("DUMP_INCLUDES"), -1) {
		files = append(files, m[1])
	}
	same(t, "files", slices.DeleteFunc(slices.Clone(c.Files), func(f string) bool { return f == dir+"/envvars" }), files)

	dump := run("DUMP_VHOSTS")
	var want []string
	for _, m := range regexp.MustCompile(`(\S+) \((/[^\n]*):(\d+)\)`).FindAllStringSubmatch(dump, -1) {
		want = append(want, fmt.Sprintf("%s %s:%s", m[1], m[2], m[3]))
	}
	slices.Sort(want)
	want = slices.Compact(want)
	var got []string
	for _, v := range c.VHosts {
		got = append(got, fmt.Sprintf("%s %s:%d", v.ServerName, v.File, v.Line))
	}
	slices.Sort(got)
	for _, g := range got {
		if !slices.Contains(want, g) {
			t.Errorf("apache2 knows no %q:\n%s", g, dump)
		}
	}
	for _, v := range c.VHosts {
		for _, a := range v.Aliases {
			if !strings.Contains(dump, a) {
				t.Errorf("apache2 knows no alias %q:\n%s", a, dump)
			}
		}
		if st, err := os.Stat(v.DocRoot); err != nil || !st.IsDir() {
			t.Errorf("document root %q: %v", v.DocRoot, err)
		}
	}
	if len(got) != 3 {
		t.Errorf("%d virtual hosts, there are 3", len(got))
	}
	chosen(t, c, dump)
}

// chosen holds the choice of a virtual host by name and port to what apache2 lists: the default of each port, and every
// name.
func chosen(t *testing.T, c *ApacheConfig, dump string) {
	t.Helper()
	hold := func(port, name, at string) {
		t.Helper()
		if v, why := c.Choose("", port, name); fmt.Sprintf("%s:%d", v.File, v.Line) != at {
			t.Errorf("port %s, name %s: %s:%d (%s), and apache2 says %s:\n%s", port, name, v.File, v.Line, why, at, dump)
		}
	}
	port, at, asked := "", "", 0
	for line := range strings.Lines(dump) {
		if m := regexp.MustCompile(`^\S*:(\d+|\*)\s+(?:is a NameVirtualHost|(\S+) \((/.*:\d+)\))`).FindStringSubmatch(line); m != nil {
			if port = m[1]; m[3] != "" && port != "*" {
				hold(port, "nobody.invalid", m[3])
				asked++
			}
		}
		if m := regexp.MustCompile(`default server \S+ \((/.*:\d+)\)`).FindStringSubmatch(line); m != nil && port != "*" {
			hold(port, "nobody.invalid", m[1])
			asked++
		}
		if m := regexp.MustCompile(`port (\d+) namevhost (\S+) \((/.*:\d+)\)`).FindStringSubmatch(line); m != nil {
			at = m[3]
			hold(m[1], m[2], at)
			asked++
		}
		if m := regexp.MustCompile(`^\s+(?:wild )?alias (\S+)`).FindStringSubmatch(line); m != nil && at != "" && port != "*" {
			hold(port, strings.ReplaceAll(m[1], "*", "any"), at)
			asked++
		}
	}
	if asked < 3 {
		t.Errorf("apache2 says only %d things about its virtual hosts:\n%s", asked, dump)
	}
}

func FuzzApache(f *testing.F) {
	for _, s := range []string{
		"User a\nGroup b\nListen 80\n<VirtualHost *:80>\nServerName x\nDocumentRoot /home/a\nSetHandler proxy:unix:/a|fcgi://b\n</VirtualHost>",
		"Include *\nInclude /etc/apache2\n<Macro a $b>\nUse a $b\n</Macro>\nUse a c", "Define a ${a}${b}\n<IfVersion ~ (>", "\"\\", "<", "</", "<>", "<S\n</", "Listen [", "VirtualHost [::]:",
		"<VirtualHost [>\n<Directory ~ (>\n</Directory>\n</VirtualHost>", "\ufeffA \\",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := apache(t, map[string]string{"etc/apache2/apache2.conf": text})
		for i := range c.VHosts {
			c.Reach(&c.VHosts[i])
			c.PHP(&c.VHosts[i])
		}
	})
}

func FuzzPools(f *testing.F) {
	f.Add("[a]\nuser=b\nlisten = /x\n[")
	f.Add("[]\n=\nuser='\nlisten=[\nlisten=:")
	f.Fuzz(func(t *testing.T, text string) {
		pools, _ := ParsePools("f", text)
		IndexPools(pools)
	})
}

func FuzzEnvvars(f *testing.F) {
	f.Add("export A=b\n: ${C:=$A}\nD=\"${A:-x}\"\nE='$A'\nF=`x`")
	f.Fuzz(func(t *testing.T, text string) { readShellVars(text, map[string]string{}) })
}
