package web

import (
	"path"
	"strings"

	"rightful/internal/tree"
)

// A Pool is one pool of PHP-FPM.
type Pool struct {
	Name string
	// User and Group are as written: names or numbers. An empty Group means the user's primary group.
	User, Group string
	// Listen is the socket in the form of [PHPHandler.Backend]; ListenRaw is as written.
	Listen, ListenRaw                    string
	ListenOwner, ListenGroup, ListenMode string
	// ListenACL: listen.acl_users or listen.acl_groups say who may connect, and not the socket's owner and group.
	ListenACL bool
	// Chroot is the directory that the pool sees as "/", or "".
	Chroot string
	// LimitExtensions are the suffixes that the pool runs, with their dots; nil means FPM's default, .php and .phar;
	// an empty slice that is not nil means every file.
	LimitExtensions []string
	// OpenBasedir are the directories below which the pool opens files; nil means everywhere.
	OpenBasedir []string
	File        string
	Line        int
}

// fpmGlobs are the usual places of pool files: Debian, EasyApache 4, Red Hat, Remi's collections, built from source,
// DirectAdmin, Plesk.
var fpmGlobs = [...]string{
	"/etc/php/*/fpm/pool.d/*.conf",
	"/opt/cpanel/ea-php*/root/etc/php-fpm.d/*.conf",
	"/etc/php-fpm.d/*.conf",
	"/etc/opt/remi/php*/php-fpm.d/*.conf",
	"/opt/remi/php*/root/etc/php-fpm.d/*.conf",
	"/usr/local/etc/php-fpm.d/*.conf",
	"/usr/local/php*/etc/php-fpm.d/*.conf",
	"/usr/local/directadmin/data/users/*/php/php-fpm*.conf",
	"/opt/plesk/php/*/etc/php-fpm.d/*.conf",
}

// ReadPools reads every pool file in the usual places, in order of paths within each place.
func ReadPools(s *tree.Server) (pools []Pool, problems []Problem) {
	for _, g := range fpmGlobs {
		files, _ := s.Glob(g)
		for _, f := range files {
			b, err := s.ReadFile(f, 16<<20)
			if err != nil {
				problems = append(problems, Problem{File: f, Msg: err.Error(), Unreadable: true})
				continue
			}
			p, pr := ParsePools(f, string(b))
			pools = append(pools, p...)
			problems = append(problems, pr...)
		}
	}
	return pools, problems
}

// ParsePools reads the pools of one file. A later setting of a name wins, as in FPM; a section that is opened again goes on.
func ParsePools(file, text string) (pools []Pool, problems []Problem) {
	index := map[string]int{}
	current := -1
	n := 0
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == ';' || line[0] == '#' {
			continue
		}
		if line[0] == '[' {
			name, _, ok := strings.Cut(line[1:], "]")
			if !ok {
				problems = append(problems, Problem{File: file, Line: n, Msg: "section has no closing ]"})
				current = -1
				continue
			}
			name = strings.TrimSpace(name)
			if strings.EqualFold(name, "global") {
				current = -1
				continue
			}
			i, seen := index[name]
			if !seen {
				i = len(pools)
				index[name] = i
				pools = append(pools, Pool{Name: name, File: file, Line: n})
			}
			current = i
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			problems = append(problems, Problem{File: file, Line: n, Msg: "line is no setting: " + clip(line)})
			continue
		}
		if current >= 0 {
			pools[current].set(strings.TrimSpace(key), iniValue(value))
		}
	}
	return pools, problems
}

func (p *Pool) set(key, value string) {
	value = strings.ReplaceAll(value, "$pool", p.Name)
	switch key {
	case "user":
		p.User = value
	case "group":
		p.Group = value
	case "listen":
		p.ListenRaw, p.Listen = value, listenSocket(value)
	case "listen.owner":
		p.ListenOwner = value
	case "listen.group":
		p.ListenGroup = value
	case "listen.acl_users", "listen.acl_groups":
		p.ListenACL = p.ListenACL || value != ""
	case "listen.mode":
		p.ListenMode = value
	case "chroot":
		p.Chroot = value
	case "php_admin_value[open_basedir]", "php_value[open_basedir]":
		p.OpenBasedir = strings.FieldsFunc(value, func(r rune) bool { return r == ':' })
	case "security.limit_extensions":
		p.LimitExtensions = append([]string{}, strings.FieldsFunc(value, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' })...)
	}
}

// opens reports whether open_basedir lets the pool open a path.
func (p *Pool) opens(name string) bool {
	for _, d := range p.OpenBasedir {
		if within(name, path.Clean(d)) {
			return true
		}
	}
	return len(p.OpenBasedir) == 0
}

// iniValue takes a value of PHP's ini format: quoted, or up to a comment.
func iniValue(s string) string {
	s = strings.TrimSpace(s)
	if s != "" && (s[0] == '"' || s[0] == '\'') {
		if i := strings.IndexByte(s[1:], s[0]); i >= 0 {
			return s[1 : 1+i]
		}
		return s[1:]
	}
	s, _, _ = strings.Cut(s, ";")
	return strings.TrimSpace(s)
}

// listenSocket brings listen= to the form of [PHPHandler.Backend]: a path, a port, or ADDRESS:PORT.
func listenSocket(v string) string {
	switch {
	case v == "":
		return ""
	case path.IsAbs(v):
		return "unix:" + cleanSocket(v)
	case strings.Trim(v, "0123456789") == "":
		return "tcp:127.0.0.1:" + v
	}
	addr, port := splitAddr(v)
	if port == "" {
		return "unix:" + cleanSocket("/"+v)
	}
	return "tcp:" + tcpHost(addr) + ":" + port
}

// PoolIndex finds pools by their sockets.
type PoolIndex map[string]*Pool

// IndexPools makes the index. Of several pools that claim one socket for different users none is in it.
func IndexPools(pools []Pool) PoolIndex {
	index := make(PoolIndex, len(pools))
	for i := range pools {
		p := &pools[i]
		if p.Listen == "" {
			continue
		}
		have, ok := index[p.Listen]
		switch {
		case !ok:
			index[p.Listen] = p
		case have != nil && (have.User != p.User || have.Group != p.Group):
			index[p.Listen] = nil
		}
	}
	return index
}

// For finds the pool that answers on a backend of [PHPHandler].
func (x PoolIndex) For(backend string) (*Pool, bool) {
	p := x[backend]
	return p, p != nil
}
