// Package vault keeps the small files without which an account cannot live (keys, password files, mail accounts, how its
// sites are served) outside its home, before the accident: encrypted, as they were at one time.
//
// It promises:
//
//   - What is in the vault can be had without this program: an account's file is age(1) encryption of a gzipped tar
//     archive. With the server's key, or the offline one of a recipient, `age -d -i KEY FILE | tar -tzv` lists it.
//   - A file appears under its name only when all of it is on disk. What did not change since an earlier vault is stored
//     once; the name tells only who has the key whether two are the same.
//   - A tenant's file is read through a pinned descriptor: regular files of a bounded size, no link followed, nothing with
//     further hard links, and nothing that the account itself could not have read.
//   - Whatever is left out is told, with the reason.
//
// It refuses to put anything back: that is a repair's. It knows no panel and no rule: it is handed a matcher.
//
// # Files
//
// In the state directory, which only its owner can enter: vault/key, the server's own age identity, made at first use;
// vault/ID.vault, one for each vault; vault/accounts/HASH.age, the files of one account, shared by all vaults in which
// they were the same.
//
// ID.vault is lines of JSON: a Header, an Account for each account in the order of their names, and last
// {"end":N,"sha256":HASH} with the number of accounts and the SHA-256 of all bytes before that line.
//
// HASH is HMAC-SHA256, under a key derived from the server's, over the recipients and the tar archive. The archive has
// one regular file for each file kept, in the order of their paths, which are absolute but for the first slash; owner,
// group, mode (without set-id bits) and time of modification are those of the file, an ACL stands in SCHILY.acl.access.
package vault

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"rightful/internal/state"
	"rightful/internal/tree"

	"filippo.io/age"
	"golang.org/x/sys/unix"
)

const (
	vaultDir      = "vault"
	accountsDir   = "vault/accounts"
	keyFile       = "vault/key"
	vaultExt      = ".vault"
	accountExt    = ".age"
	formatVersion = 1
)

// The errors that callers act on.
var (
	ErrNoVault = errors.New("no such vault")
	ErrDamaged = errors.New("it is damaged")
	ErrNewer   = errors.New("it is of a newer version of Rightful")
	ErrNoKey   = errors.New("the vault's key is missing")
)

// A Header says what a vault is and where it came from.
type Header struct {
	Version int       `json:"version"`
	ID      string    `json:"vault"`
	Server  string    `json:"server"`
	Root    string    `json:"root"`
	Created time.Time `json:"created"`
	By      string    `json:"by"`
	Command string    `json:"command"`
	Program string    `json:"program"`
	// Recipients can read it besides the server itself.
	Recipients []string `json:"recipients"`
}

// An Account is one account in a vault.
type Account struct {
	Account string `json:"account"`
	UID     uint32 `json:"uid"`
	Home    string `json:"home"`
	Hash    string `json:"hash"` // names the file
	Files   int    `json:"files"`
	Bytes   int64  `json:"bytes"` // of what is in the files
	// Left counts what should have been kept and was left out.
	Left int `json:"left_out"`
}

// A Vault is one in the list.
type Vault struct {
	Header
	Accounts []Account
}

// Account finds an account in the vault.
func (v *Vault) Account(name string) (*Account, bool) {
	i, ok := slices.BinarySearchFunc(v.Accounts, name, func(a Account, n string) int { return strings.Compare(a.Account, n) })
	if !ok {
		return nil, false
	}
	return &v.Accounts[i], true
}

// A Store is where vaults are kept.
type Store struct {
	dir *state.Dir
	key *age.X25519Identity // nil until it is needed
}

// Open opens the store in a state directory. One that does not exist is as good as empty.
func Open(dir string, s *tree.Server) (*Store, error) {
	d, err := state.Open(dir, s, vaultDir, accountsDir)
	if err != nil {
		return nil, err
	}
	return &Store{dir: d}, nil
}

func (s *Store) path(id string) string          { return s.dir.Join(vaultDir, id+vaultExt) }
func (s *Store) accountPath(hash string) string { return s.dir.Join(accountsDir, hash+accountExt) }

// KeyPath is where the server's key lies, for whoever wants to keep a copy elsewhere.
func (s *Store) KeyPath() string { return s.dir.Join(keyFile) }

// identity reads the server's key.
func (s *Store) identity() (*age.X25519Identity, error) {
	if s.key != nil {
		return s.key, nil
	}
	text, err := s.dir.Read(keyFile, 4096)
	switch {
	case os.IsNotExist(err):
		return nil, fmt.Errorf("open %q: %w", s.KeyPath(), ErrNoKey)
	case err != nil:
		return nil, fmt.Errorf("open key of the vault %q: %w", s.KeyPath(), state.Cause(err))
	}
	if s.key, err = age.ParseX25519Identity(strings.TrimSpace(string(text))); err != nil {
		return nil, fmt.Errorf("read key of the vault %q: %w", s.KeyPath(), err)
	}
	return s.key, nil
}

// ownIdentity is identity, which makes the key where there is none. Of several who begin at once, one makes it: what the
// others encrypted to keys of their own could be read by nobody.
func (s *Store) ownIdentity() (*age.X25519Identity, error) {
	if key, err := s.identity(); !errors.Is(err, ErrNoKey) {
		return key, err
	}
	lock, err := s.lock(unix.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("lock vault: %w", err)
	}
	defer lock.Close()
	if key, err := s.identity(); !errors.Is(err, ErrNoKey) {
		return key, err
	}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("make key of the vault: %w", err)
	}
	if err := s.dir.Write(keyFile, []byte(key.String()+"\n")); err != nil {
		return nil, fmt.Errorf("write key of the vault %q: %w", s.KeyPath(), state.Cause(err))
	}
	s.key = key
	return key, nil
}

