//go:build !race

package downstream

import (
	"io"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/tap"
	"github.com/dubway/dubway/l7proxy/trace"
)

// quiet records nothing: telemetry has its own test of allocations.
type quiet struct{}

func (quiet) Prepare(*rpc.Call) rpc.Observer { return quiet{} }
func (quiet) Connection(*rpc.Connection)     {}

func (quiet) Value(_ *rpc.Peer, _, value string) string { return value }
func (quiet) Observe(*rpc.Record)                       {}

// TestSteadyPathAllocatesNothing runs requests through both connections of the
// proxy and counts what is allocated in the whole process. The peers of this
// test allocate nothing either, so that what is left is the proxy's.
func TestSteadyPathAllocatesNothing(t *testing.T) {
	byBody := func(r *rig, _ netip.AddrPort) {
		r.route(false, map[string]snapshot.HeaderMatch{
			"1 echo": {Source: snapshot.SourceArgument, Kind: snapshot.HeaderRange, Min: 1, Max: 2},
			"2 body": {Source: snapshot.SourceAttachment, Name: "env", Value: "x"},
		})
	}
	// One of two providers, which may turn out not to export the interface.
	dialled := func(r *rig, addr netip.AddrPort) {
		r.put(newWorld().listen("127.0.0.1/32", addr.Port()).host("*", orders).cluster(orders, 0, addr, newProvider(t).addr))
		r.dst.Store(&addr)
	}
	stale := func(r *rig, addr netip.AddrPort) {
		gone := newProvider(t)
		gone.kill()
		r.put(newWorld().listen("127.0.0.0/8", 0).host("*", orders).cluster(orders, 0, addr))
		r.dst.Store(&gone.addr)
	}
	faulty := func(r *rig, addr netip.AddrPort) {
		r.fault(&snapshot.Fault{
			Name: "fault", Delay: time.Minute, Delayed: 1_000_000, Most: 1, Cluster: "c",
			Headers: []snapshot.HeaderMatch{{Name: "method", Value: "another"}},
		}, addr)
	}
	// A filter that asks, on a route whose rates describe something else.
	asked := func(r *rig, _ netip.AddrPort) {
		r.asks(nil, func(s *snapshot.Snapshot) {
			rates := s.Routes["r"].VirtualHosts[0].Routes[0].Policies.Rates
			rates[0].Actions = append(rates[0].Actions, snapshot.RateAction{
				Kind: snapshot.RateMatch, Key: "m", Value: "x", Headers: []snapshot.HeaderMatch{{Name: "method", Value: "another"}},
			})
			rates[0].Actions[0], rates[0].Actions[1] = rates[0].Actions[1], rates[0].Actions[0]
		}, asking("g"))
	}
	unasked := func(r *rig, _ netip.AddrPort) {
		g := asking("g")
		g.Stage = 1 // of which there are no rates
		r.asks(nil, nil, g)
	}
	repeatable := func(r *rig, addr netip.AddrPort) {
		r.policy(func(a *snapshot.Action) {
			a.Timeout, a.Retry = time.Minute, &snapshot.Retry{On: snapshot.RetryError, Num: 2}
		}, snapshot.RetryBudget{}, addr)
	}
	untraced := func(r *rig, _ netip.AddrPort) {
		r.env.Tracer = trace.New(trace.Options{})
		r.traces(0)
	}
	told := func(r *rig, addr netip.AddrPort) {
		rules := &report.Rules{
			Labels:     []string{"timeout", "method"},
			Conditions: []report.Condition{{Attribute: ":path", Operator: report.Contains, Text: "."}},
		}
		r.configureWith(func(s *snapshot.Snapshot) { s.Listeners[0].Report = rules }, addr)
	}
	for _, test := range []struct {
		name   string
		frame  []byte
		change func(r *rig, addr netip.AddrPort)
	}{
		{"plain", request(1, twoWay, make([]byte, 1000)), nil},
		{"generic", genericCall(1, "echo", 3), nil},
		{"arguments", genericCall(1, "echo", 3), byBody},
		{"dialled", request(1, twoWay, make([]byte, 1000)), dialled},
		{"faults that spare it", request(1, twoWay, make([]byte, 1000)), faulty},
		{"services that are asked about others", request(1, twoWay, make([]byte, 1000)), asked},
		{"services that are asked about nothing", request(1, twoWay, make([]byte, 1000)), unasked},
		{"a time limit and retries", request(1, twoWay, padded(1000)), repeatable},
		{"tracing that spares it", request(1, twoWay, padded(1000)), untraced},
		{"a trace that is not sampled", with(1, "traceparent", notTaken), untraced},
		{"telemetry that asks", request(1, twoWay, padded(1000)), told},
		{"stale", request(1, twoWay, make([]byte, 1000)), stale},
	} {
		t.Run(test.name, func(t *testing.T) { steadyPath(t, test.frame, test.change) })
	}
}

