package scenario

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// The interfaces of the providers that consumers dial by their own addresses.
const (
	orders   = "shop.Orders"
	stock    = "shop.Stock"
	metadata = "org.apache.dubbo.metadata.MetadataService"
)

// export is the process of a provider that knows some interfaces, the first of
// them after a delay: export NAME ADDRESS DELAY INTERFACE...
func export(args []string) error {
	delay, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", args[1])
	if err != nil {
		return err
	}
	from := time.Now().Add(delay)
	knows := func(iface string) bool {
		return slices.Contains(args[4:], iface) || iface == args[3] && time.Now().After(from)
	}
	return (&dubbotest.Provider{Name: args[0], Exports: knows}).Serve(ln)
}

// exporter starts one in a pod of its own.
func (m *mesh) exporter(name, delay, iface string) (*testnet.Pod, *testnet.Process) {
	m.t.Helper()
	p := m.pod(name, 20880)
	proc, err := p.StartHelper("export", name, "[::]:20880", delay, iface, metadata)
	m.must(err)
	m.eventually(name+" listens", func() bool { return p.Listens(20880) })
	return p, proc
}

// service is what a registry and a control plane know of one interface.
type service struct {
	iface     string
	balancing string // of the cluster; "" for none
	listeners []netip.AddrPort
	pods      []netip.AddrPort
}

// district writes, for each service, listeners that are its pods' own addresses,
// one catch-all route and one cluster: what istiod makes for headless services.
func (m *mesh) district(services ...service) {
	m.t.Helper()
	var b strings.Builder
	b.WriteString("resources:\n")
	for _, s := range services {
		for _, a := range s.listeners {
			fmt.Fprintf(&b, `- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: "%s"
  address: {socket_address: {address: "%s", port_value: %d}}
  filter_chains:
  - filters:
    - name: envoy.filters.network.http_connection_manager
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: service
        rds: {route_config_name: "%s:20880", config_source: {ads: {}}}
`, a, a.Addr(), a.Port(), s.iface)
		}
		ours := ""
		if s.balancing != "" {
			ours = ", dubway.io: {balancing: " + s.balancing + "}"
		}
		fmt.Fprintf(&b, `- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: "%[1]s:20880"
  virtual_hosts:
  - {name: all, domains: ["*"], routes: [{name: default, match: {prefix: /}, route: {cluster: "outbound|20880||%[1]s"}}]}
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: "outbound|20880||%[1]s"
  type: STATIC
  connect_timeout: 1s
  metadata: {filter_metadata: {istio: {services: [{host: %[1]s, name: %[1]s, namespace: shop}]}%[2]s}}
  load_assignment:
    cluster_name: "%[1]s"
    endpoints:
    - lb_endpoints:
`, s.iface, ours)
		for _, a := range s.pods {
			fmt.Fprintf(&b, "      - {endpoint: {address: {socket_address: {address: \"%s\", port_value: %d}}}}\n", a.Addr(), a.Port())
		}
	}
	m.must(m.PutXDS("service.yaml", []byte(b.String())))
}

// become writes a district and waits until it is in use.
func (m *mesh) become(generation uint64, services ...service) {
	m.t.Helper()
	m.district(services...)
	m.eventually("the new configuration", func() bool {
		s, err := m.ProxyStatus(m.ctx)
		return err == nil && s.Generation >= generation
	})
}

// answers calls n times and checks who answered: by name, how often.
func (m *mesh) answers(what string, p *testnet.Pod, ask callsOf, want map[string]int) {
	m.t.Helper()
	ask.Timeout = 30 * time.Second
	r := m.calls(p, ask)
	if fmt.Sprint(r.Answers) != fmt.Sprint(want) {
		m.t.Errorf("%s: %v %v, want %v", what, r.Answers, r.Errors, want)
	}
}

