package web

import (
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"
)

// The virtual hosts of the experiments that the table below was observed on: real Apache 2.4 with event, prefork, mpm_itk,
// mod_ruid2 and mod_suphp, as www-data.
const verdictConf = `
LoadModule alias_module x
LoadModule dir_module x
LoadModule autoindex_module x
LoadModule authz_core_module x
LoadModule authz_host_module x
LoadModule authn_file_module x
LoadModule authn_core_module x
LoadModule auth_basic_module x
LoadModule access_compat_module x
LoadModule rewrite_module x
LoadModule mime_module x
LoadModule cgid_module x
LoadModule proxy_fcgi_module x
LoadModule proxy_module x
LoadModule fcgid_module x
LoadModule suexec_module x
User www-data
Group www-data
DirectoryIndex index.html index.php
<Directory "/">
	Options FollowSymLinks
	AllowOverride None
</Directory>
<FilesMatch "^\.ht">
	Require all denied
</FilesMatch>
`

// hosts has the body of each virtual host: OPTIONS/ALLOWOVERRIDE of the document root and more.
var hosts = map[string]string{
	"std":        dirConf("FollowSymLinks", "All"),
	"rootover":   "<Directory />\nAllowOverride All\n</Directory>\n" + dirConf("FollowSymLinks", "All"),
	"none":       dirConf("FollowSymLinks", "None"),
	"idx":        dirConf("FollowSymLinks Indexes", "All"),
	"noneidx":    dirConf("FollowSymLinks Indexes", "None"),
	"sio":        dirConf("SymLinksIfOwnerMatch", "None"),
	"sioover":    dirConf("SymLinksIfOwnerMatch", "All"),
	"both":       dirConf("FollowSymLinks SymLinksIfOwnerMatch", "None"),
	"nosym":      dirConf("None", "None"),
	"nosymover":  dirConf("None", "All"),
	"deny":       dirConf("FollowSymLinks", "All\nRequire all denied"),
	"denycompat": dirConf("FollowSymLinks", "All\nOrder allow,deny\nDeny from all"),
	"rw":         dirConf("FollowSymLinks", "All") + "RewriteEngine On\nRewriteRule ^/ok - [F]\n",
	"ovrfi":      dirConf("FollowSymLinks", "FileInfo AuthConfig"),
	"ovrnf":      dirConf("FollowSymLinks", "FileInfo Nonfatal=Override"),
	"ovrlist":    dirConf("FollowSymLinks", "None\nAllowOverrideList Redirect"),
	"optix":      dirConf("FollowSymLinks", "Options=Indexes,MultiViews"),
	"fpmh":       dirConf("FollowSymLinks", "All") + fpmHandler("alice"),
	"fpmhif":     dirConf("FollowSymLinks", "All") + "<FilesMatch \\.php$>\n<If \"-f %{REQUEST_FILENAME}\">\nSetHandler \"proxy:unix:/run/php/alice.sock|fcgi://localhost\"\n</If>\n</FilesMatch>\n",
	"fpmm":       dirConf("FollowSymLinks", "All") + "ProxyPassMatch ^/(.*\\.(?:php|phtml))$ unix:/run/php/alice.sock|fcgi://localhost/home/alice/public_html/$1\n",
	"fpmlock":    dirConf("FollowSymLinks", "All") + fpmHandler("locked"),
	"fpmgrp":     dirConf("FollowSymLinks", "All") + fpmHandler("grp"),
	"cgi":        dirConf("FollowSymLinks ExecCGI", "All") + "AddHandler cgi-script .cgi\n",
	"nocgi":      dirConf("FollowSymLinks", "All") + "AddHandler cgi-script .cgi\n",
	"sux":        dirConf("FollowSymLinks ExecCGI", "All") + "AddHandler cgi-script .cgi\nSuexecUserGroup alice alice\n",
	"suxwww":     dirConf("FollowSymLinks ExecCGI", "All") + "AddHandler cgi-script .cgi\nSuexecUserGroup www-data www-data\n",
	"suxbob":     dirConf("FollowSymLinks ExecCGI", "All") + "AddHandler cgi-script .cgi\nSuexecUserGroup bob bob\n",
	"fcgid":      dirConf("FollowSymLinks ExecCGI", "All") + "SuexecUserGroup alice alice\nFcgidWrapper /home/alice/fcgi/php-fcgi .php\nAddHandler fcgid-script .php\n",
	"fcgidnox":   dirConf("FollowSymLinks", "All") + "SuexecUserGroup alice alice\nFcgidWrapper /home/alice/fcgi/php-fcgi .php\nAddHandler fcgid-script .php\n",
	"php":        dirConf("FollowSymLinks", "All") + "AddType application/x-httpd-php .php\nphp_admin_flag display_errors off\n",
	"phpde":      dirConf("FollowSymLinks", "All") + "AddType application/x-httpd-php .php\nphp_admin_flag display_errors on\n",
	"itk":        dirConf("FollowSymLinks", "All") + "AssignUserID alice alice\nAddType application/x-httpd-php .php\nphp_admin_flag display_errors off\n",
	"ruid2":      dirConf("FollowSymLinks", "All") + "RMode config\nRUidGid alice alice\n",
	"ruid2stat":  dirConf("FollowSymLinks", "All") + "RMode stat\n",
	"suphp":      dirConf("FollowSymLinks", "All") + "suPHP_Engine on\nAddHandler x-httpd-php .php\n",
}

