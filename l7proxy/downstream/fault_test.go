package downstream

import (
	"bytes"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/filter/tally"
	"github.com/dubway/dubway/l7proxy/quota"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

const all = 1_000_000

// fault gives the rig's listener a fault filter.
func (r *rig) fault(f *snapshot.Fault, endpoints ...netip.AddrPort) {
	r.faults([]*snapshot.Fault{f}, nil, endpoints...)
}

func (r *rig) faults(list []*snapshot.Fault, change func(*snapshot.Route), endpoints ...netip.AddrPort) {
	r.configureWith(func(s *snapshot.Snapshot) {
		s.Listeners[0].Faults = list
		if change != nil {
			change(s.Routes["r"].VirtualHosts[0].Routes[0])
		}
	}, endpoints...)
	r.env.Policies.Keep(r.snap.Load())
}

// delaying is a filter that delays every call of a method, "" for all.
func delaying(method string, d time.Duration) *snapshot.Fault {
	f := &snapshot.Fault{Name: "fault", Delay: d, Delayed: all, Most: math.MaxUint32}
	if method != "" {
		f.Headers = []snapshot.HeaderMatch{{Name: "method", Value: method}}
	}
	return f
}

// faulted tells of how many requests something became.
func (r *rig) faulted(result string) uint64 {
	for _, c := range r.env.Policies.Tally.All() {
		if c.Labels.Kind == tally.KindFault && c.Labels.Result == result {
			return c.Total
		}
	}
	return 0
}

// injected waits until it became of so many.
func (r *rig) injected(t *testing.T, result string, want uint64) {
	t.Helper()
	waitFor(t, fmt.Sprintf("%d %s", want, result), func() bool { return r.faulted(result) == want })
}

// drain lets all connections end.
func (r *rig) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.live {
		l.Drain()
	}
}

// TestDelayHoldsOneRequest: those behind it go on, its bytes stay as they were, and no
// delay counts as the mesh's own time.
func TestDelayHoldsOneRequest(t *testing.T) {
	const delay = 3 * time.Second // the other answers come in it, however busy the machine is
	p := newProvider(t)
	r := newRig(t, p.addr)
	r.fault(delaying("slow", delay), p.addr)
	c := r.dial()
	slow := call(1, "slow", 3)
	start := time.Now()
	write(t, c, append(bytes.Clone(slow), request(2, twoWay, []byte("x"))...))
	if h, _ := mustAnswer(t, c); h.ID != 2 {
		t.Errorf("the first answer is %d's", h.ID)
	}
	write(t, c, request(3, twoWay, make([]byte, 4000))) // over what was read before
	if h, _ := mustAnswer(t, c); h.ID != 3 {
		t.Errorf("the second answer is %d's", h.ID)
	}
	h, body := mustAnswer(t, c)
	if took := time.Since(start); h.ID != 1 || h.Status != dubbo.StatusOK || took < delay {
		t.Errorf("status %d for %d after %s", h.Status, h.ID, took)
	}
	if !bytes.HasSuffix(body, slow[dubbo.HeaderLen:]) {
		t.Errorf("%q came back, want %q", body, slow[dubbo.HeaderLen:])
	}
	r.expect(rpc.ResultValue, rpc.WhyNone, 3)
	r.injected(t, "delayed", 1)
	if r.rec.delayed != 1 || r.rec.spent >= delay {
		t.Errorf("%d records are of delayed requests, the longest overhead is %s", r.rec.delayed, r.rec.spent)
	}
}

// TestDelayHoldsLargeRequest: one that is passed on in pieces otherwise.
func TestDelayHoldsLargeRequest(t *testing.T) {
	const delay = 60 * time.Millisecond
	p := newProvider(t)
	r := newRig(t, p.addr)
	r.fault(delaying("", delay), p.addr)
	c := r.dial()
	start := time.Now()
	frame := request(1, twoWay, bytes.Repeat([]byte("large "), 100<<10))
	write(t, c, frame)
	h, body := mustAnswer(t, c)
	if h.ID != 1 || !bytes.HasSuffix(body, frame[dubbo.HeaderLen:]) || time.Since(start) < delay {
		t.Errorf("status %d, %d bytes after %s", h.Status, len(body), time.Since(start))
	}
}

