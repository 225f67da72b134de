package downstream

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/filter/global"
	"github.com/dubway/dubway/l7proxy/filter/tally"
	"github.com/dubway/dubway/l7proxy/mode"
	"github.com/dubway/dubway/l7proxy/quota"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// asker is a rate limit service that a test answers for: by the value of the first
// entry, which is the method.
type asker struct {
	answers map[string]global.Answer // WithinLimit unless given
	wait    chan struct{}            // what asks about "wait" waits for its end; nil: for ever

	mu   sync.Mutex
	said map[string]int // how often it was asked, by domain and method
}

var _ Asker = (*asker)(nil)

func (a *asker) Ask(ctx context.Context, q *global.Question) global.Answer {
	method := q.Descriptors[0][0].Value
	a.mu.Lock()
	if a.said == nil {
		a.said = make(map[string]int)
	}
	a.said[q.Domain+" "+method]++
	a.mu.Unlock()
	if method == "wait" {
		select {
		case <-a.wait:
		case <-ctx.Done():
			return global.NoAnswer
		}
	}
	return a.answers[method]
}

func (a *asker) asked(what string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.said[what]
}

// asking is a filter that asks by method, for as long as a busy machine may take.
func asking(name string) *snapshot.Global {
	return &snapshot.Global{Name: name, Domain: name, Timeout: time.Minute, Enabled: all, Enforced: all}
}

// byMethod describes every request of a route by its method.
func byMethod(route *snapshot.Route) {
	route.Policies = &snapshot.RoutePolicies{Rates: []snapshot.Rate{{Actions: []snapshot.RateAction{{
		Kind: snapshot.RateHeader, Key: "method", Headers: []snapshot.HeaderMatch{{Name: "method", Kind: snapshot.HeaderPresent, Want: true}},
	}}}}}
}

// asks gives the rig's listener global rate limits, and a service.
func (r *rig) asks(a *asker, change func(*snapshot.Snapshot), list ...*snapshot.Global) {
	r.env.Asker = a
	r.configureWith(func(s *snapshot.Snapshot) {
		s.Listeners[0].Globals = list
		byMethod(s.Routes["r"].VirtualHosts[0].Routes[0])
		if change != nil {
			change(s)
		}
	}, r.endpoints...)
	r.env.Policies.Keep(r.snap.Load())
}

// counted waits for the counts of the global limits.
func (r *rig) counted(t *testing.T, want map[string]uint64) {
	t.Helper()
	var got map[string]uint64
	defer func() {
		if t.Failed() {
			t.Logf("counted %v, want %v", got, want)
		}
	}()
	waitFor(t, fmt.Sprint("counts ", want), func() bool {
		got = make(map[string]uint64)
		for _, c := range r.env.Policies.Tally.All() {
			if c.Labels.Kind == tally.KindGlobal && c.Total > 0 {
				got[c.Labels.Result] += c.Total
			}
		}
		return fmt.Sprint(got) == fmt.Sprint(want)
	})
}

// TestAskHoldsOneRequest: those behind it go on, its bytes stay as they were, it is no
// fault's delay, and the time of the service is the mesh's own.
func TestAskHoldsOneRequest(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	a := &asker{wait: make(chan struct{})}
	r.asks(a, nil, asking("g"))
	c := r.dial()
	held := call(1, "wait", 3)
	write(t, c, append(bytes.Clone(held), call(2, "echo", 3)...))
	if h, _ := mustAnswer(t, c); h.ID != 2 {
		t.Errorf("the first answer is %d's", h.ID)
	}
	write(t, c, request(3, twoWay, make([]byte, 4000))) // over what was read before
	if h, _ := mustAnswer(t, c); h.ID != 3 {
		t.Errorf("the second answer is %d's", h.ID)
	}
	const least = 20 * time.Millisecond
	time.Sleep(least)
	close(a.wait)
	h, body := mustAnswer(t, c)
	if h.ID != 1 || h.Status != dubbo.StatusOK || !bytes.HasSuffix(body, held[dubbo.HeaderLen:]) {
		t.Errorf("status %d for %d: %q came back, want %q", h.Status, h.ID, body, held[dubbo.HeaderLen:])
	}
	r.expect(rpc.ResultValue, rpc.WhyNone, 3)
	r.counted(t, map[string]uint64{"ok": 3})
	if r.rec.delayed != 0 || r.rec.spent < least {
		t.Errorf("%d records are of delayed requests, the longest overhead is %s", r.rec.delayed, r.rec.spent)
	}
}

