package repair

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"rightful"
	"rightful/internal/tree"

	"golang.org/x/sys/unix"
)

// The reasons for which an entry is left as it is. They are shown to people and stay the same.
const (
	reasonGone      = "it is not there any more"
	reasonReplaced  = "another entry stands at its path"
	reasonChanged   = "it was changed by somebody else"
	reasonLinks     = "its number of hard links changed"
	reasonImmutable = "it is immutable or append-only (chattr)"
	reasonLink      = "a link was put in its path"
	reasonMount     = "something is mounted over its path"
	reasonWithheld  = "its set-id bits or capabilities were not given back: its content changed, or cannot be proved unchanged"
	reasonContent   = "its content changed since it was given away, or cannot be proved unchanged"
	reasonAfter     = "somebody changed it in the moment of the change"
)

// A way is a change of an entry from one state to another.
type way struct{ from, to rightful.Meta }

// key names an inode in a map.
func key(id rightful.EntryID) string {
	return fmt.Sprintf("%s/%d/%x/%d", id.FS, id.Ino, id.Handle, id.Birth)
}

// A target is one change in the direction in which it is to be made.
type target struct {
	*rightful.Change
	from, to rightful.Meta
	// byHandle: where the path leads elsewhere, the entry may be found by its handle.
	byHandle bool
	// resuming: the entry may be found in any state between from and to.
	resuming bool
	// back: an exchange is to be taken back.
	back bool
	// content guards a privilege that to holds.
	content *rightful.Content
	// later are the changes of the same entry that may have been made after this one before the crash.
	later []way
}

// an applier makes changes below the bases of one account, in order, from one goroutine.
type applier struct {
	s         *tree.Server
	systemUID uint32 // uids below it are the system's
	cursors   map[string]*baseCursor
	// others are entries that somebody else brought to where a change should: what a later change of the same entry
	// expects to find there is then not our own work.
	others map[string]bool
	// stepped is called after every system call that changed something. Tests cut the run short here.
	stepped func()
}

type baseCursor struct {
	base *tree.Base
	cur  *tree.Cursor
	err  error
}

func newApplier(s *tree.Server, systemUID uint32, stepped func()) *applier {
	if stepped == nil {
		stepped = func() {}
	}
	return &applier{s: s, systemUID: systemUID, cursors: map[string]*baseCursor{}, others: map[string]bool{}, stepped: stepped}
}

func (a *applier) close() {
	for _, c := range a.cursors {
		if c.err == nil {
			c.cur.Close()
			c.base.Close()
		}
	}
}

func (a *applier) base(path string) *baseCursor {
	c, ok := a.cursors[path]
	if !ok {
		c = &baseCursor{}
		if c.base, c.err = a.s.OpenBase(path); c.err == nil {
			c.cur = c.base.Cursor()
		}
		a.cursors[path] = c
	}
	return c
}

// pin finds the entry of a change: by its path, then, if the target allows it, by its handle.
func (a *applier) pin(t *target) (*tree.Node, result) {
	skip := func(reason string) (*tree.Node, result) { return nil, result{status: stSkipped, reason: reason} }
	c := a.base(t.Base)
	if c.err != nil {
		return skip(c.err.Error())
	}
	n, err := c.cur.Open(t.Rel)
	if err == nil && n.ID().Same(t.ID) {
		return n, result{}
	}
	found := err == nil
	if found {
		n.Close()
	}
	if t.byHandle {
		if n, err := c.base.OpenID(t.ID, t.Path()); err == nil {
			return n, result{}
		}
	}
	switch {
	case found:
		return skip(reasonReplaced)
	case tree.Refused(err) == tree.CauseLink:
		return skip(reasonLink)
	case tree.Refused(err) == tree.CauseMount:
		return skip(reasonMount)
	case tree.IsNotExist(err):
		return skip(reasonGone)
	}
	return skip(err.Error())
}

