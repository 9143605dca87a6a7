package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rightful"
	"rightful/internal/archive"
	"rightful/internal/snapshot"

	"github.com/google/go-cmp/cmp"
)

// names are the users and groups of the server that is looked after.
type names map[string]uint32

func (n names) UserID(name string) (uint32, bool)  { id, ok := n[name]; return id, ok }
func (n names) GroupID(name string) (uint32, bool) { id, ok := n[name]; return id, ok }

// alice is the account that sources are read for: uid 20001, served by nobody (99).
func alice() *archive.Target {
	return &archive.Target{
		Account: "alice", UID: 20001, GID: 20001, Groups: []uint32{20001, 99},
		Names:  names{"alice": 20001, "bob": 20002, "nobody": 99, "www-data": 33, "root": 0},
		Others: map[uint32]string{20002: "bob"},
		KindOf: func(rel string) rightful.Kind {
			if strings.HasSuffix(rel, ".d") {
				return rightful.KindDir
			}
			return rightful.KindFile
		},
	}
}

// A result is what became of a source.
type result struct {
	confidence archive.Confidence
	reasons    string
	places     archive.Places
	layout     string
	records    []string
	counts     archive.Counts
	rejected   string
	err        error
}

// scratch is a survey's file.
func scratch(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "spool"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// judgeSource reads a source for alice, whose home holds the paths of live.
func judgeSource(t testing.TB, text []byte, target *archive.Target, live []string, places ...archive.Place) (r result) {
	t.Helper()
	o, err := archive.Open(context.Background(), bytes.NewReader(text), "")
	if err != nil {
		return result{err: err}
	}
	defer o.Close()
	s, err := archive.Read(o, scratch(t))
	if err != nil {
		return result{err: err}
	}
	c := archive.Candidate{Places: places}
	if len(places) == 0 {
		sub := archive.Subject{
			Account: target.Account, Owner: target.Owner, Home: "/home/alice", DocRoots: []string{"public_html", "shop.example"},
			Exists: func(rel string) bool { return slices.Contains(live, rel) },
		}
		if c, err = s.Layout(sub); err != nil {
			return result{err: err}
		}
	}
	r.places, r.layout = c.Places, c.Why
	tr, err := s.Truth(c.Places, target)
	if err != nil {
		t.Fatal(err)
	}
	r.confidence, r.reasons = tr.Confidence, strings.Join(tr.Reasons, "\n")
	last := ""
	err = tr.Each(func(e *snapshot.Entry) error {
		if len(r.records) > 0 && snapshot.Compare(last, e.Rel) >= 0 {
			t.Errorf("%q comes after %q", e.Rel, last)
		}
		last = e.Rel
		r.records = append(r.records, record(e))
		return nil
	})
	if err != nil && !errors.Is(err, archive.ErrNothing) {
		t.Fatal(err)
	}
	r.counts = tr.Counts
	for _, x := range s.Rejected {
		r.rejected += x.Error() + "\n"
	}
	return r
}

// record writes a record with "?" for what is not known.
func record(e *snapshot.Entry) string {
	known := func(f snapshot.Fields, s string) string {
		if e.Unknown&f != 0 {
			return "?"
		}
		return s
	}
	s := fmt.Sprintf("%q %s %s:%s %s", e.Rel, e.Kind, known(snapshot.FieldUID, fmt.Sprint(e.Meta.UID)),
		known(snapshot.FieldGID, fmt.Sprint(e.Meta.GID)), known(snapshot.FieldMode, e.Meta.Mode.String()))
	acl := e.Meta.ACL.String()
	if e.Meta.Default != nil {
		acl += " default=" + e.Meta.Default.String()
	}
	if a := known(snapshot.FieldACL, acl); a != "" {
		s += " acl=" + a
	}
	return s
}

// many is a site of ordinary modes, so that rules about few entries do not speak.
func many(prefix, owner string) string {
	var b strings.Builder
	for i := range 30 {
		fmt.Fprintf(&b, "%s/public_html/f%d %s type=file mode=0644\n", prefix, i, owner)
	}
	fmt.Fprintf(&b, "%s/public_html/run.cgi %s type=file mode=0755\n", prefix, owner)
	return b.String()
}

func TestTrapsOfImportsAreHandledAndTold(t *testing.T) {
	const named = "uid=1005 gid=1005 uname=alice gname=alice"
	site := "#mtree\n./public_html uid=1005 gid=99 uname=alice gname=nobody type=dir mode=0750\n" + many(".", named)
	rows := []struct {
		name   string
		source string
		target func(*archive.Target)
		places []archive.Place
		want   archive.Confidence
		told   string   // in the reasons, the layout or among the rejected
		has    []string // records
		hasNot []string // paths that must not be recorded
		counts func(c archive.Counts) bool
	}{
		{
			name: "names map the ids of another host", source: site, want: archive.OwnersAndModes,
			told: `the account is "alice" (1005) there, by name, and has the uid 20001 here`,
			has:  []string{`"public_html" dir 20001:99 0750 acl=?`, `"public_html/run.cgi" file 20001:20001 0755 acl=?`},
		},
		{
			name: "numbers of another host are mapped by the owner of nearly everything", want: archive.OwnersAndModes,
			source: "#mtree\n./public_html uid=1005 gid=48 type=dir mode=0750\n" + many(".", "uid=1005 gid=1005"),
			told:   "the account is taken to be 1005 there, whose nearly everything is; other ids in it mean nothing here",
			has:    []string{`"public_html" dir 20001:? 0750 acl=?`, `"public_html/run.cgi" file 20001:20001 0755 acl=?`},
		},
		{
			name: "numbers of this host are known by the account's own", want: archive.OwnersAndModes,
			source: "#mtree\n./public_html uid=20001 gid=99 type=dir mode=0750\n" + many(".", "uid=20001 gid=20001"),
			told:   "the account is 20001 there, by its number",
			has:    []string{`"public_html" dir 20001:99 0750 acl=?`},
		},
		{
			name: "the operator says who it was", want: archive.OwnersAndModes, target: func(x *archive.Target) { x.Owner = "olduser" },
			source: "#mtree\n./public_html uname=olduser gname=nobody type=dir mode=0750\n" + many(".", "uname=olduser gname=olduser"),
			told:   `the account is "olduser" there, by name`,
			has:    []string{`"public_html" dir 20001:99 0750 acl=?`, `"public_html/run.cgi" file 20001:20001 0755 acl=?`},
		},
		{
			name: "the owner of nearly everything is not taken for the account where it is another one here", want: archive.ModesOnly,
			source: "#mtree\n./public_html uname=bob gname=nobody type=dir mode=0750\n" + many(".", "uname=bob gname=bob"),
			told:   `owners are no evidence: none in it is known to be the account; most entries belong to "bob"`,
			has:    []string{`"public_html/run.cgi" file ?:? 0755 acl=?`},
		},
		{
			name: "root, as backups without owners have it, is not taken for the account", want: archive.ModesOnly,
			source: "#mtree\n./public_html uid=0 gid=99 type=dir mode=0755\n" + many(".", "uid=0 gid=0"),
			told:   "owners are no evidence: none in it is known to be the account; most entries belong to 0",
			has:    []string{`"public_html/run.cgi" file ?:? 0755 acl=?`},
		},
		{
			name: "one owner of everything is no evidence, even where it is the account", want: archive.ModesOnly,
			source: "#mtree\n./public_html " + named + " type=dir mode=0755\n" + many(".", named),
			told:   `everything has the one owner "alice" (1005), as copies and archives that do not keep owners have`,
			has:    []string{`"public_html" dir ?:? 0755 acl=?`, `"public_html/run.cgi" file ?:? 0755 acl=?`},
		},
		{
			name: "an account that owns next to nothing of it is no evidence", want: archive.ModesOnly,
			source: "#mtree\n./public_html type=dir mode=0755 uname=alice gid=0\n" + many("./a", "uid=0 gid=0") + many("./b", "uid=0 gid=0") + many("./c", "uid=0 gid=0") + many("./d", "uid=0 gid=0"),
			told:   `fewer than one entry of a hundred belongs to the account there ("alice")`,
			has:    []string{`"public_html" dir ?:? 0755 acl=?`},
		},
		{
			name: "every file with one mode is no evidence of modes", want: archive.OwnersOnly,
			source: strings.ReplaceAll(site, "mode=0755", "mode=0644"),
			told:   "modes are no evidence: every one of 31 files has the same",
			has:    []string{`"public_html/run.cgi" file 20001:20001 ? acl=?`},
		},
		{
			name: "neither owners nor modes", want: archive.Nothing,
			source: strings.ReplaceAll("#mtree\n./public_html "+named+" type=dir mode=0755\n"+many(".", named), "mode=0755", "mode=0644"),
			told:   "modes are no evidence",
		},
		{
			name: "group bits beyond those of others may be a mask", source: site, want: archive.OwnersAndModes,
			told:   "it tells nothing of ACLs: where group bits go beyond those of others, they may be the mask of one",
			counts: func(c archive.Counts) bool { return c.MaybeACL == 1 },
		},
		{
			name: "somebody else's is left out whole", want: archive.OwnersAndModes,
			source: site + "./secret uid=0 gid=0 uname=root gname=root type=file mode=0644\n./stolen uname=bob gname=bob type=file mode=0644\n",
			hasNot: []string{"secret", "stolen"}, counts: func(c archive.Counts) bool { return c.Foreign == 2 },
		},
		{
			name: "a set-id bit is not believed", source: site + "./suid " + named + " type=file mode=4755\n./sgid.d " + named + " type=dir mode=2775\n",
			want:   archive.OwnersAndModes,
			has:    []string{`"suid" file 20001:20001 ? acl=?`, `"sgid.d" dir 20001:20001 2775 acl=?`},
			counts: func(c archive.Counts) bool { return c.SetID == 1 },
		},
		{
			name: "a group that the account has nothing to do with is not believed", want: archive.OwnersAndModes,
			source: site + "./shadowed uname=alice gname=www-data type=file mode=0640\n",
			has:    []string{`"shadowed" file 20001:? 0640 acl=?`}, counts: func(c archive.Counts) bool { return c.NoGroup == 1 },
		},
		{
			name: "what not only root could have written says nothing of owners", source: site, want: archive.ModesOnly,
			target: func(x *archive.Target) { x.Forgeable = true },
			told:   "owners and groups are no evidence: not only root could have written it",
			has:    []string{`"public_html" dir ?:? 0750 acl=?`},
		},
		{
			name: "a listing that contradicts itself is not believed", want: archive.OwnersAndModes,
			source: site + "./twice " + named + " type=file mode=0600\n./twice " + named + " type=file mode=0666\n./same " + named + " type=file mode=0600\n./same " + named + " type=file mode=0600\n",
			told:   `line 35: entry "twice": it is there more than once, with different metadata; neither is believed`,
			has:    []string{`"same" file 20001:20001 0600 acl=?`}, hasNot: []string{"twice"},
		},
		{
			name: "names that differ only in case are two", want: archive.OwnersAndModes,
			source: site + "./Readme " + named + " type=file mode=0600\n./README " + named + " type=file mode=0640\n",
			has:    []string{`"Readme" file 20001:20001 0600 acl=?`, `"README" file 20001:20001 0640 acl=?`},
		},
		{
			name: "Go's numbers for modes", want: archive.OwnersAndModes,
			source: `{"struct_type":"snapshot","time":"2026-11-24T02:00:00Z"}
{"name":"public_html","type":"dir","path":"/home/alice/public_html","uid":20001,"gid":99,"mode":2151678440,"struct_type":"node"}
{"name":"x","type":"file","path":"/home/alice/public_html/x","uid":20001,"gid":20001,"mode":493,"struct_type":"node"}
{"name":"s","type":"file","path":"/home/alice/public_html/s","uid":20001,"gid":20001,"mode":8389101,"struct_type":"node"}
`,
			has:    []string{`"public_html" dir 20001:99 2750 acl=?`, `"public_html/x" file 20001:20001 0755 acl=?`, `"public_html/s" file 20001:20001 ? acl=?`},
			counts: func(c archive.Counts) bool { return c.SetID == 1 },
		},
		{
			name: "a name that a listing lost", want: archive.ModesOnly,
			source: `{"struct_type":"snapshot"}
{"name":"public_html","type":"dir","path":"/home/alice/public_html","uid":20001,"gid":99,"mode":2147484136,"struct_type":"node"}
{"name":"a","type":"file","path":"/home/alice/public_html/a` + "\uFFFD" + `","uid":20001,"gid":20001,"mode":420,"struct_type":"node"}
`,
			told: "line 3: entry \"/home/alice/public_html/a\uFFFD\": the listing is text and may have lost bytes of the name", hasNot: []string{"public_html/a"},
		},
		{
			name: "a name in which borg may have put a question mark", want: archive.OwnersAndModes,
			source: `{"type":"d","mode":"drwxr-s---","user":"alice","group":"nobody","uid":1005,"gid":99,"path":"home/alice/public_html"}
{"type":"-","mode":"-rwxr-xr-x","user":"alice","group":"alice","uid":1005,"gid":1005,"path":"home/alice/public_html/run"}
{"type":"-","mode":"-rw-r--r--","user":"alice","group":"alice","uid":1005,"gid":1005,"path":"home/alice/public_html/a?"}
`,
			told: `line 3: entry "home/alice/public_html/a?": the listing is text`, hasNot: []string{"public_html/a"},
			has: []string{`"public_html" dir 20001:99 2750 acl=?`, `"public_html/run" file 20001:20001 0755 acl=?`},
		},
		{
			name: "an ACL of names, some of whom nobody is here", want: archive.Exact,
			source: `# file: home/alice/public_html
# owner: alice
# group: nobody
# flags: -s-
user::rwx
user:www-data:r-x	#effective:r--
group::r-x
mask::r-x
other::---
default:user::rwx
default:user:alice:rwx
default:group::r-x
default:mask::rwx
default:other::---

# file: home/alice/a\040b
# owner: alice
# group: alice
user::rw-
user:stranger:rwx
group::r--
mask::rwx
other::---

# file: home/alice/plain
# owner: alice
# group: alice
user::rw-
group::r--
other::---
`,
			has: []string{
				`"public_html" dir 20001:99 2750 acl=user::rwx,user:33:r-x,group::r-x,mask::r-x,other::--- default=user::rwx,user:20001:rwx,group::r-x,mask::rwx,other::---`,
				`"a b" file 20001:20001 0640 acl=?`, `"plain" file 20001:20001 0640`,
			},
			counts: func(c archive.Counts) bool { return c.NoACL == 1 },
		},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			target := alice()
			if row.target != nil {
				row.target(target)
			}
			r := judgeSource(t, []byte(row.source), target, nil, row.places...)
			if r.err != nil {
				t.Fatal(r.err)
			}
			if r.confidence != row.want {
				t.Errorf("confidence %q, want %q: %s", r.confidence, row.want, r.reasons)
			}
			if all := r.reasons + r.layout + r.rejected; !strings.Contains(all, row.told) {
				t.Errorf("not told: %q\nbut:\n%s", row.told, all)
			}
			for _, want := range row.has {
				if !slices.Contains(r.records, want) {
					t.Errorf("no record %s in\n%s", want, strings.Join(r.records, "\n"))
				}
			}
			for _, path := range row.hasNot {
				if i := slices.IndexFunc(r.records, func(s string) bool { return strings.HasPrefix(s, fmt.Sprintf("%q ", path)) }); i >= 0 {
					t.Errorf("recorded: %s", r.records[i])
				}
			}
			if row.counts != nil && !row.counts(r.counts) {
				t.Errorf("counts %+v", r.counts)
			}
		})
	}
}

