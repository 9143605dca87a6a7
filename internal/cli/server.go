package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing/fstest"

	"rightful/internal/check"
	"rightful/internal/panel"
	"rightful/internal/term"
	"rightful/internal/tree"
)

// overridesDir holds the operator's policy files, on the server that is looked after.
const overridesDir = "/etc/rightful/policy.d"

// readPanel finds out who lives on the server. A server without a single account is an error: exit 3.
func (a *app) readPanel(s *tree.Server) (*panel.Server, error) {
	ps, err := panel.Read(s, panel.Options{WebConfig: a.cfg.WebConfig})
	if err != nil {
		return nil, fail(exitCannot, err, "--root DIR")
	}
	a.users = ps.Users
	if len(ps.Accounts) == 0 {
		a.warnIssues(ps.Issues)
		return nil, fail(exitCannot, fmt.Errorf("find accounts on %q: none", s.Dir()), "--root DIR", "--web-config FILE")
	}
	return ps, nil
}

// pick gives the accounts that are named, or all where none is. Unknown names are an error: exit 2, with near names or
// the reason why such an account was left out.
func (a *app) pick(ps *panel.Server, names []string) ([]*panel.Account, error) {
	var out []*panel.Account
	if len(names) == 0 {
		for i := range ps.Accounts {
			out = append(out, &ps.Accounts[i])
		}
		return out, nil
	}
	for _, n := range slices.Compact(slices.Sorted(slices.Values(names))) {
		acct, ok := ps.Account(n)
		if !ok {
			return nil, a.unknownAccount(ps, n)
		}
		out = append(out, acct)
	}
	return out, nil
}

func (a *app) unknownAccount(ps *panel.Server, name string) error {
	for _, i := range ps.Issues {
		if i.Account == name {
			return fail(exitUsage, fmt.Errorf("unknown account %q: left out: %s", name, i), a.again("accounts"))
		}
	}
	var known []string
	for i := range ps.Accounts {
		known = append(known, ps.Accounts[i].Name)
	}
	return orHint(a.mistyped("account", name, known), a.again("accounts"))
}

// risks reads the values of --accept. One that names nobody is an error: it would silently accept nothing.
func (a *app) risks(ps *panel.Server, texts []string) ([]check.Accept, error) {
	var out []check.Accept
	for _, text := range texts {
		x, err := check.ParseAccept(text)
		if err != nil {
			return nil, fail(exitUsage, err, a.cmd+" --help")
		}
		var known []string
		switch x.Risk {
		case check.RiskRootOwned, check.RiskLocked, check.RiskQuota:
			for i := range ps.Accounts {
				known = append(known, ps.Accounts[i].Name)
			}
		case check.RiskForeignOwner:
			for _, u := range ps.Users.All() {
				known = append(known, u.Name)
			}
		}
		uid := x.Risk == check.RiskForeignOwner && strings.Trim(x.Name, "0123456789") == ""
		if known != nil && !uid && !slices.Contains(known, x.Name) {
			var hints []string
			for _, n := range near(x.Name, known) {
				hints = append(hints, "--accept="+term.Shell(check.Accept{Risk: x.Risk, Name: n}.String()))
			}
			return nil, orHint(fail(exitUsage, fmt.Errorf("accept %q: there is no %q here", text, x.Name), hints...), a.again("accounts"))
		}
		out = append(out, x)
	}
	return out, nil
}

// warnIssues says what is wrong with the panel's files.
func (a *app) warnIssues(issues []panel.Issue) {
	for _, i := range issues {
		a.warn("%s", i)
	}
}

// brokenFiles reports whether a file that names accounts was not read or not understood, or somebody was left out for
// a contradiction: the answer is not the whole then, and the exit code says so. Leftovers of former accounts are not
// that: every old server has them.
func brokenFiles(issues []panel.Issue) bool {
	return slices.ContainsFunc(issues, func(i panel.Issue) bool {
		return i.Fatal || i.Problem == panel.Unreadable || i.Problem == panel.Syntax
	})
}

// overrides reads the operator's policy files. No directory means none.
func overrides(s *tree.Server) (fs.FS, error) {
	names, err := s.ReadDir(overridesDir)
	if err != nil && !tree.IsNotExist(err) && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	files := fstest.MapFS{}
	for _, n := range names {
		if path.Ext(n) != ".toml" {
			continue
		}
		text, err := s.ReadFile(path.Join(overridesDir, n), maxConfig)
		if err != nil {
			return nil, err
		}
		files[n] = &fstest.MapFile{Data: text, Mode: 0o600}
	}
	return files, nil
}
