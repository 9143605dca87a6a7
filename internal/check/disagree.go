package check

import (
	"slices"

	"rightful/internal/web"
)

// Disagrees reports whether an answer of the server contradicts a prediction. No answer, and one that says itself that it
// will be another soon, proves nothing; a program may fail or refuse by itself, but not be refused.
func Disagrees(v *web.Verdict, a web.Answer) bool {
	want := v.Statuses
	if v.Certain {
		want = []int{v.Status}
	}
	if v.Status == 0 || len(want) == 0 || a.Class == web.ClassNone || a.Later {
		return false
	}
	if v.App {
		return a.Status == 403
	}
	return !slices.ContainsFunc(want, func(status int) bool { return web.ClassOf(status) == a.Class })
}
