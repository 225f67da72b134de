package downstream

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/tracing"
	"github.com/dubway/dubway/l7proxy/trace"
)

// spans keeps the last Record with a span, and counts those without.
type spans struct {
	mu       sync.Mutex
	last     rpc.Record
	with     int
	without  int
	contexts []string // traceparents of the spans
}

func (s *spans) Prepare(*rpc.Call) rpc.Observer { return s }
func (s *spans) Connection(*rpc.Connection)     {}

func (s *spans) Observe(rec *rpc.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rec.Span == nil {
		s.without++
		return
	}
	s.with++
	s.last = *rec
	for name, value := range rec.Span.Context() {
		if name == "traceparent" {
			s.contexts = append(s.contexts, value)
		}
	}
}

func (s *spans) Value(_ *rpc.Peer, _, value string) string { return value }

// seen waits for so many records with and without spans, and returns the last context.
func (s *spans) seen(t *testing.T, with, without int) string {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		got, other, last := s.with, s.without, ""
		if len(s.contexts) > 0 {
			last = s.contexts[len(s.contexts)-1]
		}
		s.mu.Unlock()
		if got == with && other == without {
			return last
		}
		if time.Now().After(end) {
			t.Fatalf("%d records with a span and %d without, want %d and %d", got, other, with, without)
		}
	}
}

// traced makes a rig whose listener has tracing.
func traced(t *testing.T, share uint32) (*rig, *spans, *provider) {
	t.Helper()
	p := newProvider(t)
	r := newRig(t, p.addr)
	s := &spans{}
	r.env.Recorder, r.env.Tracer = s, trace.New(trace.Options{})
	r.traces(share)
	return r, s, p
}

func (r *rig) traces(share uint32) { r.change(tracingOf(share)) }

func tracingOf(share uint32) func(s *snapshot.Snapshot) {
	return func(s *snapshot.Snapshot) {
		s.Listeners[0].Tracing = &tracing.Tracing{Collector: tracing.Collector{Cluster: "otel"}, Share: share}
	}
}

// with is a request with attachments, its argument "x".
func with(id uint64, pairs ...string) []byte {
	b := []byte("\x01xH")
	for _, text := range pairs {
		if n := len(text); n < 32 {
			b = append(b, byte(n))
		} else {
			b = append(b, 0x30+byte(n>>8), byte(n))
		}
		b = append(b, text...)
	}
	return request(id, twoWay, append(b, 'Z'))
}

const (
	inTrace  = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	notTaken = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
)

// TestSpans: a provider is told of the span that its call's record has; a call that is
// not sampled goes as it came.
func TestSpans(t *testing.T) {
	r, s, _ := traced(t, snapshot.Million)
	c := r.dial()
	b := arrived(t, c, with(1, "group", "g"))
	first := s.seen(t, 1, 0)
	wantAttachment(t, b, "traceparent", first)
	wantAttachment(t, b, "group", "g")
	if text, ok, err := b.Argument(0); text != "x" || !ok || err != nil {
		t.Errorf("the argument is %q, %v, %v", text, ok, err)
	}
	b = arrived(t, c, with(2, "traceparent", inTrace, "tracestate", "a=b"))
	second := s.seen(t, 2, 0)
	wantAttachment(t, b, "traceparent", second)
	wantAttachment(t, b, "tracestate", "a=b")
	if second[:36] != inTrace[:36] || second == inTrace || second[:36] == first[:36] {
		t.Errorf("%s begins a trace, %s goes on with %s", first, second, inTrace)
	}
	plain := with(3, "traceparent", notTaken)
	write(t, c, plain)
	wantEcho(t, c, "not sampled", plain)
	s.seen(t, 2, 1)
	broken := request(4, twoWay, []byte("\x01x"))
	write(t, c, broken)
	wantEcho(t, c, "without attachments", broken)
	s.seen(t, 2, 2)

	r.traces(0)
	plain = with(5, "group", "g")
	write(t, c, plain)
	wantEcho(t, c, "none at random", plain)
	s.seen(t, 2, 3)
	wantAttachment(t, arrived(t, c, with(6, "traceparent", inTrace)), "traceparent", s.seen(t, 3, 3))
}

