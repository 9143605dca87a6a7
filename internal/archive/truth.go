package archive

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"rightful"
	"rightful/internal/snapshot"
	"rightful/internal/state"
)

// A Confidence is what a source is evidence of, in a word for lists.
type Confidence string

// The confidences, best first.
const (
	Exact          Confidence = "exact"            // owners, groups, modes, ACLs: as a snapshot of our own, but for identity
	OwnersAndModes Confidence = "owners and modes" // ACLs are not known
	ModesOnly      Confidence = "modes only"       // owners are no evidence
	OwnersOnly     Confidence = "owners only"      // modes are no evidence
	Nothing        Confidence = "nothing"
)

// ErrNothing says that a source is evidence of nothing.
var ErrNothing = errors.New("neither its owners nor its modes are evidence")

// A Truth is what a source says of an account, and how far that can be believed.
//
// It never says more than that an entry belonged to the account, with these bits and this ACL. What the source gives to
// anybody else is left out whole; set-id bits of files and capabilities are never in it; groups only where the account or
// whoever serves its sites has them. An entry is known by its path alone: what stands there today may be another one.
type Truth struct {
	Confidence Confidence
	// Reasons say in a sentence each why it is believed so far and no further.
	Reasons []string
	Counts  Counts

	s      *Survey
	places Places
	t      *Target
	w      who
	modes  bool // modes are evidence
	acls   bool // there are ACLs in it
}

// Counts are entries of a source by what became of them. Those from SetID on are in Records too.
type Counts struct {
	Records  int `json:"records"`
	Outside  int `json:"outside"`   // not below the home
	Foreign  int `json:"foreign"`   // somebody else's in the source
	NoKind   int `json:"no_kind"`   // neither the source nor the live tree tells what they are
	Twice    int `json:"twice"`     // there more than once, and the last one counts
	SetID    int `json:"set_id"`    // files with set-id bits, whose mode is not believed
	Caps     int `json:"caps"`      // files with capabilities, likewise
	NoGroup  int `json:"no_group"`  // in a group that neither the account nor whoever serves its sites has
	NoACL    int `json:"no_acl"`    // with an ACL that was not understood, or names users or groups that are not known here
	MaybeACL int `json:"maybe_acl"` // with group bits that may be the mask of an ACL
}

// enoughFiles is how many files of one mode, and of no other, make modes suspect.
const enoughFiles = 20

