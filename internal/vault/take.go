package vault

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"rightful"
	"rightful/internal/policy"
	"rightful/internal/state"
	"rightful/internal/tree"

	"filippo.io/age"
	"golang.org/x/sys/unix"
)

// A Source is one account to keep.
type Source struct {
	Account rightful.Account
	// Identity is the account's own: what it could not read is not kept for it.
	Identity rightful.Identity
	// Bases are the directories to walk, and Files tells which files in them to keep: those that have a rule.
	Bases []string
	Files *policy.Bound
	// Outside are absolute paths of further files, which the administrator's own programs keep for the account.
	Outside []string
	// MaxSize is the most bytes of one file, 0 for a MiB.
	MaxSize int64
}

// Bounds of one account: all of its files are in memory at once while it is kept. Real accounts have some hundred files
// of a few KiB; a tenant who has more gets those that come first by path, and the rest is told.
const (
	maxAccount  = 16 << 20
	maxFiles    = 20_000
	defaultSize = 1 << 20
	maxLeft     = 1000 // that are told one by one
)

// firstPerson is the lowest uid that no program of the system runs as (useradd(8), UID_MIN).
const firstPerson = 1000

// A Left is a file that should have been kept and was not, and why.
type Left struct {
	Path    string `json:"path"`
	PathB64 []byte `json:"path_b64,omitempty"`
	Reason  string `json:"reason"`
}

// A Taking is a vault that is being written. Add may be called from several goroutines.
type Taking struct {
	s          *Store
	lock       *os.File
	key        *age.X25519Identity
	recipients []age.Recipient
	mu         sync.Mutex
	v          Vault
}

// Create begins a vault; header needs By and Command. recipients can read it besides the server's own key.
func (s *Store) Create(h Header, recipients []string) (*Taking, error) {
	if err := s.dir.Create(); err != nil {
		return nil, err
	}
	t := &Taking{s: s}
	var err error
	if t.key, err = s.ownIdentity(); err != nil {
		return nil, err
	}
	t.recipients = []age.Recipient{t.key.Recipient()}
	recipients = slices.Compact(slices.Sorted(slices.Values(recipients)))
	for _, text := range recipients {
		r, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("read recipient %q: %w", text, err)
		}
		t.recipients = append(t.recipients, r...)
	}
	if t.lock, err = s.lock(unix.LOCK_SH); err != nil {
		return nil, fmt.Errorf("lock vault: %w", err)
	}
	h.Version, h.Program, h.Server, h.Root = formatVersion, rightful.Version, s.dir.Server, s.dir.Root
	h.Created, h.Recipients = time.Now().UTC(), recipients
	h.ID = state.NewID(h.Created, s.path)
	t.v.Header = h
	return t, nil
}

// ID is the vault's name.
func (t *Taking) ID() string { return t.v.ID }

