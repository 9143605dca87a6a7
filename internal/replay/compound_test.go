package replay

import (
	"slices"
	"strings"
	"testing"

	"rightful"
)

// A mishap is something crooked that a script alone would not do, and what must come of it.
type mishap struct {
	name  string
	panel string // "" for both
	do    string // a script, in the box
	check func(*server, *answer)
	fix   []string // further arguments
	code  int      // of fix
	down  []string // sites that stay down
	after func(*server, *answer)
}

// stat shows owner and mode of paths.
func (s *server) stat(paths ...string) string {
	s.t.Helper()
	return s.sh(`stat -c '%U %a' -- "$@"`, paths...)
}

const (
	down    = rightful.EffectDown
	broken  = rightful.EffectBroken
	exposed = rightful.EffectExposed
	wrong   = rightful.EffectWrong
)

// Compound accidents: each is predicted as real requests have it, repaired as far as the laws allow, and taken back.
func TestCompoundAccidents(t *testing.T) {
	panels(t, func(t *testing.T, s *server) {
		s.keep()
		for _, m := range mishaps() {
			if m.panel != "" && m.panel != s.Panel {
				continue
			}
			t.Run(m.name, func(t *testing.T) {
				s := s.with(t)
				defer s.reload() // PHP remembers where links led
				defer s.putBack()
				defer func() { s.sh(`chmod 0711 /home`) }()
				s.sh(m.do)
				before := s.listing()
				check := s.rightful("check").exit(t, 1)
				s.holdAgainstRequests(check)
				m.check(s, check)
				fix := s.rightful(append([]string{"fix", "--yes"}, m.fix...)...).exit(t, m.code)
				bad := s.bad()
				for _, site := range s.Sites() {
					if slices.Contains(m.down, site.Host) || slices.Contains(m.down, "*") && strings.HasPrefix(site.DocRoot, "/home/") {
						if bad[site.Host] == 0 {
							t.Errorf("%s answers 200, want it to stay down", site.Host)
						}
						delete(bad, site.Host)
					}
				}
				if len(bad) > 0 {
					t.Errorf("after the repair: %v", bad)
				}
				s.holdAgainstRequests(s.rightful("check"))
				if m.after != nil {
					m.after(s, fix)
				}
				if len(fix.runs) > 0 {
					s.rightful("undo", "--yes").exit(t, 0)
				}
				s.same("after undo", before)
			})
		}
	})
}

// untouched demands that an entry is still as a script left it.
func untouched(want string, paths ...string) func(*server, *answer) {
	return func(s *server, _ *answer) {
		s.t.Helper()
		if got := s.stat(paths...); got != want {
			s.t.Errorf("%q: %q, want %q", paths, got, want)
		}
	}
}

func found(path, problem string, effect rightful.Effect, sites ...string) func(*server, *answer) {
	return func(s *server, a *answer) {
		s.t.Helper()
		is(s.t, a.at(s.t, path), problem, effect, sites...)
	}
}