// name is what the file of an account's archive is called.
func name(key *age.X25519Identity, recipients []string, archive []byte) string {
	secret := sha256.Sum256([]byte("rightful vault names\n" + key.String()))
	h := hmac.New(sha256.New, secret[:])
	for _, r := range recipients {
		h.Write([]byte(r + "\n"))
	}
	h.Write([]byte{0})
	h.Write(archive)
	return hex.EncodeToString(h.Sum(nil))
}

// List gives all vaults, newest first. One that cannot be read is left out, with an error that names it beside the others.
func (s *Store) List() ([]Vault, error) {
	ids, err := s.dir.IDs(vaultDir, vaultExt)
	if err != nil {
		return nil, fmt.Errorf("list vaults: %w", err)
	}
	out, err := state.ReadAll(ids, func(id string) (Vault, error) {
		v, err := s.Get(id)
		if err != nil {
			return Vault{}, err
		}
		return *v, nil
	})
	slices.SortFunc(out, func(a, b Vault) int { return b.Created.Compare(a.Created) })
	return out, err
}

// Find gives the vault of that name, or the one whose name begins so, or for "latest" the newest.
func (s *Store) Find(ref string) (*Vault, error) {
	if state.ValidID(ref) {
		return s.Get(ref)
	}
	all, err := s.List()
	var found []Vault
	for _, v := range all {
		if ref == "latest" || strings.HasPrefix(v.ID, ref) {
			found = append(found, v)
			if ref == "latest" {
				break
			}
		}
	}
	switch {
	case len(found) == 1 && ref != "":
		return &found[0], nil
	case len(found) > 1 && ref != "":
		return nil, fmt.Errorf("find vault %q: %d begin so", ref, len(found))
	}
	return nil, fmt.Errorf("find vault %q: %w", ref, errors.Join(ErrNoVault, err))
}

// maxList bounds the file of a vault: some hundred bytes for each account.
const maxList = 64 << 20

// Get reads what a vault says of itself.
func (s *Store) Get(id string) (*Vault, error) {
	if !state.ValidID(id) {
		return nil, fmt.Errorf("open vault %q: %w", id, ErrNoVault)
	}
	b, err := s.dir.Read(vaultDir+"/"+id+vaultExt, maxList)
	if os.IsNotExist(err) {
		return nil, fmt.Errorf("open vault %q: %w", id, ErrNoVault)
	} else if err != nil {
		return nil, fmt.Errorf("open vault %q: %w", id, state.Cause(err))
	}
	v, err := parse(b)
	if err == nil && v.ID != id {
		err = ErrDamaged
	}
	if err == nil && (v.Server != s.dir.Server || v.Root != s.dir.Root) {
		err = fmt.Errorf("it is of server %s with root %q, this is %s with root %q", v.Server, v.Root, s.dir.Server, s.dir.Root)
	}
	if err != nil {
		return nil, fmt.Errorf("read vault %q: %w", id, err)
	}
	return v, nil
}

func parse(b []byte) (*Vault, error) {
	v := &Vault{}
	header, accounts, ok := state.Unseal(b)
	if !ok || json.Unmarshal(header, &v.Header) != nil || v.Version < 1 {
		return nil, ErrDamaged
	}
	if v.Version > formatVersion {
		return nil, fmt.Errorf("format version %d: %w", v.Version, ErrNewer)
	}
	for _, l := range accounts {
		var a Account
		if json.Unmarshal(l, &a) != nil || !state.ValidHash(a.Hash) {
			return nil, ErrDamaged
		}
		v.Accounts = append(v.Accounts, a)
	}
	return v, nil
}

// lock makes sure that nothing is removed while a vault is written, and the other way round.
func (s *Store) lock(how int) (*os.File, error) { return s.dir.Flock(vaultDir+"/lock", how) }

// Remove removes vaults and what only they kept, and gives the bytes that this freed. The error that a vault is being
// written is unix.EWOULDBLOCK.
func (s *Store) Remove(ids []string) (freed int64, err error) {
	lock, err := s.lock(unix.LOCK_EX | unix.LOCK_NB)
	if err != nil {
		return 0, fmt.Errorf("lock vault: %w", err)
	}
	defer lock.Close()
	for _, id := range ids {
		if err := s.dir.Remove(s.path(id)); err != nil {
			return 0, fmt.Errorf("remove vault %q: %w", id, err)
		}
	}
	if err := state.SyncDir(s.dir.Join(vaultDir)); err != nil {
		return 0, fmt.Errorf("remove vaults: %w", state.Cause(err))
	}
	return s.sweep()
}

// sweep removes what no vault refers to, and what a crash left unfinished. It is for whoever holds the lock alone. Where
// one vault cannot be read, nothing that it might refer to is removed.
func (s *Store) sweep() (freed int64, err error) {
	all, err := s.List()
	if err != nil {
		return 0, err
	}
	used := map[string]bool{}
	for _, v := range all {
		for _, a := range v.Accounts {
			used[a.Hash+accountExt] = true
		}
	}
	names, err := s.dir.List(accountsDir)
	if err != nil {
		return 0, fmt.Errorf("list vault: %w", err)
	}
	for _, n := range names {
		if used[n.Name()] {
			continue
		}
		if i, err := n.Info(); err == nil {
			freed += i.Size()
		}
		if err := s.dir.Remove(s.dir.Join(accountsDir, n.Name())); err != nil {
			return freed, fmt.Errorf("remove %q from the vault: %w", n.Name(), err)
		}
	}
	return freed, nil
}
