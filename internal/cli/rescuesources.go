package cli

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"rightful"
	"rightful/internal/archive"
	"rightful/internal/rescue"
	"rightful/internal/snapshot"
	"rightful/internal/term"
	"rightful/internal/tree"
	"rightful/internal/vault"
)

// specHome names what is left of the home as a source.
const specHome = "home"

// lastKnown is what our own records know of an account from before the accident.
type lastKnown struct {
	vaults   *vault.Store
	vault    *vault.Vault
	store    *snapshot.Store
	snapshot *snapshot.Snapshot
	records  *snapshot.Reader
}

// whole picks the newest of some counts, newest first, that is at least half of the greatest: one that was taken after the
// accident knows next to nothing.
func whole(counts []int) int {
	most := 0
	for _, n := range counts {
		most = max(most, n)
	}
	return slices.IndexFunc(counts, func(n int) bool { return n > 0 && 2*n >= most })
}

// lastKnown finds the newest vault and snapshot that know the account as it was. What cannot be read is told and passed over.
func (x *rescuing) lastKnown() *lastKnown {
	a, k := x.a, &lastKnown{}
	var err error
	if k.vaults, err = vault.Open(a.cfg.State, x.c.s); err == nil {
		var all []vault.Vault
		all, err = k.vaults.List()
		counts := make([]int, len(all))
		for i := range all {
			if v, ok := all[i].Account(x.acct.Name); ok && v.UID == x.acct.UID {
				counts[i] = v.Files
			}
		}
		if i := whole(counts); i >= 0 {
			k.vault = &all[i]
		}
	}
	if err != nil {
		a.warn("%v", err)
	}
	if k.store, err = snapshot.Open(a.cfg.State, x.c.s); err == nil {
		var all []*snapshot.Snapshot
		all, err = k.store.List()
		counts := make([]int, len(all))
		for i, sn := range all {
			if acct, ok := sn.Account(x.acct.Name); ok && acct.UID == x.acct.UID {
				counts[i] = acct.Entries
			}
		}
		if i := whole(counts); i >= 0 {
			k.snapshot = all[i]
			k.records, err = k.store.Account(k.snapshot, x.acct.Name)
		}
	}
	if err != nil {
		a.warn("%v", err)
	}
	return k
}

func (k *lastKnown) close() {
	if k.records != nil {
		k.records.Close()
	}
}

// exists tells whether the snapshot knows a path below the home.
func (k *lastKnown) exists(home string) func(string) bool {
	if k.records == nil {
		return nil
	}
	return func(rel string) bool {
		e, err := k.records.Lookup(home, rel)
		return err == nil && e != nil
	}
}

// sources finds out what each source is, says it, and puts them in the order of trust.
func (x *rescuing) sources(ctx context.Context) ([]rescue.Source, error) {
	a := x.a
	if _, err := mapped(x.f.maps, x.acct.Home); err != nil {
		return nil, err
	}
	var out []rescue.Source
	named := false
	for _, spec := range x.f.from {
		if spec == "vault" || strings.HasPrefix(spec, "vault:") {
			named = true
			s, err := x.vaultSource(spec)
			if err != nil {
				return nil, err
			}
			out = append(out, *s)
			continue
		}
		s, err := x.recognise(ctx, spec)
		if err != nil {
			return nil, err
		}
		out = append(out, *s)
	}
	if len(x.f.maps) > 0 && !x.mapped {
		return nil, fail(exitUsage, errors.New("read --map: it is about no source; nothing was changed"))
	}
	if k := x.truth.vault; k != nil && !named {
		s, err := x.vaultSource("vault:" + k.ID)
		if err != nil {
			a.warn("%v", err)
		} else {
			// It goes before every source that is older.
			at := slices.IndexFunc(out, func(o rescue.Source) bool { return o.Taken.Before(s.Taken) })
			if at < 0 {
				at = len(out)
			}
			out = slices.Insert(out, at, *s)
		}
	}
	ruin, err := x.ruin(ctx)
	switch {
	case err != nil:
		return nil, err
	case ruin != nil && x.f.preferBackup:
		out = append(out, *ruin)
	case ruin != nil:
		out = slices.Insert(out, 0, *ruin)
	}
	x.describe(out)
	return out, nil
}

