package cli_test

import (
	"errors"
	"path"
	"strconv"

	"rightful"
	"rightful/internal/repair"
	"rightful/internal/tree"

	"github.com/rogpeppe/go-internal/testscript"
)

// exchange writes a plan in which alice's home changes places with another directory, or either is moved to where nothing
// stands, and sets PLAN to its ID. WITH takes Go's escapes.
func exchange(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: exchange DIR HOME WITH")
	}
	s, err := tree.OpenServer(ts.MkAbs(args[0]))
	ts.Check(err)
	defer s.Close()
	id := func(p string) (id rightful.EntryID) {
		b, err := s.OpenBase(path.Dir(p))
		ts.Check(err)
		defer b.Close()
		cur := b.Cursor()
		defer cur.Close()
		n, err := cur.Open(path.Base(p))
		if tree.IsNotExist(err) {
			return id
		}
		ts.Check(err)
		defer n.Close()
		return n.ID()
	}
	home := args[1]
	with, err := strconv.Unquote(`"` + args[2] + `"`)
	ts.Check(err)
	st, err := repair.OpenState(ts.Getenv("RIGHTFUL_STATE"), s)
	ts.Check(err)
	w, err := st.NewPlan(repair.PlanHeader{Verb: "rescue", By: "root", Command: "test"})
	ts.Check(err)
	ts.Check(errors.Join(w.Account(repair.PlanAccount{Account: "alice", UID: 20001, Home: home}), w.Change(&rightful.Change{
		Base: path.Dir(home), Rel: path.Base(home), Kind: rightful.KindDir, Effect: rightful.EffectDown, ID: id(home),
		Exchange: &rightful.Exchange{With: with, ID: id(with)},
	}), w.Commit()))
	ts.Setenv("PLAN", w.ID())
}
