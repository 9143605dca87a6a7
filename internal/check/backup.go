package check

import (
	"rightful"
	"rightful/internal/tree"
)

// maxGapSamples is how many entries of a gap are named.
const maxGapSamples = 5

// What an owner must be able to do so that a backup made as that owner holds an entry.
const (
	needFile rightful.Mode = 0o400
	needDir  rightful.Mode = 0o500
)

// mine reports whether an entry is the account's own, with the owner's rights that need says: nearly every entry is, and
// costs no more than this.
func (j *job) mine(have *rightful.Meta, need rightful.Mode) bool {
	return have.UID == j.a.UID && have.Mode&need == need
}

// lacks reports whether the panel's backup lacks a file or a directory that is not mine with the rights of need, and
// counts it unless it is left out on purpose. A link is never lacking: who may look at it has all of it.
func (j *job) lacks(e *tree.Entry, have *rightful.Meta, need rightful.Mode) bool {
	if have.Allowed(j.id, uint8(need>>6)) {
		return false
	}
	if j.backup.LeavesOut(e.Rel()) {
		return true
	}
	if j.r.Gap == nil {
		j.r.Gap = &Gap{Account: j.a.Name}
	}
	g := j.r.Gap
	g.Unreadable++
	if e.Kind == rightful.KindDir {
		g.Directories++
	}
	if len(g.Samples) < maxGapSamples {
		p := e.Path()
		g.Samples = append(g.Samples, GapSample{Path: p, PathB64: rightful.RawPath(p), Kind: e.Kind})
	}
	return true
}
