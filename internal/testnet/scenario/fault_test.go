package scenario

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// TestFaults: calls are delayed and aborted by method and by attachment, as their
// routes say; told to the consumer, counted and logged with Envoy's flags. A delay ends
// with the route's time. A call that no fault is for goes on.
func TestFaults(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	m.must(m.PutXDS("faults.yaml", []byte(fmt.Sprintf(faultTable, vip4, v1.Addr(20880).Addr()))))
	_, proxy := m.start(consumer, v1, v2)

	const each, delay = 5, 100 * time.Millisecond
	for _, test := range []struct {
		name  string
		call  dubbotest.Request
		want  string // all answers
		text  string // in each of the errors
		least time.Duration
	}{
		{"none", dubbotest.Request{Method: "echo"}, "v1", "", 0},
		{"a status", dubbotest.Request{Method: "find"}, "status 60", "dubway: a fault is injected", 0},
		{"its route's status", dubbotest.Request{Method: "pay"}, "status 70", "try later", 0},
		{"an exception", dubbotest.Request{Method: "place"}, "thrown", "no stock", 0},
		{"a delay", dubbotest.Request{Method: "slow"}, "v1", "", delay},
		{"a delay that the route's time ends", dubbotest.Request{Method: "late"}, "status 31", "no answer within the time limit", delay},
		{"by an attachment, behind a delay", dubbotest.Request{Method: "slow", Attachments: map[string]string{"tier": "test"}}, "status 100", "dubway", delay},
	} {
		start := time.Now()
		r := m.calls(consumer, callsOf{Target: vip4 + ":20880", N: each, Timeout: 30 * time.Second, Request: test.call})
		if r.Answers[test.want] != each || len(r.Answers) != 1 {
			t.Errorf("%s: %v, want %s; %v", test.name, r.Answers, test.want, r.Errors)
		}
		for _, said := range r.Errors {
			if !strings.Contains(said, test.text) {
				t.Errorf("%s: %q does not say %q", test.name, said, test.text)
			}
		}
		if took := time.Since(start); took < each*test.least {
			t.Errorf("%s: %d calls took %s", test.name, each, took)
		}
	}
	m.counted(`istio_requests_total{`, 3*each, `reporter="source"`, `response_flags="FI"`)
	m.counted(`istio_requests_total{`, each, `reporter="source"`, `response_flags="DI"`, `dubbo_result="value"`)
	m.counted(`istio_requests_total{`, each, `reporter="source"`, `response_flags="UT,DI"`)
	m.counted(`istio_requests_total{`, each, `reporter="source"`, `response_flags="DI,FI"`)
	m.counted(`dubway_faults_total{`, 3*each, `filter="envoy.filters.http.fault"`, `result="delayed"`)
	m.counted(`dubway_faults_total{`, 4*each, `result="aborted"`)
	for part, want := range map[string]int{
		`"response_flags":"FI"`: 3 * each, `"response_flags":"DI"`: each, `"response_flags":"UT,DI"`: each, `"response_flags":"DI,FI"`: each,
	} {
		m.eventually(fmt.Sprintf("%d log lines of %s", want, part), func() bool { return countLines(proxy.Output(), part) == want })
	}
	m.delayedAtTheEnd(consumer, proxy)
}

// delayedAtTheEnd: a proxy that stops delays nobody any longer.
func (m *mesh) delayedAtTheEnd(consumer *testnet.Pod, proxy *testnet.Process) {
	m.t.Helper()
	answered := m.background(consumer, callsOf{Target: vip4 + ":20880", N: 1, Timeout: time.Minute, Request: dubbotest.Request{Method: "forever"}})
	m.counted(`dubway_faults_total{`, 1, `filter="forever"`, `result="delayed"`)
	m.must(proxy.Signal(syscall.SIGTERM))
	if r := answered(); r.Answers["v1"] != 1 {
		m.t.Errorf("a delayed call when the proxy stops: %v, %v", r.Answers, r.Errors)
	}
}

// faultTable has the service's address and v1's.
const faultTable = `resources:
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
        - name: envoy.filters.http.fault
          typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault}
        - name: by-attachment
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault
            headers: [{name: tier, string_match: {exact: test}}]
            abort: {http_status: 503, percentage: {numerator: 100}}
        - name: forever
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault
            headers: [{name: method, string_match: {exact: forever}}]
            delay: {fixed_delay: 3600s, percentage: {numerator: 100}}
        route_config:
          virtual_hosts:
          - name: service
            domains: ["*"]
            routes:
            - match: {prefix: /, headers: [{name: method, string_match: {exact: find}}]}
              route: {cluster: v1}
              typed_per_filter_config: {envoy.filters.http.fault: {"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault, abort: {http_status: 404, percentage: {numerator: 100}}}}
            - match: {prefix: /, headers: [{name: method, string_match: {exact: pay}}]}
              route: {cluster: v1}
              metadata: {filter_metadata: {dubway.io: {fault: {status: 70, message: try later}}}}
              typed_per_filter_config: {envoy.filters.http.fault: {"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault, abort: {http_status: 500, percentage: {numerator: 100}}}}
            - match: {prefix: /, headers: [{name: method, string_match: {exact: place}}]}
              route: {cluster: v1}
              metadata: {filter_metadata: {dubway.io: {fault: {exception: java.lang.IllegalStateException, message: no stock}}}}
              typed_per_filter_config: {envoy.filters.http.fault: {"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault, abort: {http_status: 500, percentage: {numerator: 100}}}}
            - match: {prefix: /, headers: [{name: method, string_match: {exact: slow}}]}
              route: {cluster: v1}
              typed_per_filter_config: {envoy.filters.http.fault: {"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault, delay: {fixed_delay: 0.1s, percentage: {numerator: 100}}}}
            - match: {prefix: /, headers: [{name: method, string_match: {exact: late}}]}
              route: {cluster: v1, timeout: 0.1s}
              typed_per_filter_config: {envoy.filters.http.fault: {"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault, delay: {fixed_delay: 60s, percentage: {numerator: 100}}}}
            - {match: {prefix: /}, route: {cluster: v1}}
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: v1
  type: STATIC
  load_assignment: {cluster_name: v1, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: "%s", port_value: 20880}}}}]}]}
`
