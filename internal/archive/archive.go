// Package archive reads what a host already knows about an account: backups, listings and copies that somebody made before
// things went wrong. It turns their metadata into records that a snapshot can hold, gives the contents of their files to
// whoever rebuilds a home, and finds out where in them an account's entries are.
//
// What it reads, and never extracts:
//
//	tar       v7, ustar, GNU and pax, with the ACLs, capabilities and attributes that GNU tar, bsdtar and star put into it;
//	          from a pipe too, as restic dump and borg export-tar write it
//	zip       of files with a directory at their end, by Info-ZIP, 7-Zip, PHP or Windows; not from a pipe
//	mtree     both dialects: NetBSD's hierarchy and the full paths of bsdtar
//	getfacl   the output of getfacl -R, with names or numbers
//	restic    the lines of restic ls --json
//	borg      the lines of borg list --json-lines
//	dir       a directory: a mounted snapshot of a file system, a copy by rsync
//
// gzip, xz, zstd and bzip2 around any of them but a zip and a dir are recognised by content, never by name. The archives
// that control panels put into their backups, such as cPanel's homedir.tar, are read in their places.
//
// What it promises: input is hostile. A name is bytes, relative, without ".", ".." or empty components, of at most
// [MaxPath] bytes and [MaxName] each; whatever cannot be made so is a [Rejected] entry with its line or offset, and the
// reading goes on. Everything is bounded: entries, lines, attributes, what a compressed stream or a sparse file may expand
// to, memory. An [Entry] says what its source knows of it, and nothing is filled in that the source does not say. Contents
// are as long as the entry says, or an error. A [Candidate] is certain only where the source has no other reading.
//
// What it refuses: to follow a link, to open what an entry stands for, to believe a privilege. A record says at most
// that an entry belonged to the account (see [Truth]); set-id bits of files, capabilities and the ownership of anybody
// else are counted and left out.
package archive

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"rightful"
)

// The bounds on one source. Each stands far above what an honest one holds.
const (
	// MaxEntries is the most entries of one source. File systems of hosting servers have some 60 million inodes for all
	// accounts together, and quotas for one account seldom reach one million.
	MaxEntries = 20_000_000
	// MaxPath is the most bytes of one path, as deep as package tree enters directories.
	MaxPath = 32 << 10
	// MaxName is the most bytes of one component: NAME_MAX of every Linux file system.
	MaxName = 255
	// maxLine is the most bytes of one line of a listing: an attribute of 64 KiB in base64, or a path of MaxPath bytes
	// of which each is escaped, and room.
	maxLine = 256 << 10
	// maxTarget is the most bytes of where a symbolic link points: PATH_MAX without its NUL.
	maxTarget = 4095
	// maxACL is the most entries of one ACL: what fits the kernel's attribute of 64 KiB.
	maxACL = 8 << 10
	// maxRatio and ratioFree bound what a compressed stream expands to. Deflate reaches 1032 at most; a stream of
	// another kind that goes beyond that is made to.
	maxRatio  = 1100
	ratioFree = 1 << 30
	// maxWindow is the most memory for what a decompressor looks back at: that of zstd --long and twice that of xz -9.
	maxWindow = 128 << 20
)

// Known says what a source knows of an entry. What is not known has no meaning in the entry.
type Known uint16

// What may be known.
const (
	KnownUID    Known = 1 << iota // UID is the number that the source's host used
	KnownGID                      //
	KnownUser                     // User is the owner's name there
	KnownGroup                    //
	KnownMode                     // all twelve bits of Mode, but see KnownMask
	KnownMask                     // the group bits of Mode may be the mask of an ACL that the source does not hold
	KnownACL                      // ACL and Default are all there was: none where they are empty
	KnownCaps                     // Caps likewise
	KnownSize                     //
	KnownTime                     // Time is when the contents were last changed
	KnownTarget                   // Target is where a link points
)

// Has reports whether all of what is asked for is known.
func (k Known) Has(what Known) bool { return k&what == what }

// An Entry is what a source says of one entry.
type Entry struct {
	// Name is the path as the source gives it, without a leading "/" or "./": any bytes but NUL; "" is the top itself.
	Name string
	// At says where in the source: "line 12", "byte 4096".
	At string
	// Kind is KindUnknown where the source does not tell it.
	Kind  rightful.Kind
	Known Known
	// HardLink: the entry is another name for an entry that came before, Target where that is known.
	HardLink bool
	UID, GID uint32
	User     string
	Group    string
	Mode     rightful.Mode
	ACL      ACL
	Default  ACL
	Caps     []byte
	Size     int64
	Time     time.Time
	// Target is where a symbolic link points, in any bytes but NUL; of a hard link it is a Name.
	Target     string
	Recoded    bool   // Name was text in a code page, which was guessed
	Unreadable string // why something of the entry that the source holds was not understood
}

// A Source gives the entries of one backup, in its own order.
type Source interface {
	// Next gives the next entry, a *[Rejected] for one that is left out, io.EOF at the end, or what ended the reading
	// early. What was given before an early end stands.
	Next() (Entry, error)
	// Content reads the regular file that Next gave last, until Next is called again: Size bytes, or what they are followed
	// by is an error and not io.EOF. It is nil where the source holds no contents, and for what is no file or a hard link.
	Content() io.Reader
	// Close lets go of what the source holds open.
	Close() error
}

// A Rejected is an entry that is not read, and why.
type Rejected struct {
	At   string
	Name string // as the source gives it, cut at 4 KiB
	Why  string
}

// Error says where, what and why.
func (r *Rejected) Error() string { return fmt.Sprintf("%s: entry %q: %s", r.At, r.Name, r.Why) }

func reject(at, name, format string, args ...any) *Rejected {
	if len(name) > 4<<10 {
		name = name[:4<<10]
	}
	return &Rejected{At: at, Name: name, Why: fmt.Sprintf(format, args...)}
}

// listed is part of sources that hold no contents.
type listed struct{}

// Content implements [Source].
func (listed) Content() io.Reader { return nil }

// ErrFormat says that a source is of no kind that is read here.
var ErrFormat = errors.New("no format that is known")

// symlink takes where a symbolic link points.
func (e *Entry) symlink(target string) error {
	switch {
	case target == "" || strings.IndexByte(target, 0) >= 0:
		return reject(e.At, e.Name, "a link to %q", target)
	case len(target) > maxTarget:
		return reject(e.At, e.Name, "a link to %d bytes; %d are read", len(target), maxTarget)
	}
	e.Kind, e.Target, e.Known = rightful.KindSymlink, target, e.Known|KnownTarget
	return nil
}

// clean brings a path into the form of [Entry.Name].
func clean(at, name string) (string, error) {
	if len(name) > MaxPath {
		return "", reject(at, name, "a path of %d bytes; %d are read", len(name), MaxPath)
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", reject(at, name, "a NUL in the path")
	}
	if plain(name) {
		return name, nil
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == ".":
			continue
		case part == "..":
			return "", reject(at, name, `".." in the path`)
		case len(part) > MaxName:
			return "", reject(at, name, "a name of %d bytes; file systems take %d", len(part), MaxName)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "/"), nil
}

// plain reports whether a path needs no cleaning: the common case, without allocating.
func plain(name string) bool {
	start := 0
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			continue
		}
		if part := name[start:i]; part == "" || part == "." || part == ".." || len(part) > MaxName {
			return false
		}
		start = i + 1
	}
	return true
}
