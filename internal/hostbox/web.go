package hostbox

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxBody is how much of an answer Get keeps, in bytes.
const maxBody = 1 << 20

// maxStart is how long Apache may take to start.
const maxStart = 30 * time.Second

// pidFiles are those of the web server and of PHP-FPM.
func (w *world) pidFiles() []string {
	if w.nginx {
		return []string{"/run/nginx.pid", "/run/php/fpm.pid"}
	}
	return []string{"/run/apache2/apache2.pid", "/run/php/fpm.pid"}
}

// StartWeb starts PHP-FPM and the web server. Both have their sockets when it returns.
func (b *Box) StartWeb(ctx context.Context) error {
	if _, err := b.Run(ctx, b.world.startWeb(b.phpv, b.first)); err != nil {
		return err
	}
	// PHP-FPM's starter waits for its daemon, Apache's does not: it is ready when its file tells its process and its
	// port answers.
	ctx, cancel := context.WithTimeout(ctx, maxStart)
	defer cancel()
	err := poll(ctx, func() (bool, error) {
		pid, err := os.ReadFile(b.PathInHost(b.world.pidFiles()[0]))
		if err != nil || len(pid) == 0 {
			return false, nil
		}
		return b.listens(80), nil
	})
	if err != nil {
		log, _ := b.Run(context.WithoutCancel(ctx), "tail -n 5 /var/log/*/error*log")
		return fmt.Errorf("wait for the web server: %w: %s", err, log)
	}
	return b.childrenLast(ctx)
}

// listens reports whether a port answers.
func (b *Box) listens(port int) bool {
	conn, err := b.dial(b.world.addr, port)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// poll asks every few milliseconds whether something is so.
func poll(ctx context.Context, so func() (bool, error)) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := so(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// WorkersFirst has Apache, from its next start on, connect to whatever mod_fcgid starts before that can end. mod_fcgid's
// manager starts a wrapper, then tells the worker, which connects: where the wrapper ended before that, the worker has
// another started a second later, 32 times in all. For one that ends at once, as behind a closed directory, this is a
// race, and on a busy machine it is lost for many seconds. So all of Apache is given one processor and goes before all
// else there, and what the manager starts does not. It fails where the machine forbids that, and changes nothing then.
func (b *Box) WorkersFirst(ctx context.Context) error {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return os.NewSyscallError("sched_getaffinity", err)
	}
	cpu := 0
	for !allowed.IsSet(cpu) {
		cpu++
	}
	first := fmt.Sprintf("chrt --fifo 1 taskset --cpu-list %d ", cpu)
	if _, err := b.Run(ctx, first+"true"); err != nil {
		return err
	}
	b.first = first
	return nil
}

// childrenLast takes from what mod_fcgid starts the rank that Apache has by WorkersFirst. Under suEXEC its manager alone
// stays root and acts as another; it does so a moment after its birth.
func (b *Box) childrenLast(ctx context.Context) error {
	if b.first == "" {
		return nil
	}
	_, err := b.Run(ctx, `
until manager=$(grep -ls '^Uid:	0	[1-9]' /proc/[0-9]*/status) || [ -n "$manager" ]; do sleep 0.02; done
pid=${manager#/proc/}
chrt --reset-on-fork --fifo --pid 1 "${pid%/status}"`)
	return err
}

// StopWeb ends the web server and PHP-FPM and waits for the end of both.
func (b *Box) StopWeb(ctx context.Context) error {
	_, err := b.Run(ctx, `
for f; do
	pid=$(cat "$f" 2>/dev/null) || continue
	kill "$pid" 2>/dev/null || continue
	tail --pid="$pid" --sleep-interval=0.02 --follow /dev/null
	rm -f "$f"
done
# A worker that outlives its master by a moment holds the port.
while grep -q ':0050 [0-9A-F:]* 0A ' /proc/net/tcp /proc/net/tcp6 2>/dev/null; do sleep 0.02; done`, b.world.pidFiles()...)
	return err
}

// ReloadWeb makes changed configuration, users and groups effective. It is a full restart: after a graceful one, old
// processes would go on answering for a moment that nobody can name.
func (b *Box) ReloadWeb(ctx context.Context) error {
	if err := b.StopWeb(ctx); err != nil {
		return err
	}
	return b.StartWeb(ctx)
}

// Get sends one real HTTP request, as a visitor would, to the box's web server. path is sent as it is, percent-encoded
// by the caller. A redirect is an answer. The body is cut at 1 MiB.
func (b *Box) Get(ctx context.Context, host, path string) (status int, body string, err error) {
	return b.get(ctx, "http://"+host+path, 80)
}

// GetAs is Get by a visitor who gives a name and a password.
func (b *Box) GetAs(ctx context.Context, user, password, host, path string) (status int, body string, err error) {
	return b.get(ctx, "http://"+url.UserPassword(user, password).String()+"@"+host+path, 80)
}

// GetTLS is Get over TLS, with the host as the server name. The named accounts' sites have it: all of them on a
// cPanel-shaped box, some on a plain one. It trusts the box's own certificate and no other.
func (b *Box) GetTLS(ctx context.Context, host, path string) (status int, body string, err error) {
	return b.get(ctx, "https://"+host+path, 443)
}

func (b *Box) get(ctx context.Context, address string, port int) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("User-Agent", "hostbox")
	transport := &http.Transport{
		DisableKeepAlives:  true,
		DisableCompression: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return b.dial(b.world.dials(req.URL.Hostname()), port)
		},
		TLSClientConfig: &tls.Config{RootCAs: b.trust},
	}
	client := &http.Client{
		Transport:     transport,
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	return resp.StatusCode, string(text), err
}

