package tree

import (
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"rightful"

	"golang.org/x/sys/unix"
)

// A Server is the file system that is looked after: "/", or a directory that stands for it.
type Server struct {
	dir  string
	root int // O_PATH
	proc int // O_PATH on /proc/self/fd, the way to attributes of an O_PATH descriptor
	// xattrat: the kernel has listxattrat(2).
	xattrat bool
	// graft is what stands at the path graftAt instead of what the file system has there; -1 for nothing.
	graft   int
	graftAt string
	graftIn Stat // of the directory that it is in
}

// maxLinks is the kernel's own limit on links in one resolution.
const maxLinks = 40

// OpenServer pins the directory that stands for "/". /proc must be mounted: attributes of pinned entries are only
// reached through it.
func OpenServer(dir string) (*Server, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, &Error{Op: "open server root", Path: dir, Err: err}
	}
	root, err := unix.Open(abs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &Error{Op: "open server root", Path: dir, Err: err}
	}
	proc, err := openProc()
	if err != nil {
		unix.Close(root)
		return nil, err
	}
	return &Server{dir: abs, root: root, proc: proc, xattrat: haveListxattrat(root), graft: -1}, nil
}

// Graft gives the same server as it would be with the directory that b is in the place of the one at a path, which need
// not exist: a rebuilt home is judged where it will stand, before it stands there. What is above the path must be root's,
// and writable by nobody else. A walk that begins above the path meets what is there on disk.
func (s *Server) Graft(at string, b *Base) (*Server, error) {
	parent, name := path.Split(path.Clean(at))
	if name == "" || name == "." || name == ".." {
		return nil, &Error{Op: "graft", Path: at, Cause: CauseEscape}
	}
	real := ""
	fd, err := s.resolve(parent, resolveTrusted, false, func(_ int, c *Component) error {
		real = c.Path
		return nil
	})
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	in, err := statFD(fd)
	switch {
	case err != nil:
		return nil, &Error{Op: "stat", Path: parent, Err: err}
	case in.Kind != rightful.KindDir:
		return nil, &Error{Op: "graft", Path: at, Err: unix.ENOTDIR}
	case !in.RootsAlone():
		return nil, &Error{Op: "graft", Path: at, Cause: CauseUnsafe}
	}
	g := *s
	g.graftAt, g.graftIn = rightful.JoinPath(real, name), in
	fds := []*int{&g.root, &g.proc, &g.graft}
	g.graft = b.fd
	for i, fd := range fds {
		if *fd, err = unix.FcntlInt(uintptr(*fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			for _, open := range fds[:i] {
				unix.Close(*open)
			}
			return nil, &Error{Op: "open", Path: at, Err: err}
		}
	}
	return &g, nil
}

func openProc() (int, error) {
	const name = "/proc/self/fd"
	fd, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &Error{Op: "open", Path: name, Err: err}
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		unix.Close(fd)
		return -1, &Error{Op: "statfs", Path: name, Err: err}
	}
	if st.Type != unix.PROC_SUPER_MAGIC {
		unix.Close(fd)
		return -1, &Error{Op: "open", Path: name, Cause: CauseKind}
	}
	return fd, nil
}

// Close lets go of the pinned directories. Open handles stay usable.
func (s *Server) Close() {
	unix.Close(s.root)
	unix.Close(s.proc)
	if s.graft >= 0 {
		unix.Close(s.graft)
	}
}

// Live reports whether this is the running machine, so that processes and requests mean something.
func (s *Server) Live() bool { return s.dir == "/" }

// Dir is the directory that stands for "/": absolute, but with links as they were given.
func (s *Server) Dir() string { return s.dir }

// A Component is one step of a resolved path.
type Component struct {
	// Path is where this step stands, links before it resolved.
	Path string
	Stat Stat
	Meta rightful.Meta
	// Target is what a link says; the steps that follow are those of its target.
	Target string
}

type resolveMode int

const (
	resolveAny     resolveMode = iota // follow every link: for stat and for the administrator's own files
	resolveTrusted                    // refuse links and directories that anybody but root controls
	resolveForeign                    // refuse links where anybody but root could have put them
)

