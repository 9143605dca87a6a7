package tree

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"rightful"

	"golang.org/x/sys/unix"
)

// AllLinks makes sure that paths, below the bases they begin with, are all the hard links that an inode has, and all
// there at once. A walk alone cannot tell: it meets one link twice if that is renamed in time, and takes the pair for
// both links of a file whose other link lies elsewhere.
//
// The proof: each path is looked up and leads to the inode; the entries, as pairs of a directory's inode and a name, are
// distinct and as many as the inode has links; and the inode's change time before the first look-up and after the last
// is the same, and older than the clock was before the first. Every rename, link or unlink of the inode in between
// would have set that time to the clock, so each entry was there throughout. (A directory on the way may be renamed
// without a trace; its inode stays, and so the pair does.)
func (s *Server) AllLinks(ctx context.Context, id rightful.EntryID, bases, paths []string) error {
	open := map[string]*Base{}
	defer func() {
		for _, b := range open {
			b.Close()
		}
	}()
	for tries := 0; ; tries++ {
		err := s.allLinks(id, open, bases, paths)
		// A change of a moment ago cannot be told from one of now: let the clock move on.
		if Refused(err) != CauseRecent || tries == 3 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *Server) allLinks(id rightful.EntryID, open map[string]*Base, bases, paths []string) error {
	type place struct {
		dir  uint64
		name string
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now); err != nil {
		return &Error{Op: "read the clock for", Path: paths[0], Err: err}
	}
	var first Stat
	var pinned *Node
	var places []place
	for _, p := range paths {
		i := slices.IndexFunc(bases, func(b string) bool { return p == b || strings.HasPrefix(p, b+"/") })
		if i < 0 {
			return &Error{Op: "find links of", Path: p, Cause: CauseEscape}
		}
		b := open[bases[i]]
		if b == nil {
			var err error
			if b, err = s.OpenBase(bases[i]); err != nil {
				return err
			}
			open[bases[i]] = b
		}
		c := b.Cursor()
		n, err := c.Open(strings.TrimPrefix(strings.TrimPrefix(p, bases[i]), "/"))
		if err != nil {
			c.Close()
			return err
		}
		dir, err := statFD(c.at())
		c.Close()
		if err != nil {
			n.Close()
			return &Error{Op: "stat directory of", Path: p, Err: err}
		}
		places = append(places, place{dir.Ino, p[strings.LastIndexByte(p, '/')+1:]})
		defer n.Close()
		if !n.ID().Same(id) {
			return &Error{Op: "find links of", Path: p, Cause: CauseChanged}
		}
		if pinned == nil {
			pinned, first = n, n.Stat
		}
	}
	last, err := statFD(pinned.fd)
	if err != nil {
		return &Error{Op: "stat", Path: paths[0], Err: err}
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Or(cmp.Compare(a.dir, b.dir), strings.Compare(a.name, b.name)) })
	places = slices.Compact(places)
	switch {
	case first.Ctime >= now.Nano() || last.Ctime != first.Ctime:
		return &Error{Op: "find links of", Path: paths[0], Cause: CauseRecent}
	case len(places) != len(paths) || uint32(len(places)) != last.Nlink || first.Nlink != last.Nlink:
		return &Error{Op: "find links of", Path: paths[0], Cause: CauseChanged}
	}
	return nil
}
