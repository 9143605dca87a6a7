// Package config is what an operator may set: one plain struct, filled from one TOML file and RIGHTFUL_… variables.
//
// It knows the names of the settings and their default values ([Settings] is the one list that flags, variables and the
// file share). It promises that a key it does not know, or a value of the wrong type, is an error that names file and
// line, so that a misspelt setting is never silently ignored. It refuses to look for files, to read flags, and to hold
// anything but values: the command line applies the flags on top.
package config

import (
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// Path is where the configuration is looked for, on the server that is looked after.
const Path = "/etc/rightful/config.toml"

// Example is a commented configuration file that sets every setting to its default.
//
//go:embed example.toml
var Example string

// A Config is every setting.
type Config struct {
	Root      string   `toml:"root"`
	WebConfig []string `toml:"web_config"`
	State     string   `toml:"state"`
	JSON      bool     `toml:"json"`
	Quiet     bool     `toml:"quiet"`
	Verbose   bool     `toml:"verbose"`
	NoColor   bool     `toml:"no_color"`
	Yes       bool     `toml:"yes"`
	// Settle is for how many seconds a site that should be cured may go on answering as before.
	Settle int `toml:"settle"`
	// ExcludeAccount names those that are left alone; ExcludePath holds absolute patterns (path.Match) of what is
	// left alone with everything beneath it.
	ExcludeAccount []string `toml:"exclude_account"`
	ExcludePath    []string `toml:"exclude_path"`
	// Jobs is how many accounts are worked on at once, 0 for the program's choice. MaxLoad is the load average above
	// which no further account is begun, 0 for no limit. Background asks for the lowest priority of processor and disk.
	Jobs       int  `toml:"jobs"`
	MaxLoad    int  `toml:"max_load"`
	Background bool `toml:"background"`
}

// Default is the configuration of a server that has none.
func Default() Config { return Config{Root: "/", State: "/var/lib/rightful", Settle: 10} }

// A Setting is one setting under its three names.
type Setting struct {
	Flag  string // --web-config; the variable is RIGHTFUL_WEB_CONFIG, the key in the file web_config
	Usage string // one line, the value's name in back quotes
	// Field is where a Config holds it: *string, *bool, *int or *[]string.
	Field func(*Config) any
}

// Settings lists all settings, in the order of help.
var Settings = []Setting{
	{"root", "look after the server whose / is `DIR`", func(c *Config) any { return &c.Root }},
	{"web-config", "main configuration `FILE` of Apache or nginx (repeatable; else found by itself)", func(c *Config) any { return &c.WebConfig }},
	{"state", "keep plans, runs and locks in `DIR`", func(c *Config) any { return &c.State }},
	{"exclude-account", "leave this `ACCOUNT` alone (repeatable)", func(c *Config) any { return &c.ExcludeAccount }},
	{"exclude-path", "leave what matches this absolute `PATTERN` alone, with all beneath it (repeatable)", func(c *Config) any { return &c.ExcludePath }},
	{"jobs", "work on `N` accounts at once (0: as many as suit the machine)", func(c *Config) any { return &c.Jobs }},
	{"max-load", "begin no further account while the load average is above `N` (0: no limit)", func(c *Config) any { return &c.MaxLoad }},
	{"background", "yield processor and disk to everybody else (by itself under systemd timers)", func(c *Config) any { return &c.Background }},
	{"settle", "give a repaired site `SECONDS` to answer better: PHP and nginx remember what they could not reach", func(c *Config) any { return &c.Settle }},
	{"json", "print JSON lines", func(c *Config) any { return &c.JSON }},
	{"quiet", "print no progress, warnings or notes", func(c *Config) any { return &c.Quiet }},
	{"verbose", "say more of what is done", func(c *Config) any { return &c.Verbose }},
	{"no-color", "no colour (NO_COLOR does the same)", func(c *Config) any { return &c.NoColor }},
	{"yes", "answer yes to every question", func(c *Config) any { return &c.Yes }},
}

// Var is the name of the environment variable.
func (s Setting) Var() string { return "RIGHTFUL_" + strings.ToUpper(s.Key()) }

// Key is the name in the file.
func (s Setting) Key() string { return strings.ReplaceAll(s.Flag, "-", "_") }

// Copy sets the setting in to as it is in from.
func (s Setting) Copy(to, from *Config) {
	switch p := s.Field(to).(type) {
	case *string:
		*p = *s.Field(from).(*string)
	case *bool:
		*p = *s.Field(from).(*bool)
	case *int:
		*p = *s.Field(from).(*int)
	case *[]string:
		*p = *s.Field(from).(*[]string)
	}
}

// ReadFile sets in c what the TOML text says. Errors begin with name:line.
func (c *Config) ReadFile(name string, text []byte) error {
	md, err := toml.Decode(string(text), c)
	if err != nil {
		var pe toml.ParseError
		if errors.As(err, &pe) && pe.Message != "" {
			return fmt.Errorf("%s:%d: %s", name, pe.Position.Line, pe.Message)
		}
		// A value of the wrong type is a plain error of the form "toml: line 2 (last key "yes"): …".
		if m := regexp.MustCompile(`^toml: line (\d+) \(last key "(.*?)"\): (.*)$`).FindStringSubmatch(err.Error()); m != nil {
			return fmt.Errorf("%s:%s: key %q: %s", name, m[1], m[2], m[3])
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	if un := md.Undecoded(); len(un) > 0 {
		return fmt.Errorf("%s:%d: unknown key %q", name, lineOf(string(text), un[0]), un[0].String())
	}
	return nil
}

// lineOf finds where a key or table stands: the TOML package does not tell. The text is known to be valid, so the first
// line that begins with the key's last part below the right heading is it; failing that, the first that names it.
func lineOf(text string, key toml.Key) int {
	last := regexp.QuoteMeta(key[len(key)-1])
	table := strings.Join(key[:len(key)-1], ".")
	assign := regexp.MustCompile(`^\s*["']?` + last + `["']?\s*[=.]`)
	heading := regexp.MustCompile(`^\s*\[+\s*([^\]]*?)\s*\]+`)
	in, first := "", 0
	for i, l := range strings.Split(text, "\n") {
		if m := heading.FindStringSubmatch(l); m != nil {
			if in = m[1]; in == key.String() {
				return i + 1
			}
			continue
		}
		if in == table && assign.MatchString(l) {
			return i + 1
		}
		if first == 0 && strings.Contains(l, key[len(key)-1]) {
			first = i + 1
		}
	}
	return max(first, 1)
}

// ReadEnv sets in c what the RIGHTFUL_… variables say. An empty variable is as if unset; a list is separated by colons.
func (c *Config) ReadEnv(getenv func(string) string) error {
	for _, s := range Settings {
		v := getenv(s.Var())
		if v == "" {
			continue
		}
		switch p := s.Field(c).(type) {
		case *string:
			*p = v
		case *[]string:
			*p = strings.Split(v, ":")
		case *bool:
			b, err := strconv.ParseBool(v)
			if err != nil {
				return fmt.Errorf("read %s %q: neither true nor false", s.Var(), v)
			}
			*p = b
		case *int:
			n, err := strconv.Atoi(v)
			if err != nil || n < 0 {
				return fmt.Errorf("read %s %q: not a number", s.Var(), v)
			}
			*p = n
		}
	}
	return nil
}
