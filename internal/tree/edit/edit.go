// Package edit is the write side of tree: one change of owner, mode, ACL or capability on one pinned entry, or of the
// places of two directories.
//
// It knows the system calls that work on an O_PATH descriptor and so cannot be led anywhere else, and what the kernel
// changes besides what it was told to (Model). It verifies nothing: internal/repair, the only package that may import
// it, pins and compares first. It never opens an entry, never removes an immutable flag, and never issues a chown that
// changes nothing, because that would strip capabilities.
package edit

import (
	"slices"
	"unsafe"

	"rightful"
	"rightful/internal/tree"

	"golang.org/x/sys/unix"
)

// Op is the kind of a Step.
type Op uint8

// The operations.
const (
	Chmod      Op = iota + 1 // Mode
	Chown                    // UID, GID
	SetACL                   // ACL; a minimal one removes the access ACL and sets the mode in one go
	SetDefault               // Default; nil removes it
	SetCaps                  // Caps; empty removes them
)

// A Step is one system call. Meta holds the value in the field that Op names.
type Step struct {
	Op   Op
	Meta rightful.Meta
}

// Do takes the step on a pinned entry. The error is the kernel's.
func (s Step) Do(n *tree.Node) error {
	proc := tree.ProcPath(n)
	switch s.Op {
	case Chmod:
		return retry(func() error { return chmod(n.FD(), proc, uint32(s.Meta.Mode)) })
	case Chown:
		// What is right already is left out, so that a change of the other by somebody else in between is not undone.
		uid, gid := int(s.Meta.UID), int(s.Meta.GID)
		if s.Meta.UID == n.Stat.UID {
			uid = -1
		} else if s.Meta.GID == n.Stat.GID {
			gid = -1
		}
		return retry(func() error { return unix.Fchownat(n.FD(), "", uid, gid, unix.AT_EMPTY_PATH) })
	case SetACL:
		return retry(func() error { return unix.Setxattr(proc, tree.XattrACL, tree.EncodeACL(s.Meta.ACL), 0) })
	case SetDefault:
		if len(s.Meta.Default) == 0 {
			return retry(func() error { return absent(unix.Removexattr(proc, tree.XattrDefault)) })
		}
		return retry(func() error { return unix.Setxattr(proc, tree.XattrDefault, tree.EncodeACL(s.Meta.Default), 0) })
	case SetCaps:
		if len(s.Meta.Caps) == 0 {
			return retry(func() error { return absent(unix.Removexattr(proc, tree.XattrCaps)) })
		}
		return retry(func() error { return unix.Setxattr(proc, tree.XattrCaps, s.Meta.Caps, 0) })
	}
	return unix.EINVAL
}

// sysFchmodat2 is fchmodat2(2), Linux 6.6, which alone takes AT_EMPTY_PATH. The number is the same everywhere.
const sysFchmodat2 = 452

// chmod changes the mode through the descriptor, or on older kernels through /proc, which leads to the same inode.
func chmod(fd int, proc string, mode uint32) error {
	var empty [1]byte
	_, _, e := unix.Syscall6(sysFchmodat2, uintptr(fd), uintptr(unsafe.Pointer(&empty)), uintptr(mode), unix.AT_EMPTY_PATH, 0, 0)
	switch e {
	case 0:
		return nil
	case unix.ENOSYS, unix.EPERM: // a filter of system calls may say EPERM for one it does not know
		return unix.Chmod(proc, mode)
	}
	return e
}

func absent(err error) error {
	if err == unix.ENODATA || err == unix.EOPNOTSUPP {
		return nil
	}
	return err
}

func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// Model gives what the step makes of an entry, side effects included, when root takes it:
//
//   - chown takes the set-user-ID bit and all capabilities off everything but a directory, and the set-group-ID bit
//     where the group may execute (chown(2), capabilities(7));
//   - chmod rewrites the ACL's mask, owner and other entries with the mode, and setting an ACL does the reverse (acl(5)).
func (s Step) Model(m rightful.Meta, kind rightful.Kind) rightful.Meta {
	m.ACL, m.Default = slices.Clone(m.ACL), slices.Clone(m.Default)
	switch s.Op {
	case Chmod:
		m.Mode = s.Meta.Mode
		m.ACL = m.ACL.WithMode(m.Mode)
	case Chown:
		m.UID, m.GID = s.Meta.UID, s.Meta.GID
		if kind != rightful.KindDir {
			m.Caps = nil
			m.Mode &^= rightful.ModeSetuid
			if m.Mode&0o010 != 0 {
				m.Mode &^= rightful.ModeSetgid
			}
		}
	case SetACL:
		m.Mode = m.Mode&^rightful.ModePerm | PermOf(s.Meta.ACL)
		m.ACL = s.Meta.ACL
		if m.ACL.Minimal() {
			m.ACL = nil
		}
	case SetDefault:
		m.Default = s.Meta.Default
	case SetCaps:
		m.Caps = s.Meta.Caps
	}
	return m
}

// PermOf gives the nine bits that stat(2) shows for an entry with this ACL.
func PermOf(a rightful.ACL) rightful.Mode {
	u, _ := a.Find(rightful.ACLUserObj, 0)
	g, ok := a.Find(rightful.ACLMask, 0)
	if !ok {
		g, _ = a.Find(rightful.ACLGroupObj, 0)
	}
	o, _ := a.Find(rightful.ACLOther, 0)
	return rightful.Mode(u.Perm)<<6 | rightful.Mode(g.Perm)<<3 | rightful.Mode(o.Perm)
}

// Exchange makes two directories change places, in one step that is seen whole or not at all (renameat2(2), Linux 3.15).
// The first of each pair is the directory that the name is in.
func Exchange(a *tree.Node, name string, b *tree.Node, other string) error {
	return retry(func() error { return unix.Renameat2(a.FD(), name, b.FD(), other, unix.RENAME_EXCHANGE) })
}

// Move gives a directory a place where nothing stands.
func Move(from *tree.Node, name string, to *tree.Node, other string) error {
	return retry(func() error { return unix.Renameat2(from.FD(), name, to.FD(), other, unix.RENAME_NOREPLACE) })
}

// Sync makes what was exchanged or moved in directories durable. They must be pinned as bases are, open for reading.
func Sync(dirs ...*tree.Node) error {
	for _, d := range dirs {
		if err := retry(func() error { return unix.Fsync(d.FD()) }); err != nil {
			return err
		}
	}
	return nil
}