// TestAskRefuses: as a local limit does, one-way or not, and what the service lets pass
// goes on to the provider.
func TestAskRefuses(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	r.asks(&asker{answers: map[string]global.Answer{"place": global.OverLimit}}, nil, asking("g"))
	c := r.dial()
	write(t, c, call(5, "place", 3))
	h, body := mustAnswer(t, c)
	if h.ID != 5 || h.Status != dubbo.StatusOK || !bytes.Contains(body, []byte("RpcException")) || !bytes.Contains(body, []byte("a rate limit is reached")) {
		t.Errorf("status %d for %d: %q", h.Status, h.ID, body)
	}
	r.expect(rpc.ResultLocal, rpc.WhyLimited, 1)
	oneWay := call(6, "place", 3)
	oneWay[2] &^= codec.FlagTwoWay
	write(t, c, oneWay)
	r.expect(rpc.ResultLocal, rpc.WhyLimited, 2)
	write(t, c, call(7, "find", 3))
	if h, _ := mustAnswer(t, c); h.ID != 7 || h.Status != dubbo.StatusOK {
		t.Errorf("status %d for %d", h.Status, h.ID)
	}
	oneWay = call(8, "find", 3)
	oneWay[2] &^= codec.FlagTwoWay
	write(t, c, oneWay)
	r.expect(rpc.ResultNone, rpc.WhyNone, 1)
	r.counted(t, map[string]uint64{"over_limit": 2, "ok": 2})
	if n := p.requests.Load(); n != 2 {
		t.Errorf("the provider got %d requests", n)
	}
}

// TestAskFails: what the service cannot tell passes, or not.
func TestAskFails(t *testing.T) {
	for _, tt := range []struct {
		name   string
		denied uint32
		answer *asker
		why    rpc.Why
		counts map[string]uint64
	}{
		{"an error passes", 0, &asker{answers: map[string]global.Answer{"wait": global.NoAnswer}}, rpc.WhyNone, map[string]uint64{"error": 1, "failure_mode_allowed": 1}},
		{"an error is denied", all, &asker{answers: map[string]global.Answer{"wait": global.NoAnswer}}, rpc.WhyLimitUnknown, map[string]uint64{"error": 1}},
		{"no service passes", 0, nil, rpc.WhyNone, map[string]uint64{"error": 1, "failure_mode_allowed": 1}},
		{"no service is denied", all, nil, rpc.WhyLimitUnknown, map[string]uint64{"error": 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newProvider(t)
			r := newRig(t, p.addr)
			f := asking("g")
			f.Denied, f.Timeout = tt.denied, 30*time.Millisecond // "wait" is never answered
			r.asks(tt.answer, nil, f)
			if tt.answer == nil {
				r.env.Asker = nil
			}
			c := r.dial()
			write(t, c, call(1, "wait", 3))
			_, _ = mustAnswer(t, c)
			result := rpc.ResultValue
			if tt.why != rpc.WhyNone {
				result = rpc.ResultLocal
			}
			r.expect(result, tt.why, 1)
			r.counted(t, tt.counts)
		})
	}
}

// TestAskOrder: what a local limit refuses is not asked about, what a service refuses has
// no fault, several services are asked one after the other, and a fault comes behind.
func TestAskOrder(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	a := &asker{answers: map[string]global.Answer{"place": global.OverLimit}}
	local := &snapshot.Limit{
		Name: "local", Enabled: all, Enforced: all, Always: false,
		Descriptors: []snapshot.Descriptor{{
			Entries: []snapshot.Entry{{Key: "method", Value: "none"}}, Bucket: &snapshot.Bucket{Interval: time.Hour},
		}},
	}
	abort := &snapshot.Fault{Name: "fault", Abort: &snapshot.Abort{Status: 60}, Aborted: all, Most: 1}
	r.asks(a, func(s *snapshot.Snapshot) {
		s.Listeners[0].Limits, s.Listeners[0].Faults = []*snapshot.Limit{local}, []*snapshot.Fault{abort}
	}, asking("first"), asking("second"))
	c := r.dial()
	for _, tt := range []struct {
		method        string
		status        byte
		first, second int
	}{
		{"none", dubbo.StatusOK, 0, 0}, // it throws
		{"place", dubbo.StatusOK, 1, 0},
		{"find", 60, 1, 1},
	} {
		write(t, c, call(1, tt.method, 3))
		if h, body := mustAnswer(t, c); h.Status != tt.status {
			t.Errorf("%s: status %d, %q", tt.method, h.Status, body)
		}
		if first, second := a.asked("first "+tt.method), a.asked("second "+tt.method); first != tt.first || second != tt.second {
			t.Errorf("%s: asked %d and %d times, want %d and %d", tt.method, first, second, tt.first, tt.second)
		}
	}
	waitFor(t, "three records", func() bool {
		r.rec.mu.Lock()
		defer r.rec.mu.Unlock()
		return r.rec.results[rpc.ResultLocal] == 3 && r.rec.whys[rpc.WhyLimited] == 2 && r.rec.whys[rpc.WhyFault] == 1
	})
	if n := p.requests.Load(); n != 0 {
		t.Errorf("the provider got %d requests", n)
	}
}

