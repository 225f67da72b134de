package snapshot

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Needs tells what of a request must be read to judge it. What needs neither is the
// same for all requests of a connection that have one route, interface, method and
// version.
type Needs uint8

// The needs, a set.
const (
	// NeedsNames is the service: interface, version or path. A provider finds it by
	// attachments that a hostile consumer can set otherwise than the names before
	// the arguments (codec/codec.Prefix).
	NeedsNames Needs = 1 << iota
	// NeedsBody is an attachment, group included, or an argument.
	NeedsBody
)

// String returns the words of the set.
func (n Needs) String() string {
	switch n {
	case NeedsNames:
		return "names"
	case NeedsBody:
		return "body"
	case NeedsNames | NeedsBody:
		return "names, body"
	}
	return "nothing"
}

// Needs returns what the condition needs.
func (h *HeaderMatch) Needs() Needs {
	if h.Source != SourceName {
		return NeedsBody
	}
	switch h.Name {
	case "interface", "version", ":path":
		return NeedsNames
	case "method", ":authority", ":method":
		return 0
	}
	return NeedsBody
}

// Gate is what the network filters of a filter chain make of its connections.
type Gate struct {
	RBAC   []*RBAC // each must let a connection pass
	Limits []*Limit
}

// RBAC is an RBAC filter. Its pointer is its identity: it stays when a snapshot
// replaces another in which the resource was the same.
type RBAC struct {
	Name   string // the filter's, by which a route replaces it
	Rules  *Rules // nil: everything passes
	Shadow *Rules // judged and counted, never enforced; nil: none
}

// OpaqueGate returns the policies on an opaque connection; nil for none.
func (l *Listener) OpaqueGate(isHTTP bool) *Gate {
	if isHTTP && l.RouteName != "" {
		return l.HTTPGate
	}
	return l.TCPGate
}

// Needs returns what the filter needs of a request.
func (f *RBAC) Needs() (n Needs) {
	for _, r := range []*Rules{f.Rules, f.Shadow} {
		if r != nil {
			n |= r.Needs
		}
	}
	return n
}

// RBACAction says what a matching policy means.
type RBACAction uint8

// The actions.
const (
	RBACAllow RBACAction = iota // what no policy matches is denied
	RBACDeny                    // what a policy matches is denied
	RBACLog                     // nothing is denied; what a policy matches is counted
)

// String returns the action as metrics and explanations have it.
func (a RBACAction) String() string {
	switch a {
	case RBACAllow:
		return "allow"
	case RBACDeny:
		return "deny"
	case RBACLog:
		return "log"
	}
	return ""
}

// Rules are the rules or the shadow rules of a filter.
type Rules struct {
	Action   RBACAction
	Policies []RBACPolicy // in the order of their names, as in Envoy; may be empty
	Prefix   string       // the filter's stat prefix for them
	Needs    Needs
}

// RBACPolicy matches where both of its terms hold.
type RBACPolicy struct {
	Name       string
	Permission Term // what is done
	Principal  Term // by whom
}

// TermKind is an operator or a condition.
type TermKind uint8

// The kinds.
const (
	TermNever           TermKind = iota // never holds: it asks for what a Dubbo request does not have
	TermAny                             // always holds
	TermAnd                             // all Terms
	TermOr                              // one of Terms
	TermNot                             // not the one of Terms
	TermHeader                          // Header, on the request
	TermPrincipal                       // Header, on the consumer's principal; it has none unless it is authenticated
	TermSource                          // the consumer's address is in Prefix
	TermDestination                     // the dialled address is in Prefix
	TermDestinationPort                 // the dialled port is from Min to Max
)

// Term is a permission or a principal.
type Term struct {
	Kind     TermKind
	Terms    []Term
	Header   *HeaderMatch
	Prefix   netip.Prefix // masked
	Min, Max uint16
}

