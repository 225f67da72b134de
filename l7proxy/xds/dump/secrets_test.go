package dump_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cncf/xds/go/udpa/annotations"
	udpav1 "github.com/cncf/xds/go/udpa/type/v1"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/dubway/dubway/l7proxy/xds/dump"
)

// canary is what must never be seen. Its base64, as bytes are written, is no part of itself.
const canary = "c4n4ry"

// written is a dump of one listener whose filter is m.
func written(t *testing.T, m proto.Message) string {
	t.Helper()
	config, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	l := &listenerv3.Listener{Name: "l", FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
		Name: "f", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: config},
	}}}}}
	return writtenAs(t, l)
}

func writtenAs(t *testing.T, m proto.Message) string {
	t.Helper()
	var b bytes.Buffer
	if err := dump.Write(&b, &dump.View{Held: held(resource(t, "l", m))}, dump.Limit); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// hides fails if a dump shows the canary, in any form that JSON has for it, or does not hold
// what it must.
func hides(t *testing.T, what, text string) {
	t.Helper()
	for _, form := range []string{canary, "YzRuNHJ5", "M0bjRye", "NG40cn"} { // of bytes, at any offset
		if strings.Contains(text, form) {
			t.Errorf("%s shows it: %s", what, text)
		}
	}
}

func structOf(t *testing.T, tree map[string]any) *structpb.Struct {
	t.Helper()
	s, err := structpb.NewStruct(tree)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestMarkedSecrets plants one in every field that Envoy's API marks as sensitive, of every
// message that is linked in.
func TestMarkedSecrets(t *testing.T) {
	found := 0
	protoregistry.GlobalTypes.RangeMessages(func(mt protoreflect.MessageType) bool {
		fields := mt.Descriptor().Fields()
		for i := range fields.Len() {
			fd := fields.Get(i)
			if is, _ := proto.GetExtension(fd.Options(), annotations.E_Sensitive).(bool); !is {
				continue
			}
			m := mt.New()
			plant(m, fd, canary)
			found++
			hides(t, string(fd.FullName()), written(t, m.Interface()))
		}
		return true
	})
	if found < 5 {
		t.Errorf("%d fields: this test looks at nothing", found)
	}
}

// TestKeysAnywhere plants a private key into every text of every message that resources are
// made of: whatever the field is called, a key is never shown.
func TestKeysAnywhere(t *testing.T) {
	const key = "-----BEGIN EC PRIVATE KEY-----\n" + canary + "\n-----END EC PRIVATE KEY-----\n"
	found := 0
	protoregistry.GlobalTypes.RangeMessages(func(mt protoreflect.MessageType) bool {
		if !strings.HasPrefix(string(mt.Descriptor().FullName()), "envoy.") {
			return true
		}
		fields := mt.Descriptor().Fields()
		for i := range fields.Len() {
			fd := fields.Get(i)
			if fd.IsMap() || fd.Kind() != protoreflect.StringKind && fd.Kind() != protoreflect.BytesKind {
				continue
			}
			m := mt.New()
			plant(m, fd, key)
			found++
			hides(t, string(fd.FullName()), written(t, m.Interface()))
		}
		return true
	})
	if found < 300 {
		t.Errorf("%d fields: this test looks at nothing", found)
	}
}

// plant sets a field to a text, or to a message whose first text it is.
func plant(m protoreflect.Message, fd protoreflect.FieldDescriptor, text string) {
	value := func() protoreflect.Value {
		switch {
		case fd.Kind() == protoreflect.StringKind:
			return protoreflect.ValueOfString(text)
		case fd.Kind() == protoreflect.BytesKind:
			return protoreflect.ValueOfBytes([]byte(text))
		}
		return protoreflect.Value{}
	}
	switch {
	case fd.IsMap():
	case fd.IsList() && fd.Message() != nil:
		list := m.Mutable(fd).List()
		inner := list.NewElement()
		fill(inner.Message(), text)
		list.Append(inner)
	case fd.IsList():
		m.Mutable(fd).List().Append(value())
	case fd.Message() != nil:
		fill(m.Mutable(fd).Message(), text)
	case value().IsValid():
		m.Set(fd, value())
	}
}

// fill gives a message a text that it can have.
func fill(m protoreflect.Message, text string) {
	switch known := m.Interface().(type) {
	case *structpb.Struct:
		known.Fields = map[string]*structpb.Value{"any": structpb.NewStringValue(text)}
		return
	case *anypb.Any:
		_ = known.MarshalFrom(&corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: text}})
		return
	}
	fields := m.Descriptor().Fields()
	for _, name := range []protoreflect.Name{"inline_string", "value", "name"} {
		if fd := fields.ByName(name); fd != nil && fd.Kind() == protoreflect.StringKind {
			m.Set(fd, protoreflect.ValueOfString(text))
			return
		}
	}
}

