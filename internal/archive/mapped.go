package archive

// Mapped is the reading of a source that somebody says is the right one. Where nothing lies in the places it is no reading:
// ErrLayout.
func (s *Survey) Mapped(places Places) (Candidate, error) {
	c := Candidate{Places: places, Certain: true}
	err := s.each(func(e *Entry) error {
		if _, ok := places.Rel(e.Name); ok {
			c.Entries++
			if e.Known.Has(KnownSize) {
				c.Bytes += e.Size
			}
		}
		return nil
	})
	if err == nil && c.Entries == 0 {
		err = ErrLayout
	}
	return c, err
}