// TestAskThenDelay: a request waits for the service, and then for its fault.
func TestAskThenDelay(t *testing.T) {
	const delay = 60 * time.Millisecond
	p := newProvider(t)
	r := newRig(t, p.addr)
	r.asks(&asker{}, func(s *snapshot.Snapshot) { s.Listeners[0].Faults = []*snapshot.Fault{delaying("", delay)} }, asking("g"))
	c := r.dial()
	start := time.Now()
	write(t, c, call(1, "find", 3))
	if h, _ := mustAnswer(t, c); h.Status != dubbo.StatusOK || time.Since(start) < delay {
		t.Errorf("status %d after %s", h.Status, time.Since(start))
	}
	r.expect(rpc.ResultValue, rpc.WhyNone, 1)
	r.injected(t, "delayed", 1)
	r.counted(t, map[string]uint64{"ok": 1})
	if r.rec.delayed != 1 {
		t.Errorf("%d records are of delayed requests", r.rec.delayed)
	}
}

// TestAskEnds: with the route's time, with the consumer, which is no error of the
// service's, and not with the proxy, which waits for the answer.
func TestAskEnds(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	a := &asker{wait: make(chan struct{})}
	limited := func(s *snapshot.Snapshot) {
		s.Routes["r"].VirtualHosts[0].Routes[0].Action.Timeout = 60 * time.Millisecond
	}
	r.asks(a, limited, asking("g"))
	c := r.dial()
	write(t, c, call(7, "wait", 3))
	if h, _ := mustAnswer(t, c); h.ID != 7 || h.Status != dubbo.StatusServerTimeout {
		t.Errorf("status %d for %d", h.Status, h.ID)
	}
	r.expect(rpc.ResultLocal, rpc.WhyTimeout, 1)

	r.asks(a, nil, asking("g"))
	gone := r.dial()
	oneWay := call(9, "wait", 3)
	oneWay[2] &^= codec.FlagTwoWay
	write(t, gone, append(call(8, "wait", 3), oneWay...))
	waitFor(t, "three questions", func() bool { return a.asked("g wait") == 3 })
	_ = gone.(*net.TCPConn).SetLinger(0)
	_ = gone.Close()
	r.expect(rpc.ResultGone, rpc.WhyDownstreamGone, 2)

	stopping := r.dial()
	write(t, stopping, call(10, "wait", 3))
	waitFor(t, "four questions", func() bool { return a.asked("g wait") == 4 })
	r.env.Stopping.Store(true)
	r.mu.Lock()
	for _, l := range r.live {
		l.Drain()
	}
	r.mu.Unlock()
	close(a.wait)
	if h, _ := mustAnswer(t, stopping); h.ID != 10 || h.Status != dubbo.StatusOK {
		t.Errorf("status %d for %d when the proxy stops", h.Status, h.ID)
	}
	r.counted(t, map[string]uint64{"ok": 1}) // the others ended for reasons of their own
	if n := p.requests.Load(); n != 1 {
		t.Errorf("the provider got %d requests", n)
	}
}

// TestAskAcrossSnapshots: a request that waits while the configuration changes goes the
// new way.
func TestAskAcrossSnapshots(t *testing.T) {
	p, other := newProvider(t), newProvider(t)
	r := newRig(t, p.addr)
	a := &asker{wait: make(chan struct{})}
	r.asks(a, nil, asking("g"))
	c := r.dial()
	write(t, c, call(1, "wait", 3))
	waitFor(t, "a question", func() bool { return a.asked("g wait") == 1 })
	r.configure(other.addr)
	close(a.wait)
	if h, _ := mustAnswer(t, c); h.Status != dubbo.StatusOK || other.requests.Load() != 1 || a.asked("g wait") != 1 {
		t.Errorf("status %d, the new provider got %d requests, asked %d times", h.Status, other.requests.Load(), a.asked("g wait"))
	}
}

