package scenario

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet/dubbotest"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// telemetered is a service whose listeners say what its telemetry is, for the consumer's side and,
// at the pod, for the provider's.
const telemetered = `resources:
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: service
  address: {socket_address: {address: %[1]s, port_value: 20880}}
  filter_chains:
  - filter_chain_match: {application_protocols: [http/1.1]}
    filters:
    - name: envoy.filters.network.http_connection_manager
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: service
        http_filters:
        - name: deny
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
            rules:
              action: DENY
              policies:
                no-drop: {permissions: [{header: {name: method, string_match: {exact: drop}}}], principals: [{any: true}]}
        - name: istio.stats
          typed_config:
            "@type": type.googleapis.com/stats.PluginConfig
            metrics:
            - name: requests_total
              dimensions: {dubbo_method: "request.headers['method']", tier: "request.headers['tier']", mesh: "'blue'"}
              tags_to_remove: [source_app]
            - {name: response_bytes, drop: true}
        access_log:
        - name: envoy.access_loggers.file
          filter:
            extension_filter:
              name: cel
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter
                expression: "response.code >= 400 || request.headers['tier'] == 'vip'"
          typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: /dev/stdout}
        route_config:
          name: service
          virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: service}}]}]
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: service
  type: STATIC
  load_assignment:
    cluster_name: service
    endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %[2]s, port_value: 20880}}}}]}]
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: provider
  traffic_direction: INBOUND
  address: {socket_address: {address: %[2]s, port_value: 20880}}
  filter_chains:
  - filters:
    - name: istio.stats
      typed_config:
        "@type": type.googleapis.com/stats.PluginConfig
        metrics: [{name: request_bytes, drop: true}, {name: requests_total, dimensions: {side: "'inbound'"}}]
    - name: envoy.filters.network.tcp_proxy
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
        stat_prefix: inbound
        cluster: InboundPassthroughCluster
`

// TestTelemetryIsConfigured: what listeners say of metrics and of the access log holds for
// real calls, for each side what its own listener says, and the node's switch goes before
// what is said of lines.
func TestTelemetryIsConfigured(t *testing.T) {
	m := newMesh(t)
	consumer, provider := m.pod("consumer"), m.pod("provider", 20880)
	m.provider(provider, "v1")
	m.must(m.PutXDS("told.yaml", fmt.Appendf(nil, telemetered, vip4, provider.Addresses[0])))
	_, proxy := m.start(consumer, provider)
	call := func(method, tier string, n int, want string) {
		t.Helper()
		r := m.calls(consumer, callsOf{Target: vip4 + ":20880", N: n, Timeout: 30 * time.Second, Request: dubbotest.Request{
			Method: method, Attachments: map[string]string{"tier": tier},
		}})
		if got := fmt.Sprint(r.Answers); got != fmt.Sprintf("map[%s:%d]", want, n) {
			t.Errorf("%s of %q: %s, want %d of %s; %v", method, tier, got, n, want, r.Errors)
		}
	}
	const source, destination = `reporter="source"`, `reporter="destination"`
	call("echo", "vip", 10, "v1")
	call("echo", `a "free"`+"\n", 10, "v1")
	call("drop", "free", 5, "thrown")

	m.counted("istio_requests_total{", 10, source, `tier="vip"`, `mesh="blue"`, `dubbo_method="echo"`, `response_code="20"`)
	m.counted("istio_requests_total{", 10, source, `tier="a \"free\"\n"`)
	m.counted("istio_requests_total{", 5, source, `tier="free"`, `response_flags="UAEX"`)
	m.counted("istio_requests_total{", 20, destination, `side="inbound"`, `source_app=`)
	for name, parts := range map[string][]string{
		"istio_requests_total{": {source, "source_app="}, "istio_response_bytes_count{": {source}, "istio_request_bytes_count{": {destination},
	} {
		if n := m.Sum(name, parts...); n != 0 {
			t.Errorf("%s%v is %d, and should not be there", name, parts, n)
		}
	}
	m.counted("istio_request_bytes_count{", 25, source)
	m.counted("istio_response_bytes_count{", 20, destination)
	m.counted("istio_request_duration_milliseconds_count{", 25, source, "source_app=")

	lines := func(want int, parts ...string) {
		t.Helper()
		m.eventually(fmt.Sprint(want, " lines with ", parts), func() bool { return meshtest.CountLines(proxy.Output(), parts...) == want })
	}
	lines(10, `"dubbo_method":"echo"`)
	lines(5, `"dubbo_method":"drop"`, `"response_flags":"UAEX"`)
	accessLog := func(args ...string) {
		out, err := exec.CommandContext(m.ctx, filepath.Join(meshtest.Binaries, "dubwayctl"),
			append([]string{"--state-dir", m.StateDir(), "accesslog"}, args...)...).CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "access log: ") {
			t.Fatalf("dubwayctl accesslog %v: %s%v", args, out, err)
		}
	}
	accessLog("on")
	call("echo", "free", 10, "v1")
	lines(20, `"dubbo_method":"echo"`)
	accessLog("off")
	call("echo", "vip", 10, "v1")
	accessLog("mesh")
	call("echo", "vip", 7, "v1")
	lines(27, `"dubbo_method":"echo"`)
}
