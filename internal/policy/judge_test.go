package policy

import (
	"math/rand/v2"
	"testing"

	"rightful"
)

func oneRule(t testing.TB, rule string) *Rule {
	t.Helper()
	p, err := newPolicy("[[rule]]\nname = \"r\"\npath = \"x\"\n" + rule)
	if err != nil {
		t.Fatal(err)
	}
	r := ruleFor(mustBind(t, p, bindingOf()), "/home/alice/x", rightful.KindFile)
	if r == nil {
		t.Fatal("no rule")
	}
	return r
}

func TestJudgeWithACL(t *testing.T) {
	const closedGroup = `accept = [{ owner = "user", group = "user", need = "0640", deny = "0022" }]` + "\npublic = true\n"
	for _, tt := range []struct{ name, rule, have, want, respects, stuck string }{
		{
			"mask with w is not the group's", closedGroup,
			"f alice:alice 0670 user::rw-,user:20002:rwx,group::r--,mask::rwx,other::--- x", "", "", "",
		},
		{
			"group:: with w behind the mask is not effective", closedGroup,
			"f alice:alice 0640 user::rw-,user:20002:r--,group::rw-,mask::r--,other::--- x", "", "", "",
		},
		{
			"group:: with effective w loses it, the mask stays", closedGroup,
			"f alice:alice 0660 user::rw-,user:20002:rw-,group::rw-,mask::rw-,other::--- x",
			"alice:alice 0660 user::rw-,user:20002:rw-,group::r--,mask::rw-,other::---", "open", "",
		},
		{
			"group:: gains what it needs", closedGroup,
			"f alice:alice 0640 user::rw-,user:20002:r--,group::---,mask::r--,other::--- x",
			"alice:alice 0640 user::rw-,user:20002:r--,group::r--,mask::r--,other::---", "closed", "",
		},
		{
			"the mask widens where nobody else gains", closedGroup,
			"f alice:alice 0600 user::rw-,user:20002:--x,group::r--,mask::---,other::--- x",
			"alice:alice 0640 user::rw-,user:20002:--x,group::r--,mask::r--,other::---", "closed", "",
		},
		{
			"the mask does not widen where somebody else would gain", closedGroup,
			"f alice:alice 0600 user::rw-,user:20002:r--,group::r--,mask::---,other::--- x",
			"alice:alice 0600 user::rw-,user:20002:r--,group::r--,mask::---,other::---", "closed",
			"the ACL's mask hides rights of a named user or group, and widening it would give them back",
		},
		{
			"stuck, the rest is repaired", closedGroup,
			"f root:alice 0602 user::rw-,user:20002:r--,group::r--,mask::---,other::-w- x",
			"alice:alice 0600 user::rw-,user:20002:r--,group::r--,mask::---,other::---", "owner open closed",
			"the ACL's mask hides rights of a named user or group, and widening it would give them back",
		},
		{
			"owner and other are the mode's", closedGroup,
			"f alice:alice 0246 user::-w-,user:20002:r--,group::r--,mask::r--,other::rw- x",
			"alice:alice 0644 user::rw-,user:20002:r--,group::r--,mask::r--,other::r--", "open closed", "",
		},
		{
			"a required entry is added, the mask opens for it alone", `accept = [{ acl = "user:nobody:r" }]` + "\npublic = true\n",
			"f alice:alice 0600 x", "alice:alice 0640 user::rw-,user:99:r--,group::---,mask::r--,other::---", "acl", "",
		},
		{
			"a required entry that the mask hides is let through", `accept = [{ acl = "user:nobody:r" }]` + "\npublic = true\n",
			"f alice:alice 0600 user::rw-,user:99:rw-,group::---,mask::---,other::--- x",
			"alice:alice 0640 user::rw-,user:99:r--,group::---,mask::r--,other::---", "acl", "",
		},
		{
			"a required entry never lets another through", `accept = [{ acl = "user:nobody:r" }]` + "\npublic = true\n",
			"f alice:alice 0600 user::rw-,user:20002:r--,group::---,mask::---,other::--- x",
			"alice:alice 0600 user::rw-,user:20002:r--,group::---,mask::---,other::---", "acl",
			"the ACL's mask hides rights of a named user or group, and widening it would give them back",
		},
		{
			"a forbidden entry goes", `accept = [{ acl = "!user:bob" }]`,
			"f alice:alice 0640 user::rw-,user:99:r--,user:20002:r--,group::---,mask::r--,other::--- x",
			"alice:alice 0640 user::rw-,user:99:r--,group::---,mask::r--,other::---", "acl", "",
		},
		{
			"with the last named entry the ACL goes, and group:: is the mode's again", `accept = [{ acl = "!*" }]`,
			"f alice:alice 0664 user::rw-,user:20002:rw-,group::r--,mask::rw-,other::r-- x", "alice:alice 0644", "acl", "",
		},
		{
			"a forbidden right goes", `accept = [{ acl = "!*:w" }]`,
			"f alice:alice 0664 user::rw-,user:20002:rw-,group::r--,mask::rw-,other::r-- x",
			"alice:alice 0664 user::rw-,user:20002:r--,group::r--,mask::rw-,other::r--", "acl", "",
		},
		{
			"a right behind the mask is none", `accept = [{ acl = "!*:w" }]`,
			"f alice:alice 0644 user::rw-,user:20002:rw-,group::r--,mask::r--,other::r-- x", "", "", "",
		},
		{
			"a minimal ACL is the mode", closedGroup,
			"f alice:alice 0644 user::rw-,group::r--,other::r-- x", "alice:alice 0644", "", "",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := oneRule(t, tt.rule)
			_, kind, have := parseEntry(t, tt.have)
			j := r.Judge(have, kind, false)
			want := tt.want
			if want == "" {
				want = metaString(have)
			}
			if got := metaString(j.Want); got != want || respects(j) != tt.respects || j.Stuck != tt.stuck || j.OK != (tt.respects == "") {
				t.Errorf("%s\n got %s %q stuck %q OK %v\nwant %s %q stuck %q", tt.have, got, respects(j), j.Stuck, j.OK, want, tt.respects, tt.stuck)
			}
			if err := j.Want.ACL.Check(); j.Want.ACL != nil && err != nil {
				t.Errorf("the ACL wanted is none: %v", err)
			}
		})
	}
}

