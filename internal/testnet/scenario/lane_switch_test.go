package scenario

import (
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// TestLaneSwitch: lanes are switched on, to observe and off while calls go on, and no byte of
// them is lost, doubled or another's.
func TestLaneSwitch(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	m.put(routed{addresses: []string{vip4, vip6}, routes: split(map[string]int{"v1": 1, "v2": 1}), clusters: both(v1, v2)})
	m.startLane(consumer, v1, v2)
	client := admin.NewClient(admin.AgentSocket(m.StateDir()))
	defer client.Close()
	choose := func(mode string) (n admin.NodeLanes, err error) {
		err = client.Post(m.ctx, admin.PathNodeLanes, admin.LaneChoice{Mode: mode}, &n)
		return n, err
	}
	stop := make(chan struct{})
	var switching sync.WaitGroup
	switches := 0
	switching.Go(func() {
		for {
			for _, mode := range []string{admin.LaneObserve, admin.LaneOn, admin.LaneOff, admin.LaneOn} {
				if n, err := choose(mode); err != nil || n.Mode != mode {
					t.Errorf("%s was chosen: %+v, %v", mode, n, err)
					return
				}
				switches++
				select {
				case <-stop:
					return
				case <-time.After(300 * time.Millisecond):
				}
			}
		}
	})
	v := dubbotest.Verify{Target: vip4 + ":20880", Conns: 4, Depth: 8, Calls: 20_000, MaxSize: 4 << 10, Timeout: time.Minute}
	var r dubbotest.VerifyResult
	m.launch(consumer, "verify", v)(&r)
	calls := m.calls(consumer, callsOf{Target: vip4 + ":20880", N: 3000, Timeout: time.Minute})
	close(stop)
	switching.Wait()
	if r.Answered != v.Calls || r.Lost+r.Duplicated+r.Refused != 0 {
		t.Errorf("%+v", r)
	}
	if got := calls.Answers["v1"] + calls.Answers["v2"]; got != 3000 {
		t.Errorf("%v %v", calls.Answers, calls.Errors)
	}
	took := m.laneCalls()
	t.Logf("%d of %d calls took a lane, behind %d switches", took, v.Calls+3000, switches)
	if took == 0 || switches < 4 {
		t.Errorf("%d calls took a lane, behind %d switches: nothing was switched", took, switches)
	}
	if _, err := choose(admin.LaneOff); err != nil {
		t.Fatal(err)
	}
	m.eventually("no lane is left", func() bool { return len(m.lanes().Items) == 0 })
	if again := m.calls(consumer, callsOf{Target: vip4 + ":20880", N: 200, Timeout: time.Minute}); again.Answers["v1"]+again.Answers["v2"] != 200 {
		t.Errorf("without lanes: %v %v", again.Answers, again.Errors)
	}
	if n := m.laneCalls(); n != took {
		t.Errorf("%d calls took a lane that is off", n-took)
	}
	m.counted(`istio_requests_total{`, v.Calls+r.OneWays+3200, `reporter="source"`, `source_workload="consumer"`)
}
