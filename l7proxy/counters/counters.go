// Package counters lists what the proxy's rooms count for themselves, under the names,
// helps and labels of docs/metrics.md, and exposes it. It counts nothing. What is told of requests by their Record is package telemetry's.
package counters

import (
	"slices"
	"time"

	"github.com/dubway/dubway/l7proxy/cluster/checkup"
	"github.com/dubway/dubway/l7proxy/cluster/outlier"
	"github.com/dubway/dubway/l7proxy/listener"
	"github.com/dubway/dubway/l7proxy/mirror"
	"github.com/dubway/dubway/l7proxy/mtls"
	"github.com/dubway/dubway/l7proxy/overload"
	"github.com/dubway/dubway/l7proxy/quota"
	"github.com/dubway/dubway/l7proxy/telemetry/inverted"
	"github.com/dubway/dubway/l7proxy/telemetry/stale"
	"github.com/dubway/dubway/l7proxy/trace"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// Counter is one series.
type Counter struct {
	Name, Help string
	Labels     map[string]string // nil: none
	Gauge      bool              // it goes down too
	// Value reads it. It is called at each scrape, from any goroutine.
	Value func() float64
}

// Sources are what is counted. All of them are needed; they are read while they are
// written, and the functions are safe for concurrent use.
type Sources struct {
	Listeners *listener.Stats
	Upstream  *upstream.Stats
	Checks    *checkup.Stats
	Outliers  *outlier.Stats
	Waits     *quota.Waits
	Memory    *overload.Monitor
	TLS       *mtls.Stats
	Spans     *trace.Stats
	Stale     *stale.List
	Inverted  *inverted.List
	Mirror    *mirror.Mirror

	Connections func() int    // to providers, that live
	Rejections  func() uint64 // of resources, so far
	Generation  func() uint64 // of the snapshot in use
	Workloads   func() int    // that the proxy serves
}

// Count is a Counter without labels that only grows.
func Count(name, help string, f func() uint64) Counter {
	return Counter{Name: name, Help: help, Value: func() float64 { return float64(f()) }}
}

// Gauge is a Counter without labels that goes down too.
func Gauge(name, help string, f func() float64) Counter {
	return Counter{Name: name, Help: help, Gauge: true, Value: f}
}

// labelled is a Counter that only grows.
func labelled(name, help string, labels map[string]string, f func() uint64) Counter {
	c := Count(name, help, f)
	c.Labels = labels
	return c
}

// New lists the counters of s.
func New(s Sources) []Counter {
	return slices.Concat(s.connections(), s.state(), s.requests(), s.answers(), s.tls(), s.outliers(), s.spans())
}

// connections tell of those of pods and of those to providers.
func (s *Sources) connections() []Counter {
	l, u, w := s.Listeners, s.Upstream, s.Waits
	waited := Counter{
		Name: "dubway_decode_wait_seconds_total", Help: "How long they waited.",
		Value: func() float64 { return time.Duration(w.Nanos.Load()).Seconds() },
	}
	return []Counter{
		Count("dubway_connections_accepted_total", "Connections accepted from pods.", l.Accepted.Load),
		Count("dubway_connections_direct_total", "Connections to the mesh's own ports that nobody steered; closed.", l.Direct.Load),
		Count("dubway_connections_asked_total", "Connections by which the agent asks whether the way of calls works.", l.Asked.Load),
		Count("dubway_connections_limited_total", "Connections refused over the limit of a workload.", l.Limited.Load),
		Count("dubway_connections_tight_total", "Connections refused because the proxy's memory was tight.", l.Tight.Load),
		Gauge("dubway_connections_active", "Live connections of pods.", func() float64 { return float64(l.Active.Load()) }),
		Count("dubway_accept_errors_total", "Accepts that failed.", l.Failed.Load),
		Count("dubway_witnesses_total", "Witness connections that arrived.", l.Witnesses.Load),
		Count("dubway_decode_waits_total", "Waits of connections whose workload had rules read too much of its requests.", w.Count.Load),
		waited,
		Count("dubway_upstream_dial_failures_total", "Connections to providers that could not be made.", u.DialFailures.Load),
		Count("dubway_upstream_unasked_total", "Answers that nobody waited for; dropped.", u.Unasked.Load),
		Gauge("dubway_upstream_connections", "Live connections to providers.", func() float64 { return float64(s.Connections()) }),
	}
}

// state tells how things are with the proxy, its configuration and its endpoints.
func (s *Sources) state() []Counter {
	checks := s.Checks
	return []Counter{
		Gauge("dubway_memory_level", "How near its limit the proxy's memory is: 0 calm, 1 tight (80 %), 2 full (90 %).",
			func() float64 { return float64(s.Memory.Level()) }),
		Count("dubway_health_checks_total", "Active health checks that were made.", checks.Checks.Load),
		Count("dubway_health_check_failures_total", "Active health checks that failed.", checks.Failures.Load),
		Gauge("dubway_health_unhealthy", "Endpoints that failed their active health checks, of all clusters.",
			func() float64 { return float64(checks.Out.Load()) }),
		Count("dubway_xds_rejections_total", "Resources that were rejected.", s.Rejections),
		Gauge("dubway_snapshot_generation", "Generation of the snapshot in use.", func() float64 { return float64(s.Generation()) }),
		Gauge("dubway_proxy_workloads", "Pods that the proxy serves.", func() float64 { return float64(s.Workloads()) }),
	}
}

// outliers tell of endpoints that are left alone.
func (s *Sources) outliers() []Counter {
	o := s.Outliers
	list := []Counter{
		Gauge("dubway_outlier_ejected", "Endpoints that are left alone at present, of all clusters.",
			func() float64 { return float64(o.Active.Load()) }),
		Count("dubway_outlier_overflows_total", "Ejections that max_ejection_percent forbade.", o.Overflows.Load),
	}
	for k := range outlier.Kind(outlier.Kinds) {
		list = append(list, labelled("dubway_outlier_ejections_total", "Endpoints that were left alone for a while.",
			map[string]string{"detector": k.String()}, o.Ejections[k].Load))
	}
	return list
}
