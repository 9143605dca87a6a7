package web

import (
	"path"
	"regexp"
	"strings"
)

// debianBuiltin are the modules that Debian links into the server (apache2 -l), besides those of every build.
var debianBuiltin = []string{"watchdog_module", "log_config_module", "logio_module", "version_module", "unixd_module"}

// environment reads what the server is started with: Debian's envvars beside the main file, Red Hat's
// /etc/sysconfig/httpd. -D flags in it define names for <IfDefine>.
func (e *evaluator) environment(dir string) {
	e.env = map[string]string{}
	envvars := dir + "/envvars"
	if b, err := e.s.ReadFile(envvars, 1<<20); err == nil {
		for _, m := range debianBuiltin {
			e.builtin[m] = true
		}
		e.c.Files = append(e.c.Files, envvars)
		e.env["APACHE_CONFDIR"] = path.Clean(dir)
		readShellVars(string(b), e.env)
		e.flags(e.env["APACHE_ARGUMENTS"])
	}
	if b, err := e.s.ReadFile("/etc/sysconfig/httpd", 1<<20); err == nil && strings.HasPrefix(dir, "/etc/httpd") {
		readShellVars(string(b), e.env)
		e.flags(e.env["OPTIONS"])
	}
}

func (e *evaluator) flags(args string) {
	f := strings.Fields(args)
	for i := 0; i < len(f); i++ {
		name, ok := strings.CutPrefix(f[i], "-D")
		if ok && name == "" && i+1 < len(f) {
			i++
			name = f[i]
		}
		if ok && name != "" {
			e.defines[strings.ToLower(name)] = ""
		}
	}
}

var (
	shellAssign  = regexp.MustCompile(`^(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$`)
	shellDefault = regexp.MustCompile(`^:\s+"?\$\{([A-Za-z_][A-Za-z0-9_]*):?=([^}]*)\}"?$`)
	shellVar     = regexp.MustCompile(`\$(?:\{([A-Za-z_][A-Za-z0-9_]*)(:?-[^}]*)?\}|([A-Za-z_][A-Za-z0-9_]*))`)
)

// readShellVars reads plain assignments of a shell file into env: NAME=VALUE, with or without export, and
// : ${NAME:=VALUE}. It is no shell: conditions are not decided (the later assignment wins) and a value that needs
// running something is passed over.
func readShellVars(text string, env map[string]string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		name, value := "", ""
		if m := shellDefault.FindStringSubmatch(line); m != nil {
			if env[m[1]] != "" {
				continue
			}
			name, value = m[1], m[2]
		} else if m := shellAssign.FindStringSubmatch(line); m != nil {
			name, value = m[1], m[2]
		} else {
			continue
		}
		single := strings.HasPrefix(value, "'")
		if q := value; q != "" && (q[0] == '"' || q[0] == '\'') {
			if end := strings.IndexByte(q[1:], q[0]); end >= 0 {
				value = q[1 : 1+end]
			}
		} else {
			value, _, _ = strings.Cut(value, " ")
		}
		if !single {
			value = shellVar.ReplaceAllStringFunc(value, func(s string) string {
				m := shellVar.FindStringSubmatch(s)
				if v := env[m[1]+m[3]]; v != "" {
					return v
				}
				return strings.TrimPrefix(strings.TrimPrefix(m[2], ":"), "-")
			})
			if strings.ContainsAny(value, "$`") {
				continue
			}
		}
		if len(value) < 1<<16 {
			env[name] = value
		}
	}
}
