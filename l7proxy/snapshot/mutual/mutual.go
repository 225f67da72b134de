// Package mutual says which connections are to be the mesh's own mutual TLS, and with whom.
// It speaks none: that is l7proxy/mtls.
package mutual

import "strings"

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
	Match map[string]string
	TLS   TLS
}

// Of returns the TLS of an endpoint: that of the first socket whose Match its metadata have.
func Of(sockets []Socket, metadata map[string]string) TLS {
	for i := range sockets {
		if s := &sockets[i]; has(metadata, s.Match) {
			return s.TLS
		}
	}
	return TLS{}
}

// has tells whether all of match is in metadata.
func has(metadata, match map[string]string) bool {
	for k, v := range match {
		if metadata[k] != v {
			return false
		}
	}
	return true
}

// Port is how a provider's port ends the mesh's own TLS, in which the consumer has a
// certificate too.
type Port struct {
	// Offers are ALPN protocols of which a consumer offers one or more if he speaks it;
	// what offers none of them is the application's own TLS. Empty: all TLS is the mesh's.
	Offers []string
	Names  Names // of consumers
	// Strict says that the port takes nothing else: no chain is for plaintext.
	Strict bool
}
