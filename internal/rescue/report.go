package rescue

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"rightful"
)

// A Report is what is told of a rescue: what is back, from when, and what is not.
type Report struct {
	Account string    `json:"account"`
	Home    string    `json:"home"`
	Made    time.Time `json:"made"`
	Sources []Origin  `json:"sources"`
	Files   int64     `json:"files"`
	Dirs    int64     `json:"dirs"`
	Links   int64     `json:"links"`
	Bytes   int64     `json:"bytes"`
	// Furniture are the directories and links that no source had and the panel's rules supplied.
	Furniture []string    `json:"furniture"`
	Sites     []SiteState `json:"sites"`
	Mailboxes []Mailbox   `json:"mailboxes"`
	// Missing is what the snapshot knew and is not back.
	Missing *Missing `json:"missing,omitempty"`
	// Late is what came into the old home, or changed there, while the new one was built.
	Late *Late `json:"late,omitempty"`
	// Rejects counts what sources held and was not taken; the first are in Rejected.
	Rejects  int64      `json:"rejects"`
	Rejected []Rejected `json:"rejected"`
	// Left counts the findings that check still has.
	Left int `json:"left"`
	// Aside is where the old home is kept; empty where there was none.
	Aside string `json:"aside,omitempty"`
	Run   string `json:"run"`
}

// An Origin is a source as the report names it.
type Origin struct {
	Source string    `json:"source"`
	What   string    `json:"what"`
	Taken  time.Time `json:"taken,omitzero"`
	Files  int64     `json:"files"`
	Bytes  int64     `json:"bytes"`
	Cut    string    `json:"cut,omitempty"`
}

// A SiteState is a site before and after.
type SiteState struct {
	Site   string             `json:"site"`
	Before rightful.SiteState `json:"before"`
	After  rightful.SiteState `json:"after"`
	Why    string             `json:"why,omitempty"`
	// Answers is the status of its front page, by a real request; 0 where none was made or nothing came.
	Answers int `json:"answers,omitempty"`
	// Empty: there is nothing in its document root but what was made anew, and names that begin with a dot.
	Empty bool `json:"empty,omitempty"`
	// Writes: PHP's user can make a file in the document root; WritesWhy says why not.
	Writes    bool   `json:"writes"`
	WritesWhy string `json:"writes_why,omitempty"`
}

// Missing compares the rebuilt home with a snapshot.
type Missing struct {
	Snapshot string    `json:"snapshot"`
	Taken    time.Time `json:"taken"`
	Files    int       `json:"files"`
	// Newer counts those that came or changed after the newest source was made; the others should have been in it.
	Newer int `json:"newer"`
	// Samples are the first of those that should have been in a source, NewerSamples the first of the others.
	Samples      []Named `json:"samples"`
	NewerSamples []Named `json:"newer_samples"`
}

// Late names files of the old home that the rebuilt one has not got, or has as they were before.
type Late struct {
	Files   int     `json:"files"`
	Samples []Named `json:"samples"`
}

// A Named is a path below the home. Names are bytes.
type Named struct {
	Path    string `json:"path"`
	PathB64 []byte `json:"path_b64,omitempty"`
}

// NewNamed names a path.
func NewNamed(rel string) Named { return Named{Path: rel, PathB64: rightful.RawPath(rel)} }

func names(all []Named) (out []string) {
	for _, n := range all[:min(shown, len(all))] {
		out = append(out, n.Path)
	}
	return out
}

// name is what the source is called to a customer: where it lies, and with what rights it is read, is not theirs to know.
func (o *Origin) name() string {
	switch kind, _, _ := strings.Cut(o.Source, ":"); {
	case o.Source == "home", kind == "vault":
		return o.What
	case kind == "restic", kind == "borg":
		return o.What + " in " + kind
	}
	return path.Base(o.Source) + " (" + o.What + ")"
}

// lost lists the mailboxes that need a new password.
func (r *Report) lost() (out []Mailbox) {
	for _, m := range r.Mailboxes {
		if !m.Password && !m.Elsewhere {
			out = append(out, m)
		}
	}
	return out
}

// Whole reports whether nothing is known to be missing.
func (r *Report) Whole() bool {
	for _, s := range r.Sites {
		if s.After != rightful.SiteOK || s.Answers >= 500 || s.Empty && r.Missing == nil {
			return false
		}
	}
	for _, o := range r.Sources {
		if o.Cut != "" {
			return false
		}
	}
	for _, m := range r.Mailboxes {
		if !m.Messages && !m.Elsewhere {
			return false
		}
	}
	return len(r.lost()) == 0 && r.Rejects == 0 && r.Left == 0 && r.Late == nil && (r.Missing == nil || r.Missing.Files == 0)
}

// A view is the report in sentences, for both of its forms. Names are quoted by whoever writes them.
type view struct {
	*Report
	When  string
	Parts []part
}

type part struct {
	Title string
	Lines []string
}

// shown is how many of a long list are told.
const shown = 20

func some(lines []string, n int) []string {
	if more := n - len(lines); more > 0 {
		lines = append(lines, fmt.Sprintf("… and %d more", more))
	}
	return lines
}

