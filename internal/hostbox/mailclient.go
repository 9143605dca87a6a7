package hostbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ErrLogin says that the mail server did not let somebody in. The error that wraps it holds the server's words: a wrong
// password, no such user, and a password file that can't be read differ in them.
var ErrLogin = errors.New("login refused")

// maxMail is how long one conversation with the mail server may take, and a delivery.
const maxMail = 30 * time.Second

// maxLetter is the longest message that ReadMail takes, in bytes.
const maxLetter = 16 << 20

// LogIn logs in to the box's IMAP server, as a mail program would, and out again. A refusal is an [ErrLogin].
func (b *Box) LogIn(ctx context.Context, address, password string) error {
	_, err := b.imap(ctx, address, password, false)
	return err
}

// ReadMail logs in to the box's IMAP server and gives the messages of the inbox, oldest first, with the line ends that
// they have in files. It leaves no mark on them. A refusal is an [ErrLogin].
func (b *Box) ReadMail(ctx context.Context, address, password string) ([]string, error) {
	return b.imap(ctx, address, password, true)
}

func (b *Box) imap(ctx context.Context, address, password string, read bool) (letters []string, err error) {
	err = b.fresh(ctx, address, func() error {
		conn, err := b.dial(b.world.addr, portIMAP)
		if err != nil {
			return err
		}
		defer conn.Close()
		c, err := newIMAP(ctx, conn)
		if err != nil {
			return err
		}
		if _, err := c.command("LOGIN " + quoted(address) + " " + quoted(password)); err != nil {
			return err
		}
		if read {
			if _, err := c.command("EXAMINE INBOX"); err != nil {
				return err
			}
			if letters, err = c.command("UID FETCH 1:* (BODY.PEEK[])"); err != nil {
				return err
			}
		}
		_, err = c.command("LOGOUT")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask for mail as %q: %w", address, err)
	}
	return letters, nil
}

// An imap is a conversation of one command at a time.
type imap struct {
	conn net.Conn
	in   *bufio.Reader
	n    int
}

func newIMAP(ctx context.Context, conn net.Conn) (*imap, error) {
	c := &imap{conn: conn, in: bufio.NewReader(conn)}
	if err := conn.SetDeadline(until(ctx)); err != nil {
		return nil, err
	}
	line, err := c.in.ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "* OK ") {
		err = fmt.Errorf("greeting %q", line)
	}
	return c, err
}

// until is when a conversation that begins now must have ended.
func until(ctx context.Context) time.Time {
	end := time.Now().Add(maxMail)
	if d, ok := ctx.Deadline(); ok && d.Before(end) {
		return d
	}
	return end
}

// command says one thing and gives the literals of the answer: of a FETCH, one for each message.
func (c *imap) command(text string) (literals []string, err error) {
	c.n++
	tag := "a" + strconv.Itoa(c.n)
	verb, _, _ := strings.Cut(text, " ")
	if strings.ContainsAny(text, "\r\n\x00") {
		return nil, fmt.Errorf("IMAP %s: a line end in %q", verb, text)
	}
	if _, err := io.WriteString(c.conn, tag+" "+text+"\r\n"); err != nil {
		return nil, err
	}
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("IMAP %s: %w", verb, err)
		}
		line = strings.TrimSuffix(line, "\r\n")
		if answer, ok := strings.CutPrefix(line, tag+" "); ok {
			switch {
			case strings.HasPrefix(answer, "OK"):
				return literals, nil
			case verb == "LOGIN" && strings.HasPrefix(answer, "NO"):
				return nil, fmt.Errorf("%w: %s", ErrLogin, answer)
			}
			return nil, fmt.Errorf("IMAP %s: %s", verb, answer)
		}
		open := strings.LastIndexByte(line, '{')
		if open < 0 || !strings.HasSuffix(line, "}") {
			continue
		}
		size, err := strconv.Atoi(line[open+1 : len(line)-1])
		if err != nil || size < 0 || size > maxLetter {
			return nil, fmt.Errorf("IMAP %s: literal in %q", verb, line)
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(c.in, body); err != nil {
			return nil, fmt.Errorf("IMAP %s: %w", verb, err)
		}
		literals = append(literals, strings.ReplaceAll(string(body), "\r\n", "\n"))
	}
}

