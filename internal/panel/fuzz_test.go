package panel

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// servers are one server of every panel.
func servers() map[string]files {
	return map[string]files{
		"cpanel": cpanelFiles(), "directadmin": directAdminFiles(), "hestia": vestaFiles("usr/local/hestia", "hestia.conf"),
		"virtualmin": virtualminFiles(), "plesk": pleskFiles(), "ispconfig": ispFiles(), "openlitespeed": lsFiles(), "nginx": nginxFiles(),
		"plain": plainFiles(),
	}
}

// Whatever stands in any one file that a panel keeps, its reader comes to an end, and every account that it then lists is
// one of the users, with a home of its own and document roots that are absolute.
func FuzzPanels(f *testing.F) {
	for name, fs := range servers() {
		for i := range readable(fs) {
			f.Add(name, uint(i), "a=b\n")
		}
		f.Add(name, uint(0), "")
		f.Add(name, uint(1), "\ufeffalice: a.example\r\n====\n[[{{\x00\xff")
	}
	f.Fuzz(func(t *testing.T, name string, which uint, text string) {
		fs, ok := servers()[name]
		if !ok {
			t.Skip()
		}
		paths := readable(fs)
		fs = maps.Clone(fs)
		fs[paths[which%uint(len(paths))]] = text
		srv, err := Read(server(t, fs), Options{})
		if err != nil {
			if !strings.Contains(err.Error(), "passwd") {
				t.Errorf("not read: %v", err)
			}
			return
		}
		for _, a := range srv.Accounts {
			u, ok := srv.Users.ByName(a.Name)
			if !ok || u.UID != a.UID || a.UID == 0 || a.Home == "" || a.Home == "/" {
				t.Errorf("account %q with uid %d and home %q is not a user's", a.Name, a.UID, a.Home)
			}
			for _, s := range a.Sites {
				if !strings.HasPrefix(s.DocRoot, "/") || s.DocRoot == "/" {
					t.Errorf("site %q of %q has the document root %q", s.Name, a.Name, s.DocRoot)
				}
			}
		}
	})
}

// readable are the files that can hold another text, in order.
func readable(fs files) []string {
	var paths []string
	for p, text := range fs {
		if !strings.HasSuffix(p, "/") && !strings.HasPrefix(text, "-> ") {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	return paths
}
