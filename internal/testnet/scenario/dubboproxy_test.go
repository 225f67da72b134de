package scenario

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// TestDubboProxy: the table of Envoy's dubbo_proxy, as an EnvoyFilter of Aeraki's
// has it, routes by method, by argument and by attachment, and a generic call as
// the method that it names; counted and logged so, while the provider still gets
// the bytes of the generic call.
func TestDubboProxy(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	m.must(m.PutXDS("dubbo.yaml", []byte(fmt.Sprintf(dubboTable, vip4, v1.Addr(20880).Addr(), v2.Addr(20880).Addr()))))
	_, proxy := m.start(consumer, v1, v2)

	const each = 20
	for _, test := range []struct {
		name    string
		request dubbotest.Request
		want    string
	}{
		{"any", dubbotest.Request{Method: "echo"}, "v1"},
		{"method", dubbotest.Request{Method: "getCart"}, "v2"},
		{"argument", dubbotest.Request{Method: "echo", Text: "jason"}, "v2"},
		{"another argument", dubbotest.Request{Method: "echo", Text: "jasons"}, "v1"},
		{"attachment", dubbotest.Request{Method: "echo", Attachments: map[string]string{"Stage": "gray"}}, "v2"},
		{"generic", dubbotest.Request{Method: "echo", Generic: true}, "v1"},
		{"generic, method", dubbotest.Request{Method: "getCart", Generic: true}, "v2"},
		{"generic, argument", dubbotest.Request{Method: "echo", Generic: true, Text: "jason"}, "v2"},
		{"another interface", dubbotest.Request{Interface: "org.other.Service", Method: "echo"}, "thrown"},
	} {
		r := m.calls(consumer, callsOf{Target: vip4 + ":20880", N: each, Timeout: 30 * time.Second, Request: test.request})
		if r.Answers[test.want] != each {
			t.Errorf("%s: %v, want %s; %v", test.name, r.Answers, test.want, r.Errors)
		}
	}
	m.counted(`istio_requests_total{`, 2*each, `reporter="source"`, `dubbo_method="getCart"`, `response_code="20"`)
	m.counted(`istio_requests_total{`, 0, `dubbo_method="$invoke"`)
	m.counted(`istio_requests_total{`, each, `reporter="source"`, `response_flags="NR"`, `dubbo_result="local"`)
	m.eventually("every call's log line", func() bool {
		return countLines(proxy.Output(), `"dubbo_method"`) == 9*each
	})
	generic := 0
	for line := range strings.Lines(proxy.Output()) {
		var said map[string]any
		if json.Unmarshal([]byte(line), &said) == nil && said["dubbo_generic"] == true {
			generic++
			if said["dubbo_method"] == "$invoke" {
				t.Fatalf("a generic call hides its method: %s", line)
			}
		}
	}
	if generic != 3*each {
		t.Errorf("%d generic calls in the log, want %d", generic, 3*each)
	}
	m.sawInvoke(v1, each)
	m.sawInvoke(v2, 2*each)
}

// sawInvoke asks a provider, past the proxy's table, how often $invoke came.
func (m *mesh) sawInvoke(provider *testnet.Pod, want int64) {
	m.t.Helper()
	var stats dubbotest.Stats
	m.must(provider.Do(func() error {
		c, err := dubbotest.Dial("127.0.0.1:20880")
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		a, err := c.Call(dubbotest.Request{Method: "stats"}, nil, 30*time.Second)
		if err != nil {
			return err
		}
		return json.Unmarshal(a.Value, &stats)
	}))
	if stats.Methods["$invoke"] != want {
		m.t.Errorf("%s got %d calls of $invoke, want %d", provider.Name, stats.Methods["$invoke"], want)
	}
}

// dubboTable has a listener and two clusters: the service's address, v1's, v2's.
const dubboTable = `resources:
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: service
  address: {socket_address: {address: "%s", port_value: 20880}}
  filter_chains:
  - filters:
    - name: envoy.filters.network.dubbo_proxy
      typed_config:
        "@type": type.googleapis.com/udpa.type.v1.TypedStruct
        type_url: type.googleapis.com/envoy.extensions.filters.network.dubbo_proxy.v3.DubboProxy
        value:
          stat_prefix: service
          dubbo_filters: [{name: envoy.filters.dubbo.router}]
          route_config:
          - name: echo
            interface: org.dubway.test.*
            routes:
            - {match: {method: {name: {prefix: get}}}, route: {cluster: v2}}
            - {match: {method: {name: {exact: echo}, params_match: {1: {exact_match: jason}}}}, route: {cluster: v2}}
            - {match: {method: {name: {exact: echo}}, headers: [{name: stage, string_match: {exact: gray}}]}, route: {cluster: v2}}
          - name: the rest
            interface: org.dubway.test.Echo
            version: 0.0.0
            routes:
            - {match: {method: {name: {safe_regex: {regex: ".*"}}}}, route: {cluster: v1}}
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: v1
  type: STATIC
  load_assignment: {cluster_name: v1, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: "%s", port_value: 20880}}}}]}]}
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: v2
  type: STATIC
  load_assignment: {cluster_name: v2, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: "%s", port_value: 20880}}}}]}]}
`
