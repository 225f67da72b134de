// Package principal says as whom the two ends of a call know each other, for metrics and
// logs: by mutual TLS, or because this node's kernel carries every byte between two pods
// that it knows. What they may do is told by policies.
package principal

import (
	"net/netip"

	"github.com/dubway/dubway/l7proxy/filter/subject"
	"github.com/dubway/dubway/l7proxy/identity"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot/mutual"
	"github.com/dubway/dubway/l7proxy/workload"
)

// Book knows the pods of this node, and who they are.
type Book struct {
	Workloads  *workload.Registry
	Identities identity.Source
}

// Own is a pod of this node, as policies know it: its connection was accepted in its
// namespace.
func (b Book) Own(pod *rpc.Peer, from netip.Addr) *subject.Consumer {
	return subject.NewConsumer(pod, from, b.Identities.TrustDomain(), true)
}

// Visitor is who has connected to a provider of this node, as policies know him, and
// whether anybody vouches for him: mutual TLS does, which has shown shown, or this node, if
// the address is one of its own pods.
func (b Book) Visitor(from netip.Addr, shown string) (c *subject.Consumer, known bool) {
	if w := b.Workloads.ByAddress(from); w != nil {
		c, known = b.Own(w.Peer, from), true
	} else {
		c = subject.NewConsumer(nil, from, "", false)
	}
	if shown != "" {
		c.Principal, known = shown, true
	}
	return c, known
}

// Accepted describes a connection to a provider of this node, from an address: mutual TLS
// has shown whom, and as whom; "" where it was not spoken.
func (b Book) Accepted(call *rpc.Call, from netip.Addr, peer, own string) {
	switch {
	case peer != "":
		call.Security, call.SourcePrincipal, call.DestinationPrincipal = rpc.SecurityMutual, peer, own
	case b.Workloads.ByAddress(from) != nil:
		b.local(call)
	}
}

// Planned describes the way to an endpoint that will be reached by tls, as a consumer of an
// account.
func (b Book) Planned(call *rpc.Call, account identity.Account, tls mutual.TLS) {
	if !tls.On {
		b.Dialled(call, "", "")
		return
	}
	call.Security, call.DestinationPrincipal = rpc.SecurityMutual, tls.Names.Only()
	if bundle, err := b.Identities.Bundle(account); err == nil {
		call.SourcePrincipal = bundle.ID.String()
	}
}

// Dialled describes a connection to an endpoint that was made. Peer and own are as of
// Accepted.
func (b Book) Dialled(call *rpc.Call, peer, own string) {
	if peer != "" {
		call.Security, call.SourcePrincipal, call.DestinationPrincipal = rpc.SecurityMutual, own, peer
		return
	}
	if w := b.Workloads.ByAddress(call.Endpoint.Addr()); w != nil && w.Serves(call.Endpoint) {
		b.local(call)
	}
}

// local describes a call between two pods of this node.
func (b Book) local(call *rpc.Call) {
	call.Security = rpc.SecurityNode
	call.SourcePrincipal, call.DestinationPrincipal = b.of(call.Source), b.of(call.Destination)
}

// of is the SPIFFE ID of a pod of this node; "" if its account is not known.
func (b Book) of(p *rpc.Peer) string {
	if p == nil || p.Namespace == "" || p.ServiceAccount == "" {
		return ""
	}
	id := identity.ID{TrustDomain: b.Identities.TrustDomain(), Account: identity.Account{Namespace: p.Namespace, Name: p.ServiceAccount}}
	return id.String()
}
