// Package routes converts route tables, in the two forms in which Envoy's API has
// them, into snapshot.RouteConfig: RouteConfiguration, and the tables of the
// dubbo_proxy filter. Pure functions from one message to what it means, or to
// everything that is wrong with it; which fields may be set is the table of
// package fields. It matches nothing: package router does.
package routes

import (
	"fmt"
	"maps"
	"math"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/conditions"
	"github.com/dubway/dubway/l7proxy/xds/fields"
	"github.com/dubway/dubway/l7proxy/xds/policies"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// million is the whole of Match.Fraction.
const million = snapshot.Million

// RouteConfiguration converts one. It returns problems or a result, never both.
func RouteConfiguration(m *routev3.RouteConfiguration) (*snapshot.RouteConfig, problems.List) {
	p := fields.Examine(m)
	if m.GetName() == "" {
		p.Addf("name", "required")
	}
	if len(p) > 0 {
		return nil, p
	}
	c := Inline(&p, "", "routes/"+m.GetName(), m)
	if len(p) > 0 {
		return nil, p
	}
	return c, nil
}

// Inline converts a configuration that fields.Examine has passed. Its problems
// are noted below path; origin names it for explain.
func Inline(p *problems.List, path, origin string, m *routev3.RouteConfiguration) *snapshot.RouteConfig {
	c := &snapshot.RouteConfig{Name: m.GetName(), IgnorePort: m.GetIgnorePortInHostMatching()}
	if path != "" {
		path += "."
	}
	whole := policies.Of(p, path+"typed_per_filter_config", m.GetTypedPerFilterConfig())
	taken := make(map[string]int)
	for i, v := range m.GetVirtualHosts() {
		local := fmt.Sprintf("virtual_hosts[%d]", i)
		h := &snapshot.VirtualHost{Name: v.GetName()}
		for j, d := range v.GetDomains() {
			d = strings.ToLower(d)
			at := fmt.Sprintf("%s%s.domains[%d]", path, local, j)
			if !isDomain(d) {
				p.Addf(at, "%q: * may stand at one end only", d)
			}
			if other, ok := taken[d]; ok {
				p.Addf(at, "%q is already in virtual_hosts[%d]", d, other)
			}
			taken[d] = i
			h.Domains = append(h.Domains, d)
		}
		retry := retryPolicy(p, path+local+".retry_policy", v.GetRetryPolicy())
		own := policies.Of(p, path+local+".typed_per_filter_config", v.GetTypedPerFilterConfig())
		own.Rates, own.Needs = policies.Rates(p, path+local+".rate_limits", v.GetRateLimits())
		own = policies.Over(whole, own)
		for j, r := range v.GetRoutes() {
			at := fmt.Sprintf("%s.routes[%d]", local, j)
			converted := &snapshot.Route{
				Name:   r.GetName(),
				Match:  match(p, path+at+".match", r.GetMatch()),
				Origin: origin + " " + path + at,
				Config: config(r.GetMetadata()),

				Policies: routePolicies(p, path+at, r, own),
			}
			if d := r.GetDirectResponse(); d != nil {
				converted.Action.Direct = direct(p, path+at+".direct_response", d, converted.Policies)
			} else {
				converted.Action = action(p, path+at+".route", targetOf(r.GetRoute()))
			}
			shape(&converted.Action, joined(edits(p, path+at, r), edits(p, path+local, v), edits(p, strings.TrimSuffix(path, "."), m)))
			converted.Action.Mirrors = mirrors(r.GetRoute())
			converted.Action.Timeout = r.GetRoute().GetTimeout().AsDuration()
			converted.Action.Retry = retry
			if own := r.GetRoute().GetRetryPolicy(); own != nil {
				converted.Action.Retry = retryPolicy(p, path+at+".route.retry_policy", own)
			}
			a := &converted.Action
			a.Hash, a.HashBody = hashes(p, path+at+".route.hash_policy", r.GetRoute().GetHashPolicy())
			c.Whole = c.Whole || needsWhole(a) || len(a.Mirrors) > 0 || a.HashBody || delays(converted.Policies)
			h.Routes = append(h.Routes, converted)
		}
		c.VirtualHosts = append(c.VirtualHosts, h)
	}
	c.Static, c.Needs = isStatic(c), needs(c)
	return c
}

// needs is what the policies of c's routes need.
func needs(c *snapshot.RouteConfig) (n snapshot.Needs) {
	for _, v := range c.VirtualHosts {
		for _, r := range v.Routes {
			if r.Policies != nil {
				n |= r.Policies.All()
			}
		}
	}
	return n
}

// routePolicies converts what a route says of policies over what holds without it.
func routePolicies(p *problems.List, path string, m *routev3.Route, base *snapshot.RoutePolicies) *snapshot.RoutePolicies {
	own := policies.Of(p, path+".typed_per_filter_config", m.GetTypedPerFilterConfig())
	own.Rates, own.Needs = policies.Rates(p, path+".route.rate_limits", m.GetRoute().GetRateLimits())
	own.Abort = aborts(p, path, m.GetMetadata())
	own = policies.Over(base, own)
	if len(own.RBAC)+len(own.Limits)+len(own.Globals)+len(own.Faults)+len(own.Rates) == 0 && own.Abort == nil {
		return nil
	}
	return own
}

// delays tells whether a fault delays requests of a route.
func delays(own *snapshot.RoutePolicies) bool {
	return own != nil && snapshot.Delays(maps.Values(own.Faults))
}

// isDomain tells whether a domain is exact, *suffix, prefix* or *.
func isDomain(d string) bool {
	switch strings.Count(d, "*") {
	case 0:
		return true
	case 1:
		return strings.HasPrefix(d, "*") || strings.HasSuffix(d, "*")
	}
	return false
}

// isStatic tells whether interface, method, version and authority alone choose
// a route of c.
func isStatic(c *snapshot.RouteConfig) bool {
	for _, v := range c.VirtualHosts {
		for _, r := range v.Routes {
			if r.Match.Fraction != million {
				return false
			}
			for _, h := range r.Match.Headers {
				if !isNamed(&h) {
					return false
				}
			}
		}
	}
	return true
}

// isNamed tells whether a condition is on what a caller knows without the rest of
// the body.
func isNamed(h *snapshot.HeaderMatch) bool {
	switch h.Name {
	case "interface", "method", "version", ":path", ":authority", ":method":
		return h.Source == snapshot.SourceName
	}
	return false
}

func match(p *problems.List, path string, m *routev3.RouteMatch) snapshot.Match {
	out := snapshot.Match{Fraction: million}
	insensitive := m.GetCaseSensitive() != nil && !m.GetCaseSensitive().GetValue()
	switch spec := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		out.PathKind, out.Path, out.IgnoreCase = snapshot.PathPrefix, spec.Prefix, insensitive
	case *routev3.RouteMatch_Path:
		out.PathKind, out.Path, out.IgnoreCase = snapshot.PathExact, spec.Path, insensitive
	case *routev3.RouteMatch_PathSeparatedPrefix:
		out.PathKind, out.Path, out.IgnoreCase = snapshot.PathSeparatedPrefix, spec.PathSeparatedPrefix, insensitive
	case *routev3.RouteMatch_SafeRegex:
		out.PathKind, out.Path = snapshot.PathRegex, spec.SafeRegex.GetRegex()
		out.PathRegex = conditions.Regex(p, path+".safe_regex.regex", out.Path)
	}
	for i, h := range m.GetHeaders() {
		out.Headers = append(out.Headers, conditions.Header(p, fmt.Sprintf("%s.headers[%d]", path, i), h))
	}
	if f := m.GetRuntimeFraction(); f != nil {
		out.Fraction = conditions.Millionths(f.GetDefaultValue())
	}
	return out
}

