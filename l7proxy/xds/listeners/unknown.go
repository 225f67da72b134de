package listeners

import (
	"fmt"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/fields"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// CatchesAll tells whether a listener is for what no other one is for: istiod's
// virtualOutbound, which a sidecar needs to catch its pod's connections.
func CatchesAll(m *listenerv3.Listener) bool { return m.GetUseOriginalDst().GetValue() }

// Unknown converts such a listener: into what becomes of connections to unknown
// destinations. The chain for the listener's own port, to which nobody connects here,
// means nothing. It returns problems or a result.
func Unknown(m *listenerv3.Listener) (snapshot.Unknown, problems.List) {
	p := fields.Examine(m)
	onlyInbound(&p, m)
	if m.GetDefaultFilterChain() != nil {
		p.Addf("default_filter_chain", "not implemented where use_original_dst is true")
	}
	if len(p) > 0 {
		return snapshot.UnknownPass, p
	}
	b := builder{problems: &p, name: m.GetName()}
	var found *snapshot.Unknown
	for i, c := range m.GetFilterChains() {
		path := fmt.Sprintf("filter_chains[%d]", i)
		match := c.GetFilterChainMatch()
		if match.GetDestinationPort().GetValue() == m.GetAddress().GetSocketAddress().GetPortValue() {
			continue
		}
		if match.GetDestinationPort() != nil || len(match.GetPrefixRanges())+len(match.GetApplicationProtocols()) > 0 || found != nil {
			p.Addf(path+".filter_chain_match", "not implemented where use_original_dst is true: only one chain, for everything")
			continue
		}
		found = b.unknown(path, c)
	}
	if found == nil && len(p) == 0 {
		p.Addf("filter_chains", "none says what becomes of connections to unknown destinations")
	}
	if len(p) > 0 {
		return snapshot.UnknownPass, p
	}
	return *found, nil
}

// unknown reads the chain for everything; nil if a problem was added.
func (b *builder) unknown(path string, c *listenerv3.FilterChain) *snapshot.Unknown {
	t := b.terminal(path, c)
	if t == nil {
		return nil
	}
	out := snapshot.UnknownPass
	switch {
	case t.gate != nil:
		b.problems.Addf(path+".filters", "not implemented where use_original_dst is true: policies")
	case len(t.tcp) == 1 && t.tcp[0].Cluster == "PassthroughCluster":
	case len(t.tcp) == 1 && t.tcp[0].Cluster == "BlackHoleCluster":
		out = snapshot.UnknownRefuse
	default:
		b.problems.Addf(path+".filters",
			"not implemented where use_original_dst is true: only tcp_proxy to PassthroughCluster or BlackHoleCluster")
	}
	return &out
}
