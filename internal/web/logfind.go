package web

import (
	"errors"
	"path"
	"regexp"
	"slices"
	"strings"

	"rightful/internal/tree"
)

// A LogFile is a log that a configuration names, or that a server writes without being told to.
type LogFile struct {
	// Path is absolute; where the log is not read, it is as the configuration has it.
	Path string
	// Names are the server names of the virtual hosts that write it; none where it is everybody's.
	Names []string
	// Unread says why it cannot be read: it is a pipe, syslog, or named after the request.
	Unread string
}

// Logs are the logs of a server, each once, and the forms of lines that its configuration defines.
type Logs struct {
	Files    []LogFile
	Formats  []*LogFormat
	Problems []Problem
	index    map[string]int
	forms    map[string]bool
}

// FindLogs lists the logs that the configurations name, and those that are written without being named: nginx's where
// packages have it; PHP-FPM's and those of its pools; suEXEC's (AP_LOG_EXEC) beside the main error logs or where builds
// have it; suPHP's.
func FindLogs(s *tree.Server, apache []*ApacheConfig, nginx []*NginxConfig) *Logs {
	g := &Logs{index: map[string]int{}, forms: map[string]bool{}}
	for _, c := range apache {
		g.apache(c)
	}
	for _, c := range nginx {
		g.nginx(c)
	}
	g.others(s, apache)
	return g
}

func (g *Logs) add(f LogFile, name string) {
	i, ok := g.index[f.Path]
	switch {
	case !ok:
		g.index[f.Path] = len(g.Files)
		if name != "" {
			f.Names = []string{name}
		}
		g.Files = append(g.Files, f)
	case name == "" || len(g.Files[i].Names) == 0:
		g.Files[i].Names = nil
	case !slices.Contains(g.Files[i].Names, name):
		g.Files[i].Names = append(g.Files[i].Names, name)
	}
}

// form adds a form of lines, but for the usual ones, which the parser knows.
func (g *Logs) form(d *Directive, text string, read func(string) (*LogFormat, error)) {
	const common = `%h %l %u %t "%r" %>s `
	if g.forms[text] || strings.HasPrefix(text, common) || strings.HasPrefix(text, "%v:%p "+common) {
		return
	}
	g.forms[text] = true
	f, err := read(text)
	if errors.Is(err, errUseless) {
		return // a log of something else, such as TLS protocols
	}
	if err != nil {
		g.Problems = append(g.Problems, Problem{File: d.File, Line: d.Line, Msg: err.Error()})
		return
	}
	g.Formats = append(g.Formats, f)
}

func (g *Logs) apache(c *ApacheConfig) {
	nicknames := map[string]string{}
	hosts := []*VHost{&c.Default}
	for i := range c.VHosts {
		hosts = append(hosts, &c.VHosts[i])
	}
	for _, v := range hosts {
		for i := range v.Body {
			switch d := &v.Body[i]; {
			case d.Is("ErrorLogFormat") && len(d.Args) == 1: // with two it is that of a connection or a request
				g.form(d, d.Arg(0), ErrorFormat)
			case d.Is("LogFormat") && len(d.Args) == 2:
				nicknames[d.Arg(1)] = d.Arg(0)
			}
		}
	}
	for n, v := range hosts {
		name := v.ServerName
		if n == 0 {
			name = "" // every host without a log of its own writes to the main server's
		}
		for i := range v.Body {
			switch d := &v.Body[i]; {
			case d.Is("ErrorLog"):
				g.add(c.logFile(d.Arg(0)), name)
			case d.Is("CustomLog"), d.Is("GlobalLog"), d.Is("TransferLog"):
				g.add(c.logFile(d.Arg(0)), name)
				text, ok := nicknames[d.Arg(1)]
				if !ok {
					text = d.Arg(1)
				}
				if strings.Contains(text, "%") {
					g.form(d, text, AccessFormat)
				}
			}
		}
	}
}

func (c *ApacheConfig) logFile(name string) LogFile {
	f := LogFile{Path: name}
	switch {
	case strings.HasPrefix(name, "|"):
		f.Unread = "it is a pipe to another program"
	case name == "syslog" || strings.HasPrefix(name, "syslog:") || strings.HasPrefix(name, "journald"):
		f.Unread = "it goes to the system's own log"
	case strings.Contains(name, "${"):
		f.Unread = "its name has a variable that is not known"
	default:
		f.Path = c.abs(name)
	}
	return f
}

