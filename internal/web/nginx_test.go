package web

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/tree"

	"golang.org/x/sys/unix"
)

func nginx(t testing.TB, files map[string]string) *NginxConfig {
	t.Helper()
	c, err := ReadNginx(root(t, files), "/etc/nginx/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// nginxServer reads one server block inside http.
func nginxServer(t testing.TB, body string) (*NginxConfig, *NginxServer) {
	t.Helper()
	c := nginx(t, map[string]string{"etc/nginx/nginx.conf": "http {\nserver {\n" + body + "\n}\n}\n"})
	if len(c.Servers) != 1 {
		t.Fatalf("%d servers in %q", len(c.Servers), body)
	}
	return c, &c.Servers[0]
}

// realNginx runs the machine's nginx to test a configuration, in a network of its own: even a test binds its ports.
func realNginx(t *testing.T, args ...string) (out string, ok bool) {
	t.Helper()
	bin, err := exec.LookPath("nginx")
	if err != nil {
		if bin = "/usr/sbin/nginx"; unix.Access(bin, unix.X_OK) != nil {
			t.Skip("nginx is not installed")
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: a network of its own for nginx -t")
	}
	cmd := exec.Command(bin, args...)
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Skipf("needs a network namespace: %v", err)
	}
	return string(b), err == nil
}

func TestNginxsWordsAreSplitAsNginxSplitsThem(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"a b c;", `a["b" "c"]`},
		{"a\tb\r\nc;d;", `a["b" "c"] d[]`},
		{`a "b c" 'd "e' f#g h"i;`, `a["b c" "d \"e" "f#g" "h\"i"]`},
		{`a "b \"c\" \\ \d \t" \;x;`, `a["b \"c\" \\ \\d \t" "\\;x"]`},
		{"a b; # c; d {\ne f;", `a["b"] e["f"]`},
		{"a ${b}c $d{e;}", `a["${b}c" "$d"](e[])`},
		{"s x { a b; t { } } c;", `s["x"](a["b"] t[]()) c[]`},
		{"map $a $b { default x; ~^/(a|b){ y; \"~z {1}\" w; include_me 1; }", `map["$a" "$b"](default["x"] ~^/(a|b)[](y[] ~z {1}["w"] include_me["1"]))`},
		{`l ~ "\.php$" { }`, `l["~" "\\.php$"]()`},
		{"x_by_lua_block { if a then b = '}' -- }\n end c = { \"}\" } } d;", `x_by_lua_block[]() d[]`},
		{"a b", `a["b"]`},
		{"a 'b", `a["b"]`},
		{"} a;", `a[]`},
		{"a b }", `a["b"]`},
	} {
		ds, _ := ParseNginx("f", c.text)
		same(t, fmt.Sprintf("%q", c.text), outline(ds), c.want)
	}
	ds, _ := ParseNginx("f", "\n# x\na b\n c;\ns {\n\"x\ny\" b;\nc;\n}")
	same(t, "lines", []int{ds[0].Line, ds[1].Line, ds[1].Body[0].Line, ds[1].Body[1].Line}, []int{3, 5, 6, 8})
}

// What nginx refuses to start with is reported with its line, and what it accepts is not.
func TestNginxAgreesAboutWhatIsBroken(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "nginx.conf")
	for _, body := range []string{
		"return 200;", `set $a "b;`, "set $a b", "}", "{", "set $a 'b'c;", `set $a "b"c;`, "set $a b'c;", "set $a b{;", `set $a "\"";`,
		"location / { return 200;", "location / { return 200; }}", ";", "set $a \"b\n c\";", "set $a b\\\n;", "location ~ \"^/a{2}\" { }",
		"set $a '';", "set $a \\;;", "# only a comment", "set $a \"b\" # c\n;", "set $a ${b};", "location / { } # }", "if ($uri = a) { return 404; }",
		"include none/*.conf;", "include none.conf;", "include " + dir + ";", "include nginx.conf nginx.conf;", "return 200 }",
	} {
		text := "error_log " + dir + "/log;\npid " + dir + "/pid;\nevents { }\nhttp {\naccess_log off;\nserver {\nlisten 8099;\nset $b c;\n" + body + "\n}\n}\n"
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, ok := realNginx(t, "-t", "-c", conf)
		s, err := tree.OpenServer("/")
		if err != nil {
			t.Fatal(err)
		}
		c, err := ReadNginx(s, conf)
		s.Close()
		if err != nil || (len(c.Problems) == 0) != ok {
			t.Errorf("%q: we say %+v (%v), nginx says %s", body, c.Problems, err, out)
		}
	}
}

