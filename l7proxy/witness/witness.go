package witness

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/sock"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// A witness is dialled anew every renewEvery. One that did not arrive within arrivalLimit is
// tried again after firstRetry, then after twice as long each time: a busy node may just
// have been late.
const (
	renewEvery   = 30 * time.Second
	firstRetry   = time.Second
	arrivalLimit = 500 * time.Millisecond
)

// witness says whether a consumer pod reaches an endpoint of this node.
type witness struct {
	live   atomic.Bool
	tried  chan struct{} // closed after the first try
	key    upstream.Key
	dialer *Dialer
}

// route is what an arriving connection shows of an attempt.
type route struct {
	from netip.Addr
	to   netip.AddrPort
}

// attempt is one witness on its way.
type attempt struct {
	known   chan struct{} // closed when local is set
	local   netip.AddrPort
	arrived chan *sock.Conn
}

// allowed tells whether the short cut may be taken now. The first to ask waits
// for the first witness. A pod that left the mesh has none: its connections that go on take the
// way that its new ones take.
func (d *Dialer) allowed(ctx context.Context, key upstream.Key) bool {
	if d.workloads.ByUID(key.Workload) == nil {
		return false
	}
	d.mu.Lock()
	p := pair{key.Workload, key.Endpoint}
	w := d.witnesses[p]
	if w == nil {
		w = &witness{tried: make(chan struct{}), key: key, dialer: d}
		d.witnesses[p] = w
		go w.run(p)
	}
	d.mu.Unlock()
	select {
	case <-w.tried:
	case <-ctx.Done():
	}
	return w.live.Load()
}

// run dials the witness anew again and again until one of the pods is gone.
func (w *witness) run(p pair) {
	d, retry := w.dialer, firstRetry
	var held [2]*sock.Conn
	drop := func() {
		for _, c := range held {
			if c != nil {
				_ = c.Close()
			}
		}
	}
	defer func() { drop() }()
	for first := true; ; first = false {
		near, far, asked := d.try(w.key)
		if asked || first {
			drop()
			held = [2]*sock.Conn{near, far}
			was := w.live.Swap(far != nil)
			if !first && was != (far != nil) {
				d.changed(p.workload, p.endpoint)
			}
		}
		if first {
			close(w.tried)
		}
		wait := renewEvery
		if w.live.Load() {
			retry = firstRetry
		} else {
			wait, retry = retry, min(2*retry, renewEvery)
		}
		select {
		case <-d.ctx.Done():
			return
		case <-time.After(wait):
		}
		if d.workloads.ByUID(p.workload) == nil || d.neighbour(w.key) == nil {
			d.mu.Lock()
			delete(d.witnesses, p)
			d.mu.Unlock()
			d.changed(p.workload, p.endpoint)
			return
		}
	}
}

// try sends one witness and returns both its ends, or nils. Without an agent to
// ask nothing is learnt, and what was known holds.
func (d *Dialer) try(key upstream.Key) (near, far *sock.Conn, asked bool) {
	consumer := d.workloads.ByUID(key.Workload)
	if consumer == nil {
		return nil, nil, true
	}
	a := &attempt{known: make(chan struct{}), arrived: make(chan *sock.Conn, 1)}
	r := route{from: consumer.Address(key.Endpoint.Addr()), to: key.Endpoint}
	d.mu.Lock()
	d.attempts[r] = a
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		delete(d.attempts, r)
		d.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(d.ctx, d.arrival)
	defer cancel()
	c, err := d.connect(ctx, handoff.Dial{Workload: key.Workload, Destination: key.Endpoint})
	if err != nil {
		close(a.known)
		return nil, nil, !errors.Is(err, handoff.ErrNotConnected)
	}
	a.local = c.Local()
	close(a.known)
	select {
	case far := <-a.arrived:
		return c, far, true
	case <-ctx.Done():
		_ = c.Close()
		return nil, nil, true
	}
}

// Arrived tells whether a connection that reached a pod's inbound listener is a
// witness; then it is the Dialer's.
func (d *Dialer) Arrived(c *sock.Conn, remote, local netip.AddrPort) bool {
	d.mu.Lock()
	a := d.attempts[route{from: remote.Addr(), to: local}]
	d.mu.Unlock()
	if a == nil {
		return false
	}
	select {
	case <-a.known:
	case <-time.After(d.arrival):
		return false
	}
	if a.local != remote {
		return false
	}
	a.arrived <- c
	return true
}
