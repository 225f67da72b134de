package l7proxy

import (
	"github.com/prometheus/client_golang/prometheus"

	rooms "github.com/dubway/dubway/l7proxy/counters"
)

// counter is one of the proxy's own counters, read when metrics are scraped.
type counter struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func() float64
}

// counters exposes what the rooms count for themselves.
type counters []counter

var _ prometheus.Collector = counters(nil)

// Describe is part of prometheus.Collector.
func (c counters) Describe(ch chan<- *prometheus.Desc) {
	for _, one := range c {
		ch <- one.desc
	}
}

// Collect is part of prometheus.Collector.
func (c counters) Collect(ch chan<- prometheus.Metric) {
	for _, one := range c {
		ch <- prometheus.MustNewConstMetric(one.desc, one.kind, one.value())
	}
}

// exposed makes a metric of what a room counts.
func exposed(c rooms.Counter) counter {
	kind := prometheus.CounterValue
	if c.Gauge {
		kind = prometheus.GaugeValue
	}
	return counter{desc: prometheus.NewDesc(c.Name, c.Help, nil, c.Labels), kind: kind, value: c.Value}
}

func count(name, help string, f func() uint64) counter { return exposed(rooms.Count(name, help, f)) }

func gauge(name, help string, f func() float64) counter { return exposed(rooms.Gauge(name, help, f)) }

// counters are those of all rooms but the control plane's.
func (p *Proxy) counters() counters {
	var list counters
	for _, c := range rooms.New(rooms.Sources{
		Listeners: p.listeners.Stats(), Upstream: p.pool.Stats(), Checks: p.clusters.Checks(), Outliers: p.clusters.Outliers(),
		Waits: p.quotas.Waits(), Memory: p.memory, TLS: p.ends.Stats(), Spans: p.tracer.Stats(),
		Stale: p.env.Stale, Inverted: p.env.Inverted, Mirror: p.env.Mirror,
		Connections: p.pool.Count, Rejections: p.rejections, Generation: p.generation.Load,
		Workloads: func() int { return len(p.workloads.All()) },
	}) {
		list = append(list, exposed(c))
	}
	return list
}
