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
	panel, dir     string         // dir is the directory that it lies in, "" for that of the backup
	prefix, suffix string         // of its name
	user           *regexp.Regexp // in its content; nil where its name is the account's
}

// tellers are the files by which a panel's own restore knows the account, and others that name it.
var tellers = []teller{
	{panel: "cpanel", dir: "cp"},
	{panel: "directadmin", dir: "backup", prefix: "user.conf", suffix: "user.conf", user: regexp.MustCompile(`(?m)^username=([^\s=]+)\s*$`)},
	{panel: "hestia", dir: "pam", prefix: "passwd", suffix: "passwd", user: regexp.MustCompile(`^([^:\s]+):[^:\n]*:\d+:`)},
	{panel: "virtualmin", dir: ".backup", suffix: "_virtualmin", user: regexp.MustCompile(`(?m)^user=(\S+)$`)},
	{panel: "virtualmin", suffix: "_virtualmin", user: regexp.MustCompile(`(?m)^user=(\S+)$`)},
	{panel: "plesk", prefix: "backup_info_", suffix: ".xml", user: regexp.MustCompile(`<sysuser [^>]*\bname="([^"<>&]+)"`)},
	{panel: "cyberpanel", prefix: "meta.xml", suffix: "meta.xml", user: regexp.MustCompile(`<externalApp>([^<>&\s]+)</externalApp>`)},
}

// of reports whether a file in a directory is such a one, and gives the directory of the backup.
func (t *teller) of(dir, file string) (top string, ok bool) {
	if !strings.HasPrefix(file, t.prefix) || !strings.HasSuffix(file, t.suffix) {
		return "", false
	}
	if t.dir == "" {
		return dir, true
	}
	if rest, cut := strings.CutSuffix(dir, t.dir); cut && (rest == "" || rest[len(rest)-1] == '/') {
		return strings.TrimSuffix(rest, "/"), true
	}
	return "", false
}

// hear keeps what an entry tells of whose the backup is. Where there is more than is kept, the outermost count: below them
// a customer may have put anything.
func (s *Survey) hear(e *Entry, o *Opened) {
	if e.Kind != rightful.KindFile {
		return
	}
	dir, file := path.Split(e.Name)
	dir = strings.TrimSuffix(dir, "/")
	for i := range tellers {
		t := &tellers[i]
		top, ok := t.of(dir, file)
		if !ok {
			continue
		}
		if strings.Count(e.Name, "/") > maxNest {
			return
		}
		said := told{panel: t.panel, top: top, user: file, file: e.Name}
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
