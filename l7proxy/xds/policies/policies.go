// Package policies converts Envoy's policy filters, and what routes say of them,
// into the plain data of package snapshot: RBAC and local rate limits, on
// connections and on requests, global rate limits, and faults. Pure functions from one message to what it means,
// with everything that is wrong noted; which fields may be set is the table of
// package fields. It judges nothing: package filter does.
package policies

import (
	"fmt"
	"maps"
	"slices"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/types/known/anypb"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/problems"
	"github.com/dubway/dubway/l7proxy/xds/typed"
)

// Connection adds the network filter at path to a gate, if it is a policy.
func Connection(p *problems.List, path string, f *listenerv3.Filter, gate *snapshot.Gate) {
	path += ".typed_config"
	switch typ, _, _ := typed.TypeOf(f.GetTypedConfig()); typ {
	case typed.TypeNetworkRBAC:
		gate.RBAC = append(gate.RBAC, networkRBAC(p, path, f.GetName(), f.GetTypedConfig()))
	case typed.TypeNetworkLimit:
		gate.Limits = append(gate.Limits, networkLimit(p, path, f.GetName(), f.GetTypedConfig()))
	}
}

// Of converts a typed_per_filter_config. The result is never nil.
func Of(p *problems.List, path string, configs map[string]*anypb.Any) *snapshot.RoutePolicies {
	out := new(snapshot.RoutePolicies)
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		at, config := fmt.Sprintf("%s[%q]", path, name), configs[name]
		switch typ, _, _ := typed.TypeOf(config); typ {
		case typed.TypeRBACPerRoute:
			m := new(rbacv3.RBACPerRoute)
			if !p.Unpack(at, config, m) {
				continue
			}
			if out.RBAC == nil {
				out.RBAC = make(map[string]*snapshot.RBAC)
			}
			out.RBAC[name] = rbac(p, at+".rbac", name, m.GetRbac())
		case typed.TypeLimit:
			l := Limit(p, at, name, config)
			if l.Bucket == nil {
				p.Addf(at+".token_bucket", "required on a route")
			}
			if out.Limits == nil {
				out.Limits = make(map[string]*snapshot.Limit)
			}
			out.Limits[name] = l
		case typed.TypeGlobalPerRoute:
			if out.Globals == nil {
				out.Globals = make(map[string]*snapshot.GlobalRoute)
			}
			out.Globals[name] = globalRoute(p, at, config)
		case typed.TypeFault:
			if out.Faults == nil {
				out.Faults = make(map[string]*snapshot.Fault)
			}
			out.Faults[name] = Fault(p, at, name, config)
		}
	}
	return out
}

// Over returns what holds where over is said on top of base, whose names it
// replaces; its rates replace all of base's. Neither is changed.
func Over(base, over *snapshot.RoutePolicies) *snapshot.RoutePolicies {
	out := &snapshot.RoutePolicies{
		RBAC: joined(base.RBAC, over.RBAC), Limits: joined(base.Limits, over.Limits),
		Faults: joined(base.Faults, over.Faults), Abort: over.Abort, Globals: joined(base.Globals, over.Globals),
		Rates: over.Rates, Needs: over.Needs,
	}
	if len(over.Rates) == 0 {
		out.Rates, out.Needs = base.Rates, base.Needs
	}
	return out
}

// joined is base with over's names on top.
func joined[T any](base, over map[string]*T) map[string]*T {
	if len(over) == 0 {
		return base
	}
	out := maps.Clone(over)
	for name, one := range base {
		if _, ok := out[name]; !ok {
			out[name] = one
		}
	}
	return out
}
