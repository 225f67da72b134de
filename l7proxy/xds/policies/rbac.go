package policies

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	configv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/condition"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/conditions"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// RBAC converts the configuration of an HTTP filter, called name, that
// fields.Examine has passed. The result is never nil, and means nothing where a
// problem was added.
func RBAC(p *problems.List, path, name string, config *anypb.Any) *snapshot.RBAC {
	m := new(rbacv3.RBAC)
	if !p.Unpack(path, config, m) {
		return new(snapshot.RBAC)
	}
	return rbac(p, path, name, m)
}

func rbac(p *problems.List, path, name string, m *rbacv3.RBAC) *snapshot.RBAC {
	c := terms{problems: p}
	return &snapshot.RBAC{
		Name:   name,
		Rules:  c.rules(path+".rules", m.GetRulesStatPrefix(), m.GetRules()),
		Shadow: c.rules(path+".shadow_rules", m.GetShadowRulesStatPrefix(), m.GetShadowRules()),
	}
}

func networkRBAC(p *problems.List, path, name string, config *anypb.Any) *snapshot.RBAC {
	m := new(networkv3.RBAC)
	if !p.Unpack(path, config, m) {
		return new(snapshot.RBAC)
	}
	c := terms{problems: p, connection: true}
	return &snapshot.RBAC{
		Name:   name,
		Rules:  c.rules(path+".rules", m.GetStatPrefix(), m.GetRules()),
		Shadow: c.rules(path+".shadow_rules", m.GetShadowRulesStatPrefix(), m.GetShadowRules()),
	}
}

// terms converts the rules of one filter.
type terms struct {
	problems   *problems.List
	connection bool // there is no request
	needs      snapshot.Needs
}

func (c *terms) rules(path, prefix string, m *configv3.RBAC) *snapshot.Rules {
	if m == nil {
		return nil
	}
	out := &snapshot.Rules{Prefix: prefix}
	switch m.GetAction() {
	case configv3.RBAC_ALLOW:
		out.Action = snapshot.RBACAllow
	case configv3.RBAC_DENY:
		out.Action = snapshot.RBACDeny
	case configv3.RBAC_LOG:
		out.Action = snapshot.RBACLog
	}
	c.needs = 0
	for _, name := range slices.Sorted(maps.Keys(m.GetPolicies())) {
		at, policy := fmt.Sprintf("%s.policies[%q]", path, name), m.GetPolicies()[name]
		out.Policies = append(out.Policies, snapshot.RBACPolicy{
			Name:       name,
			Permission: set(snapshot.TermOr, at+".permissions", policy.GetPermissions(), c.permission),
			Principal:  set(snapshot.TermOr, at+".principals", policy.GetPrincipals(), c.principal),
		})
	}
	out.Needs = c.needs
	return out
}

// set converts a list; one term alone is itself.
func set[T any](kind snapshot.TermKind, path string, list []T, one func(path string, m T) snapshot.Term) snapshot.Term {
	out := snapshot.Term{Kind: kind}
	for i, m := range list {
		out.Terms = append(out.Terms, one(fmt.Sprintf("%s[%d]", path, i), m))
	}
	if len(out.Terms) == 1 {
		return out.Terms[0]
	}
	return out
}

func not(t snapshot.Term) snapshot.Term {
	return snapshot.Term{Kind: snapshot.TermNot, Terms: []snapshot.Term{t}}
}

func (c *terms) permission(path string, m *configv3.Permission) snapshot.Term {
	switch rule := m.GetRule().(type) {
	case *configv3.Permission_Any:
		return snapshot.Term{Kind: snapshot.TermAny}
	case *configv3.Permission_AndRules:
		return set(snapshot.TermAnd, path+".and_rules.rules", rule.AndRules.GetRules(), c.permission)
	case *configv3.Permission_OrRules:
		return set(snapshot.TermOr, path+".or_rules.rules", rule.OrRules.GetRules(), c.permission)
	case *configv3.Permission_NotRule:
		return not(c.permission(path+".not_rule", rule.NotRule))
	case *configv3.Permission_Header:
		return c.header(path+".header", rule.Header)
	case *configv3.Permission_UrlPath:
		return c.path(path+".url_path", rule.UrlPath)
	case *configv3.Permission_Metadata:
		return metadata(rule.Metadata)
	case *configv3.Permission_DestinationIp:
		return c.within(snapshot.TermDestination, path+".destination_ip", rule.DestinationIp)
	case *configv3.Permission_DestinationPort:
		port := uint16(rule.DestinationPort) // at most 65535, as Envoy's rules say
		return snapshot.Term{Kind: snapshot.TermDestinationPort, Min: port, Max: port}
	case *configv3.Permission_DestinationPortRange:
		return ports(rule.DestinationPortRange)
	default: // package fields lets nothing else in
		return snapshot.Term{Kind: snapshot.TermNever}
	}
}