// resolve walks name from the server's root and hands each component, pinned by an O_PATH descriptor, to visit.
// It returns a descriptor on the last one, which is never a link unless nofollow is set. The caller closes it.
func (s *Server) resolve(name string, mode resolveMode, nofollow bool, visit func(fd int, c *Component) error) (int, error) {
	fail := func(p string, cause Cause, err error) (int, error) {
		return -1, &Error{Op: "resolve", Path: p, Cause: cause, Err: err}
	}
	type level struct {
		fd   int
		path string
		// roots: every directory above this one is root's, and only root can write it.
		roots bool
	}
	root, err := unix.Dup(s.root)
	if err != nil {
		return fail(name, "", err)
	}
	unix.CloseOnExec(root)
	stack := []level{{root, "/", true}}
	closeAll := func(keep int) {
		for _, l := range stack {
			if l.fd != keep {
				unix.Close(l.fd)
			}
		}
	}
	check := func(fd int, p, target string, st Stat) error {
		if mode == resolveTrusted && st.UID != 0 && st.Kind == rightful.KindSymlink {
			return &Error{Op: "resolve", Path: p, Cause: CauseLink}
		}
		if visit == nil {
			return nil
		}
		c := Component{Path: p, Stat: st, Target: target}
		c.Meta, err = s.metaFD(fd, &st)
		if err != nil {
			return &Error{Op: "read attributes of", Path: p, Err: err}
		}
		return visit(fd, &c)
	}
	st, err := statFD(root)
	if err == nil {
		err = check(root, "/", "", st)
	}
	seen, dots := "/", false // what was handed to visit last, and whether dots led away from it or stayed there
	if err != nil {
		closeAll(-1)
		return -1, err
	}
	todo := strings.Split(name, "/")
	links := 0
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		top := stack[len(stack)-1]
		switch part {
		case "":
			continue
		case ".":
			dots = true
			continue
		case "..":
			dots = true
			if len(stack) > 1 {
				unix.Close(top.fd)
				stack = stack[:len(stack)-1]
			}
			continue
		}
		p := rightful.JoinPath(top.path, part)
		seen, dots = p, false
		if mode == resolveTrusted {
			if d, err := statFD(top.fd); err != nil {
				closeAll(-1)
				return fail(top.path, "", err)
			} else if !d.RootsAlone() {
				closeAll(-1)
				return fail(top.path, CauseUnsafe, nil)
			}
		}
		fd, err := s.step(top.fd, part, p)
		if err != nil {
			closeAll(-1)
			return fail(p, "", err)
		}
		st, err := statFD(fd)
		if err != nil {
			unix.Close(fd)
			closeAll(-1)
			return fail(p, "", err)
		}
		var target string
		if st.Kind == rightful.KindSymlink {
			target, err = readlinkFD(fd)
			if err != nil {
				unix.Close(fd)
				closeAll(-1)
				return fail(p, "", err)
			}
		}
		if err := check(fd, p, target, st); err != nil {
			unix.Close(fd)
			closeAll(-1)
			return -1, err
		}
		last := !slices.ContainsFunc(todo, func(t string) bool { return t != "" && t != "." })
		roots := true
		if mode == resolveForeign {
			d, err := statFD(top.fd)
			roots = err == nil && top.roots && d.RootsAlone()
		}
		if st.Kind == rightful.KindSymlink && !(last && nofollow) {
			unix.Close(fd)
			if !roots || mode == resolveForeign && st.UID != 0 {
				closeAll(-1)
				return fail(p, CauseLink, nil)
			}
			if links++; links > maxLinks {
				closeAll(-1)
				return fail(p, CauseLoop, nil)
			}
			if strings.HasPrefix(target, "/") {
				for _, l := range stack[1:] {
					unix.Close(l.fd)
				}
				stack = stack[:1]
			}
			todo = append(strings.Split(target, "/"), todo...)
			continue
		}
		stack = append(stack, level{fd, p, roots})
		// Even a slash after its name, or a dot, is only for a directory.
		if len(todo) > 0 && st.Kind != rightful.KindDir && st.Kind != rightful.KindSymlink {
			closeAll(-1)
			return fail(p, "", unix.ENOTDIR)
		}
	}
	top := stack[len(stack)-1]
	// Where dots or "/" ended the way, what they lead to comes last: it is what the name stands for.
	if dots || seen != top.path {
		st, err := statFD(top.fd)
		if err == nil {
			err = check(top.fd, top.path, "", st)
		}
		if err != nil {
			closeAll(-1)
			return -1, err
		}
	}
	closeAll(top.fd)
	return top.fd, nil
}