// padded is what stands behind a request's method: an argument of n bytes, and the
// time that its consumer waits.
func padded(n int) []byte {
	b := []byte{'B', byte(n >> 8), byte(n)}
	return append(append(b, make([]byte, n)...), "H\x07timeout\x0510000Z"...)
}

func steadyPath(t *testing.T, f []byte, change func(*rig, netip.AddrPort)) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	go echoFixed(ln, len(f))

	r := newRig(t)
	r.env.Recorder, r.env.Tap = quiet{}, &tap.Hub{}
	r.configure(addrPortOf(ln))
	if change != nil {
		change(r, addrPortOf(ln))
	}
	c := r.dial()
	buf := make([]byte, 16*len(f))
	var burst []byte
	for range 16 {
		burst = append(burst, f...)
	}
	round := func() {
		for _, out := range [][]byte{f, burst} {
			if _, err := c.Write(out); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, buf[:len(out)]); err != nil {
				t.Fatal(err)
			}
			if buf[3] != dubbo.StatusOK {
				t.Fatalf("status %d", buf[3])
			}
		}
	}
	for range 2000 {
		round()
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	const rounds = 2000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range rounds {
		round()
	}
	runtime.ReadMemStats(&after)
	perRequest := float64(after.Mallocs-before.Mallocs) / (rounds * 17)
	// The runtime itself allocates a little now and then.
	if perRequest > 0.01 {
		t.Errorf("%.3f allocations per request, want 0", perRequest)
	}
}

// TestIdleConnectionsAreSmall: tens of thousands of consumers are connected and
// silent. What one holds on the heap once it is idle is bounded, its peer's end
// (about 1 KiB of test) included.
func TestIdleConnectionsAreSmall(t *testing.T) {
	const conns, limit = 1000, 4 << 10
	p := newProvider(t)
	r := newRig(t, p.addr)
	held := func() int64 {
		runtime.GC()
		runtime.GC() // pools keep what they hold for one more
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := held()
	for i := range conns {
		c := r.dial()
		_, _ = c.Write(request(uint64(i), twoWay, []byte("\x01a")))
		if _, err := readFrame(c); err != nil {
			t.Fatal(err)
		}
	}
	for range quietAfter + 1 {
		for _, l := range r.live {
			l.Tick()
		}
	}
	// Negative if goroutines of other tests have ended meanwhile.
	if each := (held() - before) / conns; each > limit {
		t.Errorf("an idle connection holds %d bytes, want at most %d", each, limit)
	}
}

// echoFixed answers frames of one length with the same bytes, as answers.
func echoFixed(ln net.Listener, length int) {
	c, err := ln.Accept()
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	buf := make([]byte, 64*length)
	have := 0
	for {
		n, err := c.Read(buf[have:])
		if err != nil {
			return
		}
		have += n
		whole := have / length * length
		for at := 0; at < whole; at += length {
			buf[at+2], buf[at+3], buf[at+16] = 2, 20, 0x94
		}
		if _, err := c.Write(buf[:whole]); err != nil {
			return
		}
		have = copy(buf, buf[whole:have])
	}
}
