package fields_test

import (
	"fmt"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	configv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
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
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"istio.io/api/envoy/extensions/stats"

	"github.com/dubway/dubway/l7proxy/xds/fields"
	"github.com/dubway/dubway/l7proxy/xds/metaprotocol"
)

// roots are the messages from which all others are reached.
var roots = []proto.Message{
	(*listenerv3.Listener)(nil), (*routev3.RouteConfiguration)(nil), (*clusterv3.Cluster)(nil),
	(*endpointv3.ClusterLoadAssignment)(nil), (*hcmv3.HttpConnectionManager)(nil), (*tcpv3.TcpProxy)(nil),
	(*dubbov3.DubboProxy)(nil), (*networkrbacv3.RBAC)(nil), (*rbacv3.RBACPerRoute)(nil),
	(*networklimitv3.LocalRateLimit)(nil), (*limitv3.LocalRateLimit)(nil), (*faultv3.HTTPFault)(nil),
	(*ratelimitv3.RateLimit)(nil), (*ratelimitv3.RateLimitPerRoute)(nil),
	(*dubbov3.DubboProxy)(nil),
	(*roundv3.RoundRobin)(nil), (*randomv3.Random)(nil), (*leastv3.LeastRequest)(nil), (*ringv3.RingHash)(nil),
	(*maglevv3.Maglev)(nil), (*wrrv3.WrrLocality)(nil), (*tlsv3.UpstreamTlsContext)(nil), (*tlsv3.DownstreamTlsContext)(nil),
	(*stats.PluginConfig)(nil), (*celv3.ExpressionFilter)(nil),
	(*metaprotocol.MetaProtocolProxy)(nil), (*metaprotocol.LocalRateLimit)(nil), (*metaprotocol.RateLimit)(nil),
}

// each calls f with every message of the table.
func each(t *testing.T, f func(t *testing.T, m fields.Message, of protoreflect.MessageType)) {
	t.Helper()
	for _, s := range fields.Sections() {
		for _, m := range s.Messages {
			t.Run(string(m.Name), func(t *testing.T) {
				of, err := protoregistry.GlobalTypes.FindMessageByName(m.Name)
				if err != nil {
					t.Fatal(err)
				}
				f(t, m, of)
			})
		}
	}
}

func TestTableNamesFields(t *testing.T) {
	each(t, func(t *testing.T, m fields.Message, of protoreflect.MessageType) {
		seen := make(map[protoreflect.Name]bool)
		for _, f := range m.Fields {
			if of.Descriptor().Fields().ByName(f.Name) == nil {
				t.Errorf("%s: no such field", f.Name)
			}
			if seen[f.Name] {
				t.Errorf("%s: twice in the table", f.Name)
			}
			seen[f.Name] = true
			if f.Status == fields.Accepted && f.Note == "" {
				t.Errorf("%s: accepted without a reason", f.Name)
			}
		}
	})
}

// TestTableIsWhole walks what is implemented from the roots: each message on
// the way is in the table, and each of the table is on the way.
func TestTableIsWhole(t *testing.T) {
	table := make(map[protoreflect.FullName]fields.Message)
	for _, s := range fields.Sections() {
		for _, m := range s.Messages {
			table[m.Name] = m
		}
	}
	reached := make(map[protoreflect.FullName]bool)
	var visit func(d protoreflect.MessageDescriptor)
	visit = func(d protoreflect.MessageDescriptor) {
		if reached[d.FullName()] || d.ParentFile().Package() == "google.protobuf" {
			return
		}
		reached[d.FullName()] = true
		m, ok := table[d.FullName()]
		if !ok {
			t.Errorf("%s is reached, but not in the table", d.FullName())
		}
		for _, f := range m.Fields {
			fd := d.Fields().ByName(f.Name)
			if f.Status != fields.Implemented || f.Loose || fd == nil {
				continue
			}
			if fd.IsMap() {
				fd = fd.MapValue()
			}
			if fd.Message() != nil {
				visit(fd.Message())
			}
		}
	}
	for _, r := range roots {
		visit(r.ProtoReflect().Descriptor())
	}
	for name := range table {
		if !reached[name] {
			t.Errorf("%s is in the table, but nothing leads to it", name)
		}
	}
}

// TestEveryOtherFieldIsRejected sets each field that the table leaves out, one
// at a time, and expects exactly its path.
func TestEveryOtherFieldIsRejected(t *testing.T) {
	count := 0
	each(t, func(t *testing.T, m fields.Message, of protoreflect.MessageType) {
		known := make(map[protoreflect.Name]bool)
		for _, f := range m.Fields {
			known[f.Name] = true
		}
		all := of.Descriptor().Fields()
		for i := range all.Len() {
			fd := all.Get(i)
			if known[fd.Name()] {
				continue
			}
			one := of.New()
			set(one, fd)
			got := fields.Check(one.Interface())
			want := fmt.Sprintf("[%s: not implemented]", fd.Name())
			if fmt.Sprint(got) != want {
				t.Errorf("%s: got %v", fd.Name(), got)
			}
			count++
		}
	})
	if count < 100 {
		t.Errorf("only %d fields were tried", count)
	}
}

// TestAcceptedFieldsAreNotWalked sets each accepted field.
func TestAcceptedFieldsAreNotWalked(t *testing.T) {
	each(t, func(t *testing.T, m fields.Message, of protoreflect.MessageType) {
		for _, f := range m.Fields {
			if f.Status != fields.Accepted {
				continue
			}
			one := of.New()
			set(one, of.Descriptor().Fields().ByName(f.Name))
			if got := fields.Check(one.Interface()); len(got) > 0 {
				t.Errorf("%s: %v", f.Name, got)
			}
		}
	})
}

func TestUnknownFieldOnTheWire(t *testing.T) {
	m := new(routev3.RouteConfiguration)
	m.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 9999, protowire.VarintType), 1))
	if got := fields.Check(m); len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

// TestDepth: rules that hold rules end somewhere.
func TestDepth(t *testing.T) {
	nested := func(depth int) *configv3.Permission {
		p := &configv3.Permission{Rule: &configv3.Permission_Any{Any: true}}
		for range depth {
			p = &configv3.Permission{Rule: &configv3.Permission_NotRule{NotRule: p}}
		}
		return p
	}
	if got := fields.Check(nested(100)); len(got) > 0 {
		t.Errorf("100 levels: %v", got)
	}
	if got := fields.Check(nested(9000)); len(got) != 1 || got[0].Reason != "nests too deep" || len(got[0].Field) > 5000 {
		t.Errorf("9000 levels: %d problems", len(got))
	}
}

// set gives a field some value that is not its default.
func set(m protoreflect.Message, fd protoreflect.FieldDescriptor) {
	switch {
	case fd.IsMap():
		entries := m.Mutable(fd).Map()
		key := scalar(fd.MapKey()).MapKey()
		if fd.MapValue().Message() != nil {
			entries.Set(key, entries.NewValue())
			return
		}
		entries.Set(key, scalar(fd.MapValue()))
	case fd.IsList():
		l := m.Mutable(fd).List()
		if fd.Message() != nil {
			l.AppendMutable()
			return
		}
		l.Append(scalar(fd))
	case fd.Message() != nil:
		m.Mutable(fd)
	default:
		m.Set(fd, scalar(fd))
	}
}

func scalar(fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("x")
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte("x"))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(fd.Enum().Values().Get(fd.Enum().Values().Len() - 1).Number())
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(1)
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(1)
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(1)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(1)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(1)
	}
	return fd.Default()
}
