package routes

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	dubbov3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/dubbo_proxy/v3"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/conditions"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// DubboProxy converts the table of a dubbo_proxy filter that fields.Examine has
// passed. Its problems are noted below path; origin names it for explain. The
// entries, which Envoy tries one after the other, become the routes of one
// virtual host: a route has the conditions of its entry and its own.
func DubboProxy(p *problems.List, path, origin string, m *dubbov3.DubboProxy) *snapshot.RouteConfig {
	entries, at, name := m.GetRouteConfig(), path+".route_config", "dubbo_proxy"
	if multiple := m.GetMultipleRouteConfig(); multiple != nil {
		if len(entries) > 0 {
			p.Addf(at, "not beside multiple_route_config")
		}
		entries, at = multiple.GetRouteConfig(), path+".multiple_route_config.route_config"
		if multiple.GetName() != "" {
			name = multiple.GetName()
		}
	}
	if len(entries) == 0 {
		p.Addf(path+".multiple_route_config.route_config", "required: there is nothing to route by")
	}
	host := &snapshot.VirtualHost{Name: name, Domains: []string{"*"}}
	for i, e := range entries {
		host.Routes = append(host.Routes, entry(p, fmt.Sprintf("%s[%d]", at, i), origin, e)...)
	}
	c := &snapshot.RouteConfig{Name: name, VirtualHosts: []*snapshot.VirtualHost{host}}
	c.Static = isStatic(c)
	c.Whole = slices.ContainsFunc(host.Routes, func(r *snapshot.Route) bool { return needsWhole(&r.Action) })
	return c
}

// entry converts the routes of one interface.
func entry(p *problems.List, path, origin string, m *dubbov3.RouteConfiguration) []*snapshot.Route {
	if m.GetInterface() == "" {
		p.Addf(path+".interface", "required")
	}
	if len(m.GetRoutes()) == 0 {
		p.Addf(path+".routes", "required")
	}
	var list []*snapshot.Route
	for i, r := range m.GetRoutes() {
		at := fmt.Sprintf("%s.routes[%d]", path, i)
		route := &snapshot.Route{
			Name: m.GetName(), Origin: origin + " " + at, Match: snapshot.Match{Fraction: million},
			Action: action(p, at+".route", dubboTarget(p, at+".route", r.GetRoute())),
		}
		wanted := &route.Match.Headers
		*wanted = append(*wanted, wildcard(m.GetInterface()), method(p, at+".match.method", r.GetMatch().GetMethod()))
		if m.GetVersion() != "" {
			*wanted = append(*wanted, snapshot.HeaderMatch{Name: "version", Value: m.GetVersion()})
		}
		*wanted = append(*wanted, parameters(p, at+".match.method.params_match", r.GetMatch().GetMethod())...)
		if m.GetGroup() != "" {
			*wanted = append(*wanted, snapshot.HeaderMatch{Name: "group", Value: m.GetGroup()})
		}
		for j, h := range r.GetMatch().GetHeaders() {
			attachment := conditions.Any(p, fmt.Sprintf("%s.match.headers[%d]", at, j), h)
			attachment.Source = snapshot.SourceAttachment
			*wanted = append(*wanted, attachment)
		}
		list = append(list, route)
	}
	return list
}

// wildcard reads an interface as Envoy does: "*" is any, a star at the start or at
// the end stands for at least one character, and all else is meant literally.
func wildcard(name string) snapshot.HeaderMatch {
	h := snapshot.HeaderMatch{Name: "interface", Value: name}
	switch {
	case name == "*":
		h.Kind, h.Value, h.Longer = snapshot.HeaderPrefix, "", true
	case strings.HasPrefix(name, "*"):
		h.Kind, h.Value, h.Longer = snapshot.HeaderSuffix, name[1:], true
	case strings.HasSuffix(name, "*"):
		h.Kind, h.Value, h.Longer = snapshot.HeaderPrefix, name[:len(name)-1], true
	}
	return h
}

// method converts a method's name. The two expressions for any method are no
// condition, so that such a route is a default one.
func method(p *problems.List, path string, m *dubbov3.MethodMatch) snapshot.HeaderMatch {
	h := snapshot.HeaderMatch{Name: "method"}
	if m.GetName() == nil {
		p.Addf(path+".name", "required")
		return h
	}
	conditions.String(p, path+".name", m.GetName(), &h)
	if h.Kind == snapshot.HeaderRegex && (h.Value == ".*" || h.Value == ".+") {
		h = snapshot.HeaderMatch{Name: "method", Kind: snapshot.HeaderPrefix, Longer: true}
	}
	return h
}

// parameters converts the conditions on arguments, in the order of their indices.
// As in Envoy an empty exact_match, or none, wants any argument that has a text.
func parameters(p *problems.List, path string, m *dubbov3.MethodMatch) []snapshot.HeaderMatch {
	var list []snapshot.HeaderMatch
	for _, index := range slices.Sorted(maps.Keys(m.GetParamsMatch())) {
		h := snapshot.HeaderMatch{Source: snapshot.SourceArgument, Index: int(index), Kind: snapshot.HeaderPresent, Want: true}
		if !conditions.IsIndex(int(index)) {
			p.Addf(fmt.Sprintf("%s[%d]", path, index), "not from 0 to %d: no Java method has so many parameters", conditions.MaxArguments-1)
		}
		switch spec := m.GetParamsMatch()[index].GetParameterMatchSpecifier().(type) {
		case *dubbov3.MethodMatch_ParameterMatchSpecifier_ExactMatch:
			if spec.ExactMatch != "" {
				h.Kind, h.Value, h.Want = snapshot.HeaderExact, spec.ExactMatch, false
			}
		case *dubbov3.MethodMatch_ParameterMatchSpecifier_RangeMatch:
			h.Kind, h.Min, h.Max, h.Want = snapshot.HeaderRange, spec.RangeMatch.GetStart(), spec.RangeMatch.GetEnd(), false
		}
		list = append(list, h)
	}
	return list
}

func dubboTarget(p *problems.List, path string, m *dubbov3.RouteAction) target {
	t := target{cluster: m.GetCluster(), weighted: m.GetWeightedClusters(), metadata: m.GetMetadataMatch()}
	if t.weighted == nil && t.cluster == "" {
		p.Addf(path+".cluster", "required")
	}
	return t
}