// Includes are read in nginx's order, from its files, no more and no fewer.
func TestNginxAgreesAboutItsFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"nginx.conf": "error_log " + dir + "/log;\npid " + dir + "/pid;\ninclude mods/*.conf;\nevents { }\nhttp {\naccess_log off;\ntypes { include kinds; }\n" +
			"include conf.d/*.conf;\ninclude \"sites enabled/*\";\ninclude " + dir + "/[!a]ther/?.conf;\ninclude none/*;\n}\n",
		"kinds": "text/html html htm;\n", "conf.d/b.conf": "# nothing\n", "conf.d/A.conf": "map $uri $m { default 1; include maps/m; }\n", "maps/m": "/a 2;\n",
		"conf.d/.hidden.conf": "bogus;\n", "conf.d/c.conf.off": "bogus;\n", "sites enabled/10": "server {\nlisten 8099;\ninclude snippets/x;\n}\n",
		"sites enabled/9": "server { listen 8098; server_name 9.example; }", "snippets/x": "server_name x.example;", "other/a.conf": "# a\n", "other/bb.conf": "bogus;\n", "ather/a.conf": "bogus;\n",
	} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, ok := realNginx(t, "-T", "-q", "-c", dir+"/nginx.conf")
	if !ok {
		t.Fatalf("nginx -T: %s", out)
	}
	var want []string
	for _, m := range regexp.MustCompile(`(?m)^# configuration file (.*):$`).FindAllStringSubmatch(out, -1) {
		want = append(want, m[1])
	}
	s, err := tree.OpenServer("/")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := ReadNginx(s, dir+"/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "files", c.Files, want)
	same(t, "problems", len(c.Problems), 0)
	same(t, "servers", []string{c.Servers[0].Names[0], c.Servers[1].Names[0]}, []string{"x.example", "9.example"})
}

func TestNginxsServersTellNamesAddressesAndRoots(t *testing.T) {
	for _, c := range []struct{ body, root, names, reach string }{
		{"", "", "[]", "[http://:80]"},
		{"server_name A.example .b.example *.c.example d.* ~^e\\d _ '';\nroot /home/a/www/;\nserver_name f.example;", "/home/a/www", "[a.example b.example *.b.example *.c.example d.* f.example]", "[http://:80]"},
		{"listen 8080;\nlisten 192.0.2.1;\nlisten [::]:443 ssl http2;\nlisten *:443 quic;\nlisten unix:/run/x;\nlisten 81 proxy_protocol;\nroot /r;", "/r", "[]", "[http://:8080 http://192.0.2.1:80 https://[::]:443]"},
		{"listen 443;\nssl on;", "", "[]", "[https://:443]"},
		{"set $base /home/alice;\nset $r ${base}/www;\nroot $r;", "/home/alice/www", "[]", "[http://:80]"},
		{"root /a;\nlocation / {\nroot /b;\n}", "/b", "[]", "[http://:80]"},
		{"root /a;\nlocation = / {\nroot /c;\n}\nlocation / {\nroot /b;\n}", "/c", "[]", "[http://:80]"},
		{"root /a;\nreturn 301 https://$host$request_uri;", "", "[]", "[http://:80]"},
		{"root /a;\nlocation / {\nreturn 301 /b;\n}", "", "[]", "[http://:80]"},
		{"root /a;\nlocation / {\nproxy_pass http://127.0.0.1:81;\n}", "", "[]", "[http://:80]"},
		{"root /a;\nlocation / {\nproxy_pass http://127.0.0.1:81;\n}\nlocation ~* \\.(css|jpg)$ {\nexpires 1d;\n}", "/a", "[]", "[http://:80]"},
		{"root /a;\nlocation / {\ntry_files $uri @app;\n}\nlocation @app {\nproxy_pass http://x;\n}", "/a", "[]", "[http://:80]"},
		{"root /a;\nlocation / {\nfastcgi_pass unix:/x;\n}", "/a", "[]", "[http://:80]"},
		{"root /home/$host/www;", "", "[]", "[http://:80]"},
		{"root html;", "", "[]", "[http://:80]"},
		{"root /a;\nlocation ~ (?<=x) {\n}", "", "[]", "[http://:80]"},
	} {
		_, v := nginxServer(t, c.body)
		same(t, c.body, []string{v.Root, fmt.Sprint(v.Domains()), fmt.Sprint(v.Reach())}, []string{c.root, c.names, c.reach})
	}
	c, _ := nginxServer(t, "root /home/$host/www;")
	if len(c.Problems) != 1 || c.Problems[0].Line != 3 {
		t.Errorf("problems: %+v", c.Problems)
	}
}

