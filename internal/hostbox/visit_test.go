package hostbox

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// Sites differ in how visitors reach them; each way is really there.
func TestVisitorsReachSitesInEveryWay(t *testing.T) {
	panels(t, func(t *testing.T, b *Box) {
		if b.Panel == "cpanel" {
			return // there every site is reached in the same ways
		}
		ctx := t.Context()
		ask := func(addr [4]byte, host string) string {
			conn, err := b.dial(addr, 80)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write([]byte("GET /info.php HTTP/1.0\r\nHost: " + host + "\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			var answer strings.Builder
			buf := make([]byte, 4096)
			for n, err := 0, error(nil); err == nil; answer.Write(buf[:n]) {
				n, err = conn.Read(buf)
			}
			return answer.String()
		}
		for _, c := range []struct {
			host        string
			uid         int
			addr        [4]byte
			answers     bool
			listenCount int
		}{
			{"bob.example", 20002, b.world.public, true, 1},
			{"bob.example", 20002, b.world.addr, false, 1},
			{"album.bob.example", 20002, b.world.public, true, 2},
			{"album.bob.example", 20002, b.world.addr, true, 2},
			{"carol.example", 20003, b.world.addr, true, 2},
			{"carol.example", 20003, b.world.public, false, 2},
		} {
			if got := strings.Contains(ask(c.addr, c.host), fmt.Sprintf("%s served as uid %d\n", c.host, c.uid)); got != c.answers {
				t.Errorf("%s at %v: answers %v, want %v", c.host, c.addr, got, c.answers)
			}
			for _, a := range b.Accounts() {
				for _, s := range a.Sites {
					if s.Name == c.host && len(s.Listen) != c.listenCount {
						t.Errorf("%s listens at %q", c.host, s.Listen)
					}
				}
			}
		}
		if code, _, err := b.Get(ctx, "heidi.example", "/"); code != http.StatusMovedPermanently || err != nil {
			t.Errorf("http://heidi.example/ answers %d, %v, want 301", code, err)
		}
		if code, _, err := b.Visit(ctx, "www.heidi.example", "/css/style.css"); code != http.StatusOK || err != nil {
			t.Errorf("http://www.heidi.example/css/style.css leads to %d, %v, want 200", code, err)
		}
		if b.Panel == "plain" {
			if code, _, err := b.Get(ctx, "kim.example", "/info.php"); code != 200 || err != nil {
				t.Errorf("http://kim.example/info.php answers %d, %v", code, err)
			}
			owner, err := b.Run(ctx, `for p in /proc/[0-9]*; do grep -qsx php-cgi "$p/comm" && stat -c %U "$p" || :; done | sort -u`)
			if owner != "kim\n" || err != nil {
				t.Errorf("processes of php-cgi are %q's, %v, want kim's", owner, err)
			}
		}
	})
}

func TestASiteInMaintenanceAnswers503AndComesBack(t *testing.T) {
	for _, panel := range []string{"plain", "nginx"} {
		t.Run(panel, func(t *testing.T) {
			b := StartFor(t, Spec{Panel: panel, Accounts: 3})
			for _, c := range []struct {
				on   bool
				want int
			}{{true, 503}, {false, 200}} {
				if err := Maintenance(context.Background(), b, "carol", c.on); err != nil {
					t.Fatal(err)
				}
				codes := b.StatusAll(t.Context())
				if codes["carol.example"] != c.want || codes["alice.example"] != 200 {
					t.Errorf("maintenance %v: %v", c.on, codes)
				}
				if code, _, err := b.Get(t.Context(), "carol.example", "/css/style.css"); code != 200 || err != nil {
					t.Errorf("static files in maintenance: %d, %v", code, err)
				}
			}
		})
	}
}
