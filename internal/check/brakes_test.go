package check

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"rightful"
	"rightful/internal/tree"

	"github.com/google/go-cmp/cmp"
)

// customers builds n healthy accounts, user01 and so on; each is told by odd how the home, document root and page are.
func customers(t testing.TB, n int, odd func(i int, uid int) (home, docroot, page string)) Options {
	t.Helper()
	var names []string
	var spec strings.Builder
	for i := range n {
		name, uid := fmt.Sprintf("user%02d", i+1), alice+i
		home, docroot, page := odd(i, uid)
		for _, l := range [][3]string{
			{"d", "0711", ""},
			{"d", "0750", "/public_html"},
			{"f", "0644", "/public_html/index.html"},
		} {
			own := fmt.Sprintf("%s %d:%[2]d", l[1], uid)
			switch {
			case l[2] == "" && home != "":
				own = home
			case l[2] == "/public_html":
				own = fmt.Sprintf("%s %d:%d", l[1], uid, www)
				if docroot != "" {
					own = docroot
				}
			case l[2] != "" && page != "":
				own = page
			}
			fmt.Fprintf(&spec, "%s %s home/%s%s\n", l[0], own, name, l[2])
		}
		names = append(names, name)
	}
	return world(t, spec.String(), names...)
}

// distrusted gives the rules that a census of the reports finds wrong about the server.
func distrusted(rs []*Report, accepted ...Accept) []string {
	var c Census
	for _, r := range rs {
		c.Add(r)
	}
	rules := []string{}
	for _, f := range c.Distrusted(accepted) {
		rules = append(rules, f.Rule)
	}
	return rules
}

const users = 100 // the group of all customers, as old servers have it

// oldHomes are homes in the group of all customers: nobody is harmed, but the rule wants the user's own group.
func oldHomes(n int) func(int, int) (string, string, string) {
	return func(i, uid int) (string, string, string) {
		if i >= n {
			return "", "", ""
		}
		return fmt.Sprintf("0755 %d:%d", uid, users), "", ""
	}
}

// A rule is distrusted if more than half of at least ten accounts disagree with it for no harm's sake; an accident never
// makes it so, be it everywhere or in one place.
func TestARuleIsDistrustedForAHabitAndNotForAnAccident(t *testing.T) {
	home := []string{"plain.toml:home"}
	for name, c := range map[string]struct {
		accounts int
		odd      func(i, uid int) (home, docroot, page string)
		with     func(*Options)
		accepted []Accept
		want     []string
	}{
		"a habit of all":                   {accounts: 12, odd: oldHomes(12), want: home},
		"a habit of most":                  {accounts: 12, odd: oldHomes(7), want: home},
		"a habit of half":                  {accounts: 12, odd: oldHomes(6)},
		"ten accounts":                     {accounts: 10, odd: oldHomes(10), want: home},
		"nine accounts":                    {accounts: 9, odd: oldHomes(9)},
		"accepted":                         {accounts: 12, odd: oldHomes(12), accepted: []Accept{{RiskRule, home[0]}}},
		"another accepted":                 {accounts: 12, odd: oldHomes(12), accepted: []Accept{{RiskRule, "plain.toml:docroot"}}, want: home},
		"document roots lost their group":  {accounts: 12, odd: func(_, uid int) (string, string, string) { return "", fmt.Sprintf("0750 %d:%[1]d", uid), "" }},
		"pages closed everywhere":          {accounts: 12, odd: func(_, uid int) (string, string, string) { return "", "", fmt.Sprintf("0600 %d:%[1]d", uid) }},
		"pages opened to all, everywhere":  {accounts: 12, odd: func(_, uid int) (string, string, string) { return "", "", fmt.Sprintf("0666 %d:%[1]d", uid) }},
		"right, but not canonical":         {accounts: 12, odd: func(_, uid int) (string, string, string) { return "", fmt.Sprintf("0710 %d:%d", uid, www), "" }, with: func(o *Options) { o.Exact = true }},
		"suspended accounts have no vote":  {accounts: 12, odd: oldHomes(12), with: func(o *Options) { suspend(o, 12) }},
		"the vote of those not suspended":  {accounts: 14, odd: oldHomes(14), with: func(o *Options) { suspend(o, 2) }, want: home},
		"a habit of all, and one accident": {accounts: 12, odd: oneShut, want: home},
	} {
		t.Run(name, func(t *testing.T) {
			o := customers(t, c.accounts, c.odd)
			if c.with != nil {
				c.with(&o)
			}
			if c.want == nil {
				c.want = []string{}
			}
			if diff := cmp.Diff(c.want, distrusted(reports(t, o), c.accepted...)); diff != "" {
				t.Errorf("distrusted rules (-want +got):\n%s", diff)
			}
		})
	}
}

