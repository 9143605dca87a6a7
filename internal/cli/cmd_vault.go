package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"rightful"
	"rightful/internal/check"
	"rightful/internal/panel"
	"rightful/internal/policy"
	"rightful/internal/term"
	"rightful/internal/tree"
	"rightful/internal/vault"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

func newVault(a *app) *cobra.Command {
	return a.family(verb{
		use:   "vault VERB",
		short: "the small files without which an account cannot live, kept outside its home",
		does: `The vault keeps keys, password files, mail accounts, .htaccess files and the like, as they are at one time,
encrypted, in the state directory. Which files, the panel's rules say ([vault] in rightful policy show); files in
/etc/rightful/policy.d may add to them, and name recipients who can read the vault with a key that is kept elsewhere.

A file of the vault is an age archive: with the server's key (vault/key in the state directory) or a recipient's,
age -d -i KEY FILE | tar -tzv reads it where this program is not at hand.`,
		never: "It never changes an account, and never keeps for an account what the account could not read itself.",
		examples: `
			# keep what is worth keeping of all accounts; cheap enough for a timer
			rightful vault take
			# what was kept of alice, and one of her files
			rightful vault show latest alice
			rightful vault extract alice /home/alice/.my.cnf`,
	}, newVaultTake(a), newVaultList(a), newVaultShow(a), newVaultDiff(a), newVaultExtract(a), newVaultVerify(a), newVaultPrune(a))
}

func newVaultTake(a *app) *cobra.Command {
	return a.command(verb{
		use:   "take [ACCOUNT…]",
		short: "keep the small files of all accounts, or of some",
		does: `Read the files that the rules name in each account and keep them. What did not change since an earlier vault takes
no space again. A file that is left out (larger than max_size, with further hard links, another's) is named.`,
		never:    "It never changes an account, follows no link and opens nothing but regular files.",
		examples: "rightful vault take\nrightful vault take alice bob",
		exits:    map[int]string{exitFindings: "an account could not be kept, or a panel file could not be read"},
		complete: a.completeAccounts,
		run:      a.vaultTake,
	})
}

func newVaultList(a *app) *cobra.Command {
	return a.command(verb{
		use:      "list",
		short:    "the vaults there are",
		does:     `List all vaults, newest first.`,
		never:    "It never changes anything.",
		examples: "rightful vault list",
		exits:    map[int]string{exitFindings: "a vault could not be read"},
		args:     noArgs,
		run:      func(context.Context, []string) error { return a.vaultList() },
	})
}

func newVaultShow(a *app) *cobra.Command {
	return a.command(verb{
		use:   "show VAULT [ACCOUNT…]",
		short: "which files a vault holds",
		does: `List the files of a vault, with owner, mode, size and time. VAULT is its name, the beginning of it, or latest; the
same holds for all verbs of the vault.`,
		never:    "It never prints what is in a file.",
		examples: "rightful vault show latest alice",
		args:     between(1, 0, "a vault"),
		run:      func(_ context.Context, args []string) error { return a.vaultShow(args[0], args[1:]) },
	})
}

func newVaultDiff(a *app) *cobra.Command {
	return a.command(verb{
		use:      "diff VAULT [OTHER]",
		short:    "which files differ between two vaults, or a vault and now",
		does:     `Compare the files of two vaults, account by account; or, with one, the vault with what would be kept now.`,
		never:    "It never prints what is in a file.",
		examples: "rightful vault diff latest\nrightful vault diff 20261122-093100-4be1 latest",
		exits:    map[int]string{exitFindings: "something differs"},
		args:     between(1, 2, "a vault"),
		run:      a.vaultDiff,
	})
}

func newVaultExtract(a *app) *cobra.Command {
	from := "latest"
	return a.command(verb{
		use:   "extract ACCOUNT [PATH]",
		short: "print a file of the vault, or all as a tar archive",
		does: `Print one file of an account, or without a PATH (or with a directory's) a tar archive of all of them, with owners
and modes, to standard output.`,
		never: "It never writes into an account: rightful rescue does that.",
		examples: `
			rightful vault extract alice /home/alice/.my.cnf
			rightful vault extract alice --from 20261122-093100-4be1 >alice.tar`,
		args:  between(1, 2, "an account"),
		flags: func(fs *pflag.FlagSet) { fs.StringVar(&from, "from", from, "take it from this `VAULT`") },
		run:   func(_ context.Context, args []string) error { return a.vaultExtract(from, args) },
	})
}

