package repair

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"rightful"
	"rightful/internal/state"
)

// A phase says in which direction a batch works.
type phase uint8

const (
	applying  phase = 1
	reverting phase = 2 // a take-back within the run
)

// A status is what became of one change.
type status uint8

const (
	stNone    status = iota
	stBegun          // the batch was announced: after a crash, nobody knows
	stApplied        // we changed it
	stAlready        // it was as planned before we came: not ours to take back
	stSkipped        // it no longer looked as it did, or must not be touched
	stFailed         // the kernel refused; what was done before is observed
	stTakenBack
)

// A result is what became of one change, and why.
type result struct {
	status status
	reason string
	// observed is set where the entry afterwards is neither as planned (applied, already) nor as before (skipped).
	observed *rightful.Meta
}

type outcomeHeader struct {
	Version int       `json:"version"`
	Run     string    `json:"run"`
	Plan    string    `json:"plan"`
	SHA256  string    `json:"plan_sha256"`
	Verb    string    `json:"verb"`
	Undoes  string    `json:"undoes,omitempty"`
	Changes int       `json:"changes"`
	Started time.Time `json:"started"`
	By      string    `json:"by"`
	Command string    `json:"command"`
	Canary  string    `json:"canary,omitempty"`
	// Verified: the stages are judged, so there are several.
	Verified bool `json:"verified,omitempty"`
}

type outcomeBaseline struct {
	Verifier json.RawMessage `json:"verifier"`
}

type outcomeTakeBack struct {
	Account string `json:"account"`
	Reason  string `json:"reason"`
}

type outcomeEnd struct {
	State  rightful.RunState `json:"state"`
	Reason string            `json:"reason,omitempty"`
	Time   time.Time         `json:"time"`
}

// An outcomeWriter appends to the outcome of a run. Announcing a batch returns when everything so far is on disk;
// callers that announce at the same time share one sync. It is safe for concurrent use.
type outcomeWriter struct {
	f    *os.File
	mu   sync.Mutex
	cond sync.Cond
	w    fileWriter
	// Group commit: records up to synced are on disk.
	synced  int64
	syncing bool
}

// createOutcome makes the outcome of a new run. It has no name before its header is on disk, so that a crash leaves none
// that says nothing.
func (s *State) createOutcome(h outcomeHeader) (*outcomeWriter, error) {
	f, err := state.Temp(s.dir.Join(runsDir))
	if err != nil {
		return nil, fmt.Errorf("create outcome of run %q: %w", h.Run, state.Cause(err))
	}
	o := newOutcomeWriter(f, 0)
	_, o.w.err = o.w.w.WriteString(outcomeMagic)
	o.w.off = int64(len(outcomeMagic))
	err = o.w.putJSON(recHeader, h)
	if err == nil {
		err = o.w.w.Flush()
	}
	if err == nil {
		err = state.Keep(f, s.runPath(h.Run))
	}
	if err != nil {
		state.Drop(f)
		return nil, fmt.Errorf("create outcome of run %q: %w", h.Run, state.Cause(err))
	}
	o.synced = o.w.off
	return o, nil
}

// appendOutcome goes on with an outcome at off. The torn end that a crash left behind it is cut off.
func (s *State) appendOutcome(id string, off int64) (*outcomeWriter, error) {
	f, err := os.OpenFile(s.runPath(id), os.O_RDWR, 0)
	if err == nil {
		err = f.Truncate(off)
	}
	if err == nil {
		_, err = f.Seek(off, io.SeekStart)
	}
	if err != nil {
		return nil, fmt.Errorf("continue outcome of run %q: %w", id, state.Cause(err))
	}
	o := newOutcomeWriter(f, off)
	return o, nil
}

func newOutcomeWriter(f *os.File, off int64) *outcomeWriter {
	o := &outcomeWriter{f: f}
	o.w = fileWriter{w: bufio.NewWriterSize(f, 256<<10), off: off}
	o.cond.L = &o.mu
	return o
}

func (o *outcomeWriter) close() error { return o.f.Close() }

// note appends a record that need not be on disk yet.
func (o *outcomeWriter) note(kind recordKind, v any) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.putJSON(kind, v)
}

