package policies

import (
	"fmt"
	"slices"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/conditions"
	"github.com/dubway/dubway/l7proxy/xds/metaprotocol"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// Conditions converts those of a limit of Aeraki's; package routes does.
type Conditions func(path string, m *metaprotocol.RouteMatch) []snapshot.HeaderMatch

// MetaLimit converts a local rate limit of Aeraki's, which is at path. The first condition
// that a request meets counts it; the bucket of all is for those that meet none.
func MetaLimit(p *problems.List, path string, m *metaprotocol.LocalRateLimit, of Conditions) *snapshot.Limit {
	out := &snapshot.Limit{
		Prefix: m.GetStatPrefix(), Bucket: bucket(p, path+".token_bucket", m.GetTokenBucket()),
		Enabled: snapshot.Million, Enforced: snapshot.Million,
	}
	if out.Bucket == nil && len(m.GetConditions()) == 0 {
		p.Addf(path+".token_bucket", "required, or conditions")
	}
	// A condition's descriptor says that none before it was met: what one of them counts
	// the others do not.
	var before []snapshot.RateAction
	var unmet []snapshot.Entry
	for i, c := range m.GetConditions() {
		at := fmt.Sprintf("%s.conditions[%d]", path, i)
		met := snapshot.RateAction{Kind: snapshot.RateMatch, Key: "condition", Value: strconv.Itoa(i)}
		met.Headers = of(at+".match", c.GetMatch())
		for j := range met.Headers {
			out.Needs |= met.Headers[j].Needs()
		}
		b := bucket(p, at+".token_bucket", c.GetTokenBucket())
		if b == nil {
			p.Addf(at+".token_bucket", "required")
			continue
		}
		entry := snapshot.Entry{Key: met.Key, Value: met.Value}
		out.Rates = append(out.Rates, snapshot.Rate{Actions: append(slices.Clip(before), met)})
		out.Descriptors = append(out.Descriptors, snapshot.Descriptor{Entries: append(slices.Clip(unmet), entry), Bucket: b})
		met.Key, met.Unless = "unmet", true
		before, unmet = append(before, met), append(unmet, snapshot.Entry{Key: met.Key, Value: met.Value})
	}
	return out
}

// MetaGlobal converts a global rate limit of Aeraki's, which is at path, and tells how it
// describes requests. Whoever calls names it, as the other one.
func MetaGlobal(p *problems.List, path string, m *metaprotocol.RateLimit) (*snapshot.Global, *snapshot.GlobalRoute) {
	to := m.GetRateLimitService().GetGrpcService().GetEnvoyGrpc()
	out := &snapshot.Global{
		Domain: m.GetDomain(), Service: snapshot.RateService{Cluster: to.GetClusterName(), Authority: to.GetAuthority()},
		Timeout: askTimeout, Enabled: snapshot.Million, Enforced: snapshot.Million,
	}
	if t := m.GetTimeout(); t.AsDuration() > 0 {
		out.Timeout = t.AsDuration()
	}
	if m.GetFailureModeDeny() {
		out.Denied = snapshot.Million
	}
	for field, missing := range map[string]bool{
		"domain": m.GetDomain() == "", "match": len(m.GetMatch().GetMetadata()) == 0, "descriptors": len(m.GetDescriptors()) == 0,
		"rate_limit_service.grpc_service.envoy_grpc.cluster_name": to.GetClusterName() == "",
	} {
		if missing {
			p.Addf(path+"."+field, "required")
		}
	}
	by := new(snapshot.GlobalRoute)
	for i, d := range m.GetDescriptors() {
		h := snapshot.HeaderMatch{Name: d.GetProperty()}
		if conditions.Property(&h); h.Name == "" || d.GetDescriptorKey() == "" {
			p.Addf(fmt.Sprintf("%s.descriptors[%d]", path, i), "property and descriptor_key are required")
		}
		by.Needs |= h.Needs()
		by.Rates = append(by.Rates, snapshot.Rate{Actions: []snapshot.RateAction{{
			Kind: snapshot.RateHeader, Key: d.GetDescriptorKey(), Headers: []snapshot.HeaderMatch{h},
		}}})
	}
	return out, by
}

// ServerOf reads which cluster a configuration source asks; "" where it names none, which
// is a problem.
func ServerOf(p *problems.List, path string, m *corev3.ConfigSource) string {
	services := m.GetApiConfigSource().GetGrpcServices()
	if len(services) != 1 || services[0].GetEnvoyGrpc().GetClusterName() == "" {
		p.Addf(path+".api_config_source.grpc_services", "required: one, with envoy_grpc.cluster_name")
		return ""
	}
	return services[0].GetEnvoyGrpc().GetClusterName()
}
