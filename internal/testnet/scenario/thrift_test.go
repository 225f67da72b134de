package scenario

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/meshtest"
	"github.com/dubway/dubway/internal/testnet/thrifttest"
)

// thriftServer is a real Thrift server's process: thriftd NAME ADDRESS.
func thriftServer(args []string) error {
	return (&thrifttest.Provider{Name: args[0]}).Serve(args[1])
}

// thriftAsk is what a real Thrift client's process is asked to call, N times on one
// connection.
type thriftAsk struct {
	Target, Service, Method, Text string
	N                             int
	Note                          bool
}

// thriftSaw is what it saw: the first word of values, what was thrown, and what was
// refused.
type thriftSaw struct {
	Answers map[string]int
	Errors  []string
}

// thriftCalls is the client's process: thrift TAG JSON.
func thriftCalls(args []string) error {
	var ask thriftAsk
	if err := json.Unmarshal([]byte(args[1]), &ask); err != nil {
		return err
	}
	saw := thriftSaw{Answers: map[string]int{}}
	c, err := thrifttest.Dial(ask.Target, ask.Service)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	for range ask.N {
		if ask.Note {
			err = c.Note(ask.Text)
			continue
		}
		a, err := c.Call(ask.Method, ask.Text, 0)
		switch {
		case err != nil:
			saw.Answers["error"]++
			saw.Errors = append(saw.Errors, err.Error())
		case a.Refused != "":
			saw.Answers["refused"]++
			saw.Errors = append(saw.Errors, a.Refused)
		case a.Thrown != "":
			saw.Answers["thrown"]++
		case strings.HasSuffix(a.Value, " "+ask.Text):
			name, _, _ := strings.Cut(a.Value, " ")
			saw.Answers[name]++
		default:
			saw.Answers[a.Value]++
		}
	}
	if err != nil {
		return err
	}
	return say(args[0], saw)
}

// TestThrift: the second protocol meets the policies of the first, with a real client and
// real servers: what the client sees, what is counted, and what is logged.
func TestThrift(t *testing.T) {
	m := newMesh(t)
	consumer, audit := m.pod("consumer"), m.pod("audit", 9090)
	v1, v2 := m.pod("provider-1", 9090), m.pod("provider-2", 9090)
	for name, p := range map[string]*testnet.Pod{"v1": v1, "v2": v2, "audit": audit} {
		m.server(p, "thriftd", name, 9090)
	}
	m.Put(meshtest.Service{
		Name: "orders", Addresses: []string{vip4}, Port: 9090, Filters: thriftFilters, Routes: thriftRoutes,
		Clusters: map[string][]netip.AddrPort{
			"both": {v1.Addr(9090), v2.Addr(9090)}, "v1": {v1.Addr(9090)}, "v2": {v2.Addr(9090)}, "audit": {audit.Addr(9090)},
		},
	})
	_, proxy := m.start(consumer, audit, v1, v2)

	const each = 20
	for _, test := range []struct {
		name string
		ask  thriftAsk
		want map[string]int
	}{
		{"balanced by request", thriftAsk{Method: "place", Text: "x"}, map[string]int{"v1": each / 2, "v2": each / 2}},
		{"of a service", thriftAsk{Method: "place", Text: "x", Service: "Orders"}, map[string]int{"v1": each / 2, "v2": each / 2}},
		{"routed by an argument", thriftAsk{Method: "place", Text: "gold"}, map[string]int{"v2": each}},
		{"an exception of the service", thriftAsk{Method: "throw", Text: "x"}, map[string]int{"thrown": each}},
		{"denied", thriftAsk{Method: "drop", Text: "x"}, map[string]int{"refused": each}},
		{"denied by service", thriftAsk{Method: "drop", Text: "x", Service: "Orders"}, map[string]int{"refused": each}},
		{"limited", thriftAsk{Method: "find", Text: "x"}, map[string]int{"v1": 5, "refused": each - 5}},
		{"a fault", thriftAsk{Method: "broken", Text: "x"}, map[string]int{"refused": each}},
		{"tried again", thriftAsk{Method: "fail", Text: "x"}, map[string]int{"refused": each}},
		{"mirrored", thriftAsk{Method: "copied", Text: "x"}, map[string]int{"v1": each}},
	} {
		test.ask.Target, test.ask.N = vip4+":9090", each
		var saw thriftSaw
		m.launch(consumer, "thrift", test.ask)(&saw)
		if fmt.Sprint(saw.Answers) != fmt.Sprint(test.want) {
			t.Errorf("%s: %v, want %v; %v", test.name, saw.Answers, test.want, saw.Errors)
		}
	}
	m.launch(consumer, "thrift", thriftAsk{Target: vip4 + ":9090", Text: "x", N: each, Note: true})(&thriftSaw{})

	const calls = 11 * each
	source := []string{`reporter="source"`, `request_protocol="thrift"`}
	m.counted(`istio_requests_total{`, calls, source...)
	m.counted(`istio_requests_total{`, 2*each, append(source, `response_flags="UAEX"`)...)
	m.counted(`istio_requests_total{`, each-5, append(source, `response_flags="RL"`)...)
	m.counted(`istio_requests_total{`, each, append(source, `response_flags="FI"`)...)
	m.counted(`istio_requests_total{`, each, append(source, `dubbo_interface="Orders"`, `dubbo_method="place"`)...)
	m.counted(`istio_requests_total{`, each, append(source, `dubbo_result="none"`)...)
	m.counted(`istio_requests_total{`, each, append(source, `dubbo_result="exception"`)...)
	m.counted(`dubway_retries_total`, each)
	m.counted(`dubway_mirrored_requests_total `, each)
	m.eventually("a log line for each call", func() bool { return countLines(proxy.Output(), `"thrift_method"`) >= calls })
	// The copies have come, and the notes.
	var shadow thriftSaw
	m.launch(consumer, "thrift", thriftAsk{Target: audit.Addr(9090).String(), Method: "notes", N: 1})(&shadow)
	if want := fmt.Sprintf("0 notes, %d calls", each+1); shadow.Answers[want] != 1 {
		t.Errorf("the shadow has had %v, want %q", shadow.Answers, want)
	}
}

const thriftFilters = `
        - name: deny
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
            rules:
              action: DENY
              policies:
                no-drop: {permissions: [{header: {name: method, string_match: {exact: drop}}}], principals: [{any: true}]}
        - name: limit
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
            stat_prefix: limit
            token_bucket: {max_tokens: 1000000, fill_interval: 1s}
            filter_enabled: {default_value: {numerator: 100}}
            filter_enforced: {default_value: {numerator: 100}}
            descriptors:
            - {entries: [{key: method, value: find}], token_bucket: {max_tokens: 5, tokens_per_fill: 5, fill_interval: 3600s}}
        - name: fault
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault
            abort: {http_status: 503, percentage: {numerator: 100}}
            headers: [{name: method, string_match: {exact: broken}}]
`

const thriftRoutes = `[
    {match: {prefix: /, headers: [{name: "arguments[0]", string_match: {exact: gold}}]}, route: {cluster: v2}},
    {match: {prefix: /, headers: [{name: method, string_match: {exact: find}}]},
      route: {cluster: v1, rate_limits: [{actions: [{request_headers: {header_name: method, descriptor_key: method}}]}]}},
    {match: {prefix: /, headers: [{name: method, string_match: {exact: copied}}]},
      route: {cluster: v1, request_mirror_policies: [{cluster: audit}]}},
    {match: {prefix: /}, route: {cluster: both, retry_policy: {retry_on: 5xx, num_retries: 1}}}]`
