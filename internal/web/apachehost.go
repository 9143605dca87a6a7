package web

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"rightful"
	"rightful/internal/tree"
)

// An ApacheHostConfig is what an [ApacheHost] is made of.
type ApacheHostConfig struct {
	Server *tree.Server
	Config *ApacheConfig
	// VHost is one of Config's virtual hosts, or its main server.
	VHost *VHost
	// DocRoot is absolute and clean, as configured.
	DocRoot string
	// Web is who walks and opens: the workers, or who they become for this host (mpm_itk, mod_ruid2's RMode config).
	Web rightful.Identity
	// Workers is who the workers are before that.
	Workers rightful.Identity
	// CGI is who suEXEC runs programs as, or Web.
	CGI rightful.Identity
	// Pool finds the pool of PHP-FPM that answers on a backend ("unix:/path", "tcp:host:port") and who it runs as.
	Pool func(backend string) (*Pool, rightful.Identity, bool)
	// CPanel: suEXEC and links are as cPanel builds them.
	CPanel bool
	// Home finds a user's home, for UserDir; nil where that is not known.
	Home func(user string) (string, bool)
	// scripts: everything in the document root is run (ScriptAlias). bare: it is not one that URLs begin at.
	scripts, bare bool
}

// mode is how a worker takes another identity.
type mode uint8

const (
	modePlain  mode = iota
	modeITK         // walks with CAP_DAC_READ_SEARCH, then becomes the site's user
	modeConfig      // mod_ruid2: is the site's user throughout
	modeStat        // mod_ruid2: walks with CAP_DAC_READ_SEARCH, then becomes the file's owner
)

// An ApacheHost is a virtual host of Apache 2.4.
type ApacheHost struct {
	ApacheHostConfig
	mode      mode
	base      *settings
	dirs      []*section // <Directory>, in the order in which they apply
	regexes   []*section // <DirectoryMatch>
	locs      []*section
	aliases   []alias
	proxies   []proxyRule
	server    *rewrite // rules outside any directory
	access    []string // AccessFileName
	acted     []*Directive
	ids       []rightful.Identity
	suexec    *suexec
	pools     map[string]*pool
	parsed    map[string]*section // .htaccess by content
	notes     []string
	userDir   string
	doubt     string          // something that may decide about everything
	links     maybe           // fs.protected_symlinks
	mounts    map[string]bool // whether they are noexec; nil until somebody asks
	php       bool            // mod_php is loaded
	phpErrors maybe           // display_errors in its php.ini
}

// alias is one of Alias, AliasMatch, ScriptAlias, ScriptAliasMatch.
type alias struct {
	d      *Directive
	url    string // without a closing slash
	to     string
	re     *regexp.Regexp
	script bool
}

// NewApacheHost compiles a virtual host.
func NewApacheHost(c ApacheHostConfig) *ApacheHost {
	h := &ApacheHost{ApacheHostConfig: c, pools: map[string]*pool{}, parsed: map[string]*section{}, php: c.Config.PHPModule(), phpErrors: unsure}
	has := c.Config.Has
	v, d := c.VHost, &c.Config.Default
	switch {
	case has("mpm_itk_module") && (v.Assign.User != "" || d.Assign.User != ""):
		h.mode = modeITK
	case has("ruid2_module") && (v.RMode == "stat" || v.RMode == "" && d.RMode == "stat"):
		h.mode = modeStat
	case has("ruid2_module") && (v.RUidGid.User != "" || d.RUidGid.User != ""):
		h.mode = modeConfig
	}
	h.identity(h.Web)
	h.identity(h.CGI)
	h.links = protectedSymlinks(c.Server)
	h.compile()
	if has("suexec_module") && h.mode == modePlain && (h.CGI.UID != h.Web.UID || v.Suexec.User != "" || d.Suexec.User != "") {
		h.suexec = h.newSuexec()
	}
	h.modules()
	return h
}

// limited reports whether the site's user is outside mpm_itk's LimitUIDRange or LimitGIDRange, where they are set: then
// every request is an error.
func (h *ApacheHost) limited() bool {
	outside := func(name string, id uint32) bool {
		for i := range h.Config.Default.Body {
			if d := &h.Config.Default.Body[i]; d.Is(name) {
				low, err := strconv.ParseUint(d.Arg(0), 10, 32)
				high, err2 := strconv.ParseUint(d.Arg(1), 10, 32)
				return err == nil && uint64(id) < low || err2 == nil && uint64(id) > high
			}
		}
		return false
	}
	return h.mode == modeITK && (outside("LimitUIDRange", h.Web.UID) || len(h.Web.GIDs) > 0 && outside("LimitGIDRange", h.Web.GIDs[0]))
}

// Notes implements [Host].
func (h *ApacheHost) Notes() []string { return h.notes }

func (h *ApacheHost) note(s string) {
	if !slices.Contains(h.notes, s) {
		h.notes = append(h.notes, s)
	}
}

// modules notes what decides by means that are not looked into.
func (h *ApacheHost) modules() {
	for _, m := range [...]struct{ id, why string }{
		{"security2_module", "ModSecurity may refuse a request for what it says"},
		{"security3_module", "ModSecurity may refuse a request for what it says"},
		{"evasive20_module", "mod_evasive may refuse a visitor for asking too often"},
		{"imunify360_module", "Imunify360 may refuse a visitor"},
	} {
		if h.Config.Has(m.id) {
			h.note(m.why)
		}
	}
	if h.Server != nil && h.Server.Live() {
		if b, err := h.Server.ReadFile("/sys/fs/selinux/enforce", 16); err == nil && strings.TrimSpace(string(b)) == "1" {
			h.note("SELinux is enforcing: its labels are not looked at")
		}
	}
}