// pin is resolve for whoever wants the end of a path and nothing on the way. Since Linux 5.6 the kernel can do it in one
// call (openat2: links stay below the root); where that call gives neither the end nor that it does not exist, the walk
// does, or says what is wrong.
func (s *Server) pin(name string, nofollow bool) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	if nofollow {
		how.Flags |= unix.O_NOFOLLOW
	}
	// The kernel follows a link that a slash comes after.
	if end := path.Base(name); s.graft < 0 && (!nofollow || end != "." && end != ".." && strings.HasSuffix(name, end)) {
		switch fd, err := unix.Openat2(s.root, name, &how); {
		case err == nil:
			return fd, nil
		case err == unix.ENOENT && name != "":
			return -1, &Error{Op: "resolve", Path: name, Err: err}
		}
	}
	return s.resolve(name, resolveAny, nofollow, nil)
}

// step pins the entry of a directory that stands at the path p.
func (s *Server) step(dir int, name, p string) (int, error) {
	if s.graft >= 0 && p == s.graftAt {
		return unix.FcntlInt(uintptr(s.graft), unix.F_DUPFD_CLOEXEC, 0)
	}
	return openPath(dir, name)
}

// openPath pins one entry of a directory without following it.
func openPath(dir int, name string) (int, error) {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return -1, &Error{Op: "open", Path: name, Cause: CauseEscape}
	}
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, err
}

func readlinkFD(fd int) (string, error) {
	buf := make([]byte, 256)
	for {
		n, err := unix.Readlinkat(fd, "", buf)
		if err != nil {
			return "", err
		}
		if n < len(buf) {
			return string(buf[:n]), nil
		}
		buf = make([]byte, 2*len(buf))
	}
}

// Trace resolves a path as the kernel would for somebody who may search every directory, links included, and returns
// every component from "/" on with its metadata. On an error the components up to there are returned too.
func (s *Server) Trace(name string) ([]Component, error) {
	var cs []Component
	fd, err := s.resolve(name, resolveAny, false, func(_ int, c *Component) error {
		cs = append(cs, *c)
		return nil
	})
	if err == nil {
		unix.Close(fd)
	}
	return cs, err
}

// Stat stats what a path leads to, links followed.
func (s *Server) Stat(name string) (Stat, error) { return s.stat(name, false) }

// Lstat stats the entry at a path, a link itself included.
func (s *Server) Lstat(name string) (Stat, error) { return s.stat(name, true) }

func (s *Server) stat(name string, nofollow bool) (Stat, error) {
	fd, err := s.pin(name, nofollow)
	if err != nil {
		return Stat{}, err
	}
	defer unix.Close(fd)
	return statFD(fd)
}

// ReadFile reads a file of the administrator's, links followed: panel and server configuration. Only regular files of
// at most limit bytes are read.
func (s *Server) ReadFile(name string, limit int64) ([]byte, error) {
	fd, err := s.pin(name, false)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	st, err := statFD(fd)
	if err != nil {
		return nil, &Error{Op: "stat", Path: name, Err: err}
	}
	return s.read(fd, st.Kind, name, limit)
}

// file opens what an O_PATH descriptor stands for, if that is a regular file.
func (s *Server) file(fd int, kind rightful.Kind, name string) (*os.File, error) {
	if kind != rightful.KindFile {
		return nil, &Error{Op: "read", Path: name, Cause: CauseKind}
	}
	f, err := s.reopen(fd, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, &Error{Op: "read", Path: name, Err: err}
	}
	return os.NewFile(uintptr(f), name), nil
}

