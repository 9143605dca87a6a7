// Package panel knows who lives on a server: accounts, their homes, sites and document roots, and the identities that
// serve them, as the control panel's own files and the web server's configuration say it.
//
// It promises exact matches only (whole names, whole path components), homes from passwd and never from a name, and
// that a broken file is named with its line while everything else is still read. Two claims that contradict each other
// are both refused and reported: an account or site that is listed is one about which all files agree.
//
// It refuses to judge what is on disk below a home (check does), to take a name for an account because a file or
// directory is called so, and to list an account whose home is shared with the system or with somebody else.
//
// Each control panel is one file with one line in the table of panels.
package panel

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/tree"
	"rightful/internal/web"
)

// Options of [Read]. The zero value looks in the usual places.
type Options struct {
	// WebConfig are the main configuration files of the web server; empty means the usual place.
	WebConfig []string
	socket    string // of the database server, in place of the usual ones: for tests
}

// A Server is who lives on a server.
type Server struct {
	// Panels names the control panels found: "cpanel", or "plain" where there is none.
	Panels   []string
	Accounts []Account // sorted by name
	// Facts are the conditions that policies ask for: "fileprotect", "acls" (cPanel's settings), "itk", "ruid2",
	// "suexec" (Apache modules), "dso" (PHP runs inside the web server). A missing fact is false.
	Facts map[string]bool
	Users *Users
	// Groups are other names of groups by which rules speak: "access" is the group that DirectAdmin's
	// secure_access_group names.
	Groups map[string]uint32
	// LiteSpeed is set where OpenLiteSpeed or LiteSpeed serves what no other web server's configuration names.
	LiteSpeed bool
	// Web is the identity of the web server's workers where a virtual host asks for no other. WebKnown says where it
	// was learned; it is empty where nothing was found, and then Web is the overflow uid, which owns nothing.
	Web      rightful.Identity
	WebKnown string
	// WebConfig are the main configuration files that were read, Apache and Nginx what each says.
	WebConfig []string
	Apache    []*web.ApacheConfig
	Nginx     []*web.NginxConfig
	Pools     []web.Pool
	pools     web.PoolIndex
	served    map[string]nginxRef   // by nginx, by document root
	fronts    map[string]nginxFront // sites of Apache before which nginx stands and serves files, by document root
	vhosts    map[string]apacheRef  // of Apache, by document root
	Issues    []Issue
}

// Account returns the account of that name.
func (s *Server) Account(name string) (*Account, bool) {
	i, ok := slices.BinarySearchFunc(s.Accounts, name, func(a Account, n string) int { return strings.Compare(a.Name, n) })
	if !ok {
		return nil, false
	}
	return &s.Accounts[i], true
}

// An Account is an account with how it is known.
type Account struct {
	rightful.Account
	// Known says in one line which files name the account.
	Known string `json:"known,omitempty"`
	// DirsNamed are the absolute directories that the panel names for the account: its home, its document roots, and
	// the directories between the two. Sorted, so that parents come first.
	DirsNamed []string `json:"-"`
	// Nested are the homes inside the account's home that belong to users of their own: mailboxes, web users.
	Nested []Nested `json:"-"`
	// Facts are those conditions of policies that hold for this account alone.
	Facts map[string]bool `json:"-"`
}

// Nested is a home inside an account's home, and the user whose it is.
type Nested struct {
	Dir      string
	UID, GID uint32
}

// GroupID finds a group by its name or by a name that the panel's rules have for it.
func (s *Server) GroupID(name string) (uint32, bool) {
	if g, ok := s.Groups[name]; ok {
		return g, true
	}
	return s.Users.GroupID(name)
}

// The problems of an [Issue].
const (
	Unreadable    = "unreadable"     // a file that should be there was not read
	Syntax        = "syntax"         // a line was not understood
	Leftover      = "leftover"       // a panel file of an account that no longer is one
	NoUser        = "no-user"        // a name without a passwd entry
	NoHome        = "no-home"        // a passwd entry without a home
	BadHome       = "bad-home"       // a home that is a system or shared directory
	HomeOverlap   = "home-overlap"   // a home inside another account's home
	SystemUser    = "system-user"    // a uid below UID_MIN
	SharedUID     = "shared-uid"     // two accounts with one uid
	SharedDocroot = "shared-docroot" // a document root that two accounts claim
	DocrootInside = "docroot-inside" // a document root inside another account's home or document root
	BadDocroot    = "bad-docroot"    // a document root that is no directory of a site
	NoPool        = "no-pool"        // a PHP-FPM socket without its pool
	NoWebUser     = "no-web-user"    // it is not known who the web server is
	TwoServers    = "two-servers"    // Apache and nginx contradict each other about one address or site
	TwoPanels     = "two-panels"     // two panels name one account
	NoDatabase    = "no-database"    // a panel's database was not read: accounts are those that its files name
)

