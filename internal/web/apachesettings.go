package web

import (
	"slices"
	"strings"
)

// options are the flags of the directive Options that decide about access.
type options uint8

const (
	optIndexes options = 1 << iota
	optFollow
	optOwnerMatch
	optExecCGI
	optIncludes
	optMultiViews
	optAll = optIndexes | optFollow | optExecCGI | optIncludes
	// A server that says nothing has FollowSymLinks alone (server/core.c, since 2.3.11).
	optDefault = optFollow
)

var optionNames = map[string]options{
	"indexes": optIndexes, "followsymlinks": optFollow, "symlinksifownermatch": optOwnerMatch, "execcgi": optExecCGI,
	"includes": optIncludes, "includesnoexec": optIncludes, "multiviews": optMultiViews, "all": optAll, "none": 0,
}

// overrides are the classes of AllowOverride.
type overrides uint8

const (
	allowAuth overrides = 1 << iota
	allowFile
	allowIndexes
	allowLimit
	allowOptions
	allowAll = allowAuth | allowFile | allowIndexes | allowLimit | allowOptions
)

var overrideNames = map[string]overrides{
	"authconfig": allowAuth, "fileinfo": allowFile, "indexes": allowIndexes, "limit": allowLimit, "options": allowOptions,
	"all": allowAll, "none": 0,
}

// settings are what applies at one place, merged from everything above it. They are never changed once made, and shared
// by all places where nothing intervenes.
type settings struct {
	options options
	// override says which classes a .htaccess may use, optionsIn which options, list which directives by name.
	override  overrides
	optionsIn options // 0: all
	list      []string
	// nonfatal classes are ignored in a .htaccess instead of being an error.
	nonfatal overrides

	index    []string
	noSlash  bool // DirectorySlash Off
	fallback string

	handler *Directive            // of SetHandler; nil: none
	byExt   map[string]*Directive // AddHandler, by lower-case suffix without its dot
	typeExt map[string]*Directive // AddType, AddHandler's elder
	actions map[string]bool

	access  access
	rewrite *rewrite
	// redirects are those of mod_alias in this context.
	redirects []*Directive

	files []*section // <Files>, <FilesMatch>
	ifs   []*section // <If>

	wrapper       string // FcgidWrapper
	suphp         bool
	symlinkGuard  bool // cPanel's SymlinkProtect
	phpOff        bool
	displayErrors maybe
	// doubt is set where a module decides of which the settings alone cannot tell what; at is where.
	doubt string
	at    *Directive

	// What was worked out from all this already.
	kids   map[*section]*settings
	kinds  map[*Directive]kind
	pool   *pool
	poolAt *Directive
}

// section is a set of directives that applies where its pattern matches.
type section struct {
	d     *Directive
	comps []string // of a <Directory>: its path's components
	match matcher  // of <Files>
	body  []Directive
	dir   string // where a .htaccess stands, with a closing slash; "" for the server's own configuration
}

// with gives the settings after a section, the same for the same.
func (s *settings) with(h *ApacheHost, sec *section) *settings {
	if k := s.kids[sec]; k != nil {
		return k
	}
	k := *s
	k.forget()
	m := merge{h: h, s: &k, dir: sec.dir}
	m.body(sec.body)
	m.end()
	if s.kids == nil {
		s.kids = map[*section]*settings{}
	}
	s.kids[sec] = &k
	return &k
}

// forget drops what was worked out from settings that have changed.
func (s *settings) forget() { s.kids, s.kinds, s.pool, s.poolAt = nil, nil, nil, nil }

// merge applies the directives of one section to settings. What several directives of a section say adds up; what the
// section above said is replaced.
type merge struct {
	h       *ApacheHost
	s       *settings
	dir     string
	indexed bool
	exts    bool
	types   bool
	rewrote bool
	require []requirement
	compat  *compat
}

func (m *merge) body(ds []Directive) {
	for i := range ds {
		m.directive(&ds[i])
	}
}

// end puts together what only the whole section tells.
func (m *merge) end() {
	if m.require != nil {
		m.s.access.require = &requirement{kind: "requireany", of: m.require}
	}
	if m.compat != nil {
		m.s.access.compat = m.compat
	}
	m.s.access.decide()
}