func newVaultVerify(a *app) *cobra.Command {
	return a.command(verb{
		use:   "verify [VAULT…]",
		short: "read everything that is kept, and say whether it is whole",
		does: `Decrypt and read every file of the vaults named, or of all, and hold them against their names, which depend on
every byte.`,
		never:    "It never changes anything.",
		examples: "rightful vault verify",
		exits:    map[int]string{exitFindings: "something is damaged or missing"},
		run:      func(ctx context.Context, args []string) error { return a.vaultVerify(ctx, args) },
	})
}

func newVaultPrune(a *app) *cobra.Command {
	var k keepFlags
	return a.command(verb{
		use:      "prune",
		short:    "remove old vaults",
		does:     `Keep the vaults that the flags name, as snapshot prune does, and remove the others with what only they kept.`,
		never:    "It never removes anything if no flag says what is kept.",
		examples: "rightful vault prune --keep-daily 14 --keep-monthly 6",
		exits:    map[int]string{exitFindings: "some vault could not be read, and stays with all that is kept"},
		args:     noArgs,
		flags:    k.add,
		run:      func(ctx context.Context, _ []string) error { return a.vaultPrune(ctx, k) },
	})
}

// openVault opens the store of vaults of the server that is looked after. The caller closes the server.
func (a *app) openVault() (*tree.Server, *vault.Store, error) {
	s, err := a.openForRoot()
	if err != nil {
		return nil, nil, err
	}
	st, err := vault.Open(a.cfg.State, s)
	if err != nil {
		s.Close()
		return nil, nil, fail(exitCannot, err, "--state DIR")
	}
	return s, st, nil
}

// vaultSource says what to keep of an account.
func vaultSource(c *checking, acct *panel.Account, policies map[string]*policy.Policy) (src vault.Source, recipients []string, err error) {
	p := policies[acct.Panel]
	if p == nil {
		if p, err = policy.Load(acct.Panel, c.opts.Overrides); err != nil {
			return src, nil, err
		}
		policies[acct.Panel] = p
	}
	v := p.Vault()
	b := check.Binding(c.s, c.ps, acct)
	src = vault.Source{
		Account: acct.Account, Identity: rightful.Identity{UID: acct.UID, GIDs: c.ps.Users.Groups(acct.Name)}, Bases: b.Bases, MaxSize: v.MaxSize,
	}
	if src.Files, err = v.Bind(b); err != nil {
		return src, nil, err
	}
	for _, p := range v.Outside {
		domains := []string{""}
		if strings.Contains(p, "{domain}") {
			domains = domainsOf(acct)
		}
		for _, d := range domains {
			p := strings.NewReplacer("{user}", acct.Name, "{domain}", d).Replace(p)
			if path.Clean(p) == p { // a name that is none leads elsewhere
				src.Outside = append(src.Outside, p)
			}
		}
	}
	return src, v.Recipients, nil
}

type vaultLeft struct {
	Account string `json:"account"`
	vault.Left
}

type vaultSummary struct {
	Vault    string `json:"vault"`
	Accounts int    `json:"accounts"`
	Files    int    `json:"files"`
	Bytes    int64  `json:"bytes"`
	Stored   int64  `json:"stored"`
	Left     int    `json:"left_out"`
}

func (a *app) vaultTake(ctx context.Context, args []string) error {
	s, st, err := a.openVault()
	if err != nil {
		return err
	}
	defer s.Close()
	c := &checking{s: s}
	if err := a.fillChecking(c, args, checkFlags{truth: truthPolicy}); err != nil {
		return err
	}
	if err := c.someLeft(); err != nil {
		return err
	}
	chosen, err := a.pick(c.ps, c.opts.Accounts)
	if err != nil {
		return err
	}
	var sources []vault.Source
	var recipients []string
	policies := map[string]*policy.Policy{}
	for _, acct := range chosen {
		src, r, err := vaultSource(c, acct, policies)
		if err != nil {
			return fail(exitCannot, err)
		}
		sources, recipients = append(sources, src), append(recipients, r...)
	}
	t, err := st.Create(vault.Header{By: a.by(), Command: a.commandLine()}, recipients)
	if err != nil {
		return fail(exitCannot, err, "--state DIR")
	}
	p := a.begin("keeping", "accounts", int64(len(sources)))
	stored, bad, err := a.keep(ctx, s, t, sources, p)
	p.End()
	if err != nil {
		t.Discard()
		return err
	}
	v, err := t.Commit()
	if err != nil {
		return fail(exitCannot, err, "--state DIR")
	}
	sum := vaultSummary{Vault: v.ID, Accounts: len(v.Accounts), Stored: stored}
	for _, x := range v.Accounts {
		sum.Files, sum.Bytes, sum.Left = sum.Files+x.Files, sum.Bytes+x.Bytes, sum.Left+x.Left
	}
	if a.cfg.JSON {
		a.out.emit("summary", sum)
	} else {
		a.out.printf("vault %s: %s of %s, %s; %s newly stored, %d left out\n", v.ID, counted(sum.Files, "file", "files"), accounts(sum.Accounts),
			rightful.SizeText(sum.Bytes), rightful.SizeText(stored), sum.Left)
	}
	if len(v.Recipients) == 0 {
		a.detail("only this server's key can read it: keep a copy of %s elsewhere, or name a recipient in /etc/rightful/policy.d ([vault] recipients)", term.Quote(st.KeyPath()))
	}
	if bad > 0 || brokenFiles(c.ps.Issues) {
		return exitWith(exitFindings)
	}
	return nil
}

