// Package rightful is the vocabulary of the tool: accounts, sites, entries, findings, changes, runs.
//
// It is plain data with JSON tags. It imports only the standard library, does no I/O and decides nothing, so that
// every other package can speak about the same things without knowing one another. The JSON tags are the public
// format of --json (docs/cli-json.md): fields are only ever added, and arrays are never null.
//
// Paths are bytes. They are held in Go strings that may be invalid UTF-8; a JSON object with a path carries the exact
// bytes beside it in path_b64 whenever the text form would lose something (see [RawPath]).
//
// All paths are as the server that is looked after sees them: with --root DIR they do not contain DIR.
package rightful

import (
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

// Version is the version of the program, of the form MAJOR.MINOR.PATCH.
const Version = "0.1.0"

// An Identity is what a running process may do in the file system: its uid and every gid it really holds.
// The order of GIDs has no meaning; the primary group comes first where it is known.
type Identity struct {
	UID  uint32   `json:"uid"`
	GIDs []uint32 `json:"gids"`
}

// Has reports whether the identity holds gid.
func (id Identity) Has(gid uint32) bool {
	for _, g := range id.GIDs {
		if g == gid {
			return true
		}
	}
	return false
}

// An Account is one customer: a system user, a home, and the sites in it.
type Account struct {
	Name      string `json:"account"`
	UID       uint32 `json:"uid"`
	GID       uint32 `json:"gid"`
	Home      string `json:"home"`
	Panel     string `json:"panel"`
	Suspended bool   `json:"suspended,omitempty"`
	Sites     []Site `json:"sites"`
	// Mailboxes are the addresses of the account's mailboxes, where the panel keeps a list outside the home.
	Mailboxes []string `json:"mailboxes,omitempty"`
}

// A Site is the domains that share one document root, and the identities that serve it.
type Site struct {
	// Name is the first domain: the ServerName of the virtual host, or the panel's name for it.
	Name    string   `json:"site"`
	Domains []string `json:"domains"`
	// DocRoot is absolute, as configured: links in it are not resolved.
	DocRoot string `json:"docroot"`
	// Server is the web server whose configuration says how the site's files are served: "apache", "nginx" or "litespeed".
	Server string   `json:"server,omitempty"`
	Web    Identity `json:"web"`
	PHP    PHP      `json:"php"`
	// CGI lists the absolute directories whose files the web server runs (ScriptAlias), and CGIAs the identity they
	// run under: suEXEC's, else the web server's.
	CGI   []string `json:"cgi,omitempty"`
	CGIAs Identity `json:"cgi_as,omitzero"`
	// Listen lists where the virtual host answers, as scheme://address:port; an empty address means any local one.
	Listen []string `json:"listen,omitempty"`
}

// PHP tells how a site runs PHP.
type PHP struct {
	// Handler is "fpm", "suphp", "lsapi", "fcgid", "cgi", "itk", "ruid2", "dso" (mod_php) or "none"; "unknown" where the
	// configuration does not tell, and then the identity is only a guess.
	Handler string `json:"handler"`
	// Wrapper is the program that mod_fcgid starts PHP by.
	Wrapper string `json:"wrapper,omitempty"`
	Identity
}

// Kind is the type of an entry.
type Kind uint8

// The kinds of entry. The zero Kind is unknown.
const (
	KindUnknown Kind = iota
	KindFile
	KindDir
	KindSymlink
	KindFIFO
	KindSocket
	KindBlock
	KindChar
)

var kindNames = [...]string{"unknown", "file", "dir", "symlink", "fifo", "socket", "block", "char"}

// String is the name used in JSON and rule files.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

// ParseKind is the inverse of String.
func ParseKind(s string) (Kind, error) {
	for i, n := range kindNames {
		if n == s {
			return Kind(i), nil
		}
	}
	return KindUnknown, fmt.Errorf("unknown kind %q", s)
}

// MarshalText implements encoding.TextMarshaler.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *Kind) UnmarshalText(b []byte) (err error) {
	*k, err = ParseKind(string(b))
	return err
}

