package check

import (
	"fmt"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/policy"
)

// ruleCount is how one rule fared in one account.
type ruleCount struct {
	right, wrong int
	harm         bool // something that it calls wrong keeps a site from being served
}

// counter counts entries by the rule that decides them. Neighbours mostly share one.
type counter struct {
	rules map[*policy.Rule]*ruleCount
	last  *policy.Rule
	count *ruleCount
}

func (c *counter) of(r *policy.Rule) *ruleCount {
	if r == c.last {
		return c.count
	}
	n := c.rules[r]
	if n == nil {
		n = &ruleCount{}
		c.rules[r] = n
	}
	c.last, c.count = r, n
	return n
}

// A Census finds the rules that most of the server disagrees with (law 10): such a rule is wrong about the server. A rule
// whose breach keeps a site from being served is never among them: that most sites are down does not make it right.
type Census struct {
	rules map[string]*ruleVote
}

type ruleVote struct{ accounts, against, harmed int }

// minVotes is how many accounts must have entries under a rule before their disagreement means anything.
const minVotes = 10

// Add counts the votes of one account.
func (c *Census) Add(r *Report) {
	if c.rules == nil {
		c.rules = map[string]*ruleVote{}
	}
	for rule, n := range r.rules {
		v := c.rules[rule.String()]
		if v == nil {
			v = &ruleVote{}
			c.rules[rule.String()] = v
		}
		v.accounts++
		if n.wrong > n.right {
			v.against++
		}
		if n.harm {
			v.harmed++
		}
	}
}

// Distrusted gives a finding for each rule that more than half of the accounts disagree with, sorted by rule. accepted
// are left out.
func (c *Census) Distrusted(accepted []Accept) []rightful.Finding {
	var out []rightful.Finding
	for name, v := range c.rules {
		a := Accept{RiskRule, name}
		if v.accounts < minVotes || 2*v.against <= v.accounts || v.harmed > 0 || slices.Contains(accepted, a) {
			continue
		}
		out = append(out, rightful.Finding{
			Problem: RuleDisagrees, Effect: rightful.EffectWrong, Rule: name, Sites: []string{}, Accept: a.String(),
			Note: fmt.Sprintf("%d of %d accounts disagree with it: it may be wrong about this server, and is not applied", v.against, v.accounts),
		})
	}
	slices.SortFunc(out, func(a, b rightful.Finding) int { return strings.Compare(a.Rule, b.Rule) })
	return out
}
