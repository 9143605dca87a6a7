package rescue

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"rightful/internal/archive"
	"rightful/internal/state"
	"rightful/internal/tree"

	"golang.org/x/sys/unix"
)

const (
	rescueDir     = "rescue"
	recordExt     = ".json"
	lockExt       = ".lock"
	formatVersion = 1
)

// The errors that callers act on.
var (
	ErrNone    = errors.New("no such rescue")
	ErrDamaged = errors.New("its record is damaged")
	ErrNewer   = errors.New("its record is of a newer version of Rightful")
)

// A Step is how far a rescue has come.
type Step string

// The steps, in their order.
const (
	StepRebuilding Step = "rebuilding" // the sources are being unpacked
	StepRebuilt    Step = "rebuilt"    // the home is whole in the quarantine
	StepSwitched   Step = "switched"   // it stands in its place, and the old one in the quarantine
	StepFinishing  Step = "finishing"  // the old one is being removed
	StepFinished   Step = "finished"   // it is removed
	StepDiscarding Step = "discarding" // the rebuilt one is being removed
	StepDiscarded  Step = "discarded"  // it is removed
)

// A Source is one that a home is rebuilt from, the best first.
type Source struct {
	// Spec is as the operator named it: a path, "vault:ID", "restic:REPOSITORY", "borg:REPOSITORY::ARCHIVE"; "home" is
	// what is left of the home.
	Spec    string `json:"source"`
	SpecB64 []byte `json:"source_b64,omitempty"`
	// What it was recognised as, and why.
	What string `json:"what"`
	Why  string `json:"why,omitempty"`
	// Format is that of the archive, once it is open.
	Format string         `json:"format,omitempty"`
	Places archive.Places `json:"places"`
	// Taken is when it was made; where it does not say that itself, not before that and not after Modified, the time of the
	// archive as a file.
	Taken    time.Time `json:"taken,omitzero"`
	Modified time.Time `json:"modified,omitzero"`
	// Entries and Bytes are what lies in the places.
	Entries int64 `json:"entries"`
	Bytes   int64 `json:"bytes"`
	// Unpacked and Merged say what of it is done, and Counts what came of it.
	Unpacked bool   `json:"unpacked"`
	Merged   bool   `json:"merged"`
	Counts   Counts `json:"counts"`
}

// A Record is what is known of one rescue.
type Record struct {
	Version int       `json:"version"`
	ID      string    `json:"rescue"`
	Server  string    `json:"server"`
	Root    string    `json:"root"`
	Account string    `json:"account"`
	UID     uint32    `json:"uid"`
	GID     uint32    `json:"gid"`
	Home    string    `json:"home"` // links resolved
	Created time.Time `json:"created"`
	By      string    `json:"by"`
	Command string    `json:"command"`
	Step    Step      `json:"step"`
	// Quarantine is where the home is rebuilt, and then the old one kept.
	Quarantine string   `json:"quarantine"`
	Sources    []Source `json:"sources"`
	// Since is when what was left of the home was taken over, or was found to be nothing: what came there later is in the
	// old home only.
	Since time.Time `json:"since,omitzero"`
	// Snapshot is the one that tells what there was, or empty.
	Snapshot string `json:"snapshot,omitempty"`
	// Furnished are the standard folders and links that no source had.
	Furnished []string `json:"furnished"`
	// Plan brings the rebuilt home in, and Run did.
	Plan   string  `json:"plan,omitempty"`
	Run    string  `json:"run,omitempty"`
	Report *Report `json:"report,omitempty"`
}

// HomePath is where the rebuilt home is, and after the switch the old one.
func (r *Record) HomePath() string { return path.Join(r.Quarantine, homeDir) }

// Open reports whether the rescue is not at its end.
func (r *Record) Open() bool { return r.Step != StepFinished && r.Step != StepDiscarded }

// Removing reports whether what the quarantine holds is being removed: there is no way back from that.
func (r *Record) Removing() bool { return r.Step == StepFinishing || r.Step == StepDiscarding }

