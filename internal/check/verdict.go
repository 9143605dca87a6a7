package check

import (
	"bytes"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"syscall"

	"rightful"
	"rightful/internal/policy"
	"rightful/internal/tree"
	"rightful/internal/web"
)

// phpSuffix reports whether the usual configurations hand a file to PHP.
func phpSuffix(name []byte) bool {
	i := bytes.LastIndexByte(name, '.')
	if i < 0 {
		return false
	}
	switch string(name[i+1:]) {
	case "php", "phtml", "phar", "php5", "php7", "php8":
		return true
	}
	return false
}

// meant says whether a file of a site is meant to be served, and who opens it then: who is an index of job.ids.
func (s *site) meant(name []byte, rule *policy.Rule) (who int, need uint8, ok bool) {
	switch {
	case string(name) == ".htaccess":
		return 0, 0, false
	case rule.CGI && s.cgi >= 0:
		return s.cgi, 5, true
	case s.php >= 0 && phpSuffix(name):
		return s.php, 4, true
	case rule.Public:
		return s.web, 4, true
	}
	return 0, 0, false
}

// blocked reports whether a file below a document root that is meant for visitors is kept from them, now and after the
// plan, with the verdict of now. It is false throughout for what nobody is to have. A file that no rule calls public and
// that is served all the same counts as blocked if the plan would end that, unless it is a secret.
func (j *job) blocked(d *tree.Dir, lv *level, name []byte, kind rightful.Kind, rule *policy.Rule, have, after *rightful.Meta) (v web.Verdict, now, planned bool) {
	s := j.sites[lv.site]
	if lv.now == nil {
		return v, false, false
	}
	_, _, meant := s.meant(name, rule)
	same := have == after && lv.same && kind == rightful.KindFile
	if !meant && (same || rule.Secret || name[0] == '.' || kind != rightful.KindFile) {
		return v, false, false
	}
	in, then := j.looks(d)
	v = lv.now.File(name, web.Node{Kind: kind, Meta: *have}, in)
	now = v.Cause.Fault()
	if same {
		return v, now, now
	}
	p := lv.planned.File(name, web.Node{Kind: kind, Meta: *after}, then)
	planned = p.Cause.Fault()
	if !meant {
		return v, false, v.Served() && !v.App && planned
	}
	return v, now, planned
}

// count takes one file below a document root into account and reports whether the file itself, as it is, keeps visitors
// from what they are meant to have. have and after are the same pointer where the plan changes nothing.
func (j *job) count(d *tree.Dir, lv *level, e *tree.Entry, rule *policy.Rule, have, after *rightful.Meta) (itself bool) {
	if len(e.Name) == len(".htaccess") && string(e.Name) == ".htaccess" {
		return j.shuts(lv, e.Path())
	}
	s := j.sites[lv.site]
	v, now, planned := j.blocked(d, lv, e.Name, e.Kind, rule, have, after)
	if now {
		s.now.blocked++
		s.blame(v.Culprit)
		if s.now.blocked == 1 {
			s.first = e.Path()
		}
		// Where something else makes it an error, such as a wrapper, an answer proves nothing about the file.
		if p := e.Path(); !planned && (v.Status < 500 || v.Culprit == p || v.Culprit == path.Dir(p)) {
			s.sample(e.Path())
		}
	}
	if planned {
		s.planned.blocked++
	}
	return now && j.itself(&v, s, e.Path(), e.Name, rule, have)
}

// itself reports whether a file that is kept from visitors is to blame itself, or would be once the way to it is open.
func (j *job) itself(v *web.Verdict, s *site, p string, name []byte, rule *policy.Rule, have *rightful.Meta) bool {
	if v.Culprit == p {
		return true
	}
	who, need, _ := s.meant(name, rule)
	return !have.Allowed(j.ids[who], need)
}

// shuts reports whether an access file keeps the web server out of the directory it lies in.
func (j *job) shuts(lv *level, p string) bool {
	if lv.now == nil {
		return false
	}
	v := lv.now.Index(nowhere{})
	return v.Cause.Fault() && v.Culprit == p
}

// nowhere is a look at nothing.
type nowhere struct{}

func (nowhere) Lstat(string) (web.Node, bool)           { return web.Node{}, false }
func (nowhere) Follow(string) ([]tree.Component, error) { return nil, syscall.ENOENT }
func (nowhere) Head(string, int64) ([]byte, error)      { return nil, syscall.ENOENT }
func (nowhere) Links() ([]string, bool)                 { return nil, false }

// wayOnly is a look at the way to a directory, and at nothing in it.
type wayOnly struct {
	nowhere
	follow func(string) ([]tree.Component, error)
}

func (w wayOnly) Follow(p string) ([]tree.Component, error) {
	if !path.IsAbs(p) {
		return nil, syscall.ENOENT
	}
	return w.follow(p)
}

// blame remembers what keeps files of the site from visitors.
func (s *site) blame(culprit string) {
	if s.blames == nil {
		s.blames = map[string]bool{}
	}
	if culprit != s.last {
		s.last, s.blames[culprit] = culprit, true
	}
}

