package repair

import (
	"errors"
	"fmt"
	"path"

	"rightful"
	"rightful/internal/tree"
	"rightful/internal/tree/edit"

	"golang.org/x/sys/unix"
)

// An exchange puts a directory that was built elsewhere in the place of another, and that one in its place, in one step
// of the kernel's: at no moment is there neither. Where nothing stands at one of the paths it is a move. Both stand in
// directories that only root can write, so that nobody else can put another entry there in between.
//
// What a plan changes below the other path before the exchange belongs to the tree that comes in. When the exchange is
// undone that tree goes out again as it is: the paths of those changes hold another tree by then.

const reasonNotRoots = "somebody but root could put another directory in its place"

// A spot is a name in a directory of root's.
type spot struct {
	dir  *tree.Node
	cur  *tree.Cursor
	name string
}

// spot finds the place of a path. The error is a reason to leave it alone.
func (a *applier) spot(p string) (*spot, error) {
	c := a.base(path.Dir(p))
	if c.err != nil {
		return nil, c.err
	}
	if st := c.base.Stat(); st.UID != 0 || st.Mode&0o022 != 0 {
		return nil, errors.New(reasonNotRoots)
	}
	dir, err := c.cur.Open("")
	if err != nil {
		return nil, err
	}
	return &spot{dir, c.cur, path.Base(p)}, nil
}

// id tells what stands there: nothing, or a directory.
func (s *spot) id() (rightful.EntryID, error) {
	n, err := s.cur.Open(s.name)
	if tree.IsNotExist(err) {
		return rightful.EntryID{}, nil
	}
	if err != nil {
		return rightful.EntryID{}, err
	}
	defer n.Close()
	if n.Stat.Kind != rightful.KindDir {
		return rightful.EntryID{}, errors.New(reasonReplaced)
	}
	if n.Stat.MountRoot() {
		return rightful.EntryID{}, errors.New(reasonMount)
	}
	return n.ID(), nil
}

// stands tells what is at the two places of an exchange.
func (a *applier) stands(c *rightful.Change) (here, there *spot, hereID, thereID rightful.EntryID, err error) {
	if here, err = a.spot(c.Path()); err != nil {
		return
	}
	if there, err = a.spot(c.Exchange.With); err != nil {
		here.dir.Close()
		return
	}
	if hereID, err = here.id(); err == nil {
		thereID, err = there.id()
	}
	if err != nil {
		here.dir.Close()
		there.dir.Close()
	}
	return
}

// sameOrNone compares two identities of which both may be nothing.
func sameOrNone(a, b rightful.EntryID) bool {
	if a.None() || b.None() {
		return a.None() && b.None()
	}
	return a.Same(b)
}

// exchange makes one exchange, if both places hold what they must.
func (a *applier) exchange(t *target) result {
	from, to := t.ID, t.Exchange.ID // what is here, and what is to come here
	if t.back {
		from, to = to, from
	}
	here, there, hereID, thereID, err := a.stands(t.Change)
	if err != nil {
		return result{status: stSkipped, reason: err.Error()}
	}
	defer here.dir.Close()
	defer there.dir.Close()
	switch {
	case sameOrNone(hereID, from) && sameOrNone(thereID, to):
	case sameOrNone(hereID, to) && sameOrNone(thereID, from):
		if t.resuming {
			return result{status: stApplied}
		}
		return result{status: stAlready}
	case hereID.None() && thereID.None():
		return result{status: stSkipped, reason: reasonGone}
	default:
		return result{status: stSkipped, reason: reasonReplaced}
	}
	switch {
	case hereID.None():
		err = edit.Move(there.dir, there.name, here.dir, here.name)
	case thereID.None():
		err = edit.Move(here.dir, here.name, there.dir, there.name)
	default:
		err = edit.Exchange(here.dir, here.name, there.dir, there.name)
	}
	if err != nil {
		return result{status: stFailed, reason: exchangeReason(err)}
	}
	a.stepped()
	if err := edit.Sync(here.dir, there.dir); err != nil {
		return result{status: stApplied, reason: err.Error()}
	}
	if got, err := here.id(); err != nil || !sameOrNone(got, to) {
		return result{status: stApplied, reason: reasonAfter}
	}
	return result{status: stApplied}
}

func exchangeReason(err error) string {
	switch {
	case errors.Is(err, unix.EXDEV):
		return "the two lie on different file systems, or under different project quotas"
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return "the file system cannot exchange two directories in one step"
	case errors.Is(err, unix.EBUSY):
		return reasonMount
	}
	return reasonOf(err)
}

// exchange plans the way back of an exchange.
func (u *undoer) exchange(c *rightful.Change, left func(string) error) error {
	here, there, hereID, thereID, err := u.ap.stands(c)
	if err != nil {
		return left(err.Error())
	}
	here.dir.Close()
	there.dir.Close()
	switch {
	case sameOrNone(hereID, c.ID) && sameOrNone(thereID, c.Exchange.ID):
		return nil // it was not made, or is taken back
	case sameOrNone(hereID, c.Exchange.ID) && sameOrNone(thereID, c.ID):
	case thereID.None() && !c.ID.None():
		return left(fmt.Sprintf("what stood there before is not kept at %q any more", c.Exchange.With))
	default:
		return left(reasonReplaced)
	}
	back := *c
	back.Problem, back.Rule = "", ""
	back.ID, back.Exchange = c.Exchange.ID, &rightful.Exchange{With: c.Exchange.With, ID: c.ID}
	u.out = append(u.out, &back)
	return nil
}
