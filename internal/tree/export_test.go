package tree

import "rightful"

// AllLinksOnce is AllLinks without its patience.
func AllLinksOnce(s *Server, id rightful.EntryID, base string, paths []string) error {
	b, err := s.OpenBase(base)
	if err != nil {
		return err
	}
	defer b.Close()
	return s.allLinks(id, map[string]*Base{base: b}, []string{base}, paths)
}
