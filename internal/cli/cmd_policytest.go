package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/check"
	"rightful/internal/panel"
	"rightful/internal/policy"
	"rightful/internal/term"
	"rightful/internal/tree"

	"github.com/spf13/cobra"
)

func newPolicyTest(a *app) *cobra.Command {
	return a.command(verb{
		use:   "test ACCOUNT|DIR",
		short: "try the rules on what is there",
		does: `Hold every entry of an account, or below one directory, against the rule that decides it, and count for each
rule how many entries it calls right and wrong, the most wrong first, with examples: for those who write rules of their
own. Entries that no rule speaks of are counted too.

Only the rules are asked. Whether an entry may be changed at all, and what its state does to visitors, is told by check.`,
		never: "It never changes anything.",
		examples: `
			# before a new rule is relied upon
			rightful policy test alice
			# every entry that a rule calls wrong
			rightful policy test /home/alice/public_html --verbose`,
		exits: map[int]string{
			exitOK:       "every entry is right by its rule",
			exitFindings: "some entry is wrong by its rule, or could not be read",
			exitUsage:    "wrong usage, an unknown account, or a directory that belongs to none",
			exitCannot:   "cannot run: not root, or a rule file is broken",
		},
		args:     exactlyOne("an account or a directory"),
		complete: a.completeAccounts,
		run:      func(ctx context.Context, args []string) error { return a.policyTest(ctx, args[0]) },
	})
}

// tested is how the entries of one rule fared, in the words of --json.
type tested struct {
	Account string `json:"account"`
	File    string `json:"file"`
	Name    string `json:"name"`
	Title   string `json:"title"`
	Right   int    `json:"right"`
	Wrong   int    `json:"wrong"`
	show    []string
}

// wrongEntry is one entry that its rule calls wrong.
type wrongEntry struct {
	Account string        `json:"account"`
	Path    string        `json:"path"`
	PathB64 []byte        `json:"path_b64,omitempty"`
	Kind    rightful.Kind `json:"type"`
	Have    rightful.Meta `json:"have"`
	Want    rightful.Meta `json:"want"`
	Rule    string        `json:"rule"`
	Note    string        `json:"note,omitempty"`
}

// ruleTest walks one base and asks the rules. It implements tree.Visitor.
type ruleTest struct {
	a       *app
	account string
	bound   *policy.Bound
	base    string
	under   string         // what is asked for, relative to the base; "" for all of it
	states  []policy.State // by depth
	rules   map[*policy.Rule]*tested
	sum     testSummary
}

type testSummary struct {
	Entries int `json:"entries"`
	Right   int `json:"right"`
	Wrong   int `json:"wrong"`
	// Unruled are those of which no rule speaks; Unread could not be read.
	Unruled int `json:"unruled"`
	Unread  int `json:"unread"`
}

// shownByRule is how many examples each rule has; --verbose shows all.
const shownByRule = 3

func (a *app) policyTest(ctx context.Context, what string) error {
	s, err := a.openServer()
	if err != nil {
		return err
	}
	defer s.Close()
	ps, err := a.readPanel(s)
	if err != nil {
		return err
	}
	acct, dir, err := a.testTarget(s, ps, what)
	if err != nil {
		return err
	}
	p, err := a.loadPolicy(s, acct.Panel)
	if err != nil {
		return err
	}
	binding := check.Binding(s, ps, acct)
	t := &ruleTest{a: a, account: acct.Name, rules: map[*policy.Rule]*tested{}}
	if t.bound, err = p.Bind(binding); err != nil {
		return fail(exitCannot, err)
	}
	bases := binding.Bases
	if dir != "" {
		// The nearest base: a document root outside the home may stand beside it.
		bases = slices.DeleteFunc(slices.Clone(bases), func(b string) bool { return !panel.Within(dir, b) })
		slices.SortFunc(bases, func(x, y string) int { return cmp.Compare(len(y), len(x)) })
		bases = bases[:min(1, len(bases))]
	}
	if len(bases) == 0 {
		return fail(exitUsage, fmt.Errorf("test rules on %q: it is not walked", what), a.again("accounts"))
	}
	for _, t.base = range bases {
		if dir != "" {
			t.under = strings.TrimPrefix(strings.TrimPrefix(dir, t.base), "/")
		}
		b, err := s.OpenBase(t.base)
		if err != nil {
			return fail(exitCannot, err)
		}
		err = b.Walk(ctx, t, true)
		b.Close()
		if err != nil {
			return a.runError(ctx, err)
		}
	}
	return t.report()
}

