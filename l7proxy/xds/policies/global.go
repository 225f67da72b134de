package policies

import (
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/conditions"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// askTimeout is how long Envoy waits for an answer unless told otherwise.
const askTimeout = 20 * time.Millisecond

// Global converts the configuration of a filter for a global rate limit, called name,
// that fields.Examine has passed. The result is never nil, and means nothing where a
// problem was added.
func Global(p *problems.List, path, name string, config *anypb.Any) *snapshot.Global {
	m := new(ratelimitv3.RateLimit)
	if !p.Unpack(path, config, m) {
		return new(snapshot.Global)
	}
	to := m.GetRateLimitService().GetGrpcService().GetEnvoyGrpc()
	out := &snapshot.Global{
		Name: name, Prefix: m.GetStatPrefix(), Domain: m.GetDomain(), Stage: m.GetStage(),
		Service: snapshot.RateService{Cluster: to.GetClusterName(), Authority: to.GetAuthority()},
		Timeout: askTimeout, Enabled: snapshot.Million, Enforced: snapshot.Million,
	}
	if t := m.GetTimeout(); t != nil {
		if out.Timeout = t.AsDuration(); out.Timeout <= 0 {
			p.Addf(path+".timeout", "is %s: there could never be an answer", out.Timeout)
		}
	}
	if f := m.GetFilterEnabled(); f != nil {
		out.Enabled = conditions.Millionths(f.GetDefaultValue())
	}
	if f := m.GetFilterEnforced(); f != nil {
		out.Enforced = conditions.Millionths(f.GetDefaultValue())
	}
	if m.GetFailureModeDeny() {
		out.Denied = snapshot.Million
	}
	if f := m.GetFailureModeDenyPercent(); f != nil {
		out.Denied = conditions.Millionths(f.GetDefaultValue())
	}
	return out
}

// globalRoute converts what a route says of such a filter.
func globalRoute(p *problems.List, path string, config *anypb.Any) *snapshot.GlobalRoute {
	m := new(ratelimitv3.RateLimitPerRoute)
	if !p.Unpack(path, config, m) {
		return new(snapshot.GlobalRoute)
	}
	out := &snapshot.GlobalRoute{Domain: m.GetDomain()}
	out.Rates, out.Needs = Rates(p, path+".rate_limits", m.GetRateLimits())
	return out
}
