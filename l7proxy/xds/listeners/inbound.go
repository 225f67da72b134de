package listeners

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/mutual"
	"github.com/dubway/dubway/l7proxy/xds/address"
	"github.com/dubway/dubway/l7proxy/xds/fields"
	"github.com/dubway/dubway/l7proxy/xds/problems"
	"github.com/dubway/dubway/l7proxy/xds/sockets"
)

// inboundPort is where istiod's virtualInbound listens: at such an address every port
// of the provider is meant, and the chains say which.
const inboundPort = 15006

// kind says whose connections a filter chain of a provider is for.
type kind uint8

const (
	known  kind = iota // consumers whom the node vouches for, as mutual TLS does
	plain              // all others
	sealed             // whose bytes are TLS that is the application's own
	kinds
)

// Inbound converts a listener of a provider: its policies, for each port that has a
// filter chain. It returns problems or a result, never both.
func Inbound(m *listenerv3.Listener) ([]*snapshot.Inbound, problems.List) {
	p := fields.Examine(m)
	if m.GetName() == "" {
		p.Addf("name", "required")
	}
	if m.GetUseOriginalDst().GetValue() {
		p.Addf("use_original_dst", "not implemented where traffic_direction is INBOUND")
	}
	if m.GetDefaultFilterChain() != nil {
		p.Addf("default_filter_chain", "not implemented where traffic_direction is INBOUND")
	}
	whose, port := provider(&p, m)
	if len(p) > 0 {
		return nil, p
	}
	var all [kinds]builder
	for i := range all {
		all[i] = builder{problems: &p, name: m.GetName(), places: []place{{port: port}}, parts: make(map[place]*part)}
	}
	for i, c := range m.GetFilterChains() {
		if c.GetFilterChainMatch().GetDestinationPort().GetValue() != inboundPort { // nobody gets there
			inboundChain(&all, fmt.Sprintf("filter_chains[%d]", i), c)
		}
	}
	if len(p) > 0 {
		return nil, p
	}
	var list []*snapshot.Inbound
	for _, in := range join(&all, port) {
		for _, who := range whose {
			one := in
			one.Name, one.Workload, one.Address = m.GetName(), who.Workload, who.Address
			list = append(list, &one)
		}
	}
	return list, nil
}

// Locate makes a listener at any address, as istiod's virtualInbound, one of the pod at
// ip: on the stream of a pod it is that pod's. It changes m.
func Locate(m *listenerv3.Listener, ip netip.Addr) {
	at := m.GetAddress().GetSocketAddress()
	listens, err := netip.ParseAddr(at.GetAddress())
	if err != nil || !listens.IsUnspecified() || len(m.GetMetadata().GetFilterMetadata()[ourMetadata].GetFields()) > 0 {
		return
	}
	at.Address = ip.String()
}

// provider reads whose connections the listener is for, and which port's; 0: every one.
func provider(p *problems.List, m *listenerv3.Listener) (whose []snapshot.Inbound, port uint16) {
	const path = `metadata.filter_metadata["` + ourMetadata + `"]`
	ours := m.GetMetadata().GetFilterMetadata()[ourMetadata].GetFields()
	for _, key := range slices.Sorted(maps.Keys(ours)) {
		if key != "workload" {
			p.Addf(path+"."+key, "not implemented")
		}
	}
	workload := ours["workload"].GetStringValue()
	ns, name, _ := strings.Cut(workload, "/")
	if _, given := ours["workload"]; given && (ns == "" || name == "" || strings.ContainsAny(name, "/*")) {
		p.Addf(path+".workload", "%q is not namespace/workload", workload)
	}
	list := []*listenerv3.AdditionalAddress{{Address: m.GetAddress()}}
	for i, a := range append(list, m.GetAdditionalAddresses()...) {
		at := "address"
		if i > 0 {
			at = fmt.Sprintf("additional_addresses[%d].address", i-1)
		}
		ip, number := address.Socket(p, at, a.GetAddress())
		if number == inboundPort {
			number = 0
		}
		switch {
		case !ip.IsValid():
		case i > 0 && number != port:
			p.Addf(at+".socket_address.port_value", "not that of address")
		case ip.IsLoopback() || ip.IsMulticast():
			p.Addf(at+".socket_address.address", "%s is no pod's", ip)
		case ip.IsUnspecified() == (workload == ""):
			p.Addf(at+".socket_address.address",
				"whose: say a pod's address here, or any address here and namespace/workload as %s.workload", path)
		case workload == "":
			whose = append(whose, snapshot.Inbound{Address: ip})
		case i == 0:
			whose = append(whose, snapshot.Inbound{Workload: workload})
		}
		port = number
	}
	return whose, port
}

// inboundChain gives a chain to the kinds of connections that it is for.
func inboundChain(all *[kinds]builder, path string, c *listenerv3.FilterChain) {
	b := &all[plain]
	before := len(*b.problems)
	match := c.GetFilterChainMatch()
	if len(match.GetPrefixRanges()) > 0 {
		b.problems.Addf(path+".filter_chain_match.prefix_ranges", "not implemented where traffic_direction is INBOUND")
		return
	}
	whose, ended := b.whose(path, c)
	t := b.terminal(path, c)
	places := b.match(path+".filter_chain_match", match)
	for _, at := range places {
		b.staysHere(path, t, at.port)
	}
	for _, k := range whose {
		for _, at := range places {
			if len(*b.problems) == before {
				all[k].put(path, at, t, len(match.GetApplicationProtocols()) == 0)
				all[k].terminate(path, at, ended, match.GetApplicationProtocols())
			}
		}
	}
}

