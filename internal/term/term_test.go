package term

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var names = []struct{ raw, quoted, shell string }{
	{"index.html", "index.html", "index.html"},
	{"", "", "''"},
	{"my file", "my file", "'my file'"},
	{"naïve-日本.png", "naïve-日本.png", "'naïve-日本.png'"},
	{"it's", "it's", `'it'\''s'`},
	{"$'x'", `$'$\'x\''`, `'$'\''x'\'''`},
	{"a\nb", `$'a\nb'`, `$'a\nb'`},
	{"tab\tcr\r", `$'tab\tcr\r'`, `$'tab\tcr\r'`},
	{"\x1b]0;owned\x07", `$'\x1b]0;owned\x07'`, `$'\x1b]0;owned\x07'`},
	{"bad\xff'q\\", `$'bad\xff\'q\\'`, `$'bad\xff\'q\\'`},
	{"\u202egnp.exe", `$'\xe2\x80\xaegnp.exe'`, `$'\xe2\x80\xaegnp.exe'`},
	{"\u009b2J", `$'\xc2\x9b2J'`, `$'\xc2\x9b2J'`},
	{"nbsp\u00a0", `$'nbsp\xc2\xa0'`, `$'nbsp\xc2\xa0'`},
	{"\ufffd", "\ufffd", "'\ufffd'"},
	{"-rf", "-rf", "-rf"},
	{"a;reboot", "a;reboot", "'a;reboot'"},
}

func TestNamesAreShownWithoutHarmAndReadBackExactly(t *testing.T) {
	for _, n := range names {
		if got := Quote(n.raw); got != n.quoted {
			t.Errorf("Quote(%q) = %s, want %s", n.raw, got, n.quoted)
		}
		if got := Shell(n.raw); n.shell != `'$'\''x'\'''` && got != n.shell {
			t.Errorf("Shell(%q) = %s, want %s", n.raw, got, n.shell)
		}
		if back, err := Unquote(n.quoted); err != nil || back != n.raw {
			t.Errorf("Unquote(%s) = %q, %v; want %q", n.quoted, back, err, n.raw)
		}
	}
	for _, bad := range []string{"$'", "$'a", `$'\'`, `$'\x1'`, `$'\q'`, `$'a'b'`, `$'\xzz'`} {
		if got, err := Unquote(bad); err == nil {
			t.Errorf("Unquote(%s) = %q, want an error", bad, got)
		}
	}
}

func FuzzQuoteIsHarmlessAndReversible(f *testing.F) {
	for _, n := range names {
		f.Add(n.raw)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q := Quote(s)
		for _, r := range q {
			if !unicode.IsPrint(r) {
				t.Fatalf("Quote(%q) = %q holds %U", s, q, r)
			}
		}
		if !utf8.ValidString(q) {
			t.Fatalf("Quote(%q) = %q is not valid UTF-8", s, q)
		}
		if back, err := Unquote(q); err != nil || back != s {
			t.Fatalf("Unquote(%q) = %q, %v; want %q", q, back, err, s)
		}
		for _, r := range Clean(s) {
			if !unicode.IsPrint(r) && r != '\n' && r != '\t' {
				t.Fatalf("Clean(%q) holds %U", s, r)
			}
		}
		if strings.ContainsAny(Line(s), "\n\t") {
			t.Fatalf("Line(%q) is not one line", s)
		}
	})
}

func TestTextOfOthersCannotMoveTheCursor(t *testing.T) {
	if got, want := Clean("open \x1b[2J: \xffno\nsuch\tfile"), `open \x1b[2J: \xffno`+"\nsuch\tfile"; got != want {
		t.Errorf("Clean = %q, want %q", got, want)
	}
	if got, want := Line("bob\nerror: disk on fire\t"), `bob\nerror: disk on fire\t`; got != want {
		t.Errorf("Line = %q, want %q", got, want)
	}
	if got, want := Command("rightful", "fix", "a b", "x\ny"), `rightful fix 'a b' $'x\ny'`; got != want {
		t.Errorf("Command = %s, want %s", got, want)
	}
}

