// Package services is the configuration of what bench measures: which address leads to which
// provider, by which policies.
package services

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/dubway/dubway/internal/testnet"
)

// The addresses that are dialled through the mesh.
const (
	Near       = "198.51.100.1:20880" // leads to the provider of the same node
	Far        = "198.51.100.2:20880" // leads to the provider of the other node
	Policies   = "198.51.100.3:20880" // as Near, with a time limit, retries, and access by method
	Attachment = "198.51.100.4:20880" // that, and routes by an attachment
	Every      = "198.51.100.5:20880" // as Policies, with a limit besides
	Mutual     = "198.51.100.6:20880" // as Far, by mutual TLS
	Both       = "198.51.100.7:20880" // leads to two providers of the same node
	Apart      = "198.51.100.8:20880" // leads to one of the same node that has no lanes
	Java       = "198.51.100.9:20880" // leads to one of the same node in Java
)

// A node's configuration has more in it than what is measured.
const (
	otherServices  = 998
	otherEndpoints = 5 // of each
)

// Neighbours are the near provider's.
type Neighbours struct {
	Second, Apart, Java *testnet.Pod // in the order of Both, Apart, Java
}

// Config leads the measured addresses to their providers, of the near node and of the far one.
func Config(provider [2]*testnet.Pod, n Neighbours) string {
	var b strings.Builder
	b.WriteString("resources:\n")
	near, far := provider[0].Addresses[:1], provider[1].Addresses[:1]
	service(&b, served{"near", host(Near), near, policies{}})
	service(&b, served{"far", host(Far), far, policies{}})
	service(&b, served{"policies", host(Policies), near, policies{filters: access, action: again}})
	service(&b, served{"attachment", host(Attachment), near, policies{
		filters: access, action: again, match: "{prefix: /, headers: [{name: tier, string_match: {exact: gold}}]}",
	}})
	service(&b, served{"every", host(Every), near, policies{filters: access + often, action: again}})
	service(&b, served{"mutual", host(Mutual), far, policies{socket: socket}})
	service(&b, served{"both", host(Both), []netip.Addr{near[0], n.Second.Addresses[0]}, policies{}})
	service(&b, served{"apart", host(Apart), n.Apart.Addresses[:1], policies{}})
	service(&b, served{"java", host(Java), n.Java.Addresses[:1], policies{}})
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

// Others is what the rest of a cluster adds: together with Config 1,000 routes and
// about 5,000 endpoints.
func Others() string {
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

// Pushed is one more service, which nobody calls: with another version the snapshot is another.
func Pushed(version int) string {
	var b strings.Builder
	b.WriteString("resources:\n")
	service(&b, served{fmt.Sprintf("pushed-%d", version), "10.202.0.1", []netip.Addr{netip.MustParseAddr("10.202.0.2")}, policies{}})
	return b.String()
}
