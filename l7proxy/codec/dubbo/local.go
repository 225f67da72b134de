package dubbo

import (
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// local is what a reason becomes on the wire.
type local struct {
	// throw says that the consumer must not try again: an exception with this
	// code, if the request's serialization can be written.
	throw bool
	code  Code
	// status is that of the other form, which Java retries.
	status byte
}

// localOf is the one place that decides how a consumer reads a reason.
// docs/local-replies.md says what each consumer makes of it.
//
// A consumer tries again where that can help, as it would without us: another of
// its addresses, or a moment later. It must not where it can only add load: what
// is refused, too large or unreadable is so the second time too.
func localOf(why rpc.Why) local {
	switch why {
	case rpc.WhyNoRoute, rpc.WhyNoCluster:
		return local{throw: true, code: CodeNoInvoker, status: StatusServiceNotFound}
	case rpc.WhyTooLarge, rpc.WhyProtocolError:
		return local{throw: true, code: CodeSerialization, status: StatusBadRequest}
	case rpc.WhyOverload, rpc.WhyOverflow, rpc.WhyLimited, rpc.WhyLimitUnknown:
		return local{throw: true, code: CodeLimitExceeded, status: StatusThreadpoolExhausted}
	case rpc.WhyDenied:
		return local{throw: true, code: CodeAuthorization, status: StatusServiceError}
	case rpc.WhyTimeout, rpc.WhyIdleTimeout:
		return local{status: StatusServerTimeout}
	case rpc.WhyNone, rpc.WhyNoEndpoint, rpc.WhyConnectFailed, rpc.WhyUpstreamClosed,
		rpc.WhyDownstreamGone, rpc.WhyShuttingDown, rpc.WhyRetryLimit, rpc.WhyFault, rpc.WhyDirect,
		rpc.WhyNoIdentity, rpc.WhyUntrusted, rpc.WhyPlaintext:
	}
	return local{status: StatusServerError}
}

// AppendLocal appends the answer to req that the mesh gives in the provider's
// stead, with a text for people, and returns its status. It is never empty.
func AppendLocal(dst []byte, req codec.Header, why rpc.Why, text string) (frame []byte, status byte) {
	form := localOf(why)
	if form.throw && CanThrow(req.Serialization()) {
		return AppendException(dst, req, Exception{RPCException, form.code, text}), StatusOK
	}
	return AppendError(dst, req, form.status, text), form.status
}
