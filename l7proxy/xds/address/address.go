// Package address reads the addresses of resources. It looks nothing up.
package address

import (
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// Socket returns the parts of an address that must be an IP address. The
// address is invalid when a problem was added.
func Socket(p *problems.List, path string, a *corev3.Address) (netip.Addr, uint16) {
	s := a.GetSocketAddress()
	ip, err := netip.ParseAddr(s.GetAddress())
	switch {
	case s == nil:
		p.Addf(path+".socket_address", "required")
	case err != nil:
		p.Addf(path+".socket_address.address", "%q is not an IP address", s.GetAddress())
	case ip.Zone() != "":
		p.Addf(path+".socket_address.address", "%q has a zone", s.GetAddress())
	default:
		return ip.Unmap(), uint16(s.GetPortValue()) // at most 65535, as Envoy's rules say
	}
	return netip.Addr{}, 0
}
