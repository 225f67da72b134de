package mtls

import "github.com/dubway/dubway/l7proxy/rpc"

// Reason is why a connection is not made or taken.
type Reason uint8

// The reasons.
const (
	NoIdentity    Reason = iota // the workload has no certificate
	NoCertificate               // the peer shows none
	Untrusted                   // the mesh's roots do not vouch for the peer's
	Expired                     // the peer's is not valid at this time
	WrongName                   // the peer is somebody else
	Handshake                   // anything else
	Plaintext                   // no TLS where nothing else is taken
	numReasons
)

// Reasons is the number of reasons, for tables.
const Reasons = int(numReasons)

// String returns the value of the metric label reason.
func (r Reason) String() string {
	switch r {
	case NoIdentity:
		return "no_identity"
	case NoCertificate:
		return "no_certificate"
	case Untrusted:
		return "untrusted"
	case Expired:
		return "expired"
	case WrongName:
		return "wrong_name"
	case Handshake:
		return "handshake"
	case Plaintext:
		return "plaintext"
	case numReasons:
	}
	return "unknown"
}

// says is the reason in words.
func (r Reason) says() string {
	switch r {
	case NoIdentity:
		return "the workload has no certificate"
	case NoCertificate:
		return "the peer shows no certificate"
	case Untrusted:
		return "the mesh's roots do not vouch for the peer"
	case Expired:
		return "the peer's certificate is not valid at this time"
	case WrongName:
		return "the peer is not who he must be"
	case Handshake:
		return "the handshake failed"
	case Plaintext:
		return "no TLS where nothing else is taken"
	case numReasons:
	}
	return "unknown"
}

// Error is a connection that is not encrypted. It must not be used in plaintext.
type Error struct {
	Reason Reason
	Err    error // nil: there is no more to say
}

// Error says why.
func (e *Error) Error() string {
	if e.Err == nil {
		return "mutual TLS: " + e.Reason.says()
	}
	return "mutual TLS: " + e.Reason.says() + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Why is the reason as calls and connections are told.
func (e *Error) Why() rpc.Why {
	switch e.Reason { //nolint:exhaustive // the rest is one
	case NoIdentity:
		return rpc.WhyNoIdentity
	case Plaintext:
		return rpc.WhyPlaintext
	}
	return rpc.WhyUntrusted
}
