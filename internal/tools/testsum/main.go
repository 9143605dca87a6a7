// Command testsum reads the output of go test -json and says in few lines how the tests ended.
//
// It knows the events of test2json. It promises to print the whole output of every test that failed, each distinct
// reason for which tests were skipped with their number, and as the last line the counts: "1234 passed, 0 failed, 3
// skipped", of tests, subtests and fuzz targets. It refuses to call a package that did not build, or lines that are no
// events, a success.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
}

func main() {
	ok, err := summarize(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// summarize reports whether everything passed.
func summarize(r io.Reader, w io.Writer) (bool, error) {
	type key struct{ pkg, test string }
	output := map[key]*strings.Builder{}
	failedTests := map[string]bool{} // packages in which a test failed: the package's own failure says no more
	skips := map[string]int{}
	var passed, failed, skipped int
	in := bufio.NewScanner(r)
	in.Buffer(nil, 64<<20)
	for in.Scan() {
		var e event
		if json.Unmarshal(in.Bytes(), &e) != nil || e.Action == "" {
			if len(strings.TrimSpace(in.Text())) > 0 {
				fmt.Fprintln(w, in.Text())
			}
			continue
		}
		k := key{cmp.Or(e.Package, e.ImportPath), e.Test}
		switch e.Action {
		case "output", "build-output":
			if output[k] == nil {
				output[k] = &strings.Builder{}
			}
			output[k].WriteString(e.Output)
			continue
		case "build-fail":
			fmt.Fprintf(w, "--- does not build: %s\n%s", k.pkg, text(output[k]))
			delete(output, k)
		case "fail":
			switch {
			case e.Test != "":
				failed++
				failedTests[e.Package] = true
				fmt.Fprintf(w, "--- failed: %s %s\n%s", e.Package, e.Test, text(output[k]))
			case !failedTests[e.Package]:
				failed++
				fmt.Fprintf(w, "--- failed: %s\n%s", e.Package, text(output[k]))
			}
		case "pass":
			if e.Test != "" {
				passed++
			}
		case "skip":
			if e.Test != "" {
				skipped++
				skips[reason(text(output[k]))]++
			}
		}
		if e.Action == "pass" || e.Action == "skip" || e.Action == "fail" {
			delete(output, k)
		}
	}
	for _, s := range slices.Sorted(maps.Keys(skips)) {
		fmt.Fprintf(w, "skipped %d: %s\n", skips[s], s)
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	return failed == 0 && passed > 0, in.Err()
}

func text(b *strings.Builder) string {
	if b == nil {
		return ""
	}
	return b.String()
}

// reason is what a test said when it was skipped, without the place in its source.
func reason(out string) string {
	place := regexp.MustCompile(`^\s*\S+\.go:\d+: `)
	for l := range strings.Lines(out) {
		if m := place.FindString(l); m != "" {
			return strings.TrimSpace(l[len(m):])
		}
	}
	return "no reason given"
}
