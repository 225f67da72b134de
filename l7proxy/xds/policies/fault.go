package policies

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"

	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/conditions"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// Fault converts the configuration of a fault filter, called name, of a listener or a
// route, that fields.Examine has passed. The result is never nil, and means nothing
// where a problem was added.
func Fault(p *problems.List, path, name string, config *anypb.Any) *snapshot.Fault {
	out := &snapshot.Fault{Name: name, Most: math.MaxUint32}
	m := new(faultv3.HTTPFault)
	if !p.Unpack(path, config, m) {
		return out
	}
	out.Cluster = m.GetUpstreamCluster()
	if d := m.GetDelay(); d != nil {
		out.Delay, out.Delayed = d.GetFixedDelay().AsDuration(), conditions.Millionths(d.GetPercentage())
	}
	if a := m.GetAbort(); a != nil {
		out.Abort, out.Aborted = abort(p, path+".abort", a), conditions.Millionths(a.GetPercentage())
	}
	if most := m.GetMaxActiveFaults(); most != nil {
		out.Most = most.GetValue()
	}
	for i, h := range m.GetHeaders() {
		one := conditions.Header(p, fmt.Sprintf("%s.headers[%d]", path, i), h)
		out.Headers = append(out.Headers, one)
		out.Needs |= one.Needs()
	}
	return out
}

func abort(p *problems.List, path string, m *faultv3.FaultAbort) *snapshot.Abort {
	out := &snapshot.Abort{Message: m.GetResponseBody()}
	switch spec := m.GetErrorType().(type) {
	case *faultv3.FaultAbort_HttpStatus:
		return Status(p, path+".http_status", spec.HttpStatus, m.GetResponseBody())
	case *faultv3.FaultAbort_GrpcStatus:
		if spec.GrpcStatus == 0 || spec.GrpcStatus > 16 {
			p.Addf(path+".grpc_status", "is %d, not from 1 to 16", spec.GrpcStatus)
		}
		out.Class = dubbo.RPCException
		out.Code, out.Status = codeOf(spec.GrpcStatus)
	}
	return out
}

// Status converts an HTTP status, at path, that consumers get in their provider's stead.
func Status(p *problems.List, path string, http uint32, message string) *snapshot.Abort {
	if http < 400 {
		p.Addf(path, "is %d: a Dubbo answer that is no error has a value, which nobody knows here", http)
	}
	if len(message) > maxMessage {
		p.Addf(path, "its text has %d bytes, more than %d", len(message), maxMessage)
	}
	return &snapshot.Abort{Status: statusOf(http), Message: message}
}

// statusOf is the Dubbo status for an HTTP status that is an error.
func statusOf(http uint32) byte {
	switch {
	case http == 404:
		return dubbo.StatusServiceNotFound
	case http == 408, http == 504:
		return dubbo.StatusServerTimeout
	case http == 429, http == 503:
		return dubbo.StatusThreadpoolExhausted
	case http < 500:
		return dubbo.StatusBadRequest
	}
	return dubbo.StatusServerError
}

// codeOf is the code of the RpcException that Dubbo Java makes of a gRPC status
// (TriRpcStatus.triCodeToDubboCode of 3.3.6), and the status for who cannot be thrown
// one.
func codeOf(grpc uint32) (code, status byte) {
	switch grpc {
	case 4: // DEADLINE_EXCEEDED
		return 2, dubbo.StatusServerTimeout
	case 7: // PERMISSION_DENIED
		return 4, dubbo.StatusServiceError
	case 12: // UNIMPLEMENTED
		return 11, dubbo.StatusServiceNotFound
	case 14: // UNAVAILABLE
		return 1, dubbo.StatusServerError
	}
	return 0, dubbo.StatusServiceError
}

// isClass tells the name of a Java class in a package, nested or not.
var isClass = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_$]*)+$`)

// maxMessage bounds what an abort says, in bytes.
const maxMessage = 4 << 10

// Abort converts what a route's metadata say an abort is: {status} or {exception}, and
// perhaps {message}. It returns nil for nothing.
func Abort(p *problems.List, path string, v *structpb.Value) *snapshot.Abort {
	all := v.GetStructValue().GetFields()
	if len(all) == 0 {
		p.Addf(path, "is neither {status: N} nor {exception: CLASS}")
		return nil
	}
	out := new(snapshot.Abort)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		at, one := path+"."+key, all[key]
		switch key {
		case "status":
			n := one.GetNumberValue()
			if n != math.Trunc(n) || n < 0 || n > math.MaxUint8 || dubbo.StatusName(byte(n)) == "unknown" || byte(n) == dubbo.StatusOK {
				p.Addf(at, "is no Dubbo status, or 20, which is OK")
			} else {
				out.Status = byte(n)
			}
		case "exception":
			if out.Class = one.GetStringValue(); !isClass.MatchString(out.Class) || len(out.Class) > dubbo.MaxClass {
				p.Addf(at, "%.300q is no class of Java with its package", out.Class)
			}
		case "message":
			if out.Message = one.GetStringValue(); out.Message == "" || len(out.Message) > maxMessage {
				p.Addf(at, "is no text of 1 to %d bytes", maxMessage)
			}
		default:
			p.Addf(at, "not implemented")
		}
	}
	_, hasStatus := all["status"]
	_, throws := all["exception"]
	switch {
	case hasStatus && throws:
		p.Addf(path, "has both status and exception")
	case throws:
		out.Status = dubbo.StatusServiceError
	case !hasStatus:
		p.Addf(path, "is neither {status: N} nor {exception: CLASS}")
	}
	return out
}
