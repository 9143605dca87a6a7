package web

import (
	"bytes"
	"strings"

	"rightful"
)

// NewLiteSpeedHost is a virtual host of LiteSpeed or OpenLiteSpeed: it answers like Apache but for what stands here, which
// is read in OpenLiteSpeed's sources (src/http: httpreq.cpp, staticfilehandler.cpp) and was never held against a running
// server. So no answer of it is certain.
func NewLiteSpeedHost(like Host, docroot string) Host { return &lsHost{like, docroot} }

type lsHost struct {
	like    Host
	docroot string
}

// lsSources is why an answer is not certain.
const lsSources = "LiteSpeed is predicted from its sources alone"

// Root implements [Host].
func (h *lsHost) Root(in View) Scope { return &lsScope{h.like.Root(in), h.docroot} }

// URL implements [Host].
func (h *lsHost) URL(path string, in View) Verdict { return lsDoubt(h.like.URL(path, in)) }

// Notes implements [Host].
func (h *lsHost) Notes() []string { return append(h.like.Notes(), lsSources) }

type lsScope struct {
	like Scope
	dir  string
}

// Same implements [Scope].
func (s *lsScope) Same(o Scope) bool {
	t, ok := o.(*lsScope)
	return ok && s.dir == t.dir && s.like.Same(t.like)
}

// Dir implements [Scope].
func (s *lsScope) Dir(name string, m rightful.Meta, in View) Scope {
	return &lsScope{s.like.Dir(name, m, in), rightful.JoinPath(s.dir, name)}
}

// The masks of LiteSpeed's defaults: whatever the server itself may read, a static file must be open to everybody, and
// must have no execute bit and no sticky bit; pictures are spared the second.
const (
	lsRequired   rightful.Mode = 0o004
	lsRestricted rightful.Mode = 0o1111
)

// File implements [Scope].
func (s *lsScope) File(name []byte, n Node, in View) Verdict {
	v := lsDoubt(s.like.File(name, n, in))
	if v.Status != 200 || v.App {
		return v
	}
	if n.Kind == rightful.KindSymlink {
		steps, err := in.Follow(string(name))
		if err != nil || len(steps) == 0 {
			return v
		}
		n.Meta = steps[len(steps)-1].Meta
	}
	why := ""
	switch {
	case n.Meta.Mode&lsRequired != lsRequired:
		why = "LiteSpeed serves no static file that is closed to others, unless requiredPermissionMask is not 004"
	case n.Meta.Mode&lsRestricted != 0 && !lsPicture(name):
		why = "LiteSpeed serves no static file with an execute or sticky bit, unless restrictedPermissionMask is not 041111"
	default:
		return v
	}
	return Verdict{
		Status: 403, Statuses: []int{200, 403}, Cause: CauseUnknown, Code: "litespeed:mask", Culprit: rightful.JoinPath(s.dir, string(name)), Why: why,
	}
}

// Index implements [Scope].
func (s *lsScope) Index(in View) Verdict {
	v := s.like.Index(in)
	none := v.Code == "AH01276"
	v = lsDoubt(v)
	if none {
		v.Status = 404 // where Apache and nginx refuse
	}
	return v
}

// lsDoubt makes an answer of Apache's one of LiteSpeed's.
func lsDoubt(v Verdict) Verdict {
	v.Certain = false
	if v.Why == "" {
		v.Why = lsSources
	}
	if strings.HasPrefix(v.Code, "AH") {
		v.Code = ""
		if v.Cause.Fault() {
			v.Code = "litespeed:open"
		}
	}
	return v
}

// lsPicture reports whether a file is a picture by its name.
func lsPicture(name []byte) bool {
	i := bytes.LastIndexByte(name, '.')
	if i < 0 {
		return false
	}
	switch string(bytes.ToLower(name[i+1:])) {
	case "png", "jpg", "jpeg", "gif", "webp", "svg", "ico", "bmp", "avif":
		return true
	}
	return false
}
