package policies

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dubway/dubway/cmd/dubwayctl/manifest"
	"github.com/dubway/dubway/cmd/dubwayctl/plan/ports"
)

// mesh is the gateway that means every sidecar.
const mesh = "mesh"

// virtualService looks at the ports of the hosts, for istiod sends the routes of requests
// only where a port has requests.
func (w *World) virtualService(o *manifest.Object, v *Verdict) bool {
	spec := object(o.Body["spec"])
	if gateways := texts(spec["gateways"]); len(gateways) > 0 && !slices.Contains(gateways, mesh) {
		v.add(Finding{Field: "spec.gateways", Effect: Ignored, Says: "it is for gateways, which go on as they are; it holds in the mesh if it names " + mesh + " too"})
		return false
	}
	var all []port
	for i, host := range texts(spec["hosts"]) {
		of, known := w.ofHost(host, o.Metadata.Namespace)
		if !known {
			v.add(Finding{
				Field: fmt.Sprintf("spec.hosts[%d]", i), Effect: Lost,
				Says: "no Service or ServiceEntry " + host + " is here: istiod sends no listener that would lead to these routes. dubwayctl generate services writes those of a registry",
			})
		}
		all = append(all, of...)
	}
	if len(list(spec["http"])) == 0 {
		return true
	}
	return w.http(spec, all, v)
}

// http says of which ports the routes of requests hold.
func (w *World) http(spec map[string]any, all []port, v *Verdict) bool {
	requests := func(p port) bool { return p.class == ports.Requests || p.class == ports.HTTP }
	some := slices.ContainsFunc(all, requests)
	for _, p := range all {
		switch {
		case requests(p) || p.class == ports.Datagrams || some && !p.dubbo || !meant(spec, p.number):
		default:
			v.add(Finding{
				Field: "spec.http", Effect: Lost, Fix: p.fix,
				Says: fmt.Sprintf("%s is declared as %s: istiod sends no routes for it, and the connections go where they would without this object", p, p.class),
			})
		}
	}
	w.relayed(spec, all, v)
	if len(all) > 0 && !some {
		return false // whatever the routes say, nobody sends them
	}
	if slices.ContainsFunc(all, func(p port) bool { return p.class == ports.Requests || p.dubbo }) || len(all) == 0 {
		return true
	}
	// Nothing here is Dubbo's: what is refused of it takes nothing from anybody.
	walk(virtualService, place{pattern: "spec", path: "spec"}, spec, func(f Finding) {
		f.Blocks = false
		v.add(f)
	})
	return false
}

// relayed says what HTTP's own ports lose.
func (w *World) relayed(spec map[string]any, all []port, v *Verdict) {
	for _, p := range all {
		if p.class == ports.HTTP && meant(spec, p.number) {
			v.add(Finding{
				Field: "spec.http", Effect: Partly,
				Says: fmt.Sprintf("at %s it holds for Dubbo calls; HTTP, Triple and gRPC are passed on unread to the Service's address, without these routes", p),
			})
		}
	}
}

// meant tells whether routes may be about a port: all of their matches may say another one.
func meant(spec map[string]any, number int) bool {
	for _, route := range list(spec["http"]) {
		matches := list(object(route)["match"])
		if len(matches) == 0 {
			return true
		}
		for _, match := range matches {
			if n, limited := object(match)["port"].(float64); !limited || int(n) == number {
				return true
			}
		}
	}
	return false
}

// destinationRule looks at what istiod makes of a rule for ports of connections.
func (w *World) destinationRule(o *manifest.Object, v *Verdict) bool {
	spec := object(o.Body["spec"])
	of, known := w.ofHost(text(spec["host"]), o.Metadata.Namespace)
	if !known {
		v.add(Finding{Field: "spec.host", Effect: Lost, Says: "no Service or ServiceEntry " + text(spec["host"]) + " is here: istiod sends no cluster of it"})
		return true
	}
	plain := slices.ContainsFunc(of, func(p port) bool { return p.class != ports.HTTP && p.class != ports.Datagrams })
	hash := object(object(object(spec["trafficPolicy"])["loadBalancer"])["consistentHash"])
	if use, _ := hash["useSourceIp"].(bool); use && plain {
		v.add(Finding{
			Field: "spec.trafficPolicy.loadBalancer.consistentHash.useSourceIp", Effect: Rejected, Blocks: true,
			Says: "hash_policy of tcp_proxy." + listenerRefused + ". In a subset it is honoured, of requests",
		})
	}
	if object(object(spec["trafficPolicy"])["connectionPool"]) != nil && w.provides(text(spec["host"]), o.Metadata.Namespace) {
		v.add(Finding{
			Field: "spec.trafficPolicy.connectionPool", Effect: Partly,
			Says: "consumers keep to it; the provider's own side (its cluster inbound|PORT||) is not limited",
		})
	}
	return true
}

