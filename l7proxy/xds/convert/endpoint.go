package convert

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/address"
	"github.com/dubway/dubway/l7proxy/xds/fields"
	"github.com/dubway/dubway/l7proxy/xds/problems"
	"github.com/dubway/dubway/l7proxy/xds/routes"
)

// Assignment is a ClusterLoadAssignment, to be joined into its EDS clusters.
type Assignment struct {
	Name          string
	Localities    []*snapshot.Locality // never nil
	Overprovision uint32
}

// ClusterLoadAssignment converts one. It returns problems or a result, never
// both.
func ClusterLoadAssignment(m *endpointv3.ClusterLoadAssignment) (*Assignment, problems.List) {
	p := fields.Examine(m)
	if len(p) > 0 {
		return nil, p
	}
	a := assign(&p, "", m, false)
	if len(p) > 0 {
		return nil, p
	}
	return a, nil
}

// assign converts an assignment below path; names says whether an endpoint may
// be a host name. A nil m is an assignment without endpoints.
func assign(p *problems.List, path string, m *endpointv3.ClusterLoadAssignment, names bool) *Assignment {
	a := &Assignment{Name: m.GetClusterName(), Localities: []*snapshot.Locality{}, Overprovision: defaultOverprovision}
	if f := m.GetPolicy().GetOverprovisioningFactor(); f != nil {
		a.Overprovision = f.GetValue()
	}
	for i, group := range m.GetEndpoints() {
		at := fmt.Sprintf("%sendpoints[%d]", path, i)
		l := &snapshot.Locality{
			Region:   group.GetLocality().GetRegion(),
			Zone:     group.GetLocality().GetZone(),
			SubZone:  group.GetLocality().GetSubZone(),
			Weight:   group.GetLoadBalancingWeight().GetValue(),
			Priority: group.GetPriority(),
		}
		var total uint64
		for j, e := range group.GetLbEndpoints() {
			one := endpoint(p, fmt.Sprintf("%s.lb_endpoints[%d]", at, j), e, names)
			total += uint64(one.Weight)
			l.Endpoints = append(l.Endpoints, one)
		}
		if total > math.MaxUint32 {
			p.Addf(at+".lb_endpoints", "the weights sum to %d, more than %d", total, uint32(math.MaxUint32))
		}
		a.Localities = append(a.Localities, l)
	}
	return a
}

func endpoint(p *problems.List, path string, m *endpointv3.LbEndpoint, names bool) *snapshot.Endpoint {
	e := &snapshot.Endpoint{Weight: 1, Metadata: routes.Subset(m.GetMetadata())}
	if w := m.GetLoadBalancingWeight(); w != nil {
		e.Weight = w.GetValue()
	}
	switch m.GetHealthStatus() {
	case corev3.HealthStatus_UNKNOWN, corev3.HealthStatus_HEALTHY, corev3.HealthStatus_DEGRADED:
		e.Healthy = true
	case corev3.HealthStatus_DRAINING:
		e.Draining = true
	default: // UNHEALTHY, TIMEOUT
	}
	e.Socket = socketOf(m.GetMetadata())
	workload(m.GetMetadata(), e)
	e.Address, e.Hostname, e.Port = dialled(p, path+".endpoint.address", m.GetEndpoint().GetAddress(), names)
	return e
}

// meshed is the metadata of an endpoint that speaks the mesh's TLS, which nearly all have.
var meshed = snapshot.Metadata{"tlsMode": `"istio"`}

// socketOf reads what transport_socket_matches compares.
func socketOf(m *corev3.Metadata) snapshot.Metadata {
	match := routes.Flat(m.GetFilterMetadata()["envoy.transport_socket_match"])
	if maps.Equal(match, meshed) {
		return meshed
	}
	return match
}

// dialled returns the endpoint's address, or its host name where names are
// resolved.
func dialled(p *problems.List, path string, a *corev3.Address, names bool) (netip.AddrPort, string, uint16) {
	s := a.GetSocketAddress()
	if s.GetPortValue() == 0 {
		p.Addf(path+".socket_address.port_value", "required")
	}
	if _, err := netip.ParseAddr(s.GetAddress()); names && err != nil {
		if !isHost(s.GetAddress()) {
			p.Addf(path+".socket_address.address", "%q is neither an IP address nor a host name", s.GetAddress())
		}
		return netip.AddrPort{}, s.GetAddress(), uint16(s.GetPortValue()) // at most 65535, as Envoy's rules say
	}
	ip, port := address.Socket(p, path, a)
	if ip.IsUnspecified() || ip.IsMulticast() {
		p.Addf(path+".socket_address.address", "%s cannot be dialled", ip)
	}
	return netip.AddrPortFrom(ip, port), "", port
}

// isHost tells whether name can be asked of a resolver.
func isHost(name string) bool {
	return len(name) <= 253 && !strings.ContainsAny(name, " \t\r\n/:*") && strings.Trim(name, ".") != ""
}

// workload reads what istiod says of an endpoint's pod:
// "pod;namespace;canonical service;revision;cluster".
func workload(m *corev3.Metadata, e *snapshot.Endpoint) {
	parts := strings.Split(m.GetFilterMetadata()["istio"].GetFields()["workload"].GetStringValue(), ";")
	if len(parts) < 4 {
		return
	}
	e.Workload, e.Namespace, e.App, e.Revision = parts[0], parts[1], parts[2], parts[3]
}
