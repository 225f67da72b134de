package counters_test

import (
	"fmt"
	"testing"

	"github.com/dubway/dubway/l7proxy/counters"
	"github.com/dubway/dubway/l7proxy/lane/tally"
)

// TestLanes: each counter reads its own number at every scrape.
func TestLanes(t *testing.T) {
	var now tally.Totals
	list := counters.Lanes(func() tally.Totals { return now }, func() int { return 12 })
	now = tally.Totals{
		Opened: 1, Calls: 2, Requests: 3, Slow: 4, Returned: 5, Behind: 6, Full: 7, Told: 8, Dropped: 9, Open: 10, Series: 11,
		Closed: [tally.Reasons]uint64{tally.Idle: 13, tally.Draining: 14},
	}
	want := map[string]float64{
		"dubway_lanes_opened_total map[]": 1, "dubway_lane_calls_total map[]": 2, "dubway_lane_requests_total map[]": 3,
		"dubway_lane_slow_total map[]": 4, "dubway_lane_returned_total map[]": 5, "dubway_lane_resyncs_total map[]": 6,
		"dubway_lane_full_total map[]": 7, "dubway_lane_log_told_total map[]": 8, "dubway_lane_log_dropped_total map[]": 9,
		"dubway_lanes map[]": 10, "dubway_lane_series map[]": 11, "dubway_lane_routes map[]": 12,
		"dubway_lanes_closed_total map[reason:idle]": 13, "dubway_lanes_closed_total map[reason:draining]": 14,
	}
	seen := map[string]bool{}
	for _, c := range list {
		series := fmt.Sprint(c.Name, " ", c.Labels)
		if seen[series] {
			t.Errorf("%s is there twice", series)
		}
		seen[series] = true
		if got := c.Value(); got != want[series] {
			t.Errorf("%s is %v, want %v", series, got, want[series])
		}
	}
	for _, c := range counters.Observed(func() (taken, other uint64) { return 15, 16 }) {
		series := fmt.Sprint(c.Name, " ", c.Labels)
		if got := c.Value(); got != map[string]float64{
			"dubway_lane_observed_total map[way:lane]": 15, "dubway_lane_observed_total map[way:proxy]": 16,
		}[series] {
			t.Errorf("%s is %v", series, got)
		}
	}
	for series := range want {
		if !seen[series] {
			t.Errorf("%s is not there", series)
		}
	}
}