// Visit is Get as a browser does it: a redirect to the same host over TLS is followed.
func (b *Box) Visit(ctx context.Context, host, path string) (status int, body string, err error) {
	status, body, err = b.Get(ctx, host, path)
	if s := b.world.hosts[host]; err == nil && status == http.StatusMovedPermanently && s != nil && s.moved {
		return b.GetTLS(ctx, host, path)
	}
	return status, body, err
}

// StatusAll visits the front page of every site and returns the status by host name: 0 where there was no answer.
func (b *Box) StatusAll(ctx context.Context) map[string]int {
	sites := b.Sites()
	codes := make([]int, len(sites))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i, s := range sites {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			codes[i], _, _ = b.Visit(ctx, s.Host, s.Path)
		})
	}
	wg.Wait()
	all := make(map[string]int, len(sites))
	for i, s := range sites {
		all[s.Host] = codes[i]
	}
	return all
}

// Dial connects to port 80 of the box's web server, for whoever has more to ask than one [Box.Get].
func (b *Box) Dial() (net.Conn, error) { return b.dial(b.world.addr, 80) }

// dial connects to an address inside the box.
func (b *Box) dial(addr [4]byte, port int) (conn net.Conn, err error) {
	err = b.inNet(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		// A socket belongs to the namespace of its birth: from here on any thread may use it.
		f := os.NewFile(uintptr(fd), "box")
		defer f.Close()
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: addr}); err != nil {
			return os.NewSyscallError("connect", err)
		}
		conn, err = net.FileConn(f)
		return err
	})
	return conn, err
}

// inNet calls f on a thread that is in the box's network namespace. The thread is not given back to the runtime: it
// ends with its goroutine, so no other goroutine ever runs in the box's network.
func (b *Box) inNet(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(b.net.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the box's network: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// loopbackUp gives the loopback interface of this thread's namespace its address, and the server's public one.
func loopbackUp(public [4]byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("SIOCSIFFLAGS: %w", err)
	}
	alias, err := unix.NewIfreq("lo:1")
	if err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		req  uint
		addr []byte
	}{
		{"SIOCSIFADDR", unix.SIOCSIFADDR, public[:]},
		{"SIOCSIFNETMASK", unix.SIOCSIFNETMASK, []byte{255, 255, 255, 255}},
	} {
		if err := alias.SetInet4Addr(step.addr); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, step.req, alias); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}
