package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/dubway/dubway/internal/testnet"
)

// A node's configuration has more in it than what is measured.
const (
	otherServices  = 998
	otherEndpoints = 5 // of each
)

// config leads the measured addresses to their providers.
func config(provider [2]*testnet.Pod, neighbours []*testnet.Pod) string {
	var b strings.Builder
	b.WriteString("resources:\n")
	near, far := provider[0].Addresses[:1], provider[1].Addresses[:1]
	service(&b, served{"near", host(vip), near, policies{}})
	service(&b, served{"far", host(vipFar), far, policies{}})
	service(&b, served{"policies", host(vipPolicies), near, policies{filters: access, action: again}})
	service(&b, served{"attachment", host(vipAttachment), near, policies{
		filters: access, action: again, match: "{prefix: /, headers: [{name: tier, string_match: {exact: gold}}]}",
	}})
	service(&b, served{"every", host(vipEvery), near, policies{filters: access + often, action: again}})
	service(&b, served{"mutual", host(vipMutual), far, policies{socket: socket}})
	second, apart, java := neighbours[0].Addresses[0], neighbours[1].Addresses[:1], neighbours[2].Addresses[:1]
	service(&b, served{"both", host(vipBoth), []netip.Addr{near[0], second}, policies{}})
	service(&b, served{"apart", host(vipApart), apart, policies{}})
	service(&b, served{"java", host(vipJava), java, policies{}})
	return b.String()
}

func host(address string) string {
	host, _, _ := strings.Cut(address, ":")
	return host
}

// policies are what a service has; nothing if empty.
type policies struct {
	filters string // of its listener
	action  string // of its routes
	match   string // of a route in front of the one for everything
	socket  string // of its cluster
}

// What the policies are: none of them refuses, repeats or limits a call of the load.
const (
	access = `        - name: envoy.filters.http.rbac
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
            rules:
              action: DENY
              policies:
                no-drop: {permissions: [{header: {name: method, string_match: {exact: drop}}}], principals: [{any: true}]}
`
	often = `        - name: envoy.filters.http.local_ratelimit
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
            stat_prefix: every
            token_bucket: {max_tokens: 4000000000, tokens_per_fill: 4000000000, fill_interval: 1s}
            filter_enabled: {default_value: {numerator: 100}}
            filter_enforced: {default_value: {numerator: 100}}
`
	again = `, timeout: 10s, retry_policy: {retry_on: 5xx, num_retries: 2}`
)

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
		service(&b, served{fmt.Sprintf("other-%d", i), at(201, i).String(), endpoints, policies{}})
	}
	return b.String()
}

// served is a service: an address and who is behind it.
type served struct {
	name, host string
	endpoints  []netip.Addr
	policies
}

// service writes a listener, its routes and its cluster.
func service(b *strings.Builder, s served) {
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
`, s.name, s.host)
	if s.filters != "" {
		fmt.Fprintf(b, "        http_filters:\n%s", s.filters)
	}
	fmt.Fprintf(b, `- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: service-%[1]s
  virtual_hosts:
  - name: all
    domains: ["*"]
    routes:
`, s.name)
	for _, match := range []string{s.match, "{prefix: /}"} {
		if match != "" {
			fmt.Fprintf(b, "    - {match: %s, route: {cluster: service-%s%s}}\n", match, s.name, s.action)
		}
	}
	fmt.Fprintf(b, `- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: service-%[1]s
  type: STATIC
  connect_timeout: 1s
%[2]s  load_assignment:
    cluster_name: service-%[1]s
    endpoints:
    - lb_endpoints:
`, s.name, s.socket)
	for _, e := range s.endpoints {
		fmt.Fprintf(b, "      - endpoint: {address: {socket_address: {address: %s, port_value: 20880}}}\n", e)
	}
}

// push changes one service, which nobody calls; the snapshot is another one then.
func (r *rig) push() error {
	r.version++
	var b strings.Builder
	b.WriteString("resources:\n")
	service(&b, served{fmt.Sprintf("pushed-%d", r.version), "10.202.0.1", []netip.Addr{netip.MustParseAddr("10.202.0.2")}, policies{}})
	return r.near.PutXDS("pushed.yaml", []byte(b.String()))
}
