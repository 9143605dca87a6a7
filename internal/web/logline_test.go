package web

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// toldOf is what a parsed line says, as testdata/loglines.txt has it before the line itself.
func toldOf(l *LogLine) string {
	kinds := [...]string{"-", "failure", "either", "lookalike", "answer", "user"}
	roles := [...]string{"web", "socket", "php", "cgi", "suexec", "app"}
	blames := [...]string{"way", "path", "parent", "htaccess", "link"}
	switch l.Kind {
	case LineOther:
		return "-"
	case LineUser:
		return "user " + string(l.User)
	case LineAnswer:
		return strings.TrimSpace(fmt.Sprintf("answer %d %s %s", l.Status, l.URL, l.Name))
	case LineLookAlike:
		return strings.TrimSpace("lookalike " + l.Code + " " + string(l.Path))
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s %s %s", kinds[l.Kind], l.Code, roles[l.Role], blames[l.Blame], l.Path))
}

// Every line of the catalogue, as real servers wrote it: permission failures with their code, path and what the line blames;
// look-alikes told apart; companions and other lines left alone.
func TestEveryLineThatServersWriteIsTold(t *testing.T) {
	const file = "testdata/loglines.txt"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := &LogParser{Location: time.UTC}
	var got bytes.Buffer
	n := 0
	for record := range strings.Lines(string(text)) {
		record = strings.TrimSuffix(record, "\n")
		_, line, ok := strings.Cut(record, "\t")
		if !ok {
			got.WriteString(record + "\n")
			continue
		}
		n++
		var l LogLine
		p.Parse([]byte(line), &l)
		got.WriteString(toldOf(&l) + "\t" + line + "\n")
		if l.Unix == 0 && line[0] != '/' && strings.Contains(line, "2026") {
			t.Errorf("no time is told of %q", line)
		}
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(string(text), "\n"), strings.Split(got.String(), "\n")); diff != "" || n < 200 {
		t.Errorf("%d lines (-want +got):\n%s", n, diff)
	}
}

func parse(t *testing.T, p *LogParser, line string) LogLine {
	t.Helper()
	var l LogLine
	p.Parse([]byte(line), &l)
	return l
}

// ErrorLogFormat may be anything; words whose item has nothing to say are left out of a line.
func TestALineIsToldWhateverItsErrorLogFormat(t *testing.T) {
	const (
		msg  = "AH00132: file permissions deny server access: /home/alice/public_html/a b.html"
		want = "failure AH00132 web way /home/alice/public_html/a b.html"
	)
	for _, c := range []struct{ format, line, want, name, client string }{
		{`[%{u}t] [%-m:%l] [pid %P:tid %T] %7F: %E: [client\ %a] %M% ,\ referer\ %{Referer}i`, "[Sun Nov 22 07:02:17.653203 2026] [core:error] [pid 5:tid 6] (13)Permission denied: [client 127.0.0.1:35346] " + msg, want, "", "127.0.0.1:35346"},
		{`%t %v %M`, "Sun Nov 22 07:02:17 2026 shop.alice.example " + msg, want, "shop.alice.example", ""},
		{`%{c}t|%V|%E|%M|%a`, "2026-11-22 07:02:17|alice.example|(13)Permission denied|" + msg + "|192.0.2.1:40000", want, "alice.example", "192.0.2.1:40000"},
		{`%v %{cu}t [%l] %M %L`, "alice.example 2026-11-22 07:02:17.123456 [error] " + msg + " awKT_shc7lJc", want, "alice.example", ""},
		{`%{c}t <%m:%l> %M`, "2026-11-22 07:02:17 <core:alert> /home/alice/.htaccess: Options not allowed here", "lookalike htaccess:config /home/alice/.htaccess", "", ""},
		{`%{c}t %E %M`, "2026-11-22 07:02:17 (24)Too many open files " + msg, "lookalike AH00132 /home/alice/public_html/a b.html", "", ""},
		{`%{c}t %E %M`, "2026-11-22 07:02:17 " + msg, want, "", ""}, // no errno in this line
	} {
		f, err := ErrorFormat(c.format)
		if err != nil {
			t.Fatal(err)
		}
		l := parse(t, &LogParser{Location: time.UTC, Formats: []*LogFormat{f}}, c.line)
		if got := toldOf(&l); got != c.want || string(l.Name) != c.name || string(l.Client) != c.client || l.Unix != 1795330937 {
			t.Errorf("%s: %q is told as %q, name %q, client %q, at %d", c.format, c.line, got, l.Name, l.Client, l.Unix)
		}
	}
	if _, err := ErrorFormat("%t %v"); err == nil {
		t.Error("a format without a message is accepted")
	}
}

func TestAnAccessLogIsToldWhateverItsForm(t *testing.T) {
	nginx, err := NginxFormat(`{"time":"$time_iso8601","vhost":"${server_name}","status":$status,"request":"$request"}`)
	if err != nil {
		t.Fatal(err)
	}
	apache, err := AccessFormat(`%{Host}i %>s %t %D "%r" \"%{User-Agent}i\"`)
	if err != nil {
		t.Fatal(err)
	}
	p := &LogParser{Location: time.UTC, Formats: []*LogFormat{apache, nginx}}
	for _, c := range []struct{ line, want, client string }{
		{`192.0.2.1 - - [22/Nov/2026:08:02:17 +0100] "GET /a%20b?x HTTP/1.1" 403 446`, "answer 403 /a%20b", "192.0.2.1"},
		{`2001:db8::1 - a b [22/Nov/2026:07:02:17 +0000] "GET /a\" b HTTP/1.1" 500 - "-" "x"`, `answer 500 /a\"`, "2001:db8::1"},
		{`alice.example:443 192.0.2.1 - - [22/Nov/2026:07:02:17 +0000] "GET / HTTP/2.0" 403 446`, "answer 403 / alice.example", "192.0.2.1"},
		{`192.0.2.1 - - [22/Nov/2026:07:02:17 +0000] "GET / HTTP/1.1" 200 446`, "-", ""},
		{`192.0.2.1 - - [22/Nov/2026:07:02:17 +0000] "-" 408 0`, "-", ""},
		{`bob.example 403 [22/Nov/2026:07:02:17 +0000] 5120 "GET /x HTTP/1.1" "curl"`, "answer 403 /x bob.example", ""},
		{`bob.example 200 [22/Nov/2026:07:02:17 +0000] 403 "GET /x HTTP/1.1" "curl"`, "-", ""},
		{`{"time":"2026-11-22T08:02:17+01:00","vhost":"carol.example","status":503,"request":"GET /y HTTP/1.1"}`, "answer 503 /y carol.example", ""},
	} {
		l := parse(t, p, c.line)
		if got := toldOf(&l); got != c.want || string(l.Client) != c.client || l.Kind != LineOther && l.Unix != 1795330937 {
			t.Errorf("%s is told as %q, client %q, at %d", c.line, got, l.Client, l.Unix)
		}
	}
}

// Only access logs, and PHP where it is told to, say which zone their times are of.
func TestTimesAreOfTheServersZone(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones are installed here")
	}
	p := &LogParser{Location: berlin}
	const denied = "PHP Warning:  include(/home/alice/x.php): Failed to open stream: Permission denied in /home/alice/i.php on line 1"
	for line, want := range map[string]string{
		"[Sun Nov 22 08:02:17.653203 2026] [core:error] AH00132: file permissions deny server access: /x": "2026-11-22T07:02:17Z",
		"[Wed Jul  1 08:02:17 2026] [core:error] AH00132: file permissions deny server access: /x":        "2026-07-01T06:02:17Z",
		`2026/11/22 08:02:17 [error] 1#1: *2 open() "/x" failed (13: Permission denied)`:                  "2026-11-22T07:02:17Z",
		"[2026-11-22 08:02:17]: file is writable by others: (/x)":                                         "2026-11-22T07:02:17Z",
		"[22-Nov-2026 07:02:17 UTC] " + denied:                                                            "2026-11-22T07:02:17Z",
		"[22-Nov-2026 08:02:17] " + denied:                                                                "2026-11-22T07:02:17Z",
		`192.0.2.1 - - [22/Nov/2026:02:02:17 -0500] "GET / HTTP/1.1" 403 446`:                             "2026-11-22T07:02:17Z",
	} {
		l := parse(t, p, line)
		if got := time.Unix(l.Unix, 0).UTC().Format(time.RFC3339); got != want || l.Kind == LineOther {
			t.Errorf("%s: kind %d at %s, want %s", line, l.Kind, got, want)
		}
	}
}

