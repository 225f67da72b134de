package accesslog

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/dubway/dubway/l7proxy/rpc"
)

// maxText is how much of a text from the wire a line quotes, in bytes.
const maxText = 1 << 10

// timeForm is Istio's form of start_time.
const timeForm = "2006-01-02T15:04:05.000Z07:00"

// appendRequest appends the line of a request: Istio's field names, then Dubbo's
// attributes, then what only this mesh knows.
func appendRequest(b []byte, fixed string, rec *rpc.Record) []byte {
	b = appendTime(append(b, '{'), rec.Start)
	b = appendMillis(b, "duration", rec.Duration)
	b = appendMillis(b, "overhead", rec.Overhead)
	b = appendInt(b, "response_code", int64(rec.Status))
	b = appendText(b, "response_flags", rpc.Flags(rec.Why, rec.Delayed))
	b = appendText(b, "response_code_details", details(rec.Result, rec.Why))
	b = appendInt(b, "bytes_received", int64(rec.RequestBytes))
	b = appendInt(b, "bytes_sent", int64(rec.ResponseBytes))
	b = appendKey(b, "request_id")
	b = append(strconv.AppendUint(append(b, '"'), rec.ID, 10), '"') // 64 bits: no JSON number
	b = appendText(b, "dubbo_status", StatusName(rec.Status))
	b = appendText(b, "dubbo_result", rec.Result.String())
	b = appendText(b, "dubbo_exception", rec.Exception)
	b = appendText(b, "dubbo_serialization", SerializationName(rec.Serialization))
	b = appendAddress(b, "downstream_remote_address", rec.Downstream)
	b = appendPolicy(b, rec.Policy, rec.Shadow)
	if rec.Lane {
		b = strconv.AppendBool(appendKey(b, "lane"), true)
	}
	return append(append(b, fixed...), '}', '\n')
}

// appendConnection appends the line of an opaque connection that closed.
func appendConnection(b []byte, c *rpc.Connection) []byte {
	b = appendTime(append(b, '{'), c.Start)
	b = appendMillis(b, "duration", c.Duration)
	b = appendInt(b, "response_code", 0)
	b = appendText(b, "response_flags", c.Why.Flag())
	b = appendText(b, "response_code_details", c.Why.String())
	b = appendInt(b, "bytes_received", c.Received)
	b = appendInt(b, "bytes_sent", c.Sent)
	b = appendAddress(b, "downstream_remote_address", c.Downstream)
	b = appendPolicy(b, c.Policy, c.Shadow)
	return append(appendCall(b, c.Call), '}', '\n')
}

// appendPolicy appends what policies said, where any did.
func appendPolicy(b []byte, policy, shadow string) []byte {
	if policy != "" {
		b = appendText(b, "policy", policy)
	}
	if shadow != "" {
		b = appendText(b, "shadow_denied_by", shadow)
	}
	return b
}

// Fixed returns the part of a line that is the same for every record of a call.
func Fixed(c *rpc.Call) string { return string(appendCall(nil, c)) }

