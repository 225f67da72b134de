// Package tracers turns the tracing of a connection manager into that of package
// snapshot/tracing. What it does not know is no reason to refuse the listener, whose
// traffic would be lost for it: it becomes a problem of the result, by its name.
package tracers

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"weak"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tracingv3 "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/tracing"
	"github.com/dubway/dubway/l7proxy/xds/typed"
)

// ours is the type of the only tracer that is implemented.
const ours = "envoy.config.trace.v3.OpenTelemetryConfig"

// shelf has each Tracing once: a control plane says the same of each of thousands of
// listeners.
type shelf struct {
	mu   sync.Mutex
	kept map[[sha256.Size]byte]weak.Pointer[tracing.Tracing] // by the message's bytes
}

// shared has what listeners of all views have in common. It holds nothing that no snapshot
// holds.
var shared shelf

// Of converts the tracing of a connection manager; nil where it names no tracer. Equal
// ones are the same. Safe for concurrent use.
func Of(m *hcmv3.HttpConnectionManager_Tracing) *tracing.Tracing { return shared.of(m) }

func (s *shelf) of(m *hcmv3.HttpConnectionManager_Tracing) *tracing.Tracing {
	if m.GetProvider() == nil {
		return nil
	}
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return convert(m) // it is only not shared
	}
	key := sha256.Sum256(wire)
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.kept[key].Value(); known != nil {
		return known
	}
	for k, w := range s.kept { // there are few
		if w.Value() == nil {
			delete(s.kept, k)
		}
	}
	if s.kept == nil {
		s.kept = make(map[[sha256.Size]byte]weak.Pointer[tracing.Tracing])
	}
	made := convert(m)
	s.kept[key] = weak.Make(made)
	return made
}

// converter gathers what is not done.
type converter struct{ *tracing.Tracing }

func (c converter) problemf(field, format string, args ...any) {
	c.Problems = append(c.Problems, "tracing."+field+": "+fmt.Sprintf(format, args...))
}

func convert(m *hcmv3.HttpConnectionManager_Tracing) *tracing.Tracing {
	c := converter{&tracing.Tracing{Silent: m.GetNoContextPropagation()}}
	share := millionths(m.GetRandomSampling())
	c.Share = uint32(uint64(share) * uint64(millionths(m.GetOverallSampling())) / snapshot.Million)
	for i, tag := range m.GetCustomTags() {
		c.tag(fmt.Sprintf("custom_tags[%d]", i), tag)
	}
	if m.GetOperation() != "" {
		c.problemf("operation", "not implemented: spans are named interface/method")
	}
	if m.GetUpstreamOperation() != "" {
		c.problemf("upstream_operation", "not implemented: spans are named interface/method")
	}
	c.provider(m.GetProvider())
	return c.Tracing
}

// millionths is a share; all of them unless it is given.
func millionths(p *typev3.Percent) uint32 {
	if p == nil {
		return snapshot.Million
	}
	return uint32(min(max(p.GetValue(), 0), 100)*snapshot.Million/100 + 0.5)
}

func (c converter) provider(m *tracev3.Tracing_Http) {
	const field = "provider.typed_config"
	typ, config, _ := typed.TypeOf(m.GetTypedConfig())
	switch {
	case typ == "":
		c.problemf(field, "%q has no type: no spans are made; say %s", m.GetName(), ours)
		return
	case typ != ours || config != nil:
		c.problemf(field, "%s: not implemented: no spans are made; have them sent by OpenTelemetry over gRPC", typ)
		return
	}
	otel := new(tracev3.OpenTelemetryConfig)
	if err := m.GetTypedConfig().UnmarshalTo(otel); err != nil {
		c.problemf(field, "%v", err)
		return
	}
	c.Service = otel.GetServiceName()
	if otel.GetHttpService() != nil {
		c.problemf(field+".http_service", "not implemented: name the collector in grpc_service")
	}
	if otel.GetExporter() != nil {
		c.problemf(field+".exporter", "not implemented: name the collector in grpc_service")
	}
	if otel.GetSampler() != nil {
		c.problemf(field+".sampler", "not implemented: random_sampling holds")
	}
	for i, d := range otel.GetResourceDetectors() {
		c.problemf(fmt.Sprintf("%s.resource_detectors[%d]", field, i), "%s: not implemented: what it would find is left out", d.GetName())
	}
	c.collector(field+".grpc_service", otel.GetGrpcService())
}

func (c converter) collector(field string, m *corev3.GrpcService) {
	to := m.GetEnvoyGrpc()
	switch {
	case m.GetGoogleGrpc() != nil:
		c.problemf(field+".google_grpc", "not implemented: no spans are made; name a cluster in envoy_grpc")
		return
	case to.GetClusterName() == "":
		c.problemf(field, "names no cluster: no spans are made")
		return
	}
	if len(m.GetInitialMetadata()) > 0 {
		c.problemf(field+".initial_metadata", "not implemented: the collector gets none")
	}
	c.Collector = tracing.Collector{Cluster: to.GetClusterName(), Authority: to.GetAuthority(), Timeout: m.GetTimeout().AsDuration()}
}

// tag converts a custom tag.
func (c converter) tag(field string, m *tracingv3.CustomTag) {
	out := tracing.Tag{Name: m.GetTag()}
	switch kind := m.GetType().(type) {
	case *tracingv3.CustomTag_Literal_:
		out.Value = kind.Literal.GetValue()
	case *tracingv3.CustomTag_RequestHeader:
		out.Attribute, out.Value = kind.RequestHeader.GetName(), kind.RequestHeader.GetDefaultValue()
	case *tracingv3.CustomTag_Environment_:
		c.problemf(field+".environment", "not implemented: the proxy's environment is not the pod's; the tag has its default")
		out.Value = kind.Environment.GetDefaultValue()
	case *tracingv3.CustomTag_Metadata_:
		out.Value = kind.Metadata.GetDefaultValue()
		if kind.Metadata.GetKind().GetRequest() == nil { // a request has none here, as in Envoy without the filter that writes it
			c.problemf(field+".metadata", "not implemented: only of requests, which have none; the tag has its default")
		}
	default:
		c.problemf(field+".value", "not implemented: only literal, request_header and metadata; the tag is left out")
	}
	if out.Attribute == "" && out.Value == "" {
		return
	}
	same := func(t tracing.Tag) bool { return t.Name == out.Name }
	if at := slices.IndexFunc(c.Tags, same); at >= 0 {
		c.Tags[at] = out // the last counts
		return
	}
	c.Tags = append(c.Tags, out)
}
