package plan

import (
	"reflect"
	"strings"
	"testing"

	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Judged is what a verdict makes of a field of the configuration. The zero value is none.
type judged struct {
	// proxy forces requests onto the proxy; there is a case of it in forcing. Honoured says
	// how the lane obeys it, and idle why it means nothing to calls in the lane.
	proxy    verdict.Reason
	honoured string
	idle     string
}

func proxied(r verdict.Reason) judged { return judged{proxy: r} }
func obeyed(how string) judged        { return judged{honoured: how} }
func idle(why string) judged          { return judged{idle: why} }

// known is what a verdict makes of every field. "Type.*" is only for types of which having
// one at all forces requests onto the proxy, or is judged whole by other code of the proxy
// once for all requests of the names; a field that is new to another type must be put here.
var known = map[string]judged{
	"snapshot.Snapshot.Generation": idle("a number"),
	"snapshot.Snapshot.Listeners":  obeyed("the planner's"),
	"snapshot.Snapshot.Inbounds":   obeyed("Node.Guarded asks the provider's own snapshot"),
	"snapshot.Snapshot.Routes":     obeyed("the planner's"),
	"snapshot.Snapshot.Clusters":   obeyed("the planner's"),
	"snapshot.Snapshot.Unknown":    idle("of destinations without a listener"),

	"snapshot.Listener.Name": idle("a label"), "snapshot.Listener.Prefix": obeyed("the planner's"), "snapshot.Listener.Port": obeyed("the planner's"),
	"snapshot.Listener.RouteName": idle("a name"), "snapshot.Listener.RouteServer": idle("a name"),
	"snapshot.Listener.Route": proxied(verdict.NoRoute),
	"snapshot.Listener.TCP":   idle("of opaque connections"), "snapshot.Listener.TCPGate": idle("of opaque connections"),
	"snapshot.Listener.HTTPGate": idle("of opaque connections"), "snapshot.Listener.TCPIdle": idle("of opaque connections"),
	"snapshot.Listener.TCPReport": idle("of opaque connections"),
	"snapshot.Listener.Gate":      proxied(verdict.Denied),
	"snapshot.Listener.RBAC":      proxied(verdict.Denied), "snapshot.Listener.Limits": proxied(verdict.Limited),
	"snapshot.Listener.Globals": proxied(verdict.Limited), "snapshot.Listener.Faults": proxied(verdict.Fault),
	"snapshot.Listener.Idle":    obeyed("the session's: calls in the lane count as not silent"),
	"snapshot.Listener.Tracing": proxied(verdict.Traced), "snapshot.Listener.Report": proxied(verdict.Told),
	"tracing.Tracing.*": proxied(verdict.Traced), "tracing.Collector.*": proxied(verdict.Traced), "tracing.Tag.*": proxied(verdict.Traced),
	"report.Rules.Labels": proxied(verdict.Told), "report.Rules.Conditions": proxied(verdict.Told),
	"report.Rules.Metrics": obeyed("by the observer of the end's call"), "report.Rules.Log": obeyed("by the observer of the end's call"),
	"report.Metrics.*": obeyed("the same"), "report.Change.*": obeyed("the same"), "report.Tag.*": obeyed("the same"),
	"report.Log.*": obeyed("the same"), "report.Expression.*": obeyed("the same"), "report.Condition.*": proxied(verdict.Told),

	"snapshot.RouteConfig.Name": idle("a name"), "snapshot.RouteConfig.VirtualHosts": obeyed("router.Match, by names alone"),
	"snapshot.RouteConfig.IgnorePort": obeyed("router.Match"), "snapshot.RouteConfig.Static": idle("a condition that asks for a body is noticed where it asks"),
	"snapshot.RouteConfig.Whole": idle("each thing that it is for is judged"), "snapshot.RouteConfig.Needs": idle("the same"),
	"snapshot.VirtualHost.Name": idle("a name"), "snapshot.VirtualHost.Domains": obeyed("router.Match"), "snapshot.VirtualHost.Routes": obeyed("router.Match"),
	"snapshot.Route.Name": idle("a label"), "snapshot.Route.Origin": idle("a label"), "snapshot.Route.Config": idle("a label"),
	"snapshot.Route.Match": obeyed("router.Match"), "snapshot.Route.Action": obeyed("field by field"), "snapshot.Route.Policies": obeyed("field by field"),
	"snapshot.Match.PathKind": obeyed("router.Match"), "snapshot.Match.Path": obeyed("router.Match"), "snapshot.Match.PathRegex": obeyed("router.Match"),
	"snapshot.Match.IgnoreCase": obeyed("router.Match"), "snapshot.Match.Headers": proxied(verdict.ByBody),
	"snapshot.Match.Fraction": proxied(verdict.ByChance),
	"snapshot.HeaderMatch.*":  obeyed("router.Match or filter, which need a body for what is not a name"),

	"snapshot.Action.Clusters": obeyed("shares"), "snapshot.Action.Total": obeyed("shares"), "snapshot.Action.Subset": obeyed("joined into Clusters"),
	"snapshot.Action.Direct": proxied(verdict.Direct), "snapshot.Action.Timeout": obeyed("Verdict.Timeout"),
	"snapshot.Action.Retry": proxied(verdict.Retried), "snapshot.Action.Mirrors": proxied(verdict.Mirrored),
	"snapshot.Action.Edits": proxied(verdict.Edits), "snapshot.Action.Answers": proxied(verdict.Edits),
	"snapshot.Action.Hash": idle("Cluster.Policy says whether it is asked"), "snapshot.Action.HashBody": idle("the same"),
	"snapshot.HashPolicy.*":            idle("the same"),
	"snapshot.WeightedCluster.Cluster": obeyed("shares"), "snapshot.WeightedCluster.Weight": obeyed("shares"),
	"snapshot.WeightedCluster.Subset": obeyed("Set.Odds"), "snapshot.WeightedCluster.Edits": proxied(verdict.Edits),
	"snapshot.Edits.*": proxied(verdict.Edits), "snapshot.Edit.*": proxied(verdict.Edits), "snapshot.Piece.*": proxied(verdict.Edits),
	"snapshot.Abort.*": proxied(verdict.Direct), "snapshot.Retry.*": proxied(verdict.Retried), "snapshot.Mirror.*": proxied(verdict.Mirrored),

	"snapshot.RoutePolicies.RBAC": proxied(verdict.Denied), "snapshot.RoutePolicies.Limits": proxied(verdict.Limited),
	"snapshot.RoutePolicies.Faults": proxied(verdict.Fault), "snapshot.RoutePolicies.Globals": proxied(verdict.Limited),
	"snapshot.RoutePolicies.Abort": idle("Faults say whether there are aborts"), "snapshot.RoutePolicies.Rates": idle("Limits and Globals say whether they are asked"),
	"snapshot.RoutePolicies.Needs": idle("the same"),
	"snapshot.RBAC.Name":           idle("a label"), "snapshot.RBAC.Rules": obeyed("the verdict of filter, once for all"), "snapshot.RBAC.Shadow": obeyed("the same"),
	"snapshot.Rules.Action": obeyed("the same"), "snapshot.Rules.Policies": obeyed("the same"), "snapshot.Rules.Prefix": idle("a label"),
	"snapshot.Rules.Needs":     proxied(verdict.PolicyByBody),
	"snapshot.RBACPolicy.Name": idle("a label"), "snapshot.RBACPolicy.Permission": obeyed("the same"), "snapshot.RBACPolicy.Principal": obeyed("the same"),
	"snapshot.Term.*":      obeyed("the same"),
	"snapshot.Gate.RBAC":   obeyed("judged once for the connection"),
	"snapshot.Gate.Limits": proxied(verdict.Limited),
	"snapshot.Limit.*":     proxied(verdict.Limited), "snapshot.Bucket.*": proxied(verdict.Limited), "snapshot.Descriptor.*": proxied(verdict.Limited),
	"snapshot.Entry.*": proxied(verdict.Limited), "snapshot.Rate.*": proxied(verdict.Limited), "snapshot.RateAction.*": proxied(verdict.Limited),
	"snapshot.Global.*": proxied(verdict.Limited), "snapshot.RateService.*": proxied(verdict.Limited), "snapshot.GlobalRoute.*": proxied(verdict.Limited),
	"snapshot.Fault.*": proxied(verdict.Fault),

	"snapshot.Inbound.*": obeyed("Node.Guarded"), "mutual.Port.*": obeyed("Node.Guarded"),

	"snapshot.Cluster.Name": idle("a name"), "snapshot.Cluster.Kind": obeyed("Set.Odds"), "snapshot.Cluster.Policy": proxied(verdict.Hashed),
	"snapshot.Cluster.ChoiceCount": proxied(verdict.Weighted), "snapshot.Cluster.Bias": proxied(verdict.Weighted),
	"snapshot.Cluster.SlowStart": proxied(verdict.SlowStart), "snapshot.SlowStart.*": proxied(verdict.SlowStart),
	"snapshot.Cluster.Hashing": idle("Policy says whether it is asked"), "snapshot.Hashing.*": idle("the same"),
	"snapshot.Cluster.ConnectTimeout": idle("the lane has its connections"), "snapshot.Cluster.Service": idle("a label"), "snapshot.Service.*": idle("labels"),
	"snapshot.Cluster.Localities": obeyed("Set.Odds"), "snapshot.Locality.Region": obeyed("Set.Odds"), "snapshot.Locality.Zone": obeyed("Set.Odds"),
	"snapshot.Locality.SubZone": obeyed("Set.Odds"), "snapshot.Locality.Weight": obeyed("Set.Odds"), "snapshot.Locality.Priority": obeyed("Set.Odds"),
	"snapshot.Locality.Endpoints": obeyed("Set.Odds"),
	"snapshot.Endpoint.Address":   proxied(verdict.Remote), "snapshot.Endpoint.Hostname": obeyed("Set.Odds, as it is resolved"), "snapshot.Endpoint.Port": obeyed("the same"),
	"snapshot.Endpoint.Weight": obeyed("Set.Odds"), "snapshot.Endpoint.Healthy": obeyed("Set.Odds"), "snapshot.Endpoint.Draining": obeyed("Set.Odds"),
	"snapshot.Endpoint.Metadata": obeyed("Set.Odds"), "snapshot.Endpoint.Socket": proxied(verdict.Guarded),
	"snapshot.Endpoint.Workload": idle("a label"), "snapshot.Endpoint.Namespace": idle("a label"), "snapshot.Endpoint.App": idle("a label"), "snapshot.Endpoint.Revision": idle("a label"),
	"snapshot.Cluster.LocalityWeighted": obeyed("Set.Odds"), "snapshot.Cluster.ZoneAware": obeyed("Set.Odds"),
	"snapshot.ZoneAware.Enabled": obeyed("Set.Odds"), "snapshot.ZoneAware.MinSize": obeyed("Set.Odds"), "snapshot.ZoneAware.FailOnPanic": obeyed("Set.Odds"),
	"snapshot.Cluster.Overprovision": obeyed("Set.Odds"), "snapshot.Cluster.PanicThreshold": obeyed("Set.Odds"),
	"snapshot.Cluster.Subsets": obeyed("Set.Odds"), "snapshot.Subsets.Fallback": obeyed("Set.Odds"), "snapshot.Subsets.Selectors": obeyed("Set.Odds"), "snapshot.Subsets.Default": obeyed("Set.Odds"),
	"snapshot.Cluster.DNSRefresh": obeyed("the cluster's"), "snapshot.Cluster.MaxRequests": proxied(verdict.Breaker), "snapshot.Cluster.MaxConnections": idle("of opaque connections"),
	"snapshot.Cluster.Retries": idle("what has retries is on the proxy"), "snapshot.RetryBudget.*": idle("the same"),
	"snapshot.Cluster.Balancing": obeyed("router.ByCaller"),
	"snapshot.Cluster.Outlier":   obeyed("the endpoints' state; End.Succeeded"), "snapshot.Outlier.*": obeyed("the same"), "snapshot.Consecutive.*": obeyed("the same"),
	"snapshot.SuccessRate.*": obeyed("the same"), "snapshot.FailurePercentage.*": obeyed("the same"),
	"snapshot.Cluster.Check": obeyed("the endpoints' state"), "snapshot.Check.*": obeyed("the same"), "snapshot.Probe.*": obeyed("the same"),
	"snapshot.Cluster.Sockets": proxied(verdict.Guarded), "mutual.Socket.*": proxied(verdict.Guarded), "mutual.TLS.*": proxied(verdict.Guarded),
}

// walk names the fields of a type and of all types that they lead to, as "Type.Field".
func walk(t reflect.Type, seen map[reflect.Type]bool, tell func(string)) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array:
		walk(t.Elem(), seen, tell)
		return
	case reflect.Map:
		walk(t.Key(), seen, tell)
		walk(t.Elem(), seen, tell)
		return
	case reflect.Struct:
	default:
		return
	}
	if seen[t] || !strings.Contains(t.PkgPath(), "/l7proxy/") {
		return
	}
	seen[t] = true
	for f := range t.Fields() {
		if !f.IsExported() {
			continue // made of the others, by Seal
		}
		tell(t.String() + "." + f.Name)
		walk(f.Type, seen, tell)
	}
}

// TestLaneKnowsEveryField: what a verdict was not taught may mean anything, and must not be
// overlooked.
func TestLaneKnowsEveryField(t *testing.T) {
	used := make(map[string]bool)
	walk(reflect.TypeFor[snapshot.Snapshot](), make(map[reflect.Type]bool), func(name string) {
		row, of := name, known[name]
		if of == (judged{}) {
			row = name[:strings.LastIndexByte(name, '.')] + ".*"
			of = known[row]
		}
		used[row] = true
		if of == (judged{}) {
			t.Errorf("%s is new: say in known what the lane makes of it, and if it cannot obey, make verdict say proxy", name)
		}
	})
	for name, of := range known {
		if !used[name] {
			t.Errorf("%s is no field any more", name)
		}
		if has := len(forcing[name]) > 0; has != (of.proxy != "" && !strings.HasSuffix(name, ".*")) {
			t.Errorf("%s: a case that shows that it forces requests onto the proxy: %v", name, has)
		}
	}
}