func appendCall(b []byte, c *rpc.Call) []byte {
	b = appendText(b, "protocol", c.Protocol.String())
	b = appendText(b, "reporter", c.Reporter.String())
	b = appendAddress(b, "downstream_local_address", c.Original)
	b = appendAddress(b, "upstream_host", c.Endpoint)
	b = appendText(b, "upstream_cluster", c.Cluster)
	b = appendText(b, "route_name", c.Route)
	b = appendText(b, "listener", c.Listener)
	switch c.Protocol { //nolint:exhaustive // the rest has no calls
	case rpc.ProtocolThrift:
		b = appendText(b, "thrift_service", c.Interface)
		b = appendText(b, "thrift_method", c.Method)
	case rpc.ProtocolDubbo:
		b = appendText(b, "dubbo_interface", c.Interface)
		b = appendText(b, "dubbo_method", c.Method)
		b = appendText(b, "dubbo_version", c.Version)
		b = strconv.AppendBool(appendKey(b, "dubbo_generic"), c.Generic)
		if c.Application != "" { // somebody asked
			b = appendText(b, "dubbo_consumer_application", c.Application)
		}
	}
	switch c.Would {
	case rpc.WhyDenied:
		b = appendText(appendText(b, "would", "would_deny"), "would_by", c.WouldBy)
	case rpc.WhyLimited:
		b = appendText(appendText(b, "would", "would_limit"), "would_by", c.WouldBy)
	default:
	}
	b = appendText(b, "destination_service", c.Service.Host)
	b = appendPeer(b, "source", c.Source)
	b = appendPeer(b, "destination", c.Destination)
	if c.Security != rpc.SecurityNone {
		b = appendText(b, "connection_security_policy", c.Security.String())
		b = appendText(b, "source_principal", c.SourcePrincipal)
		b = appendText(b, "destination_principal", c.DestinationPrincipal)
	}
	b = appendKey(b, "same_node")
	return strconv.AppendBool(b, c.SameNode)
}

func appendPeer(b []byte, end string, p *rpc.Peer) []byte {
	if p == nil {
		p = &rpc.Peer{}
	}
	b = appendText(b, end+"_workload", p.Workload)
	b = appendText(b, end+"_workload_namespace", p.Namespace)
	return appendText(b, end+"_pod", p.Pod)
}

// details is Envoy's response_code_details: who made the answer, and why.
func details(result rpc.Result, why rpc.Why) string {
	switch {
	case why != rpc.WhyNone:
		return why.String()
	case result == rpc.ResultValue, result == rpc.ResultException, result == rpc.ResultError:
		return "via_upstream"
	}
	return ""
}

func appendTime(b []byte, t time.Time) []byte {
	b = appendKey(b, "start_time")
	return append(t.UTC().AppendFormat(append(b, '"'), timeForm), '"')
}

// appendMillis appends milliseconds with three decimals: whole ones, as Istio's,
// would be 0 for most calls.
func appendMillis(b []byte, key string, d time.Duration) []byte {
	return strconv.AppendFloat(appendKey(b, key), float64(d)/float64(time.Millisecond), 'f', 3, 64)
}

func appendInt(b []byte, key string, v int64) []byte {
	return strconv.AppendInt(appendKey(b, key), v, 10)
}

// appendAddress appends an address, or null.
func appendAddress(b []byte, key string, a netip.AddrPort) []byte {
	b = appendKey(b, key)
	if !a.IsValid() {
		return append(b, "null"...)
	}
	return append(a.AppendTo(append(b, '"')), '"')
}

// appendText appends a string, or null for none, as Istio's log does.
func appendText(b []byte, key, value string) []byte {
	b = appendKey(b, key)
	if value == "" {
		return append(b, "null"...)
	}
	return appendString(b, value)
}

// appendKey appends a field's name, which needs no escaping.
func appendKey(b []byte, key string) []byte {
	if n := len(b); n == 0 || b[n-1] != '{' {
		b = append(b, ',')
	}
	return append(append(append(b, '"'), key...), '"', ':')
}

// appendString appends a JSON string. The text may be any bytes from the wire:
// no quote, control character, line end or half a rune gets out of it, and no
// more than maxText.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	rest := ""
	if len(s) > maxText {
		s, rest = s[:maxText], "..."
	}
	b = append(b, '"')
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(b, `\ufffd`...)
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ' || r == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&0xf])
		case r == '\u0085' || r == '\u2028' || r == '\u2029': // line ends to some readers
			b = append(b, '\\', 'u', hex[r>>12], hex[r>>8&0xf], hex[r>>4&0xf], hex[r&0xf])
		default:
			b = append(b, s[i:i+size]...)
		}
		i += size
	}
	return append(append(b, rest...), '"')
}
