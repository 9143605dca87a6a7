package main

import (
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	webID     = 33    // www-data
	strangeID = 100   // a group that no rule accepts
	firstUID  = 20001 // of the accounts
)

// A world is one plain server below a directory: passwd, Apache, a PHP-FPM pool and a home for each account.
type world struct {
	root     string
	accounts int
	entries  int // below the homes, the homes included
	extra    []func(put)
}

func (w *world) home(i int) string { return filepath.Join(w.root, "home", name(i)) }

func name(i int) string { return fmt.Sprintf("alice%04d", i) }

// A thing is one entry of a home, as it should be.
type thing struct {
	rel    string // "" for the home
	dir    bool
	mode   uint32
	web    bool // the web server's group
	static bool
	link   string
	text   string // "" for little
}

type put func(thing)

// part is a directory of a home: how many subdirectories each level has, and how many files each directory.
type part struct {
	dir   string
	fan   []int
	files int
	mode  uint32 // of the files; directories get the matching one
	names []string
}

func parts() []part {
	php := []string{"class-%s.php", "%s.php", "%s.min.js", "%s.css", "%s.php", "functions-%s.php", "%s.js", "%s.svg"}
	return []part{
		{"public_html/wp-admin", []int{8}, 60, 0o644, php},
		{"public_html/wp-includes", []int{14, 2}, 24, 0o644, php},
		{"public_html/wp-content/plugins", []int{8, 4, 2}, 11, 0o644, php},
		{"public_html/wp-content/themes", []int{2, 4}, 12, 0o644, php},
		{"public_html/wp-content/uploads", []int{5, 12}, 16, 0o644, []string{"%s.jpg", "%s-300x200.jpg", "%s-1024x683.jpg", "%s.png", "%s.pdf"}},
		{"public_html/wp-content/cache", []int{16}, 7, 0o644, []string{"%s.html", "%s.html.gz"}},
		{"Maildir/cur", nil, 400, 0o600, []string{"1760000000.M%sP1.host,S=4000:2,S"}},
		{"Maildir/new", nil, 20, 0o600, []string{"1760000000.M%sP1.host,S=4000"}},
		{"Maildir/.Sent/cur", nil, 80, 0o600, []string{"1760000000.M%sP1.host,S=4000:2,S"}},
		{"logs", nil, 60, 0o644, []string{"access.%s.log.gz", "error.%s.log"}},
	}
}

// word makes names of different lengths that do not come in order.
func word(n uint32) string {
	words := [...]string{"post", "editor", "block", "media", "query", "admin", "font", "comment", "network", "theme", "widget", "user", "cron", "http", "embed", "locale"}
	n *= 2654435761
	return words[n>>28] + "-" + words[n>>24&15] + "-" + strconv.FormatUint(uint64(n>>8&0xffff), 36)
}

// account calls put for every entry of an account, parents first. Accounts differ in size by up to a third.
func account(i int, put put) {
	dir := func(rel string, mode uint32, web bool) { put(thing{rel: rel, dir: true, mode: mode, web: web}) }
	file := func(rel string, mode uint32) {
		put(thing{rel: rel, mode: mode, static: mode == 0o644 && strings.HasPrefix(rel, "public_html/") && isStatic(rel)})
	}
	dir("", 0o711, false)
	for _, f := range []string{".bashrc", ".profile", ".bash_logout"} {
		file(f, 0o644)
	}
	dir(".ssh", 0o700, false)
	file(".ssh/authorized_keys", 0o600)
	dir("public_html", 0o750, true)
	put(thing{rel: "www", link: "public_html"})
	for _, f := range []string{"index.php", "wp-login.php", "wp-cron.php", "wp-settings.php", "xmlrpc.php", "robots.txt", "favicon.ico", ".htaccess", "readme.html", "license.txt"} {
		file("public_html/"+f, 0o644)
	}
	file("public_html/wp-config.php", 0o600)
	dir("public_html/wp-content", 0o755, false)
	dir("Maildir", 0o700, false)
	dir("Maildir/.Sent", 0o700, false)
	for _, p := range parts() {
		more := 0
		if strings.HasSuffix(p.dir, "uploads") {
			more = int(mix(uint32(i))%17) - 8
		}
		dmode := uint32(0o755)
		if p.mode == 0o600 {
			dmode = 0o700
		}
		var grow func(rel string, level int)
		grow = func(rel string, level int) {
			dir(rel, dmode, false)
			for k := range p.files + more {
				file(rel+"/"+fmt.Sprintf(p.names[k%len(p.names)], word(uint32(k)+uint32(len(rel))<<8)+strconv.Itoa(k)), p.mode)
			}
			if level < len(p.fan) {
				for k := range p.fan[level] {
					sub := word(uint32(k+level*31)) + strconv.Itoa(k)
					if strings.HasSuffix(p.dir, "uploads") {
						sub = fmt.Sprintf("%02d", []int{2020, 1}[level]+k)
					}
					grow(rel+"/"+sub, level+1)
				}
			}
		}
		grow(p.dir, 0)
	}
}