func suspend(o *Options, n int) {
	for i := range n {
		o.World.Accounts[i].Suspended = true
	}
}

// oneShut is the habit everywhere, and in the third account a home that the web server cannot pass, by accident.
func oneShut(i, uid int) (home, docroot, page string) {
	mode := "0755"
	if i == 2 {
		mode = "0700"
	}
	return fmt.Sprintf("%s %d:%d", mode, uid, users), "", ""
}

// A distrusted rule changes nothing but what does harm; the other rules are applied.
func TestADistrustedRuleIsAppliedOnlyToWhatDoesHarm(t *testing.T) {
	o := customers(t, 12, func(i, uid int) (string, string, string) {
		home, docroot, page := oneShut(i, uid)
		if i == 5 {
			page = fmt.Sprintf("0600 %d:%[1]d", uid)
		}
		return home, docroot, page
	})
	o.Plan, o.Distrust = true, map[string]bool{"plain.toml:home": true, "plain.toml:static": true}
	changed := func() []string {
		var paths []string
		for _, r := range reports(t, o) {
			for i := range r.Changes {
				paths = append(paths, r.Changes[i].Path())
			}
			for _, f := range r.Findings {
				if f.Rule == "plain.toml:home" && (f.Problem == RuleDisagrees) != (f.Accept == "rule:plain.toml:home") {
					t.Errorf("%s: problem %q, accept %q", f.Path, f.Problem, f.Accept)
				}
			}
			for _, v := range r.Planned {
				if v.State != rightful.SiteOK {
					t.Errorf("%s is planned to be %s: %s", v.Site, v.State, v.Why)
				}
			}
		}
		return slices.Compact(paths)
	}
	if diff := cmp.Diff([]string{"/home/user03", "/home/user06/public_html/index.html"}, changed()); diff != "" {
		t.Errorf("planned (-want +got):\n%s", diff)
	}
	o.Distrust = nil
	if n := len(changed()); n != 13 {
		t.Errorf("%d entries are planned when the rule is trusted, want 13", n)
	}
}

// Nothing of a suspended account is changed unless that risk is taken; what it looks like harms nobody, and what visitors
// meet is the panel's business.
func TestASuspendedAccountIsLeftAsItIs(t *testing.T) {
	o := customers(t, 2, func(_, uid int) (string, string, string) {
		return "", fmt.Sprintf("0700 %d:%[1]d", uid), fmt.Sprintf("0600 %d:%[1]d", uid)
	})
	o.Plan = true
	suspend(&o, 1)
	rs := reports(t, o)
	got := map[string]string{}
	for _, f := range rs[0].Findings {
		got[f.Path] = fmt.Sprint(f.Problem, " ", f.Effect, " ", f.Accept, " ", f.Note, " ", len(f.Sites))
	}
	want := map[string]string{
		"/home/user01/public_html":            "locked-by-admin wrong locked:user01 the account is suspended 0",
		"/home/user01/public_html/index.html": "too-closed wrong locked:user01 the account is suspended 0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if v := rs[0].Now[0]; v.State != rightful.SiteUnknown || v.Why != "the account is suspended" || v.Status != 0 || v.Culprit != "" {
		t.Errorf("the suspended site is %+v", v)
	}
	if len(rs[0].Changes) != 0 || len(rs[1].Changes) != 2 {
		t.Errorf("%d changes for the suspended account and %d for the other, want 0 and 2", len(rs[0].Changes), len(rs[1].Changes))
	}
	o.Accept = []Accept{{RiskLocked, "user01"}}
	if n := len(reports(t, o)[0].Changes); n != 2 {
		t.Errorf("with the risk taken there are %d changes, want 2", n)
	}
}

