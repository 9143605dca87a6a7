package snapshot

import (
	"bytes"
	"strings"

	"rightful"
	"rightful/internal/tree"
)

// Fields are the parts of an entry's metadata.
type Fields uint8

// The fields.
const (
	FieldUID Fields = 1 << iota
	FieldGID
	FieldMode
	FieldACL // access and default ACL
	FieldCaps
	FieldAll = FieldUID | FieldGID | FieldMode | FieldACL | FieldCaps
)

// An Entry is what is recorded of one inode at one path.
type Entry struct {
	// Rel is the path below the base, "" for the base itself.
	Rel  string
	Kind rightful.Kind
	Meta rightful.Meta
	// Unknown are the fields of Meta that the source does not tell. A walk tells all; an import may not.
	Unknown Fields
	// ID is empty where the source does not tell it. A walk records the file handle only of entries with a privilege:
	// inode and time of birth identify the others.
	ID rightful.EntryID
	// Ctime is when the inode was last changed, in ns since 1970.
	Ctime int64
	// Size and Links are 0 for directories.
	Size  int64
	Links uint32
	// Content is set where a privilege depends on it: set-id bits, capabilities or a system owner.
	Content *rightful.Content
	// Number counts the entries of an account from 0, in walk order. It is set by reading.
	Number int
}

// Path is the absolute path of the entry below its base.
func (e *Entry) Path(base string) string { return rightful.JoinPath(base, e.Rel) }

// split parts a path into directory and name.
func split(rel string) (dir, name string) {
	i := strings.LastIndexByte(rel, '/')
	if i < 0 {
		return "", rel
	}
	return rel[:i], rel[i+1:]
}

// Compare gives the order in which entries of one base are recorded: the walk's. A writer that does not walk sorts by it.
func Compare(rel1, rel2 string) int {
	d1, n1 := split(rel1)
	d2, n2 := split(rel2)
	if c := tree.ComparePaths(d1, d2); c != 0 {
		return c
	}
	return strings.Compare(n1, n2)
}

func compareKeys(dir1, name1, dir2, name2 []byte) int {
	if c := tree.ComparePaths(dir1, dir2); c != 0 {
		return c
	}
	return bytes.Compare(name1, name2)
}
