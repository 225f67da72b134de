package lack

import "net/netip"

// askedPort is the port of the asked addresses.
const askedPort = 15001

// Asked returns the two destinations, IPv4 and IPv6, by which the agent asks whether
// the way of a pod's calls works. They are steered by every table, and no packet ever
// goes there: the proxy answers itself whoever was meant for one of them, with a Lack.
// Nobody can have these addresses: 192.0.0.8 is the dummy address of RFC 7600, 100::/64
// is discarded by RFC 6666.
func Asked() [2]netip.AddrPort {
	return [2]netip.AddrPort{
		netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 0, 8}), askedPort),
		netip.AddrPortFrom(netip.AddrFrom16([16]byte{0: 1, 15: 8}), askedPort),
	}
}

// IsAsked tells whether an original destination, never v4-mapped, is one of Asked.
func IsAsked(to netip.AddrPort) bool {
	all := Asked()
	return to == all[0] || to == all[1]
}