// describe says what the home would be rebuilt from.
func (x *rescuing) describe(sources []rescue.Source) {
	a := x.a
	for i := range sources {
		s := &sources[i]
		if a.cfg.JSON {
			a.out.emit("source", s)
			continue
		}
		taken := ""
		if !s.Taken.IsZero() {
			taken = ", of " + s.Taken.Local().Format("2006-01-02 15:04")
		}
		a.out.printf("%d. %s: %s, %s, %s%s\n", i+1, term.Quote(s.Spec), term.Line(s.What), entries(int(s.Entries)), rightful.SizeText(s.Bytes), taken)
		for _, p := range s.Places {
			if !p.Out {
				a.out.printf("   %s of it is %s: %s\n", term.Quote(orDot(p.Src)), term.Quote(rightful.JoinPath(x.home, p.Dst)), term.Line(s.Why))
			}
		}
	}
	if a.cfg.JSON {
		return
	}
	if sn := x.truth.snapshot; sn != nil {
		acct, _ := sn.Account(x.acct.Name)
		a.out.printf("owners and modes: by the rules, and by snapshot %s, which knows %s\n", sn.ID, entries(acct.Entries))
	} else {
		a.out.printf("owners and modes: by the rules; there is no snapshot of the account\n")
	}
	if len(sources) == 0 {
		a.out.printf("there is no source: standard folders and links only\n")
	}
}

// vaultSource is the account's part of a vault.
func (x *rescuing) vaultSource(spec string) (*rescue.Source, error) {
	ref := strings.TrimPrefix(strings.TrimPrefix(spec, "vault"), ":")
	v := x.truth.vault
	if ref != "" {
		var err error
		if v, err = x.truth.vaults.Find(ref); err != nil {
			return nil, fail(exitUsage, err, x.a.again("vault", "list"))
		}
	}
	if v == nil {
		return nil, fail(exitUsage, fmt.Errorf("find vault: none knows account %q", x.acct.Name), x.a.again("vault", "list"))
	}
	acct, ok := v.Account(x.acct.Name)
	if !ok {
		return nil, fail(exitUsage, fmt.Errorf("find account %q in vault %s: it is not in it", x.acct.Name, v.ID), x.a.again("vault", "show", v.ID))
	}
	return &rescue.Source{
		Spec: "vault:" + v.ID, What: "the vault", Format: string(archive.Tar), Taken: v.Created,
		Places:  archive.Places{{Src: strings.Trim(acct.Home, "/"), Dst: ""}},
		Why:     "the vault keeps them by their paths",
		Entries: int64(acct.Files), Bytes: acct.Bytes,
	}, nil
}

// ruin is what is left of the home; nil where that is nothing.
func (x *rescuing) ruin(ctx context.Context) (*rescue.Source, error) {
	x.looked = time.Now().UTC()
	b, err := x.c.s.OpenBase(x.home)
	if tree.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fail(exitCannot, err)
	}
	defer b.Close()
	m := &measure{}
	if err := b.Walk(ctx, tree.EntryFunc(m.entry), false); err != nil {
		return nil, x.a.runError(ctx, err)
	}
	if m.entries == 0 {
		return nil, nil
	}
	return &rescue.Source{
		Spec: specHome, What: "what is left of the home", Why: "it is the home", Format: string(archive.Dir), Taken: time.Now().UTC(),
		Places: archive.Places{{}}, Entries: m.entries, Bytes: m.bytes,
	}, nil
}

// measure counts what is in a tree.
type measure struct{ entries, bytes int64 }

func (m *measure) entry(d *tree.Dir, e *tree.Entry) (bool, error) {
	if d == nil {
		return true, nil
	}
	m.entries++
	if e.Kind == rightful.KindFile {
		// The holes of a sparse file take no room in the copy either; what is compressed on the disk is so by less than this.
		m.bytes += min(e.Size, 8*e.Taken+maxInline)
	}
	return true, nil
}

// maxInline is how much of a file there can be in its inode, and be counted nowhere.
const maxInline = 4 << 10

