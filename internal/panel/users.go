package panel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"rightful"
	"rightful/internal/tree"
)

// Nobody is the kernel's overflow uid and gid, which stand for every id that cannot be shown. Nobody's files are not a
// customer's.
const Nobody = 65534

// A User is one line of passwd.
type User struct {
	Name     string
	UID, GID uint32
	Home     string // as written
	Shell    string
	Line     int
}

// Users are the passwd and group databases of a server: its files, never this machine's unless it is looked after.
type Users struct {
	// UIDMin and UIDMax are the range of ordinary users in /etc/login.defs, 1000 and 60000 where it does not say.
	UIDMin, UIDMax uint32

	users   []User
	byName  map[string]int
	byUID   map[uint32]int
	groups  map[string]uint32
	gnames  map[uint32]string
	members map[string][]uint32 // gids of the groups that list a user
	// files is set where nsswitch.conf names no source but files; systemd where it also names systemd.
	files, systemd bool
	live           bool
	mu             sync.Mutex
	asked          map[uint32]answer
}

type answer struct{ held, certain bool }

// ReadUsers reads the databases. The error is that of passwd; a broken line elsewhere is an issue.
func ReadUsers(s *tree.Server) (*Users, []Issue, error) {
	const passwd, group = "/etc/passwd", "/etc/group"
	b, err := s.ReadFile(passwd, 256<<20)
	if err != nil {
		return nil, nil, err
	}
	u := &Users{
		UIDMin: 1000, UIDMax: 60000, byName: map[string]int{}, byUID: map[uint32]int{}, groups: map[string]uint32{},
		gnames: map[uint32]string{}, members: map[string][]uint32{}, files: true, live: s.Live(), asked: map[uint32]answer{},
	}
	issues := u.passwd(passwd, string(b))
	if b, err := s.ReadFile(group, 256<<20); err != nil {
		issues = append(issues, Issue{File: group, Problem: Unreadable, Msg: err.Error()})
	} else {
		issues = append(issues, u.group(group, string(b))...)
	}
	if b, err := s.ReadFile("/etc/login.defs", 1<<20); err == nil {
		u.loginDefs(string(b))
	}
	if b, err := s.ReadFile("/etc/nsswitch.conf", 1<<20); err == nil {
		u.nsswitch(string(b))
	}
	return u, issues, nil
}

func (u *Users) passwd(file, text string) (issues []Issue) {
	n := 0
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == '+' || line[0] == '-' {
			u.files = false // NIS by way of compat
			continue
		}
		f := strings.Split(line, ":")
		if len(f) < 6 || f[0] == "" {
			issues = append(issues, Issue{File: file, Line: n, Problem: Syntax, Msg: "line is not a passwd entry"})
			continue
		}
		uid, ok1 := parseID(f[2])
		gid, ok2 := parseID(f[3])
		if !ok1 || !ok2 {
			issues = append(issues, Issue{File: file, Line: n, Problem: Syntax, Account: f[0], Msg: "uid or gid is not a number"})
			continue
		}
		e := User{Name: f[0], UID: uid, GID: gid, Home: f[5], Line: n}
		if len(f) > 6 {
			e.Shell = f[6]
		}
		// The first of two lines counts, for a name and for a uid, as in getpwnam(3) and getpwuid(3).
		if _, twice := u.byName[e.Name]; twice {
			issues = append(issues, Issue{File: file, Line: n, Problem: Syntax, Account: e.Name, Msg: fmt.Sprintf("user %q is there twice", e.Name)})
			continue
		}
		u.byName[e.Name] = len(u.users)
		if _, twice := u.byUID[e.UID]; !twice {
			u.byUID[e.UID] = len(u.users)
		}
		u.users = append(u.users, e)
	}
	return issues
}

// parseID reads a uid or gid. The highest number is none: to the kernel it means "leave it as it is".
func parseID(s string) (id uint32, ok bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n < 1<<32-1
}

func (u *Users) group(file, text string) (issues []Issue) {
	n := 0
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if line == "" || line[0] == '#' || line[0] == '+' || line[0] == '-' {
			continue
		}
		f := strings.Split(line, ":")
		if len(f) < 3 || f[0] == "" {
			issues = append(issues, Issue{File: file, Line: n, Problem: Syntax, Msg: "line is not a group entry"})
			continue
		}
		gid, ok := parseID(f[2])
		if !ok {
			issues = append(issues, Issue{File: file, Line: n, Problem: Syntax, Msg: "gid is not a number"})
			continue
		}
		if _, twice := u.groups[f[0]]; !twice {
			u.groups[f[0]] = gid
		}
		if _, twice := u.gnames[gid]; !twice {
			u.gnames[gid] = f[0]
		}
		if len(f) > 3 {
			for m := range strings.SplitSeq(f[3], ",") {
				if m != "" {
					u.members[m] = append(u.members[m], gid)
				}
			}
		}
	}
	return issues
}

func (u *Users) loginDefs(text string) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, err := strconv.ParseUint(f[1], 0, 32)
		if err != nil {
			continue
		}
		switch f[0] {
		case "UID_MIN":
			u.UIDMin = uint32(n)
		case "UID_MAX":
			u.UIDMax = uint32(n)
		}
	}
}

