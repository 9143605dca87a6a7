package rescue

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"rightful"
)

func hostile() *Report {
	const name = "<script>alert(1)</script>&\"'\x1b[2J\n"
	return &Report{
		Account: "alice", Home: "/home/alice", Made: time.Now(), Files: 3, Dirs: 2, Bytes: 4096,
		Sources:   []Origin{{Source: "/backup/" + name, What: name, Files: 2}},
		Furniture: []string{name},
		Sites:     []SiteState{{Site: "alice.example", After: rightful.SiteDown, Why: name}},
		Mailboxes: []Mailbox{{Address: name + "@alice.example"}},
		Missing:   &Missing{Snapshot: "s", Files: 1, Samples: []Named{NewNamed(name)}},
		Rejects:   1, Rejected: []Rejected{{Path: name, Reason: "a device"}},
		Aside: "/home/.rightful-rescue-x/home",
	}
}

func TestNoNameOfACustomersBecomesMarkupInThePage(t *testing.T) {
	var b bytes.Buffer
	if err := hostile().HTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	if strings.Contains(page, "<script") || strings.Contains(page, "&\"'") {
		t.Errorf("a name is markup:\n%s", page)
	}
	if n := strings.Count(page, "&lt;script&gt;"); n < 5 {
		t.Errorf("the page names what it should %d times, want at least 5:\n%s", n, page)
	}
}

func TestNoNameOfACustomersWritesToATerminal(t *testing.T) {
	var b bytes.Buffer
	clean := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r < ' ' {
				return '?'
			}
			return r
		}, s)
	}
	if err := hostile().Text(&b, clean); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b") || strings.Contains(b.String(), "'\n@") {
		t.Errorf("a line was not made clean:\n%q", b.String())
	}
}

func TestAnAccountIsWholeOnlyIfNothingIsKnownToBeMissing(t *testing.T) {
	whole := func() *Report {
		return &Report{
			Sites:     []SiteState{{Site: "alice.example", After: rightful.SiteOK}},
			Mailboxes: []Mailbox{{Address: "info@alice.example", Password: true, Messages: true}, {Address: "sales@alice.example", Elsewhere: true}},
			Sources:   []Origin{{}}, Missing: &Missing{},
		}
	}
	if !whole().Whole() {
		t.Fatal("a whole account is not whole")
	}
	for what, spoil := range map[string]func(*Report){
		"a site is down":                 func(r *Report) { r.Sites[0].After = rightful.SiteDown },
		"a source ends early":            func(r *Report) { r.Sources[0].Cut = "unexpected EOF" },
		"a mailbox needs a new password": func(r *Report) { r.Mailboxes[0].Password = false },
		"messages of a mailbox are gone": func(r *Report) { r.Mailboxes[0].Messages = false },
		"a document root is empty":       func(r *Report) { r.Sites[0].Empty, r.Missing = true, nil },
		"something came in meanwhile":    func(r *Report) { r.Late = &Late{} },
		"an entry was rejected":          func(r *Report) { r.Rejects = 1 },
		"check finds something":          func(r *Report) { r.Left = 1 },
		"a file is missing":              func(r *Report) { r.Missing.Files = 1 },
	} {
		r := whole()
		if spoil(r); r.Whole() {
			t.Errorf("%s: the account is called whole", what)
		}
	}
}
