package scenario

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// TestWithdrawn: a pod leaves the mesh, and its process does not. The connections that it has go
// on through the proxy, which follows its configuration for them, to providers that come after
// it has left too; new ones go past the mesh.
func TestWithdrawn(t *testing.T) {
	for _, source := range []string{"files", "control plane"} {
		t.Run(source, func(t *testing.T) {
			m, consumer, v1, v2 := shop(t)
			service := func(provider string) meshtest.Service {
				return meshtest.Service{Name: "service", Addresses: []string{vip4}, Routes: split(map[string]int{provider: 1}), Clusters: both(v1, v2)}
			}
			args, to := []string(nil), func(provider string) { m.Put(service(provider)) }
			if source != "files" {
				args, to = []string{"--xds-server", planeAddress}, m.planeOf(consumer, service)
			}
			to("v1")
			_, proxy := m.Start([]*testnet.Pod{consumer, v1, v2}, args...)
			called := func(p *testnet.Pod) int {
				return m.Sum("istio_requests_total{", `source_workload="`+consumer.Name+`"`, `destination_workload="`+p.Name+`"`)
			}
			// No device has the address: what is not steered cannot connect.
			stop := filepath.Join(m.open(), "stop")
			stayed := m.launch(consumer, "calls", endless(vip4+":20880", stop))
			m.eventually("calls are made", func() bool { return called(v1) > 100 })
			m.must(consumer.Withdraw())
			m.eventually("the consumer has left", func() bool { return !consumer.Listens(15001) })
			if r := m.calls(consumer, callsOf{Target: vip4 + ":20880", N: 1, Timeout: 2 * time.Second}); len(r.Errors) == 0 {
				t.Errorf("a new connection is steered: %+v", r)
			}
			to("v2")
			m.eventually("calls go where they go now", func() bool { return called(v2) > 100 })
			to("v1")
			before := called(v1)
			m.eventually("calls go back", func() bool { return called(v1) > before+100 })

			m.must(os.WriteFile(stop, nil, 0o600))
			var r callsResult
			if stayed(&r); len(r.Errors) > 0 || r.Answers["v1"] < 100 || r.Answers["v2"] < 50 {
				t.Errorf("a connection that stays: %v %v", r.Answers, r.Errors)
			}
			m.eventually("the pod is forgotten", func() bool { return strings.Contains(proxy.Output(), "workload forgotten") })
		})
	}
}

// endless are calls on one connection until a file is there.
func endless(target, stop string) callsOf {
	return callsOf{Target: target, N: 1 << 20, Pause: 5 * time.Millisecond, Timeout: 30 * time.Second, Stop: stop}
}

// planeOf starts a control plane; what it returns has it tell a consumer of another route.
func (m *mesh) planeOf(consumer *testnet.Pod, service func(provider string) meshtest.Service) (to func(provider string)) {
	m.t.Helper()
	dir := m.open()
	m.tell(dir, "provider", meshtest.Service{Name: "other", Addresses: []string{"198.51.100.77"}, Routes: split(map[string]int{"v1": 1})}, "")
	var control *testnet.Process
	return func(provider string) {
		m.t.Helper()
		m.tell(dir, consumer.Name, service(provider), "")
		if control != nil { // it answers a stream once
			m.must(control.Stop(10 * time.Second))
		}
		var err error
		control, err = m.StartHelper("plane", dir)
		m.must(err)
	}
}

// TestProviderWithdrawn: the same for a provider. A large request on a connection that it has
// takes a connection to its application that is made only now.
func TestProviderWithdrawn(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	target := v1.Addr(20880).String()
	_, proxy := m.start(v1, v2)
	dir := m.open()
	stop, grow := filepath.Join(dir, "stop"), filepath.Join(dir, "grow")
	calls := endless(target, stop)
	calls.Grow = grow
	stayed := m.launch(consumer, "calls", calls)
	called := func() int {
		return meshtest.CountLines(proxy.Output(), `"dubbo_method"`, `"reporter":"destination"`, `"destination_pod":"`+v1.Name+`"`)
	}
	m.eventually("calls are made", func() bool { return called() > 20 })
	m.must(v1.Withdraw())
	m.eventually("the provider has left", func() bool { return !v1.Listens(15006) })
	m.must(os.WriteFile(grow, nil, 0o600))
	before := called()
	m.eventually("calls go on through the proxy", func() bool { return called() > before+20 })
	m.must(os.WriteFile(stop, nil, 0o600))
	var r callsResult
	if stayed(&r); len(r.Errors) > 0 || r.Answers["v1"] < 40 {
		t.Errorf("a connection that stays: %v %v", r.Answers, r.Errors)
	}
	m.eventually("the pod is forgotten", func() bool { return strings.Contains(proxy.Output(), "workload forgotten") })
}