// nsswitch learns whether users can come from anywhere but passwd. Without the file or the line, glibc asks files.
func (u *Users) nsswitch(text string) {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		db, sources, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(db) != "passwd" {
			continue
		}
		for src := range strings.FieldsSeq(sources) {
			switch {
			case src == "files" || src == "compat" || src[0] == '[':
			case src == "systemd":
				u.systemd = true
			case strings.HasPrefix(src, "NOTFOUND=") || strings.HasSuffix(src, "]"): // an action with blanks in it
			default:
				u.files = false
			}
		}
	}
}

// All lists the users in the order of passwd.
func (u *Users) All() []User { return u.users }

// ByName finds a user.
func (u *Users) ByName(name string) (User, bool) {
	i, ok := u.byName[name]
	if !ok {
		return User{}, false
	}
	return u.users[i], true
}

// ByUID finds the first user with a uid.
func (u *Users) ByUID(uid uint32) (User, bool) {
	i, ok := u.byUID[uid]
	if !ok {
		return User{}, false
	}
	return u.users[i], true
}

// Name is the name of a uid, or its digits.
func (u *Users) Name(uid uint32) string {
	if e, ok := u.ByUID(uid); ok {
		return e.Name
	}
	return strconv.FormatUint(uint64(uid), 10)
}

// GroupName is the name of a gid, or its digits.
func (u *Users) GroupName(gid uint32) string {
	if n, ok := u.gnames[gid]; ok {
		return n
	}
	return strconv.FormatUint(uint64(gid), 10)
}

// GroupID finds a group.
func (u *Users) GroupID(name string) (uint32, bool) {
	g, ok := u.groups[name]
	return g, ok
}

// Groups is what a process of that user holds after initgroups(3): the primary group first, then the groups that list
// the user, in the order of the group file. It is empty for an unknown user.
func (u *Users) Groups(user string) []uint32 {
	e, ok := u.ByName(user)
	if !ok {
		return nil
	}
	return u.groupsWith(user, e.GID)
}

// groupsWith is initgroups(user, gid): the user's own primary group is not among them unless it is gid or lists the user.
func (u *Users) groupsWith(user string, gid uint32) []uint32 {
	id := rightful.Identity{GIDs: []uint32{gid}}
	for _, g := range u.members[user] {
		if !id.Has(g) {
			id.GIDs = append(id.GIDs, g)
		}
	}
	return id.GIDs
}

// user resolves a user as configuration files write it: a name, or digits with or without "#".
func (u *Users) user(s string) (User, bool) {
	if e, ok := u.ByName(s); ok {
		return e, true
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "#"), 10, 32)
	if err != nil {
		return User{}, false
	}
	if e, ok := u.ByUID(uint32(n)); ok {
		return e, true
	}
	return User{UID: uint32(n), GID: Nobody}, true
}

// groupNamed resolves a group as configuration files write it.
func (u *Users) groupNamed(s string) (uint32, bool) {
	if g, ok := u.GroupID(s); ok {
		return g, true
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "#"), 10, 32)
	return uint32(n), err == nil
}

// Identity is who a process is that was started as user and group, as configuration files write them: setgid(group),
// initgroups(user, group), setuid(user). An empty group means the user's primary one. It is false for unknown names.
func (u *Users) Identity(user, group string) (rightful.Identity, bool) {
	e, ok := u.user(user)
	if !ok {
		return rightful.Identity{}, false
	}
	gid := e.GID
	if group != "" {
		if gid, ok = u.groupNamed(group); !ok {
			return rightful.Identity{}, false
		}
	}
	return rightful.Identity{UID: e.UID, GIDs: u.groupsWith(e.Name, gid)}, true
}

// Held reports whether a user has the uid, and whether that is certain: passwd knows it, or is the only source of
// users, or on the live server getent(1) was asked.
func (u *Users) Held(uid uint32) (held, certain bool) {
	if _, ok := u.byUID[uid]; ok {
		return true, true
	}
	// systemd makes up users in these ranges while they are needed: homed, DynamicUser (systemd's UIDS-GIDS.md).
	dynamic := u.systemd && (uid >= 60001 && uid <= 60513 || uid >= 61184 && uid <= 65519)
	if u.files && !dynamic {
		return false, true
	}
	if !u.live {
		return false, false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	a, ok := u.asked[uid]
	if !ok {
		a = getent(uid)
		u.asked[uid] = a
	}
	// A user of systemd's exists only while its service runs.
	return a.held, a.certain && (a.held || !dynamic)
}

// getent asks every source of users that the machine has. Exit status 2 is its word for "no such key".
func getent(uid uint32) answer {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	key := strconv.FormatUint(uint64(uid), 10)
	cmd := exec.CommandContext(ctx, "/usr/bin/getent", "passwd", key)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}
	cmd.Dir = "/" // the calling thread may stand in a customer's directory
	out, err := cmd.Output()
	if err == nil {
		return answer{held: bytes.Contains(out, []byte(":"+key+":")), certain: true}
	}
	var exit *exec.ExitError
	return answer{certain: errors.As(err, &exit) && exit.ExitCode() == 2}
}
