package repair

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"rightful"
	"rightful/internal/state"

	"golang.org/x/sys/unix"
)

// formatVersion is the version of both file formats. A file of a newer one is refused.
const formatVersion = 1

const (
	planMagic    = "RFPLAN\r\n"
	outcomeMagic = "RFOUTC\r\n"
)

// A PlanHeader says what a plan is and where it came from.
type PlanHeader struct {
	Version int       `json:"version"`
	ID      string    `json:"plan"`
	Verb    string    `json:"verb"` // fix, undo, …
	Undoes  string    `json:"undoes,omitempty"`
	Server  string    `json:"server"` // machine id: a plan is for one server
	Root    string    `json:"root"`   // the directory that stands for "/"
	Created time.Time `json:"created"`
	By      string    `json:"by"`
	Command string    `json:"command"`
	Program string    `json:"program"`
	// Accept lists the named risks that the operator took when the plan was made.
	Accept []string `json:"accept,omitempty"`
	// Named lists the accounts that the operator named, where not all were meant.
	Named []string `json:"named,omitempty"`
}

// A PlanAccount is one account in a plan: where its entries are, and what its sites were predicted to answer before
// the plan and after it.
type PlanAccount struct {
	Account string             `json:"account"`
	UID     uint32             `json:"uid"`
	Home    string             `json:"home"`
	Bases   []string           `json:"bases"`
	Before  []rightful.Verdict `json:"before,omitempty"`
	After   []rightful.Verdict `json:"after,omitempty"`
	// Quota is what the changes move between users' quotas.
	Quota []rightful.QuotaChange `json:"quota,omitempty"`
}

// Cures reports whether some site of the account is predicted to be better after the plan.
func (a *PlanAccount) Cures() bool {
	for i, v := range a.After {
		if i < len(a.Before) && v.State.Rank() < a.Before[i].State.Rank() {
			return true
		}
	}
	return false
}

// A Skip is an entry that a plan deliberately leaves alone, and why.
type Skip struct {
	Account string `json:"account"`
	Path    string `json:"path"`
	PathB64 []byte `json:"path_b64,omitempty"`
	Reason  string `json:"reason"`
}

// planEnd closes a plan. Without it the plan was never finished.
type planEnd struct {
	Accounts int    `json:"accounts"`
	Changes  int    `json:"changes"`
	Skips    int    `json:"skips"`
	SHA256   string `json:"sha256"` // of every byte before this record
}

// A PlanWriter writes a plan. Changes must come in the order in which they are to be made. Nothing is visible under
// the plan's name before Commit, which returns only when all of it is on disk.
type PlanWriter struct {
	f       *os.File
	w       fileWriter
	hash    hash.Hash
	strings map[string]uint64 // those that repeat, by number
	header  PlanHeader
	end     planEnd
	account string
	path    string
}

// NewPlan starts a plan; header needs Verb and what is known of the cause, the rest is filled in.
func (s *State) NewPlan(header PlanHeader) (*PlanWriter, error) {
	header.Version = formatVersion
	header.Created = time.Now().UTC()
	header.Program = rightful.Version
	header.Server, header.Root = s.dir.Server, s.dir.Root
	header.ID = state.NewID(header.Created, s.planPath)
	if err := s.dir.Create(); err != nil {
		return nil, err
	}
	f, err := state.Temp(s.dir.Join(plansDir))
	if err != nil {
		return nil, fmt.Errorf("create plan: %w", err)
	}
	p := &PlanWriter{f: f, hash: sha256.New(), header: header, path: s.planPath(header.ID), strings: map[string]uint64{}}
	p.w.w = bufio.NewWriterSize(io.MultiWriter(f, p.hash), 256<<10)
	_, p.w.err = p.w.w.WriteString(planMagic)
	p.w.off = int64(len(planMagic))
	return p, p.w.putJSON(recHeader, header)
}

// ID is the plan's name.
func (p *PlanWriter) ID() string { return p.header.ID }

// Changes counts what was added so far.
func (p *PlanWriter) Changes() int { return p.end.Changes }

// Account starts an account; the changes that follow are its own.
func (p *PlanWriter) Account(a PlanAccount) error {
	p.end.Accounts++
	p.account = a.Account
	return p.w.putJSON(recAccount, a)
}

// Change adds one change to the current account.
func (p *PlanWriter) Change(c *rightful.Change) error {
	if p.account == "" {
		return errors.New("change without account")
	}
	var e state.Packer
	encodeChange(&e, c, p.intern)
	p.end.Changes++
	return p.w.put(recChange, e.B)
}

// Skip notes an entry that is left alone.
func (p *PlanWriter) Skip(k Skip) error {
	k.PathB64 = rightful.RawPath(k.Path)
	p.end.Skips++
	return p.w.putJSON(recSkip, k)
}

func (p *PlanWriter) intern(s string) uint64 {
	n, ok := p.strings[s]
	if !ok {
		n = uint64(len(p.strings))
		p.strings[s] = n
		p.w.put(recString, []byte(s)) // the error stays in the writer
	}
	return n
}

