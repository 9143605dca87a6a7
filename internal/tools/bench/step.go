package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"rightful"
	"rightful/internal/check"
	"rightful/internal/panel"
	"rightful/internal/policy"
	"rightful/internal/tree"

	"golang.org/x/sys/unix"
)

// step runs one measured part of the program, or the floor, in this process and says how many entries it met.
func step(what, root string) (entries int64, err error) {
	switch what {
	case "floor":
		return floor(root)
	case "walk", "policy", "attrs":
		return walk(root, what == "policy", what == "attrs")
	case "check":
		return wholeCheck(root)
	case "damage", "heal":
		homes, err := os.ReadDir(filepath.Join(root, "home"))
		if err != nil {
			return 0, err
		}
		return 0, (&world{root: root, accounts: len(homes)}).set(what == "damage")
	}
	return 0, fmt.Errorf("unknown step %q", what)
}

// wholeCheck is what the verb does between reading the panel and printing, to be profiled.
func wholeCheck(root string) (n int64, err error) {
	s, err := tree.OpenServer(root)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	w, err := panel.Read(s, panel.Options{})
	if err != nil {
		return 0, err
	}
	err = check.Run(context.Background(), check.Options{Server: s, World: w}, func(r *check.Report) error {
		n += int64(r.Entries)
		return nil
	})
	return n, err
}

// floor is as little as a walk can do: two threads, each with a home at a time, getdents64 and statx by directory handle,
// the directories entered as they come. It sorts nothing, checks nothing and keeps nothing.
func floor(root string) (int64, error) {
	homes, err := filepath.Glob(filepath.Join(root, "home", "*"))
	if err != nil {
		return 0, err
	}
	var next, total atomic.Int64
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for range 2 {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var f floorWalker
			for {
				i := int(next.Add(1)) - 1
				if i >= len(homes) {
					break
				}
				fd, err := unix.Open(homes[i], unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOATIME, 0)
				if err != nil {
					failed.Store(&err)
					break
				}
				f.n++
				if e := f.dir(0, uintptr(fd)); e != 0 {
					err := error(e)
					failed.Store(&err)
				}
			}
			total.Add(f.n)
		})
	}
	wg.Wait()
	if p := failed.Load(); p != nil {
		return 0, *p
	}
	return total.Load(), nil
}

type floorWalker struct {
	n      int64
	levels []*floorLevel
	stx    unix.Statx_t
}

type floorLevel struct {
	buf  [64 << 10]byte
	subs []byte // names, each with its NUL
}

func (f *floorWalker) dir(depth int, fd uintptr) unix.Errno {
	defer unix.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
	if depth == len(f.levels) {
		f.levels = append(f.levels, &floorLevel{})
	}
	l := f.levels[depth]
	l.subs = l.subs[:0]
	for {
		n, _, e := unix.RawSyscall(unix.SYS_GETDENTS64, fd, uintptr(unsafe.Pointer(&l.buf)), uintptr(len(l.buf)))
		if e != 0 || n == 0 {
			if e != 0 {
				return e
			}
			break
		}
		for b := l.buf[:n]; len(b) > 0; {
			reclen := binary.NativeEndian.Uint16(b[16:])
			d := b[:reclen]
			b = b[reclen:]
			if d[19] == '.' && (d[20] == 0 || d[20] == '.' && d[21] == 0) {
				continue
			}
			const flags, mask = unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS
			if _, _, e := unix.RawSyscall6(unix.SYS_STATX, fd, uintptr(unsafe.Pointer(&d[19])), flags, mask, uintptr(unsafe.Pointer(&f.stx)), 0); e != 0 {
				return e
			}
			f.n++
			if f.stx.Mode&unix.S_IFMT == unix.S_IFDIR {
				name := d[19:]
				for i, c := range name {
					if c == 0 {
						l.subs = append(l.subs, name[:i+1]...)
						break
					}
				}
			}
		}
	}
	for at := 0; at < len(l.subs); {
		const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NOATIME
		sub, _, e := unix.RawSyscall6(unix.SYS_OPENAT, fd, uintptr(unsafe.Pointer(&l.subs[at])), flags, 0, 0, 0)
		if e == 0 {
			e = f.dir(depth+1, sub)
		}
		if e != 0 {
			return e
		}
		for l.subs[at] != 0 {
			at++
		}
		at++
	}
	return 0
}

// walk is the program's own walk of all accounts with as many workers as check has; with judge set, each
// entry's rule is found and the entry judged by it.
func walk(root string, judge, attrs bool) (int64, error) {
	s, err := tree.OpenServer(root)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	w, err := panel.Read(s, panel.Options{})
	if err != nil {
		return 0, err
	}
	rules, err := policy.Load("plain", nil)
	if err != nil {
		return 0, err
	}
	var next, total, bad atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	width := tree.NewWidth(ctx, 0)
	errs := make(chan error, width.Max())
	for range cap(errs) {
		go func() {
			v := counter{}
			first := width.Enter(ctx)
			defer width.Leave()
			for first == nil {
				i := int(next.Add(1)) - 1
				if i >= len(w.Accounts) {
					break
				}
				first = func() error {
					a := &w.Accounts[i]
					b, err := s.OpenBase(a.Home)
					if err != nil {
						return err
					}
					defer b.Close()
					if judge {
						if v.bound, err = rules.Bind(check.Binding(s, w, a)); err != nil {
							return err
						}
						v.home = a.Home
					}
					return b.Walk(ctx, &v, attrs)
				}()
			}
			total.Add(v.n)
			bad.Add(v.bad)
			errs <- errors.Join(first, v.err)
		}()
	}
	for range cap(errs) {
		if e := <-errs; e != nil {
			err = e
		}
	}
	if judge {
		fmt.Fprintln(os.Stderr, "not right:", bad.Load())
	}
	return total.Load(), err
}

// counter is the least that a visitor of a walk can be.
type counter struct {
	n, bad int64
	err    error
	bound  *policy.Bound
	home   string
	states []policy.State // of the open directories by depth
	met    []met
}

type met struct {
	ino   uint64
	depth int
	state policy.State
}

func (c *counter) Entry(d *tree.Dir, e *tree.Entry) (bool, error) {
	c.n++
	if c.bound == nil {
		return true, nil
	}
	var state policy.State
	var rule *policy.Rule
	depth := 0
	if d == nil {
		c.met = c.met[:0]
		state, rule = c.bound.Base(c.home)
	} else {
		state, rule = c.states[d.Depth].ChildBytes(e.Name, e.Kind)
		depth = d.Depth + 1
	}
	if rule != nil && !rule.Judge(e.Stat.Meta(), e.Kind, false).OK {
		c.bad++
	}
	if e.Kind == rightful.KindDir {
		c.met = append(c.met, met{e.Ino, depth, state})
	}
	return true, nil
}

func (c *counter) Enter(d *tree.Dir) error {
	if c.bound == nil {
		return nil
	}
	for i := range c.met {
		if m := &c.met[i]; m.ino == d.Stat.Ino && m.depth == d.Depth {
			c.states = append(c.states[:d.Depth], m.state)
			break
		}
	}
	return nil
}

func (c *counter) Leave(d *tree.Dir) error {
	// What was met below is done with.
	for len(c.met) > 0 && c.met[len(c.met)-1].depth > d.Depth {
		c.met = c.met[:len(c.met)-1]
	}
	return nil
}

func (c *counter) Fail(_ string, err error) { c.err = err }