// A Store is where records are kept.
type Store struct{ dir *state.Dir }

// OpenStore opens the records in a state directory. One that does not exist is as good as empty.
func OpenStore(dir string, s *tree.Server) (*Store, error) {
	d, err := state.Open(dir, s, rescueDir)
	if err != nil {
		return nil, err
	}
	return &Store{dir: d}, nil
}

func (s *Store) name(id string) string { return rescueDir + "/" + id + recordExt }

// New begins a record: it needs account, ids, home, sources and who asked for it.
func (s *Store) New(r *Record) error {
	if err := s.dir.Create(); err != nil {
		return err
	}
	r.Version, r.Created, r.Step = formatVersion, time.Now().UTC(), StepRebuilding
	r.Server, r.Root = s.dir.Server, s.dir.Root
	r.ID = state.NewID(r.Created, func(id string) string { return s.dir.Join(s.name(id)) })
	r.Quarantine = QuarantinePath(r.Home, r.ID)
	return s.Save(r)
}

// Save makes the record durable.
func (s *Store) Save(r *Record) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = s.dir.Write(s.name(r.ID), append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write record of rescue %q: %w", r.ID, state.Cause(err))
	}
	return nil
}

// maxRecord bounds a record: a report with its lists.
const maxRecord = 64 << 20

// Get reads a record.
func (s *Store) Get(id string) (*Record, error) {
	fail := func(err error) (*Record, error) { return nil, fmt.Errorf("read rescue %q: %w", id, err) }
	if !state.ValidID(id) {
		return fail(ErrNone)
	}
	b, err := s.dir.Read(s.name(id), maxRecord)
	if os.IsNotExist(err) {
		return fail(ErrNone)
	} else if err != nil {
		return fail(state.Cause(err))
	}
	r := &Record{}
	if err := json.Unmarshal(b, r); err != nil || r.ID != id || r.Version < 1 {
		return fail(ErrDamaged)
	}
	for i := range r.Sources {
		if b := r.Sources[i].SpecB64; b != nil {
			r.Sources[i].Spec = string(b)
		}
	}
	switch {
	case r.Version > formatVersion:
		return fail(ErrNewer)
	case r.Server != s.dir.Server || r.Root != s.dir.Root:
		return fail(fmt.Errorf("it is of server %s with root %q, this is %s with root %q", r.Server, r.Root, s.dir.Server, s.dir.Root))
	case r.Quarantine != QuarantinePath(r.Home, r.ID):
		return fail(ErrDamaged)
	}
	return r, nil
}

// List gives all rescues, newest first. One that cannot be read is left out, with an error that names it beside the others.
func (s *Store) List() ([]*Record, error) {
	ids, err := s.dir.IDs(rescueDir, recordExt)
	if err != nil {
		return nil, fmt.Errorf("list rescues: %w", err)
	}
	out, err := state.ReadAll(ids, s.Get)
	slices.SortFunc(out, func(a, b *Record) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(b.ID, a.ID)
	})
	return out, err
}

// OfAccount gives the newest rescue of an account that is not at its end, or nil.
func (s *Store) OfAccount(account string) (*Record, error) {
	all, err := s.List()
	for _, r := range all {
		if r.Account == account && r.Open() {
			return r, err
		}
	}
	return nil, err
}

// ErrBusy says that somebody else works on a rescue.
var ErrBusy = errors.New("somebody else is at it")

// Lock takes a rescue for this process.
func (s *Store) Lock(id string) (unlock func(), err error) {
	f, err := s.dir.Flock(rescueDir+"/"+id+lockExt, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrBusy
	}
	if err != nil {
		return nil, fmt.Errorf("lock rescue %q: %w", id, err)
	}
	return func() { f.Close() }, nil
}

// Scratch makes a file without a name beside the records.
func (s *Store) Scratch() (*os.File, error) {
	if err := s.dir.Create(); err != nil {
		return nil, err
	}
	return s.dir.Scratch(rescueDir)
}