// TestSpansAndEdits: a route's edits of attachments are made with those of the trace, of
// what the consumer said.
func TestSpansAndEdits(t *testing.T) {
	r, s, _ := traced(t, 0)
	r.change(func(snap *snapshot.Snapshot) {
		tracingOf(0)(snap)
		snap.Routes["r"].Whole = true
		snap.Routes["r"].VirtualHosts[0].Routes[0].Action.Edits = []snapshot.Edit{
			{Name: "traceparent", How: snapshot.EditRemove}, {Name: "from", Value: []snapshot.Piece{{Text: "mesh"}}},
		}
	})
	c := r.dial()
	b := arrived(t, c, with(1, "traceparent", inTrace))
	wantAttachment(t, b, "traceparent", s.seen(t, 1, 0))
	wantAttachment(t, b, "from", "mesh")
}

// TestSpansOfRefusals: what the mesh refuses has a span too, whenever it is refused.
func TestSpansOfRefusals(t *testing.T) {
	r, s, _ := traced(t, snapshot.Million)
	r.configureWith(tracingOf(snapshot.Million)) // without endpoints
	c := r.dial()
	write(t, c, with(1))
	mustStatus(t, c)
	s.seen(t, 1, 0)
	if s.last.Why != rpc.WhyNoEndpoint {
		t.Errorf("refused for %q", s.last.Why)
	}
	r.configureWith(func(snap *snapshot.Snapshot) {
		tracingOf(snapshot.Million)(snap)
		snap.Listeners[0].Faults = []*snapshot.Fault{{
			Name: "f", Delay: time.Millisecond, Delayed: snapshot.Million, Most: 1, Aborted: snapshot.Million, Abort: &snapshot.Abort{Status: 80},
		}}
	}, newProvider(t).addr)
	write(t, c, with(2))
	mustStatus(t, c)
	s.seen(t, 2, 0)
	if s.last.Why != rpc.WhyFault || !s.last.Delayed {
		t.Errorf("refused for %q, delayed %v", s.last.Why, s.last.Delayed)
	}
}

func mustStatus(t *testing.T, c io.Reader) {
	t.Helper()
	f, err := readFrame(c)
	if err != nil {
		t.Fatal(err)
	}
	if f[3] == dubbo.StatusOK {
		t.Error("it is not refused")
	}
}

// TestSpansOfRetries: a try that is made again is the same span's.
func TestSpansOfRetries(t *testing.T) {
	r, s, p := traced(t, snapshot.Million)
	failing(80)(p)
	p.failures.Store(1)
	r.change(func(snap *snapshot.Snapshot) {
		tracingOf(snapshot.Million)(snap)
		snap.Routes["r"].VirtualHosts[0].Routes[0].Action.Retry = &snapshot.Retry{Num: 1, On: snapshot.RetryError}
		snap.Clusters["c"].Retries = snapshot.RetryBudget{}
	})
	c := r.dial()
	b := arrived(t, c, with(1))
	wantAttachment(t, b, "dubway-attempt", "2")
	wantAttachment(t, b, "traceparent", s.seen(t, 1, 0))
}

// TestSpansInbound: at the provider a call without a context begins no trace, unless all
// do; one with a sampled context goes on.
func TestSpansInbound(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	s := &spans{}
	r.env.Recorder, r.env.Tracer = s, trace.New(trace.Options{})
	r.in.Store(true)
	r.dst.Store(&p.addr)
	enter := func(share uint32) {
		r.change(func(snap *snapshot.Snapshot) {
			tracingOf(share)(snap)
			l := &snapshot.Listener{Name: "in", Tracing: snap.Listeners[0].Tracing}
			snap.Inbounds = []*snapshot.Inbound{{Name: "in", Address: p.addr.Addr(), Known: l, Plain: l, TLS: l}}
		})
	}
	enter(snapshot.Million - 1)
	c := r.dial()
	plain := with(1, "group", "g")
	write(t, c, plain)
	wantEcho(t, c, "without a context", plain)
	s.seen(t, 0, 1)
	b := arrived(t, c, with(2, "traceparent", inTrace))
	told := s.seen(t, 1, 1)
	wantAttachment(t, b, "traceparent", told)
	if !strings.HasPrefix(told, inTrace[:36]) || s.last.Call.Reporter != rpc.ReporterDestination {
		t.Errorf("%s of %v", told, s.last.Call.Reporter)
	}
	enter(snapshot.Million)
	b = arrived(t, c, plain)
	wantAttachment(t, b, "traceparent", s.seen(t, 2, 1))
	if bytes.Contains(plain, []byte("traceparent")) {
		t.Error("the test's own frame has changed")
	}
}
