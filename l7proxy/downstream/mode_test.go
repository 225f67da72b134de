package downstream

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/mode"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// close publishes a snapshot whose listeners let nobody in.
func (r *rig) close() {
	old := r.snap.Load()
	s := &snapshot.Snapshot{Generation: old.Generation + 1, Routes: old.Routes, Clusters: old.Clusters}
	for _, l := range old.Listeners {
		shut := *l
		shut.Gate = &snapshot.Gate{RBAC: []*snapshot.RBAC{{Name: "nobody", Rules: &snapshot.Rules{}}}}
		shut.HTTPGate, shut.TCPGate = shut.Gate, shut.Gate
		s.Listeners = append(s.Listeners, &shut)
	}
	r.snap.Store(s.Seal())
}

// TestOff: a workload that goes off keeps what is pending; its connections end when
// nothing is, and those to come go as they are to what was dialled, past all policies.
func TestOff(t *testing.T) {
	p, stranger := newProvider(t), newProvider(t)
	r := newRig(t, p.addr)
	table := r.env.Modes
	if err := table.Put(&mode.Workload{UID: r.pod.UID, Namespace: r.pod.Namespace, Name: r.pod.Name}); err != nil {
		t.Fatal(err)
	}
	c := r.dial()
	_, _ = c.Write(request(1, twoWay, []byte("\x01a")))
	if _, err := readFrame(c); err != nil {
		t.Fatal(err)
	}
	gate := make(chan struct{})
	p.gate.Store(&gate)
	_, _ = c.Write(request(2, twoWay, []byte("\x01b")))
	waitFor(t, "the request is pending", func() bool { return p.requests.Load() == 2 })
	if _, err := table.Say("shop/consumer", "off"); err != nil {
		t.Fatal(err)
	}
	r.drain()
	_ = c.SetReadDeadline(time.Now().Add(4 * lastLook))
	if n, err := c.Read(make([]byte, 1)); n > 0 || errors.Is(err, io.EOF) {
		t.Fatalf("with a request pending: %d bytes, %v", n, err)
	}
	close(gate)
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	if rest, err := io.ReadAll(c); err != nil || len(rest) == 0 {
		t.Errorf("the pending answer, and then the end: %d bytes, %v", len(rest), err)
	}

	r.close()
	r.dst.Store(&stranger.addr)
	c = r.dial()
	_, _ = c.Write(request(3, twoWay, []byte("\x01c")))
	if _, err := readFrame(c); err != nil {
		t.Error(err)
	}
	_ = c.Close()
	waitFor(t, "the record", func() bool {
		r.rec.mu.Lock()
		defer r.rec.mu.Unlock()
		n := len(r.rec.conns)
		return n == 2 && r.rec.conns[1].Closed && r.rec.conns[1].Why == rpc.WhyNone && r.rec.conns[1].Call.Protocol == rpc.ProtocolTCP
	})
}

// TestObservedOpaque: an opaque connection that would be refused is passed on, and told.
func TestObservedOpaque(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	if err := r.env.Modes.Put(&mode.Workload{UID: r.pod.UID, Labels: map[string]string{mode.Key: "observe"}}); err != nil {
		t.Fatal(err)
	}
	r.close()
	c := r.dial()
	_, _ = c.Write([]byte("hello"))
	waitFor(t, "the record", func() bool {
		r.rec.mu.Lock()
		defer r.rec.mu.Unlock()
		return len(r.rec.conns) == 1 && r.rec.conns[0].Why == rpc.WhyNone && r.rec.conns[0].Call.Would == rpc.WhyDenied
	})
	_ = c.Close()
}