// read reads what an O_PATH descriptor stands for, if that is a regular file of at most limit bytes.
func (s *Server) read(fd int, kind rightful.Kind, name string, limit int64) ([]byte, error) {
	file, err := s.file(fd, kind, name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, &Error{Op: "read", Path: name, Err: err}
	}
	if int64(len(b)) > limit {
		return nil, &Error{Op: "read", Path: name, Cause: CauseTooLarge}
	}
	return b, nil
}

// Head reads the first n bytes of a regular file, where no link stands under its name; what leads to it may be links, all
// through O_PATH handles.
func (s *Server) Head(name string, n int64) ([]byte, error) {
	fd, err := s.resolve(name, resolveAny, true, nil)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return s.head(fd, name, n)
}

// head reads the first n bytes of a pinned regular file.
func (s *Server) head(fd int, name string, n int64) ([]byte, error) {
	st, err := statFD(fd)
	if err != nil {
		return nil, &Error{Op: "stat", Path: name, Err: err}
	}
	if st.Kind == rightful.KindFile && st.Size == 0 {
		return nil, nil
	}
	file, err := s.file(fd, st.Kind, name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, n))
	if err != nil {
		return nil, &Error{Op: "read", Path: name, Err: err}
	}
	return b, nil
}

// ReadDir lists the names in a directory of the administrator's, sorted by bytes.
func (s *Server) ReadDir(name string) ([]string, error) {
	fd, err := s.pin(name, false)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	names, err := s.list(fd, name, -1)
	if err != nil || s.graft < 0 {
		return names, err
	}
	st, err := statFD(fd)
	if err != nil {
		return nil, &Error{Op: "stat", Path: name, Err: err}
	}
	if st.Ino == s.graftIn.Ino && st.Dev == s.graftIn.Dev {
		if i, ok := slices.BinarySearch(names, path.Base(s.graftAt)); !ok {
			names = slices.Insert(names, i, path.Base(s.graftAt))
		}
	}
	return names, nil
}

// list gives up to limit names (less than 0: all) in the directory that fd pins, sorted by bytes.
func (s *Server) list(fd int, name string, limit int) ([]string, error) {
	f, err := s.reopen(fd, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, &Error{Op: "list", Path: name, Err: err}
	}
	dir := os.NewFile(uintptr(f), name)
	defer dir.Close()
	names, err := dir.Readdirnames(limit)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, &Error{Op: "list", Path: name, Err: err}
	}
	slices.Sort(names)
	return names, nil
}

// Glob returns the paths that match a pattern of path.Match, sorted. A directory that cannot be listed matches nothing,
// as in the web servers' own includes.
func (s *Server) Glob(pattern string) ([]string, error) {
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, err
	}
	found := []string{"/"}
	for _, part := range strings.Split(strings.Trim(pattern, "/"), "/") {
		var next []string
		for _, dir := range found {
			if !strings.ContainsAny(part, `*?[\`) {
				p := rightful.JoinPath(dir, part)
				if _, err := s.Lstat(p); err == nil {
					next = append(next, p)
				}
				continue
			}
			names, err := s.ReadDir(dir)
			if err != nil {
				continue
			}
			for _, n := range names {
				if strings.HasPrefix(n, ".") && !strings.HasPrefix(part, ".") {
					continue
				}
				if ok, _ := path.Match(part, n); ok {
					next = append(next, rightful.JoinPath(dir, n))
				}
			}
		}
		found = next
	}
	return found, nil
}

// reopen opens what an O_PATH descriptor is on with other flags.
func (s *Server) reopen(fd, flags int) (int, error) {
	var out int
	err := retry(func() (err error) {
		out, err = unix.Openat(s.proc, strconv.Itoa(fd), flags|unix.O_CLOEXEC, 0)
		return err
	})
	return out, err
}

// IsNotExist reports whether err says that a component does not exist.
func IsNotExist(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)
}
