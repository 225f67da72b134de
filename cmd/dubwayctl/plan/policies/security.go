package policies

import (
	"fmt"
	"strings"

	"github.com/dubway/dubway/cmd/dubwayctl/manifest"
	"github.com/dubway/dubway/cmd/dubwayctl/plan/ports"
)

const noJWT = "a Dubbo request carries no JWT: it never matches (as a not..., it always does)"

var authorizationPolicy = []field{
	{path: "spec.selector", effect: Honoured},
	{path: "spec.targetRefs", effect: Honoured},
	{path: "spec.action", values: []string{"ALLOW", "DENY", "AUDIT"}, effect: Honoured},
	{path: "spec.action", values: []string{"CUSTOM"}, effect: Rejected, says: "envoy.filters.http.ext_authz is not implemented." + inboundRefused},
	{path: "spec.provider", effect: Ignored, says: "see action"},
	{path: "spec.rules.from.source.principals", effect: Honoured},
	{path: "spec.rules.from.source.notPrincipals", effect: Honoured},
	{path: "spec.rules.from.source.serviceAccounts", effect: Honoured},
	{path: "spec.rules.from.source.notServiceAccounts", effect: Honoured},
	{path: "spec.rules.from.source.namespaces", effect: Honoured},
	{path: "spec.rules.from.source.notNamespaces", effect: Honoured},
	{path: "spec.rules.from.source.trustDomains", effect: Honoured},
	{path: "spec.rules.from.source.notTrustDomains", effect: Honoured},
	{path: "spec.rules.from.source.ipBlocks", effect: Honoured},
	{path: "spec.rules.from.source.notIpBlocks", effect: Honoured},
	{path: "spec.rules.from.source.remoteIpBlocks", effect: Honoured, says: "the consumer's own address: a Dubbo request names no other"},
	{path: "spec.rules.from.source.notRemoteIpBlocks", effect: Honoured, says: "the consumer's own address: a Dubbo request names no other"},
	{path: "spec.rules.from.source.requestPrincipals", effect: Ignored, says: noJWT},
	{path: "spec.rules.from.source.notRequestPrincipals", effect: Ignored, says: noJWT},
	{path: "spec.rules.to.operation.hosts", effect: Honoured, says: "compared with the address and port that were dialled: a Dubbo request has no host"},
	{path: "spec.rules.to.operation.notHosts", effect: Honoured, says: "compared with the address and port that were dialled: a Dubbo request has no host"},
	{path: "spec.rules.to.operation.ports", effect: Honoured},
	{path: "spec.rules.to.operation.notPorts", effect: Honoured},
	{path: "spec.rules.to.operation.methods", effect: Honoured}, // POST, for every call
	{path: "spec.rules.to.operation.notMethods", effect: Honoured},
	{path: "spec.rules.to.operation.paths", effect: Honoured}, // /INTERFACE/METHOD
	{path: "spec.rules.to.operation.notPaths", effect: Honoured},
	{path: "spec.rules.when.values", effect: Honoured},
	{path: "spec.rules.when.notValues", effect: Honoured},
	{path: "spec.rules.when.key", values: []string{"connection.sni"}, effect: Rejected, says: "requested_server_name." + inboundRefused},
	{path: "spec.rules.when.key", effect: Honoured},
}

var peerAuthentication = []field{
	{path: "spec.selector", effect: Honoured},
	{path: "spec.mtls.mode", effect: Honoured},
	{path: "spec.portLevelMtls", effect: Honoured},
}

