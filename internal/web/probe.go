package web

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"rightful"
)

// A Request is one question to the local web server.
type Request struct {
	Host string // sent as Host and, with https, as the server name
	// Listen is where to connect: scheme://address:port, as in rightful.Site.Listen.
	Listen string
	Path   string // percent-encoded, sent as it is
}

// URL is how a visitor would write the request.
func (q Request) URL() string {
	scheme, addr, _ := strings.Cut(q.Listen, "://")
	host := q.Host
	if _, port, err := net.SplitHostPort(addr); err == nil && port != map[string]string{"http": "80", "https": "443"}[scheme] {
		host = net.JoinHostPort(q.Host, port)
	}
	return scheme + "://" + host + q.Path
}

// Class is how good an answer is for a visitor; a greater one is better.
type Class uint8

// The classes. None and ClassError prove nothing about access.
const (
	ClassNone    Class = iota // no answer: refused connection, timeout, not HTTP
	ClassError                // 5xx, and those of 4xx that speak of the request: 400, 421, 429, …
	ClassRefused              // 403, 404, 410
	ClassServed               // 2xx, 3xx, 401
)

func classNames() []string { return []string{"none", "error", "refused", "served"} }

// String is the class's name.
func (c Class) String() string { return classNames()[min(c, ClassServed)] }

// MarshalText implements encoding.TextMarshaler.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Class) UnmarshalText(b []byte) error {
	i := slices.Index(classNames(), string(b))
	if i < 0 {
		return fmt.Errorf("unknown class of answer %q", b)
	}
	*c = Class(i)
	return nil
}

// ClassOf sorts a status; 0 is no answer.
func ClassOf(status int) Class {
	switch {
	case status == 0:
		return ClassNone
	case status >= 200 && status < 400, status == 401:
		return ClassServed
	case status == 403, status == 404, status == 410:
		return ClassRefused
	}
	return ClassError
}

// An Answer is what a visitor would have met.
type Answer struct {
	Status int // of the last response; 0 where there was none
	Class  Class
	Millis int64 // from the connection to the end of what was read, redirect included
	Err    string
	// Later is set where the server or the application says itself that it will be back: 503 with Retry-After. That is
	// what maintenance looks like, and tells nothing about access.
	Later bool
	// Redirected is the target of the redirect that was followed, or that led elsewhere and was not.
	Redirected string
}

