package hostbox

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Shapes of other control panels: where each keeps homes and document roots, in which groups and modes, and the files by
// which it knows its accounts. None of their programs is there. Sources are the panels' documents and scripts.

// panelGroup is the gid of the group that DirectAdmin's secure_access_group, or Plesk's psaserv, is.
const panelGroup = 900

// clientGroup is the gid of psacln, the primary group of all Plesk's customers.
const clientGroup = 901

// A shape is how a panel lays out a home.
type shape struct {
	nginx bool // the web server is nginx
	// home of an account, document root of its main site, of a subdomain and of a further domain.
	home                func(name, host string) string
	main, sub, addon    func(a *account, host, label string) string
	homeMode, wayMode   int64
	homeGroup, wayGroup string // "user", "web" or "panel"
	rootGroup           string
	webIn               string // which groups the web server is a member of besides its own: "panel", "users" or ""
	write               func(w *world, m *image)
}

func homeOfUser(name, _ string) string { return "/home/" + name }

// shapeOf gives the layout of a panel, and false for those that world builds by itself.
func shapeOf(panel string) (shape, bool) {
	inPublic := func(a *account, _, _ string) string { return a.home + "/public_html" }
	switch panel {
	case "directadmin":
		return shape{
			home:     homeOfUser,
			main:     func(a *account, host, _ string) string { return a.home + "/domains/" + host + "/public_html" },
			sub:      func(a *account, host, label string) string { return a.sites[0].docroot + "/" + label },
			addon:    func(a *account, _, label string) string { return a.home + "/domains/" + label + ".example/public_html" },
			homeMode: 0o711, wayMode: 0o711, homeGroup: "user", wayGroup: "user", rootGroup: "panel", webIn: "panel",
			write: (*world).writeDirectAdmin,
		}, true
	case "hestia":
		domain := func(a *account, host, _ string) string { return a.home + "/web/" + host + "/public_html" }
		return shape{
			nginx: true, home: homeOfUser, main: domain, sub: domain, addon: domain,
			homeMode: 0o711, wayMode: 0o551, homeGroup: "user", wayGroup: "user", rootGroup: "web",
			write: (*world).writeHestia,
		}, true
	case "virtualmin":
		server := func(a *account, host, _ string) string { return a.home + "/domains/" + host + "/public_html" }
		return shape{
			home: homeOfUser, main: inPublic, sub: server, addon: server,
			homeMode: 0o750, wayMode: 0o750, homeGroup: "user", wayGroup: "user", rootGroup: "user", webIn: "users",
			write: (*world).writeVirtualmin,
		}, true
	case "plesk":
		beside := func(a *account, host, _ string) string { return a.home + "/" + host }
		return shape{
			home: func(_, host string) string { return "/srv/vhosts/" + host },
			main: func(a *account, _, _ string) string { return a.home + "/httpdocs" }, sub: beside, addon: beside,
			homeMode: 0o710, wayMode: 0o750, homeGroup: "panel", wayGroup: "panel", rootGroup: "panel", webIn: "panel",
			write: (*world).writePlesk,
		}, true
	}
	return shape{}, false
}

// shaped reports whether the world has another panel's shape.
func (w *world) shaped() bool { return w.form.write != nil }

// gidOf is the gid of a group of a shape.
func (w *world) gidOf(group string, a *account) int {
	switch group {
	case "web":
		return int(w.web.GIDs[0])
	case "panel":
		return panelGroup
	}
	return a.gid
}

// panelGroups are the lines of the group file that only a panel's server has.
func (w *world) panelGroups() string {
	switch w.panel {
	case "directadmin":
		return fmt.Sprintf("access:x:%d:www-data\n", panelGroup)
	case "plesk":
		return fmt.Sprintf("psaserv:x:%d:www-data\npsacln:x:%d:\n", panelGroup, clientGroup)
	}
	return ""
}

// writeDirectAdmin writes /usr/local/directadmin and /etc/virtual.
func (w *world) writeDirectAdmin(m *image) {
	const da = "/usr/local/directadmin"
	m.system(da+"/conf/directadmin.conf", 0o600, "port=2222\nsecure_access_group=access\n")
	m.system(da+"/custombuild/options.conf", 0o644, "php1_release=8.2\nphp1_mode=php-fpm\nwebserver=apache\n")
	var owners strings.Builder
	for _, a := range w.accounts {
		dir := da + "/data/users/" + a.name
		var domains []string
		for _, s := range a.sites {
			switch s.kind {
			case "sub":
				continue
			case "addon":
				domains = append(domains, s.addon)
			default:
				domains = append(domains, s.host)
			}
			fmt.Fprintf(&owners, "%s: %s\n", domains[len(domains)-1], a.name)
		}
		m.system(dir+"/user.conf", 0o600, fmt.Sprintf("username=%s\ndomain=%s\nsuspended=no\ncreator=admin\n", a.name, a.sites[0].host))
		m.system(dir+"/domains.list", 0o600, strings.Join(domains, "\n")+"\n")
		for _, d := range domains {
			m.system(dir+"/domains/"+d+".conf", 0o600, "domain="+d+"\nactive=yes\nphp1_select=1\n")
		}
		for _, s := range a.sites {
			if s.kind == "sub" {
				m.system(dir+"/domains/"+a.sites[0].host+".subdomains", 0o600, strings.TrimSuffix(s.host, "."+a.sites[0].host)+"\n")
			}
		}
		m.system("/etc/virtual/"+a.sites[0].host+"/passwd", 0o600, "info:$6$example\n")
	}
	m.system("/etc/virtual/domainowners", 0o640, owners.String())
}

