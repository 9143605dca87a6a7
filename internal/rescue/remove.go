package rescue

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"rightful/internal/tree"

	"golang.org/x/sys/unix"
)

// Remove removes the quarantine with all that is in it: the old home, after the switch. What cannot be removed, since it is
// immutable or something is mounted there, is left, with an error that names the first.
func (q *Quarantine) Remove(ctx context.Context) error {
	r := newRemover(ctx, q)
	r.close = true
	// A home that is half removed must not be taken for one by an undo, or by whoever goes on with the rescue.
	if err := r.hoist(int(q.f.Fd()), homeDir); err != nil && err != unix.ENOENT {
		return r.failed("", err)
	}
	if err := q.f.Sync(); err != nil {
		return r.failed("", err)
	}
	r.empty(q.f, 0)
	if err := r.err(); err != nil {
		return err
	}
	parent, err := q.s.OpenBase(path.Dir(q.path))
	if err != nil {
		return err
	}
	defer parent.Close()
	dir, err := parent.File()
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Unlinkat(int(dir.Fd()), path.Base(q.path), unix.AT_REMOVEDIR); err != nil {
		return r.failed("", err)
	}
	return dir.Sync()
}

// remove removes one directory of the quarantine.
func (q *Quarantine) remove(ctx context.Context, name string) error {
	r := newRemover(ctx, q)
	r.one(int(q.f.Fd()), name, 0)
	for i := 0; i < len(r.aside); i++ { // which removing these makes longer
		r.one(int(q.f.Fd()), r.aside[i], 0)
	}
	return r.err()
}

// Drop removes one entry of source n that is not whole.
func (q *Quarantine) Drop(ctx context.Context, n int, rel string) error {
	in := q.f
	parts := strings.Split(strconv.Itoa(n)+"/"+rel, "/")
	for _, d := range parts[:len(parts)-1] {
		f, err := openDir(int(in.Fd()), d)
		if err != nil {
			return nil // a link or nothing: then it is not there
		}
		defer f.Close()
		in = f
	}
	r := newRemover(ctx, q)
	r.one(int(in.Fd()), parts[len(parts)-1], 0)
	return r.err()
}

// A remover removes trees that somebody may still work in, through descriptors from before they were set aside, of any depth.
// No path leads to where it is: it goes down by descriptors, and what lies too deep for them is moved up into the quarantine
// itself, which only root can enter.
type remover struct {
	ctx context.Context
	q   *Quarantine
	// close makes each directory root's before it is emptied, so that nobody fills it meanwhile.
	close bool
	mount uint64   // of the quarantine
	path  []string // of where it is, to be told
	aside []string // what was moved up and is not removed yet
	moved int
	left  error // why the first entry could not be removed
}

func newRemover(ctx context.Context, q *Quarantine) *remover {
	return &remover{ctx: ctx, q: q, mount: tree.MountID(int(q.f.Fd()))}
}

// removeDepth is how many directories are open at once.
const removeDepth = 64

func (r *remover) failed(name string, err error) error {
	at := path.Join(append([]string{r.q.path}, append(r.path, name)...)...)
	if name == "" {
		at = r.q.path
	}
	return fmt.Errorf("remove %q: %w", at, err)
}

// leave takes down that an entry was not removed.
func (r *remover) leave(name string, err error) {
	if r.left == nil {
		r.left = r.failed(name, err)
	}
}

func (r *remover) err() error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	return r.left
}

// one removes one name and what is beneath it, and reports whether it is gone.
func (r *remover) one(dir int, name string, depth int) bool {
	err := unix.Unlinkat(dir, name, 0)
	if err == nil || err == unix.ENOENT {
		return true
	}
	if err != unix.EISDIR && err != unix.EPERM { // the latter is POSIX's answer for a directory
		r.leave(name, err)
		return false
	}
	d, derr := openDir(dir, name)
	if derr != nil {
		r.leave(name, err)
		return false
	}
	defer d.Close()
	if r.mounted(int(d.Fd())) {
		r.leave(name, unix.EBUSY)
		return false
	}
	if depth >= removeDepth {
		if err := r.hoist(dir, name); err != nil {
			r.leave(name, err)
			return false
		}
		return true
	}
	r.path = append(r.path, name)
	r.empty(d, depth+1)
	r.path = r.path[:len(r.path)-1]
	if r.ctx.Err() != nil {
		return false
	}
	if err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); err != nil {
		r.leave(name, err)
		return false
	}
	return true
}

// empty removes what is in a directory.
func (r *remover) empty(d *os.File, depth int) {
	if r.close && d != r.q.f {
		// That they do not succeed is met again when what is in it is removed.
		unix.Fchown(int(d.Fd()), 0, 0)
		unix.Fchmod(int(d.Fd()), 0o700)
	}
	// A listing may pass over names while others are removed, so that it begins anew as long as there is less each time.
	for progress := true; progress; {
		progress = false
		if _, err := d.Seek(0, io.SeekStart); err != nil {
			r.leave("", err)
			return
		}
		for {
			names, err := d.Readdirnames(1000)
			for _, n := range names {
				if r.ctx.Err() != nil {
					return
				}
				progress = r.one(int(d.Fd()), n, depth) || progress
			}
			if err != nil && err != io.EOF {
				r.leave("", err)
				return
			}
			if len(names) == 0 {
				break
			}
		}
	}
}

// hoist moves an entry up into the quarantine, under a name that nothing has.
func (r *remover) hoist(dir int, name string) error {
	for {
		r.moved++
		to := "removed-" + strconv.Itoa(r.moved)
		err := unix.Renameat2(dir, name, int(r.q.f.Fd()), to, unix.RENAME_NOREPLACE)
		if err == nil {
			r.aside = append(r.aside, to)
		}
		if err != unix.EEXIST {
			return err
		}
	}
}

// mounted reports whether a directory is not certainly on the quarantine's own mount; then it is not emptied.
func (r *remover) mounted(fd int) bool {
	id := tree.MountID(fd)
	return id == 0 || id != r.mount
}
