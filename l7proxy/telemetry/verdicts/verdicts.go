// Package verdicts exposes what policies decided as metrics. Their labels come from
// the configuration alone, so that nobody who calls can make a series. It counts
// nothing: package filter/tally does.
package verdicts

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dubway/dubway/l7proxy/filter/tally"
)

var (
	access = prometheus.NewDesc("dubway_rbac_total", "Verdicts of RBAC filters on requests and connections.",
		[]string{"filter", "stat_prefix", "mode", "action", "policy", "result"}, nil)
	limits = prometheus.NewDesc("dubway_local_rate_limit_total", "Requests and connections that local rate limits were asked about.",
		[]string{"filter", "stat_prefix", "result"}, nil)
	globals = prometheus.NewDesc("dubway_global_rate_limit_total", "Requests that a rate limit service was to be asked about.",
		[]string{"filter", "stat_prefix", "result"}, nil)
	faults = prometheus.NewDesc("dubway_faults_total",
		"Requests that a fault delayed or aborted, or was to, but had too many delayed already.", []string{"filter", "result"}, nil)
)

// Collector exposes the counts that all returns, as they are at each scrape. It is
// safe for concurrent use if all is.
type Collector func() []tally.Count

var _ prometheus.Collector = Collector(nil)

// Describe is part of prometheus.Collector.
func (Collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- access
	ch <- limits
	ch <- globals
	ch <- faults
}

// Collect is part of prometheus.Collector.
func (c Collector) Collect(ch chan<- prometheus.Metric) {
	for _, one := range c() {
		l, total := &one.Labels, float64(one.Total)
		switch l.Kind {
		case tally.KindRBAC:
			ch <- prometheus.MustNewConstMetric(access, prometheus.CounterValue, total,
				l.Filter, l.Prefix, l.Mode, l.Action, l.Policy, l.Result)
		case tally.KindLimit:
			ch <- prometheus.MustNewConstMetric(limits, prometheus.CounterValue, total, l.Filter, l.Prefix, l.Result)
		case tally.KindGlobal:
			ch <- prometheus.MustNewConstMetric(globals, prometheus.CounterValue, total, l.Filter, l.Prefix, l.Result)
		case tally.KindFault:
			ch <- prometheus.MustNewConstMetric(faults, prometheus.CounterValue, total, l.Filter, l.Result)
		}
	}
}