// provides tells whether a host has pods behind it that would be enrolled.
func (w *World) provides(host, namespace string) bool {
	full := strings.ToLower(host)
	if !strings.Contains(full, ".") {
		full += "." + namespace + ".svc." + w.Domain
	}
	return slices.ContainsFunc(w.Services, func(s *manifest.Service) bool {
		return named(full, s.Metadata.Name+"."+s.Metadata.Namespace+".svc."+w.Domain) && slices.ContainsFunc(w.Pods, s.Selects)
	})
}

// gatewayRoute looks at the Services that a route of the Gateway API is for.
func (w *World) gatewayRoute(o *manifest.Object, v *Verdict) bool {
	refs := list(object(o.Body["spec"])["parentRefs"])
	if !refersTo(refs, "Service") {
		v.add(Finding{Field: "spec.parentRefs", Effect: Ignored, Says: "it is for gateways, which go on as they are; it holds in the mesh for a parent of kind Service"})
		return false
	}
	connections := o.Kind == "TCPRoute"
	holds := false
	for i, ref := range refs {
		ref := object(ref)
		if text(ref["kind"]) != "Service" {
			continue
		}
		namespace := text(ref["namespace"])
		if namespace == "" {
			namespace = o.Metadata.Namespace
		}
		of, known := w.ofHost(text(ref["name"]), namespace)
		if !known {
			v.add(Finding{Field: fmt.Sprintf("spec.parentRefs[%d]", i), Effect: Lost, Says: "no Service " + namespace + "/" + text(ref["name"]) + " is here"})
		}
		for _, p := range of {
			if n, limited := ref["port"].(float64); limited && int(n) != p.number {
				continue
			}
			if w.gatewayPort(p, connections, v) {
				holds = true
			}
		}
	}
	return holds
}

// gatewayPort says what a route does at a port, and tells whether it does anything.
func (w *World) gatewayPort(p port, connections bool, v *Verdict) bool {
	switch {
	case connections && p.class == ports.Requests:
		v.add(Finding{Field: "spec.parentRefs", Effect: Partly, Says: fmt.Sprintf("at %s it holds for what is no Dubbo request", p)})
	case !connections && p.class == ports.Connections, !connections && p.class == ports.TLS:
		v.add(Finding{Field: "spec.parentRefs", Effect: Lost, Fix: p.fix, Says: fmt.Sprintf("%s is declared as %s: istiod sends no routes for it", p, p.class)})
		return false
	case !connections && p.class == ports.HTTP:
		v.add(Finding{Field: "spec.parentRefs", Effect: Partly, Says: fmt.Sprintf("at %s it holds for Dubbo calls; HTTP, Triple and gRPC are passed on unread", p)})
	case connections && p.class == ports.HTTP:
		return false
	}
	return true
}

// tlsRoute matches server names.
func (w *World) tlsRoute(o *manifest.Object, v *Verdict) bool {
	if !refersTo(list(object(o.Body["spec"])["parentRefs"]), "Service") {
		v.add(Finding{Field: "spec.parentRefs", Effect: Ignored, Says: "it is for gateways, which go on as they are"})
		return false
	}
	v.add(Finding{Effect: Rejected, Blocks: true, Says: "server_names: names in a TLS greeting are not read." + listenerRefused})
	return false
}

func ingress(_ *World, _ *manifest.Object, v *Verdict) bool {
	v.add(Finding{Effect: Ignored, Says: "it is for gateways, which go on as they are"})
	return false
}

func proxyConfig(_ *World, _ *manifest.Object, v *Verdict) bool {
	v.add(Finding{Effect: Ignored, Says: "it configures sidecars; the node's proxy has values of the chart"})
	return false
}

func workloadGroup(_ *World, _ *manifest.Object, v *Verdict) bool {
	v.add(Finding{Effect: Ignored, Says: "it registers machines; their WorkloadEntries are honoured"})
	return false
}
