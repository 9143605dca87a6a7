package web

import (
	"testing"

	"rightful"
)

func TestLiteSpeedRefusesByItsMasksAndIsNeverCertain(t *testing.T) {
	r := root(t, map[string]string{
		"srv/site/page.html": "x", "srv/site/closed.css": "x", "srv/site/run.js": "x", "srv/site/photo.jpg": "x", "srv/site/empty/x": "",
		"etc/apache2/apache2.conf": "<VirtualHost *:80>\nServerName a.example\nDocumentRoot /srv/site\n</VirtualHost>\n",
	})
	c, err := ReadApache(r, "/etc/apache2/apache2.conf")
	if err != nil {
		t.Fatal(err)
	}
	as := rightful.Identity{UID: 99, GIDs: []uint32{99}}
	like := NewApacheHost(ApacheHostConfig{Server: r, Config: c, VHost: &c.VHosts[0], DocRoot: "/srv/site", Web: as, Workers: as})
	h := NewLiteSpeedHost(like, "/srv/site")
	in := ViewOf(r, "/srv/site")
	scope := h.Root(in)
	if !scope.Same(h.Root(in)) || scope.Same(like.Root(in)) {
		t.Error("a scope is not told from others")
	}
	for _, x := range []struct {
		name   string
		mode   rightful.Mode
		status int
		code   string
	}{
		{"page.html", 0o644, 200, ""},
		{"page.html", 0o600, 403, "litespeed:open"},
		{"closed.css", 0o640, 403, "litespeed:mask"}, // the group is the server's, which does not help
		{"run.js", 0o755, 403, "litespeed:mask"},
		{"run.js", 0o1644, 403, "litespeed:mask"},
		{"photo.jpg", 0o755, 200, ""},
	} {
		n := Node{Kind: rightful.KindFile, Meta: rightful.Meta{UID: 20001, GID: 99, Mode: x.mode}}
		v := scope.File([]byte(x.name), n, in)
		if v.Status != x.status || v.Code != x.code || v.Certain || v.Why == "" {
			t.Errorf("%s with mode %s: %+v, want %d %q and no certainty", x.name, x.mode, v, x.status, x.code)
		}
		if x.code == "litespeed:mask" && (v.Culprit != "/srv/site/"+x.name || v.Cause.Fault()) {
			t.Errorf("%s with mode %s blames %q as %s", x.name, x.mode, v.Culprit, v.Cause)
		}
	}
	open := rightful.Meta{UID: 20001, GID: 99, Mode: 0o755}
	empty := scope.Dir("empty", open, ViewOf(r, "/srv/site/empty"))
	if v := empty.Index(ViewOf(r, "/srv/site/empty")); v.Status != 404 || v.Certain {
		t.Errorf("a directory without index: %+v", v)
	}
	if v := h.URL("/page.html", in); v.Certain {
		t.Errorf("certain of a URL: %+v", v)
	}
}