// testTarget finds what is to be tested: an account, or a directory that belongs to one.
func (a *app) testTarget(s *tree.Server, ps *panel.Server, what string) (acct *panel.Account, dir string, err error) {
	if !path.IsAbs(what) {
		picked, err := a.pick(ps, []string{what})
		if err != nil {
			return nil, "", err
		}
		return picked[0], "", nil
	}
	usage := func(err error) error {
		return fail(exitUsage, fmt.Errorf("test rules on %q: %w", what, err), a.again("accounts"))
	}
	cs, err := s.Trace(what)
	switch {
	case err != nil:
		return nil, "", usage(err)
	case cs[len(cs)-1].Stat.Kind != rightful.KindDir:
		return nil, "", usage(errors.New("not a directory"))
	}
	dir = cs[len(cs)-1].Path
	if acct = ownerOf(s, ps, dir); acct == nil {
		return nil, "", usage(errors.New("it belongs to no account"))
	}
	return acct, dir, nil
}

// Entry asks the rule of one entry.
func (t *ruleTest) Entry(d *tree.Dir, e *tree.Entry) (descend bool, err error) {
	var rule *policy.Rule
	if d == nil {
		t.states = t.states[:0]
		_, rule = t.bound.Base(t.base)
	} else {
		_, rule = t.states[d.Depth].ChildBytes(e.Name, e.Kind)
	}
	rel := e.Rel()
	if t.under != "" && !panel.Within("/"+rel, "/"+t.under) {
		return rel == "" || panel.Within("/"+t.under, "/"+rel), nil
	}
	have, err := e.Meta()
	if err != nil {
		t.Fail(rel, err)
		return true, nil
	}
	t.sum.Entries++
	if rule == nil {
		t.sum.Unruled++
		return true, nil
	}
	n := t.rules[rule]
	if n == nil {
		n = &tested{Account: t.account, File: rule.File, Name: rule.Name, Title: rule.Title}
		t.rules[rule] = n
	}
	v := rule.Judge(have, e.Kind, false)
	if v.OK {
		n.Right++
		t.sum.Right++
		return true, nil
	}
	n.Wrong++
	t.sum.Wrong++
	p := rightful.JoinPath(t.base, rel)
	switch {
	case t.a.cfg.JSON:
		t.a.out.emit("entry", wrongEntry{t.account, p, rightful.RawPath(p), e.Kind, have, v.Want, rule.String(), v.Stuck})
	case n.Wrong <= shownByRule || t.a.cfg.Verbose:
		n.show = append(n.show, term.Quote(p)+"  "+t.a.names().diff(have, v.Want))
	}
	return true, t.a.out.err
}

// Enter keeps the state of a directory for its entries.
func (t *ruleTest) Enter(d *tree.Dir) error {
	var st policy.State
	if d.Depth == 0 {
		st, _ = t.bound.Base(t.base)
	} else {
		st, _ = t.states[d.Depth-1].Child(path.Base(d.Rel()), rightful.KindDir)
	}
	t.states = append(t.states[:d.Depth], st)
	return nil
}

// Leave does nothing: the next directory takes the place of this one.
func (t *ruleTest) Leave(*tree.Dir) error { return nil }

// Fail counts what could not be read. What is mounted is another's business.
func (t *ruleTest) Fail(rel string, err error) {
	if tree.Refused(err) == tree.CauseMount || tree.IsNotExist(err) {
		return
	}
	t.sum.Unread++
	t.a.warn("%s", err)
}

// report prints what came of it, the rules that call most wrong first.
func (t *ruleTest) report() error {
	a := t.a
	rules := slices.SortedFunc(maps.Values(t.rules), func(x, y *tested) int {
		return cmp.Or(cmp.Compare(y.Wrong, x.Wrong), cmp.Compare(y.Right, x.Right), cmp.Compare(x.File+":"+x.Name, y.File+":"+y.Name))
	})
	table := term.Table{Head: []string{">right", ">wrong", "rule", "title"}}
	for _, n := range rules {
		if a.cfg.JSON {
			a.out.emit("rule", n)
			continue
		}
		table.Row(fmt.Sprint(n.Right), fmt.Sprint(n.Wrong), n.File+":"+n.Name, n.Title)
	}
	if a.cfg.JSON {
		a.out.emit("summary", t.sum)
	} else {
		a.out.printf("%s", table.String())
		for _, n := range rules {
			if n.Wrong == 0 {
				continue
			}
			a.out.printf("\n%s calls wrong\n", term.Quote(n.File+":"+n.Name))
			for _, l := range n.show {
				a.out.printf("  %s\n", l)
			}
			if more := n.Wrong - len(n.show); more > 0 {
				a.out.printf("  … and %d more\n", more)
			}
		}
		a.out.printf("\n%s of %s: %d right, %d wrong, %d of which no rule speaks\n", entries(t.sum.Entries), term.Quote(t.account), t.sum.Right, t.sum.Wrong, t.sum.Unruled)
	}
	if t.sum.Wrong+t.sum.Unread > 0 {
		return exitWith(exitFindings)
	}
	return nil
}