// identity gives the index of an identity.
func (h *ApacheHost) identity(id rightful.Identity) int {
	for i, x := range h.ids {
		if x.UID == id.UID && slices.Equal(x.GIDs, id.GIDs) {
			return i
		}
	}
	if len(h.ids) == 64 {
		h.doubt = "more identities serve this host than are kept apart"
		return 63
	}
	h.ids = append(h.ids, id)
	return len(h.ids) - 1
}

// web is the index of who walks.
func (h *ApacheHost) web() int { return 0 }

// pass has a bit for each identity of a host.
type pass uint64

func (p pass) has(i int) bool { return p&(1<<i) != 0 }

// search gives who may pass through a directory.
func (h *ApacheHost) search(m *rightful.Meta) pass {
	var p pass
	for i := range h.ids {
		if h.ids[i].UID == 0 || m.Allowed(h.ids[i], rightful.RightSearch) {
			p |= 1 << i
		}
	}
	return p
}

// compile sorts what the main server and the virtual host say into what applies when.
func (h *ApacheHost) compile() {
	base := &settings{options: optDefault, displayErrors: unsure}
	bodies := [][]Directive{h.Config.Default.Body}
	if h.VHost != &h.Config.Default {
		bodies = append(bodies, h.VHost.Body)
	}
	for _, body := range bodies {
		m := merge{h: h, s: base}
		var rules *rewrite
		var as []alias
		var ps []proxyRule
		for i := range body {
			d := &body[i]
			switch name := strings.ToLower(d.Name); name {
			case "directory", "directorymatch":
				h.directory(d)
			case "location", "locationmatch":
				h.locs = append(h.locs, newLocation(d))
			case "proxypass", "proxypassmatch":
				ps = append(ps, newProxyRule(d, name == "proxypassmatch"))
			case "alias", "scriptalias", "aliasmatch", "scriptaliasmatch":
				as = append(as, h.newAlias(d))
			case "accessfilename":
				h.access = d.Args
			case "userdir":
				h.userDir = strings.Join(d.Args, " ")
			case "rewriteengine", "rewritecond", "rewriterule", "rewriteoptions":
				rm := merge{h: h, s: &settings{rewrite: rules}, rewrote: rules != nil}
				rm.rewriteDirective(name, d)
				rules = rm.s.rewrite
			default:
				m.directive(d)
			}
		}
		m.end()
		if rules != nil { // a virtual host's own replace the main server's
			h.server = rules
		}
		// A virtual host's own come first.
		h.aliases, h.proxies = append(as, h.aliases...), append(ps, h.proxies...)
	}
	if h.server != nil && !h.server.on {
		h.server = nil
	}
	if h.access == nil {
		h.access = []string{".htaccess"}
	}
	if base.index == nil {
		base.index = []string{"index.html"} // AP_DEFAULT_INDEX
	}
	h.acted = base.redirects
	if h.bare { // they were asked about the whole URL
		h.server, h.proxies = nil, nil
	}
	h.base = base
	slices.SortStableFunc(h.dirs, func(a, b *section) int { return len(a.comps) - len(b.comps) })
	if base.doubt != "" {
		h.doubt = base.doubt
	}
}

func (h *ApacheHost) directory(d *Directive) {
	s := &section{d: d, body: d.Body}
	p, regex := d.Arg(0), d.Is("DirectoryMatch")
	if p == "~" {
		p, regex = d.Arg(1), true
	}
	if regex {
		s.match = regexMatcher(p)
		h.regexes = append(h.regexes, s)
		return
	}
	s.comps = splitPath(path.Clean(p))
	h.dirs = append(h.dirs, s)
}

func splitPath(p string) []string {
	return slices.DeleteFunc(strings.Split(p, "/"), func(c string) bool { return c == "" })
}

// newLocation keeps a location's pattern in dir where it is plain, else in match.
func newLocation(d *Directive) *section {
	s := &section{d: d, body: d.Body}
	p, regex := d.Arg(0), d.Is("LocationMatch")
	if p == "~" {
		p, regex = d.Arg(1), true
	}
	switch {
	case regex:
		s.match = regexMatcher(p)
	case strings.ContainsAny(p, "*?["):
		s.match = globMatcher(p)
	default:
		s.comps = []string{p}
	}
	return s
}

func (h *ApacheHost) newAlias(d *Directive) alias {
	a := alias{d: d, url: strings.TrimSuffix(d.Arg(0), "/"), to: d.Arg(1), script: strings.HasPrefix(strings.ToLower(d.Name), "script")}
	if strings.HasSuffix(strings.ToLower(d.Name), "match") {
		a.re, _ = regexp.Compile(d.Arg(0))
		return a
	}
	a.to = h.Config.abs(a.to)
	return a
}

// protectedSymlinks reads whether the kernel refuses links of strangers in shared directories (proc_sys_fs(5)).
func protectedSymlinks(s *tree.Server) maybe {
	if s == nil || !s.Live() {
		return unsure
	}
	b, err := s.ReadFile("/proc/sys/fs/protected_symlinks", 16)
	if err != nil {
		return unsure
	}
	return truth(strings.TrimSpace(string(b)) != "0")
}
