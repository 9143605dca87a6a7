package panel

import (
	"path"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/web"
)

// userDirs is what mod_userdir's UserDir directives say: http://any.name/~alice/ is a directory of alice's.
type userDirs struct {
	dirs          []string // in the order of trying: "public_html", "/home/*/www", "/var/www"
	all           bool     // everybody has one who is not disabled
	enabled, shut map[string]bool
	from          source
}

// userDirsOf collects the directives of the main server; those of a virtual host count for its own names only, and no
// server is known to have any.
func userDirsOf(c *web.ApacheConfig) (u userDirs) {
	u.all, u.enabled, u.shut = true, map[string]bool{}, map[string]bool{}
	if !c.Has("userdir_module") {
		return u
	}
	for i := range c.Default.Body {
		d := &c.Default.Body[i]
		if !d.Is("UserDir") || len(d.Args) == 0 {
			continue
		}
		u.from = source{d.File, d.Line}
		switch names := d.Args[1:]; strings.ToLower(d.Args[0]) {
		case "disabled":
			if len(names) == 0 {
				u.all = false
			}
			for _, n := range names {
				u.shut[n] = true
			}
		case "enabled":
			for _, n := range names {
				u.enabled[n] = true
			}
		default:
			u.dirs = nil
			for _, dir := range d.Args {
				if !strings.Contains(dir, "://") { // a redirect
					u.dirs = append(u.dirs, dir)
				}
			}
		}
	}
	return u
}

// of lists where a user's directory may be, in order.
func (u *userDirs) of(name, home string) (roots []string) {
	if u.shut[name] || !u.all && !u.enabled[name] {
		return nil
	}
	for _, dir := range u.dirs {
		switch {
		case slices.Contains(strings.Split(dir, "/"), ".."):
		case !path.IsAbs(dir):
			roots = append(roots, path.Clean(home+"/"+dir))
		case strings.Contains(dir, "*"):
			roots = append(roots, path.Clean(strings.Replace(dir, "*", name, 1)))
		default:
			roots = append(roots, path.Clean(dir+"/"+name))
		}
	}
	return roots
}

// userDirSites gives every account the site that mod_userdir makes of its directory, where there is one. Such a site has no
// name of its own: it answers below every name of the server, as ~alice.
func (r *reader) userDirSites(claims []claim) {
	for _, c := range r.out.Apache {
		u := userDirsOf(c)
		if len(u.dirs) == 0 {
			continue
		}
		main := c.Default
		for i := range claims {
			for _, root := range u.of(claims[i].Name, claims[i].Home) {
				st, err := r.s.Stat(root)
				if err != nil || st.Kind != rightful.KindDir || SystemDir(root) {
					continue
				}
				if !slices.Contains(docRoots(&claims[i]), root) {
					main.DocRoot = root
					site := rightful.Site{Name: "~" + claims[i].Name, Domains: []string{}, DocRoot: root}
					r.serve(&site, c, &main)
					if r.out.Facts["suexec"] {
						// suEXEC runs what is below a user's directory as that user (mod_userdir's hook).
						site.CGIAs = rightful.Identity{UID: claims[i].UID, GIDs: r.out.Users.Groups(claims[i].Name)}
					}
					claims[i].addSite(site, u.from)
				}
				break
			}
		}
	}
}
