package ads

import (
	"math"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dubway/dubway/l7proxy/xds"
)

// surplus tells of a resource that istiod sends to every sidecar for what a sidecar does
// and the node's proxy does not: it catches all connections of its pod, and connects to
// the pod's own ports. Such a resource is left out only as long as it says nothing else;
// with outboundTrafficPolicy REGISTRY_ONLY, virtualOutbound does.
func surplus(typ string, r xds.Resource) bool {
	switch {
	case typ == xds.TypeCluster && (r.Name == "InboundPassthroughCluster" || strings.HasPrefix(r.Name, "inbound|")):
		m := new(clusterv3.Cluster)
		return r.Body.UnmarshalTo(m) == nil && m.GetType() == clusterv3.Cluster_ORIGINAL_DST && unlimited(m) && !namesService(m)
	case typ == xds.TypeListener && r.Name == "virtualOutbound":
		m := new(listenerv3.Listener)
		return r.Body.UnmarshalTo(m) == nil && m.GetUseOriginalDst().GetValue() && passes(m)
	}
	return false
}

// namesService tells whether a cluster says which service it is of: that of a pod's own port does,
// for metrics.
func namesService(m *clusterv3.Cluster) bool {
	return len(m.GetMetadata().GetFilterMetadata()["istio"].GetFields()["services"].GetListValue().GetValues()) > 0
}

// unlimited tells whether a cluster limits nothing: istiod sets what is unset to the most.
func unlimited(m *clusterv3.Cluster) bool {
	for _, t := range m.GetCircuitBreakers().GetThresholds() {
		for _, limit := range []*wrapperspb.UInt32Value{
			t.GetMaxConnections(), t.GetMaxPendingRequests(), t.GetMaxRequests(), t.GetMaxRetries(),
		} {
			if limit != nil && limit.GetValue() != math.MaxUint32 {
				return false
			}
		}
	}
	return m.GetOutlierDetection() == nil && m.GetTransportSocket() == nil
}

// passes tells whether a listener passes on all that comes to it, except to its own port.
func passes(m *listenerv3.Listener) bool {
	port := m.GetAddress().GetSocketAddress().GetPortValue()
	found := false
	for _, c := range m.GetFilterChains() {
		if c.GetFilterChainMatch().GetDestinationPort().GetValue() == port {
			continue
		}
		for _, f := range c.GetFilters() {
			tcp := new(tcpv3.TcpProxy)
			if !f.GetTypedConfig().MessageIs(tcp) {
				if isStats(f.GetTypedConfig().GetTypeUrl()) {
					continue
				}
				return false
			}
			if f.GetTypedConfig().UnmarshalTo(tcp) != nil || tcp.GetCluster() != "PassthroughCluster" {
				return false
			}
			found = true
		}
	}
	return found && m.GetDefaultFilterChain() == nil
}

// isStats tells of the filter that makes Istio's metrics. What passes by has none of ours.
func isStats(url string) bool { return url == "type.googleapis.com/stats.PluginConfig" }
