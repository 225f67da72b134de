package rpc

import "errors"

// Security is how the two ends of a connection know each other.
type Security uint8

// The ways.
const (
	SecurityNone   Security = iota // plaintext: neither is known
	SecurityNode                   // both are pods of this node, whose kernel carries every byte
	SecurityMutual                 // by mutual TLS
)

// String returns Istio's value of the label connection_security_policy, and node_local,
// which is ours.
func (s Security) String() string {
	switch s {
	case SecurityNone:
		return "none"
	case SecurityNode:
		return "node_local"
	case SecurityMutual:
		return "mutual_tls"
	}
	return "none"
}

// WhyOf is why there is no connection to an endpoint: what an error in err says of itself
// by a method Why, or that it could not be made.
func WhyOf(err error) Why {
	var told interface{ Why() Why }
	if errors.As(err, &told) {
		return told.Why()
	}
	return WhyConnectFailed
}
