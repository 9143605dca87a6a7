package check

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/policy"
	"rightful/internal/tree"
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

// server says who opens a file of a site and what that takes: who is an index of job.ids; none means that nobody is known
// to serve it.
func (s *site) server(name []byte, rule *policy.Rule) (who int, need uint8, ok bool) {
	switch {
	case s.nginx != nil && string(name) == ".htaccess":
		return 0, 0, false
	case rule.CGI && s.cgi >= 0:
		return s.cgi, 5, true
	case s.php >= 0 && phpSuffix(name):
		return s.php, 4, true
	case string(name) == ".htaccess", rule.Public:
		return s.web, 4, true
	}
	return 0, 0, false
}

// blocked reports whether a file below a document root is kept from whoever serves it, now and after the plan, and whether
// that is its own doing. It is false throughout for what nobody serves, and for .htaccess only itself counts. A file that
// no rule calls public and that is served all the same counts as blocked if the plan would end that, unless it is a secret.
func (j *job) blocked(lv *level, name []byte, rule *policy.Rule, have, after rightful.Meta) (now, planned, itself bool) {
	s := j.sites[lv.site]
	who, need, ok := s.server(name, rule)
	if !ok {
		web := j.ids[s.web]
		served := !rule.Secret && name[0] != '.' && lv.readable && s.passes(lv.now, s.web) && have.Allowed(web, 4)
		return false, served && !after.Allowed(web, 4), false
	}
	can, will := have.Allowed(j.ids[who], need), after.Allowed(j.ids[who], need)
	if string(name) == ".htaccess" {
		return false, false, !can
	}
	now = !lv.readable || !s.passes(lv.now, who)
	planned = !lv.willBe || !s.passes(lv.planned, who)
	if rule.CGI && j.suexec(s) {
		can, will = can && j.suexecRuns(have), will && j.suexecRuns(after)
		now, planned = now || lv.refused, planned || lv.willRefuse
	}
	return now || !can, planned || !will, !can
}

// count takes one file below a document root into account and reports whether the file itself, as it is, keeps whoever
// serves it from reading it.
func (j *job) count(lv *level, e *tree.Entry, rule *policy.Rule, have, after rightful.Meta) (blocks bool) {
	s := j.sites[lv.site]
	now, planned, itself := j.blocked(lv, e.Name, rule, have, after)
	if now {
		s.now.blocked++
		if s.now.blocked == 1 {
			s.first = e.Path()
		}
		if !planned {
			s.sample(e.Path())
		}
	}
	if planned {
		s.planned.blocked++
	}
	s.wraps(string(e.Name), now, planned)
	return itself
}

// sample remembers a file that the plan gives back to visitors, for a proof by request.
func (s *site) sample(p string) {
	if len(s.samples) < 3 {
		s.samples = append(s.samples, (&url.URL{Path: strings.TrimPrefix(p, s.docroot)}).EscapedPath())
	}
}

// suexec reports whether the site's scripts are run by suEXEC as the account.
func (j *job) suexec(s *site) bool {
	return s.cgi >= 0 && s.CGIAs.UID == j.a.UID && s.PHP.Handler != "itk" && s.PHP.Handler != "ruid2"
}

// suexecTakes reports whether suEXEC (support/suexec.c) puts up with the directory of a script: it refuses where owner or
// group are not the account's, or anybody else may write. cPanel's own takes the web server's group too.
func (j *job) suexecTakes(m rightful.Meta) bool {
	group := m.GID == j.a.GID || j.a.Panel == "cpanel" && j.c.World.Web.Has(m.GID)
	return m.UID == j.a.UID && group && m.Mode&0o022 == 0
}

// suexecRuns reports whether suEXEC puts up with a script.
func (j *job) suexecRuns(m rightful.Meta) bool {
	return j.suexecTakes(m) && m.Mode&(rightful.ModeSetuid|rightful.ModeSetgid) == 0
}

// peek judges an entry of a directory ahead of its turn: as it is, and as it will be. A link is judged by its target,
// which no plan changes on the way; of an inode with several links it is not yet known whether it may be changed.
func (j *job) peek(d *tree.Dir, lv *level, name string) (have, after rightful.Meta, kind rightful.Kind, err error) {
	have, st, err := d.Peek(name)
	switch kind = st.Kind; {
	case err != nil || kind == rightful.KindFile && st.Nlink > 1:
		return have, have, kind, err
	case kind == rightful.KindSymlink:
		have, kind, err = d.PeekTarget(name)
		return have, have, kind, err
	}
	_, rule := lv.state.Child(name, kind)
	p := rightful.JoinPath(rightful.JoinPath(j.base, d.Rel()), name)
	return have, j.judge(lv, p, rule, kind, have, st.Immutable(), j.statID(&st)).after, kind, nil
}

// htaccess finds out whether the web server can read a directory's .htaccess: where it cannot, it refuses everything in
// and below that directory (AH00529). A link that leads nowhere is as good as none.
func (j *job) htaccess(d *tree.Dir, lv *level) {
	have, after, kind, err := j.peek(d, lv, ".htaccess")
	if err != nil {
		return
	}
	web := j.ids[j.sites[lv.site].web]
	lv.readable = lv.readable && kind == rightful.KindFile && have.Allowed(web, 4)
	lv.willBe = lv.willBe && kind == rightful.KindFile && after.Allowed(web, 4)
	if lv.shut == "" && !(lv.readable && lv.willBe) {
		lv.shut = rightful.JoinPath(rightful.JoinPath(j.base, d.Rel()), ".htaccess")
	}
}

