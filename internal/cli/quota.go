package cli

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/repair"
)

// quotaChanges sums up what a plan moves between users' quotas, by uid.
func quotaChanges(p *repair.Plan) []rightful.QuotaChange {
	sums := map[uint32]rightful.QuotaChange{}
	for i := range p.Accounts {
		for _, q := range p.Accounts[i].Quota {
			s := sums[q.UID]
			sums[q.UID] = rightful.QuotaChange{UID: q.UID, Bytes: s.Bytes + q.Bytes, Inodes: s.Inodes + q.Inodes, OverSoft: s.OverSoft || q.OverSoft}
		}
	}
	var out []rightful.QuotaChange
	for _, uid := range slices.Sorted(maps.Keys(sums)) {
		if s := sums[uid]; s.Bytes != 0 || s.Inodes != 0 {
			out = append(out, s)
		}
	}
	return out
}

// maxQuotas is how many users are named in a line, of those who get more and of those who get less.
const maxQuotas = 5

// quotaLine says what a plan moves between users' quotas, the most first: "quota: alice +1.2 GiB in 3400 files; root −1.2
// GiB in 3400 files". It is empty where nothing is moved.
func (a *app) quotaLine(p *repair.Plan) string {
	changes := quotaChanges(p)
	slices.SortStableFunc(changes, func(x, y rightful.QuotaChange) int { return cmp.Compare(y.Bytes, x.Bytes) })
	less := slices.IndexFunc(changes, func(q rightful.QuotaChange) bool { return q.Bytes < 0 || q.Bytes == 0 && q.Inodes < 0 })
	if less < 0 {
		less = len(changes)
	}
	slices.Reverse(changes[less:])
	var parts []string
	for _, group := range [][]rightful.QuotaChange{changes[:less], changes[less:]} {
		for _, q := range group[:min(len(group), maxQuotas)] {
			sign := "+"
			if q.Bytes < 0 {
				sign = ""
			}
			part := a.names().user(q.UID) + " " + sign + rightful.SizeText(q.Bytes) + " in " + counted(int(max(q.Inodes, -q.Inodes)), "file", "files")
			if q.OverSoft {
				part += " (above the soft limit)"
			}
			parts = append(parts, part)
		}
		if n := len(group) - maxQuotas; n > 0 {
			parts = append(parts, counted(n, "more user", "more users"))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "quota: " + strings.Join(parts, "; ")
}

// noteQuota says it on standard error, before somebody is asked.
func (a *app) noteQuota(p *repair.Plan) {
	if l := a.quotaLine(p); l != "" {
		a.note("%s", l)
	}
}