func dirConf(options, override string) string {
	return "DocumentRoot /home/alice/public_html\n<Directory /home/alice/public_html>\nOptions " + options + "\nAllowOverride " + override + "\n</Directory>\n"
}

func fpmHandler(pool string) string {
	return "<FilesMatch \\.(php|phtml)$>\nSetHandler \"proxy:unix:/run/php/" + pool + ".sock|fcgi://localhost\"\n</FilesMatch>\n"
}

// modules are those that a host needs besides.
var hostModules = map[string]string{
	"php": "php_module", "phpde": "php_module", "itk": "mpm_itk_module", "ruid2": "ruid2_module", "ruid2stat": "ruid2_module", "suphp": "suphp_module",
}

const verdictTree = `
	d 0755 0:0 etc
	d 0755 0:0 etc/apache2
	d 0755 0:0 run
	d 0755 0:0 run/php
	s 0666 0:0 run/php/alice.sock
	s 0600 0:0 run/php/locked.sock
	s 0666 0:0 run/php/grp.sock
	d 0755 0:0 home
	d 0711 2001:2001 home/alice
	d 0755 2001:2001 home/alice/public_html
	f 0644 2001:2001 home/alice/public_html/ok.html
	f 0644 2001:2001 home/alice/public_html/ok.php
	f 0600 2001:2001 home/alice/public_html/f0600.html
	f 0755 2001:2001 home/alice/public_html/ok.cgi = "#!/bin/sh\n"
	d 0755 2001:2001 home/alice/public_html/sub
	f 0644 2001:2001 home/alice/public_html/sub/ok.html
	d 0755 2001:2001 home/alice/public_html/noidx
	d 0755 2001:2001 home/alice/fcgi
	f 0755 2001:2001 home/alice/fcgi/php-fcgi = "#!/bin/sh\n"
	d 0711 2002:2002 home/bob
	d 0755 2002:2002 home/bob/public_html
	f 0644 2002:2002 home/bob/public_html/b.html
	f 0644 2002:2002 home/bob/public_html/b.php`

