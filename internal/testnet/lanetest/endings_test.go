package lanetest_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet/lanetest"
)

// steady is a load that ends by itself, of calls that may take the lane.
func steady(calls int) lanetest.Consumer {
	return lanetest.Consumer{
		Target: vip4 + ":20880", Conns: 3, Calls: calls, Depth: 16, Seed: uint64(calls), Size: 4 << 10, Lane: 100, Most: 4 << 10,
	}
}

// underWay waits until more calls have taken the lane.
func (n *node) underWay() {
	n.T.Helper()
	before := n.took()
	n.Eventually("calls take the lane", func() bool { return n.took() > before+200 })
}

// TestAgentRestarts: lanes go on while the agent is away, and no call notices.
func TestAgentRestarts(t *testing.T) {
	n := newNode(t, 2, 4<<10, 8*time.Minute)
	k := steady(250_000) // more than two restarts take
	end := n.consume(k)
	n.underWay()
	for range 2 {
		n.Must(n.agent.Kill())
		<-n.agent.Done()
		before := n.took()
		n.Eventually("calls take the lane without an agent", func() bool { return n.took() > before })
		var err error
		n.agent, err = n.StartAgent(n.Ctx, "--lane", "on")
		n.Must(err)
		n.underWay()
	}
	n.judge(k, end())
}

// TestConsumerKilled: what was in flight is recorded once, the providers are none the worse,
// and who calls next is served.
func TestConsumerKilled(t *testing.T) {
	n := newNode(t, 2, 4<<10, 4*time.Minute)
	for range 5 {
		k := steady(1 << 30)
		k.Silence = time.Hour
		proc := n.launch(k)
		n.underWay()
		n.Must(proc.Kill())
		n.Eventually("the lanes of the dead have ended", func() bool { return len(n.lanes().Items) == 0 })
	}
	n.rested()
	served := func() (calls, errors int) {
		for i := range n.providers {
			b := n.book(i)
			calls, errors = calls+b.Calls+b.OneWays, errors+len(b.Errors)
		}
		return calls, errors
	}
	// What was served was recorded: as answered, or as of a consumer that has gone.
	var calls, recorded, errors int
	n.Eventually("the books agree", func() bool {
		calls, errors = served()
		recorded = n.Sum("istio_requests_total{", `reporter="source"`, `source_workload="consumer"`)
		return calls <= recorded
	})
	gone := n.Sum("istio_requests_total{", `reporter="source"`, `source_workload="consumer"`) -
		n.Sum("istio_requests_total{", `reporter="source"`, `source_workload="consumer"`, `response_flags="-"`)
	t.Logf("%d calls served, %d recorded, %d of them as gone", calls, recorded, gone)
	if errors > 0 || recorded-calls > gone {
		t.Errorf("%d served, %d recorded, %d gone, %d providers' errors", calls, recorded, gone, errors)
	}
	k := steady(3000)
	k.First = 1000
	if r := n.consume(k)(); len(r.Errors) > 0 || r.Answered != k.Conns*k.Calls {
		t.Errorf("the next consumers: %d answers; %q", r.Answered, r.Errors)
	}
}

// TestProviderKilled: of two providers one is killed in the middle of its answers. What it
// had in hand is refused, once; everything else is answered.
func TestProviderKilled(t *testing.T) {
	n := newNode(t, 2, 100<<10, 4*time.Minute)
	k := steady(40_000)
	k.Tolerant, k.Most = true, 100<<10
	end := n.consume(k)
	n.underWay()
	n.Must(n.processes[1].Kill())
	<-n.processes[1].Done()
	n.weigh(1)
	r := end()
	t.Logf("%d answered, %d refused", r.Answered, r.Refused)
	if len(r.Errors) > 0 || r.Answered+r.Refused != k.Conns*k.Calls || r.Refused == 0 {
		t.Errorf("%d answered and %d refused of %d; errors %q", r.Answered, r.Refused, k.Conns*k.Calls, r.Errors)
	}
	n.rested()
	n.Counted("istio_requests_total{", k.Conns*k.Calls+r.OneWays, `reporter="source"`, `source_workload="consumer"`)
	if b := n.book(0); b.Doubled > 0 || len(b.Errors) > 0 {
		t.Errorf("the provider that lives: %d calls twice; errors %q", b.Doubled, b.Errors)
	}
}

// TestProviderStops: a provider that reads nothing is sent no more than the cap through the
// lane, others are called as before, and when it wakes it answers everything.
func TestProviderStops(t *testing.T) {
	n := newNode(t, 2, 2<<10, 4*time.Minute)
	n.apart()
	asleep := steady(3000)
	asleep.Conns, asleep.Depth, asleep.Size, asleep.Most, asleep.Silence = 2, 400, 100<<10, 2<<10, time.Hour
	end := n.consume(asleep)
	n.underWay()
	n.Must(n.processes[0].Signal(syscall.SIGSTOP))
	full := func() int { return n.Sum("dubway_lane_full_total") }
	before := full()
	n.Eventually("its lanes are full", func() bool { return full() > before })
	awake := steady(5000)
	awake.Target, awake.First, awake.Most = other4+":20880", 100, 2<<10
	if r := n.consume(awake)(); len(r.Errors) > 0 || r.Answered != awake.Conns*awake.Calls || r.By[1] != r.Answered {
		t.Errorf("beside it: %d answers, %v; errors %q", r.Answered, r.By, r.Errors)
	}
	n.Must(n.processes[0].Signal(syscall.SIGCONT))
	if r := end(); len(r.Errors) > 0 || r.Answered != asleep.Conns*asleep.Calls {
		t.Errorf("when it woke: %d answers; errors %q", r.Answered, r.Errors)
	}
	n.rested()
}

// TestConnections: a thousand connections have their lanes.
func TestConnections(t *testing.T) {
	n := newNode(t, 2, 1<<10, 6*time.Minute)
	k := lanetest.Consumer{
		Target: "[" + vip6 + "]:20880", Conns: 1000, Calls: 150, Depth: 10, Seed: 1, Size: 1 << 10, Lane: 100, Most: 1 << 10,
		Silence: 2 * time.Minute,
	}
	r := n.consume(k)()
	n.judge(k, r)
	text, err := n.Metrics(n.Ctx)
	n.Must(err)
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "dubway_lane") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// TestThreads: two threads write to each socket, each frame by one send(), without a lock of
// their own.
func TestThreads(t *testing.T) {
	n := newNode(t, 2, 2<<10, 4*time.Minute)
	k := lanetest.Consumer{
		Target: vip4 + ":20880", Conns: 4, Calls: 20_000, Depth: 16, Seed: 3, Size: 8 << 10, Lane: 80, Most: 2 << 10, Threads: true,
	}
	r := n.consume(k)()
	n.judge(k, r)
	t.Logf("%d calls, %d in the lane", r.Answered, n.took())
}