// What the operator excludes is not judged, nor anything beneath it, wherever the pattern meets the way there.
func TestWhatIsExcludedIsNotJudged(t *testing.T) {
	shut := func(_, uid int) (string, string, string) { return "", "", fmt.Sprintf("0600 %d:%[1]d", uid) }
	for pattern, want := range map[string][2]int{ // findings of user01, of user02
		"/home/user01":              {0, 1},
		"/home/user01/public_html":  {0, 1},
		"/home/*/public_html/*.htm": {1, 1},
		"/home/*/public_html/*":     {0, 0},
		"/home":                     {0, 0},
		"/home/user0":               {1, 1},
	} {
		o := customers(t, 2, shut)
		o.Exclude = []string{pattern}
		rs := reports(t, o)
		for i, r := range rs {
			notes := 0
			for _, n := range r.Notes {
				if n.Note == "excluded by the configuration: "+pattern {
					notes++
				}
			}
			if len(r.Findings) != want[i] || notes != 1-want[i] {
				t.Errorf("%s: %s has %d findings and %d notes, want %d and %d", pattern, r.Account.Name, len(r.Findings), notes, want[i], 1-want[i])
			}
		}
		if v := rs[0].Now[0]; pattern == "/home/user01/public_html" && (v.State != rightful.SiteUnknown || v.Why != "the document root is excluded by the configuration") {
			t.Errorf("%s: the site is %+v", pattern, v)
		}
	}
}

// An account that is left out for its quota has no changes, and its sites are planned to stay as they are.
func TestAnAccountAboveItsQuotaIsPlannedToStayAsItIs(t *testing.T) {
	o := customers(t, 2, func(_, uid int) (string, string, string) {
		return "", fmt.Sprintf("0750 %d:%[1]d", uid), "0644 0:0"
	})
	o.Plan = true
	o.Quota = func(string, uint32) (tree.Quota, bool, error) { return tree.Quota{Inodes: 1, HardInodes: 1}, true, nil }
	for _, r := range reports(t, o) {
		if r.Now[0].State != rightful.SiteDown || len(r.Changes)+len(r.Quota) > 0 {
			t.Errorf("%s is %s, with %d changes that move %v", r.Account.Name, r.Now[0].State, len(r.Changes), r.Quota)
		}
		if diff := cmp.Diff(r.Now, r.Planned); diff != "" {
			t.Errorf("%s is planned to change (-now +planned):\n%s", r.Account.Name, diff)
		}
	}
}

// As many accounts are worked on at once as was asked for: no fewer, and never one more.
func TestSoManyAccountsAreWorkedOnAtOnce(t *testing.T) {
	for _, jobs := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			o := customers(t, 8, oldHomes(0))
			o.Jobs = jobs
			begun, mayEnd := make(chan int, 8), make(chan int)
			o.Wait = func(context.Context) error { begun <- 1; return nil }
			o.Walked = func(int) { <-mayEnd } // small accounts call it once, at their end
			done := make(chan error, 1)
			go func() { done <- Run(t.Context(), o, func(*Report) error { return nil }) }()
			for ended := range 8 {
				synctest.Wait() // until all that can go on waits for us
				if n, want := len(begun), min(ended+jobs, 8); n != want {
					t.Errorf("%d jobs: %d accounts are begun when %d are done, want %d", jobs, n, ended, want)
				}
				mayEnd <- 1
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}
