package archive

// Mapped is the reading of a source that somebody says is the right one. Where nothing lies in the places it is no reading:
// ErrLayout.
func (s *Survey) Mapped(places Places) (Candidate, error) {
	f := find{Candidate: Candidate{Places: places, Certain: true}, stride: 1}
	err := s.each(func(e *Entry) error {
		if rel, ok := places.Rel(e.Name); ok {
			f.count(e, rel, false)
		}
		return nil
	})
	if err == nil && f.Entries == 0 {
		err = ErrLayout
	}
	return f.Candidate, err
}
