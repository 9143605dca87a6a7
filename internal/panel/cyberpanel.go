package panel

import (
	"path"
	"slices"
	"strings"

	"rightful/internal/tree"
)

// The files of CyberPanel. Its accounts are the users under which OpenLiteSpeed's virtual hosts run PHP, each with a home
// of the name of its first domain; those files are what is served, and they are read first. The database adds which site
// is whose, what is suspended, and the mailboxes.
const (
	cyberDir      = "/usr/local/CyberCP"
	cyberSettings = cyberDir + "/CyberCP/settings.py"
)

func detectCyberPanel(s *tree.Server) bool { return stands(s, cyberDir) }

func readCyberPanel(r *reader) []claim {
	ls := r.readLiteSpeed()
	index := map[string]int{}
	var claims []claim
	claimOf := func(user, file string) int {
		if i, ok := index[user]; ok {
			return i
		}
		index[user] = -1
		if c, ok := r.claimOf("cyberpanel", user, file, 0); ok {
			index[user] = len(claims)
			claims = append(claims, c)
		}
		return index[user]
	}
	for i := range ls.hosts {
		h := &ls.hosts[i]
		if h.user == "" || h.docroot == "" || h.user == ls.user || h.user == "root" {
			continue // the panel's own, and examples
		}
		if at := claimOf(h.user, h.from.file); at >= 0 {
			site := r.lsSite(h)
			site.Domains = addNames([]string{h.name}, site.Domains...)
			slices.Sort(site.Domains[1:])
			claims[at].addSite(site, h.from)
		}
	}
	text, ok := r.read(cyberSettings, 4<<20, false)
	if !ok {
		return claims
	}
	db, ok := r.database(cyberSettings, cyberCredentials(text))
	if !ok {
		return claims
	}
	defer db.end()
	hosts := r.hosts()
	suspended, live := map[string]bool{}, map[string]bool{}
	owner := map[string]string{} // site's number, user
	for _, row := range db.rows(true, "SELECT id, domain, externalApp, state FROM websiteFunctions_websites ORDER BY domain") {
		domain, user := strings.ToLower(row[1]), row[2]
		if !soundName(domain) || !soundName(user) {
			continue
		}
		owner[row[0]] = user
		if row[3] == "0" {
			suspended[user] = true
		} else {
			live[user] = true
		}
		at := claimOf(user, cyberSettings)
		if at < 0 || hasName(&claims[at], domain) {
			continue
		}
		// The files do not have it: it is suspended, or they were lost.
		c := &claims[at]
		c.addSite(hosts.unserved(c, hosted{name: domain, docroot: path.Clean("/home/" + domain + "/public_html"), php: "lsapi"}), source{file: cyberSettings})
	}
	for _, row := range db.rows(false, "SELECT domain, path, master_id FROM websiteFunctions_childdomains ORDER BY domain") {
		domain, root := strings.ToLower(row[0]), row[1]
		at, ok := index[owner[row[2]]]
		if !ok || at < 0 || !soundName(domain) || hasName(&claims[at], domain) || !path.IsAbs(root) {
			continue
		}
		c := &claims[at]
		c.addSite(hosts.unserved(c, hosted{name: domain, docroot: path.Clean(root), php: "lsapi"}), source{file: cyberSettings})
	}
	boxes := map[string][]string{}
	for _, row := range db.rows(false, "SELECT email FROM e_users ORDER BY email") {
		if _, domain, ok := strings.Cut(strings.ToLower(row[0]), "@"); ok {
			boxes[domain] = append(boxes[domain], strings.ToLower(row[0]))
		}
	}
	for i := range claims {
		c := &claims[i]
		c.Suspended = suspended[c.Name] && !live[c.Name]
		for _, s := range c.Sites {
			for _, d := range s.Domains {
				c.Mailboxes = addNames(c.Mailboxes, boxes[d]...)
			}
		}
	}
	return claims
}

func hasName(c *claim, domain string) bool {
	for _, s := range c.Sites {
		if slices.Contains(s.Domains, domain) {
			return true
		}
	}
	return false
}

// cyberCredentials finds the first database of Django's settings, which is the panel's own: the second is root's.
func cyberCredentials(text string) credentials {
	_, text, _ = strings.Cut(text, "DATABASES")
	kv := assignments(text)
	return credentials{user: kv["USER"], password: kv["PASSWORD"], host: kv["HOST"], name: either2(kv["NAME"], "cyberpanel")}
}