// TestPlantedSecrets plants one wherever a resource that the proxy reads can have it and no
// mark of Envoy's says so.
func TestPlantedSecrets(t *testing.T) {
	header := func(name string) *corev3.HeaderValue { return &corev3.HeaderValue{Key: name, Value: canary} }
	raw := &corev3.HeaderValue{Key: "Authorization", RawValue: []byte(canary)}
	service := &corev3.GrpcService{InitialMetadata: []*corev3.HeaderValue{header("x-api-key")}, TargetSpecifier: &corev3.GrpcService_GoogleGrpc_{
		GoogleGrpc: &corev3.GrpcService_GoogleGrpc{CallCredentials: []*corev3.GrpcService_GoogleGrpc_CallCredentials{
			{CredentialSpecifier: &corev3.GrpcService_GoogleGrpc_CallCredentials_AccessToken{AccessToken: canary}},
			{CredentialSpecifier: &corev3.GrpcService_GoogleGrpc_CallCredentials_GoogleRefreshToken{GoogleRefreshToken: canary}},
			{CredentialSpecifier: &corev3.GrpcService_GoogleGrpc_CallCredentials_ServiceAccountJwtAccess{
				ServiceAccountJwtAccess: &corev3.GrpcService_GoogleGrpc_CallCredentials_ServiceAccountJWTAccessCredentials{JsonKey: canary}}},
			{CredentialSpecifier: &corev3.GrpcService_GoogleGrpc_CallCredentials_GoogleIam{
				GoogleIam: &corev3.GrpcService_GoogleGrpc_CallCredentials_GoogleIAMCredentials{AuthorizationToken: canary}}},
		}},
	}}
	certificate := &tlsv3.UpstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{TlsCertificates: []*tlsv3.TlsCertificate{{
		PrivateKey: &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: []byte(canary)}},
		Password:   &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: canary}},
	}}}}
	socket, err := anypb.New(certificate)
	if err != nil {
		t.Fatal(err)
	}
	metadata := &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"a": structOf(t, map[string]any{
		"password": canary, "deep": []any{map[string]any{"api-key": canary, "credentials": map[string]any{"user": canary, "n": 7.0}}},
		"headers": []any{map[string]any{"key": "authorization", "value": canary}},
		"url":     "https://user:" + canary + "@host/", "bearer": "Bearer " + canary + canary, "query": "/p?token=" + canary,
		"jwt": "eyJhbGciOiJIUzI1NiJ9." + canary + ".sig",
	})}}
	secretMatch := &routev3.HeaderMatcher{Name: "x-token", HeaderMatchSpecifier: &routev3.HeaderMatcher_ExactMatch{ExactMatch: canary}}
	route := &routev3.RouteConfiguration{Name: "r", RequestHeadersToAdd: []*corev3.HeaderValueOption{{Header: header("cookie")}, {Header: raw}},
		VirtualHosts: []*routev3.VirtualHost{{Name: "v", Domains: []string{"*"}, Routes: []*routev3.Route{{
			Metadata: metadata, Match: &routev3.RouteMatch{Headers: []*routev3.HeaderMatcher{secretMatch}},
		}}}}}
	typed := &udpav1.TypedStruct{TypeUrl: "type.googleapis.com/some.Filter", Value: structOf(t, map[string]any{"client_secret": canary})}
	for what, m := range map[string]proto.Message{
		"cluster": &clusterv3.Cluster{Name: "c", Metadata: metadata, TransportSocket: &corev3.TransportSocket{
			ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: socket}}},
		"health check": &clusterv3.Cluster{Name: "c", HealthChecks: []*corev3.HealthCheck{{HealthChecker: &corev3.HealthCheck_HttpHealthCheck_{
			HttpHealthCheck: &corev3.HealthCheck_HttpHealthCheck{RequestHeadersToAdd: []*corev3.HeaderValueOption{{Header: header("authorization")}}}}}}},
		"endpoint": &endpointv3.ClusterLoadAssignment{ClusterName: "e", Endpoints: []*endpointv3.LocalityLbEndpoints{{
			LbEndpoints: []*endpointv3.LbEndpoint{{Metadata: metadata}}}}},
		"route":    route,
		"listener": &listenerv3.Listener{Name: "l", Metadata: metadata},
	} {
		hides(t, what, writtenAs(t, m))
	}
	hides(t, "gRPC service", written(t, service))
	hides(t, "TypedStruct", written(t, typed))
	hides(t, "Struct", written(t, structOf(t, map[string]any{"@type": "x", "private_key": canary})))
	unknown := &anypb.Any{TypeUrl: "type.googleapis.com/nobody.Knows", Value: []byte(canary)}
	text := writtenAs(t, &listenerv3.Listener{Name: "l", FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: unknown}}}}}})
	hides(t, "unknown type", text)
	if !strings.Contains(text, "nobody.Knows") {
		t.Errorf("the type's name is gone: %s", text)
	}
	late := &clusterv3.Cluster{Name: "c"}
	late.ProtoReflect().SetUnknown(append([]byte{0xfa, 0x7f, byte(len(canary))}, canary...))
	hides(t, "unknown field", writtenAs(t, late))
}

// TestWhatIsNoSecret: a dump without what is wrong in it helps nobody.
func TestWhatIsNoSecret(t *testing.T) {
	text := writtenAs(t, &routev3.RouteConfiguration{Name: "shown-name", VirtualHosts: []*routev3.VirtualHost{{Name: "v", Domains: []string{"shown-domain"},
		RequestHeadersToAdd: []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "env", Value: "shown-value"}}},
		Metadata: &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"istio": structOf(t, map[string]any{
			"config": "shown-config", "max_tokens": 77, "token_bucket": map[string]any{"fill_interval": "shown-interval"}})}},
	}}})
	for _, want := range []string{"shown-name", "shown-domain", "shown-value", "shown-config", "77", "shown-interval"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is gone: %s", want, text)
		}
	}
}
