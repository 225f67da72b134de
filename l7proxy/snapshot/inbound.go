package snapshot

import (
	"iter"
	"net/netip"
	"strconv"

	"github.com/dubway/dubway/l7proxy/snapshot/mutual"
)

// Viewer stands for the address of whoever sees the snapshot: what a control plane says
// of the pod that it is asked for holds for each pod that has the same view.
var Viewer = netip.MustParseAddr("100::1") // of the prefix that is for nobody, RFC 6666

// Inbound says what is held against connections to a provider, at the provider: one
// port of it, or all that no other Inbound of the same provider names. Each of its
// listeners has policies only: a connection goes to the port that was dialled.
type Inbound struct {
	Name string
	// Workload is whose connections these are, "namespace/workload" as metrics name it;
	// "" if Address is.
	Workload string
	Address  netip.Addr
	Port     uint16 // 0: every other port
	// Known is for consumers whom mutual TLS vouches for, or this node, as if it were: its
	// own pods. Plain is for all others, whom nobody vouches for. TLS is for connections
	// whose bytes are TLS of the application's own, of either. None is nil.
	Known, Plain, TLS *Listener
	// Mutual is how the mesh's TLS is ended here; who comes by it is Known. Nil: it is not.
	Mutual *mutual.Port
}

// Listener returns what holds for a connection.
func (in *Inbound) Listener(known, tls bool) *Listener {
	switch {
	case tls:
		return in.TLS
	case known:
		return in.Known
	}
	return in.Plain
}

// Judges tells whether there are policies on whatever comes to the listener.
func (l *Listener) Judges() bool {
	return l.Gate != nil || l.HTTPGate != nil || l.TCPGate != nil || len(l.RBAC)+len(l.Limits)+len(l.Globals) > 0
}

// inboundKey is a provider, by one of the two, and a port.
type inboundKey struct {
	workload string
	address  netip.Addr
	port     uint16
}

// Inbound returns what is held against connections to a provider's own address (not
// v4-mapped); nil for nothing. Workload is as of Inbound. What names the address goes
// before what is for Viewer, and that before what names the workload; in each of them
// the port goes before every port.
func (s *Snapshot) Inbound(dst netip.AddrPort, workload string) *Inbound {
	if len(s.index.inbound) == 0 {
		return nil
	}
	for _, k := range [...]inboundKey{
		{address: dst.Addr(), port: dst.Port()}, {address: dst.Addr()},
		{address: Viewer, port: dst.Port()}, {address: Viewer},
		{workload: workload, port: dst.Port()}, {workload: workload},
	} {
		if in := s.index.inbound[k]; in != nil {
			return in
		}
	}
	return nil
}

// Served is the service that a provider's own port is of, as istiod says in the cluster
// inbound|PORT||; the zero value if it does not.
func (s *Snapshot) Served(port uint16) Service {
	name := "inbound|" + strconv.Itoa(int(port)) + "||"
	if c := s.Clusters[name]; c != nil && c.Service.Host != name {
		return c.Service
	}
	return Service{}
}

// inbounds is the index of what Inbound returns.
func (s *Snapshot) inbounds() map[inboundKey]*Inbound {
	found := make(map[inboundKey]*Inbound, len(s.Inbounds))
	for _, in := range s.Inbounds {
		found[inboundKey{in.Workload, in.Address, in.Port}] = in
	}
	return found
}

// All lists every listener, of consumers and of providers; one that serves for
// several is listed as often.
func (s *Snapshot) All() iter.Seq[*Listener] {
	return func(yield func(*Listener) bool) {
		for _, l := range s.Listeners {
			if !yield(l) {
				return
			}
		}
		for _, in := range s.Inbounds {
			if !yield(in.Known) || !yield(in.Plain) || !yield(in.TLS) {
				return
			}
		}
	}
}

// tables lists every route table: a provider's are its listeners' own.
func (s *Snapshot) tables() iter.Seq[*RouteConfig] {
	return func(yield func(*RouteConfig) bool) {
		for _, rc := range s.Routes {
			if !yield(rc) {
				return
			}
		}
		for _, in := range s.Inbounds {
			for _, l := range []*Listener{in.Known, in.Plain, in.TLS} {
				if l.Route != nil && !yield(l.Route) {
					return
				}
			}
		}
	}
}