// sample remembers a file that the plan gives back to visitors, for a proof by request.
func (s *site) sample(p string) {
	if len(s.samples) < 3 {
		s.samples = append(s.samples, (&url.URL{Path: strings.TrimPrefix(p, s.docroot)}).EscapedPath())
	}
}

// stopsScripts reports whether suEXEC would run no script in a directory, whatever that is like. lv is the level that the
// directory lies in.
func (j *job) stopsScripts(lv *level, p string, m rightful.Meta) bool {
	if lv.now == nil {
		return false
	}
	script := web.Node{Kind: rightful.KindFile, Meta: rightful.Meta{UID: j.a.UID, GID: j.a.GID, Mode: 0o700}}
	v := lv.now.Dir(path.Base(p), m, nowhere{}).File([]byte("script.cgi"), script, nowhere{})
	return v.Cause.Fault() && v.Culprit == p
}

// verdict puts together what is known of a site, today and after the plan.
func (j *job) verdict(s *site) (now, planned rightful.Verdict) {
	now, planned = j.state(s, s.now), j.state(s, s.planned)
	now.Samples = s.samples
	return now, planned
}

func (j *job) state(s *site, f front) rightful.Verdict {
	v := rightful.Verdict{Account: j.a.Name, Site: s.Name, State: rightful.SiteOK, Blocked: f.blocked}
	switch {
	case j.a.Suspended: // the panel answers in its place
		v.State, v.Why = rightful.SiteUnknown, suspended
		return v
	case s.docroot == "" && f.page.Status == 0:
		v.State, v.Why = rightful.SiteUnknown, "the document root is not judged"
		return v
	case s.docroot != "" && !s.seen && !f.page.Cause.Fault():
		v.State, v.Why = rightful.SiteUnknown, "the document root could not be read"
		if slices.ContainsFunc(s.chain, func(c tree.Component) bool { return j.excludes(c.Path) != "" }) {
			v.Why = "the document root is excluded by the configuration"
		}
		return v
	}
	p := &f.page
	v.Status, v.Why, v.Culprit = p.Status, explained(p), p.Culprit
	switch {
	case p.Cause.Fault(), p.Status >= 500, p.Cause == web.CauseMissing && s.docroot == "":
		v.State = rightful.SiteDown
	case p.Certain && p.Status < 400 || p.Status == 401:
	default:
		v.State = rightful.SiteUnknown
	}
	if v.Blocked > 0 && v.State != rightful.SiteDown {
		v.State, v.Culprit = rightful.SiteBroken, s.first
		v.Why = fmt.Sprintf("%d files cannot be opened by whoever serves them", v.Blocked)
		if v.Blocked == 1 {
			v.Why = "it cannot be opened by whoever serves it"
		}
	}
	if v.State == rightful.SiteOK {
		v.Culprit, v.Why = "", ""
	}
	v.CulpritB64 = rightful.RawPath(v.Culprit)
	return v
}

// explained is why a verdict is what it is, with the uid of whom it is about.
func explained(v *web.Verdict) string {
	if v.Identity == nil {
		return v.Why
	}
	uid := fmt.Sprintf(" (uid %d)", v.Identity.UID)
	for _, who := range [...]string{"the web server", "PHP"} {
		if rest, ok := strings.CutPrefix(v.Why, who+" "); ok {
			return who + uid + " " + rest
		}
	}
	return v.Why + uid
}

// temper puts right what was said of entries before it was known how their sites answer: only where the front page is
// refused is a site down, and whatever keeps files from visitors harms their site, wherever it lies.
func (j *job) temper() {
	now := map[string]rightful.Effect{}
	for i := range j.r.Findings {
		f := &j.r.Findings[i]
		was := f.Effect
		down := false
		for k, s := range j.sites {
			v := &j.r.Now[k]
			if j.a.Suspended {
				continue
			}
			front := v.State == rightful.SiteDown && v.Culprit == f.Path
			if (front || s.blames[f.Path]) && !slices.Contains(f.Sites, s.Name) {
				f.Sites = append(f.Sites, s.Name)
				if f.Effect.Rank() > rightful.EffectBroken.Rank() {
					f.Effect = rightful.EffectBroken
				}
			}
			down = down || slices.Contains(f.Sites, s.Name) && v.State == rightful.SiteDown && (front || f.Effect == rightful.EffectDown)
		}
		switch {
		case len(f.Sites) == 0:
		case f.Effect == rightful.EffectDown && !down:
			f.Effect = rightful.EffectBroken
		case f.Effect == rightful.EffectBroken && down:
			f.Effect = rightful.EffectDown
		}
		if f.Effect != was {
			now[f.Path] = f.Effect
		}
	}
	for i := range j.r.Changes {
		if c := &j.r.Changes[i]; now[c.Path()] != "" {
			c.Effect = now[c.Path()]
		}
	}
}
