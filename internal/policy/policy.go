// Package policy says what each path of an account should be, and which rule in which file said so.
//
// It knows rule files (rules/PANEL.toml, embedded, and the operator's own of the same form), matches paths against
// them one component at a time, and judges an entry's owner, group, mode and access ACL. It is pure: no file system
// but an fs.FS handed to it, no clock, no users database but the functions in a [Binding].
//
// # Which rule decides
//
// A pattern starts at an anchor: {home} (the default), {docroot}, {docroot-parent} (each directory between the home and
// a document root, and nothing in it), {nested} (a home of another uid inside the account's: a mailbox or web user of its
// own, whose owner and group the word "nested" stands for), {maildir} or {cgi}. Directories that a file's layout names
// are no {docroot-parent}: they are ruled by their paths. The anchor nearest to the entry wins: a rule of the innermost
// document root beats a rule of an enclosing one and every rule of the home, in whatever file it stands. Anchors on the
// very same directory rank {docroot}, {cgi}, {maildir}, {docroot-parent}, {nested}, {home}. At one anchor the later rule
// wins: later in its file, a file after the one that it builds on (base = "plain"), and the operator's files, in name
// order, after the embedded ones. A rule without an alternative
// whose `when` holds for the account, or whose owners and groups do not exist on the server, is as if it were not
// written. A path that no rule matches is nobody's business: the rule is nil.
//
// Components are matched as bytes: * any run of bytes, ? one byte, {a,b} either, \ takes the next byte literally; **
// as a whole component is any number of components, at the end of a pattern at least one. A leading dot is not special.
//
// # What is right
//
// An entry is right if it satisfies one alternative of its rule entirely: the owner is one of those accepted, the group
// too, all bits of need are set, none of deny are, required ACL entries are there and forbidden ones are not. Otherwise
// a repair goes to the first alternative that holds (or, for what is public, to a later one that asks only for another
// group where the first would open it to everybody), by the smallest change: an owner or group only where the present
// one is not accepted, the mode (mode | need) &^ deny. It keeps exec bits, set-id bits and tightened modes, with these
// exceptions: set-id bits and capabilities of anything but a directory go when its owner or group changes, and a file
// that is not public by nature never lets the web server read or write it by a change of group. Secrets never gain a
// bit for group or other: a rule file that says otherwise is refused.
//
// On an entry with an access ACL the group bits of the mode are the mask: need and deny for the group are judged on
// what the owning group effectively gets, a repair edits group::, and widens the mask only if no other entry gains by
// it; else the judgement says why it is stuck. Named users and groups in an ACL are the operator's own decision, even
// with write permission, unless the alternative's acl forbids them. Links have no mode: only owner and group count.
//
// # What should not be lost
//
// Rules speak of what is there. Tables besides speak of what should be kept: [vault] lists the small files that are worth
// keeping outside the home, [skeleton] the directories and links that a home has before anything is put into it, and
// [backup] says how the panel's own backups are made. Files after the first add to them.
//
// It refuses to guess: unknown keys, facts, placeholders and kinds, and rules that can never match, are load errors
// that name file and rule.
package policy

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"rightful"
)

//go:embed rules/*.toml vault.toml
var embedded embed.FS

// vaultFile is what every panel's accounts have in the vault.
const vaultFile = "vault.toml"

// Facts are the conditions that `when` asks for, true or absent. Names that no rule knows are ignored.
type Facts map[string]bool

// factNames are the facts that `when` may ask for. Their place is their bit.
//
//	fileprotect      cPanel's FileProtect is on (/var/cpanel/fileprotect)
//	acls             cPanel's acls=1: search permission by ACL instead of by group
//	itk, ruid2       the web server runs requests under the account's user
//	suexec           CGI runs under the account's user, and suEXEC's checks apply
//	suphp            suPHP's checks apply: no group-writable script or directory
//	dso              PHP runs inside the web server under its user: mod_php
//	nginx            nginx alone serves the account's sites: nobody reads .htaccess
//	access-group     DirectAdmin's secure_access_group is set; rules call the group that it names "access"
//	domaindir-writable, sftp-jail  HestiaCP's DOMAINDIR_WRITABLE, and that the account is in an SFTP jail
//	security-level-10  ISPConfig's low security level
//	web-in-group     the web server's workers hold the account's primary group
//	docroot-in-home  computed by [Policy.Bind]: a document root lies below the home, or is the home
var factNames = [...]string{"fileprotect", "acls", "itk", "ruid2", "suexec", "suphp", "dso", "nginx", "access-group", "domaindir-writable", "sftp-jail", "web-in-group", "security-level-10", factDocRootInHome}

