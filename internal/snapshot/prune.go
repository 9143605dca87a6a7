package snapshot

import (
	"fmt"
	"strings"

	"rightful/internal/state"

	"golang.org/x/sys/unix"
)

// sweep removes what nobody refers to: unfinished files, and account files of which no snapshot tells. It does nothing
// while a snapshot is being written, and leaves all account files where one snapshot cannot be read.
func (s *Store) sweep() (freed int64) {
	lock, err := s.dir.Flock(lockFile, unix.LOCK_EX|unix.LOCK_NB)
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
			s.dir.Remove(s.dir.Join(dir, n.Name())) // what stays is swept next time
			s.step()
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
		s.step()
	}
	if err := state.SyncDir(s.dir.Join(snapshotsDir)); err != nil {
		return 0, fmt.Errorf("remove snapshots: %w", state.Cause(err))
	}
	return s.sweep(), nil
}
