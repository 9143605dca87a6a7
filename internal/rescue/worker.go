package rescue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"rightful"
	"rightful/internal/archive"
	"rightful/internal/tree"

	"github.com/landlock-lsm/go-landlock/landlock"
	llsys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// The work is done by this program, run again: it begins as root, takes on the account's uid and lets go of everything
// else before it looks at anything that the account or a backup has written. What it may write to and read from comes to
// it as open descriptors; the job comes on standard input, and what became of it goes to standard output, as lines of JSON.

// WorkerVerb is the hidden verb that runs [Work].
const WorkerVerb = "rescue-worker"

// What a worker can do.
const (
	DoUnpack  = "unpack"  // into the first directory, from an archive
	DoCopy    = "copy"    // into the first directory, from the second
	DoMerge   = "merge"   // into the first directory, out of the second
	DoFurnish = "furnish" // the first directory
	DoTry     = "try"     // whether a file can be made in the first directory; none is left
)

// A Job is what a worker is to do. Only the fields that its kind of work needs are set.
type Job struct {
	Do     string   `json:"do"`
	Parent int      `json:"parent"` // without whom there is nothing to do
	UID    uint32   `json:"uid"`
	GIDs   []uint32 `json:"gids"`
	Format string   `json:"format,omitempty"`
	// Home: what is copied is a home itself, in which an archive is a file like any other.
	Home bool `json:"home,omitempty"`
	// Places say where what lies below the home.
	Places archive.Places `json:"places,omitempty"`
	// MaxFile and MaxBytes bound what is written, MaxEntries how many entries are made.
	MaxFile    int64       `json:"max_file,omitempty"`
	MaxBytes   int64       `json:"max_bytes,omitempty"`
	MaxEntries int64       `json:"max_entries,omitempty"`
	Furniture  []Furniture `json:"furniture,omitempty"`
}

// Furniture is a directory or link that a home has even with nothing in it. Names are bytes.
type Furniture struct {
	Rel    []byte `json:"rel"`
	Target []byte `json:"target,omitempty"` // nothing for a directory
}

// Counts tell what a worker did.
type Counts struct {
	Files int64 `json:"files"`
	Dirs  int64 `json:"dirs"`
	Links int64 `json:"links"`
	Bytes int64 `json:"bytes"`
	// Rejects counts entries that were not brought back; the first of them are in Rejected.
	Rejects  int64      `json:"rejects"`
	Rejected []Rejected `json:"rejected"`
	// Kept counts files of a lesser source that a better one had already, and KeptBytes what was in them.
	Kept      int64 `json:"kept"`
	KeptBytes int64 `json:"kept_bytes"`
	// Made are the paths of furniture that was missing. Names are bytes.
	Made [][]byte `json:"made,omitempty"`
	// Cut is why the source ended early; what came before it stands.
	Cut string `json:"cut,omitempty"`
}

// A Rejected is an entry that was not brought back, and why.
type Rejected struct {
	Path    string `json:"path"`
	PathB64 []byte `json:"path_b64,omitempty"`
	Reason  string `json:"reason"`
}

// What bounds Counts.Rejected: entries, and bytes of their paths and reasons. A record holds several of these lists.
const (
	maxRejected      = 1000
	maxRejectedBytes = 256 << 10
	maxRejectedPath  = 4 << 10
	maxReason        = 1 << 10
)

// reject takes down an entry that was not brought back.
func (c *Counts) reject(path, why string) {
	c.Rejects++
	path, why = path[:min(len(path), maxRejectedPath)], why[:min(len(why), maxReason)]
	c.list(Rejected{Path: path, PathB64: rightful.RawPath(path), Reason: why})
}

// list adds to the list of rejected entries as long as there is room.
func (c *Counts) list(all ...Rejected) {
	n := 0
	for _, r := range c.Rejected {
		n += len(r.Path) + len(r.Reason)
	}
	for _, r := range all {
		if n += len(r.Path) + len(r.Reason); n > maxRejectedBytes || len(c.Rejected) >= maxRejected {
			return
		}
		c.Rejected = append(c.Rejected, r)
	}
}

// Entries is how many entries were made.
func (c *Counts) Entries() int64 { return c.Files + c.Dirs + c.Links }

// Add sums up.
func (c *Counts) Add(o Counts) {
	c.Files, c.Dirs, c.Links, c.Bytes = c.Files+o.Files, c.Dirs+o.Dirs, c.Links+o.Links, c.Bytes+o.Bytes
	c.Rejects, c.Kept, c.KeptBytes = c.Rejects+o.Rejects, c.Kept+o.Kept, c.KeptBytes+o.KeptBytes
	c.list(o.Rejected...)
}

