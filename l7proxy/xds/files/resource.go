package files

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	limitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	dubbov3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/dubbo_proxy/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networklimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/local_ratelimit/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	leastv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	maglevv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/maglev/v3"
	randomv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/random/v3"
	ringv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/ring_hash/v3"
	roundv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	wrrv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/wrr_locality/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"istio.io/api/envoy/extensions/stats"

	"github.com/dubway/dubway/l7proxy/xds/metaprotocol"
	"github.com/dubway/dubway/l7proxy/xds/problems"
	"github.com/dubway/dubway/l7proxy/xds/typed"
)

// kinds are the resources that can be read, with the field of their name.
var kinds = map[protoreflect.FullName]struct {
	message proto.Message
	name    []string
}{
	"envoy.config.listener.v3.Listener":              {(*listenerv3.Listener)(nil), []string{"name"}},
	"envoy.config.route.v3.RouteConfiguration":       {(*routev3.RouteConfiguration)(nil), []string{"name"}},
	"envoy.config.cluster.v3.Cluster":                {(*clusterv3.Cluster)(nil), []string{"name"}},
	MetaRoute:                                        {(*metaprotocol.RouteConfiguration)(nil), []string{"name"}},
	"envoy.config.endpoint.v3.ClusterLoadAssignment": {(*endpointv3.ClusterLoadAssignment)(nil), []string{"cluster_name", "clusterName"}},
}

// MetaRoute is the type of Aeraki's tables.
const MetaRoute = "aeraki.meta_protocol_proxy.config.route.v1alpha.RouteConfiguration"

// KindOf is what resources of a type, or of its URL, are called: the last part of its name,
// but where another type has that too.
func KindOf(typ string) string {
	if strings.HasSuffix(typ, MetaRoute) {
		return "MetaRouteConfiguration"
	}
	return typ[strings.LastIndexByte(typ, '.')+1:]
}

// builtin holds the types that an Any may have. It is our own registry, so that
// what other packages link in changes nothing.
var builtin = registry((*hcmv3.HttpConnectionManager)(nil), (*tcpv3.TcpProxy)(nil),
	(*dubbov3.DubboProxy)(nil), (*structpb.Struct)(nil), (*stats.PluginConfig)(nil), (*celv3.ExpressionFilter)(nil),
	(*metaprotocol.MetaProtocolProxy)(nil), (*metaprotocol.LocalRateLimit)(nil), (*metaprotocol.RateLimit)(nil),
	(*networkrbacv3.RBAC)(nil), (*networklimitv3.LocalRateLimit)(nil),
	(*rbacv3.RBAC)(nil), (*rbacv3.RBACPerRoute)(nil), (*limitv3.LocalRateLimit)(nil),
	(*ratelimitv3.RateLimit)(nil), (*ratelimitv3.RateLimitPerRoute)(nil), (*faultv3.HTTPFault)(nil),
	(*roundv3.RoundRobin)(nil), (*randomv3.Random)(nil), (*leastv3.LeastRequest)(nil),
	(*ringv3.RingHash)(nil), (*maglevv3.Maglev)(nil), (*wrrv3.WrrLocality)(nil),
	(*tlsv3.UpstreamTlsContext)(nil), (*tlsv3.DownstreamTlsContext)(nil),
	(*tracev3.OpenTelemetryConfig)(nil))

func registry(messages ...proto.Message) *protoregistry.Types {
	types := new(protoregistry.Types)
	for _, m := range messages {
		// The only error is a duplicate, which a test would show.
		_ = types.RegisterMessage(m.ProtoReflect().Type())
	}
	return types
}

func isBuiltin(typ string) bool {
	_, err := builtin.FindMessageByName(protoreflect.FullName(typ))
	return err == nil
}

var unmarshal = protojson.UnmarshalOptions{Resolver: builtin}

// resource reads one resource from its JSON tree.
func resource(tree map[string]any) Resource {
	url, _ := tree["@type"].(string)
	typ := url[strings.LastIndexByte(url, '/')+1:]
	r := Resource{Type: url, Kind: KindOf(typ)}
	raw, err := json.Marshal(tree)
	if err != nil {
		r.Problems.Addf("", "%v", err)
		return r
	}
	r.Sum = sha256.Sum256(raw)
	kind, ok := kinds[protoreflect.FullName(typ)]
	if !ok {
		r.Name, _ = tree["name"].(string)
		r.Problems.Addf("@type", "%s: not a resource that is implemented", url)
		return r
	}
	for _, key := range kind.name {
		if name, ok := tree[key].(string); ok {
			r.Name = name
		}
	}
	m := kind.message.ProtoReflect().New().Interface()
	body := typed.Opaque(untyped(tree), isBuiltin)
	if err := read(body, m); err != nil {
		r.Problems = append(r.Problems, locate("", body, m.ProtoReflect().Descriptor(), err))
		return r
	}
	r.Message = m
	return r
}