func TestColumnsLineUpByDisplayWidth(t *testing.T) {
	tb := Table{Head: []string{"name", ">uid", "home"}}
	tb.Row("日本", "7", "/home/日本")
	tb.Row("e\u0301mile", "20001", "/home/x\x1b[A")
	want := "name     uid  home\n" +
		"日本       7  /home/日本\n" +
		"e\u0301mile  20001  $'/home/x\\x1b[A'\n"
	if diff := cmp.Diff(want, tb.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	if tb.Len() != 2 {
		t.Errorf("Len = %d", tb.Len())
	}
}

// A clock that tests move.
func fixed(sec int) func() time.Time {
	calls := 0
	return func() time.Time {
		calls++
		if calls == 1 {
			return time.Unix(0, 0)
		}
		return time.Unix(int64(sec), 0)
	}
}

func TestTheStatusLineGivesWayToEverythingElse(t *testing.T) {
	var screen bytes.Buffer
	tick := make(chan time.Time)
	s := Open(Options{Out: &screen, Err: &screen, Live: true, Tick: tick, Now: fixed(2), Width: func() int { return 60 }})
	p := s.Begin("check", "entries", 100)
	p.Add(50)
	p.Note("alice")
	tick <- time.Time{}
	s.Say("warning: \x1bodd")
	tick <- time.Time{}
	io.WriteString(s, "answer\n")
	p.End()
	tick <- time.Time{}
	s.Close()
	line := "\rcheck: 50 of 100 entries, 25/s, 2s left, alice\x1b[K"
	want := line + "\r\x1b[K" + `warning: \x1bodd` + "\n" + line + "\r\x1b[K" + "answer\n"
	if diff := cmp.Diff(want, screen.String()); diff != "" {
		t.Errorf("screen (-want +got):\n%s", diff)
	}
}

func TestThereIsNoStatusLineInAPipeButAPokeIsAnswered(t *testing.T) {
	for _, hush := range []bool{false, true} {
		var screen bytes.Buffer
		tick, poke := make(chan time.Time), make(chan os.Signal)
		s := Open(Options{Out: io.Discard, Err: &screen, Live: hush, Tick: tick, Poke: poke, Now: fixed(10)})
		if hush {
			s.Hush()
		}
		poke <- unix.SIGUSR1
		p := s.Begin("fix", "changes", 0)
		p.Add(5)
		p.Total(20)
		tick <- time.Time{}
		poke <- unix.SIGUSR1
		close(poke)
		tick <- time.Time{}
		s.Close()
		if got, want := screen.String(), "fix: 5 of 20 changes, 0.5/s, 30s left\n"; got != want {
			t.Errorf("hush %v: stderr = %q, want %q", hush, got, want)
		}
	}
}

func TestALongStatusLineStaysOnOneLine(t *testing.T) {
	if got := cut("日本語x", 5); got != "日本" {
		t.Errorf("cut = %q", got)
	}
}

func TestAQuestionIsAnsweredByYesOnly(t *testing.T) {
	for in, want := range map[string]bool{"y\n": true, "YES\n": true, "n\n": false, "\n": false, "": false, "yep\n": false, "y": true} {
		var screen bytes.Buffer
		s := Open(Options{In: strings.NewReader(in), Out: io.Discard, Err: &screen, Ask: true})
		got, err := s.Ask(t.Context(), "change 3 entries?\x07")
		s.Close()
		if err != nil || got != want {
			t.Errorf("Ask with %q = %v, %v; want %v", in, got, err, want)
		}
		if !strings.HasPrefix(screen.String(), `change 3 entries?\x07 [y/N] `) {
			t.Errorf("screen = %q", screen.String())
		}
	}
}

func TestTwoQuestionsGetTwoAnswers(t *testing.T) {
	s := Open(Options{In: strings.NewReader("y\nn\n"), Out: io.Discard, Err: io.Discard, Ask: true})
	defer s.Close()
	for _, want := range []bool{true, false, false} {
		if got, err := s.Ask(t.Context(), "?"); err != nil || got != want {
			t.Errorf("Ask = %v, %v; want %v", got, err, want)
		}
	}
}

func TestNothingIsAskedWithoutATerminal(t *testing.T) {
	var screen bytes.Buffer
	s := Open(Options{In: strings.NewReader("y\n"), Out: io.Discard, Err: &screen})
	defer s.Close()
	if ok, err := s.Ask(t.Context(), "?"); ok || !errors.Is(err, ErrNoTerminal) || screen.Len() > 0 {
		t.Errorf("Ask = %v, %v, printed %q", ok, err, screen.String())
	}
}

func TestAnInterruptEndsAQuestion(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	s := Open(Options{In: r, Out: io.Discard, Err: io.Discard, Ask: true})
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ok, err := s.Ask(ctx, "?"); ok || !errors.Is(err, context.Canceled) {
		t.Errorf("Ask = %v, %v", ok, err)
	}
}
