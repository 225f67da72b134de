package aeraki

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/xds"
	"github.com/dubway/dubway/l7proxy/xds/metaprotocol"
)

// table reads a table as Aeraki's server sends it: in the clothes of Envoy's
// RouteConfiguration, so that Envoy's service can carry it. Its only virtual host is a
// dummy, its headers are a request's metadata, and headers to add are mutations. (So do
// metaProtocolRoute2HttpRoute of Aeraki 1.4 and rds_impl.cc of its proxy.) What Aeraki does
// not write is an error: nothing of it is left out in silence.
func table(a *anypb.Any) (*metaprotocol.RouteConfiguration, error) {
	m := new(routev3.RouteConfiguration)
	if err := a.UnmarshalTo(m); err != nil {
		return nil, fmt.Errorf("read table: %w", err)
	}
	out := &metaprotocol.RouteConfiguration{Name: m.GetName()}
	if len(m.GetVirtualHosts()) != 1 {
		return out, fmt.Errorf("has %d virtual hosts, not the one that Aeraki writes", len(m.GetVirtualHosts()))
	}
	for i, r := range m.GetVirtualHosts()[0].GetRoutes() {
		made, err := route(r)
		if err != nil {
			return out, fmt.Errorf("virtual_hosts[0].routes[%d]: %w", i, err)
		}
		out.Routes = append(out.Routes, made)
	}
	rest := proto.CloneOf(m)
	rest.Name, rest.VirtualHosts = "", nil
	host := proto.CloneOf(m.GetVirtualHosts()[0])
	host.Name, host.Domains, host.Routes = "", nil, nil
	if proto.Size(rest)+proto.Size(host) > 0 {
		return out, fmt.Errorf("sets what Aeraki does not: %v %v", rest, host)
	}
	return out, nil
}

func route(m *routev3.Route) (*metaprotocol.Route, error) {
	out := &metaprotocol.Route{
		Name: m.GetName(), Match: &metaprotocol.RouteMatch{Metadata: m.GetMatch().GetHeaders()}, Route: new(metaprotocol.RouteAction),
		RequestMutation: mutations(m.GetRequestHeadersToAdd()), ResponseMutation: mutations(m.GetResponseHeadersToAdd()),
	}
	from := m.GetRoute()
	switch to := from.GetClusterSpecifier().(type) {
	case *routev3.RouteAction_Cluster:
		out.Route.ClusterSpecifier = &metaprotocol.RouteAction_Cluster{Cluster: to.Cluster}
	case *routev3.RouteAction_WeightedClusters:
		out.Route.ClusterSpecifier = &metaprotocol.RouteAction_WeightedClusters{WeightedClusters: to.WeightedClusters}
	}
	for _, h := range from.GetHashPolicy() {
		if h.GetHeader() == nil || h.GetTerminal() || h.GetHeader().GetRegexRewrite() != nil {
			return out, fmt.Errorf("route.hash_policy: sets what Aeraki does not: %v", h)
		}
		out.Route.HashPolicy = append(out.Route.HashPolicy, h.GetHeader().GetHeaderName())
	}
	for _, one := range from.GetRequestMirrorPolicies() {
		out.Route.RequestMirrorPolicies = append(out.Route.RequestMirrorPolicies, &metaprotocol.RouteAction_RequestMirrorPolicy{
			Cluster: one.GetCluster(), RuntimeFraction: one.GetRuntimeFraction(),
		})
	}
	return out, surplus(m)
}

// surplus is an error if a route sets more than is read of it.
func surplus(m *routev3.Route) error {
	rest := proto.CloneOf(m)
	rest.Name, rest.RequestHeadersToAdd, rest.ResponseHeadersToAdd = "", nil, nil
	if match := rest.GetMatch(); match != nil {
		match.Headers = nil
		if match.GetPrefix() == "/" { // it always is
			match.PathSpecifier = nil
		}
		if proto.Size(match) == 0 {
			rest.Match = nil
		}
	}
	if to := rest.GetRoute(); to != nil {
		to.ClusterSpecifier, to.HashPolicy = nil, nil
		for _, one := range to.GetRequestMirrorPolicies() {
			one.Cluster, one.RuntimeFraction = "", nil
			if proto.Size(one) > 0 {
				return fmt.Errorf("route.request_mirror_policies: sets what Aeraki does not: %v", one)
			}
		}
		to.RequestMirrorPolicies = nil
		if proto.Size(to) == 0 {
			rest.Action = nil
		}
	}
	if proto.Size(rest) > 0 {
		return fmt.Errorf("sets what Aeraki does not: %v", rest)
	}
	return nil
}

func mutations(list []*corev3.HeaderValueOption) []*metaprotocol.KeyValue {
	var out []*metaprotocol.KeyValue
	for _, o := range list {
		out = append(out, &metaprotocol.KeyValue{Key: o.GetHeader().GetKey(), Value: o.GetHeader().GetValue()})
	}
	return out
}

// resource is a table as the store takes it.
func resource(m *metaprotocol.RouteConfiguration, version string) (xds.Resource, error) {
	body, err := anypb.New(m)
	if err != nil {
		return xds.Resource{}, fmt.Errorf("encode table: %w", err)
	}
	return xds.Resource{Name: m.GetName(), Version: version, Body: body}, nil
}
