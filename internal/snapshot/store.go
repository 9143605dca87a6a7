package snapshot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"rightful"
	"rightful/internal/state"
	"rightful/internal/tree"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

const (
	snapshotsDir = "snapshots"
	accountsDir  = "snapshots/accounts"
	lockFile     = "snapshots/lock"
	snapshotExt  = ".snapshot"
	accountExt   = ".account"
)

// A Header says what a snapshot is and where it came from.
type Header struct {
	Version int    `json:"version"`
	ID      string `json:"snapshot"`
	Server  string `json:"server"` // machine id
	Root    string `json:"root"`   // the directory that stands for "/"
	// Created is when it was taken; for an import, when what it was imported from was made, so that it has its place among
	// the others.
	Created time.Time `json:"created"`
	// Ended is when the last account was read: the snapshot shows nothing later. An import says it beforehand.
	Ended   time.Time `json:"ended"`
	By      string    `json:"by"`
	Command string    `json:"command"`
	Program string    `json:"program"`
	Tag     string    `json:"tag,omitempty"`
	// Source is what it was imported from; empty for the server's own file system.
	Source string `json:"source,omitempty"`
	// Confidence says in a word how far an imported one can be trusted, Reasons why so far and no further.
	Confidence string   `json:"confidence,omitempty"`
	Reasons    []string `json:"reasons,omitempty"`
}

// An Account is one account in a snapshot.
type Account struct {
	Account string   `json:"account"`
	UID     uint32   `json:"uid"`
	GID     uint32   `json:"gid"`
	Home    string   `json:"home"`
	Bases   []string `json:"bases"`
	File    string   `json:"file"` // the hash of what is recorded
	Entries int      `json:"entries"`
	Bytes   int64    `json:"bytes"`
	// Unread counts what could not be read.
	Unread int `json:"unread"`
}

// A Snapshot is one in the list.
type Snapshot struct {
	Header
	Accounts []Account
}

// Account finds an account in the snapshot.
func (s *Snapshot) Account(name string) (*Account, bool) {
	i, ok := slices.BinarySearchFunc(s.Accounts, name, func(a Account, n string) int { return strings.Compare(a.Account, n) })
	if !ok {
		return nil, false
	}
	return &s.Accounts[i], true
}

// Live reports whether the snapshot was taken of the file system itself, so that identities in it mean something.
func (h *Header) Live() bool { return h.Source == "" }

// A Store is where snapshots are kept.
type Store struct {
	dir    *state.Dir
	unzstd *zstd.Decoder // of all readers
	mu     sync.Mutex
	idle   []*buffers
	// stepped is called where a crash would find the files in another state. Tests cut the program short there.
	stepped func()
}

func (s *Store) step() {
	if s.stepped != nil {
		s.stepped()
	}
}

// Open opens the store in a state directory. One that does not exist is as good as empty.
func Open(dir string, s *tree.Server) (*Store, error) {
	d, err := state.Open(dir, s, snapshotsDir, accountsDir)
	if err != nil {
		return nil, err
	}
	return newStore(d)
}

func newStore(d *state.Dir) (*Store, error) {
	// One that decodes no streams holds nothing that is to be closed.
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(8), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxIndex))
	return &Store{dir: d, unzstd: dec}, err
}

func (s *Store) path(id string) string       { return s.dir.Join(snapshotsDir, id+snapshotExt) }
func (s *Store) accountPath(h string) string { return s.dir.Join(accountsDir, h+accountExt) }

// takeBuffers gives memory to a reader; giveBuffers takes it back.
func (s *Store) takeBuffers() *buffers {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.idle); n > 0 {
		x := s.idle[n-1]
		s.idle = s.idle[:n-1]
		return x
	}
	return &buffers{}
}

func (s *Store) giveBuffers(x *buffers) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, x)
}

// keep is state.Keep.
func (s *Store) keep(f *os.File, path string) error {
	s.step()
	defer s.step()
	return state.Keep(f, path)
}

// Scratch makes a file without a name beside the snapshots, for what is being sorted.
func (s *Store) Scratch() (*os.File, error) {
	if err := s.dir.Create(); err != nil {
		return nil, err
	}
	f, err := s.dir.Scratch(accountsDir)
	if err != nil {
		return nil, fmt.Errorf("make scratch file in %q: %w", s.dir.Path, err)
	}
	return f, nil
}

