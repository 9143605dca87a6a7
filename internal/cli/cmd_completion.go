package cli

import (
	"context"
	"errors"

	"rightful"

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

// completeFlags gives the shell words for the values of those flags of a command that have words.
func (a *app) completeFlags(c *cobra.Command) {
	account := func(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		return a.completeAccounts(cmd, nil, word)
	}
	var effects []string
	for _, e := range rightful.Effects {
		effects = append(effects, string(e))
	}
	for flag, f := range map[string]cobra.CompletionFunc{
		"canary": account, "exclude-account": account,
		"format":  cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp),
		"fail-on": cobra.FixedCompletions(effects, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveKeepOrder),
	} {
		if c.Flags().Lookup(flag) == nil && c.PersistentFlags().Lookup(flag) == nil {
			continue
		}
		if err := c.RegisterFlagCompletionFunc(flag, f); err != nil {
			panic(err) // a flag that was just found
		}
	}
}
