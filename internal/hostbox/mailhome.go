package hostbox

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
)

// A Mailbox is one address with a password, in the home of an account.
type Mailbox struct {
	Address, Password, Account string
	// Dir is its Maildir.
	Dir string
	// Messages are the texts of those in its inbox, as a new box has them, oldest first.
	Messages []string
}

// A Closed is a directory of a site that asks visitors for a name and a password. Its password file lies in the home.
type Closed struct {
	Host, Path, User, Password string
}

// boxQuota is what a mailbox may hold, in bytes.
const boxQuota = 262144000

// A mailDomain is a domain's part of .cpanel/email_accounts.json, cPanel's own list of the mailboxes.
type mailDomain struct {
	Count    int                  `json:"account_count"`
	Accounts map[string]mailQuota `json:"accounts"`
}

type mailQuota struct {
	Quota     int `json:"diskquota"`
	Used      int `json:"diskused"`
	Suspended int `json:"suspended_login"`
}

// Mailboxes lists every mailbox of a box with mail, in the order of accounts.
func (b *Box) Mailboxes() []Mailbox {
	var all []Mailbox
	if b.world.mail {
		for _, a := range b.world.accounts {
			all = append(all, a.mailboxes()...)
		}
	}
	return all
}

// Closed lists the directories with passwords of a box with mail, one for each account.
func (b *Box) Closed() []Closed {
	var all []Closed
	if b.world.mail {
		for _, a := range b.world.accounts {
			all = append(all, a.closed())
		}
	}
	return all
}

func (a *account) closed() Closed {
	return Closed{Host: a.sites[0].host, Path: "/staff/", User: "staff", Password: "the staff of " + a.name}
}

// mailboxes gives everybody one address, and a second one to some: at the same domain, or at another of theirs.
func (a *account) mailboxes() []Mailbox {
	main := a.sites[0].host
	all := []string{"info@" + main}
	switch a.name {
	case "alice":
		all = append(all, "orders@alice-shop.example")
	case "bob", "dave":
		all = append(all, a.name+"@"+main)
	}
	var boxes []Mailbox
	for _, address := range all {
		local, domain, _ := strings.Cut(address, "@")
		boxes = append(boxes, Mailbox{
			Address: address, Password: `the "mail" of ` + address, Account: a.name, Dir: path.Join(a.home, "mail", domain, local),
			Messages: []string{letter(address, "first"), letter(address, "second")},
		})
	}
	return boxes
}

// mailDomains are the domains of the account's mailboxes.
func (a *account) mailDomains() []string {
	var all []string
	for _, box := range a.mailboxes() {
		_, domain, _ := strings.Cut(box.Address, "@")
		if !slices.Contains(all, domain) {
			all = append(all, domain)
		}
	}
	return all
}

// letter is the text of a message, with the line ends that it has in a Maildir.
func letter(to, subject string) string {
	return fmt.Sprintf("From: Visitor <visitor@contact.example>\nTo: %s\nSubject: %s\nDate: %s\nMessage-ID: <%[2]s.%[1]s>\n\nDear %[1]s,\nthis is the %[2]s one.\n",
		to, subject, born().Format("Mon, 02 Jan 2006 15:04:05 -0700"))
}

// hash is a password as files keep it. Whose it is makes the salt, so that a box is the same at every start.
func hash(whose, password string) string {
	salt := sha256.Sum256([]byte(whose))
	return sha512Crypt(password, hex.EncodeToString(salt[:8]))
}

// login is the hash of the account's own password, which is good for a shell and for FTP.
func (a *account) login() string { return hash(a.name, "the shell of "+a.name) }

