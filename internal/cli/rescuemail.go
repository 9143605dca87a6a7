package cli

import (
	"compress/gzip"
	"hash/maphash"
	"io"
	"path"
	"strings"

	"rightful"
	"rightful/internal/rescue"
	"rightful/internal/tree"
)

// logTail is how much of each mail log is looked at, from its end.
const logTail = 64 << 20

// mailLogs are the logs of Exim and Dovecot on a server of cPanel's, and what logrotate has made of them: NAME.1,
// NAME-20261122, and either with .gz.
func (x *rescuing) mailLogs() (out []string) {
	names, err := x.c.s.ListForeign("/var/log", maxLogs)
	if err != nil {
		return nil
	}
	for _, n := range names {
		for _, of := range []string{"exim_mainlog", "maillog", "dovecot.log"} {
			if rest, ok := strings.CutPrefix(n, of); ok && (rest == "" || rest[0] == '.' || rest[0] == '-') {
				out = append(out, path.Join("/var/log", n))
			}
		}
	}
	return out
}

// maxLogs bounds the names of a directory of logs.
const maxLogs = 10_000

// mailboxes names those that there were, from every trace.
func (x *rescuing) mailboxes(home *tree.Base, dirs []string) []rescue.Mailbox {
	domains := domainsOf(x.acct)
	m := rescue.NewMailboxes(domains)
	for _, address := range x.acct.Mailboxes {
		m.Known(address)
	}
	if len(x.acct.Mailboxes) == 0 && x.acct.Panel == "cpanel" {
		m.Home(home)
		for _, dir := range dirs {
			m.Path(dir, "mail directory")
		}
		if rec := x.truth.records; rec != nil {
			for e, err := range rec.All() {
				if err == nil && e.Kind == rightful.KindDir && strings.HasPrefix(e.Rel, "mail/") && rec.BaseOf(e) == x.home {
					m.Path(e.Rel, "snapshot")
				}
			}
		}
		for _, d := range domains {
			if text, err := x.c.s.ReadFile("/etc/valiases/"+d, 1<<20); err == nil && !strings.Contains(d, "/") {
				m.Aliases(d, text)
			}
		}
		for _, name := range x.mailLogs() {
			if text := x.tail(name); text != nil {
				m.Log(text)
			}
		}
	}
	return m.List(home)
}

// tail reads the end of a log.
func (x *rescuing) tail(name string) []byte {
	f, st, err := x.c.s.OpenForeign(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return nil
		}
	} else if st.Size > logTail {
		if _, err := f.Seek(st.Size-logTail, io.SeekStart); err != nil {
			return nil
		}
	}
	b, _ := io.ReadAll(io.LimitReader(r, logTail)) // what comes before a damage stands
	return b
}

// letters knows the messages of Maildirs by what stays of their names when they are read, flagged, or moved from new to cur.
type letters struct {
	seed maphash.Seed
	have map[uint64]struct{} // hashes, since there may be millions
}

func newLetters() letters { return letters{maphash.MakeSeed(), map[uint64]struct{}{}} }

// letterKey gives the folder of a message, and what stays of its name; nothing for what is none.
func letterKey(rel string) string {
	dir, name := path.Split(rel)
	for _, of := range []string{"/cur/", "/new/"} {
		if folder, ok := strings.CutSuffix(dir, of); ok && strings.HasPrefix(rel, "mail/") {
			base, _, _ := strings.Cut(name, ":")
			return folder + "/" + base
		}
	}
	return ""
}

func isLetter(rel string) bool { return letterKey(rel) != "" }

func (l letters) add(rel string) {
	if k := letterKey(rel); k != "" {
		l.have[maphash.String(l.seed, k)] = struct{}{}
	}
}

func (l letters) has(rel string) bool {
	k := letterKey(rel)
	if k == "" {
		return false
	}
	_, ok := l.have[maphash.String(l.seed, k)]
	return ok
}
