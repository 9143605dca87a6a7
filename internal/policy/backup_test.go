package policy

import (
	"strings"
	"testing"
)

// Of the other panels nothing is known: what is not known is not claimed.
func TestOnlyCPanelIsKnownToMakeBackupsAsTheUser(t *testing.T) {
	for _, panel := range Panels() {
		if b := mustLoad(t, panel).Backup(); b.AsUser != (panel == "cpanel") {
			t.Errorf("%s: as the user: %v", panel, b.AsUser)
		}
	}
	b := mustLoad(t, "cpanel").Backup()
	for rel, want := range map[string]bool{
		"access-logs": true, "lscache": true, "lscache/a/b": true, "": false, "lscaches": false, "x/lscache": false, "mail": false,
	} {
		if got := b.LeavesOut(rel); got != want {
			t.Errorf("leaves out %q: %v", rel, got)
		}
	}
}

func TestOperatorsSayHowBackupsAreMade(t *testing.T) {
	table := func(panel, text string) string {
		return "version = 1\npanel = \"" + panel + "\"\n[backup]\n" + text + "\n"
	}
	p, err := Load("cpanel", overrides("a.toml", table("*", `except = ["*.tar.gz", "cache/{a,b}"]`), "b.toml", table("plain", `as = "root"`)))
	if err != nil {
		t.Fatal(err)
	}
	b := p.Backup()
	if !b.AsUser || !b.LeavesOut("x.tar.gz") || !b.LeavesOut("cache/b/x") || b.LeavesOut("cache/c") || !b.LeavesOut("lscache") {
		t.Errorf("%+v", b)
	}
	if p, err = Load("cpanel", overrides("a.toml", table("cpanel", `as = "root"`))); err != nil || p.Backup().AsUser {
		t.Errorf("as root: %v", err)
	}
	for text, want := range map[string]string{
		`as = "nobody"`:          `"x.toml:3": backup: as "nobody" is neither "user" nor "root"`,
		`except = ["a/**"]`:      `except "a/**": is not a path below the home`,
		`except = ["{docroot}"]`: `is not a path below the home`,
		`except = ["{home}"]`:    `is not a path below the home`,
		`except = ["/a"]`:        `empty component`,
		`except = ["../a"]`:      `never occurs`,
		`omit = ["a"]`:           `unknown key "backup.omit"`,
	} {
		for _, panel := range []string{"cpanel", "plesk"} {
			if _, err := Load("cpanel", overrides("x.toml", table(panel, text))); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s for %s: %v, want %s", text, panel, err, want)
			}
		}
	}
}