// What visitors send stands in the lines: a request, a referrer, a path with quotes in it. None of it can name another path
// than one that begins like the real one.
func TestAVisitorCannotPutAnotherPathIntoALine(t *testing.T) {
	const head = "[Sun Nov 22 07:02:17.653203 2026] [core:error] [pid 5:tid 6] (13)Permission denied: [client 127.0.0.1:1] "
	const tail = `, client: 127.0.0.1, server: alice.example, request: "GET /x HTTP/1.1", host: "h"`
	for line, want := range map[string]string{
		head + "AH00035: access to /x denied (filesystem path '/home/bob') because search permissions are missing on a component of the path denied (filesystem path '/home/alice') because search permissions are missing on a component of the path": "/home/alice",
		head + "AH00035: access to /x denied (filesystem path '/home/alice/x') because search') because search permissions are missing on a component of the path":                                                                                     "/home/alice/x') because search",
		head + "AH00132: file permissions deny server access: /home/alice/x, referer: http://r/, referer: AH00132: file permissions deny server access: /home/bob":                                                                                     "/home/alice/x",
		head + `AH00132: file permissions deny server access: /home/alice/a\nb\xe9\\x`:                                                                                                                                                                 "/home/alice/a\nb\xe9\\x",
		`2026/11/22 07:02:17 [error] 1#1: *2 open() "/home/alice/x" failed (13: Permission denied), client: 1, server: bob.example, request: "GET" failed (13: Permission denied)` + tail:                                                              "/home/alice/x",
		`2026/11/22 07:02:17 [error] 1#1: *2 open() "/home/alice/x" failed (13: Permission denied), client: 127.0.0.1, server: alice.example, request: "GET /x HTTP/1.1", referrer: "open() "/home/bob" failed (13: "`:                                 "/home/alice/x",
	} {
		if l := parse(t, &LogParser{Location: time.UTC}, line); string(l.Path) != want || l.Kind != LineFailure {
			t.Errorf("%s: path %q, want %q", line, l.Path, want)
		}
	}
	l := parse(t, &LogParser{}, `2026/11/22 07:02:17 [error] 1#1: *2 open() "/home/alice/x" failed (13: Permission denied)`+tail)
	if string(l.Name) != "alice.example" || string(l.URL) != "/x" || string(l.Client) != "127.0.0.1" {
		t.Errorf("name %q, URL %q, client %q", l.Name, l.URL, l.Client)
	}
}

