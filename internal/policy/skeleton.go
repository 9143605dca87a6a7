package policy

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// The form of a [skeleton] table: what a home has before anybody puts anything into it.
//
//	dirs     directories
//	links    links, each { path = "www", target = "public_html" }
//	without  what the files before this one say and this server does not have, with all beneath it
//
// Paths are below the home. {user} stands for the account's name, {domain} for each of its domains, and {docroot}, at the
// start, for each document root in the home; document roots themselves need not be listed. What lies in a domain's
// directory is there only where that directory is: "web/{domain}/logs" is made where "web/{domain}" leads to a document
// root, or is listed before it.
type (
	skeletonTOML struct {
		Dirs    words          `toml:"dirs"`
		Links   []skelLinkTOML `toml:"links"`
		Without words          `toml:"without"`
	}
	skelLinkTOML struct {
		Path   string `toml:"path"`
		Target string `toml:"target"`
	}
)

// The placeholders of a skeleton.
const (
	phUser    = "{user}"
	phDomain  = "{domain}"
	phDocRoot = "{docroot}"
)

// A SkeletonInfo is one line of the skeleton as the files say it, placeholders and all.
type SkeletonInfo struct {
	File   string `json:"file"`
	Path   string `json:"path"`
	Target string `json:"target,omitempty"` // of a link
}

// A SkeletonEntry is a directory or a link that every home of a panel has.
type SkeletonEntry struct {
	// Rel is below the home: no slash at its ends, no component that is empty, "." or "..".
	Rel string
	// Target is where a link leads, absolute or from the directory that it lies in; "" for a directory.
	Target string
}

// SkeletonTable is what the files of the policy say of the skeleton, in the order of the files.
func (p *Policy) SkeletonTable() []SkeletonInfo { return slices.Clone(p.skeleton) }

// Skeleton gives what the home of an account has even with nothing in it, so that a home that was lost can be made again
// without a backup. domains are all names of its sites; docroots are its document roots, relative to the home, and those
// that lie elsewhere are left out. Document roots are in the result with all directories on the way; one that the panel's
// files spell through a link of the skeleton is where that link leads. Parents come before what is in them, nothing is
// there twice, and nothing lies beneath a link. Owners and modes are the rules' to say.
func (p *Policy) Skeleton(user string, domains, docroots []string) []SkeletonEntry {
	s := skeleton{user: user, domains: ownDomains(domains), kinds: map[string]string{}}
	ways := map[string]string{}
	for _, i := range p.skeleton {
		for _, l := range s.lines(i) {
			if l.Target != "" {
				ways[l.Rel] = l.Target
			}
		}
	}
	for _, d := range docroots {
		if rel, ok := follow(ways, d); ok {
			s.docroots = append(s.docroots, rel)
			s.add(SkeletonEntry{Rel: rel})
		}
	}
	slices.Sort(s.docroots)
	s.docroots = slices.Compact(s.docroots)
	for _, i := range p.skeleton {
		for _, l := range s.lines(i) {
			if _, there := s.kinds[l.within]; there || l.within == "" {
				s.add(l.SkeletonEntry)
			}
		}
	}
	out := make([]SkeletonEntry, 0, len(s.kinds))
	for rel, target := range s.kinds {
		out = append(out, SkeletonEntry{rel, target})
	}
	// A path sorts after every path that it begins with.
	slices.SortFunc(out, func(a, b SkeletonEntry) int { return strings.Compare(a.Rel, b.Rel) })
	return out
}

// skeleton is one account's, while it is put together.
type skeleton struct {
	user              string
	domains, docroots []string
	kinds             map[string]string // by path, the target of a link or "" for a directory
}

// A skelLine is what a line of the table stands for, once. within is the domain's directory without which it is not there.
type skelLine struct {
	SkeletonEntry
	within string
}

// lines gives all that a line of the table stands for.
func (s *skeleton) lines(i SkeletonInfo) (out []skelLine) {
	fill := strings.NewReplacer(phUser, s.user)
	switch rest, ok := strings.CutPrefix(i.Path, phDocRoot); {
	case strings.Contains(i.Path+i.Target, phUser) && !plainName(s.user):
	case ok:
		for _, d := range s.docroots {
			out = append(out, skelLine{SkeletonEntry{d + fill.Replace(rest), fill.Replace(i.Target)}, ""})
		}
	case strings.Contains(i.Path, phDomain):
		dir, tail, _ := strings.Cut(i.Path, phDomain)
		end := strings.IndexByte(tail, '/')
		for _, d := range s.domains {
			fill := strings.NewReplacer(phUser, s.user, phDomain, d)
			l := skelLine{SkeletonEntry{fill.Replace(i.Path), fill.Replace(i.Target)}, ""}
			if end >= 0 {
				l.within = fill.Replace(dir + phDomain + tail[:end])
			}
			out = append(out, l)
		}
	default:
		out = append(out, skelLine{SkeletonEntry{fill.Replace(i.Path), fill.Replace(i.Target)}, ""})
	}
	return out
}

// add puts an entry and the directories on the way to it in, unless something is there already or it lies beneath a link.
func (s *skeleton) add(e SkeletonEntry) {
	var way []string
	for dir := path.Dir(e.Rel); dir != "."; dir = path.Dir(dir) {
		if s.kinds[dir] != "" {
			return
		}
		way = append(way, dir)
	}
	for _, dir := range way {
		s.kinds[dir] = ""
	}
	if _, there := s.kinds[e.Rel]; !there {
		s.kinds[e.Rel] = e.Target
	}
}

