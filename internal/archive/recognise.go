package archive

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// A Subject is an account that a source is asked about.
type Subject struct {
	Account string
	// Owner is what the account was called in the source; "" for the same name. A uid tells nothing of names.
	Owner string
	// Home is absolute; DocRoots are below it, that of the main site first.
	Home     string
	DocRoots []string
	// Domains gives each domain's document root below the home.
	Domains map[string]string
	// File is the base name of the source, which may tell whose it is.
	File string
	// Exists tells whether a path below the home is known to have been there, from the live tree or a snapshot; nil where
	// nothing is known.
	Exists func(rel string) bool
}

// name is what the account was called in the source.
func (s *Subject) name() string {
	if strings.Trim(s.Owner, "0123456789") == "" {
		return s.Account
	}
	return s.Owner
}

// home is the path of the home in the source.
func (s *Subject) home() string {
	if dir, base := path.Split(s.Home); base == s.Account && s.Account != "" {
		return path.Join(dir, s.name())
	}
	return s.Home
}

// A Candidate is one reading of where in a source an account's entries are.
type Candidate struct {
	// What it is, for people: "a cPanel package", "a home directory", "a document root".
	What   string
	Places Places
	// Why it is taken for that: a sentence.
	Why string
	// Certain: by the source's own naming, or by names that are known to exist, and there is no other such reading. What
	// only looks like it is not.
	Certain bool
	// Account is whose it seems to be, where that is another name than the subject's.
	Account string
	// Owner is who owns most of it there, where that is told and is neither the subject nor the system.
	Owner string
	// Entries and Bytes are what lies in the places, by what the source says of sizes.
	Entries int
	Bytes   int64

	guess bool // by what it looks like
}

// ErrLayout says that it is not known where in a source an account's entries are.
var ErrLayout = errors.New("it is not known where in it the account's entries are")

// An OtherAccountError says that a source is of another account.
type OtherAccountError struct{ Account string }

// Error names the account.
func (e *OtherAccountError) Error() string { return fmt.Sprintf("it is of the account %q", e.Account) }

// Layout gives the one reading of a source that metadata can be taken by: a certain one, or the only one that is no guess.
func (s *Survey) Layout(sub Subject) (Candidate, error) {
	all, err := s.Candidates(sub)
	if err != nil {
		return Candidate{}, err
	}
	own := slices.DeleteFunc(slices.Clone(all), func(c Candidate) bool { return c.Account != "" })
	switch {
	case len(own) > 0 && (own[0].Certain || len(own) == 1 && !own[0].guess):
		return own[0], nil
	case len(own) == 0 && len(all) > 0:
		return Candidate{}, &OtherAccountError{all[0].Account}
	}
	return Candidate{}, ErrLayout
}

// maxCandidates bounds the readings that are given.
const maxCandidates = 16

// Candidates finds out where a subject's entries could be, best first: by what names itself (a panel's backup), by the path
// of the home, by a directory called like the account, by document roots, by names that are known to exist, last by what
// document roots look like.
func (s *Survey) Candidates(sub Subject) ([]Candidate, error) {
	m := newMarks(sub.home(), sub.name(), sub.DocRoots)
	if err := s.each(func(e *Entry) error { m.note(e); return nil }); err != nil {
		return nil, err
	}
	r := &recogniser{s: s, m: m, sub: &sub}
	r.packages()
	r.homes()
	r.byDocRoots()
	for _, next := range []func(){r.sites, r.byContent} {
		if !slices.ContainsFunc(r.finds, func(f *find) bool { return f.Account == "" }) {
			next()
		}
	}
	if len(r.finds) == 0 && sub.Exists != nil {
		r.byNames()
	}
	r.finds = outermostFinds(r.finds)
	if err := r.measure(); err != nil {
		return nil, err
	}
	return r.judge(), nil
}

// The ranks of finds, best first.
const (
	rankPackage = iota
	rankHome
	rankNamed
	rankDocRoots
	rankSites
	rankContent
	rankNames
)

// A find is a candidate that is being judged.
type find struct {
	Candidate
	rank int
	src  string // the directory of the source that it is about
	// What was measured.
	owners  map[string]int
	names   []string // some of its paths below the home
	stride  int
	hit, of int
}

type recogniser struct {
	s     *Survey
	m     *marks
	sub   *Subject
	finds []*find
}

// add adds a find whose account is user, "" where that is not told.
func (r *recogniser) add(f find, user string) {
	switch user {
	case "":
	case r.sub.name():
		f.Certain = true
	default:
		f.Certain, f.Account = false, user
	}
	if r.m.macOS && f.src == "" {
		f.Places = append(f.Places, Place{Src: macOS, Out: true})
	}
	f.stride = 1
	r.finds = append(r.finds, &f)
}