// An Issue is something in the files that name accounts that is broken, contradictory or left over.
type Issue struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"` // 0 where it is about the whole file
	Problem string `json:"problem"`
	Account string `json:"account,omitempty"`
	Msg     string `json:"msg"`
	// Fatal is set where an account or a site that the files name was left out because of it.
	Fatal bool `json:"fatal,omitempty"`
}

// String is FILE:LINE: message.
func (i Issue) String() string {
	if i.Line > 0 {
		return fmt.Sprintf("%s:%d: %s", i.File, i.Line, i.Msg)
	}
	return i.File + ": " + i.Msg
}

// A kind is one control panel: how to see that it is there, and how to read its accounts.
type kind struct {
	name   string
	detect func(*tree.Server) bool
	read   func(*reader) []claim
}

// kinds lists the panels. The plain reader takes over where none is found.
var kinds = [...]kind{
	{"cpanel", detectCPanel, readCPanel},
	{"directadmin", detectDirectAdmin, readDirectAdmin},
	{"hestia", detectHestia, readHestia},
	{"vesta", detectVesta, readVesta},
	{"myvesta", detectMyVesta, readMyVesta},
	{"virtualmin", detectVirtualmin, readVirtualmin},
	{"plesk", detectPlesk, readPlesk},
	{"ispconfig", detectISPConfig, readISPConfig},
	{"cyberpanel", detectCyberPanel, readCyberPanel},
	{"cloudpanel", detectCloudPanel, readCloudPanel},
}

// Read finds out who lives on the server. It fails only where there is no passwd file; anything else that is wrong is
// among the issues.
func Read(s *tree.Server, o Options) (*Server, error) {
	users, issues, err := ReadUsers(s)
	if err != nil {
		return nil, err
	}
	r := &reader{s: s, socket: o.socket, out: &Server{
		Users: users, Facts: map[string]bool{}, Issues: issues, served: map[string]nginxRef{}, fronts: map[string]nginxFront{},
	}}
	var claims []claim
	found := false
	for _, k := range kinds {
		if !k.detect(s) {
			continue
		}
		if !found {
			r.readWeb(o, k.name == "cpanel")
		}
		found = true
		r.out.Panels = append(r.out.Panels, k.name)
		claims = append(claims, k.read(r)...)
	}
	if !found {
		r.readWeb(o, false)
		r.out.Panels = []string{"plain"}
		claims = readPlain(r)
	}
	r.settle(claims)
	r.out.indexVHosts()
	slices.SortStableFunc(r.out.Issues, func(a, b Issue) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Account, b.Account),
			cmp.Compare(a.Problem, b.Problem), cmp.Compare(a.Msg, b.Msg))
	})
	r.out.Issues = slices.Compact(r.out.Issues)
	return r.out, nil
}

// reader holds what the panels share while they read.
type reader struct {
	s   *tree.Server
	out *Server
	// socket is that of the database server, "" for the usual ones.
	socket string
	nginx  map[*web.NginxConfig]rightful.Identity // who its workers are
	// litespeed is OpenLiteSpeed\'s configuration, nil until it is read.
	litespeed *liteSpeed
}

func (r *reader) issue(i Issue) { r.out.Issues = append(r.out.Issues, i) }

// read reads a panel's file; a missing one is an issue only where it must be there.
func (r *reader) read(file string, limit int64, must bool) (string, bool) {
	b, err := r.s.ReadFile(file, limit)
	if err == nil {
		return string(b), true
	}
	if must || !tree.IsNotExist(err) {
		r.issue(Issue{File: file, Problem: Unreadable, Msg: err.Error(), Fatal: true})
	}
	return "", false
}

// exists reports whether there is anything at a path.
func (r *reader) exists(name string) bool { return stands(r.s, name) }

// A claim is an account as a panel names it, before it is held against the others.
type claim struct {
	Account
	file string // where it is named
	line int
	from []source // of the sites, by index
	// weak claims are passwd entries that are accounts only if nothing speaks against it; they are dropped in silence.
	weak bool
}

type source struct {
	file string
	line int
}

// settle drops the claims that contradict the system or each other, and keeps the rest.
func (r *reader) settle(claims []claim) {
	slices.SortStableFunc(claims, func(a, b claim) int { return strings.Compare(a.Name, b.Name) })
	claims = r.onePanelEach(claims)
	claims = r.soundHomes(claims)
	claims = r.apartHomes(claims)
	r.sharedUIDs(claims)
	r.soundSites(claims)
	for i := range claims {
		c := &claims[i]
		if c.weak && len(c.Sites) == 0 && !usualHome(c.Home) {
			continue
		}
		c.DirsNamed = namedDirs(c.Home, c.Sites)
		if c.Sites == nil {
			c.Sites = []rightful.Site{}
		}
		r.out.Accounts = append(r.out.Accounts, c.Account)
	}
}

