// Package tree is the file system as root must see it: the tree may belong to somebody hostile who changes it while
// it is read.
//
// It opens, walks, stats and identifies entries, and it reads ACLs, capabilities and contents. It never changes
// anything (tree/edit does) and never judges (policy, web and check do).
//
// What it promises:
//
//   - Descriptors decide, paths describe. A path is resolved one component at a time from a pinned directory, each
//     with O_PATH|O_NOFOLLOW, so that no step can be redirected by a rename or a link planted in between.
//   - Below a base (a home, or a document root outside it) no link is ever followed and no mount point is ever crossed,
//     bind mounts of the same device included.
//   - Above a base, links are followed only where root owns them, inside directories that only root can write.
//   - FIFOs, sockets and devices are never opened for reading.
//   - A walk gives the same entries in the same order whatever the number of workers, and needs a bounded number of
//     descriptors however deep the tree is.
//   - Names are bytes of any kind; no path is ever handed to the kernel whole, so PATH_MAX is no limit below a base. A
//     walk enters directories down to 32 KiB of path and says where it stopped.
//
// With a server root other than "/", absolute links and ".." stay inside that root, as if it were "/".
package tree

import (
	"errors"
	"fmt"
)

// A Cause is why path work was refused for what was met there, rather than by the kernel. Tests match it, not text.
type Cause string

// The causes.
const (
	CauseChanged  Cause = "changed underneath us"                  // the entry is not the one that was verified
	CauseLink     Cause = "is a link that must not be followed"    // a link below a base, or one not owned by root above it
	CauseLoop     Cause = "too many links"                         //
	CauseUnsafe   Cause = "can be replaced by somebody else"       // a directory above a base that others may write
	CauseMount    Cause = "is a mount point"                       //
	CauseKind     Cause = "is not of the kind needed"              //
	CauseTooLarge Cause = "is larger than what is read of a file"  //
	CauseTooMany  Cause = "has more entries than are looked at"    // more than maxNames bytes of names
	CauseTooDeep  Cause = "lies too deep to be entered"            // below maxRel bytes of path
	CauseRecent   Cause = "is being linked or renamed"             // its links cannot be told for certain
	CauseEscape   Cause = "is not a single name in this directory" //
)

// An Error is one failed step of path work.
type Error struct {
	Op    string // open, stat, read, list, …
	Path  string // what it was about, as the server sees it; may hold any bytes
	Cause Cause  // set where Rightful refused
	Err   error  // set where the kernel refused
}

// Error puts the operation first, the quoted path next, the cause last.
func (e *Error) Error() string {
	if e.Cause != "" {
		return fmt.Sprintf("%s %q: %s", e.Op, e.Path, e.Cause)
	}
	return fmt.Sprintf("%s %q: %v", e.Op, e.Path, e.Err)
}

// Unwrap gives the kernel's error.
func (e *Error) Unwrap() error { return e.Err }

// Refused returns the cause for which Rightful refused, or "" where err is something else.
func Refused(err error) Cause {
	for e := (*Error)(nil); errors.As(err, &e); err = e.Err {
		if e.Cause != "" {
			return e.Cause
		}
	}
	return ""
}