// frontPage predicts what the front page answers, now and after the plan, by the first index file that exists: the server
// takes that one whether it can read it or not.
func (j *job) frontPage(d *tree.Dir, lv *level, s *site) {
	for _, name := range s.index {
		if strings.Contains(name, "/") || !d.Has(name) {
			continue
		}
		have, after, kind, err := j.peek(d, lv, name)
		p := rightful.JoinPath(s.docroot, name)
		if err != nil {
			s.now = front{status: 403, who: s.web, why: "the index is a link whose target cannot be reached", culprit: p}
			s.planned = s.now
			return
		}
		if kind != rightful.KindFile {
			continue
		}
		_, rule := lv.state.Child(name, kind)
		s.now = j.answer(s, name, p, rule, have, lv, lv.now, lv.readable)
		s.planned = j.answer(s, name, p, rule, after, lv, lv.planned, lv.willBe)
		return
	}
	s.now = front{who: s.web, why: "there is no index file: the server lists the directory or refuses, as configured", culprit: s.docroot}
	s.planned = s.now
	if !lv.readable {
		s.now.status, s.now.why, s.now.culprit = 403, "the web server cannot read .htaccess", lv.shut
	}
	if !lv.willBe {
		s.planned = s.now
	}
}

// answer predicts the status of one file, given who may pass through the directories and whether .htaccess is readable.
func (j *job) answer(s *site, name, p string, rule *policy.Rule, m rightful.Meta, lv *level, pass mask, readable bool) front {
	who, reader, unreadable := s.web, "the web server", 403
	switch {
	case s.php >= 0 && phpSuffix([]byte(name)):
		who, reader = s.php, "PHP"
		if s.PHP.Handler == "dso" {
			unreadable = 500
		}
	case rule != nil && rule.CGI && s.cgi >= 0:
		who, reader, unreadable = s.cgi, "the script's user", 500
	}
	switch {
	case !pass.has(s.web), !pass.has(who): // closed finds the culprit and says why
		return front{status: 403, who: who}
	case !readable:
		return front{status: 403, who: who, why: "the web server cannot read .htaccess", culprit: lv.shut}
	case !m.Allowed(j.ids[who], 4):
		return front{status: unreadable, who: who, why: fmt.Sprintf("%s (uid %d) cannot read the index", reader, j.ids[who].UID), culprit: p}
	}
	return front{status: 200, who: who}
}

// verdict puts together what is known of a site, today and after the plan.
func (j *job) verdict(s *site) (now, planned rightful.Verdict) {
	now, planned = j.state(s, s.now, false), j.state(s, s.planned, true)
	now.Samples = s.samples
	return now, planned
}

func (j *job) state(s *site, f front, plan bool) rightful.Verdict {
	v := rightful.Verdict{Account: j.a.Name, Site: s.Name, Status: f.status, Blocked: f.blocked, Why: f.why, Culprit: f.culprit, State: rightful.SiteOK}
	if j.a.Suspended { // the panel answers in its place
		v.State, v.Why, v.Status, v.Culprit = rightful.SiteUnknown, suspended, 0, ""
		return v
	}
	if s.docroot != "" {
		if c, who := j.closed(s, f, plan); c != "" {
			v.Culprit = c
			v.Why = fmt.Sprintf("the web server (uid %d) may not pass through it", s.Web.UID)
			if s.nginx == nil || v.Status == 200 {
				v.Status = 403
			}
			if who != s.web {
				v.Status, v.Why = 404, fmt.Sprintf("PHP (uid %d) may not pass through it", s.PHP.UID)
			}
		} else if !s.seen {
			v.State, v.Why = rightful.SiteUnknown, "the document root could not be read"
			if slices.ContainsFunc(s.chain, func(c tree.Component) bool { return j.excludes(c.Path) != "" }) {
				v.Why = "the document root is excluded by the configuration"
			}
			return j.exact(v)
		}
	}
	s.wrapped(&v, f, plan)
	switch {
	case s.docroot == "" && v.Status == 0:
		v.State, v.Why = rightful.SiteUnknown, "the document root is not judged"
	case v.Status == 0:
		v.State = rightful.SiteUnknown
		if v.Blocked > 0 {
			v.State = rightful.SiteBroken
		}
	case v.Status != 200:
		v.State = rightful.SiteDown
	case v.Blocked > 0:
		v.State, v.Culprit = rightful.SiteBroken, s.first
		v.Why = fmt.Sprintf("%d files cannot be opened by whoever serves them", v.Blocked)
		if v.Blocked == 1 {
			v.Why = "it cannot be opened by whoever serves it"
		}
	}
	if v.State == rightful.SiteOK {
		v.Culprit = ""
	}
	return j.exact(v)
}

func (j *job) exact(v rightful.Verdict) rightful.Verdict {
	v.CulpritB64 = rightful.RawPath(v.Culprit)
	return v
}

// closed finds the first directory on the way to a document root, from the top, that keeps out the web server or whoever
// reads the front page.
func (j *job) closed(s *site, f front, plan bool) (culprit string, who int) {
	for _, c := range s.chain {
		if c.Stat.Kind != rightful.KindDir {
			continue
		}
		m := c.Meta
		if after, ok := j.planned[c.Path]; ok && plan {
			m = after
		}
		ok := j.search(m)
		if !ok.has(s.web) && !f.alone {
			return c.Path, s.web
		}
		if !ok.has(f.who) {
			return c.Path, f.who
		}
	}
	return "", -1
}
