package archive

import (
	"math"

	"rightful"
)

// maxFile is the largest file of ext4. What claims to be larger fits nowhere, and is not counted where it is asked how much a
// source holds.
const maxFile = 16 << 40

// size is what the content of an entry adds to a sum.
func (e *Entry) size(sum int64) int64 {
	if e.Kind != rightful.KindFile || e.HardLink || !e.Known.Has(KnownSize) || e.Size < 0 || e.Size > maxFile {
		return 0
	}
	return min(e.Size, math.MaxInt64-sum)
}

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
