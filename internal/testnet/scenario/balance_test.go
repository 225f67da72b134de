package scenario

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// balanced is one cluster of both providers, with what the test says of it and of the
// route's action.
func (m *mesh) balanced(action, cluster string, providers ...*testnet.Pod) {
	m.t.Helper()
	m.put(routed{
		addresses: []string{vip4},
		routes:    fmt.Sprintf("[{match: {prefix: /}, route: {cluster: all, %s}}]", action),
		clusters:  map[string][]netip.AddrPort{},
	})
	var b strings.Builder
	fmt.Fprintf(&b, `resources:
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: all
  type: STATIC
  common_lb_config: {healthy_panic_threshold: {value: 0}}
  %s
  load_assignment: {cluster_name: all, endpoints: [{lb_endpoints: [`, cluster)
	for _, p := range providers {
		fmt.Fprintf(&b, `{endpoint: {address: {socket_address: {address: %s, port_value: 20880}}}},`, p.Addr(20880).Addr())
	}
	b.WriteString("]}]}\n")
	m.must(m.PutXDS("cluster.yaml", []byte(b.String())))
}

// by is n calls of a method in the name of a user.
func (m *mesh) by(consumer *testnet.Pod, user, method string, n int) callsResult {
	m.t.Helper()
	return m.calls(consumer, callsOf{
		Target: vip4 + ":20880", N: n, Timeout: 30 * time.Second,
		Request: dubbotest.Request{Method: method, Attachments: map[string]string{"user-id": user}},
	})
}

// TestHashAndEjection: calls of one user go to one provider, whoever asks; when it
// answers errors it is left alone, its users go to the other and those of the other
// stay; after its time it gets them back.
func TestHashAndEjection(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	m.balanced("hash_policy: [{header: {header_name: user-id}}]", `lb_policy: RING_HASH
  outlier_detection: {consecutive_5xx: 5, interval: 1s, base_ejection_time: 12s, max_ejection_percent: 50}`, v1, v2)
	_, proxy := m.start(consumer, v1, v2)

	of := map[string]string{} // a user of each provider
	for i := 0; len(of) < 2 && i < 20; i++ {
		user := fmt.Sprint("user", i)
		r := m.by(consumer, user, "echo", 10)
		if len(r.Answers) != 1 || r.Answers["v1"]+r.Answers["v2"] != 10 {
			t.Fatalf("%s: %v %v, want one provider", user, r.Answers, r.Errors)
		}
		for name := range r.Answers {
			of[name] = user
		}
	}
	if len(of) < 2 {
		t.Fatalf("20 users all have the same provider: %v", of)
	}
	m.metric("dubway_outlier_ejected ", 0)

	if r := m.by(consumer, of["v1"], "error", 5); r.Answers["status 70"] != 5 {
		t.Fatalf("errors: %v %v", r.Answers, r.Errors)
	}
	m.metric("dubway_outlier_ejected ", 1)
	m.metric(`dubway_outlier_ejections_total{detector="consecutive_5xx"} `, 1)
	for _, user := range of {
		if r := m.by(consumer, user, "echo", 10); r.Answers["v2"] != 10 {
			t.Errorf("with v1 ejected the calls of %s went %v, want v2; %v", user, r.Answers, r.Errors)
		}
	}
	m.metric("dubway_outlier_ejected ", 0)
	for name, user := range of {
		if r := m.by(consumer, user, "echo", 10); r.Answers[name] != 10 {
			t.Errorf("in the end the calls of %s went %v, want %s; %v", user, r.Answers, name, r.Errors)
		}
	}
	m.eventually("the errors' log lines", func() bool { return countLines(proxy.Output(), `"dubbo_status":"service_error"`) == 5 })
}

// TestHealthCheck: a provider that still takes connections and answers nothing is left
// alone, and comes back when it answers. No call is lost once it is out.
func TestHealthCheck(t *testing.T) {
	m := newMesh(t)
	consumer, v1, v2 := m.pod("consumer"), m.pod("provider-1", 20880), m.pod("provider-2", 20880)
	m.provider(v1, "v1")
	hung := m.provider(v2, "v2")
	m.balanced("timeout: 0s", `health_checks:
  - timeout: 2s
    interval: 0.5s
    unhealthy_threshold: 2
    healthy_threshold: 1
    custom_health_check: {name: dubbo, typed_config: {"@type": type.googleapis.com/dubway.health.v1.Dubbo}}`, v1, v2)
	m.start(consumer, v1, v2)
	if r := m.by(consumer, "a", "echo", 20); r.Answers["v1"] != 10 || r.Answers["v2"] != 10 {
		t.Fatalf("in turns: %v %v", r.Answers, r.Errors)
	}
	m.must(hung.Signal(syscall.SIGSTOP))
	m.metric("dubway_health_unhealthy ", 1)
	if r := m.by(consumer, "a", "echo", 20); r.Answers["v1"] != 20 {
		t.Errorf("with v2 hanging: %v %v", r.Answers, r.Errors)
	}
	m.must(hung.Signal(syscall.SIGCONT))
	m.metric("dubway_health_unhealthy ", 0)
	if r := m.by(consumer, "a", "echo", 20); r.Answers["v1"] != 10 || r.Answers["v2"] != 10 {
		t.Errorf("in turns again: %v %v", r.Answers, r.Errors)
	}
	if text, err := m.Metrics(m.ctx); err != nil || sum(text, "dubway_health_check_failures_total ", nil) < 2 {
		t.Errorf("the failed checks are not counted: %v", err)
	}
}

// metric waits until a sample has a value.
func (m *mesh) metric(name string, want int) {
	m.t.Helper()
	m.eventually(fmt.Sprint(name, want), func() bool {
		text, err := m.Metrics(m.ctx)
		return err == nil && strings.Contains(text, "\n"+name+fmt.Sprint(want)+"\n")
	})
}
