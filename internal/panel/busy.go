package panel

import (
	"bytes"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"rightful"
	"rightful/internal/tree"
)

// A Process is one that changes customers' trees while we look: the script that broke them, or a restore.
type Process struct {
	PID     int    `json:"pid"`
	Command string `json:"command"` // its arguments, parted by spaces
	Path    string `json:"path"`    // the customers' directory that it works on
}

// fixers are the panels' programs, and other people's scripts, that change owners or modes of customers' trees: they know
// the homes by themselves. Where they are told nobody, they mean everybody. Backups only read, and are not among them.
var fixers = []string{
	"chownpublichtmls", "fixsuexeccgiscripts", "mailperm", "enablefileprotect", "disablefileprotect", "restorepkg", // cPanel
	"fixperms", "fixpermissions", "fix-permissions", "suphpfix", // scripts that hostmasters pass on
	"set_permissions", "fix-domain-permissions", // DirectAdmin, Virtualmin
}

// fixes reports whether a command is a fixer.
func fixes(args []string) bool {
	base := path.Base(args[0])
	says := func(i int, words ...string) bool { return len(args) > i && slices.Contains(words, args[i]) }
	switch base {
	case "plesk":
		return says(1, "repair") && says(2, "fs", "all", "installation")
	case "virtualmin":
		return says(1, "fix-domain-permissions", "restore-domain")
	case "clpctl":
		return says(1, "system:permissions:reset")
	}
	if slices.ContainsFunc([]string{"v-rebuild-", "v-restore-", "v-fix-"}, func(p string) bool { return strings.HasPrefix(base, p) }) { // HestiaCP, myVesta
		return true
	}
	return slices.Contains(fixers, strings.TrimSuffix(base, path.Ext(base)))
}

// Busy lists root's processes that are changing one of some accounts' homes, or something in it. It is empty where the
// server is not the running machine. Customers' own processes are their own business, and so are the process that asks
// and those that started it: a script may do its part and call us for the rest.
func Busy(s *tree.Server, all []Account, some []*Account) []Process {
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
	kin := map[int]bool{}
	for pid := os.Getpid(); pid > 0 && !kin[pid]; {
		kin[pid] = true
		_, pid = status(pid)
	}
	var out []Process
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil || kin[pid] {
			continue
		}
		dir := "/proc/" + n
		raw, err := os.ReadFile(dir + "/cmdline")
		if err != nil || len(raw) == 0 {
			continue
		}
		args := strings.Split(string(bytes.TrimRight(raw, "\x00")), "\x00")
		cwd, _ := os.Readlink(dir + "/cwd")
		p := target(args, cwd, all)
		if p == "" || !slices.ContainsFunc(some, func(a *Account) bool { return Within(p, a.Home) || Within(a.Home, p) }) {
			continue
		}
		if uid, _ := status(pid); uid != 0 {
			continue
		}
		if root, err := os.Stat(dir + "/root/."); err != nil || !os.SameFile(root, here) {
			continue
		}
		out = append(out, Process{pid, strings.Join(args, " "), p})
	}
	slices.SortFunc(out, func(a, b Process) int { return a.PID - b.PID })
	return out
}

// status reads the effective user of a process and who started it; -1 and 0 where it is gone.
func status(pid int) (uid, parent int) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return -1, 0
	}
	uid = -1
	for line := range strings.Lines(string(text)) {
		switch f := strings.Fields(line); {
		case len(f) > 2 && f[0] == "Uid:":
			uid, _ = strconv.Atoi(f[2])
		case len(f) > 1 && f[0] == "PPid:":
			parent, _ = strconv.Atoi(f[1])
		}
	}
	return uid, parent
}

// target gives the customers' directory that a command changes: one in a home, a home, or one above homes; "" where it
// changes none.
func target(args []string, cwd string, accounts []Account) string {
	if len(args) == 1 {
		args = strings.Fields(args[0]) // a program that rewrote its title
	}
	args = command(args)
	if len(args) == 0 {
		return ""
	}
	if fixes(args) {
		return told(args[1:], accounts)
	}
	for _, p := range paths(args, cwd) {
		if !path.IsAbs(p) {
			p = path.Join(cwd, p)
		}
		if p = path.Clean(p); p == "/" && !descends(args) {
			continue
		}
		if slices.ContainsFunc(accounts, func(a Account) bool { return Within(p, a.Home) || Within(a.Home, p) }) {
			return p
		}
	}
	return ""
}