// A message is a line from the worker: how far it is, or how it ended.
type message struct {
	Counts *Counts `json:"counts,omitempty"`
	Done   bool    `json:"done,omitempty"`
	Error  string  `json:"error,omitempty"`
	Errno  int     `json:"errno,omitempty"`
}

// A WorkError is why a worker could not go on.
type WorkError struct {
	Do    string
	Text  string
	Errno unix.Errno // 0 where it was no call of the kernel's
}

// Error says what the worker said.
func (e *WorkError) Error() string { return fmt.Sprintf("%s: %s", e.Do, e.Text) }

// Unwrap gives the kernel's error.
func (e *WorkError) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// work runs a worker as the account. files are its directories, in the order of its kind of work.
func (q *Quarantine) work(ctx context.Context, job Job, seen func(Counts), files ...*os.File) (Counts, error) {
	job.UID, job.GIDs = q.uid, []uint32{q.gid}
	return run(ctx, job, seen, files...)
}

// TryWrite finds out whether somebody can make a file in a directory, by making one without a name.
func TryWrite(ctx context.Context, dir *os.File, uid uint32, gids []uint32) error {
	_, err := run(ctx, Job{Do: DoTry, UID: uid, GIDs: gids}, nil, dir)
	return err
}

func run(ctx context.Context, job Job, seen func(Counts), files ...*os.File) (c Counts, err error) {
	// The kernel takes a worker's parent to be the thread that started it, and some threads here end before the program does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	job.Parent = os.Getpid()
	text, err := json.Marshal(job)
	if err != nil {
		return c, err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{"rightful", WorkerVerb}
	cmd.Env = []string{"RIGHTFUL_WORKER=1"}
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt of the terminal is ours to pass on
	in, err := cmd.StdinPipe()
	if err != nil {
		return c, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return c, err
	}
	if err := cmd.Start(); err != nil {
		return c, fmt.Errorf("start worker: %w", err)
	}
	go keepGoing(cmd.Process)
	go func() {
		in.Write(text)
		in.Close()
	}()
	c, err = listen(out, job.Do, seen)
	if wait := cmd.Wait(); err == nil && wait != nil {
		err = fmt.Errorf("%s: the worker ended: %w", job.Do, wait)
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return c, err
}

// keepGoing wakes a worker that is stopped: its uid lets the account's processes send it signals, and one that sleeps for
// ever would hold up whoever waits for it. It returns when the worker has ended.
func keepGoing(p *os.Process) {
	for {
		switch err := unix.Waitid(unix.P_PID, p.Pid, nil, unix.WSTOPPED, nil); err {
		case nil:
			p.Signal(unix.SIGCONT)
		case unix.EINTR:
		default:
			return
		}
	}
}

// maxMessage bounds what the worker may say: it is not trusted.
const maxMessage = 64 << 20

func listen(out io.Reader, do string, seen func(Counts)) (c Counts, err error) {
	d := json.NewDecoder(io.LimitReader(out, maxMessage))
	for {
		var m message
		if err := d.Decode(&m); err != nil {
			return c, fmt.Errorf("%s: the worker ended without a word: %w", do, err)
		}
		if m.Counts != nil {
			c = *m.Counts
			all := c.Rejected
			c.Rejected = nil
			c.list(all...)
		}
		switch {
		case m.Error != "":
			return c, &WorkError{Do: do, Text: m.Error, Errno: unix.Errno(m.Errno)}
		case m.Done:
			return c, nil
		case seen != nil:
			seen(c)
		}
	}
}

// The descriptors that a worker begins with, behind the three that every process has.
const (
	firstFile  = 3
	secondFile = 4
)

// Work is the worker's side: it reads a job, gives up all rights but those that it needs, and does it. What it has to say
// goes to out.
func Work(ctx context.Context, in io.Reader, out io.Writer) error {
	enc := json.NewEncoder(out)
	var job Job
	err := json.NewDecoder(in).Decode(&job)
	var c Counts
	if err == nil {
		// Progress is a twentieth of a second old at most, and costs nothing beside the files.
		last := time.Now()
		c, err = job.do(ctx, func(c *Counts) {
			if now := time.Now(); now.Sub(last) > 50*time.Millisecond {
				last = now
				enc.Encode(message{Counts: &Counts{Files: c.Files, Dirs: c.Dirs, Links: c.Links, Bytes: c.Bytes}})
			}
		})
	}
	m := message{Counts: &c, Done: err == nil}
	if err != nil {
		m.Error = err.Error()
		if e, ok := errors.AsType[unix.Errno](err); ok {
			m.Errno = int(e)
		}
	}
	return enc.Encode(m)
}

func (j *Job) do(ctx context.Context, seen func(*Counts)) (c Counts, err error) {
	if err := j.shed(); err != nil {
		return c, fmt.Errorf("close descriptors: %w", err)
	}
	var ruin *tree.Base
	if j.Do == DoCopy {
		// What it leads to is looked at with the account's rights only; that it is there is known to root already.
		s, err := tree.OpenServer(fmt.Sprintf("/proc/self/fd/%d", secondFile))
		if err != nil {
			return c, err
		}
		defer s.Close()
		if ruin, err = s.OpenBase("/"); err != nil {
			return c, err
		}
		defer ruin.Close()
	}
	if err := j.confine(); err != nil {
		return c, fmt.Errorf("give up rights: %w", err)
	}
	w := newWriter(firstFile, j, seen)
	defer w.close()
	switch j.Do {
	case DoUnpack:
		src, err := archive.Open(ctx, os.NewFile(secondFile, "source"), archive.Format(j.Format))
		if err != nil {
			return w.c, err
		}
		defer src.Close()
		return w.c, w.unpack(src)
	case DoCopy:
		src := j.open(ctx, ruin)
		defer src.Close()
		return w.c, w.unpack(src)
	case DoMerge:
		return w.c, w.merge(ctx, firstFile, secondFile, "")
	case DoFurnish:
		return w.c, w.furnish(ctx, j.Furniture)
	case DoTry:
		return w.c, tryWrite(firstFile)
	}
	return c, fmt.Errorf("unknown work %q", j.Do)
}

func (j *Job) open(ctx context.Context, b *tree.Base) *archive.Opened {
	if j.Home {
		return archive.OpenHome(ctx, b, maxDepth)
	}
	return archive.OpenDir(ctx, b)
}

// shed closes what was handed down to this process besides what it needs, by a shell or a daemon that left it open: a
// descriptor is a right. What the process has opened itself closes on exec, and what it got did not.
func (j *Job) shed() error {
	last := firstFile
	if j.Do == DoUnpack || j.Do == DoCopy || j.Do == DoMerge {
		last = secondFile
	}
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd <= last {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
	return nil
}

var (
	errRoots  = errors.New("an account of root's")
	errRights = errors.New("some of root's capabilities are left")
	errOrphan = errors.New("whoever asked for it has ended")
)

// confine gives up root for good. The order matters: the root directory is changed while that is allowed, with the uid the
// last capability goes, and that it is gone is looked at, since a service can be set up so that it stays. The account's other
// processes cannot look into this one (its memory is not dumpable, whatever fs.suid_dumpable says), but can send it signals.
// The kernel forgets with the uid that it shall end with its parent, which therefore comes last.
func (j *Job) confine() error {
	gids := make([]int, 0, len(j.GIDs))
	for _, g := range j.GIDs {
		gids = append(gids, int(g))
	}
	if j.UID == 0 || len(gids) == 0 || gids[0] == 0 {
		return errRoots
	}
	runtime.LockOSThread()
	unix.Umask(0)
	paths := []landlock.Rule{landlock.RWDirs(fmt.Sprintf("/proc/self/fd/%d", firstFile)).WithRefer()}
	switch j.Do {
	case DoCopy:
		paths = append(paths, landlock.RODirs(fmt.Sprintf("/proc/self/fd/%d", secondFile)))
	case DoMerge:
		paths = append(paths, landlock.RWDirs(fmt.Sprintf("/proc/self/fd/%d", secondFile)).WithRefer())
	}
	// On a kernel without landlock the other walls stand by themselves.
	if err := landlock.V6.BestEffort().Restrict(paths...); err != nil {
		return err
	}
	if err := llsys.AllThreadsPrctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Fchdir(firstFile); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	if err := syscall.Setgroups(gids); err != nil {
		return err
	}
	if err := syscall.Setresgid(gids[0], gids[0], gids[0]); err != nil {
		return err
	}
	uid := int(j.UID)
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	var caps [2]unix.CapUserData // one for each 32 of them
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &caps[0]); err != nil {
		return err
	}
	if caps[0].Permitted|caps[1].Permitted != 0 {
		return errRights
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	if os.Getppid() != j.Parent {
		return errOrphan
	}
	return nil
}

// tryWrite makes a file without a name (O_TMPFILE, Linux 3.11), so that nobody ever sees it.
func tryWrite(dir int) error {
	fd, err := unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}