func mix(n uint32) uint32 {
	n ^= n >> 16
	n *= 0x7feb352d
	n ^= n >> 15
	n *= 0x846ca68b
	return n ^ n>>16
}

func isStatic(rel string) bool {
	switch filepath.Ext(rel) {
	case ".js", ".css", ".svg", ".jpg", ".png", ".html", ".pdf", ".ico":
		return true
	}
	return false
}

// state is what an entry is made to be: as it should be, or as a bad day left it.
type state struct {
	uid, gid int
	mode     uint32
}

func right(uid int, t thing) state {
	s := state{uid, uid, t.mode}
	if t.web {
		s.gid = webID
	}
	return s
}

// wrong puts 30 % of the entries wrong: a third of those by their group, a third by their mode, a third taken over by the
// web server's user. Every document root has lost the web server's group, so that every site is down.
func wrong(i, uid int, t thing) state {
	s := right(uid, t)
	if t.rel == "public_html" {
		s.gid = uid
		return s
	}
	h := fnv.New32a()
	fmt.Fprintf(h, "%d %s", i, t.rel)
	n := mix(h.Sum32())
	if n%10 >= 3 || t.rel == "" || strings.HasPrefix(t.rel, ".ssh") {
		return s
	}
	switch n / 10 % 3 {
	case 0:
		s.gid = strangeID
	case 1:
		switch {
		case t.dir:
			s.mode = 0o777
		case t.static && n/30%2 == 0:
			s.mode = 0o600
		default:
			s.mode = 0o666
		}
	default:
		s.uid, s.gid = webID, webID
	}
	if t.link != "" {
		s = state{webID, webID, 0}
	}
	return s
}

// build makes the world, healthy. It is fast rather than safe: nobody else lives in that directory.
func (w *world) build() error {
	old := unix.Umask(0)
	defer unix.Umask(old)
	if err := w.etc(); err != nil {
		return err
	}
	counts := make([]int, w.accounts)
	err := w.each(func(i int) (err error) {
		counts[i], err = w.fill(i)
		return err
	})
	for _, n := range counts {
		w.entries += n
	}
	return err
}

