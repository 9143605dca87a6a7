package check

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"rightful"
	"rightful/internal/tree/treetest"
	"rightful/internal/web"

	"github.com/google/go-cmp/cmp"
)

// gather reads lines of a log that the hosts called names write.
func gather(t testing.TB, g *Logs, text string, names ...string) {
	t.Helper()
	s := web.LogScanner{Parser: &web.LogParser{Location: time.UTC}, Found: func(l *web.LogLine) { g.Add(l, names) }}
	if err := s.From(t.Context(), strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	s.Flush()
}

// Each row is an entry that a line complains of, in a tree where that is so, and after a change where it is not.
func TestALineIsStillBrokenUntilItsCauseIsCured(t *testing.T) {
	treetest.NeedRoot(t)
	const head = "[Sun Nov 22 07:02:17.653203 2026] [core:error] [pid 5:tid 6] "
	const d = "/home/alice/public_html"
	for _, c := range []struct{ name, broken, line, culprit, cured, unknown string }{
		{"AH00035", "chmod 0700 .", head + "AH00035: access to /x denied (filesystem path '" + d + "/index.html') because search permissions are missing on a component of the path", d, "chmod 0755 .", ""},
		{"AH00529 by the directory", "chmod 0700 .", head + "AH00529: " + d + "/.htaccess pcfg_openfile: unable to check htaccess file, ensure it is readable and that '" + d + "/' is executable", d, "chmod 0755 .", ""},
		{"AH00529 by the file", "touch .htaccess; chmod 0600 .htaccess", head + "AH00529: " + d + "/.htaccess pcfg_openfile: unable to", d + "/.htaccess", "chmod 0644 .htaccess", ""},
		{"AH00529, no file", "mkdir .htaccess", head + "(9)Bad file descriptor: AH00529: " + d + "/.htaccess pcfg_openfile: unable to", d + "/.htaccess", "rmdir .htaccess", ""},
		{"AH00132", "chmod 0600 index.html", head + "AH00132: file permissions deny server access: " + d + "/index.html", d + "/index.html", "chmod 0644 index.html", ""},
		{"AH00132, gone since", "chmod 0600 index.html", head + "AH00132: file permissions deny server access: " + d + "/index.html", d + "/index.html", "rm index.html", ""},
		{"AH01275", "chmod 0711 sub", head + "AH01275: Can't open directory for index: " + d + "/sub/", d + "/sub", "chmod 0755 sub", ""},
		{"AH00037 dangling", "ln -s nowhere l", head + "AH00037: Symbolic link not allowed or link target not accessible: " + d + "/l", d + "/l", "rm l; touch l", ""},
		{"AH00037 of another owner", "ln -s index.html l; chown -h 20002 l", head + "AH00037: Symbolic link not allowed or link target not accessible: " + d + "/l", d + "/l", "rm l", ""},
		{"AH00037 as configured", "", head + "AH00037: Symbolic link not allowed or link target not accessible: " + d + "/l", "", "", "ln -s index.html l; chown -h 20001 l"},
		{"AH00038", "mkfifo p", head + "AH00038: Forbidden: " + d + "/p doesn't point to a file or directory", d + "/p", "rm p; touch p", ""},
		{"nginx:open", "chmod 0750 sub; chgrp 20001 sub", `2026/11/22 07:02:17 [error] 1#1: *2 open() "` + d + `/sub/deep.html" failed (13: Permission denied), client: 1, server: alice.example, request: "GET / HTTP/1.1"`, d + "/sub", "chmod 0755 sub", ""},
		{"fpm:unable-to-open", "touch a.php; chown 20001:20001 a.php; chmod 0200 a.php", head + "AH01071: Got error 'Unable to open primary script: " + d + "/a.php (Permission denied)'", d + "/a.php", "chmod 0600 a.php", ""},
		{"php:app", "", head + "AH01071: Got error 'PHP message: PHP Warning:  fopen(" + d + "/sub/f.txt): Failed to open stream: Permission denied in " + d + "/r.php on line 1'", "", "", "touch sub/f.txt"},
		{"AH02454", "mkdir /R/run; touch /R/run/a.sock; chmod 0660 /R/run/a.sock", head + "(13)Permission denied: AH02454: FCGI: attempt to connect to Unix domain socket /run/a.sock (x) failed", "/run/a.sock", "chgrp 33 /R/run/a.sock", ""},
		{"suexec:116", "chmod 0775 sub", "[2026-11-22 07:08:41]: directory is writable by others: (" + d + "/sub)", d + "/sub", "chmod 0755 sub", ""},
		{"suexec:121", "touch a.cgi", "[2026-11-22 07:08:41]: file has no execute permission: (" + d + "/a.cgi)", d + "/a.cgi", "chmod 0755 a.cgi", ""},
		{"suexec:115", "chmod 0600 sub", "[2026-11-22 07:08:41]: cannot stat directory: (" + d + "/sub)", d + "/sub", "chmod 0755 sub", ""},
		{"suexec:107", "", "[2026-11-22 07:08:41]: cannot run as forbidden uid (33/ok.cgi)", "", "", "true"},
		{"suphp:writable", "chmod 0775 sub", head + `SoftException in Application.cpp:552: Directory "` + d + `/sub" is writeable by group`, d + "/sub", "chmod 0755 sub", ""},
		{"fpm:primary-script-unknown", "", head + "AH01071: Got error 'Primary script unknown'", "", "", "true"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := world(t, healthy, "alice")
			root := o.Server.Dir()
			do := func(script string) {
				script = "cd " + filepath.Join(root, d) + "; " + strings.ReplaceAll(script, "/R", root)
				if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
					t.Fatalf("%s: %v\n%s", script, err, out)
				}
			}
			for _, step := range []struct{ script, now, culprit string }{{c.broken, StillBroken, c.culprit}, {c.cured, CuredSince, ""}, {c.unknown, NotKnown, ""}} {
				if step.script == "" {
					continue
				}
				do(step.script)
				g := NewLogs(o.Server, o.World)
				gather(t, g, c.line+"\n"+c.line+"\n", "alice.example")
				fs := g.Failures()
				if len(fs) != 1 {
					t.Fatalf("%d failures: %+v", len(fs), fs)
				}
				f := fs[0]
				if f.Now != step.now || step.culprit != "" && f.Culprit != step.culprit || f.Count != 2 || f.Account != "alice" || f.Site != "alice.example" {
					t.Errorf("after %q: %+v; want %s, %s", step.script, f, step.now, step.culprit)
				}
			}
		})
	}
}

