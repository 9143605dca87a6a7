package repair

import (
	"errors"
	"fmt"
	"strings"

	"rightful"
	"rightful/internal/tree"
	"rightful/internal/tree/edit"

	"golang.org/x/sys/unix"
)

// An exchange puts a directory that was built elsewhere in the place of another, and that one in its place, in one step
// of the kernel's: at no moment is there neither. Where nothing stands at one of the paths it is a move. Both stand in
// directories that only root can write, so that nobody else can put another entry there in between.
//
// What a plan changes below the other path before the exchange belongs to the tree that comes in. When a run is undone
// that tree goes out again as it is: the paths of those changes hold another tree by then. Only where the exchange was
// never made, or a take-back was under way, are they undone too. A take-back within the run puts back the exchange first,
// then them; where it cannot put back the exchange it leaves them, since they are what makes the tree that is in work.

const (
	reasonNotRoots = "somebody but root could put another directory in its place"
	reasonNoPlace  = "it is no place in a directory"
	reasonStays    = "the directory that it is in was not taken out of its place again"
)

// An arrangement is how two directories stand at the two places of an exchange.
type arrangement int

const (
	otherwise arrangement = iota
	asBefore
	asAfter
)

// A place is a name in a directory of root's, and what stands there.
type place struct {
	base      *tree.Base
	cur       *tree.Cursor
	name      string
	id        rightful.EntryID // of a directory, or nothing
	immutable bool
}

