package meshtest

import (
	"fmt"
	"net/netip"
	"strings"
)

// Service is a listener on a port of each address, a route table and one cluster
// for each name.
type Service struct {
	Name      string // of its objects
	Addresses []string
	Port      uint16 // 0: 20880
	Filters   string // YAML of http_filters; "" for none
	Routes    string // YAML of virtual_hosts[0].routes
	Clusters  map[string][]netip.AddrPort
	Limit     int    // of requests in flight to each cluster; 0: none
	Policy    string // of each cluster, as Envoy names it; "" for ROUND_ROBIN
}

// Split is one route with weights.
func Split(weights map[string]int) string {
	var b strings.Builder
	b.WriteString("[{match: {prefix: /}, route: {weighted_clusters: {clusters: [")
	for name, w := range weights {
		fmt.Fprintf(&b, "{name: %s, weight: %d},", name, w)
	}
	b.WriteString("]}}}]")
	return b.String()
}

// Put writes the configuration of services as one file.
func (m *Mesh) Put(services ...Service) {
	m.T.Helper()
	m.Must(m.PutXDS("service.yaml", []byte(Text(services...))))
}

// Text is the configuration of services as one file.
func Text(services ...Service) string {
	var b strings.Builder
	b.WriteString("resources:\n")
	for _, s := range services {
		s.write(&b)
	}
	return b.String()
}

func (s *Service) write(b *strings.Builder) {
	port := s.Port
	if port == 0 {
		port = 20880
	}
	for i, a := range s.Addresses {
		fmt.Fprintf(b, `- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: %[1]s-%[2]d
  address: {socket_address: {address: "%[3]s", port_value: %[4]d}}
  filter_chains:
  - filters:
    - name: envoy.filters.network.http_connection_manager
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: service
        rds: {route_config_name: %[1]s, config_source: {ads: {}}}
`, s.Name, i, a, port)
		if s.Filters != "" {
			fmt.Fprintf(b, "        http_filters: %s\n", s.Filters)
		}
	}
	fmt.Fprintf(b, `- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: %s
  virtual_hosts:
  - {name: all, domains: ["*"], routes: %s}
`, s.Name, s.Routes)
	for name, endpoints := range s.Clusters {
		fmt.Fprintf(b, `- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: %[1]s
  type: STATIC
  connect_timeout: 10s
`, name)
		if s.Policy != "" {
			fmt.Fprintf(b, "  lb_policy: %s\n", s.Policy)
		}
		if s.Limit > 0 {
			fmt.Fprintf(b, "  circuit_breakers: {thresholds: [{max_requests: %d}]}\n", s.Limit)
		}
		fmt.Fprintf(b, "  load_assignment:\n    cluster_name: %s\n    endpoints:\n", name)
		if len(endpoints) > 0 {
			b.WriteString("    - lb_endpoints:\n")
		}
		for _, e := range endpoints {
			fmt.Fprintf(b, "      - {endpoint: {address: {socket_address: {address: \"%s\", port_value: %d}}}}\n", e.Addr(), e.Port())
		}
	}
}
