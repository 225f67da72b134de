package counters

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// Collector exposes counters to Prometheus, which reads them when metrics are scraped.
func Collector(lists ...[]Counter) prometheus.Collector {
	var c collector
	for _, one := range slices.Concat(lists...) {
		kind := prometheus.CounterValue
		if one.Gauge {
			kind = prometheus.GaugeValue
		}
		c = append(c, metric{prometheus.NewDesc(one.Name, one.Help, nil, one.Labels), kind, one.Value})
	}
	return c
}

// metric is a Counter as Prometheus describes it.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func() float64
}

type collector []metric

// Describe is part of prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, one := range c {
		ch <- one.desc
	}
}

// Collect is part of prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	for _, one := range c {
		ch <- prometheus.MustNewConstMetric(one.desc, one.kind, one.value())
	}
}
