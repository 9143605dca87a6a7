package panel

import (
	"bytes"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"rightful/internal/tree"
)

// A Process is one that changes customers' trees while we look: the script that broke them, or a restore.
type Process struct {
	PID     int    `json:"pid"`
	Command string `json:"command"` // its arguments, parted by spaces
	Path    string `json:"path"`    // the customers' directory that it works on
}

// changers are programs that change owners, modes or whole trees. find and tar are only meant in some of their uses.
var changers = []string{
	"chown", "chmod", "chgrp", "setfacl", "rsync", "cp", "mv", "tar", "bsdtar", "unzip", "cpio", "find", "xargs", "restorecon", "setfiles",
	// cPanel's restores, transfers and fixers; other panels add theirs.
	"restorepkg", "cpmove", "pkgacct", "cpbackup", "bin/backup", "fullbackup", "mailperm", "chownpublichtmls", "fixperms", "enablefileprotect", "disablefileprotect",
}

// Busy lists root's processes that are changing one of the accounts' homes: by name, and because an argument or their
// working directory lies in a home or above one. It is empty where the server is not the running machine. Customers'
// own processes are their own business.
func Busy(s *tree.Server, accounts []Account) []Process {
	if !s.Live() {
		return nil
	}
	names, err := s.ReadDir("/proc")
	if err != nil {
		return nil
	}
	here, err := os.Stat("/")
	if err != nil {
		return nil
	}
	var out []Process
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil || pid == os.Getpid() {
			continue
		}
		dir := "/proc/" + n
		fi, err := os.Stat(dir)
		if err != nil || fi.Sys().(*syscall.Stat_t).Uid != 0 {
			continue
		}
		raw, err := os.ReadFile(dir + "/cmdline")
		if err != nil {
			continue
		}
		args := strings.Split(string(bytes.TrimRight(raw, "\x00")), "\x00")
		if !changes(args) {
			continue
		}
		if root, err := os.Stat(dir + "/root/."); err != nil || !os.SameFile(root, here) {
			continue
		}
		cwd, _ := os.Readlink(dir + "/cwd")
		if p := worksOn(args, cwd, accounts); p != "" {
			out = append(out, Process{pid, strings.Join(args, " "), p})
		}
	}
	slices.SortFunc(out, func(a, b Process) int { return a.PID - b.PID })
	return out
}

// changes reports whether a command line is one of a changer. A script is named by its interpreter's first argument.
func changes(args []string) bool {
	for i, a := range args[:min(len(args), 3)] {
		base := path.Base(a)
		if i > 0 && strings.HasPrefix(a, "-") {
			continue
		}
		for _, c := range changers {
			if base != c && !(strings.Contains(c, "/") && strings.HasSuffix(a, "/"+c)) {
				continue
			}
			switch base {
			case "find":
				return slices.ContainsFunc(args, func(x string) bool { return strings.HasPrefix(x, "-exec") || x == "-delete" })
			case "tar", "bsdtar":
				return i+1 < len(args) && (strings.Contains(args[i+1], "x") || slices.Contains(args, "--extract") || slices.Contains(args, "-x"))
			}
			return true
		}
		if i == 0 && !interpreter(base) {
			return false
		}
	}
	return false
}

func interpreter(name string) bool {
	switch strings.TrimRight(name, "0123456789.") {
	case "sh", "bash", "dash", "ksh", "zsh", "perl", "python", "php", "nice", "ionice", "sudo", "env", "timeout", "nohup":
		return true
	}
	return false
}

// worksOn gives the first argument, or else the working directory, that holds a home or lies in one; "" for none.
func worksOn(args []string, cwd string, accounts []Account) string {
	touches := func(p string, above bool) bool {
		return slices.ContainsFunc(accounts, func(a Account) bool {
			return Within(p, a.Home) || above && p != "/" && Within(a.Home, p) || p == a.Name
		})
	}
	named := false
	for _, a := range args[1:] {
		if !strings.HasPrefix(a, "/") && !slices.ContainsFunc(accounts, func(x Account) bool { return x.Name == a }) {
			continue
		}
		named = true
		if p := a; strings.HasPrefix(p, "/") && touches(path.Clean(p), true) || !strings.HasPrefix(p, "/") && touches(p, false) {
			return a
		}
	}
	if !named && cwd != "" && touches(cwd, true) {
		return cwd
	}
	return ""
}
