package hostbox

import (
	"context"
	"strings"
)

// Listing describes owner, group, mode, ACLs and capabilities of every entry of the customers, as find, getfacl and
// getcap tell it: one sorted line for each entry, then what else it has. Two equal listings mean that nothing which
// Rightful may change differs. Newlines in names are shown as \n.
func (b *Box) Listing(ctx context.Context) (string, error) {
	out, err := b.Run(ctx, `
find /home /home2 /srv -printf '%M %m %U:%G %n %p\0' | sort -z -k 5 | sed -z 's/\n/\\n/g' | tr '\0' '\n'
getfacl --recursive --physical --absolute-names --numeric --skip-base /home /home2 /srv
getcap -r /home /home2 /srv 2>/dev/null | sort`)
	return out, err
}

// Differ names the first lines in which two listings differ, at most n; it is empty for equal ones.
func Differ(before, after string, n int) []string {
	count := map[string]int{}
	for l := range strings.Lines(before) {
		count[l]--
	}
	for l := range strings.Lines(after) {
		count[l]++
	}
	var diff []string
	collect := func(text, mark string, sign int) {
		for l := range strings.Lines(text) {
			if count[l]*sign > 0 && len(diff) < n {
				diff = append(diff, mark+strings.TrimSuffix(l, "\n"))
				count[l] -= sign
			}
		}
	}
	collect(before, "- ", -1)
	collect(after, "+ ", 1)
	return diff
}
