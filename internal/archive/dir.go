package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"rightful"
	"rightful/internal/tree"
)

// dirSource gives the entries of a directory: a mounted snapshot of a file system, or a copy. It is walked by the rules
// of package tree: no link is followed, no mount crossed.
type dirSource struct {
	stop    context.CancelFunc
	batches chan []dirItem
	done    chan error
	batch   []dirItem
	look    *tree.Cursor
	last    *dirItem // what was given last; nil where it has no content
	file    *os.File // its content, once that is read
	err     error
}

type dirItem struct {
	e   Entry
	st  tree.Stat
	err *Rejected
}

// dirBatch is how many entries are handed over at once: enough that waiting for one another does not count.
const dirBatch = 256

var errStopped = errors.New("nobody listens any more")

// OpenDir reads the directory that base is. Closing the source lets go of the walk but not of the base.
func OpenDir(ctx context.Context, base *tree.Base) *Opened {
	return &Opened{Source: newNester(newDir(ctx, base, &dirVisitor{})), Format: Dir}
}

// OpenHome is OpenDir for a home itself: what looks like an archive of a panel's, or was copied by rsync --fake-super, is a
// file of the customer's like any other. The second name of a file is a hard link to the first, and has a content all the
// same. What lies more than depth directories deep is left out: with landlock each step there costs as much as all above it.
func OpenHome(ctx context.Context, base *tree.Base, depth int) *Opened {
	return &Opened{Source: newDir(ctx, base, &dirVisitor{plain: enoughPlain + 1, depth: depth, names: map[inode]string{}}), Format: Dir}
}

func newDir(ctx context.Context, base *tree.Base, v *dirVisitor) *dirSource {
	ctx, stop := context.WithCancel(ctx)
	s := &dirSource{stop: stop, batches: make(chan []dirItem, 4), done: make(chan error, 1), look: base.Cursor()}
	v.s, v.ctx = s, ctx
	go func() {
		err := base.Walk(ctx, v, true)
		if err == nil {
			err = v.flush()
		}
		close(s.batches)
		s.done <- err
	}()
	return s
}

// Next implements [Source].
func (s *dirSource) Next() (Entry, error) {
	s.end()
	for len(s.batch) == 0 && s.err == nil {
		b, ok := <-s.batches
		if !ok {
			if s.err = <-s.done; s.err == nil {
				s.err = io.EOF
			}
		}
		s.batch = b
	}
	if len(s.batch) == 0 {
		return Entry{}, s.err
	}
	i := &s.batch[0]
	s.batch = s.batch[1:]
	if i.err != nil {
		return Entry{}, i.err
	}
	if i.e.Kind == rightful.KindFile && i.st.Kind == rightful.KindFile {
		s.last = i
	}
	return i.e, nil
}

// Content implements [Source].
func (s *dirSource) Content() io.Reader {
	if s.last == nil {
		return nil
	}
	return &dirContent{s: s, of: s.last}
}

// end lets go of the content of the last entry.
func (s *dirSource) end() {
	if s.file != nil {
		s.file.Close()
	}
	s.file, s.last = nil, nil
}

// Close implements [Source].
func (s *dirSource) Close() error {
	s.end()
	s.look.Close()
	s.stop()
	for range s.batches {
	}
	return nil
}

// A dirContent is the content of a file that was met, as long as it was then. It is reached as the walk reached it, one
// name at a time, and is opened only where it still is that inode. The holes of a sparse file are bounded as what a compressed
// stream expands to.
type dirContent struct {
	s  *dirSource
	of *dirItem
	r  io.LimitedReader
}