func when(t time.Time) string {
	if t.IsZero() {
		return "of an unknown time"
	}
	return "of " + t.Local().Format("2 January 2006, 15:04")
}

// view makes the sentences.
func (r *Report) view() view {
	v := view{Report: r, When: r.Made.Local().Format("2 January 2006, 15:04")}
	add := func(title string, lines []string) {
		if len(lines) > 0 {
			v.Parts = append(v.Parts, part{title, lines})
		}
	}
	back := []string{fmt.Sprintf("%d files in %d directories, %s", r.Files, r.Dirs, rightful.SizeText(r.Bytes))}
	for _, o := range r.Sources {
		line := fmt.Sprintf("%d files (%s) from %s, %s", o.Files, rightful.SizeText(o.Bytes), o.name(), when(o.Taken))
		if o.Cut != "" {
			line += "; it ends early: " + o.Cut
		}
		back = append(back, line)
	}
	add("What is back", back)
	add("Web sites", r.siteLines())
	add("Mail", r.mailLines())
	add("What is not back", r.missingLines())
	if l := r.Late; l != nil {
		line := fmt.Sprintf("%d files came or changed in the old home meanwhile, and are there only (%s)", l.Files, r.Aside)
		add("What came while it was rebuilt", append([]string{line}, some(names(l.Samples), l.Files)...))
	}
	if len(r.Furniture) > 0 {
		add("Made anew, as every account has it", some(r.Furniture[:min(shown, len(r.Furniture))], len(r.Furniture)))
	}
	var bad []string
	for _, x := range r.Rejected[:min(shown, len(r.Rejected))] {
		bad = append(bad, x.Path+": "+x.Reason)
	}
	add("Left out of what was in the backups", some(bad, int(r.Rejects)))
	if r.Aside != "" {
		add("The old home", []string{fmt.Sprintf("is kept at %s until it is removed", r.Aside)})
	}
	return v
}

func (r *Report) siteLines() (lines []string) {
	for _, s := range r.Sites {
		line := s.Site
		switch {
		case s.Empty:
			line += ": there is no page in its directory"
		case s.Answers >= 500:
			line += fmt.Sprintf(": its front page answers %d", s.Answers)
		case s.After == rightful.SiteOK:
			line += ": is served"
		case s.After == rightful.SiteUnknown:
			line += ": whether it is served is not known: " + s.Why
		default:
			line += ": is not served: " + s.Why
		}
		if s.WritesWhy != "" {
			line += "; its programs cannot write there: " + s.WritesWhy
		}
		lines = append(lines, line)
	}
	return lines
}

func (r *Report) mailLines() (lines []string) {
	for _, m := range r.Mailboxes {
		line := m.Address
		switch {
		case m.Elsewhere:
			line += ": password and account were not lost"
		case m.Password:
			line += ": the old password works"
		default:
			line += ": needs a new password"
		}
		switch {
		case m.Messages && m.Missing > 0:
			line += fmt.Sprintf(", %d of its messages are not back", m.Missing)
		case m.Messages:
			line += ", its messages are back"
		case !m.Elsewhere:
			line += ", no messages were found"
		}
		lines = append(lines, line)
	}
	if slices.ContainsFunc(r.lost(), func(m Mailbox) bool { return !slices.Contains(m.Traces, "passwd") }) {
		lines = append(lines, "mail for an address that needs a new password is refused until the mailbox is made anew in the panel")
	}
	return lines
}

func (r *Report) missingLines() []string {
	m := r.Missing
	if m == nil {
		return []string{"whether anything else is missing is not known: there is no snapshot to compare with"}
	}
	if m.Files == 0 {
		return nil
	}
	lines := []string{fmt.Sprintf("%d files that were there on %s", m.Files, m.Taken.Local().Format("2 January 2006, 15:04"))}
	older := m.Files - m.Newer
	if older > 0 && len(r.Sources) > 0 {
		lines = append(lines, fmt.Sprintf("%d should have been in the backup by their age, and were not:", older))
	}
	lines = append(lines, some(names(m.Samples), older)...)
	if m.Newer > 0 && len(r.Sources) > 0 {
		lines = append(lines, fmt.Sprintf("%d came or changed after the backup was made:", m.Newer))
	}
	return append(lines, some(names(m.NewerSamples), m.Newer)...)
}

// Text writes the report as text. clean makes a line fit for whoever reads it.
func (r *Report) Text(w io.Writer, clean func(string) string) error {
	v := r.view()
	var b strings.Builder
	fmt.Fprintf(&b, "The account %s was rebuilt on %s.\n", clean(r.Account), v.When)
	for _, p := range v.Parts {
		fmt.Fprintf(&b, "\n%s\n", p.Title)
		for _, l := range p.Lines {
			fmt.Fprintf(&b, "  %s\n", clean(l))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

//go:embed report.html
var page string

// HTML writes the report as a page that needs nothing else. Whatever names hold cannot become markup.
func (r *Report) HTML(w io.Writer) error {
	t, err := template.New("report").Parse(page)
	if err != nil {
		return err
	}
	return t.Execute(w, r.view())
}