// whose tells for which connections a chain is, and how their TLS is ended.
func (b *builder) whose(path string, c *listenerv3.FilterChain) ([]kind, *mutual.Port) {
	transport := c.GetFilterChainMatch().GetTransportProtocol()
	ended := sockets.Server(b.problems, path+".transport_socket", c.GetTransportSocket())
	switch {
	case ended != nil && transport == "raw_buffer":
		b.problems.Addf(path+".filter_chain_match.transport_protocol", "not implemented beside TLS: only tls (or none)")
		return nil, nil
	case ended != nil:
		return []kind{known}, ended
	case transport == "tls":
		return []kind{sealed}, nil
	case transport == "":
		return []kind{plain, sealed}, nil
	}
	return []kind{plain}, nil
}

// terminate notes that TLS is ended at a place, for who offers one of some protocols; of
// chains that differ in what they are for, not in whom they take.
func (b *builder) terminate(path string, at place, ended *mutual.Port, offers []string) {
	if ended == nil {
		return
	}
	l := b.at(at)
	if l.mutual == nil {
		l.mutual = &mutual.Port{Names: ended.Names, Offers: slices.Clone(offers)}
		return
	}
	if l.mutual.Names != ended.Names {
		b.problems.Addf(path+".transport_socket", "not implemented: other names than in another chain of %s", at)
	}
	if len(offers) == 0 || len(l.mutual.Offers) == 0 {
		l.mutual.Offers = nil
		return
	}
	l.mutual.Offers = append(l.mutual.Offers, offers...)
	slices.Sort(l.mutual.Offers)
	l.mutual.Offers = slices.Compact(l.mutual.Offers)
}

// staysHere notes whatever a chain does with what comes to a port but judging it.
func (b *builder) staysHere(path string, t *terminal, port uint16) {
	if t == nil {
		return
	}
	leads := func(at string, list []snapshot.WeightedCluster) {
		for _, c := range list {
			if c.Cluster != "InboundPassthroughCluster" && (port == 0 || !strings.HasPrefix(c.Cluster, fmt.Sprintf("inbound|%d|", port))) {
				b.problems.Addf(at, "cluster %q: not implemented: only inbound|PORT|| of the same port and InboundPassthroughCluster: "+
					"a provider's connections go to the port that was dialled", c.Cluster)
			}
		}
	}
	leads(path+".filters", t.tcp)
	if t.route == nil {
		if t.routeName != "" {
			b.problems.Addf(path+".filters", "not implemented where traffic_direction is INBOUND: routes that are not inline")
		}
		return
	}
	for _, vh := range t.route.VirtualHosts {
		for _, r := range vh.Routes {
			at, a := strings.TrimPrefix(r.Origin, "listeners/"+b.name+" "), &r.Action
			leads(at+".route", a.Clusters)
			if acts(a) {
				b.problems.Addf(at, "not implemented where traffic_direction is INBOUND: anything but policies")
			}
		}
	}
}

// acts tells whether a route does more to requests than policies do.
func acts(a *snapshot.Action) bool {
	edited := slices.ContainsFunc(a.Clusters, func(c snapshot.WeightedCluster) bool { return c.Edits != nil })
	r := a.Retry
	return edited || a.Direct != nil || a.Timeout > 0 || len(a.Edits)+len(a.Answers)+len(a.Mirrors)+len(a.Hash) > 0 ||
		r != nil && (r.On != 0 || len(r.Statuses)+len(r.Exceptions) > 0 || r.PerTry > 0)
}

// join makes of the chains of each kind what holds at each port. Whom no chain is for
// is refused, as Envoy refuses him.
func join(all *[kinds]builder, port uint16) []snapshot.Inbound {
	ports := map[uint16]bool{port: true}
	for i := range all {
		all[i].close()
		for _, at := range all[i].order {
			ports[at.port] = true
		}
	}
	list := make([]snapshot.Inbound, 0, len(ports))
	for _, port := range slices.Sorted(maps.Keys(ports)) {
		one := snapshot.Inbound{Port: port}
		one.Plain, one.TLS = all[plain].policies(port, nil), all[sealed].policies(port, nil)
		one.Known = all[known].policies(port, one.Plain)
		if l := all[known].parts[place{port: port}]; l != nil && l.mutual != nil {
			l.mutual.Strict = all[plain].parts[place{port: port}] == nil
			one.Mutual = l.mutual
		}
		list = append(list, one)
	}
	return list
}

// policies returns the listener for a port; without one the other, and without that
// one that refuses everybody.
func (b *builder) policies(port uint16, other *snapshot.Listener) *snapshot.Listener {
	l, ok := b.parts[place{port: port}]
	if !ok && other != nil {
		return other
	}
	if !ok {
		anybody := snapshot.Term{Kind: snapshot.TermAny}
		gate := &snapshot.Gate{RBAC: []*snapshot.RBAC{{Name: "filter_chain_match", Rules: &snapshot.Rules{
			Action: snapshot.RBACDeny, Policies: []snapshot.RBACPolicy{{Name: "no filter chain", Permission: anybody, Principal: anybody}},
		}}}}
		return &snapshot.Listener{Name: b.name, Port: port, Gate: gate, HTTPGate: gate, TCPGate: gate}
	}
	l.Prefix, l.TCP = netip.Prefix{}, nil
	if l.requests == "" {
		l.Gate, l.HTTPGate = l.TCPGate, l.TCPGate // requests are opaque there
	}
	return l.Listener
}