// onePanelEach settles what several panels say of one account, in the order of claims. Where they name the same document
// roots, the first one's word counts; where they do not, nobody knows whose rules hold, and it is no account.
func (r *reader) onePanelEach(claims []claim) []claim {
	out := claims[:0]
	for i := 0; i < len(claims); {
		j := i + 1
		for j < len(claims) && claims[j].Name == claims[i].Name {
			j++
		}
		first, agree := &claims[i], true
		for k := i + 1; k < j; k++ {
			agree = agree && (claims[k].Panel == first.Panel || slices.Equal(docRoots(first), docRoots(&claims[k])))
		}
		for k := i + 1; k < j; k++ {
			if claims[k].Panel == first.Panel {
				continue // one panel's own reader has said so
			}
			msg := fmt.Sprintf("account %q is named by %s too, with other document roots: which of the two is right is not known", first.Name, first.Panel)
			if agree {
				msg = fmt.Sprintf("account %q is named by %s too, which is believed", first.Name, first.Panel)
			}
			r.issue(Issue{File: claims[k].file, Line: claims[k].line, Problem: TwoPanels, Account: first.Name, Msg: msg, Fatal: !agree})
		}
		if agree {
			out = append(out, *first)
		}
		i = j
	}
	return out
}

func docRoots(c *claim) []string {
	var roots []string
	for _, s := range c.Sites {
		roots = append(roots, s.DocRoot)
	}
	slices.Sort(roots)
	return roots
}

// soundHomes refuses uids and homes of the system.
func (r *reader) soundHomes(claims []claim) []claim {
	return slices.DeleteFunc(claims, func(c claim) bool {
		problem, msg := "", ""
		switch {
		case c.UID == 0 || c.UID < r.out.Users.UIDMin || c.UID == Nobody:
			problem, msg = SystemUser, fmt.Sprintf("uid %d of %q is a system user's (UID_MIN is %d)", c.UID, c.Name, r.out.Users.UIDMin)
		case c.Home == "":
			problem, msg = NoHome, fmt.Sprintf("user %q has no home in passwd", c.Name)
		case !path.IsAbs(c.Home) || slices.Contains(strings.Split(c.Home, "/"), ".."):
			problem, msg = BadHome, fmt.Sprintf("home %q of %q is not an absolute path without ..", c.Home, c.Name)
		case SystemDir(path.Clean(c.Home)):
			problem, msg = BadHome, fmt.Sprintf("home %q of %q is a directory of the system or of many", c.Home, c.Name)
		}
		if problem != "" && !c.weak {
			r.issue(Issue{File: c.file, Line: c.line, Problem: problem, Account: c.Name, Msg: msg, Fatal: true})
		}
		return problem != ""
	})
}

// apartHomes refuses homes inside one another. A home that holds several others is a directory of many, and only it is
// refused; of two that contradict each other neither is an account.
func (r *reader) apartHomes(claims []claim) []claim {
	for i := range claims {
		claims[i].Home = path.Clean(claims[i].Home)
	}
	order := byPath(len(claims), func(i int) string { return claims[i].Home })
	outer := map[int][]int{} // claim, the claims directly or indirectly inside its home
	var stack []int
	for _, i := range order {
		for len(stack) > 0 && !Within(claims[i].Home, claims[stack[len(stack)-1]].Home) {
			stack = stack[:len(stack)-1]
		}
		// Only the nearest one counts where homes are nested more than once: it is refused, and so is i.
		if len(stack) > 0 {
			o := stack[len(stack)-1]
			outer[o] = append(outer[o], i)
		}
		stack = append(stack, i)
	}
	drop := map[int]bool{}
	for _, o := range slices.Sorted(maps.Keys(outer)) {
		inner := outer[o]
		same := slices.ContainsFunc(inner, func(i int) bool { return claims[i].Home == claims[o].Home })
		if len(inner) > 1 && !same {
			drop[o] = true
			r.issue(Issue{
				File: claims[o].file, Line: claims[o].line, Problem: BadHome, Account: claims[o].Name, Fatal: true,
				Msg: fmt.Sprintf("home %q of %q holds the homes of %d others", claims[o].Home, claims[o].Name, len(inner)),
			})
			continue
		}
		for _, i := range inner {
			a, b := &claims[o], &claims[i]
			if a.UID == b.UID && a.weak && b.weak {
				// A second name for one uid, as FTP users are made: the outer home has it all.
				drop[i] = true
				continue
			}
			drop[o], drop[i] = true, true
			for _, p := range [][2]*claim{{a, b}, {b, a}} {
				r.issue(Issue{
					File: p[0].file, Line: p[0].line, Problem: HomeOverlap, Account: p[0].Name, Fatal: true,
					Msg: fmt.Sprintf("home %q of %q overlaps home %q of %q", p[0].Home, p[0].Name, p[1].Home, p[1].Name),
				})
			}
		}
	}
	out := claims[:0]
	for i := range claims {
		if !drop[i] {
			out = append(out, claims[i])
		}
	}
	return out
}

