package l7proxy

import (
	"net/netip"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/snapshot/tracing"
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