// keep adds all sources to a vault, a few at a time, and tells what was left out. bad counts the accounts of which nothing
// could be kept; the error is one that ends everything.
func (a *app) keep(ctx context.Context, s *tree.Server, t *vault.Taking, sources []vault.Source, p *term.Progress) (stored int64, bad int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	width := tree.NewWidth(ctx, a.cfg.Jobs)
	type kept struct {
		stored int64
		left   []vault.Left
		err    error
	}
	results := make([]kept, len(sources))
	var wg sync.WaitGroup
	for i := range sources {
		if width.Enter(ctx) != nil {
			break
		}
		wg.Go(func() {
			defer width.Leave()
			r := &results[i]
			if r.err = a.calm(ctx); r.err == nil {
				_, r.stored, r.left, r.err = t.Add(ctx, s, &sources[i])
			}
			if errors.Is(r.err, unix.ENOSPC) || errors.Is(r.err, unix.EIO) {
				cancel() // of our own directory: nothing that follows would fare better
			}
			p.Add(1)
		})
	}
	wg.Wait()
	for i, r := range results {
		name := sources[i].Account.Name
		stored += r.stored
		if r.err != nil && ctx.Err() == nil {
			bad++
			a.warn("%v", r.err)
		} else if r.err != nil && !errors.Is(r.err, context.Canceled) {
			return stored, bad, fail(exitCannot, r.err, "--state DIR")
		}
		for _, l := range r.left {
			if a.cfg.JSON {
				a.out.emit("left", vaultLeft{name, l})
			} else {
				a.note("left out: %s: %s", term.Quote(l.Path), term.Line(l.Reason))
			}
		}
	}
	return stored, bad, ctx.Err()
}

func (a *app) vaultList() error {
	s, st, err := a.openVault()
	if err != nil {
		return err
	}
	defer s.Close()
	all, err := st.List()
	t := term.Table{Head: []string{"vault", "taken", ">accounts", ">files", ">size", "recipients", "by"}}
	for _, v := range all {
		x := vaultSummary{Vault: v.ID, Accounts: len(v.Accounts)}
		for _, acct := range v.Accounts {
			x.Files, x.Bytes, x.Left = x.Files+acct.Files, x.Bytes+acct.Bytes, x.Left+acct.Left
		}
		if a.cfg.JSON {
			a.out.emit("vault", struct {
				vault.Header
				Accounts []vault.Account `json:"accounts"`
			}{v.Header, v.Accounts})
			continue
		}
		t.Row(v.ID, v.Created.Local().Format(time.DateTime), fmt.Sprint(x.Accounts), fmt.Sprint(x.Files), rightful.SizeText(x.Bytes), fmt.Sprint(len(v.Recipients)), v.By)
	}
	switch {
	case a.cfg.JSON:
		a.out.emit("summary", struct {
			Vaults int `json:"vaults"`
		}{len(all)})
	case len(all) == 0:
		a.note("nothing is in the vault yet: %s", a.again("vault", "take"))
	default:
		a.out.printf("%s", t.String())
	}
	if err != nil {
		return fail(exitFindings, err)
	}
	return nil
}

// findVault opens a vault by what the operator typed.
func (a *app) findVault(st *vault.Store, ref string) (*vault.Vault, error) {
	v, err := st.Find(ref)
	if errors.Is(err, vault.ErrNoVault) {
		return nil, fail(exitUsage, err, a.again("vault", "list"))
	}
	if err != nil {
		return nil, fail(exitCannot, err, a.again("vault", "list"))
	}
	return v, nil
}

