package cniserver

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dubway/dubway/cni/wire"
)

// result is how a request ended.
type result string

const (
	ok      result = "ok"
	failed  result = "failed"  // the pod does not start, or is not as it should be
	gone    result = "gone"    // nobody waited for the answer any more
	refused result = "refused" // not root, or no request
)

// counts are the server's counters, under dubway_cni_.
type counts struct {
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	inWork    prometheus.Gauge
}

func newCounts() *counts {
	return &counts{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dubway_cni_requests_total", Help: "Requests of the CNI plugin, by verb and result."}, []string{"verb", "result"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dubway_cni_request_duration_seconds", Help: "How long the CNI plugin waited, by verb.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2, 10, 30}}, []string{"verb"}),
		inWork: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "dubway_cni_requests_in_work", Help: "Requests of the CNI plugin that wait for their answer."}),
	}
}

// refused counts a connection without a request.
func (c *counts) refused() { c.requests.WithLabelValues("", string(refused)).Inc() }

// begin counts a request that began, and returns what counts its end.
func (c *counts) begin(v wire.Verb) func(result, time.Duration) {
	c.inWork.Inc()
	return func(r result, took time.Duration) {
		c.inWork.Dec()
		c.requests.WithLabelValues(string(v), string(r)).Inc()
		c.durations.WithLabelValues(string(v)).Observe(took.Seconds())
	}
}

var _ prometheus.Collector = (*Server)(nil)

// Describe is part of prometheus.Collector.
func (s *Server) Describe(descs chan<- *prometheus.Desc) {
	s.counts.requests.Describe(descs)
	s.counts.durations.Describe(descs)
	s.counts.inWork.Describe(descs)
}

// Collect is part of prometheus.Collector.
func (s *Server) Collect(metrics chan<- prometheus.Metric) {
	s.counts.requests.Collect(metrics)
	s.counts.durations.Collect(metrics)
	s.counts.inWork.Collect(metrics)
}