func TestPrivilegeDoesNotCrossAnOwnerChange(t *testing.T) {
	r := oneRule(t, "kind = [\"file\", \"dir\", \"symlink\"]\n"+`accept = [{ owner = "user", group = ["user", "web"] }]`)
	for _, tt := range []struct {
		have string
		caps bool
		want string
	}{
		{"f root:alice 06755 x", true, "alice:alice 0755"},
		{"f alice:root 06755 x", true, "alice:alice 0755"},
		{"f alice:nobody 06755 x", true, "alice:nobody 6755 caps"},
		{"d root:root 02755 x", false, "alice:alice 2755"},
		{"l root:root 0777 x", false, "alice:alice 0777"},
	} {
		_, kind, have := parseEntry(t, tt.have)
		if tt.caps {
			have.Caps = []byte{1}
		}
		if got := metaString(r.Judge(have, kind, false).Want); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.have, got, tt.want)
		}
	}
}

func TestExactAsksForTheCanonicalModeOnly(t *testing.T) {
	const rule = `accept = [{ owner = "user", group = ["user", "web"], mode = "0644", need = "0400", deny = "0002" }, { owner = "web" }]`
	for _, tt := range []struct{ rule, have, want string }{
		{"public = true\n" + rule, "f alice:alice 0600 x", "alice:alice 0644"},
		{rule, "f alice:alice 0600 x", ""},                   // not public: never looser
		{rule, "f alice:alice 0664 x", "alice:alice 0644"},   //
		{rule, "f alice:nobody 0664 x", "alice:nobody 0644"}, // an accepted group is not untidy
		{rule, "f alice:alice 04755 x", ""},                  // set-id and exec bits of files stay
		{rule, "f alice:alice 04775 x", "alice:alice 4755"},  //
		{rule, "d alice:alice 02775 x", "alice:alice 2644"},  // directories have no exec bits
		{rule, "f nobody:nobody 0640 x", ""},                 // an alternative without a canonical mode
		{"secret = true\n" + rule, "f alice:alice 0440 x", "alice:alice 0640"},
		{"public = true\n" + rule, "f alice:alice 0600 user::rw-,user:99:r--,group::---,mask::r--,other::--- x", ""},
		{rule, "f root:root 0664 x", "alice:alice 0644"}, // a repair leaves nothing untidy
	} {
		r := oneRule(t, tt.rule)
		_, kind, have := parseEntry(t, tt.have)
		j := r.Judge(have, kind, true)
		want := tt.want
		if want == "" {
			want = metaString(have)
		}
		if got := metaString(j.Want); got != want || j.OK != (tt.want == "") || j.Untidy != (tt.want != "" && respects(j) == "") {
			t.Errorf("%s: %s (OK %v, untidy %v), want %s", tt.have, got, j.OK, j.Untidy, want)
		}
		if again := r.Judge(j.Want, kind, true); !again.OK {
			t.Errorf("%s: %s is still untidy", tt.have, metaString(j.Want))
		}
	}
}