func TestTheHomeIsFoundInEveryLayout(t *testing.T) {
	entry := func(path string) string { return "./" + path + " uname=alice gname=alice type=file mode=0644\n" }
	dir := func(path string) string { return "./" + path + " uname=alice gname=nobody type=dir mode=0755\n" }
	live := []string{"public_html", "public_html/index.php", "public_html/wp-content", "public_html/wp-content/a.css", "shop.example", "shop.example/index.php", "mail"}
	rows := []struct {
		name   string
		source string
		target func(*archive.Target)
		want   archive.Place
		why    string
		err    error
	}{
		{name: "the whole server", source: entry("etc/passwd") + dir("home/bob/public_html") + dir("home/alice/public_html") + entry("home/alice/public_html/index.php"), want: archive.Place{Src: "home/alice"}, why: `the path of the home: "home/alice"`},
		{name: "below a date", source: dir("daily.0/home/alice/public_html") + entry("daily.0/home/alice/public_html/index.php"), want: archive.Place{Src: "daily.0/home/alice"}, why: `the path of the home: "daily.0/home/alice"`},
		{name: "the home alone", source: dir("public_html") + entry("public_html/index.php"), want: archive.Place{}, why: `the home is at its top: the document root "public_html" lies there`},
		{name: "the home in a directory", source: dir("alice/shop.example") + entry("alice/shop.example/index.php"), want: archive.Place{Src: "alice"}, why: `"alice" is called like the account`},
		{name: "files without directories", source: entry("alice/public_html/index.php"), want: archive.Place{Src: "alice"}},
		{name: "a cPanel package", source: entry("cpmove-alice/cp/alice") + entry("cpmove-alice/version") + dir("cpmove-alice/homedir/public_html"), want: archive.Place{Src: "cpmove-alice/homedir"}, why: `a cPanel package of "alice"`},
		{name: "a cPanel package without a top directory", source: dir("homedir/public_html") + entry("cp/alice"), want: archive.Place{Src: "homedir"}, why: `a cPanel package of "alice"`},
		{name: "a cPanel package of somebody else", source: entry("cpmove-bob/cp/bob") + dir("cpmove-bob/homedir/public_html"), err: &archive.OtherAccountError{Account: "bob"}},
		{name: "a cPanel package under another name", source: entry("cpmove-bob/cp/bob") + dir("cpmove-bob/homedir/public_html"), target: func(x *archive.Target) { x.Owner = "bob" }, want: archive.Place{Src: "cpmove-bob/homedir"}},
		{name: "what a customer made to look like a package", source: dir("alice/public_html") + entry("alice/cp/alice") + dir("alice/homedir/public_html"), want: archive.Place{Src: "alice"}},
		{name: "what a customer made to look like a package, deeper", source: dir("public_html") + entry("cpmove-x/cp/alice") + dir("cpmove-x/homedir/public_html"), want: archive.Place{}},
		{name: "what a customer made to look like the home", source: dir("public_html") + dir("home/alice/public_html") + entry("home/alice/x"), want: archive.Place{}},
		{name: "a document root alone, by its names", source: entry("index.php") + dir("wp-content") + entry("wp-content/a.css"), want: archive.Place{Dst: "public_html"}, why: `the names in it are those of the document root "public_html"; of 3 names in it that were looked up, the home has 3`},
		{name: "a document root in a directory of another name", source: entry("www/index.php") + dir("www/wp-content") + entry("www/wp-content/a.css"), want: archive.Place{Src: "www", Dst: "public_html"}},
		{name: "two document roots that look the same", source: entry("index.php"), err: archive.ErrLayout},
		{name: "nothing that is known", source: entry("boot/vmlinuz") + entry("usr/bin/env"), err: archive.ErrLayout},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			target := alice()
			if row.target != nil {
				row.target(target)
			}
			r := judgeSource(t, []byte("#mtree\n"+row.source), target, live)
			if row.err != nil {
				if r.err == nil || r.err.Error() != row.err.Error() {
					t.Fatalf("error %v, want %v (places %v)", r.err, row.err, r.places)
				}
				return
			}
			if r.err != nil {
				t.Fatal(r.err)
			}
			if diff := cmp.Diff(archive.Places{row.want}, r.places); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if !strings.Contains(r.layout, row.why) {
				t.Errorf("told %q, want %q", r.layout, row.why)
			}
		})
	}
}
