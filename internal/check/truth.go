package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/panel"
	"rightful/internal/policy"
	"rightful/internal/snapshot"
	"rightful/internal/tree"
)

// A Truth is what snapshots say that entries were.
type Truth struct {
	Store *snapshot.Store
	// Snapshots are asked in this order. For Restore there is one.
	Snapshots []*snapshot.Snapshot
	// Restore: every entry is to be as recorded, whatever its rule says. Otherwise a rule says whether an entry is right,
	// and a record, if it has a state that satisfies the rule, what a repair makes of it.
	Restore bool
	// For Restore: the fields that are put back, 0 for all, and the absolute path at or below which, "" for everywhere.
	Only  snapshot.Fields
	Below string
	// Was, for Restore: what is predicted as planned is what was recorded, also where it cannot be brought back.
	Was bool
	// Strict: what no record shows as right is left as it is, instead of going to what the rule wants.
	Strict bool
	// Rebuilt: the tree was made anew, and what its entries are means nothing: a recorded state that satisfies the rule is
	// preferred to a present one that satisfies it too.
	Rebuilt bool
}

// maxRecords bounds how many different records of one account are asked about an entry.
const maxRecords = 8

// records are those of one account, opened as they are needed.
type records struct {
	truth *Truth
	list  []*record
	met   []uint64 // for Restore: a bit for each recorded entry that was found, wherever it is now
	// blind are paths, with all beneath them, of which the walk saw nothing.
	blind []string
}

type record struct {
	snap *snapshot.Snapshot
	r    *snapshot.Reader // nil until it is needed
	err  error
	ids  renumbered
}

// renumbered is what the ids of a snapshot's accounts mean now.
type renumbered struct {
	uids, gids map[uint32]uint32 // of accounts that have others now
	// lost are ids of accounts that are no more, which somebody else has now, with the account's name.
	lostUIDs, lostGIDs map[uint32]string
}

// renumber finds out by their names which ids the accounts of a snapshot have now. An account may have been made anew, and
// its old uid may be another customer's.
func renumber(sn *snapshot.Snapshot, users *panel.Users) (n renumbered) {
	kept, keptGID := map[uint32]bool{}, map[uint32]bool{}
	n = renumbered{map[uint32]uint32{}, map[uint32]uint32{}, map[uint32]string{}, map[uint32]string{}}
	for i := range sn.Accounts {
		a := &sn.Accounts[i]
		u, ok := users.ByName(a.Account)
		if !ok {
			if _, held := users.ByUID(a.UID); held {
				n.lostUIDs[a.UID], n.lostGIDs[a.GID] = a.Account, a.Account
			}
			continue
		}
		kept[a.UID] = kept[a.UID] || u.UID == a.UID
		keptGID[a.GID] = keptGID[a.GID] || u.GID == a.GID
		n.uids[a.UID], n.gids[a.GID] = u.UID, u.GID
	}
	maps.DeleteFunc(n.uids, func(uid, _ uint32) bool { return kept[uid] })
	maps.DeleteFunc(n.gids, func(gid, _ uint32) bool { return keptGID[gid] })
	maps.DeleteFunc(n.lostUIDs, func(uid uint32, _ string) bool { _, ok := n.uids[uid]; return ok || kept[uid] })
	maps.DeleteFunc(n.lostGIDs, func(gid uint32, _ string) bool { _, ok := n.gids[gid]; return ok || keptGID[gid] })
	return n
}

// renumbered is renumber, once for each snapshot.
func (c *checker) renumbered(sn *snapshot.Snapshot) renumbered {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.ids[sn]
	if !ok {
		n = renumber(sn, c.World.Users)
		c.ids[sn] = n
	}
	return n
}

// none reports whether all ids mean what they meant.
func (n *renumbered) none() bool {
	return len(n.uids)+len(n.gids)+len(n.lostUIDs)+len(n.lostGIDs) == 0
}

