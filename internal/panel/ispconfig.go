package panel

import (
	"path"
	"slices"
	"strings"

	"rightful/internal/tree"
)

// The files of ISPConfig 3. Accounts are the system users of web sites in its database ("web7", in the group of their
// customer, "client3"). Without it they are the users of such names whose homes are below ispClients.
const (
	ispConf    = "/usr/local/ispconfig/server/lib/config.inc.php"
	ispClients = "/var/www/clients"
)

func detectISPConfig(s *tree.Server) bool { return stands(s, ispConf) }

func readISPConfig(r *reader) []claim {
	text, _ := r.read(ispConf, 1<<20, true)
	conf := ispSettings(text)
	cred := credentials{user: conf["db_user"], password: conf["db_password"], host: conf["db_host"], name: either2(conf["db_database"], "dbispconfig")}
	hosts := r.hosts()
	if db, ok := r.database(ispConf, cred); ok {
		defer db.end()
		return ispFromDatabase(db, hosts)
	}
	var claims []claim
	for _, u := range r.out.Users.All() {
		if !numbered(u.Name, "web") || !numbered(r.out.Users.GroupName(u.GID), "client") || !Within(path.Clean(u.Home), ispClients) {
			continue
		}
		if c, ok := r.claimOf("ispconfig", u.Name, "/etc/passwd", u.Line); ok {
			c.Known = "/etc/passwd: a web user of a client's group"
			claims = append(claims, c)
		}
	}
	hosts.giveAll(claims)
	ispNames(hosts, claims)
	return claims
}

// ispNames gives the virtual hosts that name a site by the link of its domain, /var/www/DOMAIN/web.
func ispNames(h *hosts, claims []claim) {
	homes := newHomes(claims)
	for _, c := range h.r.out.Apache {
		for i := range c.VHosts {
			v := &c.VHosts[i]
			if v.DocRoot == "" || v.ServerName == "" {
				continue
			}
			root := h.resolved(v.DocRoot)
			if at := homes.find(root); at >= 0 && root != v.DocRoot && !slices.Contains(docRoots(&claims[at]), root) {
				h.add(&claims[at], hosted{name: v.ServerName, domains: v.Aliases, docroot: root, from: source{v.File, v.Line}})
			}
		}
	}
}

// ispSettings reads $conf['KEY'] = 'value'; lines.
func ispSettings(text string) map[string]string {
	var own strings.Builder
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		if strings.HasPrefix(strings.TrimSpace(line), "$conf[") {
			own.WriteString(line)
		}
	}
	return assignments(own.String())
}

// numbered reports whether a name is a word and a number: "web7".
func numbered(name, word string) bool {
	n, ok := strings.CutPrefix(name, word)
	return ok && n != "" && strings.Trim(n, "0123456789") == ""
}

// ispFromDatabase makes an account of every system user of a web site.
func ispFromDatabase(db *database, hosts *hosts) []claim {
	r := db.r
	for _, row := range db.rows(false, "SELECT config FROM server WHERE web_server = 1") {
		if strings.TrimSpace(iniValue(row[0], "web", "security_level")) == "10" {
			r.out.Facts["security-level-10"] = true
		}
	}
	names := map[string][]string{} // of a site's number
	for _, row := range db.rows(false, "SELECT parent_domain_id, domain FROM web_domain WHERE type IN ('alias', 'subdomain') AND active = 'y' ORDER BY domain") {
		names[row[0]] = append(names[row[0]], strings.ToLower(row[1]))
	}
	boxes := map[string][]string{}
	for _, row := range db.rows(false, "SELECT email FROM mail_user ORDER BY email") {
		if _, domain, ok := strings.Cut(strings.ToLower(row[0]), "@"); ok {
			boxes[domain] = append(boxes[domain], strings.ToLower(row[0]))
		}
	}
	index, live := map[string]int{}, map[string]bool{}
	var claims []claim
	for _, row := range db.rows(true, "SELECT domain_id, domain, document_root, web_folder, system_user, system_group, php, active, type "+
		"FROM web_domain WHERE type IN ('vhost', 'vhostsubdomain', 'vhostalias') ORDER BY system_user, type = 'vhost' DESC, domain_id") {
		id, domain, root, folder, user, group := row[0], strings.ToLower(row[1]), row[2], row[3], row[4], row[5]
		if !soundName(domain) || !soundName(user) {
			r.issue(Issue{File: db.file, Problem: Syntax, Msg: "database has site " + quote(domain) + " of user " + quote(user) + ", which are no names", Fatal: true})
			continue
		}
		i, ok := index[user]
		if !ok {
			c, known := r.claimOf("ispconfig", user, db.file, 0)
			if !known {
				continue
			}
			if gid, ok := r.out.Users.GroupID(group); !ok || gid != c.GID {
				r.issue(Issue{File: db.file, Problem: Syntax, Account: user, Msg: "group of " + quote(user) + " is " + quote(group) + " in the database, but " + quote(r.out.Users.GroupName(c.GID)) + " in passwd"})
			}
			c.Known = "database table web_domain, home from passwd"
			i = len(claims)
			index[user] = i
			claims = append(claims, c)
		}
		live[user] = live[user] || row[7] == "y"
		hosts.add(&claims[i], hosted{
			name: domain, domains: names[id], docroot: root + "/" + either2(strings.Trim(folder, "/"), "web"), php: ispPHP(row[6]), from: source{file: db.file},
		})
		for _, n := range append([]string{domain}, names[id]...) {
			claims[i].Mailboxes = addNames(claims[i].Mailboxes, boxes[n]...)
		}
	}
	for i := range claims {
		claims[i].Suspended = !live[claims[i].Name]
	}
	return claims
}

// ispPHP is a PHP mode in our words.
func ispPHP(mode string) string {
	switch mode {
	case "no":
		return "none"
	case "php-fpm", "hhvm":
		return "fpm"
	case "fast-cgi":
		return "fcgid"
	case "mod":
		return "dso"
	case "cgi", "suphp":
		return mode
	}
	return "unknown"
}

// iniValue finds a key in a section.
func iniValue(text, section, key string) string {
	in := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			in = line == "["+section+"]"
			continue
		}
		if k, v, ok := strings.Cut(line, "="); ok && in && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