// writeHestia writes /usr/local/hestia.
func (w *world) writeHestia(m *image) {
	const hestia = "/usr/local/hestia"
	m.system(hestia+"/conf/hestia.conf", 0o660, "WEB_SYSTEM='nginx'\nWEB_BACKEND='php-fpm'\n")
	for _, a := range w.accounts {
		dir := hestia + "/data/users/" + a.name
		m.system(dir+"/user.conf", 0o660, "NAME='"+a.name+"'\nPACKAGE='default'\nSUSPENDED='no'\n")
		var web strings.Builder
		for _, s := range a.sites {
			fmt.Fprintf(&web, "DOMAIN='%s' IP='192.0.2.20' IP6='' CUSTOM_DOCROOT='' ALIAS='%s' TPL='default' SSL='no' BACKEND='PHP-8_2' SUSPENDED='no'\n",
				s.host, strings.Join(s.domains()[1:], ","))
		}
		m.system(dir+"/web.conf", 0o660, web.String())
	}
}

// writeVirtualmin writes /etc/webmin/virtual-server.
func (w *world) writeVirtualmin(m *image) {
	id := 1000
	for _, a := range w.accounts {
		parent := ""
		for _, s := range a.sites {
			id++
			text := fmt.Sprintf("dom=%s\nuser=%s\nuid=%d\ngroup=%[2]s\ngid=%[3]d\npublic_html_path=%[4]s\nweb=1\ndir=1\nphp_mode=fpm\n", s.host, a.name, a.uid, s.docroot)
			if parent == "" {
				parent = strconv.Itoa(id)
				text += "unix=1\nhome=" + a.home + "\n"
			} else {
				text += "unix=0\nparent=" + parent + "\nhome=" + path.Dir(s.docroot) + "\n"
			}
			m.system("/etc/webmin/virtual-server/domains/"+strconv.Itoa(id), 0o600, text)
		}
	}
}

// writePlesk writes /etc/psa. The database is not there: on this server it is down.
func (w *world) writePlesk(m *image) {
	m.system("/etc/psa/psa.conf", 0o644, "PRODUCT_ROOT_D /usr/local/psa\nHTTPD_VHOSTS_D /srv/vhosts\n")
	m.system("/etc/psa/.psa.shadow", 0o600, "$AES-128-CBC$example\n")
}

// writeShapeHome writes what a panel itself puts into a home.
func (w *world) writeShapeHome(m *image, a *account) {
	h := a.home
	own := func() { m.as(a.uid, a.gid) }
	own()
	switch w.panel {
	case "directadmin":
		m.link(h+"/public_html", "./domains/"+a.sites[0].host+"/public_html")
		m.dir(h+"/backups", 0o700)
		m.as(a.uid, 8)
		m.file(h+"/.shadow", 0o640, "$6$example\n")
		m.dir(h+"/imap", 0o770)
		m.dir(h+"/imap/"+a.sites[0].host, 0o770)
		m.dir(h+"/imap/"+a.sites[0].host+"/info", 0o770)
		m.file(h+"/imap/"+a.sites[0].host+"/info/1", 0o660, "Subject: example\n")
	case "hestia":
		m.dir(h+"/tmp", 0o700)
		m.as(0, 0)
		m.dir(h+"/conf", 0o755)
		m.dir(h+"/conf/web", 0o751)
		m.as(0, a.gid)
		m.dir(h+"/web", 0o751)
		own()
		m.dir(h+"/mail", 0o751)
		m.as(a.uid, 8)
		m.dir(h+"/mail/"+a.sites[0].host, 0o770)
		m.dir(h+"/mail/"+a.sites[0].host+"/info", 0o700)
	case "virtualmin":
		m.dir(h+"/logs", 0o750)
		m.dir(h+"/tmp", 0o750)
		m.dir(h+"/homes", 0o755)
		m.as(w.mailUID(a), a.gid)
		m.dir(h+"/homes/info", 0o700)
		writeMaildir(m, h+"/homes/info/Maildir", 0o700)
	case "plesk":
		m.as(a.uid, 0)
		m.dir(h+"/logs", 0o700)
		m.as(0, 0)
		m.dir(h+"/bin", 0o755)
		m.file(h+"/bin/true", 0o755, "#!/bin/sh\n")
		own()
		m.dir(h+"/error_docs", 0o755)
		m.file(h+"/error_docs/not_found.html", 0o644, "<p>not found</p>\n")
	}
	own()
}

// mailUID is the uid of the account's mailbox on a Virtualmin server, where mailboxes are users.
func (w *world) mailUID(a *account) int { return a.uid + 10000 }

// mailUsers are the lines of passwd for these.
func (w *world) mailUsers() string {
	var t strings.Builder
	if w.panel == "virtualmin" {
		for _, a := range w.accounts {
			fmt.Fprintf(&t, "info.%s:x:%d:%d::%s/homes/info:/usr/sbin/nologin\n", a.name, w.mailUID(a), a.gid, a.home)
		}
	}
	return t.String()
}

// Shapes lists the panels whose servers a box can have, besides those with shapes of their own.
func Shapes() []string { return slices.Clone([]string{"directadmin", "hestia", "plesk", "virtualmin"}) }