// entry gives what is recorded of an entry with the ids of today. Of an account that is no more nothing is left but its
// name, and what went by its ids is unknown.
func (n *renumbered) entry(e *snapshot.Entry) (was *snapshot.Entry, whose string) {
	if n.none() {
		return e, ""
	}
	now := *e
	m := &now.Meta
	lost := func(names map[uint32]string, id uint32, f snapshot.Fields) {
		if name, ok := names[id]; ok {
			whose = name
			now.Unknown |= f
		}
	}
	lost(n.lostUIDs, m.UID, snapshot.FieldUID)
	lost(n.lostGIDs, m.GID, snapshot.FieldGID)
	acl := func(a rightful.ACL) rightful.ACL {
		a = slices.Clone(a)
		for i := range a {
			switch x := &a[i]; x.Tag {
			case rightful.ACLUser:
				lost(n.lostUIDs, x.ID, snapshot.FieldACL)
				x.ID = cmp.Or(n.uids[x.ID], x.ID)
			case rightful.ACLGroup:
				lost(n.lostGIDs, x.ID, snapshot.FieldACL)
				x.ID = cmp.Or(n.gids[x.ID], x.ID)
			}
		}
		slices.SortFunc(a, func(x, y rightful.ACLEntry) int { return cmp.Or(cmp.Compare(x.Tag, y.Tag), cmp.Compare(x.ID, y.ID)) })
		return a
	}
	m.ACL, m.Default = acl(m.ACL), acl(m.Default)
	m.UID, m.GID = cmp.Or(n.uids[m.UID], m.UID), cmp.Or(n.gids[m.GID], m.GID)
	return &now, whose
}

// openRecords finds the records of the account. Several snapshots of an account that did not change are one.
func (j *job) openRecords() error {
	t := j.c.Truth
	if t == nil {
		return nil
	}
	rs := &records{truth: t}
	met := map[string]bool{}
	for _, sn := range t.Snapshots {
		a, ok := sn.Account(j.a.Name)
		if !ok || met[a.File] || len(rs.list) == maxRecords {
			continue
		}
		met[a.File] = true
		rs.list = append(rs.list, &record{snap: sn, ids: j.c.renumbered(sn)})
	}
	if len(rs.list) == 0 {
		if t.Restore {
			return fmt.Errorf("restore account %q: %w", j.a.Name, snapshot.ErrNotTaken)
		}
		return nil
	}
	j.records = rs
	if t.Restore {
		r, err := j.read(rs.list[0])
		if err != nil {
			return err
		}
		rs.met = make([]uint64, r.Entries/64+1)
	}
	return nil
}

// read opens a record. One that cannot be read is told of, once.
func (j *job) read(rec *record) (*snapshot.Reader, error) {
	if rec.r == nil && rec.err == nil { // a record that failed once is not tried again
		if rec.r, rec.err = j.c.Truth.Store.Account(rec.snap, j.a.Name); rec.err != nil {
			j.r.Lost = append(j.r.Lost, rec.err)
		}
	}
	return rec.r, rec.err
}

func (j *job) closeRecords() {
	if j.records == nil {
		return
	}
	for _, rec := range j.records.list {
		if rec.r != nil {
			rec.r.Close()
		}
	}
}

// rebuilt reports whether a recorded state is preferred to a present one that is right too.
func (j *job) rebuilt() bool { return j.records != nil && j.records.truth.Rebuilt }

// restoring reports whether records and not rules say what entries are to be.
func (j *job) restoring() bool { return j.records != nil && j.records.truth.Restore }

// identity is what an entry is known by, and how large it is.
type identity struct {
	rightful.EntryID
	size int64
}

// entryID gives what an entry is known by. A handle costs a system call, and is needed only where there is no time of
// birth.
func (j *job) entryID(e *tree.Entry) identity {
	if j.records == nil {
		return identity{}
	}
	if e.Birth == 0 {
		return identity{e.ID(), e.Size}
	}
	return j.statID(&e.Stat)
}

