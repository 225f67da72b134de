// Package listeners turns listeners into the types of package snapshot: pure functions
// from one message to what it means, or to everything that is wrong with it. There are
// two kinds: what consumers dial (Outbound), and what is held against the connections
// of a provider (Inbound). Route tables are package routes', policies package policies'.
// It joins no resources: package xds does.
package listeners

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/mutual"
	"github.com/dubway/dubway/l7proxy/xds/address"
	"github.com/dubway/dubway/l7proxy/xds/fields"
	"github.com/dubway/dubway/l7proxy/xds/problems"
	"github.com/dubway/dubway/l7proxy/xds/reports"
	"github.com/dubway/dubway/l7proxy/xds/typed"
)

// Outbound converts a listener of consumers: into one snapshot listener for each address, and for
// each part of an address that a filter chain singles out. An inline route
// configuration is in Route, under a name made of the listener's; a Route of
// another name is left to be joined. It returns problems or a result, never
// both.
func Outbound(m *listenerv3.Listener) ([]*snapshot.Listener, problems.List) {
	p := fields.Examine(m)
	if m.GetName() == "" {
		p.Addf("name", "required")
	}
	onlyInbound(&p, m)
	if len(p) > 0 {
		return nil, p
	}
	b := builder{problems: &p, name: m.GetName(), parts: make(map[place]*part)}
	b.addresses(m)
	b.chains(m)
	b.close()
	if len(p) > 0 {
		return nil, p
	}
	list := make([]*snapshot.Listener, 0, len(b.order))
	for _, at := range b.order {
		list = append(list, b.parts[at].Listener)
	}
	return list, nil
}

// ourMetadata is the key of what only this mesh understands.
const ourMetadata = "dubway.io"

// onlyInbound notes what package fields takes for the sake of providers' listeners.
func onlyInbound(p *problems.List, m *listenerv3.Listener) {
	if m.GetMetadata().GetFilterMetadata()[ourMetadata] != nil {
		p.Addf(`metadata.filter_metadata["`+ourMetadata+`"]`, "not implemented: only where traffic_direction is INBOUND")
	}
	check := func(path string, c *listenerv3.FilterChain) {
		typ, _, _ := typed.TypeOf(c.GetTransportSocket().GetTypedConfig())
		if typ == typed.TypeDownstreamTLS || typ == typed.TypeUpstreamTLS {
			p.Addf(path+".transport_socket.typed_config", "%s: not implemented: only where traffic_direction is INBOUND", typ)
		}
		path += ".filter_chain_match."
		if c.GetFilterChainMatch().GetTransportProtocol() == "tls" {
			p.Addf(path+"transport_protocol", "not implemented: only raw_buffer (or none)")
		}
		for _, a := range c.GetFilterChainMatch().GetApplicationProtocols() {
			if strings.HasPrefix(a, "istio") {
				p.Addf(path+"application_protocols", "not implemented: only http/1.0, http/1.1, h2c, h2 and dubbo")
				return
			}
		}
	}
	for i, c := range m.GetFilterChains() {
		check(fmt.Sprintf("filter_chains[%d]", i), c)
	}
	check("default_filter_chain", m.GetDefaultFilterChain())
}

// place is what a consumer dials: some addresses, and a port or every one.
type place struct {
	prefix netip.Prefix
	port   uint16
}

func (w place) String() string {
	if !w.prefix.IsValid() { // a provider's
		return fmt.Sprintf("port %d", w.port)
	}
	if w.port == 0 {
		return w.prefix.String() + ", every port"
	}
	return fmt.Sprintf("%s port %d", w.prefix, w.port)
}

// part is a snapshot listener in the making.
type part struct {
	*snapshot.Listener
	requests string // path of the chain that set RouteName
	opaque   string // path of the chain that set TCP
	plain    bool   // the chain for requests names no application protocol
	mutual   *mutual.Port
}

// builder gathers the parts of one listener.
type builder struct {
	problems *problems.List
	name     string
	places   []place
	parts    map[place]*part
	order    []place
	says     *reports.Chain // of the chain that is being converted
}

// addresses finds the places of the whole listener.
func (b *builder) addresses(m *listenerv3.Listener) {
	list := []*listenerv3.AdditionalAddress{{Address: m.GetAddress()}}
	list = append(list, m.GetAdditionalAddresses()...)
	for i, a := range list {
		path := "address"
		if i > 0 {
			path = fmt.Sprintf("additional_addresses[%d].address", i-1)
		}
		ip, port := address.Socket(b.problems, path, a.GetAddress())
		switch {
		case !ip.IsValid():
			continue
		case ip.IsLoopback() || ip.IsMulticast():
			b.problems.Addf(path+".socket_address.address", "%s is never steered", ip)
		case !ip.IsUnspecified():
			b.places = append(b.places, place{netip.PrefixFrom(ip, ip.BitLen()), port})
			continue
		}
		b.places = append(b.places, place{netip.PrefixFrom(ip, 0), port})
		if ip.Is6() && a.GetAddress().GetSocketAddress().GetIpv4Compat() {
			b.places = append(b.places, place{netip.PrefixFrom(netip.IPv4Unspecified(), 0), port})
		}
	}
}