func TestNginxRunsPHPAsTheConfigurationSays(t *testing.T) {
	const php = "location ~ \\.php$ {\nfastcgi_pass unix:/var/run/php/a.sock;\n}\n"
	for _, c := range []struct{ name, body, kind, backends string }{
		{"nothing", "", "none", "[]"},
		{"socket", php, "fpm", "[unix:/run/php/a.sock]"},
		{"port", "location ~ \\.php$ {\nfastcgi_pass localhost:9000;\n}", "fpm", "[tcp:127.0.0.1:9000]"},
		{"upstream", "location ~ \\.php$ {\nfastcgi_pass php;\n}", "fpm", "[unix:/run/php/u.sock tcp:127.0.0.1:9001]"},
		{"set", "set $s unix:/run/php/b.sock;\nlocation ~ \\.php$ {\nfastcgi_pass $s;\n}", "fpm", "[unix:/run/php/b.sock]"},
		{"variable", "location ~ \\.php$ {\nfastcgi_pass $s;\n}", "unknown", "[]"},
		{"prefix before expression", php + "location ^~ / {\n}", "none", "[]"},
		{"first expression counts", "location ~ php {\nreturn 403;\n}\n" + php, "none", "[]"},
		{"exact", php + "location = /index.php {\nfastcgi_pass unix:/c;\n}", "fpm", "[unix:/c]"},
		{"nested", "location / {\n" + php + "}", "fpm", "[unix:/run/php/a.sock]"},
		{"case", "location ~* \\.PHP$ {\nfastcgi_pass unix:/d;\n}", "fpm", "[unix:/d]"},
		{"modifier without a blank", "location ~\\.php$ {\nfastcgi_pass unix:/e;\n}", "fpm", "[unix:/e]"},
		{"everything", "location / {\nfastcgi_pass unix:/f;\n}", "fpm", "[unix:/f]"},
		{"not to be tried here", "location ~ (?<!a)b {\n}\n" + php, "unknown", "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := nginx(t, map[string]string{
				"etc/nginx/nginx.conf": "http {\nupstream php {\nserver unix:/run/php/u.sock;\nserver 127.0.0.1:9001 backup;\n}\nserver {\nroot /r;\n" + c.body + "\n}\n}\n",
			})
			h := cfg.PHP(&cfg.Servers[0])
			same(t, "PHP", []string{h.Kind, fmt.Sprint(h.Backends)}, []string{c.kind, c.backends})
		})
	}
}

