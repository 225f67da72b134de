package scenario

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// each is how often a consumer calls.
const each = 20

// asked is what one consumer asks a provider that judges, and what becomes of it.
type asked struct {
	what    string
	from    *testnet.Pod
	target  string
	request dubbotest.Request
	want    map[string]int
}

func (m *mesh) ask(list []asked) {
	m.t.Helper()
	for _, a := range list {
		r := m.calls(a.from, callsOf{Target: a.target, N: each, Timeout: 30 * time.Second, Request: a.request})
		if fmt.Sprint(r.Answers) != fmt.Sprint(a.want) {
			m.t.Errorf("%s: %v, want %v; %v", a.what, r.Answers, a.want, r.Errors)
		}
	}
}

func method(name string) dubbotest.Request { return dubbotest.Request{Method: name} }

// TestInboundSameNode: a provider's own policies hold for the pods of its node, of whom
// the node knows who they are, behind those of the consumer's side; whether they call by
// the service or dial the pod; and from the moment on that they are there, although the
// way in was the short cut before.
func TestInboundSameNode(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	stranger := m.pod("stranger")
	m.put(routed{addresses: []string{vip4}, routes: split(map[string]int{"v1": 1}), clusters: both(v1, v2)})
	_, proxy := m.start(consumer, stranger, v1, v2)
	service, pod := vip4+":20880", v1.Addr(20880).String()
	passes, thrown := map[string]int{"v1": each}, map[string]int{"thrown": each}
	m.ask([]asked{
		{"without policies", consumer, service, method("drop"), passes},
		{"without policies, a stranger", stranger, service, method("drop"), passes},
	})
	m.must(m.PutXDS("inbound.yaml", []byte(fmt.Sprintf(inboundTable, testnet.Namespace+"/provider-1", "principals",
		fmt.Sprintf(`[{authenticated: {principal_name: {exact: "spiffe://cluster.local/ns/%s/sa/consumer"}}}]`, testnet.Namespace)))))
	m.eventually("the policies", func() bool {
		s, err := m.ProxyStatus(m.ctx)
		return err == nil && s.Generation == 2
	})
	m.ask([]asked{
		{"allowed", consumer, service, method("echo"), passes},
		{"a method", consumer, service, method("drop"), thrown},
		{"a generic call of it", consumer, service, dubbotest.Request{Method: "drop", Generic: true}, thrown},
		{"a stranger", stranger, service, method("echo"), thrown},
		{"a stranger who dials the pod", stranger, pod, method("echo"), thrown},
		{"allowed, to the pod", consumer, pod, method("echo"), passes},
		{"a limit", consumer, service, method("find"), map[string]int{"v1": 5, "thrown": each - 5}},
	})
	m.counted(`istio_requests_total{`, 4*each, `reporter="destination"`, `response_flags="UAEX"`, `destination_workload="provider-1"`)
	m.counted(`istio_requests_total{`, each-5, `reporter="destination"`, `response_flags="RL"`)
	m.counted(`dubway_rbac_total{`, 2*each, `policy="no-drop"`, `result="denied"`)
	m.eventually("log lines by the policy's name", func() bool { return countLines(proxy.Output(), `"policy":"no-drop"`) == 2*each })

	m.must(m.PutXDS("inbound.yaml", []byte("resources: []\n")))
	m.eventually("no policies", func() bool {
		s, err := m.ProxyStatus(m.ctx)
		return err == nil && s.Generation == 3
	})
	m.ask([]asked{{"without policies again", stranger, service, method("drop"), passes}})
}

// TestInboundTwoNodes: of consumers of another node a provider knows no more than the
// address, and a principal is nobody's.
func TestInboundTwoNodes(t *testing.T) {
	near, far := newMesh(t), newNode(t, "sc2", 2)
	near.must(testnet.Link(near.Node, far.Node))
	consumer, stranger, provider := near.pod("consumer"), near.pod("stranger"), far.pod("provider-1", 20880)
	far.provider(provider, "v1")
	service := routed{
		addresses: []string{vip4}, routes: split(map[string]int{"v1": 1}),
		clusters: map[string][]netip.AddrPort{"v1": {provider.Addr(20880)}},
	}
	near.put(service)
	far.put(service)
	name := testnet.Namespace + "/provider-1"
	far.must(far.PutXDS("inbound.yaml", []byte(fmt.Sprintf(inboundTable, name, "addresses",
		fmt.Sprintf(`[{direct_remote_ip: {address_prefix: %q, prefix_len: 32}}]`, consumer.Addr(0).Addr())))))
	near.start(consumer, stranger)
	_, proxy := far.start(provider)

	passes, thrown := map[string]int{"v1": each}, map[string]int{"thrown": each}
	near.ask([]asked{
		{"allowed", consumer, vip4 + ":20880", method("echo"), passes},
		{"a method", consumer, vip4 + ":20880", method("drop"), thrown},
		{"a stranger", stranger, vip4 + ":20880", method("echo"), thrown},
	})
	far.counted(`istio_requests_total{`, 2*each, `reporter="destination"`, `response_flags="UAEX"`, `destination_workload="provider-1"`)
	far.counted(`dubway_rbac_total{`, each, `policy="no-drop"`, `result="denied"`)
	far.eventually("log lines by the policy's name", func() bool { return countLines(proxy.Output(), `"policy":"no-drop"`) == each })

	far.must(far.PutXDS("inbound.yaml", []byte(fmt.Sprintf(inboundTable, name, "principals",
		fmt.Sprintf(`[{authenticated: {principal_name: {exact: "spiffe://cluster.local/ns/%s/sa/consumer"}}}]`, testnet.Namespace)))))
	far.eventually("the policies by principal", func() bool {
		s, err := far.ProxyStatus(far.ctx)
		return err == nil && s.Generation == 2
	})
	near.ask([]asked{{"whom nobody vouches for", consumer, vip4 + ":20880", method("echo"), thrown}})
}

// inboundTable has the provider's namespace and workload, and the name and the
// principals of those who may call.
const inboundTable = `resources:
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: inbound
  traffic_direction: INBOUND
  metadata: {filter_metadata: {dubway.io: {workload: %s}}}
  address: {socket_address: {address: 0.0.0.0, port_value: 15006}}
  filter_chains:
  - filter_chain_match: {destination_port: 20880, transport_protocol: raw_buffer}
    filters:
    - name: envoy.filters.network.http_connection_manager
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: inbound
        http_filters:
        - name: deny
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
            rules:
              action: DENY
              policies:
                no-drop: {permissions: [{header: {name: method, string_match: {exact: drop}}}], principals: [{any: true}]}
        - name: allow
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
            rules:
              policies:
                %s: {permissions: [{any: true}], principals: %s}
        - name: limit
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
            stat_prefix: inbound
            filter_enabled: {default_value: {numerator: 100}}
            filter_enforced: {default_value: {numerator: 100}}
            descriptors: [{entries: [{key: method, value: find}], token_bucket: {max_tokens: 5, fill_interval: 3600s}}]
        route_config:
          virtual_hosts:
          - name: inbound
            domains: ["*"]
            rate_limits: [{actions: [{request_headers: {header_name: method, descriptor_key: method}}]}]
            routes: [{match: {prefix: /}, route: {cluster: inbound|20880||}}]
`
