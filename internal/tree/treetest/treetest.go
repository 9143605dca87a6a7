// Package treetest builds file trees for tests, describes them, and attacks them as an unprivileged user would.
//
// A tree is written one entry to a line:
//
//	KIND MODE UID:GID PATH [acl=ACL] [default=ACL] [caps] [= CONTENT | -> TARGET]
//
// KIND is d, f, l (link), h (hard link to TARGET), p (FIFO), s (socket). PATH and CONTENT may be quoted as in Go. Parents
// must come first. The modes and owners are exact, whatever the umask. Tests only: it changes trees by path.
package treetest

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/tree"

	"golang.org/x/sys/unix"
)

// NetBind is the security.capability attribute for cap_net_bind_service=ep, version 2.
var NetBind = []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// NeedRoot skips a test that cannot build its tree.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: files of several owners")
	}
}

// Build makes the entries below dir, which exists.
func Build(t testing.TB, dir, spec string) {
	t.Helper()
	NeedRoot(t)
	for line := range strings.Lines(spec) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := build(dir, line); err != nil {
			t.Fatalf("build %q: %v", line, err)
		}
	}
}

func build(dir, line string) error {
	word := func() string {
		line = strings.TrimLeft(line, " ")
		if strings.HasPrefix(line, `"`) {
			q, err := strconv.QuotedPrefix(line)
			if err == nil {
				line = line[len(q):]
				s, _ := strconv.Unquote(q)
				return s
			}
		}
		w, rest, _ := strings.Cut(line, " ")
		line = rest
		return w
	}
	kind, modeText, owner := word(), word(), word()
	mode, err := rightful.ParseMode(modeText)
	if err != nil {
		return err
	}
	u, g, _ := strings.Cut(owner, ":")
	uid, err1 := strconv.Atoi(u)
	gid, err2 := strconv.Atoi(g)
	if err1 != nil || err2 != nil {
		return fmt.Errorf("owner %q", owner)
	}
	path := filepath.Join(dir, word())
	var acl, def rightful.ACL
	caps := false
	content, target := "", ""
	for line != "" {
		switch w := word(); {
		case strings.HasPrefix(w, "acl="):
			acl, err = rightful.ParseACL(w[4:])
		case strings.HasPrefix(w, "default="):
			def, err = rightful.ParseACL(w[8:])
		case w == "caps":
			caps = true
		case w == "=":
			if content = strings.TrimSpace(line); strings.HasPrefix(content, `"`) {
				content, err = strconv.Unquote(content)
			}
			line = ""
		case w == "->":
			target = word()
		case w != "":
			err = fmt.Errorf("word %q", w)
		}
		if err != nil {
			return err
		}
	}
	switch kind {
	case "d":
		if err = os.Mkdir(path, 0o700); os.IsExist(err) {
			err = nil
		}
	case "f":
		err = os.WriteFile(path, []byte(content), 0o600)
	case "l":
		if err = os.Symlink(target, path); err == nil {
			err = os.Lchown(path, uid, gid)
		}
		return err
	case "h":
		return os.Link(filepath.Join(dir, target), path)
	case "p":
		err = unix.Mkfifo(path, 0o600)
	case "s":
		err = unix.Mknod(path, unix.S_IFSOCK|0o600, 0)
	default:
		err = fmt.Errorf("kind %q", kind)
	}
	if err == nil {
		err = os.Lchown(path, uid, gid)
	}
	if err == nil && acl != nil {
		err = unix.Setxattr(path, tree.XattrACL, tree.EncodeACL(acl), 0)
	}
	if err == nil && def != nil {
		err = unix.Setxattr(path, tree.XattrDefault, tree.EncodeACL(def), 0)
	}
	if err == nil {
		err = unix.Chmod(path, uint32(mode))
	}
	if err == nil && caps {
		err = unix.Setxattr(path, tree.XattrCaps, NetBind, 0)
	}
	return err
}

// Describe lists everything below dir, one line an entry, with owner, group, mode, ACLs and capabilities: by way of
// lstat and getxattr, not of package tree.
func Describe(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%q %o %d:%d", rel, st.Mode, st.Uid, st.Gid)
		for _, a := range []string{tree.XattrACL, tree.XattrDefault, tree.XattrCaps} {
			buf := make([]byte, 4096)
			if n, err := unix.Lgetxattr(path, a, buf); err == nil {
				line += fmt.Sprintf(" %s=%x", a, buf[:n])
			}
		}
		out = append(out, line)
		return nil
	})
	if err != nil {
		t.Fatalf("describe %q: %v", dir, err)
	}
	slices.Sort(out)
	return out
}

// Listing lists the named entries below dir and all beneath them, by default everything, as stat, getfacl and getcap see
// them. It skips a test where these are not.
func Listing(t testing.TB, dir string, names ...string) string {
	t.Helper()
	if len(names) == 0 {
		names = []string{"."}
	}
	out := ""
	for _, c := range []string{
		`find "$@" -print0 | LC_ALL=C sort -z | xargs -0 stat -c '%n|%F|%a|%u|%g|%h|%s'`,
		`getfacl -R -n -P "$@" | LC_ALL=C cat`,
		`getcap -r "$@" | LC_ALL=C sort`,
	} {
		cmd := exec.Command("sh", append([]string{"-c", c, "sh"}, names...)...)
		cmd.Dir = dir
		b, err := cmd.Output()
		if err != nil {
			t.Skipf("needs stat, getfacl and getcap: %v", err)
		}
		out += string(b)
	}
	return out
}