// homePlaces maps a home in the source to the account's: as a whole where it is laid out alike. Else the document roots of
// the domains that both have are mapped, or the only one, and why tells so.
func (r *recogniser) homePlaces(at string, whole ...Place) (places Places, why string) {
	if len(r.sub.DocRoots) == 0 || len(r.m.parents[at]) > 0 {
		return whole, ""
	}
	sites := r.sitesBelow(at)
	if len(sites) == 0 {
		return whole, ""
	}
	return sites, "; the account's home is laid out in another way, so only document roots are taken"
}

// sitesBelow maps the document roots of a home that is laid out in another way: those in directories called like the
// account's domains, or else the only one that is called by no domain.
func (r *recogniser) sitesBelow(at string) (places Places) {
	for _, dir := range r.m.sorted() {
		if dst, ok := r.sub.Domains[path.Base(dir)]; ok && within(dir, at) && pathDepth(dir)-pathDepth(at) <= 2 {
			if root := r.docRoot(dir); root != "" {
				places = append(places, Place{Src: root, Dst: dst})
			}
		}
	}
	if root := r.docRoot(at); len(places) == 0 && root != "" {
		places = Places{{Src: root, Dst: r.sub.DocRoots[0]}}
	}
	return places
}

// docRoot gives the directory in one that is called like a document root; "" where there is none. Names that directories
// of several sites have too count only where there are none in it.
func (r *recogniser) docRoot(dir string) string {
	for i, name := range docrootNames {
		if r.m.dirs[dir]&(docNames<<i) == 0 {
			continue
		}
		root := path.Join(dir, name)
		if i < surelyDocroots || r.m.dirs[root]&siteMarks != 0 || !r.holdsSites(root) {
			return root
		}
	}
	return ""
}

// holdsSites reports whether document roots lie in a directory's own.
func (r *recogniser) holdsSites(dir string) bool {
	for at, have := range r.m.dirs {
		if at != dir && within(at, dir) && pathDepth(at)-pathDepth(dir) <= 2 && have&(siteMarks|anyDocroot) != 0 {
			return true
		}
	}
	return false
}

// container reports whether a directory is called like those that hold homes.
func container(dir string) bool {
	base := strings.TrimRight(path.Base(dir), "0123456789")
	return base == "home" || base == "homes" || base == "vhosts" || base == "users" || base == "accounts"
}

// homes finds the home by its path, else by a directory that is called like the account and holds what homes do. A panel
// keeps its own data in such ones too.
func (r *recogniser) homes() {
	found := false
	for _, at := range r.m.homes {
		if r.insideHome(at) || strings.Contains(at, "/virtfs/") { // where cPanel mounts homes again, for its jails
			continue
		}
		found = true
		places, why := r.homePlaces(at, Place{Src: at})
		r.add(find{rank: rankHome, src: at, Candidate: Candidate{
			What: "a home directory", Places: places, Certain: true, Why: fmt.Sprintf("the path of the home: %q%s", at, why),
		}}, "")
	}
	for _, at := range r.m.named {
		have := r.m.dirs[at]
		if found || r.insideHome(at) || have&hasUserConf != 0 || have&(anyDocroot|hasDomains|hasShell) == 0 && len(r.m.parents[at]) == 0 {
			continue
		}
		places, why := r.homePlaces(at, Place{Src: at})
		r.add(find{rank: rankNamed, src: at, Candidate: Candidate{
			What: "a home directory", Places: places, Certain: true, Why: fmt.Sprintf("%q is called like the account%s", at, why),
		}}, "")
	}
}

// byDocRoots finds homes by the account's document roots in them.
func (r *recogniser) byDocRoots() {
	parents := slices.SortedFunc(maps.Keys(r.m.parents), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(r.m.parents[b]), len(r.m.parents[a])), outermostFirst(a, b))
	})
	var outer []string
	for _, at := range parents {
		if !slices.ContainsFunc(outer, func(o string) bool { return within(at, o) }) {
			outer = append(outer, at)
		}
	}
	alike := 0 // how many hold as many of them as any
	for _, at := range outer {
		if len(r.m.parents[at]) == len(r.m.parents[outer[0]]) {
			alike++
		}
	}
	for i, at := range outer {
		where := fmt.Sprintf("in %q", at)
		if at == "" {
			where = "at its top"
		}
		c := Candidate{
			What: r.homeKind(at), Places: Places{{Src: at}},
			Why:     fmt.Sprintf("the home is %s: the document root %q lies there", where, r.sub.DocRoots[slices.Min(r.m.parents[at])]),
			Certain: alike == 1 && i == 0 && (at == "" || len(r.m.parents[at]) > 1 || placeless(path.Base(at)) && slices.Contains(r.m.parents[at], 0)),
		}
		user := ""
		if up, below := above(at); below && path.Base(at) != r.sub.name() && (container(up) || alike > 1 && !placeless(path.Base(at))) {
			user = path.Base(at)
		}
		r.add(find{rank: rankDocRoots, src: at, Candidate: c}, user)
	}
}

