package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"rightful/internal/cli"

	"github.com/google/go-cmp/cmp"
)

const jsonPage = "../../docs/cli-json.md"

// TestTheExamplesOfTheJSONPageAreWhatIsPrinted runs the commands of the page, in order, on the server that it speaks of.
// With UPDATE set it writes what they print into the page.
func TestTheExamplesOfTheJSONPageAreWhatIsPrinted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: files of several owners")
	}
	page, err := filepath.Abs(jsonPage)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	trees, err := filepath.Abs("testdata/tree")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	const damage = "0750 alice:alice home/alice/public_html/\n" +
		"0644 bob:bob home/alice/public_html/about.html\n" +
		"0600 alice:alice home/alice/public_html/caf\\xe9.html\n" +
		"0644 0:0 etc/apache2/sites/log.conf ErrorLog /var/log/apache2/error.log\\n\n" +
		"0644 0:0 var/log/apache2/error.log [Sun Nov 22 08:30:02.653203 2026] [core:crit] [pid 5297:tid 5301] (13)Permission denied: [client 192.0.2.1:35346] " +
		"AH00529: /home/alice/public_html/.htaccess pcfg_openfile: unable to check htaccess file, ensure it is readable and that '/home/alice/public_html/' is executable\\n" +
		"[Sun Nov 22 08:30:05.653203 2026] [authz_core:error] [pid 5297:tid 5301] [client 192.0.2.1:35346] AH01630: client denied by server configuration: /home/bob/public_html/.env\\n\n"
	if err := buildServer(root, "plain", trees); err != nil {
		t.Fatal(err)
	}
	if err := buildTree(root, damage, nil); err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{"RIGHTFUL_ROOT": root, "RIGHTFUL_STATE": filepath.Join(t.TempDir(), "state")}
	ids := map[string]string{}
	examples := 0
	block := regexp.MustCompile("(?s)```console\n\\$ (rightful [^\n]*)\n(.*?)```\n")
	got := block.ReplaceAllStringFunc(string(text), func(b string) string {
		examples++
		command := block.FindStringSubmatch(b)[1]
		var out, warn bytes.Buffer
		code := cli.Main(t.Context(), cli.Env{
			Stdin: strings.NewReader(""), Stdout: &out, Stderr: &warn, Args: strings.Fields(command)[1:],
			Getenv: func(k string) string { return vars[k] }, EUID: 0,
		})
		if code > 1 {
			t.Errorf("%s: exit %d, %s", command, code, &warn)
		}
		return "```console\n$ " + command + "\n" + pretty(out.String(), ids) + "```\n"
	})
	if examples < 9 {
		t.Errorf("the page has %d examples", examples)
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(page, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(string(text), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("(-page +program):\n%s", diff)
	}
}

// pretty makes an output the same each time, and yet look like one: IDs and times are those of one morning.
func pretty(s string, ids map[string]string) string {
	s = regexp.MustCompile(`\b\d{8}-\d{6}-[0-9a-f]{4}\b`).ReplaceAllStringFunc(s, func(id string) string {
		if ids[id] == "" {
			ids[id] = fmt.Sprintf("20261122-0931%02d-%04x", len(ids), 0x4be1+7*len(ids))
		}
		return ids[id]
	})
	s = regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+Z`).ReplaceAllString(s, "2026-11-22T09:31:00Z")
	s = regexp.MustCompile(`"line":\d+`).ReplaceAllString(s, `"line":96`)                                  // rule files change more often than their form
	s = regexp.MustCompile(`"entries":(\d+),"bytes":\d+`).ReplaceAllString(s, `"entries":$1,"bytes":1437`) // with inodes and times
	s = regexp.MustCompile(`"new_bytes":\d+`).ReplaceAllString(s, `"new_bytes":1437`)
	s = regexp.MustCompile(`"inode":\d+`).ReplaceAllString(s, `"inode":131075`)
	return regexp.MustCompile(`"seconds":[\d.e-]+`).ReplaceAllString(s, `"seconds":0.11`)
}

// sections cuts the page into its verbs, each with the text of every kind, and the values that all share.
func sections(t *testing.T) (values string, verbs map[string]map[string]string) {
	t.Helper()
	text, err := os.ReadFile(jsonPage)
	if err != nil {
		t.Fatal(err)
	}
	verbs = map[string]map[string]string{}
	for _, part := range strings.Split(string(text), "\n## ")[1:] {
		title, body, _ := strings.Cut(part, "\n")
		if title == "Values" {
			values = body
			continue
		}
		kinds := map[string]string{}
		for _, k := range strings.Split(body, "\n### `")[1:] {
			kind, about, _ := strings.Cut(k, "`\n")
			kinds[kind] = about
		}
		verbs[title] = kinds
	}
	return values, verbs
}