// A Taking is a snapshot that is being written. Its methods may be called from several goroutines.
type Taking struct {
	s     *Store
	lock  *os.File
	zstd  *zstd.Encoder
	mu    sync.Mutex
	snap  Snapshot
	idle  []*packer
	fresh int64 // bytes of account files that nobody had recorded before
}

// Create begins a snapshot; header needs By, Command, and what is known of the source.
func (s *Store) Create(h Header) (*Taking, error) {
	if err := s.dir.Create(); err != nil {
		return nil, err
	}
	s.sweep()
	lock, err := s.dir.Flock(lockFile, unix.LOCK_SH)
	if err != nil {
		return nil, fmt.Errorf("lock snapshots: %w", err)
	}
	h.Version, h.Program, h.Server, h.Root = formatVersion, rightful.Version, s.dir.Server, s.dir.Root
	if h.Created.IsZero() {
		h.Created = time.Now().UTC()
	}
	h.ID = state.NewID(h.Created, s.path)
	t := &Taking{s: s, lock: lock, snap: Snapshot{Header: h}}
	if t.zstd, err = newZstd(); err != nil {
		lock.Close()
		return nil, err
	}
	return t, nil
}

// ID is the snapshot's name.
func (t *Taking) ID() string { return t.snap.ID }

// Account begins an account: a needs its name, ids and home.
func (t *Taking) Account(a Account) (*Writer, error) {
	f, err := state.Temp(t.s.dir.Join(accountsDir))
	t.s.step()
	if err != nil {
		return nil, fmt.Errorf("record account %q: %w", a.Account, state.Cause(err))
	}
	return newWriter(t, a, f), nil
}

// packer gives an empty packer; spare takes it back. One account after the other uses the same, so that memory does not grow
// with their number.
func (t *Taking) packer() *packer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.idle); n > 0 {
		p := t.idle[n-1]
		t.idle = t.idle[:n-1]
		return p
	}
	return newPacker()
}

func (t *Taking) spare(p *packer) {
	p.reset()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.idle = append(t.idle, p)
}

// keep gives a finished account its name, unless the same was recorded before.
func (t *Taking) keep(w *Writer) error {
	path := t.s.accountPath(w.account.File)
	fresh := int64(0)
	if st, err := t.s.dir.Stat(path); err == nil {
		w.account.Bytes = st.Size()
		t.s.dir.Remove(w.f.Name())
	} else if err := t.s.keep(w.f, path); err != nil { // others go on while it is synced
		return err
	} else {
		fresh = w.account.Bytes
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fresh += fresh
	t.snap.Accounts = append(t.snap.Accounts, w.account)
	return nil
}

// Commit makes the snapshot durable and lists it.
func (t *Taking) Commit() (*Snapshot, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.snap.Ended.IsZero() {
		t.snap.Ended = time.Now().UTC()
	}
	slices.SortFunc(t.snap.Accounts, func(a, b Account) int { return strings.Compare(a.Account, b.Account) })
	text, err := t.snap.marshal()
	var f *os.File
	if err == nil {
		f, err = state.Temp(t.s.dir.Join(snapshotsDir))
		t.s.step()
	}
	if err == nil {
		if _, err = f.Write(text); err == nil {
			err = t.s.keep(f, t.s.path(t.snap.ID))
		}
		if err == nil {
			f.Close()
		} else {
			state.Drop(f)
		}
	}
	t.close()
	if err != nil {
		return nil, fmt.Errorf("write snapshot %q: %w", t.snap.ID, state.Cause(err))
	}
	return &t.snap, nil
}

// Discard throws the snapshot away, with all that it alone recorded.
func (t *Taking) Discard() {
	t.close()
	t.s.sweep()
}

func (t *Taking) close() {
	t.zstd.Close()
	t.lock.Close()
}

func (s *Snapshot) marshal() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	err := enc.Encode(s.Header)
	for i := range s.Accounts {
		err = errors.Join(err, enc.Encode(&s.Accounts[i]))
	}
	return state.Seal(b.Bytes(), len(s.Accounts)), err
}

func unmarshal(text []byte) (*Snapshot, error) {
	s := &Snapshot{}
	header, accounts, ok := state.Unseal(text)
	if !ok || json.Unmarshal(header, &s.Header) != nil || s.Version < 1 {
		return nil, ErrDamaged
	}
	if s.Version > formatVersion {
		return nil, fmt.Errorf("format version %d, this program (%s) knows up to %d: %w", s.Version, rightful.Version, formatVersion, ErrNewer)
	}
	for _, l := range accounts {
		var a Account
		if err := json.Unmarshal(l, &a); err != nil || !state.ValidHash(a.File) {
			return nil, ErrDamaged
		}
		s.Accounts = append(s.Accounts, a)
	}
	return s, nil
}