// recognise reads a source to its end and finds out where in it the account's home is.
func (x *rescuing) recognise(ctx context.Context, spec string) (*rescue.Source, error) {
	a := x.a
	if !strings.Contains(spec, ":") || strings.HasPrefix(spec, "/") || strings.HasPrefix(spec, ".") {
		abs, err := filepath.Abs(spec)
		if err != nil {
			return nil, fail(exitUsage, err)
		}
		spec = abs
	}
	src, err := x.open(ctx, spec)
	if err != nil {
		return nil, err
	}
	defer src.close()
	o, err := src.archive(ctx)
	if err != nil {
		if perr := src.failed(); perr != nil {
			err = perr
		}
		return nil, fail(exitCannot, fmt.Errorf("read %q: %w; nothing was changed", spec, err))
	}
	defer o.Close()
	tmp, err := x.st.Scratch()
	if err != nil {
		return nil, fail(exitCannot, err, "--state DIR")
	}
	defer tmp.Close()
	p := a.begin("reading", "entries", 0)
	survey, err := archive.Read(counting{o, p}.opened(), tmp)
	p.End()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fail(exitCannot, fmt.Errorf("read %q: %w; nothing was changed", spec, err))
	}
	if err := src.end(); err != nil {
		return nil, fail(exitCannot, fmt.Errorf("read %q: %w; nothing was changed", spec, err))
	}
	if survey.Cut != nil {
		a.warn("%s ends early: %v; what comes before that can be had", term.Quote(spec), survey.Cut)
	}
	what := fmt.Sprintf("a %s archive", o.Format)
	if o.Format == archive.Dir {
		what = "a directory"
	}
	c, err := x.choose(ctx, spec, what, survey)
	if err != nil {
		return nil, err
	}
	taken, modified := o.Taken, time.Time{}
	if taken.IsZero() {
		modified = src.modified
		if taken = src.modified; taken.IsZero() || !survey.Newest.IsZero() && survey.Newest.Before(taken) {
			taken = survey.Newest
		}
	}
	return &rescue.Source{
		Spec: spec, SpecB64: rightful.RawPath(spec), What: c.What, Why: c.Why, Format: string(o.Format), Places: c.Places, Taken: taken.UTC(),
		Modified: modified.UTC(), Entries: int64(c.Entries), Bytes: c.Bytes,
	}, nil
}

// choose settles which reading of a source is the right one.
func (x *rescuing) choose(ctx context.Context, spec, what string, survey *archive.Survey) (*archive.Candidate, error) {
	a := x.a
	if yes, err := x.isMapped(survey); err != nil {
		return nil, fail(exitCannot, fmt.Errorf("read %q: %w; nothing was changed", spec, err))
	} else if yes {
		return x.asMapped(spec, what, survey)
	}
	all, err := survey.Candidates(subject(x.acct, x.f.owner, spec, x.truth.exists(x.home)))
	if err != nil {
		return nil, fail(exitCannot, fmt.Errorf("read %q: %w; nothing was changed", spec, err))
	}
	for i := range all { // what belongs to somebody else here is not given away on a guess
		if c := &all[i]; c.Owner != "" && c.Account == "" {
			if _, here := x.c.ps.Account(c.Owner); here {
				c.Account = c.Owner
			}
		}
	}
	own := slices.DeleteFunc(slices.Clone(all), func(c archive.Candidate) bool { return c.Account != "" })
	switch {
	case len(own) > 0 && own[0].Certain:
		return &own[0], nil
	case len(x.f.maps) > 0:
		return x.asMapped(spec, what, survey)
	case len(own) == 0 && len(all) > 0:
		return nil, fail(exitCannot, fmt.Errorf("read %q: %w; nothing was changed", spec, &archive.OtherAccountError{Account: all[0].Account}),
			a.again("rescue", x.acct.Name, "--from", spec, "--owner", all[0].Account))
	case len(own) == 0:
		return nil, fail(exitCannot, fmt.Errorf("read %q: %w; nothing was changed", spec, archive.ErrLayout), a.again("rescue", x.acct.Name, "--from", spec, "--map", "SRC=DST"))
	}
	var hints []string
	for i := range own {
		words := []string{"rescue", x.acct.Name, "--from", spec}
		for _, p := range own[i].Places {
			if !p.Out {
				a.note("%s of %s may be %s: %s", term.Quote(orDot(p.Src)), term.Quote(spec), term.Quote(rightful.JoinPath(x.home, p.Dst)), term.Line(own[i].Why))
				words = append(words, "--map", orDot(p.Src)+"="+orDot(p.Dst))
			}
		}
		hints = append(hints, a.again(words...))
	}
	if len(own) > 1 {
		return nil, fail(exitCannot, fmt.Errorf("read %q: it may be any of %d things; nothing was changed", spec, len(own)), hints...)
	}
	if err := a.confirm(ctx, fmt.Sprintf("Take %s for %s?", term.Quote(spec), own[0].What)); err != nil {
		if f, ok := errors.AsType[*failure](err); ok {
			f.hints = append(f.hints, hints...)
		}
		return nil, err
	}
	return &own[0], nil
}

