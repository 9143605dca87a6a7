package web

import (
	"net"
	"strings"
)

// Choose finds the server that answers for a name at an address, as ngx_http_find_virtual_server does, and says why. An
// empty address is one that is not known: sockets for all addresses are taken then. Nil: nobody listens there.
func (c *NginxConfig) Choose(addr, port, name string) (v *NginxServer, why string) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	var there []*NginxServer
	var def *NginxServer
	for _, at := range [...]string{addr, ""} {
		for i := range c.Servers {
			for _, l := range c.Servers[i].Listen {
				if l.Port != port || l.Addr != at && !(addr == "" && net.ParseIP(l.Addr) != nil && net.ParseIP(l.Addr).IsUnspecified()) {
					continue
				}
				if there = append(there, &c.Servers[i]); l.Default && def == nil {
					def = &c.Servers[i]
				}
				break
			}
		}
		if there != nil {
			break
		}
	}
	if there == nil {
		return nil, "no server listens there"
	}
	if def == nil {
		def = there[0]
	}
	longest := 0
	for _, s := range there {
		for _, n := range s.Names {
			if n == name || strings.HasPrefix(n, ".") && n[1:] == name {
				return s, "its name is " + n
			}
			if w := wildcardName(n, name); w > longest {
				v, why, longest = s, "its name is like "+n, w
			}
		}
	}
	if v != nil {
		return v, why
	}
	for _, s := range there {
		for _, n := range s.Names {
			pattern, ok := strings.CutPrefix(n, "~")
			if !ok {
				continue
			}
			if re := newNgxRegex(pattern, true); !re.sure([]byte(name)) {
				return nil, "whether its name matches " + clip(n) + " is not known"
			} else if re.match([]byte(name)) {
				return s, "its name matches " + n
			}
		}
	}
	return def, "no other has that name: it is the default there"
}

// Map maps a decoded request path to what nginx looks for first, by the location that it comes to. in shows the document
// root.
func (h *NginxHost) Map(url string, in View) Mapping {
	r := &ngxRequest{h: h, in: in, asked: requestURI(url), first: url, uri: url, conf: h.conf, left: maxChanges}
	for k, v := range h.vars {
		r.set(k, v)
	}
	if r.rewrite(h.conf.codes) != rewriteEnd {
		r.findLocation()
	}
	if name, why := r.filename(); why == "" && r.conf.rootFrom != nil {
		return Mapping{Root: name, How: r.conf.rootFrom.Name, At: r.conf.rootFrom}
	}
	return Mapping{Root: h.DocRoot, Rest: strings.TrimPrefix(url, "/"), How: "root"}
}

// URL is the verdict on any request path of the host, decoded and without arguments. in shows the document root.
func (h *NginxHost) URL(uri string, in View) Verdict {
	if !strings.HasPrefix(uri, "/") || strings.ContainsRune(uri, 0) {
		return Verdict{Status: 400, Certain: true, Cause: CauseConfigured, Why: "it is no request path"}
	}
	return h.Root(in).(*ngxScope).ask(cleanURL(uri), "", Node{}, in)
}
