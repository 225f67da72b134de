package counters

import "github.com/dubway/dubway/l7proxy/lane/tally"

// Observed lists what is counted where it is observed which requests would take lanes.
func Observed(of func() (taken, other uint64)) []Counter {
	const name, help = "dubway_lane_observed_total", "Dubbo requests of consumers in the mode observe, by the way they would have taken."
	lane := Count(name, help, func() uint64 { n, _ := of(); return n })
	proxy := Count(name, help, func() uint64 { _, n := of(); return n })
	lane.Labels, proxy.Labels = map[string]string{"way": "lane"}, map[string]string{"way": "proxy"}
	return []Counter{lane, proxy}
}

// Lanes lists what is counted of lanes. The functions are safe for concurrent use.
func Lanes(totals func() tally.Totals, routes func() int) []Counter {
	count := func(name, help string, of func(*tally.Totals) uint64) Counter {
		return Count(name, help, func() uint64 {
			all := totals()
			return of(&all)
		})
	}
	list := []Counter{
		Gauge("dubway_lanes", "Connections of consumers that have a lane.", func() float64 { return float64(totals().Open) }),
		count("dubway_lanes_opened_total", "Lanes that were opened.", func(all *tally.Totals) uint64 { return all.Opened }),
		Gauge("dubway_lane_routes", "Names whose calls may take lanes.", func() float64 { return float64(routes()) }),
		Gauge("dubway_lane_series", "Ways of calls that the kernel counts.", func() float64 { return float64(totals().Series) }),
		count("dubway_lane_calls_total", "Calls that took the lane both ways.", func(all *tally.Totals) uint64 { return all.Calls }),
		count("dubway_lane_requests_total", "Requests that took the lane, however their calls ended.",
			func(all *tally.Totals) uint64 { return all.Requests }),
		count("dubway_lane_slow_total", "Messages of consumers with a lane that went to the proxy.",
			func(all *tally.Totals) uint64 { return all.Slow }),
		count("dubway_lane_returned_total", "Messages of providers of a lane that went to the proxy.",
			func(all *tally.Totals) uint64 { return all.Returned }),
		count("dubway_lane_resyncs_total", "Messages that the kernel could not read until the proxy had read what was before them.",
			func(all *tally.Totals) uint64 { return all.Behind }),
		count("dubway_lane_full_total", "Requests that went to the proxy because too many were in flight, or the provider was behind.",
			func(all *tally.Totals) uint64 { return all.Full }),
		count("dubway_lane_scarce_total", "Messages of a lane that went to the proxy because there may be no memory for them.",
			func(all *tally.Totals) uint64 { return all.Scarce }),
		count("dubway_lane_log_told_total", "Calls in the lane that were told of one by one.",
			func(all *tally.Totals) uint64 { return all.Told }),
		count("dubway_lane_log_dropped_total", "Calls in the lane that were to be told of and were beyond --lane-log; they are counted.",
			func(all *tally.Totals) uint64 { return all.Dropped }),
	}
	for why := range tally.Reason(tally.Reasons) {
		c := count("dubway_lanes_closed_total", "Lanes that were closed, by why.",
			func(all *tally.Totals) uint64 { return all.Closed[why] })
		c.Labels = map[string]string{"reason": why.String()}
		list = append(list, c)
	}
	return list
}