// authorizationPolicy looks at how the ports of the pods are declared: where istiod sends
// no chain for requests, a rule about requests becomes another one.
func (w *World) authorizationPolicy(o *manifest.Object, v *Verdict) bool {
	spec := object(o.Body["spec"])
	if refs := list(spec["targetRefs"]); len(refs) > 0 && !refersTo(refs, "Service") {
		v.add(Finding{Field: "spec.targetRefs", Effect: Ignored, Says: "it is for gateways or waypoints, which go on as they are"})
		return false
	}
	for i, rule := range list(spec["rules"]) {
		for j, when := range list(object(rule)["when"]) {
			key := text(object(when)["key"])
			at := fmt.Sprintf("spec.rules[%d].when[%d].key", i, j)
			switch {
			case strings.HasPrefix(key, "request.auth."):
				v.add(Finding{Field: at, Effect: Ignored, Says: noJWT})
			case strings.HasPrefix(key, "experimental.envoy.filters."):
				v.add(Finding{Field: at, Effect: Rejected, Says: "metadata of Envoy's filters." + inboundRefused, Blocks: true})
			}
		}
	}
	if !asksOfRequests(spec) {
		return true
	}
	becomes := map[string]string{
		"": "allows nothing", "ALLOW": "allows nothing", "DENY": "denies everything", "AUDIT": "logs every connection",
	}[text(spec["action"])]
	for _, p := range w.portsOf(o) {
		switch p.class { //nolint:exhaustive // at other ports the rules are about what they say
		case ports.Connections, ports.TLS:
			v.add(Finding{
				Field: "spec.rules", Effect: Partly, Fix: p.fix, Blocks: text(spec["action"]) != "AUDIT",
				Says: fmt.Sprintf("%s is declared as %s: there istiod makes of a rule about requests one that %s", p, p.class, becomes),
			})
		case ports.HTTP:
			v.add(Finding{
				Field: "spec.rules", Effect: Partly,
				Says: fmt.Sprintf("at %s it is held against Dubbo calls; HTTP and Triple are not read, and it %s of them", p, becomes),
			})
		}
	}
	return true
}

// asksOfRequests tells whether a policy asks about more than a connection.
func asksOfRequests(spec map[string]any) bool {
	for _, rule := range list(spec["rules"]) {
		for _, to := range list(object(rule)["to"]) {
			operation := object(object(to)["operation"])
			for _, name := range []string{"hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"} {
				if len(list(operation[name])) > 0 {
					return true
				}
			}
		}
		for _, from := range list(object(rule)["from"]) {
			source := object(object(from)["source"])
			for _, name := range []string{"requestPrincipals", "notRequestPrincipals", "remoteIpBlocks", "notRemoteIpBlocks"} {
				if len(list(source[name])) > 0 {
					return true
				}
			}
		}
		for _, when := range list(object(rule)["when"]) {
			if key := text(object(when)["key"]); strings.HasPrefix(key, "request.") || key == "remote.ip" {
				return true
			}
		}
	}
	return false
}

// peerAuthentication says who is left outside of STRICT.
func (w *World) peerAuthentication(o *manifest.Object, v *Verdict) bool {
	if text(object(object(o.Body["spec"])["mtls"])["mode"]) == "STRICT" && w.Outside > 0 && len(w.selected(o)) > 0 {
		v.add(Finding{Field: "spec.mtls.mode", Effect: Honoured, Says: fmt.Sprintf(
			"%d pod(s) of the namespace stay outside the mesh: their plaintext to these pods is closed, unless they run on the same node", w.Outside)})
	}
	return true
}

// requestAuthentication becomes a filter that is not implemented.
func (w *World) requestAuthentication(o *manifest.Object, v *Verdict) bool {
	return w.refusedInbound(o, v, "envoy.filters.http.jwt_authn is not implemented: a Dubbo request carries no JWT."+inboundRefused)
}

// dubboAuthorization becomes a filter of Envoy's dubbo_proxy that only Aeraki's build has.
func (w *World) dubboAuthorization(o *manifest.Object, v *Verdict) bool {
	return w.refusedInbound(o, v, "Aeraki makes of it envoy.filters.dubbo.rbac in a provider's dubbo_proxy, which is not implemented."+inboundRefused+
		". Write an AuthorizationPolicy with paths /INTERFACE/METHOD")
}

// extension is code that the proxy would have to run.
func (w *World) extension(o *manifest.Object, v *Verdict) bool {
	return w.refusedInbound(o, v, "it is a filter of Envoy's that runs foreign code (http_filters: config_discovery or Lua), which is not implemented."+
		" Every listener for requests of these pods is refused: without an earlier one none of their routes and policies holds")
}

// refusedInbound reports an object of which nothing holds, if it is for any pod here.
func (w *World) refusedInbound(o *manifest.Object, v *Verdict, says string) bool {
	pods := w.selected(o)
	if len(pods) == 0 {
		v.add(Finding{Effect: Ignored, Says: "it selects no pod that would be enrolled"})
		return false
	}
	v.add(Finding{Effect: Rejected, Says: says, Blocks: true, Fix: "let its selector leave these pods out, or keep them outside: " +
		"kubectl -n " + pods[0].Metadata.Namespace + " label pod " + pods[0].Metadata.Name + " dubway.io/mesh=disabled"})
	return false
}
