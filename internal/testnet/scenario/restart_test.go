package scenario

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
)

// background starts a consumer and returns a function that waits for its result.
func (m *mesh) background(p *testnet.Pod, ask callsOf) func() callsResult {
	m.t.Helper()
	wait := m.launch(p, "calls", &ask)
	return func() (result callsResult) {
		m.t.Helper()
		wait(&result)
		return result
	}
}

// TestAgentKilled: while the agent is dead and while it comes back, connections
// are steered and calls are answered.
func TestAgentKilled(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	m.put(routed{addresses: []string{vip4}, routes: split(map[string]int{"v1": 1, "v2": 1}), clusters: both(v1, v2)})
	agent, _ := m.start(consumer, v1, v2)
	target := vip4 + ":20880"
	// Connections to both providers exist: what a dead agent cannot do is make
	// new ones, and a call that needs one waits for it.
	m.calls(consumer, callsOf{Target: target, N: 40, Timeout: 30 * time.Second})

	steady := m.background(consumer, callsOf{Target: target, N: 300, Pause: 10 * time.Millisecond, Timeout: 30 * time.Second})
	m.must(agent.Kill())
	for range 5 {
		// A VIP that no device has: without steering this connect fails.
		if r := m.calls(consumer, callsOf{Target: target, N: 3, Timeout: 30 * time.Second}); r.Answers["v1"]+r.Answers["v2"] != 3 {
			t.Errorf("without an agent: %v %v", r.Answers, r.Errors)
		}
	}
	_, err := m.StartAgent(m.ctx)
	m.must(err)
	m.must(m.WaitEnrolled(m.ctx, consumer, v1, v2))
	if r := m.calls(consumer, callsOf{Target: target, N: 20, Timeout: 30 * time.Second}); r.Answers["v1"]+r.Answers["v2"] != 20 {
		t.Errorf("after the restart: %v %v", r.Answers, r.Errors)
	}
	if r := steady(); r.Answers["v1"]+r.Answers["v2"] != 300 {
		t.Errorf("a connection through the restart: %v %v", r.Answers, r.Errors)
	}
}

// TestProxyRestart: connections that come while there is no proxy wait in the
// backlog, and the old proxy answers everything before it closes.
func TestProxyRestart(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	m.put(routed{addresses: []string{vip4}, routes: split(map[string]int{"v1": 1, "v2": 1}), clusters: both(v1, v2)})
	_, proxy := m.start(consumer, v1, v2)
	target := vip4 + ":20880"

	slow := callsOf{Target: target, N: 1, Timeout: time.Minute}
	slow.Request.Method = "delay5000"
	pending := m.background(consumer, slow)
	m.eventually("it is pending", func() bool { return m.stats(v1).Methods["delay5000"]+m.stats(v2).Methods["delay5000"] == 1 })
	m.must(proxy.Signal(syscall.SIGTERM))
	waiting := m.background(consumer, callsOf{Target: target, N: 5, Timeout: 30 * time.Second})
	if r := pending(); r.Answers["v1"]+r.Answers["v2"] != 1 {
		t.Errorf("pending at the restart: %v %v", r.Answers, r.Errors)
	}
	select {
	case <-proxy.Done():
	case <-time.After(time.Minute):
		t.Fatal("the old proxy does not end")
	}
	_, err := m.StartProxy(m.ctx)
	m.must(err)
	if r := waiting(); r.Answers["v1"]+r.Answers["v2"] != 5 {
		t.Errorf("waited for the new proxy: %v %v", r.Answers, r.Errors)
	}
}

// TestProxyKilled: kill -9 costs the calls in flight, and no connect.
func TestProxyKilled(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	m.put(routed{addresses: []string{vip4}, routes: split(map[string]int{"v1": 1, "v2": 1}), clusters: both(v1, v2)})
	_, proxy := m.start(consumer, v1, v2)
	target := vip4 + ":20880"
	m.must(proxy.Kill())
	waiting := m.background(consumer, callsOf{Target: target, N: 5, Timeout: 30 * time.Second})
	time.Sleep(300 * time.Millisecond)
	_, err := m.StartProxy(m.ctx)
	m.must(err)
	if r := waiting(); r.Answers["v1"]+r.Answers["v2"] != 5 {
		t.Errorf("waited for the new proxy: %v %v", r.Answers, r.Errors)
	}
}

// TestProviderKilled: a provider that dies under load costs no more than what it
// had in flight, and each of those calls gets an answer.
func TestProviderKilled(t *testing.T) {
	m := newMesh(t)
	consumer, v1, v2 := m.pod("consumer"), m.pod("provider-1", 20880), m.pod("provider-2", 20880)
	first := m.provider(v1, "v1")
	m.provider(v2, "v2")
	m.put(routed{addresses: []string{vip4}, routes: split(map[string]int{"v1": 1, "v2": 1}), clusters: both(v1, v2)})
	// Both in one cluster, so that there is somewhere else to go.
	clusters := both(v1, v2)
	clusters["all"] = slices.Concat(clusters["v1"], clusters["v2"])
	m.put(routed{addresses: []string{vip4}, routes: "[{match: {prefix: /}, route: {cluster: all}}]", clusters: clusters})
	_, proxy := m.start(consumer, v1, v2)
	load := m.background(consumer, callsOf{Target: vip4 + ":20880", N: 400, Pause: 5 * time.Millisecond, Timeout: 30 * time.Second})
	m.under()
	m.must(first.Kill())
	r := load()
	if r.Answers["error"]+r.Answers["wrong"] > 0 || r.Answers["status 80"] > 1 {
		t.Errorf("%v %v", r.Answers, r.Errors)
	}
	if r.Answers["v1"] == 0 || r.Answers["v2"] < 200 {
		t.Errorf("the calls did not move: %v", r.Answers)
	}
	m.counted(`istio_requests_total{`, 400, `reporter="source"`)
	m.eventually("a line for each call", func() bool {
		return strings.Count(proxy.Output(), `"dubbo_method"`) == 400
	})
}
