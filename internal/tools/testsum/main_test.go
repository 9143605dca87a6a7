package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheLastLineCountsAndSkipsHaveReasons(t *testing.T) {
	in := `{"Action":"start","Package":"p"}
{"Action":"output","Package":"p","Test":"A","Output":"=== RUN   A\n"}
{"Action":"pass","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"B","Output":"    b_test.go:7: no loop devices\n"}
{"Action":"skip","Package":"p","Test":"B"}
{"Action":"output","Package":"p","Test":"C","Output":"    c_test.go:9: no loop devices\n"}
{"Action":"skip","Package":"p","Test":"C"}
{"Action":"pass","Package":"p"}
{"Action":"skip","Package":"q"}
`
	var b strings.Builder
	ok, err := summarize(strings.NewReader(in), &b)
	if err != nil || !ok {
		t.Errorf("summarize = %v, %v", ok, err)
	}
	if diff := cmp.Diff("skipped 2: no loop devices\n1 passed, 0 failed, 2 skipped\n", b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFailuresArePrintedWholeAndNeverASuccess(t *testing.T) {
	for in, want := range map[string]string{
		`{"Action":"output","Package":"p","Test":"A","Output":"    a_test.go:1: wrong\n"}
{"Action":"fail","Package":"p","Test":"A"}
{"Action":"fail","Package":"p"}
`: "--- failed: p A\n    a_test.go:1: wrong\n0 passed, 1 failed, 0 skipped\n",
		`{"Action":"pass","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Output":"panic: boom\n"}
{"Action":"fail","Package":"p"}
`: "--- failed: p\npanic: boom\n1 passed, 1 failed, 0 skipped\n",
		`{"ImportPath":"p","Action":"build-output","Output":"p/x.go:1: no\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"fail","Package":"p","FailedBuild":"p"}
`: "--- does not build: p\np/x.go:1: no\n--- failed: p\n0 passed, 1 failed, 0 skipped\n",
		"go: no such tool\n": "go: no such tool\n0 passed, 0 failed, 0 skipped\n",
	} {
		var b strings.Builder
		if ok, err := summarize(strings.NewReader(in), &b); ok || err != nil {
			t.Errorf("summarize(%s) = %v, %v", in, ok, err)
		}
		if diff := cmp.Diff(want, b.String()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
