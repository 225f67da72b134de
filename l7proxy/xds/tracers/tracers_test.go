package tracers

import (
	"reflect"
	"slices"
	"testing"
	"time"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/dubway/dubway/l7proxy/snapshot/tracing"
)

func parse(t *testing.T, text string) *hcmv3.HttpConnectionManager_Tracing {
	t.Helper()
	m := new(hcmv3.HttpConnectionManager_Tracing)
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// provider is a tracing with some configuration of OpenTelemetry, and more.
func provider(config, more string) string {
	return `{"provider": {"name": "otel", "typed_config": {"@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig", ` +
		config + `}}` + more + `}`
}

const toOtel = `"grpc_service": {"envoy_grpc": {"cluster_name": "otel"}}`

// TestOf: what tracing becomes, and what of it is a problem: by its name, and never more
// than that.
func TestOf(t *testing.T) {
	c := tracing.Collector{Cluster: "otel"}
	for _, tt := range []struct {
		name, text string
		want       *tracing.Tracing
	}{
		{"no tracer", `{"random_sampling": {"value": 5}}`, nil},
		{"all", provider(toOtel, ``), &tracing.Tracing{Collector: c, Share: 1_000_000}},
		{"a share of a share", provider(toOtel, `, "random_sampling": {"value": 12.5}, "overall_sampling": {"value": 50}, "client_sampling": {"value": 100}`),
			&tracing.Tracing{Collector: c, Share: 62_500}},
		{"none", provider(toOtel, `, "random_sampling": {"value": 0}`), &tracing.Tracing{Collector: c}},
		{"more of the collector", provider(`"service_name": "shop", "grpc_service": {"timeout": "2s", "envoy_grpc": {"cluster_name": "otel", "authority": "a"}}`,
			`, "no_context_propagation": true`), &tracing.Tracing{
			Collector: tracing.Collector{Cluster: "otel", Authority: "a", Timeout: 2 * time.Second}, Share: 1_000_000, Service: "shop", Silent: true,
		}},
		{"tags", provider(toOtel, `, "custom_tags": [
			{"tag": "env", "literal": {"value": "x"}}, {"tag": "user", "request_header": {"name": "user", "default_value": "none"}},
			{"tag": "dry", "metadata": {"kind": {"request": {}}, "metadata_key": {"key": "k", "path": [{"key": "p"}]}}},
			{"tag": "pod", "environment": {"name": "POD", "default_value": "some"}},
			{"tag": "host", "metadata": {"kind": {"host": {}}, "metadata_key": {"key": "k", "path": [{"key": "p"}]}, "default_value": "d"}},
			{"tag": "new", "value": "%REQ(a)%"}, {"tag": "env", "literal": {"value": "y"}}]`), &tracing.Tracing{
			Collector: c, Share: 1_000_000,
			Tags: []tracing.Tag{{Name: "env", Value: "y"}, {Name: "user", Attribute: "user", Value: "none"}, {Name: "pod", Value: "some"}, {Name: "host", Value: "d"}},
			Problems: []string{
				"tracing.custom_tags[3].environment: not implemented: the proxy's environment is not the pod's; the tag has its default",
				"tracing.custom_tags[4].metadata: not implemented: only of requests, which have none; the tag has its default",
				"tracing.custom_tags[5].value: not implemented: only literal, request_header and metadata; the tag is left out",
			},
		}},
		{"zipkin", `{"provider": {"name": "z", "typed_config": {"@type": "type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
			"collector_cluster": "z", "collector_endpoint": "/api"}}}`, &tracing.Tracing{Share: 1_000_000, Problems: []string{
			"tracing.provider.typed_config: envoy.config.trace.v3.ZipkinConfig: not implemented: no spans are made; have them sent by OpenTelemetry over gRPC",
		}}},
		{"no type", `{"provider": {"name": "z"}}`, &tracing.Tracing{Share: 1_000_000, Problems: []string{
			`tracing.provider.typed_config: "z" has no type: no spans are made; say envoy.config.trace.v3.OpenTelemetryConfig`,
		}}},
		{"http", provider(`"http_service": {"http_uri": {"uri": "http://otel", "cluster": "otel", "timeout": "1s"}}`, ``), &tracing.Tracing{
			Share: 1_000_000, Problems: []string{
				"tracing.provider.typed_config.http_service: not implemented: name the collector in grpc_service",
				"tracing.provider.typed_config.grpc_service: names no cluster: no spans are made",
			}}},
		{"google", provider(`"grpc_service": {"google_grpc": {"target_uri": "otel:4317", "stat_prefix": "o"}}`, ``), &tracing.Tracing{
			Share: 1_000_000, Problems: []string{
				"tracing.provider.typed_config.grpc_service.google_grpc: not implemented: no spans are made; name a cluster in envoy_grpc",
			}}},
		{"what is left out", provider(`"sampler": {"name": "s"}, "resource_detectors": [{"name": "env"}], "grpc_service": {
			"initial_metadata": [{"key": "token", "value": "x"}], "envoy_grpc": {"cluster_name": "otel"}}`, `, "operation": "%REQ(a)%", "upstream_operation": "b"`),
			&tracing.Tracing{Collector: c, Share: 1_000_000, Problems: []string{
				"tracing.operation: not implemented: spans are named interface/method",
				"tracing.upstream_operation: not implemented: spans are named interface/method",
				"tracing.provider.typed_config.sampler: not implemented: random_sampling holds",
				"tracing.provider.typed_config.resource_detectors[0]: env: not implemented: what it would find is left out",
				"tracing.provider.typed_config.grpc_service.initial_metadata: not implemented: the collector gets none",
			}}},
	} {
		got := Of(parse(t, tt.text))
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v\nwant %+v", tt.name, got, tt.want)
		}
		if got != nil && got.On() != (len(tt.want.Collector.Cluster) > 0) {
			t.Errorf("%s: on %v", tt.name, got.On())
		}
	}
}

// TestShared: listeners that say the same have the same.
func TestShared(t *testing.T) {
	text := provider(toOtel, `, "custom_tags": [{"tag": "env", "literal": {"value": "x"}}]`)
	first, second, other := Of(parse(t, text)), Of(parse(t, text)), Of(parse(t, provider(toOtel, ``)))
	if first != second || first == other || !slices.Equal(first.Tags, second.Tags) {
		t.Errorf("%p, %p, %p", first, second, other)
	}
}
