package tree

import (
	"os"

	"golang.org/x/sys/unix"
)

// OpenForeign opens a regular file that may lie where others write, such as a log in a home. A link on the way, the last
// component included, is followed only where nobody but root can have put it; nothing but a regular file is ever opened.
func (s *Server) OpenForeign(name string) (*os.File, Stat, error) {
	fd, err := s.resolve(name, resolveForeign, false, nil)
	if err != nil {
		return nil, Stat{}, err
	}
	defer unix.Close(fd)
	st, err := statFD(fd)
	if err != nil {
		return nil, st, &Error{Op: "stat", Path: name, Err: err}
	}
	f, err := s.file(fd, st.Kind, name)
	return f, st, err
}

// ListForeign lists up to limit names in a directory that may be somebody else's, sorted by bytes. Links on the way are
// followed as OpenForeign does.
func (s *Server) ListForeign(name string, limit int) ([]string, error) {
	fd, err := s.resolve(name, resolveForeign, false, nil)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return s.list(fd, name, limit)
}