func (b *builder) chains(m *listenerv3.Listener) {
	for i, c := range m.GetFilterChains() {
		path := fmt.Sprintf("filter_chains[%d]", i)
		t := b.terminal(path, c)
		if t == nil {
			continue
		}
		if t.opaque() && len(c.GetFilterChainMatch().GetApplicationProtocols()) > 0 {
			b.problems.Addf(path+".filter_chain_match.application_protocols", "not implemented on a chain with tcp_proxy")
			continue
		}
		for _, at := range b.match(path+".filter_chain_match", c.GetFilterChainMatch()) {
			b.put(path, at, t, len(c.GetFilterChainMatch().GetApplicationProtocols()) == 0)
		}
	}
	const path = "default_filter_chain"
	c := m.GetDefaultFilterChain()
	if c == nil {
		if len(m.GetFilterChains()) == 0 {
			b.problems.Addf("filter_chains", "required, or default_filter_chain")
		}
		return
	}
	t := b.terminal(path, c)
	switch {
	case t == nil:
	case t.opaque():
		b.fallBack(path, t)
	case len(m.GetFilterChains()) > 0:
		b.problems.Addf(path+".filters", "not implemented: a chain for requests beside filter_chains")
	default:
		for _, at := range b.places {
			b.put(path, at, t, true)
		}
	}
}

// close gives each part the policies of its chain for requests for what that chain is
// meant for but which is not seen: nobody gets past them by speaking HTTP, or, where
// there is no chain for opaque connections, anything else. What they ask about a
// request is unknown then.
func (b *builder) close() {
	for _, at := range b.order {
		l := b.parts[at]
		switch { // what there is one chain for is all told of by it
		case l.opaque == "":
			l.TCPReport = l.Report
		case l.requests == "":
			l.Report = l.TCPReport
		}
		if l.Gate == nil && len(l.RBAC) == 0 {
			continue
		}
		gate := new(snapshot.Gate)
		if l.Gate != nil {
			*gate = *l.Gate
		}
		gate.RBAC = slices.Concat(gate.RBAC, l.RBAC)
		if l.HTTPGate = gate; l.opaque == "" {
			l.TCPGate = gate
		}
	}
}

// fallBack gives the default chain to the parts without a chain for opaque
// connections, and to what no chain singles out.
func (b *builder) fallBack(path string, t *terminal) {
	for _, at := range b.places {
		b.at(at)
	}
	for _, at := range b.order {
		if l := b.parts[at]; l.opaque == "" {
			l.TCP, l.TCPGate, l.TCPIdle, l.TCPReport, l.opaque = t.tcp, t.gate, t.idle, t.report, path
		}
	}
}

// at returns the part for a place, made on first use.
func (b *builder) at(at place) *part {
	l, ok := b.parts[at]
	if !ok {
		l = &part{Listener: &snapshot.Listener{Name: b.name, Prefix: at.prefix, Port: at.port}}
		b.parts[at] = l
		b.order = append(b.order, at)
	}
	return l
}

// put gives a chain to a place.
func (b *builder) put(path string, at place, t *terminal, plain bool) {
	l := b.at(at)
	set := &l.requests
	if t.opaque() {
		set = &l.opaque
		l.TCP, l.TCPGate, l.TCPIdle, l.TCPReport = t.tcp, t.gate, t.idle, t.report
	} else {
		l.RouteName, l.RouteServer, l.Route, l.plain = t.routeName, t.server, t.route, plain
		l.Gate, l.RBAC, l.Limits, l.Globals, l.Faults = t.gate, t.rbac, t.limits, t.globals, t.faults
		l.Idle, l.Report, l.Tracing = t.idle, t.report, t.tracing
	}
	if *set != "" {
		b.problems.Addf(path, "%s already has %s", at, *set)
	}
	*set = path
	if l.requests != "" && l.opaque != "" && l.plain {
		b.problems.Addf(path,
			"%s already has a chain that takes everything; name application_protocols in the one for requests", at)
	}
}

// match lists the places within the listener that a chain is for.
func (b *builder) match(path string, m *listenerv3.FilterChainMatch) []place {
	var ranges []netip.Prefix
	for i, r := range m.GetPrefixRanges() {
		at := fmt.Sprintf("%s.prefix_ranges[%d]", path, i)
		ip, err := netip.ParseAddr(r.GetAddressPrefix())
		if err != nil || ip.Zone() != "" {
			b.problems.Addf(at+".address_prefix", "%q is not an IP address", r.GetAddressPrefix())
			return nil
		}
		prefix, err := ip.Prefix(int(r.GetPrefixLen().GetValue()))
		if err != nil {
			b.problems.Addf(at+".prefix_len", "%d is too long for %s", r.GetPrefixLen().GetValue(), ip)
			return nil
		}
		if ip.IsLoopback() {
			b.problems.Addf(at+".address_prefix", "%s is never steered", prefix)
			return nil
		}
		ranges = append(ranges, prefix)
	}
	var list []place
	for _, whole := range b.places {
		port := uint16(m.GetDestinationPort().GetValue()) // 1 to 65535, as Envoy's rules say
		switch {
		case port == 0:
			port = whole.port
		case whole.port != 0 && whole.port != port:
			continue
		}
		for _, prefix := range within(whole.prefix, ranges) {
			list = append(list, place{prefix, port})
		}
	}
	if len(list) == 0 && len(b.places) > 0 {
		b.problems.Addf(path, "matches nothing that is dialled at the listener's address")
	}
	return list
}

// within lists the parts of whole that ranges cover; all of it if there are no
// ranges.
func within(whole netip.Prefix, ranges []netip.Prefix) []netip.Prefix {
	if len(ranges) == 0 {
		return []netip.Prefix{whole}
	}
	var list []netip.Prefix
	for _, r := range ranges {
		switch {
		case r.Addr().BitLen() != whole.Addr().BitLen() || !r.Overlaps(whole):
		case r.Bits() >= whole.Bits():
			list = append(list, r)
		default:
			list = append(list, whole)
		}
	}
	return list
}
