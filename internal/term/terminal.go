package term

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// ErrNoTerminal says that a question was to be asked where nobody can answer it.
var ErrNoTerminal = errors.New("no terminal to ask on")

// Options says what a [Terminal] is made of. Out must be set; nil elsewhere means: not there.
type Options struct {
	In       io.Reader
	Out, Err io.Writer
	// Ask is set where In and Err are terminals; Live where Err is one that can redraw a line.
	Ask, Live bool
	// Width is asked for the columns of the terminal before each drawing; 0 or nil means 80.
	Width func() int
	// Poke prints the progress as a line of its own for each value, terminal or not (SIGUSR1).
	Poke <-chan os.Signal
	// Tick redraws the status line; nil means five times a second.
	Tick <-chan time.Time
	// Now is the clock, time.Now where nil.
	Now func() time.Time
}

// A Terminal is standard output and standard error with one owner. Its methods may be called from any goroutine.
type Terminal struct {
	o     Options
	jobs  chan func()
	done  chan struct{}
	close sync.Once

	// These belong to the owner.
	prog  *Progress
	drawn bool
	lines chan line // what a reader of In gave; nil before the first question
}

type line struct {
	text string
	err  error
}

// Open starts the owner; Close ends it.
func Open(o Options) *Terminal {
	if o.Err == nil {
		o.Err = io.Discard
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	t := &Terminal{o: o, jobs: make(chan func()), done: make(chan struct{})}
	go t.own()
	return t
}

// Close removes the status line and lets go of the terminal. Nothing may be printed afterwards.
func (t *Terminal) Close() {
	t.close.Do(func() {
		t.do(t.clear)
		close(t.jobs)
		<-t.done
	})
}

func (t *Terminal) own() {
	defer close(t.done)
	tick := t.o.Tick
	if tick == nil && t.o.Live {
		k := time.NewTicker(200 * time.Millisecond)
		defer k.Stop()
		tick = k.C
	}
	poke := t.o.Poke
	for {
		select {
		case job, ok := <-t.jobs:
			if !ok {
				return
			}
			job()
		case <-tick:
			t.draw()
		case _, ok := <-poke:
			if !ok {
				poke = nil
			} else if t.prog != nil {
				t.clear()
				fmt.Fprintln(t.o.Err, t.prog.text(t.o.Now()))
			}
		}
	}
}

// do has the owner run f and waits for it.
func (t *Terminal) do(f func()) {
	ran := make(chan struct{})
	t.jobs <- func() { f(); close(ran) }
	<-ran
}

func (t *Terminal) clear() {
	if t.drawn {
		io.WriteString(t.o.Err, "\r\x1b[K")
		t.drawn = false
	}
}

func (t *Terminal) draw() {
	if !t.o.Live || t.prog == nil {
		return
	}
	cols := 0
	if t.o.Width != nil {
		cols = t.o.Width()
	}
	if cols <= 0 {
		cols = 80
	}
	io.WriteString(t.o.Err, "\r"+cut(t.prog.text(t.o.Now()), cols-1)+"\x1b[K")
	t.drawn = true
}

// cut shortens s to at most cols columns.
func cut(s string, cols int) string {
	w := 0
	for i, r := range s {
		if w += Width(string(r)); w > cols {
			return s[:i]
		}
	}
	return s
}

// Hush turns the status line off. Progress is still printed when poked.
func (t *Terminal) Hush() {
	t.do(func() {
		t.clear()
		t.o.Live = false
	})
}

// Write writes to standard output.
func (t *Terminal) Write(p []byte) (n int, err error) {
	t.do(func() {
		t.clear()
		n, err = t.o.Out.Write(p)
	})
	return n, err
}

// Say writes one line to standard error, made harmless by [Line].
func (t *Terminal) Say(s string) {
	t.do(func() {
		t.clear()
		io.WriteString(t.o.Err, Line(s)+"\n")
	})
}

// Ask puts a question that is answered by y or n, and no by default. Without a terminal it returns [ErrNoTerminal]; when
// ctx ends first, its cause. The end of the input is a no.
func (t *Terminal) Ask(ctx context.Context, question string) (bool, error) {
	if !t.o.Ask || t.o.In == nil {
		return false, ErrNoTerminal
	}
	var lines chan line
	t.do(func() {
		if t.lines == nil {
			t.lines = make(chan line)
			go read(t.o.In, t.lines)
		}
		lines = t.lines
		t.clear()
		io.WriteString(t.o.Err, Clean(question)+" [y/N] ")
	})
	select {
	case <-ctx.Done():
		t.Say("")
		return false, context.Cause(ctx)
	case l, ok := <-lines:
		if !ok || l.err == io.EOF {
			t.Say("")
			return false, nil
		}
		if l.err != nil {
			return false, fmt.Errorf("read answer: %w", l.err)
		}
		a := strings.ToLower(strings.TrimSpace(l.text))
		return a == "y" || a == "yes", nil
	}
}

// read gives lines for as long as the process lives: a read from a terminal cannot be taken back.
func read(r io.Reader, lines chan<- line) {
	defer close(lines)
	b := bufio.NewReader(r)
	for {
		s, err := b.ReadString('\n')
		if s != "" {
			err = nil
		}
		lines <- line{s, err}
		if err != nil {
			return
		}
	}
}