// Commit makes the plan durable under its name.
func (p *PlanWriter) Commit() error {
	err := p.w.err
	if err == nil {
		err = p.w.w.Flush()
	}
	if err == nil {
		p.end.SHA256 = hex.EncodeToString(p.hash.Sum(nil))
		err = p.w.putJSON(recEnd, p.end)
	}
	if err == nil {
		err = p.w.w.Flush()
	}
	if err == nil {
		err = state.Keep(p.f, p.path)
	}
	if err != nil {
		p.Discard()
		return fmt.Errorf("write plan %q: %w", p.header.ID, state.Cause(err))
	}
	return p.f.Close()
}

// Discard throws an uncommitted plan away.
func (p *PlanWriter) Discard() {
	state.Drop(p.f)
}

// A Plan is a plan file that was read once from end to end and found whole.
type Plan struct {
	PlanHeader
	Accounts []PlanAccount
	Skips    []Skip
	Changes  int
	SHA256   string

	f       *os.File
	size    int64
	strings []string
	spans   []span // by account
}

// A span is where the records of one account lie.
type span struct {
	off, end int64
	first    int // sequence number of its first change
	n        int
	// exchanges: there is an exchange among them.
	exchanges bool
}

// OpenPlan reads a plan by its ID, or from a file. A file that somebody else could write is refused: checksums tell
// what a transfer altered, not what somebody wrote.
func (s *State) OpenPlan(idOrFile string) (*Plan, error) {
	path := idOrFile
	if state.ValidID(idOrFile) {
		path = s.planPath(idOrFile)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // whoever named a FIFO is not kept waiting
	if err != nil {
		if os.IsNotExist(err) {
			return nil, fmt.Errorf("open plan %q: %w", idOrFile, ErrNoPlan)
		}
		return nil, fmt.Errorf("open plan %q: %w", idOrFile, state.Cause(err))
	}
	var st unix.Stat_t
	if err = unix.Fstat(int(f.Fd()), &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = ErrNotAPlan
	} else if err == nil && (int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0) {
		err = fmt.Errorf("owned by uid %d with mode %04o; it must be yours and writable by you alone", st.Uid, st.Mode&0o7777)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open plan %q: %w", idOrFile, err)
	}
	p, err := readPlan(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read plan %q: %w", idOrFile, err)
	}
	if p.Server != s.dir.Server || p.Root != s.dir.Root {
		f.Close()
		return nil, fmt.Errorf("read plan %q: it is for server %s with root %q, this is %s with root %q: %w", idOrFile, p.Server, p.Root, s.dir.Server, s.dir.Root, ErrForeignPlan)
	}
	return p, nil
}

// keep gives the plan as it lies in the state directory under its ID, where undo and resume look for it. One that was
// opened from a file elsewhere is copied there first; what is applied is then the copy, which was read once more. One of
// an undo is not taken from elsewhere: what it undoes is looked for by handle too, wherever it may be.
func (s *State) keep(p *Plan) (kept *Plan, err error) {
	path := s.planPath(p.ID)
	from, err := p.f.Stat()
	if err != nil {
		return nil, fmt.Errorf("keep plan %q: %w", p.ID, state.Cause(err))
	}
	switch there, err := s.dir.Stat(path); {
	case err == nil && os.SameFile(from, there):
		return p, nil
	case err == nil:
		kept, err = s.OpenPlan(p.ID)
		if err == nil && kept.SHA256 != p.SHA256 {
			kept.Close()
			return nil, fmt.Errorf("keep plan %q: another plan of that name is in %q", p.ID, filepath.Dir(path))
		}
		return kept, err
	case os.IsNotExist(err) && p.Verb == VerbUndo:
		return nil, fmt.Errorf("keep plan %q: %w", p.ID, ErrUndoPlan)
	case os.IsNotExist(err):
		if kept, err = p.copyTo(path); err == nil {
			return kept, nil
		}
		return nil, fmt.Errorf("keep plan %q: %w", p.ID, state.Cause(err))
	default:
		return nil, fmt.Errorf("keep plan %q: %w", p.ID, state.Cause(err))
	}
}

// copyTo makes a durable copy of the plan, and reads it before it gets its name.
func (p *Plan) copyTo(path string) (*Plan, error) {
	f, err := state.Temp(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	var c *Plan
	if _, err = io.Copy(f, io.NewSectionReader(p.f, 0, p.size)); err == nil {
		c, err = readPlan(f)
	}
	if err == nil && c.SHA256 != p.SHA256 {
		err = ErrDamagedPlan
	}
	if err == nil {
		err = state.Keep(f, path)
	}
	if err != nil {
		state.Drop(f)
		return nil, err
	}
	return c, nil
}

func readPlan(f *os.File) (*Plan, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	magic := make([]byte, len(planMagic))
	if _, err := f.ReadAt(magic, 0); err != nil && err != io.EOF {
		return nil, err
	}
	if string(magic) != planMagic {
		return nil, ErrNotAPlan
	}
	p := &Plan{f: f, size: st.Size()}
	r := newRecordReader(f, int64(len(planMagic)), p.size)
	// The hash covers the raw bytes up to the end record; the checksums of the records cover the rest.
	for {
		at := r.off
		kind, body, err := r.next()
		if err == io.EOF || err == errTorn {
			return nil, fmt.Errorf("at byte %d: %w", at, ErrDamagedPlan)
		}
		if err != nil {
			return nil, err
		}
		if p.Version == 0 && kind != recHeader {
			return nil, ErrDamagedPlan
		}
		switch kind {
		case recHeader:
			if p.Version != 0 {
				return nil, ErrDamagedPlan // a second one
			}
			if err := json.Unmarshal(body, &p.PlanHeader); err != nil {
				return nil, fmt.Errorf("header: %w", ErrDamagedPlan)
			}
			if p.Version > formatVersion {
				return nil, fmt.Errorf("format version %d, this program (%s) knows up to %d: %w", p.Version, rightful.Version, formatVersion, ErrNewerPlan)
			}
			if p.Version < 1 || !state.ValidID(p.ID) {
				return nil, ErrDamagedPlan
			}
		case recString:
			p.strings = append(p.strings, string(body))
		case recAccount:
			var a PlanAccount
			if err := json.Unmarshal(body, &a); err != nil {
				return nil, fmt.Errorf("account at byte %d: %w", at, ErrDamagedPlan)
			}
			p.Accounts = append(p.Accounts, a)
			p.spans = append(p.spans, span{off: r.off, end: r.off, first: p.Changes})
		case recChange:
			if len(p.spans) == 0 {
				return nil, ErrDamagedPlan
			}
			c, err := decodeChange(body, p.strings)
			if err != nil {
				return nil, fmt.Errorf("change at byte %d: %w", at, ErrDamagedPlan)
			}
			sp := &p.spans[len(p.spans)-1]
			sp.exchanges = sp.exchanges || c.Exchange != nil
			sp.n++
			p.Changes++
		case recSkip:
			var k Skip
			if err := json.Unmarshal(body, &k); err != nil {
				return nil, fmt.Errorf("note at byte %d: %w", at, ErrDamagedPlan)
			}
			p.Skips = append(p.Skips, k)
		case recEnd:
			var e planEnd
			if err := json.Unmarshal(body, &e); err != nil || e.Changes != p.Changes || e.Accounts != len(p.Accounts) || r.off != p.size {
				return nil, fmt.Errorf("end: %w", ErrDamagedPlan)
			}
			h := sha256.New()
			if _, err := io.Copy(h, io.NewSectionReader(f, 0, at)); err != nil {
				return nil, err
			}
			p.SHA256 = hex.EncodeToString(h.Sum(nil))
			if p.SHA256 != e.SHA256 {
				return nil, fmt.Errorf("checksum: %w", ErrDamagedPlan)
			}
			return p, nil
		default:
			return nil, fmt.Errorf("record %q at byte %d: %w", byte(kind), at, ErrDamagedPlan)
		}
		if n := len(p.spans); n > 0 {
			p.spans[n-1].end = r.off
		}
	}
}

// Close lets go of the file.
func (p *Plan) Close() { p.f.Close() }

// Each calls fn for every change of account i, with its sequence number in the plan. The change is fn's to keep.
func (p *Plan) Each(i int, fn func(seq int, c *rightful.Change) error) error {
	sp := p.spans[i]
	r := newRecordReader(p.f, sp.off, sp.end)
	for seq := sp.first; ; {
		kind, body, err := r.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read plan %q: %w", p.ID, err)
		}
		if kind != recChange {
			continue
		}
		c, err := decodeChange(body, p.strings)
		if err != nil {
			return fmt.Errorf("read plan %q: %w", p.ID, err)
		}
		if err := fn(seq, c); err != nil {
			return err
		}
		seq++
	}
}

// EachBack is Each from the last change to the first.
func (p *Plan) EachBack(i int, fn func(seq int, c *rightful.Change) error) error {
	sp := p.spans[i]
	offs := make([]int64, 0, sp.n)
	r := newRecordReader(p.f, sp.off, sp.end)
	for {
		at := r.off
		kind, _, err := r.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read plan %q: %w", p.ID, err)
		}
		if kind == recChange {
			offs = append(offs, at)
		}
	}
	// Some at a time: an account may have more than should be in memory at once.
	const block = 512
	cs := make([]*rightful.Change, 0, min(block, len(offs)))
	for end := len(offs); end > 0; end -= len(cs) {
		start := max(0, end-block)
		cs = cs[:0]
		for r := newRecordReader(p.f, offs[start], sp.end); len(cs) < end-start; {
			kind, body, err := r.next()
			if err == nil && kind != recChange {
				continue
			}
			var c *rightful.Change
			if err == nil {
				c, err = decodeChange(body, p.strings)
			}
			if err != nil {
				return fmt.Errorf("read plan %q: %w", p.ID, err)
			}
			cs = append(cs, c)
		}
		for k, c := range slices.Backward(cs) {
			if err := fn(sp.first+start+k, c); err != nil {
				return err
			}
		}
	}
	return nil
}