func (m *merge) directive(d *Directive) {
	s := m.s
	switch name := strings.ToLower(d.Name); name {
	case "options":
		s.options = setOptions(s.options, d.Args)
	case "allowoverride":
		m.allowOverride(d)
	case "allowoverridelist":
		s.list = nil
		for _, a := range d.Args {
			if !strings.EqualFold(a, "none") {
				s.list = append(s.list, strings.ToLower(a))
			}
		}
	case "directoryindex":
		if !m.indexed {
			s.index = nil
		}
		m.indexed = true
		s.index = addIndex(s.index, d.Args)
	case "directoryslash":
		s.noSlash = strings.EqualFold(d.Arg(0), "off")
	case "fallbackresource":
		if s.fallback = d.Arg(0); strings.EqualFold(s.fallback, "disabled") {
			s.fallback = ""
		}
	case "sethandler":
		s.handler = d
		if strings.EqualFold(d.Arg(0), "none") {
			s.handler = nil
		}
	case "addhandler":
		m.addExt(&s.byExt, &m.exts, d)
	case "addtype":
		m.addExt(&s.typeExt, &m.types, d)
	case "removehandler":
		m.removeExt(&s.byExt, &m.exts, d)
	case "removetype":
		m.removeExt(&s.typeExt, &m.types, d)
	case "forcetype":
		if k := m.h.kind(d.Arg(0), s); k != kindStatic {
			s.handler = d
		}
	case "action":
		actions := map[string]bool{strings.ToLower(d.Arg(0)): true}
		for a := range s.actions {
			actions[a] = true
		}
		s.actions = actions
	case "files", "filesmatch":
		s.files = append(slices.Clip(s.files), &section{d: d, match: nameMatcher(d), body: d.Body, dir: m.dir})
	case "if", "elseif", "else":
		s.ifs = append(slices.Clip(s.ifs), &section{d: d, body: d.Body, dir: m.dir})
	case "limit":
		if slices.ContainsFunc(d.Args, func(a string) bool { return strings.EqualFold(a, "GET") }) {
			m.body(d.Body)
		}
	case "limitexcept":
		if !slices.ContainsFunc(d.Args, func(a string) bool { return strings.EqualFold(a, "GET") }) {
			m.body(d.Body)
		}
	case "require", "requireall", "requireany", "requirenone":
		m.require = append(m.require, newRequirement(d))
	case "order", "allow", "deny":
		if m.compat == nil {
			m.compat = &compat{}
		}
		m.compat.add(d)
	case "satisfy":
		s.access.any = strings.EqualFold(d.Arg(0), "any")
	case "authtype":
		s.access.auth = !strings.EqualFold(d.Arg(0), "none")
	case "rewriteengine", "rewriteoptions", "rewritebase", "rewritecond", "rewriterule":
		m.rewriteDirective(name, d)
	case "redirect", "redirectmatch", "redirectpermanent", "redirecttemp":
		s.redirects = append(slices.Clip(s.redirects), d)
	case "fcgidwrapper":
		if suffix := d.Arg(1); suffix == "" || suffix == ".php" || strings.EqualFold(suffix, "virtual") {
			s.wrapper, _ = cutWord(d.Arg(0)) // arguments may follow
		}
	case "symlinkprotect":
		s.symlinkGuard = strings.EqualFold(d.Arg(0), "on")
	case "suphp_engine":
		s.suphp = strings.EqualFold(d.Arg(0), "on")
	case "php_admin_flag", "php_flag", "php_admin_value", "php_value":
		m.php(d)
	default:
		if why := unforeseen[name]; why != "" {
			s.doubt, s.at = why, d
		}
	}
}

// unforeseen are directives that let something decide about a request that nothing here can foretell.
var unforeseen = map[string]string{
	"luahookaccesschecker": "a Lua script decides", "luahookauthchecker": "a Lua script decides", "luahooktranslatename": "a Lua script decides",
	"luahookfixups": "a Lua script decides", "luahookmaptostorage": "a Lua script decides", "luaquickhandler": "a Lua script decides",
	"luamaphandler": "a Lua script decides", "perlaccesshandler": "a Perl handler decides", "perlfixuphandler": "a Perl handler decides",
	"perltranshandler": "a Perl handler decides", "perlresponsehandler": "a Perl handler decides",
	"virtualdocumentroot": "VirtualDocumentRoot maps names to directories",
}

func setOptions(have options, args []string) options {
	first := true
	for _, a := range args {
		op := byte(0)
		if a != "" && (a[0] == '+' || a[0] == '-') {
			op, a = a[0], a[1:]
		}
		o := optionNames[strings.ToLower(a)]
		switch {
		case op == '+':
			have |= o
		case op == '-':
			have &^= o
		case first:
			have, first = o, false
		default:
			have |= o
		}
	}
	return have
}

func (m *merge) allowOverride(d *Directive) {
	s := m.s
	s.override, s.optionsIn, s.nonfatal = 0, 0, 0
	for _, a := range d.Args {
		name, value, _ := strings.Cut(strings.ToLower(a), "=")
		switch {
		case name == "nonfatal":
			s.nonfatal |= overrideNames[value]
			if value == "override" || value == "all" {
				s.nonfatal |= allowAll
			}
			if value == "unknown" || value == "all" {
				s.nonfatal |= nonfatalUnknown
			}
		case name == "options" && value != "":
			s.override |= allowOptions
			for _, o := range strings.Split(value, ",") {
				s.optionsIn |= optionNames[o]
			}
		default:
			s.override |= overrideNames[name]
		}
	}
}

// nonfatalUnknown lets a .htaccess hold directives that do not exist.
const nonfatalUnknown overrides = 1 << 7

// overridable reports whether .htaccess files are looked for.
func (s *settings) overridable() bool { return s.override != 0 || len(s.list) > 0 }

// addExt records what a suffix means. The first of a section makes a map of its own.
func (m *merge) addExt(in *map[string]*Directive, own *bool, d *Directive) {
	m.ownMap(in, own)
	for _, ext := range d.Args[min(1, len(d.Args)):] {
		(*in)[strings.ToLower(strings.TrimPrefix(ext, "."))] = d
	}
}

func (m *merge) removeExt(in *map[string]*Directive, own *bool, d *Directive) {
	m.ownMap(in, own)
	for _, ext := range d.Args {
		delete(*in, strings.ToLower(strings.TrimPrefix(ext, ".")))
	}
}

func (m *merge) ownMap(in *map[string]*Directive, own *bool) {
	if *own {
		return
	}
	*own = true
	mine := make(map[string]*Directive, len(*in)+1)
	for k, v := range *in {
		mine[k] = v
	}
	*in = mine
}

func (m *merge) php(d *Directive) {
	v := strings.ToLower(d.Arg(1))
	off := v == "off" || v == "0" || v == "false"
	switch strings.ToLower(d.Arg(0)) {
	case "engine":
		m.s.phpOff = off
	case "display_errors":
		m.s.displayErrors = truth(!off && v != "stderr")
	}
}