// Limit is a local rate limit filter. As with RBAC, its pointer and that of each of
// its buckets is an identity.
type Limit struct {
	Name        string  // the filter's, by which a route replaces it
	Prefix      string  // its stat prefix
	Bucket      *Bucket // of all requests or connections; nil: none
	Descriptors []Descriptor
	// Always says that Bucket counts what a descriptor's counts too.
	Always bool
	// Enabled is the share of requests that take tokens, Enforced that of those
	// which are refused without one; in millionths.
	Enabled, Enforced uint32
	Stage             uint32
	// Rates make descriptors in place of the route's; nil: the route's do.
	Rates []Rate
	Needs Needs // of Rates
}

// Bucket is a token bucket. It is full at first and gets Fill tokens each Interval.
type Bucket struct {
	Max, Fill uint32
	Interval  time.Duration
}

// Descriptor has a bucket for the requests that are described by exactly Entries.
type Descriptor struct {
	Entries []Entry
	Bucket  *Bucket
}

// Entry is a part of a descriptor.
type Entry struct{ Key, Value string }

// Rate describes requests: each of its actions makes an entry, or there is no
// descriptor.
type Rate struct {
	Stage   uint32
	Actions []RateAction
}

// RateKind tells what an entry is made of.
type RateKind uint8

// The kinds of RateAction.
const (
	RateGeneric       RateKind = iota // Value
	RateHeader                        // the value of Headers[0]; none: no descriptor, or no entry if it may be absent
	RateMatch                         // Value, if all Headers match, or if they do not
	RateSourceCluster                 // the consumer's "application.namespace"
	RateRemoteAddress                 // the consumer's address
)

// RateAction makes one entry.
type RateAction struct {
	Kind       RateKind
	Key, Value string
	Headers    []HeaderMatch
	Absent     bool // RateHeader: may be absent
	Unless     bool // RateMatch: if they do not match
}

// RoutePolicies are what a route says about policies, with what its virtual host
// and its route configuration say where it is silent.
type RoutePolicies struct {
	// RBAC, Limits and Faults replace the listener's filters of these names; Globals
	// change them.
	RBAC    map[string]*RBAC
	Limits  map[string]*Limit
	Faults  map[string]*Fault
	Globals map[string]*GlobalRoute
	// Abort is what an abort is on this route, whatever its filter says; nil: that.
	Abort *Abort
	Rates []Rate
	Needs Needs // of Rates
}

// All returns what any of the policies needs of a request.
func (p *RoutePolicies) All() Needs {
	n := p.Needs
	for _, f := range p.RBAC {
		n |= f.Needs()
	}
	for _, l := range p.Limits {
		n |= l.Needs
	}
	for _, f := range p.Faults {
		n |= f.Needs
	}
	for _, g := range p.Globals {
		n |= g.Needs
	}
	return n
}

// Limits lists every limit of the snapshot; one that several routes share is listed
// as often.
func (s *Snapshot) Limits() iter.Seq[*Limit] {
	return func(yield func(*Limit) bool) {
		s.policies(func(list []*Limit, _ []*RBAC) bool {
			return !slices.ContainsFunc(list, func(l *Limit) bool { return !yield(l) })
		})
	}
}

// RBAC lists every RBAC filter of the snapshot; one that several routes share is
// listed as often.
func (s *Snapshot) RBAC() iter.Seq[*RBAC] {
	return func(yield func(*RBAC) bool) {
		s.policies(func(_ []*Limit, list []*RBAC) bool {
			return !slices.ContainsFunc(list, func(f *RBAC) bool { return !yield(f) })
		})
	}
}

// policies calls f with the policies of each object until it returns false.
func (s *Snapshot) policies(f func([]*Limit, []*RBAC) bool) {
	for l := range s.All() {
		for _, g := range []*Gate{l.Gate, l.HTTPGate, l.TCPGate} {
			if g != nil && !f(g.Limits, g.RBAC) {
				return
			}
		}
		if !f(l.Limits, l.RBAC) {
			return
		}
	}
	for rc := range s.tables() {
		for _, vh := range rc.VirtualHosts {
			for _, r := range vh.Routes {
				if p := r.Policies; p != nil && !f(slices.Collect(maps.Values(p.Limits)), slices.Collect(maps.Values(p.RBAC))) {
					return
				}
			}
		}
	}
}
