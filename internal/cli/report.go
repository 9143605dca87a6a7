package cli

import (
	"encoding/csv"
	"fmt"
	"maps"
	"slices"
	"strings"

	"rightful"
	"rightful/internal/check"
	"rightful/internal/term"
)

// A reporter prints what check finds, as it comes.
type reporter interface {
	add(*check.Report)
	// distrusted adds a rule that most of the server disagrees with.
	distrusted(*rightful.Finding)
	// end prints the sum and gives the exit code.
	end(*tally) int
	// cannot turns an error that ended the check into the form's own.
	cannot(error) error
}

// formats are what check prints.
var formats = []string{"table", "json", "csv", "nagios"}

func (a *app) reporter(format string) (reporter, error) {
	if a.cfg.JSON {
		format = "json"
	}
	switch format {
	case "table":
		return &textReporter{a: a, sites: term.Table{Head: []string{"site", "account", "state", ">status", ">blocked", "culprit", "why"}}}, nil
	case "json":
		return jsonReporter{a}, nil
	case "csv":
		r := &csvReporter{a: a, w: csv.NewWriter(a.out.w)}
		a.out.keep(r.w.Write([]string{"account", "site", "state", "status", "blocked", "culprit", "why"}))
		return r, nil
	case "nagios":
		return &nagiosReporter{a: a}, nil
	}
	return nil, fail(exitUsage, fmt.Errorf("unknown format %q: it must be table, json, csv or nagios", format), a.cmd+" --help")
}

func plainExit(t *tally) int {
	if t.bad {
		return exitFindings
	}
	return exitOK
}

// jsonReporter prints JSON lines.
type jsonReporter struct{ a *app }

func (j jsonReporter) add(r *check.Report) {
	for i := range r.Findings {
		j.a.out.emit("finding", r.Findings[i])
	}
	if r.Gap != nil {
		j.a.out.emit("backup", r.Gap)
	}
	for i := range r.Notes {
		j.a.out.emit("note", r.Notes[i])
	}
	for _, v := range r.Now {
		j.a.out.emit("site", v)
	}
}

func (j jsonReporter) distrusted(f *rightful.Finding) { j.a.out.emit("finding", f) }

func (j jsonReporter) end(t *tally) int {
	j.a.out.emit("summary", t)
	return plainExit(t)
}

func (j jsonReporter) cannot(err error) error { return err }

// csvReporter prints one line for each site that is not well, for those who must write to customers.
type csvReporter struct {
	a *app
	w *csv.Writer
}

func (c *csvReporter) add(r *check.Report) {
	for _, v := range r.Now {
		if v.State != rightful.SiteOK {
			c.a.out.keep(c.w.Write([]string{
				term.Clean(v.Account), term.Clean(v.Site), string(v.State), fmt.Sprint(v.Status), fmt.Sprint(v.Blocked), csvText(v.Culprit), csvText(v.Why),
			}))
		}
	}
}

// csvText is a customer's text for a cell: harmless on a terminal, and not taken for a formula by a spreadsheet.
func csvText(s string) string {
	s = term.Clean(s)
	if s != "" && strings.ContainsRune("=+-@", rune(s[0])) {
		return "'" + s
	}
	return s
}

func (c *csvReporter) distrusted(*rightful.Finding) {}

func (c *csvReporter) end(t *tally) int {
	c.w.Flush()
	c.a.out.keep(c.w.Error())
	return plainExit(t)
}

func (c *csvReporter) cannot(err error) error { return err }

// nagiosReporter prints one line with performance data, and exits as monitoring plugins do: 0 OK, 1 WARNING, 2 CRITICAL,
// 3 UNKNOWN.
type nagiosReporter struct {
	a    *app
	down []string
}

func (n *nagiosReporter) add(r *check.Report) {
	for _, v := range r.Now {
		if v.State == rightful.SiteDown && len(n.down) < maxShown {
			n.down = append(n.down, v.Site)
		}
	}
}

func (n *nagiosReporter) distrusted(*rightful.Finding) {}

func (n *nagiosReporter) end(t *tally) int {
	code, word := 0, "OK"
	switch {
	case t.Down > 0:
		code, word = 2, "CRITICAL"
	case t.bad:
		code, word = 1, "WARNING"
	}
	names, gaps := "", ""
	if t.Gaps > 0 {
		gaps = fmt.Sprintf(", %d backups incomplete", t.Gaps)
	}
	if len(n.down) > 0 {
		names = ": " + strings.ReplaceAll(quoteAll(n.down), "|", "/")
	}
	n.a.out.printf("RIGHTFUL %s - %d of %d sites down, %d broken, %d exposed, %d findings%s%s | down=%d;;1;0;%d broken=%d;1;;0;%d exposed=%d;1 findings=%d;1 incomplete_backups=%d entries=%d time=%.2fs\n",
		word, t.Down, t.Sites, t.Broken, t.Exposed, t.Findings, gaps, names, t.Down, t.Sites, t.Broken, t.Sites, t.Exposed, t.Findings, t.Gaps, t.Entries, t.Seconds)
	return code
}

func (n *nagiosReporter) cannot(err error) error {
	n.a.out.printf("RIGHTFUL UNKNOWN - %s\n", strings.ReplaceAll(term.Line(err.Error()), "|", "/"))
	return exitWith(3)
}