// quoted is a string as IMAP quotes it.
func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// SendMail delivers a message by SMTP, as a stranger's mail server would, and returns when it is in the mailbox. text is
// the whole message with header. That it was refused, put off or sent back is an error with the mail server's words.
func (b *Box) SendMail(ctx context.Context, to, text string) error {
	err := b.fresh(ctx, to, func() error {
		id, err := b.submit(ctx, to, text)
		if err != nil {
			return err
		}
		return b.delivered(ctx, id)
	})
	if err != nil {
		return fmt.Errorf("send mail to %q: %w", to, err)
	}
	return nil
}

// submit hands a message to Exim and gives the name under which that keeps it.
func (b *Box) submit(ctx context.Context, to, text string) (id string, err error) {
	if strings.ContainsAny(to, "\r\n<>") {
		return "", errors.New("that is no address")
	}
	conn, err := b.dial(b.world.addr, portSMTP)
	if err != nil {
		return "", err
	}
	if err := conn.SetDeadline(until(ctx)); err != nil {
		conn.Close()
		return "", err
	}
	c := textproto.NewConn(conn)
	defer c.Close()
	if _, _, err := c.ReadResponse(220); err != nil {
		return "", err
	}
	say := func(code int, text string) (said string, err error) {
		if err := c.PrintfLine("%s", text); err != nil {
			return "", err
		}
		_, said, err = c.ReadResponse(code)
		return said, err
	}
	for _, step := range []struct {
		code int
		text string
	}{
		{250, "EHLO contact.example"},
		{250, "MAIL FROM:<visitor@contact.example>"},
		{250, "RCPT TO:<" + to + ">"},
		{354, "DATA"},
	} {
		if _, err := say(step.code, step.text); err != nil {
			return "", err
		}
	}
	body := c.DotWriter()
	if _, err := io.WriteString(body, text); err != nil {
		return "", err
	}
	if err := body.Close(); err != nil {
		return "", err
	}
	_, said, err := c.ReadResponse(250)
	if err != nil {
		return "", err
	}
	_, id, ok := strings.Cut(said, "id=")
	if !ok {
		return "", fmt.Errorf("accepted without a name: %q", said)
	}
	_, err = say(221, "QUIT")
	return id, err
}

// delivered waits until Exim's log tells what became of a message.
func (b *Box) delivered(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, maxMail)
	defer cancel()
	return poll(ctx, func() (bool, error) {
		log, err := os.ReadFile(b.PathInHost(eximLog))
		if err != nil {
			return false, err
		}
		for line := range strings.Lines(string(log)) {
			_, event, ok := strings.Cut(line, " "+id+" ")
			switch {
			case !ok:
			case strings.HasPrefix(event, "**"), strings.HasPrefix(event, "=="):
				return false, errors.New(strings.TrimSpace(event))
			case strings.HasPrefix(event, "Completed"):
				return true, nil
			}
		}
		return false, nil
	})
}

// A mailClock knows when Dovecot was last asked about a domain.
type mailClock struct {
	mu   sync.Mutex
	last int64 // in seconds
}

// fresh calls f at a time at which Dovecot looks at the password files of the address's domain again. It does so at most
// once in every second of the clock, and would answer from memory in between, whatever became of the files.
func (b *Box) fresh(ctx context.Context, address string, f func() error) error {
	_, domain, _ := strings.Cut(strings.ToLower(address), "@")
	c := b.world.clocks[domain]
	if c == nil {
		return f()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if wait := time.Until(time.Unix(c.last+1, 0)); wait > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
	defer func() { c.last = time.Now().Unix() }()
	return f()
}
