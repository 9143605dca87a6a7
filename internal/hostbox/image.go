package hostbox

import (
	"archive/tar"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

// born is the time of everything in a new box.
func born() time.Time { return time.Date(2024, time.March, 1, 12, 0, 0, 0, time.UTC) }

// An image is the archive that fills a new box. The first error stays; [image.close] returns it.
type image struct {
	tw       *tar.Writer
	uid, gid int // of what comes next
	made     map[string]bool
	err      error
}

// as sets the owner of what comes next.
func (m *image) as(uid, gid int) { m.uid, m.gid = uid, gid }

func (m *image) put(h tar.Header, body string) {
	if m.err != nil {
		return
	}
	h.Name = strings.TrimPrefix(h.Name, "/")
	h.Uid, h.Gid, h.ModTime, h.Format = m.uid, m.gid, born(), tar.FormatPAX
	h.Size = int64(len(body))
	if m.err = m.tw.WriteHeader(&h); m.err == nil {
		_, m.err = io.WriteString(m.tw, body)
	}
}

// dir writes a directory. Its parents must have been written before, or be the machine's own.
func (m *image) dir(name string, mode int64) {
	m.put(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}, "")
	m.made[name] = true
}

// dirACL writes a directory with an access and a default ACL, in the text form of setfacl.
func (m *image) dirACL(name string, mode int64, acl, def string) {
	m.put(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, PAXRecords: map[string]string{
		"SCHILY.acl.access": acl, "SCHILY.acl.default": def,
	}}, "")
	m.made[name] = true
}

// root writes a directory of root's and, where they were not written yet, those above it, all 0755.
func (m *image) root(name string) {
	if name == "/" || m.made[name] {
		return
	}
	m.root(path.Dir(name))
	uid, gid := m.uid, m.gid
	m.as(0, 0)
	m.dir(name, 0o755)
	m.as(uid, gid)
}

func (m *image) file(name string, mode int64, body string) {
	m.put(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}, body)
}

// system writes a file of the server's own, and the directories above it.
func (m *image) system(name string, mode int64, body string) {
	m.as(0, 0)
	m.root(path.Dir(name))
	m.file(name, mode, body)
}

func (m *image) link(name, target string) {
	m.put(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, "")
}

// hard writes another name for a file that was written before.
func (m *image) hard(name, old string) {
	m.put(tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: strings.TrimPrefix(old, "/")}, "")
}

// writeImage writes the whole archive.
func (b *Box) writeImage(out io.Writer, binary string) error {
	w := b.world
	// What the machine's own directories already are must not be written again.
	m := &image{tw: tar.NewWriter(out), made: map[string]bool{}}
	for _, d := range []string{"/etc", "/etc/ssl", "/etc/ssl/private", "/var", "/var/lib", "/usr", "/usr/local", "/usr/local/bin", "/run", "/opt", "/usr/sbin"} {
		m.made[d] = true
	}
	w.writeSystem(m)
	m.system(certFile, 0o600, b.cert)
	if binary != "" {
		exe, err := os.ReadFile(binary)
		if err != nil {
			return fmt.Errorf("read binary: %w", err)
		}
		m.system("/usr/local/bin/rightful", 0o755, string(exe))
	}
	for _, base := range []string{"/home", "/home2"} {
		m.as(0, 0)
		m.dir(base, 0o711)
	}
	switch {
	case w.panel == "cpanel":
		w.writeCPanel(m, b.phpv)
	case w.shaped():
		if w.nginx {
			w.writeNginx(m)
		} else {
			w.writePlain(m)
		}
		w.writePools(m, b.phpv)
		w.form.write(w, m)
	case w.nginx:
		w.writeNginx(m)
		w.writePools(m, b.phpv)
	default:
		w.writePlain(m)
		w.writePools(m, b.phpv)
	}
	for i, a := range w.accounts {
		w.writeHome(m, a, i)
	}
	if m.err == nil {
		m.err = m.tw.Close()
	}
	if m.err != nil {
		return fmt.Errorf("write the box's contents: %w", m.err)
	}
	return nil
}

