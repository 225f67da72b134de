package l7proxy

import (
	"net/netip"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/upstream"
	"github.com/dubway/dubway/l7proxy/workload"
)

// guarded tells whether a provider of this node holds policies against the node's own
// pods at an address of its own: then they come in by its listener like everybody else,
// behind all that their own side does to a request, and take no short cut.
func (p *Proxy) guarded(provider *workload.Workload, at netip.AddrPort) bool {
	return guards(p.sight.Now(provider.UID), provider, at)
}

func guards(s *snapshot.Snapshot, provider *workload.Workload, at netip.AddrPort) bool {
	in := s.Inbound(at, provider.Whole())
	return in != nil && in.Known.Judges()
}

// regard makes connections follow the snapshots that workloads see instead of those that
// they saw before: those which took the short cut past a provider that has policies now.
func (p *Proxy) regard(before map[string]*snapshot.Snapshot) {
	p.pool.Rotate(func(k upstream.Key) bool {
		w := p.workloads.ByAddress(k.Endpoint.Addr())
		if k.Inbound || w == nil {
			return false
		}
		old, now := before[w.UID], p.sight.Now(w.UID)
		if old == nil {
			old = before[""]
		}
		return old != nil && len(old.Inbounds)+len(now.Inbounds) > 0 && guards(old, w, k.Endpoint) != guards(now, w, k.Endpoint)
	})
}
