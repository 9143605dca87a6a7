package cli

import (
	"fmt"
	"testing"

	"rightful"
	"rightful/internal/panel"
	"rightful/internal/web"

	"github.com/google/go-cmp/cmp"
)

// A site is asked by a real name at every address, front page and refused pages; where it has no name that can be sent,
// nothing is asked.
func TestASiteIsAskedByARealNameAtEveryAddress(t *testing.T) {
	before := rightful.Verdict{Site: "a", Samples: []string{"/x.css"}}
	for _, c := range []struct {
		domains []string
		live    bool
		want    []string
	}{
		{[]string{"*.a.example", "a.example"}, true, []string{
			"a.example http://:80 /", "a.example http://:80 /x.css", "a.example http://192.0.2.1:80 /", "a.example http://192.0.2.1:80 /x.css",
			"a.example https://:443 /", "a.example https://:443 /x.css",
		}},
		{[]string{"*.a.example"}, true, nil},
		{nil, true, nil},
		{[]string{"a.example"}, false, nil},
	} {
		acct := &panel.Account{Account: rightful.Account{Sites: []rightful.Site{
			{Name: "b", Domains: []string{"b.example"}, Listen: []string{"http://:80"}},
			{Name: "a", Domains: c.domains, Listen: []string{"http://:80", "http://192.0.2.1:80", "https://:443"}},
		}}}
		var got []string
		for _, q := range (&verifier{live: c.live}).requests(acct, before) {
			got = append(got, fmt.Sprint(q.Host, " ", q.Listen, " ", q.Path))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%q, live %v (-want +got):\n%s", c.domains, c.live, diff)
		}
	}
}

// What answers prove, held against those before.
func TestAnswersAreHeldAgainstThoseBefore(t *testing.T) {
	cure := [2]rightful.SiteState{rightful.SiteDown, rightful.SiteOK}
	none := [2]rightful.SiteState{rightful.SiteOK, rightful.SiteOK}
	for _, c := range []struct {
		name     string
		states   [2]rightful.SiteState
		was, now []int
		want     comparison
	}{
		{"cured", cure, []int{403}, []int{200}, better},
		{"cured, to a redirect", cure, []int{404}, []int{302}, better},
		{"cured at one page, served at the other", cure, []int{403, 200}, []int{200, 200}, better},
		{"cured at one page, worse at the other", cure, []int{403, 200}, []int{200, 403}, lower},
		{"as before", cure, []int{403}, []int{403}, asBefore},
		{"refused otherwise", cure, []int{403}, []int{404}, asBefore},
		{"served all along proves no cure", cure, []int{200}, []int{200}, unproved},
		{"served all along proves that nothing is worse", none, []int{200}, []int{200}, asBefore},
		{"worse", none, []int{200}, []int{500}, lower},
		{"no answer any more", none, []int{403}, []int{0}, lower},
		{"refused, now an error", cure, []int{403}, []int{503}, lower},
		{"refused, now in maintenance", cure, []int{403}, []int{-503}, unproved},
		{"in maintenance, files served again", cure, []int{403, 403}, []int{-503, 200}, better},
		{"served, now in maintenance", none, []int{200}, []int{-503}, lower},
		{"an error before", none, []int{500}, []int{500}, unproved},
		{"an error before, now refused", none, []int{500}, []int{403}, unproved},
		{"an error before, now served", none, []int{500}, []int{200}, better},
		{"nothing before, nothing now", none, []int{0}, []int{0}, unproved},
		{"one address without an answer, one cured", cure, []int{0, 403}, []int{0, 200}, better},
		{"nothing asked", none, nil, nil, unproved},
	} {
		b := &siteBase{Before: rightful.Verdict{State: c.states[0]}, After: rightful.Verdict{State: c.states[1]}}
		var now []web.Answer
		for i := range c.was {
			b.Requests = append(b.Requests, web.Request{Host: "a.example", Path: "/"})
			b.Answers = append(b.Answers, baseAnswer{c.was[i], web.ClassOf(c.was[i])})
			a := web.Answer{Status: max(c.now[i], -c.now[i]), Later: c.now[i] < 0}
			a.Class = web.ClassOf(a.Status)
			now = append(now, a)
		}
		if l := b.look(now); l.got != c.want || (l.why != "") != (c.want == lower) {
			t.Errorf("%s: %d with reason %q, want %d", c.name, l.got, l.why, c.want)
		}
	}
}
