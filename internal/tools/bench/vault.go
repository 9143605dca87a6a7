package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// vaults measures what it costs to keep the small files of many accounts, and above all to find that nothing changed,
// which is what a timer does.
func (b *bench) vaults(ctx context.Context, accounts int) error {
	w := customers(filepath.Join(b.dir, fmt.Sprintf("vault-%d", accounts)), accounts)
	if err := b.grown(w); err != nil {
		return err
	}
	b.printf("\n## A vault of %s accounts, %s entries\n", thousands(float64(accounts)), thousands(float64(w.entries)))
	state := filepath.Join(b.dir, "state")
	take := b.verb(w, w.entries, "vault", "take")
	take.name, take.ok = "rightful vault take", nil
	take.before = func() error { return os.RemoveAll(state) }
	again := b.verb(w, w.entries, "vault", "take")
	again.name, again.ok = "the same again, unchanged", nil
	if err := b.contest(ctx, "keeping small files", []*contender{take, again, b.step("attrs", w)}, b.rounds); err != nil {
		return err
	}
	last := b.verb(w, w.entries, "vault", "take", "--json")
	out, err := exec.CommandContext(ctx, last.argv[0], last.argv[1:]...).Output()
	if err != nil {
		return fmt.Errorf("keep %s: %w", w.root, err)
	}
	var sum struct {
		Files  int
		Bytes  int64
		Stored int64
		Left   int `json:"left_out"`
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	if err := json.Unmarshal(lines[len(lines)-1], &sum); err != nil {
		return fmt.Errorf("keep %s: %w", w.root, err)
	}
	if sum.Files != accounts*keptPerCustomer || sum.Left > 0 {
		return fmt.Errorf("keep %s: of %d files %d were kept, %d left out", w.root, accounts*keptPerCustomer, sum.Files, sum.Left)
	}
	lists, listed, err := filesIn(filepath.Join(state, "vault"), ".vault")
	files, size, err2 := filesIn(filepath.Join(state, "vault", "accounts"), ".age")
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	b.printf("\n| what is kept | |\n|---|---:|\n| files | %s |\n| bytes in them | %s |\n| on disk, encrypted | %s in %d files |\n| newly stored when nothing changed | %d |\n| list of the accounts, for each vault | %s |\n",
		thousands(float64(sum.Files)), thousands(float64(sum.Bytes)), thousands(float64(size)), files, sum.Stored, thousands(float64(listed)/float64(lists)))
	b.targets = append(b.targets, target{
		what: fmt.Sprintf("vault of %s accounts, nothing changed", thousands(float64(accounts))), got: fmt.Sprintf("%.1f s", again.wall().Seconds()),
		want: "≤ 5.0 s", by: again.wall().Seconds()/5 - 1, cpu: fmt.Sprintf("%.1f s", again.cpu().Seconds()),
	}, target{
		what: "newly stored of accounts that did not change", got: fmt.Sprintf("%d B", sum.Stored), want: "0 B", by: float64(sum.Stored),
	})
	return os.RemoveAll(state)
}

// filesIn counts the files of a directory whose names end so, and their bytes.
func filesIn(dir, ext string) (n int, size int64, err error) {
	list, err := os.ReadDir(dir)
	for _, e := range list {
		if filepath.Ext(e.Name()) != ext {
			continue
		}
		i, err := e.Info()
		if err != nil {
			return n, size, err
		}
		n, size = n+1, size+i.Size()
	}
	return n, size, err
}

// customers is a world of many accounts of about a thousand entries: a site, mail, and keptPerCustomer files that are worth
// keeping, of a few KiB.
func customers(root string, accounts int) *world {
	w := &world{root: root, accounts: accounts}
	for i := range accounts {
		w.extra = append(w.extra, func(put put) { customer(i, put) })
	}
	return w
}

// keptPerCustomer is how many files of a customer the rules keep.
const keptPerCustomer = 60

func customer(i int, put put) {
	kept := func(rel string, mode uint32, lines int) {
		put(thing{rel: rel, mode: mode, text: strings.Repeat(fmt.Sprintf("# %s of %s: a line of the usual length, more or less\n", filepath.Base(rel), name(i)), lines)})
	}
	dir := func(rel string, mode uint32) { put(thing{rel: rel, dir: true, mode: mode, web: rel == "public_html"}) }
	dir("", 0o711)
	for _, f := range []string{".bashrc", ".profile", ".my.cnf", ".forward"} {
		kept(f, 0o600, 10)
	}
	dir(".ssh", 0o700)
	kept(".ssh/authorized_keys", 0o600, 8)
	kept(".ssh/id_ed25519", 0o600, 8)
	dir(".htpasswds", 0o750)
	kept(".htpasswds/admin", 0o640, 4)
	dir("ssl", 0o755)
	for k := range 8 {
		kept(fmt.Sprintf("ssl/%d.pem", k), 0o600, 60)
	}
	dir("sieve", 0o700)
	for k := range 4 {
		kept(fmt.Sprintf("sieve/%d.sieve", k), 0o600, 20)
	}
	dir("public_html", 0o750)
	kept("public_html/wp-config.php", 0o600, 90)
	kept("public_html/.htaccess", 0o644, 20)
	kept("public_html/.user.ini", 0o644, 4)
	for k := range 38 {
		sub := fmt.Sprintf("public_html/%s%d", word(uint32(k)), k)
		dir(sub, 0o755)
		kept(sub+"/.htaccess", 0o644, 5)
		for n := range 20 {
			put(thing{rel: fmt.Sprintf("%s/%s%d.php", sub, word(uint32(n)), n), mode: 0o644})
		}
	}
	dir("Maildir", 0o700)
	dir("Maildir/cur", 0o700)
	for k := range 120 {
		put(thing{rel: fmt.Sprintf("Maildir/cur/1760000000.M%dP1.host,S=4000:2,S", k), mode: 0o600})
	}
}
