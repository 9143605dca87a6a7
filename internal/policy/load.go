package policy

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"rightful"

	"github.com/BurntSushi/toml"
)

// maxFile bounds a rule file: the largest useful one is a few dozen kilobytes.
const maxFile = 1 << 20

// The form of a rule file.
type (
	fileTOML struct {
		Version  int          `toml:"version"`
		Panel    string       `toml:"panel"`
		Base     string       `toml:"base"`
		Maildir  string       `toml:"maildir"`
		Layout   []string     `toml:"layout"`
		Rule     []ruleTOML   `toml:"rule"`
		Vault    vaultTOML    `toml:"vault"`
		Skeleton skeletonTOML `toml:"skeleton"`
		Backup   backupTOML   `toml:"backup"`
	}
	ruleTOML struct {
		Name   string    `toml:"name"`
		Title  string    `toml:"title"`
		Path   words     `toml:"path"`
		Kind   words     `toml:"kind"`
		Public bool      `toml:"public"`
		Secret bool      `toml:"secret"`
		CGI    bool      `toml:"cgi"`
		Accept []altTOML `toml:"accept"`
	}
	altTOML struct {
		When  string         `toml:"when"`
		Owner words          `toml:"owner"`
		Group words          `toml:"group"`
		Mode  *rightful.Mode `toml:"mode"`
		Need  rightful.Mode  `toml:"need"`
		Deny  rightful.Mode  `toml:"deny"`
		ACL   words          `toml:"acl"`
	}
	// words is one string or a list of them.
	words []string
)

// UnmarshalTOML implements toml.Unmarshaler.
func (w *words) UnmarshalTOML(v any) error {
	switch v := v.(type) {
	case string:
		*w = words{v}
		return nil
	case []any:
		for _, x := range v {
			s, ok := x.(string)
			if !ok {
				return fmt.Errorf("%v is not a string", x)
			}
			*w = append(*w, s)
		}
		if len(v) == 0 {
			return errors.New("empty list")
		}
		return nil
	}
	return fmt.Errorf("%v is neither a string nor a list of strings", v)
}

// kindSet has bit K for kind K.
type kindSet uint16

func (k kindSet) has(x rightful.Kind) bool { return k&(1<<x) != 0 }

func (k kindSet) list() []rightful.Kind {
	out := []rightful.Kind{}
	for x := rightful.KindFile; x <= rightful.KindChar; x++ {
		if k.has(x) {
			out = append(out, x)
		}
	}
	return out
}

const (
	kindsDefault = kindSet(1<<rightful.KindFile | 1<<rightful.KindDir)
	kindDirOnly  = kindSet(1 << rightful.KindDir)
	kindLinkOnly = kindSet(1 << rightful.KindSymlink)
)

var ruleHeader = regexp.MustCompile(`^\s*\[\[\s*rule\s*\]\]`)

// ruleLines gives the line of every [[rule]] header.
func ruleLines(text []byte) []int {
	var lines []int
	for i, l := range bytes.Split(text, []byte("\n")) {
		if ruleHeader.Match(l) {
			lines = append(lines, i+1)
		}
	}
	return lines
}

// keyLine finds the first line that sets a key: the parser tells which key is unknown, not where.
func keyLine(text []byte, key string) int {
	re := regexp.MustCompile(`(^|[\s[{,."'])` + regexp.QuoteMeta(key) + `["']?\s*[=\].]`)
	for i, l := range bytes.Split(text, []byte("\n")) {
		if re.Match(l) {
			return i + 1
		}
	}
	return 1
}

// addEmbedded adds the embedded rules of a panel after those of the panel that they build on.
func (p *Policy) addEmbedded(panel string, text []byte) error {
	file := panel + ".toml"
	var head struct {
		Base string `toml:"base"`
	}
	if _, err := toml.Decode(string(text), &head); err != nil {
		return fmt.Errorf("load policy %q: %w", file, err)
	}
	if head.Base != "" {
		base, err := embedded.ReadFile("rules/" + head.Base + ".toml")
		if err != nil {
			return fmt.Errorf("load policy %q: %w", file, err)
		}
		if err := p.addEmbedded(head.Base, base); err != nil {
			return err
		}
	}
	return p.addFor(panel, file, text)
}

// add compiles one file and appends its rules, unless they are for another panel; they are checked all the same.
func (p *Policy) add(file string, text []byte) error { return p.addFor(p.Panel, file, text) }

