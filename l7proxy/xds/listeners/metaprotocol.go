package listeners

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/metaprotocol"
	"github.com/dubway/dubway/l7proxy/xds/policies"
	"github.com/dubway/dubway/l7proxy/xds/routes"
	"github.com/dubway/dubway/l7proxy/xds/typed"
)

// metaProtocol converts Aeraki's filter. Its table is inline, or at a server of its own.
func (b *builder) metaProtocol(chain, path string, config *anypb.Any) *terminal {
	m := new(metaprotocol.MetaProtocolProxy)
	if !b.unpack(path, config, m) {
		return nil
	}
	t := &terminal{idle: m.GetIdleTimeout().AsDuration()}
	if m.GetProtocol().GetName() == "" && m.GetApplicationProtocol() == "" {
		b.problems.Addf(path+".protocol.name", "required")
	}
	var global *asked
	for i, f := range m.GetMetaProtocolFilters() {
		if one := b.metaFilter(fmt.Sprintf("%s.meta_protocol_filters[%d]", path, i), f, t); one != nil {
			global = one
		}
	}
	if inline := m.GetRouteConfig(); inline != nil {
		at := path + ".route_config"
		t.route = routes.MetaProtocol(b.problems, at, "listeners/"+b.name, inline)
		t.routeName = b.name + "#" + chain
		t.route.Name = t.routeName
		if global != nil {
			global.divide(t.route)
		}
		return t
	}
	if t.routeName = m.GetRds().GetRouteConfigName(); t.routeName == "" {
		b.problems.Addf(path+".rds.route_config_name", "required, or an inline route_config")
	}
	t.server = policies.ServerOf(b.problems, path+".rds.config_source", m.GetRds().GetConfigSource())
	if global != nil {
		b.problems.Addf(path+".meta_protocol_filters",
			"%s: not implemented beside rds, only beside an inline route_config", typed.TypeMetaGlobalLimit)
	}
	return t
}

// metaFilter adds a filter of Aeraki's proxy, if it is a policy. Of a global limit it returns
// which requests are asked about.
func (b *builder) metaFilter(path string, f *metaprotocol.MetaProtocolFilter, t *terminal) *asked {
	at := path + ".config"
	match := func(path string, m *metaprotocol.RouteMatch) []snapshot.HeaderMatch {
		return routes.MetaMatch(b.problems, path, m)
	}
	switch typ, _, _ := typed.TypeOf(f.GetConfig()); {
	case typ == typed.TypeMetaLimit:
		m := new(metaprotocol.LocalRateLimit)
		if b.unpack(at, f.GetConfig(), m) {
			limit := policies.MetaLimit(b.problems, at, m, match)
			limit.Name = f.GetName()
			t.limits = append(t.limits, limit)
		}
	case typ == typed.TypeMetaGlobalLimit:
		m := new(metaprotocol.RateLimit)
		if len(t.globals) > 0 {
			b.problems.Addf(path, "not implemented: a second global rate limit")
		} else if b.unpack(at, f.GetConfig(), m) {
			limit, by := policies.MetaGlobal(b.problems, at, m)
			limit.Name = f.GetName()
			t.globals = append(t.globals, limit)
			return &asked{f.GetName(), match(at+".match", m.GetMatch()), by}
		}
	case strings.HasSuffix(f.GetName(), "ratelimit"):
		b.problems.Addf(at, "required: %s limits nothing without it", f.GetName())
	}
	return nil
}

// asked are the requests that a global limit is asked about.
type asked struct {
	name  string // the filter's
	match []snapshot.HeaderMatch
	by    *snapshot.GlobalRoute
}

// divide makes two of each route: one for the requests that are asked about, and behind it
// the one for the others.
func (a *asked) divide(rc *snapshot.RouteConfig) {
	for _, vh := range rc.VirtualHosts {
		var list []*snapshot.Route
		for _, r := range vh.Routes {
			one := *r
			one.Match.Headers = slices.Concat(r.Match.Headers, a.match)
			one.Policies = &snapshot.RoutePolicies{Globals: map[string]*snapshot.GlobalRoute{a.name: a.by}}
			rc.Needs |= one.Policies.All()
			list = append(list, &one, r)
		}
		vh.Routes = list
	}
	routes.Again(rc)
}

// unpack reads a message of Aeraki's; false if a problem was added.
func (b *builder) unpack(path string, config *anypb.Any, m proto.Message) bool {
	if !config.MessageIs(m) {
		b.problems.Addf(path, "not implemented: %s inside another message", m.ProtoReflect().Descriptor().FullName())
		return false
	}
	if err := config.UnmarshalTo(m); err != nil {
		b.problems.Addf(path, "%v", err)
		return false
	}
	return true
}
