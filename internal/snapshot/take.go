package snapshot

import (
	"context"

	"rightful"
	"rightful/internal/tree"
)

// TakeOptions say how the entries of an account are recorded.
type TakeOptions struct {
	// SystemUID is the lowest uid of people: what a lower one owns is recorded with its content. 0 means 1000.
	SystemUID uint32
	// Previous is an older record of the account, or nil: what an entry of which nothing was changed since has of ACLs and
	// capabilities is taken from there (see Reader.Known), and a content hashed there is not read again if the inode has not
	// changed since by its time of change. (A store through a mapping that was dirty before leaves that time alone. The
	// hash is then too old, and a privilege that depends on it is withheld, not given.)
	Previous *Reader
	// MaxHashed is how many bytes of one base are read to be hashed, before no other file is begun; 0 means 4 GiB. What is beyond has no proof of its
	// content, until a later record reaches it. A tenant could otherwise have root read sparse files of his for hours.
	MaxHashed int64
	// Walked is called now and then with how many entries were met since the last call.
	Walked func(n int)
}

// Take records everything below an open base.
func (w *Writer) Take(ctx context.Context, b *tree.Base, o TakeOptions) error {
	if err := w.Base(b.Path(), b.FS()); err != nil {
		return err
	}
	if o.SystemUID == 0 {
		o.SystemUID = 1000
	}
	if o.MaxHashed == 0 {
		o.MaxHashed = 4 << 30
	}
	if o.Walked == nil {
		o.Walked = func(int) {}
	}
	t := &taker{TakeOptions: o, w: w, ctx: ctx, fs: b.FS()}
	w.previous = o.Previous
	err := b.Walk(ctx, t, true)
	o.Walked(t.walked)
	return err
}

// A taker is the visitor of a walk that records it.
type taker struct {
	TakeOptions
	w      *Writer
	ctx    context.Context
	fs     rightful.FSID
	rel    string // of the directory
	dir    []byte // the same
	e      Entry
	walked int
	hashed int64 // bytes
}

// Enter implements tree.Visitor.
func (t *taker) Enter(d *tree.Dir) error {
	t.rel = d.Rel()
	t.dir = append(t.dir[:0], t.rel...)
	return nil
}

// Known implements tree.Knower.
func (t *taker) Known(e *tree.Entry) (rightful.Meta, bool) {
	if t.Previous == nil {
		return rightful.Meta{}, false
	}
	return t.Previous.Known(t.w.bases[len(t.w.bases)-1].path, t.rel, e.Name, t.fs, &e.Stat)
}

// Leave implements tree.Visitor.
func (t *taker) Leave(*tree.Dir) error { return nil }

// Fail implements tree.Visitor. What vanished while it was looked at is no fault.
func (t *taker) Fail(rel string, err error) {
	if !tree.IsNotExist(err) {
		t.w.Unread(rel, err.Error())
	}
}

// Entry implements tree.Visitor.
func (t *taker) Entry(d *tree.Dir, x *tree.Entry) (bool, error) {
	if t.walked++; t.walked == 4096 {
		t.Walked(t.walked)
		t.walked = 0
		if err := t.ctx.Err(); err != nil {
			return false, err
		}
	}
	if d != nil && t.w.any && string(t.w.last) == string(x.Name) && string(t.w.lastDir) == string(t.dir) {
		return false, nil // listed twice: it was renamed while its directory was read
	}
	meta, err := x.Meta()
	if err != nil {
		t.Fail(x.Rel(), err)
		return false, nil
	}
	t.e = Entry{
		Kind: x.Kind, Meta: meta, Ctime: x.Ctime, Size: x.Size, Links: x.Nlink,
		ID: rightful.EntryID{FS: t.fs, Ino: x.Ino, Birth: x.Birth},
	}
	// A handle costs a system call. Inode and time of birth are as good: nobody but the kernel sets that time. Only where
	// there is none, and where a privilege will depend on it, the handle is asked for.
	privileged := isPrivileged(x.Kind, meta, t.SystemUID)
	if privileged || x.Birth == 0 {
		t.e.ID = x.ID()
	}
	if privileged {
		t.content(x)
	}
	if t.e.Kind == rightful.KindDir {
		t.e.Size, t.e.Links = 0, 0
	}
	if d == nil {
		return true, t.w.add(nil, nil, &t.e)
	}
	return x.Kind == rightful.KindDir, t.w.add(t.dir, x.Name, &t.e)
}

// content hashes what guards a privilege. Where it cannot be read, or is too large, the entry has no proof, and will not
// get the privilege back.
func (t *taker) content(x *tree.Entry) {
	if t.Previous != nil {
		was, err := t.Previous.Lookup(t.w.bases[len(t.w.bases)-1].path, x.Rel())
		if err == nil && was != nil && was.Content != nil && was.ID.Same(t.e.ID) && was.Ctime == t.e.Ctime && was.Size == t.e.Size {
			t.e.Content = was.Content
			return
		}
	}
	if t.hashed >= t.MaxHashed {
		return
	}
	n, err := x.Pin()
	if err == nil {
		defer n.Close()
		var c rightful.Content
		c, _, err = n.Content(t.ctx, false)
		t.hashed += c.Size // what was read, whatever the file said of itself
		if err == nil {
			t.e.Content = &c
			return
		}
	}
	if tree.Refused(err) != tree.CauseTooLarge {
		t.Fail(x.Rel(), err)
	}
}