// Truth finds out what the source is evidence of for an account, whose entries are in some places.
func (s *Survey) Truth(places Places, t *Target) (*Truth, error) {
	tr := &Truth{s: s, places: places, t: t}
	c := newCensus()
	err := s.each(func(e *Entry) error {
		if _, ok := places.Rel(e.Name); ok {
			c.count(e)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var why string
	var exact bool
	tr.w, why, exact = settle(c, t)
	tr.because("%s", why)
	tr.acls = c.acls > 0
	if tr.acls {
		tr.because("ACLs are in it")
	} else {
		tr.because("it tells nothing of ACLs: where group bits go beyond those of others, they may be the mask of one, and are left as they are")
	}
	switch {
	case c.files+c.dirs == 0 || len(c.fileModes)+len(c.dirModes) == 0:
		tr.because("it tells no modes")
	case c.files >= enoughFiles && len(c.fileModes) == 1:
		tr.because("modes are no evidence: every one of %d files has the same, as extraction under a umask and file systems without modes give", c.files)
	default:
		tr.modes = true
		if s.Format == Dir && !c.writable && c.files >= enoughFiles {
			tr.because("nothing in it is writable by group or others: if it was extracted under a umask, such bits are lost")
		}
	}
	if s.Cut != nil {
		tr.because("it ends early (%v): what comes after that is not known", s.Cut)
	}
	switch {
	case tr.w.known && tr.modes && tr.acls && exact && s.Cut == nil:
		tr.Confidence = Exact
	case tr.w.known && tr.modes:
		tr.Confidence = OwnersAndModes
	case tr.modes:
		tr.Confidence = ModesOnly
	case tr.w.known:
		tr.Confidence = OwnersOnly
	default:
		tr.Confidence = Nothing
	}
	return tr, nil
}

func (tr *Truth) because(format string, args ...any) {
	tr.Reasons = append(tr.Reasons, fmt.Sprintf(format, args...))
}

// Each hands the records over in the order of [snapshot.Compare], each path once. A record is valid during the call.
// Counts is complete when it returns.
func (tr *Truth) Each(fn func(*snapshot.Entry) error) error {
	if tr.Confidence == Nothing {
		return ErrNothing
	}
	tr.Counts = Counts{}
	sorted := sorter{s: tr.s.spool}
	var p state.Packer
	err := tr.s.each(func(e *Entry) error {
		rel, ok := tr.places.Rel(e.Name)
		if !ok {
			tr.Counts.Outside++
			return nil
		}
		r, ok := tr.record(e, rel)
		if !ok {
			return nil
		}
		p.B = appendKey(p.B[:0], rel)
		n := len(p.B)
		p.Byte(byte(r.Kind))
		p.Byte(byte(r.Unknown))
		p.Meta(r.Meta)
		p.Int(r.Size)
		p.Text(e.At)
		return sorted.put(p.B, n)
	})
	if err != nil {
		return err
	}
	d := deduper{tr: tr, fn: fn, last: tr.s.Format == Tar || tr.s.Format == Zip || tr.s.Format == Getfacl}
	if err := sorted.each(d.put); err != nil {
		return err
	}
	return d.flush()
}

// record judges one entry. It is false for one of which nothing is believed.
func (tr *Truth) record(e *Entry, rel string) (r snapshot.Entry, ok bool) {
	r = snapshot.Entry{Rel: rel, Kind: e.Kind, Size: e.Size, Unknown: snapshot.FieldCaps}
	if o, told := e.owner(); !tr.w.known || !told {
		r.Unknown |= snapshot.FieldUID | snapshot.FieldGID
	} else {
		if !tr.w.isAccount(o) {
			tr.Counts.Foreign++
			return r, false
		}
		r.Meta.UID = tr.t.UID
		tr.group(e, &r)
	}
	if r.Kind == rightful.KindUnknown {
		if r.Kind = tr.t.KindOf(rel); r.Kind == rightful.KindUnknown {
			tr.Counts.NoKind++
			return r, false
		}
	}
	if len(e.Caps) > 0 {
		tr.Counts.Caps++
	}
	if r.Kind == rightful.KindSymlink {
		r.Unknown |= snapshot.FieldMode | snapshot.FieldACL
		return r, true
	}
	if !tr.modes || !e.Known.Has(KnownMode) {
		r.Unknown |= snapshot.FieldMode
	} else {
		r.Meta.Mode = e.Mode
		if r.Kind != rightful.KindDir && e.Mode&(rightful.ModeSetuid|rightful.ModeSetgid) != 0 {
			tr.Counts.SetID++
			r.Meta.Mode, r.Unknown = 0, r.Unknown|snapshot.FieldMode
		}
	}
	tr.acl(e, &r)
	return r, true
}

// group takes the group where the account, or whoever serves its sites, has it.
func (tr *Truth) group(e *Entry, r *snapshot.Entry) {
	g, told := e.group()
	gid, ok := uint32(0), false
	if told {
		gid, ok = tr.w.group(g)
	}
	for _, has := range tr.t.Groups {
		if ok && has == gid {
			r.Meta.GID = gid
			return
		}
	}
	tr.Counts.NoGroup++
	r.Unknown |= snapshot.FieldGID
}

// acl takes the ACLs, or says that they are not known.
func (tr *Truth) acl(e *Entry, r *snapshot.Entry) {
	switch {
	case e.Unreadable != "":
		tr.Counts.NoACL++
		r.Unknown |= snapshot.FieldACL
	case e.Known.Has(KnownACL):
		acl, ok1 := tr.resolve(e.ACL)
		def, ok2 := tr.resolve(e.Default)
		if ok1 && ok2 {
			r.Meta.ACL = acl
			if r.Kind == rightful.KindDir {
				r.Meta.Default = def
			}
			return
		}
		tr.Counts.NoACL++
		r.Unknown |= snapshot.FieldACL
		if r.Unknown&snapshot.FieldMode != 0 {
			return
		}
		// Without the ACL the group's bits are the owning group's own, as far as the mask let them through.
		for _, a := range e.ACL {
			if a.Tag == rightful.ACLGroupObj {
				r.Meta.Mode &^= 0o070 &^ (rightful.Mode(a.Perm) << 3)
			}
		}
	case tr.acls && tr.s.Format == Tar && !e.HardLink:
		// The archive holds ACLs, so one without had none. Another name of a file need not repeat the file's.
	default:
		r.Unknown |= snapshot.FieldACL
		if others := e.Mode & 7 << 3; e.Mode&0o070&^others != 0 {
			tr.Counts.MaybeACL++
		}
	}
}

// resolve gives an ACL in the ids of this server; false where somebody in it is not known here.
func (tr *Truth) resolve(a ACL) (rightful.ACL, bool) {
	if a.minimal() {
		return nil, true
	}
	out := make(rightful.ACL, 0, len(a))
	for _, e := range a {
		k := rightful.ACLEntry{Tag: e.Tag, Perm: e.Perm}
		o, ok := owner{name: e.Name, id: e.ID, hasID: e.HasID}, true
		switch e.Tag {
		case rightful.ACLUser:
			k.ID, ok = tr.w.user(o)
		case rightful.ACLGroup:
			k.ID, ok = tr.w.group(o)
		}
		if !ok {
			return nil, false
		}
		out = append(out, k)
	}
	out.Sort()
	return out, out.Check() == nil
}

// appendKey appends a path in a form whose bytes sort as [snapshot.Compare] wants it: the directory with NUL, which no name
// holds, for "/"; two NULs; the name.
func appendKey(b []byte, rel string) []byte {
	i := strings.LastIndexByte(rel, '/')
	for _, c := range []byte(rel[:max(i, 0)]) {
		if c == '/' {
			c = 0
		}
		b = append(b, c)
	}
	b = append(b, 0, 0)
	return append(b, rel[i+1:]...)
}

// keyPath is the inverse of appendKey.
func keyPath(key []byte) string {
	dir, name, _ := bytes.Cut(key, []byte{0, 0})
	if len(dir) == 0 {
		return string(name)
	}
	return strings.ReplaceAll(string(dir), "\x00", "/") + "/" + string(name)
}

// A deduper makes one record of those of one path.
//
// In a tar and a zip the last one counts, as when it is extracted: tar --append adds newer ones at the end. In a dump of ACLs the
// last one counts, as for setfacl --restore. A listing and a walk hold every path once: two that contradict each other
// are not what those programs write, and neither is believed.
type deduper struct {
	tr   *Truth
	fn   func(*snapshot.Entry) error
	last bool
	key  []byte
	rec  []byte
	any  bool
	odd  bool
}

func (d *deduper) put(key, rec []byte) error {
	if d.any && bytes.Equal(key, d.key) {
		if d.last {
			d.tr.Counts.Twice++
		} else if a, b := withoutAt(d.rec[len(d.key):]), withoutAt(rec[len(key):]); !bytes.Equal(a, b) {
			d.odd = true
		}
		d.rec = append(d.rec[:0], rec...)
		return nil
	}
	if err := d.flush(); err != nil {
		return err
	}
	d.any, d.odd = true, false
	d.key, d.rec = append(d.key[:0], key...), append(d.rec[:0], rec...)
	return nil
}

func (d *deduper) flush() error {
	if !d.any {
		return nil
	}
	d.any = false
	r := snapshot.Entry{Rel: keyPath(d.key)}
	u := state.Unpacker{B: d.rec[len(d.key):]}
	r.Kind, r.Unknown, r.Meta, r.Size = rightful.Kind(u.Byte()), snapshot.Fields(u.Byte()), u.Meta(), u.Int()
	at := u.Text()
	if u.Err != nil {
		return u.Err
	}
	if d.odd {
		d.tr.s.reject(reject(at, r.Rel, "it is there more than once, with different metadata; neither is believed"))
		return nil
	}
	d.tr.Counts.Records++
	return d.fn(&r)
}

// withoutAt gives a packed record without its place in the source.
func withoutAt(b []byte) []byte {
	u := state.Unpacker{B: b}
	u.Byte()
	u.Byte()
	u.Meta()
	u.Int()
	return b[:len(b)-len(u.B)]
}