func TestALogIsReadTheSameInAnyPieces(t *testing.T) {
	fixture, err := os.ReadFile("testdata/loglines.txt")
	if err != nil {
		t.Fatal(err)
	}
	long := "[Sun Nov 22 07:02:17.653203 2026] [core:error] AH00132: file permissions deny server access: /home/alice/" + strings.Repeat("y", 1<<20)
	var log bytes.Buffer
	for record := range strings.Lines(string(fixture)) {
		_, line, _ := strings.Cut(record, "\t")
		log.WriteString(line)
	}
	log.WriteString("\x00\xff\x1b[2J\r\n" + long + "\r\n")
	log.Write(bytes.Repeat([]byte{0xde, 0xad, 0}, 1<<20))
	log.WriteString("\n" + "2026/11/22 07:02:17 [error] 1#1: *2 open() \"/last\" failed (13: Permission denied)")
	read := func(r io.Reader) (all []string, s *LogScanner) {
		s = &LogScanner{Parser: &LogParser{Location: time.UTC}, Found: func(l *LogLine) { all = append(all, fmt.Sprint(l.Unix, " ", toldOf(l), " ", string(l.User))) }}
		if err := s.From(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		s.Flush()
		return all, s
	}
	want, s := read(bytes.NewReader(log.Bytes()))
	if s.Cut != 2 || s.Bytes != int64(log.Len()) || len(want) < 150 || !strings.HasSuffix(want[len(want)-1], "nginx:open web way /last ") {
		t.Errorf("%d lines, %d cut, %d of %d bytes; the last is %q", len(want), s.Cut, s.Bytes, log.Len(), want[len(want)-1])
	}
	for _, n := range []int{1, 7, 4096, 65537} {
		got, s := read(&pieces{r: bytes.NewReader(log.Bytes()), n: n})
		if diff := cmp.Diff(want, got); diff != "" || s.Cut != 2 {
			t.Errorf("in pieces of %d: %d cut (-whole +pieces):\n%s", n, s.Cut, diff)
		}
	}
}

// pieces reads n bytes at a time.
type pieces struct {
	r io.Reader
	n int
}

func (p *pieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), p.n)]) }

