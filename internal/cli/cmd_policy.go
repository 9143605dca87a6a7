package cli

import (
	"context"
	"fmt"
	"path"
	"strings"

	"rightful"
	"rightful/internal/check"
	"rightful/internal/panel"
	"rightful/internal/policy"
	"rightful/internal/term"
	"rightful/internal/tree"

	"github.com/spf13/cobra"
)

func newPolicy(a *app) *cobra.Command {
	return a.family(verb{
		use:   "policy VERB",
		short: "what each path should be, and which rule says so",
		does: `Look at the rules that say what an entry should be: the built-in ones of each control panel, and the
operator's own in ` + overridesDir + `/*.toml, which come after them and win.`,
		never: "It never changes a rule and never reads what is in a customer's file.",
		examples: `
			rightful policy show
			rightful policy show /home/alice/public_html/wp-config.php
			rightful policy test alice`,
	}, newPolicyShow(a), newPolicyTest(a))
}

func newPolicyShow(a *app) *cobra.Command {
	return a.command(verb{
		use:   "show [PATH]",
		short: "print the rules, or those for one path",
		does: `Print the rules for the control panels found on the server, in the order of the files: of two that match
from the same directory the later one wins; and after each panel's rules its skeleton, the directories and links that
every home has before anything is put into it. With a PATH, print the rules that match it, the deciding one first.

A PATH that does not exist is taken for a file, or for a directory if it ends in a slash. A link in its last part
is not followed.`,
		never: "It never changes anything, and never says how an entry is now; rightful explain does.",
		examples: `
			# all rules of this server
			rightful policy show
			# which rule decides here
			rightful policy show /home/alice/public_html/wp-config.php`,
		exits: map[int]string{
			exitOK:     "the rules are printed",
			exitUsage:  "wrong usage, or a path that belongs to no account",
			exitCannot: "cannot run: not root, or a rule file is broken",
		},
		args: atMostOne,
		run: func(_ context.Context, args []string) error {
			s, err := a.openServer()
			if err != nil {
				return err
			}
			defer s.Close()
			if len(args) == 0 {
				return a.showRules(s)
			}
			return a.showRulesFor(s, args[0])
		},
	})
}

func (a *app) showRules(s *tree.Server) error {
	ps, err := panel.Read(s, panel.Options{WebConfig: a.cfg.WebConfig})
	if err != nil {
		return fail(exitCannot, err, "--root DIR")
	}
	n := 0
	for _, name := range ps.Panels {
		p, err := a.loadPolicy(s, name)
		if err != nil {
			return err
		}
		for _, r := range p.Rules() {
			n++
			if a.cfg.JSON {
				a.out.emit("rule", r)
				continue
			}
			if n > 1 {
				a.out.printf("\n")
			}
			a.printRule(r)
		}
		a.printSkeleton(name, p.SkeletonTable())
	}
	if a.cfg.JSON {
		a.out.emit("summary", policySummary{ps.Panels, n})
	}
	return nil
}

type skeletonJSON struct {
	Panel string `json:"panel"`
	policy.SkeletonInfo
}

func (a *app) printSkeleton(panelName string, lines []policy.SkeletonInfo) {
	if len(lines) > 0 && !a.cfg.JSON {
		a.out.printf("\nskeleton of %s  what a home has before anything is put into it\n", panelName)
	}
	for _, l := range lines {
		switch {
		case a.cfg.JSON:
			a.out.emit("skeleton", skeletonJSON{panelName, l})
		case l.Target != "":
			a.out.printf("  link    %s → %s  (%s)\n", term.Quote(l.Path), term.Quote(l.Target), term.Quote(l.File))
		default:
			a.out.printf("  dir     %s  (%s)\n", term.Quote(l.Path), term.Quote(l.File))
		}
	}
}

type policySummary struct {
	Panels []string `json:"panels"`
	Rules  int      `json:"rules"`
}

func (a *app) printRule(r policy.RuleInfo) {
	a.out.printf("%s  %s\n", term.Quote(r.File+":"+r.Name), term.Quote(r.Title))
	var kinds []string
	for _, k := range r.Kinds {
		kinds = append(kinds, k.String())
	}
	row := func(name string, values ...string) {
		for i, v := range values {
			if i > 0 {
				name = ""
			}
			a.out.printf("  %-7s %s\n", name, term.Quote(v))
		}
	}
	row("path", r.Paths...)
	row("kind", strings.Join(kinds, ", "))
	row("accept", r.Alternatives...)
	if r.Public {
		row("public", "may gain read for the web server")
	}
	if r.Secret {
		row("secret", "is never opened further")
	}
}

