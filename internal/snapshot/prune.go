package snapshot

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"rightful/internal/state"

	"golang.org/x/sys/unix"
)

// sweep removes what nobody refers to: unfinished files, and account files of which no snapshot tells. It does nothing
// while a snapshot is being written, and leaves all account files where one snapshot cannot be read.
func (s *Store) sweep() (freed int64) {
	lock, err := s.lock(unix.LOCK_EX, false)
	if err != nil {
		return 0
	}
	defer lock.Close()
	all, err := s.List()
	used := map[string]bool{}
	for _, sn := range all {
		for _, a := range sn.Accounts {
			used[a.File+accountExt] = true
		}
	}
	keepAccounts := err != nil
	for _, dir := range []string{snapshotsDir, accountsDir} {
		names, _ := s.dir.List(dir) // what cannot be listed is swept next time
		for _, n := range names {
			unfinished := strings.HasPrefix(n.Name(), state.TempPrefix)
			unused := dir == accountsDir && strings.HasSuffix(n.Name(), accountExt) && !used[n.Name()] && !keepAccounts
			if !unfinished && !unused {
				continue
			}
			if i, err := n.Info(); err == nil {
				freed += i.Size()
			}
			s.dir.Remove(s.dir.Join(dir, n.Name()))
		}
	}
	return freed
}

// Remove removes snapshots and what only they recorded, and gives the bytes that this freed.
func (s *Store) Remove(ids []string) (freed int64, err error) {
	for _, id := range ids {
		if err := s.dir.Remove(s.path(id)); err != nil {
			return 0, fmt.Errorf("remove snapshot %q: %w", id, err)
		}
	}
	if err := state.SyncDir(s.dir.Join(snapshotsDir)); err != nil {
		return 0, fmt.Errorf("remove snapshots: %w", state.Cause(err))
	}
	return s.sweep(), nil
}

// A Retention says which snapshots are kept, by restic's names: the newest Last, and of each of the newest so many hours,
// days, weeks, months and years that have one the newest. What several of these keep is kept once. The zero Retention keeps
// nothing.
type Retention struct {
	Last, Hourly, Daily, Weekly, Monthly, Yearly int
	// Tags keep every snapshot that has one of them.
	Tags []string
}

// Keep gives for each of the snapshots, which come newest first, why it is kept: "last", "daily", …; nothing for one that
// is not. Hours and days are those of loc.
func (p Retention) Keep(all []*Snapshot, loc *time.Location) [][]string {
	rules := []struct {
		name string
		n    int
		of   func(t time.Time, i int) string // the same for two snapshots of which one is enough
	}{
		{"last", p.Last, func(_ time.Time, i int) string { return strconv.Itoa(i) }},
		{"hourly", p.Hourly, func(t time.Time, _ int) string { return t.Format("2006-01-02 15") }},
		{"daily", p.Daily, func(t time.Time, _ int) string { return t.Format("2006-01-02") }},
		{"weekly", p.Weekly, func(t time.Time, _ int) string { y, w := t.ISOWeek(); return fmt.Sprint(y, " ", w) }},
		{"monthly", p.Monthly, func(t time.Time, _ int) string { return t.Format("2006-01") }},
		{"yearly", p.Yearly, func(t time.Time, _ int) string { return t.Format("2006") }},
	}
	keep := make([][]string, len(all))
	for _, r := range rules {
		last := ""
		for i, sn := range all {
			if r.n == 0 {
				break
			}
			if of := r.of(sn.Created.In(loc), i); of != last {
				last = of
				r.n--
				keep[i] = append(keep[i], r.name)
			}
		}
	}
	for i, sn := range all {
		if sn.Tag != "" && slices.Contains(p.Tags, sn.Tag) {
			keep[i] = append(keep[i], "tag")
		}
	}
	return keep
}
