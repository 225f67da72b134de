package routes

import (
	"fmt"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/conditions"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// hashes converts the hash policies of a route. Body says that one needs more of a
// request than its names. The parts of a request that only HTTP has, cookies and
// query parameters, package fields rejects or has explained: they give no hash.
func hashes(p *problems.List, path string, list []*routev3.RouteAction_HashPolicy) (out []snapshot.HashPolicy, body bool) {
	for i, m := range list {
		switch spec := m.GetPolicySpecifier().(type) {
		case *routev3.RouteAction_HashPolicy_Header_:
			h := snapshot.HeaderMatch{Name: spec.Header.GetHeaderName()}
			conditions.Attribute(p, fmt.Sprintf("%s[%d].header.header_name", path, i), &h)
			body = body || !isNamed(&h)
			out = append(out, snapshot.HashPolicy{Source: h.Source, Name: h.Name, Index: h.Index, Terminal: m.GetTerminal()})
		case *routev3.RouteAction_HashPolicy_ConnectionProperties_:
			if !spec.ConnectionProperties.GetSourceIp() {
				p.Addf(fmt.Sprintf("%s[%d].connection_properties", path, i), "names nothing to hash")
			}
			out = append(out, snapshot.HashPolicy{SourceIP: true, Terminal: m.GetTerminal()})
		}
	}
	return out, body
}
