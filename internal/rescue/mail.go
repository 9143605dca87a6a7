package rescue

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/tree"
)

// cPanel keeps mailboxes and the hashes of their passwords in the home: etc/DOMAIN/passwd names them, etc/DOMAIN/shadow has
// the hashes, mail/DOMAIN/NAME the messages. Where the hash is gone nobody can make it again, but the mailbox can be named
// from every other trace, so that its owner gets a new password instead of an error.

// A Mailbox is one address that there was, and what of it is back.
type Mailbox struct {
	Address string `json:"address"`
	// Password: its hash is back, so that the old password works. Elsewhere: it is not kept in the home, and was not lost.
	Password  bool `json:"password"`
	Elsewhere bool `json:"elsewhere,omitempty"`
	// Messages: its directory is back.
	Messages bool `json:"messages"`
	// Traces are what tells of it: "passwd", "shadow", "quota", "mail directory", "snapshot", "email_accounts.json",
	// "aliases", "mail log", "panel".
	Traces []string `json:"traces"`
}

// Mailboxes gathers the mailboxes of an account from what is left of them.
type Mailboxes struct {
	domains map[string]bool
	found   map[string]*Mailbox
}

// NewMailboxes looks for addresses in these domains only.
func NewMailboxes(domains []string) *Mailboxes {
	m := &Mailboxes{domains: map[string]bool{}, found: map[string]*Mailbox{}}
	for _, d := range domains {
		m.domains[strings.ToLower(d)] = true
	}
	return m
}

// maxMailboxes bounds what a hostile trace can name.
const maxMailboxes = 10_000

func (m *Mailboxes) add(user, domain, trace string) *Mailbox {
	domain = strings.ToLower(domain)
	addr := user + "@" + domain
	if !m.domains[domain] || !validUser(user) {
		return &Mailbox{}
	}
	b := m.found[addr]
	if b == nil {
		if len(m.found) >= maxMailboxes {
			return &Mailbox{}
		}
		b = &Mailbox{Address: addr}
		m.found[addr] = b
	}
	if !slices.Contains(b.Traces, trace) {
		b.Traces = append(b.Traces, trace)
	}
	return b
}

// validUser keeps what is no local part of a mailbox from becoming one.
func validUser(u string) bool {
	if u == "" || len(u) > 64 || u[0] == '.' {
		return false
	}
	for _, c := range []byte(u) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._-+&='", c) >= 0) {
			return false
		}
	}
	return true
}

// Known adds a mailbox that the panel keeps outside the home, with its password.
func (m *Mailboxes) Known(address string) {
	user, domain, ok := strings.Cut(address, "@")
	if ok {
		m.domains[strings.ToLower(domain)] = true
		m.add(user, domain, "panel").Elsewhere = true
	}
}

// Path adds the mailbox whose directory a path below the home is or lies in, if there is one.
func (m *Mailboxes) Path(rel, trace string) {
	parts := strings.SplitN(rel, "/", 4)
	if len(parts) >= 3 && parts[0] == "mail" {
		m.add(parts[2], parts[1], trace)
	}
}

// maxSmall bounds one file that names mailboxes.
const maxSmall = 8 << 20

// Home looks at the rebuilt home.
func (m *Mailboxes) Home(home *tree.Base) {
	cur := home.Cursor()
	defer cur.Close()
	read := func(rel string) []byte {
		n, err := cur.Open(rel)
		if err != nil {
			return nil
		}
		defer n.Close()
		b, err := n.Read(maxSmall)
		if err != nil {
			return nil
		}
		return b
	}
	for d := range m.domains {
		for line := range bytes.Lines(read("etc/" + d + "/shadow")) {
			user, rest, _ := strings.Cut(strings.TrimSpace(string(line)), ":")
			hash, _, _ := strings.Cut(rest, ":")
			b := m.add(user, d, "shadow")
			b.Password = b.Password || len(hash) > 2 && hash[0] != '!' && hash[0] != '*'
		}
		for _, file := range []string{"passwd", "quota"} {
			for line := range bytes.Lines(read("etc/" + d + "/" + file)) {
				user, _, ok := strings.Cut(strings.TrimSpace(string(line)), ":")
				if ok {
					m.add(user, d, file)
				}
			}
		}
	}
	m.accounts(read(".cpanel/email_accounts.json"))
}

