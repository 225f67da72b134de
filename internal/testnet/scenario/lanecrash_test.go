package scenario

import (
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

var kills = flag.Int("kills", 30, "how often the proxy dies of TestLaneProxyKilled")

// laneLoad is connections with calls in lanes.
type laneLoad struct {
	*mesh

	stop  string // of callsOf
	waits []func() callsResult
}

// startLoad begins connections of so many calls at a time, and returns when each has a lane that
// the agent keeps.
func (m *mesh) startLoad(consumer *testnet.Pod, depths ...int) *laneLoad {
	m.t.Helper()
	l := &laneLoad{mesh: m, stop: filepath.Join(m.t.TempDir(), "stop")}
	for _, depth := range depths {
		l.waits = append(l.waits, m.background(consumer, callsOf{
			Target: vip4 + ":20880", N: math.MaxInt, Pause: time.Millisecond, Timeout: 30 * time.Second, Stop: l.stop, Depth: depth,
		}))
	}
	l.carried()
	return l
}

// carried waits until requests take all lanes, and the agent keeps them.
func (l *laneLoad) carried() {
	l.t.Helper()
	l.eventually("all calls are in lanes", func() bool {
		before := l.lanes()
		time.Sleep(50 * time.Millisecond)
		after := l.lanes()
		if len(before.Items) != len(l.waits) || len(after.Items) != len(l.waits) {
			return false
		}
		for i := range after.Items {
			one, other := &before.Items[i], &after.Items[i]
			if other.State != admin.LaneOpen || other.Requests <= one.Requests || other.Slow != one.Slow || len(other.Providers) != 2 {
				return false
			}
		}
		s, err := l.AgentStatus(l.ctx)
		return err == nil && s.Lanes != nil && s.Lanes.Kept == len(l.waits)
	})
}

// end ends the load, of which every call must have its own answer, on the connection that it
// began on, and returns how many there were.
func (l *laneLoad) end() (calls int) {
	l.t.Helper()
	l.must(os.WriteFile(l.stop, nil, 0o600))
	for i, wait := range l.waits {
		r := wait()
		of := r.Answers["v1"] + r.Answers["v2"]
		if len(r.Answers) != 2 || of == 0 {
			l.t.Errorf("connection %d: %v %v", i, r.Answers, r.Errors)
		}
		calls += of
	}
	return calls
}

// TestLaneProxyKilled: while proxies die one after the other, calls in lanes go on, on the
// same connections, also while there is none.
func TestLaneProxyKilled(t *testing.T) {
	limit := 10*time.Minute + time.Duration(*kills)*10*time.Second
	m := &mesh{Mesh: meshtest.New(t, "sc", 1, limit), t: t}
	m.ctx = m.Ctx
	consumer, v1, v2 := m.shop()
	m.put(routed{addresses: []string{vip4}, routes: split(map[string]int{"v1": 1, "v2": 1}), clusters: both(v1, v2)})
	_, proxy := m.startLane(consumer, v1, v2)
	load := m.startLoad(consumer, 1, 1, 4, 16)
	start := time.Now()
	for n := range *kills {
		m.must(proxy.Kill())
		<-proxy.Done()
		if n%5 == 0 {
			time.Sleep(200 * time.Millisecond) // calls have nobody but the kernel
		}
		var err error
		proxy, err = m.StartProxy(m.ctx, "--access-log", "stdout", "--log-level", "debug")
		m.must(err)
		load.carried()
		// One log is all proxies'.
		if taken := strings.Count(proxy.Output(), "lane taken over"); taken != (n+1)*len(load.waits) {
			t.Fatalf("after proxy %d, %d lanes were taken over", n+1, taken)
		}
	}
	took := time.Since(start).Round(time.Second)
	t.Logf("%d proxies died in %s: %d calls on %d connections, all answered", *kills, took, load.end(), len(load.waits))
}

// TestLaneAgentKilled: lanes go on without an agent, and the next one keeps them, so that
// they outlive the proxy again. When both die at once their connections end, and calls on
// new ones are answered.
func TestLaneAgentKilled(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	m.put(routed{addresses: []string{vip4}, routes: split(map[string]int{"v1": 1, "v2": 1}), clusters: both(v1, v2)})
	agent, proxy := m.startLane(consumer, v1, v2)
	load := m.startLoad(consumer, 1, 4)
	m.must(agent.Kill())
	<-agent.Done()
	agent, err := m.StartAgent(m.ctx, "--lane", "on")
	m.must(err)
	m.must(m.WaitEnrolled(m.ctx, consumer, v1, v2))
	load.carried()
	m.must(proxy.Kill())
	proxy, err = m.StartProxy(m.ctx, "--access-log", "stdout", "--log-level", "debug")
	m.must(err)
	load.carried()
	load.end()

	load = m.startLoad(consumer, 1)
	m.must(agent.Kill())
	m.must(proxy.Kill())
	if r := load.waits[0](); r.Answers["error"] != 1 {
		t.Errorf("the connection goes on, and nobody has it: %v", r.Answers)
	}
	m.startLane(consumer, v1, v2)
	if r := m.calls(consumer, callsOf{Target: vip4 + ":20880", N: 50, Timeout: 20 * time.Second}); r.Answers["v1"]+r.Answers["v2"] != 50 {
		t.Errorf("after both: %v %v", r.Answers, r.Errors)
	}
}
