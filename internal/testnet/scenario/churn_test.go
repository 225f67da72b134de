package scenario

import (
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// churnOf is a consumer that connects, calls and closes again and again, with
// several connections at a time.
type churnOf struct {
	Target  string
	Workers int
	Time    time.Duration
}

type churnResult struct {
	Answered, Failed int
	First            string // error
}

func churn(args []string) error {
	var ask churnOf
	if err := json.Unmarshal([]byte(args[1]), &ask); err != nil {
		return err
	}
	var mu sync.Mutex
	var result churnResult
	var working sync.WaitGroup
	for range ask.Workers {
		working.Go(func() {
			for end := time.Now().Add(ask.Time); time.Now().Before(end); time.Sleep(time.Millisecond) {
				err := callOnce(ask.Target)
				mu.Lock()
				if err == nil {
					result.Answered++
				} else if result.Failed++; result.First == "" {
					result.First = err.Error()
				}
				mu.Unlock()
			}
		})
	}
	working.Wait()
	return say(args[0], result)
}

func callOnce(target string) error {
	c, err := dubbotest.Dial(target)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Call(dubbotest.Request{}, []byte("x"), 30*time.Second)
	return err
}

// TestAgentKilledUnderLoad: the agent is killed and started twice while
// connections come and go by the hundred and others are full of requests. The
// address is no device's: a connect that is not steered, once, fails.
func TestAgentKilledUnderLoad(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	m.put(routed{addresses: []string{vip4}, routes: split(map[string]int{"v1": 1, "v2": 1}), clusters: both(v1, v2)})
	agent, _ := m.start(consumer, v1, v2)
	target := vip4 + ":20880"
	m.calls(consumer, callsOf{Target: target, N: 40, Timeout: 30 * time.Second})

	const busy = 8 * time.Second
	churned := m.launch(consumer, "churn", churnOf{Target: target, Workers: 16, Time: busy})
	verify := dubbotest.Verify{Target: target, Conns: 4, Depth: 16, Calls: 100_000, MaxSize: 4 << 10, Timeout: time.Minute}
	verified := m.launch(consumer, "verify", verify)
	for range 2 {
		time.Sleep(busy / 8)
		m.must(agent.Kill())
		time.Sleep(busy / 8)
		var err error
		if agent, err = m.StartAgent(m.ctx); err != nil {
			t.Fatal(err)
		}
		m.must(m.WaitEnrolled(m.ctx, consumer, v1, v2))
	}
	var c churnResult
	if churned(&c); c.Failed > 0 || c.Answered < 200 {
		t.Errorf("connections that came and went: %+v", c)
	}
	var r dubbotest.VerifyResult
	if verified(&r); r.Answered != verify.Calls || r.Lost+r.Duplicated+r.Refused != 0 {
		t.Errorf("connections that stayed: %+v", r)
	}
	t.Logf("%d connects and %d calls through two deaths of the agent", c.Answered, r.Answered)
}
