package check

import (
	"bytes"
	"fmt"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
)

// backupRules says that backups of plain accounts are made as cPanel makes its own.
var backupRules = fstest.MapFS{"b.toml": {Data: []byte("version = 1\npanel = \"plain\"\n[backup]\nas = \"user\"\nexcept = [\"lscache\", \"old-*\"]\n")}}

// lackedByTar builds a home and has GNU tar, as alice, say what it cannot read: files, and directories for all in them.
func lackedByTar(t *testing.T, spec string) (files, dirs []string) {
	dir := treetest.OpenDir(t)
	treetest.Build(t, dir, "d 0755 0:0 home\n"+spec)
	cmd := exec.Command("tar", "--create", "--file=-", "--quoting-style=literal", "-C", filepath.Join(dir, "home/alice"), ".")
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: alice, Gid: alice}}
	var archive, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &archive, &complaints // tar opens no file where it writes to /dev/null
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^tar: \./(.*): Cannot (open|stat): Permission denied$`).FindAllStringSubmatch(complaints.String(), -1) {
		if m[2] == "stat" { // it may list the directory, and not enter it
			m[1] = path.Dir(m[1])
		}
		if p := "/home/alice/" + m[1]; strings.HasPrefix(path.Base(p), "dir") {
			dirs = append(dirs, p)
		} else {
			files = append(files, p)
		}
	}
	slices.Sort(files)
	slices.Sort(dirs)
	return files, dirs
}

func TestABackupLacksWhatTarCannotReadAsTheUser(t *testing.T) {
	const home = "d 0711 20001:20001 home/alice\nd 0755 20001:20001 home/alice/public_html\n"
	odd := home + `
		f 0640 0:0 home/alice/acl acl=user::rw-,user:20001:r--,group::---,mask::r--,other::--- = x
		f 0600 0:0 home/alice/masked acl=user::rw-,user:20001:r--,group::---,mask::---,other::--- = x
		f 0404 20001:0 home/alice/barred acl=user::---,group::---,group:0:r--,mask::r--,other::r-- = x
		d 0750 0:0 home/alice/dir-acl acl=user::rwx,user:20001:r-x,group::---,mask::r-x,other::---
		f 0600 0:0 home/alice/dir-acl/lost = x
		l 0777 0:0 home/alice/link -> acl
		p 0000 0:0 home/alice/pipe
		s 0000 0:0 home/alice/socket
		f 0600 0:0 home/alice/linked = x
		h 0600 0:0 home/alice/linked2 -> home/alice/linked
	`
	specs := map[string]string{"odd": odd}
	for _, uid := range []int{0, alice, bob} {
		for _, gid := range []int{0, alice, www} {
			spec := home
			for _, mode := range []int{0, 0o004, 0o005, 0o040, 0o050, 0o044, 0o055, 0o100, 0o200, 0o300, 0o400, 0o500, 0o444, 0o555, 0o755, 0o644, 0o2750} {
				spec += fmt.Sprintf("f %04o %d:%d home/alice/file-%[1]o = x\n", mode, uid, gid)
				spec += fmt.Sprintf("d %04o %d:%d home/alice/dir-%[1]o\nf 0600 0:0 home/alice/dir-%[1]o/lost = x\n", mode, uid, gid)
			}
			specs[fmt.Sprintf("%d:%d", uid, gid)] = spec
		}
	}
	for name, spec := range specs {
		t.Run(name, func(t *testing.T) {
			files, dirs := lackedByTar(t, spec)
			o := world(t, spec, "alice")
			o.Overrides = backupRules
			g := reports(t, o)[0].Gap
			if g == nil || g.Account != "alice" || len(files)+len(dirs) < 3 {
				t.Fatalf("gap %+v; tar lacks %q and %q", g, files, dirs)
			}
			if g.Unreadable != len(files)+len(dirs) || g.Directories != len(dirs) {
				t.Errorf("%d unreadable, %d of them directories; tar lacks %q and %q", g.Unreadable, g.Directories, files, dirs)
			}
			for _, s := range g.Samples {
				if !slices.Contains(files, s.Path) && !slices.Contains(dirs, s.Path) {
					t.Errorf("%s is said to be lacking; tar lacks %q and %q", s.Path, files, dirs)
				}
			}
		})
	}
}

func TestWhatABackupIsNotToHoldIsNotLacking(t *testing.T) {
	const spec = healthy + `
		f 0600 0:0 home/alice/lscache = x
		d 0700 0:0 home/alice/old-1
		f 0600 0:0 home/alice/old-1/a = x
		d 0755 20001:20001 home/alice/old-2
		f 0600 0:0 home/alice/old-2/a = x
		d 0755 20001:20001 home/alice/my
	`
	gap := func(t *testing.T, spec string, change func(*Options)) *Gap {
		o := world(t, spec, "alice")
		o.Overrides = backupRules
		change(&o)
		return reports(t, o)[0].Gap
	}
	for name, tt := range map[string]struct {
		more   string
		change func(*Options)
		want   int
	}{
		"left out by name":                  {"", func(*Options) {}, 0},
		"of that name, and elsewhere":       {"f 0600 0:0 home/alice/my/lscache = x\nf 0600 0:0 home/alice/my/old-1 = x\n", func(*Options) {}, 2},
		"the home":                          {"f 0600 0:0 home/alice/x = x\nd 0700 0:0 home/alice\n", func(*Options) {}, 1},
		"excluded by the operator":          {"f 0600 0:0 home/alice/my/x = x\n", func(o *Options) { o.Exclude = []string{"/home/*/my"} }, 0},
		"a suspended account":               {"f 0600 0:0 home/alice/x = x\n", func(o *Options) { o.World.Accounts[0].Suspended = true }, 0},
		"a panel of which nothing is known": {"f 0600 0:0 home/alice/x = x\n", func(o *Options) { o.Overrides = nil }, 0},
		"backups that root makes": {"f 0600 0:0 home/alice/x = x\n", func(o *Options) {
			o.Overrides = fstest.MapFS{"b.toml": backupRules["b.toml"], "c.toml": {Data: []byte("version = 1\npanel = \"*\"\n[backup]\nas = \"root\"\n")}}
		}, 0},
	} {
		g := gap(t, spec+tt.more, tt.change)
		if n := 0; g != nil {
			n = g.Unreadable
			if n != tt.want {
				t.Errorf("%s: %d lacking, %+v, want %d", name, n, g.Samples, tt.want)
			}
		} else if tt.want != 0 {
			t.Errorf("%s: nothing is lacking, want %d", name, tt.want)
		}
	}
}

func TestASampleOfAGapKeepsItsBytes(t *testing.T) {
	o := world(t, healthy+`
		f 0600 0:0 "home/alice/caf\xe9" = x`, "alice")
	o.Overrides = backupRules
	g := reports(t, o)[0].Gap
	if g == nil {
		t.Fatal("no gap")
	}
	if d := cmp.Diff([]GapSample{{Path: "/home/alice/caf\xe9", PathB64: []byte("/home/alice/caf\xe9"), Kind: 1}}, g.Samples); d != "" {
		t.Error(d)
	}
}
