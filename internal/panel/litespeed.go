package panel

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"rightful"
)

// OpenLiteSpeed keeps one main file, in which each virtual host names its root directory and a file of its own. Both are
// lines of a key and a value, with blocks in braces.
const (
	lsDir  = "/usr/local/lsws"
	lsConf = lsDir + "/conf/httpd_config.conf"
)

// A lsHost is one virtual host of OpenLiteSpeed.
type lsHost struct {
	name, root, docroot string // docroot absolute, "" where the files do not say
	user, group         string // of external applications: PHP
	domains             []string
	listen              []string
	from                source
}

// liteSpeed is what the configuration says.
type liteSpeed struct {
	user, group string
	hosts       []lsHost
}

// lsBlock is a block of a configuration: its words, keys and blocks in order.
type lsBlock struct {
	words  []string
	line   int
	keys   map[string]string // the first of two counts; keys in lower case
	blocks []*lsBlock
}

// parseLiteSpeed reads a file. What is not closed is closed at its end; the lines of braces that close nothing are given.
func parseLiteSpeed(text string) (top *lsBlock, bad []int) {
	top = &lsBlock{keys: map[string]string{}}
	stack := []*lsBlock{top}
	n, heredoc := 0, ""
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		n++
		line = strings.TrimSpace(line)
		at := stack[len(stack)-1]
		switch {
		case heredoc != "":
			if line == heredoc {
				heredoc = ""
			}
		case line == "" || line[0] == '#':
		case line == "}":
			if len(stack) == 1 {
				bad = append(bad, n)
				continue
			}
			stack = stack[:len(stack)-1]
		case strings.HasSuffix(line, "{"):
			if len(stack) > 64 {
				return top, append(bad, n)
			}
			b := &lsBlock{words: strings.Fields(strings.TrimSuffix(line, "{")), line: n, keys: map[string]string{}}
			at.blocks = append(at.blocks, b)
			stack = append(stack, b)
		default:
			key, value, _ := strings.Cut(line, " ")
			if k, v, ok := strings.Cut(line, "\t"); ok && len(k) < len(key) {
				key, value = k, v
			}
			value = strings.TrimSpace(value)
			if mark, ok := strings.CutPrefix(value, "<<<"); ok && mark != "" {
				heredoc = mark
			}
			if _, twice := at.keys[strings.ToLower(key)]; !twice {
				at.keys[strings.ToLower(key)] = value
			}
			if strings.EqualFold(key, "map") {
				at.blocks = append(at.blocks, &lsBlock{words: []string{"map", value}, line: n})
			}
		}
	}
	if len(stack) > 1 {
		bad = append(bad, n)
	}
	return top, bad
}

// readLiteSpeed reads OpenLiteSpeed's configuration, once.
func (r *reader) readLiteSpeed() *liteSpeed {
	if r.litespeed != nil {
		return r.litespeed
	}
	ls := &liteSpeed{}
	r.litespeed = ls
	text, ok := r.read(lsConf, 64<<20, false)
	if !ok {
		return ls
	}
	top := r.parsed(lsConf, text)
	ls.user, ls.group = top.keys["user"], top.keys["group"]
	index := map[string]int{}
	for _, b := range top.blocks {
		if len(b.words) != 2 || !strings.EqualFold(b.words[0], "virtualHost") || !soundName(b.words[1]) {
			continue
		}
		h := lsHost{name: strings.ToLower(b.words[1]), from: source{lsConf, b.line}}
		vars := strings.NewReplacer("$VH_NAME", b.words[1], "$SERVER_ROOT", lsDir)
		h.root = lsPath(vars.Replace(b.keys["vhroot"]), lsDir)
		file := lsPath(strings.NewReplacer("$VH_NAME", b.words[1], "$SERVER_ROOT", lsDir, "$VH_ROOT", h.root).Replace(b.keys["configfile"]), lsDir)
		if file != "" {
			r.lsHost(&h, file, b.words[1])
		}
		index[b.words[1]] = len(ls.hosts)
		ls.hosts = append(ls.hosts, h)
	}
	for _, l := range top.blocks {
		if len(l.words) != 2 || !strings.EqualFold(l.words[0], "listener") {
			continue
		}
		scheme := "http"
		if l.keys["secure"] == "1" {
			scheme = "https"
		}
		address := strings.TrimPrefix(l.keys["address"], "*")
		for _, m := range l.blocks {
			if len(m.words) != 2 || m.words[0] != "map" {
				continue
			}
			// "map VHOST domain, domain"
			f := strings.FieldsFunc(m.words[1], func(c rune) bool { return c == ' ' || c == '\t' || c == ',' })
			if i, ok := index[append(f, "")[0]]; ok {
				h := &ls.hosts[i]
				for _, d := range f[1:] {
					if d != "*" {
						h.domains = addNames(h.domains, strings.ToLower(d))
					}
				}
				if address != "" {
					h.listen = addNames(h.listen, scheme+"://"+address)
				}
			}
		}
	}
	return ls
}

