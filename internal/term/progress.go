package term

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// A Progress is work under way, shown in the status line. Add and Note may be called from any goroutine and cost no
// more than an atomic operation.
type Progress struct {
	t     *Terminal
	what  string
	unit  string
	begun time.Time
	done  atomic.Int64
	total atomic.Int64
	note  atomic.Pointer[string]
}

// Begin makes what the work under way: "check", "entries", 60124. A total of 0 means that it is not known. It takes the
// place of what was under way before.
func (t *Terminal) Begin(what, unit string, total int64) *Progress {
	p := &Progress{t: t, what: what, unit: unit, begun: t.o.Now()}
	p.total.Store(total)
	t.do(func() { t.prog = p })
	return p
}

// Add counts n more units done.
func (p *Progress) Add(n int64) { p.done.Add(n) }

// Total says how many units there are in all, once that is known.
func (p *Progress) Total(n int64) { p.total.Store(n) }

// Note says what is being worked on, such as an account.
func (p *Progress) Note(s string) { p.note.Store(&s) }

// End removes the status line.
func (p *Progress) End() {
	p.t.do(func() {
		p.t.clear()
		if p.t.prog == p {
			p.t.prog = nil
		}
	})
}

// text is the status line: what, how much of how much, the rate, the time that remains at this rate, the note.
func (p *Progress) text(now time.Time) string {
	done, total := p.done.Load(), p.total.Load()
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d", p.what, done)
	if total > 0 {
		fmt.Fprintf(&b, " of %d", total)
	}
	fmt.Fprintf(&b, " %s", p.unit)
	if d := now.Sub(p.begun); d >= time.Second && done > 0 {
		rate := float64(done) / d.Seconds()
		if rate >= 10 {
			fmt.Fprintf(&b, ", %.0f/s", rate)
		} else {
			fmt.Fprintf(&b, ", %.1f/s", rate)
		}
		if total > done {
			fmt.Fprintf(&b, ", %s left", time.Duration(float64(total-done)/rate*float64(time.Second)).Round(time.Second))
		}
	}
	if n := p.note.Load(); n != nil && *n != "" {
		b.WriteString(", " + Quote(*n))
	}
	return b.String()
}
