package vault

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"rightful"
	"rightful/internal/policy"
	"rightful/internal/state"
	"rightful/internal/tree"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if treetest.Child() {
		return
	}
	os.Exit(m.Run())
}

const alice = 20001

// house is a server with one account, and a state directory.
type house struct {
	t     testing.TB
	root  string
	srv   *tree.Server
	store *Store
	src   Source
}

func newHouse(t testing.TB, spec string) *house {
	t.Helper()
	h := &house{t: t, root: treetest.OpenDir(t)}
	treetest.Build(t, h.root, "d 0755 0:0 home\nd 0711 20001:20001 home/alice\n"+spec)
	var err error
	if h.srv, err = tree.OpenServer(h.root); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.srv.Close)
	if h.store, err = Open(filepath.Join(t.TempDir(), "state"), h.srv); err != nil {
		t.Fatal(err)
	}
	p, err := policy.Load("cpanel", nil)
	if err != nil {
		t.Fatal(err)
	}
	v := p.Vault()
	id := rightful.Identity{UID: alice, GIDs: []uint32{alice}}
	bound, err := v.Bind(policy.Binding{Home: "/home/alice", UID: alice, GID: alice, Bases: []string{"/home/alice"}, DocRoots: []string{"/home/alice/public_html"}})
	if err != nil {
		t.Fatal(err)
	}
	h.src = Source{
		Account:  rightful.Account{Name: "alice", UID: alice, GID: alice, Home: "/home/alice"},
		Identity: id, Bases: []string{"/home/alice"}, Files: bound, MaxSize: v.MaxSize,
	}
	return h
}

// take keeps the account, and gives what was newly stored and what was left out.
func (h *house) take(recipients ...string) (*Vault, int64, []Left) {
	h.t.Helper()
	t, err := h.store.Create(Header{By: "root", Command: "test"}, recipients)
	if err != nil {
		h.t.Fatal(err)
	}
	_, stored, left, err := t.Add(h.t.Context(), h.srv, &h.src)
	if err != nil {
		h.t.Fatal(err)
	}
	v, err := t.Commit()
	if err != nil {
		h.t.Fatal(err)
	}
	return v, stored, left
}

func (h *house) paths(v *Vault) []string {
	h.t.Helper()
	files, err := h.store.Files(v, "alice")
	if err != nil {
		h.t.Fatal(err)
	}
	out := []string{}
	for _, f := range files {
		out = append(out, f.Path)
	}
	return out
}

func TestOnlyWhatIsTheAccountsOwnAndAFileIsRead(t *testing.T) {
	h := newHouse(t, `
f 0600 20001:20001 home/alice/.my.cnf = mine
f 0600 0:0 home/secret = root's
h 0 0:0 home/alice/.pgpass -> home/secret
l 0777 20001:20001 home/alice/.netrc -> ../secret
p 0644 20001:20001 home/alice/.forward
f 0600 0:0 home/alice/.procmailrc = root's
f 0644 0:0 home/alice/.profile = readable
f 0600 20002:20002 home/alice/.bashrc = bob's
d 0700 20001:20001 home/alice/.ssh
f 0600 20001:20001 "home/alice/.ssh/odd \xff\nname" = odd
d 0755 20001:20001 home/alice/public_html
d 0755 20001:20001 home/alice/public_html/a
f 0640 20001:20001 home/alice/public_html/a/.htaccess acl=user::rw-,user:33:r--,group::---,mask::r--,other::--- = deny
f 0644 20001:20001 home/alice/public_html/a/index.html = page
d 0700 0:0 home/alice/ssl
d 0755 0:0 home/alice/ssl/private
f 0644 0:0 home/alice/ssl/private/key.pem = root's, out of reach
d 0755 20001:20001 home/alice/public_html/.htaccess
`)
	v, _, left := h.take()
	want := []string{
		"/home/alice/.my.cnf", "/home/alice/.profile", "/home/alice/.ssh/odd \xff\nname", "/home/alice/public_html/a/.htaccess",
	}
	if d := cmp.Diff(want, h.paths(v)); d != "" {
		t.Errorf("kept (-want +got):\n%s", d)
	}
	reasons := map[string]string{}
	for _, l := range left {
		reasons[l.Path] = l.Reason
	}
	if d := cmp.Diff(map[string]string{
		"/home/alice/.pgpass":     "it has further hard links",
		"/home/alice/.procmailrc": "it is not the account's, who cannot read it",
		"/home/alice/.bashrc":     "it is not the account's, who cannot read it",

		"/home/alice/ssl/private/key.pem": "it is not the account's, who cannot read it",
	}, reasons); d != "" {
		t.Errorf("left out (-want +got):\n%s", d)
	}
	files, err := h.store.Files(v, "alice")
	if err != nil {
		t.Fatal(err)
	}
	acl := files[3]
	if acl.UID != alice || acl.Mode != 0o640 || acl.ACL.String() != "user::rw-,user:33:r--,group::---,mask::r--,other::---" || string(acl.Data) != "deny" {
		t.Errorf("kept %+v", acl)
	}
}

