package panel

import (
	"slices"
	"strings"

	"rightful/internal/tree"
)

// Within reports whether a clean path is dir or lies below it, by whole components.
func Within(p, dir string) bool {
	if dir == "/" {
		return strings.HasPrefix(p, "/")
	}
	return strings.HasPrefix(p, dir) && (len(p) == len(dir) || p[len(dir)] == '/')
}

// byPath orders indexes so that a directory comes before everything in it and nothing else stands between them.
func byPath(n int, p func(int) string) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return tree.ComparePaths(p(a), p(b)) })
	return order
}

// systemTrees are directories in which nothing is a customer's. /usr/home, /usr/local/www and the like are not in it.
var systemTrees = [...]string{
	"/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp",
	"/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/sbin", "/usr/share", "/usr/src", "/usr/include",
	"/usr/games", "/usr/local/bin", "/usr/local/sbin", "/usr/local/lib", "/usr/local/cpanel", "/usr/local/apache",
	"/var/backups", "/var/cache", "/var/cpanel", "/var/lib", "/var/lock", "/var/log", "/var/mail", "/var/run", "/var/spool",
	"/var/tmp", "/nonexistent", "/lost+found",
	// Bind mounts of jails: cPanel's, CloudLinux's.
	"/home/virtfs", "/home/cagefs-skeleton", "/var/cagefs",
}

// sharedDirs hold the homes or sites of many and belong to none.
var sharedDirs = [...]string{
	"/", "/usr", "/usr/local", "/usr/home", "/usr/local/www", "/var", "/var/www", "/var/www/vhosts", "/var/www/vhosts/system", "/var/www/clients",
	"/var/www/html", "/srv", "/srv/www", "/srv/http", "/srv/ftp", "/opt", "/mnt", "/media", "/export", "/export/home",
	"/data", "/www", "/var/home",
}

// SystemDir reports whether a clean absolute path is a directory of the system, or one that many share, and so cannot
// be anybody's home or document root: /, /etc and below, /home and its numbered twins, /srv, /var/www and so on.
func SystemDir(p string) bool {
	if slices.Contains(sharedDirs[:], p) {
		return true
	}
	// A numbered twin of /home: /home2. (Something below it is not.)
	if rest, ok := strings.CutPrefix(p, "/home"); ok && strings.Trim(rest, "0123456789") == "" {
		return true
	}
	return slices.ContainsFunc(systemTrees[:], func(t string) bool { return Within(p, t) })
}

// usualHome reports whether a home is below one of the directories that hold the homes of customers.
func usualHome(p string) bool {
	if rest, ok := strings.CutPrefix(p, "/home"); ok {
		twin, name, ok := strings.Cut(rest, "/")
		return ok && name != "" && strings.Trim(twin, "0123456789") == ""
	}
	for _, base := range [...]string{"/srv/", "/var/www/", "/usr/home/", "/var/home/", "/export/home/"} {
		if len(p) > len(base) && strings.HasPrefix(p, base) {
			return true
		}
	}
	return false
}