// Mode is the twelve permission bits of an entry, 07777, without its type. On an entry with an access ACL the group
// bits are the ACL's mask, as stat(2) gives them.
type Mode uint32

// The bits above the nine permissions.
const (
	ModeSetuid Mode = 0o4000
	ModeSetgid Mode = 0o2000
	ModeSticky Mode = 0o1000
	// ModePerm are the nine permission bits.
	ModePerm Mode = 0o777
	// ModeAll are all bits of a Mode.
	ModeAll Mode = 0o7777
)

// String gives at least four octal digits: "0750".
func (m Mode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// ParseMode reads octal digits, with or without a leading zero.
func ParseMode(s string) (Mode, error) {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || Mode(n)&^ModeAll != 0 {
		return 0, fmt.Errorf("mode %q is not octal digits up to 7777", s)
	}
	return Mode(n), nil
}

// MarshalText implements encoding.TextMarshaler.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Mode) UnmarshalText(b []byte) (err error) {
	*m, err = ParseMode(string(b))
	return err
}

// Meta is everything about an entry that Rightful may change.
type Meta struct {
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
	Mode Mode   `json:"mode"`
	// ACL is the access ACL, nil where the mode says everything (a minimal ACL is never held here).
	ACL ACL `json:"acl,omitempty"`
	// Default is a directory's default ACL, nil where there is none.
	Default ACL `json:"default_acl,omitempty"`
	// Caps is the raw security.capability attribute, empty where there is none.
	Caps []byte `json:"caps,omitempty"`
}

// Equal reports whether m and o are the same in every respect.
func (m Meta) Equal(o Meta) bool {
	return m.UID == o.UID && m.GID == o.GID && m.Mode == o.Mode &&
		m.ACL.Equal(o.ACL) && m.Default.Equal(o.Default) && string(m.Caps) == string(o.Caps)
}

// Effect is what a finding does to people. The order is that of harm, worst first.
type Effect string

// The effects.
const (
	EffectDown    Effect = "down"    // a site is unreachable
	EffectBroken  Effect = "broken"  // some URLs of a site are
	EffectExposed Effect = "exposed" // someone can read or write what they must not
	EffectWrong   Effect = "wrong"   // latent: nothing is harmed today
	EffectUntidy  Effect = "untidy"  // accepted, but not canonical; only with --exact
)

// Effects lists all effects, worst first.
var Effects = []Effect{EffectDown, EffectBroken, EffectExposed, EffectWrong, EffectUntidy}

// Rank orders effects: 0 is the worst. An unknown effect ranks last.
func (e Effect) Rank() int {
	for i, x := range Effects {
		if x == e {
			return i
		}
	}
	return len(Effects)
}

// A Problem is the stable code of what is wrong with an entry. internal/check holds the catalogue that explains each.
type Problem string

// A Finding is one entry that is not right.
type Finding struct {
	Account string  `json:"account"`
	Path    string  `json:"path"`
	PathB64 []byte  `json:"path_b64,omitempty"`
	Kind    Kind    `json:"type"`
	Problem Problem `json:"problem"`
	Have    Meta    `json:"have"`
	// Want is what a repair would make of the entry; nil where Rightful would not change it.
	Want   *Meta    `json:"want,omitempty"`
	Effect Effect   `json:"effect"`
	Sites  []string `json:"sites"`
	// Rule is FILE:NAME of the deciding rule, or empty where a law and not a rule decided.
	Rule string `json:"rule"`
	// Source is the snapshot that Want comes from; empty where the rule alone says what is right.
	Source string `json:"source,omitempty"`
	// Note says what the figures do not: why it is not changed, or what accepting would do.
	Note string `json:"note,omitempty"`
	// Accept is the value for --accept that would let a repair change it; empty where nothing would, or nothing need.
	Accept string `json:"accept,omitempty"`
}

// SiteState is what a visitor meets.
type SiteState string

// The states of a site.
const (
	SiteOK      SiteState = "ok"
	SiteDown    SiteState = "down"    // the front page is refused
	SiteBroken  SiteState = "broken"  // the front page is served, something below is not
	SiteUnknown SiteState = "unknown" // Why says what is not known
)

