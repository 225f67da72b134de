package l7proxy

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dubway/dubway/l7proxy/cluster/outlier"
	"github.com/dubway/dubway/l7proxy/mtls"
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

func count(name, help string, f func() uint64) counter {
	return counter{
		desc: prometheus.NewDesc(name, help, nil, nil), kind: prometheus.CounterValue,
		value: func() float64 { return float64(f()) },
	}
}

func gauge(name, help string, f func() float64) counter {
	return counter{desc: prometheus.NewDesc(name, help, nil, nil), kind: prometheus.GaugeValue, value: f}
}

func (p *Proxy) counters() counters {
	l, u := p.listeners.Stats(), p.pool.Stats()
	checks := p.clusters.Checks()
	return slices.Concat(p.outlierCounters(), p.requestCounters(), p.tlsCounters(), counters{
		count("dubway_connections_accepted_total", "Connections accepted from pods.", l.Accepted.Load),
		count("dubway_connections_direct_total", "Connections to the mesh's own ports that nobody steered; closed.", l.Direct.Load),
		count("dubway_connections_limited_total", "Connections refused over the limit of a workload.", l.Limited.Load),
		count("dubway_connections_tight_total", "Connections refused because the proxy's memory was tight.", l.Tight.Load),
		count("dubway_decode_waits_total", "Waits of connections whose workload had rules read too much of its requests.",
			p.quotas.Waits().Count.Load),
		counter{
			desc: prometheus.NewDesc("dubway_decode_wait_seconds_total", "How long they waited.", nil, nil), kind: prometheus.CounterValue,
			value: func() float64 { return time.Duration(p.quotas.Waits().Nanos.Load()).Seconds() },
		},
		gauge("dubway_memory_level", "How near its limit the proxy's memory is: 0 calm, 1 tight (80 %), 2 full (90 %).",
			func() float64 { return float64(p.memory.Level()) }),
		count("dubway_accept_errors_total", "Accepts that failed.", l.Failed.Load),
		count("dubway_witnesses_total", "Witness connections that arrived.", l.Witnesses.Load),
		count("dubway_upstream_dial_failures_total", "Connections to providers that could not be made.", u.DialFailures.Load),
		count("dubway_upstream_unasked_total", "Answers that nobody waited for; dropped.", u.Unasked.Load),
		count("dubway_health_checks_total", "Active health checks that were made.", checks.Checks.Load),
		count("dubway_health_check_failures_total", "Active health checks that failed.", checks.Failures.Load),
		gauge("dubway_health_unhealthy", "Endpoints that failed their active health checks, of all clusters.", func() float64 {
			return float64(checks.Out.Load())
		}),
		count("dubway_xds_rejections_total", "Resources that were rejected.", p.rejections),
		gauge("dubway_connections_active", "Live connections of pods.", func() float64 { return float64(l.Active.Load()) }),
		gauge("dubway_upstream_connections", "Live connections to providers.", func() float64 { return float64(p.pool.Count()) }),
		gauge("dubway_snapshot_generation", "Generation of the snapshot in use.", func() float64 {
			return float64(p.generation.Load())
		}),
		gauge("dubway_proxy_workloads", "Pods that the proxy serves.", func() float64 { return float64(len(p.workloads.All())) }),
	})
}

// tlsCounters tell of the mesh's TLS.
func (p *Proxy) tlsCounters() counters {
	s := p.ends.Stats()
	var list counters
	add := func(name, help string, labels prometheus.Labels, f func() uint64) {
		c := count(name, help, f)
		c.desc = prometheus.NewDesc(name, help, nil, labels)
		list = append(list, c)
	}
	for side, name := range []string{mtls.ClientSide: "client", mtls.ServerSide: "server"} {
		add("dubway_tls_handshakes_total", "Connections that mutual TLS was agreed on.",
			prometheus.Labels{"side": name}, s.Handshakes[side].Load)
		for r := range mtls.Reasons {
			add("dubway_tls_refused_total", "Connections that were not made or taken for want of mutual TLS, by reason.",
				prometheus.Labels{"side": name, "reason": mtls.Reason(r).String()}, s.Refused[side][r].Load)
		}
	}
	return list
}

// requestCounters tell what became of requests beside their records.
func (p *Proxy) requestCounters() counters {
	u := p.pool.Stats()
	outcome := func(name string, f func() uint64) counter {
		c := count("dubway_callbacks_total", "", f)
		c.desc = prometheus.NewDesc("dubway_callbacks_total", "Requests of providers to their consumers, by how they ended.",
			nil, prometheus.Labels{"outcome": name})
		return c
	}
	answers := func(name string, f func() uint64) counter {
		c := count("dubway_edited_answers_total", "", f)
		c.desc = prometheus.NewDesc("dubway_edited_answers_total", "Answers of routes that edit attachments, by what became of them.",
			nil, prometheus.Labels{"result": name})
		return c
	}
	edited := &u.Postscripts
	return counters{
		answers("edited", edited.Edited.Load),
		answers("unreadable", edited.Unreadable.Load),
		answers("large", edited.Large.Load),
		answers("unattached", edited.Unattached.Load),
		count("dubway_stale_address_total",
			"Requests to an address that does not serve them any more; dubwayctl doctor lists them.", p.env.Stale.Total),
		count("dubway_inverted_timeouts_total",
			"Requests whose route allows longer than their consumer waits; dubwayctl timeouts lists them.", p.env.Inverted.Total),
		count("dubway_delayed_export_retries_total",
			"Requests that another endpoint got because a provider did not export their interface yet.", u.DelayedExports.Load),
		count("dubway_retries_total", "Requests that were sent again by their route's retry policy.", u.Retries.Load),
		count("dubway_retries_refused_total",
			"Retries that were not made because the cluster had as many in flight as it may.", u.RetriesRefused.Load),
		count("dubway_mirrored_requests_total", "Copies of requests that were sent to shadow services.", p.env.Mirror.Sent.Load),
		count("dubway_mirrored_dropped_total",
			"Copies that were dropped because the shadow service could not be reached or was too slow.", p.env.Mirror.Dropped.Load),
		outcome("answered", u.Callbacks.Answered.Load),
		outcome("one_way", u.Callbacks.OneWay.Load),
		outcome("refused", u.Callbacks.Refused.Load),
		outcome("gone", u.Callbacks.Gone.Load),
	}
}

// outlierCounters tell of endpoints that are left alone.
func (p *Proxy) outlierCounters() counters {
	s := p.clusters.Outliers()
	list := counters{
		{
			desc: prometheus.NewDesc("dubway_outlier_ejected", "Endpoints that are left alone at present, of all clusters.", nil, nil),
			kind: prometheus.GaugeValue, value: func() float64 { return float64(s.Active.Load()) },
		},
		{
			desc: prometheus.NewDesc("dubway_outlier_overflows_total", "Ejections that max_ejection_percent forbade.", nil, nil),
			kind: prometheus.CounterValue, value: func() float64 { return float64(s.Overflows.Load()) },
		},
	}
	for k := range outlier.Kind(outlier.Kinds) {
		list = append(list, counter{
			desc: prometheus.NewDesc("dubway_outlier_ejections_total", "Endpoints that were left alone for a while.", nil,
				prometheus.Labels{"detector": k.String()}),
			kind: prometheus.CounterValue, value: func() float64 { return float64(s.Ejections[k].Load()) },
		})
	}
	return list
}