func (j *job) statID(st *tree.Stat) identity {
	return identity{rightful.EntryID{FS: j.fs, Ino: st.Ino, Birth: st.Birth}, st.Size}
}

// recall finds what is recorded of an entry: of the same inode, wherever in the account it was; else of one of the same
// kind at its path.
func (j *job) recall(rec *record, p string, kind rightful.Kind, id rightful.EntryID) (was *snapshot.Entry, same bool, err error) {
	r, err := j.read(rec)
	if err != nil {
		return nil, false, err
	}
	at, err := r.Lookup(j.base, strings.TrimPrefix(strings.TrimPrefix(p, j.base), "/"))
	if err != nil {
		return nil, false, err
	}
	if !id.Weak() {
		is := func(e *snapshot.Entry) bool { return e.Kind == kind && !e.ID.Weak() && e.ID.Same(id) }
		if at != nil && is(at) {
			return at, true, nil
		}
		es, err := r.ByID(id)
		if err != nil {
			return nil, false, err
		}
		for _, e := range es {
			if is(e) {
				return e, true, nil
			}
		}
	}
	if at != nil && at.Kind == kind {
		return at, false, nil
	}
	return nil, false, nil
}

// recalled is a state that an entry may be brought back to.
type recalled struct {
	want   rightful.Meta
	source string // the snapshot
	// proven: the record is of the same inode, and so shows whose it was (law 3).
	proven bool
	// content guards the privileges that want has and the entry has not (law 5).
	content *rightful.Content
	note    string
}

// asRecorded gives an entry the recorded fields, and those that are not recorded as base has them. An entry that only stands
// where another stood gets no privilege by it, and no owner but the account or who serves it; and where it stays somebody
// else's, it gets nothing: it may be root's own file, and the record a customer's word.
func (j *job) asRecorded(was *snapshot.Entry, same bool, kind rightful.Kind, have, base rightful.Meta, only snapshot.Fields) recalled {
	rc := recalled{want: base, proven: same}
	only &^= was.Unknown
	m := was.Meta
	if !same {
		if only&snapshot.FieldUID != 0 && m.UID != have.UID && m.UID != j.a.UID && !j.c.webUIDs[m.UID] {
			only &^= snapshot.FieldUID | snapshot.FieldGID
			rc.note = "another entry stands where one of " + j.c.World.Users.Name(m.UID) + " was recorded: its owner stays"
		}
		only &^= snapshot.FieldCaps
	}
	w := &rc.want
	if only&snapshot.FieldUID != 0 {
		w.UID = m.UID
	}
	if only&snapshot.FieldGID != 0 {
		w.GID = m.GID
	}
	if !same && w.UID != j.a.UID && !j.c.webUIDs[w.UID] {
		rc.want = base
		if rc.note == "" && !recordedAs(was, have) {
			rc.note = "it belongs to " + j.c.World.Users.Name(have.UID) + ", and what is recorded may be of another entry at its path: left as it is"
		}
		return rc
	}
	if kind == rightful.KindSymlink {
		return rc
	}
	if was.Unknown&snapshot.FieldACL != 0 {
		m.Mode = unmasked(m.Mode, *w)
	}
	if only&snapshot.FieldACL != 0 {
		w.ACL, w.Default = m.ACL, m.Default
		if len(m.ACL)+len(have.ACL) > 0 { // the group's bits are those of an ACL's mask, and come and go with it
			w.Mode = w.Mode&^0o070 | m.Mode&0o070
		}
	}
	if only&snapshot.FieldMode != 0 {
		w.Mode = m.Mode
	}
	if only&snapshot.FieldCaps != 0 {
		w.Caps = m.Caps
	}
	w.ACL = w.ACL.WithMode(w.Mode)
	if kind == rightful.KindDir {
		return rc
	}
	const setID = rightful.ModeSetuid | rightful.ModeSetgid
	chown := w.UID != have.UID || w.GID != have.GID
	if asOwned := w.UID == m.UID && w.GID == m.GID; !same || !asOwned {
		// A privilege was that of the recorded owner and group, and is nobody else's.
		w.Mode &^= setID &^ have.Mode
		if len(m.Caps) > 0 && !asOwned {
			w.Caps = have.Caps
		}
	}
	if chown && only&snapshot.FieldMode == 0 || !same && chown {
		w.Mode &^= setID // privilege never crosses an owner change
	}
	if chown && only&snapshot.FieldCaps == 0 {
		w.Caps = nil
	}
	if same {
		rc.content = was.Content
	}
	return rc
}