// writeMailHome writes what an account has in its home and nowhere else: mailboxes with their passwords and messages, and
// the password file of a closed directory. What is the panel's to write comes with it.
func (w *world) writeMailHome(m *image, a *account) {
	const mail = 8
	h := a.home
	listed := map[string]mailDomain{}
	for _, domain := range a.mailDomains() {
		var passwd, shadow, quota string
		c := mailDomain{Accounts: map[string]mailQuota{}}
		m.as(a.uid, a.gid)
		m.dir(path.Join(h, "mail", domain), 0o751)
		for _, box := range a.mailboxes() {
			local, at, _ := strings.Cut(box.Address, "@")
			if at != domain {
				continue
			}
			passwd += fmt.Sprintf("%s:x:%d:%d::%s:%s\n", local, a.uid, a.gid, box.Dir, h)
			shadow += fmt.Sprintf("%s:%s:19700::::::\n", local, hash(box.Address, box.Password))
			quota += fmt.Sprintf("%s:%d\n", local, boxQuota)
			c.Accounts[local] = mailQuota{Quota: boxQuota}
			c.Count++
			writeMailbox(m, box)
		}
		listed[domain] = c
		m.as(a.uid, mail)
		dir := path.Join(h, "etc", domain)
		m.dir(dir, 0o750)
		m.file(dir+"/passwd", 0o640, passwd)
		m.file(dir+"/shadow", 0o640, shadow)
		m.file(dir+"/quota", 0o640, quota)
	}
	list, err := json.Marshal(listed)
	m.err = cmp.Or(m.err, err)
	c := a.closed()
	m.as(a.uid, int(w.web.GIDs[0]))
	m.dir(h+"/.htpasswds/public_html", 0o750)
	m.dir(h+"/.htpasswds/public_html/staff", 0o750)
	m.as(a.uid, a.gid)
	m.file(h+"/.htpasswds/public_html/staff/passwd", 0o644, c.User+":"+hash(c.Host, c.Password)+"\n")
	m.file(h+"/.cpanel/email_accounts.json", 0o600, string(list))
}

// writeMailbox writes a Maildir in which the first message was read.
func writeMailbox(m *image, box Mailbox) {
	for _, d := range []string{"", "/cur", "/new", "/tmp", "/.Sent", "/.Sent/cur", "/.Sent/new", "/.Sent/tmp"} {
		m.dir(box.Dir+d, 0o751)
	}
	name := func(n int, text string) string {
		lines := strings.Count(text, "\n")
		return fmt.Sprintf("17092944%02d.M1P%d.box,S=%d,W=%d", n, n, len(text), len(text)+lines)
	}
	uids := fmt.Sprintf("3 V1709294400 N%d\n", len(box.Messages)+1)
	size := 0
	for n, text := range box.Messages {
		file := name(n, text)
		uids += fmt.Sprintf("%d :%s\n", n+1, file)
		size += len(text)
		if n == 0 {
			m.file(box.Dir+"/cur/"+file+":2,S", 0o640, text)
		} else {
			m.file(box.Dir+"/new/"+file, 0o640, text)
		}
	}
	sent := letter("visitor@contact.example", "answer")
	m.file(box.Dir+"/.Sent/cur/"+name(50, sent)+":2,S", 0o640, sent)
	m.file(box.Dir+"/.Sent/maildirfolder", 0o640, "")
	m.file(box.Dir+"/dovecot-uidlist", 0o640, uids)
	m.file(box.Dir+"/maildirsize", 0o600, fmt.Sprintf("%dS\n%d %d\n", boxQuota, size+len(sent), len(box.Messages)+1))
	m.file(box.Dir+"/subscriptions", 0o640, "Sent\n")
}

// writeStaff writes the closed directory itself, in the main site.
func (a *account) writeStaff(m *image) {
	dir := a.sites[0].docroot + "/staff"
	m.dir(dir, 0o755)
	m.file(dir+"/.htaccess", 0o644, `AuthType Basic
AuthName "staff"
AuthUserFile "`+a.home+`/.htpasswds/public_html/staff/passwd"
Require valid-user
`)
	m.file(dir+"/index.html", 0o644, "<p>for the staff of "+a.name+"</p>\n")
}

// writeMailSpool writes what survives a lost home besides the panel's files: crontabs, as Debian keeps them, and FTP users.
func (w *world) writeMailSpool(m *image) {
	m.root("/var/spool/cron")
	m.as(0, 499)
	m.dir("/var/spool/cron/crontabs", 0o1730)
	m.root("/etc/proftpd")
	for _, a := range w.accounts {
		m.as(a.uid, 499)
		m.file("/var/spool/cron/crontabs/"+a.name, 0o600, "MAILTO=\"info@"+a.sites[0].host+"\"\n17 3 * * * "+a.home+"/bin/backup >/dev/null 2>&1\n")
		m.as(0, 0)
		m.file("/etc/proftpd/"+a.name, 0o640, fmt.Sprintf("%s:%s:%d:%d:%[1]s:%s:/bin/ftpsh\n", a.name, a.login(), a.uid, a.gid, a.home))
	}
}
