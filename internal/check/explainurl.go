package check

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"rightful"
	"rightful/internal/panel"
	"rightful/internal/web"
)

// A URLExplanation is what happens to one request, step by step.
type URLExplanation struct {
	URL    string // as it was asked, complete
	Chosen panel.Chosen
	// How says what maps the request path, at File and Line where a directive does.
	How     string
	File    string
	Line    int
	Verdict web.Verdict
	// Way is the path that the request is mapped to, and how far everybody gets on it.
	Way *Explanation
	// Blame is the entry to blame with what check says of it; nil where no entry is.
	Blame *Explanation
	// Cure is the smallest change that lets the request through, as commands with their arguments; none where none is known.
	Cure  [][]string
	Notes []string
}

// ErrNobody says that no virtual host answers for a URL.
var ErrNobody = errors.New("no virtual host answers")

// ParseURL reads http(s)://HOST[:PORT][/PATH] or HOST/PATH.
func ParseURL(s string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, err
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("scheme %q is not http or https", u.Scheme)
	case u.Hostname() == "":
		return nil, errors.New("no host")
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

// ExplainURL follows a request: which virtual host answers and why, where its path leads, who gets how far, and what the
// answer is. Everything is by stat only, but for .htaccess files and the first line of CGI scripts.
func ExplainURL(o Options, u *url.URL, as []As) (*URLExplanation, error) {
	s, w := o.Server, o.World
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	x := &URLExplanation{URL: u.Scheme + "://" + u.Host + u.EscapedPath()}
	chosen, ok := w.Choose("", port, u.Hostname())
	if !ok {
		return nil, fmt.Errorf("%w on port %s", ErrNobody, port)
	}
	x.Chosen = chosen
	host := w.HostOf(s, &x.Chosen, u.Hostname(), u.Scheme == "https")
	if host == nil {
		return x, nil
	}
	docroot := "/"
	if chosen.Site != nil {
		docroot = chosen.Site.DocRoot
	}
	var m web.Mapping
	switch h := host.(type) {
	case *web.ApacheHost:
		m = h.Map(u.Path)
	case *web.NginxHost:
		docroot = cmp.Or(h.DocRoot, "/")
		m = h.Map(u.Path, web.ViewOf(s, docroot))
	}
	x.How = m.How
	if m.At != nil {
		x.File, x.Line = m.At.File, m.At.Line
	}
	x.Verdict = web.Ask(host, s, docroot, u.Path)
	x.Notes = host.Notes()
	if chosen.Site == nil {
		return x, nil
	}
	var err error
	if x.Way, err = Explain(o, m.Path(), as); err != nil {
		return nil, err
	}
	if v := &x.Verdict; v.Culprit != "" {
		if x.Blame, err = Explain(o, v.Culprit, nil); err != nil {
			return nil, err
		}
		x.Cure = cure(v, x.Blame)
	}
	return x, nil
}

// cure is the smallest change of an entry that a verdict asks for: what the rule wants where that settles it, else the
// least that gives the missing right, in terms of chmod and its kin.
func cure(v *web.Verdict, x *Explanation) [][]string {
	if !v.Cause.Fault() || len(x.Components) == 0 || x.Err != nil {
		return nil
	}
	last := &x.Components[len(x.Components)-1]
	m := last.Meta
	if f := x.Finding; f != nil && f.Want != nil && (v.Identity == nil || f.Want.Allowed(*v.Identity, v.Need)) {
		return commands(last.Path, m, *f.Want)
	}
	switch {
	case v.Identity != nil && m.UID == v.Identity.UID:
		return [][]string{{"chmod", "u+" + words(v.Need), last.Path}}
	case v.Identity != nil && Class(m, *v.Identity) == "group" && len(m.ACL) == 0:
		return [][]string{{"chmod", "g+" + words(v.Need), last.Path}}
	case v.Identity != nil:
		return [][]string{{"setfacl", "-m", fmt.Sprintf("u:%d:%s", v.Identity.UID, words(v.Need)), last.Path}}
	case m.Mode&0o022 != 0 && (strings.HasPrefix(v.Code, "suexec:") || strings.HasPrefix(v.Code, "suphp:")):
		return [][]string{{"chmod", "go-w", last.Path}}
	case m.Mode&(rightful.ModeSetuid|rightful.ModeSetgid) != 0 && v.Code == "suexec:119":
		return [][]string{{"chmod", "ug-s", last.Path}}
	case v.Code == "suexec:121":
		return [][]string{{"chmod", "u+x", last.Path}}
	}
	return nil
}

// commands are those that make an entry what a plan would make of it.
func commands(p string, have, want rightful.Meta) (out [][]string) {
	if have.UID != want.UID || have.GID != want.GID {
		out = append(out, []string{"chown", "-h", fmt.Sprintf("%d:%d", want.UID, want.GID), p})
	}
	if have.Mode != want.Mode {
		out = append(out, []string{"chmod", want.Mode.String(), p})
	}
	if !have.ACL.Equal(want.ACL) {
		out = append(out, []string{"setfacl", "--set", want.ACL.String(), p})
	}
	return out
}

// words names rights as chmod does: "r", "rx".
func words(need uint8) string { return strings.ReplaceAll(rightful.PermString(need), "-", "") }
