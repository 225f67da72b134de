package l7proxy

import (
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/snapshot/tracing"
	"github.com/dubway/dubway/l7proxy/trace"
)

// tracing is that of the listener by which neighbours come in at a provider of this node;
// known is false where nothing is said of what comes in there.
func (p *Proxy) tracing(at netip.AddrPort) (t *tracing.Tracing, known bool) {
	provider := p.workloads.ByAddress(at.Addr())
	if provider == nil {
		return nil, false
	}
	in := p.sight.Now(provider.UID).Inbound(at, provider.Whole())
	if in == nil {
		return nil, false
	}
	return in.Known.Tracing, true
}

// collectors tells how things are with those who are told of spans.
func (p *Proxy) collectors() []admin.Collector {
	var list []admin.Collector
	for _, c := range p.tracer.Collectors() {
		list = append(list, admin.Collector(c))
	}
	return list
}

// spanCounters tell what became of spans.
func (p *Proxy) spanCounters() counters {
	s := p.tracer.Stats()
	list := counters{count("dubway_spans_exported_total", "Spans that collectors have taken.", s.Exported.Load)}
	for d := range trace.Drop(trace.Drops) {
		list = append(list, counter{
			desc: prometheus.NewDesc("dubway_spans_dropped_total", "Spans that no collector has taken, by why.", nil,
				prometheus.Labels{"reason": d.String()}),
			kind: prometheus.CounterValue, value: func() float64 { return float64(s.Dropped[d].Load()) },
		})
	}
	return list
}
