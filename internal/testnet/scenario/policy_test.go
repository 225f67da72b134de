package scenario

import (
	"fmt"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// TestPolicies: who may call what, and how often, is decided by the pod that calls, the
// method, also of a generic call, and an attachment; told to the consumer, counted and
// logged by the policy's name. What is only a dry run changes nothing.
func TestPolicies(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	stranger := m.pod("stranger")
	m.must(m.PutXDS("policies.yaml", []byte(fmt.Sprintf(policyTable, vip4, testnet.Namespace, v1.Addr(20880).Addr()))))
	_, proxy := m.start(consumer, stranger, v1, v2)

	const each = 20
	for _, test := range []struct {
		name    string
		pod     *testnet.Pod
		request dubbotest.Request
		want    map[string]int
	}{
		{"allowed", consumer, dubbotest.Request{Method: "echo"}, map[string]int{"v1": each}},
		{"a stranger", stranger, dubbotest.Request{Method: "echo"}, map[string]int{"thrown": each}},
		{"a method", consumer, dubbotest.Request{Method: "drop"}, map[string]int{"thrown": each}},
		{"a generic call of it", consumer, dubbotest.Request{Method: "drop", Generic: true}, map[string]int{"thrown": each}},
		{"an attachment", consumer, dubbotest.Request{Method: "echo", Attachments: map[string]string{"tier": "test"}}, map[string]int{"thrown": each}},
		{"a dry run", consumer, dubbotest.Request{Method: "dry"}, map[string]int{"v1": each}},
		{"a limit", consumer, dubbotest.Request{Method: "find"}, map[string]int{"v1": 5, "thrown": each - 5}},
	} {
		r := m.calls(test.pod, callsOf{Target: vip4 + ":20880", N: each, Timeout: 30 * time.Second, Request: test.request})
		if fmt.Sprint(r.Answers) != fmt.Sprint(test.want) {
			t.Errorf("%s: %v, want %v; %v", test.name, r.Answers, test.want, r.Errors)
		}
	}
	m.counted(`istio_requests_total{`, 4*each, `reporter="source"`, `response_flags="UAEX"`)
	m.counted(`istio_requests_total{`, each-5, `reporter="source"`, `response_flags="RL"`)
	m.counted(`dubway_rbac_total{`, 2*each, `policy="no-drop"`, `result="denied"`, `mode="enforced"`)
	m.counted(`dubway_rbac_total{`, each, `policy="no-tests"`, `result="denied"`)
	m.counted(`dubway_rbac_total{`, each, `policy=""`, `action="allow"`, `result="denied"`)
	m.counted(`dubway_rbac_total{`, each, `policy="dry"`, `mode="shadow"`, `result="denied"`)
	m.counted(`dubway_local_rate_limit_total{`, each-5, `result="limited"`)
	for part, want := range map[string]int{
		`"policy":"no-drop"`: 2 * each, `"policy":"no-tests"`: each, `"policy":"limit"`: each - 5, `"response_flags":"UAEX"`: 4 * each,
	} {
		m.eventually(fmt.Sprintf("%d log lines of %s", want, part), func() bool { return countLines(proxy.Output(), part) == want })
	}
}

// policyTable has the service's address, the consumers' namespace and v1's address.
const policyTable = `resources:
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: service
  address: {socket_address: {address: "%s", port_value: 20880}}
  filter_chains:
  - filters:
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
                no-tests: {permissions: [{header: {name: tier, string_match: {exact: test}}}], principals: [{any: true}]}
            shadow_rules:
              action: DENY
              policies:
                dry: {permissions: [{header: {name: method, string_match: {exact: dry}}}], principals: [{any: true}]}
        - name: allow
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
            rules:
              policies:
                consumers: {permissions: [{any: true}], principals: [{authenticated: {principal_name: {exact: "spiffe://cluster.local/ns/%s/sa/consumer"}}}]}
        - name: limit
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
            stat_prefix: service
            filter_enabled: {default_value: {numerator: 100}}
            filter_enforced: {default_value: {numerator: 100}}
            descriptors: [{entries: [{key: method, value: find}], token_bucket: {max_tokens: 5, fill_interval: 3600s}}]
        route_config:
          virtual_hosts:
          - name: service
            domains: ["*"]
            rate_limits: [{actions: [{request_headers: {header_name: method, descriptor_key: method}}]}]
            routes: [{match: {prefix: /}, route: {cluster: v1}}]
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: v1
  type: STATIC
  load_assignment: {cluster_name: v1, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: "%s", port_value: 20880}}}}]}]}
`