// isMapped reports whether --map is about a source, however certain it is by itself: it is the only one, or something lies
// at a place that is named. The top is a place of every source.
func (x *rescuing) isMapped(survey *archive.Survey) (bool, error) {
	if len(x.f.maps) == 0 || len(x.f.from) == 1 {
		return len(x.f.maps) > 0, nil
	}
	places, err := mapped(x.f.maps, x.acct.Home)
	if err != nil {
		return false, err
	}
	places = slices.DeleteFunc(places, func(p archive.Place) bool { return p.Src == "" })
	_, err = survey.Mapped(places)
	if errors.Is(err, archive.ErrLayout) {
		return false, nil
	}
	return err == nil, err
}

// asMapped reads a source as the operator says it is.
func (x *rescuing) asMapped(spec, what string, survey *archive.Survey) (*archive.Candidate, error) {
	places, err := mapped(x.f.maps, x.acct.Home)
	if err != nil {
		return nil, err
	}
	c, err := survey.Mapped(places)
	if errors.Is(err, archive.ErrLayout) {
		err = fmt.Errorf("nothing in it lies at %s", quotedList(places))
	}
	if err != nil {
		return nil, fail(exitCannot, fmt.Errorf("read %q: %w; nothing was changed", spec, err))
	}
	x.mapped = true
	c.What, c.Why = what, "as you said"
	return &c, nil
}

func quotedList(places archive.Places) string {
	var out []string
	for _, p := range places {
		out = append(out, strconv.Quote(orDot(p.Src)))
	}
	return strings.Join(out, " or ")
}

// A rescueSource is a source that is open.
type rescueSource struct {
	f        *os.File // an archive, the reading end of a pipe, or a directory
	dir      *tree.Base
	asUser   bool // a directory that the account may read for itself
	modified time.Time
	close    func()
	// end says, when all was read, whether whoever wrote into the pipe came to its end.
	end func() error
	// program is what writes into the pipe, or nil, and said what it has to say.
	program *exec.Cmd
	said    *bytes.Buffer
}

// failed says, where nothing of use was read, what kept the program from writing anything; nil where that is not the reason.
func (s *rescueSource) failed() error {
	if s.program == nil || s.program.ProcessState != nil {
		return nil
	}
	s.f.Close()
	err := s.program.Wait()
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.Exited() {
		return s.programError(err)
	}
	return nil
}

// programError is how the program ended, in its own last words.
func (s *rescueSource) programError(err error) error {
	lines := strings.Split(strings.TrimSpace(s.said.String()), "\n")
	return fmt.Errorf("run %q: %w: %s", s.program.Args[0], err, term.Line(lines[len(lines)-1]))
}

// archive reads the source here, to find out what is in it.
func (s *rescueSource) archive(ctx context.Context) (*archive.Opened, error) {
	if s.dir != nil {
		return archive.OpenDir(ctx, s.dir), nil
	}
	return archive.Open(ctx, s.f, "")
}

