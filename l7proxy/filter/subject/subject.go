// Package subject is what policies judge: a request or a connection, and whose it
// is. It says what is known of both, and judges nothing.
package subject

import (
	"net/netip"
	"time"

	"github.com/dubway/dubway/l7proxy/condition"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Consumer is who calls. Made once for each connection; immutable.
type Consumer struct {
	// Principal is the SPIFFE identity, as Istio writes it; "" for one who is not
	// authenticated.
	Principal string
	// Cluster is "application.namespace", as Istio calls a sidecar's own cluster;
	// "" if they are not known.
	Cluster string
	Address netip.Addr // not v4-mapped
	Remote  string     // Address, as text
}

// NewConsumer describes a peer that connects from address. Authenticated says that
// peer's service account is a fact and not a guess: the node itself accepted the
// connection in the pod's namespace, or knows the pod that has the address.
func NewConsumer(peer *rpc.Peer, address netip.Addr, trustDomain string, authenticated bool) *Consumer {
	c := &Consumer{Address: address.Unmap(), Remote: address.Unmap().String()}
	if peer == nil {
		return c
	}
	if authenticated && peer.Namespace != "" && peer.ServiceAccount != "" {
		c.Principal = "spiffe://" + trustDomain + "/ns/" + peer.Namespace + "/sa/" + peer.ServiceAccount
	}
	if peer.App != "" && peer.Namespace != "" {
		c.Cluster = peer.App + "." + peer.Namespace
	}
	return c
}

// Subject is one request, or one connection. It is of one goroutine, which may use
// it again after Reset.
type Subject struct {
	Consumer    *Consumer
	Destination netip.AddrPort // what the consumer dialled
	// Boundary says that this proxy is the provider's: then no word of the consumer
	// is taken for the service that it calls (Names).
	Boundary bool
	// Observe says that the verdict is not enforced: it is counted as what it would be.
	Observe bool
	Now     time.Time // of the request, for buckets
	Random  uint64    // one for each request, for shares

	request *rpc.Request
	values  condition.Values
	agreed  agreement
}

type agreement uint8

const (
	notAsked agreement = iota
	agrees
	disagrees
)

// Reset makes it the subject of another request, nil for a connection. Values of the
// request may alias a buffer: judge before it changes.
func (s *Subject) Reset(req *rpc.Request) {
	s.request, s.agreed = req, notAsked
	if req != nil {
		s.values = condition.ValuesOf(req)
	}
}

// Values are the request's; nil of a connection.
func (s *Subject) Values() *condition.Values {
	if s.request == nil {
		return nil
	}
	return &s.values
}

// Holds tells whether a condition on the request holds, as far as it is known.
func (s *Subject) Holds(want *snapshot.HeaderMatch) condition.Truth {
	if s.request == nil {
		return condition.Unknown
	}
	if s.Boundary && want.Needs()&snapshot.NeedsNames != 0 && !s.names() {
		return condition.Unknown
	}
	return s.values.Holds(want)
}

// names tells whether a provider that goes by the attachments path and version
// serves what the request's beginning names. Java decodes the arguments by the
// beginning, and then finds the service by the attachments (seen with 3.3.6):
// a hostile consumer could name one service to us and call another.
func (s *Subject) names() bool {
	if s.agreed == notAsked {
		s.agreed = disagrees
		if s.compare() {
			s.agreed = agrees
		}
	}
	return s.agreed == agrees
}

func (s *Subject) compare() bool {
	req := s.request
	if req.Undecodable || req.Attachments == nil {
		return false
	}
	path, ok, err := req.Attachments.Lookup("path")
	if err != nil || ok && path != req.Interface {
		return false
	}
	version, ok, err := req.Attachments.Lookup("version")
	return err == nil && (!ok || normal(version) == normal(req.Version))
}

// normal is "" for the version that Dubbo writes where there is none.
func normal(version string) string {
	if version == "0.0.0" {
		return ""
	}
	return version
}
