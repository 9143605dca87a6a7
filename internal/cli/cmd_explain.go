package cli

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/check"
	"rightful/internal/term"
	"rightful/internal/tree"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newExplain(a *app) *cobra.Command {
	as := ""
	return a.command(verb{
		use:   "explain PATH|URL",
		short: "who may reach a path, which rule applies, which component stops it",
		does: `Show every component from / to a path with its owner, group, mode and ACL, and for the web server, for PHP and for
whoever --as names, which component stops them and what they lack there. Then the rule that decides about the path, the
file it stands in, and what it wants.

Of a URL (http://HOST/PATH, https://HOST/PATH, HOST/PATH) it also shows which virtual host answers and why, where the path
is mapped, what the answer is and what decides it, and the smallest change that would cure it.`,
		never: `It never changes anything, never makes a request, and never opens what is at the path but a .htaccess file or the
first line of a CGI script.`,
		examples: `
			rightful explain /home/alice/public_html/index.php
			# could bob read it?
			rightful explain /home/alice/public_html/.env --as bob
			# why is this page refused?
			rightful explain https://alice.example/img/a.png`,
		exits: map[int]string{
			exitOK:       "whoever serves the path reaches it, and all is as it should be, or as configured",
			exitFindings: "somebody who serves it is stopped, or it is not as it should be",
			exitUsage:    "wrong usage, or a path, host or user that does not exist",
		},
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&as, "as", "", "also explain for this `USER`")
		},
		args: exactlyOne("a path or URL"),
		run:  func(_ context.Context, args []string) error { return a.explain(args[0], as) },
	})
}

func (a *app) explain(name, as string) error {
	// HOST/PATH is a URL; a name without a slash is more likely a path that was meant.
	if strings.Contains(name, "://") || !path.IsAbs(name) && strings.Contains(name, "/") && !strings.HasPrefix(name, ".") {
		return a.explainURL(name, as)
	}
	if !path.IsAbs(name) {
		return fail(exitUsage, fmt.Errorf("explain %q: not an absolute path", name))
	}
	c, err := a.openChecking(nil, checkFlags{})
	if err != nil {
		return err
	}
	defer c.close()
	more, err := a.explainAs(c, as)
	if err != nil {
		return err
	}
	x, err := check.Explain(c.opts, name, more)
	if err != nil {
		return fail(exitCannot, err)
	}
	if a.cfg.JSON {
		a.explainJSON(x)
	} else {
		a.explainText(x)
	}
	if x.Err != nil {
		if tree.IsNotExist(x.Err) {
			return fail(exitUsage, x.Err)
		}
		return fail(exitFindings, x.Err)
	}
	stopped := slices.ContainsFunc(x.Access, func(ac check.Access) bool { return ac.Stop >= 0 && ac.Serves })
	if stopped && x.Site != "" || x.Finding != nil {
		return exitWith(exitFindings)
	}
	return nil
}

// explainAs gives the user that --as names.
func (a *app) explainAs(c *checking, as string) ([]check.As, error) {
	if as == "" {
		return nil, nil
	}
	u, ok := c.ps.Users.ByName(as)
	if !ok {
		var known []string
		for _, u := range c.ps.Users.All() {
			known = append(known, u.Name)
		}
		return nil, a.mistyped("user", as, known)
	}
	return []check.As{{Role: as, Identity: rightful.Identity{UID: u.UID, GIDs: c.ps.Users.Groups(as)}}}, nil
}

func (a *app) explainText(x *check.Explanation) {
	where := "it belongs to no account"
	if x.Account != "" {
		where = "account " + term.Quote(x.Account)
	}
	if x.Site != "" {
		where += ", site " + term.Quote(x.Site)
	}
	a.out.printf("%s: %s\n\n", term.Quote(x.Path), where)
	a.explainWay(x)
	above := slices.IndexFunc(x.Access, func(ac check.Access) bool { return ac.Stop >= 0 && ac.Stop < len(x.Components)-1 })
	if above >= 0 {
		a.note("hint: %s", a.again("explain", x.Components[x.Access[above].Stop].Path))
	}
	if len(x.Rules) == 0 {
		a.out.printf("rule: none says anything about it\n")
		return
	}
	r := x.Rules[0].Rule
	a.out.printf("rule: %s: %s\n", r, term.Line(r.Title))
	f := x.Finding
	switch {
	case f == nil && x.Err == nil:
		a.out.printf("it is as it should be\n")
	case f != nil:
		a.out.printf("%s: %s", f.Problem, check.Catalogue[f.Problem])
		if f.Want != nil {
			a.out.printf(": %s", a.names().diff(f.Have, *f.Want))
		}
		a.out.printf("\n")
		if f.Source != "" {
			a.out.printf("  as snapshot %s recorded it, which the rule accepts\n", f.Source)
		}
		if f.Note != "" {
			a.out.printf("  %s\n", term.Line(f.Note))
		}
		if f.Accept != "" {
			a.note("hint: %s", a.again("fix", f.Account, "--accept="+f.Accept))
		} else if f.Want != nil {
			a.note("hint: %s", a.again("fix", f.Account))
		}
	}
}

