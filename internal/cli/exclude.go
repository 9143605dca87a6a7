package cli

import (
	"path"
	"slices"

	"rightful"
	"rightful/internal/repair"
)

// The configuration excludes accounts and paths. Check does not judge them, fix, plan apply and resume do not change them.
// Undo takes back what was done there too: what the operator wants left alone, he wants as it was.

const excludedNote = "the account is excluded by the configuration"

// excluding says for each entry of a plan why it is left alone, or "". An account that was named when the plan was made
// is meant, as in check and fix.
func (a *app) excluding(p *repair.Plan) func(account, path string) string {
	return func(account, name string) string {
		if slices.Contains(a.cfg.ExcludeAccount, account) && !slices.Contains(p.Named, account) {
			return excludedNote
		}
		if len(a.cfg.ExcludePath) == 0 {
			return ""
		}
		for at := name; at != "/" && at != "."; at = path.Dir(at) {
			for _, pattern := range a.cfg.ExcludePath {
				if ok, _ := path.Match(pattern, at); ok {
					return "excluded by the configuration: " + pattern
				}
			}
		}
		return ""
	}
}

// noteExcluded says before an undo that it does not leave alone what is excluded.
func (a *app) noteExcluded(p *repair.Plan) error {
	if len(a.cfg.ExcludeAccount)+len(a.cfg.ExcludePath) == 0 {
		return nil
	}
	n, excluded := 0, a.excluding(p)
	for i := range p.Accounts {
		err := p.Each(i, func(_ int, c *rightful.Change) error {
			if excluded(p.Accounts[i].Account, c.Path()) != "" {
				n++
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if n > 0 {
		a.note("%s excluded by the configuration and put back all the same, since the run changed them", counted(n, "entry is", "entries are"))
	}
	return nil
}