// lsHost reads the file of a virtual host.
func (r *reader) lsHost(h *lsHost, file, name string) {
	text, ok := r.read(file, 16<<20, false)
	if !ok {
		r.issue(Issue{File: lsConf, Line: h.from.line, Problem: Unreadable, Msg: fmt.Sprintf("virtual host %q: there is no %q", h.name, file)})
		return
	}
	top := r.parsed(file, text)
	domain := either2(top.keys["vhdomain"], name)
	vars := strings.NewReplacer("$VH_NAME", name, "$VH_ROOT", h.root, "$SERVER_ROOT", lsDir, "$VH_DOMAIN", domain)
	if d := vars.Replace(top.keys["docroot"]); d != "" {
		h.docroot = lsPath(d, h.root)
	}
	for _, list := range []string{top.keys["vhdomain"], top.keys["vhaliases"]} {
		for n := range strings.FieldsFuncSeq(vars.Replace(list), func(c rune) bool { return c == ',' || c == ' ' || c == '\t' }) {
			if n != "*" {
				h.domains = addNames(h.domains, strings.ToLower(n))
			}
		}
	}
	h.from = source{file, 1}
	for _, b := range top.blocks {
		if len(b.words) > 0 && strings.EqualFold(b.words[0], "extprocessor") && b.keys["extuser"] != "" && h.user == "" {
			h.user, h.group = b.keys["extuser"], b.keys["extgroup"]
		}
	}
}

func (r *reader) parsed(file, text string) *lsBlock {
	top, bad := parseLiteSpeed(text)
	for _, n := range bad {
		r.issue(Issue{File: file, Line: n, Problem: Syntax, Msg: "braces do not match"})
	}
	return top
}

// lsPath makes a path of a configuration absolute: a relative one is below base. It is "" where it cannot be.
func lsPath(p, base string) string {
	p = strings.Trim(p, `"`)
	if p == "" || strings.Contains(p, "$") || slices.Contains(strings.Split(p, "/"), "..") {
		return ""
	}
	if !path.IsAbs(p) {
		if base == "" {
			return ""
		}
		p = base + "/" + p
	}
	return path.Clean(p)
}

// lsSite is a virtual host of OpenLiteSpeed as a site. PHP is an external application, under the user that it names.
func (r *reader) lsSite(h *lsHost) rightful.Site {
	site := rightful.Site{Name: h.name, DocRoot: h.docroot, Server: "litespeed", Web: r.out.Web, CGIAs: r.out.Web, Listen: h.listen}
	site.Domains = addNames([]string{}, h.domains...)
	if len(site.Domains) == 0 && strings.Contains(h.name, ".") {
		site.Domains = []string{h.name}
	}
	site.PHP = rightful.PHP{Handler: "lsapi", Identity: r.out.Web}
	if h.user != "" {
		id, ok := r.out.Users.Identity(h.user, h.group)
		if !ok {
			r.issue(Issue{
				File: h.from.file, Line: h.from.line, Problem: NoUser,
				Msg: "virtual host " + quote(h.name) + ": user " + quote(h.user) + " or group " + quote(h.group) + " does not exist",
			})
			site.PHP.Handler = "unknown"
			return site
		}
		site.PHP.Identity = id
	}
	return site
}

// lsSites gives OpenLiteSpeed's virtual hosts to the accounts that own their document roots, as plainSite does.
func (r *reader) lsSites(claims []claim, index map[string]int, homes homes) {
	if !r.out.LiteSpeed {
		return
	}
	ls := r.readLiteSpeed()
	for i := range ls.hosts {
		if h := &ls.hosts[i]; h.docroot != "" && !SystemDir(h.docroot) {
			r.give(claims, index, homes, r.lsSite(h), h.from)
		}
	}
}