// Add keeps one account. stored is what it newly takes on disk: 0 where nothing changed. What was left out is told even
// where the rest is kept; the error says that nothing of the account is.
func (t *Taking) Add(ctx context.Context, srv *tree.Server, src *Source) (a Account, stored int64, left []Left, err error) {
	c := newCollector(srv, src)
	if err := c.collect(ctx); err != nil {
		return a, 0, c.left, fmt.Errorf("keep account %q: %w", src.Account.Name, err)
	}
	var archive bytes.Buffer
	if err = WriteTar(&archive, c.files); err == nil {
		a = Account{
			Account: src.Account.Name, UID: src.Account.UID, Home: src.Account.Home, Files: len(c.files), Bytes: c.size, Left: c.nleft,
			Hash: name(t.key, t.v.Recipients, archive.Bytes()),
		}
		stored, err = t.store(a.Hash, archive.Bytes())
	}
	if err != nil {
		return a, 0, c.left, fmt.Errorf("keep account %q: %w", src.Account.Name, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.v.Accounts = append(t.v.Accounts, a)
	return a, stored, c.left, nil
}

// store writes an archive under its name, if it is not there yet.
func (t *Taking) store(hash string, archive []byte) (int64, error) {
	path := t.s.accountPath(hash)
	if _, err := t.s.dir.Stat(path); err == nil {
		return 0, nil
	}
	f, err := state.Temp(t.s.dir.Join(accountsDir))
	if err != nil {
		return 0, state.Cause(err)
	}
	size, err := t.encrypt(f, archive)
	if err == nil {
		err = state.Keep(f, path)
	}
	if err != nil {
		state.Drop(f)
		return 0, state.Cause(err)
	}
	return size, f.Close()
}

func (t *Taking) encrypt(f *os.File, archive []byte) (int64, error) {
	w, err := age.Encrypt(f, t.recipients...)
	if err != nil {
		return 0, err
	}
	z := gzip.NewWriter(w)
	if _, err = z.Write(archive); err == nil {
		err = z.Close()
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return 0, err
	}
	i, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return i.Size(), nil
}

// Commit makes the vault durable under its name.
func (t *Taking) Commit() (*Vault, error) {
	defer t.lock.Close()
	slices.SortFunc(t.v.Accounts, func(a, b Account) int { return strings.Compare(a.Account, b.Account) })
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	err := e.Encode(t.v.Header)
	for i := range t.v.Accounts {
		if err == nil {
			err = e.Encode(t.v.Accounts[i])
		}
	}
	if err == nil {
		err = t.s.dir.Write(vaultDir+"/"+t.v.ID+vaultExt, state.Seal(b.Bytes(), len(t.v.Accounts)))
	}
	if err != nil {
		return nil, fmt.Errorf("write vault %q: %w", t.v.ID, state.Cause(err))
	}
	return &t.v, nil
}

// Discard gives an uncommitted vault up. What it stored is removed when vaults are next pruned, unless one came to need it.
func (t *Taking) Discard() { t.lock.Close() }

// collector reads the files of one account.
type collector struct {
	srv   *tree.Server
	src   *Source
	max   int64
	base  string
	here  []level // the directories that the walk is in, by depth
	met   []met
	files []File // with their data
	size  int64
	left  []Left
	nleft int
}

// level is what is known of a directory.
type level struct {
	state policy.State
	pass  bool // the account can get at what is in it
}

// met is a directory that was met and is not yet entered.
type met struct {
	ino   uint64
	depth int
	level level
}

func newCollector(srv *tree.Server, src *Source) *collector {
	c := &collector{srv: srv, src: src, max: src.MaxSize}
	if c.max <= 0 {
		c.max = defaultSize
	}
	return c
}

func (c *collector) collect(ctx context.Context) error {
	for _, base := range c.src.Bases {
		b, err := c.srv.OpenBase(base)
		if tree.IsNotExist(err) {
			continue // a home that is gone has nothing to keep; what was kept before stays
		}
		if err != nil {
			c.leave(base, err.Error())
			continue
		}
		c.base = base
		err = b.Walk(ctx, c, true)
		b.Close()
		if err != nil {
			return err
		}
	}
	for _, p := range c.src.Outside {
		c.outside(p)
	}
	slices.SortFunc(c.files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	c.files = slices.CompactFunc(c.files, func(a, b File) bool { return a.Path == b.Path })
	return ctx.Err()
}

func (c *collector) leave(path, reason string) {
	c.nleft++
	if len(c.left) < maxLeft {
		c.left = append(c.left, Left{Path: path, PathB64: rightful.RawPath(path), Reason: reason})
	}
}

// Entry implements tree.Visitor.
func (c *collector) Entry(d *tree.Dir, e *tree.Entry) (bool, error) {
	var state policy.State
	var rule *policy.Rule
	depth, pass := 0, true
	if d == nil {
		c.met = c.met[:0]
		state, rule = c.src.Files.Base(c.base)
	} else {
		above := c.here[d.Depth]
		state, rule = above.state.ChildBytes(e.Name, e.Kind)
		depth, pass = d.Depth+1, above.pass
	}
	if e.Kind == rightful.KindDir {
		m, err := e.Meta()
		if err != nil {
			pass = false // nothing but what is the account's own is kept from in it
		}
		pass = pass && (m.UID == c.src.Account.UID || m.Allowed(c.src.Identity, rightful.RightSearch))
		c.met = append(c.met, met{e.Ino, depth, level{state, pass}})
		return true, nil
	}
	if rule == nil || e.Kind != rightful.KindFile {
		return false, nil
	}
	c.file(e, pass)
	return false, nil
}

// file keeps one file, or says why not. pass: the account can get at it.
func (c *collector) file(e *tree.Entry, pass bool) {
	m, err := e.Meta()
	switch {
	case err != nil:
		c.leave(e.Path(), err.Error())
	case e.Nlink > 1:
		// It may be another's that was linked into the account: what root reads, the account would get.
		c.leave(e.Path(), "it has further hard links")
	case m.UID != c.src.Account.UID && !(pass && m.Allowed(c.src.Identity, 4)):
		c.leave(e.Path(), "it is not the account's, who cannot read it")
	case e.Size > c.max:
		c.leave(e.Path(), fmt.Sprintf("larger than %s", rightful.SizeText(c.max)))
	case len(c.files) >= maxFiles || c.size+e.Size > maxAccount:
		c.leave(e.Path(), fmt.Sprintf("the account has more than %d files or %s to keep", maxFiles, rightful.SizeText(maxAccount)))
	default:
		n, err := e.Pin()
		if err != nil {
			c.leave(e.Path(), err.Error())
			return
		}
		defer n.Close()
		c.keep(e.Path(), m, e.Mtime, func(limit int64) ([]byte, error) { return n.Read(limit) })
	}
}

func (c *collector) keep(path string, m rightful.Meta, mtime int64, read func(limit int64) ([]byte, error)) {
	data, err := read(min(c.max, maxAccount-c.size))
	if err != nil {
		c.leave(path, err.Error())
		return
	}
	c.files = append(c.files, File{
		Path: path, PathB64: rightful.RawPath(path), UID: m.UID, GID: m.GID, Mode: m.Mode & rightful.ModePerm, ACL: m.ACL,
		Size: int64(len(data)), Mtime: time.Unix(0, mtime).UTC(), Data: data,
	})
	c.size += int64(len(data))
}

// outside keeps a file of the administrator's.
func (c *collector) outside(path string) {
	chain, err := c.srv.Trace(path)
	if tree.IsNotExist(err) {
		return
	}
	if err != nil {
		c.leave(path, err.Error())
		return
	}
	at := chain[len(chain)-1]
	if at.Stat.Kind != rightful.KindFile {
		c.leave(path, "it is a "+at.Stat.Kind.String())
		return
	}
	// Whoever could put another file or a link there would have root keep any file of the server's as his own.
	for _, x := range chain[:len(chain)-1] {
		if x.Stat.UID >= firstPerson || x.Stat.Kind == rightful.KindSymlink && x.Stat.UID != 0 || x.Stat.Kind == rightful.KindDir && x.Meta.Mode&0o002 != 0 {
			c.leave(path, fmt.Sprintf("%q on the way to it is not the administrator's alone", x.Path))
			return
		}
	}
	if at.Stat.Nlink > 1 {
		c.leave(path, "it has further hard links")
		return
	}
	c.keep(path, at.Meta, at.Stat.Mtime, func(limit int64) ([]byte, error) { return c.srv.ReadFile(path, limit) })
}

// Enter implements tree.Visitor.
func (c *collector) Enter(d *tree.Dir) error {
	i := slices.IndexFunc(c.met, func(m met) bool { return m.ino == d.Stat.Ino && m.depth == d.Depth })
	if i < 0 {
		return &tree.Error{Op: "enter", Path: rightful.JoinPath(c.base, d.Rel()), Cause: tree.CauseChanged}
	}
	c.here = append(c.here[:d.Depth], c.met[i].level)
	return nil
}

// Leave implements tree.Visitor.
func (c *collector) Leave(d *tree.Dir) error {
	for len(c.met) > 0 && c.met[len(c.met)-1].depth > d.Depth {
		c.met = c.met[:len(c.met)-1]
	}
	return nil
}

// Fail implements tree.Visitor. A mount is not the account's to keep, and what vanished was not there.
func (c *collector) Fail(rel string, err error) {
	if tree.Refused(err) != tree.CauseMount && !tree.IsNotExist(err) {
		c.leave(rightful.JoinPath(c.base, rel), err.Error())
	}
}