// TestDialledProviders: consumers that know their providers from a registry. What
// they choose holds, what they ask a provider about itself reaches it, what the
// registry tells too late reaches no stranger, and a provider that does not export
// yet fails no call.
func TestDialledProviders(t *testing.T) {
	m := newMesh(t)
	consumer := m.pod("consumer")
	one, first := m.exporter("orders-1", "0s", orders)
	two, _ := m.exporter("orders-2", "0s", orders)
	other, _ := m.exporter("stock-1", "0s", stock)
	a, b, stranger := one.Addr(20880), two.Addr(20880), other.Addr(20880)
	the := service{iface: orders, listeners: []netip.AddrPort{a, b}, pods: []netip.AddrPort{a, b}}
	others := service{iface: stock, listeners: []netip.AddrPort{stranger}, pods: []netip.AddrPort{stranger}}
	m.district(the, others)
	_, proxy := m.start(consumer, one, two, other)
	to := func(at netip.AddrPort, iface, method string, n int) callsOf {
		return callsOf{Target: at.String(), N: n, Request: dubbotest.Request{Interface: iface, Method: method}}
	}

	m.answers("the caller's choice", consumer, to(a, orders, "echo", 20), map[string]int{"orders-1": 20})
	m.answers("metadata", consumer, to(b, metadata, "getMetadataInfo", 5), map[string]int{"orders-2": 5})
	m.accepted(consumer, two, to(b, orders, "local", 1))

	// The stranger has an address that the consumer takes for one of orders.
	m.answers("a stranger", consumer, to(stranger, orders, "echo", 20), map[string]int{"orders-1": 10, "orders-2": 10})
	m.answers("the stranger's own", consumer, to(stranger, stock, "echo", 5), map[string]int{"stock-1": 5})
	m.answers("the stranger's metadata", consumer, to(stranger, metadata, "getMetadataInfo", 5), map[string]int{"stock-1": 5})
	m.counted("dubway_stale_address_total", 20)
	m.counted("dubway_delayed_export_retries_total", 0) // it was not asked first
	m.eventually("a line for each call", func() bool { return strings.Count(proxy.Output(), `"dubbo_method"`) == 56 })
	for line := range strings.Lines(proxy.Output()) {
		if strings.Contains(line, orders) && strings.Contains(line, `"upstream_host":"`+stranger.String()) {
			t.Errorf("a call reached the stranger: %s", line)
		}
	}
	s, err := m.ProxyStatus(m.ctx)
	m.must(err)
	if list := s.StaleAddresses; len(list) != 1 || list[0].Address != stranger.String() || list[0].Interface != orders ||
		list[0].Consumer != "shop/consumer" || list[0].Count != 20 {
		t.Errorf("stale addresses: %+v", list)
	}

	the.balancing = "mesh"
	m.become(2, the, others)
	m.answers("the mesh's choice", consumer, to(a, orders, "echo", 20), map[string]int{"orders-1": 10, "orders-2": 10})
	m.answers("metadata under the mesh's choice", consumer, to(a, metadata, "getMetadataInfo", 5), map[string]int{"orders-1": 5})

	m.lateProvider(consumer, &the, others, to(a, orders, "echo", 30))

	// The consumer's connection outlives the provider that it was for.
	steady := to(a, orders, "echo", 200)
	steady.Pause, steady.Timeout = 10*time.Millisecond, 30*time.Second
	during := m.background(consumer, steady)
	m.under()
	the.listeners, the.pods = the.listeners[1:], the.pods[1:]
	m.become(4, the, others)
	m.must(first.Kill())
	if r := during(); r.Answers["orders-1"]+r.Answers["orders-2"]+r.Answers["orders-3"] != 200 || r.Answers["orders-3"] < 40 {
		t.Errorf("through the end of its provider: %v %v", r.Answers, r.Errors)
	}
}

// accepted checks what the provider sees of a consumer's connection: its own
// address, which is the dialled one, and the consumer's.
func (m *mesh) accepted(consumer, provider *testnet.Pod, ask callsOf) {
	m.t.Helper()
	ask.Timeout, ask.Value = 30*time.Second, true
	r := m.calls(consumer, ask)
	local, err := netip.ParseAddrPort(r.Said)
	m.must(err)
	if netip.AddrPortFrom(local.Addr().Unmap(), local.Port()) != provider.Addr(20880) {
		m.t.Errorf("the provider's connection is from %s to %s, want to %s", r.Peer, r.Said, provider.Addr(20880))
	}
	m.seesItself(consumer, r, ask.Target)
}

// lateProvider adds a provider that listens before it exports.
func (m *mesh) lateProvider(consumer *testnet.Pod, the *service, others service, ask callsOf) {
	m.t.Helper()
	three, _ := m.exporter("orders-3", "12s", orders)
	m.must(m.WaitEnrolled(m.ctx, three))
	the.pods = append(the.pods, three.Addr(20880))
	the.listeners = append(the.listeners, three.Addr(20880))
	m.become(3, *the, others)
	ask.Timeout = 30 * time.Second
	r := m.calls(consumer, ask)
	if r.Answers["orders-1"]+r.Answers["orders-2"] != ask.N {
		m.t.Errorf("while orders-3 is late: %v %v", r.Answers, r.Errors)
	}
	text, err := m.Metrics(m.ctx)
	m.must(err)
	if n := sum(text, "dubway_delayed_export_retries_total", nil); n < 1 {
		m.t.Errorf("%d retries, want one at least", n)
	}
	m.eventually("orders-3 to export", func() bool {
		r := m.calls(consumer, ask)
		if r.Answers["orders-1"]+r.Answers["orders-2"]+r.Answers["orders-3"] != ask.N {
			m.t.Errorf("while orders-3 comes: %v %v", r.Answers, r.Errors)
		}
		return r.Answers["orders-3"] == ask.N/3
	})
}