// explainWay shows every component with what each identity needs of it, and how far they get.
func (a *app) explainWay(x *check.Explanation) {
	t := term.Table{Head: []string{"component", "type", "owner", "mode", "acl"}}
	for _, ac := range x.Access {
		t.Head = append(t.Head, ac.Role)
	}
	for i, c := range x.Components {
		name := c.Path // the table quotes
		if c.Target != "" {
			name += " -> " + c.Target
		}
		row := []string{name, c.Stat.Kind.String(), a.names().owner(c.Meta.UID, c.Meta.GID), c.Meta.Mode.String(), orDash(c.Meta.ACL.String())}
		for _, ac := range x.Access {
			cell := "-"
			switch need := check.Needs(c.Stat.Kind, ac.Needs[i]); {
			case ac.Needs[i] == 0:
			case ac.Stop == i:
				cell = "NO " + need
			case ac.Stop < 0 || i < ac.Stop:
				cell = need
			case ac.Identity.UID != 0 && !c.Meta.Allowed(ac.Identity, ac.Needs[i]):
				cell = "no " + need
			default:
				cell = "(" + need + ")"
			}
			row = append(row, cell)
		}
		t.Row(row...)
	}
	a.out.printf("%s\n", t.String())
	for _, ac := range x.Access {
		a.out.printf("%s\n", a.accessLine(x, ac))
	}
}

// accessLine says in words how far an identity gets, and why no further.
func (a *app) accessLine(x *check.Explanation, ac check.Access) string {
	who := fmt.Sprintf("%s (uid %d, gids %v)", term.Quote(ac.Role), ac.Identity.UID, ac.Identity.GIDs)
	if ac.Stop < 0 {
		if x.Err != nil {
			return who + ": is not stopped as far as the path leads"
		}
		return who + ": reaches it"
	}
	c := x.Components[ac.Stop]
	return fmt.Sprintf("%s: stopped at %s: it lacks %s, being %s there, who have %s", who, term.Quote(c.Path),
		check.Needs(c.Stat.Kind, ac.Needs[ac.Stop]), check.Class(c.Meta, ac.Identity), rightful.PermString(c.Meta.Granted(ac.Identity)))
}

type componentJSON struct {
	Path    string        `json:"path"`
	PathB64 []byte        `json:"path_b64,omitempty"`
	Kind    rightful.Kind `json:"type"`
	rightful.Meta
	Target    string `json:"target,omitempty"`
	TargetB64 []byte `json:"target_b64,omitempty"`
}

type accessJSON struct {
	Role string `json:"role"`
	rightful.Identity
	Reaches    bool   `json:"reaches"`
	Culprit    string `json:"culprit,omitempty"`
	CulpritB64 []byte `json:"culprit_b64,omitempty"`
	Need       string `json:"need,omitempty"`
	Class      string `json:"class,omitempty"`
}

func (a *app) explainJSON(x *check.Explanation) {
	a.explainWayJSON(x)
	if x.Finding != nil {
		a.out.emit("finding", x.Finding)
	}
	rule := ""
	if len(x.Rules) > 0 {
		rule = x.Rules[0].Rule.String()
	}
	a.out.emit("summary", struct {
		Path    string `json:"path"`
		PathB64 []byte `json:"path_b64,omitempty"`
		Account string `json:"account,omitempty"`
		Site    string `json:"site,omitempty"`
		Rule    string `json:"rule,omitempty"`
	}{x.Path, rightful.RawPath(x.Path), x.Account, x.Site, rule})
}

// explainWayJSON prints the components and how far each identity gets.
func (a *app) explainWayJSON(x *check.Explanation) {
	for _, c := range x.Components {
		a.out.emit("component", componentJSON{c.Path, rightful.RawPath(c.Path), c.Stat.Kind, c.Meta, c.Target, rightful.RawPath(c.Target)})
	}
	for _, ac := range x.Access {
		j := accessJSON{Role: ac.Role, Identity: ac.Identity, Reaches: ac.Stop < 0 && x.Err == nil}
		if ac.Stop >= 0 {
			c := x.Components[ac.Stop]
			j.Culprit, j.CulpritB64 = c.Path, rightful.RawPath(c.Path)
			j.Need, j.Class = check.Needs(c.Stat.Kind, ac.Needs[ac.Stop]), check.Class(c.Meta, ac.Identity)
		}
		a.out.emit("access", j)
	}
}
