package main

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/dubway/dubway/internal/testnet"
)

// A node's configuration has more in it than what is measured.
const (
	otherServices  = 998
	otherEndpoints = 5 // of each
)

// config leads the two measured addresses to their providers.
func config(provider [2]*testnet.Pod) string {
	var b strings.Builder
	b.WriteString("resources:\n")
	for i, a := range []string{vip, vipFar} {
		host, _, _ := strings.Cut(a, ":")
		service(&b, strconv.Itoa(i), host, provider[i].Addresses[:1])
	}
	return b.String()
}

// others is what the rest of a cluster adds: together with config 1,000 routes and
// about 5,000 endpoints.
func others() string {
	var b strings.Builder
	b.WriteString("resources:\n")
	for i := range otherServices {
		at := func(net byte, n int) netip.Addr { return netip.AddrFrom4([4]byte{10, net, byte(n >> 8), byte(n)}) }
		endpoints := make([]netip.Addr, otherEndpoints)
		for n := range endpoints {
			endpoints[n] = at(200, i*otherEndpoints+n)
		}
		service(&b, fmt.Sprintf("other-%d", i), at(201, i).String(), endpoints)
	}
	return b.String()
}

// service writes a listener, its route and its cluster.
func service(b *strings.Builder, name, host string, endpoints []netip.Addr) {
	fmt.Fprintf(b, `- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: service-%[1]s
  address: {socket_address: {address: %[2]s, port_value: 20880}}
  filter_chains:
  - filters:
    - name: envoy.filters.network.http_connection_manager
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: service
        rds: {route_config_name: service-%[1]s, config_source: {ads: {}}}
- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: service-%[1]s
  virtual_hosts:
  - {name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: service-%[1]s}}]}
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: service-%[1]s
  type: STATIC
  connect_timeout: 1s
  load_assignment:
    cluster_name: service-%[1]s
    endpoints:
    - lb_endpoints:
`, name, host)
	for _, e := range endpoints {
		fmt.Fprintf(b, "      - endpoint: {address: {socket_address: {address: %s, port_value: 20880}}}\n", e)
	}
}

// push changes one service, which nobody calls; the snapshot is another one then.
func (r *rig) push() error {
	r.version++
	var b strings.Builder
	b.WriteString("resources:\n")
	service(&b, fmt.Sprintf("pushed-%d", r.version), "10.202.0.1", []netip.Addr{netip.MustParseAddr("10.202.0.2")})
	return r.near.PutXDS("pushed.yaml", []byte(b.String()))
}
