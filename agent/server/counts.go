package server

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dubway/dubway/internal/handoff"
)

// Counts are the counters of what proxies ask for, under dubway_. They outlive servers.
type Counts struct {
	dials   *prometheus.CounterVec // by result
	proxies *prometheus.CounterVec // of proxies, by result
}

// NewCounts makes counters that are 0.
func NewCounts() *Counts {
	return &Counts{
		dials: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dubway_dials_total", Help: "Sockets that the proxy asked for, by result."}, []string{"result"}),
		proxies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dubway_handoff_connects_total", Help: "Proxies that connected, by result."}, []string{"result"}),
	}
}

// dial counts one dial by how it ended.
func (c *Counts) dial(err error) {
	result := "ok"
	if err != nil {
		result = string(handoff.DialFailed)
		if d, ok := errors.AsType[*handoff.DialError](err); ok {
			result = string(d.Code)
		}
	}
	c.dials.WithLabelValues(result).Inc()
}

// Collectors are what is to be registered.
func (c *Counts) Collectors() []prometheus.Collector {
	return []prometheus.Collector{c.dials, c.proxies}
}
