package convert

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/mutual"
	"github.com/dubway/dubway/l7proxy/xds/fields"
	"github.com/dubway/dubway/l7proxy/xds/problems"
	"github.com/dubway/dubway/l7proxy/xds/routes"
	"github.com/dubway/dubway/l7proxy/xds/sockets"
)

// Envoy's defaults.
const (
	defaultConnectTimeout = 5 * time.Second
	defaultDNSRefresh     = 5 * time.Second
	defaultChoiceCount    = 2
	defaultPanic          = 50
	defaultOverprovision  = 140
)

// Cluster converts a Cluster. An EDS cluster comes without endpoints:
// assignment is the name of the ClusterLoadAssignment to join, else "". So is that of an
// ORIGINAL_DST cluster of istiod's: it stands for a headless service, whose providers
// istiod tells to those who ask by the cluster's name. It returns problems or a result,
// never both.
func Cluster(m *clusterv3.Cluster) (c *snapshot.Cluster, assignment string, p problems.List) {
	p = fields.Examine(m)
	if len(p) > 0 {
		return nil, "", p
	}
	c = &snapshot.Cluster{
		Name:           m.GetName(),
		ChoiceCount:    defaultChoiceCount,
		ConnectTimeout: defaultConnectTimeout,
		DNSRefresh:     defaultDNSRefresh,
		Overprovision:  defaultOverprovision,
		PanicThreshold: defaultPanic,
		Service:        service(m),
		Subsets:        subsets(m.GetLbSubsetConfig()),
		Outlier:        outlier(&p, m.GetOutlierDetection()),
		Check:          check(&p, m),
	}
	if d := m.GetConnectTimeout(); d != nil {
		c.ConnectTimeout = d.AsDuration()
	}
	if d := m.GetDnsRefreshRate(); d != nil {
		c.DNSRefresh = d.AsDuration()
	}
	if t := m.GetCommonLbConfig().GetHealthyPanicThreshold(); t != nil {
		c.PanicThreshold = uint32(math.Round(t.GetValue())) // 0 to 100, as Envoy's rules say
	}
	c.Balancing = balancing(&p, m)
	c.Retries = retries(m.GetCircuitBreakers())
	c.MaxRequests, c.MaxConnections = thresholds(m.GetCircuitBreakers())
	policy(&p, m, c)
	discovery(&p, m, c)
	c.Sockets = transport(&p, m)
	if len(p) > 0 {
		return nil, "", p
	}
	switch {
	case c.Kind == snapshot.ClusterOriginalDst && strings.HasPrefix(c.Name, "outbound|"):
		assignment = c.Name
		c.Policy, c.Bias = snapshot.LeastRequest, defaultBias // Istio's, which the resource does not say
	case c.Kind == snapshot.ClusterEDS:
		assignment = m.GetEdsClusterConfig().GetServiceName()
		if assignment == "" {
			assignment = m.GetName()
		}
	}
	return c, assignment, nil
}

func policy(p *problems.List, m *clusterv3.Cluster, c *snapshot.Cluster) {
	(&balancer{problems: p, cluster: c}).policy(m)
	original := m.GetType() == clusterv3.Cluster_ORIGINAL_DST
	if provided := m.GetLbPolicy() == clusterv3.Cluster_CLUSTER_PROVIDED; provided != original {
		p.Addf("lb_policy", "CLUSTER_PROVIDED goes with type ORIGINAL_DST, and only with it")
	}
	if original && m.GetLbSubsetConfig() != nil {
		p.Addf("lb_subset_config", "not with type ORIGINAL_DST, which has no endpoints to choose from")
	}
}

// discovery sets the kind, and the endpoints that the cluster itself holds.
func discovery(p *problems.List, m *clusterv3.Cluster, c *snapshot.Cluster) {
	a := m.GetLoadAssignment()
	switch m.GetType() {
	case clusterv3.Cluster_STATIC:
		c.Kind = snapshot.ClusterStatic
	case clusterv3.Cluster_STRICT_DNS:
		c.Kind = snapshot.ClusterStrictDNS
	case clusterv3.Cluster_EDS:
		c.Kind = snapshot.ClusterEDS
		if m.GetEdsClusterConfig() == nil {
			p.Addf("eds_cluster_config", "required with type EDS")
		}
	case clusterv3.Cluster_ORIGINAL_DST:
		c.Kind = snapshot.ClusterOriginalDst
	default: // package fields lets nothing else in
	}
	if m.GetType() != clusterv3.Cluster_EDS && m.GetEdsClusterConfig() != nil {
		p.Addf("eds_cluster_config", "only with type EDS")
	}
	if c.Kind != snapshot.ClusterStatic && c.Kind != snapshot.ClusterStrictDNS {
		if a != nil {
			p.Addf("load_assignment", "only with type STATIC or STRICT_DNS")
		}
		return
	}
	assigned := assign(p, "load_assignment.", a, c.Kind == snapshot.ClusterStrictDNS)
	c.Localities, c.Overprovision = assigned.Localities, assigned.Overprovision
}

