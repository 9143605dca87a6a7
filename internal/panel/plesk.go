package panel

import (
	"path"
	"slices"
	"strings"

	"rightful/internal/tree"
)

// The files of Plesk. Accounts are in the database psa: the system users of subscriptions. Without it they are the users
// of the group psacln whose homes are below the directory of all virtual hosts, with the sites that the web server's
// configuration has there.
const (
	pleskConf   = "/etc/psa/psa.conf"
	pleskShadow = "/etc/psa/.psa.shadow"
	pleskVhosts = "/var/www/vhosts"
)

func detectPlesk(s *tree.Server) bool { return stands(s, pleskConf) }

func readPlesk(r *reader) []claim {
	vhosts := pleskVhosts
	if text, ok := r.read(pleskConf, 1<<20, true); ok {
		for line := range strings.Lines(text) {
			// "HTTPD_VHOSTS_D /var/www/vhosts": a name, blanks, a value.
			if f := strings.Fields(line); len(f) == 2 && f[0] == "HTTPD_VHOSTS_D" && path.IsAbs(f[1]) {
				vhosts = path.Clean(f[1])
			}
		}
	}
	cred := credentials{user: "admin", name: "psa"}
	if text, ok := r.read(pleskShadow, 1<<16, false); ok {
		cred.password = strings.TrimRight(text, "\r\n")
	}
	hosts := r.hosts()
	var claims []claim
	if db, ok := r.database(pleskShadow, cred); ok {
		defer db.end()
		claims = pleskFromDatabase(db, hosts)
	} else {
		claims = pleskFromPasswd(r, hosts, vhosts)
	}
	r.nestUsers(claims)
	return claims
}

// pleskFromDatabase makes an account of every system user of a subscription. All domains of one user are its sites.
func pleskFromDatabase(db *database, hosts *hosts) []claim {
	r := db.r
	aliases := map[string][]string{}
	for _, row := range db.rows(false, "SELECT a.name, d.name FROM domain_aliases a JOIN domains d ON d.id = a.dom_id ORDER BY a.name") {
		d := strings.ToLower(row[1])
		aliases[d] = append(aliases[d], strings.ToLower(row[0]))
	}
	boxes := map[string][]string{}
	for _, row := range db.rows(false, "SELECT m.mail_name, d.name FROM mail m JOIN domains d ON d.id = m.dom_id ORDER BY m.mail_name") {
		d := strings.ToLower(row[1])
		boxes[d] = append(boxes[d], row[0]+"@"+d)
	}
	index := map[string]int{}
	live := map[string]bool{}
	var claims []claim
	// The domain that a subscription is named after comes first: the others have its number as their webspace.
	for _, row := range db.rows(true, "SELECT d.name, d.status, h.www_root, u.login FROM domains d JOIN hosting h ON h.dom_id = d.id "+
		"JOIN sys_users u ON u.id = h.sys_user_id ORDER BY u.login, d.webspace_id, d.id") {
		domain, status, root, login := strings.ToLower(row[0]), row[1], row[2], row[3]
		if !soundName(domain) || !soundName(login) {
			r.issue(Issue{File: db.file, Problem: Syntax, Msg: "database has domain " + quote(domain) + " of user " + quote(login) + ", which are no names", Fatal: true})
			continue
		}
		i, ok := index[login]
		if !ok {
			c, known := r.claimOf("plesk", login, db.file, 0)
			if !known {
				continue
			}
			c.Known = "database psa, home from passwd"
			i = len(claims)
			index[login] = i
			claims = append(claims, c)
		}
		// Any status but 0 is a suspension of one kind or another.
		live[login] = live[login] || status == "0"
		hosts.add(&claims[i], hosted{name: domain, domains: aliases[domain], docroot: root, from: source{file: db.file}})
		claims[i].Mailboxes = append(claims[i].Mailboxes, boxes[domain]...)
	}
	for i := range claims {
		claims[i].Suspended = !live[claims[i].Name]
	}
	return claims
}

// pleskFromPasswd finds accounts while the database is down.
func pleskFromPasswd(r *reader, hosts *hosts, vhosts string) []claim {
	gid, ok := r.out.Users.GroupID("psacln")
	if !ok {
		r.issue(Issue{File: "/etc/group", Problem: NoUser, Msg: "there is no group psacln, by which Plesk's accounts are known", Fatal: true})
		return nil
	}
	var claims []claim
	seen := map[uint32]bool{}
	for _, u := range r.out.Users.All() {
		// Only what stands right below is a subscription's: further FTP users and web users have homes inside one.
		if u.GID != gid || path.Dir(path.Clean(u.Home)) != vhosts || seen[u.UID] {
			continue
		}
		seen[u.UID] = true
		if c, ok := r.claimOf("plesk", u.Name, "/etc/passwd", u.Line); ok {
			c.Known = "/etc/passwd: group psacln, home below " + vhosts
			claims = append(claims, c)
		}
	}
	hosts.giveAll(claims)
	return claims
}

// giveAll gives every document root that virtual hosts name to the account in whose home it lies.
func (h *hosts) giveAll(claims []claim) {
	homes := newHomes(claims)
	seen := map[string]bool{}
	give := func(name string, names []string, root string, from source) {
		i := homes.find(root)
		if i < 0 || name == "" || seen[root] || root == path.Clean(claims[i].Home) {
			return
		}
		seen[root] = true
		h.add(&claims[i], hosted{name: name, domains: names, docroot: root, from: from})
	}
	for _, c := range h.r.out.Apache {
		for i := range c.VHosts {
			v := &c.VHosts[i]
			give(v.ServerName, v.Aliases, v.DocRoot, source{v.File, v.Line})
		}
	}
	for _, c := range h.r.out.Nginx {
		for i := range c.Servers {
			v := &c.Servers[i]
			if names := v.Domains(); len(names) > 0 && v.Root != "" {
				give(names[0], names, v.Root, source{v.File, v.Line})
			}
		}
	}
	for i := range claims {
		c := &claims[i]
		if len(c.Sites) > 0 {
			c.Known += ", virtual hosts in " + c.from[0].file
		}
	}
}

// nestUsers finds the users whose homes are inside an account's home: web users.
func (r *reader) nestUsers(claims []claim) {
	homes := newHomes(claims)
	for _, u := range r.out.Users.All() {
		home := path.Clean(u.Home)
		i := homes.find(home)
		if i < 0 || u.UID == claims[i].UID || u.UID < r.out.Users.UIDMin || home == path.Clean(claims[i].Home) {
			continue
		}
		if slices.ContainsFunc(docRoots(&claims[i]), func(root string) bool { return Within(root, home) || Within(home, root) }) {
			continue
		}
		claims[i].Nested = append(claims[i].Nested, Nested{Dir: home, UID: u.UID, GID: u.GID})
	}
}
