package routes

import (
	"fmt"
	"slices"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/conditions"
	"github.com/dubway/dubway/l7proxy/xds/fields"
	"github.com/dubway/dubway/l7proxy/xds/metaprotocol"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// MetaRouteConfiguration converts a table of Aeraki's that is a resource of its own. It
// returns problems or a result, never both.
func MetaRouteConfiguration(m *metaprotocol.RouteConfiguration) (*snapshot.RouteConfig, problems.List) {
	p := fields.Check(m)
	if m.GetName() == "" {
		p.Addf("name", "required")
	}
	if len(p) > 0 {
		return nil, p
	}
	c := MetaProtocol(&p, "", "metaroutes/"+m.GetName(), m)
	if len(p) > 0 {
		return nil, p
	}
	return c, nil
}

// MetaProtocol converts a table of Aeraki's that fields.Check has passed. Its problems are
// noted below path; origin names it for explain. Its routes, which Aeraki's proxy tries one
// after the other, become those of one virtual host.
func MetaProtocol(p *problems.List, path, origin string, m *metaprotocol.RouteConfiguration) *snapshot.RouteConfig {
	if path != "" {
		path += "."
	}
	if len(m.GetRoutes()) == 0 {
		p.Addf(path+"routes", "required: there is nothing to route by")
	}
	host := &snapshot.VirtualHost{Name: "meta_protocol_proxy", Domains: []string{"*"}}
	for i, r := range m.GetRoutes() {
		host.Routes = append(host.Routes, metaRoute(p, fmt.Sprintf("%sroutes[%d]", path, i), origin, r))
	}
	c := &snapshot.RouteConfig{Name: m.GetName(), VirtualHosts: []*snapshot.VirtualHost{host}}
	Again(c)
	return c
}

// Again finds out anew what choosing a route of c needs, whose routes were changed.
func Again(c *snapshot.RouteConfig) {
	c.Static = isStatic(c)
	for _, vh := range c.VirtualHosts {
		c.Whole = c.Whole || slices.ContainsFunc(vh.Routes, func(r *snapshot.Route) bool {
			return needsWhole(&r.Action) || len(r.Action.Mirrors) > 0 || r.Action.HashBody
		})
	}
}

func metaRoute(p *problems.List, path, origin string, m *metaprotocol.Route) *snapshot.Route {
	r := &snapshot.Route{
		Name: m.GetName(), Origin: origin + " " + path,
		Match: snapshot.Match{Fraction: million, Headers: MetaMatch(p, path+".match", m.GetMatch())},
	}
	to := m.GetRoute()
	if to.GetCluster() == "" && to.GetWeightedClusters() == nil {
		p.Addf(path+".route.cluster", "required")
		return r
	}
	r.Action = action(p, path+".route", target{cluster: to.GetCluster(), weighted: to.GetWeightedClusters()})
	shape(&r.Action, snapshot.Edits{
		Requests: mutations(p, path+".request_mutation", m.GetRequestMutation(), false),
		Answers:  mutations(p, path+".response_mutation", m.GetResponseMutation(), true),
	})
	for i, one := range to.GetRequestMirrorPolicies() {
		copies := snapshot.Mirror{Cluster: one.GetCluster(), Fraction: million}
		if f := one.GetRuntimeFraction(); f != nil {
			copies.Fraction = conditions.Millionths(f.GetDefaultValue())
		}
		if copies.Cluster == "" {
			p.Addf(fmt.Sprintf("%s.route.request_mirror_policies[%d].cluster", path, i), "required")
		}
		if copies.Fraction > 0 {
			r.Action.Mirrors = append(r.Action.Mirrors, copies)
		}
	}
	for _, name := range to.GetHashPolicy() {
		h := snapshot.HeaderMatch{Name: name}
		conditions.Property(&h)
		r.Action.HashBody = r.Action.HashBody || !isNamed(&h)
		r.Action.Hash = append(r.Action.Hash, snapshot.HashPolicy{Source: h.Source, Name: h.Name})
	}
	return r
}

// MetaMatch converts the conditions of a route, or of a limit: all must hold.
func MetaMatch(p *problems.List, path string, m *metaprotocol.RouteMatch) []snapshot.HeaderMatch {
	var list []snapshot.HeaderMatch
	for i, h := range m.GetMetadata() {
		list = append(list, conditions.Metadata(p, fmt.Sprintf("%s.metadata[%d]", path, i), h))
	}
	return list
}

// mutations set attachments to a text as it stands: it is no format.
func mutations(p *problems.List, path string, list []*metaprotocol.KeyValue, answers bool) []snapshot.Edit {
	var out []snapshot.Edit
	for i, kv := range list {
		side{p, "", answers}.checkName(fmt.Sprintf("%s[%d].key", path, i), kv.GetKey())
		out = append(out, snapshot.Edit{Name: kv.GetKey(), How: snapshot.EditSet, Value: []snapshot.Piece{{Text: kv.GetValue()}}})
	}
	return out
}
