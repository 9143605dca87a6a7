package archive

import (
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"rightful"
)

// told is what a panel wrote into a backup of whose it is.
type told struct {
	panel string
	top   string // the directory of the backup that it is about
	user  string
	file  string
}

// maxTold bounds what is kept of these, and maxTelling what is read of each file.
const (
	maxTold    = 64
	maxTelling = 256 << 10
)

// A teller is a file of a panel that names the account.
type teller struct {
	panel, dir string         // the directory that it lies in, "" for that of the backup
	file       *regexp.Regexp // its name
	user       *regexp.Regexp // in its content; nil where its name is the account's
}

// tellers are the files of panels that name the account (fact sheets of the panels' backups: what each restore reads first).
var tellers = []teller{
	{panel: "cpanel", dir: "cp", file: regexp.MustCompile(`^[a-z0-9_.-]+$`)},
	{panel: "directadmin", dir: "backup", file: regexp.MustCompile(`^user\.conf$`), user: regexp.MustCompile(`(?m)^username=([^\s=]+)\s*$`)},
	{panel: "hestia", dir: "pam", file: regexp.MustCompile(`^passwd$`), user: regexp.MustCompile(`^([^:\s]+):[^:\n]*:\d+:`)},
	{panel: "virtualmin", dir: ".backup", file: regexp.MustCompile(`_virtualmin$`), user: regexp.MustCompile(`(?m)^user=(\S+)$`)},
	{panel: "virtualmin", file: regexp.MustCompile(`_virtualmin$`), user: regexp.MustCompile(`(?m)^user=(\S+)$`)},
	{panel: "plesk", file: regexp.MustCompile(`^backup_info_[0-9_]+\.xml$`), user: regexp.MustCompile(`<sysuser [^>]*\bname="([^"<>&]+)"`)},
	{panel: "cyberpanel", file: regexp.MustCompile(`^meta\.xml$`), user: regexp.MustCompile(`<externalApp>([^<>&\s]+)</externalApp>`)},
}

// hear keeps what an entry tells of whose the backup is. Where there is more than is kept, the outermost count: below them
// a customer may have put anything.
func (s *Survey) hear(e *Entry, o *Opened) {
	if e.Kind != rightful.KindFile || strings.Count(e.Name, "/") > maxNest {
		return
	}
	dir, file := path.Split(e.Name)
	dir = strings.TrimSuffix(dir, "/")
	for i := range tellers {
		t := &tellers[i]
		if t.dir != "" && path.Base(dir) != t.dir || !t.file.MatchString(file) {
			continue
		}
		said := told{panel: t.panel, top: dir, user: file, file: e.Name}
		if t.dir != "" {
			said.top = strings.TrimSuffix(strings.TrimSuffix(dir, t.dir), "/")
		}
		at := len(s.told)
		if at == maxTold {
			deepest := slices.MaxFunc(s.told, func(a, b told) int { return strings.Count(a.file, "/") - strings.Count(b.file, "/") })
			if strings.Count(deepest.file, "/") <= strings.Count(e.Name, "/") {
				return
			}
			at = slices.Index(s.told, deepest)
		}
		if t.user != nil {
			if said.user = t.read(o.Content()); said.user == "" {
				return
			}
		}
		s.told = slices.Replace(s.told, at, min(at+1, len(s.told)), said)
		return
	}
}

// read finds the account in a content; "" where it names none, or several.
func (t *teller) read(content io.Reader) string {
	if content == nil {
		return ""
	}
	b, err := io.ReadAll(io.LimitReader(content, maxTelling))
	if err != nil {
		return ""
	}
	user := ""
	for _, m := range t.user.FindAllSubmatch(b, -1) {
		if user != "" && user != string(m[1]) {
			return ""
		}
		user = string(m[1])
	}
	return user
}
