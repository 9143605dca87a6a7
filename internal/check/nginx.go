package check

import (
	"fmt"
	"strings"

	"rightful"
	"rightful/internal/tree"
)

// alone reports whether an identity answers by itself, and the web server need not reach the file: nginx hands a script
// to PHP by its path, unless it is told to look for it first.
func (s *site) alone(who int) bool { return s.nginx != nil && !s.nginx.Looks && who == s.php }

// passes reports whether all who have a part in serving a file get to it.
func (s *site) passes(m mask, who int) bool { return m.has(who) && (m.has(s.web) || s.alone(who)) }

// nginxPage predicts what nginx answers for the front page: try_files where there is one, then the first index file
// that exists. above and here are who may pass through everything above the document root, and through it too.
//
// nginx finds files by stat(2), and takes one that it may not get to for one that is not there in try_files, but for a
// reason to refuse (403) among the index files (src/http/ngx_http_core_module.c, modules/ngx_http_index_module.c).
func (j *job) nginxPage(d *tree.Dir, lv *level, s *site, above, here mask, plan bool) front {
	unknown := func(what string) front { return front{who: s.web, why: "nginx decides by " + what} }
	switch f := s.nginx; {
	case f.Unknown != "":
		return unknown(f.Unknown)
	case len(f.TryFiles) > 0:
		last := len(f.TryFiles) - 1
		for _, try := range f.TryFiles[:last] {
			dir := strings.HasSuffix(try, "/")
			switch name, sure := tryName(try); {
			case !sure:
				return unknown("try_files")
			case name == "" && dir && above.has(s.web):
				return j.nginxIndex(d, lv, s, here, plan)
			case name != "" && !dir && here.has(s.web) && d.Has(name):
				return j.nginxFile(d, lv, s, name, here, plan)
			}
		}
		return j.nginxFallback(d, lv, s, f.TryFiles[last], above, here, plan)
	}
	if !above.has(s.web) {
		return front{status: 403, who: s.web}
	}
	return j.nginxIndex(d, lv, s, here, plan)
}

// tryName gives the name in the document root that an argument of try_files stands for when "/" is asked for; "" is the
// document root itself. It is not sure of other variables and of deeper paths.
func tryName(try string) (name string, sure bool) {
	name = strings.Trim(strings.ReplaceAll(try, "$uri", "/"), "/")
	return name, !strings.ContainsAny(name, "$/")
}

func (j *job) nginxFallback(d *tree.Dir, lv *level, s *site, last string, above, here mask, plan bool) front {
	if code, ok := strings.CutPrefix(last, "="); ok && !above.has(s.web) {
		f := front{who: s.web}
		if _, err := fmt.Sscan(code, &f.status); err == nil {
			return f
		}
	}
	last, _, _ = strings.Cut(last, "?")
	name, sure := tryName(last)
	if !sure || name == "" || strings.ContainsAny(last, "=@") {
		return front{who: s.web, why: "nginx decides by try_files"}
	}
	if !d.Has(name) {
		return front{status: 404, who: s.web, why: "the last name of try_files does not exist", culprit: rightful.JoinPath(s.docroot, name)}
	}
	return j.nginxFile(d, lv, s, name, here, plan)
}

func (j *job) nginxIndex(d *tree.Dir, lv *level, s *site, here mask, plan bool) front {
	if !here.has(s.web) {
		return front{status: 403, who: s.web}
	}
	for _, name := range s.index {
		if strings.ContainsAny(name, "/$") || !d.Has(name) {
			continue
		}
		if _, _, kind, err := j.peek(d, lv, name); err == nil && kind != rightful.KindFile {
			continue
		}
		return j.nginxFile(d, lv, s, name, here, plan)
	}
	return front{who: s.web, why: "there is no index file: the server lists the directory or refuses, as configured", culprit: s.docroot}
}

// nginxFile predicts the status of one file of the document root.
func (j *job) nginxFile(d *tree.Dir, lv *level, s *site, name string, here mask, plan bool) front {
	p := rightful.JoinPath(s.docroot, name)
	_, st, err := d.Peek(name)
	if err == nil && st.Kind == rightful.KindSymlink && s.nginx.Links != "" {
		return front{who: s.web, why: "nginx decides by disable_symlinks"}
	}
	have, after, _, err := j.peek(d, lv, name)
	if err != nil {
		return front{status: 403, who: s.web, why: "the index is a link whose target cannot be reached", culprit: p}
	}
	if plan {
		have = after
	}
	who, reader := s.web, "the web server"
	if s.php >= 0 && phpSuffix([]byte(name)) {
		who, reader = s.php, "PHP"
	}
	f := front{status: 200, who: who, alone: s.alone(who)}
	switch {
	case !s.passes(here, who): // closed finds the culprit and says why
		f.status = 403
		if who != s.web {
			f.status = 404
		}
	case !have.Allowed(j.ids[who], 4):
		f.status, f.why, f.culprit = 403, fmt.Sprintf("%s (uid %d) cannot read the index", reader, j.ids[who].UID), p
	}
	return f
}

// temper puts right what was said of entries before it was known how their sites answer: where nginx answers the front
// page all the same, a closed directory only keeps visitors from the rest; a wrapper that does not run may be what takes
// a site down.
func (j *job) temper() {
	up, culprit := map[string]bool{}, map[string]bool{}
	for i, s := range j.sites {
		v := &j.r.Now[i]
		up[s.Name] = s.nginx != nil && v.State != rightful.SiteDown
		if s.wrap != nil && v.State == rightful.SiteDown {
			culprit[v.Culprit] = true
		}
	}
	now := map[string]rightful.Effect{}
	for i := range j.r.Findings {
		f := &j.r.Findings[i]
		down := len(f.Sites) == 0
		for _, s := range f.Sites {
			down = down || !up[s]
		}
		switch {
		case f.Effect == rightful.EffectDown && !down:
			f.Effect = rightful.EffectBroken
		case f.Effect == rightful.EffectBroken && culprit[f.Path]:
			f.Effect = rightful.EffectDown
		default:
			continue
		}
		now[f.Path] = f.Effect
	}
	for i := range j.r.Changes {
		if c := &j.r.Changes[i]; now[c.Path()] != "" {
			c.Effect = now[c.Path()]
		}
	}
}
