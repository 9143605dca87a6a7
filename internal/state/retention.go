package state

import (
	"fmt"
	"strconv"
	"time"
)

// A Retention says which of a series are kept, by restic's names: the newest Last, and of each of the newest so many hours,
// days, weeks, months and years that have one the newest. What several of these keep is kept once. The zero Retention keeps
// nothing.
type Retention struct{ Last, Hourly, Daily, Weekly, Monthly, Yearly int }

// Keep gives for each of the times, which come newest first, why it is kept: "last", "daily", …; nothing for one that is
// not. Hours and days are those of loc.
func (p Retention) Keep(times []time.Time, loc *time.Location) [][]string {
	rules := []struct {
		name string
		n    int
		of   func(t time.Time, i int) string // the same for two of which one is enough
	}{
		{"last", p.Last, func(_ time.Time, i int) string { return strconv.Itoa(i) }},
		{"hourly", p.Hourly, func(t time.Time, _ int) string { return t.Format("2006-01-02 15") }},
		{"daily", p.Daily, func(t time.Time, _ int) string { return t.Format("2006-01-02") }},
		{"weekly", p.Weekly, func(t time.Time, _ int) string { y, w := t.ISOWeek(); return fmt.Sprint(y, " ", w) }},
		{"monthly", p.Monthly, func(t time.Time, _ int) string { return t.Format("2006-01") }},
		{"yearly", p.Yearly, func(t time.Time, _ int) string { return t.Format("2006") }},
	}
	keep := make([][]string, len(times))
	for _, r := range rules {
		last := ""
		for i, t := range times {
			if r.n == 0 {
				break
			}
			if of := r.of(t.In(loc), i); of != last {
				last = of
				r.n--
				keep[i] = append(keep[i], r.name)
			}
		}
	}
	return keep
}
