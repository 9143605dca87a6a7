package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"rightful/internal/term"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A verb is what help, man pages and completion say of a command, and what it runs. Paragraphs are
// wrapped by itself; a test walks all texts.
type verb struct {
	use   string // "accounts [ACCOUNT…]"
	short string // one line without a full stop
	does  string // what it does
	never string // what it never does, as a sentence: "It never …"
	// examples are commands with a comment above each.
	examples string
	// exits are the codes that the verb can give, with its own words or "" for those of exitTexts. 0, 2 and 3 are
	// added by themselves.
	exits map[int]string
	args  cobra.PositionalArgs // nil: any
	flags func(*pflag.FlagSet)
	// bare verbs do not read the configuration file and so work with a broken one.
	bare bool
	run  func(ctx context.Context, args []string) error
	// complete gives words for an argument.
	complete func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective)
}

const bareMark = "bare"

// command makes the cobra command of a verb.
func (a *app) command(v verb) *cobra.Command {
	c := &cobra.Command{
		Use: v.use, Short: v.short, Args: v.args, Example: indent(v.examples), ValidArgsFunction: v.complete,
		DisableFlagsInUseLine: true, Annotations: map[string]string{},
	}
	c.Long = flow(v.does) + "\n\n" + flow(v.never)
	exits := map[int]string{exitOK: "", exitUsage: "", exitCannot: ""}
	maps.Copy(exits, v.exits)
	c.Long += "\n\nExit status:"
	for _, code := range slices.Sorted(maps.Keys(exits)) {
		text := exits[code]
		if text == "" {
			text = exitTexts[code]
		}
		c.Long += fmt.Sprintf("\n  %3d  %s", code, text)
	}
	c.Flags().BoolP("help", "h", false, "print this help")
	c.Flags().SortFlags = false
	if v.flags != nil {
		v.flags(c.Flags())
	}
	a.completeFlags(c)
	if v.bare {
		c.Annotations[bareMark] = ""
	}
	if v.run != nil {
		c.RunE = func(cmd *cobra.Command, args []string) error { return v.run(cmd.Context(), args) }
	}
	return c
}

// flow wraps paragraphs, which an empty line parts.
func flow(s string) string {
	var b strings.Builder
	for _, p := range strings.Split(strings.TrimSpace(s), "\n\n") {
		if b.Len() > 0 {
			b.WriteString("\n\n")
		}
		col := 0
		for i, w := range strings.Fields(p) {
			switch n := term.Width(w); {
			case i == 0:
				col = n
			case col+1+n > helpWidth:
				b.WriteByte('\n')
				col = n
			default:
				b.WriteByte(' ')
				col += 1 + n
			}
			b.WriteString(w)
		}
	}
	return b.String()
}

func indent(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for i, l := range lines {
		if l != "" {
			lines[i] = "  " + strings.TrimSpace(l)
		}
	}
	return strings.Join(lines, "\n")
}

// printHelp is the help of every command; order holds the verbs as the program's own help lists them.
func printHelp(cmd *cobra.Command, order []*cobra.Command) {
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "%s\n\nUsage:\n", cmd.Long)
	if cmd.HasParent() {
		order = cmd.Commands()
	}
	if len(order) > 0 {
		fmt.Fprintf(w, "  %s VERB\n\nVerbs:\n", cmd.CommandPath())
		for _, c := range order {
			if !c.Hidden {
				fmt.Fprintf(w, "  %-12s %s\n", c.Name(), c.Short)
			}
		}
	} else {
		fmt.Fprintf(w, "  %s [FLAG…]\n", cmd.UseLine())
	}
	if cmd.Example != "" {
		fmt.Fprintf(w, "\nExamples:\n%s\n", cmd.Example)
	}
	if cmd.HasAvailableLocalFlags() && cmd.HasParent() {
		fmt.Fprintf(w, "\nFlags:\n%s", cmd.LocalFlags().FlagUsagesWrapped(helpWidth))
	}
	fmt.Fprintf(w, "\nGlobal flags:\n%s", cmd.Root().PersistentFlags().FlagUsagesWrapped(helpWidth))
}

// noArgs and atMostOne are checks for [verb].args.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	return nil
}

func atMostOne(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("unexpected argument %q", args[1])
	}
	return nil
}

// family makes the command of a verb that only has verbs below it.
func (a *app) family(v verb, below ...*cobra.Command) *cobra.Command {
	v.args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return unknownVerb(cmd, args[0])
	}
	v.bare = true
	var c *cobra.Command
	v.run = func(context.Context, []string) error {
		return fail(exitUsage, errors.New("no verb given"), c.CommandPath()+" --help")
	}
	c = a.command(v)
	c.AddCommand(below...)
	return c
}

// oneOf takes one argument, which is one of words.
func oneOf(what string, words ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return fmt.Errorf("no %s given", what)
		case !slices.Contains(words, args[0]):
			return unknown(what, args[0], words, strings.Fields(cmd.CommandPath())...)
		}
		return atMostOne(cmd, args)
	}
}

// helpWidth is the most columns that help takes.
const helpWidth = 100