// sharedUIDs reports accounts that the file system cannot tell apart. They stay: each has its own home.
func (r *reader) sharedUIDs(claims []claim) {
	first := map[uint32]int{}
	for i, c := range claims {
		if j, ok := first[c.UID]; ok {
			r.issue(Issue{
				File: c.file, Line: c.line, Problem: SharedUID, Account: c.Name,
				Msg: fmt.Sprintf("accounts %q and %q have one uid, %d", claims[j].Name, c.Name, c.UID),
			})
			continue
		}
		first[c.UID] = i
	}
}

// soundSites takes from the claims the sites whose document root is a system directory, is claimed twice, or lies in
// what belongs to another account.
func (r *reader) soundSites(claims []claim) {
	type ref struct{ claim, site int }
	bad := map[ref]bool{}
	refuse := func(f ref, problem, format string, args ...any) {
		if bad[f] {
			return
		}
		bad[f] = true
		c := &claims[f.claim]
		r.issue(Issue{
			File: c.from[f.site].file, Line: c.from[f.site].line, Problem: problem, Account: c.Name, Fatal: true,
			Msg: fmt.Sprintf("site %q of %q: ", c.Sites[f.site].Name, c.Name) + fmt.Sprintf(format, args...),
		})
	}
	var refs []ref
	for i := range claims {
		for j := range claims[i].Sites {
			root := claims[i].Sites[j].DocRoot
			if !path.IsAbs(root) || SystemDir(root) {
				refuse(ref{i, j}, BadDocroot, "document root %q is no directory of a site", root)
				continue
			}
			refs = append(refs, ref{i, j})
		}
	}
	root := func(f ref) string { return claims[f.claim].Sites[f.site].DocRoot }
	// Homes and document roots in one order: whatever holds a document root comes before it.
	type item struct {
		path string
		ref  ref // site is -1 for a home
	}
	var items []item
	for i := range claims {
		items = append(items, item{claims[i].Home, ref{i, -1}})
	}
	for _, f := range refs {
		items = append(items, item{root(f), f})
	}
	order := byPath(len(items), func(i int) string { return items[i].path })
	var stack []item
	for _, i := range order {
		it := items[i]
		for len(stack) > 0 && !Within(it.path, stack[len(stack)-1].path) {
			stack = stack[:len(stack)-1]
		}
		for _, o := range stack {
			if o.ref.claim == it.ref.claim {
				continue
			}
			owner := claims[o.ref.claim].Name
			switch {
			case o.path == it.path && o.ref.site >= 0 && it.ref.site >= 0:
				refuse(it.ref, SharedDocroot, "document root %q is also that of %q", it.path, owner)
				refuse(o.ref, SharedDocroot, "document root %q is also that of %q", it.path, claims[it.ref.claim].Name)
			case it.ref.site >= 0 && o.ref.site < 0:
				refuse(it.ref, DocrootInside, "document root %q is in the home of %q", it.path, owner)
			case it.ref.site < 0 && o.ref.site >= 0:
				refuse(o.ref, DocrootInside, "document root %q holds the home of %q", o.path, claims[it.ref.claim].Name)
			case it.ref.site >= 0:
				refuse(it.ref, DocrootInside, "document root %q is in a document root of %q", it.path, owner)
				if !Within(o.path, claims[o.ref.claim].Home) {
					refuse(o.ref, DocrootInside, "document root %q holds a document root of %q", o.path, claims[it.ref.claim].Name)
				}
			}
		}
		stack = append(stack, it)
	}
	for i := range claims {
		c := &claims[i]
		var sites []rightful.Site
		for j := range c.Sites {
			if !bad[ref{i, j}] {
				sites = append(sites, c.Sites[j])
			}
		}
		c.Sites = sites
	}
}

// namedDirs lists a home, its document roots, and the directories between.
func namedDirs(home string, sites []rightful.Site) []string {
	dirs := []string{home}
	for _, s := range sites {
		dirs = append(dirs, s.DocRoot)
		if !Within(s.DocRoot, home) {
			continue
		}
		for d := path.Dir(s.DocRoot); len(d) > len(home); d = path.Dir(d) {
			dirs = append(dirs, d)
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}
