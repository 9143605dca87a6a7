package panel

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"rightful/internal/tree"
)

// HestiaCP, and VestaCP and myVesta, which it comes from, keep the same files below different directories. An account is
// a directory of data/users with a user.conf that passwd knows too.
const (
	hestiaDir  = "/usr/local/hestia"
	vestaDir   = "/usr/local/vesta"
	myVestaFix = vestaDir + "/bin/v-fix-website-permissions" // only myVesta has it
	sshdConf   = "/etc/ssh/sshd_config"
)

func detectHestia(s *tree.Server) bool { return stands(s, hestiaDir+"/data/users") }

func detectVesta(s *tree.Server) bool {
	return stands(s, vestaDir+"/data/users") && !stands(s, myVestaFix)
}

func detectMyVesta(s *tree.Server) bool {
	return stands(s, vestaDir+"/data/users") && stands(s, myVestaFix)
}

// stands reports whether there is anything at a path.
func stands(s *tree.Server, name string) bool {
	_, err := s.Stat(name)
	return err == nil
}

func readHestia(r *reader) []claim { return readVestaLike(r, "hestia", hestiaDir, "hestia.conf") }

func readVesta(r *reader) []claim { return readVestaLike(r, "vesta", vestaDir, "vesta.conf") }

func readMyVesta(r *reader) []claim { return readVestaLike(r, "myvesta", vestaDir, "vesta.conf") }

func readVestaLike(r *reader, panel, dir, settings string) []claim {
	php := "unknown" // a template's business, where PHP-FPM is not the backend
	if text, ok := r.read(dir+"/conf/"+settings, 1<<20, false); ok {
		conf := quoted(text)
		if conf["WEB_BACKEND"] == "php-fpm" {
			php = "fpm"
		}
		if yes(conf["DOMAINDIR_WRITABLE"]) {
			r.out.Facts["domaindir-writable"] = true
		}
	}
	jailed := r.jailed()
	hosts := r.hosts()
	users := dir + "/data/users"
	owner := map[string]string{}
	var claims []claim
	for _, name := range slices.Sorted(maps.Keys(r.names(users, true))) {
		file := users + "/" + name + "/user.conf"
		if !soundName(name) {
			continue
		}
		text, ok := r.readAccount(file, name)
		if !ok {
			continue
		}
		c, ok := r.claimOf(panel, name, file, 0)
		if !ok {
			continue
		}
		c.Suspended = yes(quoted(text)["SUSPENDED"])
		if jailed[name] {
			c.Facts = map[string]bool{"sftp-jail": true}
		}
		r.vestaSites(&c, hosts, users+"/"+name, php, owner)
		r.vestaMail(&c, users+"/"+name)
		claims = append(claims, c)
	}
	return claims
}

// jailed lists the users of SFTP jails: those of Hestia's section in sshd's configuration, and the group of older ones.
func (r *reader) jailed() map[string]bool {
	set := map[string]bool{}
	if text, ok := r.read(sshdConf, 1<<20, false); ok {
		for line := range strings.Lines(text) {
			f := strings.Fields(line)
			if len(f) > 2 && strings.EqualFold(f[0], "Match") && strings.EqualFold(f[1], "User") {
				for n := range strings.SplitSeq(f[2], ",") {
					set[n] = strings.Contains(f[2], "sftp_dummy")
				}
			}
		}
	}
	if gid, ok := r.out.Users.GroupID("sftp-only"); ok {
		for _, u := range r.out.Users.All() {
			if slices.Contains(r.out.Users.Groups(u.Name), gid) {
				set[u.Name] = true
			}
		}
	}
	return set
}

// vestaSites adds the sites of web.conf, one line each. A domain that two lines name is given to the first.
func (r *reader) vestaSites(c *claim, hosts *hosts, dir, php string, owner map[string]string) {
	file := dir + "/web.conf"
	text, ok := r.read(file, 64<<20, false)
	if !ok {
		return
	}
	n := 0
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		n++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		v := quoted(line)
		domain := strings.ToLower(v["DOMAIN"])
		if !soundName(domain) {
			r.issue(Issue{File: file, Line: n, Problem: Syntax, Account: c.Name, Msg: "line has no DOMAIN='…'", Fatal: true})
			continue
		}
		if o, taken := owner[domain]; taken {
			r.issue(Issue{
				File: file, Line: n, Problem: Syntax, Account: c.Name, Fatal: true,
				Msg: fmt.Sprintf("domain %q is there twice: it is already one of %q", domain, o),
			})
			continue
		}
		owner[domain] = c.Name
		root := c.Home + "/web/" + domain + "/public_html"
		if v["CUSTOM_DOCROOT"] != "" {
			root = v["CUSTOM_DOCROOT"]
		}
		names := strings.FieldsFunc(strings.ToLower(v["ALIAS"]), func(r rune) bool { return r == ',' || r == ' ' })
		hosts.add(c, hosted{name: domain, domains: names, docroot: root, php: php, from: source{file, n}})
	}
}

// vestaMail lists the mailboxes: one line each in the file of their domain.
func (r *reader) vestaMail(c *claim, dir string) {
	text, ok := r.read(dir+"/mail.conf", 64<<20, false)
	if !ok {
		return
	}
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		domain := strings.ToLower(quoted(line)["DOMAIN"])
		if !soundName(domain) {
			continue
		}
		boxes, ok := r.read(dir+"/mail/"+domain+".conf", 64<<20, false)
		if !ok {
			continue
		}
		for box := range strings.Lines(boxes) {
			if n := quoted(box)["ACCOUNT"]; soundName(n) {
				c.Mailboxes = append(c.Mailboxes, n+"@"+domain)
			}
		}
	}
}

// quoted reads KEY='value' pairs, on one line or many, as the shell would without expanding anything. A value ends at the
// next quote; the first of two of the same key counts, and what is no pair is passed over.
func quoted(text string) map[string]string {
	kv := map[string]string{}
	text = strings.TrimPrefix(text, "\ufeff")
	for {
		before, rest, ok := strings.Cut(text, "='")
		if !ok {
			return kv
		}
		value, after, ok := strings.Cut(rest, "'")
		if !ok {
			return kv
		}
		key := before[strings.LastIndexAny(before, " \t\r\n")+1:]
		if _, twice := kv[key]; !twice && key != "" {
			kv[key] = value
		}
		text = after
	}
}