// untyped returns the fields of an object without its type.
func untyped(tree map[string]any) map[string]any {
	body := maps.Clone(tree)
	delete(body, "@type")
	return body
}

func read(tree any, into proto.Message) error {
	text, err := json.Marshal(tree)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	return unmarshal.Unmarshal(text, into) //nolint:wrapcheck // reason makes it a sentence
}

// maxDepth bounds how deep locate looks: each level reads the tree again.
const maxDepth = 32

// locate finds the deepest place that makes tree no message of type d; err is
// what the whole of it failed with.
func locate(path string, tree any, d protoreflect.MessageDescriptor, err error) problems.Problem {
	if d.FullName() == "google.protobuf.Any" {
		return locateAny(path, tree, err)
	}
	object, ok := tree.(map[string]any)
	if strings.Count(path, ".") > maxDepth {
		ok = false // deep enough for any reader
	}
	if !ok || d.ParentFile().Package() == "google.protobuf" {
		return problems.Problem{Field: path, Reason: reason(err)}
	}
	for _, key := range sortedKeys(object) {
		fd := field(d, key)
		if fd == nil {
			return problems.Problem{Field: problems.Join(path, protoreflect.Name(key)), Reason: "no such field"}
		}
		bad := readAs(d, map[string]any{key: object[key]})
		if bad == nil {
			continue
		}
		at := problems.Join(path, fd.Name())
		return locateField(at, object[key], fd, bad)
	}
	return problems.Problem{Field: path, Reason: reason(err)}
}

func locateField(path string, tree any, fd protoreflect.FieldDescriptor, err error) problems.Problem {
	if fd.IsMap() {
		fd = fd.MapValue()
		if object, ok := tree.(map[string]any); ok && fd.Message() != nil {
			for _, key := range sortedKeys(object) {
				if bad := readAs(fd.Message(), object[key]); bad != nil {
					return locate(fmt.Sprintf("%s[%q]", path, key), object[key], fd.Message(), bad)
				}
			}
		}
		return problems.Problem{Field: path, Reason: reason(err)}
	}
	if fd.Message() == nil {
		return problems.Problem{Field: path, Reason: reason(err)}
	}
	entries, ok := tree.([]any)
	if !fd.IsList() || !ok {
		return locate(path, tree, fd.Message(), err)
	}
	for i, e := range entries {
		if bad := readAs(fd.Message(), e); bad != nil {
			return locate(fmt.Sprintf("%s[%d]", path, i), e, fd.Message(), bad)
		}
	}
	return problems.Problem{Field: path, Reason: reason(err)}
}

// locateAny goes into an Any of a type that is built in.
func locateAny(path string, tree any, err error) problems.Problem {
	object, _ := tree.(map[string]any)
	url, _ := object["@type"].(string)
	t, notFound := builtin.FindMessageByURL(url)
	if notFound != nil || t.Descriptor().FullName() == "google.protobuf.Struct" {
		return problems.Problem{Field: path, Reason: reason(err)}
	}
	return locate(path, untyped(object), t.Descriptor(), err)
}

// readAs reads tree as a message of type d, to see whether it can.
func readAs(d protoreflect.MessageDescriptor, tree any) error {
	if d.FullName() == "google.protobuf.Any" {
		return read(tree, new(anypb.Any))
	}
	t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		return fmt.Errorf("find message: %w", err)
	}
	return read(tree, t.New().Interface())
}

// field finds a field by its name in proto or in JSON.
func field(d protoreflect.MessageDescriptor, key string) protoreflect.FieldDescriptor {
	if fd := d.Fields().ByName(protoreflect.Name(key)); fd != nil {
		return fd
	}
	return d.Fields().ByJSONName(key)
}

var position = regexp.MustCompile(`^proto:[\s\x{a0}]+(?:syntax error )?\(line \d+:\d+\): `)

// reason cuts off the position in a text that nobody has seen. (protojson puts
// one of two kinds of blank before it, so that nobody relies on its words.)
func reason(err error) string {
	return position.ReplaceAllString(err.Error(), "")
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
