package check

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"rightful"
	"rightful/internal/snapshot"
	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
)

// In a tree that was made anew every entry becomes as it was recorded, where its rule accepts that, though the rule accepts
// what it is as well; no privilege and nobody else's ownership comes back with it. In any other tree what is right stays.
func TestARebuiltTreeBecomesAsRecorded(t *testing.T) {
	o := world(t, healthy+`
		f 0644 20001:20001 home/alice/public_html/cron.sh
		f 0644 20001:20001 home/alice/public_html/.env
		f 0644 20001:20001 home/alice/public_html/closed.html
		f 0644 20001:20001 home/alice/public_html/app.php
		f 0755 20001:20001 home/alice/public_html/suid
		f 0755 20001:20001 home/alice/public_html/capable
		f 0644 20001:20001 home/alice/public_html/acl.html
		f 0644 20001:20001 home/alice/public_html/roots.html
		f 0644 20001:20001 home/alice/public_html/bobs.html
		f 0644 20001:20001 home/alice/public_html/unknown.html
		d 0755 20001:20001 home/alice/public_html/dir
		f 0644 20001:20001 home/alice/public_html/was-a-dir
	`, "alice", "bob")
	file := func(rel string, uid, gid uint32, mode rightful.Mode) snapshot.Entry {
		return snapshot.Entry{Rel: "public_html/" + rel, Kind: rightful.KindFile, Meta: rightful.Meta{UID: uid, GID: gid, Mode: mode}, Links: 1}
	}
	dir := func(rel string, gid uint32, mode rightful.Mode) snapshot.Entry {
		e := file("", alice, gid, mode)
		e.Rel, e.Kind = rel, rightful.KindDir
		return e
	}
	capable, acl := file("capable", alice, alice, 0o750), file("acl.html", alice, alice, 0o640)
	capable.Meta.Caps = treetest.NetBind
	acl.Meta.ACL, _ = rightful.ParseACL("user::rw-,user:33:r--,group::---,mask::r--,other::---")
	entries := []snapshot.Entry{
		dir("", alice, 0o711), dir("public_html", 33, 0o750), dir("public_html/dir", 33, 0o2750), dir("public_html/was-a-dir", alice, 0o700),
		file("cron.sh", alice, alice, 0o700), file(".env", alice, alice, 0o600), file("closed.html", alice, alice, 0o600),
		file("app.php", alice, alice, 0o600), file("suid", alice, alice, 0o6750), capable, acl,
		file("roots.html", 0, 0, 0o644), file("bobs.html", bob, bob, 0o644),
	}
	slices.SortFunc(entries, func(a, b snapshot.Entry) int { return snapshot.Compare(a.Rel, b.Rel) })
	st, err := snapshot.Open(filepath.Join(t.TempDir(), "state"), o.Server)
	if err != nil {
		t.Fatal(err)
	}
	k, err := st.Create(snapshot.Header{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := k.Account(snapshot.Account{Account: "alice", UID: alice, GID: alice, Home: "/home/alice"})
	if err == nil {
		err = w.Base("/home/alice", "")
	}
	for i := range entries {
		err = errors.Join(err, w.Add(&entries[i]))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	sn, err := k.Commit()
	if err != nil {
		t.Fatal(err)
	}
	changes := func(rebuilt bool) map[string]string {
		o := o
		o.Plan, o.Truth = true, &Truth{Store: st, Snapshots: []*snapshot.Snapshot{sn}, Rebuilt: rebuilt}
		got := map[string]string{}
		for _, r := range reports(t, o) {
			for _, c := range r.Changes {
				got[c.Path()[len("/home/"):]] = fmt.Sprintf("%d:%d %04o %d %s", c.After.UID, c.After.GID, c.After.Mode, len(c.After.Caps), c.After.ACL)
			}
		}
		return got
	}
	if got := changes(false); len(got) > 0 {
		t.Errorf("in a tree that was there: %v", got)
	}
	want := map[string]string{
		"alice/public_html/.env":     "20001:20001 0600 0 ",
		"alice/public_html/cron.sh":  "20001:20001 0700 0 ",
		"alice/public_html/app.php":  "20001:20001 0600 0 ",
		"alice/public_html/suid":     "20001:20001 0750 0 ",
		"alice/public_html/capable":  "20001:20001 0750 0 ",
		"alice/public_html/acl.html": "20001:20001 0640 0 user::rw-,user:33:r--,group::---,mask::r--,other::---",
		"alice/public_html/dir":      "20001:33 2750 0 ",
	}
	if diff := cmp.Diff(want, changes(true)); diff != "" {
		t.Errorf("a rebuilt tree (-want +got):\n%s", diff)
	}
}