func (p *Policy) addFor(panel, file string, text []byte) error {
	fail := func(line int, format string, args ...any) error {
		return fmt.Errorf("load policy %q: "+format, append([]any{file + ":" + strconv.Itoa(line)}, args...)...)
	}
	if len(text) > maxFile {
		return fmt.Errorf("load policy %q: larger than %d bytes", file, maxFile)
	}
	var f fileTOML
	md, err := toml.Decode(string(text), &f)
	if err != nil {
		var pe toml.ParseError
		if errors.As(err, &pe) {
			return fail(pe.Position.Line, "%s", pe.Message+causeOf(pe))
		}
		return fmt.Errorf("load policy %q: %w", file, err)
	}
	if bad := md.Undecoded(); len(bad) > 0 {
		k := bad[0]
		return fail(keyLine(text, k[len(k)-1]), "unknown key %q", k.String())
	}
	if f.Version != 1 {
		return fail(keyLine(text, "version"), "version is %d, not 1", f.Version)
	}
	if f.Panel == "" {
		return fail(1, "no panel")
	}
	if _, err := embedded.ReadFile("rules/" + file); f.Base != "" && err != nil {
		return fail(keyLine(text, "base"), "base is for the embedded rules: others come on top of them anyhow")
	}
	maildir := p.maildir
	if f.Maildir != "" {
		for _, c := range strings.Split(f.Maildir, "/") {
			if c == "" || c == "." || c == ".." {
				return fail(keyLine(text, "maildir"), "maildir %q is not a path below the home", f.Maildir)
			}
		}
		maildir = f.Maildir
	}
	layout := p.layout
	for _, s := range f.Layout {
		pt, err := parseFixed(s)
		if err != nil {
			return fail(keyLine(text, "layout"), "layout %q: %v", s, err)
		}
		layout = append(layout, pt)
	}
	rules, err := compileRules(file, text, f.Rule, maildir != "")
	if err != nil {
		return err
	}
	if err := f.Skeleton.check(); err != nil {
		return fail(keyLine(text, "skeleton"), "skeleton: %w", err)
	}
	backup, err := f.Backup.compile()
	if err != nil {
		return fail(keyLine(text, "backup"), "backup: %w", err)
	}
	if f.Panel != "*" && f.Panel != panel {
		return nil
	}
	p.maildir, p.layout = maildir, layout
	p.rules = append(p.rules, rules...)
	if err := p.vault.add(file, &f.Vault, maildir); err != nil {
		return fail(keyLine(text, "vault"), "vault: %w", err)
	}
	if err := p.addSkeleton(file, &f.Skeleton); err != nil {
		return fail(keyLine(text, "skeleton"), "skeleton: %w", err)
	}
	p.addBackup(&f.Backup, backup)
	comps := 0
	for _, r := range p.rules {
		for i := range r.patterns {
			comps += len(r.patterns[i].comps)
		}
	}
	if comps > maxPositions {
		return fmt.Errorf("load policy %q: more than %d components in all paths", file, maxPositions)
	}
	return nil
}

// compileRules compiles the rules of one file.
func compileRules(file string, text []byte, t []ruleTOML, maildir bool) ([]*rule, error) {
	lines := ruleLines(text)
	rules := make([]*rule, 0, len(t))
	for i := range t {
		line := 1
		if i < len(lines) {
			line = lines[i]
		}
		name := t[i].Name
		if name == "" {
			return nil, fmt.Errorf("load policy %q: a rule has no name", file+":"+strconv.Itoa(line))
		}
		r, err := compile(&t[i], maildir)
		if err == nil && slices.ContainsFunc(rules, func(o *rule) bool { return o.name == name }) {
			err = errors.New("the name is used twice in this file")
		}
		if err != nil {
			return nil, fmt.Errorf("load policy %q: line %d: %w", file+":"+name, line, err)
		}
		r.file, r.line = file, line
		rules = append(rules, r)
	}
	for i, r := range rules {
		for _, later := range rules[i+1:] {
			if r.shadowedBy(later) {
				return nil, fmt.Errorf("load policy %q: line %d: never decides: %q has the same path and comes later",
					r, r.line, later.name)
			}
		}
	}
	return rules, nil
}

// causeOf gives the cause that the parser keeps apart from its message.
func causeOf(pe toml.ParseError) string {
	if pe.Message != "" {
		return ""
	}
	if err := errors.Unwrap(pe); err != nil {
		return err.Error()
	}
	_, msg, _ := strings.Cut(pe.Error(), ": ")
	return msg
}

