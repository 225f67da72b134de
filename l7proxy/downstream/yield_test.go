package downstream

import (
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/quota"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// TestYield: a workload whose bodies rules have read too much of waits, on each of its
// connections, and is served; another one goes on meanwhile. Names cost nothing.
func TestYield(t *testing.T) {
	const rate, values = 1000, 600
	p := newProvider(t)
	r := newRig(t, p.addr)
	node := quota.NewNode(100, 100, 1<<20)
	node.Pace(rate)
	busy, other := node.Workload(), node.Workload()
	list := append([]byte("W"), make([]byte, values)...) // of doubles of one byte
	for i := range values {
		list[1+i] = 0x5b
	}
	list = append(list, "ZH\x03env\x01xZ"...)
	ask := func(q *quota.Workload, n int) (took time.Duration) {
		t.Helper()
		r.quota.Store(q)
		c := r.dial()
		start := time.Now()
		for i := range n {
			write(t, c, request(uint64(i), twoWay, list))
			if h, _ := mustAnswer(t, c); h.ID != uint64(i) || h.Status != dubbo.StatusOK {
				t.Fatalf("status %d for %d", h.Status, h.ID)
			}
		}
		return time.Since(start)
	}
	ask(busy, 20)
	if n := node.Waits().Count.Load(); n != 0 {
		t.Errorf("%d waits for names", n)
	}
	r.route(false, map[string]snapshot.HeaderMatch{
		"1 body": {Source: snapshot.SourceAttachment, Name: "env", Value: "x"},
	})
	if took, least := ask(busy, 4), 3*values*time.Second/rate-100*time.Millisecond; took < least {
		t.Errorf("4 requests of %d values took %s at %d a second", values, took, rate)
	}
	// Each of the four, the last one behind its answer.
	waitFor(t, "four waits", func() bool { return node.Waits().Count.Load() == 4 })
	r.quota.Store(other)
	c := r.dial()
	write(t, c, request(1, twoWay, []byte("\x91H\x03env\x01xZ")))
	if h, _ := mustAnswer(t, c); h.Status != dubbo.StatusOK || other.Decoded(0, time.Now()) > 0 {
		t.Errorf("status %d of the other workload, which waits for the first one", h.Status)
	}
}