// Whom a line is about: by the name in it or its log's, by the path, by the socket's pool, by suEXEC's user.
func TestWhomALineIsAbout(t *testing.T) {
	treetest.NeedRoot(t)
	o := world(t, healthy+`
		d 0711 20002:20002 home/bob
		d 0750 20002:33 home/bob/public_html`, "alice", "bob")
	const head = "[Sun Nov 22 07:02:17.653203 2026] [core:error] [pid 5:tid 6] (13)Permission denied: "
	for _, c := range []struct{ line, names, want string }{
		{head + "AH00132: file permissions deny server access: /home/bob/public_html/x", "", "bob bob.example"},
		{head + "AH00132: file permissions deny server access: /home/bob/public_html/x", "alice.example", "bob bob.example"}, // an Alias
		{head + "AH00132: file permissions deny server access: /home/bob/x", "", "bob "},
		{head + "AH00132: file permissions deny server access: /home/bob/x", "bob.example", "bob bob.example"},
		{head + "AH00132: file permissions deny server access: /home/bob/x", "alice.example bob.example", "bob "},
		{head + "AH00132: file permissions deny server access: /home/bobby/x", "", " "},
		{head + "AH00132: file permissions deny server access: /usr/share/x", "bob.example", "bob bob.example"},
		{head + "AH02454: FCGI: attempt to connect to Unix domain socket /run/php/bob.sock (x) failed", "", "bob "},
		{`2026/11/22 07:02:17 [error] 1#1: *2 FastCGI sent in stderr: "Primary script unknown" while reading response header from upstream, client: 127.0.0.1, server: bob.example, request: "GET /a%20b.php?x HTTP/1.1"`, "", "bob bob.example /home/bob/public_html/a b.php"},
		{"[2026-11-22 07:08:41]: uid: (20002/bob) gid: (20002/bob) cmd: l.cgi\n[2026-11-22 07:08:41]: cannot stat program: (l.cgi)", "", "bob "},
	} {
		g := NewLogs(o.Server, o.World)
		gather(t, g, c.line+"\n", strings.Fields(c.names)...)
		fs := g.Failures()
		if len(fs) != 1 {
			t.Fatalf("%d failures of %s", len(fs), c.line)
		}
		got := fs[0].Account + " " + fs[0].Site
		if strings.Count(c.want, " ") > 1 {
			got += " " + fs[0].Path
		}
		if got != c.want || (g.Unplaced == 1) != (c.want == " ") {
			t.Errorf("%s, log of %q: %q, want %q; %d unplaced", c.line, c.names, got, c.want, g.Unplaced)
		}
	}
}

