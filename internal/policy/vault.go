package policy

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"rightful"
)

// The form of a [vault] table.
type vaultTOML struct {
	Files      words `toml:"files"`
	Outside    words `toml:"outside"`
	MaxSize    int64 `toml:"max_size"`
	Recipients words `toml:"recipients"`
}

// A Vault says which small files of an account are worth keeping outside its home.
type Vault struct {
	// Outside are absolute paths that are not below the home, with {user} and {domain} in them.
	Outside []string
	// MaxSize is the most bytes of one file that are kept.
	MaxSize int64
	// Recipients are age recipients that the operator names besides the server's own key.
	Recipients []string
	pol        *Policy
}

// Vault is what the files of the policy say of the vault, all of them together.
func (p *Policy) Vault() Vault {
	v := p.vault
	v.Outside, v.Recipients = slices.Clone(v.Outside), slices.Clone(v.Recipients)
	return v
}

// Bind makes a matcher for one account: a file that has a rule in it is one to keep.
func (v *Vault) Bind(b Binding) (*Bound, error) { return v.pol.Bind(b) }

// add compiles one [vault] table; its patterns are rules that accept everything.
func (v *Vault) add(file string, t *vaultTOML, maildir string) error {
	if v.pol == nil {
		v.pol = &Policy{automata: map[string]*automaton{}}
	}
	if len(t.Files) > 0 {
		r, err := compile(&ruleTOML{
			Name: "vault", Path: t.Files, Kind: words{rightful.KindFile.String()}, Accept: []altTOML{{Owner: words{nameAny}}},
		}, maildir != "")
		if err != nil {
			return err
		}
		r.file = file
		v.pol.rules = append(v.pol.rules, r)
	}
	v.pol.maildir = maildir
	for _, p := range t.Outside {
		if err := checkOutside(p); err != nil {
			return fmt.Errorf("outside %q: %w", p, err)
		}
	}
	v.Outside = append(v.Outside, t.Outside...)
	if t.MaxSize < 0 {
		return fmt.Errorf("max_size %d is less than nothing", t.MaxSize)
	}
	if t.MaxSize > 0 {
		v.MaxSize = t.MaxSize
	}
	for _, r := range t.Recipients {
		if !strings.HasPrefix(r, "age1") {
			return fmt.Errorf(`recipient %q is not of the form "age1…"`, r)
		}
	}
	v.Recipients = append(v.Recipients, t.Recipients...)
	return nil
}

func checkOutside(p string) error {
	plain := strings.NewReplacer("{user}", "u", "{domain}", "d").Replace(p)
	switch {
	case !path.IsAbs(p) || path.Clean(plain) != plain:
		return errors.New("is not a plain absolute path")
	case strings.ContainsAny(plain, "{}*?"):
		return errors.New("only {user} and {domain} stand for something here")
	case plain == p:
		return errors.New("names neither {user} nor {domain}: it is not one account's")
	}
	return nil
}