// textReporter prints for a person: the sites first.
type textReporter struct {
	a     *app
	sites term.Table
	lines []string
	fixes int
}

// maxShown is how many findings of one account and problem are listed for a person; --verbose lists all.
const maxShown = 10

func (x *textReporter) add(r *check.Report) {
	a := x.a
	for _, v := range r.Now {
		if v.State == rightful.SiteOK {
			continue
		}
		culprit := v.Culprit
		if culprit == "" {
			culprit = "-"
		}
		status := "-"
		if v.Status != 0 {
			status = fmt.Sprint(v.Status)
		}
		state := string(v.State)
		if v.State == rightful.SiteDown {
			state = a.paint(term.Red, state)
		}
		x.sites.Row(v.Site, v.Account, state, status, fmt.Sprint(v.Blocked), culprit, v.Why)
	}
	for _, n := range r.Notes {
		a.detail("%s: %s", term.Quote(n.Path), n.Note)
	}
	seen := map[rightful.Problem]int{}
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Want != nil && f.Accept == "" {
			x.fixes++
		}
		if seen[f.Problem]++; seen[f.Problem] > maxShown && !a.cfg.Verbose {
			continue
		}
		x.lines = append(x.lines, a.findingLines(f)...)
	}
	for _, p := range slices.Sorted(maps.Keys(seen)) {
		if n := seen[p] - maxShown; n > 0 && !a.cfg.Verbose {
			x.lines = append(x.lines, fmt.Sprintf("        … and %d more %s in account %s", n, p, term.Quote(r.Account.Name)))
		}
	}
	if r.Gap != nil {
		x.lines = append(x.lines, gapLines(r.Gap)...)
	}
}

// gapLines is what the next backup of an account would lack, for a person.
func gapLines(g *check.Gap) []string {
	var what []string
	if n := g.Unreadable - g.Directories; n > 0 {
		what = append(what, counted(n, "file", "files"))
	}
	if g.Directories > 0 {
		what = append(what, counted(g.Directories, "directory", "directories")+" with all beneath")
	}
	lines := []string{fmt.Sprintf("backup  incomplete  account %s: its own user makes the next one and cannot read %s", term.Quote(g.Account), strings.Join(what, " and "))}
	for _, s := range g.Samples {
		lines = append(lines, "        "+term.Quote(s.Path))
	}
	if n := g.Unreadable - len(g.Samples); n > 0 {
		lines = append(lines, fmt.Sprintf("        … and %d more", n))
	}
	return lines
}

func (x *textReporter) distrusted(f *rightful.Finding) {
	x.lines = append(x.lines, fmt.Sprintf("%-7s %s  [%s]", f.Effect, f.Problem, f.Rule), "        "+f.Note,
		"        to apply it all the same: "+x.a.again("fix", "--accept="+f.Accept))
}

// decidedBy says what a finding comes from: a rule, a snapshot, or a rule and a snapshot that satisfies it.
func decidedBy(f *rightful.Finding) string {
	switch {
	case f.Source == "":
		return f.Rule
	case f.Rule == "":
		return "snapshot " + f.Source
	}
	return f.Rule + ", as in snapshot " + f.Source
}

// findingLines is one finding for a person.
func (a *app) findingLines(f *rightful.Finding) []string {
	line := fmt.Sprintf("%-7s %s  %s", f.Effect, f.Problem, term.Quote(f.Path))
	if f.Want != nil {
		line += "  " + a.names().diff(f.Have, *f.Want)
	}
	if by := decidedBy(f); by != "" {
		line += "  [" + by + "]"
	}
	lines := []string{line}
	if f.Note != "" {
		lines = append(lines, "        "+term.Line(f.Note))
	}
	if f.Accept != "" && (f.Problem == check.OverQuota || !strings.HasPrefix(f.Accept, check.RiskQuota+":")) {
		lines = append(lines, "        to take that risk: "+a.again("fix", f.Account, "--accept="+f.Accept))
	}
	return lines
}

func (x *textReporter) end(t *tally) int {
	a := x.a
	if x.sites.Len() > 0 {
		a.out.printf("%s\n", x.sites.String())
	}
	for _, l := range x.lines {
		a.out.printf("%s\n", l)
	}
	if len(x.lines) > 0 {
		a.out.printf("\n")
	}
	var parts []string
	for _, e := range rightful.Effects {
		if n := t.effects[e]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, e))
		}
	}
	if len(parts) == 0 {
		parts = []string{"nothing is wrong"}
	}
	gaps := ""
	if t.Gaps > 0 {
		gaps = "; next backup incomplete: " + accounts(t.Gaps)
	}
	a.out.printf("%s, %s in %.2f s: %d of %s down, %d broken; findings: %s%s\n",
		accounts(t.Accounts), entries(t.Entries), t.Seconds, t.Down, counted(t.Sites, "site", "sites"), t.Broken, strings.Join(parts, ", "), gaps)
	if x.fixes > 0 {
		a.note("hint: %s", a.again("fix", "--dry-run"))
	}
	return plainExit(t)
}

func (x *textReporter) cannot(err error) error { return err }
