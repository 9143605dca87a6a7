package archive

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"rightful"
)

// A Names is a server's users and groups, as package panel reads them.
type Names interface {
	UserID(name string) (uint32, bool)
	GroupID(name string) (uint32, bool)
}

// A Target is the account that a source is read for.
type Target struct {
	Account  string
	UID, GID uint32
	// Owner is what the account was called where the source was made, a name or a number; "" for the same name.
	Owner string
	// Groups are the gids that an entry of the account may have by the word of a source: the account's own, and those of
	// whoever serves its sites.
	Groups []uint32
	Names  Names
	// Others are the uids of the server's other accounts.
	Others map[uint32]string
	// Forgeable: somebody other than root could have written the source. Then it says nothing of owners and groups.
	Forgeable bool
	// KindOf asks the live tree for the kind at a path below the home, where the source does not tell; KindUnknown where
	// nothing is there.
	KindOf func(rel string) rightful.Kind
}

// An owner is an owner or group as a source names it.
type owner struct {
	name  string
	id    uint32
	hasID bool
}

func (o owner) String() string {
	switch {
	case o.name != "" && o.hasID:
		return fmt.Sprintf("%q (%d)", o.name, o.id)
	case o.name != "":
		return strconv.Quote(o.name)
	}
	return strconv.FormatUint(uint64(o.id), 10)
}

func (e *Entry) owner() (owner, bool) {
	o := owner{name: e.User, id: e.UID, hasID: e.Known.Has(KnownUID)}
	return o, o.hasID || e.Known.Has(KnownUser)
}

func (e *Entry) group() (owner, bool) {
	o := owner{name: e.Group, id: e.GID, hasID: e.Known.Has(KnownGID)}
	return o, o.hasID || e.Known.Has(KnownGroup)
}

// A census counts what the account's part of a source holds.
type census struct {
	entries, files, dirs int
	owners               map[owner]int
	pairs                map[[2]owner]bool
	fileModes, dirModes  map[rightful.Mode]int
	acls                 int  // entries with an ACL
	writable             bool // something is writable by group or others
}

// maxOwners bounds the owners that are told apart; a source with more says nothing about owners.
const maxOwners = 4096

func newCensus() *census {
	return &census{
		owners: map[owner]int{}, pairs: map[[2]owner]bool{}, fileModes: map[rightful.Mode]int{}, dirModes: map[rightful.Mode]int{},
	}
}

func (c *census) count(e *Entry) {
	c.entries++
	o, ok := e.owner()
	g, _ := e.group()
	if ok && (len(c.owners) < maxOwners || c.owners[o] > 0) {
		c.owners[o]++
	}
	if len(c.pairs) < maxOwners {
		c.pairs[[2]owner{o, g}] = true
	}
	if e.Known.Has(KnownACL) {
		c.acls++
	}
	if !e.Known.Has(KnownMode) || e.Kind == rightful.KindSymlink {
		return
	}
	c.writable = c.writable || e.Mode&0o022 != 0
	if e.Kind == rightful.KindDir {
		c.dirs++
		c.dirModes[e.Mode]++
	} else {
		c.files++
		c.fileModes[e.Mode]++
	}
}

// byCount sorts owners, those of most entries first.
func byCount(m map[owner]int) []owner {
	return slices.SortedFunc(maps.Keys(m), func(a, b owner) int {
		return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a.name, b.name), cmp.Compare(a.id, b.id))
	})
}

// who is how owners and groups of a source are understood.
type who struct {
	t *Target
	// account is the account as the source names it. known is false where owners are no evidence.
	account owner
	known   bool
	// same: ids mean here what they meant there.
	same bool
}

// settle decides what owners of the source mean, and says why. exact is set where a name or the account's own number says it.
func settle(c *census, t *Target) (w who, why string, exact bool) {
	w = who{t: t}
	all := byCount(c.owners)
	switch {
	case len(all) == 0:
		return w, "it tells no owners", false
	case len(all) == maxOwners:
		return w, fmt.Sprintf("owners are no evidence: it names %d or more", maxOwners), false
	case t.Forgeable:
		return w, "owners and groups are no evidence: not only root could have written it", false
	case len(c.pairs) == 1:
		return w, fmt.Sprintf("owners and groups are no evidence: everything has the one owner %s, as copies and archives that do not keep owners have", all[0]), false
	}
	w.account, why, exact = w.find(c, all[0])
	if why == "" {
		return w, fmt.Sprintf("owners are no evidence: none in it is known to be the account; most entries belong to %s", all[0]), false
	}
	share := 0
	for o, n := range c.owners {
		if w.isAccount(o) {
			share += n
		}
	}
	if 100*share < c.entries {
		return w, fmt.Sprintf("owners are no evidence: fewer than one entry of a hundred belongs to the account there (%s)", w.account), false
	}
	w.known = true
	w.same = w.account.hasID && w.account.id == t.UID
	if !w.same && !slices.ContainsFunc(all, func(o owner) bool { return o.name != "" }) {
		why += "; other ids in it mean nothing here"
	}
	return w, why, exact
}

// find tells which owner of the source is the account.
func (w *who) find(c *census, top owner) (owner, string, bool) {
	t := w.t
	want := cmp.Or(t.Owner, t.Account)
	id, err := strconv.ParseUint(want, 10, 32)
	byID := err == nil && t.Owner != ""
	for _, o := range byCount(c.owners) {
		switch {
		case byID && o.hasID && uint64(o.id) == id:
			return o, fmt.Sprintf("the account is the uid %d there, as you said", id), true
		case byID || o.name != want:
		case o.hasID && o.id != t.UID:
			return o, fmt.Sprintf("the account is %s there, by name, and has the uid %d here", o, t.UID), true
		default:
			return o, fmt.Sprintf("the account is %s there, by name", o), true
		}
	}
	if t.Owner != "" {
		return owner{}, "", false
	}
	for o := range c.owners {
		if o.hasID && o.id == t.UID && o.name == "" {
			return o, fmt.Sprintf("the account is %s there, by its number", o), true
		}
	}
	// The owner of nearly everything in a home is who the home belongs to, unless that is somebody else here.
	_, other := t.Others[top.id]
	if top.name != "" {
		var uid uint32
		uid, other = t.Names.UserID(top.name)
		other = other && uid != t.UID
	}
	if !other && (top.id != 0 || !top.hasID) && top.name != "root" && 10*c.owners[top] >= 9*c.entries {
		return top, fmt.Sprintf("the account is taken to be %s there, whose nearly everything is", top), false
	}
	return owner{}, "", false
}

// isAccount reports whether an owner of the source is the account.
func (w *who) isAccount(o owner) bool {
	if w.account.name != "" && o.name != "" {
		return o.name == w.account.name
	}
	return w.account.hasID && o.hasID && o.id == w.account.id
}

// user gives the uid here of somebody whom the source names.
func (w *who) user(o owner) (uint32, bool) {
	if w.isAccount(o) {
		return w.t.UID, true
	}
	if o.name != "" {
		return w.t.Names.UserID(o.name)
	}
	return o.id, o.hasID && (w.same || o.id == 0)
}

// group gives the gid here of a group that the source names.
func (w *who) group(o owner) (uint32, bool) {
	if o.name != "" && o.name == w.account.name {
		return w.t.GID, true // the group that a user has alone is called like the user
	}
	if o.name != "" {
		return w.t.Names.GroupID(o.name)
	}
	if w.same {
		return o.id, o.hasID
	}
	// The number of the group that a user has alone is mostly the user's own.
	return w.t.GID, o.hasID && w.account.hasID && o.id == w.account.id
}
