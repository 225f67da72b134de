// Package policies says what becomes of the policy objects of a cluster once Dubway reads
// what istiod makes of them: which fields are honoured, which mean nothing to a Dubbo call,
// which get lost on the way, and which have what istiod sends refused by name.
//
// It judges the objects, before there is any xDS; what is refused of xDS, docs/xds.md lists
// and `dubwayctl check` tells. The tables are closed: a field that they do not know is
// reported as unknown, never as honoured.
package policies

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dubway/dubway/cmd/dubwayctl/manifest"
)

// Effect is what becomes of a field, or of an object.
type Effect string

// The effects, the worst last.
const (
	Honoured Effect = "honoured"
	Ignored  Effect = "ignored"  // taken, and means nothing here
	Unknown  Effect = "unknown"  // no table knows the field: try it
	Partly   Effect = "partly"   // holds for some of what it is for
	Lost     Effect = "lost"     // istiod does not send it, for how a port is declared
	Rejected Effect = "rejected" // what istiod sends is refused, with its name and the field
)

var order = []Effect{Honoured, Ignored, Unknown, Partly, Lost, Rejected}

// Finding is what is to be said of one field of an object.
type Finding struct {
	Field  string `json:"field"` // "spec.http[0].rewrite"; "" is the object
	Effect Effect `json:"effect"`
	Says   string `json:"says"` // what happens
	Fix    string `json:"fix,omitempty"`
	// Blocks tells that calls would fail, or that a policy would no longer protect what it
	// does now.
	Blocks bool `json:"blocks,omitempty"`
}

// Verdict is what becomes of an object.
type Verdict struct {
	Kind      string    `json:"kind"`
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	Effect    Effect    `json:"effect"` // the worst of the findings'
	Findings  []Finding `json:"findings"`
}

// add notes something.
func (v *Verdict) add(f Finding) { v.Findings = append(v.Findings, f) }

// Blocks tells whether a finding does.
func (v *Verdict) Blocks() bool {
	return slices.ContainsFunc(v.Findings, func(f Finding) bool { return f.Blocks })
}

// kind is what is known of one kind of objects.
type kind struct {
	// fields is the table of what its spec may say.
	fields []field
	// context looks at what the object is for: ports, pods, gateways. Nil if that changes
	// nothing. It tells whether the fields matter at all.
	context func(w *World, o *manifest.Object, v *Verdict) bool
}

// kinds are the kinds that are judged, by their type. Objects of any other are no policy.
var kinds = map[string]kind{
	"VirtualService.networking.istio.io":         {virtualService, (*World).virtualService},
	"DestinationRule.networking.istio.io":        {destinationRule, (*World).destinationRule},
	"ServiceEntry.networking.istio.io":           {serviceEntry, nil},
	"Sidecar.networking.istio.io":                {sidecar, nil},
	"Gateway.networking.istio.io":                {nil, ingress},
	"EnvoyFilter.networking.istio.io":            {nil, (*World).envoyFilter},
	"ProxyConfig.networking.istio.io":            {nil, proxyConfig},
	"WorkloadEntry.networking.istio.io":          {workloadEntry, nil},
	"WorkloadGroup.networking.istio.io":          {nil, workloadGroup},
	"AuthorizationPolicy.security.istio.io":      {authorizationPolicy, (*World).authorizationPolicy},
	"PeerAuthentication.security.istio.io":       {peerAuthentication, (*World).peerAuthentication},
	"RequestAuthentication.security.istio.io":    {nil, (*World).requestAuthentication},
	"Telemetry.telemetry.istio.io":               {telemetry, nil},
	"WasmPlugin.extensions.istio.io":             {nil, (*World).extension},
	"TrafficExtension.extensions.istio.io":       {nil, (*World).extension},
	"HTTPRoute.gateway.networking.k8s.io":        {httpRoute, (*World).gatewayRoute},
	"GRPCRoute.gateway.networking.k8s.io":        {grpcRoute, (*World).gatewayRoute},
	"TCPRoute.gateway.networking.k8s.io":         {tcpRoute, (*World).gatewayRoute},
	"TLSRoute.gateway.networking.k8s.io":         {nil, (*World).tlsRoute},
	"Gateway.gateway.networking.k8s.io":          {nil, ingress},
	"MetaRouter.metaprotocol.aeraki.io":          {metaRouter, aeraki},
	"ApplicationProtocol.metaprotocol.aeraki.io": {nil, (*World).applicationProtocol},
	"DubboAuthorizationPolicy.dubbo.aeraki.io":   {nil, (*World).dubboAuthorization},
}