func TestAnAccountCannotFillTheVault(t *testing.T) {
	h := newHouse(t, "d 0700 20001:20001 home/alice/.ssh\n")
	for _, name := range []string{"a", "b", "c", "d"} {
		p := filepath.Join(h.root, "home/alice/.ssh", name)
		if err := os.WriteFile(p, bytes.Repeat([]byte(name), 6<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(p, alice, alice); err != nil {
			t.Fatal(err)
		}
	}
	h.src.MaxSize = 8 << 20
	v, _, left := h.take()
	if got := h.paths(v); len(got) != 2 {
		t.Errorf("kept %q of 4 files of 6 MiB each", got)
	}
	if len(left) != 2 || !strings.Contains(left[0].Reason, "16.0 MiB to keep") {
		t.Errorf("left out %+v", left)
	}
	if a, _ := v.Account("alice"); a.Left != 2 {
		t.Errorf("the vault says %d were left out", a.Left)
	}
}

func TestATenantWhoSwapsFilesGetsNothingOfRootsIntoTheVault(t *testing.T) {
	h := newHouse(t, `
f 0600 0:0 home/secret = THE SECRET
d 0700 20001:20001 home/alice/.ssh
f 0600 20001:20001 home/alice/.ssh/key = mine
l 0777 20001:20001 home/alice/.ssh/other -> ../../secret
d 0700 20001:20001 home/alice/away
l 0777 20001:20001 home/alice/link -> ..
`)
	stop := treetest.Attack(t, alice, filepath.Join(h.root, "home/alice"), "exchange .ssh/key .ssh/other", "exchange .ssh link", "exchange .ssh link")
	kept := 0
	for range 300 {
		files, _, err := Live(t.Context(), h.srv, &h.src)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			kept++
			if strings.Contains(string(f.Data), "SECRET") {
				t.Fatalf("%s holds %q", f.Path, f.Data)
			}
		}
	}
	for i, n := range stop() {
		if n == 0 {
			t.Errorf("step %d of the attack never succeeded", i)
		}
	}
	if kept == 0 {
		t.Error("nothing was ever kept, so nothing was proved")
	}
}

func TestAFileOutsideTheHomeIsReadOnlyWhereNoTenantCouldHavePutIt(t *testing.T) {
	h := newHouse(t, `
f 0600 0:0 home/secret = THE SECRET
d 0755 20001:20001 home/alice/own
l 0777 20001:20001 home/alice/own/alice -> ../../secret
d 1777 0:0 open
f 0600 20001:20001 open/alice = anybody's
d 1730 0:0 spool
f 0600 20001:20001 spool/alice = crontab
d 0755 0:0 links
h 0 0:0 links/alice -> home/secret
`)
	h.src.Outside = []string{"/home/alice/own/alice", "/open/alice", "/spool/alice", "/links/alice"}
	v, _, left := h.take()
	if d := cmp.Diff([]string{"/spool/alice"}, h.paths(v)); d != "" {
		t.Errorf("kept (-want +got):\n%s", d)
	}
	if len(left) != 3 {
		t.Errorf("left out %+v", left)
	}
}

func TestTwoWhoBeginAtOnceHaveOneKey(t *testing.T) {
	for range 20 {
		h := newHouse(t, "f 0600 20001:20001 home/alice/.my.cnf = mine\n")
		if err := h.store.dir.Create(); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		keys := make([]string, 4)
		for i := range keys {
			all.Go(func() {
				s := *h.store
				if key, err := s.ownIdentity(); err != nil {
					t.Error(err)
				} else {
					keys[i] = key.String()
				}
			})
		}
		all.Wait()
		if n := len(slices.Compact(slices.Sorted(slices.Values(keys)))); n != 1 {
			t.Fatalf("%d keys were made", n)
		}
	}
}

func TestWhatDidNotChangeIsStoredOnceAndOthersCanBeGivenTheKey(t *testing.T) {
	h := newHouse(t, "f 0600 20001:20001 home/alice/.my.cnf = mine\n")
	first, stored, _ := h.take()
	if stored == 0 {
		t.Error("the first vault took no space")
	}
	second, stored, _ := h.take()
	if stored != 0 || second.Accounts[0].Hash != first.Accounts[0].Hash {
		t.Errorf("the second one, of the same files, took %d bytes", stored)
	}
	const other = "age1gka0gzvskqc74yf7tunqc9qhmjpnfzs8zxen9xme9tq3hhs4fs6quxtzz0"
	if _, stored, _ = h.take(other); stored == 0 {
		t.Error("a new recipient got nothing to read")
	}
	if err := os.Chmod(filepath.Join(h.root, "home/alice/.my.cnf"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, stored, _ = h.take(); stored == 0 {
		t.Error("a change of mode was not kept")
	}
	// Nothing in the names tells what is in them without the key.
	if err := os.Remove(h.store.KeyPath()); err != nil {
		t.Fatal(err)
	}
	h.store.key = nil
	if again, _, _ := h.take(); again.Accounts[0].Hash == first.Accounts[0].Hash {
		t.Error("another key gives the same name")
	}
}

func TestPrunedVaultsTakeTheirFilesWithThemButNoOthers(t *testing.T) {
	h := newHouse(t, "f 0600 20001:20001 home/alice/.my.cnf = mine\n")
	first, _, _ := h.take()
	second, _, _ := h.take()
	if freed, err := h.store.Remove([]string{first.ID}); err != nil || freed != 0 {
		t.Errorf("removed what another vault needs: %d bytes, %v", freed, err)
	}
	if got := h.paths(second); len(got) != 1 {
		t.Errorf("left %q", got)
	}
	busy, err := h.store.Create(Header{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.store.Remove([]string{second.ID}); !strings.Contains(err.Error(), unix.EWOULDBLOCK.Error()) {
		t.Errorf("removed while a vault is written: %v", err)
	}
	busy.Discard()
	if freed, err := h.store.Remove([]string{second.ID}); err != nil || freed == 0 {
		t.Errorf("nothing was freed: %d, %v", freed, err)
	}
	if all, err := h.store.List(); len(all) != 0 || err != nil {
		t.Errorf("left %+v, %v", all, err)
	}
}

func TestEveryBitOfAVaultIsGuarded(t *testing.T) {
	h := newHouse(t, "f 0600 20001:20001 home/alice/.my.cnf = mine\n")
	v, _, _ := h.take()
	path := h.store.accountPath(v.Accounts[0].Hash)
	for file, read := range map[string]func() error{
		path: func() error {
			_, err := h.store.Files(v, "alice")
			return err
		},
		h.store.path(v.ID): func() error {
			_, err := h.store.Get(v.ID)
			return err
		},
	} {
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << (i % 8)
			if err := os.WriteFile(file, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if read() == nil {
				t.Errorf("%s: bit %d of byte %d flipped, and nobody noticed", filepath.Base(file), i%8, i)
			}
			if err := os.WriteFile(file, good[:i], 0o600); err != nil {
				t.Fatal(err)
			}
			if read() == nil {
				t.Errorf("%s: cut at byte %d, and nobody noticed", filepath.Base(file), i)
			}
		}
		if err := os.WriteFile(file, good, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := read(); err != nil {
			t.Error(err)
		}
	}
}

func TestAVaultOfANewerVersionOrAnotherServerIsRefused(t *testing.T) {
	h := newHouse(t, "f 0600 20001:20001 home/alice/.my.cnf = mine\n")
	v, _, _ := h.take()
	_, err := parse(state.Seal([]byte(`{"version":99,"vault":"20260101-000000-0000"}`+"\n"), 0))
	if err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("a newer one: %v", err)
	}
	h.store.dir.Server = "another"
	if _, err := h.store.Get(v.ID); err == nil || !strings.Contains(err.Error(), "this is another") {
		t.Errorf("another server's: %v", err)
	}
}

// sealed ends a list of vaults as Commit does.
func FuzzVaultList(f *testing.F) {
	f.Add([]byte(`{"version":1}`+"\n"), 0)
	f.Add([]byte(`{"version":1}`+"\n"+`{"account":"a","hash":"`+strings.Repeat("0", 64)+`"}`+"\n"), 1)
	f.Fuzz(func(t *testing.T, body []byte, n int) {
		if v, err := parse(body); err == nil {
			t.Logf("%+v", v)
		}
		v, err := parse(state.Seal(body, n))
		if err == nil && (len(v.Accounts) != n || v.Version != formatVersion) {
			t.Errorf("%d accounts of version %d, the end says %d", len(v.Accounts), v.Version, n)
		}
	})
}
