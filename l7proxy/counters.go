package l7proxy

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dubway/dubway/l7proxy/counters"
)

// counters are those of all rooms.
func (p *Proxy) counters() prometheus.Collector {
	list := counters.New(counters.Sources{
		Listeners: p.listeners.Stats(), Upstream: p.pool.Stats(), Checks: p.clusters.Checks(), Outliers: p.clusters.Outliers(),
		Waits: p.quotas.Waits(), Memory: p.memory, TLS: p.ends.Stats(), Spans: p.tracer.Stats(),
		Stale: p.env.Stale, Inverted: p.env.Inverted, Mirror: p.env.Mirror,
		Connections: p.pool.Count, Rejections: p.rejections, Generation: p.generation.Load,
		Workloads: func() int { return len(p.workloads.All()) },
	})
	lanes := append(counters.Lanes(p.tally.Totals, p.tally.Routes), counters.Observed(p.riders.Observer.Counts)...)
	if p.control == nil {
		return counters.Collector(list, lanes)
	}
	return counters.Collector(list, lanes, counters.Control(p.control.Totals))
}
