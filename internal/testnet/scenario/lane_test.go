package scenario

import (
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
// counted once, whichever way it went. What is written in pieces takes it where it can.
func TestLane(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	m.put(routed{addresses: []string{vip4, vip6}, routes: split(map[string]int{"v1": 1, "v2": 1}), clusters: both(v1, v2)})
	m.startLane(consumer, v1, v2)
	sum, before := 0, 0
	for _, test := range []struct {
		percent int // of the calls that can take a lane, which do, at least
		verify  dubbotest.Verify
	}{
		{75, dubbotest.Verify{Target: vip4 + ":20880", Conns: 4, Depth: 16, Calls: 40_000, MaxSize: 4 << 10}},
		{50, dubbotest.Verify{Target: "[" + vip6 + "]:20880", Conns: 2, Depth: 8, Calls: 2000, MaxSize: 1 << 20}},
		{75, dubbotest.Verify{Target: vip4 + ":20880", Conns: 1, Depth: 16, Calls: 20_000, MaxSize: 4 << 10, Split: 4}},
		{75, dubbotest.Verify{Target: vip4 + ":20880", Conns: 1, Depth: 16, Calls: 20_000, MaxSize: 4 << 10, Split: 50}},
	} {
		var r dubbotest.VerifyResult
		v := test.verify
		v.Timeout = time.Minute
		before = m.laneCalls()
		m.launch(consumer, "verify", v)(&r)
		if r.Answered != v.Calls || r.Lost+r.Duplicated+r.Refused != 0 {
			t.Errorf("%+v: %+v", v, r)
		}
		took := m.laneCalls() - before
		t.Logf("%+v: %d of %d calls took a lane, %d can", v, took, v.Calls, r.Reach)
		if took < r.Reach*test.percent/100 {
			t.Errorf("%+v: %d calls took a lane, want %d %% of %d", v, took, test.percent, r.Reach)
		}
		if n := r.Providers["v1"]; n < v.Calls*4/10 || n > v.Calls*6/10 {
			t.Errorf("%+v: %d of %d calls went to v1, want half", v, n, v.Calls)
		}
		sum += v.Calls + r.OneWays
		before = m.laneCalls()
	}
	// One call after the other, each in one write: all but the first few.
	r := m.calls(consumer, callsOf{Target: vip4 + ":20880", N: 2000, Timeout: time.Minute})
	if got := r.Answers["v1"] + r.Answers["v2"]; got != 2000 || r.Answers["v1"] < 800 || r.Answers["v2"] < 800 {
		t.Errorf("%v %v", r.Answers, r.Errors)
	}
	if took := m.laneCalls() - before; took < 1600 {
		t.Errorf("%d of 2000 calls took a lane: %+v", took, m.lanes())
	} else {
		t.Logf("%d of 2000 calls took a lane", took)
	}
	sum += 2000
	m.counted(`istio_requests_total{`, sum, `reporter="source"`, `source_workload="consumer"`)
}

// lane says whether the node's calls may take lanes from now on.
func (m *mesh) lane(mode string) {
	m.t.Helper()
	client := admin.NewClient(admin.AgentSocket(m.StateDir()))
	defer client.Close()
	var now admin.NodeLanes
	m.must(client.Post(m.ctx, admin.PathNodeLanes, admin.LaneChoice{Mode: mode}, &now))
}

// TestLaneChanges: lanes come and go under calls, and routes change under them: no byte is
// lost, and calls go where the routes lead.
func TestLaneChanges(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	r := routed{addresses: []string{vip4}, routes: split(map[string]int{"v1": 1, "v2": 1}), clusters: both(v1, v2)}
	m.put(r)
	m.startLane(consumer, v1, v2)
	v := dubbotest.Verify{Target: vip4 + ":20880", Conns: 4, Depth: 8, Calls: 60_000, MaxSize: 4 << 10, Timeout: time.Minute}
	end := m.launch(consumer, "verify", v)
	m.eventually("calls take lanes", func() bool { return m.laneCalls() > 0 })
	for range 10 {
		m.lane("off")
		m.eventually("there are no lanes", func() bool { return len(m.lanes().Items) == 0 })
		m.lane("on")
		before := m.laneCalls()
		ended := false
		m.eventually("calls take lanes, or are over", func() bool {
			ended = m.Sum("istio_requests_total{") >= 2*v.Calls
			return ended || m.laneCalls() > before
		})
		if ended {
			break
		}
	}
	var verified dubbotest.VerifyResult
	end(&verified)
	if verified.Answered != v.Calls || verified.Lost+verified.Duplicated+verified.Refused != 0 {
		t.Errorf("%+v", verified)
	}
	m.counted(`istio_requests_total{`, v.Calls+verified.OneWays, `reporter="source"`, `source_workload="consumer"`)

	calls := m.launch(consumer, "calls", callsOf{Target: vip4 + ":20880", N: 4000, Pause: time.Millisecond, Timeout: time.Minute})
	before := m.laneCalls()
	m.eventually("calls take lanes", func() bool { return m.laneCalls() > before })
	r.routes = split(map[string]int{"v2": 1})
	m.put(r)
	m.eventually("the new routes", func() bool {
		s, err := m.ProxyStatus(m.ctx)
		return err == nil && s.Generation == 2
	})
	at := m.stats(v1).Calls
	var result callsResult
	calls(&result)
	if result.Answers["v1"]+result.Answers["v2"] != 4000 {
		t.Errorf("%v %v", result.Answers, result.Errors)
	}
	if n := m.stats(v1).Calls - at; n > 2 { // and one that asks
		t.Errorf("v1 got %d calls that the routes do not lead there", n)
	}
}