func (a *app) showRulesFor(s *tree.Server, name string) error {
	if !path.IsAbs(name) {
		return fail(exitUsage, fmt.Errorf("show rules for %q: not an absolute path", name))
	}
	ps, err := a.readPanel(s)
	if err != nil {
		return err
	}
	full, kind := locate(s, name)
	acct := ownerOf(s, ps, full)
	if acct == nil {
		return fail(exitUsage, fmt.Errorf("show rules for %q: it belongs to no account", name), a.again("accounts"))
	}
	p, err := a.loadPolicy(s, acct.Panel)
	if err != nil {
		return err
	}
	bound, err := p.Bind(check.Binding(s, ps, acct))
	if err != nil {
		return fail(exitCannot, err)
	}
	infos := map[string]policy.RuleInfo{}
	for _, r := range p.Rules() {
		infos[r.File+":"+r.Name] = r
	}
	matches := bound.Explain(full, kind)
	for i, m := range matches {
		info := infos[m.Rule.String()]
		if a.cfg.JSON {
			a.out.emit("match", matchJSON{acct.Name, full, rightful.RawPath(full), kind, i == 0, m.Pattern, info})
			continue
		}
		if i == 0 {
			a.out.printf("%s (%s of %s) is decided by\n\n", term.Quote(full), kind, term.Quote(acct.Name))
		} else if i == 1 {
			a.out.printf("\nwhich wins over\n\n")
		} else {
			a.out.printf("\n")
		}
		a.printRule(info)
	}
	switch {
	case a.cfg.JSON:
		a.out.emit("summary", policySummary{[]string{acct.Panel}, len(matches)})
	case len(matches) == 0:
		a.out.printf("%s (%s of %s): no rule says anything\n", term.Quote(full), kind, term.Quote(acct.Name))
	}
	return nil
}

type matchJSON struct {
	Account string        `json:"account"`
	Path    string        `json:"path"`
	PathB64 []byte        `json:"path_b64,omitempty"`
	Kind    rightful.Kind `json:"type"`
	Decides bool          `json:"decides"`
	Pattern string        `json:"pattern"`
	policy.RuleInfo
}

// loadPolicy compiles the rules of a panel with the operator's own.
func (a *app) loadPolicy(s *tree.Server, panelName string) (*policy.Policy, error) {
	over, err := overrides(s)
	if err != nil {
		return nil, fail(exitCannot, err)
	}
	p, err := policy.Load(panelName, over)
	if err != nil {
		return nil, fail(exitCannot, err)
	}
	return p, nil
}

// locate gives the path with links before its last part resolved, and the kind of what is there.
func locate(s *tree.Server, name string) (string, rightful.Kind) {
	kind := rightful.KindFile
	if strings.HasSuffix(name, "/") {
		kind = rightful.KindDir
	}
	name = strings.TrimRight(name, "/")
	if name == "" {
		return "/", rightful.KindDir
	}
	i := strings.LastIndexByte(name, '/')
	full := rightful.JoinPath(resolved(s, name[:i+1]), name[i+1:])
	if st, err := s.Lstat(full); err == nil {
		kind = st.Kind
	}
	return full, kind
}

// resolved follows the links of a directory's path as far as it exists.
func resolved(s *tree.Server, dir string) string {
	cs, err := s.Trace(dir)
	if err != nil || len(cs) == 0 {
		return path.Clean(dir)
	}
	return cs[len(cs)-1].Path
}

// ownerOf finds the account whose home or document root holds a resolved path: the nearest one.
func ownerOf(s *tree.Server, ps *panel.Server, full string) *panel.Account {
	var best *panel.Account
	length := -1
	for i := range ps.Accounts {
		for _, d := range ps.Accounts[i].DirsNamed {
			if d = resolved(s, d); len(d) > length && panel.Within(full, d) {
				best, length = &ps.Accounts[i], len(d)
			}
		}
	}
	return best
}