const factDocRootInHome = "docroot-in-home"

// Panels lists the panels that have embedded rules.
func Panels() []string {
	files, err := fs.Glob(embedded, "rules/*.toml")
	if err != nil {
		return nil
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = strings.TrimSuffix(path.Base(f), ".toml")
	}
	return names
}

// A Policy is the compiled rules of one panel. It may be used from many goroutines.
type Policy struct {
	Panel   string
	maildir string // relative to the home, "" where the panel has none
	// layout are the panel's own directories on the way to a document root, which no {docroot-parent} is.
	layout   []pattern
	rules    []*rule
	vault    Vault
	skeleton []SkeletonInfo
	backup   Backup

	mu       sync.Mutex
	automata map[string]*automaton // by the set of rules that apply
}

// rule is one [[rule]] of a file.
type rule struct {
	file, name, title string
	line              int
	patterns          []pattern
	kinds             kindSet
	alts              []alternative
	public, secret    bool
	cgi               bool
}

func (r *rule) String() string { return r.file + ":" + r.name }

// Load compiles the embedded rules of a panel and every *.toml in overrides, in name order, that is for this panel or
// for all ("*"). overrides may be nil. Errors name file and rule, or file and line.
func Load(panel string, overrides fs.FS) (*Policy, error) {
	name := "rules/" + panel + ".toml"
	text, err := fs.ReadFile(embedded, name)
	if err != nil {
		return nil, fmt.Errorf("load policy %q: no rules for this panel (there are %s)", panel, strings.Join(Panels(), ", "))
	}
	p := &Policy{Panel: panel, automata: map[string]*automaton{}}
	every, err := fs.ReadFile(embedded, vaultFile)
	if err != nil {
		return nil, fmt.Errorf("load policy %q: %w", vaultFile, err)
	}
	if err := p.add(vaultFile, every); err != nil {
		return nil, err
	}
	if err := p.addEmbedded(panel, text); err != nil {
		return nil, err
	}
	if overrides == nil {
		return p, nil
	}
	names, err := fs.Glob(overrides, "*.toml")
	if err != nil {
		return nil, fmt.Errorf("list policy overrides: %w", err)
	}
	slices.Sort(names)
	for _, n := range names {
		text, err := fs.ReadFile(overrides, n)
		if err != nil {
			return nil, fmt.Errorf("load policy %q: %w", n, err)
		}
		if err := p.add(n, text); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// A RuleInfo is one rule as `rightful policy show` prints it.
type RuleInfo struct {
	File   string          `json:"file"`
	Line   int             `json:"line"`
	Name   string          `json:"name"`
	Title  string          `json:"title"`
	Paths  []string        `json:"paths"`
	Kinds  []rightful.Kind `json:"kinds"`
	Public bool            `json:"public,omitempty"`
	Secret bool            `json:"secret,omitempty"`
	// Alternatives are in one line each, in the words of the rule file: "user:web 0750, need 0710, deny 0027, when fileprotect".
	Alternatives []string `json:"alternatives"`
}

// Rules lists all rules in the order of the files, later ones win.
func (p *Policy) Rules() []RuleInfo {
	out := make([]RuleInfo, 0, len(p.rules))
	for _, r := range p.rules {
		info := RuleInfo{File: r.file, Line: r.line, Name: r.name, Title: r.title, Public: r.public, Secret: r.secret}
		for _, pt := range r.patterns {
			info.Paths = append(info.Paths, pt.text)
		}
		info.Kinds = r.kinds.list()
		for i := range r.alts {
			info.Alternatives = append(info.Alternatives, r.alts[i].String())
		}
		out = append(out, info)
	}
	return out
}

// A Rule is one rule with its alternatives resolved for one account.
type Rule struct {
	// File and Name say where it stands, Title why it is so.
	File, Name, Title string
	// Public marks what may gain read permission for the web server, Secret what never gains any for group or other.
	Public, Secret bool
	// CGI marks what the web server runs as a program.
	CGI bool

	alts []resolved
	web  rightful.Identity
}

// String is FILE:NAME, as findings name a rule.
func (r *Rule) String() string { return r.File + ":" + r.Name }
