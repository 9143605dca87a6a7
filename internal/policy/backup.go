package policy

import (
	"fmt"
	"slices"
)

// The form of a [backup] table: what is known of the panel's own backups of an account.
//
//	as      "user" where the account's user makes them, and so lacks what it cannot read; "root" where nothing is lacking
//	except  what they leave out on purpose, with all beneath it: paths below the home, * and ? as in rules
type backupTOML struct {
	As     string `toml:"as"`
	Except words  `toml:"except"`
}

// A Backup says how a panel makes its own backups of an account. Its zero value is one of which nothing is known.
type Backup struct {
	// AsUser means that the account's user makes them: what it cannot read is missing, and nobody is told.
	AsUser bool
	except []pattern
}

// Backup is what the files of the policy say of backups; the last file that says as whom they are made wins.
func (p *Policy) Backup() Backup { return p.backup }

// LeavesOut reports whether backups leave out a path below the home, or a directory on the way to it, on purpose.
func (b *Backup) LeavesOut(rel string) bool {
	parts := splitComps(rel)
	return slices.ContainsFunc(b.except, func(pt pattern) bool { return pt.begins(parts) })
}

// compile gives what the table says. It is checked whatever panel it is for.
func (t *backupTOML) compile() (Backup, error) {
	b := Backup{AsUser: t.As == nameUser}
	if t.As != "" && t.As != nameUser && t.As != nameRoot {
		return b, fmt.Errorf(`as %q is neither "user" nor "root"`, t.As)
	}
	for _, s := range t.Except {
		pt, err := parseFixed(s)
		if err != nil {
			return b, fmt.Errorf("except %q: %w", s, err)
		}
		b.except = append(b.except, pt)
	}
	return b, nil
}

// addBackup puts what a file says on top of the files before it.
func (p *Policy) addBackup(t *backupTOML, b Backup) {
	if t.As != "" {
		p.backup.AsUser = b.AsUser
	}
	p.backup.except = append(p.backup.except, b.except...)
}