// result appends what became of a change. Losing it in a crash is harmless: the batch was announced.
func (o *outcomeWriter) result(ph phase, seq int, r result) error {
	var e state.Packer
	e.Byte(byte(ph))
	e.Uint(uint64(seq))
	e.Byte(byte(r.status))
	e.Text(r.reason)
	if r.observed == nil {
		e.Byte(0)
	} else {
		e.Byte(1)
		e.Meta(*r.observed)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.put(recResult, e.B)
}

// begin announces a batch of changes by their numbers and returns when that is on disk. Only then may they be made.
func (o *outcomeWriter) begin(ph phase, seqs []int) error {
	if err := o.announce(ph, seqs); err != nil {
		return err
	}
	return o.sync()
}

// announce is begin without waiting.
func (o *outcomeWriter) announce(ph phase, seqs []int) error {
	var e state.Packer
	e.Byte(byte(ph))
	last := 0
	for _, s := range seqs {
		e.Int(int64(s - last))
		last = s
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.put(recBegin, e.B)
}

// sync returns when everything appended so far is on disk. A failed sync is final: it is never tried again, because
// the kernel may have thrown away what it could not write and would then report success.
func (o *outcomeWriter) sync() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	want := o.w.off
	for {
		if o.w.err != nil {
			return o.w.err
		}
		if o.synced >= want {
			return nil
		}
		if o.syncing {
			o.cond.Wait()
			continue
		}
		if err := o.w.w.Flush(); err != nil {
			o.w.err = err
			o.cond.Broadcast()
			return err
		}
		upTo := o.w.off
		o.syncing = true
		o.mu.Unlock()
		err := datasync(o.f)
		o.mu.Lock()
		o.syncing = false
		if err != nil {
			o.w.err = fmt.Errorf("sync: %w", err)
		} else {
			o.synced = upTo
		}
		o.cond.Broadcast()
	}
}

// An outcome is what can be known of a run from its file.
type outcome struct {
	outcomeHeader
	status   []status // by sequence number
	observed map[int]rightful.Meta
	// reverting holds the changes whose take-back was announced and of which no result is known.
	reverting map[int]bool
	baseline  json.RawMessage
	stages    []rightful.Stage
	open      *rightful.Stage // announced and without verdict
	taken     []outcomeTakeBack
	end       *outcomeEnd
	until     int64 // where more may be appended: behind everything but a torn end
	results   int   // records of results
	damage    []rightful.Damage
}

// touched reports whether this run may have changed the entry.
func (o *outcome) touched(seq int) bool {
	switch o.status[seq] {
	case stApplied, stBegun:
		return true
	case stFailed:
		_, ok := o.observed[seq]
		return ok
	}
	return false
}

// maxChanges bounds what a damaged header can make us allocate.
const maxChanges = 1 << 26

var errDamagedOutcome = errors.New("the outcome file is damaged")

func (s *State) readOutcome(id string, problems func(seq int, ph phase, r result)) (*outcome, error) {
	if !state.ValidID(id) {
		return nil, fmt.Errorf("open run %q: %w", id, ErrNoRun)
	}
	f, err := os.Open(s.runPath(id))
	if err != nil {
		if os.IsNotExist(err) {
			err = ErrNoRun
		}
		return nil, fmt.Errorf("open run %q: %w", id, state.Cause(err))
	}
	defer f.Close()
	o, err := parseOutcome(f, problems)
	if err != nil {
		return nil, fmt.Errorf("read run %q: %w", id, err)
	}
	return o, nil
}

// parseOutcome reads every record that is whole. A torn end was never relied upon: a batch is made only when its
// announcement is on disk whole. What is damaged leaves doubts (see damage.go).
func parseOutcome(f outcomeFile, problems func(seq int, ph phase, r result)) (*outcome, error) {
	head, err := readHeader(f)
	if err != nil {
		return nil, err
	}
	o := &outcome{observed: map[int]rightful.Meta{}, reverting: map[int]bool{}}
	if err := o.record(recHeader, head, nil); err != nil {
		return nil, err
	}
	r, err := o.openRecords(f)
	if err != nil {
		return nil, err
	}
	for {
		at, kind, body, err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := o.record(kind, body, problems); err != nil {
			return nil, fmt.Errorf("at byte %d: %w", at, err)
		}
	}
	o.until = r.size
	if r.torn {
		o.until = r.good
	}
	o.doubt()
	return o, nil
}

func (o *outcome) record(kind recordKind, body []byte, problems func(seq int, ph phase, r result)) error {
	switch kind {
	case recHeader:
		var h outcomeHeader
		if err := json.Unmarshal(body, &h); err != nil || h.Version < 1 || h.Changes < 0 || h.Changes > maxChanges {
			return errDamagedOutcome
		}
		if o.Version != 0 {
			if h.Run != o.Run || h.Plan != o.Plan || h.SHA256 != o.SHA256 || h.Changes != o.Changes {
				return errDamagedOutcome // of another run
			}
			return nil
		}
		o.outcomeHeader = h
		if o.Version > formatVersion {
			return fmt.Errorf("format version %d: %w", o.Version, ErrNewerPlan)
		}
		o.status = make([]status, o.Changes)
	case recBaseline:
		var b outcomeBaseline
		if err := json.Unmarshal(body, &b); err != nil {
			return errDamagedOutcome
		}
		o.baseline = append(json.RawMessage(nil), b.Verifier...)
	case recStage:
		var st rightful.Stage
		if err := json.Unmarshal(body, &st); err != nil {
			return errDamagedOutcome
		}
		o.open = &st
	case recVerdict:
		var st rightful.Stage
		if err := json.Unmarshal(body, &st); err != nil {
			return errDamagedOutcome
		}
		o.open = nil
		// A resumed run may make a stage again.
		o.stages = append(o.stages[:max(0, min(len(o.stages), st.Stage-1))], st)
	case recTakeBack:
		var t outcomeTakeBack
		if err := json.Unmarshal(body, &t); err != nil {
			return errDamagedOutcome
		}
		o.taken = append(o.taken, t)
	case recResume:
		o.end = nil
	case recEnd:
		o.end = &outcomeEnd{}
		if err := json.Unmarshal(body, o.end); err != nil {
			return errDamagedOutcome
		}
	case recBegin:
		d := state.Unpacker{B: body}
		ph := phase(d.Byte())
		seq := 0
		for len(d.B) > 0 && d.Err == nil {
			seq += int(d.Int())
			if seq < 0 || seq >= len(o.status) {
				return errDamagedOutcome
			}
			if ph == applying {
				o.status[seq] = stBegun
			} else {
				o.reverting[seq] = true
			}
		}
		return d.Err
	case recResult:
		d := state.Unpacker{B: body}
		ph, seq := phase(d.Byte()), d.Uint()
		r := result{status: status(d.Byte()), reason: d.Text()}
		if d.Byte() == 1 {
			m := d.Meta()
			r.observed = &m
		}
		if d.Err != nil || seq >= uint64(len(o.status)) {
			return errDamagedOutcome
		}
		o.results++
		o.note(int(seq), ph, r)
		if problems != nil && r.reason != "" {
			problems(int(seq), ph, r)
		}
	default:
		return errDamagedOutcome
	}
	return nil
}

// note takes one result into the account of what became of a change.
func (o *outcome) note(seq int, ph phase, r result) {
	if ph == reverting {
		delete(o.reverting, seq)
		if r.status != stTakenBack {
			return // it stays what it was: still ours
		}
	}
	o.status[seq] = r.status
	delete(o.observed, seq)
	if r.observed != nil {
		o.observed[seq] = *r.observed
	}
}

// halfTakenBack lists the accounts whose take-back was decided in a stage that has no verdict yet, and why. Where records
// are damaged, every take-back may be a half one.
func (o *outcome) halfTakenBack() map[string]string {
	m := map[string]string{}
	for _, t := range o.taken {
		m[t.Account] = t.Reason
	}
	for _, st := range o.stages {
		for _, a := range st.TakenBack {
			if len(o.damage) == 0 {
				delete(m, a)
			} else if m[a] == "" {
				m[a] = fmt.Sprintf("account %s was taken back before", a)
			}
		}
	}
	return m
}

// count sums up what became of the changes. Those in doubt were announced, and then the run was cut off.
func (o *outcome) count(r *rightful.Run) {
	for seq, st := range o.status {
		switch st {
		case stApplied:
			r.Changed++
			if _, ok := o.observed[seq]; ok {
				r.Otherwise++
			}
		case stBegun:
			r.InDoubt++
		case stSkipped:
			r.Skipped++
		case stFailed:
			r.Failed++
		}
	}
}
