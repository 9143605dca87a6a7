package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
)

func newCompletion(a *app) *cobra.Command {
	var self *cobra.Command
	self = a.command(verb{
		use:   "completion bash|zsh|fish",
		short: "print a completion script for a shell",
		does: `Print a script that makes the shell complete verbs and flags. Load it in the running shell, or put it where
the shell looks for completions.`,
		never: "It never writes a file and never changes a shell's configuration.",
		examples: `
			# for this shell
			source <(rightful completion bash)
			# for all users
			rightful completion bash > /etc/bash_completion.d/rightful`,
		args: oneOf("shell", "bash", "zsh", "fish"),
		bare: true,
		run: func(_ context.Context, args []string) error {
			switch args[0] {
			case "bash":
				return self.Root().GenBashCompletionV2(a.out.w, true)
			case "zsh":
				return self.Root().GenZshCompletion(a.out.w)
			case "fish":
				return self.Root().GenFishCompletion(a.out.w, true)
			}
			return errors.ErrUnsupported
		},
	})
	self.ValidArgs = []string{"bash", "zsh", "fish"}
	return self
}

func newHelp(a *app) *cobra.Command {
	var self *cobra.Command
	self = a.command(verb{
		use:      "help [VERB…]",
		short:    "print what a verb does",
		does:     "Print what a verb does and never does, examples, exit status and flags.",
		never:    "It never runs the verb.",
		examples: "rightful help accounts",
		bare:     true,
		run: func(_ context.Context, args []string) error {
			cmd, rest, err := self.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownVerb(self.Root(), args[len(args)-max(len(rest), 1)])
			}
			return cmd.Help()
		},
	})
	return self
}