// place finds the place of a path. The error is a reason to leave it alone. Its directory is opened anew each time: the
// cursors of other changes may be of a time before an exchange.
func (a *applier) place(p string) (*place, error) {
	i := strings.LastIndexByte(p, '/')
	if i < 0 || p[0] != '/' || i == len(p)-1 {
		return nil, errors.New(reasonNoPlace)
	}
	b, err := a.s.OpenBase(p[:max(i, 1)])
	if err != nil {
		return nil, err
	}
	s := &place{base: b, cur: b.Cursor(), name: p[i+1:]}
	if st := b.Stat(); !st.RootsAlone() {
		err = errors.New(reasonNotRoots)
	} else {
		err = s.look()
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *place) close() {
	s.cur.Close()
	s.base.Close()
}

// look finds out what stands there: nothing, or a directory.
func (s *place) look() error {
	s.id, s.immutable = rightful.EntryID{}, false
	n, err := s.cur.Open(s.name)
	switch {
	case tree.IsNotExist(err):
		return nil
	case tree.Refused(err) == tree.CauseMount:
		return errors.New(reasonMount)
	case err != nil:
		return err
	}
	defer n.Close()
	if n.Stat.Kind != rightful.KindDir {
		return errors.New(reasonReplaced)
	}
	if n.Stat.MountRoot() {
		return errors.New(reasonMount)
	}
	s.id, s.immutable = n.ID(), n.Stat.Immutable()
	return nil
}

// places are the two of an exchange.
type places struct {
	c           *rightful.Change
	here, there *place
}

// places opens both places of an exchange. The error is a reason to leave them alone.
func (a *applier) places(c *rightful.Change) (*places, error) {
	here, err := a.place(c.Path())
	if err != nil {
		return nil, err
	}
	there, err := a.place(c.Exchange.With)
	if err != nil {
		here.close()
		return nil, err
	}
	return &places{c, here, there}, nil
}

func (p *places) close() {
	p.here.close()
	p.there.close()
}

func (p *places) stand() arrangement {
	here, there := p.c.ID, p.c.Exchange.ID
	switch {
	case here.None() && there.None():
		return otherwise // there is nothing to exchange
	case sameOrNone(p.here.id, here) && sameOrNone(p.there.id, there):
		return asBefore
	case sameOrNone(p.here.id, there) && sameOrNone(p.there.id, here):
		return asAfter
	}
	return otherwise
}

// sameOrNone compares two identities of which both may be nothing.
func sameOrNone(a, b rightful.EntryID) bool {
	if a.None() || b.None() {
		return a.None() && b.None()
	}
	return a.Same(b)
}

// swap makes the two change places.
func (p *places) swap() (err error) {
	var here, there *tree.Node
	if here, err = p.here.cur.Open(""); err != nil {
		return err
	}
	defer here.Close()
	if there, err = p.there.cur.Open(""); err != nil {
		return err
	}
	defer there.Close()
	switch {
	case p.here.id.None():
		return edit.Move(there, p.there.name, here, p.here.name)
	case p.there.id.None():
		return edit.Move(here, p.here.name, there, p.there.name)
	}
	return edit.Exchange(here, p.here.name, there, p.there.name)
}

// sync makes what was swapped durable.
func (p *places) sync() error {
	for _, s := range []*place{p.here, p.there} {
		n, err := s.cur.Open("")
		if err != nil {
			return err
		}
		err = edit.Sync(n)
		n.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// exchange makes one exchange, if both places hold what they must.
func (a *applier) exchange(t *target) result {
	skip := func(reason string) result { return result{status: stSkipped, reason: reason} }
	p, err := a.places(t.Change)
	if err != nil {
		return skip(err.Error())
	}
	defer p.close()
	from, to := asBefore, asAfter
	if t.back {
		from, to = to, from
	}
	switch p.stand() {
	case from:
	case to:
		if t.resuming {
			return result{status: stApplied}
		}
		return result{status: stAlready}
	default:
		if p.here.id.None() && p.there.id.None() {
			return skip(reasonGone)
		}
		return skip(reasonReplaced)
	}
	if p.here.immutable || p.there.immutable {
		return skip(reasonImmutable)
	}
	if err := p.swap(); err != nil {
		return result{status: stFailed, reason: exchangeReason(err)}
	}
	a.stepped()
	a.close() // what was opened before may be another's now
	clear(a.cursors)
	if err := p.sync(); err != nil {
		return result{status: stApplied, reason: err.Error()}
	}
	if err := errors.Join(p.here.look(), p.there.look()); err != nil || p.stand() != to {
		return result{status: stApplied, reason: reasonAfter}
	}
	return result{status: stApplied}
}

func exchangeReason(err error) string {
	switch {
	case errors.Is(err, unix.EXDEV):
		return "the two lie on different file systems, under different project quotas, or in different layers of an overlay"
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return "the kernel cannot exchange the two in one step: the file system has no such call, or one lies within the other"
	case errors.Is(err, unix.EBUSY):
		return reasonMount
	}
	return reasonOf(err)
}

// beneath gives where a path lies at or below a directory.
func beneath(p, dir string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(p, dir)
	return rest, ok && (rest == "" || rest[0] == '/')
}

// An arrival is a tree that an exchange brought in, from one place to another. Changes with lower numbers were made of it
// where it came from.
type arrival struct {
	seq      int
	from, at string
	stays    bool // it is not for this undo to take it out
}

// arrivals are those of one account.
type arrivals []arrival

// of finds the one that a change was made for.
func (as arrivals) of(seq int, c *rightful.Change) (a arrival, rest string, ok bool) {
	for _, a := range as {
		if rest, ok := beneath(c.Base, a.from); ok && seq < a.seq {
			return a, rest, true
		}
	}
	return arrival{}, "", false
}

// settledKey names what an undo puts back: an entry, or the two places of an exchange.
func settledKey(c *rightful.Change) string {
	if c.Exchange != nil {
		return "exchange\x00" + c.Path() + "\x00" + c.Exchange.With
	}
	return key(c.ID)
}

// exchange plans the way back of an exchange.
func (u *undoer) exchange(c *rightful.Change, left func(string) error) error {
	p, err := u.ap.places(c)
	if err != nil {
		return left(err.Error())
	}
	defer p.close()
	switch p.stand() {
	case asBefore:
		return nil // it was not made, or is taken back
	case asAfter:
	default:
		if p.there.id.None() && !c.ID.None() && sameOrNone(p.here.id, c.Exchange.ID) {
			return left(fmt.Sprintf("what stood there before is not kept at %q any more", c.Exchange.With))
		}
		return left(reasonReplaced)
	}
	back := *c
	back.Problem, back.Rule = "", ""
	back.ID, back.Exchange = c.Exchange.ID, &rightful.Exchange{With: c.Exchange.With, ID: c.ID}
	u.out = append(u.out, &back)
	return nil
}

// arrive takes down whether an exchange brought its tree in, so that what was changed before it goes out with the tree as it
// is. Where the record is in doubt, what stands at the places decides. Where this run did not bring it in, and it is in all
// the same, what this run changed of it stays.
func (u *undoer) arrive(seq int, c *rightful.Change) {
	k, touched := settledKey(c), u.prior.touched(seq)
	in := touched && (u.settled[k] || len(u.cut[k]) > 0 || u.prior.status[seq] != stBegun && !u.prior.reverting[seq])
	if !in {
		p, err := u.ap.places(c)
		if err != nil {
			in = touched
		} else {
			in = p.stand() == asAfter || touched && p.stand() != asBefore
			p.close()
		}
	}
	if in {
		u.came = append(u.came, arrival{seq: seq, from: c.Exchange.With, at: c.Path(), stays: !touched})
	}
}