// accounts reads cPanel's cache of the list: {DOMAIN: {"accounts": {NAME: …}}, …}.
func (m *Mailboxes) accounts(text []byte) {
	var all map[string]json.RawMessage
	if json.Unmarshal(text, &all) != nil {
		return
	}
	for domain, raw := range all {
		var d struct {
			Accounts map[string]json.RawMessage `json:"accounts"`
		}
		if json.Unmarshal(raw, &d) != nil {
			continue
		}
		for user := range d.Accounts {
			m.add(user, domain, "email_accounts.json")
		}
	}
}

// Aliases reads a file of aliases (/etc/valiases/DOMAIN): what mail is passed on to within the domains is a mailbox, unless
// it is an alias itself.
func (m *Mailboxes) Aliases(domain string, text []byte) {
	alias := map[string]bool{}
	var to []string
	for line := range bytes.Lines(text) {
		name, targets, ok := strings.Cut(strings.TrimSpace(string(line)), ":")
		if !ok {
			continue
		}
		if !strings.Contains(name, "@") {
			name += "@" + domain
		}
		alias[name] = true
		for _, t := range strings.FieldsFunc(targets, func(r rune) bool { return r == ',' || r == ' ' || r == '"' }) {
			if strings.Contains(t, "@") {
				to = append(to, t)
			}
		}
	}
	for _, t := range to {
		if user, d, ok := strings.Cut(t, "@"); ok && !alias[t] {
			m.add(user, d, "aliases")
		}
	}
}

const addressForm = `([A-Za-z0-9._+&='-]{1,64})@([A-Za-z0-9.-]{1,253})`

var (
	// loggedIn finds in a line of Dovecot's who logged in, or whose mailbox a process works on.
	loggedIn = regexp.MustCompile(`(?:user=<|lmtp\(|imap\(|pop3\()` + addressForm)
	// saved finds in a line of Exim's the mailbox that Dovecot says a message went to.
	saved = regexp.MustCompile(`C="250 [^"]*<` + addressForm + `>[^"]* Saved"`)
	// delivered finds in a line of Exim's the local part, and the domain where it is told, that a message went to; then
	// the address that it was sent to, where that is another text.
	delivered = regexp.MustCompile(` => ([^ @]+)(?:@([^ ]+))?(?: <([^ >@]+)@([^ >]+)>)? `)
)

// deliveredHere are the transports of Exim that put a message into a mailbox of this server.
var deliveredHere = [][]byte{
	[]byte("T=dovecot"), []byte("T=virtual"), []byte("T=local"), []byte("T=lmtp"), []byte("T=maildir"), []byte("T=address_directory"),
}

// Log reads lines of a mail log. Addresses of failed logins prove nothing: anybody can try any name. Nor does the address
// that a message was sent to, where it was passed on from there.
func (m *Mailboxes) Log(text []byte) {
	for line := range bytes.Lines(text) {
		var user, domain []byte
		if bytes.Contains(line, []byte(" => ")) {
			user, domain = exim(line)
		} else if x := loggedIn.FindSubmatch(line); x != nil {
			if !bytes.Contains(line, []byte("user=<")) || bytes.Contains(line, []byte("Login: ")) || bytes.Contains(line, []byte("Logged in")) {
				user, domain = x[1], x[2]
			}
		}
		if user != nil {
			m.add(string(user), string(domain), "mail log")
		}
	}
}

// exim gives the mailbox that a line of Exim's tells a delivery to; nothing where it is not certain.
func exim(line []byte) (user, domain []byte) {
	if !slices.ContainsFunc(deliveredHere, func(t []byte) bool { return bytes.Contains(line, t) }) {
		return nil, nil
	}
	if x := saved.FindSubmatch(line); x != nil {
		return x[1], x[2]
	}
	x := delivered.FindSubmatch(line)
	switch {
	case x == nil:
		return nil, nil
	case len(x[2]) > 0:
		return x[1], x[2]
	case bytes.EqualFold(x[1], x[3]): // only the local part is told of a mailbox: its domain is that of the address, if it is not another's
		return x[1], x[4]
	}
	return nil, nil
}

// List gives all, sorted; home tells which have their messages back.
func (m *Mailboxes) List(home *tree.Base) []Mailbox {
	cur := home.Cursor()
	defer cur.Close()
	out := []Mailbox{}
	for addr, b := range m.found {
		user, domain, _ := strings.Cut(addr, "@")
		if n, err := cur.Open("mail/" + domain + "/" + user); err == nil {
			b.Messages = n.Stat.Kind == rightful.KindDir
			n.Close()
		}
		slices.Sort(b.Traces)
		out = append(out, *b)
	}
	slices.SortFunc(out, func(a, b Mailbox) int { return strings.Compare(a.Address, b.Address) })
	return out
}
