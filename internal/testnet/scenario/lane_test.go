package scenario

import (
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// startLane is start of a node with lanes.
func (m *mesh) startLane(pods ...*testnet.Pod) (agent, proxy *testnet.Process) {
	m.t.Helper()
	agent, err := m.StartAgent(m.ctx, "--lane", "on")
	m.must(err)
	proxy, err = m.StartProxy(m.ctx, "--access-log", "stdout", "--log-level", "debug")
	m.must(err)
	m.must(m.WaitEnrolled(m.ctx, pods...))
	m.eventually("steering in force", func() bool {
		s, err := m.AgentStatus(m.ctx)
		return err == nil && s.Generation > 0
	})
	return agent, proxy
}

// laneCalls is how many calls took a lane both ways.
func (m *mesh) laneCalls() int { return m.Sum("dubway_lane_calls_total") }

// lanes lists them.
func (m *mesh) lanes() (list admin.LaneList) {
	m.t.Helper()
	client := admin.NewClient(admin.ProxySocket(m.StateDir()))
	defer client.Close()
	m.must(client.Get(m.ctx, admin.PathLanes, &list))
	return list
}

// TestLane: calls to neighbours take a lane, every byte is as it was sent, and each call is
// counted once, whichever way it went.
func TestLane(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	m.put(routed{addresses: []string{vip4, vip6}, routes: split(map[string]int{"v1": 1, "v2": 1}), clusters: both(v1, v2)})
	m.startLane(consumer, v1, v2)
	sum := 0
	for _, v := range []dubbotest.Verify{
		{Target: vip4 + ":20880", Conns: 4, Depth: 16, Calls: 40_000, MaxSize: 4 << 10, Timeout: time.Minute},
		{Target: "[" + vip6 + "]:20880", Conns: 2, Depth: 8, Calls: 2000, MaxSize: 1 << 20, Timeout: time.Minute},
	} {
		var r dubbotest.VerifyResult
		before := m.laneCalls()
		end := m.launch(consumer, "verify", v)
		for range 3 {
			time.Sleep(time.Second)
			t.Logf("%+v", m.lanes())
		}
		end(&r)
		if r.Answered != v.Calls || r.Lost+r.Duplicated+r.Refused != 0 {
			t.Errorf("%s: %+v", v.Target, r)
		}
		took := m.laneCalls() - before
		t.Logf("%s: %d of %d calls took a lane", v.Target, took, v.Calls)
		if took < v.Calls/10 {
			t.Errorf("%s: %d of %d calls took a lane", v.Target, took, v.Calls)
		}
		sum += v.Calls + r.OneWays
		t.Logf("%+v", r)
	}
	text, err := m.Metrics(m.ctx)
	m.must(err)
	for line := range strings.Lines(text) {
		if strings.Contains(line, "_lane") && !strings.HasPrefix(line, "#") {
			t.Log(line)
		}
	}
	m.counted(`istio_requests_total{`, sum, `reporter="source"`, `source_workload="consumer"`)
}
