package downstream

import (
	"fmt"
	"net/netip"
	"regexp"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/telemetry/inverted"
)

// policy gives the rig's route a policy, and its cluster a budget of retries.
func (r *rig) policy(change func(*snapshot.Action), budget snapshot.RetryBudget, endpoints ...netip.AddrPort) {
	r.configureWith(func(s *snapshot.Snapshot) {
		change(&s.Routes["r"].VirtualHosts[0].Routes[0].Action)
		s.Clusters["c"].Retries = budget
	}, endpoints...)
}

// waits is a request whose consumer says that it waits for a number of milliseconds.
func waits(id uint64, millis string) []byte {
	text := func(s string) string { return string(rune(len(s))) + s }
	return request(id, twoWay, []byte(text("x")+"H"+text("timeout")+text(millis)+"Z"))
}

// ended waits for n records and returns how the last call ended.
func (r *rig) whys(t *testing.T, why rpc.Why, n int) {
	t.Helper()
	waitFor(t, "records of "+why.String(), func() bool {
		r.rec.mu.Lock()
		defer r.rec.mu.Unlock()
		return r.rec.whys[why] == n
	})
}

// TestTimeout: a request ends in time, in the time of its route or in its consumer's if
// that is shorter, and its connection goes on.
func TestTimeout(t *testing.T) {
	p := newProvider(t)
	p.mute.Store(true)
	r := newRig(t, p.addr)
	for _, tt := range []struct {
		name    string
		request []byte
		route   time.Duration
	}{
		{"the route's", request(7, twoWay, nil), 80 * time.Millisecond},
		{"the consumer's", waits(7, "80"), 10 * time.Second},
		{"the route's, which is shorter", waits(7, "10000"), 80 * time.Millisecond},
		{"a large request's", request(7, twoWay, make([]byte, 400<<10)), 300 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.policy(func(a *snapshot.Action) { a.Timeout = tt.route }, snapshot.RetryBudget{}, p.addr)
			c := r.dial()
			start := time.Now()
			write(t, c, tt.request)
			h, body := mustAnswer(t, c)
			took := time.Since(start)
			if h.ID != 7 || h.Status != dubbo.StatusServerTimeout {
				t.Errorf("status %d for %d: %s", h.Status, h.ID, body)
			}
			if want := min(tt.route, 80*time.Millisecond); took < want {
				t.Errorf("it took %s, less than %s", took, want)
			}
			p.mute.Store(false)
			r.configure(p.addr) // without a limit: this one may take its time
			write(t, c, request(8, twoWay, nil))
			if h, _ := mustAnswer(t, c); h.ID != 8 || h.Status != dubbo.StatusOK {
				t.Errorf("status %d for %d behind it", h.Status, h.ID)
			}
			p.mute.Store(true)
		})
	}
	r.whys(t, rpc.WhyTimeout, 4)
	list := r.env.Inverted.All()
	want := inverted.Key{
		Consumer: "shop/consumer", Interface: "org.x.S", Method: "echo", Route: "all",
		Allows: 10 * time.Second, Waits: 80 * time.Millisecond,
	}
	if len(list) != 1 || list[0].Key != want || list[0].Count != 1 {
		t.Errorf("inverted timeouts %+v, want %+v once", list, want)
	}
}

// TestTimeoutConnecting: who waits for a connection does not wait longer either.
func TestTimeoutConnecting(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	held := holdDials(r)
	r.policy(func(a *snapshot.Action) { a.Timeout = 60 * time.Millisecond }, snapshot.RetryBudget{}, p.addr)
	c := r.dial()
	write(t, c, request(7, twoWay, nil))
	if h, _ := mustAnswer(t, c); h.ID != 7 || h.Status != dubbo.StatusServerTimeout {
		t.Errorf("status %d for %d", h.Status, h.ID)
	}
	close(held)
	r.configure(p.addr)
	write(t, c, request(8, twoWay, nil))
	if h, _ := mustAnswer(t, c); h.ID != 8 || h.Status != dubbo.StatusOK {
		t.Errorf("status %d for %d behind it", h.Status, h.ID)
	}
	if n := p.requests.Load(); n != 1 {
		t.Errorf("the provider got %d requests, want the second alone", n)
	}
}