func (g *Logs) nginx(c *NginxConfig) {
	for i := range c.http {
		if d := &c.http[i]; d.Name == "log_format" && len(d.Args) > 1 {
			args := d.Args[1:]
			if strings.HasPrefix(args[0], "escape=") {
				args = args[1:]
			}
			g.form(d, strings.Join(args, ""), NginxFormat)
		}
	}
	before := len(g.Files)
	g.nginxBlock(c.Tree, "")
	if !slices.ContainsFunc(g.Files[before:], func(f LogFile) bool { return len(f.Names) == 0 }) {
		g.add(LogFile{Path: "/var/log/nginx/error.log"}, "")
	}
}

// nginxBlock looks into every block; name is that of the server that it is in.
func (g *Logs) nginxBlock(body []Directive, name string) {
	for i := range body {
		d := &body[i]
		f := LogFile{Path: d.Arg(0)}
		switch {
		case d.Section:
			inner := name
			for k := range d.Body {
				if n := &d.Body[k]; d.Name == "server" && n.Name == "server_name" && inner == "" {
					inner = n.Arg(0)
				}
			}
			g.nginxBlock(d.Body, inner)
			continue
		case d.Name != "error_log" && d.Name != "access_log", f.Path == "off", f.Path == "/dev/null":
			continue
		case strings.HasPrefix(f.Path, "syslog:"), f.Path == "stderr", strings.HasPrefix(f.Path, "memory:"):
			f.Unread = "it goes to the system's own log or to memory"
		case strings.Contains(f.Path, "$"):
			f.Unread = "it is named after the request"
		case !path.IsAbs(f.Path):
			f.Unread = "it is relative to where nginx was installed"
		default:
			f.Path = path.Clean(f.Path)
		}
		g.add(f, name)
	}
}

// fpmMains are the main files of PHP-FPM, beside [fpmGlobs].
var fpmMains = [...]string{
	"/etc/php/*/fpm/php-fpm.conf", "/opt/cpanel/ea-php*/root/etc/php-fpm.conf", "/etc/php-fpm.conf",
	"/etc/opt/remi/php*/php-fpm.conf", "/opt/remi/php*/root/etc/php-fpm.conf", "/usr/local/etc/php-fpm.conf",
}

// others adds the logs that neither Apache's nor nginx's configuration names.
func (g *Logs) others(s *tree.Server, apache []*ApacheConfig) {
	names := regexp.MustCompile(`(?m)^\s*(?:php_(?:admin_)?value\[error_log\]|error_log|logfile)\s*=(.*)$`)
	for _, globs := range [][]string{fpmMains[:], fpmGlobs[:], {"/etc/suphp.conf", "/etc/suphp/suphp.conf"}} {
		for _, pattern := range globs {
			files, _ := s.Glob(pattern)
			for _, file := range files {
				text, err := s.ReadFile(file, 16<<20)
				if err != nil {
					continue // reported where pools are read
				}
				for _, m := range names.FindAllSubmatch(text, -1) {
					switch name := iniValue(string(m[1])); {
					case name == "syslog":
						g.add(LogFile{Path: name, Unread: "it goes to the system's own log"}, "")
					case path.IsAbs(name) && !strings.Contains(name, "$"):
						g.add(LogFile{Path: path.Clean(name)}, "")
					}
				}
			}
		}
	}
	var dirs []string
	for _, c := range apache {
		if l := c.Default.ErrorLog; path.IsAbs(l) {
			dirs = append(dirs, path.Dir(l))
		}
	}
	for _, dir := range append(dirs, "/var/log/apache2", "/var/log/httpd", "/usr/local/apache/logs", "/etc/apache2/logs") {
		for _, base := range [...]string{"suexec.log", "suexec_log"} {
			if st, err := s.Stat(dir + "/" + base); err == nil && st.Kind.String() == "file" && len(apache) > 0 {
				g.add(LogFile{Path: dir + "/" + base}, "")
			}
		}
	}
}

// rotated are the endings that logrotate and its like give to what they put aside.
var rotated = regexp.MustCompile(`^(?:[.-]\d{1,8}(?:[.-]?\d{1,8}){0,4})(?:\.gz|\.xz|\.bz2|\.zst)?$`)

// Rotated reports whether a name in a log's directory is that of what was put aside of it.
func Rotated(log, name string) bool {
	rest, ok := strings.CutPrefix(name, log)
	return ok && rotated.MatchString(rest)
}
