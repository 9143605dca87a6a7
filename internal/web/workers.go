package web

import (
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"rightful"
	"rightful/internal/tree"
)

// A Worker is a running process of a web server or of PHP, with the groups that it really holds.
type Worker struct {
	PID  int
	Comm string // the process's name, at most 15 bytes: "apache2", "httpd", "nginx", "php-fpm8.2"
	rightful.Identity
}

// Workers lists the running workers of Apache, nginx and PHP-FPM that do not run as root, in order of their PIDs.
// It is empty where the server is not the running machine. A process in another root directory (a container's) is not
// one of this server's, and a name alone proves nothing: callers compare the uid with the configured one.
func Workers(s *tree.Server) []Worker {
	if !s.Live() {
		return nil
	}
	here, err := os.Stat("/")
	if err != nil {
		return nil
	}
	names, err := s.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []Worker
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil {
			continue
		}
		dir := "/proc/" + n
		comm, err := os.ReadFile(dir + "/comm")
		if err != nil || !serverName(strings.TrimSpace(string(comm))) {
			continue
		}
		if exe, err := os.Readlink(dir + "/exe"); err == nil && !serverName(path.Base(strings.TrimSuffix(exe, " (deleted)"))) {
			continue
		}
		if root, err := os.Stat(dir + "/root/."); err != nil || !os.SameFile(root, here) {
			continue
		}
		b, err := os.ReadFile(dir + "/status")
		if err != nil {
			continue
		}
		if id, ok := parseStatus(string(b)); ok && id.UID != 0 {
			out = append(out, Worker{PID: pid, Comm: strings.TrimSpace(string(comm)), Identity: id})
		}
	}
	slices.SortFunc(out, func(a, b Worker) int { return a.PID - b.PID })
	return out
}

func serverName(s string) bool {
	switch {
	case s == "apache2", s == "httpd", s == "nginx", strings.HasPrefix(s, "php-fpm"):
		return true
	case strings.HasPrefix(s, "httpd."), strings.HasPrefix(s, "httpd-"):
		return true
	}
	return false
}

// Apache reports whether the worker is Apache's.
func (w *Worker) Apache() bool { return w.Comm == "apache2" || strings.HasPrefix(w.Comm, "httpd") }

// Nginx reports whether the worker is nginx's.
func (w *Worker) Nginx() bool { return w.Comm == "nginx" }

// parseStatus takes the effective uid and gid and the supplementary groups out of /proc/PID/status (proc_pid_status(5)).
func parseStatus(text string) (id rightful.Identity, ok bool) {
	var uid, gid bool
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		f := strings.Fields(value)
		num := func(i int) (uint32, bool) {
			if i >= len(f) {
				return 0, false
			}
			n, err := strconv.ParseUint(f[i], 10, 32)
			return uint32(n), err == nil
		}
		switch key {
		case "Uid":
			id.UID, uid = num(1)
		case "Gid":
			var g uint32
			if g, gid = num(1); gid {
				id.GIDs = append([]uint32{g}, id.GIDs...)
			}
		case "Groups":
			for i := range f {
				if g, ok := num(i); ok && !id.Has(g) {
					id.GIDs = append(id.GIDs, g)
				}
			}
		}
	}
	return id, uid && gid
}
