package check

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rightful/internal/tree/treetest"

	"github.com/google/go-cmp/cmp"
)

// predictions runs a prediction and gives one line for each URL.
func predictions(t *testing.T, o PredictOptions) (lines []string, urls []URL) {
	t.Helper()
	if err := Predict(t.Context(), o, func(p *Prediction) error {
		for i := range p.URLs {
			u := p.URLs[i]
			urls = append(urls, u)
			v := &u.Verdict
			lines = append(lines, fmt.Sprint(u.Site, " ", u.URL, " ", u.Kind, " ", u.Public, " ", v.Status, " ", v.Code, " ", v.Cause, " ", v.Culprit, " ", v.Certain))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return lines, urls
}

// messyWorld is a server of n messy accounts, the same for the same seed, with spec on top.
func messyWorld(t *testing.T, seed uint64, n int, spec string) (Options, []string) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	var names []string
	all := ""
	for i := range n {
		names = append(names, fmt.Sprintf("user%02d", i))
		all += messy(r, names[i], alice+i)
	}
	return world(t, all+"\n"+spec, names...), names
}

// Every file, directory and link below a document root is predicted exactly once, in the same order at any number of jobs;
// its request path, sent as it is, leads to it.
func TestPredictNamesEveryEntryOnceInOneOrder(t *testing.T) {
	treetest.NeedRoot(t)
	o, names := messyWorld(t, 7, 8, "f 0644 20001:20001 \"home/user00/public_html/a%b?\\xff.html\"")
	p := PredictOptions{Server: o.Server, World: o.World, Wanted: true, Jobs: 1}
	want, urls := predictions(t, p)
	for range 2 {
		p.Jobs = 8
		if got, _ := predictions(t, p); !slices.Equal(want, got) {
			t.Fatalf("1 job and 8 differ:\n%s", cmp.Diff(want, got))
		}
	}
	got := map[string]int{}
	for _, u := range urls {
		got[u.Path]++
		path, err := url.PathUnescape(u.URL)
		root := "/home/" + u.Account + "/public_html"
		if err != nil || strings.TrimSuffix(root+path, "/") != u.Path {
			t.Errorf("%q is to lead to %q (%v)", u.URL, u.Path, err)
		}
	}
	n := 0
	for _, name := range names {
		root := filepath.Join(o.Server.Dir(), "home", name, "public_html")
		if err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
			n++
			if p = strings.TrimPrefix(p, o.Server.Dir()); got[p] != 1 {
				t.Errorf("%q is predicted %d times", p, got[p])
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if n != len(urls) || n < 50 {
		t.Errorf("%d URLs, and find meets %d entries", len(urls), n)
	}
}

// What check counts as blocked is what predict finds kept from visitors among the files that are meant for them.
func TestCheckAndPredictSayTheSame(t *testing.T) {
	treetest.NeedRoot(t)
	o, _ := messyWorld(t, 11, 10, "")
	blocked, front := map[string]int{}, map[string]int{}
	_, urls := predictions(t, PredictOptions{Server: o.Server, World: o.World, Wanted: true})
	for _, u := range urls {
		if u.Public && u.Kind.String() == "file" && u.Verdict.Cause.Fault() {
			blocked[u.Site]++
		}
		if u.URL == "/" {
			front[u.Site] = u.Verdict.Status
		}
	}
	some := 0
	for _, r := range reports(t, o) {
		for _, v := range r.Now {
			some += v.Blocked
			if v.Blocked != blocked[v.Site] || v.Status != front[v.Site] {
				t.Errorf("%s: check says %d and %d blocked, predict %d and %d", v.Site, v.Status, v.Blocked, front[v.Site], blocked[v.Site])
			}
		}
	}
	if some < 10 {
		t.Errorf("only %d files are blocked", some)
	}
}
