package tree

import (
	"rightful"

	"golang.org/x/sys/unix"
)

// AllLinksOnce is AllLinks without its patience.
func AllLinksOnce(s *Server, id rightful.EntryID, base string, paths []string) error {
	b, err := s.OpenBase(base)
	if err != nil {
		return err
	}
	defer b.Close()
	return s.allLinks(id, map[string]*Base{base: b}, []string{base}, paths)
}

// CrossesBlind asks of an entry of the base whether it lies on another mount, as on a kernel whose statx(2) tells no mount
// ids and no mount roots.
func CrossesBlind(b *Base, name string) (bool, error) {
	blind := *b
	blind.stat.Mount = mountID(b.fd)
	fd, err := openPath(b.fd, name)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	st, err := statFD(fd)
	st.Mount, st.Attrs = 0, 0
	return blind.crosses(fd, &st), err
}

// LimitNames lets walks of a base read no more than so many bytes of names of one directory, and a buffer.
func LimitNames(b *Base, bytes int) { b.names = bytes }
