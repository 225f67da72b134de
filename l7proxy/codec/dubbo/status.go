package dubbo

import (
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// The statuses of answers, as Dubbo's Response.java has them. Any other value
// may come from a provider.
const (
	StatusOK                       = codec.StatusOK
	StatusSerializationError  byte = 25
	StatusClientTimeout       byte = 30
	StatusServerTimeout       byte = 31
	StatusChannelInactive     byte = 35
	StatusBadRequest          byte = 40
	StatusBadResponse         byte = 50
	StatusServiceNotFound     byte = 60
	StatusServiceError        byte = 70
	StatusServerError         byte = 80
	StatusClientError         byte = 90
	StatusThreadpoolExhausted byte = 100
)

// StatusName returns the status' name in lower case, and "unknown" for a status
// that Dubbo does not define.
func StatusName(status byte) string {
	switch status {
	case StatusOK:
		return "ok"
	case StatusSerializationError:
		return "serialization_error"
	case StatusClientTimeout:
		return "client_timeout"
	case StatusServerTimeout:
		return "server_timeout"
	case StatusChannelInactive:
		return "channel_inactive"
	case StatusBadRequest:
		return "bad_request"
	case StatusBadResponse:
		return "bad_response"
	case StatusServiceNotFound:
		return "service_not_found"
	case StatusServiceError:
		return "service_error"
	case StatusServerError:
		return "server_error"
	case StatusClientError:
		return "client_error"
	case StatusThreadpoolExhausted:
		return "threadpool_exhausted"
	}
	return "unknown"
}

// Outcome tells what an answer's status says about its provider. OK says that it
// works, whatever the body holds: a business exception is a result. What the request
// itself brought about (BAD_REQUEST, CLIENT_ERROR, SERVICE_NOT_FOUND, and the two of
// data that cannot be written, SERIALIZATION_ERROR and BAD_RESPONSE), or what Dubbo
// does not define, says nothing against it.
func Outcome(status byte) rpc.Outcome {
	switch status {
	case StatusServiceError, StatusServerError:
		return rpc.OutcomeError
	case StatusServerTimeout, StatusThreadpoolExhausted, StatusChannelInactive, StatusClientTimeout:
		// The last two come from a provider that is itself a proxy or a gateway.
		return rpc.OutcomeUnavailable
	}
	return rpc.OutcomeOK
}