func compile(t *ruleTOML, maildir bool) (*rule, error) {
	r := &rule{name: t.Name, title: t.Title, public: t.Public, secret: t.Secret, cgi: t.CGI, kinds: kindsDefault}
	if strings.ContainsAny(t.Name, ": \n\t") {
		return nil, errors.New("the name has a colon or a space")
	}
	if t.Public && t.Secret {
		return nil, errors.New("both public and secret")
	}
	if len(t.Kind) > 0 {
		r.kinds = 0
		for _, s := range t.Kind {
			k, err := rightful.ParseKind(s)
			if err != nil || k == rightful.KindUnknown {
				return nil, fmt.Errorf("unknown kind %q", s)
			}
			r.kinds |= 1 << k
		}
	}
	if len(t.Path) == 0 {
		return nil, errors.New("no path")
	}
	self := 0
	for _, s := range t.Path {
		pt, err := parsePattern(s)
		if err != nil {
			return nil, fmt.Errorf("path %q: %w", s, err)
		}
		if pt.anchor == anchorMaildir && !maildir {
			return nil, fmt.Errorf("path %q: {maildir} needs maildir = \"…\" at the head of the file", s)
		}
		if pt.anchor == anchorParent && len(pt.comps) > 0 {
			return nil, fmt.Errorf("path %q: {docroot-parent} is a directory and nothing in it", s)
		}
		if len(pt.comps) == 0 {
			self++
			if !r.kinds.has(rightful.KindDir) {
				return nil, fmt.Errorf("path %q: is always a directory, and kind leaves that out", s)
			}
		}
		r.patterns = append(r.patterns, pt)
	}
	if self == len(t.Path) {
		if len(t.Kind) > 0 && r.kinds != kindDirOnly {
			return nil, errors.New("is always a directory, and kind says more")
		}
		r.kinds = kindDirOnly
	}
	if len(t.Accept) == 0 {
		return nil, errors.New("accept is empty")
	}
	for i := range t.Accept {
		a, err := compileAlt(&t.Accept[i], r)
		if err != nil {
			return nil, fmt.Errorf("accept %d: %w", i+1, err)
		}
		a.index = i
		r.alts = append(r.alts, a)
	}
	return r, nil
}

func compileAlt(t *altTOML, r *rule) (alternative, error) {
	a := alternative{whenText: t.When, owner: t.Owner, group: t.Group, need: t.Need, deny: t.Deny}
	if t.Mode != nil {
		a.mode, a.hasMode = *t.Mode, true
	}
	var err error
	if a.when, err = parseWhen(t.When); err != nil {
		return a, err
	}
	for _, names := range [][]string{t.Owner, t.Group} {
		for _, n := range names {
			if err := checkName(n, len(names) > 1); err != nil {
				return a, err
			}
		}
	}
	if a.need&a.deny != 0 {
		return a, fmt.Errorf("need %s and deny %s contradict", a.need, a.deny)
	}
	if a.hasMode && (a.mode&a.need != a.need || a.mode&a.deny != 0) {
		return a, fmt.Errorf("mode %s is not right by its own need %s and deny %s", a.mode, a.need, a.deny)
	}
	if r.kinds == kindLinkOnly && (a.hasMode || a.need != 0 || a.deny != 0 || len(t.ACL) > 0) {
		return a, errors.New("a link has no mode and no ACL")
	}
	if a.need&(rightful.ModeSetuid|rightful.ModeSetgid) != 0 && r.kinds&^kindDirOnly != 0 {
		return a, fmt.Errorf("need %s gives a privilege to files", a.need)
	}
	for _, s := range t.ACL {
		e, err := parseACLWord(s)
		if err != nil {
			return a, err
		}
		if e.want && (r.secret || !r.public && e.perm&6 != 0) {
			return a, fmt.Errorf("acl %q opens what is not public", s)
		}
		a.acl = append(a.acl, e)
	}
	if r.secret && (a.need&0o077 != 0 || len(t.Group) > 0 && t.Group[0] == nameWeb) {
		return a, errors.New("a secret is never loosened: need gives rights to group or other, or the group is the web server's")
	}
	if r.kinds&^kindDirOnly != 0 && !r.public {
		web := len(t.Group) == 0 || t.Group[0] == nameWeb || t.Group[0] == nameAny
		if a.need&0o006 != 0 || web && a.need&0o060 != 0 {
			return a, fmt.Errorf("need %s lets the web server in, and the rule does not say public", a.need)
		}
	}
	return a, nil
}

// The names with a meaning of their own.
const (
	nameUser = "user"
	nameWeb  = "web"
	nameRoot = "root"
	nameAny  = "any"
	// nameNested is who owns the nested home that the entry lies in.
	nameNested = "nested"
)

func checkName(n string, listed bool) error {
	switch {
	case n == "":
		return errors.New("empty name")
	case n == nameAny && listed:
		return errors.New(`"any" stands alone`)
	case n[0] == '#':
		if _, err := strconv.ParseUint(n[1:], 10, 32); err != nil {
			return fmt.Errorf("%q is not # and a number", n)
		}
	}
	return nil
}

// shadowedBy reports whether a later rule of the same file decides wherever r would.
func (r *rule) shadowedBy(later *rule) bool {
	if r.kinds&^later.kinds != 0 {
		return false
	}
	for _, p := range r.patterns {
		if !slices.ContainsFunc(later.patterns, func(q pattern) bool { return p.key() == q.key() }) {
			return false
		}
	}
	for f := range factSet(1) << len(factNames) {
		if r.applies(f) && !later.applies(f) {
			return false
		}
	}
	// A later rule that names an owner or a group may be void on a server that lacks it.
	return !slices.ContainsFunc(later.alts, func(a alternative) bool { return a.needsNames() })
}

func (r *rule) applies(f factSet) bool {
	return slices.ContainsFunc(r.alts, func(a alternative) bool { return a.when.holds(f) })
}