// Every field of every example is described where its kind is.
func TestTheJSONPageDescribesEveryFieldOfItsExamples(t *testing.T) {
	values, verbs := sections(t)
	lines := 0
	for verb, kinds := range verbs {
		all := strings.Join(slices.Collect(maps.Values(kinds)), "\n")
		for _, l := range strings.Split(all, "\n") {
			if !strings.HasPrefix(l, `{"kind":`) {
				continue
			}
			lines++
			var v map[string]any
			if err := json.Unmarshal([]byte(l), &v); err != nil {
				t.Fatal(err)
			}
			kind := v["kind"].(string)
			delete(v, "kind")
			about, ok := kinds[kind]
			if made := verbs["rightful plan show, rightful fix --dry-run"][kind]; verb == "rightful snapshot" && kind != "summary" && made != "" {
				about, ok = made, true
			}
			if verb != "rightful check" && kind == "finding" {
				about, ok = verbs["rightful check"]["finding"], true
			} else if verb != "rightful fix, plan apply, undo, resume" && kind == "run" {
				about, ok = verbs["rightful fix, plan apply, undo, resume"]["run"], true
			} else if kind == "match" {
				about += kinds["rule"]
			}
			if !ok {
				t.Errorf("%s: kind %q is not described", verb, kind)
			}
			for _, f := range fields(v) {
				if !strings.Contains(about+values, "`"+f+"`") {
					t.Errorf("%s: field %q of kind %q is not described", verb, f, kind)
				}
			}
		}
	}
	if lines < 25 {
		t.Errorf("only %d lines of JSON", lines)
	}
}

// fields lists all names in an object, those of objects in it included.
func fields(v any) []string {
	var out []string
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			out = append(append(out, k), fields(x)...)
		}
	case []any:
		for _, x := range v {
			out = append(out, fields(x)...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Whatever kind of line the source prints has its section, and every field of a type that is printed its name on the page.
func TestTheJSONPageNamesEveryKindAndField(t *testing.T) {
	text, err := os.ReadFile(jsonPage)
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	kind := regexp.MustCompile(`\.emit\("([a-z]+)"`)
	field := regexp.MustCompile("`json:\"([a-z0-9_]+)[,\"]")
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	kinds, names := 0, 0
	for _, f := range append(files, "../../rightful.go", "../check/check.go", "../check/logs.go", "../panel/panel.go", "../panel/busy.go",
		"../rescue/record.go", "../rescue/report.go", "../rescue/mail.go") {
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(f, "_test.go") || f == "verify.go" { // its types go into the outcome of a run
			continue
		}
		for _, m := range kind.FindAllStringSubmatch(string(src), -1) {
			if kinds++; !strings.Contains(page, "\n### `"+m[1]+"`\n") {
				t.Errorf("%s prints lines of the kind %q, which the page does not describe", f, m[1])
			}
		}
		for _, m := range field.FindAllStringSubmatch(string(src), -1) {
			if names++; !strings.Contains(page, "`"+m[1]+"`") {
				t.Errorf("%s has a field %q, which the page does not describe", f, m[1])
			}
		}
	}
	if kinds < 20 || names < 100 {
		t.Errorf("only %d kinds and %d fields were found in the source", kinds, names)
	}
}