func TestAbort(t *testing.T) {
	throws := &snapshot.Abort{Status: dubbo.StatusServiceError, Class: "java.lang.IllegalStateException", Message: "no stock"}
	for _, tt := range []struct {
		name   string
		fault  snapshot.Fault
		change func(*snapshot.Route)
		flags  byte
		status byte
		text   string
	}{
		{"a status", snapshot.Fault{Abort: &snapshot.Abort{Status: 60}}, nil, twoWay, 60, "dubway: a fault is injected: org.x.S.echo, cluster c"},
		{"its text", snapshot.Fault{Abort: &snapshot.Abort{Status: 31, Message: "later"}}, nil, twoWay, 31, "later"},
		{"an exception", snapshot.Fault{Abort: throws}, nil, twoWay, dubbo.StatusOK, "java.lang.IllegalStateException\x91\x0ddetailMessage\x60\x08no stock"},
		{"an exception that cannot be written", snapshot.Fault{Abort: throws}, nil, twoWay&^31 | 22, 70, "no stock"},
		{"what its route says", snapshot.Fault{Abort: throws}, func(r *snapshot.Route) {
			r.Policies = &snapshot.RoutePolicies{Abort: &snapshot.Abort{Status: 70}}
		}, twoWay, 70, "a fault is injected"},
		{"its route's filter", snapshot.Fault{}, func(r *snapshot.Route) {
			r.Policies = &snapshot.RoutePolicies{Faults: map[string]*snapshot.Fault{"fault": {Name: "fault", Abort: &snapshot.Abort{Status: 90}, Aborted: all, Most: 1}}}
		}, twoWay, 90, "a fault is injected"},
		{"behind its delay", snapshot.Fault{Delay: 50 * time.Millisecond, Delayed: all, Abort: &snapshot.Abort{Status: 60}}, nil, twoWay, 60, "a fault"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newProvider(t)
			r := newRig(t, p.addr)
			tt.fault.Name, tt.fault.Aborted, tt.fault.Most = "fault", all, math.MaxUint32
			r.faults([]*snapshot.Fault{&tt.fault}, tt.change, p.addr)
			c := r.dial()
			start := time.Now()
			write(t, c, request(5, tt.flags, []byte("x")))
			h, body := mustAnswer(t, c)
			if h.ID != 5 || h.Status != tt.status || !strings.Contains(string(body), tt.text) || time.Since(start) < tt.fault.Delay {
				t.Errorf("status %d for %d after %s: %q", h.Status, h.ID, time.Since(start), body)
			}
			r.expect(rpc.ResultLocal, rpc.WhyFault, 1)
			r.injected(t, "aborted", 1)
			if p.requests.Load() != 0 || (r.rec.delayed == 1) != (tt.fault.Delay > 0) {
				t.Errorf("the provider got %d requests, %d were delayed", p.requests.Load(), r.rec.delayed)
			}
		})
	}
}

// TestDelayEndsInTime: with the route's time, the consumer's end, or the proxy's.
func TestDelayEndsInTime(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	r.faults([]*snapshot.Fault{delaying("", time.Hour)}, func(route *snapshot.Route) { route.Action.Timeout = 60 * time.Millisecond }, p.addr)
	c := r.dial()
	write(t, c, request(7, twoWay, nil))
	if h, _ := mustAnswer(t, c); h.ID != 7 || h.Status != dubbo.StatusServerTimeout {
		t.Errorf("status %d for %d", h.Status, h.ID)
	}
	r.expect(rpc.ResultLocal, rpc.WhyTimeout, 1)

	r.fault(delaying("", time.Hour), p.addr)
	gone := r.dial()
	write(t, gone, append(request(8, twoWay, nil), request(9, twoWay&^codec.FlagTwoWay, nil)...))
	r.injected(t, "delayed", 3)
	_ = gone.(*net.TCPConn).SetLinger(0)
	_ = gone.Close()
	r.expect(rpc.ResultGone, rpc.WhyDownstreamGone, 2)
	if n := p.requests.Load(); n != 0 {
		t.Errorf("the provider got %d requests", n)
	}

	stopping := r.dial()
	write(t, stopping, request(10, twoWay, nil))
	r.injected(t, "delayed", 4)
	r.env.Stopping.Store(true)
	r.drain()
	if h, _ := mustAnswer(t, stopping); h.ID != 10 || h.Status != dubbo.StatusOK {
		t.Errorf("status %d for %d when the proxy stops", h.Status, h.ID)
	}
	if r.env.Policies.Faults.Full("shop/consumer", &snapshot.Fault{Name: "fault", Most: 1}) {
		t.Error("a delay is counted that is over")
	}
}