// chosenIn gives the accounts of a vault that are named, or all.
func (a *app) chosenIn(v *vault.Vault, names []string) ([]string, error) {
	var known []string
	for _, x := range v.Accounts {
		known = append(known, x.Account)
	}
	for _, n := range names {
		if !slices.Contains(known, n) {
			return nil, orHint(a.mistyped("account", n, known), a.again("vault", "list"))
		}
	}
	if len(names) == 0 {
		return known, nil
	}
	return slices.Compact(slices.Sorted(slices.Values(names))), nil
}

type vaultFile struct {
	Account string `json:"account"`
	vault.File
}

func (a *app) vaultShow(ref string, names []string) error {
	s, st, err := a.openVault()
	if err != nil {
		return err
	}
	defer s.Close()
	v, err := a.findVault(st, ref)
	if err != nil {
		return err
	}
	if names, err = a.chosenIn(v, names); err != nil {
		return err
	}
	t := term.Table{Head: []string{"account", "owner", "mode", ">size", "changed", "path"}}
	sum := vaultSummary{Vault: v.ID, Accounts: len(names)}
	for _, n := range names {
		files, err := st.Files(v, n)
		if err != nil {
			return fail(exitCannot, err, a.again("vault", "verify", v.ID))
		}
		for _, f := range files {
			sum.Files, sum.Bytes = sum.Files+1, sum.Bytes+f.Size
			if a.cfg.JSON {
				a.out.emit("file", vaultFile{n, f})
				continue
			}
			t.Row(n, a.names().owner(f.UID, f.GID), f.Mode.String(), fmt.Sprint(f.Size), f.Mtime.Local().Format(time.DateTime), f.Path)
		}
	}
	if a.cfg.JSON {
		a.out.emit("summary", sum)
	} else {
		a.out.printf("%s", t.String())
	}
	return nil
}

func (a *app) vaultDiff(ctx context.Context, args []string) error {
	s, st, err := a.openVault()
	if err != nil {
		return err
	}
	defer s.Close()
	old, err := a.findVault(st, args[0])
	if err != nil {
		return err
	}
	names, _ := a.chosenIn(old, nil)
	var now func(name string) ([]vault.File, error)
	if len(args) == 2 {
		v, err := a.findVault(st, args[1])
		if err != nil {
			return err
		}
		more, _ := a.chosenIn(v, nil)
		names = append(names, more...)
		now = func(name string) ([]vault.File, error) { return filesIn(st, v, name) }
	} else if now, err = a.vaultLive(ctx, s, &names); err != nil {
		return err
	}
	n := 0
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		before, err := filesIn(st, old, name)
		if err != nil {
			return fail(exitCannot, err, a.again("vault", "verify", old.ID))
		}
		after, err := now(name)
		if err != nil {
			return fail(exitCannot, err)
		}
		for _, d := range vault.Diff(name, before, after) {
			if n++; a.cfg.JSON {
				a.out.emit("difference", d)
			} else {
				a.out.printf("%-8s %s\n", d.How, term.Quote(d.Path))
			}
		}
	}
	switch {
	case a.cfg.JSON:
		a.out.emit("summary", struct {
			Differences int `json:"differences"`
		}{n})
	case n == 0:
		a.note("no difference")
	}
	if n > 0 {
		return exitWith(exitFindings)
	}
	return nil
}

// filesIn gives the files of an account; none where it is not in the vault.
func filesIn(st *vault.Store, v *vault.Vault, name string) ([]vault.File, error) {
	if _, ok := v.Account(name); !ok {
		return nil, nil
	}
	return st.Files(v, name)
}

// vaultLive gives what would be kept now, and adds the accounts that there are to names.
func (a *app) vaultLive(ctx context.Context, s *tree.Server, names *[]string) (func(string) ([]vault.File, error), error) {
	c := &checking{s: s}
	if err := a.fillChecking(c, nil, checkFlags{truth: truthPolicy}); err != nil {
		return nil, err
	}
	chosen, err := a.pick(c.ps, c.opts.Accounts)
	if err != nil {
		return nil, err
	}
	for _, acct := range chosen {
		*names = append(*names, acct.Name)
	}
	policies := map[string]*policy.Policy{}
	return func(name string) ([]vault.File, error) {
		acct, ok := c.ps.Account(name)
		if !ok {
			return nil, nil
		}
		src, _, err := vaultSource(c, acct, policies)
		if err != nil {
			return nil, err
		}
		files, _, err := vault.Live(ctx, s, &src)
		return files, err
	}, nil
}

