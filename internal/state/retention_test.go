package state

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheNewestOfEachSpanIsKeptAndOnlySpansThatHaveOneCount(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse("2006-01-02 15:04", s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	times := []time.Time{
		at("2026-11-25 13:30"), at("2026-11-25 13:10"), at("2026-11-25 09:00"), at("2026-11-22 23:00"), at("2026-11-22 01:00"),
		at("2026-10-31 12:00"), at("2025-12-31 12:00"),
	}
	for _, c := range []struct {
		name string
		r    Retention
		want []string // the first reason of each
	}{
		{"nothing", Retention{}, []string{"", "", "", "", "", "", ""}},
		{"the last two", Retention{Last: 2}, []string{"last", "last", "", "", "", "", ""}},
		{"two hours", Retention{Hourly: 2}, []string{"hourly", "", "hourly", "", "", "", ""}},
		{"three days", Retention{Daily: 3}, []string{"daily", "", "", "daily", "", "daily", ""}},
		{"two weeks: Sunday ends one", Retention{Weekly: 2}, []string{"weekly", "", "", "weekly", "", "", ""}},
		{"two months", Retention{Monthly: 2}, []string{"monthly", "", "", "", "", "monthly", ""}},
		{"more years than there are", Retention{Yearly: 9}, []string{"yearly", "", "", "", "", "", "yearly"}},
	} {
		got := make([]string, len(times))
		for i, why := range c.r.Keep(times, time.UTC) {
			if len(why) > 0 {
				got[i] = why[0]
			}
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
	both := Retention{Last: 1, Daily: 1}.Keep(times[:1], time.UTC)
	if d := cmp.Diff([][]string{{"last", "daily"}}, both); d != "" {
		t.Errorf("kept for two reasons (-want +got):\n%s", d)
	}
	// A day is that of the place.
	if got := (Retention{Daily: 9}).Keep([]time.Time{at("2026-11-25 01:00"), at("2026-11-24 23:30")}, time.FixedZone("east", 3600)); len(got[1]) > 0 {
		t.Errorf("one day, counted as two: %q", got)
	}
}