func (c *terms) principal(path string, m *configv3.Principal) snapshot.Term {
	switch id := m.GetIdentifier().(type) {
	case *configv3.Principal_Any:
		return snapshot.Term{Kind: snapshot.TermAny}
	case *configv3.Principal_AndIds:
		return set(snapshot.TermAnd, path+".and_ids.ids", id.AndIds.GetIds(), c.principal)
	case *configv3.Principal_OrIds:
		return set(snapshot.TermOr, path+".or_ids.ids", id.OrIds.GetIds(), c.principal)
	case *configv3.Principal_NotId:
		return not(c.principal(path+".not_id", id.NotId))
	case *configv3.Principal_Authenticated_:
		return c.name(path+".authenticated.principal_name", id.Authenticated.GetPrincipalName())
	case *configv3.Principal_FilterState:
		if id.FilterState.GetStringMatch() == nil {
			c.problems.Addf(path+".filter_state.string_match", "required")
		}
		return c.name(path+".filter_state.string_match", id.FilterState.GetStringMatch())
	case *configv3.Principal_SourceIp:
		return c.within(snapshot.TermSource, path+".source_ip", id.SourceIp)
	case *configv3.Principal_DirectRemoteIp:
		return c.within(snapshot.TermSource, path+".direct_remote_ip", id.DirectRemoteIp)
	case *configv3.Principal_RemoteIp:
		return c.within(snapshot.TermSource, path+".remote_ip", id.RemoteIp)
	case *configv3.Principal_Header:
		return c.header(path+".header", id.Header)
	case *configv3.Principal_UrlPath:
		return c.path(path+".url_path", id.UrlPath)
	case *configv3.Principal_Metadata:
		return metadata(id.Metadata)
	default: // package fields lets nothing else in
		return snapshot.Term{Kind: snapshot.TermNever}
	}
}

// name converts a condition on the consumer's principal; nil wants any.
func (c *terms) name(path string, m *matcherv3.StringMatcher) snapshot.Term {
	h := &snapshot.HeaderMatch{Name: "principal", Kind: snapshot.HeaderPresent, Want: true}
	if m != nil {
		h = &snapshot.HeaderMatch{Name: "principal"}
		conditions.String(c.problems, path, m, h)
	}
	return snapshot.Term{Kind: snapshot.TermPrincipal, Header: h}
}

func (c *terms) header(path string, m *routev3.HeaderMatcher) snapshot.Term {
	if m.GetName() == ":method" {
		c.request(path)
		h := conditions.Any(c.problems, path, m)
		if h.Kind == snapshot.HeaderRegex && h.Regex == nil {
			return snapshot.Term{Kind: snapshot.TermNever} // a problem was added
		}
		return constant(condition.Compare(&condition.Text{condition.Verb}, &h) != h.Invert)
	}
	h := conditions.Header(c.problems, path, m)
	return c.asks(path, &h)
}

func (c *terms) path(path string, m *matcherv3.PathMatcher) snapshot.Term {
	h := &snapshot.HeaderMatch{Name: ":path"}
	conditions.String(c.problems, path+".path", m.GetPath(), h)
	return c.asks(path, h)
}

// asks is a condition on the request.
func (c *terms) asks(path string, h *snapshot.HeaderMatch) snapshot.Term {
	c.request(path)
	c.needs |= h.Needs()
	return snapshot.Term{Kind: snapshot.TermHeader, Header: h}
}

func (c *terms) request(path string) {
	if c.connection {
		c.problems.Addf(path, "not implemented in the network filter, which sees no request")
	}
}

// metadata is a condition on a JWT, which no request has.
func metadata(m *matcherv3.MetadataMatcher) snapshot.Term { return constant(m.GetInvert()) }

func constant(holds bool) snapshot.Term {
	if holds {
		return snapshot.Term{Kind: snapshot.TermAny}
	}
	return snapshot.Term{Kind: snapshot.TermNever}
}

func ports(m *typev3.Int32Range) snapshot.Term {
	first, last := max(m.GetStart(), 0), min(int64(m.GetEnd())-1, math.MaxUint16)
	if int64(first) > last {
		return snapshot.Term{Kind: snapshot.TermNever}
	}
	return snapshot.Term{Kind: snapshot.TermDestinationPort, Min: uint16(first), Max: uint16(last)}
}

// within converts a condition on an address.
func (c *terms) within(kind snapshot.TermKind, path string, m *corev3.CidrRange) snapshot.Term {
	ip, err := netip.ParseAddr(m.GetAddressPrefix())
	if err != nil || ip.Zone() != "" || ip.Is4In6() {
		c.problems.Addf(path+".address_prefix", "%q is neither an IPv4 nor an IPv6 address", m.GetAddressPrefix())
		return snapshot.Term{Kind: snapshot.TermNever}
	}
	prefix, err := ip.Prefix(int(m.GetPrefixLen().GetValue())) // at most 128, as Envoy's rules say
	if err != nil {
		c.problems.Addf(path+".prefix_len", "%d is too long for %s", m.GetPrefixLen().GetValue(), ip)
	}
	return snapshot.Term{Kind: kind, Prefix: prefix}
}
