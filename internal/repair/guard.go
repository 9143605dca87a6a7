package repair

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"rightful"
	"rightful/internal/state"
)

// VerbGuard is the verb of a run that is not ours: a command was watched, and the plan holds what it changed.
const VerbGuard = "guard"

// ErrGuarded says that a command was watched and never compared with what was before it.
var ErrGuarded = errors.New("a guarded command cannot be resumed, only taken back")

// A Guard is what is on disk before a command is watched: from it, what the command did can be found out whenever the
// watch was cut short.
type Guard struct {
	Version int    `json:"version"`
	Run     string `json:"run"` // its name, for RecordGuard
	// Snapshot is what all that the command may touch was before, Accounts whose it is.
	Snapshot string   `json:"snapshot"`
	Accounts []string `json:"accounts"`
	// All: they are all that there are.
	All     bool      `json:"all,omitempty"`
	Started time.Time `json:"started"`
	By      string    `json:"by"`
	Command string    `json:"command"`
}

const guardExt = ".guard"

func (s *State) guardPath(id string) string { return s.dir.Join(runsDir, id+guardExt) }

// BeginGuard puts on disk that a command is about to be watched, and names the run. The lock must be held.
func (s *State) BeginGuard(g Guard) (*Guard, error) {
	if err := s.dir.Create(); err != nil {
		return nil, err
	}
	g.Version, g.Started = formatVersion, time.Now().UTC()
	g.Run = state.NewID(g.Started, s.runPath)
	b, err := json.Marshal(g)
	if err == nil {
		err = s.dir.Write(filepath.Join(runsDir, g.Run+guardExt), append(b, '\n'))
	}
	if err != nil {
		return nil, fmt.Errorf("create record of guarded run %q: %w", g.Run, state.Cause(err))
	}
	return &g, nil
}

// EndGuard forgets a watch of which there is nothing to record: the command was never started.
func (s *State) EndGuard(id string) error {
	if err := s.dir.Remove(s.guardPath(id)); err != nil {
		return fmt.Errorf("remove record of guarded run %q: %w", id, err)
	}
	return nil
}

// PendingGuard gives the watch of that name if it was cut short; nil where there is none, or where it was recorded to its
// end.
func (s *State) PendingGuard(id string) (*Guard, error) {
	if !state.ValidID(id) {
		return nil, nil
	}
	b, err := s.dir.Read(filepath.Join(runsDir, id+guardExt), 64<<20)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if o, err := s.readOutcome(id, nil); err == nil && o.end != nil {
		return nil, nil
	}
	g := &Guard{}
	if err == nil {
		err = json.Unmarshal(b, g)
	}
	if err == nil && (g.Run != id || g.Version < 1) {
		err = errDamagedOutcome
	}
	if err == nil && g.Version > formatVersion {
		err = fmt.Errorf("format version %d: %w", g.Version, ErrNewerPlan)
	}
	if err != nil {
		return nil, fmt.Errorf("read guarded run %q: %w", id, state.Cause(err))
	}
	return g, nil
}

// PendingGuards lists all watches that were cut short, oldest first. What cannot be read is an error that names it beside
// the others.
func (s *State) PendingGuards() ([]Guard, error) {
	ids, err := s.dir.IDs(runsDir, guardExt)
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	all, err := state.ReadAll(ids, s.PendingGuard)
	var out []Guard
	for _, g := range all {
		if g != nil {
			out = append(out, *g)
		}
	}
	return out, err
}

// run tells what is known of a watch that was cut short, or is under way.
func (g *Guard) run(busy bool) rightful.Run {
	r := rightful.Run{
		ID: g.Run, Verb: VerbGuard, Started: g.Started, By: g.By, Command: g.Command, Stages: []rightful.Stage{},
		State: rightful.RunInterrupted, Reason: "what the command changed was not yet looked at when the watch ended: undo does that first",
	}
	if busy {
		r.State, r.Reason = rightful.RunRunning, ""
	}
	return r
}

// RecordGuard makes a run of what a watched command did: the plan holds its changes, each with the entry before the
// command and as it was found after it. From then on it is undone like any other run. reason says how the command ended.
// The lock must be held.
func (s *State) RecordGuard(g *Guard, planID, reason string) (*rightful.Run, error) {
	p, err := s.OpenPlan(planID)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	h := outcomeHeader{
		Version: formatVersion, Run: g.Run, Plan: p.ID, SHA256: p.SHA256, Verb: VerbGuard, Changes: p.Changes, Started: g.Started,
		By: g.By, Command: g.Command,
	}
	if err := s.dir.Remove(s.runPath(g.Run)); err != nil { // the beginning of one, which a kill cut short
		return nil, fmt.Errorf("write outcome of run %q: %w", g.Run, err)
	}
	o, err := s.createOutcome(h)
	if err != nil {
		return nil, err
	}
	defer o.close()
	st := rightful.Stage{
		Stage: 1, Accounts: []string{}, Changed: p.Changes, Cured: []string{}, Uncured: []string{}, Worse: []string{}, Unverified: []string{},
		TakenBack: []string{},
	}
	run := &rightful.Run{
		ID: g.Run, Plan: p.ID, Verb: VerbGuard, State: rightful.RunDone, Started: g.Started, Ended: time.Now().UTC(), By: g.By,
		Command: g.Command, Planned: p.Changes, Changed: p.Changes, Reason: reason,
	}
	for i := range p.Accounts {
		st.Accounts = append(st.Accounts, p.Accounts[i].Account)
		if err = o.applied(p.spans[i]); err != nil {
			break
		}
	}
	run.Stages = []rightful.Stage{st}
	if err == nil {
		err = o.note(recHeader, h) // once more, at another place of the disk
	}
	if err == nil {
		err = o.note(recVerdict, st)
	}
	if err == nil {
		err = o.note(recEnd, outcomeEnd{State: run.State, Reason: reason, Time: run.Ended})
	}
	if err == nil {
		err = o.sync()
	}
	if err != nil {
		// The watch is pending still, and nothing is lost.
		return nil, fmt.Errorf("write outcome of run %q: %w", g.Run, state.Cause(err))
	}
	return run, s.EndGuard(g.Run)
}

// applied notes that all changes of one account were made.
func (o *outcomeWriter) applied(sp span) error {
	for from := sp.first; from < sp.first+sp.n; from += batchSize {
		var seqs []int
		for seq := from; seq < min(from+batchSize, sp.first+sp.n); seq++ {
			seqs = append(seqs, seq)
		}
		err := o.announce(applying, seqs)
		for _, seq := range seqs {
			if err == nil {
				err = o.result(applying, seq, result{status: stApplied})
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Watched inverts the changes that would bring entries back to what they were before a command: what the command did, in
// an order whose reverse is that of the way back.
func Watched(back []rightful.Change) []rightful.Change {
	did := slices.Clone(back)
	slices.Reverse(did)
	for i := range did {
		did[i].Before, did[i].After = did[i].After, did[i].Before
	}
	return did
}
