package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheExampleSetsEverySettingToItsDefault(t *testing.T) {
	got := Config{Root: "x", State: "x", Jobs: 9, Settle: 9, MaxLoad: 9, Background: true, JSON: true, Quiet: true, Verbose: true, NoColor: true, Yes: true}
	if err := got.ReadFile("example.toml", []byte(Example)); err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.WebConfig, want.ExcludeAccount, want.ExcludePath = []string{}, []string{}, []string{}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("example against defaults (-want +got):\n%s", diff)
	}
	for _, s := range Settings {
		if !strings.Contains(Example, "\n"+s.Key()+" = ") {
			t.Errorf("the example does not set %q", s.Key())
		}
	}
}

func TestAMistakeInTheFileNamesItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"root = \"/\"\nrooot = \"/x\"\n":              `c.toml:2: unknown key "rooot"`,
		"# a comment on colour\n\n  colour=true":      `c.toml:3: unknown key "colour"`,
		"quiet = true\n[limits]\nquiet = 1\nmax = 2":  `c.toml:2: unknown key "limits"`,
		"web_config = \"/etc/x\"\n":                   `c.toml:1: `,
		"root = \"/\"\nyes = \"no\"\n":                `c.toml:2: `,
		"root = \"/\"\nroot = \"/\"\n":                `c.toml:2: `,
		"\n\nroot = \"/\n":                            `c.toml:3: `,
		"a = { \"json\" = 1 }\n":                      `c.toml:1: unknown key "a`,
		"json = false\n\"state-dir\" = '''\nx\n'''\n": `c.toml:2: unknown key "state-dir"`,
	} {
		c := Default()
		err := c.ReadFile("c.toml", []byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("ReadFile(%q) = %v, want %s…", text, err, want)
		}
	}
}

func TestVariablesSetWhatTheyName(t *testing.T) {
	env := map[string]string{
		"RIGHTFUL_ROOT": "/mnt", "RIGHTFUL_WEB_CONFIG": "/a:/b", "RIGHTFUL_JSON": "1", "RIGHTFUL_NO_COLOR": "true", "RIGHTFUL_STATE": "",
	}
	c := Default()
	if err := c.ReadEnv(func(k string) string { return env[k] }); err != nil {
		t.Fatal(err)
	}
	want := Config{Root: "/mnt", WebConfig: []string{"/a", "/b"}, State: "/var/lib/rightful", JSON: true, NoColor: true, Settle: 10}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	env["RIGHTFUL_JOBS"] = "many"
	if err := c.ReadEnv(func(k string) string { return env[k] }); err == nil || err.Error() != `read RIGHTFUL_JOBS "many": not a number` {
		t.Errorf("ReadEnv = %v", err)
	}
	delete(env, "RIGHTFUL_JOBS")
	env["RIGHTFUL_QUIET"] = "maybe"
	if err := c.ReadEnv(func(k string) string { return env[k] }); err == nil || err.Error() != `read RIGHTFUL_QUIET "maybe": neither true nor false` {
		t.Errorf("ReadEnv = %v", err)
	}
}

func TestCopyTakesOneSettingOnly(t *testing.T) {
	from := Config{Root: "/r", WebConfig: []string{"/w"}, State: "/s", ExcludeAccount: []string{"bob"}, ExcludePath: []string{"/x"}, Jobs: 3, MaxLoad: 4, Background: true, JSON: true, Quiet: true, Verbose: true, NoColor: true, Yes: true}
	var all Config
	for _, s := range Settings {
		one := Default()
		s.Copy(&one, &from)
		if cmp.Equal(one, Default()) {
			t.Errorf("Copy of %q copied nothing", s.Flag)
		}
		s.Copy(&all, &from)
	}
	if diff := cmp.Diff(from, all); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzReadFile(f *testing.F) {
	f.Add(Example)
	f.Add("a.b.c = 1\n[x]\n[[y]]\nz = {}")
	f.Fuzz(func(t *testing.T, text string) {
		c := Default()
		if err := c.ReadFile("f", []byte(text)); err != nil && !strings.HasPrefix(err.Error(), "f:") {
			t.Errorf("error %v has no file", err)
		}
	})
}