// writeSystem writes users, groups and what every server has.
func (w *world) writeSystem(m *image) {
	passwd := `root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
bin:x:2:2:bin:/bin:/usr/sbin/nologin
sys:x:3:3:sys:/dev:/usr/sbin/nologin
man:x:6:12:man:/var/cache/man:/usr/sbin/nologin
mail:x:8:8:mail:/var/mail:/usr/sbin/nologin
`
	group := `root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
mail:x:8:
man:x:12:
utmp:x:43:
shadow:x:42:
staff:x:50:
users:x:100:
`
	if w.panel == "cpanel" {
		passwd += "nobody:x:99:99:Nobody:/:/sbin/nologin\nmailnull:x:47:47::/var/spool/mqueue:/sbin/nologin\n" +
			"cpanel:x:201:201::/var/cpanel/userhomes/cpanel:/sbin/nologin\n"
		group += "nobody:x:99:\nmailnull:x:47:\ncpanel:x:201:\n"
	} else {
		passwd += "www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n" +
			"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
		group += "www-data:x:33:\nnogroup:x:65534:\n"
	}
	passwd += w.mailUsers() + w.mailPasswd()
	group += w.panelGroups() + w.mailGroup()
	members := ""
	if w.form.webIn == "users" {
		members = w.webUser
	}
	shadow := "root:*:19700:0:99999:7:::\n"
	hosts := "127.0.0.1 localhost\n127.0.0.1 box\n"
	for _, a := range w.accounts {
		id := strconv.Itoa(a.uid)
		passwd += a.name + ":x:" + id + ":" + strconv.Itoa(a.gid) + "::" + a.home + ":/bin/bash\n"
		group += a.name + ":x:" + id + ":" + members + "\n"
		password := "!"
		if w.mail {
			password = a.login()
		}
		shadow += a.name + ":" + password + ":19700:0:99999:7:::\n"
		for _, s := range a.sites {
			hosts += netip.AddrFrom4(w.dials(s.host)).String() + " " + strings.Join(s.domains(), " ") + "\n"
		}
	}
	m.system("/etc/passwd", 0o644, passwd)
	m.system("/etc/group", 0o644, group)
	m.as(0, 42)
	m.file("/etc/shadow", 0o640, shadow)
	m.system("/etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nshadow: files\nhosts: files\n")
	m.system("/etc/hosts", 0o644, hosts)
	m.system("/etc/hostname", 0o644, "box\n")
	for _, d := range []string{"/etc/php", "/var/log/apache2", "/var/log/nginx", "/var/www/html", "/run/apache2", "/run/php", "/run/lock"} {
		m.root(d)
	}
	for _, d := range []string{"/var/tmp", "/var/mail"} {
		m.dir(d, 0o1777)
	}
	m.system("/var/www/html/index.html", 0o644, "<!doctype html><title>box</title><p>No customer lives here.</p>\n")
	m.dir("/root", 0o700)
	m.file("/root/.boxrc", 0o600, w.rc())
}

// rc is what the interactive shell reads.
func (w *world) rc() string {
	return `PS1='\[\e[1;33m\]box:` + w.shape() + `\[\e[0m\] \w# '
alias ls='ls --color=auto' ll='ls -la --color=auto'
sites() { # every site and what it answers
	while read -r ip host _; do
		case $host in localhost|box) continue ;; esac
		exec 3<>"/dev/tcp/$ip/80" || continue
		printf 'GET / HTTP/1.0\r\nHost: %s\r\n\r\n' "$host" >&3
		read -r _ code _ <&3
		printf '%s  %s\n' "$code" "$host"
		exec 3>&-
	done </etc/hosts
}
cat <<'END'
This is a throw-away ` + w.shape() + ` server with ` + strconv.Itoa(len(w.accounts)) + ` accounts. Nothing here touches the machine around it.
  sites             what every site answers
  rightful check    what is wrong and whom it harms
  exit              ends the server and all of it
END
`
}
