package check

import (
	"slices"
	"strings"

	"rightful"
	"rightful/internal/policy"
	"rightful/internal/tree"
)

type inode struct{ dev, ino uint64 }

// linked is an inode with several links. It may be changed only if all of them lie in this account (law 4) and all of
// their rules agree with the change.
type linked struct {
	links    uint32
	extent   extent
	uid      uint32 // its owner today
	met      []metLink
	findings []rightful.Finding
	after    *rightful.Meta // what it would be; nil where nothing would be changed
	change   *rightful.Change
}

type metLink struct {
	path string
	kind rightful.Kind
	rule *policy.Rule
	// cures is the site that gets one more file back if the inode is changed, or nil.
	cures *site
}

// link judges one link of an inode that has several, and puts what comes of it aside until all have been met.
func (j *job) link(d *tree.Dir, e *tree.Entry, rule *policy.Rule, have rightful.Meta, lv *level) {
	key := inode{e.Dev, e.Ino}
	l := j.links[key]
	if l == nil {
		l = &linked{links: e.Nlink, extent: j.extent(e), uid: have.UID}
		j.links[key] = l
	}
	path := e.Path()
	l.met = append(l.met, metLink{path: path, kind: e.Kind, rule: rule})
	op := j.judge(lv, path, rule, e.Kind, have, e.Immutable(), j.entryID(e))
	if op.problem == "" {
		if lv.site >= 0 && rule != nil {
			j.count(d, lv, e, rule, &have, &have)
		}
		return
	}
	// The prediction takes the inode as it is, until it is settled that it is changed.
	held := op
	held.after = have
	f := j.finding(d, e, have, held, lv)
	l.findings = append(l.findings, f)
	if !op.change {
		return
	}
	if lv.site >= 0 {
		if _, now, planned := j.blocked(d, lv, e.Name, e.Kind, rule, &have, &op.after); now && !planned {
			l.met[len(l.met)-1].cures = j.sites[lv.site]
		}
	}
	if l.after == nil {
		l.after = &op.after
		l.change = j.newChange(e, have, op, f)
	}
}

// settleLinks decides about inodes with several links when all had their chance to be met.
func (j *job) settleLinks() {
	var ls []*linked
	for _, l := range j.links {
		if len(l.findings) > 0 {
			ls = append(ls, l)
		}
	}
	slices.SortFunc(ls, func(a, b *linked) int { return strings.Compare(a.findings[0].Path, b.findings[0].Path) })
	var first, last []rightful.Change
	dirs := slices.ContainsFunc(j.r.Changes, func(c rightful.Change) bool { return c.Kind == rightful.KindDir })
	for _, l := range ls {
		why := ""
		if uint32(len(l.met)) != l.links || l.change != nil && !j.allHere(l) {
			why = "not all of its hard links were met in this account"
		} else if l.after != nil && !j.restoring() {
			for _, m := range l.met {
				if m.rule != nil && !m.rule.Judge(*l.after, m.kind, false).OK {
					why = "what is right here would be wrong at its other link " + m.path
					break
				}
			}
		}
		for _, f := range l.findings {
			if why != "" {
				f.Problem, f.Want, f.Accept, f.Note = ForeignLink, nil, "", why
			}
			j.find(f)
		}
		if why != "" || l.after == nil {
			continue
		}
		j.move(l.extent, l.uid, l.after.UID)
		for _, m := range l.met {
			if m.cures != nil {
				m.cures.planned.blocked--
				m.cures.sample(m.path)
			}
		}
		if l.change == nil {
			continue
		}
		// Its links may lie in directories that close and in others that open, so it must be no more than both states
		// give before the first of them is changed, and may be more only after the last.
		c := *l.change
		if dirs {
			if cut := cutOff(&c); cut != nil {
				first = append(first, *cut)
			}
		}
		if !c.Before.Equal(c.After) {
			last = append(last, c)
		}
	}
	j.r.Changes = slices.Concat(first, j.r.Changes, last)
}

// allHere makes sure that what was met are as many links, and not fewer that were renamed while we looked.
func (j *job) allHere(l *linked) bool {
	paths := make([]string, len(l.met))
	for i, m := range l.met {
		paths[i] = m.path
	}
	return j.c.Server.AllLinks(j.ctx, l.change.ID, j.r.Bases, paths) == nil
}
