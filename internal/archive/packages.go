package archive

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// packages finds what control panels made. Each holds the home, or parts of it, beside what the panel keeps of its own, which
// is left out.
func (r *recogniser) packages() {
	for _, at := range r.m.sorted() {
		have := r.m.dirs[at]
		switch {
		case have&hasHomedir != 0:
			r.cpanel(at)
		case have&hasBackup != 0 && have&(hasDomains|hasHome) != 0 && have&(hasShell|anyDocroot) == 0 && r.m.dirs[path.Join(at, "backup")]&hasUserConf != 0:
			r.directAdmin(at)
		case have&hasPanel != 0 && have&hasHome != 0 && have&hasShell == 0:
			r.pack(at, "hestia", "a HestiaCP backup", path.Join(at, "home"))
		case have&hasPlesk != 0 && have&hasHome != 0:
			r.plesk(at)
		case have&hasMeta != 0 && have&docMark("public_html") != 0 && r.m.dirs[path.Join(at, "public_html")]&docMark("public_html") != 0:
			r.pack(at, "cyberpanel", "a CyberPanel backup", path.Join(at, "public_html"))
		}
		if have&hasDotBackup != 0 && r.m.dirs[path.Join(at, ".backup")]&hasVirtualmin != 0 {
			r.pack(at, "virtualmin", "a Virtualmin backup", at, Place{Src: path.Join(at, ".backup"), Out: true})
		}
	}
	for _, at := range r.m.virtual { // Virtualmin's other form: DOMAIN_dir beside DOMAIN_virtualmin
		file := strings.TrimSuffix(at, "_dir") + "_virtualmin"
		up, _ := above(at)
		for _, t := range r.s.told {
			if t.file == file && !r.insideHome(up) {
				r.packed("a Virtualmin backup", t.user, at, at)
			}
		}
	}
}

// insideHome reports whether a directory lies in a home that a path or document roots above it show.
func (r *recogniser) insideHome(at string) bool {
	up, below := above(at)
	return below && r.m.inHome(up)
}

// user gives whose a panel says that a backup is: by a file of its own in it, by the domains in it, by the name of the source.
func (r *recogniser) user(panel, top, fromFile string) string {
	for _, t := range r.s.told {
		if t.panel == panel && t.top == top {
			return t.user
		}
	}
	for _, dir := range r.m.sorted() {
		if _, ok := r.sub.Domains[path.Base(dir)]; ok && within(dir, top) {
			return r.sub.name()
		}
	}
	return fromFile
}

// pack adds a backup whose home is at one place.
func (r *recogniser) pack(top, panel, what, home string, more ...Place) {
	if !r.insideHome(top) {
		r.packed(what, r.user(panel, top, r.named(panel)), top, home, more...)
	}
}

func (r *recogniser) packed(what, user, top, home string, more ...Place) {
	places, why := r.homePlaces(home, Place{Src: home})
	if user != "" {
		what = fmt.Sprintf("%s of %q", what, user)
	}
	where := fmt.Sprintf("%q", home)
	if home == "" {
		where = "its top"
	}
	r.add(find{rank: rankPackage, src: top, Candidate: Candidate{
		What: what, Places: append(places, more...), Why: fmt.Sprintf("%s: its home is %s%s", what, where, why),
	}}, user)
}

// cpanel adds a package, known by the file of its cpuser data.
func (r *recogniser) cpanel(at string) {
	var users []string
	for _, t := range r.s.told {
		if t.panel == "cpanel" && t.top == at {
			users = append(users, t.user)
		}
	}
	if len(users) == 0 && !cpanelDir(at) || r.m.inHome(at) {
		return
	}
	user := r.named("cpanel")
	if name := cpanelName(path.Base(at)); name != "" {
		user = name
	}
	if len(users) > 0 {
		user = users[0]
		if slices.Contains(users, r.sub.name()) {
			user = r.sub.name()
		}
	}
	r.packed("a cPanel package", user, at, path.Join(at, "homedir"))
}

// directAdmin adds a backup. It keeps the domains' directories and mail beside the rest of the home.
func (r *recogniser) directAdmin(at string) {
	if r.insideHome(at) {
		return
	}
	user := r.user("directadmin", at, r.named("directadmin"))
	home, domains, imap := path.Join(at, "home"), path.Join(at, "domains"), path.Join(at, "imap")
	places, why := r.homePlaces(at, Place{Src: home}, Place{Src: domains, Dst: "domains"}, Place{Src: imap, Dst: "imap"})
	what := "a DirectAdmin backup"
	if user != "" {
		what = fmt.Sprintf("%s of %q", what, user)
	}
	r.add(find{rank: rankPackage, src: at, Candidate: Candidate{
		What: what, Places: places, Why: fmt.Sprintf("%s: its home is in %q, %q and %q%s", what, home, domains, imap, why),
	}}, user)
}

// plesk adds the backup of one subscription, which is called like its domain.
func (r *recogniser) plesk(at string) {
	domain := path.Base(at)
	if up, below := above(at); !below || path.Base(up) != "domains" {
		domain = r.named("plesk")
	}
	user := domain
	if _, ok := r.sub.Domains[domain]; ok || domain == path.Base(r.sub.home()) {
		user = r.sub.name()
	}
	for _, t := range r.s.told {
		if t.panel == "plesk" && t.top == at {
			user = t.user
		}
	}
	r.packed("a Plesk backup", user, at, path.Join(at, "home"))
}

// named gives the account, for Plesk the domain, that the source's own name tells in the form that a panel gives to its
// backups.
func (r *recogniser) named(panel string) string {
	base := r.sub.File
	for _, suffix := range append(slices.Clone(archiveSuffixes), ".zip") {
		if stem, ok := strings.CutSuffix(base, suffix); ok {
			base = stem
		}
	}
	parts := strings.Split(base, ".")
	switch {
	case panel == "cpanel":
		return cpanelName(base)
	case panel == "directadmin" && len(parts) >= 3 && (parts[0] == "user" || parts[0] == "reseller" || parts[0] == "admin"):
		return parts[2]
	case panel == "hestia" && len(parts) >= 2 && len(parts[1]) >= 4 && strings.Trim(parts[1][:4], "0123456789") == "":
		return parts[0]
	case panel == "plesk": // of a domain
		if p := strings.Split(base, "_"); len(p) >= 3 && p[0] == "backup" {
			return p[1]
		}
	}
	return ""
}

// cpanelName gives the account of cpmove-ACCOUNT and backup-TIME_ACCOUNT; its time has an underscore too.
func cpanelName(base string) string {
	if name, ok := strings.CutPrefix(base, "cpmove-"); ok {
		return name
	}
	if rest, ok := strings.CutPrefix(base, "backup-"); ok {
		if p := strings.SplitN(rest, "_", 3); len(p) == 3 {
			return p[2]
		}
	}
	return ""
}