// A line about suEXEC that names only a script is about the user that the line before named.
func TestALineOfSuexecBelongsToTheUserBeforeIt(t *testing.T) {
	s := &LogScanner{Parser: &LogParser{Location: time.UTC}}
	var got []string
	s.Found = func(l *LogLine) { got = append(got, l.Code+" "+string(l.User)) }
	s.From(t.Context(), strings.NewReader("[2026-11-22 07:08:41]: uid: (2001/alice) gid: (2001/alice) cmd: ok.cgi\n[2026-11-22 07:08:41]: cannot stat program: (l.cgi)\n"))
	if diff := cmp.Diff([]string{"suexec:117 alice"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestTellingALineTakesNoMemory(t *testing.T) {
	fixture, err := os.ReadFile("testdata/loglines.txt")
	if err != nil {
		t.Fatal(err)
	}
	p := &LogParser{Location: time.UTC}
	var l LogLine
	for record := range bytes.Lines(fixture) {
		_, line, _ := bytes.Cut(bytes.TrimSuffix(record, []byte("\n")), []byte("\t"))
		if n := testing.AllocsPerRun(1, func() { p.Parse(line, &l) }); n > 0 {
			t.Errorf("%v allocations for %s", n, line)
		}
	}
}

// Whatever a line holds, a path that is told is absolute and bounded, and is made of the line's own bytes.
func FuzzParse(f *testing.F) {
	fixture, err := os.ReadFile("testdata/loglines.txt")
	if err != nil {
		f.Fatal(err)
	}
	for record := range strings.Lines(string(fixture)) {
		_, line, _ := strings.Cut(strings.TrimSuffix(record, "\n"), "\t")
		f.Add(line)
	}
	custom, err := ErrorFormat(`%{c}t [%m:%l] %v %E %M`)
	if err != nil {
		f.Fatal(err)
	}
	p := &LogParser{Location: time.UTC, Formats: []*LogFormat{custom}}
	f.Fuzz(func(t *testing.T, line string) {
		var l LogLine
		p.Parse([]byte(line), &l)
		if l.Path != nil && (len(l.Path) == 0 || l.Path[0] != '/' || len(l.Path) > maxPath) {
			t.Errorf("path %q", l.Path)
		}
		if (l.Kind == LineFailure || l.Kind == LineEither || l.Kind == LineLookAlike) && l.Code == "" {
			t.Errorf("kind %d has no code", l.Kind)
		}
		if !strings.Contains(line, `\`) && !bytes.Contains([]byte(line), l.Path) {
			t.Errorf("path %q is not in the line", l.Path)
		}
	})
}

func FuzzLogFormats(f *testing.F) {
	f.Add(`[%{u}t] [%-m:%l] [pid %P:tid %T] %7F: %E: [client\ %a] %M% ,\ referer\ %{Referer}i`, "[core:error] AH00132: x")
	f.Add(`%h %l %u %t "%r" %>s %{X}^ti %{`, `1 403 "`)
	f.Add(`$remote_addr ${status} $`, "1 403")
	f.Fuzz(func(t *testing.T, format, line string) {
		for _, read := range []func(string) (*LogFormat, error){ErrorFormat, AccessFormat, NginxFormat} {
			if lf, err := read(format); err == nil {
				var l LogLine
				(&LogParser{Location: time.UTC, Formats: []*LogFormat{lf}}).Parse([]byte(line), &l)
			}
		}
	})
}