// maxList bounds what is read of one snapshot's list of accounts.
const maxList = 64 << 20

// Get reads one snapshot of the list by its ID.
func (s *Store) Get(id string) (*Snapshot, error) {
	fail := func(err error) (*Snapshot, error) {
		return nil, fmt.Errorf("open snapshot %q: %w", id, state.Cause(err))
	}
	if !state.ValidID(id) {
		return fail(ErrNone)
	}
	text, err := s.dir.Read(filepath.Join(snapshotsDir, id+snapshotExt), maxList)
	if os.IsNotExist(err) {
		return fail(ErrNone)
	} else if err != nil {
		return fail(err)
	}
	sn, err := unmarshal(text)
	if err == nil && sn.ID != id {
		err = ErrDamaged
	}
	if err == nil && (sn.Server != s.dir.Server || sn.Root != s.dir.Root) {
		err = fmt.Errorf("it is of server %s with root %q, this is %s with root %q: %w", sn.Server, sn.Root, s.dir.Server, s.dir.Root, ErrForeign)
	}
	if err != nil {
		return fail(err)
	}
	return sn, nil
}

// List gives all snapshots, newest first. One that cannot be read is left out, with an error that names it beside the
// others.
func (s *Store) List() ([]*Snapshot, error) { return s.Newest(time.Time{}, -1) }

// Newest is List for the n newest at most (less than 0: all); with at set, of those that had ended by then.
func (s *Store) Newest(at time.Time, n int) ([]*Snapshot, error) {
	ids, err := s.dir.IDs(snapshotsDir, snapshotExt)
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	var out []*Snapshot
	var errs []error
	for _, id := range slices.Backward(ids) {
		if len(out) == n {
			break
		}
		sn, err := s.Get(id)
		if err != nil {
			errs = append(errs, err)
		} else if at.IsZero() || !sn.Ended.After(at) {
			out = append(out, sn)
		}
	}
	slices.SortStableFunc(out, func(a, b *Snapshot) int { return b.Created.Compare(a.Created) })
	return out, errors.Join(errs...)
}

// An AmbiguousError says that several snapshots begin with what was given.
type AmbiguousError struct {
	Name string
	IDs  []string
}

// Error lists them.
func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("open snapshot %q: it may be any of %s", e.Name, strings.Join(e.IDs, ", "))
}

// Find gives a snapshot by its ID, the beginning of one that no other shares, or "latest". With at set, only those that
// had ended by then count.
func (s *Store) Find(name string, at time.Time) (*Snapshot, error) {
	if state.ValidID(name) && at.IsZero() {
		return s.Get(name)
	}
	all, err := s.Newest(at, -1)
	var found []*Snapshot
	for _, sn := range all {
		if name == "latest" {
			return sn, nil
		}
		if strings.HasPrefix(sn.ID, name) {
			found = append(found, sn)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		e := &AmbiguousError{Name: name}
		for _, sn := range found {
			e.IDs = append(e.IDs, sn.ID)
		}
		return nil, e
	case err != nil:
		return nil, err
	}
	return nil, fmt.Errorf("open snapshot %q: %w", name, ErrNone)
}

// Account opens the record of one account in a snapshot. The caller closes it.
func (s *Store) Account(sn *Snapshot, name string) (*Reader, error) {
	a, ok := sn.Account(name)
	if !ok {
		return nil, fmt.Errorf("open account %q of snapshot %q: %w", name, sn.ID, ErrNotTaken)
	}
	r, err := s.open(a.File)
	if err != nil {
		return nil, fmt.Errorf("open account %q of snapshot %q: %w", name, sn.ID, state.Cause(err))
	}
	r.Account = *a
	if sn.Live() {
		r.rested = sn.Created.Add(-grain).UnixNano()
	}
	return r, nil
}

func (s *Store) open(hash string) (*Reader, error) {
	f, err := os.OpenFile(s.accountPath(hash), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	r, err := openReader(f, s)
	if err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

// Fresh gives the bytes of what no snapshot had recorded before.
func (t *Taking) Fresh() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.fresh
}

// Snapshot gives what was recorded so far, to be read before it is committed or instead.
func (t *Taking) Snapshot() *Snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	sn := t.snap
	sn.Accounts = slices.SortedFunc(slices.Values(sn.Accounts), func(a, b Account) int { return strings.Compare(a.Account, b.Account) })
	return &sn
}