func TestRepairGoesToTheFirstAlternativeThatHolds(t *testing.T) {
	const accept = `accept = [
  { when = "itk", owner = "user", deny = "0077" },
  { when = "!itk", owner = "user", group = "nosuch", deny = "0007" },
  { owner = "#20001", group = ["nosuch", "mail"], need = "0400", deny = "0002" },
  { owner = "any", group = "any", need = "0600", deny = "0077" },
]`
	r := oneRule(t, accept)
	for have, want := range map[string]int{
		"f alice:mail 0644 x":  2,
		"f bob:bob 0600 x":     3,
		"f alice:alice 0644 x": 2,
	} {
		_, kind, m := parseEntry(t, have)
		if j := r.Judge(m, kind, false); j.Alternative != want {
			t.Errorf("%s: alternative %d, want %d", have, j.Alternative, want)
		}
	}
}

func TestRuleThatNamesNobodyIsNotThere(t *testing.T) {
	p, err := newPolicy("[[rule]]\nname = \"all\"\npath = \"**\"\naccept = [{ owner = \"user\" }]\n" +
		"[[rule]]\nname = \"mailman\"\npath = \"**\"\naccept = [{ group = \"mailman\" }]\n" +
		"[[rule]]\nname = \"itk\"\npath = \"**\"\naccept = [{ when = \"itk\", owner = \"user\" }]\n")
	if err != nil {
		t.Fatal(err)
	}
	if r := ruleFor(mustBind(t, p, bindingOf()), "/home/alice/x", rightful.KindFile); r == nil || r.String() != "test.toml:all" {
		t.Errorf("rule %v, want all", r)
	}
	if r := ruleFor(mustBind(t, p, bindingOf("itk")), "/home/alice/x", rightful.KindFile); r == nil || r.Name != "itk" {
		t.Errorf("rule %v, want itk", r)
	}
}

func TestNoChangeOfGroupShowsAPrivateFileToTheWebServer(t *testing.T) {
	bd := bindingOf()
	bd.Web.GIDs = append(bd.Web.GIDs, alice)
	b := mustBind(t, mustLoad(t, "plain"), bd)
	for have, want := range map[string]string{
		"f root:root 0640 public_html/.env":       "alice:alice 0600",
		"f root:root 0640 public_html/notes.json": "alice:alice 0600",
		"f root:root 0664 public_html/notes.json": "alice:alice 0644",
		"f root:root 0640 public_html/a.css":      "alice:nobody 0640", // public by nature
	} {
		path, kind, m := parseEntry(t, have)
		r := ruleFor(b, path, kind)
		j := r.Judge(m, kind, false)
		if got := metaString(j.Want); got != want {
			t.Errorf("%s: %s wants %s, not %s", have, r, got, want)
		}
	}
}

// What lost the web server's group gets the group back; it is not opened to everybody instead.
func TestALostGroupComesBackInsteadOfOpeningToAll(t *testing.T) {
	for have, want := range map[string]string{
		"f alice:alice 0640 public_html/a.css":     "alice:nobody 0640",
		"d alice:alice 2750 public_html/downloads": "alice:nobody 2750",
		"f alice:alice 0600 public_html/a.css":     "alice:alice 0644",
		"d alice:alice 0700 public_html/downloads": "alice:alice 0711",
		"f alice:alice 0640 public_html/.env":      "alice:alice 0640",
		"f alice:alice 0640 public_html/index.php": "alice:alice 0640",
	} {
		for _, panel := range []string{"cpanel", "plain"} {
			b := mustBind(t, mustLoad(t, panel), bindingOf("fileprotect"))
			path, kind, m := parseEntry(t, have)
			r := ruleFor(b, path, kind)
			if got := metaString(r.Judge(m, kind, false).Want); got != want {
				t.Errorf("%s: %s wants %s, not %s", have, r, got, want)
			}
		}
	}
}

// randomMeta makes metadata that a kernel could report.
func randomMeta(r *rand.Rand) rightful.Meta {
	ids := []uint32{0, alice, bob, nobody, mail, 4_000_000_000}
	m := rightful.Meta{UID: ids[r.IntN(len(ids))], GID: ids[r.IntN(len(ids))], Mode: rightful.Mode(r.Uint32()) & rightful.ModeAll}
	if r.IntN(3) == 0 {
		m.Mode &= rightful.ModePerm
	}
	if r.IntN(3) == 0 {
		acl := rightful.ACL{
			{Tag: rightful.ACLUserObj, Perm: uint8(m.Mode >> 6 & 7)},
			{Tag: rightful.ACLGroupObj, Perm: uint8(r.IntN(8))},
			{Tag: rightful.ACLMask, Perm: uint8(m.Mode >> 3 & 7)},
			{Tag: rightful.ACLOther, Perm: uint8(m.Mode & 7)},
		}
		for range r.IntN(4) {
			tag := rightful.ACLUser
			if r.IntN(2) == 0 {
				tag = rightful.ACLGroup
			}
			acl = acl.Set(tag, ids[r.IntN(len(ids))], uint8(r.IntN(8)))
		}
		acl.Sort()
		m.ACL = acl
	}
	if r.IntN(8) == 0 {
		m.Caps = []byte{1}
	}
	return m
}