func TestEndlessNginxConfigurationsEnd(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"itself": {"etc/nginx/nginx.conf": "include nginx.conf;"},
		"wide":   {"etc/nginx/nginx.conf": "include a/*;", "etc/nginx/a/1": strings.Repeat("include a/*;\n", 50), "etc/nginx/a/2": "include a/*;"},
		"deep":   {"etc/nginx/nginx.conf": strings.Repeat("a {", 10_000)},
		"closed": {"etc/nginx/nginx.conf": strings.Repeat("}", 10_000)},
		"words":  {"etc/nginx/nginx.conf": "a " + strings.Repeat("b\n", 1<<18)},
		"vars":   {"etc/nginx/nginx.conf": "http{server{set $a x;" + strings.Repeat("set $a $a$a$a;", 200) + "root $a;}}"},
	} {
		c := nginx(t, files)
		if len(c.Problems) == 0 || len(c.Problems) > 1000 {
			t.Errorf("%s: %d problems", name, len(c.Problems))
		}
	}
}

func TestAMainFileIsToldByItsNameOrItsContents(t *testing.T) {
	s := root(t, map[string]string{
		"a/nginx.conf": "", "a/httpd.conf": "http {\n}\n", "a/x.conf": "user a;\nevents {\n}\nhttp {\n}\n", "a/y.conf": "User a\n<VirtualHost *:80>\n</VirtualHost>\n", "a/empty": "",
	})
	for f, want := range map[string]bool{"/a/nginx.conf": true, "/a/httpd.conf": false, "/a/x.conf": true, "/a/y.conf": false, "/a/empty": false, "/a/none": false} {
		if got := IsNginx(s, f); got != want {
			t.Errorf("%s: %v", f, got)
		}
	}
}

func FuzzNginx(f *testing.F) {
	for _, s := range []string{
		"user a b;\nhttp {\nupstream u { server unix:/x; }\nserver {\nlisten [::]:80 ssl;\nserver_name .a ~b;\nset $r /x;\nroot $r;\nlocation / { try_files $uri @a; }\nlocation ~ \\.php$ { fastcgi_pass u; }\nlocation @a { proxy_pass http://x; }\n}\n}",
		"http{server{location ~ ( {}}}", "http{server{set $a ${a;root $a$}}", "include *;", "a_by_lua_block { -- ", "\"\\", "http{server{listen [;listen :;listen 1-2;}}", "http{server{location{}try_files;root;}}",
	} {
		f.Add(s)
	}
	f.Add("http{map $uri $a{default $b;~(.) $1;}map $a $b{x $a;}server{index $a;try_files $a/ $uri =404;error_page 404 =200 $a;recursive_error_pages on;location ~(?<n>.)$ {alias /$n$1;rewrite (.*) /$1$a? break;if (-f $a){set $a $n;return 301 $a;}}location @x{}}}")
	f.Add("http{server{disable_symlinks on from=$document_root;root /$uri;location / {try_files $uri @a;limit_except POST{deny all;}}location @a{fastcgi_split_path_info (.)(.);fastcgi_param SCRIPT_FILENAME $fastcgi_path_info$realpath_root;fastcgi_param REQUEST_METHOD x;fastcgi_pass $host;}}}")
	f.Fuzz(func(t *testing.T, text string) {
		s := root(t, map[string]string{"etc/nginx/nginx.conf": text, "r/a/index.html": "", "r/a.php": ""})
		c, err := ReadNginx(s, "/etc/nginx/nginx.conf")
		if err != nil {
			t.Skip(err)
		}
		in := ViewOf(s, "/r")
		for i := range c.Servers {
			v := &c.Servers[i]
			v.Reach()
			v.Domains()
			c.PHP(v)
			c.Choose("", "80", "a.example")
			h := NewNginxHost(NginxHostConfig{
				Server: s, Config: c, VHost: v, Name: "a.example", DocRoot: "/r",
				Pool: func(string) (*Pool, rightful.Identity, bool) { return &Pool{}, rightful.Identity{}, true },
			})
			for _, u := range [...]string{"/", "/a", "/a/", "/a.php", "/a.php/b", "/x"} {
				told(h.URL(u, in))
			}
		}
	})
}
