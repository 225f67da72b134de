package lanes

import (
	"github.com/prometheus/client_golang/prometheus"
)

var (
	modeDesc = prometheus.NewDesc("dubway_agent_lane_mode",
		"1 for the mode that lanes of this node are in, 0 for the others.", []string{"mode"}, nil)
	workloadsDesc = prometheus.NewDesc("dubway_agent_lane_workloads",
		"Workloads whose sockets may take lanes.", nil, nil)
	keptDesc = prometheus.NewDesc("dubway_agent_lanes_kept",
		"Open lanes whose sockets the agent holds too: a proxy's, or left by one that is dead.", []string{"state"}, nil)
	outcomesDesc = prometheus.NewDesc("dubway_lane_outcomes_total",
		"What the lanes' programs decided, since the maps were made, by outcome.", []string{"outcome"}, nil)
)

var _ prometheus.Collector = (*Lanes)(nil)

// Describe is part of prometheus.Collector.
func (l *Lanes) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{modeDesc, workloadsDesc, keptDesc, outcomesDesc} {
		descs <- d
	}
}

// Collect is part of prometheus.Collector.
func (l *Lanes) Collect(metrics chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value int, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), labels...)
	}
	s := l.Status()
	for _, m := range modes {
		is := 0
		if s.Mode == string(m) {
			is = 1
		}
		gauge(modeDesc, is, string(m))
	}
	gauge(workloadsDesc, s.Workloads)
	gauge(keptDesc, s.Kept-s.Left, "owned")
	gauge(keptDesc, s.Left, "left")
	for outcome, n := range s.Outcomes {
		metrics <- prometheus.MustNewConstMetric(outcomesDesc, prometheus.CounterValue, float64(n), outcome)
	}
}