// checkJudgement holds a repair to the laws, whatever the rule.
func checkJudgement(t testing.TB, r *Rule, have rightful.Meta, kind rightful.Kind, exact bool) {
	t.Helper()
	j := r.Judge(have, kind, exact)
	bad := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s on %v %s (exact %v) wants %s: "+format,
			append([]any{r, kind, metaString(have), exact, metaString(j.Want)}, args...)...)
	}
	if j.Want.ACL != nil {
		if err := j.Want.ACL.Check(); err != nil {
			bad("%v", err)
		}
		if m, ok := j.Want.ACL.Find(rightful.ACLMask, 0); ok && m.Perm != uint8(j.Want.Mode>>3&7) {
			bad("mask and mode differ")
		}
	}
	if j.OK {
		if !j.Want.Equal(plainACL(have)) {
			bad("right, and yet changed")
		}
		return
	}
	if again := r.Judge(j.Want, kind, exact); j.Stuck == "" && !again.OK {
		bad("not right: %+v", again)
	}
	if kind == rightful.KindSymlink {
		if j.Want.Mode != have.Mode {
			bad("a link's mode changes")
		}
		return
	}
	var need rightful.Mode
	for _, a := range r.alts {
		if a.index == j.Alternative {
			need = a.need
			if exact {
				need |= a.mode
			}
		}
	}
	haveEff, wantEff := effective(have), effective(j.Want)
	gained := wantEff &^ haveEff
	if gained&^need != 0 {
		bad("gains %s, needs %s", gained, need)
	}
	if r.Secret && gained&0o077 != 0 {
		bad("a secret is loosened by %s", gained)
	}
	if gained&0o6000 != 0 {
		bad("gains a privilege")
	}
	if kind != rightful.KindDir && (have.UID != j.Want.UID || have.GID != j.Want.GID) && (j.Want.Mode&0o6000 != 0 || len(j.Want.Caps) > 0) {
		bad("a privilege crosses an owner change")
	}
	// People of no concern gain nothing that need does not give to other.
	stranger := rightful.Identity{UID: bob, GIDs: []uint32{bob}}
	if g := rightful.Mode(j.Want.Granted(stranger) &^ have.Granted(stranger)); g&^(need&7|need>>3&7) != 0 {
		// Losing the ownership or the group of an entry can give the rights of other, which were theirs to take.
		if have.UID != bob && have.GID != bob && !hasNamed(have, bob) {
			bad("a stranger gains %o", g)
		}
	}
}

func hasNamed(m rightful.Meta, id uint32) bool {
	for _, e := range m.ACL {
		if (e.Tag == rightful.ACLUser || e.Tag == rightful.ACLGroup) && e.ID == id {
			return true
		}
	}
	return false
}

// effective is the mode with what the owning group really gets.
func effective(m rightful.Meta) rightful.Mode {
	m = plainACL(m)
	if m.ACL == nil {
		return m.Mode
	}
	g, mask := groupPerm(&m)
	return m.Mode&^0o070 | rightful.Mode(g&mask)<<3
}

func TestRepairsAreRightAndGiveNobodyMoreThanNeeded(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, panel := range Panels() {
		p := mustLoad(t, panel)
		for _, facts := range [][]string{{}, {"fileprotect", "suexec"}, {"acls", "fileprotect"}, {"itk"}, {"dso"}, {"suphp", "fileprotect"}, {"ruid2", "acls", "dso"}} {
			b := mustBind(t, p, bindingOf(facts...))
			for i, r := range b.rules {
				if r == nil {
					continue
				}
				for _, kind := range p.rules[i].kinds.list() {
					for range 300 {
						checkJudgement(t, r, randomMeta(rnd), kind, rnd.IntN(4) == 0)
						if t.Failed() {
							return
						}
					}
				}
			}
		}
	}
}

func FuzzJudge(f *testing.F) {
	p := mustLoad(f, "cpanel")
	var rules []*Rule
	for _, facts := range [][]string{{"fileprotect", "suexec"}, {"acls"}, {"dso"}} {
		for _, r := range mustBind(f, p, bindingOf(facts...)).rules {
			if r != nil {
				rules = append(rules, r)
			}
		}
	}
	f.Add(uint64(1), uint64(2), uint16(3), false)
	f.Fuzz(func(t *testing.T, a, b uint64, n uint16, exact bool) {
		r := rules[int(n)%len(rules)]
		kinds := []rightful.Kind{rightful.KindFile, rightful.KindDir, rightful.KindSymlink}
		checkJudgement(t, r, randomMeta(rand.New(rand.NewPCG(a, b))), kinds[int(a%3)], exact)
	})
}