// open opens a source by its name. ruin, vault and programs are known by how the name begins.
func (x *rescuing) open(ctx context.Context, spec string) (*rescueSource, error) {
	kind, rest, _ := strings.Cut(spec, ":")
	switch kind {
	case "vault":
		return x.openVaultTar(rest)
	case "restic":
		repo, snap, ok := strings.Cut(rest, "#")
		if !ok {
			snap = "latest"
		}
		return x.openProgram(ctx, "restic", "-r", repo, "dump", "--archive", "tar", snap, "/")
	case "borg":
		return x.openProgram(ctx, "borg", "export-tar", rest, "-")
	}
	here, err := tree.OpenServer("/")
	if err != nil {
		return nil, fail(exitCannot, err)
	}
	defer here.Close()
	ev, err := here.OpenEvidence(spec)
	if tree.IsNotExist(err) {
		return nil, fail(exitUsage, err)
	}
	if err != nil {
		return nil, fail(exitCannot, err)
	}
	s := &rescueSource{f: ev.File, modified: ev.Modified, close: func() { ev.File.Close() }, end: func() error { return nil }}
	if ev.Stat.Kind == rightful.KindDir {
		b, done, err := ev.OpenTree()
		if err != nil {
			s.close()
			return nil, fail(exitCannot, err)
		}
		// What somebody else could write may hold further names of files that are nobody's business: it is read with the
		// account's rights.
		s.dir, s.asUser = b, ev.Forgeable != ""
		s.modified = time.Time{} // that of its top says nothing
		s.close = func() { done(); ev.File.Close() }
	}
	return s, nil
}

// openVaultTar gives the account's files of a vault as a pipe.
func (x *rescuing) openVaultTar(id string) (*rescueSource, error) {
	v, err := x.truth.vaults.Get(id)
	if err != nil {
		return nil, fail(exitCannot, err)
	}
	b, err := x.truth.vaults.Archive(v, x.acct.Name)
	if err != nil {
		return nil, fail(exitCannot, err)
	}
	return piped(func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

// piped gives what write writes as the reading end of a pipe.
func piped(write func(io.Writer) error) (*rescueSource, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fail(exitCannot, err)
	}
	done := make(chan error, 1)
	go func() {
		err := write(w)
		w.Close()
		done <- err
	}()
	return &rescueSource{f: r, close: func() { r.Close() }, end: func() error { return <-done }}, nil
}

// openProgram gives what a program writes to its standard output.
func (x *rescuing) openProgram(ctx context.Context, name string, args ...string) (*rescueSource, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fail(exitCannot, err)
	}
	cmd.Stdout = w
	err = cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return nil, fail(exitCannot, fmt.Errorf("run %q: %w", name, err))
	}
	s := &rescueSource{f: r, program: cmd, said: &said}
	s.close = func() {
		r.Close()
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	}
	s.end = func() error {
		io.Copy(io.Discard, r) // what comes behind the end of the archive is padding
		if err := cmd.Wait(); err != nil {
			return s.programError(err)
		}
		return nil
	}
	return s, nil
}

// tarOf writes a directory as a tar archive into a pipe. A file whose content could not be read to its end is filled up
// with zeros, so that the archive goes on behind it, and named to bad as cut.
func tarOf(src *archive.Opened, to io.Writer, bad func(name string, cut bool, err error)) error {
	w := tar.NewWriter(to)
	for {
		e, err := src.Next()
		if r, ok := errors.AsType[*archive.Rejected](err); ok {
			bad(r.Name, false, errors.New(r.Why))
			continue
		}
		if err == io.EOF {
			return w.Close()
		}
		if err != nil {
			return err
		}
		h := &tar.Header{Name: e.Name, Mode: int64(e.Mode), ModTime: e.Time, Linkname: e.Target, Format: tar.FormatPAX}
		var content io.Reader
		switch e.Kind {
		case rightful.KindFile:
			h.Typeflag, h.Size, h.Linkname = tar.TypeReg, e.Size, ""
			content = src.Content()
		case rightful.KindDir:
			h.Typeflag, h.Name, h.Linkname = tar.TypeDir, e.Name+"/", ""
		case rightful.KindSymlink:
			h.Typeflag = tar.TypeSymlink
		default:
			bad(e.Name, false, fmt.Errorf("a %s; no backup makes one right", e.Kind))
			continue
		}
		if e.Name == "" {
			continue
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if content == nil {
			continue
		}
		n, err := io.Copy(w, io.LimitReader(content, h.Size))
		if n < h.Size {
			bad(e.Name, true, fmt.Errorf("read: %w", errors.Join(err, io.ErrUnexpectedEOF)))
			if _, err := io.CopyN(w, zeros{}, h.Size-n); err != nil {
				return err
			}
		}
	}
}

type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
