package archive

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
)

// outermostFinds drops finds that lie in the place of a better one, or are the same.
func outermostFinds(finds []*find) []*find {
	slices.SortStableFunc(finds, func(a, b *find) int { return cmp.Or(cmp.Compare(a.rank, b.rank), outermostFirst(a.src, b.src)) })
	var out []*find
	for _, f := range finds {
		if !slices.ContainsFunc(out, func(o *find) bool { return o.covers(f) }) && len(out) < 4*maxCandidates {
			out = append(out, f)
		}
	}
	return out
}

// covers reports whether another find is in the place of one.
func (f *find) covers(other *find) bool {
	if f.guess && other.guess { // one directory could be several document roots
		return slices.Equal(f.Places, other.Places)
	}
	if f.rank == rankPackage { // a panel keeps more in it than the home
		return within(other.src, f.src)
	}
	_, in := f.Places.Rel(other.src)
	return in
}

// maxNames bounds the names of a find that are looked up.
const maxNames = 512

// measure reads the entries again for what lies in each find.
func (r *recogniser) measure() error {
	if len(r.finds) == 0 {
		return nil
	}
	return r.s.each(func(e *Entry) error {
		for _, f := range r.finds {
			if rel, ok := f.Places.Rel(e.Name); ok {
				f.count(e, rel, r.sub.Exists != nil)
			}
		}
		return nil
	})
}

func (f *find) count(e *Entry, rel string, names bool) {
	f.Bytes += e.size(f.Bytes)
	if e.Known.Has(KnownUser) {
		if f.owners == nil {
			f.owners = map[string]int{}
		}
		if _, ok := f.owners[e.User]; ok || len(f.owners) < maxOwners {
			f.owners[e.User]++
		}
	}
	if names && f.Entries%f.stride == 0 && rel != "" && !slices.ContainsFunc(f.Places, func(p Place) bool { return p.Dst == rel }) {
		if len(f.names) == maxNames { // keep every other one, and go on half as often
			for i := range maxNames / 2 {
				f.names[i] = f.names[2*i]
			}
			f.names, f.stride = f.names[:maxNames/2], 2*f.stride
		}
		f.names = append(f.names, rel)
	}
	f.Entries++
}

// judge decides what is certain, and sorts.
func (r *recogniser) judge() []Candidate {
	for _, f := range r.finds {
		for _, name := range f.names {
			f.of++
			if r.sub.Exists(name) {
				f.hit++
			}
		}
	}
	finds := slices.DeleteFunc(r.finds, func(f *find) bool { return f.Entries == 0 })
	r.byHits(finds)
	finds = slices.DeleteFunc(finds, func(f *find) bool { return f.rank == rankNames && !f.Certain })
	certain := 0
	for _, f := range finds {
		r.doubt(f)
		if f.of > 0 {
			f.Why += fmt.Sprintf("; of %d names in it that were looked up, the home has %d", f.of, f.hit)
		}
		if f.Certain {
			certain++
		}
	}
	slices.SortStableFunc(finds, func(a, b *find) int {
		return cmp.Or(
			before(a.Certain, b.Certain), before(a.Account == "", b.Account == ""), cmp.Compare(a.rank, b.rank), cmp.Compare(b.hit, a.hit),
			outermostFirst(a.src, b.src),
		)
	})
	var out []Candidate
	for _, f := range finds[:min(len(finds), maxCandidates)] {
		if f.Certain && certain > 1 {
			f.Certain = false
			f.Why += fmt.Sprintf("; it is one of %d that are as good", certain)
		}
		out = append(out, f.Candidate)
	}
	return out
}

func before(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// byHits makes the guess certain of whose names at least half are known to exist, if no other guess has as many.
func (r *recogniser) byHits(finds []*find) {
	var best *find
	second := 0
	for _, f := range finds {
		switch {
		case !f.guess:
		case best == nil || f.hit > best.hit:
			if best != nil {
				second = best.hit
			}
			best = f
		default:
			second = max(second, f.hit)
		}
	}
	if best == nil || best.hit == 0 || best.hit == second || 2*best.hit < best.of {
		return
	}
	best.Certain = true
	what := "the home"
	if dst := best.Places[0].Dst; dst != "" {
		what = fmt.Sprintf("the document root %q", dst)
	}
	best.Why = "the names in it are those of " + what
}

// systemUsers own files in homes without being accounts.
var systemUsers = []string{"root", "nobody", "www-data", "apache", "httpd", "nginx", "http", "wwwrun", "www", "mail", "vmail", "psaadm", "diradmin"}

// doubt takes back that a find by document roots is certain where the source names another owner of most of it. Where the
// directory is called like that owner too, it is that one's home.
func (r *recogniser) doubt(f *find) {
	if f.rank != rankDocRoots && f.rank != rankSites {
		return
	}
	for user, n := range f.owners {
		if 2*n > f.Entries && user != r.sub.name() && user != r.sub.Account && !slices.Contains(systemUsers, user) && strings.Trim(user, "0123456789") != "" {
			f.Certain, f.Owner = false, user
			if path.Base(f.src) == user {
				f.Account = user
			}
			f.Why += fmt.Sprintf("; most of it belongs to %q there", user)
		}
	}
}