// TestAskIsBounded: beyond what the workload may hold, a request is what the failure mode
// says, and all that was held is given back.
func TestAskIsBounded(t *testing.T) {
	const n = 40
	for _, denied := range []uint32{0, all} {
		p := newProvider(t)
		r := newRig(t, p.addr)
		const bytes = 400 << 10
		q := quota.NewNode(100, 100, bytes).Workload()
		r.quota.Store(q)
		a := &asker{wait: make(chan struct{})}
		f := asking("g")
		f.Denied = denied
		r.asks(a, nil, f)
		c := r.dial()
		for id := range uint64(n) {
			write(t, c, call(id, "wait", 3))
		}
		var early int
		waitFor(t, "every request", func() bool {
			r.rec.mu.Lock()
			defer r.rec.mu.Unlock()
			early = r.rec.results[rpc.ResultValue] + r.rec.results[rpc.ResultLocal]
			return early+a.asked("g wait") == n
		})
		if held := n - early; held == 0 || held > bytes/2/questionSize {
			t.Errorf("%d of %d wait", held, n)
		}
		close(a.wait)
		for range n {
			_, _ = mustAnswer(t, c)
		}
		want := map[string]uint64{"ok": uint64(n - early), "error": uint64(early)}
		why := rpc.WhyLimitUnknown
		if denied == 0 {
			want["failure_mode_allowed"], why = uint64(early), rpc.WhyNone
		}
		r.counted(t, want)
		if denied != 0 {
			r.expect(rpc.ResultLocal, why, early)
		}
		waitFor(t, "what was held is given back", func() bool { return has(q, bytes-(64<<10)) })
	}
}

// TestAskObserves: of a workload that is only observed services are asked, and nobody
// waits for them or is refused.
func TestAskObserves(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	a := &asker{wait: make(chan struct{}), answers: map[string]global.Answer{"wait": global.OverLimit}}
	f := asking("g")
	f.Denied = all
	r.asks(a, nil, f)
	if err := r.env.Modes.Put(&mode.Workload{UID: r.pod.UID, Labels: map[string]string{mode.Key: "observe"}}); err != nil {
		t.Fatal(err)
	}
	c := r.dial()
	write(t, c, call(1, "wait", 3))
	if h, _ := mustAnswer(t, c); h.ID != 1 || h.Status != dubbo.StatusOK {
		t.Errorf("status %d for %d", h.Status, h.ID)
	}
	waitFor(t, "a question", func() bool { return a.asked("g wait") == 1 })
	r.counted(t, map[string]uint64{})
	close(a.wait)
	r.counted(t, map[string]uint64{"would_limit": 1})
	r.expect(rpc.ResultValue, rpc.WhyNone, 1)
}

// TestAskAtTheProvider: a provider's own listener asks as a consumer's does.
func TestAskAtTheProvider(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	r.in.Store(true)
	r.dst.Store(&p.addr)
	a := &asker{answers: map[string]global.Answer{"place": global.OverLimit}}
	r.env.Asker = a
	table := r.snap.Load().Routes["r"]
	byMethod(table.VirtualHosts[0].Routes[0])
	l := &snapshot.Listener{Name: "inbound", RouteName: "r", Route: table, Globals: []*snapshot.Global{asking("g")}}
	s := &snapshot.Snapshot{Inbounds: []*snapshot.Inbound{{Known: l, Plain: l, TLS: &snapshot.Listener{}, Workload: "shop/consumer"}}}
	r.snap.Store(s.Seal())
	c := r.dial()
	for _, method := range []string{"place", "find"} {
		write(t, c, call(1, method, 3))
		h, body := mustAnswer(t, c)
		if refused := bytes.Contains(body, []byte("a rate limit is reached")); h.Status != dubbo.StatusOK || refused != (method == "place") {
			t.Errorf("%s: status %d, %q", method, h.Status, body)
		}
		if a.asked("g "+method) != 1 {
			t.Errorf("%s: asked %d times", method, a.asked("g "+method))
		}
	}
	r.expect(rpc.ResultLocal, rpc.WhyLimited, 1)
	if n := p.requests.Load(); n != 1 {
		t.Errorf("the provider got %d requests", n)
	}
}

// TestAskAboutLargeRequests: they are held whole.
func TestAskAboutLargeRequests(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	a := &asker{answers: map[string]global.Answer{"echo": global.OverLimit}}
	r.asks(a, nil, asking("g"))
	c := r.dial()
	write(t, c, request(1, twoWay, bytes.Repeat([]byte("large "), 100<<10)))
	if h, body := mustAnswer(t, c); h.ID != 1 || !bytes.Contains(body, []byte("a rate limit is reached")) {
		t.Errorf("status %d for %d: %q", h.Status, h.ID, body)
	}
	a.answers = nil
	write(t, c, request(2, twoWay, bytes.Repeat([]byte("large "), 100<<10)))
	if h, body := mustAnswer(t, c); h.ID != 2 || h.Status != dubbo.StatusOK || len(body) < 600<<10 {
		t.Errorf("status %d for %d, %d bytes", h.Status, h.ID, len(body))
	}
}