// verdictHost builds the server with a change on top and gives one of its hosts.
func verdictHost(t *testing.T, host, change string) (*ApacheHost, *tree.Server) {
	t.Helper()
	dir := t.TempDir()
	conf := verdictConf
	if m := hostModules[host]; m != "" {
		conf += "LoadModule " + m + " x\n"
		if host == "itk" {
			conf += "LoadModule php_module x\n"
		}
	}
	body, ok := hosts[host]
	if !ok {
		t.Fatalf("no host %q", host)
	}
	conf += "<VirtualHost *:80>\nServerName " + host + ".test\n" + body + "</VirtualHost>\n"
	change = strings.NewReplacer("$D", "home/alice/public_html", "$HB", "home/bob", "$H", "home/alice").Replace(change)
	treetest.Build(t, dir, verdictTree+fmt.Sprintf("\nf 0644 0:0 etc/apache2/apache2.conf = %q\n", conf)+strings.ReplaceAll(change, ";", "\n"))
	s, err := tree.OpenServer(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	c, err := ReadApache(s, "/etc/apache2/apache2.conf")
	if err != nil {
		t.Fatal(err)
	}
	www := rightful.Identity{UID: 33, GIDs: []uint32{33}}
	alice := rightful.Identity{UID: 2001, GIDs: []uint32{2001}}
	hc := ApacheHostConfig{Server: s, Config: c, VHost: &c.VHosts[0], DocRoot: c.VHosts[0].DocRoot, Web: www, Workers: www, CGI: www}
	switch host {
	case "itk":
		hc.Web = alice
	case "ruid2":
		hc.Web = rightful.Identity{UID: 2001, GIDs: []uint32{2001, 33}}
	case "sux", "fcgid", "fcgidnox", "suphp":
		hc.CGI = alice
	case "suxbob":
		hc.CGI = rightful.Identity{UID: 2002, GIDs: []uint32{2002}}
	}
	hc.Pool = func(b string) (*Pool, rightful.Identity, bool) {
		p := &Pool{Listen: b}
		if strings.HasSuffix(b, "grp.sock") {
			return p, rightful.Identity{UID: 2001, GIDs: []uint32{33}}, true
		}
		return p, alice, true
	}
	return NewApacheHost(hc), s
}

// The table of experiments: every row was observed on a real server.
func TestApacheAnswersAsObserved(t *testing.T) {
	treetest.NeedRoot(t)
	text, err := os.ReadFile("testdata/apache-verdicts.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, " | ")
		if len(f) != 5 {
			f = strings.Split(strings.ReplaceAll(line, "| |", "|  |"), " | ")
		}
		if len(f) != 5 {
			t.Fatalf("row %q has %d columns", line, len(f))
		}
		for i := range f {
			f[i] = strings.TrimSpace(f[i])
		}
		t.Run(f[0]+" "+f[1]+" "+f[3], func(t *testing.T) {
			h, s := verdictHost(t, f[1], f[2])
			request, err := url.PathUnescape(f[3])
			if err != nil {
				t.Fatal(err)
			}
			v := Ask(h, s, h.DocRoot, request)
			got := verdictText(v)
			if want := strings.Join(strings.Fields(f[4]), " "); got != want {
				t.Errorf("%q is answered\n%s (%s), want\n%s", request, got, v.Why, want)
			}
			if v.Cause.Fault() && v.Why == "" {
				t.Errorf("a fault without a word why")
			}
		})
	}
}

// verdictText is a verdict in the form of the table.
func verdictText(v Verdict) string {
	if !v.Certain {
		return "?"
	}
	out := fmt.Sprint(v.Status)
	if v.App {
		out += " app"
	}
	if v.Code != "" {
		out += " " + v.Code
	}
	if v.Culprit != "" {
		c := strings.TrimPrefix(v.Culprit, "/")
		for _, r := range [...][2]string{{"home/alice/public_html", "$D"}, {"home/alice", "$H"}, {"home/bob", "$HB"}} {
			if rest, ok := strings.CutPrefix(c, r[0]); ok {
				c = r[1] + rest
				break
			}
		}
		out += " " + strings.ReplaceAll(c, "\x01", "%01")
	}
	return out
}

// A file that is simply served costs no allocation, static or by PHP.
func TestAVerdictThatServesAllocatesNothing(t *testing.T) {
	treetest.NeedRoot(t)
	h, s := verdictHost(t, "fpmh", "")
	in := ViewOf(s, h.DocRoot)
	scope := h.Root(in)
	for _, name := range []string{"ok.html", "ok.php", "a.b.jpg"} {
		name := []byte(name)
		n := Node{rightful.KindFile, rightful.Meta{UID: 2001, GID: 2001, Mode: 0o644}}
		if v := scope.File(name, n, in); !v.Served() {
			t.Fatalf("%s is answered %s", name, verdictText(v))
		}
		if n := testing.AllocsPerRun(100, func() { scope.File(name, n, in) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// Scopes of two states of the world are the same exactly where nothing differs that a verdict could come from.
func TestScopesAreTheSameWhereNothingDiffers(t *testing.T) {
	treetest.NeedRoot(t)
	h, s := verdictHost(t, "fpmh", "")
	in := ViewOf(s, h.DocRoot)
	a, b := h.Root(in), h.Root(in)
	if !a.Same(b) {
		t.Error("two roots of the same world differ")
	}
	open, shut := rightful.Meta{UID: 2001, GID: 2001, Mode: 0o755}, rightful.Meta{UID: 2001, GID: 2001, Mode: 0o700}
	sub := ViewOf(s, h.DocRoot+"/sub")
	if !a.Dir("sub", open, sub).Same(b.Dir("sub", open, sub)) || a.Dir("sub", open, sub).Same(b.Dir("sub", shut, sub)) {
		t.Error("a directory that is shut is taken for one that is open")
	}
}

// What a pattern of <FilesMatch> says is decided by comparing where that is possible, and the same as by the expression.
func TestPatternsOfNamesMeanWhatTheirExpressionsDo(t *testing.T) {
	names := []string{"", "a", ".htaccess", "x.php", "x.PHP", "x.php5", "php", "x.phtml", ".php", "x.php\n", "xphp", "index.html", "a.tar.gz", "x.inc", "wp-config.php", ".ht", "é.php", "\xff.php"}
	for _, p := range []string{
		`\.php$`, `php$`, `^\.ht`, `\.(php|phtml)$`, `\.ph(ar|p|tml)$`, `.+\.ph(?:ar|p|tml)$`, `(?i)\.php$`, `^index\.html$`, `\.php[57]?$`,
		`\.(?i:php)$`, `^wp-config\.php$`, `config`, `^.*\.php$`, `(?i)^INDEX`, `^(.*)$`, ``, `\.`, `[a-c]\.`, `^x\.(php|inc)$`, `\.php\d?$`,
	} {
		m := regexMatcher(p)
		if !m.sure {
			t.Errorf("%q is not understood", p)
			continue
		}
		re := regexp.MustCompile(p)
		dollar := regexp.MustCompile(strings.ReplaceAll(p, "$", `\n?$`)) // PCRE's
		for _, n := range names {
			want := re.MatchString(n) || strings.HasSuffix(n, "\n") && dollar.MatchString(n)
			if got := m.matches([]byte(n)); got != want {
				t.Errorf("%q on %q: %v, want %v (%+v)", p, n, got, want, m)
			}
		}
	}
}

// A hostile .htaccess is read within bounds and never blocks: what is beyond them is in doubt.
func TestAHostileHtaccessIsBounded(t *testing.T) {
	treetest.NeedRoot(t)
	for name, text := range map[string]string{
		"too large":             strings.Repeat("# a comment\n", maxHtaccess/12+1),
		"too many directives":   strings.Repeat("Options +Indexes\n", maxDirective+1),
		"too many sections":     strings.Repeat("<Files x>\n</Files>\n", maxSections+1),
		"nested too deeply":     strings.Repeat("<Files x>\n", 70) + strings.Repeat("</Files>\n", 70),
		"an endless pattern":    "RewriteEngine On\nRewriteRule " + strings.Repeat("(a|b)*", 2000) + "ok - [F]",
		"too many rules":        "RewriteEngine On\n" + strings.Repeat("RewriteRule ^x$ - [F]\n", maxRules+1),
		"a pattern not of Go's": "RewriteEngine On\nRewriteRule ^(?!x)ok - [F]",
	} {
		h, s := verdictHost(t, "std", fmt.Sprintf("f 0644 2001:2001 $D/.htaccess = %q", text))
		if v := Ask(h, s, h.DocRoot, "/ok.html"); v.Certain || v.Why == "" {
			t.Errorf("%s: answered %s (%s)", name, verdictText(v), v.Why)
		}
	}
	h, s := verdictHost(t, "std", "p 0644 2001:2001 $D/.htaccess")
	if v := Ask(h, s, h.DocRoot, "/ok.html"); v.Certain {
		t.Errorf("a FIFO: answered %s", verdictText(v))
	}
}
