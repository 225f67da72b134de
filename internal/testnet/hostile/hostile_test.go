package hostile

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubboload"
)

// The services: addresses that no device has.
const (
	plain  = "198.51.100.1" // routed by names alone
	picky  = "198.51.100.2" // routed by an attachment, so that frames are held whole
	quiet  = "198.51.100.3" // the other tenant's
	budget = 256            // MiB: what the proxy may have while 10,000 connections mean harm
)

// TestHostileTenant: one pod opens ten thousand connections that break every
// rule while another works. The other loses no call, the proxy's memory stays
// below a bound, and afterwards everything is as it was.
func TestHostileTenant(t *testing.T) {
	m := newMesh(t)
	enemy, worker := m.pod("enemy"), m.pod("worker")
	target, server := m.pod("target", 20880), m.pod("server", 20880)
	m.configure(map[string]*testnet.Pod{plain: target, picky: target, quiet: server})
	m.start(enemy, worker, target, server)
	load := dubboload.Open{Target: quiet + ":20880", Conns: 16, Rate: 1000, Size: 1024, Warmup: time.Second, Time: 6 * time.Second}
	m.launch(enemy, "calls", plain+":20880")(new(string))

	var before, beside, during, after dubboload.Result
	m.launch(worker, "victim", load)(&before)
	connections, goroutines, resident := m.gauge("dubway_connections_active"), m.gauge("go_goroutines"), m.memory("VmRSS")

	s := siege{Targets: []string{plain + ":20880", picky + ":20880"}, Waves: 3, Conns: 3400, Hold: 9 * time.Second}
	// The same beside the mesh, at an address that is not steered: what the machine
	// itself does to the other pod. Lengths that a provider believes would end it.
	aside := siege{Targets: []string{target.Addr(20880).String()}, Kinds: credible(), Waves: 1, Conns: s.Conns, Hold: s.Hold}
	besieged := m.launch(enemy, "attack", aside)
	load.Time = s.Hold
	m.launch(worker, "victim", load)(&beside)
	besieged(new(siegeResult))

	besieged = m.launch(enemy, "attack", s)
	load.Time = 3 * s.Hold
	m.launch(worker, "victim", load)(&during)
	if want := int64(load.Rate * load.Time.Seconds()); during.Calls < want*99/100 {
		t.Errorf("%d of %d calls through the attack", during.Calls, want)
	}
	var r siegeResult
	besieged(&r)
	if most := m.memory("VmHWM"); most > budget {
		t.Errorf("the proxy had %d MiB, want at most %d", most, budget)
	}
	if limited := m.gauge("dubway_connections_limited_total"); r.Failed > r.Opened/100 || limited > 0 {
		t.Errorf("%+v, %v connections over the limit: the attack did not take place", r, limited)
	}

	m.eventually("the connections are gone", 60*time.Second, func() bool { return m.gauge("dubway_connections_active") <= connections })
	m.eventually("the goroutines are gone", 60*time.Second, func() bool { return m.gauge("go_goroutines") <= goroutines+30 })
	m.launch(enemy, "calls", plain+":20880")(new(string))
	m.launch(enemy, "calls", picky+":20880")(new(string))
	load.Time = 6 * time.Second
	m.launch(worker, "victim", load)(&after)
	m.eventually("the memory is back", 60*time.Second, func() bool { return m.memory("VmRSS") <= resident+64 })
	t.Logf("%d hostile connections; the other pod's p50 %v, %v, %v, %v and p99 %v, %v, %v, %v "+
		"before, with the attack beside the mesh, through it, and after; "+
		"memory %d MiB before, at most %d, %d after; %v connections and %v goroutines before, %v and %v after",
		r.Opened, before.P50, beside.P50, during.P50, after.P50, before.P99, beside.P99, during.P99, after.P99,
		resident, m.memory("VmHWM"), m.memory("VmRSS"), connections, goroutines,
		m.gauge("dubway_connections_active"), m.gauge("go_goroutines"))
}

// credible are the kinds of attack that do not make a provider without limits
// allocate what they announce.
func credible() (kinds []string) {
	for kind := range weapons {
		if !strings.Contains(kind, "length") && kind != "over the limit" && kind != "endless body" {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// configure routes each address to one provider.
func (m *mesh) configure(services map[string]*testnet.Pod) {
	m.T.Helper()
	var b strings.Builder
	b.WriteString("resources:\n")
	for address, pod := range services {
		routes := fmt.Sprintf(`{match: {prefix: /}, route: {cluster: "%s"}}`, address)
		if address == picky {
			blue := "{prefix: /, headers: [{name: colour, string_match: {exact: blue}}]}"
			routes = strings.Replace(routes, "{prefix: /}", blue, 1) + ", " + routes
		}
		fmt.Fprintf(&b, `- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: "%[1]s"
  address: {socket_address: {address: "%[1]s", port_value: 20880}}
  filter_chains:
  - filters:
    - name: envoy.filters.network.http_connection_manager
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: service
        rds: {route_config_name: "%[1]s", config_source: {ads: {}}}
- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: "%[1]s"
  virtual_hosts:
  - {name: all, domains: ["*"], routes: [%[2]s]}
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: "%[1]s"
  type: STATIC
  connect_timeout: 1s
  load_assignment:
    cluster_name: "%[1]s"
    endpoints:
    - lb_endpoints: [{endpoint: {address: {socket_address: {address: "%[3]s", port_value: 20880}}}}]
`, address, routes, pod.Addresses[0])
	}
	m.Must(m.PutXDS("services.yaml", []byte(b.String())))
}
