package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Seal ends a list: a line for its header, one for each of n entries, and then this one, with their number and checksum.
func Seal(lines []byte, n int) []byte {
	return fmt.Appendf(bytes.Clone(lines), `{"end":%d,"sha256":"%x"}`+"\n", n, sha256.Sum256(lines))
}

// Unseal gives the header and the entries of a list; not ok where it is not byte for byte what [Seal] made of them.
func Unseal(text []byte) (header []byte, entries [][]byte, ok bool) {
	lines := bytes.SplitAfter(text, []byte("\n"))
	if len(lines) < 3 || len(lines[len(lines)-1]) > 0 {
		return nil, nil, false
	}
	end := lines[len(lines)-2]
	lines = lines[:len(lines)-2]
	if !bytes.Equal(text, Seal(text[:len(text)-len(end)], len(lines)-1)) {
		return nil, nil, false
	}
	return lines[0], lines[1:], true
}

// ReadAll gives what can be read of all that names stand for. What cannot is left out, with an error for each beside the others.
func ReadAll[T any](names []string, read func(name string) (T, error)) (all []T, err error) {
	var errs []error
	for _, n := range names {
		if x, err := read(n); err != nil {
			errs = append(errs, err)
		} else {
			all = append(all, x)
		}
	}
	return all, errors.Join(errs...)
}

// ValidHash reports whether s is a SHA-256 as our files' names have it.
func ValidHash(s string) bool {
	return len(s) == hex.EncodedLen(sha256.Size) && strings.Trim(s, "0123456789abcdef") == ""
}
