package check

import (
	"fmt"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/policy"
	"rightful/internal/web"
)

// ruleCount is how one rule fared in one account.
type ruleCount struct {
	right, wrong int
	harm         bool // something that it calls wrong keeps a site from being served, or is open to all
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

// harms reports whether an entry, as it is, keeps a site from being served, or lets every user of the machine write.
func (j *job) harms(lv *level, p string, rule *policy.Rule, kind rightful.Kind, have rightful.Meta) bool {
	if openToAll(kind, have) {
		return true
	}
	if kind == rightful.KindDir {
		sites, _ := j.shutOut(p, lv, have)
		return len(sites) > 0 || j.scriptsOf(p, lv) != nil && j.stopsScripts(lv, p, have)
	}
	if kind != rightful.KindFile || lv.site < 0 {
		return false
	}
	s, name := j.sites[lv.site], []byte(p[strings.LastIndexByte(p, '/')+1:])
	if string(name) == ".htaccess" {
		return j.shuts(lv, p)
	}
	_, _, meant := s.meant(name, rule)
	return meant && lv.now != nil && j.harmful(lv, s, p, name, rule, &have)
}

// harmful reports whether a file that is meant for visitors is kept from them by itself.
func (j *job) harmful(lv *level, s *site, p string, name []byte, rule *policy.Rule, have *rightful.Meta) bool {
	v := lv.now.File(name, web.Node{Kind: rightful.KindFile, Meta: *have}, nowhere{})
	return v.Cause.Fault() && j.itself(&v, s, p, name, rule, have)
}

// openToAll reports whether every user of the machine may write to an entry. No server is meant to be like that.
func openToAll(kind rightful.Kind, m rightful.Meta) bool {
	return kind != rightful.KindSymlink && m.Mode&0o002 != 0 && m.Mode&rightful.ModeSticky == 0
}

// A Census finds the rules that most of the server disagrees with (law 10): such a rule is wrong about the server.
//
// Every account with entries under a rule has one vote, and votes against it if more of them are wrong than right. But an
// account in which some breach of the rule does harm shows an accident, not a habit: it never votes against. So an
// accident that takes sites down everywhere outvotes no rule, and one account that is down does not silence the others.
// A suspended account is as its panel made it, and has no vote.
type Census struct {
	rules map[string]*ruleVote
}

type ruleVote struct{ accounts, against int }

// minVotes is how many accounts must have entries under a rule before their disagreement means anything.
const minVotes = 10

// Add counts the votes of one account.
func (c *Census) Add(r *Report) {
	if r.Account.Suspended {
		return
	}
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
		if n.wrong > n.right && !n.harm {
			v.against++
		}
	}
}

// Distrusted gives a finding for each rule that more than half of the accounts disagree with, sorted by rule. accepted
// are left out.
func (c *Census) Distrusted(accepted []Accept) []rightful.Finding {
	var out []rightful.Finding
	for name, v := range c.rules {
		a := Accept{RiskRule, name}
		if v.accounts < minVotes || 2*v.against <= v.accounts || slices.Contains(accepted, a) {
			continue
		}
		out = append(out, rightful.Finding{
			Problem: RuleDisagrees, Effect: rightful.EffectWrong, Rule: name, Sites: []string{}, Accept: a.String(),
			Note: fmt.Sprintf("%d of %d accounts disagree with it: it may be wrong about this server, and is applied only to what does harm", v.against, v.accounts),
		})
	}
	slices.SortFunc(out, func(a, b rightful.Finding) int { return strings.Compare(a.Rule, b.Rule) })
	return out
}