// homeKind says what a home is by what lies in it.
func (r *recogniser) homeKind(at string) string {
	if have := r.m.dirs[at]; have&docMark("web") != 0 && have&hasPrivate != 0 && have&(hasCGI|hasWebParts) != 0 {
		return "an ISPConfig site"
	}
	return "a home directory"
}

// placeless reports whether a directory's name is none that an account would have: a time, or a word for a copy.
func placeless(name string) bool {
	if !userName(name) {
		return true
	}
	word := strings.ToLower(strings.TrimRight(name, "0123456789.-_"))
	return slices.Contains([]string{
		"backup", "backups", "home", "homedir", "site", "sites", "data", "files", "old", "new", "tmp", "restore", "restored",
		"snapshot", "latest", "current", "daily", "weekly", "monthly", "copy", "export", "archive",
	}, word)
}

// userName reports whether a user could be called so.
func userName(name string) bool {
	for i, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c == '_' || i > 0 && (c >= '0' && c <= '9' || c == '-' || c == '.')) {
			return false
		}
	}
	return name != "" && len(name) <= 32
}

// sites finds document roots that lie in directories called like the account's domains, or are called so.
func (r *recogniser) sites() {
	by := map[string]Places{}
	for _, dir := range r.m.sorted() {
		dst, ok := r.sub.Domains[path.Base(dir)]
		if !ok || dir == "" {
			continue
		}
		up, _ := above(dir)
		src := r.docRoot(dir)
		if src == "" && r.m.dirs[dir]&siteMarks != 0 {
			src = dir
		}
		if src == "" {
			continue
		}
		by[up] = append(by[up], Place{Src: src, Dst: dst})
	}
	for _, up := range slices.Sorted(maps.Keys(by)) {
		r.add(find{rank: rankSites, src: up, Candidate: Candidate{
			What: "document roots", Places: by[up], Certain: true,
			Why: fmt.Sprintf("%q is in a directory called like the domain whose document root it is", by[up][0].Src),
		}}, "")
	}
}

// byContent finds what looks like document roots: by a name that these have, or by what only they hold.
func (r *recogniser) byContent() {
	var roots []string
	put := func(at string) {
		if !slices.ContainsFunc(roots, func(o string) bool { return within(at, o) }) && len(roots) < maxPlaces {
			roots = append(roots, at)
		}
	}
	for _, dir := range r.m.sorted() {
		have := r.m.dirs[dir]
		if have&siteMarks != 0 || have&hasComposer != 0 && have&hasPublic != 0 {
			put(dir)
		} else if root := r.docRoot(dir); root != "" {
			put(root)
		}
	}
	for _, at := range roots {
		r.guesses(at, rankContent, fmt.Sprintf("%s, as document roots do", r.looks(at)))
	}
}

// looks says what a directory looks like a document root by.
func (r *recogniser) looks(at string) string {
	name := fmt.Sprintf("%q", at)
	if at == "" {
		name = "its top"
	}
	have := r.m.dirs[at]
	for _, k := range []struct {
		of   mark
		what string
	}{
		{hasWordPress, "WordPress"},
		{hasComposer, "an application whose document root may be its public directory"},
		{hasIndex, "an index page"},
		{hasHtaccess, ".htaccess"},
	} {
		if have&k.of != 0 {
			return fmt.Sprintf("%s holds %s", name, k.what)
		}
	}
	return name + " has such a name"
}

// guesses adds a find for each document root that a directory could be.
func (r *recogniser) guesses(at string, rank int, why string) {
	roots := slices.Clone(r.sub.DocRoots[:min(len(r.sub.DocRoots), maxCandidates/2)])
	app := r.m.dirs[at]&hasComposer != 0 && r.m.dirs[at]&hasPublic != 0
	for _, root := range roots {
		dst := root
		if up, _ := above(root); app && path.Base(root) == "public" {
			dst = up
		}
		r.add(find{rank: rank, src: at, Candidate: Candidate{
			guess: true,
			What:  "a document root", Places: Places{{Src: at, Dst: dst}}, Why: why,
		}}, "")
	}
}

// byNames tries the source's top and its only directory as the home and as each document root.
func (r *recogniser) byNames() {
	tops := []string{""}
	if len(r.m.tops) == 1 {
		tops = slices.AppendSeq(tops, maps.Keys(r.m.tops))
	}
	for _, at := range tops {
		r.add(find{rank: rankNames, src: at, Candidate: Candidate{
			guess: true,
			What:  "a home directory", Places: Places{{Src: at}}, Why: "guessed",
		}}, "")
		r.guesses(at, rankNames, "guessed")
	}
}