func (a *app) vaultExtract(ref string, args []string) error {
	s, st, err := a.openVault()
	if err != nil {
		return err
	}
	defer s.Close()
	v, err := a.findVault(st, ref)
	if err != nil {
		return err
	}
	if _, err = a.chosenIn(v, args[:1]); err != nil {
		return err
	}
	files, err := st.Files(v, args[0])
	if err != nil {
		return fail(exitCannot, err, a.again("vault", "verify", v.ID))
	}
	var below []vault.File
	for _, f := range files {
		if len(args) == 2 && f.Path == args[1] {
			if a.env.StdoutTTY && term.Clean(string(f.Data)) != string(f.Data) { // a customer wrote it
				return fail(exitUsage, fmt.Errorf("extract %q: there is more than text in it, which could write to this terminal", f.Path), a.again("vault", "extract", args[0], f.Path, "--from", v.ID)+" | cat -v")
			}
			a.out.write(f.Data)
			return nil
		}
		if len(args) == 1 || f.Below(args[1]) {
			below = append(below, f)
		}
	}
	if len(below) == 0 && len(args) == 1 { // as it is where the home was gone when the vault was taken
		return fail(exitUsage, fmt.Errorf("extract account %q: vault %s holds none of its files", args[0], v.ID), a.again("vault", "list"), a.again("vault", "extract", args[0], "--from", "VAULT"))
	}
	if len(below) == 0 {
		return fail(exitUsage, fmt.Errorf("extract %q: it is not in vault %s", args[1], v.ID), a.again("vault", "show", v.ID, args[0]))
	}
	if a.env.StdoutTTY {
		return fail(exitUsage, errors.New("extract: a tar archive is nothing for a terminal"), a.again("vault", "show", v.ID, args[0]), a.again("vault", "extract", args[0], "--from", v.ID)+" >"+term.Shell(args[0]+".tar"))
	}
	var b bytes.Buffer
	if err := vault.WriteTar(&b, below); err != nil {
		return fail(exitCannot, err)
	}
	a.out.write(b.Bytes())
	return nil
}

func (a *app) vaultVerify(ctx context.Context, refs []string) error {
	s, st, err := a.openVault()
	if err != nil {
		return err
	}
	defer s.Close()
	var all []vault.Vault
	var bad []error
	for _, r := range refs {
		v, err := a.findVault(st, r)
		if err != nil {
			return err
		}
		all = append(all, *v)
	}
	if len(refs) == 0 {
		if all, err = st.List(); err != nil {
			bad = append(bad, err)
		}
	}
	seen := map[string]bool{}
	p := a.begin("reading", "vaults", int64(len(all)))
	for i := range all {
		for _, x := range all[i].Accounts {
			if ctx.Err() != nil {
				p.End()
				return ctx.Err()
			}
			if seen[x.Hash] {
				continue
			}
			seen[x.Hash] = true
			if _, err := st.Files(&all[i], x.Account); err != nil {
				bad = append(bad, err)
			}
		}
		p.Add(1)
	}
	p.End()
	if a.cfg.JSON {
		a.out.emit("summary", struct {
			Vaults  int `json:"vaults"`
			Files   int `json:"files"`
			Damaged int `json:"damaged"`
		}{len(all), len(seen), len(bad)})
	} else {
		a.out.printf("%s, %s read: %d damaged\n", counted(len(all), "vault", "vaults"), counted(len(seen), "account file", "account files"), len(bad))
	}
	if len(bad) > 0 {
		return fail(exitFindings, errors.Join(bad...))
	}
	return nil
}

func (a *app) vaultPrune(ctx context.Context, k keepFlags) error {
	if err := k.check(a, false); err != nil {
		return err
	}
	s, st, err := a.openVault()
	if err != nil {
		return err
	}
	defer s.Close()
	all, unread := st.List()
	times := make([]time.Time, len(all))
	for i := range all {
		times[i] = all[i].Created
	}
	var remove []string
	for i, why := range k.Keep(times, time.Local) {
		if len(why) == 0 {
			remove = append(remove, all[i].ID)
		}
		if !a.cfg.JSON {
			a.out.printf("%s  %s\n", all[i].ID, orDash(strings.Join(why, ", ")))
		}
	}
	return a.prune(ctx, k, pruning{"vault", "vaults", len(all), remove, st.Remove, unread})
}