// Types lists the kinds that are judged, each as KIND.GROUP.
func Types() []string { return slices.Sorted(maps.Keys(kinds)) }

// Judge says what becomes of an object; false if its kind is no policy.
func (w *World) Judge(o *manifest.Object) (Verdict, bool) {
	k, known := kinds[o.Type()]
	if !known {
		return Verdict{}, false
	}
	v := Verdict{Kind: o.Kind, Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, Findings: []Finding{}}
	if k.context == nil || k.context(w, o, &v) {
		walk(k.fields, place{pattern: "spec", path: "spec"}, o.Body["spec"], v.add)
	}
	v.Effect = Honoured
	for i, f := range v.Findings {
		if slices.Index(order, f.Effect) > slices.Index(order, v.Effect) {
			v.Effect = f.Effect
		}
		v.Findings[i].Says = strings.TrimSpace(f.Says)
	}
	// The worst first: it is what an operator reads.
	slices.SortStableFunc(v.Findings, func(a, b Finding) int {
		return cmp.Compare(slices.Index(order, b.Effect), slices.Index(order, a.Effect))
	})
	return v, true
}

// field is a line of a table: what becomes of a field wherever its path, without the
// numbers of lists, is this one. "*" is any key. What stands below it, and has no line of
// its own, shares its fate.
type field struct {
	path   string
	values []string // to these values alone; nil to all
	effect Effect
	says   string
	// harmless says that nothing goes with what is refused.
	harmless bool
}

// What goes with a resource that is refused.
const (
	tableRefused    = " The whole route table of the host's port is refused: without an earlier one its calls find no route"
	listenerRefused = " The whole listener of the host's port is refused: without an earlier one its calls are not steered, and no policy of theirs holds"
	clusterRefused  = " The cluster is refused: without an earlier one the calls to it fail"
	inboundRefused  = " virtualInbound of these pods is refused as a whole: without an earlier one no AuthorizationPolicy and no mutual TLS of theirs holds"
)

// place is where a walk is.
type place struct{ pattern, path string }

// below is the place of a key.
func (p place) below(pattern, key string) place {
	return place{p.pattern + "." + pattern, p.path + "." + key}
}

// walk holds what is set below a place against a table.
func walk(table []field, at place, value any, report func(Finding)) {
	switch value := value.(type) {
	case nil:
		return
	case []any:
		for i, item := range value {
			walk(table, place{at.pattern, fmt.Sprintf("%s[%d]", at.path, i)}, item, report)
		}
		return
	case map[string]any:
		if leadsOn(table, at.pattern) {
			for _, key := range slices.Sorted(maps.Keys(value)) {
				walk(table, next(table, at, key), value[key], report)
			}
			return
		}
	}
	judge(table, at, value, report)
}

// leadsOn tells whether a table has lines below a pattern.
func leadsOn(table []field, pattern string) bool {
	return slices.ContainsFunc(table, func(f field) bool { return strings.HasPrefix(f.path, pattern+".") })
}

// next is the place of a key, by its own lines if there are any, else by those of any key.
func next(table []field, at place, key string) place {
	own := at.below(key, key)
	wild := at.below("*", key)
	known := func(p place) bool {
		return leadsOn(table, p.pattern) || slices.ContainsFunc(table, func(f field) bool { return f.path == p.pattern })
	}
	if !known(own) && known(wild) {
		return wild
	}
	return own
}

// judge reports what becomes of a value that a line is about.
func judge(table []field, at place, value any, report func(Finding)) {
	var found *field
	for i := range table {
		f := &table[i]
		if f.path != at.pattern || f.values != nil && !slices.Contains(f.values, fmt.Sprint(value)) {
			continue
		}
		if found == nil || found.values == nil { // a line for this very value goes first
			found = f
		}
	}
	switch {
	case found == nil:
		report(Finding{Field: at.path, Effect: Unknown, Says: "this release does not know it: try it, and read dubwayctl status"})
	case found.effect != Honoured || found.says != "":
		report(Finding{Field: at.path, Effect: found.effect, Says: found.says, Blocks: found.effect == Rejected && !found.harmless})
	}
}