// transport converts the sockets of a cluster, of which an endpoint gets the first that
// its metadata match; none if all of them are plaintext.
func transport(p *problems.List, m *clusterv3.Cluster) []mutual.Socket {
	var list []mutual.Socket
	on := false
	add := func(path string, match snapshot.Metadata, m *corev3.TransportSocket) {
		s := mutual.Socket{Match: match, TLS: sockets.Client(p, path, m)}
		on = on || s.TLS.On
		list = append(list, s)
	}
	for i, s := range m.GetTransportSocketMatches() {
		add(fmt.Sprintf("transport_socket_matches[%d].transport_socket", i), routes.Flat(s.GetMatch()), s.GetTransportSocket())
	}
	if add("transport_socket", nil, m.GetTransportSocket()); !list[len(list)-1].TLS.On {
		list = list[:len(list)-1] // what has no socket is plaintext
	}
	if !on {
		return nil
	}
	if probe := m.GetHealthChecks(); len(probe) > 0 {
		p.Addf("health_checks", "not implemented beside TLS: an endpoint would be asked in plaintext")
	}
	return list
}

// ourMetadata is the key of what only this mesh understands.
const ourMetadata = "dubway.io"

// balancing reads who chooses the endpoint.
func balancing(p *problems.List, m *clusterv3.Cluster) (b snapshot.Balancing) {
	const path = `metadata.filter_metadata["` + ourMetadata + `"]`
	ours := m.GetMetadata().GetFilterMetadata()[ourMetadata].GetFields()
	for _, key := range slices.Sorted(maps.Keys(ours)) {
		if key != "balancing" {
			p.Addf(path+"."+key, "not implemented")
			continue
		}
		switch ours[key].GetStringValue() {
		case snapshot.BalancingMesh.String():
			b = snapshot.BalancingMesh
		case snapshot.BalancingCaller.String():
			b = snapshot.BalancingCaller
		default:
			p.Addf(path+".balancing", "neither mesh nor caller")
		}
	}
	return b
}

// service reads the service from istiod's metadata, else from the cluster's
// name, outbound|port|subset|host.
func service(m *clusterv3.Cluster) snapshot.Service {
	list := m.GetMetadata().GetFilterMetadata()["istio"].GetFields()["services"].GetListValue().GetValues()
	if len(list) > 0 {
		f := list[0].GetStructValue().GetFields()
		if host := f["host"].GetStringValue(); host != "" {
			return snapshot.Service{Host: host, Name: f["name"].GetStringValue(), Namespace: f["namespace"].GetStringValue()}
		}
	}
	parts := strings.Split(m.GetName(), "|")
	if len(parts) != 4 || parts[3] == "" {
		return snapshot.Service{Host: m.GetName(), Name: m.GetName()}
	}
	s := snapshot.Service{Host: parts[3], Name: parts[3]}
	if labels := strings.SplitN(parts[3], ".", 4); len(labels) >= 3 && labels[2] == "svc" {
		s.Name, s.Namespace = labels[0], labels[1]
	}
	return s
}

func subsets(m *clusterv3.Cluster_LbSubsetConfig) *snapshot.Subsets {
	if m == nil {
		return nil
	}
	s := &snapshot.Subsets{Default: routes.Flat(m.GetDefaultSubset())}
	switch m.GetFallbackPolicy() {
	case clusterv3.Cluster_LbSubsetConfig_NO_FALLBACK:
		s.Fallback = snapshot.FallbackNone
	case clusterv3.Cluster_LbSubsetConfig_ANY_ENDPOINT:
		s.Fallback = snapshot.FallbackAny
	case clusterv3.Cluster_LbSubsetConfig_DEFAULT_SUBSET:
		s.Fallback = snapshot.FallbackDefault
	}
	for _, sel := range m.GetSubsetSelectors() {
		keys := slices.Clone(sel.GetKeys())
		slices.Sort(keys)
		s.Selectors = append(s.Selectors, slices.Compact(keys))
	}
	return s
}