// recordedAs reports whether an entry has what is recorded, as far as it is.
func recordedAs(was *snapshot.Entry, have rightful.Meta) bool {
	return snapshot.Differs(was.Kind, was.Meta, have, was.Unknown) == 0
}

// unmasked gives a recorded mode of which it is not known whether there was an ACL, and so whether the group's bits are its
// mask. The bits that are not set no member of the group had, and those that others have too give a group nothing; the rest
// stay as they are, and so do all of them where there is an ACL now.
func unmasked(recorded rightful.Mode, now rightful.Meta) rightful.Mode {
	if len(now.ACL) > 0 {
		return recorded&^0o070 | now.Mode&0o070
	}
	others := recorded & 7 << 3
	return recorded&^(0o070&^others) | recorded&now.Mode&0o070
}

// better finds the newest recorded state of an entry that satisfies its rule. What is not recorded is as the rule wants it.
func (j *job) better(p string, rule *policy.Rule, kind rightful.Kind, have, want rightful.Meta, id identity) (recalled, bool) {
	if j.records == nil {
		return recalled{}, false
	}
	for _, rec := range j.records.list {
		was, same, err := j.recall(rec, p, kind, id.EntryID)
		if err != nil {
			if rec.err == nil {
				rec.err = err
				j.r.Lost = append(j.r.Lost, fmt.Errorf("read account %q of snapshot %q: %w", j.a.Name, rec.snap.ID, err))
			}
			continue
		}
		if was == nil {
			continue
		}
		was, whose := rec.ids.entry(was)
		rc := j.asRecorded(was, same, kind, have, want, snapshot.FieldAll)
		// Somebody wrote into it since, and may have been its present owner: it shows no longer whose that is.
		rc.proven = rc.proven && (kind != rightful.KindFile || was.Size == id.size)
		if whose == "" && !rc.want.Equal(have) && rc.note == "" && rule.Judge(rc.want, kind, j.c.Exact).OK {
			rc.source = rec.snap.ID
			return rc, true
		}
	}
	return recalled{}, false
}

// Known implements tree.Knower: of an entry that nobody changed since the snapshot that everything is compared with, it says
// which ACLs and capabilities there are.
func (j *job) Known(e *tree.Entry) (rightful.Meta, bool) {
	if !j.restoring() {
		return rightful.Meta{}, false
	}
	return j.records.list[0].r.Known(j.base, j.dirRel, e.Name, j.fs, &e.Stat)
}

// unchanged reports whether an entry is the inode that was recorded at its path, in the state that was: nearly always so, and
// then nothing is to be thought about it.
func (j *job) unchanged(e *tree.Entry, have *rightful.Meta) bool {
	if !j.restoring() || e.Birth == 0 || e.Kind == rightful.KindSymlink || !j.records.list[0].ids.none() {
		return false
	}
	id := j.statID(&e.Stat)
	n, ok, err := j.records.list[0].r.Same(j.base, j.dirRel, e.Name, e.Kind, have, &id.EntryID)
	if ok = ok && err == nil; ok { // an error comes again with the look-up
		j.records.met[n/64] |= 1 << (n % 64)
	}
	return ok
}

