// Package rpc is the protocol-neutral vocabulary of the proxy: what a request
// is to a router, how a call ended, and the one Record that makes its metrics,
// its access log line and its span. It knows no wire format and does nothing.
package rpc

import (
	"net/netip"
	"time"

	"github.com/dubway/dubway/l7proxy/report"
)

// Version is the version of Request, Call and Record, a seam of the design.
const Version = 9

// Protocol is what a connection speaks, as its first bytes tell.
type Protocol uint8

// The protocols that the proxy tells apart.
const (
	ProtocolUnknown Protocol = iota // silent so far
	ProtocolDubbo
	ProtocolHTTP1
	ProtocolHTTP2
	ProtocolTLS
	ProtocolTCP // anything else, and server-first
	ProtocolThrift
)

// String returns Istio's request_protocol value for metrics and logs.
func (p Protocol) String() string {
	switch p {
	case ProtocolDubbo:
		return "dubbo"
	case ProtocolThrift:
		return "thrift"
	case ProtocolHTTP1:
		return "http"
	case ProtocolHTTP2:
		return "http2"
	case ProtocolTLS:
		return "tls"
	case ProtocolTCP, ProtocolUnknown:
		return "tcp"
	}
	return "tcp"
}

// Request is what a router sees of a request. Its strings may alias a read
// buffer: they are valid only until the function that got the Request returns.
type Request struct {
	Protocol  Protocol
	Interface string // Dubbo: the path of the body's prefix
	Method    string // of a generic call the method that it names
	Version   string // service version; "" when absent or null
	// Generic says that the call came as $invoke or $invokeAsync.
	Generic bool
	// Authority is the dialled address as "ip:port", for virtual host domains.
	Authority string
	// Attachments and Arguments read the rest of the body on demand. Nil: there
	// are none.
	Attachments Attachments
	Arguments   Arguments
	// Undecodable says that the prefix could not be read: the strings are empty
	// and only a default route can match.
	Undecodable bool
}

// Attachments finds a string attachment by its exact name. It reads the body
// when first asked. An error means that the body cannot be read; the caller
// treats the attachment as absent and counts it.
type Attachments interface {
	Lookup(name string) (value string, ok bool, err error)
	// Spelling finds the nth, from 0, of the attachments whose names differ from
	// name in the case of ASCII letters at most.
	Spelling(name string, nth int) (value string, ok bool, err error)
}

// Arguments finds the text of an argument by its index, from 0; of a generic call
// an argument of the method that it names. It is false where there is none, or
// one that is neither string, number nor boolean. Errors are as of Attachments.
type Arguments interface {
	Argument(index int) (text string, ok bool, err error)
}

// Result tells how a request ended, finer than a status.
type Result uint8

// The results. Exactly one is set in a Record.
const (
	ResultNone      Result = iota // one-way: nothing comes back
	ResultValue                   // the provider answered with a value
	ResultException               // the provider answered with a business exception
	ResultError                   // the provider answered with a status other than OK
	ResultLocal                   // the mesh answered in the provider's stead
	ResultGone                    // the consumer left before the answer
	numResults
)

// Results is the number of results, for tables.
const Results = int(numResults)

// String returns the value of the metric label dubbo_result.
func (r Result) String() string {
	switch r {
	case ResultNone:
		return "none"
	case ResultValue:
		return "value"
	case ResultException:
		return "exception"
	case ResultError:
		return "error"
	case ResultLocal:
		return "local"
	case ResultGone:
		return "gone"
	case numResults:
	}
	return "unknown"
}

// Why is the reason of a local reply or of an early end, in one enum for the
// wire, the metric and the log.
type Why uint8

// The reasons.
const (
	WhyNone           Why = iota
	WhyNoRoute            // no listener, route configuration or route matches
	WhyNoCluster          // the route names a cluster that does not exist
	WhyNoEndpoint         // the cluster has no endpoint to choose
	WhyConnectFailed      // no connection to any endpoint that was tried
	WhyUpstreamClosed     // the provider's connection ended before its answer
	WhyDownstreamGone     // the consumer's connection ended before the answer
	WhyOverflow           // a limit of this workload
	WhyTooLarge           // the frame is over the limit
	WhyShuttingDown       // the proxy is stopping
	WhyProtocolError      // not a frame of the protocol
	WhyIdleTimeout        // no progress for too long
	WhyTimeout            // no answer within the time that a policy allows
	WhyDenied             // a policy forbids the call
	WhyRetryLimit         // the cluster has too many retries in flight
	WhyOverload           // the proxy's memory is nearly used up, and the workload holds most
	WhyLimited            // a rate limit has no token for the call
	WhyFault              // a fault is injected
	WhyDirect             // the route answers by itself
	WhyLimitUnknown       // the service of a rate limit does not answer, and the call must not pass without
	WhyNoIdentity         // mutual TLS is asked for, and the workload has no certificate
	WhyUntrusted          // mutual TLS could not be agreed with the peer
	WhyPlaintext          // the provider's port takes mutual TLS only
	numWhys
)

// Whys is the number of reasons, for tables.
const Whys = int(numWhys)