// ProbeOptions changes how requests are made. The zero value is right.
type ProbeOptions struct {
	Parallel  int           // at most this many at once; 4
	Timeout   time.Duration // of each request, redirect included; 5 s
	UserAgent string        // "rightful/VERSION (+local check)"
	// Pace, if set, is called before each request and returns when it may be made.
	Pace func(context.Context) error
	// Dial replaces the connection, for tests. Without it only addresses of this machine are connected to.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// maxBody is how much of an answer is read: enough to see that the server can send it.
const maxBody = 64 << 10

// Probe makes the requests and returns their answers in the same order. It connects to the listening address whatever
// the host's name resolves to, so no name is looked up and nothing leaves the machine; it does not verify certificates,
// uses no proxy, and follows one redirect, to the same host or its www twin at the same address.
func Probe(ctx context.Context, reqs []Request, o ProbeOptions) []Answer {
	o.Parallel = cmp.Or(o.Parallel, 4)
	o.Timeout = cmp.Or(o.Timeout, 5*time.Second)
	o.UserAgent = cmp.Or(o.UserAgent, "rightful/"+rightful.Version+" (+local check)")
	if o.Dial == nil {
		o.Dial = dialLocal
	}
	answers := make([]Answer, len(reqs))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(max(o.Parallel, 1), len(reqs)) {
		wg.Go(func() {
			for i := range next {
				answers[i] = probe(ctx, reqs[i], o)
			}
		})
	}
	for i := range reqs {
		if o.Pace != nil && ctx.Err() == nil {
			o.Pace(ctx) // its error is the context's, which the request meets too
		}
		next <- i
	}
	close(next)
	wg.Wait()
	return answers
}

// dialLocal connects to addresses of this machine only.
func dialLocal(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	ip := net.ParseIP(host)
	if ip == nil {
		return nil, fmt.Errorf("address %q is not numeric", host)
	}
	if !ip.IsLoopback() {
		own, err := net.InterfaceAddrs()
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(own, func(a net.Addr) bool {
			n, ok := a.(*net.IPNet)
			return ok && n.IP.Equal(ip)
		}) {
			return nil, fmt.Errorf("address %q is not this machine's", host)
		}
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

func probe(ctx context.Context, q Request, o ProbeOptions) (a Answer) {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	start := time.Now()
	defer func() { a.Millis = time.Since(start).Milliseconds() }()
	scheme, addr, err := connectTo(q.Listen)
	if err != nil {
		a.Err = err.Error()
		return a
	}
	host, p := q.Host, q.Path
	for hop := 0; ; hop++ {
		status, head, err := get(ctx, scheme, addr, host, p, o)
		if err != nil {
			if hop > 0 && errors.Is(err, syscall.ECONNREFUSED) {
				return a // nobody answers there on this machine; what a proxy before it would do is not known
			}
			a.Status, a.Class, a.Err = status, ClassNone, short(err)
			return a
		}
		a.Status, a.Class = status, ClassOf(status)
		a.Later = status == http.StatusServiceUnavailable && head.Get("Retry-After") != ""
		location := head.Get("Location")
		if hop > 0 || status < 300 || status > 399 || location == "" {
			return a
		}
		a.Redirected = location
		u, err := redirect(scheme, host, p, location)
		if err != nil || !sameSite(u.Hostname(), host) {
			return a
		}
		_, port, _ := net.SplitHostPort(addr)
		ip, _, _ := net.SplitHostPort(addr)
		if u.Scheme != scheme || u.Port() != "" {
			port = cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
		}
		scheme, addr, host, p = u.Scheme, net.JoinHostPort(ip, port), u.Hostname(), u.RequestURI()
	}
}

// connectTo splits scheme://address:port and makes an unspecified address one that can be connected to.
func connectTo(listen string) (scheme, addr string, err error) {
	scheme, rest, ok := strings.Cut(listen, "://")
	host, port, err := net.SplitHostPort(rest)
	if !ok || err != nil || scheme != "http" && scheme != "https" {
		return "", "", fmt.Errorf("address %q is not SCHEME://ADDRESS:PORT", listen)
	}
	switch host {
	case "", "0.0.0.0", "*", "localhost":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return scheme, net.JoinHostPort(host, port), nil
}

// redirect resolves a Location against the request that it answers.
func redirect(scheme, host, p, location string) (*url.URL, error) {
	base, err := url.Parse(scheme + "://" + host + p)
	if err != nil {
		return nil, err
	}
	u, err := base.Parse(location)
	if err == nil && u.Scheme != "http" && u.Scheme != "https" {
		err = fmt.Errorf("redirect to %q", u.Scheme)
	}
	return u, err
}

func sameSite(a, b string) bool {
	bare := func(s string) string { return strings.TrimPrefix(strings.ToLower(strings.TrimSuffix(s, ".")), "www.") }
	return bare(a) == bare(b)
}

// get makes one request on its own connection and reads the answer's status, its header, and a part of its body.
// The request is written by hand: net/http would mend a path that is not in its form, and it is sent as it is.
func get(ctx context.Context, scheme, addr, host, p string, o ProbeOptions) (status int, head http.Header, err error) {
	if host == "" || strings.ContainsAny(host, " \t\r\n/") {
		return 0, nil, fmt.Errorf("host %q is not a name", host)
	}
	conn, err := o.Dial(ctx, "tcp", addr)
	if err != nil {
		return 0, nil, err
	}
	defer conn.Close()
	// A done context wakes whatever waits on the connection.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if scheme == "https" {
		// What is asked is whether the local server answers; whether its certificate is good is another matter.
		tc := tls.Client(conn, &tls.Config{ServerName: serverNameFor(host), InsecureSkipVerify: true, MinVersion: tls.VersionTLS10})
		if err := tc.HandshakeContext(ctx); err != nil {
			return 0, nil, fmt.Errorf("TLS: %w", err)
		}
		conn = tc
	}
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nAccept: */*\r\nConnection: close\r\n\r\n", requestPath(p), host, o.UserAgent)
	if err != nil {
		return 0, nil, err
	}
	// The head is bounded too; an endless one is no HTTP.
	r := bufio.NewReader(io.LimitReader(conn, maxBody+(64<<10)))
	resp, err := http.ReadResponse(r, nil)
	for err == nil && resp.StatusCode >= 100 && resp.StatusCode < 200 {
		resp, err = http.ReadResponse(r, nil)
	}
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody)); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return resp.StatusCode, nil, fmt.Errorf("read body: %w", err)
	}
	return resp.StatusCode, resp.Header, nil
}

// serverNameFor is the name for TLS: an address is not sent.
func serverNameFor(host string) string {
	if net.ParseIP(host) != nil {
		return ""
	}
	return host
}

// requestPath makes sure that a path is one word of a request line; bytes that would end it are encoded.
func requestPath(p string) string {
	if !strings.HasPrefix(p, "/") {
		p = "/" + p
	}
	var b strings.Builder
	for i := range len(p) {
		if c := p[i]; c <= ' ' || c >= 0x7f {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// short names the cause of a failed request without the addresses that net adds.
func short(err error) string {
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	if errors.Is(err, context.Canceled) {
		return "cancelled"
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "connection refused"
	}
	return err.Error()
}