// each runs fn for all accounts, a few at a time, and returns the first error.
func (w *world) each(fn func(i int) error) error {
	next := make(chan int)
	errs := make(chan error, runtime.NumCPU())
	var wg sync.WaitGroup
	for range cap(errs) {
		wg.Go(func() {
			var first error
			for i := range next {
				if first == nil {
					first = fn(i)
				}
			}
			errs <- first
		})
	}
	for i := range w.accounts {
		next <- i
	}
	close(next)
	wg.Wait()
	for range cap(errs) {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

// things calls put for every entry of account i.
func (w *world) things(i int, put put) {
	if i < len(w.extra) && w.extra[i] != nil {
		w.extra[i](put)
		return
	}
	account(i, put)
}

// fill makes the entries of one account, each relative to the open directory it lies in.
func (w *world) fill(i int) (n int, err error) {
	uid := firstUID + i
	at := dirs{home: w.home(i)}
	defer at.close()
	w.things(i, func(t thing) {
		if err != nil {
			return
		}
		n++
		s := right(uid, t)
		fd, base := unix.AT_FDCWD, at.home
		if t.rel != "" {
			fd, base, err = at.open(t.rel)
			if err != nil {
				return
			}
		}
		switch {
		case t.link != "":
			err = unix.Symlinkat(t.link, fd, base)
		case t.dir:
			err = unix.Mkdirat(fd, base, t.mode)
		default:
			var f int
			if f, err = unix.Openat(fd, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, t.mode); err == nil {
				text := orElse(t.text, "x\n")
				if t.text == "" && base == ".htaccess" {
					text = frontController
				}
				_, err = unix.Write(f, []byte(text))
				unix.Close(f)
			}
		}
		if err == nil {
			err = unix.Fchownat(fd, base, s.uid, s.gid, unix.AT_SYMLINK_NOFOLLOW)
		}
		if err != nil {
			err = fmt.Errorf("make %q in %q: %w", t.rel, at.home, err)
		}
	})
	return n, err
}

// set gives every entry its right or its wrong state, where it has another.
func (w *world) set(damaged bool) error {
	return w.each(func(i int) (err error) {
		uid := firstUID + i
		at := dirs{home: w.home(i)}
		defer at.close()
		w.things(i, func(t thing) {
			if err != nil {
				return
			}
			s := right(uid, t)
			if damaged {
				s = wrong(i, uid, t)
			}
			fd, base := unix.AT_FDCWD, at.home
			if t.rel != "" {
				if fd, base, err = at.open(t.rel); err != nil {
					return
				}
			}
			var st unix.Stat_t
			if err = unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return
			}
			if st.Uid != uint32(s.uid) || st.Gid != uint32(s.gid) {
				err = unix.Fchownat(fd, base, s.uid, s.gid, unix.AT_SYMLINK_NOFOLLOW)
			}
			if err == nil && t.link == "" && st.Mode&0o7777 != s.mode {
				err = unix.Fchmodat(fd, base, s.mode, 0)
			}
		})
		return err
	})
}

// differ counts the entries that are not in their right (or wrong) state, up to its first error.
func (w *world) differ(damaged bool) (n int, err error) {
	counts := make([]int, w.accounts)
	err = w.each(func(i int) (err error) {
		at := dirs{home: w.home(i)}
		defer at.close()
		w.things(i, func(t thing) {
			s := right(firstUID+i, t)
			if damaged {
				s = wrong(i, firstUID+i, t)
			}
			fd, base := unix.AT_FDCWD, at.home
			if t.rel != "" {
				if fd, base, err = at.open(t.rel); err != nil {
					return
				}
			}
			var st unix.Stat_t
			if err = unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return
			}
			if st.Uid != uint32(s.uid) || st.Gid != uint32(s.gid) || t.link == "" && st.Mode&0o7777 != s.mode {
				counts[i]++
			}
		})
		return err
	})
	for _, c := range counts {
		n += c
	}
	return n, err
}

// dirs keeps the directory of the entry before open, since the next one mostly lies in it too.
type dirs struct {
	home string
	rel  string
	fd   int
	any  bool
}

func (d *dirs) close() {
	if d.any {
		unix.Close(d.fd)
	}
}

