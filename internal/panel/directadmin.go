package panel

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"rightful/internal/tree"
)

// The files of DirectAdmin. An account is a directory of daUsers with a user.conf that passwd knows too: the panel's own
// rule (set_permissions.sh).
const (
	daConf    = "/usr/local/directadmin/conf/directadmin.conf"
	daOptions = "/usr/local/directadmin/custombuild/options.conf"
	daUsers   = "/usr/local/directadmin/data/users"
	daOwners  = "/etc/virtual/domainowners"
	daVirtual = "/etc/virtual"
)

func detectDirectAdmin(s *tree.Server) bool { return stands(s, daUsers) }

// directAdmin is what all accounts share.
type directAdmin struct {
	r     *reader
	hosts *hosts
	php   string // the handler of the first PHP, where no virtual host tells
}

func readDirectAdmin(r *reader) []claim {
	d := &directAdmin{r: r, hosts: r.hosts()}
	d.settings()
	owners := map[string]string{}
	if text, ok := r.read(daOwners, 256<<20, false); ok {
		owners = keyed(text, ":")
	}
	var claims []claim
	claimed := map[string]string{} // domain, account
	for _, name := range slices.Sorted(maps.Keys(r.names(daUsers, true))) {
		file := daUsers + "/" + name + "/user.conf"
		text, ok := r.readAccount(file, name)
		if !ok || !soundName(name) {
			continue
		}
		conf := keyValues(text)
		if u := conf["username"]; u != "" && u != name {
			r.issue(Issue{File: file, Problem: Syntax, Account: name, Fatal: true, Msg: fmt.Sprintf("file says username=%s", u)})
			continue
		}
		c, ok := r.claimOf("directadmin", name, file, 0)
		if !ok {
			continue
		}
		if Within(c.Home, "/dev") {
			continue // accounts of backup plugins have no home to look after
		}
		c.Suspended = yes(conf["suspended"])
		for _, domain := range d.domains(name, conf["domain"]) {
			if o := owners[domain]; o != "" && o != name {
				r.issue(Issue{
					File: daOwners, Problem: Syntax, Account: name, Fatal: true,
					Msg: fmt.Sprintf("domain %q is in the list of %q, but belongs to %q here", domain, name, o),
				})
				continue
			}
			if o := claimed[domain]; o != "" {
				r.issue(Issue{
					File: daUsers + "/" + name + "/domains.list", Problem: Syntax, Account: name, Fatal: true,
					Msg: fmt.Sprintf("domain %q is in the list of %q too", domain, o),
				})
				continue
			}
			claimed[domain] = name
			d.domain(&c, domain)
		}
		claims = append(claims, c)
	}
	users := map[string]bool{}
	for _, c := range claims {
		users[c.Name] = true
	}
	for _, domain := range slices.Sorted(maps.Keys(owners)) {
		if o := owners[domain]; !users[o] {
			r.issue(Issue{
				File: daOwners, Problem: Leftover, Account: o,
				Msg: fmt.Sprintf("domain %q belongs to %q, which is not an account", domain, o),
			})
		}
	}
	return claims
}

// settings reads what the rules and the sites of all accounts depend on.
func (d *directAdmin) settings() {
	r := d.r
	if text, ok := r.read(daConf, 1<<20, false); ok {
		if group := keyValues(text)["secure_access_group"]; group != "" {
			gid, ok := r.out.Users.GroupID(group)
			if !ok {
				r.issue(Issue{File: daConf, Problem: NoUser, Msg: fmt.Sprintf("secure_access_group=%s: there is no such group", group)})
			} else {
				r.out.Facts["access-group"] = true
				r.out.alias("access", gid)
			}
		}
	}
	if text, ok := r.read(daOptions, 1<<20, false); ok {
		switch conf := keyValues(text); conf["php1_mode"] {
		case "php-fpm", "":
		case "lsphp":
			d.php = "lsapi"
		case "fastcgi":
			d.php = "fcgid"
		case "suphp":
			d.php = "suphp"
		case "mod_php":
			d.php = "dso"
			if yes(conf["mod_ruid2"]) {
				d.php = "ruid2"
			}
		default:
			d.php = "unknown"
		}
	}
}

// domains lists the domains of an account, the main one first.
func (d *directAdmin) domains(name, main string) []string {
	file := daUsers + "/" + name + "/domains.list"
	text, ok := d.r.readAccount(file, name)
	var all []string
	if main = strings.ToLower(main); soundName(main) {
		all = append(all, main)
	}
	if !ok {
		return all
	}
	list := words(text)
	listed := slices.Contains(list, main)
	for _, n := range list {
		if !soundName(n) {
			d.r.issue(Issue{File: file, Problem: Syntax, Account: name, Fatal: true, Msg: fmt.Sprintf("%q is not a domain", n)})
			continue
		}
		all = addNames(all, n)
	}
	if len(all) > 0 && main != "" && !listed {
		// A default domain that the list has not is what is left of one that was deleted.
		all = slices.DeleteFunc(all, func(n string) bool { return n == main })
	}
	return all
}

// domain adds the sites of one domain: its own, and one for each subdomain.
func (d *directAdmin) domain(c *claim, domain string) {
	dir := daUsers + "/" + c.Name + "/domains/"
	from := source{file: dir + domain + ".conf"}
	if text, ok := d.r.readAccount(from.file, c.Name); ok {
		if named := strings.ToLower(keyValues(text)["domain"]); named != "" && named != domain {
			d.r.issue(Issue{File: from.file, Problem: Syntax, Account: c.Name, Fatal: true, Msg: fmt.Sprintf("file says domain=%s", named)})
			return
		}
	}
	root := c.Home + "/domains/" + domain + "/public_html"
	names := []string{domain}
	if text, ok := d.r.read(dir+domain+".pointers", 16<<20, false); ok {
		// "pointer.example=alias", or the name alone in old files.
		for _, n := range words(text) {
			n, _, _ = strings.Cut(n, "=")
			names = addNames(names, n)
		}
	}
	d.hosts.add(c, hosted{name: domain, domains: names, docroot: root, php: d.php, from: from})
	c.Mailboxes = append(c.Mailboxes, d.mailboxes(domain)...)
	if text, ok := d.r.read(dir+domain+".subdomains", 16<<20, false); ok {
		for _, sub := range words(text) {
			if !soundName(sub) {
				continue
			}
			d.hosts.add(c, hosted{
				name: sub + "." + domain, docroot: root + "/" + sub, php: d.php, from: source{file: dir + domain + ".subdomains"},
			})
		}
	}
}

// mailboxes lists the mailboxes of a domain: "user:hash" lines outside every home.
func (d *directAdmin) mailboxes(domain string) (out []string) {
	text, ok := d.r.read(daVirtual+"/"+domain+"/passwd", 64<<20, false)
	if !ok {
		return nil
	}
	for _, user := range slices.Sorted(maps.Keys(keyed(text, ":"))) {
		out = append(out, user+"@"+domain)
	}
	return out
}