// TestHalfClosedWaitsForItsDelay: a consumer that sends no more gets its answer, and
// its one-way request is not lost.
func TestHalfClosedWaitsForItsDelay(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	r.fault(delaying("", 80*time.Millisecond), p.addr)
	for _, frames := range [][]byte{request(1, twoWay, nil), request(2, twoWay&^codec.FlagTwoWay, nil)} {
		c := r.dial()
		before := p.requests.Load()
		write(t, c, frames)
		_ = c.(*net.TCPConn).CloseWrite()
		waitFor(t, "the provider's request", func() bool { return p.requests.Load() == before+1 })
	}
	r.expect(rpc.ResultValue, rpc.WhyNone, 1)
	r.expect(rpc.ResultNone, rpc.WhyNone, 1)
}

// TestDelaysAreBounded: by the filter and by what the workload may hold. Beyond that,
// nothing happens to a request.
func TestDelaysAreBounded(t *testing.T) {
	p := newProvider(t)
	for _, tt := range []struct {
		name  string
		most  uint32
		bytes int64
		held  uint64
	}{
		{"the filter", 3, 64 << 20, 3}, {"no faults at all", 0, 64 << 20, 0}, {"the workload", math.MaxUint32, 200 << 10, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, p.addr)
			q := quota.NewNode(100, 100, tt.bytes).Workload()
			r.quota.Store(q)
			f := delaying("", time.Hour) // until the connection is to end
			f.Abort, f.Aborted, f.Most = &snapshot.Abort{Status: 60}, 0, tt.most
			r.fault(f, p.addr)
			c := r.dial()
			const n = 100
			for id := range uint64(n) {
				write(t, c, request(id, twoWay, make([]byte, 1000)))
			}
			waitFor(t, "all are taken", func() bool { return r.faulted("delayed")+r.faulted("overflowed") == n })
			late := r.faulted("delayed")
			early := n - late
			for i := range uint64(n) {
				if i == early {
					r.drain()
				}
				if h, _ := mustAnswer(t, c); h.Status != dubbo.StatusOK {
					t.Fatalf("status %d", h.Status)
				}
			}
			if tt.most != math.MaxUint32 && late != tt.held || tt.most == math.MaxUint32 && (late == 0 || late > 40) {
				t.Errorf("%d were delayed, %d were not", late, early)
			}
			waitFor(t, "what was held is given back", func() bool { return has(q, int(tt.bytes)-(64<<10)) })
		})
	}
}

// TestDelaysOfSeveralFilters: one after the other; the second one's abort too.
func TestDelaysOfSeveralFilters(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	first, second := delaying("", 60*time.Millisecond), delaying("", 70*time.Millisecond)
	second.Name, second.Abort, second.Aborted = "second", &snapshot.Abort{Status: 60}, all
	r.faults([]*snapshot.Fault{first, {Name: "idle"}, second}, nil, p.addr)
	c := r.dial()
	start := time.Now()
	write(t, c, request(1, twoWay, nil))
	if h, _ := mustAnswer(t, c); h.Status != 60 || time.Since(start) < 130*time.Millisecond {
		t.Errorf("status %d after %s", h.Status, time.Since(start))
	}
}
