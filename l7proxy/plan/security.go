package plan

import (
	"net/netip"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/identity"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// Bound names the connections to the provider that a consumer dialled, before any of his
// requests has come.
func (s *Source) Bound(env *Env, p *codec.Protocol) upstream.Key {
	k := s.Key(p, s.Original)
	if !s.Inbound {
		k.TLS = env.Snapshot().TLSAt(s.Original)
	}
	return k
}

// Describe tells telemetry how a provider and the consumer of a connection to it know each
// other.
func (s *Source) Describe(env *Env, call *rpc.Call) {
	switch {
	case s.Principal != "":
		call.Security, call.SourcePrincipal, call.DestinationPrincipal = rpc.SecurityMutual, s.Principal, s.Own
	case env.Workloads.ByAddress(s.Remote.Addr()) != nil:
		env.local(call)
	}
}

// describeTo is Describe at the consumer, for an endpoint that is reached by tls.
func (s *Source) describeTo(env *Env, call *rpc.Call, tls snapshot.TLS) {
	switch {
	case tls.On:
		call.Security, call.DestinationPrincipal = rpc.SecurityMutual, tls.Names.Only()
		if env.Identities == nil {
			return
		}
		if b, err := env.Identities.Bundle(s.Workload.Account()); err == nil {
			call.SourcePrincipal = b.ID.String()
		}
	case env.neighbour(call.Endpoint):
		env.local(call)
	}
}

// DescribeWay is Describe at the consumer, for a connection that was made.
func (s *Source) DescribeWay(env *Env, call *rpc.Call, way *upstream.Way) {
	switch {
	case way.Secured != nil:
		call.Security, call.SourcePrincipal, call.DestinationPrincipal = rpc.SecurityMutual, way.Own, way.Principal
	case env.neighbour(call.Endpoint):
		env.local(call)
	}
}

// neighbour tells whether an endpoint is an enrolled pod's of this node.
func (e *Env) neighbour(at netip.AddrPort) bool {
	w := e.Workloads.ByAddress(at.Addr())
	return w != nil && w.Serves(at)
}

// local describes a call between two pods of this node: the kernel that carries it knows
// both.
func (e *Env) local(call *rpc.Call) {
	call.Security = rpc.SecurityNode
	call.SourcePrincipal, call.DestinationPrincipal = e.principal(call.Source), e.principal(call.Destination)
}

// principal is the SPIFFE ID of a pod of this node; "" if its account is not known.
func (e *Env) principal(p *rpc.Peer) string {
	if p == nil || p.Namespace == "" || p.ServiceAccount == "" {
		return ""
	}
	id := identity.ID{TrustDomain: e.TrustDomain, Account: identity.Account{Namespace: p.Namespace, Name: p.ServiceAccount}}
	return id.String()
}