// Flag returns Envoy's response flag, the value of Istio's response_flags.
func (w Why) Flag() string {
	switch w {
	case WhyNone:
		return "-"
	case WhyNoRoute:
		return "NR"
	case WhyNoCluster:
		return "NC"
	case WhyNoEndpoint:
		return "UH"
	case WhyConnectFailed:
		return "UF"
	case WhyUpstreamClosed:
		return "UC"
	case WhyDownstreamGone:
		return "DC"
	case WhyOverflow:
		return "UO"
	case WhyTooLarge, WhyProtocolError:
		return "DPE"
	case WhyShuttingDown:
		return "UMSDR"
	case WhyIdleTimeout:
		return "SI"
	case WhyTimeout:
		return "UT"
	case WhyDenied:
		return "UAEX"
	case WhyRetryLimit:
		return "URX"
	case WhyOverload:
		return "OM"
	case WhyLimited:
		return "RL"
	case WhyFault:
		return "FI"
	case WhyDirect:
		return "-" // as Envoy
	case WhyLimitUnknown:
		return "RLSE"
	case WhyNoIdentity, WhyUntrusted:
		return "UF"
	case WhyPlaintext:
		return "NR"
	case numWhys:
	}
	return "-"
}

// String returns the sentence that operators read in logs and replies.
func (w Why) String() string {
	switch w {
	case WhyNone:
		return ""
	case WhyNoRoute:
		return "no route matches"
	case WhyNoCluster:
		return "the route's cluster does not exist"
	case WhyNoEndpoint:
		return "no healthy endpoint"
	case WhyConnectFailed:
		return "cannot connect to the endpoint"
	case WhyUpstreamClosed:
		return "the provider closed the connection before its answer"
	case WhyDownstreamGone:
		return "the consumer left before the answer"
	case WhyOverflow:
		return "a limit of the workload is reached"
	case WhyTooLarge:
		return "the frame is larger than the limit"
	case WhyShuttingDown:
		return "the proxy is stopping"
	case WhyProtocolError:
		return "the bytes are not a frame"
	case WhyIdleTimeout:
		return "no progress within the time limit"
	case WhyTimeout:
		return "no answer within the time limit"
	case WhyDenied:
		return "denied by policy"
	case WhyOverload:
		return "the proxy's memory is nearly used up"
	case WhyRetryLimit:
		return "the cluster has as many retries in flight as it may"
	case WhyLimited:
		return "a rate limit is reached"
	case WhyFault:
		return "a fault is injected"
	case WhyDirect:
		return "the route answers by itself"
	case WhyLimitUnknown:
		return "the rate limit service does not answer"
	case WhyNoIdentity:
		return "the workload has no certificate for mutual TLS"
	case WhyUntrusted:
		return "mutual TLS could not be agreed with the peer"
	case WhyPlaintext:
		return "the port takes mutual TLS only"
	case numWhys:
	}
	return ""
}

// Peer is one end of a call as the labels of metrics and logs know it. Empty
// strings are reported as "unknown".
type Peer struct {
	Workload       string // Istio's workload name: the pod's owner, else its name
	Pod            string
	Namespace      string
	ServiceAccount string
	App            string // label app
	Version        string // label version
	Address        netip.Addr
}

// Service is the called service as Istio's destination_service* labels know it.
type Service struct {
	Host      string // provider.shop.svc.cluster.local
	Name      string // provider
	Namespace string // shop
}

// Reporter is a set of sides for which a call is counted. One proxy that serves
// both pods of a call counts it for both sides, as two sidecars would.
type Reporter uint8

// The sides.
const (
	ReporterSource Reporter = 1 << iota
	ReporterDestination
)

// String returns "source", "destination" or, for a call that one proxy counts
// for both sides, "both".
func (r Reporter) String() string {
	switch r {
	case ReporterSource:
		return "source"
	case ReporterDestination:
		return "destination"
	case ReporterSource | ReporterDestination:
		return "both"
	}
	return "unknown"
}

// Call holds what all requests of one kind have in common: same consumer, same
// service and endpoint, same interface and method. It is made once and kept by
// the connection that uses it, so that a request costs no look-up. Immutable
// after telemetry has prepared it.
type Call struct {
	Protocol    Protocol
	Reporter    Reporter
	Source      *Peer
	Destination *Peer // nil when no endpoint was chosen
	Service     Service
	Interface   string
	Method      string // of a generic call the method that it names
	Generic     bool   // it came as $invoke or $invokeAsync
	Version     string
	Application string         // the consumer's own name; "" unless a metric asks for it
	Listener    string         // snapshot listener name
	Route       string         // name of the matched route
	Cluster     string         // chosen cluster
	Endpoint    netip.AddrPort // chosen endpoint
	Original    netip.AddrPort // what the consumer dialled
	SameNode    bool           // the same-node short cut was used
	// Security is how the two ends know each other, and the principals whom they know
	// each other as; "" where that is not known.
	Security                              Security
	SourcePrincipal, DestinationPrincipal string
	// Would is why the policies of a workload that is only observed would have refused
	// it, WhyDenied or WhyLimited, and WouldBy the policy's or the limit's name.
	Would   Why
	WouldBy string
	// Told is what the configuration says of the telemetry of such calls; nil: nothing.
	Told *report.Told
	// Observer is set by telemetry.Recorder.Prepare.
	Observer Observer
}

// Observer takes the records of one Call. Observe must not keep the Record and
// must not allocate when logging is off. Safe for concurrent use.
type Observer interface {
	Observe(r *Record)
}

// Connection tells of one opaque TCP connection; it is recorded once when it
// opens and once when it closes (Closed set).
type Connection struct {
	Call       *Call
	Why        Why
	Start      time.Time
	Duration   time.Duration
	Sent       int64 // bytes from the provider to the consumer
	Received   int64 // bytes from the consumer to the provider
	Downstream netip.AddrPort
	Policy     string // as of Record
	Shadow     string
	Closed     bool
}
