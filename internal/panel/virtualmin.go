package panel

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"rightful/internal/tree"
)

// The files of Virtualmin. Every virtual server is a file of vmDomains, named by its number. A top-level server with a
// user is an account; the sub-servers below it are its sites, and aliases are names of other servers.
const (
	vmDomains = "/etc/webmin/virtual-server/domains"
	vmPostfix = "/etc/postfix/virtual"
)

func detectVirtualmin(s *tree.Server) bool { return stands(s, vmDomains) }

// vmDomain is one virtual server.
type vmDomain struct {
	id, file, name, user, home, root, parent, alias, subdom, php string
	unix, web, disabled                                          bool
	names                                                        []string // of aliases
}

func readVirtualmin(r *reader) []claim {
	domains := r.vmDomains()
	hosts := r.hosts()
	top := map[string]int{} // domain id, place in claims
	var claims []claim
	ids := slices.SortedFunc(maps.Keys(domains), func(a, b string) int { return strings.Compare(domains[a].name, domains[b].name) })
	for _, id := range ids {
		d := domains[id]
		if d.parent != "" || d.alias != "" || d.subdom != "" || !d.unix {
			continue
		}
		c, ok := r.claimOf("virtualmin", d.user, d.file, 0)
		if !ok {
			continue
		}
		if d.home != "" && path.Clean(d.home) != path.Clean(c.Home) {
			r.issue(Issue{
				File: d.file, Problem: Syntax, Account: d.user, Fatal: true,
				Msg: fmt.Sprintf("home of %q is %q here, but %q in passwd", d.user, d.home, c.Home),
			})
			continue
		}
		c.Suspended = d.disabled
		top[id] = len(claims)
		claims = append(claims, c)
	}
	// The top-level server first, then its sub-servers by name.
	slices.SortStableFunc(ids, func(a, b string) int { return boolRank(domains[a].parent != "") - boolRank(domains[b].parent != "") })
	for _, id := range ids {
		d := domains[id]
		if d.alias != "" {
			continue
		}
		of := d.above(domains)
		i, ok := top[of]
		if !ok {
			if d.parent != "" && domains[of] == nil {
				r.issue(Issue{File: d.file, Problem: Leftover, Msg: fmt.Sprintf("virtual server %q is below %q, which does not exist", d.name, d.parent)})
			}
			continue
		}
		if d.web && d.root != "" {
			hosts.add(&claims[i], hosted{name: d.name, domains: d.names, docroot: d.root, php: d.php, from: source{file: d.file}})
		}
	}
	r.vmMailboxes(claims)
	return claims
}

// above is the number of the top-level server that a server is part of; the steps are bounded, as the files may form a circle.
func (d *vmDomain) above(all map[string]*vmDomain) string {
	for range 8 {
		up := d.parent
		if up == "" {
			up = d.subdom
		}
		if up == "" || all[up] == nil {
			return either2(up, d.id)
		}
		d = all[up]
	}
	return ""
}

// vmDomains reads all virtual servers. Aliases become names of their target.
func (r *reader) vmDomains() map[string]*vmDomain {
	all := map[string]*vmDomain{}
	byName := map[string]*vmDomain{}
	for _, id := range slices.Sorted(maps.Keys(r.names(vmDomains, true))) {
		if strings.Trim(id, "0123456789") != "" {
			continue // an editor's or a package manager's copy
		}
		file := vmDomains + "/" + id
		text, ok := r.read(file, 1<<20, true)
		if !ok {
			continue
		}
		kv := keyValues(text)
		d := &vmDomain{
			id: id, file: file, name: strings.ToLower(kv["dom"]), user: kv["user"], home: kv["home"], root: kv["public_html_path"],
			parent: kv["parent"], alias: kv["alias"], subdom: kv["subdom"],
			unix: kv["unix"] == "1", web: kv["web"] == "1" || kv["virtualmin-nginx"] == "1", disabled: kv["disabled"] != "",
		}
		switch mode := kv["php_mode"]; mode {
		case "fcgid", "cgi", "fpm", "none":
			d.php = mode
		case "mod_php":
			d.php = "dso"
		}
		if d.root == "" && d.home != "" {
			d.root = d.home + "/" + either2(kv["public_html_dir"], "public_html")
		}
		if !soundName(d.name) || d.alias == "" && !soundName(d.user) {
			r.issue(Issue{File: file, Problem: Syntax, Msg: "file has no dom= or user= that is a name", Fatal: true})
			continue
		}
		if o := byName[d.name]; o != nil {
			r.issue(Issue{File: file, Problem: Syntax, Account: d.user, Msg: fmt.Sprintf("virtual server %q is in %s too", d.name, o.file), Fatal: true})
			continue
		}
		byName[d.name] = d
		all[id] = d
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		d := all[id]
		if d.alias == "" {
			continue
		}
		if to := all[d.alias]; to != nil && to.alias == "" {
			to.names = append(to.names, d.name)
		} else {
			r.issue(Issue{File: d.file, Problem: Leftover, Msg: fmt.Sprintf("virtual server %q is an alias of %q, which does not exist", d.name, d.alias)})
		}
	}
	return all
}

// vmMailboxes finds the mailboxes: users of their own in the group of the account's user, with homes inside its home. The
// addresses are those that Postfix delivers to them.
func (r *reader) vmMailboxes(claims []claim) {
	addresses := map[string][]string{}
	if text, ok := r.read(vmPostfix, 256<<20, false); ok {
		for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
			f := strings.Fields(line)
			if len(f) == 2 && strings.Contains(f[0], "@") && f[0][0] != '@' && f[0][0] != '#' {
				// The at sign of a login is written as a dash where the mail server needs it.
				addresses[f[1]] = append(addresses[f[1]], strings.ToLower(f[0]))
			}
		}
	}
	byGID := map[uint32][]int{}
	for i := range claims {
		byGID[claims[i].GID] = append(byGID[claims[i].GID], i)
	}
	for _, u := range r.out.Users.All() {
		for _, i := range byGID[u.GID] {
			c := &claims[i]
			home := path.Clean(u.Home)
			if u.UID == c.UID || u.UID < r.out.Users.UIDMin || home == path.Clean(c.Home) || !Within(home, path.Clean(c.Home)) {
				continue
			}
			if slices.ContainsFunc(docRoots(c), func(root string) bool { return Within(root, home) || Within(home, root) }) {
				continue
			}
			c.Nested = append(c.Nested, Nested{Dir: home, UID: u.UID, GID: u.GID})
			c.Mailboxes = append(c.Mailboxes, addresses[u.Name]...)
			c.Mailboxes = append(c.Mailboxes, addresses[strings.ReplaceAll(u.Name, "@", "-")]...)
		}
	}
	for i := range claims {
		slices.Sort(claims[i].Mailboxes)
		claims[i].Mailboxes = slices.Compact(claims[i].Mailboxes)
	}
}
