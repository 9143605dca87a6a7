package web

import (
	"bytes"
	"context"
	"errors"
	"io"
)

// Bounds of reading a log. A line that is longer than maxLogLine is told by its beginning; nothing that servers write about
// access is as long.
const (
	logBlock   = 1 << 20
	maxLogLine = 64 << 10
)

// A LogScanner reads one log, which may still grow: [LogScanner.From] again goes on where the last one ended. All
// scanners of a parser share its block of memory.
type LogScanner struct {
	Parser *LogParser
	// Found is called with each line that says something about access.
	Found func(*LogLine)
	// Read, if set, is called with how many bytes were read.
	Read func(int64)
	// Bytes, Lines and Cut count what was read, and the lines that were longer than is read of one.
	Bytes, Lines, Cut int64

	rest []byte // the unfinished line at the end
	skip bool   // the rest of a line that was cut
	last int64
	user []byte
	line LogLine
}

// From reads to the present end of r. A last line without its end waits for more, or for Flush.
func (s *LogScanner) From(ctx context.Context, r io.Reader) error {
	p := s.Parser
	if p.block == nil {
		p.block = make([]byte, logBlock)
	}
	n := copy(p.block, s.rest)
	for {
		var k int
		err := ctx.Err()
		if err == nil {
			k, err = r.Read(p.block[n:])
			if s.Bytes += int64(k); s.Read != nil {
				s.Read(int64(k))
			}
			n = s.lines(p.block[:n+k])
		}
		if err != nil {
			s.rest = append(s.rest[:0], p.block[:n]...)
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// Flush takes what was read of the last line for all of it.
func (s *LogScanner) Flush() {
	if len(s.rest) > 0 {
		s.one(s.rest)
	}
	s.rest, s.skip = s.rest[:0], false
}

// lines takes the lines of a block, moves what is left over to its beginning, and says how long that is.
func (s *LogScanner) lines(block []byte) (left int) {
	b := block
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			break
		}
		if !s.skip {
			s.one(b[:i])
		}
		s.skip, b = false, b[i+1:]
	}
	switch {
	case s.skip:
		return 0
	case len(b) > maxLogLine:
		s.one(b)
		s.skip = true
		return 0
	}
	return copy(block, b)
}

// one parses a line. What has no time of its own is of the time of the line before, and a line of suEXEC's that names only
// a script is about the user that the line before named.
func (s *LogScanner) one(line []byte) {
	s.Lines++
	if len(line) > maxLogLine {
		s.Cut++
		line = line[:maxLogLine]
	}
	l := &s.line
	s.Parser.Parse(line, l)
	if l.Unix == 0 {
		l.Unix = s.last
	}
	s.last = l.Unix
	switch l.Kind {
	case LineOther:
		return
	case LineUser:
		s.user = append(s.user[:0], l.User...)
		return
	}
	if l.Server == "suexec" {
		l.User = s.user
	}
	s.Found(l)
}
