// Command mkman writes the manual pages into a directory: one for the program and one for each verb.
//
// It knows only how to render: every word comes from the help texts of internal/cli, so that manual and help cannot
// differ. It promises the same bytes for the same version and
// SOURCE_DATE_EPOCH. It refuses to write anywhere but into that directory.
package main

import (
	"fmt"
	"os"

	"rightful"
	"rightful/internal/cli"

	"github.com/spf13/cobra/doc"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: mkman DIR")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(3)
	}
}

func write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root := cli.Commands()
	root.DisableAutoGenTag = true
	return doc.GenManTree(root, &doc.GenManHeader{
		Section: "8", Source: "rightful " + rightful.Version, Manual: "Rightful",
	}, dir)
}
