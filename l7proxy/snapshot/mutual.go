package snapshot

import (
	"net/netip"
	"strings"
)

// Names are whom a peer's certificate may say that he is: URIs, separated by spaces, one
// that ends in * for every URI that begins so. None: anybody whom the roots vouch for.
// They are one string, so that what is keyed by them can be compared.
type Names string

// Has tells whether a URI is one of the names.
func (n Names) Has(uri string) bool {
	if n == "" {
		return true
	}
	for one := range strings.FieldsSeq(string(n)) {
		prefix, open := strings.CutSuffix(one, "*")
		if uri == one || open && strings.HasPrefix(uri, prefix) {
			return true
		}
	}
	return false
}

// Only returns the one URI that a peer can have; "" if there may be several.
func (n Names) Only() string {
	if strings.ContainsAny(string(n), " *") {
		return ""
	}
	return string(n)
}

// TLS is how connections to an endpoint are encrypted: as the mesh's sidecars do, with
// the workload's own certificate. Its zero value is plaintext. Connections with equal TLS
// may be shared.
type TLS struct {
	On    bool
	SNI   string
	Names Names // of the provider
}

// Socket is the TLS of a cluster's endpoints whose metadata have Match.
type Socket struct {
	Match Metadata
	TLS   TLS
}

// TLSOf returns the TLS of one of the cluster's endpoints: that of the first socket whose
// Match it has.
func (c *Cluster) TLSOf(e *Endpoint) TLS {
	for i := range c.Sockets {
		if s := &c.Sockets[i]; s.Match.in(e.Socket) {
			return s.TLS
		}
	}
	return TLS{}
}

// TLSAt returns the TLS of the provider at an address, as the first cluster by name says
// that has an endpoint there; plaintext where none has.
func (s *Snapshot) TLSAt(dst netip.AddrPort) TLS {
	for _, c := range s.ClustersAt(dst) {
		if len(c.Sockets) == 0 {
			return TLS{}
		}
		for _, l := range c.Localities {
			for _, e := range l.Endpoints {
				if e.Address == dst {
					return c.TLSOf(e)
				}
			}
		}
	}
	return TLS{}
}

// in tells whether all of m is in other.
func (m Metadata) in(other Metadata) bool {
	for k, v := range m {
		if other[k] != v {
			return false
		}
	}
	return true
}

// Mutual is how a provider's port ends the mesh's own TLS, in which the consumer has a
// certificate too.
type Mutual struct {
	// Offers are ALPN protocols of which a consumer offers one or more if he speaks it;
	// what offers none of them is the application's own TLS. Empty: all TLS is the mesh's.
	Offers []string
	Names  Names // of consumers
	// Strict says that the port takes nothing else: no chain is for plaintext.
	Strict bool
}
