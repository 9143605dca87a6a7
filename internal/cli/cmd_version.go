package cli

import (
	"context"
	"runtime"

	"rightful"

	"github.com/spf13/cobra"
)

func newVersion(a *app) *cobra.Command {
	return a.command(verb{
		use:      "version",
		short:    "print the version",
		does:     "Print the version of the program, what compiled it, and for which machine.",
		never:    "It never reads a file and never asks the network for a newer version.",
		examples: "rightful version",
		args:     noArgs,
		bare:     true,
		run: func(context.Context, []string) error {
			v := versionInfo{rightful.Version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			if a.cfg.JSON {
				a.out.emit("summary", v)
				return nil
			}
			a.out.printf("rightful %s (%s, %s)\n", v.Version, v.Go, v.Machine)
			return nil
		},
	})
}

type versionInfo struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	Machine string `json:"machine"`
}