// TestRetries: which ends are tried again, how often and where.
func TestRetries(t *testing.T) {
	always := snapshot.RetryReset | snapshot.RetryTimeout | snapshot.RetryError | snapshot.RetryUnavailable
	for _, tt := range []struct {
		name     string
		retry    snapshot.Retry
		budget   snapshot.RetryBudget
		fail     func(p *provider) // what the first provider does, always
		once     bool              // or its first time
		alone    bool              // there is no other provider
		requests int64             // that the first one gets
		status   byte
	}{
		{name: "an error", retry: snapshot.Retry{Num: 2, On: always, Elsewhere: true}, fail: failing(80), requests: 1, status: 20},
		{name: "an error, alone", retry: snapshot.Retry{Num: 2, On: always, Elsewhere: true}, fail: failing(80), alone: true, requests: 3, status: 80},
		{name: "an error, once", retry: snapshot.Retry{Num: 2, On: always}, fail: failing(80), once: true, alone: true, requests: 2, status: 20},
		{name: "another status", retry: snapshot.Retry{Num: 2, On: always}, fail: failing(40), alone: true, requests: 1, status: 40},
		{name: "a status that is listed", retry: snapshot.Retry{Num: 1, Statuses: []byte{40}}, fail: failing(40), alone: true, requests: 2, status: 40},
		{name: "a reset", retry: snapshot.Retry{Num: 1, On: snapshot.RetryReset}, fail: dropping, once: true, alone: true, requests: 2, status: 20},
		{name: "a reset that is not asked for", retry: snapshot.Retry{Num: 1, On: snapshot.RetryError}, fail: dropping, alone: true, requests: 1, status: 80},
		{name: "the time of a try", retry: snapshot.Retry{Num: 1, On: snapshot.RetryTimeout, PerTry: 2 * time.Second}, fail: silent, once: true, alone: true, requests: 2, status: 20},
		{name: "the time of each try", retry: snapshot.Retry{Num: 2, On: snapshot.RetryTimeout, PerTry: 400 * time.Millisecond}, fail: silent, alone: true, requests: 3, status: 31},
		{name: "no budget", retry: snapshot.Retry{Num: 2, On: always}, budget: snapshot.RetryBudget{None: true}, fail: failing(80), alone: true, requests: 1, status: 80},
		{name: "an exception", retry: snapshot.Retry{Num: 1, Exceptions: []*regexp.Regexp{regexp.MustCompile("^(?:org.x.Busy)$")}}, fail: throwing("org.x.Busy"), once: true, alone: true, requests: 2, status: 20},
		{name: "another exception", retry: snapshot.Retry{Num: 1, Exceptions: []*regexp.Regexp{regexp.MustCompile("^(?:org.x.Busy)$")}}, fail: throwing("org.x.Bad"), alone: true, requests: 1, status: 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first, second := newProvider(t), newProvider(t)
			tt.fail(first)
			if tt.once {
				first.failures.Store(1)
			} else {
				first.failures.Store(1 << 30)
			}
			r := newRig(t, first.addr)
			endpoints := []netip.AddrPort{first.addr, second.addr}
			if tt.alone {
				endpoints = endpoints[:1]
			}
			r.policy(func(a *snapshot.Action) { a.Retry = &tt.retry }, tt.budget, endpoints...)
			c := r.dial()
			for id := uint64(1); first.requests.Load() == 0; id++ { // until the first one is chosen
				write(t, c, request(id, twoWay, nil))
				h, body := mustAnswer(t, c)
				if h.ID != id || first.requests.Load() > 0 && h.Status != tt.status {
					t.Errorf("status %d for %d: %s", h.Status, h.ID, body)
				}
			}
			waitFor(t, fmt.Sprintf("it got %d requests", tt.requests), func() bool { return first.requests.Load() == tt.requests })
			if n := r.mgr.Set("c").RetriesActive(); n != 0 {
				t.Errorf("%d retries are in flight when nothing is", n)
			}
			refused := r.env.Pool.Stats().RetriesRefused.Load()
			if (refused > 0) != tt.budget.None {
				t.Errorf("%d retries were refused", refused)
			}
		})
	}
}

// TestRetriesEndInTime: the route's time is for all tries together.
func TestRetriesEndInTime(t *testing.T) {
	p := newProvider(t)
	silent(p)
	p.failures.Store(1 << 30)
	r := newRig(t, p.addr)
	r.policy(func(a *snapshot.Action) {
		a.Timeout = 3 * time.Second
		a.Retry = &snapshot.Retry{Num: 50, On: snapshot.RetryTimeout, PerTry: 900 * time.Millisecond}
	}, snapshot.RetryBudget{}, p.addr)
	c := r.dial()
	start := time.Now()
	write(t, c, request(7, twoWay, nil))
	if h, _ := mustAnswer(t, c); h.Status != dubbo.StatusServerTimeout {
		t.Errorf("status %d", h.Status)
	}
	if took, n := time.Since(start), p.requests.Load(); took < 3*time.Second || n < 2 || n > 4 {
		t.Errorf("%d tries in %s", n, took)
	}
	r.whys(t, rpc.WhyTimeout, 1)
}

// TestOneWayIsNotRetried: nothing says how it ended.
func TestOneWayIsNotRetried(t *testing.T) {
	p := newProvider(t)
	dropping(p)
	p.failures.Store(1)
	r := newRig(t, p.addr)
	r.policy(func(a *snapshot.Action) {
		a.Retry = &snapshot.Retry{Num: 5, On: snapshot.RetryReset}
	}, snapshot.RetryBudget{}, p.addr)
	c := r.dial()
	write(t, c, request(7, twoWay&^codec.FlagTwoWay, nil))
	waitFor(t, "it arrives", func() bool { return p.requests.Load() == 1 })
	write(t, c, request(8, twoWay, nil))
	if h, _ := mustAnswer(t, c); h.ID != 8 || h.Status != dubbo.StatusOK {
		t.Errorf("status %d for %d", h.Status, h.ID)
	}
	if n := p.requests.Load(); n != 2 {
		t.Errorf("the provider got %d requests, want 2", n)
	}
}