// Read implements [io.Reader].
func (c *dirContent) Read(b []byte) (int, error) {
	if c.of != c.s.last {
		return 0, errStale
	}
	if c.of.e.Size > ratioFree+maxRatio*c.of.st.Taken {
		return 0, ErrBomb
	}
	if c.r.R == nil {
		if err := c.open(); err != nil {
			return 0, err
		}
	}
	n, err := c.r.Read(b)
	if err == io.EOF && c.r.N > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (c *dirContent) open() error {
	n, err := c.s.look.Open(c.of.e.Name)
	if err != nil {
		return err
	}
	defer n.Close()
	if st, was := n.Stat, c.of.st; st.Ino != was.Ino || st.Dev != was.Dev || st.Birth != was.Birth || st.Kind != was.Kind {
		return &tree.Error{Op: "open", Path: n.Path(), Cause: tree.CauseChanged}
	}
	f, err := n.Open()
	if err != nil {
		return err
	}
	c.s.file, c.r = f, io.LimitedReader{R: f, N: c.of.e.Size}
	return nil
}

type dirVisitor struct {
	s     *dirSource
	ctx   context.Context
	batch []dirItem
	plain int  // entries without rsync's attribute, as long as none had it
	fake  bool // some had it
	depth int  // of directories that are entered; 0 for any
	// names has the first name of each file with several of them; nil where nobody asks.
	names map[inode]string
}

type inode struct{ dev, ino uint64 }

// maxLinked bounds the files of which the first name is kept in mind; of others each name becomes a file.
const maxLinked = 100_000

// linked makes a hard link of a further name of a file.
func (v *dirVisitor) linked(te *tree.Entry, e *Entry) {
	if v.names == nil || te.Kind != rightful.KindFile || te.Nlink < 2 {
		return
	}
	id := inode{te.Dev, te.Ino}
	if first, ok := v.names[id]; ok {
		e.HardLink, e.Target, e.Known = true, first, e.Known|KnownTarget
	} else if len(v.names) < maxLinked {
		v.names[id] = e.Name
	}
}

// rsync --fake-super, which makes copies without being root, keeps what it may not set in attributes. rsyncStat is
// "MODE MAJOR,MINOR UID:GID", the mode in octal digits with its type; rsyncACL holds an ACL in a form of rsync's own.
const (
	rsyncStat = "user.rsync.%stat"
	rsyncACL  = "user.rsync.%aacl"
)

// enoughPlain is how many entries without the attribute show that a copy is not of that kind: looking costs as much as the
// rest of the walk.
const enoughPlain = 100

// fakeSuper takes what rsync kept of an entry. It leaves one alone of which it kept nothing.
func (v *dirVisitor) fakeSuper(te *tree.Entry, e *Entry) error {
	if e.Kind != rightful.KindFile && e.Kind != rightful.KindDir || v.plain > enoughPlain {
		return nil
	}
	n, err := te.Pin()
	if err != nil {
		return err
	}
	defer n.Close()
	stat, err := n.Xattr(rsyncStat)
	if errors.Is(err, os.ErrNotExist) { // a process that gave up /proc reads no attributes; the entry itself is pinned
		v.plain = enoughPlain + 1
		return nil
	}
	if err != nil {
		return err
	}
	if stat == nil {
		if !v.fake {
			v.plain++
		}
		return nil
	}
	v.fake = true
	acl, err := n.Xattr(rsyncACL)
	if err != nil {
		return err
	}
	var mode, major, minor uint32
	if _, err := fmt.Sscanf(string(stat), "%o %d,%d %d:%d", &mode, &major, &minor, &e.UID, &e.GID); err != nil {
		return fmt.Errorf("read %s %q: %w", rsyncStat, stat, err)
	}
	e.Kind = tree.KindOf(mode)
	e.Mode = rightful.Mode(mode) & rightful.ModeAll
	e.Known = e.Known&^(KnownACL|KnownCaps) | KnownMask
	e.ACL, e.Default = nil, nil
	if acl != nil {
		e.Unreadable = "an ACL in a form of rsync's own"
	}
	if e.Kind == rightful.KindSymlink { // which cannot have such an attribute: its target is in a file
		target, err := n.Read(maxTarget)
		if err != nil {
			return err
		}
		return e.symlink(string(target))
	}
	return nil
}

func (v *dirVisitor) put(i dirItem) error {
	v.batch = append(v.batch, i)
	if len(v.batch) < dirBatch {
		return nil
	}
	return v.flush()
}

func (v *dirVisitor) flush() error {
	b := v.batch
	v.batch = make([]dirItem, 0, dirBatch)
	select {
	case v.s.batches <- b:
		return nil
	case <-v.ctx.Done():
		return errStopped
	}
}

// Entry implements tree.Visitor.
func (v *dirVisitor) Entry(d *tree.Dir, te *tree.Entry) (bool, error) {
	if v.depth > 0 && d != nil && d.Depth >= v.depth && te.Kind == rightful.KindDir {
		return false, v.put(dirItem{err: reject("walk", te.Rel(), "it lies more than %d directories deep", v.depth)})
	}
	e := Entry{
		Name: te.Rel(), At: "walk", Kind: te.Kind, UID: te.UID, GID: te.GID, Mode: te.Mode, Size: te.Size, Time: time.Unix(0, te.Mtime),
	}
	e.Known = KnownUID | KnownGID | KnownMode | KnownACL | KnownCaps | KnownSize | KnownTime
	m, err := te.Meta()
	if err != nil {
		e.Known &^= KnownACL | KnownCaps
		e.Known |= KnownMask
		e.Unreadable = err.Error()
	}
	e.ACL, e.Default, e.Caps = numericACL(m.ACL), numericACL(m.Default), m.Caps
	err = v.fakeSuper(te, &e)
	if err == nil && te.Kind == rightful.KindSymlink {
		e.Target, err = te.Target()
		e.Known |= KnownTarget
	}
	if err != nil {
		var r *Rejected
		if !errors.As(err, &r) {
			r = reject(e.At, e.Name, "%v", err)
		}
		return true, v.put(dirItem{err: r})
	}
	if e.Kind == rightful.KindBlock || e.Kind == rightful.KindChar {
		return false, v.put(dirItem{err: reject(e.At, e.Name, "a device; no backup makes one right")})
	}
	v.linked(te, &e)
	return true, v.put(dirItem{e: e, st: te.Stat})
}

// Enter implements tree.Visitor.
func (v *dirVisitor) Enter(*tree.Dir) error { return nil }

// Leave implements tree.Visitor.
func (v *dirVisitor) Leave(*tree.Dir) error { return nil }

// Fail implements tree.Visitor.
func (v *dirVisitor) Fail(rel string, err error) {
	v.batch = append(v.batch, dirItem{err: reject("walk", rel, "%v", err)})
}