// follow resolves the links of a skeleton in a path below the home. It is not ok where that leads out of the home, to the
// home itself or round in a circle.
func follow(links map[string]string, rel string) (string, bool) {
	for range len(links) + 1 {
		if rel == "" || rel[0] == '/' || strings.IndexByte(rel, 0) >= 0 {
			return "", false
		}
		if rel = path.Clean(rel); rel == "." || rel == ".." || strings.HasPrefix(rel, "../") {
			return "", false
		}
		next := rel
		for _, link := range slices.Sorted(maps.Keys(links)) {
			if rest, ok := strings.CutPrefix(rel, link); ok && (rest == "" || rest[0] == '/') {
				if next = links[link] + rest; next[0] != '/' {
					next = path.Join(path.Dir(link), next)
				}
				break
			}
		}
		if next == rel {
			return rel, true
		}
		rel = next
	}
	return "", false
}

// serviceNames are the names that panels put before a domain so that a server answers there too, and that are no domains
// of their own.
var serviceNames = []string{"www", "mail", "webmail", "ftp", "cpanel", "whm", "webdisk", "cpcalendars", "cpcontacts", "autoconfig", "autodiscover"}

// ownDomains gives the domains that can have a directory of that name: sorted, each once, and without www. and the like
// before another of them.
func ownDomains(names []string) []string {
	sorted := slices.Compact(slices.Sorted(slices.Values(names)))
	out := make([]string, 0, len(sorted))
	for _, n := range sorted {
		service, of, _ := strings.Cut(n, ".")
		_, alias := slices.BinarySearch(sorted, of)
		if plainName(n) && !(alias && slices.Contains(serviceNames, service)) {
			out = append(out, n)
		}
	}
	return out
}

// plainName reports whether a name is one visible component: no wildcard, nothing that leads elsewhere.
func plainName(s string) bool {
	return s != "" && s[0] != '.' && len(s) < 256 && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r == 0x7f || strings.ContainsRune("/*?{}\\", r)
	})
}

// addSkeleton puts one [skeleton] table after those of the files before it: a path said again is as the later file says.
func (p *Policy) addSkeleton(file string, t *skeletonTOML) error {
	add := func(i SkeletonInfo) {
		p.skeleton = slices.DeleteFunc(p.skeleton, func(o SkeletonInfo) bool { return o.Path == i.Path })
		p.skeleton = append(p.skeleton, i)
	}
	for _, w := range t.Without {
		p.skeleton = slices.DeleteFunc(p.skeleton, func(o SkeletonInfo) bool {
			return o.Path == w || strings.HasPrefix(o.Path, w+"/")
		})
	}
	for _, d := range t.Dirs {
		add(SkeletonInfo{File: file, Path: d})
	}
	for _, l := range t.Links {
		add(SkeletonInfo{File: file, Path: l.Path, Target: l.Target})
	}
	for _, l := range p.skeleton {
		for _, o := range p.skeleton {
			if l.Target != "" && strings.HasPrefix(o.Path, l.Path+"/") {
				return fmt.Errorf("%q lies beneath the link %q", o.Path, l.Path)
			}
		}
	}
	return nil
}

// check refuses a table that cannot be meant, whatever panel it is for.
func (t *skeletonTOML) check() error {
	seen := map[string]bool{}
	for _, p := range t.Without {
		if err := checkSkeletonPath(p); err != nil {
			return fmt.Errorf("without %q: %w", p, err)
		}
	}
	once := func(p string) error {
		if seen[p] {
			return errors.New("is there twice")
		}
		seen[p] = true
		return checkSkeletonPath(p)
	}
	for _, p := range t.Dirs {
		if err := once(p); err != nil {
			return fmt.Errorf("dirs %q: %w", p, err)
		}
	}
	for _, l := range t.Links {
		if err := once(l.Path); err != nil {
			return fmt.Errorf("links %q: %w", l.Path, err)
		}
		if err := checkSkeletonTarget(l.Path, l.Target); err != nil {
			return fmt.Errorf("links %q: target %q: %w", l.Path, l.Target, err)
		}
	}
	return nil
}

func checkSkeletonPath(p string) error {
	rest, ok := strings.CutPrefix(p, phDocRoot)
	switch {
	case ok && rest == "":
		return errors.New("document roots are there anyhow")
	case ok && rest[0] != '/':
		return errors.New("a placeholder stands for whole components")
	case ok && strings.Contains(rest, phDomain):
		return errors.New("a document root has no domain of its own")
	case ok:
		return checkSkeletonWords(rest[1:], phUser)
	case path.IsAbs(p):
		return errors.New("is not below the home")
	}
	return checkSkeletonWords(p, phUser, phDomain)
}

func checkSkeletonTarget(p, target string) error {
	if strings.Contains(target, phDomain) && !strings.Contains(p, phDomain) {
		return errors.New("one link cannot lead to every domain")
	}
	return checkSkeletonWords(strings.TrimPrefix(target, "/"), phUser, phDomain)
}

// checkSkeletonWords holds a path, without the slash that it may begin with, to be plain and to have no other placeholders.
func checkSkeletonWords(p string, placeholders ...string) error {
	plain := p
	for _, h := range placeholders {
		plain = strings.ReplaceAll(plain, h, "x")
	}
	switch {
	case plain == "" || plain[0] == '/' || path.Clean(plain) != plain || plain == "." || plain == ".." || strings.HasPrefix(plain, "../") || strings.IndexByte(plain, 0) >= 0:
		return errors.New("is not a plain path")
	case strings.ContainsAny(plain, "{}*?"):
		return fmt.Errorf("only %s stand for something here", strings.Join(placeholders, ", "))
	}
	return nil
}
