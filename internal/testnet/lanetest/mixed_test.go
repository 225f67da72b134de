package lanetest_test

import (
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet/lanetest"
)

// toggle begins and ends lanes by the hand of others, until stop: the configuration is
// another every 30 ms, which makes everything that was learned void; and at times lanes are
// switched off and on.
func (n *node) toggle(stop <-chan struct{}) (changes, switches int) {
	for i := 1; ; i++ {
		select {
		case <-stop:
			return changes, switches
		case <-n.Ctx.Done():
			return changes, switches
		case <-time.After(30 * time.Millisecond):
		}
		switch i % 100 {
		case 98:
			n.choose(admin.LaneOff)
		case 99:
			n.choose(admin.LaneOn)
			switches++
		default:
			n.weigh(1+i%3, 2)
			changes++
		}
	}
}

// TestMixed: two providers answer out of order what three connections send in all shapes,
// half of it by names that may take the lane, while lanes come and go. Each byte is right at
// both ends, each call is served once, answered once and counted once, and nothing is left in
// flight.
func TestMixed(t *testing.T) {
	for _, test := range []struct {
		name   string
		toggle bool
		c      bool // consumers and the second provider are programs in C
		all    lanetest.Consumer
	}{
		{"lanes that stay", false, false, lanetest.Consumer{
			Target: vip4 + ":20880", Conns: 3, Calls: 8000, Depth: 32, Size: 32 << 10, Huge: 3, Lane: 50, Most: 200 << 10,
		}},
		{"lanes that come and go", true, false, lanetest.Consumer{
			Target: "[" + vip6 + "]:20880", Conns: 3, Calls: 8000, Depth: 32, Size: 200 << 10, Huge: 2, Lane: 50, Most: 32 << 10,
		}},
		{"small calls, lanes that come and go", true, false, lanetest.Consumer{
			Target: vip4 + ":20880", Conns: 4, Calls: 3000, Depth: 100, Size: 2 << 10, Lane: 80, Most: 2 << 10, Subscribes: true,
		}},
		{"programs in C, lanes that stay", false, true, lanetest.Consumer{
			Target: "[" + vip6 + "]:20880", Conns: 3, Calls: 8000, Depth: 32, Size: 32 << 10, Huge: 3, Lane: 70, Most: 200 << 10,
		}},
		{"programs in C, lanes that come and go", true, true, lanetest.Consumer{
			Target: vip4 + ":20880", Conns: 4, Calls: 6000, Depth: 48, Size: 100 << 10, Huge: 2, Lane: 70, Most: 32 << 10,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			limit := 4 * time.Minute * time.Duration(*soak)
			n := newNode(t, 2, test.all.Most, limit)
			k := test.all
			k.Seed, k.Calls, k.Huge = uint64(time.Now().UnixNano()), k.Calls**soak, k.Huge**soak
			t.Logf("seed %d", k.Seed)
			stop := make(chan struct{})
			var toggling sync.WaitGroup
			if test.toggle {
				toggling.Go(func() {
					changes, switches := n.toggle(stop)
					t.Logf("%d changes, %d switches", changes, switches)
				})
			}
			start := time.Now()
			run := func() func() lanetest.Result { return n.consume(k) }
			if test.c {
				n.provideC(1, k.Most)
				run = func() func() lanetest.Result { return n.consumeC(k, inC{}) }
			}
			r := run()()
			took := time.Since(start)
			close(stop)
			toggling.Wait()
			n.judge(k, r)
			t.Logf("%d calls in %v, %v by provider, %d in the lane; %d one-way, %d heartbeats, %d calls back; %v",
				r.Answered, took, r.By, n.took(), r.OneWays, r.Beats, r.Back, n.choose(admin.LaneOn).Outcomes)
		})
	}
}

// judge compares what came of calls, at both ends and in the books of the mesh.
func (n *node) judge(k lanetest.Consumer, r lanetest.Result) {
	n.T.Helper()
	calls, back := k.Conns*k.Calls, 0
	if k.Subscribes {
		back = lanetest.Callbacks
	}
	if len(r.Errors) > 0 || r.Answered != calls || r.Back != back {
		n.T.Errorf("%d answers, want %d; %d calls back, want %d; errors %q", r.Answered, calls, r.Back, back, r.Errors)
	}
	n.served(calls, r.OneWays)
	n.rested()
	n.recorded(calls + r.OneWays)
	if took := n.took(); took < calls/50 {
		n.T.Errorf("%d calls took the lane", took)
	}
	for i := range n.providers {
		if r.By[i] == 0 {
			n.T.Errorf("provider %d answered nothing", i)
		}
	}
}