func mishaps() []mishap {
	return []mishap{
		{
			name: "a tree given to another customer is given back only by decision",
			do:   `chown -hR bob:bob /home/alice`, code: 0, fix: []string{"--accept=foreign-owner:bob"},
			check: func(s *server, a *answer) {
				f := a.at(s.t, "/home/alice/public_html")
				is(s.t, f, "foreign-owner", down, "alice.example", "blog.alice.example")
				if f.Accept != "foreign-owner:bob" || f.Want == nil || f.Note == "" {
					s.t.Errorf("%+v: want what accepting would do", f)
				}
			},
		},
		{
			name: "a restore as root cures the site and leaves root's private file",
			do:   `chown -hR root:root /home/leo; chmod 0600 /home/leo/private/*`, code: 1,
			check: func(s *server, a *answer) {
				found("/home/leo/public_html", "wrong-owner", down, "leo.example")(s, a)
				found("/home/leo/private/accounts 2024.ods", "root-owned-unproven", wrong)(s, a)
			},
			after: untouched("root 600\n", "/home/leo/private/accounts 2024.ods"),
		},
		{
			name: "everything at 0777", do: `chmod -R 0777 /home/carol /home/judy`, code: 0,
			check: func(s *server, a *answer) {
				found("/home/carol/public_html/cgi-bin", "too-open", broken, "carol.example")(s, a)
				found("/home/judy/.ssh/id_ed25519", "too-open", exposed)(s, a)
			},
		},
		{
			name: "a closed /home is named and not changed", do: `chmod 0700 /home`, code: 1,
			down: []string{"*"},
			check: func(s *server, a *answer) {
				f := a.at(s.t, "/home")
				if f.Problem != "closed-ancestor" || f.Effect != down || f.Want != nil || !strings.Contains(f.Note, "chmod") {
					s.t.Errorf("%+v: want closed-ancestor, down, and what to do", f)
				}
			},
			after: untouched("root 700\n", "/home"),
		},
		{
			name: "a document root that is a link within the home",
			do: `mkdir /home/leo/deploy; mv /home/leo/public_html /home/leo/deploy/9; ln -s deploy/9 /home/leo/public_html
				chown -h leo:leo /home/leo/deploy /home/leo/public_html; chgrp leo /home/leo/deploy/9`,
			check: found("/home/leo/deploy/9", "wrong-group", down, "leo.example"),
		},
		{
			name: "a document root that leads out of the home is not judged and not touched",
			do: `mkdir -p /srv/elsewhere; mv /home/leo/public_html /srv/elsewhere/pub; ln -s /srv/elsewhere/pub /home/leo/public_html
				chown -h leo:leo /home/leo/public_html; chmod 0700 /srv/elsewhere/pub`,
			code: 1, down: []string{"leo.example"},
			check: found("/home/leo/public_html", "docroot-outside", wrong, "leo.example"),
			after: untouched("leo 700\n", "/srv/elsewhere/pub"),
		},
		{
			name: "a document root that its customer points at the system's files gives him none of them", panel: "plain",
			do: `mkdir /usr/local/system; echo x >/usr/local/system/settings.html; chown grace /srv/www; mv /srv/www/grace-archive /srv/www/mine
				ln -s /usr/local/system /srv/www/grace-archive; chown -h grace /srv/www/grace-archive`,
			code: 1, down: []string{"archive.grace.example"},
			check: func(s *server, a *answer) {
				found("/srv/www/grace-archive", "docroot-outside", wrong, "archive.grace.example")(s, a)
			},
			after: untouched("root 644\nroot 755\n", "/usr/local/system/settings.html", "/usr/local/system"),
		},
		{
			name: "a missing document root", do: `mv /home/leo/public_html /home/leo/gone`, code: 1, down: []string{"leo.example"},
			check: found("/home/leo/public_html", "docroot-missing", down, "leo.example"),
		},
		{
			name: "a missing home", do: `mv /home/leo /home/.gone`, code: 1, down: []string{"leo.example"},
			check: func(s *server, a *answer) {
				found("/home/leo", "home-missing", down, "leo.example")(s, a)
			},
		},
		{
			name: "a home that is a link is not entered", do: `mv /home/leo /home2/leo; ln -s /home2/leo /home/leo
				chown -h leo:leo /home/leo; chmod 0700 /home2/leo/public_html`,
			code: 1, down: []string{"leo.example"},
			check: func(s *server, a *answer) {
				i := slices.IndexFunc(a.findings, func(f rightful.Finding) bool { return f.Problem == "home-unsafe" })
				if i < 0 || a.findings[i].Path != "/home/leo" || a.findings[i].Want != nil {
					s.t.Errorf("%q: want home-unsafe of /home/leo, and no change", a.paths())
				}
			},
			after: untouched("leo 700\n", "/home2/leo/public_html"),
		},
		{
			name: "an unreadable .htaccess closes what is below it and no more",
			do:   `chmod 0600 /home/leo/public_html/wp/.htaccess`,
			check: func(s *server, a *answer) {
				found("/home/leo/public_html/wp/.htaccess", "too-closed", broken, "leo.example")(s, a)
				s.holdAgainstRequests(a, "leo")
			},
		},
		{
			name: "an unreadable .htaccess closes the site within its site too",
			do:   `chmod 0600 /home/alice/public_html/.htaccess`,
			check: func(s *server, a *answer) {
				found("/home/alice/public_html/.htaccess", "too-closed", down, "alice.example", "blog.alice.example")(s, a)
				for _, site := range []string{"alice.example", "blog.alice.example"} {
					if got := a.sites[site].Culprit; got != "/home/alice/public_html/.htaccess" {
						s.t.Errorf("%s: culprit %q", site, got)
					}
				}
				s.holdAgainstRequests(a, "alice")
			},
		},
		{
			name: "an index that nobody can read", do: `chmod 0000 /home/leo/public_html/index.*; chmod 0000 /home/dave/public_html/index.* /home2/dave/public_html/index.* || :`,
			check: func(s *server, a *answer) {
				s.holdAgainstRequests(a, "leo", "dave")
			},
		},
		{
			name: "a closed directory far down", do: `chmod 0700 /home/leo/public_html/wp/wp-content/uploads/2024`,
			check: func(s *server, a *answer) {
				found("/home/leo/public_html/wp/wp-content/uploads/2024", "too-closed", broken, "leo.example")(s, a)
				s.holdAgainstRequests(a, "leo")
			},
		},
		{
			name: "an ACL whose mask takes everything back",
			do: `setfacl -m u:99:rx,g:99:rx,u:33:rx,g:33:rx /home/leo/public_html/css; chmod 0700 /home/leo/public_html/css
				setfacl -m m::--- /home/leo/public_html/css`,
			code: 1,
			check: func(s *server, a *answer) {
				s.holdAgainstRequests(a, "leo")
				if f := a.at(s.t, "/home/leo/public_html/css"); f.Effect != broken {
					s.t.Errorf("%+v: want broken", f)
				}
			},
		},
		{
			name: "a link to another customer's file is a finding",
			do:   `ln /home/bob/public_html/robots.txt /home/leo/public_html/stolen.html`, code: 1,
			check: found("/home/leo/public_html/stolen.html", "foreign-link", exposed),
			after: untouched("bob 644\n", "/home/bob/public_html/robots.txt"),
		},
		{
			name: "an immutable file stays, and all around it is repaired",
			do: `chmod 0600 /home/leo/public_html/css/*; chattr +i /home/leo/public_html/css/style.css 2>/dev/null ||
				{ echo "no chattr here" >&2; exit 1; }`,
			code: 1,
			check: func(s *server, a *answer) {
				f := a.at(s.t, "/home/leo/public_html/css/style.css")
				if f.Problem != "too-closed" || f.Want != nil || !strings.Contains(f.Note, "chattr") || f.Effect != broken {
					s.t.Errorf("%+v: want too-closed, broken, no change, and what to do", f)
				}
				s.holdAgainstRequests(a, "leo")
			},
			after: func(s *server, _ *answer) {
				untouched("leo 600\n", "/home/leo/public_html/css/style.css")(s, nil)
				untouched("leo 644\n", "/home/leo/public_html/css/print style.css")(s, nil)
			},
		},
		{
			name: "a device and a FIFO are left alone",
			do: `mknod /home/leo/public_html/disk b 7 0; chown leo:leo /home/leo/public_html/disk; mkfifo /home/leo/public_html/pipe.html
				chown leo:leo /home/leo/public_html/pipe.html; chgrp leo /home/leo/public_html`,
			code:  1,
			check: found("/home/leo/public_html/disk", "device", exposed),
			after: untouched("leo 644\nleo 644\n", "/home/leo/public_html/disk", "/home/leo/public_html/pipe.html"),
		},
		{
			name: "names of any bytes are broken and repaired",
			do: `cd /home/leo/public_html; n=$(printf 'new\nline.html'); e=$(printf 'esc\033[31m.html'); b=$(printf 'bad\377utf8.html')
				for f in "$n" "$e" "$b"; do echo x >"$f"; chown leo:leo "$f"; chmod 0600 "$f"; done`,
			check: func(s *server, a *answer) {
				for _, f := range []string{"new\nline.html", "esc\x1b[31m.html", "bad\xffutf8.html"} {
					p := "/home/leo/public_html/" + f
					i := slices.IndexFunc(a.findings, func(g rightful.Finding) bool { return g.Path == p || string(g.PathB64) == p })
					if i < 0 {
						s.t.Errorf("no finding about %q", p)
					}
				}
				s.holdAgainstRequests(a, "leo")
				text := s.text(s.Command(s.t.Context(), "rightful", "check"))
				if strings.Contains(text.stdout+text.stderr, "\x1b") {
					s.t.Error("a name wrote to the terminal")
				}
			},
			after: func(s *server, _ *answer) {
				if got := s.sh(`find /home/leo/public_html -name '*utf8.html' -perm 0600 -o -name 'esc*' -perm 0600 -o -name 'new*' -perm 0600`); got != "" {
					s.t.Errorf("not repaired: %q", got)
				}
			},
		},
	}
}