// Rank orders states: 0 is the best; an unknown state is no better and no worse than any other.
func (s SiteState) Rank() int {
	switch s {
	case SiteBroken:
		return 1
	case SiteDown:
		return 2
	}
	return 0
}

// A Verdict is the predicted answer of the web server for a site's front page, and the first thing that decides it.
type Verdict struct {
	Account string    `json:"account"`
	Site    string    `json:"site"`
	State   SiteState `json:"state"`
	// Status is the predicted HTTP status of the front page, 0 where it is not known.
	Status int `json:"status"`
	// Blocked counts the files below the document root that whoever serves them cannot open.
	Blocked int    `json:"blocked"`
	Why     string `json:"why"`
	// Culprit is the entry to blame; empty where State is ok.
	Culprit    string `json:"culprit,omitempty"`
	CulpritB64 []byte `json:"culprit_b64,omitempty"`
	// Samples are up to three blocked request paths, percent-encoded, for a later proof by request.
	Samples []string `json:"samples,omitempty"`
}

// FSID names a file system: its UUID, or where the kernel does not tell it, the id of statfs(2) marked "fsid:".
type FSID string

// An EntryID is the identity of an inode, as strong as its file system allows.
type EntryID struct {
	FS FSID
	// Handle is the file handle (type and bytes) of name_to_handle_at(2): inode and generation. Empty where the file
	// system gives none.
	Handle []byte
	Ino    uint64
	// Birth is the time of birth in nanoseconds since 1970, 0 where the file system keeps none.
	Birth int64
}

// Weak reports whether only the inode number is known, which file systems give to the next file at once.
func (id EntryID) Weak() bool { return len(id.Handle) == 0 && id.Birth == 0 }

// None reports whether it names nothing: nothing stands at a path.
func (id EntryID) None() bool { return id.FS == "" && id.Ino == 0 }

// Same reports whether both name the same inode, by the strongest evidence that both have.
func (id EntryID) Same(o EntryID) bool {
	if id.FS != o.FS || id.Ino != o.Ino {
		return false
	}
	if len(id.Handle) > 0 && len(o.Handle) > 0 {
		return string(id.Handle) == string(o.Handle)
	}
	return id.Birth == o.Birth
}

// Content is what must not have changed for a privilege to be given back (law 5).
type Content struct {
	Size   int64
	SHA256 [32]byte
}

// A Change is one entry with its state before and after.
type Change struct {
	// Base is the absolute path of the walked directory (the home, or a document root outside it), Rel the path below
	// it, "" for the base itself.
	Base, Rel string
	Kind      Kind
	ID        EntryID
	// Links is the link count that the entry had, and must still have.
	Links         uint32
	Before, After Meta
	// Content is set where Before holds a privilege: set-id bits, capabilities or a system owner.
	Content *Content
	// Exchange makes the entry, a directory, change places with another one; ID is that of what stands at the path before,
	// which may be nothing. Links, Before, After and Content then say nothing.
	Exchange *Exchange
	Problem  Problem
	Effect   Effect
	Rule     string
}

// An Exchange is the other side of a change of places.
type Exchange struct {
	// With is the absolute path of the other directory, on the same file system.
	With string
	// ID is that of what stands there before; nothing where what stands at the change's path is moved there.
	ID EntryID
}

// Path is the absolute path of the entry.
func (c *Change) Path() string { return JoinPath(c.Base, c.Rel) }

// JoinPath joins a base directory and a relative path that may be empty. It does not clean: names are bytes.
func JoinPath(base, rel string) string {
	switch {
	case rel == "":
		return base
	case base == "/":
		return "/" + rel
	}
	return base + "/" + rel
}

// RunState is how a run stands.
type RunState string

// The states of a run.
const (
	RunDone        RunState = "done"
	RunStopped     RunState = "stopped"     // verification failed somewhere: what got worse was taken back, the rest stays
	RunTakenBack   RunState = "taken-back"  // nothing of it is left
	RunFailed      RunState = "failed"      // it could not go on: a full disk, a failed sync
	RunInterrupted RunState = "interrupted" // a signal, a crash: resume or undo
	RunRunning     RunState = "running"
)

