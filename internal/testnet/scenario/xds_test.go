package scenario

import (
	"net/netip"

	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// The service that consumers dial: addresses that no device has.
const (
	vip4 = "198.51.100.1"
	vip6 = "2001:db8:100::1"
)

// routed is a listener for each address, a route table and one cluster for each
// provider.
type routed struct {
	addresses []string
	routes    string // YAML of virtual_hosts[0].routes
	clusters  map[string][]netip.AddrPort
	limit     int // of requests in flight, of each cluster; 0: none
}

// split is one route with weights.
func split(weights map[string]int) string { return meshtest.Split(weights) }

// put writes the configuration as one file.
func (m *mesh) put(r routed) {
	m.t.Helper()
	m.Put(meshtest.Service{Name: "service", Addresses: r.addresses, Routes: r.routes, Clusters: r.clusters, Limit: r.limit})
}
