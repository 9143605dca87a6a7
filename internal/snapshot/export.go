package snapshot

import (
	"fmt"
	"strconv"
	"strings"

	"rightful"
)

// Mtree gives a function that puts entries, one after the other, into lines of an mtree(5) specification with full paths, as
// NetBSD's mtree -C prints them. The directories above a base come before it, as such and no more. What is not known is
// left out.
func Mtree() func(base string, e *Entry) string {
	above := map[string]bool{}
	return func(base string, e *Entry) string {
		var b strings.Builder
		if len(above) == 0 {
			b.WriteString("#mtree\n. type=dir\n")
			above["/"], above["."] = true, true
		}
		if e.Rel == "" {
			for i := range base {
				if base[i] == '/' && i > 0 && !above[base[:i]] {
					above[base[:i]] = true
					b.WriteString("." + vis(base[:i]) + " type=dir\n")
				}
			}
			above[base] = true
		}
		b.WriteString(mtreeLine(base, e))
		return b.String()
	}
}

var mtreeTypes = map[rightful.Kind]string{
	rightful.KindFile: "file", rightful.KindDir: "dir", rightful.KindSymlink: "link", rightful.KindFIFO: "fifo",
	rightful.KindSocket: "socket", rightful.KindBlock: "block", rightful.KindChar: "char",
}

func mtreeLine(base string, e *Entry) string {
	var b strings.Builder
	b.WriteString("." + vis(e.Path(base)) + " type=" + mtreeTypes[e.Kind])
	for _, w := range []struct {
		f    Fields
		word string
	}{
		{FieldUID, fmt.Sprintf(" uid=%d", e.Meta.UID)},
		{FieldGID, fmt.Sprintf(" gid=%d", e.Meta.GID)},
		{FieldMode, " mode=" + e.Meta.Mode.String()},
	} {
		if e.Unknown&w.f == 0 && (w.f != FieldMode || e.Kind != rightful.KindSymlink) {
			b.WriteString(w.word)
		}
	}
	if e.Links > 0 {
		fmt.Fprintf(&b, " nlink=%d", e.Links)
	}
	if e.Kind == rightful.KindFile {
		fmt.Fprintf(&b, " size=%d", e.Size)
	}
	b.WriteByte('\n')
	return b.String()
}

// vis encodes a path as mtree(5) wants it: everything but plain characters as a backslash and three octal digits.
func vis(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`\#*?[`, c) >= 0 {
			fmt.Fprintf(&b, `\%03o`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Getfacl gives an entry as getfacl -p -n prints it (acl 2.3), which setfacl --restore takes. A link has no ACL, and gives
// nothing.
func Getfacl(base string, e *Entry) string {
	if e.Kind == rightful.KindSymlink {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# file: %s\n# owner: %d\n# group: %d\n", aclName(e.Path(base)), e.Meta.UID, e.Meta.GID)
	if m := e.Meta.Mode; m&^rightful.ModePerm != 0 {
		flags := []byte("---")
		for i, bit := range []rightful.Mode{rightful.ModeSetuid, rightful.ModeSetgid, rightful.ModeSticky} {
			if m&bit != 0 {
				flags[i] = "sst"[i]
			}
		}
		fmt.Fprintf(&b, "# flags: %s\n", flags)
	}
	acl := e.Meta.ACL
	if len(acl) == 0 {
		acl = rightful.ModeACL(e.Meta.Mode)
	}
	writeACL(&b, acl, "")
	writeACL(&b, e.Meta.Default, "default:")
	b.WriteByte('\n')
	return b.String()
}

func writeACL(b *strings.Builder, acl rightful.ACL, prefix string) {
	mask := uint8(7)
	if m, ok := acl.Find(rightful.ACLMask, 0); ok {
		mask = m.Perm
	}
	for _, e := range acl {
		line := prefix + rightful.ACL{e}.String()
		b.WriteString(line)
		masked := e.Tag == rightful.ACLUser || e.Tag == rightful.ACLGroup || e.Tag == rightful.ACLGroupObj
		if masked && e.Perm&^mask != 0 {
			b.WriteString("\t#effective:" + rightful.PermString(e.Perm&mask))
		}
		b.WriteByte('\n')
	}
}

// aclName quotes a path as getfacl does.
func aclName(p string) string {
	var b strings.Builder
	for i := range len(p) {
		switch c := p[i]; c {
		case '\\':
			b.WriteString(`\\`)
		case '\n', '\r':
			b.WriteString(`\` + "0" + strconv.FormatInt(int64(c), 8))
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
