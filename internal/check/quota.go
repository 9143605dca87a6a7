package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/tree"
)

// A change of owner moves what the entry takes from one user's quota to another's. The kernel lets root do that whatever
// the limits are; but an account above its hard limit can write nothing any more, and its sites break in a new way. So an
// account that a plan would put there is left out of it, unless that risk is taken.

// quotaUser is one user on one file system, which has its own limits.
type quotaUser struct {
	dev uint64
	uid uint32
}

// extent is what an entry takes, and where.
type extent struct {
	base  string
	dev   uint64
	bytes int64
}

func (j *job) extent(e *tree.Entry) extent { return extent{j.base, e.Dev, e.Taken} }

// moved is what changes of owner add to a user's share, and a directory on the file system.
type moved struct {
	bytes, inodes int64
	base          string
}

// move counts one change of an entry. The same inode is counted once: a directory may change in two steps, but its owner
// changes in one of them, and a file with several names is counted when these are settled.
func (j *job) move(x extent, from, to uint32) {
	if from == to {
		return
	}
	add := func(uid uint32, bytes, inodes int64) {
		m := j.moved[quotaUser{x.dev, uid}]
		j.moved[quotaUser{x.dev, uid}] = moved{m.bytes + bytes, m.inodes + inodes, x.base}
	}
	add(from, -x.bytes, -1)
	add(to, x.bytes, 1)
}

// weigh sums up what the changes move, and leaves the account out of a plan that would put somebody above a hard limit.
func (j *job) weigh() {
	shares := map[uint32]*rightful.QuotaChange{}
	var over []string
	keys := slices.SortedFunc(maps.Keys(j.moved), func(a, b quotaUser) int {
		return cmp.Or(cmp.Compare(a.uid, b.uid), cmp.Compare(a.dev, b.dev))
	})
	for _, k := range keys {
		m := j.moved[k]
		s := shares[k.uid]
		if s == nil {
			s = &rightful.QuotaChange{UID: k.uid}
			shares[k.uid] = s
		}
		s.Bytes += m.bytes
		s.Inodes += m.inodes
		if m.bytes <= 0 && m.inodes <= 0 {
			continue
		}
		q, ok, err := j.c.Quota(m.base, k.uid)
		if err != nil {
			j.note(m.base, "it is not known whether the repair fits into the quota: "+err.Error())
		}
		if !ok || err != nil {
			continue
		}
		hard, soft := exceeds(m, q)
		name := j.c.World.Users.Name(k.uid)
		if hard != "" {
			over = append(over, "for "+name+" the repair would make "+hard)
		} else if soft != "" {
			s.OverSoft = true
			j.note(m.base, "for "+name+" the repair would make "+soft)
		}
	}
	for _, uid := range slices.Sorted(maps.Keys(shares)) {
		if s := shares[uid]; s.Bytes != 0 || s.Inodes != 0 {
			j.r.Quota = append(j.r.Quota, *s)
		}
	}
	if risk := (Accept{RiskQuota, j.a.Name}); len(over) > 0 && !j.c.accepted[risk] {
		j.leaveOut(risk, strings.Join(over, "; "))
	}
}

// exceeds says which limits of a user would be exceeded, hard and soft; "" for none. A limit already exceeded counts if
// there would be still more.
func exceeds(m moved, q tree.Quota) (hard, soft string) {
	for _, x := range []struct {
		add        int64
		has        uint64
		soft, hard uint64
		show       func(uint64) string
	}{
		{m.bytes, q.Bytes, q.SoftBytes, q.HardBytes, func(n uint64) string { return rightful.SizeText(int64(n)) }},
		{m.inodes, q.Inodes, q.SoftInodes, q.HardInodes, func(n uint64) string { return fmt.Sprintf("%d files", n) }},
	} {
		if x.add <= 0 {
			continue
		}
		would := x.has + uint64(x.add)
		say := func(kind string, limit uint64) string {
			return fmt.Sprintf("%s of %s, and the %s limit is %s", x.show(would), x.show(x.has), kind, x.show(limit))
		}
		if x.hard > 0 && would > x.hard && hard == "" {
			hard = say("hard", x.hard)
		}
		if x.soft > 0 && would > x.soft && soft == "" {
			soft = say("soft", x.soft)
		}
	}
	return hard, soft
}

// leaveOut takes all changes of the account back, until somebody takes the risk.
func (j *job) leaveOut(risk Accept, why string) {
	for i := range j.r.Findings {
		if f := &j.r.Findings[i]; f.Want != nil && f.Accept == "" {
			f.Accept = risk.String()
		}
	}
	home := j.resolvePath(j.a.Home)
	f := rightful.Finding{
		Path: home, Kind: rightful.KindDir, Problem: OverQuota, Effect: rightful.EffectWrong, Accept: risk.String(),
		Note: why + "; nothing of " + j.a.Name + "'s is changed",
	}
	if cs, err := j.c.Server.Trace(home); err == nil && len(cs) > 0 {
		f.Have = cs[len(cs)-1].Meta
	}
	j.find(f)
	j.r.Changes, j.r.Quota = nil, nil
	j.r.Planned = slices.Clone(j.r.Now)
}

// quotaOf asks the file system that a directory lies on.
func quotaOf(s *tree.Server) func(string, uint32) (tree.Quota, bool, error) {
	return func(base string, uid uint32) (tree.Quota, bool, error) {
		b, err := s.OpenBase(base)
		if err != nil {
			return tree.Quota{}, false, err
		}
		defer b.Close()
		return b.Quota(uid)
	}
}
