package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// buildServer builds a healthy server below dir, of a kind that the directory trees holds.
func buildServer(dir, kind, trees string) error {
	text, err := os.ReadFile(filepath.Join(trees, kind))
	if err != nil {
		return err
	}
	return buildTree(dir, string(text), nil)
}

// buildTree makes entries below dir, one for each line "MODE OWNER:GROUP PATH [WHAT]". A path that ends in / is a
// directory; directories on the way are made as 0755 root. Owner and group are numbers or names of dir/etc/passwd and
// dir/etc/group, which must stand first. PATH takes Go's escapes (\\n, \\x1b). WHAT is content to the end of the line, with
// the same escapes; "<NAME" the content of a file of the script; "-> TARGET" a link; "=> PATH" a hard link to an
// entry of the tree; "!fifo", "!socket" and "!null" (the device) say themselves. A line that begins with # says nothing.
func buildTree(dir, spec string, file func(string) string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for n, line := range strings.Split(spec, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		if err := mkentry(dir, line, file); err != nil {
			return fmt.Errorf("line %d: %w", n+1, err)
		}
	}
	return nil
}

func mkentry(dir, line string, file func(string) string) error {
	f := strings.SplitN(line, " ", 4)
	if len(f) < 3 {
		return fmt.Errorf("%q is not MODE OWNER:GROUP PATH", line)
	}
	mode, err := strconv.ParseUint(f[0], 8, 32)
	if err != nil {
		return err
	}
	owner, group, _ := strings.Cut(f[1], ":")
	uid, err := id(filepath.Join(dir, "etc/passwd"), owner)
	if err != nil {
		return err
	}
	gid, err := id(filepath.Join(dir, "etc/group"), group)
	if err != nil {
		return err
	}
	rel, err := strconv.Unquote(`"` + f[2] + `"`)
	if err != nil {
		return err
	}
	what := ""
	if len(f) == 4 {
		what = f[3]
	}
	name := filepath.Join(dir, rel)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	target, link := strings.CutPrefix(what, "-> ")
	switch {
	case link:
		if target, err = strconv.Unquote(`"` + target + `"`); err == nil {
			err = os.Symlink(target, name)
		}
	case strings.HasPrefix(what, "=> "):
		return os.Link(filepath.Join(dir, what[3:]), name)
	case what == "!fifo":
		err = unix.Mkfifo(name, 0o600)
	case what == "!socket":
		err = unix.Mknod(name, unix.S_IFSOCK|0o600, 0)
	case what == "!null":
		err = unix.Mknod(name, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))
	case strings.HasSuffix(rel, "/"):
		err = os.MkdirAll(name, 0o755)
	case strings.HasPrefix(what, "<") && file != nil:
		err = os.WriteFile(name, []byte(file(what[1:])), 0o600)
	default:
		var content string
		if content, err = strconv.Unquote(`"` + strings.ReplaceAll(what, `"`, `\"`) + `"`); err == nil {
			err = os.WriteFile(name, []byte(content), 0o600)
		}
	}
	if err == nil && os.Geteuid() == 0 {
		err = os.Lchown(name, uid, gid)
	}
	if err == nil && !link {
		err = unix.Chmod(name, uint32(mode)) // os.Chmod has its own idea of setuid
	}
	return err
}

// id looks a name up in the third field of a passwd or group file.
func id(file, name string) (int, error) {
	if n, err := strconv.Atoi(name); err == nil {
		return n, nil
	}
	text, err := os.ReadFile(file)
	if name == "root" {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for l := range strings.Lines(string(text)) {
		if f := strings.Split(strings.TrimSpace(l), ":"); f[0] == name && len(f) > 2 {
			return strconv.Atoi(f[2])
		}
	}
	return 0, fmt.Errorf("no %q in %s", name, file)
}

// tame makes the same what differs from one time to the next: run and plan IDs become ID-1, ID-2 … in the order in which
// they appear, times and durations TIME, 0.
func tame(s string) string {
	ids := map[string]string{}
	s = regexp.MustCompile(`\b\d{8}-\d{6}-[0-9a-f]{4}\b`).ReplaceAllStringFunc(s, func(id string) string {
		if ids[id] == "" {
			ids[id] = fmt.Sprintf("ID-%d", len(ids)+1)
		}
		return ids[id]
	})
	s = regexp.MustCompile(`\d{4}-\d\d-\d\d[ T][\d:.]+Z?`).ReplaceAllString(s, "TIME")
	s = regexp.MustCompile(`"seconds":[\d.e-]+`).ReplaceAllString(s, `"seconds":0`)
	return regexp.MustCompile(` in \d+\.\d\d s`).ReplaceAllString(s, " in 0.00 s")
}
