package archive

import (
	"path"
	"slices"
	"strings"

	"rightful"
)

// A mark is what a directory of a source holds, of what it could be recognised by.
type mark uint64

// What may be in a directory.
const (
	hasHomedir mark = 1 << iota // directories
	hasBackup
	hasDotBackup
	hasPanel // "hestia" or "vesta"
	hasHome
	hasDomains
	hasMail
	hasPrivate
	hasCGI
	hasWebParts // of ISPConfig: webdav, ssl, log
	hasPublic
	hasIndex // files
	hasHtaccess
	hasWordPress
	hasComposer
	hasShell // what only a home has
	hasUserConf
	hasMeta
	hasPlesk
	hasVirtualmin
	docNames // the first of docrootNames; the others follow
)

// docrootNames are what document roots are called, those that are called nothing else first.
var docrootNames = [...]string{"public_html", "httpdocs", "htdocs", "wwwroot", "www", "html", "web"}

// surelyDocroots is how many of them are called nothing else.
const surelyDocroots = 4

const (
	anyDocroot = mark(1<<len(docrootNames)-1) * docNames
	// siteMarks are what only document roots hold.
	siteMarks = hasIndex | hasHtaccess | hasWordPress
)

var dirMarks = map[string]mark{
	"homedir": hasHomedir, "backup": hasBackup, ".backup": hasDotBackup, "hestia": hasPanel, "vesta": hasPanel, "home": hasHome,
	"domains": hasDomains, "imap": hasMail, "mail": hasMail, "Maildir": hasMail | hasShell, "private": hasPrivate, "cgi-bin": hasCGI,
	"webdav": hasWebParts, "ssl": hasWebParts, "log": hasWebParts, "public": hasPublic,
	"wp-content": hasWordPress, "wp-includes": hasWordPress, "wp-admin": hasWordPress, ".ssh": hasShell,
}

var fileMarks = map[string]mark{
	"index.php": hasIndex, "index.html": hasIndex, "index.htm": hasIndex, "index.phtml": hasIndex, "default.html": hasIndex,
	".htaccess": hasHtaccess, "wp-config.php": hasWordPress, "wp-load.php": hasWordPress, "composer.json": hasComposer, "artisan": hasComposer,
	".bashrc": hasShell, ".bash_profile": hasShell, ".bash_logout": hasShell, ".profile": hasShell, ".shadow": hasShell,
	"user.conf": hasUserConf, "meta.xml": hasMeta,
}

const (
	// maxPlaces bounds the directories of each kind that are noted: a hostile source could hold any number.
	maxPlaces = 64
	// maxMarked and maxSites bound the directories of each depth that are marked, and those of them that only hold what
	// document roots do, which the parts of every site do too. maxDepth is how deep they are marked.
	maxMarked, maxSites = 1024, 256
	maxDepth            = 10
)

// macOS keeps what its files have beside their contents below this name in a zip.
const macOS = "__MACOSX"

// marks note by which directories a source could be recognised.
type marks struct {
	docroots []string
	home     string // the home's path, without the leading "/"
	account  string
	last     string
	any      bool
	dirs     map[string]mark
	depth    [maxDepth + 1]struct{ all, sites int }
	homes    []string         // directories whose path ends like the home's
	named    []string         // directories that are called like the account
	parents  map[string][]int // directories that hold document roots: which of them
	virtual  []string         // Virtualmin's homes: DOMAIN_dir
	tops     map[string]bool
	macOS    bool
}

func newMarks(home, account string, docroots []string) *marks {
	return &marks{
		docroots: docroots, home: strings.Trim(home, "/"), account: account,
		dirs: map[string]mark{}, parents: map[string][]int{}, tops: map[string]bool{},
	}
}

// set notes what a directory holds.
func (m *marks) set(dir string, what mark) {
	have, ok := m.dirs[dir]
	if !ok {
		depth := pathDepth(dir)
		if depth > maxDepth || m.depth[depth].all >= maxMarked {
			return
		}
		if site := what&^siteMarks == 0; site {
			if m.depth[depth].sites >= maxSites {
				return
			}
			m.depth[depth].sites++
		}
		m.depth[depth].all++
	}
	m.dirs[dir] = have | what
}

