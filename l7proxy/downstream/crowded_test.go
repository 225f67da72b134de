package downstream

import (
	"bytes"
	"net"
	"testing"

	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/quota"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// TestCrowded: a workload that has as many requests in flight as it may, on all its
// connections, gets no more; what has ended makes room, however it ended.
func TestCrowded(t *testing.T) {
	const most = 10
	p := newProvider(t)
	p.mute.Store(true)
	r := newRig(t, p.addr)
	node := quota.NewNode(100, 100, 1<<20)
	node.Fly(most)
	w := node.Workload()
	r.quota.Store(w)
	first, second := r.dial(), r.dial()
	for i := range most {
		write(t, first, request(uint64(i), twoWay, nil))
	}
	waitFor(t, "all are in flight", w.Crowded)
	write(t, second, request(20, twoWay, nil))
	if h, body := mustAnswer(t, second); h.ID != 20 || !bytes.Contains(body, []byte(rpc.WhyOverflow.String())) {
		t.Errorf("status %d for %d: %s", h.Status, h.ID, body)
	}
	_ = first.(*net.TCPConn).SetLinger(0) // a reset: behind a FIN answers are waited for
	_ = first.Close()
	waitFor(t, "they are given up", func() bool { return !w.Crowded() })
	p.mute.Store(false)
	for i := range uint64(3 * most) { // nothing of them is left
		write(t, second, request(30+i, twoWay, nil))
		if h, body := mustAnswer(t, second); h.ID != 30+i || h.Status != dubbo.StatusOK {
			t.Fatalf("status %d for %d: %s", h.Status, h.ID, body)
		}
	}
	waitFor(t, "none is in flight", func() bool {
		w.Begin(most - 1)
		defer w.End(most - 1)
		return !w.Crowded()
	})
}
