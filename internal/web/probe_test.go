package web

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// counted is a connection that is counted while it is open.
type counted struct {
	net.Conn
	open *atomic.Int32
}

func (c counted) Close() error {
	c.open.Add(-1)
	return c.Conn.Close()
}

func TestProbeAnswersInOrderWithHostAndExactPath(t *testing.T) {
	var running, most atomic.Int32
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.RequestURI == "/a%2Fb%20c" && r.Host == "a.example":
			w.WriteHeader(403)
		case r.RequestURI == "/old":
			http.Redirect(w, r, "http://www.a.example/new", 301)
		case r.RequestURI == "/new" && r.Host == "www.a.example":
			w.WriteHeader(404)
		case r.RequestURI == "/away":
			http.Redirect(w, r, "http://elsewhere.example/", 302)
		case r.RequestURI == "/loop":
			http.Redirect(w, r, "/loop", 302)
		case r.RequestURI == "/boom":
			w.WriteHeader(500)
		case r.RequestURI == "/back-soon":
			w.Header().Set("Retry-After", "600")
			w.WriteHeader(503)
		case r.RequestURI == "/down":
			w.WriteHeader(503)
		case r.RequestURI == "/login":
			w.WriteHeader(401)
		case r.RequestURI == "/big":
			fmt.Fprint(w, strings.Repeat("x", 1<<20))
		case r.RequestURI == "/agent":
			if strings.HasPrefix(r.UserAgent(), "rightful/") {
				w.WriteHeader(204)
			}
		default:
			w.WriteHeader(418)
		}
	})
	plain := httptest.NewServer(h)
	defer plain.Close()
	secure := httptest.NewTLSServer(h)
	defer secure.Close()
	var to []string
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		to = append(to, addr)
		target := plain.Listener.Addr().String()
		if strings.HasSuffix(addr, ":443") {
			target = secure.Listener.Addr().String()
		}
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		conn, err := new(net.Dialer).DialContext(ctx, network, target)
		return counted{conn, &running}, err
	}
	var reqs []Request
	for _, p := range []string{"/a%2Fb%20c", "/old", "/away", "/loop", "/boom", "/login", "/big", "/agent", "/x", "/back-soon", "/down"} {
		reqs = append(reqs, Request{Host: "a.example", Listen: "http://:80", Path: p})
	}
	reqs = append(reqs, Request{Host: "a.example", Listen: "https://[::]:443", Path: "/login"},
		Request{Host: "a.example", Listen: "nonsense", Path: "/"}, Request{Host: "a b", Listen: "http://:80", Path: "/"})
	got := []string{}
	for _, a := range Probe(context.Background(), reqs, ProbeOptions{Dial: dial, Parallel: 1}) {
		later := ""
		if a.Later {
			later = " later"
		}
		got = append(got, fmt.Sprintf("%d %s %s%s", a.Status, a.Class, a.Redirected, later))
	}
	if d := cmp.Diff([]string{
		"403 refused ", "404 refused http://www.a.example/new", "302 served http://elsewhere.example/", "302 served /loop",
		"500 error ", "401 served ", "200 served ", "204 served ", "418 error ", "503 error  later", "503 error ", "401 served ", "0 none ", "0 none ",
	}, got); d != "" {
		t.Error(d)
	}
	if most.Load() > 1 {
		t.Errorf("%d requests at once, one was allowed", most.Load())
	}
	for _, a := range to {
		if a != "127.0.0.1:80" && a != "[::1]:443" {
			t.Errorf("connected to %q", a)
		}
	}
}

func TestProbeGivesUpInTime(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	start := time.Now()
	a := Probe(context.Background(), []Request{{Host: "a.example", Listen: "http://" + l.Addr().String(), Path: "/"}},
		ProbeOptions{Timeout: 50 * time.Millisecond})
	if a[0].Class != ClassNone || a[0].Err != "no answer in time" || time.Since(start) > 3*time.Second {
		t.Errorf("%+v after %s", a[0], time.Since(start))
	}
}

func TestProbeConnectsToThisMachineOnly(t *testing.T) {
	for _, listen := range []string{"http://192.0.2.77:80", "http://a.example:80"} {
		a := Probe(context.Background(), []Request{{Host: "a.example", Listen: listen, Path: "/"}}, ProbeOptions{})
		if a[0].Class != ClassNone || !strings.Contains(a[0].Err, "address") {
			t.Errorf("%s: %+v", listen, a[0])
		}
	}
}

// Four requests are under way at once, no fewer and no more.
func TestProbeAsksFourAtOnce(t *testing.T) {
	const four = 4
	arrived, meet := make(chan struct{}), make(chan struct{})
	go func() { // lets requests go on by fours
		for range 3 {
			for range four {
				<-arrived
			}
			for range four {
				meet <- struct{}{}
			}
		}
	}()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case arrived <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		select {
		case <-meet:
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	var running, most atomic.Int32
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		conn, err := new(net.Dialer).DialContext(ctx, network, srv.Listener.Addr().String())
		return counted{conn, &running}, err
	}
	for i, a := range Probe(context.Background(), slices.Repeat([]Request{{Host: "a.example", Listen: "http://:80", Path: "/"}}, 3*four), ProbeOptions{Dial: dial}) {
		if a.Status != 200 {
			t.Errorf("request %d: %+v", i, a)
		}
	}
	if most.Load() != four {
		t.Errorf("%d requests at once", most.Load())
	}
}

// Whoever limits the rate is asked before each request, and an end of its patience is one of the requests' too.
func TestProbeKeepsThePace(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	reqs := slices.Repeat([]Request{{Host: "a.example", Listen: srv.URL, Path: "/"}}, 20)
	Probe(ctx, reqs, ProbeOptions{Pace: func(ctx context.Context) error {
		if n++; n == 7 {
			cancel()
		}
		return ctx.Err()
	}})
	if n != 7 {
		t.Errorf("asked %d times whether a request may be made", n)
	}
	if got := (Request{Host: "a.example", Listen: "https://:8443", Path: "/x"}).URL(); got != "https://a.example:8443/x" {
		t.Error(got)
	}
}