func (m *marks) note(e *Entry) {
	top, _, _ := strings.Cut(e.Name, "/")
	if top == macOS {
		m.macOS = true
		return
	}
	if top != "" && len(m.tops) <= maxPlaces {
		m.tops[top] = true
	}
	dir := e.Name
	if e.Kind != rightful.KindDir {
		i := strings.LastIndexByte(dir, '/')
		m.noteFile(dir[:max(i, 0)], dir[i+1:], e.Kind)
		dir = dir[:max(i, 0)]
		if e.Kind == rightful.KindSymlink {
			m.noteRoots(e.Name)
		}
	}
	if m.any && dir == m.last {
		return
	}
	m.noteDirs(dir)
	m.any, m.last = true, dir
	if end, ok := endsIn(dir, m.home, 0); ok {
		note(&m.homes, dir[:end])
	}
	m.noteRoots(dir)
}

// noteRoots notes what holds the account's document roots, where a path leads through one.
func (m *marks) noteRoots(dir string) {
	for i, d := range m.docroots {
		for end, ok := endsIn(dir, d, 0); ok; end, ok = endsIn(dir, d, end) {
			at := strings.TrimSuffix(dir[:end-len(d)], "/")
			if !slices.Contains(m.parents[at], i) && (m.parents[at] != nil || len(m.parents) < maxPlaces) {
				m.parents[at] = append(m.parents[at], i)
			}
		}
	}
}

func note(list *[]string, dir string) {
	if len(*list) < maxPlaces && !slices.Contains(*list, dir) {
		*list = append(*list, dir)
	}
}

func (m *marks) noteFile(dir, file string, kind rightful.Kind) {
	what := fileMarks[file]
	switch {
	case kind == rightful.KindSymlink: // public_html may be one, and www is one beside it
		if what = 0; file == docrootNames[0] || file == docrootNames[1] {
			what = docMark(file)
		}
	case strings.HasPrefix(file, "backup_info_"):
		what |= hasPlesk
	case strings.HasSuffix(file, "_virtualmin"):
		what |= hasVirtualmin
	}
	if what != 0 && (what&^siteMarks != 0 || !m.inSite(dir)) {
		m.set(dir, what)
	}
}

// inSite reports whether a directory above is marked as a document root already.
func (m *marks) inSite(dir string) bool {
	for dir != "" {
		dir = dir[:max(strings.LastIndexByte(dir, '/'), 0)]
		if m.dirs[dir]&siteMarks != 0 {
			return true
		}
	}
	return false
}

// noteDirs marks the directories on the way to one, but for those that the last one had in common with it.
func (m *marks) noteDirs(dir string) {
	above := 0
	for end := 0; end < len(dir); {
		start := end
		if start > 0 {
			start++
		}
		end = len(dir)
		if i := strings.IndexByte(dir[start:], '/'); i >= 0 {
			end = start + i
		}
		name := dir[start:end]
		if !m.any || !within(m.last, dir[:end]) {
			if what := dirMarks[name] | docMark(name); what != 0 {
				m.set(dir[:above], what)
			}
			if name == m.account {
				note(&m.named, dir[:end])
			}
			if strings.HasSuffix(name, "_dir") {
				note(&m.virtual, dir[:end])
			}
		}
		above = end
	}
}

func docMark(name string) mark {
	if i := slices.Index(docrootNames[:], name); i >= 0 {
		return docNames << i
	}
	return 0
}

// sorted gives the marked directories, outermost first.
func (m *marks) sorted() []string {
	var all []string
	for dir := range m.dirs {
		all = append(all, dir)
	}
	slices.SortFunc(all, outermostFirst)
	return all
}

func outermostFirst(a, b string) int {
	if c := pathDepth(a) - pathDepth(b); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

func pathDepth(dir string) int {
	if dir == "" {
		return 0
	}
	return 1 + strings.Count(dir, "/")
}

// inHome reports whether document roots lie in a directory or in one above it: a customer may have directories of any name
// in a home.
func (m *marks) inHome(at string) bool {
	for p := range m.parents {
		if within(at, p) {
			return true
		}
	}
	return false
}

// above gives the directory that holds one, and false for the top.
func above(at string) (string, bool) {
	dir := path.Dir(at)
	if dir == "." {
		dir = ""
	}
	return dir, at != ""
}

// endsIn finds whole components of a path, from a place on, that are tail, and gives the place of their end.
func endsIn(path, tail string, from int) (end int, ok bool) {
	if tail == "" {
		return 0, false
	}
	for {
		i := strings.Index(path[from:], tail)
		if i < 0 {
			return 0, false
		}
		i += from
		end := i + len(tail)
		if (i == 0 || path[i-1] == '/') && (end == len(path) || path[end] == '/') {
			return end, true
		}
		from = i + 1
	}
}
