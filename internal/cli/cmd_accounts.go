package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"rightful"
	"rightful/internal/panel"
	"rightful/internal/term"

	"github.com/spf13/cobra"
)

func newAccounts(a *app) *cobra.Command {
	return a.command(verb{
		use:   "accounts [ACCOUNT…]",
		short: "who lives here, and how that is known",
		does: `List the accounts of the server with their homes and sites, and the files that name them. What is broken,
contradictory or left over in those files is a warning with file and line; the rest is still listed.`,
		never: `It never changes anything, never takes a directory for an account because of its name, and never lists
an account about which the files disagree.`,
		examples: `
			# everybody
			rightful accounts
			# one account, as JSON lines
			rightful accounts alice --json
			# a server whose disk is mounted below /mnt
			rightful accounts --root /mnt`,
		exits: map[int]string{
			exitOK:       "all accounts are listed",
			exitFindings: "a panel file was broken or unreadable, or an account or site was left out",
			exitCannot:   "cannot run: not root, or no accounts",
		},
		complete: a.completeAccounts,
		run:      a.accounts,
	})
}

func (a *app) accounts(_ context.Context, args []string) error {
	s, err := a.openServer()
	if err != nil {
		return err
	}
	defer s.Close()
	ps, err := a.readPanel(s)
	if err != nil {
		return err
	}
	accts, err := a.pick(ps, args)
	if err != nil {
		return err
	}
	issues := ps.Issues
	if len(args) > 0 {
		issues = slices.DeleteFunc(slices.Clone(issues), func(i panel.Issue) bool {
			return i.Account != "" && !slices.Contains(args, i.Account)
		})
	}
	sites := 0
	table := term.Table{Head: []string{"account", ">uid", "home", "sites", "panel", "known"}}
	for _, acct := range accts {
		sites += len(acct.Sites)
		if a.cfg.JSON {
			a.out.emit("account", newAccountJSON(acct))
			continue
		}
		state := acct.Panel
		if acct.Suspended {
			state += ", suspended"
		}
		table.Row(acct.Name, strconv.FormatUint(uint64(acct.UID), 10), acct.Home, siteNames(acct.Sites), state, acct.Known)
	}
	if a.cfg.JSON {
		for _, i := range issues {
			a.out.emit("issue", i)
		}
		a.out.emit("summary", accountsSummary{len(accts), sites, len(issues)})
	} else {
		a.out.printf("%s", table.String())
	}
	a.warnIssues(issues)
	if brokenFiles(issues) {
		return exitWith(exitFindings)
	}
	return nil
}

type accountsSummary struct {
	Accounts int `json:"accounts"`
	Sites    int `json:"sites"`
	Issues   int `json:"issues"`
}

// siteNames fits into a cell: the first two names, and how many more there are.
func siteNames(sites []rightful.Site) string {
	var names []string
	for _, s := range sites {
		names = append(names, s.Name)
	}
	if n := len(names); n > 2 {
		names = append(names[:2], fmt.Sprintf("+%d", n-2))
	}
	if len(names) == 0 {
		return "-"
	}
	return strings.Join(names, " ")
}

// accountJSON is an account as --json prints it: with the exact bytes of paths that are not valid UTF-8.
type accountJSON struct {
	rightful.Account
	HomeB64 []byte     `json:"home_b64,omitempty"`
	Sites   []siteJSON `json:"sites"`
	Known   string     `json:"known"`
}

type siteJSON struct {
	rightful.Site
	DocRootB64 []byte `json:"docroot_b64,omitempty"`
}

func newAccountJSON(p *panel.Account) accountJSON {
	j := accountJSON{Account: p.Account, HomeB64: rightful.RawPath(p.Home), Known: p.Known}
	for _, s := range p.Sites {
		j.Sites = append(j.Sites, siteJSON{s, rightful.RawPath(s.DocRoot)})
	}
	return j
}

// completeAccounts gives the shell the accounts that were not named yet. It says nothing where they cannot be read.
func (a *app) completeAccounts(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if err := a.load(false); err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	s, err := a.openServer()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer s.Close()
	ps, err := panel.Read(s, panel.Options{WebConfig: a.cfg.WebConfig})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for i := range ps.Accounts {
		if n := ps.Accounts[i].Name; strings.HasPrefix(n, word) && !slices.Contains(args, n) {
			names = append(names, n)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