// descends reports whether a program that was given "/" works on what lies in the homes too, and not in "/" itself.
func descends(args []string) bool {
	return slices.Contains([]string{"chown", "chgrp", "chmod", "setfacl", "restorecon", "setfiles", "find"}, path.Base(args[0]))
}

// command takes the interpreter off a script's command line. What a shell is given as text (-c) it runs as processes of
// their own, if it is more than its own words.
func command(args []string) []string {
	if len(args) == 0 {
		return nil
	}
	switch strings.TrimRight(path.Base(args[0]), "0123456789.") {
	case "sh", "bash", "dash", "ksh", "zsh", "perl", "python", "php", "ruby", "busybox":
		for i, a := range args[1:] {
			if a == "-c" || a == "-e" {
				return nil
			}
			if !strings.HasPrefix(a, "-") {
				return args[i+1:]
			}
		}
		return nil
	}
	return args
}

// told gives the home that a fixer was told by the name of an account, a domain or a path; else where all homes lie.
func told(args []string, accounts []Account) string {
	for _, arg := range args {
		_, value, _ := strings.Cut(arg, "=")
		for i := range accounts {
			a := &accounts[i]
			for _, word := range []string{arg, value} {
				if word == a.Name || path.IsAbs(word) && Within(path.Clean(word), a.Home) ||
					slices.ContainsFunc(a.Sites, func(s rightful.Site) bool { return slices.Contains(s.Domains, word) }) {
					return a.Home
				}
			}
		}
	}
	if len(accounts) == 0 {
		return ""
	}
	top := path.Dir(accounts[0].Home)
	for i := range accounts {
		for top != "/" && !Within(accounts[i].Home, top) {
			top = path.Dir(top)
		}
	}
	return top
}

// paths gives what a general program changes: its operands, relative ones included, or its working directory.
func paths(args []string, cwd string) []string {
	var operands []string
	value := map[string]string{} // options and the word after each
	for i, a := range args[1:] {
		if len(a) > 1 && a[0] == '-' {
			value[a] = ""
			if i+2 < len(args) {
				value[a] = args[i+2]
			}
			if k, v, ok := strings.Cut(a, "="); ok {
				value[k] = v
			}
			continue
		}
		operands = append(operands, a)
	}
	has := func(options ...string) (string, bool) {
		for _, o := range options {
			if v, ok := value[o]; ok {
				return v, true
			}
		}
		return cwd, false
	}
	switch path.Base(args[0]) {
	case "chown", "chgrp", "chmod":
		if _, ok := has("--reference"); !ok && len(operands) > 0 {
			return operands[1:] // the first is the owner or the mode
		}
		return operands
	case "setfacl", "restorecon", "setfiles", "mv":
		return operands
	case "cp", "rsync", "install": // what they copy from is only read
		if _, sends := has("--sender"); sends {
			return nil
		}
		if dir, ok := has("-t", "--target-directory"); ok {
			return []string{dir}
		}
		to := operands[max(len(operands)-1, 0):]
		if len(to) > 0 && strings.Contains(strings.Split(to[0], "/")[0], ":") { // another machine
			return nil
		}
		return to
	case "tar", "bsdtar":
		extracts := func(a string) bool { return len(a) > 1 && a[0] == '-' && a[1] != '-' && strings.Contains(a, "x") }
		if _, long := has("--extract", "--get"); !long && !slices.ContainsFunc(args[1:], extracts) && !(len(args) > 1 && args[1] != "" && args[1][0] != '-' && strings.Contains(args[1], "x")) {
			return nil
		}
		dir, _ := has("-C", "--directory")
		return []string{dir}
	case "unzip":
		dir, _ := has("-d")
		return []string{dir}
	case "cpio":
		return []string{cwd}
	case "find":
		i := slices.IndexFunc(args, func(x string) bool { return strings.HasPrefix(x, "-exec") || strings.HasPrefix(x, "-ok") })
		if i < 0 || i+1 >= len(args) || !slices.Contains([]string{"chown", "chgrp", "chmod", "setfacl", "sh", "bash"}, path.Base(args[i+1])) {
			return nil
		}
		start := args[1:]
		if i := slices.IndexFunc(start, func(x string) bool { return x != "" && strings.ContainsAny(x[:1], "-(!") }); i >= 0 {
			start = start[:i]
		}
		if len(start) == 0 {
			return []string{cwd}
		}
		return start
	}
	return nil
}
