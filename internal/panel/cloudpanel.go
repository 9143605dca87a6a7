package panel

import (
	"fmt"
	"path"

	"rightful/internal/tree"
)

// CloudPanel keeps its accounts in a database of its own that no other program reads, so they are taken from what it makes
// of them: a user for each site, with /home/USER/htdocs/DOMAIN, and a virtual host of nginx that runs PHP as that user.
const (
	clpApp = "/home/clp/htdocs/app"
)

func detectCloudPanel(s *tree.Server) bool { return stands(s, clpApp) }

func readCloudPanel(r *reader) []claim {
	var claims []claim
	for _, u := range r.out.Users.All() {
		home := path.Clean(u.Home)
		if u.UID < r.out.Users.UIDMin || u.Name == "clp" || u.Name == "clp-admin" || path.Dir(home) != "/home" {
			continue
		}
		// A name in /home says nothing by itself: only a user whose home holds sites is a site's user. Homes are
		// customers', but htdocs is a name that is only looked for, not gone through.
		if st, err := r.s.Lstat(home + "/htdocs"); err != nil || st.Kind.String() != "dir" {
			continue
		}
		if c, ok := r.claimOf("cloudpanel", u.Name, "/etc/passwd", u.Line); ok {
			c.Known = fmt.Sprintf("/etc/passwd: %s/htdocs is there", home)
			claims = append(claims, c)
		}
	}
	r.hosts().giveAll(claims)
	return claims
}