// A Run is one application of one plan.
type Run struct {
	ID      string    `json:"run"`
	Plan    string    `json:"plan"`
	Verb    string    `json:"verb"` // what made the plan: fix, undo, …
	Undoes  string    `json:"undoes,omitempty"`
	State   RunState  `json:"state"`
	Undone  bool      `json:"undone"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
	By      string    `json:"by"`
	Command string    `json:"command"`
	Planned int       `json:"planned"`
	Changed int       `json:"changed"`
	Skipped int       `json:"skipped"`
	Failed  int       `json:"failed"`
	// InDoubt counts changes that were announced before the run was cut off, and of which no result is known.
	InDoubt int `json:"in_doubt,omitempty"`
	// Otherwise counts those of Changed that are not as planned: a privilege was withheld, or somebody interfered.
	Otherwise int     `json:"otherwise,omitempty"`
	Reason    string  `json:"reason,omitempty"`
	Stages    []Stage `json:"stages"`
	// Exchanges are the changes of places that were planned, where one run is told about by itself.
	Exchanges []Exchanged `json:"exchanges,omitempty"`
	// Damage lists what of the record cannot be read. All changes that it might have told of are in doubt.
	Damage []Damage `json:"damage,omitempty"`
}

// An Exchanged is a planned change of places of two directories, and what became of it.
type Exchanged struct {
	Path    string `json:"path"`
	PathB64 []byte `json:"path_b64,omitempty"`
	With    string `json:"with"`
	WithB64 []byte `json:"with_b64,omitempty"`
	Result  string `json:"result"` // changed, already right, skipped, failed, taken back, in doubt, not made
}

// A Damage is a place in the record of a run that cannot be read, though whole records may follow it.
type Damage struct {
	At    int64 `json:"at"`    // the first byte
	Bytes int64 `json:"bytes"` // how many
	// These count the results of changes that are known from before the place, and from behind it.
	Before int `json:"before"`
	After  int `json:"after"`
}

// String tells a person about it.
func (d Damage) String() string {
	return fmt.Sprintf("its record is damaged at byte %d (%d bytes; %d results are known from before it, %d from behind it)", d.At, d.Bytes, d.Before, d.After)
}

// A Stage is a set of accounts changed and verified together.
type Stage struct {
	Stage    int      `json:"stage"`
	Accounts []string `json:"accounts"`
	Changed  int      `json:"changed"`
	Skipped  int      `json:"skipped"`
	Failed   int      `json:"failed"`
	// These name sites. Uncured were predicted to be cured and are as before; Unverified are those of which requests
	// proved nothing: they were judged by prediction.
	Cured      []string `json:"cured"`
	Uncured    []string `json:"uncured"`
	Worse      []string `json:"worse"`
	Unverified []string `json:"unverified"`
	TakenBack  []string `json:"taken_back"` // accounts
}

// A QuotaChange is what changes of owner add to the share of the disks that one user takes; less than nothing where they
// take away from it.
type QuotaChange struct {
	UID    uint32 `json:"uid"`
	Bytes  int64  `json:"bytes"`
	Inodes int64  `json:"inodes"`
	// OverSoft: the user would end above the soft limit, and has some days to get below it.
	OverSoft bool `json:"over_soft,omitempty"`
}

// SizeText gives a number of bytes for people: "1.2 GiB", "−512 B".
func SizeText(n int64) string {
	sign, f := "", float64(n)
	if n < 0 {
		sign, f = "−", -f
	}
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	for f >= 1024 && len(units) > 1 {
		f, units = f/1024, units[1:]
	}
	if units[0] == "B" {
		return fmt.Sprintf("%s%.0f B", sign, f)
	}
	return fmt.Sprintf("%s%.1f %s", sign, f, units[0])
}

// RawPath gives the exact bytes of a path for a path_b64 field: nil where the text form loses nothing.
func RawPath(p string) []byte {
	if utf8.ValidString(p) {
		return nil
	}
	return []byte(p)
}