// A visitor can ask for any number of different paths. Memory does not grow with them, and nobody else's failures are lost.
func TestAFloodOfPathsIsCountedAndNotKept(t *testing.T) {
	treetest.NeedRoot(t)
	o := world(t, healthy+`
		d 0711 20002:20002 home/bob
		d 0750 20002:33 home/bob/public_html`, "alice", "bob")
	var b strings.Builder
	const n = 5000
	for i := range n {
		fmt.Fprintf(&b, "2026/11/22 07:02:17 [error] 1#1: *2 open() \"/home/alice/public_html/%d.html\" failed (13: Permission denied), client: 1, server: alice.example\n", i)
	}
	b.WriteString("2026/11/22 07:02:17 [error] 1#1: *2 open() \"/home/bob/public_html/x\" failed (13: Permission denied), client: 1, server: bob.example\n")
	g := NewLogs(o.Server, o.World)
	gather(t, g, b.String())
	sum, of := 0, map[string]int{}
	for _, f := range g.Failures() {
		sum += f.Count
		of[f.Site]++
	}
	if sum != n+1 || g.Folded != n-maxPathsOfSite || of["bob.example"] != 1 || of["alice.example"] != maxPathsOfSite+1 || g.memory > maxLogMemory {
		t.Errorf("%d lines, %d folded, failures by site %v, %d bytes", sum, g.Folded, of, g.memory)
	}
}

// A site that is broken is in no log unless a line that is still so names it, or names a directory above its document root.
func TestWhichBrokenSitesNoLogTellsOf(t *testing.T) {
	treetest.NeedRoot(t)
	o := world(t, healthy+`
		d 0700 20002:20002 home/bob
		d 0750 20002:33 home/bob/public_html
		d 0700 20003:20003 home/carol
		d 0750 20003:33 home/carol/public_html`, "alice", "bob", "carol")
	verdicts := []rightful.Verdict{
		{Account: "alice", Site: "alice.example", State: rightful.SiteBroken},
		{Account: "bob", Site: "bob.example", State: rightful.SiteDown, Culprit: "/home/bob"},
		{Account: "carol", Site: "carol.example", State: rightful.SiteDown, Culprit: "/home/carol"},
	}
	g := NewLogs(o.Server, o.World)
	const head = "[Sun Nov 22 07:02:17.653203 2026] [core:error] [pid 5:tid 6] (13)Permission denied: "
	gather(t, g, head+"AH00132: file permissions deny server access: /home/alice/public_html/index.html\n"+ // cured since
		head+"AH00529: /home/bob/.htaccess pcfg_openfile: unable to\n")
	gather(t, g, `carol.example:80 192.0.2.1 - - [22/Nov/2026:07:02:17 +0000] "GET / HTTP/1.1" 403 446`+"\n")
	var got []string
	for _, u := range g.Unlogged(verdicts, g.Failures()) {
		got = append(got, fmt.Sprint(u.Site, " ", u.Refused))
	}
	if diff := cmp.Diff([]string{"alice.example 0", "carol.example 1"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Whatever the parser calls a look-alike is explained to people.
func TestEveryLookAlikeIsExplained(t *testing.T) {
	text, err := os.ReadFile("../web/testdata/loglines.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, m := range regexp.MustCompile(`(?m)^lookalike (\S+)`).FindAllStringSubmatch(string(text), -1) {
		if n++; LookAlikes[m[1]] == "" {
			t.Errorf("nothing explains %q", m[1])
		}
	}
	if n < 30 {
		t.Errorf("only %d look-alikes", n)
	}
}