// judgeRecorded says what is thought of an entry when it is to be as recorded.
func (j *job) judgeRecorded(lv *level, p string, rule *policy.Rule, kind rightful.Kind, have rightful.Meta, immutable bool, id identity) (op opinion) {
	op = opinion{after: have, rule: rule}
	rs := j.records
	rec := rs.list[0]
	was, same, err := j.recall(rec, p, kind, id.EntryID)
	switch {
	case err != nil:
		j.failed = fmt.Errorf("restore account %q from snapshot %q: %w", j.a.Name, rec.snap.ID, err)
		return op
	case was == nil:
		if rs.truth.covers(p) {
			text := "it was not there when snapshot " + rec.snap.ID + " was taken: left as it is"
			if !rec.snap.Live() {
				text = "the import " + rec.snap.ID + " does not hold it: left as it is"
			}
			j.aside(&j.r.New, p, text)
		}
		return op
	}
	rs.met[was.Number/64] |= 1 << (was.Number % 64)
	if !rs.truth.covers(p) {
		return op
	}
	only := rs.truth.Only
	if only == 0 {
		only = snapshot.FieldAll
	}
	was, whose := rec.ids.entry(was)
	rc := j.asRecorded(was, same, kind, have, have, only)
	if whose != "" && rc.note == "" && snapshot.Differs(kind, have, was.Meta, 0)&only != 0 {
		rc.note = "it was " + whose + "'s, who is no more, and whose ids are somebody else's now: they are not given"
	}
	if rc.want.Equal(have) && rc.note == "" {
		return op
	}
	rc.source = rec.snap.ID
	op.recalled = &rc
	if rs.truth.Was {
		defer func() {
			if !op.change {
				op.after = was.Meta
			}
		}()
	}
	op.want, op.note = &rc.want, rc.note
	op.problem, op.open = difference(have, rc.want, was.Meta)
	if rc.want.Equal(have) {
		op.want = nil
		return op
	}
	if kind == rightful.KindBlock || kind == rightful.KindChar {
		op.problem, op.want, op.note = Device, nil, deviceNote
		return op
	}
	return j.permit(lv, p, kind, have, immutable, op)
}

// difference names how a state differs from the one that is wanted, and whether it gives anybody more. Where nothing can
// be done about it, from what was recorded.
func difference(have, want, recorded rightful.Meta) (p rightful.Problem, open bool) {
	if want.Equal(have) {
		want = recorded
	}
	open = rightful.Gains(want, have, 7)
	switch {
	case have.UID != want.UID:
		return WrongOwner, open
	case have.GID != want.GID:
		return WrongGroup, open
	case !have.ACL.Equal(want.ACL) || !have.Default.Equal(want.Default):
		return WrongACL, open
	case string(have.Caps) != string(want.Caps):
		return WrongCaps, open
	case have.Mode&^want.Mode != 0:
		return TooOpen, open
	}
	return TooClosed, open
}

func (t *Truth) covers(p string) bool { return t.Below == "" || beneath(p, t.Below) }

// maxAside bounds the notes about entries that came or went; all are counted.
const maxAside = 1000

func (j *job) aside(n *int, p, text string) {
	if *n++; *n <= maxAside {
		j.note(p, text)
	}
}

// missing counts what is recorded and was not met any more.
func (j *job) missing() error {
	if !j.restoring() {
		return nil
	}
	rs := j.records
	r := rs.list[0].r
	for e, err := range r.All() {
		if err != nil {
			return fmt.Errorf("read snapshot %q: %w", rs.list[0].snap.ID, err)
		}
		if rs.met[e.Number/64]&(1<<(e.Number%64)) != 0 {
			continue
		}
		p := e.Path(r.BaseOf(e))
		if rs.truth.covers(p) && !rs.unseen(p) {
			j.aside(&j.r.Gone, p, "it is gone since snapshot "+rs.list[0].snap.ID+" was taken")
		}
	}
	return nil
}

// blind notes that the walk sees nothing of a path and of what lies beneath it.
func (j *job) blind(p string) {
	if j.records != nil {
		j.records.blind = append(j.records.blind, p)
	}
}

func (rs *records) unseen(p string) bool {
	for _, b := range rs.blind {
		if beneath(p, b) {
			return true
		}
	}
	return false
}