// change makes one change, on the pinned entry, if that still looks as it must.
func (a *applier) change(ctx context.Context, t *target) result {
	if t.Exchange != nil {
		return a.exchange(t)
	}
	n, res := a.pin(t)
	if n == nil {
		return res
	}
	defer n.Close()
	live, err := n.Meta()
	skip := func(reason string) result { return result{status: stSkipped, reason: reason, observed: &live} }
	switch {
	case err != nil:
		return result{status: stSkipped, reason: err.Error()}
	case n.Stat.Kind != t.Kind:
		return skip(reasonReplaced)
	case len(a.others) > 0 && a.others[key(t.ID)] && !same(live, t.to, t.Kind):
		return skip(reasonChanged)
	case same(live, t.to, t.Kind) && !t.resuming:
		a.others[key(t.ID)] = true
		return result{status: stAlready}
	case same(live, t.to, t.Kind):
		return result{status: stApplied}
	case same(live, t.from, t.Kind):
	case t.resuming && knownState(live, t.from, t.to, t.Kind):
	case slices.ContainsFunc(t.later, func(w way) bool { return knownState(live, w.from, w.to, t.Kind) }):
		return result{status: stApplied} // and the next one was begun
	default:
		return skip(reasonChanged)
	}
	if t.Kind != rightful.KindDir && n.Stat.Nlink != t.Links {
		return skip(reasonLinks)
	}
	if n.Stat.Immutable() {
		return skip(reasonImmutable)
	}
	to, note, release := a.gate(ctx, n, t, live)
	defer release()
	for _, s := range steps(live, to, t.Kind) {
		if err := s.Do(n); err != nil {
			return a.failed(n, live, err)
		}
		a.stepped()
	}
	got, err := n.Refresh()
	switch {
	case err != nil:
		return result{status: stFailed, reason: err.Error(), observed: &to}
	case !same(got, to, t.Kind):
		return result{status: stApplied, reason: reasonAfter, observed: &got}
	case note != "":
		return result{status: stApplied, reason: note, observed: &got}
	}
	return result{status: stApplied}
}

// failed records how far a change came that the kernel refused.
func (a *applier) failed(n *tree.Node, before rightful.Meta, err error) result {
	r := result{status: stFailed, reason: reasonOf(err)}
	if got, e := n.Refresh(); e == nil && !same(got, before, n.Stat.Kind) {
		r.observed = &got
	}
	return r
}

func reasonOf(err error) string {
	if errors.Is(err, unix.EPERM) {
		return "the kernel does not permit it (immutable, read-only or a security module)"
	}
	return err.Error()
}

// gate upholds law 5: a privilege is given to an entry only if its content is the one that had it, and nobody can be
// writing it. Otherwise the entry gets its owner without the privilege. The returned release ends the lease that keeps
// writers out while the change is made.
func (a *applier) gate(ctx context.Context, n *tree.Node, t *target, live rightful.Meta) (to rightful.Meta, note string, release func()) {
	to, release = t.to, func() {}
	if t.Kind != rightful.KindFile {
		return to, "", release
	}
	stays := live.UID == to.UID && live.GID == to.GID
	privileged := to.Mode&setID&^live.Mode != 0 || to.Mode&setID != 0 && !stays || len(to.Caps) > 0 && (!stays || string(to.Caps) != string(live.Caps))
	system := to.UID < a.systemUID && live.UID != to.UID
	if !privileged && !system {
		return to, "", release
	}
	proved := false
	if t.content != nil && !t.ID.Weak() {
		c, rel, err := n.Content(ctx, true)
		proved = err == nil && c == *t.content
		release = rel
	}
	switch {
	case proved:
		return to, "", release
	case privileged:
		return withheld(to), reasonWithheld, release
	}
	return to, reasonContent, release
}

// datasync is fdatasync(2).
func datasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("fdatasync: %w", err)
		}
		return nil
	}
}
