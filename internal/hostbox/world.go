package hostbox

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"rightful"
)

// firstUID is alice's; the others follow, one by one.
const firstUID = 20001

// A world is what a box of some size holds, before any of it is written: who lives there, and which sites they have.
type world struct {
	panel    string
	mail     bool                  // a mail server, and homes with what only homes have
	clocks   map[string]*mailClock // of every domain with mailboxes
	nginx    bool                  // a plain server with nginx in Apache's place
	form     shape                 // of another panel
	addr     [4]byte               // where most sites are asked
	public   [4]byte               // an address besides those of the loopback
	hosts    map[string]*site
	web      rightful.Identity
	webUser  string
	webGroup string
	accounts []*account
}

type account struct {
	panel string
	name  string
	uid   int // and the gid of the group of the same name
	gid   int // of its primary group, which is that one but for Plesk
	home  string
	sites []*site
	cgi   bool // it has CGI scripts, run by suEXEC
	fcgid bool // its PHP runs by mod_fcgid under suEXEC, and it has no pool
}

// A site's kind is cPanel's: main, sub or addon. A plain server makes no difference between them.
type site struct {
	kind    string
	host    string   // ServerName
	aliases []string // ServerAlias
	addon   string   // the domain that an addon's subdomain backs
	parked  []string // further domains of a main site
	docroot string
	linkTo  string // where docroot is a link: its target, relative to the docroot's directory
	variant int    // of the contents
	tls     bool   // it answers on port 443 too
	moved   bool   // port 80 only redirects to 443
	own     bool   // it has the public address to itself
	both    bool   // it answers on the public address too
}

var names = [...]string{
	"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "kim", "leo",
}

func newWorld(panel string, n int) *world {
	w := &world{panel: panel, hosts: map[string]*site{}}
	if panel == "nginx" {
		w.panel, w.nginx = "plain", true
	}
	w.form, _ = shapeOf(panel)
	w.nginx = w.nginx || w.form.nginx
	switch panel {
	case "cpanel":
		w.addr = [4]byte{192, 0, 2, 10}
		w.public = w.addr
		w.webUser, w.webGroup = "nobody", "nobody"
		w.web = rightful.Identity{UID: 99, GIDs: []uint32{99}}
	default:
		w.addr = [4]byte{127, 0, 0, 1}
		w.public = [4]byte{192, 0, 2, 20}
		w.webUser, w.webGroup = "www-data", "www-data"
		w.web = rightful.Identity{UID: 33, GIDs: []uint32{33}}
		if w.form.webIn == "panel" {
			w.web.GIDs = append(w.web.GIDs, panelGroup)
		}
		if w.form.webIn == "users" {
			for i := range n {
				w.web.GIDs = append(w.web.GIDs, uint32(firstUID+i))
			}
		}
	}
	for i := range n {
		name := fmt.Sprintf("user%04d", i+1)
		if i < len(names) {
			name = names[i]
		}
		a := newAccount(w.panel, name, i)
		if w.nginx {
			a.cgi, a.fcgid = false, false
		}
		w.accounts = append(w.accounts, a)
		for _, s := range a.sites {
			for _, d := range s.domains() {
				w.hosts[d] = s
			}
		}
	}
	return w
}

// withMail gives the accounts mailboxes.
func (w *world) withMail() {
	w.mail, w.clocks = true, map[string]*mailClock{}
	for _, a := range w.accounts {
		for _, domain := range a.mailDomains() {
			w.clocks[domain] = &mailClock{}
		}
	}
}

func newAccount(panel, name string, i int) *account {
	a := &account{panel: panel, name: name, uid: firstUID + i, gid: firstUID + i, home: "/home/" + name, cgi: panel == "cpanel" || name == "carol"}
	if form, ok := shapeOf(panel); ok {
		a.shaped(form)
		return a
	}
	a.fcgid = panel == "plain" && name == "kim"
	if name == "dave" {
		a.home, a.cgi = "/home2/"+name, false // suEXEC stays below /home
	}
	a.add(&site{kind: "main", host: name + ".example", docroot: a.home + "/public_html", variant: i})
	main := a.sites[0]
	sub := func(label, docroot string) {
		a.add(&site{kind: "sub", host: label + "." + main.host, docroot: docroot, variant: i + len(label)})
	}
	addon := func(label, docroot string) {
		a.add(&site{
			kind: "addon", host: label + "." + main.host, addon: label + ".example", docroot: docroot, variant: i + len(label),
		})
	}
	switch name {
	case "alice":
		main.parked = []string{"alice-parked.example"}
		sub("blog", a.home+"/public_html/blog")
		addon("alice-shop", a.home+"/alice-shop.example")
	case "bob":
		sub("album", a.home+"/public_html/my site")
		main.own, a.sites[1].both = panel == "plain", panel == "plain"
	case "erin":
		sub("dev", a.home+"/sites/dev")
	case "frank":
		if panel == "plain" {
			main.linkTo = "releases/7"
		}
	case "grace":
		main.parked = []string{"grace-parked.example"}
		if panel == "plain" {
			sub("archive", "/srv/www/grace-archive")
		}
	case "heidi":
		if panel == "plain" {
			main.tls, main.moved = true, true
		}
	case "ivan":
		sub("forum", a.home+"/public_html/forum")
	case "judy":
		addon("judy-cakes", a.home+"/public_html/judy-cakes.example")
	default:
		if i >= len(names) && i%3 == 0 {
			sub("blog", a.home+"/public_html/blog")
		}
	}
	return a
}

