package listeners

import (
	"fmt"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	dubbov3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/dubbo_proxy/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/tracing"
	"github.com/dubway/dubway/l7proxy/xds/policies"
	"github.com/dubway/dubway/l7proxy/xds/reports"
	"github.com/dubway/dubway/l7proxy/xds/routes"
	"github.com/dubway/dubway/l7proxy/xds/tracers"
	"github.com/dubway/dubway/l7proxy/xds/typed"
)

// terminal is what the last filter of a chain does: route requests, or forward
// opaque connections.
type terminal struct {
	routeName string
	server    string                // the cluster that serves the table of that name; "": the source
	route     *snapshot.RouteConfig // inline
	tcp       []snapshot.WeightedCluster
	gate      *snapshot.Gate
	rbac      []*snapshot.RBAC // on requests
	limits    []*snapshot.Limit
	globals   []*snapshot.Global
	faults    []*snapshot.Fault
	tracing   *tracing.Tracing
	idle      time.Duration
	report    *report.Rules
}

func (t *terminal) opaque() bool { return len(t.tcp) > 0 }

// terminal converts the filters of a chain; nil when a problem was added. The
// filters before the last are policies on connections, or of the kinds that package
// fields accepts because they have nothing to do here.
func (b *builder) terminal(path string, c *listenerv3.FilterChain) *terminal {
	before := len(*b.problems)
	var last *terminal
	var gate snapshot.Gate
	b.says = new(reports.Chain)
	for i, f := range c.GetFilters() {
		at := fmt.Sprintf("%s.filters[%d]", path, i)
		if last != nil {
			b.problems.Addf(at, "comes after the filter that ends the chain")
			return nil
		}
		switch typ, _, _ := typed.TypeOf(f.GetTypedConfig()); typ {
		case typed.TypeHTTPConnectionManager:
			last = b.requests(path, at+".typed_config", f.GetTypedConfig())
		case typed.TypeDubboProxy:
			last = b.dubbo(path, at+".typed_config", f.GetTypedConfig())
		case typed.TypeMetaProtocolProxy:
			last = b.metaProtocol(path, at+".typed_config", f.GetTypedConfig())
		case typed.TypeTCPProxy:
			last = b.tcp(at+".typed_config", f.GetTypedConfig())
		case typed.TypeNetworkRBAC, typed.TypeNetworkLimit:
			policies.Connection(b.problems, at, f, &gate)
		case typed.TypeStats:
			b.says.Stats(at+".typed_config", f.GetTypedConfig())
		}
	}
	said := b.says.Rules(b.problems)
	if len(*b.problems) > before {
		return nil
	}
	if last == nil {
		b.problems.Addf(path+".filters", "ends in none of http_connection_manager, dubbo_proxy, MetaProtocolProxy and tcp_proxy")
		return nil
	}
	if len(gate.RBAC)+len(gate.Limits) > 0 {
		last.gate = &gate
	}
	last.report = said
	return last
}

func (b *builder) requests(chain, path string, config *anypb.Any) *terminal {
	m := new(hcmv3.HttpConnectionManager)
	if !b.problems.Unpack(path, config, m) {
		return nil
	}
	t := &terminal{idle: m.GetCommonHttpProtocolOptions().GetIdleTimeout().AsDuration(), tracing: tracers.Of(m.GetTracing())}
	b.says.Logs(path+".access_log", m.GetAccessLog())
	for i, f := range m.GetHttpFilters() {
		b.policy(fmt.Sprintf("%s.http_filters[%d]", path, i), f, t)
	}
	if m.GetRouteConfig() == nil {
		if t.routeName = m.GetRds().GetRouteConfigName(); t.routeName == "" {
			b.problems.Addf(path+".rds.route_config_name", "required, or an inline route_config")
		}
		return t
	}
	t.routeName = b.name + "#" + chain
	at := path + ".route_config"
	t.route = routes.Inline(b.problems, at, "listeners/"+b.name, m.GetRouteConfig())
	t.route.Name = t.routeName
	return t
}

// policy adds a filter of requests, if it is a policy.
func (b *builder) policy(path string, f *hcmv3.HttpFilter, t *terminal) {
	switch typ, _, _ := typed.TypeOf(f.GetTypedConfig()); typ {
	case typed.TypeRBAC:
		t.rbac = append(t.rbac, policies.RBAC(b.problems, path+".typed_config", f.GetName(), f.GetTypedConfig()))
	case typed.TypeLimit:
		t.limits = append(t.limits, policies.Limit(b.problems, path+".typed_config", f.GetName(), f.GetTypedConfig()))
	case typed.TypeGlobalLimit:
		t.globals = append(t.globals, policies.Global(b.problems, path+".typed_config", f.GetName(), f.GetTypedConfig()))
	case typed.TypeFault:
		t.faults = append(t.faults, policies.Fault(b.problems, path+".typed_config", f.GetName(), f.GetTypedConfig()))
	case typed.TypeStats:
		b.says.Stats(path+".typed_config", f.GetTypedConfig())
	}
}

func (b *builder) dubbo(chain, path string, config *anypb.Any) *terminal {
	m := new(dubbov3.DubboProxy)
	if !b.problems.Unpack(path, config, m) {
		return nil
	}
	t := &terminal{routeName: b.name + "#" + chain}
	t.route = routes.DubboProxy(b.problems, path, "listeners/"+b.name, m)
	t.route.Name = t.routeName
	return t
}

func (b *builder) tcp(path string, config *anypb.Any) *terminal {
	m := new(tcpv3.TcpProxy)
	if !b.problems.Unpack(path, config, m) {
		return nil
	}
	b.says.Logs(path+".access_log", m.GetAccessLog())
	base := routes.Subset(m.GetMetadataMatch())
	t := &terminal{idle: m.GetIdleTimeout().AsDuration()}
	switch spec := m.GetClusterSpecifier().(type) {
	case *tcpv3.TcpProxy_Cluster:
		if spec.Cluster == "" {
			b.problems.Addf(path+".cluster", "required")
		}
		t.tcp = []snapshot.WeightedCluster{{Cluster: spec.Cluster, Weight: 1, Subset: base}}
	case *tcpv3.TcpProxy_WeightedClusters:
		var total uint64
		for _, c := range spec.WeightedClusters.GetClusters() {
			t.tcp = append(t.tcp, snapshot.WeightedCluster{
				Cluster: c.GetName(),
				Weight:  c.GetWeight(),
				Subset:  routes.Joined(base, routes.Subset(c.GetMetadataMatch())),
			})
			total += uint64(c.GetWeight())
		}
		routes.CheckTotal(b.problems, path+".weighted_clusters", total)
	}
	return t
}