func (d *dirs) open(rel string) (fd int, base string, err error) {
	dir, base := filepath.Split(rel)
	if d.any && d.rel == dir {
		return d.fd, base, nil
	}
	d.close()
	d.any = false
	// Paths may be longer than the kernel takes at once.
	at := unix.AT_FDCWD
	for _, step := range append([]string{d.home}, strings.FieldsFunc(dir, func(r rune) bool { return r == '/' })...) {
		next, err := unix.Openat(at, step, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if at != unix.AT_FDCWD {
			unix.Close(at)
		}
		if err != nil {
			return -1, "", fmt.Errorf("open %q of %q: %w", step, dir, err)
		}
		at = next
	}
	d.rel, d.fd, d.any = dir, at, true
	return at, base, nil
}

// frontController is the usual .htaccess of WordPress.
const frontController = `<IfModule mod_rewrite.c>
RewriteEngine On
RewriteRule .* - [E=HTTP_AUTHORIZATION:%{HTTP:Authorization}]
RewriteBase /
RewriteRule ^index\.php$ - [L]
RewriteCond %{REQUEST_FILENAME} !-f
RewriteCond %{REQUEST_FILENAME} !-d
RewriteRule . /index.php [L]
</IfModule>
`

// etc writes what says who lives there.
func (w *world) etc() error {
	var passwd, group, hosts strings.Builder
	passwd.WriteString("root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/var/www:/usr/sbin/nologin\n")
	group.WriteString("root:x:0:\nwww-data:x:33:\nusers:x:100:\n")
	for i := range w.accounts {
		n, id := name(i), firstUID+i
		fmt.Fprintf(&passwd, "%s:x:%d:%d::/home/%s:/bin/sh\n", n, id, id, n)
		fmt.Fprintf(&group, "%s:x:%d:\n", n, id)
		fmt.Fprintf(&hosts, `<VirtualHost *:80>
	ServerName %[1]s.example
	DocumentRoot /home/%[1]s/public_html
	<FilesMatch "\.php$">
		SetHandler "proxy:unix:/run/php/%[1]s.sock|fcgi://localhost"
	</FilesMatch>
</VirtualHost>
`, n)
		err := w.write("etc/php/8.2/fpm/pool.d/"+n+".conf", fmt.Sprintf("[%[1]s]\nuser = %[1]s\ngroup = %[1]s\nlisten = /run/php/%[1]s.sock\nlisten.group = www-data\npm = ondemand\npm.max_children = 2\n", n))
		if err != nil {
			return err
		}
	}
	for file, text := range map[string]string{
		"etc/passwd": passwd.String(), "etc/group": group.String(),
		"etc/nsswitch.conf": "passwd: files\ngroup: files\n",
		"etc/apache2/apache2.conf": `User www-data
Group www-data
DirectoryIndex index.html index.php
<Directory /home>
	AllowOverride All
</Directory>
IncludeOptional sites-enabled/*.conf
`,
		"etc/apache2/sites-enabled/accounts.conf": hosts.String(),
		"etc/php/8.2/fpm/php-fpm.conf":            "include=/etc/php/8.2/fpm/pool.d/*.conf\n",
	} {
		if err := w.write(file, text); err != nil {
			return err
		}
	}
	return os.MkdirAll(filepath.Join(w.root, "home"), 0o755)
}

func (w *world) write(rel, text string) error {
	p := filepath.Join(w.root, rel)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return err
	}
	return os.WriteFile(p, []byte(text), 0o644)
}

// odd is a world of two accounts: one with a directory of many files, one with directories deep inside one another.
func odd(root string, files, depth int) *world {
	return &world{root: root, accounts: 2, extra: []func(put){
		func(put put) {
			few(put)
			put(thing{rel: "public_html/uploads", dir: true, mode: 0o755})
			for k := range files {
				put(thing{rel: "public_html/uploads/" + word(uint32(k)) + strconv.Itoa(k) + ".jpg", mode: 0o644, static: true})
			}
		},
		func(put put) {
			few(put)
			rel := "public_html"
			for k := range depth {
				rel += "/d" + strconv.Itoa(k)
				put(thing{rel: rel, dir: true, mode: 0o755})
				put(thing{rel: rel + "/index.html", mode: 0o644, static: true})
			}
		},
	}}
}

func few(put put) {
	put(thing{dir: true, mode: 0o711})
	put(thing{rel: "public_html", dir: true, mode: 0o750, web: true})
	put(thing{rel: "public_html/index.html", mode: 0o644, static: true})
}