// shaped makes the account one of another panel's: the main site, and what three of them have besides.
func (a *account) shaped(form shape) {
	host := a.name + ".example"
	a.home = form.home(a.name, host)
	if a.panel == "plesk" {
		a.gid = clientGroup
	}
	a.cgi = a.cgi && strings.HasPrefix(a.home, "/home/") // suEXEC stays below /home
	i := a.uid - firstUID
	a.add(&site{kind: "main", host: host, docroot: form.main(a, host, ""), variant: i})
	switch a.name {
	case "alice":
		sub := "blog." + host
		a.add(&site{kind: "sub", host: sub, docroot: form.sub(a, sub, "blog"), variant: i + 1})
	case "bob":
		addon := "bob-shop.example"
		a.add(&site{kind: "addon", host: addon, addon: addon, docroot: form.addon(a, addon, "bob-shop"), variant: i + 2})
	}
}

func (a *account) add(s *site) {
	for _, d := range append([]string{s.host, s.addon}, s.parked...) {
		switch {
		case d == "" || s.addon == s.host && d == s.addon && len(s.aliases) > 0:
		case d == s.host:
			s.aliases = append(s.aliases, "www."+d)
		default:
			s.aliases = append(s.aliases, d, "www."+d)
		}
	}
	if s.kind == "main" {
		s.aliases = append(s.aliases, "mail."+s.host)
	}
	// On a plain server only some bothered; beyond the named accounts a certificate would grow without need.
	s.tls = a.uid < firstUID+len(names) && (a.panel == "cpanel" || s.kind == "main" && s.variant%2 == 0)
	a.sites = append(a.sites, s)
}

// domains are all names that the virtual host answers to, its ServerName first.
func (s *site) domains() []string {
	all := append([]string{s.host}, s.aliases...)
	for _, p := range s.parked {
		all = append(all, p, "www."+p)
	}
	return all
}

// suexec reports whether the account's virtual hosts name it to suEXEC.
func (w *world) suexec(a *account) bool { return a.cgi || a.fcgid || w.panel == "cpanel" }

// oldCGI reports whether the account has a directory of CGI scripts, be it one from which nothing is run any more.
func (a *account) oldCGI() bool { return a.cgi || a.name == "carol" }

// fcgiBin is the directory of the wrapper that mod_fcgid starts PHP by.
func (a *account) fcgiBin() string { return a.home + "/fcgi-bin" }

// socket is where the account's PHP-FPM pool listens.
func (a *account) socket() string { return "/run/php/" + a.name + ".sock" }

// identity gives the uid, gid and home of a user of the box, for setpriv.
func (w *world) identity(user string) (uid, gid, home string) {
	for _, a := range w.accounts {
		if a.name == user {
			return strconv.Itoa(a.uid), strconv.Itoa(a.gid), a.home
		}
	}
	if user == w.webUser {
		return strconv.Itoa(int(w.web.UID)), strconv.Itoa(int(w.web.GIDs[0])), "/nonexistent"
	}
	return user, user, "/"
}

func (w *world) truth() []rightful.Account {
	var all []rightful.Account
	for _, a := range w.accounts {
		id := rightful.Identity{UID: uint32(a.uid), GIDs: []uint32{uint32(a.gid)}}
		t := rightful.Account{Name: a.name, UID: id.UID, GID: uint32(a.gid), Home: a.home, Panel: w.panel}
		for _, s := range a.sites {
			site := rightful.Site{
				Name: s.host, Domains: s.domains(), DocRoot: s.docroot, Web: w.web,
				PHP:    rightful.PHP{Handler: "fpm", Identity: id},
				Server: "apache",
			}
			if w.nginx {
				site.Server = "nginx"
			}
			for _, l := range w.listens(s) {
				if s.moved && w.nginx {
					continue // a server that only redirects has no document root
				}
				site.Listen = append(site.Listen, "http://"+l)
			}
			if s.tls {
				site.Listen = append(site.Listen, "https://"+strings.TrimSuffix(w.listen(), "80")+"443")
			}
			if a.fcgid {
				site.PHP.Handler, site.PHP.Wrapper = "fcgid", a.fcgiBin()+"/php-wrapper"
				site.CGI = []string{a.fcgiBin()}
			}
			if a.cgi {
				site.CGI = append(site.CGI, s.docroot+"/cgi-bin")
			}
			site.CGIAs = w.web
			if w.suexec(a) {
				site.CGIAs = id
			}
			t.Sites = append(t.Sites, site)
		}
		all = append(all, t)
	}
	return all
}

// listens are the addresses of a site on port 80.
func (w *world) listens(s *site) []string {
	public := netip.AddrFrom4(w.public).String() + ":80"
	switch {
	case s.own:
		return []string{public}
	case s.both:
		return []string{w.listen(), public}
	}
	return []string{w.listen()}
}

// dials is where a host is asked.
func (w *world) dials(host string) [4]byte {
	if s := w.hosts[host]; s != nil && s.own {
		return w.public
	}
	return w.addr
}

// listen is the address of most virtual hosts, as address:port; an empty address means any.
func (w *world) listen() string {
	if w.panel == "cpanel" {
		return fmt.Sprintf("%d.%d.%d.%d:80", w.addr[0], w.addr[1], w.addr[2], w.addr[3])
	}
	return ":80"
}