func mirrors(m *routev3.RouteAction) []snapshot.Mirror {
	var out []snapshot.Mirror
	for _, policy := range m.GetRequestMirrorPolicies() {
		one := snapshot.Mirror{Cluster: policy.GetCluster(), Fraction: million}
		if f := policy.GetRuntimeFraction(); f != nil {
			one.Fraction = conditions.Millionths(f.GetDefaultValue())
		}
		if one.Fraction > 0 {
			out = append(out, one)
		}
	}
	return out
}

func targetOf(m *routev3.RouteAction) target {
	return target{cluster: m.GetCluster(), weighted: m.GetWeightedClusters(), metadata: m.GetMetadataMatch()}
}

// target is where a route leads, in the words that both forms share.
type target struct {
	cluster  string
	weighted *routev3.WeightedCluster // nil: cluster
	metadata *corev3.Metadata
}

func action(p *problems.List, path string, to target) snapshot.Action {
	out := snapshot.Action{Subset: Subset(to.metadata)}
	if to.weighted == nil {
		out.Clusters = []snapshot.WeightedCluster{{Cluster: to.cluster, Weight: 1, Subset: out.Subset}}
		out.Total = 1
		return out
	}
	path += ".weighted_clusters"
	for i, c := range to.weighted.GetClusters() {
		at := fmt.Sprintf("%s.clusters[%d]", path, i)
		if c.GetName() == "" {
			p.Addf(at+".name", "required")
		}
		if c.GetWeight() == nil {
			p.Addf(at+".weight", "required")
		}
		one := snapshot.WeightedCluster{
			Cluster: c.GetName(),
			Weight:  c.GetWeight().GetValue(),
			Subset:  Joined(out.Subset, Subset(c.GetMetadataMatch())),
		}
		if own := edits(p, at, c); len(own.Requests)+len(own.Answers) > 0 {
			one.Edits = &own
		}
		out.Clusters = append(out.Clusters, one)
		out.Total += uint64(c.GetWeight().GetValue())
	}
	CheckTotal(p, path, out.Total)
	// Deprecated, but a wrong one must not pass.
	if want := to.weighted.GetTotalWeight(); want != nil && uint64(want.GetValue()) != out.Total && want.GetValue() > 0 {
		p.Addf(path+".total_weight", "is %d, but the weights sum to %d", want.GetValue(), out.Total)
	}
	return out
}

// CheckTotal notes below path, that of weighted clusters, a sum of weights that
// nothing can be shared out by.
func CheckTotal(p *problems.List, path string, total uint64) {
	switch {
	case total == 0:
		p.Addf(path+".clusters", "the weights sum to 0")
	case total > math.MaxUint32:
		p.Addf(path+".clusters", "the weights sum to %d, more than %d", total, uint32(math.MaxUint32))
	}
}
